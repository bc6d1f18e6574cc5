/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: stack and jumps.
 */
#include "engine/soft/xlate_int.h"

/* --- stack ------------------------------------------------------------- */

static unsigned
xl_word(const struct xl *x)
{
	return x->is64 ? 8 : 4;
}

/* Stack operations of the natural size on a stack of the natural width. */
static bool
xl_stack_ok(const struct xl *x)
{
	return x->in->opsize == xl_word(x) &&
	    (x->is64 || (x->key & SOFT_KEY_B) != 0);
}

void
xl_push_check(struct xl *x)
{
	xl_stack_check(x, 4, -(int)xl_word(x), xl_word(x), true);
	xl_written(x, 1u << 4); /* uses S2 */
}

/* What is pushed is in host register `host`, not S0 or S1. */
void
xl_push_reg(struct xl *x, unsigned host)
{
	xl_ref(x, x->is64, 0x89, host);
	emit_lea(x->o, x->is64, EMIT_SP, EMIT_SP, -(int)xl_word(x));
}

/* Host register with the value of guest register r, at worst S2. */
unsigned
xl_value(struct xl *x, unsigned r)
{
	if (r == 4)
		return EMIT_SP;
	if (r < 12)
		return r;
	emit_gs_ld(x->o, EMIT_S2, EMIT_GPR(r));
	return EMIT_S2;
}

static bool
xl_push(struct xl *x)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperand *op = &in->op[0];
	struct code_out *o = x->o;
	int r;

	if (op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		xl_push_check(x);
		emit_imm(o, EMIT_S2, op->imm.is_signed ?
		    (uint64_t)op->imm.value.s : op->imm.value.u);
		xl_push_reg(x, EMIT_S2);
		return true;
	}
	if (op->type == ZYDIS_OPERAND_TYPE_REGISTER) {
		r = soft_gpr_number(op->reg.value);
		if (r < 0)
			return false;
		xl_push_check(x);
		xl_push_reg(x, xl_value(x, (unsigned)r));
		return true;
	}
	if (in->memop < 0 || !xl_ea_ok(x))
		return false;
	xl_mem(x);
	xl_ref(x, x->is64, 0x8b, EMIT_S0);
	emit_gs_st(o, EMIT_S0, EMIT_CPU(scratch));
	xl_push_check(x);
	emit_gs_ld(o, EMIT_S2, EMIT_CPU(scratch));
	xl_push_reg(x, EMIT_S2);
	return true;
}

void
xl_top_check(struct xl *x, int base)
{
	xl_stack_check(x, base, 0, xl_word(x), false);
}

static bool
xl_pop(struct xl *x)
{
	struct code_out *o = x->o;
	int r;

	if (x->in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	r = soft_gpr_number(x->in->op[0].reg.value);
	if (r < 0)
		return false;
	xl_top_check(x, 4);
	xl_written(x, 1u << 4 | 1u << r);
	if (r == 4) {
		xl_ref(x, x->is64, 0x8b, EMIT_SP);
		return true;
	}
	xl_ref(x, x->is64, 0x8b, r < 12 ? (unsigned)r : EMIT_S0);
	if (r >= 12)
		emit_gs_st(o, EMIT_S0, EMIT_GPR((unsigned)r));
	emit_lea(o, x->is64, EMIT_SP, EMIT_SP, (int)xl_word(x));
	return true;
}

bool
xl_stack(struct xl *x)
{
	struct code_out *o = x->o;

	if (!xl_stack_ok(x))
		return false;
	switch (x->in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_PUSH:
		return xl_push(x);
	case ZYDIS_MNEMONIC_POP:
		return xl_pop(x);
	case ZYDIS_MNEMONIC_LEAVE:
		xl_top_check(x, 5);
		xl_written(x, 1u << 4 | 1u << 5);
		xl_ref(x, x->is64, 0x8b, EMIT_S0);
		emit_lea(o, x->is64, EMIT_SP, 5, (int)xl_word(x));
		emit_mov(o, x->is64, 5, EMIT_S0);
		return true;
	case ZYDIS_MNEMONIC_PUSHFQ:
		xl_pushf(x);
		return true;
	case ZYDIS_MNEMONIC_POPFQ:
		return xl_popf(x);
	default:
		return false;
	}
}

/* --- jumps ------------------------------------------------------------- */

/* The indirect jump's target into S0, or false. */
static bool
xl_target_ok(const struct xl *x)
{
	const struct soft_insn *in = x->in;
	int r;

	if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER) {
		r = soft_gpr_number(in->op[0].reg.value);
		return r >= 0 && r != 4;
	}
	return in->memop == 0 && xl_ea_ok(x);
}

static void
xl_target(struct xl *x)
{
	const struct soft_insn *in = x->in;
	unsigned r;

	if (in->memop == 0) {
		xl_mem(x);
		xl_ref(x, x->is64, 0x8b, EMIT_S0);
		return;
	}
	r = (unsigned)soft_gpr_number(in->op[0].reg.value);
	if (r >= 12)
		emit_gs_ld(x->o, EMIT_S0, EMIT_GPR(r));
	else
		emit_mov(x->o, x->is64, EMIT_S0, r);
	if (!x->is64 && r >= 12)
		emit_mov(x->o, false, EMIT_S0, EMIT_S0);
}

static void
xl_indirect(struct xl *x, int32_t sp)
{
	struct code_site s = { .kind = CODE_S_JUMP,
		.off = (uint16_t)x->page_off, .sp = sp };

	xl_save(x);
	xl_lookup(x, x->o, &s);
	x->done = true;
}

bool
xl_branch(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_out *o = x->o;
	bool direct = in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
	int64_t next = x->page_off + in->len, target = 0;
	unsigned pop;

	if (in->opsize != xl_word(x))
		return false;
	if (direct && in->cls != SOFT_C_RET)
		target = next + in->op[0].imm.value.s;
	if (target != (int32_t)target)
		return false;
	switch (in->cls) {
	case SOFT_C_JCC:
		xl_restore(x);
		xl_goto(x, in->zi.opcode & 15, target, false);
		return true;
	case SOFT_C_JMP:
		if (direct) {
			xl_goto(x, 16, target, false);
			x->done = true;
			return true;
		}
		if (!xl_target_ok(x))
			return false;
		xl_target(x);
		xl_indirect(x, 0);
		return true;
	case SOFT_C_CALL:
		if (!xl_stack_ok(x) || (!direct && !xl_target_ok(x)))
			return false;
		if (!direct) {
			xl_target(x);
			emit_gs_st(o, EMIT_S0, EMIT_CPU(scratch));
		}
		if (direct && target >= 0 && target <= x->page_off)
			xl_poll(x); /* before anything has changed */
		xl_push_check(x);
		xl_rip(x, o, EMIT_S2, next);
		xl_push_reg(x, EMIT_S2);
		if (direct) {
			xl_goto(x, 16, target, false);
			x->done = true;
		} else {
			emit_gs_ld(o, EMIT_S0, EMIT_CPU(scratch));
			xl_indirect(x, (int32_t)xl_word(x));
		}
		return true;
	case SOFT_C_RET:
		if (!xl_stack_ok(x))
			return false;
		pop = direct ? (unsigned)in->op[0].imm.value.u & 0xffff : 0;
		xl_top_check(x, 4);
		xl_ref(x, x->is64, 0x8b, EMIT_S0);
		xl_save(x);
		pop += xl_word(x);
		emit_lea(o, x->is64, EMIT_SP, EMIT_SP, (int32_t)pop);
		xl_indirect(x, -(int32_t)pop);
		return true;
	default:
		return false;
	}
}
