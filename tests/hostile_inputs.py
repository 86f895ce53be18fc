# SPDX-License-Identifier: MIT
"""Inputs that no reader may take, and how lorapack is asked to: each writes itself into a folder and gives the arguments that read it.

WORST has the most costly ones of up to 1 MiB that we know for each reader, many of them just within a limit; test_hostile.py holds
what they take against a bound, and bench/hostile.py prints it.
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
WEIGHT = '{"q.weight":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}}'
MANIFEST = 'version: 1\nbase: b\nadapters: {a: a.lora}\nscenarios: {s: {adapters: [a]}}\n'


# --- writers: what is hostile is a text of one file, the others are good ---

def safetensors(header, data=b''):
    """The bytes of a file with a header of exactly this text."""
    header = header.encode()
    return struct.pack('<Q', len(header)) + header + data


def peft(folder, config, modules=('q',), half=False):
    """A PEFT directory with a pair of rank 1 for each module; `half`: the last has only one of the two."""
    (folder / 'in').mkdir()
    (folder / 'in/adapter_config.json').write_text(config)
    names = [f'{PREFIX}{module}.lora_{letter}.weight' for module in modules for letter in 'AB']
    names = names[:-1] if half else names
    header = ','.join(f'"{name}":{{"dtype":"F16","shape":[1,1],"data_offsets":[{2 * i},{2 * i + 2}]}}' for i, name in enumerate(names))
    (folder / 'in/adapter_model.safetensors').write_bytes(safetensors('{' + header + '}', b'\0\x3c' * len(names)))
    return ['pack', folder / 'in', '-o', folder / 'out.lora']


def base(folder, model=safetensors(WEIGHT, b'ab'), config='{}'):
    """A base, and an adapter to be merged into it."""
    peft(folder, json.dumps(CONFIG))
    (folder / 'base').mkdir()
    (folder / 'base/model.safetensors').write_bytes(model)
    (folder / 'base/config.json').write_text(config)
    return ['merge', '--base', folder / 'base', '--adapter', folder / 'in', '-o', folder / 'out']


def header(folder, text):
    (folder / 'in.safetensors').write_bytes(safetensors(text))
    return ['pack', folder / 'in.safetensors', '--alpha', '1', '-o', folder / 'out.lora']


def shard_index(folder, text):
    arguments = base(folder)
    (folder / 'base/model.safetensors').unlink()
    (folder / 'base/model.safetensors.index.json').write_text(text)
    return arguments


def base_config(folder, text):
    return base(folder, config=text)


def receipt(folder, text):
    base(folder)
    (folder / 'receipt.json').write_text(text)
    return ['verify', '--receipt', folder / 'receipt.json', '--base', folder / 'base', '--adapter', folder / 'in', folder / 'base']


def manifest(folder, text):
    (folder / 'm.yaml').write_text(text)
    return ['plan', folder / 'm.yaml']


def lock(folder, text):
    (folder / 'm.lock').write_text(text)
    return manifest(folder, MANIFEST)


def lora(folder, file, command):
    """A container that is read by that command."""
    (folder / 'in.lora').write_bytes(file)
    return [command, folder / 'in.lora', *(['-o', folder / 'out.lora'] if command in ('pack', 'unpack') else [])]


def case(write, *what):
    """What writes that into a folder."""
    return lambda folder: write(folder, *what)


# --- texts: how they begin, what comes as often as there is room for it (each or each(0), each(1), ...), how they end ---

def repeated(begin, each, end):
    """A text that makes a file of 1 MiB at most."""
    parts, room, i = [begin], MIB - 8 - len(begin) - len(end), 0
    if isinstance(each, str):
        return begin + each * (room // len(each)) + end
    while room >= len(part := each(i)):
        parts.append(part)
        room -= len(part)
        i += 1
    return ''.join(parts) + end


def entry(name, shape='', size=0):
    return f'"{name}":{{"dtype":"U8","shape":[{shape}],"data_offsets":[0,{size}]}},'


def member(i):
    """As many of 18 bytes as JSON may hold in 1 MiB."""
    return f'"{i:013x}":0,'


VALUE = '0,' + ' ' * 16 # the same
BEGIN = '{"peft_type":"LORA","r":1,"lora_alpha":1,'

JSON = { # all in order but for a key at the end that is there twice
    'deep': ('{"a":', '[', ''),
    'values': ('{"a":[', VALUE, '0],"a":0}'),
    'values beyond the limit': ('{"a":[', '0,', '0]}'),
    'keys': ('{', member, '"a":0,"a":0}'),
    'strings': ('{"a":[', '"' + 'b' * 15 + '",', '0],"a":0}'),
    'same key': ('{', '"aaaaaaaaaaaaa":0,', '"z":0}'),
    'spaces': ('{', ' ', '"a":0,"a":0}'),
}
TEXTS = {
    header: JSON | {
        'deep objects': ('', '{"a":', ''),
        'tensors': ('{', lambda i: entry(f'{i:x}', '0'), '"z":0}'),
        'tensors that overlap': ('{', lambda i: entry(f'{i:x}', '1', 1), '"z":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'),
        'same name': ('{', entry('a', '0'), '"z":0}'),
        'same long name': ('{', entry('a' * 1000, '0'), '"z":0}'),
        'shape': ('{"a":{"shape":[', VALUE, '0]}}'),
        'empty arrays': ('{"a":[', '[],' + ' ' * 15, '[]]}'),
        'empty objects': ('{"a":[', '{},' + ' ' * 15, '{}]}'),
        'metadata': ('{"__metadata__":{', lambda i: f'"{i:012x}":"",', '"z":0}}'),
        'long name': ('{"', 'a', '":0}'),
        'long text': ('{"__metadata__":{"a":"', 'a', '"},"b":0}'),
        'escapes': ('{"', '\\u0101', '":0}'),
        'surrogates': ('{"', '\\ud83d\\ude00', '":0}'),
        'long number': ('{"a":', '1', '}'),
        'long fraction': ('{"a":0.', '1', 'e1}'),
    },
    peft: {
        'deep': ('{"a":', '[', ''),
        'values': (BEGIN + '"target_modules":[', VALUE, '0],"bad":1}'),
        'keys': (BEGIN + '"loftq_config":{', member, '"z":0},"bad":1}'),
        'unknown keys': (BEGIN, member, '"bad":1}'),
        'tokens': (BEGIN + '"trainable_token_indices":[', lambda i: f'{i:<17},', '0]}'),
        'patterns': (BEGIN + '"rank_pattern":{', lambda i: f'"{i:013x}":1,', '"z":"bad"}}'),
        'long pattern': (BEGIN + '"rank_pattern":{"', 'a', '":1},"bad":1}'),
        'regular expressions': (BEGIN + '"rank_pattern":{', lambda i: f'"({i:010x})*":1,', '"z":1}}'),
    },
    shard_index: JSON | {
        'tensors': ('{"weight_map":{', lambda i: f'"{i:x}":"m.safetensors",', '"z":0}}'),
        'files': ('{"weight_map":{', lambda i: f'"{i:x}":"{i:x}.safetensors",', '"zz":"z.safetensors"}}'),
        'same tensor': ('{"weight_map":{', '"a":"m.safetensors",', '"z":0}}'),
    },
    base_config: JSON,
    receipt: JSON,
}
YAML = {
    'flow sequences': ('a: ', '[', ''),
    'flow mappings': ('a: ', '{a: ', ''),
    'block sequences': ('', '- ', ''),
    'question marks': ('', '? ', ''),
    'values': ('a: [', 'b,', 'b]\n'),
    'values within the limit': ('version: [', 'b,' + ' ' * 15, 'b]\n'),
    'empty sequences': ('a: [', '[],', 'b]\n'),
    'keys': ('', lambda i: f'k{i:x}: \n', 'z: 1\n'),
    'keys within the limit': ('', lambda i: f'k{i:028x}: \n', 'z: 1\n'),
    'same key': ('', 'a: \n', 'z: 1\n'),
    'aliases': ('a: &a [b]\nc: [', '*a,', '*a]\n'),
    'long text': ('a: ', 'b', '\n'),
    'escapes': ('a: "', '\\u0101', '"\n'),
    'long key': ('', 'b', ': 1\n'),
    'folded': ('a: >\n', '  b\n', 'z: 1\n'),
    'tags': ('a: [', '!!str b,', 'b]\n'),
    'comments': ('', '# b\n', 'a: 1\n'),
    'documents': ('', '--- a\n', ''),
    'questions in a mapping': ('{', '? ', ''),
    'long anchor': ('a: &', 'b', ' c\n'),
    'long number': ('version: ', '1', '\n'),
}
YAML_TEXTS = {manifest: YAML, lock: YAML}


# --- names of modules against patterns ---

def patterns(folder, keys, tail):
    """A rank_pattern that all names are held against, as many as there is room for; of the last there is only half."""
    modules = [f'{i:05x}{tail}' for i in range(MIB // (2 * (len(tail) + 102)))]
    return peft(folder, json.dumps({**CONFIG, 'rank_pattern': {key: 1 for key in keys}}), modules, half=True)


def plain_keys(tail, n):
    """Keys that differ from every name in their first letter."""
    return [f'y{i:04x}{tail}' for i in range(n)]


PATTERNS = {
    'nested stars': (['(a*)*b'], 'a' * 800),
    'nested stars short': (['(a*)*b'], 'a' * 20),
    'alternatives': (['(a|a)*b' + 'c' * i for i in range(110)], 'a' * 800),
    'alternatives short': (['(a|a)*b' + 'c' * i for i in range(14)], 'a' * 20),
    'lookahead': (['(?=(a+)+b)a' + 'c' * i for i in range(110)], 'a' * 800),
    'dots': (['.*.*.*.*.*.*.*b' + 'c' * i for i in range(110)], 'a' * 800),
    'dots short': (['.*.*.*.*.*.*.*b' + 'c' * i for i in range(14)], 'a' * 20),
    'harmless': (['x(y)' + 'c' * i for i in range(12)], 'a'),
    'large': (['(' * 100 + 'a{0,99}' * 8 + ')' * 100 + 'c' * i for i in range(12)], 'a'),
    'plain': (plain_keys('x' * 40, 18000), 'x' * 40),
    'plain fewer': (plain_keys('x' * 8, 3000), 'x' * 8),
    'plain long': (plain_keys('x' * 900, 1000), 'x' * 900),
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
    file.segments.extend(build.SegmentRecord(offset=12288 + 31 * i, size=1, kind=2) for i in range(32000))
    file.sections = file.first_sections()
    file.place()
    return file


def one_generation_many_times():
    first = build.File(*(build.Adapter(f'{i:05d}', [site('a', A, B)]) for i in range(1700)))
    file = build.File(build.Adapter('a', [site('b', A, B)]), after=first)
    file.history *= 4000
    file.sections = file.first_sections()
    file.place()
    return file


def split_stream():
    file = build.File(build.Adapter('a', [site('a', build.tensor('BF16', [1, 900000], *range(1, 400), codec=build.SPLIT), B)]))
    file.tensors[0].sha256 = bytes(32)
    return file


FILES = (many_sites, many_tensors, many_tensors_of_the_same_bytes, many_adapters, many_values, split_stream)


@functools.cache
def made(make):
    """The bytes of a container that takes a while to make."""
    return make().bytes()


# --- all, by reader ---

def worst(texts):
    """{name: what writes it} of a table of texts."""
    return {f'{write.__name__} {name}': lambda folder, write=write, parts=parts: write(folder, repeated(*parts))
            for write, table in texts.items() for name, parts in table.items()}


WORST = worst(TEXTS) | {f'patterns {name}': case(patterns, *what) for name, what in PATTERNS.items()}
WORST |= {f'{command} {make.__name__.replace("_", " ")}': lambda folder, make=make, command=command: lora(folder, made(make), command)
          for make in FILES for command in ('pack', 'verify')}
WORST['verify many segments'] = lambda folder: lora(folder, made(many_segments), 'verify') # of which other commands take no notice
WORST['history one generation many times'] = lambda folder: lora(folder, made(one_generation_many_times), 'history')
WORST_YAML = worst(YAML_TEXTS)
