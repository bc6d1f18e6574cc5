/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verbs that change a machine.  With --json they answer {"ok":true}.
 */
#include <stdio.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

static int
cmd_control_done(struct ctl *ctl, int error)
{
	if (error == 0 && ctl->json)
		printf("{\"ok\":true}\n");
	return error;
}

int
cmd_poweroff(struct ctl *ctl)
{
	return cmd_control_done(ctl, vmm_power_button(ctl->vmm));
}

int
cmd_stop(struct ctl *ctl)
{
	return cmd_control_done(ctl,
	    vmm_suspend(ctl->vmm, VMM_SUSPEND_POWEROFF));
}

int
cmd_reset(struct ctl *ctl)
{
	return cmd_control_done(ctl,
	    vmm_suspend(ctl->vmm, VMM_SUSPEND_RESET));
}

/* Without a size it only tells. */
int
cmd_limit(struct ctl *ctl)
{
	uint64_t bytes;
	int error = 0;

	if (ctl->value != NULL && strcmp(ctl->value, "none") == 0)
		bytes = 0;
	else if (ctl->value != NULL &&
	    vmm_parse_memsize(ctl->value, &bytes) != 0) {
		(void)ctl_fail("limit: \"%s\" is not a size like 200M",
		    ctl->value);
		return CTL_SAID;
	}
	if (ctl->value != NULL)
		error = vmm_set_limit(ctl->vmm, bytes);
	if (error == 0)
		error = vmm_get_limit(ctl->vmm, &bytes);
	if (error != 0)
		return error;
	if (ctl->json)
		printf("{\"limit\":%lu}\n", bytes);
	else if (bytes == 0)
		printf("none\n");
	else
		printf("%lu\n", bytes);
	return 0;
}

int
cmd_nmi(struct ctl *ctl)
{
	return cmd_control_done(ctl,
	    vmm_inject_nmi(ctl->vmm, ctl->cpu < 0 ? 0 : (unsigned)ctl->cpu));
}
