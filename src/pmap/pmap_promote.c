/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Superpages: 512 neighbours that agree become one leaf a level up, and a leaf
 * of which one part must differ becomes 512 again.
 *
 * All 512 must be accessed, follow each other in the host, allow the same, and
 * be all dirty or all clean.  A clean run loses its write permission first, so
 * that a large leaf that may be written is always dirty (PMAP-5); a write then
 * faults, and vm demotes.  With A and D settled, a walker has nothing left to
 * write into the old table; it stays, unchanged, as the spare (PMAP-3), and who
 * still reads it gets the same translations: no invalidation.
 */
#include "base/host.h"
#include "pmap/pmap_int.h"

static bool
pmap_promote_may(const struct pmap *pm, unsigned level)
{
	return (level == 2 && (pm->flags & PMAP_F_2M) != 0) ||
	    (level == 3 && (pm->flags & PMAP_F_1G) != 0);
}

/* Takes W from clean leaves; no cache can hold it, for D was clear. */
static void
pmap_promote_clean(struct pmap *pm, pmap_table_t *t)
{
	for (unsigned i = 0; i < PMAP_NPTE; i++) {
		uint64_t e = pmap_get(&t[i]);

		while ((e & pm->f.dirty) == 0 && (e & pm->f.write) != 0 &&
		    !atomic_compare_exchange_weak(&t[i], &e,
			pte_derive(&pm->f, e & ~pm->f.write)))
			;
	}
}

/* => the large leaf's entry, or 0 when the entries of t do not agree */
static uint64_t
pmap_promote_agree(struct pmap *pm, pmap_table_t *t, unsigned level)
{
	uint64_t span = PMAP_SPAN(level), first = pmap_get(&t[0]), e;

	if ((first & pm->f.accessed) == 0 || pmap_is_table(level, first) ||
	    (first & PTE_ADDR & (span * PMAP_NPTE - 1)) != 0)
		return 0;
	for (unsigned i = 1; i < PMAP_NPTE; i++)
		if (pmap_get(&t[i]) != first + i * span)
			return 0;
	if ((first & (pm->f.dirty | pm->f.write)) == pm->f.write) {
		pmap_promote_clean(pm, t);
		first = pmap_get(&t[0]);
		for (unsigned i = 1; i < PMAP_NPTE; i++) {
			e = pmap_get(&t[i]);
			if (e != first + i * span)
				return 0; /* written to meanwhile */
		}
	}
	return first | PTE_LARGE;
}

uint64_t
pmap_promote_locked(struct pmap *pm, gpa_t gpa)
{
	pmap_table_t *path[PMAP_ROOT_LEVEL + 1];
	uint64_t size = 0;
	unsigned level;

	path[PMAP_ROOT_LEVEL] = pm->root;
	for (level = PMAP_ROOT_LEVEL; level > 1; level--) {
		uint64_t e = pmap_get(&path[level][PMAP_INDEX(gpa, level)]);

		if (e == 0 || !pmap_is_table(level, e))
			break;
		path[level - 1] = PHYS_TO_DMAP(e & PTE_ADDR);
	}
	for (level++; level < PMAP_ROOT_LEVEL; level++) {
		unsigned i = PMAP_INDEX(gpa, level);
		uint64_t *side, e;

		if (level == 1)
			continue;
		side = &pmap_side(path[level])[i];
		if ((*side & PMAP_SIDE_COUNT) != PMAP_NPTE ||
		    !pmap_promote_may(pm, level))
			break;
		e = pmap_promote_agree(pm, path[level - 1], level - 1);
		if (e == 0) {
			pm->st.promote_fails++;
			break;
		}
		atomic_store(&path[level][i], e);
		pm->st.promotions++;
		pm->st.large[level - 2]++;
		if (level == 3)
			pm->st.large[0] -= PMAP_NPTE;
		size = PMAP_SPAN(level);
	}
	return size;
}

uint64_t
pmap_promote(struct pmap *pm, gpa_t gpa)
{
	uint64_t size;

	if (gpa >= PMAP_MAXGPA)
		return 0;
	lock_acquire(&pm->lock);
	size = pmap_promote_locked(pm, gpa);
	lock_release(&pm->lock);
	return size;
}

void
pmap_demote(struct pmap *pm, pmap_table_t *table, gpa_t gpa, unsigned level)
{
	pmap_table_t *ep = &table[PMAP_INDEX(gpa, level)];
	uint64_t *side = &pmap_side(table)[PMAP_INDEX(gpa, level)];
	pmap_table_t *t = PMAP_SIDE_TABLE(*side);
	uint64_t e = pmap_get(ep), span = PMAP_SPAN(level - 1), leaf;

	KASSERT(*side != 0 && (*side & PMAP_SIDE_COUNT) == PMAP_NPTE,
	    "large leaf at %lx without its spare table", gpa);
	do {
		leaf = level == 2 ? e & ~PTE_LARGE : e;
		for (unsigned i = 0; i < PMAP_NPTE; i++)
			atomic_store_explicit(&t[i], leaf + i * span,
			    memory_order_relaxed);
		/* fails when a walker has just set A */
	} while (!atomic_compare_exchange_weak(ep, &e,
	    (*side & PTE_ADDR) | pm->f.table));
	pm->st.demotions++;
	pm->st.large[level - 2]--;
	if (level == 3)
		pm->st.large[0] += PMAP_NPTE;
}
