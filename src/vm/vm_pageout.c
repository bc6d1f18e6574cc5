/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page-out: keeps a vmspace within its limit.
 *
 * New pages are active.  A page whose accessed bit stays clear for a round of
 * the active queue becomes inactive; one that is accessed there comes back
 * (second chance), the others leave, in clusters: all taken out of the pmaps
 * with one invalidation, then written, then their host memory is given back.
 * Pages of zeros take no slot, pages that equal their slot or file no write.
 *
 * It runs in the fault that goes over the limit, whose vCPU is not active.
 * When swap is full or fails, pages stay, the vmspace goes over its limit, and
 * an event says so; nothing is lost.
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

#define VM_CLUSTER 64u
#define VM_PAGEOUT_EXTRA 32u

static bool
vm_pageout_zero(const void *page)
{
	const char *c = page;

	return c[0] == 0 && memcmp(c, c + 1, VMM_PAGE_SIZE - 1) == 0;
}

/* Gives host memory back, neighbours together. */
static void
vm_pageout_discard(struct vm_object *obj, struct vm_page *const *p, unsigned n)
{
	for (unsigned i = 0, k; i < n; i = k) {
		uint32_t first = vm_page_pindex(p[i]);

		for (k = i + 1; k < n && vm_page_pindex(p[k]) == first + (k - i); k++)
			;
		vm_page_give_back(vm_page_hpa(obj, first),
		    (k - i) * VMM_PAGE_SIZE);
	}
}

/* Writes n dirty pages. => how many left; the others are active again */
static unsigned
vm_pageout_write(struct vmspace *vms, struct vm_object *obj, struct vm_page **p,
    unsigned n) LOCK_REQUIRES(&vms->lock)
{
	unsigned done = 0;
	int error = 0;

	while (done < n && error == 0) {
		unsigned k = n - done;
		void *ptr[VM_CLUSTER];
		uint32_t slot;

		while ((error = vm_swap_alloc(k, &slot)) != 0 && k > 1)
			k /= 2;
		if (error != 0)
			break;
		for (unsigned i = 0; i < k; i++)
			ptr[i] = PHYS_TO_DMAP(vm_page_hpa(obj,
			    vm_page_pindex(p[done + i])));
		error = vm_swap_write(ptr, k, slot);
		for (unsigned i = 0; i < k; i++) {
			struct vm_page *q = p[done + i];

			if (error != 0) {
				vm_swap_free(slot + i);
				continue;
			}
			if (q->slot != VM_NIL)
				vm_swap_free(q->slot);
			q->slot = slot + i;
			q->flags = 0;
			vm_page_set_state(obj, q, VM_PAGE_SWAPPED);
			q->next = obj->clock++;
		}
		if (error == 0) {
			vm_pageout_discard(obj, p + done, k);
			VM_COUNT(vms, obj, pageouts, k);
			vms->swap_failed = false;
			done += k;
		}
	}
	for (unsigned i = done; i < n; i++)
		vm_page_enqueue(obj, p[i], true);
	if (error != 0) {
		vms->st.swap_errors++;
		/* once, until a write has worked again */
		if (!vms->swap_failed && vms->cfg.event != NULL)
			vms->cfg.event(vms->cfg.arg, error == -ENOSPC ?
			    VM_EVENT_SWAP_FULL : VM_EVENT_SWAP_ERROR, 0, error);
		vms->swap_failed = true;
	}
	return done;
}

/* n pages that nobody maps any more. => how many left */
static unsigned
vm_pageout_cluster(struct vmspace *vms, struct vm_object *obj, struct vm_page **p,
    unsigned n) LOCK_REQUIRES(&vms->lock)
{
	struct vm_page *dirty[VM_CLUSTER];
	unsigned nd = 0, left = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t pi = vm_page_pindex(p[i]);

		if ((p[i]->flags & VM_PAGE_F_DIRTY) != 0 &&
		    !vm_pageout_zero(PHYS_TO_DMAP(vm_page_hpa(obj, pi)))) {
			dirty[nd++] = p[i];
			continue;
		}
		if ((p[i]->flags & VM_PAGE_F_DIRTY) == 0 && p[i]->slot != VM_NIL) {
			p[i]->flags = 0;
			vm_page_set_state(obj, p[i], VM_PAGE_SWAPPED);
			p[i]->next = obj->clock++;
		} else if ((p[i]->flags & (VM_PAGE_F_DIRTY | VM_PAGE_F_FILE)) ==
		    VM_PAGE_F_FILE)
			vm_page_set_state(obj, p[i], VM_PAGE_NONE);
		else
			vm_page_set_state(obj, p[i], VM_PAGE_ZERO);
		vm_pageout_discard(obj, &p[i], 1);
		left++;
	}
	return left + vm_pageout_write(vms, obj, dirty, nd);
}

