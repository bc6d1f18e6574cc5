/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Common to all payloads: output, checks, pages, the IDT.
 */
#include "guest.h"

struct guest_trap guest_trap;
unsigned guest_failures;
extern word guest_catch;
extern const char guest_stubs[];
_Noreturn void guest_unexpected(void);
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

#define GUEST_PASS 0x2a
#define GUEST_FAIL 0x15
#define GUEST_POOL 0x400000ul

void *
memset(void *p, int c, size_t n)
{
	void *d = p;

	__asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
	return p;
}

void *
memcpy(void *to, const void *from, size_t n)
{
	void *d = to;

	__asm__ volatile("rep movsb" : "+D"(d), "+S"(from), "+c"(n) : :
	    "memory");
	return to;
}

void
guest_puts(const char *s)
{
	for (; *s != 0; s++) {
		while ((inb(0x3fd) & 0x20) == 0)
			;
		outb(0x3f8, (uint8_t)*s);
	}
}

void
guest_hex(uint64_t v)
{
	char b[17];
	int i = 16;

	b[16] = 0;
	do {
		b[--i] = "0123456789abcdef"[v & 15];
		v >>= 4;
	} while (v != 0);
	guest_puts(b + i);
}

_Noreturn void
guest_exit(unsigned value)
{
	for (;;)
		__asm__ volatile("outl %0, %1; hlt" : : "a"(value),
		    "Nd"((uint16_t)0xf4));
}

void
guest_fail(const char *what, int line, uint64_t got, uint64_t want)
{
	guest_puts("line ");
	guest_hex((unsigned)(line / 1000 * 4096 + line / 100 % 10 * 256 +
	    line / 10 % 10 * 16 + line % 10)); /* decimal */
	guest_puts(": ");
	guest_puts(what);
	guest_puts(": ");
	guest_hex(got);
	guest_puts(", not ");
	guest_hex(want);
	guest_puts(" (last trap: vector ");
	guest_hex(guest_trap.vector);
	guest_puts(" error ");
	guest_hex(guest_trap.error);
	guest_puts(" rip ");
	guest_hex(guest_trap.rip);
	guest_puts(" cr2 ");
	guest_hex(guest_trap.cr2);
	guest_puts(")\n");
	guest_failures++;
}

_Noreturn void
guest_unexpected(void)
{
	guest_fail("a trap out of turn", 0, guest_trap.vector, 0);
	guest_exit(GUEST_FAIL);
}

void *
guest_page(void)
{
	static word next = GUEST_POOL;
	void *p = (void *)next;

	next += 4096;
	memset(p, 0, 4096);
	return p;
}

word
guest_stub(unsigned vector)
{
	return (word)guest_stubs + vector * 16u;
}

void
guest_main(void)
{
	guest_setup();
	guest_test();
	guest_puts(guest_failures == 0 ? "passed\n" : "FAILED\n");
	guest_exit(guest_failures == 0 ? GUEST_PASS : GUEST_FAIL);
}
