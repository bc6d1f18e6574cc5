/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The IOMMU domain, seen by a DMA device that walks its tables with the tests'
 * own walker and keeps every translation until it is told to drop it.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "../model/walker.h"
#include "base/host.h"
#include "fake.h"
#include "vm/vm.h"
#include "vmm/hold.h"
#include "vmm/iommu.h"
#include "vmm/machine.h"
#include "vmm/memseg.h"

#define PAGE 4096ul
#define MB (1ul << 20)
#define GB (1ul << 30)
#define DMA_TLB 64

/* --- the device ----------------------------------------------------------- */

struct dma_dev {
	pthread_mutex_t lock;
	bool attached;
	uint64_t root;
	struct {
		bool valid, w;
		uint64_t gpa, pa;
	} tlb[DMA_TLB];
	unsigned flushes;
	int refuse;
};

static uint64_t
dma_fetch(void *arg, uint64_t pa)
{
	(void)arg;
	return atomic_load((_Atomic uint64_t *)PHYS_TO_DMAP(pa));
}

static int
dma_attach(void *arg, hpa_t root)
{
	struct dma_dev *d = arg;

	if (d->refuse != 0)
		return d->refuse;
	assert_false(d->attached);
	d->attached = true;
	d->root = root;
	return 0;
}

static void
dma_detach(void *arg)
{
	struct dma_dev *d = arg;

	pthread_mutex_lock(&d->lock);
	assert_true(d->attached);
	d->attached = false;
	memset(d->tlb, 0, sizeof(d->tlb));
	pthread_mutex_unlock(&d->lock);
}

static void
dma_flush(void *arg, gpa_t gpa, uint64_t len)
{
	struct dma_dev *d = arg;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < DMA_TLB; i++)
		if (d->tlb[i].gpa >= gpa && d->tlb[i].gpa < gpa + len)
			d->tlb[i].valid = false;
	d->flushes++;
	pthread_mutex_unlock(&d->lock);
}

static const struct iommu_ops dma_ops = { dma_attach, dma_detach, dma_flush };

/* One access within a page. => false: the IOMMU refuses it */
static bool
dma_access(struct dma_dev *d, gpa_t gpa, void *buf, unsigned len, bool write)
{
	unsigned i = gpa / PAGE % DMA_TLB;
	bool ok = false;
	char *p;

	pthread_mutex_lock(&d->lock);
	if (d->attached && (!d->tlb[i].valid || d->tlb[i].gpa != gpa / PAGE * PAGE)) {
		struct walker_result w = walker_translate(WALKER_X86, d->root, gpa,
		    dma_fetch, NULL);

		assert_false(w.misconfigured);
		d->tlb[i].valid = w.present && w.r;
		d->tlb[i].w = w.w;
		d->tlb[i].gpa = gpa / PAGE * PAGE;
		d->tlb[i].pa = w.pa / PAGE * PAGE;
	}
	if (d->attached && d->tlb[i].valid && (!write || d->tlb[i].w)) {
		p = (char *)PHYS_TO_DMAP(d->tlb[i].pa) + gpa % PAGE;
		memcpy(write ? p : buf, write ? buf : p, len);
		ok = true;
	}
	pthread_mutex_unlock(&d->lock);
	return ok;
}

static bool
dma_write64(struct dma_dev *d, gpa_t gpa, uint64_t v)
{
	return dma_access(d, gpa, &v, 8, true);
}

/* --- the machine ---------------------------------------------------------- */

static char *node; /* the device memory's file, as another process sees it */

static int
node_create(void *arg, const char *name, uint64_t len, int *fdp)
{
	(void)arg;
	*fdp = memfd_create(name, MFD_CLOEXEC);
	if (*fdp < 0 || ftruncate(*fdp, (off_t)len) != 0)
		return -ENOMEM;
	node = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, *fdp, 0);
	return node == MAP_FAILED ? -ENOMEM : 0;
}

static void
node_destroy(void *arg, const char *name)
{
	(void)arg;
	(void)name;
}

static const struct machine_node_ops node_ops = { node_create, node_destroy };

