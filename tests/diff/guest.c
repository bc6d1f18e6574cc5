/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest of the whole soft engine: 64-bit, its own page tables, descriptor
 * tables and handlers, on the real memory layers.
 *
 * Exceptions go through the IDT to one handler per vector, a HLT, on a stack
 * of its own (IST), so that nothing of the case is disturbed; the outcome is
 * read from there.  Executor guests are stepped, so that each instruction can
 * be looked at before it runs; translator guests run freely, and must only be
 * given cases that a stepped guest has ended.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diff.h"
#include "engine/soft/soft_int.h"
#include "vm/vm.h"

#define STEPS 400

/* Guest physical pages. */
#define PML4 0x1000ul
#define PDPT_LOW 0x2000ul
#define PD_LOW 0x3000ul
#define PT_CODE 0x4000ul
#define PT_DATA 0x5000ul
#define PT_STACK 0x6000ul
#define PDPT_HIGH 0x7000ul
#define PD_HIGH 0x8000ul
#define PT_KERN 0x9000ul
#define KERN 0x10000ul /* GDT, IDT, TSS, stack, handlers */
#define KERN_PAGES 5u
#define CODE 0x20000ul
#define IMAGE 0x30000ul
#define MEMORY 0x100000ul

#define KVA 0xffffffff80000000ul
#define KVA_GDT KVA
#define KVA_IDT (KVA + 0x1000)
#define KVA_TSS (KVA + 0x2000)
#define KVA_STACK (KVA + 0x4000) /* its end */
#define KVA_HANDLER (KVA + 0x4000)

#define SEL_KCODE 0x10
#define SEL_KDATA 0x18
#define SEL_UCODE32 0x23 /* as Linux has them */
#define SEL_UDATA 0x2b
#define SEL_UCODE 0x33
#define SEL_TSS 0x40

#define PTE_P 1ul
#define PTE_W 2ul
#define PTE_U 4ul
#define PTE_NX (1ul << 63)

struct diff_guest {
	struct vmspace *vms;
	struct vm_hold hold[MEMORY / DIFF_PAGE];
	struct engine_vm *vm;
	struct soft_cpu *cpu;
	bool translate, ring0;
	uint32_t code_off, code_len;
	unsigned kicks; /* since the case began */
	uint8_t saved[DIFF_PAGES][DIFF_PAGE];
};

uint64_t diff_insns;
uint32_t diff_ran[ZYDIS_MNEMONIC_MAX_VALUE + 1];
uint32_t diff_met[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* --- upward calls -------------------------------------------------------- */

static int
guest_fault(void *arg, unsigned vcpu, gpa_t gpa, int access)
{
	struct diff_guest *g = arg;

	(void)vcpu;
	return vm_fault(g->vms, gpa, access);
}

static int
guest_pio(void *arg, unsigned vcpu, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	(void)arg;
	(void)vcpu;
	(void)port;
	(void)bytes;
	(void)in;
	(void)datap;
	return -ENXIO;
}

static int
guest_mmio(void *arg, unsigned vcpu, gpa_t gpa, unsigned bytes, bool write,
    uint64_t *datap)
{
	(void)arg;
	(void)vcpu;
	(void)gpa;
	(void)bytes;
	(void)write;
	(void)datap;
	return -ENXIO;
}

static int
guest_rdmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t *valp)
{
	(void)arg;
	(void)vcpu;
	(void)msr;
	(void)valp;
	return -ENXIO;
}

static int
guest_wrmsr(void *arg, unsigned vcpu, uint32_t msr, uint64_t val)
{
	(void)arg;
	(void)vcpu;
	(void)msr;
	(void)val;
	return -ENXIO;
}

static void
guest_cpuid(void *arg, unsigned vcpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4])
{
	(void)arg;
	(void)vcpu;
	(void)leaf;
	(void)subleaf;
	(void)regs;
}

