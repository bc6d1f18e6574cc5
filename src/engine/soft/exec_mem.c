/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The executor's memory operands.
 *
 * An operand in one page of ordinary memory is used in place, so that LOCKed
 * and read-modify-write instructions are what they are on hardware.  All else
 * goes through cpu->bounce: device memory, pages that hold translated code,
 * and operands that cross a page.  The bounce address has the operand's low
 * bits, so that an instruction that faults on alignment still does.
 *
 * Order: every page is checked for the access first, then the instruction
 * runs, then its result is written.  A write that can still fail after that
 * (device memory whose access leaves run()) finds the registers restored: the
 * instruction will run again.
 */
#include <errno.h>
#include <stdlib.h>

#include "engine/soft/exec_int.h"

/* LOCKed operands across pages, process-wide; host pointers only under it. */
static struct lock exec_split_lock;
static pthread_once_t exec_split_once = PTHREAD_ONCE_INIT;

static void
exec_split_init(void)
{
	lock_init(&exec_split_lock, "split", LOCK_RANK_LEAF);
}

int
exec_probe(struct soft_cpu *cpu, gva_t la, unsigned n, int access)
{
	gva_t last = (la + n - 1) & ~VMM_PAGE_MASK;
	int ret;

	if (exec_tlb(cpu, la, 1, access & VMM_PROT_WRITE) == NULL) {
		ret = soft_tlb_fill(cpu, la, 1, access);
		if (ret == SOFT_FAULT || ret == SOFT_EXIT || ret < 0)
			return ret;
	}
	if (last == (la & ~VMM_PAGE_MASK))
		return SOFT_OK;
	if (exec_tlb(cpu, last, 1, access & VMM_PROT_WRITE) == NULL) {
		ret = soft_tlb_fill(cpu, last, 1, access);
		if (ret == SOFT_FAULT || ret == SOFT_EXIT || ret < 0)
			return ret;
	}
	return SOFT_OK;
}

int
exec_load(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    uint64_t *valp)
{
	gva_t la;
	void *p;
	int ret;

	ret = exec_linear(cpu, seg, off, n, VMM_PROT_READ, &la);
	if (ret != SOFT_OK)
		return ret;
	p = exec_tlb(cpu, la, n, false);
	if (p != NULL) {
		*valp = exec_get(p, n);
		return SOFT_OK;
	}
	*valp = 0;
	return soft_read(cpu, la, valp, n, false);
}

int
exec_store(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    uint64_t val)
{
	gva_t la;
	void *p;
	int ret;

	ret = exec_linear(cpu, seg, off, n, VMM_PROT_WRITE, &la);
	if (ret != SOFT_OK)
		return ret;
	p = exec_tlb(cpu, la, n, true);
	if (p != NULL) {
		exec_put(p, n, val);
		return SOFT_OK;
	}
	return soft_write(cpu, la, &val, n, false);
}

/* What a thunk may change, to take it back. */
struct exec_saved {
	uint64_t gpr[16];
	uint32_t flags;
	uint8_t xsave[sizeof(((struct soft_cpu *)0)->xsave)];
};

static void
exec_save(const struct soft_cpu *cpu, const struct exec_op *x,
    struct exec_saved *s)
{
	memcpy(s->gpr, cpu->gpr, sizeof(s->gpr));
	s->flags = cpu->flags_saved;
	if (x->vec)
		memcpy(s->xsave, cpu->xsave, sizeof(s->xsave));
}

static void
exec_restore(struct soft_cpu *cpu, const struct exec_op *x,
    const struct exec_saved *s)
{
	memcpy(cpu->gpr, s->gpr, sizeof(s->gpr));
	cpu->flags_saved = s->flags;
	if (x->vec)
		memcpy(cpu->xsave, s->xsave, sizeof(s->xsave));
}

/* Host pointers to both halves of an operand that crosses into ordinary
 * memory on each side.  => SOFT_OK, SOFT_SLOW (not ordinary), else as usual */
static int
exec_two_ptrs(struct soft_cpu *cpu, gva_t la, unsigned n, int access,
    void *p[2])
{
	unsigned n0 = VMM_PAGE_SIZE - (la & VMM_PAGE_MASK);
	uint64_t seq;
	int ret;

	do {
		ret = soft_ptr(cpu, la, n0, access, &p[0]);
		if (ret != SOFT_OK)
			return ret;
		seq = cpu->pmap_seq;
		ret = soft_ptr(cpu, la + n0, n - n0, access, &p[1]);
		if (ret != SOFT_OK)
			return ret;
	} while (seq != cpu->pmap_seq);
	/* Translated code there: soft_write() takes care of both pages. */
	return cpu->smc ? SOFT_SLOW : SOFT_OK;
}

