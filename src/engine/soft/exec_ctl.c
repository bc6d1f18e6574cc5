/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Control and debug registers, XCR0, MSR instructions, TLB control.
 *
 * Every check comes before the first change, so that #GP leaves the processor
 * as it was with RIP on the instruction.
 */
#include "engine/soft/sys_int.h"

#define CTL_CR0_BITS (SOFT_CR0_PE | SOFT_CR0_MP | SOFT_CR0_EM | SOFT_CR0_TS | \
    SOFT_CR0_ET | SOFT_CR0_NE | SOFT_CR0_WP | SOFT_CR0_AM | SOFT_CR0_NW | \
    SOFT_CR0_CD | SOFT_CR0_PG)

/* --- CR0, CR3, CR4, CR8 ----------------------------------------------- */

static int
ctl_set_cr0(struct soft_cpu *cpu, uint64_t val)
{
	uint64_t old = cpu->cr0, change, efer = cpu->efer;
	int r;

	if (val >> 32 != 0 ||
	    (val & (SOFT_CR0_PG | SOFT_CR0_PE)) == SOFT_CR0_PG ||
	    (val & (SOFT_CR0_NW | SOFT_CR0_CD)) == SOFT_CR0_NW)
		return sys_gp0(cpu);
	val = (val & CTL_CR0_BITS) | SOFT_CR0_ET;
	change = old ^ val;
	if ((change & SOFT_CR0_PG) != 0) {
		if ((val & SOFT_CR0_PG) == 0) {
			if (soft_64bit(cpu) ||
			    (cpu->cr4 & SOFT_CR4_PCIDE) != 0)
				return sys_gp0(cpu);
			efer &= ~SOFT_EFER_LMA;
		} else if ((efer & SOFT_EFER_LME) != 0) {
			if ((cpu->cr4 & SOFT_CR4_PAE) == 0 ||
			    (cpu->seg[VMM_SEG_CS].access & VMM_SEG_L) != 0)
				return sys_gp0(cpu);
			efer |= SOFT_EFER_LMA;
		}
	}
	if ((val & SOFT_CR0_PG) != 0 && (efer & SOFT_EFER_LMA) == 0 &&
	    (cpu->cr4 & SOFT_CR4_PAE) != 0 && (change & (SOFT_CR0_PG |
	    SOFT_CR0_CD | SOFT_CR0_NW)) != 0) {
		r = soft_load_pdptes(cpu, cpu->cr3);
		if (r != SOFT_OK)
			return r;
	}
	cpu->cr0 = val;
	cpu->efer = efer;
	if ((change & (SOFT_CR0_PG | SOFT_CR0_WP | SOFT_CR0_PE)) != 0)
		soft_tlb_flush(cpu, true);
	soft_mode_update(cpu);
	return SOFT_FLUSH;
}

static int
ctl_set_cr3(struct soft_cpu *cpu, uint64_t val)
{
	bool keep = false;
	int r;

	if (soft_long(cpu)) {
		if ((cpu->cr4 & SOFT_CR4_PCIDE) != 0) {
			keep = val >> 63 != 0 &&
			    (val & ~(1ul << 63)) == cpu->cr3;
			val &= ~(1ul << 63);
		}
		if (val >> cpu->phys_bits != 0)
			return sys_gp0(cpu);
	} else {
		val &= 0xffffffff;
		if ((cpu->cr0 & SOFT_CR0_PG) != 0 &&
		    (cpu->cr4 & SOFT_CR4_PAE) != 0) {
			r = soft_load_pdptes(cpu, val);
			if (r != SOFT_OK)
				return r;
		}
	}
	cpu->cr3 = val;
	if (!keep)
		soft_tlb_flush(cpu, false);
	return SOFT_FLUSH;
}

