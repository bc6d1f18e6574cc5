/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code memory of a VM, shared by its vCPUs, and the blocks in it.
 *
 * The memory is mapped twice: written through one mapping, executed
 * through the other.  Blocks are allocated upwards and never freed one by one;
 * when memory, blocks or fault records run out, all is dropped at once, with
 * every vCPU out of generated code (in_code is 0; flushing keeps them out).
 *
 * A block is found by the gpa of its first byte and the mode key.  A dead one
 * leaves the tables, and its entries become jumps to its own cold stubs: who
 * still links to it, or has it in a jump cache, comes to C, and the entry is
 * then turned into a jump to the block that took its place.  So nothing needs
 * to know who links to whom.
 *
 * Every patch of code is one aligned store of eight bytes.
 *
 * Code pages: a bit per gpa page, read without the lock by mmu.c, which gives
 * no right to write to such a page.  The bit is set before the bytes are
 * read, and every vCPU that may still write to the page is told and waited for
 * (cache_claim; the protocol is in tlb.c).  It is cleared by the write that
 * finds no blocks left.
 *
 * Lock: cache->lock (LOCK_RANK_ENGINE) for all but the bitmap and what the
 * signal handler reads (order[], norder: append only between flushes).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <stdio.h>

#include "engine/soft/code_int.h"

/* Called with the guest's vector state live: no vector register in these, not
 * even for an initializer. */
#define CACHE_NO_VECTOR __attribute__((target("general-regs-only")))

#define CACHE_BYTES (64ul << 20)
#define CACHE_MIN (4ul << 20) /* a busy kernel alone needs nearly as much */
#define CACHE_HASH (1u << 17)
#define CACHE_PHASH (1u << 13)
#define CACHE_BLOCKS (1u << 18)
#define CACHE_FAULTS (1u << 22)
#define CACHE_GPA_BITS SOFT_CODE_GPA_BITS
#define CACHE_IDLE 5u	  /* seconds */
#define CACHE_IDLE_BYTES (2u << 20) /* of code: not worth giving back */
#define CACHE_KILLS 16u	  /* blocks of a page that died, until it is suspect */
#define CACHE_WRITES 64u  /* to a code page before its blocks are dropped */

struct cache_page {
	gpa_t gpa;
	struct soft_block *blocks;
	struct soft_block *cross; /* begin in the page before this one */
	struct cache_page *next;
	unsigned writes;
	unsigned kills; /* of blocks: code that changes is cut short */
};

/* Code to be translated. */
struct cache_src {
	gpa_t gpa, gpa2;
	const uint8_t *host;
	uint8_t bytes[16]; /* the instruction, if it crosses into gpa2 */
};

struct cache {
	struct lock lock;
	uint8_t *rw, *rx;
	uint64_t size;
	struct code_out out;
	struct soft_block *block; /* CACHE_BLOCKS */
	struct code_fault *fault; /* CACHE_FAULTS */
	unsigned nfault;
	_Atomic unsigned nblock;
	struct soft_block *hash[CACHE_HASH];
	struct cache_page *page[CACHE_PHASH];
	_Atomic uint64_t *bitmap; /* pages with code */
	uint64_t gen;		  /* advances at a full flush */
	_Atomic uint32_t flushing;
	_Atomic uint64_t idle_next; /* TSC of the next look */
	uint64_t idle_used, idle_since;
	_Atomic uint32_t idle_gen; /* times that it has given memory back */
	FILE *perf;
};

/* "on": where perf(1) looks for it. */
static FILE *
cache_perf_open(const char *path)
{
	char buf[64];

	if (path == NULL || strcmp(path, "off") == 0)
		return NULL;
	if (strcmp(path, "on") == 0) {
		(void)snprintf(buf, sizeof(buf), "/tmp/perf-%d.map",
		    (int)getpid());
		path = buf;
	}
	return fopen(path, "we");
}

