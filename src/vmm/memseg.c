/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory segments and maps: bookkeeping above vm.  A segment is storage (one
 * vm_object) and lives as long as the machine; a map is a window on it.
 *
 * MEMSEG-1: a map names an allocated segment and lies inside it.
 * MEMSEG-2: each map in use has exactly one entry in the vm_map, with the same
 *	bounds; a map is removed as a whole or not at all.
 * MEMSEG-3: the set of maps changes only under machine.lock with every vCPU
 *	frozen; it is read under machine.lock.
 *
 * On failure nothing has changed.  The order of the checks is interface: see
 * vmm-memory(7).
 */
#include "vmm/memseg.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "vmm/machine_int.h"

static bool
memseg_page_aligned(uint64_t v)
{
	return (v & VMM_PAGE_MASK) == 0;
}

static int
memseg_create_node(struct machine *m, struct memseg *seg)
{
	int error, fd;

	if (m->nodes == NULL)
		return -ENOTSUP;
	error = m->nodes->create(m->nodes_arg, seg->name, seg->len, &fd);
	if (error != 0)
		return error;
	error = vm_object_create_dev(fd, seg->len, &seg->obj);
	close(fd);
	if (error != 0)
		m->nodes->destroy(m->nodes_arg, seg->name);
	return error;
}

static int
memseg_alloc_locked(struct machine *m, int segid, uint64_t len,
    const char *name)
{
	struct memseg *seg, new = { .len = len };
	int error;

	if (segid < 0 || segid >= VMM_MAXSEGS)
		return -EINVAL;
	if (len == 0 || !memseg_page_aligned(len))
		return -EINVAL;
	seg = &m->seg[segid];
	if (seg->obj != NULL)
		return seg->len == len &&
			(seg->name[0] == '\0') == (name[0] == '\0') ?
		    -EEXIST :
		    -EINVAL;
	strcpy(new.name, name);
	if (name[0] == '\0')
		error = vm_object_create_anon(len, &new.obj);
	else
		error = memseg_create_node(m, &new);
	if (error != 0)
		return error;
	/* Guest memory is in core dumps only where asked for (-C). */
	vm_object_set_incore(new.obj, m->incore);
	*seg = new;
	return 0;
}

int
memseg_alloc(struct machine *m, int segid, uint64_t len, const char *name,
    size_t namelen)
{
	size_t n = strnlen(name, namelen);
	int error;

	if (n == namelen || n > VMM_SEGNAME_MAX)
		return -ENAMETOOLONG;
	lock_acquire(&m->lock);
	error = memseg_alloc_locked(m, segid, len, name);
	lock_release(&m->lock);
	return error;
}

int
memseg_get(struct machine *m, int segid, uint64_t *lenp,
    char name[VMM_SEGNAME_MAX + 1])
{
	if (segid < 0 || segid >= VMM_MAXSEGS)
		return -EINVAL;
	lock_acquire(&m->lock);
	*lenp = m->seg[segid].len;
	strcpy(name, m->seg[segid].name);
	lock_release(&m->lock);
	return 0;
}

int
memseg_resident(struct machine *m, int segid, uint64_t *bytesp)
{
	if (segid < 0 || segid >= VMM_MAXSEGS)
		return -EINVAL;
	lock_acquire(&m->lock);
	*bytesp = m->seg[segid].obj == NULL ?
	    0 :
	    vm_object_resident(m->seg[segid].obj);
	lock_release(&m->lock);
	return 0;
}

/* => m->lock held; all checks that need no frozen vCPU */
static int
memseg_mmap_check(struct machine *m, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags, struct memmap **slotp)
{
	struct memseg *seg;
	uint64_t end = segoff + len;

	if (prot == 0 || (prot & ~VMM_PROT_ALL) != 0)
		return -EINVAL;
	if ((flags & ~(unsigned)VMM_MAP_F_WIRED) != 0)
		return -EINVAL;
	if (segid < 0 || segid >= VMM_MAXSEGS)
		return -EINVAL;
	seg = &m->seg[segid];
	if (seg->obj == NULL)
		return -EINVAL;
	if (segoff > INT64_MAX || end <= segoff || end > seg->len)
		return -EINVAL;
	if (!memseg_page_aligned(gpa | segoff | end))
		return -EINVAL;
	for (unsigned i = 0; i < VMM_MAXMAPS; i++) {
		if (m->map[i].len == 0) {
			*slotp = &m->map[i];
			return 0;
		}
	}
	return -ENOSPC;
}

static int
memseg_mmap_locked(struct machine *m, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags) LOCK_REQUIRES(&m->lock)
{
	struct memmap *slot;
	int error;

	error = memseg_mmap_check(m, gpa, segid, segoff, len, prot, flags,
	    &slot);
	if (error != 0)
		return error;
	error = freeze_all(m);
	if (error != 0)
		return error;
	error = vm_map_insert(m->vms, gpa, len, m->seg[segid].obj, segoff,
	    prot, (flags & VMM_MAP_F_WIRED) != 0 ? VM_MAP_F_WIRED : 0);
	/* A named segment is a file that other programs map. */
	if (error == 0 && m->seg[segid].name[0] != '\0' &&
	    (prot & VMM_PROT_WRITE) != 0 && m->evm != NULL)
		m->eng->memory_shared(m->evm);
	if (error == 0) {
		*slot = (struct memmap){
			.len = len,
			.gpa = gpa,
			.segoff = segoff,
			.segid = segid,
			.prot = prot,
			.flags = flags,
		};
		error = iommu_map_added(m, slot);
		if (error == 0)
			machine_stat(m, map_changes);
		else {
			memset(slot, 0, sizeof(*slot));
			if (vm_map_remove(m->vms, gpa, len) != 0)
				KASSERT(0, "map at %#lx vanished (MEMSEG-2)", gpa);
		}
	}
	freeze_thaw_all(m);
	return error == 0 || error == -ENOMEM ? error : -EFAULT;
}

