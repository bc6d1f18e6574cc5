/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot 1 (specification 0.6.96): a header in the first 8 KB of the file;
 * the rest is an ELF file, or has its addresses in the header.  Entered in
 * 32-bit protected mode without paging, EAX a magic, EBX at the information.
 *
 * A wish for a video mode (flag 2) is not fulfilled, and the information
 * says so by leaving its flag out.
 */
#include <errno.h>
#include <string.h>

#include "loader/plan.h"

#define MB_SEARCH 8192
#define MB_HEADER_MAGIC 0x1badb002
#define MB_MAGIC 0x2badb002
#define MB_F_REQUIRED 0xffff
#define MB_F_KNOWN 0x7
#define MB_F_ADDRESSES 0x10000

/* The information. */
#define MB_INFO_FLAGS 0
#define MB_INFO_LOWER 4
#define MB_INFO_UPPER 8
#define MB_INFO_CMDLINE 16
#define MB_INFO_NMODULE 20
#define MB_INFO_MODULES 24
#define MB_INFO_MAPLEN 44
#define MB_INFO_MAP 48
#define MB_INFO_LOADER 64
#define MB_INFO_SIZE 120
#define MB_MODULE_SIZE 16
#define MB_MAP_SIZE 24
#define MB_I_MEM 0x1
#define MB_I_CMDLINE 0x4
#define MB_I_MODULES 0x8
#define MB_I_MAP 0x40
#define MB_I_LOADER 0x200

static const char multiboot_loader[] = "hyve";

bool
multiboot_probe(const struct plan_input *in, size_t *headerp)
{
	size_t end = base_min(in->len, (size_t)MB_SEARCH);

	for (size_t i = 0; i + 12 <= end; i += 4)
		if (plan_get32(in->img + i) == MB_HEADER_MAGIC &&
		    plan_get32(in->img + i) + plan_get32(in->img + i + 4) +
			    plan_get32(in->img + i + 8) ==
			0) {
			*headerp = i;
			return true;
		}
	return false;
}

/* Not ELF: the header says which bytes go where. */
static int
multiboot_place_raw(struct plan *p, size_t header, uint64_t *entryp)
{
	const uint8_t *h = p->in->img + header;
	uint64_t haddr, load, end, bss, off, len;

	if (p->in->len - header < 32)
		return plan_fail(p, -ENOEXEC, "truncated multiboot header");
	haddr = plan_get32(h + 12);
	load = plan_get32(h + 16);
	end = plan_get32(h + 20);
	bss = plan_get32(h + 24);
	*entryp = plan_get32(h + 28);
	if (load > haddr || haddr - load > header)
		return plan_fail(p, -ENOEXEC,
		    "multiboot header at %#zx with impossible addresses",
		    header);
	off = header - (haddr - load);
	len = p->in->len - off;
	if (end != 0) {
		if (end < load || end - load > len)
			return plan_fail(p, -ENOEXEC,
			    "truncated: its multiboot header tells of %llu bytes",
			    (unsigned long long)(end - load));
		len = end - load;
	}
	if (bss != 0 && bss < load + len)
		return plan_fail(p, -ENOEXEC,
		    "multiboot header with impossible addresses");
	return plan_place(p, load, base_max(len, bss == 0 ? 0 : bss - load),
	    p->in->img + off, len, "kernel");
}

/* KB of RAM from 1 MB on without a gap. */
static uint32_t
multiboot_upper(const struct plan *p)
{
	for (unsigned i = 0; i < p->nmap; i++)
		if (p->map[i].type == LOADER_MEM_RAM &&
		    p->map[i].gpa == 0x100000)
			return (uint32_t)(p->map[i].len >> 10);
	return 0;
}

static uint32_t
multiboot_lower(const struct plan *p)
{
	for (unsigned i = 0; i < p->nmap; i++)
		if (p->map[i].type == LOADER_MEM_RAM && p->map[i].gpa == 0)
			return (uint32_t)(p->map[i].len >> 10);
	return 0;
}

/* Appends "a b" (b may be NULL) at *offp; => where, as the guest sees it */
static uint32_t
multiboot_string(uint8_t *b, gpa_t base, size_t *offp, const char *s,
    const char *args)
{
	size_t at = *offp, len = strlen(s);

	memcpy(b + *offp, s, len);
	*offp += len;
	if (args != NULL && args[0] != '\0') {
		b[(*offp)++] = ' ';
		len = strlen(args);
		memcpy(b + *offp, args, len);
		*offp += len;
	}
	(*offp)++;
	return (uint32_t)(base + at);
}

