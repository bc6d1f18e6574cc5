/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a payload for the bare machine has: output, checks, page tables, and
 * guest_run(), which runs a piece of code in any context until it traps.
 *
 * A payload is guest_test() in a file of its own, linked with start64.S and
 * guest64.c (or the 32-bit pair), booted by multiboot.  It runs under hyve and
 * under QEMU alike; its verdict goes to the debug-exit port.  To add one, put
 * it in meson.build's table.
 *
 * A SNIPPET is position-independent code that ends with `int $0x80` when it
 * has come through.  Any other vector is the exception it met.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uintptr_t word;

/* Register numbers in gpr[], in the order of the instruction encoding. */
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
#ifdef __x86_64__
#define GUEST_NGPR 16
#else
#define GUEST_NGPR 8
#endif

/* Offsets are known to the assembly. */
struct guest_ctx {
	word gpr[GUEST_NGPR];
	word rip, cs, rflags, ss;
};
struct guest_trap {
	word gpr[GUEST_NGPR]; /* at the trap; RSP is of the interrupted code
			       * where the frame has it */
	word rip, cs, rflags, ss;
	word vector, error, cr2;
	word frame; /* address of the frame's lowest word (error code or rip) */
};
extern struct guest_trap guest_trap;

/* Runs ctx until a trap. => its vector; the rest in guest_trap */
unsigned guest_run(const struct guest_ctx *ctx);

#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_UCODE32 0x1b /* order that SYSRET wants */
#define SEL_UDATA 0x23
#ifdef __x86_64__
#define SEL_UCODE 0x2b
#else
#define SEL_UCODE 0x1b
#endif
#define SEL_TSS 0x30 /* two slots */
#define SEL_FREE 0x40 /* to 0x78: for tests */
extern uint64_t guest_gdt[16];
#define GUEST_DONE 0x80 /* a gate that user code may call */

/* A code or data descriptor of 4 GB; flags are bits 40-47 and 52-55. */
#define GUEST_SEG(flags) (0x00000000000ffffful | (uint64_t)(flags) << 40)

#define SNIPPET(name, code)                                               \
	__asm__(".pushsection .text\n.globl " #name "\n" #name ":\n" code \
		"\nint $0x80\n" #name "_end:\n.popsection");              \
	extern const char name[], name##_end[]

void guest_puts(const char *s);
void guest_hex(uint64_t v);
_Noreturn void guest_exit(unsigned value);
void guest_fail(const char *what, int line, uint64_t got, uint64_t want);
extern unsigned guest_failures;
void guest_test(void); /* the payload */
void guest_main(void);
void guest_setup(void); /* IDT, GDT, TSS */

#define CHECK(c) \
	((c) ? (void)0 : guest_fail(#c, __LINE__, 0, 1))
#define CHECK_EQ(a, b)                                               \
	do {                                                         \
		uint64_t a_ = (a), b_ = (b);                         \
		if (a_ != b_)                                        \
			guest_fail(#a " == " #b, __LINE__, a_, b_);  \
	} while (0)

/* Memory: zeroed pages, identity-mapped. */
void *guest_page(void);

/* Page tables of the test's own, beside the identity map of the first GB. */
#define PTE_P 1ul
#define PTE_W 2ul
#define PTE_U 4ul
#define PTE_A 0x20ul
#define PTE_D 0x40ul
#define PTE_PS 0x80ul
#define PTE_G 0x100ul
#define PTE_NX (1ull << 63)

/* Gates and stacks. */
void guest_gate(unsigned vector, word handler, unsigned sel, unsigned type,
    unsigned dpl, unsigned ist);
word guest_stub(unsigned vector); /* the default handler */
#define GATE_INT 14
#define GATE_TRAP 15
#define GATE_ABSENT 0x80 /* or'ed in: not present */

static inline void
outb(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t
inb(uint16_t port)
{
	uint8_t v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline uint64_t
rdmsr(uint32_t n)
{
	uint32_t lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(n));
	return (uint64_t)hi << 32 | lo;
}

static inline void
wrmsr(uint32_t n, uint64_t v)
{
	__asm__ volatile("wrmsr" : : "a"((uint32_t)v),
	    "d"((uint32_t)(v >> 32)), "c"(n) : "memory");
}

static inline void
cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
	__asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]),
	    "=d"(r[3]) : "a"(leaf), "c"(sub));
}

#define GUEST_CR(n)                                                        \
	static inline word rdcr##n(void)                                   \
	{                                                                  \
		word v;                                                    \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v) : : "memory"); \
		return v;                                                  \
	}                                                                  \
	static inline void wrcr##n(word v)                                 \
	{                                                                  \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory"); \
	}
GUEST_CR(0)
GUEST_CR(2)
GUEST_CR(3)
GUEST_CR(4)

static inline void
invlpg(word va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}

#endif /* GUEST_H */
