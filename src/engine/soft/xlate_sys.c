/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: system instructions that are inline, and LOCK.
 */
#include "engine/soft/xlate_int.h"

/* --- LOCK ---------------------------------------------------------------- */

/*
 * With one vCPU nobody else reads, modifies and writes guest memory: a LOCK
 * only costs.  What stays is the form that is used as a barrier, of a value
 * that does not change; see docs/design/soft.md.
 */
void
xl_unlock(struct soft_insn *in)
{
	const ZydisDecodedOperand *op = &in->op[1];

	if ((in->zi.mnemonic == ZYDIS_MNEMONIC_ADD ||
	    in->zi.mnemonic == ZYDIS_MNEMONIC_OR) &&
	    op->type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op->imm.value.u == 0)
		return;
	in->lock = 0;
}

/* XCHG with memory locks without a prefix: as three moves. */
bool
xl_xchg(struct xl *x)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperand *op = &in->op[in->memop == 0 ? 1 : 0];
	struct code_out *o = x->o;
	bool w = in->opsize == 8;
	unsigned reg;
	int r = soft_gpr_number(op->reg.value);

	if (r < 0 || (in->opsize != 8 && in->opsize != 4) || !xl_ea_ok(x) ||
	    op->size != in->opsize * 8u)
		return false;
	if (!xl_mem_group(x))
		xl_mem(x);
	xl_written(x, 1u << r);
	reg = xl_value(x, (unsigned)r);
	emit_rm(o, w, 0x8b, EMIT_S2, EMIT_S0, -1, 1, x->disp);
	emit_rm(o, w, 0x89, reg, EMIT_S0, -1, 1, x->disp);
	if (r >= 12)
		emit_gs_st(o, EMIT_S2, EMIT_GPR((unsigned)r));
	else
		emit_mov(o, w, reg, EMIT_S2);
	return true;
}

/* --- system instructions ------------------------------------------------- */

#define XL_CPL(x) (((x)->key & SOFT_KEY_CPL) >> 3)

/* op dword gs:[off], imm32 (op: the reg field of opcode 81). Clobbers flags. */
static void
xl_gs_imm(struct xl *x, unsigned op, int32_t off, uint32_t imm)
{
	emit_gs(x->o, false, 0x81, op, off);
	emit_4(x->o, imm);
}

/* cmp byte gs:[off], 0, and to the executor if it is not 0 */
static void
xl_exec_unless0(struct xl *x, int32_t off)
{
	struct xl_cold *c;

	emit_gs(x->o, false, 0x80, 7, off);
	emit_1(x->o, 0);
	c = xl_cold(x, XL_C_SITE, CODE_S_EXEC);
	emit_n(x->o, "\x0f\x85", 2);
	c->from = x->o->pos;
	emit_4(x->o, 0);
}

/*
 * STI.  Where something waits, the executor does it, shadow and all.  Where
 * nothing does, there is nothing for the shadow to hold back: a kick that
 * comes later is seen after the next instruction at the soonest, because
 * that one is in this block.
 */
static bool
xl_sti(struct xl *x)
{
	if (x->page_off + 1 > VMM_PAGE_SIZE - 16 || x->last)
		return false;
	xl_clobber(x);
	xl_exec_unless0(x, EMIT_CPU(event_check));
	xl_exec_unless0(x, EMIT_CPU(nmi_check));
	xl_gs_imm(x, 1, EMIT_CPU(rflags_sys), SOFT_FL_IF);
	return true;
}

void
xl_pushf(struct xl *x)
{
	struct code_out *o = x->o;

	xl_restore(x);
	if (x->recipe == NULL)
		xl_save(x);
	emit_n(o, "\x9c\x41\x5e", 3);	   /* pushfq; pop r14 */
	emit_n(o, "\x41\x81\xe6", 3); /* and r14d, imm32 */
	emit_4(o, SOFT_FL_ARITH);
	x->live = false;
	emit_gs(o, false, 0x0b, EMIT_S1, EMIT_CPU(rflags_sys));
	emit_n(o, "\x41\x81\xe6", 3);
	emit_4(o, ~(SOFT_FL_RF | SOFT_FL_VM));
	emit_gs_st(o, EMIT_S1, EMIT_CPU(scratch));
	xl_push_check(x);
	emit_gs_ld(o, EMIT_S1, EMIT_CPU(scratch));
	xl_push_reg(x, EMIT_S1);
}

bool
xl_sys(struct xl *x)
{
	int32_t gs = EMIT_CPU(seg_base) + 8 * VMM_SEG_GS;

	if (!x->is64 || XL_CPL(x) != 0)
		return false;
	switch (x->in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		xl_clobber(x);
		xl_gs_imm(x, 4, EMIT_CPU(rflags_sys), ~SOFT_FL_IF);
		return true;
	case ZYDIS_MNEMONIC_STI:
		return xl_sti(x);
	case ZYDIS_MNEMONIC_SWAPGS:
		emit_gs_ld(x->o, EMIT_S1, gs);
		emit_gs_ld(x->o, EMIT_S2, EMIT_CPU(kernel_gs_base));
		emit_gs_st(x->o, EMIT_S1, EMIT_CPU(kernel_gs_base));
		emit_gs_st(x->o, EMIT_S2, gs);
		emit_gs_st(x->o, EMIT_S2, EMIT_CPU(seg) + (int32_t)
		    (VMM_SEG_GS * sizeof(struct vmm_seg) +
		    offsetof(struct vmm_seg, base)));
		return true;
	default:
		return false;
	}
}
