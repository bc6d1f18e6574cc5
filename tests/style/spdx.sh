#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The licence stands at the top of every source file.  $1: source folder.
cd "$1" || exit 2
bad=0
for f in $(find include src tests tools bench man .ci -type f \
    \( -name '*.[chS]' -o -name '*.sh' -o -name '*.py' -o -name '*.[1-9]' -o -name '*.pml' \
    -o -name meson.build \) 2>/dev/null) meson.build meson_options.txt Makefile; do
	[ -f "$f" ] || continue
	if ! head -3 "$f" | grep -q 'SPDX-License-Identifier: BSD-2-Clause'; then
		echo "$f: no SPDX line"
		bad=1
	fi
done
exit $bad
