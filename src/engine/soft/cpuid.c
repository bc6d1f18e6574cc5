/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the guest is told about its processor: what the host has, cut down to
 * what the engine carries out.  The host's leaves are read once per VM (CPUID
 * is dear inside a hypervisor) and kept; what depends on the vCPU and on its
 * state is put in per call, and the layer above edits last (APIC id,
 * topology, hypervisor leaves).
 *
 * A feature is offered only if it is in the masks below: add it there when
 * decode.c and the executor know it.
 */
#include <cpuid.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

#include "engine/soft/soft_int.h"

#define BIT(n) (1u << (n))
#define CPUID_BASIC_MAX 0x16u
#define CPUID_EXT 0x80000000u
#define CPUID_EXT_MAX 0x80000021u
#define CPUID_PHYS_BITS 46u

struct cpuid_leaf {
	uint32_t r[4]; /* eax ebx ecx edx */
};

struct cpuid_table {
	uint32_t basic_max, ext_max;
	struct cpuid_leaf basic[CPUID_BASIC_MAX + 1];
	struct cpuid_leaf cache[8];	/* leaf 4 by subleaf */
	struct cpuid_leaf seven1;	/* leaf 7, subleaf 1 */
	struct cpuid_leaf xsave[3];	/* leaf 0xd by subleaf */
	struct cpuid_leaf ext[CPUID_EXT_MAX - CPUID_EXT + 1];
	uint32_t phys_bits;
	uint32_t word[SOFT_CPUID_WORDS];
};

#define CPUID_1_ECX_MASK (BIT(0) | BIT(1) | BIT(9) | BIT(12) | BIT(13) | \
    BIT(17) | BIT(19) | BIT(20) | BIT(22) | BIT(23) | BIT(25) | BIT(26) | \
    BIT(28) | BIT(29) | BIT(30))
/* x2APIC, TSC deadline, hypervisor: ours, whatever the host has */
#define CPUID_1_ECX_OURS (BIT(21) | BIT(24) | BIT(31))
#define CPUID_1_EDX_MASK (BIT(0) | BIT(2) | BIT(3) | BIT(4) | BIT(5) | \
    BIT(6) | BIT(7) | BIT(8) | BIT(9) | BIT(11) | BIT(12) | BIT(13) | \
    BIT(14) | BIT(15) | BIT(16) | BIT(17) | BIT(19) | BIT(23) | BIT(24) | \
    BIT(25) | BIT(26))
#define CPUID_7_EBX_MASK (BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(6) | \
    BIT(7) | BIT(8) | BIT(9) | BIT(10) | BIT(13) | BIT(18) | BIT(19) | \
    BIT(20) | BIT(23) | BIT(24) | BIT(29))
#define CPUID_7_ECX_MASK (BIT(2) | BIT(8) | BIT(9) | BIT(10) | BIT(22))
#define CPUID_7_EDX_MASK BIT(4)
#define CPUID_71_EAX_MASK BIT(4)
#define CPUID_81_ECX_MASK (BIT(0) | BIT(5) | BIT(6) | BIT(7) | BIT(8))
/* On AMD the low ones repeat leaf 1. */
#define CPUID_81_EDX_COMMON (CPUID_1_EDX_MASK & 0x0183f3ffu)
#define CPUID_81_EDX_MASK (BIT(11) | BIT(20) | BIT(22) | BIT(26) | BIT(27) | \
    BIT(29))

/*
 * Attacks by speculation.  What a guest could do about them does nothing here:
 * its indirect jumps and returns all go through the translator's own jump.  So
 * the processor is described as one that looks after itself (AMD: automatic
 * IBRS; Intel: enhanced IBRS), and kernels leave retpolines, untrained returns
 * and page-table isolation out.  docs/CAVEATS-cpu.md says what that means.
 */
#define CPUID_7_EDX_SPEC (BIT(26) | BIT(29)) /* SPEC_CTRL, ARCH_CAPABILITIES */
#define CPUID_72_EDX_SPEC BIT(4) /* BHI_DIS_S in SPEC_CTRL */
#define CPUID_88_EBX_SPEC (BIT(26) | BIT(29)) /* not affected: SSB, BTC */
#define CPUID_88_EBX_MASK BIT(2)             /* XRSTOR error pointers */
#define CPUID_821_EAX_SPEC (BIT(8) | BIT(29)) /* automatic IBRS; not SRSO */
#define CPUID_821_ECX_SPEC (BIT(1) | BIT(2))  /* not TSA */

