/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's paging: walks of both dimensions.
 *
 * A translation has two dimensions: every read of a guest table entry is a
 * gpa that goes through the pmap (mmu_nested), and so does the gpa at the end.
 * mmu_walk() reads all levels first, then checks rights, and only then sets
 * accessed and dirty bits by compare-and-swap from the top down, so that an
 * access that faults sets none.  A lost swap starts the walk anew.
 *
 * A nested fault leaves the guest (soft_leave), calls upward and enters again
 * (soft_enter); whatever was read before is then worthless, hence MMU_AGAIN.
 *
 * PCIDs: CR3's low bits only select; every CR3 load drops what is not global.
 * An address-space tag per entry can come without a change of contract.
 *
 * This file is compiled for general registers only: see mmu_int.h.
 */
#include "engine/soft/mmu_int.h"

#include <errno.h>

#include "base/host.h"

#define MMU_ADDR 0x000ffffffffff000ul /* table address in a 64-bit entry */

/* One table entry on the way down. */
struct mmu_step {
	gpa_t gpa;
	uint64_t host;
	uint64_t entry;
};

/* --- second dimension ------------------------------------------------- */

static int
mmu_nested_fault(struct soft_cpu *cpu, gpa_t gpa, int access)
{
	int error;

	cpu->st.nested_faults++;
	soft_leave(cpu);
	error = cpu->vm->cb->fault(cpu->vm->arg, cpu->id, gpa, access);
	soft_enter(cpu);
	switch (error) {
	case 0:
		return MMU_AGAIN;
	case -EFAULT:
		return SOFT_SLOW;
	case -EINTR:
		return soft_exit(cpu, VMM_EXIT_INTR);
	default:
		cpu->exit.u.memfail.gpa = gpa;
		cpu->exit.u.memfail.error = error;
		return soft_exit(cpu, VMM_EXIT_MEMFAIL);
	}
}

int
mmu_nested(struct soft_cpu *cpu, gpa_t gpa, int access, uint64_t *hostp,
    bool *wp)
{
	gpa_t page = gpa & ~VMM_PAGE_MASK;
	struct soft_ntlb_entry *e =
	    &cpu->ntlb[(gpa >> VMM_PAGE_SHIFT) & (SOFT_NTLB_SIZE - 1)];
	struct soft_ntlb_entry *big;
	struct pmap_walk w;
	bool writable;

	if (access != VMM_PROT_EXEC && (e->tag == (page | 1) ||
	    (e->tag == page && access == VMM_PROT_READ))) {
		*hostp = e->host + (gpa & VMM_PAGE_MASK);
		if (wp != NULL)
			*wp = (e->tag & 1) != 0;
		return SOFT_OK;
	}
	big = &cpu->ntlb2m[(gpa >> 21) & (SOFT_NTLB2M_SIZE - 1)];
	if (access != VMM_PROT_EXEC && (big->tag == (gpa >> 21 << 21 | 1) ||
	    (big->tag == gpa >> 21 << 21 && access == VMM_PROT_READ))) {
		*hostp = big->host + (gpa & ((1ul << 21) - 1));
		if (wp != NULL)
			*wp = (big->tag & 1) != 0;
		return SOFT_OK;
	}
	if (gpa >> cpu->phys_bits != 0)
		return SOFT_SLOW;
	if (pmap_walk(cpu->vm->pmap, gpa, access, &w) != 0)
		return mmu_nested_fault(cpu, gpa, access);
	writable = (w.prot & VMM_PROT_WRITE) != 0;
	*hostp = (uint64_t)(uintptr_t)PHYS_TO_DMAP(w.hpa);
	if (wp != NULL)
		*wp = writable;
	if (access != VMM_PROT_EXEC && w.size >= 1ul << 21) {
		big->host = *hostp - (gpa & ((1ul << 21) - 1));
		big->tag = gpa >> 21 << 21 | writable;
	} else if (access != VMM_PROT_EXEC) {
		e->host = *hostp - (gpa & VMM_PAGE_MASK);
		e->tag = page | writable;
	}
	return SOFT_OK;
}

/* --- first dimension -------------------------------------------------- */

static int
mmu_page_fault(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    uint32_t err)
{
	if ((access & VMM_PROT_WRITE) != 0)
		err |= MMU_ERR_W;
	if (idx == SOFT_MMU_USER)
		err |= MMU_ERR_U;
	if ((access & VMM_PROT_EXEC) != 0 &&
	    ((cpu->cr4 & SOFT_CR4_SMEP) != 0 ||
	    ((cpu->efer & SOFT_EFER_NXE) != 0 &&
	    (cpu->cr4 & SOFT_CR4_PAE) != 0)))
		err |= MMU_ERR_I;
	cpu->st.page_faults++;
	cpu->exc = (struct soft_exc){ .vector = SOFT_EXC_PF, .has_error = true,
		.error = err, .cr2 = va };
	return SOFT_FAULT;
}

