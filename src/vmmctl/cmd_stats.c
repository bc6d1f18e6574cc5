/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmmctl/vmmctl.h"

#define CMD_STATS_MAX 1024

/* vcpu -1: the machine's */
static int
cmd_stats_of(struct ctl *ctl, int vcpu)
{
	struct vmm_stat *st = calloc(CMD_STATS_MAX, sizeof(*st));
	unsigned n;
	int error;

	if (st == NULL)
		return -ENOMEM;
	error = vmm_get_stats(ctl->vmm, vcpu, st, CMD_STATS_MAX, &n);
	for (unsigned i = 0; error == 0 && i < n && i < CMD_STATS_MAX; i++) {
		st[i].name[VMM_STATNAME_MAX] = '\0';
		if (ctl->json)
			out_number(&ctl->out, st[i].name, st[i].value);
		else
			printf("%s%-40s %lu\n", vcpu < 0 ? "" : "  ",
			    st[i].name, st[i].value);
	}
	free(st);
	return error;
}

static int
cmd_stats_vcpu(struct ctl *ctl, unsigned id)
{
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	else
		printf("cpu %u\n", id);
	error = cmd_stats_of(ctl, (int)id);
	if (ctl->json)
		out_end(&ctl->out, '}');
	return error;
}

int
cmd_stats(struct ctl *ctl)
{
	int error = 0;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	if (ctl->json)
		out_begin(&ctl->out, "machine", '{');
	if (ctl->cpu < 0)
		error = cmd_stats_of(ctl, -1);
	if (ctl->json) {
		out_end(&ctl->out, '}');
		out_begin(&ctl->out, "cpus", '[');
	}
	if (error == 0)
		error = ctl_each_vcpu(ctl, cmd_stats_vcpu);
	if (ctl->json) {
		out_end(&ctl->out, ']');
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
	return error;
}
