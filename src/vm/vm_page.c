/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Pages: queues, states, wiring.  Everything here is under the family lock.
 *
 * PAGE-1  A page is queued exactly when it is resident in a pageable object,
 *         not wired and not busy.
 * PAGE-2  SWAPPED has a slot; NONE and ZERO have none; a resident page with a
 *         slot and without DIRTY is equal to its slot, which is one on disk.
 * PAGE-3  The host memory of a page that is not resident reads as zeros.
 */
#include <string.h>

#include "vm/vm_int.h"

/* To the host, and so to zeros, even where the host does not take it. */
void
vm_page_give_back(hpa_t hpa, uint64_t len)
{
	if (host_dmap_discard(hpa, len) != 0)
		memset(PHYS_TO_DMAP(hpa), 0, len);
}

static struct vm_queue *
vm_page_queue(struct vm_object *obj, const struct vm_page *p)
{
	return (p->flags & VM_PAGE_F_ACTIVE) != 0 ? &obj->active : &obj->inactive;
}

void
vm_page_enqueue(struct vm_object *obj, struct vm_page *p, bool active)
{
	struct vm_queue *q;
	uint32_t i = vm_page_pindex(p);

	if ((p->flags & VM_PAGE_F_QUEUED) != 0)
		vm_page_dequeue(obj, p);
	if (!vm_object_pageable(obj) || p->wire != 0)
		return;
	p->flags |= VM_PAGE_F_QUEUED | (active ? VM_PAGE_F_ACTIVE : 0);
	q = vm_page_queue(obj, p);
	p->next = VM_NIL;
	p->prev = q->n == 0 ? VM_NIL : q->tail;
	if (q->n == 0)
		q->head = i;
	else
		vm_object_page(obj, q->tail)->next = i;
	q->tail = i;
	q->n++;
}

void
vm_page_dequeue(struct vm_object *obj, struct vm_page *p)
{
	struct vm_queue *q = vm_page_queue(obj, p);

	if ((p->flags & VM_PAGE_F_QUEUED) == 0)
		return;
	if (p->prev == VM_NIL)
		q->head = p->next;
	else
		vm_object_page(obj, p->prev)->next = p->next;
	if (p->next == VM_NIL)
		q->tail = p->prev;
	else
		vm_object_page(obj, p->next)->prev = p->prev;
	q->n--;
	p->flags &= (uint8_t)~(VM_PAGE_F_QUEUED | VM_PAGE_F_ACTIVE);
}

static void
vm_page_count(struct vm_object *obj, enum vm_page_state state, int64_t d)
{
	switch (state) {
	case VM_PAGE_RESIDENT:
		obj->nresident += (uint64_t)d;
		break;
	case VM_PAGE_SWAPPED:
		obj->nswapped += (uint64_t)d;
		break;
	case VM_PAGE_ZERO:
		obj->nzero += (uint64_t)d;
		break;
	case VM_PAGE_NONE:
		break;
	}
}

/* A page of a chunk leaves, or the others have not come.  So must what the host filled in around it, or it
 * would be memory that nobody counts. */
void
vm_page_split(struct vm_object *obj, struct vm_chunk *c)
{
	unsigned n;

	c->huge = false;
	for (unsigned i = 0; i < VM_CHUNK; i += n + 1) {
		for (n = 0; i + n < VM_CHUNK &&
		    (c->page[i + n].state == VM_PAGE_NONE ||
			c->page[i + n].state == VM_PAGE_ZERO); n++)
			;
		if (n != 0)
			vm_page_give_back(vm_page_hpa(obj, c->first + i),
			    (uint64_t)n * VMM_PAGE_SIZE);
	}
}

void
vm_page_set_state(struct vm_object *obj, struct vm_page *p,
    enum vm_page_state state)
{
	struct vm_chunk *c = vm_page_chunk(p);

	c->nresident = (uint16_t)(c->nresident + (state == VM_PAGE_RESIDENT) -
	    (p->state == VM_PAGE_RESIDENT));
	vm_page_count(obj, p->state, -1);
	vm_page_count(obj, state, 1);
	p->state = (uint8_t)state;
	if (state != VM_PAGE_RESIDENT)
		vm_page_dequeue(obj, p);
	if (state == VM_PAGE_NONE || state == VM_PAGE_ZERO) {
		if (p->slot != VM_NIL)
			vm_swap_free(p->slot);
		vm_page_slot(obj, p, VM_NIL);
		p->flags = 0;
	}
	if (state != VM_PAGE_RESIDENT && c->huge)
		vm_page_split(obj, c);
}

void
vm_page_slot(struct vm_object *obj, struct vm_page *p, uint32_t slot)
{
	obj->ncompressed -= vm_slot_compressed(p->slot);
	obj->ncompressed += vm_slot_compressed(slot);
	p->slot = slot;
}

void
vm_page_mark(struct vm_page *p, unsigned which)
{
	p->mark[which] = 0xff;
	vm_page_chunk(p)->mark[which] = 0xff;
}

void
vm_page_accessed(struct vm_page *p)
{
	p->flags |= VM_PAGE_F_REF;
	vm_page_mark(p, VM_MARK_ACCESSED);
}

void
vm_page_dirty(struct vm_page *p)
{
	p->flags |= VM_PAGE_F_DIRTY | VM_PAGE_F_REF;
	vm_page_mark(p, VM_MARK_DIRTY);
}

void
vm_page_wire(struct vm_object *obj, struct vm_page *p, int delta)
{
	bool was = p->wire != 0;

	KASSERT(p->wire + delta >= 0 && p->wire + delta < UINT16_MAX,
	    "wire count %u%+d", p->wire, delta);
	p->wire = (uint16_t)(p->wire + delta);
	if (p->wire != 0 && !was) {
		obj->nwired++;
		vm_page_dequeue(obj, p);
	} else if (p->wire == 0 && was) {
		obj->nwired--;
		vm_page_enqueue(obj, p, true);
	}
}
