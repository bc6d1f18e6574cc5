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

#include "engine/soft/emit.h"

#define XL_INSNS 64u
#define XL_BYTES 24576u /* of hot code: rel32 and CODE_ROOM are safe */
#define XL_GROUPS 4u
#define XL_SPAN 120
#define XL_COLD 512u

enum xl_cold_kind { XL_C_SITE, XL_C_SAVE_SITE, XL_C_FAR };

struct xl_cold {
	uint32_t from; /* position of the rel32 to be filled, 0: none */
	uint8_t what;  /* enum xl_cold_kind */
	struct code_site site;
	const struct soft_insn *recipe; /* flags come from it, or NULL */
	int64_t delta; /* FAR: target - page */
	bool saved;    /* FAR: flags are saved already */
};

struct xl_group {
	int base; /* guest register, -1: none */
	int64_t lo, hi;
	bool write;
};

struct xl {
	struct code_out *o;
	struct soft_block *b;
	struct soft_insn *in; /* the current one */
	struct soft_insn *recipe; /* its flags, see xl_recipe() */
	uint32_t key;
	unsigned page_off; /* of the current instruction */
	bool is64;
	bool live, saved;  /* where the guest's flags are */
	bool fpu;	   /* vector state is known to be live */
	bool done;
	bool last; /* the block has no room for another instruction */
	int32_t disp; /* of the operand off S0 */
	unsigned ngroup, ndec;
	struct xl_group group[XL_GROUPS];
	unsigned ncold;
	struct xl_cold cold[XL_COLD];
	struct soft_insn ins[XL_INSNS];
};

/* --- flags ------------------------------------------------------------- */

static void
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
static bool
xl_has_recipe(const struct soft_insn *in)
{
	if (in->cls != SOFT_C_NATIVE || in->memop >= 0 || in->fl_cond_write ||
	    in->opsize < 4 || ((in->gpr_read | in->gpr_write) & 0xf000) != 0 ||
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

static unsigned
xl_host(unsigned r)
{
	return r == 4 ? EMIT_SP : r;
}

static void
xl_recipe(struct code_out *o, const struct soft_insn *in)
{
	struct soft_recode rc = { .mem_base = -1, .mem_index = -1,
		.mem_scale = 1 };
	unsigned r = xl_host((unsigned)soft_gpr_number(in->op[0].reg.value));
	bool w = in->opsize == 8;
	uint8_t code[16];
	int len;

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
			emit_rr(o, w, in->zi.mnemonic == ZYDIS_MNEMONIC_ADD ?
			    0x29 : 0x01, xl_host((unsigned)soft_gpr_number(
			    in->op[1].reg.value)), r);
		}
		break;
	default:
		break;
	}
	for (unsigned i = 0; i < 16; i++)
		rc.map[i] = (uint8_t)i;
	rc.map[4] = EMIT_SP;
	len = soft_recode(in, &rc, code);
	KASSERT(len > 0, "recipe");
	emit_n(o, code, (unsigned)len);
}

/* Before flags are used. Uses S2. */
static void
xl_restore(struct xl *x)
{
	struct code_out *o = x->o;

	if (x->live)
		return;
	x->live = true;
	if (x->recipe != NULL) {
		xl_recipe(o, x->recipe);
		return;
	}
	emit_mov(o, true, EMIT_S2, 0);
	emit_n(o, "\x65\x0f\xb7\x04\x25", 5);
	emit_4(o, (uint32_t)EMIT_CPU(lahf_image));
	emit_n(o, "\x04\x7f\x9e", 3);
	emit_mov(o, true, 0, EMIT_S2);
}

/* Flags must be in the image. Uses S2. */
static void
xl_save(struct xl *x)
{
	if (x->saved)
		return;
	xl_restore(x);
	xl_emit_save(x->o);
	x->saved = true;
}

/* Before flags are clobbered: they are saved, or there is a recipe. */
static void
xl_clobber(struct xl *x)
{
	if (x->recipe == NULL)
		xl_save(x);
	x->live = false;
}

/* Flags are live or saved: a recipe alone will not do. */
static void
xl_settle(struct xl *x)
{
	if (!x->saved)
		xl_restore(x);
}

