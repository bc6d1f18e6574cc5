/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/hold.h"

#include <errno.h>
#include <string.h>

#include "vmm/machine_int.h"

/*
 * The cookie of a hold: the page, its gpa, and protection | length << 8, which
 * is what release needs to tell the engine which bytes were written.
 */
int
hold_gpa(struct machine *m, gpa_t gpa, uint64_t len, int prot,
    struct vmm_hold *hold)
{
	struct vm_hold vh;
	int error;

	if (len == 0 || len > VMM_PAGE_SIZE ||
	    (gpa & VMM_PAGE_MASK) + len > VMM_PAGE_SIZE || prot == 0 ||
	    (prot & ~VMM_PROT_RW) != 0)
		return -EINVAL;
	error = vm_hold(m->vms, gpa, len, prot, &vh);
	if (error != 0) {
		machine_stat(m, hold_fails);
		return error;
	}
	machine_stat(m, holds);
	machine_stat(m, holds_now);
	hold->ptr = vh.ptr;
	hold->cookie[0] = vh.page;
	hold->cookie[1] = (void *)vh.gpa;
	hold->cookie[2] = (void *)((uint64_t)vh.prot | len << 8);
	return 0;
}

void
hold_release(struct machine *m, struct vmm_hold *hold)
{
	uint64_t arg = (uint64_t)hold->cookie[2];
	struct vm_hold vh = {
		.ptr = hold->ptr,
		.page = hold->cookie[0],
		.gpa = (gpa_t)hold->cookie[1],
		.prot = (int)(arg & 0xff),
	};

	/* After the write: code translated from the old bytes, or from some
	 * of both, goes. */
	if ((vh.prot & VMM_PROT_WRITE) != 0)
		m->eng->gpa_written(m->evm, vh.gpa, arg >> 8);
	vm_release(m->vms, &vh);
	hold->ptr = NULL;
	atomic_fetch_sub_explicit(&m->st.holds_now, 1, memory_order_relaxed);
}

static int
hold_copy(struct machine *m, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep, int prot)
{
	struct vmm_hold h;
	uint64_t done = 0, n;
	int error = 0;

	while (done < len) {
		if (gpa + done < gpa) {
			error = -EFAULT;
			break;
		}
		n = base_min(len - done,
		    VMM_PAGE_SIZE - ((gpa + done) & VMM_PAGE_MASK));
		error = hold_gpa(m, gpa + done, n, prot, &h);
		if (error != 0)
			break;
		if ((prot & VMM_PROT_WRITE) != 0)
			memcpy(h.ptr, (const char *)buf + done, n);
		else
			memcpy((char *)buf + done, h.ptr, n);
		hold_release(m, &h);
		done += n;
	}
	if (donep != NULL)
		*donep = done;
	return error;
}

int
hold_read(struct machine *m, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep)
{
	return hold_copy(m, gpa, buf, len, donep, VMM_PROT_READ);
}

int
hold_write(struct machine *m, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep)
{
	/* hold_copy() only reads from buf when it writes to the guest. */
	return hold_copy(m, gpa, (void *)(uintptr_t)buf, len, donep,
	    VMM_PROT_WRITE);
}
