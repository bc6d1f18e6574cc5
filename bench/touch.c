/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs inside a guest, for tools/bench-look: writes to random pages of so many
 * MB, and prints four times a second how many it has written to.
 *
 *   touch-pages MEGABYTES SECONDS
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

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
	uint64_t len, pages, n = 0, x = 88172645463325252ul;
	double start, next, end;
	char *p;

	if (argc != 3)
		return 2;
	len = strtoul(argv[1], NULL, 0) << 20;
	pages = len / 4096;
	p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || pages == 0)
		return 1;
	memset(p, 1, len);
	start = next = now();
	end = start + atof(argv[2]);
	while (next < end) {
		double t;

		for (int i = 0; i < 20000; i++, n++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			*(volatile uint64_t *)(p + (x >> 20) % pages * 4096 +
			    (x & 0xff8)) += x;
		}
		t = now();
		if (t < next + 0.25)
			continue;
		next = t;
		printf("TOUCHED %.3f %lu\n", t - start, n);
		fflush(stdout);
	}
	return 0;
}
