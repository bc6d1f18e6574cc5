/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments and maps: every error of vmm-memory(7), in the order promised there,
 * and that a refused call changes nothing.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fake.h"
#include "vmm/hold.h"
#include "vmm/machine.h"
#include "vmm/memseg.h"
#include "vmm/stats.h"

#define MB (1ul << 20)
#define GB (1ul << 30)

static int node_error;
static char node_name[64];
static unsigned nodes;

static int
node_create(void *arg, const char *name, uint64_t len, int *fdp)
{
	(void)arg;
	if (node_error != 0)
		return node_error;
	strcpy(node_name, name);
	*fdp = memfd_create(name, MFD_CLOEXEC);
	assert_true(*fdp >= 0);
	assert_int_equal(ftruncate(*fdp, (off_t)len), 0);
	nodes++;
	return 0;
}

static void
node_destroy(void *arg, const char *name)
{
	(void)arg;
	assert_string_equal(name, node_name);
	nodes--;
}

static const struct machine_node_ops node_ops = { node_create, node_destroy };

static struct machine *
make(unsigned ncpu)
{
	struct machine_config mc = {
		.name = "t",
		.ncpu = ncpu,
		.engine = &fake_engine,
		.nodes = &node_ops,
	};
	struct machine *m;

	assert_int_equal(machine_create(&mc, &m), 0);
	return m;
}

static int
setup(void **state)
{
	node_error = fake_fail_object = fake_fail_insert = fake_fail_fault = 0;
	*state = make(2);
	return 0;
}

static int
teardown(void **state)
{
	machine_destroy(*state);
	assert_int_equal(fake_objects, 0);
	assert_int_equal(nodes, 0);
	return 0;
}

#define ALLOC(m, id, len, name) memseg_alloc(m, id, len, name, sizeof(name))

static void
alloc_errors(void **state)
{
	static const char full[16] = "0123456789abcdef"; /* no NUL */
	struct machine *m = *state;

	/* 1. The name comes before everything else. */
	assert_int_equal(memseg_alloc(m, -1, 1, full, sizeof(full)),
	    -ENAMETOOLONG);
	assert_int_equal(ALLOC(m, 0, MB, "0123456789abcdef"), -ENAMETOOLONG);
	/* 2. The id comes before the length. */
	assert_int_equal(ALLOC(m, -1, 1, ""), -EINVAL);
	assert_int_equal(ALLOC(m, VMM_MAXSEGS, MB, ""), -EINVAL);
	/* 3. Length. */
	assert_int_equal(ALLOC(m, 0, 0, ""), -EINVAL);
	assert_int_equal(ALLOC(m, 0, 4097, ""), -EINVAL);
	/* 4. In use: the same is EEXIST, all else EINVAL. */
	assert_int_equal(ALLOC(m, 0, MB, ""), 0);
	assert_int_equal(ALLOC(m, 0, MB, ""), -EEXIST);
	assert_int_equal(ALLOC(m, 0, 2 * MB, ""), -EINVAL);
	assert_int_equal(ALLOC(m, 0, MB, "rom"), -EINVAL);
	/* ... and length before that. */
	assert_int_equal(ALLOC(m, 0, 1, ""), -EINVAL);
	/* 6. No object. */
	fake_fail_object = -ENOMEM;
	assert_int_equal(ALLOC(m, 1, MB, ""), -ENOMEM);
	assert_int_equal(ALLOC(m, 1, MB, "rom"), -ENOMEM);
	assert_int_equal(nodes, 0);
	fake_fail_object = 0;
	/* 7. The node's error is ours; the segment stays free. */
	node_error = -EEXIST;
	assert_int_equal(ALLOC(m, 1, MB, "rom"), -EEXIST);
	node_error = 0;
	assert_int_equal(ALLOC(m, 1, MB, "0123456789abcde"), 0);
	assert_int_equal(nodes, 1);
}

static void
get_memseg(void **state)
{
	struct machine *m = *state;
	char name[VMM_SEGNAME_MAX + 1];
	uint64_t len, bytes;

	assert_int_equal(memseg_get(m, -1, &len, name), -EINVAL);
	assert_int_equal(memseg_get(m, VMM_MAXSEGS, &len, name), -EINVAL);
	assert_int_equal(memseg_resident(m, VMM_MAXSEGS, &bytes), -EINVAL);
	assert_int_equal(memseg_get(m, 3, &len, name), 0);
	assert_int_equal(len, 0);
	assert_int_equal(ALLOC(m, 3, MB, "fb"), 0);
	assert_int_equal(memseg_get(m, 3, &len, name), 0);
	assert_int_equal(len, MB);
	assert_string_equal(name, "fb");
	assert_int_equal(ALLOC(m, 0, MB, ""), 0);
	assert_int_equal(memseg_get(m, 0, &len, name), 0);
	assert_string_equal(name, "");
}

