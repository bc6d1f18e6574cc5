/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine: what it is made of, how it ends.
 *
 * Its end is one atomic word that is set once (the first reason wins); every
 * vCPU sees it before it enters the engine, or is kicked out of it.
 */
#include "vmm/machine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "vmm/machine_int.h"
#include "vmm/vcpu.h"

static void
machine_pmap_kick(void *arg, unsigned vcpu)
{
	struct machine *m = arg;

	if (vcpu >= m->ncpu || m->vcpu[vcpu].ev == NULL)
		return;
	machine_stat(&m->vcpu[vcpu], kicks);
	m->eng->vcpu_kick(m->vcpu[vcpu].ev);
}

static const struct pmap_callbacks machine_pmap_callbacks = {
	.kick = machine_pmap_kick,
};

static void
machine_unmapped(void *arg, gpa_t gpa, uint64_t len)
{
	struct machine *m = arg;

	if (m->evm != NULL)
		m->eng->gpa_unmapped(m->evm, gpa, len);
}

/* Under vm's locks: said once, not acted upon here. */
static void
machine_vm_event(void *arg, enum vm_event ev, gpa_t gpa, int error)
{
	struct machine *m = arg;

	switch (ev) {
	case VM_EVENT_SWAP_FULL:
		log_warn("%s: swap is full; who needs memory over the "
			 "limit waits", m->name);
		break;
	case VM_EVENT_SWAP_ERROR:
		log_error("%s: swap cannot be written: %s; its pages stay",
		    m->name, strerror(-error));
		break;
	case VM_EVENT_LOST:
		log_error("%s: the page at gpa %#lx cannot be had: %s",
		    m->name, gpa, strerror(-error));
		break;
	}
}

static int
machine_create_vmspace(struct machine *m, const struct machine_config *cfg)
{
	struct vmspace_config vc = {
		.type = cfg->pmap_type,
		.pmap_flags = cfg->pmap_flags,
		.cb = &machine_pmap_callbacks,
		.arg = m,
		.unmapped = machine_unmapped,
		.event = machine_vm_event,
		.hard_limit = true,
		.pageout_thread = true,
	};
	int error = vm_init();

	return error != 0 ? error : vmspace_create(&vc, &m->vms);
}

static int
machine_create_engine(struct machine *m, const struct machine_config *cfg)
{
	struct engine_vm_config ec = {
		.pmap = vmspace_pmap(m->vms),
		.cb = &exit_callbacks,
		.arg = m,
		.ncpu = m->ncpu,
		.code_cache = cfg->code_cache,
		.perf_map = cfg->perf_map,
		.no_translate = cfg->no_translate,
	};

	return m->eng->vm_create(&ec, &m->evm);
}

int
machine_create(const struct machine_config *cfg, struct machine **mp)
{
	struct machine *m;
	size_t len = strlen(cfg->name);
	unsigned made = 0;
	int error;

	if (cfg->ncpu == 0 || cfg->ncpu > VMM_MAXCPU || len == 0 ||
	    len > VMM_NAME_MAX)
		return -EINVAL;
	m = calloc(1, sizeof(*m));
	if (m == NULL)
		return -ENOMEM;
	memcpy(m->name, cfg->name, len + 1);
	m->ncpu = cfg->ncpu;
	m->eng = cfg->engine;
	m->nodes = cfg->nodes;
	m->nodes_arg = cfg->nodes_arg;
	atomic_store(&m->suspend, MACHINE_ALIVE);
	lock_init(&m->lock, "machine", LOCK_RANK_MACHINE);
	error = machine_create_vmspace(m, cfg);
	if (error != 0)
		goto fail_lock;
	error = machine_create_engine(m, cfg);
	if (error != 0)
		goto fail_vmspace;
	for (; made < m->ncpu; made++) {
		error = vcpu_create(m, made);
		if (error != 0)
			goto fail_vcpus;
	}
	/* Those that wait for SIPI are asleep before their threads exist. */
	atomic_store(&m->dead, ((1u << m->ncpu) - 1) & ~1u);
	*mp = m;
	return 0;

fail_vcpus:
	while (made-- > 0)
		vcpu_destroy(&m->vcpu[made]);
	m->eng->vm_destroy(m->evm);
	m->evm = NULL;
fail_vmspace:
	vmspace_destroy(m->vms);
fail_lock:
	lock_fini(&m->lock);
	free(m);
	return error;
}

