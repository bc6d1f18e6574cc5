/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exits to the program, and their completion: every device access of an
 * instruction happens exactly once and in order, whatever the instruction is
 * (read-modify-write, misaligned, across the end of memory, REP, two memory
 * operands, vector), although it is run again after each exit.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <vmm/vmm.h>

#define LOAD 0x1000u
#define MEM (1ul << 20)
#define DEV 0x40000000u

__asm__(".pushsection .rodata\n"
    ".code32\n"
    "exit_code:\n"
    "	mov	0x40000000, %eax\n"		/* r4 */
    "	mov	%eax, 0x40000004\n"		/* w4 */
    "	addl	$1, 0x40000010\n"		/* r4 w4 */
    "	lock; incb 0x40000013\n"		/* r1 w1 */
    "	mov	0x40000021, %eax\n"		/* r1 r2 r1 */
    "	mov	%eax, 0x2000\n"
    "	mov	$0x40000100, %esi\n"
    "	mov	$0x2010, %edi\n"
    "	mov	$3, %ecx\n"
    "	rep movsl\n"				/* r4 r4 r4 */
    "	mov	$0x40000200, %edi\n"
    "	mov	$0x55667788, %eax\n"
    "	mov	$2, %ecx\n"
    "	rep stosl\n"				/* w4 w4 */
    "	mov	$0x40000300, %esi\n"
    "	mov	$0x40000400, %edi\n"
    "	mov	$2, %ecx\n"
    "	rep movsw\n"				/* r2 w2 r2 w2 */
    "	mov	$0x8000, %esp\n"
    "	pushl	0x40000500\n"			/* r4 */
    "	popl	0x40000504\n"			/* w4 */
    "	xchg	%eax, 0x40000508\n"		/* r4 w4 */
    "	mov	$0x5000, %edx\n"
    "	mov	$0x2020, %edi\n"
    "	mov	$3, %ecx\n"
    "	rep insb\n"				/* i1 i1 i1 */
    "	mov	$0x2020, %esi\n"
    "	mov	$3, %ecx\n"
    "	rep outsb\n"				/* o1 o1 o1 */
    "	in	%dx, %eax\n"			/* i4 */
    "	out	%ax, %dx\n"			/* o2 */
    "	mov	0xffffe, %eax\n"		/* memory, then r2 */
    "	mov	%eax, 0x2030\n"
    "	movl	$0x04030201, 0xffffe\n"		/* memory, then w2 */
    "	movdqu	0x40000600, %xmm0\n"		/* r8 r8 */
    "	movdqu	%xmm0, 0x2040\n"
    "	movq	%xmm0, 0x40000700\n"		/* w8 */
    "	cmp	%eax, 0x40000800\n"		/* r4 */
    "	hlt\n"
    "exit_code_end:\n"
    ".code64\n"
    ".popsection");
extern const unsigned char exit_code[], exit_code_end[];

struct exit_access {
	char kind; /* r, w, i, o */
	unsigned bytes;
	uint64_t addr, data;
};

/* The n-th access of all reads as n * 0x0101010101010101. */
#define V(n, bytes) ((n) * 0x0101010101010101ul & ~0ul >> (64 - 8 * (bytes)))
static const struct exit_access exit_want[] = {
	{ 'r', 4, DEV, V(1, 4) },
	{ 'w', 4, DEV + 4, V(1, 4) },
	{ 'r', 4, DEV + 0x10, V(3, 4) },
	{ 'w', 4, DEV + 0x10, V(3, 4) + 1 },
	{ 'r', 1, DEV + 0x13, V(5, 1) },
	{ 'w', 1, DEV + 0x13, V(5, 1) + 1 },
	{ 'r', 1, DEV + 0x21, V(7, 1) },
	{ 'r', 2, DEV + 0x22, V(8, 2) },
	{ 'r', 1, DEV + 0x24, V(9, 1) },
	{ 'r', 4, DEV + 0x100, V(10, 4) },
	{ 'r', 4, DEV + 0x104, V(11, 4) },
	{ 'r', 4, DEV + 0x108, V(12, 4) },
	{ 'w', 4, DEV + 0x200, 0x55667788 },
	{ 'w', 4, DEV + 0x204, 0x55667788 },
	{ 'r', 2, DEV + 0x300, V(15, 2) },
	{ 'w', 2, DEV + 0x400, V(15, 2) },
	{ 'r', 2, DEV + 0x302, V(17, 2) },
	{ 'w', 2, DEV + 0x402, V(17, 2) },
	{ 'r', 4, DEV + 0x500, V(19, 4) },
	{ 'w', 4, DEV + 0x504, V(19, 4) },
	{ 'r', 4, DEV + 0x508, V(21, 4) },
	{ 'w', 4, DEV + 0x508, 0x55667788 },
	{ 'i', 1, 0x5000, V(23, 1) },
	{ 'i', 1, 0x5000, V(24, 1) },
	{ 'i', 1, 0x5000, V(25, 1) },
	{ 'o', 1, 0x5000, V(23, 1) },
	{ 'o', 1, 0x5000, V(24, 1) },
	{ 'o', 1, 0x5000, V(25, 1) },
	{ 'i', 4, 0x5000, V(29, 4) },
	{ 'o', 2, 0x5000, V(29, 2) },
	{ 'r', 2, MEM, V(31, 2) },
	{ 'w', 2, MEM, 0x0403 },
	{ 'r', 8, DEV + 0x600, V(33, 8) },
	{ 'r', 8, DEV + 0x608, V(34, 8) },
	{ 'w', 8, DEV + 0x700, V(33, 8) },
	{ 'r', 4, DEV + 0x800, V(36, 4) },
};
#define EXIT_NWANT (sizeof(exit_want) / sizeof(exit_want[0]))

