/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmm from both ends: names and directories, connections, clients that are
 * rude, slow or gone, and device memory nodes.
 */
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake.h"
#include "libvmm/dir.h"
#include "libvmm/proto.h"
#include "vmm/vmm.h"

#define MB (1ul << 20)

static char tmp[] = "/tmp/attach_test.XXXXXX";

static struct vmm *
make(const char *name)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 2 };
	struct vmm *vmm;

	if (vmm_create(name, &cfg, &vmm) != 0)
		fail_msg("%s", vmm_errmsg(NULL));
	assert_int_equal(vmm_setup_memory(vmm, 16 * MB, 0), 0);
	return vmm;
}

/* => how many entries the directory of machines has */
static unsigned
entries(void)
{
	char cmd[128];
	unsigned n = 0;
	FILE *fp;

	snprintf(cmd, sizeof(cmd), "ls -A %s | wc -l", tmp);
	fp = popen(cmd, "r");
	assert_non_null(fp);
	assert_int_equal(fscanf(fp, "%u", &n), 1);
	pclose(fp);
	return n;
}

static int
count(void *arg, const char *name)
{
	(void)name;
	++*(unsigned *)arg;
	return 0;
}

static unsigned
listed(void)
{
	unsigned n = 0;

	assert_int_equal(vmm_list(count, &n), 0);
	return n;
}

static void
names(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };
	char longest[VMM_NAME_MAX + 2];
	struct vmm *vmm, *two;

	(void)state;
	assert_int_equal(vmm_create("", &cfg, &vmm), -EINVAL);
	assert_int_equal(vmm_create(".x", &cfg, &vmm), -EINVAL);
	assert_int_equal(vmm_create("a/b", &cfg, &vmm), -EINVAL);
	assert_int_equal(vmm_create("a\nb", &cfg, &vmm), -EINVAL);
	assert_int_equal(vmm_open("a/b", &vmm), -EINVAL);
	memset(longest, 'n', sizeof(longest));
	longest[VMM_NAME_MAX + 1] = '\0';
	assert_int_equal(vmm_create(longest, &cfg, &vmm), -ENAMETOOLONG);
	longest[VMM_NAME_MAX] = '\0';
	assert_int_equal(vmm_create(longest, &cfg, &vmm), 0);
	assert_int_equal(vmm_create(longest, &cfg, &two), -EEXIST);
	assert_int_equal(vmm_open(longest, &two), 0);
	vmm_close(two);
	vmm_close(vmm);
	assert_int_equal(vmm_open("none", &vmm), -ENOENT);
	assert_string_equal(vmm_errmsg(NULL), "no machine \"none\" runs");
	assert_int_equal(entries(), 0);
}

static void
bad_config(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg) - 1, .ncpu = 1 };
	struct vmm *vmm;

	(void)state;
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	cfg.size++;
	cfg.ncpu = 0;
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	cfg.ncpu = VMM_MAXCPU + 1;
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	cfg.ncpu = 1;
	cfg.flags = 0x80;
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	cfg.flags = 0;
	cfg.engine = "kvm";
	assert_int_equal(vmm_create("x", &cfg, &vmm), -ENOTSUP);
	cfg.engine = "fast";
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	cfg.engine = NULL;
	cfg.pmap = "sparc";
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EINVAL);
	assert_int_equal(entries(), 0);
}

static void
bad_directory(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };
	struct vmm *vmm;

	(void)state;
	assert_int_equal(chmod(tmp, 0750), 0);
	assert_int_equal(vmm_create("x", &cfg, &vmm), -EPERM);
	assert_int_equal(vmm_open("x", &vmm), -EPERM);
	assert_int_equal(chmod(tmp, 0700), 0);
	setenv("VMM_DIR", "/proc/nowhere/at/all", 1);
	assert_int_equal(vmm_create("x", &cfg, &vmm), -ENOENT);
	setenv("VMM_DIR", tmp, 1);
}

static void
memory_sizes(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };
	struct vmm *vmm;

	(void)state;
	assert_int_equal(vmm_create("x", &cfg, &vmm), 0);
	assert_int_equal(vmm_setup_memory(vmm, 0, 0), -EINVAL);
	assert_int_equal(vmm_setup_memory(vmm, 4095, 0), -EINVAL);
	assert_int_equal(vmm_setup_memory(vmm, 1ul << 60, 0), -EINVAL);
	assert_int_equal(vmm_setup_memory(vmm, 16 * MB, 0x10), -EINVAL);
	assert_int_equal(vmm_setup_memory(vmm, 16 * MB, 0), 0);
	assert_int_equal(vmm_setup_memory(vmm, 16 * MB, 0), -EEXIST);
	vmm_close(vmm);
}

