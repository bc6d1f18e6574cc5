/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF kernels by the PVH protocol (docs/misc/pvh.pandoc of Xen, and
 * public/arch-x86/hvm/start_info.h): entered in 32-bit protected mode without
 * paging at the address that a note gives, EBX at a start info.
 */
#include <errno.h>
#include <string.h>

#include "loader/plan.h"

#define PVH_MAGIC 0x336ec578
/* Offsets in the start info, version 1. */
#define PVH_VERSION 4
#define PVH_NMODULE 12
#define PVH_MODLIST 16
#define PVH_CMDLINE 24
#define PVH_RSDP 32
#define PVH_MEMMAP 40
#define PVH_NMEMMAP 48
#define PVH_SIZE 56
#define PVH_MODULE_SIZE 32
#define PVH_MAP_SIZE 24

int
pvh_plan(struct plan *p, uint32_t entry)
{
	const struct plan_input *in = p->in;
	const char *append = in->append != NULL ? in->append : "";
	gpa_t base, module[LOADER_MAXMODULES];
	size_t map, mod, str, len;
	uint64_t unused;
	uint8_t *b;
	int error;

	p->protocol = "PVH";
	p->mode = PLAN_PROT32;
	error = elf_place(p, &unused);
	if (error == 0)
		error = plan_place_gdt(p);
	if (error == 0)
		error = plan_place_modules(p, module);
	if (error != 0)
		return error;

	/* One buffer: start info, memory map, modules, strings. */
	map = base_roundup(PVH_SIZE, 8);
	mod = map + p->nmap * PVH_MAP_SIZE;
	str = mod + in->nmodule * PVH_MODULE_SIZE;
	len = str + strlen(append) + 1;
	for (unsigned i = 0; i < in->nmodule; i++)
		if (in->module[i].args != NULL)
			len += strlen(in->module[i].args) + 1;
	b = plan_buffer(p, len);
	if (b == NULL)
		return -ENOMEM;
	error = plan_place_low(p, b, len, "start info", &base);
	if (error != 0)
		return error;

	plan_put32(b, PVH_MAGIC);
	plan_put32(b + PVH_VERSION, 1);
	plan_put32(b + PVH_NMODULE, in->nmodule);
	plan_put64(b + PVH_MODLIST, in->nmodule > 0 ? base + mod : 0);
	plan_put64(b + PVH_CMDLINE, base + str);
	plan_put64(b + PVH_RSDP, in->rsdp);
	plan_put64(b + PVH_MEMMAP, base + map);
	plan_put32(b + PVH_NMEMMAP, p->nmap);
	for (unsigned i = 0; i < p->nmap; i++) {
		plan_put64(b + map, p->map[i].gpa);
		plan_put64(b + map + 8, p->map[i].len);
		plan_put32(b + map + 16, p->map[i].type);
		map += PVH_MAP_SIZE;
	}
	memcpy(b + str, append, strlen(append));
	str += strlen(append) + 1;
	for (unsigned i = 0; i < in->nmodule; i++) {
		const char *args = in->module[i].args;

		plan_put64(b + mod, module[i]);
		plan_put64(b + mod + 8, in->module[i].len);
		if (args != NULL) {
			plan_put64(b + mod + 16, base + str);
			memcpy(b + str, args, strlen(args));
			str += strlen(args) + 1;
		}
		mod += PVH_MODULE_SIZE;
	}
	p->rip = entry;
	p->rbx = base;
	return 0;
}
