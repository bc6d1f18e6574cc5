/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to the translator: run.c, cache.c, xlate*.c, signal.c, enter.S.
 */
#ifndef CODE_INT_H
#define CODE_INT_H

#include "engine/soft/soft_int.h"

/* Why soft_code_enter() came back. */
enum code_why {
	CODE_LOOKUP, /* go on at cpu->rip, perhaps patching link_site */
	CODE_STEP,   /* the executor runs the instruction at cpu->rip */
	CODE_FAULT,  /* cpu->exc */
	CODE_EXIT,   /* cpu->exit */
	CODE_EVENT,  /* look for events, then go on at cpu->rip */
};

enum code_site_kind {
	CODE_S_READ, CODE_S_WRITE, /* TLB miss; retry at rel */
	CODE_S_EXEC,  /* instruction for the executor */
	CODE_S_LINK,  /* direct exit to off; rel is the displacement */
	CODE_S_JUMP,  /* exit to the address in the scratch register S0 */
	CODE_S_FAST,  /* fast.c does it: n is enum code_fast, sp its length */
	CODE_S_STR,   /* str.c does it: n is CODE_STR_* */
	CODE_S_SPLIT, /* soft_slot_store(), go on at rel */
	CODE_S_FPU,   /* load the guest's vector state, go on at rel */
};

/* System instructions that fast.c carries out. */
enum code_fast {
	CODE_F_SYSCALL, CODE_F_SYSRET, CODE_F_IRETQ, CODE_F_WRMSR,
	CODE_F_RDMSR, CODE_F_CR3, CODE_F_INVLPG, CODE_F_PAUSE,
};

#define CODE_STR_SHIFT 3u /* log2 of the element size */
#define CODE_STR_OP 0xcu
#define CODE_STR_MOVS 0u
#define CODE_STR_STOS 4u
#define CODE_STR_CMPS 8u
#define CODE_STR_SCAS 12u
#define CODE_STR_REP 0x10u
#define CODE_STR_NE 0x20u

/* Follows a call of cpu->slow_fn in cold code; says what is wanted. */
struct code_site {
	uint32_t rel;  /* offset in code memory */
	uint16_t off;  /* guest instruction (LINK: target), offset in page */
	uint8_t kind;  /* enum code_site_kind */
	uint8_t n;     /* miss: CODE_SITE_VEC or 0; LINK: CODE_LINK_* */
	int32_t sp;    /* JUMP: what undoes the change of the stack pointer;
			* miss: the operand is sp >> 16 bytes at sp & 0xffff of
			* what is checked */
} __attribute__((packed));
#define CODE_SITE_VEC 0x80 /* in n: the executor finds out which fault it is */
#define CODE_LINK_LIVE 1   /* flags are live */
#define CODE_LINK_PLAIN 2  /* to a block without groups */
#define CODE_KEY_PLAIN 0x8000u /* in a block's key, besides SOFT_KEY_* */

/* Follows the code_site of a miss. */
struct code_slot_site {
	uint32_t hot;  /* position of the check */
	uint32_t slot; /* offset of the struct soft_slot in cpu->slot */
	uint16_t span; /* bytes that the check covers */
	uint8_t full;  /* the check does not use the slot */
	uint8_t write; /* of the slot: stores of the group are to come */
	uint32_t plain; /* a way on to a plain block, or 0 */
	uint32_t split; /* the access with bounce_addend, or 0 */
} __attribute__((packed));

/* A place in generated code where the host may raise a signal. */
struct code_fault {
	uint32_t pos;  /* offset in code memory of the host instruction */
	uint16_t off;  /* guest instruction, offset in page */
	uint8_t live;  /* guest flags are in EFLAGS */
	uint8_t poll;  /* load through poll_ptr */
	uint32_t cold; /* or 0: goes on there, the flags are to be had again */
};

struct soft_block {
	gpa_t gpa;	/* of the first byte */
	uint32_t key;	/* mode key */
	uint32_t entry_s, entry_e; /* offsets; flags saved, flags live */
	uint32_t stub_s, stub_e;   /* cold exits that replace the entries */
	uint32_t start, end;	   /* all of it, in code memory */
	uint16_t bytes;		   /* of guest code */
	uint16_t nfault;
	bool dead;
	struct code_fault *fault;
	struct soft_block *hash_next, *page_next;
	/* One instruction that goes on in the page at gpa2 (else 0).  It is
	 * reached by the jump cache only, which is emptied when mappings
	 * change. */
	gpa_t gpa2;
	struct soft_block *cross_next; /* of gpa2's page */
};

