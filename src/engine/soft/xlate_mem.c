/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: where flags are, cold code, addresses of memory operands.
 */
#include "engine/soft/xlate_int.h"

/* --- flags ------------------------------------------------------------- */

void
xl_emit_save(struct code_out *o)
{
	emit_mov(o, true, EMIT_S2, 0);
	emit_n(o, "\x9f\x0f\x90\xc0\x65\x66\x89\x04\x25", 9);
	emit_4(o, (uint32_t)EMIT_CPU(lahf_image));
	emit_mov(o, true, 0, EMIT_S2);
}

/*
 * Recipes.  Flags that a comparison or an addition has set can be had again
 * from its operands while these are unchanged, so they need not be saved: the
 * cold code does it, if it is ever run, or the next that wants them.
 */
bool
xl_has_recipe(const struct soft_insn *in)
{
	if (in->cls != SOFT_C_NATIVE || in->memop >= 0 || in->fl_cond_write ||
	    in->opsize < 4 || __builtin_popcount((in->gpr_read |
	    in->gpr_write) & 0xf000) > 1 ||
	    (in->fl_write & SOFT_FL_ARITH) != SOFT_FL_ARITH)
		return false;
	if (in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST:
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
		return true;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		/* Undone and done again: the other operand must be there. */
		return in->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE ||
		    (in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    in->op[1].reg.value != in->op[0].reg.value);
	default:
		return false;
	}
}

unsigned
xl_host(unsigned r)
{
	return r == 4 ? EMIT_SP : r;
}

/*
 * Shifts, multiplications and negations destroy their operand.  Where flags of
 * such a one would have to be saved before anything replaces them, the operand
 * is kept instead.
 */
bool
xl_keep_operand(const struct xl *x)
{
	const struct soft_insn *in = x->in, *end = x->ins + x->ndec;

	if (in->cls != SOFT_C_NATIVE || in->memop >= 0 || in->fl_cond_write ||
	    in->opsize < 4 || ((in->gpr_read | in->gpr_write) & 0xf000) != 0 ||
	    (in->fl_write & SOFT_FL_ARITH) != SOFT_FL_ARITH ||
	    in->fl_read != 0 || in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    in->zi.operand_count_visible < 1 || in->gpr_fixed != 0)
		return false;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR:
	case ZYDIS_MNEMONIC_SAR:
	case ZYDIS_MNEMONIC_NEG:
		break;
	case ZYDIS_MNEMONIC_IMUL:
		if (in->zi.operand_count_visible < 2)
			return false;
		break;
	default:
		return false;
	}
	for (in++; in < end; in++) {
		if (xl_kills_flags(in))
			return false;
		if (in->cls != SOFT_C_NATIVE)
			return in->cls == SOFT_C_STACK ||
			    in->cls == SOFT_C_CALL || in->cls == SOFT_C_RET;
		if (in->memop >= 0 && in->mem_access != 0)
			return true;
		if (in->fl_read != 0 || in->fl_write != 0 ||
		    in->fl_undef != 0 || in->fl_cond_write)
			return false;
	}
	return false;
}

/* Makes the flags again. Uses S2. */
void
xl_recipe(struct code_out *o, const struct soft_insn *in, bool val)
{
	struct soft_recode rc = { .mem_base = -1, .mem_index = -1,
		.mem_scale = 1 };
	unsigned r = (unsigned)soft_gpr_number(in->op[0].reg.value), r2;
	unsigned high = (in->gpr_read | in->gpr_write) & 0xf000u;
	bool w = in->opsize == 8;
	uint8_t code[16];
	int len;

	for (unsigned i = 0; i < 16; i++)
		rc.map[i] = (uint8_t)i;
	rc.map[4] = EMIT_SP;
	if (val) {
		emit_gs_ld(o, EMIT_S2, EMIT_CPU(recipe_val));
		rc.map[r] = EMIT_S2;
		goto out;
	}
	if (high != 0) {
		high = (unsigned)__builtin_ctz(high);
		emit_gs_ld(o, EMIT_S2, EMIT_GPR(high));
		rc.map[high] = EMIT_S2;
	}
	r = rc.map[r];
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_AND:
	case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR:
		emit_rr(o, w, 0x85, r, r);
		return;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (in->op[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
			emit_1(o, (w ? 0x48 : 0x40) | (r >= 8 ? 1 : 0));
			emit_1(o, 0x81);
			emit_1(o, (in->zi.mnemonic == ZYDIS_MNEMONIC_ADD ?
			    0xe8 : 0xc0) | (r & 7));
			emit_4(o, (uint32_t)in->op[1].imm.value.u);
		} else {
			r2 = (unsigned)soft_gpr_number(in->op[1].reg.value);
			emit_rr(o, w, in->zi.mnemonic == ZYDIS_MNEMONIC_ADD ?
			    0x29 : 0x01, rc.map[r2], r);
		}
		break;
	default:
		break;
	}
out:
	len = soft_recode(in, &rc, code);
	KASSERT(len > 0, "recipe");
	emit_n(o, code, (unsigned)len);
}

/* Before flags are used. Uses S2. */
void
xl_restore(struct xl *x)
{
	struct code_out *o = x->o;

	if (x->live)
		return;
	x->live = true;
	if (x->recipe != NULL) {
		xl_recipe(o, x->recipe, x->recipe_val);
		return;
	}
	emit_mov(o, true, EMIT_S2, 0);
	emit_n(o, "\x65\x0f\xb7\x04\x25", 5);
	emit_4(o, (uint32_t)EMIT_CPU(lahf_image));
	emit_n(o, "\x04\x7f\x9e", 3);
	emit_mov(o, true, 0, EMIT_S2);
}

