/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics: OpenMetrics text.  All samples of a family must stand together, so
 * they are collected from every machine first, then printed family by family.
 */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

#define METRICS_MAXSTATS 1024

struct family {
	struct family *next;
	char name[96], help[128];
	const char *type; /* "counter", "gauge", "info" */
	char *text;	  /* its samples */
	size_t len;
	FILE *fp;
};

struct metrics {
	struct ctl *ctl;
	struct family *first, **last;
	struct vmm_stat *st; /* METRICS_MAXSTATS */
	bool failed;	     /* no memory */
};

/* Letters, digits and underscores; what is not becomes one. */
static void
metrics_name(char *buf, size_t len, const char *name)
{
	int n = snprintf(buf, len, "hyve_%s", name);

	for (int i = 0; i < n && (size_t)i < len - 1; i++)
		if (!isalnum((unsigned char)buf[i]))
			buf[i] = '_';
}

static struct family *
metrics_family(struct metrics *ms, const char *name, const char *type,
    const char *help)
{
	struct family *f;
	char buf[sizeof(f->name)];

	metrics_name(buf, sizeof(buf), name);
	for (f = ms->first; f != NULL; f = f->next)
		if (strcmp(f->name, buf) == 0)
			return f;
	f = calloc(1, sizeof(*f));
	if (f != NULL)
		f->fp = open_memstream(&f->text, &f->len);
	if (f == NULL || f->fp == NULL) {
		free(f);
		ms->failed = true;
		return NULL;
	}
	memcpy(f->name, buf, sizeof(buf));
	snprintf(f->help, sizeof(f->help), "%s", help);
	f->type = type;
	*ms->last = f;
	ms->last = &f->next;
	return f;
}

static void
metrics_value(FILE *fp, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '\\' || *s == '"')
			fprintf(fp, "\\%c", *s);
		else if (*s == '\n')
			fputs("\\n", fp);
		else
			fputc(*s, fp);
	}
}

/* One sample; labels: pairs of name and value up to a NULL, after vm. */
static void
metrics_add(struct metrics *ms, struct family *f, const char *number, ...)
{
	const char *suffix, *label;
	va_list ap;

	if (f == NULL)
		return;
	suffix = strcmp(f->type, "counter") == 0 ? "_total" :
	    strcmp(f->type, "info") == 0	 ? "_info" :
						   "";
	fprintf(f->fp, "%s%s{vm=\"", f->name, suffix);
	metrics_value(f->fp, vmm_name(ms->ctl->vmm));
	va_start(ap, number);
	while ((label = va_arg(ap, const char *)) != NULL) {
		fprintf(f->fp, "\",%s=\"", label);
		metrics_value(f->fp, va_arg(ap, const char *));
	}
	va_end(ap);
	fprintf(f->fp, "\"} %s\n", number);
}

static const char *
metrics_number(uint64_t v, char buf[24])
{
	snprintf(buf, 24, "%lu", v);
	return buf;
}

static int
metrics_stats(struct metrics *ms, int vcpu)
{
	char cpu[16], num[24];
	unsigned n = 0;
	int error = vmm_get_stats(ms->ctl->vmm, vcpu, ms->st, METRICS_MAXSTATS, &n);

	snprintf(cpu, sizeof(cpu), "%d", vcpu);
	for (unsigned i = 0; error == 0 && i < n && i < METRICS_MAXSTATS; i++) {
		struct vmm_stat *st = &ms->st[i];
		const char *help;
		bool gauge = false;

		st->name[VMM_STATNAME_MAX] = '\0';
		help = vmm_stat_help(st->name, &gauge);
		metrics_add(ms, metrics_family(ms, st->name,
		    gauge ? "gauge" : "counter", help != NULL ? help : st->name),
		    metrics_number(st->value, num), vcpu < 0 ? NULL : "vcpu", cpu,
		    NULL);
	}
	return error;
}

