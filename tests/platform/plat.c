/* SPDX-License-Identifier: BSD-2-Clause */
#include "plat.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static void
plat_notify(void *arg, unsigned vcpu)
{
	((struct plat *)arg)->notified[vcpu]++;
}

static void
plat_nmi(void *arg, unsigned vcpu)
{
	((struct plat *)arg)->nmi[vcpu]++;
}

static void
plat_init(void *arg, unsigned vcpu)
{
	((struct plat *)arg)->init[vcpu]++;
}

static void
plat_sipi(void *arg, unsigned vcpu, uint8_t vector)
{
	((struct plat *)arg)->sipi[vcpu]++;
	((struct plat *)arg)->sipi_vector[vcpu] = vector;
}

static void
plat_suspend(void *arg, enum vmm_suspend how, int status)
{
	((struct plat *)arg)->how = how;
	((struct plat *)arg)->status = status;
}

static int
plat_mem_write(void *arg, gpa_t gpa, const void *buf, uint64_t len)
{
	struct plat *t = arg;

	if (gpa > PLAT_MEM || len > PLAT_MEM - gpa)
		return -EFAULT;
	memcpy(t->mem + gpa, buf, len);
	return 0;
}

static int
plat_mem_read(void *arg, gpa_t gpa, void *buf, uint64_t len)
{
	struct plat *t = arg;

	if (gpa > PLAT_MEM || len > PLAT_MEM - gpa)
		return -EFAULT;
	memcpy(buf, t->mem + gpa, len);
	return 0;
}

static uint64_t
plat_tsc(void *arg, unsigned vcpu)
{
	const struct plat *t = arg;

	return t->now * (PLAT_TSC_HZ / 1000000000) +
	    (vcpu < 8 ? t->tsc_adjust[vcpu] : 0);
}

static uint64_t
plat_now(void *arg)
{
	return ((struct plat *)arg)->now;
}

static uint64_t
plat_wall(void *arg)
{
	return ((struct plat *)arg)->wall + ((struct plat *)arg)->now;
}

void
plat_start(struct plat *t)
{
	static const struct platform_callbacks cb = {
		.notify = plat_notify, .nmi = plat_nmi, .init = plat_init,
		.sipi = plat_sipi, .suspend = plat_suspend,
		.write = plat_mem_write, .read = plat_mem_read,
		.tsc = plat_tsc, .now = plat_now, .wall = plat_wall,
	};
	struct platform_config cfg = { .cb = &cb, .arg = t, .ncpu = PLAT_NCPU,
		.tsc_hz = PLAT_TSC_HZ, .debug_exit = true };

	memset(t, 0, sizeof(*t));
	t->now = 1000000007;
	t->wall = 1700000000ull * 1000000000;
	t->how = VMM_SUSPEND_NONE;
	t->status = -2;
	if (platform_create(&cfg, &t->p) != 0)
		abort();
}

void
plat_stop(struct plat *t)
{
	platform_destroy(t->p);
}

void
plat_jump(struct plat *t, uint64_t ns)
{
	t->now += ns;
	platform_run_timers(t->p);
}

void
plat_run(struct plat *t, uint64_t ns, uint64_t step)
{
	for (; ns > step; ns -= step)
		plat_jump(t, step);
	plat_jump(t, ns);
}

void
plat_out(struct plat *t, uint16_t port, uint8_t v)
{
	uint32_t d = v;

	if (platform_pio(t->p, 0, port, 1, false, &d) != 0)
		abort();
}

uint8_t
plat_in(struct plat *t, uint16_t port)
{
	uint32_t d = 0;

	if (platform_pio(t->p, 0, port, 1, true, &d) != 0)
		abort();
	return (uint8_t)d;
}

void
plat_write(struct plat *t, unsigned vcpu, gpa_t gpa, uint32_t v)
{
	uint64_t d = v;

	if (platform_mmio(t->p, vcpu, gpa, 4, true, &d) != 0)
		abort();
}

uint32_t
plat_read(struct plat *t, unsigned vcpu, gpa_t gpa)
{
	uint64_t d = 0;

	if (platform_mmio(t->p, vcpu, gpa, 4, false, &d) != 0)
		abort();
	return (uint32_t)d;
}