/* => the mapping that holds p is left out of core dumps */
static bool
undumped(const void *p)
{
	FILE *fp = fopen("/proc/self/smaps", "r");
	unsigned long a, b;
	bool in = false, dd = false;
	char line[512];

	assert_non_null(fp);
	while (fgets(line, sizeof(line), fp) != NULL) {
		if (sscanf(line, "%lx-%lx ", &a, &b) == 2)
			in = (uintptr_t)p >= a && (uintptr_t)p < b;
		else if (in && strncmp(line, "VmFlags:", 8) == 0)
			dd = strstr(line, " dd") != NULL;
	}
	fclose(fp);
	return dd;
}

static void
core_dumps(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };
	struct vmm_hold h;
	struct vmm *vmm;

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vmm_create("x", &cfg, &vmm), 0);
		assert_int_equal(vmm_setup_memory(vmm, 16 * MB,
		    i == 0 ? 0 : VMM_MEM_F_INCORE), 0);
		assert_int_equal(vmm_gpa_hold(vmm, 0, 8, VMM_PROT_READ, &h),
		    0);
		assert_int_equal(undumped(h.ptr), i == 0);
		vmm_gpa_release(vmm, &h);
		vmm_close(vmm);
	}
}

static void
both_ends(void **state)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	struct vmm_regs regs = { .size = sizeof(regs) };
	struct vmm_info info = { .size = sizeof(info) };
	struct vmm *vmm = make("m"), *far;
	char name[VMM_SEGNAME_MAX + 1], *big = malloc(MB), *back = malloc(MB);
	struct vmm_stat st[64];
	struct vmm_vcpu *v;
	uint64_t val, pte[4], done;
	unsigned n;

	(void)state;
	assert_int_equal(vmm_open("m", &far), 0);
	assert_int_equal(vmm_get_info(far, &info), 0);
	assert_int_equal(info.pid, getpid());
	assert_int_equal(info.ncpu, 2);
	assert_int_equal(info.lowmem, 16 * MB);
	assert_int_equal(info.state, VMM_SUSPEND_NONE);
	assert_int_equal(vmm_lowmem_size(far), 16 * MB);
	assert_int_equal(vmm_highmem_size(far), 0);
	/* memory, more than one message long */
	for (unsigned i = 0; i < MB; i++)
		big[i] = (char)(i * 7 + i / 4096);
	assert_int_equal(vmm_gpa_write(far, 0x1234, big, MB, &done), 0);
	assert_int_equal(done, MB);
	assert_int_equal(vmm_gpa_read(vmm, 0x1234, back, MB, NULL), 0);
	assert_memory_equal(big, back, MB);
	memset(back, 0, MB);
	assert_int_equal(vmm_gpa_read(far, 0x1234, back, MB, NULL), 0);
	assert_memory_equal(big, back, MB);
	assert_int_equal(vmm_gpa_read(far, 16 * MB - 100, back, 200, &done),
	    -EFAULT);
	assert_int_equal(done, 100);
	assert_int_equal(vmm_get_memseg(far, 0, &val, name), 0);
	assert_int_equal(val, 16 * MB);
	assert_int_equal(vmm_get_memseg(far, 9, &val, name), -EINVAL);
	assert_int_equal(vmm_memseg_resident(far, 0, &val), 0);
	assert_true(val >= MB && val <= 2 * MB);
	assert_int_equal(vmm_mmap_getnext(far, 0, &map), 0);
	assert_int_equal(map.len, 16 * MB);
	assert_int_equal(vmm_mmap_getnext(far, 1, &map), -ENOENT);
	assert_int_equal(vmm_get_gpa_pmap(far, 0x1234, pte, &n), 0);
	assert_true(n >= 1 && n <= 4);
	/* registers */
	assert_int_equal(vmm_vcpu_open(far, 2, &v), -EINVAL);
	assert_int_equal(vmm_vcpu_open(far, 1, &v), 0);
	assert_int_equal(vmm_vcpu_set_reg(v, VMM_REG_R9, 0x99), 0);
	assert_int_equal(vmm_vcpu_get_reg(v, VMM_REG_R9, &val), 0);
	assert_int_equal(val, 0x99);
	assert_int_equal(vmm_vcpu_get_regs(v, &regs), 0);
	assert_int_equal(regs.reg[VMM_REG_R9], 0x99);
	struct vmm_seg seg = { .base = 0x1000, .selector = 8 };
	assert_int_equal(vmm_vcpu_set_seg(v, VMM_SEG_FS, &seg), 0);
	memset(&seg, 0, sizeof(seg));
	assert_int_equal(vmm_vcpu_get_seg(v, VMM_SEG_FS, &seg), 0);
	assert_int_equal(seg.base, 0x1000);
	assert_int_equal(vmm_vcpu_get_reg(v, VMM_REG_COUNT, &val), -EINVAL);
	assert_int_equal(vmm_vcpu_gva_to_gpa(v, 0x42, VMM_PROT_READ, &val),
	    0);
	assert_int_equal(val, 0x42);
	assert_int_equal(vmm_vcpu_gva_to_gpa(v, 0x42, 3, &val), -EINVAL);
	struct vmm_exit ex = { .size = sizeof(ex) };
	assert_int_equal(vmm_vcpu_run(v, &ex), -ENOTSUP);
	vmm_vcpu_close(v);
	/* statistics: fewer records than there are */
	assert_int_equal(vmm_get_stats(far, -1, st, 1, &n), 0);
	assert_true(n > 1);
	assert_string_equal(st[0].name, "vm.resident");
	assert_int_equal(vmm_get_stats(far, 2, st, 1, &n), -EINVAL);
	assert_int_equal(vmm_inject_nmi(far, 2), -EINVAL);
	assert_int_equal(vmm_inject_nmi(far, 1), 0);
	/* what a connection cannot do */
	assert_int_equal(vmm_setup_memory(far, MB, 0), -ENOTSUP);
	assert_int_equal(vmm_munmap_memseg(far, 0, 16 * MB), -ENOTSUP);
	assert_int_equal(vmm_suspend(far, (enum vmm_suspend)77), -EINVAL);
	assert_int_equal(vmm_suspend(far, VMM_SUSPEND_HALT), 0);
	assert_int_equal(vmm_suspend(far, VMM_SUSPEND_RESET), -EALREADY);
	assert_int_equal(vmm_get_info(far, &info), 0);
	assert_int_equal(info.state, VMM_SUSPEND_HALT);
	vmm_close(vmm);
	assert_int_equal(vmm_get_info(far, &info), -EPIPE);
	vmm_close(far);
	free(big);
	free(back);
	assert_int_equal(entries(), 0);
}

