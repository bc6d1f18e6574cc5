/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "libvmm/libvmm_int.h"

/* One line for people, of this thread's last failed call. */
static _Thread_local char error_line[512];

int
api_error(int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(error_line, sizeof(error_line), fmt, ap);
	va_end(ap);
	return error;
}

int
api_errno(int error, const char *what)
{
	if (error < 0)
		(void)api_error(error, "%s: %s", what, strerror(-error));
	return error;
}

const char *
vmm_errmsg(const struct vmm *vmm)
{
	(void)vmm;
	return error_line;
}
