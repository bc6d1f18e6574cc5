/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory on a host of plain memory that fails now and then: random
 * operations on maps, objects of every kind, pages, tables and page-out, against
 * a flat model that knows only what each page of each object contains.
 *
 *   vm_fake_test [STEPS]        SEED=n replays a run
 *
 * An operation that fails (and it may only when the host did) has changed no
 * contents.  Whatever happens, every leaf that the second walker finds must show
 * what the model says, with no right too many; every count agrees with a recount;
 * and at the end of each life nothing is left.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model/walker.h"
#include "base/host.h"
#include "host/fake.h"
#include "vm/vm.h"

#define PAGE 4096ul
#define MAXLEN 512u /* pages of an object */
#define NOBJ 14u
#define NSPACE 2u
#define NSLOT 6u
#define NHOLD 4u
#define LIFE 20000u /* steps */
#define SLOT_GPA(s) (((gpa_t)(s) + 1) << 22)

enum kind { ANON, FILE_RO, FILE_PRIVATE, SHADOW, DEV };

struct mobj {
	bool alive, handle;
	enum kind kind;
	unsigned len; /* pages */
	struct vm_object *o;
	struct mobj *backing;
	unsigned boff, nshadows, nmaps, nwrite; /* nwrite: maps and holds */
	bool own[MAXLEN];
	uint64_t val[MAXLEN];
};

struct mmap {
	struct mobj *o; /* NULL: free */
	unsigned off, n;
	int prot, maxprot;
	bool wired;
	bool written[MAXLEN]; /* since the last fetch */
};

struct mhold {
	struct vm_hold h;
	struct mobj *o; /* of a write hold; NULL: free or for reading */
	unsigned space, page;
	bool used;
	uint64_t val;
};

static struct mobj obj[NOBJ];
static struct mmap map[NSPACE][NSLOT];
static struct mhold hold[NHOLD];
static struct vmspace *vms[NSPACE];
static int client[NSPACE];
static enum walker_format fmt[NSPACE];
static uint64_t filedata[MAXLEN * 512];
static int fd;
static uint64_t seed, rng;
/* One call alone fails, not some at random; of its failures, those accounted for. */
static bool in_turn;
static unsigned long acked;
static unsigned long step_nr, fails, lost, done[20];
static struct vm_stats total; /* of some counts, over all lives */

