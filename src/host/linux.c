/* SPDX-License-Identifier: BSD-2-Clause */
/* The host seam on Linux, in user space. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/host.h"
#include "base/lock.h"

/* Of address space, not of memory; less where that is short (sanitizers,
 * RLIMIT_AS). */
#define HOST_DMAP_MAX (1ul << 44)
#define HOST_DMAP_MIN (1ul << 34)
#define HOST_DMAP_ALIGN (1ul << 30)
#define HOST_2M (2ul << 20)
#define HOST_PAGE 4096ul
#define HOST_IOV 64
#ifndef MADV_POPULATE_WRITE /* Linux 5.14 */
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE /* Linux 6.1; older C libraries do not name it */
#define MADV_COLLAPSE 25
#endif

char *host_dmap_base;

/* Free ranges, sorted by hpa, never adjacent. */
struct host_range {
	struct host_range *next;
	uint64_t hpa, len;
};
static struct host_range *host_free_list;
static struct lock host_dmap_lock;
static uint64_t host_dmap_out; /* bytes given out; under the lock */
static pthread_once_t host_dmap_once = PTHREAD_ONCE_INIT;
static int host_dmap_error;

static struct {
	uint64_t size; /* of the direct map */
	struct sigaction old;
	_Atomic uint64_t pages;
} host_lost;

/*
 * A file that is mapped in the direct map has become shorter: whoever did that
 * must not end the machine.  The page becomes zeros of its own, and it is said
 * once.  Async-signal-safe.
 */
static void
host_sigbus(int sig, siginfo_t *si, void *uc)
{
	static const char msg[] = "hyve: a file of device memory has been made "
	    "shorter; zeros stand there now\n";
	uint64_t off = DMAP_TO_PHYS(si->si_addr);
	int saved = errno;

	if (si->si_code == BUS_ADRERR && off < host_lost.size &&
	    mmap(PHYS_TO_DMAP(base_rounddown(off, HOST_PAGE)), HOST_PAGE,
		PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
		-1, 0) != MAP_FAILED) {
		if (atomic_fetch_add(&host_lost.pages, 1) == 0 &&
		    write(STDERR_FILENO, msg, sizeof(msg) - 1) < 0)
			errno = saved;
		errno = saved;
		return;
	}
	if ((host_lost.old.sa_flags & SA_SIGINFO) != 0)
		host_lost.old.sa_sigaction(sig, si, uc);
	else if (host_lost.old.sa_handler != SIG_DFL &&
	    host_lost.old.sa_handler != SIG_IGN)
		host_lost.old.sa_handler(sig);
	else /* again, and for good */
		(void)signal(sig, SIG_DFL);
}

uint64_t
host_dmap_lost(void)
{
	return atomic_load(&host_lost.pages);
}

