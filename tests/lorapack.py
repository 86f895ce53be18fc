# SPDX-License-Identifier: MIT
"""Running lorapack from a test, and comparing what it leaves behind."""
import json
import os
import pathlib
import subprocess
import tempfile

import tensors


class Complaint(Exception):
    """Something that a test expected did not happen."""


class Lorapack:
    """The program under test."""

    def __init__(self, program):
        self.program = program

    def run(self, *arguments):
        """Exit code, what it prints, and the last line of what it says."""
        done = subprocess.run([self.program, *map(os.fspath, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=240)
        lines = done.stderr.strip().splitlines()
        return done.returncode, done.stdout, lines[-1] if lines else ''

    def must(self, *arguments):
        """Run it and return what it prints; anything but success is a complaint."""
        code, output, message = self.run(*arguments)
        if code:
            raise Complaint(f'{arguments[0]}: exit {code}: {message}')
        return output


def merge(base, adapters, out):
    """Arguments of a merge."""
    return ['merge', '--base', base, '-o', out, *(argument for adapter in adapters for argument in ('--adapter', adapter))]


def replay(receipt, base, adapters, out):
    """Arguments that verify a merged model against its receipt."""
    return ['verify', '--receipt', receipt, '--base', base, out, *(argument for adapter in adapters for argument in ('--adapter', adapter))]


def names(folder):
    """The files of a folder."""
    return sorted(path.name for path in folder.iterdir())


def same_files(left, right):
    """Whether two folders have the same files with the same bytes."""
    return names(left) == names(right) and all((left / name).read_bytes() == (right / name).read_bytes() for name in names(left))


def packed_ids(lorapack, *arguments):
    """Pack, and return the ids of the adapters."""
    return [adapter['id'] for adapter in json.loads(lorapack.must('pack', *arguments, '--json'))['adapters']]


def split_and_back(lorapack, packed, unpacked):
    """Raw to split to raw: the same id, the same PEFT directory, no larger a file, and at the end the same bytes."""
    split, again, back, other = (packed.with_suffix(suffix) for suffix in ('.split.lora', '.split2.lora', '.back.lora', '.split.peft'))
    ids = packed_ids(lorapack, packed, '-o', split, '--codec', 'split')
    if ids != packed_ids(lorapack, split, '-o', again, '--codec', 'split', '--align', '4096'):
        raise Complaint('another alignment changes the id')
    if ids != packed_ids(lorapack, again, '-o', back) or back.read_bytes() != packed.read_bytes():
        raise Complaint('packing raw what was split gives another file')
    lorapack.must('pack', back, '-o', again, '--codec', 'split', '--force')
    if again.read_bytes() != split.read_bytes():
        raise Complaint('splitting twice gives different bytes')
    if split.stat().st_size > packed.stat().st_size:
        raise Complaint('splitting makes the file larger')
    lorapack.must('verify', split)
    lorapack.must('unpack', split, '-o', other)
    if not same_files(other, unpacked):
        raise Complaint('unpacking what was split gives other files')


def round_trip(lorapack, adapter, packed, is_stray=lambda name: False, extra=()):
    """PEFT to .lora to PEFT: the same tensors but for strays, a config that says the same, and the same bytes each time."""
    again, unpacked = packed.with_suffix('.again.lora'), packed.with_suffix('.peft')
    lorapack.must('pack', adapter, '-o', packed, *extra)
    lorapack.must('pack', adapter, '-o', again, *extra)
    lorapack.must('verify', packed)
    lorapack.must('unpack', packed, '-o', unpacked)
    if packed.read_bytes() != again.read_bytes():
        raise Complaint('packing twice gives different bytes')
    before = {name: tensor for name, tensor in tensors.read_model(adapter).items() if not is_stray(name)}
    after = tensors.read_model(unpacked)
    wrong = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if wrong:
        raise Complaint(f'unpacking gives other tensors: {", ".join(wrong[:3])}')
    if json.loads((unpacked / 'adapter_config.json').read_text()) != json.loads((adapter / 'adapter_config.json').read_text()):
        raise Complaint('unpacking gives another adapter_config.json')
    split_and_back(lorapack, packed, unpacked)


def run_tests(module, start):
    """Run each function test_* of a module's globals with what start(folder) gives, in a folder of its own; the exit code."""
    tests = [(name, test) for name, test in module.items() if name.startswith('test_')]
    n_failed = 0
    for name, test in tests:
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(*start(pathlib.Path(folder)))
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(tests) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0
