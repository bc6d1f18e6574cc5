/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pattern: runs inside a guest and proves that its memory loses nothing.
 *
 *   pattern MEGABYTES SECONDS [THREADS [zipf]]
 *
 * Every page carries, in each of its 512 words, a hash of (page, version,
 * word).  Threads pick pages, check all words against the version the page
 * should have, and often write the next version; each thread owns every
 * THREADS-th page, so a stale or lost byte cannot be blamed on a race.  Some
 * pages are cleared to zero, some returned with MADV_DONTNEED (zeros must come
 * back) and some moved to another address with mremap.  `zipf` favours low
 * pages, as a working set does.
 *
 * Prints "pattern: OK pages=.. checks=.. writes=.." and exits 0; or names the
 * first wrong word and exits 1.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096u
#define WORDS (PAGE / 8)

struct page {
	uint64_t *va;
	uint32_t version; /* 0: all zeros */
};

static struct page *pages;
static size_t npages;
static unsigned nthreads;
static int zipf;
static double seconds;
static uint64_t total_checks, total_writes;
static int failed;

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 31;
	x *= 0x9e3779b97f4a7c15u;
	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	return x ^ (x >> 32);
}

static uint64_t
word(size_t page, uint32_t version, unsigned i)
{
	if (version == 0)
		return 0;
	return mix(((uint64_t)page << 32 | version) + ((uint64_t)i << 17) + i);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
check(size_t p)
{
	for (unsigned i = 0; i < WORDS; i++) {
		uint64_t want = word(p, pages[p].version, i);
		uint64_t got = ((volatile uint64_t *)pages[p].va)[i];

		if (got == want)
			continue;
		printf("pattern: FAILED page %zu va %p word %u version %u: "
		       "%016llx, want %016llx\n",
		    p, (void *)pages[p].va, i, pages[p].version,
		    (unsigned long long)got, (unsigned long long)want);
		__atomic_store_n(&failed, 1, __ATOMIC_SEQ_CST);
		return -1;
	}
	return 0;
}

static void
fill(size_t p, uint32_t version)
{
	for (unsigned i = 0; i < WORDS; i++)
		pages[p].va[i] = word(p, version, i);
	pages[p].version = version;
}

static size_t
pick(uint64_t *rng, unsigned self)
{
	size_t mine = (npages - self + nthreads - 1) / nthreads, k;

	*rng = mix(*rng + 0x1234567);
	k = (size_t)(*rng >> 11);
	if (zipf) {
		/* density falls off as 1/x: choose the scale first */
		unsigned scale = (unsigned)(k % 16);

		k = (k >> 4) % ((mine >> scale) + 1);
	}
	return self + (k % mine) * nthreads;
}

static void *
run(void *arg)
{
	unsigned self = (unsigned)(uintptr_t)arg;
	uint64_t rng = mix(self + 77), checks = 0, writes = 0;
	double end = now() + seconds;

	for (unsigned n = 0; !__atomic_load_n(&failed, __ATOMIC_RELAXED); n++) {
		size_t p = pick(&rng, self);
		unsigned what;

		if ((n & 63) == 0 && now() >= end)
			break;
		if (check(p) != 0)
			break;
		checks++;
		what = (unsigned)(rng & 0xff);
		if (what < 90) {
			fill(p, pages[p].version + 1);
			writes++;
		} else if (what < 94) {
			memset(pages[p].va, 0, PAGE);
			pages[p].version = 0;
		} else if (what < 96) {
			if (madvise(pages[p].va, PAGE, MADV_DONTNEED) == 0)
				pages[p].version = 0;
		}
	}
	/* once more, all of them */
	for (size_t p = self; p < npages && !failed; p += nthreads) {
		if (check(p) != 0)
			break;
		checks++;
	}
	__atomic_fetch_add(&total_checks, checks, __ATOMIC_SEQ_CST);
	__atomic_fetch_add(&total_writes, writes, __ATOMIC_SEQ_CST);
	return NULL;
}

int
main(int argc, char **argv)
{
	pthread_t tid[64];
	uint64_t *base;
	double start;

	if (argc < 3) {
		fprintf(stderr, "usage: pattern MEGABYTES SECONDS [THREADS [zipf]]\n");
		return 2;
	}
	npages = strtoul(argv[1], NULL, 0) * 256;
	seconds = strtod(argv[2], NULL);
	nthreads = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 0) : 1;
	zipf = argc > 4;
	if (npages == 0 || nthreads == 0 || nthreads > 64) {
		fprintf(stderr, "pattern: bad size or number of threads\n");
		return 2;
	}
	pages = calloc(npages, sizeof(*pages));
	base = mmap(NULL, npages * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (pages == NULL || base == MAP_FAILED) {
		perror("pattern");
		return 2;
	}
	for (size_t p = 0; p < npages; p++) {
		pages[p].va = base + p * WORDS;
		fill(p, 1);
	}
	start = now();
	for (unsigned i = 0; i < nthreads; i++)
		if (pthread_create(&tid[i], NULL, run, (void *)(uintptr_t)i) != 0)
			return 2;
	for (unsigned i = 0; i < nthreads; i++)
		pthread_join(tid[i], NULL);
	if (failed)
		return 1;
	printf("pattern: OK pages=%zu checks=%llu writes=%llu seconds=%.1f\n",
	    npages, (unsigned long long)total_checks,
	    (unsigned long long)total_writes, now() - start);
	return 0;
}
