/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: stack, jumps, calls and ways out of a block.
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

/* --- ways out ---------------------------------------------------------- */

/* jcc (cc < 16), jmp (16) or call (17) to cold code, whose rel32 may be patched later */
static void
xl_jump(struct xl *x, unsigned cc, struct xl_cold *c)
{
	struct code_out *o = x->o;

	emit_within8(o, cc < 16 ? 2 : 1, 4);
	if (cc < 16) {
		emit_1(o, 0x0f);
		emit_1(o, 0x80 | cc);
	} else {
		emit_1(o, cc == 16 ? 0xe9 : 0xe8);
	}
	c->from = o->pos;
	emit_4(o, 0);
}

static unsigned
xl_user(const struct xl *x)
{
	return (x->key & SOFT_KEY_CPL) == SOFT_KEY_CPL;
}

#define XL_LINK(f) (EMIT_CPU(link) + (int32_t)offsetof(struct soft_link, f))

/* To the address in S0, flags saved, which it clobbers; remembers it in the
 * link at this offset, if not -1. */
void
xl_lookup(struct xl *x, struct code_out *o, const struct code_site *s, int32_t link)
{
	uint32_t a, b;

	emit_n(o, "\x4d\x69\xf5", 3); /* imul r14, r13, mul */
	emit_4(o, CODE_JC_MUL);
	emit_n(o, "\x41\xc1\xee", 3); /* shr r14d, */
	emit_1(o, 32 - SOFT_JC_BITS - 4);
	emit_n(o, "\x41\x81\xe6", 3);	  /* and r14d, mask of entries */
	emit_4(o, (SOFT_JC_SIZE - 1) << 4);
	emit_gsb(o, true, 0x3b, EMIT_S0, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, va));
	emit_n(o, "\x0f\x85", 2);
	a = o->pos;
	emit_4(o, 0);
	emit_gs(o, false, 0x8b, EMIT_S2, EMIT_CPU(jc_tag) +
	    4 * (int32_t)xl_user(x));
	emit_n(o, "\x41\x81\xcf", 3); /* or r15d, key */
	emit_4(o, x->key);
	emit_gsb(o, false, 0x3b, EMIT_S2, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, tag));
	emit_n(o, "\x0f\x85", 2);
	b = o->pos;
	emit_4(o, 0);
	if (link >= 0)
		emit_gs(o, false, 0x89, EMIT_S2, XL_LINK(tag) + link);
	emit_gsb(o, false, 0x8b, EMIT_S2, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, off));
	if (link >= 0) {
		emit_gs_ld(o, EMIT_S1, EMIT_CPU(page_va));
		emit_gs_st(o, EMIT_S1, XL_LINK(page) + link);
	}
	emit_n(o, "\x49\x81\xe5\x00\xf0\xff\xff", 7); /* and r13, -4096 */
	emit_gs_st(o, EMIT_S0, EMIT_CPU(page_va));
	emit_gs(o, true, 0x03, EMIT_S2, EMIT_CPU(code_base));
	if (link >= 0)
		emit_gs_st(o, EMIT_S2, XL_LINK(entry) + link);
	emit_n(o, "\x41\xff\xe7", 3); /* jmp r15 */
	xl_fill(o, a, o->pos);
	xl_fill(o, b, o->pos);
	xl_site(o, s);
}

/*
 * The cold code of a direct jump that may leave the page, flags saved.  Each
 * has a link of its own, with the conditions of a jump-cache entry: it is for
 * the page it was made in (the code may be mapped at several) and a
 * generation, and a kick makes it useless.
 */
