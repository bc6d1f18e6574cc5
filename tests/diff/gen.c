/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cases from seeds.
 *
 * Instructions are random bytes, shaped a little (prefixes, opcode maps), kept
 * if they decode to something allowed, and then mended so that they often do
 * something: displacements are made small, addresses prefer registers that
 * still hold pointers into the case's memory, branches go to an instruction
 * ahead.  Nothing is made certain: some cases fault at once, and should.
 */
#include <string.h>

#include "gen.h"

bool diff_m32, diff_lock;
uint8_t diff_image[DIFF_PAGES][DIFF_PAGE];

/* --- data --------------------------------------------------------------- */

uint64_t
gen_int(struct gen *g)
{
	static const uint64_t edge[] = { 0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff,
		0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
		0x7ffffffffffffffful, 0x8000000000000000ul, ~0ul, ~1ul,
		0x0123456789abcdeful };

	switch (gen_n(g, 5)) {
	case 0:
		return edge[gen_n(g, sizeof(edge) / sizeof(edge[0]))];
	case 1:
		return gen_n(g, 70);
	case 2:
		return gen_u64(g) >> gen_n(g, 64);
	case 3:
		return (uint64_t)-(int64_t)gen_n(g, 300);
	default:
		return gen_u64(g);
	}
}

static uint64_t
gen_double(struct gen *g)
{
	static const uint64_t d[] = { 0x3ff0000000000000, 0xbff0000000000000,
		0x4000000000000000, 0x3fe0000000000000, 0x400921fb54442d18,
		0x7ff0000000000000, 0xfff0000000000000, 0x7ff8000000000000,
		0x7ff0000000000001, 0x0000000000000001, 0x000fffffffffffff,
		0x0010000000000000, 0x7fefffffffffffff, 0x8000000000000000,
		0x41dfffffffc00000, 0x43e0000000000000, 0x4340000000000001 };

	switch (gen_n(g, 3)) {
	case 0:
		return d[gen_n(g, sizeof(d) / sizeof(d[0]))];
	case 1:
		return (gen_u64(g) & 0x800ffffffffffffful) |
		    (uint64_t)(1003 + gen_n(g, 50)) << 52;
	default:
		return gen_u64(g);
	}
}

static uint32_t
gen_float(struct gen *g)
{
	static const uint32_t f[] = { 0x3f800000, 0xbf800000, 0x40000000,
		0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001, 1, 0x007fffff,
		0x00800000, 0x7f7fffff, 0x80000000, 0x4f000000, 0x5f000000 };

	switch (gen_n(g, 3)) {
	case 0:
		return f[gen_n(g, sizeof(f) / sizeof(f[0]))];
	case 1:
		return ((uint32_t)gen_u64(g) & 0x807fffff) |
		    (uint32_t)(112 + gen_n(g, 30)) << 23;
	default:
		return (uint32_t)gen_u64(g);
	}
}

