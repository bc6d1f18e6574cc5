/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

#include "vmmctl/vmmctl.h"

static void
cmd_regs_json(struct ctl *ctl, unsigned id, const struct vmm_regs *regs)
{
	struct out *o = &ctl->out;

	out_begin(o, NULL, '{');
	out_number(o, "cpu", id);
	out_begin(o, "registers", '{');
	for (int i = 0; i < VMM_REG_COUNT; i++)
		out_hex(o, vmm_reg_name((enum vmm_reg)i), regs->reg[i]);
	out_end(o, '}');
	out_begin(o, "segments", '{');
	for (int i = 0; i < VMM_SEG_COUNT; i++) {
		const struct vmm_seg *s = &regs->seg[i];

		out_begin(o, vmm_segreg_name((enum vmm_segreg)i), '{');
		out_hex(o, "selector", s->selector);
		out_hex(o, "base", s->base);
		out_hex(o, "limit", s->limit);
		out_hex(o, "access", s->access);
		out_end(o, '}');
	}
	out_end(o, '}');
	out_end(o, '}');
}

static void
cmd_regs_text(unsigned id, const struct vmm_regs *regs)
{
	printf("cpu %u\n", id);
	for (int i = 0; i < VMM_REG_COUNT; i++)
		printf("  %-14s %016lx%s",
		    vmm_reg_name((enum vmm_reg)i), regs->reg[i],
		    i % 2 == 1 || i == VMM_REG_COUNT - 1 ? "\n" : "");
	printf("  %-6s %-6s %-18s %-10s %s\n", "seg", "sel", "base", "limit",
	    "access");
	for (int i = 0; i < VMM_SEG_COUNT; i++)
		printf("  %-6s %04x   %016lx   %08x   %05x%s\n",
		    vmm_segreg_name((enum vmm_segreg)i),
		    regs->seg[i].selector, regs->seg[i].base,
		    regs->seg[i].limit, regs->seg[i].access,
		    i < VMM_SEG_GDTR &&
			    (regs->seg[i].access & VMM_SEG_UNUSABLE) != 0 ?
			" (null)" :
			"");
}

static int
cmd_regs_one(struct ctl *ctl, unsigned id)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	struct vmm_vcpu *v;
	int error;

	error = vmm_vcpu_open(ctl->vmm, id, &v);
	if (error != 0)
		return error;
	error = vmm_vcpu_get_regs(v, &regs);
	vmm_vcpu_close(v);
	if (error != 0)
		return error;
	if (ctl->json)
		cmd_regs_json(ctl, id, &regs);
	else
		cmd_regs_text(id, &regs);
	return 0;
}

int
cmd_regs(struct ctl *ctl)
{
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '[');
	error = ctl_each_vcpu(ctl, cmd_regs_one);
	if (ctl->json && error == 0) {
		out_end(&ctl->out, ']');
		out_finish(&ctl->out);
	}
	return error;
}
