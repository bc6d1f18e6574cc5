/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the executor: exec*.c, fpu.c, thunk.c, thunk.S.
 *
 * A soft_insn is prepared once into an exec_op: what kind of work it is, a
 * compact form of its address, and its thunk.  soft_step() keeps exec_ops in
 * its decode cache; soft_exec() makes one on the stack.
 */
#ifndef EXEC_INT_H
#define EXEC_INT_H

#include <string.h>

#include "engine/soft/soft_int.h"

enum exec_kind {
	EXEC_K_UD,
	EXEC_K_REG,  /* thunk without memory */
	EXEC_K_MEM,  /* thunk with one memory operand */
	EXEC_K_LEA,
	EXEC_K_NOP,  /* NOP, prefetches: nothing, not even an access */
	EXEC_K_BIT,  /* BT, BTS, BTR, BTC of a bit string in memory */
	EXEC_K_DF,   /* CLD, STD */
	EXEC_K_JMP, EXEC_K_JCC, EXEC_K_CALL, EXEC_K_RET, EXEC_K_LOOP,
	EXEC_K_STACK, EXEC_K_STRING, EXEC_K_FPUMEM,
	EXEC_K_PIECES, /* exec_vec.c */
	EXEC_K_ASCII,  /* AAA, AAS, AAM, AAD, DAA, DAS, SALC */
	EXEC_K_SYS,
};

/* base, index: GPR in encoding order, or -1.  riprel: base is the next rip. */
struct exec_ea {
	int64_t disp;
	int8_t base, index;
	uint8_t shift; /* of the index */
	bool riprel;
};

struct exec_op {
	const struct soft_insn *in;
	struct exec_ea ea;
	uint32_t thunk;	    /* slot, valid if thunk_gen is the current one */
	uint32_t thunk_gen; /* 0: none */
	uint8_t kind;	    /* enum exec_kind */
	uint8_t seg;	    /* of the memory operand, implicit ones too */
	bool vec;	    /* checks of CR0, CR4, XCR0, and live vector state */
};

void exec_prepare(struct exec_op *x, const struct soft_insn *in);
uint64_t exec_ea(const struct soft_cpu *cpu, const struct exec_op *x);

/* => a thunk's result: 0, or 1 + the vector of the exception it met */
typedef int (*exec_thunk_fn)(struct soft_cpu *cpu, void *mem);

/* --- thunk.c ---------------------------------------------------------- */

int exec_thunk_init(struct soft_cpu *cpu);
void exec_thunk_fini(struct soft_cpu *cpu);
/* => 0 with x->thunk set; -ENOTSUP if it cannot be re-encoded */
int exec_thunk_make(struct soft_cpu *cpu, struct exec_op *x);
/* Runs x's thunk (made before) on the memory at mem; vector state goes in and
 * out when x->vec.  => SOFT_OK, or SOFT_FAULT with no guest state changed */
int exec_thunk_run(struct soft_cpu *cpu, const struct exec_op *x, void *mem);
/* thunk.S: the thunk with the guest's vector state around it. */
int exec_thunk_vec(struct soft_cpu *cpu, void *mem, void *fn, void *xsave,
    uint32_t mask);

/* --- exec_mem.c ------------------------------------------------------- */

/* Both pages of [la, la+n) may be accessed so. => SOFT_OK, FAULT, EXIT */
int exec_probe(struct soft_cpu *cpu, gva_t la, unsigned n, int access);
int exec_load(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    uint64_t *valp);
int exec_store(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    uint64_t val);
/* Runs the thunk of x on its n bytes of memory at la. */
int exec_thunk_mem(struct soft_cpu *cpu, struct exec_op *x, gva_t la,
    unsigned n);
/* ret is why the operand at la cannot be had.  => that, or, if alignment comes
 * first, SOFT_FAULT with #GP */
int exec_thunk_misaligned(struct soft_cpu *cpu, struct exec_op *x, gva_t la,
    int ret);

/* --- the parts -------------------------------------------------------- */

int exec_op_run(struct soft_cpu *cpu, struct exec_op *x);
int exec_stack(struct soft_cpu *cpu, struct exec_op *x);
int exec_branch(struct soft_cpu *cpu, struct exec_op *x);
int exec_string(struct soft_cpu *cpu, struct exec_op *x);
int exec_ascii(struct soft_cpu *cpu, struct exec_op *x);
int exec_pieces(struct soft_cpu *cpu, struct exec_op *x);
int exec_fpumem(struct soft_cpu *cpu, struct exec_op *x);
/* #UD and #NM by CR0, CR4 and XCR0. => SOFT_OK, SOFT_FAULT */
int exec_vec_check(struct soft_cpu *cpu, const struct soft_insn *in);
/* After an x87 thunk: the instruction and data pointers are the guest's. */
void exec_fpu_pointers(struct soft_cpu *cpu, const struct exec_op *x,
    uint64_t rip);
uint32_t exec_fpu_mask(void);

