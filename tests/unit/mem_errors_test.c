/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every documented error of the memory interface, provoked: libvmm's as
 * vmm-memory(7) lists them (tests/style/memerrors.sh compares that list with
 * this file), and vm's as vm.h does.  One row for each: the function, why, the
 * error, the call.  After a call that failed, nothing has changed: the maps, the
 * resident pages and the wired ones are counted before and after.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmm/vmm.h>

#include "base/host.h"
#include "libvmm/libvmm_int.h"
#include "vm/vm.h"
#include "vmm/iommu.h"
#include "vmm/machine.h"

#define PAGE 4096ul
#define MB (1ul << 20)
#define GB (1ul << 30)
#define RW VMM_PROT_RW

static unsigned rows, bad;

static void
row(const char *fn, const char *why, int want, int got)
{
	rows++;
	if (got == want)
		return;
	bad++;
	printf("%s: %s: %d (%s), not %d\n", fn, why, got, strerror(-got), want);
}

#define R(fn, why, want, call) row(#fn, why, -(want), fn call)
#define OK(call)                                                           \
	do {                                                               \
		int e_ = (call);                                           \
		if (e_ != 0) {                                             \
			printf("%d: %s: %d (%s)\n", __LINE__, #call, e_,   \
			    vmm_errmsg(NULL));                             \
			exit(1);                                           \
		}                                                          \
	} while (0)

/* --- a host that says no --------------------------------------------------- */

static bool no_memory, no_dmap, no_read;
void *__real_host_alloc(size_t size);
void *__wrap_host_alloc(size_t size);
int __real_host_dmap_alloc(uint64_t len, uint64_t *hpap);
int __wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap);
int __real_host_swap_read(int s, void *p, unsigned n, uint64_t off);
int __wrap_host_swap_read(int s, void *p, unsigned n, uint64_t off);

void *
__wrap_host_alloc(size_t size)
{
	return no_memory ? NULL : __real_host_alloc(size);
}

int
__wrap_host_dmap_alloc(uint64_t len, uint64_t *hpap)
{
	return no_dmap ? -ENOMEM : __real_host_dmap_alloc(len, hpap);
}

int
__wrap_host_swap_read(int s, void *p, unsigned n, uint64_t off)
{
	return no_read ? -EIO : __real_host_swap_read(s, p, n, off);
}

/* A row under a host that says no. */
#define NO(what, fn, why, want, call)                                      \
	do {                                                               \
		what = true;                                               \
		R(fn, why, want, call);                                    \
		what = false;                                              \
	} while (0)

/* --- nothing changes ------------------------------------------------------- */

struct state {
	unsigned nmaps, nsegs;
	uint64_t resident, wired, held, swapped;
};

static struct state
look(struct vmm *vmm)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	char name[VMM_SEGNAME_MAX + 1];
	struct state s = { 0 };
	struct vm_stats st;
	uint64_t len;

	for (gpa_t g = 0; vmm_mmap_getnext(vmm, g, &map) == 0; g = map.gpa + 1)
		s.nmaps++;
	for (int i = 0; vmm_get_memseg(vmm, i, &len, name) == 0; i++)
		s.nsegs += len != 0;
	vmspace_stats(machine_vmspace(vmm->m), &st);
	s.resident = st.resident;
	s.wired = st.wired;
	s.held = st.held;
	s.swapped = st.swapped;
	vm_check(machine_vmspace(vmm->m));
	return s;
}

static void
same(struct vmm *vmm, const struct state *before, const char *what)
{
	struct state now = look(vmm);

	if (memcmp(&now, before, sizeof(now)) == 0)
		return;
	printf("%s: a call that failed changed something\n", what);
	bad++;
}

/* --- libvmm ----------------------------------------------------------------- */