static void
host_dmap_setup(void)
{
	struct sigaction sa = { .sa_sigaction = host_sigbus,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	uint64_t size = HOST_DMAP_MAX;
	char *p;

	lock_init(&host_dmap_lock, "dmap", LOCK_RANK_LEAF);
	while ((p = mmap(NULL, size + HOST_DMAP_ALIGN, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) ==
		MAP_FAILED &&
	    size > HOST_DMAP_MIN)
		size /= 2;
	if (p == MAP_FAILED) {
		host_dmap_error = -errno;
		return;
	}
	host_dmap_base = (char *)base_roundup((uintptr_t)p, HOST_DMAP_ALIGN);
	host_free_list = host_alloc(sizeof(*host_free_list));
	if (host_free_list == NULL) {
		host_dmap_error = -ENOMEM;
		return;
	}
	/* hpa 0 is never given out: page-table entries of 0 mean none */
	host_free_list->hpa = HOST_2M;
	host_free_list->len = size - HOST_2M;
	host_lost.size = size;
	(void)sigaction(SIGBUS, &sa, &host_lost.old);
}

int
host_dmap_init(void)
{
	pthread_once(&host_dmap_once, host_dmap_setup);
	return host_dmap_error;
}

/* Puts a range back; joins it with its neighbours. */
static void
host_dmap_give(uint64_t hpa, uint64_t len)
{
	struct host_range **rp, *r, *n, *prev = NULL;

	n = host_alloc(sizeof(*n));
	if (n == NULL)
		return; /* address space only */
	n->hpa = hpa;
	n->len = len;
	lock_acquire(&host_dmap_lock);
	host_dmap_out -= len;
	for (rp = &host_free_list; (r = *rp) != NULL && r->hpa < hpa; rp = &r->next)
		prev = r;
	n->next = r;
	*rp = n;
	if (r != NULL && hpa + len == r->hpa) {
		n->len += r->len;
		n->next = r->next;
		host_free(r);
	}
	if (prev != NULL && prev->hpa + prev->len == hpa) {
		prev->len += n->len;
		prev->next = n->next;
		host_free(n);
	}
	lock_release(&host_dmap_lock);
}

static int
host_dmap_take(uint64_t len, uint64_t *hpap)
{
	uint64_t align = len >= HOST_DMAP_ALIGN ? HOST_DMAP_ALIGN : HOST_2M;
	struct host_range **rp, *r;
	uint64_t start = 0, skip = 0;

	lock_acquire(&host_dmap_lock);
	for (rp = &host_free_list; (r = *rp) != NULL; rp = &r->next) {
		start = r->hpa;
		skip = base_roundup(start, align) - start;
		if (r->len < skip + len)
			continue;
		*hpap = start + skip;
		host_dmap_out += skip + len;
		r->hpa += skip + len;
		r->len -= skip + len;
		if (r->len == 0) {
			*rp = r->next;
			host_free(r);
		}
		break;
	}
	lock_release(&host_dmap_lock);
	if (r != NULL && skip != 0)
		host_dmap_give(start, skip);
	return r == NULL ? -ENOMEM : 0;
}

int
host_dmap_alloc(uint64_t len, uint64_t *hpap)
{
	uint64_t hpa;
	int error = host_dmap_take(len, &hpa);

	if (error != 0)
		return error;
	if (mmap(PHYS_TO_DMAP(hpa), len, PROT_READ | PROT_WRITE,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
		0) == MAP_FAILED) {
		error = -errno;
		host_dmap_free(hpa, len);
		return error;
	}
	/* a sparse guest must not cost 2 MB a touch */
	(void)madvise(PHYS_TO_DMAP(hpa), len, MADV_NOHUGEPAGE);
	*hpap = hpa;
	return 0;
}

int
host_dmap_alloc_fd(int fd, uint64_t off, uint64_t len, uint64_t *hpap)
{
	uint64_t hpa;
	int error = host_dmap_take(base_roundup(len, HOST_2M), &hpa);

	if (error != 0)
		return error;
	if (mmap(PHYS_TO_DMAP(hpa), len, PROT_READ | PROT_WRITE,
		MAP_SHARED | MAP_FIXED, fd, (off_t)off) == MAP_FAILED) {
		error = -errno;
		host_dmap_free(hpa, len);
		return error;
	}
	*hpap = hpa;
	return 0;
}

int
host_dmap_place_fd(uint64_t hpa, int fd, uint64_t off, uint64_t len, bool *writablep)
{
	int mode = fcntl(fd, F_GETFL), prot = PROT_READ;
	struct stat st;

	if (mode < 0 || fstat(fd, &st) != 0)
		return -errno;
	/* beyond the end of a file a touch would be a signal */
	if (((hpa | off | len) & (HOST_PAGE - 1)) != 0 || len == 0 ||
	    off + len < off ||
	    (S_ISREG(st.st_mode) && (uint64_t)st.st_size < off + len))
		return -EINVAL;
	*writablep = (mode & O_ACCMODE) == O_RDWR;
	if (*writablep)
		prot |= PROT_WRITE;
	return mmap(PHYS_TO_DMAP(hpa), len, prot, MAP_SHARED | MAP_FIXED, fd,
	    (off_t)off) == MAP_FAILED ? -errno : 0;
}

int
host_dmap_place_ptr(uint64_t hpa, void *ptr, uint64_t len)
{
	if (((hpa | (uintptr_t)ptr | len) & (HOST_PAGE - 1)) != 0 || len == 0)
		return -EINVAL;
	/* an old size of 0 makes a second mapping, of shared memory only */
	return mremap(ptr, 0, len, MREMAP_MAYMOVE | MREMAP_FIXED,
	    PHYS_TO_DMAP(hpa)) == MAP_FAILED ? -errno : 0;
}

uint64_t
host_dmap_used(void)
{
	uint64_t n;

	lock_acquire(&host_dmap_lock);
	n = host_dmap_out;
	lock_release(&host_dmap_lock);
	return n;
}

void
host_dmap_free(uint64_t hpa, uint64_t len)
{
	len = base_roundup(len, HOST_2M);
	(void)mmap(PHYS_TO_DMAP(hpa), len, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	host_dmap_give(hpa, len);
}

int
host_dmap_discard(uint64_t hpa, uint64_t len)
{
	return madvise(PHYS_TO_DMAP(hpa), len, MADV_DONTNEED) == 0 ? 0 : -errno;
}

void
host_dmap_set_incore(uint64_t hpa, uint64_t len, bool incore)
{
	(void)madvise(PHYS_TO_DMAP(hpa), len,
	    incore ? MADV_DODUMP : MADV_DONTDUMP);
}

int
host_dmap_populate(uint64_t hpa, uint64_t len)
{
	while (madvise(PHYS_TO_DMAP(hpa), len, MADV_POPULATE_WRITE) != 0)
		if (errno != EINTR && errno != EAGAIN)
			/* an older kernel gives it at the touch, as ever */
			return errno == EINVAL ? 0 : -ENOMEM;
	return 0;
}

int
host_dmap_collapse(uint64_t hpa, uint64_t len)
{
	void *p = PHYS_TO_DMAP(hpa);
	int error = 0;

	if (madvise(p, len, MADV_HUGEPAGE) != 0)
		return -errno;
	if (madvise(p, len, MADV_COLLAPSE) != 0)
		error = -errno;
	/* the range stays marked against huge pages: once it is sparse again,
	 * a touch must cost 4 KB */
	(void)madvise(p, len, MADV_NOHUGEPAGE);
	return error;
}

int
host_file_open(int fd, uint64_t *sizep)
{
	struct stat st;
	int file;

	if (fstat(fd, &st) != 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	file = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (file < 0)
		return -errno;
	*sizep = (uint64_t)st.st_size;
	return file;
}

void
host_file_close(int file)
{
	close(file);
}

int
host_file_read(int file, void *ptr, uint64_t len, uint64_t off)
{
	uint64_t done = 0;

	while (done < len) {
		ssize_t r = pread(file, (char *)ptr + done, len - done,
		    (off_t)(off + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		done += (uint64_t)r;
	}
	return 0;
}

int
host_swap_open(const char *dir)
{
	int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

void
host_swap_close(int swap)
{
	close(swap);
}

int
host_swap_write(int swap, void *const *ptr, unsigned npages, uint64_t off)
{
	struct iovec iov[HOST_IOV];
	unsigned done = 0;

	while (done < npages) {
		unsigned n = base_min(npages - done, HOST_IOV);
		ssize_t r;

		for (unsigned i = 0; i < n; i++)
			iov[i] = (struct iovec) { ptr[done + i], HOST_PAGE };
		r = pwritev(swap, iov, (int)n, (off_t)(off + done * HOST_PAGE));
		if (r < 0 && errno == EINTR)
			continue;
		/* a quota or a limit of file sizes: as full as a disk can be */
		if (r < (ssize_t)HOST_PAGE)
			return r < 0 && errno != EFBIG && errno != EDQUOT ? -errno :
			    -ENOSPC;
		done += (unsigned)((size_t)r / HOST_PAGE); /* a part again */
	}
	return 0;
}

int
host_swap_read(int swap, void *ptr, unsigned npages, uint64_t off)
{
	return host_file_read(swap, ptr, npages * HOST_PAGE, off);
}

void *
host_alloc(size_t size)
{
	return calloc(1, size);
}

void
host_free(void *p)
{
	free(p);
}

void
host_yield(void)
{
	sched_yield();
}

struct host_thread {
	pthread_t id;
	void (*fn)(void *);
	void *arg;
};

static void *
host_thread_main(void *arg)
{
	struct host_thread *t = arg;

	t->fn(t->arg);
	return NULL;
}

int
host_thread_start(const char *name, void (*fn)(void *), void *arg,
    struct host_thread **tp)
{
	struct host_thread *t = host_alloc(sizeof(*t));
	sigset_t all, old;
	int error;

	if (t == NULL)
		return -ENOMEM;
	t->fn = fn;
	t->arg = arg;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = -pthread_create(&t->id, NULL, host_thread_main, t);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0) {
		host_free(t);
		return error;
	}
	(void)pthread_setname_np(t->id, name);
	*tp = t;
	return 0;
}

void
host_thread_join(struct host_thread *t)
{
	pthread_join(t->id, NULL);
	host_free(t);
}
