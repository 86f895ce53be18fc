#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the worst inputs of up to 1 MiB take before they are refused, beyond what the program takes to say its version.

usage: hostile.py LORAPACK [NAME]   only those whose names have NAME in them
"""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests'))

import hostile_inputs # noqa: E402
from measure import measured # noqa: E402

RUNS = 3 # the least time of these
SHOWN = 20


def least(*command):
    """The run that took the least time."""
    return min((measured(*command) for _ in range(RUNS)), key=lambda usage: usage.seconds)


def main():
    program, only = sys.argv[1], ''.join(sys.argv[2:])
    idle = least(program, '--version')
    rows = []
    for name, write in (hostile_inputs.WORST | hostile_inputs.WORST_YAML).items():
        if only in name:
            with tempfile.TemporaryDirectory() as folder:
                usage = least(program, *write(pathlib.Path(folder)))
            rows.append(((usage.bytes - idle.bytes) / (1 << 20), 1000 * (usage.seconds - idle.seconds), name))
    print(f'{len(rows)} inputs; those that take most time, and most memory')
    for column, unit in ((1, 'ms'), (0, 'MiB')):
        for row in sorted(rows, key=lambda row: -row[column])[:SHOWN]:
            print(f'{row[column]:8.1f} {unit:4}{row[2]}')


main()