/* Before guest registers change in a way that leaves flags alone. */
static void
xl_written(struct xl *x, unsigned regs)
{
	if (x->recipe == NULL ||
	    ((x->recipe->gpr_read | x->recipe->gpr_write) & regs) == 0)
		return;
	xl_settle(x);
	x->recipe = NULL;
}

/* --- cold code --------------------------------------------------------- */

static struct xl_cold *
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
	return c;
}

/* jcc (cc < 16) or jmp (16) to cold code, whose rel32 may be patched later */
static void
xl_jump(struct xl *x, unsigned cc, struct xl_cold *c)
{
	struct code_out *o = x->o;

	emit_within8(o, cc < 16 ? 2 : 1, 4);
	if (cc < 16) {
		emit_1(o, 0x0f);
		emit_1(o, 0x80 | cc);
	} else {
		emit_1(o, 0xe9);
	}
	c->from = o->pos;
	emit_4(o, 0);
}

static void
xl_fill(struct code_out *o, uint32_t from, uint32_t to)
{
	uint32_t rel = to - (from + 4);

	memcpy(o->rw + from, &rel, 4);
}

static void
xl_site(struct code_out *o, const struct code_site *s)
{
	emit_n(o, "\x65\xff\x14\x25", 4);
	emit_4(o, (uint32_t)EMIT_CPU(slow_fn));
	emit_n(o, s, sizeof(*s));
}

/* A place where the host may fault, here. */
static void
xl_fault(struct xl *x, bool poll)
{
	struct code_out *o = x->o;
	struct code_fault *f = &o->fault[o->nfault++];

	KASSERT(o->nfault <= BASE_ARRAY_LEN(o->fault), "faults of a block");
	f->pos = o->pos;
	f->off = (uint16_t)x->page_off;
	f->live = !x->saved;
	f->poll = poll;
}

/* --- ways out ---------------------------------------------------------- */

/* To the address in S0, flags saved. Clobbers them. */
static void
xl_lookup(struct xl *x, struct code_out *o, const struct code_site *s)
{
	uint32_t a, b;

	(void)x;
	emit_n(o, "\x4d\x69\xf5", 3); /* imul r14, r13, mul */
	emit_4(o, CODE_JC_MUL);
	emit_n(o, "\x41\xc1\xee\x10", 4); /* shr r14d, 16 */
	emit_n(o, "\x41\x81\xe6", 3);	  /* and r14d, mask of entries */
	emit_4(o, (SOFT_JC_SIZE - 1) << 4);
	emit_gsb(o, true, 0x3b, EMIT_S0, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, va));
	emit_n(o, "\x0f\x85", 2);
	a = o->pos;
	emit_4(o, 0);
	emit_gs(o, false, 0x8b, EMIT_S2, EMIT_CPU(jc_tag));
	emit_gsb(o, false, 0x3b, EMIT_S2, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, tag));
	emit_n(o, "\x0f\x85", 2);
	b = o->pos;
	emit_4(o, 0);
	emit_gsb(o, false, 0x8b, EMIT_S2, EMIT_S1, EMIT_CPU(jc) +
	    (int32_t)offsetof(struct soft_jc_entry, off));
	emit_n(o, "\x49\x81\xe5\x00\xf0\xff\xff", 7); /* and r13, -4096 */
	emit_gs_st(o, EMIT_S0, EMIT_CPU(page_va));
	emit_gs(o, true, 0x03, EMIT_S2, EMIT_CPU(code_base));
	emit_n(o, "\x41\xff\xe7", 3); /* jmp r15 */
	xl_fill(o, a, o->pos);
	xl_fill(o, b, o->pos);
	xl_site(o, s);
}

static void
xl_poll(struct xl *x)
{
	struct code_out *o = x->o;

	xl_settle(x);
	emit_gs_ld(o, EMIT_S1, EMIT_CPU(poll_ptr));
	xl_fault(x, true);
	emit_n(o, "\x4d\x8b\x36", 3); /* mov r14, [r14] */
}

