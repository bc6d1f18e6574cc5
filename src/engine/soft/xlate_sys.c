/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: system instructions that are inline, LOCK, bits of memory.
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
	if (r >= 12)
		return false;
	xl_mem(x);
	xl_written(x, 1u << r);
	reg = xl_value(x, (unsigned)r);
	xl_ref(x, w, 0x8b, EMIT_S2);
	xl_ref(x, w, 0x89, reg);
	emit_mov(o, w, reg, EMIT_S2);
	return true;
}

/* --- bits of memory ------------------------------------------------------ */

/*
 * BT, BTS, BTR and BTC with a bit number in a register, which selects a word
 * beside the address; the host's sees the number within that word.
 */
bool
xl_bit(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_out *o = x->o;
	struct xl_addr a = { .form = XL_A_LINEAR, .n = in->opsize,
		.write = (in->mem_access & VMM_PROT_WRITE) != 0 };
	bool w = in->opsize == 8;
	uint32_t at;
	int r;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		break;
	default:
		return false;
	}
	if (!x->is64 || in->addrsize != 8 || in->memop != 0 ||
	    (in->opsize != 4 && in->opsize != 8) ||
	    in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER || !xl_ea_ok(x))
		return false;
	r = soft_gpr_number(in->op[1].reg.value);
	if (r < 0)
		return false;
	xl_clobber(x);
	at = o->pos;
	xl_ea(x, EMIT_S0);
	if (in->mem_seg >= VMM_SEG_FS)
		emit_gs(o, true, 0x03, EMIT_S0, EMIT_CPU(seg_base) +
		    8 * in->mem_seg);
	/* mov or movsxd r14, reg */
	emit_rr(o, true, w ? 0x8b : 0x63, EMIT_S1, xl_value(x, (unsigned)r));
	emit_n(o, "\x49\xc1\xfe\x03", 4); /* sar r14, 3 */
	emit_n(o, "\x49\x83\xe6", 3);     /* and r14, imm8 */
	emit_1(o, (uint8_t)-in->opsize);
	emit_rr(o, true, 0x01, EMIT_S1, EMIT_S0);
	xl_access(x, &a);
	x->cold[x->ncold - 1].hot = at;
	emit_rr(o, true, 0x01, EMIT_S1, EMIT_S0); /* its host address */
	emit_mov(o, false, EMIT_S1, xl_value(x, (unsigned)r));
	emit_n(o, "\x41\x83\xe6", 3); /* and r14d, imm8 */
	emit_1(o, in->opsize * 8u - 1);
	xl_restore(x);
	if (in->lock) {
		xl_fault(x, false);
		emit_1(o, 0xf0);
	}
	emit_1(o, w ? 0x4d : 0x45);
	emit_1(o, 0x0f);
	emit_1(o, in->zi.opcode);
	emit_n(o, "\x75\x00", 2); /* [r13], r14 */
	x->live = true;
	x->saved = false;
	x->recipe = NULL;
	return true;
}

/* --- system instructions ------------------------------------------------- */

#define XL_Z 4u	/* condition codes */
#define XL_NZ 5u
#define XL_A 7u
#define XL_CPL(x) (((x)->key & SOFT_KEY_CPL) >> 3)

/* op dword gs:[off], imm32 (op: the reg field of opcode 81). Clobbers flags. */
static void
xl_gs_imm(struct xl *x, unsigned op, int32_t off, uint32_t imm)
{
	emit_gs(x->o, false, 0x81, op, off);
	emit_4(x->o, imm);
}

/* jcc to the executor, which runs this instruction */
static void
xl_exec_cc(struct xl *x, unsigned cc)
{
	struct xl_cold *c = xl_cold(x, XL_C_SITE, CODE_S_EXEC);

	emit_1(x->o, 0x0f);
	emit_1(x->o, 0x80 | cc);
	c->from = x->o->pos;
	emit_4(x->o, 0);
}

/* cmp byte gs:[off], 0, and to the executor if it is not 0 */
static void
xl_exec_unless0(struct xl *x, int32_t off)
{
	emit_gs(x->o, false, 0x80, 7, off);
	emit_1(x->o, 0);
	xl_exec_cc(x, XL_NZ);
}

