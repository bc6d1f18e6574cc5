/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Re-encoding: a decoded instruction of any mode, written anew for 64-bit
 * mode with other general registers and another memory operand.
 *
 * The instruction is rebuilt from its parts, legacy and VEX form each:
 *
 *	[GS] [LOCK] [66] [F2/F3] [REX] escape opcode [ModRM SIB disp] imm
 *	[GS] C4 .. ..           opcode [ModRM SIB disp] imm
 *
 * What stays is the opcode, the immediate bytes and the prefixes that mean
 * something.  Registers come from the decoded operands: a general register's
 * number goes through map[], any other keeps its own, whatever bits it was
 * spread over.  Fields of ModRM that no operand uses (opcode extensions, x87
 * stack slots) keep their bits.
 *
 * Forms that have no place for another register are changed to ones that do:
 * accumulator and immediate, XCHG with the accumulator, INC and DEC of one
 * byte, MOV with an absolute address.
 *
 * Emission is by bytes and not by ZydisEncoder because the translator calls
 * this for every guest instruction, and because the encoder is free to choose
 * another form of the same meaning (xchg eax,eax as NOP), which this is not.
 */
#include <errno.h>

#include "engine/soft/soft_int.h"

struct recode {
	const struct soft_insn *in;
	const struct soft_recode *rc;
	uint8_t opcode;
	bool modrm;
	bool mem;	/* the rm field is rc's memory operand */
	bool rex_w;
	bool rex;	/* SPL..DIL: REX even if empty */
	bool no_rex;	/* AH..BH */
	/* Register numbers with all their bits. */
	uint8_t reg, rm, vvvv;
	int is4;	/* register in the immediate byte, or -1 */
};

/* The number for a register operand, after renaming; notes REX needs. */
static uint8_t
recode_reg(struct recode *r, ZydisRegister reg)
{
	int n;

	if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) {
		r->no_rex = true;
		return (uint8_t)(reg - ZYDIS_REGISTER_AH + 4);
	}
	n = soft_gpr_number(reg);
	if (n < 0) {
		n = ZydisRegisterGetId(reg);
		return n < 0 ? 0 : (uint8_t)n;
	}
	n = r->rc->map[n];
	if (reg >= ZYDIS_REGISTER_AL && reg <= ZYDIS_REGISTER_R15B && n >= 4)
		r->rex = true;
	return (uint8_t)n;
}

static void
recode_operands(struct recode *r)
{
	const struct soft_insn *in = r->in;

	for (unsigned i = 0; i < in->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type != ZYDIS_OPERAND_TYPE_REGISTER)
			continue;
		switch (op->encoding) {
		case ZYDIS_OPERAND_ENCODING_MODRM_REG:
			r->reg = recode_reg(r, op->reg.value);
			break;
		case ZYDIS_OPERAND_ENCODING_MODRM_RM:
		case ZYDIS_OPERAND_ENCODING_OPCODE:
			r->rm = recode_reg(r, op->reg.value);
			break;
		case ZYDIS_OPERAND_ENCODING_NDSNDD:
			r->vvvv = recode_reg(r, op->reg.value);
			break;
		case ZYDIS_OPERAND_ENCODING_IS4:
			r->is4 = recode_reg(r, op->reg.value);
			break;
		default:
			break;
		}
	}
}

/*
 * Opcodes of the first map whose registers are not all in ModRM: either they
 * stay (the register is where it was, or the field is wide enough), or they
 * become the form with ModRM.
 */
