/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small database in the manner of SQLite: records in the leaves of a
 * B-tree of 1 KB pages, columns behind a header of variable-length integers,
 * queries as programs of a bytecode machine.
 */
#include <stdlib.h>
#include <string.h>

#include "work.h"

#define DB_PAGE 1024
#define DB_MAXPAGES 16384
#define DB_FANOUT 60

struct db_page {
	uint8_t leaf;
	uint16_t n;
	uint16_t end; /* leaf: bytes of data used */
	union {
		struct {
			uint64_t key[DB_FANOUT];
			uint32_t child[DB_FANOUT + 1];
		} node;
		struct {
			uint16_t slot[DB_FANOUT]; /* sorted by key */
			uint8_t data[DB_PAGE - 128];
		} leaf;
	} u;
};

struct db {
	struct db_page *page;
	uint32_t npage, root;
};

static unsigned
db_put_varint(uint8_t *b, uint64_t v)
{
	unsigned n = 0;

	while (v >= 0x80) {
		b[n++] = (uint8_t)(v | 0x80);
		v >>= 7;
	}
	b[n++] = (uint8_t)v;
	return n;
}

static const uint8_t *
db_get_varint(const uint8_t *b, uint64_t *vp)
{
	uint64_t v = 0;
	unsigned shift = 0;

	while ((*b & 0x80) != 0) {
		v |= (uint64_t)(*b++ & 0x7f) << shift;
		shift += 7;
	}
	*vp = v | (uint64_t)*b++ << shift;
	return b;
}

/* Record: key, id, group, length of name, name. */
static unsigned
db_record(uint8_t *b, uint64_t key, uint64_t id)
{
	uint64_t seed = key | 1;
	unsigned n = db_put_varint(b, key), len;

	n += db_put_varint(b + n, id);
	n += db_put_varint(b + n, key % 17);
	len = 6 + (unsigned)(key % 7);
	n += db_put_varint(b + n, len);
	for (unsigned i = 0; i < len; i++)
		b[n++] = (uint8_t)('a' + work_random(&seed) % 26);
	return n;
}

static uint64_t
db_leaf_key(const struct db_page *p, unsigned i)
{
	uint64_t key;

	db_get_varint(p->u.leaf.data + p->u.leaf.slot[i], &key);
	return key;
}

