#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Boots guests under hyve and looks at what they say and how they end.

    boot_test.py --hyve FILE --initrd FILE --payload DIR CASE

Exit status 77 (skipped) where Debian's kernel cannot be had.
"""

import argparse
import gzip
import json
import lzma
import os
import pty
import re
import resource
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
CACHE = os.path.join(ROOT, "build/cache")
RESET, POWEROFF, HALT, TRIPLE, ERROR = range(5)


class Failed(Exception):
    pass


def check(cond, text):
    if not cond:
        raise Failed(text)


class Hyve:
    """One run of hyve, with a folder of its own for sockets."""

    def __init__(self, arg, *options, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                 stderr=subprocess.STDOUT, prefix=(), env=None):
        self.dir = tempfile.mkdtemp(prefix="hyve-boot-")
        # The folder's name is short enough for a socket's address.
        env = dict(os.environ, VMM_DIR=self.dir, **(env or {}))
        cmd = list(prefix) + [arg.hyve, "-e", "soft", "-l", "com1,stdio"] + list(options) + ["guest"]
        print("+ " + " ".join(cmd), flush=True)
        self.text = ""
        self.proc = subprocess.Popen(cmd, stdin=stdin, stdout=stdout, stderr=stderr, env=env)
        self.fd = self.proc.stdout.fileno() if self.proc.stdout else None
        self.deadline = time.monotonic() + arg.timeout

    def read(self):
        """Some more output; False at its end."""
        left = self.deadline - time.monotonic()
        if left <= 0 or not select.select([self.fd], [], [], left)[0]:
            raise Failed("timeout")
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # a pty whose other side is closed
            data = b""
        text = data.decode(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        self.text += text
        return bool(data)

    def wait_for(self, pattern):
        """Reads until the pattern appears; returns what came before its end."""
        start = getattr(self, "seen", 0)
        while True:
            m = re.compile(pattern, re.M).search(self.text, start)
            if m:
                self.seen = m.end()
                return m
            check(self.read(), "ended without /%s/" % pattern)

    def end(self, status):
        while self.read():
            pass
        got = self.proc.wait(max(1, self.deadline - time.monotonic()))
        left = os.listdir(self.dir)
        check(got == status, "exit status %d instead of %d" % (got, status))
        check(not left, "left behind: %s" % left)
        return self.text.replace("\r", "")

    def kill(self):
        if self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


def hyve(arg, *options, status=POWEROFF, **kw):
    h = Hyve(arg, *options, **kw)
    try:
        return h.end(status)
    finally:
        h.kill()


def vmlinuz(arg):
    if os.path.getsize(arg.initrd) == 0 or subprocess.run(
            [os.path.join(ROOT, "tools/guest"), CACHE]).returncode != 0:
        print("no Debian kernel here")
        sys.exit(77)
    return os.path.join(CACHE, "vmlinuz")


def vmlinux(arg):
    """The ELF file inside the bzImage, unpacked once."""
    path, src = os.path.join(CACHE, "vmlinux"), vmlinuz(arg)
    if os.path.exists(path) and os.path.getmtime(path) > os.path.getmtime(src):
        return path
    with open(src, "rb") as f:
        img = f.read()
    setup = ((img[0x1f1] or 4) + 1) * 512
    off, size = struct.unpack_from("<II", img, 0x248)
    data = img[setup + off:setup + off + size]
    if data[:6] == b"\xfd7zXZ\0":
        data = lzma.LZMADecompressor().decompress(data)
    elif data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data[:-4])
    else:
        tool = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}.get(data[:4])
        check(tool, "the kernel is packed in an unknown way")
        # The last four bytes are the unpacked length, for the kernel's own use.
        data = subprocess.run([tool, "-dc"], input=data[:-4], stdout=subprocess.PIPE).stdout
    check(data[:4] == b"\x7fELF", "cannot unpack the kernel")
    tmp = "%s.%d" % (path, os.getpid())
    with open(tmp, "wb") as f:
        f.write(data)
    os.rename(tmp, path)
    return path


def linux(arg, run, *options, end=None, kernel=None, status=POWEROFF):
    append = 'console=ttyS0 HYVE_RUN="%s"' % run
    if end:
        append += " HYVE_END=" + end
    return hyve(arg, "--kernel", kernel or vmlinuz(arg), "--initrd", arg.initrd,
                "--append", append, *options, status=status)


SHOW = "uname -a; free -m; cat /proc/cpuinfo; cat /proc/iomem; echo MARK $((6*7))"


def check_linux(text):
    for want in (r"^hyve-init: up$", r"^Linux hyve .*x86_64 GNU/Linux$", r"^Mem: ",
                 r"^processor\s*: 0$", r"^MARK 42$", r"^hyve-init: status 0$"):
        check(re.search(want, text, re.M), "no /%s/" % want)
    for bad in ("BUG:", "WARNING:", "Oops", "Call Trace", "soft lockup", "rcu_preempt detected",
                "Kernel panic", "timed out", "IO-APIC + timer"):
        check(bad not in text, "the guest says \"%s\"" % bad)


def case_linux(arg):
    text = linux(arg, SHOW)
    check_linux(text)
    total = int(re.search(r"^Mem:\s+(\d+)", text, re.M)[1])
    check(440 <= total <= 512, "the guest has %d MB of 512" % total)


def case_linux_pvh(arg):
    check_linux(linux(arg, SHOW, kernel=vmlinux(arg)))


def case_linux_smp(arg):
    """Four vCPUs come up and work side by side."""
    text = linux(arg, SHOW + "; work -j 4 -s 20 mix btree atomic; grep -c ^processor "
                 "/proc/cpuinfo", "-c", "4")
    check_linux(text)
    check(re.search("^4$", text, re.M), "not four vCPUs")
    check(len(re.findall("^WORK ", text, re.M)) == 3, "the workloads did not end")


def case_linux_stress(arg):
    """Shoot-downs, futexes, forks and atomics on four vCPUs; memory keeps its patterns."""
    text = linux(arg, "stress 4 && pattern 96 3 4 && pattern 96 2 4 zipf; echo CODE $?", "-c", "4")
    check("stress: OK" in text, "stress failed")
    check(len(re.findall("^pattern: OK", text, re.M)) == 2, "pattern failed")
    check(re.search("^CODE 0", text, re.M), "a program failed")
    for bad in ("BUG:", "WARNING:", "Oops", "soft lockup", "rcu_preempt detected"):
        check(bad not in text, "the guest says \"%s\"" % bad)


def case_linux_clocks(arg):
    """Each interrupt controller with each clock that can drive a kernel without kvmclock."""
    # A kernel that sees the deadline timer leaves the 8254 alone, so that one is hidden.
    for options, timer in (("noapic nolapic", "XT-PIC"), ("nolapic_timer", "IO-APIC"),
                           ("nolapic_timer hpet=disable clearcpuid=152", "IO-APIC"),
                           ("lapic=notscdeadline nox2apic", "IO-APIC")):
        text = hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "--append",
                    'console=ttyS0 no-kvmclock %s HYVE_RUN="cat /proc/interrupts; sleep 1; '
                    'echo MARK $((6*7))"' % options)
        check("MARK 42" in text, "%s: no end" % options)
        rates = [float(m) for m in re.findall(r"tsc: .*? ([\d.]+) MHz", text)]
        check(rates and max(rates) < min(rates) * 1.01, "%s: TSC at %s MHz" % (options, rates))
        check(re.search(r"^ +0: +\d+ .*%s.*timer" % timer, text, re.M),
              "%s: no %s timer" % (options, timer))
        for bad in ("Call Trace", "unstable", "timer doesn't work", "8254 timer not connected"):
            check(bad not in text, "%s: \"%s\"" % (options, bad))


def linux_tables(arg, pmap):
    """Every form of nested page tables; the default one is run by all others."""
    for ad in ("hardware", "emulated"):
        for large in ("on", "off"):
            if arg.sanitized and (ad, large) != ("emulated", "on"):
                continue
            text = linux(arg, "stress 1 && pattern 64 1 2; echo CODE $?", "-c", "2", "-m", "256M",
                         "-o", "memory.pmap=" + pmap, "-o", "memory.ad=" + ad,
                         "-o", "memory.large=" + large)
            for want in ("^stress: OK", "^pattern: OK"):
                check(re.search(want, text, re.M),
                      "%s, A/D %s, large %s: no %s" % (pmap, ad, large, want))


def case_linux_ept(arg):
    linux_tables(arg, "ept")


def case_linux_x86(arg):
    linux_tables(arg, "x86")


def case_linux_limit(arg):
    """Three times as much memory in use as may be resident; nothing is lost."""
    for form in (("-o", "memory.compress=lz4"),
                 ("-o", "memory.pmap=x86", "-o", "memory.ad=emulated")):
        text = linux(arg, "pattern 240 2 2 && pattern 240 2 2 zipf; echo CODE $?", "-c", "2",
                     "-m", "384M", "-o", "memory.limit=80M", "-o", "memory.swapdir=" + ROOT +
                     "/build", *form)
        check(len(re.findall("^pattern: OK", text, re.M)) == 2, "pattern failed")
        check("swap" not in re.sub("(?m)^\\[.*", "", text), "an event of swap")


def limit(arg, h, size):
    exe = os.path.join(os.path.dirname(arg.hyve), "../vmmctl/vmmctl")
    subprocess.run([exe, "limit", "guest", size], check=True, env=dict(os.environ, VMM_DIR=h.dir))


def case_linux_stall(arg):
    """Swap that is full stops who wants more, until the limit is raised; limits move."""
    h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "-c", "2", "-m", "384M",
             "-o", "memory.limit=80M", "-o", "memory.swap=16M", "-o",
             "memory.swapdir=" + ROOT + "/build", "--append",
             'console=ttyS0 HYVE_RUN="pattern 200 4 2; echo CODE $?"')
    try:
        h.wait_for("waits for memory at gpa 0x[0-9a-f]*: No space left on device")
        time.sleep(0.5)
        limit(arg, h, "none")
        h.wait_for("goes on")
        time.sleep(1)
        for size in ("300M", "230M", "250M", "none", "240M"):
            limit(arg, h, size)
            time.sleep(0.3)
        limit(arg, h, "none")
        text = guest_said(h.end(POWEROFF))
        check("\npattern: OK" in text and "CODE 0" in text, "pattern failed")
    finally:
        h.kill()


def guest_flags(pid, size):
    """Flags of the host's mappings (proc(5), smaps) that hold guest memory of that size, and how
    much of them is resident."""
    flags, rss, inside = set(), 0, False
    with open("/proc/%d/smaps" % pid) as f:
        for line in f:
            m = re.match("([0-9a-f]+)-([0-9a-f]+) (....) ", line)
            if m:
                inside = m[3] == "rw-p" and int(m[2], 16) - int(m[1], 16) >= size
            elif inside and line.startswith("VmFlags:"):
                flags.update(line.split()[1:])
            elif inside and line.startswith("Rss:"):
                rss += int(line.split()[1]) << 10
    check(flags, "no mapping of guest memory is found")
    return flags, rss


def case_linux_wired(arg):
    """-S: all is resident, stays so, and takes no limit; -C: guest memory is in core dumps."""
    size = 192 << 20
    for options, wired in ((("-S", "-o", "memory.swap=64M", "-o", "memory.swapdir=" + ROOT +
                             "/build"), True), (("-C",), False)):
        h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "-m", "192M", *options,
                 "--append", 'console=ttyS0 quiet HYVE_RUN="echo START; sleep 3; pattern 20 1 1"')

        def ctl(*args):
            return subprocess.run([arg.vmmctl, *args], stdout=subprocess.PIPE, text=True,
                                  stderr=subprocess.STDOUT, env=dict(os.environ, VMM_DIR=h.dir))
        try:
            h.wait_for("^START")
            flags, rss = guest_flags(h.proc.pid, size)
            check(("dd" in flags) == wired, "core dumps: flags are %s" % sorted(flags))
            p = json.loads(ctl("mem", "guest", "--json").stdout)["pages"]
            if wired:
                check(p["resident"] == p["wired"] == size // 4096, "not all is wired: %s" % p)
                check(rss >= size, "%d bytes are resident" % rss)
                r = ctl("limit", "guest", "100M")
                check(r.returncode == 1 and "no limit while memory is wired" in r.stdout, r.stdout)
                check(json.loads(ctl("mem", "guest", "--json").stdout)["limit"] == 0, "a limit")
            else:
                check(p["wired"] == 0 and rss < size, "wired: %s" % p)
            check("\npattern: OK" in h.end(POWEROFF), "pattern failed")
        finally:
            h.kill()
    # together they make no sense, and hyve says so at once
    text = hyve(arg, "--kernel", vmlinuz(arg), "-S", "-o", "memory.limit=100M", status=ERROR)
    check(text.count("\n") == 1 and "wired (-S)" in text, text)


def ctl_quiet(arg, h, *args):
    subprocess.run([arg.vmmctl, *args], check=True, stdout=subprocess.DEVNULL, timeout=60,
                   env=dict(os.environ, VMM_DIR=h.dir))


def case_linux_squeeze(arg):
    """Four vCPUs write patterns while the limit moves up and down and their pages are looked
    at.  With --long SECONDS: 1 GB, of which 600 MB are used, and 200 MB may be resident."""
    seconds = arg.long or (4 if not arg.sanitized else 8)
    size, used, limits = (("1G", 600, ("200M", "90M", "400M", "200M")) if arg.long else
                          ("320M", 150, ("100M", "48M", "200M", "64M")))
    h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "-c", "4", "-m", size,
             "-o", "memory.limit=" + limits[0], "-o", "memory.swapdir=" + ROOT + "/build",
             "--append", 'console=ttyS0 HYVE_RUN="echo START; pattern %d %d 4 && '
             'pattern %d %d 4 zipf; echo CODE $?; echo END; sleep 1"' % (used, seconds, used, seconds))
    h.deadline += 4 * seconds
    done, failed = threading.Event(), []

    def squeeze():
        n = 0
        try:
            while not done.wait(2 if arg.long else 0.2):
                n += 1
                # a long run is mostly at its limit
                if not arg.long or n % 16 < 4:
                    ctl_quiet(arg, h, "limit", "guest", limits[n % 4])
                ctl_quiet(arg, h, "mem", "guest", "--dirty=a")
                ctl_quiet(arg, h, "mem", "guest", "--working-set", "0.05")
                ctl_quiet(arg, h, "mem", "guest", "--check")
        except (subprocess.SubprocessError, OSError) as e:
            if not done.is_set():
                failed.append(e)
        print("squeezed %d times" % n)
        if n < 4 and not failed:
            failed.append("squeezed %d times only" % n)
    t = threading.Thread(target=squeeze)
    try:
        h.wait_for("^START")
        t.start()
        h.wait_for("^END")
        done.set()
        t.join()
        text = h.end(POWEROFF)
    finally:
        done.set()
        h.kill()
    check(not failed, failed)
    check(len(re.findall("^pattern: OK", text, re.M)) == 2, "pattern failed")
    check(re.search("^CODE 0", text, re.M), "a program failed")
    for bad in ("BUG:", "Oops", "Kernel panic"):
        check(bad not in text, "the guest says \"%s\"" % bad)


def swap_guest(arg, *options, seconds=3, **kw):
    return Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "-c", "2", "-m", "320M",
                "-o", "memory.limit=80M", *options, "--append",
                'console=ttyS0 HYVE_RUN="echo START; pattern 150 %d 2; echo CODE $?"' % seconds,
                **kw)


def guest_said(text):
    """Without what hyve says itself, which may come in the middle of a line."""
    return re.sub(r"hyve: (guest|vCPU)[^\n]*\n", "", text)


def swap_guest_ends(h):
    text = guest_said(h.end(POWEROFF))
    check("\npattern: OK" in text and "CODE 0" in text, "pattern failed")


def case_linux_fsize(arg):
    """A limit on the size of files, as ulimit sets it, is a swap file that is full."""
    h = swap_guest(arg, "-o", "memory.swapdir=" + ROOT + "/build")
    try:
        resource.prlimit(h.proc.pid, resource.RLIMIT_FSIZE, (24 << 20, resource.RLIM_INFINITY))
        h.wait_for("waits for memory at gpa 0x[0-9a-f]*: No space left on device")
        time.sleep(0.3)
        resource.prlimit(h.proc.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        h.wait_for("goes on")
        swap_guest_ends(h)
    finally:
        h.kill()


def case_linux_diskfull(arg):
    """The disk below the swap file is full: the guest waits, and goes on with a new limit."""
    tmp = tempfile.mkdtemp(prefix="hyve-disk-")
    pre = ["unshare", "-rm", "--kill-child", "sh", "-c",
           'mount -t tmpfs -o size=24m none "$0" && exec "$@"', tmp]
    h = None
    try:
        if subprocess.run(pre + ["true"], stderr=subprocess.DEVNULL).returncode != 0:
            print("no file systems of one's own here")
            sys.exit(77)
        h = swap_guest(arg, "-o", "memory.swapdir=" + tmp, prefix=pre)
        h.wait_for("waits for memory at gpa 0x[0-9a-f]*: No space left on device")
        time.sleep(0.3)
        limit(arg, h, "none")
        h.wait_for("goes on")
        swap_guest_ends(h)
    finally:
        if h:
            h.kill()
        os.rmdir(tmp)


def case_linux_swapfail(arg):
    """The disk below the swap file fails, at writes, at reads: said, waited for, nothing lost."""
    if arg.sanitized:
        print("not with a sanitizer's own library in front")
        sys.exit(77)
    tmp = tempfile.mkdtemp(prefix="hyve-disk-")
    for name in ("read", "write"):
        flag = os.path.join(tmp, name)
        h = swap_guest(arg, "-o", "memory.swapdir=" + ROOT + "/build", seconds=5,
                       env={"LD_PRELOAD": arg.badswap, "BADSWAP": tmp})
        try:
            h.wait_for("^START")
            time.sleep(2)
            open(flag, "w").close()
            # the event names the page whose contents are on the disk that fails
            h.wait_for("gpa 0x[0-9a-f]+.*Input/output error" if name == "read" else
                       "Input/output error")
            time.sleep(0.5)
            os.unlink(flag)
            # Whether one has to wait for a write depends on what it has at hand.
            if name == "read" or "waits for memory" in h.text:
                h.wait_for("goes on")
            swap_guest_ends(h)
            said = re.findall("page at gpa (0x[0-9a-f]+) cannot be had", h.text)
            check(len(said) == len(set(said)), "said again: %s" % said)
        finally:
            h.kill()
            if os.path.exists(flag):
                os.unlink(flag)
    os.rmdir(tmp)


def case_linux_look(arg):
    """Looking into memory that is in use and paged out: counts agree with the tables at every
    moment, what is seen makes sense, and the guest does not notice."""
    h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "-c", "2", "-m", "256M",
             "-o", "memory.limit=96M", "-o", "memory.swapdir=" + ROOT + "/build", "--append",
             'console=ttyS0 HYVE_RUN="echo START; pattern 128 6 2; pattern 20 3 1"')

    def ctl(*args):
        r = subprocess.run([arg.vmmctl, "mem", "guest", *args, "--json"], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, env=dict(os.environ, VMM_DIR=h.dir),
                           timeout=60)
        check(r.returncode == 0, "vmmctl mem %s: %s" % (args, r.stdout))
        return json.loads(r.stdout)
    try:
        h.wait_for("^START")
        time.sleep(1)
        limit, most = 96 << 20, 0
        for i in range(8 if not arg.sanitized else 2):
            bad = [c for c in ctl("--check") if c["counted"] != c["found"]]
            check(not bad, "counts differ: %s" % bad)
            used = ctl("--working-set", "0.2")["bytes"]
            check(0 < used <= 256 << 20, "working set of %d bytes" % used)
            a, b = ctl("--dirty=a")["pages"], ctl("--dirty=b")["pages"]
            check(i == 0 or a > 0 and b > 0, "nothing dirty: %d, %d" % (a, b))
            j = ctl()
            p = j["pages"]
            check(j["limit"] == limit and p["resident"] <= limit // 4096 + 512 and
                  p["entered"] <= p["resident"] + 512 and
                  p["faults_zero"] >= p["resident"] + p["swapped"] - p["pageins"],
                  "the ledger: %s" % j)
            most = max(most, p["swapped"] + p["compressed"])
            # the pages on the way out, in swap or resident, are those of the ledger's kind
            g = ctl("--page", "0x1000000")
            check(g["state"]["resident"] != g["state"]["swapped"] or g["state"]["zero"], g)
        check(most > 0, "nothing was paged out")
        text = h.end(POWEROFF)
        check(len(re.findall("^pattern: OK", text, re.M)) == 2, "pattern failed")
    finally:
        h.kill()


def case_linux_clock(arg):
    """With two busy processes on each core the guest boots without a complaint about its
    clocks, and tells the right time and the right length of a second."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"])
               for _ in range(2 * (os.cpu_count() or 1))]
    try:
        t0 = time.time()
        text = linux(arg, "date +T1=%s; sleep 3; date +T2=%s; cat /proc/uptime | sed s/^/UP=/; "
                     "cat /sys/devices/system/clocksource/clocksource0/current_clocksource; "
                     "dmesg | grep -iE 'unstable|skew|lockup|stall|calibration failed'")
        t3 = time.time()
    finally:
        for b in burners:
            b.kill()
        for b in burners:
            b.wait()
    # the kernel repeats its command line, which has these words
    said = "\n".join(line for line in text.splitlines() if "HYVE_RUN" not in line)
    for bad in ("BUG:", "WARNING:", "soft lockup", "rcu_preempt detected", "unstable", "skew",
                "stall", "calibration failed"):
        check(bad not in said, "the guest says \"%s\"" % bad)
    t1 = int(re.search(r"^T1=(\d+)", text, re.M)[1])
    t2 = int(re.search(r"^T2=(\d+)", text, re.M)[1])
    up = float(re.search(r"^UP=([\d.]+)", text, re.M)[1])
    check(t0 - 2 <= t1 <= t2 <= t3 + 2, "the guest's time of day is off: %d..%d" % (t1, t2))
    check(3 <= t2 - t1, "sleep 3 took %d s of the guest's clock" % (t2 - t1))
    check(up <= t3 - t0 + 1, "the guest was up %.1f s of %.1f" % (up, t3 - t0))


