/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The oracle: cases run by the host CPU in a child process.
 *
 * The child has the case's pages at their addresses and nothing else to do.
 * It runs inside a signal handler: a signal ends a case, the handler saves
 * the interrupted context as the outcome, restores memory, puts the next
 * case's whole state into the context and returns into it.  So a case costs
 * one signal.  A seccomp filter turns every system call but the three that
 * the handler needs into SIGSYS.
 *
 * While cases run, FS and GS have their bases: the handler must not touch
 * thread-local data, so it uses nothing of libc but memcpy and memcmp.
 */
#include <asm/prctl.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "diff.h"

#define NATIVE_ALT 65536

struct native_shared {
	_Atomic uint32_t go;   /* batches asked for */
	_Atomic uint32_t done; /* batches finished */
	_Atomic uint32_t pos;  /* cases started, ever: a sign of life */
	uint32_t n;
	struct diff_case c[DIFF_BATCH];
	struct diff_outcome o[DIFF_BATCH];
	uint8_t page[DIFF_PAGES][DIFF_PAGE];
};

static struct native_shared *native;
static pid_t native_pid = -1;

/* Of the child. */
static uint8_t *native_code_rw;
static uint32_t native_batch, native_cur;
static uint32_t native_code_off, native_code_len;
static bool native_running;

#define NATIVE_FN __attribute__((no_stack_protector, no_sanitize("address", \
    "undefined"), used))

/* The fixed part of a signal frame's extended state that we need to know. */
#define NATIVE_SW_BYTES 464 /* struct _fpx_sw_bytes in the FXSAVE area */
#define NATIVE_HEADER 512

NATIVE_FN static long
native_syscall(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = 0;
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
	    : "0"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
	    : "rcx", "r11", "memory");
	return ret;
}

NATIVE_FN static void
native_save(const struct diff_case *c, struct diff_outcome *o,
    const ucontext_t *uc, int sig)
{
	static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
		REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
		REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	const greg_t *g = uc->uc_mcontext.gregs;

	for (unsigned i = 0; i < 16; i++)
		o->out.gpr[i] = (uint64_t)g[order[i]];
	o->out.rip = (uint64_t)g[REG_RIP];
	o->out.rflags = (uint64_t)g[REG_EFL];
	o->vector = sig == SIGSYS ? DIFF_V_SYS : sig == SIGUSR1 ?
	    DIFF_V_TIMEOUT : (uint32_t)g[REG_TRAPNO];
	o->error = (uint32_t)g[REG_ERR];
	o->cr2 = o->vector == 14 ? (uint64_t)g[REG_CR2] : 0;
	memcpy(o->out.xsave, uc->uc_mcontext.fpregs, DIFF_XSAVE);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		uint8_t *p = (uint8_t *)diff_page_va(i);

		o->hash[i] = 0;
		if (i != DIFF_DATA_PAGES)
			diff_mask_page(c, i, p);
		if (native->n == 1)
			memcpy(native->page[i], p, DIFF_PAGE);
		if (i != DIFF_DATA_PAGES &&
		    memcmp(p, diff_image[i], DIFF_PAGE) != 0) {
			o->hash[i] = diff_hash(p);
			memcpy(p, diff_image[i], DIFF_PAGE);
		}
	}
}

NATIVE_FN static void
native_load(const struct diff_case *c, ucontext_t *uc)
{
	static const uint8_t order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX,
		REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10,
		REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
	greg_t *g = uc->uc_mcontext.gregs;
	uint8_t *x = (uint8_t *)uc->uc_mcontext.fpregs;

	memset(native_code_rw + native_code_off, 0xcc, native_code_len);
	native_code_off = c->code_off;
	native_code_len = c->code_len;
	memcpy(native_code_rw + c->code_off, c->code, c->code_len);
	for (unsigned i = 0; i < 16; i++)
		g[order[i]] = (greg_t)c->in.gpr[i];
	g[REG_RIP] = (greg_t)c->in.rip;
	if (diff_m32)
		g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffl) | 0x23;
	g[REG_EFL] = (greg_t)c->in.rflags;
	g[REG_TRAPNO] = g[REG_ERR] = g[REG_CR2] = 0;
	/* Legacy area but for the kernel's own words, header, AVX. */
	memcpy(x, c->in.xsave, NATIVE_SW_BYTES);
	memcpy(x + NATIVE_HEADER, c->in.xsave + NATIVE_HEADER,
	    DIFF_XSAVE - NATIVE_HEADER);
}