/* test dword gs:[off], imm, and to the executor by cc */
static void
xl_exec_test(struct xl *x, int32_t off, uint32_t imm, unsigned cc)
{
	emit_gs(x->o, false, 0xf7, 0, off);
	emit_4(x->o, imm);
	xl_exec_cc(x, cc);
}

/* mov dword gs:[off], imm */
static void
xl_gs_set(struct xl *x, int32_t off, uint32_t imm)
{
	emit_gs(x->o, false, 0xc7, 0, off);
	emit_4(x->o, imm);
}

/* General register r from host register, which may be S0 to S2. */
static void
xl_result(struct xl *x, unsigned r, unsigned host)
{
	if (r >= 12)
		emit_gs_st(x->o, host, EMIT_GPR(r));
	else
		emit_mov(x->o, true, r == 4 ? EMIT_SP : r, host);
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
	emit_gs_ld(o, EMIT_S2, EMIT_CPU(scratch));
	xl_push_reg(x, EMIT_S2);
}

/*
 * C does it (fast.c), the vector state where it is.  The block ends if
 * `ends`; otherwise nothing of what it knows about registers and addresses
 * outlives the call.  S0 is the argument.
 */
static bool
xl_fast(struct xl *x, enum code_fast fn, bool ends)
{
	struct code_site s = { .kind = CODE_S_FAST, .n = (uint8_t)fn,
		.off = (uint16_t)x->page_off, .sp = x->in->len };

	xl_written(x, 0xffff);
	xl_save(x);
	x->live = false;
	x->recipe = NULL;
	s.rel = x->o->pos + 8 + (uint32_t)sizeof(s);
	xl_site(x->o, &s);
	x->fpu = false;
	xl_group_drop(x);
	x->done = ends;
	return true;
}

/*
 * POPFQ.  What changes more than IF and the arithmetic flags is for the
 * executor, and so is opening the door to an interrupt that waits.
 */
bool
xl_popf(struct xl *x)
{
	struct code_out *o = x->o;
	uint32_t same = SOFT_FL_TF | SOFT_FL_DF | SOFT_FL_NT | SOFT_FL_AC |
	    SOFT_FL_ID;

	if (!x->is64 || x->last)
		return false;
	xl_top_check(x, 4);
	xl_written(x, 1u << 4);
	xl_save(x);
	x->live = false;
	xl_ref(x, true, 0x8b, EMIT_S0);
	if (XL_CPL(x) == 0)
		same |= SOFT_FL_IOPL;
	else
		xl_exec_test(x, EMIT_CPU(rflags_sys), SOFT_FL_IOPL, XL_NZ);
	emit_mov(o, false, EMIT_S1, EMIT_S0);
	emit_gs(o, false, 0x33, EMIT_S1, EMIT_CPU(rflags_sys));
	emit_n(o, "\x41\xf7\xc6", 3); /* test r14d, imm */
	emit_4(o, same);
	xl_exec_cc(x, XL_NZ);
	if (XL_CPL(x) == 0) {
		/* IF: set by this, with something waiting? */
		emit_n(o, "\x41\x81\xe6", 3); /* and r14d, imm */
		emit_4(o, SOFT_FL_IF);
		emit_mov(o, false, EMIT_S2, EMIT_S1);
		emit_rr(o, false, 0x21, EMIT_S0, EMIT_S2); /* and r15d, r13d */
		emit_n(o, "\x74", 1); /* jz */
		emit_1(o, 0);
		{
			uint32_t at = o->pos;

			xl_exec_unless0(x, EMIT_CPU(event_check));
			xl_exec_unless0(x, EMIT_CPU(nmi_check));
			o->rw[at - 1] = (uint8_t)(o->pos - at);
		}
		emit_gs(o, false, 0x31, EMIT_S1, EMIT_CPU(rflags_sys));
	}
	/* The image: AL is OF, AH the others. */
	emit_mov(o, false, EMIT_S1, EMIT_S0);
	emit_n(o, "\x41\xc1\xee\x0b", 4); /* shr r14d, 11 */
	emit_n(o, "\x41\x83\xe6\x01", 4); /* and r14d, 1 */
	emit_n(o, "\x41\x81\xe5", 3);    /* and r13d, imm */
	emit_4(o, SOFT_FL_ARITH & 0xff);
	emit_n(o, "\x41\xc1\xe5\x08", 4); /* shl r13d, 8 */
	emit_rr(o, false, 0x09, EMIT_S0, EMIT_S1);
	emit_n(o, "\x65\x66\x44\x89\x34\x25", 6); /* mov gs:image, r14w */
	emit_4(o, (uint32_t)EMIT_CPU(lahf_image));
	emit_lea(o, true, EMIT_SP, EMIT_SP, 8);
	x->s1_group = -1;
	x->saved = true;
	x->recipe = NULL;
	return true;
}