def case_linux_pipe(arg):
    """What is piped to the console waits until the guest reads it."""
    r, w = os.pipe()
    os.write(w, b"first\nsecond\n")
    os.close(w)
    h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "--append",
             'console=ttyS0 HYVE_RUN="read a; read b; echo GOT $a-$b."', stdin=r)
    try:
        h.end(POWEROFF)
    finally:
        h.kill()
        os.close(r)
    check("GOT first-second." in h.text, "some of it was lost")


def case_linux_reboot(arg):
    linux(arg, "echo MARK", end="reboot", status=RESET)


def case_linux_halt(arg):
    linux(arg, "echo MARK", end="halt", status=HALT)


def case_linux_panic(arg):
    """panic=1 ends in a reset."""
    text = linux(arg, "echo 1 >/proc/sys/kernel/panic", end="crash", status=RESET)
    check("Kernel panic" in text, "no panic")


def case_linux_work(arg):
    """The workloads compute in the guest what they compute here."""
    options = "-s 50"
    want = subprocess.run([arg.work] + options.split(), stdout=subprocess.PIPE, check=True)
    got = linux(arg, "work " + options)
    pattern = r"^WORK (\S+) \S+ \S+ (\d+) \S+ ([0-9a-f]+)$"
    got = {m[0]: m[1:] for m in re.findall(pattern, got, re.M)}
    for name, n, digest in re.findall(pattern, want.stdout.decode(), re.M):
        check(name in got, name + " is missing")
        check(got[name] == (n, digest), "%s: %s instead of %s" % (name, got[name], (n, digest)))


