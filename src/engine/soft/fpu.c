/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x87, MMX, SSE and AVX state, and the instructions that load and store it.
 *
 * At rest the state is in cpu->xsave, in the host's standard XSAVE format and
 * always complete: a component in its initial configuration has its bytes
 * written too.  The instructions are the host's own, run as thunks on
 * cpu->bounce; what is done here is what depends on the guest: the mask that
 * its XCR0 leaves, the header (the compacted format is not offered, the host
 * would take it), and outside 64-bit mode the registers 8 to 15, which these
 * instructions then do not know.
 *
 * FIP and FDP.  x87 instructions run at host addresses, and the host's units
 * record those.  A thunk's are replaced by the guest's own; what translated
 * code leaves is not exact, and is removed when the state is saved.
 *
 * Pages are looked at in the order of AMD's processors; Intel's report the
 * lowest address that faults.
 *
 * Not emulated: FCS and FDS (stored as 0), the real-mode layout of FNSAVE and
 * FNSTENV, IGNNE and the external interrupt of CR0.NE = 0.
 */
#include <cpuid.h>
#include <errno.h>

#include "engine/soft/exec_int.h"

#define FPU_FIP 8u	/* offsets in an XSAVE area; FDP follows */
#define FPU_XMM 160u
#define FPU_HEADER 512u
#define FPU_YMMH 576u
#define FPU_AREA 832u
#define FPU_CODE_SPAN (1ul << 32) /* more than code memory ever has */
#define FPU_X87 1u	/* components */
#define FPU_SSE 2u
#define FPU_AVX 4u

static uint32_t fpu_mask; /* C: constant once computed */

uint32_t
exec_fpu_mask(void)
{
	uint32_t lo, hi;

	if (__builtin_expect(fpu_mask == 0, 0)) {
		__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
		fpu_mask = lo & (FPU_X87 | FPU_SSE | FPU_AVX);
	}
	return fpu_mask;
}

uint64_t
soft_fpu_features(void)
{
	return exec_fpu_mask();
}

/* --- live and at rest -------------------------------------------------- */

/*
 * An instruction pointer into translated code is not for the guest to see, nor
 * the host address of the operand that goes with it.
 */
static inline __attribute__((target("general-regs-only"))) void
fpu_hide(struct soft_cpu *cpu)
{
	uint64_t *p = (uint64_t *)(void *)(cpu->xsave + FPU_FIP);

	if (cpu->code_base != 0 && p[0] - cpu->code_base < FPU_CODE_SPAN)
		p[0] = p[1] = 0;
}

__attribute__((target("general-regs-only"))) void
soft_fpu_put(struct soft_cpu *cpu)
{
	uint32_t mask = fpu_mask, mxcsr = 0x1f80;
	const uint8_t *a = cpu->xsave;

	if (!cpu->fpu_live)
		return;
	cpu->fpu_live = 0;
	__asm__ volatile("xsave64 (%0)" : : "r"(a), "a"(mask), "d"(0)
	    : "memory");
	if (mask & FPU_AVX)
		__asm__ volatile("vzeroupper");
	fpu_hide(cpu);
	/* The host's C expects its control words, and an empty stack. */
	if (a[0] != 0x7f || a[1] != 0x03 || a[2] & 0x80 || a[4] != 0)
		__asm__ volatile("fninit");
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
}

__attribute__((target("general-regs-only"))) void
soft_fpu_get(struct soft_cpu *cpu)
{
	if (cpu->fpu_live)
		return;
	__asm__ volatile("xrstor64 (%0)" : : "r"(cpu->xsave), "a"(fpu_mask),
	    "d"(0) : "memory");
	cpu->fpu_live = 1;
}

void
soft_fpu_reset(struct soft_cpu *cpu, bool init)
{
	uint16_t fcw = 0x40;
	uint32_t mxcsr = 0x1f80;

	(void)exec_fpu_mask();
	if (init)
		return;
	cpu->fpu_live = 0;
	memset(cpu->xsave, 0, sizeof(cpu->xsave));
	memcpy(cpu->xsave, &fcw, sizeof(fcw));
	memset(cpu->xsave + 4, 0xff, 1); /* tags: all valid, zero */
	memcpy(cpu->xsave + 24, &mxcsr, sizeof(mxcsr));
	cpu->xsave[FPU_HEADER] = FPU_X87 | FPU_SSE;
}

