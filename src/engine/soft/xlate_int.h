/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the translator proper: xlate.c (blocks, native instructions),
 * xlate_mem.c (flags, exits, addresses), xlate_slot.c (checks of memory
 * operands), xlate_ctl.c (stack, jumps), xlate_sys.c (system instructions,
 * LOCK).
 */
#ifndef XLATE_INT_H
#define XLATE_INT_H

#include "engine/soft/emit.h"

#define XL_INSNS 64u
#define XL_BYTES 24576u /* of hot code: rel32 and CODE_ROOM are safe */
#define XL_GROUPS 8u
#define XL_SPAN 128
#define XL_COLD 512u

enum xl_cold_kind { XL_C_SITE, XL_C_SAVE_SITE, XL_C_FAR, XL_C_SLOT, XL_C_LOOKUP };

/* How a memory operand is addressed. */
struct xl_addr {
	enum xl_form {
		XL_A_HOST, /* base is in a host register: base + disp */
		XL_A_S0,   /* base is to be loaded into S0: S0 + disp */
		XL_A_FULL, /* S0 is to be the linear address */
		XL_A_LINEAR, /* S0 is; disp is 0 */
	} form;
	int base;  /* guest register; XL_A_RIP; -1: none */
	int index; /* guest register or -1 */
	unsigned scale;
	int64_t disp;
	unsigned n; /* bytes */
	bool write;
	bool later; /* it is read, but others of its group are written */
	bool key; /* base, index, scale and disp are all there is to it */
	bool stack; /* not the memory operand: base + disp, natural width */
};
#define XL_A_RIP 16

struct xl_cold {
	uint32_t from; /* position of the rel32 to be filled, 0: none */
	uint8_t what;  /* enum xl_cold_kind */
	struct code_site site;
	const struct soft_insn *recipe; /* flags come from it, or NULL */
	bool recipe_val;
	int64_t delta; /* FAR: target - page */
	uint32_t key;  /* FAR, LOOKUP: the mode there */
	bool saved;    /* FAR: flags are saved already */
	struct code_fault *fault; /* SITE: a host fault goes on there */
	/* SLOT */
	uint32_t slot; /* offset in cpu->slot */
	uint32_t hot, back;
	bool group;    /* the span is more than the operand */
	uint8_t slot_kind;
	bool full;     /* the hot code looks into the TLB */
	uint32_t plain; /* position of the jump to a plain block */
	/* Where the operand may be split between two pages. */
	struct xl_addr addr;
	struct soft_insn *in;
	bool split;
	uint8_t store[16], nstore; /* the instruction, if it stores */
	uint32_t after;		   /* it */
	int base; /* host register: the span begins at base + disp */
	int32_t disp;
	unsigned span;
};

/* Operands checked at once: see xlate_slot.c. */
struct xl_group {
	int base; /* as in xl_addr; -1: unused */
	int index;
	unsigned scale;
	int64_t lo, hi; /* displacements from what base was at first */
	bool write;
};

struct xl {
	struct code_out *o;
	struct soft_block *b;
	struct soft_insn *in; /* the current one */
	struct soft_insn *recipe; /* its flags, see xl_recipe() */
	bool recipe_val;	  /* from the kept operand */
	uint32_t key; /* mode of the current one: STAC, CLAC change it */
	unsigned page_off; /* of the current instruction */
	bool is64;
	bool plain; /* no groups */
	bool live, saved;  /* where the guest's flags are */
	bool fpu;	   /* vector state is known to be live */
	bool done;
	bool last; /* the block has no room for another instruction */
	/* The operand that was checked last: [ref_base + ref_index + disp]. */
	int ref_base, ref_index;
	int32_t disp;
	struct xl_cold *checked; /* by this instruction, or NULL */
	int s1_group; /* S1 has this group's addend, or -1 */
	int64_t delta[17]; /* what was added to guest registers so far */
	/* A loop back to the block's beginning: see xlate_loop.c. */
	int loop_n;	      /* its last instruction's index, -1: none */
	unsigned loop_written; /* general registers it writes */
	bool loop_keep;	      /* groups stay good all the way round */
	bool loop_in;	      /* in the second translation of it */
	bool loop_fpu;	      /* state there at its beginning */
	bool loop_val;
	struct soft_insn *loop_recipe;
	uint32_t loop_from;   /* rel32 that goes to it */
	uint32_t loop_pos;
	unsigned ngroup, ndec;
	struct xl_group group[XL_GROUPS], loop_group[XL_GROUPS];
	unsigned ncold;
	struct xl_cold cold[XL_COLD];
	struct soft_insn ins[XL_INSNS];
};

