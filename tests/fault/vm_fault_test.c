/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host says no: the Nth allocation fails, for N = 1 until none does; swap
 * cannot be written, then not be read.  Nothing may be lost, leak or crash.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"
#include "vm/vm.h"

#define LEN (4ul << 20)
#define CHECK(e)                                                           \
	do {                                                               \
		if (!(e)) {                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #e); \
			exit(1);                                           \
		}                                                          \
	} while (0)

static long fail_at, allocs, live;
static _Atomic bool fail_read, fail_write;
static _Atomic bool gate, write_gate; /* they wait while it is shut */
static _Atomic unsigned reading, writing;
static unsigned events[3];

void *__real_host_alloc(size_t size);
void *__wrap_host_alloc(size_t size);
void __real_host_free(void *p);
void __wrap_host_free(void *p);
int __real_host_dmap_alloc(uint64_t len, uint64_t *hpap);
int __wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap);
int __real_host_swap_read(int s, void *p, unsigned n, uint64_t off);
int __wrap_host_swap_read(int s, void *p, unsigned n, uint64_t off);
int __real_host_swap_write(int s, void *const *p, unsigned n, uint64_t off);
int __wrap_host_swap_write(int s, void *const *p, unsigned n, uint64_t off);

void *
__wrap_host_alloc(size_t size)
{
	if (++allocs == fail_at)
		return NULL;
	live++;
	return __real_host_alloc(size);
}

void
__wrap_host_free(void *p)
{
	live -= p != NULL;
	__real_host_free(p);
}

int
__wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap)
{
	return ++allocs == fail_at ? -ENOMEM : __real_host_dmap_alloc(len, hpap);
}

int
__wrap_host_swap_read(int s, void *p, unsigned n, uint64_t off)
{
	atomic_fetch_add(&reading, 1);
	while (atomic_load(&gate))
		host_yield();
	return fail_read ? -EIO : __real_host_swap_read(s, p, n, off);
}

int
__wrap_host_swap_write(int s, void *const *p, unsigned n, uint64_t off)
{
	atomic_fetch_add(&writing, 1);
	while (atomic_load(&write_gate))
		host_yield();
	return fail_write ? -EIO : __real_host_swap_write(s, p, n, off);
}

static void
event(void *arg, enum vm_event ev, gpa_t gpa, int error)
{
	(void)arg;
	(void)gpa;
	(void)error;
	events[ev]++;
}

/* One life of a vmspace. => the first error */
static int
life(void)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT,
		.pmap_flags = PMAP_F_2M, .event = event };
	struct vm_object *obj = NULL, *sh = NULL;
	struct vmspace *vms;
	struct vm_hold h;
	int error = vmspace_create(&cfg, &vms);

	if (error != 0)
		return error;
	error = vm_object_create_anon(LEN, &obj);
	if (error == 0)
		error = vm_map_insert(vms, 0, LEN, obj, 0, VMM_PROT_RW,
		    VM_MAP_F_WIRED);
	if (error == 0)
		error = vm_object_create_shadow(obj, 0, LEN, &sh);
	if (error == 0)
		error = vm_map_insert(vms, 1ul << 30, LEN, sh, 0, VMM_PROT_ALL, 0);
	for (gpa_t g = 0; g < LEN && error == 0; g += 64 * 4096)
		error = vm_fault(vms, (1ul << 30) + g, VMM_PROT_WRITE);
	if (error == 0) {
		error = vm_hold(vms, (1ul << 30) + 4096, 1, VMM_PROT_RW, &h);
		if (error == 0)
			vm_release(vms, &h);
	}
	vm_check(vms);
	if (obj != NULL)
		vm_object_rele(obj);
	vmspace_destroy(vms);
	if (sh != NULL)
		vm_object_rele(sh);
	return error;
}

