/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/limit.h"

#include <errno.h>

#include "vm/vm.h"
#include "vmm/machine_int.h"

int
limit_swap_init(const char *dir, uint64_t bytes)
{
	int error = vm_init();

	return error != 0 ? error : vm_swap_init(dir, bytes);
}

int
limit_compress_init(uint64_t bytes)
{
	int error = vm_init();

	return error != 0 ? error : vm_compress_init(bytes);
}

/* A limit would be a promise that cannot be kept. */
static bool
limit_wired(struct machine *m)
{
	bool wired = false;

	lock_acquire(&m->lock);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		wired |= m->map[i].len != 0 &&
		    (m->map[i].flags & VMM_MAP_F_WIRED) != 0 &&
		    m->seg[m->map[i].segid].name[0] == '\0';
	lock_release(&m->lock);
	return wired;
}

int
limit_set(struct machine *m, uint64_t bytes)
{
	if (bytes != 0 && !vm_swap_ready())
		return -ENXIO;
	if (bytes != 0 && limit_wired(m))
		return -EBUSY;
	return vmspace_set_limit(m->vms, bytes);
}

int
limit_reclaim(struct machine *m, uint64_t bytes, uint64_t *donep)
{
	if (!vm_swap_ready())
		return -ENXIO;
	*donep = vmspace_reclaim(m->vms, bytes);
	return 0;
}

uint64_t
limit_get(struct machine *m)
{
	return vmspace_limit(m->vms);
}
