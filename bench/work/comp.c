/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compression, of our own making but of the known kinds: matches by hash
 * chains with Huffman codes (as deflate), and a binary range coder with
 * adaptive contexts (as LZMA).
 */
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define COMP_LEN (256u << 10)
#define COMP_HASH 32768
#define COMP_WINDOW 32768

static uint32_t comp_head[COMP_HASH];
static uint32_t comp_prev[COMP_WINDOW];

static inline unsigned
comp_hash(const uint8_t *p)
{
	return ((p[0] | p[1] << 8 | p[2] << 16) * 2654435761u) >> 17;
}

/* The longest match at `at` in its window. => its length, 0: none */
static unsigned
comp_match(const uint8_t *buf, uint32_t at, uint32_t end, unsigned depth,
    uint32_t *distp)
{
	uint32_t cand = comp_head[comp_hash(buf + at)];
	unsigned best = 2, max = end - at < 258 ? end - at : 258;

	while (cand != 0 && at - (cand - 1) < COMP_WINDOW && depth-- > 0) {
		uint32_t c = cand - 1;
		unsigned n = 0;

		if (buf[c + best] == buf[at + best])
			while (n < max && buf[c + n] == buf[at + n])
				n++;
		if (n > best) {
			best = n;
			*distp = at - c;
			if (n >= max)
				break;
		}
		cand = comp_prev[c % COMP_WINDOW];
	}
	return best > 2 ? best : 0;
}

static void
comp_insert(const uint8_t *buf, uint32_t at)
{
	unsigned h = comp_hash(buf + at);

	comp_prev[at % COMP_WINDOW] = comp_head[h];
	comp_head[h] = at + 1;
}

static unsigned
comp_log2(uint32_t v)
{
	return 31u - (unsigned)__builtin_clz(v | 1);
}

/* --- deflate-like --------------------------------------------------------- */

#define HUFF_SYMS 320 /* bytes, then lengths, then distance classes */

struct huff {
	uint32_t count[HUFF_SYMS], code[HUFF_SYMS];
	uint8_t bits[HUFF_SYMS];
};

/* Code lengths by merging the two rarest, then canonical codes. */
static void
huff_build(struct huff *h)
{
	uint32_t weight[2 * HUFF_SYMS], next[40] = { 0 }, code = 0;
	uint16_t parent[2 * HUFF_SYMS], heap[HUFF_SYMS];
	unsigned n = 0, nodes = HUFF_SYMS;

	for (unsigned i = 0; i < HUFF_SYMS; i++) {
		weight[i] = h->count[i] + 1;
		heap[n++] = (uint16_t)i;
	}
	while (n > 1) {
		uint16_t two[2];

		for (int k = 0; k < 2; k++) {
			unsigned best = 0;

			for (unsigned i = 1; i < n; i++)
				if (weight[heap[i]] < weight[heap[best]])
					best = i;
			two[k] = heap[best];
			heap[best] = heap[--n];
		}
		weight[nodes] = weight[two[0]] + weight[two[1]];
		parent[two[0]] = parent[two[1]] = (uint16_t)nodes;
		heap[n++] = (uint16_t)nodes++;
	}
	for (unsigned i = 0; i < HUFF_SYMS; i++) {
		unsigned bits = 0;

		for (unsigned j = i; j != nodes - 1; j = parent[j])
			bits++;
		h->bits[i] = (uint8_t)bits;
		next[bits < 39 ? bits + 1 : 39]++;
	}
	for (unsigned b = 1; b < 40; b++) {
		code = (code + next[b]) << 1;
		next[b] = code;
	}
	for (unsigned i = 0; i < HUFF_SYMS; i++)
		h->code[i] = next[h->bits[i]]++;
}

struct bits {
	uint64_t acc, sum;
	unsigned n;
};

static inline void
bits_put(struct bits *b, uint32_t v, unsigned n)
{
	b->acc |= (uint64_t)(v & ((1ul << n) - 1)) << b->n;
	b->n += n;
	while (b->n >= 32) {
		b->sum = work_mix(b->sum, (uint32_t)b->acc);
		b->acc >>= 32;
		b->n -= 32;
	}
}

