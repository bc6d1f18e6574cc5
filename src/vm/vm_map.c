/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmspace, map, objects, faults and holds.
 *
 * An object owns a range of the direct map; page i of it lies at base + i
 * pages, so pages that are neighbours in the object are neighbours in the
 * host.  A page is resident once its bit is set; the host backs it then.
 *
 * Locks: map, then object, then pmap.  A fault holds the map lock throughout.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "base/host.h"
#include "base/lock.h"
#include "vm/vm.h"

#define VM_MAXGPA (1ul << 47)
#define VM_2M (2ul << 20)

struct vm_object {
	_Atomic unsigned refs;
	uint64_t len; /* C */
	hpa_t base;   /* C */
	bool dev;     /* C */
	struct lock lock;
	uint64_t *resident; /* O: bit a page */
	uint64_t nresident; /* O */
};

struct vm_entry {
	struct vm_entry *next;
	gpa_t start, end;
	struct vm_object *obj;
	uint64_t off;
	int prot, maxprot;
	unsigned flags;
};

struct vmspace {
	struct lock lock;
	struct vm_entry *entries; /* M: sorted by start */
	struct pmap *pmap;
	struct vmspace_config cfg;
	_Atomic uint64_t held;
	struct vm_stats st; /* M */
};

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
	vms->cfg = *cfg;
	lock_init(&vms->lock, "vm_map", LOCK_RANK_VM_MAP);
	*vmsp = vms;
	return 0;
}

void
vmspace_destroy(struct vmspace *vms)
{
	struct vm_entry *e;

	while ((e = vms->entries) != NULL) {
		vms->entries = e->next;
		vm_object_rele(e->obj);
		host_free(e);
	}
	pmap_destroy(vms->pmap);
	lock_fini(&vms->lock);
	host_free(vms);
}

struct pmap *
vmspace_pmap(struct vmspace *vms)
{
	return vms->pmap;
}

static int
vm_object_new(uint64_t len, struct vm_object **objp)
{
	struct vm_object *obj;

	if (len == 0 || (len & VMM_PAGE_MASK) != 0 || len > VM_MAXGPA)
		return -EINVAL;
	obj = host_alloc(sizeof(*obj));
	if (obj == NULL)
		return -ENOMEM;
	obj->resident = host_alloc((len / VMM_PAGE_SIZE + 63) / 64 * 8);
	if (obj->resident == NULL) {
		host_free(obj);
		return -ENOMEM;
	}
	atomic_init(&obj->refs, 1);
	obj->len = len;
	lock_init(&obj->lock, "vm_object", LOCK_RANK_VM_OBJECT);
	*objp = obj;
	return 0;
}

static void
vm_object_delete(struct vm_object *obj)
{
	lock_fini(&obj->lock);
	host_free(obj->resident);
	host_free(obj);
}

int
vm_object_create_anon(uint64_t len, struct vm_object **objp)
{
	int error = vm_object_new(len, objp);

	if (error != 0)
		return error;
	error = host_dmap_alloc(base_roundup(len, VM_2M), &(*objp)->base);
	if (error != 0)
		vm_object_delete(*objp);
	return error;
}

int
vm_object_create_dev(int fd, uint64_t len, struct vm_object **objp)
{
	int error = vm_object_new(len, objp);

	if (error != 0)
		return error;
	error = host_dmap_alloc_fd(fd, 0, len, &(*objp)->base);
	if (error != 0)
		vm_object_delete(*objp);
	else
		(*objp)->dev = true;
	return error;
}

void
vm_object_ref(struct vm_object *obj)
{
	atomic_fetch_add(&obj->refs, 1);
}

void
vm_object_rele(struct vm_object *obj)
{
	if (atomic_fetch_sub(&obj->refs, 1) != 1)
		return;
	host_dmap_free(obj->base, base_roundup(obj->len, VM_2M));
	vm_object_delete(obj);
}

uint64_t
vm_object_resident(struct vm_object *obj)
{
	uint64_t n;

	lock_acquire(&obj->lock);
	n = obj->nresident;
	lock_release(&obj->lock);
	return n * VMM_PAGE_SIZE;
}

void
vm_object_set_incore(struct vm_object *obj, bool incore)
{
	host_dmap_set_incore(obj->base, base_roundup(obj->len, VM_2M),
	    incore);
}

/* => true if the page was not resident before */
static bool
vm_object_page(struct vm_object *obj, uint64_t pindex)
{
	uint64_t bit = 1ul << (pindex & 63);
	bool fresh;

	lock_acquire(&obj->lock);
	fresh = (obj->resident[pindex / 64] & bit) == 0;
	obj->resident[pindex / 64] |= bit;
	obj->nresident += fresh;
	lock_release(&obj->lock);
	return fresh;
}

