/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MC146818 clock and its CMOS memory.
 *
 * Time is the host's (UTC) plus what the guest has set.  The time registers
 * are filled from it when they are read, and give a new offset when they are
 * written.  The flags of register C are computed when somebody looks: which
 * of the periods, seconds and alarms ended since the last look.  The timer is
 * armed only for an enabled interrupt whose flag is not up yet, so a guest
 * that ignores the clock costs nothing, and a slow one has one tick pending.
 *
 * Source: Motorola MC146818 data sheet; century at 0x32 as the FADT says.
 */
#include <string.h>
#include <time.h>

#include "platform/platform_int.h"

#define RTC_IRQ 8
#define RTC_CENTURY 0x32
#define RTC_UIP_NS 244000u
#define RTC_NS 1000000000ull

enum { RTC_SEC, RTC_SEC_AL, RTC_MIN, RTC_MIN_AL, RTC_HOUR, RTC_HOUR_AL, RTC_WDAY,
	RTC_MDAY, RTC_MON, RTC_YEAR, RTC_A, RTC_B, RTC_C, RTC_D };

#define RTC_A_UIP 0x80
#define RTC_B_SET 0x80
#define RTC_B_IRQS 0x70 /* bits as in C */
#define RTC_B_BINARY 0x04
#define RTC_B_24H 0x02
#define RTC_C_IRQF 0x80
#define RTC_C_PF 0x40
#define RTC_C_AF 0x20
#define RTC_C_UF 0x10

static uint8_t
rtc_out(const struct rtc *r, int v)
{
	return (uint8_t)((r->reg[RTC_B] & RTC_B_BINARY) != 0 ? v : v / 10 << 4 | v % 10);
}

static int
rtc_in(const struct rtc *r, uint8_t v)
{
	return (r->reg[RTC_B] & RTC_B_BINARY) != 0 ? v : (v >> 4) * 10 + (v & 15);
}

static uint8_t
rtc_out_hour(const struct rtc *r, int h)
{
	if ((r->reg[RTC_B] & RTC_B_24H) != 0)
		return rtc_out(r, h);
	return rtc_out(r, h % 12 == 0 ? 12 : h % 12) | (h >= 12 ? 0x80 : 0);
}

static int
rtc_in_hour(const struct rtc *r, uint8_t v)
{
	if ((r->reg[RTC_B] & RTC_B_24H) != 0)
		return rtc_in(r, v);
	return rtc_in(r, v & 0x7f) % 12 + ((v & 0x80) != 0 ? 12 : 0);
}

/* The guest's time in ns of the Unix epoch. */
static uint64_t
rtc_now(struct platform *p)
{
	return platform_wall(p) + (uint64_t)p->legacy.rtc.offset * RTC_NS;
}

static void
rtc_fill(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;
	time_t t = (time_t)(rtc_now(p) / RTC_NS);
	struct tm tm;

	if ((r->reg[RTC_B] & RTC_B_SET) != 0 || gmtime_r(&t, &tm) == NULL)
		return;
	r->reg[RTC_SEC] = rtc_out(r, tm.tm_sec);
	r->reg[RTC_MIN] = rtc_out(r, tm.tm_min);
	r->reg[RTC_HOUR] = rtc_out_hour(r, tm.tm_hour);
	r->reg[RTC_WDAY] = rtc_out(r, tm.tm_wday + 1);
	r->reg[RTC_MDAY] = rtc_out(r, tm.tm_mday);
	r->reg[RTC_MON] = rtc_out(r, tm.tm_mon + 1);
	r->reg[RTC_YEAR] = rtc_out(r, tm.tm_year % 100);
	r->reg[RTC_CENTURY] = rtc_out(r, tm.tm_year / 100 + 19);
}

/* The registers say what time it is. */
static void
rtc_take(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;
	struct tm tm = {
		.tm_sec = rtc_in(r, r->reg[RTC_SEC]),
		.tm_min = rtc_in(r, r->reg[RTC_MIN]),
		.tm_hour = rtc_in_hour(r, r->reg[RTC_HOUR]),
		.tm_mday = rtc_in(r, r->reg[RTC_MDAY]),
		.tm_mon = rtc_in(r, r->reg[RTC_MON]) - 1,
		.tm_year = rtc_in(r, r->reg[RTC_CENTURY]) * 100 +
		    rtc_in(r, r->reg[RTC_YEAR]) - 1900,
	};
	int64_t t = timegm(&tm);

	/* before the epoch or after 2514: the clock stays as it was */
	if (t >= 0 && t < 1l << 34)
		r->offset = t - (int64_t)(platform_wall(p) / RTC_NS);
	r->seen_wall = rtc_now(p);
}

/* => ns, 0: no periodic ticks */
static uint64_t
rtc_period(const struct rtc *r)
{
	unsigned rs = r->reg[RTC_A] & 15;

	if (rs == 0 || (r->reg[RTC_A] & 0x70) != 0x20)
		return 0;
	if (rs < 3)
		rs += 7;
	return (RTC_NS << (rs - 1)) / 32768;
}

static bool
rtc_alarm_is(uint8_t reg, int alarm, int now)
{
	return reg >= 0xc0 || alarm == now;
}

/* => the first second after t at which the alarm rings, or ~0 */
static uint64_t
rtc_alarm(const struct rtc *r, uint64_t t)
{
	uint64_t end = t + 86400;
	int hour = rtc_in_hour(r, r->reg[RTC_HOUR_AL]);
	int min = rtc_in(r, r->reg[RTC_MIN_AL]), sec = rtc_in(r, r->reg[RTC_SEC_AL]);

	for (t++; t <= end;) {
		if (!rtc_alarm_is(r->reg[RTC_HOUR_AL], hour, (int)(t / 3600 % 24)))
			t += 3600 - t % 3600;
		else if (!rtc_alarm_is(r->reg[RTC_MIN_AL], min, (int)(t / 60 % 60)))
			t += 60 - t % 60;
		else if (!rtc_alarm_is(r->reg[RTC_SEC_AL], sec, (int)(t % 60)))
			t++;
		else
			return t;
	}
	return ~0ull;
}

