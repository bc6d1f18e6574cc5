/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A host for tests: the direct map is one piece of memory, swap another, files
 * are what the test says they are.  It asserts what the real one could not: that
 * ranges are given back as they were taken, that nothing is discarded, read or
 * written outside of them, and that memory comes as zeros, after it had been
 * made anything but zeros.
 */
#include "host/fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"

#define FAKE_PAGE 4096ul
#define FAKE_2M (2ul << 20)
#define FAKE_DMAP_SIZE (384ul << 20)
#define FAKE_NBLOCK (FAKE_DMAP_SIZE / FAKE_2M)
#define FAKE_SWAP_SIZE (64ul << 20)
#define FAKE_NFILE 64
#define FAKE_POISON 0xdb

char *host_dmap_base;

static struct {
	/* By 2 MB: blocks of the range that begins here, 0: none does; and
	 * whether it is in a range. */
	uint32_t range[FAKE_NBLOCK];
	bool used[FAKE_NBLOCK];
	char *swap;
	struct {
		const char *data;
		uint64_t len;
		unsigned opens;
	} file[FAKE_NFILE];
	int nfile;
	struct fake_live live;
	unsigned kinds;
	unsigned long nth, count, failed;
} fake;

void
fake_fail(unsigned kinds, unsigned long nth, unsigned long count)
{
	fake.kinds = kinds;
	fake.nth = nth;
	fake.count = count;
	fake.failed = 0;
}

unsigned long
fake_failed(void)
{
	return fake.failed;
}

static bool
fake_fails(unsigned kind)
{
	if ((fake.kinds & kind) == 0 || fake.nth == 0)
		return false;
	if (fake.nth > 1) {
		fake.nth--;
		return false;
	}
	if (--fake.count == 0)
		fake.nth = 0;
	fake.failed++;
	return true;
}

void
fake_live_get(struct fake_live *live)
{
	*live = fake.live;
}

/* --- files ----------------------------------------------------------------- */

int
fake_file(const void *data, uint64_t len)
{
	KASSERT(fake.nfile < FAKE_NFILE, "too many files");
	fake.file[fake.nfile].data = data;
	fake.file[fake.nfile].len = len;
	return fake.nfile++;
}

void
fake_truncate(int fd, uint64_t len)
{
	fake.file[fd].len = len;
}

int
host_file_open(int fd, uint64_t *sizep)
{
	if (fd < 0 || fd >= fake.nfile)
		return -EBADF;
	if (fake_fails(FAKE_FILE))
		return -EMFILE;
	fake.file[fd].opens++;
	fake.live.files++;
	*sizep = fake.file[fd].len;
	return fd;
}

void
host_file_close(int file)
{
	KASSERT(fake.file[file].opens > 0, "file %d closed twice", file);
	fake.file[file].opens--;
	fake.live.files--;
}

int
host_file_read(int file, void *ptr, uint64_t len, uint64_t off)
{
	KASSERT(fake.file[file].opens > 0, "file %d is not open", file);
	if (off + len > fake.file[file].len || fake_fails(FAKE_FILE)) {
		memset(ptr, FAKE_POISON, len / 2); /* some of it may be there */
		return -EIO;
	}
	memcpy(ptr, fake.file[file].data + off, len);
	return 0;
}

/* --- the direct map --------------------------------------------------------- */

int
host_dmap_init(void)
{
	if (host_dmap_base == NULL)
		host_dmap_base = aligned_alloc(FAKE_2M, FAKE_DMAP_SIZE);
	return host_dmap_base == NULL ? -ENOMEM : 0;
}

/* All of [hpa, hpa+len) is in ranges that are given out. */
static void
fake_inside(uint64_t hpa, uint64_t len)
{
	KASSERT(hpa < FAKE_DMAP_SIZE && len <= FAKE_DMAP_SIZE - hpa,
	    "%lx+%lx is not in the direct map", hpa, len);
	for (uint64_t b = hpa / FAKE_2M; b * FAKE_2M < hpa + len; b++)
		KASSERT(fake.used[b], "%lx+%lx is not given out", hpa, len);
}

int
host_dmap_alloc(uint64_t len, uint64_t *hpap)
{
	uint64_t n = len / FAKE_2M, run = 0;

	KASSERT(len != 0 && len % FAKE_2M == 0, "dmap_alloc of %lx", len);
	if (fake_fails(FAKE_DMAP))
		return -ENOMEM;
	/* block 0 never: an hpa of 0 means none */
	for (uint64_t b = 1; b < FAKE_NBLOCK; b++) {
		run = fake.used[b] ? 0 : run + 1;
		if (run < n)
			continue;
		b -= n - 1;
		fake.range[b] = (uint32_t)n;
		for (uint64_t i = 0; i < n; i++)
			fake.used[b + i] = true;
		memset(PHYS_TO_DMAP(b * FAKE_2M), 0, len);
		fake.live.dmap += len;
		*hpap = b * FAKE_2M;
		return 0;
	}
	return -ENOMEM;
}

int
host_dmap_alloc_fd(int fd, uint64_t off, uint64_t len, uint64_t *hpap)
{
	bool writable;
	int error = host_dmap_alloc(base_roundup(len, FAKE_2M), hpap);

	if (error != 0)
		return error;
	error = host_dmap_place_fd(*hpap, fd, off, len, &writable);
	if (error != 0)
		host_dmap_free(*hpap, len);
	return error;
}

