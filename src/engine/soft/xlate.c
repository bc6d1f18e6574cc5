/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: one block of guest code to host code.
 *
 * A block starts at any instruction and runs on past conditional jumps until
 * a jump, an instruction for the executor, the end of the page or a limit.
 * Guest flags are where `live` and `saved` say: in EFLAGS, in the image
 * cpu->lahf_image, or both.  Whatever clobbers EFLAGS (the TLB check) saves
 * them first, so they are exact wherever C may look.
 *
 * Cold code (misses, exits) is gathered and put behind the hot code: it calls
 * cpu->slow_fn with a struct code_site after the call.
 *
 * Both entries of a block begin with a five-byte no-operation in one aligned
 * eight bytes: a dead block's entries are overwritten by a jump to its cold
 * stubs, in one store, whoever may be executing it (cache.c).
 */
#include <errno.h>

#include "engine/soft/xlate_int.h"

/* --- native instructions ----------------------------------------------- */

static bool
xl_vec_ok(const struct xl *x)
{
	const struct soft_insn *in = x->in;

	if ((in->fpu || in->sse || in->avx) && (x->key & SOFT_KEY_NM) != 0)
		return false;
	if (in->sse && (x->key & SOFT_KEY_NOSSE) != 0)
		return false;
	return !in->avx || (x->key & (SOFT_KEY_NOAVX | SOFT_KEY_NOSSE)) == 0;
}

void
xl_need_fpu(struct xl *x)
{
	struct code_out *o = x->o;
	struct xl_cold *c;

	if (x->fpu)
		return;
	x->fpu = true;
	x->s1_group = -1;
	xl_clobber(x);
	emit_n(o, "\x65\x83\x3c\x25", 4); /* cmp dword gs:fpu_live, 0 */
	emit_4(o, (uint32_t)EMIT_CPU(fpu_live));
	emit_1(o, 0);
	c = xl_cold(x, XL_C_SITE, CODE_S_FPU);
	emit_n(o, "\x0f\x84", 2);
	c->from = o->pos;
	emit_4(o, 0);
	c->site.rel = o->pos;
}

static bool
xl_lea(struct xl *x)
{
	struct code_out *o = x->o;
	int r = soft_gpr_number(x->in->op[0].reg.value);
	unsigned to;

	if (x->in->opsize < 4 || r < 0 || !xl_ea_ok(x))
		return false;
	x->s1_group = -1;
	xl_written(x, 1u << r);
	to = r >= 12 ? EMIT_S0 : r == 4 ? EMIT_SP : (unsigned)r;
	if (x->in->opsize == x->in->addrsize) {
		xl_ea(x, to);
	} else {
		xl_ea(x, EMIT_S0);
		if (to != EMIT_S0 || x->in->opsize == 4)
			emit_mov(o, x->in->opsize == 8, to, EMIT_S0);
	}
	if (r >= 12)
		emit_gs_st(o, to, EMIT_GPR((unsigned)r));
	return true;
}

/*
 * May the host raise a signal at it, the operand's address being good?  A list
 * of those that surely do not: an instruction that the decoder takes and this
 * host does not (a hint with a register operand, say) must not end the process.
 */
