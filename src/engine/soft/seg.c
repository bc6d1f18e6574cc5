/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments: descriptor tables, segment caches, stacks of gates and returns,
 * LDTR and TR.  far.c and event.c build transfers of control from these.
 *
 * Nothing here changes the processor before all checks of its step are done;
 * functions that fail leave cpu->exc and touch nothing but accessed bits.
 * Tables are read as the supervisor whatever the privilege level.
 */
#include "engine/soft/sys_int.h"

#include <string.h>

int
seg_read(struct soft_cpu *cpu, uint16_t sel, uint8_t vector, uint32_t ext,
    struct seg_desc *d)
{
	const struct vmm_seg *t =
	    &cpu->seg[(sel & 4) != 0 ? VMM_SEG_LDTR : VMM_SEG_GDTR];
	uint32_t off = sel & 0xfff8u, w[2];
	int r;

	if (((sel & 4) != 0 && (t->access & VMM_SEG_UNUSABLE) != 0) ||
	    off + 7 > t->limit)
		return seg_fault(cpu, vector, sel, ext);
	d->addr = t->base + off;
	if (!soft_long(cpu))
		d->addr &= 0xffffffff;
	r = soft_read(cpu, d->addr, w, 8, true);
	if (r != SOFT_OK)
		return r;
	d->lo = w[0];
	d->hi = w[1];
	d->base_hi = d->hi3 = 0;
	return SOFT_OK;
}

int
seg_read_upper(struct soft_cpu *cpu, uint16_t sel, uint8_t vector,
    struct seg_desc *d)
{
	const struct vmm_seg *t =
	    &cpu->seg[(sel & 4) != 0 ? VMM_SEG_LDTR : VMM_SEG_GDTR];
	uint32_t w[2];
	int r;

	if ((sel & 0xfff8u) + 15 > t->limit)
		return seg_fault(cpu, vector, sel, 0);
	r = soft_read(cpu, d->addr + 8, w, 8, true);
	if (r != SOFT_OK)
		return r;
	d->base_hi = w[0];
	d->hi3 = w[1];
	return SOFT_OK;
}

SOFT_NO_VECTOR void
seg_cache(const struct seg_desc *d, uint16_t sel, struct vmm_seg *s)
{
	*s = (struct vmm_seg){ .selector = sel };
	s->base = (uint64_t)d->base_hi << 32 | (d->hi & 0xff000000u) |
	    (d->hi & 0xff) << 16 | d->lo >> 16;
	s->limit = (d->hi & 0xf0000u) | (d->lo & 0xffffu);
	s->access = d->hi >> 8 & 0xf0ffu;
	if ((s->access & VMM_SEG_G) != 0)
		s->limit = s->limit << 12 | 0xfff;
}

int
seg_accessed(struct soft_cpu *cpu, struct seg_desc *d)
{
	uint8_t b;
	int r;

	if ((d->hi & 0x100) != 0)
		return SOFT_OK;
	d->hi |= 0x100;
	b = (uint8_t)(d->hi >> 8);
	r = soft_write(cpu, d->addr + 5, &b, 1, true);
	return r;
}

SOFT_NO_VECTOR void
soft_set_seg(struct soft_cpu *cpu, unsigned seg, const struct vmm_seg *sp)
{
	cpu->seg[seg] = *sp;
	if (seg < 6)
		cpu->seg_base[seg] = sp->base;
}

SOFT_NO_VECTOR void
seg_null_ss(struct vmm_seg *s, unsigned cpl)
{
	*s = (struct vmm_seg){ .selector = (uint16_t)cpl };
	s->limit = 0xffffffff;
	s->access = VMM_SEG_UNUSABLE | VMM_SEG_G | VMM_SEG_DB | cpl << 5 |
	    VMM_SEG_P | VMM_SEG_S | 3;
}

int
seg_stack(struct soft_cpu *cpu, uint16_t sel, unsigned cpl, uint8_t vector,
    uint32_t ext, struct vmm_seg *s)
{
	struct seg_desc d;
	int r;

	if (seg_null(sel))
		return soft_raise_err(cpu, vector, ext);
	r = seg_read(cpu, sel, vector, ext, &d);
	if (r != SOFT_OK)
		return r;
	if ((sel & 3u) != cpl || SEG_D_DPL(d.hi) != cpl ||
	    !seg_is_writable(d.hi))
		return seg_fault(cpu, vector, sel, ext);
	if (!SEG_D_P(d.hi))
		return seg_fault(cpu, SOFT_EXC_SS, sel, ext);
	r = seg_accessed(cpu, &d);
	if (r == SOFT_OK)
		seg_cache(&d, sel, s);
	return r;
}

