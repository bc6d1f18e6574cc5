/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * JSON on standard output: nested objects and arrays, commas and quoting.
 * Counts are numbers; addresses and registers, which may exceed what a double
 * holds, are strings in hexadecimal.
 */
#ifndef VMMCTL_OUT_H
#define VMMCTL_OUT_H

#include <stdbool.h>
#include <stdint.h>

struct out {
	bool comma; /* something stands before in this object or array */
};

/* name NULL: an element of an array, or the whole */
void out_begin(struct out *o, const char *name, char bracket);
void out_end(struct out *o, char bracket);
void out_text(struct out *o, const char *name, const char *value);
void out_number(struct out *o, const char *name, uint64_t value);
void out_real(struct out *o, const char *name, double value);
void out_bool(struct out *o, const char *name, bool value);
void out_hex(struct out *o, const char *name, uint64_t value);
/* After the last bracket. */
void out_finish(struct out *o);

#endif /* VMMCTL_OUT_H */
