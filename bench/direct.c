/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * direct [-a PAGES] [-c PAGES] PROGRAM [ARG]...
 * direct -p
 *
 * A prototype of direct execution, for measuring: "guest user mode" (a static
 * Linux program) runs untranslated in a helper process whose address space
 * holds nothing else but a stub of two pages.  The engine (this process) is
 * its kernel: it owns the memory, a memfd whose pages stand for guest-physical
 * frames, scattered on purpose; it learns of page faults and system calls by
 * ptrace, and no system call of the program ever reaches the host
 * (PTRACE_SYSEMU).  Mappings are made by the stub, on the engine's order.
 * docs/design/direct-execution.md has the figures.
 *
 * -a: pages mapped at one fault; -c: contiguous frames, as a guest's kernel
 * may hand them out; -p: prices of the mechanisms alone.
 */
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <asm/prctl.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ul
#define FRAMES (1ul << 19) /* 2 GB */
#define VPAGES (1ul << 28) /* 40 bits of addresses */
#define STACK_TOP 0x7f00000000ul
#define STACK_LEN (8ul << 20)
#define MMAP_BASE 0x6000000000ul
#define USER_TOP 0x7ffffffff000ul
#define BATCH 120u
#define HANDOVERS 20000

struct order { /* read by the stub */
	uint64_t va, len, off;
	uint32_t prot, fd;
};

/* By page number, sparse: frame + 1; protection and: */
#define PAGE_VALID 0x40u
#define PAGE_MAPPED 0x80u /* in the helper */
static uint32_t *frame_of;
static uint8_t *state_of;
static uint8_t *mem;
static int memfd;
static uint64_t stub_va, next_run, contig = 1, around = 16;
static struct order *orders;
static pid_t helper;
static uint64_t brk_start, brk_now, mmap_next = MMAP_BASE;
static uint64_t nfaults, nmaps, npages, nsyscalls;

