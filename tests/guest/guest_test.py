#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boots one payload: guest_test.py [--hyve HYVE | --qemu] PAYLOAD [hyve option ...]

Under hyve's engine, or under QEMU (TCG) to check the payload itself. The
payload's verdict is what it writes to the debug-exit port.
"""
import os
import subprocess
import sys
import tempfile

PASS = 0x2A << 1 | 1


def main():
    args = sys.argv[1:]
    if args[0] == "--qemu":
        cmd = ["qemu-system-x86_64", "-accel", "tcg", "-cpu", "max", "-m", "64", "-display", "none",
               "-no-reboot", "-serial", "stdio", "-device", "isa-debug-exit,iobase=0xf4,iosize=4",
               "-kernel", args[1]] + args[2:]
    else:
        cmd = [args[1], "-e", "soft", "-m", "64M", "-l", "com1,stdio", "-o", "debugexit=true"] + \
            args[3:] + ["--kernel", args[2], "guest-%d" % os.getpid()]
    with tempfile.TemporaryDirectory() as d:
        env = dict(os.environ, VMM_DIR=d)
        try:
            r = subprocess.run(cmd, stdin=subprocess.DEVNULL, env=env, timeout=120)
        except FileNotFoundError as e:
            print(e)
            return 77
        except subprocess.TimeoutExpired:
            print("no verdict within two minutes")
            return 1
    print("status %d" % r.returncode)
    return 0 if r.returncode == PASS else 1


if __name__ == "__main__":
    sys.exit(main())
