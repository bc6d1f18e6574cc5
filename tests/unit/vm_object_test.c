/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects of every kind: where their pages come from and go to, what happens
 * when a file shrinks, and that nothing is left when all is given back in any
 * order.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/host.h"
#include "vm/vm.h"

#define PAGE 4096ul
#define NPAGE 40u

static unsigned lost;
static gpa_t lost_gpa;

static void
event(void *arg, enum vm_event ev, gpa_t gpa, int error)
{
	(void)arg;
	if (ev == VM_EVENT_LOST && error == -EIO) {
		lost++;
		lost_gpa = gpa;
	}
}

static struct vmspace *
space(enum pmap_type type)
{
	struct vmspace_config cfg = { .type = type,
		.pmap_flags = PMAP_F_2M | PMAP_F_1G, .event = event };
	struct vmspace *vms;

	assert_int_equal(vmspace_create(&cfg, &vms), 0);
	return vms;
}

/* A file whose page i begins with i + 1, of len bytes. */
static int
file(size_t len)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)len), 0);
	for (uint64_t o = 0; o + 8 <= len; o += PAGE) {
		uint64_t v = o / PAGE + 1;

		assert_int_equal(pwrite(fd, &v, 8, (off_t)o), 8);
	}
	return fd;
}

static uint64_t *
at(struct vmspace *vms, gpa_t gpa, int access)
{
	struct pmap_walk w;

	assert_int_equal(vm_fault(vms, gpa, access), 0);
	assert_int_equal(pmap_walk(vmspace_pmap(vms), gpa, access, &w), 0);
	return PHYS_TO_DMAP(w.hpa);
}

static void
test_file_ro(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	int fd = file(NPAGE * PAGE - 100);
	struct vm_object *obj;
	struct vm_stats st;
	struct vm_hold h;
	int p[2];

	(void)state;
	assert_int_equal(vm_object_create_file(fd, 0, (NPAGE + 1) * PAGE, VM_FILE_RO,
	    &obj), -EINVAL);
	assert_int_equal(vm_object_create_file(fd, 1, PAGE, VM_FILE_RO, &obj), -EINVAL);
	assert_int_equal(vm_object_create_file(fd, 0, 0, VM_FILE_RO, &obj), -EINVAL);
	assert_int_equal(vm_object_create_file(fd, 0, PAGE, 7, &obj), -EINVAL);
	assert_int_equal(vm_object_create_file(-1, 0, PAGE, VM_FILE_RO, &obj), -EBADF);
	assert_int_equal(pipe(p), 0);
	assert_int_equal(vm_object_create_file(p[0], 0, PAGE, VM_FILE_RO, &obj),
	    -EINVAL);
	close(p[0]);
	close(p[1]);
	assert_int_equal(vm_object_create_file(fd, PAGE, (NPAGE - 1) * PAGE,
	    VM_FILE_RO, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, PAGE, obj, 0, VMM_PROT_RW, 0), -EACCES);
	assert_int_equal(vm_map_insert(vms, 0, (NPAGE - 1) * PAGE, obj, 0,
	    VMM_PROT_READ | VMM_PROT_EXEC, 0), 0);
	for (unsigned i = 0; i < NPAGE - 1; i++)
		assert_int_equal(*at(vms, i * PAGE, VMM_PROT_READ), i + 2);
	/* beyond the end of the file: zeros */
	assert_int_equal(at(vms, (NPAGE - 2) * PAGE, VMM_PROT_READ)[511], 0);
	assert_int_equal(vm_fault(vms, PAGE, VMM_PROT_WRITE), -EFAULT);
	assert_int_equal(vm_hold(vms, PAGE, 8, VMM_PROT_WRITE, &h), -EFAULT);
	vm_check(vms);
	/* read ahead, so fewer faults than pages */
	vmspace_stats(vms, &st);
	assert_in_range(st.faults_file, 2, NPAGE / 4);
	assert_int_equal(st.resident, NPAGE - 1);
	/* pages leave without swap (there is none), and come back */
	assert_int_equal(vmspace_reclaim(vms, NPAGE * PAGE), (NPAGE - 1) * PAGE);
	vm_check(vms);
	vmspace_stats(vms, &st);
	assert_int_equal(st.resident + st.swapped + st.zero, 0);
	assert_int_equal(*at(vms, 5 * PAGE, VMM_PROT_READ), 7);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	close(fd);
}

