/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a vCPU: one loop around the engine that also sleeps through HLT,
 * waits for SIPI, takes INIT and stops for those who want the vCPU frozen.
 *
 * Two ways lead into the loop from other threads:
 *  - requests, nmi, sipi and the platform's pending interrupts are atomics.
 *    Who sets one calls vcpu_wake(), which advances wake_seq and kicks the
 *    engine.  The loop reads wake_seq BEFORE it looks at them and sleeps only
 *    while wake_seq has not moved, so no wake-up is lost; the engine's kick is
 *    sticky, so none is lost on the way into the engine either.
 *  - freezes changes under vcpu.lock and is announced by VCPU_REQ_FREEZE.
 *
 * Locks: vcpu.lock, then the platform's (intr_pending, vcpu_reset), then
 * wake_lock.  The engine runs with none of them held.
 */
#include "vmm/vcpu.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "vmm/machine_int.h"

/* The vCPU whose engine this thread is in; callbacks see it set. */
static _Thread_local struct vcpu *vcpu_inside;

uint64_t
machine_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

bool
vcpu_in_callback(void)
{
	return vcpu_inside != NULL;
}

int
vcpu_create(struct machine *m, unsigned id)
{
	struct vcpu *v = &m->vcpu[id];
	int error;

	v->m = m;
	v->id = id;
	error = m->eng->vcpu_create(m->evm, id, &v->ev);
	if (error != 0)
		return error;
	lock_init(&v->lock, "vcpu", LOCK_RANK_VCPU);
	lock_init(&v->wake_lock, "vcpu wake", LOCK_RANK_LEAF);
	lock_cond_init(&v->state_cond);
	lock_cond_init(&v->wake_cond);
	lock_acquire(&v->lock);
	vcpu_reset_locked(v, false);
	lock_release(&v->lock);
	return 0;
}

void
vcpu_destroy(struct vcpu *v)
{
	KASSERT(v->state == VCPU_IDLE, "vCPU %u destroyed while it runs",
	    v->id);
	v->m->eng->vcpu_destroy(v->ev);
	v->ev = NULL;
	lock_cond_fini(&v->wake_cond);
	lock_cond_fini(&v->state_cond);
	lock_fini(&v->wake_lock);
	lock_fini(&v->lock);
}

/* Power-on reset or INIT: only vCPU 0 runs afterwards by itself. */
void
vcpu_reset_locked(struct vcpu *v, bool init)
{
	struct machine *m = v->m;

	m->eng->vcpu_reset(v->ev, init);
	if (m->plat != NULL && m->plat->vcpu_reset != NULL)
		m->plat->vcpu_reset(m->plat_arg, v->id, init);
	v->halted = false;
	v->wait_sipi = v->id != 0;
	if (!init) {
		atomic_store(&v->sipi, 0);
		atomic_store(&v->nmi, false);
		atomic_store(&v->requests, 0);
	}
}

/* Real mode at vector:0000, as the SDM's start-up IPI. */
static int
vcpu_start(struct vcpu *v, uint8_t vector)
{
	const struct engine_ops *eng = v->m->eng;
	struct vmm_seg cs;
	int error;

	error = eng->get_seg(v->ev, VMM_SEG_CS, &cs);
	if (error != 0)
		return error;
	cs.selector = (uint16_t)(vector << 8);
	cs.base = (uint64_t)vector << 12;
	error = eng->set_seg(v->ev, VMM_SEG_CS, &cs);
	if (error == 0)
		error = eng->set_reg(v->ev, VMM_REG_RIP, 0);
	v->wait_sipi = false;
	machine_stat(v, sipis);
	return error;
}

void
vcpu_wake(struct vcpu *v)
{
	atomic_fetch_add(&v->wake_seq, 1);
	/* Pairs with vcpu_sleep(): either it sees the new wake_seq, or we see
	 * that it is asleep. */
	if (atomic_load(&v->asleep)) {
		lock_acquire(&v->wake_lock);
		lock_cond_broadcast(&v->wake_cond);
		lock_release(&v->wake_lock);
	}
	v->m->eng->vcpu_kick(v->ev);
}

/* A thread that sleeps takes tens of microseconds to come back: who was woken
 * sooner than this watches for as long the next time. */