static void
recode_short_form(struct recode *r)
{
	uint8_t op = r->opcode, acc = r->rc->map[0];
	bool long_mode = r->in->zi.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;

	if (op < 0x40 && (op & 6) == 4) { /* ALU acc, imm */
		if (acc == 0)
			return;
		r->opcode = 0x80 | (op & 1);
		r->reg = op >> 3;
		r->rm = acc;
		r->rex = (op & 1) == 0 && acc >= 4;
		r->modrm = true;
	} else if (op >= 0x40 && op <= 0x4f && !long_mode) { /* INC, DEC */
		r->opcode = 0xff;
		r->reg = op >> 3 & 1;
		r->modrm = true;
	} else if (op == 0x82) { /* 80 of 32-bit mode */
		r->opcode = 0x80;
	} else if (op >= 0x90 && op <= 0x97 &&
	    r->in->zi.mnemonic == ZYDIS_MNEMONIC_XCHG) {
		/* One of the two must be rAX, and 90 is another thing. */
		if (acc == 0 && r->rm != 0)
			return;
		if (r->rm == 0 && acc != 0) {
			r->rm = acc;
			return;
		}
		r->opcode = 0x87;
		r->reg = acc;
		r->modrm = true;
	} else if (op >= 0xa0 && op <= 0xa3) { /* MOV moffs */
		r->opcode = (op & 2 ? 0x88 : 0x8a) | (op & 1);
		r->reg = acc;
		r->rex = (op & 1) == 0 && acc >= 4;
		r->modrm = true;
	} else if (op == 0xa8 || op == 0xa9) { /* TEST acc, imm */
		if (acc == 0)
			return;
		r->opcode = 0xf6 | (op & 1);
		r->reg = 0;
		r->rm = acc;
		r->rex = (op & 1) == 0 && acc >= 4;
		r->modrm = true;
	}
}

/*
 * In 16-bit mode operands are 16 bits wide without the prefix.  Which
 * instructions does it make a difference to?
 */
static bool
recode_has_opsize(const ZydisDecodedInstruction *zi)
{
	switch (zi->meta.isa_ext) {
	case ZYDIS_ISA_EXT_BASE:
	case ZYDIS_ISA_EXT_LONGMODE:
	case ZYDIS_ISA_EXT_X87: /* FLDENV and its kin; harmless elsewhere */
	case ZYDIS_ISA_EXT_MOVBE:
	case ZYDIS_ISA_EXT_LZCNT:
	case ZYDIS_ISA_EXT_BMI1:
	case ZYDIS_ISA_EXT_RDRAND:
	case ZYDIS_ISA_EXT_RDSEED:
		return true;
	default:
		return zi->mnemonic == ZYDIS_MNEMONIC_CRC32 ||
		    zi->mnemonic == ZYDIS_MNEMONIC_POPCNT;
	}
}

/* Legacy prefixes that have a meaning; segment and address size have none
 * but for LEA, which computes in the address size. */
static uint8_t *
recode_prefixes(const struct recode *r, uint8_t *p)
{
	const ZydisDecodedInstruction *zi = &r->in->zi;
	uint8_t rep = 0;
	bool p66 = false, mandatory = false;

	for (unsigned i = 0; i < zi->raw.prefix_count; i++) {
		switch (zi->raw.prefixes[i].value) {
		case 0x66:
			p66 = true;
			if (zi->raw.prefixes[i].type ==
			    ZYDIS_PREFIX_TYPE_MANDATORY)
				mandatory = true;
			break;
		case 0xf2:
		case 0xf3:
			rep = zi->raw.prefixes[i].value; /* last counts */
			break;
		default:
			break;
		}
	}
	/* In the first map only PAUSE means it, and XCHG must not become it. */
	if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT &&
	    zi->mnemonic != ZYDIS_MNEMONIC_PAUSE)
		rep = 0;
	if (zi->machine_mode == ZYDIS_MACHINE_MODE_LEGACY_16 && !mandatory &&
	    (recode_has_opsize(zi) || zi->operand_width == 32))
		p66 = zi->operand_width == 16 && recode_has_opsize(zi);
	if (r->rc->mem_gs && r->mem)
		*p++ = 0x65;
	if (zi->mnemonic == ZYDIS_MNEMONIC_LEA && r->in->addrsize == 4)
		*p++ = 0x67;
	if (r->in->lock)
		*p++ = 0xf0;
	if (p66)
		*p++ = 0x66;
	if (rep != 0)
		*p++ = rep;
	return p;
}

