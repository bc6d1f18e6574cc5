/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions, interrupts and what happens between instructions.
 *
 * event_enter() delivers one event through the IVT or IDT.  It builds the
 * frame on the side and commits last, so a fault on the way (a bad gate, a
 * stack that is not there) leaves the processor as it was, with cpu->exc set;
 * event_deliver() then combines the two by the architecture's table: another
 * exception, #DF, or shutdown.
 *
 * A delivery may also be broken off by an exit (a page of the stack that is
 * being paged in while the VM is suspended).  An interrupt has been taken from
 * its controller by then, so the event is kept in cpu->event and delivered
 * first when the vCPU runs again.
 */
#include "base/log.h"
#include "engine/soft/sys_int.h"

/* What a delivery needs to know. */
struct event_frame {
	uint8_t kind;
	uint8_t vector;
	bool has_error;
	uint32_t error;
	uint32_t ext; /* EXT bit for the errors of the delivery itself */
	uint64_t rip, rflags;
};

/* --- one delivery ----------------------------------------------------- */

static int
event_enter_real(struct soft_cpu *cpu, const struct event_frame *f)
{
	const struct vmm_seg *idt = &cpu->seg[VMM_SEG_IDTR];
	uint64_t v[3] = { f->rflags, cpu->seg[VMM_SEG_CS].selector, f->rip };
	struct vmm_seg cs = cpu->seg[VMM_SEG_CS];
	uint16_t entry[2];
	struct seg_sp st;
	int r;

	if (f->vector * 4u + 3 > idt->limit)
		return soft_raise(cpu, SOFT_EXC_GP);
	r = soft_read(cpu, (idt->base + f->vector * 4u) & 0xffffffff, entry,
	    4, true);
	if (r != SOFT_OK)
		return r;
	seg_sp_init(cpu, &st);
	r = seg_push(cpu, &st, v, 3, 2);
	if (r != SOFT_OK)
		return r;
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	cs.selector = entry[1];
	cs.base = (uint64_t)entry[1] << 4;
	soft_set_seg(cpu, VMM_SEG_CS, &cs);
	cpu->rip = entry[0];
	soft_set_rflags(cpu, f->rflags & ~(uint64_t)(SOFT_FL_IF | SOFT_FL_TF |
	    SOFT_FL_AC | SOFT_FL_RF));
	return SOFT_FLUSH;
}

/* A gate of the IDT, checked as far as the handler's code segment. */
struct event_gate {
	unsigned type;
	unsigned ist;
	uint64_t rip;
	uint16_t sel;
	unsigned cpl; /* of the handler */
	struct seg_desc code;
};

static int
event_gate_read(struct soft_cpu *cpu, const struct event_frame *f,
    struct event_gate *g)
{
	const struct vmm_seg *idt = &cpu->seg[VMM_SEG_IDTR];
	uint32_t size = soft_long(cpu) ? 16 : 8, w[4] = { 0, 0, 0, 0 };
	uint32_t err = f->vector * 8u + 2 + f->ext;
	int r;

	if (f->vector * size + size - 1 > idt->limit)
		return soft_raise_err(cpu, SOFT_EXC_GP, err);
	r = soft_read(cpu, idt->base + f->vector * size, w, size, true);
	if (r != SOFT_OK)
		return r;
	g->type = SEG_D_TYPE(w[1]);
	if (SEG_D_S(w[1]) || (g->type != SEG_SYS_INT &&
	    g->type != SEG_SYS_TRAP && (soft_long(cpu) ||
	    (g->type != SEG_SYS_TASK && g->type != SEG_SYS_INT16 &&
	    g->type != SEG_SYS_TRAP16))))
		return soft_raise_err(cpu, SOFT_EXC_GP, err);
	if (f->kind == SOFT_EV_SOFT && SEG_D_DPL(w[1]) < cpu->cpl)
		return soft_raise_err(cpu, SOFT_EXC_GP, err);
	if (!SEG_D_P(w[1]))
		return soft_raise_err(cpu, SOFT_EXC_NP, err);
	if (g->type == SEG_SYS_TASK)
		return soft_exit_error(cpu, "a task gate (vector %u) is not "
		    "emulated (rip 0x%lx)", f->vector, cpu->rip);
	g->sel = (uint16_t)(w[0] >> 16);
	g->rip = (w[0] & 0xffff) | (w[1] & 0xffff0000u);
	g->ist = 0;
	if (soft_long(cpu)) {
		g->rip |= (uint64_t)w[2] << 32;
		g->ist = w[1] & 7;
	} else if ((g->type & 8) == 0) {
		g->rip &= 0xffff;
	}
	if (seg_null(g->sel))
		return soft_raise_err(cpu, SOFT_EXC_GP, f->ext);
	r = seg_read(cpu, g->sel, SOFT_EXC_GP, f->ext, &g->code);
	if (r != SOFT_OK)
		return r;
	if (!seg_is_code(g->code.hi) || SEG_D_DPL(g->code.hi) > cpu->cpl)
		return seg_fault(cpu, SOFT_EXC_GP, g->sel, f->ext);
	if (!SEG_D_P(g->code.hi))
		return seg_fault(cpu, SOFT_EXC_NP, g->sel, f->ext);
	if (soft_long(cpu) && (!SEG_D_L(g->code.hi) || SEG_D_DB(g->code.hi)))
		return seg_fault(cpu, SOFT_EXC_GP, g->sel, f->ext);
	g->cpl = seg_is_conforming(g->code.hi) ? cpu->cpl :
	    SEG_D_DPL(g->code.hi);
	return SOFT_OK;
}

