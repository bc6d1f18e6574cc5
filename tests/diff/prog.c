/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Programs from seeds: what the translator's optimizer sees.
 *
 * A program is a few functions that call each other downwards, with frames,
 * nested loops, pushes, jumps through tables, returns that match their call
 * and such as do not, string instructions and strides over memory, filled up
 * with random instructions on the same registers.  Some registers keep
 * pointers and small numbers, so that a program runs on for thousands of
 * instructions; it ends at INT3, or by whatever fault comes up.
 */
#include <string.h>

#include "gen.h"

#define PROG_FUNCS 5u
#define PROG_LABELS 400u
#define PROG_FIXES 600u
#define PROG_SLOTS 8u /* of eight bytes in a frame: 4 counters, 4 others */
#define PROG_ROOM 200u /* bytes that one item takes at most */

struct prog {
	struct gen g;
	struct diff_case *c;
	unsigned limit;		    /* of code_len */
	uint16_t keep;		    /* registers that random code leaves alone */
	unsigned nfunc, func;	    /* how many; the one being made */
	unsigned flabel[PROG_FUNCS]; /* their labels */
	unsigned nlabel, nfix, depth;
	int32_t label[PROG_LABELS]; /* offset in code, or -1 */
	struct {
		uint16_t at, label;
		bool abs;
	} fix[PROG_FIXES];
};

static void
prog_put(struct prog *p, const void *b, unsigned n)
{
	struct diff_case *c = p->c;

	memcpy(c->code + c->code_len, b, n);
	c->code_len += n;
}

/* One instruction (or a piece of data). */
static void
prog_insn(struct prog *p, const void *b, unsigned n)
{
	struct diff_case *c = p->c;

	if (c->ninsn < DIFF_PROG_INSNS)
		c->insn_len[c->ninsn++] = (uint8_t)n;
	prog_put(p, b, n);
}
#define PROG(p, ...) prog_insn(p, (const uint8_t[]){ __VA_ARGS__ }, \
    sizeof((const uint8_t[]){ __VA_ARGS__ }))

static uint64_t
prog_pc(const struct prog *p)
{
	return DIFF_CODE + p->c->code_off + p->c->code_len;
}

static unsigned
prog_label(struct prog *p)
{
	unsigned l = p->nlabel < PROG_LABELS - 1 ? p->nlabel++ : p->nlabel;

	p->label[l] = -1;
	return l;
}

static void
prog_here(struct prog *p, unsigned l)
{
	p->label[l] = (int32_t)p->c->code_len;
}

/* The last four (abs: eight) bytes mean a label. */
static void
prog_fix(struct prog *p, unsigned l, bool abs)
{
	if (p->nfix == PROG_FIXES)
		return;
	p->fix[p->nfix].at = (uint16_t)(p->c->code_len - (abs ? 8 : 4));
	p->fix[p->nfix].label = (uint16_t)l;
	p->fix[p->nfix++].abs = abs;
}

static void
prog_jump(struct prog *p, unsigned op, unsigned l) /* e8, e9 */
{
	PROG(p, (uint8_t)op, 0, 0, 0, 0);
	prog_fix(p, l, false);
}

static void
prog_jcc(struct prog *p, unsigned cc, unsigned l)
{
	PROG(p, 0x0f, (uint8_t)(0x80 | cc), 0, 0, 0, 0);
	prog_fix(p, l, false);
}

/* REX.W with r in rm or in opcode, x in reg */
#define REXW(x, r) (uint8_t)(0x48 | ((x) >= 8 ? 4 : 0) | ((r) >= 8 ? 1 : 0))
#define RM(mod, x, r) (uint8_t)((mod) << 6 | ((x) & 7) << 3 | ((r) & 7))

static void
prog_mov_imm(struct prog *p, unsigned r, uint64_t v)
{
	uint8_t b[10] = { REXW(0, r), (uint8_t)(0xb8 | (r & 7)) };

	memcpy(b + 2, &v, 8);
	prog_insn(p, b, 10);
}

