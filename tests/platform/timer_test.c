/* SPDX-License-Identifier: BSD-2-Clause */
/* 8254, RTC and HPET: right figures whenever somebody looks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

#include "plat.h"

#define HPET 0xfed00000ul
#define MS 1000000ull
#define SEC 1000000000ull

static struct plat t;

static int
timer_setup(void **state)
{
	(void)state;
	plat_start(&t);
	plat_write(&t, 0, 0xfee000f0, 0x1ff);
	for (unsigned pin = 0; pin < 24; pin++) {
		plat_write(&t, 0, 0xfec00000, 0x10 + pin * 2);
		plat_write(&t, 0, 0xfec00010, 0x40 + pin);
	}
	return 0;
}

static int
timer_teardown(void **state)
{
	(void)state;
	plat_stop(&t);
	return 0;
}

/* => interrupts taken from pin */
static unsigned
timer_irqs(unsigned pin)
{
	unsigned n = 0;

	while (platform_intr_pending(t.p, 0) == (int)(0x40 + pin)) {
		assert_int_equal(platform_intr_accept(t.p, 0), 0x40 + pin);
		plat_write(&t, 0, 0xfee000b0, 0);
		n++;
	}
	return n;
}

static unsigned
pit_latched(unsigned n)
{
	unsigned v;

	plat_out(&t, 0x43, (uint8_t)(n << 6));
	v = plat_in(&t, (uint16_t)(0x40 + n));
	return v | (unsigned)plat_in(&t, (uint16_t)(0x40 + n)) << 8;
}

static void
pit_set(unsigned n, unsigned mode, unsigned count)
{
	plat_out(&t, 0x43, (uint8_t)(n << 6 | 0x30 | mode << 1));
	plat_out(&t, (uint16_t)(0x40 + n), (uint8_t)count);
	plat_out(&t, (uint16_t)(0x40 + n), (uint8_t)(count >> 8));
}

static void
test_pit_rate(void **state)
{
	unsigned n = 0;

	(void)state;
	pit_set(0, 2, 11932); /* 100 Hz */
	for (unsigned i = 0; i < 10000; i++) {
		plat_jump(&t, MS);
		n += timer_irqs(2);
	}
	assert_in_range(n, 999, 1001);
	plat_jump(&t, SEC); /* a vCPU that slept: one */
	assert_int_equal(timer_irqs(2), 1);
	/* a new count waits for the end of the period */
	pit_set(0, 2, 10000);
	plat_jump(&t, 5000 * SEC / 1193182);
	plat_out(&t, 0x40, 0xe8);
	plat_out(&t, 0x40, 0x03);
	assert_in_range(pit_latched(0), 4990, 5002);
	plat_jump(&t, 5500 * SEC / 1193182);
	assert_in_range(pit_latched(0), 490, 502);
}

static void
test_pit_oneshot(void **state)
{
	(void)state;
	pit_set(0, 0, 1193);
	plat_jump(&t, MS / 2);
	assert_int_equal(timer_irqs(2), 0);
	plat_jump(&t, MS);
	assert_int_equal(timer_irqs(2), 1);
	plat_jump(&t, SEC);
	assert_int_equal(timer_irqs(2), 0);
	pit_set(0, 4, 1193);
	plat_jump(&t, 2 * MS);
	assert_int_equal(timer_irqs(2), 1);
	pit_set(0, 3, 0); /* 65536: 18.2 Hz */
	plat_run(&t, SEC, MS);
	assert_int_equal(timer_irqs(2), 1);
}

/* As Linux and others measure the TSC: 50 ms by channel 2. */
static void
test_pit_gate(void **state)
{
	unsigned v;

	(void)state;
	plat_out(&t, 0x61, 0);
	pit_set(2, 0, 59659);
	assert_int_equal(plat_in(&t, 0x61) & 0x20, 0);
	plat_jump(&t, SEC); /* the gate is shut */
	assert_int_equal(pit_latched(2), 59659);
	plat_out(&t, 0x61, 1);
	plat_jump(&t, 49 * MS);
	assert_int_equal(plat_in(&t, 0x61) & 0x20, 0);
	plat_out(&t, 0x61, 0);
	plat_jump(&t, SEC);
	v = pit_latched(2);
	plat_out(&t, 0x61, 1);
	assert_in_range(pit_latched(2), v - 1, v);
	plat_jump(&t, 1100000);
	assert_int_equal(plat_in(&t, 0x61) & 0x20, 0x20);
	/* one-shot by the gate */
	plat_out(&t, 0x61, 0);
	pit_set(2, 1, 1193);
	plat_jump(&t, SEC);
	plat_out(&t, 0x61, 1);
	assert_int_equal(plat_in(&t, 0x61) & 0x20, 0);
	plat_jump(&t, 2 * MS);
	assert_int_equal(plat_in(&t, 0x61) & 0x20, 0x20);
}

