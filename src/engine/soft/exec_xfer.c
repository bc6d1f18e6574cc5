/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transfers of control that are not near: operands of far.c's work, INT,
 * and the fast system calls.
 *
 * SYSCALL, SYSRET, SYSENTER and SYSEXIT differ between Intel and AMD: where
 * they may be used, and when a return address is checked.  The guest gets the
 * behaviour of the vendor that its CPUID names (soft_vm.intel).
 */
#include "engine/soft/sys_int.h"

/* Flat code and stack segments as the fast system calls load them. */
static void
xfer_flat_cs(struct soft_cpu *cpu, uint16_t sel, unsigned cpl, bool is64)
{
	struct vmm_seg s = { .limit = 0xffffffff,
		.access = 0xb | VMM_SEG_S | cpl << 5 | VMM_SEG_P | VMM_SEG_G |
		(is64 ? VMM_SEG_L : VMM_SEG_DB) };

	seg_commit_cs(cpu, &s, sel, cpl);
}

static void
xfer_flat_ss(struct soft_cpu *cpu, uint16_t sel, unsigned cpl)
{
	struct vmm_seg s = { .limit = 0xffffffff, .selector = sel,
		.access = 3 | VMM_SEG_S | cpl << 5 | VMM_SEG_P | VMM_SEG_G |
		VMM_SEG_DB };

	soft_set_seg(cpu, VMM_SEG_SS, &s);
}

static int
xfer_syscall(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint16_t sel = (uint16_t)(cpu->star >> 32 & 0xfffc);
	uint64_t next = sys_next(cpu, in), fl = soft_rflags(cpu);
	bool is64 = soft_64bit(cpu);

	if ((cpu->efer & SOFT_EFER_SCE) == 0 ||
	    (cpu->cr0 & SOFT_CR0_PE) == 0 || (cpu->vm->intel && !is64))
		return sys_ud(cpu);
	cpu->gpr[VMM_REG_RCX] = next;
	if (soft_long(cpu)) {
		cpu->gpr[VMM_REG_R11] = fl & ~(uint64_t)SOFT_FL_RF;
		cpu->rip = is64 ? cpu->lstar : cpu->cstar;
		fl &= ~(cpu->sfmask | SOFT_FL_RF);
	} else {
		cpu->rip = (uint32_t)cpu->star;
		fl &= ~(uint64_t)(SOFT_FL_IF | SOFT_FL_VM | SOFT_FL_RF);
	}
	xfer_flat_ss(cpu, (uint16_t)(sel + 8), 0);
	xfer_flat_cs(cpu, sel, 0, soft_long(cpu));
	soft_set_rflags(cpu, fl);
	cpu->tf_armed = (fl & SOFT_FL_TF) != 0;
	return SOFT_FLUSH;
}

static int
xfer_sysret(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint16_t sel = (uint16_t)(cpu->star >> 48);
	uint64_t target = cpu->gpr[VMM_REG_RCX], fl;
	bool to64 = in->opsize == 8;

	if ((cpu->efer & SOFT_EFER_SCE) == 0 ||
	    (cpu->cr0 & SOFT_CR0_PE) == 0 ||
	    (cpu->vm->intel && !soft_64bit(cpu)))
		return sys_ud(cpu);
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	if (to64 && cpu->vm->intel && !soft_canonical(target))
		return sys_gp0(cpu);
	fl = soft_rflags(cpu);
	if (soft_long(cpu))
		fl = cpu->gpr[VMM_REG_R11] & 0x3c7fd7;
	else
		fl |= SOFT_FL_IF;
	cpu->rip = to64 ? target : (uint32_t)target;
	xfer_flat_ss(cpu, (uint16_t)((sel + 8) | 3), 3);
	xfer_flat_cs(cpu, (uint16_t)(to64 ? sel + 16 : sel), 3, to64);
	soft_set_rflags(cpu, fl & ~(uint64_t)(SOFT_FL_RF | SOFT_FL_VM));
	return SOFT_FLUSH;
}

static int
xfer_sysenter(struct soft_cpu *cpu)
{
	uint16_t sel = (uint16_t)(cpu->sysenter_cs & 0xfffc);

	if (!cpu->vm->intel && soft_long(cpu))
		return sys_ud(cpu);
	if ((cpu->cr0 & SOFT_CR0_PE) == 0 || sel == 0)
		return sys_gp0(cpu);
	if (soft_long(cpu)) {
		cpu->gpr[VMM_REG_RSP] = cpu->sysenter_esp;
		cpu->rip = cpu->sysenter_eip;
	} else {
		cpu->gpr[VMM_REG_RSP] = (uint32_t)cpu->sysenter_esp;
		cpu->rip = (uint32_t)cpu->sysenter_eip;
	}
	xfer_flat_ss(cpu, (uint16_t)(sel + 8), 0);
	xfer_flat_cs(cpu, sel, 0, soft_long(cpu));
	soft_set_rflags(cpu, soft_rflags(cpu) &
	    ~(uint64_t)(SOFT_FL_IF | SOFT_FL_VM | SOFT_FL_RF));
	return SOFT_FLUSH;
}