/* S0 = page_va + delta, as an instruction pointer */
static void
xl_rip(struct xl *x, struct code_out *o, unsigned reg, int64_t delta)
{
	emit_gs_ld(o, reg, EMIT_CPU(page_va));
	emit_lea(o, x->is64, reg, (int)reg, (int32_t)delta);
}

/* A direct jump, cc 16: always, to page + target. */
static void
xl_goto(struct xl *x, unsigned cc, int64_t target, bool far)
{
	struct xl_cold *c;

	xl_settle(x);
	if (!far && target >= 0 && target < (int64_t)VMM_PAGE_SIZE) {
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
	c->saved = x->saved;
	xl_jump(x, cc, c);
}

static void
xl_exec(struct xl *x)
{
	struct xl_cold *c;

	xl_settle(x);
	c = xl_cold(x, x->saved ? XL_C_SITE : XL_C_SAVE_SITE, CODE_S_EXEC);
	xl_jump(x, 16, c);
	x->done = true;
}

/* --- memory ------------------------------------------------------------ */

static bool
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
static void
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

/* S0 is a linear address: makes it a host address. Clobbers S1, S2, flags,
 * which are saved already. */
static void
xl_check(struct xl *x, unsigned n, bool write)
{
	struct code_out *o = x->o;
	int32_t tlb = EMIT_CPU(tlb) + (int32_t)(((x->key & SOFT_KEY_MMU) >> 5) *
	    SOFT_TLB_SIZE * sizeof(struct soft_tlb_entry));
	struct xl_cold *c = xl_cold(x, XL_C_SITE, write ? CODE_S_WRITE :
	    CODE_S_READ);

	c->site.n = (uint8_t)n;
	/* Alignment and waiting x87 exceptions come before a page fault. */
	if (x->in->fpu || x->in->sse || x->in->avx ||
	    x->in->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B)
		c->site.n |= CODE_SITE_VEC;
	c->site.rel = o->pos;
	emit_mov(o, false, EMIT_S1, EMIT_S0);
	emit_n(o, "\x41\xc1\xee\x07", 4); /* shr r14d, 12 - 5 */
	emit_n(o, "\x41\x81\xe6", 3);
	emit_4(o, (SOFT_TLB_SIZE - 1) << 5);
	emit_lea(o, true, EMIT_S2, EMIT_S0, (int32_t)n - 1);
	emit_n(o, "\x49\x81\xe7\x00\xf0\xff\xff", 7); /* and r15, -4096 */
	emit_gsb(o, true, 0x3b, EMIT_S2, EMIT_S1, tlb + (int32_t)(write ?
	    offsetof(struct soft_tlb_entry, tag_w) :
	    offsetof(struct soft_tlb_entry, tag_r)));
	emit_n(o, "\x0f\x85", 2);
	c->from = o->pos;
	emit_4(o, 0);
	emit_gsb(o, true, 0x03, EMIT_S0, EMIT_S1, tlb +
	    (int32_t)offsetof(struct soft_tlb_entry, addend));
}

/*
 * Groups.  Several operands off one base register that stays as it is are
 * checked at once: the first check covers all of them, and the host address
 * of the lowest is kept in a scratch slot for the rest of the block.  A miss
 * fills for the instruction's own operand alone; where the span would cross a
 * page the executor runs the instruction.  Nothing in a block moves host
 * memory under such an address: soft_slow() does not come back after it has
 * left the pmap.
 */
static bool
xl_group_operand(const struct xl *x, const struct soft_insn *in, int *base,
    int64_t *disp)
{
	const ZydisDecodedOperandMem *m;

	if (!x->is64 || in->cls != SOFT_C_NATIVE || in->memop < 0 ||
	    in->mem_access == 0 || in->addrsize != 8 ||
	    in->mem_seg >= VMM_SEG_FS || in->mem_bytes == 0 ||
	    in->mem_bytes > 64 || in->opsize == 2)
		return false;
	m = &in->op[in->memop].mem;
	*base = soft_gpr_number(m->base);
	*disp = m->disp.value;
	return *base >= 0 && *base < 12 && m->index == ZYDIS_REGISTER_NONE &&
	    m->type == ZYDIS_MEMOP_TYPE_MEM && *disp >= INT32_MIN / 2 &&
	    *disp <= INT32_MAX / 2;
}

static unsigned
xl_gpr_written(const struct soft_insn *in)
{
	unsigned w = in->gpr_write;

	if (in->cls == SOFT_C_STACK || in->cls == SOFT_C_CALL)
		w |= 1u << 4;
	return w;
}

/* => the operand is checked, S0 and x->disp address it */
static bool
xl_mem_group(struct xl *x)
{
	const struct soft_insn *in = x->in, *next = in;
	bool write = (in->mem_access & VMM_PROT_WRITE) != 0;
	struct xl_group *g;
	struct xl_cold *c;
	int64_t d, lo, hi;
	int base, b;

	if (!xl_group_operand(x, in, &base, &d))
		return false;
	for (unsigned i = 0; i < XL_GROUPS; i++) {
		g = &x->group[i];
		if (g->base == base && d >= g->lo &&
		    d + in->mem_bytes <= g->hi && (g->write || !write)) {
			emit_gs_ld(x->o, EMIT_S0, EMIT_CPU(scratch) + 8 *
			    (int32_t)(i + 1));
			x->disp = (int32_t)(d - g->lo);
			return true;
		}
	}
	lo = d;
	hi = d + in->mem_bytes;
	for (unsigned n = 0; next + 1 < x->ins + x->ndec && n < 24; n++) {
		int64_t e, l, h;

		if ((xl_gpr_written(next) >> base & 1) != 0)
			break;
		next++;
		if (!xl_group_operand(x, next, &b, &e) || b != base ||
		    (!write && (next->mem_access & VMM_PROT_WRITE) != 0))
			continue;
		l = base_min(lo, e);
		h = base_max(hi, e + next->mem_bytes);
		if (h - l <= XL_SPAN) {
			lo = l;
			hi = h;
		}
	}
	if (hi - lo == in->mem_bytes && lo == d)
		return false;
	g = &x->group[x->ngroup++ % XL_GROUPS];
	g->base = base;
	g->lo = lo;
	g->hi = hi;
	g->write = write;
	xl_clobber(x);
	emit_lea(x->o, true, EMIT_S0, (int)xl_host((unsigned)base),
	    (int32_t)lo);
	xl_check(x, (unsigned)(hi - lo), write);
	c = &x->cold[x->ncold - 1];
	c->site.sp = (int32_t)(in->mem_bytes << 16 | (unsigned)(d - lo));
	emit_gs_st(x->o, EMIT_S0, EMIT_CPU(scratch) +
	    8 * (int32_t)(g - x->group + 1));
	x->disp = (int32_t)(d - lo);
	return true;
}

static void
xl_group_end(struct xl *x, unsigned regs)
{
	for (unsigned i = 0; i < XL_GROUPS; i++)
		if (x->group[i].base >= 0 &&
		    (regs >> x->group[i].base & 1) != 0)
			x->group[i].base = -1;
}

/* The memory operand's host address into S0. */
static void
xl_mem(struct xl *x)
{
	const struct soft_insn *in = x->in;

	xl_clobber(x);
	xl_ea(x, EMIT_S0);
	if (x->is64 && in->mem_seg >= VMM_SEG_FS)
		emit_gs(x->o, true, 0x03, EMIT_S0, EMIT_CPU(seg_base) +
		    8 * in->mem_seg);
	xl_check(x, in->mem_bytes, (in->mem_access & VMM_PROT_WRITE) != 0);
}

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

static void
xl_need_fpu(struct xl *x)
{
	struct code_out *o = x->o;
	struct xl_cold *c;

	if (x->fpu)
		return;
	x->fpu = true;
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
static bool
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
	case ZYDIS_MNEMONIC_SETNP: case ZYDIS_MNEMONIC_CMOVL: case ZYDIS_MNEMONIC_SETL:
	case ZYDIS_MNEMONIC_CMOVNL: case ZYDIS_MNEMONIC_SETNL: case ZYDIS_MNEMONIC_CMOVLE:
	case ZYDIS_MNEMONIC_SETLE: case ZYDIS_MNEMONIC_CMOVNLE: case ZYDIS_MNEMONIC_SETNLE:
		return false;
	default:
		return true;
	}
}