bool
xl_may_fault(const struct soft_insn *in)
{
	if (in->fpu || in->sse || in->avx || in->lock)
		return true;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV: case ZYDIS_MNEMONIC_MOVZX: case ZYDIS_MNEMONIC_MOVSX:
	case ZYDIS_MNEMONIC_MOVSXD: case ZYDIS_MNEMONIC_ADD: case ZYDIS_MNEMONIC_ADC:
	case ZYDIS_MNEMONIC_SUB: case ZYDIS_MNEMONIC_SBB: case ZYDIS_MNEMONIC_CMP:
	case ZYDIS_MNEMONIC_TEST: case ZYDIS_MNEMONIC_AND: case ZYDIS_MNEMONIC_OR:
	case ZYDIS_MNEMONIC_XOR: case ZYDIS_MNEMONIC_NOT: case ZYDIS_MNEMONIC_NEG:
	case ZYDIS_MNEMONIC_INC: case ZYDIS_MNEMONIC_DEC: case ZYDIS_MNEMONIC_SHL:
	case ZYDIS_MNEMONIC_SHR: case ZYDIS_MNEMONIC_SAR: case ZYDIS_MNEMONIC_ROL:
	case ZYDIS_MNEMONIC_ROR: case ZYDIS_MNEMONIC_RCL: case ZYDIS_MNEMONIC_RCR:
	case ZYDIS_MNEMONIC_SHLD: case ZYDIS_MNEMONIC_SHRD: case ZYDIS_MNEMONIC_IMUL:
	case ZYDIS_MNEMONIC_MUL: case ZYDIS_MNEMONIC_BT: case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR: case ZYDIS_MNEMONIC_BTC: case ZYDIS_MNEMONIC_BSF:
	case ZYDIS_MNEMONIC_BSR: case ZYDIS_MNEMONIC_BSWAP: case ZYDIS_MNEMONIC_XCHG:
	case ZYDIS_MNEMONIC_XADD: case ZYDIS_MNEMONIC_CMPXCHG: case ZYDIS_MNEMONIC_CBW:
	case ZYDIS_MNEMONIC_CWDE: case ZYDIS_MNEMONIC_CDQE: case ZYDIS_MNEMONIC_CWD:
	case ZYDIS_MNEMONIC_CDQ: case ZYDIS_MNEMONIC_CQO: case ZYDIS_MNEMONIC_CLC:
	case ZYDIS_MNEMONIC_STC: case ZYDIS_MNEMONIC_CMC: case ZYDIS_MNEMONIC_LAHF:
	case ZYDIS_MNEMONIC_SAHF: case ZYDIS_MNEMONIC_CMOVO: case ZYDIS_MNEMONIC_SETO:
	case ZYDIS_MNEMONIC_CMOVNO: case ZYDIS_MNEMONIC_SETNO: case ZYDIS_MNEMONIC_CMOVB:
	case ZYDIS_MNEMONIC_SETB: case ZYDIS_MNEMONIC_CMOVNB: case ZYDIS_MNEMONIC_SETNB:
	case ZYDIS_MNEMONIC_CMOVZ: case ZYDIS_MNEMONIC_SETZ: case ZYDIS_MNEMONIC_CMOVNZ:
	case ZYDIS_MNEMONIC_SETNZ: case ZYDIS_MNEMONIC_CMOVBE: case ZYDIS_MNEMONIC_SETBE:
	case ZYDIS_MNEMONIC_CMOVNBE: case ZYDIS_MNEMONIC_SETNBE: case ZYDIS_MNEMONIC_CMOVS:
	case ZYDIS_MNEMONIC_SETS: case ZYDIS_MNEMONIC_CMOVNS: case ZYDIS_MNEMONIC_SETNS:
	case ZYDIS_MNEMONIC_CMOVP: case ZYDIS_MNEMONIC_SETP: case ZYDIS_MNEMONIC_CMOVNP:
	case ZYDIS_MNEMONIC_LEA: case ZYDIS_MNEMONIC_SETNP: case ZYDIS_MNEMONIC_CMOVL: case ZYDIS_MNEMONIC_SETL:
	case ZYDIS_MNEMONIC_CMOVNL: case ZYDIS_MNEMONIC_SETNL: case ZYDIS_MNEMONIC_CMOVLE:
	case ZYDIS_MNEMONIC_SETLE: case ZYDIS_MNEMONIC_CMOVNLE: case ZYDIS_MNEMONIC_SETNLE:
		return false;
	default:
		return true;
	}
}

/* Opcode of the ALU instruction "op r, r/m", or 0. */
static unsigned
xl_alu_op(ZydisMnemonic m)
{
	switch (m) {
	case ZYDIS_MNEMONIC_ADD: return 0x03;
	case ZYDIS_MNEMONIC_OR: return 0x0b;
	case ZYDIS_MNEMONIC_AND: return 0x23;
	case ZYDIS_MNEMONIC_SUB: return 0x2b;
	case ZYDIS_MNEMONIC_XOR: return 0x33;
	case ZYDIS_MNEMONIC_CMP: return 0x3b;
	case ZYDIS_MNEMONIC_MOV: return 0x8b;
	default: return 0;
	}
}

/*
 * A general register that lives in memory is operated on there, where one
 * instruction can.  => false: not that kind
 */
