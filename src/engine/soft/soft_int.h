/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the soft engine: processor state, TLB, decoded instructions and
 * the contracts between its parts.  docs/design/soft.md is the essay.
 */
#ifndef SOFT_INT_H
#define SOFT_INT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <Zydis/Zydis.h>

#include "base/check.h"
#include "base/lock.h"
#include "engine/engine.h"
#include "pmap/pmap.h"
#include "vmm/types.h"

/* Results of the parts below; negative values are -errno (host trouble). */
enum soft_result {
	SOFT_OK = 0,   /* done; instruction complete, rip advanced */
	SOFT_SLOW = 1, /* tlb_fill: no direct mapping, use the executor */
	SOFT_FAULT = 2, /* cpu->exc describes an exception to deliver */
	SOFT_EXIT = 3, /* cpu->exit is filled: leave run() */
	SOFT_FLUSH = 4, /* done, and mode key, paging or code changed:
			 * look the next block up anew */
};

/* A function that runs while the guest's vector state may be live. */
#define SOFT_NO_VECTOR __attribute__((target("general-regs-only")))

/* --- TLB -------------------------------------------------------------- */

#define SOFT_TLB_SHIFT 13
#define SOFT_TLB_SIZE (1u << SOFT_TLB_SHIFT) /* entries per mmu index */
#define SOFT_TLB_INVALID (~0ul)
#define SOFT_TLB_CHUNK 16u /* entries that are flushed together */
#define SOFT_TLB_CHUNKS (SOFT_TLB_SIZE / SOFT_TLB_CHUNK)

enum soft_mmuidx {
	SOFT_MMU_KERNEL, /* CPL < 3; SMAP enforced if CR4 says so and AC=0 */
	SOFT_MMU_USER,	 /* CPL 3 */
	SOFT_MMU_KERNEL_AC, /* CPL < 3, user pages open (SMAP off by AC) */
	SOFT_MMU_COUNT
};

struct soft_tlb_entry {
	uint64_t tag_r;	 /* gva page, or SOFT_TLB_INVALID */
	uint64_t tag_w;	 /* gva page, or SOFT_TLB_INVALID */
	uint64_t addend; /* host address - gva */
	uint64_t info;	 /* gpa page | SOFT_TLB_I_* */
};
#define SOFT_TLB_I_GLOBAL 0x1
#define SOFT_TLB_I_LARGE 0x2 /* part of a guest large page */
#define SOFT_TLB_I_CODE 0x4  /* no tag_w only because of translated code */
_Static_assert(sizeof(struct soft_tlb_entry) == 32, "enter.S, xlate.c");

/*
 * What a place in translated code found when it last looked into the TLB: an
 * operand at gva lies at gva + addend if gva - start < len (len has the
 * operand's size taken off).  len 0: nothing.  See slot.c.
 */
struct soft_slot {
	uint64_t start, addend, len;
	int16_t budget; /* misses until C looks at it */
	uint16_t fast;	/* times that these came quickly */
	uint32_t when;	/* time stamp / 1024 of the last time */
};
#define SOFT_SLOTS (1u << 18)
#define SOFT_SLOTS_USED 4096u /* those with len != 0, at most */

/* --- exceptions ------------------------------------------------------- */

enum {
	SOFT_EXC_DE = 0, SOFT_EXC_DB = 1, SOFT_EXC_NMI = 2, SOFT_EXC_BP = 3,
	SOFT_EXC_OF = 4, SOFT_EXC_BR = 5, SOFT_EXC_UD = 6, SOFT_EXC_NM = 7,
	SOFT_EXC_DF = 8, SOFT_EXC_TS = 10, SOFT_EXC_NP = 11, SOFT_EXC_SS = 12,
	SOFT_EXC_GP = 13, SOFT_EXC_PF = 14, SOFT_EXC_MF = 16,
	SOFT_EXC_AC = 17, SOFT_EXC_MC = 18, SOFT_EXC_XM = 19,
};

enum soft_event_kind {
	SOFT_EV_FAULT,	/* exception; of the current instruction */
	SOFT_EV_TRAP,	/* #DB after an instruction */
	SOFT_EV_NMI, SOFT_EV_INTR,
	SOFT_EV_SOFT,	/* INT n, INT3, INTO */
	SOFT_EV_ICEBP,	/* no DPL check, not an error's EXT either */
};

struct soft_exc {
	uint8_t vector;
	bool has_error;
	bool software; /* INT n, INT3, INTO: rip is after the instruction */
	uint32_t error;
	uint64_t cr2; /* #PF */
};

/* --- flags ------------------------------------------------------------ */

#define SOFT_FL_CF 0x1u
#define SOFT_FL_PF 0x4u
#define SOFT_FL_AF 0x10u
#define SOFT_FL_ZF 0x40u
#define SOFT_FL_SF 0x80u
#define SOFT_FL_TF 0x100u
#define SOFT_FL_IF 0x200u
#define SOFT_FL_DF 0x400u
#define SOFT_FL_OF 0x800u
#define SOFT_FL_IOPL 0x3000u
#define SOFT_FL_NT 0x4000u
#define SOFT_FL_RF 0x10000u
#define SOFT_FL_VM 0x20000u
#define SOFT_FL_AC 0x40000u
#define SOFT_FL_ID 0x200000u
#define SOFT_FL_ARITH 0x8d5u /* OF SF ZF AF PF CF */