static bool
xl_native(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_out *o = x->o;
	struct soft_recode rc = { .mem_base = -1, .mem_index = -1,
		.mem_scale = 1 };
	static const uint8_t scratch[] = { EMIT_S1, EMIT_S2, EMIT_S0 };
	unsigned regs, avail, n = 0, high;
	bool mem = in->memop >= 0 && in->mem_access != 0;
	bool writes, fault = false;
	uint8_t code[16];
	int len;

	x->disp = 0;
	if (in->zi.mnemonic == ZYDIS_MNEMONIC_LEA)
		return xl_lea(x);
	if (in->memop >= 0 && in->mem_access == 0)
		return true; /* NOP, prefetch */
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
	avail = mem ? 2 : 3;
	for (unsigned h = high; h != 0; h &= h - 1) {
		if (n == avail)
			return false;
		rc.map[__builtin_ctz(h)] = scratch[n++];
	}
	if (mem)
		rc.mem_base = EMIT_S0;
	len = soft_recode(in, &rc, code);
	if (len < 0)
		return false;
	if (in->fpu || in->sse || in->avx)
		xl_need_fpu(x);
	if (mem && !xl_mem_group(x))
		xl_mem(x);
	if (mem && x->disp != 0) {
		rc.mem_disp = x->disp;
		len = soft_recode(in, &rc, code);
		KASSERT(len > 0, "the same with a displacement");
	}
	writes = in->fl_write != 0 || in->fl_undef != 0 || in->fl_cond_write;
	if (in->fl_read != 0 || in->fl_cond_write ||
	    (writes && (in->fl_write & SOFT_FL_ARITH) != SOFT_FL_ARITH))
		xl_restore(x);
	if (!writes)
		xl_written(x, in->gpr_write);
	if (xl_may_fault(in)) {
		xl_settle(x);
		fault = true;
	}
	for (unsigned h = high & in->gpr_read; h != 0; h &= h - 1) {
		unsigned r = (unsigned)__builtin_ctz(h);

		emit_gs_ld(o, rc.map[r], EMIT_GPR(r));
	}
	if (fault)
		xl_fault(x, false);
	emit_n(o, code, (unsigned)len);
	for (unsigned h = high & in->gpr_write; h != 0; h &= h - 1) {
		unsigned r = (unsigned)__builtin_ctz(h);

		emit_gs_st(o, rc.map[r], EMIT_GPR(r));
	}
	if (writes) {
		x->live = true;
		x->saved = false;
		x->recipe = xl_has_recipe(in) ? x->in : NULL;
	}
	return true;
}

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