static void
cpuid_host(uint32_t leaf, uint32_t sub, struct cpuid_leaf *l)
{
	__cpuid_count(leaf, sub, l->r[0], l->r[1], l->r[2], l->r[3]);
}

uint64_t
soft_host_tsc_hz(void)
{
	static uint64_t hz; /* same value whoever computes it */
	struct timespec a, b;
	uint64_t t0, t1, ns;

	if (__atomic_load_n(&hz, __ATOMIC_RELAXED) != 0)
		return hz;
	clock_gettime(CLOCK_MONOTONIC_RAW, &a);
	t0 = __rdtsc();
	do {
		clock_gettime(CLOCK_MONOTONIC_RAW, &b);
		t1 = __rdtsc();
		ns = (uint64_t)(b.tv_sec - a.tv_sec) * 1000000000ul +
		    (uint64_t)b.tv_nsec - (uint64_t)a.tv_nsec;
	} while (ns < 20000000);
	/* To 10 kHz: the error of the measurement is larger. */
	__atomic_store_n(&hz, (uint64_t)((unsigned __int128)(t1 - t0) *
	    1000000000u / ns + 5000) / 10000 * 10000, __ATOMIC_RELAXED);
	return hz;
}

static void
cpuid_xsave(struct cpuid_table *t)
{
	uint64_t f = soft_fpu_features();
	uint32_t host1 = t->xsave[1].r[0];

	memset(t->xsave, 0, sizeof(t->xsave));
	t->xsave[0].r[0] = (uint32_t)f;
	t->xsave[0].r[2] = (f & 4) != 0 ? 832 : 576;
	t->xsave[1].r[0] = host1 & BIT(0); /* XSAVEOPT */
	if ((f & 4) != 0) {
		t->xsave[2].r[0] = 256;
		t->xsave[2].r[1] = 576;
	}
}

static void
cpuid_basic(struct soft_vm *vm, struct cpuid_table *t)
{
	struct cpuid_leaf *l = t->basic;
	uint64_t hz = vm->tsc_hz;

	l[0].r[0] = CPUID_BASIC_MAX;
	l[1].r[1] &= 0xff00; /* CLFLUSH size */
	l[1].r[2] = (l[1].r[2] & CPUID_1_ECX_MASK) | CPUID_1_ECX_OURS;
	l[1].r[3] &= CPUID_1_EDX_MASK;
	l[7].r[0] = vm->intel ? 2 : 1;
	l[7].r[1] &= CPUID_7_EBX_MASK;
	l[7].r[2] &= CPUID_7_ECX_MASK;
	l[7].r[3] = (l[7].r[3] & CPUID_7_EDX_MASK) |
	    (vm->intel ? CPUID_7_EDX_SPEC : 0);
	if ((soft_fpu_features() & 4) == 0) {
		/* No YMM state: nothing that is VEX-encoded. */
		l[1].r[2] &= ~(BIT(12) | BIT(28) | BIT(29));
		l[7].r[1] &= ~BIT(5);
		l[7].r[2] &= ~(BIT(9) | BIT(10));
		t->seven1.r[0] = 0;
	}
	t->seven1 = (struct cpuid_leaf){ { t->seven1.r[0] & CPUID_71_EAX_MASK,
		0, 0, 0 } };
	for (uint32_t i = 8; i <= CPUID_BASIC_MAX; i++)
		memset(&l[i], 0, sizeof(l[i]));
	memset(&l[3], 0, sizeof(l[3]));
	memset(&l[5], 0, sizeof(l[5]));
	memset(&l[6], 0, sizeof(l[6]));
	l[6].r[0] = BIT(2); /* the local APIC timer never stops */
	/* TSC = crystal * 1 / 1, then the base frequency in MHz */
	l[0x15].r[0] = l[0x15].r[1] = 1;
	l[0x15].r[2] = hz <= UINT32_MAX ? (uint32_t)hz : 0;
	l[0x16].r[0] = l[0x16].r[1] = (uint32_t)(hz / 1000000);
	l[0x16].r[2] = 100;
	/* Caches: none shared between vCPUs. */
	for (unsigned i = 0; i < BASE_ARRAY_LEN(t->cache); i++)
		t->cache[i].r[0] &= 0x3fff;
}

