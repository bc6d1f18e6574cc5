/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What it costs to take the dirty set and the working set of 1 GB: look [RUNS]
 * Best of RUNS (20), in microseconds, with the map's lock held all the while;
 * no vCPU runs, so the invalidation itself is not in it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/host.h"
#include "vm/vm.h"

#define GB (1ul << 30)

static struct vmspace *vms;

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static void
touch(uint64_t every, int access)
{
	struct pmap_walk w;

	for (gpa_t g = 0; g < GB; g += every * VMM_PAGE_SIZE)
		while (pmap_walk(vmspace_pmap(vms), g, access, &w) != 0)
			if (vm_fault(vms, g, access) != 0)
				exit(1);
}

static bool
none(void *arg, const struct vmm_block *b)
{
	*(uint64_t *)arg += b->page[0] & 1;
	return true;
}

static void
measure(const char *what, int client, unsigned which, uint64_t every, int runs)
{
	double best = 1e12, t;
	uint64_t n = 0, sum = 0;

	for (int i = 0; i < runs; i++) {
		touch(every, which == VM_MARK_DIRTY ? VMM_PROT_WRITE : VMM_PROT_READ);
		t = now();
		n = vm_mark_fetch(vms, client, which, none, &sum);
		t = now() - t;
		best = t < best ? t : best;
	}
	printf("%-34s %8lu pages %9.0f us\n", what, n, best);
}

int
main(int argc, char **argv)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .pmap_flags = PMAP_F_2M };
	int runs = argc > 1 ? atoi(argv[1]) : 20, client;
	struct vm_object *obj;

	for (int large = 0; large < 2; large++) {
		cfg.pmap_flags = large != 0 ? PMAP_F_2M : 0;
		if (vm_init() != 0 || vmspace_create(&cfg, &vms) != 0 ||
		    vm_object_create_anon(GB, &obj) != 0 ||
		    vm_map_insert(vms, 0, GB, obj, 0, VMM_PROT_ALL, 0) != 0 ||
		    (client = vm_mark_open()) < 0)
			return 1;
		touch(1, VMM_PROT_WRITE);
		measure(large != 0 ? "working set, superpages" : "working set, all of it",
		    client, VM_MARK_ACCESSED, 1, runs);
		if (large == 0) {
			measure("working set, 1 page in 100", client,
			    VM_MARK_ACCESSED, 100, runs);
			measure("working set, nothing", client, VM_MARK_ACCESSED, GB,
			    runs);
		}
		measure(large != 0 ? "dirty set, superpages split once" :
				     "dirty set, all of it", client, VM_MARK_DIRTY, 1,
		    large != 0 ? 1 : runs);
		if (large == 0) {
			measure("dirty set, 1 page in 100", client, VM_MARK_DIRTY,
			    100, runs);
			measure("dirty set, nothing", client, VM_MARK_DIRTY, GB, runs);
		}
		vm_mark_close(client);
		vm_object_rele(obj);
		vmspace_destroy(vms);
	}
	return 0;
}