/* --- small things ----------------------------------------------------- */

#define EXEC_CR0_MP 0x2ul
#define EXEC_CR0_EM 0x4ul
#define EXEC_CR0_TS 0x8ul
#define EXEC_CR4_OSFXSR 0x200ul
#define EXEC_CR4_OSXMMEXCPT 0x400ul
#define EXEC_CR4_OSXSAVE 0x40000ul

static inline uint64_t
exec_mask(unsigned bytes)
{
	return bytes >= 8 ? ~0ul : (1ul << (bytes * 8)) - 1;
}

static inline uint64_t
exec_sext(uint64_t v, unsigned bytes)
{
	unsigned s = 64 - 8 * bytes;

	return (uint64_t)((int64_t)(v << s) >> s);
}

/* rip of the next instruction, truncated to the code size */
static inline uint64_t
exec_next(const struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t rip = cpu->rip + in->len;

	if (cpu->mode_key & SOFT_KEY_L)
		return rip;
	return rip & (cpu->mode_key & SOFT_KEY_D ? 0xfffffffful : 0xfffful);
}

static inline int
exec_done(struct soft_cpu *cpu, const struct soft_insn *in)
{
	cpu->rip = exec_next(cpu, in);
	return SOFT_OK;
}

/* Writes the low bytes of a register as an instruction result does. */
static inline void
exec_wreg(struct soft_cpu *cpu, unsigned r, unsigned bytes, uint64_t v)
{
	uint64_t m = exec_mask(bytes);

	if (bytes >= 4)
		cpu->gpr[r] = v & m;
	else
		cpu->gpr[r] = (cpu->gpr[r] & ~m) | (v & m);
}

static inline bool
exec_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static inline int
exec_linear(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    int access, gva_t *lap)
{
	uint64_t la = off;

	if (cpu->mode_key & SOFT_KEY_L) {
		if (seg >= VMM_SEG_FS)
			la += cpu->seg_base[seg];
		if (exec_canonical(la) && exec_canonical(la + n - 1) &&
		    la + n - 1 >= la) {
			*lap = la;
			return SOFT_OK;
		}
	}
	return soft_linear(cpu, seg, off, n, access, lap);
}

/* Guest memory through a host pointer: any alignment, one access if aligned. */
typedef uint16_t exec_u16 __attribute__((aligned(1), may_alias));
typedef uint32_t exec_u32 __attribute__((aligned(1), may_alias));
typedef uint64_t exec_u64 __attribute__((aligned(1), may_alias));

static inline uint64_t
exec_get(const void *p, unsigned n)
{
	switch (n) {
	case 1:
		return *(const volatile uint8_t *)p;
	case 2:
		return *(const volatile exec_u16 *)p;
	case 4:
		return *(const volatile exec_u32 *)p;
	default:
		return *(const volatile exec_u64 *)p;
	}
}

static inline void
exec_put(void *p, unsigned n, uint64_t v)
{
	switch (n) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(volatile exec_u16 *)p = (uint16_t)v;
		break;
	case 4:
		*(volatile exec_u32 *)p = (uint32_t)v;
		break;
	default:
		*(volatile exec_u64 *)p = v;
		break;
	}
}

/* Host pointer if the TLB has it and the access stays in one page. */
static inline void *
exec_tlb(struct soft_cpu *cpu, gva_t la, unsigned n, bool write)
{
	const struct soft_tlb_entry *e = &cpu->tlb[cpu->mmuidx]
	    [(la >> VMM_PAGE_SHIFT) & (SOFT_TLB_SIZE - 1)];
	uint64_t tag = write ? e->tag_w : e->tag_r;

	if (tag != (la & ~VMM_PAGE_MASK) ||
	    (la & VMM_PAGE_MASK) + n > VMM_PAGE_SIZE)
		return NULL;
	return (void *)(uintptr_t)(la + e->addend);
}

static inline int
exec_ptr(struct soft_cpu *cpu, gva_t la, unsigned n, int access, void **ptrp)
{
	*ptrp = exec_tlb(cpu, la, n, access & VMM_PROT_WRITE);
	if (*ptrp != NULL)
		return SOFT_OK;
	return soft_ptr(cpu, la, n, access, ptrp);
}

/* GPR number of a Zydis register of 16, 32 or 64 bits, or -1. */
static inline int
exec_gpr(ZydisRegister r)
{
	if (r >= ZYDIS_REGISTER_AX && r <= ZYDIS_REGISTER_R15W)
		return r - ZYDIS_REGISTER_AX;
	if (r >= ZYDIS_REGISTER_EAX && r <= ZYDIS_REGISTER_R15D)
		return r - ZYDIS_REGISTER_EAX;
	if (r >= ZYDIS_REGISTER_RAX && r <= ZYDIS_REGISTER_R15)
		return r - ZYDIS_REGISTER_RAX;
	return -1;
}

#endif /* EXEC_INT_H */
