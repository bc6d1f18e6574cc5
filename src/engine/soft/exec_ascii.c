/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The decimal-adjust instructions and SALC, which do not exist in 64-bit mode,
 * so that no thunk can run them.  Flags that the manuals leave undefined are
 * those of the byte addition inside, as on AMD's processors.
 */
#include "engine/soft/exec_int.h"

static uint32_t
exec_szp(uint8_t v)
{
	return (v == 0 ? SOFT_FL_ZF : 0) | (v & 0x80 ? SOFT_FL_SF : 0) |
	    (__builtin_parity(v) ? 0 : SOFT_FL_PF);
}

/* OF of going from a to r by adding (sign > 0) or subtracting d. */
static uint32_t
exec_of(uint8_t a, uint8_t d, uint8_t r, int sign)
{
	uint8_t v = sign > 0 ? (uint8_t)((a ^ r) & (d ^ r)) :
	    (uint8_t)((a ^ d) & (a ^ r));

	return v & 0x80 ? SOFT_FL_OF : 0;
}

/* Undefined flags: of the addition to AX, before AL is cut to four bits. */
static int
exec_ascii_adjust(struct soft_cpu *cpu, const struct soft_insn *in, int sign)
{
	uint16_t ax = (uint16_t)cpu->gpr[VMM_REG_RAX], old = ax;
	uint32_t fl = 0;

	if ((ax & 15) > 9 || cpu->flags_saved & SOFT_FL_AF) {
		ax = (uint16_t)(ax + sign * 0x106);
		fl = SOFT_FL_AF | SOFT_FL_CF;
	}
	if (ax == 0)
		fl |= SOFT_FL_ZF;
	if (ax & 0x8000)
		fl |= SOFT_FL_SF;
	if ((sign > 0 ? ~old & ax : old & ~ax) & 0x8000)
		fl |= SOFT_FL_OF;
	cpu->flags_saved = fl | (exec_szp((uint8_t)ax) & SOFT_FL_PF);
	exec_wreg(cpu, VMM_REG_RAX, 2, ax & 0xff0f);
	return exec_done(cpu, in);
}

static int
exec_decimal_adjust(struct soft_cpu *cpu, const struct soft_insn *in, int sign)
{
	uint8_t old = (uint8_t)cpu->gpr[VMM_REG_RAX], d = 0, al;
	bool cf = cpu->flags_saved & SOFT_FL_CF;
	uint32_t fl = 0;

	if ((old & 15) > 9 || cpu->flags_saved & SOFT_FL_AF) {
		d = 6;
		fl |= SOFT_FL_AF;
		if (cf || (sign > 0 ? old > 0xf9 : old < 6))
			fl |= SOFT_FL_CF;
	}
	if (old > 0x99 || cf) {
		d += 0x60;
		fl |= SOFT_FL_CF;
	}
	al = (uint8_t)(old + sign * d);
	cpu->flags_saved = fl | exec_szp(al) | exec_of(old, d, al, sign);
	exec_wreg(cpu, VMM_REG_RAX, 1, al);
	return exec_done(cpu, in);
}

/* AL + AH * imm: the flags are those of the addition. */
static int
exec_aad(struct soft_cpu *cpu, const struct soft_insn *in, uint8_t imm)
{
	uint16_t ax = (uint16_t)cpu->gpr[VMM_REG_RAX];
	uint8_t a = (uint8_t)ax, d = (uint8_t)((ax >> 8) * imm);
	uint8_t r = (uint8_t)(a + d);

	cpu->flags_saved = exec_szp(r) | exec_of(a, d, r, 1) |
	    (r < a ? SOFT_FL_CF : 0) | ((a ^ d ^ r) & 0x10 ? SOFT_FL_AF : 0);
	exec_wreg(cpu, VMM_REG_RAX, 2, r);
	return exec_done(cpu, in);
}

int
exec_ascii(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	uint16_t ax = (uint16_t)cpu->gpr[VMM_REG_RAX];
	uint8_t imm = (uint8_t)in->zi.raw.imm[0].value.u;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_AAA:
		return exec_ascii_adjust(cpu, in, 1);
	case ZYDIS_MNEMONIC_AAS:
		return exec_ascii_adjust(cpu, in, -1);
	case ZYDIS_MNEMONIC_DAA:
		return exec_decimal_adjust(cpu, in, 1);
	case ZYDIS_MNEMONIC_DAS:
		return exec_decimal_adjust(cpu, in, -1);
	case ZYDIS_MNEMONIC_AAM:
		if (imm == 0)
			return soft_raise(cpu, SOFT_EXC_DE);
		ax = (uint16_t)((ax & 0xff) / imm << 8 | (ax & 0xff) % imm);
		break;
	case ZYDIS_MNEMONIC_AAD:
		return exec_aad(cpu, in, imm);
	default: /* SALC leaves the flags */
		exec_wreg(cpu, VMM_REG_RAX, 1,
		    cpu->flags_saved & SOFT_FL_CF ? 0xff : 0);
		return exec_done(cpu, in);
	}
	cpu->flags_saved = exec_szp((uint8_t)ax);
	exec_wreg(cpu, VMM_REG_RAX, 2, ax);
	return exec_done(cpu, in);
}
