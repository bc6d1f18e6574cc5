/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The shadow stack: guest returns by the host's own CALL and RET.
 *
 * Generated code runs with RSP on memory of its own.  A guest CALL, once it
 * has pushed the return address in guest memory, pushes the same address here
 * and does a host CALL to the target's code.  A guest RET takes the address
 * from guest memory into S0 and does a host RET, which lands behind some CALL,
 * as the processor has predicted.  The landing compares S0 with the address
 * pushed there: if it is the same, page_va becomes what it was and the
 * block at the return address goes on; if not, control goes to the RET's own
 * look into the jump cache, whose address the RET left in S2.  Nothing relies
 * on guests to return in order, except speed.
 *
 * What an entry says: "at this address, in this mode, goes on the block that
 * is linked at the landing".  That is good under the conditions of an entry
 * in the jump cache: the same mode key and generation.  Entries carry neither;
 * both change in C only, on the vCPU's own thread or with the vCPU out of
 * generated code, and soft_shadow() drops what is stale before generated code
 * goes on.  STAC and CLAC, which change the key inline, lead to a mode (SMAP
 * open) in which calls and returns do not come here.  A landing lies in
 * code memory, all of which goes away with a new generation; it jumps to the
 * next block by a link like others, so it may outlive the block it lies in.
 *
 * The stack, from its base downwards: what an empty stack returns to; entries
 * of CPL 3; that again; entries of CPL < 3.  Entering the kernel covers the
 * user's entries, so that they are there on the way back, and going back to
 * the user drops the kernel's.
 *
 * Depth and kicks: each such call loads from CODE_PROBE bytes below RSP before
 * anything has changed.  Where that is not mapped, or after a kick, the host
 * faults and the signal handler leaves generated code; a stack that is too
 * deep is then dropped.  The bytes above are also room for frames of signals.
 * Returns need no poll: there are never more of them than calls.
 *
 * This file is compiled for general registers only, see run.c.
 */
#include <errno.h>
#include <sys/mman.h>

#include "engine/soft/code_int.h"

#define SHADOW_BYTES (1ul << 20)
#define SHADOW_GUARD VMM_PAGE_SIZE

static void
shadow_push_empty(struct soft_cpu *cpu)
{
	cpu->shadow_rsp -= 8;
	*(uint64_t *)(uintptr_t)cpu->shadow_rsp = cpu->code_base +
	    CODE_RET_EMPTY;
}

/* Drops all but one that returns nowhere. */
static void
shadow_reset(struct soft_cpu *cpu)
{
	cpu->shadow_rsp = cpu->shadow_base;
	shadow_push_empty(cpu);
	cpu->shadow_user = cpu->shadow_rsp;
	cpu->shadow_ukey = 0;
}

int
soft_shadow_init(struct soft_cpu *cpu)
{
	uint8_t *p = mmap(NULL, SHADOW_BYTES + SHADOW_GUARD,
	    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return -ENOMEM;
	cpu->shadow_low = (uint64_t)(uintptr_t)p + SHADOW_GUARD;
	cpu->shadow_base = cpu->shadow_low + SHADOW_BYTES - 64;
	if (mprotect(p, SHADOW_GUARD, PROT_NONE) != 0) {
		soft_shadow_fini(cpu);
		return -ENOMEM;
	}
	shadow_reset(cpu);
	atomic_store(&cpu->shadow_probe, CODE_PROBE);
	return 0;
}

void
soft_shadow_fini(struct soft_cpu *cpu)
{
	if (cpu->shadow_low != 0)
		(void)munmap((void *)(uintptr_t)(cpu->shadow_low -
		    SHADOW_GUARD), SHADOW_BYTES + SHADOW_GUARD);
	cpu->shadow_low = 0;
}

void
soft_shadow_sync(struct soft_cpu *cpu)
{
	uint32_t old = cpu->shadow_key, key = cpu->mode_key;
	bool was_user = (old & SOFT_KEY_CPL) == SOFT_KEY_CPL;
	bool user = (key & SOFT_KEY_CPL) == SOFT_KEY_CPL, stale[2];

	for (unsigned i = 0; i < 2; i++) {
		uint32_t gen = __atomic_load_n(&cpu->jc_gen[i],
		    __ATOMIC_RELAXED);

		stale[i] = gen != cpu->shadow_gen[i];
		cpu->shadow_gen[i] = gen;
	}
	cpu->shadow_key = key;
	if (cpu->shadow_rsp + CODE_PROBE < cpu->shadow_low ||
	    (stale[1] && was_user)) {
		shadow_reset(cpu);
		if (!was_user && !user)
			shadow_push_empty(cpu);
		was_user = user;
		old = key;
	} else if (stale[1]) {
		/* The kernel's are good, and lie where they lie. */
		cpu->shadow_user = cpu->shadow_base - 8;
		cpu->shadow_ukey = 0;
	}
	if (was_user && !user) {
		cpu->shadow_user = cpu->shadow_rsp;
		cpu->shadow_ukey = old;
		shadow_push_empty(cpu);
	} else if (!was_user && user) {
		cpu->shadow_rsp = cpu->shadow_user;
		if (cpu->shadow_ukey != key)
			shadow_reset(cpu);
	} else if (user ? old != key : stale[0] ||
	    ((old ^ key) & ~SOFT_KEY_MMU) != 0) {
		cpu->shadow_rsp = cpu->shadow_user;
		if (user)
			shadow_reset(cpu);
		else
			shadow_push_empty(cpu);
	}
}