/* RDTSC, RDTSCP */
static bool
xl_rdtsc(struct xl *x, bool aux)
{
	struct code_out *o = x->o;

	xl_written(x, aux ? 7 : 5);
	xl_clobber(x);
	if (XL_CPL(x) != 0)
		xl_exec_test(x, EMIT_CPU(cr4), SOFT_CR4_TSD, XL_NZ);
	if (aux)
		emit_n(o, "\x0f\x01\xf9", 3);
	else
		emit_n(o, "\x0f\x31", 2);
	emit_n(o, "\x48\xc1\xe2\x20", 4); /* shl rdx, 32 */
	emit_rr(o, true, 0x09, 2, 0);	    /* or rax, rdx */
	emit_gs(o, true, 0x03, 0, EMIT_CPU(tsc_offset));
	emit_mov(o, true, 2, 0);
	emit_n(o, "\x48\xc1\xea\x20", 4); /* shr rdx, 32 */
	emit_mov(o, false, 0, 0);
	if (aux)
		emit_gs(o, false, 0x8b, 1, EMIT_CPU(tsc_aux));
	return true;
}

/*
 * PAUSE.  Who spins for long waits for a vCPU that the host does not run: every
 * so often one gives the CPU away.
 */
bool
xl_pause(struct xl *x)
{
	struct code_out *o = x->o;
	struct xl_cold *c;

	xl_clobber(x);
	emit_n(o, "\xf3\x90", 2);
	emit_gs(o, false, 0x83, 5, EMIT_CPU(pauses)); /* sub dword, 1 */
	emit_1(o, 1);
	c = xl_cold(x, XL_C_SITE, CODE_S_FAST);
	c->site.n = CODE_F_PAUSE;
	c->site.sp = x->in->len;
	emit_n(o, "\x0f\x82", 2); /* jb */
	c->from = o->pos;
	emit_4(o, 0);
	c->site.rel = o->pos;
	return true;
}

/* MOV from a segment register to a general one */
static bool
xl_mov_seg(struct xl *x)
{
	const struct soft_insn *in = x->in;
	ZydisRegister b = in->op[1].reg.value;
	int r;

	if (in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    b < ZYDIS_REGISTER_ES || b > ZYDIS_REGISTER_GS)
		return false;
	r = soft_gpr_number(in->op[0].reg.value);
	if (r < 0)
		return false;
	xl_written(x, 1u << r);
	emit_n(x->o, "\x65\x44\x0f\xb7\x2c\x25", 6); /* movzx r13d, gs:sel */
	emit_4(x->o, (uint32_t)(EMIT_CPU(seg) + (int32_t)((b -
	    ZYDIS_REGISTER_ES) * sizeof(struct vmm_seg) +
	    offsetof(struct vmm_seg, selector))));
	if (in->op[0].size == 16) {
		emit_1(x->o, r >= 12 ? 0x65 : 0x66);
		if (r >= 12) {
			emit_n(x->o, "\x66\x44\x89\x2c\x25", 5);
			emit_4(x->o, (uint32_t)EMIT_GPR((unsigned)r));
		} else {
			emit_rr(x->o, false, 0x89, EMIT_S0,
			    r == 4 ? EMIT_SP : (unsigned)r);
		}
		return true;
	}
	xl_result(x, (unsigned)r, EMIT_S0);
	return true;
}