def case_linux_shell(arg):
    """A person at a terminal: prompt, command, power-off; modes restored."""
    try:
        master, slave = pty.openpty()
    except OSError as e:
        print(e)
        sys.exit(77)
    before = termios.tcgetattr(slave)
    h = Hyve(arg, "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "--append",
             "console=ttyS0 quiet", stdin=slave, stdout=slave, stderr=slave)
    h.fd = master
    try:
        h.wait_for(r"# ")
        os.write(master, b"echo $((6*7))-$(uname -s)\n")
        h.wait_for(r"^42-Linux")
        # ^C reaches the guest, not hyve.
        os.write(master, b"sleep 1000\n")
        time.sleep(1)
        os.write(master, b"\x03")
        h.wait_for(r"# ")
        os.write(master, b"poweroff -f\n")
        h.wait_for("Power down")
        status = h.proc.wait(60)
        check(status == POWEROFF, "exit status %d" % status)
        check(termios.tcgetattr(slave) == before, "the terminal's modes are not restored")
    finally:
        h.kill()


def rss(pid):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read())[1]) // 1024


def case_linux_memory(arg):
    """8 GB, of which the guest touches 200 MB: that is what the host pays."""
    # The guest waits to be told to go on, however late this process gets to look at it.
    run = ("free -m; echo BEFORE; read a; dd if=/dev/zero of=/tmp/x bs=1M count=200; "
           "echo AFTER; read a")
    r, w = os.pipe()
    h = Hyve(arg, "-m", "8G", "--kernel", vmlinuz(arg), "--initrd", arg.initrd, "--append",
             'console=ttyS0 HYVE_RUN="%s"' % run, stdin=r)
    try:
        total = int(h.wait_for(r"^Mem:\s+(\d+)\s")[1])
        check(total > 7500, "the guest has %d MB of 8 GB" % total)
        h.wait_for("^BEFORE")
        time.sleep(0.3)
        before = rss(h.proc.pid)
        os.write(w, b"go\n")
        h.wait_for("^AFTER")
        time.sleep(0.3)
        after = rss(h.proc.pid)
        os.write(w, b"go\n")
        h.end(POWEROFF)
    finally:
        h.kill()
        os.close(r)
        os.close(w)
    print("resident: %d MB before, %d MB after 200 MB were written" % (before, after))
    check(before < (900 if arg.sanitized else 450), "%d MB for an idle guest" % before)
    # Less where a part lies in host huge pages that were there before.
    check(120 <= after - before <= 260, "200 MB written cost %d MB" % (after - before))


