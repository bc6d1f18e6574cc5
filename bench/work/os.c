/* SPDX-License-Identifier: BSD-2-Clause */
/* What needs the guest kernel, or changes code. */
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "work.h"

static void *
os_map(size_t len, int prot)
{
	void *p = mmap(NULL, len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		work_die("mmap");
	return p;
}

/* First touch of each of n pages, small ones. */
static uint64_t
run_touch(uint64_t n)
{
	const uint64_t chunk = 4096; /* pages at a time */
	uint64_t sum = 0;

	for (uint64_t done = 0; done < n; done += chunk) {
		uint8_t *p = os_map(chunk * 4096, PROT_READ | PROT_WRITE);

		madvise(p, chunk * 4096, MADV_NOHUGEPAGE);
		for (uint64_t i = 0; i < chunk; i++)
			p[i * 4096] = (uint8_t)i;
		sum = work_mix(sum, p[4096 * (chunk - 1)] + p[8192]);
		munmap(p, chunk * 4096);
	}
	return sum;
}

static uint64_t
run_getppid(uint64_t n)
{
	long pid = syscall(SYS_getppid);
	uint64_t same = 0;

	for (uint64_t i = 0; i < n; i++)
		same += syscall(SYS_getppid) == pid;
	return same;
}

static void
os_wait(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		work_die("child");
}

static uint64_t
run_fork(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		os_wait(pid);
	}
	return n;
}

static uint64_t
run_exec(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0) {
			execl("/proc/self/exe", "work", "--nothing",
			    (char *)NULL);
			_exit(1);
		}
		os_wait(pid);
	}
	return n;
}

/* n messages there and back between two processes. */
static uint64_t
run_pipe(uint64_t n)
{
	int there[2], back[2];
	uint64_t v = 1;
	pid_t pid;

	if (pipe(there) != 0 || pipe(back) != 0)
		work_die("pipe");
	pid = fork();
	if (pid == 0) {
		close(there[1]);
		close(back[0]);
		while (read(there[0], &v, sizeof(v)) == sizeof(v)) {
			v = v * 3 + 1;
			if (write(back[1], &v, sizeof(v)) != sizeof(v))
				_exit(1);
		}
		_exit(0);
	}
	close(there[0]);
	close(back[1]);
	for (uint64_t i = 0; i < n; i++)
		if (write(there[1], &v, sizeof(v)) != sizeof(v) ||
		    read(back[0], &v, sizeof(v)) != sizeof(v))
			work_die("pipe");
	close(there[1]);
	close(back[0]);
	os_wait(pid);
	return v;
}

/* A page made read-only and writable again, with a store between. */
static uint64_t
run_mprotect(uint64_t n)
{
	uint8_t *p = os_map(4096, PROT_READ | PROT_WRITE);

	p[0] = 0;
	for (uint64_t i = 0; i < n; i++) {
		if (mprotect(p, 4096, PROT_READ) != 0 ||
		    mprotect(p, 4096, PROT_READ | PROT_WRITE) != 0)
			work_die("mprotect");
		p[0]++;
	}
	return p[0];
}

static uint8_t *os_page;
static volatile uint64_t os_faults;

static void
os_segv(int sig)
{
	(void)sig;
	os_faults++;
	mprotect(os_page, 4096, PROT_READ | PROT_WRITE);
}

/* A store to a read-only page, the handler allows it. */
static uint64_t
run_segv(uint64_t n)
{
	struct sigaction sa = { .sa_handler = os_segv }, old;

	os_page = os_map(4096, PROT_READ);
	os_faults = 0;
	if (sigaction(SIGSEGV, &sa, &old) != 0)
		work_die("sigaction");
	for (uint64_t i = 0; i < n; i++) {
		*(volatile uint8_t *)os_page = (uint8_t)i;
		mprotect(os_page, 4096, PROT_READ);
	}
	sigaction(SIGSEGV, &old, NULL);
	return os_faults;
}

/* mov eax, imm32; ret - with another number each time. */
static uint64_t
run_patch(uint64_t n)
{
	uint8_t *code = os_map(4096, PROT_READ | PROT_WRITE | PROT_EXEC);
	uint32_t (*fn)(void) = (uint32_t(*)(void))(uintptr_t)code;
	uint64_t sum = 0;

	code[0] = 0xb8;
	code[5] = 0xc3;
	for (uint32_t i = 0; i < n; i++) {
		memcpy(code + 1, &i, sizeof(i));
		__asm__ volatile("" ::: "memory");
		sum += fn();
	}
	return sum;
}

const struct work work_os[] = {
	{ "touch", "os", "page", 65536, run_touch, NULL },
	{ "getppid", "os", "call", 500000, run_getppid, NULL },
	{ "fork", "os", "fork", 100, run_fork, NULL },
	{ "exec", "os", "exec", 60, run_exec, NULL },
	{ "pipe", "os", "round", 6000, run_pipe, NULL },
	{ "mprotect", "os", "pair", 40000, run_mprotect, NULL },
	{ "segv", "os", "fault", 30000, run_segv, NULL },
	{ "patch", "os", "call", 300000, run_patch, NULL },
	{ NULL, NULL, NULL, 0, NULL, NULL },
};
