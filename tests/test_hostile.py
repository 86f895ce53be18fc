# SPDX-License-Identifier: MIT
"""Hostile inputs: each class of what went wrong in readers of model files, for each reader here that meets it. All are refused with place
and reason, in little memory, and leave nothing behind. What a base and an adapter say of each other is in test_bad_input.py, and what
one field of a container may not be in spec/vectors.

usage: test_hostile.py LORAPACK [--no-memory] [--no-kit]
"""
import os
import pathlib
import struct
import sys
import tempfile

import hostile_inputs
from hostile_inputs import A, B, BEGIN, CONFIG, WEIGHT, base, build, lock, lora, manifest, peft, safetensors, site
from measure import measured

MEMORY = 16 << 20 # bytes that a refused file of up to 1 MiB may take beyond what the program takes to say its version

# --- one writer per shape of a case ---


def header(text, data=b''):
    """A safetensors file with that header, as an adapter."""
    def write(folder):
        (folder / 'in.safetensors').write_bytes(safetensors(text, data))
        return ['pack', folder / 'in.safetensors', '--alpha', '1', '-o', folder / 'out.lora']
    return write


def tensor(text, data=bytes(4)):
    """One tensor `a`, of which that is said."""
    return header(f'{{"a":{text}}}', data)


def raw(data, name='in.safetensors', *more):
    """These bytes, as an adapter."""
    def write(folder):
        (folder / name).write_bytes(data)
        return ['pack', folder / name, *more, '-o', folder / 'out.lora']
    return write


def model(data):
    """These bytes, as a base."""
    return lambda folder: base(folder, model=data)


def index(text):
    return lambda folder: base(folder, index=text)


def base_config(text):
    return lambda folder: base(folder, config=text)


def config(text):
    """An adapter_config.json with these members."""
    return lambda folder: peft(folder, BEGIN + text + '}')


def receipt(text):
    def write(folder):
        base(folder)
        (folder / 'receipt.json').write_text(text)
        return ['verify', '--receipt', folder / 'receipt.json', '--base', folder / 'base', '--adapter', folder / 'in', folder / 'base']
    return write


def container(change, command='verify', **more):
    """A container of one adapter, bent by `change`."""
    def write(folder):
        file = build.File(build.Adapter('a', [site('q.weight', A, B)]), **more)
        change(file)
        return lora(folder, file, command)
    return write


def put(table, i, field, value):
    """A change of one field of a record."""
    def change(file):
        setattr(getattr(file, table)[i], field, value)
        getattr(file, table)[i].held.add(field)
    return change


def line(*more):
    """A merge of what is good, with these arguments."""
    return lambda folder: [*base(folder), *more]


def weight(text):
    def write(folder):
        arguments = base(folder)
        arguments[4] = f'{arguments[4]}={text}'
        return arguments
    return write


def yaml(text):
    return lambda folder: manifest(folder, text)


def locked(text):
    return lambda folder: lock(folder, text)


def linked_base(folder):
    """A manifest whose base is a link out of its root."""
    (folder / 'in').mkdir()
    (folder / 'in/b').symlink_to('/etc')
    (folder / 'in/m.yaml').write_text(hostile_inputs.MANIFEST)
    return ['plan', folder / 'in/m.yaml']


def sparse_header(folder):
    """A header of more than 100 MB, in a file that takes no room."""
    with open(folder / 'in.safetensors', 'wb') as file:
        file.write(struct.pack('<Q', 100000001) + b'{"a":')
        file.truncate(100000100)
    return ['pack', folder / 'in.safetensors', '--alpha', '1', '-o', folder / 'out.lora']


def cut(size):
    """A good container, cut off."""
    data = build.File(build.Adapter('a', [site('q.weight', A, B)])).bytes()
    return lambda folder: lora(folder, data[:int(len(data) * size)], 'verify')


LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 499064\n'
PAGE = b'<!DOCTYPE html>\n<html><body>404</body></html>'
PICKLE = b'\x80\x02}q\x00.' + bytes(100)
DEEP = '[' * 65 + ']' * 65
Q_ENTRY = '"q.lora_A.weight":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}'
EMPTY = Q_ENTRY.replace('1,1', '1,0').replace('0,2', '0,0')

