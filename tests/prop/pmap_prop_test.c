/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Random operations on a pmap against an array of pages, for each format and
 * kind of A/D bits.  After each step: pmap_check(), and a sample of pages
 * compared by the independent walker; all of them now and then.
 *
 *   pmap_prop_test [steps]; SEED=n replays
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/host.h"
#include "pmap/pmap.h"
#include "../model/walker.h"

#define PAGES 1536ul /* three times 2 MB, around a 1 GB boundary */
#define BASE (0x40000000ul - 512 * 4096)
#define CHECK(e)                                                              \
	do {                                                                  \
		if (!(e)) {                                                   \
			fprintf(stderr, "%s:%d: %s (SEED=%lu, step %lu)\n",   \
			    __FILE__, __LINE__, #e, seed, step);              \
			exit(1);                                              \
		}                                                             \
	} while (0)

static unsigned long seed, step;
static uint64_t rng;

static uint64_t
rnd(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return (rng >> 11) % n;
}

struct model {
	int prot[PAGES]; /* 0: not mapped */
	bool dirty[PAGES];
};

static struct pmap *pm;
static struct model m;
static enum pmap_type type;
static unsigned flags;
static hpa_t mem;

/* What the format makes of prot. */
static int
widen(int prot)
{
	if (prot == VMM_PROT_EXEC && type == PMAP_PT_EPT &&
	    (flags & PMAP_F_EXEC_ONLY) != 0 && (flags & PMAP_F_AD_EMUL) == 0)
		return prot;
	return prot | VMM_PROT_READ;
}

static uint64_t
read_entry(void *arg, uint64_t pa)
{
	(void)arg;
	return *(volatile uint64_t *)PHYS_TO_DMAP(pa);
}

static void
compare(uint64_t i)
{
	struct walker_result r = walker_translate(type == PMAP_PT_EPT ? WALKER_EPT :
	    WALKER_X86, pmap_root(pm), BASE + i * 4096, read_entry, NULL);
	gpa_t gpa = BASE + i * 4096;
	int prot;
	hpa_t hpa;

	CHECK(pmap_extract(pm, gpa, &hpa, &prot) == (m.prot[i] != 0));
	if (m.prot[i] == 0) {
		CHECK(!r.present);
		return;
	}
	CHECK(hpa == mem + i * 4096);
	/* clean runs may have lost W for promotion; vm gives it back */
	CHECK(prot == m.prot[i] ||
	    (!m.dirty[i] && prot == (m.prot[i] & ~VMM_PROT_WRITE)));
	CHECK(pmap_is_modified(pm, gpa) == m.dirty[i]);
	if (!r.present) {
		CHECK((flags & PMAP_F_AD_EMUL) != 0 && !pmap_is_referenced(pm, gpa));
		return;
	}
	CHECK(!r.misconfigured && r.pa == hpa);
	CHECK(!r.r || (m.prot[i] & VMM_PROT_READ) != 0);
	CHECK(!r.w || (m.prot[i] & VMM_PROT_WRITE) != 0);
	CHECK(r.x == ((m.prot[i] & VMM_PROT_EXEC) != 0));
	if ((flags & PMAP_F_AD_EMUL) != 0)
		CHECK(!r.w || m.dirty[i]);
	else
		CHECK(r.d == m.dirty[i] &&
		    r.a == pmap_is_referenced(pm, gpa));
}

static void
enter(uint64_t i, int prot, int access)
{
	CHECK(pmap_enter(pm, BASE + i * 4096, mem + i * 4096, prot, access,
	    NULL) == 0);
	m.prot[i] = widen(prot);
	if ((access & VMM_PROT_WRITE) != 0)
		m.dirty[i] = true;
}

static void
removed(void *arg, gpa_t gpa, hpa_t hpa, bool accessed, bool dirty)
{
	uint64_t i = (gpa - BASE) / 4096;

	(void)accessed;
	CHECK(m.prot[i] != 0 && hpa == mem + i * 4096 && dirty == m.dirty[i]);
	m.prot[i] = 0;
	m.dirty[i] = false;
	++*(uint64_t *)arg;
}

/* As a vCPU: walk; fault as vm_fault() would; walk again. */
static void
touch(uint64_t i, int access)
{
	struct pmap_walk w;
	gpa_t gpa = BASE + i * 4096 + rnd(4096);
	int error = pmap_walk(pm, gpa, access, &w);

	if ((m.prot[i] & access) == 0) {
		CHECK(error != 0);
		return;
	}
	if (error != 0 && pmap_emulate_accessed_dirty(pm, gpa, access) != 0)
		enter(i, m.prot[i], access);
	if (access == VMM_PROT_WRITE)
		m.dirty[i] = true;
	CHECK(pmap_walk(pm, gpa, access, &w) == 0);
	CHECK(w.hpa == mem + i * 4096 + (gpa & 4095));
	CHECK((w.prot & access) != 0);
	CHECK((w.prot & VMM_PROT_WRITE) == 0 || m.dirty[i]);
}

static void
one(void)
{
	uint64_t i = rnd(PAGES), n = 1 + rnd(rnd(4) == 0 ? 700 : 8), got = 0, want = 0;
	int prot = 1 + (int)rnd(7), access = 1 << rnd(3);

	if (rnd(3) == 0)
		i = rnd(3) * 512;
	n = n > PAGES - i ? PAGES - i : n;
	switch (rnd(10)) {
	case 0:
		for (uint64_t k = 0; k < n; k++)
			if (m.prot[i + k] == 0)
				enter(i + k, prot, 0);
		break;
	case 1: /* what promotes */
		if (rnd(2) == 0)
			prot = VMM_PROT_ALL;
		access = rnd(3) == 0 ? VMM_PROT_READ : VMM_PROT_WRITE;
		i = base_rounddown(i, 512);
		pmap_remove(pm, BASE + i * 4096, 512 * 4096, removed, &got);
		for (uint64_t k = 0; k < 512; k++)
			enter(i + k, prot | access, access);
		break;
	case 2:
		for (uint64_t k = 0; k < n; k++)
			want += m.prot[i + k] != 0;
		pmap_remove(pm, BASE + i * 4096, n * 4096, removed, &got);
		CHECK(got == want);
		break;
	case 3:
		pmap_protect(pm, BASE + i * 4096, n * 4096, prot);
		for (uint64_t k = 0; k < n; k++)
			if (m.prot[i + k] != 0) {
				int now = 0, w = m.prot[i + k] & widen(prot);

				CHECK(pmap_extract(pm, BASE + (i + k) * 4096, NULL,
				    &now) == (now != 0));
				CHECK((now & ~w) == 0);
				m.prot[i + k] = w;
				m.dirty[i + k] &= w != 0;
			}
		break;
	case 4:
		(void)pmap_ts_referenced(pm, BASE + i * 4096);
		break;
	case 5:
		for (uint64_t k = 0; k < n; k++) {
			CHECK(pmap_clear_modify(pm, BASE + (i + k) * 4096) ==
			    m.dirty[i + k]);
			m.dirty[i + k] = false;
		}
		pmap_invalidate(pm);
		break;
	case 6:
		(void)pmap_promote(pm, BASE + i * 4096);
		break;
	default:
		for (uint64_t k = 0; k < n; k++)
			touch(i + k, access);
	}
}

int
main(int argc, char **argv)
{
	static const unsigned kinds[] = { PMAP_F_2M | PMAP_F_EXEC_ONLY,
		PMAP_F_2M | PMAP_F_1G, 0, PMAP_F_2M | PMAP_F_AD_EMUL };
	unsigned long steps = argc > 1 ? strtoul(argv[1], NULL, 0) : 2000;
	struct pmap_stats st;

	seed = getenv("SEED") != NULL ? strtoul(getenv("SEED"), NULL, 0) :
					(unsigned long)time(NULL);
	printf("SEED=%lu\n", seed);
	rng = seed * 2654435761 + 88172645463325252;
	if (host_dmap_init() != 0 || host_dmap_alloc(8ul << 20, &mem) != 0)
		return 1;
	for (unsigned k = 0; k < 8; k++) {
		type = k & 1 ? PMAP_PT_X86 : PMAP_PT_EPT;
		flags = kinds[k / 2];
		memset(&m, 0, sizeof(m));
		CHECK(pmap_create(type, flags, NULL, NULL, &pm) == 0);
		for (step = 0; step < steps; step++) {
			one();
			pmap_check(pm);
			for (int j = 0; j < 16; j++)
				compare(rnd(PAGES));
			if (step % 16 == 0)
				for (uint64_t i = 0; i < PAGES; i++)
					compare(i);
		}
		pmap_stats_get(pm, &st);
		printf("%s flags %x: %lu promotions, %lu demotions\n",
		    type == PMAP_PT_EPT ? "ept" : "x86", flags, st.promotions,
		    st.demotions);
		CHECK((flags & PMAP_F_2M) == 0 || steps < 1000 || st.promotions > 0);
		pmap_destroy(pm);
	}
	return 0;
}