#define CODE_JC_GENS 0x7ffffu /* generations in a jump-cache tag */
#define CODE_ROOM 65536u /* free bytes a translation may need at most */

/* A place's bit in code_out.full. */
#define CODE_FULL_BITS 65536u
static inline unsigned
code_full_bit(gpa_t gpa, uint32_t key)
{
	return (unsigned)((gpa + key * 0x1000003ul) * 0x9e3779b97f4a7c15ul >>
	    48) % CODE_FULL_BITS;
}

/* Where xlate.c puts its output. */
struct code_out {
	uint8_t *rw;	/* base of code memory, writable mapping */
	uint32_t pos;	/* next free byte */
	bool no_lock;	/* LOCK may be left out */
	bool rdtscp;	/* the guest has RDTSCP */
	bool smp;	/* several vCPUs */
	struct code_fault fault[512];
	unsigned nfault;
	uint32_t slot_stub[2 * SOFT_MMU_COUNT]; /* position of the refill code */
	uint32_t ret_miss; /* position of what a return to elsewhere goes to */
	uint32_t link_next; /* first link that no jump has */
	uint32_t slot_next; /* first slot that no place has */
	/* Places that shall look into the TLB always: see code_full(). */
	uint64_t full[CODE_FULL_BITS / 64];
};

/* Writes what all blocks share, at o->pos: when code memory is empty. */
void xlate_stubs(struct code_out *o);

/*
 * Translates at gpa; host points to the same byte, avail bytes to the end of
 * its page; at most limit instructions.  Always makes a block; fills all of b but the list links.
 */
void xlate_block(struct code_out *o, struct soft_block *b, const uint8_t *host,
    unsigned avail, unsigned limit);

/* --- cache.c ---------------------------------------------------------- */

/* Finds or makes the block at cpu->rip and enters it in the jump cache.
 * => SOFT_OK with *entryp (host address, flags saved); FAULT; EXIT; SLOW: the
 *    executor must run the instruction; -errno */
int code_lookup(struct soft_cpu *cpu, uint64_t *entryp);
/* Around generated code: waits while the cache is being emptied. */
void code_join(struct soft_cpu *cpu);
void code_part(struct soft_cpu *cpu);
/* The block with the code at pos is to be translated anew, with the check at
 * guest offset off in its page looking into the TLB always. */
void code_full(struct soft_cpu *cpu, uint32_t pos, unsigned off);
/* Generation of code memory: advances when all of it is dropped. */
uint64_t code_gen(const struct soft_cpu *cpu);
/* Async-signal-safe. => the place, if pc is one that may fault */
const struct code_fault *code_find_fault(struct soft_cpu *cpu, uint64_t pc);
bool code_contains(const struct soft_cpu *cpu, uint64_t pc);

/* --- enter.S, run.c, signal.c ----------------------------------------- */

/* Runs generated code at entry until it wants C; cpu->out_why says what. */
void soft_code_enter(struct soft_cpu *cpu, uint64_t entry);
void soft_code_slow(void);
void soft_code_out(void);
/* Called by soft_code_slow. => where to go on, or 0 to come back */
uint64_t soft_slow(struct soft_cpu *cpu, const struct code_site *s,
    uint64_t va);
/* Where generated code goes on at cpu->rip: a host address, or 0 with
 * cpu->out_why set. */
uint64_t soft_goto(struct soft_cpu *cpu);
/* fast.c, for CODE_S_FAST. => as soft_slow */
uint64_t soft_str(struct soft_cpu *cpu, const struct code_site *s);
uint64_t soft_fast(struct soft_cpu *cpu, const struct code_site *s,
    uint64_t va);
void signal_init(void);
void signal_thread(struct soft_cpu *cpu); /* this thread runs cpu (or NULL) */

static inline uint32_t
code_flags_of_image(uint16_t v)
{
	return (uint32_t)(v >> 8 & 0xd5) | (uint32_t)(v & 1) << 11;
}

static inline uint16_t
code_image_of_flags(uint32_t f)
{
	return (uint16_t)((f & 0xd5) << 8 | (f >> 11 & 1));
}

