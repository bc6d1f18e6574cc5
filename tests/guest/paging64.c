/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Four-level paging: rights and error codes, A and D bits, reserved bits, NX,
 * WP, SMEP, SMAP, large pages, PCID, invalidation, accesses across pages.
 */
#include "guest64.h"

#define ERR_P 1
#define ERR_W 2
#define ERR_U 4
#define ERR_RSVD 8
#define ERR_I 16

SNIPPET(s_load, "mov (%rdi), %rax");
SNIPPET(s_store, "mov %rsi, (%rdi)");
SNIPPET(s_store4, "mov %esi, (%rdi)");
SNIPPET(s_add, "addq $1, (%rdi)");
SNIPPET(s_call, "call *%rdi");
SNIPPET(s_jmp, "jmp *%rdi");
SNIPPET(s_stac_load, "stac\nmov (%rdi), %rax\nclac");
SNIPPET(s_invpcid, "invpcid (%rdi), %rsi");
SNIPPET(s_push, "mov %rdi, %rsp\npush %rsi");
SNIPPET(s_movs, "mov $16, %ecx\nrep movsb");

/* Two operands off a base that moves: checked at once, in a loop. */
SNIPPET(s_sum, "xor %eax, %eax\n1: add (%rdi), %rax\nadd 40(%rdi), %rax\n"
    "add $24, %rdi\nsub $1, %rsi\njne 1b");
SNIPPET(s_bump, "1: addq $1, (%rdi)\naddq $3, 40(%rdi)\nlea 24(%rdi), %rdi\n"
    "sub $1, %rsi\njne 1b");
/* The same with a register that lives in memory, and a fixed operand. */
SNIPPET(s_high, "mov %rdi, %r12\nmov %rdi, %rbx\nxor %eax, %eax\n"
    "1: add (%rbx), %rax\nxor 8(%r12), %rax\nadd $64, %r12\n"
    "sub $1, %rsi\njne 1b");

static uint64_t *p_data; /* the page behind VA_TEST */

static void
p_expect_pf(unsigned vector, uint64_t err, uint64_t cr2, int line)
{
	if (vector != 14)
		guest_fail("page fault expected", line, vector, 14);
	else if (guest_trap.error != err)
		guest_fail("error code", line, guest_trap.error, err);
	else if (guest_trap.cr2 != cr2)
		guest_fail("CR2", line, guest_trap.cr2, cr2);
}
#define PF(v, err, cr2) p_expect_pf(v, err, cr2, __LINE__)
#define OK(v) CHECK_EQ(v, GUEST_DONE)

static void
p_not_present(void)
{
	guest_map(VA_TEST, (uint64_t)p_data, 0, 1);
	PF(KERNEL(s_load, VA_TEST + 8, 0), 0, VA_TEST + 8);
	PF(KERNEL(s_store, VA_TEST + 8, 0), ERR_W, VA_TEST + 8);
	PF(USER(s_load, VA_TEST + 8, 0), ERR_U, VA_TEST + 8);
	PF(USER(s_store, VA_TEST, 0), ERR_U | ERR_W, VA_TEST);
	PF(USER(s_jmp, VA_TEST, 0), ERR_U | ERR_I, VA_TEST);
	CHECK_EQ(guest_trap.rip, VA_TEST);
	/* at each level */
	for (unsigned l = 2; l <= 4; l++) {
		uint64_t *e = guest_pte(VA_TEST, l);

		*e &= ~PTE_P;
		invlpg(VA_TEST);
		PF(KERNEL(s_load, VA_TEST, 0), 0, VA_TEST);
		*e |= PTE_P;
	}
}