static uint64_t
rnd(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

#define CHECK(e, ...)                                                       \
	do {                                                                \
		if (!(e)) {                                                 \
			printf("FAILED step %lu SEED=%lu line %d: %s: ",     \
			    step_nr, seed, __LINE__, #e);                   \
			printf(__VA_ARGS__);                                \
			printf("\n");                                       \
			exit(1);                                            \
		}                                                           \
	} while (0)

static void
event(void *arg, enum vm_event ev, gpa_t gpa, int error)
{
	(void)arg;
	(void)gpa;
	(void)error;
	lost += ev == VM_EVENT_LOST;
}

/* => whether it worked; if not, the host must have failed */
static bool
worked(int error)
{
	if (error == 0)
		return true;
	CHECK(fake_failed() > acked, "error %d, but the host did not fail", error);
	if (in_turn)
		acked = fake_failed();
	CHECK(error == -ENOMEM || error == -EIO || error == -EMFILE, "error %d", error);
	fails++;
	return false;
}

/* --- the model ---------------------------------------------------------------- */

static uint64_t
model_get(const struct mobj *o, unsigned i)
{
	while (!o->own[i] && o->backing != NULL) {
		i += o->boff;
		o = o->backing;
	}
	if (o->own[i])
		return o->val[i];
	return o->kind == FILE_RO || o->kind == FILE_PRIVATE || o->kind == DEV ?
	    i + 1000 : 0;
}

static void
model_set(struct mobj *o, unsigned i, uint64_t v)
{
	CHECK(o->nshadows == 0, "the model writes to what is behind a shadow");
	o->own[i] = true;
	o->val[i] = v;
}

static void
model_maybe_dead(struct mobj *o)
{
	while (o != NULL && o->alive && !o->handle && o->nmaps == 0 &&
	    o->nshadows == 0 && o->nwrite == 0) {
		o->alive = false;
		o = o->backing;
		if (o != NULL)
			o->nshadows--;
	}
}

static gpa_t
gpa_of(unsigned slot, const struct mmap *m, unsigned page)
{
	return SLOT_GPA(slot) + (m->off + page) * PAGE;
}

static void
content_check(const uint64_t *p, uint64_t want, gpa_t gpa)
{
	CHECK(p[0] == want && p[511] == want, "%lx holds %lu and %lu, not %lu", gpa,
	    p[0], p[511], want);
}

/* --- what the tables say -------------------------------------------------------- */

static uint64_t
fetch(void *arg, uint64_t pa)
{
	(void)arg;
	return *(uint64_t *)PHYS_TO_DMAP(pa);
}

static void
leaf(void *arg, uint64_t gpa, const struct walker_result *w)
{
	unsigned s = (unsigned)(uintptr_t)arg;

	CHECK(!w->misconfigured, "%lx", gpa);
	for (uint64_t o = 0; o < w->size; o += PAGE) {
		unsigned slot = (unsigned)(((gpa + o) >> 22) - 1), i;
		struct mmap *m = &map[s][slot];

		CHECK(slot < NSLOT && m->o != NULL, "stray leaf at %lx", gpa + o);
		i = (unsigned)((gpa + o - gpa_of(slot, m, 0)) / PAGE);
		CHECK(gpa + o >= gpa_of(slot, m, 0) && i < m->n, "stray leaf at %lx",
		    gpa + o);
		CHECK(!w->w || ((m->prot & VMM_PROT_WRITE) != 0 &&
		    m->o->nshadows == 0), "%lx may be written", gpa + o);
		content_check(PHYS_TO_DMAP(w->pa + o), model_get(m->o, m->off + i),
		    gpa + o);
	}
}

static void
recount(void *arg, struct vm_object *o, const char *name, uint64_t counted,
    uint64_t found)
{
	(void)arg;
	if (counted != found)
		printf("%s of %p: %lu, found %lu\n", name, (void *)o, counted, found);
}

static void
check_all(void)
{
	for (unsigned s = 0; s < NSPACE; s++) {
		vm_check(vms[s]);
		walker_all(fmt[s], pmap_root(vmspace_pmap(vms[s])), fetch, NULL, leaf,
		    (void *)(uintptr_t)s);
		CHECK(vm_recount(vms[s], recount, NULL) == 0, "space %u", s);
	}
}

/* --- operations ------------------------------------------------------------------ */

static void
op_object(void)
{
	struct mobj *o = &obj[rnd(NOBJ)], *b = &obj[rnd(NOBJ)];
	unsigned len = rnd(3) == 0 ? MAXLEN : 1 + (unsigned)rnd(24), off = 0;
	enum kind kind = (enum kind)rnd(5);
	int error;

	if (o->alive)
		return;
	switch (kind) {
	case ANON:
		error = vm_object_create_anon(len * PAGE, &o->o);
		break;
	case DEV:
		error = vm_object_create_dev(fd, len * PAGE, &o->o);
		break;
	case SHADOW:
		if (!b->alive || !b->handle || b->nwrite != 0 || b->kind == DEV)
			return;
		len = 1 + (unsigned)rnd(b->len);
		off = (unsigned)rnd(b->len - len + 1);
		if (rnd(3) == 0)
			len = b->len, off = 0;
		error = vm_object_create_shadow(b->o, off * PAGE, len * PAGE, &o->o);
		break;
	default:
		error = vm_object_create_file(fd, 0, len * PAGE, kind == FILE_RO ?
		    VM_FILE_RO : VM_FILE_PRIVATE, &o->o);
		break;
	}
	if (!worked(error))
		return;
	memset(o->own, 0, sizeof(o->own));
	o->alive = o->handle = true;
	o->kind = kind;
	o->len = len;
	o->backing = kind == SHADOW ? b : NULL;
	o->boff = off;
	o->nshadows = o->nmaps = o->nwrite = 0;
	if (kind == SHADOW)
		b->nshadows++;
}

static void
op_release(void)
{
	struct mobj *o = &obj[rnd(NOBJ)];

	if (!o->alive || !o->handle)
		return;
	vm_object_rele(o->o);
	o->handle = false;
	model_maybe_dead(o);
}

static void
op_insert(void)
{
	static const int prots[] = { VMM_PROT_READ, VMM_PROT_RW,
		VMM_PROT_READ | VMM_PROT_EXEC, VMM_PROT_ALL };
	unsigned s = (unsigned)rnd(NSPACE), slot = (unsigned)rnd(NSLOT);
	struct mmap *m = &map[s][slot];
	struct mobj *o = &obj[rnd(NOBJ)];
	bool wired = rnd(8) == 0;
	int prot = prots[rnd(4)];
	unsigned off, n;

	if (m->o != NULL || !o->alive || !o->handle)
		return;
	if (o->nshadows != 0 || o->kind == FILE_RO)
		prot &= ~VMM_PROT_WRITE;
	off = rnd(4) != 0 ? 0 : (unsigned)rnd(o->len);
	n = rnd(4) != 0 ? o->len - off : 1 + (unsigned)rnd(o->len - off);
	m->off = off;
	if (!worked(vm_map_insert(vms[s], gpa_of(slot, m, 0), n * PAGE, o->o,
		off * PAGE, prot, wired ? VM_MAP_F_WIRED : 0)))
		return;
	*m = (struct mmap){ .o = o, .off = off, .n = n, .prot = prot,
		.maxprot = prot, .wired = wired };
	o->nmaps++;
	o->nwrite += (prot & VMM_PROT_WRITE) != 0;
}

static void
map_gone(struct mmap *m)
{
	struct mobj *o = m->o;

	m->o = NULL;
	o->nmaps--;
	o->nwrite -= (m->maxprot & VMM_PROT_WRITE) != 0;
	model_maybe_dead(o);
}

static struct mmap *
pick(unsigned *s, unsigned *slot)
{
	*s = (unsigned)rnd(NSPACE);
	*slot = (unsigned)rnd(NSLOT);
	return map[*s][*slot].o != NULL ? &map[*s][*slot] : NULL;
}

static void
op_remove(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);

	if (m == NULL)
		return;
	CHECK(vm_map_remove(vms[s], gpa_of(slot, m, 0), m->n * PAGE) == 0, "remove");
	map_gone(m);
}

static void
op_protect(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);
	int prot = (int)rnd(8);

	if (m == NULL || (prot & VMM_PROT_READ) == 0)
		return;
	prot &= m->maxprot;
	CHECK(vm_map_protect(vms[s], gpa_of(slot, m, 0), m->n * PAGE, prot) == 0,
	    "protect");
	m->prot = prot;
}

