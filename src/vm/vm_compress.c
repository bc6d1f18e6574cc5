/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Compressed pages: where a page goes before it goes to disk.
 *
 * One pool for the process, in slabs of 64 KB of the direct map.  A slab holds
 * entries of one size, a multiple of 128 bytes; an entry is a head that names
 * its page, and the page as LZ4 packs it.  An entry's number has the bit
 * VM_SLOT_POOL, and stands where a page has its swap slot: page-out, page-in,
 * collapse and the end of an object treat both alike.
 *
 * Slabs are taken in a circle, and page-out empties them in the same circle
 * when the pool has reached its cap: what was compressed long ago and not asked
 * for since goes to disk.  What the pool takes is counted in whole slabs, and
 * counts as resident (vm_pageout.c).
 *
 * Locks: the pool's guards slabs and lists.  The contents of an entry are
 * written before its page has it, and read under the family lock of that page,
 * without which it cannot be freed.
 */
#include <errno.h>
#include <lz4.h>
#include <string.h>

#include "vm/vm_int.h"

#define VM_SLAB (64ul << 10)
#define VM_SLAB_PAGES (VM_SLAB / VMM_PAGE_SIZE)
#define VM_UNIT 128u
#define VM_ENTRY_MAX 3072u /* one that is larger saves too little */
#define VM_NCLASS (VM_ENTRY_MAX / VM_UNIT)
#define VM_PER_SLAB (VM_SLAB / VM_UNIT)

struct vm_packed {
	struct vm_page *page; /* P; and family */
	uint16_t len;
	char data[];
};
#define VM_PACKED_HEAD offsetof(struct vm_packed, data)

/* P: pool lock */
struct vm_slab {
	uint32_t next, prev; /* P: with room, of this class */
	uint16_t used;	     /* P */
	uint16_t class;	     /* P: entries have (class + 1) units */
	uint64_t map[VM_PER_SLAB / 64]; /* P */
};

static struct {
	struct lock lock;
	bool ready;
	hpa_t base;	      /* C */
	uint32_t nslab;	      /* C */
	struct vm_slab *slab; /* P */
	uint32_t room[VM_NCLASS]; /* P: lists */
	uint32_t take, empty;	  /* P: the hands */
	_Atomic uint64_t inuse;	  /* slabs; written under P */
	_Atomic uint64_t bytes;	  /* of entries, without heads and gaps */
} vm_pool;

int
vm_compress_init(uint64_t bytes)
{
	uint64_t n = bytes / VM_SLAB;
	int error;

	if (n == 0 || n >= VM_SLOT_POOL / VM_PER_SLAB)
		return -EINVAL;
	if (vm_pool.ready)
		return -EBUSY;
	vm_pool.slab = host_alloc(n * sizeof(*vm_pool.slab));
	if (vm_pool.slab == NULL)
		return -ENOMEM;
	error = host_dmap_alloc(base_roundup(n * VM_SLAB, VM_2M), &vm_pool.base);
	if (error != 0) {
		host_free(vm_pool.slab);
		return error;
	}
	/* what the guest had in memory is no more in core dumps than before */
	host_dmap_set_incore(vm_pool.base, base_roundup(n * VM_SLAB, VM_2M), false);
	lock_init(&vm_pool.lock, "vm_pool", LOCK_RANK_VM_SWAP);
	vm_pool.nslab = (uint32_t)n;
	for (unsigned i = 0; i < VM_NCLASS; i++)
		vm_pool.room[i] = VM_NIL;
	vm_pool.take = vm_pool.empty = 0;
	vm_pool.ready = true;
	return 0;
}

void
vm_compress_fini(void)
{
	if (!vm_pool.ready)
		return;
	KASSERT(atomic_load(&vm_pool.inuse) == 0, "%lu slabs in use",
	    atomic_load(&vm_pool.inuse));
	host_dmap_free(vm_pool.base, base_roundup(vm_pool.nslab * VM_SLAB, VM_2M));
	host_free(vm_pool.slab);
	lock_fini(&vm_pool.lock);
	vm_pool.ready = false;
}

uint64_t
vm_compress_pages(void)
{
	return atomic_load_explicit(&vm_pool.inuse, memory_order_relaxed) *
	    VM_SLAB_PAGES;
}

uint64_t
vm_compress_bytes(void)
{
	return atomic_load_explicit(&vm_pool.bytes, memory_order_relaxed);
}

static unsigned
vm_slab_entries(const struct vm_slab *s)
{
	return (unsigned)(VM_SLAB / ((s->class + 1u) * VM_UNIT));
}

static struct vm_packed *
vm_pool_entry(uint32_t slot)
{
	uint32_t n = slot & ~VM_SLOT_POOL;
	struct vm_slab *s = &vm_pool.slab[n / VM_PER_SLAB];

	return PHYS_TO_DMAP(vm_pool.base + n / VM_PER_SLAB * VM_SLAB +
	    n % VM_PER_SLAB * ((s->class + 1ul) * VM_UNIT));
}

static void
vm_slab_link(uint32_t i) LOCK_REQUIRES(&vm_pool.lock)
{
	struct vm_slab *s = &vm_pool.slab[i];

	s->next = vm_pool.room[s->class];
	s->prev = VM_NIL;
	if (s->next != VM_NIL)
		vm_pool.slab[s->next].prev = i;
	vm_pool.room[s->class] = i;
}