static int
guest_no_intr(void *arg, unsigned vcpu)
{
	(void)arg;
	(void)vcpu;
	return -1;
}

static bool
guest_false(void *arg, unsigned vcpu)
{
	(void)arg;
	(void)vcpu;
	return false;
}

/* It is asked after each kick: a program that the disturbing thread has kicked
 * for a second will not end. */
static bool
guest_must_exit(void *arg, unsigned vcpu)
{
	struct diff_guest *g = arg;

	(void)vcpu;
	return ++g->kicks > 15000;
}

static uint8_t
guest_cr8_get(void *arg, unsigned vcpu)
{
	(void)arg;
	(void)vcpu;
	return 0;
}

static void
guest_cr8_set(void *arg, unsigned vcpu, uint8_t cr8)
{
	(void)arg;
	(void)vcpu;
	(void)cr8;
}

static const struct engine_callbacks guest_callbacks = {
	.fault = guest_fault,
	.pio = guest_pio,
	.mmio = guest_mmio,
	.rdmsr = guest_rdmsr,
	.wrmsr = guest_wrmsr,
	.cpuid = guest_cpuid,
	.intr_pending = guest_no_intr,
	.intr_accept = guest_no_intr,
	.nmi_accept = guest_false,
	.cr8_get = guest_cr8_get,
	.cr8_set = guest_cr8_set,
	.must_exit = guest_must_exit,
};

static void
guest_kick(void *arg, unsigned vcpu)
{
	struct diff_guest *g = arg;

	(void)vcpu;
	if (g->cpu != NULL)
		soft_kick(g->cpu);
}

static const struct pmap_callbacks guest_pmap_callbacks = {
	.kick = guest_kick,
};

/* --- the machine ----------------------------------------------------------- */

static uint8_t *
guest_at(struct diff_guest *g, gpa_t gpa)
{
	return (uint8_t *)g->hold[gpa / DIFF_PAGE].ptr + gpa % DIFF_PAGE;
}

static void
guest_put(struct diff_guest *g, gpa_t gpa, uint64_t v)
{
	memcpy(guest_at(g, gpa), &v, 8);
}

static void
guest_tables(struct diff_guest *g)
{
	uint64_t u = g->ring0 ? 0 : PTE_U, all = PTE_P | PTE_W | u;

	guest_put(g, PML4, PDPT_LOW | all);
	guest_put(g, PML4 + 511 * 8, PDPT_HIGH | PTE_P | PTE_W);
	guest_put(g, PDPT_LOW, PD_LOW | all);
	guest_put(g, PD_LOW + (DIFF_CODE >> 21) * 8, PT_CODE | all);
	guest_put(g, PD_LOW + (DIFF_DATA >> 21) * 8, PT_DATA | all);
	guest_put(g, PD_LOW + (DIFF_STACK >> 21) * 8, PT_STACK | all);
	guest_put(g, PDPT_HIGH + 510 * 8, PD_HIGH | PTE_P | PTE_W);
	guest_put(g, PD_HIGH, PT_KERN | PTE_P | PTE_W);
	for (unsigned i = 0; i < KERN_PAGES; i++)
		guest_put(g, PT_KERN + i * 8, (KERN + i * DIFF_PAGE) | PTE_P |
		    PTE_W);
	for (unsigned i = 0; i < DIFF_CODE_PAGES; i++)
		guest_put(g, PT_CODE + i * 8, (CODE + i * DIFF_PAGE) | PTE_P |
		    u);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		gpa_t pt = i <= DIFF_DATA_PAGES ? PT_DATA : PT_STACK;
		uint64_t e = (IMAGE + i * DIFF_PAGE) | PTE_P | PTE_NX | u;

		if (i != DIFF_DATA_PAGES)
			e |= PTE_W;
		guest_put(g, pt + (diff_page_va(i) >> 12 & 511) * 8, e);
	}
}

