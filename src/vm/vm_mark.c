/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What was written and what was accessed since a client last asked.
 *
 * The hardware has one dirty and one accessed bit for everybody.  So a fetch
 * first gathers: clears the bits of a whole vmspace, and marks each page that
 * had one for all clients; then it reports the pages that bear its own mark,
 * and takes that away.  A write hold marks as well.  A chunk says whether any
 * of its pages is marked, so that what nobody touched costs nothing.
 *
 * The one invalidation comes last: until it is over, a vCPU may write through
 * a translation with the dirty bit cached, but only to a page that this very
 * call reports, and the caller looks at contents afterwards.
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

#define VM_MAXCLIENT 8

static _Atomic unsigned vm_mark_clients, vm_mark_used;
/* A: by client: its first fetch of a used place; vmspaces cannot be told apart */
static _Atomic unsigned vm_mark_fresh;

int
vm_mark_open(void)
{
	unsigned now = atomic_load(&vm_mark_clients), bit;

	do {
		if (now == (1u << VM_MAXCLIENT) - 1)
			return -EMFILE;
		bit = ~now & (now + 1);
	} while (!atomic_compare_exchange_weak(&vm_mark_clients, &now, now | bit));
	if ((atomic_fetch_or(&vm_mark_used, bit) & bit) != 0)
		atomic_fetch_or(&vm_mark_fresh, bit);
	return __builtin_ctz(bit);
}

void
vm_mark_close(int client)
{
	atomic_fetch_and(&vm_mark_fresh, ~(1u << client));
	atomic_fetch_and(&vm_mark_clients, ~(1u << client));
}

struct vm_gather {
	struct vm_entry *e;
	unsigned which;
};

static void
vm_mark_gather(void *arg, const struct pmap_block *b)
{
	struct vm_gather *g = arg;
	const uint64_t *bits = g->which == VM_MARK_DIRTY ? b->dirty : b->accessed;
	uint64_t first = (g->e->off + (b->gpa - g->e->start)) / VMM_PAGE_SIZE;
	uint8_t flags = g->which == VM_MARK_DIRTY ?
	    VM_PAGE_F_DIRTY | VM_PAGE_F_REF : VM_PAGE_F_REF;

	for (unsigned w = 0; w < 8; w++)
		for (uint64_t m = bits[w]; m != 0; m &= m - 1) {
			uint64_t i = first + w * 64 + (unsigned)__builtin_ctzl(m);
			struct vm_object *o = g->e->obj;
			struct vm_chunk *c;

			if (o->backing != NULL &&
			    vm_object_find(o, i, &o, &i) == NULL)
				continue;
			c = o->chunk[i / VM_CHUNK];
			c->page[i % VM_CHUNK].flags |= flags;
			c->page[i % VM_CHUNK].mark[g->which] = 0xff;
			c->mark[g->which] = 0xff;
		}
}

struct vm_report {
	unsigned which;
	uint8_t bit;
	bool all;  /* whatever has contents counts as marked */
	bool pinned; /* devices write to wired pages, and no table knows */
	bool full;   /* the caller had no room */
	vm_mark_fn *fn;
	void *arg;
	uint64_t n;
};

/* The page that bears the marks of pindex i; what a guest reads may lie behind. */
static struct vm_page *
vm_mark_page(const struct vm_report *r, struct vm_object *o, uint64_t i)
{
	if (r->which != VM_MARK_DIRTY)
		(void)vm_object_find(o, i, &o, &i);
	return vm_object_page(o, i);
}

/* => nothing among the n pages from i on, in one chunk, can be marked */
static bool
vm_mark_none(const struct vm_report *r, const struct vm_object *o, uint64_t i)
{
	const struct vm_chunk *c = o->chunk[i / VM_CHUNK];

	if (o->backing != NULL && r->which != VM_MARK_DIRTY)
		return false;
	return c == NULL || (!r->all && !r->pinned && (c->mark[r->which] & r->bit) == 0);
}

/* What one look at n pages from pindex i on, in one chunk, does. */
struct vm_step {
	struct vmm_block *b; /* gets those that are marked, NULL: is not asked */
	unsigned at;	     /* bit of the first */
	bool forget;
};

