/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: the check before each memory operand.
 *
 * In hot code, for an operand at base + disp:
 *
 *	lea	T, [base + disp]
 *	sub	T, gs:[slot.start]
 *	cmp	T, gs:[slot.len]
 *	jae	cold
 *	mov	S1, gs:[slot.addend]
 *	op	[S1 + base + disp]
 *
 * Nothing on the way from base to the access waits for the check.  Cold code
 * looks into the TLB and fills the slot; see slot.c for the rest.
 *
 * Groups: operands off the same base (and index), as far as the translator can
 * see what is added to it, are checked at once.  The first check covers the
 * span of all and keeps the addend for the others; where a read comes first and
 * a store is sure to follow, it asks for the right to store, and goes on in a
 * plain block (below) where there is none yet.  A miss fills for the
 * instruction's own operand alone, so that CR2 is right; where the span crosses
 * a page, a plain block, which has no groups, takes over from this instruction
 * on.  Nothing in a block moves host memory under an addend: the refill does
 * not come back after it has left the pmap.
 *
 * Pushes, pops, calls and returns are operands off RSP like others.  One that
 * is alone in its block uses a slot that is common to all such.
 */
#include "engine/soft/xlate_int.h"

#define XL_ADDEND(i) (EMIT_CPU(group_addend) + 8 * (int32_t)(i))
#define XL_SLOT(f) (EMIT_CPU(slot) + (int32_t)offsetof(struct soft_slot, f))

static unsigned
xl_slot_kind(const struct xl *x, bool write)
{
	return ((x->key & SOFT_KEY_MMU) >> 5) * 2 + write;
}

/* A slot for a place, or the common one of its kind for the stack. */
static uint32_t
xl_slot_new(struct xl *x, bool write, bool stack)
{
	return (stack ? xl_slot_kind(x, write) : x->o->slot_next++) *
	    (uint32_t)sizeof(struct soft_slot);
}

static int32_t
xl_tlb(unsigned kind)
{
	return EMIT_CPU(tlb) + (int32_t)(kind / 2 * SOFT_TLB_SIZE *
	    sizeof(struct soft_tlb_entry));
}

static int32_t
xl_tlb_tag(unsigned kind)
{
	return xl_tlb(kind) + (int32_t)(kind & 1 ?
	    offsetof(struct soft_tlb_entry, tag_w) :
	    offsetof(struct soft_tlb_entry, tag_r));
}

/*
 * The refill: called with a linear address in S2, and in S1 the slot's offset
 * and, in the low eight bits, the span less one.
 * => ZF set and the addend in S1; else ZF clear: C must help
 */