static void
guest_descriptors(struct diff_guest *g)
{
	guest_put(g, KERN + SEL_KCODE, 0x00af9b000000ffff);
	guest_put(g, KERN + SEL_KDATA, 0x00cf93000000ffff);
	guest_put(g, KERN + (SEL_UDATA & ~7), 0x00cff3000000ffff);
	guest_put(g, KERN + (SEL_UCODE & ~7), 0x00affb000000ffff);
	guest_put(g, KERN + (SEL_UCODE32 & ~7), 0x00cffb000000ffff);
	/* IST 1 is all of the TSS that counts, and that it has no I/O map. */
	guest_put(g, KERN + 0x2000 + 0x24, KVA_STACK);
	guest_put(g, KERN + 0x2000 + 0x60, 0xfffful << 48);
	for (unsigned v = 0; v < 32; v++) {
		uint64_t h = KVA_HANDLER + v * 16;
		uint64_t dpl = v == SOFT_EXC_BP || v == SOFT_EXC_OF ? 3 : 0;

		guest_put(g, KERN + 0x1000 + v * 16, (h & 0xffff) |
		    SEL_KCODE << 16 | 1ul << 32 | 0x8eul << 40 | dpl << 45 |
		    (h >> 16 & 0xffff) << 48);
		guest_put(g, KERN + 0x1008 + v * 16, h >> 32);
		guest_put(g, KERN + 0x4000 + v * 16, 0xf4); /* HLT */
	}
}

static int
guest_set_seg(struct soft_cpu *c, unsigned i, uint16_t sel, uint64_t base,
    uint32_t limit, uint32_t access)
{
	struct vmm_seg s = { .selector = sel, .base = base, .limit = limit,
		.access = access };

	return engine_soft_ops.set_seg((struct engine_vcpu *)c, i, &s);
}

static int
guest_processor(struct diff_guest *g)
{
	struct soft_cpu *c = g->cpu;
	const struct {
		enum vmm_reg r;
		uint64_t v;
	} regs[] = {
		{ VMM_REG_EFER, 0xd00 }, /* LME, LMA, NXE */
		{ VMM_REG_CR4, 0x50620 }, /* PAE OSFXSR OSXMMEXCPT OSXSAVE
					   * FSGSBASE */
		{ VMM_REG_CR3, PML4 },
		{ VMM_REG_CR0, 0x80050033 },
		{ VMM_REG_XCR0, 7 },
	};
	int error = 0;

	for (unsigned i = 0; i < BASE_ARRAY_LEN(regs) && error == 0; i++)
		error = engine_soft_ops.set_reg((struct engine_vcpu *)c,
		    regs[i].r, regs[i].v);
	if (error != 0)
		return error;
	guest_set_seg(c, VMM_SEG_GDTR, 0, KVA_GDT, 0xfff, 0);
	guest_set_seg(c, VMM_SEG_IDTR, 0, KVA_IDT, 0x1ff, 0);
	guest_set_seg(c, VMM_SEG_TR, SEL_TSS, KVA_TSS, 0x67, 0x8b);
	guest_set_seg(c, VMM_SEG_DS, diff_m32 ? SEL_UDATA : 0, 0, ~0u, 0xc0f3);
	guest_set_seg(c, VMM_SEG_ES, diff_m32 ? SEL_UDATA : 0, 0, ~0u, 0xc0f3);
	/* Null, but for the bases: no use in 32-bit code. */
	guest_set_seg(c, VMM_SEG_FS, 0, DIFF_FS_BASE, ~0u, 0xc0f3 |
	    (diff_m32 ? VMM_SEG_UNUSABLE : 0));
	guest_set_seg(c, VMM_SEG_GS, 0, DIFF_GS_BASE, ~0u, 0xc0f3 |
	    (diff_m32 ? VMM_SEG_UNUSABLE : 0));
	return 0;
}

