/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The processor's mode, its reset state, and registers as seen from outside.
 *
 * soft_mode_update() is the one place that turns architectural state into
 * what the executor and the translator look at (mode_key, mmuidx); everything
 * that changes CS, SS, CPL, CR0, CR4, EFER, XCR0 or RFLAGS ends with it.
 */
#include <errno.h>
#include <string.h>
#include <x86intrin.h>

#include "engine/soft/soft_int.h"

/* Base 0, 4 GB, present, data that grows up and may be written (or code). */
static bool
regs_flat(const struct vmm_seg *s, bool code)
{
	uint32_t type = VMM_SEG_TYPE(s->access);

	if (s->base != 0 || s->limit != 0xffffffff ||
	    (s->access & (VMM_SEG_UNUSABLE | VMM_SEG_P)) != VMM_SEG_P)
		return false;
	return code ? (type & 0xa) == 0xa : (type & 0xe) == 0x2;
}

void
soft_mode_update(struct soft_cpu *cpu)
{
	const struct vmm_seg *cs = &cpu->seg[VMM_SEG_CS];
	uint32_t key = (uint32_t)cpu->cpl << 3;

	if (soft_long(cpu) && (cs->access & VMM_SEG_L) != 0)
		key |= SOFT_KEY_L;
	else if ((cs->access & VMM_SEG_DB) != 0)
		key |= SOFT_KEY_D;
	if ((cpu->seg[VMM_SEG_SS].access & VMM_SEG_DB) != 0)
		key |= SOFT_KEY_B;
	if ((cpu->cr0 & SOFT_CR0_PE) != 0)
		key |= SOFT_KEY_PE;
	if ((cpu->cr0 & (SOFT_CR0_TS | SOFT_CR0_EM)) != 0)
		key |= SOFT_KEY_NM;
	if ((cpu->cr4 & SOFT_CR4_OSFXSR) == 0 ||
	    (cpu->cr0 & SOFT_CR0_EM) != 0)
		key |= SOFT_KEY_NOSSE;
	if ((cpu->cr4 & SOFT_CR4_OSXSAVE) == 0 || (cpu->xcr0 & 4) == 0)
		key |= SOFT_KEY_NOAVX;
	if ((cpu->rflags_sys & SOFT_FL_TF) != 0)
		key |= SOFT_KEY_TF;
	if ((key & SOFT_KEY_L) == 0 && (!regs_flat(cs, true) ||
	    !regs_flat(&cpu->seg[VMM_SEG_SS], false) ||
	    !regs_flat(&cpu->seg[VMM_SEG_DS], false) ||
	    !regs_flat(&cpu->seg[VMM_SEG_ES], false)))
		key |= SOFT_KEY_SEG;
	if (cpu->cpl == 3)
		cpu->mmuidx = SOFT_MMU_USER;
	else if ((cpu->cr4 & SOFT_CR4_SMAP) != 0 &&
	    (cpu->rflags_sys & SOFT_FL_AC) != 0)
		cpu->mmuidx = SOFT_MMU_KERNEL_AC;
	else
		cpu->mmuidx = SOFT_MMU_KERNEL;
	cpu->mode_key = key | cpu->mmuidx << 5;
}

void
soft_set_rflags(struct soft_cpu *cpu, uint64_t v)
{
	cpu->flags_saved = (uint32_t)v & SOFT_FL_ARITH;
	cpu->rflags_sys = ((uint32_t)v & (SOFT_FL_TF | SOFT_FL_IF |
	    SOFT_FL_DF | SOFT_FL_IOPL | SOFT_FL_NT | SOFT_FL_AC |
	    SOFT_FL_ID)) | 2;
	soft_mode_update(cpu);
}

/* --- reset ------------------------------------------------------------ */