/* MOV to DS, ES, FS, GS, SS in protected mode. */
static int
seg_load_protected(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	struct vmm_seg s = { 0 };
	struct seg_desc d;
	int r;

	if (seg_null(sel)) {
		if (seg == VMM_SEG_SS && (!soft_64bit(cpu) || cpu->cpl == 3 ||
		    (sel & 3u) != cpu->cpl))
			return soft_raise_err(cpu, SOFT_EXC_GP, 0);
		if (seg == VMM_SEG_SS) {
			seg_null_ss(&s, cpu->cpl);
		} else {
			s.selector = sel;
			s.access = VMM_SEG_UNUSABLE;
		}
		/* The base goes too, as on Intel and newer AMD processors
		 * (CPUID says so). */
		soft_set_seg(cpu, seg, &s);
		return SOFT_OK;
	}
	r = seg_read(cpu, sel, SOFT_EXC_GP, 0, &d);
	if (r != SOFT_OK)
		return r;
	if (seg == VMM_SEG_SS) {
		if ((sel & 3u) != cpu->cpl || !seg_is_writable(d.hi) ||
		    SEG_D_DPL(d.hi) != cpu->cpl)
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	} else {
		bool code = seg_is_code(d.hi);

		if (!SEG_D_S(d.hi) ||
		    (code && (SEG_D_TYPE(d.hi) & SEG_T_RW) == 0))
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
		if (!(code && seg_is_conforming(d.hi)) &&
		    ((sel & 3u) > SEG_D_DPL(d.hi) ||
		    cpu->cpl > SEG_D_DPL(d.hi)))
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	}
	if (!SEG_D_P(d.hi))
		return seg_fault(cpu, seg == VMM_SEG_SS ? SOFT_EXC_SS :
		    SOFT_EXC_NP, sel, 0);
	r = seg_accessed(cpu, &d);
	if (r != SOFT_OK)
		return r;
	seg_cache(&d, sel, &s);
	soft_set_seg(cpu, seg, &s);
	return SOFT_OK;
}

int
soft_load_seg(struct soft_cpu *cpu, unsigned seg, uint16_t sel)
{
	uint32_t key = cpu->mode_key;
	int r;

	if ((cpu->cr0 & SOFT_CR0_PE) == 0) {
		/* Real mode: limit and rights stay what they were. */
		cpu->seg[seg].selector = sel;
		cpu->seg[seg].base = (uint64_t)sel << 4;
		cpu->seg_base[seg] = cpu->seg[seg].base;
	} else {
		r = seg_load_protected(cpu, seg, sel);
		if (r != SOFT_OK)
			return r;
	}
	if (seg == VMM_SEG_SS)
		cpu->intr_shadow = cpu->ss_shadow = true;
	soft_mode_update(cpu);
	return cpu->mode_key == key ? SOFT_OK : SOFT_FLUSH;
}

void
seg_commit_cs(struct soft_cpu *cpu, struct vmm_seg *s, uint16_t sel,
    unsigned cpl)
{
	s->selector = (uint16_t)((sel & ~3u) | cpl);
	soft_set_seg(cpu, VMM_SEG_CS, s);
	cpu->cpl = (uint8_t)cpl;
	soft_mode_update(cpu);
}

SOFT_NO_VECTOR void
seg_drop_privileged(struct soft_cpu *cpu)
{
	static const uint8_t segs[] = { VMM_SEG_ES, VMM_SEG_DS, VMM_SEG_FS,
		VMM_SEG_GS };

	for (unsigned i = 0; i < sizeof(segs); i++) {
		struct vmm_seg *s = &cpu->seg[segs[i]];
		uint32_t type = VMM_SEG_TYPE(s->access);

		if ((s->access & VMM_SEG_UNUSABLE) != 0 ||
		    (type & (SEG_T_CODE | SEG_T_CONF)) ==
		    (SEG_T_CODE | SEG_T_CONF) ||
		    VMM_SEG_DPL(s->access) >= cpu->cpl)
			continue;
		s->selector = 0;
		s->access = VMM_SEG_UNUSABLE;
		cpu->seg_base[segs[i]] = s->base = 0;
	}
}