/* Flags must be in the image. Uses S2. */
void
xl_save(struct xl *x)
{
	if (x->saved)
		return;
	xl_restore(x);
	xl_emit_save(x->o);
	x->saved = true;
}

/* Before flags are clobbered: they are saved, or there is a recipe. */
void
xl_clobber(struct xl *x)
{
	if (x->recipe == NULL)
		xl_save(x);
	x->live = false;
}

/* Flags are live or saved: a recipe alone will not do. */
void
xl_settle(struct xl *x)
{
	if (!x->saved)
		xl_restore(x);
}

/* Do the instructions to come replace all flags before anything can look? */
static bool
xl_flags_dead(const struct xl *x)
{
	const struct soft_insn *end = x->ins + x->ndec;

	/* At this instruction's own faults that are still to come they count. */
	if (x->in->cls == SOFT_C_NATIVE ? xl_may_fault(x->in) :
	    x->in->zi.mnemonic != ZYDIS_MNEMONIC_PUSH &&
	    x->in->zi.mnemonic != ZYDIS_MNEMONIC_POP)
		return false;
	for (const struct soft_insn *in = x->in + 1; in < end; in++) {
		if (xl_kills_flags(in))
			return true;
		if (in->cls != SOFT_C_NATIVE || (in->memop >= 0 &&
		    in->mem_access != 0) || in->fl_read != 0 ||
		    in->fl_cond_write || xl_may_fault(in))
			return false;
	}
	return false;
}

/* Before guest registers change in a way that leaves flags alone. */
void
xl_written(struct xl *x, unsigned regs)
{
	if (x->recipe != NULL && x->recipe_val)
		regs &= ~(1u << soft_gpr_number(x->recipe->op[0].reg.value));
	if (x->recipe == NULL ||
	    ((x->recipe->gpr_read | x->recipe->gpr_write) & regs) == 0)
		return;
	if (xl_flags_dead(x))
		x->saved = true;
	xl_settle(x);
	x->recipe = NULL;
}

/* --- cold code --------------------------------------------------------- */

struct xl_cold *
xl_cold(struct xl *x, enum xl_cold_kind what, enum code_site_kind kind)
{
	struct xl_cold *c = &x->cold[x->ncold++];

	KASSERT(x->ncold <= XL_COLD, "cold code of a block");
	memset(c, 0, sizeof(*c));
	c->what = (uint8_t)what;
	c->site.kind = (uint8_t)kind;
	c->site.off = (uint16_t)x->page_off;
	if (!x->live && !x->saved)
		c->recipe = x->recipe;
	c->recipe_val = x->recipe_val;
	return c;
}

void
xl_fill(struct code_out *o, uint32_t from, uint32_t to)
{
	uint32_t rel = to - (from + 4);

	memcpy(o->rw + from, &rel, 4);
}

void
xl_site(struct code_out *o, const struct code_site *s)
{
	emit_n(o, "\x65\xff\x14\x25", 4);
	emit_4(o, (uint32_t)EMIT_CPU(slow_fn));
	emit_n(o, s, sizeof(*s));
}

/* A place where the host may fault, here. */
void
xl_fault(struct xl *x, bool poll)
{
	struct code_out *o = x->o;
	struct code_fault *f = &o->fault[o->nfault++];

	KASSERT(o->nfault <= BASE_ARRAY_LEN(o->fault), "faults of a block");
	f->pos = o->pos;
	f->off = (uint16_t)x->page_off;
	f->live = !x->saved;
	f->poll = poll;
	f->cold = 0;
	if (!x->live && !x->saved)
		xl_cold(x, XL_C_SITE, CODE_S_EXEC)->fault = f;
}

/* --- memory ------------------------------------------------------------ */

bool
xl_ea_ok(const struct xl *x)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperandMem *m = &in->op[in->memop].mem;
	bool rip = m->base == ZYDIS_REGISTER_RIP;
	int64_t d = m->disp.value;

	if (in->addrsize < 4 || m->base == ZYDIS_REGISTER_EIP ||
	    m->type == ZYDIS_MEMOP_TYPE_VSIB)
		return false;
	if (rip)
		d += x->page_off + in->len;
	if ((rip || m->base != ZYDIS_REGISTER_NONE ||
	    m->index != ZYDIS_REGISTER_NONE) && d != (int32_t)d)
		return false;
	if (x->is64 || in->mem_access == 0)
		return true;
	/* A code segment is not written to. */
	return in->mem_seg < VMM_SEG_FS && !(in->mem_seg == VMM_SEG_CS &&
	    (in->mem_access & VMM_PROT_WRITE) != 0);
}

/* The effective address into reg; uses S0, S1; flags stay. */
void
xl_ea(struct xl *x, unsigned reg)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperandMem *m = &in->op[in->memop].mem;
	struct code_out *o = x->o;
	bool w = in->addrsize == 8;
	int64_t d = m->disp.value;
	int b = soft_gpr_number(m->base), i = soft_gpr_number(m->index);

	if (m->base == ZYDIS_REGISTER_RIP) {
		xl_rip(x, o, reg, d + x->page_off + in->len);
		return;
	}
	if (b < 0 && i < 0) {
		emit_imm(o, reg, w ? (uint64_t)d : (uint32_t)d);
		return;
	}
	if (b >= 12) {
		emit_gs_ld(o, EMIT_S0, EMIT_GPR((unsigned)b));
		b = EMIT_S0;
	} else if (b == 4) {
		b = EMIT_SP;
	}
	if (i >= 12) {
		emit_gs_ld(o, EMIT_S1, EMIT_GPR((unsigned)i));
		i = EMIT_S1;
	}
	if (i < 0)
		emit_lea(o, w, reg, b, (int32_t)d);
	else
		emit_rm(o, w, 0x8d, reg, b, i, m->scale, (int32_t)d);
}
