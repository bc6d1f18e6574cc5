/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vmmctl: looks into a running machine and controls it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

static const char main_help[] =
    "usage: vmmctl list [--json]\n"
    "       vmmctl VERB NAME [--cpu N] [--json]\n"
    "Looks into the running machine NAME and controls it.\n"
    "\n"
    "  list      the machines of this user that run\n"
    "  regs      all registers, segments and MSRs\n"
    "  mem       memory segments, maps, resident bytes\n"
    "  stats     statistics of the machine and its vCPUs\n"
    "  poweroff  press the power button\n"
    "  stop      end the machine as powered off, at once\n"
    "  reset     end the machine as reset\n"
    "  nmi       deliver an NMI\n"
    "\n"
    "bhyvectl's spellings work too: vmmctl --vm=NAME [--cpu=N] --get-stats,\n"
    "--get-all, --get-memseg, --get-memmap, --get-gpa-pmap=GPA, --get-rip ...\n"
    "vmmctl(1) has the rest.\n";

static const struct main_verb {
	const char *name;
	ctl_verb *fn;
	bool machine; /* wants a NAME */
} main_verbs[] = {
	{ "list", cmd_list, false },
	{ "regs", cmd_regs, true },
	{ "mem", cmd_mem, true },
	{ "stats", cmd_stats, true },
	{ "poweroff", cmd_poweroff, true },
	{ "stop", cmd_stop, true },
	{ "reset", cmd_reset, true },
	{ "nmi", cmd_nmi, true },
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
		return "?";
	return name[0] != '\0' ? name : "sysmem";
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

/* => 0, or exit status */
static int
main_parse(struct ctl *ctl, int argc, char **argv)
{
	char *end;

	for (int i = 2; i < argc; i++) {
		const char *w = argv[i], *cpu = NULL;

		if (strcmp(w, "--json") == 0)
			ctl->json = true;
		else if (strncmp(w, "--cpu=", 6) == 0)
			cpu = w + 6;
		else if (strcmp(w, "--cpu") == 0 && i + 1 < argc)
			cpu = argv[++i];
		else if (w[0] == '-')
			return ctl_fail("unknown option %s: see vmmctl --help",
			    w);
		else if (ctl->name != NULL)
			return ctl_fail("\"%s\": one machine at a time", w);
		else
			ctl->name = w;
		if (cpu == NULL)
			continue;
		ctl->cpu = (int)strtoul(cpu, &end, 10);
		if (cpu[0] < '0' || cpu[0] > '9' || *end != '\0' ||
		    ctl->cpu < 0)
			return ctl_fail("--cpu: \"%s\" is no number", cpu);
	}
	return 0;
}

static int
main_run(const struct main_verb *verb, struct ctl *ctl)
{
	int error;

	if (verb->machine && ctl->name == NULL)
		return ctl_fail("%s wants the name of a machine", verb->name);
	if (!verb->machine && ctl->name != NULL)
		return ctl_fail("%s takes no name", verb->name);
	if (verb->machine && vmm_open(ctl->name, &ctl->vmm) != 0)
		return ctl_fail("%s", vmm_errmsg(NULL));
	error = verb->fn(ctl);
	if (error != 0)
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
