/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Output goes into a ring that the main loop empties, so that a vCPU does not
 * make a system call for each character; when the terminal takes nothing the
 * vCPU waits, as behind a serial line with flow control.
 *
 * Raw mode must be undone however the process ends, SIGKILL and crashes
 * included.  So a small child, forked before anything else, holds the reading
 * end of a pipe: when the pipe closes, we are gone, and it restores the
 * terminal; on an ordinary end it is told that this has been done.
 */
#include "hyve/console.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/lock.h"

#define CONSOLE_RING 65536u
#define CONSOLE_INPUT 256u
#define CONSOLE_ESCAPE 0x01 /* Ctrl-A */

struct console {
	bool stdio, tty, raw, eof; /* main thread */
	bool escaped;		   /* main: the escape key came last */
	struct termios saved;
	pid_t guard;
	int guard_pipe; /* -1: none */
	void (*wake)(void *);
	void *wake_arg;

	struct lock lock;
	struct lock_cond room;
	bool stopped;		   /* l */
	uint8_t out[CONSOLE_RING]; /* l */
	size_t out_at, out_len;	   /* l */
	uint8_t in[CONSOLE_INPUT]; /* l */
	size_t in_len;		   /* l */
};

/* The child: waits for our end, by whatever means. */
static _Noreturn void
console_guard(const struct console *c, int fd)
{
	sigset_t all;
	ssize_t n;
	char b;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL); /* SIGTTOU too: we may write */
	(void)prctl(PR_SET_NAME, "hyve: terminal");
	do
		n = read(fd, &b, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
	_exit(0);
}

static int
console_start_guard(struct console *c)
{
	int fd[2];

	if (pipe(fd) != 0)
		return -errno;
	c->guard = fork();
	if (c->guard == 0) {
		close(fd[1]);
		console_guard(c, fd[0]);
	}
	close(fd[0]);
	if (c->guard < 0) {
		close(fd[1]);
		return -errno;
	}
	c->guard_pipe = fd[1];
	return 0;
}

int
console_create(bool stdio, struct console **cp)
{
	struct console *c = calloc(1, sizeof(*c));
	int error = 0;

	if (c == NULL)
		return -ENOMEM;
	c->guard_pipe = -1;
	c->stdio = stdio;
	c->tty = stdio && tcgetattr(STDIN_FILENO, &c->saved) == 0;
	lock_init(&c->lock, "console", LOCK_RANK_LEAF);
	lock_cond_init(&c->room);
	if (c->tty)
		error = console_start_guard(c);
	if (error != 0)
		console_destroy(c);
	else
		*cp = c;
	return error;
}

static void
console_raw(struct console *c)
{
	struct termios t = c->saved;

	if (!c->tty || c->raw)
		return;
	cfmakeraw(&t);
	c->raw = tcsetattr(STDIN_FILENO, TCSADRAIN, &t) == 0;
}

static void
console_cooked(struct console *c)
{
	if (c->raw)
		(void)tcsetattr(STDIN_FILENO, TCSANOW, &c->saved);
	c->raw = false;
}

static void
console_say(const char *s)
{
	ssize_t n = write(STDERR_FILENO, s, strlen(s));

	(void)n; /* a hint that cannot be shown is no error */
}

int
console_start(struct console *c, const char *name)
{
	if (!c->tty)
		return 0;
	console_say("hyve: ");
	console_say(name);
	console_say(" runs in this terminal: Ctrl-A x ends it, "
		    "Ctrl-A h helps\n");
	console_raw(c);
	return 0;
}

static void
console_help(void)
{
	console_say("\r\nhyve: after Ctrl-A: x ends the machine, h shows this, "
		    "Ctrl-A sends Ctrl-A\r\n");
}

bool
console_is_tty(const struct console *c)
{
	return c->tty;
}

void
console_suspend(struct console *c)
{
	console_cooked(c);
}

void
console_resume(struct console *c)
{
	console_raw(c);
}

void
console_set_wake(struct console *c, void (*wake)(void *), void *arg)
{
	c->wake_arg = arg;
	c->wake = wake;
}

void
console_stop(struct console *c)
{
	lock_acquire(&c->lock);
	c->stopped = true;
	lock_cond_broadcast(&c->room);
	lock_release(&c->lock);
}

void
console_put(struct console *c, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	bool first = false;

	if (!c->stdio)
		return;
	lock_acquire(&c->lock);
	while (len > 0) {
		if (c->out_len == CONSOLE_RING) {
			if (c->stopped)
				break; /* what nobody reads is dropped */
			(void)lock_cond_wait(&c->room, &c->lock, -1);
			continue;
		}
		first |= c->out_len == 0;
		c->out[(c->out_at + c->out_len++) % CONSOLE_RING] = *p++;
		len--;
	}
	lock_release(&c->lock);
	if (first && c->wake != NULL)
		c->wake(c->wake_arg);
}

