/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects: things that have pages.
 *
 * An object owns a range of the direct map; page i of it lies at base + i
 * pages, so pages that are neighbours in the object are neighbours in the
 * host, and superpages come about by themselves.  The state of pages is kept
 * in chunks that exist only where a page has been touched.
 *
 * A shadow sees, where it has no page of its own, the pages of the object
 * behind it; a write copies (vm_fault.c).  Objects that shadow each other are
 * a family, with one lock.  The mappings of a page are found through the map
 * entries of its object and of the shadows that see it: no reverse map.
 *
 * When only one shadow is left to see an anonymous object, its pages move into
 * that shadow and it goes (collapse).
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

void
vm_object_lock(struct vm_object *obj) LOCK_NO_ANALYSIS
{
	lock_acquire(&obj->fam->lock);
}

void
vm_object_unlock(struct vm_object *obj) LOCK_NO_ANALYSIS
{
	lock_release(&obj->fam->lock);
}

void
vm_object_wait(struct vm_object *obj) LOCK_NO_ANALYSIS
{
	(void)lock_cond_wait(&obj->fam->busy, &obj->fam->lock, -1);
}

struct vm_counts vm_counts;

void
vm_live_get(struct vm_live *live)
{
	live->spaces = atomic_load(&vm_counts.spaces);
	live->entries = atomic_load(&vm_counts.entries);
	live->objects = atomic_load(&vm_counts.objects);
	live->families = atomic_load(&vm_counts.families);
	live->chunks = atomic_load(&vm_counts.chunks);
	live->dmap = host_dmap_used();
}

struct vm_page *
vm_object_page(struct vm_object *obj, uint64_t pindex)
{
	struct vm_chunk *c = obj->chunk[pindex / VM_CHUNK];

	return c == NULL ? NULL : &c->page[pindex % VM_CHUNK];
}

struct vm_page *
vm_object_page_make(struct vm_object *obj, uint64_t pindex)
{
	struct vm_chunk **cp = &obj->chunk[pindex / VM_CHUNK], *c = *cp;

	if (c == NULL) {
		c = host_alloc(sizeof(*c));
		if (c == NULL)
			return NULL;
		vm_count(chunks, 1);
		c->obj = obj;
		c->first = (uint32_t)(pindex / VM_CHUNK * VM_CHUNK);
		for (unsigned i = 0; i < VM_CHUNK; i++) {
			c->page[i].idx = (uint16_t)i;
			c->page[i].slot = VM_NIL;
		}
		*cp = c;
	}
	return &c->page[pindex % VM_CHUNK];
}

struct vm_page *
vm_object_find(struct vm_object *obj, uint64_t pindex, struct vm_object **objp,
    uint64_t *pindexp)
{
	struct vm_page *p = vm_object_page(obj, pindex);

	while ((p == NULL || p->state == VM_PAGE_NONE) && obj->backing != NULL) {
		pindex += obj->backing_off / VMM_PAGE_SIZE;
		obj = obj->backing;
		p = vm_object_page(obj, pindex);
	}
	*objp = obj;
	*pindexp = pindex;
	return p == NULL || p->state == VM_PAGE_NONE ? NULL : p;
}

static uint64_t
vm_object_nchunk(const struct vm_object *obj)
{
	return (obj->len / VMM_PAGE_SIZE + VM_CHUNK - 1) / VM_CHUNK;
}

