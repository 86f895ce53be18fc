#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the worst inputs of up to 1 MiB take until they are refused, beyond what the program takes to say its version.

usage: hostile.py LORAPACK [NAME]   only those whose names have NAME in them

Time is that of the processor, in the program and in the kernel: the least of some runs, which other work on the machine disturbs least.
"""
import pathlib
import sys
import tempfile
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests'))

import hostile_inputs # noqa: E402
from measure import measured # noqa: E402

RUNS = 3


class Cost(typing.NamedTuple):
    """Of one input."""
    name: str
    ms: float
    MiB: float


def least(*command):
    """Milliseconds and MiB of a run."""
    runs = [measured(*command) for _ in range(RUNS)]
    return 1000 * min(run.seconds for run in runs), min(run.bytes for run in runs) / (1 << 20)


def measure(lorapack, only=''):
    """The cost of each input."""
    idle_ms, idle_mib = least(lorapack, '--version')
    for name, write in (hostile_inputs.WORST | hostile_inputs.WORST_YAML).items():
        if only in name:
            with tempfile.TemporaryDirectory() as folder:
                ms, mib = least(lorapack, *write(pathlib.Path(folder)))
            yield Cost(name, ms - idle_ms, mib - idle_mib)


def main():
    for cost in sorted(measure(*sys.argv[1:]), key=lambda cost: -cost.ms):
        print(f'{cost.ms:6.1f} ms {cost.MiB:6.1f} MiB  {cost.name}')


if __name__ == '__main__':
    main()
