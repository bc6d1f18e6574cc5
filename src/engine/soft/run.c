/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run loop: events, one instruction at a time by the executor, exits.
 */
#include <pthread.h>
#include <signal.h>

#include "engine/soft/soft_int.h"

static uint64_t run_poison;
static pthread_once_t run_once = PTHREAD_ONCE_INIT;

/* A thunk's fault is the guest's; any other is our own bug. */
static void
run_signal(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	if (!soft_thunk_signal(uc))
		(void)signal(sig, SIG_DFL);
}

static void
run_signals(void)
{
	static const int sigs[] = { SIGFPE, SIGSEGV, SIGBUS, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = run_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER };

	for (unsigned i = 0; i < BASE_ARRAY_LEN(sigs); i++)
		(void)sigaction(sigs[i], &sa, NULL);
}

void
soft_kick(struct soft_cpu *cpu)
{
	atomic_store(&cpu->exit_request, 1);
}

bool
soft_unkick(struct soft_cpu *cpu)
{
	if (atomic_load_explicit(&cpu->exit_request, memory_order_relaxed) == 0)
		return false;
	atomic_store(&cpu->exit_request, 0);
	return true;
}

int
soft_cache_create(struct soft_vm *vm)
{
	vm->cache = &run_poison;
	(void)pthread_once(&run_once, run_signals);
	return 0;
}

void
soft_cache_destroy(struct soft_vm *vm)
{
	vm->cache = NULL;
}

void
soft_cache_invalidate(struct soft_vm *vm, gpa_t gpa, uint64_t len)
{
	(void)vm;
	(void)gpa;
	(void)len;
}

bool
soft_cache_has_code(struct soft_vm *vm, gpa_t gpa)
{
	(void)vm;
	(void)gpa;
	return false;
}

void
soft_jc_flush(struct soft_cpu *cpu)
{
	(void)cpu;
}

int
soft_xlate_init(struct soft_cpu *cpu)
{
	(void)cpu;
	return 0;
}

void
soft_xlate_fini(struct soft_cpu *cpu)
{
	(void)cpu;
}

int
soft_run(struct soft_cpu *cpu, struct vmm_exit *exit)
{
	int r;

	(void)exit;
	soft_enter(cpu);
	soft_kick(cpu);
	r = soft_check_events(cpu);
	while (r != SOFT_EXIT && r >= 0) {
		if (soft_step_needed(cpu)) {
			r = soft_step_one(cpu);
		} else {
			r = soft_step(cpu);
			if (soft_smc_sync(cpu) && r == SOFT_OK)
				r = SOFT_FLUSH;
		}
		if (r == SOFT_FAULT)
			r = soft_deliver(cpu);
		if (r == SOFT_FLUSH || (r == SOFT_OK && atomic_load_explicit(
		    &cpu->exit_request, memory_order_relaxed) != 0))
			r = soft_check_events(cpu);
	}
	soft_leave(cpu);
	return r < 0 ? r : 0;
}
