/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integer work and control flow: a mix in the manner of CoreMark, SHA-256,
 * sorting, calls of every kind, interpreters.
 */
#include <stdlib.h>
#include <string.h>

#include "work.h"

/* --- mix: linked lists, a small matrix, a state machine, a CRC ---------- */

struct mix_node {
	struct mix_node *next;
	uint16_t key, data;
};

static uint16_t
mix_crc(uint16_t crc, uint16_t v)
{
	for (int i = 0; i < 16; i++) {
		uint16_t x = (crc ^ v) & 1;

		crc >>= 1;
		v >>= 1;
		if (x != 0)
			crc ^= 0xa001;
	}
	return crc;
}

static struct mix_node *
mix_merge(struct mix_node *a, struct mix_node *b)
{
	struct mix_node head, *tail = &head;

	while (a != NULL && b != NULL) {
		struct mix_node **from = a->key <= b->key ? &a : &b;

		tail->next = *from;
		tail = *from;
		*from = tail->next;
	}
	tail->next = a != NULL ? a : b;
	return head.next;
}

static struct mix_node *
mix_sort(struct mix_node *list, unsigned n)
{
	struct mix_node *mid = list, *second;

	if (n < 2)
		return list;
	for (unsigned i = 1; i < n / 2; i++)
		mid = mid->next;
	second = mid->next;
	mid->next = NULL;
	return mix_merge(mix_sort(list, n / 2), mix_sort(second, n - n / 2));
}

static uint16_t
mix_list(struct mix_node *node, unsigned n, uint16_t seed)
{
	struct mix_node *list = node, *rev = NULL;
	uint16_t crc = seed;

	for (unsigned i = 0; i < n; i++) {
		node[i].next = i + 1 < n ? &node[i + 1] : NULL;
		node[i].key = (uint16_t)(node[i].data * 31 + seed + i * 7);
	}
	list = mix_sort(list, n);
	while (list != NULL) {
		struct mix_node *next = list->next;

		if ((list->key & 3) != 0)
			crc = mix_crc(crc, list->key);
		list->next = rev;
		rev = list;
		list = next;
	}
	for (list = rev; list != NULL; list = list->next)
		list->data = (uint16_t)(list->data + (list->key & 1));
	return crc;
}

#define MIX_DIM 16

static uint16_t
mix_matrix(int32_t a[MIX_DIM][MIX_DIM], int16_t seed)
{
	int32_t c[MIX_DIM][MIX_DIM];
	uint16_t crc = 0;

	for (int i = 0; i < MIX_DIM; i++)
		for (int j = 0; j < MIX_DIM; j++) {
			int32_t s = 0;

			for (int k = 0; k < MIX_DIM; k++)
				s += (a[i][k] & 0xff) * ((a[k][j] >> 4) & 0x3f);
			c[i][j] = s + seed;
		}
	for (int i = 0; i < MIX_DIM; i++)
		for (int j = 0; j < MIX_DIM; j++)
			if (c[i][j] % 3 == 0)
				crc = (uint16_t)(crc + c[i][j]);
	a[seed & 15][crc & 15] ^= crc;
	return crc;
}

/* Numbers as in "12", "-3.5", "+1e9": counts the states it ends in. */
static uint16_t
mix_states(const char *s, unsigned count[8])
{
	enum { START, SIGN, INT, DOT, FRAC, EXP, EXPSIGN, BAD } st = START;
	uint16_t n = 0;

	for (; *s != '\0'; s++) {
		char c = *s;
		bool digit = c >= '0' && c <= '9';

		if (c == ',') {
			count[st]++;
			n = (uint16_t)(n * 3 + st);
			st = START;
			continue;
		}
		switch (st) {
		case START:
			st = digit ? INT : c == '+' || c == '-' ? SIGN :
			    c == '.' ? DOT : BAD;
			break;
		case SIGN:
			st = digit ? INT : c == '.' ? DOT : BAD;
			break;
		case INT:
			st = digit ? INT : c == '.' ? FRAC : c == 'e' ? EXP : BAD;
			break;
		case DOT:
		case FRAC:
			st = digit ? FRAC : c == 'e' ? EXP : BAD;
			break;
		case EXP:
			st = digit || c == '-' ? EXPSIGN : BAD;
			break;
		case EXPSIGN:
			st = digit ? EXPSIGN : BAD;
			break;
		case BAD:
			break;
		}
	}
	return n;
}