#define LOW (64 * MB)
#define HIGH (32 * MB)
#define FB (4 * MB)

/* sysmem at 0, and the first half of it again at 4 GB; a window of device
 * memory at 3 GB. */
static struct machine *
make(void)
{
	struct machine_config mc = { .name = "t", .ncpu = 1,
		.engine = &fake_engine, .nodes = &node_ops };
	struct machine *m;

	assert_int_equal(machine_create(&mc, &m), 0);
	assert_int_equal(memseg_alloc(m, 0, LOW, "", 1), 0);
	assert_int_equal(memseg_alloc(m, 2, FB, "fb", 3), 0);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, LOW, VMM_PROT_ALL, 0), 0);
	assert_int_equal(memseg_mmap(m, 4 * GB, 0, 0, HIGH, VMM_PROT_ALL, 0), 0);
	assert_int_equal(memseg_mmap(m, 3 * GB, 2, 0, FB, VMM_PROT_RW, 0), 0);
	return m;
}

static uint64_t
wired(struct machine *m)
{
	struct vm_stats st;

	vmspace_stats(machine_vmspace(m), &st);
	return st.wired;
}

static void
domain_is(struct machine *m, unsigned ndev, uint64_t bytes)
{
	struct iommu_info info;

	iommu_get_info(m, &info);
	assert_int_equal(info.ndev, ndev);
	assert_int_equal(info.domain, ndev != 0);
	assert_int_equal(info.pages * PAGE, bytes);
	vm_check(machine_vmspace(m));
}

#define DEVICE(d) struct dma_dev d = { .lock = PTHREAD_MUTEX_INITIALIZER }

static void
test_life(void **state)
{
	struct machine *m = make();
	struct vmm_memmap map = { .size = sizeof(map) };
	struct iommu_info info;
	DEVICE(a);
	DEVICE(b);
	uint64_t v;

	(void)state;
	/* none without devices, whatever happens to the map */
	domain_is(m, 0, 0);
	assert_int_equal(wired(m), 0);
	assert_int_equal(iommu_unassign(m, 1), -ENOENT);
	a.refuse = -ENODEV;
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &a), -ENODEV);
	a.refuse = 0;
	domain_is(m, 0, 0);
	assert_int_equal(wired(m), 0);
	assert_int_equal(memseg_getnext(m, 0, &map), 0);
	assert_int_equal(map.flags, 0);

	assert_int_equal(iommu_assign(m, 1, &dma_ops, &a), 0);
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &a), -EEXIST);
	assert_int_equal(iommu_assign(m, 2, &dma_ops, &b), 0);
	domain_is(m, 2, LOW + HIGH + FB);
	assert_int_equal(wired(m), (LOW + FB) / PAGE);
	iommu_get_info(m, &info);
	assert_int_equal(info.large[0], (LOW + HIGH + FB) / (2 * MB));
	/* sysmem's maps cannot go now */
	assert_int_equal(memseg_getnext(m, 0, &map), 0);
	assert_int_equal(map.flags, VMM_MAP_F_IOMMU);
	assert_int_equal(memseg_munmap(m, 0, LOW), -EINVAL);

	/* both see the guest's memory, at each of its addresses */
	v = 0x1122334455667788;
	assert_int_equal(hold_write(m, 5 * MB, &v, 8, NULL), 0);
	assert_true(dma_access(&a, 4 * GB + 5 * MB, &v, 8, false));
	assert_int_equal(v, 0x1122334455667788);
	assert_true(dma_write64(&b, 7 * MB, 99));
	assert_int_equal(hold_read(m, 4 * GB + 7 * MB, &v, 8, NULL), 0);
	assert_int_equal(v, 99);
	/* and nothing else */
	assert_false(dma_write64(&a, LOW, 1));
	assert_false(dma_write64(&a, GB, 1));
	assert_false(dma_write64(&a, 4 * GB + HIGH, 1));
	assert_false(dma_write64(&a, 1ul << 46, 1));

	assert_int_equal(iommu_unassign(m, 1), 0);
	assert_false(a.attached);
	assert_false(dma_write64(&a, 7 * MB, 98));
	domain_is(m, 1, LOW + HIGH + FB);
	assert_int_equal(iommu_unassign(m, 2), 0);
	domain_is(m, 0, 0);
	assert_int_equal(wired(m), 0);
	assert_int_equal(memseg_munmap(m, 0, LOW), 0);
	machine_destroy(m);
}

