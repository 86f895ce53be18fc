# SPDX-License-Identifier: MIT
"""Inputs that no reader may take, and how lorapack is asked to: each is a function of a folder that writes the input there and returns
the arguments that read it.

WORST has the most costly ones of up to 1 MiB that we know for each reader; test_hostile.py holds what they take against a bound, and
bench/hostile.py prints it.
"""
import functools
import json
import pathlib
import struct
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'spec/vectors'))

import build # noqa: E402 (of the vectors)

MIB = 1 << 20
PREFIX = 'base_model.model.'
CONFIG = {'peft_type': 'LORA', 'r': 1, 'lora_alpha': 1}


def safetensors(header, data=b''):
    """The bytes of a file with a header of exactly this text."""
    header = header.encode()
    return struct.pack('<Q', len(header)) + header + data


def repeated(begin, each, end, size=MIB - 8):
    """begin, as often `each`, or each(0), each(1), ..., as there is room for, end."""
    parts, room, i = [begin], size - len(begin) - len(end), 0
    if isinstance(each, str):
        return begin + each * (room // len(each)) + end
    while room >= len(part := each(i)):
        parts.append(part)
        room -= len(part)
        i += 1
    return ''.join(parts) + end


def entry(name, shape='', dtype='U8', size=0):
    return f'"{name}":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,{size}]}},'


# --- the JSON header of a safetensors file ---

HEADERS = {
    'deep': lambda: '{"a":' + '[' * (MIB - 20),
    'deep_objects': lambda: '{"a":' * (MIB // 5 - 2),
    'many_tensors': lambda: repeated('{', lambda i: entry(f'{i:x}'), '"z":0}'),
    'many_tensors_overlapping': lambda: repeated('{', lambda i: entry(f'{i:x}', '1', size=1), '"z":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}'),
    'many_keys': lambda: repeated('{', lambda i: f'"{i:x}":0,', '"z":0}'),
    'same_key': lambda: repeated('{', entry('a'), '"z":0}'),
    'same_long_key': lambda: repeated('{', entry('a' * 1000), '"z":0}'),
    'long_shape': lambda: repeated('{"a":{"shape":[', '0,', '0]}}'),
    'empty_arrays': lambda: repeated('{"a":[', '[],', '[]]}'),
    'empty_objects': lambda: repeated('{"a":[', '{},', '{}]}'),
    'metadata': lambda: repeated('{"__metadata__":{', lambda i: f'"{i:x}":"",', '"z":0}}'),
    'metadata_same_key': lambda: repeated('{"__metadata__":{', '"a":"",', '"z":""}}'),
    'long_name': lambda: '{"' + 'a' * (MIB - 100) + '":0}',
    'long_string': lambda: '{"__metadata__":{"a":"' + 'a' * (MIB - 100) + '"},"b":0}',
    'escapes': lambda: repeated('{"', '\\u0101', '":0}'),
    'surrogates': lambda: repeated('{"', '\\ud83d\\ude00', '":0}'),
    'long_number': lambda: '{"a":' + '1' * (MIB - 100) + '}',
    'long_fraction': lambda: '{"a":0.' + '1' * (MIB - 100) + 'e1}',
    'spaces': lambda: '{' + ' ' * (MIB - 100) + '"a":0}',
}


def header_case(text):
    def write(folder):
        (folder / 'in.safetensors').write_bytes(safetensors(text())[:MIB])
        return ['pack', folder / 'in.safetensors', '--alpha', '1', '-o', folder / 'out.lora']
    return write


# --- adapter_config.json, and the names that go with it ---

def peft(folder, config, modules=('q',), half=False):
    """A PEFT directory with a pair of rank 1 for each module; `half`: the last has only one of the two."""
    (folder / 'in').mkdir()
    (folder / 'in/adapter_config.json').write_text(config if isinstance(config, str) else json.dumps(config))
    names = [f'{PREFIX}{module}.lora_{letter}.weight' for module in modules for letter in 'AB']
    names = names[:-1] if half else names
    header = ','.join(f'"{name}":{{"dtype":"F16","shape":[1,1],"data_offsets":[{2 * i},{2 * i + 2}]}}' for i, name in enumerate(names))
    (folder / 'in/adapter_model.safetensors').write_bytes(safetensors('{' + header + '}', b'\0\x3c' * len(names)))
    return ['pack', folder / 'in', '-o', folder / 'out.lora']


def config_case(begin, each, end):
    return lambda folder: peft(folder, repeated(begin, each, end, MIB - 1))


BEGIN = '{"peft_type":"LORA","r":1,"lora_alpha":1,'
CONFIGS = {
    'deep': ('{"a":', '[', ''),
    'many_values': (BEGIN + '"target_modules":[', '0,', '0],"bad":1}'),
    'many_keys': (BEGIN + '"loftq_config":{', lambda i: f'"{i:x}":0,', '"z":0},"bad":1}'),
    'many_unknown_keys': (BEGIN, lambda i: f'"{i:x}":0,', '"bad":1}'),
    'many_strings': (BEGIN + '"loftq_config":{', lambda i: f'"{i:x}":"",', '"z":0},"bad":1}'),
    'same_key': (BEGIN + '"loftq_config":{', '"a":0,', '"z":0}}'),
    'tokens': (BEGIN + '"trainable_token_indices":[', lambda i: f'{i},', '0]}'),
    'rank_pattern': (BEGIN + '"rank_pattern":{', lambda i: f'"{i:x}":1,', '"z":"bad"}}'),
    'long_rank_pattern': (BEGIN + '"rank_pattern":{"', 'a', '":1},"bad":1}'),
    'regexes': (BEGIN + '"rank_pattern":{', lambda i: f'"({i:x})*":1,', '"z":1}}'),
}


def patterns_case(keys, tail):
    """rank_pattern that all names are held against, as many as there is room for; the last one breaks off."""
    def write(folder):
        patterns = {key: 1 for key in keys}
        modules = [f'{i:05x}{tail}' for i in range(MIB // (2 * (len(tail) + 95)))]
        return peft(folder, {**CONFIG, 'rank_pattern': patterns}, modules, half=True)
    return write


def plain_keys(tail, n):
    """Keys that differ from every name in their first letter."""
    return [f'y{i:04x}{tail}' for i in range(n)]


PATTERNS = {
    'nested_stars': (['(a*)*b'], 'a' * 800),
    'nested_stars_short': (['(a*)*b'], 'a' * 20),
    'alternatives': (['(a|a)*b' + 'c' * i for i in range(110)], 'a' * 800),
    'alternatives_short': (['(a|a)*b' + 'c' * i for i in range(14)], 'a' * 20),
    'lookahead': (['(?=(a+)+b)a' + 'c' * i for i in range(110)], 'a' * 800),
    'dots': (['.*.*.*.*.*.*.*b' + 'c' * i for i in range(110)], 'a' * 800),
    'dots_short': (['.*.*.*.*.*.*.*b' + 'c' * i for i in range(14)], 'a' * 20),
    'harmless': (['x(y)' + 'c' * i for i in range(12)], 'a'),
    'large': (['(' * 100 + 'a{0,99}' * 8 + ')' * 100 + 'c' * i for i in range(12)], 'a'),
    'plain': (plain_keys('x' * 40, 18000), 'x' * 40),
    'plain_fewer': (plain_keys('x' * 8, 3000), 'x' * 8),
    'plain_long': (plain_keys('x' * 900, 1000), 'x' * 900),
}


# --- shard index, base config, receipt ---

WEIGHT = '{"q.weight":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}}'


def base(folder, index=None, config=None, model=safetensors(WEIGHT, b'ab')):
    """A base, and an adapter to be merged into it."""
    peft(folder, CONFIG)
    (folder / 'base').mkdir()
    if index:
        (folder / 'base/model.safetensors.index.json').write_text(index)
    else:
        (folder / 'base/model.safetensors').write_bytes(model)
    (folder / 'base/config.json').write_text(config or '{}')
    return ['merge', '--base', folder / 'base', '--adapter', folder / 'in', '-o', folder / 'out']


def index_case(begin, each, end):
    return lambda folder: base(folder, index=repeated(begin, each, end, MIB - 1))


INDEXES = {
    'deep': ('{"weight_map":', '[', ''),
    'many_tensors': ('{"weight_map":{', lambda i: f'"{i:x}":"m.safetensors",', '"z":0}}'),
    'many_keys': ('{"weight_map":{', lambda i: f'"{i:x}":"",', '"z":0}}'),
    'many_missing_files': ('{"weight_map":{', lambda i: f'"{i:x}":"{i:x}.safetensors",', '"zz":"z.safetensors"}}'),
    'same_key': ('{"weight_map":{', '"a":"m.safetensors",', '"z":0}}'),
    'many_values': ('{"metadata":[', '0,', '0],"weight_map":0}'),
}


def base_config_case(begin, each, end):
    return lambda folder: base(folder, config=repeated(begin, each, end, MIB - 1))


def receipt_case(begin, each, end):
    def write(folder):
        base(folder)
        (folder / 'receipt.json').write_text(repeated(begin, each, end, MIB - 1))
        return ['verify', '--receipt', folder / 'receipt.json', '--base', folder / 'base', '--adapter', folder / 'in', folder / 'base']
    return write


# --- YAML: manifest and lock ---

MANIFEST = 'version: 1\nbase: b\nadapters: {a: a.lora}\nscenarios: {s: {adapters: [a]}}\n'


def manifest(folder, text):
    (folder / 'm.yaml').write_text(text)
    return ['plan', folder / 'm.yaml']


def lock(folder, text):
    (folder / 'm.lock').write_text(text)
    return manifest(folder, MANIFEST)


def yaml_case(write, begin, each, end):
    return lambda folder: write(folder, repeated(begin, each, end, MIB - 1))


YAMLS = {
    'flow_nesting': ('a: ', '[', ''),
    'flow_maps': ('a: ', '{a: ', ''),
    'block_nesting': ('', '- ', ''),
    'block_maps': ('', '? ', ''),
    'many_nodes': ('a: [', 'b,', 'b]\n'),
    'many_empty_flows': ('a: [', '[],', 'b]\n'),
    'many_keys': ('', lambda i: f'{i:x}: \n', 'z: 1\n'),
    'same_key': ('', 'a: \n', 'z: 1\n'),
    'aliases': ('a: &a [b]\nc: [', '*a,', '*a]\n'),
    'long_scalar': ('a: ', 'b', '\n'),
    'long_quoted': ('a: "', '\\u0101', '"\n'),
    'long_key': ('', 'b', ': 1\n'),
    'folded': ('a: >\n', '  b\n', 'z: 1\n'),
    'tags': ('a: [', '!!str b,', 'b]\n'),
    'comments': ('', '# b\n', 'a: 1\n'),
    'documents': ('', '--- a\n', ''),
    'question_marks': ('{', '? ', ''),
    'anchors': ('a: &', 'b', ' c\n'),
    'numbers': ('version: ', '1', '\n'),
}


# --- .lora ---

def site(name, a, b, **fields):
    return build.Site(name, build.LINEAR, [(build.A, a), (build.B, b)], **fields)


A, B = build.f32(1, 2), build.f32(2, 1)


def many_sites():
    file = build.File(build.Adapter('a', [site(f'{i:05d}', A, B) for i in range(8000)]))
    file.sites[-1].rank = 0
    return file


def many_tensors():
    file = build.File(build.Adapter('a', [site(f'{i:05d}', build.f32(1, 2, start=i), B) for i in range(2800)]))
    file.tensors[-1].sha256 = bytes(32)
    return file


def many_tensors_of_the_same_bytes():
    file = build.File(build.Adapter('a', [site(f'{i:05d}', build.f32(1, 2, start=i), B) for i in range(2500)]
                                    + [site('z', build.f32(1, 50000, start=9), B)]))
    for tensor in file.tensors[:-1]:
        last = file.tensors[-1]
        tensor.offset, tensor.shape, tensor.stored_size, tensor.decoded_size = last.offset, last.shape, last.stored_size, last.decoded_size
    return file


def many_adapters():
    file = build.File(*(build.Adapter(f'{i:05d}', [site('a', A, B)]) for i in range(4300)))
    file.adapters[-1].n_metadata = 1
    return file


def many_values():
    file = build.File(build.Adapter('a', [site('a', A, B)], [(f'{i:05d}', 'x' * 2, 0) for i in range(46000)]))
    file.metadata[-1].flags = 2
    return file


def many_segments():
    file = build.File(build.Adapter('a', [site('a', A, B)]))
    file.segments.extend(build.SegmentRecord(offset=12288 + 64 * i, size=64, kind=2) for i in range(32000))
    file.sections = file.first_sections()
    file.place()
    return file


def claimed_records():
    file = many_sites()
    file.section_table[2].n_records = 1 << 24
    return file


def claimed_tensor():
    file = build.File(build.Adapter('a', [site('a', A, B)]))
    file.tensors[0].shape[:2] = [1 << 23, 1 << 23]
    file.tensors[0].stored_size = file.tensors[0].decoded_size = 1 << 48
    return file


def split_stream():
    file = build.File(build.Adapter('a', [site('a', build.tensor('BF16', [1, 900000], *range(1, 400), codec=build.SPLIT), B)]))
    file.tensors[0].sha256 = bytes(32)
    return file


FILES = {f.__name__: f for f in (many_sites, many_tensors, many_tensors_of_the_same_bytes, many_adapters, many_values, claimed_records,
                                 claimed_tensor, split_stream)}


@functools.cache
def made(make):
    """The bytes of a container that takes a while to make."""
    return make().bytes()


def lora(folder, file, command):
    """A container that is read by that command."""
    (folder / 'in.lora').write_bytes(file if isinstance(file, bytes) else file.bytes())
    return [command, folder / 'in.lora', *(['-o', folder / 'out.lora'] if command in ('pack', 'unpack') else [])]


def lora_case(make, command):
    return lambda folder: lora(folder, made(make), command)


# --- all ---

VALUES = ('{"a":[', '0,', '0]}')
KEYS = ('{', lambda i: f'"{i:x}":0,', '"z":0}')

WORST = {f'safetensors_{name}': header_case(text) for name, text in HEADERS.items()}
WORST |= {f'config_{name}': config_case(*parts) for name, parts in CONFIGS.items()}
WORST |= {f'patterns_{name}': patterns_case(*parts) for name, parts in PATTERNS.items()}
WORST |= {f'index_{name}': index_case(*parts) for name, parts in INDEXES.items()}
for name_, parts_ in {'values': VALUES, 'keys': KEYS}.items():
    WORST |= {f'base_config_{name_}': base_config_case(*parts_), f'receipt_{name_}': receipt_case(*parts_)}
for command_ in ('pack', 'verify'):
    WORST |= {f'lora_{name}_{command_}': lora_case(make, command_) for name, make in FILES.items()}
WORST['lora_many_segments_verify'] = lora_case(many_segments, 'verify')
WORST_YAML = {f'{write.__name__}_{name}': yaml_case(write, *parts) for write in (manifest, lock) for name, parts in YAMLS.items()}
