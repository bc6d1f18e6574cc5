/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to the platform. */
#ifndef PLATFORM_PLATFORM_INT_H
#define PLATFORM_PLATFORM_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/lock.h"
#include "platform/platform.h"

#define PLATFORM_IOAPIC_GPA 0xfec00000ul
#define PLATFORM_LAPIC_GPA 0xfee00000ul
#define PLATFORM_PINS 24
#define PLATFORM_SCI 9

/* --- timer.c ----------------------------------------------------------- */

struct timer;
typedef void timer_fn(void *arg);
/* One deadline; embedded in its owner. */
struct timer {
	struct timer *next;
	uint64_t when; /* ns, monotonic; Q: queue lock */
	bool armed;    /* Q */
	timer_fn *fn;
	void *arg;
};
struct timer_queue {
	struct lock lock;
	struct lock_cond cond;
	struct timer *head; /* Q: sorted */
	bool stop;	    /* Q */
	pthread_t thread;
	uint64_t (*now)(void *arg);
	void *arg;
};
int timer_queue_init(struct timer_queue *q, uint64_t (*now)(void *), void *arg);
void timer_queue_fini(struct timer_queue *q);
/* Callbacks run on the queue's thread with no lock held; one may still run
 * when cancel returns, so they check their owner's state. */
void timer_set(struct timer_queue *q, struct timer *t, uint64_t when);
void timer_cancel(struct timer_queue *q, struct timer *t);
uint64_t timer_now(struct timer_queue *q);

/* --- lapic.c ----------------------------------------------------------- */

enum {
	LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERF, LAPIC_LVT_LINT0,
	LAPIC_LVT_LINT1, LAPIC_LVT_ERROR, LAPIC_NLVT
};

struct lapic {
	struct platform *p;
	unsigned id;
	struct lock lock;
	/* all below L: lock */
	uint64_t base; /* APIC_BASE */
	uint32_t tpr, ldr, dfr, svr, esr, esr_pending;
	uint32_t irr[8], isr[8], tmr[8];
	uint32_t lvt[LAPIC_NLVT];
	uint64_t icr;
	uint32_t icount, dcr;
	uint64_t start;	   /* ns at which the count began */
	uint64_t deadline; /* TSC */
	struct timer timer;
	_Atomic uint64_t timer_irqs, ipis, eois;
};

void lapic_create(struct platform *p, unsigned id);
void lapic_destroy(struct lapic *l);
void lapic_reset(struct lapic *l, bool init);
int lapic_mmio(struct lapic *l, uint64_t off, bool write, uint32_t *valp);
int lapic_rdmsr(struct lapic *l, uint32_t msr, uint64_t *valp);
int lapic_wrmsr(struct lapic *l, uint32_t msr, uint64_t val);
int lapic_pending(struct lapic *l);
int lapic_accept(struct lapic *l);
/* Delivers to the local APICs that dest names. */
void lapic_deliver(struct platform *p, uint32_t dest, bool logical,
    unsigned mode, uint8_t vector, bool level);

/* --- the rest ---------------------------------------------------------- */

struct ioapic {
	struct lock lock;
	uint32_t sel;
	uint64_t rte[PLATFORM_PINS];
	uint32_t level; /* pins asserted */
};
void ioapic_reset(struct platform *p);
int ioapic_mmio(struct platform *p, uint64_t off, bool write, uint32_t *valp);
void ioapic_set(struct platform *p, unsigned pin, bool level);
void ioapic_eoi(struct platform *p, uint8_t vector);

struct pit_channel {
	uint8_t mode, access, latched_status, status;
	bool latched, flip, gate, bcd, wflip, have_status;
	uint16_t latch;
	uint8_t wlow;
	uint32_t count;	   /* reload, 1..65536; 0: none yet */
	uint64_t start;	   /* ns when counting began */
};
struct legacy {
	struct lock lock;
	struct pit_channel pit[3];
	struct timer pit_timer;
	uint64_t pit_next;
	uint8_t port61;
	uint8_t pic_imr[2], pic_icw[2];
	uint8_t pic_base[2];
	uint8_t cmos_index;
	uint8_t cmos[128];
	uint16_t pm1_sts, pm1_en, pm1_cnt;
	uint8_t i8042_cmd, i8042_out;
	bool i8042_full;
};
void legacy_reset(struct platform *p);
int legacy_pio(struct platform *p, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap);

struct kvmclock {
	uint64_t wall, system[VMM_MAXCPU];
	uint32_t version[VMM_MAXCPU];
};
int kvmclock_wrmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t val);
int kvmclock_rdmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t *valp);

struct platform {
	struct platform_config cfg;
	struct platform_callbacks cb;
	struct timer_queue tq;
	struct lapic lapic[VMM_MAXCPU];
	struct ioapic ioapic;
	struct legacy legacy;
	struct kvmclock clock;
};

#endif /* PLATFORM_PLATFORM_INT_H */
