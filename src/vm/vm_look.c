/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The checker; and giving back what the guest says it does not need.
 */
#include <errno.h>

#include "vm/vm_int.h"

/* What obj shows is wired, be it a page of an object behind it. */
static bool
vm_discard_wired(struct vm_object *obj, uint64_t pindex)
{
	struct vm_object *o;
	struct vm_page *p = vm_object_find(obj, pindex, &o, &pindex);

	return p != NULL && p->wire != 0;
}

/* All are unmapped with one invalidation, then emptied.  What shows through
 * from behind goes, too. */
static int
vm_discard_locked(struct vm_entry *e, gpa_t gpa, uint64_t len)
{
	uint64_t first = (e->off + (gpa - e->start)) / VMM_PAGE_SIZE;
	uint64_t end = first + len / VMM_PAGE_SIZE;
	struct vm_defer d = { .n = 0 };

	for (uint64_t i = first; i < end; i++)
		if (vm_object_page_make(e->obj, i) == NULL)
			return -ENOMEM;
	for (uint64_t i = first; i < end; i++)
		while ((vm_object_page(e->obj, i)->flags & VM_PAGE_F_BUSY) != 0) {
			vm_object_wait(e->obj);
			i = first; /* meanwhile others may have begun */
		}
	for (uint64_t i = first; i < end; i++)
		if (!vm_discard_wired(e->obj, i))
			vm_object_unmap(e->obj, i, &d);
	vm_defer_finish(&d);
	for (uint64_t i = first; i < end; i++) {
		struct vm_page *p = vm_object_page(e->obj, i);
		hpa_t hpa = vm_page_hpa(e->obj, i);

		if (vm_discard_wired(e->obj, i))
			continue;
		if (p->state == VM_PAGE_RESIDENT)
			vm_page_give_back(hpa, VMM_PAGE_SIZE);
		vm_page_set_state(e->obj, p, VM_PAGE_ZERO);
		vm_page_mark(p, VM_MARK_DIRTY);
	}
	return 0;
}

int
vm_map_discard(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	struct vm_entry *e;
	int error = 0;

	if (((gpa | len) & VMM_PAGE_MASK) != 0)
		return -EINVAL;
	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	if (e == NULL || len > e->end - gpa || (e->prot & VMM_PROT_WRITE) == 0 ||
	    !vm_object_pageable(e->obj))
		error = -EFAULT;
	if (error == 0) {
		vm_object_lock(e->obj);
		error = vm_discard_locked(e, gpa, len);
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
	return error;
}

/* --- the checker --------------------------------------------------------- */

static uint32_t
vm_check_queue(struct vm_object *obj, const struct vm_queue *q, bool active)
{
	uint32_t i = q->head, prev = VM_NIL, n = 0;

	for (; n < q->n; n++) {
		struct vm_page *p = vm_object_page(obj, i);

		KASSERT(p->prev == prev && p->state == VM_PAGE_RESIDENT &&
			p->wire == 0 && (p->flags & VM_PAGE_F_QUEUED) != 0 &&
			((p->flags & VM_PAGE_F_ACTIVE) != 0) == active,
		    "PAGE-1: page %u in its queue", i);
		prev = i;
		i = p->next;
	}
	return n;
}

static void
vm_check_object(struct vm_object *obj)
{
	uint64_t res = 0, swapped = 0, zero = 0, wired = 0, queued = 0, packed = 0;
	uint64_t busy = 0;

	for (uint64_t i = 0; i < obj->len / VMM_PAGE_SIZE; i++) {
		struct vm_page *p = vm_object_page(obj, i);

		if (p == NULL) {
			i |= VM_CHUNK - 1;
			continue;
		}
		KASSERT(vm_page_pindex(p) == i && vm_page_chunk(p)->obj == obj,
		    "page %lu is elsewhere", i);
		res += p->state == VM_PAGE_RESIDENT;
		swapped += p->state == VM_PAGE_SWAPPED;
		zero += p->state == VM_PAGE_ZERO;
		wired += p->wire != 0;
		packed += vm_slot_compressed(p->slot);
		busy += p->state == VM_PAGE_RESIDENT &&
		    (p->flags & VM_PAGE_F_BUSY) != 0;
		queued += (p->flags & VM_PAGE_F_QUEUED) != 0;
		KASSERT((p->slot != VM_NIL) == (p->state == VM_PAGE_SWAPPED) ||
			(p->state == VM_PAGE_RESIDENT && !vm_slot_compressed(p->slot)),
		    "PAGE-2: page %lu, slot %u", i,
		    p->slot);
		KASSERT(p->wire == 0 || p->state == VM_PAGE_RESIDENT,
		    "wired page %lu is not resident", i);
	}
	KASSERT(packed == obj->ncompressed, "PAGE-2: %lu compressed, found %lu",
	    obj->ncompressed, packed);
	KASSERT(res == obj->nresident && swapped == obj->nswapped &&
		zero == obj->nzero && wired == obj->nwired,
	    "counts: %lu %lu %lu %lu, found %lu %lu %lu %lu", obj->nresident,
	    obj->nswapped, obj->nzero, obj->nwired, res, swapped, zero, wired);
	KASSERT(queued == vm_check_queue(obj, &obj->active, true) +
		vm_check_queue(obj, &obj->inactive, false) &&
		(!vm_object_pageable(obj) || queued == res - wired - busy),
	    "PAGE-1: %lu queued of %lu", queued, res);
}

static void
vm_check_entry(struct vm_entry *e)
{
	for (gpa_t g = e->start; g < e->end; g += VMM_PAGE_SIZE) {
		uint64_t i = (e->off + (g - e->start)) / VMM_PAGE_SIZE;
		struct vm_object *o;
		struct vm_page *p;
		hpa_t hpa;
		int prot;

		if (!pmap_extract(e->vms->pmap, g, &hpa, &prot))
			continue;
		p = vm_object_find(e->obj, i, &o, &i);
		KASSERT(p != NULL && p->state == VM_PAGE_RESIDENT &&
			hpa == vm_page_hpa(o, i), "MAP-2: %lx maps %lx", g, hpa);
		KASSERT((prot & VMM_PROT_WRITE & ~e->prot) == 0 &&
			(o == e->obj || (prot & VMM_PROT_WRITE) == 0),
		    "MAP-2: %lx has rights %d", g, prot);
	}
}

void
vm_check(struct vmspace *vms)
{
	gpa_t last = 0;

	pmap_check(vms->pmap);
	lock_acquire(&vms->lock);
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		KASSERT(e->start >= last && e->end > e->start && e->vms == vms,
		    "MAP-1: entry %lx-%lx after %lx", e->start, e->end, last);
		last = e->end;
		vm_object_lock(e->obj);
		for (struct vm_object *o = e->obj; o != NULL; o = o->backing)
			vm_check_object(o);
		vm_check_entry(e);
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
}