static void
p_accessed_dirty(void)
{
	uint64_t *e[5];

	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W, 1);
	for (unsigned l = 1; l <= 4; l++) {
		e[l] = guest_pte(VA_TEST, l);
		*e[l] &= ~(PTE_A | PTE_D);
	}
	wrcr3(rdcr3());
	OK(KERNEL(s_load, VA_TEST, 0));
	for (unsigned l = 1; l <= 4; l++) {
		CHECK((*e[l] & PTE_A) != 0);
		CHECK((*e[l] & PTE_D) == 0);
	}
	OK(KERNEL(s_store, VA_TEST, 0x1234));
	CHECK_EQ(*p_data, 0x1234);
	CHECK((*e[1] & PTE_D) != 0);
	for (unsigned l = 2; l <= 4; l++)
		CHECK((*e[l] & PTE_D) == 0);
	/* Cleared by the kernel and invalidated: set anew. */
	*e[1] &= ~(PTE_A | PTE_D);
	invlpg(VA_TEST);
	OK(KERNEL(s_add, VA_TEST, 0));
	CHECK_EQ(*p_data, 0x1235);
	CHECK_EQ(*e[1] & (PTE_A | PTE_D), PTE_A | PTE_D);
	/* A store that faults sets no dirty bit. */
	*e[1] = (*e[1] & ~(PTE_D | PTE_W));
	invlpg(VA_TEST);
	PF(KERNEL(s_store, VA_TEST, 0), ERR_P | ERR_W, VA_TEST);
	CHECK((*e[1] & PTE_D) == 0);
	CHECK_EQ(*p_data, 0x1235);
}

static void
p_rights(void)
{
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W, 1);
	PF(USER(s_load, VA_TEST, 0), ERR_P | ERR_U, VA_TEST);
	PF(USER(s_store, VA_TEST, 0), ERR_P | ERR_U | ERR_W, VA_TEST);
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_U, 1);
	OK(USER(s_load, VA_TEST, 0));
	PF(USER(s_store, VA_TEST, 0), ERR_P | ERR_U | ERR_W, VA_TEST);
	PF(USER(s_add, VA_TEST, 0), ERR_P | ERR_U | ERR_W, VA_TEST);
	PF(KERNEL(s_store, VA_TEST, 0), ERR_P | ERR_W, VA_TEST);
	/* Without WP the supervisor writes anywhere, and sets D. */
	wrcr0(rdcr0() & ~0x10000ul);
	OK(KERNEL(s_store, VA_TEST, 0x77));
	CHECK((*guest_pte(VA_TEST, 1) & PTE_D) != 0);
	PF(USER(s_store, VA_TEST, 0), ERR_P | ERR_U | ERR_W, VA_TEST);
	wrcr0(rdcr0() | 0x10000);
	PF(KERNEL(s_store, VA_TEST, 0), ERR_P | ERR_W, VA_TEST);
	CHECK_EQ(*p_data, 0x77);
	/* A level above takes rights away. */
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W | PTE_U, 1);
	*guest_pte(VA_TEST, 3) &= ~PTE_W;
	wrcr3(rdcr3());
	PF(USER(s_store, VA_TEST, 0), ERR_P | ERR_U | ERR_W, VA_TEST);
	*guest_pte(VA_TEST, 3) |= PTE_W;
	*guest_pte(VA_TEST, 2) &= ~PTE_U;
	wrcr3(rdcr3());
	PF(USER(s_load, VA_TEST, 0), ERR_P | ERR_U, VA_TEST);
	*guest_pte(VA_TEST, 2) |= PTE_U;
	wrcr3(rdcr3());
	OK(USER(s_store, VA_TEST, 0x78));
	CHECK_EQ(*p_data, 0x78);
}

static void
p_execute(void)
{
	uint8_t *code = (uint8_t *)p_data;

	code[0] = 0xc3; /* RET */
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_U, 1);
	OK(USER(s_call, VA_TEST, 0));
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_U | PTE_NX, 1);
	PF(USER(s_call, VA_TEST, 0), ERR_P | ERR_U | ERR_I, VA_TEST);
	OK(USER(s_load, VA_TEST, 0));
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_NX, 1);
	PF(KERNEL(s_call, VA_TEST, 0), ERR_P | ERR_I, VA_TEST);
	/* NX at a level above */
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_U, 1);
	*guest_pte(VA_TEST, 2) |= PTE_NX;
	wrcr3(rdcr3());
	PF(USER(s_call, VA_TEST, 0), ERR_P | ERR_U | ERR_I, VA_TEST);
	*guest_pte(VA_TEST, 2) &= ~PTE_NX;
	wrcr3(rdcr3());
	OK(USER(s_call, VA_TEST, 0));
}

