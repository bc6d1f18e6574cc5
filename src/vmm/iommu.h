/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The IOMMU domain of a machine: what its passthrough devices see of memory.
 *
 * A device is known here by what has to be done to its IOMMU; tests plug in a
 * device of their own that walks the domain's tables.
 */
#ifndef VMM_IOMMU_H
#define VMM_IOMMU_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "pmap/pmap.h"
#include "vmm/types.h"

struct machine;

#define IOMMU_MAXDEV 16

/* Called with the machine locked; may take leaf locks. */
struct iommu_ops {
	/* From now on the device's DMA goes through the tables at root: four
	 * levels, x86 format, all pages user pages. => 0 or -errno */
	int (*attach)(void *arg, hpa_t root);
	/* On return no DMA is under way, and none will be. */
	void (*detach)(void *arg);
	/* On return no DMA uses a translation of [gpa, gpa+len) that was read
	 * from the tables before the call. */
	void (*flush)(void *arg, gpa_t gpa, uint64_t len);
};

/*
 * Gives device id to the machine.  The first one makes the domain: all of
 * sysmem is wired and mapped in it, and windows of device memory are mapped.
 * => 0; -EEXIST: it has that one; -ENOSPC: IOMMU_MAXDEV; -EBUSY: memory has a
 *    limit, under which it cannot be wired; -ENOMEM; -EIO: a page is lost;
 *    attach's error.  A failure has changed nothing.
 */
int iommu_assign(struct machine *m, unsigned id, const struct iommu_ops *ops,
    void *arg) BASE_MUST_CHECK;
/* The last one destroys the domain. => 0, -ENOENT */
int iommu_unassign(struct machine *m, unsigned id) BASE_MUST_CHECK;

struct iommu_info {
	unsigned ndev;
	bool domain;
	uint64_t pages;	   /* 4 KB pages mapped in it */
	uint64_t large[2]; /* 2 MB, 1 GB leaves */
	uint64_t pt_pages;
};
void iommu_get_info(struct machine *m, struct iommu_info *info);

#endif /* VMM_IOMMU_H */
