/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * In and out of generated code.  GS base is the struct soft_cpu; code_off.h
 * (checked in run.c) has the offsets of its fields.
 */
#include "engine/soft/code_off.h"

	.text
/* void soft_code_enter(cpu, entry) */
	.globl	soft_code_enter
	.hidden	soft_code_enter
	.type	soft_code_enter, @function
soft_code_enter:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	sub	$8, %rsp
	mov	%rsp, CPU_HOST_RSP(%rdi)
	mov	%rsi, %r15
	mov	CPU_GPR+0*8(%rdi), %rax
	mov	CPU_GPR+1*8(%rdi), %rcx
	mov	CPU_GPR+2*8(%rdi), %rdx
	mov	CPU_GPR+3*8(%rdi), %rbx
	mov	CPU_GPR+4*8(%rdi), %r12
	mov	CPU_GPR+5*8(%rdi), %rbp
	mov	CPU_GPR+6*8(%rdi), %rsi
	mov	CPU_GPR+8*8(%rdi), %r8
	mov	CPU_GPR+9*8(%rdi), %r9
	mov	CPU_GPR+10*8(%rdi), %r10
	mov	CPU_GPR+11*8(%rdi), %r11
	mov	CPU_SHADOW_RSP(%rdi), %rsp
	mov	CPU_GPR+7*8(%rdi), %rdi
	jmp	*%r15
	.size	soft_code_enter, . - soft_code_enter

/*
 * Called from cold code; a struct code_site follows the call.  Generated code
 * runs on the shadow stack (shadow.c), C on the thread's own.
 */
	.globl	soft_code_slow
	.hidden	soft_code_slow
	.type	soft_code_slow, @function
soft_code_slow:
	mov	%rax, %gs:CPU_GPR+0*8
	mov	%rcx, %gs:CPU_GPR+1*8
	mov	%rdx, %gs:CPU_GPR+2*8
	mov	%rbx, %gs:CPU_GPR+3*8
	mov	%r12, %gs:CPU_GPR+4*8
	mov	%rbp, %gs:CPU_GPR+5*8
	mov	%rsi, %gs:CPU_GPR+6*8
	mov	%rdi, %gs:CPU_GPR+7*8
	mov	%r8, %gs:CPU_GPR+8*8
	mov	%r9, %gs:CPU_GPR+9*8
	mov	%r10, %gs:CPU_GPR+10*8
	mov	%r11, %gs:CPU_GPR+11*8
	rdgsbase %rdi
	pop	%rsi
	mov	%rsp, CPU_SHADOW_RSP(%rdi)
	mov	CPU_HOST_RSP(%rdi), %rsp /* 16 at the call, for the ABI */
	mov	%r13, %rdx
	call	soft_slow
	test	%rax, %rax
	jz	soft_code_out
	mov	%gs:CPU_SHADOW_RSP, %rsp
	push	%rax
	mov	%gs:CPU_GPR+0*8, %rax
	mov	%gs:CPU_GPR+1*8, %rcx
	mov	%gs:CPU_GPR+2*8, %rdx
	mov	%gs:CPU_GPR+4*8, %r12
	mov	%gs:CPU_GPR+6*8, %rsi
	mov	%gs:CPU_GPR+7*8, %rdi
	mov	%gs:CPU_GPR+8*8, %r8
	mov	%gs:CPU_GPR+9*8, %r9
	mov	%gs:CPU_GPR+10*8, %r10
	mov	%gs:CPU_GPR+11*8, %r11
	ret			/* one for the call: returns stay predicted */
	.size	soft_code_slow, . - soft_code_slow

/* All guest state is in the soft_cpu: back to the caller of enter. */
	.globl	soft_code_out
	.hidden	soft_code_out
	.type	soft_code_out, @function
soft_code_out:
	mov	%gs:CPU_HOST_RSP, %rsp
	add	$8, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret
	.size	soft_code_out, . - soft_code_out
	.section .note.GNU-stack,"",@progbits