static uint8_t *
recode_modrm(const struct recode *r, uint8_t *p)
{
	const struct soft_recode *rc = r->rc;
	uint8_t reg = (uint8_t)((r->reg & 7) << 3), mod, scale;
	uint32_t disp = (uint32_t)rc->mem_disp;
	unsigned ndisp;

	if (!r->mem) {
		*p++ = 0xc0 | reg | (r->rm & 7);
		return p;
	}
	if (rc->mem_base < 0) {
		mod = 0;
		ndisp = 4;
	} else if (rc->mem_disp == 0 && (rc->mem_base & 7) != 5) {
		mod = 0;
		ndisp = 0;
	} else if (rc->mem_disp >= -128 && rc->mem_disp <= 127) {
		mod = 0x40;
		ndisp = 1;
	} else {
		mod = 0x80;
		ndisp = 4;
	}
	if (rc->mem_base < 0 || rc->mem_index >= 0 ||
	    (rc->mem_base & 7) == 4) {
		scale = rc->mem_scale == 8 ? 0xc0 : rc->mem_scale == 4 ? 0x80 :
		    rc->mem_scale == 2 ? 0x40 : 0;
		*p++ = mod | reg | 4;
		*p++ = scale |
		    (rc->mem_index < 0 ? 4 : rc->mem_index & 7) << 3 |
		    (rc->mem_base < 0 ? 5 : rc->mem_base & 7);
	} else {
		*p++ = mod | reg | (rc->mem_base & 7);
	}
	for (unsigned i = 0; i < ndisp; i++) {
		*p++ = disp & 0xff;
		disp >>= 8;
	}
	return p;
}

/* The bytes after ModRM, SIB and displacement, as they were. */
static uint8_t *
recode_imm(const struct recode *r, uint8_t *p)
{
	const ZydisDecodedInstruction *zi = &r->in->zi;
	unsigned n = (zi->raw.imm[0].size + zi->raw.imm[1].size) / 8u;

	if (r->is4 >= 0) {
		/* Outside 64-bit mode the top bit is ignored. */
		*p++ = (uint8_t)(r->is4 << 4) |
		    (r->in->bytes[zi->length - 1u] & 0xf);
		return p;
	}
	for (unsigned i = zi->length - n; i < zi->length; i++)
		*p++ = r->in->bytes[i];
	return p;
}

/* REX.R, X and B of the fields, in that order from bit 2 down. */
static uint8_t
recode_rxb(const struct recode *r)
{
	uint8_t b = (uint8_t)(r->reg >> 3 & 1) << 2;

	if (!r->mem)
		return b | (r->rm >> 3 & 1);
	if (r->rc->mem_index >= 8)
		b |= 2;
	if (r->rc->mem_base >= 8)
		b |= 1;
	return b;
}

static int
recode_legacy(struct recode *r, uint8_t *out)
{
	const ZydisDecodedInstruction *zi = &r->in->zi;
	uint8_t *p = out, rex;

	if (zi->opcode_map == ZYDIS_OPCODE_MAP_DEFAULT)
		recode_short_form(r);
	p = recode_prefixes(r, p);
	rex = recode_rxb(r) | (r->rex_w ? 8 : 0);
	if (rex != 0 || r->rex) {
		if (r->no_rex)
			return -ENOTSUP;
		*p++ = 0x40 | rex;
	}
	switch (zi->opcode_map) {
	case ZYDIS_OPCODE_MAP_DEFAULT:
		break;
	case ZYDIS_OPCODE_MAP_0F:
		*p++ = 0x0f;
		break;
	case ZYDIS_OPCODE_MAP_0F38:
		*p++ = 0x0f;
		*p++ = 0x38;
		break;
	case ZYDIS_OPCODE_MAP_0F3A:
		*p++ = 0x0f;
		*p++ = 0x3a;
		break;
	default:
		return -ENOTSUP;
	}
	if (r->modrm) {
		*p++ = r->opcode;
		p = recode_modrm(r, p);
	} else {
		bool embedded = false;

		for (unsigned i = 0; i < zi->operand_count; i++)
			if (r->in->op[i].encoding ==
			    ZYDIS_OPERAND_ENCODING_OPCODE)
				embedded = true;
		*p++ = embedded ? (r->opcode & 0xf8) | (r->rm & 7) : r->opcode;
	}
	p = recode_imm(r, p);
	return (int)(p - out);
}