/* Ten bytes, in sixteen. */
static void
gen_extended(struct gen *g, uint8_t *p)
{
	uint64_t m;
	uint16_t e;

	switch (gen_n(g, 8)) {
	case 0:
		m = 0, e = 0;
		break;
	case 1:
		m = 1ul << 63 | (gen_n(g, 2) ? 1ul << 62 : 0), e = 0x7fff;
		break;
	case 2:
		m = gen_u64(g), e = (uint16_t)gen_u64(g);
		break;
	case 3:
		m = gen_u64(g) >> 1, e = 0;
		break;
	default:
		m = gen_u64(g) | 1ul << 63;
		e = (uint16_t)(0x3fff - 40 + gen_n(g, 80));
		break;
	}
	if (gen_n(g, 2))
		e |= 0x8000;
	memset(p, 0, 16);
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static void
gen_vector(struct gen *g, uint8_t p[16])
{
	unsigned kind = gen_n(g, 5);

	for (unsigned i = 0; i < 4; i++) {
		uint32_t f = kind == 0 ? gen_float(g) : kind == 1 ?
		    gen_n(g, 64) : kind == 2 ? (uint32_t)gen_int(g) :
		    (uint32_t)gen_u64(g);

		memcpy(p + 4 * i, &f, 4);
	}
	for (unsigned i = 0; kind == 4 && i < 2; i++) {
		uint64_t d = gen_double(g);

		memcpy(p + 8 * i, &d, 8);
	}
}

uint64_t
gen_pointer(struct gen *g)
{
	uint64_t base = DIFF_DATA, size = DIFF_DATA_PAGES * DIFF_PAGE, off;

	switch (gen_n(g, 16)) {
	case 0:
		base = DIFF_RO, size = DIFF_PAGE;
		break;
	case 1:
		base = DIFF_STACK, size = DIFF_STACK_PAGES * DIFF_PAGE;
		break;
	case 2:
		base = DIFF_CODE, size = DIFF_CODE_PAGES * DIFF_PAGE;
		break;
	default:
		break;
	}
	if (gen_n(g, 8) == 0) /* near a page end, maybe the last */
		off = DIFF_PAGE * (gen_n(g, (unsigned)(size / DIFF_PAGE)) + 1) -
		    gen_n(g, 40);
	else
		off = gen_n(g, (unsigned)size);
	if (gen_n(g, 4) != 0)
		off &= gen_n(g, 2) ? ~63ul : ~7ul;
	return base + off;
}

void
diff_gen_image(void)
{
	struct gen g = { .s = 0x6879766564696666ul };

	for (unsigned i = 0; i < DIFF_PAGES; i++)
		for (unsigned j = 0; j < DIFF_PAGE; j += 16) {
			uint8_t *p = &diff_image[i][j];
			uint64_t v[2];

			switch (gen_n(&g, 4)) {
			case 0:
				v[0] = gen_n(&g, 4) ? gen_int(&g) :
				    gen_pointer(&g);
				v[1] = gen_int(&g);
				memcpy(p, v, 16);
				break;
			case 1:
				gen_extended(&g, p);
				break;
			default:
				gen_vector(&g, p);
				break;
			}
		}
}

uint64_t
diff_hash(const uint8_t *page)
{
	uint64_t h = 1, v;

	for (unsigned i = 0; i < DIFF_PAGE; i += 8) {
		memcpy(&v, page + i, 8);
		h = (h ^ v) * 0x9e3779b97f4a7c15ul;
		h ^= h >> 29;
	}
	return h | 1;
}

/* --- state --------------------------------------------------------------- */

void
gen_state(struct gen *g, struct diff_state *st)
{
	uint8_t *x = st->xsave;
	uint32_t mxcsr = 0x1f80;
	uint16_t fcw = 0x37f, fsw = 0;
	uint64_t bv = 7;

	memset(st, 0, sizeof(*st));
	for (unsigned i = 0; i < 16; i++) {
		unsigned k = gen_n(g, 100);
		uint16_t bit = (uint16_t)(1u << i);

		if (k < 45 || (k < 70 && (i == 6 || i == 7 || i == 3))) {
			st->gpr[i] = gen_pointer(g);
			g->ptrs |= bit;
		} else if (k < 75) {
			st->gpr[i] = gen_n(g, 40);
			g->small |= bit;
		} else if (k < 97) {
			st->gpr[i] = gen_int(g);
		} else {
			st->gpr[i] = gen_u64(g) << 16 | 0x8000000000000000ul;
		}
	}
	/* A mask for XSAVE that is in everybody's XCR0. */
	if (gen_n(g, 8) == 0) {
		st->gpr[0] = gen_n(g, 8);
		st->gpr[2] = 0;
		g->small |= 5;
		g->ptrs &= ~5;
	}
	if (gen_n(g, 3) != 0) {
		st->gpr[1] = gen_n(g, 24);
		g->small |= 2;
		g->ptrs &= ~2;
	}
	st->gpr[4] = gen_n(g, 20) == 0 ? gen_pointer(g) :
	    DIFF_STACK + 0x400 + gen_n(g, 0xc00) * 2;
	if (gen_n(g, 4) != 0)
		st->gpr[4] &= ~7ul;
	g->ptrs |= 1u << 4;
	g->small &= ~(1u << 4);
	/* The upper halves of these are nobody's in 32-bit code. */
	for (unsigned i = 0; i < 8 && diff_m32; i++)
		st->gpr[i] &= 0xffffffff;
	st->rflags = 0x202 | (gen_u64(g) & SOFT_FL_ARITH);
	if (gen_n(g, 16) == 0)
		st->rflags |= SOFT_FL_DF;

	if (gen_n(g, 3) == 0)
		fcw = (uint16_t)((gen_u64(g) & 0xf00) | 0x7f);
	if (gen_n(g, 8) == 0)
		fcw &= (uint16_t)~gen_n(g, 64);
	if (gen_n(g, 2) == 0)
		fsw = (uint16_t)(gen_u64(g) & 0x7f00);
	if (gen_n(g, 8) == 0)
		fsw |= (uint16_t)gen_n(g, 128);
	/* Summary and busy follow from the others. */
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	if (gen_n(g, 3) == 0)
		mxcsr = 0x1f80 | gen_n(g, 64) | gen_n(g, 4) << 13 |
		    (gen_n(g, 2) ? 0x8040 & gen_u64(g) : 0);
	if (gen_n(g, 8) == 0)
		mxcsr &= ~(gen_n(g, 64) << 7);
	memcpy(x, &fcw, 2);
	memcpy(x + 2, &fsw, 2);
	x[4] = gen_n(g, 2) ? 0 : (uint8_t)gen_u64(g);
	if (gen_n(g, 4) == 0)
		x[4] = 0xff;
	memcpy(x + 24, &mxcsr, 4);
	for (unsigned i = 0; i < 8; i++) {
		gen_extended(g, x + 32 + 16 * i);
		if (gen_n(g, 8) == 0) { /* was an MMX register */
			uint64_t v = gen_u64(g);

			memcpy(x + 32 + 16 * i, &v, 8);
			memset(x + 40 + 16 * i, 0xff, 2);
		}
	}
	for (unsigned i = 0; i < 16; i++) {
		gen_vector(g, x + 160 + 16 * i);
		gen_vector(g, x + 576 + 16 * i);
	}
	memcpy(x + 512, &bv, 8);
}

void
diff_xsave_canon(uint8_t *x)
{
	uint64_t bv;
	uint16_t fcw = 0x37f;

	memcpy(&bv, x + 512, 8);
	if (!(bv & 1)) {
		memset(x, 0, 24);
		memcpy(x, &fcw, 2);
		memset(x + 32, 0, 128);
	}
	if (!(bv & 2))
		memset(x + 160, 0, 256);
	if (!(bv & 4))
		memset(x + 576, 0, 256);
	/* Last opcode and pointers: docs/CAVEATS-cpu.md. */
	memset(x + 6, 0, 18);
	memset(x + 28, 0, 4); /* MXCSR mask */
	for (unsigned i = 0; i < 8; i++)
		memset(x + 42 + 16 * i, 0, 6);
	memset(x + 416, 0, 576 - 416);
}

/* --- instructions --------------------------------------------------------- */

/* In any ring: results that depend on more than the case. */
static bool
gen_forbidden(const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_RDRAND:
	case ZYDIS_MNEMONIC_RDSEED:
	case ZYDIS_MNEMONIC_RDTSC:
	case ZYDIS_MNEMONIC_RDTSCP:
	case ZYDIS_MNEMONIC_RDPID:
	case ZYDIS_MNEMONIC_RDPMC:
	case ZYDIS_MNEMONIC_CPUID:
	case ZYDIS_MNEMONIC_XGETBV:
	case ZYDIS_MNEMONIC_SYSCALL:
	case ZYDIS_MNEMONIC_SYSENTER:
	case ZYDIS_MNEMONIC_SYSRET:
	case ZYDIS_MNEMONIC_SYSEXIT:
	/* The host's table of segments is not ours, and UMIP hides others. */
	case ZYDIS_MNEMONIC_SGDT:
	case ZYDIS_MNEMONIC_SIDT:
	case ZYDIS_MNEMONIC_SLDT:
	case ZYDIS_MNEMONIC_STR:
	case ZYDIS_MNEMONIC_SMSW:
	case ZYDIS_MNEMONIC_LAR:
	case ZYDIS_MNEMONIC_LSL:
	case ZYDIS_MNEMONIC_VERR:
	case ZYDIS_MNEMONIC_VERW:
	case ZYDIS_MNEMONIC_LFS:
	case ZYDIS_MNEMONIC_LGS:
	case ZYDIS_MNEMONIC_LSS:
	case ZYDIS_MNEMONIC_LDS:
	case ZYDIS_MNEMONIC_LES:
	case ZYDIS_MNEMONIC_RDFSBASE:
	case ZYDIS_MNEMONIC_RDGSBASE:
	case ZYDIS_MNEMONIC_WRFSBASE:
	case ZYDIS_MNEMONIC_WRGSBASE:
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
	/* What the host thinks is in its initial state. */
	case ZYDIS_MNEMONIC_XSAVEC:
	case ZYDIS_MNEMONIC_XSAVEC64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
	case ZYDIS_MNEMONIC_XSAVES:
	case ZYDIS_MNEMONIC_XSAVES64:
	case ZYDIS_MNEMONIC_XRSTORS:
	case ZYDIS_MNEMONIC_XRSTORS64:
	/* Ring 3 of Linux may lack or have them by CR4. */
	case ZYDIS_MNEMONIC_INT1:
	case ZYDIS_MNEMONIC_MONITOR:
	case ZYDIS_MNEMONIC_MWAIT:
		return true;
	case ZYDIS_MNEMONIC_INT:
		return in->op[0].imm.value.u == 0x80;
	default:
		break;
	}
	if (in->zi.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return true;
	/* Loads of segment registers. */
	if (in->cls == SOFT_C_SYS &&
	    in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER &&
	    ZydisRegisterGetClass(in->op[0].reg.value) ==
	    ZYDIS_REGCLASS_SEGMENT && in->zi.mnemonic != ZYDIS_MNEMONIC_PUSH)
		return true;
	return false;
}

bool
diff_allowed(const struct soft_insn *in, bool ring0)
{
	if (in->len == 0) /* too long: #GP */
		return true;
	if (in->cls == SOFT_C_UD) {
		/* Only what is undefined everywhere: the guest has fewer
		 * extensions than the host, Zydis knows fewer.  Whether UD0
		 * and UD1 fetch a ModRM byte differs. */
		return in->zi.mnemonic == ZYDIS_MNEMONIC_UD2 ||
		    in->zi.mnemonic == ZYDIS_MNEMONIC_NOP;
	}
	if (gen_forbidden(in))
		return false;
	if (!ring0)
		return true;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
	case ZYDIS_MNEMONIC_INT3:
		return true;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return false;
	default:
		return in->cls != SOFT_C_SYS;
	}
}