static void
mmap_errors(void **state)
{
	struct machine *m = *state;
	const int rw = VMM_PROT_RW;

	assert_int_equal(ALLOC(m, 0, MB, ""), 0);
	/* 1. prot, before flags, segment and all else. */
	assert_int_equal(memseg_mmap(m, 1, 9, 0, 0, 0, 0x80), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, 0, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, 8, 0), -EINVAL);
	/* 2. flags: what the core sets cannot be asked for. */
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, rw, VMM_MAP_F_IOMMU),
	    -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, rw, 4), -EINVAL);
	/* 3., 4. segment */
	assert_int_equal(memseg_mmap(m, 0, -1, 0, MB, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, VMM_MAXSEGS, 0, MB, rw, 0),
	    -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 1, 0, MB, rw, 0), -EINVAL);
	/* 5. range in the segment */
	assert_int_equal(memseg_mmap(m, 0, 0, 1ul << 63, MB, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, 0, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 4096, -4096ul, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 4096, MB, rw, 0), -EINVAL);
	/* 6. alignment */
	assert_int_equal(memseg_mmap(m, 1, 0, 0, 4096, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 1, 4096, rw, 0), -EINVAL);
	assert_int_equal(memseg_mmap(m, 0, 0, 0, 4095, rw, 0), -EINVAL);
	/* 8. overlap, beyond the space */
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, rw, 0), 0);
	assert_int_equal(memseg_mmap(m, MB - 4096, 0, 0, 4096, rw, 0),
	    -EFAULT);
	assert_int_equal(memseg_mmap(m, 1ul << 47, 0, 0, 4096, rw, 0),
	    -EFAULT);
	/* 9. wiring */
	fake_fail_insert = -ENOMEM;
	assert_int_equal(memseg_mmap(m, MB, 0, 0, MB, rw, VMM_MAP_F_WIRED),
	    -ENOMEM);
	fake_fail_insert = -EIO;
	assert_int_equal(memseg_mmap(m, MB, 0, 0, MB, rw, VMM_MAP_F_WIRED),
	    -EFAULT);
	fake_fail_insert = 0;
	/* Nothing of the failures is left. */
	struct vmm_memmap map = { .size = sizeof(map) };
	assert_int_equal(memseg_getnext(m, 0, &map), 0);
	assert_int_equal(map.len, MB);
	assert_int_equal(memseg_getnext(m, 1, &map), -ENOENT);
}

static void
mmap_slots(void **state)
{
	struct machine *m = *state;

	assert_int_equal(ALLOC(m, 0, MB, ""), 0);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++) /* aliases are fine */
		assert_int_equal(memseg_mmap(m, i * MB, 0, 0, MB,
		    VMM_PROT_READ, 0), 0);
	/* 7. comes before 8.: also where it would overlap. */
	assert_int_equal(memseg_mmap(m, 0, 0, 0, MB, VMM_PROT_READ, 0),
	    -ENOSPC);
	/* ... but after 6. */
	assert_int_equal(memseg_mmap(m, 1, 0, 0, 4096, VMM_PROT_READ, 0),
	    -EINVAL);
	assert_int_equal(memseg_munmap(m, 3 * MB, MB), 0);
	assert_int_equal(memseg_mmap(m, 100 * MB, 0, 0, MB, VMM_PROT_READ, 0),
	    0);
}

static void
munmap_errors(void **state)
{
	struct machine *m = *state;

	assert_int_equal(ALLOC(m, 0, MB, ""), 0);
	assert_int_equal(memseg_munmap(m, 0, 0), -EINVAL); /* bhyve's quirk */
	assert_int_equal(memseg_mmap(m, MB, 0, 0, MB, VMM_PROT_ALL, 0), 0);
	assert_int_equal(memseg_munmap(m, MB, MB - 4096), -EINVAL);
	assert_int_equal(memseg_munmap(m, MB + 4096, MB - 4096), -EINVAL);
	assert_int_equal(memseg_munmap(m, 0, MB), -EINVAL);
	unsigned before = fake_unmapped;
	assert_int_equal(memseg_munmap(m, MB, MB), 0);
	assert_int_equal(fake_unmapped, before + 1);
	assert_int_equal(memseg_munmap(m, MB, MB), -EINVAL);
}

