/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Device memory: two processes and a guest see the same bytes, wherever the
 * guest has its window; what the window forbids or leaves free reaches the
 * device model; a reset drops it; and no vCPU uses a window that was removed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmm/vmm.h>

#define LEN 0x10000u
#define SEG 2
#define ROUNDS 40
#define MOVES 3000

#define CHECK(e)                                                              \
	do {                                                                  \
		if (!(e)) {                                                   \
			printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #e,    \
			    vmm_errmsg(NULL));                                \
			exit(1);                                              \
		}                                                             \
	} while (0)

/* Real mode.  The first adds 1 to the window's first word, says what it is, and
 * looks for the window at the other place; the second never leaves by itself
 * unless it reads what was never there for it. */
__asm__(".pushsection .rodata\n"
    ".code16\n"
    "dm_ask:\n"
    "	mov	$0xa000, %ax\n"
    "	mov	%ax, %ds\n"
    "1:	mov	0, %ax\n"
    "	inc	%ax\n"
    "	mov	%ax, 0\n"
    "	out	%ax, $0xe8\n"
    "	mov	%ds, %ax\n"
    "	xor	$0x6000, %ax\n"
    "	mov	%ax, %ds\n"
    "	jmp	1b\n"
    "dm_ask_end:\n"
    "dm_watch:\n"
    "1:	mov	$0xa000, %ax\n"
    "	mov	%ax, %ds\n"
    "	mov	0, %bx\n"
    "	mov	$0xc000, %ax\n"
    "	mov	%ax, %ds\n"
    "	mov	0, %dx\n"
    "	xor	%ax, %ax\n"
    "	mov	%ax, %ds\n"
    "	incl	0x2000\n"
    "	cmp	$0x5a5a, %bx\n"
    "	je	2f\n"
    "	cmp	$0xffff, %bx\n"
    "	jne	3f\n"
    "2:	cmp	$0x5a5a, %dx\n"
    "	je	1b\n"
    "	cmp	$0xffff, %dx\n"
    "	je	1b\n"
    "3:	out	%ax, $0xe9\n"
    "	jmp	1b\n"
    "dm_watch_end:\n"
    ".code64\n"
    ".popsection");
extern const unsigned char dm_ask[], dm_ask_end[], dm_watch[], dm_watch_end[];

static int dm_to[2], dm_from[2];

/* The other process: for each word it gets, says what it reads, and adds it. */
static int
dm_other(void)
{
	volatile uint16_t *rw, *ro;
	struct vmm *vmm;
	uint16_t add, seen;
	int fd;

	close(dm_to[1]);
	close(dm_from[0]);
	CHECK(read(dm_to[0], &add, 2) == 2);
	CHECK(vmm_open("devmem", &vmm) == 0);
	fd = vmm_open_devmem(vmm, "framebuffer", O_RDWR);
	CHECK(fd >= 0);
	rw = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(rw != MAP_FAILED);
	close(fd);
	/* opened to read, it cannot be written to */
	fd = vmm_open_devmem(vmm, "framebuffer", O_RDONLY);
	CHECK(fd >= 0);
	CHECK(mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
	    MAP_FAILED && errno == EACCES);
	ro = mmap(NULL, LEN, PROT_READ, MAP_SHARED, fd, 0);
	CHECK(ro != MAP_FAILED);
	close(fd);
	vmm_close(vmm);
	do {
		seen = *rw;
		CHECK(*ro == seen);
		*rw = (uint16_t)(seen + add);
		CHECK(*ro == (uint16_t)(seen + add));
		CHECK(write(dm_from[1], &seen, 2) == 2);
	} while (read(dm_to[0], &add, 2) == 2);
	return 0;
}

static uint16_t
dm_ask_other(uint16_t add)
{
	uint16_t seen;

	CHECK(write(dm_to[1], &add, 2) == 2);
	CHECK(read(dm_from[0], &seen, 2) == 2);
	return seen;
}

static void
dm_start(struct vmm *vmm, struct vmm_vcpu *cpu, const unsigned char *code,
    const unsigned char *end)
{
	struct vmm_seg s = { .limit = 0xffff, .access = 0x93 };

	for (unsigned i = 0; i < 6; i++)
		if (i != VMM_SEG_CS)
			CHECK(vmm_vcpu_set_seg(cpu, (enum vmm_segreg)i, &s) == 0);
	s.access |= 8;
	CHECK(vmm_vcpu_set_seg(cpu, VMM_SEG_CS, &s) == 0);
	CHECK(vmm_vcpu_set_reg(cpu, VMM_REG_RIP, 0x1000) == 0);
	CHECK(vmm_gpa_write(vmm, 0x1000, code, (uint64_t)(end - code), NULL) == 0);
}