static void
vm_mark_step(const struct vm_report *r, struct vm_object *o, uint64_t i,
    unsigned n, const struct vm_step *st)
{
	struct vm_chunk *c = o->chunk[i / VM_CHUNK];
	bool own = o->backing == NULL && c != NULL;

	for (unsigned k = 0; k < n; k++) {
		struct vm_page *p = own ? &c->page[i % VM_CHUNK + k] :
					  vm_mark_page(r, o, i + k);
		unsigned bit = st->at + k;

		if (p == NULL)
			continue;
		if (st->b != NULL && ((p->mark[r->which] & r->bit) != 0 ||
		    (r->all && p->state != VM_PAGE_NONE) ||
		    (r->pinned && p->wire != 0)))
			st->b->page[bit / 64] |= 1ul << (bit % 64);
		if (st->forget)
			p->mark[r->which] &= (uint8_t)~r->bit;
	}
	if (st->forget && n == VM_CHUNK && c != NULL)
		c->mark[r->which] &= (uint8_t)~r->bit;
}

/* The pages of e in the 2 MB at g, by chunks of its object. */
static void
vm_mark_block(struct vm_entry *e, gpa_t g, const struct vm_report *r,
    struct vmm_block *b, bool forget)
{
	gpa_t end = base_min(g + VM_2M, e->end), a = g < e->start ? e->start : g;

	while (a < end) {
		uint64_t i = (e->off + (a - e->start)) / VMM_PAGE_SIZE;
		unsigned n = (unsigned)base_min(VM_CHUNK - i % VM_CHUNK,
		    (end - a) / VMM_PAGE_SIZE);
		struct vm_step st = { b, (unsigned)((a - g) / VMM_PAGE_SIZE), forget };

		if (!vm_mark_none(r, e->obj, i))
			vm_mark_step(r, e->obj, i, n, &st);
		a += n * VMM_PAGE_SIZE;
	}
}

/* What is reported must have been taken by fn before it is forgotten: with an
 * fn that may refuse, the block is looked at twice. */
static void
vm_mark_entry(struct vm_entry *e, struct vm_report *r, bool report, bool forget)
{
	for (gpa_t g = base_rounddown(e->start, VM_2M); g < e->end; g += VM_2M) {
		struct vmm_block b = { .gpa = g };
		unsigned n = 0;

		if (report) {
			vm_mark_block(e, g, r, &b, forget && r->fn == NULL);
			for (unsigned w = 0; w < 8; w++)
				n += (unsigned)__builtin_popcountl(b.page[w]);
			if (n == 0)
				continue;
			if (r->fn != NULL && !r->fn(r->arg, &b)) {
				r->full = true;
				continue;
			}
			r->n += n;
		}
		if (forget && (!report || r->fn != NULL))
			vm_mark_block(e, g, r, NULL, true);
	}
}

/* => some page of an object is mapped at two places */
static bool
vm_mark_aliased(struct vmspace *vms) LOCK_REQUIRES(&vms->lock)
{
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next)
		for (struct vm_entry *f = e->next; f != NULL; f = f->next)
			if (e->obj == f->obj && e->off < f->off + (f->end - f->start) &&
			    f->off < e->off + (e->end - e->start))
				return true;
	return false;
}

uint64_t
vm_mark_fetch(struct vmspace *vms, int client, unsigned which, vm_mark_fn *fn,
    void *arg)
{
	struct vm_report r = { .which = which, .bit = (uint8_t)(1u << client),
		.fn = fn, .arg = arg };
	bool any = false, aliased;

	r.all = which == VM_MARK_DIRTY &&
	    (atomic_fetch_and(&vm_mark_fresh, ~(unsigned)r.bit) & r.bit) != 0;
	lock_acquire(&vms->lock);
	aliased = vm_mark_aliased(vms);
	r.pinned = which == VM_MARK_DIRTY && vms->pinned;
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		struct vm_gather g = { e, which };

		vm_object_lock(e->obj);
		any |= pmap_look(vms->pmap, e->start, e->end - e->start,
		    which == VM_MARK_DIRTY ? PMAP_LOOK_DIRTY : PMAP_LOOK_ACCESSED,
		    vm_mark_gather, &g);
		vm_object_unlock(e->obj);
	}
	for (struct vm_entry *e = vms->entries; e != NULL; e = e->next) {
		vm_object_lock(e->obj);
		vm_mark_entry(e, &r, true, !aliased);
		vm_object_unlock(e->obj);
	}
	/* apart, so that a page that is mapped twice is reported twice */
	for (struct vm_entry *e = vms->entries; aliased && !r.full && e != NULL;
	    e = e->next) {
		vm_object_lock(e->obj);
		vm_mark_entry(e, &r, false, true);
		vm_object_unlock(e->obj);
	}
	if (any)
		pmap_invalidate(vms->pmap);
	lock_release(&vms->lock);
	return r.n;
}