NATIVE_FN static void
native_signal(int sig, siginfo_t *si, void *ucp)
{
	ucontext_t *uc = ucp;
	uint32_t go;

	(void)si;
	/* The case may have set AC, which the kernel leaves to the handler,
	 * and ID and NT, which returning from the signal does not restore. */
	__asm__ volatile("pushfq\n\tandl $~0x244000,(%%rsp)\n\tpopfq"
	    : : : "cc", "memory");
	if (sig == SIGUSR1 && !native_running)
		return;
	if (native_running) {
		native_save(&native->c[native_cur], &native->o[native_cur], uc,
		    sig);
		native_cur++;
	}
	native_running = false;
	while (native_batch == 0 || native_cur == native->n) {
		if (native_batch != 0) {
			atomic_store(&native->done, native_batch);
			native_syscall(SYS_futex, (long)&native->done,
			    FUTEX_WAKE, 1, 0);
		}
		while ((go = atomic_load(&native->go)) == native_batch)
			native_syscall(SYS_futex, (long)&native->go,
			    FUTEX_WAIT, native_batch, 0);
		if (go == UINT32_MAX)
			native_syscall(SYS_exit_group, 0, 0, 0, 0);
		native_batch = go;
		native_cur = 0;
	}
	atomic_fetch_add(&native->pos, 1);
	native_load(&native->c[native_cur], uc);
	native_running = true;
}

NATIVE_FN static int
native_sandbox(void)
{
#define SYS_OK(nr) \
	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1), \
	BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
		    offsetof(struct seccomp_data, nr)),
		SYS_OK(SYS_rt_sigreturn),
		SYS_OK(SYS_futex),
		SYS_OK(SYS_exit_group),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
#undef SYS_OK
	struct sock_fprog prog = { .len = sizeof(f) / sizeof(f[0]),
		.filter = f };

	if (native_syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0) != 0)
		return -1;
	/* From here on there is no thread-local data. */
	if (native_syscall(SYS_arch_prctl, ARCH_SET_FS, DIFF_FS_BASE, 0, 0) !=
	    0 ||
	    native_syscall(SYS_arch_prctl, ARCH_SET_GS, DIFF_GS_BASE, 0, 0) !=
	    0)
		return -1;
	return (int)native_syscall(SYS_prctl, PR_SET_SECCOMP,
	    SECCOMP_MODE_FILTER, (long)&prog, 0);
}

static void *
native_map(uint64_t va, unsigned pages, int prot, int fd)
{
	void *p = mmap((void *)va, pages * DIFF_PAGE, prot, (fd < 0 ?
	    MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) | MAP_POPULATE |
	    (va != 0 ? MAP_FIXED_NOREPLACE : 0), fd, 0);

	if (p == MAP_FAILED) {
		perror("native: mmap");
		_exit(1);
	}
	return p;
}

