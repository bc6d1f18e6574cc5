/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts and the rest of the platform through the API.
 */
#include "libvmm/plat.h"

#include <errno.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "vmm/vcpu.h"

int
plat_create(struct vmm *vmm)
{
	(void)vmm;
	return 0;
}

void
plat_destroy(struct vmm *vmm)
{
	(void)vmm;
}

void
plat_reset(struct vmm *vmm)
{
	(void)vmm;
}

int
vmm_irq_assert(struct vmm *vmm, unsigned pin)
{
	(void)pin;
	return api_errno(-ENOTSUP, vmm->name);
}

int
vmm_irq_deassert(struct vmm *vmm, unsigned pin)
{
	(void)pin;
	return api_errno(-ENOTSUP, vmm->name);
}

int
vmm_msi(struct vmm *vmm, uint64_t addr, uint32_t data)
{
	(void)addr;
	(void)data;
	return api_errno(-ENOTSUP, vmm->name);
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

	if (vmm->client != NULL)
		return api_errno(client_call_exact(vmm->client, &call),
		    "power button");
	return api_errno(-ENOTSUP, vmm->name);
}

int
vmm_setup_firmware(struct vmm *vmm, struct vmm_firmware *fw)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	if (fw->size != sizeof(*fw))
		return api_error(-EINVAL, "record of another version");
	fw->nrange = 0;
	fw->rsdp = 0;
	return 0;
}
