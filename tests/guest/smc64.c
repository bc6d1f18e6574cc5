/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code that changes: by itself, by an alias, under a changed mapping, across
 * pages, in the very instruction that follows, by string instructions.
 */
#include "guest64.h"

/* mov $imm32, %eax; ret */
#define M_LEN 6
static void
m_put(volatile uint8_t *p, uint32_t v)
{
	p[0] = 0xb8;
	for (unsigned i = 0; i < 4; i++)
		p[1 + i] = (uint8_t)(v >> (8 * i));
	p[5] = 0xc3;
}

static uint32_t
m_call(volatile void *p)
{
	uint32_t (*fn)(void) = (uint32_t (*)(void))(uintptr_t)p;

	return fn();
}

/* The store hits the instruction right behind it, in the same block. */
SNIPPET(s_next, "movb $0x99, 1f+1(%rip)\n1: mov $0x11, %al\nnop");
/* A loop that patches the immediate of its own addition. */
SNIPPET(s_loop, "xor %eax, %eax\nmov $200, %ecx\n"
    "1: mov %ecx, 2f+1(%rip)\n2: add $0x12345678, %eax\n"
    "dec %ecx\njnz 1b");
/* REP MOVSB over what comes after it. */
SNIPPET(s_rep, "lea 1f(%rip), %rdi\nmov $3, %ecx\nrep movsb\n"
    "1: mov $1, %al\nnop");
SNIPPET(s_lock, "lock addl $1, 1f+1(%rip)\n1: mov $0x100, %eax");

static void
m_self(void)
{
	/* The payload's text is writable. */
	CHECK_EQ(KERNEL(s_next, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX] & 0xff, 0x99);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(KERNEL(s_loop, 0, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 200 * 201 / 2);
	}
	CHECK_EQ(KERNEL(s_rep, 0, (uint64_t)"\xb0\x77\x90"), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX] & 0xff, 0x77);
	for (unsigned i = 1; i < 4; i++) {
		CHECK_EQ(KERNEL(s_lock, 0, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 0x100 + i);
	}
}

static void
m_patched(void)
{
	uint8_t *a = guest_page();

	for (uint32_t i = 0; i < 1000; i++) {
		m_put(a + 64 * (i % 8), i);
		CHECK_EQ(m_call(a + 64 * (i % 8)), i);
	}
	/* data beside the code */
	m_put(a, 5);
	for (uint32_t i = 0; i < 200; i++) {
		*(volatile uint32_t *)(a + 2048) = i;
		CHECK_EQ(m_call(a), 5);
		CHECK_EQ(*(volatile uint32_t *)(a + 2048), i);
	}
}

static void
m_alias(void)
{
	uint8_t *a = guest_page(), *b = guest_page();
	uint8_t *va = (uint8_t *)VA_TEST, *wr = (uint8_t *)VA_TEST + 0x100000;

	guest_map(VA_TEST, (uint64_t)a, PTE_P, 1);
	guest_map((uint64_t)wr, (uint64_t)a, PTE_P | PTE_W | PTE_NX, 1);
	for (uint32_t i = 0; i < 50; i++) {
		m_put(wr, i);
		CHECK_EQ(m_call(va), i);
	}
	/* the same address, another page behind it */
	m_put(b, 0x1234);
	for (uint32_t i = 0; i < 50; i++) {
		guest_map(VA_TEST, (uint64_t)b, PTE_P, 1);
		CHECK_EQ(m_call(va), 0x1234);
		guest_map(VA_TEST, (uint64_t)a, PTE_P, 1);
		CHECK_EQ(m_call(va), 49);
	}
	/* by CR3 */
	*guest_pte(VA_TEST, 1) = (uint64_t)b | PTE_P;
	wrcr3(rdcr3());
	CHECK_EQ(m_call(va), 0x1234);
	/* rights taken away */
	*guest_pte(VA_TEST, 1) = 0;
	invlpg(VA_TEST);
	CHECK_EQ(KERNEL((const char *)VA_TEST, 0, 0), 14);
	CHECK_EQ(guest_trap.cr2, VA_TEST);
}

/* An instruction across two pages, of which either changes. */
static void
m_crossing(void)
{
	uint8_t *a = guest_page(), *b = guest_page(), *c = guest_page();
	uint64_t end = VA_TEST + 4096;

	guest_map(VA_TEST, (uint64_t)a, PTE_P | PTE_W, 1);
	guest_map(end, (uint64_t)b, PTE_P | PTE_W, 1);
	for (unsigned at = 1; at < M_LEN; at++) {
		for (uint32_t i = 0; i < 20; i++) {
			m_put((uint8_t *)end - at, i * 0x01010101u);
			CHECK_EQ(m_call((uint8_t *)end - at),
			    i * 0x01010101u);
		}
	}
	/* another second page */
	m_put((uint8_t *)end - 3, 0xaabbccdd);
	CHECK_EQ(m_call((uint8_t *)end - 3), 0xaabbccdd);
	c[0] = 0x11;
	c[1] = 0x22;
	c[2] = 0xc3;
	guest_map(end, (uint64_t)c, PTE_P, 1);
	CHECK_EQ(m_call((uint8_t *)end - 3), 0x2211ccdd);
	/* and none */
	guest_map(end, 0, 0, 1);
	CHECK_EQ(KERNEL((const char *)end - 3, 0, 0), 14);
	CHECK_EQ(guest_trap.cr2, end);
	CHECK_EQ(guest_trap.rip, end - 3);
	CHECK_EQ(guest_trap.error, 0x10);
}

/* More pages of code than a cache likes, twice. */
static void
m_many(void)
{
	uint8_t *p[600];

	for (unsigned i = 0; i < 600; i++) {
		p[i] = guest_page();
		m_put(p[i] + (i % 64) * 16, i);
	}
	for (unsigned k = 0; k < 2; k++)
		for (unsigned i = 0; i < 600; i++)
			CHECK_EQ(m_call(p[i] + (i % 64) * 16), i);
	for (unsigned i = 0; i < 600; i++) {
		m_put(p[i] + (i % 64) * 16, i + 7);
		CHECK_EQ(m_call(p[i] + (i % 64) * 16), i + 7);
	}
}

void
guest_test(void)
{
	m_self();
	m_patched();
	m_alias();
	m_crossing();
	m_many();
}