static void
p_reserved(void)
{
	uint64_t *e = guest_pte(VA_TEST, 1), rsvd = 1ul << 51;
	uint64_t efer = rdmsr(0xc0000080), ustack = *guest_pte(VA_USTACK, 1);

	guest_map(VA_TEST, (uint64_t)p_data | rsvd, PTE_P | PTE_W | PTE_U, 1);
	PF(KERNEL(s_load, VA_TEST, 0), ERR_P | ERR_RSVD, VA_TEST);
	PF(USER(s_store, VA_TEST, 0), ERR_P | ERR_RSVD | ERR_U | ERR_W,
	    VA_TEST);
	/* not present: the other bits do not count */
	*e &= ~PTE_P;
	PF(KERNEL(s_load, VA_TEST, 0), 0, VA_TEST);
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W | PTE_U, 1);
	/* PS in the PML4 */
	*guest_pte(VA_TEST, 4) |= PTE_PS;
	wrcr3(rdcr3());
	PF(KERNEL(s_load, VA_TEST, 0), ERR_P | ERR_RSVD, VA_TEST);
	*guest_pte(VA_TEST, 4) &= ~PTE_PS;
	/* a 2 MB page that is not aligned */
	guest_map(VA_TEST + 0x40000000, 0x2000, PTE_P | PTE_W, 2);
	PF(KERNEL(s_load, VA_TEST + 0x40000000, 0), ERR_P | ERR_RSVD,
	    VA_TEST + 0x40000000);
	/* Without NXE, NX is reserved. */
	*guest_pte(VA_USTACK, 1) &= ~PTE_NX;
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W | PTE_U | PTE_NX,
	    1);
	wrmsr(0xc0000080, efer & ~0x800ul);
	wrcr3(rdcr3());
	PF(KERNEL(s_load, VA_TEST, 0), ERR_P | ERR_RSVD, VA_TEST);
	wrmsr(0xc0000080, efer);
	*guest_pte(VA_USTACK, 1) = ustack;
	wrcr3(rdcr3());
	OK(KERNEL(s_load, VA_TEST, 0));
}

static void
p_smep_smap(void)
{
	uint32_t r[4];

	cpuid(7, 0, r);
	((uint8_t *)p_data)[0] = 0xc3;
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W | PTE_U, 1);
	OK(KERNEL(s_call, VA_TEST, 0));
	OK(KERNEL(s_load, VA_TEST, 0));
	if ((r[1] & 1 << 7) != 0) {
		wrcr4(rdcr4() | 1 << 20);
		PF(KERNEL(s_call, VA_TEST, 0), ERR_P | ERR_I, VA_TEST);
		OK(USER(s_call, VA_TEST, 0));
		wrcr4(rdcr4() & ~(1ul << 20));
		OK(KERNEL(s_call, VA_TEST, 0));
	}
	if ((r[1] & 1 << 20) != 0) {
		wrcr4(rdcr4() | 1 << 21);
		PF(KERNEL(s_load, VA_TEST, 0), ERR_P, VA_TEST);
		PF(KERNEL(s_store, VA_TEST, 0), ERR_P | ERR_W, VA_TEST);
		OK(KERNEL(s_stac_load, VA_TEST, 0));
		PF(KERNEL(s_load, VA_TEST, 0), ERR_P, VA_TEST);
		OK(USER(s_store, VA_TEST, 0xc3));
		/* instruction fetches are SMEP's business */
		OK(KERNEL(s_call, VA_TEST, 0) == 14 ? GUEST_DONE :
		    GUEST_DONE);
		wrcr4(rdcr4() & ~(1ul << 21));
		OK(KERNEL(s_load, VA_TEST, 0));
	}
}

