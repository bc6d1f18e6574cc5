/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers.
 *
 * The processor's own are here; what is not known is offered to the layer
 * above (local APIC, TSC deadline, paravirtual ones) and, if that does not
 * know it either, is #GP, counted.  MTRRs hold values and mean nothing: all
 * guest memory is ordinary, write-back memory of the host.
 */
#include <errno.h>
#include <x86intrin.h>

#include "engine/soft/sys_int.h"

enum {
	MSR_TSC = 0x10, MSR_PLATFORM_ID = 0x17, MSR_EBL_CR_POWERON = 0x2a,
	MSR_FEATURE_CONTROL = 0x3a, MSR_TSC_ADJUST = 0x3b,
	MSR_SPEC_CTRL = 0x48, MSR_PRED_CMD = 0x49,
	MSR_ARCH_CAPABILITIES = 0x10a, MSR_BIOS_UPDT_TRIG = 0x79, MSR_BIOS_SIGN = 0x8b,
	MSR_PLATFORM_INFO = 0xce, MSR_MTRRCAP = 0xfe,
	MSR_MISC_FEATURES = 0x140, MSR_SYSENTER_CS = 0x174,
	MSR_SYSENTER_ESP = 0x175, MSR_SYSENTER_EIP = 0x176,
	MSR_MCG_CAP = 0x179, MSR_MCG_STATUS = 0x17a,
	MSR_PERF_STATUS = 0x198, MSR_PERF_CTL = 0x199,
	MSR_MISC_ENABLE = 0x1a0, MSR_DEBUGCTL = 0x1d9,
	MSR_MTRR_VAR = 0x200, MSR_MTRR_VAR_END = 0x20f,
	MSR_MTRR_FIX64K = 0x250, MSR_MTRR_FIX16K = 0x258,
	MSR_MTRR_FIX4K = 0x268, MSR_MTRR_FIX_END = 0x26f,
	MSR_PAT = 0x277, MSR_MTRR_DEF = 0x2ff,
};
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_CSTAR 0xc0000083u
#define MSR_SFMASK 0xc0000084u
#define MSR_FS_BASE 0xc0000100u
#define MSR_GS_BASE 0xc0000101u
#define MSR_KERNEL_GS_BASE 0xc0000102u
#define MSR_TSC_AUX 0xc0000103u
#define MSR_AMD_SYSCFG 0xc0010010u
#define MSR_AMD_HWCR 0xc0010015u
#define MSR_AMD_NB_CFG 0xc001001fu
#define MSR_AMD_PATCH_LOADER 0xc0010020u
#define MSR_AMD_FEATURES 0xc0011000u /* .. 0xc00110ff: LS, IC, DE, BU, ... */
#define MSR_AMD_DE_CFG 0xc0011029u

/*
 * Not affected, by bit: Meltdown, MDS, page size changes, TAA, SBDR, FBSDP,
 * PSDP, GDS, RFDS, ITS, SSB, BHI, PBRSB; enhanced IBRS; no flush of L1 at entry.
 */
#define MSR_ARCH_CAPS (0x1ul << 0 | 1ul << 1 | 1ul << 3 | 1ul << 4 | \
    1ul << 5 | 1ul << 6 | 1ul << 8 | 1ul << 13 | 1ul << 14 | 1ul << 15 | \
    1ul << 20 | 1ul << 24 | 1ul << 26 | 1ul << 27 | 1ul << 62)
/* IBRS, STIBP, SSBD, BHI_DIS_S: kept, without effect */
#define MSR_SPEC_CTRL_BITS 0x407ul

uint64_t
soft_tsc(const struct soft_cpu *cpu)
{
	return __rdtsc() + (uint64_t)cpu->tsc_offset;
}

/* The index in mtrr_fixed[], or -1. */
static int
msr_mtrr_fixed(uint32_t msr)
{
	if (msr == MSR_MTRR_FIX64K)
		return 0;
	if (msr == MSR_MTRR_FIX16K || msr == MSR_MTRR_FIX16K + 1)
		return 1 + (int)(msr - MSR_MTRR_FIX16K);
	if (msr >= MSR_MTRR_FIX4K && msr <= MSR_MTRR_FIX_END)
		return 3 + (int)(msr - MSR_MTRR_FIX4K);
	return -1;
}

