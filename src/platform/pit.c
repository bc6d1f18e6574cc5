/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The 8254 timer, and port 0x61 that gates its channel 2.
 *
 * No counter counts.  A channel is its reload value and the PIT tick (of the
 * host's monotonic clock) at which it was loaded; values, outputs and the next
 * interrupt are computed from these and the time of the look.  So a guest that
 * calibrates against it gets the right figure however seldom its vCPU ran.
 * Ticks, not nanoseconds, are kept: a period does not drift by rounding.
 *
 * An interrupt that comes late stands for all that were missed.
 *
 * Source: Intel 82C54 data sheet.
 */
#include "platform/platform_int.h"

#define PIT_MIN (PLATFORM_MIN_NS * (uint64_t)PIT_HZ / 1000000000u)

static uint64_t
pit_tick(struct platform *p)
{
	return platform_scale(timer_now(&p->tq), PIT_HZ);
}

/* First nanosecond of a tick. */
static uint64_t
pit_ns(uint64_t tick)
{
	return (uint64_t)(((unsigned __int128)tick * 1000000000u + PIT_HZ - 1) / PIT_HZ);
}

/* A count written to a running rate generator takes effect with its period. */
static void
pit_settle(struct pit_channel *c, uint64_t now)
{
	if (c->next == 0 || now < c->next_at)
		return;
	c->start = c->next_at;
	c->count = c->next;
	c->next = 0;
}

/* Ticks since the channel was loaded or triggered, without those it was held. */
static uint64_t
pit_elapsed(const struct pit_channel *c, uint64_t now)
{
	return c->gate || c->mode == 1 || c->mode == 5 ? now - c->start : c->held;
}

static bool
pit_out(struct pit_channel *c, uint64_t now)
{
	uint64_t t;

	pit_settle(c, now);
	if (c->count == 0 || !c->loaded)
		return c->mode != 0;
	t = pit_elapsed(c, now);
	switch (c->mode) {
	case 0: case 1: return t >= c->count;
	case 2: return !c->gate || t % c->count != c->count - 1;
	case 3: return !c->gate || t % c->count < (c->count + 1) / 2;
	default: return t != c->count;
	}
}

static uint16_t
pit_value(struct pit_channel *c, uint64_t now)
{
	uint64_t t, v, wrap = c->bcd ? 10000 : 0x10000;

	pit_settle(c, now);
	if (c->count == 0)
		return 0;
	t = c->loaded ? pit_elapsed(c, now) : 0;
	switch (c->mode) {
	case 2: v = c->count - t % c->count; break;
	case 3: /* twice as fast, and twice around */
		v = (c->count - t * 2 % c->count) & ~1ul;
		break;
	default: v = c->count + wrap - t % wrap; break;
	}
	v %= wrap;
	if (c->bcd)
		v = v / 1000 << 12 | v / 100 % 10 << 8 | v / 10 % 10 << 4 | v % 10;
	return (uint16_t)v;
}

/* The next rise of channel 0's output is the next interrupt. */
static void
pit_arm(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	struct pit_channel *c = &g->pit[0];
	uint64_t now = pit_tick(p), n;

	timer_cancel(&p->tq, &g->pit_timer);
	g->pit_due = 0;
	pit_settle(c, now);
	if (c->count == 0 || !c->loaded)
		return;
	switch (c->mode) {
	case 2: case 3:
		/* ticks that come too fast are merged */
		n = (now - c->start + PIT_MIN) / c->count + 1;
		g->pit_due = c->start + n * c->count;
		break;
	case 0: case 4:
		n = c->start + c->count + (c->mode == 4);
		if (n > now)
			g->pit_due = n;
		break;
	default: /* the gate of channel 0 never rises */
		break;
	}
	if (g->pit_due != 0)
		timer_set(&p->tq, &g->pit_timer, pit_ns(g->pit_due));
}

static void
pit_fire(void *arg)
{
	struct platform *p = arg;
	struct legacy *g = &p->legacy;
	bool tick;

	lock_acquire(&p->legacy.lock);
	tick = g->pit_due != 0 && pit_tick(p) >= g->pit_due;
	if (tick)
		pit_arm(p);
	lock_release(&p->legacy.lock);
	if (tick && !hpet_replaces(p)) {
		platform_line(p, 0, true);
		platform_line(p, 0, false);
	}
}

static void
pit_latch(struct pit_channel *c, uint64_t now)
{
	if (c->latched)
		return;
	c->latch = pit_value(c, now);
	c->latched = true;
}

static void
pit_readback(struct platform *p, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	uint64_t now = pit_tick(p);

	for (unsigned i = 0; i < 3; i++) {
		struct pit_channel *c = &p->legacy.pit[i];

		if ((v & 2u << i) == 0)
			continue;
		if ((v & 0x10) == 0 && !c->have_status) {
			c->status = (uint8_t)(pit_out(c, now) << 7 |
			    (c->count == 0 || c->next != 0) << 6 | c->access << 4 |
			    c->mode << 1 | c->bcd);
			c->have_status = true;
		}
		if ((v & 0x20) == 0)
			pit_latch(c, now);
	}
}

static void
pit_control(struct platform *p, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct pit_channel *c;
	unsigned n = v >> 6;

	if (n == 3) {
		pit_readback(p, v);
		return;
	}
	c = &p->legacy.pit[n];
	if ((v >> 4 & 3) == 0) {
		pit_latch(c, pit_tick(p));
		return;
	}
	*c = (struct pit_channel){ .gate = c->gate, .access = v >> 4 & 3,
		.mode = (v >> 1 & 7) > 5 ? v >> 1 & 3 : v >> 1 & 7,
		.bcd = (v & 1) != 0 };
	if (n == 0)
		pit_arm(p);
}

static uint8_t
pit_read(struct platform *p, struct pit_channel *c) LOCK_REQUIRES(&p->legacy.lock)
{
	uint16_t v;

	if (c->have_status) {
		c->have_status = false;
		return c->status;
	}
	v = c->latched ? c->latch : pit_value(c, pit_tick(p));
	if (c->access == 3) {
		c->flip = !c->flip;
		if (c->flip)
			return (uint8_t)v;
	}
	c->latched = false;
	return (uint8_t)(c->access == 1 ? v : v >> 8);
}

static void
pit_load(struct pit_channel *c, uint32_t count, uint64_t now)
{
	pit_settle(c, now);
	if ((c->mode == 2 || c->mode == 3) && c->loaded && c->gate) {
		c->next = count;
		c->next_at = c->start +
		    ((now - c->start) / c->count + 1) * c->count;
		return;
	}
	c->count = count;
	if (c->mode == 1 || c->mode == 5)
		return; /* starts with the gate */
	c->loaded = true;
	c->start = now;
	c->held = 0;
}

static void
pit_write(struct platform *p, unsigned n, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct pit_channel *c = &p->legacy.pit[n];
	uint32_t count;

	if (c->access == 3) {
		c->wflip = !c->wflip;
		if (c->wflip) {
			c->wlow = v;
			return;
		}
		count = (uint32_t)v << 8 | c->wlow;
	} else {
		count = c->access == 1 ? v : (uint32_t)v << 8;
	}
	if (c->bcd)
		count = (count >> 12) * 1000 + (count >> 8 & 15) * 100 +
		    (count >> 4 & 15) * 10 + (count & 15);
	pit_load(c, count != 0 ? count : c->bcd ? 10000 : 0x10000, pit_tick(p));
	if (n == 0)
		pit_arm(p);
}

static void
pit_gate(struct pit_channel *c, bool gate, uint64_t now)
{
	if (gate == c->gate)
		return;
	pit_settle(c, now);
	if (!gate)
		c->held = now - c->start;
	c->gate = gate;
	if (!gate || c->count == 0)
		return;
	switch (c->mode) {
	case 0: case 4: c->start = now - c->held; break;
	default: /* a rise triggers or starts anew, with the newest count */
		if (c->next != 0)
			c->count = c->next;
		c->next = 0;
		c->loaded = true;
		c->start = now;
	}
}

void
pit_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;

	if (port == 0x61) {
		if (!in) {
			g->port61 = *vp & 0xf;
			pit_gate(&g->pit[2], (*vp & 1) != 0, pit_tick(p));
			return;
		}
		/* bit 4 toggles with each refresh of memory, every 15 us */
		*vp = (uint8_t)(g->port61 | pit_out(&g->pit[2], pit_tick(p)) << 5 |
		    (platform_scale(timer_now(&p->tq), 66288) & 1) << 4);
	} else if (port == 0x43) {
		if (in)
			*vp = 0xff;
		else
			pit_control(p, *vp);
	} else if (in) {
		*vp = pit_read(p, &g->pit[port - 0x40]);
	} else {
		pit_write(p, port - 0x40, *vp);
	}
}

void
pit_reset(struct platform *p)
{
	struct legacy *g = &p->legacy;

	timer_cancel(&p->tq, &g->pit_timer);
	g->pit_timer.fn = pit_fire;
	g->pit_timer.arg = p;
	g->pit_due = 0;
	g->port61 = 0;
	for (unsigned i = 0; i < 3; i++)
		g->pit[i] = (struct pit_channel){ .gate = i != 2, .access = 3 };
}
