/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * invalidate [MICROSECONDS]
 *
 * What taking 64 pages away costs: removing their mappings, one invalidation,
 * giving them back; alone, and while one to four vCPUs run in the guest that look at
 * their kicks every MICROSECONDS (1), as the soft engine's do at each backward
 * jump.  Prints lines of
 *	INVALIDATE vcpus us-per-batch us-of-the-invalidation
 * Medians, of as many batches as 2 seconds allow: on a host with fewer free CPUs
 * than vCPUs some rounds wait for its scheduler, for milliseconds each.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/host.h"
#include "vm/vm.h"

#define NCPU 4u
#define BATCH (64ul * VMM_PAGE_SIZE)
#define BATCHES 1000u
#define NS_MAX 2e9

static struct vmspace *vms;
static struct pmap *pm;
static _Atomic bool kicked[NCPU], stop;
static double step = 1000;

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
kick(void *arg, unsigned vcpu)
{
	(void)arg;
	atomic_store(&kicked[vcpu], true);
}

static void *
vcpu(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	uint64_t gen = pmap_activate(pm, id);

	pmap_ack(pm, id, gen);
	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		double t = now() + step;

		while (now() < t)
			;
		if (atomic_load_explicit(&kicked[id], memory_order_relaxed)) {
			atomic_store(&kicked[id], false);
			gen = pmap_generation(pm);
			pmap_ack(pm, id, gen);
		}
	}
	pmap_deactivate(pm, id);
	return NULL;
}

static int
order(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void
measure(unsigned ncpu)
{
	static double batch[BATCHES], inval[BATCHES];
	double t, end = now() + NS_MAX;
	unsigned n = 0;

	while (n < BATCHES && (n == 0 || now() < end)) {
		for (gpa_t g = 0; g < BATCH; g += VMM_PAGE_SIZE)
			if (vm_fault(vms, g, VMM_PROT_WRITE) != 0)
				exit(1);
		t = now();
		if (vm_map_discard(vms, 0, BATCH) != 0)
			exit(1);
		batch[n] = now() - t;
		t = now();
		pmap_invalidate(pm);
		inval[n++] = now() - t;
	}
	qsort(batch, n, sizeof(batch[0]), order);
	qsort(inval, n, sizeof(inval[0]), order);
	printf("INVALIDATE %u %.2f %.2f\n", ncpu, batch[n / 2] / 1e3, inval[n / 2] / 1e3);
}

int
main(int argc, char **argv)
{
	static const struct pmap_callbacks cb = { .kick = kick };
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .cb = &cb };
	struct vm_object *obj;
	pthread_t t[NCPU];

	if (argc > 1)
		step = atof(argv[1]) * 1e3;
	if (vm_init() != 0 || vmspace_create(&cfg, &vms) != 0 ||
	    vm_object_create_anon(BATCH, &obj) != 0 ||
	    vm_map_insert(vms, 0, BATCH, obj, 0, VMM_PROT_ALL, 0) != 0)
		return 1;
	pm = vmspace_pmap(vms);
	measure(0);
	for (unsigned i = 0; i < NCPU; i++) {
		if (pthread_create(&t[i], NULL, vcpu, (void *)(uintptr_t)i) != 0)
			return 1;
		measure(i + 1);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < NCPU; i++)
		pthread_join(t[i], NULL);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	return 0;
}
