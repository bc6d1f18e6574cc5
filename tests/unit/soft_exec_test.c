/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The executor against small pieces of code with known outcomes.  The MMU is
 * a flat array of pages with a protection each; everything else (decoder,
 * recoder, thunks) is real.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <cmocka.h>

#include "engine/soft/soft_int.h"

#define BASE 0x100000ul
#define PAGES 16u
#define CODE BASE
#define DATA (BASE + 4 * VMM_PAGE_SIZE)
#define STACK (BASE + 12 * VMM_PAGE_SIZE)

typedef uint16_t u16 __attribute__((aligned(1), may_alias));
typedef uint32_t u32 __attribute__((aligned(1), may_alias));
typedef uint64_t u64 __attribute__((aligned(1), may_alias));

static uint8_t *arena;
static uint8_t prot[PAGES];
static struct soft_cpu *cpu;
static struct soft_vm vm;
static uint32_t io_last;
static unsigned io_count;

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

int
soft_tlb_fill(struct soft_cpu *c, gva_t gva, unsigned n, int access)
{
	uint64_t page = (gva - BASE) / VMM_PAGE_SIZE;
	struct soft_tlb_entry *e;

	(void)n;
	if (gva < BASE || page >= PAGES || (prot[page] & access) != access) {
		soft_raise_err(c, SOFT_EXC_PF, access & VMM_PROT_WRITE ? 2 : 0);
		c->exc.cr2 = gva;
		return SOFT_FAULT;
	}
	e = &c->tlb[c->mmuidx][(gva >> 12) & (SOFT_TLB_SIZE - 1)];
	e->addend = (uint64_t)(uintptr_t)arena - BASE;
	e->tag_r = gva & ~VMM_PAGE_MASK;
	e->tag_w = prot[page] & VMM_PROT_WRITE ? e->tag_r : SOFT_TLB_INVALID;
	return SOFT_OK;
}

int
soft_ptr(struct soft_cpu *c, gva_t gva, unsigned n, int access, void **ptrp)
{
	int ret = soft_tlb_fill(c, gva, n, access);

	if (ret == SOFT_OK)
		*ptrp = arena + (gva - BASE);
	return ret;
}

static int
copy(struct soft_cpu *c, gva_t gva, void *buf, unsigned n, int access)
{
	gva_t last = (gva + n - 1) & ~VMM_PAGE_MASK;
	int ret = soft_tlb_fill(c, gva, 1, access);

	if (ret == SOFT_OK && last != (gva & ~VMM_PAGE_MASK))
		ret = soft_tlb_fill(c, last, 1, access);
	if (ret != SOFT_OK)
		return ret;
	if (access == VMM_PROT_WRITE)
		memcpy(arena + (gva - BASE), buf, n);
	else
		memcpy(buf, arena + (gva - BASE), n);
	return SOFT_OK;
}

int
soft_read(struct soft_cpu *c, gva_t gva, void *buf, unsigned n, bool implicit)
{
	(void)implicit;
	return copy(c, gva, buf, n, VMM_PROT_READ);
}

int
soft_write(struct soft_cpu *c, gva_t gva, const void *buf, unsigned n,
    bool implicit)
{
	(void)implicit;
	return copy(c, gva, (void *)(uintptr_t)buf, n, VMM_PROT_WRITE);
}

int
soft_fetch(struct soft_cpu *c, gva_t gva, gpa_t *gpap, const uint8_t **ptrp)
{
	int ret = soft_tlb_fill(c, gva, 1, VMM_PROT_READ);

	*gpap = gva;
	*ptrp = arena + (gva - BASE);
	return ret;
}

int
soft_linear(struct soft_cpu *c, unsigned seg, uint64_t off, unsigned n,
    int access, gva_t *lap)
{
	(void)access;
	if (c->mode_key & SOFT_KEY_L)
		return soft_raise_err(c, SOFT_EXC_GP, 0);
	if (off + n - 1 > c->seg[seg].limit)
		return soft_raise_err(c,
		    seg == VMM_SEG_SS ? SOFT_EXC_SS : SOFT_EXC_GP, 0);
	*lap = (off + c->seg_base[seg]) & 0xffffffff;
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
	(void)in;
	return soft_raise(c, 200);
}

