/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (SDM vol. 3 chapter 11): xAPIC page and x2APIC MSRs over one
 * set of registers, numbered by their offset >> 4.
 *
 * Its lock guards all registers.  It is never held while another local APIC's
 * lock is taken, or a vCPU is notified.
 */
#include <errno.h>
#include <string.h>

#include "platform/platform_int.h"

#define LAPIC_VERSION 0x00050014u /* six LVT entries, integrated */
#define LAPIC_BASE_EN (1u << 11)
#define LAPIC_BASE_X2 (1u << 10)
#define LAPIC_BASE_BSP (1u << 8)
#define LAPIC_SVR_EN 0x100u
#define LAPIC_LVT_MASK (1u << 16)
#define LAPIC_TIMER_MODE (3u << 17)
#define LAPIC_TIMER_PERIODIC (1u << 17)
#define LAPIC_TIMER_DEADLINE (2u << 17)

#define LAPIC_BUS_NS (1000000u / LAPIC_TIMER_KHZ)
#define LAPIC_FAR (1ul << 56) /* TSC ticks; further deadlines go in steps */

#define LAPIC_ESR_SEND (1u << 5)
#define LAPIC_ESR_RECV (1u << 6)
#define LAPIC_ESR_REG (1u << 7)

enum { LAPIC_FIXED, LAPIC_LOWEST, LAPIC_SMI, LAPIC_RES3, LAPIC_NMI,
	LAPIC_INIT, LAPIC_SIPI, LAPIC_EXTINT };

static const uint32_t lapic_lvt_mask[LAPIC_NLVT] = {
	[LAPIC_LVT_TIMER] = 0x710ff, [LAPIC_LVT_THERMAL] = 0x117ff,
	[LAPIC_LVT_PERF] = 0x117ff, [LAPIC_LVT_LINT0] = 0x1f7ff,
	[LAPIC_LVT_LINT1] = 0x1f7ff, [LAPIC_LVT_ERROR] = 0x110ff,
};

static bool
lapic_x2(const struct lapic *l)
{
	return (l->base & (LAPIC_BASE_EN | LAPIC_BASE_X2)) ==
	    (LAPIC_BASE_EN | LAPIC_BASE_X2);
}

static int
lapic_highest(const uint32_t r[8])
{
	for (int i = 7; i >= 0; i--)
		if (r[i] != 0)
			return i * 32 + 31 - __builtin_clz(r[i]);
	return -1;
}

static uint32_t
lapic_ppr(const struct lapic *l)
{
	int isr = lapic_highest(l->isr);
	uint32_t top = isr < 0 ? 0 : (uint32_t)isr & 0xf0;

	return (l->tpr & 0xf0) >= top ? l->tpr & 0xff : top;
}

static int
lapic_pending_locked(const struct lapic *l)
{
	int v = lapic_highest(l->irr);

	if (v < 0 || (l->svr & LAPIC_SVR_EN) == 0 || (l->base & LAPIC_BASE_EN) == 0 ||
	    ((uint32_t)v & 0xf0) <= (lapic_ppr(l) & 0xf0))
		return -1;
	return v;
}

int
lapic_pending(struct lapic *l)
{
	int v;

	lock_acquire(&l->lock);
	v = lapic_pending_locked(l);
	lock_release(&l->lock);
	return v;
}

int
lapic_accept(struct lapic *l)
{
	int v;

	lock_acquire(&l->lock);
	v = lapic_pending_locked(l);
	if (v >= 0) {
		l->irr[v / 32] &= ~(1u << v % 32);
		l->isr[v / 32] |= 1u << v % 32;
	}
	lock_release(&l->lock);
	return v;
}

/* LINT0 as an ExtINT, or a switched-off local APIC that steps aside. */
bool
lapic_takes_extint(struct lapic *l)
{
	bool yes;

	lock_acquire(&l->lock);
	yes = (l->base & LAPIC_BASE_EN) == 0 ? l->id == 0 :
	    (l->lvt[LAPIC_LVT_LINT0] & (LAPIC_LVT_MASK | 7u << 8)) ==
	    (unsigned)LAPIC_EXTINT << 8;
	lock_release(&l->lock);
	return yes;
}

