/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * squeeze MEGABYTES SECONDS
 *
 * Reads and, every fourth time, writes a word of a page of MEGABYTES, pages
 * picked by a zipf distribution (exponent 1) whose order is scattered over the
 * memory.  Prints, after as many seconds again of warming up,
 *	SQUEEZE nanoseconds-per-access accesses
 * The same static binary runs in guests and on the bare host.
 */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE 4096ul

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

int
main(int argc, char **argv)
{
	uint64_t pages = argc > 1 ? strtoul(argv[1], NULL, 10) << 8 : 0;
	double secs = argc > 2 ? atof(argv[2]) : 0, t, end, h;
	uint64_t rng = 88172645463325252ul, n = 0, sum = 0;
	char *p;

	if (pages == 0 || pages > 1ul << 24 || secs <= 0) {
		fprintf(stderr, "usage: squeeze MEGABYTES SECONDS\n");
		return 2;
	}
	p = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) {
		perror("squeeze");
		return 1;
	}
	(void)madvise(p, pages * PAGE, MADV_NOHUGEPAGE);
	for (uint64_t i = 0; i < pages * PAGE; i += 8)
		*(uint64_t *)(p + i) = (i + 1) * 0x9e3779b97f4a7c15ul;
	h = log((double)pages);
	t = now();
	end = t + 2 * secs;
	for (bool warm = true;; n++) {
		uint64_t rank, *w;

		if (n % 256 == 0) {
			double at = now();

			if (at >= end)
				break;
			if (warm && at >= t + secs) {
				warm = false;
				n = 0;
				t = at;
			}
		}
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		/* the inverse of the distribution function */
		rank = (uint64_t)exp(h * (double)(rng >> 11) / 9007199254740992.0);
		rank = (rank - 1) * 2654435761ul % pages;
		w = (uint64_t *)(p + rank * PAGE + (rng & 0x1ff) * 8);
		if ((n & 3) == 0)
			*w += n;
		else
			sum += *w;
	}
	printf("SQUEEZE %.1f %lu\n", (now() - t) * 1e9 / (double)n, n);
	return sum == 1;
}