static void
test_alloc(void)
{
	long n = 0, before;
	int error;

	do {
		fail_at = ++n;
		allocs = 0;
		before = live;
		error = life();
		CHECK(error == 0 || error == -ENOMEM);
		/* the direct map's own list of free ranges may grow by a few */
		CHECK(live - before <= 4);
	} while (error != 0 || allocs >= fail_at);
	fail_at = 0;
	printf("%ld allocations failed in turn\n", n - 1);
	CHECK(n > 10);
}

static void
test_pool(void)
{
	CHECK(vm_compress_init(4096) == -EINVAL);
	for (fail_at = 1, allocs = 0;; fail_at++, allocs = 0) {
		int error = vm_compress_init(4 << 20);

		if (error == 0)
			break;
		CHECK(error == -ENOMEM && fail_at <= 2);
	}
	fail_at = 0;
	CHECK(vm_compress_init(4 << 20) == -EBUSY);
	vm_compress_fini();
	vm_compress_fini();
}

static uint64_t *
at(struct vmspace *vms, gpa_t gpa)
{
	struct pmap_walk w;

	CHECK(pmap_walk(vmspace_pmap(vms), gpa, VMM_PROT_READ, &w) == 0);
	return PHYS_TO_DMAP(w.hpa);
}

static void
test_swap(void)
{
	struct vmspace_config cfg = { .type = PMAP_PT_X86, .event = event };
	struct vm_object *obj;
	struct vmspace *vms;
	struct vm_stats st;

	CHECK(vm_swap_init("/nowhere", 1 << 20) == -ENOENT);
	CHECK(vm_swap_init("/tmp", 0) == -EINVAL);
	CHECK(vm_swap_init("/tmp", 16 << 20) == 0);
	CHECK(vm_swap_init("/tmp", 16 << 20) == -EBUSY);
	CHECK(vmspace_create(&cfg, &vms) == 0);
	CHECK(vm_object_create_anon(LEN, &obj) == 0);
	CHECK(vm_map_insert(vms, 0, LEN, obj, 0, VMM_PROT_RW, 0) == 0);
	CHECK(vmspace_set_limit(vms, VM_LIMIT_MIN - 1) == -EINVAL);
	for (gpa_t g = 0; g < LEN; g += 4096) {
		CHECK(vm_fault(vms, g, VMM_PROT_WRITE) == 0);
		*at(vms, g) = g + 1;
	}
	/* a write fails: all stays */
	fail_write = true;
	CHECK(vmspace_reclaim(vms, LEN) == 0);
	CHECK(events[VM_EVENT_SWAP_ERROR] == 1 && vm_swap_used() == 0);
	fail_write = false;
	vm_check(vms);
	CHECK(vmspace_reclaim(vms, LEN) == LEN);
	CHECK(vm_object_resident(obj) == 0 && vm_swap_used() == LEN / 4096);
	/* a read fails: -EIO, never zeros; later it works */
	fail_read = true;
	CHECK(vm_fault(vms, 8192, VMM_PROT_READ) == -EIO);
	CHECK(events[VM_EVENT_LOST] == 1 && vm_object_resident(obj) == 0);
	fail_read = false;
	for (gpa_t g = 0; g < LEN; g += 4096) {
		CHECK(vm_fault(vms, g, VMM_PROT_READ) == 0);
		CHECK(*at(vms, g) == g + 1);
	}
	/* unchanged since: leaves without a write */
	vmspace_stats(vms, &st);
	fail_write = true;
	CHECK(vmspace_reclaim(vms, LEN) == LEN);
	vm_check(vms);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	CHECK(vm_swap_used() == 0);
	vm_swap_fini();
}

/* A hard limit with a disk that takes nothing: the fault is put off, what is
 * there stays of use, and it goes on when the disk is back. */
