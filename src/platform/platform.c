/* SPDX-License-Identifier: BSD-2-Clause */
/* The platform's front: makes its parts and hands accesses to them. */
#include "platform/platform.h"

#include <errno.h>
#include <stdlib.h>

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
	lock_init(&p->legacy.lock, "legacy", LOCK_RANK_IOAPIC - 1);
	for (unsigned i = 0; i < cfg->ncpu; i++)
		lapic_create(p, i);
	ioapic_reset(p);
	legacy_reset(p);
	*pp = p;
	return 0;
}

void
platform_destroy(struct platform *p)
{
	timer_queue_fini(&p->tq);
	for (unsigned i = 0; i < p->cfg.ncpu; i++)
		lapic_destroy(&p->lapic[i]);
	lock_fini(&p->legacy.lock);
	lock_fini(&p->ioapic.lock);
	free(p);
}

void
platform_vcpu_reset(void *arg, unsigned vcpu, bool init)
{
	struct platform *p = arg;

	lapic_reset(&p->lapic[vcpu], init);
	if (vcpu == 0 && !init) {
		ioapic_reset(p);
		legacy_reset(p);
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
	int error;

	if ((gpa & ~0xffful) == PLATFORM_LAPIC_GPA)
		error = lapic_mmio(&p->lapic[vcpu], gpa & 0xfff, write, &v);
	else if ((gpa & ~0xffful) == PLATFORM_IOAPIC_GPA)
		error = ioapic_mmio(p, gpa & 0xfff, write, &v);
	else
		return -ENXIO;
	if (!write)
		*datap = bytes == 8 ? v : v & ((1ul << bytes * 8) - 1);
	return error;
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
		regs[0] = 0x40000001;
		regs[1] = 0x4b4d564b;
		regs[2] = 0x564b4d56;
		regs[3] = 0x4d;
		break;
	case 0x40000001:
		regs[0] = 1u << 0 | 1u << 3 | 1u << 24; /* both clocks, stable */
		regs[1] = regs[2] = regs[3] = 0;
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
	return lapic_pending(&((struct platform *)arg)->lapic[vcpu]);
}

int
platform_intr_accept(void *arg, unsigned vcpu)
{
	return lapic_accept(&((struct platform *)arg)->lapic[vcpu]);
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

int
platform_irq_assert(struct platform *p, unsigned pin)
{
	if (pin >= PLATFORM_PINS)
		return -EINVAL;
	ioapic_set(p, pin, true);
	return 0;
}

int
platform_irq_deassert(struct platform *p, unsigned pin)
{
	if (pin >= PLATFORM_PINS)
		return -EINVAL;
	ioapic_set(p, pin, false);
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
