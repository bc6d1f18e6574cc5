/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/lock.h"

#include <errno.h>
#include <time.h>

#include "base/check.h"

#ifndef NDEBUG
#define LOCK_MAXHELD 16
static _Thread_local const struct lock *lock_held[LOCK_MAXHELD];
static _Thread_local unsigned lock_nheld;

static void
lock_note_acquire(const struct lock *l)
{
	for (unsigned i = 0; i < lock_nheld; i++)
		KASSERT(lock_held[i]->rank < l->rank,
		    "%s (rank %u) taken while holding %s (rank %u)", l->name,
		    l->rank, lock_held[i]->name, lock_held[i]->rank);
	KASSERT(lock_nheld < LOCK_MAXHELD, "too many locks held");
	lock_held[lock_nheld++] = l;
}

static void
lock_note_release(const struct lock *l)
{
	for (unsigned i = lock_nheld; i-- > 0;) {
		if (lock_held[i] != l)
			continue;
		for (; i + 1 < lock_nheld; i++)
			lock_held[i] = lock_held[i + 1];
		lock_nheld--;
		return;
	}
	KASSERT(0, "%s released but not held", l->name);
}

int
lock_owned(const struct lock *l)
{
	for (unsigned i = 0; i < lock_nheld; i++)
		if (lock_held[i] == l)
			return 1;
	return 0;
}
#else
static inline void lock_note_acquire(const struct lock *l) { (void)l; }
static inline void lock_note_release(const struct lock *l) { (void)l; }
int
lock_owned(const struct lock *l)
{
	(void)l;
	return 1;
}
#endif

void
lock_init(struct lock *l, const char *name, uint32_t rank)
{
	pthread_mutex_init(&l->m, NULL);
	l->name = name;
	l->rank = rank;
}

void
lock_fini(struct lock *l)
{
	pthread_mutex_destroy(&l->m);
}

void
lock_acquire(struct lock *l) LOCK_NO_ANALYSIS
{
	lock_note_acquire(l);
	pthread_mutex_lock(&l->m);
}

void
lock_release(struct lock *l) LOCK_NO_ANALYSIS
{
	lock_note_release(l);
	pthread_mutex_unlock(&l->m);
}

void
lock_cond_init(struct lock_cond *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&c->c, &a);
	pthread_condattr_destroy(&a);
}

void
lock_cond_fini(struct lock_cond *c)
{
	pthread_cond_destroy(&c->c);
}

int
lock_cond_wait(struct lock_cond *c, struct lock *l, int64_t ns)
{
	struct timespec ts;

	if (ns < 0)
		return -pthread_cond_wait(&c->c, &l->m);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	ns += ts.tv_nsec;
	ts.tv_sec += ns / 1000000000;
	ts.tv_nsec = ns % 1000000000;
	return -pthread_cond_timedwait(&c->c, &l->m, &ts);
}

void
lock_cond_broadcast(struct lock_cond *c)
{
	pthread_cond_broadcast(&c->c);
}