static void
die(const char *what)
{
	fprintf(stderr, "direct: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* --- memory ------------------------------------------------------------ */

/* Frames are given out downwards in runs, so that two runs are never one. */
static uint64_t
frame(uint64_t vp)
{
	uint64_t first = vp / contig * contig;

	if (frame_of[vp] != 0)
		return frame_of[vp] - 1;
	if ((next_run + 1) * contig > FRAMES) {
		errno = ENOMEM;
		die("frames");
	}
	for (uint64_t i = 0; i < contig; i++)
		frame_of[first + i] = (uint32_t)(FRAMES -
		    (next_run + 1) * contig + i + 1);
	next_run++;
	return frame_of[vp] - 1;
}

/* => false: not the program's address */
static bool
in_range(uint64_t va, uint64_t len)
{
	return len <= VPAGES * PAGE && va <= VPAGES * PAGE - len;
}

static bool
region(uint64_t va, uint64_t len, unsigned prot)
{
	if (!in_range(va, len))
		return false;
	for (uint64_t p = va / PAGE; p < (va + len + PAGE - 1) / PAGE; p++)
		state_of[p] = (uint8_t)(PAGE_VALID | (prot & 7) |
		    (state_of[p] & PAGE_MAPPED));
	return true;
}

static bool
copyin(uint64_t va, const void *src, uint64_t len)
{
	if (!in_range(va, len))
		return false;
	while (len > 0) {
		uint64_t n = PAGE - va % PAGE;

		n = n < len ? n : len;
		memcpy(mem + frame(va / PAGE) * PAGE + va % PAGE, src, n);
		va += n;
		src = (const uint8_t *)src + n;
		len -= n;
	}
	return true;
}

static bool
copyout(void *dst, uint64_t va, uint64_t len)
{
	uint8_t *d = dst;

	if (!in_range(va, len))
		return false;
	for (; len > 0; va++, len--)
		*d++ = mem[frame(va / PAGE) * PAGE + va % PAGE];
	return true;
}

/* --- the helper -------------------------------------------------------- */

#define STUB_CALL 0
#define STUB_MAP 4
static const uint8_t stub_code[] = {
	0x0f, 0x05, 0xcc, 0x90,		/* syscall; int3 */
	/* mmap() for each of r12 orders at rbx */
	0x48, 0x8b, 0x3b,		/* mov rdi, [rbx] */
	0x48, 0x8b, 0x73, 0x08,		/* mov rsi, [rbx+8] */
	0x4c, 0x8b, 0x4b, 0x10,		/* mov r9, [rbx+16] */
	0x8b, 0x53, 0x18,		/* mov edx, [rbx+24] */
	0x44, 0x8b, 0x43, 0x1c,		/* mov r8d, [rbx+28] */
	0x41, 0xba, 0x11, 0, 0, 0,	/* mov r10d, MAP_SHARED|MAP_FIXED */
	0xb8, 9, 0, 0, 0,		/* mov eax, mmap */
	0x0f, 0x05,			/* syscall */
	0x48, 0x85, 0xc0,		/* test rax, rax */
	0x78, 0x09,			/* js over the loop */
	0x48, 0x83, 0xc3, 0x20,		/* add rbx, 32 */
	0x49, 0xff, 0xcc,		/* dec r12 */
	0x75, 0xd3,			/* jnz */
	0xcc,
};

static int
helper_wait(void)
{
	int status;

	if (waitpid(helper, &status, 0) < 0 || !WIFSTOPPED(status))
		die("the helper is gone");
	return WSTOPSIG(status);
}

static void
regs_get(struct user_regs_struct *r)
{
	if (ptrace(PTRACE_GETREGS, helper, 0, r) != 0)
		die("registers");
}

static void
regs_set(struct user_regs_struct *r)
{
	r->orig_rax = ~0ul; /* no system call to be restarted */
	if (ptrace(PTRACE_SETREGS, helper, 0, r) != 0)
		die("registers");
}

/* Runs the stub at off with these registers, which it changes. */
static void
stub_run(struct user_regs_struct *r, unsigned off)
{
	int sig;

	r->rip = stub_va + off;
	regs_set(r);
	if (ptrace(PTRACE_CONT, helper, 0, 0) != 0)
		die("stub");
	sig = helper_wait();
	regs_get(r);
	if (sig != SIGTRAP || (int64_t)r->rax < 0) {
		errno = sig == SIGTRAP ? (int)-r->rax : EFAULT;
		die("order to the helper");
	}
}

static void
stub_call(const struct user_regs_struct *regs, uint64_t nr, uint64_t a,
    uint64_t b)
{
	struct user_regs_struct r = *regs;

	r.rax = nr;
	r.rdi = a;
	r.rsi = b;
	stub_run(&r, STUB_CALL);
}

static void
helper_main(int stubfd)
{
	uint64_t va = USER_TOP - 3 * PAGE;

	while (mmap((void *)va, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED |
	    MAP_FIXED_NOREPLACE, stubfd, 0) != (void *)va)
		va -= 16 * PAGE;
	/* Its area goes away, and the host's kernel writes to it. */
	syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset,
	    32, 1, 0x53053053);
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	__asm__ volatile("mov %0, %%rbx; int3" : : "r"(va) : "rbx");
	_exit(1);
}

static void
helper_start(void)
{
	struct user_regs_struct r;
	int fd = memfd_create("stub", 0);
	uint8_t *p;

	if (fd < 0 || ftruncate(fd, 2 * PAGE) != 0)
		die("memfd");
	p = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		die("memory");
	memcpy(p, stub_code, sizeof(stub_code));
	orders = (struct order *)(p + PAGE);
	helper = fork();
	if (helper < 0)
		die("fork");
	if (helper == 0)
		helper_main(fd);
	if (helper_wait() != SIGTRAP ||
	    ptrace(PTRACE_SETOPTIONS, helper, 0, PTRACE_O_EXITKILL) != 0)
		die("the helper does not start");
	regs_get(&r);
	stub_va = r.rbx;
	stub_call(&r, SYS_munmap, 0, stub_va);
	if (stub_va + 2 * PAGE < USER_TOP)
		stub_call(&r, SYS_munmap, stub_va + 2 * PAGE,
		    USER_TOP - stub_va - 2 * PAGE);
}

/* Maps what is there around va. => false: the program's own fault */
static bool
fault(const struct user_regs_struct *regs, uint64_t va)
{
	uint64_t vp = va / PAGE, first = vp / around * around;
	struct user_regs_struct r = *regs;
	unsigned n = 0;

	nfaults++;
	if (vp >= VPAGES || (state_of[vp] & 7) == 0 ||
	    (state_of[vp] & PAGE_MAPPED) != 0)
		return false;
	for (uint64_t p = first; p < first + around && n < BATCH; p++) {
		struct order *o = &orders[n];
		unsigned prot = state_of[p] & 7;

		if (prot == 0 || (state_of[p] & PAGE_MAPPED) != 0)
			continue;
		state_of[p] |= PAGE_MAPPED;
		npages++;
		if (n > 0 && o[-1].va + o[-1].len == p * PAGE && o[-1].off +
		    o[-1].len == frame(p) * PAGE && o[-1].prot == prot) {
			o[-1].len += PAGE;
			continue;
		}
		*o = (struct order){ .va = p * PAGE, .len = PAGE,
			.off = frame(p) * PAGE, .prot = prot,
			.fd = (uint32_t)memfd };
		n++;
	}
	nmaps += n;
	r.rbx = (stub_va + PAGE);
	r.r12 = n;
	stub_run(&r, STUB_MAP);
	return true;
}

/* Pages in [va, va+len) go or change their rights. */
static void
drop(const struct user_regs_struct *regs, uint64_t va, uint64_t len)
{
	bool any = false;

	for (uint64_t p = va / PAGE; p < (va + len) / PAGE; p++) {
		any |= (state_of[p] & PAGE_MAPPED) != 0;
		state_of[p] &= (uint8_t)~PAGE_MAPPED;
	}
	if (any)
		stub_call(regs, SYS_munmap, va, len);
}

/* --- the guest's kernel ------------------------------------------------- */

static int64_t
kernel_mmap(struct user_regs_struct *r, uint64_t len)
{
	uint64_t va = r->rdi;

	if ((r->r10 & MAP_ANONYMOUS) == 0)
		return -ENODEV;
	if ((r->r10 & MAP_FIXED) == 0) {
		va = (mmap_next + (2ul << 20) - 1) & ~((2ul << 20) - 1);
		mmap_next = va + len + 16 * PAGE;
	}
	return region(va, len, (unsigned)r->rdx) ? (int64_t)va : -ENOMEM;
}

static int64_t
kernel(struct user_regs_struct *r)
{
	uint64_t a = r->rdi, b = r->rsi, c = r->rdx;
	uint64_t len = (b + PAGE - 1) & ~(PAGE - 1);
	struct timespec ts;
	char buf[4096];

	nsyscalls++;
	switch (r->orig_rax) {
	case SYS_write:
		c = c < sizeof(buf) ? c : sizeof(buf);
		if (!copyout(buf, b, c))
			return -EFAULT;
		return a == 1 || a == 2 ? write((int)a, buf, c) : -EBADF;
	case SYS_exit:
	case SYS_exit_group:
		kill(helper, SIGKILL);
		fprintf(stderr, "direct: %lu faults, %lu pages in %lu mappings, "
		    "%lu system calls\n", nfaults, npages, nmaps, nsyscalls);
		exit((int)a);
	case SYS_brk:
		if (a >= brk_start && region(brk_now, a > brk_now ?
		    a - brk_now : 0, 3))
			brk_now = a;
		return (int64_t)brk_now;
	case SYS_mmap:
		return kernel_mmap(r, len);
	case SYS_munmap:
		if (!in_range(a, len))
			return -EINVAL;
		drop(r, a, len);
		memset(state_of + a / PAGE, 0, len / PAGE);
		return 0;
	case SYS_mprotect:
		if (!in_range(a, len))
			return -EINVAL;
		drop(r, a, len);
		return region(a, len, (unsigned)c) ? 0 : -ENOMEM;
	case SYS_clock_gettime:
		clock_gettime((clockid_t)a, &ts);
		return copyin(b, &ts, sizeof(ts)) ? 0 : -EFAULT;
	case SYS_arch_prctl:
		if (a != ARCH_SET_FS)
			return -EINVAL;
		r->fs_base = b;
		return 0;
	case SYS_set_tid_address:
	case SYS_getpid:
	case SYS_gettid:
		return 2;
	case SYS_getppid:
		return 1;
	case SYS_set_robust_list:
	case SYS_rt_sigaction:
	case SYS_rt_sigprocmask:
		return 0;
	case SYS_ioctl:
		return -ENOTTY;
	case SYS_newfstatat:
	case SYS_fstat:
		return -EBADF;
	case SYS_readlink:
	case SYS_readlinkat:
		return -ENOENT;
	default:
		return -ENOSYS;
	}
}

static void
load(const char *path, int argc, char **argv)
{
	int fd = open(path, O_RDONLY);
	long size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
	const uint8_t *f = size < (long)sizeof(Elf64_Ehdr) ? MAP_FAILED :
	    mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
	const Elf64_Ehdr *e = (const Elf64_Ehdr *)f;
	uint64_t sp = STACK_TOP - 4096, str = sp, phdr = 0, v[64];
	struct user_regs_struct r;
	unsigned n = 0;

	if (f == MAP_FAILED)
		die(path);
	if (memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 || e->e_type != ET_EXEC ||
	    argc > 40 || e->e_phoff + 56ul * e->e_phnum > (uint64_t)size) {
		fprintf(stderr, "direct: %s: not a static program\n", path);
		exit(1);
	}
	for (unsigned i = 0; i < e->e_phnum; i++) {
		const Elf64_Phdr *p = (const Elf64_Phdr *)(f + e->e_phoff) + i;
		unsigned prot = (p->p_flags & PF_R ? PROT_READ : 0) |
		    (p->p_flags & PF_W ? PROT_WRITE : 0) |
		    (p->p_flags & PF_X ? PROT_EXEC : 0);

		if (p->p_type != PT_LOAD)
			continue;
		if (p->p_offset > (uint64_t)size || p->p_filesz >
		    (uint64_t)size - p->p_offset || !copyin(p->p_vaddr,
		    f + p->p_offset, p->p_filesz) || !region(p->p_vaddr,
		    p->p_memsz, prot)) {
			fprintf(stderr, "direct: %s: bad segment\n", path);
			exit(1);
		}
		if (p->p_offset == 0)
			phdr = p->p_vaddr + e->e_phoff;
		brk_start = (p->p_vaddr + p->p_memsz + 2 * PAGE) & ~(PAGE - 1);
	}
	brk_now = brk_start;
	region(STACK_TOP - STACK_LEN, STACK_LEN, PROT_READ | PROT_WRITE);
	v[n++] = (uint64_t)argc;
	for (int i = 0; i < argc; i++) {
		copyin(str, argv[i], strlen(argv[i]) + 1);
		v[n++] = str;
		str += strlen(argv[i]) + 1;
	}
	v[n++] = 0; /* of argv, of the environment */
	v[n++] = 0;
	const uint64_t aux[] = { AT_PHDR, phdr, AT_PHENT, 56, AT_PHNUM,
		e->e_phnum, AT_PAGESZ, PAGE, AT_ENTRY, e->e_entry, AT_RANDOM, sp,
		AT_HWCAP, getauxval(AT_HWCAP), AT_HWCAP2, getauxval(AT_HWCAP2),
		AT_NULL, 0 };
	sp = (sp - n * 8 - sizeof(aux)) & ~15ul;
	copyin(sp, v, n * 8);
	copyin(sp + n * 8, aux, sizeof(aux));
	regs_get(&r);
	r.rip = e->e_entry;
	r.rsp = sp;
	r.rdx = 0;
	regs_set(&r);
	munmap((void *)(uintptr_t)f, (size_t)size);
	close(fd);
}

static void
run(void)
{
	struct user_regs_struct r;
	siginfo_t si;
	int sig;

	for (;;) {
		if (ptrace(PTRACE_SYSEMU, helper, 0, 0) != 0)
			die("run");
		sig = helper_wait();
		regs_get(&r);
		if (sig == SIGTRAP) {
			r.rax = (uint64_t)kernel(&r);
		} else if (ptrace(PTRACE_GETSIGINFO, helper, 0, &si) != 0 ||
		    sig != SIGSEGV || !fault(&r, (uint64_t)si.si_addr)) {
			fprintf(stderr, "direct: signal %d at %#llx\n", sig,
			    r.rip);
			exit(1);
		}
		regs_set(&r);
	}
}

/* --- prices ------------------------------------------------------------- */

static void
hand(_Atomic uint32_t *turn, uint32_t mine, bool spin)
{
	atomic_store(turn, !mine);
	if (!spin)
		syscall(SYS_futex, turn, FUTEX_WAKE, 1, NULL, NULL, 0);
	while (atomic_load(turn) != mine)
		if (!spin)
			syscall(SYS_futex, turn, FUTEX_WAIT, !mine, NULL, NULL,
			    0);
}

static uint64_t
handovers(bool spin)
{
	_Atomic uint32_t *turn = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	cpu_set_t all;
	uint64_t t;
	pid_t pid;

	if (turn == MAP_FAILED)
		die("memory");
	memset(&all, 0xff, sizeof(all));
	if (spin)
		sched_setaffinity(0, sizeof(all), &all);
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		while (atomic_load(turn) != 1)
			sched_yield();
		for (;;)
			hand(turn, 1, spin);
	}
	t = now();
	for (int i = 0; i < HANDOVERS; i++)
		hand(turn, 0, spin);
	t = now() - t;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return t;
}