static uint64_t
vm_pageout_object(struct vmspace *vms, struct vm_object *obj, uint64_t want)
    LOCK_REQUIRES(&vms->lock)
{
	struct vm_page *batch[VM_CLUSTER];
	struct vm_defer d = { .n = 0 };
	uint64_t left = 0;
	uint32_t scan;
	unsigned n;

	for (scan = obj->active.n; scan > 0 &&
	    obj->inactive.n < want + VM_PAGEOUT_EXTRA; scan--) {
		struct vm_page *p = vm_object_page(obj, obj->active.head);

		vm_page_enqueue(obj, p, vm_object_referenced(obj,
		    obj->active.head, &d));
	}
	vm_defer_finish(&d);
	scan = obj->inactive.n;
	while (scan > 0 && left < want) {
		unsigned got;

		for (n = 0; n < VM_CLUSTER && scan > 0 && left + n < want; scan--) {
			uint32_t pi = obj->inactive.head;
			struct vm_page *p = vm_object_page(obj, pi);

			if (vm_object_referenced(obj, pi, &d)) {
				vm_page_enqueue(obj, p, true);
				continue;
			}
			vm_page_dequeue(obj, p);
			vm_object_unmap(obj, pi, &d);
			batch[n++] = p;
		}
		vm_defer_finish(&d);
		if (n == 0)
			break;
		got = vm_pageout_cluster(vms, obj, batch, n);
		left += got;
		if (got < n)
			break;
	}
	return left;
}

static uint64_t
vm_pageout_locked(struct vmspace *vms, uint64_t want) LOCK_REQUIRES(&vms->lock)
{
	uint64_t left = 0;

	/* the first round may only clear accessed bits */
	for (int round = 0; round < 3 && left < want; round++)
		for (struct vm_entry *e = vms->entries; e != NULL && left < want;
		    e = e->next) {
			vm_object_lock(e->obj);
			for (struct vm_object *o = e->obj; o != NULL && left < want;
			    o = o->backing)
				left += vm_pageout_object(vms, o, want - left);
			vm_object_unlock(e->obj);
		}
	return left;
}

static uint64_t
vm_pageout_resident(struct vmspace *vms) LOCK_REQUIRES(&vms->lock)
{
	uint64_t n = 0;

	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		struct vm_entry *f = vms->entries;

		while (f != e && f->obj != e->obj)
			f = f->next;
		if (f != e)
			continue;
		vm_object_lock(e->obj);
		for (struct vm_object *o = e->obj; o != NULL; o = o->backing)
			n += vm_object_pageable(o) ? o->nresident : 0;
		vm_object_unlock(e->obj);
	}
	return n;
}

void
vm_pageout_balance(struct vmspace *vms)
{
	uint64_t limit = atomic_load_explicit(&vms->limit, memory_order_relaxed);
	uint64_t n;

	if (limit == 0)
		return;
	n = vm_pageout_resident(vms);
	if (n > limit)
		(void)vm_pageout_locked(vms, n - limit +
		    base_min(VM_PAGEOUT_EXTRA, limit / 16));
}

bool
vm_pageout_stuck(struct vmspace *vms)
{
	uint64_t limit = atomic_load_explicit(&vms->limit, memory_order_relaxed);

	if (limit == 0 || !vms->cfg.hard_limit || !vms->swap_failed ||
	    vm_pageout_resident(vms) < limit)
		return false;
	/* The one who waits is the one who tries again. */
	(void)vm_pageout_locked(vms, VM_PAGEOUT_EXTRA);
	return vm_pageout_resident(vms) >= limit;
}

uint64_t
vmspace_reclaim(struct vmspace *vms, uint64_t bytes)
{
	uint64_t left;

	lock_acquire(&vms->lock);
	left = vm_pageout_locked(vms, bytes / VMM_PAGE_SIZE);
	lock_release(&vms->lock);
	return left * VMM_PAGE_SIZE;
}

int
vmspace_set_limit(struct vmspace *vms, uint64_t bytes)
{
	if (bytes != 0 && bytes < VM_LIMIT_MIN)
		return -EINVAL;
	lock_acquire(&vms->lock);
	if (vms->pinned && bytes != 0) {
		lock_release(&vms->lock);
		return -EBUSY;
	}
	atomic_store(&vms->limit, bytes / VMM_PAGE_SIZE);
	vm_pageout_balance(vms);
	lock_release(&vms->lock);
	return 0;
}

uint64_t
vmspace_limit(struct vmspace *vms)
{
	return atomic_load(&vms->limit) * VMM_PAGE_SIZE;
}
