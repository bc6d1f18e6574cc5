/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mem's questions about pages: one of them, which are resident, which were
 * accessed or written lately, and whether the counts are right.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmmctl/pages.h"

static const char mem_client_default[] = "vmmctl";

static const struct {
	uint32_t bit;
	const char *name;
} mem_states[] = {
	{ VMM_PG_RESIDENT, "resident" }, { VMM_PG_SWAPPED, "swapped" },
	{ VMM_PG_ZERO, "zero" }, { VMM_PG_COMPRESSED, "compressed" },
	{ VMM_PG_SHARED, "shared" }, { VMM_PG_WIRED, "wired" },
	{ VMM_PG_ENTERED, "entered" }, { VMM_PG_LARGE, "superpage" },
	{ VMM_PG_ACCESSED, "referenced" }, { VMM_PG_DIRTY, "dirty" },
	{ VMM_PG_ACTIVE, "active" }, { VMM_PG_INACTIVE, "inactive" },
	{ VMM_PG_DEVICE, "device" }, { VMM_PG_SLOT, "slot" },
};
#define MEM_NSTATES (sizeof(mem_states) / sizeof(mem_states[0]))

static const char *
mem_pte_kind(const struct vmm_pte *e)
{
	return e->raw == 0 ? "absent" : e->leaf != 0 ? "page" : "table";
}

static void
mem_page_json(struct ctl *ctl, const struct vmm_page *pg)
{
	char name[VMM_SEGNAME_MAX + 1], prot[4];
	struct out *o = &ctl->out;

	out_begin(o, NULL, '{');
	out_hex(o, "gpa", pg->gpa);
	out_bool(o, "mapped", pg->segid >= 0);
	if (pg->segid >= 0) {
		out_text(o, "segment", ctl_segname(ctl, pg->segid, name));
		out_number(o, "offset", pg->offset);
		out_text(o, "prot", ctl_prot(pg->prot, prot));
	}
	out_begin(o, "state", '{');
	for (size_t i = 0; i < MEM_NSTATES; i++)
		out_bool(o, mem_states[i].name, (pg->state & mem_states[i].bit) != 0);
	out_end(o, '}');
	if ((pg->state & VMM_PG_RESIDENT) != 0)
		out_hex(o, "hpa", pg->hpa);
	if ((pg->state & VMM_PG_SLOT) != 0)
		out_number(o, "swap_slot", pg->slot);
	out_number(o, "wires", pg->wires);
	out_number(o, "leaf", pg->leaf);
	out_begin(o, "entries", '[');
	for (unsigned i = 0; i < pg->npte && i < 4; i++) {
		const struct vmm_pte *e = &pg->pte[i];

		out_begin(o, NULL, '{');
		out_number(o, "level", e->level);
		out_hex(o, "raw", e->raw);
		out_text(o, "kind", mem_pte_kind(e));
		out_hex(o, "hpa", e->hpa);
		out_text(o, "prot", ctl_prot(e->prot, prot));
		out_text(o, "hwprot", ctl_prot(e->hwprot, prot));
		out_bool(o, "accessed", e->accessed != 0);
		out_bool(o, "dirty", e->dirty != 0);
		out_end(o, '}');
	}
	out_end(o, ']');
	out_end(o, '}');
	out_finish(o);
}