static void
test_step(void **state)
{
	struct machine *m = make();
	DEVICE(d);
	uint64_t v;

	(void)state;
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), 0);
	/* device memory: in step, with its rights */
	assert_true(dma_write64(&d, 3 * GB + 8, 4711));
	assert_int_equal(*(uint64_t *)(node + 8), 4711);
	assert_int_equal(memseg_munmap(m, 3 * GB, FB), 0);
	assert_int_equal(d.flushes, 1);
	assert_false(dma_write64(&d, 3 * GB + 8, 1));
	assert_int_equal(memseg_mmap(m, 3 * GB + FB, 2, 0, FB, VMM_PROT_READ, 0), 0);
	assert_true(dma_access(&d, 3 * GB + FB + 8, &v, 8, false));
	assert_int_equal(v, 4711);
	assert_false(dma_write64(&d, 3 * GB + FB + 8, 1));
	domain_is(m, 1, LOW + HIGH + FB);
	/* a new window on sysmem is wired and mapped, too */
	assert_int_equal(memseg_mmap(m, 8 * GB, 0, MB, 2 * MB, VMM_PROT_RW, 0), 0);
	domain_is(m, 1, LOW + HIGH + FB + 2 * MB);
	assert_int_equal(memseg_munmap(m, 8 * GB, 2 * MB), -EINVAL);
	assert_true(dma_write64(&d, 8 * GB, 5));
	assert_int_equal(hold_read(m, MB, &v, 8, NULL), 0);
	assert_int_equal(v, 5);
	/* reset: the devices go, and the windows of device memory */
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_RESET, -1), 0);
	assert_int_equal(machine_reinit(m), 0);
	assert_false(d.attached);
	domain_is(m, 0, 0);
	assert_int_equal(wired(m), 0);
	assert_int_equal(memseg_munmap(m, 8 * GB, 2 * MB), 0);
	/* the machine's end, too */
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), 0);
	machine_destroy(m);
	assert_false(d.attached);
}

static void
test_limit(void **state)
{
	struct machine *m = make();
	struct vmspace *vms = machine_vmspace(m);
	DEVICE(d);
	uint64_t v;

	(void)state;
	assert_int_equal(vm_swap_init("/tmp", 16 * MB), 0);
	assert_int_equal(vmspace_set_limit(vms, 2 * MB), 0);
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), -EBUSY);
	domain_is(m, 0, 0);
	assert_int_equal(vmspace_set_limit(vms, 0), 0);
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), 0);
	assert_int_equal(vmspace_set_limit(vms, 2 * MB), -EBUSY);
	assert_int_equal(vmspace_reclaim(vms, MB), 0);
	/* what only the device wrote is not lost by page-out afterwards */
	for (gpa_t g = 0; g < MB; g += PAGE)
		assert_true(dma_write64(&d, g, g + 1));
	assert_int_equal(iommu_unassign(m, 1), 0);
	assert_int_equal(vmspace_set_limit(vms, 2 * MB), 0);
	vm_check(vms);
	assert_in_range(vm_swap_used(), 1, 512);
	(void)vmspace_reclaim(vms, LOW);
	for (gpa_t g = 0; g < MB; g += PAGE) {
		assert_int_equal(hold_read(m, g, &v, 8, NULL), 0);
		assert_int_equal(v, g + 1);
	}
	machine_destroy(m);
	vm_swap_fini();
}

/* 2 GB of sysmem: leaves of 1 GB. */
static void
test_gigabyte(void **state)
{
	struct machine_config mc = { .name = "t", .ncpu = 1, .engine = &fake_engine };
	struct iommu_info info;
	struct machine *m;
	DEVICE(d);

	(void)state;
	assert_int_equal(machine_create(&mc, &m), 0);
	assert_int_equal(memseg_setup(m, 2 * GB + 6 * MB, 0), 0);
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), 0);
	iommu_get_info(m, &info);
	assert_int_equal(info.large[1], 2);
	assert_int_equal(info.large[0], 3);
	assert_true(dma_write64(&d, GB + 12 * PAGE, 1));
	assert_false(dma_write64(&d, 2 * GB + 6 * MB, 1));
	machine_destroy(m);
}