void
soft_reset(struct soft_cpu *cpu, bool init)
{
	static const struct vmm_seg data = { .limit = 0xffff,
		.access = 3 | VMM_SEG_S | VMM_SEG_P };

	memset(cpu->gpr, 0, sizeof(cpu->gpr));
	cpu->rip = 0xfff0;
	for (unsigned i = 0; i < 6; i++)
		soft_set_seg(cpu, i, &data);
	cpu->seg[VMM_SEG_CS].selector = 0xf000;
	cpu->seg[VMM_SEG_CS].base = cpu->seg_base[VMM_SEG_CS] = 0xffff0000;
	cpu->seg[VMM_SEG_CS].access |= 8;
	for (unsigned i = VMM_SEG_LDTR; i < VMM_SEG_COUNT; i++)
		cpu->seg[i] = (struct vmm_seg){ .limit = 0xffff };
	cpu->seg[VMM_SEG_LDTR].access = 2 | VMM_SEG_P;
	cpu->seg[VMM_SEG_TR].access = 11 | VMM_SEG_P;
	/* INIT keeps CD and NW. */
	cpu->cr0 = init ? (cpu->cr0 & (SOFT_CR0_CD | SOFT_CR0_NW)) |
	    SOFT_CR0_ET : SOFT_CR0_CD | SOFT_CR0_NW | SOFT_CR0_ET;
	cpu->cr2 = cpu->cr3 = cpu->cr4 = cpu->efer = 0;
	memset(cpu->dr, 0, sizeof(cpu->dr));
	cpu->dr[6] = 0xffff0ff0;
	cpu->dr[7] = 0x400;
	cpu->cpl = 0;
	cpu->intr_shadow = cpu->ss_shadow = cpu->nmi_blocked = false;
	cpu->tf_armed = cpu->replay_armed = cpu->exit_pending = false;
	cpu->event.valid = false;
	cpu->event_check = cpu->nmi_check = true;
	cpu->replay_n = cpu->replay_pos = 0;
	cpu->smc = false;
	if (!init) {
		cpu->star = cpu->lstar = cpu->cstar = cpu->sfmask = 0;
		cpu->kernel_gs_base = 0;
		cpu->sysenter_cs = cpu->sysenter_esp = cpu->sysenter_eip = 0;
		cpu->tsc_aux = 0;
		cpu->xcr0 = 1;
		cpu->spec_ctrl = 0;
		cpu->xss = 0;
		cpu->pat = 0x0007040600070406;
		cpu->misc_enable = 1 | 1 << 11 | 1 << 12;
		/* All write-back, as a firmware would leave them. */
		for (unsigned i = 0; i < BASE_ARRAY_LEN(cpu->mtrr_fixed); i++)
			cpu->mtrr_fixed[i] = 0x0606060606060606;
		memset(cpu->mtrr_var, 0, sizeof(cpu->mtrr_var));
		cpu->mtrr_def = 0xc06;
		cpu->tsc_offset = -(int64_t)cpu->vm->tsc_start;
		cpu->tsc_adjust = 0;
	}
	soft_fpu_reset(cpu, init);
	soft_set_rflags(cpu, 2);
	soft_tlb_flush(cpu, true);
	/* EDX: family, model, stepping */
	cpu->gpr[VMM_REG_RDX] = soft_cpuid_signature(cpu->vm);
}

/* --- registers from outside ------------------------------------------- */

static uint64_t *
regs_plain(struct soft_cpu *cpu, enum vmm_reg reg)
{
	switch (reg) {
	case VMM_REG_RIP:
		return &cpu->rip;
	case VMM_REG_CR0:
		return &cpu->cr0;
	case VMM_REG_CR2:
		return &cpu->cr2;
	case VMM_REG_CR3:
		return &cpu->cr3;
	case VMM_REG_CR4:
		return &cpu->cr4;
	case VMM_REG_XCR0:
		return &cpu->xcr0;
	case VMM_REG_DR0:
	case VMM_REG_DR1:
	case VMM_REG_DR2:
	case VMM_REG_DR3:
		return &cpu->dr[reg - VMM_REG_DR0];
	case VMM_REG_DR6:
		return &cpu->dr[6];
	case VMM_REG_DR7:
		return &cpu->dr[7];
	case VMM_REG_EFER:
		return &cpu->efer;
	case VMM_REG_STAR:
		return &cpu->star;
	case VMM_REG_LSTAR:
		return &cpu->lstar;
	case VMM_REG_CSTAR:
		return &cpu->cstar;
	case VMM_REG_SFMASK:
		return &cpu->sfmask;
	case VMM_REG_KERNEL_GS_BASE:
		return &cpu->kernel_gs_base;
	case VMM_REG_SYSENTER_CS:
		return &cpu->sysenter_cs;
	case VMM_REG_SYSENTER_ESP:
		return &cpu->sysenter_esp;
	case VMM_REG_SYSENTER_EIP:
		return &cpu->sysenter_eip;
	case VMM_REG_PAT:
		return &cpu->pat;
	case VMM_REG_TSC_AUX:
		return &cpu->tsc_aux;
	default:
		return reg <= VMM_REG_R15 ? &cpu->gpr[reg] : NULL;
	}
}

int
soft_get_reg(struct soft_cpu *cpu, enum vmm_reg reg, uint64_t *valp)
{
	uint64_t *p = regs_plain(cpu, reg);

	if (p != NULL) {
		*valp = *p;
		return 0;
	}
	switch (reg) {
	case VMM_REG_RFLAGS:
		*valp = soft_rflags(cpu);
		return 0;
	case VMM_REG_CR8:
		*valp = cpu->vm->cb->cr8_get(cpu->vm->arg, cpu->id) & 15;
		return 0;
	case VMM_REG_TSC:
		*valp = soft_tsc(cpu);
		return 0;
	case VMM_REG_APIC_BASE:
		return cpu->vm->cb->rdmsr(cpu->vm->arg, cpu->id, 0x1b, valp);
	case VMM_REG_INTR_SHADOW:
		*valp = cpu->intr_shadow;
		return 0;
	case VMM_REG_NMI_BLOCKED:
		*valp = cpu->nmi_blocked;
		return 0;
	default:
		return -EINVAL;
	}
}

