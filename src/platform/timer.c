/* SPDX-License-Identifier: BSD-2-Clause */
/* One thread, absolute deadlines.  Sleeps for ever when nothing is armed. */
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

static void *
timer_thread(void *arg)
{
	struct timer_queue *q = arg;

	lock_acquire(&q->lock);
	while (!q->stop) {
		struct timer *t = q->head;
		uint64_t now;

		if (t == NULL) {
			(void)lock_cond_wait(&q->cond, &q->lock, -1);
			continue;
		}
		now = timer_now(q);
		if (t->when > now) {
			(void)lock_cond_wait(&q->cond, &q->lock,
			    (int64_t)(t->when - now));
			continue;
		}
		q->head = t->next;
		t->armed = false;
		lock_release(&q->lock);
		t->fn(t->arg);
		lock_acquire(&q->lock);
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
	return -pthread_create(&q->thread, NULL, timer_thread, q);
}

void
timer_queue_fini(struct timer_queue *q)
{
	lock_acquire(&q->lock);
	q->stop = true;
	lock_cond_broadcast(&q->cond);
	lock_release(&q->lock);
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