int
soft_io(struct soft_cpu *c, uint16_t port, unsigned bytes, bool in,
    uint32_t *datap)
{
	(void)c;
	(void)port;
	(void)bytes;
	io_count++;
	if (in)
		*datap = 0x41 + io_count;
	else
		io_last = *datap;
	return SOFT_OK;
}

int
soft_io_check(struct soft_cpu *c, uint16_t port, unsigned bytes)
{
	(void)c;
	(void)port;
	(void)bytes;
	return SOFT_OK;
}

void
soft_cache_invalidate(struct soft_vm *v, gpa_t gpa, uint64_t len)
{
	(void)v;
	(void)gpa;
	(void)len;
}

/* --- harness ------------------------------------------------------------ */

static void
on_signal(int sig, siginfo_t *si, void *uc)
{
	(void)si;
	if (!soft_thunk_signal(uc)) {
		signal(sig, SIG_DFL);
		raise(sig);
	}
}

static void
mode64(void)
{
	cpu->mode_key = SOFT_KEY_L | SOFT_KEY_PE;
}

static void
mode32(void)
{
	cpu->mode_key = SOFT_KEY_D | SOFT_KEY_B | SOFT_KEY_PE;
	for (unsigned i = 0; i < 6; i++)
		cpu->seg[i].limit = 0xffffffff;
}

static void
mode16(void)
{
	cpu->mode_key = SOFT_KEY_PE | SOFT_KEY_SEG;
	for (unsigned i = 0; i < 6; i++) {
		cpu->seg[i].limit = 0xffff;
		cpu->seg_base[i] = BASE;
	}
}