static void
setup_rows(struct vmm *vmm)
{
	struct state s = look(vmm);

	R(vmm_setup_memory, "no size", EINVAL, (vmm, 0, 0));
	R(vmm_setup_memory, "no whole pages", EINVAL, (vmm, PAGE + 1, 0));
	R(vmm_setup_memory, "beyond the address space", EINVAL, (vmm, 1ul << 46, 0));
	R(vmm_setup_memory, "unknown flag", EINVAL, (vmm, MB, 0x80));
	NO(no_memory, vmm_setup_memory, "no bookkeeping", ENOMEM, (vmm, 4 * GB, 0));
	NO(no_dmap, vmm_setup_memory, "no address space", ENOMEM, (vmm, 4 * GB, 0));
	NO(no_dmap, vmm_setup_memory, "cannot be wired", ENOMEM,
	    (vmm, MB, VMM_MEM_F_WIRED));
	same(vmm, &s, "setup");
	OK(vmm_setup_memory(vmm, 8 * MB, 0));
	R(vmm_setup_memory, "again", EEXIST, (vmm, 8 * MB, 0));
}

static void
seg_rows(struct vmm *vmm, struct vmm *plain)
{
	char name[VMM_SEGNAME_MAX + 1];
	struct state s = look(vmm);
	uint64_t n;

	R(vmm_alloc_memseg, "name too long, before all else", ENAMETOOLONG,
	    (vmm, -1, 1, "0123456789abcdef"));
	R(vmm_alloc_memseg, "no such id, before the length", EINVAL, (vmm, -1, 1, ""));
	R(vmm_alloc_memseg, "no such id", EINVAL, (vmm, VMM_MAXSEGS, MB, ""));
	R(vmm_alloc_memseg, "length 0", EINVAL, (vmm, 1, 0, ""));
	R(vmm_alloc_memseg, "no whole pages", EINVAL, (vmm, 1, PAGE + 1, ""));
	R(vmm_alloc_memseg, "length before in use", EINVAL, (vmm, 0, 1, ""));
	R(vmm_alloc_memseg, "the same", EEXIST, (vmm, 0, 8 * MB, ""));
	R(vmm_alloc_memseg, "another length", EINVAL, (vmm, 0, MB, ""));
	R(vmm_alloc_memseg, "another kind", EINVAL, (vmm, 0, 8 * MB, "rom"));
	R(vmm_alloc_memseg, "longer than the direct map", EINVAL, (vmm, 1, 1ul << 44, ""));
	NO(no_memory, vmm_alloc_memseg, "no bookkeeping", ENOMEM, (vmm, 1, MB, ""));
	NO(no_dmap, vmm_alloc_memseg, "no address space", ENOMEM, (vmm, 1, MB, ""));
	R(vmm_alloc_memseg, "node with a slash", EINVAL, (vmm, 1, MB, "a/b"));
	R(vmm_alloc_memseg, "node with a leading dot", EINVAL, (vmm, 1, MB, ".a"));
	R(vmm_alloc_memseg, "node of that name", EEXIST, (vmm, 1, MB, "fb"));
	R(vmm_alloc_memseg, "no directory", ENOTSUP, (plain, 1, MB, "fb"));
	R(vmm_create_devmem, "no name", EINVAL, (vmm, 1, "", MB, 0600));
	R(vmm_create_devmem, "mode", EINVAL, (vmm, 1, "x", MB, 0700));
	R(vmm_create_devmem, "name too long", ENAMETOOLONG,
	    (vmm, 1, "0123456789abcdef", MB, 0600));
	R(vmm_create_devmem, "another name", EINVAL, (vmm, 2, "x", MB, 0600));
	R(vmm_create_devmem, "node of that name", EEXIST, (vmm, 3, "fb", MB, 0600));
	R(vmm_get_memseg, "no such id", EINVAL, (vmm, -1, &n, name));
	R(vmm_get_memseg, "no such id", EINVAL, (vmm, VMM_MAXSEGS, &n, name));
	R(vmm_memseg_resident, "no such id", EINVAL, (vmm, VMM_MAXSEGS, &n));
	R(vmm_open_devmem, "no such node", ENOENT, (vmm, "rom", O_RDWR));
	R(vmm_open_devmem, "no node", EINVAL, (vmm, "../x", O_RDWR));
	same(vmm, &s, "segments");
}