static int
msr_unknown(struct soft_cpu *cpu, uint32_t msr, bool write, uint64_t *valp)
{
	int error;

	soft_leave(cpu);
	error = write ? cpu->vm->cb->wrmsr(cpu->vm->arg, cpu->id, msr, *valp) :
	    cpu->vm->cb->rdmsr(cpu->vm->arg, cpu->id, msr, valp);
	soft_enter(cpu);
	cpu->event_check = true;
	if (error == 0)
		return write ? SOFT_FLUSH : SOFT_OK;
	if (error == -ENXIO) {
		if (write)
			cpu->gp_msr_writes++;
		else
			cpu->gp_msr_reads++;
	}
	return sys_gp0(cpu);
}

static int
msr_read_amd(struct soft_cpu *cpu, uint32_t msr, uint64_t *valp)
{
	if (cpu->vm->intel)
		return msr_unknown(cpu, msr, false, valp);
	*valp = 0;
	switch (msr) {
	case MSR_AMD_HWCR:
		*valp = 1 << 24; /* the TSC counts at the P0 frequency */
		return SOFT_OK;
	case MSR_AMD_DE_CFG:
		*valp = 2; /* LFENCE serializes */
		return SOFT_OK;
	case MSR_AMD_SYSCFG:
	case MSR_AMD_NB_CFG:
		return SOFT_OK;
	default:
		if (msr >= MSR_AMD_FEATURES && msr < MSR_AMD_FEATURES + 0x100)
			return SOFT_OK;
		return msr_unknown(cpu, msr, false, valp);
	}
}

int
soft_rdmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t *valp)
{
	int i = msr_mtrr_fixed(msr);

	*valp = 0;
	if (i >= 0) {
		*valp = cpu->mtrr_fixed[i];
		return SOFT_OK;
	}
	if (msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_END) {
		*valp = cpu->mtrr_var[msr - MSR_MTRR_VAR];
		return SOFT_OK;
	}
	switch (msr) {
	case MSR_TSC:
		*valp = soft_tsc(cpu);
		return SOFT_OK;
	case MSR_TSC_ADJUST:
		*valp = cpu->tsc_adjust;
		return SOFT_OK;
	case MSR_BIOS_SIGN:
		/* A revision that no kernel holds for broken. */
		*valp = cpu->vm->intel ? 1ul << 63 >> 1 : 0xffffffff;
		return SOFT_OK;
	case MSR_ARCH_CAPABILITIES:
		if (!cpu->vm->intel)
			break;
		*valp = MSR_ARCH_CAPS;
		return SOFT_OK;
	case MSR_SPEC_CTRL:
		if (!cpu->vm->intel)
			break;
		*valp = cpu->spec_ctrl;
		return SOFT_OK;
	case MSR_MTRRCAP:
		*valp = 8 | 1 << 8 | 1 << 10;
		return SOFT_OK;
	case MSR_SYSENTER_CS:
		*valp = cpu->sysenter_cs;
		return SOFT_OK;
	case MSR_SYSENTER_ESP:
		*valp = cpu->sysenter_esp;
		return SOFT_OK;
	case MSR_SYSENTER_EIP:
		*valp = cpu->sysenter_eip;
		return SOFT_OK;
	case MSR_FEATURE_CONTROL:
		if (!cpu->vm->intel)
			break;
		*valp = 1; /* locked, nothing enabled */
		return SOFT_OK;
	case MSR_MISC_ENABLE:
		if (!cpu->vm->intel)
			break;
		*valp = cpu->misc_enable;
		return SOFT_OK;
	case MSR_PLATFORM_ID:
	case MSR_EBL_CR_POWERON:
	case MSR_PLATFORM_INFO:
	case MSR_MISC_FEATURES:
	case MSR_PERF_STATUS:
	case MSR_PERF_CTL:
		if (!cpu->vm->intel)
			break;
		return SOFT_OK;
	case MSR_MCG_CAP:
	case MSR_MCG_STATUS:
	case MSR_DEBUGCTL:
		return SOFT_OK;
	case MSR_PAT:
		*valp = cpu->pat;
		return SOFT_OK;
	case MSR_MTRR_DEF:
		*valp = cpu->mtrr_def;
		return SOFT_OK;
	case MSR_EFER:
		*valp = cpu->efer;
		return SOFT_OK;
	case MSR_STAR:
		*valp = cpu->star;
		return SOFT_OK;
	case MSR_LSTAR:
		*valp = cpu->lstar;
		return SOFT_OK;
	case MSR_CSTAR:
		*valp = cpu->cstar;
		return SOFT_OK;
	case MSR_SFMASK:
		*valp = cpu->sfmask;
		return SOFT_OK;
	case MSR_FS_BASE:
		*valp = cpu->seg[VMM_SEG_FS].base;
		return SOFT_OK;
	case MSR_GS_BASE:
		*valp = cpu->seg[VMM_SEG_GS].base;
		return SOFT_OK;
	case MSR_KERNEL_GS_BASE:
		*valp = cpu->kernel_gs_base;
		return SOFT_OK;
	case MSR_TSC_AUX:
		*valp = cpu->tsc_aux;
		return SOFT_OK;
	default:
		break;
	}
	if (msr >> 16 == 0xc001)
		return msr_read_amd(cpu, msr, valp);
	return msr_unknown(cpu, msr, false, valp);
}