/* --- the processor ---------------------------------------------------- */

struct soft_vm;
struct soft_block;

#define SOFT_ITLB_SIZE 256u
#define SOFT_NTLB_SIZE 1024u
#define SOFT_NTLB2M_SIZE 64u
#define SOFT_PWC_SIZE 64u
#define SOFT_FILTER_WORDS 64u
#define SOFT_BLOOM_WORDS 256u
#define SOFT_WMAP_SIZE 4096u
#define SOFT_WMAP_MANY 0xffffu
#define SOFT_REPLAY_MAX 128u /* XSAVE in pieces of 8 bytes */

#define SOFT_JV_SIZE 8192u
#define SOFT_JC_BITS 14u
#define SOFT_JC_SIZE (1u << SOFT_JC_BITS) /* jump-cache entries */
struct soft_jc_entry {
	uint64_t va;  /* gva of the block, canonical */
	uint32_t tag; /* code_tag() when it was made */
	uint32_t off; /* of its entry, flags in state S, in code memory */
};

/* Where a direct jump out of its page went last: xl_far(). */
#define SOFT_LINKS 32768u
struct soft_link {
	uint64_t page;  /* page_va before the jump */
	uint64_t entry; /* host address */
	uint32_t tag;   /* as in a jump-cache entry */
	uint32_t pad;
};

/*
 * One vCPU.  GS base points here while its thread runs, so the fields used by
 * generated code come first.  All fields: only the vCPU's thread, but those
 * marked A (atomic, any thread).
 */
struct soft_cpu {
	/* Architectural state as C sees it.  While translated code runs the
	 * registers of docs/design/soft.md are live instead. */
	uint64_t gpr[16]; /* in encoding order */
	uint64_t rip;
	uint64_t page_va;     /* gva of the page translated code runs in */
	uint32_t flags_saved; /* arithmetic flags: RFLAGS positions in C; the
			       * stubs convert from the LAHF/SETO image */
	uint32_t rflags_sys;  /* all other flags (bit 1 set) */
	uint16_t lahf_image;  /* state S: AL=OF, AH=SF ZF AF PF CF */
	uint16_t pad0;
	_Atomic uint32_t exit_request;	/* A: non-zero: leave soon */
	_Atomic(uint64_t *) poll_ptr;	/* A: readable, or poison */
	uint64_t poll_ok;
	uint64_t host_rsp;
	/* Shadow stack of returns: shadow.c. */
	uint64_t shadow_rsp;   /* its top, while C runs */
	_Atomic uint64_t shadow_probe; /* A: polls of calls load at RSP + this */
	uint64_t shadow_low;   /* mapped memory, below it a page that is not */
	uint64_t shadow_base;  /* empty */
	uint64_t shadow_user;  /* below it are the entries of CPL < 3 */
	uint32_t shadow_ukey;  /* mode of those above it */
	uint32_t shadow_key;   /* mode key and generations that the top ... */
	uint32_t shadow_gen[2]; /* ... is good for */
	uint64_t scratch[8]; /* stubs */
	/* An operand across two pages, in the meantime: slot.c. */
	uint64_t bounce_addend, bounce_va, bounce_host[2];
	uint32_t bounce_n, bounce_first;
	uint8_t split[128] __attribute__((aligned(64)));
	uint64_t recipe_val; /* operand that flags are made from: xlate_mem.c */
	uint64_t group_addend[8]; /* of the groups in this block: xlate_slot.c */
	uint64_t seg_base[6]; /* copies of seg[].base, encoding order */
	/* Jump cache: the generations as they stand in tags, of CPL < 3 and of
	 * CPL 3; code that looks an entry up adds the mode key of where it
	 * goes.  A kick makes them 0, which is no generation. */
	_Atomic uint32_t jc_tag[2]; /* A: only to 0 */
	uint32_t jc_gen[2];	 /* advance when all entries are stale */
	uint64_t code_base;	 /* of code memory, where it is executed */
	void (*slow_fn)(void);	 /* enter.S: way out of generated code */
	const void *link_site;	 /* exit to be patched once its target is there */
	uint64_t link_gen;	 /* code memory it belongs to */
	uint64_t link_entry;	 /* a plain block's entry, to be gone to next */
	uint32_t link_plain;	 /* link_site wants a plain block */
	uint32_t full_pos;	 /* code_full() is to be called for this, or 0 */
	uint32_t out_why;	 /* enum code_why */
	_Atomic uint32_t in_code; /* A: may be in generated code */
	uint32_t pauses;      /* left until a PAUSE gives the CPU away */
	uint32_t fpu_live;    /* guest vector state is in the host's units */
	uint32_t mode_key;    /* SOFT_KEY_* of the current mode */
	uint32_t mmuidx;
	struct soft_vm *vm;
	unsigned id;

	/* System state. */
	struct vmm_seg seg[VMM_SEG_COUNT];
	uint64_t cr0, cr2, cr3, cr4, efer, xcr0, xss;
	uint64_t dr[8];
	uint64_t star, lstar, cstar, sfmask, kernel_gs_base;
	uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
	uint64_t pat, tsc_aux, misc_enable, mtrr_def, spec_ctrl;
	uint64_t mtrr_fixed[11], mtrr_var[16];
	int64_t tsc_offset; /* guest TSC - host TSC */
	uint64_t tsc_adjust;
	uint8_t cpl;
	bool intr_shadow; /* STI, MOV SS: until after the next instruction */
	bool nmi_blocked;
	bool halted;
	bool in_reset;

