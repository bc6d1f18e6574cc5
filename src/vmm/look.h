/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking into a machine's memory while it runs, in terms of its segments and
 * maps.  Nothing here stops a vCPU.
 */
#ifndef VMM_LOOK_H
#define VMM_LOOK_H

#include <stdbool.h>

#include "base/check.h"
#include "vmm/types.h"

struct machine;

/* segid -1: the machine. => 0, -EINVAL: no such segment */
int look_ledger(struct machine *m, int segid,
    struct vmm_ledger *l) BASE_MUST_CHECK;
/* Of the map that begins at gpa: without held, faults and page-outs, which
 * belong to segments. => 0, -ENOENT */
int look_map_ledger(struct machine *m, gpa_t gpa,
    struct vmm_ledger *l) BASE_MUST_CHECK;
void look_page(struct machine *m, gpa_t gpa, struct vmm_page *pg);
void look_states(struct machine *m, gpa_t gpa, uint64_t n, uint16_t *state);
/* How many blocks look_marks() may report. */
uint64_t look_max_blocks(struct machine *m);
/* A client of what was written and accessed: vm_mark_open(). => or -EMFILE */
int look_mark_open(void) BASE_MUST_CHECK;
void look_mark_close(int client);
/* See vm_mark_fetch(). */
enum { LOOK_DIRTY, LOOK_ACCESSED, LOOK_NMARK };
typedef bool look_block_fn(void *arg, const struct vmm_block *b);
uint64_t look_marks(struct machine *m, int client, unsigned which,
    look_block_fn *fn, void *arg);
/* Fills up to n counts; *countp: how many there are. => how many differ */
unsigned look_recount(struct machine *m, struct vmm_count *c, unsigned n,
    unsigned *countp);

#endif /* VMM_LOOK_H */