static void
lapic_error(struct lapic *l, uint32_t what) LOCK_REQUIRES(&l->lock)
{
	uint32_t lvt = l->lvt[LAPIC_LVT_ERROR], v = lvt & 0xff;

	if ((l->esr_pending & what) != 0)
		return;
	l->esr_pending |= what;
	if ((lvt & LAPIC_LVT_MASK) != 0 || v < 16 || (l->svr & LAPIC_SVR_EN) == 0)
		return;
	l->irr[v / 32] |= 1u << v % 32;
	l->tmr[v / 32] &= ~(1u << v % 32);
}

/* => the vCPU is to be notified */
static bool
lapic_set_irr(struct lapic *l, uint8_t v, bool level) LOCK_REQUIRES(&l->lock)
{
	if (v < 16) {
		lapic_error(l, LAPIC_ESR_RECV);
		return true;
	}
	if ((l->svr & LAPIC_SVR_EN) == 0 || (l->base & LAPIC_BASE_EN) == 0)
		return false;
	l->irr[v / 32] |= 1u << v % 32;
	if (level)
		l->tmr[v / 32] |= 1u << v % 32;
	else
		l->tmr[v / 32] &= ~(1u << v % 32);
	return true;
}

/* --- timer ------------------------------------------------------------- */

static uint64_t
lapic_tick_ns(const struct lapic *l)
{
	unsigned d = ((l->dcr & 8) >> 1 | (l->dcr & 3)) + 1;

	return (uint64_t)LAPIC_BUS_NS << (d & 7);
}

static void
lapic_timer_arm(struct lapic *l) LOCK_REQUIRES(&l->lock)
{
	struct timer_queue *q = &l->p->tq;
	uint64_t now = timer_now(q), when;

	switch (l->lvt[LAPIC_LVT_TIMER] & LAPIC_TIMER_MODE) {
	case LAPIC_TIMER_DEADLINE:
		if (l->deadline == 0)
			break;
		{
			uint64_t tsc = l->p->cb.tsc(l->p->cfg.arg, l->id), d = 0;

			if (l->deadline > tsc)
				d = l->deadline - tsc;
			if (d > LAPIC_FAR)
				d = LAPIC_FAR;
			d = (uint64_t)((unsigned __int128)d * 1000000000u /
			    l->p->cfg.tsc_hz);
			timer_set(q, &l->timer, now + d + 1);
		}
		return;
	default:
		if (!l->counting)
			break;
		when = l->start + (uint64_t)l->icount * lapic_tick_ns(l);
		if ((l->lvt[LAPIC_LVT_TIMER] & LAPIC_TIMER_PERIODIC) != 0 &&
		    when < now + PLATFORM_MIN_NS)
			when = now + PLATFORM_MIN_NS;
		timer_set(q, &l->timer, when);
		return;
	}
	timer_cancel(q, &l->timer);
}

void
lapic_tsc_moved(struct lapic *l)
{
	lock_acquire(&l->lock);
	if (l->deadline != 0 && (l->lvt[LAPIC_LVT_TIMER] &
	    LAPIC_TIMER_MODE) == LAPIC_TIMER_DEADLINE)
		lapic_timer_arm(l);
	lock_release(&l->lock);
}

static void
lapic_timer_fire(void *arg)
{
	struct lapic *l = arg;
	uint32_t lvt;
	uint64_t now = timer_now(&l->p->tq), period;
	bool wake = false;

	lock_acquire(&l->lock);
	lvt = l->lvt[LAPIC_LVT_TIMER];
	if ((lvt & LAPIC_TIMER_MODE) == LAPIC_TIMER_DEADLINE) {
		if (l->deadline == 0 ||
		    l->p->cb.tsc(l->p->cfg.arg, l->id) < l->deadline) {
			lapic_timer_arm(l); /* cancelled, moved or early */
			goto out;
		}
		l->deadline = 0;
	} else {
		period = (uint64_t)l->icount * lapic_tick_ns(l);
		if (!l->counting || now < l->start + period)
			goto out;
		if ((lvt & LAPIC_TIMER_MODE) == LAPIC_TIMER_PERIODIC) {
			/* a late tick stands for all that were missed */
			l->start += (now - l->start) / period * period;
			lapic_timer_arm(l);
		} else {
			l->counting = false;
		}
	}
	if ((lvt & LAPIC_LVT_MASK) == 0) {
		wake = lapic_set_irr(l, (uint8_t)lvt, false);
		atomic_fetch_add_explicit(&l->timer_irqs, 1, memory_order_relaxed);
	}
out:
	lock_release(&l->lock);
	if (wake)
		l->p->cb.notify(l->p->cfg.arg, l->id);
}