/* => the MXCSR bits that the host has */
static uint32_t
fpu_mxcsr_mask(void)
{
	uint8_t area[512] __attribute__((aligned(16))) = { 0 };
	uint32_t m;

	__asm__ volatile("fxsave64 %0" : "=m"(area));
	memcpy(&m, area + 28, sizeof(m));
	return m != 0 ? m : 0xffbf;
}

int
soft_fpu_set(struct soft_cpu *cpu, const void *buf, size_t len)
{
	uint8_t a[FPU_AREA] = { 0 };
	const uint16_t fcw = 0x37f;
	uint32_t mxcsr = 0x1f80;
	uint64_t bv;

	if (len < FPU_YMMH)
		return -EINVAL;
	memcpy(a, buf, base_min(len, (size_t)FPU_AREA));
	memcpy(&bv, a + FPU_HEADER, sizeof(bv));
	if (bv & ~(uint64_t)exec_fpu_mask() ||
	    (bv & FPU_AVX && len < FPU_AREA))
		return -EINVAL;
	/* Components in their initial configuration are written out. */
	if (!(bv & FPU_X87)) {
		memset(a, 0, 24);
		memset(a + 32, 0, 128);
		memcpy(a, &fcw, sizeof(fcw));
	}
	if (!(bv & FPU_SSE))
		memset(a + FPU_XMM, 0, 256);
	if (!(bv & FPU_AVX))
		memset(a + FPU_YMMH, 0, 256);
	if (bv & (FPU_SSE | FPU_AVX)) {
		memcpy(&mxcsr, a + 24, sizeof(mxcsr));
		if (mxcsr & ~fpu_mxcsr_mask())
			return -EINVAL;
	}
	memcpy(a + 24, &mxcsr, sizeof(mxcsr));
	memset(a + FPU_HEADER, 0, 64);
	bv = exec_fpu_mask();
	memcpy(a + FPU_HEADER, &bv, sizeof(bv));
	cpu->fpu_live = 0;
	memcpy(cpu->xsave, a, sizeof(a));
	return 0;
}

void
exec_fpu_pointers(struct soft_cpu *cpu, const struct exec_op *x, uint64_t rip)
{
	const struct soft_insn *in = x->in;
	uint64_t fip, fdp = 0;
	uint16_t fop;
	unsigned i = 0;

	memcpy(&fip, cpu->xsave + 8, sizeof(fip));
	if (!soft_thunk_contains(fip))
		return;
	if (in->memop >= 0)
		fdp = exec_ea(cpu, x);
	/* The opcode recorded is its last byte's low bits and the ModRM. */
	while (i + 1 < in->len && (in->bytes[i] & 0xf8) != 0xd8)
		i++;
	fop = (uint16_t)((in->bytes[i] & 7) << 8 | in->bytes[i + 1]);
	memcpy(cpu->xsave + 6, &fop, sizeof(fop));
	memcpy(cpu->xsave + 8, &rip, sizeof(rip));
	memcpy(cpu->xsave + 16, &fdp, sizeof(fdp));
}

/* --- instructions ------------------------------------------------------ */

enum fpu_form { FPU_F_FXSAVE, FPU_F_XSAVE, FPU_F_ENV, FPU_F_NONE };

struct fpu_insn {
	enum fpu_form form;
	bool store;
	unsigned n; /* bytes of memory */
	unsigned align;
};

static struct fpu_insn
fpu_insn(const struct soft_insn *in)
{
	struct fpu_insn f = { FPU_F_NONE, false, 0, 1 };

	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_FXSAVE:
	case ZYDIS_MNEMONIC_FXSAVE64:
		f.store = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_FXRSTOR:
	case ZYDIS_MNEMONIC_FXRSTOR64:
		f.form = FPU_F_FXSAVE;
		f.n = 512;
		f.align = 16;
		break;
	case ZYDIS_MNEMONIC_XSAVE:
	case ZYDIS_MNEMONIC_XSAVE64:
	case ZYDIS_MNEMONIC_XSAVEOPT:
	case ZYDIS_MNEMONIC_XSAVEOPT64:
		f.store = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_XRSTOR:
	case ZYDIS_MNEMONIC_XRSTOR64:
		f.form = FPU_F_XSAVE;
		f.n = FPU_YMMH;
		f.align = 64;
		break;
	case ZYDIS_MNEMONIC_FNSTENV:
		f.store = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_FLDENV:
		f.form = FPU_F_ENV;
		f.n = in->opsize == 2 ? 14 : 28;
		break;
	case ZYDIS_MNEMONIC_FNSAVE:
		f.store = true;
		__attribute__((fallthrough));
	case ZYDIS_MNEMONIC_FRSTOR:
		f.form = FPU_F_ENV;
		f.n = in->opsize == 2 ? 94 : 108;
		break;
	default:
		break;
	}
	return f;
}

