/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * stress: runs inside a guest with several vCPUs and leans on what makes
 * kernels send shoot-downs and wake-ups.
 *
 *   stress SECONDS [WORKERS]
 *
 * Workers of several kinds share one address space:
 *   futex     two threads hand a token to and fro; the count must agree
 *   mprotect  a page goes read-only and back while its owner writes it; each
 *             fault is caught and counted, no write may be lost
 *   munmap    map, write, check, unmap; a stale translation shows old data
 *   fork      children see the parent's values at the fork, copies diverge
 *   atomic    LOCKed adds, CMPXCHG and XCHG on shared words; sums must agree
 *   code      one writes code that two others run; no store may be missed
 *   order     store buffering with fences and message passing: outcomes that
 *             x86 forbids must not occur
 *
 * Prints a line a kind and "stress: OK"; exits 1 at the first wrong value.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <linux/futex.h>

#define PAGE 4096u

static double end_time;
static int failed;

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static int
over(void)
{
	return now() >= end_time || __atomic_load_n(&failed, __ATOMIC_RELAXED);
}

#define FAIL(...)                                                   \
	do {                                                        \
		printf("stress: FAILED " __VA_ARGS__);              \
		printf("\n");                                       \
		__atomic_store_n(&failed, 1, __ATOMIC_SEQ_CST);     \
	} while (0)

/* --- futex ------------------------------------------------------------- */

static uint32_t token;
static uint64_t handed[2];
static int futex_stop;

static void *
futex_side(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	for (;;) {
		while (__atomic_load_n(&token, __ATOMIC_ACQUIRE) != me) {
			struct timespec ts = { 0, 50000000 };

			if (__atomic_load_n(&futex_stop, __ATOMIC_ACQUIRE))
				return NULL;
			syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, me ^ 1,
			    &ts, NULL, 0);
		}
		handed[me]++;
		__atomic_store_n(&token, me ^ 1, __ATOMIC_RELEASE);
		syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
}

static void *
futex_kind(void *arg)
{
	pthread_t t[2];
	int64_t d;

	(void)arg;
	for (uintptr_t i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, futex_side, (void *)i);
	while (!over())
		usleep(10000);
	__atomic_store_n(&futex_stop, 1, __ATOMIC_RELEASE);
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	d = (int64_t)(handed[0] - handed[1]);
	if (d < -1 || d > 1)
		FAIL("futex: %llu and %llu", (unsigned long long)handed[0],
		    (unsigned long long)handed[1]);
	printf("stress: futex %llu hand-overs\n",
	    (unsigned long long)(handed[0] + handed[1]));
	return NULL;
}

/* --- mprotect ---------------------------------------------------------- */

static __thread sigjmp_buf fault_jmp;
static __thread volatile int fault_armed;

static void
on_segv(int sig)
{
	if (!fault_armed) {
		signal(sig, SIG_DFL);
		raise(sig);
		return;
	}
	siglongjmp(fault_jmp, 1);
}

struct prot {
	volatile uint64_t *page;
	int stop;
};

static void *
prot_flip(void *arg)
{
	struct prot *p = arg;

	while (!__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE)) {
		mprotect((void *)p->page, PAGE, PROT_READ);
		mprotect((void *)p->page, PAGE, PROT_READ | PROT_WRITE);
	}
	return NULL;
}

