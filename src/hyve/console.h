/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's serial console on the program's standard input and output.
 */
#ifndef HYVE_CONSOLE_H
#define HYVE_CONSOLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct console;
struct pollfd;

enum console_event {
	CONSOLE_NONE,
	CONSOLE_QUIT,	/* the escape key, then x */
	CONSOLE_CLOSED, /* nobody is at the other end any more */
};

/* Before any thread exists and before any name is claimed (it may fork).
 * => 0 or -errno */
int console_create(bool stdio, struct console **cp) BASE_MUST_CHECK;
/* Raw mode on a terminal, with a one-line hint. */
int console_start(struct console *c, const char *name) BASE_MUST_CHECK;
/* Writes what is still buffered, restores the terminal. */
void console_destroy(struct console *c);
bool console_is_tty(const struct console *c);
/* Around a stop (SIGTSTP): the user's terminal, and ours again. */
void console_suspend(struct console *c);
void console_resume(struct console *c);

/*
 * Guest output.  => any thread; waits while the terminal takes nothing, until
 *    console_stop().  wake is called when the main loop has to look.
 */
void console_put(struct console *c, const void *buf, size_t len);
void console_set_wake(struct console *c, void (*wake)(void *), void *arg);
void console_stop(struct console *c);

/* The main loop's side: which descriptors it waits for (at most two), what
 * came. */
unsigned console_poll_prepare(struct console *c, struct pollfd *pfd);
enum console_event console_poll_done(struct console *c,
    const struct pollfd *pfd, unsigned n);
/* Bytes typed for the guest: take up to n of them.  => any one thread */
size_t console_take(struct console *c, uint8_t *buf, size_t n);

#endif /* HYVE_CONSOLE_H */