static void
mem_page_text(struct ctl *ctl, const struct vmm_page *pg)
{
	char name[VMM_SEGNAME_MAX + 1], prot[4], hwprot[4];

	printf("gpa      %#lx\n", pg->gpa);
	if (pg->segid < 0)
		printf("segment  none: no map there\n");
	else
		printf("segment  %s + %#lx, %s\n", ctl_segname(ctl, pg->segid, name),
		    pg->offset, ctl_prot(pg->prot, prot));
	printf("state   ");
	for (size_t i = 0; i < MEM_NSTATES; i++)
		if ((pg->state & mem_states[i].bit) != 0)
			printf(" %s", mem_states[i].name);
	printf("%s\n", (pg->state & ~(uint32_t)VMM_PG_MAP) == 0 ? " absent" : "");
	if ((pg->state & VMM_PG_RESIDENT) != 0)
		printf("hpa      %#lx\n", pg->hpa);
	if ((pg->state & VMM_PG_SLOT) != 0)
		printf("slot     %lu\n", pg->slot);
	printf("wires    %u\n", pg->wires);
	printf("%-6s %-18s %-7s %-18s %-5s %-5s %s\n", "LEVEL", "ENTRY", "KIND",
	    "HPA", "PROT", "WALK", "A D");
	for (unsigned i = 0; i < pg->npte && i < 4; i++) {
		const struct vmm_pte *e = &pg->pte[i];

		printf("%-6u %-18lx %-7s %-18lx %-5s %-5s %s %s\n", e->level, e->raw,
		    mem_pte_kind(e), e->hpa, ctl_prot(e->prot, prot),
		    ctl_prot(e->hwprot, hwprot), e->accessed != 0 ? "A" : "-",
		    e->dirty != 0 ? "D" : "-");
	}
}

int
mem_page(struct ctl *ctl)
{
	struct vmm_page pg = { .size = sizeof(pg) };
	uint64_t gpa;
	int error;

	if (ctl_address("--page", ctl->page, &gpa) != 0)
		return CTL_SAID;
	error = vmm_get_page(ctl->vmm, gpa, &pg);
	if (error != 0)
		return error;
	if (ctl->json)
		mem_page_json(ctl, &pg);
	else
		mem_page_text(ctl, &pg);
	return 0;
}

#define MEM_RUN 32768ul /* pages asked for at a time */

int
mem_resident(struct ctl *ctl)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	uint16_t *s = malloc(MEM_RUN * sizeof(*s));
	struct ranges r;
	int error;

	if (s == NULL)
		return ctl_fail("no memory");
	if (ctl->json)
		out_begin(&ctl->out, NULL, '{');
	ranges_begin(&r, ctl);
	while ((error = vmm_mmap_getnext(ctl->vmm, map.gpa, &map)) == 0) {
		for (uint64_t at = 0, n; at < map.len / VMM_PAGE_SIZE; at += n) {
			n = map.len / VMM_PAGE_SIZE - at;
			n = n < MEM_RUN ? n : MEM_RUN;
			error = vmm_page_states(ctl->vmm,
			    map.gpa + at * VMM_PAGE_SIZE, n, s);
			if (error != 0)
				goto out;
			for (uint64_t i = 0; i < n; i++)
				if ((s[i] & VMM_PG_RESIDENT) != 0)
					ranges_add(&r, map.gpa +
					    (at + i) * VMM_PAGE_SIZE);
		}
		map.gpa++;
	}
	ranges_end(&r);
	if (ctl->json) {
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
out:
	free(s);
	return error == -ENOENT ? 0 : error;
}

static const char *
mem_client(const struct ctl *ctl, const char *option)
{
	if (option != NULL && option[0] != '\0')
		return option;
	return ctl->client != NULL ? ctl->client : mem_client_default;
}

int
mem_dirty(struct ctl *ctl)
{
	const char *client = mem_client(ctl, ctl->dirty);
	struct ranges r;
	struct pages ps;
	uint64_t n;
	int error = pages_init(&ps, ctl->vmm);

	if (error != 0)
		return error;
	error = vmm_dirty(ctl->vmm, client, pages_add, &ps, &n);
	if (error != 0) {
		pages_fini(&ps);
		return error;
	}
	if (ctl->json) {
		out_begin(&ctl->out, NULL, '{');
		out_text(&ctl->out, "client", client);
	}
	ranges_begin(&r, ctl);
	for (unsigned m = 0; m < ps.n; m++)
		for (uint64_t i = 0; i < ps.map[m].len / VMM_PAGE_SIZE; i++)
			if (pages_has(&ps, m, i))
				ranges_add(&r, ps.map[m].gpa + i * VMM_PAGE_SIZE);
	ranges_end(&r);
	if (ctl->json) {
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	}
	pages_fini(&ps);
	return 0;
}

