/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The seam to the host: all that vm and pmap may ask of the world.
 * host/linux.c implements it for user space, host/fake.c for tests.
 */
#ifndef BASE_HOST_H
#define BASE_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

/*
 * The direct map: one reservation of the address space, aligned to 1 GB, in
 * which all guest memory and all page-table pages lie.  hpa is an offset
 * into it.  Set once by host_dmap_init(), constant afterwards.
 */
extern char *host_dmap_base;
#define PHYS_TO_DMAP(hpa) ((void *)(host_dmap_base + (hpa)))
#define DMAP_TO_PHYS(p) ((uint64_t)((const char *)(p) - host_dmap_base))

int host_dmap_init(void) BASE_MUST_CHECK;

/* Reserves len bytes (2 MB multiple, 2 MB aligned; from 1 GB on, 1 GB aligned)
 * of the direct map as zero-filled private memory that costs nothing until
 * touched. */
int host_dmap_alloc(uint64_t len, uint64_t *hpap) BASE_MUST_CHECK;
/* The same on a file; shared with whoever maps it. */
int host_dmap_alloc_fd(int fd, uint64_t off, uint64_t len,
    uint64_t *hpap) BASE_MUST_CHECK;
void host_dmap_free(uint64_t hpa, uint64_t len);
/* Replaces part of a range from host_dmap_alloc(): by len bytes of fd from off,
 * or by memory of the process that is mapped shared.  *writablep: whether it
 * may be written to. => 0; -EINVAL alignment, fd too short, private memory */
int host_dmap_place_fd(uint64_t hpa, int fd, uint64_t off, uint64_t len,
    bool *writablep) BASE_MUST_CHECK;
int host_dmap_place_ptr(uint64_t hpa, void *ptr,
    uint64_t len) BASE_MUST_CHECK;
/* Pages of files in the direct map that were touched after the files had become
 * too short; zeros stand there since. */
uint64_t host_dmap_lost(void);
/* Bytes of the direct map that are given out. */
uint64_t host_dmap_used(void);
/* Gives pages back to the host; they read as zeros again. */
int host_dmap_discard(uint64_t hpa, uint64_t len) BASE_MUST_CHECK;

/* Sees to it that the host has memory behind a range now, not at a touch;
 * contents stay. => 0, -ENOMEM */
int host_dmap_populate(uint64_t hpa, uint64_t len) BASE_MUST_CHECK;
/* Puts one 2 MB host page behind 2 MB of the direct map; contents stay, what was
 * not in use is zeros. => 0, or -errno: all is as it was */
int host_dmap_collapse(uint64_t hpa, uint64_t len);

/* Whether core dumps of the process contain the range; by default they do. */
void host_dmap_set_incore(uint64_t hpa, uint64_t len, bool incore);

/* A file that pages are read from; fd stays the caller's.
 * => a handle, or -errno; *sizep: its size now */
int host_file_open(int fd, uint64_t *sizep) BASE_MUST_CHECK;
void host_file_close(int file);
/* Exactly len bytes. => -EIO also where the file has become shorter */
int host_file_read(int file, void *ptr, uint64_t len,
    uint64_t off) BASE_MUST_CHECK;

/* Swap storage: a file without a name in dir. => a handle, or -errno */
int host_swap_open(const char *dir) BASE_MUST_CHECK;
void host_swap_close(int swap);
/* npages pages from ptr[0..npages) to off, or back. => 0, or -errno: nothing
 * may be relied upon */
int host_swap_write(int swap, void *const *ptr, unsigned npages,
    uint64_t off) BASE_MUST_CHECK;
int host_swap_read(int swap, void *ptr, unsigned npages,
    uint64_t off) BASE_MUST_CHECK;

void *host_alloc(size_t size) BASE_MUST_CHECK; /* zeroed; NULL: none */
void host_free(void *p);
void host_yield(void);

/* A thread that hears no signals. => 0, -errno */
struct host_thread;
int host_thread_start(const char *name, void (*fn)(void *), void *arg,
    struct host_thread **tp) BASE_MUST_CHECK;
void host_thread_join(struct host_thread *t);

#endif /* BASE_HOST_H */