def case_linux_newcode(arg):
    """Code without end: 6 MB of code cache serve; an idle guest gives the rest back."""
    run = ("echo START; newcode %d 8 && newcode 4 4; echo AFTER; sleep 8; echo IDLE; sleep 1" %
           (8 if arg.sanitized else 48))
    h = Hyve(arg, "-o", "soft.cache=6M", "--kernel", vmlinuz(arg), "--initrd", arg.initrd,
             "--append", 'console=ttyS0 HYVE_RUN="%s"' % run)
    try:
        h.wait_for("^START")
        time.sleep(0.3)
        before = rss(h.proc.pid)
        h.wait_for("^AFTER")
        after = rss(h.proc.pid)
        h.wait_for("^IDLE")
        idle = rss(h.proc.pid)
        h.end(POWEROFF)
    finally:
        h.kill()
    print("resident: %d MB, %d MB after new code, %d MB when idle" % (before, after, idle))
    check(len(re.findall("^newcode: OK", h.text, re.M)) == 2, "newcode failed")
    check(after - before < (200 if arg.sanitized else 40), "new code cost %d MB" % (after - before))
    check(arg.sanitized or idle < after, "nothing was given back")


# --- the small kernel ------------------------------------------------------

PAYLOAD_RAM = {
    "64M": [(0x100000, 0x3f00000)],
    "5G": [(0x100000, 0xbff00000), (0x100000000, 0x80000000)],
}