/* Raises the flags of what has ended, and arms for what will. */
static void
rtc_look(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;
	uint64_t now = timer_now(&p->tq), wall = rtc_now(p), period = rtc_period(r);
	uint64_t next = ~0ull, sec = r->seen_wall / RTC_NS, ring;
	uint8_t want;

	if (period != 0 && now / period != r->seen / period)
		r->reg[RTC_C] |= RTC_C_PF;
	r->seen = now;
	if ((r->reg[RTC_B] & RTC_B_SET) == 0) {
		ring = rtc_alarm(r, sec);
		if (wall / RTC_NS > sec)
			r->reg[RTC_C] |= RTC_C_UF;
		if (wall / RTC_NS >= ring)
			r->reg[RTC_C] |= RTC_C_AF;
		r->seen_wall = wall;
	}
	want = r->reg[RTC_B] & RTC_B_IRQS;
	if ((r->reg[RTC_C] & want) != 0) {
		if ((r->reg[RTC_C] & RTC_C_IRQF) == 0 && !hpet_replaces(p))
			platform_line(p, RTC_IRQ, true);
		r->reg[RTC_C] |= RTC_C_IRQF;
		timer_cancel(&p->tq, &r->timer);
		return;
	}
	if ((want & RTC_C_PF) != 0 && period != 0)
		next = (now / period + 1) * period;
	if ((r->reg[RTC_B] & RTC_B_SET) == 0) {
		if ((want & RTC_C_UF) != 0 && now + RTC_NS - wall % RTC_NS < next)
			next = now + RTC_NS - wall % RTC_NS;
		ring = (want & RTC_C_AF) != 0 ? rtc_alarm(r, wall / RTC_NS) : ~0ull;
		if (ring != ~0ull && now + (ring * RTC_NS - wall) < next)
			next = now + (ring * RTC_NS - wall);
	}
	if (next != ~0ull)
		timer_set(&p->tq, &r->timer, next);
	else
		timer_cancel(&p->tq, &r->timer);
}

static void
rtc_fire(void *arg)
{
	struct platform *p = arg;

	lock_acquire(&p->legacy.lock);
	rtc_look(p);
	lock_release(&p->legacy.lock);
}

static uint8_t
rtc_read(struct platform *p, uint8_t i) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;
	uint8_t v;

	switch (i) {
	case RTC_SEC: case RTC_MIN: case RTC_HOUR: case RTC_WDAY: case RTC_MDAY:
	case RTC_MON: case RTC_YEAR: case RTC_CENTURY:
		rtc_fill(p);
		return r->reg[i];
	case RTC_A:
		v = r->reg[RTC_A];
		if ((r->reg[RTC_B] & RTC_B_SET) == 0 &&
		    rtc_now(p) % RTC_NS >= RTC_NS - RTC_UIP_NS)
			v |= RTC_A_UIP;
		return v;
	case RTC_C:
		rtc_look(p);
		v = r->reg[RTC_C];
		r->reg[RTC_C] = 0;
		if ((v & RTC_C_IRQF) != 0)
			platform_line(p, RTC_IRQ, false);
		rtc_look(p);
		return v;
	case RTC_D:
		return 0x80; /* the battery is good */
	default:
		return r->reg[i];
	}
}

static void
rtc_write(struct platform *p, uint8_t i, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;

	switch (i) {
	case RTC_SEC: case RTC_MIN: case RTC_HOUR: case RTC_WDAY: case RTC_MDAY:
	case RTC_MON: case RTC_YEAR: case RTC_CENTURY:
		rtc_fill(p);
		r->reg[i] = v;
		if ((r->reg[RTC_B] & RTC_B_SET) == 0)
			rtc_take(p);
		break;
	case RTC_A:
		rtc_look(p);
		r->reg[RTC_A] = v & 0x7f;
		break;
	case RTC_B:
		rtc_look(p);
		rtc_fill(p); /* the registers stand still from here */
		if ((r->reg[RTC_B] & ~v & RTC_B_SET) != 0) {
			r->reg[RTC_B] = v;
			rtc_take(p);
		}
		r->reg[RTC_B] = (v & RTC_B_SET) != 0 ? v & (uint8_t)~RTC_C_UF : v;
		break;
	case RTC_C: case RTC_D:
		return;
	default:
		r->reg[i] = v;
	}
	rtc_look(p);
}

void
rtc_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp) LOCK_REQUIRES(&p->legacy.lock)
{
	struct rtc *r = &p->legacy.rtc;

	if ((port & 1) == 0) {
		if (in)
			*vp = 0xff; /* cannot be read */
		else
			r->index = *vp & 0x7f;
	} else if (in) {
		*vp = rtc_read(p, r->index);
	} else {
		rtc_write(p, r->index, *vp);
	}
}

/* The time the guest has set outlives a reset, as with a battery. */
void
rtc_reset(struct platform *p)
{
	struct rtc *r = &p->legacy.rtc;

	timer_cancel(&p->tq, &r->timer);
	r->timer.fn = rtc_fire;
	r->timer.arg = p;
	r->index = 0;
	memset(r->reg, 0, sizeof(r->reg));
	r->reg[RTC_A] = 0x26;
	r->reg[RTC_B] = RTC_B_24H;
	r->seen = timer_now(&p->tq);
	r->seen_wall = rtc_now(p);
}