void
diff_note_mask(struct diff_case *c, uint64_t va, unsigned n)
{
	if (c->nmask == DIFF_MASKS)
		return;
	c->mask[c->nmask].va = va;
	c->mask[c->nmask++].n = n;
}

void
diff_note_insn(struct diff_case *c, const struct soft_insn *in, uint64_t ea)
{
	unsigned off, n;

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
		off = in->opsize == 2 ? 6 : 12;
		n = in->opsize == 2 ? 8 : 16;
		break;
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
		off = 6;
		n = 18;
		break;
	default:
		return;
	}
	diff_note_mask(c, ea + off, n);
}

void
diff_mask_page(const struct diff_case *c, unsigned i, uint8_t *page)
{
	uint64_t va = diff_page_va(i);

	for (unsigned k = 0; k < c->nmask; k++)
		for (unsigned j = 0; j < c->mask[k].n; j++)
			if (c->mask[k].va + j - va < DIFF_PAGE)
				page[c->mask[k].va + j - va] = 0;
}

static void
gen_bytes(struct gen *g, uint8_t b[15])
{
	static const uint8_t prefix[] = { 0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x2e,
		0x36, 0x3e, 0x26, 0x64, 0x65 };
	unsigned n = 0, i;

	for (i = 0; i < 15; i++)
		b[i] = (uint8_t)gen_u64(g);
	while (gen_n(g, 4) == 0 && n < 4)
		b[n++] = prefix[gen_n(g, gen_n(g, 4) ? 3 : sizeof(prefix))];
	if (gen_n(g, 64) == 0) { /* gathers are a rare pattern */
		b[0] = 0xc4;
		b[1] = (uint8_t)((b[1] & (diff_m32 ? 0 : 0xe0)) |
		    (diff_m32 ? 0xe0 : 0) | 2);
		b[2] = (b[2] & 0xfc) | 1;
		b[3] = 0x90 | (b[3] & 3);
		b[4] = (b[4] & 0x78) | 4;
		return;
	}
	if (gen_n(g, 64) == 0) { /* so are aligned images of the units */
		n = 0;
		if (!diff_m32 && gen_n(g, 2))
			b[n++] = 0x48;
		b[n++] = 0x0f;
		b[n++] = 0xae;
		b[n] &= 0x2f;
		return;
	}
	switch (gen_n(g, 8)) {
	case 0:
	case 1:
	case 2:
		if (!diff_m32)
			b[n++] = 0x40 | (b[14] & 15);
		break;
	case 3:
		b[0] = 0xc5;
		if (diff_m32)
			b[1] |= 0xc0;
		if (gen_n(g, 3) == 0) /* no third register */
			b[1] |= 0x78;
		return;
	case 4:
		b[0] = 0xc4;
		b[1] = (uint8_t)((b[1] & 0xe0) | (1 + gen_n(g, 3)));
		if (diff_m32)
			b[1] |= 0xc0;
		if (gen_n(g, 3) == 0)
			b[2] |= 0x78;
		return;
	default:
		break;
	}
	switch (gen_n(g, 9)) {
	case 0:
	case 1:
		b[n++] = 0x0f;
		break;
	case 2:
		b[n++] = 0x0f;
		b[n++] = 0x38;
		break;
	case 3:
		b[n++] = 0x0f;
		b[n++] = 0x3a;
		break;
	case 4:
		b[n] = 0xd8 | (b[n] & 7); /* x87 */
		break;
	default:
		break;
	}
}

