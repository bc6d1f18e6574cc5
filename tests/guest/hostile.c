/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hostile guests: hostile [FIRST [COUNT]].  Each is a machine full of random
 * bytes, with system instructions strewn in and half-sane tables, started in
 * real, protected or long mode, ring 0 or 3.  Whatever it does, run() must come
 * back with an exit and the process must live; sanitizer builds see the rest.
 * A guest is ended after some milliseconds or some thousand exits.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmm/vmm.h>

#include "base/log.h"

#define MEM (1u << 20)
#define TABLES 0x10000u
#define GDT 0x8000u
#define IDT 0x9000u
#define TSS 0xa000u
#define CODE 0x1000u
#define CODE_END 0x8000u

enum hostile_mode { REAL, PROTECTED, PAGED, LONG, MODES };

static uint64_t hostile_state;
static uint8_t hostile_mem[MEM];
static const uint8_t hostile_ops[][3] = { { 0x0f, 0x22, 0xc0 },
	{ 0x0f, 0x22, 0xd8 }, { 0x0f, 0x22, 0xe0 }, { 0x0f, 0x30 },
	{ 0x0f, 0x32 }, { 0x0f, 0x01 }, { 0xcf }, { 0x48, 0xcf }, { 0xcd },
	{ 0xcc }, { 0xf4 }, { 0xfb }, { 0x8e }, { 0x0f, 0x05 }, { 0x0f, 0x07 },
	{ 0x0f, 0x00 }, { 0xca }, { 0xcb }, { 0x9a }, { 0xea }, { 0xff },
	{ 0xe6 }, { 0xe4 }, { 0xf3, 0xa4 }, { 0xf3, 0x6c }, { 0x0f, 0xae },
	{ 0x0f, 0xc7 }, { 0x9d }, { 0x17 }, { 0x0f, 0xb2 }, { 0x62 },
	{ 0xc4, 0xe2 }, { 0xc5 }, { 0x0f, 0x38 }, { 0x66, 0x0f } };

static uint64_t
rnd(void)
{
	hostile_state ^= hostile_state << 13;
	hostile_state ^= hostile_state >> 7;
	hostile_state ^= hostile_state << 17;
	return hostile_state * 0x2545f4914f6cdd1dul;
}

static void
put(uint32_t at, uint64_t v, unsigned n)
{
	memcpy(hostile_mem + at, &v, n);
}

/* Most of the tables' entries lead back into memory. */
static void
hostile_paging(enum hostile_mode mode)
{
	if (mode == LONG) {
		put(TABLES, 0x11007, 8);
		put(0x11000, 0x12007 | (rnd() % 4 != 0 ? 0 : 0x80), 8);
		for (uint32_t i = 0; i < 512; i++) {
			put(0x12000 + i * 8, rnd() % 3 != 0 ? 0x13007 : 0x87,
			    8);
			put(0x13000 + i * 8, rnd() % 16 == 0 ? rnd() :
			    (i & 255) << 12 | 7 | (rnd() % 8 != 0 ? 0 :
			    rnd() & 0x8000000000000ffful), 8);
		}
	} else if (mode == PAGED) {
		for (uint32_t i = 0; i < 1024; i++) {
			put(TABLES + i * 4, rnd() % 4 != 0 ? 0x11007 :
			    rnd() & 0x3fff87, 4);
			put(0x11000 + i * 4, rnd() % 16 != 0 ?
			    (i & 255) << 12 | 7 : rnd(), 4);
		}
	}
}

static void
hostile_descriptors(enum hostile_mode mode)
{
	unsigned size = mode == LONG ? 16 : 8;
	uint64_t code = mode == LONG ? 0x00af9b000000ffff : 0x00cf9b000000ffff;

	for (unsigned i = 0; i < 64; i++)
		put(GDT + i * 8, 0xffff | (0x80 | (rnd() & 0x7f)) << 40 |
		    (rnd() & 0xf) << 52 | (rnd() % 2) * 0xful << 48 |
		    (rnd() & 0xff) << 16, 8);
	put(GDT + 8, code, 8);
	put(GDT + 16, 0x00cf93000000ffff, 8);
	put(GDT + 24, 0x00cffb000000ffff, 8);
	put(GDT + 32, 0x00cff3000000ffff, 8);
	put(GDT + 40, 0x00affb000000ffff, 8);
	for (unsigned i = 0; i < 256; i++) {
		put(IDT + i * size, (rnd() & 0xffff) | (1 + rnd() % 5) << 19,
		    4);
		put(IDT + i * size + 4, 0x8e00 | (rnd() % 2) * 0x6000 |
		    (mode == LONG ? rnd() & 7 : 0) |
		    (rnd() % 8 != 0 ? 0 : rnd() & 0x1f00) | (rnd() & 0x30000),
		    4);
		if (mode == LONG)
			put(IDT + i * size + 8, 0, 4);
	}
}

static void
hostile_fill(enum hostile_mode mode)
{
	unsigned op;

	for (uint32_t i = 0; i < MEM; i += 8)
		put(i, rnd(), 8);
	hostile_paging(mode);
	hostile_descriptors(mode);
	for (uint32_t i = CODE; i < CODE_END - 4; i += 2 + rnd() % 12) {
		op = rnd() % (sizeof(hostile_ops) / sizeof(hostile_ops[0]));
		if (rnd() % 3 == 0)
			memcpy(hostile_mem + i, hostile_ops[op], 3);
	}
}