/* Reads a table entry. Where there is no memory the bus floats high. */
static int
mmu_load(struct soft_cpu *cpu, struct mmu_step *s, bool wide)
{
	int r = mmu_nested(cpu, s->gpa, VMM_PROT_READ, &s->host, NULL);

	if (r == SOFT_SLOW) {
		s->host = 0;
		s->entry = wide ? ~0ul : ~0u;
		return SOFT_OK;
	}
	if (r != SOFT_OK)
		return r;
	if (wide)
		s->entry = __atomic_load_n((uint64_t *)(uintptr_t)s->host,
		    __ATOMIC_RELAXED);
	else
		s->entry = __atomic_load_n((uint32_t *)(uintptr_t)s->host,
		    __ATOMIC_RELAXED);
	return SOFT_OK;
}

/* Sets bits in an entry that has been read. */
static int
mmu_mark(struct soft_cpu *cpu, struct mmu_step *s, uint64_t bits, bool wide)
{
	uint64_t old = s->entry, host;
	uint32_t old32 = (uint32_t)old;
	int r;
	bool ok;

	if ((old & bits) == bits)
		return SOFT_OK;
	r = mmu_nested(cpu, s->gpa, VMM_PROT_WRITE, &host, NULL);
	if (r == SOFT_SLOW)
		return SOFT_OK; /* tables in read-only memory */
	if (r != SOFT_OK)
		return r;
	/* Tables that hold translated code are freaks, but legal ones. */
	if (wide)
		ok = __atomic_compare_exchange_n((uint64_t *)(uintptr_t)host,
		    &old, old | bits, false, __ATOMIC_SEQ_CST,
		    __ATOMIC_RELAXED);
	else
		ok = __atomic_compare_exchange_n((uint32_t *)(uintptr_t)host,
		    &old32, old32 | (uint32_t)bits, false, __ATOMIC_SEQ_CST,
		    __ATOMIC_RELAXED);
	if (!ok)
		return MMU_AGAIN;
	s->entry |= bits;
	return SOFT_OK;
}

/* Rights after all levels said yes: us, rw, nx are their sums. */
static bool
mmu_allowed(const struct soft_cpu *cpu, int access, unsigned idx, bool us,
    bool rw, bool nx)
{
	bool user = idx == SOFT_MMU_USER;

	if (user && !us)
		return false;
	if ((access & VMM_PROT_EXEC) != 0) {
		if (nx)
			return false;
		return user || !us || (cpu->cr4 & SOFT_CR4_SMEP) == 0;
	}
	if (idx == SOFT_MMU_KERNEL && us && (cpu->cr4 & SOFT_CR4_SMAP) != 0)
		return false;
	if ((access & VMM_PROT_WRITE) != 0 && !rw)
		return !user && (cpu->cr0 & SOFT_CR0_WP) == 0;
	return true;
}

/* The bits that must be zero in an entry of a level (4: PML4). */
static inline uint64_t
mmu_reserved(const struct soft_cpu *cpu, unsigned level, uint64_t e)
{
	uint64_t rsvd = MMU_ADDR & ~((1ul << cpu->phys_bits) - 1);

	if ((cpu->efer & SOFT_EFER_NXE) == 0)
		rsvd |= MMU_NX;
	if (!soft_long(cpu))
		rsvd |= 0x7ff0000000000000ul;
	if (level == 4)
		rsvd |= MMU_PS;
	else if (level == 3 && (e & MMU_PS) != 0)
		rsvd |= 0x3fffe000ul;
	else if (level == 2 && (e & MMU_PS) != 0)
		rsvd |= 0x1fe000ul;
	return e & rsvd;
}

/* Ends a walk: rights, then A on the way down and A, D in the leaf. */
static int
mmu_finish(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    struct mmu_step *st, unsigned n, bool wide, bool us, bool rw, bool nx,
    struct mmu_leaf *leaf)
{
	bool write = (access & VMM_PROT_WRITE) != 0;
	struct mmu_step *last = &st[n - 1];
	int r;

