/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the system half of the executor: seg.c, far.c, event.c,
 * exec_sys*.c.
 */
#ifndef SYS_INT_H
#define SYS_INT_H

#include "engine/soft/soft_int.h"

/* A descriptor as it lies in a table. */
struct seg_desc {
	uint32_t lo, hi;
	uint32_t base_hi; /* 16-byte system descriptors of long mode */
	uint32_t hi3;	  /* their last word */
	gva_t addr;
};

#define SEG_D_TYPE(hi) ((hi) >> 8 & 0xf)
#define SEG_D_S(hi) (((hi) & 0x1000) != 0)
#define SEG_D_DPL(hi) ((hi) >> 13 & 3)
#define SEG_D_P(hi) (((hi) & 0x8000) != 0)
#define SEG_D_L(hi) (((hi) & 0x200000) != 0)
#define SEG_D_DB(hi) (((hi) & 0x400000) != 0)
#define SEG_T_ACCESSED 0x1u
#define SEG_T_RW 0x2u	/* data: writable; code: readable */
#define SEG_T_CONF 0x4u /* code: conforming; data: expand down */
#define SEG_T_CODE 0x8u

/* System descriptor types */
#define SEG_SYS_TSS16 1u
#define SEG_SYS_LDT 2u
#define SEG_SYS_TSS16_BUSY 3u
#define SEG_SYS_CALL16 4u
#define SEG_SYS_TASK 5u
#define SEG_SYS_INT16 6u
#define SEG_SYS_TRAP16 7u
#define SEG_SYS_TSS 9u
#define SEG_SYS_TSS_BUSY 11u
#define SEG_SYS_CALL 12u
#define SEG_SYS_INT 14u
#define SEG_SYS_TRAP 15u

static inline bool
seg_is_code(uint32_t hi)
{
	return SEG_D_S(hi) && (SEG_D_TYPE(hi) & SEG_T_CODE) != 0;
}

static inline bool
seg_is_conforming(uint32_t hi)
{
	return (SEG_D_TYPE(hi) & SEG_T_CONF) != 0;
}

static inline bool
seg_is_writable(uint32_t hi)
{
	return SEG_D_S(hi) &&
	    (SEG_D_TYPE(hi) & (SEG_T_CODE | SEG_T_RW)) == SEG_T_RW;
}

static inline bool
seg_null(uint16_t sel)
{
	return (sel & 0xfffc) == 0;
}

/* => SOFT_FAULT with the selector as error code */
static inline int
seg_fault(struct soft_cpu *cpu, uint8_t vector, uint16_t sel, uint32_t ext)
{
	return soft_raise_err(cpu, vector, (sel & 0xfffcu) | ext);
}

/* --- seg.c ------------------------------------------------------------ */

/* Reads the descriptor of sel (8 bytes). Outside its table: `vector`(sel). */
int seg_read(struct soft_cpu *cpu, uint16_t sel, uint8_t vector, uint32_t ext,
    struct seg_desc *d);
/* The other 8 bytes of a system descriptor in long mode. */
int seg_read_upper(struct soft_cpu *cpu, uint16_t sel, uint8_t vector,
    struct seg_desc *d);
void seg_cache(const struct seg_desc *d, uint16_t sel, struct vmm_seg *s);
/* Sets the accessed bit in the table, if it is clear. */
int seg_accessed(struct soft_cpu *cpu, struct seg_desc *d);
/*
 * Stack segment for privilege level cpl with the errors of a stack switch
 * (`vector` is #TS for gates, #GP for returns).
 * => SOFT_OK with *s, FAULT, EXIT
 */
int seg_stack(struct soft_cpu *cpu, uint16_t sel, unsigned cpl,
    uint8_t vector, uint32_t ext, struct vmm_seg *s);
/* SS as a switch to 64-bit code sets it: null, with RPL. */
void seg_null_ss(struct vmm_seg *s, unsigned cpl);
/* A privileged stack from the TSS. In long mode *ssp is left alone; ist
 * 1..7 or 0 for RSPn. */
int seg_tss_stack(struct soft_cpu *cpu, unsigned cpl, unsigned ist,
    uint32_t ext, uint16_t *ssp, uint64_t *spp);