/* Runs to the next word that the guest says. */
static uint16_t
dm_said(struct vmm_vcpu *cpu, struct vmm_exit *ex)
{
	CHECK(vmm_vcpu_run(cpu, ex) == 0);
	CHECK(ex->reason == VMM_EXIT_IO && ex->u.io.port == 0xe8 && !ex->u.io.in);
	return (uint16_t)ex->u.io.data;
}

static void
dm_asked(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_exit ex = { .size = sizeof(ex) };
	gpa_t at = 0xa0000;
	uint16_t want = 0;

	dm_start(vmm, cpu, dm_ask, dm_ask_end);
	CHECK(vmm_mmap_memseg(vmm, at, SEG, 0, LEN, VMM_PROT_ALL, 0) == 0);
	for (unsigned i = 0; i < ROUNDS; i++) {
		want++;
		CHECK(dm_said(cpu, &ex) == want);
		CHECK(dm_ask_other(100) == want);
		want = (uint16_t)(want + 100);
		CHECK(vmm_munmap_memseg(vmm, at, LEN) == 0);
		at ^= 0x60000;
		CHECK(vmm_mmap_memseg(vmm, at, SEG, 0, LEN, VMM_PROT_ALL, 0) == 0);
	}
	/* read only: the guest's write is the device model's */
	CHECK(vmm_munmap_memseg(vmm, at, LEN) == 0);
	CHECK(vmm_mmap_memseg(vmm, at, SEG, 0, LEN, VMM_PROT_READ, 0) == 0);
	CHECK(vmm_vcpu_run(cpu, &ex) == 0);
	CHECK(ex.reason == VMM_EXIT_MMIO && ex.u.mmio.write && ex.u.mmio.gpa == at &&
	    ex.u.mmio.bytes == 2 && ex.u.mmio.data == want + 1u);
	CHECK(dm_said(cpu, &ex) == want + 1);
	CHECK(dm_ask_other(0) == want);
	/* no window: the read is, too */
	CHECK(vmm_vcpu_run(cpu, &ex) == 0);
	CHECK(ex.reason == VMM_EXIT_MMIO && !ex.u.mmio.write &&
	    ex.u.mmio.gpa == (at ^ 0x60000));
	ex.u.mmio.data = 0x1234;
	CHECK(vmm_vcpu_run(cpu, &ex) == 0);
	CHECK(ex.reason == VMM_EXIT_MMIO && ex.u.mmio.write &&
	    ex.u.mmio.data == 0x1235);
	CHECK(dm_said(cpu, &ex) == 0x1235);
	CHECK(dm_ask_other(0) == want);
}

static void
dm_reset(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	struct vmm_exit ex = { .size = sizeof(ex) };
	uint16_t want = dm_ask_other(0);
	unsigned char code[8];

	CHECK(vmm_reinit(vmm) == -EBUSY);
	CHECK(vmm_suspend(vmm, VMM_SUSPEND_RESET) == 0);
	CHECK(vmm_vcpu_run(cpu, &ex) == 0 && ex.reason == VMM_EXIT_SUSPEND);
	CHECK(vmm_reinit(vmm) == 0);
	/* the window is gone, sysmem's map and all contents are not */
	CHECK(vmm_mmap_getnext(vmm, 0, &map) == 0 && map.segid == VMM_SYSMEM);
	CHECK(vmm_mmap_getnext(vmm, map.gpa + 1, &map) == -ENOENT);
	CHECK(vmm_gpa_read(vmm, 0x1000, code, 8, NULL) == 0);
	CHECK(memcmp(code, dm_ask, 8) == 0);
	CHECK(dm_ask_other(1) == want);
	CHECK(vmm_mmap_memseg(vmm, 0xa0000, SEG, 0, LEN, VMM_PROT_RW, 0) == 0);
	CHECK(vmm_gpa_read(vmm, 0xa0000, code, 2, NULL) == 0);
	CHECK((code[0] | code[1] << 8) == want + 1);
	CHECK(vmm_munmap_memseg(vmm, 0xa0000, LEN) == 0);
}

static _Atomic unsigned long dm_mmio;

static void *
dm_vcpu(void *arg)
{
	struct vmm_exit ex = { .size = sizeof(ex) };

	for (;;) {
		CHECK(vmm_vcpu_run(arg, &ex) == 0);
		if (ex.reason == VMM_EXIT_SUSPEND)
			return NULL;
		CHECK(ex.reason == VMM_EXIT_MMIO && !ex.u.mmio.write);
		ex.u.mmio.data = ~0ul;
		atomic_fetch_add(&dm_mmio, 1);
	}
}

/* Moved while the guest runs: it reads the window's word or nothing, never
 * what the word is while there is no window. */
