/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The hypervisor core, for the layers above (platform, libvmm): a machine is
 * one virtual machine with its guest memory, its vCPUs and an engine.
 *
 * The platform (interrupt controllers, timers, ACPI) lies above the core.  It
 * plugs itself in with machine_set_platform(); the core calls it through
 * struct machine_platform_ops and never by name.
 */
#ifndef VMM_MACHINE_H
#define VMM_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "engine/engine.h"
#include "pmap/pmap.h"
#include "vmm/types.h"

struct machine;
struct vmspace;

/*
 * What the platform does for the core.  All but power-up work is asked on a
 * vCPU's thread, with at most that vCPU's lock (LOCK_RANK_VCPU) held, so the
 * platform's own locks, which rank higher, may be taken.  Any pointer may be
 * NULL: then the core answers as a machine without that part.
 */
struct machine_platform_ops {
	/* See engine_callbacks: 0, -ENXIO not mine, -EINVAL #GP (MSRs). */
	int (*pio)(void *arg, unsigned vcpu, uint16_t port, unsigned bytes,
	    bool in, uint32_t *datap);
	int (*mmio)(void *arg, unsigned vcpu, gpa_t gpa, unsigned bytes,
	    bool write, uint64_t *datap);
	int (*rdmsr)(void *arg, unsigned vcpu, uint32_t msr, uint64_t *valp);
	int (*wrmsr)(void *arg, unsigned vcpu, uint32_t msr, uint64_t val);
	void (*cpuid)(void *arg, unsigned vcpu, uint32_t leaf,
	    uint32_t subleaf, uint32_t regs[4]);
	/* => vector or -1; pending has no side effect */
	int (*intr_pending)(void *arg, unsigned vcpu);
	int (*intr_accept)(void *arg, unsigned vcpu);
	uint8_t (*cr8_get)(void *arg, unsigned vcpu);
	void (*cr8_set)(void *arg, unsigned vcpu, uint8_t cr8);
	/* The vCPU took power-on reset (init false) or INIT (true). */
	void (*vcpu_reset)(void *arg, unsigned vcpu, bool init);
	/* Named counters: vcpu >= 0 its own, -1 the platform's.  Fills up to n;
	 * returns how many there are.  => any thread */
	unsigned (*stats)(void *arg, int vcpu, struct engine_stat *st,
	    unsigned n);
};

/*
 * Nodes of device memory (files that other processes map).  Called with the
 * machine locked.
 */
struct machine_node_ops {
	/* => 0 and a descriptor of at least len zeroed bytes that the caller
	 *    closes; -EEXIST, -EINVAL, ... */
	int (*create)(void *arg, const char *name, uint64_t len, int *fdp);
	void (*destroy)(void *arg, const char *name);
};

struct machine_config {
	const char *name;
	unsigned ncpu; /* 1..VMM_MAXCPU */
	const struct engine_ops *engine;
	enum pmap_type pmap_type;
	unsigned pmap_flags;  /* PMAP_F_* */
	uint64_t code_cache;  /* bytes, 0: the engine's default */
	const char *perf_map; /* or NULL */
	bool no_translate;    /* soft: executor only */
	const struct machine_node_ops *nodes; /* NULL: no devmem */
	void *nodes_arg;
};

/* => 0; -EINVAL; -ENOMEM; what the engine or vm say.  vCPU 0 is in power-on
 *    state, the others wait for SIPI */
int machine_create(const struct machine_config *cfg,
    struct machine **mp) BASE_MUST_CHECK;
/* No vCPU may be in vcpu_run(); ends the platform's use of the machine first
 * (the caller destroys the platform before). */
void machine_destroy(struct machine *m);

/* Before the first vcpu_run(). */
void machine_set_platform(struct machine *m,
    const struct machine_platform_ops *ops, void *arg);

const char *machine_name(const struct machine *m);
unsigned machine_ncpu(const struct machine *m);
const char *machine_engine(const struct machine *m);
struct vmspace *machine_vmspace(const struct machine *m);
/* Guest TSC: ticks in a second, and as vCPU id reads it now.
 * => any thread */
uint64_t machine_tsc_hz(const struct machine *m);
uint64_t machine_tsc(const struct machine *m, unsigned vcpu);

/*
 * Ends the machine: each vcpu_run() returns VMM_EXIT_SUSPEND soon.  The first
 * reason wins.  status is handed on in the exit (debug-exit port), else -1.
 * => any thread, any lock below LOCK_RANK_ENGINE held
 * => 0, -EINVAL, -EALREADY
 */
int machine_suspend(struct machine *m, enum vmm_suspend how, int status);
/* => VMM_SUSPEND_NONE while it runs */
enum vmm_suspend machine_suspended(const struct machine *m);

/*
 * Makes a suspended machine ready for another boot: vCPUs and platform reset,
 * maps of device memory dropped, sysmem and all segments kept.
 * => 0; -EBUSY: not suspended, or a vCPU is still in vcpu_run()
 */
int machine_reinit(struct machine *m);

/*
 * Picks an engine by name: "soft", "kvm", or "auto"/NULL.
 * => 0; -EINVAL unknown name; -ENOTSUP known but not built in or not usable
 *    here; why (one line) is filled in every case
 */
int machine_pick_engine(const char *name, const struct engine_ops **opsp,
    char *why, size_t whylen) BASE_MUST_CHECK;

#endif /* VMM_MACHINE_H */