static void
xl_stub(struct code_out *o, unsigned kind)
{
	uint32_t out, out2, out3, skip;

	emit_n(o, "\x50\x51\x52", 3);		  /* push rax, rcx, rdx */
	emit_n(o, "\x44\x89\xf8", 3);		  /* mov eax, r15d */
	emit_n(o, "\xc1\xe8\x07\x25", 4);	  /* shr eax, 12 - 5; and */
	emit_4(o, (SOFT_TLB_SIZE - 1) << 5);
	emit_n(o, "\x41\x0f\xb6\xce", 4);	  /* movzx ecx, r14b */
	emit_n(o, "\xba\0\x10\0\0\x29\xca", 7);	  /* edx = 4096 - ecx */
	emit_n(o, "\x4c\x01\xf9", 3);		  /* add rcx, r15 */
	emit_n(o, "\x48\x81\xe1\0\xf0\xff\xff", 7); /* and rcx, -4096 */
	emit_gsb(o, true, 0x3b, 1, 0, xl_tlb_tag(kind));
	emit_n(o, "\x0f\x85", 2); /* jne */
	out = o->pos;
	emit_4(o, 0);
	emit_n(o, "\x41\xc1\xee\x08", 4); /* shr r14d, 8 */
	emit_n(o, "\x65\x66\x41\xff\x8e", 5); /* dec word gs:[r14 + budget] */
	emit_4(o, (uint32_t)XL_SLOT(budget));
	emit_n(o, "\x0f\x88", 2); /* js */
	out2 = o->pos;
	emit_4(o, 0);
	emit_gsb(o, true, 0x8b, 0, 0, xl_tlb(kind) +
	    (int32_t)offsetof(struct soft_tlb_entry, addend));
	emit_n(o, "\x65\x49\x83\xbe", 4); /* cmp qword gs:[r14 + len], 0 */
	emit_4(o, (uint32_t)XL_SLOT(len));
	emit_1(o, 0);
	emit_n(o, "\x75", 1); /* jne */
	skip = o->pos++;
	emit_n(o, "\x51", 1); /* push rcx */
	emit_gs(o, false, 0x8b, 1, EMIT_CPU(slot_n) + 4 * (int32_t)(kind / 2));
	emit_n(o, "\x81\xf9", 2); /* cmp ecx, imm */
	emit_4(o, SOFT_SLOTS_USED);
	emit_n(o, "\x73", 1); /* jae */
	out3 = o->pos++;
	emit_n(o, "\x65\x44\x89\x34\x8d", 5); /* mov gs:[rcx*4 + ..], r14d */
	emit_4(o, (uint32_t)EMIT_CPU(slot_used) +
	    kind / 2 * 4 * SOFT_SLOTS_USED);
	emit_n(o, "\xff\xc1", 2); /* inc ecx */
	emit_gs(o, false, 0x89, 1, EMIT_CPU(slot_n) + 4 * (int32_t)(kind / 2));
	emit_n(o, "\x59", 1); /* pop rcx */
	o->rw[skip] = (uint8_t)(o->pos - (skip + 1));
	emit_gsb(o, true, 0x89, 1, EMIT_S1, XL_SLOT(start));
	emit_gsb(o, true, 0x89, 0, EMIT_S1, XL_SLOT(addend));
	emit_gsb(o, true, 0x89, 2, EMIT_S1, XL_SLOT(len));
	emit_mov(o, true, EMIT_S1, 0);
	emit_n(o, "\x39\xc0", 2); /* cmp eax, eax */
	xl_fill(o, out, o->pos);
	xl_fill(o, out2, o->pos);
	emit_n(o, "\x5a\x59\x58\xc3", 4);
	o->rw[out3] = (uint8_t)(o->pos - (out3 + 1));
	/* pop rcx; test esp, esp; ..: C makes room */
	emit_n(o, "\x59\x85\xe4\x5a\x59\x58\xc3", 7);
}

void
xlate_stubs(struct code_out *o)
{
	KASSERT(o->pos == CODE_RET_EMPTY, "where the stubs begin");
	emit_n(o, "\x4c\x8d\x35\xf9\xff\xff\xff", 7); /* lea r14, [rip - 7] */
	emit_n(o, "\x41\x56", 2);		     /* push r14 */
	o->ret_miss = o->pos;
	emit_n(o, "\x41\xff\xe7", 3); /* jmp r15 */
	for (unsigned k = 0; k < BASE_ARRAY_LEN(o->slot_stub); k++) {
		o->slot_stub[k] = o->pos;
		xl_stub(o, k);
	}
	o->slot_next = 2 * SOFT_MMU_COUNT;
	o->link_next = 0;
	memset(o->full, 0, sizeof(o->full));
}

/* --- what an operand is ------------------------------------------------- */