static void
cpuid_extended(struct soft_vm *vm, struct cpuid_table *t)
{
	struct cpuid_leaf *l = t->ext;
	uint32_t host = l[0].r[0], common = 0;

	t->ext_max = vm->intel ? CPUID_EXT + 8 : CPUID_EXT_MAX;
	l[0].r[0] = t->ext_max;
	if (!vm->intel)
		common = l[1].r[3] & CPUID_81_EDX_COMMON;
	l[1].r[2] &= CPUID_81_ECX_MASK;
	l[1].r[3] = (l[1].r[3] & CPUID_81_EDX_MASK) | common;
	l[7] = (struct cpuid_leaf){ { 0, 0, 0, BIT(8) } }; /* invariant TSC */
	t->phys_bits = host >= CPUID_EXT + 8 ? l[8].r[0] & 0xff : 36;
	if (t->phys_bits > CPUID_PHYS_BITS)
		t->phys_bits = CPUID_PHYS_BITS;
	l[8] = (struct cpuid_leaf){ { t->phys_bits | 48 << 8, vm->intel ? 0 :
		(l[8].r[1] & CPUID_88_EBX_MASK) | CPUID_88_EBX_SPEC, 0, 0 } };
	for (uint32_t i = 9; i <= CPUID_EXT_MAX - CPUID_EXT; i++) {
		if (i != 0x21)
			memset(&l[i], 0, sizeof(l[i]));
	}
	/* LFENCE serializes as the host's does; a null selector clears the
	 * base, which is seg.c's doing. */
	l[0x21] = (struct cpuid_leaf){ { (l[0x21].r[0] & BIT(2)) | BIT(6) |
		CPUID_821_EAX_SPEC, 0, CPUID_821_ECX_SPEC, 0 } };
}

int
soft_cpuid_init(struct soft_vm *vm)
{
	struct cpuid_table *t = calloc(1, sizeof(*t));
	struct cpuid_leaf l;

	if (t == NULL)
		return -ENOMEM;
	cpuid_host(0, 0, &l);
	t->basic_max = l.r[0];
	/* "Genu": Intel; the others follow AMD. */
	vm->intel = l.r[1] == 0x756e6547;
	for (uint32_t i = 0; i <= CPUID_BASIC_MAX && i <= t->basic_max; i++)
		cpuid_host(i, 0, &t->basic[i]);
	if (t->basic_max >= 4)
		for (uint32_t i = 0; i < BASE_ARRAY_LEN(t->cache); i++)
			cpuid_host(4, i, &t->cache[i]);
	if (t->basic_max >= 7 && t->basic[7].r[0] >= 1)
		cpuid_host(7, 1, &t->seven1);
	if (t->basic_max >= 0xd)
		cpuid_host(0xd, 1, &t->xsave[1]);
	cpuid_host(CPUID_EXT, 0, &t->ext[0]);
	for (uint32_t i = 1; i <= CPUID_EXT_MAX - CPUID_EXT &&
	    CPUID_EXT + i <= t->ext[0].r[0]; i++)
		cpuid_host(CPUID_EXT + i, 0, &t->ext[i]);
	vm->tsc_hz = soft_host_tsc_hz();
	cpuid_basic(vm, t);
	cpuid_xsave(t);
	cpuid_extended(vm, t);
	t->basic_max = CPUID_BASIC_MAX;
	t->word[SOFT_CPUID_1_ECX] = t->basic[1].r[2];
	t->word[SOFT_CPUID_1_EDX] = t->basic[1].r[3];
	t->word[SOFT_CPUID_7_EBX] = t->basic[7].r[1];
	t->word[SOFT_CPUID_7_ECX] = t->basic[7].r[2];
	t->word[SOFT_CPUID_7_EDX] = t->basic[7].r[3];
	t->word[SOFT_CPUID_81_ECX] = t->ext[1].r[2];
	t->word[SOFT_CPUID_81_EDX] = t->ext[1].r[3];
	t->word[SOFT_CPUID_D1_EAX] = t->xsave[1].r[0];
	vm->cpuid = t;
	return 0;
}

