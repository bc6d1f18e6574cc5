/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions on segment registers and descriptor tables.
 */
#include "engine/soft/sys_int.h"

#include <string.h>

static int
esg_seg_number(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_ES && r <= ZYDIS_REGISTER_GS)
		return (int)(r - ZYDIS_REGISTER_ES);
	return -1;
}

static int
esg_finish(struct soft_cpu *cpu, const struct soft_insn *in, int r)
{
	if (r == SOFT_OK || r == SOFT_FLUSH)
		return sys_done(cpu, in, r);
	return r;
}

/* MOV to and from a segment register */
static int
esg_mov(struct soft_cpu *cpu, const struct soft_insn *in)
{
	int to = -1, from = -1, r;
	uint64_t val;

	if (in->op[0].type == ZYDIS_OPERAND_TYPE_REGISTER)
		to = esg_seg_number(in->op[0].reg.value);
	if (in->op[1].type == ZYDIS_OPERAND_TYPE_REGISTER)
		from = esg_seg_number(in->op[1].reg.value);
	if (from >= 0) {
		r = sys_put(cpu, in, 0, in->op[0].type ==
		    ZYDIS_OPERAND_TYPE_MEMORY ? 2 : in->opsize,
		    cpu->seg[from].selector);
		return esg_finish(cpu, in, r);
	}
	if (to < 0 || to == VMM_SEG_CS)
		return sys_ud(cpu);
	r = sys_get(cpu, in, 1, 2, &val);
	if (r == SOFT_OK)
		r = soft_load_seg(cpu, (unsigned)to, (uint16_t)val);
	/* The shadow of MOV SS: the next instruction runs alone. */
	if (r == SOFT_OK && to == VMM_SEG_SS)
		r = SOFT_FLUSH;
	return esg_finish(cpu, in, r);
}

static int
esg_push(struct soft_cpu *cpu, const struct soft_insn *in)
{
	int n = esg_seg_number(in->op[0].reg.value), r;
	struct seg_sp st;
	uint64_t val;

	if (n < 0)
		return sys_ud(cpu);
	seg_sp_init(cpu, &st);
	val = cpu->seg[n].selector;
	r = seg_push(cpu, &st, &val, 1, in->opsize);
	if (r == SOFT_OK)
		cpu->gpr[VMM_REG_RSP] =
		    seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	return esg_finish(cpu, in, r);
}

static int
esg_pop(struct soft_cpu *cpu, const struct soft_insn *in)
{
	int n = esg_seg_number(in->op[0].reg.value), r;
	struct seg_sp st;
	uint64_t val;

	if (n < 0 || n == VMM_SEG_CS)
		return sys_ud(cpu);
	seg_sp_init(cpu, &st);
	r = seg_pop(cpu, &st, &val, 1, in->opsize);
	if (r != SOFT_OK)
		return r;
	r = soft_load_seg(cpu, (unsigned)n, (uint16_t)val);
	if (r != SOFT_OK && r != SOFT_FLUSH)
		return r;
	/* The width is that of the stack popped from. */
	cpu->gpr[VMM_REG_RSP] = seg_sp_merge(&st, cpu->gpr[VMM_REG_RSP]);
	return esg_finish(cpu, in, n == VMM_SEG_SS ? SOFT_FLUSH : r);
}

/* LDS, LES, LFS, LGS, LSS */
static int
esg_load_far(struct soft_cpu *cpu, const struct soft_insn *in, unsigned seg)
{
	unsigned n = in->opsize;
	uint64_t off = 0;
	uint16_t sel = 0;
	gva_t la;
	int r;

	if (in->memop < 0)
		return sys_ud(cpu);
	if (n == 8 && !cpu->vm->intel)
		n = 4;
	r = sys_mem(cpu, in, n + 2, VMM_PROT_READ, &la);
	if (r == SOFT_OK)
		r = soft_read(cpu, la, &off, n, false);
	if (r == SOFT_OK)
		r = soft_read(cpu, la + n, &sel, 2, false);
	if (r == SOFT_OK)
		r = soft_load_seg(cpu, seg, sel);
	if (r != SOFT_OK && r != SOFT_FLUSH)
		return r;
	/* LSS has no shadow. */
	cpu->intr_shadow = cpu->ss_shadow = false;
	sys_wreg(cpu, sys_gpr(in, 0), n, off);
	return esg_finish(cpu, in, r);
}