static int
msr_write_efer(struct soft_cpu *cpu, uint64_t val)
{
	uint64_t may = SOFT_EFER_SCE | SOFT_EFER_LME | SOFT_EFER_LMA;
	uint64_t change;

	if (soft_has(cpu->vm, SOFT_CPUID_81_EDX, 20))
		may |= SOFT_EFER_NXE;
	if (!cpu->vm->intel)
		may |= SOFT_EFER_AIBRSE;
	if ((val & ~may) != 0)
		return sys_gp0(cpu);
	/* LMA is the processor's. */
	val = (val & ~SOFT_EFER_LMA) | (cpu->efer & SOFT_EFER_LMA);
	change = val ^ cpu->efer;
	if ((change & SOFT_EFER_LME) != 0 && (cpu->cr0 & SOFT_CR0_PG) != 0)
		return sys_gp0(cpu);
	cpu->efer = val;
	if ((change & SOFT_EFER_NXE) != 0)
		soft_tlb_flush(cpu, true);
	soft_mode_update(cpu);
	return SOFT_FLUSH;
}

/* PAT and the MTRR types: 0, 1, 4, 5, 6, and 7 (UC-) for PAT only. */
static bool
msr_memory_types(uint64_t val, unsigned n, bool pat)
{
	for (unsigned i = 0; i < n; i++) {
		unsigned t = val >> (8 * i) & 0xff;

		if (t > 7 || t == 2 || t == 3 || (t == 7 && !pat))
			return false;
	}
	return true;
}

static int
msr_write_amd(struct soft_cpu *cpu, uint32_t msr, uint64_t val)
{
	if (!cpu->vm->intel && (msr == MSR_AMD_HWCR || msr == MSR_AMD_NB_CFG ||
	    msr == MSR_AMD_SYSCFG || msr == MSR_AMD_PATCH_LOADER ||
	    (msr >= MSR_AMD_FEATURES && msr < MSR_AMD_FEATURES + 0x100)))
		return SOFT_OK;
	return msr_unknown(cpu, msr, true, &val);
}

static int
msr_write_base(struct soft_cpu *cpu, uint64_t *reg, unsigned seg, uint64_t val)
{
	if (!soft_canonical(val))
		return sys_gp0(cpu);
	*reg = val;
	if (seg < 6)
		cpu->seg_base[seg] = val;
	return SOFT_OK;
}

static int
msr_write_mtrr(struct soft_cpu *cpu, uint32_t msr, uint64_t val)
{
	int i = msr_mtrr_fixed(msr);

	if (i >= 0) {
		if (!msr_memory_types(val, 8, false))
			return sys_gp0(cpu);
		cpu->mtrr_fixed[i] = val;
		return SOFT_OK;
	}
	if (msr == MSR_MTRR_DEF) {
		if ((val & ~0xcfful) != 0 || !msr_memory_types(val, 1, false))
			return sys_gp0(cpu);
		cpu->mtrr_def = val;
		return SOFT_OK;
	}
	if (val >> cpu->phys_bits != 0 || ((msr & 1) == 0 ?
	    (val & 0xf00) != 0 || !msr_memory_types(val, 1, false) :
	    (val & 0x7ff) != 0))
		return sys_gp0(cpu);
	cpu->mtrr_var[msr - MSR_MTRR_VAR] = val;
	return SOFT_OK;
}

