#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Each layer calls nothing above itself, not even by a hand-written extern: its
# archive, whole, closes as a shared object with those below it.
# $1: compiler; then the archives from the highest layer to the lowest.
cc=$1
shift
out=$(mktemp) || exit 2
trap 'rm -f "$out"' EXIT
bad=0
while [ $# -gt 0 ]; do
	lib=$1
	shift
	if ! $cc -shared -o "$out" -Wl,--no-undefined -Wl,--whole-archive "$lib" \
	    -Wl,--no-whole-archive "$@" -pthread -lZydis -llz4 -lm 2>"$out.err"; then
		echo "$lib calls upward:"
		grep -o 'undefined reference.*' "$out.err" | sort -u | head -20
		bad=1
	fi
	rm -f "$out.err"
done
exit $bad
