/* SPDX-License-Identifier: BSD-2-Clause */
#include "guest32.h"

uint8_t guest_tss[0x68] __attribute__((aligned(16)));
char guest_stack32[8192] __attribute__((aligned(16)));
static uint64_t guest32_idt[256] __attribute__((aligned(16)));
static char guest32_kstack[8192] __attribute__((aligned(16)));

uint64_t
guest_desc(uint32_t base, uint32_t limit, unsigned access, unsigned flags)
{
	return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 |
	    (uint64_t)access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
	    (uint64_t)flags << 52 | (uint64_t)(base >> 24) << 56;
}

void
guest_gate(unsigned vector, word handler, unsigned sel, unsigned type,
    unsigned dpl, unsigned ist)
{
	(void)ist;
	type ^= 0x80;
	guest32_idt[vector] = (handler & 0xffff) | sel << 16 |
	    (uint64_t)(type | dpl << 5) << 40 |
	    (uint64_t)(handler >> 16) << 48;
}

void
guest_setup(void)
{
	struct {
		uint16_t limit;
		uint32_t base;
	} __attribute__((packed)) idtr = { sizeof(guest32_idt) - 1,
		(uint32_t)guest32_idt };

	for (unsigned i = 0; i < 256; i++)
		guest_gate(i, guest_stub(i), SEL_CODE, GATE_INT,
		    i == GUEST_DONE ? 3 : 0, 0);
	__asm__ volatile("lidt %0" : : "m"(idtr));
	*(uint32_t *)(guest_tss + 4) =
	    (uint32_t)guest32_kstack + sizeof(guest32_kstack);
	*(uint16_t *)(guest_tss + 8) = SEL_DATA;
	*(uint16_t *)(guest_tss + 102) = 104;
	guest_gdt[6] = guest_desc((uint32_t)guest_tss, 0x67, 0x89, 0);
	__asm__ volatile("ltr %w0" : : "r"(SEL_TSS));
}

struct guest_ctx
guest_context(const char *code, unsigned cpl)
{
	struct guest_ctx c = { .rip = (word)code,
		.cs = cpl == 3 ? SEL_UCODE : SEL_CODE,
		.ss = cpl == 3 ? SEL_UDATA : SEL_DATA, .rflags = 2 };

	c.gpr[RSP] = STACK32;
	return c;
}

unsigned
guest_kernel(const char *code, uint32_t edi, uint32_t esi)
{
	struct guest_ctx c = guest_context(code, 0);

	c.gpr[RDI] = edi;
	c.gpr[RSI] = esi;
	return guest_run(&c);
}

unsigned
guest_user(const char *code, uint32_t edi, uint32_t esi)
{
	struct guest_ctx c = guest_context(code, 3);

	c.gpr[RDI] = edi;
	c.gpr[RSI] = esi;
	return guest_run(&c);
}
