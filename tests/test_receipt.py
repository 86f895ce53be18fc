# SPDX-License-Identifier: MIT
"""What the receipt of a merge says, and verifying a model against it.

usage: test_receipt.py LORAPACK
"""
import array
import hashlib
import json
import math
import random
import shutil
import struct
import sys

import tensors
from lorapack import Complaint, Lorapack, merge, replay, run_tests
from tensors import Tensor

PREFIX = 'base_model.model.'
RANK, SCALE = 2, 2.0
BITS = {'F64': 64, 'F32': 32, 'F16': 16, 'BF16': 16}
CODES = {'F64': 'd', 'F32': 'f', 'F16': 'e'}


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def expect_near(value, wanted, what):
    if value is None or not abs(value - wanted) <= 1e-6 * max(abs(wanted), 1e-300):
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


# A plain reference: matrices as lists of Python floats, which are binary64.

def bf16_bits(x):
    """The nearest BF16, ties to even, of a number that is a binary32."""
    bits = struct.unpack('<I', struct.pack('<f', x))[0]
    return 0x7fc0 if math.isnan(x) else (bits + 0x7fff + (bits >> 16 & 1)) >> 16


def to_tensor(dtype, shape, numbers):
    """A tensor of numbers that are rounded to the nearest of its dtype, overflow to infinity."""
    if dtype == 'BF16':
        data = struct.pack(f'<{len(numbers)}H', *map(bf16_bits, numbers))
    else:
        wide = [math.copysign(math.inf, x) if dtype == 'F16' and math.isfinite(x) and abs(x) >= 65520 else x for x in numbers]
        data = struct.pack(f'<{len(numbers)}{CODES[dtype]}', *wide)
    return Tensor(dtype, tuple(shape), data)


def steps(tensor):
    """Whole numbers in the order of the values, where neighbours are one ulp apart."""
    size = BITS[tensor.dtype] // 8
    bits = [int.from_bytes(tensor.data[i:i + size], 'little') for i in range(0, len(tensor.data), size)]
    sign = 1 << (8 * size - 1)
    return [-(x ^ sign) if x & sign else x for x in bits]


def product(b, a, n_out, n_in):
    """SCALE * B A, exact for the numbers used here."""
    return [SCALE * math.fsum(b[i * RANK + k] * a[k * n_in + j] for k in range(RANK)) for i in range(n_out) for j in range(n_in)]


def reference_change(base, asked, merged):
    """What a receipt must say of a tensor."""
    before, after = tensors.values(base), tensors.values(merged)
    finite = [(d, y - x, abs(q - p)) for d, x, y, p, q in zip(asked, before, after, steps(base), steps(merged))
              if math.isfinite(x) and math.isfinite(y)]
    norm2 = math.fsum(d * d for d, _, _ in finite)
    unchanged = sum(p == q for p, q in zip(steps(base), steps(merged)))
    return {
        'n_elements': len(before),
        'norm': math.sqrt(norm2),
        'norm_realised': math.sqrt(math.fsum(r * r for _, r, _ in finite)),
        'projection': math.fsum(d * r for d, r, _ in finite) / norm2,
        'n_unchanged': unchanged,
        'share_unchanged': unchanged / len(before),
        'max_ulp': max(ulp for _, _, ulp in finite),
        'n_nan': sum(map(math.isnan, after)),
        'n_inf': sum(map(math.isinf, after)),
    }


def expect_change(change, wanted, what):
    for key, value in wanted.items():
        near = key in ('norm', 'norm_realised', 'projection')
        (expect_near if near else expect)(change[key], value, f'{what}: {key}')


# Models and adapters.

def eighths(rng, n, most=7):
    """Small numbers, of which few products still are exact in binary32."""
    return [rng.randint(-most, most) / 8 for _ in range(n)]