NATIVE_FN static void
native_child(void)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP,
		SIGSYS, SIGUSR1 };
	struct sigaction sa = { .sa_sigaction = native_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t ss = { .ss_size = NATIVE_ALT };
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	fd = memfd_create("diff-code", 0);
	if (fd < 0 || ftruncate(fd, DIFF_CODE_PAGES * DIFF_PAGE) != 0)
		_exit(1);
	native_code_rw = native_map(0, DIFF_CODE_PAGES, PROT_READ | PROT_WRITE,
	    fd);
	memset(native_code_rw, 0xcc, DIFF_CODE_PAGES * DIFF_PAGE);
	native_map(DIFF_CODE, DIFF_CODE_PAGES, PROT_READ | PROT_EXEC, fd);
	native_map(DIFF_DATA, DIFF_DATA_PAGES + 1, PROT_READ | PROT_WRITE, -1);
	native_map(DIFF_STACK, DIFF_STACK_PAGES, PROT_READ | PROT_WRITE, -1);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		uint8_t *p = (uint8_t *)diff_page_va(i);

		memcpy(p, diff_image[i], DIFF_PAGE);
		if (memcmp(p, diff_image[i], DIFF_PAGE) != 0)
			_exit(1);
	}
	mprotect((void *)DIFF_RO, DIFF_PAGE, PROT_READ);
	ss.ss_sp = malloc(NATIVE_ALT);
	if (ss.ss_sp == NULL || sigaltstack(&ss, NULL) != 0)
		_exit(1);
	sigfillset(&sa.sa_mask);
	for (unsigned i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		if (sigaction(sigs[i], &sa, NULL) != 0)
			_exit(1);
	sigemptyset(&sa.sa_mask);
	sigprocmask(SIG_SETMASK, &sa.sa_mask, NULL);
	if (diff_m32)
		__asm__ volatile("movl %0,%%ds; movl %0,%%es" : : "r"(0x2b));
	if (native_sandbox() == 0)
		__asm__ volatile("int3");
	native_syscall(SYS_exit_group, 1, 0, 0, 0);
	__builtin_trap();
}

int
diff_native_start(void)
{
	sigset_t usr1, old;

	native = mmap(NULL, sizeof(*native), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (native == MAP_FAILED)
		return -errno;
	/* On a busy host the first nudge comes before the child's handler is there. */
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, &old);
	native_pid = fork();
	if (native_pid == 0)
		native_child();
	sigprocmask(SIG_SETMASK, &old, NULL);
	return native_pid < 0 ? -errno : 0;
}

void
diff_native_run(const struct diff_case *c, unsigned n, struct diff_outcome *o)
{
	struct timespec ts = { .tv_nsec = 100 * 1000 * 1000 };
	uint32_t go, done, pos, last = 0;
	unsigned stuck = 0;
	int status;

	for (unsigned i = 0; i < n; i++)
		memcpy(&native->c[i], &c[i], offsetof(struct diff_case, code) +
		    c[i].code_len);
	native->n = n;
	go = atomic_fetch_add(&native->go, 1) + 1;
	syscall(SYS_futex, &native->go, FUTEX_WAKE, 1, NULL, NULL, 0);
	while ((done = atomic_load(&native->done)) != go) {
		syscall(SYS_futex, &native->done, FUTEX_WAIT, done, &ts, NULL,
		    0);
		pos = atomic_load(&native->pos);
		if (pos == last && ++stuck >= 3) {
			kill(native_pid, SIGUSR1);
			stuck = 0;
		}
		last = pos;
		if (waitpid(native_pid, &status, WNOHANG) == native_pid) {
			fprintf(stderr, "native: the child died (%#x), seed %#lx\n",
			    status, native->c[pos % DIFF_BATCH].seed);
			exit(1);
		}
	}
	memcpy(o, native->o, n * sizeof(*o));
	for (unsigned i = 0; i < n; i++)
		diff_xsave_canon(o[i].out.xsave);
}

const uint8_t *
diff_native_page(unsigned i)
{
	return native->page[i];
}

void
diff_native_stop(void)
{
	if (native_pid <= 0)
		return;
	atomic_store(&native->go, UINT32_MAX);
	syscall(SYS_futex, &native->go, FUTEX_WAKE, 1, NULL, NULL, 0);
	waitpid(native_pid, NULL, 0);
	native_pid = -1;
}
