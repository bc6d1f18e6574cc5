/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A guest gives memory back: the host has it at once, the guest reads zeros when
 * it touches it again, and runs zeros where its code was.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <vmm/vmm.h>

#define MEM (1ul << 20)
#define DATA 0x10000u
#define LEN 0x10000u
#define CODE 0x3000u

#define CHECK(e)                                                              \
	do {                                                                  \
		if (!(e)) {                                                   \
			printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #e,    \
			    vmm_errmsg(NULL));                                \
			exit(1);                                              \
		}                                                             \
	} while (0)

/* Real mode: fills 64 KB, asks, says the OR of all words, calls CODE often
 * and says what AX is then.  Zeros are ADD [BX+SI], AL: harmless with all of them 0. */
__asm__(".pushsection .rodata\n"
    ".code16\n"
    "dc_main:\n"
    "	mov	$0x1000, %ax\n"
    "	mov	%ax, %es\n"
    "	mov	$0xff00, %sp\n"
    "1:	xor	%di, %di\n"
    "	mov	$0x5a5a, %ax\n"
    "	mov	$0x8000, %cx\n"
    "	rep stosw\n"
    "	out	%ax, $0xe8\n"
    "	xor	%bx, %bx\n"
    "	xor	%di, %di\n"
    "	mov	$0x8000, %cx\n"
    "2:	or	%es:(%di), %bx\n"
    "	add	$2, %di\n"
    "	loop	2b\n"
    "	mov	%bx, %ax\n"
    "	out	%ax, $0xe9\n"
    "	mov	$500, %dx\n"
    "3:	xor	%ax, %ax\n"
    "	xor	%bx, %bx\n"
    "	xor	%si, %si\n"
    "	mov	$0x3000, %cx\n"
    "	call	*%cx\n"
    "	dec	%dx\n"
    "	jnz	3b\n"
    "	out	%ax, $0xea\n"
    "	jmp	1b\n"
    "dc_main_end:\n"
    ".code64\n"
    ".popsection");
extern const unsigned char dc_main[], dc_main_end[];

/* Runs to the next word that the guest says, on that port. */
static unsigned
dc_said(struct vmm_vcpu *cpu, struct vmm_exit *ex, unsigned port)
{
	CHECK(vmm_vcpu_run(cpu, ex) == 0);
	CHECK(ex->reason == VMM_EXIT_IO && ex->u.io.port == port && !ex->u.io.in);
	return ex->u.io.data;
}

static const unsigned char dc_code[] = { 0xb8, 0x34, 0x12, 0xc3 };

static uint64_t
dc_resident(struct vmm *vmm)
{
	uint64_t n;

	CHECK(vmm_memseg_resident(vmm, VMM_SYSMEM, &n) == 0);
	return n;
}

static void
dc_start(struct vmm *vmm, struct vmm_vcpu *cpu)
{
	struct vmm_seg s = { .limit = 0xffff, .access = 0x93 };

	CHECK(vmm_vcpu_set_reg(cpu, VMM_REG_CR0, 0x10) == 0);
	for (unsigned i = 0; i < 6; i++)
		if (i != VMM_SEG_CS)
			CHECK(vmm_vcpu_set_seg(cpu, (enum vmm_segreg)i, &s) == 0);
	s.access |= 8;
	CHECK(vmm_vcpu_set_seg(cpu, VMM_SEG_CS, &s) == 0);
	CHECK(vmm_vcpu_set_reg(cpu, VMM_REG_RIP, 0x1000) == 0);
	CHECK(vmm_gpa_write(vmm, 0x1000, dc_main, (uint64_t)(dc_main_end - dc_main),
	    NULL) == 0);
	CHECK(vmm_gpa_write(vmm, CODE + 0x1000, dc_code + 3, 1, NULL) == 0);
}

int
main(void)
{
	struct vmm_config cfg = { .size = sizeof(cfg), .ncpu = 1, .engine = "soft",
		.flags = VMM_CONFIG_NO_CONTROL };
	struct vmm_exit ex = { .size = sizeof(ex) };
	struct vmm_vcpu *cpu;
	struct vmm_hold h;
	struct vmm *vmm;
	uint64_t before;

	setvbuf(stdout, NULL, _IOLBF, 0);
	CHECK(vmm_create("discard", &cfg, &vmm) == 0);
	CHECK(vmm_setup_memory(vmm, MEM, 0) == 0);
	CHECK(vmm_vcpu_open(vmm, 0, &cpu) == 0);
	dc_start(vmm, cpu);
	for (int i = 0; i < 20; i++) {
		CHECK(vmm_gpa_write(vmm, CODE, dc_code, 4, NULL) == 0);
		/* nothing */
		CHECK(dc_said(cpu, &ex, 0xe8) == 0x5a5a);
		CHECK(dc_said(cpu, &ex, 0xe9) == 0x5a5a);
		CHECK(dc_said(cpu, &ex, 0xea) == 0x1234);
		/* all */
		CHECK(dc_said(cpu, &ex, 0xe8) == 0x5a5a);
		before = dc_resident(vmm);
		CHECK(vmm_mem_discard(vmm, DATA, LEN) == 0);
		CHECK(before - dc_resident(vmm) == LEN);
		CHECK(dc_said(cpu, &ex, 0xe9) == 0);
		CHECK(dc_resident(vmm) == before);
		CHECK(dc_said(cpu, &ex, 0xea) == 0x1234);
		/* all but a page; what is held stays, too; and the code goes */
		CHECK(dc_said(cpu, &ex, 0xe8) == 0x5a5a);
		CHECK(vmm_mem_discard(vmm, DATA, LEN - 0x1000) == 0);
		CHECK(vmm_mem_discard(vmm, CODE, 0x1000) == 0);
		CHECK(dc_said(cpu, &ex, 0xe9) == 0x5a5a);
		CHECK(dc_said(cpu, &ex, 0xea) == 0);
		CHECK(dc_said(cpu, &ex, 0xe8) == 0x5a5a);
		CHECK(vmm_gpa_hold(vmm, DATA + 0x3000, 2, VMM_PROT_READ, &h) == 0);
		before = dc_resident(vmm);
		CHECK(vmm_mem_discard(vmm, DATA, LEN) == 0);
		CHECK(before - dc_resident(vmm) == LEN - 0x1000);
		CHECK(*(uint16_t *)h.ptr == 0x5a5a);
		vmm_gpa_release(vmm, &h);
		CHECK(dc_said(cpu, &ex, 0xe9) == 0x5a5a);
		CHECK(dc_said(cpu, &ex, 0xea) == 0);
	}
	vmm_vcpu_close(cpu);
	vmm_close(vmm);
	return 0;
}