/* --- stacks ----------------------------------------------------------- */

int
seg_tss_stack(struct soft_cpu *cpu, unsigned cpl, unsigned ist, uint32_t ext,
    uint16_t *ssp, uint64_t *spp)
{
	const struct vmm_seg *tr = &cpu->seg[VMM_SEG_TR];
	uint32_t off, n, w[2] = { 0, 0 };
	int r;

	if (soft_long(cpu)) {
		off = ist != 0 ? 36 + (ist - 1) * 8 : 4 + cpl * 8;
		n = 8;
	} else if ((VMM_SEG_TYPE(tr->access) & 8) != 0) {
		off = 4 + cpl * 8;
		n = 6;
	} else {
		off = 2 + cpl * 4;
		n = 4;
	}
	if ((tr->access & VMM_SEG_UNUSABLE) != 0 || off + n - 1 > tr->limit)
		return seg_fault(cpu, SOFT_EXC_TS, tr->selector, ext);
	r = soft_read(cpu, tr->base + off, w, n, true);
	if (r != SOFT_OK)
		return r;
	if (n == 8) {
		*spp = (uint64_t)w[1] << 32 | w[0];
		if (!soft_canonical(*spp))
			return soft_raise_err(cpu, SOFT_EXC_SS, ext);
	} else if (n == 6) {
		*spp = w[0];
		*ssp = (uint16_t)w[1];
	} else {
		*spp = w[0] & 0xffff;
		*ssp = (uint16_t)(w[0] >> 16);
	}
	return SOFT_OK;
}

void
seg_sp_size(struct seg_sp *st, bool is64)
{
	if (is64)
		st->size = 8;
	else
		st->size = (st->ss.access & VMM_SEG_DB) != 0 ? 4 : 2;
}

void
seg_sp_init(const struct soft_cpu *cpu, struct seg_sp *st)
{
	st->ss = cpu->seg[VMM_SEG_SS];
	st->sp = cpu->gpr[VMM_REG_RSP];
	st->cpl = cpu->cpl;
	st->err = 0;
	seg_sp_size(st, soft_64bit(cpu));
}

/* Linear address of n bytes at sp, by the rules of the stack's segment. */
static int
seg_sp_linear(struct soft_cpu *cpu, const struct seg_sp *st, uint64_t sp,
    unsigned n, bool write, gva_t *lap)
{
	uint64_t last;
	uint32_t type = VMM_SEG_TYPE(st->ss.access);
	bool bad;

	if (st->size == 8) {
		*lap = sp;
		bad = !soft_canonical(sp) || !soft_canonical(sp + n - 1);
	} else {
		sp &= sys_mask(st->size);
		last = sp + n - 1;
		if ((type & 0xc) == SEG_T_CONF)
			bad = sp <= st->ss.limit ||
			    last > ((st->ss.access & VMM_SEG_DB) != 0 ?
			    0xffffffff : 0xffff);
		else
			bad = last > st->ss.limit;
		bad |= write && (cpu->cr0 & SOFT_CR0_PE) != 0 &&
		    (type & (SEG_T_CODE | SEG_T_RW)) != SEG_T_RW;
		*lap = (st->ss.base + sp) & 0xffffffff;
	}
	if (bad)
		return soft_raise_err(cpu, SOFT_EXC_SS, st->err);
	return SOFT_OK;
}

