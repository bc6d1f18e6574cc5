/* SPDX-License-Identifier: BSD-2-Clause */
#include "guest64.h"

uint8_t guest_tss[0x2100] __attribute__((aligned(16)));
static uint64_t guest64_idt[512] __attribute__((aligned(16)));
static char guest64_kstack[8192] __attribute__((aligned(16)));
static char guest64_ist[8192] __attribute__((aligned(16)));

void
guest_gate(unsigned vector, word handler, unsigned sel, unsigned type,
    unsigned dpl, unsigned ist)
{
	uint64_t *g = &guest64_idt[vector * 2];

	type ^= 0x80;
	g[0] = (handler & 0xffff) | (uint64_t)sel << 16 |
	    (uint64_t)ist << 32 | (uint64_t)(type | dpl << 5) << 40 |
	    (handler & 0xffff0000) << 32;
	g[1] = handler >> 32;
}

void
guest_setup(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) idtr = { sizeof(guest64_idt) - 1,
		(uint64_t)guest64_idt };
	uint64_t base = (uint64_t)guest_tss, rsp0, ist1;

	for (unsigned i = 0; i < 256; i++)
		guest_gate(i, guest_stub(i), SEL_CODE, GATE_INT,
		    i == GUEST_DONE ? 3 : 0, 0);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	rsp0 = (uint64_t)guest64_kstack + sizeof(guest64_kstack);
	ist1 = (uint64_t)guest64_ist + sizeof(guest64_ist);
	*(uint64_t *)(guest_tss + 4) = rsp0;
	*(uint64_t *)(guest_tss + 36) = ist1;
	*(uint16_t *)(guest_tss + 102) = 104;
	for (unsigned i = 104; i < sizeof(guest_tss); i++)
		guest_tss[i] = 0xff;
	guest_gdt[6] = (0x2068ul) | (base & 0xffffff) << 16 | 0x89ul << 40 |
	    (base & 0xff000000) << 32;
	guest_gdt[7] = base >> 32;
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

uint64_t *
guest_pte(uint64_t va, unsigned level)
{
	uint64_t *t = pml4, *e;

	for (unsigned l = 4;; l--) {
		e = &t[va >> (12 + 9 * (l - 1)) & 511];
		if (l == level)
			return e;
		if ((*e & PTE_P) == 0)
			*e = (uint64_t)guest_page() | PTE_P | PTE_W | PTE_U;
		t = (uint64_t *)(*e & 0xffffffffff000ul);
	}
}

void
guest_map(uint64_t va, uint64_t pa, uint64_t flags, unsigned level)
{
	*guest_pte(va, level) = pa | flags | (level > 1 ? PTE_PS : 0);
	invlpg(va);
}

unsigned
guest_kernel(const char *code, uint64_t rdi, uint64_t rsi)
{
	static char stack[4096] __attribute__((aligned(16)));
	struct guest_ctx c = { .rip = (uint64_t)code, .cs = SEL_CODE,
		.ss = SEL_DATA, .rflags = 2 };

	c.gpr[RSP] = (uint64_t)stack + sizeof(stack);
	c.gpr[RDI] = rdi;
	c.gpr[RSI] = rsi;
	return guest_run(&c);
}

void
guest_user_code(const char *code, const char *end)
{
	static char *page;

	if (page == NULL) {
		page = guest_page();
		guest_map(VA_USTACK, (uint64_t)guest_page(), PTE_P | PTE_W |
		    PTE_U | PTE_NX, 1);
	}
	guest_map(VA_USER, (uint64_t)page, PTE_P | PTE_U, 1);
	for (unsigned i = 0; code + i < end; i++)
		page[i] = code[i];
}

unsigned
guest_user(const char *code, const char *end, uint64_t rdi, uint64_t rsi)
{
	struct guest_ctx c = { .rip = VA_USER, .cs = SEL_UCODE,
		.ss = SEL_UDATA, .rflags = 2 };

	guest_user_code(code, end);
	c.gpr[RSP] = VA_USTACK + 4096;
	c.gpr[RDI] = rdi;
	c.gpr[RSI] = rsi;
	return guest_run(&c);
}
