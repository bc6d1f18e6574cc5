/* SPDX-License-Identifier: BSD-2-Clause */
/* The platform's front: makes its parts and hands accesses to them. */
#include "platform/platform.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "platform/platform_int.h"

int
platform_create(const struct platform_config *cfg, struct platform **pp)
{
	struct platform *p = calloc(1, sizeof(*p));
	int error;

	if (p == NULL)
		return -ENOMEM;
	p->cfg = *cfg;
	p->cb = *cfg->cb;
	error = timer_queue_init(&p->tq, p->cb.now, cfg->arg);
	if (error != 0) {
		free(p);
		return error;
	}
	lock_init(&p->ioapic.lock, "ioapic", LOCK_RANK_IOAPIC);
	/* not held with the I/O APIC's, so of one rank */
	lock_init(&p->pic.lock, "pic", LOCK_RANK_IOAPIC);
	/* both raise lines with their lock held; never held together */
	lock_init(&p->legacy.lock, "legacy", LOCK_RANK_IOAPIC - 1);
	lock_init(&p->hpet.lock, "hpet", LOCK_RANK_IOAPIC - 1);
	for (unsigned i = 0; i < cfg->ncpu; i++)
		lapic_create(p, i);
	ioapic_reset(p);
	legacy_reset(p);
	hpet_reset(p);
	*pp = p;
	return 0;
}

void
platform_destroy(struct platform *p)
{
	timer_queue_fini(&p->tq);
	for (unsigned i = 0; i < p->cfg.ncpu; i++)
		lapic_destroy(&p->lapic[i]);
	lock_fini(&p->hpet.lock);
	lock_fini(&p->legacy.lock);
	lock_fini(&p->pic.lock);
	lock_fini(&p->ioapic.lock);
	free(p);
}

void
platform_run_timers(struct platform *p)
{
	timer_run(&p->tq);
}

uint64_t
platform_wall(struct platform *p)
{
	struct timespec ts;

	if (p->cb.wall != NULL)
		return p->cb.wall(p->cfg.arg);
	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* The 8254 is wired to pin 2 of the I/O APIC, as the MADT says. */
void
platform_line(struct platform *p, unsigned irq, bool level)
{
	pic_set(p, irq, level);
	ioapic_set(p, irq == 0 ? 2 : irq, level);
}

void
platform_vcpu_reset(void *arg, unsigned vcpu, bool init)
{
	struct platform *p = arg;

	lapic_reset(&p->lapic[vcpu], init);
	if (!init)
		kvmclock_reset(p, vcpu);
	if (vcpu == 0 && !init) {
		ioapic_reset(p);
		legacy_reset(p);
		hpet_reset(p);
	}
}

int
platform_pio(void *arg, unsigned vcpu, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	(void)vcpu;
	return legacy_pio(arg, port, bytes, in, datap);
}

int
platform_mmio(void *arg, unsigned vcpu, gpa_t gpa, unsigned bytes, bool write,
    uint64_t *datap)
{
	struct platform *p = arg;
	uint32_t v = (uint32_t)*datap;

	if ((gpa & ~0xffful) == PLATFORM_LAPIC_GPA)
		lapic_mmio(&p->lapic[vcpu], gpa & 0xfff, write, &v);
	else if ((gpa & ~0xffful) == PLATFORM_IOAPIC_GPA)
		ioapic_mmio(p, gpa & 0xfff, write, &v);
	else if ((gpa & ~0xffful) == PLATFORM_HPET_GPA)
		hpet_mmio(p, gpa & 0xfff, bytes, write, datap);
	else
		return -ENXIO;
	if (!write && (gpa & ~0xffful) != PLATFORM_HPET_GPA)
		*datap = bytes == 8 ? v : v & ((1ul << bytes * 8) - 1);
	return 0;
}

int
platform_rdmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t *valp)
{
	struct platform *p = arg;
	int error = lapic_rdmsr(&p->lapic[vcpu], msr, valp);

	return error == -ENXIO ? kvmclock_rdmsr(p, vcpu, msr, valp) : error;
}

int
platform_wrmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t val)
{
	struct platform *p = arg;
	int error = lapic_wrmsr(&p->lapic[vcpu], msr, val);

	return error == -ENXIO ? kvmclock_wrmsr(p, vcpu, msr, val) : error;
}

