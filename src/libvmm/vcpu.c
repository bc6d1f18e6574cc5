/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vCPUs, interrupts and the platform through the API.
 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <stdlib.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"

int
vmm_vcpu_open(struct vmm *vmm, unsigned id, struct vmm_vcpu **vcpup)
{
	struct vmm_info info = { .size = sizeof(info) };
	struct vmm_vcpu *v;
	int error;

	error = vmm_get_info(vmm, &info);
	if (error != 0)
		return error;
	if (id >= info.ncpu)
		return api_error(-EINVAL, "%s has no vCPU %u", vmm->name, id);
	v = malloc(sizeof(*v));
	if (v == NULL)
		return api_errno(-ENOMEM, vmm->name);
	v->vmm = vmm;
	v->id = id;
	*vcpup = v;
	return 0;
}

void
vmm_vcpu_close(struct vmm_vcpu *vcpu)
{
	free(vcpu);
}

int
vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *ex)
{
	if (vcpu->vmm->client != NULL)
		return api_errno(-ENOTSUP, vcpu->vmm->name);
	return api_errno(vcpu_run(vcpu->vmm->m, vcpu->id, ex), "vCPU");
}

int
vmm_vcpu_kick(struct vmm_vcpu *vcpu)
{
	if (vcpu->vmm->client != NULL)
		return api_errno(-ENOTSUP, vcpu->vmm->name);
	vcpu_kick(vcpu->vmm->m, vcpu->id);
	return 0;
}

int
vmm_vcpu_get_regs(struct vmm_vcpu *vcpu, struct vmm_regs *regs)
{
	struct client_call call = {
		.op = PROTO_REGS,
		.arg = { vcpu->id },
		.reply = regs,
		.cap = sizeof(*regs),
	};

	if (regs->size != sizeof(*regs))
		return api_error(-EINVAL, "record of another version");
	if (vcpu->vmm->client != NULL)
		return api_errno(client_call_exact(vcpu->vmm->client, &call),
		    "registers");
	return api_errno(vcpu_get_regs(vcpu->vmm->m, vcpu->id, regs),
	    "registers");
}

int
vmm_vcpu_get_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t *valp)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	int error;

	if ((unsigned)reg >= VMM_REG_COUNT)
		return api_errno(-EINVAL, "register");
	if (vcpu->vmm->client == NULL)
		return api_errno(vcpu_get_reg(vcpu->vmm->m, vcpu->id, reg,
		    valp), "register");
	error = vmm_vcpu_get_regs(vcpu, &regs);
	if (error == 0)
		*valp = regs.reg[reg];
	return error;
}

int
vmm_vcpu_set_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t val)
{
	struct client_call call = {
		.op = PROTO_SET_REG,
		.arg = { vcpu->id, (uint64_t)reg, val },
	};

	if ((unsigned)reg >= VMM_REG_COUNT)
		return api_errno(-EINVAL, "register");
	if (vcpu->vmm->client != NULL)
		return api_errno(client_call_exact(vcpu->vmm->client, &call),
		    "register");
	return api_errno(vcpu_set_reg(vcpu->vmm->m, vcpu->id, reg, val),
	    "register");
}

int
vmm_vcpu_get_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    struct vmm_seg *segp)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	int error;

	if ((unsigned)seg >= VMM_SEG_COUNT)
		return api_errno(-EINVAL, "segment register");
	if (vcpu->vmm->client == NULL)
		return api_errno(vcpu_get_seg(vcpu->vmm->m, vcpu->id, seg,
		    segp), "segment register");
	error = vmm_vcpu_get_regs(vcpu, &regs);
	if (error == 0)
		*segp = regs.seg[seg];
	return error;
}

int
vmm_vcpu_set_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    const struct vmm_seg *segp)
{
	struct client_call call = {
		.op = PROTO_SET_SEG,
		.arg = { vcpu->id, (uint64_t)seg },
		.data = segp,
		.len = sizeof(*segp),
	};

	if ((unsigned)seg >= VMM_SEG_COUNT)
		return api_errno(-EINVAL, "segment register");
	if (vcpu->vmm->client != NULL)
		return api_errno(client_call_exact(vcpu->vmm->client, &call),
		    "segment register");
	return api_errno(vcpu_set_seg(vcpu->vmm->m, vcpu->id, seg, segp),
	    "segment register");
}