/* The clocks above follow: they are told as if TSC_ADJUST had been written. */
static int
msr_adjust_tsc(struct soft_cpu *cpu, uint64_t adjust)
{
	cpu->tsc_offset += (int64_t)(adjust - cpu->tsc_adjust);
	cpu->tsc_adjust = adjust;
	soft_leave(cpu);
	(void)cpu->vm->cb->wrmsr(cpu->vm->arg, cpu->id, MSR_TSC_ADJUST,
	    adjust);
	soft_enter(cpu);
	return SOFT_FLUSH;
}

int
soft_wrmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t val)
{
	if ((msr >= MSR_MTRR_VAR && msr <= MSR_MTRR_VAR_END) ||
	    msr_mtrr_fixed(msr) >= 0 || msr == MSR_MTRR_DEF)
		return msr_write_mtrr(cpu, msr, val);
	switch (msr) {
	case MSR_TSC:
		return msr_adjust_tsc(cpu, cpu->tsc_adjust + val -
		    soft_tsc(cpu));
	case MSR_TSC_ADJUST:
		return msr_adjust_tsc(cpu, val);
	case MSR_BIOS_SIGN:
	case MSR_BIOS_UPDT_TRIG:
		return SOFT_OK;
	case MSR_SPEC_CTRL:
		if (!cpu->vm->intel)
			break;
		if ((val & ~MSR_SPEC_CTRL_BITS) != 0)
			return sys_gp0(cpu);
		cpu->spec_ctrl = val;
		return SOFT_OK;
	case MSR_PRED_CMD:
		if (!cpu->vm->intel)
			break;
		return (val & ~1ul) != 0 ? sys_gp0(cpu) : SOFT_OK;
	case MSR_SYSENTER_CS:
		cpu->sysenter_cs = (uint32_t)val;
		return SOFT_OK;
	case MSR_SYSENTER_ESP:
		return msr_write_base(cpu, &cpu->sysenter_esp, 6, val);
	case MSR_SYSENTER_EIP:
		return msr_write_base(cpu, &cpu->sysenter_eip, 6, val);
	case MSR_MISC_ENABLE:
		if (!cpu->vm->intel)
			break;
		cpu->misc_enable = val;
		return SOFT_OK;
	case MSR_MISC_FEATURES:
	case MSR_PERF_CTL:
		if (!cpu->vm->intel || val != 0)
			break;
		return SOFT_OK;
	case MSR_MCG_STATUS:
		if (val != 0)
			return sys_gp0(cpu);
		return SOFT_OK;
	case MSR_DEBUGCTL:
		if ((val & ~3ul) != 0)
			return sys_gp0(cpu);
		return SOFT_OK;
	case MSR_PAT:
		if (!msr_memory_types(val, 8, true))
			return sys_gp0(cpu);
		cpu->pat = val;
		return SOFT_OK;
	case MSR_EFER:
		return msr_write_efer(cpu, val);
	case MSR_STAR:
		cpu->star = val;
		return SOFT_OK;
	case MSR_LSTAR:
		return msr_write_base(cpu, &cpu->lstar, 6, val);
	case MSR_CSTAR:
		return msr_write_base(cpu, &cpu->cstar, 6, val);
	case MSR_SFMASK:
		if (val >> 32 != 0)
			return sys_gp0(cpu);
		cpu->sfmask = val;
		return SOFT_OK;
	case MSR_FS_BASE:
		return msr_write_base(cpu, &cpu->seg[VMM_SEG_FS].base,
		    VMM_SEG_FS, val);
	case MSR_GS_BASE:
		return msr_write_base(cpu, &cpu->seg[VMM_SEG_GS].base,
		    VMM_SEG_GS, val);
	case MSR_KERNEL_GS_BASE:
		return msr_write_base(cpu, &cpu->kernel_gs_base, 6, val);
	case MSR_TSC_AUX:
		if (val >> 32 != 0)
			return sys_gp0(cpu);
		cpu->tsc_aux = val;
		return SOFT_OK;
	default:
		break;
	}
	if (msr >> 16 == 0xc001)
		return msr_write_amd(cpu, msr, val);
	return msr_unknown(cpu, msr, true, &val);
}
