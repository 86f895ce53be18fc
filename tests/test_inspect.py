#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What inspect prints, and verify --finite: norms, tables, oddities, 80 columns, colour only on a terminal.

usage: test_inspect.py LORAPACK MAKE_KINDS
"""
import json
import math
import os
import pathlib
import pty
import random
import re
import struct
import subprocess
import sys

import tensors
from lorapack import Complaint, Lorapack, run_tests

HERE = pathlib.Path(__file__).resolve().parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE.parent / 'spec/vectors'))
import build # what packing would not make: sites and tensors as one likes

DEMO = HERE.parent / 'examples/demo-model'
CODES = {'F64': 'd', 'F32': 'f', 'F16': 'e'}
PREFIX = 'base_model.model.'
Q_PROJ = 'model.layers.0.self_attn.q_proj'


def tensor(dtype, shape, elements):
    """A tensor of these elements; BF16 keeps the upper halves of binary32."""
    if dtype == 'BF16':
        data = b''.join(struct.pack('<f', x)[2:] for x in elements)
    else:
        data = struct.pack(f'<{len(elements)}{CODES[dtype]}', *elements)
    return tensors.Tensor(dtype, shape, data)


def drawn(rng, n):
    """n elements that every float dtype holds exactly."""
    return [rng.randrange(-64, 65) / 64 for _ in range(n)]


def layer(rng, rank=4, n_in=12, n_out=10, a_dtype='F32', b_dtype='F32', b_scale=1):
    """A and B of a linear layer."""
    return (tensor(a_dtype, (rank, n_in), drawn(rng, rank * n_in)),
            tensor(b_dtype, (n_out, rank), [x * b_scale for x in drawn(rng, n_out * rank)]))


def write_adapter(folder, layers, config=(), saved=()):
    """A PEFT directory: layers by module, saved tensors by full name."""
    folder.mkdir()
    model = {}
    for module, (a, b) in layers.items():
        model[f'{PREFIX}{module}.lora_A.weight'] = a
        model[f'{PREFIX}{module}.lora_B.weight'] = b
    model.update((PREFIX + name, value) for name, value in dict(saved).items())
    tensors.write_file(folder / 'adapter_model.safetensors', model, {'format': 'pt'})
    settings = {'peft_type': 'LORA', 'r': 4, 'lora_alpha': 8, 'base_model_name_or_path': 'base',
                'target_modules': sorted({module.split('.')[-1] for module in layers}), **dict(config)}
    (folder / 'adapter_config.json').write_text(json.dumps(settings))
    return folder


def expect(condition, text):
    """Complain unless something holds."""
    if not condition:
        raise Complaint(text)


def run(lorapack, *arguments, locale='C.UTF-8'):
    """Exit code, stdout and stderr under a locale."""
    environment = {**os.environ, 'LC_ALL': locale, 'TERM': 'xterm'}
    done = subprocess.run([lorapack.program, *map(os.fspath, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, env=environment, check=False, timeout=120)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def run_on_terminal(lorapack, *arguments, **environment):
    """Stdout as a terminal would get it."""
    master, slave = pty.openpty()
    with subprocess.Popen([lorapack.program, *map(os.fspath, arguments)], stdin=subprocess.DEVNULL, stdout=slave,
                          env={'LC_ALL': 'C.UTF-8', 'TERM': 'xterm', **environment}) as process:
        os.close(slave)
        output = b''
        try:
            while chunk := os.read(master, 4096):
                output += chunk
        except OSError: # how the other end's closing shows on Linux
            pass
        expect(process.wait(timeout=120) == 0, f'exit {process.returncode} on a terminal')
    os.close(master)
    return output.decode()


def inspected(lorapack, source, *arguments):
    """The one adapter of a source, as JSON has it."""
    return json.loads(lorapack.must('inspect', source, '--json', *arguments))['adapters'][0]


def too_wide(text):
    """The first line that does not fit 80 columns, or ''."""
    return next((line for line in text.splitlines() if len(line) > 80), '')


def check_shown(lorapack, source, *arguments):
    """What is printed of a source fits 80 columns, has no escapes, and is ASCII where the locale is."""
    for locale in 'C.UTF-8', 'C':
        code, out, err = run(lorapack, 'inspect', source, *arguments, locale=locale)
        expect(code == 0, f'{source}: exit {code}: {err}')
        expect(not too_wide(out), f'{source}: wider than 80 columns: {too_wide(out)}')
        expect('\033' not in out, f'{source}: escapes in a pipe')
        expect(locale != 'C' or out.isascii(), f'{source}: not ASCII in the locale C')
        expect(not re.search(' $', out, re.MULTILINE), f'{source}: a blank ends a line')


def product_norm(a, b, rank, scale):
    """|scale| times the Frobenius norm of B A, which is formed."""
    a_rows = [a[i:i + len(a) // rank] for i in range(0, len(a), len(a) // rank)]
    squares = []
    for i in range(0, len(b), rank):
        row = [math.fsum(b[i + p] * a_rows[p][j] for p in range(rank)) for j in range(len(a_rows[0]))]
        squares.extend(x * x for x in row)
    return abs(scale) * math.sqrt(math.fsum(squares))


def check_norms(lorapack, source):
    """Each norm against the product of the very factors."""
    model = tensors.read_model(source)
    for site in inspected(lorapack, source)['sites']:
        factors = {factor['role']: factor for factor in site['factors']}
        if 'A' not in factors:
            expect(site['norm'] is None, f'{site["target"]}: a norm without the base')
            continue
        module = PREFIX + site['target'].removesuffix('.weight')
        a, b = (model.get(f'{module}.lora_{role}.weight', model.get(f'{module}.lora_embedding_{role}')) for role in 'AB')
        wanted = product_norm(tensors.values(a), tensors.values(b), site['rank'], site['scale'])
        expect(math.isclose(site['norm'], wanted, rel_tol=1e-9), f'{site["target"]}: norm {site["norm"]}, must be {wanted}')


def test_norms(lorapack, folder):
    """Real adapters, and made ones in every dtype."""
    for name in 'embedding', 'gpt2-conv1d-f32', 'linear-bf16-adapter-bf16', 'linear-f16-adapter-f16', 'rank-above-dims', 'zero-b', \
            'bias-all':
        check_norms(lorapack, HERE / 'conformance' / name / 'adapter')
    rng = random.Random(1)
    for a_dtype in 'F64', 'F32', 'F16', 'BF16':
        for b_dtype in 'F64', 'F32', 'F16', 'BF16':
            check_norms(lorapack, write_adapter(folder / f'{a_dtype}-{b_dtype}', {Q_PROJ: layer(rng, 4, 50, 30, a_dtype, b_dtype)}))


def test_all_that_is_there(lorapack, folder):
    """Whatever opens is shown in 80 columns, as it came and packed."""
    shown = 0
    for source in [*sorted((HERE / 'conformance').glob('*/adapter')), *sorted((DEMO / 'adapters').iterdir())]:
        packed = folder / f'{source.parent.name}-{source.name}.lora'
        if lorapack.run('pack', source, '-o', packed)[0]:
            continue
        base = source.parent / 'base'
        check_shown(lorapack, source, *(['--base', base] if base.exists() else []))
        check_shown(lorapack, packed)
        shown += 1
    expect(shown > 30, f'only {shown} adapters were shown')


def test_tables(lorapack, folder):
    """Module types, layers of several stacks, namesakes, and what comes whole."""
    rng = random.Random(2)
    layers = {f'{stack}.{i}.{module}': layer(rng) for stack in ('encoder.layer', 'decoder.layer') for i in (0, 2, 10)
              for module in ('attn.c_proj', 'mlp.c_proj', 'to_out.0')}
    whole = tensor('F32', (3, 5), drawn(rng, 15))
    source = write_adapter(folder / 'tables', {**layers, 'proj': layer(rng)},
                           {'target_modules': ['c_proj', 'to_out.0', 'proj'], 'modules_to_save': ['head']}, {'head.weight': whole})
    out = run(lorapack, 'inspect', source)[1]
    for line in (r'  attn\.c_proj +6  linear     4      8      2 +[\d.]+ +[\d.]+ +[\d.]+ +2\.1 KiB', r'  mlp\.c_proj +6 .*',
                 r'  to_out\.0 +6 .*', r'  proj +1 .*', r'  decoder\.layer 0 +3 +[\d.]+  █.*', r'  encoder\.layer 10 +3 .*', r'  other +1 .*',
                 r'  head\.weight +saved  F32 +3,5 +60 B'):
        expect(re.search(f'^{line}$', out, re.MULTILINE), f'no line {line} in\n{out}')
    places = [line.split()[:2] for line in out.splitlines() if line.startswith('  decoder') or line.startswith('  encoder')]
    expect([int(number) for _, number in places] == [0, 2, 10] * 2, f'layers in the order {places}')
    longest = max(len(line) for line in run(lorapack, 'inspect', source, locale='C')[1].splitlines() if line.endswith('#'))
    expect(longest <= 80, 'bars are too wide')


def test_long_names(lorapack, folder):
    """Names that no line holds lose their middle; what is odd about them stays."""
    rng = random.Random(3)
    module = 'model.layers.0.' + 'a_very_long_name_of_a_module.' * 8 + 'q_proj'
    layers = {module: layer(rng, b_scale=0), module.replace('0', '1'): layer(rng), 'x' * 300: layer(rng)}
    source = write_adapter(folder / ('n' * 200), layers,
                           {'base_model_name_or_path': 'b' * 500, 'target_modules': ['q_proj', 'x' * 300]})
    check_shown(lorapack, source)
    expect('...' in run(lorapack, 'inspect', source)[1], 'nothing is shortened')
    expect(f'{module}.weight' in run(lorapack, 'inspect', source, '--sites')[1], '--sites does not have the whole name')


def oddities(lorapack, source):
    """(what, target) of all oddities."""
    return {(item['what'], item['target']) for item in inspected(lorapack, source)['oddities']}


def odd_adapters(folder):
    """What makes each oddity, and the oddity."""
    rng = random.Random(4)
    target = Q_PROJ + '.weight'
    others = {f'model.layers.{i}.self_attn.q_proj': layer(rng) for i in range(1, 6)}
    zero_a = (tensor('F32', (4, 12), [-0.0] * 48), layer(rng)[1])
    nan = (layer(rng)[0], tensor('BF16', (10, 4), [math.nan, -math.inf] + [1] * 38))
    one = layer(rng)
    made = {
        'zero-factor': ({**others, Q_PROJ: layer(rng, b_scale=0)}, {}, target),
        'zero-factor-a': ({**others, Q_PROJ: zero_a}, {}, target),
        'not-finite': ({**others, Q_PROJ: nan}, {}, target),
        'huge-norm': ({**others, Q_PROJ: layer(rng, b_scale=4096)}, {}, target),
        'huge-scale': ({Q_PROJ: layer(rng)}, {'lora_alpha': 260}, target),
        'negative-scale': ({Q_PROJ: layer(rng)}, {'lora_alpha': -4}, target),
        'zero-scale': ({**others, Q_PROJ: layer(rng)}, {'alpha_pattern': {r'layers\.0\.self_attn\.q_proj': 0}}, target),
        'nothing': ({Q_PROJ: layer(rng, b_scale=0)}, {}, None),
        'rank-above-dimensions': ({Q_PROJ: layer(rng, n_in=3)}, {}, target),
        'same-tensor': ({Q_PROJ: one, 'model.layers.1.self_attn.q_proj': (one[0], layer(rng)[1])}, {}, target),
        'mixed-dtypes': ({Q_PROJ: layer(rng, a_dtype='F16')}, {}, None),
    }
    for name, (layers, config, where) in made.items():
        yield name.removesuffix('-a'), write_adapter(folder / name, layers, config), where


def test_oddities(lorapack, folder):
    """Each is found where it is and nowhere else, in the text too, the same before and after packing."""
    for what, source, target in odd_adapters(folder):
        found = {item for item in oddities(lorapack, source)}
        allowed = {what, 'zero-factor'} if what == 'nothing' else {what, 'mixed-dtypes'} if what == 'not-finite' else {what}
        expect((what, target) in found, f'{source.name}: no {what} at {target}, but {found}')
        expect({name for name, _ in found} == allowed, f'{source.name}: odd are {found}')
        out = run(lorapack, 'inspect', source)[1]
        expect(re.search(f'^    {what}: .', out, re.MULTILINE), f'{source.name}: {what} is not in\n{out}')
        check_shown(lorapack, source)
        packed = folder / f'{source.name}.lora'
        lorapack.must('pack', source, '-o', packed)
        expect(oddities(lorapack, packed) == found, f'{source.name}: packed, odd are {oddities(lorapack, packed)}')
    plain = write_adapter(folder / 'plain', {Q_PROJ: layer(random.Random(5))})
    expect(not oddities(lorapack, plain), f'odd about a plain adapter: {oddities(lorapack, plain)}')
    expect('nothing odd about it' in run(lorapack, 'inspect', plain)[1], 'an adapter without oddities does not say so')


def test_files_of_another_kind(lorapack, folder):
    """A kind of a newer format is listed and odd; a recovered file says so."""
    source = write_adapter(folder / 'plain', {Q_PROJ: layer(random.Random(6))})
    packed = folder / 'plain.lora'
    lorapack.must('pack', source, '-o', packed)
    newer = HERE.parent / 'spec/vectors/good-unknown-kind.lora'
    check_shown(lorapack, newer)
    expect(('newer-format', 'w') in oddities(lorapack, newer), 'a kind of a newer format is not odd')
    expect(inspected(lorapack, newer)['sites'][0]['norm'] is None, 'the norm of a kind of a newer format is known')
    data = bytearray(packed.read_bytes())
    data[8192] = 1
    recovered = folder / 'recovered.lora'
    recovered.write_bytes(data)
    check_shown(lorapack, recovered)
    expect('  recovered: ' in run(lorapack, 'inspect', recovered)[1], 'a recovered file does not say so')


def test_every_kind(lorapack, folder):
    """Norms of all kinds, counted by hand: factors of rank 2 whose elements are 1 make updates whose elements are 2."""
    packed = folder / 'kinds.lora'
    subprocess.run([sys.argv[2], packed], check=True)
    adapter = inspected(lorapack, packed)
    wanted = {'m.0.conv1.weight': 2 * math.sqrt(4 * 15), 'm.0.conv2.weight': None, 'm.0.conv3.weight': 2 * math.sqrt(4 * 18),
              'm.0.dora.weight': 2 * math.sqrt(6 * 8), 'm.0.experts.gate_up_proj': 2 * math.sqrt(3 * 4 * 8),
              'm.1.embed.weight': 2 * math.sqrt(4 * 16), 'm.1.out_proj.weight': 4 * math.sqrt(8 * 8), 'm.2.bias': 2,
              'm.2.rows.weight': None, 'm.2.saved.weight': None}
    found = {site['target']: site['norm'] for site in adapter['sites']}
    expect(found.keys() == wanted.keys(), f'sites are {found}')
    for target, norm in wanted.items():
        expect(found[target] is norm or math.isclose(found[target], norm, rel_tol=1e-12), f'{target}: {found[target]}, must be {norm}')
    changed = 4 * 15 + 4 * 3 * 9 + 4 * 18 + 6 * 8 + 3 * 4 * 8 + 4 * 16 + 8 * 8
    expect(adapter['n_target_parameters'] == changed, f'{adapter["n_target_parameters"]} parameters are changed, not {changed}')
    check_shown(lorapack, packed)
    out = run(lorapack, 'inspect', packed)[1]
    for line in (r'  experts\.gate_up_proj +1  experts +2 .*', r' +.*; 1 with DoRA, 1 doubled', r'  m\.2\.bias +1  additive .*', r'  m\.2\.rows\.weight +rows +F32,I64  2,4 +48 B'):
        expect(re.search(f'^{line}$', out, re.MULTILINE), f'no line {line} in\n{out}')


def test_shared_tensors(lorapack, folder):
    """Where many sites share few tensors, norms are left out and that is said: a small file must not cost much."""
    shared = layer(random.Random(10))
    source = write_adapter(folder / 'shared', {f'model.layers.{i}.self_attn.q_proj': shared for i in range(100)})
    packed = folder / 'shared.lora'
    lorapack.must('pack', source, '-o', packed)
    expect(all(site['norm'] for site in inspected(lorapack, source)['sites']), 'norms of tensors that are not shared are left out')
    expect(not any(site['norm'] for site in inspected(lorapack, packed)['sites']), 'norms of shared tensors are computed')
    expect('norms are left out' in run(lorapack, 'inspect', packed)[1], 'does not say that norms are left out')
    check_shown(lorapack, packed)


def norms(lorapack, source):
    """Of all sites of all adapters, in order."""
    adapters = json.loads(lorapack.must('inspect', source, '--json'))['adapters']
    return [site['norm'] for adapter in adapters for site in adapter['sites']]


def linear(target, a, b, rank):
    """A site of scale 1."""
    return build.Site(target, build.LINEAR, [(build.A, a), (build.B, b)], rank=rank, alpha=float(rank))


def lora(path, *adapters):
    """Write a file of adapters; a list is the sites of one that is called a."""
    path.write_bytes(build.File(*(build.Adapter('a', item) if isinstance(item, list) else item for item in adapters)).bytes())
    return path


def test_work_of_norms(lorapack, folder):
    """Norms may take 8 times the work that they would if nothing were shared, over all adapters together. It was bytes that
    counted, up to 64 times and for each adapter alone, so that 8 MB could take minutes."""
    a, b = build.f32(3, 5), build.f32(4, 3)
    for n, shown in (8, True), (9, False):
        one = lora(folder / f'one-{n}.lora', [linear(f'm.{i}.q.weight', a, b, 3) for i in range(n)])
        many = lora(folder / f'many-{n}.lora', *(build.Adapter(f'a{i}', [linear('m.q.weight', a, b, 3)]) for i in range(n)))
        for path in one, many:
            found = norms(lorapack, path)
            expect(len(found) == n and len(set(found)) == 1 and (found[0] is not None) == shown, f'{path.name}: norms {found}')
            expect(('norms are left out' in run(lorapack, 'inspect', path)[1]) != shown, f'{path.name}: what is said of norms')
        expect(norms(lorapack, f'{many}#a1') == norms(lorapack, lora(folder / 'alone.lora', [linear('m.q.weight', a, b, 3)])),
               'a single one of many adapters is not shown as if it were alone')
    zero = build.tensor('F32', [4, 3], 0)
    fresh = lora(folder / 'fresh.lora', [linear(f'm.{i:03}.q.weight', build.f32(3, 5, start=i), zero, 3) for i in range(1, 200)])
    expect(norms(lorapack, fresh) == [0] * 199, f'norms of an untrained adapter are {set(norms(lorapack, fresh))}')
    b = build.f32(1000, 1)
    large = lora(folder / 'large.lora', [linear(f'm.{i:03}.q.weight', build.f32(1, 1, start=i), b, 1) for i in range(1, 100)])
    expect(set(norms(lorapack, large)) == {None}, 'a large B is read for each of many small A')


def test_adapters_that_share(lorapack, folder):
    """A tensor of several adapters is looked at once; what is said of it is said of each, and equal are those of one adapter."""
    a, b = build.tensor('F32', [2, 3], 1, 2), build.tensor('F32', [4, 2], 3, -1)
    bad = build.tensor('F32', [4, 2], math.nan, 1, math.inf, 1, 1, 1, 1, 1)
    packed = lora(folder / 'shared.lora', build.Adapter('left', [linear('k.weight', a, b, 2), linear('q.weight', a, bad, 2)]),
                  build.Adapter('right', [linear('q.weight', a, b, 2), linear('v.weight', build.f32(2, 3), bad, 2)]))
    product = product_norm(tensors.values(as_safetensor(a)), tensors.values(as_safetensor(b)), 2, 1)
    found = norms(lorapack, packed)
    expect(math.isclose(found[0], product) and found[0] == found[2] and found[1] is found[3] is None, f'norms are {found}')
    adapters = json.loads(lorapack.must('inspect', packed, '--json'))['adapters']
    odd = [[(item['what'], item['target'], item['text']) for item in adapter['oddities']] for adapter in adapters]
    not_finite = '2 of 8 elements of B are NaN or infinite'
    expect(odd == [[('not-finite', 'q.weight', not_finite), ('same-tensor', 'k.weight', 'A is also in 1 other place')],
                   [('not-finite', 'v.weight', not_finite)]], f'odd are {odd}')
    wanted = [('left', 'q.weight', 'B', 2), ('right', 'v.weight', 'B', 2)]
    items = json.loads(lorapack.must('verify', packed, '--json'))['nonfinite']
    expect([tuple(item.values()) for item in items] == wanted, f'not finite are {items}')
    code, _, err = run(lorapack, 'verify', packed, '--finite')
    expect(code == 1 and all(f'  {name}: {target}: 2 of 8 elements' in err for name, target, _, _ in wanted), err)


def as_safetensor(made):
    """A tensor of a made file as one of a safetensors file."""
    return tensors.Tensor(made.dtype, tuple(made.shape), made.decoded)


def additive(target):
    """A site that takes little room."""
    return build.Site(target, build.ADDITIVE, [(build.VALUE, build.f32(1))])


def rows_of(lorapack, source, kind):
    """What stands before `kind` in each line of a table."""
    code, out, err = run(lorapack, 'inspect', source)
    expect(code == 0, f'{source}: exit {code}: {err}')
    expect(not too_wide(out), f'{source}: wider than 80 columns: {too_wide(out)}')
    return re.findall(f'^  (\\S+) +(?:\\d+  )?{kind} .*$', out, re.MULTILINE)


def test_paths(lorapack, folder):
    """Module types of one name are told apart by all of their paths, in the order of the bytes. It was by the first 255."""
    deep = 'm.0.' + 'deep.' * 100
    long = lora(folder / 'long.lora', [additive(f'{deep}{name}.q.weight') for name in 'xy'])
    found = rows_of(lorapack, long, 'additive')
    expect(len(found) == 2 and all(row.endswith(f'deep.{name}.q') for row, name in zip(found, 'xy')), f'modules are {found}')
    short = lora(folder / 'short.lora', [additive(f'm.0.{path}.q.weight') for path in ('e-c', 'e.12', 'e.7', 'e.7x', 'e')])
    found = rows_of(lorapack, short, 'additive')
    expect(found == ['e-c.q', 'e.*.q', 'e.7x.q', 'e.q'], f'modules are {found}')


def test_long_unicode(lorapack, folder):
    """A cut leaves characters whole and the ends of names, by which they differ. It was made after 200 bytes."""
    for character in 'äあ😀':
        name = character * (1000 // len(character.encode()))
        modules = lora(folder / f'{ord(character)}.lora', [additive(name + end) for end in 'ab'])
        found = rows_of(lorapack, modules, 'additive')
        expect([row[-1] for row in found] == ['a', 'b'], f'modules are {found}')
        whole = lora(folder / f'{ord(character)}-whole.lora',
                     [build.Site(name + end, build.SAVED, [(build.VALUE, build.f32(1))]) for end in 'ab'])
        found += rows_of(lorapack, whole, 'saved')
        expect([row[-1] for row in found] == ['a', 'b'] * 2, f'replaced are {found}')
        stack = name[:-20]
        layers = lora(folder / f'{ord(character)}-layers.lora', [additive(f'{stack}{end}.{i}.q.weight') for end in 'ab' for i in (0, 11)])
        out = run(lorapack, 'inspect', layers)[1]
        found += re.findall(r'^  (\S+ \d+) +1 +1\.000.*$', out, re.MULTILINE)
        expect([row.split('.')[-1][-4:].lstrip(character) for row in found[4:]] == ['a 0', 'a 11', 'b 0', 'b 11'], f'layers are\n{out}')
        expect('\\x' not in out + ''.join(found) and not too_wide(out), f'a character is cut in {found}')


def test_uncountable(lorapack, folder):
    """Parameters of targets that 64 bits do not hold are not known; the sum went round, and the share was of what was left."""
    side = 1 << 20
    factors = [(build.A, build.tensor('F16', [1, side, 1, 1], 0)), (build.B, build.tensor('F16', [side, 1, 1, 1], 0)),
               (build.MID, build.tensor('F16', [1, 1, 1 << 10, 1 << 10], 0))]
    for n, known in (15, True), (17, False):
        packed = lora(folder / f'{n}.lora', [build.Site(f'm.{i:02}.conv.weight', build.CONV2D, factors) for i in range(n)])
        adapter = inspected(lorapack, packed)
        wanted = n << 60 if known else None
        expect(adapter['n_target_parameters'] == wanted, f'{n} sites: {adapter["n_target_parameters"]} parameters')
        expect((adapter['share'] is not None) == known, f'{n} sites: share {adapter["share"]}')
        out = ' '.join(run(lorapack, 'inspect', packed)[1].split())
        expect(('the share is not known' in out) != known, f'{n} sites: {out}')


def test_colour(lorapack, folder):
    """Only a terminal that wants it gets colour, and the text is the same."""
    source = write_adapter(folder / 'odd', {Q_PROJ: layer(random.Random(7), b_scale=0)})
    plain = run(lorapack, 'inspect', source)[1]
    coloured = run_on_terminal(lorapack, 'inspect', source)
    expect('\033[1m' in coloured and '\033[33mzero-factor' in coloured.replace('    zero', 'zero').replace('\033[33m    ', '\033[33m'),
           f'no colour on a terminal: {coloured!r}')
    expect(re.sub('\033\\[[0-9]*m', '', coloured).replace('\r\n', '\n') == plain, 'colour changes the text')
    for environment in {'NO_COLOR': '1'}, {'TERM': 'dumb'}:
        expect('\033' not in run_on_terminal(lorapack, 'inspect', source, **environment), f'colour with {environment}')
    expect('\033' in run_on_terminal(lorapack, 'inspect', source, NO_COLOR=''), 'an empty NO_COLOR is none')


def test_base(lorapack, folder):
    """Whether an adapter fits a base, and how much of it that is."""
    packed = folder / 'legal.lora'
    lorapack.must('pack', DEMO / 'adapters/legal', '-o', packed, '--base', DEMO / 'base')
    base = {name: len(value.data) // tensors.SIZES[value.dtype] for name, value in tensors.read_model(DEMO / 'base').items()}
    adapter = inspected(lorapack, packed, '--base', DEMO / 'base')
    targets = sum(base[site['target']] for site in adapter['sites'])
    expect(adapter['n_target_parameters'] == targets, f'{adapter["n_target_parameters"]} parameters are changed, not {targets}')
    expect(adapter['share'] == adapter['n_parameters'] / targets, f'share {adapter["share"]}')
    fit = adapter['fit']
    wanted = {'base': str(DEMO / 'base'), 'fits': True, 'why_not': None, 'matched': 18, 'total': 18, 'same_structure': True,
              'n_parameters': sum(base.values()), 'share': adapter['n_parameters'] / sum(base.values())}
    expect(fit == wanted, f'fit is {fit}')
    expect('fits, 18/18 targets (18 low-rank)' in run(lorapack, 'inspect', packed, '--base', DEMO / 'base')[1], 'does not say that it fits')
    headers = folder / 'headers.lora'
    lorapack.must('pack', DEMO / 'adapters/legal', '-o', headers, '--base', DEMO / 'base', '--headers-only')
    sites, fit = inspected(lorapack, headers, '--base', DEMO / 'base')['sites'], inspected(lorapack, headers, '--base', DEMO / 'base')['fit']
    expect(all(site['base_sha256'] for site in adapter['sites']), 'packing with a base records no digests')
    expect(not any(site['base_sha256'] for site in sites) and fit['same_structure'], '--headers-only records more than the structure')
    other = write_adapter(folder / 'other', {'model.layers.0.nowhere': layer(random.Random(8))})
    fit = inspected(lorapack, other, '--base', DEMO / 'base')['fit']
    expect(not fit['fits'] and 'nowhere' in fit['why_not'] and fit['matched'] == 0, f'fit is {fit}')
    expect('does not fit: model.layers.0.nowhere' in run(lorapack, 'inspect', other, '--base', DEMO / 'base')[1], 'does not say why not')
    check_shown(lorapack, other, '--base', DEMO / 'base')
    expect(lorapack.run('inspect', other, '--base', folder / 'none')[0] == 1, 'a base that is not there is no failure')


def test_finite(lorapack, folder):
    """verify --finite names each tensor with NaN or infinite elements."""
    rng = random.Random(9)
    nan = tensor('F16', (10, 4), [math.nan, -math.inf] + [1] * 38)
    source = write_adapter(folder / 'nan', {Q_PROJ: (layer(rng)[0], nan)}, {'modules_to_save': ['head']},
                           {'head.weight': tensor('F64', (2,), [math.inf, 1])})
    packed, places = folder / 'nan.lora', [('head.weight', 'value', 1), (Q_PROJ + '.weight', 'B', 2)]
    lorapack.must('pack', source, '-o', packed)
    for path in source, packed:
        code, out, err = run(lorapack, 'verify', path)
        expect(code == 0 and 'warning' in err and '3 elements' in err, f'verify: exit {code}: {err}')
        found = [(item['target'], item['role'], item['n_elements']) for item in
                 json.loads(lorapack.must('verify', path, '--json'))['nonfinite']]
        expect(found == places, f'not finite are {found}')
        for arguments in [], ['--json']:
            code, out, err = run(lorapack, 'verify', path, '--finite', *arguments)
            expect(code == 1 and not out, f'verify --finite: exit {code}, prints {out}')
            for target, role, n in places:
                expect(f'  nan: {target}: {n} of ' in err and f' elements of {role} are NaN or infinite' in err, err)
            expect('3 elements are NaN or infinite' in err.splitlines()[-1], err)
    fine = write_adapter(folder / 'fine', {Q_PROJ: layer(rng)})
    expect('every element finite' in lorapack.must('verify', fine, '--finite'), 'verify --finite does not say that it looked')


if __name__ == '__main__':
    sys.exit(run_tests(globals(), lambda folder: (Lorapack(sys.argv[1]), folder)))
