/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One thread, non-blocking sockets.  A client has one buffer for its request
 * and one for its reply; while a reply is not wholly sent nothing more is read
 * from it, so a client that does not listen costs its two buffers and holds up
 * nobody.  When all places are taken, the client that was silent longest goes.
 */
#include "libvmm/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "libvmm/libvmm_int.h"

#define SERVER_MAXCLIENTS 16
#define SERVER_IN (sizeof(struct proto_head) + PROTO_MAXDATA)
#define SERVER_OUT (sizeof(struct proto_reply) + PROTO_MAXDATA)

struct server_client {
	int fd; /* -1: free place */
	uint64_t last; /* turn of its last request */
	size_t nin, nout, sent;
	char *in, *out;
};

struct server {
	struct vmm *vmm;
	int sock, stop; /* stop: eventfd */
	pthread_t thread;
	uint64_t turn;
	/* All of it: the thread's alone. */
	struct server_client client[SERVER_MAXCLIENTS];
};

static void
server_hang_up(struct server_client *c)
{
	close(c->fd);
	free(c->in);
	free(c->out);
	memset(c, 0, sizeof(*c));
	c->fd = -1;
}

static void
server_accept(struct server *s)
{
	struct server_client *c = &s->client[0];
	int fd = accept4(s->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < SERVER_MAXCLIENTS; i++) {
		if (s->client[i].fd < 0) {
			c = &s->client[i];
			break;
		}
		if (s->client[i].last < c->last)
			c = &s->client[i];
	}
	if (c->fd >= 0)
		server_hang_up(c);
	c->fd = fd;
	c->last = ++s->turn;
	c->in = malloc(SERVER_IN);
	c->out = malloc(SERVER_OUT);
	if (c->in == NULL || c->out == NULL)
		server_hang_up(c);
}

/* => -errno: hang up */
static int
server_send(struct server_client *c)
{
	ssize_t n;

	while (c->sent < c->nout) {
		n = send(c->fd, c->out + c->sent, c->nout - c->sent,
		    MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		c->sent += (size_t)n;
	}
	c->nout = c->sent = 0;
	return 0;
}

/* Answers what is whole in the buffer, one reply at a time. */
static int
server_work(struct server *s, struct server_client *c)
{
	struct proto_head h;
	const void *data;
	int error;
	long n;

	while (c->nout == 0) {
		n = proto_parse(c->in, c->nin, &h, &data);
		if (n <= 0)
			return (int)n;
		c->last = ++s->turn;
		c->nout = server_answer(s->vmm, &h, data, c->out);
		c->nin -= (size_t)n;
		memmove(c->in, c->in + n, c->nin);
		error = server_send(c);
		if (error != 0)
			return error;
	}
	return 0;
}

static int
server_receive(struct server *s, struct server_client *c)
{
	ssize_t n = recv(c->fd, c->in + c->nin, SERVER_IN - c->nin, 0);

	if (n == 0)
		return -ECONNRESET;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	c->nin += (size_t)n;
	return server_work(s, c);
}

static void
server_serve(struct server *s, struct server_client *c, short revents)
{
	int error = 0;

	if ((revents & (POLLERR | POLLNVAL)) != 0)
		error = -ECONNRESET;
	if (error == 0 && (revents & POLLOUT) != 0) {
		error = server_send(c);
		if (error == 0 && c->nout == 0)
			error = server_work(s, c);
	}
	if (error == 0 && c->nout == 0 && (revents & (POLLIN | POLLHUP)) != 0)
		error = server_receive(s, c);
	else if (error == 0 && (revents & POLLHUP) != 0)
		error = -ECONNRESET;
	if (error != 0)
		server_hang_up(c);
}

static void *
server_main(void *arg)
{
	struct server *s = arg;
	struct pollfd pfd[SERVER_MAXCLIENTS + 2];
	struct server_client *who[SERVER_MAXCLIENTS];

	for (;;) {
		nfds_t n = 2;

		pfd[0] = (struct pollfd){ .fd = s->stop, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = s->sock, .events = POLLIN };
		for (unsigned i = 0; i < SERVER_MAXCLIENTS; i++) {
			struct server_client *c = &s->client[i];

			if (c->fd < 0)
				continue;
			who[n - 2] = c;
			pfd[n].fd = c->fd;
			pfd[n].events = c->nout != 0 ? POLLOUT : POLLIN;
			pfd[n++].revents = 0;
		}
		if (poll(pfd, n, -1) < 0)
			continue;
		if (pfd[0].revents != 0)
			break;
		for (nfds_t i = 2; i < n; i++)
			if (pfd[i].revents != 0)
				server_serve(s, who[i - 2], pfd[i].revents);
		if (pfd[1].revents != 0)
			server_accept(s);
	}
	for (unsigned i = 0; i < SERVER_MAXCLIENTS; i++)
		if (s->client[i].fd >= 0)
			server_hang_up(&s->client[i]);
	return NULL;
}

int
server_start(struct vmm *vmm, int sock, struct server **sp)
{
	struct server *s = calloc(1, sizeof(*s));
	sigset_t all, old;
	int error;

	if (s == NULL) {
		close(sock);
		return -ENOMEM;
	}
	s->vmm = vmm;
	s->sock = sock;
	for (unsigned i = 0; i < SERVER_MAXCLIENTS; i++)
		s->client[i].fd = -1;
	s->stop = eventfd(0, EFD_CLOEXEC);
	if (s->stop < 0) {
		error = -errno;
		goto fail;
	}
	/* Signals are the program's business, on its threads. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = -pthread_create(&s->thread, NULL, server_main, s);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0)
		goto fail;
	(void)pthread_setname_np(s->thread, "control");
	*sp = s;
	return 0;
fail:
	if (s->stop >= 0)
		close(s->stop);
	close(sock);
	free(s);
	return error;
}

void
server_stop(struct server *s)
{
	(void)eventfd_write(s->stop, 1);
	pthread_join(s->thread, NULL);
	close(s->stop);
	close(s->sock);
	free(s);
}