static void
gen_put(uint8_t *p, uint64_t v, unsigned n)
{
	memcpy(p, &v, n);
}

/* Makes memory operands useful. => false: try another */
static bool
gen_mend(struct gen *g, struct soft_insn *in, uint64_t next)
{
	const ZydisDecodedOperandMem *m;
	const struct ZydisDecodedInstructionRawDisp_ *d = &in->zi.raw.disp;
	int base, index;

	if (in->memop < 0)
		return true;
	m = &in->op[in->memop].mem;
	base = soft_gpr_number(m->base);
	index = soft_gpr_number(m->index);
	if (g->favour >= 0 && base >= 0 && base < 8 && d->size != 64 &&
	    in->zi.raw.modrm.rm != 4 && gen_n(g, 2) &&
	    (g->ptrs & 1u << g->favour)) {
		in->bytes[in->zi.raw.modrm.offset] = (uint8_t)
		    ((in->bytes[in->zi.raw.modrm.offset] & ~7) | g->favour);
		base = g->favour;
	}
	if (in->mem_access != 0 && gen_n(g, 8) != 0) {
		if (base < 0 && m->base != ZYDIS_REGISTER_RIP &&
		    d->size != 64)
			return false;
		if (base >= 0 && !(g->ptrs & 1u << base))
			return false;
		if (index >= 0 && !(g->small & 1u << index))
			return false;
	}
	if (d->size == 64) { /* moffs */
		if (gen_n(g, 8) != 0)
			gen_put(in->bytes + d->offset, gen_pointer(g), 8);
	} else if (m->base == ZYDIS_REGISTER_RIP) {
		gen_put(in->bytes + d->offset,
		    (uint32_t)(gen_pointer(g) - next), 4);
	} else if (d->size == 32 && gen_n(g, 16) != 0) {
		if (base < 0)
			gen_put(in->bytes + d->offset, gen_pointer(g), 4);
		else
			gen_put(in->bytes + d->offset,
			    gen_n(g, 600) - 300u, 4);
	}
	return true;
}

