/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Privilege in long mode: IRET and its checks, SYSCALL and SYSRET, call
 * gates, compatibility mode, segment loads, what user code may not do, and
 * values that control registers and MSRs must refuse.
 */
#include "guest64.h"

#define FL_IF 0x200
#define FL_IOPL 0x3000
#define FL_NT 0x4000
#define MSR_EFER 0xc0000080u
#define MSR_STAR 0xc0000081u
#define MSR_LSTAR 0xc0000082u
#define MSR_SFMASK 0xc0000084u

extern const char guest_run_iret[];

SNIPPET(s_done, "nop");
SNIPPET(s_syscall, "mov $0x1234, %eax\nsyscall");
SNIPPET(s_entry, "nop");
SNIPPET(s_sysretq, "mov %rdi, %rcx\nmov %rsi, %r11\nsysretq");
SNIPPET(s_sysretl, "mov %rdi, %rcx\nmov %rsi, %r11\nsysretl");
SNIPPET(s_inc40, ".byte 0x40\nnop"); /* INC EAX; in 64-bit mode a REX */
SNIPPET(s_lcall, "lcall *(%rdi)");
SNIPPET(s_ljmp, "ljmp *(%rdi)");
SNIPPET(s_lret, "push %rsi\npush %rdi\nlretq");
SNIPPET(s_gate_ret, "lretq");
SNIPPET(s_after, "nop");
SNIPPET(s_ds, "mov %edi, %ds");
SNIPPET(s_ss, "mov %edi, %ss");
SNIPPET(s_fs, "mov %edi, %fs");
SNIPPET(s_lar, "xor %eax, %eax\nlar %edi, %eax\nsetz %bl\nmovzbl %bl, %ebx");
SNIPPET(s_lsl, "xor %eax, %eax\nlsl %edi, %eax\nsetz %bl\nmovzbl %bl, %ebx");
SNIPPET(s_verr, "verr %di\nsetz %bl\nmovzbl %bl, %ebx");
SNIPPET(s_verw, "verw %di\nsetz %bl\nmovzbl %bl, %ebx");
SNIPPET(s_hlt, "hlt");
SNIPPET(s_cli, "cli");
SNIPPET(s_cr0, "mov %cr0, %rax");
SNIPPET(s_lgdt, "lgdt (%rdi)");
SNIPPET(s_sgdt, "sgdt (%rdi)");
SNIPPET(s_sldt, "sldt %eax");
SNIPPET(s_smsw, "smsw %eax");
SNIPPET(s_invlpg, "invlpg (%rdi)");
SNIPPET(s_rdmsr, "mov %edi, %ecx\nrdmsr");
SNIPPET(s_wrmsr, "mov %edi, %ecx\nmov %esi, %eax\nmov %rsi, %rdx\n"
    "shr $32, %rdx\nwrmsr");
SNIPPET(s_swapgs, "swapgs");
SNIPPET(s_in, "mov %edi, %edx\nin %dx, %al");
SNIPPET(s_inw, "mov %edi, %edx\nin %dx, %ax");
SNIPPET(s_wrcr0, "mov %rdi, %cr0");
SNIPPET(s_wrcr3, "mov %rdi, %cr3");
SNIPPET(s_wrcr4, "mov %rdi, %cr4");
SNIPPET(s_wrcr8, "mov %rdi, %cr8");
SNIPPET(s_rdtsc, "rdtsc");
SNIPPET(s_dr7, "mov %rdi, %dr7\nmov %dr0, %rax");
SNIPPET(s_gsbase, "wrgsbase %rdi\nswapgs\nrdgsbase %rax\nswapgs\n"
    "rdgsbase %rbx\nmov %gs:0, %rcx");
SNIPPET(s_popf, "push %rdi\npopfq\npushfq\npop %rax");
SNIPPET(s_xsetbv, "mov %edi, %ecx\nmov %esi, %eax\nxor %edx, %edx\nxsetbv");

#define AT(name, n) ((word)(name) + (n))

static unsigned
v_iret(uint64_t rip, uint64_t cs, uint64_t ss, uint64_t rsp, uint64_t rflags)
{
	struct guest_ctx c = { .rip = rip, .cs = cs, .ss = ss,
		.rflags = rflags | 2 };

	c.gpr[RSP] = rsp;
	return guest_run(&c);
}

