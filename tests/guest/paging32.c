/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two-level paging with 4 KB and 4 MB pages, and PAE with its PDPTEs.
 */
#include "guest32.h"

#define VA 0x40000000u
#define ERR_P 1
#define ERR_W 2
#define ERR_U 4
#define ERR_RSVD 8
#define ERR_I 16

SNIPPET(s_load, "mov %cs:(%edi), %eax");
SNIPPET(s_store, "mov %esi, %ss:(%edi)");
SNIPPET(s_call, "call *%edi");
SNIPPET(s_cr3, "mov %edi, %cr3");

static uint32_t *q_data;

static void
q_expect_pf(unsigned vector, uint32_t err, uint32_t cr2, int line)
{
	if (vector != 14)
		guest_fail("page fault expected", line, vector, 14);
	else if (guest_trap.error != err)
		guest_fail("error code", line, guest_trap.error, err);
	else if (guest_trap.cr2 != cr2)
		guest_fail("CR2", line, guest_trap.cr2, cr2);
}
#define PF(v, err, cr2) q_expect_pf(v, err, cr2, __LINE__)
#define OK(v) CHECK_EQ(v, GUEST_DONE)

static void
q_two_level(void)
{
	uint32_t *pd = guest_page(), *pt = guest_page();

	/* the first 64 MB for everybody, by 4 MB pages */
	for (unsigned i = 0; i < 16; i++)
		pd[i] = i << 22 | 0x87;
	pd[VA >> 22] = (uint32_t)pt | 7;
	pt[0] = (uint32_t)q_data | 7;
	pt[1] = (uint32_t)q_data | 3;
	pt[2] = (uint32_t)q_data | 5;
	wrcr4(0x10);
	wrcr3((word)pd);
	wrcr0(rdcr0() | 0x80010000);
	*q_data = 0x12345678;
	OK(USER(s_load, VA, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0x12345678);
	CHECK_EQ(pt[0] & 0x60, 0x20);
	CHECK_EQ(pd[VA >> 22] & 0x20, 0x20);
	OK(USER(s_store, VA, 0x77));
	CHECK_EQ(*q_data, 0x77);
	CHECK_EQ(pt[0] & 0x60, 0x60);
	PF(USER(s_load, VA + 0x1000, 0), ERR_P | ERR_U, VA + 0x1000);
	PF(USER(s_store, VA + 0x2000, 0), ERR_P | ERR_U | ERR_W, VA + 0x2000);
	PF(KERNEL(s_store, VA + 0x2000, 0), ERR_P | ERR_W, VA + 0x2000);
	wrcr0(rdcr0() & ~0x10000u);
	OK(KERNEL(s_store, VA + 0x2004, 0x88));
	wrcr0(rdcr0() | 0x10000);
	CHECK_EQ(q_data[1], 0x88);
	PF(USER(s_load, VA + 0x3000, 0), ERR_U, VA + 0x3000);
	PF(KERNEL(s_load, VA + 0x400000, 0), 0, VA + 0x400000);
	/* 4 MB pages: dirty bit in the directory; a reserved bit */
	pd[9] &= ~0x60u;
	wrcr3((word)pd);
	OK(KERNEL(s_store, 0x2400010, 0x99));
	CHECK_EQ(pd[9] & 0x60, 0x60);
	pd[VA >> 22 | 2] = 0x2400087;
	OK(USER(s_load, VA + 0x800010, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0x99);
	pd[VA >> 22 | 2] = 0x2600087; /* bit 21 */
	invlpg(VA + 0x900000);
	PF(USER(s_load, VA + 0x800010, 0), ERR_P | ERR_U | ERR_RSVD,
	    VA + 0x800010);
	/* Without PSE the bit is ignored. */
	pt[0x10] = 0;
	*(uint8_t *)q_data = 0xc3;
	OK(USER(s_call, VA, 0));
	wrcr0(rdcr0() & ~0x80000000u);
}

static void
q_pae(void)
{
	uint64_t *pdpt = guest_page(), *pd = guest_page(), *pt = guest_page();
	uint64_t *pd1 = guest_page();
	uint32_t r[4];

	for (unsigned i = 0; i < 32; i++)
		pd[i] = (uint64_t)i << 21 | 0x87;
	pdpt[0] = (uint32_t)pd | 1;
	pdpt[1] = (uint32_t)pd1 | 1;
	pd1[0] = (uint32_t)pt | 7;
	pt[0] = (uint32_t)q_data | 7;
	wrcr3((word)pdpt);
	wrcr4(rdcr4() | 0x20);
	cpuid(0x80000001, 0, r);
	if ((r[3] & 1 << 20) != 0)
		wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
	wrcr0(rdcr0() | 0x80010000);
	*q_data = 0x4711;
	OK(USER(s_load, VA, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0x4711);
	CHECK_EQ(pt[0] & 0x60, 0x20);
	CHECK_EQ(pdpt[1], (uint32_t)pd1 | 1); /* no accessed bit there */
	OK(USER(s_store, VA, 0x4712));
	CHECK_EQ(pt[0] & 0x60, 0x60);
	PF(USER(s_load, 2 * VA, 0), ERR_U, 2 * VA);
	PF(KERNEL(s_load, VA + 0x200000, 0), 0, VA + 0x200000);
	/* NX, and reserved bits above the physical address */
	if ((r[3] & 1 << 20) != 0) {
		pt[0] |= PTE_NX;
		invlpg(VA);
		*(uint8_t *)q_data = 0xc3;
		PF(USER(s_call, VA, 0), ERR_P | ERR_U | ERR_I, VA);
		OK(USER(s_load, VA, 0));
		pt[0] &= ~PTE_NX;
		invlpg(VA);
		OK(USER(s_call, VA, 0));
	}
	pt[1] = (uint32_t)q_data | 7 | 1ull << 60;
	PF(USER(s_load, VA + 0x1000, 0), ERR_P | ERR_U | ERR_RSVD,
	    VA + 0x1000);
	/* PDPTEs are loaded with CR3 only. */
	pdpt[1] = 0;
	invlpg(VA);
	OK(USER(s_load, VA, 0));
	wrcr3((word)pdpt);
	PF(USER(s_load, VA, 0), ERR_U, VA);
	pdpt[1] = (uint32_t)pd1 | 1 | 2; /* a reserved bit */
	CHECK_EQ(KERNEL(s_cr3, (uint32_t)pdpt, 0), 13);
	CHECK_EQ(guest_trap.rip, (word)s_cr3);
	pdpt[1] = (uint32_t)pd1 | 1;
	wrcr3((word)pdpt);
	OK(USER(s_load, VA, 0));
	wrcr0(rdcr0() & ~0x80000000u);
	wrcr4(0);
}

void
guest_test(void)
{
	q_data = guest_page();
	q_two_level();
	q_pae();
}
