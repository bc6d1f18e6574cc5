/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef HYVE_OPTIONS_H
#define HYVE_OPTIONS_H

#include <stddef.h>

#include "base/check.h"

struct config;

enum options_action { OPTIONS_RUN, OPTIONS_HELP, OPTIONS_VERSION };

/*
 * Puts the command line into cfg, in its order: later settings win.
 * => 0 and what to do; -errno with one line in err
 */
int options_parse(struct config *cfg, int argc, char **argv,
    enum options_action *actionp, char *err, size_t errlen) BASE_MUST_CHECK;

extern const char options_help[];

#endif /* HYVE_OPTIONS_H */