static void
prog_lea_label(struct prog *p, unsigned r, unsigned l)
{
	PROG(p, REXW(r, 0), 0x8d, RM(0, r, 5), 0, 0, 0, 0);
	prog_fix(p, l, false);
}

static void
prog_push(struct prog *p, unsigned r)
{
	PROG(p, (uint8_t)(r >= 8 ? 0x41 : 0x40), (uint8_t)(0x50 | (r & 7)));
}

static void
prog_pop(struct prog *p, unsigned r)
{
	PROG(p, (uint8_t)(r >= 8 ? 0x41 : 0x40), (uint8_t)(0x58 | (r & 7)));
}

/* A register that may change. */
static unsigned
prog_free_reg(struct prog *p)
{
	unsigned r;

	do
		r = gen_n(&p->g, 16);
	while ((p->keep >> r & 1) != 0);
	return r;
}

static unsigned
prog_reg_of(struct prog *p, uint16_t set)
{
	unsigned r;

	do
		r = gen_n(&p->g, 16);
	while ((set >> r & 1) == 0);
	return r;
}

/* Somewhere in the data, often near the end of a page. */
static uint64_t
prog_address(struct prog *p, unsigned room)
{
	uint64_t off = gen_n(&p->g, DIFF_DATA_PAGES * DIFF_PAGE - 2 * room) + room;

	if (gen_n(&p->g, 4) == 0)
		off = DIFF_PAGE * (1 + gen_n(&p->g, DIFF_DATA_PAGES - 1)) -
		    gen_n(&p->g, 80);
	if (gen_n(&p->g, 3) != 0)
		off &= ~7ul;
	return DIFF_DATA + off;
}

static bool
prog_takes(struct prog *p, const struct soft_insn *in)
{
	const ZydisDecodedOperandMem *m;
	int base, index;

	if (in->cls != SOFT_C_NATIVE || (in->gpr_write & p->keep) != 0)
		return false;
	/* Those that end most programs. */
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_DIV:
	case ZYDIS_MNEMONIC_IDIV:
		return gen_n(&p->g, 30) == 0;
	default:
		break;
	}
	if (in->fpu && gen_n(&p->g, 4) != 0)
		return false;
	if (in->memop < 0 || in->mem_access == 0)
		return true;
	m = &in->op[in->memop].mem;
	base = soft_gpr_number(m->base);
	index = soft_gpr_number(m->index);
	if (in->sse && !in->avx && in->mem_bytes == 16 && gen_n(&p->g, 16) != 0)
		return false;
	if (in->addrsize != 8 || m->type != ZYDIS_MEMOP_TYPE_MEM ||
	    (in->mem_seg >= VMM_SEG_FS && gen_n(&p->g, 8) != 0))
		return gen_n(&p->g, 40) == 0;
	if (m->base == ZYDIS_REGISTER_RIP)
		return true;
	if (base < 0 || (p->g.ptrs >> base & 1) == 0 || base == 4)
		return false;
	return index < 0 || (p->g.small >> index & 1) != 0;
}

static void
prog_random(struct prog *p)
{
	struct soft_insn in;

	do {
		/* Another base often: groups of accesses. */
		if (gen_n(&p->g, 3) == 0)
			p->g.favour = (int)prog_reg_of(p, p->g.ptrs & 0xef);
		gen_one(&p->g, prog_pc(p), &in);
	} while (!prog_takes(p, &in));
	prog_insn(p, in.bytes, in.len);
}