/* --- maps and devices at random -------------------------------------------- */

struct in_step {
	struct machine *m;
	uint64_t pages;
};

/* A leaf of the domain is what the guest has there, with its rights. */
static void
in_step_leaf(void *arg, uint64_t gpa, const struct walker_result *w)
{
	struct in_step *is = arg;
	struct vmspace *vms = machine_vmspace(is->m);

	assert_false(w->misconfigured);
	for (uint64_t o = 0; o < w->size; o += PAGE) {
		gpa_t start, end;
		hpa_t hpa;
		int prot;

		assert_true(vm_map_lookup(vms, gpa + o, &start, &end, &prot));
		assert_int_equal(w->w, (prot & VMM_PROT_WRITE) != 0);
		assert_int_equal(vm_fault(vms, gpa + o, prot & VMM_PROT_RW), 0);
		assert_true(pmap_extract(vmspace_pmap(vms), gpa + o, &hpa, NULL));
		assert_int_equal(hpa, w->pa + o);
		is->pages++;
	}
}

static void
in_step(struct machine *m, const struct dma_dev *d, unsigned ndev)
{
	struct in_step is = { .m = m };
	struct vmm_memmap map = { .size = sizeof(map) };
	uint64_t want = 0;
	bool any = false;

	for (gpa_t g = 0; memseg_getnext(m, g, &map) == 0; g = map.gpa + 1) {
		want += map.len;
		assert_int_equal(map.flags, ndev != 0 && map.segid == 0 ?
		    VMM_MAP_F_IOMMU : 0);
	}
	for (unsigned i = 0; i < 4 && !any; i++)
		if (d[i].attached) {
			walker_all(WALKER_X86, d[i].root, dma_fetch, NULL, in_step_leaf,
			    &is);
			any = true;
		}
	assert_int_equal(any, ndev != 0);
	assert_int_equal(is.pages * PAGE, any ? want : 0);
	domain_is(m, ndev, any ? want : 0);
	if (!any)
		assert_int_equal(wired(m), 0);
}

static void
test_random(void **state)
{
	static const int prots[] = { VMM_PROT_READ, VMM_PROT_RW, VMM_PROT_ALL };
	struct machine *m = make();
	struct dma_dev d[4];
	unsigned ndev = 0;

	(void)state;
	srand(3);
	for (unsigned i = 0; i < 4; i++)
		d[i] = (struct dma_dev){ .lock = PTHREAD_MUTEX_INITIALIZER };
	for (unsigned n = 0; n < 600; n++) {
		unsigned k = (unsigned)rand() % 4, seg = rand() % 2 ? 0 : 2;
		gpa_t gpa = 8 * GB + (gpa_t)(rand() % 4) * 4 * MB;
		uint64_t max = seg == 0 ? LOW : FB, unit = rand() % 2 ? 2 * MB : PAGE;
		uint64_t off = (uint64_t)rand() % (max / unit) * unit;
		uint64_t want = (1 + (uint64_t)rand() % 3) * unit;
		uint64_t len = base_min(max - off, want);
		struct vmm_memmap map = { .size = sizeof(map) };
		int error;

		switch (rand() % 3) {
		case 0:
			error = memseg_mmap(m, gpa, (int)seg, off, len,
			    prots[rand() % 3], 0);
			assert_true(error == 0 || error == -EFAULT ||
			    error == -ENOSPC);
			break;
		case 1:
			if (memseg_getnext(m, gpa, &map) != 0)
				break;
			error = memseg_munmap(m, map.gpa, map.len);
			assert_int_equal(error, ndev != 0 && map.segid == 0 ?
			    -EINVAL : 0);
			break;
		default:
			if (d[k].attached) {
				assert_int_equal(iommu_unassign(m, k), 0);
				ndev--;
			} else {
				assert_int_equal(iommu_assign(m, k, &dma_ops, &d[k]), 0);
				ndev++;
			}
		}
		if (n % 4 == 0)
			in_step(m, d, ndev);
	}
	machine_destroy(m);
	for (unsigned i = 0; i < 4; i++)
		assert_false(d[i].attached);
}