/* The guest touches a page as a processor would. => its memory, or NULL */
static uint64_t *
touch(unsigned s, gpa_t gpa, int access)
{
	struct pmap_walk w;

	/* accessed, then dirty, may take a fault each */
	for (int i = 0; i < 3; i++) {
		if (pmap_walk(vmspace_pmap(vms[s]), gpa, access, &w) == 0)
			return PHYS_TO_DMAP(w.hpa);
		if (!worked(vm_fault(vms[s], gpa, access)))
			return NULL;
	}
	CHECK(false, "%lx still faults", gpa);
}

static void
guest_access(unsigned s, unsigned slot, unsigned i, int access)
{
	struct mmap *m = &map[s][slot];
	gpa_t gpa = gpa_of(slot, m, i);
	uint64_t *p, v;

	if ((m->prot & access) == 0) {
		CHECK(vm_fault(vms[s], gpa, access) == -EFAULT, "%lx is not forbidden",
		    gpa);
		return;
	}
	p = touch(s, gpa, access);
	if (p == NULL)
		return;
	content_check(p, model_get(m->o, m->off + i), gpa);
	if (access != VMM_PROT_WRITE)
		return;
	v = rnd(4) == 0 ? 0 : rng;
	p[0] = p[511] = v;
	model_set(m->o, m->off + i, v);
	m->written[i] = true;
}

static void
op_access(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);

	if (m != NULL)
		guest_access(s, slot, (unsigned)rnd(m->n), 1 << rnd(3));
}

/* All of it, so that it becomes large. */
static void
op_sweep(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);
	int access = m != NULL && (m->prot & VMM_PROT_WRITE) != 0 && rnd(4) != 0 ?
	    VMM_PROT_WRITE : VMM_PROT_READ;

	for (unsigned i = 0; m != NULL && i < m->n; i++)
		guest_access(s, slot, i, access);
}

