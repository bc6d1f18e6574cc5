/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * String instructions of 64-bit code, called from generated code: the vector
 * state stays where it is, and what lies in a row on both sides is done at
 * once by the host's own instruction.  Whatever is out of the ordinary (DF,
 * devices, pages with translated code, an element across two pages) is left to
 * the executor, exec_str.c, which goes on with the registers as they are.
 *
 * RCX, RSI and RDI are up to date before every lookup, so that a fault or an
 * event finds the state after the last iteration that is done.  Host pointers
 * do not outlive a fill.
 *
 * This file is compiled for general registers only, see run.c.
 */
#include "engine/soft/code_int.h"

#define STR_PAGES 64u /* at once, before events are looked for */

/* Bytes from va on, up to len, that lie in a row. => 0: not in the TLB */
static uint64_t
str_run(const struct soft_cpu *cpu, uint64_t va, uint64_t len, bool write,
    uint8_t **host)
{
	uint64_t n = 0, addend = 0;

	for (unsigned i = 0; i < STR_PAGES && n < len; i++) {
		uint64_t at = va + n;
		const struct soft_tlb_entry *e = &cpu->tlb[cpu->mmuidx]
		    [(at >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

		if ((write ? e->tag_w : e->tag_r) != (at & ~VMM_PAGE_MASK) ||
		    (i != 0 && e->addend != addend))
			break;
		addend = e->addend;
		n += VMM_PAGE_SIZE - (at & VMM_PAGE_MASK);
	}
	*host = (uint8_t *)(uintptr_t)(va + addend);
	return base_min(n, len);
}

#define STR_REP(insn, d, s, a, n, size)					\
	do {								\
		uint64_t n_ = (n);					\
		void *d_ = (d);						\
		const void *s_ = (s);					\
									\
		switch (size) {						\
		case 1:							\
			__asm__ volatile("rep " insn "b" : "+D"(d_),	\
			    "+S"(s_), "+c"(n_) : "a"(a) : "memory");	\
			break;						\
		case 2:							\
			__asm__ volatile("rep " insn "w" : "+D"(d_),	\
			    "+S"(s_), "+c"(n_) : "a"(a) : "memory");	\
			break;						\
		case 4:							\
			__asm__ volatile("rep " insn "l" : "+D"(d_),	\
			    "+S"(s_), "+c"(n_) : "a"(a) : "memory");	\
			break;						\
		default:						\
			__asm__ volatile("rep " insn "q" : "+D"(d_),	\
			    "+S"(s_), "+c"(n_) : "a"(a) : "memory");	\
			break;						\
		}							\
	} while (0)

/* Elements as the guest aligns them. */
typedef uint16_t str_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t str_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t str_u64 __attribute__((aligned(1), may_alias));

static uint64_t
str_get(const uint8_t *p, unsigned size)
{
	switch (size) {
	case 1:
		return *p;
	case 2:
		return *(const str_u16 *)(const void *)p;
	case 4:
		return *(const str_u32 *)(const void *)p;
	default:
		return *(const str_u64 *)(const void *)p;
	}
}

/*
 * Compares up to n elements at d with those at s, or with a, until the
 * condition ends it; flags are the last pair's. => elements, *endp: condition
 */
static uint64_t
str_compare(struct soft_cpu *cpu, const uint8_t *d, const uint8_t *s,
    uint64_t a, uint64_t n, unsigned shift, bool until_equal, bool *endp)
{
	unsigned size = 1u << shift, up = 64 - 8 * size;
	uint64_t i = 0, b = 0, fl;

	if (s != NULL && !until_equal) {
		while ((i << shift) + 8 <= n << shift &&
		    str_get(d + (i << shift), 8) ==
		    str_get(s + (i << shift), 8))
			i += 8 >> shift;
		if (i == n)
			i--;
	}
	*endp = false;
	while (i < n) {
		if (s != NULL)
			a = str_get(s + (i << shift), size);
		b = str_get(d + (i << shift), size);
		i++;
		if ((a == b) == until_equal) {
			*endp = true;
			break;
		}
	}
	__asm__("cmpq %2, %1; pushfq; popq %0" : "=r"(fl) : "r"(a << up),
	    "r"(b << up) : "cc", "memory");
	/* AF is not the same for operands moved up, nor PF. */
	fl &= ~(uint64_t)(SOFT_FL_AF | SOFT_FL_PF);
	if ((a & 15) < (b & 15))
		fl |= SOFT_FL_AF;
	if (!__builtin_parity((unsigned)(a - b) & 0xff))
		fl |= SOFT_FL_PF;
	cpu->lahf_image = code_image_of_flags((uint32_t)fl & SOFT_FL_ARITH);
	return i;
}

/* s->n is CODE_STR_*. => where to go on, or 0 with cpu->out_why */
uint64_t
soft_str(struct soft_cpu *cpu, const struct code_site *s)
{
	uint64_t *g = cpu->gpr, count, n, m, a, seq;
	unsigned shift = s->n & CODE_STR_SHIFT, size = 1u << shift;
	unsigned op = s->n & CODE_STR_OP;
	bool rep = (s->n & CODE_STR_REP) != 0, live = cpu->fpu_live != 0;
	bool src = op == CODE_STR_MOVS || op == CODE_STR_CMPS, end = false;
	bool write = op == CODE_STR_MOVS || op == CODE_STR_STOS;
	uint8_t *d, *p = NULL;
	int r;

	cpu->out_why = CODE_STEP;
	if ((cpu->rflags_sys & SOFT_FL_DF) != 0)
		return 0;
	while (!end && (count = rep ? g[1] : 1) != 0) {
		m = base_min(count, (uint64_t)STR_PAGES << VMM_PAGE_SHIFT) <<
		    shift;
		seq = cpu->pmap_seq;
		if (src) {
			m = str_run(cpu, g[6], m, false, &p);
			if (m < size) {
				r = soft_tlb_fill(cpu, g[6], size,
				    VMM_PROT_READ);
				if (r == SOFT_OK)
					continue;
				goto out;
			}
		}
		n = str_run(cpu, g[7], m, write, &d);
		if (n < size) {
			r = soft_tlb_fill(cpu, g[7], size, write ?
			    VMM_PROT_WRITE : VMM_PROT_READ);
			if (r != SOFT_OK)
				goto out;
			/* What it may have driven out of the TLB is still
			 * there to be read. */
			if (cpu->pmap_seq != seq)
				continue;
			n = str_run(cpu, g[7], m, write, &d);
		}
		n >>= shift;
		a = size == 8 ? g[0] : g[0] & ((1ul << (8 * size)) - 1);
		switch (op) {
		case CODE_STR_MOVS:
			STR_REP("movs", d, p, 0, n, size);
			break;
		case CODE_STR_STOS:
			STR_REP("stos", d, d, a, n, size);
			break;
		default:
			n = str_compare(cpu, d, p, a, n, shift,
			    (s->n & CODE_STR_NE) != 0, &end);
			break;
		}
		g[7] += n << shift;
		if (src)
			g[6] += n << shift;
		if (!rep)
			break;
		g[1] -= n;
		if (g[1] != 0 && !end && atomic_load_explicit(
		    &cpu->exit_request, memory_order_relaxed) != 0) {
			cpu->out_why = CODE_LOOKUP;
			cpu->flags_saved = code_flags_of_image(
			    cpu->lahf_image);
			return 0;
		}
	}
	if (live)
		soft_fpu_get(cpu);
	return cpu->code_base + s->rel;
out:
	cpu->flags_saved = code_flags_of_image(cpu->lahf_image);
	cpu->out_why = r == SOFT_FAULT ? CODE_FAULT : r == SOFT_EXIT ?
	    CODE_EXIT : CODE_STEP;
	return 0;
}