class Case:
    """A base of one matrix for each dtype and one that nobody changes, and an adapter for them."""

    def __init__(self, folder, seed=1, rows=9, cols=21):
        rng = random.Random(seed)
        self.base, self.adapter, self.out, self.receipt = folder / 'base', folder / 'a', folder / 'out', folder / 'r.json'
        self.held, self.asked, self.lora = {}, {}, {}
        for dtype in BITS:
            self.add(dtype, rng, rows, cols)
        self.held['norm.weight'] = to_tensor('BF16', (cols,), eighths(rng, cols))
        self.base.mkdir()
        tensors.write_file(self.base / 'model.safetensors', self.held, {'format': 'pt'})
        write_adapter(self.adapter, self.lora)

    def add(self, dtype, rng, rows, cols):
        name = f'{dtype.lower()}.proj'
        numbers = [rng.choice((1, 2, 4, 8)) * rng.randint(-255, 255) / 64 for _ in range(rows * cols)]
        if dtype != 'F64':
            numbers[3], numbers[4] = math.inf, math.nan
        if dtype == 'F16':
            numbers[5] = 65504.0
        a, b = eighths(rng, RANK * cols), eighths(rng, rows * RANK)
        b[2:4] = [0.0, 0.0] # a row that stays
        if dtype == 'F16':
            a[5] = a[cols + 5] = b[0] = b[1] = 4.0 # 65504 + 64 overflows
        self.held[f'{name}.weight'] = to_tensor(dtype, (rows, cols), numbers)
        self.asked[f'{name}.weight'] = product(b, a, rows, cols)
        self.lora[f'{PREFIX}{name}.lora_A.weight'] = to_tensor('F32', (RANK, cols), a)
        self.lora[f'{PREFIX}{name}.lora_B.weight'] = to_tensor('F32', (rows, RANK), b)

    def merge(self, lorapack, *options):
        """Merge with a receipt, which is returned."""
        lorapack.must(*merge(self.base, [self.adapter], self.out), '--receipt', self.receipt, *options)
        return json.loads(self.receipt.read_text())

    def replay(self, out=None, adapters=None, base=None):
        return replay(self.receipt, base or self.base, adapters or [self.adapter], out or self.out)


def write_adapter(folder, held, **config):
    folder.mkdir()
    tensors.write_file(folder / 'adapter_model.safetensors', held, {'format': 'pt'})
    (folder / 'adapter_config.json').write_text(
        json.dumps({'peft_type': 'LORA', 'r': RANK, 'lora_alpha': SCALE * RANK, **config}))


def test_changes_are_those_of_a_plain_reference(lorapack, folder):
    case = Case(folder)
    changes = {change.pop('tensor'): change for change in case.merge(lorapack)['changes']}
    expect(sorted(changes), sorted(case.asked), 'tensors')
    merged = tensors.read_model(case.out)
    for name, base in case.held.items():
        if name not in case.asked:
            continue
        exact = [x + d for x, d in zip(tensors.values(base), case.asked[name])]
        wanted = to_tensor(base.dtype, base.shape, exact)
        expect(merged[name].data, wanted.data, f'{name} itself')
        expect_change(changes[name], reference_change(base, case.asked[name], wanted), name)
    expect(changes['f16.proj.weight']['n_inf'], 2, 'infinite elements') # the base's, and one that overflows


def test_what_is_not_measured_is_null(lorapack, folder):
    case = Case(folder)
    head, saved = to_tensor('BF16', (2, 3), [1.0] * 6), to_tensor('BF16', (21,), [math.nan] + [1.0] * 20)
    write_adapter(folder / 'b', {**case.lora, f'{PREFIX}lm_head.weight': head, f'{PREFIX}norm.weight': saved},
                  modules_to_save=['lm_head', 'norm'])
    case.adapter = folder / 'b'
    (case.base / 'config.json').write_text('{"tie_word_embeddings": false}')
    receipt = case.merge(lorapack)
    changes = {change.pop('tensor'): change for change in receipt['changes']}
    empty = dict.fromkeys(('norm', 'norm_realised', 'projection', 'n_unchanged', 'share_unchanged', 'max_ulp'))
    expect(changes['lm_head.weight'], {**empty, 'n_elements': 6, 'n_nan': 0, 'n_inf': 0}, 'a new tensor')
    expect({**empty, **{key: changes['norm.weight'][key] for key in empty}}, empty, 'a replaced tensor')
    expect(receipt['digests'], None, 'digests')
    lorapack.must(*case.replay())