/*
 * XSAVE, XSAVEOPT and XRSTOR by the host's own, where the whole area lies in
 * one page and only x87, SSE and AVX are asked for.  What the host would take
 * and the guest's processor does not (the compacted form) is tested for; all
 * other faults are the host's, and the executor then raises them.  XSAVEOPT
 * becomes XSAVE: the host remembers by host address what it has restored.
 */
#define XL_XSAVE_AREA 832u

bool
xl_xsave(struct xl *x)
{
	const struct soft_insn *in = x->in;
	struct code_out *o = x->o;
	bool w = in->opsize == 8, save = true;
	struct xl_addr area = { .form = XL_A_FULL, .n = 64 };
	uint32_t skip;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		w = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVEOPT:
		break;
	case ZYDIS_MNEMONIC_XRSTOR64:
		w = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_XRSTOR:
		save = false;
		break;
	default:
		return false;
	}
	/* With AVX usable XCR0 is 7. */
	if (!x->is64 || in->memop < 0 || !xl_ea_ok(x) ||
	    (x->key & (SOFT_KEY_NM | SOFT_KEY_NOSSE | SOFT_KEY_NOAVX)) != 0)
		return false;
	area.write = save;
	xl_need_fpu(x);
	xl_save(x);
	x->live = false;
	emit_n(o, "\xa9", 1); /* test eax, ~7 */
	emit_4(o, ~7u);
	xl_exec_cc(x, XL_NZ);
	emit_rr(o, false, 0x85, 2, 2);
	xl_exec_cc(x, XL_NZ);
	xl_ea(x, EMIT_S0);
	if (in->mem_seg >= VMM_SEG_FS)
		emit_gs(o, true, 0x03, EMIT_S0, EMIT_CPU(seg_base) +
		    8 * in->mem_seg);
	emit_mov(o, false, EMIT_S1, EMIT_S0);
	emit_n(o, "\x41\x81\xe6", 3); /* and r14d, imm */
	emit_4(o, (uint32_t)VMM_PAGE_MASK);
	emit_n(o, "\x41\x81\xfe", 3); /* cmp r14d, imm */
	emit_4(o, (uint32_t)VMM_PAGE_SIZE - XL_XSAVE_AREA);
	xl_exec_cc(x, XL_A);
	xl_access(x, &area);
	x->cold[x->ncold - 1].site.n |= CODE_SITE_VEC;
	emit_rr(o, true, 0x01, EMIT_S1, EMIT_S0); /* its host address */
	if (!save) {
		/* test dword [r13 + 512], ~7; then the other half and XCOMP_BV */
		emit_n(o, "\x41\xf7\x85\x00\x02\x00\x00\xf8\xff\xff\xff", 11);
		xl_exec_cc(x, XL_NZ);
		emit_n(o, "\x41\x83\xbd\x04\x02\x00\x00\x00", 8);
		xl_exec_cc(x, XL_NZ);
		emit_n(o, "\x49\x83\xbd\x08\x02\x00\x00\x00", 8);
		xl_exec_cc(x, XL_NZ);
	}
	xl_fault(x, false);
	emit_1(o, w ? 0x49 : 0x41);
	emit_n(o, save ? "\x0f\xae\x65\x00" : "\x0f\xae\x6d\x00", 4);
	if (!save)
		return true;
	/* A pointer into translated code is not for the guest: see fpu.c. */
	emit_n(o, "\xa8\x01\x74\x00", 4); /* test al, 1; jz */
	skip = o->pos;
	emit_rm(o, true, 0x8b, EMIT_S1, EMIT_S0, -1, 1, 8);
	emit_gs(o, true, 0x2b, EMIT_S1, EMIT_CPU(code_base));
	emit_n(o, "\x49\xc1\xee\x20\x75\x08", 6); /* shr r14, 32; jnz */
	emit_rm(o, true, 0x89, EMIT_S1, EMIT_S0, -1, 1, 8);
	emit_rm(o, true, 0x89, EMIT_S1, EMIT_S0, -1, 1, 16);
	o->rw[skip - 1] = (uint8_t)(o->pos - skip);
	return true;
}