static uint32_t
lapic_ccr(struct lapic *l)
{
	uint64_t n;

	if (!l->counting)
		return 0;
	n = (timer_now(&l->p->tq) - l->start) / lapic_tick_ns(l);
	if ((l->lvt[LAPIC_LVT_TIMER] & LAPIC_TIMER_MODE) == LAPIC_TIMER_PERIODIC)
		n %= l->icount;
	return n >= l->icount ? 0 : l->icount - (uint32_t)n;
}

/* --- delivery ---------------------------------------------------------- */

static bool
lapic_is_dest(struct lapic *l, uint32_t dest, bool logical)
{
	bool hit;

	lock_acquire(&l->lock);
	if (lapic_x2(l)) {
		if (dest == 0xffffffff || (!logical && dest == 0xff))
			hit = true;
		else if (!logical)
			hit = dest == l->id;
		else
			hit = dest >> 16 == l->id >> 4 &&
			    (dest & 0xffff & 1u << (l->id & 15)) != 0;
	} else if (dest == 0xff || dest == 0xffffffff) {
		hit = true;
	} else if (!logical) {
		hit = dest == l->id;
	} else if (l->dfr >> 28 == 0xf) {
		hit = (dest & l->ldr >> 24) != 0;
	} else {
		hit = (dest >> 4 & 0xf) == l->ldr >> 28 &&
		    (dest & l->ldr >> 24 & 0xf) != 0;
	}
	lock_release(&l->lock);
	return hit;
}

static void
lapic_deliver_one(struct lapic *l, unsigned mode, uint8_t vector, bool level)
{
	struct platform *p = l->p;
	bool wake;

	switch (mode) {
	case LAPIC_FIXED:
	case LAPIC_LOWEST:
		lock_acquire(&l->lock);
		wake = lapic_set_irr(l, vector, level);
		lock_release(&l->lock);
		if (wake)
			p->cb.notify(p->cfg.arg, l->id);
		break;
	case LAPIC_NMI:
		p->cb.nmi(p->cfg.arg, l->id);
		break;
	case LAPIC_INIT:
		p->cb.init(p->cfg.arg, l->id);
		break;
	case LAPIC_SIPI:
		p->cb.sipi(p->cfg.arg, l->id, vector);
		break;
	default:
		break;
	}
}

/* The lower, the sooner it takes a lowest-priority interrupt. */
static uint32_t
lapic_arbitration(struct lapic *l)
{
	uint32_t prio;

	lock_acquire(&l->lock);
	prio = (l->svr & LAPIC_SVR_EN) == 0 ? 0x100 : lapic_ppr(l);
	lock_release(&l->lock);
	return prio;
}

void
lapic_deliver(struct platform *p, uint32_t dest, bool logical, unsigned mode,
    uint8_t vector, bool level)
{
	struct lapic *best = NULL;
	uint32_t prio, least = ~0u;

	for (unsigned i = 0; i < p->cfg.ncpu; i++) {
		struct lapic *l = &p->lapic[i];

		if (!lapic_is_dest(l, dest, logical))
			continue;
		if (mode != LAPIC_LOWEST) {
			lapic_deliver_one(l, mode, vector, level);
			continue;
		}
		prio = lapic_arbitration(l);
		if (prio < least) {
			least = prio;
			best = l;
		}
	}
	if (best != NULL)
		lapic_deliver_one(best, mode, vector, level);
}