static void
rude_clients(void **state)
{
	struct proto_head rq = { PROTO_MAGIC, PROTO_GPA_READ, 0,
		{ 0, PROTO_MAXDATA } };
	struct vmm_info info = { .size = sizeof(info) };
	struct vmm *vmm = make("m"), *far;
	int deaf[3], s;
	char c;

	(void)state;
	/* Three ask for much and never listen. */
	for (unsigned i = 0; i < 3; i++) {
		deaf[i] = dir_connect("m");
		assert_true(deaf[i] >= 0);
		assert_int_equal(fcntl(deaf[i], F_SETFL, O_NONBLOCK), 0);
		for (int k = 0; k < 5000; k++)
			if (send(deaf[i], &rq, sizeof(rq), MSG_NOSIGNAL) < 0)
				break;
	}
	/* Others send nonsense, half a request, or nothing. */
	s = dir_connect("m");
	assert_int_equal(send(s, "GET / HTTP/1.1\r\n", 16, 0), 16);
	assert_int_equal(recv(s, &c, 1, 0), 0); /* hung up on */
	close(s);
	for (int i = 0; i < 40; i++) { /* more than there are places */
		s = dir_connect("m");
		assert_true(s >= 0);
		assert_int_equal(send(s, &rq, 7, MSG_NOSIGNAL), 7);
		if (i % 2 == 0)
			close(s);
	}
	assert_int_equal(vmm_open("m", &far), 0);
	assert_int_equal(vmm_get_info(far, &info), 0);
	vmm_close(far);
	for (unsigned i = 0; i < 3; i++)
		close(deaf[i]);
	vmm_close(vmm);
}

