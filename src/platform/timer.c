/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The timer queue: one thread, absolute deadlines of CLOCK_MONOTONIC; it
 * sleeps for ever when nothing is armed.  The queue's lock guards the list and
 * each timer's place in it, and ranks above the locks of the timers' owners,
 * who set and cancel with their own lock held.
 *
 * A queue with a clock of its own (tests) has no thread: timer_run().
 */
#include <errno.h>
#include <time.h>

#include "platform/platform_int.h"

uint64_t
timer_now(struct timer_queue *q)
{
	struct timespec ts;

	if (q->now != NULL)
		return q->now(q->arg);
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Runs the first timer if it is due; the lock is let go meanwhile. */
static bool
timer_fire(struct timer_queue *q, uint64_t now) LOCK_REQUIRES(&q->lock)
{
	struct timer *t = q->head;

	if (t == NULL || t->when > now)
		return false;
	q->head = t->next;
	t->armed = false;
	lock_release(&q->lock);
	t->fn(t->arg);
	lock_acquire(&q->lock);
	return true;
}

void
timer_run(struct timer_queue *q)
{
	lock_acquire(&q->lock);
	while (timer_fire(q, timer_now(q)))
		;
	lock_release(&q->lock);
}

static void *
timer_thread(void *arg)
{
	struct timer_queue *q = arg;

	lock_acquire(&q->lock);
	while (!q->stop) {
		uint64_t now = timer_now(q);

		if (!timer_fire(q, now))
			(void)lock_cond_wait(&q->cond, &q->lock, q->head == NULL ? -1 :
			    (int64_t)(q->head->when - now));
	}
	lock_release(&q->lock);
	return NULL;
}

int
timer_queue_init(struct timer_queue *q, uint64_t (*now)(void *), void *arg)
{
	lock_init(&q->lock, "timer queue", LOCK_RANK_TIMER);
	lock_cond_init(&q->cond);
	q->now = now;
	q->arg = arg;
	if (now != NULL)
		return 0;
	return -pthread_create(&q->thread, NULL, timer_thread, q);
}

void
timer_queue_fini(struct timer_queue *q)
{
	lock_acquire(&q->lock);
	q->stop = true;
	lock_cond_broadcast(&q->cond);
	lock_release(&q->lock);
	if (q->now == NULL)
		pthread_join(q->thread, NULL);
	lock_cond_fini(&q->cond);
	lock_fini(&q->lock);
}

static void
timer_unlink(struct timer_queue *q, struct timer *t) LOCK_REQUIRES(&q->lock)
{
	struct timer **tp;

	if (!t->armed)
		return;
	for (tp = &q->head; *tp != t; tp = &(*tp)->next)
		;
	*tp = t->next;
	t->armed = false;
}

void
timer_set(struct timer_queue *q, struct timer *t, uint64_t when)
{
	struct timer **tp;

	lock_acquire(&q->lock);
	timer_unlink(q, t);
	for (tp = &q->head; *tp != NULL && (*tp)->when <= when; tp = &(*tp)->next)
		;
	t->next = *tp;
	t->when = when;
	t->armed = true;
	*tp = t;
	if (q->head == t)
		lock_cond_broadcast(&q->cond);
	lock_release(&q->lock);
}

void
timer_cancel(struct timer_queue *q, struct timer *t)
{
	lock_acquire(&q->lock);
	timer_unlink(q, t);
	lock_release(&q->lock);
}