/* => CONSOLE_CLOSED when standard output is gone */
static enum console_event
console_flush(struct console *c)
{
	uint8_t chunk[4096];
	size_t n, at;
	ssize_t w;

	lock_acquire(&c->lock);
	n = base_min(c->out_len, sizeof(chunk));
	at = c->out_at;
	for (size_t i = 0; i < n; i++)
		chunk[i] = c->out[(at + i) % CONSOLE_RING];
	lock_release(&c->lock);
	if (n == 0)
		return CONSOLE_NONE;
	w = write(STDOUT_FILENO, chunk, n);
	if (w < 0)
		return errno == EAGAIN || errno == EINTR ? CONSOLE_NONE :
							   CONSOLE_CLOSED;
	lock_acquire(&c->lock);
	c->out_at = (c->out_at + (size_t)w) % CONSOLE_RING;
	c->out_len -= (size_t)w;
	lock_cond_broadcast(&c->room);
	lock_release(&c->lock);
	return CONSOLE_NONE;
}

unsigned
console_poll_prepare(struct console *c, struct pollfd *pfd)
{
	unsigned n = 0;

	if (!c->stdio)
		return 0;
	lock_acquire(&c->lock);
	if (c->out_len != 0)
		pfd[n++] = (struct pollfd){ STDOUT_FILENO, POLLOUT, 0 };
	/* Nothing more is read while the guest has not taken what there is:
	 * a pipe's writer waits then, and no byte is lost. */
	if (!c->eof && c->in_len < CONSOLE_INPUT)
		pfd[n++] = (struct pollfd){ STDIN_FILENO, POLLIN, 0 };
	lock_release(&c->lock);
	return n;
}

/* => false: not for the guest; *evp is set when it means something */
static bool
console_filter(struct console *c, uint8_t b, enum console_event *evp)
{
	if (!c->tty)
		return true;
	if (!c->escaped) {
		c->escaped = b == CONSOLE_ESCAPE;
		return !c->escaped;
	}
	c->escaped = false;
	switch (b) {
	case CONSOLE_ESCAPE:
		return true;
	case 'x':
	case 'X':
		*evp = CONSOLE_QUIT;
		return false;
	default:
		console_help();
		return false;
	}
}

static enum console_event
console_read(struct console *c)
{
	enum console_event ev = CONSOLE_NONE;
	uint8_t buf[CONSOLE_INPUT];
	size_t room;
	ssize_t n;

	lock_acquire(&c->lock);
	room = CONSOLE_INPUT - c->in_len;
	lock_release(&c->lock);
	n = read(STDIN_FILENO, buf, room);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return CONSOLE_NONE;
	if (n <= 0) {
		/* The end of a script is no reason to stop; a terminal that
		 * hangs up is. */
		c->eof = true;
		return c->tty ? CONSOLE_CLOSED : CONSOLE_NONE;
	}
	lock_acquire(&c->lock);
	for (ssize_t i = 0; i < n; i++)
		if (console_filter(c, buf[i], &ev))
			c->in[c->in_len++] = buf[i];
	lock_release(&c->lock);
	return ev;
}

enum console_event
console_poll_done(struct console *c, const struct pollfd *pfd, unsigned n)
{
	enum console_event ev = CONSOLE_NONE;

	for (unsigned i = 0; i < n && ev == CONSOLE_NONE; i++) {
		if (pfd[i].revents == 0)
			continue;
		if (pfd[i].fd == STDIN_FILENO && pfd[i].events == POLLIN)
			ev = console_read(c);
		else
			ev = console_flush(c);
	}
	return ev;
}

size_t
console_take(struct console *c, uint8_t *buf, size_t n)
{
	bool was_full;

	lock_acquire(&c->lock);
	was_full = c->in_len == CONSOLE_INPUT;
	n = base_min(n, c->in_len);
	memcpy(buf, c->in, n);
	c->in_len -= n;
	memmove(c->in, c->in + n, c->in_len);
	lock_release(&c->lock);
	if (was_full && n != 0 && c->wake != NULL)
		c->wake(c->wake_arg);
	return n;
}

/* How long the last output may take to leave: 2 s in all. */
#define CONSOLE_LAST_TRIES 20
#define CONSOLE_LAST_MS 100

void
console_destroy(struct console *c)
{
	struct pollfd pfd = { STDOUT_FILENO, POLLOUT, 0 };

	for (int i = 0; i < CONSOLE_LAST_TRIES && c->out_len != 0;) {
		if (poll(&pfd, 1, CONSOLE_LAST_MS) <= 0)
			i++;
		else if (console_flush(c) != CONSOLE_NONE)
			break;
	}
	console_cooked(c);
	if (c->guard_pipe >= 0) {
		ssize_t n = write(c->guard_pipe, "q", 1);

		(void)n; /* if it fails the child restores once more */
		close(c->guard_pipe);
		(void)waitpid(c->guard, NULL, 0);
	}
	lock_cond_fini(&c->room);
	lock_fini(&c->lock);
	free(c);
}
