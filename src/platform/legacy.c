/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PC's ports: the ACPI PM block, an i8042 with nothing plugged in, reset
 * and debug-exit ports, POST codes; the rest goes to pic.c, pit.c and rtc.c.
 *
 * The legacy lock guards the 8254, the RTC, the PM block and the i8042.  The
 * interrupt controllers' and local APICs' locks are taken under it.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform_int.h"

#define PM_HZ 3579545u
#define LEGACY_PM1 0x600
#define LEGACY_PM1_LEN 6
#define LEGACY_PMTMR 0x608
#define LEGACY_DEBUG_EXIT 0xf4

#define PM1_TMR 0x0001
#define PM1_PWRBTN 0x0100
#define PM1_STS_BITS 0x8731
#define PM1_EN_BITS 0x0721
#define PM1_SCI_EN 0x0001
#define PM1_CNT_BITS 0x1c03 /* SLP_TYP, BM_RLD, SCI_EN */
#define PM1_SLP_EN 0x2000
#define PM1_S5 5

/* --- ACPI PM block ------------------------------------------------------ */

static uint64_t
pm_tick(struct platform *p)
{
	return platform_scale(timer_now(&p->tq), PM_HZ);
}

/* TMR_STS rises whenever bit 31 of the timer changes: every ten minutes.  The
 * timer is armed only for a guest that wants to hear of it. */
static void
pm_look(struct platform *p) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	uint64_t half = pm_tick(p) >> 31;

	if (half != g->pm_half)
		g->pm1_sts |= PM1_TMR;
	g->pm_half = half;
	ioapic_set(p, PLATFORM_SCI, (g->pm1_sts & g->pm1_en) != 0);
	pic_set(p, PLATFORM_SCI, (g->pm1_sts & g->pm1_en) != 0);
	if ((g->pm1_en & PM1_TMR) != 0 && (g->pm1_sts & PM1_TMR) == 0)
		timer_set(&p->tq, &g->pm_timer, (uint64_t)((unsigned __int128)
		    ((half + 1) << 31) * 1000000000u / PM_HZ) + 1);
	else
		timer_cancel(&p->tq, &g->pm_timer);
}

static void
pm_fire(void *arg)
{
	struct platform *p = arg;

	lock_acquire(&p->legacy.lock);
	pm_look(p);
	lock_release(&p->legacy.lock);
}

int
platform_power_button(struct platform *p)
{
	struct legacy *g = &p->legacy;
	int error = 0;

	lock_acquire(&p->legacy.lock);
	if ((g->pm1_en & PM1_PWRBTN) == 0)
		error = -EAGAIN;
	g->pm1_sts |= PM1_PWRBTN;
	pm_look(p);
	lock_release(&p->legacy.lock);
	return error;
}

/* Three 16-bit registers, STS, EN and CNT, read and written in any width. */
static void
pm_pio(struct platform *p, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	unsigned shift = (port - LEGACY_PM1) * 8u;
	uint64_t mask = (bytes == 4 ? 0xfffffffful : (1ul << bytes * 8) - 1) << shift;
	uint64_t image, v;

	pm_look(p);
	/* there is no SMI that would switch to the legacy mode and back */
	image = g->pm1_sts | (uint64_t)g->pm1_en << 16 |
	    (uint64_t)(g->pm1_cnt | PM1_SCI_EN) << 32;
	if (in) {
		*datap = (uint32_t)((image & mask) >> shift);
		return;
	}
	v = (uint64_t)*datap << shift & mask;
	g->pm1_sts &= (uint16_t)~(v & PM1_STS_BITS);
	v |= image & ~mask;
	g->pm1_en = v >> 16 & PM1_EN_BITS;
	g->pm1_cnt = v >> 32 & PM1_CNT_BITS;
	if ((v >> 32 & PM1_SLP_EN) != 0 && (g->pm1_cnt >> 10 & 7) == PM1_S5)
		p->cb.suspend(p->cfg.arg, VMM_SUSPEND_POWEROFF, -1);
	pm_look(p);
}

/* --- i8042 -------------------------------------------------------------- */

/* Commands whose parameter comes through port 0x60. */
static void
i8042_data(struct platform *p, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;

	switch (g->i8042_cmd) {
	case 0x60:
		g->i8042_ctr = v;
		break;
	case 0xd1: /* output port; bit 0 is the reset line, active low */
		if ((v & 1) == 0)
			p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
		break;
	case 0xd2: case 0xd3: /* loop back as if from keyboard or mouse */
		g->i8042_out = v;
		g->i8042_sts = g->i8042_cmd == 0xd2 ? 0x01 : 0x21;
		break;
	default: /* to a keyboard or mouse that is not there */
		break;
	}
	g->i8042_cmd = 0;
}