static bool
xl_high(struct xl *x)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperand *a = &in->op[0], *b = &in->op[1];
	unsigned op = xl_alu_op(in->zi.mnemonic);
	bool mov = op == 0x8b, cmp = op == 0x3b, w = in->opsize == 8;
	int r, s = -1;

	if (op == 0 || in->opsize < 4 || in->memop >= 0 || in->lock ||
	    in->zi.encoding != ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
	    a->type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    a->size != in->opsize * 8u)
		return false;
	r = soft_gpr_number(a->reg.value);
	if (b->type == ZYDIS_OPERAND_TYPE_REGISTER && b->size == a->size)
		s = soft_gpr_number(b->reg.value);
	else if (b->type != ZYDIS_OPERAND_TYPE_IMMEDIATE || mov)
		return false;
	if (r < 0 || (s < 0 && b->type == ZYDIS_OPERAND_TYPE_REGISTER) ||
	    (r >= 12) == (s >= 12))
		return false;
	/* The upper half would have to be cleared. */
	if (r >= 12 && !w && !cmp)
		return false;
	if (mov)
		xl_written(x, in->gpr_write);
	if (r >= 12 && s < 0) {
		emit_gs(x->o, w, 0x81, (op >> 3) & 7, EMIT_GPR((unsigned)r));
		emit_4(x->o, (uint32_t)b->imm.value.u);
	} else if (r >= 12) {
		emit_gs(x->o, w, op & ~2u, xl_host((unsigned)s),
		    EMIT_GPR((unsigned)r));
	} else {
		emit_gs(x->o, w, op, xl_host((unsigned)r),
		    EMIT_GPR((unsigned)s));
	}
	if (!mov) {
		x->live = true;
		x->saved = false;
		x->recipe = xl_has_recipe(in) ? x->in : NULL;
		x->recipe_val = false;
	}
	return true;
}

/* May the operand that was just checked be split between two pages? */
static void
xl_split(struct xl *x, const uint8_t *code, unsigned len, unsigned high)
{
	const struct soft_insn *in = x->in;
	struct xl_cold *c = x->checked;

	if (c == NULL || c->group || c->addr.n < 2 || c->addr.n > 64 ||
	    in->lock)
		return;
	if (in->mem_access == VMM_PROT_READ) {
		c->split = true;
		return;
	}
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
	case ZYDIS_MNEMONIC_MOVUPS: case ZYDIS_MNEMONIC_MOVUPD:
	case ZYDIS_MNEMONIC_MOVDQU: case ZYDIS_MNEMONIC_VMOVUPS:
	case ZYDIS_MNEMONIC_VMOVUPD: case ZYDIS_MNEMONIC_VMOVDQU:
		break;
	default:
		return;
	}
	if (in->mem_access != VMM_PROT_WRITE || high != 0)
		return;
	c->split = true;
	c->nstore = (uint8_t)len;
	c->after = x->o->pos;
	memcpy(c->store, code, len);
}

static bool
xl_native(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_out *o = x->o;
	struct soft_recode rc = { .mem_base = -1, .mem_index = -1,
		.mem_scale = 1 };
	static const uint8_t scratch[] = { EMIT_S2, EMIT_S0, EMIT_S1 };
	struct xl_addr addr;
	unsigned regs, avail, n = 0, high;
	bool mem = in->memop >= 0 && in->mem_access != 0;
	bool writes, fault = false, keep;
	uint8_t code[16];
	int len;

	if (in->zi.mnemonic == ZYDIS_MNEMONIC_LEA)
		return xl_lea(x);
	if (in->memop >= 0 && in->mem_access == 0)
		return true; /* NOP, prefetch */
	if (xl_high(x))
		return true;
	if (in->zi.mnemonic == ZYDIS_MNEMONIC_PAUSE && x->o->smp)
		return xl_pause(x);
	if (in->zi.mnemonic == ZYDIS_MNEMONIC_XCHG && mem && x->o->no_lock &&
	    xl_xchg(x))
		return true;
	if (!xl_vec_ok(x) || (mem && (!xl_ea_ok(x) || in->mem_bytes == 0 ||
	    in->mem_bytes > 64)))
		return false;
	/* Those of the memory operand's address are used before. */
	regs = in->gpr_write;
	for (unsigned i = 0; i < in->zi.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER) {
			int r = soft_gpr_number(in->op[i].reg.value);

			if (r >= 0)
				regs |= 1u << r;
		}
	for (unsigned i = 0; i < 16; i++)
		rc.map[i] = (uint8_t)i;
	rc.map[4] = EMIT_SP;
	high = regs & 0xf000;
	avail = 3;
	if (mem) {
		(void)xl_addr(x, &addr);
		avail = addr.form == XL_A_HOST ? 2 : 1;
	}
	for (unsigned h = high; h != 0; h &= h - 1) {
		if (n == avail)
			return false;
		rc.map[__builtin_ctz(h)] = scratch[n++];
	}
	if (mem)
		rc.mem_base = EMIT_S1;
	len = soft_recode(in, &rc, code);
	if (len < 0)
		return false;
	if (in->fpu || in->sse || in->avx)
		xl_need_fpu(x);
	x->checked = NULL;
	if (mem) {
		xl_access(x, &addr);
		rc.mem_base = (int8_t)x->ref_base;
		rc.mem_index = (int8_t)x->ref_index;
		rc.mem_disp = x->disp;
		len = soft_recode(in, &rc, code);
		KASSERT(len > 0, "the same at another address");
	} else if (n == 3) {
		x->s1_group = -1;
	}
	writes = in->fl_write != 0 || in->fl_undef != 0 || in->fl_cond_write;
	if (in->fl_read != 0 || in->fl_cond_write ||
	    (writes && (in->fl_write & SOFT_FL_ARITH) != SOFT_FL_ARITH))
		xl_restore(x);
	if (!writes)
		xl_written(x, in->gpr_write);
	fault = xl_may_fault(in);
	for (unsigned h = high & in->gpr_read; h != 0; h &= h - 1) {
		unsigned r = (unsigned)__builtin_ctz(h);

		emit_gs_ld(o, rc.map[r], EMIT_GPR(r));
	}
	keep = xl_keep_operand(x);
	if (keep)
		emit_gs_st(o, rc.map[soft_gpr_number(in->op[0].reg.value)],
		    EMIT_CPU(recipe_val));
	if (fault)
		xl_fault(x, false);
	emit_n(o, code, (unsigned)len);
	xl_split(x, code, (unsigned)len, high);
	for (unsigned h = high & in->gpr_write; h != 0; h &= h - 1) {
		unsigned r = (unsigned)__builtin_ctz(h);

		emit_gs_st(o, rc.map[r], EMIT_GPR(r));
	}
	if (writes) {
		x->live = true;
		x->saved = false;
		x->recipe = keep || xl_has_recipe(in) ? x->in : NULL;
		x->recipe_val = keep;
	}
	return true;
}

