/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A nested fault: entry, page, contents, pmap (docs/GUEST-MEMORY.md).
 * The map's lock is held, and the family's while a page is found and entered.
 * A read from swap happens under neither: its pages are busy meanwhile, who
 * wants one waits for it, and the fault begins anew afterwards.
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

#define VM_READAHEAD 8u	    /* pages, at first */
#define VM_READAHEAD_MAX 32u /* where each fault is at the end of the last */

/* => family locked */
static void
vm_fault_arrived(struct vm_object *o, struct vm_page *p, bool asked)
{
	vm_page_set_state(o, p, VM_PAGE_RESIDENT);
	p->flags &= (uint8_t)~(VM_PAGE_F_DIRTY | VM_PAGE_F_REF);
	vm_page_enqueue(o, p, asked);
}

/* The pool gives its memory back at once, so the page is its only copy then. */
static int
vm_fault_unpack(struct vmspace *vms, struct vm_object *o, uint64_t i,
    struct vm_page *p) LOCK_REQUIRES(&vms->lock)
{
	if (vm_compress_load(p->slot, PHYS_TO_DMAP(vm_page_hpa(o, i))) != 0) {
		vm_page_give_back(vm_page_hpa(o, i), VMM_PAGE_SIZE);
		return -EIO;
	}
	if (o->clock - p->next < o->nresident)
		VM_COUNT(vms, o, refaults, 1);
	VM_COUNT(vms, o, faults_swap, 1);
	VM_COUNT(vms, o, pageins, 1);
	vm_compress_free(p->slot);
	vm_page_slot(o, p, VM_NIL);
	vm_fault_arrived(o, p, true);
	p->flags |= VM_PAGE_F_DIRTY;
	return 0;
}

/* Makes page i of o, and neighbours that lie next to it in swap, busy. */
static void
vm_fault_begin(struct vm_object *o, uint64_t i, struct vm_page *p, struct vm_io *io)
{
	uint64_t last = o->len / VMM_PAGE_SIZE;
	unsigned max = VM_READAHEAD;

	if (i == o->ra_next)
		max = base_min(o->ra_pages * 2, VM_READAHEAD_MAX);
	*io = (struct vm_io) { .o = o, .i = i, .slot = p->slot,
		.refault = o->clock - p->next < o->nresident };
	do {
		p->flags |= VM_PAGE_F_BUSY;
		if (++io->n >= max || i + io->n >= last)
			break;
		p = vm_object_page(o, i + io->n);
	} while (p != NULL && p->state == VM_PAGE_SWAPPED &&
	    p->slot == io->slot + io->n && (p->flags & VM_PAGE_F_BUSY) == 0);
	o->ra_next = i + io->n;
	o->ra_pages = max;
}

/* => any locks or none */
static void
vm_fault_read(struct vm_io *io, unsigned *gotp)
{
	hpa_t hpa = vm_page_hpa(io->o, io->i);
	unsigned n = io->n;

	io->error = vm_swap_read(PHYS_TO_DMAP(hpa), n, io->slot);
	if (io->error != 0 && n > 1) {
		vm_page_give_back(hpa, n * VMM_PAGE_SIZE);
		n = 1;
		io->error = vm_swap_read(PHYS_TO_DMAP(hpa), 1, io->slot);
	}
	if (io->error != 0) {
		/* the page stays where it is: fail closed */
		vm_page_give_back(hpa, VMM_PAGE_SIZE);
		n = 0;
	}
	*gotp = n;
}

/* => family locked */
static void
vm_fault_end(struct vm_io *io, unsigned got)
{
	struct vm_object *o = io->o;

	for (unsigned k = 0; k < io->n; k++) {
		struct vm_page *p = vm_object_page(o, io->i + k);

		p->flags &= (uint8_t)~VM_PAGE_F_BUSY;
		if (k < got)
			vm_fault_arrived(o, p, k == 0);
	}
	if (got != 0) {
		o->st.refaults += io->refault;
		o->st.faults_swap++;
		o->st.pageins += got;
	}
	io->n = got;
	lock_cond_broadcast(&o->fam->busy);
}

static void
vm_fault_count(struct vmspace *vms, const struct vm_io *io)
    LOCK_REQUIRES(&vms->lock)
{
	if (io->n != 0) {
		vms->st.refaults += io->refault;
		vms->st.faults_swap++;
		vms->st.pageins += io->n;
	}
}

/* What vm_fault_locked() has put off; without locks. */
static void
vm_fault_io(struct vm_io *io)
{
	unsigned got = 0;

	if (io->n != 0)
		vm_fault_read(io, &got);
	vm_object_lock(io->o);
	if (io->n != 0)
		vm_fault_end(io, got);
	else
		while ((vm_object_page(io->o, io->i)->flags & VM_PAGE_F_BUSY) != 0)
			vm_object_wait(io->o);
	vm_object_unlock(io->o);
	vm_object_rele(io->o);
}