	if (cpu->walk_quiet)
		return SOFT_OK;
	if (!mmu_allowed(cpu, access, idx, us, rw, nx))
		return mmu_page_fault(cpu, va, access, idx, MMU_ERR_P);
	for (unsigned i = 0; i + 1 < n; i++) {
		r = mmu_mark(cpu, &st[i], MMU_A, wide);
		if (r != SOFT_OK)
			return r;
	}
	r = mmu_mark(cpu, last, write ? MMU_A | MMU_D : MMU_A, wide);
	if (r != SOFT_OK)
		return r;
	leaf->writable = (last->entry & MMU_D) != 0 &&
	    mmu_allowed(cpu, VMM_PROT_WRITE, idx, us, rw, nx);
	leaf->global = (last->entry & MMU_G) != 0 &&
	    (cpu->cr4 & SOFT_CR4_PGE) != 0;
	return SOFT_OK;
}

/* A walk whose upper levels are known. */
static int
mmu_walk_last(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    const struct soft_pwc_entry *p, struct mmu_leaf *leaf)
{
	unsigned off = (va >> VMM_PAGE_SHIFT & 511) * 8;
	struct mmu_step s = { .gpa = p->gpa + off, .host = p->host + off };
	uint64_t e = __atomic_load_n((uint64_t *)(uintptr_t)s.host,
	    __ATOMIC_RELAXED);

	s.entry = e;
	if ((e & MMU_P) == 0)
		return mmu_page_fault(cpu, va, access, idx, 0);
	if (mmu_reserved(cpu, 1, e) != 0)
		return mmu_page_fault(cpu, va, access, idx,
		    MMU_ERR_P | MMU_ERR_RSVD);
	leaf->shift = VMM_PAGE_SHIFT;
	leaf->gpa = (e & MMU_ADDR) | (va & VMM_PAGE_MASK);
	return mmu_finish(cpu, va, access, idx, &s, 1, true,
	    p->us && (e & MMU_US) != 0, p->rw && (e & MMU_RW) != 0,
	    p->nx || (e & MMU_NX) != 0, leaf);
}

/* Four levels, or the lower two of PAE's three. */
static int
mmu_walk_wide(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    struct mmu_leaf *leaf)
{
	struct mmu_step st[4];
	bool us = true, rw = true, nx = false;
	unsigned level = 4, n = 0, shift;
	uint64_t table = cpu->cr3, e;
	struct soft_pwc_entry *p =
	    &cpu->pwc[(va >> 21) & (SOFT_PWC_SIZE - 1)], new = { .us = true };
	int r;

	if (p->tag == va >> 21 && p->gen == cpu->pwc_gen && !cpu->walk_quiet)
		return mmu_walk_last(cpu, va, access, idx, p, leaf);
	if (!soft_long(cpu)) {
		if (cpu->pdptes_stale) {
			r = soft_load_pdptes(cpu, cpu->cr3);
			if (r != SOFT_OK)
				return r;
		}
		table = cpu->pdpte[(va >> 30) & 3];
		if ((table & MMU_P) == 0)
			return mmu_page_fault(cpu, va, access, idx, 0);
		level = 2;
	}
	for (;; level--) {
		shift = VMM_PAGE_SHIFT + 9 * (level - 1);
		st[n].gpa = (table & MMU_ADDR) + ((va >> shift) & 511) * 8;
		r = mmu_load(cpu, &st[n], true);
		if (r != SOFT_OK)
			return r;
		e = st[n++].entry;
		if ((e & MMU_P) == 0)
			return mmu_page_fault(cpu, va, access, idx, 0);
		if (mmu_reserved(cpu, level, e) != 0)
			return mmu_page_fault(cpu, va, access, idx,
			    MMU_ERR_P | MMU_ERR_RSVD);
		if (level == 1)
			new = (struct soft_pwc_entry){ .tag = va >> 21,
				.gen = cpu->pwc_gen, .us = us, .rw = rw,
				.nx = nx, .gpa = st[n - 1].gpa &
				~VMM_PAGE_MASK, .host = st[n - 1].host &
				~VMM_PAGE_MASK };
		us &= (e & MMU_US) != 0;
		rw &= (e & MMU_RW) != 0;
		nx |= (e & MMU_NX) != 0;
		if (level == 1 || (level < 4 && (e & MMU_PS) != 0))
			break;
		table = e;
	}
	leaf->shift = (uint8_t)shift;
	leaf->gpa = (e & MMU_ADDR & ~((1ul << shift) - 1)) |
	    (va & ((1ul << shift) - 1));
	r = mmu_finish(cpu, va, access, idx, st, n, true, us, rw, nx, leaf);
	/* Accessed bits are set now, and a table in no memory has no host. */
	if (r == SOFT_OK && n == 4 && new.host != 0 && !cpu->walk_quiet &&
	    new.gen == cpu->pwc_gen)
		*p = new;
	return r;
}

