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
 * It runs in a thread that keeps a reserve (vm_reserve.c), and in the fault that
 * goes over the limit nevertheless, whose vCPU is not active.
 * Where there is a pool (vm_compress.c), pages are compressed into it, and go to
 * disk only when it has its share of the limit.  What it takes counts as
 * resident.
 *
 * When swap is full or fails, pages stay, the vmspace goes over its limit, and
 * an event says so; nothing is lost.
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

#define VM_PAGEOUT_EXTRA 32u
#define VM_SPILL 32u /* compressed pages that go to disk together */

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

/* Its contents are in slot. => family locked; counted for the object only */
static void
vm_pageout_left(struct vm_object *obj, struct vm_page *p, uint32_t slot)
{
	if (p->slot != VM_NIL)
		vm_swap_free(p->slot);
	vm_page_slot(obj, p, slot);
	p->flags = 0;
	vm_page_set_state(obj, p, VM_PAGE_SWAPPED);
	p->next = obj->clock++;
	obj->st.pageouts++;
}

static void
vm_pageout_failed(struct vmspace *vms, int error) LOCK_REQUIRES(&vms->lock)
{
	vms->st.swap_errors++;
	/* once, until a write has worked again */
	if (!vms->swap_failed && vms->cfg.event != NULL)
		vms->cfg.event(vms->cfg.arg, error == -ENOSPC ?
		    VM_EVENT_SWAP_FULL : VM_EVENT_SWAP_ERROR, 0, error);
	vms->swap_failed = true;
}

/* Writes to slots in a row, as many pages as there are such. => how many, from
 * *slotp on, or -errno */
static int
vm_pageout_io(void *const *ptr, unsigned n, uint32_t *slotp)
{
	int error;

	while ((error = vm_swap_alloc(n, slotp)) != 0 && n > 1)
		n /= 2;
	if (error == 0) {
		error = vm_swap_write(ptr, n, *slotp);
		for (unsigned i = 0; i < n && error != 0; i++)
			vm_swap_free(*slotp + i);
	}
	return error != 0 ? error : (int)n;
}

/* Writes n dirty pages. => how many left; the others are active again */
static unsigned
vm_pageout_write(struct vmspace *vms, struct vm_object *obj, struct vm_page **p,
    unsigned n, struct vm_out *out) LOCK_REQUIRES(&vms->lock)
{
	unsigned done = 0;
	int k = 0;

	if (out != NULL && out->n == 0 && n != 0 && !vms->swap_failed &&
	    vm_swap_alloc(n, &out->slot) == 0) {
		for (unsigned i = 0; i < n; i++) {
			p[i]->flags |= VM_PAGE_F_BUSY;
			out->page[i] = p[i];
		}
		out->o = obj;
		out->n = n;
		vm_object_ref(obj);
		return n;
	}
	for (; done < n; done += (unsigned)k) {
		void *ptr[VM_CLUSTER];
		uint32_t slot;

		for (unsigned i = done; i < n; i++)
			ptr[i - done] = PHYS_TO_DMAP(vm_page_hpa(obj,
			    vm_page_pindex(p[i])));
		k = vm_pageout_io(ptr, n - done, &slot);
		if (k < 0)
			break;
		for (unsigned i = 0; i < (unsigned)k; i++)
			vm_pageout_left(obj, p[done + i], slot + i);
		vms->st.pageouts += (unsigned)k;
		vm_pageout_discard(obj, p + done, (unsigned)k);
		vms->swap_failed = false;
	}
	for (unsigned i = done; i < n; i++)
		vm_page_enqueue(obj, p[i], true);
	if (k < 0)
		vm_pageout_failed(vms, k);
	return done;
}

void
vm_pageout_finish(struct vmspace *vms, struct vm_out *out)
{
	void *ptr[VM_CLUSTER];
	int error;

	lock_release(&vms->lock);
	for (unsigned i = 0; i < out->n; i++)
		ptr[i] = PHYS_TO_DMAP(vm_page_hpa(out->o,
		    vm_page_pindex(out->page[i])));
	error = vm_swap_write(ptr, out->n, out->slot);
	/* without the map, which one may hold who waits for these pages */
	vm_object_lock(out->o);
	for (unsigned i = 0; i < out->n; i++) {
		out->page[i]->flags &= (uint8_t)~VM_PAGE_F_BUSY;
		if (error == 0) {
			vm_pageout_left(out->o, out->page[i], out->slot + i);
			continue;
		}
		vm_swap_free(out->slot + i);
		vm_page_enqueue(out->o, out->page[i], true);
	}
	if (error == 0)
		vm_pageout_discard(out->o, out->page, out->n);
	lock_cond_broadcast(&out->o->fam->busy);
	vm_object_unlock(out->o);
	vm_object_rele(out->o);
	lock_acquire(&vms->lock);
	if (error != 0)
		vm_pageout_failed(vms, error);
	else
		vms->st.pageouts += out->n;
	out->n = 0;
}

