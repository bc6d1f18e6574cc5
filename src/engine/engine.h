/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What executes guest instructions.  One table of operations per engine
 * (soft; kvm later), neither knows the other; the layer above fills
 * engine_callbacks, the engine calls upward only through them.
 *
 * Threads: one host thread runs a vCPU (run, and the callbacks made from it).
 * kick may be called from any thread.  get/set of registers only while the
 * vCPU is not in run().
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

struct pmap;
struct engine_vm;   /* of the engine */
struct engine_vcpu; /* of the engine */

/*
 * Upward calls, all made on the vCPU's thread, outside the guest (the pmap is
 * not active on this vCPU), with no engine lock held.  arg is what vm_create
 * was given.
 */
struct engine_callbacks {
	/*
	 * Nested page fault: make gpa resident and entered in the pmap with
	 * rights for access (one VMM_PROT_*).
	 * => 0: walk again.  -EFAULT: no memory there, or the mapping
	 *    forbids the access: treat as device memory (mmio).
	 *    -EIO: contents cannot be had: fail closed (VMM_EXIT_MEMFAIL).
	 *    -EINTR: try again later, leave run() with VMM_EXIT_INTR.
	 */
	int (*fault)(void *arg, unsigned vcpu, gpa_t gpa, int access);
	/*
	 * Port and device memory, sizes 1, 2, 4 (mmio: and 8).
	 * => 0: done.  -ENXIO: nobody in the core: exit VMM_EXIT_IO / _MMIO.
	 */
	int (*pio)(void *arg, unsigned vcpu, uint16_t port, unsigned bytes,
	    bool in, uint32_t *datap);
	int (*mmio)(void *arg, unsigned vcpu, gpa_t gpa, unsigned bytes,
	    bool write, uint64_t *datap);
	/*
	 * MSRs that are not the processor's own (local APIC and its base,
	 * x2APIC, TSC deadline, paravirtual clock).
	 * => 0; -EINVAL: #GP(0); -ENXIO: unknown: engine answers by its own
	 *    rule (reads of unknown MSRs #GP)
	 */
	int (*rdmsr)(void *arg, unsigned vcpu, uint32_t msr, uint64_t *valp);
	/* TSC_ADJUST (0x3b) comes after each change of the TSC, for information. */
	int (*wrmsr)(void *arg, unsigned vcpu, uint32_t msr, uint64_t val);
	/* CPUID leaves above the engine's own answer may be edited (APIC id,
	 * topology, hypervisor leaves). regs: eax ebx ecx edx. */
	void (*cpuid)(void *arg, unsigned vcpu, uint32_t leaf,
	    uint32_t subleaf, uint32_t regs[4]);
	/*
	 * The highest-priority external interrupt deliverable now (the local
	 * APIC's, after TPR/PPR, or the 8259's).  => vector, or -1.
	 * intr_accept is called when the engine delivers it, and returns the
	 * vector to deliver (it may have changed), or -1 for none (spurious).
	 */
	int (*intr_pending)(void *arg, unsigned vcpu);
	int (*intr_accept)(void *arg, unsigned vcpu);
	/* NMI latched for this vCPU: test and clear. */
	bool (*nmi_accept)(void *arg, unsigned vcpu);
	/* Task priority: CR8, bits 0-3. */
	uint8_t (*cr8_get)(void *arg, unsigned vcpu);
	void (*cr8_set)(void *arg, unsigned vcpu, uint8_t cr8);
	/* INIT or SIPI waits, or the VM suspends: leave run() soon. => bool */
	bool (*must_exit)(void *arg, unsigned vcpu);
};

struct engine_vm_config {
	struct pmap *pmap;
	const struct engine_callbacks *cb;
	void *arg;
	unsigned ncpu;
	uint64_t code_cache; /* bytes, 0: default */
	const char *perf_map; /* write /tmp/perf-PID.map style file, or NULL */
	bool no_translate;    /* soft: executor only (-o soft.translate=off) */
};

