/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts and the rest of the platform through the API.
 */
#include "libvmm/plat.h"

#include <errno.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "platform/platform.h"
#include "vmm/hold.h"
#include "vmm/vcpu.h"

/* ACPI tables lie in the BIOS area, which the guest's map reserves. */
#define PLAT_ACPI_GPA 0xe0000ul
#define PLAT_ACPI_LEN 0x4000ul

/* --- what the platform asks of the core --------------------------------- */

static void
plat_notify(void *arg, unsigned vcpu)
{
	vcpu_notify(((struct vmm *)arg)->m, vcpu);
}

static void
plat_nmi(void *arg, unsigned vcpu)
{
	vcpu_nmi(((struct vmm *)arg)->m, vcpu);
}

static void
plat_init(void *arg, unsigned vcpu)
{
	vcpu_init(((struct vmm *)arg)->m, vcpu);
}

static void
plat_sipi(void *arg, unsigned vcpu, uint8_t vector)
{
	vcpu_sipi(((struct vmm *)arg)->m, vcpu, vector);
}

static void
plat_suspend(void *arg, enum vmm_suspend how, int status)
{
	(void)machine_suspend(((struct vmm *)arg)->m, how, status);
}

static int
plat_write(void *arg, gpa_t gpa, const void *buf, uint64_t len)
{
	return hold_write(((struct vmm *)arg)->m, gpa, buf, len, NULL);
}

static int
plat_read(void *arg, gpa_t gpa, void *buf, uint64_t len)
{
	return hold_read(((struct vmm *)arg)->m, gpa, buf, len, NULL);
}

static uint64_t
plat_tsc(void *arg, unsigned vcpu)
{
	return machine_tsc(((struct vmm *)arg)->m, vcpu);
}

static const struct platform_callbacks plat_callbacks = {
	.notify = plat_notify,
	.nmi = plat_nmi,
	.init = plat_init,
	.sipi = plat_sipi,
	.suspend = plat_suspend,
	.write = plat_write,
	.read = plat_read,
	.tsc = plat_tsc,
};

/* --- what the core asks of the platform --------------------------------- */

static const struct machine_platform_ops plat_ops = {
	.pio = platform_pio,
	.mmio = platform_mmio,
	.rdmsr = platform_rdmsr,
	.wrmsr = platform_wrmsr,
	.cpuid = platform_cpuid,
	.intr_pending = platform_intr_pending,
	.intr_accept = platform_intr_accept,
	.cr8_get = platform_cr8_get,
	.cr8_set = platform_cr8_set,
	.vcpu_reset = platform_vcpu_reset,
	.stats = platform_stats,
};

int
plat_create(struct vmm *vmm)
{
	struct platform_config cfg = {
		.cb = &plat_callbacks,
		.arg = vmm,
		.ncpu = machine_ncpu(vmm->m),
		.tsc_hz = machine_tsc_hz(vmm->m),
	};
	int error = platform_create(&cfg, &vmm->plat);

	if (error == 0)
		machine_set_platform(vmm->m, &plat_ops, vmm->plat);
	return error;
}

void
plat_destroy(struct vmm *vmm)
{
	platform_destroy(vmm->plat);
	vmm->plat = NULL;
}

/* machine_reinit() has reset the vCPUs, and with vCPU 0 the platform. */
void
plat_reset(struct vmm *vmm)
{
	(void)vmm;
}

int
vmm_irq_assert(struct vmm *vmm, unsigned pin)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(platform_irq_assert(vmm->plat, pin), vmm->name);
}

int
vmm_irq_deassert(struct vmm *vmm, unsigned pin)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(platform_irq_deassert(vmm->plat, pin), vmm->name);
}

int
vmm_msi(struct vmm *vmm, uint64_t addr, uint32_t data)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(platform_msi(vmm->plat, addr, data), vmm->name);
}

int
vmm_inject_nmi(struct vmm *vmm, unsigned vcpu)
{
	struct client_call call = { .op = PROTO_NMI, .arg = { vcpu } };

	if (vmm->client != NULL)
		return api_errno(client_call_exact(vmm->client, &call), "NMI");
	if (vcpu >= machine_ncpu(vmm->m))
		return api_error(-EINVAL, "%s has no vCPU %u", vmm->name,
		    vcpu);
	vcpu_nmi(vmm->m, vcpu);
	return 0;
}

int
vmm_power_button(struct vmm *vmm)
{
	struct client_call call = { .op = PROTO_POWER };
	int error;

	if (vmm->client != NULL)
		error = client_call_exact(vmm->client, &call);
	else
		error = platform_power_button(vmm->plat);
	if (error == -EAGAIN)
		return api_error(error,
		    "the guest does not listen to the power button");
	return api_errno(error, vmm->name);
}

int
vmm_setup_firmware(struct vmm *vmm, struct vmm_firmware *fw)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	if (fw->size != sizeof(*fw))
		return api_error(-EINVAL, "record of another version");
	fw->nrange = 1;
	fw->range[0].gpa = PLAT_ACPI_GPA;
	fw->range[0].len = PLAT_ACPI_LEN;
	fw->range[0].type = 3;
	return api_errno(platform_acpi_build(vmm->plat, PLAT_ACPI_GPA,
	    PLAT_ACPI_LEN, &fw->rsdp), vmm->name);
}
