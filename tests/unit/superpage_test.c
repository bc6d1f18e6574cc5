/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Leaves of 1 GB: they come about from 512 x 512 pages that agree, in both
 * formats, and each reason to be different takes them apart again, counted.
 * A sparse gigabyte: the pages are entered, not touched.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "../model/walker.h"
#include "base/host.h"
#include "vm/vm.h"

#define PAGE 4096ul
#define MB2 (2ul << 20)
#define GB (1ul << 30)
#define NPAGE (GB / PAGE)

/* The host's huge pages are not wanted here, only that they are asked for. */
static unsigned collapses;
static int refuse;
static bool real;
int __wrap_host_dmap_collapse(uint64_t hpa, uint64_t len);
int __real_host_dmap_collapse(uint64_t hpa, uint64_t len);

int
__wrap_host_dmap_collapse(uint64_t hpa, uint64_t len)
{
	assert_int_equal(hpa % MB2, 0);
	assert_int_equal(len, MB2);
	collapses++;
	return real ? __real_host_dmap_collapse(hpa, len) : refuse;
}

static uint64_t
fetch(void *arg, uint64_t pa)
{
	(void)arg;
	return *(uint64_t *)PHYS_TO_DMAP(pa);
}

/* How many leaves of 1 GB, 2 MB, 4 KB the second walker finds. */
static void
leaf(void *arg, uint64_t gpa, const struct walker_result *w)
{
	unsigned *n = arg;

	(void)gpa;
	assert_false(w->misconfigured);
	n[w->size == GB ? 0 : w->size == MB2 ? 1 : 2]++;
}

static const struct {
	const char *name;
	enum pmap_type type;
	enum walker_format walker;
	unsigned flags;
} formats[] = {
	{ "ept", PMAP_PT_EPT, WALKER_EPT, 0 },
	{ "x86", PMAP_PT_X86, WALKER_X86, 0 },
	{ "ept, emulated A/D", PMAP_PT_EPT, WALKER_EPT, PMAP_F_AD_EMUL },
};

static void
leaves_are(struct pmap *pm, enum walker_format f, unsigned gb, unsigned mb2,
    unsigned kb4)
{
	struct pmap_stats st, found;
	unsigned n[3] = { 0, 0, 0 };

	walker_all(f, pmap_root(pm), fetch, NULL, leaf, n);
	assert_int_equal(n[0], gb);
	assert_int_equal(n[1], mb2);
	assert_int_equal(n[2], kb4);
	pmap_recount(pm, &found, &st);
	assert_int_equal(st.large[1], gb);
	assert_int_equal(st.large[0], mb2);
	assert_memory_equal(st.large, found.large, sizeof(st.large));
	assert_int_equal(st.resident, found.resident);
	assert_int_equal(st.pt_pages, found.pt_pages);
	pmap_check(pm);
}

/* => bytes of the last leaf that came about */
static uint64_t
fill(struct pmap *pm, gpa_t gpa, hpa_t hpa, int access)
{
	uint64_t large = 0;

	for (uint64_t o = 0; o < GB; o += PAGE)
		assert_int_equal(pmap_enter(pm, gpa + o, hpa + o, VMM_PROT_RW, access,
		    &large), 0);
	return large;
}

static uint64_t
demotions(struct pmap *pm)
{
	struct pmap_stats st;

	pmap_stats_get(pm, &st);
	return st.demotions;
}

