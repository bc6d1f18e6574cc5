/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"

static log_sink_fn *log_sink;
static void *log_sink_arg;
static enum log_level log_max = LOG_LEVEL_WARN;

void
log_set_sink(log_sink_fn *fn, void *arg, enum log_level max)
{
	log_sink = fn;
	log_sink_arg = arg;
	log_max = max;
}

void
log_msg(enum log_level level, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	if (level > log_max)
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (log_sink != NULL)
		log_sink(log_sink_arg, level, line);
	else
		fprintf(stderr, "%s\n", line);
}

void
base_panic(const char *file, int line, const char *expr, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: assertion failed: %s: ", file, line, expr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}
