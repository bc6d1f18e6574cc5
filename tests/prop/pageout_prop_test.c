/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Contents survive: random writes, reads, holds, limits, discards, shadows and
 * dirty scans on a guest that is squeezed, against an array of words; then
 * vm_check().  Swap is small at times, so that it fills up.
 *
 *   pageout_prop_test [STEPS]; SEED=n replays
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/host.h"
#include "vm/vm.h"

#define PAGES 2048ul
#define CHECK(e)                                                             \
	do {                                                                 \
		if (!(e)) {                                                  \
			fprintf(stderr, "%s:%d: %s (SEED=%lu, step %lu)\n",  \
			    __FILE__, __LINE__, #e, seed, step);             \
			exit(1);                                             \
		}                                                            \
	} while (0)

static unsigned long seed, step;
static uint64_t rng, word[PAGES], noise[PAGES];
static bool dirty[PAGES], accessed[PAGES];
static struct vmspace *vms;
static unsigned events;
static uint64_t spilled;

static uint64_t
rnd(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng >> 11) % n;
}

static void
event(void *arg, enum vm_event ev, gpa_t gpa, int error)
{
	(void)arg;
	(void)gpa;
	CHECK(ev == VM_EVENT_SWAP_FULL && error == -ENOSPC);
	events++;
}

static uint64_t *
walk(uint64_t i, int access)
{
	struct pmap *pm = vmspace_pmap(vms);
	struct pmap_walk w;
	int tries = 0;

	accessed[i] = true;
	while (pmap_walk(pm, i * 4096, access, &w) != 0) {
		CHECK(tries++ < 3);
		CHECK(vm_fault(vms, i * 4096, access) == 0);
	}
	return PHYS_TO_DMAP(w.hpa + i % 512 * 8);
}

static bool
seen(void *arg, const struct vmm_block *b)
{
	for (uint64_t k = 0; k < 512; k++) {
		uint64_t i = b->gpa / 4096 + k;

		if ((b->page[k / 64] >> (k % 64) & 1) == 0)
			continue;
		CHECK(i < PAGES && dirty[i]);
		dirty[i] = false;
		++*(uint64_t *)arg;
	}
	return true;
}

/* The guest's accesses: none may be missed; a large leaf says more. */
static bool
used(void *arg, const struct vmm_block *b)
{
	for (uint64_t k = 0; k < 512; k++)
		if ((b->page[k / 64] >> (k % 64) & 1) != 0) {
			accessed[b->gpa / 4096 + k] = false;
			++*(uint64_t *)arg;
		}
	return true;
}

static void
differs(void *arg, struct vm_object *obj, const char *name, uint64_t counted,
    uint64_t found)
{
	(void)arg;
	(void)obj;
	if (counted != found)
		printf("%s: counted %lu, found %lu\n", name, counted, found);
}

static void
one(int client)
{
	uint64_t i = rnd(PAGES), n = 1 + rnd(64), got = 0, want = 0;
	struct vm_hold h;

	n = n > PAGES - i ? PAGES - i : n;
	switch (rnd(12)) {
	case 0:
		CHECK(vmspace_set_limit(vms, rnd(4) == 0 ? 0 :
		    (256 + rnd(PAGES)) * 4096) == 0);
		break;
	case 1:
		(void)vmspace_reclaim(vms, n * 4096);
		break;
	case 2:
		if (rnd(8) != 0)
			break;
		CHECK(vm_map_discard(vms, i * 4096, n * 4096) == 0);
		for (uint64_t k = 0; k < n; k++) {
			word[i + k] = noise[i + k] = 0;
			accessed[i + k] = false;
			dirty[i + k] = true; /* its contents are others now */
		}
		break;
	case 3:
		if (rnd(8) != 0)
			break;
		for (uint64_t k = 0; k < PAGES; k++)
			want += dirty[k];
		CHECK(vm_mark_fetch(vms, client, VM_MARK_DIRTY, seen, &got) == want && got == want);
		break;
	case 4:
		CHECK(vm_hold(vms, i * 4096, 4096, VMM_PROT_RW, &h) == 0);
		(void)vmspace_reclaim(vms, 1 << 20);
		CHECK(((uint64_t *)h.ptr)[i % 512] == word[i]);
		for (uint64_t k = 0; k < 512; k++)
			CHECK(k == i % 512 || ((uint64_t *)h.ptr)[k] == noise[i] * (k + 1));
		/* what hardly packs, or becomes zeros */
		noise[i] = rnd(3) == 0 ? rng : 0;
		for (uint64_t k = 0; k < 512; k++)
			((uint64_t *)h.ptr)[k] = noise[i] * (k + 1);
		((uint64_t *)h.ptr)[i % 512] = word[i] = rnd(3) == 0 ? 0 : rng;
		dirty[i] = true;
		vm_release(vms, &h);
		break;
	case 5:
		(void)vm_mark_fetch(vms, client, VM_MARK_ACCESSED, used, &got);
		for (uint64_t k = 0; k < PAGES; k++)
			CHECK(!accessed[k]);
		CHECK(vm_mark_fetch(vms, client, VM_MARK_ACCESSED, NULL, NULL) == 0);
		break;
	case 6: /* all of 2 MB, so that it promotes */
		if (rnd(4) != 0)
			break;
		i = base_rounddown(i, 512);
		for (uint64_t k = i; k < i + 512; k++) {
			*walk(k, VMM_PROT_WRITE) = word[k] = rng + k;
			dirty[k] = true;
		}
		break;
	default:
		for (uint64_t k = i; k < i + n; k++)
			if (rnd(2) == 0) {
				*walk(k, VMM_PROT_WRITE) = word[k] = rnd(4) == 0 ? 0 :
										   rng;
				dirty[k] = true;
			} else
				CHECK(*walk(k, VMM_PROT_READ) == word[k]);
	}
}