static void
stale(void **state)
{
	struct vmm *vmm;
	int fd[2];
	pid_t pid;
	char c;

	(void)state;
	assert_int_equal(pipe(fd), 0);
	pid = fork();
	if (pid == 0) { /* threads after a fork want a fresh image */
		(void)dup2(fd[1], STDOUT_FILENO);
		(void)close(fd[0]);
		(void)close(fd[1]);
		execl("/proc/self/exe", "attach_test", "child", NULL);
		_exit(1);
	}
	close(fd[1]);
	assert_int_equal(read(fd[0], &c, 1), 1);
	assert_int_equal(listed(), 1);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	close(fd[0]);
	assert_int_equal(entries(), 1);
	assert_int_equal(vmm_open("dead", &vmm), -ENOENT);
	vmm = make("alive");
	assert_int_equal(listed(), 1); /* and what is dead goes */
	assert_int_equal(entries(), 1);
	vmm_close(vmm);
	/* Left by a killed one, taken over by the next of that name. */
	char path[128];
	snprintf(path, sizeof(path), "%s/again", tmp);
	assert_int_equal(mkdir(path, 0700), 0);
	vmm = make("again");
	vmm_close(vmm);
	assert_int_equal(entries(), 0);
}

static void
devmem(void **state)
{
	struct vmm *vmm = make("m");
	uint64_t word = 0xfeedface;
	uint64_t *p;
	int fd;

	(void)state;
	assert_int_equal(vmm_alloc_memseg(vmm, 2, MB, "../x"), -EINVAL);
	assert_int_equal(vmm_alloc_memseg(vmm, 2, MB, "ctl"), -EINVAL);
	assert_int_equal(vmm_create_devmem(vmm, 2, "", MB, 0600), -EINVAL);
	assert_int_equal(vmm_create_devmem(vmm, 2, "x", MB, 0700), -EINVAL);
	assert_int_equal(vmm_create_devmem(vmm, 2, "x/y", MB, 0600), -EINVAL);
	assert_int_equal(vmm_create_devmem(vmm, 2, "framebuffer", MB, 0600), 0);
	assert_int_equal(vmm_create_devmem(vmm, 2, "framebuffer", MB, 0600), 0);
	assert_int_equal(vmm_create_devmem(vmm, 2, "bootrom", MB, 0600), -EINVAL);
	assert_int_equal(vmm_create_devmem(vmm, 3, "framebuffer", MB, 0600),
	    -EEXIST);
	assert_int_equal(vmm_create_devmem(vmm, 2, "framebuffer", 2 * MB, 0600),
	    -EINVAL);
	assert_int_equal(vmm_mmap_memseg(vmm, 1ul << 30, 2, 0, MB,
	    VMM_PROT_RW, 0), 0);
	fd = vmm_open_devmem(vmm, "framebuffer", O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(vmm_open_devmem(vmm, "bootrom", O_RDWR), -ENOENT);
	p = mmap(NULL, MB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_true(p != MAP_FAILED);
	assert_int_equal(vmm_gpa_write(vmm, (1ul << 30) + 8, &word, 8, NULL),
	    0);
	assert_int_equal(p[1], word);
	/* The guest's window moves; the mapping here does not care. */
	assert_int_equal(vmm_munmap_memseg(vmm, 1ul << 30, MB), 0);
	assert_int_equal(vmm_mmap_memseg(vmm, 1ul << 31, 2, 0, MB,
	    VMM_PROT_READ, 0), 0);
	p[1] = 17;
	assert_int_equal(vmm_gpa_read(vmm, (1ul << 31) + 8, &word, 8, NULL),
	    0);
	assert_int_equal(word, 17);
	assert_int_equal(vmm_gpa_write(vmm, 1ul << 31, &word, 8, NULL),
	    -EFAULT);
	vmm_close(vmm);
	assert_int_equal(p[1], 17); /* and outlives the machine */
	munmap(p, MB);
	assert_int_equal(entries(), 0);
}

static int
setup(void **state)
{
	(void)state;
	return mkdtemp(tmp) == NULL || setenv("VMM_DIR", tmp, 1) != 0;
}

static int
teardown(void **state)
{
	(void)state;
	return rmdir(tmp);
}

/* The machine that stale() kills. */
static int
child(void)
{
	(void)make("dead");
	(void)!write(STDOUT_FILENO, "x", 1);
	pause();
	return 0;
}

int
main(int argc, char **argv)
{
	(void)argv;
	if (argc > 1)
		return child();

	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(bad_config),
		cmocka_unit_test(bad_directory),
		cmocka_unit_test(memory_sizes),
		cmocka_unit_test(core_dumps),
		cmocka_unit_test(both_ends),
		cmocka_unit_test(rude_clients),
		cmocka_unit_test(stale),
		cmocka_unit_test(devmem),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