/* CR4 bits that this processor has. */
static uint64_t
ctl_cr4_bits(const struct soft_cpu *cpu)
{
	const struct soft_vm *vm = cpu->vm;
	uint64_t m = SOFT_CR4_TSD | SOFT_CR4_DE | SOFT_CR4_PSE | SOFT_CR4_PAE |
	    SOFT_CR4_MCE | SOFT_CR4_PGE | SOFT_CR4_PCE | SOFT_CR4_OSFXSR |
	    SOFT_CR4_OSXMMEXCPT;

	if (soft_has(vm, SOFT_CPUID_1_ECX, 17))
		m |= SOFT_CR4_PCIDE;
	if (soft_has(vm, SOFT_CPUID_1_ECX, 26))
		m |= SOFT_CR4_OSXSAVE;
	if (soft_has(vm, SOFT_CPUID_7_EBX, 0))
		m |= SOFT_CR4_FSGSBASE;
	if (soft_has(vm, SOFT_CPUID_7_EBX, 7))
		m |= SOFT_CR4_SMEP;
	if (soft_has(vm, SOFT_CPUID_7_EBX, 20))
		m |= SOFT_CR4_SMAP;
	if (soft_has(vm, SOFT_CPUID_7_ECX, 2))
		m |= SOFT_CR4_UMIP;
	return m;
}

static int
ctl_set_cr4(struct soft_cpu *cpu, uint64_t val)
{
	uint64_t change = val ^ cpu->cr4, old = cpu->cr4;
	int r;

	if ((val & ~ctl_cr4_bits(cpu)) != 0)
		return sys_gp0(cpu);
	if (soft_long(cpu) && (val & SOFT_CR4_PAE) == 0)
		return sys_gp0(cpu);
	if ((change & val & SOFT_CR4_PCIDE) != 0 &&
	    (!soft_long(cpu) || (cpu->cr3 & 0xfff) != 0))
		return sys_gp0(cpu);
	if ((val & SOFT_CR4_PAE) != 0 && (cpu->cr0 & SOFT_CR0_PG) != 0 &&
	    !soft_long(cpu) && (change & (SOFT_CR4_PAE | SOFT_CR4_PGE |
	    SOFT_CR4_PSE | SOFT_CR4_SMEP)) != 0) {
		cpu->cr4 = val;
		r = soft_load_pdptes(cpu, cpu->cr3);
		cpu->cr4 = old;
		if (r != SOFT_OK)
			return r;
	}
	cpu->cr4 = val;
	if ((change & (SOFT_CR4_PSE | SOFT_CR4_PAE | SOFT_CR4_PGE |
	    SOFT_CR4_PCIDE | SOFT_CR4_SMEP | SOFT_CR4_SMAP)) != 0)
		soft_tlb_flush(cpu, true);
	soft_mode_update(cpu);
	return SOFT_FLUSH;
}

int
soft_set_cr(struct soft_cpu *cpu, unsigned cr, uint64_t val)
{
	switch (cr) {
	case 0:
		return ctl_set_cr0(cpu, val);
	case 2:
		cpu->cr2 = val;
		return SOFT_OK;
	case 3:
		return ctl_set_cr3(cpu, val);
	case 4:
		return ctl_set_cr4(cpu, val);
	case 8:
		if (val > 15)
			return sys_gp0(cpu);
		soft_leave(cpu);
		cpu->vm->cb->cr8_set(cpu->vm->arg, cpu->id, (uint8_t)val);
		soft_enter(cpu);
		cpu->event_check = true;
		return SOFT_FLUSH;
	default:
		return sys_ud(cpu);
	}
}

static int
ctl_get_cr(struct soft_cpu *cpu, unsigned cr, uint64_t *valp)
{
	switch (cr) {
	case 0:
		*valp = cpu->cr0;
		return SOFT_OK;
	case 2:
		*valp = cpu->cr2;
		return SOFT_OK;
	case 3:
		*valp = cpu->cr3;
		return SOFT_OK;
	case 4:
		*valp = cpu->cr4;
		return SOFT_OK;
	case 8:
		soft_leave(cpu);
		*valp = cpu->vm->cb->cr8_get(cpu->vm->arg, cpu->id) & 15;
		soft_enter(cpu);
		return SOFT_OK;
	default:
		return sys_ud(cpu);
	}
}

/* --- debug registers -------------------------------------------------- */