	struct soft_exc exc; /* valid on SOFT_FAULT */
	struct vmm_exit exit; /* valid on SOFT_EXIT */
	/*
	 * Device accesses of the instruction at replay_rip that are done,
	 * in order: when one of them had to leave run(), the instruction runs
	 * again and takes the earlier ones from here (replay.c).
	 */
	struct soft_replay {
		uint8_t kind; /* VMM_EXIT_* */
		uint8_t bytes;
		bool write;
		bool fault; /* MSR: answered with #GP */
		uint64_t addr, data;
	} replay[SOFT_REPLAY_MAX];
	uint32_t replay_n;   /* valid entries */
	uint32_t replay_pos; /* next to be looked at by a re-run */
	uint64_t replay_rip;
	uint64_t replay_reg[3]; /* RCX, RSI, RDI: which iteration of a REP */
	uint64_t replay_exec; /* st.exec of the instruction, see replay.c */
	bool exit_pending;   /* cpu->exit waits for its answer */
	bool replay_armed;   /* the next instruction is a re-run: no event may
			      * come before it */

	uint64_t pmap_gen; /* generation the TLB is good for */
	_Atomic uint64_t claim_seen; /* A: how far it has read the claims */
	_Atomic bool in_guest;	     /* A: a claim waits for it */
	uint64_t pmap_seq; /* advances at every soft_enter(): host pointers
			    * taken before are stale */
	bool active;	   /* pmap_activate()d */

	/* A store hit a page with translated code: see soft_smc_sync(). */
	bool smc;
	gpa_t smc_gpa;
	uint32_t smc_len;

	bool walk_quiet; /* soft_gva_to_gpa: no rights, no A/D */
	bool ss_shadow; /* intr_shadow is MOV SS's: holds back #DB too */
	/* The callbacks may have something for us: look at them when it can
	 * be taken.  Set by kicks and after every callback of a device. */
	bool event_check, nmi_check, kicked;
	/* An event whose delivery was broken off by an exit, or an injected
	 * one: delivered first. */
	struct soft_event {
		bool valid;
		uint8_t kind; /* enum soft_event_kind */
		uint8_t vector;
		bool has_error;
		uint32_t error;
		uint64_t cr2;
	} event;
	bool tf_armed; /* RFLAGS.TF was set before the instruction */
	uint64_t pdpte[4]; /* PAE paging: loaded with CR3 */
	bool pdptes_stale; /* registers were set from outside */
	uint32_t phys_bits; /* MAXPHYADDR of the guest */
	uint64_t gp_msr_reads, gp_msr_writes; /* of unknown MSRs */

	/* Counters, for engine_ops.stats. */
	struct {
		uint64_t tlb_fills, tlb_flushes, tlb_flush_page;
		uint64_t nested_faults, page_faults, exceptions, interrupts;
		uint64_t exec, exec_thunk, mmio, pio, blocks_run, blocks_made;
		uint64_t smc, cache_flushes, host_faults, slow, claims, yields;
		uint64_t lookups, exec_flushes;
	} st;

	/* by mmu index: byte offsets in slot[], and how many */
	uint32_t slot_used[SOFT_MMU_COUNT][SOFT_SLOTS_USED];
	uint32_t slot_n[SOFT_MMU_COUNT];
	uint64_t slot_gen;	/* of the code memory that slot[] is good for */
	struct soft_jc_entry jc[SOFT_JC_SIZE];
	struct soft_jc_entry jv[SOFT_JV_SIZE]; /* what fell out of it */
	struct soft_tlb_entry tlb[SOFT_MMU_COUNT][SOFT_TLB_SIZE];
	/* which chunks of each table have valid entries, and which have such
	 * as are not global */
	uint64_t tlb_used[SOFT_MMU_COUNT][SOFT_TLB_CHUNKS / 64];
	uint64_t tlb_local[SOFT_MMU_COUNT][SOFT_TLB_CHUNKS / 64];

	/* by mmu index, half of the address space, and global or not: what
	 * the TLB and so the slots may have */
	bool tlb_has[SOFT_MMU_COUNT][2][2];
	/* regions that may have entries of large pages: see tlb.c */
	uint64_t tlb_large4m[SOFT_FILTER_WORDS];
	uint64_t tlb_large1g[SOFT_FILTER_WORDS];
	/* by hash of the gpa: index + 1 of the only TLB entries (of all mmu
	 * indices) that may allow writing to it, 0, or SOFT_WMAP_MANY */
	uint16_t wmap[SOFT_WMAP_SIZE];
	/* Translations for execution; valid while gen is itlb_gen[CPL 3]. */
	struct soft_itlb_entry {
		uint64_t tag; /* gva page | 1 for CPL 3 */
		gpa_t gpa;
		const uint8_t *host; /* of the page */
		uint64_t gen;
	} itlb[SOFT_ITLB_SIZE];
	uint64_t itlb_gen[2]; /* of CPL < 3, and of CPL 3 */
	/* Pages in itlb[] or jc[], fetched at CPL < 3 and at CPL 3; large
	 * ones, 4 MB or 1 GB. */
	uint64_t exec_filter[2][SOFT_BLOOM_WORDS];
	uint64_t exec_large[2][SOFT_FILTER_WORDS];
	bool exec_local; /* CPL < 3 runs code in pages that are not global */
	/* Nested translations, gpa page -> host page, for the guest walk;
	 * dropped when the pmap's generation moves. */
	struct soft_ntlb_entry {
		uint64_t tag;  /* gpa page | 1 if writable (nested D set) */
		uint64_t host; /* of the page */
	} ntlb[SOFT_NTLB_SIZE];
	struct soft_ntlb_entry ntlb2m[SOFT_NTLB2M_SIZE]; /* by 2 MB */
	/* Last-level tables of the guest, for four-level paging: dropped by
	 * whatever drops a translation. */
	struct soft_pwc_entry {
		uint64_t tag;  /* va >> 21 */
		uint64_t gen;  /* valid while it is pwc_gen */
		gpa_t gpa;     /* of the table */
		uint64_t host;
		bool us, rw, nx; /* sums of the levels above */
	} pwc[SOFT_PWC_SIZE];
	uint64_t pwc_gen;