/* --- tables ----------------------------------------------------------- */

static int
esg_umip(struct soft_cpu *cpu)
{
	if ((cpu->cr4 & SOFT_CR4_UMIP) != 0 && cpu->cpl != 0)
		return sys_gp0(cpu);
	return SOFT_OK;
}

/* SGDT, SIDT, LGDT, LIDT */
static int
esg_table(struct soft_cpu *cpu, const struct soft_insn *in, unsigned seg,
    bool load)
{
	struct vmm_seg *t = &cpu->seg[seg];
	unsigned n = soft_64bit(cpu) ? 8 : 4;
	uint64_t base = t->base;
	uint16_t limit = (uint16_t)t->limit;
	uint8_t image[10];
	gva_t la;
	int r;

	if (in->memop < 0)
		return sys_ud(cpu);
	if (load && cpu->cpl != 0)
		return sys_gp0(cpu);
	r = load ? SOFT_OK : esg_umip(cpu);
	if (r == SOFT_OK)
		r = sys_mem(cpu, in, n + 2, load ? VMM_PROT_READ :
		    VMM_PROT_WRITE, &la);
	if (r != SOFT_OK)
		return r;
	if (!load) {
		memcpy(image, &limit, 2);
		memcpy(image + 2, &base, n);
		r = soft_write(cpu, la, image, n + 2, false);
		return esg_finish(cpu, in, r);
	}
	r = soft_read(cpu, la, image, n + 2, false);
	if (r != SOFT_OK)
		return r;
	memcpy(&limit, image, 2);
	base = 0;
	memcpy(&base, image + 2, n);
	if (in->opsize == 2 && n == 4)
		base &= 0xffffff;
	if (n == 8 && !soft_canonical(base))
		return sys_gp0(cpu);
	t->limit = limit;
	t->base = base;
	return esg_finish(cpu, in, SOFT_OK);
}

/* SLDT, STR */
static int
esg_store_sel(struct soft_cpu *cpu, const struct soft_insn *in, unsigned seg)
{
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return sys_ud(cpu);
	r = esg_umip(cpu);
	if (r == SOFT_OK)
		r = sys_put(cpu, in, 0, in->op[0].type ==
		    ZYDIS_OPERAND_TYPE_MEMORY ? 2 : in->opsize,
		    cpu->seg[seg].selector);
	return esg_finish(cpu, in, r);
}

static int
esg_load_sel(struct soft_cpu *cpu, const struct soft_insn *in, bool tr)
{
	uint64_t val;
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return sys_ud(cpu);
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	r = sys_get(cpu, in, 0, 2, &val);
	if (r == SOFT_OK)
		r = tr ? seg_ltr(cpu, (uint16_t)val) :
		    seg_lldt(cpu, (uint16_t)val);
	return esg_finish(cpu, in, r);
}

/* --- LAR, LSL, VERR, VERW, ARPL --------------------------------------- */

/* Which system descriptors LAR (and LSL) know, by type. */
static bool
esg_visible_system(const struct soft_cpu *cpu, unsigned type, bool lsl)
{
	switch (type) {
	case SEG_SYS_LDT:
	case SEG_SYS_TSS:
	case SEG_SYS_TSS_BUSY:
		return true;
	case SEG_SYS_TSS16:
	case SEG_SYS_TSS16_BUSY:
		return !soft_long(cpu);
	case SEG_SYS_CALL16:
	case SEG_SYS_TASK:
		return !lsl && !soft_long(cpu);
	case SEG_SYS_CALL:
		return !lsl;
	default:
		return false;
	}
}

