/* SPDX-License-Identifier: BSD-2-Clause */
/* A platform on clocks that only the test moves. */
#ifndef TESTS_PLAT_H
#define TESTS_PLAT_H

#include <stdbool.h>
#include <stdint.h>

#include "platform/platform.h"

#define PLAT_NCPU 4
#define PLAT_TSC_HZ 2000000000ull
#define PLAT_MEM 0x100000u

struct plat {
	struct platform *p;
	uint64_t now;  /* ns */
	uint64_t tsc_adjust[8];
	uint64_t wall; /* ns at now 0 */
	unsigned notified[PLAT_NCPU], nmi[PLAT_NCPU], init[PLAT_NCPU];
	unsigned sipi[PLAT_NCPU];
	uint8_t sipi_vector[PLAT_NCPU];
	enum vmm_suspend how;
	int status;
	uint8_t mem[PLAT_MEM]; /* guest memory from 0 */
};

void plat_start(struct plat *t);
void plat_stop(struct plat *t);
/* Moves the clock and runs what falls due, in one jump or nearly exactly. */
void plat_jump(struct plat *t, uint64_t ns);
void plat_run(struct plat *t, uint64_t ns, uint64_t step);

void plat_out(struct plat *t, uint16_t port, uint8_t v);
uint8_t plat_in(struct plat *t, uint16_t port);
void plat_write(struct plat *t, unsigned vcpu, gpa_t gpa, uint32_t v);
uint32_t plat_read(struct plat *t, unsigned vcpu, gpa_t gpa);

#endif /* TESTS_PLAT_H */
