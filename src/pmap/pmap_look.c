/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking at many mappings at once: a range is read table by table, and what is
 * found goes up as bit maps of 512 pages.  A gigabyte of 4 KB leaves is 2 MB of
 * entries to read; of large leaves, one word each.
 *
 * Accessed bits of large leaves are cleared in place, and what has become alike
 * again is promoted on the way.  Dirty ones are not: a
 * large leaf that may be written is dirty (PMAP-5), so it is demoted, and its
 * 512 parts go on with the right to write.  That costs a walker one store a
 * page it writes, where a write-protected large leaf would cost a fault each.
 */
#include <string.h>

#include "base/host.h"
#include "pmap/pmap_int.h"

struct pmap_look {
	struct pmap *pm;
	gpa_t start, end;
	unsigned clear;
	pmap_look_fn *fn;
	void *arg;
	bool cleared;
};

/* The pages of the 2 MB block at gpa that lie in the range. */
static void
pmap_look_mask(const struct pmap_look *pl, gpa_t gpa, uint64_t mask[8])
{
	uint64_t first = pl->start > gpa ? (pl->start - gpa) >> VMM_PAGE_SHIFT : 0;
	uint64_t end = base_min((pl->end - gpa) >> VMM_PAGE_SHIFT, 512ul);

	for (unsigned i = 0; i < 8; i++) {
		uint64_t lo = base_min(first > i * 64 ? first - i * 64 : 0, 64ul);
		uint64_t hi = end > i * 64 ? base_min(end - i * 64, 64ul) : 0;

		mask[i] = hi <= lo ? 0 : (~0ul >> (64 - (hi - lo))) << lo;
	}
}

static void
pmap_look_large(struct pmap_look *pl, pmap_table_t *ep, gpa_t gpa, unsigned level)
{
	const struct pte_format *f = &pl->pm->f;
	uint64_t e = pmap_get(ep), mask[8];
	struct pmap_block b = { .gpa = gpa, .large = PMAP_SPAN(level) };

	/* once for the whole leaf: by its last block */
	if ((pl->clear & PMAP_LOOK_ACCESSED) != 0 && (e & f->accessed) != 0 &&
	    pl->start <= base_rounddown(gpa, PMAP_SPAN(level)) &&
	    gpa + PMAP_SPAN(2) - base_rounddown(gpa, PMAP_SPAN(level)) ==
	    PMAP_SPAN(level) && pl->end >= gpa + PMAP_SPAN(2)) {
		while (!atomic_compare_exchange_weak(ep, &e,
		    pte_derive(f, e & ~f->accessed)))
			;
		pl->cleared = true;
	}
	pmap_look_mask(pl, gpa, mask);
	memcpy(b.mapped, mask, sizeof(mask));
	if ((e & f->accessed) != 0)
		memcpy(b.accessed, mask, sizeof(mask));
	if ((e & f->dirty) != 0)
		memcpy(b.dirty, mask, sizeof(mask));
	pl->fn(pl->arg, &b);
}

/* Accessed and dirty throughout, 2 MB become one leaf again while they are
 * looked at: what taking dirty bits has split.  => it did */
static bool
pmap_look_promote(const struct pmap_look *pl, const struct pmap_block *b)
    LOCK_NO_ANALYSIS
{
	for (unsigned i = 0; i < 8; i++)
		if ((b->accessed[i] & b->dirty[i]) != ~0ul)
			return false;
	return pl->clear == PMAP_LOOK_ACCESSED &&
	    (pl->pm->flags & PMAP_F_2M) != 0 &&
	    pmap_promote_locked(pl->pm, b->gpa) != 0;
}

/* => true: the entry has become another; look again */
static bool
pmap_look_leaves(struct pmap_look *pl, pmap_table_t *t, gpa_t gpa)
{
	const struct pte_format *f = &pl->pm->f;
	uint64_t clear = 0, mask[8], hit[8] = { 0 };
	struct pmap_block b = { .gpa = gpa };

	if ((pl->clear & PMAP_LOOK_ACCESSED) != 0)
		clear |= f->accessed;
	if ((pl->clear & PMAP_LOOK_DIRTY) != 0)
		clear |= f->dirty;
	pmap_look_mask(pl, gpa, mask);
	for (unsigned i = 0; i < PMAP_NPTE; i++) {
		uint64_t e = pmap_get(&t[i]), bit = 1ul << (i % 64);

		if (e == 0 || (mask[i / 64] & bit) == 0)
			continue;
		hit[i / 64] |= (e & clear) != 0 ? bit : 0;
		b.mapped[i / 64] |= bit;
		b.accessed[i / 64] |= (e & f->accessed) != 0 ? bit : 0;
		b.dirty[i / 64] |= (e & f->dirty) != 0 ? bit : 0;
	}
	if (pmap_look_promote(pl, &b))
		return true;
	for (unsigned w = 0; w < 8; w++)
		for (uint64_t m = hit[w]; m != 0; m &= m - 1) {
			pmap_table_t *ep = &t[w * 64 + (unsigned)__builtin_ctzl(m)];
			uint64_t e = pmap_get(ep);

			/* bits that a walker sets just now are cleared, too */
			while (!atomic_compare_exchange_weak(ep, &e,
			    pte_derive(f, e & ~clear)))
				;
			b.accessed[w] |= (e & f->accessed) != 0 ? m & -m : 0;
			b.dirty[w] |= (e & f->dirty) != 0 ? m & -m : 0;
			pl->cleared = true;
		}
	pl->fn(pl->arg, &b);
	return false;
}

