#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The Python binding: the demo model to the byte, lifetimes, callbacks, and what must be an exception and not a crash.

usage: test_python.py LIBRARY.so DEMO_MODEL
"""
import array
import contextlib
import ctypes
import gc
import hashlib
import json
import math
import mmap
import os
import pathlib
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref

import judge
import tensors
from lorapack import Complaint
from tensors import Tensor

HERE = pathlib.Path(__file__).resolve().parent
BINDING = HERE.parent / 'bindings/python'
INCLUDE = HERE.parent / 'include'
VECTORS = HERE.parent / 'spec/vectors'
CASES = HERE / 'conformance'
sys.path.insert(0, str(BINDING))
import lorafmt
from lorafmt import _c

LIBRARY = DEMO = None
EXPECTED = {}

try:
    import numpy
except ImportError:
    numpy = None


class Skip(Exception):
    """A test that cannot run here, and why."""


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


@contextlib.contextmanager
def raises(kind, *words, status=None):
    """What is inside raises an exception of that kind, whose text has these words; it is in the list."""
    caught = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        missing = [word for word in words if word not in str(error)]
        if missing or (status and error.status != status):
            raise Complaint(f'{type(error).__name__} {getattr(error, "status", "")}: {error}, not {status} {missing}') from error
    else:
        raise Complaint(f'no {kind.__name__} {status or ""} {words}')


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# The demo model.

def open_adapter(name):
    return lorafmt.open(DEMO / 'adapters' / name)


def open_base(mapped=False):
    return lorafmt.Model.open(DEMO / 'base', mapped=mapped)


def stack_of(scenario):
    return [(open_adapter(pathlib.Path(entry['dir']).name).adapter(), entry['weight']) for entry in scenario['adapters']]


def check_digests(scenario, each, whole, what):
    """SHA-256 of tensors by name, and of all bytes in order of name."""
    for name, figures in scenario['merged'].items():
        expect(each[name], figures['sha256'], f'{what}: {name}')
    expect(whole, scenario['merged_all_sha256'], f'{what}: the whole model')


def check_model(scenario, data, what):
    """The bytes of all tensors, by name."""
    whole = hashlib.sha256()
    for name in sorted(data):
        whole.update(data[name])
    check_digests(scenario, {name: sha256(data[name]) for name in scenario['merged']}, whole.hexdigest(), what)


def demo_places(model, n_sets=1):
    return {name: lorafmt.Place(model.data(name), [bytearray(info.size) for _ in range(n_sets)])
            for name, info in model.tensors.items()}


# A base and an adapter that are made here: "a" and "b" are linear layers of 6 by 4, with DoRA.

def floats(n, seed):
    return array.array('f', (math.sin(seed + i) for i in range(n))).tobytes()


def write_small(folder, dora=True):
    base = {f'{name}.weight': Tensor('F32', (6, 4), floats(24, seed)) for seed, name in enumerate('ab')}
    tensors.write_file(folder / 'model.safetensors', base)
    factors = {}
    for name in 'ab':
        factors[f'base_model.model.{name}.lora_A.weight'] = Tensor('F32', (2, 4), floats(8, 10))
        factors[f'base_model.model.{name}.lora_B.weight'] = Tensor('F32', (6, 2), floats(12, 20))
        if dora:
            factors[f'base_model.model.{name}.lora_magnitude_vector.weight'] = Tensor('F32', (6,), struct.pack('<6f', *range(1, 7)))
    (folder / 'peft').mkdir()
    tensors.write_file(folder / 'peft/adapter_model.safetensors', factors)
    config = {'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'target_modules': ['a', 'b'], 'use_dora': dora}
    (folder / 'peft/adapter_config.json').write_text(json.dumps(config))
    return {name: tensor.data for name, tensor in base.items()}


def describe(data, read=None):
    return lorafmt.Description([(name, 'F32', (6, 4)) for name in data], read)


def slices(data):
    return lambda name, offset, size: memoryview(data[name])[offset:offset + size]


# Tests. Each is given an empty folder.

def run_python(code, **environment):
    """Another Python with the binding; its last line."""
    done = subprocess.run([sys.executable, '-c', f'import sys; sys.path.insert(0, {str(BINDING)!r})\n{code}'], check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **environment}, timeout=60)
    return done.stdout.strip().splitlines()[-1:]


def test_library(_):
    load = 'import lorafmt\ntry: print(lorafmt.load())\nexcept lorafmt.LibraryError as error: print("refused:", error)'
    patch = 'import lorafmt._c as c\n{}\n' + load
    other_base = ('import lorafmt._library as l\nsized = l.sized\n'
                  'l.sized = lambda struct, **fields: c.Base(struct_size=8) if struct is c.Base else sized(struct, **fields)')
    for code, path, words in (
            (load, LIBRARY, '0.1.0'),
            (load, '/nowhere/liblorafmt.so', 'refused: /nowhere/liblorafmt.so (LORAFMT_LIBRARY): '),
            (load, '/nowhere/liblorafmt.so', 'say where it is: LORAFMT_LIBRARY=/PATH'),
            (load, ctypes.util.find_library('m') or 'libm.so.6', 'not liblorafmt, it has no lorafmt_release()'),
            (patch.format('c.RELEASE = "7.0"'), LIBRARY, 'liblorafmt 0.1.0, this package is for 7.0.*'),
            (patch.format('c.PROTOTYPES["later"] = None, []'), LIBRARY, 'without lorafmt_later(), which this package needs'),
            (patch.format(other_base), LIBRARY, 'has another struct lorafmt_source_options or base'),
            *((patch.format(f'class Other(c.{name}): _fields_ = [("more", c.c_size_t)]\nc.{name} = Other'), LIBRARY,
               'has another struct lorafmt_') for name in ('SourceOptions', 'BindOptions', 'RuntimeOptions'))):
        said = run_python(code, LORAFMT_LIBRARY=path)
        if words not in (said or [''])[0]:
            raise Complaint(f'{path}: {said}, not {words!r}')
    with raises(lorafmt.LibraryError, 'is loaded already'):
        lorafmt.load('/nowhere/liblorafmt.so')
    expect(lorafmt.load(LIBRARY), '0.1.0', 'loading it again')


def test_readme(_):
    """Its examples, as they stand there."""
    blocks = (BINDING / 'README.md').read_text().split('```python\n')[1:]
    expect(len(blocks), 4, 'examples')
    for block in blocks:
        code = block.partition('```')[0]
        said = run_python(f'import os\nos.chdir({str(DEMO.parent.parent)!r})\n{code}\nprint("done")', LORAFMT_LIBRARY=LIBRARY)
        expect(said, ['done'], code)


C_PROGRAM = '''
#include <lorafmt/lorafmt.h>
#include <stdio.h>

int main(void)
{
%s
    return 0;
}
'''


def test_layout(folder):
    """Every struct, and every number, as a C compiler sees them."""
    compiler = shutil.which('cc')
    if not compiler:
        raise Skip('no C compiler')
    wanted = {f'sizeof(lorafmt_{name})': ctypes.sizeof(mirror) for name, mirror in _c.STRUCTS.items()}
    for name, mirror in _c.STRUCTS.items():
        wanted.update({f'offsetof(lorafmt_{name}, {field})': getattr(mirror, field).offset for field, _ in mirror._fields_})
        wanted.update({f'sizeof(((lorafmt_{name} *)0)->{field})': getattr(mirror, field).size for field, _ in mirror._fields_})
    for prefix, names in (('HINT', _c.HINTS), ('TIED', _c.TIED), ('MATCH', _c.MATCHES), ('EFFECT', _c.EFFECTS), ('CPU', _c.CPUS),
                          ('SOURCE', _c.SOURCE_KINDS)):
        wanted.update({f'LORAFMT_{prefix}_{name.upper()}': i for i, name in enumerate(names) if name})
    wanted.update({f'LORAFMT_{name}': i for i, name in enumerate(('OUT_IN', 'IN_OUT', 'BY_SHAPE'))})
    for name in ('MAX_DIMS', 'MAX_SETS', 'N_LIMITS', 'OK', 'CANCELLED', 'SITE_ROW_RANGE', 'SITE_COL_RANGE',
                 'SITE_BASE_SHA256', 'SITE_DOUBLED'):
        wanted[f'LORAFMT_{name}'] = getattr(_c, name)
    lines = (f'    printf("%s %llu\\n", "{what}", (unsigned long long)({what}));' for what in wanted)
    (folder / 'layout.c').write_text(C_PROGRAM % '\n'.join(lines))
    subprocess.run([compiler, '-I', INCLUDE, '-o', folder / 'layout', folder / 'layout.c'], check=True)
    output = subprocess.run([folder / 'layout'], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {line.rpartition(' ')[0]: int(line.rpartition(' ')[2]) for line in output.splitlines()}
    wrong = [f'{what} is {found.get(what)}, here {number}' for what, number in wanted.items() if found.get(what) != number]
    if wrong:
        raise Complaint('; '.join(wrong))


def test_limits(_):
    """What is beyond them, and what goes together with distrust, of a directory and of memory."""
    path = DEMO / 'adapters/legal'
    lorafmt.open(path, limits={'rank': 8, 'sites': 18}, paranoid=True).close()
    data, config = (path / 'adapter_model.safetensors').read_bytes(), (path / 'adapter_config.json').read_text()
    with raises(lorafmt.LorafmtError, 'rank 8, the limit is 7', status='LIMIT'):
        lorafmt.open(path, limits={'rank': 7})
    with raises(lorafmt.LorafmtError, 'sites 18, the limit is 17', status='LIMIT'):
        lorafmt.open_memory(data, config, limits={'sites': 17})
    with raises(lorafmt.LorafmtError, 'must be at most 1048576', status='MISUSE'):
        lorafmt.open(path, limits={'rank': 2**21})
    with raises(lorafmt.LorafmtError, 'leave one of both out', status='MISUSE'):
        lorafmt.open(path, defer_digests=True, paranoid=True)
    with raises(ValueError, 'the limit rank is 0, must be at least 1'):
        lorafmt.open(path, limits={'rank': 0})
    with raises(ValueError, "a limit 'ranks', must be one of 'file-size', 'index-size', "):
        lorafmt.open(path, limits={'ranks': 7})


def test_adapters(_):
    for name, n_sites, dtype in (('scripture', 42, 'F32'), ('tang', 42, 'BF16'), ('legal', 18, 'BF16')):
        with open_adapter(name) as source:
            adapter = source.adapter()
            expect((source.kind, source.container, len(source.adapters), adapter.name), ('peft', None, 1, name), 'the source')
            expect({site.target: site.scale for site in adapter.sites}, EXPECTED[name]['scales'][name], 'scales')
            expect(len(adapter.sites), n_sites, 'sites')
            stored = tensors.read_file(DEMO / 'adapters' / name / 'adapter_model.safetensors').tensors
            for site in adapter.sites:
                expect((site.kind, site.orientation, set(site.factors)), ('linear', 'out-in', {'A', 'B'}), site.target)
                for role, factor in site.factors.items():
                    wanted = stored[f'base_model.model.{site.target.replace(".weight", f".lora_{role}.weight")}']
                    expect((factor.dtype, factor.shape, bytes(factor.data)), (dtype, wanted.shape, wanted.data), repr(factor))
                    expect((factor.data.readonly, factor.data.format), (True, 'B'), 'data')
            expect(adapter.sites[0].rank, {'scripture': 8, 'tang': 16, 'legal': 8}[name], 'rank')
            expect(adapter.sites[0].scaling, 'alpha/sqrt(r)' if name == 'tang' else 'alpha/r', 'scaling')
            expect((len(adapter.id), source.verify().n_sites), (32, n_sites), 'id and what was verified')
            if adapter.sites[0].norm() <= 0 or 'peft.adapter_config' not in adapter.metadata:
                raise Complaint('norm or metadata')


def test_containers(_):
    for path in sorted(VECTORS.glob('*.lora')):
        good = path.name.startswith('good')
        try:
            with lorafmt.open(path) as source:
                for adapter in source.adapters:
                    adapter.id.hex()
                    for site in adapter.sites:
                        for factor in site.factors.values():
                            expect(len(factor.data), factor.size, f'{path.name}: bytes')
                expect((source.kind, source.container.version_major), ('lora', 1), path.name)
        except lorafmt.LorafmtError as error:
            if good or not error.text or str(path) != error.file:
                raise Complaint(f'{path.name}: {error.status} {error}') from error
    smallest = VECTORS / 'good-smallest.lora'
    with lorafmt.open(smallest) as source:
        name = source.adapters[0].name
        with raises(lorafmt.LorafmtError, name, status='NOT_FOUND'):
            source.adapter('nobody')
    expect(lorafmt.open(smallest, adapter=name).adapter(name).name, name, 'one adapter of a file')
    with raises(lorafmt.LorafmtError, status='NOT_FOUND'):
        lorafmt.open(smallest, adapter='nobody')


def test_memory(_):
    """Adapters of bytes."""
    folder = DEMO / 'adapters/tang'
    data, config = (folder / 'adapter_model.safetensors').read_bytes(), (folder / 'adapter_config.json').read_text()
    for kind in (bytes, bytearray, memoryview):
        held = kind(data)
        source = lorafmt.open_memory(held, config, 'tang')
        expect((source.kind, source.adapter('tang').id), ('peft', open_adapter('tang').adapter().id), f'of {kind.__name__}')
        if kind is bytearray:
            held[:] = bytes(len(held)) # it was copied
    del held
    adapter = source.adapter()
    del source
    gc.collect()
    model = open_base()
    view = lorafmt.bind(model, adapter)
    check_model(EXPECTED['tang'], {name: view.evaluate(name) for name in view.tensors}, 'of bytes')
    expect(lorafmt.open_memory((VECTORS / 'good-smallest.lora').read_bytes()).kind, 'lora', 'a .lora')
    for wrong in (b'', data[:-1], data[:100], b'{}'):
        with raises(lorafmt.LorafmtError):
            lorafmt.open_memory(wrong, config)
    with raises(TypeError):
        lorafmt.open_memory('text')
    with raises(ValueError, 'must be'):
        lorafmt.open_memory(memoryview(data)[::2])


def test_numpy(_):
    if numpy is None:
        raise Skip('no numpy')
    for name in ('scripture', 'legal'):
        factor = open_adapter(name).adapter().sites[0].factors['A']
        stored = Tensor(factor.dtype, factor.shape, bytes(factor.data))
        expect(tuple(factor.numpy().reshape(-1).tolist()), tensors.values(stored), 'values')
        expect((factor.numpy().shape, factor.bits.tobytes()), (factor.shape, stored.data), 'shape and bits')
        expect((factor.bits.flags.writeable, factor.bits.flags.owndata), (False, False), 'a view of what is read-only')
    model = open_base()
    view = lorafmt.bind(model, open_adapter('legal').adapter())
    tensor = next(tensor for tensor in view.tensors.values() if tensor.touched)
    rows, cols = tensor.shape
    wide = numpy.zeros((rows, cols + 24), numpy.uint16)
    view.evaluate(tensor, dst=wide[:, 8:8 + cols])
    expect(sha256(wide[:, 8:8 + cols].tobytes()), EXPECTED['legal']['merged'][tensor.name]['sha256'], 'into columns of a wider array')
    expect((wide[:, :8].any(), wide[:, 8 + cols:].any()), (False, False), 'beside them')
    for wrong in (wide[:, :cols * 2:2], wide[::-1, :cols], wide[:, :cols - 1], wide[1:, :cols], numpy.zeros((cols, rows), 'u2').T):
        with raises(ValueError, 'must be'):
            view.evaluate(tensor, dst=wrong)
    halves = numpy.zeros((rows, 2 * cols), numpy.uint16)
    halves[:, :cols] = numpy.frombuffer(model.read(tensor.name), 'u2').reshape(rows, cols)
    view.evaluate(tensor, src=halves[:, :cols], dst=halves[:, cols:])
    expect(sha256(halves[:, cols:].tobytes()), EXPECTED['legal']['merged'][tensor.name]['sha256'], 'out of the left half into the right')
    with raises(ValueError, 'overlap'):
        view.evaluate(tensor, src=halves[:, :cols], dst=halves[:, 1:cols + 1])


def test_evaluate(_):
    for name, scenario in EXPECTED.items():
        if scenario['adapters']:
            with open_base() as model:
                view = lorafmt.bind(model, stack_of(scenario))
            check_model(scenario, {tensor: view.evaluate(tensor) for tensor in view.tensors}, name)
            expect(sorted(tensor.name for tensor in view.tensors.values() if tensor.touched), sorted(scenario['merged']), 'touched')
            expect({(site.match, site.effect) for site in view.sites}, {('exact', 'low_rank')}, 'the receipt')
            expect(all(site.tensor == site.site.target for site in view.sites), True, 'where sites went')
            expect([len(entry[0].sites) for entry in stack_of(scenario)],
                   [sum(site.entry == i for site in view.sites) for i in range(len(scenario['adapters']))], 'sites of each')


def test_buffers(_):
    """Rows from and to all kinds of memory."""
    scenario, model = EXPECTED['legal'], open_base(mapped=True)
    view = lorafmt.bind(model, open_adapter('legal').adapter(), cpu='scalar')
    tensor = next(tensor for tensor in view.tensors.values() if tensor.touched)
    wanted, unit = scenario['merged'][tensor.name]['sha256'], tensor.row_size
    base = model.read(tensor.name)
    expect(bytes(model.data(tensor.name)), bytes(base), 'what is mapped and what is read')
    for src in (None, bytes(base), base, memoryview(base), array.array('H', bytes(base)), model.data(tensor.name)):
        expect(sha256(view.evaluate(tensor.name, src=src)), wanted, f'from {type(src).__name__}')
    for dst in (bytearray(tensor.size), array.array('H', bytes(tensor.size)), mmap.mmap(-1, tensor.size),
                (ctypes.c_uint16 * (tensor.size // 2))()):
        expect(view.evaluate(tensor, dst=dst) is dst, True, 'what is returned')
        expect(sha256(memoryview(dst).cast('B')), wanted, f'to {type(dst).__name__}')
    parts = [view.evaluate(tensor, rows) for rows in ((0, 1), range(1, 50), slice(50, None), (tensor.n_rows, tensor.n_rows))]
    expect(sha256(b''.join(parts)), wanted, 'in pieces')
    left, right = view.evaluate(tensor, cols=(0, 16)), view.evaluate(tensor, cols=(16, unit // 2))
    rows = [left[32 * i:32 * i + 32] + right[(unit - 32) * i:(unit - 32) * (i + 1)] for i in range(tensor.n_rows)]
    expect(sha256(b''.join(rows)), wanted, 'in columns')
    wide = view.evaluate(tensor, dst_dtype='F32')
    expect(view.evaluate(tensor, dst=array.array('f', bytes(2 * tensor.size)), dst_dtype='F32').tobytes(), bytes(wide), 'as F32')
    counts = lorafmt.Counts()
    expect((sha256(view.evaluate(tensor, src=base, dst=base, counts=counts)), counts.n_nan), (wanted, 0), 'in place')
    long, size = bytearray(2 * tensor.size), tensor.size
    for wrong, words in (({'dst': bytes(size)}, 'read-only'), ({'dst': bytearray(size - 1)}, 'must be'), ({'src': b''}, 'must be'),
                         ({'src': memoryview(long)[:size], 'dst': memoryview(long)[2:size + 2]}, 'overlap'),
                         ({'rows': (0, tensor.n_rows + 1)}, 'rows'), ({'rows': range(0, 9, 2)}, 'rows'), ({'cols': (3, 3)}, 'columns'),
                         ({'rows': (5, 4)}, 'rows'), ({'dst_dtype': 'F99'}, 'F99'), ({'src_dtype': 'F32'}, 'src_dtype')):
        with raises(ValueError, words):
            view.evaluate(tensor, **wrong)
    with raises(ValueError, 'overlap'):
        view.evaluate(tensor, src=base, dst=base, dst_dtype='F16')
    with raises(TypeError, 'buffer protocol'):
        view.evaluate(tensor, dst=[0] * size)
    with raises(KeyError):
        view.evaluate('nothing')
    with raises(lorafmt.LorafmtError, status='MISUSE'):
        lorafmt.bind(model, open_adapter('legal').adapter(), check_only=True).evaluate(tensor.name)


def test_descriptions(_):
    """A base that is not in a file."""
    model, scenario = open_base(mapped=True), EXPECTED['tang']
    described = lorafmt.Description(model.tensors.values(), lambda name, offset, size: model.data(name)[offset:offset + size])
    gc.collect()
    expect(described.structure(), model.structure(), 'the fingerprint')
    view = lorafmt.bind(described, [open_adapter('tang').adapter()])
    check_model(scenario, {name: view.evaluate(name) for name in view.tensors}, 'described')
    view = lorafmt.bind(lorafmt.Description(model.tensors.values()), [open_adapter('tang').adapter()])
    with raises(lorafmt.LorafmtError, 'src is needed', status='MISUSE'):
        view.evaluate('lm_head.weight')
    for wrong in ([('a', 'F99', (1,))], [('a', 'F32', (1,))] * 2, [('a', 'F32', (-1,))], [('a', 'F32', (1,) * 9)],
                  [('a', 'F4', (1,))], [('a\0b', 'F32', (1,))], [('a', 'F32', (2**40, 2**40))]):
        with raises(ValueError):
            lorafmt.Description(wrong)


def test_mismatch(folder):
    write_small(folder)
    small, legal = lorafmt.Model.open(folder / 'model.safetensors'), open_adapter('legal').adapter()
    with raises(lorafmt.LorafmtError, 'and 17 more', status='MISMATCH'):
        lorafmt.bind(small, legal)
    with raises(lorafmt.LorafmtError, status='MISMATCH') as caught:
        lorafmt.bind(small, [(legal, 0.5)])
    error = caught[0]
    expect({problem.target for problem in error.problems}, {site.target for site in legal.sites}, 'what does not fit')
    expect({problem.adapter for problem in error.problems}, {'legal'}, 'whose that is')
    again = pickle.loads(pickle.dumps(error))
    expect((str(again), again.status, again.problems), (str(error), 'MISMATCH', error.problems), 'the same, pickled')
    runtime = lorafmt.Runtime(small, {name: lorafmt.Place(small.read(name), bytearray(96)) for name in small.tensors})
    with raises(lorafmt.LorafmtError, status='MISMATCH') as caught:
        runtime.swap(legal)
    expect(caught[0].problems, error.problems, 'the same in a runtime')
    with raises(TypeError, 'Adapter'):
        lorafmt.bind(small, [small])
    with raises(TypeError, 'unexpected'):
        lorafmt.bind(small, legal, allow=True)
    nothing = lorafmt.bind(small, [])
    name = next(iter(small.tensors))
    expect(nothing.evaluate(name), small.read(name), 'a view of the base alone')
    with raises(lorafmt.LorafmtError, 'finite', status='MISUSE'):
        lorafmt.bind(small, [(legal, math.nan)])


def test_options(folder):
    data = write_small(folder, dora=False)
    adapter = lorafmt.open(folder / 'peft').adapter()
    renamed = describe({f'x.{name}': None for name in data})
    wanted = lorafmt.bind(describe(data, slices(data)), adapter).evaluate('a.weight')
    for renames in ({'': 'x'}, [('a', 'x.a'), ('b', 'x.b')]):
        view = lorafmt.bind(renamed, adapter, renames=renames)
        expect({site.match for site in view.sites}, {'map'}, 'matches')
        expect(view.evaluate('x.a.weight', src=data['a.weight']), wanted, 'through a map')
    half = describe({'a.weight': None})
    with raises(lorafmt.LorafmtError, 'b.weight', status='MISMATCH'):
        lorafmt.bind(half, adapter)
    view = lorafmt.bind(half, adapter, allow_unmatched=True)
    expect([(site.match, site.tensor) for site in view.sites], [('exact', 'a.weight'), ('none', None)], 'the receipt')
    for wrong in ({'cpu': 'abacus'}, {'orientation': 'up'}, {'renames': {'a\0': 'b'}}):
        with raises(ValueError):
            lorafmt.bind(half, adapter, **wrong)
    bare = folder / 'peft/adapter_model.safetensors'
    shutil.copy(bare, folder / 'bare.safetensors')
    with raises(lorafmt.LorafmtError) as caught:
        lorafmt.open(folder / 'bare.safetensors')
    expect(caught[0].hint, 'ALPHA', 'the hint')
    for rslora, scale in ((False, 3 / 2), (True, 3 / math.sqrt(2))):
        source = lorafmt.open(folder / 'bare.safetensors', 3, rslora=rslora)
        expect((source.kind, source.adapter().sites[0].scale), ('safetensors', scale), 'a given alpha')


def test_swap(_):
    order = [name for name in EXPECTED if name != 'base']
    for n_sets in (1, 2):
        model = open_base(mapped=True)
        places = demo_places(model, n_sets)
        runtime = lorafmt.Runtime(model, places, n_sets=n_sets)
        model.close()
        check_runtime(runtime, 'base', 'loaded')
        for n, name in enumerate([*order, 'base', *reversed(order), 'base'], 1):
            result = runtime.swap(stack_of(EXPECTED[name]), receipt=True)
            check_runtime(runtime, name, f'{n_sets} sets, switch {n}')
            n_sites = sum(len(scales) for scales in EXPECTED[name]['scales'].values()) if name != 'base' else 0
            expect((result.n_sites, result.n_bound, result.n_computed, result.n_nan, runtime.generation),
                   (n_sites, n_sites, len(EXPECTED[name]['merged']), 0, n), 'what it did')
            expect(len(result.view.sites) if result.view else 0, n_sites, 'the receipt')
        runtime.close()
        for tensor, place in places.items():
            expect(bytes(place.live[0]), bytes(place.pristine), f'what is left of {tensor}')


def test_kinds(_):
    """Everything that PEFT writes: by a view of the model, by one of a description of it, and live."""
    n_live = n_seen = 0
    for folder in sorted(CASES.glob('*/base')):
        case = json.loads((folder.parent / 'expected.json').read_text())
        model = lorafmt.Model.open(folder, mapped=True)
        try:
            stack = [lorafmt.open(folder.parent / adapter['dir'], base=model).adapter() for adapter in case['adapters']]
            view = lorafmt.bind(model, stack)
        except lorafmt.LorafmtError as error:
            expect(error.status in ('UNSUPPORTED', 'MISMATCH'), True, f'{folder}: {error}')
            continue
        n_seen += 1
        got = {name: Tensor(tensor.dtype, tensor.shape, bytes(view.evaluate(name))) for name, tensor in view.tensors.items()}
        base, want = tensors.read_model(folder), case['outputs']['merged']['file']
        want = tensors.read_file(folder.parent / want).tensors if want else {}
        wrong = [*judge.judge_changed(case, folder.parent, base, got, want),
                 *(name for name in base.keys() - want.keys() if got[name] != base[name]), *(want.keys() - got.keys())]
        if wrong:
            raise Complaint(f'{folder.parent.name}: {wrong[:3]}')
        described = lorafmt.Description(model.tensors.values(), lambda name, offset, size, model=model: model.read(name, offset, size),
                                        tied=model.tied, vocab_size=model.vocab_size)
        view = lorafmt.bind(described, stack)
        expect({name: bytes(view.evaluate(name)) for name in view.tensors}, {name: got[name].data for name in got}, 'described')
        runtime = lorafmt.Runtime(model, demo_places(model))
        with contextlib.suppress(lorafmt.LorafmtError): # new tensors and growing ones cannot be live
            runtime.swap(stack)
            with runtime.read() as live:
                expect({name: bytes(live[name]) for name in got}, {name: got[name].data for name in got}, f'{folder.parent.name}, live')
            n_live += 1
    expect((n_seen > 40, n_live > n_seen // 2), (True, True), f'{n_seen} merged, {n_live} of them live')


def check_runtime(runtime, name, what):
    with runtime.read() as live:
        check_model(EXPECTED[name], {tensor: live[tensor] for tensor in runtime._live}, f'{what}, {name}')
        expect(live.index in range(runtime.n_sets), True, 'the set')
    whole, each = runtime.digest()
    check_digests(EXPECTED[name], {tensor: digest.hex() for tensor, digest in each.items()}, whole.hex(), f'{what}, {name}, digest')


def test_load_by_swap(_):
    model = open_base(mapped=True)
    runtime = lorafmt.Runtime(model, demo_places(model), load_by_swap=True, n_threads=1)
    for early in (lambda: runtime.read().__enter__(), runtime.digest):
        with raises(lorafmt.LorafmtError, 'before the first swap', status='MISUSE'):
            early()
    runtime.swap(stack_of(EXPECTED['scripture+legal']))
    check_runtime(runtime, 'scripture+legal', 'loaded with adapters')


def test_places(folder):
    """Fused, partial, other dtypes; and what is refused."""
    data = write_small(folder, dora=False)
    adapter = lorafmt.open(folder / 'peft').adapter()
    view = lorafmt.bind(describe(data, slices(data)), adapter)
    a, b = (bytes(view.evaluate(f'{name}.weight')) for name in 'ab')
    place = lorafmt.Place
    fused = bytearray(192)
    with memoryview(fused) as whole:
        runtime = lorafmt.Runtime(describe(data), {'a.weight': place(data['a.weight'], whole[:96]),
                                                   'b.weight': place(data['b.weight'], whole[96:])})
    runtime.swap(adapter)
    expect(bytes(fused), a + b, 'rows after rows')
    with raises(BufferError):
        fused.append(0)
    beside = bytearray(192)
    runtime = lorafmt.Runtime(describe(data), {'a.weight': place(data['a.weight'], memoryview(beside)[:192 - 16], live_stride=32),
                                               'b.weight': place(data['b.weight'], memoryview(beside)[16:], live_stride=32)})
    runtime.swap(adapter)
    expect(bytes(beside), b''.join(m[16 * i:16 * i + 16] for i in range(6) for m in (a, b)), 'columns beside columns')
    part = bytearray(2 * 8)
    runtime = lorafmt.Runtime(describe(data), {
        'a.weight': place(memoryview(data['a.weight'])[2 * 16 + 4:], part, rows=(2, 4), cols=range(1, 3), pristine_stride=16),
        'b.weight': place(data['b.weight'], array.array('d', bytes(192)), live_dtype='F64')})
    runtime.swap(adapter)
    expect(bytes(part), b''.join(a[16 * i + 4:16 * i + 12] for i in (2, 3)), 'a part')
    with runtime.read() as live:
        expect(live['b.weight'].tolist()[:3], [round(x, 20) for x in live['b.weight'].tolist()[:3]], 'F64')
    runtime = lorafmt.Runtime(describe(data), {'a.weight': place(data['a.weight']), 'b.weight': place(data['b.weight'], bytearray(96))})
    with raises(lorafmt.LorafmtError, 'a.weight', status='UNSUPPORTED'):
        runtime.swap(adapter)
    good, live = place(data['b.weight'], bytearray(96)), bytearray(96)
    for wrong, words in ((place(live, live), 'overlap'), (place(data['a.weight'], good.live[0]), 'overlap'),
                         (place(data['a.weight'], bytes(96)), 'read-only'), (place(data['a.weight'], bytearray(95)), 'must be'),
                         (place(b'', live), 'must be'), (place(data['a.weight'], [live, live]), '2 live buffers'),
                         (place(data['a.weight'], live, rows=(0, 7)), 'rows'), (place(data['a.weight'], live, rows=(2, 2)), 'no rows'),
                         (place(data['a.weight'], live, live_stride=8), 'stride'), (place(data['a.weight'], live, live_dtype='X'), 'X'),
                         (place(data['a.weight'], live, live_stride=20), '20 apart')):
        with raises(ValueError, words):
            lorafmt.Runtime(describe(data), {'a.weight': wrong, 'b.weight': good})
    with raises(ValueError, 'a.weight'):
        lorafmt.Runtime(describe(data), {'b.weight': good})
    for n_sets in (0, 3, 2**32 + 1):
        with raises(ValueError, 'n_sets'):
            lorafmt.Runtime(describe({}), {}, n_sets=n_sets)
    expect(lorafmt.Runtime(lorafmt.Description([('empty', 'F32', (0, 4))]), {'empty': place(b'', bytearray())}).swap().n_bytes, 0, 'empty')


def test_readers(_):
    """Threads read while another switches: every read is of one stack."""
    known = {EXPECTED[name]['merged_all_sha256'] for name in ('base', 'legal')}
    for n_sets in (1, 2):
        model, seen, stop = open_base(mapped=True), [], threading.Event()
        runtime = lorafmt.Runtime(model, demo_places(model, n_sets), n_sets=n_sets)

        def reader():
            while not stop.is_set():
                with runtime.read() as live, runtime.read() as again:
                    whole = hashlib.sha256()
                    for name in sorted(model.tensors):
                        whole.update(live[name])
                    seen.append((whole.hexdigest(), live.index == again.index))
        threads = [threading.Thread(target=reader) for _ in range(2)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            runtime.swap(open_adapter('legal').adapter())
            runtime.swap()
        stop.set()
        for thread in threads:
            thread.join()
        expect(({digest for digest, _ in seen} <= known, all(same for _, same in seen)), (True, True), 'what was read')
        with runtime.read():
            for wrong in (runtime.swap, runtime.digest):
                with raises(lorafmt.LorafmtError, 'by a thread that reads', status='MISUSE'):
                    wrong()
        live = runtime.read()
        with live:
            with raises(lorafmt.LorafmtError, 'entered already', status='MISUSE'):
                live.__enter__()
        with raises(lorafmt.LorafmtError, 'after the end', status='MISUSE'):
            live['lm_head.weight']


def test_callbacks(folder):
    """What a callback raises comes out as it is, and stops the work."""
    data = write_small(folder)
    adapter = lorafmt.open(folder / 'peft').adapter()
    model = lorafmt.Model.open(folder / 'model.safetensors')
    wanted = lorafmt.bind(model, adapter).evaluate('a.weight')
    view = lorafmt.bind(describe(data, slices(data)), adapter)
    expect((view.tensors['a.weight'].needs_prepare, view.evaluate('a.weight', src=data['a.weight'])), (True, wanted), 'DoRA')

    class Special(BaseException):
        pass
    special, answer = Special(), []

    def read(name, offset, size):
        what = answer.pop() if answer else special
        if isinstance(what, BaseException):
            raise what
        return slices(data)(name, offset, size) if what is None else what
    view = lorafmt.bind(describe(data, read), adapter)
    runtime = lorafmt.Runtime(describe(data, read), {name: lorafmt.Place(data[name], bytearray(96)) for name in data}, n_threads=2)
    for ask in (view.prepare, lambda: view.evaluate('b.weight', src=data['b.weight']), lambda: runtime.swap(adapter)):
        with raises(Special):
            ask()
        for wrong, kind in ((b'short', ValueError), ('text', TypeError), (5, TypeError), (SystemExit(3), SystemExit)):
            answer[:] = [wrong]
            with raises(kind):
                ask()
    whole = runtime.digest()
    answer[:] = [None] * 100
    expect((runtime.swap(adapter).n_computed, runtime.digest() != whole, view.evaluate('a.weight', src=data['a.weight'])),
           (2, True, wanted), 'after all that')
    whole = runtime.digest()
    for go_on, kind, words in ((lambda: False, lorafmt.LorafmtError, 'stopped'), (lambda: 1 // 0, ZeroDivisionError, 'zero'),
                               (runtime.swap, lorafmt.LorafmtError, 'one of its own callbacks')):
        with raises(kind, words):
            runtime.swap(go_on=go_on)
    expect((runtime.digest(), runtime.generation), (whole, 1), 'what refused switches left')


def test_interrupts(folder):
    """Ctrl-C during calls that call back, where Python would rather print and forget it."""
    data = write_small(folder)
    adapter = lorafmt.open(folder / 'peft').adapter()

    def slow(name, offset, size):
        time.sleep(0.001)
        return slices(data)(name, offset, size)
    runtime = lorafmt.Runtime(describe(data, slow), {name: lorafmt.Place(data[name], bytearray(96)) for name in data})
    n = 0
    gc.collect()
    gc.disable() # an interrupt during a __del__ is lost to all Python programs
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    for delay in (0.0001, 0.0003, 0.0006, 0.001, 0.0013, 0.002, 0.003, 0.004) * 3:
        deadline = time.monotonic() + 20
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            while time.monotonic() < deadline:
                runtime.swap(adapter)
        except KeyboardInterrupt:
            n += 1
    gc.enable()
    expect(n, 24, 'interrupts that were seen')
    expect(interrupted_reader(runtime, adapter), True, 'an interrupt while waiting to read')
    runtime.swap()
    expect(runtime.digest()[1]['a.weight'], hashlib.sha256(data['a.weight']).digest(), 'the base, after all that')


def interrupted_reader(runtime, adapter):
    """Interrupt this thread while it waits for a switch, which waits for another reader; whether that was seen."""
    reading, done = threading.Event(), threading.Event()

    def read():
        with runtime.read():
            reading.set()
            done.wait()
    threads = [threading.Thread(target=read), threading.Thread(target=runtime.swap, args=(adapter,))]
    threads[0].start()
    reading.wait()
    threads[1].start()
    later = threading.Timer(0.3, done.set)
    later.start()
    time.sleep(0.1)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with runtime.read():
            pass
        time.sleep(20)
        return False
    except KeyboardInterrupt:
        return True
    finally:
        for thread in (*threads, later):
            thread.join()


def mapped(path):
    """Whether a file is in memory; None where that cannot be known."""
    maps = pathlib.Path('/proc/self/maps')
    return str(path) in maps.read_text() if maps.is_file() else None


def test_lifetimes(folder):
    for name in ('scripture', 'legal'):
        shutil.copytree(DEMO / 'adapters' / name, folder / name)
    file = (folder / 'scripture/adapter_model.safetensors').resolve()
    source = lorafmt.open(folder / 'scripture')
    adapter = source.adapter()
    data = adapter.sites[3].factors['B'].data
    before, model = bytes(data), open_base()
    view = lorafmt.bind(model, [adapter, (lorafmt.open(folder / 'legal').adapter(), 0.5)])
    wanted = view.evaluate('model.layers.0.self_attn.q_proj.weight')
    source.close()
    source.close()
    model.close()
    for late in (lambda: source.adapters, source.adapter, source.verify, source.__enter__, lambda: adapter.sites, lambda: adapter.id,
                 lambda: lorafmt.bind(open_base(), adapter), lambda: model.read('lm_head.weight'), lambda: lorafmt.bind(model, []),
                 model.structure):
        with raises(lorafmt.LorafmtError, 'is closed', status='MISUSE'):
            late()
    expect(repr(source).endswith('closed>') and repr(model).endswith('closed>'), True, 'how closed ones look')
    shutil.rmtree(folder / 'legal')
    gc.collect()
    expect((bytes(data), view.evaluate('model.layers.0.self_attn.q_proj.weight')), (before, wanted), 'after closing')
    view.close()
    for late in (lambda: view.sites, lambda: view.evaluate('lm_head.weight')):
        with raises(lorafmt.LorafmtError, 'the view is closed', status='MISUSE'):
            late()
    del view
    expect((bytes(data), mapped(file) is not False), (before, True), 'while memory in it is used')
    del data
    expect(mapped(file) is not True, True, 'when nobody uses it')
    source = lorafmt.open(folder / 'scripture')
    view = lorafmt.bind(open_base(), source.adapter())
    del source, adapter
    view.sites[5].site.factors['A'].data.tolist()
    del view
    gc.collect()
    expect(mapped(file) is not True, True, 'without closing')
    expect(len(lorafmt.open(folder / 'scripture').adapter().sites[0].factors['A'].data.tolist()) > 0, True, 'all in one line')


class Looks:
    """Somebody who looks at what he has when he is about to go."""

    def __init__(self, seen, **has):
        self.me, self.seen, self.has = self, seen, has

    def __del__(self):
        self.seen.append((bytes(self.has['data'][:8]), self.has['view'].evaluate('a.weight'), self.has['runtime'].swap().n_restored))


def test_cycles(folder):
    """A garbage collector may begin anywhere."""
    data, seen = write_small(folder), []
    source = lorafmt.open(folder / 'peft')
    for _ in range(20):
        looks = Looks(seen)
        base = describe(data, lambda name, offset, size, looks=looks: slices(data)(name, offset, size))
        looks.has['view'] = lorafmt.bind(base, source.adapter())
        looks.has['data'] = source.adapter().sites[0].factors['A'].data
        looks.has['runtime'] = lorafmt.Runtime(base, {name: lorafmt.Place(data[name], bytearray(96)) for name in data})
        looks.has['runtime'].swap(source.adapter())
        gone = weakref.ref(looks.has['view'])
        del looks, base
        gc.collect()
        expect(gone(), None, 'a view in a cycle')
    expect((len(seen), len({(a, bytes(b), c) for a, b, c in seen})), (20, 1), 'what was seen at the end')
    model = lorafmt.Model.open(folder / 'model.safetensors', mapped=True)
    runtime = lorafmt.Runtime(model, {name: lorafmt.Place(model.data(name), bytearray(96)) for name in model.tensors})
    with runtime.read() as live:
        runtime.close()
        model.close()
        del model
        with raises(lorafmt.LorafmtError, 'the runtime is closed'):
            runtime.read().__enter__()
        expect(bytes(live['a.weight']), data['a.weight'], 'what is read of a closed runtime')


def test_bad_input(folder):
    for path, status in ((folder / 'nothing', 'NOT_FOUND'), (folder, 'NOT_FOUND'), ('', 'NOT_FOUND'), ('/dev/null', None)):
        with raises(lorafmt.LorafmtError, status=status):
            lorafmt.open(path)
    with raises(ValueError, 'NUL'):
        lorafmt.open('a\0b')
    with raises(TypeError):
        lorafmt.open(None)
    for path in (folder / 'nothing', folder, ''):
        with raises(lorafmt.LorafmtError):
            lorafmt.Model.open(path)
    shutil.copytree(DEMO / 'adapters/legal', folder / 'legal')
    shutil.copytree(DEMO / 'base', folder / 'base')
    for copy, opened in ((folder / 'legal/adapter_model.safetensors', lambda: lorafmt.open(folder / 'legal')),
                         (folder / 'base/model.safetensors', lambda: lorafmt.Model.open(folder / 'base', mapped=True))):
        whole = copy.read_bytes()
        for size in (0, 5, 8, 100, len(whole) // 2, len(whole) - 1):
            copy.write_bytes(whole[:size])
            with raises(lorafmt.LorafmtError, str(copy)):
                opened()
    smallest = (VECTORS / 'good-smallest.lora').read_bytes()
    for size in range(0, len(smallest), 61):
        (folder / 'cut.lora').write_bytes(smallest[:size])
        with raises(lorafmt.LorafmtError, 'cut.lora'):
            lorafmt.open(folder / 'cut.lora')
    model = open_base()
    with raises(ValueError, 'mapped'):
        model.data('lm_head.weight')
    for wrong in ((-1,), (0, 2**63), (2**64, 1)):
        with raises((ValueError, MemoryError, OverflowError, lorafmt.LorafmtError)):
            model.read('lm_head.weight', *wrong)
    expect(len(model.read('lm_head.weight', 4, 6)), 6, 'a few bytes')
    with raises(ValueError, 'n_threads'):
        lorafmt.open(DEMO / 'adapters/legal', n_threads=2**32)


def main():
    global LIBRARY, DEMO
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    LIBRARY, DEMO = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    lorafmt.load(LIBRARY)
    EXPECTED.update(json.loads((DEMO / 'expected.json').read_text())['scenarios'])
    n_passed = n_failed = 0
    for name, test in [(name, test) for name, test in globals().items() if name.startswith('test_')]:
        with tempfile.TemporaryDirectory() as folder:
            try:
                test(pathlib.Path(folder))
                n_passed += 1
            except Skip as why:
                print(f'SKIP {name}: {why}')
            except Complaint as complaint:
                n_failed += 1
                print(f'FAIL {name}: {complaint}')
            except Exception:
                n_failed += 1
                print(f'FAIL {name}: {traceback.format_exc()}')
    print(f'{n_passed} passed, {n_failed} failed')
    return 1 if n_failed or not n_passed else 0


if __name__ == '__main__':
    sys.exit(main())