/* Page i of o is someone else's for now. => -EAGAIN: look again, after
 * vm_fault_io() */
static int
vm_fault_busy(struct vm_object *o, uint64_t i, struct vm_io *io)
{
	if (io == NULL) {
		vm_object_wait(o);
	} else {
		*io = (struct vm_io) { .o = o, .i = i };
		vm_object_ref(o);
	}
	return -EAGAIN;
}

/* Page i of o, which is in swap. => -EAGAIN: look again, after vm_fault_io() */
static int
vm_fault_pagein(struct vmspace *vms, struct vm_object *o, uint64_t i,
    struct vm_page *p, struct vm_io *io) LOCK_REQUIRES(&vms->lock)
{
	struct vm_io mine;
	unsigned got;

	if (vm_slot_compressed(p->slot))
		return vm_fault_unpack(vms, o, i, p);
	if (io != NULL) {
		vm_fault_begin(o, i, p, io);
		vm_object_ref(o);
		return -EAGAIN;
	}
	vm_fault_begin(o, i, p, &mine);
	vm_fault_read(&mine, &got);
	vm_fault_end(&mine, got);
	vm_fault_count(vms, &mine);
	return mine.error != 0 ? -EIO : 0;
}

/* How many entries have wired what they see at pi of obj, or through it. */
static int
vm_fault_wires(struct vm_object *obj, uint64_t pi)
{
	uint64_t off = pi * VMM_PAGE_SIZE;
	int n = 0;

	for (struct vm_entry *e = obj->entries; e != NULL; e = e->obj_next)
		n += off >= e->off && off - e->off < e->wired_end - e->start;
	for (struct vm_object *s = obj->shadows; s != NULL; s = s->sibling) {
		struct vm_page *own;

		if (off < s->backing_off || off - s->backing_off >= s->len)
			continue;
		own = vm_object_page(s, (off - s->backing_off) / VMM_PAGE_SIZE);
		if (own == NULL || own->state == VM_PAGE_NONE)
			n += vm_fault_wires(s,
			    (off - s->backing_off) / VMM_PAGE_SIZE);
	}
	return n;
}

/* Makes the page that obj shows at pi resident; for a write, obj's own. */
static int
vm_fault_page(struct vmspace *vms, struct vm_object *obj, uint64_t pi, bool write,
    struct vm_io *io, struct vm_object **objp, uint64_t *pip) LOCK_REQUIRES(&vms->lock)
{
	struct vm_page *top = vm_object_page_make(obj, pi), *p;
	struct vm_object *o;
	uint64_t i;
	int error, wires;

	if (top == NULL)
		return -ENOMEM;
	p = vm_object_find(obj, pi, &o, &i);
	*objp = obj;
	*pip = pi;
	if (p != NULL && (p->flags & VM_PAGE_F_BUSY) != 0)
		return vm_fault_busy(o, i, io);
	if (p == NULL && o->kind == VM_OBJECT_FILE) {
		error = vm_file_pagein(o, i);
		if (error != 0)
			return error;
		VM_COUNT(vms, o, faults_file, 1);
	} else if (p == NULL || p->state == VM_PAGE_ZERO) {
		VM_COUNT(vms, obj, faults_zero, 1);
		vm_page_set_state(obj, top, VM_PAGE_RESIDENT);
		top->flags = 0;
		vm_page_enqueue(obj, top, true);
		return 0;
	} else if (p->state == VM_PAGE_SWAPPED) {
		error = vm_fault_pagein(vms, o, i, p, io);
		if (error != 0)
			return error;
	} else
		VM_COUNT(vms, o, faults_prot, 1);
	if (o == obj)
		return 0;
	if (!write) {
		*objp = o;
		*pip = i;
		return 0;
	}
	/* copy on write; who saw the page through obj must look again, and what
	 * they had wired is the copy now */
	VM_COUNT(vms, obj, faults_cow, 1);
	wires = vm_fault_wires(obj, pi);
	vm_object_unmap(obj, pi, NULL);
	memcpy(PHYS_TO_DMAP(vm_page_hpa(obj, pi)), PHYS_TO_DMAP(vm_page_hpa(o, i)),
	    VMM_PAGE_SIZE);
	vm_page_set_state(obj, top, VM_PAGE_RESIDENT);
	top->flags = 0;
	vm_page_dirty(top);
	if (vm_object_page(o, i)->mark[VM_MARK_ACCESSED] != 0)
		vm_page_mark(top, VM_MARK_ACCESSED);
	vm_page_enqueue(obj, top, true);
	if (wires != 0) {
		vm_page_wire(o, vm_object_page(o, i), -wires);
		vm_page_wire(obj, top, wires);
	}
	return 0;
}