	/* Extended state: XSAVE standard format, host layout (AVX at 576). */
	uint8_t xsave[1024] __attribute__((aligned(64)));
	uint8_t bounce[4096] __attribute__((aligned(64)));
	void *thunk;	/* private to thunk.c */
	void *xlate;	/* private to the translator */
	void *decode;	/* private to run.c/exec.c: decode cache */
	uint32_t idle_gen; /* of the cache, when it last gave memory back */
	struct soft_link link[SOFT_LINKS];
	struct soft_slot slot[SOFT_SLOTS]; /* touched where code is run */
};

#define SOFT_KEY_L 0x1	 /* CS.L: 64-bit code */
#define SOFT_KEY_D 0x2	 /* CS.D: 32-bit code */
#define SOFT_KEY_B 0x4	 /* SS.B */
#define SOFT_KEY_CPL 0x18 /* two bits, shift 3 */
#define SOFT_KEY_MMU 0x60 /* two bits, shift 5: soft_mmuidx */
#define SOFT_KEY_NM 0x80  /* CR0.TS or EM: x87/SSE go to the executor */
#define SOFT_KEY_NOSSE 0x100 /* CR4.OSFXSR clear, or CR0.EM */
#define SOFT_KEY_NOAVX 0x200 /* CR4.OSXSAVE clear or XCR0.AVX clear */
#define SOFT_KEY_SEG 0x400 /* not long mode: a segment is not flat
			    * (base 0, limit 4 GB, expand-up, writable) */
#define SOFT_KEY_TF 0x800  /* single step: executor only */
#define SOFT_KEY_PE 0x1000 /* protected mode */
/* => recomputes cpu->mode_key, mmuidx, cpl-dependent state; call after any
 *    change of CS, SS, CR0, CR4, EFER, XCR0, rflags_sys */
void soft_mode_update(struct soft_cpu *cpu);

static inline uint64_t
soft_rflags(const struct soft_cpu *cpu)
{
	return (cpu->rflags_sys & ~SOFT_FL_ARITH) |
	    (cpu->flags_saved & SOFT_FL_ARITH) | 2;
}

#define SOFT_CLAIM_LOG 64u
#define SOFT_WRITER_TOLD (1ul << 32)

struct soft_vm {
	struct engine_vm_config cfg;
	struct pmap *pmap;
	const struct engine_callbacks *cb;
	void *arg;
	unsigned ncpu;
	struct soft_cpu *cpu[VMM_MAXCPU];
	uint64_t tsc_hz;
	bool translate; /* false: executor only */
	_Atomic bool no_lock; /* one vCPU and no memory shared with others */
	bool intel;	/* vendor that CPUID reports: SYSRET, ... */
	void *cpuid;	/* private to cpuid.c */
	uint64_t tsc_start; /* host TSC at creation: the guest's zero */
	void *cache;	/* private to cache.c */
	/* Claims of code pages: tlb.c. */
	_Atomic uint64_t *writer; /* A: by gpa page: bits of vCPUs that may
				   * write to it; from bit 32: have been told */
	_Atomic uint64_t claims;  /* A: made so far; written under cache->lock */
	_Atomic gpa_t claim_log[SOFT_CLAIM_LOG]; /* the last of them */
};
_Static_assert(VMM_MAXCPU <= 32, "soft_vm.writer");
#define SOFT_CODE_GPA_BITS 40 /* code above 1 TB is not translated */

/* --- decode.c (CODE) -------------------------------------------------- */

enum soft_class {
	SOFT_C_UD,     /* undefined in this mode or by our CPUID */
	SOFT_C_NATIVE, /* any mode of registers, at most one explicit memory
			* operand, no privilege: recode and run natively */
	SOFT_C_JMP, SOFT_C_JCC, SOFT_C_CALL, SOFT_C_RET, /* near */
	SOFT_C_LOOP,	/* LOOPcc, JrCXZ */
	SOFT_C_STACK,	/* PUSH, POP, PUSHA, POPA, ENTER, LEAVE, PUSHF, POPF */
	SOFT_C_STRING,	/* MOVS, STOS, LODS, CMPS, SCAS, INS, OUTS */
	SOFT_C_FPUMEM,	/* FXSAVE.., XSAVE.., FNSAVE, FRSTOR, FLDENV.. */
	SOFT_C_GATHER,	/* VPGATHER*, MASKMOV*, VMASKMOV*, XLAT, BOUND: implicit or
			 * several memory operands, in C or by pieces; BT, BTS,
			 * BTR, BTC of memory with a bit number in a register,
			 * which reaches beyond the memory operand; VZEROALL,
			 * VZEROUPPER outside 64-bit mode */
	SOFT_C_SYS,	/* all else: far, privileged, CPUID, IO, segments, CLD
			 * and STD; 32-bit only: AAA..DAS, SALC, ARPL */
};

