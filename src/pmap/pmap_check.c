/* SPDX-License-Identifier: BSD-2-Clause */
/* Asserts the invariants at the head of pmap.c by walking everything. */
#include "base/host.h"
#include "pmap/pmap_int.h"

static void
pmap_check_leaf(const struct pmap *pm, uint64_t e, unsigned level)
{
	uint64_t hw = e & 7, dirty = e & pm->f.dirty;

	/* PMAP-2 */
	KASSERT(pte_derive(&pm->f, e) == e, "entry %lx is not derived", e);
	KASSERT(pte_prot(&pm->f, e) != 0, "entry %lx allows nothing", e);
	if (!pm->f.x86) {
		KASSERT((hw & 3) != 2, "EPT entry %lx: W without R", e);
		KASSERT((hw & 5) != 4 || (pm->flags & PMAP_F_EXEC_ONLY) != 0,
		    "EPT entry %lx: X without R", e);
	}
	if (level > 1) {
		KASSERT((e & pm->f.write) == 0 || dirty != 0,
		    "PMAP-5: large entry %lx is writable and clean", e);
		KASSERT((e & PTE_ADDR & (PMAP_SPAN(level) - 1)) == 0,
		    "large entry %lx is not aligned", e);
	}
}

static unsigned
pmap_check_table(struct pmap *pm, pmap_table_t *t, unsigned level,
    struct pmap_stats *st)
{
	unsigned n = 0;

	st->pt_pages += level > 1 ? 2 : 1;
	for (unsigned i = 0; i < PMAP_NPTE; i++) {
		uint64_t e = pmap_get(&t[i]), w, below;

		n += e != 0;
		if (e != 0 && !pmap_is_table(level, e)) {
			pmap_check_leaf(pm, e, level);
			st->resident += PMAP_SPAN(level) / VMM_PAGE_SIZE;
			if (level > 1)
				st->large[level - 2]++;
		}
		if (level == 1)
			continue;
		w = pmap_side(t)[i];
		if (w != 0 && (e == 0 || !pmap_is_table(level, e))) {
			/* a spare: only its pages count */
			struct pmap_stats spare = { 0 };

			below = pmap_check_table(pm, PMAP_SIDE_TABLE(w), level - 1,
			    &spare);
			st->pt_pages += spare.pt_pages;
			KASSERT(below == (e == 0 ? 0 : PMAP_NPTE),
			    "spare table of entry %lx has %lu entries", e, below);
		} else if (e != 0) {
			KASSERT(((e ^ w) & PTE_ADDR) == 0,
			    "PMAP-1: entry %lx, side word %lx", e, w);
			below = pmap_check_table(pm, PMAP_SIDE_TABLE(w), level - 1,
			    st);
		} else
			continue;
		KASSERT((w & PMAP_SIDE_COUNT) == below,
		    "PMAP-1: count %lu, entries %lu", w & PMAP_SIDE_COUNT, below);
	}
	return n;
}

void
pmap_check(struct pmap *pm)
{
	struct pmap_stats st = { 0 };

	lock_acquire(&pm->lock);
	(void)pmap_check_table(pm, pm->root, PMAP_ROOT_LEVEL, &st);
	KASSERT(st.resident == pm->st.resident, "PMAP-6: resident %lu, counted %lu",
	    pm->st.resident, st.resident);
	KASSERT(st.pt_pages == pm->st.pt_pages, "PMAP-6: tables %lu, counted %lu",
	    pm->st.pt_pages, st.pt_pages);
	KASSERT(st.large[0] == pm->st.large[0] && st.large[1] == pm->st.large[1],
	    "PMAP-6: large %lu %lu, counted %lu %lu", pm->st.large[0],
	    pm->st.large[1], st.large[0], st.large[1]);
	lock_release(&pm->lock);
}