static void
getnext(void **state)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	struct machine *m = *state;

	assert_int_equal(memseg_getnext(m, 0, &map), -ENOENT);
	assert_int_equal(ALLOC(m, 0, 4 * MB, ""), 0);
	assert_int_equal(memseg_mmap(m, 8 * MB, 0, MB, MB,
	    VMM_PROT_READ | VMM_PROT_EXEC, VMM_MAP_F_WIRED), 0);
	assert_int_equal(memseg_mmap(m, 2 * MB, 0, 0, MB, VMM_PROT_RW, 0), 0);
	assert_int_equal(memseg_getnext(m, 0, &map), 0);
	assert_int_equal(map.gpa, 2 * MB);
	assert_int_equal(memseg_getnext(m, 2 * MB + 1, &map), 0);
	assert_int_equal(map.gpa, 8 * MB);
	assert_int_equal(map.segoff, MB);
	assert_int_equal(map.len, MB);
	assert_int_equal(map.prot, VMM_PROT_READ | VMM_PROT_EXEC);
	assert_int_equal(map.flags, VMM_MAP_F_WIRED);
	assert_int_equal(fake_map_flags(machine_vmspace(m), 8 * MB), 1);
	map.size--;
	assert_int_equal(memseg_getnext(m, 0, &map), -EINVAL);
}

static void
setup_layout(void **state)
{
	static const struct {
		uint64_t size, low, high;
	} t[] = { { 4096, 4096, 0 }, { 3 * GB, 3 * GB, 0 },
		{ 3 * GB + 4096, 3 * GB, 4096 }, { 8 * GB, 3 * GB, 5 * GB } };
	struct vmm_memmap map = { .size = sizeof(map) };
	struct machine *m;

	(void)state;
	for (size_t i = 0; i < BASE_ARRAY_LEN(t); i++) {
		m = make(1);
		assert_int_equal(memseg_setup(m, 0, 0), -EINVAL);
		assert_int_equal(memseg_setup(m, t[i].size + 1, 0), -EINVAL);
		assert_int_equal(memseg_setup(m, t[i].size, 8), -EINVAL);
		assert_int_equal(memseg_setup(m, t[i].size, 0), 0);
		assert_int_equal(memseg_setup(m, t[i].size, 0), -EEXIST);
		assert_int_equal(memseg_lowmem(m), t[i].low);
		assert_int_equal(memseg_highmem(m), t[i].high);
		assert_int_equal(memseg_getnext(m, 0, &map), 0);
		assert_int_equal(map.len, t[i].low);
		if (t[i].high == 0) {
			assert_int_equal(memseg_getnext(m, 1, &map), -ENOENT);
		} else {
			assert_int_equal(memseg_getnext(m, 1, &map), 0);
			assert_int_equal(map.gpa, 4 * GB);
			assert_int_equal(map.len, t[i].high);
			assert_int_equal(map.segoff, 3 * GB);
		}
		machine_destroy(m);
	}
	/* A failure leaves nothing, and can be tried again. */
	m = make(1);
	fake_fail_insert = -ENOMEM;
	assert_int_equal(memseg_setup(m, 8 * GB, 0), -ENOMEM);
	fake_fail_insert = 0;
	assert_int_equal(fake_objects, 0);
	assert_int_equal(memseg_setup(m, MB, VMM_MEM_F_WIRED), 0);
	assert_int_equal(fake_map_flags(machine_vmspace(m), 0), 1);
	machine_destroy(m);
}

static void
reinit(void **state)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	struct machine *m = *state;
	uint64_t len, word = 0x1234;
	char name[VMM_SEGNAME_MAX + 1];

	assert_int_equal(memseg_setup(m, MB, 0), 0);
	assert_int_equal(ALLOC(m, 2, MB, "framebuffer"), 0);
	assert_int_equal(memseg_mmap(m, 2 * GB, 2, 0, MB, VMM_PROT_RW, 0), 0);
	assert_int_equal(hold_write(m, 64, &word, 8, NULL), 0);
	assert_int_equal(hold_write(m, 2 * GB, &word, 8, NULL), 0);
	assert_int_equal(machine_reinit(m), -EBUSY);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_RESET, -1), 0);
	assert_int_equal(machine_suspend(m, VMM_SUSPEND_HALT, -1), -EALREADY);
	assert_int_equal(machine_reinit(m), 0);
	assert_int_equal(machine_suspended(m), VMM_SUSPEND_NONE);
	/* sysmem's map and contents stay, devmem's map goes, its storage not */
	assert_int_equal(memseg_getnext(m, 0, &map), 0);
	assert_int_equal(memseg_getnext(m, 1, &map), -ENOENT);
	word = 0;
	assert_int_equal(hold_read(m, 64, &word, 8, NULL), 0);
	assert_int_equal(word, 0x1234);
	assert_int_equal(memseg_get(m, 2, &len, name), 0);
	assert_int_equal(len, MB);
	assert_int_equal(memseg_mmap(m, GB, 2, 0, MB, VMM_PROT_READ, 0), 0);
	word = 0;
	assert_int_equal(hold_read(m, GB, &word, 8, NULL), 0);
	assert_int_equal(word, 0x1234);
	assert_int_equal(nodes, 1);
}

