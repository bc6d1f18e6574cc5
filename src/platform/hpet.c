/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The HPET: a 64-bit counter of 100 MHz and three timers.
 *
 * As everywhere here nothing counts: the counter is the host's monotonic clock
 * since it was started, and a comparator is the moment at which it will match.
 * A comparator matches on equality only, so one that is set to the past waits
 * for the counter to wrap, as hardware does; drivers check for that.
 *
 * HPET-1: timer.due is the 64-bit count of the next match, and the timer is
 *	armed for it, exactly while the counter runs and timer.due is not 0.
 *
 * Source: IA-PC HPET specification 1.0a.
 */
#include <string.h>

#include "platform/platform_int.h"

#define HPET_NS 10u
#define HPET_ROUTES 0x00f00000ul /* I/O APIC pins 20 to 23 */

#define HPET_ENABLE 1u
#define HPET_LEGACY 2u

#define HPET_T_LEVEL (1u << 1)
#define HPET_T_INT (1u << 2)
#define HPET_T_PERIODIC (1u << 3)
#define HPET_T_SET (1u << 6)
#define HPET_T_32 (1u << 8)
#define HPET_T_WRITABLE 0x3f4eu
#define HPET_T_CAPS (1ul << 4 | 1ul << 5 | HPET_ROUTES << 32)

bool
hpet_replaces(struct platform *p)
{
	return atomic_load_explicit(&p->hpet.legacy, memory_order_relaxed);
}

static uint64_t
hpet_counter(struct platform *p)
{
	struct hpet *h = &p->hpet;

	if ((h->config & HPET_ENABLE) == 0)
		return h->held;
	return h->held + (timer_now(&p->tq) - h->start) / HPET_NS;
}

static void
hpet_arm(struct platform *p, struct hpet_timer *t) LOCK_REQUIRES(&p->hpet.lock)
{
	struct hpet *h = &p->hpet;
	uint64_t now = hpet_counter(p), delta = t->cmp - now;

	t->due = 0;
	if ((t->config & HPET_T_32) != 0) {
		delta = (uint32_t)delta;
		if (delta == 0)
			delta = 1ul << 32;
	}
	if ((h->config & HPET_ENABLE) == 0 || (t->config & HPET_T_INT) == 0 ||
	    delta == 0 || delta > 1ul << 56 || now + delta < now) {
		timer_cancel(&p->tq, &t->timer);
		return;
	}
	t->due = now + delta;
	timer_set(&p->tq, &t->timer, h->start + (t->due - h->held) * HPET_NS);
}

static void
hpet_line(struct platform *p, const struct hpet_timer *t, bool level)
{
	unsigned n = (unsigned)(t - p->hpet.timer), pin = t->config >> 9 & 31;

	if ((p->hpet.config & HPET_LEGACY) != 0 && n < 2)
		platform_line(p, n == 0 ? 0 : 8, level);
	else if (pin < PLATFORM_PINS && (HPET_ROUTES & 1ul << pin) != 0)
		ioapic_set(p, pin, level);
}

static void
hpet_fire(void *arg)
{
	struct hpet_timer *t = arg;
	struct platform *p = t->p;
	struct hpet *h = &p->hpet;
	uint64_t now, late, mask;

	lock_acquire(&p->hpet.lock);
	now = hpet_counter(p);
	if (t->due == 0 || now < t->due || (h->config & HPET_ENABLE) == 0) {
		lock_release(&p->hpet.lock); /* moved or stopped meanwhile */
		return;
	}
	mask = (t->config & HPET_T_32) != 0 ? 0xffffffff : ~0ul;
	if ((t->config & HPET_T_PERIODIC) != 0 && t->period != 0) {
		/* one tick stands for all that were missed; the clamp keeps a
		 * tiny period from eating the host */
		late = now - t->due + PLATFORM_MIN_NS / HPET_NS;
		t->cmp = (t->cmp + (late / t->period + 1) * t->period) & mask;
	}
	hpet_arm(p, t);
	if ((t->config & HPET_T_LEVEL) != 0) {
		h->status |= 1u << (t - h->timer);
		hpet_line(p, t, true);
	} else {
		hpet_line(p, t, true);
		hpet_line(p, t, false);
	}
	lock_release(&p->hpet.lock);
}

