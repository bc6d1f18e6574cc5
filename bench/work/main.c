/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work [-j N] [-s SCALE] [-r REPEAT] [-l] [NAME | GROUP]...
 *
 * Runs workloads and prints a line for each:
 *	WORK name group unit n ns-per-unit checksum
 * -j: in N processes at once; the time is the slowest one's
 * -s: n is divided by SCALE;  -r: the best of REPEAT;  -l: lists the names
 */
#include <sys/mman.h>
#include <sys/wait.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "work.h"

static const struct work *const work_all[] = { work_int, work_fp, work_mem,
	work_comp, work_db, work_os };

void
work_die(const char *what)
{
	fprintf(stderr, "work: %s: %s\n", what, strerror(errno));
	exit(1);
}

void *
work_alloc(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		work_die("memory");
	return p;
}

void
work_text(char *buf, size_t len, uint64_t seed)
{
	static const char *const word[] = { "the", "page", "of", "guest",
		"memory", "a", "table", "and", "walks", "in", "is", "to", "map",
		"object", "entry", "when", "fault", "it", "superpage", "was",
		"for", "dirty", "on", "accessed", "that", "queue", "by",
		"hypervisor", "with", "translation", "as", "invalidates" };
	size_t at = 0;

	while (at < len) {
		uint64_t r = work_random(&seed);
		const char *w = word[(r & 31) & (r >> 8 & 31)];
		size_t n = strlen(w);

		for (size_t i = 0; i < n && at < len; i++)
			buf[at++] = w[i];
		if (at < len)
			buf[at++] = (r >> 16 & 15) == 0 ? '\n' : ' ';
		if ((r >> 20 & 7) == 0 && at + 4 <= len)
			for (int i = 0; i < 4; i++)
				buf[at++] = (char)('0' + (r >> (24 + 4 * i)) % 10);
	}
}

static uint64_t
work_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t work_started;

void
work_start(void)
{
	work_started = work_now();
}

/* => ns */
static uint64_t
work_timed(const struct work *w, uint64_t n, uint64_t *sump)
{
	work_start();
	*sump = w->run(n);
	return work_now() - work_started;
}

/* In `jobs` processes side by side. => ns of the slowest */
static uint64_t
work_parallel(const struct work *w, uint64_t n, unsigned jobs, uint64_t *sump)
{
	uint64_t *sum = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *ns = sum + 64, worst = 0;
	int status;

	if (sum == MAP_FAILED)
		work_die("memory");
	for (unsigned i = 0; i < jobs; i++) {
		pid_t pid = fork();

		if (pid < 0)
			work_die("fork");
		if (pid == 0) {
			ns[i] = work_timed(w, n, &sum[i]);
			_exit(0);
		}
	}
	for (unsigned i = 0; i < jobs; i++)
		if (wait(&status) < 0 || status != 0)
			work_die(w->name);
	for (unsigned i = 0; i < jobs; i++) {
		if (ns[i] > worst)
			worst = ns[i];
		if (sum[i] != sum[0]) {
			fprintf(stderr, "work: %s: processes disagree\n",
			    w->name);
			exit(1);
		}
	}
	*sump = sum[0];
	munmap(sum, 4096);
	return worst;
}

static void
work_one(const struct work *w, unsigned jobs, uint64_t scale, unsigned repeat)
{
	uint64_t n = w->n / scale, best = UINT64_MAX, sum = 0;

	if (w->can != NULL && !w->can()) {
		printf("WORK %s %s %s 0 0 0\n", w->name, w->group, w->unit);
		return;
	}
	if (n == 0)
		n = 1;
	for (unsigned i = 0; i < repeat; i++) {
		uint64_t t = jobs > 1 ? work_parallel(w, n, jobs, &sum) :
					work_timed(w, n, &sum);

		if (t < best)
			best = t;
	}
	printf("WORK %s %s %s %llu %.6f %016llx\n", w->name, w->group, w->unit,
	    (unsigned long long)n, (double)best / (double)n,
	    (unsigned long long)sum);
	fflush(stdout);
}

static bool
work_wanted(const struct work *w, char **arg)
{
	if (*arg == NULL)
		return true;
	for (; *arg != NULL; arg++)
		if (strcmp(*arg, w->name) == 0 || strcmp(*arg, w->group) == 0)
			return true;
	return false;
}

int
main(int argc, char **argv)
{
	unsigned long jobs = 1, scale = 1, repeat = 1;
	bool list = false;
	int c;

	/* fork+exec runs ourselves like this */
	if (argc == 2 && strcmp(argv[1], "--nothing") == 0)
		return 0;
	while ((c = getopt(argc, argv, "j:s:r:l")) != -1) {
		switch (c) {
		case 'j':
			jobs = strtoul(optarg, NULL, 10);
			break;
		case 's':
			scale = strtoul(optarg, NULL, 10);
			break;
		case 'r':
			repeat = strtoul(optarg, NULL, 10);
			break;
		case 'l':
			list = true;
			break;
		default:
			return 2;
		}
	}
	if (jobs < 1 || jobs > 64 || scale < 1 || repeat < 1)
		return 2;
	for (size_t i = 0; i < sizeof(work_all) / sizeof(work_all[0]); i++)
		for (const struct work *w = work_all[i]; w->name != NULL; w++) {
			if (!work_wanted(w, argv + optind))
				continue;
			if (list)
				printf("%s\n", w->name);
			else
				work_one(w, (unsigned)jobs, scale,
				    (unsigned)repeat);
		}
	return 0;
}
