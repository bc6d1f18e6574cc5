#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Code that runs while the guest's vector state is live in the host's units
# must not touch a vector register.  $1: a program with the engine in it
bad=$(objdump -d --no-show-raw-insn "$1" | awk '
/^[0-9a-f]+ <.*>:$/ { f = substr($2, 2, length($2) - 3); n[f] = 1 }
/%[xy]mm/ { v[f] = 1 }
END {
	split("pmap_walk pmap_generation soft_tlb_fill soft_slow soft_cache_has_code" \
	    " soft_jc_flush code_join code_part code_gen soft_enter soft_leave" \
	    " soft_read soft_write soft_goto soft_fast soft_event_fast seg_cache" \
	    " seg_null_ss soft_set_seg seg_drop_privileged", want, " ")
	for (i in want) {
		if (!(want[i] in n)) print "not found: " want[i]
		if (want[i] in v) print "uses a vector register: " want[i]
	}
}')
[ -z "$bad" ] && exit 0
echo "$bad"
exit 1
