# SPDX-License-Identifier: MIT
"""Adapters out of two models: what was planted is found, what is lost is said, nothing that changed is forgotten.

usage: test_extract.py LORAPACK
"""
import json
import math
import pathlib
import random
import struct
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge

EMBED, HEAD, NORM = 'model.embed_tokens.weight', 'lm_head.weight', 'model.norm.weight'
Q, UP, CONV = 'model.layers.0.self_attn.q_proj.weight', 'model.layers.0.mlp.up_proj.weight', 'model.conv.weight'
SHAPES = {EMBED: (12, 16), HEAD: (12, 16), Q: (20, 16), UP: (24, 16), NORM: (16,), CONV: (4, 2, 3)}


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def near(value, wanted, tolerance, what):
    if not abs(value - wanted) <= tolerance:
        raise Complaint(f'{what}: {value!r}, not {wanted!r} +- {tolerance!r}')


def f32(shape, numbers):
    return tensors.Tensor('F32', tuple(shape), struct.pack(f'<{len(numbers)}f', *numbers))


def bf16(tensor):
    """The upper halves."""
    data = bytearray(len(tensor.data) // 2)
    data[0::2], data[1::2] = tensor.data[2::4], tensor.data[3::4]
    return tensors.Tensor('BF16', tensor.shape, bytes(data))


def drawn(seed, shape, scale=1.0):
    source = random.Random(seed)
    return [scale * source.gauss(0, 1) for _ in range(math.prod(shape))]


def base_model():
    return {name: f32(shape, drawn(name, shape)) for name, shape in SHAPES.items()}


def low_rank(seed, shape, values):
    """Elements of sum_k values[k] u_k v_k', of orthonormal u and v: these are its singular values."""
    def orthonormal(part, n):
        columns = []
        for k in range(len(values)):
            column = drawn(f'{seed} {part} {k}', (n,))
            for other in columns * 2:
                along = sum(x * y for x, y in zip(column, other))
                column = [x - along * y for x, y in zip(column, other)]
            length = math.sqrt(sum(x * x for x in column))
            columns.append([x / length for x in column])
        return columns
    left, right = orthonormal('left', shape[0]), orthonormal('right', shape[1])
    return [sum(value * left[k][i] * right[k][j] for k, value in enumerate(values)) for i in range(shape[0]) for j in range(shape[1])]


def plus(tensor, numbers):
    return f32(tensor.shape, [x + y for x, y in zip(tensors.values(tensor), numbers)])


def distance(left, right):
    """The Frobenius norm of the difference."""
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(tensors.values(left), tensors.values(right))))


class Models:
    """A base and a tuned model in a folder of their own."""

    def __init__(self, lorapack, folder, base=None, **changes):
        self.lorapack, self.folder = lorapack, folder
        self.base = base or base_model()
        self.tuned = dict(self.base)
        self.out = folder / 'out.lora'
        for name in 'base', 'tuned':
            (folder / name).mkdir()
            (folder / name / 'config.json').write_text(json.dumps({'vocab_size': SHAPES[EMBED][0], 'tie_word_embeddings': False} | changes))

    def arguments(self, *more):
        for name, held in ('base', self.base), ('tuned', self.tuned):
            tensors.write_file(self.folder / name / 'model.safetensors', held)
        return ['extract', '--base', self.folder / 'base', '--tuned', self.folder / 'tuned', '-o', self.out, '--force', *more]

    def extract(self, *more):
        """What extract --json says, by tensor, and all of it."""
        found = json.loads(self.lorapack.must(*self.arguments('--json', *more)))
        self.lorapack.must('verify', self.out, '--base', self.folder / 'base')
        said = json.loads(self.lorapack.must('inspect', self.out, '--json'))['adapters'][0]['id']
        expect(found['id'], said, 'id') # which was that of an adapter without its base
        return {tensor.pop('target'): tensor for tensor in found['tensors']}, found

    def refused(self, *more):
        """Exit code and last line."""
        code, output, message = self.lorapack.run(*self.arguments(*more))
        expect(output, '', 'stdout')
        if self.out.exists():
            raise Complaint('something was written')
        return code, message

    def merged(self):
        """The base with the result."""
        self.lorapack.must(*merge(self.folder / 'base', [self.out], self.folder / 'merged'), '--force')
        return tensors.read_model(self.folder / 'merged')


