/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bhyvectl's spellings, for scripts that know them: --vm=NAME, --cpu=N and
 * then --get-... and --inject-nmi, --force-reset, --force-poweroff.  As there,
 * things are done in a fixed order, not in that of the command line.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmctl/vmmctl.h"

static int
compat_gpa_pmap(struct ctl *ctl, const char *arg)
{
	uint64_t pte[4];
	unsigned n;
	char *end;
	gpa_t gpa;
	int error;

	gpa = strtoull(arg, &end, 0);
	if (arg[0] == '\0' || *end != '\0')
		return ctl_fail("--get-gpa-pmap: \"%s\" is no address", arg);
	error = vmm_get_gpa_pmap(ctl->vmm, gpa, pte, &n);
	if (error != 0)
		return error;
	printf("gpa %#lx:", gpa);
	for (unsigned i = 0; i < n; i++)
		printf(" %#lx", pte[i]);
	printf("\n");
	return 0;
}

static int
compat_active_cpus(struct ctl *ctl)
{
	struct vmm_info info = { .size = sizeof(info) };
	int error = vmm_get_info(ctl->vmm, &info);

	if (error != 0)
		return error;
	printf("active cpus:");
	for (unsigned i = 0; i < info.ncpu; i++)
		printf(" %u", i);
	printf("\n");
	return 0;
}

/* At most four digits and a unit. */
static const char *
compat_size(uint64_t n, char buf[24])
{
	static const char *const units[] = { "B", "KB", "MB", "GB", "TB" };
	unsigned u = 0;

	while (u < 4 && n >= 1024 && (n % 1024 == 0 || n > 9999)) {
		n /= 1024;
		u++;
	}
	snprintf(buf, 24, "%lu%s", n, units[u]);
	return buf;
}

static int
compat_memseg(struct ctl *ctl)
{
	char name[VMM_SEGNAME_MAX + 1], size[24];
	uint64_t len;
	int error;

	if (ctl->json)
		return cmd_mem(ctl);
	printf("%-4s%-12s%s\n", "ID", "Length", "Name");
	for (int i = 0; i < VMM_MAXSEGS; i++) {
		error = vmm_get_memseg(ctl->vmm, i, &len, name);
		if (error != 0)
			return error;
		if (len != 0)
			printf("%-4d%-12s%s\n", i, compat_size(len, size),
			    ctl_segname(ctl, i, name));
	}
	return 0;
}

static int
compat_memmap(struct ctl *ctl)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	char name[VMM_SEGNAME_MAX + 1], size[24], prot[4];
	int error;

	if (ctl->json)
		return cmd_mem(ctl);
	printf("%-12s%-12s%-12s%-12s%-12s%s\n", "Address", "Length", "Segment",
	    "Offset", "Prot", "Flags");
	while ((error = vmm_mmap_getnext(ctl->vmm, map.gpa, &map)) == 0) {
		printf("%-12lX%-12s%-12s%-12lX%-12s%s%s\n", map.gpa,
		    compat_size(map.len, size), ctl_segname(ctl, map.segid, name),
		    map.segoff, ctl_prot(map.prot, prot),
		    (map.flags & VMM_MAP_F_WIRED) != 0 ? "wired " : "",
		    (map.flags & VMM_MAP_F_IOMMU) != 0 ? "iommu" : "");
		map.gpa++;
	}
	return error == -ENOENT ? 0 : error;
}

static int
compat_lowmem(struct ctl *ctl)
{
	printf("lowmem\t\t0x%016x/%lu\n", 0, vmm_lowmem_size(ctl->vmm));
	return 0;
}

static int
compat_highmem(struct ctl *ctl)
{
	printf("highmem\t\t0x%016lx/%lu\n", VMM_HIGHMEM_BASE,
	    vmm_highmem_size(ctl->vmm));
	return 0;
}

static int
compat_all(struct ctl *ctl)
{
	int error = cmd_mem(ctl);

	if (error == 0)
		error = cmd_regs(ctl);
	if (error == 0)
		error = cmd_stats(ctl);
	return error;
}

static const struct compat_action {
	const char *name;
	ctl_verb *verb;
} compat_actions[] = {
	{ "get-all", compat_all },
	{ "get-lowmem", compat_lowmem },
	{ "get-highmem", compat_highmem },
	{ "get-memseg", compat_memseg },
	{ "get-memmap", compat_memmap },
	{ "get-active-cpus", compat_active_cpus },
	{ "get-stats", cmd_stats },
	{ "inject-nmi", cmd_nmi },
	{ "force-reset", cmd_reset },
	{ "force-poweroff", cmd_stop },
	{ "destroy", cmd_stop },
};
#define COMPAT_NACTIONS (sizeof(compat_actions) / sizeof(compat_actions[0]))

struct compat {
	struct ctl ctl;
	bool action[COMPAT_NACTIONS];
	bool reg[VMM_REG_COUNT], seg[VMM_SEG_COUNT], desc[VMM_SEG_COUNT];
	const char *pmap;
};

