/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run loop: events, generated code, single instructions, exits.
 *
 * This file is compiled for general registers only: the guest's vector state
 * may be live in it.  Everything that is not compiled so is called after
 * soft_fpu_put().
 */
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <asm/prctl.h>
#include <unistd.h>

#include "engine/soft/code_int.h"
#include "engine/soft/code_off.h"

_Static_assert(offsetof(struct soft_cpu, gpr) == CPU_GPR, "code_off.h");
_Static_assert(offsetof(struct soft_cpu, host_rsp) == CPU_HOST_RSP,
    "code_off.h");
_Static_assert(offsetof(struct soft_cpu, shadow_rsp) == CPU_SHADOW_RSP,
    "code_off.h");

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define RUN_EAGER true
#else
#define RUN_EAGER false
#endif

void
soft_kick(struct soft_cpu *cpu)
{
	atomic_store(&cpu->exit_request, 1);
	/* Polls load through it; the second page of nothing. */
	atomic_store(&cpu->poll_ptr, (uint64_t *)4096);
	atomic_store(&cpu->shadow_probe, CODE_PROBE_KICK);
	atomic_store(&cpu->jc_tag[0], 0);
	atomic_store(&cpu->jc_tag[1], 0);
}

bool
soft_unkick(struct soft_cpu *cpu)
{
	if (atomic_load_explicit(&cpu->exit_request, memory_order_relaxed) == 0)
		return false;
	/* In the order opposite to soft_kick(): none is lost. */
	atomic_store(&cpu->poll_ptr, &cpu->poll_ok);
	atomic_store(&cpu->shadow_probe, CODE_PROBE);
	return atomic_exchange(&cpu->exit_request, 0) != 0;
}

/* A kick leaves a tag of 0, under which nothing is found. */
static inline uint64_t
run_find(struct soft_cpu *cpu)
{
	return code_jc_find(cpu, cpu->mode_key | atomic_load_explicit(
	    &cpu->jc_tag[cpu->cpl == 3], memory_order_relaxed));
}

uint64_t
soft_goto(struct soft_cpu *cpu)
{
	uint64_t entry;

	if ((cpu->event_check && (cpu->rflags_sys & SOFT_FL_IF) != 0) ||
	    (cpu->nmi_check && !cpu->nmi_blocked)) {
		cpu->out_why = CODE_EVENT;
		return 0;
	}
	entry = run_find(cpu);
	if (entry != 0) {
		cpu->page_va = cpu->rip & ~VMM_PAGE_MASK;
		cpu->lahf_image = code_image_of_flags(cpu->flags_saved);
		return entry;
	}
	cpu->out_why = CODE_LOOKUP;
	return 0;
}

/* --- called from generated code ---------------------------------------- */

static uint64_t
run_slow(struct soft_cpu *cpu, const struct code_site *s, uint64_t va)
{
	uint64_t mask = cpu->mode_key & SOFT_KEY_L ? ~0ul : 0xfffffffful;
	uint64_t seq = cpu->pmap_seq;

	if (RUN_EAGER)
		soft_fpu_put(cpu);
	cpu->flags_saved = code_flags_of_image(cpu->lahf_image);
	cpu->rip = (cpu->page_va + s->off) & mask;
	switch (s->kind) {
	case CODE_S_READ:
	case CODE_S_WRITE:
	case CODE_S_STR:
		va = s->kind == CODE_S_STR ? soft_str(cpu, s) :
		    soft_slot_miss(cpu, s, va);
		if (va == 0 && cpu->out_why == CODE_FAULT &&
		    cpu->pmap_seq == seq &&
		    soft_event_fast(cpu, &cpu->exc, true)) {
			cpu->st.exceptions++;
			return soft_goto(cpu);
		}
		return va;
	case CODE_S_LINK:
		cpu->link_site = s;
		cpu->link_plain = s->n & CODE_LINK_PLAIN;
		cpu->out_why = CODE_LOOKUP;
		return 0;
	case CODE_S_JUMP:
		cpu->out_why = CODE_LOOKUP;
		if (soft_canonical(va)) {
			cpu->rip = va;
			va = run_find(cpu);
			if (va != 0)
				cpu->page_va = cpu->rip & ~VMM_PAGE_MASK;
			return va;
		} else {
			/* The executor knows whose fault it is. */
			cpu->gpr[4] = (cpu->gpr[4] + (uint64_t)(int64_t)s->sp) &
			    mask;
			cpu->out_why = CODE_STEP;
		}
		return 0;
	case CODE_S_FAST:
		return soft_fast(cpu, s, va);
	case CODE_S_SPLIT:
		soft_slot_store(cpu);
		return cpu->code_base + s->rel;
	case CODE_S_FPU:
		soft_fpu_get(cpu);
		return cpu->code_base + s->rel;
	default:
		cpu->out_why = CODE_STEP;
		return 0;
	}
}