static void
esg_set_zf(struct soft_cpu *cpu, bool z)
{
	if (z)
		cpu->flags_saved |= SOFT_FL_ZF;
	else
		cpu->flags_saved &= ~SOFT_FL_ZF;
}

/* => SOFT_OK with *ok: d holds a descriptor of sel that the caller may see */
static int
esg_peek(struct soft_cpu *cpu, uint16_t sel, struct seg_desc *d, bool *ok)
{
	int r;

	*ok = false;
	if (seg_null(sel))
		return SOFT_OK;
	r = seg_read(cpu, sel, SOFT_EXC_GP, 0, d);
	if (r == SOFT_FAULT && cpu->exc.vector == SOFT_EXC_GP)
		return SOFT_OK; /* outside the table: just ZF = 0 */
	if (r != SOFT_OK)
		return r;
	*ok = true;
	if (seg_is_code(d->hi) && seg_is_conforming(d->hi))
		return SOFT_OK;
	*ok = SEG_D_DPL(d->hi) >= cpu->cpl && SEG_D_DPL(d->hi) >= (sel & 3u);
	return SOFT_OK;
}

static int
esg_lar_lsl(struct soft_cpu *cpu, const struct soft_insn *in, bool lsl)
{
	struct seg_desc d;
	struct vmm_seg s;
	uint64_t sel;
	bool ok;
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return sys_ud(cpu);
	r = sys_get(cpu, in, 1, 2, &sel);
	if (r == SOFT_OK)
		r = esg_peek(cpu, (uint16_t)sel, &d, &ok);
	if (r != SOFT_OK)
		return r;
	if (ok && !SEG_D_S(d.hi))
		ok = esg_visible_system(cpu, SEG_D_TYPE(d.hi), lsl);
	esg_set_zf(cpu, ok);
	if (ok) {
		seg_cache(&d, (uint16_t)sel, &s);
		sys_wreg(cpu, sys_gpr(in, 0), in->opsize,
		    lsl ? s.limit : d.hi & 0x00f0ff00u);
	}
	return esg_finish(cpu, in, SOFT_OK);
}

static int
esg_verify(struct soft_cpu *cpu, const struct soft_insn *in, bool write)
{
	struct seg_desc d;
	uint64_t sel;
	bool ok;
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0)
		return sys_ud(cpu);
	r = sys_get(cpu, in, 0, 2, &sel);
	if (r == SOFT_OK)
		r = esg_peek(cpu, (uint16_t)sel, &d, &ok);
	if (r != SOFT_OK)
		return r;
	if (ok)
		ok = SEG_D_S(d.hi) && (write ? seg_is_writable(d.hi) :
		    (SEG_D_TYPE(d.hi) & (SEG_T_CODE | SEG_T_RW)) != SEG_T_CODE);
	esg_set_zf(cpu, ok);
	return esg_finish(cpu, in, SOFT_OK);
}

static int
esg_arpl(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t dst, src = cpu->gpr[sys_gpr(in, 1)];
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0 || soft_64bit(cpu))
		return sys_ud(cpu);
	r = sys_get(cpu, in, 0, 2, &dst);
	if (r != SOFT_OK)
		return r;
	if ((dst & 3) < (src & 3)) {
		r = sys_put(cpu, in, 0, 2, (dst & ~3ul) | (src & 3));
		if (r != SOFT_OK)
			return r;
		esg_set_zf(cpu, true);
	} else {
		esg_set_zf(cpu, false);
	}
	return esg_finish(cpu, in, SOFT_OK);
}

/* --- bases of FS and GS ----------------------------------------------- */

static int
esg_base(struct soft_cpu *cpu, const struct soft_insn *in, unsigned seg,
    bool write)
{
	uint64_t val;

	if (!soft_64bit(cpu) || (cpu->cr4 & SOFT_CR4_FSGSBASE) == 0)
		return sys_ud(cpu);
	if (!write) {
		sys_wreg(cpu, sys_gpr(in, 0), in->opsize, cpu->seg[seg].base);
		return esg_finish(cpu, in, SOFT_OK);
	}
	val = cpu->gpr[sys_gpr(in, 0)] & sys_mask(in->opsize);
	if (!soft_canonical(val))
		return sys_gp0(cpu);
	cpu->seg[seg].base = cpu->seg_base[seg] = val;
	return esg_finish(cpu, in, SOFT_OK);
}