static int
fpu_check(struct soft_cpu *cpu, const struct fpu_insn *f)
{
	if (f->form == FPU_F_XSAVE) {
		if (!(cpu->cr4 & EXEC_CR4_OSXSAVE))
			return soft_raise(cpu, SOFT_EXC_UD);
	} else if (cpu->cr0 & EXEC_CR0_EM) {
		return soft_raise(cpu, SOFT_EXC_NM);
	}
	if (cpu->cr0 & EXEC_CR0_TS)
		return soft_raise(cpu, SOFT_EXC_NM);
	/* FRSTOR and FLDENV wait, before they look at memory. */
	if (f->form == FPU_F_ENV && !f->store && cpu->xsave[2] & 0x80)
		return soft_raise(cpu, SOFT_EXC_MF);
	return SOFT_OK;
}

/* Runs the thunk on the bounce buffer; EDX:EAX is mask for it. */
static int
fpu_run(struct soft_cpu *cpu, struct exec_op *x, uint64_t mask)
{
	uint64_t rax = cpu->gpr[VMM_REG_RAX], rdx = cpu->gpr[VMM_REG_RDX];
	int ret;

	ret = exec_thunk_make(cpu, x);
	if (ret != 0)
		return ret == -ENOTSUP ? soft_raise(cpu, SOFT_EXC_UD) : ret;
	cpu->gpr[VMM_REG_RAX] = (uint32_t)mask;
	cpu->gpr[VMM_REG_RDX] = mask >> 32;
	ret = exec_thunk_run(cpu, x, cpu->bounce);
	cpu->gpr[VMM_REG_RAX] = rax;
	cpu->gpr[VMM_REG_RDX] = rdx;
	return ret;
}

/* The pages of the area, in the order that decides which fault is reported. */
static int
fpu_probe(struct soft_cpu *cpu, const struct fpu_insn *f, gva_t la)
{
	int access = f->store ? VMM_PROT_WRITE : VMM_PROT_READ;
	gva_t last = la + f->n - 1;
	int ret;

	/* The control word is looked at first, then the last byte. */
	if (f->form == FPU_F_ENV &&
	    (la & VMM_PAGE_MASK) > VMM_PAGE_SIZE - (f->n % 28 == 0 ||
	    f->n == 108 ? 4 : 2))
		last = (la | VMM_PAGE_MASK) + 1;
	ret = exec_probe(cpu, f->form == FPU_F_FXSAVE ? last : la, 1, access);
	if (ret == SOFT_OK)
		ret = exec_probe(cpu, f->form == FPU_F_FXSAVE ? la : last, 1,
		    access);
	return ret;
}

/* An XRSTOR's header: what it may not hold here, though the host takes it. */
static int
fpu_header(struct soft_cpu *cpu, gva_t la)
{
	uint64_t h[2];
	int ret;

	ret = exec_probe(cpu, la, 1, VMM_PROT_READ);
	if (ret == SOFT_OK)
		ret = soft_read(cpu, la + FPU_HEADER, h, sizeof(h), false);
	if (ret != SOFT_OK)
		return ret;
	if (h[0] & ~cpu->xcr0 || h[1] != 0)
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	return SOFT_OK;
}

/* Writes bytes [from, to) of the bounce buffer to the area at la. */
static int
fpu_write(struct soft_cpu *cpu, gva_t la, unsigned from, unsigned to)
{
	return soft_write(cpu, la + from, cpu->bounce + from, to - from, false);
}