/* Two levels of 32-bit entries. */
static int
mmu_walk_narrow(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    struct mmu_leaf *leaf)
{
	struct mmu_step st[2];
	bool us, rw;
	uint64_t e;
	int r;

	st[0].gpa = (cpu->cr3 & 0xfffff000ul) + ((va >> 22) & 1023) * 4;
	r = mmu_load(cpu, &st[0], false);
	if (r != SOFT_OK)
		return r;
	e = st[0].entry;
	if ((e & MMU_P) == 0)
		return mmu_page_fault(cpu, va, access, idx, 0);
	us = (e & MMU_US) != 0;
	rw = (e & MMU_RW) != 0;
	if ((e & MMU_PS) != 0 && (cpu->cr4 & SOFT_CR4_PSE) != 0) {
		leaf->shift = 22;
		/* PSE-36: bits 13-20 are address bits 32-39. */
		if ((e & 0x200000) != 0)
			return mmu_page_fault(cpu, va, access, idx,
			    MMU_ERR_P | MMU_ERR_RSVD);
		leaf->gpa = (e & 0xffc00000ul) | ((e >> 13 & 0xff) << 32) |
		    (va & 0x3fffff);
		return mmu_finish(cpu, va, access, idx, st, 1, false, us, rw,
		    false, leaf);
	}
	st[1].gpa = (e & 0xfffff000ul) + ((va >> 12) & 1023) * 4;
	r = mmu_load(cpu, &st[1], false);
	if (r != SOFT_OK)
		return r;
	e = st[1].entry;
	if ((e & MMU_P) == 0)
		return mmu_page_fault(cpu, va, access, idx, 0);
	us &= (e & MMU_US) != 0;
	rw &= (e & MMU_RW) != 0;
	leaf->shift = VMM_PAGE_SHIFT;
	leaf->gpa = (e & 0xfffff000ul) | (va & VMM_PAGE_MASK);
	return mmu_finish(cpu, va, access, idx, st, 2, false, us, rw, false,
	    leaf);
}

int
mmu_walk(struct soft_cpu *cpu, gva_t va, int access, unsigned idx,
    struct mmu_leaf *leaf)
{
	if ((cpu->cr0 & SOFT_CR0_PG) == 0) {
		*leaf = (struct mmu_leaf){ .gpa = va & 0xffffffff,
			.writable = true, .shift = VMM_PAGE_SHIFT };
		return SOFT_OK;
	}
	if ((cpu->cr4 & SOFT_CR4_PAE) != 0)
		return mmu_walk_wide(cpu, va, access, idx, leaf);
	return mmu_walk_narrow(cpu, va, access, idx, leaf);
}

int
soft_load_pdptes(struct soft_cpu *cpu, uint64_t cr3)
{
	uint64_t rsvd = 0x1e6ul | ~((1ul << cpu->phys_bits) - 1);
	struct mmu_step s;
	uint64_t v[4];
	int r;

again:
	for (unsigned i = 0; i < 4; i++) {
		s.gpa = (cr3 & 0xffffffe0ul) + i * 8;
		r = mmu_load(cpu, &s, true);
		if (r == MMU_AGAIN)
			goto again;
		if (r != SOFT_OK)
			return r;
		v[i] = s.entry;
		if ((v[i] & MMU_P) != 0 && (v[i] & rsvd) != 0)
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	}
	for (unsigned i = 0; i < 4; i++)
		cpu->pdpte[i] = v[i];
	cpu->pdptes_stale = false;
	return SOFT_OK;
}

int
soft_gva_to_gpa(struct soft_cpu *cpu, gva_t gva, int access, gpa_t *gpap)
{
	struct vmm_exit saved = cpu->exit;
	struct soft_exc exc = cpu->exc;
	bool pending = cpu->exit_pending;
	struct mmu_leaf leaf;
	int r;

	if (soft_long(cpu) ? !soft_canonical(gva) : gva >> 32 != 0)
		return -EFAULT;
	soft_enter(cpu);
	cpu->walk_quiet = true;
	do
		r = mmu_walk(cpu, gva, access, SOFT_MMU_KERNEL_AC, &leaf);
	while (r == MMU_AGAIN);
	cpu->walk_quiet = false;
	soft_leave(cpu);
	cpu->exit = saved;
	cpu->exc = exc;
	cpu->exit_pending = pending;
	if (r != SOFT_OK)
		return -EFAULT;
	*gpap = leaf.gpa;
	return 0;
}