int
mem_dirty_end(struct ctl *ctl)
{
	int error = vmm_client_close(ctl->vmm, mem_client(ctl, ctl->dirty_end));

	if (error == 0 && ctl->json)
		printf("{\"ok\":true}\n");
	return error;
}

/* Samples of a second each; the set is what was accessed in any of them. */
int
mem_working_set(struct ctl *ctl)
{
	const char *client = mem_client(ctl, NULL);
	struct pages ps;
	double seconds, left, t;
	uint64_t n;
	int error;

	if (ctl_number("--working-set", ctl->working_set, 0.01, 86400, &seconds) != 0)
		return CTL_SAID;
	error = pages_init(&ps, ctl->vmm);
	if (error != 0)
		return error;
	error = vmm_accessed(ctl->vmm, client, NULL, NULL, &n);
	if (ctl->json) {
		out_begin(&ctl->out, NULL, '{');
		out_real(&ctl->out, "seconds", seconds);
		out_begin(&ctl->out, "samples", '[');
	} else
		printf("%10s %12s %12s\n", "SECONDS", "ACCESSED MB", "SAMPLE us");
	for (left = seconds; left > 0 && error == 0; left -= 1) {
		ctl_sleep(left < 1 ? left : 1);
		t = ctl_now();
		error = vmm_accessed(ctl->vmm, client, pages_add, &ps, &n);
		t = (ctl_now() - t) * 1e6;
		if (error != 0)
			break;
		if (ctl->json) {
			out_begin(&ctl->out, NULL, '{');
			out_number(&ctl->out, "bytes", n * VMM_PAGE_SIZE);
			out_real(&ctl->out, "microseconds", t);
			out_end(&ctl->out, '}');
		} else
			printf("%10.2f %12.1f %12.0f\n", left < 1 ? left : 1,
			    (double)n / 256, t);
		fflush(stdout);
	}
	n = pages_count(&ps);
	pages_fini(&ps);
	if (ctl->json) {
		out_end(&ctl->out, ']');
		out_number(&ctl->out, "bytes", n * VMM_PAGE_SIZE);
		out_end(&ctl->out, '}');
		out_finish(&ctl->out);
	} else if (error == 0)
		printf("working set: %.1f MB, %lu pages in %g s\n", (double)n / 256,
		    n, seconds);
	return error;
}

#define MEM_MAXCOUNTS 1024

int
mem_check(struct ctl *ctl)
{
	struct vmm_count *c = calloc(MEM_MAXCOUNTS, sizeof(*c));
	unsigned n = 0, bad = 0;
	int error;

	if (c == NULL)
		return ctl_fail("no memory");
	error = vmm_recount(ctl->vmm, c, MEM_MAXCOUNTS, &n);
	if (ctl->json && error == 0)
		out_begin(&ctl->out, NULL, '[');
	for (unsigned i = 0; error == 0 && i < n && i < MEM_MAXCOUNTS; i++) {
		bool differs = c[i].counted != c[i].found;

		bad += differs;
		c[i].name[sizeof(c[i].name) - 1] = '\0';
		if (ctl->json) {
			out_begin(&ctl->out, NULL, '{');
			out_text(&ctl->out, "name", c[i].name);
			out_number(&ctl->out, "counted", c[i].counted);
			out_number(&ctl->out, "found", c[i].found);
			out_end(&ctl->out, '}');
		} else if (differs)
			printf("%s: counted %lu, found %lu\n", c[i].name,
			    c[i].counted, c[i].found);
	}
	if (ctl->json && error == 0) {
		out_end(&ctl->out, ']');
		out_finish(&ctl->out);
	}
	free(c);
	if (error != 0)
		return error;
	if (bad != 0)
		return ctl_fail("%u of %u counts differ", bad, n);
	if (!ctl->json)
		printf("%u counts agree with the tables\n", n);
	return 0;
}
