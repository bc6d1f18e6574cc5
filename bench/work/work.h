/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest workloads: one static binary, run natively, under hyve and under
 * QEMU.  A workload does n units of work that depend on nothing but n and
 * returns a checksum, which must be the same everywhere.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct work {
	const char *name;
	const char *group; /* int, fp, mem, os */
	const char *unit;
	uint64_t n; /* about 0.1 s natively */
	uint64_t (*run)(uint64_t n);
	bool (*can)(void); /* NULL: always */
};

extern const struct work work_int[], work_fp[], work_mem[], work_comp[],
    work_db[], work_os[];

/* The same sequence everywhere. */
static inline uint64_t
work_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Folds v into a checksum. */
static inline uint64_t
work_mix(uint64_t sum, uint64_t v)
{
	return (sum ^ v) * 0x9e3779b97f4a7c15u + (sum >> 29);
}

/* Time counts from here: called by run() after it has made its data. */
void work_start(void);
void *work_alloc(size_t len); /* never NULL; touched */
/* English-like text of len bytes. */
void work_text(char *buf, size_t len, uint64_t seed);
_Noreturn void work_die(const char *what);

#endif /* BENCH_WORK_H */
