# SPDX-License-Identifier: MIT
"""Hostile inputs: each class of what went wrong in readers of model files, for each reader here that meets it, and each input that a
peer takes or dies of. All are refused with place and reason, in little memory, and leave nothing behind; where something else is right
it is in HANDLED. What one field of a container may not be is in spec/vectors. Two classes are no inputs: a rename without sync is
test_crash.py's, a file that is truncated while it is read test_io.c's and test_failures.c's.

usage: test_hostile.py LORAPACK [--no-memory] [--no-kit]
"""
import json
import math
import os
import pathlib
import struct
import sys
import tempfile
import zlib

import tensors
from hostile_inputs import (A, B, BEGIN, CONFIG, MANIFEST, PREFIX, WEIGHT, WORST, WORST_YAML, base, base_config, build, case, header, lock,
                            lora, manifest, peft, receipt, safetensors, shard_index, site)
from lorapack import Lorapack
from measure import measured

MEMORY = 16 << 20 # bytes that a refused file of up to 1 MiB may take beyond what the program takes to say its version

# --- writers, beside those of hostile_inputs ---


def raw(data, name='in.safetensors'):
    """These bytes, as an adapter."""
    def write(folder):
        (folder / name).write_bytes(data)
        return ['pack', folder / name, '--alpha', '1', '-o', folder / 'out.lora']
    return write


def tensor(text, data=bytes(4)):
    """One tensor `a`, of which that is said."""
    return raw(safetensors(f'{{"a":{text}}}', data))


def shaped(shape, offsets='0,4'):
    return tensor(f'{{"dtype":"F32","shape":{shape},"data_offsets":[{offsets}]}}')


def config(text):
    """An adapter_config.json that has these members, too."""
    return case(peft, BEGIN + text + '}')


def other(**members):
    """One where members are others."""
    return case(peft, json.dumps({**CONFIG, **members}))


def container(change=lambda file: None, command='verify', cut=1, adapter=build.Adapter('a', [site('q.weight', A, B)])):
    """A container of one adapter, bent by `change`, of which that part is there."""
    def write(folder):
        file = build.File(adapter)
        change(file)
        data = file.bytes()
        return lora(folder, data[:int(len(data) * cut)], command)
    return write


def put(table, i, field, value):
    """A change of one field of a record."""
    def change(file):
        setattr(getattr(file, table)[i], field, value)
        getattr(file, table)[i].held.add(field)
    return change


def inflating(size):
    """A tensor of 4096 bytes whose stream goes on for that many."""
    decoded = bytes(4096)
    stored = build.split(decoded, 'F32', stream=lambda block: zlib.compress(bytes(size)))
    return build.Adapter('a', [site('q.weight', build.Tensor('F32', [1, 1024], decoded, build.SPLIT, stored), B)])


def f32(shape, *values):
    return tensors.Tensor('F32', shape, struct.pack(f'<{len(values)}f', *values))


WEIGHTS = {'q.weight': f32([1, 2], 3, 4)}
FACTORS = {'q.lora_A.weight': f32([1, 2], 1, 1), 'q.lora_B.weight': f32([1, 1], 1)}


def pair(weights, factors, *more, **members):
    """A merge of an adapter of these factors into a model of those weights."""
    def write(folder):
        arguments = base(folder, config='{}')
        tensors.write_file(folder / 'base/model.safetensors', weights)
        tensors.write_file(folder / 'in/adapter_model.safetensors', {PREFIX + name: factor for name, factor in factors.items()})
        (folder / 'in/adapter_config.json').write_text(json.dumps({**CONFIG, **members}))
        return [*arguments, *more]
    return write