static void
test_stall(void)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .event = event,
		.hard_limit = true };
	struct vm_object *obj;
	struct vmspace *vms;
	struct vm_stats st;
	struct vm_hold h;
	gpa_t g;

	memset(events, 0, sizeof(events));
	fail_write = false;
	CHECK(vm_swap_init("/tmp", 16 << 20) == 0);
	CHECK(vmspace_create(&cfg, &vms) == 0);
	CHECK(vm_object_create_anon(LEN, &obj) == 0);
	CHECK(vm_map_insert(vms, 0, LEN, obj, 0, VMM_PROT_RW, 0) == 0);
	CHECK(vmspace_set_limit(vms, VM_LIMIT_MIN) == 0);
	fail_write = true;
	for (g = 0; g < LEN; g += 4096) {
		int error = vm_fault(vms, g, VMM_PROT_WRITE);

		CHECK(error == 0 || error == -ENOSPC);
		if (error != 0)
			break;
		*at(vms, g) = g + 1;
	}
	CHECK(g >= VM_LIMIT_MIN && g < VM_LIMIT_MIN + (256 << 10));
	CHECK(vm_fault(vms, g, VMM_PROT_WRITE) == -ENOSPC);
	CHECK(vm_fault(vms, 0, VMM_PROT_WRITE) == 0);
	CHECK(events[VM_EVENT_SWAP_ERROR] == 1);
	vmspace_stats(vms, &st);
	CHECK(st.stalls == 2 && st.resident * 4096 <= g);
	/* devices are not held up */
	CHECK(vm_hold(vms, LEN - 4096, 8, VMM_PROT_RW, &h) == 0);
	memcpy(h.ptr, &(uint64_t){ 7 }, 8);
	vm_release(vms, &h);
	/* room by discarding */
	CHECK(vm_map_discard(vms, 0, 64 * 4096) == 0);
	CHECK(vm_fault(vms, g, VMM_PROT_WRITE) == 0);
	*at(vms, g) = g + 1;
	fail_write = false;
	for (gpa_t k = 0; k < LEN; k += 4096) {
		CHECK(vm_fault(vms, k, VMM_PROT_READ) == 0);
		CHECK(*at(vms, k) == (k < 64 * 4096 ? 0 : k <= g ? k + 1 :
		    k == LEN - 4096 ? 7 : 0));
	}
	vm_check(vms);
	CHECK(vm_object_resident(obj) <= VM_LIMIT_MIN);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	vm_swap_fini();
}

static struct vmspace *slow_vms;
static _Atomic unsigned slow_done;

static void *
slow_vcpu(void *arg)
{
	gpa_t gpa = (uintptr_t)arg;

	CHECK(vm_fault(slow_vms, gpa, VMM_PROT_READ) == 0);
	CHECK(*at(slow_vms, gpa) == gpa + 1);
	atomic_fetch_add(&slow_done, 1);
	return NULL;
}

static void *
slow_discard(void *arg)
{
	CHECK(vm_map_discard(slow_vms, (uintptr_t)arg, 4096) == 0);
	atomic_fetch_add(&slow_done, 1);
	return NULL;
}

/* A slow disk: who wants what it reads waits, nobody else; a discard of it does
 * not race with the data. */
