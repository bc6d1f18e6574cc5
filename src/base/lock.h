/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Mutexes with ranks.  A thread may take a lock only of a rank higher than
 * every lock it holds (docs/LOCKING.md lists them); debug builds check it.
 * clang checks the annotations at build time (-Wthread-safety).
 */
#ifndef BASE_LOCK_H
#define BASE_LOCK_H

#include <pthread.h>
#include <stdint.h>

#if defined(__clang__)
#define LOCK_CAPABILITY __attribute__((capability("mutex")))
#define LOCK_ACQUIRE(x) __attribute__((acquire_capability(x)))
#define LOCK_RELEASE(x) __attribute__((release_capability(x)))
#define LOCK_REQUIRES(x) __attribute__((requires_capability(x)))
#define LOCK_NO_ANALYSIS __attribute__((no_thread_safety_analysis))
#else
#define LOCK_CAPABILITY
#define LOCK_ACQUIRE(x)
#define LOCK_RELEASE(x)
#define LOCK_REQUIRES(x)
#define LOCK_NO_ANALYSIS
#endif

/* Lowest is taken first.  Keep docs/LOCKING.md in step. */
enum lock_rank {
	LOCK_RANK_CONTROL = 10,	 /* libvmm: attach server */
	LOCK_RANK_MACHINE = 20,	 /* vmm: VM life cycle, memsegs, memmaps */
	LOCK_RANK_DEVICE = 25,	 /* device models */
	LOCK_RANK_VCPU = 30,	 /* vmm: one vCPU's state machine */
	LOCK_RANK_IOAPIC = 32,	 /* platform: I/O APIC, PIC, PIT, RTC */
	LOCK_RANK_LAPIC = 34,	 /* platform: one local APIC */
	LOCK_RANK_TIMER = 36,	 /* platform: timer queue */
	LOCK_RANK_VM_MAP = 40,	 /* vm: one map */
	LOCK_RANK_VM_OBJECT = 50, /* vm: one object */
	LOCK_RANK_VM_PAGEQ = 60, /* vm: page queues */
	LOCK_RANK_VM_SWAP = 65,	 /* vm: swap slots */
	LOCK_RANK_PMAP = 70,	 /* pmap: one pmap */
	LOCK_RANK_ENGINE = 80,	 /* engine: translation, code pages */
	LOCK_RANK_LEAF = 100,	 /* nothing is taken under it */
};

struct LOCK_CAPABILITY lock {
	pthread_mutex_t m;
	const char *name;
	uint32_t rank;
};

void lock_init(struct lock *l, const char *name, uint32_t rank);
void lock_fini(struct lock *l);
void lock_acquire(struct lock *l) LOCK_ACQUIRE(l);
void lock_release(struct lock *l) LOCK_RELEASE(l);
/* => 1 when the calling thread holds l; always 1 in builds with NDEBUG */
int lock_owned(const struct lock *l);

struct lock_cond {
	pthread_cond_t c; /* waits on CLOCK_MONOTONIC */
};
void lock_cond_init(struct lock_cond *c);
void lock_cond_fini(struct lock_cond *c);
/* => l is held on entry and on return; ns < 0 waits for ever;
 *    0, or -ETIMEDOUT; wakes without cause are possible */
int lock_cond_wait(struct lock_cond *c, struct lock *l, int64_t ns)
    LOCK_REQUIRES(l);
void lock_cond_broadcast(struct lock_cond *c);

#endif /* BASE_LOCK_H */
