/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Far JMP, CALL and RET, and IRET: through code segments and call gates,
 * within and across privilege levels, in 16, 32 and 64-bit forms.
 *
 * Each builds its new CS, stack and flags on the side and commits at the end.
 * Virtual-8086 mode and hardware task switches are not emulated: a guest that
 * wants them gets VMM_EXIT_ERROR with a line that says so.
 */
#include "engine/soft/sys_int.h"

/* Where a transfer goes. */
struct far_target {
	struct vmm_seg cs;
	uint16_t sel;
	unsigned cpl;
	bool is64;
};

static int
far_unsupported(struct soft_cpu *cpu, const char *what)
{
	return soft_exit_error(cpu, "%s is not emulated (rip 0x%lx)", what,
	    cpu->rip);
}

static int
far_check_rip(struct soft_cpu *cpu, const struct far_target *t, uint64_t rip)
{
	if (t->is64 ? !soft_canonical(rip) : rip > t->cs.limit)
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	return SOFT_OK;
}

/* The code segment of sel, already known to be one, becomes a target. */
static int
far_take(struct soft_cpu *cpu, struct seg_desc *d, uint16_t sel, unsigned cpl,
    struct far_target *t)
{
	int r;

	if (!SEG_D_P(d->hi))
		return seg_fault(cpu, SOFT_EXC_NP, sel, 0);
	t->is64 = soft_long(cpu) && SEG_D_L(d->hi);
	if (t->is64 && SEG_D_DB(d->hi))
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	r = seg_accessed(cpu, d);
	if (r != SOFT_OK)
		return r;
	seg_cache(d, sel, &t->cs);
	t->sel = sel;
	t->cpl = cpl;
	return SOFT_OK;
}

/* Direct transfer to a code segment: same privilege. */
static int
far_code(struct soft_cpu *cpu, struct seg_desc *d, uint16_t sel,
    struct far_target *t)
{
	unsigned dpl = SEG_D_DPL(d->hi);

	if (seg_is_conforming(d->hi) ? dpl > cpu->cpl :
	    (sel & 3u) > cpu->cpl || dpl != cpu->cpl)
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	return far_take(cpu, d, sel, cpu->cpl, t);
}

static int
far_real(struct soft_cpu *cpu, uint16_t sel, uint64_t off)
{
	if (off > cpu->seg[VMM_SEG_CS].limit)
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	cpu->seg[VMM_SEG_CS].selector = sel;
	cpu->seg[VMM_SEG_CS].base = (uint64_t)sel << 4;
	cpu->seg_base[VMM_SEG_CS] = cpu->seg[VMM_SEG_CS].base;
	cpu->rip = off;
	soft_mode_update(cpu);
	return SOFT_FLUSH;
}

/* A call gate: what it says, and its code segment's descriptor. */
struct far_gate {
	uint16_t sel;
	uint64_t off;
	unsigned params; /* of size bytes each */
	unsigned size;	 /* 2, 4, 8 */
	struct seg_desc code;
};

static int
far_gate_read(struct soft_cpu *cpu, uint16_t sel, struct seg_desc *d,
    struct far_gate *g)
{
	unsigned dpl = SEG_D_DPL(d->hi), type = SEG_D_TYPE(d->hi);
	int r;

	if (dpl < cpu->cpl || dpl < (sel & 3u))
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	if (!SEG_D_P(d->hi))
		return seg_fault(cpu, SOFT_EXC_NP, sel, 0);
	g->sel = (uint16_t)(d->lo >> 16);
	g->off = (d->lo & 0xffff) | (d->hi & 0xffff0000u);
	g->params = d->hi & 31;
	g->size = type == SEG_SYS_CALL16 ? 2 : 4;
	if (g->size == 2)
		g->off &= 0xffff;
	if (soft_long(cpu)) {
		r = seg_read_upper(cpu, sel, SOFT_EXC_GP, d);
		if (r != SOFT_OK)
			return r;
		if ((d->hi3 & 0x1f00) != 0)
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
		g->off |= (uint64_t)d->base_hi << 32;
		g->params = 0;
		g->size = 8;
	}
	if (seg_null(g->sel))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	r = seg_read(cpu, g->sel, SOFT_EXC_GP, 0, &g->code);
	if (r != SOFT_OK)
		return r;
	if (!seg_is_code(g->code.hi) || SEG_D_DPL(g->code.hi) > cpu->cpl ||
	    (soft_long(cpu) && (!SEG_D_L(g->code.hi) ||
	    SEG_D_DB(g->code.hi))))
		return seg_fault(cpu, SOFT_EXC_GP, g->sel, 0);
	return SOFT_OK;
}