/* The current instruction's memory operand. => false: not for us */
bool
xl_addr(const struct xl *x, struct xl_addr *a)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperandMem *m;

	if (in->memop < 0 || in->mem_access == 0 || in->mem_bytes == 0 ||
	    in->mem_bytes > 64 || !xl_ea_ok(x))
		return false;
	m = &in->op[in->memop].mem;
	*a = (struct xl_addr){ .form = XL_A_FULL,
		.base = soft_gpr_number(m->base),
		.index = soft_gpr_number(m->index), .scale = m->scale,
		.disp = m->disp.value, .n = in->mem_bytes,
		.write = (in->mem_access & VMM_PROT_WRITE) != 0 };
	if (m->base == ZYDIS_REGISTER_RIP) {
		a->base = XL_A_RIP;
		a->disp += x->page_off + in->len;
	}
	a->key = x->is64 && in->addrsize == 8 && in->mem_seg < VMM_SEG_FS &&
	    a->base >= 0 && m->type == ZYDIS_MEMOP_TYPE_MEM &&
	    a->disp > INT32_MIN / 2 && a->disp < INT32_MAX / 2;
	if (a->key && a->index < 0)
		a->form = a->base < 12 ? XL_A_HOST : XL_A_S0;
	return true;
}

static void
xl_stack_addr(const struct xl *x, struct xl_addr *a, int base, int disp,
    unsigned n, bool write)
{
	*a = (struct xl_addr){ .form = x->is64 ? XL_A_HOST : XL_A_FULL,
		.base = base, .index = -1, .scale = 1, .disp = disp, .n = n,
		.write = write, .key = x->is64, .stack = true };
}

/* What instruction x->in, not yet translated, is going to access. */
static bool
xl_foresee(const struct xl *x, struct xl_addr *a)
{
	const struct soft_insn *in = x->in;

	if (in->cls == SOFT_C_NATIVE)
		return xl_addr(x, a) && a->key;
	if (!x->is64 || in->opsize != 8)
		return false;
	if (in->cls == SOFT_C_CALL || (in->cls == SOFT_C_STACK &&
	    in->zi.mnemonic == ZYDIS_MNEMONIC_PUSH))
		xl_stack_addr(x, a, 4, -8, 8, true);
	else if (in->cls == SOFT_C_RET || (in->cls == SOFT_C_STACK &&
	    in->zi.mnemonic == ZYDIS_MNEMONIC_POP))
		xl_stack_addr(x, a, 4, 0, 8, false);
	else
		return false;
	return true;
}

unsigned
xl_gpr_written(const struct soft_insn *in)
{
	unsigned w = in->gpr_write;

	if (in->cls == SOFT_C_STACK || in->cls == SOFT_C_CALL)
		w |= 1u << 4;
	return w;
}

/* Does the instruction add a constant to register r, 64 bits wide? */
bool
xl_delta(const struct soft_insn *in, unsigned r, int64_t *by)
{
	const ZydisDecodedOperand *op = in->op;

	if (in->opsize != 8)
		return false;
	if (in->cls == SOFT_C_STACK && r == 4) {
		*by = in->zi.mnemonic == ZYDIS_MNEMONIC_PUSH ? -8 : 8;
		return in->zi.mnemonic == ZYDIS_MNEMONIC_PUSH ||
		    (in->zi.mnemonic == ZYDIS_MNEMONIC_POP &&
		    op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    soft_gpr_number(op[0].reg.value) != 4);
	}
	if (in->cls != SOFT_C_NATIVE || op[0].type !=
	    ZYDIS_OPERAND_TYPE_REGISTER ||
	    soft_gpr_number(op[0].reg.value) != (int)r)
		return false;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_INC:
		*by = 1;
		return true;
	case ZYDIS_MNEMONIC_DEC:
		*by = -1;
		return true;
	case ZYDIS_MNEMONIC_ADD:
	case ZYDIS_MNEMONIC_SUB:
		if (op[1].type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
			return false;
		*by = in->zi.mnemonic == ZYDIS_MNEMONIC_ADD ?
		    op[1].imm.value.s : -op[1].imm.value.s;
		return true;
	case ZYDIS_MNEMONIC_LEA:
		*by = op[1].mem.disp.value;
		return in->addrsize == 8 &&
		    op[1].mem.index == ZYDIS_REGISTER_NONE &&
		    soft_gpr_number(op[1].mem.base) == (int)r;
	default:
		return false;
	}
}

/* --- the check ---------------------------------------------------------- */