/* The mode key of supervisor code with this mmu index. */
static void
xl_set_mmu(struct xl *x, enum soft_mmuidx idx)
{
	x->key = (x->key & ~(uint32_t)SOFT_KEY_MMU) | (uint32_t)idx << 5;
	xl_gs_set(x, EMIT_CPU(mode_key), x->key);
	xl_gs_set(x, EMIT_CPU(mmuidx), (uint32_t)idx);
	/* What was checked before had other rights. */
	xl_group_drop(x);
}

/* With SMAP the block goes on in another mode; without it AC means nothing to
 * a supervisor, and the executor changes it. */
static bool
xl_ac(struct xl *x, bool set)
{
	bool open = (x->key & SOFT_KEY_MMU) >> 5 == SOFT_MMU_KERNEL_AC;

	xl_clobber(x);
	if (!open)
		xl_exec_test(x, EMIT_CPU(cr4), SOFT_CR4_SMAP, XL_Z);
	if (open == set)
		return true;
	xl_gs_imm(x, set ? 1 : 4, EMIT_CPU(rflags_sys),
	    set ? SOFT_FL_AC : ~SOFT_FL_AC);
	xl_set_mmu(x, set ? SOFT_MMU_KERNEL_AC : SOFT_MMU_KERNEL);
	return true;
}