int
diff_guest_create(bool translate, bool ring0, struct diff_guest **gp)
{
	struct diff_guest *g = calloc(1, sizeof(*g));
	struct vmspace_config vc = { .type = PMAP_PT_EPT,
		.cb = &guest_pmap_callbacks, .arg = g };
	struct engine_vm_config ec = { .cb = &guest_callbacks, .arg = g,
		.ncpu = 1, .no_translate = !translate };
	struct engine_vcpu *vcpu;
	struct vm_object *obj;
	int error;

	if (g == NULL)
		return -ENOMEM;
	if (diff_m32 && ring0)
		return -ENOTSUP;
	g->translate = translate;
	g->ring0 = ring0;
	error = vm_init();
	if (error == 0)
		error = vmspace_create(&vc, &g->vms);
	if (error == 0)
		error = vm_object_create_anon(MEMORY, &obj);
	if (error != 0)
		return error;
	error = vm_map_insert(g->vms, 0, MEMORY, obj, 0, VMM_PROT_ALL, 0);
	vm_object_rele(obj);
	for (unsigned i = 0; i < MEMORY / DIFF_PAGE && error == 0; i++)
		error = vm_hold(g->vms, i * DIFF_PAGE, DIFF_PAGE, VMM_PROT_RW,
		    &g->hold[i]);
	if (error != 0)
		return error;
	ec.pmap = vmspace_pmap(g->vms);
	error = engine_soft_ops.vm_create(&ec, &g->vm);
	if (error == 0 && diff_lock)
		engine_soft_ops.memory_shared(g->vm);
	if (error == 0)
		error = engine_soft_ops.vcpu_create(g->vm, 0, &vcpu);
	if (error != 0)
		return error;
	g->cpu = (struct soft_cpu *)vcpu;
	guest_tables(g);
	guest_descriptors(g);
	memset(guest_at(g, CODE), 0xcc, DIFF_PAGE);
	memset(guest_at(g, CODE + DIFF_PAGE), 0xcc, DIFF_PAGE);
	for (unsigned i = 0; i < DIFF_PAGES; i++)
		memcpy(guest_at(g, IMAGE + i * DIFF_PAGE), diff_image[i],
		    DIFF_PAGE);
	*gp = g;
	return guest_processor(g);
}

void
diff_guest_destroy(struct diff_guest *g)
{
	engine_soft_ops.vcpu_destroy((struct engine_vcpu *)g->cpu);
	engine_soft_ops.vm_destroy(g->vm);
	g->cpu = NULL;
	for (unsigned i = 0; i < MEMORY / DIFF_PAGE; i++)
		vm_release(g->vms, &g->hold[i]);
	vmspace_destroy(g->vms);
	free(g);
}

/* --- one case ---------------------------------------------------------------- */

static void
guest_code(struct diff_guest *g, uint32_t off, const uint8_t *b, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		*guest_at(g, CODE + off + i) = b == NULL ? 0xcc : b[i];
	if (n != 0)
		engine_soft_ops.gpa_written(g->vm, CODE + off, n);
}

/* The code of the last case, as it still is? */
static bool
guest_has_code(struct diff_guest *g, const struct diff_case *c)
{
	if (g->code_off != c->code_off || g->code_len != c->code_len)
		return false;
	for (uint32_t i = 0; i < c->code_len; i++)
		if (*guest_at(g, CODE + c->code_off + i) != c->code[i])
			return false;
	return true;
}