def test_a_dry_run_measures_nothing(lorapack, folder):
    case = Case(folder)
    receipt = case.merge(lorapack, '--dry-run')
    expect((receipt['changes'], receipt['digests']), (None, None), 'changes and digests')
    case.out.mkdir()
    expect_failure(lorapack, case.replay(), 'the receipt of a dry run')


def test_digests(lorapack, folder):
    case = Case(folder)
    receipt = case.merge(lorapack, '--receipt-digests')
    wanted = {name: hashlib.sha256(tensor.data).hexdigest() for name, tensor in tensors.read_model(case.out).items()}
    expect({entry['tensor']: entry['sha256'] for entry in receipt['digests']}, wanted, 'digests')
    shown = lorapack.must(*case.replay())
    expect('every digest right' in shown, True, shown)
    for options, words in ((['--receipt-digests'], 'needs --receipt or --json'),
                           (['--receipt-digests', '--json', '--dry-run'], 'a dry run writes nothing')):
        code, _, message = lorapack.run(*merge(case.base, [case.adapter], folder / 'out2'), *options)
        expect((code, words in message), (2, True), message)


def test_threads_do_not_matter(lorapack, folder):
    """A tensor of several tasks: sums are added up in one order, whoever computed them."""
    rng, base = random.Random(5), folder / 'base.safetensors'
    rows, cols = 1200, 2048 # 9.4 MiB
    big = Tensor('F32', (rows, cols), array.array('f', (rng.random() for _ in range(rows * cols))).tobytes())
    tensors.write_file(base, {'big.weight': big})
    lora = {f'{PREFIX}big.lora_A.weight': to_tensor('F32', (RANK, cols), [rng.random() for _ in range(RANK * cols)]),
            f'{PREFIX}big.lora_B.weight': to_tensor('F32', (rows, RANK), [rng.random() for _ in range(RANK * rows)])}
    write_adapter(folder / 'a', lora)
    for n in ('1', '3'):
        lorapack.must(*merge(base, [folder / 'a'], folder / 'out'), '--force', '--threads', n, '--receipt', folder / f'{n}.json')
        lorapack.must(*replay(folder / f'{n}.json', base, [folder / 'a'], folder / 'out'), '--threads', n)
    expect((folder / '1.json').read_bytes(), (folder / '3.json').read_bytes(), 'receipts')


def test_json(lorapack, folder):
    case = Case(folder)
    case.merge(lorapack, '--receipt-digests')
    shown = json.loads(lorapack.must(*case.replay(), '--json'))
    size = (case.out / 'model.safetensors').stat().st_size
    expect(shown, {'path': str(case.out), 'receipt': str(case.receipt), 'good': True, 'n_tensors': 5, 'n_bytes': size,
                   'has_digests': True, 'n_differing': 0, 'first': None, 'receipt_differs': None}, 'good')
    flip(case.out / 'model.safetensors', 'f32.proj.weight', 4 * (2 * 21 + 7))
    code, output, _ = lorapack.run(*case.replay(), '--json')
    shown = json.loads(output)
    expect((code, shown['good'], shown['n_differing']), (1, False, 1), 'bad')
    first = shown['first']
    expect((first['tensor'], first['row'], first['column']), ('f32.proj.weight', 2, 7), 'first')


