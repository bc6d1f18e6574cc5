/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions and interrupts in long mode: frames, stacks, gates, double
 * faults, single step, shadows, task priority.
 */
#include "guest64.h"

#define FL_TF 0x100
#define FL_IF 0x200
#define FL_NT 0x4000
#define FL_RF 0x10000

SNIPPET(s_done, "nop");
SNIPPET(s_ud, "ud2");
SNIPPET(s_de, "xor %ecx, %ecx\nxor %edx, %edx\nmov $1, %eax\ndiv %ecx");
SNIPPET(s_int3, "int3");
SNIPPET(s_int90, "int $0x90");
SNIPPET(s_icebp, ".byte 0xf1");
SNIPPET(s_gp, "mov $0x8000000000000000, %rax\nmov (%rax), %rax");
SNIPPET(s_pf, "mov (%rdi), %rax");
SNIPPET(s_nops, "nop\nnop\nnop");
SNIPPET(s_popf_tf, "pushfq\norl $0x100, (%rsp)\npopfq\nnop\nnop");
SNIPPET(s_popf_if, "pushfq\norl $0x200, (%rsp)\npopfq\nnop\nnop");
SNIPPET(s_mov_ss, "mov %edi, %ss\nnop\nnop");
SNIPPET(s_sti, "sti\nnop\nnop");
SNIPPET(s_sti_cli, "sti\ncli\nnop");
SNIPPET(s_sti_hlt, "sti\nhlt\nnop");
SNIPPET(s_cr8, "mov %rdi, %cr8\nsti\nnop\nnop\nmov %rsi, %cr8\nnop");

#define AT(name, n) ((word)(name) + (n))

