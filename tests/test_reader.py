#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hold the two readers against each other: ours, in C, and spec/reader.py, which was written from the spec's words.

usage: test_reader.py LORAPACK DUMP_CONTAINER READER VECTORS SEEDS ADAPTERS...

Both must say the same of every vector, of every adapter of the conformance cases and of ADAPTERS, packed in both codecs, and
of files with a damaged byte: names, numbers, decoded bytes and verdict, and for the vectors the place. So they must of every file
in SEEDS, of inputs of a fuzz target; but as several things may be wrong in one of them, they may meet another one first.
"""
import concurrent.futures
import hashlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

from lorapack import Complaint, Lorapack
from test_vectors import load

CASES = pathlib.Path(__file__).resolve().parent / 'conformance'
N_DAMAGED = 400

# Cases of the conformance set that no .lora file holds.
UNPACKABLE = ('alora-refused', 'conv2d-grouped-refused', 'olora-not-converted', 'pissa-not-converted')


class Readers:
    """What both readers say of a file, in the same words."""

    def __init__(self, dump, reader):
        self.dump, self.reader = dump, load(reader)

    def ours(self, path):
        """The C reader's findings."""
        done = subprocess.run([self.dump, path], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
        return json.loads(done.stdout)

    def theirs(self, path):
        """The other one's, with the digests of what it decodes in place of those of the records."""
        report = self.reader.read(path.read_bytes())
        found = json.loads(json.dumps(report.listing()))
        if found['verdict'] in ('good', 'recovered'):
            del found['file']['ignored_sections']
            for number, tensor in enumerate(found['tensors']):
                tensor['sha256'] = hashlib.sha256(self.reader.decode_tensor(report, number)).hexdigest()
        return found

    def compare(self, path, places=False, several=False):
        """Complain of the first thing that they do not agree about; several: things may be wrong."""
        ours, theirs = self.ours(path), self.theirs(path)
        if several and {ours['verdict'], theirs['verdict']} == {'corrupt', 'unsupported'}:
            return ours['verdict']
        if ours['verdict'] != theirs['verdict']:
            raise Complaint(f'{ours["verdict"]} ({ours.get("text")}), the other: {theirs["verdict"]} ({theirs["text"]})')
        if ours['verdict'] not in ('good', 'recovered'):
            if places and theirs['offset'] is not None and ours['offset'] != theirs['offset']:
                raise Complaint(f'{ours["field"]} at {ours["offset"]:#x}, the other: {theirs["field"]} at {theirs["offset"]:#x}')
            return ours['verdict']
        for key in ('file', 'adapters', 'tensors'):
            if ours[key] != theirs[key]:
                raise Complaint(f'{key} differ: {ours[key]}, the other: {theirs[key]}'[:400])
        return ours['verdict']


def attempt(name, function, *arguments):
    """None, or what is wrong."""
    try:
        function(*arguments)
    except Complaint as complaint:
        return f'{name}: {complaint}'
    return None


def adapters(more):
    """Every adapter that can be packed: its name, its path, and what packing needs."""
    for config in sorted(CASES.glob('*/adapter*/**/adapter_config.json')):
        case = CASES / config.relative_to(CASES).parts[0]
        if case.name not in UNPACKABLE:
            needs_base = json.loads(config.read_text()).get('target_parameters')
            yield '-'.join(config.parent.relative_to(CASES).parts), config.parent, ['--base', case / 'base'] if needs_base else []
    for path in more:
        yield path.name, path, []


def compare_packed(lorapack, readers, folder, name, adapter, extra):
    """Pack in both codecs and compare."""
    for codec in ('raw', 'split'):
        path = folder / f'{name}-{codec}.lora'
        lorapack.must('pack', adapter, '-o', path, '--codec', codec, *extra)
        if readers.compare(path) != 'good':
            raise Complaint(f'{codec}: packed, and not good')


def compare_living(lorapack, readers, folder, adapters):
    """A file that is appended to is good after every step."""
    first, second, *_ = adapters
    path = folder / 'living.lora'
    lorapack.must('pack', first, '-o', path)
    for arguments in (['add', path, second, '--codec', 'split'], ['add', path, first, '--name', 'again', '--meta', 'k=v'],
                      ['remove', path, first.name], ['add', path, first, '--dtype', 'f16'], ['rollback', path],
                      ['rollback', path, '--to', '2'], ['remove', path, second.name], ['compact', path]):
        lorapack.must(*arguments)
        if readers.compare(path) != 'good':
            raise Complaint(f'{arguments[0]}: not good')


def compare_damaged(readers, folder, data, seed):
    """A byte of a file is another one: both see it, or both say that it does not matter."""
    chance = random.Random(seed)
    damaged = bytearray(data)
    damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path = folder / f'damaged-{seed}.lora'
    path.write_bytes(damaged)
    try:
        readers.compare(path)
    finally:
        path.unlink()


def main():
    program, dump, reader, vectors, seeds, *more = sys.argv[1:]
    lorapack, readers = Lorapack(program), Readers(dump, pathlib.Path(reader))
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        folder = pathlib.Path(scratch)
        tasks = [pool.submit(attempt, path.name, readers.compare, path, True) for path in sorted(pathlib.Path(vectors).glob('*.lora'))]
        tasks += [pool.submit(attempt, path.name, readers.compare, path, False, True)
                  for path in sorted(pathlib.Path(seeds).iterdir())]
        tasks += [pool.submit(attempt, name, compare_packed, lorapack, readers, folder, name, adapter, extra)
                  for name, adapter, extra in adapters(map(pathlib.Path, more))]
        tasks.append(pool.submit(attempt, 'living', compare_living, lorapack, readers, folder, [pathlib.Path(path) for path in more]))
        samples = [(pathlib.Path(vectors) / name).read_bytes() for name in ('good-split.lora', 'good-three-generations.lora')]
        tasks += [pool.submit(attempt, f'seed {seed}', compare_damaged, readers, folder, samples[seed % 2], seed)
                  for seed in range(N_DAMAGED)]
        results = [task.result() for task in tasks]
    failures = [result for result in results if result]
    for failure in failures:
        print(f'FAIL {failure}')
    print(f'{len(results) - len(failures)} passed, {len(failures)} failed')
    return 1 if failures or len(results) <= N_DAMAGED else 0


if __name__ == '__main__':
    sys.exit(main())
