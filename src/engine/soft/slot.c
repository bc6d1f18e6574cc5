/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slots: one remembered translation per place in translated code.
 *
 * A memory operand is checked against its own slot first, whose contents do
 * not depend on the address and are loaded early; the sum that gives the host
 * address is part of the access itself.  On a miss the refill code
 * (xlate_slot.c) looks into the TLB and fills the slot with one page; C is
 * called when the TLB has none, when the operand crosses a page, and every
 * SLOT_BUDGET misses.
 *
 * C may fill a slot with several pages in a row that lie in a row in host
 * memory too: that lets operands cross between them, and helps where a place
 * goes about in a large buffer.  Where misses come quickly nevertheless, the
 * block is translated anew, with this place looking into the TLB always.
 *
 * A slot is good while the TLB is: whatever drops an entry, or its tag_w,
 * empties all slots in use.  An entry that merely made room for another may
 * live on in slots.  A slot belongs to one place, which is for reading or
 * writing by one mmu index, until all code is dropped; the common slots of the
 * stack (xlate_slot.c) likewise are for one size and kind of access.
 *
 * This file is compiled for general registers only, see run.c.
 */
#include "engine/soft/code_int.h"

#define SLOT_BUDGET 64
#define SLOT_QUICK 1000u /* time stamps per miss: less is quick */
#define SLOT_TRIES 3u	/* evaluations before the slot is given up */
#define SLOT_RUN 256u	/* pages to look at, each way */

void
soft_slot_flush_index(struct soft_cpu *cpu, unsigned idx)
{
	uint8_t *base = (uint8_t *)cpu->slot;

	for (uint32_t i = 0; i < cpu->slot_n[idx]; i++)
		((struct soft_slot *)(void *)(base + cpu->slot_used[idx][i]))
		    ->len = 0;
	cpu->slot_n[idx] = 0;
}

void
soft_slot_flush(struct soft_cpu *cpu)
{
	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++)
		soft_slot_flush_index(cpu, m);
}

/*
 * Those that may cover the page of va.  A kernel invalidates the user's pages
 * often, and only uses them itself with SMAP open: most of its slots need no
 * look.
 */
void
soft_slot_flush_page(struct soft_cpu *cpu, gva_t va)
{
	uint8_t *base = (uint8_t *)cpu->slot;
	uint64_t page = va & ~VMM_PAGE_MASK;

	for (unsigned m = 0; m < SOFT_MMU_COUNT; m++) {
		uint32_t n = 0;

		if (!cpu->tlb_has[m][va >> 63][0] &&
		    !cpu->tlb_has[m][va >> 63][1])
			continue;
		for (uint32_t i = 0; i < cpu->slot_n[m]; i++) {
			uint32_t at = cpu->slot_used[m][i];
			struct soft_slot *sl =
			    (struct soft_slot *)(void *)(base + at);

			/* len lacks the operand's size: less than a page */
			if (page - sl->start < sl->len + VMM_PAGE_SIZE)
				sl->len = 0;
			else
				cpu->slot_used[m][n++] = at;
		}
		cpu->slot_n[m] = n;
	}
}