/* fam: of the family to join, or NULL */
static int
vm_object_new(uint64_t len, struct vm_family *fam, struct vm_object **objp)
{
	struct vm_object *obj;

	if (len == 0 || (len & VMM_PAGE_MASK) != 0 || len >= 1ul << 43)
		return -EINVAL;
	obj = host_alloc(sizeof(*obj));
	if (obj == NULL)
		return -ENOMEM;
	obj->len = len;
	obj->chunk = host_alloc(vm_object_nchunk(obj) * sizeof(*obj->chunk));
	obj->fam = fam != NULL ? fam : host_alloc(sizeof(*fam));
	if (obj->chunk == NULL || obj->fam == NULL) {
		host_free(obj->chunk);
		if (fam == NULL)
			host_free(obj->fam);
		host_free(obj);
		return -ENOMEM;
	}
	if (fam == NULL) {
		lock_init(&obj->fam->lock, "vm_object", LOCK_RANK_VM_OBJECT);
		lock_cond_init(&obj->fam->busy);
		vm_count(families, 1);
	}
	vm_count(objects, 1);
	obj->prot = VMM_PROT_ALL;
	obj->file = -1;
	atomic_fetch_add(&obj->fam->refs, 1);
	atomic_init(&obj->refs, 1);
	*objp = obj;
	return 0;
}

static void
vm_family_rele(struct vm_family *fam)
{
	if (atomic_fetch_sub(&fam->refs, 1) != 1)
		return;
	lock_cond_fini(&fam->busy);
	lock_fini(&fam->lock);
	host_free(fam);
	vm_count(families, -1);
}

static void
vm_object_delete(struct vm_object *obj)
{
	for (uint64_t i = 0; i < vm_object_nchunk(obj); i++) {
		struct vm_chunk *c = obj->chunk[i];

		for (unsigned k = 0; c != NULL && k < VM_CHUNK; k++) {
			KASSERT(c->page[k].wire == 0, "object goes with a wired page");
			if (c->page[k].slot != VM_NIL)
				vm_swap_free(c->page[k].slot);
		}
		if (c != NULL)
			vm_count(chunks, -1);
		host_free(c);
	}
	host_free(obj->chunk);
	if (obj->file >= 0)
		host_file_close(obj->file);
	vm_family_rele(obj->fam);
	host_free(obj);
	vm_count(objects, -1);
}

static int
vm_object_create_common(uint64_t len, int fd, struct vm_family *fam,
    struct vm_object **objp)
{
	struct vm_object *obj;
	int error = vm_object_new(len, fam, &obj);

	if (error != 0)
		return error;
	if (fd < 0)
		error = host_dmap_alloc(base_roundup(len, VM_2M), &obj->base);
	else
		error = host_dmap_alloc_fd(fd, 0, len, &obj->base);
	if (error != 0) {
		vm_object_delete(obj);
		return error;
	}
	obj->kind = fd < 0 ? VM_OBJECT_ANON : VM_OBJECT_DEV;
	*objp = obj;
	return 0;
}

int
vm_object_create_kind(enum vm_object_kind kind, uint64_t len,
    struct vm_object **objp)
{
	int error = vm_object_create_common(len, -1, NULL, objp);

	if (error == 0)
		(*objp)->kind = kind;
	return error;
}

int
vm_object_create_anon(uint64_t len, struct vm_object **objp)
{
	return vm_object_create_common(len, -1, NULL, objp);
}

int
vm_object_create_dev(int fd, uint64_t len, struct vm_object **objp)
{
	return fd < 0 ? -EINVAL : vm_object_create_common(len, fd, NULL, objp);
}

int
vm_object_create_shadow(struct vm_object *backing, uint64_t off, uint64_t len,
    struct vm_object **objp)
{
	struct vm_object *obj;
	int error;

	if ((off & VMM_PAGE_MASK) != 0 || off + len < off ||
	    off + len > backing->len || !vm_object_pageable(backing))
		return -EINVAL;
	error = vm_object_create_common(len, -1, backing->fam, &obj);
	if (error != 0)
		return error;
	vm_object_ref(backing);
	vm_object_lock(backing);
	obj->backing = backing;
	obj->backing_off = off;
	obj->sibling = backing->shadows;
	backing->shadows = obj;
	vm_object_unlock(backing);
	*objp = obj;
	return 0;
}

void
vm_object_ref(struct vm_object *obj)
{
	atomic_fetch_add(&obj->refs, 1);
}