bool
compat_wanted(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strncmp(argv[i], "--vm=", 5) == 0 ||
		    strcmp(argv[i], "--vm") == 0)
			return true;
	return false;
}

/* --get-rip, --get-cs, --get-desc-gdtr: => known */
static bool
compat_register(struct compat *c, const char *name)
{
	bool desc = strncmp(name, "desc-", 5) == 0;

	for (int i = 0; i < VMM_REG_COUNT && !desc; i++) {
		if (strcmp(name, vmm_reg_name((enum vmm_reg)i)) == 0) {
			c->reg[i] = true;
			return true;
		}
	}
	for (int i = 0; i < VMM_SEG_COUNT; i++) {
		if (strcmp(name + (desc ? 5 : 0),
			vmm_segreg_name((enum vmm_segreg)i)) == 0) {
			(desc ? c->desc : c->seg)[i] = true;
			return true;
		}
	}
	return false;
}

static int
compat_option(struct compat *c, const char *word)
{
	char *end;

	for (size_t i = 0; i < COMPAT_NACTIONS; i++) {
		if (strcmp(word, compat_actions[i].name) == 0) {
			c->action[i] = true;
			return 0;
		}
	}
	if (strncmp(word, "vm=", 3) == 0) {
		c->ctl.name = word + 3;
	} else if (strncmp(word, "cpu=", 4) == 0) {
		c->ctl.cpu = (int)strtoul(word + 4, &end, 10);
		if (word[4] < '0' || word[4] > '9' || *end != '\0')
			return ctl_fail("--cpu: \"%s\" is no number",
			    word + 4);
	} else if (strcmp(word, "json") == 0) {
		c->ctl.json = true;
	} else if (strncmp(word, "get-gpa-pmap=", 13) == 0) {
		c->pmap = word + 13;
	} else if (strncmp(word, "gpa-pmap=", 9) == 0) {
		c->pmap = word + 9;
	} else if (strncmp(word, "get-", 4) != 0 ||
	    !compat_register(c, word + 4)) {
		return ctl_fail("unknown option --%s: see vmmctl --help",
		    word);
	}
	return 0;
}

static int
compat_print_registers(struct compat *c)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	unsigned cpu = c->ctl.cpu < 0 ? 0 : (unsigned)c->ctl.cpu;
	struct vmm_vcpu *v;
	int error;

	error = vmm_vcpu_open(c->ctl.vmm, cpu, &v);
	if (error != 0)
		return error;
	error = vmm_vcpu_get_regs(v, &regs);
	vmm_vcpu_close(v);
	if (error != 0)
		return error;
	for (int i = 0; i < VMM_REG_COUNT; i++)
		if (c->reg[i])
			printf("%s[%u]\t\t0x%016lx\n",
			    vmm_reg_name((enum vmm_reg)i), cpu, regs.reg[i]);
	for (int i = 0; i < VMM_SEG_COUNT; i++) {
		const char *name = vmm_segreg_name((enum vmm_segreg)i);

		if (c->seg[i])
			printf("%s[%u]\t\t0x%04x\n", name, cpu,
			    regs.seg[i].selector);
		if (c->desc[i])
			printf("%s desc[%u]\t0x%016lx/0x%08x/0x%08x\n", name,
			    cpu, regs.seg[i].base, regs.seg[i].limit,
			    regs.seg[i].access);
	}
	return 0;
}

static bool
compat_any(const bool *b, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (b[i])
			return true;
	return false;
}

static int
compat_do(struct compat *c)
{
	int error = 0;

	if (compat_any(c->reg, VMM_REG_COUNT) ||
	    compat_any(c->seg, VMM_SEG_COUNT) ||
	    compat_any(c->desc, VMM_SEG_COUNT))
		error = compat_print_registers(c);
	if (error == 0 && c->pmap != NULL)
		error = compat_gpa_pmap(&c->ctl, c->pmap);
	for (size_t i = 0; i < COMPAT_NACTIONS && error == 0; i++) {
		if (!c->action[i])
			continue;
		error = compat_actions[i].verb(&c->ctl);
	}
	return error;
}

int
compat_main(int argc, char **argv)
{
	struct compat c = { .ctl = { .cpu = -1 } };
	int error;

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--vm") == 0 && i + 1 < argc)
			c.ctl.name = argv[++i];
		else if (strncmp(argv[i], "--", 2) != 0)
			return ctl_fail("\"%s\": only options go with --vm",
			    argv[i]);
		else if (compat_option(&c, argv[i] + 2) != 0)
			return 1;
	}
	if (c.ctl.name == NULL)
		return ctl_fail("--vm wants a name");
	if (vmm_open(c.ctl.name, &c.ctl.vmm) != 0)
		return ctl_fail("%s", vmm_errmsg(NULL));
	error = compat_do(&c);
	if (error < 0)
		error = ctl_fail("%s", vmm_errmsg(c.ctl.vmm));
	vmm_close(c.ctl.vmm);
	return error;
}
