/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four vCPUs write and verify patterns, each in its own words of shared pages,
 * with a cached translation as a TLB has it, while pages are taken away.
 *
 * One thread meanwhile holds pages, whose memory must stay where it is, and one
 * changes the map: another view of the same object, an object that comes and
 * goes beside it, discards and protections, each with contents to be verified.
 *
 * A mirror meanwhile copies what was written, round after round, as one does
 * that moves a guest while it runs: after a last round it must be equal.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"
#include "vm/vm.h"

#define PAGES 1024u
#define NCPU 4u
#define TLB 64u

static struct vmspace *vms;
static struct pmap *pm;
static unsigned long rounds;
static _Atomic bool stop;
static bool peace; /* the TLB holds all: only an invalidation empties it */
static uint64_t want[NCPU][PAGES];

static void *
vcpu(void *arg)
{
	unsigned id = (unsigned)(uintptr_t)arg;
	struct { gpa_t gpa; _Atomic uint64_t *p; } tlb[TLB] = { { 0 } };
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
		i = (unsigned)(rng >> 33) % (peace ? TLB : PAGES);
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
		(void)vm_mark_fetch(vms, 7, VM_MARK_ACCESSED, NULL, NULL);
		host_yield();
	}
	return NULL;
}

#define HOLDS 16u
#define HOLD_WORD (NCPU * 8)

/* A device model: what is written through a hold is there when it is let go,
 * and a page that is held is where it was. */
static void *
holder(void *arg)
{
	static uint64_t last[PAGES];
	uint64_t rng = 99;

	(void)arg;
	memset(last, 0, sizeof(last));
	while (!stop) {
		struct vm_hold h[HOLDS];
		unsigned page[HOLDS];

		for (unsigned k = 0; k < HOLDS; k++) {
			uint64_t *p;

			rng = rng * 6364136223846793005ul + 1442695040888963407ul;
			page[k] = (unsigned)(rng >> 33) % (PAGES / HOLDS) * HOLDS + k;
			if (vm_hold(vms, page[k] * 4096ul, 4096, VMM_PROT_RW, &h[k]) != 0)
				abort();
			p = (uint64_t *)h[k].ptr + HOLD_WORD;
			if (*p != last[page[k]]) {
				fprintf(stderr, "hold: page %u: %lx, want %lx\n",
				    page[k], *p, last[page[k]]);
				exit(1);
			}
			last[page[k]] = *p = rng;
		}
		host_yield();
		for (unsigned k = 0; k < HOLDS; k++) {
			if (((uint64_t *)h[k].ptr)[HOLD_WORD] != last[page[k]]) {
				fprintf(stderr, "hold: page %u moved\n", page[k]);
				exit(1);
			}
			vm_release(vms, &h[k]);
		}
	}
	return NULL;
}

#define SIDE (1ul << 32) /* gpa of what comes and goes */
#define SIDE_PAGES 64u

static uint64_t
side_word(unsigned i, bool write, uint64_t v)
{
	struct vm_hold h;

	if (vm_hold(vms, SIDE + i * 4096ul, 4096, write ? VMM_PROT_RW : VMM_PROT_READ,
	    &h) != 0)
		abort();
	if (write)
		*(uint64_t *)h.ptr = v;
	else
		v = *(uint64_t *)h.ptr;
	vm_release(vms, &h);
	return v;
}

static void
side_check(unsigned i, uint64_t must)
{
	uint64_t v = side_word(i, false, 0);

	if (v != must) {
		fprintf(stderr, "side: page %u: %lx, want %lx\n", i, v, must);
		exit(1);
	}
}

/* Another view of the vCPUs' pages, then an object of its own; discarded. */
static void *
mapper(void *arg)
{
	struct vm_object *shared = arg, *own;

	for (uint64_t n = 1; !stop; n++) {
		if (vm_map_insert(vms, SIDE, SIDE_PAGES * 4096, shared, 0, VMM_PROT_READ,
		    0) != 0)
			abort();
		for (unsigned i = 0; i < SIDE_PAGES; i += 7)
			if (vm_fault(vms, SIDE + i * 4096ul, VMM_PROT_READ) != 0 ||
			    vm_fault(vms, SIDE + i * 4096ul, VMM_PROT_WRITE) == 0)
				abort();
		if (vm_map_remove(vms, SIDE, SIDE_PAGES * 4096) != 0 ||
		    vm_object_create_anon(SIDE_PAGES * 4096, &own) != 0 ||
		    vm_map_insert(vms, SIDE, SIDE_PAGES * 4096, own, 0, VMM_PROT_RW, 0) != 0)
			abort();
		vm_object_rele(own);
		for (unsigned i = 0; i < SIDE_PAGES; i++)
			side_word(i, true, n << 8 | i);
		(void)vmspace_reclaim(vms, 16 * 4096);
		if (vm_map_discard(vms, SIDE, SIDE_PAGES / 2 * 4096) != 0)
			abort();
		for (unsigned i = 0; i < SIDE_PAGES; i++)
			side_check(i, i < SIDE_PAGES / 2 ? 0 : n << 8 | i);
		if (vm_map_remove(vms, SIDE, SIDE_PAGES * 4096) != 0)
			abort();
	}
	return NULL;
}

