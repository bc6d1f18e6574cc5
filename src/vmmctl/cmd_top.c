/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * top: the machines and how they use memory, refreshed each interval; rates are
 * of the interval, the working set is what was accessed in it.  On a terminal
 * with plain ANSI sequences until q; with -b, or where output is no terminal,
 * one table after the other.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "vmmctl/vmmctl.h"

#define TOP_MAX 256 /* machines */
#define TOP_CLIENT "top"

struct top_vm {
	char name[VMM_NAME_MAX + 1];
	int pid;
	double when, cpu; /* seconds: of the clock, of processor time */
	struct vmm_ledger l;
	uint64_t kicks, accessed; /* pages */
};

struct top {
	struct ctl *ctl;
	struct top_vm *now, *old; /* TOP_MAX each */
	unsigned nnow, nold;
	double interval;
};

static volatile sig_atomic_t top_ended;

static void
top_signal(int sig)
{
	(void)sig;
	top_ended = 1;
}

/* Processor time of a process, in seconds. */
static double
top_cpu(int pid)
{
	unsigned long user = 0, sys = 0;
	char path[64], line[1024], *p;
	FILE *fp;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fp = fopen(path, "r");
	if (fp == NULL)
		return 0;
	p = fgets(line, sizeof(line), fp);
	fclose(fp);
	/* the name, in parentheses, may hold anything */
	p = p != NULL ? strrchr(line, ')') : NULL;
	if (p != NULL)
		(void)sscanf(p + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u "
		    "%lu %lu", &user, &sys);
	return (double)(user + sys) / (double)sysconf(_SC_CLK_TCK);
}

static uint64_t
top_kicks(struct vmm *vmm)
{
	struct vmm_stat st[256];
	unsigned n = 0;

	if (vmm_get_stats(vmm, -1, st, 256, &n) != 0)
		return 0;
	for (unsigned i = 0; i < n && i < 256; i++)
		if (strcmp(st[i].name, "pmap.kicks") == 0)
			return st[i].value;
	return 0;
}

static int
top_one(void *arg, const char *name)
{
	struct vmm_info info = { .size = sizeof(info) };
	struct top *t = arg;
	struct top_vm *v = &t->now[t->nnow];
	struct vmm *vmm;

	if (t->nnow == TOP_MAX || vmm_open(name, &vmm) != 0)
		return 0;
	memset(v, 0, sizeof(*v));
	v->l.size = sizeof(v->l);
	if (vmm_get_info(vmm, &info) == 0 && vmm_get_ledger(vmm, -1, &v->l) == 0) {
		snprintf(v->name, sizeof(v->name), "%s", name);
		v->pid = info.pid;
		v->when = ctl_now();
		v->cpu = top_cpu(info.pid);
		v->kicks = top_kicks(vmm);
		(void)vmm_accessed(vmm, TOP_CLIENT, NULL, NULL, &v->accessed);
		t->nnow++;
	}
	vmm_close(vmm);
	return 0;
}

static const struct top_vm *
top_before(const struct top *t, const struct top_vm *v)
{
	for (unsigned i = 0; i < t->nold; i++)
		if (t->old[i].pid == v->pid && strcmp(t->old[i].name, v->name) == 0)
			return &t->old[i];
	return NULL;
}

struct top_row {
	const struct top_vm *v;
	double cpu, faults, outs, refaults, kicks; /* a second */
	bool rates;
};

static uint64_t
top_faults(const struct vmm_ledger *l)
{
	return l->faults_zero + l->faults_swap + l->faults_file + l->faults_cow +
	    l->faults_prot;
}

static int
top_order(const void *a, const void *b)
{
	const struct top_row *x = a, *y = b;

	if (x->cpu != y->cpu)
		return x->cpu < y->cpu ? 1 : -1;
	return strcmp(x->v->name, y->v->name);
}

static unsigned
top_rows(const struct top *t, struct top_row *row)
{
	for (unsigned i = 0; i < t->nnow; i++) {
		const struct top_vm *v = &t->now[i], *o = top_before(t, v);
		double dt = o != NULL ? v->when - o->when : 0;

		row[i] = (struct top_row){ .v = v };
		if (dt <= 0)
			continue;
		row[i].rates = true;
		row[i].cpu = (v->cpu - o->cpu) / dt * 100;
		row[i].faults = (double)(top_faults(&v->l) - top_faults(&o->l)) / dt;
		row[i].outs = (double)(v->l.pageouts - o->l.pageouts) / dt;
		row[i].refaults = (double)(v->l.refaults - o->l.refaults) / dt;
		row[i].kicks = (double)(v->kicks - o->kicks) / dt;
	}
	qsort(row, t->nnow, sizeof(*row), top_order);
	return t->nnow;
}

/* Bytes of so many pages in at most 6 columns. */
static const char *
top_size(uint64_t pages, char buf[16])
{
	if (pages < 10000ul << 8)
		snprintf(buf, 16, "%.*fM", pages < 100ul << 8 ? 1 : 0,
		    (double)pages / 256);
	else
		snprintf(buf, 16, "%.1fG", (double)pages / 262144);
	return buf;
}

