#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# ACPICA's compiler reads our tables back without a complaint, and finds in the
# DSDT what we mean.  $1: acpi_test
command -v iasl >/dev/null || exit 77
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
"$1" "$dir" >"$dir/log" 2>&1 || { cat "$dir/log"; exit 1; }
cd "$dir" || exit 1
for f in XSDT FACP FACS APIC HPET DSDT; do
	iasl -d $f.dat >out 2>&1 || { cat out; exit 1; }
	grep -Ei 'error|warning|invalid|unknown|incorrect|truncated' out && { cat out; exit 1; }
	[ $f != DSDT ] && grep -Ei '\*\*\*\*|invalid|unknown|incorrect|truncated' $f.dsl && exit 1
done
# And the DSDT compiles again.
iasl -p again DSDT.dsl >out 2>&1 || { cat out; exit 1; }
grep -q '0 Errors, 0 Warnings' out || { cat out; exit 1; }
grep -q 'Name (_S5' DSDT.dsl && grep -q 'PNP0501' DSDT.dsl && grep -q '0x03F8' DSDT.dsl