static uint64_t mirror_word[PAGES][NCPU];
static bool mirror_page[PAGES];
static uint64_t mirror_pages;

static bool
mirror_note(void *arg, const struct vmm_block *b)
{
	(void)arg;
	if (b->gpa >= PAGES * 4096)
		return true; /* the mapper's */
	for (unsigned k = 0; k < 512; k++)
		if ((b->page[k / 64] >> (k % 64) & 1) != 0)
			mirror_page[b->gpa / 4096 + k] = true;
	return true;
}

static void
mirror_read(unsigned i, uint64_t word[NCPU])
{
	struct vm_hold h;

	if (vm_hold(vms, i * 4096ul, 4096, VMM_PROT_READ, &h) != 0)
		abort();
	for (unsigned id = 0; id < NCPU; id++)
		word[id] = atomic_load_explicit((_Atomic uint64_t *)h.ptr + id * 8,
		    memory_order_relaxed);
	vm_release(vms, &h);
}

static void
mirror_round(int client)
{
	mirror_pages += vm_mark_fetch(vms, client, VM_MARK_DIRTY, mirror_note, NULL);
	for (unsigned i = 0; i < PAGES; i++)
		if (mirror_page[i]) {
			mirror_read(i, mirror_word[i]);
			mirror_page[i] = false;
		}
}

static void *
mirror(void *arg)
{
	while (!stop) {
		mirror_round(*(int *)arg);
		host_yield();
	}
	return NULL;
}

static void
mirror_compare(void)
{
	uint64_t word[NCPU];

	for (unsigned i = 0; i < PAGES; i++) {
		mirror_read(i, word);
		for (unsigned id = 0; id < NCPU; id++)
			if (word[id] != mirror_word[i][id]) {
				fprintf(stderr, "mirror: page %u word %u: %lx, is %lx\n",
				    i, id, mirror_word[i][id], word[id]);
				exit(1);
			}
	}
}

/* Squeezed, with a thief; or in peace, where only the mirror invalidates. */
static int
run(bool squeezed)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT, .pmap_flags = PMAP_F_2M,
		.pageout_thread = true };
	pthread_t t[NCPU], th, mi, ho, ma;
	int client = vm_mark_open();
	struct vm_object *obj;
	struct vm_stats st;

	if (client < 0 || vmspace_create(&cfg, &vms) != 0 ||
	    vm_object_create_anon(PAGES * 4096, &obj) != 0 ||
	    vm_map_insert(vms, 0, PAGES * 4096, obj, 0, VMM_PROT_RW, 0) != 0 ||
	    (squeezed && vmspace_set_limit(vms, PAGES * 4096 / 2) != 0))
		return 1;
	pm = vmspace_pmap(vms);
	stop = false;
	peace = !squeezed;
	memset(want, 0, sizeof(want));
	memset(mirror_word, 0, sizeof(mirror_word));
	mirror_pages = 0;
	if ((squeezed && (pthread_create(&th, NULL, thief, NULL) != 0 ||
	    pthread_create(&ho, NULL, holder, NULL) != 0 ||
	    pthread_create(&ma, NULL, mapper, obj) != 0)) ||
	    pthread_create(&mi, NULL, mirror, &client) != 0)
		return 1;
	for (uintptr_t i = 0; i < NCPU; i++)
		if (pthread_create(&t[i], NULL, vcpu, (void *)i) != 0)
			return 1;
	for (unsigned i = 0; i < NCPU; i++)
		pthread_join(t[i], NULL);
	stop = true;
	if (squeezed) {
		pthread_join(th, NULL);
		pthread_join(ho, NULL);
		pthread_join(ma, NULL);
	}
	vm_object_rele(obj);
	pthread_join(mi, NULL);
	mirror_round(client);
	mirror_compare();
	if (vm_recount(vms, NULL, NULL) != 0)
		return 1;
	vm_check(vms);
	vmspace_stats(vms, &st);
	printf("%lu out, %lu in, %lu invalidations, %lu pages mirrored: no stale byte\n",
	    st.pageouts, st.pageins, st.invalidations, mirror_pages);
	vm_mark_close(client);
	vmspace_destroy(vms);
	return 0;
}

int
main(int argc, char **argv)
{
	rounds = argc > 1 ? strtoul(argv[1], NULL, 0) : 100000;
	if (vm_init() != 0 || vm_swap_init("/tmp", 64 << 20) != 0 || run(true) != 0)
		return 1;
	rounds *= 50;
	if (run(false) != 0)
		return 1;
	vm_swap_fini();
	return 0;
}
