/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System instructions that the translator has inline or in fast.c, each with
 * the cases that it must leave to the executor: flags, time, FS and GS bases,
 * SMAP, control registers, bits of memory, XSAVE.  priv64.c has IRET, SYSCALL
 * and SYSRET.
 */
#include "guest64.h"

#define FL_ARITH 0x8d5u
#define FL_TF 0x100u
#define FL_IF 0x200u
#define FL_DF 0x400u
#define FL_IOPL 0x3000u
#define FL_NT 0x4000u
#define FL_RF 0x10000u
#define FL_AC 0x40000u
#define FL_ID 0x200000u
#define CR4_TSD 0x4u
#define CR4_FSGSBASE 0x10000u
#define CR4_OSXSAVE 0x40000u
#define CR4_SMAP 0x200000u
#define AT(name, n) ((word)(name) + (n))

SNIPPET(t_popf, "push %rdi\npopfq\npushfq\npop %rax\npush $2\npopfq");
SNIPPET(t_popf_bad, "mov %rdi, %rsp\npopfq");
SNIPPET(t_popf_twice, "push %rsi\npush %rdi\npopfq\nmov $1, %eax\npushfq\npop %rbx\n"
    "popfq\npushfq\npop %rcx\npush $2\npopfq");
SNIPPET(t_rdtsc, "rdtsc\nmov %eax, %ebx\nmov %edx, %ecx\nrdtsc");
SNIPPET(t_rdtscp, "rdtscp");
SNIPPET(t_wrfs, "wrfsbase %rdi\nrdfsbase %rax\nwrfsbase %esi\nrdfsbase %rbx");
SNIPPET(t_wrgs, "mov %rdi, %r13\nwrgsbase %r13\nrdgsbase %r14\nmov %r14, %rax\n"
    "mov $0x1122334455667788, %r15\nrdgsbase %r15d\nmov %r15, %rbx");
SNIPPET(t_fsload, "wrfsbase %rdi\nmov %fs:8, %rax\nlea 8(%rdi), %rsi\nwrfsbase %rsi\n"
    "mov %fs:8, %rbx");
SNIPPET(t_stac, "stac\nmov (%rdi), %rax\nmov 8(%rdi), %rbx\nclac\npushfq\npop %rcx");
SNIPPET(t_clac, "stac\nmov (%rdi), %rax\nclac\nmov 8(%rdi), %rbx");
SNIPPET(t_stac_stores, "stac\nmov %rsi, (%rdi)\nmov %rsi, 8(%rdi)\nclac\n"
    "mov 16(%rdi), %rbx");
SNIPPET(t_stac_loop, "stac\nmov $100, %ecx\n1: add (%rdi), %rax\ndec %ecx\njnz 1b\n"
    "clac\nmov $100, %ecx\n2: dec %ecx\njnz 2b\nmov (%rdi), %rbx");
SNIPPET(t_stac2, "stac\nstac\nmov (%rdi), %rax\nclac\nclac\npushfq\npop %rcx");
SNIPPET(t_cr, "mov %cr0, %r12\nmov %cr2, %r13\nmov %cr3, %r14\nmov %cr4, %r15\n"
    "mov %rdi, %cr2\nmov %cr2, %rax");
SNIPPET(t_cr3, "mov (%rsi), %rax\nmov %rdi, %cr3\nmov (%rsi), %rbx");
SNIPPET(t_seg, "mov $-1, %rax\nmov %cs, %ax\nmov %ss, %ebx\nmov %cs, %rcx\n"
    "mov $-1, %r14\nmov %cs, %r14w\nmov %r14, %rdx");
SNIPPET(t_dir, "std\npushfq\npop %rax\ncld\npushfq\npop %rbx\ncmp %rdi, %rsi\nstd\ncld\n"
    "setb %cl");
SNIPPET(t_bts, "bts %rsi, (%rdi)\nsetc %al\nbt %rsi, (%rdi)\nsetc %bl\nmov %rsi, %r13\n"
    "btr %r13, (%rdi)\nsetc %cl\nbtc %esi, (%rdi)\nsetc %dl");