int
memseg_mmap(struct machine *m, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags)
{
	int error;

	lock_acquire(&m->lock);
	error = memseg_mmap_locked(m, gpa, segid, segoff, len, prot, flags);
	lock_release(&m->lock);
	return error;
}

static void
memseg_drop(struct machine *m, struct memmap *map)
{
	int error;

	iommu_map_removing(m, map);
	error = vm_map_remove(m->vms, map->gpa, map->len);
	KASSERT(error == 0, "map at %#lx has no entry (MEMSEG-2): %d",
	    map->gpa, error);
	memset(map, 0, sizeof(*map));
	machine_stat(m, map_changes);
}

int
memseg_munmap(struct machine *m, gpa_t gpa, uint64_t len)
{
	struct memmap *map = NULL;
	int error = -EINVAL;

	lock_acquire(&m->lock);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0 && m->map[i].gpa == gpa &&
		    m->map[i].len == len &&
		    (m->map[i].flags & VMM_MAP_F_IOMMU) == 0)
			map = &m->map[i];
	if (map != NULL) {
		error = freeze_all(m);
		if (error == 0) {
			memseg_drop(m, map);
			freeze_thaw_all(m);
		}
	}
	lock_release(&m->lock);
	return error;
}

int
memseg_getnext(struct machine *m, gpa_t gpa, struct vmm_memmap *out)
{
	const struct memmap *best = NULL;

	if (out->size != sizeof(*out))
		return -EINVAL;
	lock_acquire(&m->lock);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0 && m->map[i].gpa >= gpa &&
		    (best == NULL || m->map[i].gpa < best->gpa))
			best = &m->map[i];
	if (best != NULL) {
		out->segid = best->segid;
		out->gpa = best->gpa;
		out->len = best->len;
		out->segoff = best->segoff;
		out->prot = (uint32_t)best->prot;
		out->flags = best->flags;
	}
	lock_release(&m->lock);
	return best != NULL ? 0 : -ENOENT;
}

int
memseg_discard(struct machine *m, gpa_t gpa, uint64_t len)
{
	int error = len == 0 ? -EINVAL : vm_map_discard(m->vms, gpa, len);

	/* code translated from what is zeros now */
	if (error == 0)
		m->eng->gpa_written(m->evm, gpa, len);
	return error;
}

unsigned
memseg_entries(struct machine *m, gpa_t gpa, uint64_t pte[4])
{
	return pmap_entries(vmspace_pmap(m->vms), gpa, pte);
}

/* One segment without the hole: what lies above 4 GB follows at 3 GB. */
static int
memseg_setup_locked(struct machine *m, uint64_t size,
    unsigned flags) LOCK_REQUIRES(&m->lock)
{
	uint64_t low = base_min(size, VMM_LOWMEM_LIMIT), high = size - low;
	unsigned mf = (flags & VMM_MEM_F_WIRED) != 0 ? VMM_MAP_F_WIRED : 0;
	int error;

	if (m->setup)
		return -EEXIST;
	m->incore = (flags & VMM_MEM_F_INCORE) != 0;
	error = memseg_alloc_locked(m, VMM_SYSMEM, size, "");
	if (error != 0)
		return error;
	error = memseg_mmap_locked(m, 0, VMM_SYSMEM, 0, low, VMM_PROT_ALL,
	    mf);
	if (error == 0 && high != 0) {
		error = memseg_mmap_locked(m, VMM_HIGHMEM_BASE, VMM_SYSMEM,
		    low, high, VMM_PROT_ALL, mf);
		if (error != 0) {
			KASSERT(m->map[0].gpa == 0 && m->map[0].len == low,
			    "the first map is not low memory");
			memseg_drop(m, &m->map[0]);
		}
	}
	if (error != 0) {
		vm_object_rele(m->seg[VMM_SYSMEM].obj);
		memset(&m->seg[VMM_SYSMEM], 0, sizeof(m->seg[VMM_SYSMEM]));
		return error;
	}
	m->setup = true;
	atomic_store(&m->lowmem, low);
	atomic_store(&m->highmem, high);
	return 0;
}

int
memseg_setup(struct machine *m, uint64_t size, unsigned flags)
{
	int error;

	if (size == 0 || !memseg_page_aligned(size) ||
	    (flags & ~(VMM_MEM_F_WIRED | VMM_MEM_F_INCORE)) != 0)
		return -EINVAL;
	lock_acquire(&m->lock);
	error = memseg_setup_locked(m, size, flags);
	lock_release(&m->lock);
	return error;
}

uint64_t
memseg_lowmem(const struct machine *m)
{
	return atomic_load(&m->lowmem);
}

uint64_t
memseg_highmem(const struct machine *m)
{
	return atomic_load(&m->highmem);
}

void
memseg_drop_maps(struct machine *m, bool all)
{
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0 &&
		    (all || m->seg[m->map[i].segid].name[0] != '\0'))
			memseg_drop(m, &m->map[i]);
}

void
memseg_fini(struct machine *m)
{
	iommu_fini(m);
	memseg_drop_maps(m, true);
	for (unsigned i = 0; i < VMM_MAXSEGS; i++) {
		if (m->seg[i].obj == NULL)
			continue;
		if (m->seg[i].name[0] != '\0')
			m->nodes->destroy(m->nodes_arg, m->seg[i].name);
		vm_object_rele(m->seg[i].obj);
		m->seg[i].obj = NULL;
	}
}
