#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""--limit and --paranoid: what is as large as a limit is taken, what is larger by one is refused with its name, number and place.

usage: test_limits.py LORAPACK DEMO_MODEL DOCS VECTORS WITH_KIT
"""
import json
import pathlib
import re
import shutil
import struct
import sys

from lorapack import Lorapack, run_tests
from project import Project, expect, expect_in

CONFIG, TENSORS = 'adapter_config.json', 'adapter_model.safetensors'


def documented():
    """The table of docs/limits.md: name and number."""
    rows = re.findall(r'^\| `([a-z-]+)` \|.*\| (\d+) \|$', (DOCS / 'limits.md').read_text(), re.M)
    return {name: int(most) for name, most in rows}


def header(path):
    """The JSON of a safetensors file."""
    data = path.read_bytes()
    return data[8:8 + struct.unpack('<Q', data[:8])[0]]


def depth(value):
    """Of arrays and objects."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def count(value):
    """Of values."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(count, inner))


def peft_numbers(folder):
    """How large each thing is in a PEFT directory of linear sites."""
    config, head = (folder / CONFIG).read_bytes(), header(folder / TENSORS)
    texts = [json.loads(config), json.loads(head)]
    held = {name: entry for name, entry in texts[1].items() if name != '__metadata__'}
    targets = {re.sub(r'^base_model\.model\.|\.lora_[AB](?=\.weight$)', '', name) for name in held}
    sizes = [entry['data_offsets'][1] - entry['data_offsets'][0] for entry in held.values()]
    return {'header-size': len(head), 'config-size': len(config), 'tensors': len(held), 'sites': len(targets),
            'name-size': max(map(len, targets)), 'rank': max(entry['shape'][0] for name, entry in held.items() if '.lora_A.' in name), 'tensor-size': max(sizes), 'data-size': sum(sizes),
            'json-depth': max(map(depth, texts)), 'json-values': max(map(count, texts))}


def lora_numbers(lorapack, path, folder):
    """The same of a `.lora` that was packed from that directory."""
    said = json.loads(lorapack.must('inspect', path, '--json'))
    same = {name: number for name, number in peft_numbers(folder).items() if name in ('sites', 'name-size', 'rank', 'tensor-size')}
    return same | {'adapters': 1, 'index-size': said['container']['index_size'], 'tensors': said['container']['n_tensors'],
                   'data-size': said['adapters'][0]['n_bytes'], 'metadata': len(said['adapters'][0]['metadata'])}


def check_numbers(lorapack, path, numbers, *command):
    """Each at its limit, and beyond it."""
    for name, number in numbers.items():
        lorapack.must(*command, path, '--limit', f'{name}={number}')
        if number == 1:
            continue # 0 is no limit
        code, output, message = lorapack.run(*command, path, '--limit', f'{name}={number - 1}')
        expect((code, output), (1, ''), f'{name}={number - 1}')
        expect_in(str(number - 1), message, name)
        expect_in(str(path), message, name)


def test_peft(lorapack, folder):
    """A directory; and its file alone, which lies beside no config."""
    numbers = peft_numbers(DEMO / 'adapters/legal')
    check_numbers(lorapack, DEMO / 'adapters/legal', numbers, 'inspect')
    shutil.copy(DEMO / 'adapters/legal' / TENSORS, folder / 'bare.safetensors')
    del numbers['config-size']
    for name in 'json-depth', 'json-values':
        del numbers[name]
    check_numbers(lorapack, folder / 'bare.safetensors', numbers, 'inspect', '--alpha', '16')


def test_lora(lorapack, folder):
    """Raw and split: sizes are those of what is decoded."""
    for codec in 'raw', 'split':
        path = folder / f'{codec}.lora'
        lorapack.must('pack', DEMO / 'adapters/legal', '-o', path, '--codec', codec, '--meta', 'a=1', '--meta', 'b=2')
        check_numbers(lorapack, path, lora_numbers(lorapack, path, DEMO / 'adapters/legal'), 'verify')


def test_whole_file(lorapack, folder):
    """Limits are of the file, also when another adapter of it is asked for; and many adapters have names."""
    path = folder / 'two.lora'
    lorapack.must('pack', DEMO / 'adapters/legal', DEMO / 'adapters/tang', '-o', path)
    code, _, message = lorapack.run('inspect', f'{path}#legal', '--limit', 'adapters=1')
    expect(code, 1, 'adapters=1')
    expect_in('adapters 2, the limit is 1', message, 'adapters')


def test_wrong(lorapack, _):
    """What the command line says of limits that are none; the documentation has every one, and its number."""
    inspect = ['inspect', DEMO / 'adapters/legal', '--limit']
    code, _, message = lorapack.run(*inspect, 'ranks=8')
    expect(code, 2, 'ranks=8')
    expect_in("no limit 'ranks'; there are " + ', '.join(documented()), message, 'ranks=8')
    for name, most in documented().items():
        for wrong in '', '=', '=0', '=-1', f'={most + max(1, most >> 50)}', '=1x':
            code, _, message = lorapack.run(*inspect, name + wrong)
            expect(code, 2, name + wrong)
            expect_in(f'must be {name}=N, N from 1 to {most}', message, name + wrong)
        lorapack.must(*inspect, f'{name}={most}')


def write_with(source, folder, name, value):
    """A PEFT directory whose first element of a tensor is another."""
    shutil.copytree(source, folder)
    data = bytearray((folder / TENSORS).read_bytes())
    begin = json.loads(header(folder / TENSORS))[name]['data_offsets'][0] + 8 + struct.unpack('<Q', data[:8])[0]
    data[begin:begin + 2] = value
    (folder / TENSORS).write_bytes(data)


def test_nonfinite(lorapack, folder):
    """Counted otherwise, refused by the paranoid: in the directory and in the file."""
    name = next(name for name in json.loads(header(DEMO / 'adapters/legal' / TENSORS)) if name != '__metadata__')
    dtype = json.loads(header(DEMO / 'adapters/legal' / TENSORS))[name]['dtype']
    nan, infinite = {'F16': (b'\x00\x7e', b'\x00\x7c'), 'BF16': (b'\xc0\x7f', b'\x80\x7f')}[dtype]
    for what, value in ('nan', nan), ('infinite', infinite):
        write_with(DEMO / 'adapters/legal', folder / what, name, value)
        lorapack.must('pack', folder / what, '-o', folder / f'{what}.lora')
        for path in folder / what, folder / f'{what}.lora':
            lorapack.must('inspect', path)
            code, output, message = lorapack.run('inspect', path, '--paranoid')
            expect((code, output), (1, ''), f'{path} --paranoid')
            expect_in('1 elements are NaN or infinite, none may be', message, path)


def test_verified(lorapack, _):
    """What verify refuses, the paranoid refuse before they use it, in the same words; and no more than that."""
    n_open = 0
    for path in sorted(VECTORS.glob('*.lora')):
        opened, verified, paranoid = (lorapack.run(*command, path) for command in (('inspect',), ('verify',), ('inspect', '--paranoid')))
        if opened[0]:
            expect(paranoid[0], 1, path)
        elif '"n_nonfinite": 0' in (lorapack.run('verify', '--json', path)[1] or '"n_nonfinite": 0'):
            n_open += verified[0]
            expect((paranoid[0], paranoid[2] if verified[0] else ''), (verified[0], verified[2] if verified[0] else ''), path)
    expect(n_open > 5, True, f'{n_open} vectors that open and are not good')


def test_apply(lorapack, _):
    """Digests are put off or checked, not both."""
    code, _, message = lorapack.run('apply', '--base', DEMO / 'base', '--adapter', DEMO / 'adapters/legal', '--defer-digests', '--paranoid')
    expect((code, message), (2, 'lorapack: apply: --paranoid and --defer-digests: one of them (see lorapack apply --help)'), 'apply')


def test_kit(lorapack, folder):
    """A manifest has limits, and so have its adapters."""
    project = Project(lorapack, DEMO, folder / 'project')
    n_values = 34 # by hand: 1 mapping of 4 keys, 2 of their scalars, 7 of adapters, 20 of scenarios
    for limits, said in ((['yaml-depth=6', 'yaml-size=1M', f'yaml-values={n_values}', 'rank=16'], None),
                         (['yaml-depth=4'], 'nested more than 4 deep'), (['yaml-size=100'], 'at most 100 are read'),
                         ([f'yaml-values={n_values - 1}'], f'more than {n_values - 1} keys and values'), (['rank=4'], ', the limit is 4')):
        arguments = [word for limit in limits for word in ('--limit', limit)]
        for command in ('build', project.manifest, '--force'), ('plan', project.manifest), ('lock', project.manifest):
            code, output, message = lorapack.run(*command, *arguments)
            expect(code, 1 if said else 0, (command[0], limits, message))
            if said:
                expect_in(said, message + output, command[0])
        project.lock.unlink(missing_ok=True) # which is longer
    lorapack.must('plan', project.manifest, '--paranoid')


PROGRAM, DEMO, DOCS, VECTORS, WITH_KIT = sys.argv[1], *map(pathlib.Path, sys.argv[2:5]), sys.argv[5] == '1'
TESTS = {name: test for name, test in globals().items() if WITH_KIT or name != 'test_kit'}
sys.exit(run_tests(TESTS, lambda folder: (Lorapack(PROGRAM), folder)))
