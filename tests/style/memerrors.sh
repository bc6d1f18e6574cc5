#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Each error that vmm-memory(7) documents has a row in the test that provokes
# them.  $1: source folder
cd "$1" || exit 2
rows=$(sed 's/.*\(NO(no_[a-z]*, \|R(\)\(vmm_[a-z_]*\), "[^"]*", \([A-Z]*\),.*/ROW \2 \3/' \
    tests/unit/mem_errors_test.c | awk '$1 == "ROW" { print $2, $3 }' | sort -u)
want=$(awk '/^\.Ss / { fn = $2 == "Fn" ? $3 : "" }
	/^\.Sh/ { fn = "" }
	/^\.Er / && fn != "" { print fn, $2 }' man/vmm-memory.7 | sort -u)
[ -n "$want" ] || exit 2
bad=0
while read -r fn e; do
	echo "$rows" | grep -qx "$fn $e" || { echo "$fn: $e is documented, not provoked"; bad=1; }
done <<EOF
$want
EOF
exit $bad
