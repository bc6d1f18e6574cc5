/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The paravirtual clock that Linux knows as kvmclock: per vCPU a record that
 * says which time a TSC value is, and how fast the TSC runs.  The guest's TSC
 * is the host's plus a constant, so a record stays right once written.
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

static int
kvmclock_system(struct platform *p, unsigned vcpu, uint64_t val)
{
	struct kvmclock *k = &p->clock;
	struct kvmclock_time t = { .flags = KVMCLOCK_STABLE };
	int error;

	k->system[vcpu] = val;
	if ((val & 1) == 0)
		return 0;
	k->version[vcpu] += 2;
	t.version = k->version[vcpu];
	kvmclock_scale(p->cfg.tsc_hz, &t.mul, &t.shift);
	/* all vCPUs share one TSC: the same pair for each */
	t.tsc = p->cb.tsc(p->cfg.arg, vcpu);
	t.system_ns = (uint64_t)((unsigned __int128)t.tsc * 1000000000u /
	    p->cfg.tsc_hz);
	error = p->cb.write(p->cfg.arg, val & ~1ul, &t, sizeof(t));
	return error == 0 ? 0 : -EINVAL;
}

static int
kvmclock_wall_clock(struct platform *p, uint64_t val)
{
	struct kvmclock_wall w = { .version = 2 };
	uint64_t up, now = platform_wall(p);

	p->clock.wall = val;
	up = (uint64_t)((unsigned __int128)p->cb.tsc(p->cfg.arg, 0) * 1000000000u /
	    p->cfg.tsc_hz);
	w.sec = (uint32_t)((now - up) / 1000000000u);
	w.nsec = (uint32_t)((now - up) % 1000000000u);
	return p->cb.write(p->cfg.arg, val, &w, sizeof(w)) == 0 ? 0 : -EINVAL;
}

int
kvmclock_wrmsr(struct platform *p, unsigned vcpu, uint32_t msr, uint64_t val)
{
	switch (msr) {
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
