/* SPDX-License-Identifier: BSD-2-Clause */
/* How much of a machine's memory may be resident, and where the rest goes. */
#ifndef VMM_LIMIT_H
#define VMM_LIMIT_H

#include <stdint.h>

#include "base/check.h"
#include "vmm/machine.h"

/* For all machines of the process; see vm_swap_init(). */
int limit_swap_init(const char *dir, uint64_t bytes) BASE_MUST_CHECK;
/* For all machines of the process; see vm_compress_init(). */
int limit_compress_init(uint64_t bytes) BASE_MUST_CHECK;
/* Bytes; 0: none. => -ENXIO: there is no swap; -EINVAL, -EBUSY: see
 * vmspace_set_limit() */
int limit_set(struct machine *m, uint64_t bytes) BASE_MUST_CHECK;
int limit_reclaim(struct machine *m, uint64_t bytes,
    uint64_t *donep) BASE_MUST_CHECK;
uint64_t limit_get(struct machine *m);

#endif /* VMM_LIMIT_H */
