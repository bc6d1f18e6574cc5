/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions whose memory operand is not one block: gathers, masked moves,
 * XLAT, BOUND.  Vector registers are read and written in cpu->xsave.
 *
 * A gather that faults has done the elements before, and cleared their masks:
 * it goes on from there when it runs again.  A masked move touches the
 * elements its mask selects and no others, all of them or none.
 */
#include "engine/soft/exec_int.h"

#define VEC_HEADER 512u
#define VEC_MMX 32u /* stride 16 */
#define VEC_XMM 160u
#define VEC_YMMH 576u

struct vec {
	union {
		uint8_t b[32];
		uint32_t d[8];
		uint64_t q[4];
	};
};

static int
vec_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_XMM0 && r <= ZYDIS_REGISTER_XMM15)
		return r - ZYDIS_REGISTER_XMM0;
	if (r >= ZYDIS_REGISTER_YMM0 && r <= ZYDIS_REGISTER_YMM15)
		return r - ZYDIS_REGISTER_YMM0;
	if (r >= ZYDIS_REGISTER_MM0 && r <= ZYDIS_REGISTER_MM7)
		return r - ZYDIS_REGISTER_MM0;
	return -1;
}

static void
vec_get(const struct soft_cpu *cpu, int r, struct vec *v)
{
	memcpy(v->b, cpu->xsave + VEC_XMM + 16 * r, 16);
	memcpy(v->b + 16, cpu->xsave + VEC_YMMH + 16 * r, 16);
}

static void
vec_put(struct soft_cpu *cpu, int r, const struct vec *v)
{
	memcpy(cpu->xsave + VEC_XMM + 16 * r, v->b, 16);
	memcpy(cpu->xsave + VEC_YMMH + 16 * r, v->b + 16, 16);
	cpu->xsave[VEC_HEADER] |= 6 & exec_fpu_mask();
}

/* The sign bit of element i of n bytes. */
static bool
vec_sign(const struct vec *v, unsigned i, unsigned n)
{
	return v->b[i * n + n - 1] & 0x80;
}

/* --- gathers ----------------------------------------------------------- */

struct vec_gather {
	unsigned esize, isize; /* bytes of an element, of an index */
};

static bool
vec_gather(ZydisMnemonic m, struct vec_gather *g)
{
	switch (m) {
	case ZYDIS_MNEMONIC_VPGATHERDD:
	case ZYDIS_MNEMONIC_VGATHERDPS:
		*g = (struct vec_gather){ 4, 4 };
		return true;
	case ZYDIS_MNEMONIC_VPGATHERDQ:
	case ZYDIS_MNEMONIC_VGATHERDPD:
		*g = (struct vec_gather){ 8, 4 };
		return true;
	case ZYDIS_MNEMONIC_VPGATHERQD:
	case ZYDIS_MNEMONIC_VGATHERQPS:
		*g = (struct vec_gather){ 4, 8 };
		return true;
	case ZYDIS_MNEMONIC_VPGATHERQQ:
	case ZYDIS_MNEMONIC_VGATHERQPD:
		*g = (struct vec_gather){ 8, 8 };
		return true;
	default:
		return false;
	}
}