/* What of the address must be in S0. */
static void
xl_prep(struct xl *x, const struct xl_addr *a)
{
	switch (a->form) {
	case XL_A_HOST:
	case XL_A_LINEAR:
		break;
	case XL_A_S0:
		emit_gs_ld(x->o, EMIT_S0, a->base == XL_A_RIP ?
		    EMIT_CPU(page_va) : EMIT_GPR((unsigned)a->base));
		break;
	default:
		if (a->stack) {
			emit_lea(x->o, x->is64, EMIT_S0, (int)xl_host(
			    (unsigned)a->base), (int32_t)a->disp);
			break;
		}
		if (a->index >= 12)
			x->s1_group = -1;
		xl_ea(x, EMIT_S0);
		if (x->is64 && x->in->mem_seg >= VMM_SEG_FS)
			emit_gs(x->o, true, 0x03, EMIT_S0, EMIT_CPU(seg_base) +
			    8 * x->in->mem_seg);
		break;
	}
}

static void
xl_set_ref(struct xl *x, const struct xl_addr *a)
{
	x->ref_base = EMIT_S1;
	x->ref_index = a->form == XL_A_HOST ? (int)xl_host((unsigned)a->base) :
	    EMIT_S0;
	x->disp = a->form == XL_A_FULL ? 0 : (int32_t)a->disp;
}

/* Has a slot been tried for the current instruction, without success? */
static bool
xl_is_full(const struct xl *x)
{
	unsigned bit = code_full_bit((x->b->gpa & ~VMM_PAGE_MASK) +
	    x->page_off, x->b->key & ~CODE_KEY_PLAIN);

	return (x->o->full[bit / 64] >> (bit % 64) & 1) != 0;
}

/* The check by the TLB. */
static void
xl_full(struct xl *x, struct xl_cold *c)
{
	struct code_out *o = x->o;

	if (c->base == EMIT_S0 && c->disp == 0) {
		emit_mov(o, false, EMIT_S1, EMIT_S0);
	} else if (c->base == EMIT_S0) {
		emit_lea(o, true, EMIT_S1, c->base, c->disp);
	} else {
		emit_lea(o, true, EMIT_S2, c->base, c->disp);
		emit_mov(o, false, EMIT_S1, EMIT_S2);
	}
	emit_n(o, "\x41\xc1\xee\x07", 4); /* shr r14d, 12 - 5 */
	emit_n(o, "\x41\x81\xe6", 3);
	emit_4(o, (SOFT_TLB_SIZE - 1) << 5);
	if (c->base == EMIT_S0)
		emit_lea(o, true, EMIT_S2, EMIT_S0, c->disp +
		    (int32_t)c->span - 1);
	else if (c->span > 1)
		emit_rm(o, true, 0x8d, EMIT_S2, EMIT_S2, -1, 1,
		    (int32_t)c->span - 1);
	emit_n(o, "\x49\x81\xe7\x00\xf0\xff\xff", 7); /* and r15, -4096 */
	emit_gsb(o, true, 0x3b, EMIT_S2, EMIT_S1, xl_tlb_tag(c->slot_kind));
	emit_n(o, "\x0f\x85", 2);
	c->from = o->pos;
	emit_4(o, 0);
	emit_gsb(o, true, 0x8b, EMIT_S1, EMIT_S1, xl_tlb(c->slot_kind) +
	    (int32_t)offsetof(struct soft_tlb_entry, addend));
}

