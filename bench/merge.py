#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Time merging a made-up model against copying its files, both ending synced, in paired runs.

usage: merge.py LORAPACK [--mb N] [--runs N]
"""
import argparse
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests'))
from lorapack import Lorapack, merge
from make_base import make_base
from test_generated import lora, write_adapter

HIDDEN, INTERMEDIATE, RANK = 1024, 2816, 16
LAYER = {f'self_attn.{name}_proj': (HIDDEN, HIDDEN) for name in 'qkvo'}
LAYER |= {'mlp.gate_proj': (HIDDEN, INTERMEDIATE), 'mlp.up_proj': (HIDDEN, INTERMEDIATE), 'mlp.down_proj': (INTERMEDIATE, HIDDEN)}
LAYER_MB = sum(2 * n_in * n_out for n_in, n_out in LAYER.values()) / 1e6


def make_model(folder, megabytes):
    """A bf16 model of about that size, and an adapter of rank 16 on all of its linear layers."""
    rng = random.Random(1)
    adapter = {}
    for layer in range(max(1, round(megabytes / LAYER_MB))):
        for name, (n_in, n_out) in LAYER.items():
            adapter |= lora(f'model.layers.{layer}.{name}', n_in, n_out, RANK, rng)
    config = {'target_modules': sorted({name.split('.')[-1] for name in LAYER}), 'fan_in_fan_out': False, 'lora_alpha': 2 * RANK,
              'r': RANK, 'modules_to_save': None}
    write_adapter(folder / 'adapter', adapter, config)
    make_base(folder / 'adapter', folder / 'base', dtype='BF16')
    return sum(path.stat().st_size for path in (folder / 'base').iterdir())


def copy(base, out):
    """What merging is measured against."""
    subprocess.run(['cp', '-r', '--reflink=never', base, out], check=True)
    subprocess.run(['sync', '-f', out], check=True)


def timed(work, out):
    """Seconds that work takes to write out, which is then removed."""
    os.sync()
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    shutil.rmtree(out)
    return seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('lorapack')
    parser.add_argument('--mb', type=int, default=512)
    parser.add_argument('--runs', type=int, default=5)
    options = parser.parse_args()
    lorapack = Lorapack(options.lorapack)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        base, out, packed = folder / 'base', folder / 'out', folder / 'adapter.lora'
        size = make_model(folder, options.mb)
        lorapack.must('pack', folder / 'adapter', '-o', packed)
        runs = [(timed(lambda: copy(base, out), out), timed(lambda: lorapack.must(*merge(base, [packed], out)), out))
                for _ in range(options.runs)]
    for label, seconds in zip(('copy', 'merge'), map(statistics.median, zip(*runs))):
        print(f'{label:6} {seconds:7.3f} s  {size / seconds / 1e9:6.2f} GB/s')
    print(f'merge takes {statistics.median(merging / copying for copying, merging in runs):.2f} x the time of copying')


if __name__ == '__main__':
    main()