static void
e_frames(void)
{
	CHECK_EQ(KERNEL(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.rip, AT(s_ud, 0));
	CHECK_EQ(guest_trap.cs, SEL_CODE);
	CHECK_EQ(guest_trap.ss, SEL_DATA);
	CHECK((guest_trap.rflags & FL_RF) != 0);
	/* the frame starts on 16 bytes */
	CHECK_EQ((guest_trap.frame + 40) & 15, 0);
	CHECK_EQ(USER(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.rip, VA_USER);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.ss, SEL_UDATA);
	CHECK_EQ(guest_trap.gpr[RSP], VA_USTACK + 4096);
	CHECK_EQ(guest_trap.frame + 40, *(uint64_t *)(guest_tss + 4));
	CHECK_EQ(USER(s_de, 0, 0), 0);
	CHECK_EQ(guest_trap.rip, VA_USER + 9);
	CHECK_EQ(KERNEL(s_int3, 0, 0), 3);
	CHECK_EQ(guest_trap.rip, AT(s_int3, 1));
	CHECK((guest_trap.rflags & FL_RF) == 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 0x90);
	CHECK_EQ(guest_trap.rip, AT(s_int90, 2));
	CHECK_EQ(USER(s_done, 0, 0), GUEST_DONE);
	CHECK_EQ(KERNEL(s_gp, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(guest_trap.rip, AT(s_gp, 10));
}

static void
e_gates(void)
{
	/* DPL of the gate counts for INT n only. */
	CHECK_EQ(USER(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0x90 * 8 + 2);
	CHECK_EQ(guest_trap.rip, VA_USER);
	CHECK_EQ(USER(s_int3, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 3 * 8 + 2);
	guest_gate(3, guest_stub(3), SEL_CODE, GATE_TRAP, 3, 0);
	CHECK_EQ(USER(s_int3, 0, 0), 3);
	CHECK_EQ(guest_trap.rip, VA_USER + 1);
	CHECK_EQ(USER(s_icebp, 0, 0), 1);
	CHECK_EQ(guest_trap.rip, VA_USER + 1);
	/* not present, no gate, wrong selectors */
	guest_gate(0x90, guest_stub(0x90), SEL_CODE, 0, 3, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0x90 * 8 + 2);
	guest_gate(0x90, guest_stub(0x90), SEL_CODE, GATE_INT | GATE_ABSENT, 3,
	    0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 11);
	CHECK_EQ(guest_trap.error, 0x90 * 8 + 2);
	guest_gate(0x90, guest_stub(0x90), SEL_UDATA, GATE_INT, 3, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_UDATA & ~3);
	guest_gate(0x90, guest_stub(0x90), 0, GATE_INT, 3, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	guest_gdt[SEL_FREE / 8] = 0x00af1b000000ffff; /* P clear */
	guest_gate(0x90, guest_stub(0x90), SEL_FREE, GATE_INT, 3, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 11);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	guest_gdt[SEL_FREE / 8] = 0x00cf9b000000ffff; /* 32-bit code */
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	guest_gdt[SEL_FREE / 8] = 0x00affb000000ffff; /* DPL 3 from ring 0 */
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	guest_gate(0x90, 1ul << 60, SEL_CODE, GATE_INT, 3, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	guest_gate(0x90, guest_stub(0x90), SEL_CODE, GATE_INT, 0, 0);
	guest_gate(3, guest_stub(3), SEL_CODE, GATE_INT, 0, 0);
}

static void
e_stacks(void)
{
	uint64_t ist1 = *(uint64_t *)(guest_tss + 36);

	guest_gate(6, guest_stub(6), SEL_CODE, GATE_INT, 0, 1);
	CHECK_EQ(KERNEL(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.frame + 40, ist1);
	CHECK_EQ(guest_trap.ss, SEL_DATA);
	CHECK_EQ(USER(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.frame + 40, ist1);
	/* A stack that is not there: the page fault of the delivery. */
	*(uint64_t *)(guest_tss + 36) = VA_TEST + 64;
	CHECK_EQ(KERNEL(s_ud, 0, 0), 14);
	CHECK_EQ(guest_trap.error, 2);
	CHECK_EQ(guest_trap.rip, AT(s_ud, 0));
	*(uint64_t *)(guest_tss + 36) = 1ul << 63;
	CHECK_EQ(KERNEL(s_ud, 0, 0), 12);
	guest_gate(6, guest_stub(6), SEL_CODE, GATE_INT, 0, 0);
	*(uint64_t *)(guest_tss + 36) = ist1;
}

static void
e_double(void)
{
	/* #NP while #GP is delivered */
	guest_gate(13, guest_stub(13), SEL_FREE, GATE_INT, 0, 0);
	guest_gdt[SEL_FREE / 8] = 0x00af1b000000ffff;
	CHECK_EQ(KERNEL(s_gp, 0, 0), 8);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(guest_trap.rip, AT(s_gp, 10));
	/* #UD is benign: what it meets comes alone. */
	guest_gate(13, guest_stub(13), SEL_CODE, GATE_INT, 0, 0);
	guest_gate(6, guest_stub(6), SEL_FREE, GATE_INT, 0, 0);
	CHECK_EQ(KERNEL(s_ud, 0, 0), 11);
	CHECK_EQ(guest_trap.error, SEL_FREE | 1);
	/* #NP while INT n is: no EXT */
	guest_gate(0x90, guest_stub(0x90), SEL_FREE, GATE_INT, 0, 0);
	CHECK_EQ(KERNEL(s_int90, 0, 0), 11);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	guest_gate(0x90, guest_stub(0x90), SEL_CODE, GATE_INT, 0, 0);
	guest_gate(6, guest_stub(6), SEL_CODE, GATE_INT, 0, 0);
	/* #PF while #PF is, and #GP while #PF is */
	guest_gate(14, guest_stub(14), SEL_FREE, GATE_INT, 0, 0);
	CHECK_EQ(KERNEL(s_pf, VA_TEST, 0), 8);
	guest_gate(14, guest_stub(14), SEL_CODE, GATE_INT, 0, 2);
	*(uint64_t *)(guest_tss + 44) = VA_TEST + 0x8000;
	CHECK_EQ(KERNEL(s_pf, VA_TEST, 0), 8);
	CHECK_EQ(guest_trap.cr2, VA_TEST + 0x8000 - 8);
	guest_gate(14, guest_stub(14), SEL_CODE, GATE_INT, 0, 0);
	CHECK_EQ(KERNEL(s_pf, VA_TEST, 0), 14);
}

static unsigned
e_run(const char *code, uint64_t rflags, uint64_t rdi)
{
	static char stack[4096] __attribute__((aligned(16)));
	struct guest_ctx c = { .rip = (uint64_t)code, .cs = SEL_CODE,
		.ss = SEL_DATA, .rflags = rflags | 2 };

	c.gpr[RSP] = (uint64_t)stack + sizeof(stack);
	c.gpr[RDI] = rdi;
	return guest_run(&c);
}

static uint64_t
e_dr6(uint64_t set)
{
	uint64_t v;

	__asm__ volatile("mov %%dr6, %0\nmov %1, %%dr6" : "=&r"(v) : "r"(set));
	return v;
}

static void
e_single_step(void)
{
	(void)e_dr6(0xffff0ff0);
	CHECK_EQ(e_run(s_nops, FL_TF, 0), 1);
	CHECK_EQ(guest_trap.rip, AT(s_nops, 1));
	CHECK((guest_trap.rflags & FL_TF) != 0);
	CHECK((guest_trap.rflags & FL_RF) == 0);
	CHECK_EQ(e_dr6(0xffff0ff0) & 0xe00f, 0x4000);
	CHECK_EQ(KERNEL(s_popf_tf, 0, 0), 1);
	CHECK_EQ(guest_trap.rip, AT(s_popf_tf, 10));
	/* MOV SS holds the trap back by one instruction. */
	CHECK_EQ(e_run(s_mov_ss, FL_TF, SEL_DATA), 1);
	CHECK_EQ(guest_trap.rip, AT(s_mov_ss, 3));
	/* INT n clears TF and does not trap itself. */
	CHECK_EQ(e_run(s_int90, FL_TF, 0), 0x90);
	CHECK((guest_trap.rflags & FL_TF) != 0);
	/* A fault comes before the trap. */
	CHECK_EQ(e_run(s_ud, FL_TF, 0), 6);
	CHECK_EQ(e_dr6(0xffff0ff0) & 0xe00f, 0x4000);
	/* ICEBP: #DB without BS */
	CHECK_EQ(KERNEL(s_icebp, 0, 0), 1);
	CHECK_EQ(guest_trap.rip, AT(s_icebp, 1));
	CHECK_EQ(e_dr6(0xffff0ff0) & 0xe00f, 0);
}

/* --- interrupts, from the local APIC to itself ------------------------- */

#define VA_APIC (VA_TEST + 0x10000000)
#define E_VECTOR 0x61

static void
e_apic_write(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)(VA_APIC + reg) = v;
}

static void
e_self_ipi(void)
{
	e_apic_write(0x300, 0x40000 | E_VECTOR);
}

static unsigned
e_with_ipi(const char *code, uint64_t rflags)
{
	unsigned v;

	e_self_ipi();
	v = e_run(code, rflags, 0);
	if (v == E_VECTOR)
		e_apic_write(0xb0, 0);
	return v;
}

static void
e_interrupts(void)
{
	static char stack[4096] __attribute__((aligned(16)));
	struct guest_ctx c = { .rip = (uint64_t)s_cr8, .cs = SEL_CODE,
		.ss = SEL_DATA, .rflags = 2 };

	guest_map(VA_APIC, 0xfee00000, PTE_P | PTE_W | 0x18 | PTE_NX, 1);
	e_apic_write(0xf0, 0x1ff);
	/* Pending with IF set on entry: before the first instruction. */
	CHECK_EQ(e_with_ipi(s_nops, FL_IF), E_VECTOR);
	CHECK_EQ(guest_trap.rip, AT(s_nops, 0));
	CHECK((guest_trap.rflags & FL_IF) != 0);
	/* STI: one instruction later */
	CHECK_EQ(e_with_ipi(s_sti, 0), E_VECTOR);
	CHECK_EQ(guest_trap.rip, AT(s_sti, 2));
	/* POPF: at once */
	CHECK_EQ(e_with_ipi(s_popf_if, 0), E_VECTOR);
	CHECK_EQ(guest_trap.rip, AT(s_popf_if, 9));
	/* STI, CLI: never */
	CHECK_EQ(e_with_ipi(s_sti_cli, 0), GUEST_DONE);
	CHECK_EQ(e_run(s_nops, FL_IF, 0), E_VECTOR);
	e_apic_write(0xb0, 0);
	/* STI, HLT: wakes, after HLT */
	CHECK_EQ(e_with_ipi(s_sti_hlt, 0), E_VECTOR);
	CHECK_EQ(guest_trap.rip, AT(s_sti_hlt, 2));
	/* The task priority holds it back until it falls. */
	c.gpr[RSP] = (uint64_t)stack + sizeof(stack);
	c.gpr[RDI] = 15;
	c.gpr[RSI] = 0;
	e_self_ipi();
	CHECK_EQ(guest_run(&c), E_VECTOR);
	CHECK_EQ(guest_trap.rip, AT(s_cr8, 11));
	e_apic_write(0xb0, 0);
	/* In service: the same vector waits for the EOI. */
	e_self_ipi();
	CHECK_EQ(e_run(s_nops, FL_IF, 0), E_VECTOR);
	e_self_ipi();
	CHECK_EQ(e_run(s_nops, FL_IF, 0), GUEST_DONE);
	e_apic_write(0xb0, 0);
	CHECK_EQ(e_run(s_nops, FL_IF, 0), E_VECTOR);
	e_apic_write(0xb0, 0);
	CHECK_EQ(e_run(s_nops, FL_IF, 0), GUEST_DONE);
}

void
guest_test(void)
{
	e_frames();
	e_gates();
	e_stacks();
	e_double();
	e_single_step();
	e_interrupts();
}
