# SPDX-License-Identifier: MIT
"""New adapters: what they start with, which tensors they are for, how large they are, and what is left of a base.

usage: test_init.py LORAPACK DEMO_MODEL
"""
import json
import math
import pathlib
import shutil
import statistics
import struct
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge, same_files

NORMAL = statistics.NormalDist()
SIGMAS = 5 # a right program fails a bound of so many deviations once in 1.7 million seeds
CHANCE = 1e-6 # the same for bounds that are probabilities
Q = 'model.layers.{}.self_attn.q_proj'


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def at_most(value, bound, what):
    if not value <= bound:
        raise Complaint(f'{what}: {value}, at most {bound}')


class Maker:
    """Runs lorapack init in a scratch folder, and reads what it made."""

    def __init__(self, lorapack, base, scratch):
        self.lorapack, self.base, self.scratch = lorapack, base, scratch

    def make(self, name, target, *more, base=None):
        """Path of a new adapter, of rank 8 unless more says so."""
        path = self.scratch / f'{name}.lora'
        rank = () if '--rank' in more else ('--rank', '8')
        self.lorapack.must('init', '--base', base or self.base, '--target', target, *rank, '-o', path, *more)
        return path

    def factors(self, path):
        """Tensors by module and letter, as PEFT has them."""
        folder = path.with_suffix('.peft')
        self.lorapack.must('unpack', path, '-o', folder)
        found = {}
        for name, tensor in tensors.read_file(folder / 'adapter_model.safetensors').tensors.items():
            module, _, letter = name.removeprefix('base_model.model.').removesuffix('.weight').rpartition('.lora_')
            found[module, letter.removeprefix('embedding_')] = tensor
        return found

    def inspect(self, path):
        """What inspect says of the adapter."""
        return json.loads(self.lorapack.must('inspect', path, '--json'))['adapters'][0]


# --- the numbers, computed again ---

MASK = 2**64 - 1
GOLDEN = 0x9e3779b97f4a7c15


def mix(z):
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9 & MASK
    z = (z ^ z >> 27) * 0x94d049bb133111eb & MASK
    return z ^ z >> 31


def uniform(seed, name, n):
    """n numbers in (0, 1) of a tensor's."""
    key = mix(seed + GOLDEN & MASK)
    for byte in name.encode():
        key = mix((key ^ byte) + GOLDEN & MASK)
    return [((mix(key + (i + 1) * GOLDEN & MASK) >> 12) + 0.5) / 2**52 for i in range(n)]


def rounded(x):
    return struct.unpack('<f', struct.pack('<f', x))[0]


def check_numbers(maker):
    """Each number is the one that the header describes; Python's own quantiles may differ in a last bit, through its logarithm."""
    gaussian = maker.factors(maker.make('gaussian', 'q_proj', '--seed', str(2**64 - 1)))
    kaiming = maker.factors(maker.make('kaiming', 'q_proj', '--seed', '3', '--init', 'kaiming'))
    for layer in 0, 5:
        module = Q.format(layer)
        expect(gaussian[module, 'A'].shape, (8, 144), 'shape')
        for found, u in zip(tensors.values(gaussian[module, 'A']), uniform(2**64 - 1, module + '.weight', 8 * 144)):
            at_most(abs(found - NORMAL.inv_cdf(u) / 8), abs(found) * 2**-23, 'a normal number')
        wanted = [rounded((2 * u - 1) / 12) for u in uniform(3, module + '.weight', 8 * 144)] # 12 is the root of 144
        expect(list(tensors.values(kaiming[module, 'A'])), wanted, 'uniform numbers')


# --- the distribution ---

def correlation(x, y):
    """Of two samples whose mean is known to be 0."""
    return sum(a * b for a, b in zip(x, y)) / math.sqrt(sum(a * a for a in x) * sum(b * b for b in y))


