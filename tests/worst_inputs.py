# SPDX-License-Identifier: MIT
"""The most costly inputs of up to 1 MiB that each reader refuses: what they take is held against a bound (test_hostile.py) and printed
(bench/hostile.py).

WORST has functions of a folder that write the input there and return the arguments of lorapack that read it.
"""
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
    """begin, as many of each(0), each(1), ... as there is room for, end."""
    parts, room, i = [begin], size - len(begin) - len(end), 0
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
    'same_key': lambda: repeated('{', lambda i: entry('a'), '"z":0}'),
    'same_long_key': lambda: repeated('{', lambda i: entry('a' * 1000), '"z":0}'),
    'long_shape': lambda: repeated('{"a":{"shape":[', lambda i: '0,', '0]}}'),
    'empty_arrays': lambda: repeated('{"a":[', lambda i: '[],', '[]]}'),
    'empty_objects': lambda: repeated('{"a":[', lambda i: '{},', '{}]}'),
    'metadata': lambda: repeated('{"__metadata__":{', lambda i: f'"{i:x}":"",', '"z":0}}'),
    'metadata_same_key': lambda: repeated('{"__metadata__":{', lambda i: '"a":"",', '"z":""}}'),
    'long_name': lambda: '{"' + 'a' * (MIB - 100) + '":0}',
    'long_string': lambda: '{"__metadata__":{"a":"' + 'a' * (MIB - 100) + '"},"b":0}',
    'escapes': lambda: repeated('{"', lambda i: '\\u0101', '":0}'),
    'surrogates': lambda: repeated('{"', lambda i: '\\ud83d\\ude00', '":0}'),
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
    'deep': ('{"a":', lambda i: '[', ''),
    'many_values': (BEGIN + '"target_modules":[', lambda i: '0,', '0],"bad":1}'),
    'many_keys': (BEGIN + '"loftq_config":{', lambda i: f'"{i:x}":0,', '"z":0},"bad":1}'),
    'many_unknown_keys': (BEGIN, lambda i: f'"{i:x}":0,', '"bad":1}'),
    'many_strings': (BEGIN + '"loftq_config":{', lambda i: f'"{i:x}":"",', '"z":0},"bad":1}'),
    'same_key': (BEGIN + '"loftq_config":{', lambda i: '"a":0,', '"z":0}}'),
    'tokens': (BEGIN + '"trainable_token_indices":[', lambda i: f'{i},', '0]}'),
    'rank_pattern': (BEGIN + '"rank_pattern":{', lambda i: f'"{i:x}":1,', '"z":"bad"}}'),
    'long_rank_pattern': (BEGIN + '"rank_pattern":{"', lambda i: 'a', '":1},"bad":1}'),
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

def base(folder, index=None, config=None):
    """A base, and an adapter to be merged into it."""
    peft(folder, CONFIG)
    (folder / 'base').mkdir()
    if index:
        (folder / 'base/model.safetensors.index.json').write_text(index)
    else:
        (folder / 'base/model.safetensors').write_bytes(safetensors('{"q.weight":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}}', b'ab'))
    (folder / 'base/config.json').write_text(config or '{}')
    return ['merge', '--base', folder / 'base', '--adapter', folder / 'in', '-o', folder / 'out']


def index_case(begin, each, end):
    return lambda folder: base(folder, index=repeated(begin, each, end, MIB - 1))


INDEXES = {
    'deep': ('{"weight_map":', lambda i: '[', ''),
    'many_tensors': ('{"weight_map":{', lambda i: f'"{i:x}":"m.safetensors",', '"z":0}}'),
    'many_keys': ('{"weight_map":{', lambda i: f'"{i:x}":"",', '"z":0}}'),
    'many_missing_files': ('{"weight_map":{', lambda i: f'"{i:x}":"{i:x}.safetensors",', '"zz":"z.safetensors"}}'),
    'same_key': ('{"weight_map":{', lambda i: '"a":"m.safetensors",', '"z":0}}'),
    'many_values': ('{"metadata":[', lambda i: '0,', '0],"weight_map":0}'),
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


def manifest_case(begin, each, end, command='plan'):
    def write(folder):
        (folder / 'm.yaml').write_text(repeated(begin, each, end, MIB - 1))
        return [command, folder / 'm.yaml']
    return write


def lock_case(begin, each, end):
    def write(folder):
        (folder / 'm.yaml').write_text(MANIFEST)
        (folder / 'm.lock').write_text(repeated(begin, each, end, MIB - 1))
        (folder / 'm.yaml.lock').write_text(repeated(begin, each, end, MIB - 1))
        return ['plan', folder / 'm.yaml']
    return write


YAMLS = {
    'flow_nesting': ('a: ', lambda i: '[', ''),
    'flow_maps': ('a: ', lambda i: '{a: ', ''),
    'block_nesting': ('', lambda i: '- ', ''),
    'block_maps': ('', lambda i: '? ', ''),
    'many_nodes': ('a: [', lambda i: 'b,', 'b]\n'),
    'many_empty_flows': ('a: [', lambda i: '[],', 'b]\n'),
    'many_keys': ('', lambda i: f'{i:x}: \n', 'z: 1\n'),
    'same_key': ('', lambda i: 'a: \n', 'z: 1\n'),
    'aliases': ('a: &a [b]\nc: [', lambda i: '*a,', '*a]\n'),
    'long_scalar': ('a: ', lambda i: 'b', '\n'),
    'long_quoted': ('a: "', lambda i: '\\u0101', '"\n'),
    'long_key': ('', lambda i: 'b', ': 1\n'),
    'folded': ('a: >\n', lambda i: '  b\n', 'z: 1\n'),
    'tags': ('a: [', lambda i: '!!str b,', 'b]\n'),
    'comments': ('', lambda i: '# b\n', 'a: 1\n'),
    'documents': ('', lambda i: '--- a\n', ''),
    'question_marks': ('{', lambda i: '? ', ''),
    'anchors': ('a: &', lambda i: 'b', ' c\n'),
    'numbers': ('version: ', lambda i: '1', '\n'),
}


# --- .lora ---

def lora(folder, file, command='verify'):
    (folder / 'in.lora').write_bytes(file.bytes()[:MIB])
    return [command, folder / 'in.lora'] + (['-o', folder / 'out.lora'] if command == 'pack' else [])


WORST = {f'safetensors_{name}': header_case(text) for name, text in HEADERS.items()}
WORST |= {f'config_{name}': config_case(*parts) for name, parts in CONFIGS.items()}
WORST |= {f'patterns_{name}': patterns_case(*parts) for name, parts in PATTERNS.items()}
WORST |= {f'index_{name}': index_case(*parts) for name, parts in INDEXES.items()}
WORST |= {f'base_config_{name}': base_config_case(*parts) for name, parts in {
    'many_values': ('{"a":[', lambda i: '0,', '0'), 'many_keys': ('{', lambda i: f'"{i:x}":0,', '"a":1,"a":1}'), 'deep': ('{"a":', lambda i: '[', '')}.items()}
WORST |= {f'receipt_{name}': receipt_case(*parts) for name, parts in {
    'many_values': ('{"a":[', lambda i: '0,', '0]}'), 'many_keys': ('{', lambda i: f'"{i:x}":0,', '"z":0}')}.items()}
WORST |= {f'manifest_{name}': manifest_case(*parts) for name, parts in YAMLS.items()}
WORST |= {f'lock_{name}': lock_case(*parts) for name, parts in YAMLS.items()}
