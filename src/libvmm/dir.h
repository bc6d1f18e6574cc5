/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where running machines are found: one directory, mode 0700, with one folder
 * for each machine: its control socket "ctl" and its device memory nodes.
 * The folder is locked (flock) as long as its machine lives, so what a killed
 * process left behind is told from a machine that runs.
 */
#ifndef LIBVMM_DIR_H
#define LIBVMM_DIR_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct dir {
	int base; /* descriptor of the directory */
	int fd;	  /* of the machine's folder; the lock is on it */
};

#define DIR_CONTROL "ctl"

/* Takes the name for this process. => 0; -EEXIST it runs; or -errno */
int dir_claim(const char *name, struct dir *d) BASE_MUST_CHECK;
/* Removes the folder and all in it, and gives the name back. */
void dir_release(struct dir *d, const char *name);
/* Nodes of device memory. => 0 and a descriptor, or -errno */
int dir_create_node(struct dir *d, const char *name, uint64_t len, int *fdp);
int dir_open_node(const char *machine, const char *name, int oflag, int *fdp);
int dir_chmod_node(struct dir *d, const char *name, unsigned mode);
void dir_remove_node(struct dir *d, const char *name);
/* A listening, a connected control socket. => descriptor or -errno */
int dir_listen(struct dir *d);
int dir_connect(const char *name);
/* Names that answer, and removal of what dead machines left. */
int dir_list(int (*fn)(void *arg, const char *name), void *arg);
/* => the directory's name, as it would be used */
int dir_path(char *buf, size_t len);

#endif /* LIBVMM_DIR_H */