/* --- a device that never rests ------------------------------------------- */

static struct {
	struct dma_dev d;
	_Atomic bool stop;
	unsigned long ok, refused;
} busy;

static void *
busy_main(void *arg)
{
	(void)arg;
	for (uint64_t n = 1; !atomic_load(&busy.stop); n++)
		if (dma_write64(&busy.d, 3 * GB + n % 64 * PAGE, n))
			busy.ok++;
		else
			busy.refused++;
	return NULL;
}

/* When a window is gone, no DMA reaches what was behind it. */
static void
test_busy(void **state)
{
	struct machine *m = make();
	pthread_t t;

	(void)state;
	pthread_mutex_init(&busy.d.lock, NULL);
	assert_int_equal(iommu_assign(m, 1, &dma_ops, &busy.d), 0);
	assert_int_equal(pthread_create(&t, NULL, busy_main, NULL), 0);
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(memseg_munmap(m, 3 * GB, FB), 0);
		memset(node, 0xa5, 64 * PAGE);
		sched_yield();
		for (uint64_t o = 0; o < 64 * PAGE; o++)
			if (node[o] != (char)0xa5)
				fail_msg("DMA reached %lx", o);
		assert_int_equal(memseg_mmap(m, 3 * GB, 2, 0, FB, VMM_PROT_RW, 0), 0);
		usleep(50);
	}
	atomic_store(&busy.stop, true);
	pthread_join(t, NULL);
	print_message("%lu writes of the device, %lu refused\n", busy.ok, busy.refused);
	assert_true(busy.ok > 0);
	machine_destroy(m);
}

/* --- no memory ------------------------------------------------------------ */

static long fail_at, allocs;
void *__real_host_alloc(size_t size);
void *__wrap_host_alloc(size_t size);
int __real_host_dmap_alloc(uint64_t len, uint64_t *hpap);
int __wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap);

void *
__wrap_host_alloc(size_t size)
{
	return ++allocs == fail_at ? NULL : __real_host_alloc(size);
}

int
__wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap)
{
	return ++allocs == fail_at ? -ENOMEM : __real_host_dmap_alloc(len, hpap);
}

static void
test_no_memory(void **state)
{
	struct machine *m;
	DEVICE(d);
	int error;
	long n = 0;

	(void)state;
	do {
		m = make();
		allocs = 0;
		fail_at = ++n;
		error = iommu_assign(m, 1, &dma_ops, &d);
		fail_at = 0;
		if (error != 0) {
			assert_int_equal(error, -ENOMEM);
			domain_is(m, 0, 0);
			assert_int_equal(wired(m), 0);
			assert_int_equal(iommu_assign(m, 1, &dma_ops, &d), 0);
		}
		domain_is(m, 1, LOW + HIGH + FB);
		/* a later map, likewise */
		allocs = 0;
		fail_at = n;
		error = memseg_mmap(m, 9 * GB, 0, 0, LOW, VMM_PROT_RW, 0);
		fail_at = 0;
		assert_true(error == 0 || error == -ENOMEM);
		domain_is(m, 1, LOW + HIGH + FB + (error == 0 ? LOW : 0));
		machine_destroy(m);
	} while (allocs >= n || n < 40);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_life),
		cmocka_unit_test(test_step),
		cmocka_unit_test(test_limit),
		cmocka_unit_test(test_gigabyte),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_no_memory),
	};
	struct vm_live live;
	int bad = vm_init() != 0 || cmocka_run_group_tests(tests, NULL, NULL) != 0;

	vm_live_get(&live);
	if (live.objects != 0 || live.dmap != 0) {
		printf("left: %lu objects, %lu bytes\n", live.objects, live.dmap);
		bad = 1;
	}
	return bad;
}
