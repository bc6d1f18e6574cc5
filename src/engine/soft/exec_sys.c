/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System instructions: dispatch, operands, ports, and the small ones.  The
 * others are grouped in exec_ctl.c (control registers, MSRs, TLB),
 * exec_seg.c (segment registers and descriptor tables) and exec_xfer.c
 * (far transfers, SYSCALL and its kin, INT, IRET).
 *
 * A new privileged instruction: give it a class in decode.c and a case here.
 */
#include "engine/soft/sys_int.h"

unsigned
sys_gpr(const struct soft_insn *in, unsigned i)
{
	int n = soft_gpr_number(in->op[i].reg.value);

	KASSERT(n >= 0, "operand %u of mnemonic %d is no register", i,
	    in->zi.mnemonic);
	return (unsigned)n;
}

void
sys_wreg(struct soft_cpu *cpu, unsigned r, unsigned bytes, uint64_t v)
{
	uint64_t m = sys_mask(bytes);

	if (bytes >= 4)
		cpu->gpr[r] = v & m;
	else
		cpu->gpr[r] = (cpu->gpr[r] & ~m) | (v & m);
}

int
sys_mem(struct soft_cpu *cpu, const struct soft_insn *in, unsigned n,
    int access, gva_t *lap)
{
	return soft_linear(cpu, in->mem_seg, soft_ea(cpu, in), n, access, lap);
}

int
sys_get(struct soft_cpu *cpu, const struct soft_insn *in, unsigned i,
    unsigned n, uint64_t *valp)
{
	gva_t la;
	int r;

	*valp = 0;
	if (in->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY) {
		*valp = cpu->gpr[sys_gpr(in, i)] & sys_mask(n);
		return SOFT_OK;
	}
	r = sys_mem(cpu, in, n, VMM_PROT_READ, &la);
	if (r == SOFT_OK)
		r = soft_read(cpu, la, valp, n, false);
	return r;
}

int
sys_put(struct soft_cpu *cpu, const struct soft_insn *in, unsigned i,
    unsigned n, uint64_t val)
{
	gva_t la;
	int r;

	if (in->op[i].type != ZYDIS_OPERAND_TYPE_MEMORY) {
		sys_wreg(cpu, sys_gpr(in, i), n, val);
		return SOFT_OK;
	}
	r = sys_mem(cpu, in, n, VMM_PROT_WRITE, &la);
	if (r == SOFT_OK)
		r = soft_write(cpu, la, &val, n, false);
	return r;
}

/* --- ports ------------------------------------------------------------ */

/* The I/O permission bitmap of the TSS. => SOFT_OK: allowed */
static int
sys_io_allowed(struct soft_cpu *cpu, uint16_t port, unsigned bytes)
{
	const struct vmm_seg *tr = &cpu->seg[VMM_SEG_TR];
	uint16_t map, bits;
	uint32_t off;
	int r;

	if ((tr->access & VMM_SEG_UNUSABLE) != 0 ||
	    (VMM_SEG_TYPE(tr->access) & 0xd) != SEG_SYS_TSS || tr->limit < 103)
		return sys_gp0(cpu);
	r = soft_read(cpu, tr->base + 102, &map, 2, true);
	if (r != SOFT_OK)
		return r;
	off = map + port / 8u;
	if (off + 1 > tr->limit)
		return sys_gp0(cpu);
	r = soft_read(cpu, tr->base + off, &bits, 2, true);
	if (r != SOFT_OK)
		return r;
	if ((bits >> (port % 8) & ((1u << bytes) - 1)) != 0)
		return sys_gp0(cpu);
	return SOFT_OK;
}

int
soft_io_check(struct soft_cpu *cpu, uint16_t port, unsigned bytes)
{
	if ((cpu->cr0 & SOFT_CR0_PE) != 0 &&
	    cpu->cpl > (cpu->rflags_sys & SOFT_FL_IOPL) >> 12)
		return sys_io_allowed(cpu, port, bytes);
	return SOFT_OK;
}

int
soft_io(struct soft_cpu *cpu, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	int r = soft_io_check(cpu, port, bytes);

	return r != SOFT_OK ? r : soft_pio(cpu, port, bytes, in, datap);
}

static int
sys_inout(struct soft_cpu *cpu, const struct soft_insn *in)
{
	bool input = in->zi.mnemonic == ZYDIS_MNEMONIC_IN;
	const ZydisDecodedOperand *po = &in->op[input ? 1 : 0];
	const ZydisDecodedOperand *ro = &in->op[input ? 0 : 1];
	unsigned bytes = ro->size / 8;
	uint16_t port;
	uint32_t data;
	int r;

	port = po->type == ZYDIS_OPERAND_TYPE_IMMEDIATE ?
	    (uint16_t)(po->imm.value.u & 0xff) :
	    (uint16_t)cpu->gpr[VMM_REG_RDX];
	data = (uint32_t)(cpu->gpr[VMM_REG_RAX] & sys_mask(bytes));
	r = soft_io(cpu, port, bytes, input, &data);
	if (r != SOFT_OK)
		return r;
	if (input)
		sys_wreg(cpu, VMM_REG_RAX, bytes, data);
	/* The port may have raised an interrupt: look before going on. */
	return sys_done(cpu, in, SOFT_FLUSH);
}

/* --- flags and time --------------------------------------------------- */

