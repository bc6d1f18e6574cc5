/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An instruction's own accesses to guest memory, made from C: linear
 * addresses, copies that may cross a page or reach a device, and fetches.
 *
 * A copy first finds both of its pages and only then moves bytes, so that a
 * fault on the second page leaves the first untouched.  Finding one may call
 * upward; then the other's host pointer is stale (pmap_seq moved) and both are
 * found again.  Naturally aligned pieces of 2, 4 and 8 bytes move as one.
 * soft_raise() and soft_exit() are here because they are called on such paths.
 *
 * This file is compiled for general registers only: see mmu_int.h.
 */
#include "engine/soft/mmu_int.h"

int
soft_raise(struct soft_cpu *cpu, uint8_t vector)
{
	cpu->exc = (struct soft_exc){ .vector = vector };
	return SOFT_FAULT;
}

int
soft_raise_err(struct soft_cpu *cpu, uint8_t vector, uint32_t error)
{
	cpu->exc = (struct soft_exc){ .vector = vector, .has_error = true,
		.error = error };
	return SOFT_FAULT;
}

int
soft_exit(struct soft_cpu *cpu, enum vmm_exit_reason reason)
{
	cpu->exit.reason = reason;
	cpu->exit.rip = cpu->rip;
	cpu->exit_pending = reason == VMM_EXIT_IO || reason == VMM_EXIT_MMIO ||
	    reason == VMM_EXIT_RDMSR || reason == VMM_EXIT_WRMSR;
	return SOFT_EXIT;
}

/* One side of an access: within a page. host is 0 for device memory. */
struct mem_part {
	uint64_t host;
	gpa_t gpa;
	unsigned n;
	bool code; /* the page holds translated code */
};

static int
mem_find(struct soft_cpu *cpu, gva_t va, unsigned n, int access, unsigned idx,
    struct mem_part *p)
{
	struct soft_tlb_entry *e = &cpu->tlb[idx]
	    [(va >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];
	uint64_t page = va & ~VMM_PAGE_MASK;
	bool write = (access & VMM_PROT_WRITE) != 0;
	bool nw;
	int r;

	p->n = n;
	p->code = false;
	if ((write ? e->tag_w : e->tag_r) == page) {
		p->host = e->addend + va;
		p->gpa = (e->info & ~VMM_PAGE_MASK) | (va & VMM_PAGE_MASK);
		return SOFT_OK;
	}
	if (write && mmu_code_write(cpu, va, idx) != NULL) {
		p->host = e->addend + va;
		p->gpa = (e->info & ~VMM_PAGE_MASK) | (va & VMM_PAGE_MASK);
		p->code = true;
		return SOFT_OK;
	}
	r = mmu_fill(cpu, va, access, idx, &p->gpa);
	if (r == SOFT_OK) {
		p->host = e->addend + va;
		return SOFT_OK;
	}
	if (r == MMU_DEVICE) {
		p->host = 0;
		return SOFT_OK;
	}
	if (r != SOFT_SLOW)
		return r;
	/* A page of code: it has a host address for writing all the same, if
	 * the nested tables agree. */
	do
		r = mmu_nested(cpu, p->gpa, access, &p->host, &nw);
	while (r == MMU_AGAIN);
	if (r == SOFT_SLOW) {
		p->host = 0;
		return SOFT_OK;
	}
	p->code = write;
	return r;
}

/* One access where the guest's is aligned; the buffer may not be. */
typedef uint16_t mem_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t mem_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t mem_u64 __attribute__((aligned(1), may_alias));

static inline void
mem_copy(void *to, const void *from, unsigned n, uint64_t align)
{
	if (n == 8 && (align & 7) == 0) {
		*(volatile mem_u64 *)to = *(const volatile mem_u64 *)from;
	} else if (n == 4 && (align & 3) == 0) {
		*(volatile mem_u32 *)to = *(const volatile mem_u32 *)from;
	} else if (n == 2 && (align & 1) == 0) {
		*(volatile mem_u16 *)to = *(const volatile mem_u16 *)from;
	} else if (n == 1) {
		*(volatile uint8_t *)to = *(const volatile uint8_t *)from;
	} else {
		uint64_t cnt = n;

		__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(cnt)
		    : : "memory");
	}
}

/* Device memory in naturally aligned pieces of at most 8 bytes. */
static int
mem_device(struct soft_cpu *cpu, gpa_t gpa, uint8_t *buf, unsigned n,
    bool write)
{
	uint64_t data;
	unsigned piece;
	int r;

	for (; n != 0; n -= piece, buf += piece, gpa += piece) {
		piece = 8;
		while (piece > n || (gpa & (piece - 1)) != 0)
			piece >>= 1;
		data = 0;
		if (write)
			for (unsigned i = 0; i < piece; i++)
				data |= (uint64_t)buf[i] << (8 * i);
		r = soft_mmio(cpu, gpa, piece, write, &data);
		if (r != SOFT_OK)
			return r;
		if (!write)
			for (unsigned i = 0; i < piece; i++)
				buf[i] = (uint8_t)(data >> (8 * i));
	}
	return SOFT_OK;
}