/* => the first slot with a key >= key */
static unsigned
db_leaf_find(const struct db_page *p, uint64_t key)
{
	unsigned lo = 0, hi = p->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (db_leaf_key(p, mid) < key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static unsigned
db_node_find(const struct db_page *p, uint64_t key)
{
	unsigned lo = 0, hi = p->n;

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (p->u.node.key[mid] <= key)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static uint32_t
db_new(struct db *db, bool leaf)
{
	struct db_page *p;

	if (db->npage == DB_MAXPAGES)
		abort();
	p = &db->page[db->npage];
	p->leaf = leaf;
	p->n = p->end = 0;
	return db->npage++;
}

static void
db_leaf_add(struct db_page *p, const uint8_t *rec, unsigned len, uint64_t key)
{
	unsigned at = db_leaf_find(p, key);

	memmove(p->u.leaf.slot + at + 1, p->u.leaf.slot + at,
	    (p->n - at) * sizeof(p->u.leaf.slot[0]));
	p->u.leaf.slot[at] = p->end;
	memcpy(p->u.leaf.data + p->end, rec, len);
	p->end = (uint16_t)(p->end + len);
	p->n++;
}

static unsigned
db_record_len(const uint8_t *rec)
{
	uint64_t v;
	const uint8_t *b = rec;

	for (int i = 0; i < 4; i++)
		b = db_get_varint(b, &v);
	return (unsigned)(b + v - rec);
}

/* Moves the upper half of a leaf to a new one. => its first key */
static uint64_t
db_leaf_split(struct db *db, uint32_t left, uint32_t *rightp)
{
	uint32_t right = db_new(db, true);
	struct db_page *l = &db->page[left], *r = &db->page[right];
	struct db_page old = *l;

	l->n = l->end = 0;
	for (unsigned i = 0; i < old.n; i++) {
		const uint8_t *rec = old.u.leaf.data + old.u.leaf.slot[i];
		struct db_page *to = i < old.n / 2u ? l : r;
		uint64_t key;

		db_get_varint(rec, &key);
		db_leaf_add(to, rec, db_record_len(rec), key);
	}
	*rightp = right;
	return db_leaf_key(r, 0);
}

/* => true if page at was split: then *keyp and *rightp */
static bool
db_insert(struct db *db, uint32_t at, const uint8_t *rec, unsigned len,
    uint64_t key, uint64_t *keyp, uint32_t *rightp)
{
	struct db_page *p = &db->page[at];
	uint64_t up;
	uint32_t right;
	unsigned i;

	if (p->leaf) {
		bool split = p->n == DB_FANOUT ||
		    p->end + len > sizeof(p->u.leaf.data);

		if (split) {
			*keyp = db_leaf_split(db, at, rightp);
			if (key >= *keyp)
				p = &db->page[*rightp];
		}
		db_leaf_add(p, rec, len, key);
		return split;
	}
	i = db_node_find(p, key);
	if (!db_insert(db, p->u.node.child[i], rec, len, key, &up, &right))
		return false;
	memmove(p->u.node.key + i + 1, p->u.node.key + i,
	    (p->n - i) * sizeof(p->u.node.key[0]));
	memmove(p->u.node.child + i + 2, p->u.node.child + i + 1,
	    (p->n - i) * sizeof(p->u.node.child[0]));
	p->u.node.key[i] = up;
	p->u.node.child[i + 1] = right;
	if (++p->n < DB_FANOUT)
		return false;
	*rightp = db_new(db, false);
	i = p->n / 2u;
	*keyp = p->u.node.key[i];
	db->page[*rightp].n = (uint16_t)(p->n - i - 1);
	memcpy(db->page[*rightp].u.node.key, p->u.node.key + i + 1,
	    (p->n - i - 1) * sizeof(p->u.node.key[0]));
	memcpy(db->page[*rightp].u.node.child, p->u.node.child + i + 1,
	    (p->n - i) * sizeof(p->u.node.child[0]));
	p->n = (uint16_t)i;
	return true;
}

static void
db_add(struct db *db, uint64_t key, uint64_t id)
{
	uint8_t rec[64];
	unsigned len = db_record(rec, key, id);
	uint64_t up;
	uint32_t right, root;

	if (!db_insert(db, db->root, rec, len, key, &up, &right))
		return;
	root = db_new(db, false);
	db->page[root].n = 1;
	db->page[root].u.node.key[0] = up;
	db->page[root].u.node.child[0] = db->root;
	db->page[root].u.node.child[1] = right;
	db->root = root;
}

/* --- the query machine ------------------------------------------------------ */

enum db_opcode { DB_SEEK, DB_COLUMN, DB_NAME, DB_GT, DB_NE, DB_ADD, DB_HASH, DB_NEXT, DB_HALT };

struct db_op {
	enum db_opcode op;
	int a, b, to;
};

/* select sum(id), hash(name) where key >= ? and group = ? limit by key */
static const struct db_op db_query[] = {
	{ DB_SEEK, 0, 0, 7 },
	{ DB_COLUMN, 4, 0, 0 }, /* 1: r4 = key */
	{ DB_GT, 4, 1, 7 },	/* past the end? */
	{ DB_COLUMN, 4, 2, 0 }, /* r4 = group */
	{ DB_NE, 4, 2, 6 },
	{ DB_HASH, 3, 4, 0 },
	{ DB_NEXT, 0, 0, 1 }, /* 6 */
	{ DB_HALT, 0, 0, 0 },
};

static uint64_t
db_run(struct db *db, int64_t r[8])
{
	const struct db_op *pc = db_query;
	const struct db_page *leaf = NULL;
	uint32_t stack[8];
	unsigned depth = 0, at[8], slot = 0;
	uint64_t v;
	const uint8_t *b;

	for (;; pc++) {
		switch (pc->op) {
		case DB_SEEK: {
			uint32_t page = db->root;

			while (!db->page[page].leaf) {
				unsigned i = db_node_find(&db->page[page],
				    (uint64_t)r[pc->a]);

				stack[depth] = page;
				at[depth++] = i;
				page = db->page[page].u.node.child[i];
			}
			leaf = &db->page[page];
			slot = db_leaf_find(leaf, (uint64_t)r[pc->a]);
			if (slot < leaf->n)
				break;
			slot--; /* DB_NEXT finds the next leaf */
		}
			__attribute__((fallthrough));
		case DB_NEXT:
			if (++slot >= leaf->n) {
				uint32_t page;

				while (depth > 0 && at[depth - 1] ==
				    db->page[stack[depth - 1]].n)
					depth--;
				if (depth == 0) {
					pc = &db_query[6];
					break;
				}
				page = db->page[stack[depth - 1]]
					   .u.node.child[++at[depth - 1]];
				while (!db->page[page].leaf) {
					stack[depth] = page;
					at[depth++] = 0;
					page = db->page[page].u.node.child[0];
				}
				leaf = &db->page[page];
				slot = 0;
			}
			if (pc->op == DB_NEXT)
				pc = &db_query[pc->to - 1];
			break;
		case DB_COLUMN:
			b = leaf->u.leaf.data + leaf->u.leaf.slot[slot];
			for (int i = 0; i <= pc->b; i++)
				b = db_get_varint(b, &v);
			r[pc->a] = (int64_t)v;
			break;
		case DB_HASH:
			b = leaf->u.leaf.data + leaf->u.leaf.slot[slot];
			for (int i = 0; i < 4; i++)
				b = db_get_varint(b, &v);
			while (v-- > 0)
				r[pc->a] = r[pc->a] * 31 + *b++;
			break;
		case DB_GT:
			if (r[pc->a] > r[pc->b])
				pc = &db_query[pc->to - 1];
			break;
		case DB_NE:
			if (r[pc->a] != r[pc->b])
				pc = &db_query[pc->to - 1];
			break;
		case DB_ADD:
			r[pc->a] += r[pc->b];
			break;
		case DB_NAME:
		case DB_HALT:
			return (uint64_t)r[3];
		}
	}
}

/* n rows go in, n / 50 queries over about 200 rows each. */
static uint64_t
run_db(uint64_t n)
{
	struct db db = { .page = work_alloc(DB_MAXPAGES * sizeof(struct db_page)) };
	uint64_t seed = 5, sum = 0;

	work_start();
	db.root = db_new(&db, true);
	for (uint64_t i = 0; i < n; i++)
		db_add(&db, work_random(&seed) % (n * 16), i);
	for (uint64_t i = 0; i < n / 50; i++) {
		int64_t key = (int64_t)(work_random(&seed) % (n * 16));
		int64_t r[8] = { key, key + 3200, (int64_t)(i % 17), 0 };

		sum = work_mix(sum, db_run(&db, r));
	}
	return work_mix(sum, db.npage);
}

const struct work work_db[] = {
	{ "btree", "int", "row", 100000, run_db, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