static int
exec_thunk_cross(struct soft_cpu *cpu, struct exec_op *x, gva_t la, unsigned n,
    void *p[2])
{
	unsigned n0 = VMM_PAGE_SIZE - (la & VMM_PAGE_MASK);
	int access = x->in->mem_access, ret;
	uint8_t *b = cpu->bounce + (la & 63);

	memcpy(b, p[0], n0);
	memcpy(b + n0, p[1], n - n0);
	ret = exec_thunk_run(cpu, x, b);
	if (ret == SOFT_OK && access & VMM_PROT_WRITE) {
		memcpy(p[0], b, n0);
		memcpy(p[1], b + n0, n - n0);
	}
	return ret;
}

static int
exec_thunk_cross_locked(struct soft_cpu *cpu, struct exec_op *x, gva_t la,
    unsigned n, void *p[2])
{
	int ret;

	pthread_once(&exec_split_once, exec_split_init);
	lock_acquire(&exec_split_lock);
	ret = exec_thunk_cross(cpu, x, la, n, p);
	lock_release(&exec_split_lock);
	return ret;
}

static __attribute__((noinline)) int
exec_thunk_slow(struct soft_cpu *cpu, struct exec_op *x, gva_t la, unsigned n)
{
	int access = x->in->mem_access, ret = SOFT_OK;
	uint8_t *b = cpu->bounce + (la & 63);
	struct exec_saved *saved;
	void *p[2];

	KASSERT(n + 64 <= sizeof(cpu->bounce), "operand of %u bytes", n);
	if (access & VMM_PROT_WRITE) {
		ret = exec_probe(cpu, la, n, access);
		if (ret != SOFT_OK)
			return ret;
	}
	if ((la & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE) {
		ret = exec_two_ptrs(cpu, la, n, access, p);
		if (ret == SOFT_OK && access == VMM_PROT_RW)
			return exec_thunk_cross_locked(cpu, x, la, n, p);
		if (ret == SOFT_OK)
			return exec_thunk_cross(cpu, x, la, n, p);
		if (ret != SOFT_SLOW)
			return ret;
		ret = SOFT_OK; /* by soft_read() and soft_write() */
	}
	if (access & VMM_PROT_READ)
		ret = soft_read(cpu, la, b, n, false);
	else
		memset(b, 0, n);
	if (ret != SOFT_OK)
		return ret;
	if (!(access & VMM_PROT_WRITE))
		return exec_thunk_run(cpu, x, b);
	saved = malloc(sizeof(*saved));
	if (saved == NULL)
		return -ENOMEM;
	exec_save(cpu, x, saved);
	ret = exec_thunk_run(cpu, x, b);
	if (ret == SOFT_OK) {
		ret = soft_write(cpu, la, b, n, false);
		if (ret != SOFT_OK)
			exec_restore(cpu, x, saved);
	}
	free(saved);
	return ret;
}

/*
 * A fault of translation at a misaligned operand: an instruction that demands
 * alignment would not have come that far.  Whether this one does, it shows on
 * the bounce buffer.
 */
int
exec_thunk_misaligned(struct soft_cpu *cpu, struct exec_op *x, gva_t la,
    int ret)
{
	struct soft_exc exc = cpu->exc;
	unsigned n = x->in->mem_bytes;
	struct exec_saved *saved;

	if (ret != SOFT_FAULT || (n != 16 && n != 32) || !(la & (n - 1)) ||
	    (exc.vector != SOFT_EXC_PF && exc.vector != SOFT_EXC_SS))
		return ret;
	saved = malloc(sizeof(*saved));
	if (saved == NULL)
		return -ENOMEM;
	exec_save(cpu, x, saved);
	memset(cpu->bounce, 0, 128);
	if (exec_thunk_run(cpu, x, cpu->bounce + (la & 63)) != SOFT_FAULT ||
	    cpu->exc.vector != SOFT_EXC_GP)
		cpu->exc = exc;
	exec_restore(cpu, x, saved);
	free(saved);
	return SOFT_FAULT;
}

int
exec_thunk_mem(struct soft_cpu *cpu, struct exec_op *x, gva_t la, unsigned n)
{
	void *p;
	int ret;

	if ((la & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE) {
		ret = exec_thunk_slow(cpu, x, la, n);
	} else {
		ret = exec_ptr(cpu, la, n, x->in->mem_access, &p);
		if (ret == SOFT_OK)
			return exec_thunk_run(cpu, x, p);
		if (ret == SOFT_SLOW)
			ret = exec_thunk_slow(cpu, x, la, n);
	}
	return exec_thunk_misaligned(cpu, x, la, ret);
}