static void
map_rows(struct vmm *vmm)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	struct state s;

	R(vmm_mmap_memseg, "no protection", EINVAL, (vmm, 0, 9, 0, MB, 0, 0));
	R(vmm_mmap_memseg, "unknown protection", EINVAL, (vmm, 0, 0, 0, MB, 8, 0));
	R(vmm_mmap_memseg, "the core's flag", EINVAL,
	    (vmm, GB, 0, 0, MB, RW, VMM_MAP_F_IOMMU));
	R(vmm_mmap_memseg, "no such id", EINVAL, (vmm, GB, -1, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "not allocated", EINVAL, (vmm, GB, 1, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "empty", EINVAL, (vmm, GB, 0, 0, 0, RW, 0));
	R(vmm_mmap_memseg, "overflow", EINVAL, (vmm, GB, 0, PAGE, -PAGE, RW, 0));
	R(vmm_mmap_memseg, "negative offset", EINVAL,
	    (vmm, GB, 0, 1ul << 63, PAGE, RW, 0));
	R(vmm_mmap_memseg, "beyond the segment", EINVAL,
	    (vmm, GB, 0, PAGE, 8 * MB, RW, 0));
	R(vmm_mmap_memseg, "address", EINVAL, (vmm, GB + 1, 0, 0, PAGE, RW, 0));
	R(vmm_mmap_memseg, "offset", EINVAL, (vmm, GB, 0, 1, PAGE, RW, 0));
	R(vmm_mmap_memseg, "end", EINVAL, (vmm, GB, 0, 0, PAGE - 1, RW, 0));
	R(vmm_mmap_memseg, "overlap", EFAULT, (vmm, 2 * MB, 0, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "beyond the space", EFAULT,
	    (vmm, 1ul << 47, 0, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "around the end", EFAULT, (vmm, -MB, 0, 0, MB, RW, 0));
	s = look(vmm);
	NO(no_memory, vmm_mmap_memseg, "no bookkeeping", ENOMEM,
	    (vmm, GB, 0, 0, MB, RW, 0));
	NO(no_memory, vmm_mmap_memseg, "cannot be wired", ENOMEM,
	    (vmm, GB, 0, 0, MB, RW, VMM_MAP_F_WIRED));
	same(vmm, &s, "maps");
	R(vmm_munmap_memseg, "no map", EINVAL, (vmm, 0, 0));
	R(vmm_munmap_memseg, "another length", EINVAL, (vmm, 0, MB));
	R(vmm_munmap_memseg, "another address", EINVAL, (vmm, MB, 7 * MB));
	R(vmm_mmap_getnext, "none after it", ENOENT, (vmm, GB, &map));
	map.size--;
	R(vmm_mmap_getnext, "record", EINVAL, (vmm, 0, &map));
	same(vmm, &s, "maps");
	for (unsigned i = 1; i < VMM_MAXMAPS; i++)
		OK(vmm_mmap_memseg(vmm, i * GB, 0, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "one too many", ENOSPC, (vmm, 64 * GB, 0, 0, MB, RW, 0));
	R(vmm_mmap_memseg, "slots before overlap", ENOSPC, (vmm, 0, 0, 0, MB, RW, 0));
	for (unsigned i = 1; i < VMM_MAXMAPS; i++)
		OK(vmm_munmap_memseg(vmm, i * GB, MB));
	same(vmm, &s, "maps");
}

static void
hold_rows(struct vmm *vmm)
{
	struct vmm_hold h;
	uint64_t v = 0, done = 9;
	struct state s;

	OK(vmm_gpa_write(vmm, 0, &v, 8, NULL));
	/* what comes before the hole is brought in */
	R(vmm_gpa_read, "no map", EFAULT, (vmm, 8 * MB - 4, &v, 8, &done));
	if (done != 4) {
		printf("vmm_gpa_read: %lu bytes before the hole\n", done);
		bad++;
	}
	OK(vmm_mmap_memseg(vmm, GB, 0, MB, MB, VMM_PROT_READ, 0));
	s = look(vmm);
	R(vmm_gpa_hold, "length 0", EINVAL, (vmm, 0, 0, RW, &h));
	R(vmm_gpa_hold, "crosses a page", EINVAL, (vmm, PAGE - 4, 8, RW, &h));
	R(vmm_gpa_hold, "overflow", EINVAL, (vmm, 0, -1ul, RW, &h));
	R(vmm_gpa_hold, "no protection", EINVAL, (vmm, 0, 8, 0, &h));
	R(vmm_gpa_hold, "execute", EINVAL, (vmm, 0, 8, VMM_PROT_EXEC, &h));
	R(vmm_gpa_hold, "no map", EFAULT, (vmm, 8 * MB, 8, RW, &h));
	R(vmm_gpa_hold, "beyond the space", EFAULT, (vmm, 1ul << 60, 8, RW, &h));
	R(vmm_gpa_hold, "not to write", EFAULT, (vmm, GB, 8, VMM_PROT_WRITE, &h));
	R(vmm_gpa_write, "around the end", EFAULT, (vmm, -4ul, &v, 8, &done));
	R(vmm_mem_discard, "empty", EINVAL, (vmm, 0, 0));
	R(vmm_mem_discard, "no whole pages", EINVAL, (vmm, 0, 8));
	R(vmm_mem_discard, "no map", EFAULT, (vmm, 9 * MB, PAGE));
	R(vmm_mem_discard, "beyond the map", EFAULT, (vmm, 7 * MB, 2 * MB));
	R(vmm_mem_discard, "overflow", EFAULT, (vmm, MB, -PAGE));
	R(vmm_mem_discard, "not to write", EFAULT, (vmm, GB, PAGE));
	OK(vmm_munmap_memseg(vmm, GB, MB));
	OK(vmm_mmap_memseg(vmm, GB, 2, 0, MB, RW, 0));
	R(vmm_mem_discard, "device memory", EFAULT, (vmm, GB, PAGE));
	OK(vmm_munmap_memseg(vmm, GB, MB));
	OK(vmm_mmap_memseg(vmm, GB, 0, MB, MB, VMM_PROT_READ, 0));
	/* 4 to 6 MB of sysmem have no page yet */
	NO(no_memory, vmm_gpa_hold, "no memory", ENOMEM, (vmm, 5 * MB, 8, RW, &h));
	NO(no_memory, vmm_mem_discard, "no memory", ENOMEM, (vmm, 4 * MB, MB));
	same(vmm, &s, "holds");
	OK(vmm_munmap_memseg(vmm, GB, MB));
}

static void
lost_rows(struct vmm *vmm)
{
	struct vmspace *vms = machine_vmspace(vmm->m);
	uint64_t page[512];
	struct vmm_hold h;
	struct state s;

	srand(1);
	for (unsigned i = 0; i < 512; i++)
		page[i] = (uint64_t)rand() << 40 ^ (uint64_t)rand() << 20 ^
		    (uint64_t)rand();
	OK(vmm_gpa_write(vmm, 0, page, PAGE, NULL));
	(void)vmspace_reclaim(vms, 8 * MB);
	s = look(vmm);
	if (s.swapped != 1)
		printf("%lu pages in swap\n", s.swapped);
	NO(no_read, vmm_gpa_hold, "lost", EIO, (vmm, 0, 8, RW, &h));
	NO(no_read, vmm_gpa_read, "lost", EIO, (vmm, 0, page, 8, NULL));
	NO(no_read, vmm_mmap_memseg, "wiring what is lost", EFAULT,
	    (vmm, GB, 0, 0, PAGE, RW, VMM_MAP_F_WIRED));
	same(vmm, &s, "lost");
	OK(vmm_gpa_hold(vmm, 0, 8, RW, &h));
	if (*(uint64_t *)h.ptr != page[0]) {
		printf("the page came back different\n");
		bad++;
	}
	vmm_gpa_release(vmm, &h);
}

static void
remote_rows(void)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	char name[VMM_SEGNAME_MAX + 1];
	struct vmm_hold h;
	struct vmm *r;
	uint64_t n;

	OK(vmm_open("errors", &r));
	R(vmm_setup_memory, "from outside", ENOTSUP, (r, MB, 0));
	R(vmm_alloc_memseg, "from outside", ENOTSUP, (r, 1, MB, ""));
	R(vmm_create_devmem, "from outside", ENOTSUP, (r, 1, "x", MB, 0600));
	R(vmm_mmap_memseg, "from outside", ENOTSUP, (r, GB, 0, 0, MB, RW, 0));
	R(vmm_munmap_memseg, "from outside", ENOTSUP, (r, 0, 8 * MB));
	R(vmm_gpa_hold, "from outside", ENOTSUP, (r, 0, 8, RW, &h));
	R(vmm_mem_discard, "from outside", ENOTSUP, (r, 0, PAGE));
	R(vmm_get_memseg, "no such id", EINVAL, (r, VMM_MAXSEGS, &n, name));
	R(vmm_memseg_resident, "no such id", EINVAL, (r, -1, &n));
	R(vmm_mmap_getnext, "none after it", ENOENT, (r, GB, &map));
	R(vmm_gpa_read, "no map", EFAULT, (r, 8 * MB, &n, 8, NULL));
	R(vmm_gpa_write, "no map", EFAULT, (r, 8 * MB, &n, 8, NULL));
	vmm_close(r);
}

static int
dma_attach(void *arg, hpa_t root)
{
	(void)root;
	return *(int *)arg;
}

static void
dma_detach(void *arg)
{
	(void)arg;
}

static void
dma_flush(void *arg, gpa_t gpa, uint64_t len)
{
	(void)arg;
	(void)gpa;
	(void)len;
}

static void
iommu_rows(struct vmm *vmm)
{
	static const struct iommu_ops ops = { dma_attach, dma_detach, dma_flush };
	struct vmspace *vms = machine_vmspace(vmm->m);
	int none = 0, refuse = -ENODEV;
	struct state s = look(vmm);

	R(iommu_unassign, "not assigned", ENOENT, (vmm->m, 1));
	R(iommu_assign, "the device's", ENODEV, (vmm->m, 1, &ops, &refuse));
	OK(vmspace_set_limit(vms, 8 * MB));
	R(iommu_assign, "memory has a limit", EBUSY, (vmm->m, 1, &ops, &none));
	OK(vmspace_set_limit(vms, 0));
	NO(no_memory, iommu_assign, "no memory", ENOMEM, (vmm->m, 1, &ops, &none));
	NO(no_dmap, iommu_assign, "no tables", ENOMEM, (vmm->m, 1, &ops, &none));
	(void)vmspace_reclaim(vms, 8 * MB);
	s = look(vmm);
	NO(no_read, iommu_assign, "lost", EIO, (vmm->m, 1, &ops, &none));
	same(vmm, &s, "iommu");
	for (unsigned i = 0; i < IOMMU_MAXDEV; i++)
		OK(iommu_assign(vmm->m, i, &ops, &none));
	R(iommu_assign, "it has that", EEXIST, (vmm->m, 3, &ops, &none));
	R(iommu_assign, "one too many", ENOSPC, (vmm->m, 99, &ops, &none));
	R(vmspace_set_limit, "a device", EBUSY, (vms, 8 * MB));
	R(vmm_munmap_memseg, "in use by an IOMMU", EINVAL, (vmm, 0, 8 * MB));
	for (unsigned i = 0; i < IOMMU_MAXDEV; i++)
		OK(iommu_unassign(vmm->m, i));
}

/* There is no swap yet. */
static void
noswap_rows(struct vmm *vmm)
{
	uint64_t n;

	R(vmm_set_limit, "no swap", ENXIO, (vmm, 4 * MB));
	R(vmm_reclaim, "no swap", ENXIO, (vmm, MB, &n));
	R(vmm_swap_on, "less than a page", EINVAL, ("/tmp", PAGE - 1));
	R(vmm_swap_on, "no such directory", ENOENT, ("/nowhere", MB));
	NO(no_memory, vmm_swap_on, "no memory", ENOMEM, ("/tmp", MB));
}

static void
limit_rows(struct vmm *vmm)
{
	static const struct iommu_ops ops = { dma_attach, dma_detach, dma_flush };
	int none = 0;

	R(vmm_swap_on, "again", EBUSY, ("/tmp", MB));
	R(vmm_set_limit, "too little", EINVAL, (vmm, MB - 1));
	OK(iommu_assign(vmm->m, 1, &ops, &none));
	R(vmm_set_limit, "a device", EBUSY, (vmm, 4 * MB));
	OK(iommu_unassign(vmm->m, 1));
}

static void
look_rows(struct vmm *vmm)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	char name[] = "c0", longname[40];
	uint64_t n;

	memset(longname, 'x', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	R(vmm_get_ledger, "no such segment", EINVAL, (vmm, VMM_MAXSEGS, &l));
	R(vmm_get_ledger, "no such segment", EINVAL, (vmm, -2, &l));
	R(vmm_get_map_ledger, "no map begins there", ENOENT, (vmm, PAGE, &l));
	R(vmm_dirty, "no name", EINVAL, (vmm, "", NULL, NULL, &n));
	R(vmm_dirty, "name too long", EINVAL, (vmm, longname, NULL, NULL, &n));
	R(vmm_accessed, "no name", EINVAL, (vmm, "", NULL, NULL, &n));
	R(vmm_client_close, "no such client", ENOENT, (vmm, "nobody"));
	for (unsigned i = 0; i < 8; i++, name[1]++)
		OK(vmm_dirty(vmm, name, NULL, NULL, &n));
	R(vmm_dirty, "eight clients", EMFILE, (vmm, "nine", NULL, NULL, &n));
	for (; name[1] > '0';) {
		name[1]--;
		OK(vmm_client_close(vmm, name));
	}
}

/* --- vm --------------------------------------------------------------------- */

static void
object_rows(void)
{
	struct vm_object *anon, *dev, *o;
	struct vm_sg sg = { .fd = -1 };
	int fd = memfd_create("e", MFD_CLOEXEC);

	OK(ftruncate(fd, (off_t)MB));
	sg.len = PAGE;
	R(vm_object_create_anon, "length 0", EINVAL, (0, &o));
	R(vm_object_create_anon, "no whole pages", EINVAL, (1, &o));
	NO(no_memory, vm_object_create_anon, "no memory", ENOMEM, (MB, &o));
	NO(no_dmap, vm_object_create_anon, "no space", ENOMEM, (MB, &o));
	OK(vm_object_create_anon(MB, &anon));
	R(vm_object_create_dev, "no file", EINVAL, (-1, MB, &o));
	R(vm_object_create_dev, "closed", EBADF, (9999, MB, &o));
	OK(vm_object_create_dev(fd, MB, &dev));
	R(vm_object_create_shadow, "offset", EINVAL, (anon, 1, PAGE, &o));
	R(vm_object_create_shadow, "too long", EINVAL, (anon, PAGE, MB, &o));
	R(vm_object_create_shadow, "overflow", EINVAL, (anon, PAGE, -PAGE, &o));
	R(vm_object_create_shadow, "device memory", EINVAL, (dev, 0, PAGE, &o));
	NO(no_memory, vm_object_create_shadow, "no memory", ENOMEM, (anon, 0, MB, &o));
	R(vm_object_create_file, "offset", EINVAL, (fd, 1, PAGE, VM_FILE_RO, &o));
	R(vm_object_create_file, "too long", EINVAL, (fd, PAGE, MB, VM_FILE_RO, &o));
	R(vm_object_create_file, "overflow", EINVAL, (fd, PAGE, -PAGE, VM_FILE_RO, &o));
	R(vm_object_create_file, "mode", EINVAL, (fd, 0, PAGE, 9, &o));
	R(vm_object_create_file, "closed", EBADF, (9999, 0, PAGE, VM_FILE_RO, &o));
	NO(no_memory, vm_object_create_file, "no memory", ENOMEM,
	    (fd, 0, PAGE, VM_FILE_RO, &o));
	R(vm_object_create_sg, "nothing", EINVAL, (&sg, 0, false, &o));
	R(vm_object_create_sg, "no memory of that process", EFAULT,
	    (&sg, 1, false, &o));
	sg.fd = fd;
	sg.off = MB;
	R(vm_object_create_sg, "beyond the file", EINVAL, (&sg, 1, false, &o));
	sg.off = 0;
	NO(no_dmap, vm_object_create_sg, "no memory", ENOMEM, (&sg, 1, false, &o));
	vm_object_rele(anon);
	vm_object_rele(dev);
	close(fd);
}

static void
vmspace_rows(void)
{
	struct vmspace_config cfg = { .type = PMAP_PT_EPT };
	int fd = memfd_create("e", MFD_CLOEXEC), client[9], n = 0;
	struct vm_object *anon, *ro;
	struct vmspace *vms;
	struct vm_hold h;

	cfg.type = 7;
	R(vmspace_create, "table format", EINVAL, (&cfg, &vms));
	cfg.type = PMAP_PT_EPT;
	NO(no_memory, vmspace_create, "no memory", ENOMEM, (&cfg, &vms));
	NO(no_dmap, vmspace_create, "no tables", ENOMEM, (&cfg, &vms));
	OK(vmspace_create(&cfg, &vms));
	OK(ftruncate(fd, (off_t)MB));
	OK(vm_object_create_anon(4 * MB, &anon));
	OK(vm_object_create_file(fd, 0, MB, VM_FILE_RO, &ro));
	R(vm_map_insert, "no protection", EINVAL, (vms, 0, MB, anon, 0, 0, 0));
	R(vm_map_insert, "unknown flag", EINVAL, (vms, 0, MB, anon, 0, RW, 8));
	R(vm_map_insert, "beyond the object", EINVAL, (vms, 0, 5 * MB, anon, 0, RW, 0));
	R(vm_map_insert, "beyond the space", EFAULT,
	    (vms, 1ul << 47, MB, anon, 0, RW, 0));
	R(vm_map_insert, "may only be read", EACCES, (vms, 0, MB, ro, 0, RW, 0));
	NO(no_memory, vm_map_insert, "no memory", ENOMEM, (vms, 0, MB, anon, 0, RW, 0));
	OK(vm_map_insert(vms, 0, 4 * MB, anon, 0, RW, 0));
	OK(vm_map_insert(vms, GB, MB, ro, 0, VMM_PROT_READ, 0));
	R(vm_map_insert, "overlap", EFAULT, (vms, MB, MB, anon, 0, RW, 0));
	R(vm_map_remove, "no such entry", EINVAL, (vms, 0, MB));
	R(vm_map_protect, "no such entry", EINVAL, (vms, 0, MB, VMM_PROT_READ));
	R(vm_map_protect, "more than it began with", EINVAL,
	    (vms, GB, MB, VMM_PROT_RW));
	R(vm_map_wire, "no such entry", EINVAL, (vms, 0, MB, NULL, NULL));
	NO(no_memory, vm_map_wire, "no memory", ENOMEM, (vms, 0, 4 * MB, NULL, NULL));
	R(vm_fault, "no entry", EFAULT, (vms, 5 * MB, VMM_PROT_READ));
	R(vm_fault, "forbidden", EFAULT, (vms, 0, VMM_PROT_EXEC));
	R(vm_fault, "forbidden", EFAULT, (vms, GB, VMM_PROT_WRITE));
	NO(no_memory, vm_fault, "no memory", ENOMEM, (vms, 0, VMM_PROT_READ));
	R(vm_hold, "no entry", EFAULT, (vms, 5 * MB, 8, RW, &h));
	NO(no_memory, vm_hold, "no memory", ENOMEM, (vms, 0, 8, RW, &h));
	/* the file shrinks */
	OK(ftruncate(fd, 0));
	R(vm_fault, "lost", EIO, (vms, GB, VMM_PROT_READ));
	R(vm_hold, "lost", EIO, (vms, GB, 8, VMM_PROT_READ, &h));
	R(vm_map_wire, "lost", EIO, (vms, GB, MB, NULL, NULL));
	R(vm_map_insert, "wiring what is lost", EIO,
	    (vms, 2 * GB, MB, ro, 0, VMM_PROT_READ, VM_MAP_F_WIRED));
	R(vm_map_discard, "no whole pages", EINVAL, (vms, 0, 8));
	R(vm_map_discard, "no entry", EFAULT, (vms, 5 * MB, PAGE));
	R(vm_map_discard, "not to write", EFAULT, (vms, GB, PAGE));
	R(vmspace_set_limit, "too little", EINVAL, (vms, VM_LIMIT_MIN - 1));
	OK(vmspace_set_limit(vms, MB));
	R(vmspace_pin, "a limit", EBUSY, (vms));
	OK(vmspace_set_limit(vms, 0));
	OK(vmspace_pin(vms));
	R(vmspace_set_limit, "pinned", EBUSY, (vms, MB));
	vmspace_unpin(vms);
	while (n < 9 && (client[n] = vm_mark_open()) >= 0)
		n++;
	R(vm_mark_open, "eight clients", EMFILE, ());
	while (n > 0)
		vm_mark_close(client[--n]);
	R(vm_swap_init, "no room", EINVAL, ("/tmp", 0));
	R(vm_swap_init, "no such directory", ENOENT, ("/nowhere", MB));
	NO(no_memory, vm_swap_init, "no memory", ENOMEM, ("/tmp", MB));
	OK(vm_swap_init("/tmp", 64 * MB));
	R(vm_swap_init, "again", EBUSY, ("/tmp", MB));
	vm_check(vms);
	vm_object_rele(anon);
	vm_object_rele(ro);
	vmspace_destroy(vms);
	close(fd);
}

int
main(void)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1, .engine = "soft" };
	char dir[] = "/tmp/errorsXXXXXX";
	struct vmm *vmm, *plain;
	struct vm_live live;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (mkdtemp(dir) == NULL || setenv("VMM_DIR", dir, 1) != 0)
		return 1;
	OK(vm_init());
	OK(vmm_create("errors", &cfg, &vmm));
	noswap_rows(vmm);
	object_rows();
	vmspace_rows();
	cfg.flags = VMM_CONFIG_NO_CONTROL;
	OK(vmm_create("plain", &cfg, &plain));
	setup_rows(vmm);
	OK(vmm_create_devmem(vmm, 2, "fb", MB, 0600));
	seg_rows(vmm, plain);
	map_rows(vmm);
	hold_rows(vmm);
	lost_rows(vmm);
	remote_rows();
	iommu_rows(vmm);
	limit_rows(vmm);
	look_rows(vmm);
	vmm_close(plain);
	vmm_close(vmm);
	vm_swap_fini();
	vm_live_get(&live);
	if (rmdir(dir) != 0 || live.objects + live.entries + live.spaces != 0) {
		printf("something is left\n");
		bad++;
	}
	printf("%u errors provoked, %u rows wrong\n", rows, bad);
	return bad != 0;
}
