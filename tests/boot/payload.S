/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry of the small kernel that tests the loader's 32-bit protocols.  Built
 * twice: with a multiboot header, or with the note that makes it PVH.
 */
#ifdef PAYLOAD_PVH
	.section .note.pvh, "a", @note
	.balign 4
	.long 4, 4, 18			/* Xen, PHYS32_ENTRY */
	.asciz "Xen"
	.long payload_entry
#else
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 3, -(0x1badb002 + 3)
#endif
	.text
	.globl payload_entry
payload_entry:
	/* What the protocol promises, before anything changes it. */
	movl	$payload_stack_end, %esp
	pushl	%ebx
	pushl	%eax
	pushfl
	popl	payload_eflags
	movl	%cr0, %ecx
	movl	%ecx, payload_cr0
	movl	%cr4, %ecx
	movl	%ecx, payload_cr4
	movw	%cs, payload_sel
	movw	%ds, payload_sel + 2
	call	payload_main
1:	cli
	hlt
	jmp	1b

	/* payload_triple(): an exception without an IDT. */
	.globl payload_triple
payload_triple:
	lidt	payload_noidt
	ud2

	.section .rodata
payload_noidt:
	.word	0
	.long	0

	.bss
	.balign 16
	.skip	16384
payload_stack_end:
	.globl payload_eflags, payload_cr0, payload_cr4, payload_sel
payload_eflags:
	.skip	4
payload_cr0:
	.skip	4
payload_cr4:
	.skip	4
payload_sel:
	.skip	4

	.section .note.GNU-stack, "", @progbits