static int
sys_cli_sti(struct soft_cpu *cpu, const struct soft_insn *in, bool sti)
{
	if ((cpu->cr0 & SOFT_CR0_PE) != 0 &&
	    cpu->cpl > (cpu->rflags_sys & SOFT_FL_IOPL) >> 12)
		return sys_gp0(cpu);
	if (!sti) {
		cpu->rflags_sys &= ~SOFT_FL_IF;
		return sys_done(cpu, in, SOFT_OK);
	}
	if ((cpu->rflags_sys & SOFT_FL_IF) != 0)
		return sys_done(cpu, in, SOFT_OK);
	cpu->rflags_sys |= SOFT_FL_IF;
	/* The shadow only matters when something waits behind it. */
	cpu->intr_shadow = true;
	return sys_done(cpu, in, SOFT_FLUSH);
}

static int
sys_ac(struct soft_cpu *cpu, const struct soft_insn *in, bool set)
{
	if (cpu->cpl != 0 || !soft_has(cpu->vm, SOFT_CPUID_7_EBX, 20))
		return sys_ud(cpu);
	if (set)
		cpu->rflags_sys |= SOFT_FL_AC;
	else
		cpu->rflags_sys &= ~SOFT_FL_AC;
	soft_mode_update(cpu);
	return sys_done(cpu, in, SOFT_FLUSH);
}

static int
sys_rdtsc(struct soft_cpu *cpu, const struct soft_insn *in, bool aux)
{
	uint64_t tsc;

	if ((cpu->cr4 & SOFT_CR4_TSD) != 0 && cpu->cpl != 0)
		return sys_gp0(cpu);
	tsc = soft_tsc(cpu);
	cpu->gpr[VMM_REG_RAX] = (uint32_t)tsc;
	cpu->gpr[VMM_REG_RDX] = tsc >> 32;
	if (aux)
		cpu->gpr[VMM_REG_RCX] = (uint32_t)cpu->tsc_aux;
	return sys_done(cpu, in, SOFT_OK);
}

static int
sys_cpuid(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint32_t regs[4];

	soft_cpuid(cpu, (uint32_t)cpu->gpr[VMM_REG_RAX],
	    (uint32_t)cpu->gpr[VMM_REG_RCX], regs);
	cpu->gpr[VMM_REG_RAX] = regs[0];
	cpu->gpr[VMM_REG_RBX] = regs[1];
	cpu->gpr[VMM_REG_RCX] = regs[2];
	cpu->gpr[VMM_REG_RDX] = regs[3];
	return sys_done(cpu, in, SOFT_OK);
}

static int
sys_hlt(struct soft_cpu *cpu, const struct soft_insn *in)
{
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	cpu->rip = sys_next(cpu, in);
	/* What woke us is for soft_check_events() on the way in. */
	cpu->event_check = cpu->nmi_check = true;
	return soft_exit(cpu, VMM_EXIT_HLT);
}

int
soft_exec_sys(struct soft_cpu *cpu, const struct soft_insn *in)
{
	/* What the REX or VEX of an ordinary instruction names is no concern
	 * here, but LOCK is never allowed. */
	if (in->lock && in->zi.mnemonic != ZYDIS_MNEMONIC_MOV)
		return sys_ud(cpu);
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_IN:
	case ZYDIS_MNEMONIC_OUT:
		return sys_inout(cpu, in);
	case ZYDIS_MNEMONIC_CLI:
		return sys_cli_sti(cpu, in, false);
	case ZYDIS_MNEMONIC_STI:
		return sys_cli_sti(cpu, in, true);
	case ZYDIS_MNEMONIC_CLAC:
		return sys_ac(cpu, in, false);
	case ZYDIS_MNEMONIC_STAC:
		return sys_ac(cpu, in, true);
	case ZYDIS_MNEMONIC_RDTSC:
		return sys_rdtsc(cpu, in, false);
	case ZYDIS_MNEMONIC_RDTSCP:
		if (!soft_has(cpu->vm, SOFT_CPUID_81_EDX, 27))
			return sys_ud(cpu);
		return sys_rdtsc(cpu, in, true);
	case ZYDIS_MNEMONIC_RDPID:
		if (!soft_has(cpu->vm, SOFT_CPUID_7_ECX, 22))
			return sys_ud(cpu);
		sys_wreg(cpu, sys_gpr(in, 0), soft_64bit(cpu) ? 8 : 4,
		    (uint32_t)cpu->tsc_aux);
		return sys_done(cpu, in, SOFT_OK);
	case ZYDIS_MNEMONIC_RDPMC:
		return sys_gp0(cpu);
	case ZYDIS_MNEMONIC_CPUID:
		return sys_cpuid(cpu, in);
	case ZYDIS_MNEMONIC_HLT:
		return sys_hlt(cpu, in);

	case ZYDIS_MNEMONIC_RDMSR:
	case ZYDIS_MNEMONIC_WRMSR:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_XSETBV:
	case ZYDIS_MNEMONIC_CLTS:
	case ZYDIS_MNEMONIC_LMSW:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_INVD:
	case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_INVLPG:
	case ZYDIS_MNEMONIC_INVPCID:
		return sys_control(cpu, in);
	case ZYDIS_MNEMONIC_MOV:
		if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(in->op[0].reg.value) ==
		    ZYDIS_REGCLASS_SEGMENT)
			return sys_segment(cpu, in);
		if (in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    ZydisRegisterGetClass(in->op[1].reg.value) ==
		    ZYDIS_REGCLASS_SEGMENT)
			return sys_segment(cpu, in);
		return sys_control(cpu, in);

	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
	case ZYDIS_MNEMONIC_RET:
	case ZYDIS_MNEMONIC_INT:
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_INT3:
	case ZYDIS_MNEMONIC_INTO:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSEXIT:
		return sys_transfer(cpu, in);

	default:
		return sys_segment(cpu, in);
	}
}