int seg_lldt(struct soft_cpu *cpu, uint16_t sel);
int seg_ltr(struct soft_cpu *cpu, uint16_t sel);
/* CS is to become s at privilege cpl; commits CS, cpl and the mode. */
void seg_commit_cs(struct soft_cpu *cpu, struct vmm_seg *s, uint16_t sel,
    unsigned cpl);
/* After a return to an outer level: data segments it may not have go null. */
void seg_drop_privileged(struct soft_cpu *cpu);

/* A stack that is being built or taken down, not yet cpu's. */
struct seg_sp {
	struct vmm_seg ss;
	uint64_t sp;
	unsigned cpl;  /* rights of the accesses */
	unsigned size; /* of the stack pointer: 2, 4, 8 */
	uint32_t err;  /* error code of a limit violation */
};
/* => cpu's own */
void seg_sp_init(const struct soft_cpu *cpu, struct seg_sp *st);
/* Width of the stack pointer that ss implies; is64: 64-bit code. */
void seg_sp_size(struct seg_sp *st, bool is64);
/* Pushes n values of bytes each, v[0] first. => SOFT_OK, FAULT, EXIT */
int seg_push(struct soft_cpu *cpu, struct seg_sp *st, const uint64_t *v,
    unsigned n, unsigned bytes);
/* Pops; v[0] is the top. */
int seg_pop(struct soft_cpu *cpu, struct seg_sp *st, uint64_t *v, unsigned n,
    unsigned bytes);
/* The new value of RSP. */
static inline uint64_t
seg_sp_merge(const struct seg_sp *st, uint64_t rsp)
{
	switch (st->size) {
	case 2:
		return (rsp & ~0xfffful) | (st->sp & 0xffff);
	case 4:
		return st->sp & 0xffffffff;
	default:
		return st->sp;
	}
}

static inline uint64_t
sys_mask(unsigned bytes)
{
	return bytes >= 8 ? ~0ul : (1ul << (bytes * 8)) - 1;
}

/* --- exec_sys*.c ------------------------------------------------------ */

/* rip of the next instruction, truncated to the code's size */
static inline uint64_t
sys_next(const struct soft_cpu *cpu, const struct soft_insn *in)
{
	uint64_t rip = cpu->rip + in->len;

	if ((cpu->mode_key & SOFT_KEY_L) != 0)
		return rip;
	return rip & ((cpu->mode_key & SOFT_KEY_D) != 0 ? 0xfffffffful :
	    0xfffful);
}

static inline int
sys_done(struct soft_cpu *cpu, const struct soft_insn *in, int result)
{
	cpu->rip = sys_next(cpu, in);
	return result;
}

static inline int
sys_ud(struct soft_cpu *cpu)
{
	return soft_raise(cpu, SOFT_EXC_UD);
}

static inline int
sys_gp0(struct soft_cpu *cpu)
{
	return soft_raise_err(cpu, SOFT_EXC_GP, 0);
}

/* GPR number of operand i, which is a register; KASSERTs that it is one. */
unsigned sys_gpr(const struct soft_insn *in, unsigned i);
void sys_wreg(struct soft_cpu *cpu, unsigned r, unsigned bytes, uint64_t v);
/* Linear address of the memory operand of n bytes. */
int sys_mem(struct soft_cpu *cpu, const struct soft_insn *in, unsigned n,
    int access, gva_t *lap);
/* Operand i, register or memory, n bytes. */
int sys_get(struct soft_cpu *cpu, const struct soft_insn *in, unsigned i,
    unsigned n, uint64_t *valp);
/* Writes it; a register's other bits by the rules of its size. */
int sys_put(struct soft_cpu *cpu, const struct soft_insn *in, unsigned i,
    unsigned n, uint64_t val);

/* The groups; each handles its mnemonics, all else is #UD. */
int sys_control(struct soft_cpu *cpu, const struct soft_insn *in);
int sys_segment(struct soft_cpu *cpu, const struct soft_insn *in);
int sys_transfer(struct soft_cpu *cpu, const struct soft_insn *in);

#endif /* SYS_INT_H */
