/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Nested page tables: create, enter, remove, protect, accessed and dirty bits.
 *
 * Four levels, 48-bit gpa.  Table pages lie in the direct map, so that an
 * entry's address field is an hpa like any other.  Writers hold pm->lock;
 * walkers hold nothing: entries are single 64-bit words, written with
 * compare-and-swap where a walker may set A or D at the same time.
 *
 * PMAP-1  An entry that maps nothing is 0.  Every non-leaf entry points at the
 *         table that its side word names, and the count there is right.
 * PMAP-2  What the walker reads is legal: EPT never W without R, nor X without
 *         R unless the walker takes that; emulated A/D: derived (pte.h).
 * PMAP-3  A table page is freed only with the pmap: walkers need no lock.  A
 *         table that a large leaf replaced stays its spare.
 * PMAP-4  After pmap_invalidate() returns, no vCPU uses a translation that
 *         was removed before it was called (tests/spin/inval.pml).
 * PMAP-5  A large leaf that may be written is dirty: nothing within it can
 *         become dirty unseen.
 * PMAP-6  Statistics agree with the tables.
 *
 * There is no reverse map here: vm finds the mappings of a page by its object
 * (vm_object.c).
 */
#include <errno.h>
#include <string.h>

#include "base/host.h"
#include "pmap/pmap_int.h"

#define PMAP_CHUNK (2ul << 20) /* table pages come in chunks of this */

/* EPT leaves: write-back, and the guest's PAT ignored. */
#define PMAP_EPT_WB (6ul << 3 | 1ul << 6)
#define PMAP_EPT_TYPE (7ul << 3)	    /* 0: uncached */
#define PMAP_X86_UC (1ul << 3 | 1ul << 4) /* PWT and PCD: PAT entry 3 */

static const struct pte_format pmap_formats[2][2] = {
	[PMAP_PT_EPT] = {
		{ .read = 1, .write = 2, .exec = 4, .accessed = 1 << 8,
		    .dirty = 1 << 9, .present = 7, .table = 7 | 1 << 8,
		    .leaf = PMAP_EPT_WB },
		{ .read = PTE_EMUL_V, .write = PTE_EMUL_W, .exec = PTE_EMUL_X,
		    .accessed = 1, .dirty = PTE_EMUL_D, .present = 7,
		    .table = 7, .leaf = PMAP_EPT_WB, .emul = true },
	},
	[PMAP_PT_X86] = {
		{ .read = 1, .write = 2, .noexec = 1ul << 63,
		    .accessed = 1 << 5, .dirty = 1 << 6, .present = 1,
		    .table = 7 | 1 << 5, .leaf = 4, .x86 = true },
		{ .read = PTE_EMUL_V, .write = PTE_EMUL_W,
		    .noexec = 1ul << 63, .accessed = 1, .dirty = PTE_EMUL_D,
		    .present = 1, .table = 7 | 1 << 5, .leaf = 4,
		    .emul = true, .x86 = true },
	},
};

static int
pmap_chunk_add(struct pmap *pm) LOCK_REQUIRES(&pm->lock)
{
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
	return 0;
}

