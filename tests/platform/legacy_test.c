/* SPDX-License-Identifier: BSD-2-Clause */
/* 8259, i8042, reset and debug-exit ports, the PM block, CPUID, kvmclock. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "plat.h"

static struct plat t;

static int
legacy_setup(void **state)
{
	(void)state;
	plat_start(&t);
	return 0;
}

static int
legacy_teardown(void **state)
{
	(void)state;
	plat_stop(&t);
	return 0;
}

static uint32_t
legacy_io(uint16_t port, unsigned bytes, bool in, uint32_t v)
{
	assert_int_equal(platform_pio(t.p, 0, port, bytes, in, &v), 0);
	return v;
}

/* Vectors 0x20 and 0x28, as most systems set them; all but mask enabled. */
static void
legacy_pic(uint8_t icw4, uint8_t mask0, uint8_t mask1)
{
	plat_out(&t, 0x20, 0x11);
	plat_out(&t, 0x21, 0x20);
	plat_out(&t, 0x21, 4);
	plat_out(&t, 0x21, icw4);
	plat_out(&t, 0xa0, 0x11);
	plat_out(&t, 0xa1, 0x28);
	plat_out(&t, 0xa1, 2);
	plat_out(&t, 0xa1, icw4 & 0xf);
	plat_out(&t, 0x21, mask0);
	plat_out(&t, 0xa1, mask1);
}

static void
legacy_pulse(unsigned irq)
{
	platform_irq_assert(t.p, irq);
	platform_irq_deassert(t.p, irq);
}

static void
test_pic(void **state)
{
	(void)state;
	legacy_pulse(4); /* not set up: nothing */
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	legacy_pic(1, 0, 0);
	legacy_pulse(4);
	legacy_pulse(10);
	legacy_pulse(3);
	assert_true(platform_intr_pending(t.p, 0) >= 0);
	assert_int_equal(platform_intr_pending(t.p, 1), -1);
	/* the cascade is line 2, so before 3 and 4 */
	assert_int_equal(platform_intr_accept(t.p, 0), 0x2a);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_out(&t, 0xa0, 0x20);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	t.notified[0] = 0;
	plat_out(&t, 0x20, 0x20);
	assert_int_equal(t.notified[0], 1);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x23);
	plat_out(&t, 0x20, 0x0b); /* read the ISR */
	assert_int_equal(plat_in(&t, 0x20), 8);
	plat_out(&t, 0x20, 0x0a);
	assert_int_equal(plat_in(&t, 0x20), 0x10);
	plat_out(&t, 0x20, 0x63); /* specific end */
	assert_int_equal(platform_intr_accept(t.p, 0), 0x24);
	plat_out(&t, 0x20, 0x20);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	assert_int_equal(platform_intr_accept(t.p, 0), -1);
	plat_out(&t, 0x21, 0x10);
	assert_int_equal(plat_in(&t, 0x21), 0x10);
	legacy_pulse(4);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_out(&t, 0x21, 0);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x24);
}

static void
test_pic_modes(void **state)
{
	(void)state;
	legacy_pic(3, 0, 0); /* automatic end */
	legacy_pulse(5);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x25);
	legacy_pulse(6);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x26);
	legacy_pic(1, 0, 0);
	/* rotation: after 3 was served it is the last */
	legacy_pulse(3);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x23);
	plat_out(&t, 0x20, 0xa0);
	legacy_pulse(3);
	legacy_pulse(4);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x24);
	plat_out(&t, 0x20, 0x20);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x23);
	plat_out(&t, 0x20, 0x20);
	plat_out(&t, 0x20, 0xc7); /* 7 is last again */
	/* special mask: what is masked does not hold up the others */
	legacy_pulse(1);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x21);
	legacy_pulse(6);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_out(&t, 0x21, 2);
	plat_out(&t, 0x20, 0x68);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x26);
	plat_out(&t, 0x20, 0x48);
	plat_out(&t, 0x20, 0x61);
	plat_out(&t, 0x20, 0x66);
	plat_out(&t, 0x21, 0);
	/* polling */
	legacy_pulse(7);
	plat_out(&t, 0x20, 0x0c);
	assert_int_equal(plat_in(&t, 0x20), 0x87);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_out(&t, 0x20, 0x20);
	/* a level stays while it is up */
	plat_out(&t, 0x4d1, 0x08);
	assert_int_equal(plat_in(&t, 0x4d1), 0x08);
	platform_irq_assert(t.p, 11);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x2b);
	plat_out(&t, 0xa0, 0x20);
	plat_out(&t, 0x20, 0x20);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x2b);
	platform_irq_deassert(t.p, 11);
	plat_out(&t, 0xa0, 0x20);
	plat_out(&t, 0x20, 0x20);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	/* LINT0 masked: they are not heard */
	legacy_pulse(5);
	plat_write(&t, 0, 0xfee000f0, 0x1ff);
	plat_write(&t, 0, 0xfee00350, 0x10700);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	plat_write(&t, 0, 0xfee00350, 0x700);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x25);
}

