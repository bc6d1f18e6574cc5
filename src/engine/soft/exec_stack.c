/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stack and near control transfers, in 16, 32 and 64-bit forms.
 *
 * Three sizes are at work: the operand's (in->opsize), the stack pointer's
 * (SS.B, or 64), and the code's (where rip wraps).  RSP is written last, when
 * nothing can fail any more.
 */
#include <cpuid.h>

#include "engine/soft/exec_int.h"

static unsigned
exec_sp_bytes(const struct soft_cpu *cpu)
{
	if (cpu->mode_key & SOFT_KEY_L)
		return 8;
	return cpu->mode_key & SOFT_KEY_B ? 4 : 2;
}

static uint64_t
exec_sp(const struct soft_cpu *cpu, int64_t delta)
{
	return (cpu->gpr[VMM_REG_RSP] + (uint64_t)delta) &
	    exec_mask(exec_sp_bytes(cpu));
}

static void
exec_sp_set(struct soft_cpu *cpu, uint64_t sp)
{
	exec_wreg(cpu, VMM_REG_RSP, exec_sp_bytes(cpu), sp);
}

static int
exec_push(struct soft_cpu *cpu, unsigned n, uint64_t val)
{
	uint64_t sp = exec_sp(cpu, -(int64_t)n);
	int ret;

	ret = exec_store(cpu, VMM_SEG_SS, sp, n, val);
	if (ret == SOFT_OK)
		exec_sp_set(cpu, sp);
	return ret;
}

/* The immediate of the instruction, sign-extended from its size. */
static uint64_t
exec_imm(const struct soft_insn *in, unsigned i)
{
	return exec_sext(in->zi.raw.imm[i].value.u,
	    in->zi.raw.imm[i].size / 8);
}

/* Operand 0: register or memory, of n bytes. */
static int
exec_operand(struct soft_cpu *cpu, struct exec_op *x, unsigned n,
    uint64_t *valp)
{
	const struct soft_insn *in = x->in;
	int r;

	if (in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY)
		return exec_load(cpu, in->mem_seg, exec_ea(cpu, x), n, valp);
	r = exec_gpr(in->op[0].reg.value);
	if (r < 0)
		return soft_raise(cpu, SOFT_EXC_UD);
	*valp = cpu->gpr[r] & exec_mask(n);
	return SOFT_OK;
}

/* --- near transfers ---------------------------------------------------- */

static int
exec_target(struct soft_cpu *cpu, uint64_t target)
{
	if (cpu->mode_key & SOFT_KEY_L) {
		if (!exec_canonical(target))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	} else if (target > cpu->seg[VMM_SEG_CS].limit) {
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	}
	return SOFT_OK;
}

/* Condition code cc (the low nibble of Jcc's opcode) under the flags. */
static bool
exec_cond(uint32_t fl, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0:
		r = fl & SOFT_FL_OF;
		break;
	case 1:
		r = fl & SOFT_FL_CF;
		break;
	case 2:
		r = fl & SOFT_FL_ZF;
		break;
	case 3:
		r = fl & (SOFT_FL_CF | SOFT_FL_ZF);
		break;
	case 4:
		r = fl & SOFT_FL_SF;
		break;
	case 5:
		r = fl & SOFT_FL_PF;
		break;
	case 6:
		r = !(fl & SOFT_FL_SF) != !(fl & SOFT_FL_OF);
		break;
	default:
		r = fl & SOFT_FL_ZF || !(fl & SOFT_FL_SF) != !(fl & SOFT_FL_OF);
		break;
	}
	return r != (cc & 1);
}

/*
 * AMD's processors let a repeat prefix decide whether LOOPE and LOOPNE loop
 * while equal (F3) or not equal (F2).
 */
