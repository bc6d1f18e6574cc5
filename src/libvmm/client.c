/* SPDX-License-Identifier: BSD-2-Clause */
#include "libvmm/client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "libvmm/libvmm_int.h"

/* A machine answers at once unless its host swaps or it is being debugged. */
#define CLIENT_TIMEOUT_S 30

struct client {
	int fd;
	struct lock lock; /* one call at a time */
	bool broken;	  /* l: out of step, nothing more is sent */
};

static int
client_send(int fd, const void *buf, size_t len)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = send(fd, (const char *)buf + done, len - done,
		    MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
	}
	return 0;
}

static int
client_receive(int fd, void *buf, size_t len)
{
	ssize_t n;

	for (size_t done = 0; done < len; done += (size_t)n) {
		n = recv(fd, (char *)buf + done, len - done, 0);
		if (n < 0 && errno == EINTR)
			n = 0;
		else if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -EPIPE;
		else if (n == 0)
			return -EPIPE;
	}
	return 0;
}

static int
client_exchange(struct client *c, struct client_call *call, int32_t *errorp)
{
	struct proto_head h = {
		.magic = PROTO_MAGIC,
		.op = (uint16_t)call->op,
		.len = (uint32_t)call->len,
	};
	struct proto_reply r;
	int error;

	memcpy(h.arg, call->arg, sizeof(h.arg));
	error = client_send(c->fd, &h, sizeof(h));
	if (error == 0)
		error = client_send(c->fd, call->data, call->len);
	if (error == 0)
		error = client_receive(c->fd, &r, sizeof(r));
	if (error != 0)
		return error;
	if (r.magic != PROTO_MAGIC || r.op != h.op || r.error > 0 ||
	    r.len > call->cap)
		return -EPROTO;
	call->got = r.len;
	*errorp = r.error;
	return client_receive(c->fd, call->reply, r.len);
}

int
client_call(struct client *c, struct client_call *call)
{
	int32_t answer = 0;
	int error;

	lock_acquire(&c->lock);
	error = c->broken ? -EPIPE : client_exchange(c, call, &answer);
	if (error != 0)
		c->broken = true;
	lock_release(&c->lock);
	return error != 0 ? error : answer;
}

int
client_call_exact(struct client *c, struct client_call *call)
{
	int error = client_call(c, call);

	return error == 0 && call->got != call->cap ? -EPROTO : error;
}

int
client_open(const char *name, struct client **cp)
{
	struct timeval tv = { .tv_sec = CLIENT_TIMEOUT_S };
	struct client_call hello = {
		.op = PROTO_HELLO,
		.arg = { PROTO_VERSION, sizeof(struct vmm_regs) },
	};
	struct client *c;
	int error, fd;

	fd = dir_connect(name);
	if (fd < 0)
		return fd;
	c = calloc(1, sizeof(*c));
	if (c == NULL) {
		close(fd);
		return -ENOMEM;
	}
	c->fd = fd;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	lock_init(&c->lock, "client", LOCK_RANK_CONTROL);
	error = client_call_exact(c, &hello);
	if (error != 0)
		client_close(c);
	else
		*cp = c;
	return error;
}

void
client_close(struct client *c)
{
	close(c->fd);
	lock_fini(&c->lock);
	free(c);
}
