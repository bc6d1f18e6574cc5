/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory through the API.
 */
#include <cpuid.h>
#include <errno.h>
#include <string.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "vmm/hold.h"
#include "vmm/memseg.h"

/* Highest gpa + 1 that guest page tables can name here. */
static uint64_t
memory_limit(void)
{
	unsigned a, b, c, d, bits = 36;

	if (__get_cpuid(0x80000008, &a, &b, &c, &d) != 0)
		bits = a & 0xff;
	/* The vm layer's maps end at 2^47, as a process's do. */
	return 1ul << base_min(bits, 46u);
}

int
vmm_setup_memory(struct vmm *vmm, uint64_t size, unsigned flags)
{
	uint64_t limit = memory_limit() -
	    (VMM_HIGHMEM_BASE - VMM_LOWMEM_LIMIT);
	int error;

	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	if (size == 0 || (size & VMM_PAGE_MASK) != 0)
		return api_error(-EINVAL,
		    "memory of %lu bytes: not a whole number of 4 KB pages",
		    size);
	if (size > limit)
		return api_error(-EINVAL,
		    "memory of %lu MB: this host's limit is %lu MB",
		    size >> 20, limit >> 20);
	error = memseg_setup(vmm->m, size, flags);
	if (error == -ENOMEM)
		return api_error(error,
		    "memory of %lu MB: the host cannot give that much",
		    size >> 20);
	return api_errno(error, "guest memory");
}

/* => false: the connection failed */
static bool
memory_remote_info(const struct vmm *vmm, struct vmm_info *info)
{
	struct client_call call = {
		.op = PROTO_INFO,
		.reply = info,
		.cap = sizeof(*info),
	};

	return client_call_exact(vmm->client, &call) == 0;
}

uint64_t
vmm_lowmem_size(const struct vmm *vmm)
{
	struct vmm_info info;

	if (vmm->client == NULL)
		return memseg_lowmem(vmm->m);
	return memory_remote_info(vmm, &info) ? info.lowmem : 0;
}

uint64_t
vmm_highmem_size(const struct vmm *vmm)
{
	struct vmm_info info;

	if (vmm->client == NULL)
		return memseg_highmem(vmm->m);
	return memory_remote_info(vmm, &info) ? info.highmem : 0;
}

int
vmm_alloc_memseg(struct vmm *vmm, int segid, uint64_t len, const char *name)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(memseg_alloc(vmm->m, segid, len, name,
	    strlen(name) + 1), "memory segment");
}

int
vmm_create_devmem(struct vmm *vmm, int segid, const char *name, uint64_t len,
    unsigned mode)
{
	char have[VMM_SEGNAME_MAX + 1];
	uint64_t havelen;
	int error;

	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	if (name[0] == '\0' || (mode & ~0666u) != 0)
		return api_error(-EINVAL, "device memory: no name, or mode %o",
		    mode);
	error = memseg_alloc(vmm->m, segid, len, name, strlen(name) + 1);
	if (error == -EEXIST &&
	    memseg_get(vmm->m, segid, &havelen, have) == 0 && havelen != 0)
		error = strcmp(have, name) == 0 ? 0 : -EINVAL;
	if (error == 0)
		error = dir_chmod_node(&vmm->dir, name, mode);
	return api_errno(error, name);
}

static int
memory_remote_memseg(struct vmm *vmm, int segid, struct proto_memseg *seg)
{
	struct client_call call = {
		.op = PROTO_MEMSEG,
		.arg = { (uint64_t)(int64_t)segid },
		.reply = seg,
		.cap = sizeof(*seg),
	};
	int error = client_call_exact(vmm->client, &call);

	seg->name[VMM_SEGNAME_MAX] = '\0';
	return error;
}

int
vmm_get_memseg(struct vmm *vmm, int segid, uint64_t *lenp,
    char name[VMM_SEGNAME_MAX + 1])
{
	struct proto_memseg seg = { 0 };
	int error;

	if (vmm->client == NULL)
		return api_errno(memseg_get(vmm->m, segid, lenp, name),
		    "memory segment");
	error = memory_remote_memseg(vmm, segid, &seg);
	if (error == 0) {
		*lenp = seg.len;
		strcpy(name, seg.name);
	}
	return api_errno(error, "memory segment");
}