def digest(data):
    v = 0
    for b in data:
        v = (v * 31 + b) & 0xffffffff
    return v


def payload(arg, kind, word, status, memory="64M", options=()):
    with tempfile.TemporaryDirectory() as tmp:
        modules = []
        for i, data in enumerate((b"hello", bytes(range(256)) * 17)):
            path = os.path.join(tmp, "m%d" % i)
            with open(path, "wb") as f:
                f.write(data)
            modules.append((path, data))
        text = hyve(arg, "-m", memory, "--kernel", os.path.join(arg.payload, "payload_" + kind),
                    "--initrd", modules[0][0], "--initrd", modules[1][0],
                    "--append", "one two " + word, *options, status=status)
    check("eflags=0 cr0=11 cr4=0 cs=10 ds=18" in text, "wrong state at entry")
    check("%s: " % ("multiboot" if kind == "mb" else "pvh") in text, "wrong protocol")
    for _, data in modules:
        check("module len=%x sum=%x" % (len(data), digest(data)) in text, "a module is damaged")
    for start, size in PAYLOAD_RAM[memory]:
        check(re.search(r"memory=%x len=%x type=1" % (start, size), text),
              "no RAM at %#x in the memory map" % start)
    check('one two %s"' % word in text, "wrong command line")
    return text