#define VCPU_POLL_MIN 10000u
#define VCPU_POLL_MAX 100000u

static bool
vcpu_poll(struct vcpu *v, uint64_t seq, uint64_t end)
{
	do {
		for (unsigned i = 0; i < 50; i++) {
			if (atomic_load_explicit(&v->wake_seq,
			    memory_order_relaxed) != seq)
				return true;
			__builtin_ia32_pause();
		}
	} while (machine_now_ns() < end);
	return false;
}

/* Sleeps until wake_seq differs from seq. => drops and retakes vcpu.lock */
static void
vcpu_sleep(struct vcpu *v, uint64_t seq) LOCK_REQUIRES(&v->lock)
{
	uint64_t start = machine_now_ns(), ns;

	v->state = VCPU_SLEEPING;
	lock_cond_broadcast(&v->state_cond);
	lock_release(&v->lock);

	if (v->poll_ns != 0 && vcpu_poll(v, seq, start + v->poll_ns)) {
		machine_stat(v, polls);
		lock_acquire(&v->lock);
		v->state = VCPU_READY;
		machine_stat_add(v, halted_ns, machine_now_ns() - start);
		return;
	}
	lock_acquire(&v->wake_lock);
	atomic_store(&v->asleep, true);
	while (atomic_load(&v->wake_seq) == seq)
		(void)lock_cond_wait(&v->wake_cond, &v->wake_lock, -1);
	atomic_store(&v->asleep, false);
	lock_release(&v->wake_lock);

	lock_acquire(&v->lock);
	v->state = VCPU_READY;
	machine_stat(v, wakeups);
	ns = machine_now_ns() - start;
	machine_stat_add(v, halted_ns, ns);
	v->poll_ns = ns > VCPU_POLL_MAX ? 0 :
	    base_min(base_max(2 * v->poll_ns, VCPU_POLL_MIN), VCPU_POLL_MAX);
}

bool
vcpu_must_exit(struct vcpu *v)
{
	return atomic_load(&v->requests) != 0 || !machine_alive(v->m);
}

/*
 * After HLT: has something come that wakes the processor?  With interrupts
 * off only NMI and INIT do; when that holds for every vCPU of the machine
 * nothing can ever happen again, and the machine ends as halted.
 */
static bool
vcpu_awakened(struct vcpu *v) LOCK_REQUIRES(&v->lock)
{
	struct machine *m = v->m;
	uint64_t rflags = 0, blocked = 0;
	uint32_t bit = 1u << v->id;

	(void)m->eng->get_reg(v->ev, VMM_REG_RFLAGS, &rflags);
	if (atomic_load(&v->nmi)) {
		(void)m->eng->get_reg(v->ev, VMM_REG_NMI_BLOCKED, &blocked);
		if (blocked == 0)
			return true;
	}
	if ((rflags & 0x200) != 0)
		return m->plat != NULL && m->plat->intr_pending != NULL &&
		    m->plat->intr_pending(m->plat_arg, v->id) >= 0;
	if ((atomic_fetch_or(&m->dead, bit) | bit) == (1u << m->ncpu) - 1)
		(void)machine_suspend(m, VMM_SUSPEND_HALT, -1);
	return false;
}

static void
vcpu_fill_suspend(struct machine *m, struct vmm_exit *ex)
{
	uint64_t s = atomic_load(&m->suspend);

	ex->reason = VMM_EXIT_SUSPEND;
	ex->rip = 0;
	ex->u.suspend.how = (int32_t)(uint32_t)s;
	ex->u.suspend.status = (int32_t)(s >> 32);
}

/* An exit that the program answers and the engine has not yet seen answered. */
static bool
vcpu_unanswered(const struct vmm_exit *ex)
{
	return ex->reason == VMM_EXIT_IO || ex->reason == VMM_EXIT_MMIO ||
	    ex->reason == VMM_EXIT_RDMSR || ex->reason == VMM_EXIT_WRMSR;
}

/*
 * One turn before the engine is entered.
 * => 1: enter the engine; 0: look again; 2: *ex is filled, leave; -errno
 */