void
xl_far(struct xl *x, const struct xl_cold *c)
{
	struct code_out *o = x->o;
	int32_t link = -1, page = (int32_t)(c->delta & ~(int64_t)VMM_PAGE_MASK);
	uint32_t a, b;

	if (o->link_next < SOFT_LINKS) {
		link = (int32_t)(o->link_next++ * sizeof(struct soft_link));
		emit_gs_ld(o, EMIT_S0, EMIT_CPU(page_va));
		emit_gs(o, true, 0x3b, EMIT_S0, XL_LINK(page) + link);
		emit_n(o, "\x0f\x85", 2);
		a = o->pos;
		emit_4(o, 0);
		emit_gs(o, false, 0x8b, EMIT_S2, EMIT_CPU(jc_tag) +
		    4 * (int32_t)xl_user(x));
		emit_n(o, "\x41\x81\xcf", 3); /* or r15d, key */
		emit_4(o, x->key);
		emit_gs(o, false, 0x3b, EMIT_S2, XL_LINK(tag) + link);
		emit_n(o, "\x0f\x85", 2);
		b = o->pos;
		emit_4(o, 0);
		if (page != 0) {
			emit_lea(o, x->is64, EMIT_S0, EMIT_S0, page);
			emit_gs_st(o, EMIT_S0, EMIT_CPU(page_va));
		}
		emit_gs(o, false, 0xff, 4, XL_LINK(entry) + link); /* jmp */
		xl_fill(o, a, o->pos);
		xl_fill(o, b, o->pos);
	}
	xl_rip(x, o, EMIT_S0, c->delta);
	xl_lookup(x, o, &c->site, link);
}

void
xl_poll(struct xl *x)
{
	struct code_out *o = x->o;

	xl_settle(x);
	emit_gs_ld(o, EMIT_S1, EMIT_CPU(poll_ptr));
	xl_fault(x, true);
	emit_n(o, "\x4d\x8b\x36", 3); /* mov r14, [r14] */
}

/* S0 = page_va + delta, as an instruction pointer */
void
xl_rip(struct xl *x, struct code_out *o, unsigned reg, int64_t delta)
{
	emit_gs_ld(o, reg, EMIT_CPU(page_va));
	emit_lea(o, x->is64, reg, (int)reg, (int32_t)delta);
}

/* A direct jump to page + target, cc 16: always, 17: a call. */
void
xl_goto(struct xl *x, unsigned cc, int64_t target, bool far)
{
	bool mode = x->key == (x->b->key & ~CODE_KEY_PLAIN);
	struct xl_cold *c;

	if (!far && mode && xl_loop_edge(x, cc, target))
		return;
	xl_settle(x);
	/* Links are between blocks of one mode, and not to an instruction that
	 * may go on in the next page. */
	if (!far && mode && target >= 0 &&
	    target + 15 <= (int64_t)VMM_PAGE_SIZE) {
		if (target <= x->page_off && x->in->cls != SOFT_C_CALL)
			xl_poll(x);
		c = xl_cold(x, x->saved ? XL_C_SITE : XL_C_SAVE_SITE,
		    CODE_S_LINK);
		c->site.off = (uint16_t)target;
		c->site.n = !x->saved;
		xl_jump(x, cc, c);
		c->site.rel = c->from;
		return;
	}
	c = xl_cold(x, XL_C_FAR, CODE_S_JUMP);
	c->delta = target;
	if (x->in->cls == SOFT_C_CALL)
		c->site.sp = (int32_t)xl_word(x);
	c->key = x->key;
	c->saved = x->saved;
	xl_jump(x, cc, c);
}

void
xl_exec(struct xl *x)
{
	struct xl_cold *c;

	xl_settle(x);
	c = xl_cold(x, x->saved ? XL_C_SITE : XL_C_SAVE_SITE, CODE_S_EXEC);
	xl_jump(x, 16, c);
	x->done = true;
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
	xl_lookup(x, x->o, &s, -1);
	x->done = true;
}

/* Calls and returns go by way of the host's: shadow.c. */
static bool
xl_shadow(const struct xl *x)
{
	return x->is64 && (x->key & SOFT_KEY_MMU) >> 5 != 2 &&
	    x->key == (x->b->key & ~CODE_KEY_PLAIN);
}

/* A look into the jump cache in cold code; what refers to it comes next. */
static void
xl_cold_lookup(struct xl *x, int32_t sp)
{
	struct xl_cold *c = xl_cold(x, XL_C_LOOKUP, CODE_S_JUMP);

	c->site.sp = sp;
	c->key = x->key;
	c->from = x->o->pos;
	emit_4(x->o, 0);
}