static uint64_t
stat_value(struct machine *m, const char *name)
{
	struct vmm_stat st[256];
	unsigned n;

	assert_int_equal(stats_get(m, -1, st, 256, &n), 0);
	for (unsigned i = 0; i < n; i++)
		if (strcmp(st[i].name, name) == 0)
			return st[i].value;
	fail_msg("no statistic %s", name);
	return 0;
}

static void
holds(void **state)
{
	struct machine *m = *state;
	struct vmm_hold h;
	char buf[3 * 4096];
	uint64_t done;

	assert_int_equal(memseg_setup(m, 16 * 4096, 0), 0);
	assert_int_equal(hold_gpa(m, 0, 0, VMM_PROT_READ, &h), -EINVAL);
	assert_int_equal(hold_gpa(m, 4090, 7, VMM_PROT_READ, &h), -EINVAL);
	assert_int_equal(hold_gpa(m, 0, 4097, VMM_PROT_READ, &h), -EINVAL);
	assert_int_equal(hold_gpa(m, 0, 8, 0, &h), -EINVAL);
	assert_int_equal(hold_gpa(m, 0, 8, VMM_PROT_EXEC, &h), -EINVAL);
	assert_int_equal(hold_gpa(m, GB, 8, VMM_PROT_READ, &h), -EFAULT);
	fake_fail_fault = -EIO;
	assert_int_equal(hold_gpa(m, 0, 8, VMM_PROT_READ, &h), -EIO);
	fake_fail_fault = 0;
	assert_int_equal(hold_gpa(m, 4090, 6, VMM_PROT_READ, &h), 0);
	assert_int_equal(stat_value(m, "hold.now"), 1);
	unsigned before = fake_written;
	hold_release(m, &h);
	assert_int_equal(fake_written, before); /* it was for reading */
	assert_int_equal(hold_gpa(m, 0, 8, VMM_PROT_WRITE, &h), 0);
	hold_release(m, &h);
	assert_int_equal(fake_written, before + 1);
	assert_int_equal(stat_value(m, "hold.now"), 0);
	assert_int_equal(stat_value(m, "hold.fails"), 2);
	/* Copies say how far they came. */
	memset(buf, 'x', sizeof(buf));
	assert_int_equal(hold_write(m, 14 * 4096 + 1, buf, sizeof(buf),
	    &done), -EFAULT);
	assert_int_equal(done, 2 * 4096 - 1);
	memset(buf, 0, sizeof(buf));
	assert_int_equal(hold_read(m, 14 * 4096, buf, 4096, &done), 0);
	assert_int_equal(buf[0], 0);
	assert_int_equal(buf[1], 'x');
	assert_int_equal(hold_read(m, -4096ul, buf, 2 * 4096, &done),
	    -EFAULT);
	assert_int_equal(done, 0);
}

static void
create_fails(void **state)
{
	struct machine_config mc = {
		.name = "t",
		.ncpu = 4,
		.engine = &fake_engine,
	};
	struct machine *m;

	(void)state;
	for (int i = 0; i < 4; i++) {
		fake_fail_vcpu = i;
		assert_int_equal(machine_create(&mc, &m), -ENOMEM);
	}
	fake_fail_vcpu = -1;
	mc.ncpu = 0;
	assert_int_equal(machine_create(&mc, &m), -EINVAL);
	mc.ncpu = VMM_MAXCPU + 1;
	assert_int_equal(machine_create(&mc, &m), -EINVAL);
	mc.ncpu = 1;
	mc.name = "";
	assert_int_equal(machine_create(&mc, &m), -EINVAL);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(alloc_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(get_memseg, setup, teardown),
		cmocka_unit_test_setup_teardown(mmap_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(mmap_slots, setup, teardown),
		cmocka_unit_test_setup_teardown(munmap_errors, setup,
		    teardown),
		cmocka_unit_test_setup_teardown(getnext, setup, teardown),
		cmocka_unit_test_setup_teardown(setup_layout, setup, teardown),
		cmocka_unit_test_setup_teardown(reinit, setup, teardown),
		cmocka_unit_test_setup_teardown(holds, setup, teardown),
		cmocka_unit_test(create_fails),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