static void
test_file_private(void **state)
{
	struct vmspace *vms = space(PMAP_PT_X86);
	int fd = file(NPAGE * PAGE);
	struct vm_object *obj;
	uint64_t v;

	(void)state;
	assert_int_equal(vm_swap_init("/tmp", 1 << 20), 0);
	assert_int_equal(vm_object_create_file(fd, 0, NPAGE * PAGE, VM_FILE_PRIVATE,
	    &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, NPAGE * PAGE, obj, 0, VMM_PROT_RW, 0), 0);
	assert_int_equal(*at(vms, 3 * PAGE, VMM_PROT_READ), 4);
	*at(vms, 3 * PAGE, VMM_PROT_WRITE) = 333;
	*at(vms, 4 * PAGE, VMM_PROT_WRITE) = 0; /* all zeros now */
	*at(vms, 5 * PAGE, VMM_PROT_WRITE) = 555;
	/* what is discarded is zeros, not the file's page again */
	assert_int_equal(vm_map_discard(vms, 6 * PAGE, PAGE), 0);
	assert_int_equal(*at(vms, 6 * PAGE, VMM_PROT_READ), 0);
	vmspace_reclaim(vms, NPAGE * PAGE);
	vm_check(vms);
	assert_int_equal(vm_object_resident(obj), 0);
	assert_int_equal(vm_swap_used(), 2);
	for (unsigned i = 0; i < NPAGE; i++)
		assert_int_equal(*at(vms, i * PAGE, VMM_PROT_READ),
		    i == 3 ? 333 : i == 5 ? 555 : i == 4 || i == 6 ? 0 : i + 1);
	/* not in the file */
	assert_int_equal(pread(fd, &v, 8, 3 * PAGE), 8);
	assert_int_equal(v, 4);
	vm_check(vms);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	assert_int_equal(vm_swap_used(), 0);
	vm_swap_fini();
	close(fd);
}

static void
test_file_truncated(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	int fd = file(NPAGE * PAGE);
	struct vm_object *obj;

	(void)state;
	assert_int_equal(vm_object_create_file(fd, 0, NPAGE * PAGE, VM_FILE_PRIVATE,
	    &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, NPAGE * PAGE, obj, 0, VMM_PROT_RW, 0), 0);
	assert_int_equal(*at(vms, 0, VMM_PROT_READ), 1);
	assert_int_equal(ftruncate(fd, 30 * PAGE + 8), 0);
	lost = 0;
	/* read-ahead meets the end, the page itself does not */
	assert_int_equal(*at(vms, 25 * PAGE, VMM_PROT_READ), 26);
	assert_int_equal(lost, 0);
	/* not half of it and zeros, either */
	assert_int_equal(vm_fault(vms, 30 * PAGE, VMM_PROT_READ), -EIO);
	assert_int_equal(vm_fault(vms, 39 * PAGE, VMM_PROT_WRITE), -EIO);
	assert_int_equal(lost, 2);
	assert_int_equal(lost_gpa, 39 * PAGE);
	vm_check(vms);
	/* wiring what is not there fails, too, and leaves nothing */
	assert_int_equal(vm_map_insert(vms, 1ul << 30, NPAGE * PAGE, obj, 0,
	    VMM_PROT_READ, VM_MAP_F_WIRED), -EIO);
	vm_check(vms);
	assert_int_equal(ftruncate(fd, NPAGE * PAGE), 0);
	assert_int_equal(*at(vms, 39 * PAGE, VMM_PROT_READ), 0);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	close(fd);
}

