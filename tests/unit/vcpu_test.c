/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of vCPUs on real threads, with an engine that runs scripts: HLT and
 * wake-up, INIT and SIPI, kicks, freezes under way, and how a machine ends.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "fake.h"
#include "vmm/machine.h"
#include "vmm/memseg.h"
#include "vmm/vcpu.h"

static _Atomic int pending[VMM_MAXCPU]; /* interrupt vectors, 0: none */
static _Atomic unsigned delivered, steps[VMM_MAXCPU];

static int
plat_pending(void *arg, unsigned vcpu)
{
	(void)arg;
	return atomic_load(&pending[vcpu]) != 0 ? pending[vcpu] : -1;
}

static int
plat_accept(void *arg, unsigned vcpu)
{
	int v = atomic_exchange(&pending[vcpu], 0);

	(void)arg;
	return v != 0 ? v : -1;
}

static const struct machine_platform_ops plat_ops = {
	.intr_pending = plat_pending,
	.intr_accept = plat_accept,
};

struct thread {
	pthread_t t;
	struct machine *m;
	unsigned id;
	struct vmm_exit ex;
	int rc;
};

static void *
thread_main(void *arg)
{
	struct thread *t = arg;

	t->ex.size = sizeof(t->ex);
	do
		t->rc = vcpu_run(t->m, t->id, &t->ex);
	while (t->rc == 0 && t->ex.reason == VMM_EXIT_INTR);
	return NULL;
}

static void
start(struct thread *t, struct machine *m, unsigned id)
{
	memset(t, 0, sizeof(*t));
	t->m = m;
	t->id = id;
	assert_int_equal(pthread_create(&t->t, NULL, thread_main, t), 0);
}

static void
finish(struct thread *t, int how)
{
	pthread_join(t->t, NULL);
	assert_int_equal(t->rc, 0);
	assert_int_equal(t->ex.reason, VMM_EXIT_SUSPEND);
	assert_int_equal(t->ex.u.suspend.how, how);
}

static void
wait_for(_Atomic unsigned *v, unsigned atleast)
{
	while (atomic_load(v) < atleast)
		sched_yield();
}

static struct machine *
make(unsigned ncpu)
{
	struct machine_config mc = {
		.name = "t",
		.ncpu = ncpu,
		.engine = &fake_engine,
	};
	struct machine *m;

	memset((void *)pending, 0, sizeof(pending));
	memset((void *)steps, 0, sizeof(steps));
	atomic_store(&delivered, 0);
	fake_step = NULL;
	assert_int_equal(machine_create(&mc, &m), 0);
	machine_set_platform(m, &plat_ops, NULL);
	return m;
}

/* HLT with interrupts on; each time it wakes, takes one interrupt. */
static bool
step_idle(struct fake_cpu *c, struct vmm_exit *ex)
{
	if (c->cb->intr_pending(c->arg, c->id) >= 0 &&
	    c->cb->intr_accept(c->arg, c->id) >= 0)
		atomic_fetch_add(&delivered, 1);
	atomic_fetch_add(&steps[c->id], 1);
	c->reg[VMM_REG_RFLAGS] |= 0x200;
	ex->reason = VMM_EXIT_HLT;
	return true;
}

static void
hlt_wakes(void **state)
{
	struct machine *m = make(1);
	struct thread t;

	(void)state;
	fake_step = step_idle;
	start(&t, m, 0);
	for (unsigned i = 1; i <= 2000; i++) {
		atomic_store(&pending[0], 32);
		vcpu_notify(m, 0);
		wait_for(&delivered, i);
	}
	/* Asleep for good: it ran no more often than it was woken. */
	assert_true(atomic_load(&steps[0]) <= 2001);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_POWEROFF, -1), 0);
	finish(&t, VMM_SUSPEND_POWEROFF);
	machine_destroy(m);
}

static bool
step_cli_hlt(struct fake_cpu *c, struct vmm_exit *ex)
{
	c->reg[VMM_REG_RFLAGS] &= ~0x200ul;
	if (c->cb->nmi_accept(c->arg, c->id))
		atomic_fetch_add(&delivered, 1);
	atomic_fetch_add(&steps[c->id], 1);
	ex->reason = VMM_EXIT_HLT;
	return true;
}

