/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmspace and map: gpa ranges onto objects.
 *
 * MAP-1  Entries are sorted, do not overlap, and each holds a reference on
 *        its object, in whose list it stands.
 * MAP-2  What the pmap maps at a gpa is the page that the entry's object shows
 *        there, with no more than the entry's rights; without write if the
 *        page belongs to an object behind it.
 *
 * Locks: map, then object family, then swap, then pmap.
 */
#include <errno.h>

#include "vm/vm_int.h"

int
vm_init(void)
{
	return host_dmap_init();
}

int
vmspace_create(const struct vmspace_config *cfg, struct vmspace **vmsp)
{
	struct vmspace *vms = host_alloc(sizeof(*vms));
	int error;

	if (vms == NULL)
		return -ENOMEM;
	error = pmap_create(cfg->type, cfg->pmap_flags, cfg->cb, cfg->arg, &vms->pmap);
	if (error != 0) {
		host_free(vms);
		return error;
	}
	vm_count(spaces, 1);
	vms->cfg = *cfg;
	for (unsigned i = 0; i < VM_NLOST; i++)
		vms->lost[i] = VM_MAXGPA;
	lock_init(&vms->lock, "vm_map", LOCK_RANK_VM_MAP);
	vm_reserve_init(vms);
	*vmsp = vms;
	return 0;
}

struct pmap *
vmspace_pmap(struct vmspace *vms)
{
	return vms->pmap;
}

struct vm_entry *
vm_entry_lookup(struct vmspace *vms, gpa_t gpa)
{
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next)
		if (gpa < e->end)
			return gpa >= e->start ? e : NULL;
	return NULL;
}

/* A page that shows through from behind is never dirty: only the own count. */
static void
vm_entry_removed(void *arg, gpa_t gpa, hpa_t hpa, bool accessed, bool dirty)
{
	struct vm_entry *e = arg;
	uint64_t pindex = (e->off + (gpa - e->start)) / VMM_PAGE_SIZE;
	struct vm_page *p = vm_object_page(e->obj, pindex);

	if (p == NULL || hpa != vm_page_hpa(e->obj, pindex))
		return;
	if (dirty)
		vm_page_dirty(p);
	if (accessed)
		vm_page_accessed(p);
}

/* Takes the entry's pages out of the pmap. => on return no vCPU uses them */
static void
vm_entry_unmap(struct vm_entry *e)
{
	bool any;

	vm_object_lock(e->obj);
	any = pmap_remove_deferred(e->vms->pmap, e->start, e->end - e->start,
	    vm_entry_removed, e);
	if (any)
		pmap_invalidate(e->vms->pmap);
	vm_object_unlock(e->obj);
}

static struct vm_page *
vm_entry_page(struct vm_entry *e, gpa_t gpa, struct vm_object **op, uint64_t *ip)
{
	struct vm_page *p = vm_object_find(e->obj,
	    (e->off + (gpa - e->start)) / VMM_PAGE_SIZE, op, ip);

	KASSERT(p != NULL, "wired page of %lx is gone", gpa);
	return p;
}

/* Wires what is not yet wired of e. */
static int
vm_entry_wire(struct vmspace *vms, struct vm_entry *e) LOCK_REQUIRES(&vms->lock)
{
	int error = 0;

	while (e->wired_end < e->end && error == 0) {
		struct vm_object *o;
		struct vm_page *p;

		error = vm_fault_locked(vms, e->wired_end, e->prot & VMM_PROT_RW,
		    0, VM_WIRE_ENTRY, NULL, &o, &p);
	}
	return error;
}

/* Family locked. */
static void
vm_entry_unwire(struct vm_entry *e, bool dirty)
{
	for (gpa_t g = e->start; g < e->wired_end; g += VMM_PAGE_SIZE) {
		struct vm_object *o;
		uint64_t i;
		struct vm_page *p = vm_entry_page(e, g, &o, &i);

		if (dirty)
			vm_page_dirty(p);
		vm_page_wire(o, p, -1);
	}
	e->wired_end = e->start;
}