static int
fpu_store(struct soft_cpu *cpu, struct exec_op *x, const struct fpu_insn *f,
    gva_t la, uint64_t mask)
{
	bool l = cpu->mode_key & SOFT_KEY_L;
	int ret;

	ret = fpu_probe(cpu, f, la);
	if (ret != SOFT_OK)
		return ret;
	/* What the instruction leaves alone stays. */
	ret = soft_read(cpu, la, cpu->bounce, f->n, false);
	if (ret == SOFT_OK)
		ret = fpu_run(cpu, x, mask);
	if (ret != SOFT_OK)
		return ret;
	if (f->form == FPU_F_ENV)
		return fpu_write(cpu, la, 0, f->n);
	if (f->form == FPU_F_FXSAVE)
		return fpu_write(cpu, la, 0, l ? 416 : 288);
	if (mask & FPU_X87) {
		ret = fpu_write(cpu, la, 0, 24);
		if (ret == SOFT_OK)
			ret = fpu_write(cpu, la, 32, FPU_XMM);
	}
	if (ret == SOFT_OK && mask & (FPU_SSE | FPU_AVX))
		ret = fpu_write(cpu, la, 24, 32);
	if (ret == SOFT_OK && mask & FPU_SSE)
		ret = fpu_write(cpu, la, FPU_XMM, l ? 416 : 288);
	if (ret == SOFT_OK && mask & FPU_AVX)
		ret = fpu_write(cpu, la, FPU_YMMH, l ? FPU_AREA : FPU_YMMH + 128);
	if (ret == SOFT_OK)
		ret = fpu_write(cpu, la, FPU_HEADER, FPU_HEADER + 8);
	return ret;
}

static int
fpu_load(struct soft_cpu *cpu, struct exec_op *x, const struct fpu_insn *f,
    gva_t la, uint64_t mask)
{
	bool l = cpu->mode_key & SOFT_KEY_L;
	uint8_t xmm[128], ymmh[128];
	uint64_t bv;
	int ret = SOFT_OK;

	if (f->form == FPU_F_XSAVE)
		ret = fpu_header(cpu, la);
	if (ret == SOFT_OK)
		ret = fpu_probe(cpu, f, la);
	if (ret == SOFT_OK)
		ret = soft_read(cpu, la, cpu->bounce, f->n, false);
	if (ret == SOFT_OK && f->form == FPU_F_XSAVE) {
		/* Another vCPU may have changed it since. */
		memcpy(&bv, cpu->bounce + FPU_HEADER, sizeof(bv));
		bv &= cpu->xcr0;
		memcpy(cpu->bounce + FPU_HEADER, &bv, sizeof(bv));
		memset(cpu->bounce + FPU_HEADER + 8, 0, 8);
	}
	if (ret != SOFT_OK)
		return ret;
	memcpy(xmm, cpu->xsave + FPU_XMM + 128, sizeof(xmm));
	memcpy(ymmh, cpu->xsave + FPU_YMMH + 128, sizeof(ymmh));
	ret = fpu_run(cpu, x, mask);
	if (ret != SOFT_OK || l || f->form == FPU_F_ENV)
		return ret;
	memcpy(cpu->xsave + FPU_XMM + 128, xmm, sizeof(xmm));
	memcpy(cpu->xsave + FPU_YMMH + 128, ymmh, sizeof(ymmh));
	cpu->xsave[FPU_HEADER] |= exec_fpu_mask();
	return SOFT_OK;
}

int
exec_fpumem(struct soft_cpu *cpu, struct exec_op *x)
{
	const struct soft_insn *in = x->in;
	struct fpu_insn f = fpu_insn(in);
	uint64_t mask;
	gva_t la;
	int ret;

	if (f.form == FPU_F_NONE)
		return soft_raise(cpu, SOFT_EXC_UD);
	ret = fpu_check(cpu, &f);
	if (ret != SOFT_OK)
		return ret;
	mask = (cpu->gpr[VMM_REG_RAX] & 0xffffffff) |
	    cpu->gpr[VMM_REG_RDX] << 32;
	if (f.form == FPU_F_XSAVE) {
		mask &= cpu->xcr0;
		if (mask & FPU_AVX)
			f.n = FPU_AREA;
	} else {
		mask = ~0ul;
	}
	x->vec = true;
	ret = exec_linear(cpu, in->mem_seg, exec_ea(cpu, x), f.n,
	    f.store ? VMM_PROT_WRITE : VMM_PROT_READ, &la);
	/* Alignment is looked at before the limit; before the canonical form
	 * by XSAVE and XRSTOR only. */
	if (ret == SOFT_FAULT && (!(cpu->mode_key & SOFT_KEY_L) ||
	    f.form == FPU_F_XSAVE)) {
		la = exec_ea(cpu, x) + cpu->seg_base[in->mem_seg];
		if (la & (f.align - 1))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	}
	if (ret != SOFT_OK)
		return ret;
	if (la & (f.align - 1))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	ret = f.store ? fpu_store(cpu, x, &f, la, mask) :
	    fpu_load(cpu, x, &f, la, mask);
	return ret == SOFT_OK ? exec_done(cpu, in) : ret;
}
