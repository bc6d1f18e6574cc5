/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PC's old parts behind ports: 8254, 8259 (masked: interrupts go through
 * the I/O APIC), RTC, PM block, reset and debug-exit ports, an i8042 that only
 * resets.  Every counter is computed from the clock when it is read, so it is
 * right however seldom the vCPU runs.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "platform/platform_int.h"

#define PIT_HZ 1193182u
#define PM_HZ 3579545u
#define LEGACY_PM1 0x600
#define LEGACY_PMTMR 0x608
#define LEGACY_SLP_EN 0x2000

static uint64_t
legacy_scale(uint64_t ns, uint32_t hz)
{
	return (uint64_t)((unsigned __int128)ns * hz / 1000000000u);
}

/* --- 8254 -------------------------------------------------------------- */

static uint64_t
pit_ticks(struct platform *p, const struct pit_channel *c)
{
	return legacy_scale(timer_now(&p->tq) - c->start, PIT_HZ);
}

static bool
pit_out(struct platform *p, const struct pit_channel *c)
{
	uint64_t t = pit_ticks(p, c);

	if (c->count == 0)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
	case 1:
		return t >= c->count;
	case 2:
		return t % c->count != c->count - 1;
	case 3:
		return t % c->count < (c->count + 1) / 2;
	default:
		return t != c->count;
	}
}

static uint16_t
pit_value(struct platform *p, const struct pit_channel *c)
{
	uint64_t t = pit_ticks(p, c);

	if (c->count == 0)
		return 0;
	switch (c->mode) {
	case 2:
		return (uint16_t)(c->count - t % c->count);
	case 3:
		return (uint16_t)(c->count - t * 2 % c->count) & (uint16_t)~1u;
	default:
		return (uint16_t)(c->count - t);
	}
}

static void
pit_arm(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	struct pit_channel *c = &g->pit[0];

	timer_cancel(&p->tq, &g->pit_timer);
	if (c->count == 0 || c->mode == 1 || c->mode == 5)
		return;
	g->pit_next = c->start + (uint64_t)c->count * 1000000000u / PIT_HZ;
	timer_set(&p->tq, &g->pit_timer, g->pit_next);
}

static void
pit_fire(void *arg)
{
	struct platform *p = arg;
	struct legacy *g = &p->legacy;
	struct pit_channel *c = &g->pit[0];
	uint64_t now = timer_now(&p->tq), period;
	bool tick = false;

	lock_acquire(&p->legacy.lock);
	if (c->count != 0 && now >= g->pit_next) {
		tick = true;
		period = (uint64_t)c->count * 1000000000u / PIT_HZ;
		if (period == 0)
			period = 1;
		if (c->mode == 2 || c->mode == 3) {
			/* what was missed is one tick */
			g->pit_next += ((now - g->pit_next) / period + 1) * period;
			timer_set(&p->tq, &g->pit_timer, g->pit_next);
		}
	}
	lock_release(&p->legacy.lock);
	if (tick) {
		ioapic_set(p, 2, true);
		ioapic_set(p, 2, false);
	}
}

static void
pit_latch(struct platform *p, struct pit_channel *c)
{
	if (c->latched)
		return;
	c->latch = pit_value(p, c);
	c->latched = true;
}

static void
pit_control(struct platform *p, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct pit_channel *c;
	unsigned n = v >> 6;

	if (n == 3) { /* read-back */
		for (unsigned i = 0; i < 3; i++) {
			c = &p->legacy.pit[i];
			if ((v & 2u << i) == 0)
				continue;
			if ((v & 0x10) == 0 && !c->have_status) {
				c->status = (uint8_t)(pit_out(p, c) << 7 |
				    (c->count == 0) << 6 | c->access << 4 |
				    c->mode << 1 | c->bcd);
				c->have_status = true;
			}
			if ((v & 0x20) == 0)
				pit_latch(p, c);
		}
		return;
	}
	c = &p->legacy.pit[n];
	if ((v >> 4 & 3) == 0) {
		pit_latch(p, c);
		return;
	}
	c->access = v >> 4 & 3;
	c->mode = v >> 1 & 7;
	if (c->mode > 5)
		c->mode &= 3;
	c->bcd = v & 1;
	c->flip = c->wflip = c->latched = c->have_status = false;
	c->count = 0;
	if (n == 0)
		pit_arm(p);
}

