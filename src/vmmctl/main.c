/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmmctl: looks into a running machine and controls it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmmctl/vmmctl.h"

static const char main_help[] =
    "usage: vmmctl list | host | top [-b] [--interval S] [--count N]\n"
    "       vmmctl VERB NAME [--cpu N] [--json]\n"
    "Looks into the running machine NAME and controls it.\n"
    "\n"
    "  list      the machines of this user that run\n"
    "  host      the host's memory, and what each machine has of it\n"
    "  top       the machines, live; -b: as text, one table per interval\n"
    "  regs      all registers, segments and MSRs\n"
    "  mem       memory segments and maps, with what they have; or with\n"
    "            --page GPA, --resident, --working-set SECONDS,\n"
    "            --dirty[=CLIENT], --heatmap FILE.png, --check\n"
    "  stats     statistics of the machine and its vCPUs\n"
    "  metrics   the same as OpenMetrics text; --all: of every machine\n"
    "  limit     how much memory may be resident; limit NAME SIZE sets it,\n"
    "            0 takes it away\n"
    "  poweroff  press the power button\n"
    "  stop      end the machine as powered off, at once\n"
    "  reset     end the machine as reset\n"
    "  nmi       deliver an NMI\n"
    "\n"
    "bhyvectl's spellings work too: vmmctl --vm=NAME [--cpu=N] --get-stats,\n"
    "--get-all, --get-memseg, --get-memmap, --get-gpa-pmap=GPA, --get-rip ...\n"
    "vmmctl(1) has the rest.\n";

enum main_name { MAIN_NONE, MAIN_NAME, MAIN_MAYBE };

static const struct main_verb {
	const char *name;
	ctl_verb *fn;
	enum main_name machine; /* wants a NAME */
} main_verbs[] = {
	{ "list", cmd_list, MAIN_NONE },
	{ "host", cmd_host, MAIN_NONE },
	{ "top", cmd_top, MAIN_NONE },
	{ "regs", cmd_regs, MAIN_NAME },
	{ "mem", cmd_mem, MAIN_NAME },
	{ "stats", cmd_stats, MAIN_NAME },
	{ "metrics", cmd_metrics, MAIN_MAYBE },
	{ "limit", cmd_limit, MAIN_NAME },
	{ "poweroff", cmd_poweroff, MAIN_NAME },
	{ "stop", cmd_stop, MAIN_NAME },
	{ "reset", cmd_reset, MAIN_NAME },
	{ "nmi", cmd_nmi, MAIN_NAME },
};