static void
lapic_send(struct lapic *l, uint64_t icr)
{
	struct platform *p = l->p;
	unsigned mode = icr >> 8 & 7;
	uint8_t vector = (uint8_t)icr;
	uint32_t dest = lapic_x2(l) ? (uint32_t)(icr >> 32) : (uint32_t)(icr >> 56);

	atomic_fetch_add_explicit(&l->ipis, 1, memory_order_relaxed);
	if ((mode == LAPIC_FIXED || mode == LAPIC_LOWEST) && vector < 16) {
		lock_acquire(&l->lock);
		lapic_error(l, LAPIC_ESR_SEND);
		lock_release(&l->lock);
		return;
	}
	/* INIT de-assert does nothing on these processors */
	if (mode == LAPIC_INIT && (icr & 1 << 14) == 0 && (icr & 1 << 15) != 0)
		return;
	switch (icr >> 18 & 3) {
	case 0:
		lapic_deliver(p, dest, (icr & 1 << 11) != 0, mode, vector, false);
		break;
	case 1:
		lapic_deliver_one(l, mode, vector, false);
		break;
	default:
		for (unsigned i = 0; i < p->cfg.ncpu; i++)
			if (i != l->id || (icr >> 18 & 3) == 2)
				lapic_deliver_one(&p->lapic[i], mode, vector, false);
	}
}

static void
lapic_eoi(struct lapic *l)
{
	int v;
	bool level = false, more;

	lock_acquire(&l->lock);
	v = lapic_highest(l->isr);
	if (v >= 0) {
		l->isr[v / 32] &= ~(1u << v % 32);
		level = (l->tmr[v / 32] & 1u << v % 32) != 0;
	}
	more = lapic_pending_locked(l) >= 0;
	lock_release(&l->lock);
	atomic_fetch_add_explicit(&l->eois, 1, memory_order_relaxed);
	if (more)
		l->p->cb.notify(l->p->cfg.arg, l->id);
	if (level)
		ioapic_eoi(l->p, (uint8_t)v);
}

/* --- registers --------------------------------------------------------- */

static int
lapic_read(struct lapic *l, unsigned reg, uint32_t *valp)
{
	int error = 0;

	lock_acquire(&l->lock);
	switch (reg) {
	case 0x02: *valp = lapic_x2(l) ? l->id : l->id << 24; break;
	case 0x03: *valp = LAPIC_VERSION; break;
	case 0x08: *valp = l->tpr; break;
	case 0x09: *valp = 0; break;
	case 0x0a: *valp = lapic_ppr(l); break;
	case 0x0d:
		*valp = lapic_x2(l) ? (l->id >> 4) << 16 | 1u << (l->id & 15) : l->ldr;
		break;
	case 0x0e: *valp = l->dfr; break;
	case 0x0f: *valp = l->svr; break;
	case 0x10 ... 0x17: *valp = l->isr[reg - 0x10]; break;
	case 0x18 ... 0x1f: *valp = l->tmr[reg - 0x18]; break;
	case 0x20 ... 0x27: *valp = l->irr[reg - 0x20]; break;
	case 0x28: *valp = l->esr; break;
	case 0x30: *valp = (uint32_t)l->icr; break;
	case 0x31: *valp = (uint32_t)(l->icr >> 32); break;
	case 0x32 ... 0x37: *valp = l->lvt[reg - 0x32]; break;
	case 0x38: *valp = l->icount; break;
	case 0x39: *valp = lapic_ccr(l); break;
	case 0x3e: *valp = l->dcr; break;
	default:
		*valp = 0;
		if (!lapic_x2(l))
			lapic_error(l, LAPIC_ESR_REG);
		error = -EINVAL;
	}
	lock_release(&l->lock);
	return error;
}

/* A new divider: what has been counted stays counted. */
static void
lapic_set_divider(struct lapic *l, uint32_t val) LOCK_REQUIRES(&l->lock)
{
	uint64_t now = timer_now(&l->p->tq);
	uint32_t left = lapic_ccr(l);

	l->dcr = val & 0xb;
	if (l->counting)
		l->start = now - (uint64_t)(l->icount - left) * lapic_tick_ns(l);
}

static void
lapic_set_lvt(struct lapic *l, unsigned i, uint32_t val) LOCK_REQUIRES(&l->lock)
{
	uint32_t old = l->lvt[i];

	val &= lapic_lvt_mask[i];
	if ((l->svr & LAPIC_SVR_EN) == 0)
		val |= LAPIC_LVT_MASK;
	l->lvt[i] = val;
	if (i != LAPIC_LVT_TIMER)
		return;
	/* to and from the deadline mode the timer stops */
	if (((val ^ old) & LAPIC_TIMER_DEADLINE) != 0) {
		l->deadline = 0;
		l->counting = false;
	}
	lapic_timer_arm(l);
}