/* Host address of the slot to be pushed to into S0. */
static void
xl_push_check(struct xl *x)
{
	xl_clobber(x);
	emit_lea(x->o, x->is64, EMIT_S0, EMIT_SP, -(int)xl_word(x));
	xl_check(x, xl_word(x), true);
}

static void
xl_push_reg(struct xl *x, unsigned host)
{
	xl_written(x, 1u << 4);
	emit_rm(x->o, x->is64, 0x89, host, EMIT_S0, -1, 1, 0);
	emit_lea(x->o, x->is64, EMIT_SP, EMIT_SP, -(int)xl_word(x));
}

/* Host register with the value of guest register r, at worst S1. */
static unsigned
xl_value(struct xl *x, unsigned r)
{
	if (r == 4)
		return EMIT_SP;
	if (r < 12)
		return r;
	emit_gs_ld(x->o, EMIT_S1, EMIT_GPR(r));
	return EMIT_S1;
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
		emit_imm(o, EMIT_S1, op->imm.is_signed ?
		    (uint64_t)op->imm.value.s : op->imm.value.u);
		xl_push_reg(x, EMIT_S1);
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
	emit_rm(o, x->is64, 0x8b, EMIT_S0, EMIT_S0, -1, 1, 0);
	emit_gs_st(o, EMIT_S0, EMIT_CPU(scratch));
	xl_push_check(x);
	emit_gs_ld(o, EMIT_S1, EMIT_CPU(scratch));
	xl_push_reg(x, EMIT_S1);
	return true;
}

