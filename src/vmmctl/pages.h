/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A set of guest pages: a bit each, over the maps that the machine had when the
 * set was made; and ranges of pages on standard output.
 */
#ifndef VMMCTL_PAGES_H
#define VMMCTL_PAGES_H

#include "vmmctl/vmmctl.h"

struct pages {
	unsigned n;
	struct vmm_memmap map[VMM_MAXMAPS];
	uint64_t *bits[VMM_MAXMAPS];
};

int pages_init(struct pages *ps, struct vmm *vmm);
void pages_fini(struct pages *ps);
/* A vmm_block_fn that adds to the set arg. */
int pages_add(void *arg, const struct vmm_block *b);
/* Page i of map m is in the set. */
bool pages_has(const struct pages *ps, unsigned m, uint64_t i);
uint64_t pages_count(const struct pages *ps);

/* Collects neighbouring pages and prints each range when it ends. */
struct ranges {
	struct ctl *ctl;
	gpa_t start, end;
	uint64_t n, pages;
};
void ranges_begin(struct ranges *r, struct ctl *ctl);
void ranges_add(struct ranges *r, gpa_t gpa);
void ranges_end(struct ranges *r);

#endif /* VMMCTL_PAGES_H */
