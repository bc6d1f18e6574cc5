/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bits of nested page-table entries.
 *
 *                 63  56 55 54 53 52 51      12  9  8  7  6  5  4  3  2  1  0
 * EPT leaf        -    -  -  -  -  - | address |  D  A PS ipat  type | X  W  R
 * EPT, emulated   -    D  X  -  W  V | address |  -  - PS ipat  type | x  w  r
 * x86 leaf        NX   -  -  -  -  - | address |  -  G PS  D  A  -  -  U  W  P
 * x86, emulated   NX   D  -  -  W  V | address |  -  - PS  -  -  -  -  U  w  p
 *
 * EPT: SDM vol. 3 29.3.2; bits 52-62 are ignored by the walker (SDM table
 * 29-6), as bits 52-58 are on x86 (APM vol. 2 5.4.1).
 *
 * Emulated A/D: what the mapping allows is kept in V, W, X and what has been
 * done in D and in p or r, which is A.  The bits that the walker reads are
 * always derived from these (pte_derive): nothing before the first access, w
 * only when dirty.  So clearing A loses neither rights nor D.
 */
#ifndef PMAP_PTE_H
#define PMAP_PTE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmm/types.h"

#define PTE_ADDR 0x000ffffffffff000ul
#define PTE_LARGE (1ul << 7) /* the same in both formats */
#define PTE_HW 7ul	     /* EPT RWX; x86 P, W, U */

#define PTE_EMUL_V (1ul << 52)
#define PTE_EMUL_W (1ul << 53)
#define PTE_EMUL_X (1ul << 55)
#define PTE_EMUL_D (1ul << 56)

/* Where an entry keeps the logical bits. */
struct pte_format {
	uint64_t read, write;
	uint64_t exec, noexec; /* one of them is 0 */
	uint64_t accessed, dirty;
	uint64_t present; /* walker: not valid unless one of these is set */
	uint64_t table;	  /* of every non-leaf entry */
	uint64_t leaf;	  /* of every leaf */
	bool emul, x86;
};

/* Sets the bits that the walker reads from the logical ones. */
static inline uint64_t
pte_derive(const struct pte_format *f, uint64_t e)
{
	if (!f->emul)
		return e;
	e &= ~2ul;
	if ((e & 1) == 0)
		return f->x86 ? e : e & ~4ul;
	if ((e & (PTE_EMUL_W | PTE_EMUL_D)) == (PTE_EMUL_W | PTE_EMUL_D))
		e |= 2;
	if (!f->x86)
		e = (e & PTE_EMUL_X) != 0 ? e | 4 : e & ~4ul;
	return e;
}

/* What the mapping allows, A/D bits aside. */
static inline int
pte_prot(const struct pte_format *f, uint64_t e)
{
	int prot = 0;

	if ((e & f->read) != 0)
		prot |= VMM_PROT_READ;
	if ((e & f->write) != 0)
		prot |= VMM_PROT_WRITE;
	if (f->exec != 0 ? (e & f->exec) != 0 :
			   (e & (f->read | f->noexec)) == f->read)
		prot |= VMM_PROT_EXEC;
	return prot;
}

/* What the walker lets through now. */
static inline int
pte_hwprot(const struct pte_format *f, uint64_t e)
{
	int prot = (int)(e & 3);

	if (f->x86)
		prot |= (e & (1 | 1ul << 63)) == 1 ? VMM_PROT_EXEC : 0;
	else
		prot |= (int)(e & 4);
	return f->x86 && (e & 1) == 0 ? 0 : prot;
}

#endif /* PMAP_PTE_H */