uint64_t
soft_slow(struct soft_cpu *cpu, const struct code_site *s, uint64_t va)
{
	bool live = cpu->fpu_live != 0;

	va = run_slow(cpu, s, va);
	if (va != 0) {
		soft_shadow(cpu);
		/* The block goes on with what it knows. */
		if (RUN_EAGER && live)
			soft_fpu_get(cpu);
	}
	return va;
}

/* --- the loop ---------------------------------------------------------- */

static int
run_step(struct soft_cpu *cpu)
{
	int r;

	soft_fpu_put(cpu);
	r = soft_step(cpu);
	if (soft_smc_sync(cpu) && r == SOFT_OK)
		r = SOFT_FLUSH;
	return r;
}

static bool
run_can_translate(const struct soft_cpu *cpu)
{
	return (cpu->mode_key & (SOFT_KEY_L | SOFT_KEY_D)) != 0 &&
	    (cpu->mode_key & (SOFT_KEY_SEG | SOFT_KEY_TF | SOFT_KEY_PE)) ==
	    SOFT_KEY_PE && cpu->vm->translate;
}

/* Generated code until something comes up. => as soft_step() */
static int
run_code(struct soft_cpu *cpu)
{
	uint64_t entry;
	int r;

	for (;;) {
		code_join(cpu);
		if (cpu->link_entry != 0 && cpu->link_gen == code_gen(cpu)) {
			entry = cpu->link_entry;
			cpu->link_entry = 0;
		} else if (cpu->link_site != NULL ||
		    (entry = code_jc_find(cpu, code_tag(cpu))) == 0) {
			code_part(cpu);
			soft_fpu_put(cpu);
			cpu->link_entry = 0;
			r = code_lookup(cpu, &entry);
			if (r == SOFT_SLOW)
				return run_step(cpu);
			if (r != SOFT_OK)
				return r;
			continue;
		}
		if (!code_tags(cpu)) {
			code_part(cpu);
			return SOFT_OK;
		}
		if (cpu->slot_gen != code_gen(cpu)) {
			soft_slot_flush(cpu);
			cpu->slot_gen = code_gen(cpu);
		}
		cpu->page_va = cpu->rip & ~VMM_PAGE_MASK;
		cpu->lahf_image = code_image_of_flags(cpu->flags_saved);
		cpu->rflags_sys &= ~SOFT_FL_RF;
		cpu->out_why = CODE_LOOKUP;
		soft_shadow(cpu);
		soft_code_enter(cpu, entry);
		if (cpu->link_site != NULL)
			cpu->link_gen = code_gen(cpu);
		code_part(cpu);
		switch (cpu->out_why) {
		case CODE_LOOKUP:
			if (cpu->full_pos != 0) {
				soft_fpu_put(cpu);
				code_full(cpu, cpu->full_pos,
				    cpu->rip & VMM_PAGE_MASK);
				cpu->full_pos = 0;
			}
			if (atomic_load_explicit(&cpu->exit_request,
			    memory_order_relaxed) != 0)
				return SOFT_OK;
			break;
		case CODE_STEP:
			return run_step(cpu);
		case CODE_FAULT:
			return SOFT_FAULT;
		case CODE_EVENT:
			return SOFT_FLUSH;
		default:
			return SOFT_EXIT;
		}
	}
}

static void
run_gs(struct soft_cpu *cpu)
{
	if ((getauxval(AT_HWCAP2) & 2) != 0)
		__asm__ volatile("wrgsbase %0" : : "r"(cpu));
	else
		(void)syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
}

int
soft_run(struct soft_cpu *cpu, struct vmm_exit *exit)
{
	int r;

	(void)exit;
	run_gs(cpu);
	signal_thread(cpu);
	soft_cache_idle(cpu);
	soft_enter(cpu);
	soft_kick(cpu);
	r = soft_check_events(cpu);
	while (r != SOFT_EXIT && r >= 0) {
		if (soft_step_needed(cpu)) {
			soft_fpu_put(cpu);
			r = soft_step_one(cpu);
		} else if (run_can_translate(cpu)) {
			r = run_code(cpu);
		} else {
			r = run_step(cpu);
		}
		if (r == SOFT_FAULT) {
			soft_fpu_put(cpu);
			r = soft_deliver(cpu);
		}
		if (r == SOFT_FLUSH || (r == SOFT_OK && atomic_load_explicit(
		    &cpu->exit_request, memory_order_relaxed) != 0)) {
			soft_fpu_put(cpu);
			r = soft_check_events(cpu);
		}
	}
	soft_leave(cpu);
	signal_thread(NULL);
	return r < 0 ? r : 0;
}
