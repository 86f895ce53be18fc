# SPDX-License-Identifier: MIT
"""What is mounted by a test: in a process of its own, given up after a while, and taken away whatever happens."""
import contextlib
import multiprocessing
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

from lorapack import Complaint
from project import expect

PATIENCE = 60 # seconds for what takes far less than one
TYPE = 'fuse.lorapack'


def mounted_under(folder):
    """Directories under a folder that something is mounted on, the last first, with its type and options."""
    lines = [line.split() for line in pathlib.Path('/proc/self/mounts').read_text().splitlines()]
    return {words[1]: (words[2], words[3].split(',')) for words in reversed(lines) if pathlib.Path(words[1]).is_relative_to(folder)}


def unmount(directory, *how):
    """By fusermount3: its exit code."""
    return subprocess.run(['fusermount3', '-u', *how, directory], stderr=subprocess.DEVNULL, check=False, timeout=PATIENCE).returncode


def arguments_of(pid):
    """The command line of a process, empty when it is gone."""
    with contextlib.suppress(OSError):
        return pathlib.Path(f'/proc/{pid}/cmdline').read_bytes().decode(errors='replace').split('\0')
    return []


def servers(folder):
    """Processes that were given something in a folder and are no child of ours any more: `mount` in the background."""
    pids = [int(path.name) for path in pathlib.Path('/proc').iterdir() if path.name.isdecimal()]
    return [pid for pid in pids if pid != os.getpid() and (words := arguments_of(pid))[1:2] in (['mount'], ['run'])
            and any(word.startswith(str(folder)) for word in words)]


def why_not():
    """Why nothing can be mounted here, or None. Asks fusermount3 to mount, as libfuse does, so that lorapack has no part in it."""
    if not os.path.exists('/dev/fuse'):
        return 'there is no /dev/fuse'
    ours, its = socket.socketpair()
    with ours, its, tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(['fusermount3', '-o', 'ro', '--', folder], pass_fds=[its.fileno()], stderr=subprocess.PIPE, text=True,
                                  env=os.environ | {'_FUSE_COMMFD': str(its.fileno())}, check=False, timeout=PATIENCE)
        except FileNotFoundError:
            return 'there is no fusermount3'
        unmount(folder, '-z')
    return done.stderr.strip() if done.returncode else None


def until(condition, what):
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise Complaint(f'{what}: not after {PATIENCE} seconds')
        time.sleep(0.01)


class Mount:
    """`lorapack mount` in the foreground, until the end of a `with`; then it must end, and well."""

    def __init__(self, lorapack, manifest, directory, *arguments):
        self.directory = directory
        self.log = directory.with_name(directory.name + '.log')
        self.command = [lorapack.program, 'mount', manifest, directory, '--foreground', *arguments]
        self.process = None

    def __enter__(self):
        with contextlib.suppress(FileExistsError): # whatever it is
            os.mkdir(self.directory)
        with open(self.log, 'w') as log:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
                                            env=os.environ | {'UBSAN_OPTIONS': 'halt_on_error=1'})
        printed = self.process.stdout.readline()
        if 'mounted' not in printed:
            raise Complaint(f'mount: exit {self.process.wait(PATIENCE)}: {self.said()}')
        os.listdir(self.directory) # answered once all has started that ever will
        return self

    def __exit__(self, failed, *_):
        if failed: # and whoever started us takes it away
            self.process.kill()
        elif self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.ends()
        self.process.stdout.close()

    def __truediv__(self, name):
        return self.directory / name

    def said(self):
        """What it said until now."""
        return self.log.read_text()

    def says(self, part, times=1):
        """Wait until it said something that often."""
        try:
            until(lambda: self.said().count(part) >= times, repr(part))
        except Complaint as complaint:
            raise Complaint(f'{complaint}; the mount says {self.said()!r}') from None

    def is_there(self):
        """Whether anything is mounted."""
        return str(self.directory) in mounted_under(self.directory)

    def ends(self, code=0):
        """It must end, by whatever was done, and leave nothing mounted."""
        expect(self.process.wait(PATIENCE), code, f'exit of the mount, which said {self.said()!r}')
        expect(self.is_there(), False, 'mounted after the end')

    def helper(self):
        """The fusermount3 that waits for its death."""
        pid = self.process.pid
        child, = pathlib.Path(f'/proc/{pid}/task/{pid}/children').read_text().split()
        return int(child)


def clean(folder):
    """Take away what is mounted in a folder, and end who serves it."""
    for directory in mounted_under(folder):
        unmount(directory, '-z')
    for pid in servers(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def attempt(name, check, arguments):
    """In a process of its own."""
    try:
        check(*arguments)
    except (Complaint, OSError, subprocess.SubprocessError) as error:
        print(f'FAIL {name}: {error}')
        sys.exit(1)


def passes(name, check, arguments, folder, seconds=8 * PATIENCE):
    """Whether a check passes. What it hangs on, or a SIGBUS, ends it and not us."""
    process = multiprocessing.get_context('fork').Process(target=attempt, args=(name, check, arguments))
    process.start()
    process.join(seconds)
    ended = process.exitcode
    if ended is None:
        print(f'FAIL {name}: hangs', flush=True)
        process.kill()
    elif ended not in (0, 1):
        print(f'FAIL {name}: ended by signal {-ended}', flush=True)
    clean(folder)
    process.join()
    return ended == 0


def run_checks(checks, mounting, project_in):
    """
    Checks and those that mount something, {name: (function, arguments after the project)}, each on what project_in(folder) makes. Where
    nothing can be mounted these are skipped, and it is said. The exit code of the test.
    """
    reason = why_not()
    if reason:
        print(f'SKIP {", ".join(mounting)}: {reason}')
    else:
        checks = checks | mounting
    n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, (check, arguments) in checks.items():
            folder = pathlib.Path(scratch) / name.replace(' ', '-')
            n_failed += not passes(name, check, (project_in(folder), *arguments), folder)
    print(f'{len(checks) - n_failed} passed, {n_failed} failed, {len(mounting) if reason else 0} skipped')
    return 1 if n_failed else 0