static void
test_pmap(void **state)
{
	uint64_t hpa;

	(void)state;
	assert_int_equal(host_dmap_alloc(2 * GB, &hpa), 0);
	assert_int_equal(hpa % GB, 0);
	for (unsigned i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		enum walker_format f = formats[i].walker;
		struct pmap_stats st;
		struct pmap *pm;
		uint64_t t;

		assert_int_equal(pmap_create(formats[i].type,
		    formats[i].flags | PMAP_F_2M | PMAP_F_1G, NULL, NULL, &pm), 0);
		assert_int_equal(fill(pm, 4 * GB, hpa, VMM_PROT_RW), GB);
		leaves_are(pm, f, 1, 0, 0);
		pmap_stats_get(pm, &st);
		assert_int_equal(st.promotions, 513);
		/* one page's protection */
		pmap_protect(pm, 4 * GB + 5 * MB2 + PAGE, PAGE, VMM_PROT_READ);
		assert_int_equal(demotions(pm), 2);
		leaves_are(pm, f, 0, 511, 512);
		/* given back its right, it agrees again */
		assert_int_equal(pmap_enter(pm, 4 * GB + 5 * MB2 + PAGE,
		    hpa + 5 * MB2 + PAGE, VMM_PROT_RW, VMM_PROT_RW, &t), 0);
		assert_int_equal(t, GB);
		leaves_are(pm, f, 1, 0, 0);
		/* the dirty bit of one page */
		assert_true(pmap_clear_modify(pm, 4 * GB + 7 * MB2));
		assert_int_equal(demotions(pm), 4);
		leaves_are(pm, f, 0, 511, 512);
		assert_int_equal(pmap_enter(pm, 4 * GB + 7 * MB2, hpa + 7 * MB2,
		    VMM_PROT_RW, VMM_PROT_RW, &t), 0);
		leaves_are(pm, f, 1, 0, 0);
		/* 2 MB of it is taken out whole: one demotion, not two */
		pmap_remove(pm, 4 * GB + 9 * MB2, MB2, NULL, NULL);
		assert_int_equal(demotions(pm), 5);
		leaves_are(pm, f, 0, 511, 0);
		/* all: none */
		pmap_remove(pm, 4 * GB, GB, NULL, NULL);
		assert_int_equal(demotions(pm), 5);
		leaves_are(pm, f, 0, 0, 0);
		/* a host address off by 2 MB: 2 MB leaves, never 1 GB */
		assert_int_equal(fill(pm, 4 * GB, hpa + MB2, VMM_PROT_RW), MB2);
		leaves_are(pm, f, 0, 512, 0);
		pmap_remove(pm, 4 * GB, GB, NULL, NULL);
		/* off by a page: none at all */
		assert_int_equal(fill(pm, 4 * GB, hpa + PAGE, VMM_PROT_RW), 0);
		leaves_are(pm, f, 0, 0, NPAGE);
		pmap_destroy(pm);
	}
	host_dmap_free(hpa, 2 * GB);
}

/* --- through vm ------------------------------------------------------------ */

static struct vmspace *
space(enum pmap_type type)
{
	struct vmspace_config cfg = { .type = type,
		.pmap_flags = PMAP_F_2M | PMAP_F_1G };
	struct vmspace *vms;

	assert_int_equal(vmspace_create(&cfg, &vms), 0);
	return vms;
}

static void
touch(struct vmspace *vms, gpa_t gpa, uint64_t len, int access)
{
	for (gpa_t g = gpa; g < gpa + len; g += PAGE)
		assert_int_equal(vm_fault(vms, g, access), 0);
}

/* Demotions since the last call; vm_stats must agree with the pmap. */
static uint64_t
since(struct vmspace *vms)
{
	static uint64_t last;
	struct vm_stats st;
	uint64_t n;

	vmspace_stats(vms, &st);
	assert_int_equal(st.demotions, demotions(vmspace_pmap(vms)));
	n = st.demotions - last;
	last = st.demotions;
	vm_check(vms);
	return n;
}

static void
test_sysmem(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	struct pmap *pm = vmspace_pmap(vms);
	struct vm_object *obj, *small, *sh;
	struct vm_stats st;
	int client;

	(void)state;
	/* something before it, so that it is aligned by intent */
	assert_int_equal(vm_object_create_anon(3 * MB2, &small), 0);
	assert_int_equal(vm_object_create_anon(GB + MB2, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, GB + MB2, obj, 0, VMM_PROT_RW, 0), 0);
	collapses = 0;
	touch(vms, 0, GB + MB2, VMM_PROT_WRITE);
	assert_int_equal(collapses, 513);
	leaves_are(pm, WALKER_EPT, 1, 1, 0);
	(void)since(vms);
	/* looking what is dirty */
	client = vm_mark_open();
	assert_true(client >= 0);
	assert_int_equal(vm_mark_fetch(vms, client, VM_MARK_DIRTY, NULL, NULL),
	    NPAGE + 512);
	assert_int_equal(since(vms), 1 + 512 + 1);
	leaves_are(pm, WALKER_EPT, 0, 0, NPAGE + 512);
	vm_mark_close(client);
	touch(vms, 0, GB, VMM_PROT_WRITE);
	leaves_are(pm, WALKER_EPT, 1, 0, 512);
	/* page-out takes some: their 2 MB, and the 1 GB around them */
	assert_int_equal(vmspace_reclaim(vms, 32 * PAGE), 32 * PAGE);
	vmspace_stats(vms, &st);
	assert_int_equal(st.zero, 32);
	assert_int_equal(since(vms), 2);
	leaves_are(pm, WALKER_EPT, 0, 511, 512 - 32 + 512);
	touch(vms, 0, GB, VMM_PROT_WRITE);
	leaves_are(pm, WALKER_EPT, 1, 0, 512);
	(void)since(vms);
	/* the guest's balloon takes one page */
	assert_int_equal(vm_map_discard(vms, 17 * PAGE, PAGE), 0);
	assert_int_equal(since(vms), 2);
	assert_int_equal(vm_map_remove(vms, 0, GB + MB2), 0);
	/* a shadow reads it all, then writes to one page */
	assert_int_equal(vm_object_create_shadow(obj, 0, GB, &sh), 0);
	assert_int_equal(vm_map_insert(vms, 0, GB, sh, 0, VMM_PROT_RW, 0), 0);
	touch(vms, 0, GB, VMM_PROT_READ);
	/* the page that was discarded is the shadow's own */
	leaves_are(pm, WALKER_EPT, 0, 511, 512);
	(void)since(vms);
	assert_int_equal(vm_fault(vms, 9 * MB2 + PAGE, VMM_PROT_WRITE), 0);
	assert_int_equal(since(vms), 1);
	vm_object_rele(sh);
	vm_object_rele(obj);
	vm_object_rele(small);
	vmspace_destroy(vms);
}

