/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Objects on files.  Pages are read into memory of our own, not mapped from the
 * page cache: a mapped page of a file that shrinks is a signal in the middle of
 * guest code, a read that comes short is an error with an address.  It also
 * makes a private object an anonymous one whose pages begin as the file's.
 */
#include <errno.h>

#include "vm/vm_int.h"

#define VM_FILE_AHEAD 16u

int
vm_object_create_file(int fd, uint64_t off, uint64_t len, enum vm_file_mode mode,
    struct vm_object **objp)
{
	uint64_t size;
	int file, error;

	if (((off | len) & VMM_PAGE_MASK) != 0 || off + len < off ||
	    (mode != VM_FILE_RO && mode != VM_FILE_PRIVATE))
		return -EINVAL;
	file = host_file_open(fd, &size);
	if (file < 0)
		return file;
	if (off + len > base_roundup(size, (uint64_t)VMM_PAGE_SIZE))
		error = -EINVAL;
	else
		error = vm_object_create_kind(VM_OBJECT_FILE, len, objp);
	if (error != 0) {
		host_file_close(file);
		return error;
	}
	(*objp)->file = file;
	(*objp)->file_off = off;
	(*objp)->file_len = size;
	if (mode == VM_FILE_RO)
		(*objp)->prot &= ~VMM_PROT_WRITE;
	return 0;
}

int
vm_file_pagein(struct vm_object *obj, uint64_t pindex)
{
	uint64_t off = obj->file_off + pindex * VMM_PAGE_SIZE;
	uint64_t last = obj->len / VMM_PAGE_SIZE;
	hpa_t hpa = vm_page_hpa(obj, pindex);
	unsigned n = 1;
	int error;

	if (vm_object_page_make(obj, pindex) == NULL)
		return -ENOMEM;
	for (; n < VM_FILE_AHEAD && pindex + n < last; n++) {
		struct vm_page *q = vm_object_page(obj, pindex + n);

		if (q == NULL || q->state != VM_PAGE_NONE)
			break;
	}
	for (;; n = 1) {
		error = host_file_read(obj->file, PHYS_TO_DMAP(hpa),
		    base_min((uint64_t)n * VMM_PAGE_SIZE, obj->file_len - off), off);
		if (error == 0)
			break;
		vm_page_give_back(hpa, (uint64_t)n * VMM_PAGE_SIZE);
		if (n == 1)
			return -EIO;
	}
	for (unsigned k = 0; k < n; k++) {
		struct vm_page *p = vm_object_page(obj, pindex + k);

		vm_page_set_state(obj, p, VM_PAGE_RESIDENT);
		p->flags = VM_PAGE_F_FILE;
		vm_page_enqueue(obj, p, k == 0);
	}
	return 0;
}