static uint8_t
pit_read(struct platform *p, struct pit_channel *c)
{
	uint16_t v;

	if (c->have_status) {
		c->have_status = false;
		return c->status;
	}
	v = c->latched ? c->latch : pit_value(p, c);
	switch (c->access) {
	case 1:
		c->latched = false;
		return (uint8_t)v;
	case 2:
		c->latched = false;
		return (uint8_t)(v >> 8);
	default:
		c->flip = !c->flip;
		if (c->flip)
			return (uint8_t)v;
		c->latched = false;
		return (uint8_t)(v >> 8);
	}
}

static void
pit_write(struct platform *p, unsigned n, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct pit_channel *c = &p->legacy.pit[n];
	uint32_t count;

	switch (c->access) {
	case 1:
		count = v;
		break;
	case 2:
		count = (uint32_t)v << 8;
		break;
	default:
		c->wflip = !c->wflip;
		if (c->wflip) {
			c->wlow = v;
			return;
		}
		count = (uint32_t)v << 8 | c->wlow;
	}
	c->count = count == 0 ? 0x10000 : count;
	c->start = timer_now(&p->tq);
	if (n == 0)
		pit_arm(p);
}

/* --- RTC --------------------------------------------------------------- */

static uint8_t
rtc_read(struct legacy *g, uint8_t i)
{
	struct timespec ts;
	struct tm tm;
	int v;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	switch (i) {
	case 0: v = tm.tm_sec; break;
	case 2: v = tm.tm_min; break;
	case 4: v = tm.tm_hour; break;
	case 6: v = tm.tm_wday + 1; break;
	case 7: v = tm.tm_mday; break;
	case 8: v = tm.tm_mon + 1; break;
	case 9: v = tm.tm_year % 100; break;
	case 0x32: v = tm.tm_year / 100 + 19; break;
	case 0x0a: return 0x26; /* UIP is never seen: the read is atomic */
	case 0x0c: return 0;
	case 0x0d: return 0x80;
	default: return g->cmos[i];
	}
	if ((g->cmos[0x0b] & 4) != 0)
		return (uint8_t)v;
	return (uint8_t)(v / 10 << 4 | v % 10);
}

/* --- power ------------------------------------------------------------- */

static void
pm_sci(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;

	ioapic_set(p, PLATFORM_SCI, (g->pm1_sts & g->pm1_en) != 0);
}

int
platform_power_button(struct platform *p)
{
	struct legacy *g = &p->legacy;
	int error = 0;

	lock_acquire(&p->legacy.lock);
	if ((g->pm1_en & 0x100) == 0)
		error = -EAGAIN;
	g->pm1_sts |= 0x100;
	pm_sci(p);
	lock_release(&p->legacy.lock);
	return error;
}

/* 16-bit registers: STS, EN, CNT */
static void
pm_io(struct platform *p, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	uint64_t image = g->pm1_sts | (uint64_t)g->pm1_en << 16 |
	    (uint64_t)(g->pm1_cnt | 1) << 32;
	unsigned shift = (port - LEGACY_PM1) * 8;
	uint64_t mask = (bytes == 4 ? 0xfffffffful : (1ul << bytes * 8) - 1) << shift;
	uint64_t v;

	if (in) {
		*datap = (uint32_t)((image & mask) >> shift);
		return;
	}
	v = (uint64_t)*datap << shift & mask;
	g->pm1_sts &= (uint16_t)~(v & 0xffff); /* write 1 to clear */
	if ((mask & 0xffff0000ul) != 0)
		g->pm1_en = (uint16_t)((image & ~mask) >> 16 | v >> 16);
	if ((mask & 0xffff00000000ul) != 0) {
		g->pm1_cnt = (uint16_t)((image & ~mask) >> 32 | v >> 32);
		if ((g->pm1_cnt & LEGACY_SLP_EN) != 0 && (g->pm1_cnt >> 10 & 7) == 5)
			p->cb.suspend(p->cfg.arg, VMM_SUSPEND_POWEROFF, -1);
		g->pm1_cnt &= (uint16_t)~LEGACY_SLP_EN;
	}
	pm_sci(p);
}

/* --- ports ------------------------------------------------------------- */

static void
i8042_write(struct platform *p, uint16_t port, uint8_t v)
{
	struct legacy *g = &p->legacy;

	if (port == 0x60) {
		g->i8042_cmd = 0;
		return;
	}
	g->i8042_full = false;
	switch (v) {
	case 0xfe:
		p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
		break;
	case 0x20: g->i8042_out = 0; g->i8042_full = true; break;
	case 0xaa: g->i8042_out = 0x55; g->i8042_full = true; break;
	case 0xab: case 0xa9: g->i8042_out = 1; g->i8042_full = true; break;
	default: g->i8042_cmd = v;
	}
}