/* The stack that the handler runs on. */
static int
event_stack(struct soft_cpu *cpu, const struct event_frame *f,
    const struct event_gate *g, struct seg_sp *st)
{
	uint16_t ss = 0;
	int r;

	seg_sp_init(cpu, st);
	st->cpl = g->cpl;
	st->err = f->ext;
	if (soft_long(cpu)) {
		if (g->ist != 0 || g->cpl < cpu->cpl) {
			r = seg_tss_stack(cpu, g->cpl, g->ist, f->ext, &ss,
			    &st->sp);
			if (r != SOFT_OK)
				return r;
		}
		if (g->cpl < cpu->cpl)
			seg_null_ss(&st->ss, g->cpl);
		st->sp &= ~15ul;
		st->size = 8;
	} else if (g->cpl < cpu->cpl) {
		r = seg_tss_stack(cpu, g->cpl, 0, f->ext, &ss, &st->sp);
		if (r == SOFT_OK)
			r = seg_stack(cpu, ss, g->cpl, SOFT_EXC_TS, f->ext,
			    &st->ss);
		if (r != SOFT_OK)
			return r;
		st->err |= ss & 0xfffcu;
		seg_sp_size(st, false);
	}
	return SOFT_OK;
}

static int
event_enter(struct soft_cpu *cpu, const struct event_frame *f)
{
	struct event_gate g;
	struct seg_sp st;
	struct vmm_seg cs;
	uint64_t v[6];
	unsigned n = 0, bytes;
	uint32_t clear = SOFT_FL_TF | SOFT_FL_NT | SOFT_FL_RF | SOFT_FL_VM;
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return event_enter_real(cpu, f);
	r = event_gate_read(cpu, f, &g);
	if (r != SOFT_OK)
		return r;
	r = event_stack(cpu, f, &g, &st);
	if (r != SOFT_OK)
		return r;
	if (soft_long(cpu) ? !soft_canonical(g.rip) : false)
		return soft_raise_err(cpu, SOFT_EXC_GP, f->ext);
	bytes = soft_long(cpu) ? 8 : (g.type & 8) != 0 ? 4 : 2;
	if (soft_long(cpu) || g.cpl < cpu->cpl) {
		v[n++] = cpu->seg[VMM_SEG_SS].selector;
		v[n++] = cpu->gpr[VMM_REG_RSP];
	}
	v[n++] = f->rflags;
	v[n++] = cpu->seg[VMM_SEG_CS].selector;
	v[n++] = f->rip;
	if (f->has_error)
		v[n++] = f->error;
	r = seg_accessed(cpu, &g.code);
	if (r == SOFT_OK)
		r = seg_push(cpu, &st, v, n, bytes);
	if (r != SOFT_OK)
		return r;
	seg_cache(&g.code, g.sel, &cs);
	if (!soft_long(cpu) && g.rip > cs.limit)
		return soft_raise_err(cpu, SOFT_EXC_GP, f->ext);

	if (g.cpl < cpu->cpl)
		soft_set_seg(cpu, VMM_SEG_SS, &st.ss);
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	cpu->rip = g.rip;
	if ((g.type & 1) == 0)
		clear |= SOFT_FL_IF;
	/* The privilege level first: soft_set_rflags() looks at it. */
	seg_commit_cs(cpu, &cs, g.sel, g.cpl);
	soft_set_rflags(cpu, soft_rflags(cpu) & ~(uint64_t)clear);
	return SOFT_FLUSH;
}

/* --- double and triple faults ----------------------------------------- */

enum event_class { EVENT_BENIGN, EVENT_CONTRIBUTORY, EVENT_PAGE, EVENT_DOUBLE };

