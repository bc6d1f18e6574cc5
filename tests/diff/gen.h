/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by gen.c (short cases) and prog.c (programs). */
#ifndef GEN_H
#define GEN_H

#include "diff.h"
#include "engine/soft/soft_int.h"

struct gen {
	uint64_t s;
	uint16_t ptrs;	/* registers that still hold pointers */
	uint16_t small; /* ... small numbers */
	int favour;	/* a pointer that many operands go off, or -1 */
};

static inline uint64_t
gen_u64(struct gen *g)
{
	uint64_t z = g->s += 0x9e3779b97f4a7c15ul;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
	z = (z ^ z >> 27) * 0x94d049bb133111ebul;
	return z ^ z >> 31;
}

static inline unsigned
gen_n(struct gen *g, unsigned n)
{
	return (unsigned)(gen_u64(g) >> 32) % n;
}

uint64_t gen_int(struct gen *g);
uint64_t gen_pointer(struct gen *g);
void gen_state(struct gen *g, struct diff_state *st);
/* An instruction that may stand at address at. */
void gen_one(struct gen *g, uint64_t at, struct soft_insn *in);

#endif /* GEN_H */