static void
top_text(const struct top_row *row, unsigned n, unsigned lines, const char *eol)
{
	char res[16], limit[16], set[16];

	printf("%-16s %6s %7s %7s %7s %8s %7s %7s %7s%s\n", "NAME", "CPU%",
	    "RES", "LIMIT", "WSET", "FAULT/S", "OUT/S", "REF/S", "KICK/S", eol);
	for (unsigned i = 0; i < n && i < lines; i++) {
		const struct top_row *r = &row[i];

		printf("%-16.16s %6.1f %7s %7s %7s %8.0f %7.0f %7.0f %7.0f%s\n",
		    r->v->name, r->cpu, top_size(r->v->l.resident, res),
		    r->v->l.limit == 0 ? "-" : top_size(r->v->l.limit, limit),
		    r->rates ? top_size(r->v->accessed, set) : "-", r->faults,
		    r->outs, r->refaults, r->kicks, eol);
	}
}

static void
top_json(struct out *o, const struct top_row *row, unsigned n)
{
	out_begin(o, NULL, '[');
	for (unsigned i = 0; i < n; i++) {
		const struct top_row *r = &row[i];

		out_begin(o, NULL, '{');
		out_text(o, "name", r->v->name);
		out_real(o, "cpu_percent", r->cpu);
		out_number(o, "resident", r->v->l.resident * VMM_PAGE_SIZE);
		out_number(o, "limit", r->v->l.limit * VMM_PAGE_SIZE);
		out_number(o, "working_set", r->v->accessed * VMM_PAGE_SIZE);
		out_real(o, "faults_per_second", r->faults);
		out_real(o, "pageouts_per_second", r->outs);
		out_real(o, "refaults_per_second", r->refaults);
		out_real(o, "kicks_per_second", r->kicks);
		out_end(o, '}');
	}
	out_end(o, ']');
	out_finish(o);
}

/* Looks, and keeps the last look for the rates. */
static int
top_look(struct top *t)
{
	struct top_vm *x = t->old;

	t->old = t->now;
	t->nold = t->nnow;
	t->now = x;
	t->nnow = 0;
	return vmm_list(top_one, t);
}

static int
top_batch(struct top *t, struct top_row *row, unsigned long count)
{
	int error = top_look(t);

	for (unsigned long i = 0; (count == 0 || i < count) && error == 0; i++) {
		ctl_sleep(t->interval);
		error = top_look(t);
		if (error != 0)
			break;
		if (t->ctl->json)
			top_json(&t->ctl->out, row, top_rows(t, row));
		else {
			if (i != 0)
				putchar('\n');
			top_text(row, top_rows(t, row), TOP_MAX, "");
		}
		if (fflush(stdout) != 0)
			return -errno;
	}
	return error;
}

static void
top_screen(const struct top *t, const struct top_row *row, unsigned n)
{
	struct winsize ws;
	unsigned lines = 24;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_row > 4)
		lines = ws.ws_row;
	printf("\033[H%u machine%s, each %gs; q ends\033[K\n\033[K\n", n,
	    n == 1 ? "" : "s", t->interval);
	top_text(row, n, lines - 4, "\033[K");
	printf("\033[J");
	fflush(stdout);
}

/* Waits out the interval. => q was typed, or nobody can type any more */
static bool
top_wait(double seconds)
{
	double end = ctl_now() + seconds, left;
	struct pollfd pfd = { .fd = STDIN_FILENO, .events = POLLIN };
	char c;

	while (top_ended == 0 && (left = end - ctl_now()) > 0) {
		if (poll(&pfd, 1, (int)(left * 1000) + 1) <= 0)
			continue;
		if (read(STDIN_FILENO, &c, 1) != 1 || c == 'q')
			return true;
	}
	return top_ended != 0;
}

static int
top_live(struct top *t, struct top_row *row, unsigned long count)
{
	struct sigaction sa = { .sa_handler = top_signal };
	struct termios before, raw;
	int error;

	if (tcgetattr(STDIN_FILENO, &before) != 0)
		return top_batch(t, row, count);
	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
	printf("\033[?1049h\033[?25l\033[2J");
	error = top_look(t);
	for (unsigned long i = 0; error == 0; i++) {
		top_screen(t, row, top_rows(t, row));
		if ((count != 0 && i == count) ||
		    top_wait(i == 0 && t->interval > 1 ? 1 : t->interval))
			break;
		error = top_look(t);
	}
	printf("\033[?25h\033[?1049l");
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSANOW, &before);
	return error;
}

int
cmd_top(struct ctl *ctl)
{
	struct top t = { .ctl = ctl };
	struct top_row *row;
	double count = 0;
	int error;

	t.interval = 2;
	if ((ctl->interval != NULL &&
		ctl_number("--interval", ctl->interval, 0.05, 86400, &t.interval) != 0) ||
	    (ctl->count != NULL &&
		ctl_number("--count", ctl->count, 1, 1e9, &count) != 0))
		return CTL_SAID;
	t.now = calloc(TOP_MAX, sizeof(*t.now));
	t.old = calloc(TOP_MAX, sizeof(*t.old));
	row = calloc(TOP_MAX, sizeof(*row));
	if (t.now == NULL || t.old == NULL || row == NULL)
		error = ctl_fail("no memory");
	else if (ctl->batch || ctl->json || !isatty(STDOUT_FILENO))
		error = top_batch(&t, row, (unsigned long)count);
	else
		error = top_live(&t, row, (unsigned long)count);
	free(t.now);
	free(t.old);
	free(row);
	return error;
}
