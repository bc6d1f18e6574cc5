/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: loops.
 *
 * A block that jumps back to its own beginning is translated up to that jump
 * once more, behind the rest; both jumps back go there.  The second
 * translation knows what the block's entry cannot know: where the flags are
 * (most often they can be had again from a recipe, and nothing needs to be
 * saved in the whole loop), that the vector state is live, and the groups
 * (xlate_slot.c) off registers that the loop does not write, which need no
 * check any more.
 *
 * Each turn polls, and a poll that stops leaves the block: no addend is kept
 * across anything that empties slots.
 */
#include "engine/soft/xlate_int.h"

#define XL_LOOP_INSNS 40

static bool
xl_loop_to(const struct soft_insn *in, int64_t page_off, int64_t target)
{
	return (in->cls == SOFT_C_JCC || in->cls == SOFT_C_JMP) &&
	    in->op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE &&
	    page_off + in->len + in->op[0].imm.value.s == target;
}

/* Is there a loop among the instructions of the block? */
void
xl_loop_find(struct xl *x)
{
	int64_t start = x->b->gpa & VMM_PAGE_MASK, at = start;

	x->loop_n = -1;
	x->loop_from = 0;
	x->loop_in = false;
	x->loop_keep = true;
	x->loop_written = 0;
	if (x->plain || x->b->gpa2 != 0)
		return;
	for (unsigned i = 0; i < x->ndec && i < XL_LOOP_INSNS; i++) {
		const struct soft_insn *in = &x->ins[i];

		x->loop_written |= xl_gpr_written(in);
		/* These call C, or change what is allowed. */
		if (in->cls == SOFT_C_SYS || in->cls == SOFT_C_STRING ||
		    in->cls == SOFT_C_UD)
			x->loop_keep = false;
		if (xl_loop_to(in, at, start)) {
			x->loop_n = (int)i;
			return;
		}
		at += in->len;
	}
}

/* A group off these stays good all around the loop. */
bool
xl_loop_same(const struct xl *x, int base, int index)
{
	return x->loop_n >= 0 && x->loop_keep && base >= 0 &&
	    x->in - x->ins <= x->loop_n &&
	    (base == XL_A_RIP || (x->loop_written >> base & 1) == 0) &&
	    (index < 0 || (x->loop_written >> index & 1) == 0);
}

/* The jump back, cc 16: always. => false: it is a jump like any other */
bool
xl_loop_edge(struct xl *x, unsigned cc, int64_t target)
{
	struct code_out *o = x->o;

	if (x->loop_n < 0 || x->in != &x->ins[x->loop_n] ||
	    !xl_loop_to(x->in, x->page_off, target))
		return false;
	if (x->loop_in && (x->recipe != x->loop_recipe ||
	    x->recipe_val != x->loop_val))
		return false;
	xl_restore(x);
	xl_poll(x);
	if (cc < 16) {
		emit_1(o, 0x0f);
		emit_1(o, 0x80 | cc);
	} else {
		emit_1(o, 0xe9);
	}
	o->pos += 4;
	if (x->loop_in) {
		xl_fill(o, o->pos - 4, x->loop_pos);
		return true;
	}
	x->loop_from = o->pos - 4;
	x->loop_recipe = x->recipe;
	x->loop_val = x->recipe_val;
	x->loop_fpu = x->fpu;
	for (unsigned i = 0; i < XL_GROUPS; i++)
		x->loop_group[i] = x->group[i];
	return true;
}

/* The second translation. */
void
xl_loop_body(struct xl *x)
{
	struct code_out *o = x->o;

	while ((o->pos & 31) != 0)
		emit_1(o, 0xcc); /* never run */
	xl_fill(o, x->loop_from, o->pos);
	x->loop_pos = o->pos;
	x->loop_in = true;
	x->page_off = x->b->gpa & VMM_PAGE_MASK;
	x->key = x->b->key;
	x->live = true;
	x->saved = false;
	x->recipe = x->loop_recipe;
	x->recipe_val = x->loop_val;
	x->fpu = x->loop_fpu;
	x->done = x->last = false;
	x->s1_group = -1;
	memset(x->delta, 0, sizeof(x->delta));
	x->in = x->ins;
	for (unsigned i = 0; i < XL_GROUPS; i++) {
		x->group[i] = x->loop_group[i];
		if (!xl_loop_same(x, x->group[i].base, x->group[i].index))
			x->group[i].base = -1;
	}
	for (int n = 0; n <= x->loop_n && !x->done; n++) {
		x->in = &x->ins[n];
		if (!xl_insn(x)) {
			xl_exec(x);
			return;
		}
		xl_group_end(x);
		x->page_off += x->in->len;
	}
	x->loop_n = -1;
	if (!x->done) {
		x->page_off--; /* forwards: no poll */
		xl_goto(x, 16, x->page_off + 1, false);
	}
}