/* Read first: a large leaf that may not be written; a write takes it apart, and
 * when all is written it is one again. */
static void
test_clean(void **state)
{
	struct vmspace *vms = space(PMAP_PT_X86);
	struct pmap *pm = vmspace_pmap(vms);
	struct vm_object *obj;
	struct pmap_walk w;

	(void)state;
	assert_int_equal(vm_object_create_anon(GB, &obj), 0);
	assert_int_equal(vm_map_insert(vms, GB, GB, obj, 0, VMM_PROT_RW, 0), 0);
	touch(vms, GB, GB, VMM_PROT_READ);
	leaves_are(pm, WALKER_X86, 1, 0, 0);
	assert_int_equal(pmap_walk(pm, GB, VMM_PROT_WRITE, &w), -EFAULT);
	(void)since(vms);
	assert_int_equal(vm_fault(vms, GB, VMM_PROT_WRITE), 0);
	assert_int_equal(since(vms), 2);
	leaves_are(pm, WALKER_X86, 0, 511, 512);
	assert_int_equal(pmap_walk(pm, GB, VMM_PROT_WRITE, &w), 0);
	touch(vms, GB, GB, VMM_PROT_WRITE);
	leaves_are(pm, WALKER_X86, 1, 0, 0);
	vm_object_rele(obj);
	vmspace_destroy(vms);
}

/* Two windows on device memory side by side are one leaf; when one of them
 * moves, the other remains. */
static void
test_devmem(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	struct pmap *pm = vmspace_pmap(vms);
	int fd = memfd_create("dev", MFD_CLOEXEC);
	struct vm_object *obj;

	(void)state;
	assert_true(fd >= 0 && ftruncate(fd, (off_t)GB) == 0);
	assert_int_equal(vm_object_create_dev(fd, GB, &obj), 0);
	close(fd);
	assert_int_equal(vm_map_insert(vms, 0, GB / 2, obj, 0, VMM_PROT_RW, 0), 0);
	assert_int_equal(vm_map_insert(vms, GB / 2, GB / 2, obj, GB / 2, VMM_PROT_RW,
	    0), 0);
	collapses = 0;
	touch(vms, 0, GB, VMM_PROT_WRITE);
	assert_int_equal(collapses, 0);
	leaves_are(pm, WALKER_EPT, 1, 0, 0);
	(void)since(vms);
	assert_int_equal(vm_map_remove(vms, GB / 2, GB / 2), 0);
	assert_int_equal(since(vms), 1);
	leaves_are(pm, WALKER_EPT, 0, 256, 0);
	/* elsewhere */
	assert_int_equal(vm_map_insert(vms, 7 * GB, GB / 2, obj, GB / 2, VMM_PROT_RW,
	    0), 0);
	touch(vms, 7 * GB, GB / 2, VMM_PROT_WRITE);
	leaves_are(pm, WALKER_EPT, 0, 512, 0);
	vm_object_rele(obj);
	vmspace_destroy(vms);
}

/* How many bytes of those 2 MB the host really has. */
static uint64_t
host_resident(struct vmspace *vms, gpa_t gpa)
{
	unsigned char vec[512];
	uint64_t n = 0;
	hpa_t hpa;

	assert_true(pmap_extract(vmspace_pmap(vms), gpa, &hpa, NULL));
	assert_int_equal(mincore(PHYS_TO_DMAP(hpa), MB2, vec), 0);
	for (unsigned i = 0; i < 512; i++)
		n += (vec[i] & 1) * PAGE;
	return n;
}

/* The host's page comes when 64 in a row are in use, unless memory has a limit, and what
 * it filled in goes again with the first page that leaves. */
