#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Each header compiles alone; the installed ones as C++ too, where there is a
# compiler.  $1: source folder, $2...: compilers.
cd "$1" || exit 2
shift
bad=0
for cc; do
	command -v "$cc" >/dev/null || continue
	for h in include/vmm/*.h $(find src -name '*.h'); do
		$cc -std=gnu11 -D_GNU_SOURCE -Iinclude -Isrc -Wall -Wextra -Werror -fsyntax-only \
		    -Wno-pragma-once-outside-header -Wno-unused-function -x c "$h" || bad=1
	done
done
if command -v g++ >/dev/null; then
	g++ -Iinclude -Wall -Wextra -Werror -fsyntax-only -x c++ include/vmm/vmm.h || bad=1
fi
exit $bad