static void
mem_smc(struct soft_cpu *cpu, gpa_t gpa, unsigned n)
{
	/* Two ranges at once happen when a store crosses pages. */
	if (cpu->smc)
		soft_smc_flush(cpu);
	cpu->smc = true;
	cpu->smc_gpa = gpa;
	cpu->smc_len = n;
	cpu->st.smc++;
}

void
soft_smc_flush(struct soft_cpu *cpu)
{
	cpu->smc = false;
	soft_cache_invalidate(cpu->vm, cpu->smc_gpa, cpu->smc_len);
}

static int
mem_part_move(struct soft_cpu *cpu, const struct mem_part *p, uint8_t *buf,
    bool write)
{
	if (p->host == 0)
		return mem_device(cpu, p->gpa, buf, p->n, write);
	if (write) {
		mem_copy((void *)(uintptr_t)p->host, buf, p->n, p->gpa);
		if (p->code)
			mem_smc(cpu, p->gpa, p->n);
	} else {
		mem_copy(buf, (const void *)(uintptr_t)p->host, p->n, p->gpa);
	}
	return SOFT_OK;
}

static int
mem_move(struct soft_cpu *cpu, gva_t va, uint8_t *buf, unsigned n, bool write,
    unsigned idx)
{
	int access = write ? VMM_PROT_WRITE : VMM_PROT_READ;
	struct mem_part a, b;
	uint64_t aseq, bseq;
	unsigned first;
	gva_t next;
	int r;

	/* Tables and images of more than a page are moved by pieces. */
	for (; n > VMM_PAGE_SIZE; n -= VMM_PAGE_SIZE, va += VMM_PAGE_SIZE,
	    buf += VMM_PAGE_SIZE) {
		r = mem_move(cpu, va, buf, VMM_PAGE_SIZE, write, idx);
		if (r != SOFT_OK)
			return r;
	}
	if (!soft_long(cpu))
		va &= 0xffffffff;
	first = (unsigned)(VMM_PAGE_SIZE - (va & VMM_PAGE_MASK));
	if (__builtin_expect(n <= first, 1)) {
		r = mem_find(cpu, va, n, access, idx, &a);
		if (r != SOFT_OK)
			return r;
		return mem_part_move(cpu, &a, buf, write);
	}
	next = va + first;
	if (!soft_long(cpu))
		next &= 0xffffffff;
	r = mem_find(cpu, va, first, access, idx, &a);
	if (r != SOFT_OK)
		return r;
	aseq = cpu->pmap_seq;
	r = mem_find(cpu, next, n - first, access, idx, &b);
	bseq = cpu->pmap_seq;
	/* Only pointers age; finding a device always calls upward. */
	while (r == SOFT_OK && ((a.host != 0 && aseq != cpu->pmap_seq) ||
	    (b.host != 0 && bseq != cpu->pmap_seq))) {
		if (a.host != 0 && aseq != cpu->pmap_seq) {
			r = mem_find(cpu, va, first, access, idx, &a);
			aseq = cpu->pmap_seq;
		} else {
			r = mem_find(cpu, next, n - first, access, idx, &b);
			bseq = cpu->pmap_seq;
		}
	}
	if (r != SOFT_OK)
		return r;
	/* Memory before devices: a callback makes host pointers stale. */
	if (a.host == 0 && b.host != 0) {
		r = mem_part_move(cpu, &b, buf + first, write);
		if (r == SOFT_OK)
			r = mem_part_move(cpu, &a, buf, write);
		return r;
	}
	r = mem_part_move(cpu, &a, buf, write);
	if (r == SOFT_OK)
		r = mem_part_move(cpu, &b, buf + first, write);
	return r;
}

int
soft_read(struct soft_cpu *cpu, gva_t gva, void *buf, unsigned n, bool implicit)
{
	return mem_move(cpu, gva, buf, n, false,
	    implicit ? SOFT_MMU_KERNEL : cpu->mmuidx);
}

int
soft_write(struct soft_cpu *cpu, gva_t gva, const void *buf, unsigned n,
    bool implicit)
{
	return mem_move(cpu, gva, (uint8_t *)(uintptr_t)buf, n, true,
	    implicit ? SOFT_MMU_KERNEL : cpu->mmuidx);
}

int
soft_read_as(struct soft_cpu *cpu, gva_t gva, void *buf, unsigned n,
    unsigned cpl)
{
	return mem_move(cpu, gva, buf, n, false, mmu_index(cpu, cpl));
}

int
soft_write_as(struct soft_cpu *cpu, gva_t gva, const void *buf, unsigned n,
    unsigned cpl)
{
	return mem_move(cpu, gva, (uint8_t *)(uintptr_t)buf, n, true,
	    mmu_index(cpu, cpl));
}

