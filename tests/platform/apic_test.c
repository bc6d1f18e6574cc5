/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC and I/O APIC. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plat.h"

#define LAPIC 0xfee00000ul
#define IOAPIC 0xfec00000ul

static struct plat t;

static int
apic_setup(void **state)
{
	(void)state;
	plat_start(&t);
	for (unsigned i = 0; i < PLAT_NCPU; i++)
		plat_write(&t, i, LAPIC + 0xf0, 0x1ff);
	return 0;
}

static int
apic_teardown(void **state)
{
	(void)state;
	plat_stop(&t);
	return 0;
}

static void
apic_eoi(unsigned vcpu)
{
	plat_write(&t, vcpu, LAPIC + 0xb0, 0);
}

static void
apic_rte(unsigned pin, uint32_t lo, uint32_t hi)
{
	plat_write(&t, 0, IOAPIC, 0x11 + pin * 2);
	plat_write(&t, 0, IOAPIC + 0x10, hi);
	plat_write(&t, 0, IOAPIC, 0x10 + pin * 2);
	plat_write(&t, 0, IOAPIC + 0x10, lo);
}

static void
apic_x2(unsigned vcpu)
{
	uint64_t v;

	assert_int_equal(platform_rdmsr(t.p, vcpu, 0x1b, &v), 0);
	assert_int_equal(platform_wrmsr(t.p, vcpu, 0x1b, v | 0x400), 0);
}

static void
test_priorities(void **state)
{
	(void)state;
	plat_write(&t, 0, LAPIC + 0x300, 0x40000 | 0x45); /* to self */
	plat_write(&t, 0, LAPIC + 0x300, 0x40000 | 0x83);
	assert_int_equal(platform_intr_pending(t.p, 0), 0x83);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	platform_cr8_set(t.p, 0, 8);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x80), 0x80);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	platform_cr8_set(t.p, 0, 7);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x83);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0xa0), 0x80); /* PPR */
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x140), 1 << 3); /* ISR */
	platform_cr8_set(t.p, 0, 0);
	assert_int_equal(platform_intr_accept(t.p, 0), -1);
	t.notified[0] = 0;
	apic_eoi(0);
	assert_int_equal(t.notified[0], 1); /* the lower one waits */
	assert_int_equal(platform_intr_accept(t.p, 0), 0x45);
	apic_eoi(0);
	assert_int_equal(t.notified[0], 1);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
}

static void
test_destinations(void **state)
{
	(void)state;
	/* physical */
	plat_write(&t, 0, LAPIC + 0x310, 2u << 24);
	plat_write(&t, 0, LAPIC + 0x300, 0x50);
	assert_int_equal(platform_intr_accept(t.p, 2), 0x50);
	/* logical, flat: 1 and 3 */
	for (unsigned i = 0; i < PLAT_NCPU; i++)
		plat_write(&t, i, LAPIC + 0xd0, 1u << (24 + i));
	plat_write(&t, 0, LAPIC + 0x310, 0xau << 24);
	plat_write(&t, 0, LAPIC + 0x300, 0x800 | 0x61);
	assert_int_equal(platform_intr_accept(t.p, 0), -1);
	assert_int_equal(platform_intr_accept(t.p, 1), 0x61);
	assert_int_equal(platform_intr_accept(t.p, 3), 0x61);
	/* lowest priority: vCPU 1 is in 0x61, vCPU 2 in 0x50 */
	plat_write(&t, 0, LAPIC + 0x310, 6u << 24);
	plat_write(&t, 0, LAPIC + 0x300, 0x900 | 0x71);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	assert_int_equal(platform_intr_accept(t.p, 2), 0x71);
	/* cluster model: members 0 and 1 of cluster 2 */
	for (unsigned i = 0; i < PLAT_NCPU; i++) {
		plat_write(&t, i, LAPIC + 0xe0, 0x0fffffff);
		plat_write(&t, i, LAPIC + 0xd0, i == 3 ? 0x22000000 : 0x13000000);
	}
	plat_write(&t, 0, LAPIC + 0x310, 0x23000000);
	plat_write(&t, 0, LAPIC + 0x300, 0x800 | 0x91);
	assert_int_equal(platform_intr_accept(t.p, 3), 0x91);
	/* shorthands */
	plat_write(&t, 1, LAPIC + 0x300, 0xc0000 | 0xa1); /* all but self */
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	for (unsigned i = 0; i < PLAT_NCPU; i++)
		if (i != 1)
			assert_int_equal(platform_intr_accept(t.p, i), 0xa1);
	plat_write(&t, 1, LAPIC + 0x300, 0x80000 | 0xb1); /* all */
	for (unsigned i = 0; i < PLAT_NCPU; i++)
		assert_int_equal(platform_intr_accept(t.p, i), 0xb1);
}

