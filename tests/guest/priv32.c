/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Protected mode without paging: stacks of the TSS, call gates with
 * parameters, segment limits and rights, SYSENTER, 16-bit code, real mode.
 */
#include "guest32.h"

SNIPPET(s_done, "nop");
SNIPPET(s_ud, "ud2");
SNIPPET(s_load, "mov %esi, %ds\nmov (%edi), %eax");
SNIPPET(s_store, "mov %esi, %ds\nmov %eax, (%edi)");
SNIPPET(s_load_ss, "mov %ss:(%edi), %eax");
SNIPPET(s_lcall, "push $0x33333333\npush $0x44444444\nlcall *%cs:(%edi)");
SNIPPET(s_lret8, "lret $8");
SNIPPET(s_into, "mov $0x7fffffff, %eax\nadd $1, %eax\ninto");
SNIPPET(s_bound, "bound %eax, (%edi)");
SNIPPET(s_cli, "cli");
SNIPPET(s_int3, "int3");
SNIPPET(s_arpl, "arpl %si, %di\nsetz %bl\nmovzbl %bl, %ebx");
SNIPPET(s_lldt, "lldt %di\nsldt %ebx\nmov %esi, %eax\nmov %eax, %fs\n"
    "mov %fs:0, %ecx");
SNIPPET(s_sysenter, "mov $9f, %edx\nmov %esp, %ecx\nsysenter\n9:\nnop");
SNIPPET(s_sysexit, "sysexit");
SNIPPET(s_code16, ".code16\nmov $0x1234, %eax\nadd $0xffff, %ax\n.code32");
SNIPPET(s_lss, "lss (%edi), %esp\npush $7");
SNIPPET(s_pusha, "pusha\npop %eax\npop %ebx");

#define AT(name, n) ((word)(name) + (n))
#define G(sel) guest_gdt[(sel) / 8]
extern const char real_off_count[], real_off_r0[];
void guest_real(void);