/* Values that the processor could not have are refused. */
static bool
regs_valid(const struct soft_cpu *cpu, enum vmm_reg reg, uint64_t val)
{
	switch (reg) {
	case VMM_REG_CR0:
		return val >> 32 == 0 &&
		    (val & (SOFT_CR0_PG | SOFT_CR0_PE)) != SOFT_CR0_PG;
	case VMM_REG_CR3:
		return (val & ~(1ul << 63)) >> cpu->phys_bits == 0;
	case VMM_REG_CR4:
		return val >> 32 == 0;
	case VMM_REG_EFER:
		return (val & ~(SOFT_EFER_SCE | SOFT_EFER_LME |
		    SOFT_EFER_LMA | SOFT_EFER_NXE | SOFT_EFER_AIBRSE)) == 0;
	case VMM_REG_XCR0:
		return (val & 1) != 0 && (val & ~soft_fpu_features()) == 0 &&
		    (val & 6) != 4;
	case VMM_REG_LSTAR:
	case VMM_REG_CSTAR:
	case VMM_REG_KERNEL_GS_BASE:
	case VMM_REG_SYSENTER_ESP:
	case VMM_REG_SYSENTER_EIP:
		return soft_canonical(val);
	case VMM_REG_SFMASK:
	case VMM_REG_DR6:
	case VMM_REG_DR7:
	case VMM_REG_TSC_AUX:
	case VMM_REG_SYSENTER_CS:
		return val >> 32 == 0;
	default:
		return true;
	}
}

int
soft_set_reg(struct soft_cpu *cpu, enum vmm_reg reg, uint64_t val)
{
	uint64_t *p = regs_plain(cpu, reg);

	if (!regs_valid(cpu, reg, val))
		return -EINVAL;
	switch (reg) {
	case VMM_REG_RFLAGS:
		if ((val & SOFT_FL_VM) != 0)
			return -EINVAL;
		soft_set_rflags(cpu, val);
		return 0;
	case VMM_REG_CR8:
		if (val > 15)
			return -EINVAL;
		cpu->vm->cb->cr8_set(cpu->vm->arg, cpu->id, (uint8_t)val);
		return 0;
	case VMM_REG_TSC:
		cpu->tsc_offset = (int64_t)(val - __rdtsc());
		return 0;
	case VMM_REG_APIC_BASE:
		return cpu->vm->cb->wrmsr(cpu->vm->arg, cpu->id, 0x1b, val);
	case VMM_REG_INTR_SHADOW:
		cpu->intr_shadow = val != 0;
		return 0;
	case VMM_REG_NMI_BLOCKED:
		cpu->nmi_blocked = val != 0;
		return 0;
	default:
		break;
	}
	if (p == NULL)
		return -EINVAL;
	*p = val;
	switch (reg) {
	case VMM_REG_CR3:
		*p &= ~(1ul << 63);
		__attribute__((fallthrough));
	case VMM_REG_CR0:
	case VMM_REG_CR4:
	case VMM_REG_EFER:
		if (reg == VMM_REG_CR0)
			*p |= SOFT_CR0_ET;
		/* In any order: LMA is what the three together say. */
		if ((cpu->cr0 & SOFT_CR0_PG) != 0 &&
		    (cpu->efer & SOFT_EFER_LME) != 0)
			cpu->efer |= SOFT_EFER_LMA;
		else
			cpu->efer &= ~SOFT_EFER_LMA;
		cpu->pdptes_stale = true;
		soft_tlb_flush(cpu, true);
		break;
	default:
		break;
	}
	soft_mode_update(cpu);
	return 0;
}

int
soft_get_seg(struct soft_cpu *cpu, enum vmm_segreg seg, struct vmm_seg *sp)
{
	if ((unsigned)seg >= VMM_SEG_COUNT)
		return -EINVAL;
	*sp = cpu->seg[seg];
	return 0;
}

int
soft_seg_set(struct soft_cpu *cpu, enum vmm_segreg seg,
    const struct vmm_seg *sp)
{
	if ((unsigned)seg >= VMM_SEG_COUNT || !soft_canonical(sp->base))
		return -EINVAL;
	/* Legacy linear addresses are 32 bits wide. */
	if (seg <= VMM_SEG_DS && sp->base >> 32 != 0)
		return -EINVAL;
	soft_set_seg(cpu, seg, sp);
	/* The privilege level is SS's, and CS's where SS is null. */
	if (seg == VMM_SEG_SS || seg == VMM_SEG_CS)
		cpu->cpl = (cpu->cr0 & SOFT_CR0_PE) == 0 ? 0 :
		    VMM_SEG_DPL(cpu->seg[seg].access);
	soft_mode_update(cpu);
	return 0;
}
