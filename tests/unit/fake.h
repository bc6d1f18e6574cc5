/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Stand-ins for the layers below the core: fake_vm.c, fake_engine.c.
 */
#ifndef TESTS_FAKE_H
#define TESTS_FAKE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "engine/engine.h"

struct vmspace;

extern unsigned fake_objects; /* alive */
/* Set to -errno: the next calls of that kind fail. */
extern int fake_fail_object, fake_fail_insert, fake_fail_fault;
extern int fake_fail_vcpu; /* creation of vCPU with this id fails; -1 */
/* => flags of the map entry at gpa, -1: none */
int fake_map_flags(struct vmspace *vms, gpa_t gpa);

/*
 * An engine whose vCPUs run a script: each step is one call to fake_step(),
 * which the test sets; NULL spins until must_exit, as guest code would.
 */
extern const struct engine_ops fake_engine;
struct fake_cpu {
	const struct engine_callbacks *cb;
	void *arg;
	unsigned id;
	uint64_t reg[VMM_REG_COUNT];
	struct vmm_seg seg[VMM_SEG_COUNT];
	_Atomic unsigned kicks;
	_Atomic unsigned resets, inits;
	_Atomic bool running;
};
/* => fills *ex and returns true to leave run(), false to go on */
extern bool (*fake_step)(struct fake_cpu *cpu, struct vmm_exit *ex);
extern struct fake_cpu *fake_cpus[VMM_MAXCPU];
extern _Atomic unsigned fake_written; /* calls of gpa_written */
extern _Atomic unsigned fake_unmapped;

#endif /* TESTS_FAKE_H */
