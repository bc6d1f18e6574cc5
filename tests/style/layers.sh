#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Who may include whom (docs/ARCHITECTURE.md): every #include "..." and
# <vmm/...> under src/ against the table below.  $1: the source folder.
cd "$1/src" || exit 2
awk '
BEGIN {
	# folder: what its files may include, by prefix or whole name
	types = "vmm/types.h "
	api = "vmm/types.h vmm/vmm.h "
	core = "vmm/types.h vmm/machine.h vmm/vcpu.h vmm/memseg.h vmm/hold.h vmm/limit.h vmm/look.h " \
	    "vmm/stats.h "
	ok["base"] = types "base/"
	ok["host"] = types "base/ host/"
	ok["pmap"] = types "base/ pmap/"
	ok["vm"] = types "base/ pmap/ vm/"
	ok["engine"] = types "base/ engine/engine.h"
	ok["engine/soft"] = types "base/ pmap/pmap.h vm/vm.h engine/engine.h engine/soft/"
	ok["engine/kvm"] = types "base/ pmap/pmap.h vm/vm.h engine/engine.h engine/kvm/"
	ok["vmm"] = core "base/ pmap/pmap.h vm/vm.h engine/engine.h vmm/machine_int.h " \
	    "vmm/stat_list.h vmm/iommu.h"
	ok["platform"] = core "base/ engine/engine.h platform/"
	ok["libvmm"] = api core "base/ platform/platform.h libvmm/"
	ok["loader"] = api "base/ loader/"
	ok["devices"] = api "base/ devices/"
	ok["hyve"] = api "base/ loader/loader.h devices/ hyve/"
	ok["vmmctl"] = api "base/check.h vmmctl/"
}
FNR == 1 {
	folder = FILENAME
	sub(/^\.\//, "", folder)
	sub(/\/[^\/]*$/, "", folder)
	if (!(folder in ok)) {
		print FILENAME ": folder " folder " is in no layer"
		bad = 1
		n = 0
	} else
		n = split(ok[folder], list, " ")
}
/^[ \t]*#[ \t]*include[ \t]*("|<vmm\/)/ {
	name = $0
	sub(/^[^"<]*["<]/, "", name)
	sub(/[">].*$/, "", name)
	good = 0
	for (i = 1; i <= n; i++)
		if (name == list[i] || (list[i] ~ /\/$/ && index(name, list[i]) == 1))
			good = 1
	if (!good) {
		print FILENAME ":" FNR ": " folder " may not include " name
		bad = 1
	}
}
END { exit bad }
' $(find . -name '*.[chS]' | sort)