/* Named counters of an engine, for vmmctl stats. */
struct engine_stat {
	/* dotted, e.g. "soft.tlb.fills"; grows, unless it ends in "_bytes" */
	const char *name;
	uint64_t value;
};

struct engine_ops {
	const char *name;
	/* => 0, or -errno with a reason in errbuf: usable on this host? */
	int (*probe)(char *errbuf, size_t len);
	int (*vm_create)(const struct engine_vm_config *cfg,
	    struct engine_vm **vmp);
	void (*vm_destroy)(struct engine_vm *vm);
	int (*vcpu_create)(struct engine_vm *vm, unsigned id,
	    struct engine_vcpu **vcpup);
	void (*vcpu_destroy)(struct engine_vcpu *vcpu);
	/* Power-on state (SDM vol. 3 table 10-1), or INIT state. */
	void (*vcpu_reset)(struct engine_vcpu *vcpu, bool init);
	/*
	 * Runs guest code until an exit.  An I/O, MMIO or MSR exit is completed
	 * by the next call: data of reads is taken from *exit as passed back.
	 * => 0 with *exit filled (size is the caller's), or -errno
	 */
	int (*vcpu_run)(struct engine_vcpu *vcpu, struct vmm_exit *exit);
	/* From any thread: the vCPU looks at its callbacks soon, without delay
	 * if it runs translated code; cheap if it does not. */
	void (*vcpu_kick)(struct engine_vcpu *vcpu);
	int (*get_reg)(struct engine_vcpu *vcpu, enum vmm_reg reg,
	    uint64_t *valp);
	int (*set_reg)(struct engine_vcpu *vcpu, enum vmm_reg reg,
	    uint64_t val);
	int (*get_seg)(struct engine_vcpu *vcpu, enum vmm_segreg seg,
	    struct vmm_seg *segp);
	int (*set_seg)(struct engine_vcpu *vcpu, enum vmm_segreg seg,
	    const struct vmm_seg *segp);
	/* Extended state in XSAVE format (standard form); *lenp in/out. */
	int (*get_xsave)(struct engine_vcpu *vcpu, void *buf, size_t *lenp);
	int (*set_xsave)(struct engine_vcpu *vcpu, const void *buf,
	    size_t len);
	/* Inject an exception or event before the next instruction. */
	int (*inject)(struct engine_vcpu *vcpu, uint8_t vector, bool has_error,
	    uint32_t error);
	/*
	 * Somebody other than the guest's vCPUs (device model, loader,
	 * debugger) is going to write, or has written, [gpa, gpa+len): drop
	 * translated code of those pages.  => any thread
	 */
	void (*gpa_written)(struct engine_vm *vm, gpa_t gpa, uint64_t len);
	/* The host page at these gpas is about to leave or to move. */
	void (*gpa_unmapped)(struct engine_vm *vm, gpa_t gpa, uint64_t len);
	/*
	 * From now on others than the vCPUs and the holds of device models may
	 * use some of guest memory: atomic operations must be so for them too.
	 */
	void (*memory_shared)(struct engine_vm *vm);
	/* Walk the guest's page tables, no side effects. => 0, -EFAULT */
	int (*gva_to_gpa)(struct engine_vcpu *vcpu, gva_t gva, int access,
	    gpa_t *gpap);
	/* Fills up to n; returns how many there are.  vcpu may be NULL. */
	unsigned (*stats)(struct engine_vm *vm, struct engine_vcpu *vcpu,
	    struct engine_stat *st, unsigned n);
	/* TSC as the guest of this vCPU reads it now; set by offset. */
	uint64_t (*tsc_read)(struct engine_vcpu *vcpu);
	uint64_t (*tsc_hz)(struct engine_vm *vm);
};

extern const struct engine_ops engine_soft_ops;

/* => the engine of that name ("soft"), NULL if there is none built in */
const struct engine_ops *engine_lookup(const char *name);

#endif /* ENGINE_ENGINE_H */