static enum event_class
event_class(const struct soft_event *e)
{
	if (e->kind != SOFT_EV_FAULT)
		return EVENT_BENIGN;
	switch (e->vector) {
	case SOFT_EXC_DE:
	case SOFT_EXC_TS:
	case SOFT_EXC_NP:
	case SOFT_EXC_SS:
	case SOFT_EXC_GP:
		return EVENT_CONTRIBUTORY;
	case SOFT_EXC_PF:
		return EVENT_PAGE;
	case SOFT_EXC_DF:
		return EVENT_DOUBLE;
	default:
		return EVENT_BENIGN;
	}
}

static int
event_shutdown(struct soft_cpu *cpu, const struct soft_event *last)
{
	log_info("vCPU %u: triple fault: vector %u error 0x%x cr2 0x%lx rip "
	    "%x:0x%lx rsp 0x%lx cr0 0x%lx cr3 0x%lx cr4 0x%lx efer 0x%lx",
	    cpu->id, last->vector, last->error, cpu->cr2,
	    cpu->seg[VMM_SEG_CS].selector, cpu->rip, cpu->gpr[VMM_REG_RSP],
	    cpu->cr0, cpu->cr3, cpu->cr4, cpu->efer);
	cpu->exit.u.suspend.how = VMM_SUSPEND_TRIPLEFAULT;
	cpu->exit.u.suspend.status = -1;
	return soft_exit(cpu, VMM_EXIT_SUSPEND);
}

static int
event_deliver(struct soft_cpu *cpu, struct soft_event e, uint64_t rip)
{
	enum event_class first, second;
	struct event_frame f;
	struct soft_event next;
	int r;

	cpu->tf_armed = false;
	if (e.kind == SOFT_EV_FAULT || e.kind == SOFT_EV_NMI ||
	    e.kind == SOFT_EV_INTR) {
		struct soft_exc exc = { .vector = e.vector,
			.has_error = e.has_error, .error = e.error,
			.cr2 = e.cr2 };

		if (soft_event_fast(cpu, &exc, e.kind == SOFT_EV_FAULT))
			return SOFT_FLUSH;
	}
	for (;;) {
		f = (struct event_frame){ .kind = e.kind, .vector = e.vector,
			.has_error = e.has_error, .error = e.error,
			.ext = e.kind != SOFT_EV_SOFT, .rip = rip,
			.rflags = soft_rflags(cpu) & ~(uint64_t)SOFT_FL_RF };
		if (e.kind == SOFT_EV_FAULT)
			f.rflags |= SOFT_FL_RF;
		if (e.kind == SOFT_EV_FAULT && e.vector == SOFT_EXC_PF)
			cpu->cr2 = e.cr2;
		if ((cpu->cr0 & SOFT_CR0_PE) == 0) {
			f.has_error = false;
			f.rflags &= ~(uint64_t)SOFT_FL_RF;
		}
		r = event_enter(cpu, &f);
		if (r == SOFT_FLUSH) {
			cpu->event.valid = false;
			cpu->intr_shadow = cpu->ss_shadow = false;
			return r;
		}
		if (r != SOFT_FAULT) {
			/* An INT n simply runs again; it kept its rip. */
			if (e.kind != SOFT_EV_SOFT &&
			    e.kind != SOFT_EV_ICEBP) {
				cpu->event = e;
				cpu->event.valid = true;
			}
			return r;
		}
		if (e.kind == SOFT_EV_SOFT || e.kind == SOFT_EV_ICEBP)
			return r;
		next = (struct soft_event){ .kind = SOFT_EV_FAULT,
			.vector = cpu->exc.vector,
			.has_error = cpu->exc.has_error,
			.error = cpu->exc.error, .cr2 = cpu->exc.cr2 };
		first = event_class(&e);
		second = event_class(&next);
		if (next.vector == SOFT_EXC_PF)
			cpu->cr2 = next.cr2;
		if (first == EVENT_DOUBLE && second != EVENT_BENIGN)
			return event_shutdown(cpu, &next);
		if ((first == EVENT_CONTRIBUTORY &&
		    second == EVENT_CONTRIBUTORY) || (first == EVENT_PAGE &&
		    (second == EVENT_CONTRIBUTORY || second == EVENT_PAGE)))
			next = (struct soft_event){ .kind = SOFT_EV_FAULT,
				.vector = SOFT_EXC_DF, .has_error = true };
		e = next;
	}
}

int
soft_deliver(struct soft_cpu *cpu)
{
	struct soft_event e = { .kind = SOFT_EV_FAULT,
		.vector = cpu->exc.vector, .has_error = cpu->exc.has_error,
		.error = cpu->exc.error, .cr2 = cpu->exc.cr2 };

	cpu->st.exceptions++;
	/* #BP and #OF that a thunk met are instructions of their own kind. */
	if (cpu->exc.software)
		e.kind = SOFT_EV_SOFT;
	return event_deliver(cpu, e, cpu->rip);
}

