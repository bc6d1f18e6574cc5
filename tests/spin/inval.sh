#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Checks the models of the invalidation protocol, of the claims of code pages
# and of page-in: right as they stand, and wrong, and found wrong, when a rule is broken.
model=$(dirname "$(realpath "$0")")/inval.pml
command -v spin >/dev/null || { echo "skip: spin is not installed"; exit 77; }
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1

check() { # want-errors spin-options...
	want=$1
	shift
	spin "$@" -a "$model" >/dev/null &&
	    ${CC:-cc} -O2 -w -DVECTORSZ=2048 -o pan pan.c &&
	    ./pan -m200000 >out 2>&1 || { cat out; echo "cannot run: $*"; exit 1; }
	got=$(sed -n 's/.*errors: \([0-9]*\).*/\1/p' out)
	if [ "$got" != "$want" ] || grep -q 'search not completed' out && [ "$want" = 0 ]; then
		cat out
		echo "model $*: $got errors, want $want"
		exit 1
	fi
	echo "model ${*:-as it stands}: $(sed -n 's/ *\([0-9]*\) states, stored.*/\1/p' out) states, $got errors, as it must be"
}

check 0
check 1 -DBREAK_ORDER
check 1 -DBREAK_ACK
model=${model%inval.pml}claim.pml
check 0
check 1 -DBREAK_FILL
check 1 -DBREAK_LOCK
check 0 -DNV=3
check 1 -DNV=3 -DBREAK_CHECK
model=${model%claim.pml}pagein.pml
check 0
check 0 -DNV=3
check 1 -DBREAK_BUSY
check 1 -DBREAK_DISCARD
check 1 -DBREAK_WAKE