static bool
exec_loop_equal(const struct soft_insn *in)
{
	static int amd = -1;
	unsigned a, b, c, d, i;

	if (amd < 0)
		amd = __get_cpuid(0, &a, &b, &c, &d) != 0 &&
		    b == signature_AMD_ebx;
	for (i = in->zi.raw.prefix_count; amd && i-- > 0;)
		if ((in->zi.raw.prefixes[i].value & 0xfe) == 0xf2)
			return in->zi.raw.prefixes[i].value == 0xf3;
	return in->zi.opcode == 0xe1;
}

/* LOOPNE, LOOPE, LOOP, JrCXZ: opcodes e0 to e3 */
static bool
exec_loop(struct soft_cpu *cpu, const struct soft_insn *in, uint64_t *countp)
{
	uint64_t m = exec_mask(in->addrsize);
	uint64_t count = cpu->gpr[VMM_REG_RCX] & m;
	bool zf = cpu->flags_saved & SOFT_FL_ZF;

	*countp = count;
	if (in->zi.opcode == 0xe3)
		return count == 0;
	*countp = count = (count - 1) & m;
	if (in->zi.opcode == 0xe2)
		return count != 0;
	return count != 0 && zf == exec_loop_equal(in);
}

int
exec_branch(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	uint64_t next = exec_next(cpu, in), target, count = 0, sp;
	unsigned n = in->opsize;
	bool taken = true;
	gva_t la;
	int ret;

	if (x->kind == EXEC_K_RET) {
		sp = exec_sp(cpu, 0);
		ret = exec_load(cpu, VMM_SEG_SS, sp, n, &target);
		if (ret != SOFT_OK)
			return ret;
	} else if (in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		target = (cpu->rip + in->len + exec_imm(in, 0)) & exec_mask(n);
	} else {
		ret = exec_operand(cpu, x, n, &target);
		if (ret != SOFT_OK)
			return ret;
	}
	switch (x->kind) {
	case EXEC_K_JCC:
		taken = exec_cond(cpu->flags_saved, in->zi.opcode & 15);
		break;
	case EXEC_K_LOOP:
		taken = exec_loop(cpu, in, &count);
		break;
	}
	if (x->kind == EXEC_K_CALL) {
		/* A fault of the push comes before one of the target. */
		ret = exec_linear(cpu, VMM_SEG_SS, exec_sp(cpu, -(int64_t)n),
		    n, VMM_PROT_WRITE, &la);
		if (ret == SOFT_OK)
			ret = exec_probe(cpu, la, n, VMM_PROT_WRITE);
		if (ret != SOFT_OK)
			return ret;
	}
	if (taken) {
		ret = exec_target(cpu, target);
		if (ret != SOFT_OK)
			return ret;
	} else {
		target = next;
	}
	switch (x->kind) {
	case EXEC_K_CALL:
		ret = exec_push(cpu, n, next);
		if (ret != SOFT_OK)
			return ret;
		break;
	case EXEC_K_RET:
		exec_sp_set(cpu, exec_sp(cpu, n + (in->zi.raw.imm[0].size ?
		    (int64_t)in->zi.raw.imm[0].value.u : 0)));
		break;
	case EXEC_K_LOOP:
		if (in->zi.opcode != 0xe3)
			exec_wreg(cpu, VMM_REG_RCX, in->addrsize, count);
		break;
	}
	cpu->rip = target;
	return SOFT_OK;
}

/* --- push, pop and their kin ------------------------------------------- */

static int
exec_push_operand(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	ZydisRegister r = in->op[0].reg.value;
	uint64_t val;
	int ret;

	if (in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		val = exec_imm(in, 0);
	} else if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS) {
		val = cpu->seg[r - ZYDIS_REGISTER_ES].selector;
	} else {
		ret = exec_operand(cpu, x, in->opsize, &val);
		if (ret != SOFT_OK)
			return ret;
	}
	ret = exec_push(cpu, in->opsize, val);
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