static void
dm_moved(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	volatile uint16_t *p;
	gpa_t at = 0xa0000;
	uint32_t n = 0;
	pthread_t t;
	int fd = vmm_open_devmem(vmm, "framebuffer", O_RDWR);

	CHECK(fd >= 0);
	p = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(p != MAP_FAILED);
	close(fd);
	dm_start(vmm, cpu, dm_watch, dm_watch_end);
	*p = 0xdead;
	CHECK(pthread_create(&t, NULL, dm_vcpu, cpu) == 0);
	for (unsigned i = 0; i < MOVES; i++) {
		*p = 0x5a5a;
		CHECK(vmm_mmap_memseg(vmm, at, SEG, 0, LEN, VMM_PROT_READ, 0) == 0);
		if (i % 8 == 0)
			usleep(500);
		CHECK(vmm_munmap_memseg(vmm, at, LEN) == 0);
		*p = 0xdead;
		at ^= 0x60000;
	}
	CHECK(vmm_suspend(vmm, VMM_SUSPEND_POWEROFF) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(vmm_gpa_read(vmm, 0x2000, &n, 4, NULL) == 0);
	printf("%u moves, %u looks of the guest, %lu beside the window\n", MOVES, n,
	    atomic_load(&dm_mmio));
	CHECK(n > 100);
	munmap((void *)(uintptr_t)p, LEN);
}

/* The file is cut behind the guest's back: it goes on, with zeros. */
static void
dm_shortened(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_exit ex = { .size = sizeof(ex) };
	uint64_t word = 0;
	int fd;

	CHECK(vmm_reinit(vmm) == 0);
	CHECK(vmm_alloc_memseg(vmm, 3, LEN, "victim") == 0);
	CHECK(vmm_mmap_memseg(vmm, 0xa0000, 3, 0, LEN, VMM_PROT_ALL, 0) == 0);
	dm_start(vmm, cpu, dm_ask, dm_ask_end);
	CHECK(vmm_vcpu_set_reg(cpu, VMM_REG_CR0, 0x10) == 0);
	CHECK(dm_said(cpu, &ex) == 1);
	fd = vmm_open_devmem(vmm, "victim", O_RDWR);
	CHECK(fd >= 0 && ftruncate(fd, 0) == 0);
	/* the other place first: no window there */
	CHECK(vmm_vcpu_run(cpu, &ex) == 0 && ex.reason == VMM_EXIT_MMIO);
	CHECK(vmm_vcpu_run(cpu, &ex) == 0 && ex.reason == VMM_EXIT_MMIO);
	(void)dm_said(cpu, &ex);
	CHECK(dm_said(cpu, &ex) == 1);
	/* from outside of the guest, too */
	CHECK(vmm_gpa_read(vmm, 0xa0000 + 0x8000, &word, 8, NULL) == 0 && word == 0);
	close(fd);
}

static void
dm_mode(const char *dir, mode_t want)
{
	char path[256];
	struct stat st;

	snprintf(path, sizeof(path), "%s/devmem/framebuffer", dir);
	CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == want);
}

static void
dm_run(const char *dir)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1, .engine = "soft" };
	struct vmm_vcpu *cpu;
	struct vmm *vmm;

	CHECK(vmm_create("devmem", &cfg, &vmm) == 0);
	CHECK(vmm_setup_memory(vmm, LEN, 0) == 0);
	CHECK(vmm_create_devmem(vmm, SEG, "framebuffer", LEN, 0640) == 0);
	CHECK(vmm_create_devmem(vmm, SEG, "framebuffer", LEN, 0660) == 0);
	dm_mode(dir, 0660);
	CHECK(vmm_vcpu_open(vmm, 0, &cpu) == 0);
	CHECK(vmm_vcpu_set_reg(cpu, VMM_REG_CR0, 0x10) == 0);
	dm_asked(vmm, cpu);
	dm_reset(vmm, cpu);
	dm_moved(vmm, cpu);
	dm_shortened(vmm, cpu);
	vmm_vcpu_close(cpu);
	vmm_close(vmm);
	/* the machine is gone; the other process still has the bytes */
	CHECK(dm_ask_other(1) == 0xdead);
	CHECK(dm_ask_other(0) == 0xdeae);
}

int
main(void)
{
	char dir[] = "/tmp/devmemXXXXXX";
	int status;
	pid_t pid;

	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(mkdtemp(dir) != NULL && setenv("VMM_DIR", dir, 1) == 0);
	CHECK(pipe(dm_to) == 0 && pipe(dm_from) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(dm_other());
	close(dm_to[0]);
	close(dm_from[1]);
	dm_run(dir);
	close(dm_to[1]);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(rmdir(dir) == 0);
	return 0;
}
