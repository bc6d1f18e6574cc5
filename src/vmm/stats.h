/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Statistics of a machine: the core's (stat_list.h), guest memory's, the
 * engine's and the platform's, in one flat list of dotted names.
 */
#ifndef VMM_STATS_H
#define VMM_STATS_H

#include "base/check.h"
#include "vmm/types.h"

struct machine;

/* vcpu -1: the machine's; else that vCPU's.  Fills up to n records; *countp
 * says how many there are. => any thread; 0, -EINVAL */
int stats_get(struct machine *m, int vcpu, struct vmm_stat *st, unsigned n,
    unsigned *countp);

/* See vmm_stat_help(). */
const char *stats_help(const char *name, bool *gaugep);

#endif /* VMM_STATS_H */
