# SPDX-License-Identifier: MIT
"""Running lorapack in a world that fails: tests/seam/ stands between it and its machine."""
import os
import struct
import subprocess
import sys
import typing

from lorapack import Complaint

PLANS, RESULTS, RECORD = 197, 198, 199 # descriptors, as in tests/seam/
ALLOCATION, CALL = 1, 2
SKIPPED = 77 # where the kernel does not let us in between; meson knows this code

# OpenBLAS is left alone: it starts no threads, and lorapack does not start itself again for better kernels.
ENVIRONMENT = {'OPENBLAS_NUM_THREADS': '1', 'OPENBLAS_CORETYPE': ''}


class Plan(typing.NamedTuple):
    """What fails: call number `at` of a kind, and with for_ever all after it: 1, like it; 2, that write. Error 0: a read or a write does half."""
    kind: int = 0
    at: int = 0
    for_ever: int = 0
    error: int = 0
    record: int = 0


class Run(typing.NamedTuple):
    """What came of a run: its exit code (negative: the signal that ended it), counts, what it printed and what it said."""
    code: int
    n_allocations: int
    n_calls: int
    held_blocks: int
    held_descriptors: int
    n_failed: int
    output: str
    talk: str


class Program:
    """A command that can be run many times: its process stops where main() would begin, and forks for each run."""

    def __init__(self, lorapack, seam, arguments, folder):
        self.files = [open(folder / name, 'w+b', opener=lambda path, flags: os.open(path, flags | os.O_APPEND))
                      for name in ('output', 'talk', 'record')]
        plans, self.plans = os.pipe()
        self.results, results = os.pipe()
        moves = {plans: PLANS, results: RESULTS, self.files[2].fileno(): RECORD}
        environment = os.environ | ENVIRONMENT | {'LD_PRELOAD': os.path.abspath(seam)}
        self.process = subprocess.Popen([os.path.abspath(lorapack.program), *arguments], cwd=folder, env=environment,
                                        stdin=subprocess.DEVNULL, stdout=self.files[0], stderr=self.files[1], close_fds=False,
                                        preexec_fn=lambda: [os.dup2(at, to) for at, to in moves.items()])
        os.close(plans)
        os.close(results)

    def run(self, plan):
        """Run it once."""
        for file in self.files:
            os.ftruncate(file.fileno(), 0)
        os.write(self.plans, struct.pack('5l', *plan))
        counts = os.read(self.results, 200).split()
        if not counts:
            raise Complaint(f'the seam ended with {self.process.wait()}: {self.read(1)}')
        run = Run(*map(int, counts), self.read(0), self.read(1))
        if run.code == SKIPPED:
            print(f'skipped: {run.talk}')
            sys.exit(SKIPPED)
        return run

    def read(self, i):
        """What came into one of the files."""
        return os.pread(self.files[i].fileno(), 1 << 20, 0).decode()

    def record(self):
        """The record of the last run, if its plan asked for one."""
        self.files[2].seek(0)
        return self.files[2].read()

    def close(self):
        """End the process."""
        os.close(self.plans)
        os.close(self.results)
        self.process.wait()
        for file in self.files:
            file.close()