static struct vm_entry *
vm_entry_lookup(struct vmspace *vms, gpa_t gpa)
{
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next)
		if (gpa < e->end)
			return gpa >= e->start ? e : NULL;
	return NULL;
}

static int
vm_fault_locked(struct vmspace *vms, gpa_t gpa, int access, hpa_t *hpap)
    LOCK_REQUIRES(&vms->lock)
{
	struct vm_entry *e = vm_entry_lookup(vms, gpa);
	uint64_t off;
	hpa_t hpa;
	int error;

	if (e == NULL || (e->prot & access) != access) {
		vms->st.faults_fail++;
		return -EFAULT;
	}
	off = e->off + (gpa - e->start);
	hpa = e->obj->base + off;
	if (vm_object_page(e->obj, off / VMM_PAGE_SIZE))
		vms->st.faults_zero++;
	else
		vms->st.faults_prot++;
	error = pmap_enter(vms->pmap, gpa & ~VMM_PAGE_MASK, hpa & ~VMM_PAGE_MASK,
	    e->prot, hpap != NULL ? 0 : access, NULL);
	if (error != 0)
		return error;
	if (hpap != NULL)
		*hpap = hpa;
	return 0;
}

int
vm_fault(struct vmspace *vms, gpa_t gpa, int access)
{
	int error;

	if (pmap_emulate_accessed_dirty(vms->pmap, gpa, access) == 0)
		return 0;
	lock_acquire(&vms->lock);
	error = vm_fault_locked(vms, gpa, access, NULL);
	lock_release(&vms->lock);
	return error;
}

int
vm_map_insert(struct vmspace *vms, gpa_t gpa, uint64_t len, struct vm_object *obj,
    uint64_t off, int prot, unsigned flags)
{
	struct vm_entry **ep, *e, *n;
	int error = 0;

	if (prot == 0 || (prot & ~VMM_PROT_ALL) != 0 || len == 0 ||
	    ((gpa | len | off) & VMM_PAGE_MASK) != 0 || off + len < off ||
	    off + len > obj->len)
		return -EINVAL;
	if (gpa + len < gpa || gpa + len > VM_MAXGPA)
		return -EFAULT;
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
	*n = (struct vm_entry) { e, gpa, gpa + len, obj, off, prot, prot, flags };
	vm_object_ref(obj);
	*ep = n;
	if ((flags & VM_MAP_F_WIRED) != 0)
		for (gpa_t g = gpa; g < gpa + len && error == 0; g += VMM_PAGE_SIZE)
			error = vm_fault_locked(vms, g, prot & VMM_PROT_RW, NULL);
	if ((flags & VM_MAP_F_WIRED) != 0 && error == 0)
		vms->st.wired += len / VMM_PAGE_SIZE;
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
	if ((e->flags & VM_MAP_F_WIRED) != 0)
		vms->st.wired -= len / VMM_PAGE_SIZE;
	lock_release(&vms->lock);
	pmap_remove(vms->pmap, gpa, len, NULL, NULL);
	if (vms->cfg.unmapped != NULL)
		vms->cfg.unmapped(vms->cfg.arg, gpa, len);
	vm_object_rele(e->obj);
	host_free(e);
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
	lock_release(&vms->lock);
	/* they come back with the new rights */
	pmap_remove(vms->pmap, gpa, len, NULL, NULL);
	return 0;
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

int
vm_hold(struct vmspace *vms, gpa_t gpa, uint64_t len, int prot, struct vm_hold *hold)
{
	hpa_t hpa;
	int error;

	KASSERT(len > 0 && (gpa & VMM_PAGE_MASK) + len <= VMM_PAGE_SIZE,
	    "hold of %lu bytes at %lx crosses a page", len, gpa);
	lock_acquire(&vms->lock);
	error = vm_fault_locked(vms, gpa, prot, &hpa);
	lock_release(&vms->lock);
	if (error != 0)
		return error;
	atomic_fetch_add(&vms->held, 1);
	hold->ptr = PHYS_TO_DMAP(hpa);
	hold->page = hold->ptr;
	hold->gpa = gpa;
	hold->prot = prot;
	return 0;
}

void
vm_release(struct vmspace *vms, struct vm_hold *hold)
{
	KASSERT(atomic_load(&vms->held) > 0, "release without a hold");
	atomic_fetch_sub(&vms->held, 1);
	hold->ptr = NULL;
}

void
vmspace_stats(struct vmspace *vms, struct vm_stats *st)
{
	lock_acquire(&vms->lock);
	*st = vms->st;
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next)
		st->resident += vm_object_resident(e->obj) / VMM_PAGE_SIZE;
	lock_release(&vms->lock);
	st->held = atomic_load(&vms->held);
}