void
soft_cpuid_fini(struct soft_vm *vm)
{
	free(vm->cpuid);
	vm->cpuid = NULL;
}

bool
soft_has(const struct soft_vm *vm, enum soft_cpuid_word w, unsigned bit)
{
	const struct cpuid_table *t = vm->cpuid;

	return (t->word[w] >> bit & 1) != 0;
}

uint32_t
soft_cpuid_phys_bits(const struct soft_vm *vm)
{
	const struct cpuid_table *t = vm->cpuid;

	return t->phys_bits;
}

uint32_t
soft_cpuid_signature(const struct soft_vm *vm)
{
	const struct cpuid_table *t = vm->cpuid;

	return t->basic[1].r[0];
}

/* Two levels: one thread in a core, all cores in one package. */
static void
cpuid_topology(const struct soft_cpu *cpu, uint32_t sub, struct cpuid_leaf *l)
{
	unsigned n = cpu->vm->ncpu, bits = 0;

	while ((1u << bits) < n)
		bits++;
	memset(l, 0, sizeof(*l));
	l->r[2] = sub & 0xff;
	l->r[3] = cpu->id;
	if (sub == 0) {
		l->r[1] = 1;
		l->r[2] |= 1 << 8;
	} else if (sub == 1) {
		l->r[0] = bits;
		l->r[1] = n;
		l->r[2] |= 2 << 8;
	}
}

static void
cpuid_leaf_basic(const struct soft_cpu *cpu, const struct cpuid_table *t,
    uint32_t leaf, uint32_t sub, struct cpuid_leaf *l)
{
	unsigned n = cpu->vm->ncpu;

	*l = t->basic[leaf];
	switch (leaf) {
	case 1:
		l->r[1] |= cpu->id << 24 | n << 16;
		if (n > 1)
			l->r[3] |= BIT(28);
		if ((cpu->cr4 & SOFT_CR4_OSXSAVE) != 0)
			l->r[2] |= BIT(27);
		break;
	case 4:
		memset(l, 0, sizeof(*l));
		if (sub < BASE_ARRAY_LEN(t->cache))
			*l = t->cache[sub];
		if ((l->r[0] & 0x1f) != 0)
			l->r[0] |= (n - 1) << 26;
		break;
	case 7:
		if (sub != 0)
			memset(l, 0, sizeof(*l));
		if (sub == 1)
			*l = t->seven1;
		if (sub == 2 && cpu->vm->intel)
			l->r[3] = CPUID_72_EDX_SPEC;
		break;
	case 0xb:
		cpuid_topology(cpu, sub, l);
		break;
	case 0xd:
		if (sub < BASE_ARRAY_LEN(t->xsave))
			*l = t->xsave[sub];
		if (sub == 0)
			l->r[1] = (cpu->xcr0 & 4) != 0 ? 832 : 576;
		break;
	default:
		break;
	}
}

void
soft_cpuid(struct soft_cpu *cpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4])
{
	const struct cpuid_table *t = cpu->vm->cpuid;
	unsigned n = cpu->vm->ncpu, bits = 0;
	struct cpuid_leaf l = { { 0, 0, 0, 0 } };

	if (leaf >= CPUID_EXT && leaf <= t->ext_max) {
		l = t->ext[leaf - CPUID_EXT];
		if (leaf == CPUID_EXT + 8 && !cpu->vm->intel) {
			while ((1u << bits) < n)
				bits++;
			l.r[2] = (n - 1) | bits << 12;
		}
		if (leaf == CPUID_EXT + 1 && !cpu->vm->intel && n > 1)
			l.r[2] |= BIT(1); /* cores, not threads */
	} else if (leaf <= t->basic_max) {
		cpuid_leaf_basic(cpu, t, leaf, subleaf, &l);
	} else if (leaf >> 28 != 4) {
		/* Out of range: as Intel and AMD do, zeros or the last. */
		if (leaf < CPUID_EXT && cpu->vm->intel)
			cpuid_leaf_basic(cpu, t, t->basic_max, subleaf, &l);
	}
	memcpy(regs, l.r, sizeof(l.r));
	soft_leave(cpu);
	cpu->vm->cb->cpuid(cpu->vm->arg, cpu->id, leaf, subleaf, regs);
	soft_enter(cpu);
}
