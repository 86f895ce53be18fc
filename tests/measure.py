# SPDX-License-Identifier: MIT
"""What a program takes: its exit code, its stderr, the most memory it held, its processor time."""
import os
import subprocess
import sys
import typing

# The system counts the memory of a program's parent, too, up to where the program takes its place: so this is a small one. More
# threads of OpenBLAS would wait for work in a loop.
PARENT = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ | {'OPENBLAS_NUM_THREADS': '1'},
                         file_actions=[(os.POSIX_SPAWN_OPEN, 1, '/dev/null', os.O_WRONLY, 0)])
_, status, usage = os.wait4(process, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss, usage.ru_utime + usage.ru_stime)
"""


class Usage(typing.NamedTuple):
    """Of one run of a program."""
    code: int
    stderr: str
    bytes: int     # most resident memory
    seconds: float # on the processor, in the program and in the kernel


def measured(*command):
    """Run a command with nothing to read and nobody to look at its stdout."""
    done = subprocess.run([sys.executable, '-I', '-S', '-c', PARENT, *map(os.fspath, command)], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding='utf-8', check=False, timeout=120)
    code, kilobytes, seconds = done.stdout.split()
    return Usage(int(code), done.stderr, int(kilobytes) * 1024, float(seconds))
