/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host seam in plain memory, for tests: deterministic, without system calls,
 * and it fails when it is told to.  One thread.
 */
#ifndef HOST_FAKE_H
#define HOST_FAKE_H

#include <stdbool.h>
#include <stdint.h>

/* Kinds of calls. */
#define FAKE_ALLOC 0x1	  /* host_alloc */
#define FAKE_DMAP 0x2	  /* host_dmap_alloc and what makes mappings */
#define FAKE_DISCARD 0x4  /* host_dmap_discard */
#define FAKE_COLLAPSE 0x8 /* host_dmap_collapse */
#define FAKE_FILE 0x10	  /* host_file_open, _read */
#define FAKE_READ 0x20	  /* host_swap_read */
#define FAKE_WRITE 0x40	  /* host_swap_open, _write */
#define FAKE_ALL 0x7f

/* The nth call from now on of one of these kinds fails, and all of them up to
 * count in a row; nth 0: none does. */
void fake_fail(unsigned kinds, unsigned long nth, unsigned long count);
/* Calls that were made to fail since fake_fail(). */
unsigned long fake_failed(void);

/* A file, for host_file_open() and host_dmap_alloc_fd(), which copies it. data
 * stays the caller's, and may be changed. */
int fake_file(const void *data, uint64_t len);
void fake_truncate(int fd, uint64_t len);

/* What has not been given back. */
struct fake_live {
	uint64_t allocs, dmap, files, swaps;
};
void fake_live_get(struct fake_live *live);

#endif /* HOST_FAKE_H */
