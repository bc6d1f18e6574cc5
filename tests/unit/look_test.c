/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking into memory, from the machine's own handle and through a connection:
 * both see the same; ledgers agree with states of pages and with a recount;
 * clients are independent.  Guest accesses are played by walks of the tables.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libvmm/libvmm_int.h"
#include "libvmm/proto.h"
#include "vm/vm_int.h"
#include "vmm/look.h"
#include "vmm/vmm.h"

#define MB (1ul << 20)
#define MEM (3 * 1024 * MB + 64 * MB) /* some of it above 4 GB */

static char tmp[] = "/tmp/look_test.XXXXXX";
static struct vmm *own, *far;

/* As a vCPU would: walk, fault, walk. */
static void
touch(gpa_t gpa, int access)
{
	struct vmspace *vms = machine_vmspace(own->m);
	struct pmap_walk w;

	while (pmap_walk(vmspace_pmap(vms), gpa, access, &w) != 0)
		assert_int_equal(vm_fault(vms, gpa, access), 0);
}

struct got {
	uint64_t n;
	gpa_t last;
};

static int
got_block(void *arg, const struct vmm_block *b)
{
	struct got *g = arg;

	for (unsigned k = 0; k < 512; k++)
		if ((b->page[k / 64] >> (k % 64) & 1) != 0) {
			g->n++;
			g->last = b->gpa + k * VMM_PAGE_SIZE;
		}
	return 0;
}

static uint64_t
dirty(struct vmm *vmm, const char *client, gpa_t *lastp)
{
	struct got g = { 0 };
	uint64_t n;

	assert_int_equal(vmm_dirty(vmm, client, got_block, &g, &n), 0);
	assert_int_equal(g.n, n);
	if (lastp != NULL)
		*lastp = g.last;
	return n;
}

static uint64_t
used(struct vmm *vmm, const char *client)
{
	struct got g = { 0 };
	uint64_t n;

	assert_int_equal(vmm_accessed(vmm, client, got_block, &g, &n), 0);
	assert_int_equal(g.n, n);
	return n;
}

static void
clients(void **state)
{
	gpa_t high = VMM_HIGHMEM_BASE + 5 * VMM_PAGE_SIZE, last;
	char name[40];
	uint64_t n;

	(void)state;
	assert_int_equal(dirty(far, "a", NULL), 0);
	assert_int_equal(dirty(own, "b", NULL), 0);
	touch(0x1000, VMM_PROT_WRITE);
	touch(0x2000, VMM_PROT_READ);
	touch(high, VMM_PROT_WRITE);
	/* a device model's write */
	assert_int_equal(vmm_gpa_write(far, 0x5ffe, "abcd", 4, NULL), 0);
	assert_int_equal(dirty(far, "a", &last), 4);
	assert_int_equal(last, high);
	assert_int_equal(dirty(far, "a", NULL), 0);
	touch(0x1000, VMM_PROT_WRITE);
	assert_int_equal(dirty(own, "a", &last), 1);
	assert_int_equal(last, 0x1000);
	assert_int_equal(dirty(own, "b", &last), 4);
	assert_int_equal(used(far, "a"), 3);
	assert_int_equal(used(own, "b"), 3);
	assert_int_equal(used(own, "b"), 0);
	touch(0x2008, VMM_PROT_READ);
	assert_int_equal(used(own, "a"), 1);
	assert_int_equal(used(far, "b"), 1);
	/* names and places */
	assert_int_equal(vmm_dirty(far, "", NULL, NULL, &n), -EINVAL);
	assert_int_equal(vmm_dirty(far, "a b", NULL, NULL, &n), -EINVAL);
	memset(name, 'x', sizeof(name));
	name[32] = '\0';
	assert_int_equal(vmm_dirty(far, name, NULL, NULL, &n), -EINVAL);
	assert_int_equal(vmm_client_close(far, name), -ENOENT);
	name[31] = '\0';
	for (int i = 0; i < 6; i++) {
		name[0] = (char)('A' + i);
		assert_int_equal(dirty(far, name, NULL), 4);
	}
	name[0] = 'z';
	assert_int_equal(vmm_dirty(far, name, NULL, NULL, &n), -EMFILE);
	assert_int_equal(vmm_client_close(far, "a"), 0);
	assert_int_equal(vmm_client_close(far, "a"), -ENOENT);
	/* a place that was used: all that has contents, so nothing is missed */
	assert_int_equal(dirty(far, name, NULL), 5);
	assert_int_equal(vmm_client_close(own, name), 0);
}

