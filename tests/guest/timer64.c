/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Timers and their ways to the processor: local APIC one-shot, periodic, TSC
 * deadline; the 8254 by the I/O APIC and by the 8259; masks and EOIs.
 */
#include "guest64.h"

#define VA_APIC (VA_TEST + 0x10000000)
#define VA_IOAPIC (VA_TEST + 0x10001000)
#define FL_IF 0x200
#define T_VEC 0x71
#define T_PIT 0x72

SNIPPET(s_wait, "1: hlt\njmp 1b");
SNIPPET(s_spin, "1: pause\ndec %rdi\njnz 1b");

static void
t_apic(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)(VA_APIC + reg) = v;
}

static uint32_t
t_apic_get(unsigned reg)
{
	return *(volatile uint32_t *)(VA_APIC + reg);
}

static void
t_ioapic(unsigned reg, uint32_t v)
{
	*(volatile uint32_t *)VA_IOAPIC = reg;
	*(volatile uint32_t *)(VA_IOAPIC + 0x10) = v;
}

static uint64_t
t_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return (uint64_t)hi << 32 | lo;
}

static unsigned
t_run(const char *code, uint64_t rdi)
{
	static char stack[4096] __attribute__((aligned(16)));
	struct guest_ctx c = { .rip = (uint64_t)code, .cs = SEL_CODE,
		.ss = SEL_DATA, .rflags = FL_IF | 2 };

	c.gpr[RSP] = (uint64_t)stack + sizeof(stack);
	c.gpr[RDI] = rdi;
	return guest_run(&c);
}

/* PM timer ticks (3.579545 MHz, 24 bits) */
static uint32_t
t_pm(void)
{
	uint32_t v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"((uint16_t)0x608));
	return v & 0xffffff;
}

static void
t_local(void)
{
	uint64_t a, b, hz;
	uint32_t pm, r[4];

	/* TSC ticks in about 20 ms of the PM timer */
	pm = t_pm();
	a = t_tsc();
	while (((t_pm() - pm) & 0xffffff) < 71590)
		;
	hz = (t_tsc() - a) * 50;
	CHECK(hz > 100000000 && hz < 20000000000);
	t_apic(0xf0, 0x1ff);
	t_apic(0x3e0, 0xb); /* divide by 1 */
	/* one-shot: wakes HLT once */
	t_apic(0x320, T_VEC);
	t_apic(0x380, 1000000);
	CHECK_EQ(t_run(s_wait, 0), T_VEC);
	CHECK_EQ(t_apic_get(0x390), 0);
	t_apic(0xb0, 0);
	CHECK_EQ(t_run(s_spin, 100000), GUEST_DONE);
	/* spinning code is interrupted as well */
	t_apic(0x380, 1000000);
	CHECK_EQ(t_run(s_spin, ~0ul), T_VEC);
	t_apic(0xb0, 0);
	/* masked: never */
	t_apic(0x320, 0x10000 | T_VEC);
	t_apic(0x380, 1000);
	CHECK_EQ(t_run(s_spin, 1000000), GUEST_DONE);
	/* periodic, ten times */
	t_apic(0x320, 0x20000 | T_VEC);
	t_apic(0x380, 500000);
	for (unsigned i = 0; i < 10; i++) {
		CHECK_EQ(t_run(s_wait, 0), T_VEC);
		t_apic(0xb0, 0);
	}
	t_apic(0x380, 0);
	t_apic(0x320, 0x10000 | T_VEC);
	(void)t_run(s_spin, 100);
	t_apic(0xb0, 0);
	/* TSC deadline */
	cpuid(1, 0, r);
	if ((r[2] & 1 << 24) == 0)
		return;
	t_apic(0x320, 0x40000 | T_VEC);
	a = t_tsc();
	wrmsr(0x6e0, a + hz / 100);
	CHECK_EQ(t_run(s_wait, 0), T_VEC);
	b = t_tsc();
	t_apic(0xb0, 0);
	CHECK(b - a >= hz / 100);
	CHECK_EQ(rdmsr(0x6e0), 0);
	/* one that is over already */
	wrmsr(0x6e0, 1);
	CHECK_EQ(t_run(s_wait, 0), T_VEC);
	t_apic(0xb0, 0);
	/* taken back */
	wrmsr(0x6e0, t_tsc() + hz / 100);
	wrmsr(0x6e0, 0);
	CHECK_EQ(t_run(s_spin, 30000000), GUEST_DONE);
	t_apic(0x320, 0x10000 | T_VEC);
}

static void
t_pit_periodic(void)
{
	uint16_t n = 1193182 / 500;

	outb(0x43, 0x34);
	outb(0x40, (uint8_t)n);
	outb(0x40, (uint8_t)(n >> 8));
}

static void
t_pit(void)
{
	/* through the I/O APIC, pin 2 (the override of IRQ 0) */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	t_pit_periodic();
	t_ioapic(0x10 + 2 * 2 + 1, 0);
	t_ioapic(0x10 + 2 * 2, T_PIT);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(t_run(s_wait, 0), T_PIT);
		t_apic(0xb0, 0);
	}
	t_ioapic(0x10 + 2 * 2, 0x10000);
	(void)t_run(s_spin, 100000);
	t_apic(0xb0, 0);
	CHECK_EQ(t_run(s_spin, 10000000), GUEST_DONE);
	/* through the 8259 and LINT0 as ExtINT */
	outb(0x20, 0x11);
	outb(0x21, 0x60);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0x21, 0xfe);
	t_apic(0x350, 0x700);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(t_run(s_wait, 0), 0x60);
		outb(0x20, 0x20);
	}
	/* not before the EOI */
	CHECK_EQ(t_run(s_wait, 0), 0x60);
	CHECK_EQ(t_run(s_spin, 10000000), GUEST_DONE);
	outb(0x20, 0x20);
	outb(0x21, 0xff);
	t_apic(0x350, 0x10000);
}

void
guest_test(void)
{
	guest_map(VA_APIC, 0xfee00000, PTE_P | PTE_W | 0x18, 1);
	guest_map(VA_IOAPIC, 0xfec00000, PTE_P | PTE_W | 0x18, 1);
	t_local();
	t_pit();
}
