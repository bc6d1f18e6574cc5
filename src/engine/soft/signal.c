/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Signals that the host raises in generated code.
 *
 * A fault there is either the guest's (division, alignment, a numeric
 * exception, an undefined instruction) or a poll after a kick.  Both are at
 * places that code_find_fault() knows: the handler writes the guest's state
 * as it is before that instruction into the soft_cpu and goes on at
 * soft_code_out; the run loop looks for events, or has the executor run the
 * instruction, which raises the exception with all it needs.
 *
 * Anything else is handed to the handler that was there before us, or dies.
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "engine/soft/code_int.h"

static const int signal_nos[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
static struct sigaction signal_old[NSIG];
static __thread struct soft_cpu *signal_cpu;

void
signal_thread(struct soft_cpu *cpu)
{
	signal_cpu = cpu;
}

static bool
signal_code(struct soft_cpu *cpu, ucontext_t *uc)
{
	static const int regs[12] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
		REG_R12, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
		REG_R11 };
	greg_t *g = uc->uc_mcontext.gregs;
	const struct code_fault *f;
	uint64_t rip;

	if (cpu == NULL || !code_contains(cpu, (uint64_t)g[REG_RIP]))
		return false;
	f = code_find_fault(cpu, (uint64_t)g[REG_RIP]);
	if (f == NULL || (!f->poll && g[REG_TRAPNO] == SOFT_EXC_PF))
		return false;
	if (f->cold != 0) {
		cpu->st.host_faults++;
		g[REG_RIP] = (greg_t)(cpu->code_base + f->cold);
		return true;
	}
	for (unsigned i = 0; i < BASE_ARRAY_LEN(regs); i++)
		cpu->gpr[i] = (uint64_t)g[regs[i]];
	cpu->shadow_rsp = (uint64_t)g[REG_RSP];
	cpu->flags_saved = f->live ? (uint32_t)g[REG_EFL] & SOFT_FL_ARITH :
	    code_flags_of_image(cpu->lahf_image);
	rip = cpu->page_va + f->off;
	cpu->rip = cpu->mode_key & SOFT_KEY_L ? rip : rip & 0xffffffff;
	cpu->out_why = f->poll ? CODE_LOOKUP : CODE_STEP;
	cpu->st.host_faults++;
	g[REG_RIP] = (greg_t)(uintptr_t)soft_code_out;
	return true;
}

static void
signal_handler(int sig, siginfo_t *si, void *uc)
{
	const struct sigaction *old = &signal_old[sig];

	if (soft_thunk_signal(uc) || signal_code(signal_cpu, uc))
		return;
	if ((old->sa_flags & SA_SIGINFO) != 0 && old->sa_sigaction != NULL) {
		old->sa_sigaction(sig, si, uc);
		return;
	}
	if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
		old->sa_handler(sig);
		return;
	}
	/* It comes again, and nobody is there. */
	(void)signal(sig, SIG_DFL);
	if (si->si_code <= 0)
		(void)raise(sig);
}

static void
signal_install(void)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = signal_handler;
	sa.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	for (unsigned i = 0; i < BASE_ARRAY_LEN(signal_nos); i++)
		(void)sigaction(signal_nos[i], &sa,
		    &signal_old[signal_nos[i]]);
}

void
signal_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, signal_install);
}
