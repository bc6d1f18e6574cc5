/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmmctl/out.h"

#include <stdio.h>

static void
out_quoted(const char *s)
{
	putchar('"');
	for (; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c == '"' || c == '\\')
			printf("\\%c", c);
		else if (c < 0x20)
			printf("\\u%04x", c);
		else
			putchar(c);
	}
	putchar('"');
}

static void
out_name(struct out *o, const char *name)
{
	if (o->comma)
		putchar(',');
	o->comma = true;
	if (name != NULL) {
		out_quoted(name);
		putchar(':');
	}
}

void
out_begin(struct out *o, const char *name, char bracket)
{
	out_name(o, name);
	putchar(bracket);
	o->comma = false;
}

void
out_end(struct out *o, char bracket)
{
	putchar(bracket);
	o->comma = true;
}

void
out_text(struct out *o, const char *name, const char *value)
{
	out_name(o, name);
	out_quoted(value);
}

void
out_number(struct out *o, const char *name, uint64_t value)
{
	out_name(o, name);
	printf("%lu", value);
}

void
out_real(struct out *o, const char *name, double value)
{
	out_name(o, name);
	printf("%.6g", value);
}

void
out_bool(struct out *o, const char *name, bool value)
{
	out_name(o, name);
	fputs(value ? "true" : "false", stdout);
}

void
out_hex(struct out *o, const char *name, uint64_t value)
{
	out_name(o, name);
	printf("\"0x%lx\"", value);
}

void
out_finish(struct out *o)
{
	putchar('\n');
	o->comma = false;
}