static void
op_hold(void)
{
	struct mhold *h = &hold[rnd(NHOLD)];
	unsigned s, slot, i;
	struct mmap *m = pick(&s, &slot);
	int prot = rnd(2) == 0 ? VMM_PROT_READ : VMM_PROT_RW;

	if (m == NULL || h->used)
		return;
	i = (unsigned)rnd(m->n);
	if ((m->prot & prot) != prot) {
		CHECK(vm_hold(vms[s], gpa_of(slot, m, i), 8, prot, &h->h) == -EFAULT,
		    "hold");
		return;
	}
	if (!worked(vm_hold(vms[s], gpa_of(slot, m, i), 8, prot, &h->h)))
		return;
	content_check(h->h.ptr, model_get(m->o, m->off + i), h->h.gpa);
	h->used = true;
	h->space = s;
	h->page = m->off + i;
	h->o = NULL;
	if ((prot & VMM_PROT_WRITE) != 0) {
		h->o = m->o;
		m->o->nwrite++;
	}
}

static void
op_unhold(struct mhold *h)
{
	uint64_t *p = h->h.ptr, v = rng;

	if (!h->used)
		return;
	h->used = false;
	if (h->o != NULL) {
		p[0] = p[511] = v;
		model_set(h->o, h->page, v);
		for (unsigned k = 0; k < NSLOT; k++) {
			struct mmap *m = &map[h->space][k];

			if (m->o == h->o && h->page >= m->off &&
			    h->page - m->off < m->n)
				m->written[h->page - m->off] = true;
		}
	}
	vm_release(vms[h->space], &h->h);
	if (h->o != NULL) {
		h->o->nwrite--;
		model_maybe_dead(h->o);
	}
}

static bool
anything_wired(void)
{
	for (unsigned i = 0; i < NHOLD; i++)
		if (hold[i].used)
			return true;
	for (unsigned i = 0; i < NSPACE * NSLOT; i++)
		if (map[0][i].o != NULL && map[0][i].wired)
			return true;
	return false;
}

static void
op_discard(void)
{
	unsigned s, slot, first, n;
	struct mmap *m = pick(&s, &slot);
	int error;

	if (m == NULL)
		return;
	first = (unsigned)rnd(m->n);
	n = 1 + (unsigned)rnd(base_min(m->n - first, 20u));
	error = vm_map_discard(vms[s], gpa_of(slot, m, first), n * PAGE);
	if ((m->prot & VMM_PROT_WRITE) == 0 || m->o->kind == DEV) {
		CHECK(error == -EFAULT, "discard of what may not be: %d", error);
		return;
	}
	if (!worked(error))
		return;
	if (!in_turn)
		fake_fail(0, 0, 0);
	for (unsigned i = first; i < first + n; i++) {
		uint64_t old = model_get(m->o, m->off + i), *p;
		struct vm_hold h;

		m->written[i] = false;
		if (!anything_wired()) {
			model_set(m->o, m->off + i, 0);
			continue;
		}
		/* wired, it stays */
		while (!worked(vm_hold(vms[s], gpa_of(slot, m, i), 8, VMM_PROT_READ,
		    &h)))
			;
		p = h.ptr;
		CHECK(p[0] == old || p[0] == 0, "discard: %lu", p[0]);
		content_check(p, p[0], h.gpa);
		model_set(m->o, m->off + i, p[0]);
		vm_release(vms[s], &h);
	}
}

static int
wired_page(void *arg, gpa_t gpa, uint64_t hpa)
{
	struct mmap *m = arg;
	unsigned s = (unsigned)((m - map[0]) / NSLOT);
	unsigned slot = (unsigned)((m - map[0]) % NSLOT);
	unsigned i = (unsigned)((gpa - gpa_of(slot, m, 0)) / PAGE);

	(void)s;
	content_check(PHYS_TO_DMAP(hpa), model_get(m->o, m->off + i), gpa);
	return rnd(400) == 0 ? -EIO : 0;
}

static void
op_wire(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);
	int error;

	if (m == NULL)
		return;
	error = vm_map_wire(vms[s], gpa_of(slot, m, 0), m->n * PAGE, wired_page, m);
	if (error != 0 && error != -EIO)
		(void)worked(error);
	if (error != 0)
		return;
	vm_check(vms[s]);
	vm_map_unwire(vms[s], gpa_of(slot, m, 0), m->n * PAGE);
}

static bool seen[NSLOT][MAXLEN];