static void
all_halted_ends(void **state)
{
	struct machine *m = make(2);
	struct thread t[2];

	(void)state;
	fake_step = step_cli_hlt;
	atomic_store(&pending[0], 32); /* does not wake with IF clear */
	start(&t[1], m, 1);
	start(&t[0], m, 0);
	finish(&t[0], VMM_SUSPEND_HALT);
	finish(&t[1], VMM_SUSPEND_HALT);
	machine_destroy(m);
}

static bool
step_ap(struct fake_cpu *c, struct vmm_exit *ex)
{
	if (c->id == 0)
		return false; /* runs on */
	atomic_fetch_add(&steps[c->id], 1);
	return step_cli_hlt(c, ex);
}

static void
init_sipi(void **state)
{
	struct machine *m = make(2);
	struct thread t[2];
	struct vmm_seg cs;
	uint64_t rip;

	(void)state;
	fake_step = step_ap;
	start(&t[0], m, 0);
	start(&t[1], m, 1);
	vcpu_init(m, 1);
	wait_for(&fake_cpus[1]->inits, 1);
	assert_int_equal(atomic_load(&steps[1]), 0);
	vcpu_sipi(m, 1, 0x9a);
	wait_for(&steps[1], 1);
	assert_int_equal(vcpu_get_seg(m, 1, VMM_SEG_CS, &cs), 0);
	assert_int_equal(cs.selector, 0x9a00);
	assert_int_equal(cs.base, 0x9a000);
	assert_int_equal(vcpu_get_reg(m, 1, VMM_REG_RIP, &rip), 0);
	assert_int_equal(rip, 0);
	vcpu_sipi(m, 1, 0x10); /* runs already: ignored */
	assert_int_equal(vcpu_get_seg(m, 1, VMM_SEG_CS, &cs), 0);
	assert_int_equal(cs.base, 0x9a000);
	/* An NMI wakes it with interrupts off. */
	vcpu_nmi(m, 1);
	wait_for(&delivered, 1);
	/* INIT drops the SIPI that came before it. */
	vcpu_init(m, 1);
	wait_for(&fake_cpus[1]->inits, 2);
	unsigned n = atomic_load(&steps[1]);
	for (int i = 0; i < 100; i++)
		sched_yield();
	assert_int_equal(atomic_load(&steps[1]), n);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_RESET, -1), 0);
	finish(&t[0], VMM_SUSPEND_RESET);
	finish(&t[1], VMM_SUSPEND_RESET);
	machine_destroy(m);
}

static bool
step_triple(struct fake_cpu *c, struct vmm_exit *ex)
{
	(void)c;
	ex->reason = VMM_EXIT_SUSPEND;
	ex->u.suspend.how = VMM_SUSPEND_TRIPLEFAULT;
	ex->u.suspend.status = -1;
	return true;
}

static void
triple_fault(void **state)
{
	struct machine *m = make(1);
	struct thread t;

	(void)state;
	fake_step = step_triple;
	start(&t, m, 0);
	finish(&t, VMM_SUSPEND_TRIPLEFAULT);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_RESET, -1), -EALREADY);
	assert_int_equal(machine_suspend(m, (enum vmm_suspend)6, -1),
	    -EINVAL);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_NONE, -1), -EINVAL);
	machine_destroy(m);
}

static bool
step_io(struct fake_cpu *c, struct vmm_exit *ex)
{
	unsigned n = atomic_fetch_add(&steps[c->id], 1);

	if (n > 0) {
		/* the answer of the program */
		assert_int_equal(ex->reason, VMM_EXIT_IO);
		assert_int_equal(ex->u.io.data, n);
	}
	ex->reason = VMM_EXIT_IO;
	ex->u.io.in = 1;
	return true;
}

/* An answer reaches the engine though a kick came in between. */
static void
kick_keeps_answer(void **state)
{
	struct vmm_exit ex = { .size = sizeof(ex) };
	struct machine *m = make(1);

	(void)state;
	fake_step = step_io;
	for (unsigned i = 1; i < 100; i++) {
		assert_int_equal(vcpu_run(m, 0, &ex), 0);
		assert_int_equal(ex.reason, VMM_EXIT_IO);
		ex.u.io.data = i;
	}
	vcpu_kick(m, 0);
	/* The engine is entered with the record, and leaves by itself. */
	assert_int_equal(vcpu_run(m, 0, &ex), 0);
	assert_int_equal(ex.reason, VMM_EXIT_INTR);
	machine_destroy(m);
}