def half(path):
    """A merge where half of that file is there."""
    def write(folder):
        arguments = pair(WEIGHTS, FACTORS)(folder)
        os.truncate(folder / path, (folder / path).stat().st_size // 2)
        return arguments
    return write


def weight(text):
    """A merge with this weight of the adapter."""
    def write(folder):
        arguments = base(folder)
        arguments[arguments.index('--adapter') + 1] = f'{folder}/in={text}'
        return arguments
    return write


def model(data):
    """These bytes, as a base."""
    return lambda folder: base(folder, data)


def linked_base(folder):
    """A manifest whose base is a link out of its root."""
    (folder / 'in').mkdir()
    (folder / 'in/b').symlink_to('/etc')
    return manifest(folder / 'in', MANIFEST)


def long_header(folder):
    """A header of more than 100 MB, in a file that takes no room."""
    with open(folder / 'in.safetensors', 'wb') as file:
        file.write(struct.pack('<Q', 100000001) + b'{"a":')
        file.truncate(100000100)
    return ['verify', folder / 'in.safetensors']


def fifo(folder):
    os.mkfifo(folder / 'pipe')
    return ['verify', folder / 'pipe']


def aligned_by_4096(folder):
    """A merge of a container whose tensors lie as far apart as none of ours do by themselves."""
    arguments = pair(WEIGHTS, FACTORS)(folder)
    file = build.File(build.Adapter('a', [site('q.weight', build.f32(1, 2), build.f32(1, 1))]), align_log2=12)
    (folder / 'in.lora').write_bytes(file.bytes())
    arguments[arguments.index('--adapter') + 1] = folder / 'in.lora'
    return arguments


def finite(folder):
    """Looking for NaN in a container that has one."""
    return [*container(adapter=build.Adapter('a', [site('q.weight', build.tensor('F32', [1, 2], math.nan, 1), B)]))(folder), '--finite']


LFS = 'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 499064\n'
PAGE = '<!DOCTYPE html>\n<html><body>404</body></html>'
PICKLE = b'\x80\x02}q\x00.' + bytes(100)
GGUF = b'GGUF\x03\0\0\0' + struct.pack('<QQQ17sII', 0, 1, 17, b'general.alignment', 4, 64)
A_BYTE = '"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}'
DEEP = '[' * 65 + ']' * 65
EMPTY = f32([1, 0])
LONG = build.Adapter('a', [site('q.weight', build.f32(1, 9000), B)]) # most of its file are data
LARGE = tensors.Tensor('BF16', [1, 2], b'\xc3\x47\x80\x3f') # 99840, 1
THREE = safetensors('{"q.weight":{"dtype":"F16","shape":[3,1],"data_offsets":[0,6]}}', b'abcd') # bytes for two of them

# Row of the tables of hostile inputs, case, place and reason that the last line must name. Places are counted in the text of the case,
# limits are those of the specifications, and what must be named is in the rule of the class: offset, field or tensor, what is allowed.
CASES = [
    ('class: product wraps', shaped('[4611686018427387905,4]'), 'in.safetensors: offset 0x25', '2^53'),
    ('class: product wraps', shaped('[4398046511105,4194304]'), 'in.safetensors: a at 0x9', '2^46'),
    ('class: product wraps', shaped('[9007199254740992,9007199254740992,9007199254740992]'), 'in.safetensors: a at 0x9', '2^46'),
    ('class: product wraps', model(safetensors(WEIGHT.replace('1,1', '4294967297,4294967296'), b'ab')),
     'model.safetensors: q.weight at 0x9', '2^46'),
    ('class: product wraps', container(put('tensors', 0, 'shape', [1 << 32, 1 << 32] + [0] * 6)), 'in.lora: tensor[0].', '2^46'),
    ('class: alignment', container(put('index', 0, 'align_log2', 63)), 'in.lora: index.align_log2 at 0x', '63, must be 6, 12 or 16'),
    ('class: alignment', container(put('index', 0, 'align_log2', 0)), 'in.lora: index.align_log2 at 0x', '0, must be 6, 12 or 16'),
    ('class: alignment', container(put('tensors', 0, 'offset', (1 << 64) - 32)), 'in.lora: tensor[0].offset at 0x', '64'),
    ('class: counts trusted', container(put('section_table', 2, 'n_records', 1 << 24)),
     'section[2].n_records at 0x', 'more than the index has bytes for'),
    ('class: counts trusted', container(put('sites', 0, 'n_factors', 0xffffffff)), 'in.lora: site[0].n_factors at 0x', '4294967295'),
    ('class: counts trusted', raw(struct.pack('<Q', 1 << 63) + b'{"a":0}'), 'in.safetensors: header_size at 0x0', 'the file has 7'),
    ('class: counts trusted', model(struct.pack('<Q', 1 << 63) + b'{"a":0}'), 'model.safetensors: header_size at 0x0', 'the file has 7'),
    ('class: counts trusted', long_header, 'in.safetensors: header_size at 0x0', 'at most 100000000'),
    ('class: element type', other(r='8'), 'adapter_config.json: r: ', 'must be a number'),
    ('class: element type', other(lora_alpha='16'), 'adapter_config.json: lora_alpha', 'number'),
    ('class: element type', other(rank_pattern=[]), 'adapter_config.json: rank_pattern', 'object'),
    ('class: element type', tensor('{"dtype":1,"shape":[1],"data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'dtype must be a string'),
    ('class: element type', shaped('"1"'), 'in.safetensors: a at 0x9', 'shape must be an array'),
    ('class: element type', shaped('[true]'), 'in.safetensors: a at 0x9', 'shape must be an array of numbers'),
    ('class: element type', shaped('[1.0]'), 'in.safetensors: offset 0x25', 'whole number'),
    ('class: element type', case(shard_index, '{"weight_map":{"q.weight":1}}'), 'index.json: q.weight at 0xf', 'name of a file'),
    ('class: index out of range', container(put('factors', 0, 'tensor', 2)), 'in.lora: factor[0].tensor at 0x', '2'),
    ('class: index out of range', container(put('adapters', 0, 'first_site', 0xffffffff)), 'in.lora: adapter[0].', 'site'),
    ('class: index out of range', container(put('sites', 0, 'target', 0xffffff00)), 'in.lora: site[0].target at 0x', 'pool'),
    ('class: converter reads beyond', container(put('tensors', 0, 'offset', 1 << 40), 'unpack'),
     'in.lora: tensor[0].', 'pass the file end'),
    ('class: converter reads beyond', container(put('tensors', 0, 'offset', 1 << 40), 'pack'), 'in.lora: tensor[0].', 'pass the file end'),
    ('class: converter reads beyond', shaped('[2]', '0,8'), 'in.safetensors: a at 0x', 'it was cut short'),
    ('class: converter reads beyond', shaped('[1]', '4,0'), 'in.safetensors: a at 0x9', 'end at 0, before they begin at 4'),
    ('class: names and numbers', shaped('[-1]'), 'in.safetensors: offset 0x25', 'without sign'),
    ('class: names and numbers', weight('nan'), 'in=nan', 'finite'),
    ('class: names and numbers', weight('1e999'), 'in=1e999', 'finite'),
    ('class: names and numbers', pair(WEIGHTS, FACTORS, '--alpha', '1x'), '--alpha 1x', 'finite number'),
    ('class: names and numbers', pair(WEIGHTS, FACTORS, '--threads', '-1'), '--threads -1', '1 .. 1024'),
    ('class: names and numbers', case(header, WEIGHT.replace('q.weight', 'q\\u0001')), 'q? at 0x9', 'no control characters'),
    ('class: names and numbers', case(header, WEIGHT.replace('q.weight', 'a' * 1025)), 'a at 0x9', '1 .. 1024 bytes'),
    ('class: names and numbers', raw(struct.pack('<Q', 7) + b'{"\xff":0}'), 'in.safetensors: offset 0xa', 'UTF-8'),
    ('class: flat buffer', shaped('[2]'), 'in.safetensors: a at 0x9', 'needs 8 bytes, data_offsets give 4'),
    ('class: flat buffer', tensor('{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', bytes(5)),
     'in.safetensors: offset 0x', 'the last 1 bytes'),
    ('class: flat buffer', case(header, WEIGHT.replace('q.weight', '')), 'in.safetensors: offset 0x9', '1 .. 1024 bytes'),
    ('class: flat buffer', tensor('{"dtype":"F32","data_offsets":[0,4]}'), 'in.safetensors: a at 0x9', 'shape is missing'),
    ('class: flat buffer', tensor('{"dtype":"F32","shape":[1]}'), 'in.safetensors: a at 0x9', 'data_offsets is missing'),
    ('class: flat buffer', tensor('{"dtype":"FLOAT","shape":[1],"data_offsets":[0,4]}'),
     'in.safetensors: a at 0x9', '"FLOAT" is not known'),
    ('class: flat buffer', pair(WEIGHTS, {**FACTORS, 'q.lora_A.weight': f32([], 1)}), 'q.lora_A.weight', 'A has 0 dimensions'),
    ('class: pickle', raw(PICKLE, 'in.pt'), 'in.pt', 'a pickle, never opened'),
    ('class: pickle', raw(PICKLE, 'in.ckpt'), 'in.ckpt', 'a pickle, never opened'),
    ('class: pickle', raw(b'PK\x03\x04' + bytes(100), 'in.bin'), 'in.bin', 'pickle archive (zip), never opened'),
    ('class: pickle', raw(PICKLE), 'in.safetensors', 'a pickle, never opened'),
    ('class: pickle', raw(PICKLE, 'in.lora'), 'in.lora', 'a pickle, never opened'),
    ('class: pickle', model(PICKLE), 'model.safetensors', 'a pickle, never opened'),
    ('class: path traversal', container(adapter=build.Adapter('../x', [site('q', A, B)])), 'adapter[0].name at 0x', "without '/'"),
    ('class: path traversal', case(shard_index, '{"weight_map":{"q.weight":"../x.safetensors"}}'),
     'index.json: q.weight at 0xf', '../x.safetensors'),
    ('class: path traversal', case(shard_index, '{"weight_map":{"q.weight":"/x.safetensors"}}'),
     'index.json: q.weight at 0xf', '/x.safetensors'),
    ('class: JSON', case(header, '{"a":' + DEEP + '}'), 'in.safetensors: offset 0x4c', '64 arrays and objects'), # 8 + 5 + 63
    ('class: JSON', case(header, '{"a":' + DEEP[1:-1] + '}'), 'in.safetensors: offset 0x4c', '64 arrays and objects'),
    ('class: JSON', raw(safetensors('{' + A_BYTE + ',' + A_BYTE.replace('0,1', '1,2') + '}', b'ab')), 'in.safetensors: a at 0x3d', 'twice'),
    ('class: JSON', tensor('{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}'), 'in.safetensors: dtype at 0x1c', 'twice'),
    ('class: JSON', case(header, '{"__metadata__":{},"__metadata__":{}}'), 'in.safetensors: __metadata__ at 0x1b', 'twice'),
    ('class: JSON', config('"auto_mapping":' + DEEP), 'adapter_config.json: offset 0x', '64 arrays and objects'),
    ('class: JSON', config('"r":2'), 'adapter_config.json: r at 0x29', 'twice'),
    ('class: JSON', case(shard_index, DEEP), 'index.json: offset 0x40', '64 arrays and objects'),
    ('class: JSON', case(shard_index, '{"weight_map":{"q.weight":"m.safetensors","q.weight":"n.safetensors"}}'),
     'index.json: q.weight at 0x2a', 'twice'),
    ('class: JSON', case(base_config, DEEP), 'config.json: offset 0x40', '64 arrays and objects'),
    ('class: JSON', case(base_config, '{"a":1,"a":2}'), 'config.json: a at 0x7', 'twice'),
    ('class: JSON', case(receipt, DEEP), 'receipt.json: offset 0x40', '64 arrays and objects'),
    ('class: JSON', case(receipt, '{"a":1,"a":2}'), 'receipt.json: a at 0x7', 'twice'),
    ('class: decompression bomb', container(adapter=inflating(1 << 20)),
     'in.lora: tensor[0].stored_size at 0x', 'of 4096 bytes has at most that'),
    ('class: decompression bomb', container(adapter=inflating(900000)), 'in.lora: tensor[0] at 0x', 'of exactly a byte for each element'),
    ('class: decompression bomb', container(adapter=inflating(900000), command='pack'),
     'in.lora: tensor[0] at 0x', 'of exactly a byte for each element'),
    ('class: decompression bomb', container(put('tensors', 0, 'decoded_size', 1 << 40)), 'in.lora: tensor[0].decoded_size at 0x', '8'),
    ('class: NaN in weights', finite, 'in.lora: 1 elements are NaN', '--finite allows none'), # the lines before: test_inspect.py
    ('class: not a model file', raw(LFS.encode()), 'in.safetensors', 'Git-LFS'),
    ('class: not a model file', raw(LFS.encode(), 'in.lora'), 'in.lora', 'Git-LFS'),
    ('class: not a model file', raw(PAGE.encode()), 'in.safetensors', 'web page'),
    ('class: not a model file', raw(PAGE.encode(), 'in.lora'), 'in.lora', 'web page'),
    ('class: not a model file', raw(b''), 'in.safetensors', 'empty'),
    ('class: not a model file', raw(b'', 'in.lora'), 'in.lora', 'empty'),
    ('class: not a model file', raw(safetensors(WEIGHT, b'ab'), 'in.lora'), 'in.lora', 'a safetensors file'),
    ('class: not a model file', fifo, 'pipe: ', 'a FIFO, must be a regular file'),
    ('class: not a model file', model(LFS.encode()), 'model.safetensors', 'Git-LFS'),
    ('class: not a model file', model(PAGE.encode()), 'model.safetensors', 'web page'),
    ('class: not a model file', case(shard_index, LFS), 'index.json', 'Git-LFS'),
    ('class: not a model file', case(base_config, PAGE), 'config.json', 'web page'),
    ('class: not a model file', case(receipt, PAGE), 'receipt.json', 'web page'),
    ('class: not a model file', case(peft, LFS), 'adapter_config.json', 'Git-LFS'),
    ('class: empty tensors', pair(WEIGHTS, {'q.lora_A.weight': EMPTY, 'q.lora_B.weight': EMPTY}), 'q.lora_A.weight', 'sharded'),
    ('peers: adapter data cut in half', container(cut=0.5, adapter=LONG), 'in.lora: root[0].file_end at 0x', 'truncated'),
    ('peers: adapter data cut in half', half('in/adapter_model.safetensors'), 'adapter_model.safetensors: header_size at 0x0', 'bytes'),
    ('peers: base cut to two thirds', model(THREE), 'model.safetensors: q.weight at 0x', 'it was cut short'),
    ('peers: every name unknown to the base', pair({'k.weight': WEIGHTS['q.weight']}, FACTORS), 'q.weight', 'the base has no such tensor'),
    ('peers: DoRA magnitude', pair(WEIGHTS, FACTORS | {'q.lora_magnitude_vector': f32([1], 1)}), 'q.lora_magnitude_vector', 'DoRA'),
    ('peers: alpha = NaN', other(lora_alpha=math.nan), 'adapter_config.json: offset 0x', 'NaN'),
    ('peers: alpha = NaN', container(put('sites', 0, 'alpha', math.nan)), 'in.lora: site[0].alpha at 0x', 'finite'),
    ('peers: alpha stored as a string', other(lora_alpha='1'), 'adapter_config.json: lora_alpha', 'must be a finite number'),
    ('peers: alpha stored as an integer', raw(safetensors('{"__metadata__":{"lora_alpha":16}}')),
     '__metadata__ at 0x9', '"lora_alpha" must be a string'),
    ('peers: wrong in-features', pair({'q.weight': f32([1, 3], 1, 2, 3)}, FACTORS),
     'q.weight', 'the base has [1, 3], the adapter needs [1, 2]'),
    ('peers: rank A is not rank B', pair(WEIGHTS, FACTORS | {'q.lora_B.weight': f32([1, 2], 1, 1)}), 'q', 'A has rank 1 and B has rank 2'),
    ('peers: a dimension of 0', pair({'q.weight': f32([0, 2])}, FACTORS), 'q.weight', '[0, 2]'),
    ('peers: general.alignment = 64', raw(GGUF), 'in.safetensors', 'a GGUF file'),
    ('peers: general.alignment = 64', model(GGUF), 'model.safetensors', 'a GGUF file'),
    ('peers: keys that match nothing (PEFT)', pair(WEIGHTS, FACTORS | {'q.lora_C.weight': EMPTY}),
     'q.lora_C', 'unknown kind of LoRA tensor'),
    ('peers: missing keys (PEFT)', pair(WEIGHTS, {'q.lora_A.weight': f32([1, 2], 1, 1)}),
     'q.lora_A.weight', 'its counterpart lora_B is missing'),
    ('peers: some names do not match (vLLM)', pair(WEIGHTS, FACTORS | {name.replace('q', 'k'): f for name, f in FACTORS.items()}),
     'k.weight',
     'the base has no such tensor'),
    ('peers: unknown names (kohya)', raw(safetensors(WEIGHT.replace('q.weight', 'lora_unet_q.lora_down.weight'), b'ab')),
     'lora_unet_q.lora_down.weight: ', 'kohya'),
]
CASES_OF_YAML = [
    ('class: element type', case(manifest, MANIFEST.replace('version: 1', 'version: "1"')), 'm.yaml:1:10: version', 'number'),
    ('class: path traversal', case(manifest, MANIFEST.replace('base: b', 'base: /etc')), 'm.yaml:2:7: base', '/etc'),
    ('class: path traversal', case(manifest, MANIFEST.replace('base: b', 'base: ../../etc')), 'm.yaml:2:7: base', 'etc'),
    ('class: path traversal', linked_base, 'm.yaml:2:7: base', '/etc'),
    ('class: YAML bomb', case(manifest, 'a: &a [x]\n'), 'm.yaml:1:4: a', 'anchor'),
    ('class: YAML bomb', case(manifest, 'a: *a\n'), 'm.yaml:1:4: a', 'alias'),
    ('class: YAML bomb', case(manifest, '<<: {a: b}\n'), 'm.yaml:1:1', 'merge key'),
    ('class: YAML bomb', case(manifest, 'a: !!python/object:os.system x\n'), 'm.yaml:1:4: a', 'tag'),
    ('class: YAML bomb', case(manifest, '[' * 33 + ']' * 33), 'm.yaml:1:33', '32 deep'),
    ('class: YAML bomb', case(manifest, 'a: 1\na: 2\n'), 'm.yaml:2:1: a', 'line 1'),
    ('class: YAML bomb', case(manifest, 'a: ' + 'b' * (1 << 20)), 'm.yaml', 'at most 1048576'),
    ('class: YAML bomb', case(manifest, 'a: [' + 'b,' * 65536 + ']\n'), 'm.yaml:1:', '65536 keys and values'),
    ('class: YAML bomb', case(lock, 'a: &a [x]\n'), 'm.lock:1:4: a', 'anchor'),
    ('class: YAML bomb', case(lock, '[' * 33 + ']' * 33), 'm.lock:1:33', '32 deep'),
    ('class: YAML bomb', case(lock, 'a: 1\na: 2\n'), 'm.lock:2:1: a', 'line 1'),
    ('class: not a model file', case(manifest, LFS), 'm.yaml:1:1', 'Git-LFS'),
    ('class: not a model file', case(lock, PAGE), 'm.lock:1:1', 'web page'),
]

# Row, a merge that is right, the tensor that comes of it, and what is said beside.
DORA = FACTORS | {'q.lora_B.weight': f32([1, 1], 0), 'q.lora_magnitude_vector': f32([1], 10)} # [3, 4] is 5 long
HANDLED = [
    ('peers: DoRA magnitude', pair(WEIGHTS, DORA, use_dora=True), (6, 8), ''),
    ('peers: alpha stored as an integer', pair(WEIGHTS, FACTORS, lora_alpha=2), (5, 6), ''),
    ('peers: general.alignment', aligned_by_4096, (4, 6), ''),
    ('peers: bf16 base holding 1e5, output f16', pair({'q.weight': LARGE}, FACTORS, '--dtype', 'f16'), (math.inf, 2), '1 are infinite'),
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


def refused(program, folder, write, words, allowed):
    """A case is refused as it must be."""
    return list(complaints(measured(program, *write(folder)), folder, words, allowed))


def handled(program, folder, write, values, said):
    """A case that is no fault gives these values."""
    code, _, message = Lorapack(program).run(*write(folder))
    if code or said not in message:
        return [f'exit {code}: {message}']
    found = tensors.values(tensors.read_model(folder / 'out')['q.weight'])
    return [] if found == values else [f'{found}, not {values}']


def main():
    program, *flags = sys.argv[1:]
    cases, worst = CASES, WORST
    if '--no-kit' not in flags:
        cases, worst = CASES + CASES_OF_YAML, WORST | WORST_YAML
    allowed = measured(program, '--version').bytes + MEMORY if '--no-memory' not in flags else sys.maxsize
    checks = [(f'{name} ({i})', refused, write, words, allowed) for i, (name, write, *words) in enumerate(cases)]
    checks += [(f'worst: {name}', refused, write, [], allowed) for name, write in worst.items()]
    checks += [(name, handled, *what) for name, *what in HANDLED]
    failed = 0
    for name, check, *what in checks:
        with tempfile.TemporaryDirectory() as folder:
            for text in check(program, pathlib.Path(folder), *what):
                failed += 1
                print(f'FAIL {name}: {text}')
    print(f'{len(checks)} inputs, {failed} complaints')
    sys.exit(1 if failed else 0)


main()