static bool
dirty_block(void *arg, const struct vmm_block *b)
{
	unsigned s = (unsigned)(uintptr_t)arg;

	for (unsigned i = 0; i < 512; i++) {
		gpa_t gpa = b->gpa + i * PAGE;
		unsigned slot = (unsigned)((gpa >> 22) - 1);
		struct mmap *m = &map[s][slot];

		if ((b->page[i / 64] >> (i % 64) & 1) == 0)
			continue;
		CHECK(slot < NSLOT && m->o != NULL && gpa >= gpa_of(slot, m, 0) &&
		    gpa < gpa_of(slot, m, m->n), "%lx is dirty, not mapped", gpa);
		seen[slot][(gpa - gpa_of(slot, m, 0)) / PAGE] = true;
	}
	return true;
}

static void
op_dirty(void)
{
	unsigned s = (unsigned)rnd(NSPACE);

	memset(seen, 0, sizeof(seen));
	(void)vm_mark_fetch(vms[s], client[s], VM_MARK_DIRTY, dirty_block,
	    (void *)(uintptr_t)s);
	for (unsigned k = 0; k < NSLOT; k++) {
		struct mmap *m = &map[s][k];

		for (unsigned i = 0; m->o != NULL && i < m->n; i++)
			CHECK(!m->written[i] || seen[k][i], "%lx is written, not dirty",
			    gpa_of(k, m, i));
		memset(m->written, 0, sizeof(m->written));
	}
}

static void
op_reclaim(void)
{
	(void)vmspace_reclaim(vms[rnd(NSPACE)], rnd(200) * PAGE);
}

static void
op_limit(void)
{
	CHECK(vmspace_set_limit(vms[rnd(NSPACE)], rnd(2) * VM_LIMIT_MIN) == 0, "limit");
}

static void
op_age(void)
{
	unsigned s, slot;
	struct mmap *m = pick(&s, &slot);

	(void)vm_mark_fetch(vms[s], client[s], VM_MARK_ACCESSED, NULL, NULL);
	if (m != NULL)
		(void)pmap_promote(vmspace_pmap(vms[s]), gpa_of(slot, m, 0));
}

static void
op_unhold_any(void)
{
	op_unhold(&hold[rnd(NHOLD)]);
}

static const struct {
	const char *name;
	unsigned weight;
	void (*fn)(void);
} ops[] = {
	{ "access", 60, op_access },
	{ "sweep", 1, op_sweep },
	{ "object", 3, op_object },
	{ "release", 2, op_release },
	{ "insert", 4, op_insert },
	{ "remove", 3, op_remove },
	{ "protect", 2, op_protect },
	{ "hold", 6, op_hold },
	{ "unhold", 6, op_unhold_any },
	{ "discard", 2, op_discard },
	{ "wire", 1, op_wire },
	{ "dirty", 1, op_dirty },
	{ "reclaim", 3, op_reclaim },
	{ "limit", 1, op_limit },
	{ "age", 1, op_age },
};

static void
step(void)
{
	unsigned k = (unsigned)rnd(96), i = 0;

	while (k >= ops[i].weight)
		k -= ops[i++].weight;
	if (!in_turn && rnd(6) == 0)
		fake_fail(rnd(2) ? FAKE_ALL : (unsigned)rnd(FAKE_ALL + 1), 1 + rnd(3), 1 + rnd(3));
	ops[i].fn();
	if (!in_turn)
		fake_fail(0, 0, 0);
	done[i]++;
}

/* Every page of every map, through the front door. */
static void
verify(void)
{
	for (unsigned s = 0; s < NSPACE; s++)
		for (unsigned k = 0; k < NSLOT; k++)
			for (unsigned i = 0; map[s][k].o != NULL && i < map[s][k].n; i++)
				guest_access(s, k, i, VMM_PROT_READ);
}

