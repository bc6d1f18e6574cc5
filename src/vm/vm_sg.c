/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects made of pieces of host memory: windows of devices, memory of other
 * processes.  All of it lies in the direct map from the start; its pages are
 * never queued, so nothing takes them away but the end of their maps.
 */
#include <errno.h>

#include "vm/vm_int.h"

static int
vm_sg_place(struct vm_object *obj, const struct vm_sg *sg, unsigned n)
{
	hpa_t hpa = obj->base;
	int error = 0;

	for (unsigned i = 0; i < n && error == 0; i++) {
		bool writable = true;

		if (sg[i].fd >= 0)
			error = host_dmap_place_fd(hpa, sg[i].fd, sg[i].off,
			    sg[i].len, &writable);
		else
			error = host_dmap_place_ptr(hpa, sg[i].ptr, sg[i].len);
		if (!writable)
			obj->prot &= ~VMM_PROT_WRITE;
		hpa += sg[i].len;
	}
	return error;
}

int
vm_object_create_sg(const struct vm_sg *sg, unsigned n, bool uncached,
    struct vm_object **objp)
{
	struct vm_object *obj;
	uint64_t len = 0;
	int error;

	for (unsigned i = 0; i < n; i++) {
		if ((sg[i].len & VMM_PAGE_MASK) != 0 || len + sg[i].len <= len)
			return -EINVAL;
		len += sg[i].len;
	}
	error = vm_object_create_kind(VM_OBJECT_SG, len, &obj);
	if (error != 0)
		return error;
	error = vm_sg_place(obj, sg, n);
	if (uncached)
		obj->prot |= PMAP_PROT_UC;
	if (error != 0)
		vm_object_rele(obj);
	else
		*objp = obj;
	return error;
}