static void
test_pit_readback(void **state)
{
	unsigned v;

	(void)state;
	pit_set(2, 3, 1000);
	plat_out(&t, 0x61, 1);
	plat_jump(&t, 100 * SEC / 1193182);
	plat_out(&t, 0x43, 0xc0 | 2 << 2); /* count and status of channel 2 */
	plat_jump(&t, MS / 10);
	assert_int_equal(plat_in(&t, 0x42), 0x80 | 0x30 | 3 << 1);
	v = plat_in(&t, 0x42);
	v |= (unsigned)plat_in(&t, 0x42) << 8;
	assert_in_range(v, 798, 802); /* twice as fast */
	/* BCD */
	plat_out(&t, 0x43, 0xb1);
	plat_out(&t, 0x42, 0x00);
	plat_out(&t, 0x42, 0x10);
	plat_jump(&t, SEC / 1193182 * 3);
	v = pit_latched(2);
	assert_in_range(v, 0x997, 0x998);
}

static uint8_t
rtc_get(uint8_t i)
{
	plat_out(&t, 0x70, i);
	return plat_in(&t, 0x71);
}

static void
rtc_set(uint8_t i, uint8_t v)
{
	plat_out(&t, 0x70, i);
	plat_out(&t, 0x71, v);
}

static void
test_rtc_time(void **state)
{
	(void)state;
	/* 1700000001 is Tue 2023-11-14 22:13:21 UTC */
	assert_int_equal(rtc_get(0), 0x21);
	assert_int_equal(rtc_get(2), 0x13);
	assert_int_equal(rtc_get(4), 0x22);
	assert_int_equal(rtc_get(6), 3);
	assert_int_equal(rtc_get(7), 0x14);
	assert_int_equal(rtc_get(8), 0x11);
	assert_int_equal(rtc_get(9), 0x23);
	assert_int_equal(rtc_get(0x32), 0x20);
	rtc_set(0xb, 0x04); /* binary, 12 hours */
	assert_int_equal(rtc_get(4), 0x80 | 10);
	rtc_set(0xb, 0x86); /* stop, set 1999-12-31 23:59:58 */
	rtc_set(0, 58);
	rtc_set(2, 59);
	rtc_set(4, 23);
	rtc_set(7, 31);
	rtc_set(8, 12);
	rtc_set(9, 99);
	rtc_set(0x32, 19);
	plat_jump(&t, 10 * SEC);
	assert_int_equal(rtc_get(0), 58);
	rtc_set(0xb, 0x06);
	plat_jump(&t, 3 * SEC);
	assert_int_equal(rtc_get(9), 0);
	assert_int_equal(rtc_get(0x32), 20);
	assert_int_equal(rtc_get(0), 1);
	assert_int_equal(rtc_get(7), 1);
	/* memory, and a register that says the battery is good */
	rtc_set(0x40, 0xa5);
	assert_int_equal(rtc_get(0x40), 0xa5);
	rtc_set(0xd, 0);
	assert_int_equal(rtc_get(0xd), 0x80);
	/* an update is announced 244 us before */
	t.now += SEC - (t.wall + t.now) % SEC - 100000;
	assert_int_equal(rtc_get(0xa), 0xa6);
	t.now += 200000;
	assert_int_equal(rtc_get(0xa), 0x26);
	rtc_set(9, 0x99); /* nonsense does no harm */
	rtc_set(8, 0xff);
	rtc_set(7, 0);
	(void)rtc_get(7);
}

static void
test_rtc_interrupts(void **state)
{
	unsigned n = 0;

	(void)state;
	rtc_set(0xa, 0x26); /* 1024 Hz */
	rtc_set(0xb, 0x42);
	(void)rtc_get(0xc);
	for (unsigned i = 0; i < 10000; i++) {
		plat_jump(&t, MS / 10);
		if (timer_irqs(8) != 0) {
			assert_int_equal(rtc_get(0xc) & 0xc0, 0xc0);
			n++;
		}
	}
	assert_in_range(n, 1023, 1025);
	plat_jump(&t, SEC); /* nobody reads C: one */
	assert_int_equal(timer_irqs(8), 1);
	plat_jump(&t, SEC);
	assert_int_equal(timer_irqs(8), 0);
	/* update-ended */
	rtc_set(0xb, 0x12);
	(void)rtc_get(0xc);
	n = 0;
	for (unsigned i = 0; i < 1000; i++) {
		plat_jump(&t, 10 * MS);
		if (timer_irqs(8) != 0) {
			assert_int_equal(rtc_get(0xc) & 0x90, 0x90);
			n++;
		}
	}
	assert_in_range(n, 9, 11);
	/* alarm: each minute at :30 */
	rtc_set(1, 0x30);
	rtc_set(3, 0xff);
	rtc_set(5, 0xff);
	rtc_set(0xb, 0x22);
	(void)rtc_get(0xc);
	n = 0;
	for (unsigned i = 0; i < 300; i++) {
		plat_jump(&t, SEC);
		if (timer_irqs(8) != 0) {
			assert_int_equal(rtc_get(0), 0x30);
			assert_int_equal(rtc_get(0xc) & 0xa0, 0xa0);
			n++;
		}
	}
	assert_int_equal(n, 5);
	/* without an interrupt the flags still tell */
	rtc_set(0xb, 2);
	(void)rtc_get(0xc);
	plat_jump(&t, SEC);
	assert_int_equal(rtc_get(0xc), 0x50);
}

