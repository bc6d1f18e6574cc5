/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest that does anything to the platform: ports, device memory, MSRs,
 * lines, messages, time.  The platform must stay whole (sanitizers, KASSERTs)
 * and keep its promises: a pending interrupt can be accepted, an unaligned or
 * wide access gives no bits beyond its width, timers come to an end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "../platform/plat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define STEP 12 /* operation, vCPU, place, value */

static const uint16_t fuzz_ports[] = { 0x20, 0x40, 0x60, 0x70, 0x80, 0xa0, 0x4d0,
	0x600, 0x608, 0x92, 0xcf9, 0xf4 };
static const uint32_t fuzz_msrs[] = { 0x1b, 0x6e0, 0x800, 0x820, 0x830, 0x11,
	0x4b564d00 };
static const gpa_t fuzz_pages[] = { 0xfee00000, 0xfec00000, 0xfed00000 };

static void
fuzz_access(struct plat *t, const uint8_t *s, unsigned vcpu, uint64_t val)
{
	static const unsigned width[] = { 1, 2, 4, 4 };
	unsigned bytes = width[s[1] >> 4 & 3];
	uint32_t v32 = (uint32_t)val, msr;
	uint64_t v64 = val;
	gpa_t gpa;

	switch (s[0] & 7) {
	case 0: case 1:
		if (platform_pio(t->p, vcpu, fuzz_ports[s[2] % 12] + s[3] % 8, bytes,
			s[0] & 1, &v32) == 0 && (s[0] & 1) != 0 && bytes < 4 &&
		    v32 >> bytes * 8 != 0)
			abort();
		break;
	case 2: case 3:
		gpa = fuzz_pages[s[2] % 3] + (s[3] << 4 | s[1] >> 6 << 2) % 0x1000;
		if (bytes == 4 && (s[1] & 8) != 0)
			bytes = 8;
		(void)platform_mmio(t->p, vcpu, gpa, bytes, (s[0] & 1) == 0, &v64);
		break;
	case 4: case 5:
		msr = fuzz_msrs[s[2] % 7] + s[3] % 32;
		if ((s[0] & 1) != 0)
			(void)platform_rdmsr(t->p, vcpu, msr, &v64);
		else
			(void)platform_wrmsr(t->p, vcpu, msr,
			    msr == 0x1b ? 0xfee00000 | (val & 0xfff) : val);
		break;
	case 6:
		if ((s[1] & 0x80) != 0)
			(void)platform_irq_assert(t->p, s[2] % 32);
		else
			(void)platform_irq_deassert(t->p, s[2] % 32);
		(void)platform_msi(t->p, val, (uint32_t)s[3] << 8 | s[2]);
		break;
	default:
		/* up to 4 seconds, seldom days */
		plat_jump(t, s[2] == 0xff ? val >> 16 : val % 4000000000);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	static struct plat t;
	unsigned vcpu;
	uint64_t val;

	plat_start(&t);
	for (; len >= STEP; data += STEP, len -= STEP) {
		memcpy(&val, data + 4, sizeof(val));
		vcpu = data[1] % PLAT_NCPU;
		fuzz_access(&t, data, vcpu, val);
		if (platform_intr_pending(t.p, vcpu) >= 0 &&
		    platform_intr_accept(t.p, vcpu) < 0)
			abort();
		if ((data[0] & 0x40) != 0)
			platform_cr8_set(t.p, vcpu, data[2]);
		if (platform_cr8_get(t.p, vcpu) > 15)
			abort();
		if ((data[0] & 0xf0) == 0x80)
			platform_vcpu_reset(t.p, vcpu, (data[2] & 1) != 0);
	}
	plat_stop(&t);
	return 0;
}
