/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What memory a guest has, and what state each page is in: for those who look
 * from outside while it runs.
 *
 * Counts are kept where things change (vm_page_set_state() and the like), so
 * asking costs nothing; vm_recount() walks everything and shows both.  It takes
 * the map's lock and each family's in turn: holds, which come and go under the
 * family's lock, agree with wire counts within one family.
 */
#include <string.h>

#include "vm/vm_int.h"

static unsigned
vm_page_bits(const struct vm_object *o, const struct vm_page *p)
{
	unsigned s = vm_object_pageable(o) ? 0 : VMM_PG_DEVICE;

	if (p == NULL)
		return s;
	switch ((enum vm_page_state)p->state) {
	case VM_PAGE_RESIDENT:
		s |= VMM_PG_RESIDENT;
		break;
	case VM_PAGE_SWAPPED:
		s |= VMM_PG_SWAPPED;
		s |= vm_slot_compressed(p->slot) ? VMM_PG_COMPRESSED : 0;
		break;
	case VM_PAGE_ZERO:
		s |= VMM_PG_ZERO;
		break;
	case VM_PAGE_NONE:
		break;
	}
	s |= p->wire != 0 ? VMM_PG_WIRED : 0;
	s |= (p->flags & VM_PAGE_F_DIRTY) != 0 ? VMM_PG_DIRTY : 0;
	s |= p->slot != VM_NIL && !vm_slot_compressed(p->slot) ? VMM_PG_SLOT : 0;
	if ((p->flags & VM_PAGE_F_QUEUED) != 0)
		s |= (p->flags & VM_PAGE_F_ACTIVE) != 0 ? VMM_PG_ACTIVE :
							   VMM_PG_INACTIVE;
	return s;
}

/* The page that e shows at gpa, with its state; the family's lock is held. */
static unsigned
vm_entry_page(struct vm_entry *e, gpa_t gpa, struct vm_object **op,
    struct vm_page **pp)
{
	uint64_t i = (e->off + (gpa - e->start)) / VMM_PAGE_SIZE;
	unsigned s;

	*pp = vm_object_find(e->obj, i, op, &i);
	s = VMM_PG_MAP | vm_page_bits(*pp == NULL ? e->obj : *op, *pp);
	if (*pp != NULL && *op != e->obj)
		s |= VMM_PG_SHARED;
	return s;
}

struct vm_states {
	gpa_t gpa;
	uint16_t *state;
};

static void
vm_states_block(void *arg, const struct pmap_block *b)
{
	struct vm_states *vs = arg;

	for (unsigned k = 0; k < 512; k++) {
		uint64_t bit = 1ul << (k % 64);
		uint16_t *s;

		if ((b->mapped[k / 64] & bit) == 0)
			continue;
		s = &vs->state[(b->gpa + k * VMM_PAGE_SIZE - vs->gpa) / VMM_PAGE_SIZE];
		*s |= VMM_PG_ENTERED;
		*s |= b->large != 0 ? VMM_PG_LARGE : 0;
		*s |= (b->accessed[k / 64] & bit) != 0 ? VMM_PG_ACCESSED : 0;
		*s |= (b->dirty[k / 64] & bit) != 0 ? VMM_PG_DIRTY : 0;
	}
}

void
vm_page_states(struct vmspace *vms, gpa_t gpa, uint64_t n, uint16_t *state)
{
	gpa_t end = gpa + n * VMM_PAGE_SIZE;

	memset(state, 0, n * sizeof(*state));
	lock_acquire(&vms->lock);
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		gpa_t a = e->start > gpa ? e->start : gpa, b = base_min(e->end, end);
		struct vm_states vs = { gpa, state };

		if (a >= b)
			continue;
		vm_object_lock(e->obj);
		for (gpa_t g = a; g < b; g += VMM_PAGE_SIZE) {
			struct vm_object *o;
			struct vm_page *p;

			state[(g - gpa) / VMM_PAGE_SIZE] =
			    (uint16_t)vm_entry_page(e, g, &o, &p);
		}
		(void)pmap_look(vms->pmap, a, b - a, 0, vm_states_block, &vs);
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
}

