/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLB: filling, flushing, and taking the right to write away from pages
 * that come to hold translated code.
 *
 * What is cached: the TLB proper (tlb[]), dropped as the architecture says;
 * itlb[], dropped with any of it by advancing itlb_gen; ntlb[], nested
 * translations only, which no guest instruction can make stale and which go
 * when the pmap's generation moves; pwc[], last-level tables of the guest, which
 * any flush drops, as INVLPG does with the paging-structure caches.
 *
 * Invariant: tag_w of an entry is valid only while the guest's and the nested
 * dirty bit are set and the page holds no translated code.
 *
 * Claims.  A page becomes a code page by its bit in the cache's bitmap, and
 * from then on nobody fills tag_w for it; who has it filled already is told.
 * writer[], a word per page, says which vCPUs those may be: a bit is set by
 * the fill BEFORE it looks at the code bit and read by the claim AFTER it has
 * set the code bit, so one of the two sees the other; only the vCPU itself
 * clears it.  The claim appends the page to a log, kicks the vCPUs concerned
 * and waits until each is out of the guest or has read the log that far; who
 * enters the guest reads the log first.  One who waits reads the log too, so
 * two may wait for each other.  The upper half of the word says who has been
 * told, so that a vCPU that sleeps is told once.
 * tests/spin/claim.pml is this protocol.
 *
 * This file is compiled for general registers only: see mmu_int.h.
 */
#include "engine/soft/mmu_int.h"

#include <sched.h>

static void
tlb_ntlb_flush(struct soft_cpu *cpu)
{
	for (unsigned i = 0; i < SOFT_NTLB_SIZE; i++)
		cpu->ntlb[i].tag = SOFT_TLB_INVALID;
	for (unsigned i = 0; i < SOFT_NTLB2M_SIZE; i++)
		cpu->ntlb2m[i].tag = SOFT_TLB_INVALID;
}

static void
tlb_drop(struct soft_tlb_entry *e)
{
	e->tag_r = SOFT_TLB_INVALID;
	e->tag_w = SOFT_TLB_INVALID;
}

void
soft_tlb_init(struct soft_cpu *cpu)
{
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++)
		for (unsigned i = 0; i < SOFT_TLB_SIZE; i++)
			tlb_drop(&cpu->tlb[m][i]);
	tlb_ntlb_flush(cpu);
	cpu->itlb_gen[0] = cpu->itlb_gen[1] = cpu->pwc_gen = 1;
	soft_slot_flush(cpu);
	cpu->pmap_gen = ~0ul; /* flush at the first soft_enter() */
}

static void
tlb_flush_chunk(struct soft_cpu *cpu, unsigned m, unsigned chunk, bool global)
{
	struct soft_tlb_entry *e = &cpu->tlb[m][chunk * SOFT_TLB_CHUNK];

	for (unsigned i = 0; i < SOFT_TLB_CHUNK; i++)
		if (global || (e[i].info & SOFT_TLB_I_GLOBAL) == 0)
			tlb_drop(&e[i]);
}

/* Translations for execution, and what is linked by them: of user code, or
 * all. */
static void
tlb_exec_flush(struct soft_cpu *cpu, bool all)
{
	cpu->st.exec_flushes++;
	for (unsigned u = all ? 0 : 1; u < 2; u++) {
		cpu->itlb_gen[u]++;
		for (unsigned i = 0; i < SOFT_BLOOM_WORDS; i++)
			cpu->exec_filter[u][i] = 0;
		for (unsigned i = 0; i < SOFT_FILTER_WORDS; i++)
			cpu->exec_large[u][i] = 0;
	}
	if (all)
		cpu->exec_local = false;
	soft_jc_flush(cpu, all);
}

void
soft_tlb_flush(struct soft_cpu *cpu, bool global)
{
	cpu->pwc_gen++;
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++) {
		if (global || cpu->tlb_has[m][0][0] || cpu->tlb_has[m][1][0])
			soft_slot_flush_index(cpu, m);
		for (unsigned h = 0; h < 2; h++) {
			cpu->tlb_has[m][h][0] = false;
			if (global)
				cpu->tlb_has[m][h][1] = false;
		}
	}
	if (global) {
		for (unsigned i = 0; i < SOFT_FILTER_WORDS; i++)
			cpu->tlb_large4m[i] = cpu->tlb_large1g[i] = 0;
		for (unsigned i = 0; i < SOFT_WMAP_SIZE; i++)
			cpu->wmap[i] = 0;
	}
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++) {
		uint64_t *map = global ? cpu->tlb_used[m] : cpu->tlb_local[m];

		for (unsigned w = 0; w < SOFT_TLB_CHUNKS / 64; w++) {
			uint64_t used = map[w];

			for (; used != 0; used &= used - 1)
				tlb_flush_chunk(cpu, m, w * 64 +
				    (unsigned)__builtin_ctzl(used), global);
			if (global)
				cpu->tlb_used[m][w] = 0;
			cpu->tlb_local[m][w] = 0;
		}
	}
	tlb_exec_flush(cpu, global || cpu->exec_local);
	cpu->st.tlb_flushes++;
}