int
vmm_memseg_resident(struct vmm *vmm, int segid, uint64_t *bytesp)
{
	struct proto_memseg seg = { 0 };
	int error;

	if (vmm->client == NULL)
		return api_errno(memseg_resident(vmm->m, segid, bytesp),
		    "memory segment");
	error = memory_remote_memseg(vmm, segid, &seg);
	if (error == 0)
		*bytesp = seg.resident;
	return api_errno(error, "memory segment");
}

int
vmm_mmap_memseg(struct vmm *vmm, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(memseg_mmap(vmm->m, gpa, segid, segoff, len, prot,
	    flags), "memory map");
}

int
vmm_munmap_memseg(struct vmm *vmm, gpa_t gpa, uint64_t len)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(memseg_munmap(vmm->m, gpa, len), "memory map");
}

int
vmm_mmap_getnext(struct vmm *vmm, gpa_t gpa, struct vmm_memmap *map)
{
	struct client_call call = {
		.op = PROTO_MEMMAP,
		.arg = { gpa },
		.reply = map,
		.cap = sizeof(*map),
	};

	if (map->size != sizeof(*map))
		return api_error(-EINVAL, "record of another version");
	if (vmm->client != NULL)
		return api_errno(client_call_exact(vmm->client, &call),
		    "memory map");
	return api_errno(memseg_getnext(vmm->m, gpa, map), "memory map");
}

int
vmm_open_devmem(struct vmm *vmm, const char *name, int oflag)
{
	int error, fd;

	error = dir_open_node(vmm->name, name, oflag, &fd);
	return error != 0 ? api_errno(error, name) : fd;
}

int
vmm_gpa_hold(struct vmm *vmm, gpa_t gpa, uint64_t len, int prot,
    struct vmm_hold *hold)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(hold_gpa(vmm->m, gpa, len, prot, hold),
	    "guest memory");
}

void
vmm_gpa_release(struct vmm *vmm, struct vmm_hold *hold)
{
	hold_release(vmm->m, hold);
}

int
vmm_gpa_read(struct vmm *vmm, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep)
{
	uint64_t done = 0;
	int error = 0;

	if (vmm->client == NULL)
		return api_errno(hold_read(vmm->m, gpa, buf, len, donep),
		    "guest memory");
	while (done < len && error == 0) {
		struct client_call call = {
			.op = PROTO_GPA_READ,
			.arg = { gpa + done,
			    base_min(len - done, PROTO_MAXDATA) },
			.reply = (char *)buf + done,
			.cap = base_min(len - done, PROTO_MAXDATA),
		};

		error = client_call(vmm->client, &call);
		done += call.got;
		if (error == 0 && call.got != call.cap)
			error = -EPROTO;
	}
	if (donep != NULL)
		*donep = done;
	return api_errno(error, "guest memory");
}

int
vmm_gpa_write(struct vmm *vmm, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep)
{
	uint64_t done = 0, n = 0;
	int error = 0;

	if (vmm->client == NULL)
		return api_errno(hold_write(vmm->m, gpa, buf, len, donep),
		    "guest memory");
	while (done < len && error == 0) {
		struct client_call call = {
			.op = PROTO_GPA_WRITE,
			.arg = { gpa + done },
			.data = (const char *)buf + done,
			.len = base_min(len - done, PROTO_MAXDATA),
			.reply = &n,
			.cap = sizeof(n),
		};

		n = 0;
		error = client_call(vmm->client, &call);
		if (n > call.len || (error == 0 && n != call.len))
			error = -EPROTO;
		else
			done += n;
	}
	if (donep != NULL)
		*donep = done;
	return api_errno(error, "guest memory");
}

int
vmm_mem_discard(struct vmm *vmm, gpa_t gpa, uint64_t len)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(memseg_discard(vmm->m, gpa, len), "guest memory");
}

int
vmm_get_gpa_pmap(struct vmm *vmm, gpa_t gpa, uint64_t pte[4],
    unsigned *countp)
{
	struct client_call call = {
		.op = PROTO_GPA_PMAP,
		.arg = { gpa },
		.reply = pte,
		.cap = 4 * sizeof(pte[0]),
	};
	int error;

	if (vmm->client == NULL) {
		*countp = memseg_entries(vmm->m, gpa, pte);
		return 0;
	}
	error = client_call(vmm->client, &call);
	if (error == 0)
		*countp = (unsigned)(call.got / sizeof(pte[0]));
	return api_errno(error, "nested page tables");
}
