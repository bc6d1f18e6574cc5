/* SPDX-License-Identifier: BSD-2-Clause */
/* Pages a machine out when the host runs short of memory. */
#ifndef HYVE_PRESSURE_H
#define HYVE_PRESSURE_H

#include <stddef.h>

#include "base/check.h"
#include "vmm/vmm.h"

struct pressure;

/*
 * Watches a pressure file (PSI, Linux Documentation/accounting/psi.rst); path
 * NULL: that of the control group this process is in, else the host's.
 * => 0; -errno with one line in err: there is none, or it may not be watched
 */
int pressure_start(struct vmm *vmm, const char *path, struct pressure **pp,
    char *err, size_t errlen) BASE_MUST_CHECK;
/* NULL is fine. Before the machine is closed. */
void pressure_stop(struct pressure *p);

#endif /* HYVE_PRESSURE_H */