/* Reads the target of a far JMP or CALL: a code segment (*gate false) or a
 * call gate; everything else is refused. */
static int
far_lookup(struct soft_cpu *cpu, uint16_t sel, struct seg_desc *d, bool *gate)
{
	unsigned type;
	int r;

	if (seg_null(sel))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	r = seg_read(cpu, sel, SOFT_EXC_GP, 0, d);
	if (r != SOFT_OK)
		return r;
	*gate = !SEG_D_S(d->hi);
	type = SEG_D_TYPE(d->hi);
	if (!*gate)
		return seg_is_code(d->hi) ? SOFT_OK :
		    seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	if (type == SEG_SYS_CALL)
		return SOFT_OK;
	if (!soft_long(cpu)) {
		if (type == SEG_SYS_CALL16)
			return SOFT_OK;
		if (type == SEG_SYS_TASK || type == SEG_SYS_TSS ||
		    type == SEG_SYS_TSS16)
			return far_unsupported(cpu, "a hardware task switch");
	}
	return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
}

int
soft_far_jmp(struct soft_cpu *cpu, uint16_t sel, uint64_t off,
    unsigned opsize, uint64_t next_rip)
{
	struct far_target t;
	struct far_gate g;
	struct seg_desc d;
	bool gate;
	int r;

	(void)next_rip;
	off &= sys_mask(opsize);
	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return far_real(cpu, sel, off);
	r = far_lookup(cpu, sel, &d, &gate);
	if (r != SOFT_OK)
		return r;
	if (gate) {
		r = far_gate_read(cpu, sel, &d, &g);
		if (r != SOFT_OK)
			return r;
		if (!seg_is_conforming(g.code.hi) &&
		    SEG_D_DPL(g.code.hi) != cpu->cpl)
			return seg_fault(cpu, SOFT_EXC_GP, g.sel, 0);
		off = g.off;
		r = far_take(cpu, &g.code, g.sel, cpu->cpl, &t);
	} else {
		r = far_code(cpu, &d, sel, &t);
	}
	if (r == SOFT_OK)
		r = far_check_rip(cpu, &t, off);
	if (r != SOFT_OK)
		return r;
	cpu->rip = off;
	seg_commit_cs(cpu, &t.cs, t.sel, t.cpl);
	return SOFT_FLUSH;
}

/* CALL through a gate to an inner level: new stack, parameters copied. */
static int
far_call_inner(struct soft_cpu *cpu, const struct far_gate *g,
    struct far_target *t, uint64_t next_rip)
{
	struct seg_sp st, old;
	uint64_t v[36];
	uint16_t ss = 0;
	unsigned n = 0;
	int r;

	r = seg_tss_stack(cpu, t->cpl, 0, 0, &ss, &st.sp);
	if (r != SOFT_OK)
		return r;
	if (soft_long(cpu)) {
		seg_null_ss(&st.ss, t->cpl);
	} else {
		r = seg_stack(cpu, ss, t->cpl, SOFT_EXC_TS, 0, &st.ss);
		if (r != SOFT_OK)
			return r;
	}
	seg_sp_size(&st, t->is64);
	st.cpl = t->cpl;
	st.err = ss & 0xfffcu;
	v[n++] = cpu->seg[VMM_SEG_SS].selector;
	v[n++] = cpu->gpr[VMM_REG_RSP];
	if (g->params != 0) {
		uint64_t p[32];

		seg_sp_init(cpu, &old);
		r = seg_pop(cpu, &old, p, g->params, g->size);
		if (r != SOFT_OK)
			return r;
		for (unsigned i = g->params; i-- > 0;)
			v[n++] = p[i];
	}
	v[n++] = cpu->seg[VMM_SEG_CS].selector;
	v[n++] = next_rip;
	r = seg_push(cpu, &st, v, n, g->size);
	if (r != SOFT_OK)
		return r;
	soft_set_seg(cpu, VMM_SEG_SS, &st.ss);
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, st.sp);
	cpu->rip = g->off;
	seg_commit_cs(cpu, &t->cs, t->sel, t->cpl);
	return SOFT_FLUSH;
}