static void *
mprotect_kind(void *arg)
{
	struct prot p = { 0 };
	volatile uint64_t want = 0, faults = 0;
	pthread_t t;

	(void)arg;
	p.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_create(&t, NULL, prot_flip, &p);
	while (!over()) {
		for (volatile int i = 0; i < 1000; i++) {
			if (sigsetjmp(fault_jmp, 1) != 0) {
				/* the store did not happen */
				faults++;
				fault_armed = 0;
				if (p.page[7] != want)
					break;
				continue;
			}
			fault_armed = 1;
			p.page[7] = want + 1;
			fault_armed = 0;
			want++;
		}
		if (p.page[7] != want) {
			FAIL("mprotect: %llu, want %llu",
			    (unsigned long long)p.page[7],
			    (unsigned long long)want);
			break;
		}
	}
	__atomic_store_n(&p.stop, 1, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	munmap((void *)p.page, PAGE);
	printf("stress: mprotect %llu stores, %llu faults\n",
	    (unsigned long long)want, (unsigned long long)faults);
	return NULL;
}

/* --- munmap ------------------------------------------------------------ */

static void *
munmap_kind(void *arg)
{
	uint64_t n = 0, tag = (uintptr_t)arg << 48;

	while (!over()) {
		size_t len = PAGE * (1 + n % 37);
		uint64_t *m = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (m == MAP_FAILED)
			continue;
		for (size_t i = 0; i < len / 8; i += 64) {
			if (m[i] != 0) {
				FAIL("munmap: new page holds %llx",
				    (unsigned long long)m[i]);
				return NULL;
			}
			m[i] = tag | n << 16 | i;
		}
		for (size_t i = 0; i < len / 8; i += 64)
			if (m[i] != (tag | n << 16 | i)) {
				FAIL("munmap: %llx at word %zu",
				    (unsigned long long)m[i], i);
				return NULL;
			}
		munmap(m, len);
		n++;
	}
	printf("stress: munmap %llu rounds\n", (unsigned long long)n);
	return NULL;
}

/* --- fork -------------------------------------------------------------- */

static void *
fork_kind(void *arg)
{
	uint64_t n = 0;
	uint64_t *m = mmap(NULL, 64 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)arg;
	while (!over()) {
		pid_t pid;
		int st = 0;

		for (int i = 0; i < 64; i++)
			m[i * 512] = n + (uint64_t)i;
		pid = fork();
		if (pid == 0) {
			for (int i = 0; i < 64; i++) {
				if (m[i * 512] != n + (uint64_t)i)
					_exit(3);
				m[i * 512] = ~0ul;
			}
			for (int i = 0; i < 64; i++)
				if (m[i * 512] != ~0ul)
					_exit(4);
			_exit(0);
		}
		if (pid < 0)
			continue;
		for (int i = 0; i < 64; i++)
			m[i * 512] += 1000;
		waitpid(pid, &st, 0);
		if (!WIFEXITED(st) || WEXITSTATUS(st) != 0) {
			FAIL("fork: child status %x", st);
			break;
		}
		for (int i = 0; i < 64; i++)
			if (m[i * 512] != n + (uint64_t)i + 1000) {
				FAIL("fork: parent lost a write");
				return NULL;
			}
		n++;
	}
	printf("stress: fork %llu children\n", (unsigned long long)n);
	return NULL;
}

/* --- atomics ----------------------------------------------------------- */

static uint64_t shared_add, shared_cas, shared_xor;
static uint64_t mine_add;

static void *
atomic_kind(void *arg)
{
	uint64_t n = 0, x = (uintptr_t)arg + 1;

	while (!over()) {
		for (int i = 0; i < 10000; i++) {
			uint64_t old;

			__atomic_fetch_add(&shared_add, 3, __ATOMIC_SEQ_CST);
			old = __atomic_load_n(&shared_cas, __ATOMIC_RELAXED);
			while (!__atomic_compare_exchange_n(&shared_cas, &old,
			    old + 1, 0, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
				;
			x = x * 6364136223846793005u + 1;
			__atomic_fetch_xor(&shared_xor, x, __ATOMIC_SEQ_CST);
			__atomic_fetch_xor(&shared_xor, x, __ATOMIC_SEQ_CST);
		}
		n += 10000;
	}
	__atomic_fetch_add(&mine_add, n, __ATOMIC_SEQ_CST);
	return NULL;
}

/* --- ordering ---------------------------------------------------------- */

static struct {
	volatile uint32_t x __attribute__((aligned(64)));
	volatile uint32_t y __attribute__((aligned(64)));
	volatile uint32_t r0 __attribute__((aligned(64)));
	volatile uint32_t r1 __attribute__((aligned(64)));
	uint32_t round[2] __attribute__((aligned(64)));
	int stop;
} ord;

/* Both meet; => 0 when the other side has stopped. */
static int
order_meet(int me, uint32_t n)
{
	__atomic_store_n(&ord.round[me], n, __ATOMIC_SEQ_CST);
	while ((int32_t)(__atomic_load_n(&ord.round[me ^ 1], __ATOMIC_SEQ_CST) - n) < 0) {
		if (__atomic_load_n(&ord.stop, __ATOMIC_SEQ_CST))
			return 0;
		__builtin_ia32_pause();
	}
	return 1;
}

static void *
order_side(void *arg)
{
	uint32_t n = 0;

	(void)arg;
	for (;;) {
		if (!order_meet(1, ++n))
			return NULL;
		ord.y = n;
		__sync_synchronize();
		ord.r1 = ord.x;
		if (!order_meet(1, ++n))
			return NULL;
	}
}

static void *
order_kind(void *arg)
{
	pthread_t t;
	uint32_t n = 0, rounds = 0;

	(void)arg;
	pthread_create(&t, NULL, order_side, NULL);
	while (!over()) {
		if (!order_meet(0, ++n))
			break;
		ord.x = n;
		__sync_synchronize();
		ord.r0 = ord.y;
		if (!order_meet(0, ++n))
			break;
		/* with full fences one side must see the other's store */
		if (ord.r0 != n - 1 && ord.r1 != n - 1) {
			FAIL("order: store buffering past a fence");
			break;
		}
		rounds++;
	}
	__atomic_store_n(&ord.stop, 1, __ATOMIC_SEQ_CST);
	pthread_join(t, NULL);
	printf("stress: order %u rounds\n", rounds);
	return NULL;
}

/* --- code -------------------------------------------------------------- */

#define CODE_FNS 8

struct code {
	uint8_t *page; /* functions, and data on the same page */
	uint32_t said[CODE_FNS];
	uint64_t calls[2];
	int stop;
};

struct code_side {
	struct code *c;
	unsigned me;
};

/* mov $imm, %eax at +3, so that imm is aligned; ret */
static uint8_t *
code_fn(struct code *c, unsigned k)
{
	return c->page + 64 * k + 3;
}

static void *
code_call(void *arg)
{
	struct code_side *s = arg;
	struct code *c = s->c;
	volatile uint64_t *data = (void *)(c->page + 2048 + 8 * s->me);

	for (uint64_t i = 1; !__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE);
	    i++) {
		unsigned k = (unsigned)(i * 5 + s->me) % CODE_FNS;
		uint32_t a = __atomic_load_n(&c->said[k], __ATOMIC_ACQUIRE);
		uint32_t eax = 0, ebx, ecx = 0, edx, got;

		/* serialize, as the architecture asks for */
		__asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx),
		    "=d"(edx) : : "memory");
		got = ((uint32_t(*)(void))(uintptr_t)code_fn(c, k))();
		if (got < a) {
			FAIL("code: function %u gives %u, was %u before", k,
			    got, a);
			break;
		}
		*data = i;
		if (*data != i) {
			FAIL("code: data beside code lost");
			break;
		}
		c->calls[s->me] = i;
	}
	return NULL;
}