void
host_dmap_free(uint64_t hpa, uint64_t len)
{
	uint64_t b = hpa / FAKE_2M, n = base_roundup(len, FAKE_2M) / FAKE_2M;

	KASSERT(hpa % FAKE_2M == 0 && b < FAKE_NBLOCK && fake.range[b] == n,
	    "%lx+%lx is no range", hpa, len);
	fake.range[b] = 0;
	for (uint64_t i = 0; i < n; i++)
		fake.used[b + i] = false;
	memset(PHYS_TO_DMAP(hpa), FAKE_POISON, n * FAKE_2M);
	fake.live.dmap -= n * FAKE_2M;
}

int
host_dmap_place_fd(uint64_t hpa, int fd, uint64_t off, uint64_t len, bool *writablep)
{
	if (fd < 0 || fd >= fake.nfile)
		return -EBADF;
	if ((hpa | off | len) % FAKE_PAGE != 0 || off + len > fake.file[fd].len)
		return -EINVAL;
	if (fake_fails(FAKE_DMAP))
		return -ENOMEM;
	fake_inside(hpa, len);
	memcpy(PHYS_TO_DMAP(hpa), fake.file[fd].data + off, len);
	*writablep = true;
	return 0;
}

int
host_dmap_place_ptr(uint64_t hpa, void *ptr, uint64_t len)
{
	if ((hpa | len) % FAKE_PAGE != 0)
		return -EINVAL;
	if (fake_fails(FAKE_DMAP))
		return -ENOMEM;
	fake_inside(hpa, len);
	memcpy(PHYS_TO_DMAP(hpa), ptr, len);
	return 0;
}

uint64_t
host_dmap_lost(void)
{
	return 0;
}

uint64_t
host_dmap_used(void)
{
	return fake.live.dmap;
}

int
host_dmap_discard(uint64_t hpa, uint64_t len)
{
	KASSERT((hpa | len) % FAKE_PAGE == 0, "discard of %lx+%lx", hpa, len);
	fake_inside(hpa, len);
	if (fake_fails(FAKE_DISCARD))
		return -EINVAL;
	memset(PHYS_TO_DMAP(hpa), 0, len);
	return 0;
}

int
host_dmap_populate(uint64_t hpa, uint64_t len)
{
	KASSERT((hpa | len) % FAKE_PAGE == 0, "populate of %lx+%lx", hpa, len);
	fake_inside(hpa, len);
	return fake_fails(FAKE_DMAP) ? -ENOMEM : 0;
}

int
host_dmap_collapse(uint64_t hpa, uint64_t len)
{
	KASSERT(hpa % FAKE_2M == 0 && len == FAKE_2M, "collapse of %lx+%lx", hpa, len);
	fake_inside(hpa, len);
	return fake_fails(FAKE_COLLAPSE) ? -ENOMEM : 0;
}

void
host_dmap_set_incore(uint64_t hpa, uint64_t len, bool incore)
{
	(void)incore;
	fake_inside(hpa, len);
}

/* --- swap -------------------------------------------------------------------- */

int
host_swap_open(const char *dir)
{
	(void)dir;
	if (fake_fails(FAKE_WRITE))
		return -EROFS;
	if (fake.swap == NULL)
		fake.swap = malloc(FAKE_SWAP_SIZE);
	if (fake.swap == NULL)
		return -ENOMEM;
	memset(fake.swap, FAKE_POISON, FAKE_SWAP_SIZE);
	fake.live.swaps++;
	return 0;
}

void
host_swap_close(int swap)
{
	KASSERT(swap == 0 && fake.live.swaps == 1, "no swap is open");
	fake.live.swaps--;
}

int
host_swap_write(int swap, void *const *ptr, unsigned npages, uint64_t off)
{
	KASSERT(swap == 0 && fake.live.swaps == 1, "no swap is open");
	if (off + npages * FAKE_PAGE > FAKE_SWAP_SIZE)
		return -ENOSPC;
	for (unsigned i = 0; i < npages; i++) {
		/* half of it is written */
		if (i == npages / 2 && fake_fails(FAKE_WRITE))
			return -EIO;
		fake_inside(DMAP_TO_PHYS(ptr[i]), FAKE_PAGE);
		memcpy(fake.swap + off + i * FAKE_PAGE, ptr[i], FAKE_PAGE);
	}
	return 0;
}

int
host_swap_read(int swap, void *ptr, unsigned npages, uint64_t off)
{
	KASSERT(swap == 0 && fake.live.swaps == 1, "no swap is open");
	KASSERT(off + npages * FAKE_PAGE <= FAKE_SWAP_SIZE, "swap read at %lx", off);
	if (fake_fails(FAKE_READ)) {
		memset(ptr, FAKE_POISON, FAKE_PAGE);
		return -EIO;
	}
	memcpy(ptr, fake.swap + off, npages * FAKE_PAGE);
	return 0;
}

/* --- the rest ----------------------------------------------------------------- */

void *
host_alloc(size_t size)
{
	void *p = fake_fails(FAKE_ALLOC) ? NULL : calloc(1, size);

	if (p != NULL)
		fake.live.allocs++;
	return p;
}

void
host_free(void *p)
{
	if (p != NULL)
		fake.live.allocs--;
	free(p);
}

void
host_yield(void)
{
}

/* Tests on this host decide themselves what happens when. */
int
host_thread_start(const char *name, void (*fn)(void *), void *arg,
    struct host_thread **tp)
{
	(void)name;
	(void)fn;
	(void)arg;
	(void)tp;
	return -EAGAIN;
}

void
host_thread_join(struct host_thread *t)
{
	(void)t;
}