static int
ctl_debug(struct soft_cpu *cpu, unsigned dr, bool write, uint64_t *valp)
{
	if (dr > 7)
		return sys_ud(cpu);
	if (dr == 4 || dr == 5) {
		if ((cpu->cr4 & SOFT_CR4_DE) != 0)
			return sys_ud(cpu);
		dr += 2;
	}
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	if ((cpu->dr[7] & 0x2000) != 0) { /* GD */
		cpu->dr[6] |= 0x2000;
		cpu->dr[7] &= ~0x2000ul;
		return soft_raise(cpu, SOFT_EXC_DB);
	}
	if (!write) {
		*valp = cpu->dr[dr];
		return SOFT_OK;
	}
	if (dr >= 6 && *valp >> 32 != 0)
		return sys_gp0(cpu);
	if (dr == 6)
		cpu->dr[6] = (*valp & 0xe00f) | 0xffff0ff0;
	else if (dr == 7)
		cpu->dr[7] = (*valp & 0xffff2bff) | 0x400;
	else
		cpu->dr[dr] = *valp;
	return SOFT_OK;
}

static int
ctl_mov(struct soft_cpu *cpu, const struct soft_insn *in)
{
	ZydisRegister a = in->op[0].reg.value, b = in->op[1].reg.value, sys;
	bool write = ZydisRegisterGetClass(a) != ZYDIS_REGCLASS_GPR32 &&
	    ZydisRegisterGetClass(a) != ZYDIS_REGCLASS_GPR64;
	unsigned bytes = soft_64bit(cpu) ? 8 : 4, gpr;
	uint64_t val;
	int r;

	if (in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return sys_ud(cpu);
	sys = write ? a : b;
	gpr = sys_gpr(in, write ? 1 : 0);
	val = cpu->gpr[gpr] & sys_mask(bytes);
	if (sys >= ZYDIS_REGISTER_DR0 && sys <= ZYDIS_REGISTER_DR15) {
		r = ctl_debug(cpu, sys - ZYDIS_REGISTER_DR0, write, &val);
	} else if (sys >= ZYDIS_REGISTER_CR0 && sys <= ZYDIS_REGISTER_CR15) {
		unsigned cr = sys - ZYDIS_REGISTER_CR0;

		if (cr == 1 || (cr > 4 && cr != 8))
			return sys_ud(cpu);
		if (cpu->cpl != 0)
			return sys_gp0(cpu);
		r = write ? soft_set_cr(cpu, cr, val) :
		    ctl_get_cr(cpu, cr, &val);
	} else {
		return sys_ud(cpu);
	}
	if (r != SOFT_OK && r != SOFT_FLUSH)
		return r;
	if (!write)
		sys_wreg(cpu, gpr, bytes, val);
	return sys_done(cpu, in, r);
}

/* --- the others ------------------------------------------------------- */

static int
ctl_msr(struct soft_cpu *cpu, const struct soft_insn *in, bool write)
{
	uint32_t msr = (uint32_t)cpu->gpr[VMM_REG_RCX];
	uint64_t val;
	int r;

	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	if (write) {
		val = cpu->gpr[VMM_REG_RDX] << 32 |
		    (uint32_t)cpu->gpr[VMM_REG_RAX];
		r = soft_wrmsr(cpu, msr, val);
	} else {
		r = soft_rdmsr(cpu, msr, &val);
	}
	if (r != SOFT_OK && r != SOFT_FLUSH)
		return r;
	if (!write) {
		cpu->gpr[VMM_REG_RAX] = (uint32_t)val;
		cpu->gpr[VMM_REG_RDX] = val >> 32;
	}
	return sys_done(cpu, in, r);
}

static int
ctl_xcr(struct soft_cpu *cpu, const struct soft_insn *in, bool write)
{
	uint32_t n = (uint32_t)cpu->gpr[VMM_REG_RCX];
	uint64_t val;

	if ((cpu->cr4 & SOFT_CR4_OSXSAVE) == 0)
		return sys_ud(cpu);
	if (!write) {
		/* Number 1 (XINUSE) is not reported. */
		if (n != 0)
			return sys_gp0(cpu);
		cpu->gpr[VMM_REG_RAX] = (uint32_t)cpu->xcr0;
		cpu->gpr[VMM_REG_RDX] = cpu->xcr0 >> 32;
		return sys_done(cpu, in, SOFT_OK);
	}
	val = cpu->gpr[VMM_REG_RDX] << 32 | (uint32_t)cpu->gpr[VMM_REG_RAX];
	if (cpu->cpl != 0 || n != 0 || (val & 1) == 0 ||
	    (val & ~soft_fpu_features()) != 0 || (val & 6) == 4)
		return sys_gp0(cpu);
	cpu->xcr0 = val;
	soft_mode_update(cpu);
	return sys_done(cpu, in, SOFT_FLUSH);
}

static int
ctl_smsw(struct soft_cpu *cpu, const struct soft_insn *in)
{
	int r;

	if ((cpu->cr4 & SOFT_CR4_UMIP) != 0 && cpu->cpl != 0)
		return sys_gp0(cpu);
	r = sys_put(cpu, in, 0, in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY ?
	    2 : in->opsize, cpu->cr0);
	return r == SOFT_OK ? sys_done(cpu, in, SOFT_OK) : r;
}

static int
ctl_lmsw(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t val;
	int r;

	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	r = sys_get(cpu, in, 0, 2, &val);
	if (r != SOFT_OK)
		return r;
	/* PE can be set, not cleared. */
	val = (cpu->cr0 & ~0xeul) | (val & 0xf);
	r = soft_set_cr(cpu, 0, val);
	return r == SOFT_FLUSH ? sys_done(cpu, in, r) : r;
}

static int
ctl_invlpg(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t la;

	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	la = soft_ea(cpu, in);
	if (!soft_64bit(cpu) || in->mem_seg >= VMM_SEG_FS)
		la += cpu->seg_base[in->mem_seg];
	if (!soft_long(cpu))
		la &= 0xffffffff;
	if (soft_canonical(la))
		soft_tlb_flush_page(cpu, la);
	return sys_done(cpu, in, SOFT_FLUSH);
}

static int
ctl_invpcid(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t type, desc[2];
	gva_t la;
	int r;

	if (!soft_has(cpu->vm, SOFT_CPUID_7_EBX, 10))
		return sys_ud(cpu);
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	type = cpu->gpr[sys_gpr(in, 0)] & sys_mask(soft_64bit(cpu) ? 8 : 4);
	r = sys_mem(cpu, in, 16, VMM_PROT_READ, &la);
	if (r == SOFT_OK)
		r = soft_read(cpu, la, desc, 16, false);
	if (r != SOFT_OK)
		return r;
	if (type > 3 || desc[0] >> 12 != 0 ||
	    (type < 2 && desc[0] != 0 && (cpu->cr4 & SOFT_CR4_PCIDE) == 0) ||
	    (type == 0 && !soft_canonical(desc[1])))
		return sys_gp0(cpu);
	/* Only the current PCID has entries that are not global. */
	switch (type) {
	case 0:
		if (desc[0] == (cpu->cr3 & 0xfff))
			soft_tlb_flush_page(cpu, desc[1]);
		break;
	case 1:
		if (desc[0] == (cpu->cr3 & 0xfff))
			soft_tlb_flush(cpu, false);
		break;
	default:
		soft_tlb_flush(cpu, type == 2);
		break;
	}
	return sys_done(cpu, in, SOFT_FLUSH);
}

int
sys_control(struct soft_cpu *cpu, const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return ctl_mov(cpu, in);
	case ZYDIS_MNEMONIC_RDMSR:
		return ctl_msr(cpu, in, false);
	case ZYDIS_MNEMONIC_WRMSR:
		return ctl_msr(cpu, in, true);
	case ZYDIS_MNEMONIC_XGETBV:
		return ctl_xcr(cpu, in, false);
	case ZYDIS_MNEMONIC_XSETBV:
		return ctl_xcr(cpu, in, true);
	case ZYDIS_MNEMONIC_SMSW:
		return ctl_smsw(cpu, in);
	case ZYDIS_MNEMONIC_LMSW:
		return ctl_lmsw(cpu, in);
	case ZYDIS_MNEMONIC_INVLPG:
		return ctl_invlpg(cpu, in);
	case ZYDIS_MNEMONIC_INVPCID:
		return ctl_invpcid(cpu, in);
	case ZYDIS_MNEMONIC_CLTS:
		if (cpu->cpl != 0)
			return sys_gp0(cpu);
		cpu->cr0 &= ~SOFT_CR0_TS;
		soft_mode_update(cpu);
		return sys_done(cpu, in, SOFT_FLUSH);
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
		/* Guest memory is coherent host memory. */
		if (cpu->cpl != 0)
			return sys_gp0(cpu);
		return sys_done(cpu, in, SOFT_OK);
	default:
		return sys_ud(cpu);
	}
}