def check_distribution(sample, cdf, deviation, kurtosis, what):
    """Mean, variance, all quantiles (Dvoretzky, Kiefer and Wolfowitz 1956) and neighbours."""
    n = len(sample)
    at_most(abs(statistics.fmean(sample)), SIGMAS * deviation / math.sqrt(n), f'{what}: mean')
    variance = statistics.fmean(x * x for x in sample)
    at_most(abs(variance / deviation**2 - 1), SIGMAS * math.sqrt((kurtosis - 1) / n), f'{what}: variance')
    far = max(max(abs((i + 1) / n - cdf(x)), abs(i / n - cdf(x))) for i, x in enumerate(sorted(sample)))
    at_most(far, math.sqrt(math.log(2 / CHANCE) / 2 / n), f'{what}: distance from the distribution')
    at_most(abs(correlation(sample, sample[1:])), SIGMAS / math.sqrt(n), f'{what}: correlation of neighbours')


def check_extremes(sample, tail, what):
    """The largest |x| is where it is but once in a million: n tail(x) is the chance of a larger one, (1 - tail(x))^n of a smaller one."""
    largest, n = max(map(abs, sample)), len(sample)
    at_most(CHANCE, n * tail(largest), f'{what}: the largest is too large')
    at_most(CHANCE, math.exp(-n * tail(largest)), f'{what}: the largest is too small')


def check_statistics(maker):
    """A of all layers together; and no two layers alike."""
    gaussian = maker.factors(maker.make('many', 'q_proj,o_proj', '--rank', '16'))
    kaiming = maker.factors(maker.make('many-kaiming', 'q_proj,o_proj', '--rank', '16', '--init', 'kaiming'))
    parts = {key: tensors.values(tensor) for key, tensor in gaussian.items() if key[1] == 'A'}
    sample = [x for part in parts.values() for x in part]
    expect(len(sample), 12 * 16 * 144, 'numbers')
    check_distribution(sample, lambda x: NORMAL.cdf(16 * x), 1 / 16, 3, 'gaussian')
    check_extremes(sample, lambda x: 2 * NORMAL.cdf(-16 * x), 'gaussian')
    keys = sorted(parts)
    for i, one in enumerate(keys):
        for other in keys[:i]:
            at_most(abs(correlation(parts[one], parts[other])), (SIGMAS + 1) / math.sqrt(16 * 144), f'{one} and {other}')
    sample = [x for key, tensor in kaiming.items() if key[1] == 'A' for x in tensors.values(tensor)]
    check_distribution(sample, lambda x: (12 * x + 1) / 2, 1 / 12 / math.sqrt(3), 9 / 5, 'kaiming')
    check_extremes(sample, lambda x: 1 - 12 * x, 'kaiming')
    if max(map(abs, sample)) > 1 / 12:
        raise Complaint('kaiming: a number is beyond 1 / sqrt(in)')


def check_embedding(maker):
    """A is zero and B standard normal, whatever the rank; names with embed in them are linear all the same where they are not one."""
    path = maker.make('embedding', 'embed_tokens,q_proj', '--rank', '64')
    found = maker.factors(path)
    a, b = found['model.embed_tokens', 'A'], found['model.embed_tokens', 'B']
    expect((a.shape, b.shape), ((64, 256), (144, 64)), 'shapes of an embedding')
    expect(set(a.data), {0}, 'A of an embedding')
    expect({byte for key, tensor in found.items() if key[0] != 'model.embed_tokens' and key[1] == 'B' for byte in tensor.data}, {0}, 'B')
    check_distribution(tensors.values(b), NORMAL.cdf, 1, 3, 'embedding')
    check_extremes(tensors.values(b), lambda x: 2 * NORMAL.cdf(-x), 'embedding')
    expect([site['kind'] for site in maker.inspect(path)['sites']], ['embedding'] + 6 * ['linear'], 'kinds')


# --- merging, seeds, targets ---