def test_options_are_replayed(lorapack, folder):
    """What the command line of the merge said is not said again."""
    case = Case(folder)
    held = {name.replace(PREFIX, PREFIX + 'inner.'): tensor for name, tensor in case.lora.items()}
    held |= {f'{PREFIX}inner.none.lora_{side}.weight': to_tensor('F32', (2, 2), [1.0] * 4) for side in 'AB'}
    bare = folder / 'bare.safetensors'
    tensors.write_file(bare, held)
    case.adapter = f'{bare}=0.5'
    receipt = case.merge(lorapack, '--alpha', '3', '--rslora', '--map', 'inner=', '--allow-unmatched', '--orientation', 'out-in',
                         '--any-base')
    expect(receipt['options'], {'map': ['inner='], 'orientation': 'out-in', 'any_base': True, 'allow_unmatched': True,
                                'alpha': 3, 'rslora': True, 'experts_orientation': None}, 'options')
    expect(receipt['coverage'], {'matched': 4, 'total': 5}, 'coverage')
    lorapack.must(*case.replay())
    for options in (['--alpha', '3'], ['--map', 'inner='], ['--finite']):
        code, _, message = lorapack.run(*case.replay(), *options)
        expect((code, 'the receipt says how to read and bind' in message), (2, True), message)


def test_a_receipt_names_all_it_needs(lorapack, folder):
    case = Case(folder)
    case.merge(lorapack)
    for arguments, words in (
            (['verify', case.out, '--receipt', case.receipt, '--adapter', case.adapter], '--receipt needs --base'),
            (['verify', case.out, '--receipt', case.receipt, '--base', case.base], '--receipt needs --adapter'),
            (['verify', case.adapter, '--adapter', case.adapter], '--adapter and --threads need --receipt')):
        code, _, message = lorapack.run(*arguments)
        expect((code, words in message), (2, True), message)


# What must be found.

def expect_failure(lorapack, arguments, *words):
    code, output, message = lorapack.run(*arguments)
    if code != 1 or output or not all(word in message for word in words):
        raise Complaint(f'exit {code}, says {message!r}, must say {words}')


def place_of(path, name):
    header, start = tensors.read_header(path)
    return start + header[name]['data_offsets'][0]


def flip(path, name, at, bit=1):
    data = bytearray(path.read_bytes())
    data[place_of(path, name) + at] ^= bit
    path.write_bytes(data)


def test_a_flipped_byte(lorapack, folder):
    case = Case(folder)
    case.merge(lorapack)
    file = case.out / 'model.safetensors'
    good = file.read_bytes()
    right = tensors.read_model(case.out)['f32.proj.weight'].data[4 * 30:][:4]
    bits = int.from_bytes(right, 'little')
    value, wrong = (struct.unpack('<f', struct.pack('<I', x))[0] for x in (bits, bits ^ 0x800000))
    flip(file, 'f32.proj.weight', 4 * 30 + 2, 0x80)
    expect_failure(lorapack, case.replay(), 'f32.proj.weight: row 1, column 9: ', f'found 0x{bits ^ 0x800000:08x} ({wrong:g})',
                   f'must be 0x{bits:08x} ({value:g})', '1 of 5 tensors differs')
    flip(file, 'norm.weight', 2 * 4) # which is copied
    expect_failure(lorapack, case.replay(), 'f32.proj.weight: row 1, column 9: ', '2 of 5 tensors differ')
    file.write_bytes(good)
    flip(file, 'norm.weight', 2 * 4)
    expect_failure(lorapack, case.replay(), 'norm.weight: row 0, column 4: ')
    file.write_bytes(good.replace(b'"format":"pt"', b'"format":"tf"'))
    expect_failure(lorapack, case.replay(), 'out/model.safetensors: format: tf, must be pt')
    file.write_bytes(good.replace(b'norm.weight', b'mean.weight'))
    expect_failure(lorapack, case.replay(), 'mean.weight at 0x', 'is here, must be norm.weight')
    file.write_bytes(good[:-9])
    expect_failure(lorapack, case.replay(), 'out/model.safetensors', 'cut short')
    file.write_bytes(good[:50])
    expect_failure(lorapack, case.replay(), 'out/model.safetensors')
    shutil.copyfile(case.base / 'model.safetensors', file) # not merged at all
    expect_failure(lorapack, case.replay(), 'f64.proj.weight: row 0, column 0: ', '4 of 5 tensors differ')
    file.unlink()
    expect_failure(lorapack, case.replay(), 'out')


