/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APIC, 82093AA with 24 pins.  Level interrupts keep remote IRR until the
 * local APIC's EOI comes back, and are sent again if the pin is still up.
 *
 * A pin is asserted or not; how that would look on a wire, so the polarity
 * bit, is kept and has no effect.
 *
 * Source: Intel 82093AA data sheet; EOI register: as in version 0x20.
 */
#include <string.h>

#include "platform/platform_int.h"

#define IOAPIC_MASKED (1ul << 16)
#define IOAPIC_LEVEL (1ul << 15)
#define IOAPIC_RIRR (1ul << 14)
#define IOAPIC_WRITABLE 0xff0000000001affful

void
ioapic_reset(struct platform *p)
{
	struct ioapic *io = &p->ioapic;

	lock_acquire(&io->lock);
	io->sel = io->id = 0;
	for (unsigned i = 0; i < PLATFORM_PINS; i++)
		io->rte[i] = IOAPIC_MASKED;
	lock_release(&io->lock);
}

/* Sends what pin has to say. => lock held; local APICs rank above it */
static void
ioapic_send(struct platform *p, unsigned pin)
{
	struct ioapic *io = &p->ioapic;
	uint64_t e = io->rte[pin];

	if ((e & IOAPIC_MASKED) != 0)
		return;
	if ((e & IOAPIC_LEVEL) != 0) {
		if ((io->level & 1u << pin) == 0 || (e & IOAPIC_RIRR) != 0)
			return;
		io->rte[pin] |= IOAPIC_RIRR;
	}
	lapic_deliver(p, (uint32_t)(e >> 56), (e & 1 << 11) != 0, e >> 8 & 7,
	    (uint8_t)e, (e & IOAPIC_LEVEL) != 0);
}

void
ioapic_set(struct platform *p, unsigned pin, bool level)
{
	struct ioapic *io = &p->ioapic;
	uint32_t bit = 1u << pin;
	bool was;

	lock_acquire(&io->lock);
	was = (io->level & bit) != 0;
	io->level = level ? io->level | bit : io->level & ~bit;
	if (level && (!was || (io->rte[pin] & IOAPIC_LEVEL) != 0))
		ioapic_send(p, pin);
	lock_release(&io->lock);
}

void
ioapic_eoi(struct platform *p, uint8_t vector)
{
	struct ioapic *io = &p->ioapic;

	lock_acquire(&io->lock);
	for (unsigned i = 0; i < PLATFORM_PINS; i++) {
		if ((uint8_t)io->rte[i] != vector || (io->rte[i] & IOAPIC_LEVEL) == 0)
			continue;
		io->rte[i] &= ~IOAPIC_RIRR;
		ioapic_send(p, i);
	}
	lock_release(&io->lock);
}

void
ioapic_mmio(struct platform *p, uint64_t off, bool write, uint32_t *valp)
{
	struct ioapic *io = &p->ioapic;
	unsigned pin;

	if (off == 0x40 && write) {
		ioapic_eoi(p, (uint8_t)*valp);
		return;
	}
	lock_acquire(&io->lock);
	pin = (io->sel - 0x10) / 2;
	if (off == 0) {
		if (write)
			io->sel = *valp & 0xff;
		else
			*valp = io->sel;
	} else if (off != 0x10) {
		if (!write)
			*valp = 0;
	} else if (io->sel >= 0x10 && pin < PLATFORM_PINS) {
		unsigned shift = (io->sel & 1) * 32;

		if (write) {
			uint64_t m = (0xfffffffful << shift) & IOAPIC_WRITABLE;

			io->rte[pin] = (io->rte[pin] & ~m) |
			    ((uint64_t)*valp << shift & m);
			if ((io->rte[pin] & IOAPIC_LEVEL) == 0)
				io->rte[pin] &= ~IOAPIC_RIRR;
			else
				ioapic_send(p, pin);
		} else {
			*valp = (uint32_t)(io->rte[pin] >> shift);
		}
	} else if (write) {
		if (io->sel == 0)
			io->id = *valp >> 24 & 15;
	} else if (io->sel == 1) {
		*valp = (PLATFORM_PINS - 1) << 16 | 0x20;
	} else {
		*valp = io->sel == 0 || io->sel == 2 ? io->id << 24 : 0;
	}
	lock_release(&io->lock);
}