def check_identity(maker):
    """Merging what was not trained gives the base, to the bit, and what is recorded of that fits."""
    targets = 'all-linear,lm_head,embed_tokens'
    for i, more in enumerate(((), ('--init', 'kaiming', '--rslora', '--alpha', '16'), ('--dtype', 'bf16', '--seed', '9'), ('--dtype', 'f16'))):
        path, merged = maker.make(f'identity-{i}', targets, *more), maker.scratch / f'identity-{i}'
        maker.lorapack.must('verify', path, '--base', maker.base)
        maker.lorapack.must(*merge(maker.base, [path], merged))
        if not same_files(merged, maker.base):
            raise Complaint(f'merging {more} changes the base')
        found = maker.inspect(path)
        expect((found['name'], found['n_sites'], found['base']['structure'] is None), (f'identity-{i}', 44, False), 'what is recorded')
        scale = 16 / math.sqrt(8) if i == 1 else 1
        expect({(site['alpha'], site['scale']) for site in found['sites']}, {(16 if i == 1 else 8, scale)}, 'alpha and scale')


def check_seeds(maker):
    """The same seed gives the same bytes with any threads, another seed others; and no number depends on other targets."""
    one = maker.make('one', 'q_proj,v_proj', '--seed', '7', '--name', 'n', '--threads', '1')
    same = maker.make('same', 'v_proj', '--target', 'q_proj', '--seed', '7', '--name', 'n', '--threads', '4')
    other = maker.make('other', 'q_proj,v_proj', '--seed', '8', '--name', 'n')
    alone = maker.factors(maker.make('alone', Q.format(3), '--seed', '7'))
    expect(one.read_bytes() == same.read_bytes(), True, 'the same seed gives the same bytes')
    one, other = maker.factors(one), maker.factors(other)
    expect([key for key in one if key[1] == 'A' and one[key] == other[key]], [], 'the same numbers of two seeds')
    expect(alone, {key: tensor for key, tensor in one.items() if key[0] == Q.format(3)}, 'a target alone')
    expect(len({tensor.data[:64] for key, tensor in one.items() if key[1] == 'A'}), 12, 'different beginnings')


def check_targets(maker):
    """Names as PEFT's lists have them, patterns for whole names, and exclusions."""
    linear = [f'{part}.{name}' for part, names in (('mlp', ('down_proj', 'gate_proj', 'up_proj')),
                                                   ('self_attn', ('k_proj', 'o_proj', 'q_proj', 'v_proj'))) for name in names]
    wanted = {('all-linear',): {f'model.layers.{i}.{name}' for i in range(6) for name in linear},
              ('self_attn.q_proj',): {Q.format(i) for i in range(6)},
              (Q.format(2),): {Q.format(2)},
              ('*.layers.0.*.q_proj',): {Q.format(0)},
              ('*.layers.0.*_proj', '--exclude', 'mlp.*,o_proj', '--exclude', '*.mlp.*'): None,
              ('*.layers.0.*_proj', '--exclude', '*.mlp.*,o_proj'): {f'model.layers.0.self_attn.{x}_proj' for x in 'kqv'},
              ('all-linear,lm_head', '--exclude', '*.layers.*'): {'lm_head'}}
    for i, (arguments, names) in enumerate(wanted.items()):
        if names is None: # mlp.* is a whole name, and there is none
            expect(maker.lorapack.run('init', '--base', maker.base, '--rank', '1', '-o', maker.scratch / 'none', '--target', *arguments)[0], 1,
                   'a pattern that excludes nothing')
            continue
        found = maker.inspect(maker.make(f'targets-{i}', *arguments))
        expect({site['target'] for site in found['sites']}, {f'{name}.weight' for name in names}, f'targets of {arguments}')


