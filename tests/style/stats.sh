#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Every counter of the core and of the engines is in the man page.  $1: source folder
cd "$1" || exit 2
bad=0
for s in $(grep -ho '"[a-z]*\.[a-z0-9_.]*"' src/vmm/stat_list.h | tr -d '"') \
    $(grep -rho '"soft\.[a-z0-9_.]*"' src/engine | tr -d '"') \
    $(grep -rho '"lapic\.[a-z0-9_.]*"' src/platform | tr -d '"'); do
	grep -q "^\.It Li $s\$" man/vmmctl.1 || { echo "$s: not in man/vmmctl.1"; bad=1; }
done
exit $bad
