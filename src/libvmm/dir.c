/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A name is claimed by locking its folder, never by the folder's existence:
 *
 *	claim	mkdir (may exist), open, flock, and check that the folder we
 *		locked still is the one with that name (its last owner may just
 *		have removed it); else again.  Then empty it.
 *	release	empty it, rmdir, close: the lock goes last.
 *	list	a folder whose socket refuses connections and whose lock can be
 *		had belongs to nobody: emptied and removed.
 *
 * Sockets are bound and connected through /proc/self/fd, since a machine's
 * name may be longer than sun_path.
 */
#include "libvmm/dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "libvmm/libvmm_int.h"

/* A lister may hold the lock for a moment: how often to try, 5 ms apart. */
#define DIR_LOCK_TRIES 20
#define DIR_OFLAGS (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)

int
dir_path(char *buf, size_t len)
{
	const char *s = getenv("VMM_DIR"), *sub = "";
	int n;

	if (s == NULL || s[0] == '\0') {
		s = getenv("XDG_RUNTIME_DIR");
		sub = "/vmm";
		if (s == NULL || s[0] != '/')
			s = "/run";
	}
	n = snprintf(buf, len, "%s%s", s, sub);
	return n < 0 || (size_t)n >= len ? -ENAMETOOLONG : 0;
}

/* Only a directory that is ours alone is trusted. => descriptor or -errno */
static int
dir_open_base(bool create)
{
	char path[4096];
	struct stat st;
	int error, fd;

	error = dir_path(path, sizeof(path));
	if (error != 0)
		return api_error(error, "VMM_DIR is too long");
	if (create && mkdir(path, 0700) != 0 && errno != EEXIST)
		return api_error(-errno, "cannot make %s: %s (set VMM_DIR)",
		    path, strerror(errno));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return api_error(-errno, "%s: %s", path, strerror(errno));
	if (fstat(fd, &st) != 0 || st.st_uid != geteuid() ||
	    (st.st_mode & 077) != 0) {
		close(fd);
		return api_error(-EPERM,
		    "%s must be a directory of your own with mode 0700", path);
	}
	return fd;
}

static void
dir_empty(int fd)
{
	struct dirent *de;
	DIR *dp;
	int copy = openat(fd, ".", DIR_OFLAGS);

	dp = copy < 0 ? NULL : fdopendir(copy);
	if (dp == NULL) {
		if (copy >= 0)
			close(copy);
		return;
	}
	while ((de = readdir(dp)) != NULL)
		if (strcmp(de->d_name, ".") != 0 &&
		    strcmp(de->d_name, "..") != 0)
			(void)unlinkat(fd, de->d_name, 0);
	closedir(dp);
}