def check_heads(maker):
    """Heads are known by name, or by the embedding's shape outside the layers; norms and embeddings by name."""
    def matrix(*shape):
        return tensors.Tensor('F32', shape, bytes(4 * math.prod(shape)))
    names = {'wte': (9, 4), 'head': (9, 4), 'h.0.out': (9, 4), 'h.0.x_embedder': (4, 4), 'score': (2, 4), 'h.0.ln_1': (2, 2),
             'pos_emb': (5, 4), 'mid': (5, 5), 'h.0.norm_q': (2, 2), 'output': (9, 4)}
    base = maker.scratch / 'heads.safetensors'
    tensors.write_file(base, {f'{name}.weight': matrix(*shape) for name, shape in names.items()})
    found = maker.inspect(maker.make('heads', 'all-linear', '--rank', '1', base=base))
    expect([site['target'] for site in found['sites']], ['h.0.out.weight', 'h.0.x_embedder.weight', 'mid.weight'], 'all-linear')


def check_orientation(maker):
    """GPT-2 stores [in, out]."""
    base = maker.scratch / 'turned.safetensors'
    tensors.write_file(base, {'c_attn.weight': tensors.Tensor('F32', (6, 10), bytes(240))})
    path = maker.make('turned', 'c_attn', '--rank', '2', '--orientation', 'in-out', base=base)
    found = maker.factors(path)
    expect((found['c_attn', 'A'].shape, found['c_attn', 'B'].shape), ((2, 6), (10, 2)), 'shapes')
    expect(maker.inspect(path)['sites'][0]['orientation'], 'in-out', 'orientation')
    maker.lorapack.must('verify', path, '--base', base)


def check_sizes(maker):
    """By hand: a layer of the demo model has matrices 144 x 144 (q, o), 48 x 144 (k, v), and three of 384 and 144."""
    per_rank = 6 * (2 * (144 + 144) + 2 * (48 + 144) + 3 * (384 + 144))
    n_base = 2 * 256 * 144 + 6 * (2 * 144 * 144 + 2 * 48 * 144 + 3 * 384 * 144 + 2 * 144) + 144
    arguments = ('init', '--base', maker.base, '--target', 'all-linear', '--what-if', '2,16', '--dtype', 'bf16')
    found = json.loads(maker.lorapack.must(*arguments, '--json'))
    expect((found['n_base_parameters'], found['n_linear'], found['n_embedding']), (n_base, 42, 0), 'base')
    expect(found['ranks'], [{'rank': r, 'n_parameters': r * per_rank, 'share': r * per_rank / n_base, 'n_bytes': 2 * r * per_rank}
                            for r in (2, 16)], 'what if')
    expect(maker.lorapack.must(*arguments), f'{maker.base}: 1.4 M parameters; of an adapter for 42 linear, in BF16:\n'
           '  rank  trainable   share  factors\n     2      30528  2.18 %   60 KiB\n    16     244224  17.4 %  477 KiB\n', 'a table')
    path = maker.scratch / 'sized.lora'
    made = json.loads(maker.lorapack.must('init', '--base', maker.base, '--target', 'all-linear', '--rank', '16', '--dtype', 'bf16', '-o', path,
                                          '--json'))
    expect((made['n_parameters'], made['n_bytes'], len(made['sites'])), (16 * per_rank, 32 * per_rank, 42), 'what was made')
    adapter = maker.inspect(path)
    expect((adapter['n_parameters'], adapter['n_bytes'], adapter['id']), (16 * per_rank, 32 * per_rank, made['id']), 'what is there')


# --- decompositions ---

class Matrix:
    """Rows of floats."""

    def __init__(self, rows):
        self.rows = rows

    @classmethod
    def of(cls, tensor):
        numbers, width = tensors.values(tensor), tensor.shape[1]
        return cls([list(numbers[i:i + width]) for i in range(0, len(numbers), width)])

    def turned(self):
        return Matrix([list(column) for column in zip(*self.rows)])

    def times(self, other, scale=1.0):
        columns = other.turned().rows
        return Matrix([[scale * sum(map(float.__mul__, row, column)) for column in columns] for row in self.rows])

    def minus(self, other):
        return Matrix([[a - b for a, b in zip(row, more)] for row, more in zip(self.rows, other.rows)])

    def positive(self):
        return Matrix([[abs(x) for x in row] for row in self.rows])

    def norm(self):
        return math.sqrt(sum(x * x for row in self.rows for x in row))

    def largest(self):
        """The largest singular value, from below, by power iteration from a vector that is nothing in particular."""
        vector = Matrix([[math.sin(i + 1)] for i in range(len(self.rows[0]))])
        turned, value = self.turned(), 0
        for _ in range(30):
            image = self.times(vector)
            value = image.norm() / vector.norm()
            vector = turned.times(image)
            vector = Matrix([[x[0] / vector.norm()] for x in vector.rows])
        return value