/* Checks the span of n bytes from the operand + lo on, and sets the ref. */
static void
xl_check(struct xl *x, const struct xl_addr *a, int64_t lo, unsigned n,
    uint32_t slot)
{
	struct code_out *o = x->o;
	unsigned t = a->form == XL_A_HOST ? EMIT_S0 : a->form == XL_A_S0 ?
	    EMIT_S2 : EMIT_S1;
	int32_t s = (int32_t)slot;
	struct xl_cold *c;

	xl_clobber(x);
	c = xl_cold(x, XL_C_SLOT, a->write ? CODE_S_WRITE : CODE_S_READ);
	x->checked = c;
	c->addr = *a;
	c->in = x->in;
	c->hot = o->pos;
	c->slot = slot;
	c->slot_kind = (uint8_t)xl_slot_kind(x, a->write || a->later);
	c->span = n;
	c->group = n != a->n || a->later;
	c->base = a->form == XL_A_HOST ? (int)xl_host((unsigned)a->base) :
	    EMIT_S0;
	c->disp = (int32_t)((a->form == XL_A_FULL ? 0 : a->disp) + lo);
	c->site.sp = (int32_t)(a->n << 16 | (uint32_t)-lo);
	/* Alignment and waiting x87 exceptions come before a page fault. */
	if (x->in->fpu || x->in->sse || x->in->avx ||
	    x->in->zi.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B)
		c->site.n = CODE_SITE_VEC;
	xl_prep(x, a);
	c->full = xl_is_full(x);
	if (c->full) {
		xl_full(x, c);
	} else {
		emit_lea(o, true, t, c->base, c->disp);
		emit_gs(o, true, 0x2b, t, XL_SLOT(start) + s);
		emit_gs(o, true, 0x3b, t, XL_SLOT(len) + s);
		emit_n(o, "\x0f\x83", 2);
		c->from = o->pos;
		emit_4(o, 0);
		emit_gs_ld(o, EMIT_S1, XL_SLOT(addend) + s);
	}
	c->back = o->pos;
	x->s1_group = -1;
	xl_set_ref(x, a);
}

/* The span crosses a page: on to a plain block at this instruction. */
static void
xl_cross(struct code_out *o, struct xl_cold *c)
{
	struct code_site s = { .kind = CODE_S_LINK, .off = c->site.off,
		.n = CODE_LINK_PLAIN };
	uint32_t within, rel;

	emit_lea(o, true, EMIT_S1, EMIT_S2, (int32_t)c->span - 1);
	emit_n(o, "\x45\x31\xfe\x41\xf7\xc6", 6); /* xor r14d, r15d; test r14d */
	emit_4(o, VMM_PAGE_SIZE);
	emit_n(o, "\x0f\x84", 2);
	within = o->pos;
	emit_4(o, 0);
	if (c->recipe != NULL) {
		xl_recipe(o, c->recipe, c->recipe_val);
		xl_emit_save(o);
	}
	emit_within8(o, 1, 4);
	c->plain = o->pos;
	emit_1(o, 0xe9);
	s.rel = rel = o->pos;
	emit_4(o, 0);
	xl_fill(o, rel, o->pos);
	xl_site(o, &s);
	xl_fill(o, within, o->pos);
}

/* The cold code of a check. */
void
xl_slot_cold(struct xl *x, struct xl_cold *c)
{
	struct code_out *o = x->o;
	unsigned kind = c->slot_kind;
	struct code_slot_site ss = { .hot = c->hot, .slot = c->slot,
		.span = (uint16_t)c->span, .full = c->full,
		.write = c->slot_kind & 1 };
	struct code_site s = { .kind = CODE_S_SPLIT };
	uint32_t slow, at;

	emit_lea(o, true, EMIT_S2, c->base, c->disp);
	emit_imm(o, EMIT_S1, c->slot << 8 | (c->span - 1));
	emit_1(o, 0xe8);
	xl_fill(o, o->pos, o->slot_stub[kind]);
	o->pos += 4;
	emit_n(o, "\x0f\x85", 2);
	slow = o->pos;
	emit_4(o, 0);
	emit_1(o, 0xe9);
	xl_fill(o, o->pos, c->back);
	o->pos += 4;

	xl_fill(o, slow, o->pos);
	if (c->group)
		xl_cross(o, c);
	emit_mov(o, true, EMIT_S0, EMIT_S2);
	if (c->recipe != NULL) {
		xl_recipe(o, c->recipe, c->recipe_val);
		xl_emit_save(o);
	}
	xl_site(o, &c->site);
	ss.plain = c->plain;
	at = o->pos;
	emit_n(o, &ss, sizeof(ss));
	if (!c->split)
		return;
	/* Through cpu->split. */
	ss.split = o->pos;
	memcpy(o->rw + at, &ss, sizeof(ss));
	x->in = c->in;
	x->page_off = c->site.off;
	xl_prep(x, &c->addr);
	emit_gs_ld(o, EMIT_S1, EMIT_CPU(bounce_addend));
	if (c->nstore == 0) {
		emit_1(o, 0xe9);
		xl_fill(o, o->pos, c->back);
		o->pos += 4;
		return;
	}
	emit_n(o, c->store, c->nstore);
	s.rel = c->after;
	s.off = c->site.off;
	xl_site(o, &s);
}