int
soft_far_call(struct soft_cpu *cpu, uint16_t sel, uint64_t off,
    unsigned opsize, uint64_t next_rip)
{
	uint64_t v[2] = { cpu->seg[VMM_SEG_CS].selector, next_rip };
	struct far_target t;
	struct far_gate g;
	struct seg_desc d;
	struct seg_sp st;
	unsigned dpl;
	bool gate;
	int r;

	off &= sys_mask(opsize);
	seg_sp_init(cpu, &st);
	if ((cpu->cr0 & SOFT_CR0_PE) == 0) {
		if (off > cpu->seg[VMM_SEG_CS].limit)
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		r = seg_push(cpu, &st, v, 2, opsize);
		if (r != SOFT_OK)
			return r;
		cpu->gpr[VMM_REG_RSP] =
		    seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
		return far_real(cpu, sel, off);
	}
	r = far_lookup(cpu, sel, &d, &gate);
	if (r != SOFT_OK)
		return r;
	if (gate) {
		r = far_gate_read(cpu, sel, &d, &g);
		if (r != SOFT_OK)
			return r;
		off = g.off;
		opsize = g.size;
		dpl = SEG_D_DPL(g.code.hi);
		if (seg_is_conforming(g.code.hi))
			dpl = cpu->cpl;
		r = far_take(cpu, &g.code, g.sel, dpl, &t);
	} else {
		r = far_code(cpu, &d, sel, &t);
	}
	if (r == SOFT_OK)
		r = far_check_rip(cpu, &t, off);
	if (r != SOFT_OK)
		return r;
	if (t.cpl < cpu->cpl)
		return far_call_inner(cpu, &g, &t, next_rip);
	/* A gate from compatibility to 64-bit code widens the stack. */
	if (gate && t.is64)
		st.size = 8;
	r = seg_push(cpu, &st, v, 2, opsize);
	if (r != SOFT_OK)
		return r;
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	cpu->rip = off;
	seg_commit_cs(cpu, &t.cs, t.sel, t.cpl);
	return SOFT_FLUSH;
}

/* --- returns ---------------------------------------------------------- */

/* The code segment that a RET or IRET goes back to. */
static int
far_return_cs(struct soft_cpu *cpu, uint16_t sel, struct far_target *t)
{
	unsigned rpl = sel & 3u, dpl;
	struct seg_desc d;
	int r;

	if (seg_null(sel))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	r = seg_read(cpu, sel, SOFT_EXC_GP, 0, &d);
	if (r != SOFT_OK)
		return r;
	dpl = SEG_D_DPL(d.hi);
	if (!seg_is_code(d.hi) || rpl < cpu->cpl ||
	    (seg_is_conforming(d.hi) ? dpl > rpl : dpl != rpl))
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	return far_take(cpu, &d, sel, rpl, t);
}

/* The stack segment that goes with it. */
static int
far_return_ss(struct soft_cpu *cpu, uint16_t sel, const struct far_target *t,
    struct vmm_seg *ss)
{
	if (seg_null(sel) && t->is64 && t->cpl != 3 && (sel & 3u) == t->cpl) {
		seg_null_ss(ss, t->cpl);
		return SOFT_OK;
	}
	return seg_stack(cpu, sel, t->cpl, SOFT_EXC_GP, 0, ss);
}

/* Commits a return that loads a stack. */
static void
far_return_commit(struct soft_cpu *cpu, struct far_target *t, uint64_t rip,
    const struct vmm_seg *ss, uint64_t rsp)
{
	bool outer = t->cpl > cpu->cpl;
	struct seg_sp st;

	cpu->rip = rip;
	soft_set_seg(cpu, VMM_SEG_SS, ss);
	seg_commit_cs(cpu, &t->cs, t->sel, t->cpl);
	seg_sp_init(cpu, &st);
	st.sp = rsp;
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	if (outer) {
		seg_drop_privileged(cpu);
		soft_mode_update(cpu);
	}
}