/* --- blocks ------------------------------------------------------------ */

/* The first instruction replaces all flags before anything can look. */
bool
xl_kills_flags(const struct soft_insn *in)
{
	return in->cls == SOFT_C_NATIVE && in->memop < 0 &&
	    (in->fl_write & SOFT_FL_ARITH) == SOFT_FL_ARITH &&
	    in->fl_read == 0 && !in->fl_cond_write && !in->fpu && !in->sse &&
	    !in->avx && in->zi.mnemonic != ZYDIS_MNEMONIC_DIV &&
	    in->zi.mnemonic != ZYDIS_MNEMONIC_IDIV;
}

static void
xl_align8(struct code_out *o)
{
	while ((o->pos & 7) != 0)
		emit_nop(o, 8 - (o->pos & 7));
}

static void
xl_entries(struct xl *x, bool kills)
{
	struct soft_block *b = x->b;
	struct code_out *o = x->o;

	xl_align8(o);
	if (kills) {
		b->entry_s = o->pos;
		emit_nop(o, 5);
		emit_nop(o, 3);
		b->entry_e = o->pos;
		emit_nop(o, 5);
		x->live = x->saved = true; /* dead: either will do */
	} else {
		b->entry_e = o->pos;
		xl_emit_save(o);
		xl_align8(o);
		b->entry_s = o->pos;
		emit_nop(o, 5);
		x->live = false;
		x->saved = true;
	}
}

static void
xl_finish(struct xl *x)
{
	struct code_out *o = x->o;
	struct soft_block *b = x->b;
	struct code_site s = { .kind = CODE_S_LINK,
		.n = x->plain ? CODE_LINK_PLAIN : 0,
		.off = (uint16_t)(b->gpa & VMM_PAGE_MASK) };

	for (unsigned i = 0; i < x->ncold; i++) {
		struct xl_cold *c = &x->cold[i];

		if (c->from != 0)
			xl_fill(o, c->from, o->pos);
		if (c->fault != NULL)
			c->fault->cold = o->pos;
		switch (c->what) {
		case XL_C_SAVE_SITE:
			xl_emit_save(o);
			xl_site(o, &c->site);
			break;
		case XL_C_SITE:
			if (c->recipe != NULL &&
			    c->site.kind != CODE_S_FPU) {
				xl_recipe(o, c->recipe, c->recipe_val);
				xl_emit_save(o);
			}
			xl_site(o, &c->site);
			break;
		case XL_C_SLOT:
			xl_slot_cold(x, c);
			break;
		case XL_C_LOOKUP:
			x->key = c->key;
			xl_lookup(x, o, &c->site, -1);
			break;
		default:
			if (!c->saved)
				xl_emit_save(o);
			x->key = c->key;
			xl_far(x, c);
			break;
		}
	}
	b->stub_s = o->pos;
	s.rel = b->entry_s + 1;
	xl_site(o, &s);
	b->stub_e = b->stub_s;
	if (b->entry_e > b->entry_s) {
		b->stub_e = o->pos;
		s.rel = b->entry_e + 1;
		s.n |= CODE_LINK_LIVE;
		xl_emit_save(o);
		xl_site(o, &s);
	}
}