static int
vcpu_prepare(struct vcpu *v, struct vmm_exit *ex,
    bool answering) LOCK_REQUIRES(&v->lock)
{
	struct machine *m = v->m;
	uint64_t seq = atomic_load(&v->wake_seq);
	uint32_t req, sipi;

	if (v->freezes != 0) {
		v->state = VCPU_PARKED;
		lock_cond_broadcast(&v->state_cond);
		(void)lock_cond_wait(&v->state_cond, &v->lock, -1);
		v->state = VCPU_READY;
		return 0;
	}
	if (!machine_alive(m)) {
		vcpu_fill_suspend(m, ex);
		return 2;
	}
	req = atomic_load(&v->requests);
	if ((req & VCPU_REQ_INIT) != 0) {
		atomic_fetch_and(&v->requests, ~VCPU_REQ_INIT);
		machine_stat(v, inits);
		vcpu_reset_locked(v, true);
		ex->reason = VMM_EXIT_NONE;
		return 0;
	}
	/* The engine must see an answer before the record is used again. */
	if ((req & VCPU_REQ_KICK) != 0 && !answering) {
		atomic_fetch_and(&v->requests, ~VCPU_REQ_KICK);
		ex->reason = VMM_EXIT_INTR;
		return 2;
	}
	if (v->wait_sipi) {
		sipi = atomic_exchange(&v->sipi, 0);
		if (sipi != 0) {
			atomic_fetch_and(&m->dead, ~(1u << v->id));
			return vcpu_start(v, (uint8_t)sipi);
		}
		if ((atomic_fetch_or(&m->dead, 1u << v->id) |
			(1u << v->id)) == (1u << m->ncpu) - 1)
			(void)machine_suspend(m, VMM_SUSPEND_HALT, -1);
		else
			vcpu_sleep(v, seq);
		return 0;
	}
	if (v->halted) {
		if (!vcpu_awakened(v)) {
			if (machine_alive(m))
				vcpu_sleep(v, seq);
			return 0;
		}
		v->halted = false;
		atomic_fetch_and(&m->dead, ~(1u << v->id));
	}
	return 1;
}

/* => true: the exit is for the program */
static bool
vcpu_handle_exit(struct vcpu *v, struct vmm_exit *ex) LOCK_REQUIRES(&v->lock)
{
	switch (ex->reason) {
	case VMM_EXIT_INTR:
		machine_stat(v, exits_intr);
		return false;
	case VMM_EXIT_HLT:
		machine_stat(v, exits_hlt);
		v->halted = true;
		return false;
	case VMM_EXIT_SUSPEND:
		/* The loop sees it, and reports the reason that came first. */
		(void)machine_suspend(v->m,
		    (enum vmm_suspend)ex->u.suspend.how,
		    ex->u.suspend.status);
		return false;
	case VMM_EXIT_IO:
		machine_stat(v, exits_io);
		break;
	case VMM_EXIT_MMIO:
		machine_stat(v, exits_mmio);
		break;
	default:
		break;
	}
	machine_stat(v, exits_user);
	return true;
}

int
vcpu_run(struct machine *m, unsigned id, struct vmm_exit *ex)
{
	struct vcpu *v;
	bool answering;
	int rc;

	if (id >= m->ncpu || ex->size != sizeof(*ex))
		return -EINVAL;
	if (vcpu_in_callback())
		return -EDEADLK;
	v = &m->vcpu[id];
	lock_acquire(&v->lock);
	if (v->state != VCPU_IDLE) {
		lock_release(&v->lock);
		return -EBUSY;
	}
	v->state = VCPU_READY;
	answering = vcpu_unanswered(ex);
	for (;;) {
		rc = vcpu_prepare(v, ex, answering);
		if (rc == 0)
			continue;
		if (rc != 1)
			break;
		v->state = VCPU_RUNNING;
		lock_release(&v->lock);
		machine_stat(v, runs);
		vcpu_inside = v;
		rc = m->eng->vcpu_run(v->ev, ex);
		vcpu_inside = NULL;
		lock_acquire(&v->lock);
		v->state = VCPU_READY;
		lock_cond_broadcast(&v->state_cond);
		answering = false;
		if (rc != 0 || vcpu_handle_exit(v, ex))
			break;
	}
	v->state = VCPU_IDLE;
	lock_cond_broadcast(&v->state_cond);
	lock_release(&v->lock);
	return rc < 0 ? rc : 0;
}

