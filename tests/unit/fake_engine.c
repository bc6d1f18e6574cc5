/* SPDX-License-Identifier: BSD-2-Clause */
#include "fake.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

struct engine_vm {
	struct engine_vm_config cfg;
};
struct engine_vcpu {
	struct fake_cpu cpu;
};

bool (*fake_step)(struct fake_cpu *cpu, struct vmm_exit *ex);
struct fake_cpu *fake_cpus[VMM_MAXCPU];
_Atomic unsigned fake_written, fake_unmapped;
int fake_fail_vcpu = -1;

static int
fake_probe(char *errbuf, size_t len)
{
	(void)errbuf;
	(void)len;
	return 0;
}

static int
fake_vm_create(const struct engine_vm_config *cfg, struct engine_vm **vmp)
{
	*vmp = calloc(1, sizeof(**vmp));
	(*vmp)->cfg = *cfg;
	return 0;
}

static void
fake_vm_destroy(struct engine_vm *vm)
{
	free(vm);
}

static int
fake_vcpu_create(struct engine_vm *vm, unsigned id, struct engine_vcpu **vp)
{
	struct engine_vcpu *v;

	if ((int)id == fake_fail_vcpu)
		return -ENOMEM;
	v = calloc(1, sizeof(*v));
	v->cpu.cb = vm->cfg.cb;
	v->cpu.arg = vm->cfg.arg;
	v->cpu.id = id;
	fake_cpus[id] = &v->cpu;
	*vp = v;
	return 0;
}

static void
fake_vcpu_destroy(struct engine_vcpu *v)
{
	fake_cpus[v->cpu.id] = NULL;
	free(v);
}

static void
fake_vcpu_reset(struct engine_vcpu *v, bool init)
{
	for (int i = 0; i < VMM_REG_COUNT; i++)
		v->cpu.reg[i] = 0;
	v->cpu.reg[VMM_REG_RFLAGS] = 2;
	v->cpu.reg[VMM_REG_RIP] = 0xfff0;
	atomic_fetch_add(init ? &v->cpu.inits : &v->cpu.resets, 1);
}

static int
fake_vcpu_run(struct engine_vcpu *v, struct vmm_exit *ex)
{
	struct fake_cpu *c = &v->cpu;

	atomic_store(&c->running, true);
	for (;;) {
		if (c->cb->must_exit(c->arg, c->id)) {
			ex->reason = VMM_EXIT_INTR;
			break;
		}
		if (fake_step != NULL && fake_step(c, ex))
			break;
		sched_yield();
	}
	atomic_store(&c->running, false);
	return 0;
}

static void
fake_vcpu_kick(struct engine_vcpu *v)
{
	atomic_fetch_add(&v->cpu.kicks, 1);
}

static int
fake_get_reg(struct engine_vcpu *v, enum vmm_reg reg, uint64_t *valp)
{
	if ((unsigned)reg >= VMM_REG_COUNT)
		return -EINVAL;
	KASSERT(!atomic_load(&v->cpu.running), "VCPU-1: register read");
	*valp = v->cpu.reg[reg];
	return 0;
}

static int
fake_set_reg(struct engine_vcpu *v, enum vmm_reg reg, uint64_t val)
{
	if ((unsigned)reg >= VMM_REG_COUNT)
		return -EINVAL;
	KASSERT(!atomic_load(&v->cpu.running), "VCPU-1: register write");
	v->cpu.reg[reg] = val;
	return 0;
}

static int
fake_get_seg(struct engine_vcpu *v, enum vmm_segreg seg, struct vmm_seg *sp)
{
	if ((unsigned)seg >= VMM_SEG_COUNT)
		return -EINVAL;
	*sp = v->cpu.seg[seg];
	return 0;
}

static int
fake_set_seg(struct engine_vcpu *v, enum vmm_segreg seg,
    const struct vmm_seg *sp)
{
	if ((unsigned)seg >= VMM_SEG_COUNT)
		return -EINVAL;
	v->cpu.seg[seg] = *sp;
	return 0;
}

static void
fake_gpa_written(struct engine_vm *vm, gpa_t gpa, uint64_t len)
{
	(void)vm;
	(void)gpa;
	(void)len;
	atomic_fetch_add(&fake_written, 1);
}

static void
fake_memory_shared(struct engine_vm *vm)
{
	(void)vm;
}

static void
fake_gpa_unmapped(struct engine_vm *vm, gpa_t gpa, uint64_t len)
{
	(void)vm;
	(void)gpa;
	(void)len;
	atomic_fetch_add(&fake_unmapped, 1);
}

static int
fake_gva_to_gpa(struct engine_vcpu *v, gva_t gva, int access, gpa_t *gpap)
{
	(void)v;
	(void)access;
	*gpap = gva;
	return 0;
}

static unsigned
fake_stats(struct engine_vm *vm, struct engine_vcpu *v,
    struct engine_stat *st, unsigned n)
{
	(void)vm;
	if (n > 0)
		st[0] = (struct engine_stat){ v == NULL ? "fake.vm" :
							  "fake.vcpu",
			7 };
	return 1;
}

static uint64_t
fake_tsc_read(struct engine_vcpu *v)
{
	(void)v;
	return 1;
}

static uint64_t
fake_tsc_hz(struct engine_vm *vm)
{
	(void)vm;
	return 1000000000;
}

const struct engine_ops fake_engine = {
	.name = "fake",
	.probe = fake_probe,
	.vm_create = fake_vm_create,
	.vm_destroy = fake_vm_destroy,
	.vcpu_create = fake_vcpu_create,
	.vcpu_destroy = fake_vcpu_destroy,
	.vcpu_reset = fake_vcpu_reset,
	.vcpu_run = fake_vcpu_run,
	.vcpu_kick = fake_vcpu_kick,
	.get_reg = fake_get_reg,
	.set_reg = fake_set_reg,
	.get_seg = fake_get_seg,
	.set_seg = fake_set_seg,
	.gpa_written = fake_gpa_written,
	.gpa_unmapped = fake_gpa_unmapped,
	.memory_shared = fake_memory_shared,
	.gva_to_gpa = fake_gva_to_gpa,
	.stats = fake_stats,
	.tsc_read = fake_tsc_read,
	.tsc_hz = fake_tsc_hz,
};

/* In place of engine/engine.c: the fake one stands for "soft". */
const struct engine_ops *
engine_lookup(const char *name)
{
	return strcmp(name, "soft") == 0 ? &fake_engine : NULL;
}
