/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmmctl/pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

int
pages_init(struct pages *ps, struct vmm *vmm)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	int error = 0;

	*ps = (struct pages){ .n = 0 };
	while (ps->n < VMM_MAXMAPS &&
	    (error = vmm_mmap_getnext(vmm, map.gpa, &map)) == 0) {
		ps->bits[ps->n] = calloc(map.len / VMM_PAGE_SIZE / 64 + 1, 8);
		if (ps->bits[ps->n] == NULL) {
			pages_fini(ps);
			return ctl_fail("no memory for a bit a page");
		}
		ps->map[ps->n++] = map;
		map.gpa++;
	}
	if (error == -ENOENT || error == 0)
		return 0;
	pages_fini(ps);
	return error;
}

void
pages_fini(struct pages *ps)
{
	for (unsigned i = 0; i < ps->n; i++)
		free(ps->bits[i]);
	ps->n = 0;
}

int
pages_add(void *arg, const struct vmm_block *b)
{
	struct pages *ps = arg;

	for (unsigned m = 0; m < ps->n; m++) {
		const struct vmm_memmap *map = &ps->map[m];

		if (b->gpa + (2ul << 20) <= map->gpa || b->gpa >= map->gpa + map->len)
			continue;
		for (unsigned k = 0; k < 512; k++) {
			gpa_t g = b->gpa + k * VMM_PAGE_SIZE;
			uint64_t i = (g - map->gpa) / VMM_PAGE_SIZE;

			if ((b->page[k / 64] >> (k % 64) & 1) != 0 &&
			    g >= map->gpa && g - map->gpa < map->len)
				ps->bits[m][i / 64] |= 1ul << (i % 64);
		}
	}
	return 0;
}

bool
pages_has(const struct pages *ps, unsigned m, uint64_t i)
{
	return (ps->bits[m][i / 64] >> (i % 64) & 1) != 0;
}

uint64_t
pages_count(const struct pages *ps)
{
	uint64_t n = 0;

	for (unsigned m = 0; m < ps->n; m++)
		for (uint64_t i = 0; i <= ps->map[m].len / VMM_PAGE_SIZE / 64; i++)
			n += (unsigned)__builtin_popcountl(ps->bits[m][i]);
	return n;
}

void
ranges_begin(struct ranges *r, struct ctl *ctl)
{
	*r = (struct ranges){ .ctl = ctl };
	if (ctl->json)
		out_begin(&ctl->out, "ranges", '[');
	else
		printf("%-18s %-18s %12s\n", "ADDRESS", "LENGTH", "PAGES");
}

static void
ranges_flush(struct ranges *r)
{
	uint64_t len = r->end - r->start;

	if (len == 0)
		return;
	r->n++;
	if (r->ctl->json) {
		out_begin(&r->ctl->out, NULL, '{');
		out_hex(&r->ctl->out, "gpa", r->start);
		out_number(&r->ctl->out, "length", len);
		out_end(&r->ctl->out, '}');
	} else
		printf("%-18lx %-18lx %12lu\n", r->start, len, len / VMM_PAGE_SIZE);
}

void
ranges_add(struct ranges *r, gpa_t gpa)
{
	if (gpa != r->end || r->end == r->start) {
		ranges_flush(r);
		r->start = gpa;
	}
	r->end = gpa + VMM_PAGE_SIZE;
	r->pages++;
}

void
ranges_end(struct ranges *r)
{
	ranges_flush(r);
	if (r->ctl->json) {
		out_end(&r->ctl->out, ']');
		out_number(&r->ctl->out, "pages", r->pages);
		out_number(&r->ctl->out, "bytes", r->pages * VMM_PAGE_SIZE);
	} else
		printf("%lu pages, %lu ranges\n", r->pages, r->n);
}