static void
test_power(void **state)
{
	(void)state;
	assert_int_equal(platform_power_button(t.p), -EAGAIN);
	legacy_io(0x600, 2, false, 0x100);
	legacy_io(0x602, 2, false, 0x100);
	plat_write(&t, 0, 0xfee000f0, 0x1ff);
	plat_write(&t, 0, 0xfec00000, 0x10 + 2 * 9);
	plat_write(&t, 0, 0xfec00010, 0x8039);
	assert_int_equal(platform_power_button(t.p), 0);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x39);
	assert_int_equal(legacy_io(0x600, 4, true, 0), 0x01000100);
	legacy_io(0x600, 2, false, 0x100);
	plat_write(&t, 0, 0xfee000b0, 0);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
	assert_int_equal(legacy_io(0x604, 2, true, 0), 1); /* ACPI is on */
	legacy_io(0x604, 2, false, 0x2000 | 3 << 10);
	assert_int_equal(t.how, VMM_SUSPEND_NONE); /* no S3 */
	legacy_io(0x604, 2, false, 0x2000 | 5 << 10);
	assert_int_equal(t.how, VMM_SUSPEND_POWEROFF);
}

static void
test_pm_timer(void **state)
{
	uint32_t a, b;

	(void)state;
	a = legacy_io(0x608, 4, true, 0);
	plat_jump(&t, 2000000000);
	b = legacy_io(0x608, 4, true, 0);
	assert_int_equal(b - a, 2 * 3579545);
	assert_int_equal(legacy_io(0x600, 2, true, 0), 0);
	plat_jump(&t, 600ull * 1000000000); /* bit 31 has changed */
	assert_int_equal(legacy_io(0x600, 2, true, 0), 1);
	legacy_io(0x600, 2, false, 1);
	legacy_io(0x602, 2, false, 1);
	assert_int_equal(legacy_io(0x600, 2, true, 0), 0);
	plat_run(&t, 600ull * 1000000000, 1000000000);
	assert_int_equal(legacy_io(0x600, 2, true, 0), 1);
}

static void
test_resets(void **state)
{
	(void)state;
	plat_out(&t, 0xcf9, 2);
	assert_int_equal(t.how, VMM_SUSPEND_NONE);
	plat_out(&t, 0xcf9, 6);
	assert_int_equal(t.how, VMM_SUSPEND_RESET);
	t.how = VMM_SUSPEND_NONE;
	plat_out(&t, 0x64, 0xfe);
	assert_int_equal(t.how, VMM_SUSPEND_RESET);
	t.how = VMM_SUSPEND_NONE;
	plat_out(&t, 0x64, 0xd1);
	plat_out(&t, 0x60, 0x02);
	assert_int_equal(t.how, VMM_SUSPEND_RESET);
	t.how = VMM_SUSPEND_NONE;
	assert_int_equal(plat_in(&t, 0x92), 2);
	plat_out(&t, 0x92, 3);
	assert_int_equal(t.how, VMM_SUSPEND_RESET);
	legacy_io(0xf4, 4, false, 0x10);
	assert_int_equal(t.how, VMM_SUSPEND_POWEROFF);
	assert_int_equal(t.status, 0x21);
}

static void
test_i8042(void **state)
{
	(void)state;
	assert_int_equal(plat_in(&t, 0x64) & 3, 0);
	plat_out(&t, 0x64, 0xaa);
	assert_int_equal(plat_in(&t, 0x64) & 3, 1);
	assert_int_equal(plat_in(&t, 0x60), 0x55);
	assert_int_equal(plat_in(&t, 0x64) & 3, 0);
	plat_out(&t, 0x64, 0x60);
	plat_out(&t, 0x60, 0x47);
	plat_out(&t, 0x64, 0x20);
	assert_int_equal(plat_in(&t, 0x60), 0x47);
	plat_out(&t, 0x64, 0xd3);
	plat_out(&t, 0x60, 0x5a);
	assert_int_equal(plat_in(&t, 0x64) & 0x21, 0x21);
	assert_int_equal(plat_in(&t, 0x60), 0x5a);
}