/* Undoes an entry that is out of the map already; drops its reference. */
static void
vm_entry_detach(struct vm_entry *e)
{
	struct vm_entry **ep;

	vm_entry_unmap(e);
	vm_object_lock(e->obj);
	vm_entry_unwire(e, false);
	for (ep = &e->obj->entries; *ep != e; ep = &(*ep)->obj_next)
		;
	*ep = e->obj_next;
	vm_object_unlock(e->obj);
}

void
vmspace_destroy(struct vmspace *vms)
{
	struct vm_entry *e;

	KASSERT(atomic_load(&vms->held) == 0, "%lu pages are held",
	    atomic_load(&vms->held));
	vm_reserve_fini(vms);
	while ((e = vms->entries) != NULL) {
		vms->entries = e->next;
		vm_entry_detach(e);
		vm_object_rele(e->obj);
		host_free(e);
		vm_count(entries, -1);
	}
	vm_count(spaces, -1);
	pmap_destroy(vms->pmap);
	lock_fini(&vms->lock);
	host_free(vms);
}

int
vm_map_insert(struct vmspace *vms, gpa_t gpa, uint64_t len, struct vm_object *obj,
    uint64_t off, int prot, unsigned flags)
{
	struct vm_entry **ep, *e, *n;
	int error = 0;

	if (prot == 0 || (prot & ~VMM_PROT_ALL) != 0 || len == 0 ||
	    ((gpa | len | off) & VMM_PAGE_MASK) != 0 || off + len < off ||
	    off + len > obj->len || (flags & ~(unsigned)VM_MAP_F_WIRED) != 0)
		return -EINVAL;
	if (gpa + len < gpa || gpa + len > VM_MAXGPA)
		return -EFAULT;
	if ((prot & ~obj->prot) != 0)
		return -EACCES;
	n = host_alloc(sizeof(*n));
	if (n == NULL)
		return -ENOMEM;
	lock_acquire(&vms->lock);
	for (ep = &vms->entries; (e = *ep) != NULL && e->end <= gpa; ep = &e->next)
		;
	if (e != NULL && e->start < gpa + len) {
		lock_release(&vms->lock);
		host_free(n);
		return -EFAULT;
	}
	*n = (struct vm_entry) { .next = e, .vms = vms, .start = gpa,
		.end = gpa + len, .obj = obj, .off = off, .prot = prot,
		.maxprot = prot, .wired_end = gpa, .flags = flags };
	vm_object_ref(obj);
	*ep = n;
	vm_object_lock(obj);
	vm_count(entries, 1);
	n->obj_next = obj->entries;
	obj->entries = n;
	vm_object_unlock(obj);
	if ((flags & VM_MAP_F_WIRED) != 0)
		error = vm_entry_wire(vms, n);
	/* memory that can be had later only is not wired */
	if (error == 0 && (flags & VM_MAP_F_WIRED) != 0 &&
	    obj->kind == VM_OBJECT_ANON && obj->backing == NULL)
		error = host_dmap_populate(vm_page_hpa(obj, off / VMM_PAGE_SIZE), len);
	lock_release(&vms->lock);
	if (error != 0 && vm_map_remove(vms, gpa, len) != 0)
		KASSERT(0, "entry vanished");
	return error;
}

int
vm_map_remove(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	struct vm_entry **ep, *e;

	lock_acquire(&vms->lock);
	for (ep = &vms->entries; (e = *ep) != NULL && e->start != gpa; ep = &e->next)
		;
	if (e == NULL || e->end != gpa + len) {
		lock_release(&vms->lock);
		return -EINVAL;
	}
	*ep = e->next;
	vm_entry_detach(e);
	lock_release(&vms->lock);
	if (vms->cfg.unmapped != NULL)
		vms->cfg.unmapped(vms->cfg.arg, gpa, len);
	vm_object_rele(e->obj);
	host_free(e);
	vm_count(entries, -1);
	return 0;
}

int
vm_map_protect(struct vmspace *vms, gpa_t gpa, uint64_t len, int prot)
{
	struct vm_entry *e;

	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	if (e == NULL || e->start != gpa || e->end != gpa + len ||
	    (prot & ~e->maxprot) != 0) {
		lock_release(&vms->lock);
		return -EINVAL;
	}
	e->prot = prot;
	/* they come back with the new rights */
	vm_entry_unmap(e);
	lock_release(&vms->lock);
	return 0;
}