static void
vm_object_unlink(struct vm_object *obj)
{
	struct vm_object **op = &obj->backing->shadows;

	while (*op != obj)
		op = &(*op)->sibling;
	*op = obj->sibling;
}

/* Moves what s sees of its backing object into s, and takes that object's
 * place. => -ENOMEM: all is as it was, or some pages have moved already */
static int
vm_object_collapse(struct vm_object *s)
{
	struct vm_object *b = s->backing;
	uint64_t boff = s->backing_off / VMM_PAGE_SIZE;

	for (uint64_t i = 0; i < s->len / VMM_PAGE_SIZE; i++) {
		struct vm_page *bp = vm_object_page(b, boff + i), *sp;

		if (bp == NULL || bp->state == VM_PAGE_NONE)
			continue;
		sp = vm_object_page_make(s, i);
		if (sp == NULL)
			return -ENOMEM;
		if (sp->state != VM_PAGE_NONE)
			continue;
		if (bp->wire != 0)
			return -EBUSY;
		vm_object_unmap(b, boff + i, NULL);
		if (bp->state == VM_PAGE_RESIDENT) {
			memcpy(PHYS_TO_DMAP(vm_page_hpa(s, i)),
			    PHYS_TO_DMAP(vm_page_hpa(b, boff + i)), VMM_PAGE_SIZE);
			vm_page_give_back(vm_page_hpa(b, boff + i),
			    VMM_PAGE_SIZE);
		}
		vm_page_slot(s, sp, bp->slot);
		if (vm_slot_compressed(sp->slot))
			vm_compress_moved(sp->slot, sp);
		for (unsigned k = 0; k < VM_NMARK; k++)
			if (bp->mark[k] != 0)
				vm_page_mark(sp, k);
		sp->flags = bp->flags & VM_PAGE_F_DIRTY;
		vm_page_set_state(s, sp, bp->state);
		if (sp->state == VM_PAGE_RESIDENT)
			vm_page_enqueue(s, sp, true);
		vm_page_slot(b, bp, VM_NIL);
		vm_page_set_state(b, bp, VM_PAGE_NONE);
	}
	vm_object_unlink(s);
	s->backing = b->backing;
	s->backing_off += b->backing_off;
	if (b->backing != NULL) {
		vm_object_unlink(b);
		s->sibling = b->backing->shadows;
		b->backing->shadows = s;
		b->backing = NULL; /* its reference is s's now */
	}
	return 0;
}

void
vm_object_rele(struct vm_object *obj) LOCK_NO_ANALYSIS
{
	while (obj != NULL) {
		struct vm_object *backing = NULL, *gone = NULL;
		struct vm_family *fam = obj->fam;
		bool last;

		atomic_fetch_add(&fam->refs, 1);
		vm_object_lock(obj);
		last = atomic_fetch_sub(&obj->refs, 1) == 1;
		if (last && obj->backing != NULL) {
			backing = obj->backing;
			vm_object_unlink(obj);
		} else if (!last && atomic_load(&obj->refs) == 1 &&
		    obj->shadows != NULL && obj->entries == NULL &&
		    obj->kind == VM_OBJECT_ANON &&
		    vm_object_collapse(obj->shadows) == 0)
			gone = obj;
		lock_release(&fam->lock);
		if (gone != NULL)
			last = true;
		if (last) {
			host_dmap_free(obj->base, base_roundup(obj->len, VM_2M));
			vm_object_delete(obj);
		}
		vm_family_rele(fam);
		obj = backing;
	}
}

uint64_t
vm_object_resident(struct vm_object *obj)
{
	uint64_t n;

	vm_object_lock(obj);
	n = obj->nresident;
	vm_object_unlock(obj);
	return n * VMM_PAGE_SIZE;
}

void
vm_object_set_incore(struct vm_object *obj, bool incore)
{
	host_dmap_set_incore(obj->base, base_roundup(obj->len, VM_2M), incore);
}