/* A table of that level, with its side page from level 2 on; zeros. */
static int
pmap_table_alloc(struct pmap *pm, unsigned level, uint64_t *hpap)
    LOCK_REQUIRES(&pm->lock)
{
	unsigned n = level > 1 ? 2 : 1;

	if (pm->left < n) {
		int error = pmap_chunk_add(pm);

		if (error != 0)
			return error;
	}
	*hpap = pm->next;
	pm->next += n * VMM_PAGE_SIZE;
	pm->left -= n;
	pm->st.pt_pages += n;
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
	pm = host_alloc(sizeof(*pm));
	if (pm == NULL)
		return -ENOMEM;
	if ((flags & PMAP_F_AD_EMUL) != 0)
		flags &= ~(unsigned)PMAP_F_EXEC_ONLY;
	pm->f = pmap_formats[type][(flags & PMAP_F_AD_EMUL) != 0];
	pm->flags = flags;
	pm->cb = cb;
	pm->arg = arg;
	atomic_init(&pm->gen, 1);
	lock_init(&pm->lock, "pmap", LOCK_RANK_PMAP);
	lock_acquire(&pm->lock);
	error = pmap_table_alloc(pm, PMAP_ROOT_LEVEL, &root);
	lock_release(&pm->lock);
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

/*
 * The entry of the leaf that maps gpa, or where it would stand.
 * => its level in *levelp, its table in *tablep; NULL: a table is missing
 */
static pmap_table_t *
pmap_find(const struct pmap *pm, gpa_t gpa, unsigned *levelp,
    pmap_table_t **tablep)
{
	pmap_table_t *t = pm->root, *ep;
	unsigned level = PMAP_ROOT_LEVEL;
	uint64_t e;

	for (;; level--) {
		ep = &t[PMAP_INDEX(gpa, level)];
		e = pmap_get(ep);
		if (level == 1 || (e != 0 && !pmap_is_table(level, e)))
			break;
		if (e == 0) {
			*levelp = level;
			return NULL;
		}
		t = PHYS_TO_DMAP(e & PTE_ADDR);
	}
	*levelp = level;
	if (tablep != NULL)
		*tablep = t;
	return ep;
}

/* The 4 KB entry of gpa and the side word of its table; makes tables. */
static int
pmap_grow(struct pmap *pm, gpa_t gpa, pmap_table_t **epp, uint64_t **sidep)
    LOCK_REQUIRES(&pm->lock)
{
	pmap_table_t *t = pm->root;

	for (unsigned level = PMAP_ROOT_LEVEL; level > 1; level--) {
		pmap_table_t *ep = &t[PMAP_INDEX(gpa, level)];
		uint64_t e = pmap_get(ep), *side;

		side = &pmap_side(t)[PMAP_INDEX(gpa, level)];
		if (e != 0 && !pmap_is_table(level, e)) {
			pmap_demote(pm, t, gpa, level);
			e = pmap_get(ep);
		}
		if (e == 0) {
			if (*side == 0) {
				int error = pmap_table_alloc(pm, level - 1, side);

				if (error != 0)
					return error;
			}
			e = (*side & PTE_ADDR) | pm->f.table;
			atomic_store_explicit(ep, e, memory_order_release);
			if (level < PMAP_ROOT_LEVEL)
				++*(*sidep);
		}
		*sidep = side;
		t = PHYS_TO_DMAP(e & PTE_ADDR);
	}
	*epp = &t[PMAP_INDEX(gpa, 1)];
	return 0;
}

static uint64_t
pmap_bits(const struct pmap *pm, int prot)
{
	const struct pte_format *f = &pm->f;
	uint64_t b = f->leaf;

	/* x86 has no way to forbid reading, and EPT cannot say W alone */
	if ((prot & VMM_PROT_RW) != 0 || f->x86 ||
	    (pm->flags & PMAP_F_EXEC_ONLY) == 0)
		b |= f->read;
	if ((prot & VMM_PROT_WRITE) != 0)
		b |= f->write;
	b |= (prot & VMM_PROT_EXEC) != 0 ? f->exec : f->noexec;
	if ((prot & PMAP_PROT_UC) != 0)
		b = f->x86 ? b | PMAP_X86_UC : b & ~PMAP_EPT_TYPE;
	return b;
}

int
pmap_enter(struct pmap *pm, gpa_t gpa, hpa_t hpa, int prot, int access,
    uint64_t *promotedp)
{
	uint64_t e, old, ad = 0, large = 0, *side = NULL;
	unsigned level;
	pmap_table_t *ep;
	int error;

	if (gpa >= PMAP_MAXGPA)
		return -EFAULT;
	if (access != 0)
		ad |= pm->f.accessed;
	if ((access & VMM_PROT_WRITE) != 0)
		ad |= pm->f.dirty;
	lock_acquire(&pm->lock);
	ep = pmap_find(pm, gpa, &level, NULL);
	if (ep != NULL && level > 1) {
		/* already there, and nothing to add? another vCPU was first */
		e = pmap_get(ep);
		KASSERT((e & PTE_ADDR & ~(PMAP_SPAN(level) - 1)) +
			(gpa & (PMAP_SPAN(level) - 1)) == hpa,
		    "enter over another page at %lx", gpa);
		if (pte_prot(&pm->f, e | pmap_bits(pm, prot)) ==
			pte_prot(&pm->f, e) && (e & ad) == ad)
			goto out;
	}
	error = pmap_grow(pm, gpa, &ep, &side);
	if (error != 0) {
		lock_release(&pm->lock);
		return error;
	}
	old = pmap_get(ep);
	KASSERT(old == 0 || ((old ^ hpa) & PTE_ADDR) == 0,
	    "enter over another page at %lx", gpa);
	do {
		/* keep what the walker noted meanwhile */
		e = hpa | pmap_bits(pm, prot) | ad |
		    (old & (pm->f.accessed | pm->f.dirty));
		e = pte_derive(&pm->f, e);
	} while (!atomic_compare_exchange_weak(ep, &old, e));
	if (old == 0) {
		pm->st.resident++;
		++*side;
	}
	if ((*side & PMAP_SIDE_COUNT) == PMAP_NPTE)
		large = pmap_promote_locked(pm, gpa);
out:
	lock_release(&pm->lock);
	if (promotedp != NULL)
		*promotedp = large;
	return 0;
}

int
pmap_emulate_accessed_dirty(struct pmap *pm, gpa_t gpa, int access)
{
	unsigned level;
	pmap_table_t *ep;
	uint64_t e, want = pm->f.accessed;
	int error = -EFAULT;

	if (!pm->f.emul || gpa >= PMAP_MAXGPA)
		return -EFAULT;
	lock_acquire(&pm->lock);
	ep = pmap_find(pm, gpa, &level, NULL);
	e = ep == NULL ? 0 : pmap_get(ep);
	if (e != 0 && (pte_prot(&pm->f, e) & access) == access) {
		if ((access & VMM_PROT_WRITE) != 0)
			want |= pm->f.dirty;
		/* only rights are added: nothing to invalidate */
		atomic_store(ep, pte_derive(&pm->f, e | want));
		if (level == 1)
			(void)pmap_promote_locked(pm, gpa);
		error = 0;
	}
	lock_release(&pm->lock);
	return error;
}

/*
 * Calls visit for each 4 KB leaf in the range, demoting larger ones that it
 * covers in part; a large leaf that is covered whole is visited itself.
 * => true when a visit asked for an invalidation
 */
typedef bool pmap_visit_fn(struct pmap *pm, pmap_table_t *ep, uint64_t *side,
    gpa_t gpa, unsigned level, void *arg);

static bool
pmap_visit(struct pmap *pm, gpa_t gpa, uint64_t len, pmap_visit_fn *visit,
    void *arg) LOCK_REQUIRES(&pm->lock)
{
	gpa_t end = base_min(gpa + len, PMAP_MAXGPA);
	bool any = false;

	while (gpa < end) {
		pmap_table_t *t = pm->root, *ep = NULL;
		uint64_t *side = NULL, e = 0;
		unsigned level;

		for (level = PMAP_ROOT_LEVEL;; level--) {
			ep = &t[PMAP_INDEX(gpa, level)];
			e = pmap_get(ep);
			if (e != 0 && level > 1 && !pmap_is_table(level, e) &&
			    ((gpa & (PMAP_SPAN(level) - 1)) != 0 ||
				end - gpa < PMAP_SPAN(level))) {
				pmap_demote(pm, t, gpa, level);
				e = pmap_get(ep);
			}
			if (e == 0 || !pmap_is_table(level, e))
				break;
			side = &pmap_side(t)[PMAP_INDEX(gpa, level)];
			t = PHYS_TO_DMAP(e & PTE_ADDR);
		}
		if (e != 0)
			any |= visit(pm, ep, side, gpa, level, arg);
		gpa = base_rounddown(gpa, PMAP_SPAN(level)) + PMAP_SPAN(level);
	}
	return any;
}

struct pmap_remove_arg {
	pmap_removed_fn *fn;
	void *arg;
};

/* The entries below a large leaf that is gone are stale: its spare tables are
 * emptied, down to the leaves. */
static void
pmap_spare_clear(pmap_table_t *t, unsigned level, uint64_t *side)
{
	*side &= ~PMAP_SIDE_COUNT;
	for (unsigned i = 0; i < PMAP_NPTE; i++) {
		if (level > 1 && pmap_side(t)[i] != 0)
			pmap_spare_clear(PMAP_SIDE_TABLE(pmap_side(t)[i]),
			    level - 1, &pmap_side(t)[i]);
		atomic_store_explicit(&t[i], 0, memory_order_relaxed);
	}
}

static bool
pmap_remove_visit(struct pmap *pm, pmap_table_t *ep, uint64_t *side, gpa_t gpa,
    unsigned level, void *arg)
{
	struct pmap_remove_arg *ra = arg;
	uint64_t e = atomic_exchange(ep, 0), n = PMAP_SPAN(level);
	hpa_t hpa = e & PTE_ADDR;

	--*side;
	pm->st.resident -= n / VMM_PAGE_SIZE;
	if (level > 1) {
		pmap_table_t *t = ep - PMAP_INDEX(gpa, level);
		uint64_t *s = &pmap_side(t)[PMAP_INDEX(gpa, level)];

		pm->st.large[level - 2]--;
		pmap_spare_clear(PMAP_SIDE_TABLE(*s), level - 1, s);
	}
	if (ra->fn != NULL)
		for (uint64_t o = 0; o < n; o += VMM_PAGE_SIZE)
			ra->fn(ra->arg, gpa + o, hpa + o,
			    (e & pm->f.accessed) != 0, (e & pm->f.dirty) != 0);
	return true;
}

bool
pmap_remove_deferred(struct pmap *pm, gpa_t gpa, uint64_t len,
    pmap_removed_fn *fn, void *arg)
{
	struct pmap_remove_arg ra = { fn, arg };
	bool any;

	lock_acquire(&pm->lock);
	any = pmap_visit(pm, gpa, len, pmap_remove_visit, &ra);
	lock_release(&pm->lock);
	return any;
}

void
pmap_remove(struct pmap *pm, gpa_t gpa, uint64_t len, pmap_removed_fn *fn,
    void *arg)
{
	if (pmap_remove_deferred(pm, gpa, len, fn, arg))
		pmap_invalidate(pm);
}

static bool
pmap_protect_visit(struct pmap *pm, pmap_table_t *ep, uint64_t *side, gpa_t gpa,
    unsigned level, void *arg)
{
	uint64_t keep = pmap_bits(pm, *(int *)arg);
	uint64_t rights = pm->f.read | pm->f.write | pm->f.exec;
	uint64_t e = pmap_get(ep), n;

	/* X alone to R alone: nothing is left.  Its A and D are lost, so who
	 * needs them removes instead. */
	if ((pte_prot(&pm->f, e) & pte_prot(&pm->f, keep)) == 0) {
		struct pmap_remove_arg ra = { NULL, NULL };

		return pmap_remove_visit(pm, ep, side, gpa, level, &ra);
	}
	do {
		n = (e & ~(rights & ~keep)) | (keep & pm->f.noexec);
		n = pte_derive(&pm->f, n);
	} while (!atomic_compare_exchange_weak(ep, &e, n));
	return n != e;
}

bool
pmap_protect_deferred(struct pmap *pm, gpa_t gpa, uint64_t len, int prot)
{
	bool any;

	if (prot == 0)
		return pmap_remove_deferred(pm, gpa, len, NULL, NULL);
	lock_acquire(&pm->lock);
	any = pmap_visit(pm, gpa, len, pmap_protect_visit, &prot);
	lock_release(&pm->lock);
	return any;
}

void
pmap_protect(struct pmap *pm, gpa_t gpa, uint64_t len, int prot)
{
	if (pmap_protect_deferred(pm, gpa, len, prot))
		pmap_invalidate(pm);
}

/* Clears bits of the leaf of gpa. => the entry as it was, 0: none */
static uint64_t
pmap_leaf_clear(pmap_table_t *ep, const struct pte_format *f, uint64_t bits)
{
	uint64_t e = pmap_get(ep);

	while (e != 0 &&
	    !atomic_compare_exchange_weak(ep, &e, pte_derive(f, e & ~bits)))
		;
	return e;
}

static uint64_t
pmap_leaf(struct pmap *pm, gpa_t gpa)
{
	unsigned level;
	pmap_table_t *ep;
	uint64_t e = 0;

	lock_acquire(&pm->lock);
	ep = gpa < PMAP_MAXGPA ? pmap_find(pm, gpa, &level, NULL) : NULL;
	if (ep != NULL)
		e = pmap_get(ep);
	lock_release(&pm->lock);
	return e;
}

bool
pmap_is_referenced(struct pmap *pm, gpa_t gpa)
{
	return (pmap_leaf(pm, gpa) & pm->f.accessed) != 0;
}

bool
pmap_is_modified(struct pmap *pm, gpa_t gpa)
{
	return (pmap_leaf(pm, gpa) & pm->f.dirty) != 0;
}

uint64_t
pmap_ts_referenced(struct pmap *pm, gpa_t gpa)
{
	uint64_t e = 0, page = gpa >> VMM_PAGE_SHIFT, size = VMM_PAGE_SIZE;
	unsigned level;
	pmap_table_t *ep;

	lock_acquire(&pm->lock);
	ep = gpa < PMAP_MAXGPA ? pmap_find(pm, gpa, &level, NULL) : NULL;
	if (ep != NULL && (level == 1 || ((page ^ (gpa >> 21)) & 511) == 0)) {
		e = pmap_leaf_clear(ep, &pm->f, pm->f.accessed);
		size = PMAP_SPAN(level);
	} else if (ep != NULL)
		e = pmap_get(ep);
	lock_release(&pm->lock);
	return (e & pm->f.accessed) != 0 ? size : 0;
}

bool
pmap_clear_modify(struct pmap *pm, gpa_t gpa)
{
	unsigned level;
	pmap_table_t *ep, *t;
	uint64_t e = 0;

	lock_acquire(&pm->lock);
	ep = gpa < PMAP_MAXGPA ? pmap_find(pm, gpa, &level, &t) : NULL;
	while (ep != NULL && level > 1 && (pmap_get(ep) & pm->f.dirty) != 0) {
		pmap_demote(pm, t, gpa, level);
		ep = pmap_find(pm, gpa, &level, &t);
	}
	if (ep != NULL)
		e = pmap_leaf_clear(ep, &pm->f, pm->f.dirty);
	lock_release(&pm->lock);
	return (e & pm->f.dirty) != 0;
}

hpa_t
pmap_root(const struct pmap *pm)
{
	return DMAP_TO_PHYS(pm->root);
}

bool
pmap_extract(struct pmap *pm, gpa_t gpa, hpa_t *hpap, int *protp)
{
	unsigned level;
	pmap_table_t *ep;
	uint64_t e = 0, span = 0;

	lock_acquire(&pm->lock);
	ep = gpa < PMAP_MAXGPA ? pmap_find(pm, gpa, &level, NULL) : NULL;
	if (ep != NULL) {
		e = pmap_get(ep);
		span = PMAP_SPAN(level);
	}
	lock_release(&pm->lock);
	if (e == 0)
		return false;
	if (hpap != NULL)
		*hpap = (e & PTE_ADDR & ~(span - 1)) | (gpa & (span - 1));
	if (protp != NULL)
		*protp = pte_prot(&pm->f, e);
	return true;
}

void
pmap_stats_get(struct pmap *pm, struct pmap_stats *st)
{
	lock_acquire(&pm->lock);
	*st = pm->st;
	lock_release(&pm->lock);
	st->invalidations = atomic_load(&pm->invalidations);
	st->kicks = atomic_load(&pm->kicks);
}