def test_shards(lorapack, folder):
    case = Case(folder)
    (case.base / 'model.safetensors').unlink()
    shards = {f'model-0000{i + 1}-of-00005.safetensors': {name: tensor} for i, (name, tensor) in enumerate(case.held.items())}
    for name, held in shards.items():
        tensors.write_file(case.base / name, held)
    index = {'weight_map': {name: shard for shard, held in shards.items() for name in held}}
    (case.base / 'model.safetensors.index.json').write_text(json.dumps(index))
    case.merge(lorapack, '--receipt-digests')
    lorapack.must(*case.replay())
    second, fourth = sorted(case.out.glob('*.safetensors'))[1:4:2]
    flip(second, 'f32.proj.weight', 0)
    flip(fourth, 'bf16.proj.weight', 0)
    expect_failure(lorapack, case.replay(), 'f32.proj.weight: row 0, column 0: ', '2 of 5 tensors differ')
    single = folder / 'single.safetensors'
    shutil.copyfile(second, single)
    expect_failure(lorapack, case.replay(single), 'a file, must be a directory as the base is')
    fourth.unlink()
    expect_failure(lorapack, case.replay(), 'model-00004-of-00005.safetensors')


def test_other_inputs(lorapack, folder):
    case = Case(folder)
    case.merge(lorapack, '--receipt-digests')
    (folder / 'other').mkdir()
    other = Case(folder / 'other', seed=2)
    both = [case.adapter, other.adapter]
    ids = {adapter: json.loads(lorapack.must('inspect', adapter, '--json'))['adapters'][0]['id'] for adapter in both}
    expect_failure(lorapack, case.replay(adapters=[other.adapter]), 'r.json: adapters[0].id: ', *ids.values(), '(a)')
    expect_failure(lorapack, case.replay(adapters=[f'{case.adapter}=0.5']), 'adapters[0].weight: 1 in the receipt', 'gives 0.5')
    expect_failure(lorapack, case.replay(adapters=both), 'adapters: an array of 1 in the receipt', 'an array of 2')
    lorapack.must('pack', case.adapter, '-o', folder / 'a.lora', '--name', 'anew') # is the same adapter
    lorapack.must(*case.replay(adapters=[folder / 'a.lora']))
    (folder / 'third').mkdir()
    third = Case(folder / 'third', cols=22)
    expect_failure(lorapack, case.replay(base=third.base), 'r.json: base.structure: ')
    flip(case.base / 'model.safetensors', 'norm.weight', 2) # the same structure, other data
    code, _, message = lorapack.run(*case.replay())
    expect((code, 'norm.weight: row 0, column 1: ' in message), (1, True), message)


def test_the_order_of_adapters(lorapack, folder):
    case, packed = Case(folder), folder / 'b.lora'
    write_adapter(folder / 'b', {name: tensor for name, tensor in case.lora.items() if 'f16' not in name})
    lorapack.must('pack', folder / 'b', '-o', packed)
    both = [f'{case.adapter}=0.5', f'{packed}#b=-2']
    lorapack.must(*merge(case.base, both, case.out), '--receipt', case.receipt)
    lorapack.must(*case.replay(adapters=both))
    expect_failure(lorapack, case.replay(adapters=both[::-1]), 'adapters[0].id')


