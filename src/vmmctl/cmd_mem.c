/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>
#include <stdio.h>

#include "vmmctl/vmmctl.h"

static int
cmd_mem_segments(struct ctl *ctl)
{
	char name[VMM_SEGNAME_MAX + 1];
	uint64_t len, resident;
	int error = 0;

	if (ctl->json)
		out_begin(&ctl->out, "segments", '[');
	else
		printf("%-3s %-16s %18s %18s\n", "ID", "SEGMENT", "LENGTH",
		    "RESIDENT");
	for (int i = 0; i < VMM_MAXSEGS && error == 0; i++) {
		error = vmm_get_memseg(ctl->vmm, i, &len, name);
		if (error == 0)
			error = vmm_memseg_resident(ctl->vmm, i, &resident);
		if (error != 0 || len == 0)
			continue;
		if (ctl->json) {
			out_begin(&ctl->out, NULL, '{');
			out_number(&ctl->out, "id", (uint64_t)i);
			out_text(&ctl->out, "name",
			    name[0] != '\0' ? name : "sysmem");
			out_number(&ctl->out, "length", len);
			out_number(&ctl->out, "resident", resident);
			out_end(&ctl->out, '}');
		} else {
			printf("%-3d %-16s %18lu %18lu\n", i,
			    name[0] != '\0' ? name : "sysmem", len, resident);
		}
	}
	if (ctl->json)
		out_end(&ctl->out, ']');
	return error;
}

static void
cmd_mem_map(struct ctl *ctl, const struct vmm_memmap *map)
{
	char name[VMM_SEGNAME_MAX + 1], prot[4], *p = prot;

	if ((map->prot & VMM_PROT_READ) != 0)
		*p++ = 'r';
	if ((map->prot & VMM_PROT_WRITE) != 0)
		*p++ = 'w';
	if ((map->prot & VMM_PROT_EXEC) != 0)
		*p++ = 'x';
	*p = '\0';
	if (!ctl->json) {
		printf("%-18lx %-18lx %-16s %-18lx %-4s%s%s\n", map->gpa,
		    map->len, ctl_segname(ctl, map->segid, name), map->segoff,
		    prot, (map->flags & VMM_MAP_F_WIRED) != 0 ? " wired" : "",
		    (map->flags & VMM_MAP_F_IOMMU) != 0 ? " iommu" : "");
		return;
	}
	out_begin(&ctl->out, NULL, '{');
	out_hex(&ctl->out, "gpa", map->gpa);
	out_number(&ctl->out, "length", map->len);
	out_text(&ctl->out, "segment", ctl_segname(ctl, map->segid, name));
	out_number(&ctl->out, "offset", map->segoff);
	out_text(&ctl->out, "prot", prot);
	out_begin(&ctl->out, "flags", '[');
	if ((map->flags & VMM_MAP_F_WIRED) != 0)
		out_text(&ctl->out, NULL, "wired");
	if ((map->flags & VMM_MAP_F_IOMMU) != 0)
		out_text(&ctl->out, NULL, "iommu");
	out_end(&ctl->out, ']');
	out_end(&ctl->out, '}');
}

static int
cmd_mem_maps(struct ctl *ctl)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	int error;

	if (ctl->json)
		out_begin(&ctl->out, "maps", '[');
	else
		printf("%-18s %-18s %-16s %-18s %s\n", "ADDRESS", "LENGTH",
		    "SEGMENT", "OFFSET", "PROT FLAGS");
	while ((error = vmm_mmap_getnext(ctl->vmm, map.gpa, &map)) == 0) {
		cmd_mem_map(ctl, &map);
		map.gpa++;
	}
	if (ctl->json)
		out_end(&ctl->out, ']');
	return error == -ENOENT ? 0 : error;
}

int
cmd_mem(struct ctl *ctl)
{
	int error;

	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	error = cmd_mem_segments(ctl);
	if (error == 0)
		error = cmd_mem_maps(ctl);
	if (ctl->json) {
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
	return error;
}
