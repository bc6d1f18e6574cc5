/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guests for the command line's tests, played by the stand-in engine instead
 * of a processor.  $HYVE_TEST_GUEST picks one:
 *
 *	hello	prints a line and halts, interrupts on (the default)
 *	flood	prints for ever
 *	echo	prints what it receives, + 1 to each byte; at 'q' it halts for
 *		good
 *	spin	runs without end
 *	dead	halts with interrupts off
 *	triple	triple fault
 *	exit	writes 5 to the debug-exit port
 *	memfail, error: the engine gives up
 */
#include <stdlib.h>
#include <string.h>

#include "../unit/fake.h"

static unsigned script_at;

static bool
script_out(struct vmm_exit *ex, uint16_t port, uint8_t val)
{
	memset(&ex->u, 0, sizeof(ex->u));
	ex->reason = VMM_EXIT_IO;
	ex->u.io.port = port;
	ex->u.io.bytes = 1;
	ex->u.io.data = val;
	return true;
}

static bool
script_in(struct vmm_exit *ex, uint16_t port)
{
	(void)script_out(ex, port, 0);
	ex->u.io.in = 1;
	return true;
}

static bool
script_hlt(struct fake_cpu *c, struct vmm_exit *ex, bool interrupts)
{
	c->reg[VMM_REG_RFLAGS] = interrupts ? 0x202 : 2;
	ex->reason = VMM_EXIT_HLT;
	return true;
}

static bool
script_hello(struct fake_cpu *c, struct vmm_exit *ex)
{
	static const char text[] = "hello from the guest\n";

	if (text[script_at] != '\0')
		return script_out(ex, 0x3f8, (uint8_t)text[script_at++]);
	return script_hlt(c, ex, true);
}

static bool
script_flood(struct fake_cpu *c, struct vmm_exit *ex)
{
	(void)c;
	return script_out(ex, 0x3f8, script_at++ % 64 == 63 ? '\n' : 'x');
}

static bool
script_echo(struct fake_cpu *c, struct vmm_exit *ex)
{
	uint8_t b = (uint8_t)ex->u.io.data;

	switch (script_at) {
	case 0: /* ready to receive */
		script_at = 1;
		return script_out(ex, 0x3fc, 3);
	case 1:
		script_at = 2;
		return script_in(ex, 0x3fd);
	case 2:
		script_at = (b & 1) != 0 ? 3 : 1;
		return (b & 1) != 0 ? script_in(ex, 0x3f8) : false;
	default:
		if (b == 'q')
			return script_hlt(c, ex, false);
		script_at = 1;
		return script_out(ex, 0x3f8, (uint8_t)(b + 1));
	}
}

static bool
script_end(struct fake_cpu *c, struct vmm_exit *ex)
{
	const char *guest = getenv("HYVE_TEST_GUEST");

	memset(&ex->u, 0, sizeof(ex->u));
	if (strcmp(guest, "dead") == 0)
		return script_hlt(c, ex, false);
	if (strcmp(guest, "exit") == 0)
		return script_out(ex, 0xf4, 5);
	if (strcmp(guest, "memfail") == 0) {
		ex->reason = VMM_EXIT_MEMFAIL;
		ex->u.memfail.gpa = 0x1000;
		ex->u.memfail.error = -5;
		return true;
	}
	if (strcmp(guest, "error") == 0) {
		ex->reason = VMM_EXIT_ERROR;
		ex->rip = 0x1234;
		return true;
	}
	ex->reason = VMM_EXIT_SUSPEND;
	ex->u.suspend.how = VMM_SUSPEND_TRIPLEFAULT;
	ex->u.suspend.status = -1;
	return true;
}

static void __attribute__((constructor))
script_pick(void)
{
	const char *guest = getenv("HYVE_TEST_GUEST");

	if (guest == NULL || strcmp(guest, "hello") == 0)
		fake_step = script_hello;
	else if (strcmp(guest, "flood") == 0)
		fake_step = script_flood;
	else if (strcmp(guest, "echo") == 0)
		fake_step = script_echo;
	else if (strcmp(guest, "spin") != 0)
		fake_step = script_end;
}