bool
vm_page_info(struct vmspace *vms, gpa_t gpa, struct vmm_page *pg)
{
	struct vm_object *o;
	struct vm_entry *e;
	struct vm_page *p;
	pt_entry_t pte[4];

	*pg = (struct vmm_page){ .size = pg->size, .gpa = gpa & ~VMM_PAGE_MASK,
		.segid = -1 };
	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	if (e != NULL) {
		vm_object_lock(e->obj);
		pg->state = vm_entry_page(e, gpa, &o, &p);
		pg->prot = (uint32_t)e->prot;
		pg->offset = e->off + (pg->gpa - e->start);
		if (p != NULL) {
			pg->wires = p->wire;
			if (p->state == VM_PAGE_RESIDENT)
				pg->hpa = vm_page_hpa(o, vm_page_pindex(p));
			if ((pg->state & VMM_PG_SLOT) != 0)
				pg->slot = p->slot;
			if ((p->flags & VM_PAGE_F_REF) != 0)
				pg->state |= VMM_PG_ACCESSED;
		}
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
	pg->npte = pmap_entries(vms->pmap, gpa, pte);
	for (unsigned i = 0; i < pg->npte; i++) {
		struct vmm_pte *d = &pg->pte[i];

		pmap_decode(vms->pmap, 4 - i, pte[i], d);
		if (d->leaf == 0)
			continue;
		pg->leaf = 1ul << (12 + 9 * (d->level - 1));
		pg->state |= VMM_PG_ENTERED | (d->level > 1 ? VMM_PG_LARGE : 0);
		pg->state |= (d->accessed != 0 ? VMM_PG_ACCESSED : 0) |
		    (d->dirty != 0 ? VMM_PG_DIRTY : 0);
	}
	return e != NULL;
}

void
vm_object_ledger(struct vm_object *obj, struct vmm_ledger *l)
{
	vm_object_lock(obj);
	for (struct vm_object *o = obj; o != NULL; o = o->backing) {
		l->resident += o->nresident;
		l->wired += o->nwired;
		l->held += o->nheld;
		l->swapped += o->nswapped - o->ncompressed;
		l->compressed += o->ncompressed;
		l->zero += o->nzero;
		l->shared += o != obj ? o->nresident : 0;
		l->faults_zero += o->st.faults_zero;
		l->faults_swap += o->st.faults_swap;
		l->faults_file += o->st.faults_file;
		l->faults_cow += o->st.faults_cow;
		l->faults_prot += o->st.faults_prot;
		l->refaults += o->st.refaults;
		l->pageins += o->st.pageins;
		l->pageouts += o->st.pageouts;
	}
	vm_object_unlock(obj);
}

/* A chunk that does not exist has no pages worth a look, unless one behind. */
static uint64_t
vm_range_skip(const struct vm_object *o, uint64_t i)
{
	return o->backing == NULL && o->chunk[i / VM_CHUNK] == NULL ?
	    VM_CHUNK - i % VM_CHUNK : 0;
}

void
vm_range_ledger(struct vmspace *vms, gpa_t gpa, uint64_t len, struct vmm_ledger *l)
{
	struct pmap_stats st = { 0 };

	l->pages += len / VMM_PAGE_SIZE;
	lock_acquire(&vms->lock);
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		gpa_t a = e->start > gpa ? e->start : gpa;
		gpa_t b = base_min(e->end, gpa + len);

		if (a >= b)
			continue;
		vm_object_lock(e->obj);
		for (gpa_t g = a; g < b; g += VMM_PAGE_SIZE) {
			struct vm_object *o;
			struct vm_page *p;
			uint64_t skip = vm_range_skip(e->obj,
			    (e->off + (g - e->start)) / VMM_PAGE_SIZE);
			unsigned s;

			if (skip != 0) {
				g += (skip - 1) * VMM_PAGE_SIZE;
				continue;
			}
			s = vm_entry_page(e, g, &o, &p);
			l->resident += (s & VMM_PG_RESIDENT) != 0;
			l->wired += (s & VMM_PG_WIRED) != 0;
			l->swapped += (s & (VMM_PG_SWAPPED | VMM_PG_COMPRESSED)) ==
			    VMM_PG_SWAPPED;
			l->compressed += (s & VMM_PG_COMPRESSED) != 0;
			l->zero += (s & VMM_PG_ZERO) != 0;
			l->shared += (s & VMM_PG_SHARED) != 0;
		}
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
	pmap_count(vms->pmap, gpa, len, &st);
	l->entered += st.resident;
	l->superpages += st.large[0] + st.large[1];
}

/* --- counting anew ------------------------------------------------------- */

struct vm_recounting {
	vm_recount_fn *fn;
	void *arg;
	struct vm_object *obj;
	unsigned bad;
};

static void
vm_recount_one(struct vm_recounting *r, const char *name, uint64_t counted,
    uint64_t found)
{
	r->bad += counted != found;
	if (r->fn != NULL)
		r->fn(r->arg, r->obj, name, counted, found);
}

/* Pages that entries keep wired, whose page is o's; they may lie in front. */
static uint64_t
vm_recount_wirings(struct vm_object *front, struct vm_object *o)
{
	uint64_t n = 0;

	for (struct vm_entry *e = front->entries; e != NULL; e = e->obj_next)
		for (gpa_t g = e->start; g < e->wired_end; g += VMM_PAGE_SIZE) {
			struct vm_object *at;
			uint64_t i = (e->off + (g - e->start)) / VMM_PAGE_SIZE;

			n += vm_object_find(front, i, &at, &i) != NULL && at == o;
		}
	for (struct vm_object *s = front->shadows; s != NULL; s = s->sibling)
		n += vm_recount_wirings(s, o);
	return n;
}

static void
vm_recount_object(struct vm_recounting *r, struct vm_object *o)
{
	uint64_t n[4] = { 0 }, wired = 0, wires = 0, active = 0, inactive = 0;
	uint64_t compressed = 0;
	static const struct {
		const char *name;
		enum vm_page_state state;
	} what[] = { { "resident", VM_PAGE_RESIDENT }, { "swapped", VM_PAGE_SWAPPED },
		{ "zero", VM_PAGE_ZERO } };
	const uint64_t *counted[] = { &o->nresident, &o->nswapped, &o->nzero };

	for (uint64_t i = 0; i < o->len / VMM_PAGE_SIZE; i++) {
		const struct vm_page *p = vm_object_page(o, i);

		if (p == NULL) {
			i |= VM_CHUNK - 1;
			continue;
		}
		n[p->state]++;
		wired += p->wire != 0;
		wires += p->wire;
		compressed += vm_slot_compressed(p->slot);
		if ((p->flags & VM_PAGE_F_QUEUED) == 0)
			continue;
		if ((p->flags & VM_PAGE_F_ACTIVE) != 0)
			active++;
		else
			inactive++;
	}
	for (unsigned k = 0; k < sizeof(what) / sizeof(what[0]); k++)
		vm_recount_one(r, what[k].name, *counted[k], n[what[k].state]);
	vm_recount_one(r, "compressed", o->ncompressed, compressed);
	vm_recount_one(r, "wired", o->nwired, wired);
	vm_recount_one(r, "wires", o->nheld + vm_recount_wirings(o, o), wires);
	vm_recount_one(r, "active", o->active.n, active);
	vm_recount_one(r, "inactive", o->inactive.n, inactive);
}

unsigned
vm_recount(struct vmspace *vms, vm_recount_fn *fn, void *arg)
{
	struct vm_recounting r = { fn, arg, NULL, 0 };
	struct pmap_stats found, counted;

	lock_acquire(&vms->lock);
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		struct vm_entry *f = vms->entries;

		while (f->obj != e->obj)
			f = f->next;
		if (f != e)
			continue; /* had its turn */
		vm_object_lock(e->obj);
		for (struct vm_object *o = e->obj; o != NULL; o = o->backing) {
			r.obj = e->obj;
			vm_recount_object(&r, o);
		}
		vm_object_unlock(e->obj);
	}
	r.obj = NULL;
	pmap_recount(vms->pmap, &found, &counted);
	vm_recount_one(&r, "pmap.entered", counted.resident, found.resident);
	vm_recount_one(&r, "pmap.tables", counted.pt_pages, found.pt_pages);
	vm_recount_one(&r, "pmap.large.2m", counted.large[0], found.large[0]);
	vm_recount_one(&r, "pmap.large.1g", counted.large[1], found.large[1]);
	lock_release(&vms->lock);
	return r.bad;
}