/* Page p has just come, and ends a run, upwards or downwards. */
static bool
vm_fault_run(const struct vm_chunk *c, const struct vm_page *p)
{
	unsigned first = base_rounddown(p->idx, VM_HUGE_RUN), n = 0;

	if (c->nresident == VM_HUGE_AT)
		return true;
	if (p->idx != first && p->idx != first + VM_HUGE_RUN - 1)
		return false;
	while (n < VM_HUGE_RUN && c->page[first + n].state == VM_PAGE_RESIDENT)
		n++;
	return n == VM_HUGE_RUN;
}

/* c waits for its other pages; what has waited longest no longer does. */
static void
vm_fault_open(struct vm_object *o, struct vm_chunk *c)
{
	uint32_t *place = &o->open[o->nopen++ % VM_HUGE_OPEN];
	struct vm_chunk *old = *place == 0 ? NULL : o->chunk[*place - 1];

	c->early = true;
	*place = c->first / VM_CHUNK + 1;
	if (old != NULL && old != c && old->huge && old->nresident < VM_CHUNK)
		vm_page_split(o, old);
}

/* The host's pages follow: early where memory has no limit, else when the
 * guest's mapping is large already.  Not while pages leave and come back: the
 * host would copy 2 MB for what soon goes piece by piece. */
static void
vm_fault_huge(struct vmspace *vms, struct vm_object *o, struct vm_page *p,
    bool large) LOCK_REQUIRES(&vms->lock)
{
	struct vm_chunk *c = vm_page_chunk(p);

	if (c->huge || !vm_object_pageable(o) || o->nswapped != 0 ||
	    (!large && o->kind != VM_OBJECT_ANON) ||
	    (vms->cfg.pmap_flags & PMAP_F_2M) == 0 ||
	    (!large && (atomic_load(&vms->limit) != 0 || !vm_fault_run(c, p))))
		return;
	if ((c->first + VM_CHUNK) * VMM_PAGE_SIZE > o->len)
		return;
	if (!large && c->early)
		return;
	if (!large && vms->huge_wait > 0) {
		vms->huge_wait--;
		return;
	}
	if (host_dmap_collapse(vm_page_hpa(o, c->first), VM_2M) == 0) {
		c->huge = true;
		vms->huge_back = 0;
		if (!large)
			vm_fault_open(o, c);
		vms->st.collapses++;
	} else {
		/* looking for one in vain is slow */
		vms->huge_back = base_min(vms->huge_back * 2 + 1, 1023u);
		vms->huge_wait = vms->huge_back;
		vms->st.collapse_fails++;
	}
}

/* An event for each page, once, for it will be tried again by all who wait. */
static void
vm_fault_lost(struct vmspace *vms, gpa_t gpa) LOCK_REQUIRES(&vms->lock)
{
	gpa &= ~(gpa_t)VMM_PAGE_MASK;
	if (vms->cfg.event == NULL)
		return;
	for (unsigned i = 0; i < VM_NLOST; i++)
		if (vms->lost[i] == gpa)
			return;
	vms->lost[vms->lost_next++ % VM_NLOST] = gpa;
	vms->cfg.event(vms->cfg.arg, VM_EVENT_LOST, gpa, -EIO);
}

int
vm_fault_locked(struct vmspace *vms, gpa_t gpa, int prot, int access,
    enum vm_wire wire, struct vm_io *io, struct vm_object **objp, struct vm_page **pagep)
{
	struct vm_entry *e = vm_entry_lookup(vms, gpa);
	struct vm_object *obj, *o;
	uint64_t pi, large;
	struct vm_page *p;
	bool limited = false;
	int error, allow;

	if (e == NULL || (e->prot & prot) != prot) {
		vms->st.faults_fail++;
		return -EFAULT;
	}
	obj = e->obj;
	vm_object_lock(obj);
	do
		error = vm_fault_page(vms, obj,
		    (e->off + (gpa - e->start)) / VMM_PAGE_SIZE,
		    (prot & VMM_PROT_WRITE) != 0, io, &o, &pi);
	while (error == -EAGAIN && io == NULL);
	if (error != 0)
		goto out;
	allow = o == obj ? e->prot : e->prot & ~VMM_PROT_WRITE;
	if (allow != 0) {
		error = pmap_enter(vms->pmap, gpa & ~VMM_PAGE_MASK,
		    vm_page_hpa(o, pi), allow | (o->prot & PMAP_PROT_UC), access,
		    &large);
		if (error != 0)
			goto out;
		vm_fault_huge(vms, o, vm_object_page(o, pi), large != 0);
	}
	p = vm_object_page(o, pi);
	/* what this fault brings in must not be what it pages out */
	limited = vms->limit != 0;
	if (wire != VM_WIRE_NO || limited)
		vm_page_wire(o, p, 1);
	if (wire == VM_WIRE_ENTRY)
		e->wired_end += VMM_PAGE_SIZE;
	*objp = o;
	*pagep = p;
out:
	vm_object_unlock(obj);
	if (error == -EIO)
		vm_fault_lost(vms, gpa);
	if (error == 0 && limited) {
		vm_pageout_balance(vms);
		if (wire == VM_WIRE_NO) {
			vm_object_lock(o);
			vm_page_wire(o, p, -1);
			vm_object_unlock(o);
		}
	}
	return error;
}