/* 2 MB that promote: one accessed bit, and no demotion by asking for it. */
static void
large(void **state)
{
	struct vmm_page pg = { .size = sizeof(pg) };
	struct vm_stats st;
	uint16_t s[4];

	(void)state;
	assert_int_equal(used(far, "b"), 0);
	for (uint64_t i = 0; i < 512; i++)
		touch(8 * MB + i * VMM_PAGE_SIZE, VMM_PROT_WRITE);
	vmspace_stats(machine_vmspace(own->m), &st);
	assert_int_equal(st.superpages, 1);
	assert_int_equal(used(far, "b"), 512);
	assert_int_equal(used(far, "b"), 0);
	assert_int_equal(vmm_page_states(far, 8 * MB - 0x1000, 4, s), 0);
	assert_int_equal(s[0], VMM_PG_MAP);
	assert_int_equal(s[1], VMM_PG_MAP | VMM_PG_RESIDENT | VMM_PG_ENTERED |
	    VMM_PG_LARGE | VMM_PG_DIRTY | VMM_PG_ACTIVE);
	touch(8 * MB, VMM_PROT_READ);
	assert_int_equal(used(own, "b"), 512);
	vmspace_stats(machine_vmspace(own->m), &st);
	assert_int_equal(st.superpages, 1);
	assert_int_equal(st.demotions, 0);
	/* what was written is told by 4 KB, so this one does */
	assert_int_equal(dirty(own, "b", NULL), 512);
	vmspace_stats(machine_vmspace(own->m), &st);
	assert_int_equal(st.demotions, 1);
	touch(8 * MB, VMM_PROT_WRITE);
	assert_int_equal(dirty(far, "b", NULL), 1);
	assert_int_equal(vmm_get_page(far, 8 * MB + 0x1234, &pg), 0);
	assert_int_equal(pg.gpa, 8 * MB + 0x1000);
	assert_int_equal(pg.npte, 4);
	assert_int_equal(pg.segid, VMM_SYSMEM);
	assert_int_equal(pg.offset, pg.gpa);
	assert_int_equal(pg.leaf, 4096);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(pg.pte[i].level, 4 - i);
		assert_int_equal(pg.pte[i].leaf, i == 3);
	}
	assert_int_equal(pg.pte[3].hpa, pg.hpa);
	assert_int_equal(pg.pte[3].prot, VMM_PROT_ALL);
	assert_int_equal(vmm_get_page(far, VMM_LOWMEM_LIMIT, &pg), 0);
	assert_int_equal(pg.segid, -1);
	assert_int_equal(pg.state, 0);
	pg.size--;
	assert_int_equal(vmm_get_page(far, 0, &pg), -EINVAL);
	assert_int_equal(vmm_page_states(far, 1, 1, s), -EINVAL);
	assert_int_equal(vmm_page_states(far, ~VMM_PAGE_MASK, 2, s), -EINVAL);
}