static int
metrics_segment(struct metrics *ms, int segid)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	char name[VMM_SEGNAME_MAX + 1], num[24];
	int error = vmm_get_ledger(ms->ctl->vmm, segid, &l);
	const struct {
		const char *label;
		uint64_t v;
	} pages[] = { { "resident", l.resident }, { "wired", l.wired },
		{ "held", l.held }, { "swapped", l.swapped },
		{ "compressed", l.compressed }, { "zero", l.zero },
		{ "shared", l.shared }, { "entered", l.entered } },
	  faults[] = { { "zero", l.faults_zero }, { "swap", l.faults_swap },
		{ "file", l.faults_file }, { "cow", l.faults_cow },
		{ "prot", l.faults_prot } },
	  moves[] = { { "memory_refaults", l.refaults },
		{ "memory_pageins", l.pageins }, { "memory_pageouts", l.pageouts } };
	static const char *const moves_help[] = { "pages read back soon after they left",
		"pages read from swap", "pages written to swap" };

	if (error != 0 || l.pages == 0)
		return error;
	(void)ctl_segname(ms->ctl, segid, name);
	metrics_add(ms, metrics_family(ms, "memory_pages_length", "gauge",
	    "length of the segment in pages"), metrics_number(l.pages, num),
	    "segment", name, NULL);
	metrics_add(ms, metrics_family(ms, "memory_superpages", "gauge",
	    "large mappings of the segment"), metrics_number(l.superpages, num),
	    "segment", name, NULL);
	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		metrics_add(ms, metrics_family(ms, "memory_pages", "gauge",
		    "pages of the segment in that state"),
		    metrics_number(pages[i].v, num), "segment", name, "state",
		    pages[i].label, NULL);
	for (unsigned i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		metrics_add(ms, metrics_family(ms, "memory_faults", "counter",
		    "nested page faults in the segment by kind"),
		    metrics_number(faults[i].v, num), "segment", name, "kind",
		    faults[i].label, NULL);
	for (unsigned i = 0; i < sizeof(moves) / sizeof(moves[0]); i++)
		metrics_add(ms, metrics_family(ms, moves[i].label, "counter",
		    moves_help[i]), metrics_number(moves[i].v, num), "segment",
		    name, NULL);
	return 0;
}

static int
metrics_machine(struct metrics *ms)
{
	struct vmm_info info = { .size = sizeof(info) };
	struct vmm_ledger l = { .size = sizeof(l) };
	char num[32];
	int error = vmm_get_info(ms->ctl->vmm, &info);

	if (error == 0)
		error = vmm_get_ledger(ms->ctl->vmm, -1, &l);
	if (error != 0)
		return error;
	metrics_add(ms, metrics_family(ms, "machine", "info", "a running machine"),
	    "1", "engine", info.engine, "pmap", info.pmap, NULL);
	snprintf(num, sizeof(num), "%.3f", (double)info.uptime_ns / 1e9);
	metrics_add(ms, metrics_family(ms, "uptime_seconds", "gauge",
	    "age of the machine"), num, NULL);
	metrics_add(ms, metrics_family(ms, "vcpus", "gauge", "virtual processors"),
	    metrics_number(info.ncpu, num), NULL);
	metrics_add(ms, metrics_family(ms, "memory_bytes", "gauge",
	    "guest memory"), metrics_number(info.lowmem + info.highmem, num), NULL);
	metrics_add(ms, metrics_family(ms, "memory_limit_bytes", "gauge",
	    "limit of what is resident, 0: none"),
	    metrics_number(l.limit * VMM_PAGE_SIZE, num), NULL);
	for (int i = 0; i < VMM_MAXSEGS && error == 0; i++)
		error = metrics_segment(ms, i);
	for (int i = -1; i < (int)info.ncpu && error == 0; i++)
		error = metrics_stats(ms, i);
	return error;
}

/* Of --all: who ends meanwhile is left out, as far as possible. */
static int
metrics_each(void *arg, const char *name)
{
	struct metrics *ms = arg;

	if (vmm_open(name, &ms->ctl->vmm) != 0)
		return 0;
	(void)metrics_machine(ms);
	vmm_close(ms->ctl->vmm);
	ms->ctl->vmm = NULL;
	return 0;
}

static void
metrics_print(struct metrics *ms, bool print)
{
	struct family *next;

	for (struct family *f = ms->first; f != NULL; f = next) {
		next = f->next;
		if (fclose(f->fp) != 0)
			ms->failed = true;
		else if (print) {
			printf("# TYPE %s %s\n# HELP %s %s.\n", f->name, f->type,
			    f->name, f->help);
			fwrite(f->text, 1, f->len, stdout);
		}
		free(f->text);
		free(f);
	}
	if (print)
		printf("# EOF\n");
}

int
cmd_metrics(struct ctl *ctl)
{
	struct metrics ms = { .ctl = ctl, .last = &ms.first };
	int error;

	if (ctl->all == (ctl->vmm != NULL))
		return ctl_fail("metrics wants the name of a machine, or --all");
	if (ctl->json)
		return ctl_fail("metrics are OpenMetrics text: stats has --json");
	ms.st = calloc(METRICS_MAXSTATS, sizeof(*ms.st));
	if (ms.st == NULL)
		return ctl_fail("no memory");
	error = ctl->all ? vmm_list(metrics_each, &ms) : metrics_machine(&ms);
	metrics_print(&ms, error == 0 && !ms.failed);
	free(ms.st);
	if (error == 0 && ms.failed)
		return ctl_fail("no memory");
	return error;
}