int
soft_ptr(struct soft_cpu *cpu, gva_t gva, unsigned n, int access, void **ptrp)
{
	struct mem_part p;
	int r;

	if (!soft_long(cpu))
		gva &= 0xffffffff;
	if ((gva & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE)
		return SOFT_SLOW;
	r = mem_find(cpu, gva, n, access, cpu->mmuidx, &p);
	if (r != SOFT_OK)
		return r;
	if (p.host == 0)
		return SOFT_SLOW;
	/* The store comes after we return, and the run loop's soft_smc_sync()
	 * after it: nothing stale can run in between on this vCPU. */
	if (p.code)
		mem_smc(cpu, p.gpa, n);
	*ptrp = (void *)(uintptr_t)p.host;
	return SOFT_OK;
}

int
soft_fetch(struct soft_cpu *cpu, gva_t gva, gpa_t *gpap, const uint8_t **ptrp)
{
	struct soft_itlb_entry *e;
	struct mmu_leaf leaf;
	uint64_t tag, host;
	unsigned idx;
	int r;

	if (!soft_long(cpu))
		gva &= 0xffffffff;
	else if (!soft_canonical(gva))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	tag = (gva & ~VMM_PAGE_MASK) | (cpu->cpl == 3);
	e = &cpu->itlb[(gva >> VMM_PAGE_SHIFT) % SOFT_ITLB_SIZE];
	if (e->tag != tag || e->gen != cpu->itlb_gen[cpu->cpl == 3]) {
		idx = cpu->cpl == 3 ? SOFT_MMU_USER : SOFT_MMU_KERNEL;
		do {
			r = mmu_walk(cpu, gva, VMM_PROT_EXEC, idx, &leaf);
			if (r == SOFT_OK)
				r = mmu_nested(cpu, leaf.gpa, VMM_PROT_EXEC,
				    &host, NULL);
		} while (r == MMU_AGAIN);
		if (r == SOFT_SLOW)
			return soft_exit_error(cpu, "instruction fetch from "
			    "gpa 0x%lx, where no memory is (rip 0x%lx)",
			    leaf.gpa, cpu->rip);
		if (r != SOFT_OK)
			return r;
		e->tag = tag;
		e->gen = cpu->itlb_gen[cpu->cpl == 3];
		if (leaf.shift > VMM_PAGE_SHIFT)
			(void)mmu_filter(cpu->exec_large[cpu->cpl == 3], gva >>
			    (leaf.shift == 30 ? 30 : 22), true);
		if (cpu->cpl != 3 && !leaf.global)
			cpu->exec_local = true;
		(void)mmu_bloom(cpu->exec_filter[cpu->cpl == 3],
		    SOFT_BLOOM_WORDS, gva >> VMM_PAGE_SHIFT, true);
		e->gpa = leaf.gpa & ~VMM_PAGE_MASK;
		e->host = (const uint8_t *)(uintptr_t)host -
		    (gva & VMM_PAGE_MASK);
	}
	*gpap = e->gpa | (gva & VMM_PAGE_MASK);
	*ptrp = e->host + (gva & VMM_PAGE_MASK);
	return SOFT_OK;
}

/* --- segments --------------------------------------------------------- */

static int
mem_seg_fault(struct soft_cpu *cpu, unsigned seg)
{
	return soft_raise_err(cpu, seg == VMM_SEG_SS ? SOFT_EXC_SS :
	    SOFT_EXC_GP, 0);
}

int
soft_linear(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    int access, gva_t *lap)
{
	const struct vmm_seg *s = &cpu->seg[seg];
	uint64_t last, top;
	uint32_t type;

	if (soft_64bit(cpu)) {
		*lap = off + (seg >= VMM_SEG_FS ? s->base : 0);
		if (!soft_canonical(*lap) || !soft_canonical(*lap + n - 1))
			return mem_seg_fault(cpu, seg);
		return SOFT_OK;
	}
	off &= 0xffffffff;
	last = off + n - 1;
	type = VMM_SEG_TYPE(s->access);
	if ((cpu->cr0 & SOFT_CR0_PE) != 0) {
		if ((s->access & (VMM_SEG_UNUSABLE | VMM_SEG_P)) != VMM_SEG_P)
			return mem_seg_fault(cpu, seg);
		/* Code: never written, read if readable. Data: bit 1. */
		if ((access & VMM_PROT_WRITE) != 0 ? (type & 0xa) != 0x2 :
		    (type & 0xa) == 0x8)
			return mem_seg_fault(cpu, seg);
	}
	if ((type & 0xc) == 0x4) {
		/* Expand down: valid above the limit. */
		top = (s->access & VMM_SEG_DB) != 0 ? 0xffffffff : 0xffff;
		if (off <= s->limit || last > top)
			return mem_seg_fault(cpu, seg);
	} else if (last > s->limit) {
		return mem_seg_fault(cpu, seg);
	}
	*lap = (s->base + off) & 0xffffffff;
	return SOFT_OK;
}