static void
d_frames(void)
{
	CHECK_EQ(KERNEL(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.rip, AT(s_ud, 0));
	CHECK_EQ(guest_trap.frame, STACK32 - 12);
	CHECK_EQ(USER(s_ud, 0, 0), 6);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.ss, SEL_UDATA);
	CHECK_EQ(guest_trap.gpr[RSP], STACK32);
	CHECK_EQ(guest_trap.frame + 20, *(uint32_t *)(guest_tss + 4));
	CHECK_EQ(USER(s_cli, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(USER(s_int3, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 3 * 8 + 2);
	guest_gate(4, guest_stub(4), SEL_CODE, GATE_INT, 3, 0);
	CHECK_EQ(USER(s_into, 0, 0), 4);
	CHECK_EQ(guest_trap.rip, AT(s_into, 9));
	/* Return to an outer level takes DS away. */
	CHECK_EQ(USER(s_done, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap_ds, 0);
}

static void
d_segments(void)
{
	uint32_t *page = guest_page();

	page[0] = 0x11111111;
	page[64] = 0x22222222;
	/* 256 bytes, user */
	G(0x40) = guest_desc((uint32_t)page, 0xff, 0xf2, 4);
	CHECK_EQ(USER(s_load, 0, 0x43), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x11111111);
	CHECK_EQ(G(0x40) >> 40 & 0xff, 0xf3); /* accessed */
	CHECK_EQ(USER(s_load, 0xfc, 0x43), GUEST_DONE);
	CHECK_EQ(USER(s_load, 0xfd, 0x43), 13);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(USER(s_load, 0xffffffff, 0x43), 13);
	/* expand down: valid above the limit */
	G(0x40) = guest_desc((uint32_t)page, 0xff, 0xf6, 4);
	CHECK_EQ(USER(s_load, 0x100, 0x43), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x22222222);
	CHECK_EQ(USER(s_load, 0xff, 0x43), 13);
	/* read-only, execute-only */
	G(0x40) = guest_desc((uint32_t)page, 0xff, 0xf0, 4);
	CHECK_EQ(USER(s_load, 0, 0x43), GUEST_DONE);
	CHECK_EQ(USER(s_store, 0, 0x43), 13);
	G(0x40) = guest_desc((uint32_t)page, 0xff, 0xf8, 4);
	CHECK_EQ(USER(s_load, 0, 0x43), 13);
	CHECK_EQ(guest_trap.error, 0x40);
	G(0x40) = guest_desc((uint32_t)page, 0xff, 0xfa, 4);
	CHECK_EQ(USER(s_load, 0, 0x43), GUEST_DONE);
	/* null: loads, then faults */
	CHECK_EQ(USER(s_load, 0, 0), 13);
	CHECK_EQ(guest_trap.error, 0);
	CHECK_EQ(guest_trap.rip, AT(s_load, 2));
	/* a small stack segment */
	G(0x48) = guest_desc((uint32_t)guest_stack32, 0xfff, 0xf2, 4);
	{
		struct guest_ctx c = guest_context(s_load_ss, 3);

		c.ss = 0x4b;
		c.gpr[RSP] = 0x800;
		c.gpr[RDI] = 0x1000;
		CHECK_EQ(guest_run(&c), 12);
		CHECK_EQ(guest_trap.error, 0);
		c.rip = (word)s_pusha;
		CHECK_EQ(guest_run(&c), GUEST_DONE);
		CHECK_EQ(guest_trap.gpr[RAX], 0x1000);
		c.gpr[RSP] = 0x10;
		CHECK_EQ(guest_run(&c), 12);
		CHECK_EQ(guest_trap.gpr[RSP], 0x10);
	}
	/* LSS, then a push on it */
	page[0] = 0x900;
	page[1] = 0x4b;
	G(0x50) = guest_desc((uint32_t)page, 0xfff, 0xf2, 4);
	{
		struct guest_ctx c = guest_context(s_lss, 3);

		/* DS is null after the return to ring 3: through SS */
		c.gpr[RDI] = 0;
		CHECK_EQ(guest_run(&c), 13);
	}
	CHECK_EQ(KERNEL(s_arpl, 0x10, 0x13), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RDI], 0x13);
	CHECK_EQ(guest_trap.gpr[RBX], 1);
	CHECK_EQ(KERNEL(s_arpl, 0x13, 0x10), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RBX], 0);
	/* an LDT */
	page[0] = 0x5a5a5a5a;
	*(uint64_t *)(page + 2) = guest_desc((uint32_t)page, 0xff, 0x92, 4);
	G(0x58) = guest_desc((uint32_t)page, 0xf, 0x82, 0);
	CHECK_EQ(KERNEL(s_lldt, 0x58, 0x0c), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RCX], 0x5a5a5a5a);
	CHECK_EQ(guest_trap.gpr[RBX] & 0xffff, 0x58);
	CHECK_EQ(KERNEL(s_lldt, 0x58, 0x14), 13);
	CHECK_EQ(guest_trap.error, 0x14);
	CHECK_EQ(KERNEL(s_lldt, 0x40, 0), 13);
	CHECK_EQ(guest_trap.error, 0x40);
}

static void
d_call_gate(void)
{
	static struct {
		uint32_t off;
		uint16_t sel;
	} __attribute__((packed)) far = { 0, 0x40 };
	uint32_t rip = (uint32_t)s_done;

	/* two parameters, DPL 3 */
	G(0x40) = (rip & 0xffff) | SEL_CODE << 16 | 2ull << 32 |
	    0xecull << 40 | (uint64_t)(rip >> 16) << 48;
	CHECK_EQ(USER(s_lcall, (uint32_t)&far, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_CODE);
	CHECK_EQ(guest_trap.gpr[RSP], *(uint32_t *)(guest_tss + 4) - 24);
	{
		uint32_t *f = (uint32_t *)guest_trap.gpr[RSP];

		CHECK_EQ(f[0], AT(s_lcall, 13));
		CHECK_EQ(f[1], SEL_UCODE);
		CHECK_EQ(f[2], 0x44444444);
		CHECK_EQ(f[3], 0x33333333);
		CHECK_EQ(f[4], STACK32 - 8);
		CHECK_EQ(f[5], SEL_UDATA);
	}
	rip = (uint32_t)s_lret8;
	G(0x40) = (rip & 0xffff) | SEL_CODE << 16 | 2ull << 32 |
	    0xecull << 40 | (uint64_t)(rip >> 16) << 48;
	CHECK_EQ(USER(s_lcall, (uint32_t)&far, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.rip, AT(s_lcall, 15));
	CHECK_EQ(guest_trap.gpr[RSP], STACK32);
	/* from ring 0: same level, no copy */
	rip = (uint32_t)s_done;
	G(0x40) = (rip & 0xffff) | SEL_CODE << 16 | 2ull << 32 |
	    0xecull << 40 | (uint64_t)(rip >> 16) << 48;
	CHECK_EQ(KERNEL(s_lcall, (uint32_t)&far, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RSP], STACK32 - 16 - 12 + 12);
	G(0x40) &= ~(0x60ull << 40);
	CHECK_EQ(USER(s_lcall, (uint32_t)&far, 0), 13);
	CHECK_EQ(guest_trap.error, 0x40);
}

static void
d_sysenter(void)
{
	uint32_t r[4];
	static char stack[512];
	struct guest_ctx c = guest_context(s_sysexit, 0);

	cpuid(1, 0, r);
	if ((r[3] & 1 << 11) == 0)
		return;
	CHECK_EQ(USER(s_sysenter, 0, 0), 13); /* SYSENTER_CS is 0 */
	wrmsr(0x174, SEL_CODE);
	wrmsr(0x175, (uint32_t)stack + sizeof(stack));
	wrmsr(0x176, (uint32_t)s_done);
	CHECK_EQ(USER(s_sysenter, 0, 0), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_CODE);
	CHECK_EQ(guest_trap.rip, AT(s_done, 3));
	CHECK_EQ(guest_trap.gpr[RSP], (uint32_t)stack + sizeof(stack));
	c.gpr[RDX] = (uint32_t)s_done;
	c.gpr[RCX] = STACK32 - 64;
	CHECK_EQ(guest_run(&c), GUEST_DONE);
	CHECK_EQ(guest_trap.cs, SEL_UCODE);
	CHECK_EQ(guest_trap.ss, SEL_UDATA);
	CHECK_EQ(guest_trap.gpr[RSP], STACK32 - 64);
	CHECK_EQ(USER(s_sysexit, 0, 0), 13);
}

static void
d_16bit(void)
{
	struct guest_ctx c = guest_context(s_code16, 0);
	const uint16_t *r;
	uint32_t base = (uint32_t)s_code16 & ~0xfffu;

	G(0x40) = guest_desc(base, 0xffff, 0x9a, 0);
	c.cs = 0x40;
	c.rip -= base;
	c.gpr[RAX] = 0xaaaa5555;
	CHECK_EQ(guest_run(&c), GUEST_DONE);
	CHECK_EQ(guest_trap.gpr[RAX], 0x1233);

	guest_real();
	guest_setup();
	r = (const uint16_t *)real_off_count;
	CHECK_EQ(r[0], 2); /* INT 20h and UD2 */
	r = (const uint16_t *)real_off_r0;
	CHECK_EQ(r[0], 0x2222);
	CHECK_EQ(r[1], 0);
	CHECK_EQ(r[2], 0x7777);
	CHECK_EQ(r[3] & 0xf002, 2);
	CHECK_EQ(*(const uint32_t *)(r + 4), 0xa5a5a5a5);
}

void
guest_test(void)
{
	d_frames();
	d_segments();
	d_call_gate();
	d_sysenter();
	d_16bit();
}