def decomposed(maker, method, *more, base=None):
    """Factors, weights before, and weights of the residual base, by module."""
    base, name = base or maker.base, f'{method}-{len(list(maker.scratch.iterdir()))}'
    residual = maker.scratch / f'{name}-residual{base.suffix}'
    target = ('*.layers.0.*_proj',) if base == maker.base else ('c_attn',)
    path = maker.make(name, *target, '--init', method, '--residual', residual, '--alpha', '24', *more, base=base)
    return path, residual, maker.factors(path)


def check_best(w, a, b, scale, what):
    """
    scale B A is the best approximation of its rank (Eckart and Young), but for rounding the factors, each by 2^-24 at most: what is left
    is orthogonal to both, and has no singular value above the least of it, which the orthogonal rows of A show.
    """
    rest = w.minus(b.times(a, scale))
    rounding = 2**-24 * (rest.norm() + 2 * scale * a.norm() * b.norm())
    at_most(b.turned().times(rest).norm(), rounding * b.norm(), f'{what}: B and what is left')
    at_most(rest.times(a.turned()).norm(), rounding * a.norm(), f'{what}: A and what is left')
    for factor in a, b.turned():
        square = factor.times(factor.turned()).rows
        for i, row in enumerate(square):
            at_most(max(abs(x) for j, x in enumerate(row) if j != i), 2**-22 * a.norm()**2, f'{what}: rows of a factor are orthogonal')
            at_most(abs(row[i] - sum(x * x for x in a.rows[i])), 2**-22 * a.norm()**2, f'{what}: A and B share the singular values')
    least = scale * min(sum(x * x for x in row) for row in a.rows)
    at_most(rest.largest(), least * (1 + 2**-20), f'{what}: a direction that was left')


def check_back(before, residual, after, terms, what):
    """
    The residual is one rounding of bf16 away from base - update, and merging gives one rounding more, each of 2^-8 of the result at most.
    Before that, updates of rank 8 are added up and scaled in f32 both times: ten roundings, each of 2^-24 of the sum of the terms' magnitudes.
    """
    for w, r, back, t in zip(*(tensors.values(x) for x in (before, residual, after)), (x for row in terms.rows for x in row)):
        sums = 20 * 2**-24 * (abs(w) + abs(r) + t)
        at_most(abs(back - w), 2**-8 * (abs(r) + abs(back)) + sums, f'{what}: base, and residual with adapter')


def check_residual(maker):
    """PiSSA and OLoRA: what the factors are, that residual and adapter are the base, and that the adapter fits no other."""
    base = tensors.read_model(maker.base)
    for method in 'pissa', 'olora':
        path, residual, factors = decomposed(maker, method)
        merged = maker.scratch / f'{method}-back'
        maker.lorapack.must(*merge(residual, [path], merged))
        rest, back = tensors.read_model(residual), tensors.read_model(merged)
        adapted = [name for name in base if (name.removesuffix('.weight'), 'A') in factors]
        expect([name for name in base if rest[name] != base[name]], adapted, 'tensors of the residual base that changed')
        for name in adapted:
            module = name.removesuffix('.weight')
            w, a, b = Matrix.of(base[name]), Matrix.of(factors[module, 'A']), Matrix.of(factors[module, 'B'])
            check_back(base[name], rest[name], back[name], b.positive().times(a.positive(), 3), f'{method} {module}')
            if method == 'pissa':
                check_best(w, a, b, 3, module)
            else:
                check_qr(w, a, b, module)
        code, _, message = maker.lorapack.run('merge', '--base', maker.base, '--adapter', path, '-o', maker.scratch / 'wrong')
        expect((code, 'the base has other values here than the one the adapter was packed for' in message), (1, True), 'the base it was')