static void
test_slow(void)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .event = event };
	struct vm_object *obj;
	struct vmspace *vms;
	struct vm_hold h;
	pthread_t t[4];

	fail_write = false;
	CHECK(vm_swap_init("/tmp", 16 << 20) == 0);
	CHECK(vmspace_create(&cfg, &vms) == 0);
	slow_vms = vms;
	CHECK(vm_object_create_anon(LEN, &obj) == 0);
	CHECK(vm_map_insert(vms, 0, LEN, obj, 0, VMM_PROT_RW, 0) == 0);
	for (gpa_t g = 0; g < LEN; g += 4096) {
		CHECK(vm_fault(vms, g, VMM_PROT_WRITE) == 0);
		*at(vms, g) = g + 1;
	}
	CHECK(vmspace_reclaim(vms, LEN / 2) == LEN / 2);
	for (int round = 0; round < 2; round++) {
		CHECK(vmspace_reclaim(vms, LEN) != 0);
		/* what nobody waits for is there */
		CHECK(vm_fault(vms, LEN / 2, VMM_PROT_READ) == 0);
		reading = 0;
		slow_done = 0;
		gate = true;
		CHECK(pthread_create(&t[0], NULL, slow_vcpu, (void *)0x1000) == 0);
		while (reading == 0)
			host_yield();
		/* one that is read, one that is read ahead, and a discard */
		CHECK(pthread_create(&t[1], NULL, slow_vcpu, (void *)0x1000) == 0);
		CHECK(pthread_create(&t[2], NULL, slow_vcpu, (void *)0x2000) == 0);
		for (int i = 0; i < 1000; i++) {
			CHECK(vm_fault(vms, LEN / 2, VMM_PROT_WRITE) == 0);
			CHECK(vm_hold(vms, LEN / 2, 8, VMM_PROT_RW, &h) == 0);
			vm_release(vms, &h);
			CHECK(vm_map_discard(vms, LEN - 4096, 4096) == 0);
			vm_check(vms);
		}
		CHECK(reading == 1 && slow_done == 0);
		if (round == 1)
			CHECK(pthread_create(&t[3], NULL, slow_discard,
			    (void *)0x3000) == 0);
		gate = false;
		for (int i = 0; i < 3 + round; i++)
			pthread_join(t[i], NULL);
		CHECK(slow_done == 3u + (unsigned)round);
	}
	CHECK(vm_fault(vms, 0x3000, VMM_PROT_READ) == 0 && *at(vms, 0x3000) == 0);
	vm_check(vms);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	CHECK(vm_swap_used() == 0);
	vm_swap_fini();
}

/* The page-out thread on a slow disk: the same. */
static void
test_slow_write(bool fail)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .event = event,
		.pageout_thread = true };
	struct vm_object *obj;
	struct vmspace *vms;
	struct vm_stats st;
	pthread_t t[2];

	memset(events, 0, sizeof(events));
	CHECK(vm_swap_init("/tmp", 16 << 20) == 0);
	CHECK(vmspace_create(&cfg, &vms) == 0);
	slow_vms = vms;
	CHECK(vm_object_create_anon(LEN, &obj) == 0);
	CHECK(vm_map_insert(vms, 0, LEN, obj, 0, VMM_PROT_RW, 0) == 0);
	CHECK(vmspace_set_limit(vms, LEN / 2) == 0);
	writing = 0;
	slow_done = 0;
	write_gate = true;
	for (gpa_t g = 0; g < LEN / 2 - 12 * 4096; g += 4096) {
		CHECK(vm_fault(vms, g, VMM_PROT_WRITE) == 0);
		*at(vms, g) = g + 1;
	}
	while (writing == 0)
		host_yield();
	/* the first page is on its way */
	CHECK(pthread_create(&t[0], NULL, slow_vcpu, (void *)0) == 0);
	CHECK(pthread_create(&t[1], NULL, slow_discard, (void *)0x1000) == 0);
	/* the thread that discards may hold the map, so nothing is asked here */
	for (int i = 0; i < 1000; i++)
		host_yield();
	CHECK(writing == 1 && slow_done == 0);
	fail_write = fail;
	write_gate = false;
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	CHECK(slow_done == 2);
	fail_write = false;
	for (gpa_t g = 0; g < LEN / 2 - 12 * 4096; g += 4096) {
		CHECK(vm_fault(vms, g, VMM_PROT_READ) == 0);
		CHECK(*at(vms, g) == (g == 0x1000 ? 0 : g + 1));
	}
	vmspace_stats(vms, &st);
	CHECK(st.reserve_runs != 0);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	/* the thread has ended */
	CHECK((events[VM_EVENT_SWAP_ERROR] != 0) == fail);
	CHECK(vm_swap_used() == 0);
	vm_swap_fini();
}

int
main(void)
{
	CHECK(vm_init() == 0);
	test_alloc();
	test_pool();
	test_swap();
	test_stall();
	test_slow();
	test_slow_write(false);
	test_slow_write(true);
	return 0;
}