/* The entry of gpa at level 2, or above it where that is empty or a leaf. */
static pmap_table_t *
pmap_look_find(struct pmap *pm, gpa_t gpa, unsigned *levelp,
    pmap_table_t **tablep) LOCK_REQUIRES(&pm->lock)
{
	pmap_table_t *t = pm->root;
	unsigned level = PMAP_ROOT_LEVEL;

	for (;; level--) {
		pmap_table_t *ep = &t[PMAP_INDEX(gpa, level)];
		uint64_t e = pmap_get(ep);

		if (level == 2 || e == 0 || !pmap_is_table(level, e)) {
			*levelp = level;
			*tablep = t;
			return ep;
		}
		t = PHYS_TO_DMAP(e & PTE_ADDR);
	}
}

bool
pmap_look(struct pmap *pm, gpa_t gpa, uint64_t len, unsigned clear,
    pmap_look_fn *fn, void *arg)
{
	struct pmap_look pl = { pm, gpa, base_min(gpa + len, PMAP_MAXGPA), clear,
		fn, arg, false };

	lock_acquire(&pm->lock);
	while (gpa < pl.end) {
		pmap_table_t *t, *ep;
		bool again = false;
		unsigned level;
		uint64_t e;

		ep = pmap_look_find(pm, gpa, &level, &t);
		e = pmap_get(ep);
		if (e != 0 && !pmap_is_table(level, e) &&
		    (clear & PMAP_LOOK_DIRTY) != 0 && (e & pm->f.dirty) != 0) {
			pmap_demote(pm, t, gpa, level);
			continue;
		}
		if (e == 0) {
			gpa = base_rounddown(gpa, PMAP_SPAN(level)) +
			    PMAP_SPAN(level);
			continue;
		}
		gpa = base_rounddown(gpa, PMAP_SPAN(2));
		if (!pmap_is_table(level, e))
			pmap_look_large(&pl, ep, gpa, level);
		else if ((pmap_side(t)[PMAP_INDEX(gpa, 2)] & PMAP_SIDE_COUNT) != 0)
			again = pmap_look_leaves(&pl, PHYS_TO_DMAP(e & PTE_ADDR),
			    gpa);
		if (!again)
			gpa += PMAP_SPAN(2);
	}
	lock_release(&pm->lock);
	return pl.cleared;
}

void
pmap_count(struct pmap *pm, gpa_t gpa, uint64_t len, struct pmap_stats *st)
{
	gpa_t end = base_min(gpa + len, PMAP_MAXGPA), next;

	lock_acquire(&pm->lock);
	for (; gpa < end; gpa = next) {
		pmap_table_t *t;
		unsigned level;
		uint64_t e = pmap_get(pmap_look_find(pm, gpa, &level, &t));

		next = base_rounddown(gpa, PMAP_SPAN(level)) + PMAP_SPAN(level);
		if (e == 0)
			continue;
		if (!pmap_is_table(level, e)) {
			st->resident += PMAP_SPAN(level) / VMM_PAGE_SIZE;
			st->large[level - 2]++;
		} else if ((gpa & (PMAP_SPAN(2) - 1)) == 0 && next <= end) {
			st->resident += pmap_side(t)[PMAP_INDEX(gpa, 2)] &
			    PMAP_SIDE_COUNT;
		} else {
			t = PHYS_TO_DMAP(e & PTE_ADDR);
			for (; gpa < base_min(next, end); gpa += VMM_PAGE_SIZE)
				st->resident += pmap_get(&t[PMAP_INDEX(gpa, 1)]) != 0;
		}
	}
	lock_release(&pm->lock);
}

static void
pmap_recount_table(pmap_table_t *t, unsigned level, bool spare,
    struct pmap_stats *st)
{
	st->pt_pages += level > 1 ? 2 : 1;
	for (unsigned i = 0; i < PMAP_NPTE; i++) {
		uint64_t e = pmap_get(&t[i]), w = level > 1 ? pmap_side(t)[i] : 0;
		bool leaf = e != 0 && !pmap_is_table(level, e);

		if (leaf && !spare) {
			st->resident += PMAP_SPAN(level) / VMM_PAGE_SIZE;
			if (level > 1)
				st->large[level - 2]++;
		}
		if (w != 0)
			pmap_recount_table(PMAP_SIDE_TABLE(w), level - 1,
			    spare || leaf || e == 0, st);
	}
}

void
pmap_recount(struct pmap *pm, struct pmap_stats *found, struct pmap_stats *counted)
{
	memset(found, 0, sizeof(*found));
	lock_acquire(&pm->lock);
	pmap_recount_table(pm->root, PMAP_ROOT_LEVEL, false, found);
	*counted = pm->st;
	lock_release(&pm->lock);
}

void
pmap_decode(const struct pmap *pm, unsigned level, pt_entry_t e, struct vmm_pte *d)
{
	const struct pte_format *f = &pm->f;

	*d = (struct vmm_pte){ .raw = e, .level = (uint8_t)level };
	if (e == 0)
		return;
	d->hpa = e & PTE_ADDR;
	d->hwprot = (uint8_t)pte_hwprot(f, e);
	if (pmap_is_table(level, e)) {
		d->prot = d->hwprot;
		return;
	}
	d->leaf = 1;
	d->prot = (uint8_t)pte_prot(f, e);
	d->accessed = (e & f->accessed) != 0;
	d->dirty = (e & f->dirty) != 0;
}
