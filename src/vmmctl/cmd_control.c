/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Verbs that change a machine.  With --json they answer {"ok":true}.
 */
#include <stdio.h>

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

int
cmd_nmi(struct ctl *ctl)
{
	return cmd_control_done(ctl,
	    vmm_inject_nmi(ctl->vmm, ctl->cpu < 0 ? 0 : (unsigned)ctl->cpu));
}
