/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What must hold for every plan, said a second time and differently than in
 * src/loader/plan.c.  For unit tests and fuzzers.
 */
#ifndef TESTS_LOADER_PLAN_CHECK_H
#define TESTS_LOADER_PLAN_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#include "loader/plan.h"

#define PLAN_CHECK(e)                                                     \
	do {                                                              \
		if (!(e)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, \
			    #e);                                          \
			abort();                                          \
		}                                                         \
	} while (0)

static inline bool
plan_check_disjoint(gpa_t a, uint64_t alen, gpa_t b, uint64_t blen)
{
	return a < b ? b - a >= alen : a - b >= blen;
}

static inline void
plan_check(const struct plan_input *in, const struct plan *p)
{
	unsigned modules = 0;

	for (unsigned i = 0; i < p->npiece; i++) {
		const struct plan_piece *q = &p->piece[i];

		PLAN_CHECK(q->len > 0 && q->datalen <= q->len);
		PLAN_CHECK(q->gpa >= VMM_HIGHMEM_BASE ?
			q->gpa - VMM_HIGHMEM_BASE + q->len <= in->high :
			q->gpa + q->len <= in->low);
		PLAN_CHECK(plan_check_disjoint(q->gpa, q->len, 0xa0000,
		    0x60000));
		for (size_t k = 0; k < in->nreserved; k++)
			PLAN_CHECK(plan_check_disjoint(q->gpa, q->len,
			    in->reserved[k].gpa, in->reserved[k].len));
		for (unsigned k = 0; k < i; k++)
			PLAN_CHECK(plan_check_disjoint(q->gpa, q->len,
			    p->piece[k].gpa, p->piece[k].len));
		if (q->module >= 0) {
			modules++;
			PLAN_CHECK(q->len == in->module[q->module].len);
		} else if (q->datalen > 0) {
			/* Reads it all: the sanitizer says if it is ours. */
			const volatile uint8_t *b = q->data;
			uint8_t sum = 0;

			for (uint64_t k = 0; k < q->datalen; k++)
				sum = (uint8_t)(sum + b[k]);
			(void)sum;
		}
	}
	PLAN_CHECK(modules == in->nmodule);
	for (unsigned i = 0; i < p->nmap; i++) {
		PLAN_CHECK(p->map[i].len > 0);
		if (i > 0)
			PLAN_CHECK(p->map[i].gpa >= p->map[i - 1].gpa);
		if (p->map[i].type != LOADER_MEM_RAM)
			continue;
		for (size_t k = 0; k < in->nreserved; k++)
			PLAN_CHECK(plan_check_disjoint(p->map[i].gpa,
			    p->map[i].len, in->reserved[k].gpa,
			    in->reserved[k].len));
	}
}

#endif /* TESTS_LOADER_PLAN_CHECK_H */
