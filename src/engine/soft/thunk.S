/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * int exec_thunk_vec(cpu, mem, fn, xsave, mask)
 *
 * Loads the guest's vector state, calls the thunk, saves it again, and gives
 * the caller back what the ABI lets it expect: MXCSR and the x87 control word
 * of the host, an empty x87 stack, clean upper halves.  No C runs between.
 */
	.text
	.globl	exec_thunk_vec
	.hidden	exec_thunk_vec
	.type	exec_thunk_vec, @function
exec_thunk_vec:
	push	%rbx
	push	%rbp
	push	%r12
	mov	%rcx, %rbx
	mov	%r8d, %ebp
	mov	%rdx, %rcx
	mov	%ebp, %eax
	xor	%edx, %edx
	xrstor64 (%rbx)
	call	*%rcx
	mov	%eax, %r12d
	mov	%ebp, %eax
	xor	%edx, %edx
	xsave64	(%rbx)
	test	$4, %ebp
	jz	1f
	vzeroupper
1:	/* x87: control word, tags and pending exceptions as the host's? */
	cmpw	$0x37f, (%rbx)
	jne	2f
	cmpb	$0, 4(%rbx)
	jne	2f
	testb	$0x80, 2(%rbx)
	jz	3f
2:	fninit
3:	cmpl	$0x1f80, 24(%rbx)
	je	4f
	ldmxcsr	soft_host_mxcsr(%rip)
4:	mov	%r12d, %eax
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size	exec_thunk_vec, . - exec_thunk_vec

	.section .rodata
	.align	4
	.type	soft_host_mxcsr, @object
	.hidden	soft_host_mxcsr
	.globl	soft_host_mxcsr
soft_host_mxcsr:
	.long	0x1f80
	.size	soft_host_mxcsr, 4
	.section .note.GNU-stack,"",@progbits