/* Where a call comes back, at page + next: S0 is where the guest returns to,
 * S2 the code that looks it up, flags are saved. */
static void
xl_landing(struct xl *x, int64_t next)
{
	struct code_out *o = x->o;

	x->done = true;
	if (next >= (int64_t)VMM_PAGE_SIZE) {
		emit_n(o, "\x48\x8d\x64\x24\x08", 5); /* lea rsp, [rsp + 8] */
		emit_n(o, "\x41\xff\xe7", 3);	      /* jmp r15 */
		return;
	}
	emit_n(o, "\x4c\x3b\x2c\x24", 4);	 /* cmp r13, [rsp] */
	emit_n(o, "\x48\x8d\x64\x24\x08", 5); /* lea rsp, [rsp + 8] */
	emit_n(o, "\x0f\x85", 2);		 /* jne */
	xl_fill(o, o->pos, o->ret_miss);
	o->pos += 4;
	emit_lea(o, true, EMIT_S1, EMIT_S0, -(int32_t)next);
	emit_gs_st(o, EMIT_S1, EMIT_CPU(page_va));
	x->saved = true;
	x->live = false;
	x->recipe = NULL;
	xl_goto(x, 16, next, false);
}

/* The target may be anything: the CALL's #GP comes before its push. */
static void
xl_canonical(struct xl *x)
{
	struct code_out *o = x->o;
	struct xl_cold *c;

	xl_clobber(x);
	emit_mov(o, true, EMIT_S2, EMIT_S0);
	emit_n(o, "\x49\xc1\xff\x2f", 4); /* sar r15, 47 */
	emit_n(o, "\x49\xff\xc7", 3);	   /* inc r15 */
	emit_n(o, "\x49\x83\xff\x01", 4); /* cmp r15, 1 */
	c = xl_cold(x, XL_C_SITE, CODE_S_EXEC);
	emit_n(o, "\x0f\x87", 2); /* ja */
	c->from = o->pos;
	emit_4(o, 0);
}

static void
xl_call(struct xl *x, bool direct, int64_t next, int64_t target)
{
	struct code_out *o = x->o;
	bool shadow = xl_shadow(x);

	if (!direct) {
		xl_target(x);
		if (x->is64)
			xl_canonical(x);
		emit_gs_st(o, EMIT_S0, EMIT_CPU(scratch));
	}
	if (!shadow && direct && target >= 0 && target <= x->page_off)
		xl_poll(x); /* before anything has changed */
	xl_push_check(x);
	if (shadow) {
		xl_settle(x);
		emit_gs_ld(o, EMIT_S2, EMIT_CPU(shadow_probe));
		xl_fault(x, true);
		emit_n(o, "\x4e\x8b\x3c\x3c", 4); /* mov r15, [rsp + r15] */
	}
	xl_rip(x, o, EMIT_S2, next);
	xl_push_reg(x, EMIT_S2);
	if (!shadow) {
		if (direct) {
			xl_goto(x, 16, target, false);
			x->done = true;
		} else {
			emit_gs_ld(o, EMIT_S0, EMIT_CPU(scratch));
			xl_indirect(x, (int32_t)xl_word(x));
		}
		return;
	}
	emit_n(o, "\x41\x57", 2); /* push r15 */
	if (direct) {
		xl_goto(x, 17, target, false);
	} else {
		xl_save(x);
		emit_gs_ld(o, EMIT_S0, EMIT_CPU(scratch));
		emit_1(o, 0xe8);
		xl_cold_lookup(x, (int32_t)xl_word(x));
	}
	xl_landing(x, next);
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
		xl_call(x, direct, next, target);
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
		if (xl_shadow(x)) {
			emit_n(o, "\x4c\x8d\x3d", 3); /* lea r15, [rip + ] */
			xl_cold_lookup(x, -(int32_t)pop);
			emit_1(o, 0xc3);
			x->done = true;
		} else {
			xl_indirect(x, -(int32_t)pop);
		}
		return true;
	default:
		return false;
	}
}
