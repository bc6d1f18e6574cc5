/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stopping vCPUs outside the engine: for map changes (all of them) and for
 * looking inside (one).
 *
 * A vCPU is stopped when its state is not RUNNING while its freeze count is
 * not zero (VCPU-2); it need not notice if it sleeps or idles.  Freezes nest.
 * Whoever changes maps freezes in ascending order under machine.lock, and a
 * vCPU in RUNNING never waits for machine.lock (callbacks that would are
 * refused with -EDEADLK), so the wait ends.
 */
#include <errno.h>

#include "vmm/machine_int.h"

/* The kick is sticky, so this only bounds the harm of an engine's slip. */
#define FREEZE_REKICK_NS 10000000

int
freeze_vcpu(struct vcpu *v)
{
	if (vcpu_in_callback())
		return -EDEADLK;
	lock_acquire(&v->lock);
	v->freezes++;
	if (v->state == VCPU_RUNNING) {
		uint64_t start = machine_now_ns();

		machine_stat(v, freezes);
		while (v->state == VCPU_RUNNING) {
			atomic_fetch_or(&v->requests, VCPU_REQ_FREEZE);
			v->m->eng->vcpu_kick(v->ev);
			(void)lock_cond_wait(&v->state_cond, &v->lock,
			    FREEZE_REKICK_NS);
		}
		machine_stat_add(v->m, freeze_ns, machine_now_ns() - start);
	}
	lock_release(&v->lock);
	return 0;
}

void
freeze_thaw_vcpu(struct vcpu *v)
{
	lock_acquire(&v->lock);
	KASSERT(v->freezes > 0, "vCPU %u thawed twice", v->id);
	if (--v->freezes == 0) {
		atomic_fetch_and(&v->requests, ~VCPU_REQ_FREEZE);
		lock_cond_broadcast(&v->state_cond);
	}
	lock_release(&v->lock);
}

int
freeze_all(struct machine *m)
{
	int error;

	KASSERT(lock_owned(&m->lock), "freeze without the machine's lock");
	for (unsigned i = 0; i < m->ncpu; i++) {
		error = freeze_vcpu(&m->vcpu[i]);
		if (error != 0) {
			while (i-- > 0)
				freeze_thaw_vcpu(&m->vcpu[i]);
			return error;
		}
	}
	return 0;
}

void
freeze_thaw_all(struct machine *m)
{
	for (unsigned i = 0; i < m->ncpu; i++)
		freeze_thaw_vcpu(&m->vcpu[i]);
}