static void
guest_load(struct diff_guest *g, struct diff_case *c)
{
	struct soft_cpu *cpu = g->cpu;
	struct engine_vcpu *v = (struct engine_vcpu *)cpu;

	if (!guest_has_code(g, c)) {
		guest_code(g, g->code_off, NULL, g->code_len);
		guest_code(g, c->code_off, c->code, c->code_len);
		g->code_off = c->code_off;
		g->code_len = c->code_len;
	}
	if (g->ring0) {
		guest_set_seg(cpu, VMM_SEG_CS, SEL_KCODE, 0, ~0u, 0xa09b);
		guest_set_seg(cpu, VMM_SEG_SS, SEL_KDATA, 0, ~0u, 0xc093);
	} else {
		if (diff_m32)
			guest_set_seg(cpu, VMM_SEG_CS, SEL_UCODE32, 0, ~0u,
			    0xc0fb);
		else
			guest_set_seg(cpu, VMM_SEG_CS, SEL_UCODE, 0, ~0u,
			    0xa0fb);
		guest_set_seg(cpu, VMM_SEG_SS, SEL_UDATA, 0, ~0u, 0xc0f3);
	}
	for (unsigned i = 0; i < 16; i++)
		cpu->gpr[i] = c->in.gpr[i];
	cpu->rip = c->in.rip;
	engine_soft_ops.set_reg(v, VMM_REG_RFLAGS, c->in.rflags);
	if (engine_soft_ops.set_xsave(v, c->in.xsave, DIFF_XSAVE) != 0)
		abort();
}

/* Is the next instruction one that the case may run? */
static bool
guest_look(struct diff_guest *g, struct diff_case *c, unsigned *mnemonic,
    bool *call)
{
	struct soft_cpu *cpu = g->cpu;
	struct soft_insn in;
	uint8_t b[15];
	unsigned n;

	for (n = 0; n < 15; n++) {
		uint64_t off = cpu->rip + n - DIFF_CODE;

		if (off >= DIFF_CODE_PAGES * DIFF_PAGE)
			break;
		b[n] = *guest_at(g, CODE + off);
	}
	if (n == 0 || soft_decode(b, n, diff_m32 ? SOFT_KEY_D : SOFT_KEY_L,
	    &in) != 0)
		return true; /* it will fault */
	c->no_flags = false;
	if (!diff_allowed(&in, g->ring0))
		return false;
	/* The host's XCR0 is larger than the guest's. */
	if (in.cls == SOFT_C_FPUMEM &&
	    in.zi.meta.isa_set == ZYDIS_ISA_SET_XSAVE &&
	    ((cpu->gpr[VMM_REG_RAX] & 0xfffffff8) != 0 ||
	    (cpu->gpr[VMM_REG_RDX] & 0xffffffff) != 0))
		return false;
	/* A gather broken off by a fault with TF set: #DB or the fault? */
	if (in.cls == SOFT_C_GATHER && (cpu->rflags_sys & SOFT_FL_TF))
		return false;
	*mnemonic = in.len != 0 && in.cls != SOFT_C_UD ? in.zi.mnemonic : 0;
	diff_met[*mnemonic]++;
	if (in.len != 0 && in.cls == SOFT_C_FPUMEM) {
		uint64_t ea = soft_ea(cpu, &in);

		if (in.mem_seg >= VMM_SEG_FS)
			ea += cpu->seg_base[in.mem_seg];
		diff_note_insn(c, &in, ea);
	}
	c->no_flags = in.cls == SOFT_C_STRING && in.fl_cond_write;
	*call = in.len != 0 && in.cls == SOFT_C_CALL;
	return true;
}

static bool
guest_in_handler(const struct soft_cpu *cpu)
{
	return cpu->rip - KVA_HANDLER < DIFF_PAGE;
}

/* The run loop, an instruction at a time. => 0 or DIFF_V_* */
static uint32_t
guest_step(struct diff_guest *g, struct diff_case *c)
{
	struct soft_cpu *cpu = g->cpu;
	uint32_t v = DIFF_V_TIMEOUT;
	unsigned m;
	bool call;
	int r;

	cpu->event_check = cpu->nmi_check = true;
	soft_enter(cpu);
	r = soft_check_events(cpu);
	for (unsigned n = 0; n < STEPS; n++) {
		if (r == SOFT_EXIT || r < 0) {
			v = DIFF_V_ERROR;
			break;
		}
		if (guest_in_handler(cpu)) {
			v = 0;
			break;
		}
		m = 0;
		call = false;
		if (!guest_look(g, c, &m, &call) || (cpu->rflags_sys & SOFT_FL_AC)) {
			v = DIFF_V_SYS;
			break;
		}
		r = soft_step_needed(cpu) ? soft_step_one(cpu) : soft_step(cpu);
		if (r != SOFT_FAULT) {
			c->no_flags = false;
			diff_insns++;
			diff_ran[m]++;
		}
		/* The translator has pushed the return address by then. */
		if (r == SOFT_FAULT && call && cpu->exc.vector == SOFT_EXC_GP)
			diff_note_mask(c, cpu->gpr[VMM_REG_RSP] - 8, 8);
		if (r == SOFT_FAULT)
			r = soft_deliver(cpu);
		if (r == SOFT_FLUSH)
			r = soft_check_events(cpu);
	}
	soft_leave(cpu);
	return v;
}

