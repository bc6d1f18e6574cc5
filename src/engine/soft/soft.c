/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine's table of operations: life of VMs and vCPUs, and the
 * doors to the parts that do the work.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "engine/soft/soft_int.h"

static struct soft_vm *
soft_vm_of(struct engine_vm *vm)
{
	return (struct soft_vm *)vm;
}

static struct soft_cpu *
soft_cpu_of(struct engine_vcpu *vcpu)
{
	return (struct soft_cpu *)vcpu;
}

static int
soft_probe(char *errbuf, size_t len)
{
	/* enter.S reads the GS base; the host's kernel must allow it. */
	if ((getauxval(AT_HWCAP2) & 2) == 0) {
		(void)snprintf(errbuf, len, "the soft engine needs a "
		    "processor and a kernel with FSGSBASE");
		return -ENOTSUP;
	}
	return 0;
}

static int
soft_vm_create(const struct engine_vm_config *cfg, struct engine_vm **vmp)
{
	struct soft_vm *vm;
	int error;

	if (cfg->ncpu == 0 || cfg->ncpu > VMM_MAXCPU)
		return -EINVAL;
	vm = calloc(1, sizeof(*vm));
	if (vm == NULL)
		return -ENOMEM;
	vm->cfg = *cfg;
	vm->pmap = cfg->pmap;
	vm->cb = cfg->cb;
	vm->arg = cfg->arg;
	vm->ncpu = cfg->ncpu;
	vm->translate = !cfg->no_translate;
	vm->no_lock = cfg->ncpu == 1;
	vm->tsc_start = __rdtsc();
	error = soft_cpuid_init(vm);
	if (error == 0)
		error = soft_cache_create(vm);
	if (error != 0) {
		soft_cpuid_fini(vm);
		free(vm);
		return error;
	}
	*vmp = (struct engine_vm *)vm;
	return 0;
}

static void
soft_vm_destroy(struct engine_vm *evm)
{
	struct soft_vm *vm = soft_vm_of(evm);

	soft_cache_destroy(vm);
	soft_cpuid_fini(vm);
	free(vm);
}