int
soft_cache_create(struct soft_vm *vm)
{
	struct cache *c;

	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return -ENOMEM;
	lock_init(&c->lock, "code cache", LOCK_RANK_ENGINE);
	c->size = vm->cfg.code_cache != 0 ?
	    base_max(base_roundup(vm->cfg.code_cache, 4096ul), CACHE_MIN) :
	    CACHE_BYTES;
	c->size = base_min(c->size, 1ul << 30);
	c->gen = 1;
	c->rw = c->rx = MAP_FAILED;
	/* Shared anonymous memory, because perf(1) looks into its map of
	 * generated code for nothing else; a second mapping by mremap(2). */
	c->rw = mmap(NULL, c->size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->rw != MAP_FAILED)
		c->rx = mremap(c->rw, 0, c->size, MREMAP_MAYMOVE);
	if (c->rx != MAP_FAILED &&
	    mprotect(c->rx, c->size, PROT_READ | PROT_EXEC) != 0) {
		(void)munmap(c->rx, c->size);
		c->rx = MAP_FAILED;
	}
	c->bitmap = mmap(NULL, 1ul << (CACHE_GPA_BITS - 15),
	    PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	c->block = mmap(NULL, CACHE_BLOCKS * sizeof(*c->block),
	    PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	c->fault = mmap(NULL, CACHE_FAULTS * sizeof(*c->fault),
	    PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	vm->cache = c;
	vm->writer = mmap(NULL, 1ul << (CACHE_GPA_BITS - 9),
	    PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (c->rw == MAP_FAILED || c->rx == MAP_FAILED ||
	    (void *)c->bitmap == MAP_FAILED ||
	    (void *)vm->writer == MAP_FAILED ||
	    (void *)c->block == MAP_FAILED || (void *)c->fault == MAP_FAILED) {
		soft_cache_destroy(vm);
		return -ENOMEM;
	}
	c->out.rw = c->rw;
	c->out.pos = CODE_RET_EMPTY;
	xlate_stubs(&c->out);
	c->perf = cache_perf_open(vm->cfg.perf_map);
	signal_init();
	return 0;
}

static void
cache_pages_free(struct cache *c)
{
	for (unsigned i = 0; i < CACHE_PHASH; i++) {
		struct cache_page *p, *next;

		for (p = c->page[i]; p != NULL; p = next) {
			next = p->next;
			free(p);
		}
		c->page[i] = NULL;
	}
}

void
soft_cache_destroy(struct soft_vm *vm)
{
	struct cache *c = vm->cache;

	if (c == NULL)
		return;
	cache_pages_free(c);
	if (c->rw != MAP_FAILED)
		(void)munmap(c->rw, c->size);
	if (c->rx != MAP_FAILED)
		(void)munmap(c->rx, c->size);
	if ((void *)c->bitmap != MAP_FAILED)
		(void)munmap((void *)c->bitmap, 1ul << (CACHE_GPA_BITS - 15));
	if ((void *)vm->writer != MAP_FAILED)
		(void)munmap((void *)vm->writer, 1ul << (CACHE_GPA_BITS - 9));
	if ((void *)c->block != MAP_FAILED)
		(void)munmap(c->block, CACHE_BLOCKS * sizeof(*c->block));
	if ((void *)c->fault != MAP_FAILED)
		(void)munmap(c->fault, CACHE_FAULTS * sizeof(*c->fault));
	if (c->perf != NULL)
		(void)fclose(c->perf);
	lock_fini(&c->lock);
	free(c);
	vm->cache = NULL;
}

int
soft_xlate_init(struct soft_cpu *cpu)
{
	struct cache *c = cpu->vm->cache;

	cpu->code_base = (uint64_t)(uintptr_t)c->rx;
	cpu->slow_fn = soft_code_slow;
	cpu->jc_gen[0] = cpu->jc_gen[1] = 1;
	return soft_shadow_init(cpu);
}

void
soft_xlate_fini(struct soft_cpu *cpu)
{
	soft_shadow_fini(cpu);
}

/* --- in and out -------------------------------------------------------- */

static void
cache_nap(void)
{
	struct timespec ts = { .tv_nsec = 20000 };

	(void)nanosleep(&ts, NULL);
}

CACHE_NO_VECTOR void
code_join(struct soft_cpu *cpu)
{
	struct cache *c = cpu->vm->cache;

	for (;;) {
		/* The store before the look: the flusher does the reverse. */
		atomic_store(&cpu->in_code, 1);
		if (atomic_load(&c->flushing) == 0)
			return;
		atomic_store(&cpu->in_code, 0);
		soft_fpu_put(cpu);
		while (atomic_load(&c->flushing) != 0)
			cache_nap();
	}
}

CACHE_NO_VECTOR void
code_part(struct soft_cpu *cpu)
{
	atomic_store_explicit(&cpu->in_code, 0, memory_order_release);
}

/* Memory that will be filled anew goes back to the host. */
static void
cache_give_back(struct soft_vm *vm, struct cache *c)
{
	uint64_t len = base_roundup((uint64_t)c->out.pos, 4096ul);

	(void)madvise(c->rw, len, MADV_REMOVE);
	(void)madvise(c->block, CACHE_BLOCKS * sizeof(*c->block),
	    MADV_DONTNEED);
	(void)madvise(c->fault, CACHE_FAULTS * sizeof(*c->fault),
	    MADV_DONTNEED);
	for (unsigned i = 0; i < vm->ncpu; i++) {
		uint8_t *from = (void *)base_roundup((uintptr_t)
		    (vm->cpu[i] != NULL ? vm->cpu[i]->slot : NULL), 4096ul);

		if (from != NULL)
			(void)madvise(from, sizeof(vm->cpu[i]->slot) - 4096,
			    MADV_DONTNEED);
	}
}

/* Drops everything. The caller is out of generated code. */
static void
cache_flush(struct soft_cpu *cpu, struct cache *c,
    bool give_back) LOCK_NO_ANALYSIS
{
	struct soft_vm *vm = cpu->vm;

	if (atomic_exchange(&c->flushing, 1) != 0) {
		/* Another does it. */
		lock_release(&c->lock);
		while (atomic_load(&c->flushing) != 0)
			cache_nap();
		lock_acquire(&c->lock);
		return;
	}
	lock_release(&c->lock);
	for (unsigned i = 0; i < vm->ncpu; i++) {
		struct soft_cpu *o = vm->cpu[i];

		while (o != NULL && o != cpu && atomic_load(&o->in_code) != 0) {
			soft_kick(o);
			cache_nap();
		}
	}
	lock_acquire(&c->lock);
	memset(c->hash, 0, sizeof(c->hash));
	for (unsigned i = 0; i < CACHE_PHASH; i++)
		for (struct cache_page *p = c->page[i]; p != NULL; p = p->next)
			p->blocks = p->cross = NULL;
	/* The signal handler of another thread looks into these only while
	 * that is in generated code. */
	if (give_back)
		cache_give_back(vm, c);
	c->nblock = 0;
	c->nfault = 0;
	c->out.pos = CODE_RET_EMPTY;
	xlate_stubs(&c->out);
	c->gen++;
	for (unsigned i = 0; i < vm->ncpu; i++)
		if (vm->cpu[i] != NULL)
			soft_jc_flush(vm->cpu[i], true);
	cpu->st.cache_flushes++;
	atomic_store(&c->flushing, 0);
}

static void
cache_idle_cpu(struct soft_cpu *cpu)
{
	uint64_t from = base_roundup((uint64_t)(uintptr_t)cpu->slot, 4096ul);
	uint64_t to = (uint64_t)(uintptr_t)(cpu->slot + SOFT_SLOTS) & ~4095ul;

	soft_slot_flush(cpu);
	(void)madvise((void *)(uintptr_t)from, to - from, MADV_DONTNEED);
	soft_exec_idle(cpu);
}

/*
 * Called whenever a vCPU begins to run.  A VM that has used next to no CPU
 * time for a while gives up its translations: what it needs to stay idle is
 * soon there again, and all that booting and working took is free.
 */
void
soft_cache_idle(struct soft_cpu *cpu)
{
	struct soft_vm *vm = cpu->vm;
	struct cache *c = vm->cache;
	uint64_t now = __builtin_ia32_rdtsc(), used, was;
	uint64_t next = atomic_load_explicit(&c->idle_next,
	    memory_order_relaxed);
	struct timespec ts;

	if (cpu->idle_gen != atomic_load_explicit(&c->idle_gen,
	    memory_order_relaxed)) {
		cpu->idle_gen = atomic_load(&c->idle_gen);
		cache_idle_cpu(cpu);
	}
	if (__builtin_expect(now < next, 1) ||
	    !atomic_compare_exchange_strong(&c->idle_next, &next,
	    now + vm->tsc_hz))
		return;
	(void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	used = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	lock_acquire(&c->lock);
	was = c->idle_used;
	c->idle_used = used;
	/* Less than 3 % of a CPU since the last look, a second ago or more. */
	if (used - was > 30000000u)
		c->idle_since = now;
	if (now - c->idle_since >= CACHE_IDLE * vm->tsc_hz &&
	    c->out.pos > CACHE_IDLE_BYTES) {
		cache_flush(cpu, c, true);
		atomic_fetch_add(&c->idle_gen, 1);
	}
	lock_release(&c->lock);
}

unsigned
soft_cache_stats(struct soft_vm *vm, struct engine_stat *st, unsigned n)
{
	struct cache *c = vm->cache;
	const struct engine_stat all[] = {
		{ "soft.code_bytes", c->out.pos },
		{ "soft.block_bytes", atomic_load(&c->nblock) *
		    sizeof(*c->block) + c->nfault * sizeof(*c->fault) },
		{ "soft.vcpu_bytes", vm->ncpu * sizeof(struct soft_cpu) },
	};

	for (unsigned i = 0; i < n && i < BASE_ARRAY_LEN(all); i++)
		st[i] = all[i];
	return BASE_ARRAY_LEN(all);
}

static struct soft_block *cache_find_pos(struct cache *c, uint32_t pos);

/* --- code pages -------------------------------------------------------- */

CACHE_NO_VECTOR bool
soft_cache_has_code(const struct soft_vm *vm, gpa_t gpa)
{
	const struct cache *c = vm->cache;
	uint64_t pfn = gpa >> VMM_PAGE_SHIFT;

	if (gpa >> CACHE_GPA_BITS != 0)
		return false;
	return (atomic_load_explicit(&c->bitmap[pfn / 64],
	    memory_order_relaxed) >> (pfn % 64) & 1) != 0;
}

static struct cache_page *
cache_page_find(const struct cache *c, gpa_t gpa)
{
	gpa_t page = gpa & ~VMM_PAGE_MASK;
	struct cache_page *p =
	    c->page[(page >> VMM_PAGE_SHIFT) % CACHE_PHASH];

	while (p != NULL && p->gpa != page)
		p = p->next;
	return p;
}

/* One store of eight bytes, so that who executes it sees all or nothing. */
static void
cache_patch(struct cache *c, uint32_t pos, const void *bytes, unsigned n)
{
	uint32_t at = pos & ~7u;
	uint64_t v;

	KASSERT((pos & 7) + n <= 8, "patch across eight bytes");
	memcpy(&v, c->rw + at, 8);
	memcpy((uint8_t *)&v + (pos & 7), bytes, n);
	__atomic_store_n((uint64_t *)(void *)(c->rw + at), v,
	    __ATOMIC_SEQ_CST);
}

static void
cache_patch_rel(struct cache *c, uint32_t pos, uint32_t to)
{
	uint32_t rel = to - (pos + 4);

	cache_patch(c, pos, &rel, 4);
}

static void
cache_patch_jmp(struct cache *c, uint32_t pos, uint32_t to)
{
	uint32_t rel = to - (pos + 5);
	uint8_t b[5] = { 0xe9 };

	memcpy(b + 1, &rel, 4);
	cache_patch(c, pos, b, 5);
}

static unsigned
cache_hash(gpa_t gpa, uint32_t key)
{
	return (unsigned)((gpa * 0x9e3779b97f4a7c15ul + key * 0x85ebca6bul) >>
	    40) % CACHE_HASH;
}

static void
cache_kill(struct cache *c, struct soft_block *b)
{
	struct soft_block **pp = &c->hash[cache_hash(b->gpa, b->key)];

	if (b->dead)
		return;
	while (*pp != b)
		pp = &(*pp)->hash_next;
	*pp = b->hash_next;
	b->dead = true;
	cache_patch_jmp(c, b->entry_s, b->stub_s);
	if (b->entry_e > b->entry_s)
		cache_patch_jmp(c, b->entry_e, b->stub_e);
}

void
code_full(struct soft_cpu *cpu, uint32_t pos, unsigned off)
{
	struct cache *c = cpu->vm->cache;
	struct soft_block *b, **pp;
	struct cache_page *p;
	unsigned bit;

	lock_acquire(&c->lock);
	b = c->gen == cpu->slot_gen ? cache_find_pos(c, pos) : NULL;
	if (b != NULL && !b->dead && b->gpa2 == 0 &&
	    (p = cache_page_find(c, b->gpa)) != NULL) {
		for (pp = &p->blocks; *pp != b;)
			pp = &(*pp)->page_next;
		*pp = b->page_next;
		cache_kill(c, b);
		bit = code_full_bit((b->gpa & ~VMM_PAGE_MASK) + off, b->key &
		    ~CODE_KEY_PLAIN);
		c->out.full[bit / 64] |= 1ul << (bit % 64);
	}
	lock_release(&c->lock);
}

static void
cache_page_write(struct cache *c, struct cache_page *p, gpa_t from, gpa_t to)
{
	struct soft_block **pp = &p->blocks, *b;
	uint64_t pfn = p->gpa >> VMM_PAGE_SHIFT;
	bool all = ++p->writes >= CACHE_WRITES;

	while ((b = *pp) != NULL) {
		if (all || (b->gpa < to && b->gpa + b->bytes > from)) {
			*pp = b->page_next;
			cache_kill(c, b);
			p->kills++;
		} else {
			pp = &b->page_next;
		}
	}
	pp = &p->cross;
	while ((b = *pp) != NULL) {
		if (all || b->dead || b->gpa2 + b->bytes > from) {
			*pp = b->cross_next;
			cache_kill(c, b);
		} else {
			pp = &b->cross_next;
		}
	}
	/* Code that is often written stays marked, until it is written only:
	 * marking a page anew costs more than these writes. */
	if (p->blocks == NULL && p->cross == NULL &&
	    (p->kills <= CACHE_KILLS || all)) {
		p->writes = 0;
		p->kills = 0;
		atomic_fetch_and(&c->bitmap[pfn / 64], ~(1ul << (pfn % 64)));
	}
}

void
soft_cache_invalidate(struct soft_vm *vm, gpa_t gpa, uint64_t len)
{
	struct cache *c = vm->cache;
	gpa_t end = gpa + len;

	if (c == NULL || len == 0)
		return;
	if (end < gpa || end > 1ul << CACHE_GPA_BITS)
		end = 1ul << CACHE_GPA_BITS;
	for (gpa_t at = gpa & ~VMM_PAGE_MASK; at < end; at += VMM_PAGE_SIZE) {
		struct cache_page *p;
		uint64_t pfn = at >> VMM_PAGE_SHIFT;

		if (pfn % 64 == 0 && end - at >= 64 * VMM_PAGE_SIZE &&
		    atomic_load(&c->bitmap[pfn / 64]) == 0) {
			at += 63 * VMM_PAGE_SIZE;
			continue;
		}
		if (!soft_cache_has_code(vm, at))
			continue;
		lock_acquire(&c->lock);
		p = cache_page_find(c, at);
		if (p != NULL)
			cache_page_write(c, p, base_max(gpa, at),
			    base_min(end, at + VMM_PAGE_SIZE));
		lock_release(&c->lock);
	}
}

CACHE_NO_VECTOR void
soft_jc_flush(struct soft_cpu *cpu, bool all)
{
	for (unsigned u = all ? 0 : 1; u < 2; u++) {
		uint32_t gen = __atomic_add_fetch(&cpu->jc_gen[u], 1,
		    __ATOMIC_RELAXED);

		/* Tags come round again: none of the last may be left.  0 is
		 * what a kick leaves. */
		if ((gen & CODE_JC_GENS) == 0) {
			for (unsigned i = 0; i < SOFT_JC_SIZE; i++)
				cpu->jc[i].tag = 0;
			for (unsigned i = 0; i < SOFT_JV_SIZE; i++)
				cpu->jv[i].tag = 0;
			for (unsigned i = 0; i < SOFT_LINKS; i++)
				cpu->link[i].tag = 0;
			__atomic_add_fetch(&cpu->jc_gen[u], 1,
			    __ATOMIC_RELAXED);
		}
	}
}

/* The page of gpa is to hold code: nobody may write to it unseen. */
static void
cache_claim(struct soft_cpu *cpu, struct cache *c, gpa_t gpa)
{
	uint64_t pfn = gpa >> VMM_PAGE_SHIFT, bit = 1ul << (pfn % 64);

	if ((atomic_load_explicit(&c->bitmap[pfn / 64],
	    memory_order_relaxed) & bit) == 0)
		atomic_fetch_or(&c->bitmap[pfn / 64], bit);
	/* Even if it was set: another's claim may be under way. */
	soft_claim(cpu, gpa, &c->lock);
}

/* --- lookup ------------------------------------------------------------ */

static struct soft_block *
cache_find_pos(struct cache *c, uint32_t pos)
{
	unsigned lo = 0, hi = atomic_load(&c->nblock);

	while (lo < hi) {
		unsigned mid = (lo + hi) / 2;

		if (c->block[mid].end <= pos)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < atomic_load(&c->nblock) && c->block[lo].start <= pos ?
	    &c->block[lo] : NULL;
}

/* The exit that brought us here may from now on jump to b directly. */
static void
cache_link(struct soft_cpu *cpu, struct cache *c, struct soft_block *b)
{
	const struct code_site *s = cpu->link_site;
	struct soft_block *from;

	cpu->link_site = NULL;
	if (s == NULL || cpu->link_gen != c->gen)
		return;
	from = cache_find_pos(c, s->rel);
	if (from == NULL || b->gpa2 != 0 || from->gpa2 != 0 ||
	    ((from->key ^ b->key) & ~CODE_KEY_PLAIN) != 0 ||
	    ((from->gpa ^ b->gpa) & ~VMM_PAGE_MASK) != 0 ||
	    s->off != (b->gpa & VMM_PAGE_MASK))
		return;
	/* An entry that has not died, or was patched already, stays. */
	if ((s->rel == from->entry_s + 1 || s->rel == from->entry_e + 1) &&
	    !from->dead)
		return;
	cache_patch_rel(c, s->rel, s->n & CODE_LINK_LIVE ? b->entry_e : b->entry_s);
}

static struct soft_block *
cache_find(const struct cache *c, gpa_t gpa, gpa_t gpa2, uint32_t key)
{
	struct soft_block *b = c->hash[cache_hash(gpa, key)];

	while (b != NULL && (b->gpa != gpa || b->key != key ||
	    b->gpa2 != gpa2))
		b = b->hash_next;
	return b;
}

static struct cache_page *
cache_page_get(struct cache *c, gpa_t gpa)
{
	struct cache_page *p = cache_page_find(c, gpa);
	unsigned h = (gpa >> VMM_PAGE_SHIFT) % CACHE_PHASH;

	if (p != NULL)
		return p;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		return NULL;
	p->gpa = gpa & ~VMM_PAGE_MASK;
	p->next = c->page[h];
	c->page[h] = p;
	return p;
}

static struct soft_block *
cache_make(struct soft_cpu *cpu, struct cache *c, const struct cache_src *src,
    uint32_t key)
{
	unsigned n = atomic_load(&c->nblock), h;
	struct cache_page *p = cache_page_get(c, src->gpa), *p2 = NULL;
	gpa_t gpa = src->gpa;
	struct soft_block *b;

	if (src->gpa2 != 0)
		p2 = cache_page_get(c, src->gpa2);
	if (p == NULL || (p2 == NULL && src->gpa2 != 0))
		return NULL;
	b = &c->block[n];
	c->out.smp = cpu->vm->ncpu > 1;
	c->out.rdtscp = soft_has(cpu->vm, SOFT_CPUID_81_EDX, 27);
	c->out.no_lock = atomic_load(&cpu->vm->no_lock);
	memset(b, 0, sizeof(*b));
	b->gpa = gpa;
	b->key = key;
	b->gpa2 = src->gpa2;
	if (p2 != NULL) {
		xlate_block(&c->out, b, src->bytes, 16, 1);
		b->cross_next = p2->cross;
		p2->cross = b;
	} else {
		xlate_block(&c->out, b, src->host,
		    (unsigned)(VMM_PAGE_SIZE - (gpa & VMM_PAGE_MASK)),
		    p->kills > CACHE_KILLS ? 6 : 64);
	}
	b->fault = c->fault + c->nfault;
	b->nfault = (uint16_t)c->out.nfault;
	memcpy(b->fault, c->out.fault, sizeof(*b->fault) * b->nfault);
	c->nfault += b->nfault;
	p->writes = 0;
	b->page_next = p->blocks;
	p->blocks = b;
	h = cache_hash(gpa, b->key);
	b->hash_next = c->hash[h];
	c->hash[h] = b;
	atomic_store(&c->nblock, n + 1);
	cpu->st.blocks_made++;
	if (c->perf != NULL)
		(void)fprintf(c->perf, "%lx %x guest_%lx\n",
		    (unsigned long)(uintptr_t)c->rx + b->start,
		    b->end - b->start, (unsigned long)cpu->rip);
	return b;
}

/*
 * Where the code at cpu->rip is, its pages claimed.
 * => SOFT_OK; SOFT_SLOW: not to be translated; FAULT, EXIT
 */
static int
cache_source(struct soft_cpu *cpu, struct cache *c, struct cache_src *src)
{
	static __thread struct soft_insn in;
	const uint8_t *host2;
	gva_t next;
	unsigned avail;
	int r;

	src->gpa2 = 0;
	r = soft_fetch(cpu, cpu->rip, &src->gpa, &src->host);
	if (r != SOFT_OK)
		return r;
	if (src->gpa >> CACHE_GPA_BITS != 0)
		return SOFT_SLOW;
	cache_claim(cpu, c, src->gpa);
	avail = (unsigned)(VMM_PAGE_SIZE - (src->gpa & VMM_PAGE_MASK));
	if (avail >= 15 ||
	    soft_decode(src->host, avail, cpu->mode_key, &in) != -EFAULT)
		return SOFT_OK;
	next = cpu->rip + avail;
	if ((cpu->mode_key & SOFT_KEY_L) == 0 ? next >> 32 != 0 :
	    !soft_canonical(next))
		return SOFT_SLOW;
	memcpy(src->bytes, src->host, avail);
	r = soft_fetch(cpu, next, &src->gpa2, &host2);
	if (r != SOFT_OK)
		return r;
	if (src->gpa2 == 0 || src->gpa2 >> CACHE_GPA_BITS != 0)
		return SOFT_SLOW;
	cache_claim(cpu, c, src->gpa2);
	memcpy(src->bytes + avail, host2, 16 - avail);
	return SOFT_OK;
}

int
code_lookup(struct soft_cpu *cpu, uint64_t *entryp)
{
	struct cache *c = cpu->vm->cache;
	struct cache_src src;
	struct soft_block *b;
	uint32_t tag, key = cpu->mode_key;
	int r;

	cpu->st.lookups++;
	soft_fpu_put(cpu);
	if (cpu->link_site != NULL && cpu->link_plain)
		key |= CODE_KEY_PLAIN;
	r = cache_source(cpu, c, &src);
	if (r != SOFT_OK)
		return r;
	lock_acquire(&c->lock);
	if (!soft_claimed(cpu->vm, src.gpa) || (src.gpa2 != 0 &&
	    !soft_claimed(cpu->vm, src.gpa2))) {
		/* Written to meanwhile by another: claim it again later. */
		lock_release(&c->lock);
		return SOFT_SLOW;
	}
	b = cache_find(c, src.gpa, src.gpa2, key);
	if (b == NULL) {
		if (c->out.pos + CODE_ROOM > c->size ||
		    atomic_load(&c->nblock) == CACHE_BLOCKS ||
		    c->nfault + 512 > CACHE_FAULTS ||
		    c->out.slot_next + 256 > SOFT_SLOTS) {
			cache_flush(cpu, c, false);
			lock_release(&c->lock);
			return SOFT_SLOW;
		}
		b = cache_make(cpu, c, &src, key);
		if (b == NULL) {
			lock_release(&c->lock);
			return -ENOMEM;
		}
	}
	cache_link(cpu, c, b);
	if (key != cpu->mode_key) {
		/* Not for the jump cache: this once only. */
		cpu->link_entry = cpu->code_base + b->entry_s;
		cpu->link_gen = c->gen;
		lock_release(&c->lock);
		return SOFT_OK;
	}
	/* Under the lock: a flush moves jc_gen under it. */
	tag = code_tag(cpu);
	code_jc_put(cpu, (struct soft_jc_entry){ .va = cpu->rip,
		.off = b->entry_s, .tag = tag });
	lock_release(&c->lock);
	*entryp = cpu->code_base + b->entry_s;
	return SOFT_OK;
}

/* --- for the signal handler -------------------------------------------- */

CACHE_NO_VECTOR uint64_t
code_gen(const struct soft_cpu *cpu)
{
	const struct cache *c = cpu->vm->cache;

	return c->gen;
}

bool
code_contains(const struct soft_cpu *cpu, uint64_t pc)
{
	const struct cache *c = cpu->vm->cache;

	return pc - cpu->code_base < c->size;
}

const struct code_fault *
code_find_fault(struct soft_cpu *cpu, uint64_t pc)
{
	struct cache *c = cpu->vm->cache;
	uint32_t pos = (uint32_t)(pc - cpu->code_base);
	const struct soft_block *b = cache_find_pos(c, pos);

	if (b == NULL)
		return NULL;
	for (unsigned i = 0; i < b->nfault; i++)
		if (b->fault[i].pos == pos)
			return &b->fault[i];
	return NULL;
}
