/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A disk that fails on demand: in front of the C library (LD_PRELOAD), pread
 * and pwritev on files without a name fail with EIO while $BADSWAP/read or
 * $BADSWAP/write exists.
 */
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool
badswap(int fd, const char *what)
{
	const char *dir = getenv("BADSWAP");
	char path[256];
	struct stat st;

	if (dir == NULL || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    st.st_nlink != 0)
		return false;
	snprintf(path, sizeof(path), "%s/%s", dir, what);
	return access(path, F_OK) == 0;
}

__attribute__((visibility("default"))) ssize_t
pread(int fd, void *buf, size_t len, off_t off)
{
	if (badswap(fd, "read")) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pread64, fd, buf, len, off);
}

__attribute__((visibility("default"))) ssize_t
pwritev(int fd, const struct iovec *iov, int n, off_t off)
{
	if (badswap(fd, "write")) {
		errno = EIO;
		return -1;
	}
	return syscall(SYS_pwritev, fd, iov, n, off, off >> 31 >> 1);
}
