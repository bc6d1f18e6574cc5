#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# mandoc has nothing to say about the man pages.
command -v mandoc >/dev/null || exit 77
out=$(mandoc -Tlint -Wstyle "$@" | grep -v 'referenced manual not found\|Mdocdate')
[ -z "$out" ] || { echo "$out"; exit 1; }