def test_a_planted_update_is_found(models):
    """To rounding of f32: as a linear site, and an embedding with its factors transposed."""
    models.tuned[Q] = plus(models.base[Q], low_rank('q', SHAPES[Q], [3, 2, 1]))
    models.tuned[EMBED] = plus(models.base[EMBED], low_rank('e', SHAPES[EMBED], [2, 1]))
    by_name, found = models.extract('--rank', '3')
    expect(sorted(by_name), sorted([Q, EMBED]), 'tensors')
    expect([by_name[Q][key] for key in ('outcome', 'rank', 'exact')], ['low-rank', 3, True], 'q_proj')
    near(by_name[Q]['norm'], math.sqrt(14), 1e-5, 'norm')
    near(by_name[Q]['truncated'], 0, 1e-5, 'truncated')
    expect(found['n_unchanged'], len(SHAPES) - 2, 'unchanged')
    merged = models.merged()
    for name in SHAPES:
        near(distance(merged[name], models.tuned[name]), 0, 1e-5, f'merged {name}')
    sites = {site['target']: site for site in json.loads(models.lorapack.must('inspect', models.out, '--json'))['adapters'][0]['sites']}
    expect([(sites[Q]['kind'], sites[EMBED]['kind'])], [('linear', 'embedding')], 'kinds')
    expect((sites[Q]['alpha'], sites[Q]['scale']), (3, 1), 'alpha and scale')


def test_rules_choose_the_least_rank(models):
    """By the planted singular values 4, 2, 1, 0.5: energy 16 + 4 + 1 + 0.25."""
    models.tuned[Q] = plus(models.base[Q], low_rank('q', SHAPES[Q], [4, 2, 1, 0.5]))
    for rule, value, rank in (('energy', '0.75', 1), ('energy', '0.76', 2), ('energy', '0.94', 2), ('energy', '0.98', 3), ('energy', '0.995', 4),
                              ('max-error', '0.5', 1), ('max-error', '0.3', 2), ('max-error', '0.2', 3), ('max-error', '0.01', 4)):
        by_name, _ = models.extract(f'--{rule}', value)
        expect(by_name[Q]['rank'], rank, f'--{rule} {value}')
        left_out = math.sqrt(sum(x * x for x in [4, 2, 1, 0.5][rank:]))
        near(by_name[Q]['truncated'], left_out, 1e-5, f'left out by --{rule} {value}')
    by_name, _ = models.extract('--energy', '0.995', '--rank', '2')
    expect(by_name[Q]['rank'], 2, 'a rule and a limit')
    merged = models.merged()
    near(distance(merged[Q], models.tuned[Q]), math.hypot(1, 0.5), 1e-5, 'what merging is off')


def test_factors_in_other_dtypes(models):
    """What rounding them costs is said."""
    models.tuned[Q] = plus(models.base[Q], low_rank('q', SHAPES[Q], [3, 2, 1]))
    by_name, _ = models.extract('--rank', '3', '--dtype', 'bf16')
    merged = models.merged()
    near(distance(merged[Q], models.tuned[Q]), by_name[Q]['rounded'], 1e-5, 'rounded')
    if not 1e-3 < by_name[Q]['rounded'] < 0.05:
        raise Complaint(f'rounded: {by_name[Q]["rounded"]}')


def test_in_out(models):
    """GPT-2's layers: A has the rows of the stored matrix as inputs; the head is stored as ever."""
    for name in Q, HEAD:
        models.tuned[name] = plus(models.base[name], low_rank(name, SHAPES[name], [2, 1]))
    models.extract('--rank', '2', '--orientation', 'in-out')
    merged = models.merged()
    sites = {site['target']: site for site in json.loads(models.lorapack.must('inspect', models.out, '--json'))['adapters'][0]['sites']}
    expect((sites[Q]['orientation'], sites[HEAD]['orientation']), ('in-out', 'out-in'), 'orientations')
    for name in Q, HEAD:
        near(distance(merged[name], models.tuned[name]), 0, 1e-5, f'merged {name}')


def test_targets(models):
    """A matrix that no target takes is not forgotten."""
    for name in Q, UP, HEAD:
        models.tuned[name] = plus(models.base[name], low_rank(name, SHAPES[name], [1]))
    for targets, taken in ((['q_proj,up_proj'], [Q, UP]), (['*.mlp.*'], [UP]), (['layers.0.*', '--target', 'lm_head'], [Q, UP, HEAD]),
                           (['all-linear'], [Q, UP]), ([Q], [Q])):
        by_name, _ = models.extract('--rank', '1', '--target', *targets, '--others', 'skip')
        expect({name: by_name[name]['outcome'] for name in (Q, UP, HEAD)},
               {name: 'low-rank' if name in taken else 'left out' for name in (Q, UP, HEAD)}, f'--target {targets}')
    models.out.unlink()
    expect(models.refused('--rank', '1', '--target', 'q_proj,up_proj'),
           (1, f'lorapack: {models.folder}/tuned: changed tensors that are no low-rank updates: 1; --others says what becomes of them'),
           'a matrix that no target takes')
    expect(models.refused('--rank', '1', '--target', 'v_proj'),
           (1, f'lorapack: {models.folder}/tuned: targets: no tensor of the tuned model is called v_proj'), 'a target that is not there')