static void
test_sg(void **state)
{
	static const struct {
		enum pmap_type type;
		uint64_t mask, uc, wb;
	} formats[] = {
		{ PMAP_PT_EPT, 0x78, 0x40, 0x70 },
		{ PMAP_PT_X86, 0x18, 0x18, 0 },
	};
	int a = file(8 * PAGE), b = file(4 * PAGE);
	uint64_t *shared = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t *priv = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vm_sg sg[] = {
		{ .fd = a, .off = 2 * PAGE, .len = 3 * PAGE },
		{ .fd = -1, .ptr = shared, .len = 2 * PAGE },
		{ .fd = b, .off = 0, .len = 4 * PAGE },
	};
	struct vm_sg bad[] = { { .fd = a, .off = 7 * PAGE, .len = 2 * PAGE } };
	struct vm_object *obj, *sh;
	uint64_t pte[4], v;

	(void)state;
	assert_int_equal(vm_object_create_sg(bad, 1, false, &obj), -EINVAL);
	bad[0].len = 12;
	assert_int_equal(vm_object_create_sg(bad, 1, false, &obj), -EINVAL);
	bad[0] = (struct vm_sg){ .fd = -1, .ptr = priv, .len = PAGE };
	assert_int_equal(vm_object_create_sg(bad, 1, false, &obj), -EINVAL);
	assert_int_equal(vm_object_create_sg(bad, 0, false, &obj), -EINVAL);
	bad[0] = (struct vm_sg){ .fd = 9999, .len = PAGE };
	assert_int_equal(vm_object_create_sg(bad, 1, false, &obj), -EBADF);
	for (unsigned f = 0; f < 2; f++)
		for (int uc = 0; uc < 2; uc++) {
			struct vmspace *vms = space(formats[f].type);
			unsigned n;

			shared[0] = 77;
			assert_int_equal(vm_object_create_sg(sg, 3, uc, &obj), 0);
			assert_int_equal(vm_object_create_shadow(obj, 0, PAGE, &sh),
			    -EINVAL);
			assert_int_equal(vm_map_insert(vms, 0, 9 * PAGE, obj, 0,
			    VMM_PROT_RW, 0), 0);
			assert_int_equal(*at(vms, 0, VMM_PROT_READ), 3);
			assert_int_equal(*at(vms, 3 * PAGE, VMM_PROT_READ), 77);
			assert_int_equal(*at(vms, 7 * PAGE, VMM_PROT_READ), 3);
			*at(vms, 4 * PAGE, VMM_PROT_WRITE) = 4444;
			*at(vms, 2 * PAGE, VMM_PROT_WRITE) = 2222 + f;
			assert_int_equal(shared[512], 4444);
			assert_int_equal(pread(a, &v, 8, 4 * PAGE), 8);
			assert_int_equal(v, 2222 + f);
			n = pmap_entries(vmspace_pmap(vms), 0, pte);
			assert_int_equal(pte[n - 1] & formats[f].mask,
			    uc ? formats[f].uc : formats[f].wb);
			/* nothing takes them away */
			assert_int_equal(vmspace_reclaim(vms, 9 * PAGE), 0);
			assert_int_equal(vm_map_discard(vms, 0, PAGE), -EFAULT);
			vm_check(vms);
			vm_object_rele(obj);
			vmspace_destroy(vms);
		}
	close(a);
	close(b);
	munmap(shared, 2 * PAGE);
	munmap(priv, PAGE);
}