# class, case, place and reason that the last line must name. Places are counted from the text of the case, limits are those of
# docs/limits.md, and what must be named is in the rule of the class: an offset, a field or tensor, and what is allowed or wrong.
CASES = [
    ('product wraps', tensor('{"dtype":"F64","shape":[4398046511105,4194304],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', '2^46'),
    ('product wraps', tensor('{"dtype":"F32","shape":[9007199254740992,9007199254740992,9007199254740992],"data_offsets":[0,4]}'),
     'in.safetensors: a at 0x9', '2^46'),
    ('product wraps', model(safetensors(WEIGHT.replace('1,1', '4294967297,4294967296'), b'ab')), 'model.safetensors: q.weight at 0x9', '2^46'),
    ('product wraps', container(put('tensors', 0, 'shape', [1 << 32, 1 << 32] + [0] * 6)), 'in.lora: tensor[0].', '2^46'),
    ('alignment', container(put('index', 0, 'align_log2', 63)), 'in.lora: index.align_log2 at 0x', '63, must be 6, 12 or 16'),
    ('alignment', container(put('index', 0, 'align_log2', 0)), 'in.lora: index.align_log2 at 0x', '0, must be 6, 12 or 16'),
    ('alignment', container(put('tensors', 0, 'offset', (1 << 64) - 32)), 'in.lora: tensor[0].offset at 0x', '64'),
    ('counts trusted', lambda folder: lora(folder, hostile_inputs.claimed_records(), 'pack'), 'section[2].n_records', 'more than the index has bytes for'),
    ('counts trusted', raw(struct.pack('<Q', 1 << 63) + b'{"a":0}'), 'in.safetensors: header_size at 0x0', '9223372036854775808 bytes, the file has 7'),
    ('counts trusted', model(struct.pack('<Q', 1 << 63) + b'{"a":0}'), 'model.safetensors: header_size at 0x0', 'the file has 7'),
    ('counts trusted', container(put('sites', 0, 'n_factors', 0xffffffff)), 'in.lora: site[0].n_factors at 0x', '4294967295'),
    ('counts trusted', sparse_header, 'in.safetensors: header_size at 0x0', 'at most 100000000'),
    ('type confusion', config('"r":"8"'), 'adapter_config.json', 'r'),
    ('type confusion', lambda folder: peft(folder, {**CONFIG, 'lora_alpha': '16'}), 'adapter_config.json: lora_alpha', 'number'),
    ('type confusion', lambda folder: peft(folder, {**CONFIG, 'rank_pattern': []}), 'adapter_config.json: rank_pattern', 'object'),
    ('type confusion', tensor('{"dtype":1,"shape":[1],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'dtype must be a string'),
    ('type confusion', tensor('{"dtype":"F32","shape":"1","data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'shape must be an array'),
    ('type confusion', tensor('{"dtype":"F32","shape":[true],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'shape must be an array of numbers'),
    ('type confusion', tensor('{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}'), 'in.safetensors: offset 0x25', 'whole number'),
    ('type confusion', index('{"weight_map":{"q.weight":1}}'), 'index.json: q.weight at 0xf', 'name of a file'),
    ('type confusion', yaml(hostile_inputs.MANIFEST.replace('version: 1', 'version: "1"')), 'm.yaml:1:10: version', 'number'),
    ('index out of range', container(put('factors', 0, 'tensor', 2)), 'in.lora: factor[0].tensor at 0x', '2'),
    ('index out of range', container(put('adapters', 0, 'first_site', 0xffffffff)), 'in.lora: adapter[0].', 'site'),
    ('index out of range', container(put('sites', 0, 'target', 0xffffff00)), 'in.lora: site[0].target at 0x', 'pool'),
    ('read beyond the end', container(put('tensors', 0, 'offset', 1 << 40), 'unpack'), 'in.lora: tensor[0].', 'pass the file end'),
    ('read beyond the end', header('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(4)), 'in.safetensors: a at 0x', 'it was cut short'),
    ('read beyond the end', tensor('{"dtype":"F32","shape":[1],"data_offsets":[4,0]}'), 'in.safetensors: a at 0x9', 'end at 0, before they begin at 4'),
    ('numbers', tensor('{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}'), 'in.safetensors: offset 0x25', 'without sign'),
    ('numbers', weight('nan'), '=nan', 'finite'),
    ('numbers', weight('1e999'), '=1e999', 'finite'),
    ('numbers', line('--alpha', '1x'), '--alpha 1x', 'finite number'),
    ('numbers', line('--threads', '-1'), '--threads -1', '1 .. 1024'),
    ('names', header('{"a\\u0001":' + WEIGHT[len('{"q.weight":'):], b'ab'), 'a? at 0x9', 'no control characters'),
    ('names', header('{"' + 'a' * 1025 + '":' + WEIGHT[len('{"q.weight":'):], b'ab'), ' at 0x9', '1 .. 1024 bytes'),
    ('names', raw(struct.pack('<Q', 7) + b'{"\xff":0}'), 'in.safetensors: offset 0xa', 'UTF-8'),
    ('names', lambda folder: lora(folder, build.File(build.Adapter('../x', [site('q', A, B)])), 'pack'), 'adapter[0].name at 0x', "without '/'"),
    ('flat-buffer parameters', tensor('{"dtype":"F32","shape":[2],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'needs 8 bytes, data_offsets give 4'),
    ('flat-buffer parameters', tensor('{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', bytes(5)), 'in.safetensors: offset 0x', 'the last 1 bytes'),
    ('flat-buffer parameters', header('{"":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)), 'in.safetensors: offset 0x9', '1 .. 1024 bytes'),
    ('flat-buffer parameters', tensor('{"dtype":"F32","data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'shape is missing'),
    ('flat-buffer parameters', tensor('{"dtype":"F32","shape":[1]}'), 'in.safetensors: a at 0x9', 'data_offsets is missing'),
    ('flat-buffer parameters', tensor('{"dtype":"FLOAT","shape":[1],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', '"FLOAT" is not known'),
    ('flat-buffer parameters', header('{"q.lora_A.weight":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}', b'ab'), 'q.lora_A.weight', ''),
    ('pickle', raw(PICKLE, 'in.pt'), 'in.pt', 'pickle'),
    ('pickle', raw(PICKLE, 'in.ckpt'), 'in.ckpt', 'pickle'),
    ('pickle', raw(PICKLE), 'in.safetensors', 'pickle'),
    ('pickle', raw(b'PK\x03\x04' + bytes(100), 'in.bin'), 'in.bin', 'pickle'),
    ('pickle', model(PICKLE), 'model.safetensors', 'pickle'),
    ('path traversal', index('{"weight_map":{"q.weight":"../x.safetensors"}}'), 'index.json: q.weight at 0xf', '../x.safetensors'),
    ('path traversal', index('{"weight_map":{"q.weight":"/x.safetensors"}}'), 'index.json: q.weight at 0xf', '/x.safetensors'),
    ('path traversal', yaml(hostile_inputs.MANIFEST.replace('base: b', 'base: /etc')), 'm.yaml:2:7: base', '/etc'),
    ('path traversal', yaml(hostile_inputs.MANIFEST.replace('base: b', 'base: ../../etc')), 'm.yaml:2:7: base', 'etc'),
    ('path traversal', linked_base, 'm.yaml:2:7: base', '/etc'),
    ('YAML bomb', yaml('a: &a [x]\n'), 'm.yaml:1:4: a', 'anchor'),
    ('YAML bomb', yaml('a: *a\n'), 'm.yaml:1:4: a', 'alias'),
    ('YAML bomb', yaml('<<: {a: b}\n'), 'm.yaml:1:1', 'merge key'),
    ('YAML bomb', yaml('a: !!python/object:os.system x\n'), 'm.yaml:1:4: a', 'tag'),
    ('YAML bomb', yaml('[' * 33 + ']' * 33), 'm.yaml:1:33', '32 deep'),
    ('YAML bomb', yaml('a: 1\na: 2\n'), 'm.yaml:2:1: a', 'line 1'),
    ('YAML bomb', yaml('a: ' + 'b' * (1 << 20)), 'm.yaml', 'at most 1048576'),
    ('YAML bomb', yaml('a: [' + 'b,' * 65536 + ']\n'), 'm.yaml:1:', '65536 keys and values'),
    ('YAML bomb', locked('a: &a [x]\n'), 'm.lock:1:4: a', 'anchor'),
    ('YAML bomb', locked('[' * 33 + ']' * 33), 'm.lock:1:33', '32 deep'),
    ('YAML bomb', locked('a: 1\na: 2\n'), 'm.lock:2:1: a', 'line 1'),
    ('JSON', header('{"a":' + DEEP + '}'), 'in.safetensors: offset 0x4c', '64 arrays and objects'), # 8 + 5 + 63
    ('JSON', header('{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{}}', bytes(4)), 'in.safetensors: a at 0x3e', 'dtype'),
    ('JSON', tensor('{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}'), 'in.safetensors: dtype at 0x1c', 'twice'),
    ('JSON', header('{"__metadata__":{},"__metadata__":{}}'), 'in.safetensors: __metadata__ at 0x1b', 'twice'),
    ('JSON', config('"auto_mapping":' + DEEP), 'adapter_config.json: offset 0x', '64 arrays and objects'),
    ('JSON', config('"r":2'), 'adapter_config.json: r at 0x29', 'twice'),
    ('JSON', index(DEEP), 'index.json: offset 0x40', '64 arrays and objects'),
    ('JSON', index('{"weight_map":{"q.weight":"m.safetensors","q.weight":"n.safetensors"}}'), 'index.json: q.weight at 0x2a', 'twice'),
    ('JSON', base_config(DEEP), 'config.json: offset 0x40', '64 arrays and objects'),
    ('JSON', base_config('{"a":1,"a":2}'), 'config.json: a at 0x7', 'twice'),
    ('JSON', receipt(DEEP), 'receipt.json: offset 0x40', '64 arrays and objects'),
    ('JSON', receipt('{"a":1,"a":2}'), 'receipt.json: a at 0x7', 'twice'),
    ('decompression bomb', container(put('tensors', 0, 'codec', build.SPLIT)), 'in.lora: tensor[0] at 0x', 'block_log2'),
    ('decompression bomb', container(put('tensors', 0, 'decoded_size', 1 << 40)), 'in.lora: tensor[0].decoded_size at 0x', ''),
    ('not a model', raw(LFS), 'in.safetensors', 'Git-LFS'),
    ('not a model', raw(LFS, 'in.lora'), 'in.lora', 'Git-LFS'),
    ('not a model', raw(PAGE, 'in.lora'), 'in.lora', 'web page'),
    ('not a model', raw(b'', 'in.lora'), 'in.lora', 'empty'),
    ('not a model', model(LFS), 'model.safetensors', 'Git-LFS'),
    ('not a model', model(PAGE), 'model.safetensors', 'web page'),
    ('not a model', index(LFS.decode()), 'index.json', 'Git-LFS'),
    ('not a model', base_config(PAGE.decode()), 'config.json', 'web page'),
    ('not a model', receipt(PAGE.decode()), 'receipt.json', 'web page'),
    ('not a model', lambda folder: peft(folder, LFS.decode()), 'adapter_config.json', 'Git-LFS'),
    ('not a model', yaml(LFS.decode()), 'm.yaml', ''),
    ('empty tensors', header('{' + EMPTY + ',' + EMPTY.replace('_A', '_B') + '}'), 'q.lora_A.weight', 'sharded'),
    ('peers: cut in half', cut(0.5), 'in.lora', ''),
    ('peers: cut to two thirds', model(safetensors(WEIGHT.replace('1,1', '3,1').replace('0,2', '0,6'), b'abcd')), 'model.safetensors: q.weight at 0x', 'it was cut short'),
    ('peers: alpha as a string', header('{"__metadata__":{"lora_alpha":16},' + Q_ENTRY + '}', b'ab'), '__metadata__ at 0x9', '"lora_alpha" must be a string'),
    ('peers: in-features', model(safetensors(WEIGHT.replace('1,1', '1,2').replace('0,2', '0,4'), b'abcd')), 'q.weight', '[1, 2]'),
    ('peers: no dimension', model(safetensors(WEIGHT.replace('1,1', '0,1').replace('0,2', '0,0'))), 'q.weight', '[0, 1]'),
]


def complaints(usage, folder, words, allowed):
    """What is wrong with how a refusal went."""
    last = (usage.stderr.strip().splitlines() or [''])[-1]
    if usage.code not in (1, 2):
        yield f'exit {usage.code}, not 1 or 2'
    for text in ['lorapack: ', *words]:
        if text not in last:
            yield f'the error does not say "{text}": {last}'
    left = [path.name for path in folder.iterdir() if path.name.startswith(('out', '.'))]
    if left:
        yield f'left behind: {left}'
    if usage.bytes > allowed:
        yield f'took {(usage.bytes - allowed + MEMORY) / (1 << 20):.1f} MiB, at most {MEMORY >> 20} are allowed'


def check(program, write, words, allowed):
    """A case goes as it must."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        arguments = write(folder)
        return list(complaints(measured(program, *arguments), folder, words, allowed))


def main():
    program, *flags = sys.argv[1:]
    cases = [(f'{name} ({i})', write, words) for i, (name, write, *words) in enumerate(CASES)]
    cases += [(name, write, []) for name, write in hostile_inputs.WORST.items()]
    if '--no-kit' not in flags:
        cases += [(name, write, []) for name, write in hostile_inputs.WORST_YAML.items()]
    allowed = measured(program, '--version').bytes + MEMORY if '--no-memory' not in flags else sys.maxsize
    failed = 0
    for name, write, words in cases:
        for text in check(program, write, words, allowed):
            failed += 1
            print(f'FAIL {name}: {text}')
    print(f'{len(cases)} inputs, {failed} complaints')
    sys.exit(1 if failed else 0)


main()