static void
test_early(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	struct vm_object *obj;
	struct vm_stats st;

	(void)state;
	assert_int_equal(vm_object_create_anon(2 * MB2, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, 2 * MB2, obj, 0, VMM_PROT_RW, 0), 0);
	real = true;
	collapses = 0;
	touch(vms, 0, 63 * PAGE, VMM_PROT_WRITE);
	touch(vms, 300 * PAGE, PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 0);
	touch(vms, 63 * PAGE, PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 1);
	vmspace_stats(vms, &st);
	assert_int_equal(st.collapses + st.collapse_fails, 1);
	if (st.collapses == 1)
		assert_int_equal(host_resident(vms, 0), MB2);
	assert_int_equal(vm_map_discard(vms, 300 * PAGE, PAGE), 0);
	if (st.collapses == 1)
		assert_int_equal(host_resident(vms, 0), 64 * PAGE);
	vm_check(vms);
	real = false;
	vm_object_rele(obj);
	vmspace_destroy(vms);
	/* refused: tried again when the mapping is large */
	vms = space(PMAP_PT_EPT);
	assert_int_equal(vm_object_create_anon(2 * MB2, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, 2 * MB2, obj, 0, VMM_PROT_RW, 0), 0);
	collapses = 1;
	refuse = -ENOMEM;
	touch(vms, MB2, MB2, VMM_PROT_WRITE);
	refuse = 0;
	/* less and less, and when it is large */
	assert_int_equal(collapses, 1 + 4);
	vmspace_stats(vms, &st);
	assert_int_equal(st.collapse_fails, 4);
	/* with a limit, only then */
	assert_int_equal(vm_map_discard(vms, 0, 2 * MB2), 0);
	assert_int_equal(vmspace_set_limit(vms, 64 * MB2), 0);
	touch(vms, 0, MB2 - PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 5);
	touch(vms, MB2 - PAGE, PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 6);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	/* scattered: when most of it is there */
	vms = space(PMAP_PT_X86);
	assert_int_equal(vm_object_create_anon(8 * MB2, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, 8 * MB2, obj, 0, VMM_PROT_RW, 0), 0);
	collapses = 0;
	for (unsigned i = 0; i < 390; i++)
		if (i % 64 != 5)
			touch(vms, i * PAGE, PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 0);
	touch(vms, 390 * PAGE, 6 * PAGE, VMM_PROT_WRITE);
	assert_int_equal(collapses, 1);
	/* four may wait for the rest of their pages */
	real = true;
	for (unsigned i = 1; i < 6; i++)
		touch(vms, i * MB2, 64 * PAGE, VMM_PROT_WRITE);
	real = false;
	vmspace_stats(vms, &st);
	if (st.collapses == 6) { /* the host had all */
		assert_int_equal(collapses, 6);
		for (unsigned i = 1; i < 6; i++)
			assert_int_equal(host_resident(vms, i * MB2),
			    i == 1 ? 64 * PAGE : MB2);
		/* not twice before it is full */
		touch(vms, MB2, MB2 - PAGE, VMM_PROT_WRITE);
		assert_int_equal(collapses, 6);
		touch(vms, MB2, MB2, VMM_PROT_WRITE);
		assert_int_equal(collapses, 7);
	}
	vm_object_rele(obj);
	vmspace_destroy(vms);
}

/* The host's side: contents stay, also where there is nothing to collapse. */
static void
test_collapse(void **state)
{
	struct timespec a, b;
	uint64_t hpa;
	uint64_t *p;
	int error;

	(void)state;
	assert_int_equal(host_dmap_alloc(4 * MB2, &hpa), 0);
	p = PHYS_TO_DMAP(hpa);
	for (uint64_t i = 0; i < 2 * MB2 / 8; i += 512)
		p[i] = i;
	clock_gettime(CLOCK_MONOTONIC, &a);
	error = __real_host_dmap_collapse(hpa, MB2);
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("collapse of 2 MB: error %d, %ld us\n", error,
	    (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000);
	/* what the host refuses: beyond, not of whole pages */
	assert_true(__real_host_dmap_collapse(hpa + 512 * MB2, MB2) < 0);
	assert_true(__real_host_dmap_collapse(hpa + 8, MB2) < 0);
	for (uint64_t i = 0; i < 2 * MB2 / 8; i += 512)
		assert_int_equal(p[i], i);
	assert_int_equal(host_dmap_discard(hpa, PAGE), 0);
	assert_int_equal(p[0], 0);
	assert_int_equal(p[512], 512);
	host_dmap_free(hpa, 4 * MB2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pmap),
		cmocka_unit_test(test_sysmem),
		cmocka_unit_test(test_clean),
		cmocka_unit_test(test_devmem),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_collapse),
	};

	return vm_init() != 0 || cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