static void
test_startup(void **state)
{
	(void)state;
	plat_write(&t, 0, LAPIC + 0x310, 1u << 24);
	plat_write(&t, 0, LAPIC + 0x300, 0xc500); /* INIT, assert, level */
	assert_int_equal(t.init[1], 1);
	plat_write(&t, 0, LAPIC + 0x300, 0x8500); /* de-assert */
	assert_int_equal(t.init[1], 1);
	plat_write(&t, 0, LAPIC + 0x300, 0x4600 | 0x9a);
	assert_int_equal(t.sipi[1], 1);
	assert_int_equal(t.sipi_vector[1], 0x9a);
	plat_write(&t, 0, LAPIC + 0x300, 0xc0400); /* NMI, all but self */
	assert_int_equal(t.nmi[0], 0);
	assert_int_equal(t.nmi[3], 1);
}

static void
test_x2apic(void **state)
{
	uint64_t v;

	(void)state;
	assert_int_equal(platform_rdmsr(t.p, 1, 0x802, &v), -EINVAL);
	apic_x2(1);
	assert_int_equal(platform_rdmsr(t.p, 1, 0x802, &v), 0);
	assert_int_equal(v, 1);
	assert_int_equal(platform_rdmsr(t.p, 1, 0x80d, &v), 0);
	assert_int_equal(v, 2); /* cluster 0, member 1 */
	assert_int_equal(platform_wrmsr(t.p, 1, 0x80d, 0), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x80b, 1), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x808, 1ul << 32), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x83f, 0x77), 0);
	assert_int_equal(platform_intr_accept(t.p, 1), 0x77);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x80b, 0), 0);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x83f, 0x177), -EINVAL);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	/* logical to itself */
	assert_int_equal(platform_wrmsr(t.p, 1, 0x830, 2ul << 32 | 0x800 | 0x78), 0);
	assert_int_equal(platform_intr_accept(t.p, 1), 0x78);
	/* the page is gone; the mode is left only through off */
	assert_int_equal(plat_read(&t, 1, LAPIC + 0x20), ~0u);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, LAPIC | 0x800), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, LAPIC | 0x400), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, LAPIC), 0);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, LAPIC | 0xc00), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, LAPIC | 0x800), 0);
	assert_int_equal(plat_read(&t, 1, LAPIC + 0xf0), 0xff); /* as after reset */
	assert_int_equal(platform_wrmsr(t.p, 1, 0x1b, 0xfed01000 | 0x800), -EINVAL);
}

static void
test_timer(void **state)
{
	(void)state;
	plat_write(&t, 0, LAPIC + 0x3e0, 0xb); /* divide by 1 */
	plat_write(&t, 0, LAPIC + 0x320, 0x40); /* one-shot */
	plat_write(&t, 0, LAPIC + 0x380, 1000000);
	plat_jump(&t, 400000);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x390), 600000);
	plat_write(&t, 0, LAPIC + 0x3e0, 0x0); /* divide by 2 from here */
	plat_jump(&t, 200000);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x390), 500000);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_jump(&t, 1000000);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x40);
	apic_eoi(0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x390), 0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x380), 1000000);
	plat_jump(&t, 5000000);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);

	/* periodic: ten missed ticks are one */
	plat_write(&t, 0, LAPIC + 0x3e0, 0xb);
	plat_write(&t, 0, LAPIC + 0x320, 0x20041);
	plat_write(&t, 0, LAPIC + 0x380, 1000000);
	plat_jump(&t, 10500000);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x41);
	apic_eoi(0);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x390), 500000);
	plat_jump(&t, 499999);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_jump(&t, 1); /* the phase is kept */
	assert_int_equal(platform_intr_pending(t.p, 0), 0x41);
}

static void
test_deadline(void **state)
{
	uint64_t v, tsc = t.now * 2;

	(void)state;
	assert_int_equal(platform_wrmsr(t.p, 0, 0x6e0, tsc + 10), 0);
	platform_rdmsr(t.p, 0, 0x6e0, &v);
	assert_int_equal(v, 0); /* not in this mode */
	plat_write(&t, 0, LAPIC + 0x320, 0x40042);
	assert_int_equal(platform_wrmsr(t.p, 0, 0x6e0, tsc + 2000), 0);
	plat_jump(&t, 999);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_jump(&t, 2);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x42);
	apic_eoi(0);
	platform_rdmsr(t.p, 0, 0x6e0, &v);
	assert_int_equal(v, 0);
	/* in the past: at once; the farthest: never; zero: disarmed */
	platform_wrmsr(t.p, 0, 0x6e0, 1);
	plat_jump(&t, 1);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x42);
	apic_eoi(0);
	platform_wrmsr(t.p, 0, 0x6e0, ~0ul);
	plat_jump(&t, 1000000000);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	platform_wrmsr(t.p, 0, 0x6e0, t.now * 2 + 10);
	platform_wrmsr(t.p, 0, 0x6e0, 0);
	plat_jump(&t, 1000000000);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
}

