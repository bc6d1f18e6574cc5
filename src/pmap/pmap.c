/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nested page tables: enter, remove, protect, walk, invalidate.
 *
 * Four levels, 48-bit gpa.  Table pages lie in the direct map, so that an
 * entry's address field is an hpa like any other.  Writers hold pm->lock;
 * walkers hold nothing: entries are single 64-bit words, written with
 * compare-and-swap where a walker may set A or D at the same time.
 *
 * PMAP-1  Every non-leaf entry points at a table page of this pmap.
 * PMAP-2  EPT: no entry has W without R (a misconfiguration, SDM 29.3.3.1).
 * PMAP-3  A table page is freed only with the pmap: walkers need no lock.
 * PMAP-4  After pmap_invalidate() returns, no vCPU uses a translation that
 *         was removed before it was called (tests/spin/inval.pml).
 */
#include "pmap/pmap.h"

#include <errno.h>
#include <string.h>

#include "base/host.h"
#include "base/lock.h"

#define PMAP_ADDR 0x000ffffffffff000ul
#define PMAP_CHUNK (2ul << 20) /* table pages come in chunks of this */

struct pmap_format {
	uint64_t read, write, exec, noexec; /* noexec: inverted sense (NX) */
	uint64_t accessed, dirty, large;
	uint64_t table; /* bits of a non-leaf entry */
	uint64_t leaf;	/* bits of every leaf: memory type */
};

static const struct pmap_format pmap_formats[] = {
	[PMAP_PT_EPT] = {
		.read = 1, .write = 2, .exec = 4,
		.accessed = 1 << 8, .dirty = 1 << 9, .large = 1 << 7,
		.table = 7, .leaf = 6 << 3 | 1 << 6 /* WB, ignore PAT */,
	},
	[PMAP_PT_X86] = {
		.read = 1, .write = 2, .noexec = 1ul << 63,
		.accessed = 1 << 5, .dirty = 1 << 6, .large = 1 << 7,
		.table = 7, .leaf = 4 /* user */,
	},
};

struct pmap_vcpu {
	_Atomic bool active;
	_Atomic uint64_t acked;
} __attribute__((aligned(64)));

struct pmap {
	const struct pmap_format *f; /* C */
	enum pmap_type type;
	unsigned flags;
	_Atomic uint64_t *root;
	const struct pmap_callbacks *cb;
	void *arg;
	_Atomic uint64_t gen;
	struct pmap_vcpu vcpu[VMM_MAXCPU];
	struct lock lock;
	/* L: pm->lock */
	uint64_t *chunk; /* L: hpa of chunks of table pages */
	unsigned nchunk, capchunk; /* L */
	uint64_t next, left; /* L: next table page, and how many are left */
	struct pmap_stats st; /* L, but for kicks */
};

static int
pmap_table_alloc(struct pmap *pm, uint64_t *hpap)
{
	if (pm->left == 0) {
		uint64_t hpa;
		int error;

		if (pm->nchunk == pm->capchunk) {
			unsigned cap = pm->capchunk == 0 ? 16 : pm->capchunk * 2;
			uint64_t *n = host_alloc(cap * sizeof(*n));

			if (n == NULL)
				return -ENOMEM;
			if (pm->nchunk != 0)
				memcpy(n, pm->chunk, pm->nchunk * sizeof(*n));
			host_free(pm->chunk);
			pm->chunk = n;
			pm->capchunk = cap;
		}
		error = host_dmap_alloc(PMAP_CHUNK, &hpa);
		if (error != 0)
			return error;
		pm->chunk[pm->nchunk++] = hpa;
		pm->next = hpa;
		pm->left = PMAP_CHUNK / VMM_PAGE_SIZE;
	}
	*hpap = pm->next;
	pm->next += VMM_PAGE_SIZE;
	pm->left--;
	pm->st.pt_pages++;
	return 0;
}

int
pmap_create(enum pmap_type type, unsigned flags, const struct pmap_callbacks *cb,
    void *arg, struct pmap **pmapp)
{
	struct pmap *pm;
	uint64_t root;
	int error;

	if (type != PMAP_PT_EPT && type != PMAP_PT_X86)
		return -EINVAL;
	if ((flags & PMAP_F_AD_EMUL) != 0)
		return -ENOTSUP;
	pm = host_alloc(sizeof(*pm));
	if (pm == NULL)
		return -ENOMEM;
	pm->f = &pmap_formats[type];
	pm->type = type;
	pm->flags = flags;
	pm->cb = cb;
	pm->arg = arg;
	atomic_init(&pm->gen, 1);
	lock_init(&pm->lock, "pmap", LOCK_RANK_PMAP);
	error = pmap_table_alloc(pm, &root);
	if (error != 0) {
		pmap_destroy(pm);
		return error;
	}
	pm->root = PHYS_TO_DMAP(root);
	*pmapp = pm;
	return 0;
}

