/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One thread for each vCPU, and the main thread's loop over signals, console
 * and an eventfd.  All ways out lead through vmm_suspend(): the vCPU threads
 * see it and end, the last one wakes the main loop, which joins them.
 *
 * SIGTERM (and SIGINT where Ctrl-C is not the guest's) presses the power
 * button; if the guest has not switched off after poweroff.timeout seconds,
 * or on a second signal, the machine ends hard.
 */
#include "hyve/run.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "hyve/config.h"
#include "hyve/console.h"
#include "hyve/serial.h"

#define RUN_DEBUG_PORT 0xf4
#define RUN_STALL_MIN 4 /* ms */
#define RUN_STALL_MAX 256

struct run_vcpu {
	struct run *run;
	struct vmm_vcpu *vcpu;
	pthread_t thread;
	unsigned id;
	unsigned stall_ms; /* how long it waits for memory; 0: it does not */
};

static void
run_signal_set(sigset_t *set)
{
	static const int sigs[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP,
		SIGCONT };

	sigemptyset(set);
	for (size_t i = 0; i < BASE_ARRAY_LEN(sigs); i++)
		sigaddset(set, sigs[i]);
}

void
run_block_signals(void)
{
	sigset_t set;

	run_signal_set(&set);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* a swap file at its limit is full, no more */
}

static void
run_wake(void *arg)
{
	struct run *r = arg;

	(void)eventfd_write(r->wake_fd, 1);
}

/* --- exits ------------------------------------------------------------- */

static void
run_io(struct run *r, struct vmm_exit *ex)
{
	uint16_t port = ex->u.io.port;
	uint64_t mask = (1ul << 8 * ex->u.io.bytes) - 1;

	if (serial_owns(r->com1, port)) {
		serial_io(r->com1, ex);
	} else if (r->debug_exit && port == RUN_DEBUG_PORT && !ex->u.io.in) {
		int none = -1;

		(void)atomic_compare_exchange_strong(&r->debug_status, &none,
		    (int)((ex->u.io.data & mask) << 1 | 1) & 0xff);
		(void)vmm_suspend(r->vmm, VMM_SUSPEND_POWEROFF);
	} else if (ex->u.io.in) {
		ex->u.io.data = (uint32_t)mask; /* nobody drives the bus */
	}
}

static void
run_fail(struct run *r, const char *why)
{
	const char *none = NULL;

	(void)atomic_compare_exchange_strong(&r->why, &none, why);
	(void)vmm_suspend(r->vmm, VMM_SUSPEND_ERROR);
}

/*
 * Memory cannot be had: swap is full or cannot be read.  Nothing is made up
 * and nothing is lost: the vCPU waits and tries again, for the limit may be
 * raised, or the disk come back.
 */
static void
run_stall(struct run_vcpu *rv, const struct vmm_exit *ex)
{
	if (rv->stall_ms == 0) {
		rv->stall_ms = RUN_STALL_MIN;
		log_warn("vCPU %u waits for memory at gpa %#lx: %s", rv->id,
		    ex->u.memfail.gpa, strerror(-ex->u.memfail.error));
	} else if (rv->stall_ms < RUN_STALL_MAX) {
		rv->stall_ms *= 2;
	}
	(void)usleep(rv->stall_ms * 1000);
}

/* => false: the vCPU is done */
static bool
run_exit(struct run_vcpu *rv, struct vmm_exit *ex)
{
	struct run *r = rv->run;
	int none = VMM_SUSPEND_NONE;

	if (rv->stall_ms != 0 && ex->reason != VMM_EXIT_MEMFAIL) {
		rv->stall_ms = 0;
		log_warn("vCPU %u goes on", rv->id);
	}

	switch (ex->reason) {
	case VMM_EXIT_INTR:
	case VMM_EXIT_NONE:
		return true;
	case VMM_EXIT_IO:
		run_io(r, ex);
		return true;
	case VMM_EXIT_MMIO:
		/* No device there: reads give ones, writes vanish. */
		if (!ex->u.mmio.write)
			ex->u.mmio.data = UINT64_MAX;
		return true;
	case VMM_EXIT_RDMSR:
	case VMM_EXIT_WRMSR:
		ex->u.msr.fault = 1;
		return true;
	case VMM_EXIT_SUSPEND:
		(void)atomic_compare_exchange_strong(&r->how, &none,
		    ex->u.suspend.how);
		return false;
	case VMM_EXIT_MEMFAIL:
		run_stall(rv, ex);
		return true;
	default:
		log_error("vCPU stopped at rip %#lx", ex->rip);
		run_fail(r, "the engine cannot go on");
		return true;
	}
}

static void *
run_vcpu(void *arg)
{
	struct run_vcpu *rv = arg;
	struct run *r = rv->run;
	struct vmm_exit ex = { .size = sizeof(ex) };
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", rv->id);
	(void)pthread_setname_np(pthread_self(), name);
	for (;;) {
		if (vmm_vcpu_run(rv->vcpu, &ex) != 0) {
			log_error("vCPU %u: %s", rv->id, vmm_errmsg(r->vmm));
			run_fail(r, "a vCPU failed");
			break;
		}
		if (!run_exit(rv, &ex))
			break;
	}
	if (atomic_fetch_sub(&r->alive, 1) == 1)
		run_wake(r);
	return NULL;
}

/* --- the main loop ------------------------------------------------------ */

struct run_loop {
	struct run *r;
	int sig_fd;
	bool asked;	   /* the guest was asked to switch off */
	int64_t deadline; /* CLOCK_MONOTONIC ms when it is too late; -1 */
};

static int64_t
run_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void
run_end(struct run_loop *l, const char *why)
{
	const char *none = NULL;

	(void)atomic_compare_exchange_strong(&l->r->why, &none, why);
	(void)vmm_suspend(l->r->vmm, VMM_SUSPEND_POWEROFF);
	console_stop(l->r->console);
}

/* Asks the guest first; who asks twice, or a guest that cannot hear, ends it. */
static void
run_ask(struct run_loop *l, const char *why)
{
	const char *none = NULL;
	int64_t s = (int64_t)config_get_number(l->r->cfg, "poweroff.timeout");

	if (l->asked || s == 0 || vmm_power_button(l->r->vmm) != 0) {
		run_end(l, why);
		return;
	}
	(void)atomic_compare_exchange_strong(&l->r->why, &none, why);
	l->asked = true;
	l->deadline = run_now_ms() + s * 1000;
}

static void
run_signal(struct run_loop *l)
{
	struct signalfd_siginfo si;

	if (read(l->sig_fd, &si, sizeof(si)) != (ssize_t)sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGTERM:
		run_ask(l, "SIGTERM");
		break;
	case SIGINT:
		run_ask(l, "SIGINT");
		break;
	case SIGHUP:
		run_end(l, "SIGHUP");
		break;
	case SIGQUIT:
		run_end(l, "SIGQUIT");
		break;
	case SIGTSTP:
		console_suspend(l->r->console);
		(void)raise(SIGSTOP);
		console_resume(l->r->console);
		break;
	default: /* SIGCONT after a SIGSTOP from elsewhere */
		console_resume(l->r->console);
		break;
	}
}

static int
run_timeout(const struct run_loop *l)
{
	int64_t left;

	if (l->deadline < 0)
		return -1;
	left = l->deadline - run_now_ms();
	return left < 0 ? 0 : (int)base_min(left, (int64_t)INT32_MAX);
}

static void
run_loop(struct run_loop *l)
{
	struct run *r = l->r;
	struct pollfd pfd[4];
	eventfd_t count;
	unsigned n;

	while (atomic_load(&r->alive) != 0) {
		pfd[0] = (struct pollfd){ l->sig_fd, POLLIN, 0 };
		pfd[1] = (struct pollfd){ r->wake_fd, POLLIN, 0 };
		n = console_poll_prepare(r->console, pfd + 2);
		if (poll(pfd, 2 + n, run_timeout(l)) < 0)
			continue;
		if (pfd[0].revents != 0)
			run_signal(l);
		if (pfd[1].revents != 0)
			(void)eventfd_read(r->wake_fd, &count);
		switch (console_poll_done(r->console, pfd + 2, n)) {
		case CONSOLE_QUIT:
			run_end(l, "ended from the console");
			break;
		case CONSOLE_CLOSED:
			run_end(l, "the console was closed");
			break;
		case CONSOLE_NONE:
			break;
		}
		serial_input(r->com1);
		if (l->deadline >= 0 && run_now_ms() >= l->deadline) {
			l->deadline = -1;
			run_end(l, "the guest did not switch off in time");
		}
	}
}

static int
run_start(struct run *r, struct run_vcpu *rv, unsigned *startedp)
{
	int error;

	for (unsigned i = 0; i < r->ncpu; i++) {
		rv[i].run = r;
		rv[i].id = i;
		rv[i].stall_ms = 0;
		error = vmm_vcpu_open(r->vmm, i, &rv[i].vcpu);
		if (error != 0)
			return error;
		atomic_fetch_add(&r->alive, 1);
		error = -pthread_create(&rv[i].thread, NULL, run_vcpu, &rv[i]);
		if (error != 0) {
			atomic_fetch_sub(&r->alive, 1);
			vmm_vcpu_close(rv[i].vcpu);
			return error;
		}
		*startedp = i + 1;
	}
	return 0;
}

static int
run_report(struct run *r)
{
	static const char *const text[] = {
		[VMM_SUSPEND_RESET] = "reset",
		[VMM_SUSPEND_POWEROFF] = "powered off",
		[VMM_SUSPEND_HALT] = "halted",
		[VMM_SUSPEND_TRIPLEFAULT] = "triple fault",
		[VMM_SUSPEND_ERROR] = "error",
		[VMM_SUSPEND_DESTROY] = "destroyed",
	};
	int how = atomic_load(&r->how);
	int status = atomic_load(&r->debug_status);
	const char *why = atomic_load(&r->why);

	if (how < VMM_SUSPEND_RESET || how > VMM_SUSPEND_DESTROY)
		how = VMM_SUSPEND_ERROR;
	if (status >= 0) {
		fprintf(stderr, "hyve: %s: debug exit, status %d\n",
		    vmm_name(r->vmm), status);
		return status;
	}
	fprintf(stderr, "hyve: %s: %s%s%s%s\n", vmm_name(r->vmm), text[how],
	    why != NULL ? " (" : "", why != NULL ? why : "",
	    why != NULL ? ")" : "");
	return how == VMM_SUSPEND_DESTROY ? VMM_SUSPEND_POWEROFF : how;
}

int
run_machine(struct run *r)
{
	struct run_loop l = { .r = r, .deadline = -1 };
	struct run_vcpu rv[VMM_MAXCPU];
	unsigned started = 0;
	sigset_t set;
	int error;

	atomic_store(&r->how, VMM_SUSPEND_NONE);
	atomic_store(&r->debug_status, -1);
	run_signal_set(&set);
	l.sig_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l.sig_fd < 0 || r->wake_fd < 0) {
		log_error("%s", strerror(errno));
		return VMM_SUSPEND_ERROR;
	}
	console_set_wake(r->console, run_wake, r);
	error = console_start(r->console, vmm_name(r->vmm));
	if (error == 0)
		error = run_start(r, rv, &started);
	if (error != 0) {
		log_error("cannot start a vCPU: %s", strerror(-error));
		run_fail(r, "no thread for a vCPU");
	}
	run_loop(&l);
	console_stop(r->console);
	for (unsigned i = 0; i < started; i++) {
		pthread_join(rv[i].thread, NULL);
		vmm_vcpu_close(rv[i].vcpu);
	}
	console_destroy(r->console);
	r->console = NULL;
	close(l.sig_fd);
	return run_report(r);
}