SNIPPET(t_lockbts, "lock bts %rsi, (%rdi)\nsetc %al\nlock btr %rsi, (%rdi)\nsetc %bl");
SNIPPET(t_xchg, "mov %rsi, %rax\nxchg %rax, (%rdi)\nmov %rsi, %r14\nxchg (%rdi), %r14d\n"
    "lock addq $0, (%rdi)\nlock xadd %rsi, 8(%rdi)");
SNIPPET(t_xsave, "mov $7, %eax\nxor %edx, %edx\nxsave64 (%rdi)");
SNIPPET(t_xsaveopt, "mov $7, %eax\nxor %edx, %edx\nxsaveopt64 (%rdi)");
SNIPPET(t_xrstor, "mov $7, %eax\nxor %edx, %edx\nxrstor64 (%rdi)\nmovq %xmm9, %rax\n"
    "movq %rax, %rbx");
SNIPPET(t_setxmm, "movq %rdi, %xmm9\nfninit\nfld1\nfldpi");
SNIPPET(t_pause, "mov $2000, %ecx\n1: pause\ndec %ecx\njnz 1b");
SNIPPET(t_msr, "mov %edi, %ecx\nmov %esi, %eax\nmov %rsi, %rdx\nshr $32, %rdx\nwrmsr\n"
    "xor %eax, %eax\nrdmsr");