def test_others(models):
    """A norm and a convolution: added, replaced, left out, refused."""
    models.tuned |= {name: plus(models.base[name], drawn(f'd{name}', SHAPES[name], 0.1)) for name in (NORM, CONV)}
    models.tuned[Q] = plus(models.base[Q], low_rank('q', SHAPES[Q], [1]))
    code, message = models.refused('--rank', '1')
    expect((code, message.split(': ')[-1]), (1, '2; --others says what becomes of them'), 'refused')
    code, _, _ = models.lorapack.run(*models.arguments('--rank', '1', '--others', 'refuse'))
    expect(code, 1, '--others refuse')
    for others, outcome, tolerance in (('additive', 'additive', 1e-6), ('replace', 'replaced', 0)):
        by_name, _ = models.extract('--rank', '1', '--others', others)
        expect([by_name[name]['outcome'] for name in (NORM, CONV)], [outcome] * 2, others)
        merged = models.merged()
        for name in NORM, CONV:
            near(distance(merged[name], models.tuned[name]), 0, tolerance, f'--others {others}, {name}')
    by_name, _ = models.extract('--rank', '1', '--others', 'skip')
    expect([by_name[name]['outcome'] for name in (NORM, CONV)], ['left out'] * 2, 'skip')
    merged = models.merged()
    expect([merged[name] for name in (NORM, CONV)], [models.base[name] for name in (NORM, CONV)], 'what was left out')


def test_nothing_but_others_left_out(models):
    models.tuned[NORM] = plus(models.base[NORM], [1] * 16)
    expect(models.refused('--rank', '1', '--others', 'skip', '-q'),
           (1, f'lorapack: {models.folder}/tuned: every tensor that differs is left out'), 'nothing left')


def test_a_grown_embedding(models):
    """It is saved whole, or refused by name."""
    rows = drawn('rows', (3, 16))
    for name in EMBED, HEAD:
        models.tuned[name] = f32((15, 16), [*tensors.values(models.base[name]), *rows])
    code, _ = models.refused('--rank', '1')
    expect(code, 1, 'a grown embedding without --others')
    by_name, _ = models.extract('--rank', '1', '--others', 'replace')
    expect([by_name[name]['outcome'] for name in (EMBED, HEAD)], ['saved'] * 2, 'grown')
    merged = models.merged()
    expect([merged[name] for name in (EMBED, HEAD)], [models.tuned[name] for name in (EMBED, HEAD)], 'grown tensors')


def test_tensors_of_one_model(models):
    """A new one can be saved; one that is missing cannot be taken away."""
    models.tuned |= {'score.weight': f32((2, 2), [1, 2, 3, 4]), Q: plus(models.base[Q], low_rank('q', SHAPES[Q], [1]))}
    expect(models.refused('--rank', '1')[0], 1, 'a new tensor')
    expect(models.refused('--rank', '1', '--others', 'additive'), (1, f'lorapack: {models.folder}/tuned: tensors that do not fit: 1'), 'a new one, added')
    by_name, _ = models.extract('--rank', '1', '--others', 'replace')
    expect(by_name['score.weight']['outcome'], 'saved', 'a new tensor')
    expect(models.merged()['score.weight'], models.tuned['score.weight'], 'a new tensor, merged')
    models.out.unlink()
    models.tuned['model.new.weight'] = models.tuned.pop('score.weight')
    expect(models.refused('--rank', '1', '--others', 'replace'), (1, f'lorapack: {models.folder}/tuned: tensors that do not fit: 1'), 'a new one of a module')
    del models.tuned['model.new.weight'], models.tuned[UP]
    expect(models.refused('--rank', '1', '--others', 'replace'), (1, f'lorapack: {models.folder}/tuned: tensors that do not fit: 1'), 'a missing one')


def test_refusals(models):
    """With the reason, and nothing written."""
    tuned = f'lorapack: {models.folder}/tuned: '
    expect(models.refused('--rank', '1'), (1, tuned + 'no tensor differs'), 'equal models')
    models.tuned[Q] = f32((16, 20), tensors.values(models.base[Q]))
    expect(models.refused('--rank', '1', '--others', 'skip'), (1, tuned + 'tensors that do not fit: 1'), 'another shape')
    for number in math.nan, math.inf:
        models.tuned[Q] = plus(models.base[Q], [0] * 37 + [number] + [0] * (20 * 16 - 38))
        expect(models.refused('--rank', '1'), (1, tuned + f'{Q}: tuned - base is NaN or infinite, first at [2, 5]'), f'{number}')
    (models.folder / 'base/config.json').write_text('{"quantization_config": {"quant_method": "gptq"}}')
    code, message = models.refused('--rank', '1')
    expect((code, 'the base model is quantised' in message), (1, True), f'a quantised base: {message}')


