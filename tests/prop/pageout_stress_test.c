/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four vCPUs write and verify patterns, each in its own words of shared pages,
 * with a cached translation as a TLB has it, while pages are taken away.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/host.h"
#include "vm/vm.h"

#define PAGES 1024u
#define NCPU 4u
#define TLB 64u

static struct vmspace *vms;
static struct pmap *pm;
static unsigned long rounds;
static _Atomic bool stop;

static void *
vcpu(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	struct { gpa_t gpa; _Atomic uint64_t *p; } tlb[TLB] = { { 0 } };
	static uint64_t want[NCPU][PAGES];
	uint64_t rng = id + 1, gen = pmap_activate(pm, id);

	pmap_ack(pm, id, gen);
	for (unsigned long r = 0; r < rounds; r++) {
		uint64_t now = pmap_generation(pm), v;
		_Atomic uint64_t *p;
		struct pmap_walk w;
		unsigned i;

		if (now != gen) {
			for (unsigned k = 0; k < TLB; k++)
				tlb[k].p = NULL;
			gen = now;
			pmap_ack(pm, id, gen);
		}
		rng = rng * 6364136223846793005ul + 1442695040888963407ul;
		i = (unsigned)(rng >> 33) % PAGES;
		if (tlb[i % TLB].p == NULL || tlb[i % TLB].gpa != i * 4096ul) {
			if (pmap_walk(pm, i * 4096ul, VMM_PROT_WRITE, &w) != 0) {
				pmap_deactivate(pm, id);
				if (vm_fault(vms, i * 4096ul, VMM_PROT_WRITE) != 0)
					abort();
				now = pmap_activate(pm, id);
				for (unsigned k = 0; k < TLB; k++)
					tlb[k].p = NULL;
				gen = now;
				pmap_ack(pm, id, gen);
				continue;
			}
			tlb[i % TLB].gpa = i * 4096ul;
			tlb[i % TLB].p = PHYS_TO_DMAP(w.hpa);
		}
		p = tlb[i % TLB].p + id * 8;
		v = atomic_load_explicit(p, memory_order_relaxed);
		if (v != want[id][i]) {
			fprintf(stderr, "vCPU %u page %u: %lx, want %lx\n", id, i, v,
			    want[id][i]);
			exit(1);
		}
		want[id][i] = rng;
		atomic_store_explicit(p, rng, memory_order_relaxed);
	}
	pmap_deactivate(pm, id);
	return NULL;
}

static void *
thief(void *arg)
{
	(void)arg;
	while (!stop) {
		(void)vmspace_reclaim(vms, 128 * 4096);
		(void)vm_mark_fetch(vms, 0, VM_MARK_ACCESSED, NULL, NULL);
		host_yield();
	}
	return NULL;
}

int
main(int argc, char **argv)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .pmap_flags = PMAP_F_2M };
	struct vm_object *obj;
	struct vm_stats st;
	pthread_t t[NCPU], th;

	rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	if (vm_init() != 0 || vm_swap_init("/tmp", 64 << 20) != 0 ||
	    vmspace_create(&cfg, &vms) != 0 ||
	    vm_object_create_anon(PAGES * 4096, &obj) != 0 ||
	    vm_map_insert(vms, 0, PAGES * 4096, obj, 0, VMM_PROT_RW, 0) != 0 ||
	    vmspace_set_limit(vms, PAGES * 4096 / 2) != 0)
		return 1;
	vm_object_rele(obj);
	pm = vmspace_pmap(vms);
	if (pthread_create(&th, NULL, thief, NULL) != 0)
		return 1;
	for (uintptr_t i = 0; i < NCPU; i++)
		if (pthread_create(&t[i], NULL, vcpu, (void *)i) != 0)
			return 1;
	for (unsigned i = 0; i < NCPU; i++)
		pthread_join(t[i], NULL);
	stop = true;
	pthread_join(th, NULL);
	vm_check(vms);
	vmspace_stats(vms, &st);
	printf("%lu out, %lu in, %lu invalidations: no stale byte\n", st.pageouts,
	    st.pageins, st.invalidations);
	vmspace_destroy(vms);
	vm_swap_fini();
	return 0;
}
