/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest of the executor alone: decoder, recoder, thunks and fpu.c are real,
 * the MMU is the case's few pages at fixed addresses, and an exception ends
 * the case where it is raised.  System instructions are not run.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "diff.h"
#include "engine/soft/soft_int.h"

#define STEPS 400

struct diff_guest {
	struct soft_cpu *cpu;
	uint32_t code_off, code_len;
};

static uint8_t *code;
static uint8_t (*pages)[DIFF_PAGE]; /* as diff_image */
static uint8_t (*saved)[DIFF_PAGE];
static struct soft_vm vm;
uint64_t diff_insns;
uint32_t diff_ran[ZYDIS_MNEMONIC_MAX_VALUE + 1];
uint32_t diff_met[ZYDIS_MNEMONIC_MAX_VALUE + 1];

/* --- what the other parts of the engine would do ------------------------ */

int
soft_raise(struct soft_cpu *c, uint8_t vector)
{
	c->exc = (struct soft_exc){ .vector = vector };
	return SOFT_FAULT;
}

int
soft_raise_err(struct soft_cpu *c, uint8_t vector, uint32_t error)
{
	c->exc = (struct soft_exc){ .vector = vector, .has_error = true,
		.error = error };
	return SOFT_FAULT;
}

/* => host address of gva's page and its rights, 0 if there is none */
static int
standin_page(gva_t gva, uint8_t **pp)
{
	uint64_t n = gva >> 12;

	if (n - (DIFF_CODE >> 12) < DIFF_CODE_PAGES) {
		*pp = code + (gva - DIFF_CODE) / DIFF_PAGE * DIFF_PAGE;
		return VMM_PROT_READ | VMM_PROT_EXEC;
	}
	if (n - (DIFF_DATA >> 12) <= DIFF_DATA_PAGES) {
		n -= DIFF_DATA >> 12;
		*pp = pages[n];
		return n == DIFF_DATA_PAGES ? VMM_PROT_READ : VMM_PROT_RW;
	}
	if (n - (DIFF_STACK >> 12) < DIFF_STACK_PAGES) {
		*pp = pages[n - (DIFF_STACK >> 12) + DIFF_DATA_PAGES + 1];
		return VMM_PROT_RW;
	}
	return 0;
}

static int
standin_fill(struct soft_cpu *c, gva_t gva, int access, uint8_t **pp)
{
	struct soft_tlb_entry *e;
	int prot;

	if ((int64_t)(gva << 16) >> 16 != (int64_t)gva)
		return soft_raise_err(c, SOFT_EXC_GP, 0);
	prot = standin_page(gva, pp);
	if ((prot & access) != access) {
		soft_raise_err(c, SOFT_EXC_PF, 4 | (prot != 0) |
		    (access & VMM_PROT_WRITE ? 2 : 0) |
		    (access & VMM_PROT_EXEC ? 16 : 0));
		c->exc.cr2 = gva;
		return SOFT_FAULT;
	}
	e = &c->tlb[c->mmuidx][(gva >> 12) & (SOFT_TLB_SIZE - 1)];
	e->addend = (uint64_t)(uintptr_t)*pp - (gva & ~VMM_PAGE_MASK);
	e->tag_r = prot & VMM_PROT_READ ? gva & ~VMM_PAGE_MASK :
	    SOFT_TLB_INVALID;
	e->tag_w = prot & VMM_PROT_WRITE ? gva & ~VMM_PAGE_MASK :
	    SOFT_TLB_INVALID;
	*pp += gva & VMM_PAGE_MASK;
	return SOFT_OK;
}

int
soft_tlb_fill(struct soft_cpu *c, gva_t gva, unsigned n, int access)
{
	uint8_t *p;

	(void)n;
	return standin_fill(c, gva, access, &p);
}

