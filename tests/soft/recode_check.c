/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What soft_recode() made of an instruction, decoded again as 64-bit code and
 * compared operand by operand; for recode_test.c and the fuzzer.
 */
#include <errno.h>
#include <string.h>

#include "recode_check.h"

static bool
check_high(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AH && r <= ZYDIS_REGISTER_BH;
}

static bool
check_byte(ZydisRegister r)
{
	return r >= ZYDIS_REGISTER_AL && r <= ZYDIS_REGISTER_R15B;
}

/* May soft_recode() refuse this? */
static bool
check_refuse(const struct soft_insn *in, const struct soft_recode *rc)
{
	bool high = false, rex;

	for (unsigned i = 0; i < 16; i++)
		if ((in->gpr_fixed & 1u << i) && rc->map[i] != i)
			return true;
	if (in->memop >= 0 && (rc->mem_index == 4 ||
	    in->op[in->memop].mem.type == ZYDIS_MEMOP_TYPE_VSIB ||
	    (in->zi.mnemonic == ZYDIS_MNEMONIC_LEA && in->addrsize == 2)))
		return true;
	rex = in->memop >= 0 && (rc->mem_base >= 8 || rc->mem_index >= 8);
	for (unsigned i = 0; i < in->zi.operand_count_visible; i++) {
		ZydisRegister r = in->op[i].reg.value;
		int n;

		if (in->op[i].type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		n = soft_gpr_number(r);
		if (check_high(r))
			high = true;
		else if (n >= 0 && (rc->map[n] >= 8 ||
		    (check_byte(r) && rc->map[n] >= 4)))
			rex = true;
		else if (n < 0 && ZydisRegisterGetId(r) >= 8)
			rex = true;
	}
	return high && rex;
}

static const char *
check_compare(const struct soft_insn *a, const struct soft_insn *b,
    const struct soft_recode *rc)
{
	if (a->zi.mnemonic != b->zi.mnemonic)
		return "mnemonic";
	if (a->zi.operand_count_visible != b->zi.operand_count_visible)
		return "operand count";
	if (a->lock != b->lock)
		return "lock";
	for (unsigned i = 0; i < a->zi.operand_count_visible; i++) {
		const ZydisDecodedOperand *x = &a->op[i], *y = &b->op[i];
		int n;

		/* 90+r of the accumulator's new register. */
		if (a->zi.mnemonic == ZYDIS_MNEMONIC_XCHG &&
		    b->zi.opcode >= 0x90 && rc->map[0] != 0)
			y = &b->op[1 - i];
		if (x->type != y->type)
			return "operand type";
		if (x->size != y->size && a->zi.mnemonic != ZYDIS_MNEMONIC_NOP &&
		    x->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return "operand size";
		switch (x->type) {
		case ZYDIS_OPERAND_TYPE_REGISTER:
			n = soft_gpr_number(x->reg.value);
			if (n >= 0 && !check_high(x->reg.value)) {
				if (check_high(y->reg.value) ||
				    soft_gpr_number(y->reg.value) !=
				    rc->map[n])
					return "register";
			} else if (x->reg.value != y->reg.value) {
				return "fixed register";
			}
			break;
		case ZYDIS_OPERAND_TYPE_IMMEDIATE:
			if (x->imm.value.u != y->imm.value.u)
				return "immediate";
			break;
		case ZYDIS_OPERAND_TYPE_MEMORY:
			if (rc->mem_base < 0 ?
			    y->mem.base != ZYDIS_REGISTER_NONE :
			    soft_gpr_number(y->mem.base) != rc->mem_base)
				return "base";
			if (rc->mem_index < 0 ?
			    y->mem.index != ZYDIS_REGISTER_NONE :
			    soft_gpr_number(y->mem.index) != rc->mem_index)
				return "index";
			if (rc->mem_index >= 0 && y->mem.scale != rc->mem_scale)
				return "scale";
			if (y->mem.disp.value != rc->mem_disp)
				return "displacement";
			if (y->mem.type != ZYDIS_MEMOP_TYPE_AGEN &&
			    (y->mem.segment == ZYDIS_REGISTER_GS) != rc->mem_gs)
				return "segment";
			if (b->addrsize != 8 &&
			    a->zi.mnemonic != ZYDIS_MNEMONIC_LEA)
				return "address size";
			break;
		default:
			break;
		}
	}
	return NULL;
}

const char *
recode_check(const struct soft_insn *in, const struct soft_recode *rc, int len,
    const uint8_t *out)
{
	struct soft_insn back;

	if (len == -ENOTSUP)
		return check_refuse(in, rc) ? NULL : "refused";
	if (len <= 0 || len > 15)
		return "length";
	memset(&back, 0, sizeof(back));
	if (soft_decode(out, (size_t)len, SOFT_KEY_L, &back) != 0 ||
	    back.len != len)
		return "not one instruction";
	return check_compare(in, &back, rc);
}

const char *
recode_check_insn(const struct soft_insn *in)
{
	unsigned regs = in->gpr_read | in->gpr_write;

	if (in->len > 15 || in->cls > SOFT_C_SYS)
		return "range";
	if (in->cls == SOFT_C_UD)
		return NULL;
	if (in->len == 0 || in->zi.length != in->len)
		return "no length";
	if (in->memop >= in->zi.operand_count ||
	    (in->memop >= 0 && in->op[in->memop].type !=
	    ZYDIS_OPERAND_TYPE_MEMORY))
		return "memop";
	if (in->memop < 0 && (in->mem_access != 0 || in->gpr_addr != 0))
		return "access without operand";
	if (in->mem_seg > VMM_SEG_GS)
		return "segment";
	if ((in->gpr_addr & ~in->gpr_read) != 0 ||
	    (in->gpr_fixed & ~regs) != 0)
		return "register masks";
	if (((in->fl_read | in->fl_write | in->fl_undef) & ~SOFT_FL_ARITH) != 0)
		return "flag masks";
	if (in->fl_cond_write && in->fl_write != 0)
		return "flags certainly and perhaps written";
	if (in->opsize > 64 || (in->addrsize != 2 && in->addrsize != 4 &&
	    in->addrsize != 8))
		return "sizes";
	return NULL;
}