void
vcpu_notify(struct machine *m, unsigned id)
{
	if (id >= m->ncpu)
		return;
	machine_stat(&m->vcpu[id], notifies);
	vcpu_wake(&m->vcpu[id]);
}

void
vcpu_nmi(struct machine *m, unsigned id)
{
	if (id >= m->ncpu)
		return;
	atomic_store(&m->vcpu[id].nmi, true);
	vcpu_wake(&m->vcpu[id]);
}

void
vcpu_init(struct machine *m, unsigned id)
{
	struct vcpu *v;

	if (id >= m->ncpu)
		return;
	v = &m->vcpu[id];
	atomic_store(&v->sipi, 0); /* an older one does not survive */
	atomic_fetch_or(&v->requests, VCPU_REQ_INIT);
	vcpu_wake(v);
}

void
vcpu_sipi(struct machine *m, unsigned id, uint8_t vector)
{
	if (id >= m->ncpu)
		return;
	atomic_store(&m->vcpu[id].sipi, 0x100u | vector);
	vcpu_wake(&m->vcpu[id]);
}

void
vcpu_kick(struct machine *m, unsigned id)
{
	if (id >= m->ncpu)
		return;
	atomic_fetch_or(&m->vcpu[id].requests, VCPU_REQ_KICK);
	vcpu_wake(&m->vcpu[id]);
}

/* Stops the vCPU and takes its lock, or gives -errno and takes nothing. */
static int
vcpu_borrow(struct machine *m, unsigned id, struct vcpu **vp)
{
	int error;

	if (id >= m->ncpu)
		return -EINVAL;
	error = freeze_vcpu(&m->vcpu[id]);
	if (error == 0)
		*vp = &m->vcpu[id];
	return error;
}

int
vcpu_get_reg(struct machine *m, unsigned id, enum vmm_reg reg, uint64_t *valp)
{
	struct vcpu *v;
	int error = vcpu_borrow(m, id, &v);

	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	error = m->eng->get_reg(v->ev, reg, valp);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	return error;
}

int
vcpu_set_reg(struct machine *m, unsigned id, enum vmm_reg reg, uint64_t val)
{
	struct vcpu *v;
	int error = vcpu_borrow(m, id, &v);

	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	error = m->eng->set_reg(v->ev, reg, val);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	vcpu_wake(v); /* RFLAGS.IF may have opened */
	return error;
}

int
vcpu_get_seg(struct machine *m, unsigned id, enum vmm_segreg seg,
    struct vmm_seg *segp)
{
	struct vcpu *v;
	int error = vcpu_borrow(m, id, &v);

	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	error = m->eng->get_seg(v->ev, seg, segp);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	return error;
}

int
vcpu_set_seg(struct machine *m, unsigned id, enum vmm_segreg seg,
    const struct vmm_seg *segp)
{
	struct vcpu *v;
	int error = vcpu_borrow(m, id, &v);

	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	error = m->eng->set_seg(v->ev, seg, segp);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	return error;
}

int
vcpu_get_regs(struct machine *m, unsigned id, struct vmm_regs *regs)
{
	struct vcpu *v;
	int error;

	if (regs->size != sizeof(*regs))
		return -EINVAL;
	error = vcpu_borrow(m, id, &v);
	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	for (int i = 0; i < VMM_REG_COUNT; i++)
		if (m->eng->get_reg(v->ev, (enum vmm_reg)i, &regs->reg[i]) !=
		    0)
			regs->reg[i] = 0;
	for (int i = 0; i < VMM_SEG_COUNT && error == 0; i++)
		error = m->eng->get_seg(v->ev, (enum vmm_segreg)i,
		    &regs->seg[i]);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	return error;
}

int
vcpu_gva_to_gpa(struct machine *m, unsigned id, gva_t gva, int access,
    gpa_t *gpap)
{
	struct vcpu *v;
	int error = vcpu_borrow(m, id, &v);

	if (error != 0)
		return error;
	lock_acquire(&v->lock);
	error = m->eng->gva_to_gpa(v->ev, gva, access, gpap);
	lock_release(&v->lock);
	freeze_thaw_vcpu(v);
	return error;
}
