#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# Installs into a folder of its own; programs run from there, and an example is
# built and run against the installed library.
# $1: build folder, $2: source folder, $3: compiler
command -v pkg-config >/dev/null || exit 77
set -e
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
DESTDIR="$root" meson install -C "$1" --no-rebuild --quiet
find "$root" -type f -o -type l | sed "s|^$root||" | sort
prefix="$root$(meson introspect "$1" --buildoptions |
    python3 -c 'import json,sys; print([o["value"] for o in json.load(sys.stdin) if o["name"]=="prefix"][0])')"
lib=$(dirname "$(find "$root" -name 'libvmm.so')")
for f in bin/hyve bin/vmmctl include/vmm/vmm.h include/vmm/types.h share/man/man1/hyve.1 \
    share/man/man1/vmmctl.1 share/man/man3/libvmm.3 share/man/man7/vmm-memory.7; do
	[ -f "$prefix/$f" ] || { echo "$f is not installed"; exit 1; }
done
"$prefix/bin/hyve" --version
"$prefix/bin/vmmctl" --version
export PKG_CONFIG_PATH="$lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root"
$3 -Wall -Wextra -o "$root/hello" "$2/examples/hello.c" $(pkg-config --cflags --libs libvmm)
out=$(LD_LIBRARY_PATH="$lib" timeout 60 "$root/hello")
[ "$out" = hello ] || { echo "the example printed: $out"; exit 1; }
