/* SPDX-License-Identifier: BSD-2-Clause */
#include "walker.h"

/*
 * One entry, by the book.  EPT: SDM vol. 3 tables 29-1 to 29-7.  x86: APM
 * vol. 2 chapter 5, read as nested tables are: every access is a user access.
 */
struct entry {
	bool present, leaf, bad, r, w, x, a, d;
	uint64_t next;
};

static struct entry
entry_ept(uint64_t e, int level)
{
	struct entry n = { 0 };

	n.r = e & 1;
	n.w = e >> 1 & 1;
	n.x = e >> 2 & 1;
	n.present = n.r || n.w || n.x;
	n.leaf = level == 1 || (level <= 3 && (e >> 7 & 1));
	n.a = e >> 8 & 1;
	n.d = e >> 9 & 1;
	n.next = e & 0x000ffffffffff000;
	if (!n.present)
		return n;
	if (n.w && !n.r)
		n.bad = true;
	if (n.leaf) {
		unsigned type = e >> 3 & 7;

		n.bad |= type == 2 || type == 3 || type == 7;
		if (level == 2)
			n.bad |= (e & 0x1ff000) != 0;
		if (level == 3)
			n.bad |= (e & 0x3ffff000) != 0;
	} else {
		n.bad |= (e & 0xf8) != 0; /* 3-7 reserved */
	}
	return n;
}

static struct entry
entry_x86(uint64_t e, int level)
{
	struct entry n = { 0 };

	n.present = e & 1;
	n.r = (e >> 2 & 1) && n.present; /* user */
	n.w = n.r && (e >> 1 & 1);
	n.x = n.r && !(e >> 63);
	n.a = e >> 5 & 1;
	n.d = e >> 6 & 1;
	n.leaf = level == 1 || (level <= 3 && (e >> 7 & 1));
	n.next = e & 0x000ffffffffff000;
	if (n.present && n.leaf && level == 2)
		n.bad = (e & 0x1fe000) != 0;
	if (n.present && n.leaf && level == 3)
		n.bad = (e & 0x3fffe000) != 0;
	if (n.present && level == 4)
		n.bad = e >> 7 & 1;
	return n;
}

struct walker_result
walker_translate(enum walker_format f, uint64_t root, uint64_t gpa,
    walker_read_fn *rd, void *arg)
{
	struct walker_result w = { .r = true, .w = true, .x = true };
	uint64_t table = root;

	for (int level = 4; level >= 1; level--) {
		unsigned shift = 12 + 9 * (unsigned)(level - 1);
		uint64_t raw = rd(arg, table + (gpa >> shift & 511) * 8);
		struct entry e = f == WALKER_EPT ? entry_ept(raw, level) :
						   entry_x86(raw, level);

		if (!e.present)
			return w;
		w.misconfigured |= e.bad;
		w.r &= e.r;
		w.w &= e.w;
		w.x &= e.x;
		if (e.leaf) {
			w.present = true;
			w.size = 1ul << shift;
			w.pa = (e.next & ~(w.size - 1)) | (gpa & (w.size - 1));
			w.a = e.a;
			w.d = e.d;
			return w;
		}
		table = e.next;
	}
	return w;
}

static void
walk(enum walker_format f, uint64_t table, int level, uint64_t gpa,
    uint64_t root, walker_read_fn *rd, void *rdarg, walker_leaf_fn *fn, void *arg)
{
	unsigned shift = 12 + 9 * (unsigned)(level - 1);

	for (uint64_t i = 0; i < 512; i++) {
		uint64_t raw = rd(rdarg, table + i * 8), at = gpa | i << shift;
		struct entry e = f == WALKER_EPT ? entry_ept(raw, level) :
						   entry_x86(raw, level);
		struct walker_result w;

		if (!e.present)
			continue;
		if (!e.leaf) {
			walk(f, e.next, level - 1, at, root, rd, rdarg, fn, arg);
			continue;
		}
		w = walker_translate(f, root, at, rd, rdarg);
		fn(arg, at, &w);
	}
}

void
walker_all(enum walker_format f, uint64_t root, walker_read_fn *rd, void *rdarg,
    walker_leaf_fn *fn, void *arg)
{
	walk(f, root, 4, 0, root, rd, rdarg, fn, arg);
}