static void
i8042_command(struct platform *p, uint8_t v) LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;
	int answer = -1;

	g->i8042_cmd = 0;
	switch (v) {
	case 0x20: answer = g->i8042_ctr; break;
	case 0x60: case 0xd1: case 0xd2: case 0xd3: case 0xd4:
		g->i8042_cmd = v;
		break;
	case 0xa7: g->i8042_ctr |= 0x20; break;
	case 0xa8: g->i8042_ctr &= (uint8_t)~0x20; break;
	case 0xa9: case 0xab: answer = 0; break; /* the lines are good */
	case 0xaa: answer = 0x55; break;
	case 0xad: g->i8042_ctr |= 0x10; break;
	case 0xae: g->i8042_ctr &= (uint8_t)~0x10; break;
	case 0xd0: answer = 0x03; break; /* A20 on, no reset */
	case 0xf0 ... 0xff: /* pulses of the output port; bit 0 resets */
		if ((v & 1) == 0)
			p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
		break;
	default:
		break;
	}
	if (answer >= 0) {
		g->i8042_out = (uint8_t)answer;
		g->i8042_sts = 0x01;
	}
}

static void
i8042_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp)
    LOCK_REQUIRES(&p->legacy.lock)
{
	struct legacy *g = &p->legacy;

	if (!in) {
		if (port == 0x60)
			i8042_data(p, *vp);
		else
			i8042_command(p, *vp);
	} else if (port == 0x64) {
		*vp = 0x1c | g->i8042_sts; /* not locked, self-test passed */
	} else {
		*vp = g->i8042_out;
		g->i8042_sts = 0;
	}
}

/* --- ports -------------------------------------------------------------- */

static void
legacy_reset_port(struct platform *p, uint16_t port, bool in, uint8_t *vp)
    LOCK_REQUIRES(&p->legacy.lock)
{
	uint8_t bit = port == 0xcf9 ? 4 : 1;
	uint8_t *reg = port == 0xcf9 ? &p->legacy.cf9 : &p->legacy.port92;

	if (in) {
		*vp = *reg;
		return;
	}
	if ((*vp & bit) != 0 && (*reg & bit) == 0)
		p->cb.suspend(p->cfg.arg, VMM_SUSPEND_RESET, -1);
	*reg = port == 0xcf9 ? *vp & 0x0a : (*vp & 0xfe) | 2;
}

/* => whether the port is ours */
static bool
legacy_byte(struct platform *p, uint16_t port, bool in, uint8_t *vp)
    LOCK_REQUIRES(&p->legacy.lock)
{
	switch (port) {
	case 0x20: case 0x21: case 0xa0: case 0xa1: case 0x4d0: case 0x4d1:
		pic_pio(p, port, in, vp);
		return true;
	case 0x40 ... 0x43: case 0x61:
		pit_pio(p, port, in, vp);
		return true;
	case 0x60: case 0x64:
		i8042_pio(p, port, in, vp);
		return true;
	case 0x70: case 0x71:
		rtc_pio(p, port, in, vp);
		return true;
	case 0x92: case 0xcf9:
		legacy_reset_port(p, port, in, vp);
		return true;
	case 0x80: case 0xed: /* POST code, and what some delay with */
		if (in)
			*vp = p->legacy.post;
		else
			p->legacy.post = *vp;
		return true;
	default:
		return false;
	}
}

int
legacy_pio(struct platform *p, uint16_t port, unsigned bytes, bool in, uint32_t *datap)
{
	uint8_t v = (uint8_t)*datap;
	int error = 0;

	if (port == LEGACY_DEBUG_EXIT && p->cfg.debug_exit && !in) {
		p->cb.suspend(p->cfg.arg, VMM_SUSPEND_POWEROFF,
		    (int)((*datap << 1 | 1) & 0xff));
		return 0;
	}
	lock_acquire(&p->legacy.lock);
	if (port >= LEGACY_PM1 && port + bytes <= LEGACY_PM1 + LEGACY_PM1_LEN) {
		pm_pio(p, port, bytes, in, datap);
	} else if (port >= LEGACY_PMTMR && port + bytes <= LEGACY_PMTMR + 4) {
		if (in)
			*datap = (uint32_t)pm_tick(p) >> (port - LEGACY_PMTMR) * 8;
	} else if (!legacy_byte(p, port, in, &v)) {
		error = -ENXIO;
	} else if (in) {
		/* a wide read finds nobody at the bytes above */
		*datap = v | (bytes == 1 ? 0 : ~0u << 8);
	}
	if (in && error == 0 && bytes < 4)
		*datap &= (1u << bytes * 8) - 1;
	lock_release(&p->legacy.lock);
	return error;
}

void
legacy_reset(struct platform *p)
{
	struct legacy *g = &p->legacy;

	lock_acquire(&p->legacy.lock);
	pit_reset(p);
	rtc_reset(p);
	pic_reset(p);
	timer_cancel(&p->tq, &g->pm_timer);
	g->pm_timer.fn = pm_fire;
	g->pm_timer.arg = p;
	g->pm_half = pm_tick(p) >> 31;
	g->pm1_sts = g->pm1_en = g->pm1_cnt = 0;
	g->i8042_sts = g->i8042_cmd = g->i8042_out = 0;
	g->i8042_ctr = 0x30;
	g->cf9 = 0;
	g->port92 = 2;
	g->post = 0;
	lock_release(&p->legacy.lock);
}
