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
    return {'file-size': (folder / TENSORS).stat().st_size, 'header-size': len(head), 'config-size': len(config), 'tensors': len(held), 'sites': len(targets),
            'name-size': max(map(len, targets)), 'rank': max(entry['shape'][0] for name, entry in held.items() if '.lora_A.' in name), 'tensor-size': max(sizes), 'data-size': sum(sizes),
            'json-depth': max(map(depth, texts)), 'json-values': max(map(count, texts))}


def lora_numbers(lorapack, path, folder):
    """The same of a `.lora` that was packed from that directory."""
    said = json.loads(lorapack.must('inspect', path, '--json'))
    same = {name: number for name, number in peft_numbers(folder).items() if name in ('sites', 'name-size', 'rank', 'tensor-size')}
    return same | {'adapters': 1, 'file-size': path.stat().st_size, 'index-size': said['container']['index_size'], 'tensors': said['container']['n_tensors'],
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


def refused(lorapack, parts, *arguments, code=1):
    """And says these."""
    got, output, message = lorapack.run(*arguments)
    expect((got, output), (code, ''), arguments)
    for part in parts:
        expect_in(part, message, arguments)


def test_whole_file(lorapack, folder):
    """Limits are of the file, also when one adapter of it is asked for; sums are those of all; an adapter has a name."""
    path = folder / 'two.lora'
    lorapack.must('pack', DEMO / 'adapters/legal', DEMO / 'adapters/tang', '-o', path, '--meta', 'a=1')
    parts = [json.loads(lorapack.must('inspect', f'{path}#{name}', '--json'))['adapters'][0] for name in ('legal', 'tang')]
    sums = {'adapters': 2, 'sites': sum(part['n_sites'] for part in parts), 'metadata': sum(len(part['metadata']) for part in parts),
            'data-size': sum(part['n_bytes'] for part in parts)}
    check_numbers(lorapack, path, sums, 'inspect')
    for name, number in sums.items():
        refused(lorapack, [f'{name} {number}', f'the limit is {number - 1}'], 'inspect', f'{path}#legal', '--limit', f'{name}={number - 1}')
    name = 'n' * 100
    lorapack.must('pack', DEMO / 'adapters/legal', '-o', folder / 'named.lora', '--name', name)
    shutil.copytree(DEMO / 'adapters/legal', folder / name)
    for path in folder / 'named.lora', folder / name:
        check_numbers(lorapack, path, {'name-size': 100}, 'inspect')


def test_others_are_none_of_its_business(lorapack, folder):
    """What one adapter has of a newer format, or wrong, keeps nobody from another of the file, with limits or without."""
    sites = [build.Site(f'{name}.weight', build.LINEAR, [(build.A, build.f32(1, 2, start=i)), (build.B, build.f32(2, 1, start=i))])
             for i, name in enumerate(('old', 'new'))]
    for what in 'dtype', 'flags':
        file = build.File(build.Adapter('new', [sites[1]]), build.Adapter('old', [sites[0]]))
        if what == 'dtype':
            file.tensors[0].dtype = 99
        else:
            file.sites[0].flags = 1 << 20
        file.seal()
        path = folder / f'{what}.lora'
        path.write_bytes(file.bytes())
        for limits in (), ('--limit', 'rank=1'):
            lorapack.must('pack', f'{path}#old', '-o', folder / 'out.lora', '--force', *limits)
            refused(lorapack, [str(path), what], 'pack', f'{path}#new', '-o', folder / 'none.lora', *limits)


def test_places(lorapack, folder):
    """Where JSON is too deep: in the file for a header, in the config for a config that is deeper."""
    path = folder / 'bare.safetensors'
    shutil.copy(DEMO / 'adapters/legal' / TENSORS, path)
    second = 8 + header(path).index(b'{', 1)
    refused(lorapack, [f'{path}: offset {second:#x}', 'deeper than 1 '], 'inspect', path, '--alpha', '16', '--limit', 'json-depth=1')
    shutil.copytree(DEMO / 'adapters/legal', folder / 'deep')
    config = json.loads((folder / 'deep' / CONFIG).read_text()) | {'loftq_config': {'a': [[[1]]]}}
    (folder / 'deep' / CONFIG).write_text(json.dumps(config))
    lorapack.must('inspect', folder / 'deep', '--limit', 'json-depth=5')
    refused(lorapack, [CONFIG, 'deeper than 4 '], 'inspect', folder / 'deep', '--limit', 'json-depth=4')


def test_size_comes_first(lorapack, folder):
    """Nothing of a file that is too large is read, and what is behind the data is of the file, too."""
    path = folder / 'sparse.lora'
    lorapack.must('pack', DEMO / 'adapters/legal', '-o', path)
    with path.open('r+b') as file:
        file.truncate(1 << 40)
    refused(lorapack, ['1099511627776 bytes, at most 1048576'], 'inspect', path, '--paranoid', '--limit', 'file-size=1M')


def test_wrong(lorapack, _):
    """What the command line says of limits that are none; the documentation has every one, and its number."""
    inspect = ['inspect', DEMO / 'adapters/legal', '--limit']
    code, _, message = lorapack.run(*inspect, 'ranks=8')
    expect(code, 2, 'ranks=8')
    expect_in("no limit 'ranks'; there are " + ', '.join(documented()), message, 'ranks=8')
    for name, most in documented().items():
        for wrong in '', '=', '=0', '=-1', f'={most + max(1, most >> 50)}', '=1x', *(() if name.endswith('-size') else ('=1.5', '=1K', '=0x1')):
            code, _, message = lorapack.run(*inspect, name + wrong)
            expect(code, 2, name + wrong)
            expect_in(f'must be {name}=N, N from 1 to {most}', message, name + wrong)
        lorapack.must(*inspect, f'{name}={most}')


NAN, INFINITY = b'\xc0\x7f', b'\x80\x7f' # in BF16, which legal is in


def first_tensor(folder):
    """The name of one."""
    return next(name for name in json.loads(header(folder / TENSORS)) if name != '__metadata__')


def write_with(source, folder, name, value):
    """A PEFT directory whose first element of a tensor is another."""
    shutil.copytree(source, folder)
    data = bytearray((folder / TENSORS).read_bytes())
    begin = json.loads(header(folder / TENSORS))[name]['data_offsets'][0] + 8 + struct.unpack('<Q', data[:8])[0]
    data[begin:begin + 2] = value
    (folder / TENSORS).write_bytes(data)


def test_nonfinite(lorapack, folder):
    """Counted otherwise, refused by the paranoid: in the directory and in the file."""
    name = first_tensor(DEMO / 'adapters/legal')
    for what, value in ('nan', NAN), ('infinite', INFINITY):
        write_with(DEMO / 'adapters/legal', folder / what, name, value)
        code, _, message = lorapack.run('pack', folder / what, '-o', folder / f'{what}.lora')
        expect((code, message.split(': ')[-1]), (0, '1 of 3072 elements of A are NaN or infinite'), 'pack')
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


def test_not_here(lorapack, folder):
    """Commands that would do nothing about it say so."""
    manifest, trust = folder / 'm.yaml', (('--limit', 'rank=9'), ('--paranoid',))
    for options in trust:
        refused(lorapack, ['the receipt says how to read'], 'verify', folder, '--receipt', 'r', '--base', 'b', '--adapter', 'a', *options, code=2)
        if WITH_KIT:
            refused(lorapack, ['--tuned compares models'], 'diff', '--base', 'b', '--tuned', 't', *options, code=2)
            refused(lorapack, ['are for what opens adapters'], 'emit', manifest, '--for', 'make', *options, code=2)


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
        if not said:
            refused(lorapack, [str(project.lock), 'more than 34 keys and values'], 'build', project.manifest, *arguments) # which is longer
        project.lock.unlink(missing_ok=True)


def test_kit_adapters(lorapack, folder):
    """All that use the scenarios of a manifest refuse what is beyond limits, and the paranoid NaN."""
    project = Project(lorapack, DEMO, folder / 'project')
    (project.folder / 'models').mkdir()
    name = first_tensor(project.folder / 'adapters/legal')
    shutil.rmtree(project.folder / 'adapters/legal')
    write_with(DEMO / 'adapters/legal', project.folder / 'adapters/legal', name, NAN)
    known = lorapack.must('help')
    for command in (('plan',), ('build', 'legal'), ('lock',), ('emit', '--for', 'peft', '-o', project.folder / 'served'),
                    ('mount', project.folder / 'models'), ('run', 'legal', '--', 'true', '{model}')):
        if f'\n  {command[0]} ' not in known:
            continue
        for options, said in (('--limit', 'rank=4'), 'rank 8, the limit is 4'), (('--paranoid',), 'NaN or infinite, none may be'):
            code, output, message = lorapack.run(command[0], *options, project.manifest, *command[1:])
            expect(code, 1, (*command, *options))
            expect_in(said, output + message, (*command, *options))


PROGRAM, DEMO, DOCS, VECTORS, WITH_KIT = sys.argv[1], *map(pathlib.Path, sys.argv[2:5]), sys.argv[5] == '1'
sys.path.insert(0, str(VECTORS))
import build # noqa: E402
TESTS = {name: test for name, test in globals().items() if WITH_KIT or not name.startswith('test_kit')}
sys.exit(run_tests(TESTS, lambda folder: (Lorapack(PROGRAM), folder)))