int
vm_map_wire(struct vmspace *vms, gpa_t gpa, uint64_t len, vm_wired_fn *fn, void *arg)
{
	struct vm_entry *e;
	int error;

	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	if (e == NULL || e->start != gpa || e->end != gpa + len) {
		lock_release(&vms->lock);
		return -EINVAL;
	}
	error = vm_entry_wire(vms, e);
	for (gpa_t g = gpa; g < gpa + len && error == 0; g += VMM_PAGE_SIZE) {
		struct vm_object *o;
		uint64_t i;

		vm_object_lock(e->obj);
		(void)vm_entry_page(e, g, &o, &i);
		error = fn(arg, g, vm_page_hpa(o, i));
		vm_object_unlock(e->obj);
	}
	if (error != 0 && (e->flags & VM_MAP_F_WIRED) == 0) {
		vm_object_lock(e->obj);
		vm_entry_unwire(e, (e->prot & VMM_PROT_WRITE) != 0);
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
	return error;
}

void
vm_map_unwire(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	struct vm_entry *e;

	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	KASSERT(e != NULL && e->start == gpa && e->end == gpa + len &&
		e->wired_end == e->end, "unwire of %lx+%lx", gpa, len);
	vm_object_lock(e->obj);
	if ((e->flags & VM_MAP_F_WIRED) == 0)
		vm_entry_unwire(e, (e->prot & VMM_PROT_WRITE) != 0);
	else if ((e->prot & VMM_PROT_WRITE) != 0)
		for (gpa_t g = gpa; g < e->end; g += VMM_PAGE_SIZE) {
			struct vm_object *o;
			uint64_t i;

			vm_page_dirty(vm_entry_page(e, g, &o, &i));
		}
	vm_object_unlock(e->obj);
	lock_release(&vms->lock);
}

int
vmspace_pin(struct vmspace *vms)
{
	int error = 0;

	lock_acquire(&vms->lock);
	if (atomic_load(&vms->limit) != 0)
		error = -EBUSY;
	else
		vms->pinned = true;
	lock_release(&vms->lock);
	return error;
}

void
vmspace_unpin(struct vmspace *vms)
{
	lock_acquire(&vms->lock);
	vms->pinned = false;
	lock_release(&vms->lock);
}

bool
vm_map_lookup(struct vmspace *vms, gpa_t gpa, gpa_t *startp, gpa_t *endp, int *protp)
{
	struct vm_entry *e;

	lock_acquire(&vms->lock);
	e = vm_entry_lookup(vms, gpa);
	if (e != NULL) {
		*startp = e->start;
		*endp = e->end;
		*protp = e->prot;
	}
	lock_release(&vms->lock);
	return e != NULL;
}

void
vmspace_stats(struct vmspace *vms, struct vm_stats *st)
{
	struct pmap_stats ps;

	lock_acquire(&vms->lock);
	*st = vms->st;
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		struct vm_entry *f = vms->entries;

		/* each object once, and what lies behind it */
		while (f != e && f->obj != e->obj)
			f = f->next;
		if (f != e)
			continue;
		vm_object_lock(e->obj);
		for (struct vm_object *o = e->obj; o != NULL; o = o->backing) {
			st->resident += o->nresident;
			st->wired += o->nwired;
			st->swapped += o->nswapped - o->ncompressed;
			st->compressed += o->ncompressed;
			st->zero += o->nzero;
			if (o != e->obj)
				st->shared += o->nresident;
		}
		vm_object_unlock(e->obj);
	}
	lock_release(&vms->lock);
	st->compressed_bytes = vm_compress_bytes();
	st->pool = vm_compress_pages();
	st->held = atomic_load(&vms->held);
	st->lost = host_dmap_lost();
	pmap_stats_get(vms->pmap, &ps);
	st->superpages = ps.large[0] + ps.large[1];
	st->promotions = ps.promotions;
	st->demotions = ps.demotions;
	st->invalidations = ps.invalidations;
	st->kicks = ps.kicks;
	st->pt_pages = ps.pt_pages;
}