bool
xl_insn(struct xl *x)
{
	if (x->in->cls == SOFT_C_NATIVE)
		return xl_native(x);
	x->s1_group = -1;
	switch (x->in->cls) {
	case SOFT_C_STACK:
		return xl_stack(x);
	case SOFT_C_JMP:
	case SOFT_C_JCC:
	case SOFT_C_CALL:
	case SOFT_C_RET:
		return xl_branch(x);
	case SOFT_C_SYS:
		return xl_sys(x);
	case SOFT_C_STRING:
		return xl_string(x);
	case SOFT_C_FPUMEM:
		return xl_xsave(x);
	case SOFT_C_GATHER:
		return xl_bit(x);
	default:
		return false;
	}
}

/* Decodes to the first sure end of the block. => why it went no further */
static int
xl_decode(struct xl *x, const uint8_t *host, unsigned avail, unsigned limit)
{
	unsigned at = 0;
	int error;

	for (x->ndec = 0; x->ndec < limit && at < avail;) {
		struct soft_insn *in = &x->ins[x->ndec];

		error = soft_decode(host + at, avail - at, x->key, in);
		if (error != 0 || in->len == 0)
			return error;
		if (x->o->no_lock && in->lock)
			xl_unlock(in);
		x->ndec++;
		at += in->len;
		if (in->cls == SOFT_C_JMP || in->cls == SOFT_C_CALL ||
		    in->cls == SOFT_C_RET || in->cls == SOFT_C_UD)
			break;
	}
	return 0;
}

void
xlate_block(struct code_out *o, struct soft_block *b, const uint8_t *host,
    unsigned avail, unsigned limit)
{
	static __thread struct xl xl;
	struct xl *x = &xl;
	unsigned at = 0, n;
	bool ok;
	int error;

	x->o = o;
	x->b = b;
	x->key = b->key & ~CODE_KEY_PLAIN;
	x->plain = (b->key & CODE_KEY_PLAIN) != 0;
	x->is64 = (b->key & SOFT_KEY_L) != 0;
	x->page_off = b->gpa & VMM_PAGE_MASK;
	x->fpu = x->done = false;
	x->ncold = 0;
	x->recipe = NULL;
	o->nfault = 0;
	b->start = o->pos;
	x->ngroup = 0;
	x->s1_group = -1;
	memset(x->delta, 0, sizeof(x->delta));
	for (n = 0; n < XL_GROUPS; n++)
		x->group[n].base = -1;
	limit = base_min(limit, XL_INSNS);
	error = xl_decode(x, host, avail, limit);
	xl_loop_find(x);
	for (n = 0; !x->done; n++) {
		uint32_t pos;
		unsigned ncold;

		x->in = &x->ins[base_min(n, XL_INSNS - 1)];
		ok = n < x->ndec;
		if (n == 0) {
			if (!ok)
				x->in->cls = SOFT_C_UD;
			xl_entries(x, ok && xl_kills_flags(x->in));
		}
		pos = o->pos;
		if (at >= avail || n == limit || pos - b->start > XL_BYTES ||
		    (n > 0 && !ok && error == -EFAULT)) {
			/* Straight on, elsewhere: by way of the jump cache if
			 * the next instruction crosses into another page. */
			xl_goto(x, 16, x->page_off, !ok && error == -EFAULT);
			break;
		}
		ncold = x->ncold;
		x->last = n + 1 == limit;
		if (!ok || !xl_insn(x)) {
			KASSERT(o->pos == pos && x->ncold == ncold,
			    "instruction given up halfway");
			if (n == 0 && b->entry_e > b->entry_s) {
				o->pos = b->start;
				xl_entries(x, false);
			}
			xl_exec(x);
			at += ok ? x->in->len : avail - at;
			break;
		}
		xl_group_end(x);
		at += x->in->len;
		x->page_off += x->in->len;
	}
	if (x->loop_from != 0)
		xl_loop_body(x);
	b->bytes = (uint16_t)at;
	xl_finish(x);
	b->end = o->pos;
}
