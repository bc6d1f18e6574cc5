/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem without an option: segments and maps with what each has.  With one, what
 * that asks for.
 */
#include <errno.h>
#include <stdio.h>

#include "vmmctl/vmmctl.h"

static const struct {
	const char *name;
	size_t at;
} mem_counts[] = {
#define M(m) { #m, offsetof(struct vmm_ledger, m) }
	M(resident), M(wired), M(held), M(swapped), M(compressed), M(zero),
	M(shared), M(entered), M(superpages), M(faults_zero), M(faults_swap),
	M(faults_file), M(faults_cow), M(faults_prot), M(refaults), M(pageins),
	M(pageouts),
#undef M
};

void
ctl_ledger_json(struct out *o, const struct vmm_ledger *l)
{
	out_begin(o, "pages", '{');
	for (size_t i = 0; i < sizeof(mem_counts) / sizeof(mem_counts[0]); i++)
		out_number(o, mem_counts[i].name,
		    *(const uint64_t *)((const char *)l + mem_counts[i].at));
	out_end(o, '}');
}

static void
mem_ledger_text(const char *name, const struct vmm_ledger *l)
{
	printf("%-16s %9lu %9lu %7lu %5lu %8lu %8lu %8lu %7lu %6lu\n", name,
	    l->pages, l->resident, l->wired, l->held, l->swapped, l->compressed,
	    l->zero, l->shared, l->superpages);
}

static int
mem_segments(struct ctl *ctl)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	char name[VMM_SEGNAME_MAX + 1];
	uint64_t len;
	int error = 0;

	if (ctl->json)
		out_begin(&ctl->out, "segments", '[');
	else
		printf("%-16s %9s %9s %7s %5s %8s %8s %8s %7s %6s\n", "SEGMENT",
		    "PAGES", "RESIDENT", "WIRED", "HELD", "SWAPPED", "COMPRESS",
		    "ZERO", "SHARED", "LARGE");
	for (int i = 0; i < VMM_MAXSEGS && error == 0; i++) {
		error = vmm_get_memseg(ctl->vmm, i, &len, name);
		if (error == 0)
			error = vmm_get_ledger(ctl->vmm, i, &l);
		if (error != 0 || len == 0)
			continue;
		(void)ctl_segname(ctl, i, name);
		if (!ctl->json) {
			mem_ledger_text(name, &l);
			continue;
		}
		out_begin(&ctl->out, NULL, '{');
		out_number(&ctl->out, "id", (uint64_t)i);
		out_text(&ctl->out, "name", name);
		out_text(&ctl->out, "kind", ctl_segkind(ctl, i));
		out_number(&ctl->out, "length", len);
		out_number(&ctl->out, "resident", l.resident * VMM_PAGE_SIZE);
		ctl_ledger_json(&ctl->out, &l);
		out_end(&ctl->out, '}');
	}
	if (ctl->json)
		out_end(&ctl->out, ']');
	return error;
}

static int
mem_machine(struct ctl *ctl)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	int error = vmm_get_ledger(ctl->vmm, -1, &l);

	if (error != 0)
		return error;
	if (ctl->json) {
		out_number(&ctl->out, "limit", l.limit * VMM_PAGE_SIZE);
		ctl_ledger_json(&ctl->out, &l);
		return 0;
	}
	mem_ledger_text("all", &l);
	printf("faults: %lu zero, %lu swap, %lu file, %lu copy on write, %lu "
	       "protection; %lu refaults, %lu pages in, %lu out\n",
	    l.faults_zero, l.faults_swap, l.faults_file, l.faults_cow,
	    l.faults_prot, l.refaults, l.pageins, l.pageouts);
	return 0;
}

static int
mem_map(struct ctl *ctl, const struct vmm_memmap *map)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	char name[VMM_SEGNAME_MAX + 1], prot[4];
	int error = vmm_get_map_ledger(ctl->vmm, map->gpa, &l);

	if (error == -ENOENT)
		return 0; /* removed since */
	if (error != 0)
		return error;
	(void)ctl_segname(ctl, map->segid, name);
	(void)ctl_prot(map->prot, prot);
	if (!ctl->json) {
		printf("%-13lx %-12lx %-11s %-9lx %-9s %-4s %8lu %7lu %6lu%s%s\n",
		    map->gpa, map->len, name, map->segoff,
		    ctl_segkind(ctl, map->segid), prot, l.resident, l.wired,
		    l.superpages,
		    (map->flags & VMM_MAP_F_WIRED) != 0 ? " wired" : "",
		    (map->flags & VMM_MAP_F_IOMMU) != 0 ? " iommu" : "");
		return 0;
	}
	out_begin(&ctl->out, NULL, '{');
	out_hex(&ctl->out, "gpa", map->gpa);
	out_number(&ctl->out, "length", map->len);
	out_text(&ctl->out, "segment", name);
	out_number(&ctl->out, "offset", map->segoff);
	out_text(&ctl->out, "kind", ctl_segkind(ctl, map->segid));
	out_text(&ctl->out, "prot", prot);
	out_begin(&ctl->out, "flags", '[');
	if ((map->flags & VMM_MAP_F_WIRED) != 0)
		out_text(&ctl->out, NULL, "wired");
	if ((map->flags & VMM_MAP_F_IOMMU) != 0)
		out_text(&ctl->out, NULL, "iommu");
	out_end(&ctl->out, ']');
	out_number(&ctl->out, "resident", l.resident * VMM_PAGE_SIZE);
	ctl_ledger_json(&ctl->out, &l);
	out_end(&ctl->out, '}');
	return 0;
}

static int
mem_maps(struct ctl *ctl)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	int error;

	if (ctl->json)
		out_begin(&ctl->out, "maps", '[');
	else
		printf("%-13s %-12s %-11s %-9s %-9s %-4s %8s %7s %6s\n",
		    "ADDRESS", "LENGTH", "SEGMENT", "OFFSET", "KIND", "PROT",
		    "RESIDENT", "WIRED", "LARGE");
	while ((error = vmm_mmap_getnext(ctl->vmm, map.gpa, &map)) == 0 &&
	    (error = mem_map(ctl, &map)) == 0)
		map.gpa++;
	if (ctl->json)
		out_end(&ctl->out, ']');
	return error == -ENOENT ? 0 : error;
}

static int
mem_all(struct ctl *ctl)
{
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	error = mem_segments(ctl);
	if (error == 0)
		error = mem_machine(ctl);
	if (error == 0)
		error = mem_maps(ctl);
	if (ctl->json) {
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
	return error;
}

int
cmd_mem(struct ctl *ctl)
{
	const struct {
		bool wanted;
		ctl_verb *fn;
	} part[] = {
		{ ctl->page != NULL, mem_page },
		{ ctl->resident, mem_resident },
		{ ctl->heatmap != NULL, mem_heatmap },
		{ ctl->working_set != NULL && ctl->heatmap == NULL,
		    mem_working_set },
		{ ctl->dirty != NULL, mem_dirty },
		{ ctl->dirty_end != NULL, mem_dirty_end },
		{ ctl->check, mem_check },
	};
	ctl_verb *fn = NULL;

	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		if (!part[i].wanted)
			continue;
		if (fn != NULL)
			return ctl_fail("mem answers one question at a time");
		fn = part[i].fn;
	}
	return fn != NULL ? fn(ctl) : mem_all(ctl);
}