struct soft_insn {
	ZydisDecodedInstruction zi;
	ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
	uint8_t bytes[16];
	uint8_t len;
	uint8_t cls;	   /* enum soft_class */
	uint8_t opsize;	   /* effective operand size, bytes */
	uint8_t addrsize;  /* effective address size, bytes */
	int8_t memop;	   /* index in op[] of the memory operand, or -1 */
	uint8_t mem_access; /* VMM_PROT_READ | VMM_PROT_WRITE; 0 for LEA, NOP */
	uint16_t mem_bytes;
	uint8_t mem_seg;   /* enum vmm_segreg */
	uint8_t lock, rep, repne;
	bool fpu, sse, avx;  /* touches x87/MMX, SSE, VEX state */
	uint16_t gpr_read;  /* masks of guest registers, address included */
	uint16_t gpr_write;
	uint16_t gpr_addr;  /* those in the memory operand's address */
	uint16_t gpr_fixed; /* implicit ones that cannot be renamed: AL/AX in
			     * MUL, CL in shifts, high bytes AH..BH... */
	uint32_t fl_read, fl_write, fl_undef; /* SOFT_FL_* arithmetic flags;
				* fl_write: certainly written (set, cleared,
				* result or undefined), never conditional */
	bool fl_cond_write; /* may leave flags as they were (shift by CL) */
};

/*
 * => 0; -EFAULT: more than avail bytes are needed; an undecodable instruction
 *    is 0 with cls SOFT_C_UD (or GP for > 15 bytes: len = 0)
 *    mode_key: L and D say how to decode
 */
int soft_decode(const uint8_t *bytes, size_t avail, uint32_t mode_key,
    struct soft_insn *in);
/* => number of a general register of any width in the instruction encoding
 *    (AH is 0, as AL), or -1 */
int soft_gpr_number(ZydisRegister r);

/* --- recode.c (CODE) -------------------------------------------------- */

/* Where a native instruction's operands are when it runs on the host, always
 * in 64-bit mode whatever the guest's mode. */
struct soft_recode {
	uint8_t map[16]; /* guest GPR → host GPR (identity unless renamed) */
	int8_t mem_base; /* host GPR, -1: none */
	int8_t mem_index;
	uint8_t mem_scale; /* 1, 2, 4, 8 */
	int32_t mem_disp;
	bool mem_gs; /* through GS (soft_cpu) */
};
/*
 * Writes the re-encoded instruction (<= 16 bytes) to out.
 * => its length; -ENOTSUP: cannot (a register in gpr_fixed is mapped to
 *    another, a high byte with REX...): the caller chooses another mapping
 */
int soft_recode(const struct soft_insn *in, const struct soft_recode *rc,
    uint8_t out[16]);

/* --- mmu.c (SYS) ------------------------------------------------------ */

/*
 * Translates gva for one access of n bytes (n only matters for crossing) by
 * the guest's tables and the pmap, and fills the TLB of cpu->mmuidx.
 * access: VMM_PROT_READ, WRITE (also for read-modify-write), EXEC.
 * => SOFT_OK: the TLB now hits.  SOFT_SLOW, SOFT_FAULT (cpu->exc), SOFT_EXIT.
 */
int soft_tlb_fill(struct soft_cpu *cpu, gva_t gva, unsigned n, int access);
/*
 * Copies between a buffer and guest linear memory with all checks, as an
 * instruction's own access: crossing pages, device memory (cb->mmio, exits
 * and replay), code pages.  A write that faults on its second page writes
 * nothing.  The linear address already has the segment base added.
 * implicit: supervisor access whatever CPL (descriptor tables, TSS).
 * => SOFT_OK, SOFT_FAULT, SOFT_EXIT
 */
int soft_read(struct soft_cpu *cpu, gva_t gva, void *buf, unsigned n,
    bool implicit);
int soft_write(struct soft_cpu *cpu, gva_t gva, const void *buf, unsigned n,
    bool implicit);
/* Host pointer for a read-modify-write or LOCKed access of n bytes that lies
 * in one page of ordinary memory; SOFT_SLOW if it does not. */
int soft_ptr(struct soft_cpu *cpu, gva_t gva, unsigned n, int access,
    void **ptrp);
/* Instruction fetch: translates the page of gva for execution at cpu->cpl.
 * => SOFT_OK with its gpa and a host pointer to gva; SOFT_FAULT; SOFT_EXIT */
int soft_fetch(struct soft_cpu *cpu, gva_t gva, gpa_t *gpap,
    const uint8_t **ptrp);
/* Segment check and base for an operand (limit, rights, canonical form).
 * => SOFT_OK with *lap, or SOFT_FAULT */
int soft_linear(struct soft_cpu *cpu, unsigned seg, uint64_t off, unsigned n,
    int access, gva_t *lap);
void soft_tlb_init(struct soft_cpu *cpu);
void soft_tlb_flush(struct soft_cpu *cpu, bool global);
void soft_tlb_flush_page(struct soft_cpu *cpu, gva_t gva);
/* The page is about to hold translated code: no writable TLB entry for it on
 * this vCPU any more. */
