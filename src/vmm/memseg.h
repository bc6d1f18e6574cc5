/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory segments (storage) and their maps (windows on storage at a gpa).
 * Checks, their order and errors are bhyve's: vmm-memory(7).
 */
#ifndef VMM_MEMSEG_H
#define VMM_MEMSEG_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

struct machine;

/*
 * name is a buffer of namelen bytes; empty means sysmem.  wired: the default
 * of maps made by memseg_setup().
 * => 0; -ENAMETOOLONG no NUL in the buffer; -EINVAL; -EEXIST same kind and
 *    length exist; -ENOMEM; the node's error
 */
int memseg_alloc(struct machine *m, int segid, uint64_t len, const char *name,
    size_t namelen);
/* An unused id gives *lenp 0. => 0, -EINVAL */
int memseg_get(struct machine *m, int segid, uint64_t *lenp,
    char name[VMM_SEGNAME_MAX + 1]);
/* => 0, -EINVAL; bytes resident */
int memseg_resident(struct machine *m, int segid, uint64_t *bytesp);

/* Map changes freeze every vCPU. => not from an engine callback (-EDEADLK) */
int memseg_mmap(struct machine *m, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags);
int memseg_munmap(struct machine *m, gpa_t gpa, uint64_t len);
int memseg_getnext(struct machine *m, gpa_t gpa, struct vmm_memmap *map);

/* Gives back what the guest does not need; from any thread, also while vCPUs run.
 * => 0, -EINVAL, -EFAULT, -ENOMEM */
int memseg_discard(struct machine *m, gpa_t gpa, uint64_t len);
/* The nested table entries that translate gpa, from the root, up to four.
 * => how many; racy by design */
unsigned memseg_entries(struct machine *m, gpa_t gpa, uint64_t pte[4]);

/* sysmem of size bytes, mapped below 3 GB and above 4 GB; once.
 * => 0; -EINVAL; -EEXIST; -ENOMEM */
int memseg_setup(struct machine *m, uint64_t size, unsigned flags);
uint64_t memseg_lowmem(const struct machine *m);
uint64_t memseg_highmem(const struct machine *m);

#endif /* VMM_MEMSEG_H */
