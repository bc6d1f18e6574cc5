/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory: copies, strings, dependent loads, atomics. */
#include <string.h>

#include "work.h"

static void
mem_rep_movsb(void *dst, const void *src, size_t len)
{
	__asm__ volatile("rep movsb"
			 : "+D"(dst), "+S"(src), "+c"(len)
			 :
			 : "memory");
}

static void
mem_libc(void *dst, const void *src, size_t len)
{
	/* through a pointer, or the compiler makes something of its own */
	static void *(*volatile fn)(void *, const void *, size_t) = memcpy;

	fn(dst, src, len);
}

#define MEM_MAX (1u << 20)

/* n bytes in all, len at a time */
static uint64_t
mem_copy(uint64_t n, size_t len, void (*fn)(void *, const void *, size_t))
{
	uint8_t *a = work_alloc(2 * MEM_MAX), *b = a + MEM_MAX;
	uint64_t sum = 0;

	for (size_t i = 0; i < MEM_MAX; i++)
		a[i] = (uint8_t)(i * 7 >> 2);
	work_start();
	for (uint64_t done = 0; done < n; done += len) {
		fn(b, a, len);
		a[done / len % len]++;
		sum += b[len / 3];
	}
	return work_mix(sum, b[len - 1]);
}

#define MEM_COPY(name, len, fn)            \
	static uint64_t                    \
	run_##name(uint64_t n)             \
	{                                  \
		return mem_copy(n, len, fn); \
	}

MEM_COPY(memcpy_4k, 4096, mem_libc)
MEM_COPY(memcpy_64k, 65536, mem_libc)
MEM_COPY(memcpy_1m, MEM_MAX, mem_libc)
MEM_COPY(movsb_4k, 4096, mem_rep_movsb)
MEM_COPY(movsb_1m, MEM_MAX, mem_rep_movsb)

static uint64_t
run_memset(uint64_t n)
{
	static void *(*volatile fn)(void *, int, size_t) = memset;
	uint8_t *a = work_alloc(65536);
	uint64_t sum = 0;

	work_start();
	for (uint64_t i = 0; i < n / 65536 + 1; i++) {
		fn(a, (int)(i & 0xff), 65536);
		sum = work_mix(sum, a[i & 0xffff]);
	}
	return sum;
}

static uint64_t
run_string(uint64_t n)
{
	static size_t (*volatile len)(const char *) = strlen;
	static char *(*volatile chr)(const char *, int) = strchr;
	static int (*volatile cmp)(const char *, const char *) = strcmp;
	static void *(*volatile mchr)(const void *, int, size_t) = memchr;
	static int (*volatile mcmp)(const void *, const void *, size_t) = memcmp;
	char *a = work_alloc(8192), *b = a + 4096;
	const char *hit;
	uint64_t sum = 0;

	work_text(a, 4000, 3);
	memcpy(b, a, 4000);
	work_start();
	for (uint64_t i = 0; i < n; i++) {
		size_t at = i * 61 % 3500;

		sum += len(a + at);
		hit = chr(a + at, 'q');
		sum += hit == NULL ? 1 : (uint64_t)(hit - a);
		sum += (uint64_t)(cmp(a + at, b + at) + 1);
		hit = mchr(a + at, 'h', 4000 - at);
		sum += hit == NULL ? 1 : (uint64_t)(hit - a);
		sum += (uint64_t)(mcmp(a + at, b + at, 400) + 1);
	}
	return sum;
}

/* Loads, each of which needs the one before: a random cycle through len. */
static uint64_t
mem_chase(uint64_t n, size_t len)
{
	size_t count = len / 64;
	struct line {
		struct line *next;
		uint64_t id, pad[6];
	} *v = work_alloc(len), *p;
	uint32_t *perm = work_alloc(count * sizeof(*perm));
	uint64_t seed = 99, sum = 0;

	for (size_t i = 0; i < count; i++)
		perm[i] = (uint32_t)i;
	for (size_t i = count - 1; i > 0; i--) {
		size_t j = work_random(&seed) % (i + 1);
		uint32_t t = perm[i];

		perm[i] = perm[j];
		perm[j] = t;
	}
	for (size_t i = 0; i < count; i++) {
		v[perm[i]].next = &v[perm[(i + 1) % count]];
		v[perm[i]].id = i;
	}
	p = v;
	work_start();
	for (uint64_t i = 0; i < n; i++)
		p = p->next;
	sum = work_mix(sum, p->id);
	return sum;
}

static uint64_t
run_chase_64m(uint64_t n)
{
	return mem_chase(n, 64u << 20);
}

static uint64_t
run_chase_32k(uint64_t n)
{
	return mem_chase(n, 32u << 10);
}

static uint64_t
run_atomic(uint64_t n)
{
	static uint64_t cell[8];
	uint64_t sum = 0;

	memset(cell, 0, sizeof(cell));
	for (uint64_t i = 0; i < n / 3; i++) {
		uint64_t old = __atomic_fetch_add(&cell[i & 7], i,
		    __ATOMIC_SEQ_CST);

		__atomic_compare_exchange_n(&cell[(i + 1) & 7], &old, sum, false,
		    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		sum += __atomic_exchange_n(&cell[(i + 2) & 7], old,
		    __ATOMIC_SEQ_CST);
	}
	return sum;
}

const struct work work_mem[] = {
	{ "memcpy-4k", "mem", "byte", 1000ul << 20, run_memcpy_4k, NULL },
	{ "memcpy-64k", "mem", "byte", 500ul << 20, run_memcpy_64k, NULL },
	{ "memcpy-1m", "mem", "byte", 500ul << 20, run_memcpy_1m, NULL },
	{ "movsb-4k", "mem", "byte", 250ul << 20, run_movsb_4k, NULL },
	{ "movsb-1m", "mem", "byte", 150ul << 20, run_movsb_1m, NULL },
	{ "memset-64k", "mem", "byte", 2000ul << 20, run_memset, NULL },
	{ "string", "mem", "round", 300000, run_string, NULL },
	{ "chase-64m", "mem", "load", 1500000, run_chase_64m, NULL },
	{ "chase-32k", "mem", "load", 60000000, run_chase_32k, NULL },
	{ "atomic", "mem", "op", 15000000, run_atomic, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