void
pmap_destroy(struct pmap *pm)
{
	for (unsigned i = 0; i < pm->nchunk; i++)
		host_dmap_free(pm->chunk[i], PMAP_CHUNK);
	host_free(pm->chunk);
	lock_fini(&pm->lock);
	host_free(pm);
}

static _Atomic uint64_t *
pmap_leaf(const struct pmap *pm, gpa_t gpa)
{
	_Atomic uint64_t *t = pm->root;
	uint64_t e;

	for (int shift = 39; shift > 12; shift -= 9) {
		e = atomic_load_explicit(&t[(gpa >> shift) & 511],
		    memory_order_acquire);
		if ((e & 7) == 0)
			return NULL;
		t = PHYS_TO_DMAP(e & PMAP_ADDR);
	}
	return &t[(gpa >> 12) & 511];
}

static uint64_t
pmap_bits(const struct pmap_format *f, int prot)
{
	uint64_t b = f->leaf;

	/* a mapping that allows anything allows reading on x86, and EPT
	 * cannot express W without R */
	if ((prot & (VMM_PROT_READ | VMM_PROT_WRITE)) != 0 || f->noexec != 0)
		b |= f->read;
	if ((prot & VMM_PROT_WRITE) != 0)
		b |= f->write;
	if ((prot & VMM_PROT_EXEC) != 0)
		b |= f->exec;
	else
		b |= f->noexec;
	return b;
}

int
pmap_enter(struct pmap *pm, gpa_t gpa, hpa_t hpa, int prot)
{
	_Atomic uint64_t *t = pm->root;
	uint64_t e, old;
	int error = 0;

	if (gpa >= 1ul << 48)
		return -EFAULT;
	lock_acquire(&pm->lock);
	for (int shift = 39; shift > 12; shift -= 9) {
		_Atomic uint64_t *ep = &t[(gpa >> shift) & 511];

		e = atomic_load_explicit(ep, memory_order_relaxed);
		if ((e & 7) == 0) {
			error = pmap_table_alloc(pm, &e);
			if (error != 0)
				goto out;
			e |= pm->f->table | pm->f->accessed;
			atomic_store_explicit(ep, e, memory_order_release);
		}
		t = PHYS_TO_DMAP(e & PMAP_ADDR);
	}
	t = &t[(gpa >> 12) & 511];
	old = atomic_load_explicit(t, memory_order_relaxed);
	e = hpa | pmap_bits(pm->f, prot);
	do {
		/* keep what the walker noted about the same page */
		e &= ~(pm->f->accessed | pm->f->dirty);
		if (((old ^ e) & PMAP_ADDR) == 0)
			e |= old & (pm->f->accessed | pm->f->dirty);
	} while (!atomic_compare_exchange_weak(t, &old, e));
	if (old == 0)
		pm->st.resident++;
out:
	lock_release(&pm->lock);
	return error;
}

void
pmap_remove(struct pmap *pm, gpa_t gpa, uint64_t len, pmap_removed_fn *fn, void *arg)
{
	bool any = false;

	lock_acquire(&pm->lock);
	for (gpa_t g = gpa; g < gpa + len; g += VMM_PAGE_SIZE) {
		_Atomic uint64_t *ep = pmap_leaf(pm, g);
		uint64_t e;

		if (ep == NULL) {
			g |= (512 * VMM_PAGE_SIZE) - VMM_PAGE_SIZE;
			continue;
		}
		e = atomic_exchange(ep, 0);
		if (e == 0)
			continue;
		any = true;
		pm->st.resident--;
		if (fn != NULL)
			fn(arg, g, e & PMAP_ADDR, (e & pm->f->dirty) != 0);
	}
	lock_release(&pm->lock);
	if (any)
		pmap_invalidate(pm);
}

void
pmap_protect(struct pmap *pm, gpa_t gpa, uint64_t len, int prot)
{
	uint64_t keep = pmap_bits(pm->f, prot);
	uint64_t rights = pm->f->read | pm->f->write | pm->f->exec;
	bool any = false;

	lock_acquire(&pm->lock);
	for (gpa_t g = gpa; g < gpa + len; g += VMM_PAGE_SIZE) {
		_Atomic uint64_t *ep = pmap_leaf(pm, g);
		uint64_t e, n;

		if (ep == NULL) {
			g |= (512 * VMM_PAGE_SIZE) - VMM_PAGE_SIZE;
			continue;
		}
		e = atomic_load(ep);
		do {
			n = (e & ~(rights & ~keep)) | (keep & pm->f->noexec);
		} while (e != 0 && !atomic_compare_exchange_weak(ep, &e, n));
		any |= e != 0 && n != e;
	}
	lock_release(&pm->lock);
	if (any)
		pmap_invalidate(pm);
}