/* Makes room in the pool. => whether there is some */
static bool
vm_pageout_spill(struct vmspace *vms, struct vm_family *fam)
    LOCK_REQUIRES(&vms->lock)
{
	struct vm_page *p[VM_SPILL];
	void *ptr[VM_SPILL];
	unsigned n = vm_compress_oldest(fam, p, VM_SPILL), done = 0;
	char *buf = n != 0 ? host_alloc(n * VMM_PAGE_SIZE) : NULL;
	int k = 0;

	for (unsigned i = 0; i < n && buf != NULL; i++) {
		ptr[i] = buf + i * VMM_PAGE_SIZE;
		if (vm_compress_load(p[i]->slot, ptr[i]) != 0)
			n = i;
	}
	for (; done < n && buf != NULL; done += (unsigned)k) {
		uint32_t slot;

		k = vm_pageout_io(ptr + done, n - done, &slot);
		if (k < 0)
			break;
		for (unsigned i = 0; i < (unsigned)k; i++) {
			vm_compress_free(p[done + i]->slot);
			vm_page_slot(vm_page_chunk(p[done + i])->obj, p[done + i],
			    slot + i);
		}
		vms->st.spills += (unsigned)k;
		vms->swap_failed = false;
	}
	host_free(buf);
	if (k < 0)
		vm_pageout_failed(vms, k);
	return done != 0;
}

/* Pages the pool may take: a quarter of a limit. */
static uint64_t
vm_pageout_pool(struct vmspace *vms)
{
	uint64_t limit = atomic_load_explicit(&vms->limit, memory_order_relaxed);

	return limit == 0 ? UINT64_MAX : limit / 4;
}

/* => whether the page is compressed now */
static bool
vm_pageout_pack(struct vmspace *vms, struct vm_object *obj, struct vm_page *p)
    LOCK_REQUIRES(&vms->lock)
{
	const void *data = PHYS_TO_DMAP(vm_page_hpa(obj, vm_page_pindex(p)));
	uint32_t slot;
	int error;

	while ((error = vm_compress_store(p, data, vm_pageout_pool(vms), &slot)) ==
	    -ENOSPC)
		/* a disk that fails is tried with pages, not by each of them */
		if (vms->swap_failed || !vm_pageout_spill(vms, obj->fam))
			return false;
	if (error == 0) {
		vm_pageout_left(obj, p, slot);
		vms->st.pageouts++;
	}
	return error == 0;
}

/* n pages that nobody maps any more. => how many left */
static unsigned
vm_pageout_cluster(struct vmspace *vms, struct vm_object *obj, struct vm_page **p,
    unsigned n, struct vm_out *out) LOCK_REQUIRES(&vms->lock)
{
	struct vm_page *dirty[VM_CLUSTER];
	unsigned nd = 0, left = 0;

	for (unsigned i = 0; i < n; i++) {
		uint32_t pi = vm_page_pindex(p[i]);

		if ((p[i]->flags & VM_PAGE_F_DIRTY) != 0 &&
		    !vm_pageout_zero(PHYS_TO_DMAP(vm_page_hpa(obj, pi)))) {
			if (!vm_pageout_pack(vms, obj, p[i])) {
				dirty[nd++] = p[i];
				continue;
			}
			vm_pageout_discard(obj, &p[i], 1);
			left++;
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
	return left + vm_pageout_write(vms, obj, dirty, nd, out);
}

static uint64_t
vm_pageout_object(struct vmspace *vms, struct vm_object *obj, uint64_t want,
    struct vm_out *out)
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
		got = vm_pageout_cluster(vms, obj, batch, n, out);
		left += got;
		if (got < n || (out != NULL && out->n != 0))
			break;
	}
	return left;
}

uint64_t
vm_pageout_some(struct vmspace *vms, uint64_t want, struct vm_out *out)
{
	uint64_t left = 0;

	if (out != NULL)
		out->n = 0;
	/* the first round may only clear accessed bits */
	for (int round = 0; round < 3 && left < want; round++)
		for (struct vm_entry *e = vms->entries; e != NULL && left < want;
		    e = e->next) {
			vm_object_lock(e->obj);
			for (struct vm_object *o = e->obj; o != NULL && left < want;
			    o = o->backing)
				left += vm_pageout_object(vms, o, want - left, out);
			vm_object_unlock(e->obj);
		}
	return left;
}

uint64_t
vm_pageout_resident(struct vmspace *vms)
{
	uint64_t n = vm_compress_pages();

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
	/* of all families: what the limit was lowered under */
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		vm_object_lock(e->obj);
		while (vm_compress_pages() > limit / 4 &&
		    vm_pageout_spill(vms, e->obj->fam))
			;
		vm_object_unlock(e->obj);
	}
	/* a compressed page frees a part of itself only: again */
	for (int i = 0; i < 16 && (n = vm_pageout_resident(vms)) > limit; i++)
		if (vm_pageout_some(vms, n - limit +
			base_min(VM_PAGEOUT_EXTRA, limit / 16), NULL) == 0)
			break;
	vm_reserve_note(vms, n);
}

bool
vm_pageout_stuck(struct vmspace *vms)
{
	uint64_t limit = atomic_load_explicit(&vms->limit, memory_order_relaxed);

	if (limit == 0 || !vms->cfg.hard_limit || !vms->swap_failed ||
	    vm_pageout_resident(vms) < limit)
		return false;
	/* The one who waits is the one who tries again. */
	(void)vm_pageout_some(vms, VM_PAGEOUT_EXTRA, NULL);
	return vm_pageout_resident(vms) >= limit;
}

uint64_t
vmspace_reclaim(struct vmspace *vms, uint64_t bytes)
{
	uint64_t left;

	lock_acquire(&vms->lock);
	left = vm_pageout_some(vms, bytes / VMM_PAGE_SIZE, NULL);
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
	if (bytes != 0)
		vm_reserve_start(vms);
	vm_pageout_balance(vms);
	lock_release(&vms->lock);
	return 0;
}

uint64_t
vmspace_limit(struct vmspace *vms)
{
	return atomic_load(&vms->limit) * VMM_PAGE_SIZE;
}