/* A piece that may only be read makes all of it so. */
static void
test_sg_readonly(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	struct vm_object *obj;
	char name[] = "/tmp/sgXXXXXX";
	int rw = mkstemp(name), ro;

	(void)state;
	assert_int_equal(ftruncate(rw, PAGE), 0);
	ro = open(name, O_RDONLY | O_CLOEXEC);
	unlink(name);
	assert_int_equal(vm_object_create_sg(&(struct vm_sg){ .fd = ro, .len = PAGE }, 1,
	    false, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, PAGE, obj, 0, VMM_PROT_RW, 0), -EACCES);
	assert_int_equal(vm_map_insert(vms, 0, PAGE, obj, 0, VMM_PROT_READ, 0), 0);
	assert_int_equal(pwrite(rw, "abc", 3, 0), 3);
	assert_memory_equal(at(vms, 0, VMM_PROT_READ), "abc", 3);
	assert_int_equal(vm_fault(vms, 0, VMM_PROT_WRITE), -EFAULT);
	vm_object_rele(obj);
	vmspace_destroy(vms);
	close(ro);
	close(rw);
}

/* A wired map has its memory from the start, and keeps it. */
static void
test_wired(void **state)
{
	struct vmspace *vms = space(PMAP_PT_EPT);
	unsigned char vec[NPAGE];
	struct vm_object *obj;
	struct vm_stats st;
	hpa_t hpa;

	(void)state;
	assert_int_equal(vm_object_create_anon(NPAGE * PAGE, &obj), 0);
	assert_int_equal(vm_map_insert(vms, 0, NPAGE * PAGE, obj, 0, VMM_PROT_RW,
	    VM_MAP_F_WIRED), 0);
	assert_true(pmap_extract(vmspace_pmap(vms), 0, &hpa, NULL));
	assert_int_equal(mincore(PHYS_TO_DMAP(hpa), NPAGE * PAGE, vec), 0);
	for (unsigned i = 0; i < NPAGE; i++)
		assert_true(vec[i] & 1);
	*at(vms, PAGE, VMM_PROT_WRITE) = 5;
	assert_int_equal(vmspace_reclaim(vms, NPAGE * PAGE), 0);
	assert_int_equal(vm_map_discard(vms, 0, NPAGE * PAGE), 0);
	assert_int_equal(*at(vms, PAGE, VMM_PROT_READ), 5);
	vmspace_stats(vms, &st);
	assert_int_equal(st.wired, NPAGE);
	assert_int_equal(vm_map_remove(vms, 0, NPAGE * PAGE), 0);
	vmspace_stats(vms, &st);
	assert_int_equal(st.wired, 0);
	vm_object_rele(obj);
	vmspace_destroy(vms);
}

/* --- lives in any order --------------------------------------------------- */

#define NSPACE 3u
#define NOBJ 24u
#define NMAP 12u

struct order {
	struct vmspace *vms[NSPACE];
	struct vm_object *obj[NOBJ];
	struct vm_hold hold[NSPACE];
	bool held[NSPACE];
	unsigned nobj;
	int fd;
};

static void
order_add(struct order *o, struct vm_object *obj)
{
	o->obj[o->nobj++] = obj;
}

static void
order_make(struct order *o)
{
	struct vm_sg sg = { .fd = o->fd, .off = 0, .len = NPAGE * PAGE };
	struct vm_object *obj;

	o->nobj = 0;
	for (unsigned i = 0; i < NSPACE; i++)
		o->vms[i] = space(rand() % 2 != 0 ? PMAP_PT_EPT : PMAP_PT_X86);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vm_object_create_anon(NPAGE * PAGE, &obj), 0);
		order_add(o, obj);
		assert_int_equal(vm_object_create_file(o->fd, 0, NPAGE * PAGE,
		    i == 0 ? VM_FILE_RO : VM_FILE_PRIVATE, &obj), 0);
		order_add(o, obj);
	}
	/* shadows, of shadows, of files */
	while (o->nobj < NOBJ - 2) {
		struct vm_object *b = o->obj[(unsigned)rand() % o->nobj];

		if (vm_object_create_shadow(b, 0, NPAGE * PAGE, &obj) == 0)
			order_add(o, obj);
	}
	assert_int_equal(vm_object_create_dev(o->fd, NPAGE * PAGE, &obj), 0);
	order_add(o, obj);
	assert_int_equal(vm_object_create_sg(&sg, 1, true, &obj), 0);
	order_add(o, obj);
}