void
platform_cpuid(void *arg, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4])
{
	struct platform *p = arg;

	switch (leaf) {
	case 1:
		regs[1] = (regs[1] & 0xffff) | p->cfg.ncpu << 16 | vcpu << 24;
		regs[2] |= 1u << 31 | 1u << 24 | 1u << 21; /* hypervisor, deadline, x2APIC */
		regs[3] |= 1u << 9;
		if (p->cfg.ncpu > 1)
			regs[3] |= 1u << 28;
		break;
	case 0xb:
	case 0x1f:
		regs[0] = subleaf == 1 ? 32 - (unsigned)__builtin_clz(VMM_MAXCPU - 1) : 0;
		regs[1] = subleaf == 0 ? 1 : subleaf == 1 ? p->cfg.ncpu : 0;
		regs[2] = subleaf | (subleaf == 0 ? 1u << 8 : subleaf == 1 ? 2u << 8 : 0);
		regs[3] = vcpu;
		break;
	case 0x40000000: /* the signature that announces the leaf below */
		regs[0] = 0x40000010;
		regs[1] = 0x4b4d564b;
		regs[2] = 0x564b4d56;
		regs[3] = 0x4d;
		break;
	case 0x40000001:
		/* both clocks, no delays after port accesses, stable */
		regs[0] = 1u << 0 | 1u << 1 | 1u << 3 | 1u << 24;
		regs[1] = regs[2] = regs[3] = 0;
		break;
	case 0x40000010: /* kHz of the TSC and of the local APIC's timer */
		regs[0] = (uint32_t)(p->cfg.tsc_hz / 1000);
		regs[1] = LAPIC_TIMER_KHZ;
		regs[2] = regs[3] = 0;
		break;
	case 0x80000008: /* cores of the package */
		regs[2] = (p->cfg.ncpu - 1) | 4u << 12;
		break;
	default:
		break;
	}
}

int
platform_intr_pending(void *arg, unsigned vcpu)
{
	struct platform *p = arg;
	struct lapic *l = &p->lapic[vcpu];

	/* the vector of the 8259s is known once it is taken; any will do */
	if (atomic_load(&p->pic.out) && lapic_takes_extint(l))
		return 0;
	return lapic_pending(l);
}

int
platform_intr_accept(void *arg, unsigned vcpu)
{
	struct platform *p = arg;
	struct lapic *l = &p->lapic[vcpu];
	int v = -1;

	if (atomic_load(&p->pic.out) && lapic_takes_extint(l))
		v = pic_accept(p);
	return v >= 0 ? v : lapic_accept(l);
}

uint8_t
platform_cr8_get(void *arg, unsigned vcpu)
{
	struct lapic *l = &((struct platform *)arg)->lapic[vcpu];
	uint8_t v;

	lock_acquire(&l->lock);
	v = (uint8_t)(l->tpr >> 4 & 0xf);
	lock_release(&l->lock);
	return v;
}

void
platform_cr8_set(void *arg, unsigned vcpu, uint8_t cr8)
{
	struct lapic *l = &((struct platform *)arg)->lapic[vcpu];

	lock_acquire(&l->lock);
	l->tpr = (uint32_t)(cr8 & 0xf) << 4;
	lock_release(&l->lock);
}

unsigned
platform_stats(void *arg, int vcpu, struct engine_stat *st, unsigned n)
{
	struct platform *p = arg;
	struct engine_stat all[3];

	if (vcpu < 0 || vcpu >= (int)p->cfg.ncpu)
		return 0;
	all[0].name = "lapic.timer";
	all[0].value = atomic_load(&p->lapic[vcpu].timer_irqs);
	all[1].name = "lapic.ipis";
	all[1].value = atomic_load(&p->lapic[vcpu].ipis);
	all[2].name = "lapic.eois";
	all[2].value = atomic_load(&p->lapic[vcpu].eois);
	for (unsigned i = 0; i < 3 && i < n; i++)
		st[i] = all[i];
	return 3;
}

int
platform_irq_assert(struct platform *p, unsigned pin)
{
	if (pin >= PLATFORM_PINS)
		return -EINVAL;
	ioapic_set(p, pin, true);
	if (pin < 16 && pin != 2)
		pic_set(p, pin, true);
	return 0;
}

int
platform_irq_deassert(struct platform *p, unsigned pin)
{
	if (pin >= PLATFORM_PINS)
		return -EINVAL;
	ioapic_set(p, pin, false);
	if (pin < 16 && pin != 2)
		pic_set(p, pin, false);
	return 0;
}

int
platform_msi(struct platform *p, uint64_t addr, uint32_t data)
{
	if ((addr & ~0xffffful) != 0xfee00000)
		return -EINVAL;
	lapic_deliver(p, addr >> 12 & 0xff, (addr & 4) != 0, data >> 8 & 7,
	    (uint8_t)data, false);
	return 0;
}
