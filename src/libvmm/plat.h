/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The handle's platform: made with the machine, gone before it.
 */
#ifndef LIBVMM_PLAT_H
#define LIBVMM_PLAT_H

#include "base/check.h"

struct vmm;

int plat_create(struct vmm *vmm) BASE_MUST_CHECK;
void plat_destroy(struct vmm *vmm);
void plat_reset(struct vmm *vmm);

#endif /* LIBVMM_PLAT_H */