hpa_t
pmap_root(const struct pmap *pm)
{
	return DMAP_TO_PHYS(pm->root);
}

bool
pmap_extract(struct pmap *pm, gpa_t gpa, hpa_t *hpap, int *protp)
{
	_Atomic uint64_t *ep = gpa < 1ul << 48 ? pmap_leaf(pm, gpa) : NULL;
	uint64_t e = ep == NULL ? 0 : atomic_load(ep);

	if (e == 0)
		return false;
	if (hpap != NULL)
		*hpap = (e & PMAP_ADDR) | (gpa & VMM_PAGE_MASK);
	if (protp != NULL)
		*protp = ((e & pm->f->read) != 0 ? VMM_PROT_READ : 0) |
		    ((e & pm->f->write) != 0 ? VMM_PROT_WRITE : 0) |
		    ((pm->f->exec != 0 ? (e & pm->f->exec) != 0 :
					 (e & pm->f->noexec) == 0) ? VMM_PROT_EXEC : 0);
	return true;
}

unsigned
pmap_entries(struct pmap *pm, gpa_t gpa, pt_entry_t pte[4])
{
	_Atomic uint64_t *t = pm->root;
	unsigned n = 0;

	if (gpa >= 1ul << 48)
		return 0;
	for (int shift = 39; shift >= 12; shift -= 9) {
		pte[n] = atomic_load_explicit(&t[(gpa >> shift) & 511],
		    memory_order_acquire);
		if ((pte[n++] & 7) == 0 || shift == 12 ||
		    (shift < 39 && (pte[n - 1] & pm->f->large) != 0))
			break;
		t = PHYS_TO_DMAP(pte[n - 1] & PMAP_ADDR);
	}
	return n;
}

int
pmap_walk(struct pmap *pm, gpa_t gpa, int access, struct pmap_walk *w)
{
	const struct pmap_format *f = pm->f;
	_Atomic uint64_t *ep;
	uint64_t e, n, want = f->accessed;
	uint8_t prot;

	if (gpa >= 1ul << 48 || (ep = pmap_leaf(pm, gpa)) == NULL) {
		w->qual = (uint8_t)access;
		return -EFAULT;
	}
	if (access == VMM_PROT_WRITE)
		want |= f->dirty;
	e = atomic_load_explicit(ep, memory_order_acquire);
	for (;;) {
		prot = 0;
		if ((e & f->read) != 0)
			prot |= VMM_PROT_READ;
		if ((e & f->write) != 0)
			prot |= VMM_PROT_WRITE;
		if (f->exec != 0 ? (e & f->exec) != 0 :
				   (e & (f->read | f->noexec)) == f->read)
			prot |= VMM_PROT_EXEC;
		if ((prot & access) == 0) {
			w->qual = (uint8_t)(access | prot << 3);
			return -EFAULT;
		}
		if ((e & want) == want)
			break;
		n = e | want;
		if (atomic_compare_exchange_weak(ep, &e, n)) {
			e = n;
			break;
		}
	}
	w->hpa = (e & PMAP_ADDR) | (gpa & VMM_PAGE_MASK);
	w->size = VMM_PAGE_SIZE;
	if ((e & f->dirty) == 0)
		prot &= (uint8_t)~VMM_PROT_WRITE;
	w->prot = prot;
	w->qual = 0;
	return 0;
}

uint64_t
pmap_activate(struct pmap *pm, unsigned vcpu)
{
	/* seq-cst: joins before it reads; pairs with pmap_invalidate() */
	atomic_store(&pm->vcpu[vcpu].active, true);
	return atomic_load(&pm->gen);
}

void
pmap_deactivate(struct pmap *pm, unsigned vcpu)
{
	atomic_store(&pm->vcpu[vcpu].active, false);
}

uint64_t
pmap_generation(const struct pmap *pm)
{
	return atomic_load(&((struct pmap *)(uintptr_t)pm)->gen);
}

void
pmap_ack(struct pmap *pm, unsigned vcpu, uint64_t flushed)
{
	atomic_store(&pm->vcpu[vcpu].acked, flushed);
}

void
pmap_invalidate(struct pmap *pm)
{
	uint64_t want = atomic_fetch_add(&pm->gen, 1) + 1;

	for (unsigned i = 0; i < VMM_MAXCPU; i++)
		if (atomic_load(&pm->vcpu[i].active) &&
		    atomic_load(&pm->vcpu[i].acked) < want && pm->cb != NULL)
			pm->cb->kick(pm->arg, i);
	for (unsigned i = 0; i < VMM_MAXCPU; i++)
		while (atomic_load(&pm->vcpu[i].active) &&
		    atomic_load(&pm->vcpu[i].acked) < want)
			host_yield();
}
