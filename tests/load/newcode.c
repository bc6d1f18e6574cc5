/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * newcode: writes code, runs it, and writes other code over it, again and
 * again: what a translator must neither hoard nor choke on.
 *
 *   newcode MBYTES [ARENA-MBYTES]
 *
 * Functions of random arithmetic on EAX fill an arena (16 MB); each is called
 * once, and must return what the same arithmetic gives here; then the arena is
 * filled anew until MBYTES have run.  Then the last filling runs three times as
 * it is.  Prints the speed of each quarter and "newcode: OK"; exits 1 when a
 * result is wrong or the last quarter took more than ten times the second (hosts are busy).
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define FN_INSNS 40
#define FN_BYTES 256

static uint64_t seed = 88172645463325252u;

static uint32_t
rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 16);
}

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* => what the function returns */
static uint32_t
make(uint8_t *p)
{
	uint32_t v = 1, imm;

	*p++ = 0xb8; /* mov $1, %eax */
	memcpy(p, &v, 4);
	p += 4;
	for (unsigned i = 0; i < FN_INSNS; i++) {
		imm = rnd();
		switch (imm >> 30) {
		case 0: /* add */
			*p++ = 0x05;
			v += imm;
			break;
		case 1: /* xor */
			*p++ = 0x35;
			v ^= imm;
			break;
		case 2: /* sub */
			*p++ = 0x2d;
			v -= imm;
			break;
		default: /* imul $imm, %eax, %eax */
			*p++ = 0x69;
			*p++ = 0xc0;
			v *= imm;
			break;
		}
		memcpy(p, &imm, 4);
		p += 4;
	}
	*p = 0xc3;
	return v;
}

static int
run(const uint8_t *arena, const uint32_t *want, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t (*fn)(void) = (uint32_t(*)(void))(uintptr_t)
		    (arena + i * FN_BYTES);

		if (fn() != want[i]) {
			printf("newcode: function %zu is wrong\n", i);
			return 1;
		}
	}
	return 0;
}

int
main(int argc, char **argv)
{
	size_t total = (argc > 1 ? strtoul(argv[1], NULL, 10) : 16) << 20;
	size_t size = (argc > 2 ? strtoul(argv[2], NULL, 10) : 16) << 20;
	size_t n = size / FN_BYTES, rounds = (total + size - 1) / size;
	uint32_t *want = malloc(n * sizeof(*want));
	double start, secs[4] = { 0 };
	size_t ran[4] = { 0 };
	uint8_t *arena;

	arena = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED || want == NULL || n == 0)
		return 2;
	for (size_t r = 0; r < rounds; r++) {
		start = now();
		for (size_t i = 0; i < n; i++)
			want[i] = make(arena + i * FN_BYTES);
		if (run(arena, want, n) != 0)
			return 1;
		secs[r * 4 / rounds] += now() - start;
		ran[r * 4 / rounds] += size;
	}
	for (unsigned q = 0; q < 4; q++)
		if (ran[q] != 0)
			printf("newcode: quarter %u: %.2f MB/s\n", q,
			    (double)ran[q] / secs[q] / 1e6);
	start = now();
	for (unsigned i = 0; i < 3; i++)
		if (run(arena, want, n) != 0)
			return 1;
	printf("newcode: again: %.2f MB/s\n", 3 * (double)size /
	    (now() - start) / 1e6);
	if (rounds >= 4 && secs[3] / (double)ran[3] >
	    10 * secs[1] / (double)ran[1]) {
		printf("newcode: slower and slower\n");
		return 1;
	}
	printf("newcode: OK\n");
	free(want);
	return 0;
}