static int
esg_swapgs(struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t base = cpu->seg[VMM_SEG_GS].base;

	if (!soft_64bit(cpu))
		return sys_ud(cpu);
	if (cpu->cpl != 0)
		return sys_gp0(cpu);
	cpu->seg[VMM_SEG_GS].base = cpu->kernel_gs_base;
	cpu->seg_base[VMM_SEG_GS] = cpu->kernel_gs_base;
	cpu->kernel_gs_base = base;
	return esg_finish(cpu, in, SOFT_OK);
}

int
sys_segment(struct soft_cpu *cpu, const struct soft_insn *in)
{
	switch (in->zi.mnemonic) {
	case ZYDIS_MNEMONIC_MOV:
		return esg_mov(cpu, in);
	case ZYDIS_MNEMONIC_PUSH:
		return esg_push(cpu, in);
	case ZYDIS_MNEMONIC_POP:
		return esg_pop(cpu, in);
	case ZYDIS_MNEMONIC_LDS:
		return esg_load_far(cpu, in, VMM_SEG_DS);
	case ZYDIS_MNEMONIC_LES:
		return esg_load_far(cpu, in, VMM_SEG_ES);
	case ZYDIS_MNEMONIC_LFS:
		return esg_load_far(cpu, in, VMM_SEG_FS);
	case ZYDIS_MNEMONIC_LGS:
		return esg_load_far(cpu, in, VMM_SEG_GS);
	case ZYDIS_MNEMONIC_LSS:
		return esg_load_far(cpu, in, VMM_SEG_SS);
	case ZYDIS_MNEMONIC_SGDT:
		return esg_table(cpu, in, VMM_SEG_GDTR, false);
	case ZYDIS_MNEMONIC_SIDT:
		return esg_table(cpu, in, VMM_SEG_IDTR, false);
	case ZYDIS_MNEMONIC_LGDT:
		return esg_table(cpu, in, VMM_SEG_GDTR, true);
	case ZYDIS_MNEMONIC_LIDT:
		return esg_table(cpu, in, VMM_SEG_IDTR, true);
	case ZYDIS_MNEMONIC_SLDT:
		return esg_store_sel(cpu, in, VMM_SEG_LDTR);
	case ZYDIS_MNEMONIC_STR:
		return esg_store_sel(cpu, in, VMM_SEG_TR);
	case ZYDIS_MNEMONIC_LLDT:
		return esg_load_sel(cpu, in, false);
	case ZYDIS_MNEMONIC_LTR:
		return esg_load_sel(cpu, in, true);
	case ZYDIS_MNEMONIC_LAR:
		return esg_lar_lsl(cpu, in, false);
	case ZYDIS_MNEMONIC_LSL:
		return esg_lar_lsl(cpu, in, true);
	case ZYDIS_MNEMONIC_VERR:
		return esg_verify(cpu, in, false);
	case ZYDIS_MNEMONIC_VERW:
		return esg_verify(cpu, in, true);
	case ZYDIS_MNEMONIC_ARPL:
		return esg_arpl(cpu, in);
	case ZYDIS_MNEMONIC_RDFSBASE:
		return esg_base(cpu, in, VMM_SEG_FS, false);
	case ZYDIS_MNEMONIC_RDGSBASE:
		return esg_base(cpu, in, VMM_SEG_GS, false);
	case ZYDIS_MNEMONIC_WRFSBASE:
		return esg_base(cpu, in, VMM_SEG_FS, true);
	case ZYDIS_MNEMONIC_WRGSBASE:
		return esg_base(cpu, in, VMM_SEG_GS, true);
	case ZYDIS_MNEMONIC_SWAPGS:
		return esg_swapgs(cpu, in);
	default:
		return sys_ud(cpu);
	}
}
