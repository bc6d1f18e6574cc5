/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile bytes on the control socket, against a real machine (on the core's
 * stand-in engine, which runs nothing): parse, answer, and check that an answer
 * keeps to its length and the machine to its state.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "libvmm/server.h"
#include "vmm/vmm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct vmm *
fuzz_machine(void)
{
	struct vmm_config cfg = {
		.size = sizeof(cfg),
		.ncpu = 2,
		.flags = VMM_CONFIG_NO_CONTROL,
	};
	static struct vmm *vmm;

	if (vmm == NULL &&
	    (vmm_create("fuzz", &cfg, &vmm) != 0 ||
		vmm_setup_memory(vmm, 4ul << 20, 0) != 0))
		abort();
	return vmm;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static char out[sizeof(struct proto_reply) + PROTO_MAXDATA];
	struct vmm *vmm = fuzz_machine();
	struct vmm_count count[32];
	struct proto_reply r;
	struct proto_head h;
	const void *payload;
	unsigned ncount;
	size_t n;
	long used;

	while ((used = proto_parse(data, len, &h, &payload)) > 0) {
		if ((size_t)used > len)
			abort();
		n = server_answer(vmm, &h, payload, out);
		memcpy(&r, out, sizeof(r));
		if (n > sizeof(out) || n != sizeof(r) + r.len || r.error > 0 ||
		    r.magic != PROTO_MAGIC)
			abort();
		data += used;
		len -= (size_t)used;
	}
	if (vmm_recount(vmm, count, 32, &ncount) != 0 || ncount > 32)
		abort();
	for (unsigned i = 0; i < ncount; i++)
		if (count[i].counted != count[i].found)
			abort();
	return 0;
}
