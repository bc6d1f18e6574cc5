/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A second reader of nested page tables, written from the manuals and sharing
 * nothing with src/pmap: the tests' judge.  It takes memory as a function.
 */
#ifndef MODEL_WALKER_H
#define MODEL_WALKER_H

#include <stdbool.h>
#include <stdint.h>

enum walker_format { WALKER_EPT, WALKER_X86 };

struct walker_result {
	bool present;
	bool misconfigured; /* reserved bits, W without R, bad memory type */
	uint64_t pa;
	uint64_t size;
	bool r, w, x, a, d;
};

typedef uint64_t walker_read_fn(void *arg, uint64_t pa);

struct walker_result walker_translate(enum walker_format f, uint64_t root,
    uint64_t gpa, walker_read_fn *rd, void *arg);

/* Visits every present leaf below root, in order of gpa. */
typedef void walker_leaf_fn(void *arg, uint64_t gpa,
    const struct walker_result *leaf);
void walker_all(enum walker_format f, uint64_t root, walker_read_fn *rd,
    void *rdarg, walker_leaf_fn *fn, void *arg);

#endif /* MODEL_WALKER_H */