int
ctl_fail(const char *fmt, ...)
{
	va_list ap;

	fputs("vmmctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return 1;
}

const char *
ctl_state(int state)
{
	static const char *const names[] = { "reset", "powered-off", "halted",
		"triple-fault", "error", "destroyed" };

	if (state >= 0 && (size_t)state < sizeof(names) / sizeof(names[0]))
		return names[state];
	return "running";
}

const char *
ctl_segname(struct ctl *ctl, int segid, char name[VMM_SEGNAME_MAX + 1])
{
	uint64_t len;

	if (vmm_get_memseg(ctl->vmm, segid, &len, name) != 0)
		strcpy(name, "?");
	else if (name[0] == '\0')
		strcpy(name, "sysmem");
	return name;
}

const char *
ctl_segkind(struct ctl *ctl, int segid)
{
	char name[VMM_SEGNAME_MAX + 1];
	uint64_t len;

	if (vmm_get_memseg(ctl->vmm, segid, &len, name) != 0)
		return "?";
	return name[0] != '\0' ? "device" : "anonymous";
}

int
ctl_each_vcpu(struct ctl *ctl, int (*fn)(struct ctl *, unsigned))
{
	struct vmm_info info = { .size = sizeof(info) };
	int error;

	if (ctl->cpu >= 0)
		return fn(ctl, (unsigned)ctl->cpu);
	error = vmm_get_info(ctl->vmm, &info);
	for (unsigned i = 0; i < info.ncpu && error == 0; i++)
		error = fn(ctl, i);
	return error;
}

int
ctl_number(const char *what, const char *s, double min, double max, double *vp)
{
	char *end;

	*vp = strtod(s, &end);
	if (s[0] == '\0' || *end != '\0' || !(*vp >= min && *vp <= max))
		return ctl_fail("%s: \"%s\" is no number from %g to %g", what, s,
		    min, max);
	return 0;
}

int
ctl_address(const char *what, const char *s, uint64_t *vp)
{
	char *end;

	errno = 0;
	*vp = strtoull(s, &end, 0);
	if (s[0] < '0' || s[0] > '9' || *end != '\0' || errno != 0)
		return ctl_fail("%s: \"%s\" is no address", what, s);
	return 0;
}

void
ctl_sleep(double seconds)
{
	struct timespec ts = { .tv_sec = (time_t)seconds };

	ts.tv_nsec = (long)((seconds - (double)ts.tv_sec) * 1e9);
	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

double
ctl_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

const char *
ctl_prot(unsigned prot, char buf[4])
{
	char *p = buf;

	if ((prot & VMM_PROT_READ) != 0)
		*p++ = 'r';
	if ((prot & VMM_PROT_WRITE) != 0)
		*p++ = 'w';
	if ((prot & VMM_PROT_EXEC) != 0)
		*p++ = 'x';
	*p = '\0';
	return buf;
}

/* An option of some verbs; one of the places is set. */
static const struct main_option {
	const char *name, *verbs;
	size_t flag, value;
	bool optional; /* --name or --name=VALUE */
} main_options[] = {
#define FLAG(name, verbs, m) \
	{ name, verbs, offsetof(struct ctl, m), 0, false }
#define VALUE(name, verbs, m, opt) \
	{ name, verbs, 0, offsetof(struct ctl, m), opt }
	FLAG("--json", NULL, json),
	VALUE("--page", "mem", page, false),
	FLAG("--resident", "mem", resident),
	VALUE("--working-set", "mem", working_set, false),
	VALUE("--dirty", "mem", dirty, true),
	VALUE("--dirty-end", "mem", dirty_end, true),
	VALUE("--heatmap", "mem", heatmap, false),
	VALUE("--client", "mem", client, false),
	FLAG("--check", "mem", check),
	FLAG("--all", "metrics", all),
	FLAG("-b", "top", batch),
	FLAG("--batch", "top", batch),
	VALUE("--interval", "top", interval, false),
	VALUE("--count", "top", count, false),
#undef FLAG
#undef VALUE
};

/* => words taken; 0: not this one; -1: said what is wrong */
static int
main_option(struct ctl *ctl, const struct main_option *mo, const char *verb,
    char **argv)
{
	size_t n = strlen(mo->name);
	const char **value = (const char **)((char *)ctl + mo->value);

	if (strncmp(argv[0], mo->name, n) != 0 ||
	    (argv[0][n] != '\0' && (argv[0][n] != '=' || mo->value == 0)))
		return 0;
	if (mo->verbs != NULL && strcmp(mo->verbs, verb) != 0)
		return 0;
	if (mo->value == 0) {
		*(bool *)((char *)ctl + mo->flag) = true;
		return 1;
	}
	if (argv[0][n] == '=') {
		*value = argv[0] + n + 1;
		return 1;
	}
	if (mo->optional) {
		*value = "";
		return 1;
	}
	if (argv[1] == NULL) {
		(void)ctl_fail("%s wants a value", mo->name);
		return -1;
	}
	*value = argv[1];
	return 2;
}

static int
main_cpu(struct ctl *ctl, const char *cpu)
{
	char *end;

	ctl->cpu = (int)strtoul(cpu, &end, 10);
	if (cpu[0] < '0' || cpu[0] > '9' || *end != '\0' || ctl->cpu < 0)
		return ctl_fail("--cpu: \"%s\" is no number", cpu);
	return 0;
}

/* => 0, or exit status */
static int
main_parse(struct ctl *ctl, int argc, char **argv)
{
	for (int i = 2; i < argc; i++) {
		const char *w = argv[i], *cpu = NULL;
		int n = 0;

		for (size_t k = 0; k < sizeof(main_options) / sizeof(main_options[0]) &&
		     n == 0; k++)
			n = main_option(ctl, &main_options[k], argv[1], &argv[i]);
		if (n < 0)
			return 1;
		i += n > 1;
		if (n > 0)
			continue;
		if (strncmp(w, "--cpu=", 6) == 0)
			cpu = w + 6;
		else if (strcmp(w, "--cpu") == 0 && i + 1 < argc)
			cpu = argv[++i];
		else if (w[0] == '-')
			return ctl_fail("unknown option %s: see vmmctl --help",
			    w);
		else if (ctl->name != NULL && strcmp(argv[1], "limit") == 0 &&
		    ctl->value == NULL)
			ctl->value = w;
		else if (ctl->name != NULL)
			return ctl_fail("\"%s\": one machine at a time", w);
		else
			ctl->name = w;
		if (cpu != NULL && main_cpu(ctl, cpu) != 0)
			return 1;
	}
	return 0;
}

static int
main_run(const struct main_verb *verb, struct ctl *ctl)
{
	int error;

	if (verb->machine == MAIN_NAME && ctl->name == NULL)
		return ctl_fail("%s wants the name of a machine", verb->name);
	if (verb->machine == MAIN_NONE && ctl->name != NULL)
		return ctl_fail("%s takes no name", verb->name);
	if (ctl->name != NULL && vmm_open(ctl->name, &ctl->vmm) != 0)
		return ctl_fail("%s", vmm_errmsg(NULL));
	error = verb->fn(ctl);
	if (error != 0 && error != CTL_SAID)
		error = ctl_fail("%s", vmm_errmsg(ctl->vmm));
	vmm_close(ctl->vmm);
	return error;
}

int
main(int argc, char **argv)
{
	struct ctl ctl = { .cpu = -1 };
	int status;

	if (argc < 2) {
		fputs(main_help, stderr);
		return 1;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		fputs(main_help, stdout);
		return 0;
	}
	if (strcmp(argv[1], "--version") == 0) {
		printf("vmmctl %s\n", vmm_version());
		return 0;
	}
	if (compat_wanted(argc, argv))
		return compat_main(argc, argv);
	for (size_t i = 0; i < sizeof(main_verbs) / sizeof(main_verbs[0]);
	     i++) {
		if (strcmp(argv[1], main_verbs[i].name) != 0)
			continue;
		status = main_parse(&ctl, argc, argv);
		return status != 0 ? status : main_run(&main_verbs[i], &ctl);
	}
	return ctl_fail("unknown verb \"%s\": see vmmctl --help", argv[1]);
}