/* VEX.W outside 64-bit mode: is it a wider general register, which does not
 * exist there (the bit is ignored), or part of the opcode? */
static bool
recode_vex_w(const struct soft_insn *in)
{
	const ZydisDecodedInstruction *zi = &in->zi;

	if (!zi->raw.vex.W)
		return false;
	if (zi->machine_mode == ZYDIS_MACHINE_MODE_LONG_64)
		return true;
	switch (zi->mnemonic) {
	case ZYDIS_MNEMONIC_VMOVD:
	case ZYDIS_MNEMONIC_VPCMPESTRI: /* lengths in EAX and EDX */
	case ZYDIS_MNEMONIC_VPCMPESTRM:
	case ZYDIS_MNEMONIC_VCVTSI2SD:
	case ZYDIS_MNEMONIC_VCVTSI2SS:
	case ZYDIS_MNEMONIC_VCVTSD2SI:
	case ZYDIS_MNEMONIC_VCVTSS2SI:
	case ZYDIS_MNEMONIC_VCVTTSD2SI:
	case ZYDIS_MNEMONIC_VCVTTSS2SI:
		return false;
	default:
		return zi->meta.isa_set != ZYDIS_ISA_SET_BMI1 &&
		    zi->meta.isa_set != ZYDIS_ISA_SET_BMI2;
	}
}

static int
recode_vex(struct recode *r, uint8_t *out)
{
	const ZydisDecodedInstruction *zi = &r->in->zi;
	uint8_t *p = out, rxb = recode_rxb(r), last;
	bool w = recode_vex_w(r->in);

	if (r->rc->mem_gs && r->mem)
		*p++ = 0x65;
	last = (uint8_t)((~r->vvvv & 0xf) << 3) |
	    (uint8_t)(zi->raw.vex.L << 2) | zi->raw.vex.pp;
	if (!w && (rxb & 3) == 0 && zi->raw.vex.m_mmmm == 1) {
		*p++ = 0xc5;
		*p++ = (rxb & 4 ? 0 : 0x80) | last;
	} else {
		*p++ = 0xc4;
		*p++ = (uint8_t)((~rxb & 7) << 5) | zi->raw.vex.m_mmmm;
		*p++ = (w ? 0x80 : 0) | last;
	}
	*p++ = r->opcode;
	if (r->modrm)
		p = recode_modrm(r, p);
	p = recode_imm(r, p);
	return (int)(p - out);
}

int
soft_recode(const struct soft_insn *in, const struct soft_recode *rc,
    uint8_t out[16])
{
	const ZydisDecodedInstruction *zi = &in->zi;
	struct recode r = { .in = in, .rc = rc, .is4 = -1 };

	if (in->cls == SOFT_C_UD)
		return -ENOTSUP;
	for (unsigned f = in->gpr_fixed; f != 0; f &= f - 1) {
		unsigned n = (unsigned)__builtin_ctz(f);

		if (rc->map[n] != n)
			return -ENOTSUP;
	}
	r.opcode = zi->opcode;
	r.modrm = (zi->attributes & ZYDIS_ATTRIB_HAS_MODRM) != 0;
	r.reg = zi->raw.modrm.reg;
	r.rm = zi->raw.modrm.rm;
	r.mem = in->memop >= 0;
	if (r.mem) {
		if (in->op[in->memop].mem.type == ZYDIS_MEMOP_TYPE_VSIB ||
		    rc->mem_index == 4)
			return -ENOTSUP;
		/* 64-bit mode has no 16-bit addresses. */
		if (zi->mnemonic == ZYDIS_MNEMONIC_LEA && in->addrsize == 2)
			return -ENOTSUP;
	}
	recode_operands(&r);
	switch (zi->encoding) {
	case ZYDIS_INSTRUCTION_ENCODING_LEGACY:
		r.rex_w = zi->machine_mode == ZYDIS_MACHINE_MODE_LONG_64 &&
		    zi->raw.rex.W;
		return recode_legacy(&r, out);
	case ZYDIS_INSTRUCTION_ENCODING_VEX:
		return recode_vex(&r, out);
	default:
		return -ENOTSUP;
	}
}