void soft_tlb_protect_gpa(struct soft_cpu *cpu, gpa_t gpa);
/* The same for all vCPUs, once the page is marked: tells those that may still
 * write to it, under the lock, and waits until none can. */
void soft_claim(struct soft_cpu *cpu, gpa_t gpa, struct lock *lk);
/* Under the lock: is it still so? Else claim again. */
bool soft_claimed(const struct soft_vm *vm, gpa_t gpa);

/* The same at a privilege level other than cpu->cpl (stacks of gates). */
int soft_read_as(struct soft_cpu *cpu, gva_t gva, void *buf, unsigned n,
    unsigned cpl);
int soft_write_as(struct soft_cpu *cpu, gva_t gva, const void *buf,
    unsigned n, unsigned cpl);
/* PAE paging: loads the four PDPTEs from cr3. => SOFT_OK, FAULT (#GP), EXIT */
int soft_load_pdptes(struct soft_cpu *cpu, uint64_t cr3);
/* Walks the guest's tables as a debugger: no faults, no A/D.
 * => 0 with *gpap, -EFAULT.  The cpu must not be in run(); may page in. */
int soft_gva_to_gpa(struct soft_cpu *cpu, gva_t gva, int access, gpa_t *gpap);
/*
 * soft_enter() joins the pmap's active set, and drops what is cached if the
 * generation has moved; soft_leave() saves live vector state and leaves the
 * set.  Every upward callback is made between leave and enter; both are
 * idempotent.  After soft_enter() no host pointer from before is valid.
 */
void soft_enter(struct soft_cpu *cpu);
void soft_leave(struct soft_cpu *cpu);
/* At a point where no host pointer is held: has the generation moved? flush
 * and acknowledge. => true if it flushed */
bool soft_pmap_sync(struct soft_cpu *cpu);
void soft_smc_flush(struct soft_cpu *cpu);
/*
 * soft_write() and soft_ptr() set cpu->smc when they touch a page with
 * translated code; the run loop calls this after each instruction that the
 * executor ran. => true: code was dropped, treat SOFT_OK as SOFT_FLUSH
 */
static inline bool
soft_smc_sync(struct soft_cpu *cpu)
{
	if (__builtin_expect(!cpu->smc, 1))
		return false;
	soft_smc_flush(cpu);
	return true;
}

/* --- slot.c ----------------------------------------------------------- */

struct code_site;
/* What the TLB has may have changed: no slot is good any more. */
void soft_slot_flush(struct soft_cpu *cpu);
void soft_slot_flush_page(struct soft_cpu *cpu, gva_t va);
void soft_slot_flush_index(struct soft_cpu *cpu, unsigned idx);
/* A store to cpu->split has been done: on to where it belongs. */
void soft_slot_store(struct soft_cpu *cpu);
/* A memory check of translated code at va failed.
 * => where to go on, or 0 with cpu->out_why */
uint64_t soft_slot_miss(struct soft_cpu *cpu, const struct code_site *s,
    uint64_t va);

/* --- replay.c (SYS) --------------------------------------------------- */

/* One device access, size 1, 2, 4 or 8 and naturally aligned.
 * => SOFT_OK, SOFT_EXIT */
int soft_mmio(struct soft_cpu *cpu, gpa_t gpa, unsigned n, bool write,
    uint64_t *datap);
int soft_pio(struct soft_cpu *cpu, uint16_t port, unsigned n, bool in,
    uint32_t *datap);