void
machine_destroy(struct machine *m)
{
	(void)machine_suspend(m, VMM_SUSPEND_DESTROY, -1);
	/* No vCPU runs: maps go without a freeze. The engine must still be
	 * there to hear of it. */
	memseg_fini(m);
	for (unsigned i = 0; i < m->ncpu; i++)
		vcpu_destroy(&m->vcpu[i]);
	m->eng->vm_destroy(m->evm);
	m->evm = NULL;
	vmspace_destroy(m->vms);
	lock_fini(&m->lock);
	free(m);
}

void
machine_set_platform(struct machine *m, const struct machine_platform_ops *ops,
    void *arg)
{
	m->plat_arg = arg;
	m->plat = ops;
}

const char *
machine_name(const struct machine *m)
{
	return m->name;
}

unsigned
machine_ncpu(const struct machine *m)
{
	return m->ncpu;
}

const char *
machine_engine(const struct machine *m)
{
	return m->eng->name;
}

struct vmspace *
machine_vmspace(const struct machine *m)
{
	return m->vms;
}

uint64_t
machine_tsc_hz(const struct machine *m)
{
	return m->eng->tsc_hz(m->evm);
}

uint64_t
machine_tsc(const struct machine *m, unsigned vcpu)
{
	return vcpu < m->ncpu ? m->eng->tsc_read(m->vcpu[vcpu].ev) : 0;
}

int
machine_suspend(struct machine *m, enum vmm_suspend how, int status)
{
	uint64_t alive = MACHINE_ALIVE;

	if (how < VMM_SUSPEND_RESET || how > VMM_SUSPEND_DESTROY)
		return -EINVAL;
	if (!atomic_compare_exchange_strong(&m->suspend, &alive,
		(uint64_t)(uint32_t)status << 32 | (uint32_t)how))
		return -EALREADY;
	for (unsigned i = 0; i < m->ncpu; i++)
		vcpu_wake(&m->vcpu[i]);
	return 0;
}

enum vmm_suspend
machine_suspended(const struct machine *m)
{
	return (enum vmm_suspend)(int32_t)(uint32_t)atomic_load(&m->suspend);
}

/*
 * VMM-REINIT: nothing of the last boot remains but the contents of segments
 * and the maps of sysmem.
 */
int
machine_reinit(struct machine *m)
{
	int error;

	lock_acquire(&m->lock);
	error = freeze_all(m);
	if (error != 0)
		goto out;
	if (machine_alive(m))
		error = -EBUSY;
	for (unsigned i = 0; i < m->ncpu && error == 0; i++) {
		lock_acquire(&m->vcpu[i].lock);
		if (m->vcpu[i].state != VCPU_IDLE)
			error = -EBUSY;
		lock_release(&m->vcpu[i].lock);
	}
	if (error == 0) {
		iommu_fini(m);
		memseg_drop_maps(m, false);
		for (unsigned i = 0; i < m->ncpu; i++) {
			lock_acquire(&m->vcpu[i].lock);
			vcpu_reset_locked(&m->vcpu[i], false);
			lock_release(&m->vcpu[i].lock);
		}
		atomic_store(&m->dead, ((1u << m->ncpu) - 1) & ~1u);
		atomic_store(&m->suspend, MACHINE_ALIVE);
	}
	freeze_thaw_all(m);
out:
	lock_release(&m->lock);
	return error;
}

int
machine_pick_engine(const char *name, const struct engine_ops **opsp,
    char *why, size_t whylen)
{
	static const char *const order[] = { "kvm", "soft" };
	const struct engine_ops *ops;
	char reason[128], first[160] = "";
	bool automatic = name == NULL || strcmp(name, "auto") == 0;

	if (!automatic && strcmp(name, "kvm") != 0 &&
	    strcmp(name, "soft") != 0) {
		snprintf(why, whylen,
		    "unknown engine \"%s\": auto, soft or kvm", name);
		return -EINVAL;
	}
	for (unsigned i = 0; i < BASE_ARRAY_LEN(order); i++) {
		if (!automatic && strcmp(order[i], name) != 0)
			continue;
		ops = engine_lookup(order[i]);
		reason[0] = '\0';
		if (ops == NULL) {
			snprintf(reason, sizeof(reason),
			    "not part of this build");
		} else if (ops->probe(reason, sizeof(reason)) == 0) {
			snprintf(why, whylen, "engine %s%s%s", ops->name,
			    automatic ? ": the best one usable here" : "",
			    first);
			*opsp = ops;
			return 0;
		}
		snprintf(first, sizeof(first), " (%s: %s)", order[i], reason);
		snprintf(why, whylen, "engine %s: %s", order[i], reason);
	}
	return -ENOTSUP;
}