static uint64_t
hpet_read(struct platform *p, uint64_t reg) LOCK_REQUIRES(&p->hpet.lock)
{
	struct hpet *h = &p->hpet;
	struct hpet_timer *t = &h->timer[((reg >> 5) + 1) % HPET_TIMERS];

	switch (reg) {
	case 0x00: /* period in fs, 8086, legacy, 64 bits, timers, revision */
		return HPET_NS * 1000000ul << 32 | 0x80860000u | 1u << 15 | 1u << 13 |
		    (HPET_TIMERS - 1) << 8 | 1;
	case 0x10: return h->config;
	case 0x20: return h->status;
	case 0xf0: return hpet_counter(p);
	case 0x100: case 0x120: case 0x140: return t->config | HPET_T_CAPS;
	case 0x108: case 0x128: case 0x148: return t->cmp;
	default: return 0;
	}
}

static void
hpet_config(struct platform *p, uint64_t val) LOCK_REQUIRES(&p->hpet.lock)
{
	struct hpet *h = &p->hpet;

	h->held = hpet_counter(p);
	h->start = timer_now(&p->tq);
	h->config = val & (HPET_ENABLE | HPET_LEGACY);
	atomic_store(&h->legacy, h->config == (HPET_ENABLE | HPET_LEGACY));
	for (unsigned i = 0; i < HPET_TIMERS; i++)
		hpet_arm(p, &h->timer[i]);
}

static void
hpet_compare(struct platform *p, struct hpet_timer *t, uint64_t val)
    LOCK_REQUIRES(&p->hpet.lock)
{
	if ((t->config & HPET_T_32) != 0)
		val = (uint32_t)val;
	if ((t->config & HPET_T_PERIODIC) == 0 || (t->config & HPET_T_SET) != 0)
		t->cmp = val;
	if ((t->config & HPET_T_PERIODIC) != 0)
		t->period = val;
	t->config &= ~HPET_T_SET;
	hpet_arm(p, t);
}

static void
hpet_write(struct platform *p, uint64_t reg, uint64_t val)
    LOCK_REQUIRES(&p->hpet.lock)
{
	struct hpet *h = &p->hpet;
	struct hpet_timer *t = &h->timer[((reg >> 5) + 1) % HPET_TIMERS];

	switch (reg) {
	case 0x10:
		hpet_config(p, val);
		break;
	case 0x20:
		for (unsigned i = 0; i < HPET_TIMERS; i++)
			if ((val & h->status & 1u << i) != 0)
				hpet_line(p, &h->timer[i], false);
		h->status &= (uint32_t)~val;
		break;
	case 0xf0:
		h->held = val;
		h->start = timer_now(&p->tq);
		for (unsigned i = 0; i < HPET_TIMERS; i++)
			hpet_arm(p, &h->timer[i]);
		break;
	case 0x100: case 0x120: case 0x140:
		if ((h->status & 1u << (t - h->timer)) != 0)
			hpet_line(p, t, false); /* its route may change */
		h->status &= ~(1u << (t - h->timer));
		t->config = val & HPET_T_WRITABLE;
		if ((t->config & HPET_T_32) != 0) {
			t->cmp = (uint32_t)t->cmp;
			t->period = (uint32_t)t->period;
		}
		hpet_arm(p, t);
		break;
	case 0x108: case 0x128: case 0x148:
		hpet_compare(p, t, val);
		break;
	default:
		break;
	}
}

void
hpet_mmio(struct platform *p, uint64_t off, unsigned bytes, bool write,
    uint64_t *valp)
{
	uint64_t reg = off & ~7ul, v, mask;
	unsigned shift = (off & 7) * 8;

	if (off >= 0x400 || (off & (bytes - 1)) != 0) {
		*valp = 0;
		return;
	}
	mask = bytes == 8 ? ~0ul : ((1ul << bytes * 8) - 1) << shift;
	lock_acquire(&p->hpet.lock);
	if (!write) {
		*valp = (hpet_read(p, reg) & mask) >> shift;
	} else {
		/* of the status only the written ones count */
		v = reg == 0x20 ? 0 : hpet_read(p, reg) & ~mask;
		hpet_write(p, reg, v | (*valp << shift & mask));
	}
	lock_release(&p->hpet.lock);
}

void
hpet_reset(struct platform *p)
{
	struct hpet *h = &p->hpet;

	lock_acquire(&p->hpet.lock);
	h->config = h->status = 0;
	h->held = 0;
	atomic_store(&h->legacy, false);
	for (unsigned i = 0; i < HPET_TIMERS; i++) {
		struct hpet_timer *t = &h->timer[i];

		timer_cancel(&p->tq, &t->timer);
		t->p = p;
		t->timer.fn = hpet_fire;
		t->timer.arg = t;
		t->config = 0;
		t->cmp = ~0ul;
		t->period = t->due = 0;
	}
	lock_release(&p->hpet.lock);
}
