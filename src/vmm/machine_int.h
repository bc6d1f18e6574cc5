/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the core.
 *
 * Letters: C constant after creation; A atomic, any thread; m under
 * machine.lock; v under vcpu.lock; w under vcpu.wake_lock.
 */
#ifndef VMM_MACHINE_INT_H
#define VMM_MACHINE_INT_H

#include <stdatomic.h>

#include "base/lock.h"
#include "vm/vm.h"
#include "vmm/machine.h"
#include "vmm/stat_list.h"

/*
 * States of a vCPU.  Only the thread inside vcpu_run() moves it:
 *
 *	IDLE ──vcpu_run──> READY ──enter engine──> RUNNING
 *	  ^                  │ ^ <──engine exits──────┘
 *	  └──exit to caller──┘ └─> SLEEPING (HLT, waits for SIPI), PARKED (frozen)
 *
 * VCPU-1: in any state but RUNNING the engine's vCPU belongs to whoever holds
 *	vcpu.lock; in RUNNING to the thread inside vcpu_run() alone.
 * VCPU-2: RUNNING is entered only while freezes is 0.
 */
enum vcpu_state {
	VCPU_IDLE,
	VCPU_READY,
	VCPU_RUNNING,
	VCPU_SLEEPING,
	VCPU_PARKED,
};

/* Bits of vcpu.requests: leave the engine, look at why. */
#define VCPU_REQ_FREEZE 0x1u
#define VCPU_REQ_INIT 0x2u
#define VCPU_REQ_KICK 0x4u

#define X(field, name, desc) _Atomic uint64_t field;
struct vcpu_stats {
	VCPU_STATS(X)
};
struct machine_stats {
	MACHINE_STATS(X)
};
#undef X

struct vcpu {
	struct machine *m;	/* C */
	unsigned id;		/* C */
	struct engine_vcpu *ev; /* C; what it points at: VCPU-1 */

	struct lock lock;
	struct lock_cond state_cond; /* state or freezes changed */
	enum vcpu_state state;	     /* v */
	unsigned freezes;	     /* v: threads that want it stopped */
	bool wait_sipi;		     /* v */
	bool halted;		     /* v: executed HLT, nothing came yet */

	_Atomic uint32_t requests; /* A: VCPU_REQ_* */
	_Atomic uint32_t sipi;	   /* A: 0x100 | vector, 0: none */
	_Atomic bool nmi;	   /* A: latched */

	struct lock wake_lock; /* leaf */
	struct lock_cond wake_cond;
	_Atomic uint64_t wake_seq; /* A: advances with each wake-up call */
	_Atomic bool asleep;	   /* A, set under w */
	uint64_t poll_ns;	   /* vCPU thread: to watch before it sleeps */

	struct vcpu_stats st; /* A */
};

struct memseg {
	struct vm_object *obj; /* NULL: free */
	uint64_t len;	       /* bytes */
	char name[VMM_SEGNAME_MAX + 1]; /* empty: sysmem */
};

struct memmap {
	uint64_t len; /* 0: free */
	gpa_t gpa;
	uint64_t segoff;
	int segid, prot;
	unsigned flags; /* VMM_MAP_F_* */
};

struct machine {
	char name[VMM_NAME_MAX + 1]; /* C */
	unsigned ncpu;		     /* C */
	const struct engine_ops *eng; /* C */
	struct engine_vm *evm;	      /* C; NULL while it is made */
	struct vmspace *vms;	      /* C */
	const struct machine_node_ops *nodes; /* C */
	void *nodes_arg;		      /* C */
	const struct machine_platform_ops *plat; /* C after the first run */
	void *plat_arg;

	struct lock lock;
	struct memseg seg[VMM_MAXSEGS]; /* m */
	struct memmap map[VMM_MAXMAPS]; /* m */
	bool setup;			/* m: sysmem made */
	bool incore;			/* m: segments are in core dumps */
	struct iommu *iommu; /* m: the domain, or NULL */
	_Atomic uint64_t lowmem, highmem; /* A: bytes, set once */

	/* A: status << 32 | enum vmm_suspend; MACHINE_ALIVE while it runs */
	_Atomic uint64_t suspend;
	/* A: bit for each vCPU that only NMI or INIT could wake */
	_Atomic uint32_t dead;
	struct machine_stats st; /* A */

	struct vcpu vcpu[VMM_MAXCPU];
};

#define MACHINE_ALIVE ((uint64_t)(uint32_t)VMM_SUSPEND_NONE)

#define machine_stat(p, field) \
	atomic_fetch_add_explicit(&(p)->st.field, 1, memory_order_relaxed)
#define machine_stat_add(p, field, n) \
	atomic_fetch_add_explicit(&(p)->st.field, (n), memory_order_relaxed)

static inline bool
machine_alive(struct machine *m)
{
	return atomic_load(&m->suspend) == MACHINE_ALIVE;
}

extern const struct engine_callbacks exit_callbacks;

/* vcpu.c */
int vcpu_create(struct machine *m, unsigned id) BASE_MUST_CHECK;
void vcpu_destroy(struct vcpu *v);
void vcpu_reset_locked(struct vcpu *v, bool init) LOCK_REQUIRES(&v->lock);
void vcpu_wake(struct vcpu *v);
bool vcpu_must_exit(struct vcpu *v);
/* => the calling thread is inside an engine callback of some vCPU */
bool vcpu_in_callback(void);

/* freeze.c: stops vCPUs outside the engine. => 0 or -EDEADLK */
int freeze_vcpu(struct vcpu *v) BASE_MUST_CHECK;
void freeze_thaw_vcpu(struct vcpu *v);
/* => machine.lock held, so that two of them cannot wait for each other */
int freeze_all(struct machine *m) LOCK_REQUIRES(&m->lock) BASE_MUST_CHECK;
void freeze_thaw_all(struct machine *m) LOCK_REQUIRES(&m->lock);

/* memseg.c */
void memseg_init(struct machine *m);
/* Drops maps of devmem, or of everything. => vCPUs frozen or gone */
void memseg_drop_maps(struct machine *m, bool all);
void memseg_fini(struct machine *m);

/* iommu.c; under machine.lock */
/* A map was inserted, and enters the domain if there is one. => -errno: it did
 * not */
int iommu_map_added(struct machine *m, struct memmap *map) BASE_MUST_CHECK;
/* Before a map is removed. */
void iommu_map_removing(struct machine *m, struct memmap *map);
void iommu_fini(struct machine *m);

uint64_t machine_now_ns(void); /* CLOCK_MONOTONIC */

#endif /* VMM_MACHINE_INT_H */