static void
vm_slab_unlink(uint32_t i) LOCK_REQUIRES(&vm_pool.lock)
{
	struct vm_slab *s = &vm_pool.slab[i];

	if (s->prev == VM_NIL)
		vm_pool.room[s->class] = s->next;
	else
		vm_pool.slab[s->prev].next = s->next;
	if (s->next != VM_NIL)
		vm_pool.slab[s->next].prev = s->prev;
}

/* => a slab with room, or VM_NIL */
static uint32_t
vm_slab_get(unsigned class, uint64_t maxpages) LOCK_REQUIRES(&vm_pool.lock)
{
	uint32_t i = vm_pool.room[class];

	if (i != VM_NIL)
		return i;
	if (vm_compress_pages() + VM_SLAB_PAGES > maxpages ||
	    atomic_load(&vm_pool.inuse) == vm_pool.nslab)
		return VM_NIL;
	while (vm_pool.slab[vm_pool.take].used != 0)
		vm_pool.take = (vm_pool.take + 1) % vm_pool.nslab;
	i = vm_pool.take;
	vm_pool.take = (i + 1) % vm_pool.nslab;
	vm_pool.slab[i].class = (uint16_t)class;
	atomic_fetch_add(&vm_pool.inuse, 1);
	vm_slab_link(i);
	return i;
}

int
vm_compress_store(struct vm_page *p, const void *data, uint64_t maxpages,
    uint32_t *slotp)
{
	char buf[VM_ENTRY_MAX - VM_PACKED_HEAD];
	struct vm_packed *e;
	struct vm_slab *s;
	unsigned class, k = 0;
	uint32_t i;
	int len;

	if (!vm_pool.ready || maxpages == 0)
		return -ENOSPC;
	len = LZ4_compress_default(data, buf, VMM_PAGE_SIZE, (int)sizeof(buf));
	if (len <= 0)
		return -E2BIG;
	class = ((unsigned)len + (unsigned)VM_PACKED_HEAD - 1) / VM_UNIT;
	lock_acquire(&vm_pool.lock);
	i = vm_slab_get(class, maxpages);
	if (i == VM_NIL) {
		lock_release(&vm_pool.lock);
		return -ENOSPC;
	}
	s = &vm_pool.slab[i];
	while (s->map[k] == UINT64_MAX)
		k++;
	k = k * 64 + (unsigned)__builtin_ctzl(~s->map[k]);
	s->map[k / 64] |= 1ul << (k % 64);
	if (++s->used == vm_slab_entries(s))
		vm_slab_unlink(i);
	*slotp = VM_SLOT_POOL | (uint32_t)(i * VM_PER_SLAB + k);
	e = vm_pool_entry(*slotp);
	e->page = p;
	e->len = (uint16_t)len;
	memcpy(e->data, buf, (size_t)len);
	atomic_fetch_add(&vm_pool.bytes, (uint64_t)len);
	lock_release(&vm_pool.lock);
	return 0;
}

int
vm_compress_load(uint32_t slot, void *data)
{
	struct vm_packed *e = vm_pool_entry(slot);

	return LZ4_decompress_safe(e->data, data, e->len, VMM_PAGE_SIZE) ==
		(int)VMM_PAGE_SIZE ? 0 : -EIO;
}

void
vm_compress_free(uint32_t slot)
{
	uint32_t n = slot & ~VM_SLOT_POOL, i = n / VM_PER_SLAB, k = n % VM_PER_SLAB;
	struct vm_slab *s = &vm_pool.slab[i];

	lock_acquire(&vm_pool.lock);
	KASSERT((s->map[k / 64] >> (k % 64) & 1) != 0, "entry %x freed twice", slot);
	atomic_fetch_sub(&vm_pool.bytes, (uint64_t)vm_pool_entry(slot)->len);
	s->map[k / 64] &= ~(1ul << (k % 64));
	if (s->used-- == vm_slab_entries(s))
		vm_slab_link(i);
	if (s->used == 0) {
		vm_slab_unlink(i);
		vm_page_give_back(vm_pool.base + i * VM_SLAB, VM_SLAB);
		atomic_fetch_sub(&vm_pool.inuse, 1);
	}
	lock_release(&vm_pool.lock);
}

void
vm_compress_moved(uint32_t slot, struct vm_page *p)
{
	lock_acquire(&vm_pool.lock);
	vm_pool_entry(slot)->page = p;
	lock_release(&vm_pool.lock);
}

/* Entries of other families are passed over: they are spilled when those are
 * paged out. */
unsigned
vm_compress_oldest(const struct vm_family *fam, struct vm_page **page, unsigned n)
{
	unsigned got = 0;

	if (!vm_pool.ready)
		return 0;
	lock_acquire(&vm_pool.lock);
	for (uint32_t tries = 0; tries < vm_pool.nslab && got == 0; tries++) {
		uint32_t i = vm_pool.empty;
		struct vm_slab *s = &vm_pool.slab[i];
		bool all = true;

		for (unsigned k = 0; s->used != 0 && k < vm_slab_entries(s); k++) {
			struct vm_packed *e;

			if ((s->map[k / 64] >> (k % 64) & 1) == 0)
				continue;
			e = vm_pool_entry((uint32_t)(i * VM_PER_SLAB + k));
			if (vm_page_chunk(e->page)->obj->fam != fam)
				continue;
			if (got == n) {
				all = false;
				break;
			}
			page[got++] = e->page;
		}
		if (all)
			vm_pool.empty = (i + 1) % vm_pool.nslab;
	}
	lock_release(&vm_pool.lock);
	return got;
}
