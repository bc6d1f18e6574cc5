/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The platform of a machine: local APICs, I/O APIC, timers, power, ACPI.
 * Above vmm, which calls it through machine_platform_ops; below libvmm, which
 * plugs it in.  What it needs of the core comes through platform_config, so it
 * can be tested alone.
 */
#ifndef PLATFORM_PLATFORM_H
#define PLATFORM_PLATFORM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "engine/engine.h"
#include "vmm/types.h"

struct platform;

struct platform_callbacks {
	/* None of these takes a lock below LOCK_RANK_ENGINE. */
	void (*notify)(void *arg, unsigned vcpu); /* an interrupt may wait */
	void (*nmi)(void *arg, unsigned vcpu);
	void (*init)(void *arg, unsigned vcpu);
	void (*sipi)(void *arg, unsigned vcpu, uint8_t vector);
	void (*suspend)(void *arg, enum vmm_suspend how, int status);
	/* guest memory; any length. => 0 or -errno */
	int (*write)(void *arg, gpa_t gpa, const void *buf, uint64_t len);
	int (*read)(void *arg, gpa_t gpa, void *buf, uint64_t len);
	uint64_t (*tsc)(void *arg, unsigned vcpu);
	/* For tests; both NULL: the host's clocks.  With a clock of its own a
	 * platform has no thread: platform_run_timers().  ns, monotonic; ns
	 * since 1970 */
	uint64_t (*now)(void *arg);
	uint64_t (*wall)(void *arg);
};

struct platform_config {
	const struct platform_callbacks *cb;
	void *arg;
	unsigned ncpu;
	uint64_t tsc_hz;
	bool debug_exit; /* port 0xf4 */
};

int platform_create(const struct platform_config *cfg,
    struct platform **pp) BASE_MUST_CHECK;
void platform_destroy(struct platform *p);
/* Runs the timers that are due by callbacks.now. */
void platform_run_timers(struct platform *p);

/* engine_callbacks of the same names */
int platform_pio(void *p, unsigned vcpu, uint16_t port, unsigned bytes,
    bool in, uint32_t *datap);
int platform_mmio(void *p, unsigned vcpu, gpa_t gpa, unsigned bytes,
    bool write, uint64_t *datap);
int platform_rdmsr(void *p, unsigned vcpu, uint32_t msr, uint64_t *valp);
int platform_wrmsr(void *p, unsigned vcpu, uint32_t msr, uint64_t val);
void platform_cpuid(void *p, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4]);
int platform_intr_pending(void *p, unsigned vcpu);
int platform_intr_accept(void *p, unsigned vcpu);
uint8_t platform_cr8_get(void *p, unsigned vcpu);
void platform_cr8_set(void *p, unsigned vcpu, uint8_t cr8);
void platform_vcpu_reset(void *p, unsigned vcpu, bool init);

/* Pins of the I/O APIC; those below 16 are also lines of the 8259s. */
int platform_irq_assert(struct platform *p, unsigned pin);
int platform_irq_deassert(struct platform *p, unsigned pin);
int platform_msi(struct platform *p, uint64_t addr, uint32_t data);
int platform_power_button(struct platform *p);

/* machine_platform_ops.stats */
unsigned platform_stats(void *p, int vcpu, struct engine_stat *st, unsigned n);

/* Writes the ACPI tables to guest memory in [gpa, gpa+len) below 1 MB.
 * => 0 with *rsdpp, -ENOSPC, or what write says */
int platform_acpi_build(struct platform *p, gpa_t gpa, uint64_t len,
    gpa_t *rsdpp) BASE_MUST_CHECK;

#endif /* PLATFORM_PLATFORM_H */
