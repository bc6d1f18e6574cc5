/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The configuration of one machine: variables with names and text values, as
 * bhyve keeps them.  Options of the command line, -o and files all end here;
 * every name is known beforehand, and each value is checked as it is set.
 */
#ifndef HYVE_CONFIG_H
#define HYVE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/check.h"

struct config;

#define CONFIG_MAXVALUES 16 /* of a variable that may be given repeatedly */

struct config *config_create(void); /* NULL: no memory */
void config_destroy(struct config *cfg);

/* Each gives 0, or -errno with one line in err. */
int config_set(struct config *cfg, const char *key, const char *value,
    char *err, size_t errlen) BASE_MUST_CHECK;
/* "key=value" */
int config_set_pair(struct config *cfg, const char *pair, char *err,
    size_t errlen) BASE_MUST_CHECK;
int config_load(struct config *cfg, const char *path, char *err,
    size_t errlen) BASE_MUST_CHECK;

/* Values as set, or the default; the name must be a known one (KASSERT). */
const char *config_get(const struct config *cfg, const char *key);
bool config_get_bool(const struct config *cfg, const char *key);
uint64_t config_get_number(const struct config *cfg, const char *key);
/* The i-th value of a repeatable variable, NULL beyond the last. */
const char *config_get_nth(const struct config *cfg, const char *key,
    size_t i);
/* key=value lines of all that is set or has a default, sorted as listed. */
void config_dump(const struct config *cfg, FILE *fp);

/* The candidate most like s, NULL if none is close. */
const char *config_nearest(const char *s, const char *const *cand, size_t n);

#endif /* HYVE_CONFIG_H */
