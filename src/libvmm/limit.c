/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The limit of resident guest memory, and swap, through the API.
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "vmm/limit.h"

int
vmm_swap_on(const char *dir, uint64_t bytes)
{
	int error = limit_swap_init(dir, bytes);

	if (error == -EBUSY)
		return api_error(error, "this process has swap already");
	if (error == -EINVAL)
		return api_error(error, "swap of %lu bytes: too small or too large",
		    bytes);
	if (error != 0)
		return api_error(error, "no swap file can be made in %s: %s", dir,
		    strerror(-error));
	return 0;
}

int
vmm_compress_on(uint64_t bytes)
{
	int error = limit_compress_init(bytes);

	if (error == -EBUSY)
		return api_error(error, "this process compresses already");
	if (error == -EINVAL)
		return api_error(error, "%lu bytes for compressed pages: too few or "
		    "too many", bytes);
	return api_errno(error, "compressed pages");
}

static int
limit_error(int error, uint64_t bytes)
{
	if (error == -EINVAL)
		return api_error(error,
		    "a limit of %lu bytes: 0 (none) or at least 1 MB", bytes);
	if (error == -ENXIO)
		return api_error(error, "a limit wants swap: start with -o "
		    "memory.swap=SIZE");
	if (error == -EBUSY)
		return api_error(error, "no limit while memory is wired");
	return api_errno(error, "limit");
}

int
vmm_set_limit(struct vmm *vmm, uint64_t bytes)
{
	uint64_t now;
	struct client_call call = {
		.op = PROTO_LIMIT,
		.arg = { 1, bytes },
		.reply = &now,
		.cap = sizeof(now),
	};

	return limit_error(vmm->client != NULL ?
	    client_call_exact(vmm->client, &call) :
	    limit_set(vmm->m, bytes), bytes);
}

int
vmm_get_limit(struct vmm *vmm, uint64_t *bytesp)
{
	uint64_t now;
	struct client_call call = {
		.op = PROTO_LIMIT,
		.reply = &now,
		.cap = sizeof(now),
	};
	int error;

	if (vmm->client == NULL) {
		*bytesp = limit_get(vmm->m);
		return 0;
	}
	error = client_call_exact(vmm->client, &call);
	if (error == 0)
		*bytesp = now;
	return api_errno(error, "limit");
}

int
vmm_reclaim(struct vmm *vmm, uint64_t bytes, uint64_t *donep)
{
	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	return api_errno(limit_reclaim(vmm->m, bytes, donep), "reclaim");
}

int
vmm_parse_memsize(const char *s, uint64_t *bytesp)
{
	static const char suffix[] = "kmgtpe";
	const char *p;
	unsigned shift;
	uint64_t n;
	char *end;

	if (!isdigit((unsigned char)s[0]))
		return -EINVAL;
	errno = 0;
	n = strtoull(s, &end, 0);
	if (errno != 0)
		return -ERANGE;
	if (*end == '\0') {
		*bytesp = n < (1ul << 20) ? n << 20 : n;
		return 0;
	}
	p = strchr(suffix, tolower((unsigned char)*end));
	if (p == NULL || end[1] != '\0')
		return -EINVAL;
	shift = 10 * (unsigned)(p - suffix + 1);
	if (n > UINT64_MAX >> shift)
		return -ERANGE;
	*bytesp = n << shift;
	return 0;
}