/* --- xlate.c */

void xl_need_fpu(struct xl *x);

/* --- xlate_mem.c */

void xl_emit_save(struct code_out *o);
bool xl_has_recipe(const struct soft_insn *in);
void xl_recipe(struct code_out *o, const struct soft_insn *in, bool val);
bool xl_keep_operand(const struct xl *x);
void xl_restore(struct xl *x);
void xl_save(struct xl *x);
void xl_clobber(struct xl *x);
void xl_settle(struct xl *x);
void xl_written(struct xl *x, unsigned regs);
struct xl_cold *xl_cold(struct xl *x, enum xl_cold_kind what, enum code_site_kind kind);
void xl_fill(struct code_out *o, uint32_t from, uint32_t to);
void xl_site(struct code_out *o, const struct code_site *s);
void xl_fault(struct xl *x, bool poll);
bool xl_ea_ok(const struct xl *x);
void xl_ea(struct xl *x, unsigned reg);
unsigned xl_host(unsigned r);

/* --- xlate.c */

bool xl_insn(struct xl *x);
bool xl_kills_flags(const struct soft_insn *in);
bool xl_may_fault(const struct soft_insn *in);

/* --- xlate_slot.c */

unsigned xl_gpr_written(const struct soft_insn *in);
bool xl_delta(const struct soft_insn *in, unsigned r, int64_t *by);
bool xl_addr(const struct xl *x, struct xl_addr *a);
void xl_access(struct xl *x, const struct xl_addr *a);
void xl_mem(struct xl *x);
void xl_ref(struct xl *x, bool w, unsigned op, unsigned reg);
void xl_stack_check(struct xl *x, int base, int disp, unsigned n, bool write);
void xl_group_end(struct xl *x);
void xl_group_drop(struct xl *x);
bool xl_string(struct xl *x);
void xl_slot_cold(struct xl *x, struct xl_cold *c);

/* --- xlate_loop.c */

void xl_loop_find(struct xl *x);
bool xl_loop_edge(struct xl *x, unsigned cc, int64_t target);
void xl_loop_body(struct xl *x);
bool xl_loop_same(const struct xl *x, int base, int index);

/* --- xlate_ctl.c */

bool xl_stack(struct xl *x);
void xl_lookup(struct xl *x, struct code_out *o, const struct code_site *s, int32_t link);
void xl_far(struct xl *x, const struct xl_cold *c);
void xl_poll(struct xl *x);
void xl_rip(struct xl *x, struct code_out *o, unsigned reg, int64_t delta);
void xl_goto(struct xl *x, unsigned cc, int64_t target, bool far);
void xl_exec(struct xl *x);
bool xl_branch(struct xl *x);
void xl_push_check(struct xl *x);
void xl_top_check(struct xl *x, int base);
void xl_push_reg(struct xl *x, unsigned host);
unsigned xl_value(struct xl *x, unsigned r);

/* --- xlate_sys.c */

bool xl_sys(struct xl *x);
bool xl_popf(struct xl *x);
bool xl_xsave(struct xl *x);
bool xl_pause(struct xl *x);
bool xl_bit(struct xl *x);
void xl_pushf(struct xl *x);
void xl_unlock(struct soft_insn *in);
bool xl_xchg(struct xl *x);

#endif /* XLATE_INT_H */