static int
exec_pop_operand(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	uint64_t val, old = cpu->gpr[VMM_REG_RSP];
	unsigned n = in->opsize;
	int ret, r;

	ret = exec_load(cpu, VMM_SEG_SS, exec_sp(cpu, 0), n, &val);
	if (ret != SOFT_OK)
		return ret;
	/* An address based on RSP is that after the pop. */
	exec_sp_set(cpu, exec_sp(cpu, n));
	if (in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY) {
		ret = exec_store(cpu, in->mem_seg, exec_ea(cpu, x), n, val);
		if (ret != SOFT_OK) {
			cpu->gpr[VMM_REG_RSP] = old;
			return ret;
		}
	} else {
		r = exec_gpr(in->op[0].reg.value);
		if (r < 0) {
			cpu->gpr[VMM_REG_RSP] = old;
			return soft_raise(cpu, SOFT_EXC_UD);
		}
		exec_wreg(cpu, (unsigned)r, n, val);
	}
	return exec_done(cpu, in);
}

/* A fault midway leaves what was stored so far, and ESP as it was. */
static int
exec_pusha(struct soft_cpu *cpu, const struct soft_insn *in)
{
	unsigned n = in->opsize, i;
	int ret;

	for (i = 0; i < 8; i++) {
		ret = exec_store(cpu, VMM_SEG_SS,
		    exec_sp(cpu, -(int64_t)(n * (i + 1))), n, cpu->gpr[i]);
		if (ret != SOFT_OK)
			return ret;
	}
	exec_sp_set(cpu, exec_sp(cpu, -(int64_t)(8 * n)));
	return exec_done(cpu, in);
}

/* A fault midway leaves the registers popped so far, and ESP as it was. */
static int
exec_popa(struct soft_cpu *cpu, const struct soft_insn *in)
{
	unsigned n = in->opsize, i;
	uint64_t val;
	int ret;

	for (i = 0; i < 8; i++) {
		ret = exec_load(cpu, VMM_SEG_SS, exec_sp(cpu, n * i), n, &val);
		if (ret != SOFT_OK)
			return ret;
		if (7 - i != VMM_REG_RSP)
			exec_wreg(cpu, 7 - i, n, val);
	}
	exec_sp_set(cpu, exec_sp(cpu, 8 * n));
	return exec_done(cpu, in);
}

static int
exec_enter(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t old_sp = cpu->gpr[VMM_REG_RSP], frame, val;
	uint64_t bp = cpu->gpr[VMM_REG_RBP], m = exec_mask(exec_sp_bytes(cpu));
	unsigned n = in->opsize, level = in->zi.raw.imm[1].value.u & 31;
	uint64_t size = in->zi.raw.imm[0].value.u & 0xffff;
	gva_t la;
	int ret;

	ret = exec_push(cpu, n, bp);
	frame = exec_sp(cpu, 0);
	for (unsigned i = 1; i < level && ret == SOFT_OK; i++) {
		bp -= n;
		ret = exec_load(cpu, VMM_SEG_SS, bp & m, n, &val);
		if (ret == SOFT_OK)
			ret = exec_push(cpu, n, val);
	}
	if (level > 0 && ret == SOFT_OK)
		ret = exec_push(cpu, n, frame);
	if (ret == SOFT_OK) {
		/* The new top of stack must be writable. */
		exec_sp_set(cpu, exec_sp(cpu, -(int64_t)size));
		ret = exec_linear(cpu, VMM_SEG_SS, exec_sp(cpu, 0), n,
		    VMM_PROT_WRITE, &la);
		if (ret == SOFT_OK)
			ret = exec_probe(cpu, la, n, VMM_PROT_WRITE);
	}
	if (ret != SOFT_OK) {
		cpu->gpr[VMM_REG_RSP] = old_sp;
		return ret;
	}
	exec_wreg(cpu, VMM_REG_RBP, n, frame);
	return exec_done(cpu, in);
}