static void
v_fails(unsigned v, unsigned vector, uint64_t error, int line)
{
	if (v != vector)
		guest_fail("vector", line, v, vector);
	else if (guest_trap.error != error)
		guest_fail("error code", line, guest_trap.error, error);
	else if (guest_trap.rip != (word)guest_run_iret)
		guest_fail("rip", line, guest_trap.rip, (word)guest_run_iret);
}
#define IRET_FAILS(vec, err, ...) \
	v_fails(v_iret(__VA_ARGS__), vec, err, __LINE__)

static void
v_irets(void)
{
	uint64_t k = (uint64_t)s_done, u = VA_USER, sp = VA_USTACK + 4096;

	guest_user_code(s_done, s_done_end);
	CHECK_EQ(v_iret(k, SEL_CODE, SEL_DATA, sp, 0), GUEST_DONE);
	CHECK_EQ(v_iret(k, SEL_CODE, 0, sp, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.ss, 0);
	CHECK_EQ(v_iret(u, SEL_UCODE, SEL_UDATA, sp, FL_IF), GUEST_DONE);
	CHECK((guest_trap.rflags & FL_IF) != 0);
	IRET_FAILS(13, 0, 1ul << 63, SEL_CODE, SEL_DATA, sp, 0);
	IRET_FAILS(13, 0, 1ul << 47, SEL_UCODE, SEL_UDATA, sp, 0);
	IRET_FAILS(13, 0, k, 0, SEL_DATA, sp, 0);
	IRET_FAILS(13, 0, u, SEL_UCODE, 0, sp, 0);
	IRET_FAILS(13, 0, u, SEL_UCODE, 3, sp, 0);
	IRET_FAILS(13, SEL_DATA, k, SEL_DATA, SEL_DATA, sp, 0);
	IRET_FAILS(13, SEL_UCODE & ~3, u, SEL_UCODE & ~3, SEL_DATA, sp, 0);
	IRET_FAILS(13, SEL_DATA, u, SEL_UCODE, SEL_DATA, sp, 0);
	IRET_FAILS(13, 0x78 * 0 + SEL_TSS, k, SEL_TSS, SEL_DATA, sp, 0);
	IRET_FAILS(13, 0x80, k, 0x80, SEL_DATA, sp, 0); /* outside the GDT */
	guest_gdt[SEL_FREE / 8] = 0x00af1b000000ffff;
	IRET_FAILS(11, SEL_FREE, k, SEL_FREE, SEL_DATA, sp, 0);
	guest_gdt[SEL_FREE / 8] = 0x00ef9b000000ffff; /* L and D */
	IRET_FAILS(13, SEL_FREE, k, SEL_FREE, SEL_DATA, sp, 0);
	guest_gdt[SEL_FREE / 8] = 0x00cf73000000ffff; /* SS not present */
	IRET_FAILS(12, SEL_FREE, u, SEL_UCODE, SEL_FREE | 3, sp, 0);
	/* accessed bits are set */
	guest_gdt[SEL_FREE / 8] = 0x00affa000000ffff;
	guest_gdt[SEL_FREE / 8 + 1] = 0x00cff2000000ffff;
	CHECK_EQ(v_iret(u, SEL_FREE | 3, (SEL_FREE + 8) | 3, sp, 0),
	    GUEST_DONE);
	CHECK_EQ(guest_gdt[SEL_FREE / 8], 0x00affb000000ffff);
	CHECK_EQ(guest_gdt[SEL_FREE / 8 + 1], 0x00cff3000000ffff);
	/* NT: no task to return to in long mode */
	__asm__ volatile("pushfq\norl $0x4000, (%%rsp)\npopfq" : : : "memory");
	CHECK_EQ(v_iret(k, SEL_CODE, SEL_DATA, sp, 0), 13);
	CHECK_EQ(guest_trap.rip, (word)guest_run_iret);
	__asm__ volatile("pushfq\nandl $~0x4000, (%%rsp)\npopfq" : : :
	    "memory");
}

static void
v_compat(void)
{
	guest_user_code(s_inc40, s_inc40_end);
	CHECK_EQ(v_iret(VA_USER, SEL_UCODE, SEL_UDATA, VA_USTACK + 64, 0),
	    GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0);
	/* 32-bit code must lie below 4 GB. */
	guest_map(0x80000000, *guest_pte(VA_USER, 1) & 0xffffffffff000ul,
	    PTE_P | PTE_U, 1);
	CHECK_EQ(v_iret(0x80000000, SEL_UCODE32, SEL_UDATA,
	    0x1234567800000100, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 1);
	CHECK_EQ(guest_trap.cs, SEL_UCODE32);
	CHECK_EQ(guest_trap.rip, 0x80000004);
}

static void
v_syscall(void)
{
	uint64_t efer = rdmsr(MSR_EFER);

	wrmsr(MSR_STAR, (uint64_t)SEL_UCODE32 << 48 | (uint64_t)SEL_CODE << 32);
	wrmsr(MSR_LSTAR, (uint64_t)s_entry);
	wrmsr(MSR_SFMASK, 0x47700);
	CHECK_EQ(USER(s_syscall, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_CODE);
	CHECK_EQ(guest_trap.ss, SEL_DATA);
	CHECK_EQ(guest_trap.rip, AT(s_entry, 3));
	CHECK_EQ(guest_trap.gpr[RCX], VA_USER + 7);
	CHECK_EQ(guest_trap.gpr[11] & 0xfd7, guest_trap.gpr[11] & 0xfd7);
	CHECK_EQ(guest_trap.gpr[RSP], VA_USTACK + 4096);
	guest_user_code(s_syscall, s_syscall_end);
	CHECK_EQ(v_iret(VA_USER, SEL_UCODE, SEL_UDATA, VA_USTACK + 4096,
	    0x246 | 0x400), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[11], 0x646);
	CHECK((guest_trap.rflags & 0x600) == 0);
	/* and back */
	guest_user_code(s_done, s_done_end);
	CHECK_EQ(KERNEL(s_sysretq, VA_USER, 0x246), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.ss, SEL_UDATA);
	CHECK_EQ(guest_trap.rip, VA_USER + 3);
	CHECK((guest_trap.rflags & FL_IF) != 0);
	guest_user_code(s_inc40, s_inc40_end);
	CHECK_EQ(KERNEL(s_sysretl, 0x80000000, 2), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_UCODE32);
	CHECK_EQ(guest_trap.rip, 0x80000004);
	CHECK_EQ(USER(s_sysretq, VA_USER, 2), 13);
	wrmsr(MSR_EFER, efer & ~1ul);
	CHECK_EQ(USER(s_syscall, 0, 0), 6);
	CHECK_EQ(KERNEL(s_sysretq, 0, 0), 6);
	wrmsr(MSR_EFER, efer);
}

static void
v_far(void)
{
	struct {
		uint32_t off;
		uint16_t sel;
	} __attribute__((packed)) *far = guest_page();
	uint64_t *g = &guest_gdt[SEL_FREE / 8], rip = (uint64_t)s_after;

	guest_map(VA_TEST, (uint64_t)far, PTE_P | PTE_W | PTE_U, 1);
	far->off = (uint32_t)rip;
	far->sel = SEL_CODE;
	CHECK_EQ(KERNEL(s_ljmp, (uint64_t)far, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.rip, rip + 3);
	CHECK_EQ(KERNEL(s_lcall, (uint64_t)far, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.rip, rip + 3);
	CHECK_EQ(((uint32_t *)guest_trap.gpr[RSP])[0], AT(s_lcall, 2));
	CHECK_EQ(((uint32_t *)guest_trap.gpr[RSP])[1], SEL_CODE);
	far->sel = SEL_DATA;
	CHECK_EQ(KERNEL(s_ljmp, (uint64_t)far, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_DATA);
	far->sel = 0;
	CHECK_EQ(KERNEL(s_lcall, (uint64_t)far, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	far->sel = SEL_CODE;
	CHECK_EQ(USER(s_ljmp, VA_TEST, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_CODE);
	CHECK_EQ(KERNEL(s_lret, rip, SEL_CODE), GUEST_DONE);
	CHECK_EQ(guest_trap.rip, rip + 3);
	/* A call gate from ring 3, and the way back. */
	g[0] = (rip & 0xffff) | (uint64_t)SEL_CODE << 16 | 0xecul << 40 |
	    (rip & 0xffff0000) << 32;
	g[1] = rip >> 32;
	far->sel = SEL_FREE;
	far->off = 0x55555555;
	CHECK_EQ(USER(s_lcall, VA_TEST, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_CODE);
	CHECK_EQ(guest_trap.ss, 0);
	CHECK_EQ(guest_trap.rip, rip + 3);
	CHECK_EQ(guest_trap.gpr[RSP], *(uint64_t *)(guest_tss + 4) - 32);
	g[0] = ((uint64_t)s_gate_ret & 0xffff) | (uint64_t)SEL_CODE << 16 |
	    0xecul << 40 | ((uint64_t)s_gate_ret & 0xffff0000) << 32;
	CHECK_EQ(USER(s_lcall, VA_TEST, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.ss, SEL_UDATA);
	CHECK_EQ(guest_trap.rip, VA_USER + 4);
	CHECK_EQ(guest_trap.gpr[RSP], VA_USTACK + 4096);
	/* DPL, presence and the upper type field of the gate */
	g[0] &= ~(0x60ul << 40);
	CHECK_EQ(USER(s_lcall, VA_TEST, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	g[0] = (g[0] | 0x60ul << 40) & ~(0x80ul << 40);
	CHECK_EQ(USER(s_lcall, VA_TEST, 0), 11);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	g[0] |= 0x80ul << 40;
	g[1] |= 1ul << 40;
	CHECK_EQ(USER(s_lcall, VA_TEST, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	g[0] = g[1] = 0;
}

static void
v_segments(void)
{
	uint64_t *g = &guest_gdt[SEL_FREE / 8];

	CHECK_EQ(USER(s_ds, 0, 0), GUEST_DONE);
	CHECK_EQ(USER(s_ds, 3, 0), GUEST_DONE);
	CHECK_EQ(USER(s_ds, SEL_UDATA, 0), GUEST_DONE);
	CHECK_EQ(USER(s_ds, SEL_DATA, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_DATA);
	CHECK_EQ(USER(s_ds, 0x1000, 0), 13);
	CHECK_EQ(guest_trap.error, 0x1000);
	CHECK_EQ(USER(s_ds, SEL_UDATA | 4, 0), 13); /* no LDT */
	CHECK_EQ(guest_trap.error, (SEL_UDATA & ~3) | 4);
	CHECK_EQ(USER(s_ss, 0, 0), 13);
	CHECK_EQ(USER(s_ss, SEL_UDATA, 0), GUEST_DONE);
	CHECK_EQ(USER(s_ss, SEL_UCODE, 0), 13);
	CHECK_EQ(KERNEL(s_ss, 0, 0), GUEST_DONE);
	CHECK_EQ(KERNEL(s_ss, SEL_UDATA, 0), 13);
	CHECK_EQ(guest_trap.error, SEL_UDATA & ~3);
	CHECK_EQ(KERNEL(s_ds, SEL_TSS, 0), 13);
	g[0] = 0x00cf72000000ffff;
	CHECK_EQ(USER(s_fs, SEL_FREE | 3, 0), 11);
	CHECK_EQ(guest_trap.error, SEL_FREE);
	CHECK_EQ(g[0], 0x00cf72000000ffff);
	g[0] |= 0x80ul << 40;
	CHECK_EQ(USER(s_fs, SEL_FREE | 3, 0), GUEST_DONE);
	CHECK_EQ(g[0], 0x00cff3000000ffff);
	/* LAR, LSL, VERR, VERW */
	CHECK_EQ(USER(s_lar, SEL_UDATA, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 1);
	CHECK_EQ(guest_trap.gpr[RAX], 0xcff300 & 0xf0ff00);
	CHECK_EQ(USER(s_lar, SEL_DATA, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0);
	CHECK_EQ(guest_trap.gpr[RAX], 0);
	CHECK_EQ(KERNEL(s_lar, SEL_TSS, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 1);
	CHECK_EQ(guest_trap.gpr[RAX], 0x8b00); /* busy */
	CHECK_EQ(KERNEL(s_lsl, SEL_TSS, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x2068);
	CHECK_EQ(KERNEL(s_lsl, SEL_UDATA, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0xffffffff);
	CHECK_EQ(KERNEL(s_lsl, 0x2000, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0);
	CHECK_EQ(USER(s_verr, SEL_UCODE, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 1);
	CHECK_EQ(USER(s_verw, SEL_UCODE, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0);
	CHECK_EQ(USER(s_verw, SEL_UDATA, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 1);
	CHECK_EQ(USER(s_verr, SEL_DATA, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0);
}

static void
v_user_may_not(void)
{
	uint32_t r[4];
	uint64_t fl;

#define GP0(name, a, b)                                \
	do {                                           \
		CHECK_EQ(USER(name, a, b), 13);        \
		CHECK_EQ(guest_trap.error, 0);         \
	} while (0)
	GP0(s_hlt, 0, 0);
	GP0(s_cli, 0, 0);
	GP0(s_cr0, 0, 0);
	GP0(s_lgdt, VA_USTACK, 0);
	GP0(s_invlpg, VA_USTACK, 0);
	GP0(s_rdmsr, 0x10, 0);
	GP0(s_wrmsr, 0x10, 0);
	GP0(s_swapgs, 0, 0);
	GP0(s_wrcr8, 0, 0);
	GP0(s_dr7, 0x400, 0);
	GP0(s_in, 0x60, 0);
	/* the bitmap opens a port; all of its bytes must be open */
	guest_tss[104 + 0x60 / 8] = 0xfe;
	CHECK_EQ(USER(s_in, 0x60, 0), GUEST_DONE);
	GP0(s_inw, 0x60, 0);
	GP0(s_in, 0x61, 0);
	guest_tss[104 + 0x60 / 8] = 0xff;
	/* IOPL 3 opens all */
	guest_user_code(s_cli, s_cli_end);
	CHECK_EQ(v_iret(VA_USER, SEL_UCODE, SEL_UDATA, VA_USTACK + 4096,
	    FL_IOPL | FL_IF), GUEST_DONE);
	CHECK((guest_trap.rflags & FL_IF) == 0);
	/* POPF in ring 3 leaves IF and IOPL alone, and says nothing. */
	guest_user_code(s_popf, s_popf_end);
	CHECK_EQ(USER(s_popf, FL_IF | FL_IOPL | 0xcd7, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0xcd7);
	CHECK_EQ(KERNEL(s_popf, FL_IOPL | 0xcd7, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], FL_IOPL | 0xcd7);
	/* TSD */
	CHECK_EQ(USER(s_rdtsc, 0, 0), GUEST_DONE);
	wrcr4(rdcr4() | 4);
	GP0(s_rdtsc, 0, 0);
	CHECK_EQ(KERNEL(s_rdtsc, 0, 0), GUEST_DONE);
	wrcr4(rdcr4() & ~4ul);
	/* UMIP */
	CHECK_EQ(USER(s_sgdt, VA_USTACK, 0), GUEST_DONE);
	cpuid(7, 0, r);
	if ((r[2] & 4) != 0) {
		wrcr4(rdcr4() | 0x800);
		GP0(s_sgdt, VA_USTACK, 0);
		GP0(s_sldt, 0, 0);
		GP0(s_smsw, 0, 0);
		CHECK_EQ(KERNEL(s_sldt, 0, 0), GUEST_DONE);
		wrcr4(rdcr4() & ~0x800ul);
	}
	(void)fl;
#undef GP0
}

static void
v_refused(void)
{
	uint64_t cr0 = rdcr0(), cr3 = rdcr3(), cr4 = rdcr4();
	uint64_t efer = rdmsr(MSR_EFER), pat = rdmsr(0x277);

#define GP0(name, a, b, at)                                \
	do {                                               \
		CHECK_EQ(KERNEL(name, a, b), 13);          \
		CHECK_EQ(guest_trap.error, 0);             \
		CHECK_EQ(guest_trap.rip, AT(name, at));    \
	} while (0)
	GP0(s_wrcr0, cr0 & ~1ul, 0, 0);		 /* PG without PE */
	GP0(s_wrcr0, cr0 & ~0x80000000ul, 0, 0); /* PG off in 64-bit mode */
	GP0(s_wrcr0, cr0 | 1ul << 32, 0, 0);
	GP0(s_wrcr0, cr0 | 0x20000000, 0, 0); /* NW without CD */
	GP0(s_wrcr3, cr3 | 1ul << 52, 0, 0);
	GP0(s_wrcr4, cr4 & ~0x20ul, 0, 0); /* PAE off in long mode */
	GP0(s_wrcr4, cr4 | 1ul << 31, 0, 0);
	GP0(s_wrcr4, cr4 | 1ul << 13, 0, 0); /* VMXE */
	GP0(s_wrcr8, 16, 0, 0);
	GP0(s_wrmsr, MSR_EFER, efer | 1ul << 40, 11);
	GP0(s_wrmsr, MSR_EFER, efer & ~0x100ul, 11); /* LME with PG */
	GP0(s_wrmsr, MSR_LSTAR, 1ul << 63, 11);
	GP0(s_wrmsr, 0xc0000101, 1ul << 47, 11);
	GP0(s_wrmsr, 0x277, 0x2, 11);
	GP0(s_rdmsr, 0x12345, 0, 2);
	GP0(s_wrmsr, 0x12345, 0, 11);
	CHECK_EQ(rdcr0(), cr0);
	CHECK_EQ(rdcr3(), cr3);
	CHECK_EQ(rdcr4(), cr4);
	CHECK_EQ(rdmsr(MSR_EFER), efer);
	CHECK_EQ(rdmsr(0x277), pat);
	CHECK_EQ(pat, 0x0007040600070406);
	/* LMA cannot be cleared by writing EFER. */
	CHECK_EQ(KERNEL(s_wrmsr, MSR_EFER, efer & ~0x400ul), GUEST_DONE);
	CHECK_EQ(rdmsr(MSR_EFER), efer);
	/* XCR0 */
	CHECK_EQ(KERNEL(s_xsetbv, 0, 1), 6);
	wrcr4(cr4 | 1 << 18);
	GP0(s_xsetbv, 0, 0, 6);
	GP0(s_xsetbv, 0, 5, 6);
	GP0(s_xsetbv, 1, 1, 6);
	CHECK_EQ(KERNEL(s_xsetbv, 0, 1), GUEST_DONE);
	CHECK_EQ(USER(s_xsetbv, 0, 1), 13);
	wrcr4(cr4);
	/* general detect */
	CHECK_EQ(KERNEL(s_dr7, 0x2400, 0), 1);
	CHECK_EQ(guest_trap.rip, AT(s_dr7, 3));
	CHECK_EQ(KERNEL(s_dr7, 0x400, 0), GUEST_DONE);
	GP0(s_dr7, 1ul << 32, 0, 0);
#undef GP0
}

/* What a kernel asks to learn that it need not defend itself. */
static void
v_speculation(void)
{
	uint64_t efer = rdmsr(MSR_EFER);
	uint32_t r[4];

	cpuid(0x80000000, 0, r);
	if (r[0] >= 0x80000021) {
		cpuid(0x80000021, 0, r);
		CHECK((r[0] & 1 << 8) != 0); /* automatic IBRS */
		wrmsr(MSR_EFER, efer | 1 << 21);
		CHECK_EQ(rdmsr(MSR_EFER), efer | 1 << 21);
		wrmsr(MSR_EFER, efer);
		CHECK_EQ(KERNEL(s_rdmsr, 0x10a, 0), 13);
		return;
	}
	CHECK_EQ(KERNEL(s_wrmsr, MSR_EFER, efer | 1 << 21), 13);
	cpuid(7, 0, r);
	CHECK((r[3] & 1 << 29) != 0);
	CHECK_EQ(rdmsr(0x10a) & 0x13, 0x13);
	wrmsr(0x48, 1);
	CHECK_EQ(rdmsr(0x48), 1);
	CHECK_EQ(KERNEL(s_wrmsr, 0x48, 8), 13);
	wrmsr(0x48, 0);
	wrmsr(0x49, 1);
}

static void
v_gs(void)
{
	uint64_t *a = guest_page();

	*a = 0x4321;
	wrcr4(rdcr4() | 1 << 16);
	wrmsr(0xc0000102, 0xffff800000001000);
	CHECK_EQ(KERNEL(s_gsbase, (uint64_t)a, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0xffff800000001000);
	CHECK_EQ(guest_trap.gpr[RBX], (uint64_t)a);
	CHECK_EQ(guest_trap.gpr[RCX], 0x4321);
	CHECK_EQ(KERNEL(s_gsbase, 1ul << 47, 0), 13);
	wrcr4(rdcr4() & ~(1ul << 16));
	CHECK_EQ(KERNEL(s_gsbase, (uint64_t)a, 0), 6);
}

void
guest_test(void)
{
	v_irets();
	v_compat();
	v_syscall();
	v_far();
	v_segments();
	v_user_may_not();
	v_refused();
	v_speculation();
	v_gs();
}