static int
soft_vcpu_create(struct engine_vm *evm, unsigned id, struct engine_vcpu **vcpup)
{
	struct soft_vm *vm = soft_vm_of(evm);
	struct soft_cpu *cpu;
	int error;

	if (id >= vm->ncpu || vm->cpu[id] != NULL)
		return -EINVAL;
	cpu = mmap(NULL, sizeof(*cpu), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (cpu == MAP_FAILED)
		return -ENOMEM;
	cpu->vm = vm;
	cpu->id = id;
	cpu->phys_bits = soft_cpuid_phys_bits(vm);
	atomic_store(&cpu->poll_ptr, &cpu->poll_ok);
	soft_tlb_init(cpu);
	error = soft_exec_init(cpu);
	if (error == 0) {
		error = soft_xlate_init(cpu);
		if (error != 0)
			soft_exec_fini(cpu);
	}
	if (error != 0) {
		(void)munmap(cpu, sizeof(*cpu));
		return error;
	}
	vm->cpu[id] = cpu;
	soft_reset(cpu, false);
	*vcpup = (struct engine_vcpu *)cpu;
	return 0;
}

static void
soft_vcpu_destroy(struct engine_vcpu *vcpu)
{
	struct soft_cpu *cpu = soft_cpu_of(vcpu);

	soft_xlate_fini(cpu);
	soft_exec_fini(cpu);
	cpu->vm->cpu[cpu->id] = NULL;
	(void)munmap(cpu, sizeof(*cpu));
}

static void
soft_vcpu_reset(struct engine_vcpu *vcpu, bool init)
{
	soft_reset(soft_cpu_of(vcpu), init);
}

static int
soft_vcpu_run(struct engine_vcpu *vcpu, struct vmm_exit *exit)
{
	struct soft_cpu *cpu = soft_cpu_of(vcpu);
	uint32_t size = exit->size;
	int error;

	soft_replay_answer(cpu, exit);
	cpu->event_check = cpu->nmi_check = true;
	cpu->exit.reason = VMM_EXIT_NONE;
	error = soft_run(cpu, exit);
	if (error != 0)
		return error;
	*exit = cpu->exit;
	exit->size = size;
	return 0;
}

static void
soft_vcpu_kick(struct engine_vcpu *vcpu)
{
	soft_kick(soft_cpu_of(vcpu));
}

static int
soft_op_get_reg(struct engine_vcpu *vcpu, enum vmm_reg reg, uint64_t *valp)
{
	return soft_get_reg(soft_cpu_of(vcpu), reg, valp);
}

static int
soft_op_set_reg(struct engine_vcpu *vcpu, enum vmm_reg reg, uint64_t val)
{
	return soft_set_reg(soft_cpu_of(vcpu), reg, val);
}

static int
soft_op_get_seg(struct engine_vcpu *vcpu, enum vmm_segreg seg,
    struct vmm_seg *sp)
{
	return soft_get_seg(soft_cpu_of(vcpu), seg, sp);
}

static int
soft_op_set_seg(struct engine_vcpu *vcpu, enum vmm_segreg seg,
    const struct vmm_seg *sp)
{
	return soft_seg_set(soft_cpu_of(vcpu), seg, sp);
}

/* What a guest with all features has: header and AVX. */
#define SOFT_XSAVE_LEN 832u

static int
soft_op_get_xsave(struct engine_vcpu *vcpu, void *buf, size_t *lenp)
{
	struct soft_cpu *cpu = soft_cpu_of(vcpu);

	if (*lenp < SOFT_XSAVE_LEN) {
		*lenp = SOFT_XSAVE_LEN;
		return -ENOSPC;
	}
	soft_fpu_put(cpu);
	memcpy(buf, cpu->xsave, SOFT_XSAVE_LEN);
	*lenp = SOFT_XSAVE_LEN;
	return 0;
}

static int
soft_op_set_xsave(struct engine_vcpu *vcpu, const void *buf, size_t len)
{
	return soft_fpu_set(soft_cpu_of(vcpu), buf, len);
}

static int
soft_op_inject(struct engine_vcpu *vcpu, uint8_t vector, bool has_error,
    uint32_t error)
{
	struct soft_cpu *cpu = soft_cpu_of(vcpu);

	if (vector > 31 || cpu->event.valid)
		return vector > 31 ? -EINVAL : -EBUSY;
	cpu->event.kind = vector == SOFT_EXC_NMI ? SOFT_EV_NMI :
	    SOFT_EV_FAULT;
	cpu->event.vector = vector;
	cpu->event.has_error = has_error;
	cpu->event.error = error;
	cpu->event.cr2 = cpu->cr2;
	cpu->event.valid = true;
	if (vector == SOFT_EXC_NMI)
		cpu->nmi_blocked = true;
	return 0;
}

static void
soft_gpa_written(struct engine_vm *vm, gpa_t gpa, uint64_t len)
{
	soft_cache_invalidate(soft_vm_of(vm), gpa, len);
}

/* The flag first: what is translated meanwhile is in the tables, and is
 * dropped, or sees it. */
static void
soft_memory_shared(struct engine_vm *evm)
{
	struct soft_vm *vm = soft_vm_of(evm);

	if (atomic_exchange(&vm->no_lock, false))
		soft_cache_invalidate(vm, 0, ~0ul);
}

static int
soft_op_gva_to_gpa(struct engine_vcpu *vcpu, gva_t gva, int access,
    gpa_t *gpap)
{
	return soft_gva_to_gpa(soft_cpu_of(vcpu), gva, access, gpap);
}

#define SOFT_STAT(n, f) { n, offsetof(struct soft_cpu, f) }
static const struct {
	const char *name;
	size_t off;
} soft_stat[] = {
	SOFT_STAT("soft.tlb.fills", st.tlb_fills),
	SOFT_STAT("soft.tlb.flushes", st.tlb_flushes),
	SOFT_STAT("soft.tlb.flush_page", st.tlb_flush_page),
	SOFT_STAT("soft.nested_faults", st.nested_faults),
	SOFT_STAT("soft.page_faults", st.page_faults),
	SOFT_STAT("soft.exceptions", st.exceptions),
	SOFT_STAT("soft.interrupts", st.interrupts),
	SOFT_STAT("soft.exec", st.exec),
	SOFT_STAT("soft.exec_thunk", st.exec_thunk),
	SOFT_STAT("soft.mmio", st.mmio),
	SOFT_STAT("soft.pio", st.pio),
	SOFT_STAT("soft.blocks_run", st.blocks_run),
	SOFT_STAT("soft.blocks_made", st.blocks_made),
	SOFT_STAT("soft.smc", st.smc),
	SOFT_STAT("soft.cache_flushes", st.cache_flushes),
	SOFT_STAT("soft.host_faults", st.host_faults),
	SOFT_STAT("soft.slow", st.slow),
	SOFT_STAT("soft.yields", st.yields),
	SOFT_STAT("soft.claims", st.claims),
	SOFT_STAT("soft.lookups", st.lookups),
	SOFT_STAT("soft.exec_flushes", st.exec_flushes),
	SOFT_STAT("soft.msr.unknown_reads", gp_msr_reads),
	SOFT_STAT("soft.msr.unknown_writes", gp_msr_writes),
};
#undef SOFT_STAT

static uint64_t
soft_stat_of(const struct soft_cpu *cpu, size_t off)
{
	const uint64_t *p =
	    (const uint64_t *)(const void *)((const char *)cpu + off);

	return cpu == NULL ? 0 : __atomic_load_n(p, __ATOMIC_RELAXED);
}

static unsigned
soft_stats(struct engine_vm *evm, struct engine_vcpu *vcpu,
    struct engine_stat *st, unsigned n)
{
	struct soft_vm *vm = soft_vm_of(evm);

	for (unsigned i = 0; i < n && i < BASE_ARRAY_LEN(soft_stat); i++) {
		st[i].name = soft_stat[i].name;
		st[i].value = 0;
		if (vcpu != NULL) {
			st[i].value = soft_stat_of(soft_cpu_of(vcpu),
			    soft_stat[i].off);
			continue;
		}
		for (unsigned c = 0; c < vm->ncpu; c++)
			if (vm->cpu[c] != NULL)
				st[i].value += soft_stat_of(vm->cpu[c],
				    soft_stat[i].off);
	}
	if (vcpu == NULL)
		return (unsigned)BASE_ARRAY_LEN(soft_stat) +
		    soft_cache_stats(vm, st + base_min(n,
		    (unsigned)BASE_ARRAY_LEN(soft_stat)),
		    n - base_min(n, (unsigned)BASE_ARRAY_LEN(soft_stat)));
	return BASE_ARRAY_LEN(soft_stat);
}

static uint64_t
soft_tsc_read(struct engine_vcpu *vcpu)
{
	return soft_tsc(soft_cpu_of(vcpu));
}

static uint64_t
soft_tsc_hz(struct engine_vm *vm)
{
	return soft_vm_of(vm)->tsc_hz;
}

const struct engine_ops engine_soft_ops = {
	.name = "soft",
	.probe = soft_probe,
	.vm_create = soft_vm_create,
	.vm_destroy = soft_vm_destroy,
	.vcpu_create = soft_vcpu_create,
	.vcpu_destroy = soft_vcpu_destroy,
	.vcpu_reset = soft_vcpu_reset,
	.vcpu_run = soft_vcpu_run,
	.vcpu_kick = soft_vcpu_kick,
	.get_reg = soft_op_get_reg,
	.set_reg = soft_op_set_reg,
	.get_seg = soft_op_get_seg,
	.set_seg = soft_op_set_seg,
	.get_xsave = soft_op_get_xsave,
	.set_xsave = soft_op_set_xsave,
	.inject = soft_op_inject,
	.gpa_written = soft_gpa_written,
	.gpa_unmapped = soft_gpa_written,
	.memory_shared = soft_memory_shared,
	.gva_to_gpa = soft_op_gva_to_gpa,
	.stats = soft_stats,
	.tsc_read = soft_tsc_read,
	.tsc_hz = soft_tsc_hz,
};