static void
price(const char *what, uint64_t ns)
{
	printf("%-50s %6lu ns\n", what, ns / HANDOVERS);
}

static void
prices(void)
{
	struct user_regs_struct r, keep;
	uint64_t t;

	t = now();
	for (int i = 0; i < HANDOVERS; i++)
		syscall(SYS_getppid);
	price("host system call", now() - t);
	helper_start();
	regs_get(&keep);
	t = now();
	for (int i = 0; i < HANDOVERS; i++)
		stub_call(&keep, SYS_getppid, 0, 0);
	price("order to the helper by ptrace", now() - t);
	t = now();
	for (int i = 0; i < HANDOVERS; i++) {
		r = keep;
		r.rip = stub_va;
		regs_set(&r);
		ptrace(PTRACE_SYSEMU, helper, 0, 0);
		helper_wait();
		regs_get(&r);
	}
	price("system call caught by ptrace, and back", now() - t);
	kill(helper, SIGKILL);
	waitpid(helper, NULL, 0);
	price("hand-over and back by futex, one CPU", handovers(false));
	price("hand-over and back by spinning, two CPUs", handovers(true));
}

int
main(int argc, char **argv)
{
	cpu_set_t set;
	int c;

	/* One CPU for both: a hand-over is a switch, not a wake-up. */
	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof(set), &set);
	while ((c = getopt(argc, argv, "+a:c:p")) != -1) {
		switch (c) {
		case 'a':
			around = strtoul(optarg, NULL, 10);
			break;
		case 'c':
			contig = strtoul(optarg, NULL, 10);
			break;
		case 'p':
			prices();
			return 0;
		default:
			return 2;
		}
	}
	if (optind >= argc || contig < 1 || contig > 512 || around < 1 ||
	    around > 512) {
		fprintf(stderr, "usage: direct [-a PAGES] [-c PAGES] PROGRAM "
		    "[ARG]...\n       direct -p\n");
		return 2;
	}
	memfd = memfd_create("guest", 0);
	if (memfd < 0 || ftruncate(memfd, (off_t)(FRAMES * PAGE)) != 0)
		die("memfd");
	mem = mmap(NULL, FRAMES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
	    memfd, 0);
	frame_of = mmap(NULL, VPAGES * 4, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	state_of = mmap(NULL, VPAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE |
	    MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED || frame_of == MAP_FAILED ||
	    state_of == MAP_FAILED)
		die("memory");
	helper_start();
	load(argv[optind], argc - optind, argv + optind);
	run();
}