/* Drops the entries of large pages among n from slot i on that share va's
 * address bits above shift. */
static void
tlb_drop_large(struct soft_cpu *cpu, gva_t va, unsigned shift, unsigned i,
    unsigned n)
{
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++) {
		struct soft_tlb_entry *e = &cpu->tlb[m][i];

		for (unsigned k = 0; k < n; k++, e++) {
			if (e->tag_r != SOFT_TLB_INVALID &&
			    (e->info & SOFT_TLB_I_LARGE) != 0 &&
			    (e->tag_r ^ va) >> shift == 0)
				tlb_drop(e);
		}
	}
}

/*
 * INVLPG.  A 4 KB entry may be part of a large page, and then all of that
 * page's entries must go.  Two filters, hashed by 4 MB and by 1 GB, tell
 * whether a large page may be cached around gva: nearly never for the
 * addresses that kernels invalidate.  A third one tells whether anything was
 * fetched from the page, so that most invalidations leave the jump cache.
 */
void
soft_tlb_flush_page(struct soft_cpu *cpu, gva_t gva)
{
	uint64_t page = gva & ~VMM_PAGE_MASK;

	cpu->pwc_gen++;
	soft_slot_flush_page(cpu, gva);
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++) {
		struct soft_tlb_entry *e = &cpu->tlb[m]
		    [(gva >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

		if (e->tag_r == page)
			tlb_drop(e);
	}
	if (mmu_filter(cpu->tlb_large4m, gva >> 22, false)) {
		soft_slot_flush(cpu);
		tlb_drop_large(cpu, gva, 22, (gva >> VMM_PAGE_SHIFT) &
		    (SOFT_TLB_SIZE - 1) & ~1023u, 1024);
	}
	if (mmu_filter(cpu->tlb_large1g, gva >> 30, false)) {
		soft_slot_flush(cpu);
		tlb_drop_large(cpu, gva, 30, 0, SOFT_TLB_SIZE);
	}
	cpu->st.tlb_flush_page++;
	for (unsigned u = 0; u < 2; u++) {
		if (mmu_bloom(cpu->exec_filter[u], SOFT_BLOOM_WORDS,
		    gva >> VMM_PAGE_SHIFT, false) ||
		    mmu_filter(cpu->exec_large[u], gva >> 22, false) ||
		    mmu_filter(cpu->exec_large[u], gva >> 30, false)) {
			tlb_exec_flush(cpu, u == 0);
			break;
		}
	}
}

/* --- claims of code pages ---------------------------------------------- */

static inline unsigned
tlb_wmap_index(gpa_t gpa)
{
	uint64_t pfn = gpa >> VMM_PAGE_SHIFT;

	return (unsigned)(pfn ^ pfn >> 12) % SOFT_WMAP_SIZE;
}

static void
tlb_protect_entry(struct soft_tlb_entry *e, gpa_t page)
{
	if ((e->info & ~VMM_PAGE_MASK) == page &&
	    e->tag_w != SOFT_TLB_INVALID) {
		e->tag_w = SOFT_TLB_INVALID;
		e->info |= SOFT_TLB_I_CODE;
	}
}

void
soft_tlb_protect_gpa(struct soft_cpu *cpu, gpa_t gpa)
{
	gpa_t page = gpa & ~VMM_PAGE_MASK;
	unsigned at = cpu->wmap[tlb_wmap_index(gpa)];

	soft_slot_flush(cpu);
	for (unsigned m = 0; m < SOFT_MMU_COUNT && at != 0; m++) {
		if (at != SOFT_WMAP_MANY) {
			tlb_protect_entry(&cpu->tlb[m][at - 1], page);
			continue;
		}
		for (unsigned w = 0; w < SOFT_TLB_CHUNKS / 64; w++) {
			uint64_t used = cpu->tlb_used[m][w];

			for (; used != 0; used &= used - 1) {
				unsigned c = w * 64 +
				    (unsigned)__builtin_ctzl(used);

				for (unsigned i = 0; i < SOFT_TLB_CHUNK; i++)
					tlb_protect_entry(&cpu->tlb[m]
					    [c * SOFT_TLB_CHUNK + i], page);
			}
		}
	}
	atomic_fetch_and(&cpu->vm->writer[gpa >> VMM_PAGE_SHIFT],
	    ~((SOFT_WRITER_TOLD + 1) << cpu->id));
}

/* May the entry that is being filled allow writing?  Notes it if so. */
static bool
tlb_may_write(struct soft_cpu *cpu, gpa_t gpa, unsigned i)
{
	_Atomic uint64_t *wr = &cpu->vm->writer[gpa >> VMM_PAGE_SHIFT];
	uint64_t bit = 1ul << cpu->id, told = SOFT_WRITER_TOLD << cpu->id, v;
	uint16_t *m = &cpu->wmap[tlb_wmap_index(gpa)];

	if (gpa >> SOFT_CODE_GPA_BITS != 0)
		return true;
	if (soft_cache_has_code(cpu->vm, gpa))
		return false;
	v = atomic_load_explicit(wr, memory_order_relaxed);
	if ((v & (bit | told)) != bit) {
		while (!atomic_compare_exchange_weak(wr, &v,
		    (v | bit) & ~told))
			;
		if (soft_cache_has_code(cpu->vm, gpa))
			return false;
	}
	if (*m == 0)
		*m = (uint16_t)(i + 1);
	else if (*m != i + 1)
		*m = SOFT_WMAP_MANY;
	return true;
}

/* Reads the log of claims.  No host pointer is held for writing. */
static void
tlb_claim_sync(struct soft_cpu *cpu)
{
	struct soft_vm *vm = cpu->vm;
	uint64_t seen = atomic_load_explicit(&cpu->claim_seen,
	    memory_order_relaxed);
	uint64_t head = atomic_load(&vm->claims);

	if (__builtin_expect(seen == head, 1))
		return;
	for (; seen != head; seen++) {
		gpa_t gpa = atomic_load(&vm->claim_log[seen % SOFT_CLAIM_LOG]);

		if (atomic_load(&vm->claims) - seen >= SOFT_CLAIM_LOG) {
			/* Overwritten, perhaps. */
			head = atomic_load(&vm->claims);
			soft_tlb_flush(cpu, true);
			break;
		}
		if ((atomic_load(&vm->writer[gpa >> VMM_PAGE_SHIFT]) >>
		    cpu->id & 1) != 0)
			soft_tlb_protect_gpa(cpu, gpa);
	}
	atomic_store(&cpu->claim_seen, head);
}

void
soft_claim(struct soft_cpu *cpu, gpa_t gpa, struct lock *lk)
{
	struct soft_vm *vm = cpu->vm;
	_Atomic uint64_t *wr = &vm->writer[gpa >> VMM_PAGE_SHIFT];
	uint64_t v = atomic_load(wr), claim;
	uint32_t w = (uint32_t)v & ~(1u << cpu->id);

	if ((v >> cpu->id & 1) != 0)
		soft_tlb_protect_gpa(cpu, gpa);
	if (w == 0)
		return;
	if ((w & ~(v >> 32)) != 0) {
		lock_acquire(lk);
		if (!soft_cache_has_code(vm, gpa)) {
			/* Written to meanwhile, and perhaps given out for
			 * writing again: the caller will notice. */
			lock_release(lk);
			return;
		}
		claim = atomic_load_explicit(&vm->claims,
		    memory_order_relaxed);
		atomic_store(&vm->claim_log[claim % SOFT_CLAIM_LOG], gpa);
		atomic_store(&vm->claims, ++claim);
		/* It cannot cease to be a page of code under the lock, so
		 * nobody gets it for writing before this. */
		atomic_fetch_or(wr, (uint64_t)w << 32);
		lock_release(lk);
		cpu->st.claims++;
	} else {
		claim = atomic_load(&vm->claims);
	}
	for (unsigned i = 0; w != 0; i++, w >>= 1) {
		struct soft_cpu *o = vm->cpu[i];
		unsigned spins = 0;

		if ((w & 1) == 0 || o == NULL)
			continue;
		while (atomic_load(&o->in_guest) &&
		    atomic_load(&o->claim_seen) < claim) {
			if (spins++ == 0)
				soft_kick(o);
			else if (spins % 256 == 0)
				(void)sched_yield();
			else
				__builtin_ia32_pause();
			tlb_claim_sync(cpu);
		}
	}
}

bool
soft_claimed(const struct soft_vm *vm, gpa_t gpa)
{
	uint64_t v;
	uint32_t w;

	if (!soft_cache_has_code(vm, gpa))
		return false;
	v = atomic_load(&vm->writer[gpa >> VMM_PAGE_SHIFT]);
	w = (uint32_t)v;
	if ((w & ~(v >> 32)) != 0)
		return false;
	for (unsigned i = 0; w != 0; i++, w >>= 1) {
		const struct soft_cpu *o = vm->cpu[i];

		if ((w & 1) != 0 && o != NULL && atomic_load(&o->in_guest) &&
		    atomic_load(&o->claim_seen) != atomic_load(&vm->claims))
			return false;
	}
	return true;
}

/* --- in and out of the guest ------------------------------------------ */

void
soft_enter(struct soft_cpu *cpu)
{
	uint64_t gen;

	if (cpu->active)
		return;
	atomic_store(&cpu->in_guest, true);
	tlb_claim_sync(cpu);
	gen = pmap_activate(cpu->vm->pmap, cpu->id);
	cpu->active = true;
	cpu->pmap_seq++;
	if (gen != cpu->pmap_gen) {
		tlb_ntlb_flush(cpu);
		soft_tlb_flush(cpu, true);
		cpu->pmap_gen = gen;
		pmap_ack(cpu->vm->pmap, cpu->id, gen);
	}
}

void
soft_leave(struct soft_cpu *cpu)
{
	if (!cpu->active)
		return;
	soft_fpu_put(cpu);
	pmap_deactivate(cpu->vm->pmap, cpu->id);
	cpu->active = false;
	atomic_store_explicit(&cpu->in_guest, false, memory_order_release);
}

bool
soft_pmap_sync(struct soft_cpu *cpu)
{
	uint64_t gen = pmap_generation(cpu->vm->pmap);

	tlb_claim_sync(cpu);
	if (gen == cpu->pmap_gen)
		return false;
	tlb_ntlb_flush(cpu);
	soft_tlb_flush(cpu, true);
	cpu->pmap_seq++;
	cpu->pmap_gen = gen;
	pmap_ack(cpu->vm->pmap, cpu->id, gen);
	return true;
}

/* --- filling the TLB -------------------------------------------------- */

int
mmu_fill(struct soft_cpu *cpu, gva_t va, int access, unsigned idx, gpa_t *gpap)
{
	unsigned i = (va >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1), chunk;
	struct soft_tlb_entry *e = &cpu->tlb[idx][i];
	uint64_t page = va & ~VMM_PAGE_MASK, host, info;
	struct mmu_leaf leaf;
	bool nw;
	int r;

	cpu->st.tlb_fills++;
	do {
		r = mmu_walk(cpu, va, access, idx, &leaf);
		if (r == SOFT_OK)
			r = mmu_nested(cpu, leaf.gpa, access, &host, &nw);
	} while (r == MMU_AGAIN);
	*gpap = leaf.gpa;
	if (r != SOFT_OK)
		return r == SOFT_SLOW ? MMU_DEVICE : r;
	info = leaf.gpa & ~VMM_PAGE_MASK;
	if (leaf.global)
		info |= SOFT_TLB_I_GLOBAL;
	if (leaf.shift > VMM_PAGE_SHIFT) {
		info |= SOFT_TLB_I_LARGE;
		(void)(leaf.shift == 30 ?
		    mmu_filter(cpu->tlb_large1g, va >> 30, true) :
		    mmu_filter(cpu->tlb_large4m, va >> 22, true));
	}
	if (leaf.writable && nw && !tlb_may_write(cpu, leaf.gpa, i)) {
		info |= SOFT_TLB_I_CODE;
		nw = false;
	}
	e->addend = host - va;
	e->info = info;
	e->tag_r = page;
	e->tag_w = leaf.writable && nw ? page : SOFT_TLB_INVALID;
	chunk = i / SOFT_TLB_CHUNK;
	cpu->tlb_used[idx][chunk / 64] |= 1ul << (chunk % 64);
	cpu->tlb_has[idx][va >> 63][leaf.global] = true;
	if (!leaf.global)
		cpu->tlb_local[idx][chunk / 64] |= 1ul << (chunk % 64);
	if ((access & VMM_PROT_WRITE) != 0 && e->tag_w != page)
		return SOFT_SLOW;
	return SOFT_OK;
}

const struct soft_tlb_entry *
mmu_code_write(const struct soft_cpu *cpu, gva_t va, unsigned idx)
{
	const struct soft_tlb_entry *e = &cpu->tlb[idx]
	    [(va >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

	return e->tag_r == (va & ~VMM_PAGE_MASK) &&
	    (e->info & SOFT_TLB_I_CODE) != 0 &&
	    soft_cache_has_code(cpu->vm, e->info) ? e : NULL;
}

int
soft_tlb_fill(struct soft_cpu *cpu, gva_t va, unsigned n, int access)
{
	gpa_t gpa;
	int r;

	/* What the executor must look at more closely. */
	if ((va & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE || !soft_canonical(va))
		return SOFT_SLOW;
	if ((access & VMM_PROT_WRITE) != 0 &&
	    mmu_code_write(cpu, va, cpu->mmuidx) != NULL)
		return SOFT_SLOW;
	r = mmu_fill(cpu, va, access, cpu->mmuidx, &gpa);
	return r == MMU_DEVICE ? SOFT_SLOW : r;
}
