#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# libvmm.so exports exactly what vmm.h declares.  $1: header, $2: library
want=$(sed -n 's/^\(int\|void\|uint64_t\|const char \*\)[ ]*\(vmm_[a-z0-9_]*\)(.*/\2/p' "$1" |
    sort)
have=$(nm -D --defined-only "$2" | awk '$2 ~ /^[TDBRVW]$/ { sub(/@.*/, "", $3); print $3 }' | sort)
[ -n "$want" ] && [ "$want" = "$have" ] && exit 0
echo "declared:"; echo "$want"; echo "exported:"; echo "$have"
exit 1
