#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""hyve and vmmctl from outside: exact messages, exit statuses, terminals, signals.

The guest is played by the stand-in engine (script.c), so this needs no
processor emulation and is over in seconds.  After each case the directory of
machines must be empty.
"""
import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
import zlib

ap = argparse.ArgumentParser()
ap.add_argument('--hyve', required=True)
ap.add_argument('--vmmctl', required=True)
ap.add_argument('--kernel', required=True)
ap.add_argument('cases', nargs='*')
opt = ap.parse_args()

tmp = tempfile.TemporaryDirectory(prefix='cli_test.')
rundir = os.path.join(tmp.name, 'run')
env = dict(os.environ, VMM_DIR=rundir)
LIMIT = 30  # seconds that no step may take, however slow the host


def check(cond, *what):
    if not cond:
        raise AssertionError(' '.join(repr(w) for w in what))


def run(args, guest='hello', stdin=b'', prog=None, **kw):
    e = dict(env, HYVE_TEST_GUEST=guest, **kw.pop('env', {}))
    return subprocess.run([prog or opt.hyve] + args, input=stdin, env=e, timeout=LIMIT,
                          capture_output=True, **kw)


def ctl(*args):
    return run(list(args), prog=opt.vmmctl)


def start(guest, *args, **kw):
    kw.setdefault('stdin', subprocess.DEVNULL)
    kw.setdefault('stdout', subprocess.PIPE)
    kw.setdefault('stderr', subprocess.PIPE)
    return subprocess.Popen([opt.hyve, '--kernel', opt.kernel, *args, 'vm'],
                            env=dict(env, HYVE_TEST_GUEST=guest), **kw)


def wait_running():
    for _ in range(LIMIT * 100):
        if ctl('list').stdout.count(b'\n') > 1:
            return
        time.sleep(0.01)
    raise AssertionError('the machine does not come up')


def refused(args, line, status=4):
    r = run(args)
    check(r.returncode == status and r.stderr.decode() == 'hyve: ' + line + '\n' and
          r.stdout == b'', args, r)


def case_usage():
    refused([], 'the machine wants a name: hyve [options] --kernel FILE NAME')
    refused(['vm'], 'nothing to boot: give --kernel FILE')
    refused(['--kernal', 'x', 'vm'], 'unknown option --kernal: did you mean --kernel?')
    refused(['-Z', 'vm'], 'unknown option -Z: see hyve --help')
    refused(['-m', '1Q', 'vm'], 'memory.size: "1Q" is not a size like 512M')
    refused(['-o', 'engin=soft', 'vm'],
            'unknown variable "engin": did you mean "engine"?')
    refused(['-k', '/nonexistent', 'vm'], '/nonexistent: No such file or directory')
    r = run(['--help'])
    check(r.returncode == 0 and r.stdout.startswith(b'usage: hyve') and r.stderr == b'', r)
    r = run(['--version'])
    check(r.returncode == 0 and r.stdout.startswith(b'hyve '), r)
    r = run(['-m', '64M', '-c', '2', '-o', 'config.dump=true', 'vm'])
    check(r.returncode == 0 and b'\nmemory.size=64M\n' in r.stdout and b'cpus=2\n' in r.stdout, r)


def case_bad_machine():
    k = ['--kernel', opt.kernel]
    refused(k + ['a/b'], "a machine's name has no slash and no control characters")
    refused(k + ['.x'], "a machine's name is not empty and begins with no dot")
    refused(k + ['n' * 230], "a machine's name has at most 229 bytes")
    refused(k + ['-c', '17', 'vm'], '17 vCPUs: 1 to 16 are possible')
    refused(k + ['-e', 'kvm', 'vm'], 'engine kvm: not part of this build')
    refused(k + ['-e', 'fast', 'vm'], 'unknown engine "fast": auto, soft or kvm')
    refused(k + ['-o', 'memory.pmap=vax', 'vm'], 'unknown page table format "vax": ept or x86')
    refused(k + ['-m', '0', 'vm'], 'memory of 0 bytes: not a whole number of 4 KB pages')
    refused(k + ['-m', '1048577', 'vm'],
            'memory of 1048577 bytes: not a whole number of 4 KB pages')
    refused(k + ['-l', 'com1,/dev/null', 'vm'], 'lpc.com1.path: stdio or null are known')
    r = run(k + ['-m', '8E', 'vm'])
    check(r.returncode == 4 and r.stderr.startswith(b"hyve: memory of 8796093022208 MB: this host's"),
          r)


def case_bad_files():
    def bad(name, data):
        path = os.path.join(tmp.name, name)
        with open(path, 'wb') as f:
            f.write(data)
        return path
    kernel = open(opt.kernel, 'rb').read()
    for args in (['--kernel', '/nonexistent'], ['--kernel', tmp.name],
                 ['--kernel', bad('empty', b'')], ['--kernel', bad('short', kernel[:60])],
                 ['--kernel', bad('foreign', b'#!/bin/sh\n' * 1000)],
                 ['--kernel', opt.kernel, '--initrd', '/nonexistent'],
                 ['-m', '16M', '--kernel', opt.kernel, '--initrd', bad('big', bytes(17 << 20))]):
        r = run(args + ['vm'])
        check(r.returncode == 4 and r.stderr.startswith(b'hyve: ') and
              r.stderr.count(b'\n') == 1 and r.stdout == b'', args, r)


def case_ends():
    for guest, args, status, line in (
            ('dead', [], 2, 'vm: halted'), ('triple', [], 3, 'vm: triple fault'),
            ('exit', ['-o', 'debugexit=true'], 11, 'vm: debug exit, status 11'),
            ('echo', [], 2, 'vm: halted')):
        r = run(['--kernel', opt.kernel] + args + ['vm'], guest, b'HAL' + b'q')
        check(r.returncode == status and r.stderr.decode() == 'hyve: ' + line + '\n', guest, r)
        check(r.stdout == (b'IBM' if guest == 'echo' else b''), guest, r)
    r = run(['--kernel', opt.kernel, 'vm'], 'error')
    check(r.returncode == 4 and r.stderr.decode() == 'hyve: vCPU stopped at rip 0x1234\n'
          'hyve: vm: error (the engine cannot go on)\n', r)


def case_stalls():
    """Memory that cannot be had stops a vCPU, not the machine."""
    p = start('memfail')
    wait_running()
    time.sleep(0.3)
    check(p.poll() is None)
    check(json.loads(ctl('regs', 'vm', '--json').stdout)[0]['registers'] != {})
    check(ctl('stop', 'vm').returncode == 0)
    err = p.communicate(timeout=LIMIT)[1]
    check(p.returncode == 1 and err.count(b'waits for memory at gpa 0x1000') == 1, p, err)


def case_long_input():
    """No byte of a long input is lost, end of input is no error."""
    data = bytes(65 + i % 26 for i in range(20000)).replace(b'q', b'Q')
    r = run(['--kernel', opt.kernel, 'vm'], 'echo', data + b'q')
    check(r.returncode == 2 and r.stdout == bytes(b + 1 for b in data), len(r.stdout), r.stderr)


def case_running_already():
    p = start('spin')
    wait_running()
    refused(['--kernel', opt.kernel, 'vm'], 'vm runs already')
    check(ctl('stop', 'vm').returncode == 0)
    out, err = p.communicate(timeout=LIMIT)
    check(p.returncode == 1 and err == b'hyve: vm: powered off\n', p.returncode, err)


def case_signals():
    for sig, why in ((signal.SIGTERM, 'SIGTERM'), (signal.SIGINT, 'SIGINT'),
                     (signal.SIGHUP, 'SIGHUP'), (signal.SIGQUIT, 'SIGQUIT')):
        for guest in ('spin', 'hello', 'flood'):
            p = start(guest, '-c', '2', '-o', 'poweroff.timeout=0')
            wait_running()
            p.send_signal(sig)
            out, err = p.communicate(timeout=LIMIT)
            check(p.returncode == 1 and err.decode() == 'hyve: vm: powered off (%s)\n' % why,
                  sig, guest, p.returncode, err)


def case_closed_standard():
    """All three standard descriptors closed: the machine runs and ends all the same."""
    e = dict(env, HYVE_TEST_GUEST='echo')
    p = subprocess.Popen(['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh', opt.hyve, '--kernel',
                          opt.kernel, 'vm'], env=e)
    wait_running()
    check(ctl('regs', 'vm').returncode == 0)
    r = ctl('poweroff', 'vm')
    check(r.stderr == b'vmmctl: the guest does not listen to the power button\n', r)
    check(ctl('stop', 'vm').returncode == 0)
    check(p.wait(LIMIT) == 1, p.returncode)


def case_killed():
    """What SIGKILL leaves behind does not stand in the way and goes."""
    p = start('spin')
    wait_running()
    p.kill()
    p.communicate()
    check(os.listdir(rundir) == ['vm'])
    r = run(['--kernel', opt.kernel, 'vm'], 'dead')
    check(r.returncode == 2, r)
    p = start('spin')
    wait_running()
    p.kill()
    p.communicate()
    check(ctl('list', '--json').stdout == b'[]\n')


def case_closed_output():
    """Nobody reads any more: the machine ends."""
    p = start('flood')
    p.stdout.read(1000)
    p.stdout.close()
    p.stdout = None
    err = p.communicate(timeout=LIMIT)[1]
    check(p.returncode == 1 and err == b'hyve: vm: powered off (the console was closed)\n', err)


class Skip(Exception):
    pass


def openpty():
    try:
        return pty.openpty()
    except OSError as e:
        raise Skip(str(e))


class Terminal:
    """hyve on a pseudo-terminal."""

    def __init__(self, guest):
        self.master, slave = openpty()
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.p = start(guest, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        self.out = b''

    def expect(self, text):
        end = time.monotonic() + LIMIT
        while text not in self.out:
            check(time.monotonic() < end, 'no', text, 'in', self.out)
            if select.select([self.master], [], [], 0.1)[0]:
                self.out += os.read(self.master, 4096)
        self.out = self.out[self.out.index(text) + len(text):]

    def type(self, data):
        os.write(self.master, data)

    def raw(self):
        return not termios.tcgetattr(self.slave)[3] & termios.ICANON

    def restored(self):
        for _ in range(LIMIT * 100):
            if termios.tcgetattr(self.slave) == self.before:
                return True
            time.sleep(0.01)
        return False

    def end(self, *status):
        check(self.p.wait(LIMIT) in status, self.p.returncode, self.out)
        check(self.restored())
        os.close(self.master)
        os.close(self.slave)


def case_terminal():
    t = Terminal('echo')
    t.expect(b'hyve: vm runs in this terminal: Ctrl-A x ends it, Ctrl-A h helps')
    t.type(b'\x02')  # comes back as Ctrl-C: the guest hears
    t.expect(b'\x03')
    check(t.raw())
    t.type(b'\x03')  # Ctrl-C is the guest's
    t.expect(b'\x04')
    t.type(b'\x01\x01')
    t.expect(b'\x02')
    t.type(b'\x01h')
    t.expect(b'x ends the machine')
    t.type(b'\x01x')
    t.expect(b'hyve: vm: powered off (ended from the console)')
    t.end(1)


def case_terminal_restored():
    for sig in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT):
        t = Terminal('hello')
        t.expect(b'hello from the guest')
        check(t.raw())
        t.p.send_signal(sig)
        t.end(1 if sig == signal.SIGTERM else -sig, 1, 66)  # a sanitizer's handler
        ctl('list')  # removes what the killed left
    t = Terminal('dead')
    t.expect(b'vm: halted')
    t.end(2)


def case_terminal_closed():
    t = Terminal('flood')
    t.expect(b'xxx')
    os.close(t.master)
    os.close(t.slave)
    check(t.p.wait(LIMIT) == 1, t.p.returncode)


def case_idle():
    """A halted guest costs no processor time."""
    p = start('hello', '-c', '4')
    wait_running()
    def ticks():
        with open('/proc/%d/stat' % p.pid) as f:
            s = f.read().rsplit(')', 1)[1].split()
        return int(s[11]) + int(s[12])
    p.stdout.read(21)
    before = ticks()
    time.sleep(1)
    used = ticks() - before
    check(used <= 2, 'clock ticks in a second', used)
    ctl('stop', 'vm')
    check(p.wait(LIMIT) == 1)
    p.communicate()


def case_wired():
    """-S has all of the memory at once; only -C puts it into core dumps."""
    for options, wired, dumped in (([], False, False), (['-S'], True, False),
                                   (['-C'], False, True)):
        p = start('hello', '-m', '64M', *options)
        wait_running()
        n = json.loads(ctl('stats', 'vm', '--json').stdout)['machine']['vm.wired']
        check(n == (16384 if wired else 0), options, n)
        with open('/proc/%d/status' % p.pid) as f:
            rss = int(re.search(r'VmRSS:\s+(\d+)', f.read())[1])
        check((rss >= 65536) == wired, options, rss)
        with open('/proc/%d/smaps' % p.pid) as f:
            maps = re.findall(r'^Size: +(\d+) kB$.*?^VmFlags: (.*?)$', f.read(), re.M | re.S)
        # Nothing else has huge pages turned off; neighbours may be one with it.
        maps = [m[1].split() for m in maps if 65536 <= int(m[0]) < 1 << 18]
        maps = [m for m in maps if 'nh' in m]
        check(len(maps) == 1 and ('dd' not in maps[0]) == dumped, options, maps)
        ctl('stop', 'vm')
        check(p.wait(LIMIT) == 1)
        p.communicate()


def case_vmmctl():
    r = ctl()
    check(r.returncode == 1 and r.stderr.startswith(b'usage: vmmctl'), r)
    check(ctl('--help').returncode == 0)
    check(ctl('--version').stdout.startswith(b'vmmctl '))
    for args, line in (
            (['frob'], 'unknown verb "frob": see vmmctl --help'),
            (['regs'], 'regs wants the name of a machine'),
            (['list', 'vm'], 'list takes no name'),
            (['regs', 'vm', 'two'], '"two": one machine at a time'),
            (['regs', 'vm', '--frob'], 'unknown option --frob: see vmmctl --help'),
            (['regs', 'vm', '--cpu=x'], '--cpu: "x" is no number'),
            (['regs', 'vm'], 'no machine "vm" runs'),
            (['--vm=vm', '--get-rip'], 'no machine "vm" runs'),
            (['--vm=vm', '--get-rap'], 'unknown option --get-rap: see vmmctl --help'),
            (['regs', 'a/b'], "a machine's name has no slash and no control characters")):
        r = ctl(*args)
        check(r.returncode == 1 and r.stderr.decode() == 'vmmctl: ' + line + '\n', args, r)
    p = start('hello', '-c', '2', '-m', '4G')
    wait_running()
    j = json.loads(ctl('list', '--json').stdout)
    check(len(j) == 1 and j[0]['name'] == 'vm' and j[0]['pid'] == p.pid and
          j[0]['memory'] == 4 << 30 and j[0]['cpus'] == 2 and j[0]['state'] == 'running', j)
    # The machine may have been there before its kernel ran far enough.
    for _ in range(100):
        j = json.loads(ctl('regs', 'vm', '--json').stdout)
        if j[0]['registers']['rflags'] == '0x202':
            break
        time.sleep(0.05)
    check(len(j) == 2 and len(j[0]['registers']) >= 45 and len(j[0]['segments']) == 10, j)
    check(j[0]['registers']['rflags'] == '0x202', j[0])
    check(len(json.loads(ctl('regs', 'vm', '--cpu', '1', '--json').stdout)) == 1)
    j = json.loads(ctl('mem', 'vm', '--json').stdout)
    check([m['gpa'] for m in j['maps']] == ['0x0', '0x100000000'] and
          j['segments'][0]['length'] == 4 << 30 and
          0 < j['segments'][0]['resident'] < 16 << 20, j)
    j = json.loads(ctl('stats', 'vm', '--json').stdout)
    check(j['machine']['vm.resident'] > 0 and len(j['cpus']) == 2 and
          j['cpus'][0]['vcpu.exits.io'] >= 21, j)
    for args in (['regs', 'vm'], ['mem', 'vm'], ['stats', 'vm'], ['--vm=vm', '--get-all'],
                 ['--vm=vm', '--get-stats'], ['--vm=vm', '--get-memseg', '--get-memmap'],
                 ['--vm', 'vm', '--get-active-cpus'], ['--vm=vm', '--get-gpa-pmap=0x1000']):
        r = ctl(*args)
        check(r.returncode == 0 and r.stdout != b'' and r.stderr == b'', args, r)
    r = ctl('--vm=vm', '--cpu=1', '--get-rflags', '--get-cs', '--get-desc-gdtr')
    check(r.returncode == 0 and r.stdout.count(b'\n') == 3, r)
    r = ctl('regs', 'vm', '--cpu=2')
    check(r.returncode == 1 and r.stderr == b'vmmctl: vm has no vCPU 2\n', r)
    r = ctl('reset', 'vm')
    check(r.returncode == 0 and r.stdout == b'', r)
    err = p.communicate(timeout=LIMIT)[1]
    check(p.returncode == 0 and err == b'hyve: vm: reset\n', p.returncode, err)


def openmetrics(text):
    """Reads OpenMetrics text as a scraper would; => {family: (type, [(labels, value)])}."""
    check(text.endswith('# EOF\n') and text.count('# EOF') == 1, text[-40:])
    name = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
    suffixes = {'counter': ['_total', '_created'], 'gauge': [''], 'info': ['_info']}
    families, current = {}, None
    for line in text.split('\n')[:-2]:
        m = re.fullmatch(r'# (TYPE|HELP|UNIT) (%s) (.*)' % name, line)
        if m:
            if m[2] != current:
                check(m[2] not in families, 'family in two places', m[2])
                current = m[2]
                families[current] = ['unknown', [], set()]
            check(m[1] not in families[current][2] and not families[current][1], line)
            families[current][2].add(m[1])
            if m[1] == 'TYPE':
                check(m[3] in suffixes, line)
                families[current][0] = m[3]
            continue
        m = re.fullmatch(r'(%s)(?:\{(.*)\})? (\S+)' % name, line)
        check(m and current, 'no sample', line)
        kind, samples, _ = families[current]
        check(m[1] in [current + s for s in suffixes[kind]], 'sample of another family', line)
        labels, rest = {}, m[2] or ''
        while rest:
            l = re.match(r'(%s)="((?:[^"\\\n]|\\[\\"n])*)"(?:,|$)' % name, rest)
            check(l and l[1] not in labels, 'labels', line)
            labels[l[1]] = l[2]
            rest = rest[l.end():]
        check(labels not in [s[0] for s in samples], 'sample twice', line)
        v = float(m[3])
        check(kind != 'counter' or v >= 0, line)
        samples.append((labels, v))
    return families


def png(path):
    """=> width, height, rows of RGB bytes; every checksum is looked at."""
    data = open(path, 'rb').read()
    check(data[:8] == b'\x89PNG\r\n\x1a\n', data[:8])
    at, body = 8, b''
    while at < len(data):
        n, = struct.unpack('>I', data[at:at + 4])
        kind, chunk = data[at + 4:at + 8], data[at + 8:at + 8 + n]
        check(struct.unpack('>I', data[at + 8 + n:at + 12 + n])[0] ==
              zlib.crc32(kind + chunk), kind)
        if kind == b'IHDR':
            w, h, depth, colour = struct.unpack('>IIBB', chunk[:10])
            check(depth == 8 and colour == 2, chunk)
        if kind == b'IDAT':
            body += chunk
        at += 12 + n
    raw, rows, before = zlib.decompress(body), [], bytearray(w * 3)
    for y in range(h):
        f, line = raw[y * (w * 3 + 1)], bytearray(raw[y * (w * 3 + 1) + 1:(y + 1) * (w * 3 + 1)])
        for x in range(w * 3):
            a = line[x - 3] if x >= 3 else 0
            b, c = before[x], before[x - 3] if x >= 3 else 0
            p = a + b - c
            paeth = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
            line[x] = (line[x] + [0, a, b, (a + b) // 2, paeth][f]) & 255
        rows.append(bytes(line))
        before = line
    return w, h, rows


def ctl_json(*args):
    r = ctl(*args, '--json')
    check(r.returncode == 0 and r.stderr == b'', args, r)
    return json.loads(r.stdout)


def case_look():
    """Looking into memory: the answers agree with each other."""
    p = start('hello', '-c', '2', '-m', '3136M')
    wait_running()
    j = ctl_json('mem', 'vm')
    seg, maps = j['segments'][0], j['maps']
    check(seg['pages']['resident'] == sum(m['pages']['resident'] for m in maps) and
          seg['kind'] == 'anonymous' and j['pages'] == seg['pages'], j)
    r = ctl_json('mem', 'vm', '--resident')
    check(r['pages'] == seg['pages']['resident'] == sum(x['length'] for x in r['ranges']) // 4096, r)
    gpa = r['ranges'][0]['gpa']
    g = ctl_json('mem', 'vm', '--page', gpa)
    check(g['state']['resident'] and g['segment'] == 'sysmem' and len(g['entries']) == 4 and
          [e['level'] for e in g['entries']] == [4, 3, 2, 1] and
          g['entries'][3]['hpa'] == g['hpa'] and g['entries'][3]['prot'] == 'rwx', g)
    g = ctl_json('mem', 'vm', '--page=0xc0000000')
    check(not g['mapped'] and not any(g['state'].values()), g)
    # all that the loader wrote; then nothing; another client sees it all
    d = ctl_json('mem', 'vm', '--dirty')
    check(0 < d['pages'] <= r['pages'] and d['client'] == 'vmmctl', d)
    check(ctl_json('mem', 'vm', '--dirty')['pages'] == 0)
    check(ctl_json('mem', 'vm', '--dirty=other')['ranges'] == d['ranges'])
    check(ctl('mem', 'vm', '--dirty-end=other').returncode == 0)
    for i in range(7):
        check(ctl('mem', 'vm', '--dirty=c%d' % i).returncode == 0)
    check(ctl('mem', 'vm', '--dirty=c8').stderr == b'vmmctl: there are 8 clients already\n')
    w = ctl_json('mem', 'vm', '--working-set=0.05')
    check(len(w['samples']) == 1 and w['bytes'] == 0, w)
    c = ctl_json('mem', 'vm', '--check')
    check(len(c) > 8 and all(x['counted'] == x['found'] for x in c), c)
    # the picture: as many pixels of each colour as it says pages
    f = os.path.join(tmp.name, 'h.png')
    h = ctl_json('mem', 'vm', '--heatmap', f, '--working-set', '0')
    width, height, rows = png(f)
    check((width, height) == (h['width'], h['height']) and h['pages_per_pixel'] == 1 and
          sum(h['pages'].values()) - h['pages']['superpage'] == 3136 << 8, h)
    drawn = 0
    for y in range(h['y'], h['y'] + (3136 << 8) // h['pixels_per_row']):
        line = rows[y][h['x'] * 3:(h['x'] + h['pixels_per_row']) * 3]
        drawn += sum(1 for i in range(0, len(line), 3) if line[i:i + 3] != b'\0\0\0')
    check(drawn == (3136 << 8) - h['pages']['absent'] == r['pages'], drawn, h)
    r = ctl('mem', 'vm', '--heatmap', '/nonexistent/h.png', '--working-set=0')
    check(r.returncode == 1 and
          r.stderr == b'vmmctl: /nonexistent/h.png: No such file or directory\n', r)
    for args, line in (
            (['--page', 'x'], '--page: "x" is no address'),
            (['--working-set', 'x'], '--working-set: "x" is no number from 0.01 to 86400'),
            (['--page'], '--page wants a value'),
            (['--check', '--resident'], 'mem answers one question at a time'),
            (['--batch'], 'unknown option --batch: see vmmctl --help'),
            (['--dirty-end=none'], 'none: No such file or directory')):
        r = ctl('mem', 'vm', *args)
        check(r.returncode == 1 and r.stderr.decode() == 'vmmctl: ' + line + '\n', args, r)
    for args in ([], ['--page=0'], ['--resident'], ['--dirty=c0'], ['--check'],
                 ['--working-set=0.01'], ['--dirty-end=c0']):
        r = ctl('mem', 'vm', *args)
        check(r.returncode == 0 and r.stderr == b'', args, r)
    r = ctl('--vm=vm', '--get-lowmem', '--get-highmem', '--gpa-pmap=0x1000').stdout
    check(b'lowmem\t\t0x0000000000000000/3221225472\n' in r and
          b'highmem\t\t0x0000000100000000/67108864\n' in r and r.count(b'\n') == 3, r)
    ctl('stop', 'vm')
    p.communicate(timeout=LIMIT)


def case_host():
    p = start('hello', '-m', '64M')
    wait_running()
    j = ctl_json('host')
    with open('/proc/meminfo') as f:
        total = int(f.readline().split()[1]) << 10
    check(j['mem_total'] == total and 0 < j['mem_free'] <= j['mem_available'] <= total and
          [m['name'] for m in j['machines']] == ['vm'] and
          0 < j['machines'][0]['resident'] < j['machines'][0]['memory'] == 64 << 20, j)
    check(b'mem_total: ' in ctl('host').stdout)
    r = ctl('top', '-b', '--interval=0.1', '--count=3')
    lines = r.stdout.decode().split('\n')
    check(r.returncode == 0 and len(lines) == 9 and lines[0] == lines[3] == lines[6] and
          lines[0].split()[:2] == ['NAME', 'CPU%'] and lines[1].startswith('vm ') and
          max(map(len, lines)) <= 80, r)
    r = run(['top', '--json', '--interval=0.1', '--count=2'], prog=opt.vmmctl).stdout
    check([json.loads(l)[0]['name'] for l in r.splitlines()] == ['vm', 'vm'], r)
    ctl('stop', 'vm')
    p.communicate(timeout=LIMIT)
    check(ctl_json('host')['machines'] == [])


def case_top():
    """On a terminal of 24 lines; what was there comes back."""
    p = start('hello', '-m', '64M')
    wait_running()
    master, slave = openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    before = termios.tcgetattr(slave)
    for end in (b'q', signal.SIGTERM):
        t = subprocess.Popen([opt.vmmctl, 'top', '--interval', '0.2'], env=env, stdin=slave,
                             stdout=slave, stderr=slave)
        out = b''
        while out.count(b'vm ') < 3:
            check(select.select([master], [], [], LIMIT)[0], out)
            out += os.read(master, 4096)
        check(not termios.tcgetattr(slave)[3] & termios.ICANON)
        os.write(master, end) if end == b'q' else t.send_signal(end)
        while b'\x1b[?1049l' not in out:
            check(select.select([master], [], [], LIMIT)[0], out)
            out += os.read(master, 4096)
        check(t.wait(LIMIT) == 0 and termios.tcgetattr(slave) == before, out)
        check(out.startswith(b'\x1b[?1049h') and b'1 machine, each 0.2s; q ends' in out, out)
    os.close(master)
    os.close(slave)
    ctl('stop', 'vm')
    p.communicate(timeout=LIMIT)


def case_metrics():
    check(openmetrics(ctl('metrics', '--all').stdout.decode()) == {})
    p = start('hello', '-c', '2', '-m', '64M')
    wait_running()
    f = openmetrics(ctl('metrics', 'vm').stdout.decode())
    j = ctl_json('stats', 'vm')
    check(f['hyve_vm_resident'][0] == 'gauge' and f['hyve_vm_resident'][1] ==
          [({'vm': 'vm'}, j['machine']['vm.resident'])], f['hyve_vm_resident'])
    check(f['hyve_vm_faults_zero'][0] == 'counter' and
          [s[0] for s in f['hyve_vcpu_runs'][1]] ==
          [{'vm': 'vm', 'vcpu': str(i)} for i in range(2)], f)
    pages = {s[0]['state']: s[1] for s in f['hyve_memory_pages'][1]}
    check(pages['resident'] == j['machine']['vm.resident'] and
          all(s[0]['segment'] == 'sysmem' for s in f['hyve_memory_pages'][1]), pages)
    every = openmetrics(ctl('metrics', '--all').stdout.decode())
    check(every.keys() == f.keys(), every.keys() ^ f.keys())
    for name in j['machine']:
        check('hyve_' + name.replace('.', '_') in f, name)
    # a counter never shrinks
    ctl('mem', 'vm', '--dirty')
    for name, (kind, samples, _) in openmetrics(ctl('metrics', 'vm').stdout.decode()).items():
        before = {json.dumps(l): v for l, v in f[name][1]}
        check(kind == f[name][0] and (kind != 'counter' or
              all(v >= before[json.dumps(l)] for l, v in samples)), name, samples, before)
    for args, line in ((['metrics'], 'metrics wants the name of a machine, or --all'),
                       (['metrics', 'vm', '--json'],
                        'metrics are OpenMetrics text: stats has --json')):
        r = ctl(*args)
        check(r.returncode == 1 and r.stderr.decode() == 'vmmctl: ' + line + '\n', args, r)
    ctl('stop', 'vm')
    p.communicate(timeout=LIMIT)


failed, skipped = 0, 0
cases = {k[5:]: v for k, v in list(globals().items()) if k.startswith('case_')}
for name in opt.cases or cases:
    try:
        cases[name]()
        left = os.listdir(rundir) if os.path.isdir(rundir) else []
        check(left == [], 'left behind', left)
        print('ok', name)
    except Skip as e:
        print('skipped', name, e)
        skipped += 1
    except (AssertionError, subprocess.TimeoutExpired) as e:
        print('not ok', name, e)
        failed += 1
sys.exit(1 if failed else 77 if skipped else 0)