static int
setup(void **state)
{
	uint64_t mask;

	(void)state;
	arena = mmap(NULL, PAGES * VMM_PAGE_SIZE, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cpu = aligned_alloc(64, base_roundup(sizeof(*cpu), 64ul));
	if (arena == MAP_FAILED || cpu == NULL)
		return -1;
	memset(cpu, 0, sizeof(*cpu));
	memset(cpu->tlb, 0xff, sizeof(cpu->tlb));
	memset(prot, VMM_PROT_RW, sizeof(prot));
	memset(arena, 0, PAGES * VMM_PAGE_SIZE);
	io_count = 0;
	cpu->vm = &vm;
	cpu->rflags_sys = 2;
	cpu->cr0 = 0x80000033;
	cpu->cr4 = 0x40620;
	cpu->xcr0 = soft_fpu_features();
	soft_fpu_reset(cpu, false);
	mask = 0x37f;
	memcpy(cpu->xsave, &mask, 2);
	cpu->xsave[4] = 0;
	cpu->gpr[VMM_REG_RSP] = STACK;
	cpu->rip = CODE;
	mode64();
	return soft_exec_init(cpu);
}

static int
teardown(void **state)
{
	(void)state;
	soft_exec_fini(cpu);
	free(cpu);
	munmap(arena, PAGES * VMM_PAGE_SIZE);
	return 0;
}

static void *
at(gva_t gva)
{
	return arena + (gva - BASE);
}

static void
no_access(gva_t gva, int p)
{
	prot[(gva - BASE) / VMM_PAGE_SIZE] = (uint8_t)p;
	memset(cpu->tlb, 0xff, sizeof(cpu->tlb));
}

/* cmocka sets its own handlers when a test starts, so ours come here. */
static void
code(const void *bytes, size_t n)
{
	struct sigaction sa = { .sa_sigaction = on_signal,
		.sa_flags = SA_SIGINFO };

	sigaction(SIGFPE, &sa, NULL);
	sigaction(SIGSEGV, &sa, NULL);
	sigaction(SIGILL, &sa, NULL);
	memset(at(CODE), 0x90, 64);
	memcpy(at(CODE), bytes, n);
	cpu->rip = CODE;
	if (cpu->mode_key & SOFT_KEY_SEG)
		cpu->rip -= BASE;
}
#define CODE_BYTES(...)                                   \
	do {                                              \
		static const uint8_t code_b[] = { __VA_ARGS__ }; \
		code(code_b, sizeof(code_b));             \
	} while (0)

#define STEP() assert_int_equal(soft_step(cpu), SOFT_OK)
#define FAULTS(v)                                                  \
	do {                                                       \
		assert_int_equal(soft_step(cpu), SOFT_FAULT);      \
		assert_int_equal(cpu->exc.vector, (v));            \
	} while (0)
#define RAX cpu->gpr[VMM_REG_RAX]
#define RCX cpu->gpr[VMM_REG_RCX]
#define RDX cpu->gpr[VMM_REG_RDX]
#define RBX cpu->gpr[VMM_REG_RBX]
#define RSP cpu->gpr[VMM_REG_RSP]
#define RBP cpu->gpr[VMM_REG_RBP]
#define RSI cpu->gpr[VMM_REG_RSI]
#define RDI cpu->gpr[VMM_REG_RDI]

/* --- native ------------------------------------------------------------- */

static void
test_native(void **state)
{
	(void)state;
	CODE_BYTES(0x48, 0x01, 0xd8,		/* add rax,rbx */
	    0x4c, 0x11, 0xe4,			/* adc rsp,r12 */
	    0x00, 0xe7,				/* add bh,ah */
	    0xf0, 0x48, 0x0f, 0xc1, 0x07,	/* lock xadd [rdi],rax */
	    0x48, 0x8d, 0x44, 0x8b, 0x10,	/* lea rax,[rbx+rcx*4+16] */
	    0x0f, 0xa3, 0x0f);			/* bt [rdi],ecx */
	RAX = ~0ul;
	RBX = 2;
	STEP();
	assert_int_equal(RAX, 1);
	assert_int_equal(cpu->flags_saved, SOFT_FL_CF | SOFT_FL_AF);
	cpu->gpr[12] = 0x10;
	STEP();
	assert_int_equal(RSP, STACK + 0x11);
	RAX = 0x1200;
	RBX = 0x3400;
	STEP();
	assert_int_equal(RBX, 0x4600);
	RDI = DATA;
	RAX = 5;
	*(u64 *)at(DATA) = 37;
	STEP();
	assert_int_equal(RAX, 37);
	assert_int_equal(*(u64 *)at(DATA), 42);
	RBX = 0x1000;
	RCX = 3;
	STEP();
	assert_int_equal(RAX, 0x101c);
	RCX = 0xffffffff; /* bit -1: bit 31 of the word before */
	RDI = DATA + 8;
	*(u32 *)at(DATA + 4) = 0x80000000;
	STEP();
	assert_true(cpu->flags_saved & SOFT_FL_CF);
	assert_int_equal(RCX, 0xffffffff);
}

static void
test_faults(void **state)
{
	(void)state;
	CODE_BYTES(0x48, 0xf7, 0xf1); /* div rcx */
	RAX = 7;
	RCX = 0;
	cpu->flags_saved = SOFT_FL_ZF;
	FAULTS(SOFT_EXC_DE);
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(RAX, 7);
	assert_int_equal(cpu->flags_saved, SOFT_FL_ZF);

	CODE_BYTES(0x0f, 0x28, 0x07); /* movaps xmm0,[rdi] */
	RDI = DATA + 8;
	FAULTS(SOFT_EXC_GP);
	RDI = DATA + VMM_PAGE_SIZE - 8; /* misaligned and across pages */
	FAULTS(SOFT_EXC_GP);
	cpu->cr0 |= 8;
	FAULTS(SOFT_EXC_NM);
	cpu->cr0 &= ~8ul;
	cpu->cr4 &= ~0x200ul;
	FAULTS(SOFT_EXC_UD);

	CODE_BYTES(0x48, 0x01, 0x07); /* add [rdi],rax */
	no_access(DATA + VMM_PAGE_SIZE, VMM_PROT_READ);
	RDI = DATA + VMM_PAGE_SIZE - 4;
	RAX = 1;
	*(u32 *)at(RDI) = 5;
	FAULTS(SOFT_EXC_PF);
	assert_int_equal(cpu->exc.cr2, DATA + VMM_PAGE_SIZE);
	assert_int_equal(*(u32 *)at(RDI), 5);
	no_access(DATA + VMM_PAGE_SIZE, VMM_PROT_RW);
	*(u64 *)at(RDI) = 0xffffffff;
	STEP();
	assert_int_equal(*(u64 *)at(RDI), 0x100000000);

	CODE_BYTES(0x0f, 0x0b); /* ud2 */
	assert_int_equal(soft_step(cpu), SOFT_FAULT);
}

/* Code that changes under the decode cache, and code across two pages. */
static void
test_code(void **state)
{
	(void)state;
	CODE_BYTES(0xb8, 1, 0, 0, 0); /* mov eax,1 */
	STEP();
	assert_int_equal(RAX, 1);
	CODE_BYTES(0xb8, 2, 0, 0, 0);
	STEP();
	assert_int_equal(RAX, 2);
	for (int i = 1; i <= 2; i++) {
		cpu->rip = CODE + VMM_PAGE_SIZE - 2;
		memcpy(at(cpu->rip), "\xb8\x10\x00\x00\x00", 5);
		*(uint8_t *)at(CODE + VMM_PAGE_SIZE) = (uint8_t)i;
		STEP();
		assert_int_equal(RAX, 0x10 + 0x100 * i);
		assert_int_equal(cpu->rip, CODE + VMM_PAGE_SIZE + 3);
	}
	no_access(CODE + VMM_PAGE_SIZE, 0);
	cpu->rip = CODE + VMM_PAGE_SIZE - 2;
	FAULTS(SOFT_EXC_PF);
	assert_int_equal(cpu->exc.cr2, CODE + VMM_PAGE_SIZE);
}

/* --- stack -------------------------------------------------------------- */

static void
test_stack64(void **state)
{
	(void)state;
	CODE_BYTES(0x54,		/* push rsp */
	    0x6a, 0xfe,			/* push -2 */
	    0x8f, 0x04, 0x24,		/* pop [rsp] */
	    0x5c,			/* pop rsp */
	    0xe8, 0x00, 0x01, 0, 0);	/* call +0x100 */
	STEP();
	assert_int_equal(RSP, STACK - 8);
	assert_int_equal(*(u64 *)at(STACK - 8), STACK);
	STEP();
	assert_int_equal(*(u64 *)at(STACK - 16), (uint64_t)-2);
	STEP();
	assert_int_equal(RSP, STACK - 8);
	assert_int_equal(*(u64 *)at(STACK - 8), (uint64_t)-2);
	*(u64 *)at(STACK - 8) = STACK - 64;
	STEP();
	assert_int_equal(RSP, STACK - 64);
	STEP();
	assert_int_equal(cpu->rip, CODE + 12 + 0x100);
	assert_int_equal(*(u64 *)at(RSP), CODE + 12);
	memcpy(at(cpu->rip), "\xc2\x10\x00", 3); /* ret 16 */
	STEP();
	assert_int_equal(cpu->rip, CODE + 12);
	assert_int_equal(RSP, STACK - 64 + 16);

	CODE_BYTES(0xc8, 0x20, 0x00, 0x03, /* enter 32,3 */
	    0xc9);			   /* leave */
	RSP = STACK;
	RBP = STACK - 0x100;
	*(u64 *)at(RBP - 8) = 0x11;
	*(u64 *)at(RBP - 16) = 0x22;
	STEP();
	assert_int_equal(RBP, STACK - 8);
	assert_int_equal(RSP, STACK - 8 - 24 - 32);
	assert_int_equal(*(u64 *)at(STACK - 16), 0x11);
	assert_int_equal(*(u64 *)at(STACK - 24), 0x22);
	assert_int_equal(*(u64 *)at(STACK - 32), STACK - 8);
	STEP();
	assert_int_equal(RSP, STACK);
	assert_int_equal(RBP, STACK - 0x100);
}

static void
test_flags_stack(void **state)
{
	(void)state;
	CODE_BYTES(0x9c, 0x9d); /* pushf; popf */
	cpu->rflags_sys = 2 | SOFT_FL_IF | SOFT_FL_RF;
	cpu->flags_saved = SOFT_FL_OF;
	cpu->cpl = 3;
	STEP();
	assert_int_equal(*(u64 *)at(RSP),
	    2 | SOFT_FL_IF | SOFT_FL_OF);
	*(u64 *)at(RSP) = 0xffffffff & ~(uint64_t)SOFT_FL_TF;
	assert_in_range(soft_step(cpu), 0, SOFT_FLUSH);
	assert_int_equal(soft_rflags(cpu), 2 | SOFT_FL_IF | SOFT_FL_ARITH |
	    SOFT_FL_DF | SOFT_FL_NT | SOFT_FL_AC | SOFT_FL_ID);
}

static void
test_legacy(void **state)
{
	(void)state;
	mode32();
	CODE_BYTES(0x60, 0x61); /* pusha; popa */
	for (unsigned i = 0; i < 8; i++)
		cpu->gpr[i] = i == 4 ? STACK : 0x100 + i;
	STEP();
	assert_int_equal(RSP, STACK - 32);
	assert_int_equal(*(u32 *)at(STACK - 4), 0x100);
	assert_int_equal(*(u32 *)at(STACK - 20), STACK);
	memset(cpu->gpr, 0, 32);
	RSP = STACK - 32;
	STEP();
	assert_int_equal(RSP, STACK);
	assert_int_equal(RBX, 0x103);
	assert_int_equal(RDI, 0x107);

	CODE_BYTES(0x37, 0x27, 0xd4, 0x0a); /* aaa; daa; aam */
	RAX = 0x0f;
	cpu->flags_saved = 0;
	STEP();
	assert_int_equal(RAX, 0x105);
	RAX = 0x3c;
	cpu->flags_saved = 0;
	STEP();
	assert_int_equal(RAX, 0x42);
	RAX = 73;
	STEP();
	assert_int_equal(RAX, 0x703);

	CODE_BYTES(0x40, 0x4b); /* inc eax; dec ebx */
	RAX = 0xffffffff;
	RBX = 1;
	cpu->flags_saved = SOFT_FL_CF;
	STEP();
	assert_int_equal(RAX, 0);
	assert_true(cpu->flags_saved & SOFT_FL_CF);
	STEP();
	assert_int_equal(RBX, 0);

	CODE_BYTES(0x62, 0x07); /* bound eax,[edi] */
	RDI = DATA;
	((int32_t *)at(DATA))[0] = -1;
	((int32_t *)at(DATA))[1] = 5;
	RAX = 5;
	STEP();
	cpu->rip = CODE;
	RAX = 6;
	FAULTS(SOFT_EXC_BR);
}

static void
test_real16(void **state)
{
	(void)state;
	mode16();
	CODE_BYTES(0x50, 0xe8, 0xfc, 0xff); /* push ax; call -4 */
	RSP = 0xabcd0000; /* sp 0: wraps to fffe */
	RAX = 0x1234;
	STEP();
	assert_int_equal(RSP, 0xabcdfffe);
	assert_int_equal(*(u16 *)at(BASE + 0xfffe), 0x1234);
	STEP();
	assert_int_equal(cpu->rip, 0);
	assert_int_equal(*(u16 *)at(BASE + 0xfffc), 4);
	CODE_BYTES(0xff, 0x36, 0xff, 0xff); /* push word [0xffff] */
	FAULTS(SOFT_EXC_GP);
}

static void
test_branches(void **state)
{
	static const struct {
		uint32_t fl;
		uint16_t taken; /* bit per condition code */
	} t[] = {
		{ 0, 0xaaaa },
		{ SOFT_FL_ZF, 0x6a5a },
		{ SOFT_FL_CF, 0xaa66 },
		{ SOFT_FL_SF, 0x59aa },
		{ SOFT_FL_OF, 0x5aa9 },
		{ SOFT_FL_PF, 0xa6aa },
		{ SOFT_FL_SF | SOFT_FL_OF, 0xa9a9 },
	};

	(void)state;
	for (unsigned i = 0; i < BASE_ARRAY_LEN(t); i++) {
		for (unsigned cc = 0; cc < 16; cc++) {
			uint8_t b[2] = { (uint8_t)(0x70 + cc), 0x10 };
			code(b, 2);
			cpu->flags_saved = t[i].fl;
			STEP();
			assert_int_equal(cpu->rip == CODE + 0x12,
			    t[i].taken >> cc & 1);
		}
	}
	CODE_BYTES(0xe2, 0x10); /* loop */
	RCX = 1;
	STEP();
	assert_int_equal(RCX, 0);
	assert_int_equal(cpu->rip, CODE + 2);
	CODE_BYTES(0x67, 0xe3, 0x10); /* jecxz */
	RCX = 0x100000000;
	STEP();
	assert_int_equal(cpu->rip, CODE + 0x13);
	CODE_BYTES(0xff, 0xe0); /* jmp rax */
	RAX = 1ul << 63;
	FAULTS(SOFT_EXC_GP);
	assert_int_equal(cpu->rip, CODE);
}

/* --- strings ------------------------------------------------------------ */

static void
test_movs(void **state)
{
	uint8_t *d = at(DATA);

	(void)state;
	CODE_BYTES(0xf3, 0xa4); /* rep movsb */
	for (unsigned i = 0; i < 3 * VMM_PAGE_SIZE; i++)
		d[i] = (uint8_t)(i * 7 + (i >> 8));
	RSI = DATA + 3;
	RDI = DATA + 3 * VMM_PAGE_SIZE + 500;
	RCX = 2 * VMM_PAGE_SIZE;
	STEP();
	assert_int_equal(RCX, 0);
	assert_int_equal(RSI, DATA + 3 + 2 * VMM_PAGE_SIZE);
	assert_int_equal(RDI, DATA + 5 * VMM_PAGE_SIZE + 500);
	assert_memory_equal(d + 3, d + 3 * VMM_PAGE_SIZE + 500,
	    2 * VMM_PAGE_SIZE);
	assert_int_equal(cpu->rip, CODE + 2);

	/* overlapping: spreads one byte */
	CODE_BYTES(0xf3, 0xa4);
	RSI = DATA;
	RDI = DATA + 1;
	RCX = 100;
	d[0] = 0x5a;
	STEP();
	for (unsigned i = 0; i <= 100; i++)
		assert_int_equal(d[i], 0x5a);

	/* downwards, across a page, 8 bytes each, misaligned */
	CODE_BYTES(0xf3, 0x48, 0xa5);
	cpu->rflags_sys |= SOFT_FL_DF;
	for (unsigned i = 0; i < VMM_PAGE_SIZE; i++)
		d[VMM_PAGE_SIZE - 2000 + i] = (uint8_t)(i * 3);
	RSI = DATA + VMM_PAGE_SIZE + 1001;
	RDI = DATA + 4 * VMM_PAGE_SIZE + 1001;
	RCX = 200;
	memset(d + 3 * VMM_PAGE_SIZE, 0, 2 * VMM_PAGE_SIZE);
	STEP();
	assert_int_equal(RSI, DATA + VMM_PAGE_SIZE + 1001 - 1600);
	assert_memory_equal(d + VMM_PAGE_SIZE + 1009 - 1600,
	    d + 4 * VMM_PAGE_SIZE + 1009 - 1600, 1600);
	assert_int_equal(d[4 * VMM_PAGE_SIZE + 1008 - 1600], 0);
	cpu->rflags_sys &= ~SOFT_FL_DF;

	/* fault in the middle, and on from there */
	CODE_BYTES(0xf3, 0x66, 0xa5);
	no_access(DATA + VMM_PAGE_SIZE, VMM_PROT_READ);
	RSI = DATA + 4 * VMM_PAGE_SIZE;
	RDI = DATA + VMM_PAGE_SIZE - 5;
	RCX = 10;
	FAULTS(SOFT_EXC_PF);
	assert_int_equal(cpu->exc.cr2, DATA + VMM_PAGE_SIZE);
	assert_int_equal(RCX, 8);
	assert_int_equal(RDI, DATA + VMM_PAGE_SIZE - 1);
	assert_int_equal(cpu->rip, CODE);
	no_access(DATA + VMM_PAGE_SIZE, VMM_PROT_RW);
	STEP();
	assert_int_equal(RCX, 0);
	assert_memory_equal(d + VMM_PAGE_SIZE - 5, d + 4 * VMM_PAGE_SIZE, 20);

	/* an event waits: the call ends, rip stays */
	CODE_BYTES(0xf3, 0xaa); /* rep stosb */
	RDI = DATA;
	RCX = 3 * VMM_PAGE_SIZE;
	RAX = 0x77;
	atomic_store(&cpu->exit_request, 1);
	STEP();
	assert_int_equal(cpu->rip, CODE);
	assert_int_equal(RCX, 2 * VMM_PAGE_SIZE);
	atomic_store(&cpu->exit_request, 0);
	STEP();
	assert_int_equal(cpu->rip, CODE + 2);
	for (unsigned i = 0; i < 3 * VMM_PAGE_SIZE; i++)
		assert_int_equal(d[i], 0x77);
}

static void
test_cmps(void **state)
{
	uint8_t *d = at(DATA);

	(void)state;
	CODE_BYTES(0xf3, 0xa6); /* repe cmpsb */
	memset(d, 1, VMM_PAGE_SIZE);
	d[2000 + 57] = 2;
	RSI = DATA;
	RDI = DATA + 2000;
	RCX = 100;
	STEP();
	assert_int_equal(RCX, 100 - 58);
	assert_int_equal(RSI, DATA + 58);
	assert_true(cpu->flags_saved & SOFT_FL_CF);
	cpu->rip = CODE;
	RSI = DATA;
	RDI = DATA + 2000;
	RCX = 57;
	STEP();
	assert_int_equal(RCX, 0);
	assert_true(cpu->flags_saved & SOFT_FL_ZF);

	CODE_BYTES(0xf2, 0xae); /* repne scasb */
	RAX = 2;
	RDI = DATA;
	RCX = ~0ul;
	STEP();
	assert_int_equal(RDI, DATA + 2000 + 58);
	assert_int_equal(~RCX, 2000 + 58);

	CODE_BYTES(0xf3, 0xad); /* rep lodsd */
	((u32 *)at(DATA))[9] = 0x12345678;
	RSI = DATA;
	RCX = 10;
	STEP();
	assert_int_equal(RAX, 0x12345678);
	assert_int_equal(RSI, DATA + 40);

	CODE_BYTES(0xf3, 0x6c, 0x6e); /* rep insb; outsb */
	RDI = DATA;
	RCX = 4;
	STEP();
	assert_memory_equal(d, "BCDE", 4);
	RSI = DATA + 2;
	STEP();
	assert_int_equal(io_last, 'D');
}

/* --- extended state ----------------------------------------------------- */

static void
test_fpu(void **state)
{
	(void)state;
	CODE_BYTES(0xd9, 0xe8,		/* fld1 */
	    0xdd, 0x1f,			/* fstp qword [rdi] */
	    0x0f, 0xae, 0x07,		/* fxsave [rdi] */
	    0xd9, 0xe8,			/* fld1 */
	    0x0f, 0xae, 0x0f,		/* fxrstor [rdi] */
	    0x0f, 0xae, 0x1e);		/* stmxcsr [rsi] */
	RDI = DATA;
	STEP();
	STEP();
	assert_true(*(double *)at(DATA) == 1.0);
	STEP();
	/* FIP: the guest's, or none where the host keeps it for errors only */
	assert_true(*(u64 *)at(DATA + 8) == CODE + 2 ||
	    *(u64 *)at(DATA + 8) == 0);
	*(u32 *)at(DATA + 24) = 0x3f80;
	STEP();
	STEP();
	RSI = DATA + VMM_PAGE_SIZE;
	STEP();
	assert_int_equal(*(u32 *)at(RSI), 0x3f80);
}

static void
test_fpu2(void **state)
{
	uint32_t *p = at(DATA);

	(void)state;
	CODE_BYTES(0x0f, 0xae, 0x17);
	RDI = DATA;
	*p = 0x10000;
	FAULTS(SOFT_EXC_GP);
	*p = 0x1d80; /* division by zero unmasked */
	STEP();
	CODE_BYTES(0xf3, 0x0f, 0x5e, 0xc1); /* divss xmm0,xmm1 */
	((uint32_t *)(void *)(cpu->xsave + 160))[0] = 0x3f800000;
	((uint32_t *)(void *)(cpu->xsave + 176))[0] = 0;
	cpu->xsave[512] |= 2;
	FAULTS(SOFT_EXC_XM);
	cpu->cr4 &= ~0x400ul;
	FAULTS(SOFT_EXC_UD);
	cpu->cr4 |= 0x400;

	/* an x87 exception waits for the next x87 instruction */
	CODE_BYTES(0xd9, 0x2f,	/* fldcw [rdi] */
	    0xd9, 0xe8,		/* fld1 */
	    0xd8, 0x77, 0x08,	/* fdiv dword [rdi+8] */
	    0x9b);		/* fwait */
	*(u16 *)at(DATA) = 0x37b;
	*(u32 *)at(DATA + 8) = 0;
	STEP();
	STEP();
	STEP();
	FAULTS(SOFT_EXC_MF);
}

static void
test_xsave(void **state)
{
	uint64_t bv = 7;

	(void)state;
	if (!(soft_fpu_features() & 4))
		skip();
	CODE_BYTES(0xc5, 0xfc, 0x10, 0x07, /* vmovups ymm0,[rdi] */
	    0x0f, 0xae, 0x26,		    /* xsave [rsi] */
	    0xc5, 0xfc, 0x57, 0xc0,	    /* vxorps ymm0,ymm0,ymm0 */
	    0x0f, 0xae, 0x2e,		    /* xrstor [rsi] */
	    0xc5, 0xfc, 0x11, 0x47, 0x20);  /* vmovups [rdi+32],ymm0 */
	for (unsigned i = 0; i < 32; i++)
		((uint8_t *)at(DATA))[i] = (uint8_t)(i + 1);
	RDI = DATA;
	RSI = DATA + VMM_PAGE_SIZE - 128;
	RAX = 7;
	STEP();
	STEP();
	assert_memory_equal(at(RSI + 576), at(DATA + 16), 16);
	STEP();
	STEP();
	STEP();
	assert_memory_equal(at(DATA), at(DATA + 32), 32);

	CODE_BYTES(0x0f, 0xae, 0x2e);
	*(u64 *)at(RSI + 512) = 1ul << 9; /* PKRU: not in XCR0 */
	FAULTS(SOFT_EXC_GP);
	*(u64 *)at(RSI + 512) = bv;
	*(u64 *)at(RSI + 520) = 1ul << 63; /* compacted */
	FAULTS(SOFT_EXC_GP);
	RSI += 8;
	FAULTS(SOFT_EXC_GP);
}

static void
test_gather(void **state)
{
	uint32_t *x = (void *)(cpu->xsave + 160);
	uint32_t *d = at(DATA);

	(void)state;
	if (!(soft_fpu_features() & 4))
		skip();
	/* vpgatherdd xmm0,[rdi+xmm1*4],xmm2 */
	CODE_BYTES(0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8f);
	cpu->xsave[512] = 7;
	for (unsigned i = 0; i < 4; i++) {
		x[4 + i] = i == 3 ? 1024 : 10 * i;
		x[8 + i] = i == 1 ? 0 : 0x80000000;
		d[10 * i] = 100 + i;
	}
	RDI = DATA;
	no_access(DATA + VMM_PAGE_SIZE, 0);
	FAULTS(SOFT_EXC_PF);
	assert_int_equal(x[0], 100);
	assert_int_equal(x[2], 102);
	assert_int_equal(x[8], 0);
	assert_true(x[11] & 0x80000000);
	no_access(DATA + VMM_PAGE_SIZE, VMM_PROT_RW);
	d[1024] = 777;
	d[0] = 5;
	STEP();
	assert_int_equal(x[0], 100);
	assert_int_equal(x[3], 777);
	assert_int_equal(x[11], 0);

	/* vmaskmovps [rdi],xmm1,xmm0: only the first reaches the page's end */
	CODE_BYTES(0xc4, 0xe2, 0x71, 0x2e, 0x07);
	x[4] = 0x80000000;
	x[5] = x[6] = x[7] = 0;
	RDI = DATA + VMM_PAGE_SIZE - 4;
	no_access(DATA + VMM_PAGE_SIZE, 0);
	STEP();
	assert_int_equal(*(u32 *)at(RDI), 100);
}

/* --- speed: printed, not judged ------------------------------------------ */

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static void
test_speed(void **state)
{
	const unsigned n = 2000000;
	double t;

	(void)state;
	CODE_BYTES(0x48, 0x01, 0xd8,	/* add rax,rbx */
	    0x48, 0x89, 0x07,		/* mov [rdi],rax */
	    0x48, 0x8b, 0x0f,		/* mov rcx,[rdi] */
	    0xeb, 0xf5);		/* jmp back */
	RDI = DATA;
	t = now();
	for (unsigned i = 0; i < n; i++)
		(void)soft_step(cpu);
	t = now() - t;
	print_message("steps: %.1f M/s\n", n / t * 1e-6);
	assert_int_equal(cpu->st.exec, n);
	CODE_BYTES(0xf3, 0xa4);
	t = now();
	for (unsigned i = 0; i < 10000; i++) {
		cpu->rip = CODE;
		RSI = DATA;
		RDI = DATA + 2 * VMM_PAGE_SIZE;
		RCX = 2 * VMM_PAGE_SIZE;
		(void)soft_step(cpu);
	}
	t = now() - t;
	print_message("rep movsb of 8 KB: %.1f GB/s\n", 8192e4 / t * 1e-9);
}

int
main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_native), T(test_faults), T(test_code), T(test_stack64),
		T(test_flags_stack), T(test_legacy), T(test_real16),
		T(test_branches), T(test_movs), T(test_cmps), T(test_fpu),
		T(test_fpu2), T(test_xsave), T(test_gather), T(test_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