static uint64_t
run_mix(uint64_t n)
{
	static const char text[] = "5012,1234,-874,+122,35.54400,.1234500,"
				   "-110.700,+0.64400,5.500e+3,-.123e-2,"
				   "-87e+832,+0.6e-12,T0.3e-1F,-T.T++Tq,"
				   "1T3.4e4z,34.0e-T^,";
	static struct mix_node node[64];
	static int32_t a[MIX_DIM][MIX_DIM];
	unsigned count[8] = { 0 };
	uint64_t sum = 0;

	for (unsigned i = 0; i < 64; i++)
		node[i].data = (uint16_t)(i * 2654435761u >> 7);
	for (int i = 0; i < MIX_DIM * MIX_DIM; i++)
		a[i / MIX_DIM][i % MIX_DIM] = i * 7919;
	for (uint64_t i = 0; i < n; i++) {
		uint16_t crc = mix_list(node, 64, (uint16_t)i);

		crc = mix_crc(crc, mix_matrix(a, (int16_t)crc));
		crc = mix_crc(crc, mix_states(text, count));
		sum = work_mix(sum, crc);
	}
	return work_mix(sum, count[2] ^ count[7]);
}

/* --- SHA-256 (FIPS 180-4) ----------------------------------------------- */

static uint32_t sha_k[64];

/* The constants are cube roots of primes: fraction bits by integer search. */
static void
sha_constants(void)
{
	unsigned n = 0;

	for (uint64_t p = 2; n < 64; p++) {
		unsigned __int128 lo = 0, hi = (unsigned __int128)8 << 32;
		bool prime = true;

		for (uint64_t d = 2; d * d <= p; d++)
			prime = prime && p % d != 0;
		if (!prime)
			continue;
		while (hi - lo > 1) {
			unsigned __int128 mid = (lo + hi) / 2;

			if (mid * mid * mid > (unsigned __int128)p << 96)
				hi = mid;
			else
				lo = mid;
		}
		sha_k[n++] = (uint32_t)lo;
	}
}

static inline uint32_t
sha_rot(uint32_t x, int n)
{
	return x >> n | x << (32 - n);
}

static void
sha_block(uint32_t h[8], const uint8_t *p)
{
	uint32_t w[64], v[8];

	for (int i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
		    (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (int i = 16; i < 64; i++)
		w[i] = w[i - 16] + w[i - 7] +
		    (sha_rot(w[i - 15], 7) ^ sha_rot(w[i - 15], 18) ^
			w[i - 15] >> 3) +
		    (sha_rot(w[i - 2], 17) ^ sha_rot(w[i - 2], 19) ^
			w[i - 2] >> 10);
	memcpy(v, h, sizeof(v));
	for (int i = 0; i < 64; i++) {
		uint32_t t1 = v[7] +
		    (sha_rot(v[4], 6) ^ sha_rot(v[4], 11) ^ sha_rot(v[4], 25)) +
		    ((v[4] & v[5]) ^ (~v[4] & v[6])) + sha_k[i] + w[i];
		uint32_t t2 = (sha_rot(v[0], 2) ^ sha_rot(v[0], 13) ^
				  sha_rot(v[0], 22)) +
		    ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));

		memmove(v + 1, v, 7 * sizeof(v[0]));
		v[4] += t1;
		v[0] = t1 + t2;
	}
	for (int i = 0; i < 8; i++)
		h[i] += v[i];
}

static uint64_t
run_sha256(uint64_t n)
{
	uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
	static uint8_t buf[4096];

	sha_constants();
	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 131 >> 3);
	for (uint64_t i = 0; i < n; i++)
		sha_block(h, buf + i % 64 * 64);
	return (uint64_t)h[0] << 32 | h[7];
}

/* --- sorting ------------------------------------------------------------ */

static int
sort_compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static uint64_t
run_qsort(uint64_t n)
{
	uint32_t *v = work_alloc(n * sizeof(*v));
	uint64_t seed = 42, sum = 0;

	for (uint64_t i = 0; i < n; i++)
		v[i] = (uint32_t)work_random(&seed);
	work_start();
	qsort(v, n, sizeof(*v), sort_compare);
	for (uint64_t i = 0; i < n; i += 64)
		sum = work_mix(sum, v[i]);
	return sum;
}

