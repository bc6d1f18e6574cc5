/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "devices/uart.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR

static int line;
static unsigned sent, rooms;
static uint8_t last;

static void
irq(void *arg, int level)
{
	(void)arg;
	line = level;
}

static void
transmit(void *arg, uint8_t b)
{
	(void)arg;
	sent++;
	last = b;
}

static void
room(void *arg)
{
	(void)arg;
	rooms++;
}

static const struct uart_ops ops = { irq, transmit, room };

static int
setup(void **state)
{
	line = 0;
	sent = rooms = 0;
	*state = uart_create(&ops, NULL);
	return *state == NULL;
}

static int
teardown(void **state)
{
	uart_destroy(*state);
	return 0;
}

static void
registers(void **state)
{
	struct uart *u = *state;

	assert_int_equal(uart_read(u, LSR), 0x60);
	assert_int_equal(uart_read(u, IIR), 0x01);
	uart_write(u, SCR, 0x5a);
	assert_int_equal(uart_read(u, SCR), 0x5a);
	uart_write(u, IER, 0xff);
	assert_int_equal(uart_read(u, IER), 0x0f); /* no 16750, no XR */
	uart_write(u, LCR, 0x83);
	uart_write(u, DATA, 1);
	uart_write(u, IER, 2);
	assert_int_equal(uart_read(u, DATA), 1);
	assert_int_equal(uart_read(u, IER), 2);
	assert_int_equal(sent, 0);
	uart_write(u, LCR, 3);
	assert_int_equal(uart_read(u, IER), 0x0f);
	uart_write(u, FCR, 1);
	assert_int_equal(uart_read(u, IIR) & 0xc0, 0xc0);
	uart_write(u, FCR, 0);
	assert_int_equal(uart_read(u, IIR) & 0xc0, 0);
	uart_write(u, DATA, 'x');
	assert_int_equal(last, 'x');
	uart_write(u, LSR, 0);
	uart_write(u, MSR, 0);
	assert_int_equal(uart_read(u, LSR), 0x60);
	assert_int_equal(uart_read(u, MSR), 0xb0);
}

/* What drivers do to find out whether a port is there. */
static void
loopback(void **state)
{
	struct uart *u = *state;

	uart_write(u, MCR, 0x1a); /* loop, OUT2, RTS */
	assert_int_equal(uart_read(u, MSR) & 0xf0, 0x90);
	uart_write(u, DATA, 'q');
	assert_int_equal(sent, 0);
	assert_int_equal(uart_read(u, LSR) & 1, 1);
	assert_int_equal(uart_read(u, DATA), 'q');
	assert_int_equal(uart_receive(u, (const uint8_t *)"z", 1), 0);
	uart_write(u, DATA, '1');
	uart_write(u, DATA, '2');
	assert_int_equal(uart_read(u, LSR) & 2, 2); /* overrun, once */
	assert_int_equal(uart_read(u, LSR) & 2, 0);
	assert_int_equal(line, 0);
}

static void
transmit_interrupt(void **state)
{
	struct uart *u = *state;

	uart_write(u, IER, 2);
	assert_int_equal(line, 0); /* OUT2 gates it */
	uart_write(u, MCR, 8);
	assert_int_equal(line, 1);
	assert_int_equal(uart_read(u, IIR), 2);
	assert_int_equal(line, 0); /* reading it acknowledges */
	assert_int_equal(uart_read(u, IIR), 1);
	uart_write(u, DATA, 'x');
	assert_int_equal(line, 1);
	uart_write(u, IER, 0);
	assert_int_equal(line, 0);
	uart_write(u, IER, 2);
	assert_int_equal(line, 1);
}

static void
receive(void **state)
{
	static const uint8_t text[] = "0123456789abcdefXYZ";
	struct uart *u = *state;

	/* Not to one who only feels for an UART, */
	uart_write(u, IER, 0x0f);
	assert_int_equal(uart_receive(u, text, 3), 0);
	uart_write(u, IER, 0);
	/* not before the guest listens: it polls, ... */
	uart_write(u, MCR, 0x0b);
	rooms = 0;
	for (unsigned i = 0; i < 200; i++) {
		assert_int_equal(uart_receive(u, text, 3), 0);
		(void)uart_read(u, LSR);
		(void)uart_read(u, LSR);
		uart_write(u, DATA, 'x');
	}
	assert_int_equal(rooms, 0);
	for (unsigned i = 0; i < 200; i++)
		assert_int_equal(uart_read(u, LSR) & 1, 0);
	assert_int_equal(rooms, 1);
	assert_int_equal(uart_receive(u, text, 3), 1);
	assert_int_equal(uart_read(u, DATA), '0');
	uart_write(u, DATA, 'x');
	assert_int_equal(uart_receive(u, text, 3), 0);
	/* ... or takes interrupts. */
	rooms = 0;
	uart_write(u, FCR, 0x81); /* FIFO, trigger at 8 */
	uart_write(u, IER, 1);
	assert_int_equal(line, 0);
	assert_true(rooms > 0);
	assert_int_equal(uart_receive(u, text, 3), 3);
	assert_int_equal(line, 1);
	assert_int_equal(uart_read(u, IIR), 0xcc); /* below: time-out */
	assert_int_equal(uart_receive(u, text + 3, 16), 13);
	assert_int_equal(uart_read(u, IIR), 0xc4);
	rooms = 0;
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(uart_read(u, LSR) & 1, 1);
		assert_int_equal(rooms, 0);
		assert_int_equal(uart_read(u, DATA), text[i]);
	}
	assert_int_equal(rooms, 1);
	assert_int_equal(line, 0);
	assert_int_equal(uart_read(u, LSR) & 1, 0);
	assert_int_equal(uart_read(u, DATA), 0);
	/* What came before the FIFO was turned on stays. */
	uart_write(u, FCR, 0);
	assert_int_equal(uart_receive(u, text, 3), 1);
	uart_write(u, FCR, 0x81);
	assert_int_equal(uart_read(u, DATA), '0');
	uart_receive(u, text, 5);
	uart_write(u, FCR, 0x83);
	assert_int_equal(uart_read(u, LSR) & 1, 0);
	assert_int_equal(line, 0);
}

static void
modem_interrupt(void **state)
{
	struct uart *u = *state;

	uart_write(u, MCR, 0x10);
	(void)uart_read(u, MSR);
	uart_write(u, IER, 8);
	uart_write(u, MCR, 0x12);
	assert_int_equal(uart_read(u, IIR), 0);
	assert_int_equal(uart_read(u, MSR) & 0x1f, 0x11);
	assert_int_equal(uart_read(u, IIR), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(registers, setup, teardown),
		cmocka_unit_test_setup_teardown(loopback, setup, teardown),
		cmocka_unit_test_setup_teardown(transmit_interrupt, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(receive, setup, teardown),
		cmocka_unit_test_setup_teardown(modem_interrupt, setup,
		    teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
