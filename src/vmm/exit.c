/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What an engine asks of the layers above it while it runs a vCPU.  Memory
 * goes to vm, the rest to the platform.  All of it on the vCPU's thread, with
 * no lock held and the pmap not active.  Nothing here may take machine.lock:
 * who holds it may be waiting for this vCPU to stop.
 */
#include <errno.h>

#include "vmm/machine_int.h"

static int
exit_fault(void *arg, unsigned vcpu, gpa_t gpa, int access)
{
	struct machine *m = arg;
	int error;

	machine_stat(&m->vcpu[vcpu], nested_faults);
	error = vm_fault(m->vms, gpa, access);
	if (error == 0 || error == -EINTR)
		return error;
	machine_stat(&m->vcpu[vcpu], nested_fails);
	/* No memory left on the host: the page's contents cannot be had. */
	return error == -EFAULT || error == -ENOSPC ? error : -EIO;
}

static int
exit_pio(void *arg, unsigned vcpu, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	struct machine *m = arg;

	machine_stat(&m->vcpu[vcpu], pio);
	if (m->plat == NULL || m->plat->pio == NULL)
		return -ENXIO;
	return m->plat->pio(m->plat_arg, vcpu, port, bytes, in, datap);
}

static int
exit_mmio(void *arg, unsigned vcpu, gpa_t gpa, unsigned bytes, bool write,
    uint64_t *datap)
{
	struct machine *m = arg;

	machine_stat(&m->vcpu[vcpu], mmio);
	if (m->plat == NULL || m->plat->mmio == NULL)
		return -ENXIO;
	return m->plat->mmio(m->plat_arg, vcpu, gpa, bytes, write, datap);
}

static int
exit_rdmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t *valp)
{
	struct machine *m = arg;

	machine_stat(&m->vcpu[vcpu], rdmsr);
	if (m->plat == NULL || m->plat->rdmsr == NULL)
		return -ENXIO;
	return m->plat->rdmsr(m->plat_arg, vcpu, msr, valp);
}

static int
exit_wrmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t val)
{
	struct machine *m = arg;

	machine_stat(&m->vcpu[vcpu], wrmsr);
	if (m->plat == NULL || m->plat->wrmsr == NULL)
		return -ENXIO;
	return m->plat->wrmsr(m->plat_arg, vcpu, msr, val);
}

static void
exit_cpuid(void *arg, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4])
{
	struct machine *m = arg;

	if (m->plat != NULL && m->plat->cpuid != NULL)
		m->plat->cpuid(m->plat_arg, vcpu, leaf, subleaf, regs);
}

static int
exit_intr_pending(void *arg, unsigned vcpu)
{
	struct machine *m = arg;

	if (m->plat == NULL || m->plat->intr_pending == NULL)
		return -1;
	return m->plat->intr_pending(m->plat_arg, vcpu);
}

static int
exit_intr_accept(void *arg, unsigned vcpu)
{
	struct machine *m = arg;
	int vector;

	if (m->plat == NULL || m->plat->intr_accept == NULL)
		return -1;
	vector = m->plat->intr_accept(m->plat_arg, vcpu);
	if (vector >= 0)
		machine_stat(&m->vcpu[vcpu], interrupts);
	return vector;
}

static bool
exit_nmi_accept(void *arg, unsigned vcpu)
{
	struct machine *m = arg;

	if (!atomic_load_explicit(&m->vcpu[vcpu].nmi, memory_order_relaxed))
		return false;
	if (!atomic_exchange(&m->vcpu[vcpu].nmi, false))
		return false;
	machine_stat(&m->vcpu[vcpu], nmis);
	return true;
}

static uint8_t
exit_cr8_get(void *arg, unsigned vcpu)
{
	struct machine *m = arg;

	if (m->plat == NULL || m->plat->cr8_get == NULL)
		return 0;
	return m->plat->cr8_get(m->plat_arg, vcpu);
}

static void
exit_cr8_set(void *arg, unsigned vcpu, uint8_t cr8)
{
	struct machine *m = arg;

	if (m->plat != NULL && m->plat->cr8_set != NULL)
		m->plat->cr8_set(m->plat_arg, vcpu, cr8);
}

static bool
exit_must_exit(void *arg, unsigned vcpu)
{
	struct machine *m = arg;

	return vcpu_must_exit(&m->vcpu[vcpu]);
}

const struct engine_callbacks exit_callbacks = {
	.fault = exit_fault,
	.pio = exit_pio,
	.mmio = exit_mmio,
	.rdmsr = exit_rdmsr,
	.wrmsr = exit_wrmsr,
	.cpuid = exit_cpuid,
	.intr_pending = exit_intr_pending,
	.intr_accept = exit_intr_accept,
	.nmi_accept = exit_nmi_accept,
	.cr8_get = exit_cr8_get,
	.cr8_set = exit_cr8_set,
	.must_exit = exit_must_exit,
};