/* nth: this call of that kind fails; 0: chance decides. => how many did */
static unsigned long
life(unsigned long steps, unsigned kind, unsigned long nth)
{
	struct fake_live live;
	struct vm_stats st;
	struct vm_live vl;
	unsigned long nfail;

	CHECK(vm_swap_init("/", 16 << 20) == 0, "swap");
	for (unsigned s = 0; s < NSPACE; s++) {
		struct vmspace_config cfg = { .event = event,
			.pmap_flags = (rnd(2) ? PMAP_F_AD_EMUL : 0) |
			    (rnd(4) ? PMAP_F_2M : 0) | (rnd(2) ? PMAP_F_EXEC_ONLY : 0) };

		cfg.type = rnd(2) ? PMAP_PT_EPT : PMAP_PT_X86;
		fmt[s] = cfg.type == PMAP_PT_EPT ? WALKER_EPT : WALKER_X86;
		CHECK(vmspace_create(&cfg, &vms[s]) == 0, "space");
		client[s] = vm_mark_open();
		CHECK(client[s] >= 0, "client");
	}
	in_turn = nth != 0;
	acked = 0;
	fake_fail(kind, nth, 1);
	for (unsigned long i = 0; i < steps; i++) {
		step_nr++;
		step();
		if (i % 256 == 0)
			check_all();
		if (i % 8192 == 8191)
			verify();
	}
	check_all();
	nfail = fake_failed();
	fake_fail(0, 0, 0);
	/* the end, in any order */
	for (unsigned i = 0; i < NHOLD; i++)
		op_unhold(&hold[i]);
	for (unsigned i = 0; i < NOBJ; i++)
		if (obj[i].alive && obj[i].handle && rnd(2) == 0) {
			vm_object_rele(obj[i].o);
			obj[i].handle = false;
		}
	for (unsigned s = 0; s < NSPACE; s++) {
		vmspace_stats(vms[s], &st);
		total.promotions += st.promotions;
		total.demotions += st.demotions;
		total.pageouts += st.pageouts;
		total.pageins += st.pageins;
		total.faults_cow += st.faults_cow;
		total.faults_file += st.faults_file;
		vm_mark_close(client[s]);
		vmspace_destroy(vms[s]);
	}
	for (unsigned i = 0; i < NOBJ; i++)
		if (obj[i].alive && obj[i].handle)
			vm_object_rele(obj[i].o);
	memset(obj, 0, sizeof(obj));
	memset(map, 0, sizeof(map));
	CHECK(vm_swap_used() == 0, "%lu slots left", vm_swap_used());
	vm_swap_fini();
	fake_live_get(&live);
	vm_live_get(&vl);
	CHECK(live.allocs + live.dmap + live.files + live.swaps == 0,
	    "left: %lu allocations, %lu bytes of the direct map, %lu files, %lu swaps",
	    live.allocs, live.dmap, live.files, live.swaps);
	CHECK(vl.objects + vl.entries + vl.chunks + vl.families + vl.spaces == 0,
	    "objects left");
	return nfail;
}

/* The same life again and again, in which each call fails once. */
static void
each_in_turn(void)
{
	static const unsigned kinds[] = { FAKE_ALLOC, FAKE_DMAP, FAKE_FILE, FAKE_READ,
		FAKE_WRITE, FAKE_DISCARD, FAKE_COLLAPSE };
	unsigned long calls = 0;

	for (unsigned k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
		for (unsigned long n = 1; n < 150; n++) {
			rng = (seed + k) * 0x9e3779b97f4a7c15 + 1;
			if (life(1500, kinds[k], n) == 0)
				break;
			calls++;
		}
	printf("%lu calls failed in turn\n", calls);
	CHECK(calls > 100, "few");
}

int
main(int argc, char **argv)
{
	unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 0) : 200000, n;

	seed = getenv("SEED") != NULL ? strtoul(getenv("SEED"), NULL, 0) : 1;
	rng = seed * 0x9e3779b97f4a7c15 + 1;
	if (vm_init() != 0)
		return 1;
	for (unsigned i = 0; i < MAXLEN; i++)
		filedata[i * 512] = filedata[i * 512 + 511] = i + 1000;
	fd = fake_file(filedata, sizeof(filedata));
	each_in_turn();
	rng = seed * 0x9e3779b97f4a7c15 + 1;
	for (; steps > 0; steps -= n) {
		n = base_min(steps, (unsigned long)LIFE);
		(void)life(n, 0, 0);
	}
	printf("%lu steps, %lu failed with the host, %lu pages lost for a while, "
	    "%lu promotions, %lu demotions, %lu out, %lu in, %lu copied, %lu from "
	    "the file\n", step_nr, fails, lost, total.promotions, total.demotions,
	    total.pageouts, total.pageins, total.faults_cow, total.faults_file);
	for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		printf("%s %lu%s", ops[i].name, done[i],
		    i + 1 < sizeof(ops) / sizeof(ops[0]) ? ", " : "\n");
	CHECK(step_nr < 50000 || (fails > 100 && lost > 10 && total.promotions > 10 &&
	    total.pageins > 100 && total.faults_cow > 100), "little happened");
	return 0;
}