static size_t
multiboot_string_len(const char *s, const char *args)
{
	return strlen(s) + (args == NULL ? 0 : 1 + strlen(args)) + 1;
}

static int
multiboot_info(struct plan *p, const gpa_t *module)
{
	const struct plan_input *in = p->in;
	size_t map, mod, str, len;
	uint32_t flags = MB_I_MEM | MB_I_CMDLINE | MB_I_MAP | MB_I_LOADER;
	gpa_t base;
	uint8_t *b;
	int error;

	map = MB_INFO_SIZE;
	mod = map + p->nmap * MB_MAP_SIZE;
	str = mod + in->nmodule * MB_MODULE_SIZE;
	len = str + multiboot_string_len(in->name, in->append) +
	    sizeof(multiboot_loader);
	for (unsigned i = 0; i < in->nmodule; i++)
		len += multiboot_string_len(in->module[i].name,
		    in->module[i].args);
	b = plan_buffer(p, len);
	if (b == NULL)
		return -ENOMEM;
	error = plan_place_low(p, b, len, "multiboot information", &base);
	if (error != 0)
		return error;

	plan_put32(b + MB_INFO_LOWER, multiboot_lower(p));
	plan_put32(b + MB_INFO_UPPER, multiboot_upper(p));
	plan_put32(b + MB_INFO_CMDLINE,
	    multiboot_string(b, base, &str, in->name, in->append));
	plan_put32(b + MB_INFO_LOADER,
	    multiboot_string(b, base, &str, multiboot_loader, NULL));
	plan_put32(b + MB_INFO_MAP, (uint32_t)(base + map));
	plan_put32(b + MB_INFO_MAPLEN, p->nmap * MB_MAP_SIZE);
	for (unsigned i = 0; i < p->nmap; i++) {
		plan_put32(b + map, MB_MAP_SIZE - 4);
		plan_put64(b + map + 4, p->map[i].gpa);
		plan_put64(b + map + 12, p->map[i].len);
		plan_put32(b + map + 20, p->map[i].type);
		map += MB_MAP_SIZE;
	}
	if (in->nmodule > 0) {
		flags |= MB_I_MODULES;
		plan_put32(b + MB_INFO_NMODULE, in->nmodule);
		plan_put32(b + MB_INFO_MODULES, (uint32_t)(base + mod));
	}
	for (unsigned i = 0; i < in->nmodule; i++) {
		plan_put32(b + mod, (uint32_t)module[i]);
		plan_put32(b + mod + 4,
		    (uint32_t)(module[i] + in->module[i].len));
		plan_put32(b + mod + 8,
		    multiboot_string(b, base, &str, in->module[i].name,
			in->module[i].args));
		mod += MB_MODULE_SIZE;
	}
	plan_put32(b + MB_INFO_FLAGS, flags);
	p->rbx = base;
	return 0;
}

int
multiboot_plan(struct plan *p, size_t header)
{
	uint32_t flags = plan_get32(p->in->img + header + 4);
	gpa_t module[LOADER_MAXMODULES];
	uint64_t entry = 0;
	int error;

	p->protocol = "multiboot";
	p->mode = PLAN_PROT32;
	if ((flags & MB_F_REQUIRED & ~MB_F_KNOWN) != 0)
		return plan_fail(p, -ENOEXEC,
		    "multiboot header requires unknown features (flags %#x)",
		    flags);
	if ((flags & MB_F_ADDRESSES) != 0)
		error = multiboot_place_raw(p, header, &entry);
	else if (elf_probe(p->in))
		error = elf_place(p, &entry);
	else
		error = plan_fail(p, -ENOEXEC,
		    "multiboot header without addresses, and not ELF");
	if (error != 0)
		return error;
	if (entry > UINT32_MAX)
		return plan_fail(p, -ENOEXEC,
		    "multiboot entry point %#llx is above 4 GB",
		    (unsigned long long)entry);
	error = plan_place_gdt(p);
	if (error == 0)
		error = plan_place_modules(p, module);
	if (error == 0)
		error = multiboot_info(p, module);
	if (error != 0)
		return error;
	p->rip = entry;
	p->rax = MB_MAGIC;
	return 0;
}
