/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The executor: one instruction at a time, precisely.
 *
 * soft_exec() gets an instruction that somebody decoded, soft_step() fetches
 * its own.  The decode cache of soft_step() is found by guest physical address
 * and holds the bytes it was decoded from; they are compared with memory each
 * time, so that code may change under it in any way and no one has to tell.
 *
 * A handler returns SOFT_OK with rip advanced, or SOFT_FAULT, SOFT_EXIT with
 * all guest state as it was before the instruction (string instructions:
 * before the current iteration).
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/soft/exec_int.h"

#define EXEC_DC_SIZE 16384u
#define EXEC_DC_KEY_VALID (1ul << 63)

/* Hot part of a decode-cache entry; the decoded instruction lies apart. */
struct exec_dc {
	uint64_t key; /* gpa << 2 | D << 1 | L | valid */
	uint64_t b[2], m[2]; /* its bytes, and which of them count */
	struct exec_op x;
};

struct exec_dcache {
	struct exec_dc e[EXEC_DC_SIZE];
	struct soft_insn in[EXEC_DC_SIZE];
};

int
soft_exec_init(struct soft_cpu *cpu)
{
	struct exec_dcache *dc;
	int error;

	(void)exec_fpu_mask();
	error = exec_thunk_init(cpu);
	if (error != 0)
		return error;
	dc = mmap(NULL, sizeof(*dc), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (dc == MAP_FAILED) {
		exec_thunk_fini(cpu);
		return -ENOMEM;
	}
	cpu->decode = dc;
	return 0;
}

void
soft_exec_idle(struct soft_cpu *cpu)
{
	/* Zeros are empty entries. */
	(void)madvise(cpu->decode, sizeof(struct exec_dcache), MADV_DONTNEED);
}

void
soft_exec_fini(struct soft_cpu *cpu)
{
	if (cpu->decode != NULL)
		munmap(cpu->decode, sizeof(struct exec_dcache));
	cpu->decode = NULL;
	exec_thunk_fini(cpu);
}

/* --- preparation ------------------------------------------------------- */

static enum exec_kind
exec_native_kind(const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_LEA:
		return EXEC_K_LEA;
	default:
		break;
	}
	if (in->memop < 0)
		return EXEC_K_REG;
	return in->mem_access != 0 ? EXEC_K_MEM : EXEC_K_NOP;
}

static enum exec_kind
exec_sys_kind(const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_CLD:
	case ZYDIS_MNEMONIC_STD:
		return EXEC_K_DF;
	case ZYDIS_MNEMONIC_AAA:
	case ZYDIS_MNEMONIC_AAS:
	case ZYDIS_MNEMONIC_AAM:
	case ZYDIS_MNEMONIC_AAD:
	case ZYDIS_MNEMONIC_DAA:
	case ZYDIS_MNEMONIC_DAS:
	case ZYDIS_MNEMONIC_SALC:
		return EXEC_K_ASCII;
	case ZYDIS_MNEMONIC_PUSH: /* of a segment register */
		return EXEC_K_STACK;
	default:
		return EXEC_K_SYS;
	}
}

static enum exec_kind
exec_pieces_kind(const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_BT:
	case ZYDIS_MNEMONIC_BTS:
	case ZYDIS_MNEMONIC_BTR:
	case ZYDIS_MNEMONIC_BTC:
		return EXEC_K_BIT;
	default:
		return EXEC_K_PIECES;
	}
}

/*
 * Segment of an operand that is implicit (strings, XLAT, MASKMOV): of the one
 * that a prefix can change, so not of what a string instruction finds at rDI.
 */
static uint8_t
exec_implicit_seg(const struct soft_insn *in)
{
	for (unsigned i = 0; i < in->zi.operand_count; i++) {
		const ZydisDecodedOperand *op = &in->op[i];

		if (op->type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    (in->cls == SOFT_C_STRING &&
		    exec_gpr(op->mem.base) == VMM_REG_RDI))
			continue;
		if (op->mem.segment != ZYDIS_REGISTER_NONE)
			return (uint8_t)(op->mem.segment - ZYDIS_REGISTER_ES);
	}
	return VMM_SEG_DS;
}

static void
exec_prepare_ea(struct exec_ea *ea, const struct soft_insn *in)
{
	const ZydisDecodedOperandMem *m = &in->op[in->memop].mem;

	ea->disp = m->disp.value;
	ea->base = (int8_t)exec_gpr(m->base);
	ea->index = (int8_t)exec_gpr(m->index);
	ea->riprel = m->base == ZYDIS_REGISTER_RIP ||
	    m->base == ZYDIS_REGISTER_EIP;
	ea->shift = m->scale > 1 ? (uint8_t)__builtin_ctz(m->scale) : 0;
}