/* --- calls -------------------------------------------------------------- */

static __attribute__((noinline)) uint64_t
call_fib(uint64_t n)
{
	__asm__ volatile("" : "+r"(n));
	return n < 2 ? n : call_fib(n - 1) + call_fib(n - 2);
}

static uint64_t
run_fib(uint64_t n)
{
	uint64_t sum = 0;

	/* fib(24) makes 150049 calls */
	for (uint64_t i = 0; i < n / 150049 + 1; i++)
		sum = work_mix(sum, call_fib(24));
	return sum;
}

struct call_shape {
	const struct call_ops *ops;
	uint64_t a, b;
};

struct call_ops {
	uint64_t (*area)(const struct call_shape *);
	void (*grow)(struct call_shape *, uint64_t);
};

#define CALL_SHAPE(name, expr)                                          \
	static __attribute__((noinline)) uint64_t                       \
	call_area_##name(const struct call_shape *s)                    \
	{                                                               \
		return (expr);                                          \
	}                                                               \
	static __attribute__((noinline)) void                           \
	call_grow_##name(struct call_shape *s, uint64_t d)              \
	{                                                               \
		s->a += d & 3;                                          \
		s->b ^= (expr) & 7;                                     \
	}                                                               \
	static const struct call_ops call_##name = { call_area_##name,  \
		call_grow_##name };

CALL_SHAPE(square, s->a * s->a)
CALL_SHAPE(rect, s->a * s->b)
CALL_SHAPE(triangle, s->a * s->b / 2)
CALL_SHAPE(ring, 3 * (s->a * s->a - s->b))

static uint64_t
run_virtual(uint64_t n)
{
	static const struct call_ops *const ops[4] = { &call_square, &call_rect,
		&call_triangle, &call_ring };
	static struct call_shape shape[256];
	uint64_t seed = 7, sum = 0;

	for (int i = 0; i < 256; i++)
		shape[i] = (struct call_shape){ ops[work_random(&seed) & 3],
			work_random(&seed) & 255, work_random(&seed) & 255 };
	for (uint64_t i = 0; i < n / 2; i++) {
		struct call_shape *s = &shape[i & 255];

		sum += s->ops->area(s);
		s->ops->grow(s, sum);
	}
	return sum;
}

/* --- interpreters -------------------------------------------------------- */

/* A register machine that runs a sieve; computed goto or switch. */
enum { OP_LI, OP_ADD, OP_ADDI, OP_MUL, OP_LT, OP_JZ, OP_JMP, OP_LD, OP_ST, OP_END };

struct interp_op {
	uint8_t op, a, b, c;
	int32_t imm;
};

/*
 * r0 size, r1 i, r2 j, r3 test, r4 one, r5 count, r6 value
 */
static const struct interp_op interp_sieve[] = {
	{ OP_LI, 1, 0, 0, 2 },	    /* 0: i = 2 */
	{ OP_LI, 4, 0, 0, 1 },
	{ OP_LI, 5, 0, 0, 0 },
	{ OP_LT, 3, 1, 0, 0 },	    /* 3: while i < size */
	{ OP_JZ, 3, 0, 0, 15 },
	{ OP_LD, 6, 1, 0, 0 },	    /* 5: v = mem[i] */
	{ OP_LT, 3, 6, 4, 0 },	    /* v < 1: prime */
	{ OP_JZ, 3, 0, 0, 13 },
	{ OP_ADDI, 5, 5, 0, 1 },
	{ OP_ADD, 2, 1, 1, 0 },	    /* 9: j = 2 i */
	{ OP_LT, 3, 2, 0, 0 },	    /* 10: while j < size */
	{ OP_JZ, 3, 0, 0, 13 },
	{ OP_JMP, 0, 0, 0, 16 },
	{ OP_ADDI, 1, 1, 0, 1 },    /* 13: i++ */
	{ OP_JMP, 0, 0, 0, 3 },
	{ OP_END, 0, 0, 0, 0 },	    /* 15 */
	{ OP_ST, 4, 2, 0, 0 },	    /* 16: mem[j] = 1 */
	{ OP_ADD, 2, 2, 1, 0 },	    /* j += i */
	{ OP_JMP, 0, 0, 0, 10 },
};

