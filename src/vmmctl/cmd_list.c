/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

/* A machine that ends while we look is simply not listed. */
static int
cmd_list_one(void *arg, const char *name)
{
	struct vmm_info info = { .size = sizeof(info) };
	struct ctl *ctl = arg;
	struct vmm *vmm;

	if (vmm_open(name, &vmm) != 0)
		return 0;
	if (vmm_get_info(vmm, &info) != 0) {
		vmm_close(vmm);
		return 0;
	}
	if (ctl->json) {
		out_begin(&ctl->out, NULL, '{');
		out_text(&ctl->out, "name", name);
		out_number(&ctl->out, "pid", (uint64_t)info.pid);
		out_text(&ctl->out, "state", ctl_state(info.state));
		out_number(&ctl->out, "cpus", info.ncpu);
		out_number(&ctl->out, "memory", info.lowmem + info.highmem);
		out_number(&ctl->out, "resident", info.resident);
		out_text(&ctl->out, "engine", info.engine);
		out_text(&ctl->out, "pmap", info.pmap);
		out_number(&ctl->out, "uptime_ns", info.uptime_ns);
		out_end(&ctl->out, '}');
	} else {
		printf("%-20s %7d %-10s %4u %8luM %8luM %-6s %8lus\n", name,
		    info.pid, ctl_state(info.state), info.ncpu,
		    (info.lowmem + info.highmem) >> 20, info.resident >> 20,
		    info.engine, info.uptime_ns / 1000000000);
	}
	vmm_close(vmm);
	return 0;
}

int
cmd_list(struct ctl *ctl)
{
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '[');
	else
		printf("%-20s %7s %-10s %4s %9s %9s %-6s %9s\n", "NAME",
		    "PID", "STATE", "CPUS", "MEMORY", "RESIDENT", "ENGINE",
		    "UPTIME");
	error = vmm_list(cmd_list_one, ctl);
	if (ctl->json) {
		out_end(&ctl->out, ']');
		out_finish(&ctl->out);
	}
	return error;
}
