#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hold the container reader against the test vectors of the spec.

usage: test_vectors.py LORAPACK DUMP_CONTAINER VECTORS

VECTORS is spec/vectors: its files must be those that its build.py makes. Then all that build.py can make, also those that are
not kept for their size, are read: verdict and offset must be those of the table. Good ones must survive re-packing.
"""
import concurrent.futures
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from lorapack import Complaint, Lorapack

# Good files whose sites no version of PEFT or of lorapack can bind: a newer format's.
NEWER = ('good-unknown-kind.lora', 'good-unknown-role.lora')


def load(path):
    """A Python file as a module, without leaving anything beside it."""
    sys.dont_write_bytecode = True
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_reader(dump, path, vector):
    """The verdict and the place of the table."""
    done = subprocess.run([dump, path], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
    found = json.loads(done.stdout)
    if found['verdict'] != vector['verdict']:
        raise Complaint(f'{found["verdict"]} ({found.get("field")}: {found.get("text")}), expected {vector["verdict"]}')
    refused = vector['verdict'] not in ('good', 'recovered')
    if refused and vector['offset'] is not None and found['offset'] != vector['offset']:
        raise Complaint(f'blames {found["field"]} at {found["offset"]:#x}, expected {vector["offset"]:#x}: {found["text"]}')


def ids(lorapack, path):
    """The adapters of a file: names and ids."""
    return [(adapter['name'], adapter['id']) for adapter in json.loads(lorapack.must('inspect', path, '--json'))['adapters']]


def check_command(lorapack, path, vector, scratch):
    """What people see: exit codes, and a copy of every good file in another alignment and codec that keeps the ids."""
    code, _, message = lorapack.run('verify', path)
    if code != (vector['verdict'] != 'good'):
        raise Complaint(f'verify: exit {code}: {message}')
    if vector['verdict'] != 'good':
        return
    for codec, align in (('raw', '4096'), ('split', '64')):
        copy = scratch / f'{path.stem}-{codec}.lora'
        lorapack.must('pack', path, '-o', copy, '--codec', codec, '--align', align)
        lorapack.must('verify', copy)
        if ids(lorapack, copy) != ids(lorapack, path):
            raise Complaint(f'pack --codec {codec} --align {align} changes an adapter id')


def check_newer(lorapack, path, base):
    """A kind or role of a newer format is listed, verified and copied (above), and does not bind."""
    code, _, message = lorapack.run('verify', path, '--base', base)
    if code != 1 or 'newer format' not in message:
        raise Complaint(f'verify --base: exit {code}: {message}')
    code, _, message = lorapack.run('pack', path, '-o', base.with_name('converted.lora'), '--dtype', 'bf16')
    if code != 1 or 'newer format' not in message:
        raise Complaint(f'pack --dtype: exit {code}: {message}')


def check(lorapack, dump, folder, vector, kept):
    """One vector: None, or what is wrong. Those that are not kept are many or large; for them the reader will do."""
    path = folder / vector['name']
    try:
        check_reader(dump, path, vector)
        if kept:
            check_command(lorapack, path, vector, folder)
    except Complaint as complaint:
        return str(complaint)
    return None


def main():
    program, dump, vectors = sys.argv[1:4]
    vectors, lorapack, failures = pathlib.Path(vectors), Lorapack(program), []
    build = load(vectors / 'build.py')
    if build.check(vectors):
        failures.append('spec/vectors: not as build.py makes them')
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        build.write(folder, True)
        table = json.loads((folder / 'vectors.json').read_text())
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            results = list(pool.map(lambda vector: check(lorapack, dump, folder, vector, (vectors / vector['name']).exists()), table))
        failures += [f'{vector["name"]}: {result}' for vector, result in zip(table, results) if result]
        base = folder / 'base.safetensors'
        base.write_bytes(b'\x02\0\0\0\0\0\0\0{}')
        for name in NEWER:
            try:
                check_newer(lorapack, folder / name, base)
            except Complaint as complaint:
                failures.append(f'{name}: {complaint}')
    for failure in failures:
        print(f'FAIL {failure}')
    print(f'{len(table) + len(NEWER) + 1 - len(failures)} passed, {len(failures)} failed')
    return 1 if failures or not table else 0


if __name__ == '__main__':
    sys.exit(main())
