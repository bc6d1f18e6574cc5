/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The 32-bit framework: protected mode without paging, trap stubs,
 * guest_run(), and a trip through real mode.
 */
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 3, -(0x1badb002 + 3)

	.text
	.globl start
start:
	cld
	movl	$stack_end, %esp
	lgdt	guest_gdtr
	ljmp	$8, $1f
1:	movl	$0x10, %eax
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
	pushl	%ebx
	pushl	%ebp
	pushl	%esi
	pushl	%edi
	pushfl
	movl	%esp, guest_catch
	movl	24(%esp), %eax
	testl	$3, 9*4(%eax)
	jz	1f
	pushl	11*4(%eax)		/* ss */
	pushl	4*4(%eax)		/* esp */
	pushl	10*4(%eax)		/* eflags */
	pushl	9*4(%eax)		/* cs */
	pushl	8*4(%eax)		/* eip */
	jmp	2f
1:	movl	4*4(%eax), %esp
	pushl	10*4(%eax)
	pushl	9*4(%eax)
	pushl	8*4(%eax)
2:	movl	1*4(%eax), %ecx
	movl	2*4(%eax), %edx
	movl	3*4(%eax), %ebx
	movl	5*4(%eax), %ebp
	movl	6*4(%eax), %esi
	movl	7*4(%eax), %edi
	movl	(%eax), %eax
	.globl guest_run_iret
guest_run_iret:
	iretl

trap_common:
	movl	%eax, %ss:guest_trap
	movl	%ds, %eax
	movl	%eax, %ss:guest_trap_ds
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%ecx, guest_trap + 1*4
	movl	%edx, guest_trap + 2*4
	movl	%ebx, guest_trap + 3*4
	movl	%ebp, guest_trap + 5*4
	movl	%esi, guest_trap + 6*4
	movl	%edi, guest_trap + 7*4
	popl	guest_trap + 12*4	/* vector */
	popl	guest_trap + 13*4	/* error */
	movl	%esp, guest_trap + 15*4
	movl	%cr2, %eax
	movl	%eax, guest_trap + 14*4
	popl	guest_trap + 8*4
	popl	guest_trap + 9*4
	popl	guest_trap + 10*4
	testl	$3, guest_trap + 9*4
	jz	1f
	popl	guest_trap + 4*4
	popl	guest_trap + 11*4
	jmp	2f
1:	movl	%esp, guest_trap + 4*4
	movl	%ss, %eax
	movl	%eax, guest_trap + 11*4
2:	movl	$0x10, %eax
	movl	%eax, %ss
	movl	guest_catch, %esp
	movl	$0, guest_catch
	cld
	testl	%esp, %esp
	jz	1f
	popfl
	popl	%edi
	popl	%esi
	popl	%ebp
	popl	%ebx
	movl	guest_trap + 12*4, %eax
	ret
1:	movl	$stack_end, %esp
	call	guest_unexpected

	.globl guest_stubs
	.balign 16
guest_stubs:
	n = 0
	.rept 256
	.balign 16
	.if n != 8 && n != 10 && n != 11 && n != 12 && n != 13 && n != 14 && n != 17 && n != 21 && n != 29 && n != 30
	pushl	$0
	.endif
	pushl	$n
	jmp	trap_common
	n = n + 1
	.endr

/*
 * void guest_real(void): copies real_code to 0x8000, leaves protected mode,
 * runs it there, and comes back.  What it finds is in real_result.
 */
	.globl guest_real
guest_real:
	pushal
	pushfl
	cli
	movl	%esp, real_esp
	movl	$real_code, %esi
	movl	$0x8000, %edi
	movl	$real_end - real_code, %ecx
	rep movsb
	ljmp	$0x60, $0x8000		/* 16-bit code, base 0 */
real_back:
	movl	$0x10, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %ss
	movl	%eax, %fs
	movl	%eax, %gs
	movl	real_esp, %esp
	popfl
	popal
	ret

#define R(x) (0x8000 + (x) - real_code)
	.code16
real_code:
	movw	$0x68, %ax		/* 16-bit data, base 0, limit 64 K */
	movw	%ax, %ds
	movw	%ax, %es
	movw	%ax, %ss
	movl	%cr0, %eax
	andl	$~1, %eax
	movl	%eax, %cr0
	ljmp	$0x700, $(0x8000 - 0x7000 + 1f - real_code)
1:	xorw	%ax, %ax
	movw	%ax, %ds
	movw	$0x900, %ax
	movw	%ax, %ss
	movl	$0x12340000, %esp	/* the upper half is not used */
	movw	$0x2000, %ax
	movw	%ax, %es
	lidtl	R(real_idt)
	/* vector 0x20: at 0700:xxxx */
	movw	$(0x8000 - 0x7000 + real_int - real_code), 0x80
	movw	$0x700, 0x82
	movw	$(0x8000 - 0x7000 + real_int - real_code), 0x18	/* #UD */
	movw	$0x700, 0x1a
	movw	$0, R(real_count)
	movw	$0x1111, %bx
	int	$0x20
	pushw	%bx			/* wraps below 0 */
	popw	%cx
	movw	%cx, R(real_r0)
	movw	%sp, R(real_r1)
	/* ES:DI with a string, and the segment base */
	movw	$4, %cx
	xorw	%di, %di
	movb	$0xa5, %al
	rep stosb
	movl	$0x20000, %esi
	shrl	$4, %esi
	movw	%si, %ds
	movl	0, %eax
	xorw	%dx, %dx
	movw	%dx, %ds
	movl	%eax, R(real_r2)
	ud2
	lcall	$0x700, $(0x8000 - 0x7000 + real_far - real_code)
	movw	%dx, R(real_r3)
	pushfw
	popw	%ax
	movw	%ax, R(real_r4)
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$8, $real_back
real_far:
	movw	$0x7777, %dx
	lretw
real_int:
	incw	R(real_count)
	movw	%sp, %bp
	cmpw	$0x0b0f, %ss:(%bp)	/* not taken: for the read */
	movw	(%bp), %si
	cmpb	$0x0f, %cs:(%si)
	jne	1f
	addw	$2, (%bp)		/* over UD2 */
1:	addw	$0x1111, %bx
	iretw
	.balign 4
real_idt:
	.word	0x3ff
	.long	0
real_count: .word 0
real_r0: .word	0
real_r1: .word	0
real_r3: .word	0
real_r4: .word	0
real_r2: .long	0
real_end:
	.code32
	.globl real_off_count, real_off_r0
	real_off_count = R(real_count)
	real_off_r0 = R(real_r0)

	.data
	.balign 16
	.globl guest_gdt, guest_gdtr
guest_gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 08 code */
	.quad	0x00cf93000000ffff	/* 10 data */
	.quad	0x00cffb000000ffff	/* 18 user code */
	.quad	0x00cff3000000ffff	/* 20 user data */
	.quad	0
	.fill	6, 8, 0			/* 30 TSS, 40.. free */
	.quad	0x00009b000000ffff	/* 60 16-bit code */
	.quad	0x000093000000ffff	/* 68 16-bit data */
	.fill	2, 8, 0
guest_gdtr:
	.word	127
	.long	guest_gdt
	.globl guest_catch, guest_trap_ds
guest_catch: .long 0
guest_trap_ds: .long 0
real_esp: .long 0

	.bss
	.balign 16
	.skip	32768
stack_end:
	.section .note.GNU-stack, "", @progbits