static int
vec_gather_run(struct soft_cpu *cpu, struct exec_op *x, struct vec_gather g)
{
	const struct soft_insn *in = x->in;
	const ZydisDecodedOperandMem *m = &in->op[1].mem;
	int rd = vec_number(in->op[0].reg.value);
	int rm = vec_number(in->op[2].reg.value);
	int ri = vec_number(m->index);
	unsigned vl = in->zi.raw.vex.L ? 32 : 16;
	unsigned n = vl / base_max(g.esize, g.isize), i;
	struct vec dst, mask, idx;
	uint64_t off, base, val;
	int ret = SOFT_OK;

	if (rd < 0 || rm < 0 || ri < 0 || rd == rm || rd == ri || rm == ri)
		return soft_raise(cpu, SOFT_EXC_UD);
	vec_get(cpu, rd, &dst);
	vec_get(cpu, rm, &mask);
	vec_get(cpu, ri, &idx);
	base = (uint64_t)x->ea.disp;
	if (x->ea.base >= 0)
		base += cpu->gpr[x->ea.base];
	for (i = 0; i < n; i++) {
		if (!vec_sign(&mask, i, g.esize)) {
			memset(mask.b + i * g.esize, 0, g.esize);
			continue;
		}
		off = exec_sext(exec_get(idx.b + i * g.isize, g.isize),
		    g.isize);
		off = (base + (off << x->ea.shift)) & exec_mask(in->addrsize);
		ret = exec_load(cpu, in->mem_seg, off, g.esize, &val);
		if (ret != SOFT_OK)
			break;
		exec_put(dst.b + i * g.esize, g.esize, val);
		memset(mask.b + i * g.esize, 0, g.esize);
	}
	if (ret == SOFT_OK) {
		memset(dst.b + n * g.esize, 0, 32 - n * g.esize);
		memset(mask.b, 0, 32);
	}
	vec_put(cpu, rd, &dst);
	vec_put(cpu, rm, &mask);
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

/* --- masked moves ------------------------------------------------------ */

/*
 * Writes those elements of v that mask selects, after checking that all can
 * be: an element that faults leaves memory as it was.
 */
static int
vec_masked_store(struct soft_cpu *cpu, unsigned seg, uint64_t off,
    uint64_t amask, const struct vec *v, const struct vec *mask, unsigned esize,
    unsigned n)
{
	gva_t la;
	int ret;

	for (int pass = 0; pass < 2; pass++) {
		for (unsigned i = 0; i < n; i++) {
			if (!vec_sign(mask, i, esize))
				continue;
			ret = exec_linear(cpu, seg,
			    (off + i * esize) & amask, esize, VMM_PROT_WRITE,
			    &la);
			if (ret == SOFT_OK && pass == 0)
				ret = exec_probe(cpu, la, esize,
				    VMM_PROT_WRITE);
			else if (ret == SOFT_OK)
				ret = soft_write(cpu, la, v->b + i * esize,
				    esize, false);
			if (ret != SOFT_OK)
				return ret;
		}
	}
	return SOFT_OK;
}

static int
vec_maskmov(struct soft_cpu *cpu, struct exec_op *x, unsigned esize)
{
	const struct soft_insn *in = x->in;
	bool store = in->op[0].type == ZYDIS_OPERAND_TYPE_MEMORY;
	int rmask = vec_number(in->op[1].reg.value);
	int rv = vec_number(in->op[store ? 2 : 0].reg.value);
	unsigned n = (in->zi.raw.vex.L ? 32 : 16) / esize;
	uint64_t off = exec_ea(cpu, x), amask = exec_mask(in->addrsize), val;
	struct vec mask, v;
	int ret;

	if (rmask < 0 || rv < 0)
		return soft_raise(cpu, SOFT_EXC_UD);
	vec_get(cpu, rmask, &mask);
	if (store) {
		vec_get(cpu, rv, &v);
		ret = vec_masked_store(cpu, in->mem_seg, off, amask, &v, &mask,
		    esize, n);
		return ret == SOFT_OK ? exec_done(cpu, in) : ret;
	}
	memset(&v, 0, sizeof(v));
	for (unsigned i = 0; i < n; i++) {
		if (!vec_sign(&mask, i, esize))
			continue;
		ret = exec_load(cpu, in->mem_seg, (off + i * esize) & amask,
		    esize, &val);
		if (ret != SOFT_OK)
			return ret;
		exec_put(v.b + i * esize, esize, val);
	}
	vec_put(cpu, rv, &v);
	return exec_done(cpu, in);
}

static int
vec_top(const struct soft_cpu *cpu)
{
	return cpu->xsave[3] >> 3 & 7;
}

/*
 * An MMX instruction makes the top of the x87 stack register 0 and all of them
 * valid; the area is in stack order, so its registers move.
 */
static void
vec_enter_mmx(struct soft_cpu *cpu)
{
	uint8_t st[128];
	int top = vec_top(cpu);

	memcpy(st, cpu->xsave + VEC_MMX, sizeof(st));
	for (int i = 0; i < 8; i++)
		memcpy(cpu->xsave + VEC_MMX + 16 * i,
		    st + 16 * ((i - top) & 7), 16);
	cpu->xsave[3] &= (uint8_t)~0x38;
	cpu->xsave[4] = 0xff;
	cpu->xsave[VEC_HEADER] |= 1;
}

/*
 * MASKMOVQ, MASKMOVDQU, VMASKMOVDQU: bytes to DS:rDI.  The whole block must be
 * writable whatever the mask says (the manuals leave it open; AMD's do this).
 */
static int
vec_maskmov_bytes(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	bool mmx = in->zi.mnemonic == ZYDIS_MNEMONIC_MASKMOVQ;
	uint64_t amask = exec_mask(in->addrsize);
	uint64_t off = cpu->gpr[VMM_REG_RDI] & amask;
	unsigned n = mmx ? 8 : 16;
	ZydisRegister reg[2] = { 0, 0 };
	struct vec v[2];
	unsigned i, k = 0;
	gva_t la;
	int ret;

	/* The memory operand is implicit; the registers are the explicit two. */
	for (i = 0; i < in->zi.operand_count && k < 2; i++)
		if (in->op[i].type == ZYDIS_OPERAND_TYPE_REGISTER &&
		    vec_number(in->op[i].reg.value) >= 0)
			reg[k++] = in->op[i].reg.value;
	if (k < 2)
		return soft_raise(cpu, SOFT_EXC_UD);
	if (mmx && cpu->xsave[2] & 0x80)
		return soft_raise(cpu, SOFT_EXC_MF);
	memset(v, 0, sizeof(v));
	for (i = 0; i < 2; i++) {
		int r = vec_number(reg[i]);

		if (mmx)
			memcpy(v[i].b, cpu->xsave + VEC_MMX +
			    16 * ((r - vec_top(cpu)) & 7), 8);
		else
			vec_get(cpu, r, &v[i]);
	}
	if (mmx)
		vec_enter_mmx(cpu);
	ret = exec_linear(cpu, x->seg, off, n, VMM_PROT_WRITE, &la);
	if (ret == SOFT_OK)
		ret = exec_probe(cpu, la, n, VMM_PROT_WRITE);
	if (ret == SOFT_OK)
		ret = vec_masked_store(cpu, x->seg, off, amask, &v[0],
		    &v[1], 1, n);
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

/* --- XLAT, BOUND ------------------------------------------------------- */

static int
vec_xlat(struct soft_cpu *cpu, const struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	uint64_t off, val;
	int ret;

	off = (cpu->gpr[VMM_REG_RBX] + (cpu->gpr[VMM_REG_RAX] & 0xff)) &
	    exec_mask(in->addrsize);
	ret = exec_load(cpu, x->seg, off, 1, &val);
	if (ret != SOFT_OK)
		return ret;
	exec_wreg(cpu, VMM_REG_RAX, 1, val);
	return exec_done(cpu, in);
}

static int
vec_bound(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	int r = exec_gpr(in->op[0].reg.value), ret;
	unsigned n = in->opsize;
	uint64_t off = exec_ea(cpu, x), lo, hi;
	int64_t i;

	if (r < 0 || in->memop < 0)
		return soft_raise(cpu, SOFT_EXC_UD);
	ret = exec_load(cpu, in->mem_seg, off, n, &lo);
	if (ret == SOFT_OK)
		ret = exec_load(cpu, in->mem_seg,
		    (off + n) & exec_mask(in->addrsize), n, &hi);
	if (ret != SOFT_OK)
		return ret;
	i = (int64_t)exec_sext(cpu->gpr[r], n);
	if (i < (int64_t)exec_sext(lo, n) || i > (int64_t)exec_sext(hi, n))
		return soft_raise(cpu, SOFT_EXC_BR);
	return exec_done(cpu, in);
}

/* VZEROALL and VZEROUPPER outside 64-bit mode, where there are eight. */
static int
vec_zero(struct soft_cpu *cpu, const struct soft_insn *in, bool all)
{
	struct vec v;

	for (int r = 0; r < 8; r++) {
		vec_get(cpu, r, &v);
		memset(v.b + (all ? 0 : 16), 0, all ? 32 : 16);
		vec_put(cpu, r, &v);
	}
	return exec_done(cpu, in);
}

int
exec_pieces(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	struct vec_gather g;
	int ret;

	if (x->vec) {
		ret = exec_vec_check(cpu, in);
		if (ret != SOFT_OK)
			return ret;
	}
	if (vec_gather(in->zi.mnemonic, &g))
		return vec_gather_run(cpu, x, g);
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_VMASKMOVPS:
	case ZYDIS_MNEMONIC_VPMASKMOVD:
		return vec_maskmov(cpu, x, 4);
	case ZYDIS_MNEMONIC_VMASKMOVPD:
	case ZYDIS_MNEMONIC_VPMASKMOVQ:
		return vec_maskmov(cpu, x, 8);
	case ZYDIS_MNEMONIC_MASKMOVQ:
	case ZYDIS_MNEMONIC_MASKMOVDQU:
	case ZYDIS_MNEMONIC_VMASKMOVDQU:
		return vec_maskmov_bytes(cpu, x);
	case ZYDIS_MNEMONIC_XLAT:
		return vec_xlat(cpu, x);
	case ZYDIS_MNEMONIC_BOUND:
		return vec_bound(cpu, x);
	case ZYDIS_MNEMONIC_VZEROALL:
	case ZYDIS_MNEMONIC_VZEROUPPER:
		return vec_zero(cpu, in,
		    in->zi.mnemonic == ZYDIS_MNEMONIC_VZEROALL);
	default:
		/* One block of memory after all (CMPXCHG8B, 16B). */
		x->kind = in->memop >= 0 ? EXEC_K_MEM : EXEC_K_REG;
		return exec_op_run(cpu, x);
	}
}