/* --- mappings of a page ------------------------------------------------- */

void
vm_defer_add(struct vm_defer *d, struct pmap *pm)
{
	for (unsigned i = 0; i < d->n; i++)
		if (d->pmap[i] == pm)
			return;
	if (d->n == VM_MAXDEFER)
		vm_defer_finish(d);
	d->pmap[d->n++] = pm;
}

void
vm_defer_finish(struct vm_defer *d)
{
	for (unsigned i = 0; i < d->n; i++)
		pmap_invalidate(d->pmap[i]);
	d->n = 0;
}

typedef void vm_mapping_fn(struct pmap *pm, gpa_t gpa, struct vm_page *p,
    struct vm_defer *d, bool *resultp);

static void
vm_object_mappings(struct vm_object *obj, uint64_t pindex, struct vm_page *p,
    vm_mapping_fn *fn, struct vm_defer *d, bool *resultp)
{
	uint64_t off = pindex * VMM_PAGE_SIZE;

	for (struct vm_entry *e = obj->entries; e != NULL; e = e->obj_next)
		if (off >= e->off && off - e->off < e->end - e->start)
			fn(e->vms->pmap, e->start + (off - e->off), p, d, resultp);
	for (struct vm_object *s = obj->shadows; s != NULL; s = s->sibling) {
		struct vm_page *own;

		if (off < s->backing_off || off - s->backing_off >= s->len)
			continue;
		own = vm_object_page(s, (off - s->backing_off) / VMM_PAGE_SIZE);
		if (own == NULL || own->state == VM_PAGE_NONE)
			vm_object_mappings(s, (off - s->backing_off) / VMM_PAGE_SIZE,
			    p, fn, d, resultp);
	}
}

static void
vm_unmap_removed(void *arg, gpa_t gpa, hpa_t hpa, bool accessed, bool dirty)
{
	struct vm_page *p = arg;

	(void)gpa;
	(void)hpa;
	if (dirty)
		vm_page_dirty(p);
	if (accessed)
		vm_page_accessed(p);
}

static void
vm_unmap_one(struct pmap *pm, gpa_t gpa, struct vm_page *p, struct vm_defer *d,
    bool *resultp)
{
	(void)resultp;
	if (pmap_remove_deferred(pm, gpa, VMM_PAGE_SIZE, vm_unmap_removed, p))
		vm_defer_add(d, pm);
}

void
vm_object_unmap(struct vm_object *obj, uint64_t pindex, struct vm_defer *d)
{
	struct vm_page *p = vm_object_page(obj, pindex);
	struct vm_defer mine = { .n = 0 };

	vm_object_mappings(obj, pindex, p, vm_unmap_one, d != NULL ? d : &mine, NULL);
	vm_defer_finish(&mine);
}

static void
vm_referenced_one(struct pmap *pm, gpa_t gpa, struct vm_page *p,
    struct vm_defer *d, bool *resultp)
{
	uint64_t size = pmap_ts_referenced(pm, gpa);

	if (size != 0) {
		struct vm_object *obj = vm_page_chunk(p)->obj;
		uint64_t first = vm_page_pindex(p) - (gpa & (size - 1)) / VMM_PAGE_SIZE;

		/* what one bit said of many is kept for each */
		for (uint64_t i = 0; i < size / VMM_PAGE_SIZE; i++)
			vm_page_mark(vm_object_page(obj, first + i), VM_MARK_ACCESSED);
		*resultp = true;
		vm_defer_add(d, pm);
	}
}

bool
vm_object_referenced(struct vm_object *obj, uint64_t pindex, struct vm_defer *d)
{
	struct vm_page *p = vm_object_page(obj, pindex);
	bool ref = (p->flags & VM_PAGE_F_REF) != 0;

	p->flags &= (uint8_t)~VM_PAGE_F_REF;
	vm_object_mappings(obj, pindex, p, vm_referenced_one, d, &ref);
	return ref;
}