/* The widest span around the operand that those to come add up to.
 * => there are such */
static bool
xl_span(struct xl *x, struct xl_addr *a, int64_t *lop, int64_t *hip)
{
	struct soft_insn *in = x->in, *end = x->ins + x->ndec;
	unsigned page_off = x->page_off;
	int64_t delta = x->delta[a->base], by, l, h;
	struct xl_addr b;
	bool any = false, sure = true;

	for (unsigned n = 0; x->in + 1 < end && n < 24; n++) {
		unsigned w = xl_gpr_written(x->in);

		if (a->index >= 0 && (w >> a->index & 1) != 0)
			break;
		if ((w >> a->base & 1) != 0) {
			if (!xl_delta(x->in, (unsigned)a->base, &by))
				break;
			delta += by;
		}
		if (x->in->cls != SOFT_C_NATIVE && x->in->cls != SOFT_C_STACK)
			sure = false;
		x->page_off += x->in->len;
		x->in++;
		if (!xl_foresee(x, &b) || b.base != a->base ||
		    b.index != a->index || (b.index >= 0 &&
		    b.scale != a->scale))
			continue;
		/* Where a store is sure to follow, it is checked for now. */
		if (b.write && !a->write && !a->later && !sure)
			continue;
		l = base_min(*lop, b.disp + delta);
		h = base_max(*hip, b.disp + delta + b.n);
		if (h - l <= XL_SPAN) {
			*lop = l;
			*hip = h;
			any = true;
			a->later |= b.write && !a->write;
		}
	}
	x->in = in;
	x->page_off = page_off;
	return any;
}

/* An index for a new group, or -1. */
static int
xl_group_new(struct xl *x)
{
	unsigned i;

	for (i = 0; i < XL_GROUPS; i++)
		if (x->group[i].base < 0)
			return (int)i;
	for (unsigned k = 0; k < XL_GROUPS; k++) {
		i = x->ngroup++ % XL_GROUPS;
		if (!xl_loop_same(x, x->group[i].base, x->group[i].index))
			return (int)i;
	}
	return -1;
}

/* Checks an operand; xl_ref() or the ref_ fields address it. */
void
xl_access(struct xl *x, const struct xl_addr *wanted)
{
	struct xl_addr addr = *wanted, *a = &addr;
	struct xl_group *g;
	int64_t at, lo, hi;
	unsigned i;

	if (!a->key) {
		xl_check(x, a, 0, a->n, xl_slot_new(x, a->write, false));
		return;
	}
	at = a->disp + x->delta[a->base];
	for (i = 0; i < XL_GROUPS; i++) {
		g = &x->group[i];
		if (g->base != a->base || g->index != a->index ||
		    (g->index >= 0 && g->scale != a->scale) || at < g->lo ||
		    at + a->n > g->hi || (a->write && !g->write))
			continue;
		xl_prep(x, a);
		if (x->s1_group != (int)i)
			emit_gs_ld(x->o, EMIT_S1, XL_ADDEND(i));
		x->s1_group = (int)i;
		xl_set_ref(x, a);
		return;
	}
	lo = at;
	hi = at + a->n;
	i = XL_GROUPS;
	if (!x->plain && (xl_span(x, a, &lo, &hi) ||
	    xl_loop_same(x, a->base, a->index)))
		i = (unsigned)xl_group_new(x);
	if (i >= XL_GROUPS) {
		a->later = false;
		xl_check(x, a, 0, a->n, xl_slot_new(x, a->write,
		    a->stack && a->n == 8));
		return;
	}
	x->group[i] = (struct xl_group){ .base = a->base, .index = a->index,
		.scale = a->scale, .lo = lo, .hi = hi,
		.write = a->write || a->later };
	xl_check(x, a, lo - at, (unsigned)(hi - lo),
	    xl_slot_new(x, a->write, false));
	emit_gs_st(x->o, EMIT_S1, XL_ADDEND(i));
	x->s1_group = (int)i;
}