def check_qr(w, a, b, what):
    """B is orthonormal, A has zeros below its diagonal, and together they are the first columns of W."""
    rank = len(a.rows)
    unit = Matrix([[float(i == j) for j in range(rank)] for i in range(rank)])
    at_most(b.turned().times(b).minus(unit).norm(), 2**-22 * rank, f'{what}: B is orthonormal')
    expect({x for i, row in enumerate(a.rows) for x in row[:i]}, {0.0}, f'{what}: A is a trapezoid')
    first = Matrix([row[:rank] for row in b.times(a).minus(w).rows])
    at_most(first.norm(), 2**-23 * a.norm() * b.norm(), f'{what}: the first columns')


def check_turned_residual(maker):
    """A base that is stored the other way round has the same decompositions."""
    weights = tensors.read_model(maker.base)['model.layers.0.self_attn.k_proj.weight']
    numbers = [x for row in Matrix.of(weights).turned().rows for x in row]
    turned = tensors.Tensor('F64', weights.shape[::-1], struct.pack(f'<{len(numbers)}d', *numbers))
    straight, other = maker.scratch / 'straight.safetensors', maker.scratch / 'other.safetensors'
    tensors.write_file(straight, {'c_attn.weight': weights})
    tensors.write_file(other, {'c_attn.weight': turned})
    for method in 'pissa', 'olora':
        found = [decomposed(maker, method, *more, base=base)[2] for base, more in ((straight, ()), (other, ('--orientation', 'in-out')))]
        products = [Matrix.of(x['c_attn', 'B']).times(Matrix.of(x['c_attn', 'A'])) for x in found]
        at_most(products[0].minus(products[1]).norm(), 2**-22 * products[0].norm(), f'{method} of what is turned')


# --- mistakes ---

def check_usage(maker):
    """Wrong usage is 2."""
    full = {'--base': maker.base, '--target': 'q_proj', '--rank': '4', '-o': maker.scratch / 'x.lora'}
    changes = {'--base is missing': {'--base': None}, '--target is missing': {'--target': None},
               '--rank is missing (or --what-if)': {'--rank': None}, '-o OUT.lora is missing (or --what-if)': {'-o': None},
               '--target q_proj,,v_proj: a name is empty': {'--target': 'q_proj,,v_proj'},
               '--rank 0: must be 1 .. 1024': {'--rank': '0'},
               '--alpha inf: must be a finite number': {'--alpha': 'inf'},
               '--seed -1: must be a whole number below 2^64': {'--seed': '-1'},
               '--seed 18446744073709551616: must be a whole number below 2^64': {'--seed': str(2**64)},
               '--what-if 2x: must be 1 .. 1048576': {'--what-if': '4,2x', '--rank': None, '-o': None},
               '--what-if writes nothing and has ranks of its own: without --rank, -o and --residual': {'--what-if': '4'},
               '--residual is for --init pissa and --init olora, others leave the base as it is': {'--residual': maker.scratch / 'r'},
               '--residual OUT is missing: after --init pissa the base is another one': {'--init': 'pissa'}}
    for wanted, change in changes.items():
        arguments = [x for pair in {**full, **change}.items() if pair[1] is not None for x in pair]
        expect(maker.lorapack.run('init', *arguments), (2, '', f'lorapack: init: {wanted} (see lorapack init --help)'), 'wrong usage')


