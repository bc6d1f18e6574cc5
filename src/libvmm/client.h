/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A connection to a machine that another process runs.
 */
#ifndef LIBVMM_CLIENT_H
#define LIBVMM_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "libvmm/proto.h"

struct client;

int client_open(const char *name, struct client **cp) BASE_MUST_CHECK;
void client_close(struct client *c);

struct client_call {
	enum proto_op op;
	uint64_t arg[PROTO_NARG];
	const void *data; /* to send */
	size_t len;
	void *reply; /* filled up to cap; got says how much there was */
	size_t cap, got;
};
/* => 0 or the machine's error; -EPIPE: it is gone; -EPROTO */
int client_call(struct client *c, struct client_call *call);
/* The same, and a reply of another length than cap is -EPROTO. */
int client_call_exact(struct client *c, struct client_call *call);

#endif /* LIBVMM_CLIENT_H */
