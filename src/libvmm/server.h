/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The thread in a machine's process that answers the control socket.
 */
#ifndef LIBVMM_SERVER_H
#define LIBVMM_SERVER_H

#include <stddef.h>

#include "base/check.h"
#include "libvmm/proto.h"

struct server;
struct vmm;

/* Takes over the listening socket. => 0 or -errno (then it is closed) */
int server_start(struct vmm *vmm, int sock,
    struct server **sp) BASE_MUST_CHECK;
/* Hangs up on everybody and ends the thread. */
void server_stop(struct server *s);

/*
 * Answers one request; used by the thread and by the fuzzer.
 * => writes a reply of at most sizeof(struct proto_reply) + PROTO_MAXDATA
 *    bytes to out, returns its length
 */
size_t server_answer(struct vmm *vmm, const struct proto_head *h,
    const void *data, void *out);

#endif /* LIBVMM_SERVER_H */