#define INTERP_SIZE 4096
static int64_t interp_mem[INTERP_SIZE];

static uint64_t
interp_goto(int64_t size, uint64_t *steps)
{
	static const void *const label[] = { &&li, &&add, &&addi, &&mul, &&lt,
		&&jz, &&jmp, &&ld, &&st, &&end };
	const struct interp_op *pc = interp_sieve, *base = interp_sieve;
	int64_t r[8] = { size };
	uint64_t n = 0;

#define NEXT                           \
	do {                           \
		n++;                   \
		goto *label[pc->op];   \
	} while (0)
	NEXT;
li:
	r[pc->a] = pc->imm;
	pc++;
	NEXT;
add:
	r[pc->a] = r[pc->b] + r[pc->c];
	pc++;
	NEXT;
addi:
	r[pc->a] = r[pc->b] + pc->imm;
	pc++;
	NEXT;
mul:
	r[pc->a] = r[pc->b] * r[pc->c];
	pc++;
	NEXT;
lt:
	r[pc->a] = r[pc->b] < r[pc->c];
	pc++;
	NEXT;
jz:
	pc = r[pc->a] == 0 ? base + pc->imm : pc + 1;
	NEXT;
jmp:
	pc = base + pc->imm;
	NEXT;
ld:
	r[pc->a] = interp_mem[r[pc->b] & (INTERP_SIZE - 1)];
	pc++;
	NEXT;
st:
	interp_mem[r[pc->b] & (INTERP_SIZE - 1)] = r[pc->a];
	pc++;
	NEXT;
end:
	*steps += n;
	return (uint64_t)r[5];
#undef NEXT
}

static uint64_t
interp_switch(int64_t size, uint64_t *steps)
{
	const struct interp_op *pc = interp_sieve;
	int64_t r[8] = { size };

	for (;;) {
		(*steps)++;
		switch (pc->op) {
		case OP_LI:
			r[pc->a] = pc->imm;
			break;
		case OP_ADD:
			r[pc->a] = r[pc->b] + r[pc->c];
			break;
		case OP_ADDI:
			r[pc->a] = r[pc->b] + pc->imm;
			break;
		case OP_MUL:
			r[pc->a] = r[pc->b] * r[pc->c];
			break;
		case OP_LT:
			r[pc->a] = r[pc->b] < r[pc->c];
			break;
		case OP_JZ:
			if (r[pc->a] == 0) {
				pc = interp_sieve + pc->imm;
				continue;
			}
			break;
		case OP_JMP:
			pc = interp_sieve + pc->imm;
			continue;
		case OP_LD:
			r[pc->a] = interp_mem[r[pc->b] & (INTERP_SIZE - 1)];
			break;
		case OP_ST:
			interp_mem[r[pc->b] & (INTERP_SIZE - 1)] = r[pc->a];
			break;
		default:
			return (uint64_t)r[5];
		}
		pc++;
	}
}

static uint64_t
interp_run(uint64_t n, uint64_t (*fn)(int64_t, uint64_t *))
{
	uint64_t steps = 0, sum = 0;

	while (steps < n) {
		memset(interp_mem, 0, sizeof(interp_mem));
		sum = work_mix(sum, fn(INTERP_SIZE, &steps));
	}
	return sum;
}

static uint64_t
run_goto(uint64_t n)
{
	return interp_run(n, interp_goto);
}

static uint64_t
run_switch(uint64_t n)
{
	return interp_run(n, interp_switch);
}

const struct work work_int[] = {
	{ "mix", "int", "round", 3000, run_mix, NULL },
	{ "sha256", "int", "block", 400000, run_sha256, NULL },
	{ "qsort", "int", "element", 1200000, run_qsort, NULL },
	{ "fib", "int", "call", 40000000, run_fib, NULL },
	{ "virtual", "int", "call", 40000000, run_virtual, NULL },
	{ "interp-goto", "int", "op", 60000000, run_goto, NULL },
	{ "interp-switch", "int", "op", 50000000, run_switch, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
