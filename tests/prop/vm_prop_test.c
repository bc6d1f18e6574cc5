/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations on vm and pmap against a flat model, the tables read by a
 * second walker after each.
 *
 *   vm_prop_test [STEPS]        SEED=n replays a run
 *
 * The model is arrays: what each gpa page is mapped to, with which rights,
 * whether it is in the tables, accessed, dirty, and what its first word holds.
 * After every operation: every leaf of the real tables must be in the model
 * with the same page, rights and A/D bits; every leaf of the model must be in
 * the tables; resident counts and contents must agree.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "../model/walker.h"
#include "base/host.h"
#include "vm/vm.h"

#define NPAGES 640 /* gpa pages the test plays with, spread over two tables */
#define NOBJ 4
#define OBJPAGES 256
#define GPA0 (510ul << 12) /* straddles a 2 MB boundary */

struct model_page {
	int obj; /* -1: unmapped */
	unsigned opage;
	int prot;
	bool entered, a, d;
};
struct model_entry {
	bool used;
	unsigned start, n; /* pages */
	int maxprot;
};
static struct model_page mp[NPAGES];
static struct model_entry me[NPAGES];
static struct vm_object *obj[NOBJ];
static uint64_t word[NOBJ][OBJPAGES];
static bool resident[NOBJ][OBJPAGES];
static char *devmem; /* another mapping of object 3's file */
static struct vmspace *vms;
static enum walker_format fmt;
static uint64_t seed, rng;
static unsigned long step_nr;
static unsigned kicks;

