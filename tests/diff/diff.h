/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Differential fuzzing of the software CPU against the host's.
 *
 * A case is a processor state, a few instructions and a fixed image of
 * memory.  It runs natively in a child process (native.c) and as a guest of
 * the soft engine (guest.c), at the same addresses, until it faults: the code
 * pages are full of INT3.  Both give an outcome: the exception and the whole
 * state at that point.  gen.c makes cases from seeds, main.c compares.
 */
#ifndef DIFF_H
#define DIFF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIFF_PAGE 4096u

/* The case's address space; all else is unmapped. */
#define DIFF_CODE 0x10000000ul	/* two pages, execute and read */
#define DIFF_CODE_PAGES 2u
#define DIFF_DATA 0x20000000ul	/* four pages, read and write */
#define DIFF_DATA_PAGES 4u
#define DIFF_RO (DIFF_DATA + DIFF_DATA_PAGES * DIFF_PAGE) /* one, read only */
#define DIFF_STACK 0x30000000ul /* two pages, read and write */
#define DIFF_STACK_PAGES 2u
#define DIFF_PAGES (DIFF_DATA_PAGES + 1 + DIFF_STACK_PAGES)
#define DIFF_FS_BASE (DIFF_DATA + 0x800)
#define DIFF_GS_BASE (DIFF_DATA + 0x1800)

#define DIFF_XSAVE 832u /* x87, SSE, AVX in the standard format */
#define DIFF_CODE_MAX 192u /* of a short case */
#define DIFF_INSN_MAX 16u
#define DIFF_PROG_MAX 7680u /* of a program */
#define DIFF_PROG_INSNS 1536u

struct diff_state {
	uint64_t gpr[16];
	uint64_t rip, rflags;
	uint8_t xsave[DIFF_XSAVE] __attribute__((aligned(64)));
};

#define DIFF_MASKS 8u

struct diff_case {
	uint64_t seed;
	struct diff_state in;
	uint32_t code_off; /* of the first byte in the code pages */
	uint32_t code_len;
	uint32_t ninsn;
	/* It faulted in the middle of REP CMPS or SCAS: whether the flags are
	 * those of before depends on how fast the host goes. */
	bool no_flags;
	/* Bytes of memory not compared: x87 instruction and data pointers in
	 * images that the case stores.  Filled by diff_note_insn(). */
	uint32_t nmask;
	struct {
		uint64_t va;
		uint32_t n;
	} mask[DIFF_MASKS];
	/* Last: copied only as far as they are used. */
	uint8_t insn_len[DIFF_PROG_INSNS];
	uint8_t code[DIFF_PROG_MAX];
};

#define DIFF_V_TIMEOUT 0x100 /* did not end by itself */
#define DIFF_V_SYS 0x101     /* did what a case must not do */
#define DIFF_V_ERROR 0x102   /* the engine gave up */

struct diff_outcome {
	uint32_t vector; /* or DIFF_V_* */
	uint32_t error;
	uint64_t cr2; /* #PF */
	struct diff_state out;
	uint64_t hash[DIFF_PAGES]; /* of pages changed, else 0 */
};

/* Memory before each case; order: data, read-only, stack. */
extern uint8_t diff_image[DIFF_PAGES][DIFF_PAGE];
uint64_t diff_hash(const uint8_t *page);
/* Address of page i of the image. */
static inline uint64_t
diff_page_va(unsigned i)
{
	return i < DIFF_DATA_PAGES + 1 ? DIFF_DATA + i * DIFF_PAGE :
	    DIFF_STACK + (i - DIFF_DATA_PAGES - 1) * DIFF_PAGE;
}
/* Components in their initial configuration get their bytes; what is not
 * compared is cleared. */
void diff_xsave_canon(uint8_t *x);

/* --- gen.c ------------------------------------------------------------ */

void diff_gen_image(void);
void diff_gen(uint64_t seed, struct diff_case *c);
/* prog.c: a program of functions, loops and calls; 64-bit only. */
void diff_gen_prog(uint64_t seed, struct diff_case *c);
/* Cases are 32-bit code, in compatibility mode.  Set once, at start. */
extern bool diff_m32;
extern bool diff_lock; /* guest memory is shared: LOCK stays */
/* What a case must not execute: instructions whose result depends on more
 * than the case, or that would leave the sandbox. */
struct soft_insn;
bool diff_allowed(const struct soft_insn *in, bool ring0);
/* The executor is about to run in, whose memory operand is at ea. */
void diff_note_insn(struct diff_case *c, const struct soft_insn *in,
    uint64_t ea);
void diff_note_mask(struct diff_case *c, uint64_t va, unsigned n);
/* Clears what is masked in page i of the case's memory. */
void diff_mask_page(const struct diff_case *c, unsigned i, uint8_t *page);

/* --- native.c --------------------------------------------------------- */

#define DIFF_BATCH 64

/* => 0, -errno: no such child possible here */
int diff_native_start(void);
void diff_native_run(const struct diff_case *c, unsigned n,
    struct diff_outcome *o);
/* Memory after the last batch, if it had only one case. */
const uint8_t *diff_native_page(unsigned i);
void diff_native_stop(void);

/* --- guest.c ---------------------------------------------------------- */

struct diff_guest;
int diff_guest_create(bool translate, bool ring0, struct diff_guest **gp);
void diff_guest_destroy(struct diff_guest *g);
void diff_guest_run(struct diff_guest *g, struct diff_case *c,
    struct diff_outcome *o);
/* Kicks the guest, or takes all its translations, as another thread may. */
void diff_guest_disturb(struct diff_guest *g, bool invalidate);
/* Memory as the last case left it, before it is restored. */
const uint8_t *diff_guest_page(struct diff_guest *g, unsigned i);
/* Instructions run so far by the executor, all and by mnemonic (without a
 * fault, and met at all). */
extern uint64_t diff_insns;
extern uint32_t diff_ran[], diff_met[];

#endif /* DIFF_H */