static uint32_t
guest_free(struct diff_guest *g)
{
	struct vmm_exit exit = { .size = sizeof(exit) };

	if (engine_soft_ops.vcpu_run((struct engine_vcpu *)g->cpu, &exit) !=
	    0 || exit.reason != VMM_EXIT_HLT || !guest_in_handler(g->cpu))
		return DIFF_V_ERROR;
	return 0;
}

void
diff_guest_disturb(struct diff_guest *g, bool invalidate)
{
	if (invalidate)
		pmap_invalidate(vmspace_pmap(g->vms));
	else
		soft_kick(g->cpu);
}

static void
guest_outcome(struct diff_guest *g, struct diff_outcome *o)
{
	struct soft_cpu *cpu = g->cpu;
	struct {
		uint64_t error, rip, cs, rflags, rsp, ss;
	} f;
	size_t len = DIFF_XSAVE;

	memcpy(o->out.gpr, cpu->gpr, sizeof(o->out.gpr));
	engine_soft_ops.get_xsave((struct engine_vcpu *)cpu, o->out.xsave,
	    &len);
	diff_xsave_canon(o->out.xsave);
	if (o->vector == 0) {
		memcpy(&f, guest_at(g, KERN + 0x4000 - sizeof(f)), sizeof(f));
		o->vector = (uint32_t)(cpu->rip - KVA_HANDLER) / 16;
		switch (o->vector) {
		case SOFT_EXC_DF: case SOFT_EXC_TS: case SOFT_EXC_NP:
		case SOFT_EXC_SS: case SOFT_EXC_GP: case SOFT_EXC_PF:
		case SOFT_EXC_AC:
			o->error = (uint32_t)f.error;
			break;
		default:
			break;
		}
		o->cr2 = o->vector == SOFT_EXC_PF ? cpu->cr2 : 0;
		o->out.rip = f.rip;
		o->out.rflags = f.rflags;
		o->out.gpr[VMM_REG_RSP] = f.rsp;
	} else {
		o->out.rip = cpu->rip;
	}
}

void
diff_guest_run(struct diff_guest *g, struct diff_case *c,
    struct diff_outcome *o)
{
	guest_load(g, c);
	g->kicks = 0;
	memset(o, 0, sizeof(*o));
	if (g->translate) {
		o->vector = guest_free(g);
	} else {
		c->nmask = 0;
		c->no_flags = false;
		o->vector = guest_step(g, c);
	}
	guest_outcome(g, o);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		uint8_t *p = guest_at(g, IMAGE + i * DIFF_PAGE);

		if (i != DIFF_DATA_PAGES)
			diff_mask_page(c, i, p);
		if (memcmp(p, diff_image[i], DIFF_PAGE) != 0) {
			o->hash[i] = diff_hash(p);
			memcpy(g->saved[i], p, DIFF_PAGE);
			memcpy(p, diff_image[i], DIFF_PAGE);
		} else {
			memcpy(g->saved[i], diff_image[i], DIFF_PAGE);
		}
	}
}

const uint8_t *
diff_guest_page(struct diff_guest *g, unsigned i)
{
	return g->saved[i];
}