/* Takes the answer to cpu->exit from *exit: the first thing in vcpu_run. */
void soft_replay_answer(struct soft_cpu *cpu, const struct vmm_exit *exit);
/* Fills cpu->exit. => SOFT_EXIT */
int soft_exit(struct soft_cpu *cpu, enum vmm_exit_reason reason);
/* The engine cannot go on, with a line for the log. => SOFT_EXIT */
int soft_exit_error(struct soft_cpu *cpu, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* --- event.c (SYS) ---------------------------------------------------- */

int soft_raise(struct soft_cpu *cpu, uint8_t vector); /* => SOFT_FAULT */
int soft_raise_err(struct soft_cpu *cpu, uint8_t vector, uint32_t error);
/* Delivers cpu->exc (double and triple fault included).
 * => SOFT_FLUSH; SOFT_EXIT on triple fault or device exit */
int soft_deliver(struct soft_cpu *cpu);
/*
 * Between instructions: kicks (generation of the pmap, must_exit), an event
 * left over, TF, NMI, interrupts.  To be called on entry to run(), after a
 * kick, and after each SOFT_FLUSH (which is what STI, POPF, IRET and the
 * like return when they open the door to an interrupt).  Cheap if nothing
 * has happened.  => SOFT_OK: nothing; SOFT_FLUSH: delivered one; SOFT_EXIT
 */
int soft_check_events(struct soft_cpu *cpu);
/* Must the next instruction run by soft_step_one()? */
static inline bool
soft_step_needed(const struct soft_cpu *cpu)
{
	return cpu->intr_shadow || cpu->replay_armed ||
	    (cpu->mode_key & SOFT_KEY_TF) != 0;
}
/*
 * Runs exactly one instruction by soft_step(), with what surrounds one: the
 * interrupt shadow ends after it, TF makes it trap, stores to code are
 * followed.  The run loop uses it while soft_step_needed().
 * => as soft_step(), the exception not yet delivered
 */
int soft_step_one(struct soft_cpu *cpu);
/*
 * Delivers an exception or interrupt in long mode, if all it needs is as it
 * mostly is: gate, code segment, a stack in one page that the TLB knows.  For
 * general registers only; leaves everything as it is if it cannot.
 * => delivered
 */
bool soft_event_fast(struct soft_cpu *cpu, const struct soft_exc *exc,
    bool fault);
/* INT n, INT3, INTO, ICEBP: delivery with rip after the instruction.
 * => SOFT_FLUSH, SOFT_FAULT, SOFT_EXIT */
int soft_int(struct soft_cpu *cpu, uint8_t vector, uint64_t next_rip,
    bool icebp);

/* --- seg.c, far.c (SYS) ----------------------------------------------- */

/* MOV and POP to a data segment register or SS, LDS..: all checks.
 * => SOFT_OK, FLUSH (mode key changed), FAULT, EXIT; rip is the caller's */
int soft_load_seg(struct soft_cpu *cpu, unsigned seg, uint16_t sel);
/* Sets a segment cache without checks and keeps seg_base in step. */
void soft_set_seg(struct soft_cpu *cpu, unsigned seg,
    const struct vmm_seg *sp);
int soft_far_jmp(struct soft_cpu *cpu, uint16_t sel, uint64_t off,
    unsigned opsize, uint64_t next_rip);
int soft_far_call(struct soft_cpu *cpu, uint16_t sel, uint64_t off,
    unsigned opsize, uint64_t next_rip);
int soft_far_ret(struct soft_cpu *cpu, unsigned opsize, unsigned pop);
int soft_iret(struct soft_cpu *cpu, unsigned opsize);

/* --- flags (SYS-A) ---------------------------------- */

/* All of RFLAGS from outside (IRET at CPL 0, set_reg): splits and updates
 * the mode. */
void soft_set_rflags(struct soft_cpu *cpu, uint64_t v);

/* --- msr.c, cpuid.c, regs.c (SYS) ------------------------------------- */

/* => SOFT_OK, SOFT_FLUSH, SOFT_FAULT (#GP), SOFT_EXIT */
int soft_rdmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t *valp);
int soft_wrmsr(struct soft_cpu *cpu, uint32_t msr, uint64_t val);
/* MOV to CR0, 3, 4, 8 with all checks. => SOFT_OK, FLUSH, FAULT, EXIT */
int soft_set_cr(struct soft_cpu *cpu, unsigned cr, uint64_t val);
uint64_t soft_tsc(const struct soft_cpu *cpu); /* as the guest reads it */
int soft_cpuid_init(struct soft_vm *vm);
void soft_cpuid_fini(struct soft_vm *vm);
void soft_cpuid(struct soft_cpu *cpu, uint32_t leaf, uint32_t subleaf,
    uint32_t regs[4]);
/* Is this feature reported to the guest? word: enum soft_cpuid_word */
enum soft_cpuid_word {
	SOFT_CPUID_1_ECX, SOFT_CPUID_1_EDX, SOFT_CPUID_7_EBX,
	SOFT_CPUID_7_ECX, SOFT_CPUID_7_EDX, SOFT_CPUID_81_ECX,
	SOFT_CPUID_81_EDX, SOFT_CPUID_D1_EAX, SOFT_CPUID_WORDS
};
uint32_t soft_cpuid_phys_bits(const struct soft_vm *vm);
uint32_t soft_cpuid_signature(const struct soft_vm *vm); /* leaf 1 EAX */
bool soft_has(const struct soft_vm *vm, enum soft_cpuid_word w, unsigned bit);
uint64_t soft_host_tsc_hz(void);
int soft_get_reg(struct soft_cpu *cpu, enum vmm_reg reg, uint64_t *valp);
int soft_set_reg(struct soft_cpu *cpu, enum vmm_reg reg, uint64_t val);
int soft_get_seg(struct soft_cpu *cpu, enum vmm_segreg seg,
    struct vmm_seg *sp);
int soft_seg_set(struct soft_cpu *cpu, enum vmm_segreg seg,
    const struct vmm_seg *sp);
void soft_reset(struct soft_cpu *cpu, bool init);

/* --- exec.c (SYS) ----------------------------------------------------- */

/* Runs one decoded instruction at cpu->rip with all of its state in cpu
 * (gpr, flags_saved; vector state live or saved, either).
 * => SOFT_OK, SOFT_FAULT, SOFT_EXIT, SOFT_FLUSH */
int soft_exec(struct soft_cpu *cpu, const struct soft_insn *in);
/* Fetches, decodes and runs the instruction at cpu->rip. */
int soft_step(struct soft_cpu *cpu);
/* Decode cache and thunk memory of one vCPU. => 0, -errno */
int soft_exec_init(struct soft_cpu *cpu);
void soft_exec_fini(struct soft_cpu *cpu);
/* Between instructions: forgets the decode cache and gives its memory back. */
void soft_exec_idle(struct soft_cpu *cpu);
/* The effective address of in's memory operand (offset in its segment), or
 * the value of LEA; rip is that of the instruction. */
uint64_t soft_ea(const struct soft_cpu *cpu, const struct soft_insn *in);
/* SOFT_C_SYS: exec_sys.c (SYS-A).  Same results and duties as soft_exec. */
int soft_exec_sys(struct soft_cpu *cpu, const struct soft_insn *in);
/* One port access with the IOPL and TSS bitmap checks, cb->pio, exit and
 * replay: exec_sys.c (SYS-A). => SOFT_OK, SOFT_FAULT, SOFT_EXIT */
