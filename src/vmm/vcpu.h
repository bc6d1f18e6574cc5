/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vCPUs of a machine, by number.
 *
 * vcpu_notify(), _nmi(), _init(), _sipi() take no lock but a leaf: the platform
 * may call them with its own locks held (up to LOCK_RANK_ENGINE).
 */
#ifndef VMM_VCPU_H
#define VMM_VCPU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

struct machine;

/*
 * Runs the guest on the calling thread until an exit that the core does not
 * handle itself.  Halting, waiting for SIPI and freezing are inside.
 * => 0 with *ex filled; -EINVAL: no such vCPU, ex->size wrong; -EBUSY: another
 *    thread runs it; or the engine's error
 */
int vcpu_run(struct machine *m, unsigned id,
    struct vmm_exit *ex) BASE_MUST_CHECK;

/* An interrupt may be pending for this vCPU: wakes it from HLT, or makes it
 * look at intr_pending soon. */
void vcpu_notify(struct machine *m, unsigned id);
void vcpu_nmi(struct machine *m, unsigned id);
/* INIT: the vCPU resets itself and, unless it is vCPU 0, waits for a SIPI. */
void vcpu_init(struct machine *m, unsigned id);
/* Start-up IPI; ignored unless the vCPU waits for one. */
void vcpu_sipi(struct machine *m, unsigned id, uint8_t vector);
/* Leaves vcpu_run() with VMM_EXIT_INTR soon. */
void vcpu_kick(struct machine *m, unsigned id);

/*
 * Registers, from any thread: a running vCPU is stopped at an instruction
 * boundary for the length of the call.
 * => 0, -EINVAL
 * => not from an engine callback (-EDEADLK)
 */
int vcpu_get_reg(struct machine *m, unsigned id, enum vmm_reg reg,
    uint64_t *valp);
int vcpu_set_reg(struct machine *m, unsigned id, enum vmm_reg reg,
    uint64_t val);
int vcpu_get_seg(struct machine *m, unsigned id, enum vmm_segreg seg,
    struct vmm_seg *segp);
int vcpu_set_seg(struct machine *m, unsigned id, enum vmm_segreg seg,
    const struct vmm_seg *segp);
/* All of them, from one stop. regs->size is the caller's. */
int vcpu_get_regs(struct machine *m, unsigned id, struct vmm_regs *regs);
/* Guest linear to physical, no side effects. => -EFAULT: not mapped */
int vcpu_gva_to_gpa(struct machine *m, unsigned id, gva_t gva, int access,
    gpa_t *gpap);

#endif /* VMM_VCPU_H */