int
soft_far_ret(struct soft_cpu *cpu, unsigned opsize, unsigned pop)
{
	struct far_target t;
	struct vmm_seg ss;
	struct seg_sp st;
	uint64_t v[2], w[2];
	int r;

	seg_sp_init(cpu, &st);
	r = seg_pop(cpu, &st, v, 2, opsize);
	if (r != SOFT_OK)
		return r;
	if ((cpu->cr0 & SOFT_CR0_PE) == 0) {
		r = far_real(cpu, (uint16_t)v[1], v[0]);
		if (r != SOFT_FLUSH)
			return r;
		st.sp += pop;
		cpu->gpr[VMM_REG_RSP] =
		    seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
		return SOFT_FLUSH;
	}
	r = far_return_cs(cpu, (uint16_t)v[1], &t);
	if (r != SOFT_OK)
		return r;
	if (t.cpl == cpu->cpl) {
		r = far_check_rip(cpu, &t, v[0]);
		if (r == SOFT_OK) {
			/* The pointer's width is that of the old code. */
			st.sp += pop;
			cpu->gpr[VMM_REG_RSP] =
			    seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
			cpu->rip = v[0];
			seg_commit_cs(cpu, &t.cs, t.sel, t.cpl);
			r = SOFT_FLUSH;
		}
		return r;
	}
	st.sp += pop;
	r = seg_pop(cpu, &st, w, 2, opsize);
	if (r == SOFT_OK)
		r = far_return_ss(cpu, (uint16_t)w[1], &t, &ss);
	if (r == SOFT_OK)
		r = far_check_rip(cpu, &t, v[0]);
	if (r != SOFT_OK)
		return r;
	far_return_commit(cpu, &t, v[0], &ss, w[0] + pop);
	return SOFT_FLUSH;
}

/* RFLAGS from an IRET of opsize bytes at privilege level cpl. */
static void
far_iret_flags(struct soft_cpu *cpu, uint64_t image, unsigned opsize,
    unsigned cpl)
{
	uint32_t may = SOFT_FL_ARITH | SOFT_FL_TF | SOFT_FL_DF | SOFT_FL_NT;
	uint32_t old = (uint32_t)soft_rflags(cpu);

	if (opsize > 2)
		may |= SOFT_FL_AC | SOFT_FL_ID;
	if (cpl <= (old & SOFT_FL_IOPL) >> 12)
		may |= SOFT_FL_IF;
	if (cpl == 0)
		may |= SOFT_FL_IOPL;
	soft_set_rflags(cpu, (old & ~may) | (image & may));
}

static int
far_iret_real(struct soft_cpu *cpu, unsigned opsize)
{
	struct seg_sp st;
	uint64_t v[3];
	int r;

	seg_sp_init(cpu, &st);
	r = seg_pop(cpu, &st, v, 3, opsize);
	if (r == SOFT_OK)
		r = far_real(cpu, (uint16_t)v[1], v[0]);
	if (r != SOFT_FLUSH)
		return r;
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	far_iret_flags(cpu, v[2], opsize, 0);
	return SOFT_FLUSH;
}

int
soft_iret(struct soft_cpu *cpu, unsigned opsize)
{
	bool is64 = soft_64bit(cpu), newstack;
	unsigned cpl = cpu->cpl;
	struct far_target t;
	struct vmm_seg ss;
	struct seg_sp st;
	uint64_t v[5];
	int r;

	cpu->nmi_blocked = false;
	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return far_iret_real(cpu, opsize);
	if ((cpu->rflags_sys & SOFT_FL_NT) != 0) {
		if (soft_long(cpu))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		return far_unsupported(cpu, "a hardware task switch");
	}
	seg_sp_init(cpu, &st);
	r = seg_pop(cpu, &st, v, 3, opsize);
	if (r != SOFT_OK)
		return r;
	if (!soft_long(cpu) && opsize > 2 && cpl == 0 &&
	    (v[2] & SOFT_FL_VM) != 0)
		return far_unsupported(cpu, "virtual-8086 mode");
	r = far_return_cs(cpu, (uint16_t)v[1], &t);
	if (r != SOFT_OK)
		return r;
	newstack = is64 || t.cpl > cpl;
	if (newstack) {
		r = seg_pop(cpu, &st, v + 3, 2, opsize);
		if (r == SOFT_OK)
			r = far_return_ss(cpu, (uint16_t)v[4], &t, &ss);
		if (r != SOFT_OK)
			return r;
	}
	r = far_check_rip(cpu, &t, v[0]);
	if (r != SOFT_OK)
		return r;
	far_iret_flags(cpu, v[2], opsize, cpl);
	if (newstack) {
		far_return_commit(cpu, &t, v[0], &ss, v[3]);
	} else {
		cpu->gpr[VMM_REG_RSP] =
		    seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
		cpu->rip = v[0];
		seg_commit_cs(cpu, &t.cs, t.sel, t.cpl);
	}
	return SOFT_FLUSH;
}