static void
run(enum pmap_type type, unsigned flags, unsigned long steps, bool shadow)
{
	struct vmspace_config cfg = { .type = type, .pmap_flags = flags,
		.event = event };
	struct vm_object *obj, *sh;
	struct vm_stats st;
	int client;

	memset(word, 0, sizeof(word));
	memset(noise, 0, sizeof(noise));
	memset(dirty, 0, sizeof(dirty));
	memset(accessed, 0, sizeof(accessed));
	CHECK(vmspace_create(&cfg, &vms) == 0);
	CHECK(vm_object_create_anon(PAGES * 4096, &obj) == 0);
	client = vm_mark_open();
	CHECK(client >= 0);
	if (shadow) {
		/* fill the backing object, then put a shadow in front */
		CHECK(vm_map_insert(vms, 0, PAGES * 4096, obj, 0, VMM_PROT_ALL, 0) == 0);
		for (uint64_t i = 0; i < PAGES; i += 1 + rnd(3))
			*walk(i, VMM_PROT_WRITE) = word[i] = i + 1;
		CHECK(vm_map_remove(vms, 0, PAGES * 4096) == 0);
		CHECK(vm_object_create_shadow(obj, 0, PAGES * 4096, &sh) == 0);
	} else {
		sh = obj;
		vm_object_ref(obj);
	}
	CHECK(vm_map_insert(vms, 0, PAGES * 4096, sh, 0, VMM_PROT_ALL, 0) == 0);
	vm_object_rele(sh);
	for (step = 0; step < steps; step++) {
		if (step == steps / 2) { /* collapse */
			vm_object_rele(obj);
			(void)vm_mark_fetch(vms, client, VM_MARK_DIRTY, NULL, NULL);
			memset(dirty, 0, sizeof(dirty));
		} else if (step == 0) {
			(void)vm_mark_fetch(vms, client, VM_MARK_DIRTY, NULL, NULL);
			memset(dirty, 0, sizeof(dirty));
		}
		one(client);
		if (step % 8 == 0)
			vm_check(vms);
		else if (step % 8 == 4)
			CHECK(vm_recount(vms, differs, NULL) == 0);
	}
	for (uint64_t i = 0; i < PAGES; i++)
		CHECK(*walk(i, VMM_PROT_READ) == word[i]);
	vmspace_stats(vms, &st);
	spilled += st.spills;
	CHECK(vm_compress_bytes() <= 128 << 10);
	printf("%s %x%s: %lu out, %lu in, %lu refaults, %lu zero, %lu cow, %lu "
	       "promotions, %u events\n", type == PMAP_PT_EPT ? "ept" : "x86", flags,
	    shadow ? " shadow" : "", st.pageouts, st.pageins, st.refaults, st.zero,
	    st.faults_cow, st.promotions, events);
	vm_mark_close(client);
	vmspace_destroy(vms);
	CHECK(vm_swap_used() == 0 && vm_compress_bytes() == 0);
}

int
main(int argc, char **argv)
{
	unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 0) : 2000;
	const char *s = getenv("SEED");

	seed = s != NULL ? strtoul(s, NULL, 0) : (unsigned long)time(NULL);
	rng = seed * 2654435761u + 88172645463325252ul;
	printf("SEED=%lu\n", seed);
	CHECK(vm_init() == 0 && vm_swap_init("/tmp", 1024 * 4096) == 0);
	for (int i = 0; i < 16; i++) {
		/* then the same with a pool, of 128 KB, that overflows */
		if (i == 8)
			CHECK(vm_compress_init(128 << 10) == 0);
		run(i & 1 ? PMAP_PT_X86 : PMAP_PT_EPT,
		    PMAP_F_2M | (i & 2 ? PMAP_F_AD_EMUL : 0), steps, (i & 4) != 0);
	}
	CHECK(spilled != 0);
	vm_compress_fini();
	vm_swap_fini();
	return 0;
}