int
vmm_vcpu_gva_to_gpa(struct vmm_vcpu *vcpu, gva_t gva, int access,
    gpa_t *gpap)
{
	struct client_call call = {
		.op = PROTO_GVA_TO_GPA,
		.arg = { vcpu->id, gva, (uint64_t)access },
		.reply = gpap,
		.cap = sizeof(*gpap),
	};

	if (access != VMM_PROT_READ && access != VMM_PROT_WRITE &&
	    access != VMM_PROT_EXEC)
		return api_errno(-EINVAL, "kind of access");
	if (vcpu->vmm->client != NULL)
		return api_errno(client_call_exact(vcpu->vmm->client, &call),
		    "guest address");
	return api_errno(vcpu_gva_to_gpa(vcpu->vmm->m, vcpu->id, gva, access,
	    gpap), "guest address");
}

static const char *const vcpu_reg_names[VMM_REG_COUNT] = {
	[VMM_REG_RAX] = "rax", [VMM_REG_RCX] = "rcx", [VMM_REG_RDX] = "rdx",
	[VMM_REG_RBX] = "rbx", [VMM_REG_RSP] = "rsp", [VMM_REG_RBP] = "rbp",
	[VMM_REG_RSI] = "rsi", [VMM_REG_RDI] = "rdi", [VMM_REG_R8] = "r8",
	[VMM_REG_R9] = "r9", [VMM_REG_R10] = "r10", [VMM_REG_R11] = "r11",
	[VMM_REG_R12] = "r12", [VMM_REG_R13] = "r13", [VMM_REG_R14] = "r14",
	[VMM_REG_R15] = "r15", [VMM_REG_RIP] = "rip",
	[VMM_REG_RFLAGS] = "rflags", [VMM_REG_CR0] = "cr0",
	[VMM_REG_CR2] = "cr2", [VMM_REG_CR3] = "cr3", [VMM_REG_CR4] = "cr4",
	[VMM_REG_CR8] = "cr8", [VMM_REG_XCR0] = "xcr0",
	[VMM_REG_DR0] = "dr0", [VMM_REG_DR1] = "dr1", [VMM_REG_DR2] = "dr2",
	[VMM_REG_DR3] = "dr3", [VMM_REG_DR6] = "dr6", [VMM_REG_DR7] = "dr7",
	[VMM_REG_EFER] = "efer", [VMM_REG_STAR] = "star",
	[VMM_REG_LSTAR] = "lstar", [VMM_REG_CSTAR] = "cstar",
	[VMM_REG_SFMASK] = "sfmask",
	[VMM_REG_KERNEL_GS_BASE] = "kernel_gs_base",
	[VMM_REG_SYSENTER_CS] = "sysenter_cs",
	[VMM_REG_SYSENTER_ESP] = "sysenter_esp",
	[VMM_REG_SYSENTER_EIP] = "sysenter_eip", [VMM_REG_PAT] = "pat",
	[VMM_REG_TSC] = "tsc", [VMM_REG_TSC_AUX] = "tsc_aux",
	[VMM_REG_APIC_BASE] = "apic_base",
	[VMM_REG_INTR_SHADOW] = "intr_shadow",
	[VMM_REG_NMI_BLOCKED] = "nmi_blocked",
};

static const char *const vcpu_seg_names[VMM_SEG_COUNT] = {
	[VMM_SEG_ES] = "es", [VMM_SEG_CS] = "cs", [VMM_SEG_SS] = "ss",
	[VMM_SEG_DS] = "ds", [VMM_SEG_FS] = "fs", [VMM_SEG_GS] = "gs",
	[VMM_SEG_LDTR] = "ldtr", [VMM_SEG_TR] = "tr",
	[VMM_SEG_GDTR] = "gdtr", [VMM_SEG_IDTR] = "idtr",
};

const char *
vmm_reg_name(enum vmm_reg reg)
{
	return (unsigned)reg < VMM_REG_COUNT ? vcpu_reg_names[reg] : NULL;
}

const char *
vmm_segreg_name(enum vmm_segreg seg)
{
	return (unsigned)seg < VMM_SEG_COUNT ? vcpu_seg_names[seg] : NULL;
}