static int exit_bad;

static void
exit_check(bool ok, const char *what, uint64_t got, uint64_t want)
{
	if (ok)
		return;
	printf("%s: 0x%lx, not 0x%lx\n", what, got, want);
	exit_bad = 1;
}

/* Answers ex, the n-th access (from 0). */
static void
exit_answer(struct vmm_exit *ex, unsigned n)
{
	struct exit_access a = { 0 };
	char what[64];

	if (ex->reason == VMM_EXIT_IO) {
		a.kind = ex->u.io.in ? 'i' : 'o';
		a.bytes = ex->u.io.bytes;
		a.addr = ex->u.io.port;
		if (ex->u.io.in)
			ex->u.io.data = (uint32_t)V(n + 1, a.bytes);
		a.data = ex->u.io.data;
	} else {
		a.kind = ex->u.mmio.write ? 'w' : 'r';
		a.bytes = ex->u.mmio.bytes;
		a.addr = ex->u.mmio.gpa;
		if (!ex->u.mmio.write)
			ex->u.mmio.data = V(n + 1, a.bytes);
		a.data = ex->u.mmio.data;
	}
	if (n >= EXIT_NWANT) {
		exit_check(false, "accesses", n + 1, EXIT_NWANT);
		return;
	}
	(void)snprintf(what, sizeof(what), "access %u at rip 0x%lx: kind", n,
	    ex->rip);
	exit_check(a.kind == exit_want[n].kind, what, (uint64_t)a.kind,
	    (uint64_t)exit_want[n].kind);
	exit_check(a.addr == exit_want[n].addr, "  address", a.addr,
	    exit_want[n].addr);
	exit_check(a.bytes == exit_want[n].bytes, "  bytes", a.bytes,
	    exit_want[n].bytes);
	exit_check(a.data == exit_want[n].data, "  data", a.data,
	    exit_want[n].data);
}

/* 32-bit flat segments and SSE, without a table in memory. */
static int
exit_setup(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_seg s = { .limit = 0xffffffff,
		.access = 0x93 | VMM_SEG_DB | VMM_SEG_G };
	int error = vmm_vcpu_set_reg(cpu, VMM_REG_CR0, 0x11);

	error |= vmm_vcpu_set_reg(cpu, VMM_REG_CR4, 0x200);
	for (unsigned i = 0; i < 6; i++)
		if (i != VMM_SEG_CS)
			error |= vmm_vcpu_set_seg(cpu, (enum vmm_segreg)i, &s);
	s.access |= 8;
	error |= vmm_vcpu_set_seg(cpu, VMM_SEG_CS, &s);
	error |= vmm_vcpu_set_reg(cpu, VMM_REG_RIP, LOAD);
	error |= vmm_gpa_write(vmm, LOAD, exit_code,
	    (uint64_t)(exit_code_end - exit_code), NULL);
	error |= vmm_gpa_write(vmm, MEM - 2, "\xaa\xbb", 2, NULL);
	return error;
}

static void
exit_memory(struct vmm *vmm)
{
	uint32_t m[32];
	uint8_t end[2];

	if (vmm_gpa_read(vmm, 0x2000, m, sizeof(m), NULL) != 0 ||
	    vmm_gpa_read(vmm, MEM - 2, end, 2, NULL) != 0) {
		exit_check(false, "memory", 0, 0);
		return;
	}
	exit_check(m[0] == 0x09080807, "misaligned", m[0], 0x09080807);
	exit_check(m[4] == V(10, 4), "movsl 0", m[4], V(10, 4));
	exit_check(m[6] == V(12, 4), "movsl 2", m[6], V(12, 4));
	exit_check((m[8] & 0xffffff) == 0x191817, "insb", m[8], 0x191817);
	exit_check(m[12] == 0x1f1fbbaa, "end of memory", m[12], 0x1f1fbbaa);
	exit_check(end[0] == 1 && end[1] == 2, "last bytes",
	    (uint64_t)end[1] << 8 | end[0], 0x0201);
	exit_check(m[16] == V(33, 4) && m[19] == V(34, 4), "movdqu", m[19],
	    V(34, 4));
}

int
main(void)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1,
		.engine = "soft", .flags = VMM_CONFIG_NO_CONTROL };
	struct vmm_exit ex = { .size = sizeof(ex) };
	struct vmm_vcpu *cpu = NULL;
	struct vmm *vmm = NULL;
	unsigned n = 0;
	int error;

	setvbuf(stdout, NULL, _IOLBF, 0);
	error = vmm_create("exit-test", &cfg, &vmm);
	if (error == 0)
		error = vmm_setup_memory(vmm, MEM, 0);
	if (error == 0)
		error = vmm_vcpu_open(vmm, 0, &cpu);
	if (error == 0)
		error = exit_setup(vmm, cpu);
	while (error == 0) {
		error = vmm_vcpu_run(cpu, &ex);
		if (error != 0 || (ex.reason != VMM_EXIT_IO &&
		    ex.reason != VMM_EXIT_MMIO))
			break;
		exit_answer(&ex, n++);
		if (n > EXIT_NWANT)
			break;
	}
	if (error != 0) {
		printf("%s (%d)\n", vmm_errmsg(vmm), error);
		return 1;
	}
	exit_check(n == EXIT_NWANT, "accesses", n, EXIT_NWANT);
	exit_check(ex.reason == VMM_EXIT_SUSPEND &&
	    ex.u.suspend.how == VMM_SUSPEND_HALT, "end", ex.reason,
	    VMM_EXIT_SUSPEND);
	exit_memory(vmm);
	vmm_vcpu_close(cpu);
	vmm_close(vmm);
	return exit_bad;
}
