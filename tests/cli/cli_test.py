#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""hyve and vmmctl from outside: exact messages, exit statuses, terminals, signals.

The guest is played by the stand-in engine (script.c), so this needs no
processor emulation and is over in seconds.  After each case the directory of
machines must be empty.
"""
import argparse
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time

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
    r = run(['--kernel', opt.kernel, 'vm'], 'memfail')
    check(r.returncode == 4 and b'guest memory at 0x1000 cannot be had' in r.stderr, r)


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


class Terminal:
    """hyve on a pseudo-terminal."""

    def __init__(self, guest):
        self.master, slave = pty.openpty()
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


failed = 0
cases = {k[5:]: v for k, v in list(globals().items()) if k.startswith('case_')}
for name in opt.cases or cases:
    try:
        cases[name]()
        left = os.listdir(rundir) if os.path.isdir(rundir) else []
        check(left == [], 'left behind', left)
        print('ok', name)
    except (AssertionError, subprocess.TimeoutExpired) as e:
        print('not ok', name, e)
        failed += 1
sys.exit(failed != 0)
