/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * From multiboot's 32-bit entry to long mode with the first GB identity-mapped
 * by 2 MB pages, then guest_main(); trap stubs and guest_run().
 */
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 3, -(0x1badb002 + 3)

	.text
	.code32
	.globl start
start:
	cld
	movl	$stack_end, %esp
	/* page tables */
	movl	$pdpt + 7, pml4
	movl	$pd + 3, pdpt
	movl	$0x83, %eax
	movl	$pd, %edi
	movl	$512, %ecx
1:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	loop	1b
	movl	$pml4, %eax
	movl	%eax, %cr3
	movl	%cr4, %eax
	orl	$0x20, %eax
	movl	%eax, %cr4
	movl	$0xc0000080, %ecx
	rdmsr
	orl	$0x901, %eax		/* SCE LME NXE */
	wrmsr
	movl	%cr0, %eax
	orl	$0x80010001, %eax	/* PG WP PE */
	movl	%eax, %cr0
	lgdt	gdtr
	ljmp	$8, $start_long
	.code64
start_long:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	call	guest_main
1:	hlt
	jmp	1b

	.globl guest_run
guest_run:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	mov	%rsp, guest_catch
	mov	%rdi, %rax
	pushq	19*8(%rax)		/* ss */
	pushq	4*8(%rax)		/* rsp */
	pushq	18*8(%rax)		/* rflags */
	pushq	17*8(%rax)		/* cs */
	pushq	16*8(%rax)		/* rip */
	mov	1*8(%rax), %rcx
	mov	2*8(%rax), %rdx
	mov	3*8(%rax), %rbx
	mov	5*8(%rax), %rbp
	mov	6*8(%rax), %rsi
	mov	7*8(%rax), %rdi
	mov	8*8(%rax), %r8
	mov	9*8(%rax), %r9
	mov	10*8(%rax), %r10
	mov	11*8(%rax), %r11
	mov	12*8(%rax), %r12
	mov	13*8(%rax), %r13
	mov	14*8(%rax), %r14
	mov	15*8(%rax), %r15
	mov	(%rax), %rax
	.globl guest_run_iret
guest_run_iret:
	iretq

	/* vector and error code are on the stack */
trap_common:
	mov	%rax, guest_trap
	mov	%rcx, guest_trap + 1*8
	mov	%rdx, guest_trap + 2*8
	mov	%rbx, guest_trap + 3*8
	mov	%rbp, guest_trap + 5*8
	mov	%rsi, guest_trap + 6*8
	mov	%rdi, guest_trap + 7*8
	mov	%r8, guest_trap + 8*8
	mov	%r9, guest_trap + 9*8
	mov	%r10, guest_trap + 10*8
	mov	%r11, guest_trap + 11*8
	mov	%r12, guest_trap + 12*8
	mov	%r13, guest_trap + 13*8
	mov	%r14, guest_trap + 14*8
	mov	%r15, guest_trap + 15*8
	popq	guest_trap + 20*8	/* vector */
	popq	guest_trap + 21*8	/* error */
	mov	%rsp, guest_trap + 23*8
	mov	%cr2, %rax
	mov	%rax, guest_trap + 22*8
	popq	guest_trap + 16*8	/* rip */
	popq	guest_trap + 17*8	/* cs */
	popq	guest_trap + 18*8	/* rflags */
	popq	guest_trap + 4*8	/* rsp */
	popq	guest_trap + 19*8	/* ss */
	mov	guest_catch, %rsp
	movq	$0, guest_catch
	cld
	test	%rsp, %rsp
	jz	1f
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	mov	guest_trap + 20*8, %eax
	ret
1:	mov	$stack_end, %rsp
	call	guest_unexpected

	.globl guest_stubs
	.balign 16
guest_stubs:
	n = 0
	.rept 256
	.balign 16
	.if n != 8 && n != 10 && n != 11 && n != 12 && n != 13 && n != 14 && n != 17 && n != 21 && n != 29 && n != 30
	pushq	$0
	.endif
	pushq	$n
	jmp	trap_common
	n = n + 1
	.endr

	.data
	.balign 16
	.globl guest_gdt, guest_gdtr
guest_gdt:
	.quad	0
	.quad	0x00af9b000000ffff	/* 08 code 64 */
	.quad	0x00cf93000000ffff	/* 10 data */
	.quad	0x00cffb000000ffff	/* 18 user code 32 */
	.quad	0x00cff3000000ffff	/* 20 user data */
	.quad	0x00affb000000ffff	/* 28 user code 64 */
	.fill	10, 8, 0
guest_gdtr:
gdtr:	.word	127
	.quad	guest_gdt
	.globl guest_catch
guest_catch: .quad 0

	.bss
	.balign 4096
	.globl pml4, pdpt
pml4:	.skip	4096
pdpt:	.skip	4096
pd:	.skip	4096
	.skip	32768
	.globl stack_end
stack_end:

	.section .note.GNU-stack, "", @progbits