static uint64_t
comp_deflate(const uint8_t *buf, uint32_t len)
{
	static struct {
		uint16_t sym, extra;
		uint32_t dist;
	} tok[COMP_LEN];
	static struct huff h;
	struct bits out = { 0 };
	unsigned ntok = 0;

	memset(&h, 0, sizeof(h));
	memset(comp_head, 0, sizeof(comp_head));
	for (uint32_t at = 0; at < len; ntok++) {
		uint32_t dist = 0;
		unsigned n = at + 3 < len ?
		    comp_match(buf, at, len - 1, 24, &dist) : 0;

		if (n == 0) {
			tok[ntok].sym = buf[at];
			tok[ntok].dist = 0;
			n = 1;
		} else {
			tok[ntok].sym = (uint16_t)(256 + comp_log2(n));
			tok[ntok].extra = (uint16_t)n;
			tok[ntok].dist = dist;
			h.count[280 + comp_log2(dist)]++;
		}
		h.count[tok[ntok].sym]++;
		for (; n > 0; n--, at++)
			if (at + 3 < len)
				comp_insert(buf, at);
	}
	huff_build(&h);
	for (unsigned i = 0; i < ntok; i++) {
		unsigned s = tok[i].sym;

		bits_put(&out, h.code[s], h.bits[s]);
		if (tok[i].dist != 0) {
			unsigned d = comp_log2(tok[i].dist);

			bits_put(&out, tok[i].extra, comp_log2(tok[i].extra));
			bits_put(&out, h.code[280 + d], h.bits[280 + d]);
			bits_put(&out, tok[i].dist, d);
		}
	}
	return work_mix(out.sum, out.acc);
}

/* --- LZMA-like ------------------------------------------------------------ */

struct range {
	uint64_t low, sum;
	uint32_t range;
};

static inline void
range_bit(struct range *r, uint16_t *prob, unsigned bit)
{
	uint32_t bound = (r->range >> 11) * *prob;

	if (bit == 0) {
		r->range = bound;
		*prob = (uint16_t)(*prob + ((2048 - *prob) >> 5));
	} else {
		r->low += bound;
		r->range -= bound;
		*prob = (uint16_t)(*prob - (*prob >> 5));
	}
	while (r->range < 1u << 24) {
		r->sum = work_mix(r->sum, r->low >> 24);
		r->low = (r->low & 0xffffff) << 8;
		r->range <<= 8;
	}
}

static void
range_tree(struct range *r, uint16_t *prob, unsigned v, unsigned bits)
{
	unsigned m = 1;

	while (bits-- > 0) {
		unsigned b = v >> bits & 1;

		range_bit(r, &prob[m], b);
		m = m << 1 | b;
	}
}

static uint64_t
comp_lzma(const uint8_t *buf, uint32_t len)
{
	static struct {
		uint16_t match[16], lit[16][256], length[512], slot[4][64];
		uint16_t low[64][64];
	} p;
	struct range r = { 0, 0, UINT32_MAX };
	unsigned state = 0;

	for (size_t i = 0; i < sizeof(p) / 2; i++)
		((uint16_t *)&p)[i] = 1024;
	memset(comp_head, 0, sizeof(comp_head));
	for (uint32_t at = 0; at < len;) {
		uint32_t dist = 0;
		unsigned n = at + 3 < len ?
		    comp_match(buf, at, len - 1, 64, &dist) : 0;

		range_bit(&r, &p.match[state], n != 0);
		state = (state << 1 | (n != 0)) & 15;
		if (n == 0) {
			range_tree(&r, p.lit[at > 0 ? buf[at - 1] >> 4 : 0],
			    buf[at], 8);
			n = 1;
		} else {
			unsigned slot = comp_log2(dist) * 2 +
			    (dist >> (comp_log2(dist) - (dist > 1)) & 1);

			range_tree(&r, p.length, n & 255, 8);
			range_tree(&r, p.slot[n < 6 ? n - 3 : 3], slot & 63, 6);
			range_tree(&r, p.low[slot & 63], dist & 31, 5);
		}
		for (; n > 0; n--, at++)
			if (at + 3 < len)
				comp_insert(buf, at);
	}
	return work_mix(r.sum, r.low);
}

static uint64_t
comp_run(uint64_t n, uint64_t (*fn)(const uint8_t *, uint32_t))
{
	uint8_t *buf = work_alloc(COMP_LEN);
	uint64_t sum = 0;

	work_text((char *)buf, COMP_LEN, 11);
	work_start();
	for (uint64_t done = 0; done < n; done += COMP_LEN) {
		sum = work_mix(sum, fn(buf, COMP_LEN));
		buf[done / 3 % COMP_LEN] ^= 0x55;
	}
	return sum;
}

static uint64_t
run_deflate(uint64_t n)
{
	return comp_run(n, comp_deflate);
}

static uint64_t
run_lzma(uint64_t n)
{
	return comp_run(n, comp_lzma);
}

const struct work work_comp[] = {
	{ "deflate", "int", "byte", 12ul * COMP_LEN, run_deflate, NULL },
	{ "lzma", "int", "byte", 6ul * COMP_LEN, run_lzma, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