def test_wrong_usage(models):
    for arguments, text in (([], '--rank R, --energy E or --max-error E is missing'), (['--energy', '1.5'], '--energy 1.5: must be a share, 0 .. 1'),
                            (['--energy', '0'], '--energy 0: must be a share, 0 .. 1'), (['--max-error', '1'], '--max-error 1: must be below 1'),
                            (['--energy', '0.5', '--max-error', '0.5'], '--energy and --max-error: one of them'),
                            (['--rank', '1', '--seed', '-1'], '--seed -1: must be a whole number below 2^64'),
                            (['--rank', '1', '--powers', '17'], '--powers 17: must be 1 .. 16'),
                            (['--rank', '1', '--target', 'a,,b'], '--target a,,b: an empty name')):
        code, message = models.refused(*arguments)
        expect((code, message.startswith(f'lorapack: extract: {text}')), (2, True), f'{arguments}: {message}')
    expect(models.refused('--rank', '0')[0], 2, '--rank 0')


def test_what_exists_is_kept_unless_forced(models):
    models.tuned[Q] = plus(models.base[Q], low_rank('q', SHAPES[Q], [1]))
    arguments = [argument for argument in models.arguments('--rank', '1') if argument != '--force']
    models.lorapack.must(*arguments)
    before = models.out.read_bytes()
    expect(models.lorapack.run(*arguments), (1, '', f'lorapack: {models.out}: exists already; --force replaces it'), 'a file that exists')
    expect(models.out.read_bytes(), before, 'the file')
    models.out = models.folder / 'nowhere/out.lora'
    expect(models.refused('--rank', '1'), (1, f'lorapack: {models.out}: there is no such directory'), 'no directory')


def test_dtypes_differ(models):
    """A base in bf16 and a tuned model in f32: both are widened, and what is equal as numbers is equal."""
    models.base = {name: bf16(tensor) for name, tensor in models.base.items()}
    models.tuned = {name: f32(tensor.shape, tensors.values(tensor)) for name, tensor in models.base.items()}
    expect(models.refused('--rank', '1')[1].split(': ')[-1], 'no tensor differs', 'widened')
    models.tuned[Q] = plus(models.tuned[Q], low_rank('q', SHAPES[Q], [2e-4]))
    by_name, _ = models.extract('--rank', '1')
    expect(list(by_name), [Q], 'tensors')
    near(by_name[Q]['norm'], 2e-4, 1e-6, 'a difference far below what bf16 keeps')


def test_a_sketch(models):
    """A matrix too large to be decomposed as a whole: the seed gives the file, threads do not."""
    shape = (544, 528)
    source = random.Random(5)
    noise = [source.uniform(-1e-4, 1e-4) for _ in range(math.prod(shape))]
    models.base = {'a.weight': f32(shape, [0.5] * math.prod(shape))}
    models.tuned = {'a.weight': plus(models.base['a.weight'], [x + y for x, y in zip(low_rank('s', shape, [3, 2, 1]), noise)])}
    files = []
    for arguments in (['--threads', '1'], ['--threads', '2'], ['--seed', '9']):
        by_name, _ = models.extract('--rank', '3', *arguments)
        expect((by_name['a.weight']['rank'], by_name['a.weight']['exact']), (3, False), 'a sketch')
        files.append(models.out.read_bytes())
    expect((files[0] == files[1], files[0] == files[2]), (True, False), 'same files with threads, with another seed')
    sketched = by_name['a.weight']
    near(distance(models.merged()['a.weight'], models.tuned['a.weight']), sketched['truncated'], 1e-4, 'truncated')
    by_name, _ = models.extract('--rank', '3', '--exact')
    expect(by_name['a.weight']['exact'], True, 'exact')
    near(sketched['truncated'] / by_name['a.weight']['truncated'], 1, 1e-4, 'a sketch against all singular values')
    by_name, _ = models.extract('--max-error', '0.3')
    expect((by_name['a.weight']['rank'], by_name['a.weight']['exact']), (2, False), 'a rule')


TESTS = [test_a_planted_update_is_found, test_rules_choose_the_least_rank, test_factors_in_other_dtypes, test_in_out, test_targets, test_others,
         test_nothing_but_others_left_out, test_a_grown_embedding, test_tensors_of_one_model, test_refusals, test_wrong_usage,
         test_what_exists_is_kept_unless_forced, test_dtypes_differ, test_a_sketch]


def main():
    lorapack = Lorapack(sys.argv[1])
    failed = 0
    for test in TESTS:
        with tempfile.TemporaryDirectory() as scratch:
            try:
                test(Models(lorapack, pathlib.Path(scratch)))
            except Complaint as complaint:
                failed += 1
                print(f'{test.__name__}: {complaint}')
    print(f'{len(TESTS)} tests, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