static int
legacy_read(struct platform *p, uint16_t port) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;

	switch (port) {
	case 0x20: case 0xa0: return 0;
	case 0x21: return g->pic_imr[0];
	case 0xa1: return g->pic_imr[1];
	case 0x40: case 0x41: case 0x42: return pit_read(p, &g->pit[port - 0x40]);
	case 0x61:
		return (g->port61 & 0xf) | pit_out(p, &g->pit[2]) << 5 |
		    (int)(legacy_scale(timer_now(&p->tq), 33144) & 1) << 4;
	case 0x60:
		g->i8042_full = false;
		return g->i8042_out;
	case 0x64: return 0x14 | g->i8042_full;
	case 0x70: return g->cmos_index;
	case 0x71: return rtc_read(g, g->cmos_index);
	case 0x92: return 2;
	case 0x80: case 0x4d0: case 0x4d1: case 0xcf9: return 0;
	default: return -1;
	}
}

static bool
legacy_write(struct platform *p, uint16_t port, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	unsigned n;

	switch (port) {
	case 0x20: case 0xa0:
		if ((v & 0x10) != 0)
			g->pic_icw[port == 0xa0] = 1;
		return true;
	case 0x21: case 0xa1:
		n = port == 0xa1;
		if (g->pic_icw[n] == 0) {
			g->pic_imr[n] = v;
		} else if (g->pic_icw[n] == 1) {
			g->pic_base[n] = v;
			g->pic_icw[n] = 2;
		} else if (++g->pic_icw[n] > 3) {
			g->pic_icw[n] = 0;
		}
		return true;
	case 0x40: case 0x41: case 0x42:
		pit_write(p, port - 0x40, v);
		return true;
	case 0x43:
		pit_control(p, v);
		return true;
	case 0x60: case 0x64:
		i8042_write(p, port, v);
		return true;
	case 0x61:
		if ((v & 1) != 0 && (g->port61 & 1) == 0)
			g->pit[2].start = timer_now(&p->tq); /* gate rises */
		g->port61 = v & 0xf;
		return true;
	case 0x70:
		g->cmos_index = v & 0x7f;
		return true;
	case 0x71:
		if (g->cmos_index > 0x09 && (g->cmos_index < 0x0c || g->cmos_index > 0x0d))
			g->cmos[g->cmos_index] = v;
		return true;
	case 0x92:
		if ((v & 1) != 0)
			p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
		return true;
	case 0xcf9:
		if ((v & 4) != 0)
			p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
		return true;
	case 0x80: case 0xed: case 0x4d0: case 0x4d1:
		return true;
	default:
		return false;
	}
}

int
legacy_pio(struct platform *p, uint16_t port, unsigned bytes, bool in, uint32_t *datap)
{
	int error = 0, v;

	if (port == 0xf4 && p->cfg.debug_exit && !in) {
		p->cb.suspend(p->cfg.arg, VMM_SUSPEND_POWEROFF,
		    (int)((*datap << 1 | 1) & 0xff));
		return 0;
	}
	lock_acquire(&p->legacy.lock);
	if (port >= LEGACY_PM1 && port + bytes <= LEGACY_PM1 + 6) {
		pm_io(p, port, bytes, in, datap);
	} else if (port == LEGACY_PMTMR && in) {
		*datap = (uint32_t)legacy_scale(timer_now(&p->tq), PM_HZ);
	} else if (bytes != 1) {
		error = -ENXIO;
	} else if (in) {
		v = legacy_read(p, port);
		if (v < 0)
			error = -ENXIO;
		else
			*datap = (uint32_t)v & 0xff;
	} else if (!legacy_write(p, port, (uint8_t)*datap)) {
		error = -ENXIO;
	}
	lock_release(&p->legacy.lock);
	return error;
}

void
legacy_reset(struct platform *p)
{
	struct legacy *g = &p->legacy;

	timer_cancel(&p->tq, &g->pit_timer);
	g->pit_timer.fn = pit_fire;
	g->pit_timer.arg = p;
	memset(g->pit, 0, sizeof(g->pit));
	memset(g->cmos, 0, sizeof(g->cmos));
	g->cmos[0x0b] = 2;
	g->pm1_sts = g->pm1_en = g->pm1_cnt = 0;
	g->pic_imr[0] = g->pic_imr[1] = 0xff;
	g->pic_icw[0] = g->pic_icw[1] = 0;
	g->port61 = 0;
	g->i8042_full = false;
}
