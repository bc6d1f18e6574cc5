/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The walker's side: translation without locks, and the protocol by which a
 * translation is taken back.
 *
 * A vCPU that runs guest code is active: it joins (active := true), then reads
 * the generation, and flushes if its own is older.  Who changed the tables
 * advances the generation, then kicks every vCPU that is active and waits
 * until it has left or acknowledged the new generation.  All of this is
 * sequentially consistent, so that either the vCPU reads the new generation
 * or the invalidator sees it active.  A vCPU that faults has left: it may
 * wait for an invalidation, and start one.
 */
#include <errno.h>

#include "base/host.h"
#include "pmap/pmap_int.h"

int
pmap_walk(struct pmap *pm, gpa_t gpa, int access, struct pmap_walk *w)
{
	const struct pte_format *f = &pm->f;
	pmap_table_t *t, *ep;
	unsigned level;
	uint64_t e, want, span;
	int prot;

	w->qual = (uint8_t)access;
	if (gpa >= PMAP_MAXGPA)
		return -EFAULT;
again:
	t = pm->root;
	for (level = PMAP_ROOT_LEVEL;; level--) {
		ep = &t[PMAP_INDEX(gpa, level)];
		e = pmap_get(ep);
		if ((e & f->present) == 0)
			return -EFAULT;
		if (!pmap_is_table(level, e))
			break;
		t = PHYS_TO_DMAP(e & PTE_ADDR);
	}
	prot = pte_hwprot(f, e);
	if ((prot & access) == 0) {
		w->qual = (uint8_t)(access | prot << 3);
		return -EFAULT;
	}
	if (!f->emul) {
		want = f->accessed;
		if (access == VMM_PROT_WRITE)
			want |= f->dirty;
		/* lost to another writer: the entry may be of another kind now */
		if ((e & want) != want &&
		    !atomic_compare_exchange_strong(ep, &e, e | want))
			goto again;
		if (((e | want) & f->dirty) == 0)
			prot &= ~VMM_PROT_WRITE;
	}
	span = PMAP_SPAN(level);
	w->hpa = (e & PTE_ADDR & ~(span - 1)) | (gpa & (span - 1));
	w->size = span;
	w->prot = (uint8_t)prot;
	w->qual = 0;
	return 0;
}

unsigned
pmap_entries(struct pmap *pm, gpa_t gpa, pt_entry_t pte[4])
{
	pmap_table_t *t = pm->root;
	unsigned n = 0;

	if (gpa >= PMAP_MAXGPA)
		return 0;
	for (unsigned level = PMAP_ROOT_LEVEL;; level--) {
		pte[n] = pmap_get(&t[PMAP_INDEX(gpa, level)]);
		n++;
		if (pte[n - 1] == 0 || !pmap_is_table(level, pte[n - 1]))
			return n;
		t = PHYS_TO_DMAP(pte[n - 1] & PTE_ADDR);
	}
}

uint64_t
pmap_activate(struct pmap *pm, unsigned vcpu)
{
	atomic_store(&pm->vcpu[vcpu].active, true);
	return atomic_load(&pm->gen);
}

void
pmap_deactivate(struct pmap *pm, unsigned vcpu)
{
	atomic_store(&pm->vcpu[vcpu].active, false);
}

uint64_t
pmap_generation(const struct pmap *pm)
{
	return atomic_load(&((struct pmap *)(uintptr_t)pm)->gen);
}

void
pmap_ack(struct pmap *pm, unsigned vcpu, uint64_t flushed)
{
	atomic_store(&pm->vcpu[vcpu].acked, flushed);
}

void
pmap_invalidate(struct pmap *pm)
{
	uint64_t want = atomic_fetch_add(&pm->gen, 1) + 1;
	unsigned kicked = 0;

	atomic_fetch_add_explicit(&pm->invalidations, 1, memory_order_relaxed);
	for (unsigned i = 0; i < VMM_MAXCPU; i++)
		if (atomic_load(&pm->vcpu[i].active) &&
		    atomic_load(&pm->vcpu[i].acked) < want && pm->cb != NULL) {
			pm->cb->kick(pm->arg, i);
			kicked++;
		}
	atomic_fetch_add_explicit(&pm->kicks, kicked, memory_order_relaxed);
	for (unsigned i = 0; i < VMM_MAXCPU; i++)
		while (atomic_load(&pm->vcpu[i].active) &&
		    atomic_load(&pm->vcpu[i].acked) < want)
			host_yield();
}