void
exec_prepare(struct exec_op *x, const struct soft_insn *in)
{
	static const uint8_t kinds[] = {
		[SOFT_C_UD] = EXEC_K_UD,
		[SOFT_C_JMP] = EXEC_K_JMP,
		[SOFT_C_JCC] = EXEC_K_JCC,
		[SOFT_C_CALL] = EXEC_K_CALL,
		[SOFT_C_RET] = EXEC_K_RET,
		[SOFT_C_LOOP] = EXEC_K_LOOP,
		[SOFT_C_STACK] = EXEC_K_STACK,
		[SOFT_C_STRING] = EXEC_K_STRING,
		[SOFT_C_FPUMEM] = EXEC_K_FPUMEM,
	};

	x->in = in;
	x->thunk_gen = 0;
	x->thunk = 0;
	x->vec = in->fpu || in->sse || in->avx;
	if (in->memop >= 0)
		exec_prepare_ea(&x->ea, in);
	x->seg = in->memop >= 0 ? in->mem_seg : exec_implicit_seg(in);
	switch (in->cls) {
	case SOFT_C_NATIVE:
		x->kind = (uint8_t)exec_native_kind(in);
		break;
	case SOFT_C_SYS:
		x->kind = (uint8_t)exec_sys_kind(in);
		break;
	case SOFT_C_GATHER:
		x->kind = (uint8_t)exec_pieces_kind(in);
		break;
	default:
		x->kind = kinds[in->cls];
		break;
	}
}

uint64_t
exec_ea(const struct soft_cpu *cpu, const struct exec_op *x)
{
	const struct exec_ea *ea = &x->ea;
	uint64_t v = (uint64_t)ea->disp;

	if (ea->base >= 0)
		v += cpu->gpr[ea->base];
	if (ea->index >= 0)
		v += cpu->gpr[ea->index] << ea->shift;
	if (ea->riprel)
		v += cpu->rip + x->in->len;
	return v & exec_mask(x->in->addrsize);
}

uint64_t
soft_ea(const struct soft_cpu *cpu, const struct soft_insn *in)
{
	struct exec_op x = { .in = in };

	exec_prepare_ea(&x.ea, in);
	return exec_ea(cpu, &x);
}

/* --- native instructions ----------------------------------------------- */

/* An x87 exception waits, and in is an instruction that takes it. */
static bool
exec_x87_pending(const struct soft_cpu *cpu, const struct soft_insn *in)
{
	if (!(cpu->xsave[2] & 0x80))
		return false;
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_FNINIT:
	case ZYDIS_MNEMONIC_FNCLEX:
	case ZYDIS_MNEMONIC_FNSTCW:
	case ZYDIS_MNEMONIC_FNSTSW:
	case ZYDIS_MNEMONIC_FNSTENV:
	case ZYDIS_MNEMONIC_FNSAVE:
	case ZYDIS_MNEMONIC_FENI8087_NOP:
	case ZYDIS_MNEMONIC_FDISI8087_NOP:
	case ZYDIS_MNEMONIC_FSETPM287_NOP:
		return false;
	default:
		return true;
	}
}

int
exec_vec_check(struct soft_cpu *cpu, const struct soft_insn *in)
{
	bool x87;

	if (in->avx) {
		if (!(cpu->cr4 & EXEC_CR4_OSXSAVE) || (cpu->xcr0 & 6) != 6 ||
		    !(cpu->mode_key & SOFT_KEY_PE))
			return soft_raise(cpu, SOFT_EXC_UD);
	} else if (in->sse) {
		if (cpu->cr0 & EXEC_CR0_EM || !(cpu->cr4 & EXEC_CR4_OSFXSR))
			return soft_raise(cpu, SOFT_EXC_UD);
	}
	if (in->fpu) {
		x87 = in->zi.meta.isa_ext == ZYDIS_ISA_EXT_X87;
		if (cpu->cr0 & EXEC_CR0_EM &&
		    in->zi.mnemonic != ZYDIS_MNEMONIC_FWAIT)
			return soft_raise(cpu, x87 ? SOFT_EXC_NM : SOFT_EXC_UD);
		if (cpu->cr0 & EXEC_CR0_TS &&
		    in->zi.mnemonic == ZYDIS_MNEMONIC_FWAIT &&
		    !(cpu->cr0 & EXEC_CR0_MP))
			return SOFT_OK;
	}
	if (cpu->cr0 & EXEC_CR0_TS)
		return soft_raise(cpu, SOFT_EXC_NM);
	/* Before any memory operand is looked at. */
	if (in->fpu && exec_x87_pending(cpu, in))
		return soft_raise(cpu, SOFT_EXC_MF);
	return SOFT_OK;
}