static int
lapic_write(struct lapic *l, unsigned reg, uint32_t val)
{
	bool look = false;
	uint64_t icr;
	int error = 0;

	if (reg == 0x0b) {
		lapic_eoi(l);
		return 0;
	}
	if (reg == 0x30) {
		lock_acquire(&l->lock);
		l->icr = (l->icr & ~0xfffffffful) | (val & ~(1u << 12));
		icr = l->icr;
		lock_release(&l->lock);
		lapic_send(l, icr);
		return 0;
	}
	lock_acquire(&l->lock);
	switch (reg) {
	case 0x02: break;
	case 0x08:
		l->tpr = val & 0xff;
		look = true;
		break;
	case 0x0d: l->ldr = val & 0xff000000; break;
	case 0x0e: l->dfr = val | 0x0fffffff; break;
	case 0x0f:
		l->svr = val & 0x1ff;
		look = true;
		if ((val & LAPIC_SVR_EN) == 0)
			for (unsigned k = 0; k < LAPIC_NLVT; k++)
				l->lvt[k] |= LAPIC_LVT_MASK;
		break;
	case 0x28:
		l->esr = l->esr_pending;
		l->esr_pending = 0;
		break;
	case 0x31: l->icr = (uint32_t)l->icr | (uint64_t)val << 32; break;
	case 0x32 ... 0x37:
		lapic_set_lvt(l, reg - 0x32, val);
		look = reg == 0x35; /* the 8259s may have been waiting */
		break;
	case 0x38:
		if ((l->lvt[LAPIC_LVT_TIMER] & LAPIC_TIMER_MODE) ==
		    LAPIC_TIMER_DEADLINE)
			break;
		l->icount = val;
		l->counting = val != 0;
		l->start = timer_now(&l->p->tq);
		lapic_timer_arm(l);
		break;
	case 0x3e:
		lapic_set_divider(l, val);
		lapic_timer_arm(l);
		break;
	default:
		if (!lapic_x2(l))
			lapic_error(l, LAPIC_ESR_REG);
		look = true;
		error = -EINVAL;
	}
	lock_release(&l->lock);
	if (look)
		l->p->cb.notify(l->p->cfg.arg, l->id);
	return error;
}

void
lapic_mmio(struct lapic *l, uint64_t off, bool write, uint32_t *valp)
{
	/* only this vCPU itself writes base */
	if (lapic_x2(l) || (l->base & LAPIC_BASE_EN) == 0) {
		if (!write)
			*valp = ~0u;
	} else if ((off & 15) != 0) {
		if (!write)
			*valp = 0;
	} else if (write) {
		(void)lapic_write(l, (unsigned)(off >> 4), *valp);
	} else {
		(void)lapic_read(l, (unsigned)(off >> 4), valp);
	}
}

/* Power-on state of all but the base register. */
static void
lapic_clear(struct lapic *l) LOCK_REQUIRES(&l->lock)
{
	l->tpr = l->ldr = l->esr = l->esr_pending = 0;
	l->dfr = ~0u;
	l->svr = 0xff;
	memset(l->irr, 0, sizeof(l->irr));
	memset(l->isr, 0, sizeof(l->isr));
	memset(l->tmr, 0, sizeof(l->tmr));
	for (unsigned i = 0; i < LAPIC_NLVT; i++)
		l->lvt[i] = LAPIC_LVT_MASK;
	l->icr = 0;
	l->icount = l->dcr = 0;
	l->counting = false;
	l->deadline = 0;
	timer_cancel(&l->p->tq, &l->timer);
}