static void
hostile_segments(struct vmm_vcpu *c, enum hostile_mode mode)
{
	struct vmm_seg s = { 0 };
	bool user = rnd() % 2 != 0;

	if (mode == REAL) {
		(void)vmm_vcpu_get_seg(c, VMM_SEG_CS, &s);
		s.base = s.selector = 0;
		(void)vmm_vcpu_set_seg(c, VMM_SEG_CS, &s);
		return;
	}
	s = (struct vmm_seg){ .limit = 0xffffffff, .access = 0xc093,
		.selector = 0x10 };
	for (unsigned i = 0; i < 6; i++)
		if (i != VMM_SEG_CS)
			(void)vmm_vcpu_set_seg(c, (enum vmm_segreg)i, &s);
	if (user) {
		s.access = 0xc0f3;
		s.selector = 0x23;
		(void)vmm_vcpu_set_seg(c, VMM_SEG_SS, &s);
	}
	s.access = (mode == LONG ? 0xa09b : 0xc09b) | (user ? 0x60 : 0);
	s.selector = user ? (mode == LONG ? 0x2b : 0x1b) : 8;
	(void)vmm_vcpu_set_seg(c, VMM_SEG_CS, &s);
	s = (struct vmm_seg){ .limit = 0x1ff, .base = GDT };
	(void)vmm_vcpu_set_seg(c, VMM_SEG_GDTR, &s);
	s = (struct vmm_seg){ .limit = 0xfff, .base = IDT };
	(void)vmm_vcpu_set_seg(c, VMM_SEG_IDTR, &s);
	s = (struct vmm_seg){ .limit = 0x2067, .base = TSS, .access = 0x8b,
		.selector = 0x30 };
	(void)vmm_vcpu_set_seg(c, VMM_SEG_TR, &s);
}

static void
hostile_registers(struct vmm_vcpu *c, enum hostile_mode mode)
{
	if (mode != REAL) {
		(void)vmm_vcpu_set_reg(c, VMM_REG_CR4,
		    (mode == LONG ? 0x20 : 0) | (rnd() & 0x310650));
		if (mode == LONG)
			(void)vmm_vcpu_set_reg(c, VMM_REG_EFER, 0xd01);
		(void)vmm_vcpu_set_reg(c, VMM_REG_CR3, TABLES);
		(void)vmm_vcpu_set_reg(c, VMM_REG_CR0, 0x11 |
		    (mode >= PAGED ? 0x80000000 : 0) | (rnd() & 0x1000e));
	}
	for (unsigned i = 0; i < 16; i++)
		(void)vmm_vcpu_set_reg(c, (enum vmm_reg)i, rnd() % 3 != 0 ?
		    rnd() & (MEM - 1) : rnd());
	(void)vmm_vcpu_set_reg(c, VMM_REG_RSP, 0x40000);
	(void)vmm_vcpu_set_reg(c, VMM_REG_RIP, CODE + rnd() % 0x1000);
	(void)vmm_vcpu_set_reg(c, VMM_REG_RFLAGS, rnd() & 0x250fd5);
	(void)vmm_vcpu_set_reg(c, VMM_REG_STAR, 0x0018000800002000);
	(void)vmm_vcpu_set_reg(c, VMM_REG_LSTAR, 0x3000);
}

static void *
hostile_watch(void *vmm)
{
	(void)usleep(15000);
	(void)vmm_suspend(vmm, VMM_SUSPEND_ERROR);
	return NULL;
}

/* => 0; 1 if run() failed */
static int
hostile_guest(unsigned seed)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1,
		.engine = "soft", .flags = VMM_CONFIG_NO_CONTROL };
	struct vmm_exit ex = { .size = sizeof(ex) };
	enum hostile_mode mode;
	struct vmm_vcpu *c;
	struct vmm *vmm;
	pthread_t watch;
	int error, n = 0;

	hostile_state = (seed + 1) * 0x9e3779b97f4a7c15ul;
	mode = (enum hostile_mode)(rnd() % MODES);
	hostile_fill(mode);
	if (vmm_create("hostile", &cfg, &vmm) != 0 ||
	    vmm_setup_memory(vmm, MEM, 0) != 0 ||
	    vmm_vcpu_open(vmm, 0, &c) != 0 ||
	    vmm_gpa_write(vmm, 0, hostile_mem, MEM, NULL) != 0)
		return 1;
	hostile_registers(c, mode);
	hostile_segments(c, mode);
	if (pthread_create(&watch, NULL, hostile_watch, vmm) != 0)
		return 1;
	do {
		error = vmm_vcpu_run(c, &ex);
		if (ex.reason == VMM_EXIT_IO && ex.u.io.in)
			ex.u.io.data = (uint32_t)rnd();
		if (ex.reason == VMM_EXIT_MMIO && !ex.u.mmio.write)
			ex.u.mmio.data = rnd();
	} while (error == 0 && (ex.reason == VMM_EXIT_IO ||
	    ex.reason == VMM_EXIT_MMIO || ex.reason == VMM_EXIT_INTR) &&
	    ++n < 3000);
	if (error != 0)
		printf("guest %u: error %d: %s\n", seed, error,
		    vmm_errmsg(vmm));
	(void)pthread_join(watch, NULL);
	vmm_vcpu_close(c);
	vmm_close(vmm);
	return error != 0;
}

/* The guests' own errors, one line each, are none of ours. */
static void
hostile_log(void *arg, enum log_level level, const char *line)
{
	(void)arg;
	(void)level;
	(void)line;
}

int
main(int argc, char **argv)
{
	unsigned first = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : 0;
	unsigned count = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 200;
	int bad = 0;

	log_set_sink(hostile_log, NULL, LOG_LEVEL_ERROR);
	for (unsigned i = 0; i < count; i++)
		bad |= hostile_guest(first + i);
	printf("%u guests\n", count);
	return bad;
}
