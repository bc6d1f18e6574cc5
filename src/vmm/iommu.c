/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The IOMMU domain.
 *
 * IOMMU-1: a domain exists exactly while a device is assigned.
 * IOMMU-2: it maps what the machine's maps map, at the same gpa, with their
 *	rights: sysmem, which is wired for it and whose maps cannot be removed
 *	meanwhile, and windows of device memory, which come and go.
 * IOMMU-3: a page leaves the domain, and every device has dropped it, before
 *	its map is removed or it is unwired.
 * IOMMU-4: nobody sees what a device writes: pages that it could write to are
 *	dirty when they are unwired.
 *
 * All under machine.lock.  Devices know no faults that could be resolved, hence
 * the wiring; a memory limit and a domain exclude each other.
 */
#include "vmm/iommu.h"

#include <errno.h>
#include <string.h>

#include "base/host.h"
#include "vmm/machine_int.h"

struct iommu_dev {
	const struct iommu_ops *ops; /* NULL: free */
	void *arg;
	unsigned id;
};

struct iommu {
	struct pmap *pm;
	unsigned ndev;
	struct iommu_dev dev[IOMMU_MAXDEV];
};

static void
iommu_flush(struct iommu *io, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < IOMMU_MAXDEV; i++)
		if (io->dev[i].ops != NULL)
			io->dev[i].ops->flush(io->dev[i].arg, gpa, len);
}

struct iommu_enter {
	struct pmap *pm;
	int prot;
};

/* As accessed and dirty, for devices set neither: so neighbours agree. */
static int
iommu_enter_page(void *arg, gpa_t gpa, uint64_t hpa)
{
	struct iommu_enter *ie = arg;

	return pmap_enter(ie->pm, gpa, hpa, ie->prot, ie->prot, NULL);
}

static bool
iommu_is_sysmem(const struct machine *m, const struct memmap *map)
{
	return m->seg[map->segid].name[0] == '\0';
}

static void
iommu_unmap(struct machine *m, struct memmap *map)
{
	if (pmap_remove_deferred(m->iommu->pm, map->gpa, map->len, NULL, NULL))
		iommu_flush(m->iommu, map->gpa, map->len);
	vm_map_unwire(m->vms, map->gpa, map->len);
	map->flags &= ~(unsigned)VMM_MAP_F_IOMMU;
}

int
iommu_map_added(struct machine *m, struct memmap *map)
{
	struct iommu_enter ie;
	int error;

	if (m->iommu == NULL)
		return 0;
	ie.pm = m->iommu->pm;
	ie.prot = map->prot & VMM_PROT_RW;
	if (ie.prot == 0)
		return 0;
	error = vm_map_wire(m->vms, map->gpa, map->len, iommu_enter_page, &ie);
	if (error != 0) {
		/* what was entered: no device has been told of it, but it may
		 * have looked */
		if (pmap_remove_deferred(ie.pm, map->gpa, map->len, NULL, NULL))
			iommu_flush(m->iommu, map->gpa, map->len);
		return error;
	}
	if (iommu_is_sysmem(m, map))
		map->flags |= VMM_MAP_F_IOMMU;
	return 0;
}

void
iommu_map_removing(struct machine *m, struct memmap *map)
{
	if (m->iommu != NULL && (map->prot & VMM_PROT_RW) != 0)
		iommu_unmap(m, map);
}

static void
iommu_destroy_domain(struct machine *m)
{
	KASSERT(m->iommu->ndev == 0, "a domain goes with devices (IOMMU-1)");
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0)
			iommu_map_removing(m, &m->map[i]);
	pmap_destroy(m->iommu->pm);
	host_free(m->iommu);
	m->iommu = NULL;
	vmspace_unpin(m->vms);
}

static int
iommu_create_domain(struct machine *m)
{
	struct iommu *io;
	int error = vmspace_pin(m->vms);

	if (error != 0)
		return error;
	io = host_alloc(sizeof(*io));
	error = io == NULL ? -ENOMEM :
	    pmap_create(PMAP_PT_X86, PMAP_F_2M | PMAP_F_1G, NULL, NULL, &io->pm);
	if (error != 0) {
		host_free(io);
		vmspace_unpin(m->vms);
		return error;
	}
	m->iommu = io;
	for (unsigned i = 0; i < VMM_MAXMAPS && error == 0; i++)
		if (m->map[i].len != 0) {
			error = iommu_map_added(m, &m->map[i]);
			/* those behind it are not in the domain */
			for (unsigned k = i; k-- > 0 && error != 0;)
				if (m->map[k].len != 0)
					iommu_map_removing(m, &m->map[k]);
		}
	if (error != 0) {
		pmap_destroy(io->pm);
		host_free(io);
		m->iommu = NULL;
		vmspace_unpin(m->vms);
	} else
		m->eng->memory_shared(m->evm);
	return error;
}

static int
iommu_assign_locked(struct machine *m, unsigned id, const struct iommu_ops *ops,
    void *arg) LOCK_REQUIRES(&m->lock)
{
	struct iommu_dev *free = NULL;
	int error = 0;

	for (unsigned i = 0; m->iommu != NULL && i < IOMMU_MAXDEV; i++) {
		struct iommu_dev *d = &m->iommu->dev[i];

		if (d->ops != NULL && d->id == id)
			return -EEXIST;
		if (d->ops == NULL)
			free = d;
	}
	if (m->iommu == NULL) {
		error = iommu_create_domain(m);
		if (error != 0)
			return error;
		free = &m->iommu->dev[0];
	}
	if (free == NULL)
		return -ENOSPC;
	error = ops->attach(arg, pmap_root(m->iommu->pm));
	if (error == 0) {
		*free = (struct iommu_dev){ ops, arg, id };
		m->iommu->ndev++;
	} else if (m->iommu->ndev == 0)
		iommu_destroy_domain(m);
	return error;
}

int
iommu_assign(struct machine *m, unsigned id, const struct iommu_ops *ops, void *arg)
{
	int error;

	lock_acquire(&m->lock);
	error = iommu_assign_locked(m, id, ops, arg);
	lock_release(&m->lock);
	return error;
}

static void
iommu_detach(struct machine *m, struct iommu_dev *d)
{
	d->ops->detach(d->arg);
	memset(d, 0, sizeof(*d));
	if (--m->iommu->ndev == 0)
		iommu_destroy_domain(m);
}

int
iommu_unassign(struct machine *m, unsigned id)
{
	int error = -ENOENT;

	lock_acquire(&m->lock);
	for (unsigned i = 0; m->iommu != NULL && i < IOMMU_MAXDEV; i++) {
		struct iommu_dev *d = &m->iommu->dev[i];

		if (d->ops == NULL || d->id != id)
			continue;
		iommu_detach(m, d);
		error = 0;
	}
	lock_release(&m->lock);
	return error;
}

void
iommu_fini(struct machine *m)
{
	for (unsigned i = 0; m->iommu != NULL && i < IOMMU_MAXDEV; i++)
		if (m->iommu->dev[i].ops != NULL)
			iommu_detach(m, &m->iommu->dev[i]);
}

void
iommu_get_info(struct machine *m, struct iommu_info *info)
{
	struct pmap_stats st;

	memset(info, 0, sizeof(*info));
	lock_acquire(&m->lock);
	if (m->iommu != NULL) {
		pmap_stats_get(m->iommu->pm, &st);
		info->domain = true;
		info->ndev = m->iommu->ndev;
		info->pages = st.resident;
		info->large[0] = st.large[0];
		info->large[1] = st.large[1];
		info->pt_pages = st.pt_pages;
	}
	lock_release(&m->lock);
}