int
seg_push(struct soft_cpu *cpu, struct seg_sp *st, const uint64_t *v,
    unsigned n, unsigned bytes)
{
	uint8_t frame[40 * 8];
	uint64_t sp = st->sp;
	gva_t la, first = 0, last = 0;
	int r;

	KASSERT(n * bytes <= sizeof(frame), "frame of %u", n);
	for (unsigned i = 0; i < n; i++) {
		sp = (sp - bytes) & sys_mask(st->size);
		r = seg_sp_linear(cpu, st, sp, bytes, true, &la);
		if (r != SOFT_OK)
			return r;
		if (i == 0)
			first = la;
		last = la;
		memcpy(frame + (n - 1 - i) * bytes, &v[i], bytes);
	}
	/* In one piece, so that a fault in it leaves nothing written. */
	if (n != 0 && last + (n - 1) * bytes == first) {
		r = soft_write_as(cpu, last, frame, n * bytes, st->cpl);
		if (r != SOFT_FAULT) {
			st->sp = sp;
			return r;
		}
	}
	/* It wraps, or faults: one by one, for the right CR2. */
	sp = st->sp;
	for (unsigned i = 0; i < n; i++) {
		sp = (sp - bytes) & sys_mask(st->size);
		r = seg_sp_linear(cpu, st, sp, bytes, true, &la);
		if (r == SOFT_OK)
			r = soft_write_as(cpu, la, &v[i], bytes, st->cpl);
		if (r != SOFT_OK)
			return r;
	}
	st->sp = sp;
	return SOFT_OK;
}

int
seg_pop(struct soft_cpu *cpu, struct seg_sp *st, uint64_t *v, unsigned n,
    unsigned bytes)
{
	uint64_t sp = st->sp;
	gva_t la;
	int r;

	for (unsigned i = 0; i < n; i++) {
		r = seg_sp_linear(cpu, st, sp, bytes, false, &la);
		if (r != SOFT_OK)
			return r;
		v[i] = 0;
		r = soft_read_as(cpu, la, &v[i], bytes, st->cpl);
		if (r != SOFT_OK)
			return r;
		sp = (sp + bytes) & sys_mask(st->size);
	}
	st->sp = sp;
	return SOFT_OK;
}

/* --- LDTR and TR ------------------------------------------------------ */

int
seg_lldt(struct soft_cpu *cpu, uint16_t sel)
{
	struct vmm_seg s = { .selector = sel, .access = VMM_SEG_UNUSABLE };
	struct seg_desc d;
	int r;

	if (!seg_null(sel)) {
		if ((sel & 4) != 0)
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
		r = seg_read(cpu, sel, SOFT_EXC_GP, 0, &d);
		if (r != SOFT_OK)
			return r;
		if (SEG_D_S(d.hi) || SEG_D_TYPE(d.hi) != SEG_SYS_LDT)
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
		if (!SEG_D_P(d.hi))
			return seg_fault(cpu, SOFT_EXC_NP, sel, 0);
		if (soft_long(cpu)) {
			r = seg_read_upper(cpu, sel, SOFT_EXC_GP, &d);
			if (r != SOFT_OK)
				return r;
		}
		seg_cache(&d, sel, &s);
		if (soft_long(cpu) && !soft_canonical(s.base))
			return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	}
	soft_set_seg(cpu, VMM_SEG_LDTR, &s);
	return SOFT_OK;
}

int
seg_ltr(struct soft_cpu *cpu, uint16_t sel)
{
	struct vmm_seg s;
	struct seg_desc d;
	uint8_t b;
	int r;

	if (seg_null(sel))
		return soft_raise_err(cpu, SOFT_EXC_GP, 0);
	if ((sel & 4) != 0)
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	r = seg_read(cpu, sel, SOFT_EXC_GP, 0, &d);
	if (r != SOFT_OK)
		return r;
	if (SEG_D_S(d.hi) || (SEG_D_TYPE(d.hi) != SEG_SYS_TSS &&
	    (soft_long(cpu) || SEG_D_TYPE(d.hi) != SEG_SYS_TSS16)))
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	if (!SEG_D_P(d.hi))
		return seg_fault(cpu, SOFT_EXC_NP, sel, 0);
	if (soft_long(cpu)) {
		r = seg_read_upper(cpu, sel, SOFT_EXC_GP, &d);
		if (r != SOFT_OK)
			return r;
	}
	d.hi |= 0x200; /* busy */
	seg_cache(&d, sel, &s);
	if (soft_long(cpu) && !soft_canonical(s.base))
		return seg_fault(cpu, SOFT_EXC_GP, sel, 0);
	b = (uint8_t)(d.hi >> 8);
	r = soft_write(cpu, d.addr + 5, &b, 1, true);
	if (r != SOFT_OK)
		return r;
	soft_set_seg(cpu, VMM_SEG_TR, &s);
	return SOFT_OK;
}
