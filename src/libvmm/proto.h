/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control protocol between a machine and those that look into it.
 *
 * A stream of requests, each answered in order by one reply.  Same host, same
 * byte order; fixed heads, lengths bounded, so that parsing hostile bytes
 * costs no more than a comparison each.
 */
#ifndef LIBVMM_PROTO_H
#define LIBVMM_PROTO_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

#define PROTO_MAGIC 0x6d56u
#define PROTO_VERSION 2
#define PROTO_MAXDATA 65536u /* bytes after a head, either way */
#define PROTO_NARG 4

enum proto_op {
	PROTO_HELLO,	 /* version, sizeof(vmm_regs) */
	PROTO_INFO,	 /* -> struct vmm_info */
	PROTO_SUSPEND,	 /* how */
	PROTO_MEMSEG,	 /* segid -> struct proto_memseg */
	PROTO_MEMMAP,	 /* gpa -> struct vmm_memmap */
	PROTO_GPA_READ,	 /* gpa, len -> bytes that could be read */
	PROTO_GPA_WRITE, /* gpa; data -> uint64_t written */
	PROTO_GPA_PMAP,	 /* gpa -> 1 to 4 uint64_t */
	PROTO_REGS,	 /* vcpu -> struct vmm_regs */
	PROTO_SET_REG,	 /* vcpu, reg, value */
	PROTO_SET_SEG,	 /* vcpu, seg; struct vmm_seg */
	PROTO_GVA_TO_GPA, /* vcpu, gva, access -> uint64_t */
	PROTO_STATS,	 /* vcpu or -1 -> struct vmm_stat each */
	PROTO_NMI,	 /* vcpu */
	PROTO_POWER,	 /* press the power button */
	PROTO_LEDGER,	 /* 0, segid or -1; 1, gpa of a map -> struct vmm_ledger */
	PROTO_PAGE,	 /* gpa -> struct vmm_page */
	PROTO_STATES,	 /* gpa, n -> n uint16_t */
	PROTO_TAKE,	 /* which; name -> struct proto_take */
	PROTO_BLOCKS,	 /* slot, seq, first -> struct vmm_block each */
	PROTO_FORGET,	 /* name */
	PROTO_RECOUNT,	 /* -> struct vmm_count each */
	PROTO_LIMIT,	 /* 1 to set it; bytes -> uint64_t, as it is then */
	PROTO_OPS
};
#define PROTO_MAXSTATES (PROTO_MAXDATA / 2)
#define PROTO_MAXBLOCKS (PROTO_MAXDATA / sizeof(struct vmm_block))
#define PROTO_MAXCOUNTS (PROTO_MAXDATA / sizeof(struct vmm_count))

struct proto_head {
	uint16_t magic;
	uint16_t op;
	uint32_t len; /* of the data that follows */
	uint64_t arg[PROTO_NARG];
};

struct proto_reply {
	uint16_t magic;
	uint16_t op;   /* of the request */
	int32_t error; /* 0 or -errno */
	uint32_t len;  /* of the data that follows */
	uint32_t reserved;
};

struct proto_memseg {
	uint64_t len, resident;
	char name[VMM_SEGNAME_MAX + 1];
};

/* What was dirty or accessed at one moment; its blocks are fetched after. */
struct proto_take {
	uint32_t slot, seq;
	uint64_t nblocks, pages;
};

/*
 * Looks for a whole request at buf.
 * => bytes it takes; 0: more are needed; -EPROTO: not ours, hang up.
 *    *headp is a copy, *datap points into buf
 */
long proto_parse(const void *buf, size_t avail, struct proto_head *headp,
    const void **datap) BASE_MUST_CHECK;

#endif /* LIBVMM_PROTO_H */