/* MOV from CR0, 2, 3 and 4, to CR2 and CR3 */
static bool
xl_mov_cr(struct xl *x)
{
	static const int32_t off[5] = { EMIT_CPU(cr0), -1, EMIT_CPU(cr2),
		EMIT_CPU(cr3), EMIT_CPU(cr4) };
	const struct soft_insn *in = x->in;
	ZydisRegister a, b;
	unsigned cr;
	int r;

	if (in->op[0].type != ZYDIS_OPERAND_TYPE_REGISTER ||
	    in->op[1].type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	a = in->op[0].reg.value;
	b = in->op[1].reg.value;
	if (b >= ZYDIS_REGISTER_CR0 && b <= ZYDIS_REGISTER_CR4) {
		cr = b - ZYDIS_REGISTER_CR0;
		r = soft_gpr_number(a);
		if (r < 0 || off[cr] < 0)
			return false;
		xl_written(x, 1u << r);
		emit_gs_ld(x->o, EMIT_S0, off[cr]);
		xl_result(x, (unsigned)r, EMIT_S0);
		return true;
	}
	r = soft_gpr_number(b);
	if (r < 0)
		return false;
	if (a == ZYDIS_REGISTER_CR2) {
		emit_gs_st(x->o, xl_value(x, (unsigned)r), EMIT_CPU(cr2));
		return true;
	}
	if (a != ZYDIS_REGISTER_CR3)
		return false;
	xl_save(x);
	emit_mov(x->o, true, EMIT_S0, xl_value(x, (unsigned)r));
	return xl_fast(x, CODE_F_CR3, true);
}

/* RDFSBASE and its kin */
static bool
xl_base(struct xl *x, unsigned seg, bool write)
{
	struct code_out *o = x->o;
	int32_t off = EMIT_CPU(seg_base) + 8 * (int32_t)seg;
	bool w = x->in->opsize == 8;
	int r = soft_gpr_number(x->in->op[0].reg.value);

	if (r < 0)
		return false;
	if (!write)
		xl_written(x, 1u << r);
	xl_clobber(x);
	xl_exec_test(x, EMIT_CPU(cr4), SOFT_CR4_FSGSBASE, XL_Z);
	if (!write) {
		emit_gs(o, w, 0x8b, EMIT_S0, off);
		xl_result(x, (unsigned)r, EMIT_S0);
		return true;
	}
	emit_mov(o, w, EMIT_S0, xl_value(x, (unsigned)r));
	if (w) {
		/* canonical? */
		emit_mov(o, true, EMIT_S1, EMIT_S0);
		emit_n(o, "\x49\xc1\xe6\x10", 4); /* shl r14, 16 */
		emit_n(o, "\x49\xc1\xfe\x10", 4); /* sar r14, 16 */
		emit_rr(o, true, 0x39, EMIT_S0, EMIT_S1);
		xl_exec_cc(x, XL_NZ);
	}
	emit_gs_st(o, EMIT_S0, off);
	emit_gs_st(o, EMIT_S0, EMIT_CPU(seg) + (int32_t)
	    (seg * sizeof(struct vmm_seg) + offsetof(struct vmm_seg, base)));
	/* Groups are never off FS or GS. */
	return true;
}

static bool
xl_invlpg(struct xl *x)
{
	if (!xl_ea_ok(x))
		return false;
	xl_save(x);
	xl_ea(x, EMIT_S0);
	if (x->in->mem_seg >= VMM_SEG_FS)
		emit_gs(x->o, true, 0x03, EMIT_S0, EMIT_CPU(seg_base) +
		    8 * x->in->mem_seg);
	x->live = false;
	return xl_fast(x, CODE_F_INVLPG, true);
}

static bool
xl_swapgs(struct xl *x)
{
	int32_t gs = EMIT_CPU(seg_base) + 8 * VMM_SEG_GS;

	emit_gs_ld(x->o, EMIT_S1, gs);
	emit_gs_ld(x->o, EMIT_S2, EMIT_CPU(kernel_gs_base));
	emit_gs_st(x->o, EMIT_S1, EMIT_CPU(kernel_gs_base));
	emit_gs_st(x->o, EMIT_S2, gs);
	emit_gs_st(x->o, EMIT_S2, EMIT_CPU(seg) + (int32_t)(VMM_SEG_GS *
	    sizeof(struct vmm_seg) + offsetof(struct vmm_seg, base)));
	return true;
}

/* Those that CPL 0 alone may use. */
static bool
xl_privileged(struct xl *x)
{
	switch (x->in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLI:
		xl_clobber(x);
		xl_gs_imm(x, 4, EMIT_CPU(rflags_sys), ~SOFT_FL_IF);
		return true;
	case ZYDIS_MNEMONIC_STI:
		return xl_sti(x);
	case ZYDIS_MNEMONIC_SWAPGS:
		return xl_swapgs(x);
	case ZYDIS_MNEMONIC_STAC:
		return xl_ac(x, true);
	case ZYDIS_MNEMONIC_CLAC:
		return xl_ac(x, false);
	case ZYDIS_MNEMONIC_INVLPG:
		return xl_invlpg(x);
	case ZYDIS_MNEMONIC_WRMSR:
		return xl_fast(x, CODE_F_WRMSR, false);
	case ZYDIS_MNEMONIC_RDMSR:
		return xl_fast(x, CODE_F_RDMSR, false);
	case ZYDIS_MNEMONIC_SYSRET:
		return x->in->opsize == 8 && xl_fast(x, CODE_F_SYSRET, true);
	case ZYDIS_MNEMONIC_IRETQ:
		return xl_fast(x, CODE_F_IRETQ, true);
	default:
		return false;
	}
}

bool
xl_sys(struct xl *x)
{
	switch (x->in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLD:
		xl_clobber(x);
		xl_gs_imm(x, 4, EMIT_CPU(rflags_sys), ~SOFT_FL_DF);
		return true;
	case ZYDIS_MNEMONIC_STD:
		xl_clobber(x);
		xl_gs_imm(x, 1, EMIT_CPU(rflags_sys), SOFT_FL_DF);
		return true;
	default:
		break;
	}
	if (!x->is64)
		return false;
	switch (x->in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_SYSCALL:
		return xl_fast(x, CODE_F_SYSCALL, true);
	case ZYDIS_MNEMONIC_MOV:
		if (xl_mov_seg(x))
			return true;
		return XL_CPL(x) == 0 && xl_mov_cr(x);
	case ZYDIS_MNEMONIC_RDTSC:
		return xl_rdtsc(x, false);
	case ZYDIS_MNEMONIC_RDTSCP:
		return x->o->rdtscp && xl_rdtsc(x, true);
	case ZYDIS_MNEMONIC_RDFSBASE:
		return xl_base(x, VMM_SEG_FS, false);
	case ZYDIS_MNEMONIC_RDGSBASE:
		return xl_base(x, VMM_SEG_GS, false);
	case ZYDIS_MNEMONIC_WRFSBASE:
		return xl_base(x, VMM_SEG_FS, true);
	case ZYDIS_MNEMONIC_WRGSBASE:
		return xl_base(x, VMM_SEG_GS, true);
	default:
		return XL_CPL(x) == 0 && xl_privileged(x);
	}
}