static bool
gen_image_insn(const struct soft_insn *in)
{
	/* XRSTOR and FXRSTOR ignore them. */
	return in->cls == SOFT_C_FPUMEM && (in->mem_access & VMM_PROT_WRITE);
}

void
gen_one(struct gen *g, uint64_t at, struct soft_insn *in)
{
	uint8_t b[15];

	for (;;) {
		gen_bytes(g, b);
		if (soft_decode(b, sizeof(b), diff_m32 ? SOFT_KEY_D :
		    SOFT_KEY_L, in) != 0 ||
		    in->len == 0 || !diff_allowed(in, false))
			continue;
		if (in->cls == SOFT_C_UD && gen_n(g, 4) != 0)
			continue;
		if (!gen_mend(g, in, at + in->len))
			continue;
		memcpy(b, in->bytes, in->len);
		if (soft_decode(b, in->len, diff_m32 ? SOFT_KEY_D :
		    SOFT_KEY_L, in) == 0)
			return;
	}
}

/*
 * Four seeds share their code, so that what was made of it is used again.  All
 * but the first get other values where the code does not rely on them.
 */
static void
gen_variant(const struct gen *g, struct diff_state *st, uint64_t seed)
{
	struct gen v = { .s = seed * 0x9fb21c651e98df25ul };

	if ((seed & 3) == 0)
		return;
	for (unsigned i = 0; i < 16; i++)
		if (g->small & 1u << i)
			st->gpr[i] = gen_n(&v, 40);
		else if (!(g->ptrs & 1u << i))
			st->gpr[i] = gen_int(&v);
	for (unsigned i = 0; i < 8 && diff_m32; i++)
		st->gpr[i] &= 0xffffffff;
	st->rflags ^= gen_u64(&v) & SOFT_FL_ARITH;
	for (unsigned i = 0; i < 8; i++)
		gen_extended(&v, st->xsave + 32 + 16 * i);
	for (unsigned i = 0; i < 16; i++) {
		gen_vector(&v, st->xsave + 160 + 16 * i);
		gen_vector(&v, st->xsave + 576 + 16 * i);
	}
}