int
soft_int(struct soft_cpu *cpu, uint8_t vector, uint64_t next_rip, bool icebp)
{
	struct soft_event e = { .vector = vector,
		.kind = icebp ? SOFT_EV_ICEBP : SOFT_EV_SOFT };

	return event_deliver(cpu, e, next_rip);
}

/* --- between instructions --------------------------------------------- */

static int
event_kicked(struct soft_cpu *cpu)
{
	(void)soft_pmap_sync(cpu);
	cpu->event_check = cpu->nmi_check = true;
	soft_leave(cpu);
	cpu->kicked = cpu->vm->cb->must_exit(cpu->vm->arg, cpu->id);
	soft_enter(cpu);
	return cpu->kicked ? soft_exit(cpu, VMM_EXIT_INTR) : SOFT_OK;
}

static int
event_nmi(struct soft_cpu *cpu)
{
	struct soft_event e = { .kind = SOFT_EV_NMI, .vector = SOFT_EXC_NMI };
	bool have;
	int r;

	soft_leave(cpu);
	have = cpu->vm->cb->nmi_accept(cpu->vm->arg, cpu->id);
	soft_enter(cpu);
	cpu->nmi_check = have;
	if (!have)
		return SOFT_OK;
	cpu->st.interrupts++;
	cpu->nmi_blocked = true;
	r = event_deliver(cpu, e, cpu->rip);
	return r;
}

static int
event_interrupt(struct soft_cpu *cpu)
{
	struct soft_event e = { .kind = SOFT_EV_INTR };
	int vector;

	soft_leave(cpu);
	vector = cpu->vm->cb->intr_pending(cpu->vm->arg, cpu->id);
	if (vector >= 0)
		vector = cpu->vm->cb->intr_accept(cpu->vm->arg, cpu->id);
	else
		cpu->event_check = false;
	soft_enter(cpu);
	if (vector < 0)
		return SOFT_OK;
	cpu->st.interrupts++;
	e.vector = (uint8_t)vector;
	return event_deliver(cpu, e, cpu->rip);
}

int
soft_check_events(struct soft_cpu *cpu)
{
	int r;

	if (soft_unkick(cpu)) {
		r = event_kicked(cpu);
		if (r != SOFT_OK)
			return r;
	}
	if (cpu->event.valid)
		return event_deliver(cpu, cpu->event, cpu->rip);
	if (cpu->replay_armed)
		return SOFT_OK;
	if (cpu->tf_armed) {
		struct soft_event e = { .kind = SOFT_EV_TRAP,
			.vector = SOFT_EXC_DB };

		cpu->dr[6] |= 0x4000; /* BS */
		return event_deliver(cpu, e, cpu->rip);
	}
	if (cpu->intr_shadow)
		return SOFT_OK;
	if (cpu->nmi_check && !cpu->nmi_blocked) {
		r = event_nmi(cpu);
		if (r != SOFT_OK)
			return r;
	}
	if (cpu->event_check && (cpu->rflags_sys & SOFT_FL_IF) != 0)
		return event_interrupt(cpu);
	return SOFT_OK;
}

int
soft_step_one(struct soft_cpu *cpu)
{
	bool shadow = cpu->intr_shadow, ss = cpu->ss_shadow;
	bool rerun = cpu->replay_armed;
	int r;

	if (rerun) {
		cpu->replay_armed = false;
		cpu->replay_exec = cpu->st.exec + 1;
		cpu->replay_rip = cpu->rip;
	}
	cpu->intr_shadow = cpu->ss_shadow = false;
	cpu->tf_armed = (cpu->rflags_sys & SOFT_FL_TF) != 0;
	r = soft_step(cpu);
	if (soft_smc_sync(cpu) && r == SOFT_OK)
		r = SOFT_FLUSH;
	if (r == SOFT_FAULT || r < 0 ||
	    (r == SOFT_EXIT && cpu->exit.reason != VMM_EXIT_HLT)) {
		/* Not complete: what surrounds it is still to come. */
		cpu->tf_armed = false;
		cpu->intr_shadow = shadow;
		cpu->ss_shadow = ss;
		return r;
	}
	if (cpu->ss_shadow)
		cpu->tf_armed = false;
	/* The second of two MOV SS in a row holds nothing back. */
	if (shadow && cpu->intr_shadow)
		cpu->intr_shadow = cpu->ss_shadow = false;
	/* The door that was held shut is open: look who waits. */
	return (cpu->tf_armed || shadow || rerun) && r == SOFT_OK ?
	    SOFT_FLUSH : r;
}
