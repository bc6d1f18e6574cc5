/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Named clients of "what changed since I last asked", in the machine's process.
 */
#ifndef LIBVMM_LOOK_H
#define LIBVMM_LOOK_H

#include "base/check.h"
#include "base/lock.h"
#include "libvmm/proto.h"
#include "vmm/types.h"

#define LOOK_MAXCLIENTS 8
#define LOOK_NAME_MAX 31

struct vmm;

struct look_client {
	char name[LOOK_NAME_MAX + 1]; /* empty: free */
	int id;			      /* vm's */
	uint32_t seq;		      /* of the blocks */
	struct vmm_block *block;      /* of the last take */
	uint64_t nblocks;
};

struct look {
	struct lock lock;
	uint32_t seq;			      /* l */
	struct look_client c[LOOK_MAXCLIENTS]; /* l */
};

void look_init(struct look *lk);
void look_fini(struct look *lk);
/* name: len bytes, not terminated. => 0, -EINVAL, -EMFILE, -ENOMEM */
int look_take(struct vmm *vmm, unsigned which, const char *name, size_t len,
    struct proto_take *take) BASE_MUST_CHECK;
/* Up to max blocks of a take from the first on. => how many; -ESTALE: another
 * take came between */
long look_blocks(struct vmm *vmm, const struct proto_take *take, uint64_t first,
    struct vmm_block *out, uint64_t max) BASE_MUST_CHECK;
/* => 0, -ENOENT */
int look_close(struct vmm *vmm, const char *name, size_t len);

#endif /* LIBVMM_LOOK_H */