def case_multiboot(arg):
    payload(arg, "mb", "exit=21", 43, options=("-o", "debugexit=true"))
    payload(arg, "mb", "halt", HALT, memory="5G")
    payload(arg, "mb", "triple", TRIPLE)


def case_pvh(arg):
    text = payload(arg, "pvh", "exit=13", 27, memory="5G", options=("-o", "debugexit=true"))
    check("RSD PTR " in text, "no ACPI root pointer")
    payload(arg, "pvh", "reset-cf9", RESET)
    payload(arg, "pvh", "reset-kbd", RESET)


def case_bad(arg):
    """Bad input: one line that names the file, status 4, nothing left."""
    good = os.path.join(arg.payload, "payload_mb")
    with tempfile.TemporaryDirectory() as tmp:
        def make(name, data):
            path = os.path.join(tmp, name)
            with open(path, "wb") as f:
                f.write(data)
            return path

        with open(good, "rb") as f:
            elf = f.read()
        header = bytearray(0x800)
        header[0x1f1], header[0x211] = 1, 1
        header[0x1fe:0x200] = b"\x55\xaa"
        header[0x202:0x208] = b"HdrS\x0f\x02"
        header[0x1f4:0x1f8] = struct.pack("<I", 0x100000)
        header[0x236] = 1
        big = os.path.join(tmp, "big")
        with open(big, "wb") as f:
            f.truncate(100 << 20)
        arm = bytearray(elf)
        arm[18] = 40
        for what, options, words in (
                ("truncated bzImage", ["--kernel", make("bz", header)], ["bz", "truncated"]),
                ("truncated ELF", ["--kernel", make("elf", elf[:4200])], ["elf", "truncated"]),
                ("foreign ELF", ["--kernel", make("arm", arm)], ["arm", "machine 40"]),
                ("no kernel", ["--kernel", make("text", b"#!/bin/sh\n" * 100)],
                 ["text", "not a kernel"]),
                ("empty", ["--kernel", make("empty", b"")], ["empty"]),
                ("missing", ["--kernel", tmp + "/nothing"], ["nothing", "No such file"]),
                ("folder", ["--kernel", tmp], [tmp, "not a regular file"]),
                ("missing initrd", ["--kernel", good, "--initrd", tmp + "/nothing"],
                 ["nothing", "No such file"]),
                ("no folder for swap", ["--kernel", good, "-o", "memory.limit=100M", "-o",
                                        "memory.swapdir=" + tmp + "/nothing"],
                 ["swap", "nothing", "No such file"]),
                ("no folder but a file", ["--kernel", good, "-o", "memory.swap=1M", "-o",
                                          "memory.swapdir=" + big], ["swap", "Not a directory"]),
                ("limit too small", ["--kernel", good, "-o", "memory.limit=900K"],
                 ["limit", "921600"]),
                ("unknown compression", ["--kernel", good, "-o", "memory.compress=best"],
                 ["memory.compress", "lz4"]),
                ("large initrd", ["--kernel", good, "--initrd", big, "-m", "64M"],
                 ["big", "no room"]),
        ):
            text = hyve(arg, *options, status=ERROR).strip()
            print(what + ": " + text)
            check("\n" not in text, what + ": more than one line")
            for w in words:
                check(w in text, "%s: the message lacks \"%s\"" % (what, w))


def main():
    cases = {name[5:].replace("_", "-"): fn for name, fn in globals().items()
             if name.startswith("case_")}
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--hyve", required=True)
    ap.add_argument("--initrd")
    ap.add_argument("--payload")
    ap.add_argument("--vmmctl")
    ap.add_argument("--work")
    ap.add_argument("--badswap")
    ap.add_argument("--long", type=int, default=0, metavar="SECONDS")
    ap.add_argument("--sanitized", action="store_true")
    ap.add_argument("--timeout", type=int, default=100)
    ap.add_argument("case", choices=sorted(cases))
    arg = ap.parse_args()
    try:
        cases[arg.case](arg)
    except (Failed, subprocess.TimeoutExpired) as e:
        print("\nFAILED: %s" % e)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