/* The current instruction's memory operand, which is known to be good. */
void
xl_mem(struct xl *x)
{
	struct xl_addr a;
	bool ok = xl_addr(x, &a);

	KASSERT(ok, "memory operand");
	if (ok)
		xl_access(x, &a);
}

/* op reg, operand that was checked last */
void
xl_ref(struct xl *x, bool w, unsigned op, unsigned reg)
{
	emit_rm(x->o, w, op, reg, x->ref_base, x->ref_index, 1, x->disp);
}

/* n bytes at guest register base + disp in the stack's width */
void
xl_stack_check(struct xl *x, int base, int disp, unsigned n, bool write)
{
	struct xl_addr a;

	xl_stack_addr(x, &a, base, disp, n, write);
	xl_access(x, &a);
}

/* Nothing that was checked before is worth anything. */
void
xl_group_drop(struct xl *x)
{
	for (unsigned i = 0; i < XL_GROUPS; i++)
		x->group[i].base = -1;
	x->s1_group = -1;
}

/* After an instruction: what it means to the groups. */
void
xl_group_end(struct xl *x)
{
	unsigned w = xl_gpr_written(x->in);
	int64_t by;

	for (; w != 0; w &= w - 1) {
		unsigned r = (unsigned)__builtin_ctz(w);
		bool known = xl_delta(x->in, r, &by);

		if (known)
			x->delta[r] += by;
		known = known && x->delta[r] > -(1 << 28) &&
		    x->delta[r] < 1 << 28;
		for (unsigned i = 0; i < XL_GROUPS; i++) {
			struct xl_group *g = &x->group[i];

			if ((g->base == (int)r && !known) ||
			    g->index == (int)r)
				g->base = -1;
		}
		if (!known)
			x->delta[r] = 0;
	}
}

/* String instructions: C does them (str.c). */
bool
xl_string(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_site s = { .kind = CODE_S_STR,
		.off = (uint16_t)x->page_off };
	unsigned size = in->zi.opcode & 1 ? in->opsize : 1;

	switch (in->zi.opcode) {
	case 0xa4: case 0xa5:
		s.n = CODE_STR_MOVS;
		break;
	case 0xa6: case 0xa7:
		s.n = CODE_STR_CMPS;
		break;
	case 0xaa: case 0xab:
		s.n = CODE_STR_STOS;
		break;
	case 0xae: case 0xaf:
		s.n = CODE_STR_SCAS;
		break;
	default:
		return false;
	}
	if (!x->is64 || in->addrsize != 8)
		return false;
	for (unsigned i = 0; i < in->zi.operand_count; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_MEMORY &&
		    (in->op[i].mem.segment == ZYDIS_REGISTER_FS ||
		    in->op[i].mem.segment == ZYDIS_REGISTER_GS))
			return false;
	s.n |= (uint8_t)__builtin_ctz(size);
	if (in->rep || in->repne)
		s.n |= CODE_STR_REP;
	if (in->repne)
		s.n |= CODE_STR_NE;
	xl_written(x, 0xffff);
	xl_save(x);
	x->live = false;
	x->recipe = NULL;
	s.rel = x->o->pos + 8 + (uint32_t)sizeof(s);
	xl_site(x->o, &s);
	/* The vector state is where it was; host addresses may not be. */
	xl_group_drop(x);
	return true;
}
