/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loader_load() with files, against a machine that is a few arrays: what is
 * written where, the registers, and the message for every bad file.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "loader/plan.h"

#define MEMORY (64ul << 20)

static uint8_t *memory;
static uint64_t reg[VMM_REG_COUNT];
static struct vmm_seg seg[VMM_SEG_COUNT];
static gpa_t write_limit = UINT64_MAX; /* writes from here on fail */
static char dir[] = "/tmp/hyve-load-XXXXXX";

/* --- the machine ------------------------------------------------------------ */

uint64_t
vmm_lowmem_size(const struct vmm *vmm)
{
	(void)vmm;
	return MEMORY;
}

uint64_t
vmm_highmem_size(const struct vmm *vmm)
{
	(void)vmm;
	return 0;
}

int
vmm_gpa_write(struct vmm *vmm, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep)
{
	(void)vmm;
	(void)donep;
	if (gpa + len > write_limit)
		return -EFAULT;
	assert_true(len <= MEMORY && gpa <= MEMORY - len);
	memcpy(memory + gpa, buf, len);
	return 0;
}

int
vmm_vcpu_set_reg(struct vmm_vcpu *vcpu, enum vmm_reg r, uint64_t val)
{
	(void)vcpu;
	reg[r] = val;
	return 0;
}

int
vmm_vcpu_set_seg(struct vmm_vcpu *vcpu, enum vmm_segreg r,
    const struct vmm_seg *s)
{
	(void)vcpu;
	seg[r] = *s;
	return 0;
}

/* --- tests ------------------------------------------------------------------- */

static char *
make_file(const char *name, const void *data, size_t len)
{
	static char path[8][128];
	static unsigned next;
	char *p = path[next++ % 8];
	FILE *f;

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	f = fopen(p, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	return p;
}

/* A raw multiboot image of 4 KB, loaded and entered at 1 MB. */
static void
make_image(uint8_t img[4096])
{
	const uint32_t h[8] = { 0x1badb002, 0x10003, -(0x1badb002u + 0x10003),
		0x100000, 0x100000, 0, 0x200000, 0x100040 };

	memset(img, 0xf4, 4096);
	for (unsigned i = 0; i < 8; i++)
		plan_put32(img + 4 * i, h[i]);
}

static int
load(const struct loader_config *cfg, char err[256])
{
	memset(memory, 0, MEMORY);
	memset(reg, 0xff, sizeof(reg));
	memset(seg, 0xff, sizeof(seg));
	err[0] = '\0';
	return loader_load(NULL, NULL, cfg, err, 256);
}

static void
test_load(void **state)
{
	static uint8_t img[4096], mod[700001];
	struct loader_module module = { NULL, "args" };
	struct loader_config cfg = { .append = "hello", .module = &module,
		.nmodule = 1 };
	char err[256];
	uint32_t list;

	(void)state;
	make_image(img);
	for (size_t i = 0; i < sizeof(mod); i++)
		mod[i] = (uint8_t)(i * 7 >> 3);
	cfg.kernel = make_file("kernel", img, sizeof(img));
	module.path = make_file("module", mod, sizeof(mod));
	assert_int_equal(load(&cfg, err), 0);
	assert_memory_equal(memory + 0x100000, img, sizeof(img));
	list = plan_get32(memory + plan_get32(memory + reg[VMM_REG_RBX] + 24));
	assert_memory_equal(memory + list, mod, sizeof(mod));
	assert_int_equal(reg[VMM_REG_RAX], 0x2badb002);
	assert_int_equal(reg[VMM_REG_RIP], 0x100040);
	assert_int_equal(reg[VMM_REG_CR0], 0x11);
	assert_int_equal(reg[VMM_REG_CR4], 0);
	assert_int_equal(reg[VMM_REG_EFER], 0);
	assert_int_equal(reg[VMM_REG_RFLAGS], 2);
	assert_int_equal(seg[VMM_SEG_CS].selector, 0x10);
	assert_int_equal(seg[VMM_SEG_CS].access, 0xc09b);
	assert_int_equal(seg[VMM_SEG_CS].limit, UINT32_MAX);
	assert_int_equal(seg[VMM_SEG_SS].access, 0xc093);
	assert_int_equal(seg[VMM_SEG_TR].access, 0x8b);
	/* The caches and the table in memory agree. */
	assert_int_equal(seg[VMM_SEG_GDTR].limit, 47);
	assert_true(plan_get64(memory + seg[VMM_SEG_GDTR].base + 0x10) ==
	    0x00cf9b000000ffff);
	assert_true(plan_get64(memory + seg[VMM_SEG_GDTR].base + 0x18) ==
	    0x00cf93000000ffff);
}

static void
must_fail(const struct loader_config *cfg, int error, const char *file,
    const char *reason)
{
	char err[256];

	assert_int_equal(load(cfg, err), error);
	if (strstr(err, file) == NULL || strstr(err, reason) == NULL ||
	    strchr(err, '\n') != NULL)
		fail_msg("\"%s\" lacks \"%s\" or \"%s\"", err, file, reason);
	assert_true(reg[VMM_REG_RIP] == UINT64_MAX);
}

static void
test_bad_files(void **state)
{
	static uint8_t img[4096];
	struct loader_module module[LOADER_MAXMODULES + 1] = { { NULL, NULL } };
	struct loader_config cfg = { .module = module };
	char *good, *fifo;

	(void)state;
	make_image(img);
	good = make_file("good", img, sizeof(img));
	cfg.kernel = "/nonexistent/kernel";
	must_fail(&cfg, -ENOENT, "/nonexistent/kernel", "No such file");
	cfg.kernel = dir;
	must_fail(&cfg, -EINVAL, dir, "not a regular file");
	/* Nobody writes to it: opening must not wait. */
	fifo = make_file("fifo", "", 0);
	unlink(fifo);
	assert_int_equal(mkfifo(fifo, 0600), 0);
	cfg.kernel = fifo;
	must_fail(&cfg, -EINVAL, "fifo", "not a regular file");
	unlink(fifo);
	cfg.kernel = make_file("empty", "", 0);
	must_fail(&cfg, -ENOEXEC, "empty", "is empty");
	cfg.kernel = make_file("text", "hello, world\n", 13);
	must_fail(&cfg, -ENOEXEC, "text", "not a kernel");
	cfg.kernel = make_file("short", img, 24);
	must_fail(&cfg, -ENOEXEC, "short", "truncated");
	cfg.kernel = good;
	cfg.nmodule = 1;
	module[0].path = "/nonexistent/module";
	must_fail(&cfg, -ENOENT, "/nonexistent/module", "No such file");
	module[0].path = make_file("nothing", "", 0);
	must_fail(&cfg, -EINVAL, "nothing", "is empty");
	assert_int_equal(truncate(module[0].path, MEMORY), 0);
	must_fail(&cfg, -ENOSPC, "nothing", "no room");
	cfg.nmodule = LOADER_MAXMODULES + 1;
	module[LOADER_MAXMODULES].path = "the-last";
	must_fail(&cfg, -E2BIG, "the-last", "more than 16");
	/* Guest memory that cannot be had. */
	cfg.nmodule = 0;
	write_limit = 0x100000;
	must_fail(&cfg, -EFAULT, good, "guest memory at 0x100000");
	write_limit = UINT64_MAX;
}

static int
setup(void **state)
{
	(void)state;
	memory = malloc(MEMORY);
	return memory == NULL || mkdtemp(dir) == NULL;
}

static int
teardown(void **state)
{
	char cmd[64];

	(void)state;
	free(memory);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	return system(cmd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_bad_files),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
