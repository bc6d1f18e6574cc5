/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine under way: its vCPU threads, what their exits ask for, and the
 * main loop that watches signals and the console.
 */
#ifndef HYVE_RUN_H
#define HYVE_RUN_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vmm/vmm.h"

struct config;
struct console;
struct serial;

struct run {
	const struct config *cfg;
	struct vmm *vmm;
	struct console *console;
	struct serial *com1;
	bool debug_exit;
	unsigned ncpu;
	int wake_fd; /* eventfd: the main loop has something to see */
	_Atomic unsigned alive;	    /* vCPU threads */
	_Atomic int how;	    /* enum vmm_suspend, from the first exit */
	_Atomic int debug_status;   /* of the debug-exit port, -1: none */
	_Atomic(const char *) why;  /* what ended it, if not the guest */
};

/* Blocks the signals that the main loop takes; before any thread. */
void run_block_signals(void);
/* Runs to the end. => exit status of the program; the machine still exists */
int run_machine(struct run *r);

#endif /* HYVE_RUN_H */