def check_refusals(maker):
    """What cannot be done is 1, and nothing is written."""
    scratch, weights = maker.scratch, tensors.Tensor('F32', (4, 4), bytes(64))
    bases = {'int8': {'q_proj.weight': tensors.Tensor('I8', (4, 4), bytes(16))},
             'scaled': {'q_proj.weight': weights, 'q_proj.weight_scale': weights},
             'nan': {'q_proj.weight': tensors.Tensor('F32', (1, 2), struct.pack('<2f', 1, math.nan))}}
    for name, content in bases.items():
        tensors.write_file(scratch / f'{name}.safetensors', content)
    quantised = scratch / 'quantised'
    shutil.copytree(maker.base, quantised)
    (quantised / 'config.json').write_text(json.dumps({'quantization_config': {'quant_method': 'gptq'}}))
    q, residual = Q.format(0) + '.weight', ('--residual', scratch / 'refused')
    cases = [('q_prj', (), 'q_prj: matches no weight of the base; near are q_proj, k_proj, o_proj'),
             ('all_linear', (), 'all_linear: matches no weight of the base; near are all-linear, lm_head, gate_proj'),
             ('model.norm', (), 'model.norm.weight: has shape [144], must be a matrix; exclude it'),
             ('q_proj', ('--exclude', 'v_proj'), 'v_proj: excludes nothing: no target matches it'),
             ('q_proj', ('--exclude', 'all-linear'), 'excludes: all targets are excluded'),
             ('embed_tokens', ('--init', 'pissa', *residual), 'model.embed_tokens.weight: is an embedding, pissa is for linear layers'),
             ('k_proj', ('--init', 'olora', '--rank', '49', *residual),
              f'{q.replace("q_proj", "k_proj")}: rank 49, must be at most 48 for olora, the smaller side of this matrix'),
             ('q_proj', ('--init', 'pissa', '--alpha', '-1', *residual), 'alpha: -1, must be above 0 for pissa, which divides by the scale')]
    others = [(quantised, (), 'the base is quantised (gptq): init from the original weights'),
              (scratch / 'int8.safetensors', (), 'q_proj.weight: the base has I8; only F32, F16, BF16 and F64 can be added to'),
              (scratch / 'scaled.safetensors', (), 'q_proj.weight: the base is quantised (it has q_proj.weight_scale beside it): merge '
               'into the original weights'),
              (scratch / 'nan.safetensors', ('--init', 'pissa', '--rank', '1', *residual), 'q_proj.weight: has a weight that is NaN or infinite')]
    for base, target, more, wanted in [(maker.base, *case) for case in cases] + [(base, 'q_proj', *rest) for base, *rest in others]:
        rank = () if '--rank' in more else ('--rank', '4')
        found = maker.lorapack.run('init', '--base', base, '--target', target, *rank, '-o', scratch / 'refused.lora', *more)
        expect(found, (1, '', f'lorapack: {base}: {wanted}'), f'{target} {more}')
    expect(list(scratch.glob('refused*')), [], 'what is left of refusals')
    for output, wanted in ((quantised / 'config.json', 'exists already; --force replaces it'),
                           (scratch / 'nowhere/x.lora', 'cannot be written: its directory is not there')):
        code, _, message = maker.lorapack.run('init', '--base', maker.base, '--target', 'q_proj', '--rank', '1', '-o', output)
        expect((code, message), (1, f'lorapack: {output}: {wanted}'), 'an output that cannot be')
    inside = maker.lorapack.run('init', '--base', maker.base, '--target', 'q_proj', '--rank', '1', '--init', 'pissa', '--residual', scratch / 'r',
                                '-o', scratch / 'r/x.lora')
    expect(inside[0], 1, 'an adapter in a residual base that is not there yet')


def main():
    lorapack, base = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2]) / 'base'
    checks = (check_numbers, check_statistics, check_embedding, check_identity, check_seeds, check_targets, check_heads, check_orientation,
              check_sizes, check_residual, check_turned_residual, check_usage, check_refusals)
    n_failed = 0
    for check in checks:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check(Maker(lorapack, base, pathlib.Path(folder)))
            except Complaint as complaint:
                print(f'FAIL {check.__name__}: {complaint}')
                n_failed += 1
    print(f'{len(checks) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