/* One writes functions that two others call; each store must be seen. */
static void *
code_kind(void *arg)
{
	static struct code c;
	struct code_side side[2] = { { &c, 0 }, { &c, 1 } };
	pthread_t t[2];
	uint32_t v = 0;

	(void)arg;
	c.page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (c.page == MAP_FAILED) {
		FAIL("code: mmap");
		return NULL;
	}
	for (unsigned k = 0; k < CODE_FNS; k++) {
		code_fn(&c, k)[0] = 0xb8;
		code_fn(&c, k)[5] = 0xc3;
	}
	for (unsigned i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, code_call, &side[i]);
	while (!over()) {
		for (unsigned i = 0; i < 100; i++) {
			unsigned k = ++v % CODE_FNS;

			__atomic_store_n((uint32_t *)(void *)
			    (code_fn(&c, k) + 1), v, __ATOMIC_RELEASE);
			__atomic_store_n(&c.said[k], v, __ATOMIC_RELEASE);
		}
		/* now and then long enough for the page to settle */
		if (v % 1000 == 0)
			usleep(200);
	}
	__atomic_store_n(&c.stop, 1, __ATOMIC_RELEASE);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	printf("stress: code %u writes, %llu calls\n", v,
	    (unsigned long long)(c.calls[0] + c.calls[1]));
	return NULL;
}

int
main(int argc, char **argv)
{
	static void *(*const kind[])(void *) = { futex_kind, mprotect_kind,
		munmap_kind, fork_kind, atomic_kind, order_kind, code_kind,
		atomic_kind };
	pthread_t tid[64];
	unsigned n;

	if (argc < 2) {
		fprintf(stderr, "usage: stress SECONDS [WORKERS]\n");
		return 2;
	}
	end_time = now() + strtod(argv[1], NULL);
	n = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 8;
	if (n == 0 || n > 64)
		return 2;
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGSEGV, on_segv);
	for (unsigned i = 0; i < n; i++)
		pthread_create(&tid[i], NULL, kind[i % 8],
		    (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < n; i++)
		pthread_join(tid[i], NULL);
	if (shared_add != mine_add * 3 || shared_cas != mine_add || shared_xor != 0)
		FAIL("atomic: add %llu cas %llu xor %llx, want %llu rounds",
		    (unsigned long long)shared_add, (unsigned long long)shared_cas,
		    (unsigned long long)shared_xor, (unsigned long long)mine_add);
	printf("stress: atomic %llu rounds\n", (unsigned long long)mine_add);
	if (failed)
		return 1;
	printf("stress: OK\n");
	return 0;
}