static bool
gen_is_branch(const struct soft_insn *in)
{
	return in->zi.raw.imm[0].is_relative;
}

void
diff_gen(uint64_t seed, struct diff_case *c)
{
	struct gen g = { .s = (seed >> 2) * 0x2545f4914f6cdd1dul };
	struct soft_insn in;
	struct {
		uint8_t at, end, size;
		uint16_t off;
	} br[DIFF_INSN_MAX];
	unsigned n, nbr = 0, len = 0;
	uint16_t start[DIFF_INSN_MAX + 1];

	memset(c, 0, sizeof(*c));
	c->seed = seed;
	gen_state(&g, &c->in);
	gen_variant(&g, &c->in, seed);
	g.favour = "\0\3\6\7"[gen_n(&g, 4)];
	if (gen_n(&g, 2) == 0)
		g.favour = -1;
	n = 1 + gen_n(&g, gen_n(&g, 3) ? 6 : DIFF_INSN_MAX);
	/* At the end of a page, or of all code, now and then. */
	c->code_off = gen_n(&g, 8) == 0 ? DIFF_PAGE *
	    (1 + gen_n(&g, DIFF_CODE_PAGES)) - gen_n(&g, 60) :
	    gen_n(&g, DIFF_CODE_PAGES * DIFF_PAGE - DIFF_CODE_MAX);
	for (unsigned i = 0; i < n; i++) {
		gen_one(&g, DIFF_CODE + c->code_off + len, &in);
		if (len + in.len > DIFF_CODE_MAX - 16)
			break;
		start[i] = (uint16_t)len;
		memcpy(c->code + len, in.bytes, in.len);
		if (gen_is_branch(&in)) {
			br[nbr].at = (uint8_t)i;
			br[nbr].size = in.zi.raw.imm[0].size / 8;
			br[nbr].end = (uint8_t)(len + in.len);
			br[nbr++].off = (uint16_t)(len +
			    in.zi.raw.imm[0].offset);
		}
		len += in.len;
		c->insn_len[i] = in.len;
		c->ninsn = i + 1;
		g.ptrs &= ~in.gpr_write | 1u << 4;
		g.small &= ~in.gpr_write;
		/* Bytes that are not compared must not be copied about. */
		if (gen_image_insn(&in))
			break;
	}
	start[c->ninsn] = (uint16_t)len;
	for (unsigned i = 0; i < nbr; i++) {
		unsigned to = br[i].at + 1u +
		    gen_n(&g, c->ninsn - br[i].at);
		int32_t rel = (int32_t)start[to] - br[i].end;

		/* Backwards, maybe for ever, but LOOP counts. */
		if (gen_n(&g, c->code[br[i].off - 1] - 0xe0u < 3 ? 2 : 16) == 0)
			rel = (int32_t)start[gen_n(&g, br[i].at + 1u)] -
			    br[i].end;
		if (gen_n(&g, 32) != 0)
			memcpy(c->code + br[i].off, &rel, br[i].size);
	}
	if (c->code_off + len > DIFF_CODE_PAGES * DIFF_PAGE)
		len = DIFF_CODE_PAGES * DIFF_PAGE - c->code_off;
	c->code_len = len;
	c->in.rip = DIFF_CODE + c->code_off;
}
