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
#define PLATFORM_HPET_GPA 0xfed00000ul
#define PLATFORM_PINS 24
#define PLATFORM_SCI 9
/* A periodic timer's shortest period: below it ticks are merged. */
#define PLATFORM_MIN_NS 50000u

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
/* For queues with a clock of their own: runs what is due. */
void timer_run(struct timer_queue *q);

/* --- lapic.c ----------------------------------------------------------- */

enum {
	LAPIC_LVT_TIMER, LAPIC_LVT_THERMAL, LAPIC_LVT_PERF, LAPIC_LVT_LINT0,
	LAPIC_LVT_LINT1, LAPIC_LVT_ERROR, LAPIC_NLVT
};

#define LAPIC_TIMER_KHZ 1000000u /* before the divider */

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
	bool counting;	   /* a one-shot that ended counts no more */
	uint64_t start;	   /* ns at which the count began */
	uint64_t deadline; /* TSC */
	struct timer timer;
	_Atomic uint64_t timer_irqs, ipis, eois;
};

void lapic_create(struct platform *p, unsigned id);
void lapic_destroy(struct lapic *l);
void lapic_reset(struct lapic *l, bool init);
void lapic_mmio(struct lapic *l, uint64_t off, bool write, uint32_t *valp);
int lapic_rdmsr(struct lapic *l, uint32_t msr, uint64_t *valp);
int lapic_wrmsr(struct lapic *l, uint32_t msr, uint64_t val);
int lapic_pending(struct lapic *l);
int lapic_accept(struct lapic *l);
/* => its vCPU takes interrupts of the 8259s */
bool lapic_takes_extint(struct lapic *l);
/* Delivers to the local APICs that dest names. */
void lapic_deliver(struct platform *p, uint32_t dest, bool logical,
    unsigned mode, uint8_t vector, bool level);

/* --- the rest ---------------------------------------------------------- */

struct ioapic {
	struct lock lock; /* all of it */
	uint32_t id;
	uint32_t sel;
	uint64_t rte[PLATFORM_PINS];
	uint32_t level; /* pins asserted */
};
void ioapic_reset(struct platform *p);
void ioapic_mmio(struct platform *p, uint64_t off, bool write, uint32_t *valp);
void ioapic_set(struct platform *p, unsigned pin, bool level);
void ioapic_eoi(struct platform *p, uint8_t vector);

/* --- pic.c ------------------------------------------------------------- */

struct pic_chip {
	uint8_t irr, isr, imr, elcr, base;
	uint8_t line; /* inputs that are high */
	uint8_t top;  /* the line of highest priority */
	uint8_t state; /* the ICW that the data port expects, 0: none */
	bool single, icw4, auto_eoi, rotate_auto, nested, special_mask;
	bool read_isr, poll;
};
struct pic {
	struct lock lock; /* the chips; never held with the I/O APIC's */
	struct pic_chip chip[2];
	_Atomic bool out; /* PIC-2 */
};
void pic_reset(struct platform *p);
void pic_set(struct platform *p, unsigned irq, bool level);
int pic_accept(struct platform *p);
void pic_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp);

/* --- pit.c, rtc.c, legacy.c -------------------------------------------- */

#define PIT_HZ 1193182u

/* All times in PIT ticks. */
struct pit_channel {
	uint8_t mode, access, status, wlow;
	bool bcd, gate, loaded, latched, have_status, flip, wflip;
	uint16_t latch;
	uint32_t count;	  /* reload, 1..65536; 0: none yet */
	uint64_t start;	  /* when it was loaded or triggered */
	uint64_t held;	  /* elapsed when the gate fell */
	uint32_t next;	  /* replaces count at next_at; 0: none */
	uint64_t next_at;
};
struct rtc {
	struct timer timer;
	uint8_t index, reg[128];
	int64_t offset;	    /* seconds from the host's time to the guest's */
	uint64_t seen, seen_wall; /* ns: flags are computed up to here */
};
struct legacy {
	struct lock lock; /* all of it */
	struct pit_channel pit[3];
	struct timer pit_timer;
	uint64_t pit_due; /* tick of the next interrupt, 0: none */
	uint8_t port61;
	struct rtc rtc;
	uint16_t pm1_sts, pm1_en, pm1_cnt;
	struct timer pm_timer;
	uint64_t pm_half; /* PM timer >> 31 at the last look */
	uint8_t i8042_cmd, i8042_out, i8042_sts, i8042_ctr;
	uint8_t cf9, port92, post;
};
void legacy_reset(struct platform *p);
int legacy_pio(struct platform *p, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap);

/* --- hpet.c ------------------------------------------------------------ */

#define HPET_TIMERS 3

struct hpet_timer {
	struct platform *p;
	struct timer timer;
	uint32_t config;
	uint64_t cmp, period;
	uint64_t due; /* HPET-1 */
};
struct hpet {
	struct lock lock; /* all of it; never held with the legacy lock */
	uint32_t config, status;
	uint64_t held;	/* the count at start */
	uint64_t start; /* ns */
	struct hpet_timer timer[HPET_TIMERS];
	_Atomic bool legacy; /* it drives IRQ 0 and 8, PIT and RTC do not */
};
void hpet_reset(struct platform *p);
void hpet_mmio(struct platform *p, uint64_t off, unsigned bytes, bool write,
    uint64_t *valp);
bool hpet_replaces(struct platform *p);

/* The vCPU's TSC was set: its deadline is sooner or later. */
void lapic_tsc_moved(struct lapic *l);

/* --- kvmclock.c --------------------------------------------------------- */

struct kvmclock {
	uint64_t wall, system[VMM_MAXCPU];
	_Atomic uint64_t adjust[VMM_MAXCPU]; /* A: TSC_ADJUST */
	uint32_t version[VMM_MAXCPU];
};
void kvmclock_reset(struct platform *p, unsigned vcpu);
int kvmclock_wrmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t val);
int kvmclock_rdmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t *valp);

struct platform {
	struct platform_config cfg;
	struct platform_callbacks cb;
	struct timer_queue tq;
	struct lapic lapic[VMM_MAXCPU];
	struct ioapic ioapic;
	struct pic pic;
	struct legacy legacy;
	struct hpet hpet;
	struct kvmclock clock;
};

void pit_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp)
    LOCK_REQUIRES(&p->legacy.lock);
void pit_reset(struct platform *p) LOCK_REQUIRES(&p->legacy.lock);
void rtc_pio(struct platform *p, uint16_t port, bool in, uint8_t *vp)
    LOCK_REQUIRES(&p->legacy.lock);
void rtc_reset(struct platform *p) LOCK_REQUIRES(&p->legacy.lock);

/* ns in ticks of hz */
static inline uint64_t
platform_scale(uint64_t ns, uint32_t hz)
{
	return (uint64_t)((unsigned __int128)ns * hz / 1000000000u);
}
/* The host's time of day: ns since 1970, UTC. */
uint64_t platform_wall(struct platform *p);
/* An ISA interrupt line, at both controllers. */
void platform_line(struct platform *p, unsigned irq, bool level);

#endif /* PLATFORM_PLATFORM_INT_H */
