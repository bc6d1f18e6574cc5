/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's shortage of memory, as its kernel tells it: a trigger on a
 * pressure file makes poll() say POLLPRI, at most once in a window, when tasks
 * stood still for memory long enough.  Each time a part of what is resident is
 * paged out.  Where the pages come back soon (refaults), they were needed: the
 * part is halved, down to nothing for some windows, and grows again slowly.
 */
#include "hyve/pressure.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

/* Microseconds stood still, in microseconds; windows of 2 s need no right. */
#define PRESSURE_TRIGGER "some 100000 2000000"
#define PRESSURE_HOST "/proc/pressure/memory"
#define PRESSURE_PART 16u     /* of what is resident leaves at once */
#define PRESSURE_SHIFT_MAX 6u /* halved so often: nothing leaves */
#define PRESSURE_MIN (1ul << 20)
#define PRESSURE_STATS 256u

struct pressure {
	struct vmm *vmm;
	pthread_t thread;
	int fd, stop_fd;
	unsigned shift;
	uint64_t pageouts, refaults; /* when it was looked last */
};

static uint64_t
pressure_stat(const struct vmm_stat *st, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(st[i].name, name) == 0)
			return st[i].value;
	return 0;
}

/* More than half of what left since the last time came back? */
static bool
pressure_thrashes(struct pressure *p)
{
	struct vmm_stat st[PRESSURE_STATS];
	uint64_t out, back;
	bool bad;
	unsigned n;

	if (vmm_get_stats(p->vmm, -1, st, PRESSURE_STATS, &n) != 0)
		return false;
	n = n < PRESSURE_STATS ? n : PRESSURE_STATS;
	out = pressure_stat(st, n, "vm.pageouts");
	back = pressure_stat(st, n, "vm.refaults");
	bad = (back - p->refaults) * 2 > out - p->pageouts;
	p->pageouts = out;
	p->refaults = back;
	return bad;
}

static void
pressure_relieve(struct pressure *p)
{
	struct vmm_info info = { .size = sizeof(info) };
	uint64_t want, done = 0;

	if (pressure_thrashes(p)) {
		if (p->shift < PRESSURE_SHIFT_MAX)
			p->shift++;
	} else if (p->shift > 0) {
		p->shift--;
	}
	if (p->shift == PRESSURE_SHIFT_MAX ||
	    vmm_get_info(p->vmm, &info) != 0)
		return;
	want = (info.resident / PRESSURE_PART) >> p->shift;
	if (want < PRESSURE_MIN)
		want = PRESSURE_MIN;
	if (vmm_reclaim(p->vmm, want, &done) == 0)
		log_info("the host is short of memory: %lu KB of guest memory "
			 "paged out", done >> 10);
}

static void *
pressure_watch(void *arg)
{
	struct pressure *p = arg;
	struct pollfd pfd[2] = {
		{ p->fd, POLLPRI, 0 },
		{ p->stop_fd, POLLIN, 0 },
	};

	(void)pthread_setname_np(pthread_self(), "pressure");
	for (;;) {
		if (poll(pfd, 2, -1) < 0)
			continue;
		if (pfd[1].revents != 0)
			break;
		if ((pfd[0].revents & (POLLERR | POLLNVAL)) != 0) {
			log_warn("the host's memory pressure can no longer be "
				 "watched");
			pfd[0].fd = -1;
		} else if ((pfd[0].revents & POLLPRI) != 0) {
			pressure_relieve(p);
		}
	}
	return NULL;
}

/* The pressure file of this process's control group (version 2). */
static bool
pressure_cgroup(char *path, size_t len)
{
	char line[1024];
	bool found = false;
	FILE *fp = fopen("/proc/self/cgroup", "re");

	if (fp == NULL)
		return false;
	while (!found && fgets(line, sizeof(line), fp) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		found = strncmp(line, "0::/", 4) == 0 && line[4] != '\0' &&
		    (size_t)snprintf(path, len, "/sys/fs/cgroup%s/"
		    "memory.pressure", line + 3) < len &&
		    access(path, R_OK | W_OK) == 0;
	}
	(void)fclose(fp);
	return found;
}

static int
pressure_open(const char *path)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC), error;

	if (fd < 0)
		return -errno;
	/* With its terminating null byte. */
	if (write(fd, PRESSURE_TRIGGER, sizeof(PRESSURE_TRIGGER)) < 0) {
		error = -errno;
		(void)close(fd);
		return error;
	}
	return fd;
}

int
pressure_start(struct vmm *vmm, const char *path, struct pressure **pp,
    char *err, size_t errlen)
{
	struct pressure *p = calloc(1, sizeof(*p));
	char own[1200];
	int error = -ENOMEM;

	if (path == NULL)
		path = pressure_cgroup(own, sizeof(own)) ? own : PRESSURE_HOST;
	if (p == NULL)
		goto fail;
	p->vmm = vmm;
	p->fd = error = pressure_open(path);
	if (error < 0)
		goto fail;
	p->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (p->stop_fd < 0) {
		error = -errno;
		goto fail_fd;
	}
	error = -pthread_create(&p->thread, NULL, pressure_watch, p);
	if (error == 0) {
		*pp = p;
		return 0;
	}
	(void)close(p->stop_fd);
fail_fd:
	(void)close(p->fd);
fail:
	snprintf(err, errlen, "memory pressure cannot be watched: %s: %s", path,
	    strerror(-error));
	free(p);
	return error;
}

void
pressure_stop(struct pressure *p)
{
	if (p == NULL)
		return;
	(void)eventfd_write(p->stop_fd, 1);
	(void)pthread_join(p->thread, NULL);
	(void)close(p->stop_fd);
	(void)close(p->fd);
	free(p);
}
