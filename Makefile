# SPDX-License-Identifier: BSD-2-Clause
# The front door; Meson does the work.  `make help` lists the ways in.
BUILD ?= build
CC ?= gcc
ifeq ($(origin CC),default)
CC = gcc
endif
export CC
MESON_SETUP = meson setup

.PHONY: all help setup check check-all demo bench bench-memory asan tsan fuzz install fmt lint clean

all: $(BUILD)/build.ninja ## build build/hyve and build/vmmctl
	@ninja -C $(BUILD)
	@for p in hyve vmmctl; do \
	    [ ! -e $(BUILD)/src/$$p/$$p ] || ln -sf src/$$p/$$p $(BUILD)/$$p; done

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile

setup: ## install the Debian packages that are missing
	@tools/setup build test bench

$(BUILD)/build.ninja:
	@tools/setup build
	@$(MESON_SETUP) $(BUILD)

demo: all ## boot Debian's kernel to a shell
	@tools/demo $(BUILD)

check: ## build and run the tests (what CI runs)
	@tools/setup build test
	@tools/check

check-all: ## also the long tests, clang, ASan+UBSan and TSan builds
	@tools/setup build test
	@tools/check all

bench: ## hyve beside QEMU's TCG and native, as a table of ratios
	@tools/setup build bench
	@$(MAKE) --no-print-directory all
	@tools/bench $(BUILD)

bench-memory: ## guest memory beside native, QEMU's TCG and the host's kernel
	@tools/setup build bench
	@$(MAKE) --no-print-directory all
	@tools/bench-memory $(BUILD)

asan: ## build-asan: AddressSanitizer and UBSan
	@tools/setup build test
	@tools/check build asan

tsan: ## build-tsan: ThreadSanitizer
	@tools/setup build test
	@tools/check build tsan

fuzz: ## build-fuzz: libFuzzer targets; FUZZ_SECONDS=N each
	@tools/setup build test
	@FUZZ_SECONDS=$${FUZZ_SECONDS:-60} tools/check only fuzz

install: all ## to /usr/local; DESTDIR is obeyed
	@meson install -C $(BUILD) --no-rebuild

fmt: ## clang-format on what differs from main
	@git diff --name-only --diff-filter=d origin/HEAD 2>/dev/null | \
	    grep '\.[ch]$$' | xargs -r clang-format -i

lint: all ## the style tests alone
	@meson test -C $(BUILD) --no-rebuild --suite style

clean: ## remove what was built; keeps build/cache
	@rm -rf build-* && find $(BUILD) -mindepth 1 -maxdepth 1 ! -name cache \
	    -exec rm -rf {} +
