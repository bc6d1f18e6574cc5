/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Private to libvmm.
 */
#ifndef LIBVMM_INT_H
#define LIBVMM_INT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/check.h"
#include "base/lock.h"
#include "libvmm/dir.h"
#include "libvmm/look.h"
#include "vmm/machine.h"
#include "vmm/vmm.h"

struct client;
struct platform;
struct server;

struct vmm_vcpu {
	struct vmm *vmm; /* C */
	unsigned id;	 /* C */
};

struct vmm {
	char name[VMM_NAME_MAX + 1]; /* C */
	struct client *client;	     /* C: connection; NULL for the creator */
	/* The rest is the creator's. */
	struct machine *m;
	struct platform *plat;
	struct server *server;
	struct look look;
	struct dir dir;
	bool has_dir;
	char engine_why[256];
	uint64_t start_ns;
	enum pmap_type pmap_type;
};

/* Fills the calling thread's message, returns error. */
int api_error(int error, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
/* The same with a text made from a general errno. */
int api_errno(int error, const char *what);
int api_check_name(const char *name);

#endif /* LIBVMM_INT_H */
