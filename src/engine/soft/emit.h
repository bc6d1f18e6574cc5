/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host instructions that the translator writes by itself.  Registers are
 * numbers in encoding order.  What touches flags says so in its name or is an
 * arithmetic instruction.
 */
#ifndef EMIT_H
#define EMIT_H

#include <string.h>

#include "engine/soft/code_int.h"

#define EMIT_SP 12 /* the guest's RSP */
#define EMIT_S0 13
#define EMIT_S1 14
#define EMIT_S2 15
#define EMIT_CPU(f) ((int32_t)offsetof(struct soft_cpu, f))
#define EMIT_GPR(r) ((int32_t)(offsetof(struct soft_cpu, gpr) + 8u * (r)))

static inline void
emit_1(struct code_out *o, unsigned b)
{
	o->rw[o->pos++] = (uint8_t)b;
}

static inline void
emit_n(struct code_out *o, const void *p, unsigned n)
{
	memcpy(o->rw + o->pos, p, n);
	o->pos += n;
}

static inline void
emit_4(struct code_out *o, uint32_t v)
{
	emit_n(o, &v, 4);
}

static inline void
emit_8(struct code_out *o, uint64_t v)
{
	emit_n(o, &v, 8);
}

/* [REX] op modrm(reg, gs:off); w: 64 bits */
static inline void
emit_gs(struct code_out *o, bool w, unsigned op, unsigned reg, int32_t off)
{
	unsigned rex = (w ? 8u : 0) | (reg >> 3) << 2;

	emit_1(o, 0x65);
	if (rex != 0)
		emit_1(o, 0x40 | rex);
	if (op > 0xff)
		emit_1(o, op >> 8);
	emit_1(o, op & 0xff);
	emit_1(o, 4 | (reg & 7) << 3);
	emit_1(o, 0x25);
	emit_4(o, (uint32_t)off);
}

/* op reg, gs:[base + off], base not RSP or R12 */
static inline void
emit_gsb(struct code_out *o, bool w, unsigned op, unsigned reg, unsigned base,
    int32_t off)
{
	unsigned rex = (w ? 8u : 0) | (reg >> 3) << 2 | base >> 3;

	emit_1(o, 0x65);
	if (rex != 0)
		emit_1(o, 0x40 | rex);
	emit_1(o, op);
	emit_1(o, 0x80 | (reg & 7) << 3 | (base & 7));
	emit_4(o, (uint32_t)off);
}

static inline void
emit_gs_ld(struct code_out *o, unsigned reg, int32_t off)
{
	emit_gs(o, true, 0x8b, reg, off);
}

static inline void
emit_gs_st(struct code_out *o, unsigned reg, int32_t off)
{
	emit_gs(o, true, 0x89, reg, off);
}

/* op rm, reg of registers */
static inline void
emit_rr(struct code_out *o, bool w, unsigned op, unsigned reg, unsigned rm)
{
	unsigned rex = (w ? 8u : 0) | (reg >> 3) << 2 | rm >> 3;

	if (rex != 0)
		emit_1(o, 0x40 | rex);
	emit_1(o, op);
	emit_1(o, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void
emit_mov(struct code_out *o, bool w, unsigned to, unsigned from)
{
	emit_rr(o, w, 0x89, from, to);
}

/* op reg, [base + index * scale + disp]; base, index -1: none */
static inline void
emit_rm(struct code_out *o, bool w, unsigned op, unsigned reg, int base,
    int index, unsigned scale, int32_t disp)
{
	unsigned rex = (w ? 8u : 0) | (reg >> 3) << 2 |
	    (index >= 8 ? 2u : 0) | (base >= 8 ? 1u : 0);
	unsigned mod, ss;

	if (rex != 0)
		emit_1(o, 0x40 | rex);
	emit_1(o, op);
	mod = base < 0 ? 0 : disp == 0 && (base & 7) != 5 ? 0 :
	    disp >= -128 && disp <= 127 ? 0x40 : 0x80;
	if (index >= 0 || base < 0 || (base & 7) == 4) {
		ss = scale == 8 ? 0xc0 : scale == 4 ? 0x80 : scale == 2 ?
		    0x40 : 0;
		emit_1(o, mod | (reg & 7) << 3 | 4);
		emit_1(o, ss | (index < 0 ? 4u : (unsigned)index & 7) << 3 |
		    (base < 0 ? 5u : (unsigned)base & 7));
	} else {
		emit_1(o, mod | (reg & 7) << 3 | ((unsigned)base & 7));
	}
	if (mod == 0x80 || base < 0)
		emit_4(o, (uint32_t)disp);
	else if (mod == 0x40)
		emit_1(o, (uint8_t)disp);
}

static inline void
emit_lea(struct code_out *o, bool w, unsigned reg, int base, int32_t disp)
{
	if (disp == 0 && base >= 0)
		emit_mov(o, w, reg, (unsigned)base);
	else
		emit_rm(o, w, 0x8d, reg, base, -1, 1, disp);
}

/* mov reg, imm; flags stay */
static inline void
emit_imm(struct code_out *o, unsigned reg, uint64_t v)
{
	if (v <= 0xffffffff) {
		if (reg >= 8)
			emit_1(o, 0x41);
		emit_1(o, 0xb8 | (reg & 7));
		emit_4(o, (uint32_t)v);
	} else if ((uint64_t)(int64_t)(int32_t)v == v) {
		emit_1(o, reg >= 8 ? 0x49 : 0x48);
		emit_1(o, 0xc7);
		emit_1(o, 0xc0 | (reg & 7));
		emit_4(o, (uint32_t)v);
	} else {
		emit_1(o, reg >= 8 ? 0x49 : 0x48);
		emit_1(o, 0xb8 | (reg & 7));
		emit_8(o, v);
	}
}

/* No operation of n < 8 bytes. */
static inline void
emit_nop(struct code_out *o, unsigned n)
{
	static const uint8_t nop[8][7] = {
		{ 0 }, { 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0 },
		{ 0x0f, 0x1f, 0x40, 0 }, { 0x0f, 0x1f, 0x44, 0, 0 },
		{ 0x66, 0x0f, 0x1f, 0x44, 0, 0 },
		{ 0x0f, 0x1f, 0x80, 0, 0, 0, 0 },
	};

	emit_n(o, nop[n], n);
}

/* Pads so that the n bytes from pos + skip on lie in one aligned eight. */
static inline void
emit_within8(struct code_out *o, unsigned skip, unsigned n)
{
	unsigned at = (o->pos + skip) & 7;

	if (at + n > 8)
		emit_nop(o, 8 - at);
}

#endif /* EMIT_H */