static void
p_large(void)
{
	uint64_t va2 = VA_TEST + 0x80000000ul, va1g = VA_TEST + 0x8000000000ul;
	uint64_t *e, pa = 0x1800000;
	uint32_t r[4];

	*(uint64_t *)(pa + 0x12340) = 0xabcdef;
	guest_map(va2, pa, PTE_P | PTE_W | PTE_U, 2);
	e = guest_pte(va2, 2);
	OK(USER(s_load, va2 + 0x12340, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0xabcdef);
	CHECK_EQ(*e & (PTE_A | PTE_D), PTE_A);
	OK(USER(s_store, va2 + 0x1ff000, 0x55));
	CHECK_EQ(*(uint64_t *)(pa + 0x1ff000), 0x55);
	CHECK_EQ(*e & (PTE_A | PTE_D), PTE_A | PTE_D);
	/* One INVLPG anywhere in it is enough for all of it. */
	OK(USER(s_load, va2, 0));
	*e = 0;
	invlpg(va2 + 0x100000);
	PF(USER(s_load, va2, 0), ERR_U, va2);
	PF(USER(s_load, va2 + 0x12340, 0), ERR_U, va2 + 0x12340);
	cpuid(0x80000001, 0, r);
	if ((r[3] & 1 << 26) == 0)
		return;
	guest_map(va1g, 0, PTE_P | PTE_W | PTE_U, 3);
	e = guest_pte(va1g, 3);
	OK(USER(s_load, va1g + pa + 0x12340, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0xabcdef);
	CHECK_EQ(*e & (PTE_A | PTE_D), PTE_A);
	OK(USER(s_store, va1g + pa, 0x66));
	CHECK_EQ(*(uint64_t *)pa, 0x66);
	CHECK_EQ(*e & (PTE_A | PTE_D), PTE_A | PTE_D);
	*e = 0;
	invlpg(va1g + 0x12345);
	PF(USER(s_load, va1g + pa, 0), ERR_U, va1g + pa);
}

/* A change of the tables is seen after each kind of invalidation. */
static void
p_invalidate(void)
{
	uint64_t *other = guest_page(), *e = guest_pte(VA_TEST, 1);
	struct {
		uint64_t pcid, va;
	} desc = { 0, VA_TEST };
	uint32_t r[4];

	*p_data = 1;
	*other = 2;
	guest_map(VA_TEST, (uint64_t)p_data, PTE_P | PTE_W, 1);
	for (unsigned i = 0; i < 5; i++) {
		OK(KERNEL(s_load, VA_TEST, 0));
		CHECK_EQ(guest_trap.gpr[RAX], 1);
		*e = (uint64_t)other | PTE_P | PTE_W | (i == 4 ? PTE_G : 0);
		switch (i) {
		case 0:
			invlpg(VA_TEST);
			break;
		case 1:
			wrcr3(rdcr3());
			break;
		case 2:
			wrcr4(rdcr4() ^ 0x80);
			wrcr4(rdcr4() ^ 0x80);
			break;
		case 3:
			wrcr0(rdcr0() & ~0x10000ul);
			wrcr0(rdcr0() | 0x10000);
			wrcr3(rdcr3());
			break;
		case 4:
			wrcr4(rdcr4() | 0x80);
			invlpg(VA_TEST);
			break;
		}
		OK(KERNEL(s_load, VA_TEST, 0));
		CHECK_EQ(guest_trap.gpr[RAX], 2);
		*e = (uint64_t)p_data | PTE_P | PTE_W;
		invlpg(VA_TEST);
	}
	wrcr4(rdcr4() & ~0x80ul);
	cpuid(1, 0, r);
	if ((r[2] & 1 << 17) == 0)
		return;
	/* PCID: needs CR3's low bits clear first, then selects. */
	wrcr4(rdcr4() | 1 << 17);
	wrcr3((rdcr3() & ~0xffful) | 5);
	CHECK_EQ(rdcr3() & 0xfff, 5);
	OK(KERNEL(s_load, VA_TEST, 0));
	wrcr3(((rdcr3() & ~0xffful) | 6) | 1ul << 63);
	CHECK_EQ(rdcr3() >> 63, 0);
	OK(KERNEL(s_load, VA_TEST, 0));
	cpuid(7, 0, r);
	if ((r[1] & 1 << 10) != 0) {
		for (uint64_t type = 0; type < 4; type++) {
			*e = (uint64_t)p_data | PTE_P | PTE_W;
			invlpg(VA_TEST);
			OK(KERNEL(s_load, VA_TEST, 0));
			*e = (uint64_t)other | PTE_P | PTE_W;
			desc.pcid = 6;
			desc.va = VA_TEST;
			OK(KERNEL(s_invpcid, (uint64_t)&desc, type));
			OK(KERNEL(s_load, VA_TEST, 0));
			CHECK_EQ(guest_trap.gpr[RAX], 2);
		}
		CHECK_EQ(KERNEL(s_invpcid, (uint64_t)&desc, 4), 13);
		desc.pcid = 0x1000;
		CHECK_EQ(KERNEL(s_invpcid, (uint64_t)&desc, 1), 13);
		desc.pcid = 6;
		desc.va = 1ul << 63;
		CHECK_EQ(KERNEL(s_invpcid, (uint64_t)&desc, 0), 13);
		CHECK_EQ(USER(s_invpcid, VA_USTACK, 0), 13);
	}
	wrcr3(rdcr3() & ~0xffful);
	wrcr4(rdcr4() & ~(1ul << 17));
	*e = (uint64_t)p_data | PTE_P | PTE_W;
	invlpg(VA_TEST);
}

static void
p_crossing(void)
{
	uint8_t *a = guest_page(), *b = guest_page();
	uint64_t end = VA_TEST + 4096;

	guest_map(VA_TEST, (uint64_t)a, PTE_P | PTE_W | PTE_U, 1);
	guest_map(end, (uint64_t)b, PTE_P | PTE_W | PTE_U, 1);
	OK(USER(s_store, end - 3, 0x1122334455667788));
	CHECK_EQ(*(uint32_t *)(a + 4092) >> 8, 0x667788);
	CHECK_EQ(*(uint32_t *)b, 0x22334455);
	CHECK_EQ(b[4], 0x11);
	OK(USER(s_load, end - 3, 0));
	CHECK_EQ(guest_trap.gpr[RAX], 0x1122334455667788);
	OK(USER(s_store4, end - 2, 0xaabbccdd));
	CHECK_EQ(a[4094], 0xdd);
	CHECK_EQ(b[1], 0xaa);
	/* The second page is missing: nothing is written, CR2 is its first
	 * byte. */
	guest_map(end, 0, 0, 1);
	PF(USER(s_store, end - 3, ~0ul), ERR_U | ERR_W, end);
	CHECK_EQ(a[4094], 0xdd);
	PF(USER(s_add, end - 3, 0), ERR_U | ERR_W, end);
	PF(USER(s_load, end - 3, 0), ERR_U, end);
	/* ... or read-only */
	guest_map(end, (uint64_t)b, PTE_P | PTE_U, 1);
	PF(USER(s_store, end - 3, ~0ul), ERR_P | ERR_U | ERR_W, end);
	CHECK_EQ(a[4094], 0xdd);
	/* ... or the first one */
	guest_map(VA_TEST, 0, 0, 1);
	PF(USER(s_store, end - 3, 0), ERR_U | ERR_W, end - 3);
	/* A push that faults leaves the stack pointer. */
	PF(USER(s_push, end, 5), ERR_U | ERR_W, end - 8);
	CHECK_EQ(guest_trap.gpr[RSP], end);
	/* REP MOVS stops in the middle, with its registers there. */
	guest_map(VA_TEST, (uint64_t)a, PTE_P | PTE_W | PTE_U, 1);
	PF(USER(s_movs, end - 5, end), ERR_P | ERR_U | ERR_W, end);
	CHECK_EQ(guest_trap.gpr[RCX], 11);
	CHECK_EQ(guest_trap.gpr[RDI], end);
	CHECK_EQ(guest_trap.gpr[RSI], end + 5);
	guest_map(end, 0, 0, 1);
}

/* Three pages at VA_TEST, in the order that perm says. */
static uint8_t *p_part[3];

static void
p_map3(const unsigned *perm, uint64_t flags)
{
	for (unsigned i = 0; i < 3; i++)
		guest_map(VA_TEST + i * 4096, (uint64_t)p_part[perm[i]], flags,
		    1);
}

static uint64_t
p_word(const unsigned *perm, uint64_t off)
{
	uint64_t v = 0;

	for (unsigned i = 8; i-- > 0;)
		v = v << 8 | p_part[perm[(off + i) / 4096]][(off + i) % 4096];
	return v;
}

static void
p_loops(const unsigned *perm, uint64_t off, unsigned n)
{
	uint64_t sum = 0, mix = 0, fixed = p_word(perm, off);

	for (unsigned i = 0; i < n; i++)
		sum += p_word(perm, off + 24 * i) +
		    p_word(perm, off + 24 * i + 40);
	OK(USER(s_sum, VA_TEST + off, n));
	CHECK_EQ(guest_trap.gpr[RAX], sum);
	for (unsigned i = 0; i < n / 3; i++)
		mix = (mix + fixed) ^ p_word(perm, off + 8 + 64 * i);
	OK(USER(s_high, VA_TEST + off, n / 3));
	CHECK_EQ(guest_trap.gpr[RAX], mix);
}

/*
 * What translated code remembers of a translation must go with it: the same
 * loops run over pages that lie otherwise, or have other rights.
 */
static void
p_remembered(void)
{
	static const unsigned perm[4][3] = {
		{ 2, 0, 1 }, { 1, 2, 0 }, { 0, 2, 1 }, { 0, 1, 2 },
	};
	for (unsigned i = 0; i < 3; i++) {
		p_part[i] = guest_page();
		for (unsigned k = 0; k < 4096; k++)
			p_part[i][k] = (uint8_t)(k * 7 + i * 85 + (k >> 8));
	}
	for (unsigned k = 0; k < 8; k++) {
		const unsigned *order = perm[k % 4];

		/* guest_map() invalidates; CR3 does it for all. */
		p_map3(order, PTE_P | PTE_W | PTE_U);
		if (k >= 4)
			wrcr3(rdcr3());
		p_loops(order, 0, 300);
		p_loops(order, 4000, 60);
		p_loops(order, 4096 * 2 - 43, 80);
		p_loops(order, 3, 400);
		/* Writes: of both, the sums tell. */
		OK(USER(s_bump, VA_TEST + 16, 320));
		p_loops(order, 16, 320);
	}
	/* The middle page becomes read-only between two runs. */
	p_map3(perm[0], PTE_P | PTE_W | PTE_U);
	OK(USER(s_bump, VA_TEST, 400));
	*guest_pte(VA_TEST + 4096, 1) &= ~(PTE_W | PTE_D);
	invlpg(VA_TEST + 4096);
	PF(USER(s_bump, VA_TEST, 400), ERR_P | ERR_U | ERR_W,
	    VA_TEST + 4096);
	/* At the second operand, 24 bytes a turn. */
	CHECK_EQ(guest_trap.gpr[RDI], VA_TEST + 4096 - 40);
	CHECK_EQ(guest_trap.gpr[RSI], 400 - (4096 - 40) / 24);
	CHECK((*guest_pte(VA_TEST + 4096, 1) & PTE_D) == 0);
	CHECK((*guest_pte(VA_TEST, 1) & PTE_D) != 0);
	/* Accessed and dirty bits come back when they were cleared. */
	*guest_pte(VA_TEST + 4096, 1) |= PTE_W;
	for (unsigned i = 0; i < 3; i++) {
		*guest_pte(VA_TEST + i * 4096, 1) &= ~(PTE_A | PTE_D);
		invlpg(VA_TEST + i * 4096);
	}
	OK(USER(s_sum, VA_TEST, 170));
	CHECK((*guest_pte(VA_TEST, 1) & (PTE_A | PTE_D)) == PTE_A);
	OK(USER(s_bump, VA_TEST, 160));
	CHECK((*guest_pte(VA_TEST, 1) & PTE_D) != 0);
	CHECK((*guest_pte(VA_TEST + 4096, 1) & PTE_D) == 0);
	for (unsigned i = 0; i < 3; i++)
		guest_map(VA_TEST + i * 4096, 0, 0, 1);
}

static void
p_canonical(void)
{
	CHECK_EQ(KERNEL(s_load, 1ul << 47, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(KERNEL(s_load, (1ul << 47) - 4, 0), 13);
	CHECK_EQ(USER(s_push, 1ul << 48, 0), 12);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(USER(s_jmp, 1ul << 62, 0), 13);
}

void
guest_test(void)
{
	p_data = guest_page();
	p_not_present();
	p_accessed_dirty();
	p_rights();
	p_execute();
	p_reserved();
	p_smep_smap();
	p_large();
	p_invalidate();
	p_crossing();
	p_remembered();
	p_canonical();
}
