/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System instructions and exceptions as they mostly are, for generated code:
 * 64-bit mode, ordinary gates and segments, tables and stacks that the TLB
 * has.  Everything here looks first and changes the processor last; whatever
 * is not as expected is left to the executor or to event.c, which know all
 * the rules and raise the faults.
 *
 * This file is compiled for general registers only: the guest's vector state
 * stays in the host's units.
 */
#include <sys/syscall.h>

#include "engine/soft/code_int.h"
#include "engine/soft/sys_int.h"

/* Guest memory, aligned as the guest likes. */
typedef uint32_t fast_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t fast_u64 __attribute__((aligned(1), may_alias));

enum fast_result { FAST_EXEC, FAST_NEXT, FAST_JUMP };

#define FAST_MSR_DEADLINE 0x6e0u /* of the TSC */
#define FAST_MSR_EOI 0x80bu	 /* x2APIC */
#define FAST_MSR_ICR 0x830u
#define FAST_PAUSES 128u /* a few microseconds */
#define FAST_FLAGS (SOFT_FL_TF | SOFT_FL_IF | SOFT_FL_DF | SOFT_FL_IOPL | \
    SOFT_FL_NT | SOFT_FL_AC | SOFT_FL_ID)

/* n bytes of guest memory at va, if the TLB has them, or NULL. */
static void *
fast_ptr(struct soft_cpu *cpu, uint64_t va, unsigned n, unsigned idx,
    bool write)
{
	const struct soft_tlb_entry *e = &cpu->tlb[idx]
	    [(va >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];

	if ((va & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE ||
	    (write ? e->tag_w : e->tag_r) != (va & ~VMM_PAGE_MASK))
		return NULL;
	return (void *)(uintptr_t)(e->addend + va);
}

/* A descriptor of the GDT that is a segment, present and accessed. */
static bool
fast_desc(struct soft_cpu *cpu, uint16_t sel, struct seg_desc *d)
{
	const struct vmm_seg *t = &cpu->seg[VMM_SEG_GDTR];
	const fast_u32 *w;

	if ((sel & 4) != 0 || seg_null(sel) || (sel & 0xfff8u) + 7 > t->limit)
		return false;
	w = fast_ptr(cpu, t->base + (sel & 0xfff8u), 8, SOFT_MMU_KERNEL,
	    false);
	if (w == NULL)
		return false;
	*d = (struct seg_desc){ .lo = w[0], .hi = w[1] };
	return (d->hi & 0x9100) == 0x9100;
}

/* 64-bit code, not conforming, of privilege dpl */
static bool
fast_code(struct soft_cpu *cpu, uint16_t sel, unsigned dpl,
    struct vmm_seg *s)
{
	struct seg_desc d;

	if (!fast_desc(cpu, sel, &d) ||
	    (d.hi & 0x606c00) != (0x200800 | dpl << 13))
		return false;
	seg_cache(&d, sel, s);
	s->selector = (uint16_t)((sel & ~3u) | dpl);
	return true;
}

/* CS, SS, RIP and flags are set: the rest of the mode.  64-bit code, no TF. */
static void
fast_mode(struct soft_cpu *cpu, unsigned cpl)
{
	uint32_t key = (cpu->mode_key & (SOFT_KEY_PE | SOFT_KEY_NM |
	    SOFT_KEY_NOSSE | SOFT_KEY_NOAVX)) | SOFT_KEY_L | cpl << 3;

	if ((cpu->seg[VMM_SEG_SS].access & VMM_SEG_DB) != 0)
		key |= SOFT_KEY_B;
	if (cpl == 3)
		cpu->mmuidx = SOFT_MMU_USER;
	else if ((cpu->cr4 & SOFT_CR4_SMAP) != 0 &&
	    (cpu->rflags_sys & SOFT_FL_AC) != 0)
		cpu->mmuidx = SOFT_MMU_KERNEL_AC;
	else
		cpu->mmuidx = SOFT_MMU_KERNEL;
	cpu->cpl = (uint8_t)cpl;
	cpu->mode_key = key | cpu->mmuidx << 5;
}

static void
fast_flags(struct soft_cpu *cpu, uint64_t fl)
{
	cpu->flags_saved = (uint32_t)fl & SOFT_FL_ARITH;
	cpu->rflags_sys = ((uint32_t)fl & FAST_FLAGS) | 2;
}

/* The segments of SYSCALL and SYSRET. */
static void
fast_flat(struct soft_cpu *cpu, uint16_t cs, uint16_t ss, unsigned cpl)
{
	cpu->seg[VMM_SEG_CS] = (struct vmm_seg){ .limit = 0xffffffff,
		.selector = (uint16_t)((cs & ~3u) | cpl),
		.access = 0xb | VMM_SEG_S | cpl << 5 | VMM_SEG_P | VMM_SEG_G |
		VMM_SEG_L };
	cpu->seg[VMM_SEG_SS] = (struct vmm_seg){ .limit = 0xffffffff,
		.selector = ss, .access = 3 | VMM_SEG_S | cpl << 5 |
		VMM_SEG_P | VMM_SEG_G | VMM_SEG_DB };
	cpu->seg_base[VMM_SEG_CS] = cpu->seg_base[VMM_SEG_SS] = 0;
}

static enum fast_result
fast_syscall(struct soft_cpu *cpu, uint64_t next)
{
	uint16_t sel = (uint16_t)(cpu->star >> 32 & 0xfffc);
	uint64_t fl = soft_rflags(cpu) & ~(uint64_t)SOFT_FL_RF;

	if ((cpu->efer & SOFT_EFER_SCE) == 0 ||
	    (fl & ~cpu->sfmask & SOFT_FL_TF) != 0)
		return FAST_EXEC;
	cpu->gpr[VMM_REG_RCX] = next;
	cpu->gpr[VMM_REG_R11] = fl;
	cpu->rip = cpu->lstar;
	fast_flat(cpu, sel, (uint16_t)(sel + 8), 0);
	fast_flags(cpu, fl & ~cpu->sfmask);
	fast_mode(cpu, 0);
	return FAST_JUMP;
}

static enum fast_result
fast_sysret(struct soft_cpu *cpu)
{
	uint16_t sel = (uint16_t)(cpu->star >> 48);
	uint64_t fl = cpu->gpr[VMM_REG_R11], rip = cpu->gpr[VMM_REG_RCX];

	if ((cpu->efer & SOFT_EFER_SCE) == 0 || !soft_canonical(rip) ||
	    (fl & SOFT_FL_TF) != 0)
		return FAST_EXEC;
	cpu->rip = rip;
	fast_flat(cpu, (uint16_t)(sel + 16), (uint16_t)((sel + 8) | 3), 3);
	fast_flags(cpu, fl);
	fast_mode(cpu, 3);
	return FAST_JUMP;
}

static enum fast_result
fast_iretq(struct soft_cpu *cpu)
{
	const fast_u64 *f = fast_ptr(cpu, cpu->gpr[VMM_REG_RSP], 40,
	    cpu->mmuidx, false);
	uint64_t rip, fl, rsp;
	struct vmm_seg cs, ss;
	struct seg_desc d;
	unsigned cpl;
	uint16_t sel;

	if (f == NULL || (cpu->rflags_sys & SOFT_FL_NT) != 0)
		return FAST_EXEC;
	rip = f[0];
	fl = f[2];
	rsp = f[3];
	sel = (uint16_t)f[4];
	cpl = f[1] & 3;
	if (!soft_canonical(rip) || (fl & SOFT_FL_TF) != 0 ||
	    (cpl != 0 && cpl != 3) ||
	    !fast_code(cpu, (uint16_t)f[1], cpl, &cs))
		return FAST_EXEC;
	if (seg_null(sel)) {
		if (cpl == 3 || (sel & 3) != cpl)
			return FAST_EXEC;
		seg_null_ss(&ss, cpl);
	} else {
		/* writable data; it may grow down */
		if ((sel & 3) != cpl || !fast_desc(cpu, sel, &d) ||
		    (d.hi & 0x6a00) != (0x0200 | cpl << 13))
			return FAST_EXEC;
		seg_cache(&d, sel, &ss);
	}
	cpu->nmi_blocked = false;
	cpu->rip = rip;
	cpu->gpr[VMM_REG_RSP] = rsp;
	soft_set_seg(cpu, VMM_SEG_CS, &cs);
	soft_set_seg(cpu, VMM_SEG_SS, &ss);
	fast_flags(cpu, fl);
	fast_mode(cpu, cpl);
	if (cpl == 3)
		seg_drop_privileged(cpu);
	return FAST_JUMP;
}

/*
 * What Linux writes at each interrupt.  The layer above does it without the
 * pmap being left: these touch no guest memory and wait for nobody.  Whatever
 * they make pending comes with a kick.
 */
static enum fast_result
fast_apic(struct soft_cpu *cpu)
{
	uint64_t val = cpu->gpr[VMM_REG_RDX] << 32 |
	    (uint32_t)cpu->gpr[VMM_REG_RAX];

	soft_fpu_put(cpu);
	/* Refused: the executor is told so again, and raises #GP. */
	return cpu->vm->cb->wrmsr(cpu->vm->arg, cpu->id,
	    (uint32_t)cpu->gpr[VMM_REG_RCX], val) == 0 ? FAST_NEXT : FAST_EXEC;
}

/* The bases of FS and GS: what Linux writes when it switches. */
static enum fast_result
fast_msr(struct soft_cpu *cpu, bool write)
{
	uint64_t *reg, val;
	int seg = -1;

	switch ((uint32_t)cpu->gpr[VMM_REG_RCX]) {
	case 0xc0000100:
		seg = VMM_SEG_FS;
		reg = &cpu->seg[VMM_SEG_FS].base;
		break;
	case 0xc0000101:
		seg = VMM_SEG_GS;
		reg = &cpu->seg[VMM_SEG_GS].base;
		break;
	case 0xc0000102:
		reg = &cpu->kernel_gs_base;
		break;
	case FAST_MSR_DEADLINE:
	case FAST_MSR_EOI:
	case FAST_MSR_ICR:
		return write ? fast_apic(cpu) : FAST_EXEC;
	default:
		return FAST_EXEC;
	}
	if (!write) {
		cpu->gpr[VMM_REG_RAX] = (uint32_t)*reg;
		cpu->gpr[VMM_REG_RDX] = *reg >> 32;
		return FAST_NEXT;
	}
	val = cpu->gpr[VMM_REG_RDX] << 32 | (uint32_t)cpu->gpr[VMM_REG_RAX];
	if (!soft_canonical(val))
		return FAST_EXEC;
	*reg = val;
	if (seg >= 0)
		cpu->seg_base[seg] = val;
	return FAST_NEXT;
}

/* In long mode.  What the executor says about it is in exec_ctl.c. */
static enum fast_result
fast_cr3(struct soft_cpu *cpu, uint64_t val, uint64_t next)
{
	bool keep = false;

	if ((cpu->cr4 & SOFT_CR4_PCIDE) != 0) {
		keep = val >> 63 != 0 && (val & ~(1ul << 63)) == cpu->cr3;
		val &= ~(1ul << 63);
	}
	if (val >> cpu->phys_bits != 0)
		return FAST_EXEC;
	cpu->cr3 = val;
	if (!keep)
		soft_tlb_flush(cpu, false);
	cpu->rip = next;
	return FAST_JUMP;
}

/* No libc here. */
static void
fast_yield(struct soft_cpu *cpu)
{
	long r = SYS_sched_yield;

	__asm__ volatile("syscall" : "+a"(r) : : "rcx", "r11", "memory");
	cpu->pauses = FAST_PAUSES;
	cpu->st.yields++;
}

uint64_t
soft_fast(struct soft_cpu *cpu, const struct code_site *s, uint64_t va)
{
	uint64_t next = cpu->rip + (uint64_t)s->sp;
	enum fast_result r = FAST_EXEC;

	switch ((enum code_fast)s->n) {
	case CODE_F_SYSCALL:
		r = fast_syscall(cpu, next);
		break;
	case CODE_F_SYSRET:
		r = fast_sysret(cpu);
		break;
	case CODE_F_IRETQ:
		r = fast_iretq(cpu);
		break;
	case CODE_F_WRMSR:
		r = fast_msr(cpu, true);
		break;
	case CODE_F_RDMSR:
		r = fast_msr(cpu, false);
		break;
	case CODE_F_CR3:
		r = fast_cr3(cpu, va, next);
		break;
	case CODE_F_INVLPG:
		if (soft_canonical(va))
			soft_tlb_flush_page(cpu, va);
		cpu->rip = next;
		r = FAST_JUMP;
		break;
	case CODE_F_PAUSE:
		fast_yield(cpu);
		r = FAST_NEXT;
		break;
	}
	switch (r) {
	case FAST_NEXT:
		return cpu->code_base + s->rel;
	case FAST_JUMP:
		if ((s->n == CODE_F_CR3 || s->n == CODE_F_INVLPG) &&
		    !code_tags(cpu)) {
			cpu->out_why = CODE_LOOKUP;
			return 0;
		}
		return soft_goto(cpu);
	default:
		cpu->out_why = CODE_STEP;
		return 0;
	}
}

/* --- exceptions -------------------------------------------------------- */

bool
soft_event_fast(struct soft_cpu *cpu, const struct soft_exc *exc, bool fault)
{
	const struct vmm_seg *idt = &cpu->seg[VMM_SEG_IDTR];
	const struct vmm_seg *tr = &cpu->seg[VMM_SEG_TR];
	unsigned ist, n = 5, off;
	uint64_t rip, sp, fl;
	fast_u64 *f;
	const fast_u64 *stack;
	struct vmm_seg cs, ss;
	const fast_u32 *w;

	if (!soft_long(cpu) || exc->software || exc->vector == SOFT_EXC_DF ||
	    exc->vector * 16u + 15 > idt->limit)
		return false;
	w = fast_ptr(cpu, idt->base + exc->vector * 16u, 16, SOFT_MMU_KERNEL,
	    false);
	/* present, an interrupt or trap gate */
	if (w == NULL || (w[1] & 0x9e00) != 0x8e00)
		return false;
	rip = (uint64_t)w[2] << 32 | (w[1] & 0xffff0000u) | (w[0] & 0xffff);
	ist = w[1] & 7;
	if (!soft_canonical(rip) ||
	    !fast_code(cpu, (uint16_t)(w[0] >> 16), 0, &cs))
		return false;
	sp = cpu->gpr[VMM_REG_RSP];
	if (cpu->cpl != 0 || ist != 0) {
		off = ist != 0 ? 36 + (ist - 1) * 8 : 4;
		if ((tr->access & VMM_SEG_UNUSABLE) != 0 ||
		    off + 7 > tr->limit)
			return false;
		stack = fast_ptr(cpu, tr->base + off, 8, SOFT_MMU_KERNEL,
		    false);
		if (stack == NULL)
			return false;
		sp = *stack;
	}
	if (exc->has_error)
		n = 6;
	sp = (sp & ~15ul) - n * 8;
	f = fast_ptr(cpu, sp, n * 8, SOFT_MMU_KERNEL, true);
	if (f == NULL)
		return false;

	fl = soft_rflags(cpu) & ~(uint64_t)SOFT_FL_RF;
	if (exc->has_error)
		*f++ = exc->error;
	f[0] = cpu->rip;
	f[1] = cpu->seg[VMM_SEG_CS].selector;
	f[2] = fl | (fault ? SOFT_FL_RF : 0);
	f[3] = cpu->gpr[VMM_REG_RSP];
	f[4] = cpu->seg[VMM_SEG_SS].selector;
	if (fault && exc->vector == SOFT_EXC_PF)
		cpu->cr2 = exc->cr2;
	if (cpu->cpl != 0) {
		seg_null_ss(&ss, 0);
		soft_set_seg(cpu, VMM_SEG_SS, &ss);
	}
	soft_set_seg(cpu, VMM_SEG_CS, &cs);
	cpu->gpr[VMM_REG_RSP] = sp;
	cpu->rip = rip;
	fl &= ~(uint64_t)(SOFT_FL_TF | SOFT_FL_NT);
	if ((w[1] & 0x100) == 0)
		fl &= ~(uint64_t)SOFT_FL_IF;
	fast_flags(cpu, fl);
	fast_mode(cpu, 0);
	cpu->event.valid = false;
	cpu->tf_armed = cpu->intr_shadow = cpu->ss_shadow = false;
	return true;
}