int
soft_ptr(struct soft_cpu *c, gva_t gva, unsigned n, int access, void **ptrp)
{
	uint8_t *p;
	int ret;

	if ((gva & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE)
		return SOFT_SLOW;
	ret = standin_fill(c, gva, access, &p);
	*ptrp = p;
	return ret;
}

static int
standin_copy(struct soft_cpu *c, gva_t gva, void *buf, unsigned n, int access)
{
	unsigned first = (unsigned)base_min(n,
	    VMM_PAGE_SIZE - (gva & VMM_PAGE_MASK));
	uint8_t *p[2] = { NULL, NULL };
	int ret = standin_fill(c, gva, access, &p[0]);

	if (ret == SOFT_OK && first < n)
		ret = standin_fill(c, gva + first, access, &p[1]);
	if (ret != SOFT_OK)
		return ret;
	if (access == VMM_PROT_WRITE) {
		memcpy(p[0], buf, first);
		if (first < n)
			memcpy(p[1], (char *)buf + first, n - first);
	} else {
		memcpy(buf, p[0], first);
		if (first < n)
			memcpy((char *)buf + first, p[1], n - first);
	}
	return SOFT_OK;
}

int
soft_read(struct soft_cpu *c, gva_t gva, void *buf, unsigned n, bool implicit)
{
	(void)implicit;
	return standin_copy(c, gva, buf, n, VMM_PROT_READ);
}

int
soft_write(struct soft_cpu *c, gva_t gva, const void *buf, unsigned n,
    bool implicit)
{
	(void)implicit;
	return standin_copy(c, gva, (void *)(uintptr_t)buf, n, VMM_PROT_WRITE);
}

int
soft_fetch(struct soft_cpu *c, gva_t gva, gpa_t *gpap, const uint8_t **ptrp)
{
	uint8_t *p;
	int ret = standin_fill(c, gva, VMM_PROT_EXEC, &p);

	*gpap = gva;
	*ptrp = p;
	return ret;
}

int
soft_linear(struct soft_cpu *c, unsigned seg, uint64_t off, unsigned n,
    int access, gva_t *lap)
{
	uint64_t la = off;

	(void)access;
	if (seg == VMM_SEG_FS || seg == VMM_SEG_GS)
		la += c->seg_base[seg];
	if ((int64_t)(la << 16) >> 16 != (int64_t)la ||
	    (int64_t)((la + n - 1) << 16) >> 16 != (int64_t)(la + n - 1))
		return soft_raise_err(c, seg == VMM_SEG_SS ? SOFT_EXC_SS :
		    SOFT_EXC_GP, 0);
	*lap = la;
	return SOFT_OK;
}

void
soft_mode_update(struct soft_cpu *c)
{
	(void)c;
}

int
soft_exec_sys(struct soft_cpu *c, const struct soft_insn *in)
{
	if (in->zi.mnemonic == ZYDIS_MNEMONIC_INT3) {
		c->rip += in->len;
		return soft_raise(c, SOFT_EXC_BP);
	}
	return soft_raise(c, 0xff);
}

int
soft_io(struct soft_cpu *c, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	(void)port;
	(void)bytes;
	(void)in;
	(void)datap;
	return soft_raise_err(c, SOFT_EXC_GP, 0);
}

int
soft_io_check(struct soft_cpu *c, uint16_t port, unsigned bytes)
{
	(void)port;
	(void)bytes;
	return soft_raise_err(c, SOFT_EXC_GP, 0);
}

void
soft_cache_invalidate(struct soft_vm *v, gpa_t gpa, uint64_t len)
{
	(void)v;
	(void)gpa;
	(void)len;
}

/* --- the guest ----------------------------------------------------------- */

static void
standin_signal(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	if (!soft_thunk_signal(uc)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

int
diff_guest_create(bool translate, bool ring0, struct diff_guest **gp)
{
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = standin_signal,
		.sa_flags = SA_SIGINFO | SA_NODEFER };
	struct diff_guest *g;
	struct soft_cpu *c;

	if (translate || ring0 || diff_m32)
		return -ENOTSUP;
	for (unsigned i = 0; i < BASE_ARRAY_LEN(sigs); i++)
		sigaction(sigs[i], &sa, NULL);
	g = calloc(1, sizeof(*g));
	c = aligned_alloc(64, base_roundup(sizeof(*c), 64ul));
	code = aligned_alloc(DIFF_PAGE, DIFF_CODE_PAGES * DIFF_PAGE);
	pages = aligned_alloc(DIFF_PAGE, sizeof(diff_image));
	saved = aligned_alloc(DIFF_PAGE, sizeof(diff_image));
	if (g == NULL || c == NULL || code == NULL || pages == NULL ||
	    saved == NULL)
		return -ENOMEM;
	memset(code, 0xcc, DIFF_CODE_PAGES * DIFF_PAGE);
	memcpy(pages, diff_image, sizeof(diff_image));
	memset(c, 0, sizeof(*c));
	memset(c->tlb, 0xff, sizeof(c->tlb));
	c->vm = &vm;
	c->cr0 = 0x80050033;
	c->cr4 = 0x40620;
	c->efer = 0x500;
	c->xcr0 = soft_fpu_features();
	c->cpl = 3;
	c->mmuidx = SOFT_MMU_USER;
	c->mode_key = SOFT_KEY_L | SOFT_KEY_PE | SOFT_KEY_CPL |
	    SOFT_MMU_USER << 5;
	c->seg_base[VMM_SEG_FS] = c->seg[VMM_SEG_FS].base = DIFF_FS_BASE;
	c->seg_base[VMM_SEG_GS] = c->seg[VMM_SEG_GS].base = DIFF_GS_BASE;
	c->seg[VMM_SEG_CS].selector = 0x33;
	c->seg[VMM_SEG_SS].selector = 0x2b;
	soft_fpu_reset(c, false);
	g->cpu = c;
	*gp = g;
	return soft_exec_init(c);
}

void
diff_guest_destroy(struct diff_guest *g)
{
	soft_exec_fini(g->cpu);
	free(g->cpu);
	free(g);
	free(code);
	free(pages);
	free(saved);
}

void
diff_guest_run(struct diff_guest *g, struct diff_case *c,
    struct diff_outcome *o)
{
	struct soft_cpu *cpu = g->cpu;
	unsigned n;
	int ret = SOFT_OK;

	memset(code + g->code_off, 0xcc, g->code_len);
	memcpy(code + c->code_off, c->code, c->code_len);
	g->code_off = c->code_off;
	g->code_len = c->code_len;
	memcpy(cpu->gpr, c->in.gpr, sizeof(cpu->gpr));
	cpu->rip = c->in.rip;
	cpu->flags_saved = c->in.rflags & SOFT_FL_ARITH;
	cpu->rflags_sys = (uint32_t)c->in.rflags & ~SOFT_FL_ARITH;
	c->nmask = 0;
	c->no_flags = false;
	if (soft_fpu_set(cpu, c->in.xsave, DIFF_XSAVE) != 0)
		abort();
	memset(o, 0, sizeof(*o));
	for (n = 0; n < STEPS; n++) {
		struct soft_insn in;
		uint8_t b[15];
		unsigned avail;

		for (avail = 0; avail < 15; avail++) {
			uint8_t *p;

			if (!(standin_page(cpu->rip + avail, &p) &
			    VMM_PROT_EXEC))
				break;
			b[avail] = p[(cpu->rip + avail) & VMM_PAGE_MASK];
		}
		in.len = 0;
		if (avail > 0 && soft_decode(b, avail, SOFT_KEY_L, &in) == 0 &&
		    (!diff_allowed(&in, false) ||
		    in.zi.meta.isa_set == ZYDIS_ISA_SET_XSAVE)) {
			o->vector = DIFF_V_SYS;
			break;
		}
		if (in.len != 0 && in.cls == SOFT_C_FPUMEM) {
			uint64_t ea = soft_ea(cpu, &in);

			if (in.mem_seg >= VMM_SEG_FS)
				ea += cpu->seg_base[in.mem_seg];
			diff_note_insn(c, &in, ea);
		}
		c->no_flags = in.len != 0 && in.cls == SOFT_C_STRING &&
		    in.fl_cond_write;
		ret = soft_step(cpu);
		if (ret != SOFT_OK && ret != SOFT_FLUSH)
			break;
		c->no_flags = false;
		diff_insns++;
		if (cpu->rflags_sys & (SOFT_FL_TF | SOFT_FL_NT | SOFT_FL_AC)) {
			o->vector = DIFF_V_SYS;
			break;
		}
	}
	if (n == STEPS)
		o->vector = DIFF_V_TIMEOUT;
	else if (ret == SOFT_FAULT && cpu->exc.vector == 0xff)
		o->vector = DIFF_V_SYS;
	else if (ret == SOFT_FAULT)
		o->vector = cpu->exc.vector;
	else if (o->vector == 0)
		o->vector = DIFF_V_ERROR;
	o->error = cpu->exc.has_error ? cpu->exc.error : 0;
	o->cr2 = o->vector == SOFT_EXC_PF ? cpu->exc.cr2 : 0;
	soft_fpu_put(cpu);
	memcpy(o->out.gpr, cpu->gpr, sizeof(cpu->gpr));
	o->out.rip = cpu->rip;
	o->out.rflags = soft_rflags(cpu);
	memcpy(o->out.xsave, cpu->xsave, DIFF_XSAVE);
	diff_xsave_canon(o->out.xsave);
	for (unsigned i = 0; i < DIFF_PAGES; i++) {
		if (i != DIFF_DATA_PAGES)
			diff_mask_page(c, i, pages[i]);
		if (memcmp(pages[i], diff_image[i], DIFF_PAGE) != 0) {
			o->hash[i] = diff_hash(pages[i]);
			memcpy(saved[i], pages[i], DIFF_PAGE);
			memcpy(pages[i], diff_image[i], DIFF_PAGE);
		} else {
			memcpy(saved[i], diff_image[i], DIFF_PAGE);
		}
	}
}

const uint8_t *
diff_guest_page(struct diff_guest *g, unsigned i)
{
	(void)g;
	return saved[i];
}

void
diff_guest_disturb(struct diff_guest *g, bool invalidate)
{
	(void)g;
	(void)invalidate;
}
