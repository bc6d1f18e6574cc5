/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to vmmctl: one file for each verb.
 */
#ifndef VMMCTL_VMMCTL_H
#define VMMCTL_VMMCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmmctl/out.h"
#include "vmm/vmm.h"

struct ctl {
	const char *name; /* of the machine; NULL for list */
	struct vmm *vmm;
	bool json;
	int cpu; /* --cpu, -1: all or none */
	/* mem, metrics, top: what is asked for, NULL: not */
	const char *page, *working_set, *dirty, *dirty_end, *heatmap, *client;
	const char *interval, *count;
	const char *value; /* a second word: limit's */
	bool resident, check, all, batch;
	struct out out;
};

/* Each prints its answer. => 0, or -errno with the line in vmm_errmsg() */
typedef int ctl_verb(struct ctl *ctl);
ctl_verb cmd_list;
ctl_verb cmd_regs;
ctl_verb cmd_mem;
ctl_verb cmd_stats;
ctl_verb cmd_host;
ctl_verb cmd_metrics;
ctl_verb cmd_top;
ctl_verb cmd_limit;
ctl_verb cmd_poweroff;
ctl_verb cmd_stop;
ctl_verb cmd_reset;
ctl_verb cmd_nmi;

/* Of mem: one for each option. */
ctl_verb mem_page;
ctl_verb mem_resident;
ctl_verb mem_working_set;
ctl_verb mem_dirty;
ctl_verb mem_dirty_end;
ctl_verb mem_heatmap;
ctl_verb mem_check;

/* bhyvectl's spellings: --vm=NAME --get-... => exit status */
bool compat_wanted(int argc, char **argv);
int compat_main(int argc, char **argv);

/* => exit status 1 with one line on standard error */
int ctl_fail(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* fail: with a line on standard error, and CTL_SAID */
#define CTL_SAID 1 /* a verb's result: failed, and said why */
int ctl_number(const char *what, const char *s, double min, double max,
    double *vp);
int ctl_address(const char *what, const char *s, uint64_t *vp);
void ctl_sleep(double seconds);
double ctl_now(void); /* seconds, monotonic */
/* "rwx", without what is not allowed */
const char *ctl_prot(unsigned prot, char buf[4]);
/* A ledger's counts as members of the JSON object that is open. */
void ctl_ledger_json(struct out *o, const struct vmm_ledger *l);
/* Calls fn for each vCPU that is asked for (--cpu, else all). */
int ctl_each_vcpu(struct ctl *ctl, int (*fn)(struct ctl *, unsigned));
const char *ctl_state(int state);
/* "device": memory that other processes map, too; else "anonymous" */
const char *ctl_segkind(struct ctl *ctl, int segid);
const char *ctl_segname(struct ctl *ctl, int segid,
    char name[VMM_SEGNAME_MAX + 1]);

#endif /* VMMCTL_VMMCTL_H */