def test_a_changed_number(lorapack, folder):
    """Every number of the receipt counts; sums only to 1e-6, since another version may add up in another order."""
    case = Case(folder)
    good = case.merge(lorapack, '--receipt-digests')

    def changed(*path, by):
        receipt = json.loads(json.dumps(good))
        at = receipt
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = by(at[path[-1]])
        case.receipt.write_text(json.dumps(receipt))
        return case.replay()

    def more(x):
        return x + 1

    def another(digest):
        return ('1' if digest[0] == '0' else '0') + digest[1:]

    for path, by, field in (
            (('arithmetic',), lambda _: 'spec 7 of 9', 'arithmetic'),
            (('base', 'n_tensors'), more, 'base.n_tensors'),
            (('adapters', 0, 'n_matched'), more, 'adapters[0].n_matched'),
            (('sites', 1, 'scale'), lambda x: x * (1 + 1e-12), 'sites[1].scale'),
            (('sites', 1, 'tensor'), lambda _: 'other', 'sites[1].tensor'),
            (('coverage', 'total'), more, 'coverage.total'),
            (('tensors', 'changed'), more, 'tensors.changed'),
            (('n_bytes',), more, 'n_bytes'),
            (('counts', 'nan'), more, 'counts.nan'),
            (('vocab_size',), lambda _: 5, 'vocab_size'),
            (('unties',), lambda _: True, 'unties'),
            (('changes', 1, 'n_unchanged'), more, 'changes[1].n_unchanged'),
            (('changes', 1, 'max_ulp'), more, 'changes[1].max_ulp'),
            (('changes', 1, 'n_inf'), more, 'changes[1].n_inf'),
            (('changes', 1, 'norm'), lambda x: x * (1 + 2e-6), 'changes[1].norm'),
            (('changes', 1, 'norm'), lambda _: None, 'changes[1].norm'),
            (('changes', 1, 'projection'), lambda x: x - 2e-6, 'changes[1].projection'),
            (('changes',), lambda x: x[1:], 'changes'),
            (('changes',), lambda _: None, 'changes'),
            (('digests', 4, 'sha256'), another, 'digests[4].sha256')):
        expect_failure(lorapack, changed(*path, by=by), f'r.json: {field}: ', ' in the receipt, replaying gives ')
    for key in ('norm', 'norm_realised', 'projection'):
        lorapack.must(*changed('changes', 1, key, by=lambda x: x * (1 + 1e-7)))
    lorapack.must(*changed('release', by=lambda _: '9.9'))


def test_hostile_receipts(lorapack, folder):
    case = Case(folder)
    good = case.merge(lorapack)
    text = case.receipt.read_text()
    for hostile, words in (
            ('', 'the text ends'),
            ('[]', 'dry_run: is missing, must be true or false in the receipt of a merge'),
            ('{"dry_run": 1}', 'dry_run: is a number, must be true or false'),
            ('[' * 100000, 'nest'),
            (text[:1000], 'the text ends'),
            (text.replace('"dry_run": false', '"dry_run": false, "dry_run": true'), 'dry_run at 0x', ),
            (text.replace('"orientation": null', '"orientation": "up"'), 'options.orientation: "up", must be out-in, in-out or shape'),
            (text.replace('"experts_orientation": null', '"experts_orientation": "shape"'), 'must be out-in or in-out'),
            (text.replace('"rslora": false', '"rslora": true'), 'options.rslora: true without an alpha'),
            (text.replace('"map": []', '"map": [5]'), 'map: is a number, must be an array of OLD=NEW'),
            (text.replace('"map": []', '"map": ["x"]'), 'map: is a text, must be an array of OLD=NEW'),
            (text.replace('"alpha": null', '"alpha": 1e999'), 'alpha: is a number, must be a finite number or null'),
            (json.dumps({**good, 'sites': {}}), 'sites: an object in the receipt, replaying gives an array of 4'),
            (json.dumps({**good, 'base': None}), 'base: null in the receipt, replaying gives an object'),
            (json.dumps({key: value for key, value in good.items() if key != 'changes'}),
             'changes: nothing in the receipt, replaying gives an array of 4'),
            (json.dumps({**good, 'changes': [{'tensor': 'x' * 100000}] * 4}), 'changes[0].tensor: "xxx')):
        case.receipt.write_text(hostile)
        code, _, message = lorapack.run(*case.replay())
        expect((code, words in message, len(message) < 4000), (1, True, True), message)
    expect_failure(lorapack, replay(folder / 'none.json', case.base, [case.adapter], case.out), 'none.json: ')
    expect_failure(lorapack, replay(folder, case.base, [case.adapter], case.out), 'a directory, must be a regular file')


if __name__ == '__main__':
    sys.exit(run_tests(globals(), lambda folder: (Lorapack(sys.argv[1]), folder)))