static void
test_ports(void **state)
{
	uint32_t v = 0;

	(void)state;
	assert_int_equal(platform_pio(t.p, 0, 0x3f8, 1, true, &v), -ENXIO);
	assert_int_equal(platform_pio(t.p, 0, 0xcf8, 4, true, &v), -ENXIO);
	assert_int_equal(legacy_io(0x21, 2, true, 0), 0xffff);
	plat_out(&t, 0x80, 0x42);
	assert_int_equal(plat_in(&t, 0x80), 0x42);
}

static uint64_t
legacy_get(gpa_t gpa, unsigned n)
{
	uint64_t v = 0;

	memcpy(&v, t.mem + gpa, n);
	return v;
}

static void
test_kvmclock(void **state)
{
	uint32_t regs[4] = { 0 };
	uint64_t tsc, ns, v;
	int8_t shift;

	(void)state;
	platform_cpuid(t.p, 0, 0x40000000, 0, regs);
	assert_memory_equal(&regs[1], "KVMKVMKVM\0\0\0", 12);
	platform_cpuid(t.p, 0, 0x40000001, 0, regs);
	assert_int_equal(regs[0], 1 << 0 | 1 << 1 | 1 << 3 | 1 << 24);
	platform_cpuid(t.p, 0, 0x40000010, 0, regs);
	assert_int_equal(regs[0], PLAT_TSC_HZ / 1000);

	assert_int_equal(platform_wrmsr(t.p, 2, 0x4b564d01, 0x2000 | 1), 0);
	platform_rdmsr(t.p, 2, 0x4b564d01, &v);
	assert_int_equal(v, 0x2001);
	assert_int_equal(legacy_get(0x2000, 4) & 1, 0); /* version */
	assert_int_equal(t.mem[0x201d], 1); /* stable */
	plat_jump(&t, 123456789);
	tsc = t.now * 2 - legacy_get(0x2008, 8);
	shift = (int8_t)t.mem[0x201c];
	tsc = shift < 0 ? tsc >> -shift : tsc << shift;
	ns = legacy_get(0x2010, 8) +
	    (uint64_t)((unsigned __int128)tsc * legacy_get(0x2018, 4) >> 32);
	assert_in_range(ns, t.now - 2, t.now + 2);

	/* The TSC moves: time does not. */
	t.tsc_adjust[2] = 5000000000;
	assert_int_equal(platform_wrmsr(t.p, 2, 0x3b, t.tsc_adjust[2]), 0);
	assert_int_equal(legacy_get(0x2000, 4) & 1, 0);
	assert_int_equal(legacy_get(0x2000, 4), 4);
	assert_int_equal(t.mem[0x201d], 0); /* the others' did not */
	assert_int_equal(legacy_get(0x2008, 8), t.now * 2 + t.tsc_adjust[2]);
	assert_in_range(legacy_get(0x2010, 8), t.now - 2, t.now + 2);
	t.tsc_adjust[2] = 0;
	platform_vcpu_reset(t.p, 2, false);
	platform_rdmsr(t.p, 2, 0x4b564d01, &v);
	assert_int_equal(v, 0);

	assert_int_equal(platform_wrmsr(t.p, 0, 0x4b564d00, 0x3000), 0);
	ns = legacy_get(0x3004, 4) * 1000000000 + legacy_get(0x3008, 4);
	assert_in_range(ns, t.wall - 2, t.wall + 2);
	/* guest memory that is not there */
	assert_int_equal(platform_wrmsr(t.p, 0, 0x4b564d01, PLAT_MEM | 1), -EINVAL);
	assert_int_equal(platform_wrmsr(t.p, 0, 0x4b564d01, 0), 0);
	assert_int_equal(platform_wrmsr(t.p, 0, 0x4b564d02, 0), -ENXIO);
}

#define T(f) cmocka_unit_test_setup_teardown(f, legacy_setup, legacy_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pic), T(test_pic_modes), T(test_power), T(test_pm_timer),
		T(test_resets), T(test_i8042), T(test_ports), T(test_kvmclock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