static int
xfer_sysexit(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint16_t sel = (uint16_t)(cpu->sysenter_cs & 0xfffc);
	uint64_t rip = cpu->gpr[VMM_REG_RDX], rsp = cpu->gpr[VMM_REG_RCX];
	bool to64 = in->opsize == 8;

	if (!cpu->vm->intel && soft_long(cpu))
		return sys_ud(cpu);
	if ((cpu->cr0 & SOFT_CR0_PE) == 0 || cpu->cpl != 0 || sel == 0)
		return sys_gp0(cpu);
	if (to64) {
		if (!soft_canonical(rip) || !soft_canonical(rsp))
			return sys_gp0(cpu);
		sel += 32;
	} else {
		rip = (uint32_t)rip;
		rsp = (uint32_t)rsp;
		sel += 16;
	}
	cpu->rip = rip;
	cpu->gpr[VMM_REG_RSP] = rsp;
	xfer_flat_ss(cpu, (uint16_t)((sel + 8) | 3), 3);
	xfer_flat_cs(cpu, sel, 3, to64);
	return SOFT_FLUSH;
}

/* Far JMP and CALL: an immediate pointer, or one in memory. */
static int
xfer_far(struct soft_cpu *cpu, const struct soft_insn *in)
{
	const ZydisDecodedOperand *op = &in->op[0];
	uint64_t next = sys_next(cpu, in), off = 0;
	unsigned n = in->opsize;
	uint16_t sel = 0;
	gva_t la;
	int r;

	if (op->type == ZYDIS_OPERAND_TYPE_POINTER) {
		sel = op->ptr.segment;
		off = op->ptr.offset;
	} else if (op->type == ZYDIS_OPERAND_TYPE_MEMORY) {
		/* AMD has no 64-bit form; REX.W then means nothing. */
		if (n == 8 && !cpu->vm->intel)
			n = 4;
		r = sys_mem(cpu, in, n + 2, VMM_PROT_READ, &la);
		if (r == SOFT_OK)
			r = soft_read(cpu, la, &off, n, false);
		if (r == SOFT_OK)
			r = soft_read(cpu, la + n, &sel, 2, false);
		if (r != SOFT_OK)
			return r;
	} else {
		return sys_ud(cpu);
	}
	if (in->zi.mnemonic == ZYDIS_MNEMONIC_JMP)
		return soft_far_jmp(cpu, sel, off, n, next);
	return soft_far_call(cpu, sel, off, n, next);
}

static int
xfer_iret(struct soft_cpu *cpu, const struct soft_insn *in)
{
	unsigned n = 2;

	if (in->zi.mnemonic == ZYDIS_MNEMONIC_IRETD)
		n = 4;
	else if (in->zi.mnemonic == ZYDIS_MNEMONIC_IRETQ)
		n = 8;
	return soft_iret(cpu, n);
}

int
sys_transfer(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t next = sys_next(cpu, in);

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_JMP:
	case ZYDIS_MNEMONIC_CALL:
		return xfer_far(cpu, in);
	case ZYDIS_MNEMONIC_RET:
		return soft_far_ret(cpu, in->opsize,
		    in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ?
		    (unsigned)(in->op[0].imm.value.u & 0xffff) : 0);
	case ZYDIS_MNEMONIC_INT:
		return soft_int(cpu, (uint8_t)in->op[0].imm.value.u, next,
		    false);
	case ZYDIS_MNEMONIC_INT1:
		return soft_int(cpu, SOFT_EXC_DB, next, true);
	case ZYDIS_MNEMONIC_INT3:
		return soft_int(cpu, SOFT_EXC_BP, next, false);
	case ZYDIS_MNEMONIC_INTO:
		if ((cpu->flags_saved & SOFT_FL_OF) == 0)
			return sys_done(cpu, in, SOFT_OK);
		return soft_int(cpu, SOFT_EXC_OF, next, false);
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		return xfer_iret(cpu, in);
	case ZYDIS_MNEMONIC_SYSCALL:
		return xfer_syscall(cpu, in);
	case ZYDIS_MNEMONIC_SYSRET:
		return xfer_sysret(cpu, in);
	case ZYDIS_MNEMONIC_SYSENTER:
		return xfer_sysenter(cpu);
	case ZYDIS_MNEMONIC_SYSEXIT:
		return xfer_sysexit(cpu, in);
	default:
		return sys_ud(cpu);
	}
}