int soft_io(struct soft_cpu *cpu, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap);
/* Those checks alone. => SOFT_OK, SOFT_FAULT, SOFT_EXIT */
int soft_io_check(struct soft_cpu *cpu, uint16_t port, unsigned bytes);


/* Architectural bits that several files need. */
#define SOFT_CR0_PE 0x1ul
#define SOFT_CR0_MP 0x2ul
#define SOFT_CR0_EM 0x4ul
#define SOFT_CR0_TS 0x8ul
#define SOFT_CR0_ET 0x10ul
#define SOFT_CR0_NE 0x20ul
#define SOFT_CR0_WP 0x10000ul
#define SOFT_CR0_AM 0x40000ul
#define SOFT_CR0_NW 0x20000000ul
#define SOFT_CR0_CD 0x40000000ul
#define SOFT_CR0_PG 0x80000000ul
#define SOFT_CR4_VME 0x1ul
#define SOFT_CR4_PVI 0x2ul
#define SOFT_CR4_TSD 0x4ul
#define SOFT_CR4_DE 0x8ul
#define SOFT_CR4_PSE 0x10ul
#define SOFT_CR4_PAE 0x20ul
#define SOFT_CR4_MCE 0x40ul
#define SOFT_CR4_PGE 0x80ul
#define SOFT_CR4_PCE 0x100ul
#define SOFT_CR4_OSFXSR 0x200ul
#define SOFT_CR4_OSXMMEXCPT 0x400ul
#define SOFT_CR4_UMIP 0x800ul
#define SOFT_CR4_FSGSBASE 0x10000ul
#define SOFT_CR4_PCIDE 0x20000ul
#define SOFT_CR4_OSXSAVE 0x40000ul
#define SOFT_CR4_SMEP 0x100000ul
#define SOFT_CR4_SMAP 0x200000ul
#define SOFT_EFER_SCE 0x1ul
#define SOFT_EFER_LME 0x100ul
#define SOFT_EFER_LMA 0x400ul
#define SOFT_EFER_NXE 0x800ul
#define SOFT_EFER_FFXSR 0x4000ul
#define SOFT_EFER_AIBRSE 0x200000ul

static inline bool
soft_canonical(uint64_t va)
{
	return (uint64_t)((int64_t)(va << 16) >> 16) == va;
}

static inline bool
soft_long(const struct soft_cpu *cpu)
{
	return (cpu->efer & SOFT_EFER_LMA) != 0;
}

static inline bool
soft_64bit(const struct soft_cpu *cpu)
{
	return (cpu->mode_key & SOFT_KEY_L) != 0;
}

/* --- thunk.c (SYS) ---------------------------------------------------- */

/* => pc lies in the thunk memory of the vCPU that the calling thread runs;
 *    async-signal-safe */
bool soft_thunk_contains(uint64_t pc);
/*
 * For the handler of SIGFPE, SIGSEGV, SIGBUS, SIGILL and SIGTRAP, to be called
 * first.  uc is a ucontext_t.  => true: it was a guest instruction in a
 * thunk; uc now continues at the thunk's way out, and the executor raises
 * the exception with the state before the instruction.
 */
bool soft_thunk_signal(void *uc);

/* --- fpu.c (SYS) ------------------------------------------------------ */

void soft_fpu_put(struct soft_cpu *cpu); /* host units → cpu->xsave */
void soft_fpu_get(struct soft_cpu *cpu); /* cpu->xsave → host units */
/* XCR0 bits a guest may have on this host: x87, SSE, AVX. */
uint64_t soft_fpu_features(void);
/* State after power-on (init: false) or INIT (unchanged). */
void soft_fpu_reset(struct soft_cpu *cpu, bool init);
/* An image from outside, made harmless for XRSTOR. => 0, -EINVAL */
int soft_fpu_set(struct soft_cpu *cpu, const void *buf, size_t len);

/* --- run.c, cache.c (TRANS) ------------------------------------------- */

int soft_cache_create(struct soft_vm *vm);
void soft_cache_destroy(struct soft_vm *vm);
/* Any thread: [gpa, gpa+len) was or will be written by somebody else. */
void soft_cache_invalidate(struct soft_vm *vm, gpa_t gpa, uint64_t len);
/* => the page holds translated code */
bool soft_cache_has_code(const struct soft_vm *vm, gpa_t gpa);
/* This vCPU's links by virtual address are stale (TLB flushed): those of user
 * code, and of the kernel's too if all. */
void soft_jc_flush(struct soft_cpu *cpu, bool all);
/* A vCPU begins to run, outside the guest: gives memory back. */
void soft_cache_idle(struct soft_cpu *cpu);
/* => how many there are */
unsigned soft_cache_stats(struct soft_vm *vm, struct engine_stat *st,
    unsigned n);
int soft_run(struct soft_cpu *cpu, struct vmm_exit *exit);
/* From any thread: the vCPU leaves translated code soon. */
void soft_kick(struct soft_cpu *cpu);
/* The vCPU's own thread takes note of a kick. => true if there was one */
bool soft_unkick(struct soft_cpu *cpu);
int soft_xlate_init(struct soft_cpu *cpu);
void soft_xlate_fini(struct soft_cpu *cpu);

#endif /* SOFT_INT_H */