static void
test_errors(void **state)
{
	(void)state;
	plat_write(&t, 0, LAPIC + 0x370, 0xfe);
	plat_write(&t, 0, LAPIC + 0x300, 0x40000 | 3); /* no such vector */
	assert_int_equal(platform_intr_accept(t.p, 0), 0xfe);
	apic_eoi(0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x280), 0);
	plat_write(&t, 0, LAPIC + 0x280, 0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x280), 1 << 5);
	plat_write(&t, 0, LAPIC + 0x3f0, 0); /* no such register */
	plat_write(&t, 0, LAPIC + 0x280, 0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x280), 1 << 7);
	plat_write(&t, 0, LAPIC + 0x280, 0);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x280), 0);
}

static void
test_software_off(void **state)
{
	(void)state;
	plat_write(&t, 0, LAPIC + 0x320, 0x40);
	plat_write(&t, 0, LAPIC + 0xf0, 0xff);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x320), 0x10040);
	plat_write(&t, 0, LAPIC + 0x320, 0x40);
	assert_int_equal(plat_read(&t, 0, LAPIC + 0x320), 0x10040);
	plat_write(&t, 0, LAPIC + 0x300, 0x40000 | 0x45);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
}

static void
test_ioapic_edge(void **state)
{
	(void)state;
	apic_rte(4, 0x34, 1u << 24);
	platform_irq_assert(t.p, 4);
	platform_irq_assert(t.p, 4); /* no edge */
	assert_int_equal(platform_intr_accept(t.p, 1), 0x34);
	apic_eoi(1);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	platform_irq_deassert(t.p, 4);
	platform_irq_assert(t.p, 4);
	assert_int_equal(platform_intr_accept(t.p, 1), 0x34);
	apic_eoi(1);
	platform_irq_deassert(t.p, 4);
	apic_rte(4, 0x10034, 1u << 24);
	platform_irq_assert(t.p, 4);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	assert_int_equal(platform_irq_assert(t.p, 24), -EINVAL);
	assert_int_equal(platform_msi(t.p, 0xfee01000, 0x55), 0);
	assert_int_equal(platform_intr_accept(t.p, 1), 0x55);
	assert_int_equal(platform_msi(t.p, 0xfed01000, 0x55), -EINVAL);
}

static void
test_ioapic_level(void **state)
{
	uint32_t v;

	(void)state;
	apic_rte(9, 0x8039, 0);
	platform_irq_assert(t.p, 9);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x39);
	v = plat_read(&t, 0, IOAPIC + 0x10);
	assert_int_equal(v & 0x4000, 0x4000); /* remote IRR */
	platform_irq_deassert(t.p, 9);
	platform_irq_assert(t.p, 9);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	apic_eoi(0); /* still asserted: again */
	assert_int_equal(platform_intr_accept(t.p, 0), 0x39);
	platform_irq_deassert(t.p, 9);
	apic_eoi(0);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10) & 0x4000, 0);
	/* the EOI register does the same */
	platform_irq_assert(t.p, 9);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10) & 0x4000, 0x4000);
	platform_irq_deassert(t.p, 9);
	plat_write(&t, 0, IOAPIC + 0x40, 0x39);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10) & 0x4000, 0);
	/* unmasking an asserted pin sends */
	apic_eoi(0);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x39);
	apic_eoi(0);
	apic_rte(9, 0x18039, 0);
	platform_irq_assert(t.p, 9);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	apic_rte(9, 0x8039, 0);
	assert_int_equal(platform_intr_pending(t.p, 0), 0x39);
}

static void
test_ioapic_registers(void **state)
{
	(void)state;
	plat_write(&t, 0, IOAPIC, 1);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10), 0x170020);
	plat_write(&t, 0, IOAPIC, 0);
	plat_write(&t, 0, IOAPIC + 0x10, 5u << 24);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10), 5u << 24);
	plat_write(&t, 0, IOAPIC, 0xff);
	plat_write(&t, 0, IOAPIC + 0x10, ~0u);
	assert_int_equal(plat_read(&t, 0, IOAPIC + 0x10), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, apic_setup, apic_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_priorities), T(test_destinations), T(test_startup),
		T(test_x2apic), T(test_timer), T(test_deadline), T(test_errors),
		T(test_software_off), T(test_ioapic_edge), T(test_ioapic_level),
		T(test_ioapic_registers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