static void
test_hpet_counter(void **state)
{
	uint64_t v = 0, a;

	(void)state;
	assert_int_equal(platform_mmio(t.p, 0, HPET, 8, false, &v), 0);
	assert_int_equal(v >> 32, 10000000);
	assert_int_equal(v & 0xffff, 0xa201);
	plat_jump(&t, SEC);
	platform_mmio(t.p, 0, HPET + 0xf0, 8, false, &v);
	assert_int_equal(v, 0);
	plat_write(&t, 0, HPET + 0x10, 1);
	plat_jump(&t, 100 * SEC);
	platform_mmio(t.p, 0, HPET + 0xf0, 8, false, &a);
	assert_int_equal(a, 100 * 100000000ull);
	assert_int_equal(plat_read(&t, 0, HPET + 0xf4), a >> 32);
	plat_write(&t, 0, HPET + 0x10, 0);
	plat_jump(&t, SEC);
	platform_mmio(t.p, 0, HPET + 0xf0, 8, false, &v);
	assert_int_equal(v, a);
}

static void
test_hpet_timers(void **state)
{
	unsigned n = 0;

	(void)state;
	plat_write(&t, 0, HPET + 0x10, 3); /* legacy: timer 0 is IRQ 0 */
	pit_set(0, 2, 1193);
	plat_run(&t, 10 * MS, MS);
	assert_int_equal(timer_irqs(2), 0); /* the PIT is cut off */
	/* as Linux: periodic, 10 ms */
	plat_write(&t, 0, HPET + 0x100, 0x14c);
	plat_write(&t, 0, HPET + 0x108, plat_read(&t, 0, HPET + 0xf0) + 1000000);
	plat_write(&t, 0, HPET + 0x108, 1000000);
	for (unsigned i = 0; i < 1000; i++) {
		plat_jump(&t, MS);
		n += timer_irqs(2);
	}
	assert_int_equal(n, 100);
	plat_jump(&t, 105 * MS);
	assert_int_equal(timer_irqs(2), 1);
	plat_write(&t, 0, HPET + 0x100, 0);
	plat_run(&t, 100 * MS, MS);
	assert_int_equal(timer_irqs(2), 0);
	/* timer 2: one-shot on pin 20, 32 bits */
	plat_write(&t, 0, HPET + 0x140, 0x104 | 20 << 9);
	plat_write(&t, 0, HPET + 0x148, plat_read(&t, 0, HPET + 0xf0) + 100000);
	plat_jump(&t, MS - 10);
	assert_int_equal(timer_irqs(20), 0);
	plat_jump(&t, 10);
	assert_int_equal(timer_irqs(20), 1);
	plat_run(&t, SEC, MS);
	assert_int_equal(timer_irqs(20), 0);
	/* level, with status */
	plat_write(&t, 0, HPET + 0x140, 0x106 | 21 << 9);
	plat_write(&t, 0, 0xfec00000, 0x10 + 42);
	plat_write(&t, 0, 0xfec00010, 0x8000 | (0x40 + 21));
	plat_write(&t, 0, HPET + 0x148, plat_read(&t, 0, HPET + 0xf0) + 100);
	plat_jump(&t, MS);
	assert_int_equal(plat_read(&t, 0, HPET + 0x20), 4);
	assert_int_equal(platform_intr_accept(t.p, 0), 0x55);
	plat_write(&t, 0, HPET + 0x20, 4);
	assert_int_equal(plat_read(&t, 0, HPET + 0x20), 0);
	plat_write(&t, 0, 0xfee000b0, 0);
	assert_int_equal(platform_intr_pending(t.p, 0), -1);
}

#define T(f) cmocka_unit_test_setup_teardown(f, timer_setup, timer_teardown)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_pit_rate), T(test_pit_oneshot), T(test_pit_gate),
		T(test_pit_readback), T(test_rtc_time), T(test_rtc_interrupts),
		T(test_hpet_counter), T(test_hpet_timers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