static int
lapic_set_base(struct lapic *l, uint64_t val)
{
	uint64_t old, mode = val & (LAPIC_BASE_EN | LAPIC_BASE_X2), omode;

	if (mode == LAPIC_BASE_X2 || (val & 0xfff000fful) != PLATFORM_LAPIC_GPA)
		return -EINVAL;
	lock_acquire(&l->lock);
	old = l->base;
	omode = old & (LAPIC_BASE_EN | LAPIC_BASE_X2);
	/* x2APIC is left only by switching off, and entered from xAPIC */
	if ((omode == (LAPIC_BASE_EN | LAPIC_BASE_X2) && mode == LAPIC_BASE_EN) ||
	    (omode == 0 && mode == (LAPIC_BASE_EN | LAPIC_BASE_X2))) {
		lock_release(&l->lock);
		return -EINVAL;
	}
	l->base = (val & ~(uint64_t)LAPIC_BASE_BSP) | (old & LAPIC_BASE_BSP);
	if (mode != omode && mode == 0)
		lapic_clear(l);
	else if (mode != omode && mode == (LAPIC_BASE_EN | LAPIC_BASE_X2))
		l->icr = 0;
	lock_release(&l->lock);
	return 0;
}

int
lapic_rdmsr(struct lapic *l, uint32_t msr, uint64_t *valp)
{
	uint32_t v;
	int error;

	if (msr == 0x1b) {
		lock_acquire(&l->lock);
		*valp = l->base;
		lock_release(&l->lock);
		return 0;
	}
	if (msr == 0x6e0) {
		lock_acquire(&l->lock);
		*valp = l->deadline;
		lock_release(&l->lock);
		return 0;
	}
	if (msr < 0x800 || msr > 0x8ff)
		return -ENXIO;
	if (!lapic_x2(l) || msr == 0x80e || msr == 0x831)
		return -EINVAL;
	if (msr == 0x830) {
		lock_acquire(&l->lock);
		*valp = l->icr;
		lock_release(&l->lock);
		return 0;
	}
	error = lapic_read(l, msr - 0x800, &v);
	*valp = v;
	return error;
}

int
lapic_wrmsr(struct lapic *l, uint32_t msr, uint64_t val)
{
	if (msr == 0x1b)
		return lapic_set_base(l, val);
	if (msr == 0x6e0) {
		lock_acquire(&l->lock);
		if ((l->lvt[LAPIC_LVT_TIMER] & LAPIC_TIMER_MODE) ==
		    LAPIC_TIMER_DEADLINE) {
			l->deadline = val;
			lapic_timer_arm(l);
		}
		lock_release(&l->lock);
		return 0;
	}
	if (msr < 0x800 || msr > 0x8ff)
		return -ENXIO;
	if (!lapic_x2(l))
		return -EINVAL;
	switch (msr) {
	case 0x802: case 0x803: case 0x80a: case 0x80d: case 0x80e:
	case 0x810 ... 0x827: case 0x831: case 0x839:
		return -EINVAL;
	case 0x80b: case 0x828:
		if (val != 0)
			return -EINVAL;
		break;
	case 0x830:
		lock_acquire(&l->lock);
		l->icr = val & ~(1ul << 12);
		lock_release(&l->lock);
		lapic_send(l, val);
		return 0;
	case 0x83f:
		if (val >> 8 != 0)
			return -EINVAL;
		lapic_deliver_one(l, LAPIC_FIXED, (uint8_t)val, false);
		return 0;
	default:
		if (val >> 32 != 0)
			return -EINVAL;
	}
	return lapic_write(l, msr - 0x800, (uint32_t)val);
}

void
lapic_reset(struct lapic *l, bool init)
{
	lock_acquire(&l->lock);
	if (!init)
		l->base = PLATFORM_LAPIC_GPA | LAPIC_BASE_EN |
		    (l->id == 0 ? LAPIC_BASE_BSP : 0);
	lapic_clear(l);
	/* virtual wire mode, as firmware leaves it for the boot processor */
	if (!init && l->id == 0)
		l->lvt[LAPIC_LVT_LINT0] = (unsigned)LAPIC_EXTINT << 8;
	lock_release(&l->lock);
}

void
lapic_create(struct platform *p, unsigned id)
{
	struct lapic *l = &p->lapic[id];

	l->p = p;
	l->id = id;
	lock_init(&l->lock, "lapic", LOCK_RANK_LAPIC);
	l->timer.fn = lapic_timer_fire;
	l->timer.arg = l;
	lapic_reset(l, false);
}

void
lapic_destroy(struct lapic *l)
{
	/* The timer queue ended before: it fires no more. */
	lock_fini(&l->lock);
}
