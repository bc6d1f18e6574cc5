/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to vmmctl: one file for each verb.
 */
#ifndef VMMCTL_VMMCTL_H
#define VMMCTL_VMMCTL_H

#include <stdbool.h>
#include <stdint.h>

#include "vmmctl/out.h"
#include "vmm/vmm.h"

struct ctl {
	const char *name; /* of the machine; NULL for list */
	struct vmm *vmm;
	bool json;
	int cpu; /* --cpu, -1: all or none */
	struct out out;
};

/* Each prints its answer. => 0, or -errno with the line in vmm_errmsg() */
typedef int ctl_verb(struct ctl *ctl);
ctl_verb cmd_list;
ctl_verb cmd_regs;
ctl_verb cmd_mem;
ctl_verb cmd_stats;
ctl_verb cmd_poweroff;
ctl_verb cmd_stop;
ctl_verb cmd_reset;
ctl_verb cmd_nmi;

/* bhyvectl's spellings: --vm=NAME --get-... => exit status */
bool compat_wanted(int argc, char **argv);
int compat_main(int argc, char **argv);

/* => exit status 1 with one line on standard error */
int ctl_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Calls fn for each vCPU that is asked for (--cpu, else all). */
int ctl_each_vcpu(struct ctl *ctl, int (*fn)(struct ctl *, unsigned));
const char *ctl_state(int state);
const char *ctl_segname(struct ctl *ctl, int segid,
    char name[VMM_SEGNAME_MAX + 1]);

#endif /* VMMCTL_VMMCTL_H */