static void
ledgers(void **state)
{
	struct vmm_ledger l = { .size = sizeof(l) }, lo = l, hi = l, all = l;
	const uint64_t n = 3 * 1024 * MB / VMM_PAGE_SIZE;
	uint16_t *s = malloc(n * sizeof(*s));
	uint64_t resident = 0, entered = 0;
	struct vmm_count c[64];
	unsigned nc, wrong = 0;
	struct vmm_hold h;

	(void)state;
	assert_int_equal(vmm_gpa_hold(own, 0x9000, 8, VMM_PROT_READ, &h), 0);
	assert_int_equal(vmm_get_ledger(far, VMM_SYSMEM, &l), 0);
	assert_int_equal(vmm_get_ledger(own, -1, &all), 0);
	assert_int_equal(vmm_get_map_ledger(far, 0, &lo), 0);
	assert_int_equal(vmm_get_map_ledger(own, VMM_HIGHMEM_BASE, &hi), 0);
	assert_int_equal(vmm_get_map_ledger(own, 0x1000, &hi), -ENOENT);
	assert_int_equal(vmm_get_ledger(far, VMM_MAXSEGS, &l), -EINVAL);
	assert_int_equal(vmm_get_ledger(far, -2, &l), -EINVAL);
	assert_int_equal(l.pages, MEM / VMM_PAGE_SIZE);
	assert_int_equal(all.resident, l.resident);
	assert_int_equal(lo.resident + hi.resident, l.resident);
	assert_int_equal(lo.entered + hi.entered, l.entered);
	assert_int_equal(l.held, 1);
	assert_int_equal(l.wired, 1);
	assert_int_equal(lo.wired, 1);
	assert_int_equal(hi.resident, 1);
	assert_non_null(s);
	assert_int_equal(vmm_page_states(far, 0, n, s), 0);
	for (uint64_t i = 0; i < n; i++) {
		resident += (s[i] & VMM_PG_RESIDENT) != 0;
		entered += (s[i] & VMM_PG_ENTERED) != 0;
	}
	free(s);
	assert_int_equal(resident, lo.resident);
	assert_int_equal(entered, lo.entered);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(vmm_recount(i == 0 ? far : own, c, 64, &nc), 0);
		assert_true(nc > 8 && nc <= 64);
		for (unsigned k = 0; k < nc; k++)
			if (c[k].counted != c[k].found)
				fail_msg("%s: counted %lu, found %lu", c[k].name,
				    c[k].counted, c[k].found);
	}
	/* a wrong count is found, and named */
	machine_vmspace(own->m)->entries->obj->nzero += 3;
	assert_int_equal(vmm_recount(far, c, 64, &nc), 0);
	for (unsigned k = 0; k < nc; k++) {
		bool zero = strcmp(c[k].name, "sysmem.zero") == 0;

		assert_int_equal(c[k].counted - c[k].found, zero ? 3 : 0);
		wrong += zero;
	}
	assert_int_equal(wrong, 1);
	machine_vmspace(own->m)->entries->obj->nzero -= 3;
	vmm_gpa_release(own, &h);
	assert_int_equal(vmm_get_ledger(far, -1, &all), 0);
	assert_int_equal(all.held + all.wired, 0);
}

static int
stop(void *arg, const struct vmm_block *b)
{
	(void)b;
	++*(unsigned *)arg;
	return 7;
}

/* More blocks than one message holds; stopping early; a stale take. */
static void
many(void **state)
{
	struct proto_take one, two;
	struct vmm_block b;
	unsigned calls = 0;
	uint64_t n;

	(void)state;
	(void)dirty(far, "b", NULL);
	for (gpa_t g = 0; g < 3 * 1024 * MB; g += 2 * MB)
		touch(g, VMM_PROT_WRITE);
	assert_int_equal(dirty(far, "b", NULL), 1536);
	touch(0, VMM_PROT_WRITE);
	assert_int_equal(vmm_dirty(far, "b", stop, &calls, &n), 7);
	assert_int_equal(calls, 1);
	assert_int_equal(look_take(own, LOOK_DIRTY, "b", 1, &one), 0);
	assert_int_equal(look_blocks(own, &one, 0, &b, 1), 0);
	touch(0, VMM_PROT_WRITE);
	assert_int_equal(look_take(own, LOOK_DIRTY, "b", 1, &two), 0);
	assert_int_equal(look_blocks(own, &one, 0, &b, 1), -ESTALE);
	assert_int_equal(look_blocks(own, &two, 0, &b, 1), 1);
	assert_int_equal(b.page[0], 1);
	assert_int_equal(look_blocks(own, &two, ~0ul, &b, 1), 0);
	two.slot = LOOK_MAXCLIENTS;
	assert_int_equal(look_blocks(own, &two, 0, &b, 1), -EINVAL);
}

static int
setup(void **state)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1 };

	(void)state;
	if (mkdtemp(tmp) == NULL || setenv("VMM_DIR", tmp, 1) != 0)
		return -1;
	return vmm_create("look", &cfg, &own) != 0 ||
	    vmm_setup_memory(own, MEM, 0) != 0 || vmm_open("look", &far) != 0;
}

static int
teardown(void **state)
{
	(void)state;
	vmm_close(far);
	vmm_close(own);
	return rmdir(tmp);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clients),
		cmocka_unit_test(large),
		cmocka_unit_test(ledgers),
		cmocka_unit_test(many),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