static void
y_popf(void)
{
	static const uint32_t may = FL_ARITH | FL_DF | FL_NT | FL_ID | FL_IOPL;

	for (unsigned i = 0; i < 64; i++) {
		/* OF, SF, ZF, AF, PF, CF in all ways */
		uint64_t fl = 2 | (i & 1) | (i & 2) << 1 | (i & 4) << 2 |
		    (i & 8) << 3 | (i & 16) << 3 | (i & 32) << 6;

		CHECK_EQ(KERNEL(t_popf, fl, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], fl);
		CHECK_EQ(USER(t_popf, fl, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], fl);
	}
	for (uint32_t bit = 1; bit < 1u << 22; bit <<= 1) {
		if (bit == FL_TF || bit == FL_IF || bit == FL_AC)
			continue;
		CHECK_EQ(KERNEL(t_popf, bit, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], (bit & may) | 2);
		CHECK_EQ(USER(t_popf, bit, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], (bit & may & ~FL_IOPL) | 2);
	}
	CHECK_EQ(KERNEL(t_popf, FL_IF | FL_AC, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], FL_IF | FL_AC | 2);
	/* User code does not change IF. */
	CHECK_EQ(USER(t_popf, FL_IF, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 2);
	/* TF traps after the next instruction. */
	CHECK_EQ(KERNEL(t_popf_twice, FL_TF, 0), 1);
	CHECK_EQ(guest_trap.rip, AT(t_popf_twice, 8));
	CHECK_EQ(guest_trap.gpr[RAX], 1);
	CHECK_EQ(KERNEL(t_popf_twice, 0x8d5, 0x40), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0x8d7);
	CHECK_EQ(guest_trap.gpr[RCX], 0x42);
	/* The stack is not there, or not canonical. */
	CHECK_EQ(USER(t_popf_bad, VA_TEST, 0), 14);
	CHECK_EQ(guest_trap.cr2, VA_TEST);
	CHECK_EQ(guest_trap.rip, VA_USER + 3);
	CHECK_EQ(USER(t_popf_bad, 1ul << 63, 0), 12);
}

static void
y_time(void)
{
	uint64_t cr4 = rdcr4();

	CHECK_EQ(KERNEL(t_rdtsc, 0, 0), GUEST_DONE);
	CHECK((guest_trap.gpr[RDX] << 32 | guest_trap.gpr[RAX]) >=
	    (guest_trap.gpr[RCX] << 32 | guest_trap.gpr[RBX]));
	CHECK_EQ(guest_trap.gpr[RAX] >> 32, 0);
	wrmsr(0xc0000103, 0x4567);
	CHECK_EQ(USER(t_rdtscp, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RCX], 0x4567);
	wrcr4(cr4 | CR4_TSD);
	CHECK_EQ(USER(t_rdtsc, 0, 0), 13);
	CHECK_EQ(guest_trap.rip, VA_USER);
	CHECK_EQ(USER(t_rdtscp, 0, 0), 13);
	CHECK_EQ(KERNEL(t_rdtsc, 0, 0), GUEST_DONE);
	wrcr4(cr4);
	CHECK_EQ(USER(t_rdtsc, 0, 0), GUEST_DONE);
	CHECK_EQ(KERNEL(t_pause, 0, 0), GUEST_DONE);
}

static void
y_bases(void)
{
	uint64_t cr4 = rdcr4(), gs, *page = guest_page();

	CHECK_EQ(KERNEL(t_wrfs, 1, 2), 6);
	wrcr4(cr4 | CR4_FSGSBASE);
	gs = rdmsr(0xc0000101);
	CHECK_EQ(USER(t_wrfs, 0xffff800000001234, 0xabcdef0123456789),
	    GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0xffff800000001234);
	CHECK_EQ(guest_trap.gpr[RBX], 0x23456789);
	CHECK_EQ(rdmsr(0xc0000100), 0x23456789);
	CHECK_EQ(KERNEL(t_wrfs, 0x0000800000000000, 0), 13);
	CHECK_EQ(guest_trap.rip, (word)t_wrfs);
	CHECK_EQ(KERNEL(t_wrgs, 0x7fffffffffff, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x7fffffffffff);
	CHECK_EQ(guest_trap.gpr[RBX], 0xffffffff);
	CHECK_EQ(KERNEL(t_wrgs, 1ul << 63, 0), 13);
	page[1] = 11;
	page[2] = 22;
	CHECK_EQ(KERNEL(t_fsload, (uint64_t)page, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 11);
	CHECK_EQ(guest_trap.gpr[RBX], 22);
	wrmsr(0xc0000101, gs);
	CHECK_EQ(KERNEL(t_msr, 0xc0000101, 0xffff812345678000), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x45678000);
	CHECK_EQ(guest_trap.gpr[RDX], 0xffff8123);
	CHECK_EQ(KERNEL(t_msr, 0xc0000100, 1ul << 47), 13);
	CHECK_EQ(KERNEL(t_msr, 0xc0000102, 0x1234500000), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x34500000);
	wrmsr(0xc0000101, gs);
	wrmsr(0xc0000100, 0);
	CHECK_EQ(USER(t_msr, 0xc0000100, 0), 13);
	wrcr4(cr4);
	CHECK_EQ(USER(t_wrfs, 1, 2), 6);
}

/* In a block, too, what AC opens is open no longer than that. */
static void
y_smap(void)
{
	uint64_t cr4 = rdcr4(), *page = guest_page(), va = VA_TEST;

	guest_map(va, (uint64_t)page, PTE_P | PTE_W | PTE_U, 1);
	page[0] = 7;
	page[1] = 9;
	page[2] = 5;
	/* Without SMAP AC only is a flag. */
	CHECK_EQ(KERNEL(t_clac, va, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 9);
	wrcr4(cr4 | CR4_SMAP);
	for (unsigned i = 0; i < 3; i++) {
		CHECK_EQ(KERNEL(t_stac, va, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 7);
		CHECK_EQ(guest_trap.gpr[RBX], 9);
		CHECK_EQ(guest_trap.gpr[RCX] & FL_AC, 0);
		CHECK_EQ(KERNEL(t_clac, va, 0), 14);
		CHECK_EQ(guest_trap.gpr[RAX], 7);
		CHECK_EQ(guest_trap.rip, AT(t_clac, 9));
		CHECK_EQ(guest_trap.cr2, va + 8);
		CHECK_EQ(guest_trap.error, 1);
		CHECK_EQ(KERNEL(t_stac_stores, va, 7), 14);
		CHECK_EQ(guest_trap.cr2, va + 16);
		page[1] = 9;
		CHECK_EQ(KERNEL(t_stac_loop, va, 0), 14);
		CHECK_EQ(guest_trap.gpr[RCX], 0);
		CHECK_EQ(KERNEL(t_stac2, va, 0), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RCX] & FL_AC, 0);
	}
	/* A fault with AC set pushes it and clears it not. */
	CHECK_EQ(KERNEL(t_stac, va + 4096, 0), 14);
	CHECK((guest_trap.rflags & FL_AC) != 0);
	__asm__ volatile("clac");
	CHECK_EQ(USER(t_stac, va, 0), 6);
	wrcr4(cr4);
	CHECK_EQ(KERNEL(t_stac, va, 0), GUEST_DONE);
}

static void
y_control(void)
{
	uint64_t cr3 = rdcr3(), *a = guest_page(), *b = guest_page();
	uint64_t *l4 = guest_page();

	CHECK_EQ(KERNEL(t_cr, 0x123456789abcdef0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[12], rdcr0());
	CHECK_EQ(guest_trap.gpr[14], cr3);
	CHECK_EQ(guest_trap.gpr[15], rdcr4());
	CHECK_EQ(guest_trap.gpr[RAX], 0x123456789abcdef0);
	CHECK_EQ(USER(t_cr, 0, 0), 13);
	CHECK_EQ(USER(t_cr3, cr3, VA_USTACK), 13);
	/* Another table, in which the page is another: seen at once. */
	a[0] = 1;
	b[0] = 2;
	guest_map(VA_TEST + 0x1000, (uint64_t)a, PTE_P | PTE_W, 1);
	for (unsigned i = 0; i < 512; i++)
		l4[i] = pml4[i];
	{
		uint64_t *l3 = guest_page(), *l2 = guest_page();
		uint64_t *l1 = guest_page();

		l4[VA_TEST >> 39 & 511] = (uint64_t)l3 | 7;
		l3[VA_TEST >> 30 & 511] = (uint64_t)l2 | 7;
		l2[VA_TEST >> 21 & 511] = (uint64_t)l1 | 7;
		l1[1] = (uint64_t)b | 3;
	}
	for (unsigned i = 0; i < 4; i++) {
		CHECK_EQ(KERNEL(t_cr3, (uint64_t)l4, VA_TEST + 0x1000),
		    GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 1);
		CHECK_EQ(guest_trap.gpr[RBX], 2);
		CHECK_EQ(KERNEL(t_cr3, cr3, VA_TEST + 0x1000), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 2);
		CHECK_EQ(guest_trap.gpr[RBX], 1);
	}
	CHECK_EQ(KERNEL(t_seg, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0xffffffffffff0000 | SEL_CODE);
	CHECK_EQ(guest_trap.gpr[RBX], SEL_DATA);
	CHECK_EQ(guest_trap.gpr[RCX], SEL_CODE);
	CHECK_EQ(guest_trap.gpr[RDX], 0xffffffffffff0000 | SEL_CODE);
	CHECK_EQ(USER(t_dir, 1, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX] & FL_DF, FL_DF);
	CHECK_EQ(guest_trap.gpr[RBX] & FL_DF, 0);
	CHECK_EQ(guest_trap.gpr[RCX] & 0xff, 1);
}

static void
y_bits(void)
{
	uint8_t *page = guest_page(), *next = guest_page();
	uint64_t va = VA_TEST + 0x10000, *q = (void *)page;

	guest_map(va, (uint64_t)page, PTE_P | PTE_W, 1);
	guest_map(va + 0x1000, (uint64_t)next, PTE_P | PTE_W, 1);
	*guest_pte(va + 0x2000, 1) = 0;
	for (int64_t bit = -64 * 3; bit < 64 * 3; bit += 7) {
		uint64_t at = va + 0x800;

		CHECK_EQ(KERNEL(t_bts, at, (uint64_t)bit), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX] & 0xff, 0);
		CHECK_EQ(guest_trap.gpr[RBX] & 0xff, 1);
		CHECK_EQ(guest_trap.gpr[RCX] & 0xff, 1);
		CHECK_EQ(guest_trap.gpr[RDX] & 0xff, 0);
		CHECK_EQ(page[0x800 + (bit >> 3)], 1 << (bit & 7));
		page[0x800 + (bit >> 3)] = 0;
		CHECK_EQ(KERNEL(t_lockbts, at, (uint64_t)bit), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX] & 0xff, 0);
		CHECK_EQ(guest_trap.gpr[RBX] & 0xff, 1);
	}
	/* far away, across pages, into the hole */
	CHECK_EQ(KERNEL(t_bts, va, 8 * 0x1000 + 3), GUEST_DONE);
	CHECK_EQ(next[0], 8);
	next[0] = 0;
	CHECK_EQ(KERNEL(t_bts, va, 8 * 0x2000), 14);
	CHECK_EQ(guest_trap.cr2, va + 0x2000);
	CHECK_EQ(guest_trap.rip, (word)t_bts);
	q[0] = 0x1111111122222222;
	q[1] = 100;
	CHECK_EQ(KERNEL(t_xchg, va, 0x3333333344444444), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x1111111122222222);
	CHECK_EQ(guest_trap.gpr[14], 0x44444444);
	CHECK_EQ(guest_trap.gpr[RSI], 100);
	CHECK_EQ(q[0], 0x3333333344444444);
	CHECK_EQ(q[1], 0x3333333344444444 + 100);
}

static void
y_xsave(void)
{
	uint8_t *page = guest_page(), *page2 = guest_page();
	uint64_t va = VA_TEST + 0x20000, *h = (void *)(page + 512);
	uint64_t cr0 = rdcr0(), cr4 = rdcr4();
	uint32_t r[4];

	cpuid(1, 0, r);
	if ((r[2] & 1 << 26) == 0 || (r[2] & 1 << 28) == 0)
		return;
	CHECK_EQ(KERNEL(t_xsave, (uint64_t)page, 0), 6);
	wrcr0(cr0 & ~0xcul);
	wrcr4(cr4 | CR4_OSXSAVE | 0x600);
	__asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	guest_map(va, (uint64_t)page, PTE_P | PTE_W | PTE_U, 1);
	guest_map(va + 0x1000, (uint64_t)page2, PTE_P | PTE_W | PTE_U, 1);
	*guest_pte(va + 0x2000, 1) = 0;
	CHECK_EQ(KERNEL(t_setxmm, 0x1234567812345678, 0), GUEST_DONE);
	CHECK_EQ(USER(t_xsave, va, 0), GUEST_DONE);
	CHECK_EQ(*(uint64_t *)(page + 160 + 9 * 16), 0x1234567812345678);
	CHECK_EQ(h[0] & 3, 3);
	CHECK_EQ(page[4], 0xc0); /* two registers in use */
	/* The instruction pointer is nobody else's. */
	CHECK(*(uint64_t *)(page + 8) == 0 ||
	    *(uint64_t *)(page + 8) - (uint64_t)t_setxmm < 64);
	CHECK_EQ(KERNEL(t_setxmm, 5, 0), GUEST_DONE);
	CHECK_EQ(USER(t_xrstor, va, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x1234567812345678);
	/* across a page */
	CHECK_EQ(USER(t_xsaveopt, va + 0x1000 - 576, 0), GUEST_DONE);
	CHECK_EQ(KERNEL(t_setxmm, 6, 0), GUEST_DONE);
	CHECK_EQ(USER(t_xrstor, va + 0x1000 - 576, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x1234567812345678);
	/* misaligned, and where nothing is */
	CHECK_EQ(USER(t_xsave, va + 8, 0), 13);
	CHECK_EQ(guest_trap.rip, VA_USER + 7);
	CHECK_EQ(USER(t_xrstor, va + 8, 0), 13);
	CHECK_EQ(USER(t_xsave, va + 0x2000, 0), 14);
	CHECK_EQ(guest_trap.cr2, va + 0x2000);
	CHECK_EQ(USER(t_xrstor, va + 0x2000, 0), 14);
	/* headers that are refused */
	CHECK_EQ(USER(t_xsave, va, 0), GUEST_DONE);
	h[0] |= 1ul << 62;
	CHECK_EQ(USER(t_xrstor, va, 0), 13);
	h[0] = 7 | 8;
	CHECK_EQ(USER(t_xrstor, va, 0), 13);
	h[0] = 7;
	h[1] = 1ul << 63 | 7;
	CHECK_EQ(USER(t_xrstor, va, 0), 13);
	h[1] = 0;
	h[2] = 1;
	CHECK_EQ(USER(t_xrstor, va, 0), 13);
	h[2] = 0;
	*(uint32_t *)(page + 24) = 0xffffffff;
	CHECK_EQ(USER(t_xrstor, va, 0), 13);
	*(uint32_t *)(page + 24) = 0x1f80;
	CHECK_EQ(USER(t_xrstor, va, 0), GUEST_DONE);
	wrcr0(cr0 | 8); /* TS */
	CHECK_EQ(USER(t_xsave, va, 0), 7);
	wrcr0(cr0);
	wrcr4(cr4);
}

void
guest_test(void)
{
	y_popf();
	y_time();
	y_bases();
	y_smap();
	y_control();
	y_bits();
	y_xsave();
}
