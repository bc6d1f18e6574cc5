/* SPDX-License-Identifier: BSD-2-Clause */
#include "libvmm/proto.h"

#include <errno.h>
#include <string.h>

/* Data each request must bring; the one that varies is bounded by MAXDATA. */
#define PROTO_ANY UINT32_MAX

static uint32_t
proto_want(uint16_t op)
{
	switch (op) {
	case PROTO_GPA_WRITE:
	case PROTO_TAKE:
	case PROTO_FORGET:
		return PROTO_ANY;
	case PROTO_SET_SEG:
		return sizeof(struct vmm_seg);
	default:
		return 0;
	}
}

long
proto_parse(const void *buf, size_t avail, struct proto_head *headp,
    const void **datap)
{
	struct proto_head h;
	uint32_t want;

	/* Bad bytes are refused as soon as they are seen. */
	memset(&h, 0, sizeof(h));
	memcpy(&h, buf, avail < sizeof(h) ? avail : sizeof(h));
	if (avail >= offsetof(struct proto_head, op) && h.magic != PROTO_MAGIC)
		return -EPROTO;
	if (avail < sizeof(h))
		return 0;
	want = h.op < PROTO_OPS ? proto_want(h.op) : 0;
	if (h.op >= PROTO_OPS || h.len > PROTO_MAXDATA ||
	    (want != PROTO_ANY && h.len != want))
		return -EPROTO;
	if (avail - sizeof(h) < h.len)
		return 0;
	*headp = h;
	*datap = (const char *)buf + sizeof(h);
	return (long)(sizeof(h) + h.len);
}