static uint64_t
rnd(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

#define CHECK(e, ...)                                                      \
	do {                                                               \
		if (!(e)) {                                                \
			printf("FAILED step %lu SEED=%lu format %d: %s: ", step_nr, \
			    seed, fmt, #e);                                \
			printf(__VA_ARGS__);                               \
			printf("\n");                                      \
			exit(1);                                           \
		}                                                          \
	} while (0)

static uint64_t
read_entry(void *arg, uint64_t pa)
{
	(void)arg;
	return *(uint64_t *)PHYS_TO_DMAP(pa);
}

static void
kick(void *arg, unsigned vcpu)
{
	(void)arg;
	(void)vcpu;
	kicks++;
}

static gpa_t
gpa_of(unsigned p)
{
	return GPA0 + (gpa_t)p * VMM_PAGE_SIZE;
}

static unsigned nleaves;

/* Every leaf the walker finds must be the model's. */
static void
leaf_check(void *arg, uint64_t gpa, const struct walker_result *w)
{
	(void)arg;
	CHECK(!w->misconfigured, "gpa %lx", gpa);
	for (uint64_t o = 0; o < w->size; o += VMM_PAGE_SIZE) {
		uint64_t p = (gpa + o - GPA0) / VMM_PAGE_SIZE;
		int prot = (w->r ? VMM_PROT_READ : 0) | (w->w ? VMM_PROT_WRITE : 0) |
		    (w->x ? VMM_PROT_EXEC : 0);
		int want;

		CHECK(gpa + o >= GPA0 && p < NPAGES, "stray leaf at %lx", gpa);
		CHECK(mp[p].entered, "page %lu should not be in the tables", p);
		want = mp[p].prot;
		if ((want & VMM_PROT_WRITE) != 0 || fmt == WALKER_X86)
			want |= VMM_PROT_READ;
		CHECK(prot == want, "page %lu has %d, want %d", p, prot, want);
		CHECK(w->a == mp[p].a && w->d == mp[p].d,
		    "page %lu A %d D %d, want %d %d", p, w->a, w->d, mp[p].a, mp[p].d);
		CHECK(*(uint64_t *)PHYS_TO_DMAP(w->pa + o) ==
		    word[mp[p].obj][mp[p].opage], "page %lu holds another page", p);
		nleaves++;
	}
}

static void
check_all(void)
{
	struct vm_stats st;
	unsigned entered = 0;
	uint64_t res[NOBJ] = { 0 };

	nleaves = 0;
	walker_all(fmt, pmap_root(vmspace_pmap(vms)), read_entry, NULL, leaf_check, NULL);
	for (unsigned p = 0; p < NPAGES; p++)
		entered += mp[p].entered;
	CHECK(nleaves == entered, "%u leaves, want %u", nleaves, entered);
	for (unsigned o = 0; o < NOBJ; o++) {
		for (unsigned i = 0; i < OBJPAGES; i++)
			res[o] += resident[o][i];
		CHECK(vm_object_resident(obj[o]) == res[o] * VMM_PAGE_SIZE,
		    "object %u: %lu resident, want %lu pages", o,
		    vm_object_resident(obj[o]), res[o]);
	}
	vmspace_stats(vms, &st);
	CHECK(st.held == 0, "%lu held", st.held);
	CHECK(step_nr % 16 != 0 || vm_recount(vms, NULL, NULL) == 0,
	    "a statistic differs from a recount");
}

static void
unenter(unsigned p)
{
	mp[p].entered = mp[p].a = mp[p].d = false;
}

static void
op_insert(void)
{
	unsigned start = (unsigned)rnd(NPAGES), n = 1 + (unsigned)rnd(40);
	unsigned o = (unsigned)rnd(NOBJ), off = (unsigned)rnd(OBJPAGES);
	int prot = 1 + (int)rnd(7), error, want = 0;
	uint64_t len = (uint64_t)n * VMM_PAGE_SIZE;

	if (rnd(20) == 0)
		len += 1 + rnd(4095);
	if (start + n > NPAGES)
		return;
	if (len % VMM_PAGE_SIZE != 0 || off + n > OBJPAGES)
		want = -EINVAL;
	for (unsigned p = start; p < start + n && want == 0; p++)
		if (mp[p].obj >= 0)
			want = -EFAULT;
	error = vm_map_insert(vms, gpa_of(start), len, obj[o],
	    (uint64_t)off * VMM_PAGE_SIZE, prot, 0);
	CHECK(error == want, "insert %u+%u: %d, want %d", start, n, error, want);
	if (error != 0)
		return;
	me[start] = (struct model_entry){ true, start, n, prot };
	for (unsigned i = 0; i < n; i++)
		mp[start + i] = (struct model_page){ .obj = (int)o, .opage = off + i,
			.prot = prot };
}

/* A used entry's start, or any page. */
static unsigned
pick_entry(void)
{
	unsigned s = (unsigned)rnd(NPAGES);

	for (unsigned i = 0; i < NPAGES; i++)
		if (me[(s + i) % NPAGES].used)
			return (s + i) % NPAGES;
	return s;
}

static void
op_remove(void)
{
	unsigned s = rnd(8) == 0 ? (unsigned)rnd(NPAGES) : pick_entry();
	unsigned n = me[s].used ? me[s].n : 1;
	int want = me[s].used ? 0 : -EINVAL, error;

	if (rnd(8) == 0) {
		n++;
		want = -EINVAL;
	}
	error = vm_map_remove(vms, gpa_of(s), (uint64_t)n * VMM_PAGE_SIZE);
	CHECK(error == want, "remove %u+%u: %d, want %d", s, n, error, want);
	if (error != 0)
		return;
	me[s].used = false;
	for (unsigned p = s; p < s + n; p++) {
		mp[p].obj = -1;
		unenter(p);
	}
}

static void
op_protect(void)
{
	unsigned s = pick_entry(), n = me[s].n;
	int prot = 1 + (int)rnd(7), want = 0, error;

	if (!me[s].used)
		return;
	if ((prot & ~me[s].maxprot) != 0)
		want = -EINVAL;
	error = vm_map_protect(vms, gpa_of(s), (uint64_t)n * VMM_PAGE_SIZE, prot);
	CHECK(error == want, "protect %u to %d: %d, want %d", s, prot, error, want);
	if (error != 0)
		return;
	for (unsigned p = s; p < s + n; p++) {
		mp[p].prot = prot;
		unenter(p);
	}
}

static int
can(unsigned p, int access)
{
	return mp[p].obj >= 0 && (mp[p].prot & access) == access;
}

/* A guest access: the walker, a fault if it says so, the walker again. */
static void
op_access(void)
{
	static const int kinds[] = { VMM_PROT_READ, VMM_PROT_WRITE, VMM_PROT_EXEC };
	unsigned p = (unsigned)rnd(NPAGES);
	int access = kinds[rnd(3)], error, ok;
	uint64_t off = rnd(VMM_PAGE_SIZE / 8) * 8;
	struct pmap *pm = vmspace_pmap(vms);
	struct pmap_walk w;

	(void)pmap_activate(pm, 0);
	error = pmap_walk(pm, gpa_of(p) + off, access, &w);
	pmap_deactivate(pm, 0);
	ok = can(p, access) || (access == VMM_PROT_READ && mp[p].obj >= 0 &&
	    mp[p].entered && (fmt == WALKER_X86 || (mp[p].prot & VMM_PROT_WRITE) != 0));
	CHECK((error == 0) == (mp[p].entered && ok), "walk of page %u for %d: %d", p,
	    access, error);
	if (error != 0) {
		CHECK((w.qual & 7) == access, "qualification %x for %d", w.qual, access);
		error = vm_fault(vms, gpa_of(p) + off, access);
		CHECK(error == (can(p, access) ? 0 : -EFAULT), "fault on page %u: %d", p,
		    error);
		if (error != 0)
			return;
		resident[mp[p].obj][mp[p].opage] = true;
		mp[p].entered = true;
		(void)pmap_activate(pm, 0);
		error = pmap_walk(pm, gpa_of(p) + off, access, &w);
		pmap_deactivate(pm, 0);
		CHECK(error == 0, "walk after the fault on page %u", p);
	}
	mp[p].a = true;
	CHECK((w.hpa & VMM_PAGE_MASK) == off, "offset lost");
	if (access == VMM_PROT_WRITE) {
		mp[p].d = true;
		CHECK((w.prot & VMM_PROT_WRITE) != 0, "written, but not writable");
		word[mp[p].obj][mp[p].opage] = rng;
		*(uint64_t *)PHYS_TO_DMAP(w.hpa & ~VMM_PAGE_MASK) = rng;
	} else if (!mp[p].d) {
		CHECK((w.prot & VMM_PROT_WRITE) == 0, "writable while clean");
	}
}

static void
op_hold(void)
{
	unsigned p = (unsigned)rnd(NPAGES);
	int prot = 1 + (int)rnd(3), error;
	struct vm_hold h;

	error = vm_hold(vms, gpa_of(p) + 8, 8, prot, &h);
	CHECK(error == (can(p, prot) ? 0 : -EFAULT), "hold of page %u: %d", p, error);
	if (error != 0)
		return;
	resident[mp[p].obj][mp[p].opage] = true;
	mp[p].entered = true;
	CHECK(((uint64_t *)h.ptr)[-1] == word[mp[p].obj][mp[p].opage],
	    "hold shows another page");
	if ((prot & VMM_PROT_WRITE) != 0) {
		word[mp[p].obj][mp[p].opage] = rng;
		((uint64_t *)h.ptr)[-1] = rng;
	}
	vm_release(vms, &h);
}

/* The other process writes device memory: the guest must see it. */
static void
op_devmem(void)
{
	unsigned i = (unsigned)rnd(OBJPAGES);

	CHECK(*(uint64_t *)(devmem + (size_t)i * VMM_PAGE_SIZE) == word[NOBJ - 1][i],
	    "devmem page %u", i);
	*(uint64_t *)(devmem + (size_t)i * VMM_PAGE_SIZE) = rng;
	word[NOBJ - 1][i] = rng;
}

static void
run(enum pmap_type type, unsigned long steps)
{
	static const struct pmap_callbacks cb = { .kick = kick };
	struct vmspace_config cfg = { .type = type,
		.pmap_flags = PMAP_F_EXEC_ONLY, .cb = &cb };
	int fd = memfd_create("prop", 0);

	fmt = type == PMAP_PT_EPT ? WALKER_EPT : WALKER_X86;
	memset(mp, 0, sizeof(mp));
	memset(me, 0, sizeof(me));
	memset(word, 0, sizeof(word));
	memset(resident, 0, sizeof(resident));
	for (unsigned p = 0; p < NPAGES; p++)
		mp[p].obj = -1;
	CHECK(vm_init() == 0 && vmspace_create(&cfg, &vms) == 0, "create");
	for (unsigned o = 0; o < NOBJ - 1; o++)
		CHECK(vm_object_create_anon(OBJPAGES * VMM_PAGE_SIZE, &obj[o]) == 0,
		    "object");
	CHECK(ftruncate(fd, OBJPAGES * VMM_PAGE_SIZE) == 0, "memfd");
	devmem = mmap(NULL, OBJPAGES * VMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
	    MAP_SHARED, fd, 0);
	CHECK(devmem != MAP_FAILED && vm_object_create_dev(fd,
		OBJPAGES * VMM_PAGE_SIZE, &obj[NOBJ - 1]) == 0, "devmem");
	close(fd);
	for (step_nr = 0; step_nr < steps; step_nr++) {
		unsigned k = (unsigned)rnd(100);

		if (k < 12)
			op_insert();
		else if (k < 20)
			op_remove();
		else if (k < 25)
			op_protect();
		else if (k < 85)
			op_access();
		else if (k < 95)
			op_hold();
		else
			op_devmem();
		/* a full comparison costs; do it always early, then often */
		if (step_nr < 2000 || rnd(16) == 0)
			check_all();
	}
	check_all();
	for (unsigned o = 0; o < NOBJ; o++)
		vm_object_rele(obj[o]);
	vmspace_destroy(vms);
	munmap(devmem, OBJPAGES * VMM_PAGE_SIZE);
	printf("%s: %lu operations agree with the model\n",
	    type == PMAP_PT_EPT ? "ept" : "x86", steps);
}

int
main(int argc, char **argv)
{
	unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 0) : 20000;
	const char *s = getenv("SEED");

	seed = s != NULL ? strtoul(s, NULL, 0) : (uint64_t)time(NULL) * 2654435761u + 1;
	rng = seed | 1;
	printf("SEED=%lu\n", seed);
	run(PMAP_PT_EPT, steps);
	run(PMAP_PT_X86, steps);
	return 0;
}
