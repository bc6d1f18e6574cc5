/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to mmu.c and mem.c, the two files that run while the guest's vector
 * state is live in the host's units: they are compiled for general registers
 * only and call nothing of libc on their hot paths.
 */
#ifndef MMU_INT_H
#define MMU_INT_H

#include "engine/soft/soft_int.h"

/* Internal result: something moved under the walk, start it anew. */
#define MMU_AGAIN 16
/* Internal result: no memory there for this access. */
#define MMU_DEVICE 17

#define MMU_P 0x1ul
#define MMU_RW 0x2ul
#define MMU_US 0x4ul
#define MMU_A 0x20ul
#define MMU_D 0x40ul
#define MMU_PS 0x80ul
#define MMU_G 0x100ul
#define MMU_NX (1ul << 63)

/* #PF error code */
#define MMU_ERR_P 0x1u
#define MMU_ERR_W 0x2u
#define MMU_ERR_U 0x4u
#define MMU_ERR_RSVD 0x8u
#define MMU_ERR_I 0x10u

struct mmu_leaf {
	gpa_t gpa;     /* of the byte */
	bool writable; /* stores are allowed and the dirty bit is set */
	bool global;
	uint8_t shift; /* log2 of the page's size */
};

/*
 * Translates one gva by the guest's tables for an access through mmu index
 * idx, setting A and D.
 * => SOFT_OK, SOFT_FAULT, SOFT_EXIT, MMU_AGAIN
 */
int mmu_walk(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    struct mmu_leaf *leaf);
/*
 * Nested translation of one gpa for READ or WRITE; *wp (may be NULL) says
 * whether stores are allowed too.
 * => SOFT_OK with the host address; SOFT_SLOW: no memory for this access;
 *    SOFT_EXIT; MMU_AGAIN: a callback was made
 */
int mmu_nested(struct soft_cpu *cpu, gpa_t gpa, int access, uint64_t *hostp,
    bool *wp);
/* soft_tlb_fill for any mmu index; the gpa in *gpap.
 * => as it, and MMU_DEVICE */
int mmu_fill(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    gpa_t *gpap);

/* => the entry, if stores to va are allowed but for code on its page; or NULL */
const struct soft_tlb_entry *mmu_code_write(const struct soft_cpu *cpu,
    gva_t va, unsigned idx);

/* A set that may say yes wrongly, two bits for each key in words * 64 (a power
 * of two): is it in? Adds it if asked to. */
static inline bool
mmu_bloom(uint64_t *f, unsigned words, uint64_t key, bool set)
{
	uint64_t h = key * 0x9e3779b97f4a7c15ul;
	unsigned a = (unsigned)(h >> 40) % (words * 64);
	unsigned b = (unsigned)(h >> 20) % (words * 64);
	uint64_t abit = 1ul << (a % 64), bbit = 1ul << (b % 64);
	bool was = (f[a / 64] & abit) != 0 && (f[b / 64] & bbit) != 0;

	if (set) {
		f[a / 64] |= abit;
		f[b / 64] |= bbit;
	}
	return was;
}

/* Large pages, by 4 MB or 1 GB. */
static inline bool
mmu_filter(uint64_t f[SOFT_FILTER_WORDS], uint64_t key, bool set)
{
	return mmu_bloom(f, SOFT_FILTER_WORDS, key, set);
}

/* A data access at privilege level cpl uses this index. */
static inline unsigned
mmu_index(const struct soft_cpu *cpu, unsigned cpl)
{
	if (cpl == 3)
		return SOFT_MMU_USER;
	if ((cpu->cr4 & SOFT_CR4_SMAP) != 0 &&
	    (cpu->rflags_sys & SOFT_FL_AC) != 0)
		return SOFT_MMU_KERNEL_AC;
	return SOFT_MMU_KERNEL;
}

#endif /* MMU_INT_H */
