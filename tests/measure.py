# SPDX-License-Identifier: MIT
"""What a program takes: its exit code, its stderr, the most memory it held, its processor time.

Run as a script, it is the small parent of that program: the system counts the parent's memory, too, up to the moment at which the
program takes its place, so the parent must hold less than what is measured.
"""
import os
import subprocess
import sys
import typing


class Usage(typing.NamedTuple):
    """Of one run of a program."""
    code: int
    stderr: str
    bytes: int     # most resident memory
    seconds: float # on the processor, in the program and in the kernel


def measured(*command):
    """Run a command with nothing to read and nobody to look at its stdout."""
    done = subprocess.run([sys.executable, '-I', '-S', __file__, *map(os.fspath, command)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors='replace', check=False, timeout=120)
    code, kilobytes, seconds = done.stdout.split()
    return Usage(int(code), done.stderr, int(kilobytes) * 1024, float(seconds))


def main():
    nowhere = [(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)]
    process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=nowhere)
    _, status, usage = os.wait4(process, 0)
    print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime)


if __name__ == '__main__':
    main()
