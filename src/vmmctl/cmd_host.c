/* SPDX-License-Identifier: BSD-2-Clause */
/* host: the host's memory, and what each machine has of it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

/* Bytes of a line of /proc/meminfo, 0: no such line. */
static uint64_t
host_meminfo(const char *name)
{
	FILE *fp = fopen("/proc/meminfo", "r");
	unsigned long kb = 0;
	size_t n = strlen(name);
	char line[128];

	if (fp == NULL)
		return 0;
	while (fgets(line, sizeof(line), fp) != NULL)
		if (strncmp(line, name, n) == 0 && line[n] == ':')
			(void)sscanf(line + n + 1, "%lu", &kb);
	fclose(fp);
	return (uint64_t)kb << 10;
}

static int
host_one(void *arg, const char *name)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	struct ctl *ctl = arg;
	struct vmm *vmm;

	if (vmm_open(name, &vmm) != 0)
		return 0;
	if (vmm_get_ledger(vmm, -1, &l) == 0) {
		if (ctl->json) {
			out_begin(&ctl->out, NULL, '{');
			out_text(&ctl->out, "name", name);
			out_number(&ctl->out, "memory", l.pages * VMM_PAGE_SIZE);
			out_number(&ctl->out, "resident",
			    l.resident * VMM_PAGE_SIZE);
			out_number(&ctl->out, "limit", l.limit * VMM_PAGE_SIZE);
			ctl_ledger_json(&ctl->out, &l);
			out_end(&ctl->out, '}');
		} else
			printf("%-20s %8luM %8luM %8luM %8luM %8luM\n", name,
			    l.pages >> 8, l.resident >> 8, l.limit >> 8,
			    l.swapped >> 8, l.wired >> 8);
	}
	vmm_close(vmm);
	return 0;
}

int
cmd_host(struct ctl *ctl)
{
	static const struct {
		const char *name, *line;
	} totals[] = {
		{ "mem_total", "MemTotal" },
		{ "mem_free", "MemFree" },
		{ "mem_available", "MemAvailable" },
	};
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	for (unsigned i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
		uint64_t bytes = host_meminfo(totals[i].line);

		if (ctl->json)
			out_number(&ctl->out, totals[i].name, bytes);
		else
			printf("%s: %lu\n", totals[i].name, bytes);
	}
	if (ctl->json)
		out_begin(&ctl->out, "machines", '[');
	else
		printf("%-20s %9s %9s %9s %9s %9s\n", "NAME", "MEMORY", "RESIDENT",
		    "LIMIT", "SWAPPED", "WIRED");
	error = vmm_list(host_one, ctl);
	if (ctl->json) {
		out_end(&ctl->out, ']');
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
	return error;
}