static void
order_use(struct order *o)
{
	for (unsigned s = 0; s < NSPACE; s++) {
		for (unsigned i = 0; i < NMAP; i++)
			assert_int_equal(vm_map_insert(o->vms[s], (gpa_t)i << 21,
			    NPAGE * PAGE, o->obj[(unsigned)rand() % o->nobj], 0,
			    VMM_PROT_READ, 0), 0);
		for (unsigned i = 0; i < 100; i++)
			assert_int_equal(vm_fault(o->vms[s],
			    ((gpa_t)rand() % NMAP << 21) + (gpa_t)rand() % NPAGE * PAGE,
			    VMM_PROT_READ), 0);
		assert_int_equal(vm_map_insert(o->vms[s], 1ul << 30, NPAGE * PAGE,
		    o->obj[4 + (unsigned)rand() % (NOBJ - 6)], 0, VMM_PROT_RW, 0), 0);
		for (unsigned i = 0; i < 20; i++)
			*at(o->vms[s], (1ul << 30) + (gpa_t)rand() % NPAGE * PAGE,
			    VMM_PROT_WRITE) = 1;
		o->held[s] = true;
		assert_int_equal(vm_hold(o->vms[s], 1ul << 30, 8, VMM_PROT_RW,
		    &o->hold[s]), 0);
		vmspace_reclaim(o->vms[s], (uint64_t)rand() % (200 * PAGE));
		vm_check(o->vms[s]);
	}
}

/* Objects, maps, holds and spaces go as chance wants it. */
static void
order_unmake(struct order *o)
{
	unsigned left = o->nobj + NSPACE;

	while (left > 0) {
		unsigned k = (unsigned)rand() % (o->nobj + NSPACE);

		if (k < o->nobj && o->obj[k] != NULL) {
			vm_object_rele(o->obj[k]);
			o->obj[k] = NULL;
			left--;
		} else if (k >= o->nobj && o->vms[k - o->nobj] != NULL) {
			unsigned s = k - o->nobj;

			int error = vm_map_remove(o->vms[s],
			    (gpa_t)rand() % NMAP << 21, NPAGE * PAGE);

			assert_true(error == 0 || error == -EINVAL);
			vm_check(o->vms[s]);
			if (o->held[s]) {
				vm_release(o->vms[s], &o->hold[s]);
				o->held[s] = false;
			} else if (rand() % 4 == 0) {
				vmspace_destroy(o->vms[s]);
				o->vms[s] = NULL;
				left--;
			}
		}
	}
}

static void
test_any_order(void **state)
{
	struct order o = { .fd = file(NPAGE * PAGE) };
	struct vm_live before, after;

	(void)state;
	srand(7);
	assert_int_equal(vm_swap_init("/tmp", 8 << 20), 0);
	vm_live_get(&before);
	for (unsigned i = 0; i < 60; i++) {
		order_make(&o);
		order_use(&o);
		order_unmake(&o);
		vm_live_get(&after);
		assert_memory_equal(&before, &after, sizeof(before));
		assert_int_equal(vm_swap_used(), 0);
	}
	assert_int_equal(before.objects + before.chunks + before.spaces +
	    before.families + before.entries + before.dmap, 0);
	vm_swap_fini();
	close(o.fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_file_ro),
		cmocka_unit_test(test_file_private),
		cmocka_unit_test(test_file_truncated),
		cmocka_unit_test(test_sg),
		cmocka_unit_test(test_sg_readonly),
		cmocka_unit_test(test_wired),
		cmocka_unit_test(test_any_order),
	};

	if (vm_init() != 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