static int
exec_leave(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t sp = cpu->gpr[VMM_REG_RBP] & exec_mask(exec_sp_bytes(cpu));
	uint64_t val;
	int ret;

	ret = exec_load(cpu, VMM_SEG_SS, sp, in->opsize, &val);
	if (ret != SOFT_OK)
		return ret;
	exec_sp_set(cpu, (sp + in->opsize) & exec_mask(exec_sp_bytes(cpu)));
	exec_wreg(cpu, VMM_REG_RBP, in->opsize, val);
	return exec_done(cpu, in);
}

static unsigned
exec_iopl(const struct soft_cpu *cpu)
{
	return (cpu->rflags_sys & SOFT_FL_IOPL) >> 12;
}

static int
exec_pushf(struct soft_cpu *cpu, const struct soft_insn *in)
{
	int ret;

	if (cpu->rflags_sys & SOFT_FL_VM && exec_iopl(cpu) < 3)
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	ret = exec_push(cpu, in->opsize,
	    soft_rflags(cpu) & ~(uint64_t)(SOFT_FL_RF | SOFT_FL_VM));
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

static int
exec_popf(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint32_t may = SOFT_FL_ARITH | SOFT_FL_TF | SOFT_FL_DF | SOFT_FL_NT |
	    SOFT_FL_AC | SOFT_FL_ID;
	uint32_t old = (uint32_t)soft_rflags(cpu), fl;
	uint64_t val;
	int ret;

	if (cpu->rflags_sys & SOFT_FL_VM && exec_iopl(cpu) < 3)
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	if (cpu->rflags_sys & SOFT_FL_VM || cpu->cpl <= exec_iopl(cpu))
		may |= SOFT_FL_IF;
	if (cpu->cpl == 0 && !(cpu->rflags_sys & SOFT_FL_VM))
		may |= SOFT_FL_IOPL;
	if (in->opsize == 2)
		may &= 0xffff;
	ret = exec_load(cpu, VMM_SEG_SS, exec_sp(cpu, 0), in->opsize, &val);
	if (ret != SOFT_OK)
		return ret;
	exec_sp_set(cpu, exec_sp(cpu, in->opsize));
	fl = (old & ~may) | ((uint32_t)val & may);
	cpu->flags_saved = fl & SOFT_FL_ARITH;
	cpu->rflags_sys = (fl & ~(SOFT_FL_ARITH | SOFT_FL_RF)) | 2;
	exec_done(cpu, in);
	if ((old ^ fl) & (SOFT_FL_TF | SOFT_FL_AC)) {
		soft_mode_update(cpu);
		return SOFT_FLUSH;
	}
	/* Interrupts just enabled may be waiting. */
	return fl & ~old & SOFT_FL_IF ? SOFT_FLUSH : SOFT_OK;
}

int
exec_stack(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	ZydisRegister r = in->op[0].reg.value;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		return exec_push_operand(cpu, x);
	case ZYDIS_MNEMONIC_POP:
		if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS)
			return soft_exec_sys(cpu, in);
		return exec_pop_operand(cpu, x);
	case ZYDIS_MNEMONIC_PUSHA:
	case ZYDIS_MNEMONIC_PUSHAD:
		return exec_pusha(cpu, in);
	case ZYDIS_MNEMONIC_POPA:
	case ZYDIS_MNEMONIC_POPAD:
		return exec_popa(cpu, in);
	case ZYDIS_MNEMONIC_ENTER:
		return exec_enter(cpu, in);
	case ZYDIS_MNEMONIC_LEAVE:
		return exec_leave(cpu, in);
	case ZYDIS_MNEMONIC_PUSHF:
	case ZYDIS_MNEMONIC_PUSHFD:
	case ZYDIS_MNEMONIC_PUSHFQ:
		return exec_pushf(cpu, in);
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		return exec_popf(cpu, in);
	default:
		return soft_raise(cpu, SOFT_EXC_UD);
	}
}