/* => 1: fd is locked and still the folder of that name; 0: not; -errno */
static int
dir_lock(int base, int fd, const char *name)
{
	struct stat a, b;

	if (flock(fd, LOCK_EX | LOCK_NB) != 0)
		return errno == EWOULDBLOCK ? -EWOULDBLOCK : -errno;
	if (fstat(fd, &a) != 0 ||
	    fstatat(base, name, &b, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

static int
dir_try_claim(int base, const char *name, int *fdp)
{
	int fd, rc;

	if (mkdirat(base, name, 0700) != 0 && errno != EEXIST)
		return -errno;
	fd = openat(base, name, DIR_OFLAGS);
	if (fd < 0)
		return errno == ENOENT ? -EAGAIN : -errno;
	rc = dir_lock(base, fd, name);
	if (rc == 1) {
		*fdp = fd;
		return 0;
	}
	close(fd);
	return rc == 0 ? -EAGAIN : rc;
}

int
dir_claim(const char *name, struct dir *d)
{
	const struct timespec pause = { .tv_nsec = 5000000 };
	int base, error = -EAGAIN, fd = -1;

	base = dir_open_base(true);
	if (base < 0)
		return base;
	for (int i = 0; i < DIR_LOCK_TRIES; i++) {
		error = dir_try_claim(base, name, &fd);
		if (error != -EAGAIN && error != -EWOULDBLOCK)
			break;
		nanosleep(&pause, NULL);
	}
	if (error != 0) {
		close(base);
		if (error == -EAGAIN || error == -EWOULDBLOCK)
			return api_error(-EEXIST, "%s runs already", name);
		return api_errno(error, name);
	}
	dir_empty(fd);
	d->base = base;
	d->fd = fd;
	return 0;
}

void
dir_release(struct dir *d, const char *name)
{
	dir_empty(d->fd);
	(void)unlinkat(d->base, name, AT_REMOVEDIR);
	close(d->fd);
	close(d->base);
	d->fd = d->base = -1;
}

int
dir_create_node(struct dir *d, const char *name, uint64_t len, int *fdp)
{
	int error, fd;

	if (strchr(name, '/') != NULL || name[0] == '.' ||
	    strcmp(name, DIR_CONTROL) == 0)
		return -EINVAL;
	fd = openat(d->fd, name,
	    O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)len) != 0) {
		error = -errno;
		close(fd);
		(void)unlinkat(d->fd, name, 0);
		return error;
	}
	*fdp = fd;
	return 0;
}

int
dir_open_node(const char *machine, const char *name, int oflag, int *fdp)
{
	int base, dfd, error = 0, fd;

	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
		return -EINVAL;
	base = dir_open_base(false);
	if (base < 0)
		return base;
	dfd = openat(base, machine, DIR_OFLAGS);
	if (dfd < 0)
		error = -errno;
	close(base);
	if (error != 0)
		return error;
	fd = openat(dfd, name,
	    (oflag & O_ACCMODE) | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		error = -errno;
	else
		*fdp = fd;
	close(dfd);
	return error;
}

int
dir_chmod_node(struct dir *d, const char *name, unsigned mode)
{
	return fchmodat(d->fd, name, mode, 0) != 0 ? -errno : 0;
}

void
dir_remove_node(struct dir *d, const char *name)
{
	(void)unlinkat(d->fd, name, 0);
}

static void
dir_sockaddr(int fd, struct sockaddr_un *sun)
{
	memset(sun, 0, sizeof(*sun));
	sun->sun_family = AF_UNIX;
	snprintf(sun->sun_path, sizeof(sun->sun_path), "/proc/self/fd/%d/%s",
	    fd, DIR_CONTROL);
}

int
dir_listen(struct dir *d)
{
	struct sockaddr_un sun;
	int error, s;

	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	dir_sockaddr(d->fd, &sun);
	if (bind(s, (struct sockaddr *)&sun, sizeof(sun)) != 0 ||
	    fchmodat(d->fd, DIR_CONTROL, 0600, 0) != 0 ||
	    listen(s, 16) != 0) {
		error = -errno;
		close(s);
		return error;
	}
	return s;
}

/* => descriptor; -ENOENT no folder; -ECONNREFUSED nobody listens */
static int
dir_connect_at(int base, const char *name)
{
	struct sockaddr_un sun;
	int dfd, error, s;

	dfd = openat(base, name, DIR_OFLAGS);
	if (dfd < 0)
		return -errno;
	s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0) {
		error = -errno;
		close(dfd);
		return error;
	}
	dir_sockaddr(dfd, &sun);
	if (connect(s, (struct sockaddr *)&sun, sizeof(sun)) != 0) {
		error = errno == ENOENT ? -ECONNREFUSED : -errno;
		close(s);
		s = error;
	}
	close(dfd);
	return s;
}

int
dir_connect(const char *name)
{
	int base, s;

	base = dir_open_base(false);
	if (base < 0)
		return base;
	s = dir_connect_at(base, name);
	close(base);
	return s;
}

/* => what a dead machine left is gone */
static void
dir_reap(int base, const char *name)
{
	int fd = openat(base, name, DIR_OFLAGS);

	if (fd < 0)
		return;
	if (dir_lock(base, fd, name) == 1) {
		dir_empty(fd);
		(void)unlinkat(base, name, AT_REMOVEDIR);
	}
	close(fd);
}

int
dir_list(int (*fn)(void *arg, const char *name), void *arg)
{
	struct dirent **de;
	int base, n, rc = 0, s;

	base = dir_open_base(false);
	if (base == -ENOENT)
		return 0;
	if (base < 0)
		return base;
	n = scandirat(base, ".", &de, NULL, alphasort);
	if (n < 0) {
		rc = -errno;
		close(base);
		return api_errno(rc, "the directory of machines");
	}
	for (int i = 0; i < n; i++) {
		if (de[i]->d_name[0] != '.' && rc == 0) {
			s = dir_connect_at(base, de[i]->d_name);
			if (s == -ECONNREFUSED)
				dir_reap(base, de[i]->d_name);
			if (s >= 0) {
				close(s);
				rc = fn(arg, de[i]->d_name);
			}
		}
		free(de[i]);
	}
	free(de);
	close(base);
	return rc;
}
