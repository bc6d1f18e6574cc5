/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of this folder only. */
#ifndef PMAP_PMAP_INT_H
#define PMAP_PMAP_INT_H

#include "base/lock.h"
#include "pmap/pmap.h"
#include "pmap/pte.h"

#define PMAP_MAXGPA (1ul << 48)
#define PMAP_NPTE 512
#define PMAP_ROOT_LEVEL 4
/* Bytes that one entry of a table at level 1 to 4 covers. */
#define PMAP_SPAN(level) (1ul << (12 + 9 * ((level) - 1)))
#define PMAP_INDEX(gpa, level) (((gpa) >> (12 + 9 * ((level) - 1))) & 511)

typedef _Atomic uint64_t pmap_table_t;

struct pmap_vcpu {
	_Atomic bool active;
	_Atomic uint64_t acked;
} __attribute__((aligned(64)));

/*
 * C: constant   L: pmap.lock   A: atomic
 */
struct pmap {
	struct pte_format f; /* C */
	unsigned flags;	     /* C */
	pmap_table_t *root;  /* C */
	const struct pmap_callbacks *cb; /* C */
	void *arg;			 /* C */
	_Atomic uint64_t gen;		 /* A */
	_Atomic uint64_t invalidations, kicks; /* A */
	struct pmap_vcpu vcpu[VMM_MAXCPU];     /* A */
	struct lock lock;
	uint64_t *chunk; /* L: hpas of chunks of table pages */
	unsigned nchunk, capchunk; /* L */
	uint64_t next, left;	   /* L: next free table page; how many */
	struct pmap_stats st;	   /* L */
};

/*
 * Beside each table of level 2 and up lies a page of side words, one for each
 * entry: the hpa of the table below (kept while a large leaf stands in its
 * place, so that demotion needs no memory), and in the low bits how many
 * entries of that table are in use.
 */
static inline uint64_t *
pmap_side(pmap_table_t *t)
{
	return (uint64_t *)((char *)t + VMM_PAGE_SIZE);
}

#define PMAP_SIDE_COUNT 0x3fful
#define PMAP_SIDE_TABLE(w) ((pmap_table_t *)PHYS_TO_DMAP((w) & PTE_ADDR))

static inline uint64_t
pmap_get(pmap_table_t *ep)
{
	return atomic_load_explicit(ep, memory_order_acquire);
}

/* A non-leaf entry; only meaningful for entries that are not 0. */
static inline bool
pmap_is_table(unsigned level, uint64_t e)
{
	return level > 1 && (e & PTE_LARGE) == 0;
}

/* pmap_promote.c; with pm->lock held */
uint64_t pmap_promote_locked(struct pmap *pm, gpa_t gpa)
    LOCK_REQUIRES(&pm->lock);
/* Makes the large leaf *ep of a table at level a table of smaller ones. */
void pmap_demote(struct pmap *pm, pmap_table_t *table, gpa_t gpa,
    unsigned level) LOCK_REQUIRES(&pm->lock);

#endif /* PMAP_PMAP_INT_H */
