/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Access to guest memory from outside the guest: one page is held for the
 * length of one access, or bytes are copied page by page.  Any thread.
 */
#ifndef VMM_HOLD_H
#define VMM_HOLD_H

#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

struct machine;

/* => 0; -EINVAL: empty, crosses a page or bad prot; -EFAULT: no memory there
 *    or prot forbidden; -EIO: contents lost; -ENOMEM */
int hold_gpa(struct machine *m, gpa_t gpa, uint64_t len, int prot,
    struct vmm_hold *hold) BASE_MUST_CHECK;
void hold_release(struct machine *m, struct vmm_hold *hold);
/* *donep (may be NULL) counts bytes copied before an error. */
int hold_read(struct machine *m, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep);
int hold_write(struct machine *m, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep);

#endif /* VMM_HOLD_H */