/* reg x and [pointer + small * scale + disp], as compilers write it */
static void
prog_operand(struct prog *p, unsigned prefix, bool w, const uint8_t *op,
    unsigned nop, unsigned x)
{
	unsigned base = prog_reg_of(p, p->g.ptrs), index = 4, n = 0;
	int32_t disp = (int32_t)gen_n(&p->g, gen_n(&p->g, 2) ? 30 : 4) * 8 - 16;
	uint8_t b[16];

	if (gen_n(&p->g, 4) == 0)
		index = prog_reg_of(p, p->g.small);
	if (prefix != 0)
		b[n++] = (uint8_t)prefix;
	b[n++] = (uint8_t)(0x40 | (w ? 8 : 0) | (x >= 8 ? 4 : 0) |
	    (index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
	memcpy(b + n, op, nop);
	n += nop;
	if (index != 4 || (base & 7) == 4) {
		b[n++] = RM(2, x, 4);
		b[n++] = (uint8_t)(gen_n(&p->g, 4) << 6 | (index & 7) << 3 |
		    (base & 7));
	} else {
		b[n++] = RM(2, x, base);
	}
	memcpy(b + n, &disp, 4);
	prog_insn(p, b, n + 4);
}

static void
prog_plain(struct prog *p)
{
	static const uint8_t load[] = { 0x8b, 0x8b, 0x03, 0x2b, 0x23, 0x33, 0x3b,
		0x8d };
	static const uint8_t store[] = { 0x89, 0x89, 0x89, 0x01, 0x29, 0x39,
		0x88 };
	static const uint8_t reg[] = { 0x89, 0x89, 0x01, 0x29, 0x31, 0x21, 0x39,
		0x85, 0x11, 0x19 };
	static const uint8_t vec[] = { 0x10, 0x10, 0x11, 0x11, 0x58, 0x59, 0x5c };
	static const uint8_t pfx[] = { 0, 0x66, 0xf2, 0xf3 };
	unsigned r = prog_free_reg(p), x = gen_n(&p->g, 16);
	bool w = gen_n(&p->g, 3) != 0;
	uint8_t op[3] = { 0x0f };

	switch (gen_n(&p->g, 10)) {
	case 0:
	case 1:
	case 2:
		prog_operand(p, 0, w, &load[gen_n(&p->g, sizeof(load))], 1, r);
		break;
	case 3:
	case 4:
		prog_operand(p, 0, w, &store[gen_n(&p->g, sizeof(store))], 1, x);
		break;
	case 5:
		op[1] = (uint8_t)(0xb6 + gen_n(&p->g, 2) + 8 * gen_n(&p->g, 2));
		prog_operand(p, 0, w, op, 2, r); /* movzx, movsx */
		break;
	case 6: /* moves without alignment, scalars */
		op[1] = vec[gen_n(&p->g, sizeof(vec))];
		prog_operand(p, op[1] >= 0x58 ? 0xf2 : pfx[gen_n(&p->g, 4)],
		    false, op, 2, x);
		break;
	case 7: /* mov, add, cmp ... r, x */
		PROG(p, (uint8_t)(0x40 | (w ? 8 : 0) | (x >= 8 ? 4 : 0) |
		    (r >= 8 ? 1 : 0)), reg[gen_n(&p->g, sizeof(reg))],
		    RM(3, x, r));
		break;
	case 8: /* setcc, cmovcc */
		if (gen_n(&p->g, 2))
			PROG(p, (uint8_t)(0x40 | (r >= 8)), 0x0f,
			    (uint8_t)(0x90 | gen_n(&p->g, 16)), RM(3, 0, r));
		else
			PROG(p, REXW(r, x), 0x0f,
			    (uint8_t)(0x40 | gen_n(&p->g, 16)), RM(3, r, x));
		break;
	default: /* lea r, [x + imm] and shl, sar, imul */
		if (gen_n(&p->g, 2))
			PROG(p, REXW(r, 0), 0xc1, RM(3, 4 + gen_n(&p->g, 2), r),
			    (uint8_t)gen_n(&p->g, 64));
		else
			PROG(p, REXW(r, x), 0x0f, 0xaf, RM(3, r, x));
		break;
	}
}

/* op r, [rsp + slot]: a frame, as compilers use it */
static void
prog_frame(struct prog *p)
{
	static const uint8_t op[] = { 0x8b, 0x89, 0x03, 0x33, 0x3b, 0x2b, 0x01 };
	unsigned o = op[gen_n(&p->g, sizeof(op))];
	unsigned r = o == 0x89 || o == 0x3b || o == 0x01 ?
	    gen_n(&p->g, 16) : prog_free_reg(p);

	PROG(p, REXW(r, 0), (uint8_t)o, RM(1, r, 4), 0x24,
	    (uint8_t)(8 * (4 + gen_n(&p->g, 4))));
}

static void
prog_stride(struct prog *p)
{
	unsigned r = prog_reg_of(p, p->g.ptrs & ~(1u << 4));
	unsigned d = gen_n(&p->g, 3) ? 8 : gen_n(&p->g, 40);

	if (gen_n(&p->g, 2)) /* add r, d or lea r, [r+d] */
		PROG(p, REXW(0, r), 0x83, RM(3, 0, r), (uint8_t)d);
	else if ((r & 7) != 4)
		PROG(p, REXW(r, r), 0x8d, RM(1, r, r), (uint8_t)d);
}

static void
prog_count(struct prog *p)
{
	unsigned r = prog_reg_of(p, p->g.small);

	PROG(p, REXW(0, r), 0xff, RM(3, 0, r));		  /* inc r */
	PROG(p, REXW(0, r), 0x83, RM(3, 4, r), 31);	  /* and r, 31 */
}

static void
prog_string(struct prog *p)
{
	static const uint8_t op[] = { 0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xa6, 0xae };
	unsigned k = gen_n(&p->g, sizeof(op)), w = gen_n(&p->g, 2);
	uint64_t src = prog_address(p, 400), dst = prog_address(p, 400);

	if (gen_n(&p->g, 4) == 0)
		dst = src + gen_n(&p->g, 20); /* they overlap */
	prog_push(p, 1);
	prog_push(p, 6);
	prog_push(p, 7);
	prog_mov_imm(p, 1, gen_n(&p->g, 40));
	prog_mov_imm(p, 6, src);
	prog_mov_imm(p, 7, dst);
	if (op[k] == 0xac && (p->keep & 1) != 0)
		k = 0; /* RAX is a pointer */
	PROG(p, (uint8_t)(op[k] >= 0xa6 && op[k] != 0xaa && op[k] != 0xab &&
	    op[k] != 0xac ? 0xf2 + gen_n(&p->g, 2) : 0xf3),
	    (uint8_t)(w ? 0x48 : 0x40), op[k]);
	prog_pop(p, 7);
	prog_pop(p, 6);
	prog_pop(p, 1);
}

static void prog_items(struct prog *p, unsigned n);

static void
prog_loop(struct prog *p)
{
	unsigned l = prog_label(p), slot = p->depth, n = 1 + gen_n(&p->g, 7);

	if (p->depth >= 3)
		return;
	p->depth++;
	/* mov qword [rsp + 8 slot], n */
	PROG(p, 0x48, 0xc7, 0x44, 0x24, (uint8_t)(8 * slot), (uint8_t)n, 0, 0, 0);
	prog_here(p, l);
	prog_items(p, 1 + gen_n(&p->g, 6));
	/* dec qword [rsp + 8 slot]; jnz */
	PROG(p, 0x48, 0xff, 0x4c, 0x24, (uint8_t)(8 * slot));
	prog_jcc(p, 5, l);
	p->depth--;
}

/* A loop that counts in a register, as short as compilers make them. */
static void
prog_tight(struct prog *p)
{
	unsigned r, l = prog_label(p), n = gen_n(&p->g, 8) + 1;
	uint16_t keep = p->keep;

	r = prog_free_reg(p);
	p->keep |= (uint16_t)(1u << r);
	prog_mov_imm(p, r, 1 + gen_n(&p->g, 30));
	prog_here(p, l);
	while (n-- > 0) {
		(gen_n(&p->g, 3) ? prog_plain : prog_random)(p);
		if (gen_n(&p->g, 3) == 0)
			prog_stride(p);
	}
	if (r == 1 && gen_n(&p->g, 2)) {
		/* dec rcx; jrcxz over a jump back */
		PROG(p, 0x48, 0xff, 0xc9);
		PROG(p, 0xe3, 5);
		prog_jump(p, 0xe9, l);
	} else {
		/* dec; or sub, whose flags can be made anew */
		if (gen_n(&p->g, 2))
			PROG(p, REXW(0, r), 0xff, RM(3, 1, r));
		else
			PROG(p, REXW(0, r), 0x83, RM(3, 5, r), 1);
		prog_jcc(p, 5, l);
	}
	p->keep = keep;
}

/*
 * A function that calls itself up to 40 times, and comes back from each; or,
 * half way, drops a frame or two first.
 */
static void
prog_recurse(struct prog *p)
{
	unsigned f = prog_label(p), out = prog_label(p), end = prog_label(p);
	unsigned r = prog_free_reg(p), n = 2 + gen_n(&p->g, 39);
	uint16_t keep = p->keep;

	p->keep |= (uint16_t)(1u << r);
	prog_mov_imm(p, r, n);
	prog_jump(p, 0xe8, f);
	prog_plain(p);
	prog_jump(p, 0xe9, end);
	prog_here(p, f);
	PROG(p, REXW(0, r), 0x83, RM(3, 5, r), 1); /* sub r, 1 */
	prog_jcc(p, 4, out);
	prog_plain(p);
	prog_jump(p, 0xe8, f);
	if (gen_n(&p->g, 2))
		prog_plain(p);
	PROG(p, 0xc3);
	prog_here(p, out);
	if (n > 3 && gen_n(&p->g, 2)) /* lea rsp, [rsp + 8 or 16] */
		PROG(p, 0x48, 0x8d, 0x64, 0x24,
		    (uint8_t)(8 * (1 + gen_n(&p->g, 2))));
	PROG(p, 0xc3);
	prog_here(p, end);
	p->keep = keep;
}

static void
prog_skip(struct prog *p)
{
	unsigned l = prog_label(p);

	prog_jcc(p, gen_n(&p->g, 16), l);
	prog_items(p, 1 + gen_n(&p->g, 3));
	prog_here(p, l);
}

/* jmp through a table of places ahead */
static void
prog_table(struct prog *p)
{
	unsigned table = prog_label(p), end = prog_label(p), to[4];
	unsigned t = prog_free_reg(p), s = prog_reg_of(p, p->g.small), i;
	uint64_t zero = 0;

	i = prog_free_reg(p);
	if (i == t || (t & 7) == 5)
		return;
	prog_lea_label(p, t, table);
	PROG(p, REXW(i, s), 0x8b, RM(3, i, s)); /* mov i, s */
	PROG(p, REXW(0, i), 0x83, RM(3, 4, i), 3); /* and i, 3 */
	/* jmp [t + 8 i] */
	PROG(p, (uint8_t)(0x40 | (i >= 8 ? 2 : 0) | (t >= 8 ? 1 : 0)), 0xff,
	    0x24, (uint8_t)(3 << 6 | (i & 7) << 3 | (t & 7)));
	prog_here(p, table);
	for (unsigned k = 0; k < 4; k++) {
		to[k] = prog_label(p);
		prog_insn(p, &zero, 8);
		prog_fix(p, to[k], true);
	}
	for (unsigned k = 0; k < 4; k++) {
		prog_here(p, to[k]);
		prog_random(p);
		if (gen_n(&p->g, 2))
			prog_jump(p, 0xe9, end);
	}
	prog_here(p, end);
}

static void
prog_call(struct prog *p)
{
	unsigned r, f;

	if (p->func + 1 >= p->nfunc)
		return;
	f = p->flabel[p->func + 1 + gen_n(&p->g, p->nfunc - p->func - 1)];
	switch (gen_n(&p->g, 4)) {
	case 0: /* call r */
		r = prog_free_reg(p);
		prog_lea_label(p, r, f);
		PROG(p, (uint8_t)(r >= 8 ? 0x41 : 0x40), 0xff, RM(3, 2, r));
		break;
	case 1: /* by the frame: call [rsp + 8 slot] */
		r = prog_free_reg(p);
		prog_lea_label(p, r, f);
		PROG(p, REXW(r, 0), 0x89, RM(1, r, 4), 0x24, 8 * 7);
		PROG(p, 0xff, 0x54, 0x24, 8 * 7);
		break;
	default:
		prog_jump(p, 0xe8, f);
		break;
	}
}

/* Calls and returns that do not match. */
static void
prog_odd(struct prog *p)
{
	unsigned l = prog_label(p), m, r = prog_free_reg(p);

	switch (gen_n(&p->g, 4)) {
	case 0: /* push and return */
		prog_lea_label(p, r, l);
		prog_push(p, r);
		PROG(p, 0xc3);
		break;
	case 1: /* where am I */
		prog_jump(p, 0xe8, l);
		prog_here(p, l);
		prog_pop(p, r);
		/* Its value may differ in nothing: the addresses are equal. */
		return;
	case 2: /* a call that never comes back */
		m = prog_label(p);
		prog_jump(p, 0xe8, m);
		PROG(p, 0xcc);
		prog_here(p, m);
		PROG(p, 0x48, 0x8d, 0x64, 0x24, 8); /* lea rsp, [rsp+8] */
		break;
	default: /* one that comes back elsewhere */
		m = prog_label(p);
		prog_jump(p, 0xe8, m);
		PROG(p, 0xcc);
		prog_here(p, m);
		prog_lea_label(p, r, l);
		PROG(p, REXW(r, 0), 0x89, RM(0, r, 4), 0x24); /* mov [rsp], r */
		PROG(p, 0xc3);
		break;
	}
	prog_here(p, l);
}

static void
prog_pushes(struct prog *p)
{
	unsigned n = 1 + gen_n(&p->g, 5);

	for (unsigned i = 0; i < n; i++)
		if (gen_n(&p->g, 8) == 0)
			PROG(p, 0x9c); /* pushfq */
		else
			prog_push(p, gen_n(&p->g, 16));
	/* Random code in between knows nothing of RSP. */
	prog_random(p);
	for (unsigned i = 0; i < n; i++)
		prog_pop(p, prog_free_reg(p));
}

static void
prog_items(struct prog *p, unsigned n)
{
	while (n-- > 0 && p->c->code_len + PROG_ROOM < p->limit) {
		switch (gen_n(&p->g, 37)) {
		case 0:
		case 1:
			prog_loop(p);
			break;
		case 2:
			prog_tight(p);
			break;
		case 3:
			prog_skip(p);
			break;
		case 4:
			prog_table(p);
			break;
		case 5:
			prog_call(p);
			break;
		case 6:
			prog_odd(p);
			break;
		case 36:
			prog_recurse(p);
			break;
		case 7:
			prog_pushes(p);
			break;
		case 8:
			prog_string(p);
			break;
		case 9:
		case 10:
			prog_frame(p);
			break;
		case 11:
		case 18:
			prog_stride(p);
			break;
		case 12:
			prog_count(p);
			break;
		case 13:
		case 14:
		case 15:
		case 16:
		case 17:
			prog_random(p);
			break;
		default:
			prog_plain(p);
			break;
		}
	}
}

static void
prog_function(struct prog *p)
{
	unsigned saved[6], n = gen_n(&p->g, 6), left;

	p->depth = 0;
	prog_here(p, p->flabel[p->func]);
	for (unsigned i = 0; i < n; i++) {
		saved[i] = prog_free_reg(p);
		prog_push(p, saved[i]);
	}
	PROG(p, 0x48, 0x83, 0xec, 8 * PROG_SLOTS); /* sub rsp, frame */
	for (unsigned r = 0; r < 16; r++)
		if (r != 4 && (p->g.ptrs >> r & 1) != 0)
			prog_mov_imm(p, r, prog_address(p, 700));
	left = p->nfunc - p->func;
	p->limit = p->c->code_len + (DIFF_PROG_MAX - 400u * left -
	    p->c->code_len) / left;
	prog_items(p, 4 + gen_n(&p->g, 30));
	if (p->func == 0) {
		PROG(p, 0xcc);
		return;
	}
	PROG(p, 0x48, 0x83, 0xc4, 8 * PROG_SLOTS);
	while (n-- > 0)
		prog_pop(p, saved[n]);
	PROG(p, 0xc3);
}

static void
prog_finish(struct prog *p)
{
	struct diff_case *c = p->c;

	for (unsigned i = 0; i < p->nfix; i++) {
		uint32_t at = p->fix[i].at;
		int32_t to = p->label[p->fix[i].label], rel = to - (int32_t)at - 4;
		uint64_t va = DIFF_CODE + c->code_off + (uint32_t)to;

		if (to < 0)
			continue;
		if (p->fix[i].abs)
			memcpy(c->code + at, &va, 8);
		else
			memcpy(c->code + at, &rel, 4);
	}
}

void
diff_gen_prog(uint64_t seed, struct diff_case *c)
{
	static struct prog prog;
	struct prog *p = &prog;
	uint32_t mxcsr = 0x1f80;
	uint16_t fcw = 0x37f, fsw = 0;

	memset(p, 0, sizeof(*p));
	memset(c, 0, sizeof(*c));
	p->g.s = seed * 0x2545f4914f6cdd1dul ^ 0x70726f67;
	p->c = c;
	c->seed = seed;
	gen_state(&p->g, &c->in);
	memcpy(c->in.xsave, &fcw, 2);
	memcpy(c->in.xsave + 2, &fsw, 2);
	memcpy(c->in.xsave + 24, &mxcsr, 4);
	c->in.rflags &= ~(uint64_t)SOFT_FL_DF;
	p->g.ptrs = p->g.small = 0;
	for (unsigned i = 0, n = 2 + gen_n(&p->g, 2); i < n; i++)
		p->g.ptrs |= (uint16_t)(1u << gen_n(&p->g, 16));
	p->g.ptrs |= 1u << "\0\3\6\7"[gen_n(&p->g, 4)]; /* one that needs no REX */
	p->g.ptrs &= (uint16_t)~(1u << 4);
	for (unsigned i = 0; i < 2; i++) {
		unsigned r = gen_n(&p->g, 16);

		if (r != 4 && (p->g.ptrs >> r & 1) == 0)
			p->g.small |= (uint16_t)(1u << r);
	}
	if (p->g.small == 0) {
		p->g.small = p->g.ptrs & 2 ? 4 : 2;
		p->g.ptrs &= (uint16_t)~p->g.small;
		p->g.ptrs |= 1u << 5;
	}
	p->keep = p->g.ptrs | p->g.small | 1u << 4;
	for (unsigned r = 0; r < 16; r++)
		if ((p->g.small >> r & 1) != 0)
			c->in.gpr[r] = gen_n(&p->g, 32);
		else if ((p->g.ptrs >> r & 1) != 0)
			c->in.gpr[r] = prog_address(p, 700);
	c->in.gpr[4] = DIFF_STACK + DIFF_STACK_PAGES * DIFF_PAGE - 0x100 -
	    8 * gen_n(&p->g, 64);
	p->nfunc = 2 + gen_n(&p->g, PROG_FUNCS - 1);
	for (unsigned i = 0; i < p->nfunc; i++)
		p->flabel[i] = prog_label(p);
	/* Across the middle of the two pages, more often than not. */
	c->code_off = gen_n(&p->g, DIFF_CODE_PAGES * DIFF_PAGE - DIFF_PROG_MAX);
	for (p->func = 0; p->func < p->nfunc; p->func++)
		prog_function(p);
	prog_finish(p);
	c->in.rip = DIFF_CODE + c->code_off;
}