static int
exec_native(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	gva_t la;
	int ret;

	if (x->vec) {
		ret = exec_vec_check(cpu, in);
		if (ret != SOFT_OK)
			return ret;
	}
	ret = exec_thunk_make(cpu, x);
	if (ret != 0)
		return ret == -ENOTSUP ? soft_raise(cpu, SOFT_EXC_UD) : ret;
	if (x->kind == EXEC_K_REG) {
		ret = exec_thunk_run(cpu, x, cpu->bounce);
	} else {
		uint64_t ea = exec_ea(cpu, x);

		ret = exec_linear(cpu, in->mem_seg, ea, in->mem_bytes,
		    in->mem_access, &la);
		if (ret != SOFT_OK)
			return exec_thunk_misaligned(cpu, x, ea, ret);
		ret = exec_thunk_mem(cpu, x, la, in->mem_bytes);
	}
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

/*
 * BT and its kin with the bit number in a register: the number, signed,
 * selects the word beside the address; the thunk sees the rest of it.
 */
static int
exec_bit(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	int r = exec_gpr(in->op[1].reg.value);
	uint64_t bit, ea;
	unsigned n = in->opsize;
	gva_t la;
	int ret;

	if (r < 0)
		return soft_raise(cpu, SOFT_EXC_UD);
	ret = exec_thunk_make(cpu, x);
	if (ret != 0)
		return ret == -ENOTSUP ? soft_raise(cpu, SOFT_EXC_UD) : ret;
	bit = cpu->gpr[r];
	ea = exec_ea(cpu, x) +
	    (uint64_t)(((int64_t)exec_sext(bit, n) >> 3) & -(int64_t)n);
	ea &= exec_mask(in->addrsize);
	ret = exec_linear(cpu, in->mem_seg, ea, n, in->mem_access, &la);
	if (ret != SOFT_OK)
		return ret;
	cpu->gpr[r] = bit & (8 * n - 1);
	ret = exec_thunk_mem(cpu, x, la, n);
	cpu->gpr[r] = bit;
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}

static int
exec_lea(struct soft_cpu *cpu, const struct exec_op *x)
{
	int r = exec_gpr(x->in->op[0].reg.value);

	if (r < 0)
		return soft_raise(cpu, SOFT_EXC_UD);
	exec_wreg(cpu, (unsigned)r, x->in->opsize, exec_ea(cpu, x));
	return exec_done(cpu, x->in);
}

/* --- dispatch ---------------------------------------------------------- */

int
exec_op_run(struct soft_cpu *cpu, struct exec_op *x)
{
	switch ((enum exec_kind)x->kind) {
	case EXEC_K_UD:
		if (x->in->len == 0)
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		return soft_raise(cpu, SOFT_EXC_UD);
	case EXEC_K_REG:
	case EXEC_K_MEM:
		return exec_native(cpu, x);
	case EXEC_K_LEA:
		return exec_lea(cpu, x);
	case EXEC_K_NOP:
		return exec_done(cpu, x->in);
	case EXEC_K_BIT:
		return exec_bit(cpu, x);
	case EXEC_K_DF:
		if (x->in->zi.mnemonic == ZYDIS_MNEMONIC_STD)
			cpu->rflags_sys |= SOFT_FL_DF;
		else
			cpu->rflags_sys &= ~SOFT_FL_DF;
		return exec_done(cpu, x->in);
	case EXEC_K_JMP:
	case EXEC_K_JCC:
	case EXEC_K_CALL:
	case EXEC_K_RET:
	case EXEC_K_LOOP:
		return exec_branch(cpu, x);
	case EXEC_K_STACK:
		return exec_stack(cpu, x);
	case EXEC_K_STRING:
		return exec_string(cpu, x);
	case EXEC_K_FPUMEM:
		return exec_fpumem(cpu, x);
	case EXEC_K_PIECES:
		return exec_pieces(cpu, x);
	case EXEC_K_ASCII:
		return exec_ascii(cpu, x);
	case EXEC_K_SYS:
		return soft_exec_sys(cpu, x->in);
	}
	return soft_raise(cpu, SOFT_EXC_UD);
}

static int
exec_count(struct soft_cpu *cpu, struct exec_op *x)
{
	int ret;

	cpu->st.exec++;
	cpu->rflags_sys &= ~SOFT_FL_RF;
	ret = exec_op_run(cpu, x);
	return ret;
}

static __attribute__((noinline)) int
exec_once(struct soft_cpu *cpu, const struct soft_insn *in)
{
	struct exec_op x;

	exec_prepare(&x, in);
	return exec_count(cpu, &x);
}

/* No vector register is touched here before the guest's are saved. */
__attribute__((target("general-regs-only"))) int
soft_exec(struct soft_cpu *cpu, const struct soft_insn *in)
{
	if (cpu->fpu_live)
		soft_fpu_put(cpu);
	return exec_once(cpu, in);
}

/* --- stepping ---------------------------------------------------------- */

/* Byte masks of an instruction of each length. */
static void
exec_dc_masks(unsigned len, uint64_t m[2])
{
	m[0] = exec_mask(len);
	m[1] = len > 8 ? exec_mask(len - 8) : 0;
}

static bool
exec_dc_same(const struct exec_dc *e, const uint64_t b[2])
{
	return ((b[0] ^ e->b[0]) & e->m[0]) == 0 &&
	    ((b[1] ^ e->b[1]) & e->m[1]) == 0;
}

/*
 * Decodes at la, of which the first avail bytes are in b; fetches the next
 * page if the instruction goes on there.
 */
static int
exec_dc_fill(struct soft_cpu *cpu, struct exec_dc *e, struct soft_insn *in,
    gva_t la, unsigned avail, uint64_t b[2])
{
	const uint8_t *p;
	gpa_t gpa;
	int ret;

	e->key = 0;
	ret = soft_decode((const uint8_t *)b, base_min(avail, 16u),
	    cpu->mode_key, in);
	if (ret == -EFAULT && avail < 16) {
		gva_t next = la + avail;

		if (!(cpu->mode_key & SOFT_KEY_L))
			next &= 0xffffffff;
		else if (!exec_canonical(next))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		ret = soft_fetch(cpu, next, &gpa, &p);
		if (ret != SOFT_OK)
			return ret;
		memcpy((uint8_t *)b + avail, p, 16 - avail);
		ret = soft_decode((const uint8_t *)b, 16, cpu->mode_key, in);
	}
	if (ret < 0)
		return ret == -EFAULT ? soft_raise_err(cpu, SOFT_EXC_GP, 0) :
		    ret;
	exec_dc_masks(in->len, e->m);
	e->b[0] = b[0];
	e->b[1] = b[1];
	exec_prepare(&e->x, in);
	return SOFT_OK;
}

int
soft_step(struct soft_cpu *cpu)
{
	struct exec_dcache *dc = cpu->decode;
	struct exec_dc *e;
	const uint8_t *p;
	uint64_t b[2], key, limit;
	unsigned avail, i;
	gva_t la = cpu->rip;
	gpa_t gpa;
	int ret;

	if (cpu->fpu_live)
		soft_fpu_put(cpu);
	if (cpu->mode_key & SOFT_KEY_L) {
		if (!exec_canonical(la))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	} else {
		if (la > cpu->seg[VMM_SEG_CS].limit)
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		la = (la + cpu->seg_base[VMM_SEG_CS]) & 0xffffffff;
	}
	ret = soft_fetch(cpu, la, &gpa, &p);
	if (ret != SOFT_OK)
		return ret;
	key = EXEC_DC_KEY_VALID | gpa << 2 |
	    (cpu->mode_key & (SOFT_KEY_L | SOFT_KEY_D));
	i = (gpa ^ gpa >> 14) % EXEC_DC_SIZE;
	e = &dc->e[i];
	avail = VMM_PAGE_SIZE - (la & VMM_PAGE_MASK);
	if (__builtin_expect(avail >= 16, 1)) {
		memcpy(b, p, 16);
	} else {
		b[0] = b[1] = 0;
		memcpy(b, p, avail);
	}
	if (e->key != key || !exec_dc_same(e, b) ||
	    e->x.in->len > avail) {
		ret = exec_dc_fill(cpu, e, &dc->in[i], la, avail, b);
		if (ret != SOFT_OK)
			return ret;
		e->key = key;
	}
	if (!(cpu->mode_key & SOFT_KEY_L)) {
		limit = cpu->seg[VMM_SEG_CS].limit;
		if (cpu->rip + e->x.in->len - 1 > limit)
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	}
	return exec_count(cpu, &e->x);
}