static void
run_errors(void **state)
{
	struct vmm_exit ex = { .size = sizeof(ex) };
	struct machine *m = make(1);
	struct thread t;

	(void)state;
	assert_int_equal(vcpu_run(m, 1, &ex), -EINVAL);
	ex.size--;
	assert_int_equal(vcpu_run(m, 0, &ex), -EINVAL);
	ex.size++;
	start(&t, m, 0);
	while (!atomic_load(&fake_cpus[0]->running))
		sched_yield();
	assert_int_equal(vcpu_run(m, 0, &ex), -EBUSY);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_POWEROFF, 7), 0);
	finish(&t, VMM_SUSPEND_POWEROFF);
	assert_int_equal(t.ex.u.suspend.status, 7);
	machine_destroy(m);
}

static bool
step_count(struct fake_cpu *c, struct vmm_exit *ex)
{
	(void)ex;
	atomic_fetch_add(&steps[c->id], 1);
	c->reg[VMM_REG_RAX]++;
	c->reg[VMM_REG_RBX]++;
	return false;
}

static void *
peeker(void *arg)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	struct machine *m = arg;

	for (int i = 0; i < 300; i++) {
		assert_int_equal(vcpu_get_regs(m, (unsigned)i % 4, &regs), 0);
		/* between two instructions, always */
		assert_int_equal(regs.reg[VMM_REG_RAX],
		    regs.reg[VMM_REG_RBX]);
	}
	return NULL;
}

/* Four vCPUs run while two threads look inside and one moves a window. */
static void
freeze_stress(void **state)
{
	struct machine *m = make(4);
	struct thread t[4];
	pthread_t p[2];

	(void)state;
	fake_step = step_count;
	assert_int_equal(memseg_setup(m, 1 << 20, 0), 0);
	for (unsigned i = 0; i < 4; i++)
		start(&t[i], m, i);
	for (unsigned i = 1; i < 4; i++) {
		vcpu_init(m, i);
		vcpu_sipi(m, i, 1);
	}
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&p[i], NULL, peeker, m), 0);
	for (int i = 0; i < 300; i++) {
		assert_int_equal(memseg_mmap(m, 1ul << 30, VMM_SYSMEM, 0,
		    1 << 20, VMM_PROT_READ, 0), 0);
		assert_int_equal(memseg_munmap(m, 1ul << 30, 1 << 20), 0);
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_join(p[i], NULL);
	for (unsigned i = 0; i < 4; i++)
		wait_for(&steps[i], atomic_load(&steps[i]) + 1);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_POWEROFF, -1), 0);
	for (unsigned i = 0; i < 4; i++)
		finish(&t[i], VMM_SUSPEND_POWEROFF);
	machine_destroy(m);
}

static struct machine *callback_machine;
static _Atomic int callback_error;

static bool
step_callback(struct fake_cpu *c, struct vmm_exit *ex)
{
	uint64_t v;

	(void)c;
	(void)ex;
	atomic_store(&callback_error,
	    vcpu_get_reg(callback_machine, 0, VMM_REG_RAX, &v));
	atomic_fetch_add(&steps[0], 1);
	return false;
}

static void
no_freeze_from_callback(void **state)
{
	struct machine *m = callback_machine = make(1);
	struct thread t;

	(void)state;
	fake_step = step_callback;
	start(&t, m, 0);
	wait_for(&steps[0], 1);
	assert_int_equal(atomic_load(&callback_error), -EDEADLK);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_POWEROFF, -1), 0);
	finish(&t, VMM_SUSPEND_POWEROFF);
	machine_destroy(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hlt_wakes),
		cmocka_unit_test(all_halted_ends),
		cmocka_unit_test(init_sipi),
		cmocka_unit_test(triple_fault),
		cmocka_unit_test(kick_keeps_answer),
		cmocka_unit_test(run_errors),
		cmocka_unit_test(freeze_stress),
		cmocka_unit_test(no_freeze_from_callback),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