/* The same, with the map free while swap is read.  All is looked up again then,
 * for anything may have changed. */
static int
vm_fault_unlocked(struct vmspace *vms, gpa_t gpa, int prot, int access,
    enum vm_wire wire, struct vm_object **objp, struct vm_page **pagep)
    LOCK_REQUIRES(&vms->lock)
{
	struct vm_io io;
	int error;

	while ((error = vm_fault_locked(vms, gpa, prot, access, wire, &io, objp,
		    pagep)) == -EAGAIN) {
		lock_release(&vms->lock);
		vm_fault_io(&io);
		lock_acquire(&vms->lock);
		vm_fault_count(vms, &io);
		if (io.error != 0) {
			vm_fault_lost(vms, gpa);
			return -EIO;
		}
	}
	return error;
}

/* Would a fault at gpa need another page of memory? */
static bool
vm_fault_needs(struct vmspace *vms, gpa_t gpa, int access)
    LOCK_REQUIRES(&vms->lock)
{
	struct vm_entry *e = vm_entry_lookup(vms, gpa);
	struct vm_object *o;
	struct vm_page *p;
	bool needs;
	uint64_t i;

	if (e == NULL || (e->prot & access) != access)
		return false;
	vm_object_lock(e->obj);
	p = vm_object_find(e->obj, (e->off + (gpa - e->start)) / VMM_PAGE_SIZE,
	    &o, &i);
	needs = p == NULL || p->state != VM_PAGE_RESIDENT ||
	    (o != e->obj && (access & VMM_PROT_WRITE) != 0);
	vm_object_unlock(e->obj);
	return needs;
}

int
vm_fault(struct vmspace *vms, gpa_t gpa, int access)
{
	struct vm_object *o;
	struct vm_page *p;
	int error;

	lock_acquire(&vms->lock);
	if (pmap_emulate_accessed_dirty(vms->pmap, gpa, access) == 0) {
		vms->st.faults_ad++;
		error = 0;
	} else if (vms->swap_failed && vm_fault_needs(vms, gpa, access) &&
	    vm_pageout_stuck(vms))
		error = -ENOSPC;
	else
		error = vm_fault_unlocked(vms, gpa, access, access, VM_WIRE_NO, &o,
		    &p);
	if (error == -ENOSPC || error == -EIO)
		vms->st.stalls++;
	lock_release(&vms->lock);
	return error;
}

int
vm_hold(struct vmspace *vms, gpa_t gpa, uint64_t len, int prot, struct vm_hold *hold)
{
	struct vm_object *o;
	struct vm_page *p;
	int error;

	KASSERT(len > 0 && (gpa & VMM_PAGE_MASK) + len <= VMM_PAGE_SIZE,
	    "hold of %lu bytes at %lx crosses a page", len, gpa);
	lock_acquire(&vms->lock);
	error = vm_fault_unlocked(vms, gpa, prot, 0, VM_WIRE_HOLD, &o, &p);
	if (error == 0) {
		vm_object_ref(o);
		vm_object_lock(o);
		o->nheld++;
		vm_object_unlock(o);
	}
	lock_release(&vms->lock);
	if (error != 0)
		return error;
	atomic_fetch_add(&vms->held, 1);
	hold->ptr = (char *)PHYS_TO_DMAP(vm_page_hpa(o, vm_page_pindex(p))) +
	    (gpa & VMM_PAGE_MASK);
	hold->page = p;
	hold->gpa = gpa;
	hold->prot = prot;
	return 0;
}

void
vm_release(struct vmspace *vms, struct vm_hold *hold)
{
	struct vm_page *p = hold->page;
	struct vm_object *o = vm_page_chunk(p)->obj;

	KASSERT(atomic_load(&vms->held) > 0, "release without a hold");
	vm_object_lock(o);
	/* now, not when the hold began: its writes are done */
	if ((hold->prot & VMM_PROT_WRITE) != 0)
		vm_page_dirty(p);
	vm_page_wire(o, p, -1);
	o->nheld--;
	vm_object_unlock(o);
	atomic_fetch_sub(&vms->held, 1);
	vm_object_rele(o);
	hold->ptr = NULL;
}