static void
xl_top_check(struct xl *x, unsigned base)
{
	xl_clobber(x);
	emit_mov(x->o, x->is64, EMIT_S0, base);
	xl_check(x, xl_word(x), false);
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
	xl_top_check(x, EMIT_SP);
	xl_written(x, 1u << 4 | 1u << r);
	if (r == 4) {
		emit_rm(o, x->is64, 0x8b, EMIT_SP, EMIT_S0, -1, 1, 0);
		return true;
	}
	emit_rm(o, x->is64, 0x8b, r < 12 ? (unsigned)r : EMIT_S0, EMIT_S0, -1,
	    1, 0);
	if (r >= 12)
		emit_gs_st(o, EMIT_S0, EMIT_GPR((unsigned)r));
	emit_lea(o, x->is64, EMIT_SP, EMIT_SP, (int)xl_word(x));
	return true;
}

static void xl_pushf(struct xl *x);

static bool
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
		emit_rm(o, x->is64, 0x8b, EMIT_S0, EMIT_S0, -1, 1, 0);
		emit_lea(o, x->is64, EMIT_SP, 5, (int)xl_word(x));
		emit_mov(o, x->is64, 5, EMIT_S0);
		return true;
	case ZYDIS_MNEMONIC_PUSHFQ:
		xl_pushf(x);
		return true;
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
		emit_rm(x->o, x->is64, 0x8b, EMIT_S0, EMIT_S0, -1, 1, 0);
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

static bool
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
		xl_rip(x, o, EMIT_S1, next);
		xl_push_reg(x, EMIT_S1);
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
		xl_top_check(x, EMIT_SP);
		emit_rm(o, x->is64, 0x8b, EMIT_S0, EMIT_S0, -1, 1, 0);
		xl_save(x);
		pop += xl_word(x);
		emit_lea(o, x->is64, EMIT_SP, EMIT_SP, (int32_t)pop);
		xl_indirect(x, -(int32_t)pop);
		return true;
	default:
		return false;
	}
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

static void
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

static bool
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

/* --- blocks ------------------------------------------------------------ */

/* The first instruction replaces all flags before anything can look. */
static bool
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
		.off = (uint16_t)(b->gpa & VMM_PAGE_MASK) };

	for (unsigned i = 0; i < x->ncold; i++) {
		struct xl_cold *c = &x->cold[i];

		xl_fill(o, c->from, o->pos);
		switch (c->what) {
		case XL_C_SAVE_SITE:
			xl_emit_save(o);
			xl_site(o, &c->site);
			break;
		case XL_C_SITE:
			if (c->recipe != NULL &&
			    c->site.kind != CODE_S_FPU) {
				xl_recipe(o, c->recipe);
				xl_emit_save(o);
			}
			xl_site(o, &c->site);
			break;
		default:
			if (!c->saved)
				xl_emit_save(o);
			xl_rip(x, o, EMIT_S0, c->delta);
			xl_lookup(x, o, &c->site);
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
		s.n = 1;
		xl_emit_save(o);
		xl_site(o, &s);
	}
}

static bool
xl_insn(struct xl *x)
{
	switch (x->in->cls) {
	case SOFT_C_NATIVE:
		return xl_native(x);
	case SOFT_C_STACK:
		return xl_stack(x);
	case SOFT_C_JMP:
	case SOFT_C_JCC:
	case SOFT_C_CALL:
	case SOFT_C_RET:
		return xl_branch(x);
	case SOFT_C_SYS:
		return xl_sys(x);
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
	x->key = b->key;
	x->is64 = (b->key & SOFT_KEY_L) != 0;
	x->page_off = b->gpa & VMM_PAGE_MASK;
	x->fpu = x->done = false;
	x->ncold = 0;
	x->recipe = NULL;
	o->nfault = 0;
	b->start = o->pos;
	x->ngroup = 0;
	for (n = 0; n < XL_GROUPS; n++)
		x->group[n].base = -1;
	limit = base_min(limit, XL_INSNS);
	error = xl_decode(x, host, avail, limit);
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
		xl_group_end(x, xl_gpr_written(x->in));
		at += x->in->len;
		x->page_off += x->in->len;
	}
	b->bytes = (uint16_t)at;
	xl_finish(x);
	b->end = o->pos;
}