#define CODE_TAG_SHIFT 13 /* mode key below, generation above */

/*
 * The shadow stack of returns.  A call loads at CODE_PROBE off its top, which
 * faults when less is left, and always after a kick.
 */
#define CODE_PROBE (-65536ul)
#define CODE_PROBE_KICK (1ul << 62) /* not canonical with any stack */
#define CODE_RET_EMPTY 64u /* position of what an empty one returns to */

int soft_shadow_init(struct soft_cpu *cpu);
void soft_shadow_fini(struct soft_cpu *cpu);
/* The mode key or generations have moved. */
void soft_shadow_sync(struct soft_cpu *cpu);

/* Before generated code goes on: drops what is stale. */
static inline void
soft_shadow(struct soft_cpu *cpu)
{
	if (cpu->shadow_key != cpu->mode_key ||
	    cpu->shadow_gen[0] != __atomic_load_n(&cpu->jc_gen[0],
	    __ATOMIC_RELAXED) || cpu->shadow_gen[1] !=
	    __atomic_load_n(&cpu->jc_gen[1], __ATOMIC_RELAXED) ||
	    cpu->shadow_rsp + CODE_PROBE < cpu->shadow_low)
		soft_shadow_sync(cpu);
}

/* Tag of jump-cache entries that are good now. */
static inline uint32_t
code_tag(const struct soft_cpu *cpu)
{
	return (__atomic_load_n(&cpu->jc_gen[cpu->cpl == 3],
	    __ATOMIC_RELAXED) << CODE_TAG_SHIFT) | cpu->mode_key;
}

/* Generated code may look into the jump cache again.
 * => false: there was a kick; leave it for soft_check_events() */
static inline bool
code_tags(struct soft_cpu *cpu)
{
	for (unsigned u = 0; u < 2; u++) {
		uint32_t t = __atomic_load_n(&cpu->jc_gen[u],
		    __ATOMIC_RELAXED) << CODE_TAG_SHIFT;

		if (atomic_load_explicit(&cpu->jc_tag[u],
		    memory_order_relaxed) != t)
			atomic_store(&cpu->jc_tag[u], t);
	}
	if (atomic_load_explicit(&cpu->poll_ptr, memory_order_relaxed) !=
	    &cpu->poll_ok)
		atomic_store(&cpu->poll_ptr, &cpu->poll_ok);
	if (atomic_load_explicit(&cpu->shadow_probe, memory_order_relaxed) !=
	    CODE_PROBE)
		atomic_store(&cpu->shadow_probe, CODE_PROBE);
	/* After these stores: a kick before them is seen here, one after them
	 * by generated code. */
	return atomic_load(&cpu->exit_request) == 0;
}

static inline unsigned
code_jv_index(uint64_t va)
{
	return (uint32_t)((va >> 32 ^ va) * 0x9e3779b1u) >> 19 &
	    (SOFT_JV_SIZE - 1);
}

/* Index in the jump cache: the same computation as in xlate.c. */
#define CODE_JC_MUL 0x2f0b4c47
static inline unsigned
code_jc_index(uint64_t va)
{
	return (uint32_t)(va * CODE_JC_MUL) >> (32 - SOFT_JC_BITS);
}

/* What leaves the jump cache goes to where C finds it quickly. */
static inline void
code_jc_put(struct soft_cpu *cpu, struct soft_jc_entry new)
{
	struct soft_jc_entry *e = &cpu->jc[code_jc_index(new.va)];

	if (e->tag != 0 && e->va != new.va)
		cpu->jv[code_jv_index(e->va)] = *e;
	*e = new;
}

/* => the entry in code memory for cpu->rip under tag, flags saved, or 0 */
static inline uint64_t
code_jc_find(struct soft_cpu *cpu, uint32_t tag)
{
	struct soft_jc_entry *e = &cpu->jc[code_jc_index(cpu->rip)], v;

	if (e->va == cpu->rip && e->tag == tag)
		return cpu->code_base + e->off;
	v = cpu->jv[code_jv_index(cpu->rip)];
	if (v.va != cpu->rip || v.tag != tag)
		return 0;
	code_jc_put(cpu, v);
	return cpu->code_base + v.off;
}

#endif /* CODE_INT_H */