/* => the page is in the TLB, with *addend */
static bool
slot_tlb(const struct soft_cpu *cpu, uint64_t va, bool write, uint64_t *addend)
{
	const struct soft_tlb_entry *e = &cpu->tlb[cpu->mmuidx]
	    [(va >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

	*addend = e->addend;
	return (write ? e->tag_w : e->tag_r) == (va & ~VMM_PAGE_MASK);
}

/*
 * Fills the slot around va with up to `run` more pages each way.
 * => the span is covered
 */
static bool
slot_fill(struct soft_cpu *cpu, const struct code_slot_site *ss, uint64_t va,
    bool write, unsigned run)
{
	struct soft_slot *sl = (struct soft_slot *)(void *)
	    ((uint8_t *)cpu->slot + ss->slot);
	unsigned idx = cpu->mmuidx;
	uint64_t addend, a, lo = va & ~VMM_PAGE_MASK, hi = lo + VMM_PAGE_SIZE;

	if (!slot_tlb(cpu, va, write, &addend))
		return false;
	for (unsigned i = 0; i < run && hi != 0 && slot_tlb(cpu, hi, write,
	    &a) && a == addend; i++)
		hi += VMM_PAGE_SIZE;
	for (unsigned i = 0; i < run && lo != 0 && slot_tlb(cpu, lo - 1, write,
	    &a) && a == addend; i++)
		lo -= VMM_PAGE_SIZE;
	if (sl->len == 0 && cpu->slot_n[idx] == SOFT_SLOTS_USED)
		soft_slot_flush(cpu);
	if (sl->len == 0)
		cpu->slot_used[idx][cpu->slot_n[idx]++] = ss->slot;
	sl->start = lo;
	sl->addend = addend;
	sl->len = hi - lo - (ss->span - 1);
	return va - lo < sl->len;
}

/* The budget is spent. => pages to fill the slot with, -1: give it up */
static int
slot_judge(struct soft_slot *sl)
{
	uint32_t now = (uint32_t)(__builtin_ia32_rdtsc() >> 10);
	uint32_t took = now - sl->when;

	sl->when = now;
	sl->budget = SLOT_BUDGET;
	if (took > SLOT_BUDGET * SLOT_QUICK >> 10) {
		if (sl->fast > 0)
			sl->fast--;
		return 0;
	}
	return ++sl->fast > SLOT_TRIES ? -1 : (int)SLOT_RUN;
}

/*
 * An operand across two pages that are both in the TLB: it is loaded from, or
 * will be stored to, cpu->split.
 */
static bool
slot_split(struct soft_cpu *cpu, uint64_t va, unsigned n, bool write)
{
	unsigned first = (unsigned)(VMM_PAGE_SIZE - (va & VMM_PAGE_MASK));
	uint8_t *buf = cpu->split + (va & 63);
	uint64_t a, b;

	if (n > 64 || !slot_tlb(cpu, va, write, &a) ||
	    !slot_tlb(cpu, va + first, write, &b))
		return false;
	cpu->bounce_va = va;
	cpu->bounce_n = n;
	cpu->bounce_first = first;
	cpu->bounce_host[0] = va + a;
	cpu->bounce_host[1] = va + b;
	cpu->bounce_addend = (uint64_t)(uintptr_t)buf - va;
	for (unsigned i = 0; i < n && !write; i++)
		buf[i] = *(const volatile uint8_t *)(uintptr_t)
		    (cpu->bounce_host[i >= first] + i);
	return true;
}

void
soft_slot_store(struct soft_cpu *cpu)
{
	const uint8_t *buf = cpu->split + (cpu->bounce_va & 63);

	for (unsigned i = 0; i < cpu->bounce_n; i++)
		*(volatile uint8_t *)(uintptr_t)(cpu->bounce_host
		    [i >= cpu->bounce_first] + i) = buf[i];
}

uint64_t
soft_slot_miss(struct soft_cpu *cpu, const struct code_site *s, uint64_t va)
{
	const struct code_slot_site *ss = (const void *)(s + 1);
	struct soft_slot *sl = (struct soft_slot *)(void *)
	    ((uint8_t *)cpu->slot + ss->slot);
	uint64_t own = va + ((uint32_t)s->sp & 0xffff), seq = cpu->pmap_seq, a;
	unsigned n = (uint32_t)s->sp >> 16;
	bool live = cpu->fpu_live != 0, write = s->kind == CODE_S_WRITE;
	bool cross = (own & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE;
	bool span_cross = (va & VMM_PAGE_MASK) + ss->span > VMM_PAGE_SIZE;
	int r = SOFT_OK, run = 0;

	if (cross || !slot_tlb(cpu, own, write, &a))
		r = soft_tlb_fill(cpu, own, n, write ? VMM_PROT_WRITE :
		    VMM_PROT_READ);
	if (r == SOFT_OK && cpu->pmap_seq != seq) {
		/* Host addresses from before are stale. */
		cpu->out_why = CODE_LOOKUP;
		return 0;
	}
	if (r == SOFT_OK || (r == SOFT_SLOW && cross)) {
		if (live)
			soft_fpu_get(cpu);
		if (ss->write && !write && !slot_tlb(cpu, own, true, &a))
			return cpu->code_base + ss->plain;
		if (ss->full && !span_cross)
			return cpu->code_base + ss->hot;
		if (sl->budget < 0)
			run = ss->full ? 0 : slot_judge(sl);
		if (run < 0) {
			/* Once more, and then otherwise. */
			cpu->full_pos = ss->hot;
			cpu->out_why = CODE_LOOKUP;
			return 0;
		}
		if (!ss->full && slot_fill(cpu, ss, va, ss->write, span_cross && run == 0 ? 1 :
		    (unsigned)run))
			return cpu->code_base + ss->hot;
		if (cross && ss->split != 0 && slot_split(cpu, own, n, write))
			return cpu->code_base + ss->split;
		r = SOFT_SLOW;
	}
	cpu->out_why = r == SOFT_FAULT && !(s->n & CODE_SITE_VEC) ?
	    CODE_FAULT : r == SOFT_EXIT ? CODE_EXIT : CODE_STEP;
	return 0;
}
