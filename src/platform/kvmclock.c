/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The paravirtual clock that Linux knows as kvmclock: per vCPU a record that
 * says which time a TSC value is, and how fast the TSC runs.  The guest's TSC
 * is the host's plus a constant, so a record stays right until the guest moves
 * its TSC; then it is written anew.  Time is what an unmoved TSC would count.
 * Records are written by the vCPU that they are of, with an odd version
 * meanwhile.
 */
#include <errno.h>

#include "platform/platform_int.h"

#define KVMCLOCK_STABLE 1

struct kvmclock_time {
	uint32_t version, pad0;
	uint64_t tsc, system_ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad[2];
};
struct kvmclock_wall {
	uint32_t version, sec, nsec;
};

/* ns = (ticks << shift) * mul >> 32 */
static void
kvmclock_scale(uint64_t hz, uint32_t *mulp, int8_t *shiftp)
{
	uint64_t target = 1000000000, t = hz;
	int8_t shift = 0;

	while (t > target * 2) {
		t >>= 1;
		shift--;
	}
	while (t <= target) {
		t <<= 1;
		shift++;
	}
	*mulp = (uint32_t)(((unsigned __int128)target << 32) / t);
	*shiftp = shift;
}

static uint64_t
kvmclock_ns(const struct platform *p, unsigned vcpu, uint64_t tsc)
{
	return (uint64_t)((unsigned __int128)(tsc - p->clock.adjust[vcpu]) *
	    1000000000u / p->cfg.tsc_hz);
}

/* Do all vCPUs' TSCs count alike? */
static bool
kvmclock_stable(const struct platform *p)
{
	for (unsigned i = 1; i < p->cfg.ncpu; i++)
		if (atomic_load(&p->clock.adjust[i]) !=
		    atomic_load(&p->clock.adjust[0]))
			return false;
	return true;
}

static int
kvmclock_system(struct platform *p, unsigned vcpu, uint64_t val)
{
	struct kvmclock *k = &p->clock;
	struct kvmclock_time t = {
		.flags = kvmclock_stable(p) ? KVMCLOCK_STABLE : 0 };
	int error;

	k->system[vcpu] = val;
	if ((val & 1) == 0)
		return 0;
	t.version = k->version[vcpu] + 1;
	error = p->cb.write(p->cfg.arg, val & ~1ul, &t.version, 4);
	if (error != 0)
		return -EINVAL;
	kvmclock_scale(p->cfg.tsc_hz, &t.mul, &t.shift);
	t.tsc = p->cb.tsc(p->cfg.arg, vcpu);
	t.system_ns = kvmclock_ns(p, vcpu, t.tsc);
	error = p->cb.write(p->cfg.arg, (val & ~1ul) + 4, &t.pad0,
	    sizeof(t) - 4);
	if (error != 0)
		return -EINVAL;
	t.version++;
	k->version[vcpu] = t.version;
	error = p->cb.write(p->cfg.arg, val & ~1ul, &t.version, 4);
	return error == 0 ? 0 : -EINVAL;
}

static int
kvmclock_wall_clock(struct platform *p, uint64_t val)
{
	struct kvmclock_wall w = { .version = 2 };
	uint64_t up, now = platform_wall(p);

	p->clock.wall = val;
	up = kvmclock_ns(p, 0, p->cb.tsc(p->cfg.arg, 0));
	w.sec = (uint32_t)((now - up) / 1000000000u);
	w.nsec = (uint32_t)((now - up) % 1000000000u);
	return p->cb.write(p->cfg.arg, val, &w, sizeof(w)) == 0 ? 0 : -EINVAL;
}

void
kvmclock_reset(struct platform *p, unsigned vcpu)
{
	p->clock.system[vcpu] = 0;
	atomic_store(&p->clock.adjust[vcpu], 0);
}

/* TSC_ADJUST */
static int
kvmclock_adjust(struct platform *p, unsigned vcpu, uint64_t val)
{
	atomic_store(&p->clock.adjust[vcpu], val);
	lapic_tsc_moved(&p->lapic[vcpu]);
	if ((p->clock.system[vcpu] & 1) != 0)
		(void)kvmclock_system(p, vcpu, p->clock.system[vcpu]);
	return 0;
}

int
kvmclock_wrmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t val)
{
	switch (msr) {
	case 0x3b: return kvmclock_adjust(p, vcpu, val);
	case 0x11: case 0x4b564d00: return kvmclock_wall_clock(p, val);
	case 0x12: case 0x4b564d01: return kvmclock_system(p, vcpu, val);
	default: return -ENXIO;
	}
}

int
kvmclock_rdmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t *valp)
{
	switch (msr) {
	case 0x11: case 0x4b564d00: *valp = p->clock.wall; return 0;
	case 0x12: case 0x4b564d01: *valp = p->clock.system[vcpu]; return 0;
	default: return -ENXIO;
	}
}
