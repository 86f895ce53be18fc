# SPDX-License-Identifier: MIT
"""compose, resize and inspect --spectrum as commands: what they write, print and refuse.

usage: test_algebra.py LORAPACK DEMO_MODEL
"""
import json
import math
import pathlib
import struct
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge

ADAPTERS = ('legal', 'scripture', 'tang')


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def floats(tensor):
    """The numbers of an F32 or BF16 tensor."""
    if tensor.dtype == 'F32':
        return struct.unpack(f'<{len(tensor.data) // 4}f', tensor.data)
    halves = struct.unpack(f'<{len(tensor.data) // 2}H', tensor.data)
    return struct.unpack(f'<{len(halves)}f', struct.pack(f'<{len(halves)}I', *(half << 16 for half in halves)))


def wide_base(demo, path):
    """The demo model's base in F32."""
    model = {name: tensors.Tensor('F32', tensor.shape, struct.pack(f'<{math.prod(tensor.shape)}f', *floats(tensor)))
             for name, tensor in tensors.read_model(demo / 'base').items()}
    path.mkdir()
    tensors.write_file(path / 'model.safetensors', model)
    return path


def most_apart(before, stacked, summed):
    """
    The largest distance between two merged models, in steps of the dtype at the largest number of each tensor or of its change; and
    how many tensors change.
    """
    n_changed, worst = 0, 0.0
    for name, tensor in before.items():
        was, left, right = floats(tensor), floats(stacked[name]), floats(summed[name])
        n_changed += left != was
        most = max(max(abs(x) for x in was), max(abs(x - y) for x, y in zip(left, was)))
        step = 2.0 ** (math.frexp(most)[1] - (24 if tensor.dtype == 'F32' else 8))
        worst = max(worst, max(abs(x - y) for x, y in zip(left, right)) / step)
    return worst, n_changed


def check_sum(lorapack, demo, scratch):
    """
    Composing and then merging is merging the stack, to a step of bf16 and, with factors in f64, of f32. With factors in f32 there is
    also the order in which f32 adds up to 40 products: a stack is itself up to 1.4 steps of f32 from the true sum here.
    """
    stack = [f'{demo / "adapters" / name}={weight}' for name, weight in zip(ADAPTERS, ('0.7', '-0.4', '1.5'))]
    wide = wide_base(demo, scratch / 'wide')
    for base, dtype, allowed in (demo / 'base', 'f32', 1), (wide, 'f32', 4), (wide, 'f64', 1):
        lorapack.must('compose', *stack, '-o', scratch / 'sum.lora', '--name', 'sum', '--dtype', dtype, '--quiet', '--force')
        lorapack.must(*merge(base, stack, scratch / 'stacked'), '--quiet', '--force')
        lorapack.must(*merge(base, [scratch / 'sum.lora'], scratch / 'summed'), '--quiet', '--force')
        worst, n_changed = most_apart(*(tensors.read_model(path) for path in (base, scratch / 'stacked', scratch / 'summed')))
        expect(n_changed, 42, 'tensors that the stack changes')
        if worst > allowed:
            raise Complaint(f'{base}, {dtype}: {worst} steps apart')


def check_true_rank(lorapack, demo, scratch):
    """An adapter and itself are one of its rank; an adapter alone keeps its id."""
    legal, out = demo / 'adapters/legal', scratch / 'twice.lora'
    found = json.loads(lorapack.must('compose', f'{legal}=0.5', f'{legal}=0.25', '-o', out, '--json'))
    expect({(site['rank'], site['rank_sum']) for site in found['sites']}, {(4, 8), (8, 16)}, 'ranks')
    expect(found['method'], 'sum', 'method')
    lorapack.must('compose', legal, '--weight', 'legal:*.mlp.*=0.25', '-o', scratch / 'part.lora', '--quiet')
    said = json.loads(lorapack.must('inspect', scratch / 'part.lora', '--json'))['adapters'][0]['metadata']
    expect([entry['value'] for entry in said if entry['key'] == 'lorakit.method'], ['compose sum legal:*.mlp.*=0.25'], 'a weight by pattern')
    found = json.loads(lorapack.must('compose', legal, '-o', scratch / 'alone.lora', '--json'))
    packed = json.loads(lorapack.must('pack', legal, '-o', scratch / 'legal.lora', '--json'))['adapters'][0]
    expect(found['id'], packed['id'], 'id of an adapter alone')
    said = json.loads(lorapack.must('inspect', out, '--json'))['adapters'][0]['metadata']
    lines = {entry['key']: entry['value'] for entry in said}
    expect(lines['lorakit.method'], 'compose sum', 'provenance')
    expect(lines['lorakit.parents'], '\n'.join(f'{packed["id"]} {weight} legal' for weight in ('0.5', '0.25')), 'parents')


def check_resize(lorapack, demo, scratch):
    """The file has the ranks and the errors that are said; a budget is kept; lossless keeps the id."""
    legal, out = demo / 'adapters/legal', scratch / 'small.lora'
    found = json.loads(lorapack.must('resize', legal, '--rank', '2', '--dtype', 'f32', '-o', out, '--json'))
    sites = json.loads(lorapack.must('inspect', out, '--json'))['adapters'][0]['sites']
    expect([site['rank'] for site in sites], [2] * 18, 'ranks')
    for site, spectrum in zip(found['sites'], spectra(lorapack, legal)):
        lost = math.sqrt(sum(x * x for x in spectrum['singular_values'][2:]))
        if not math.isclose(site['truncated'], lost, rel_tol=1e-9) or site['rounded'] > 1e-6 * site['norm']:
            raise Complaint(f'{site}: {lost} is left out')
    kohya = [json.loads(lorapack.must('resize', legal, option, '3', '-o', out, '--force', '--json'))['id'] for option in ('--sv-ratio', '--sv_ratio')]
    expect(kohya[0], kohya[1], 'sv_ratio by both names')
    found = json.loads(lorapack.must('resize', legal, '--budget', '40K', '-o', out, '--force', '--json'))
    if not 39 * 1024 < found['n_bytes'] <= 40 * 1024:
        raise Complaint(f'a budget of 40 KiB: {found["n_bytes"]}')
    packed = json.loads(lorapack.must('pack', legal, '-o', scratch / 'same.lora', '--json'))['adapters'][0]['id']
    expect(json.loads(lorapack.must('resize', legal, '-o', out, '--force', '--json'))['id'], packed, 'lossless')


def spectra(lorapack, adapter):
    """What inspect --spectrum --json says of each site."""
    return json.loads(lorapack.must('inspect', adapter, '--spectrum', '--json'))['adapters'][0]['sites']


def check_spectrum(lorapack, demo):
    """Norms are those of inspect, and shares of energy those of the values."""
    legal = demo / 'adapters/legal'
    plain = json.loads(lorapack.must('inspect', legal, '--json'))['adapters'][0]['sites']
    for site, spectrum in zip(plain, spectra(lorapack, legal)):
        values = spectrum['singular_values']
        squares = [x * x for x in values]
        expect((spectrum['target'], len(values)), (site['target'], site['rank']), 'a spectrum')
        if not math.isclose(spectrum['norm'], site['norm'], rel_tol=1e-9) or values != sorted(values, reverse=True):
            raise Complaint(f'{site["target"]}: {spectrum}')
        enough = next(k for k in range(1, len(values) + 1) if sum(squares[:k]) >= 0.99 * sum(squares) * (1 - 1e-12))
        expect(spectrum['rank_99'], enough, f'rank of {site["target"]}')


def check_mistakes(lorapack, demo, scratch):
    """Wrong usage is 2, what cannot be composed is 1, each with its reason, and nothing is written."""
    legal, tang, out = demo / 'adapters/legal', demo / 'adapters/tang', scratch / 'mistake.lora'
    help_of = lambda verb: f' (see lorapack {verb} --help)'
    usage = {
        ('compose', legal): '-o OUT.lora is missing',
        ('compose', legal, '-o', out, '--method', 'sums'): '--method sums: no such method, did you mean sum?',
        ('compose', legal, '-o', out, '--method', 'ties'): 'ties-svd needs --density',
        ('compose', legal, '-o', out, '--density', '0.5'): '--density is for ties, dare and prune, not for sum',
        ('compose', legal, '-o', out, '--method', 'dare_linear', '--density', '1.5'): '--density 1.5: must be above 0, at most 1',
        ('compose', legal, '-o', out, '--rank', '3'): 'a rule for the rank is for the svd methods, not for sum',
        ('compose', legal, '-o', out, '--weight', 'legal=3'): "--weight legal=3: must be NAME:PATTERN=W, as 'y:*.mlp.*=0.2'",
        ('compose', legal, '-o', out, '--weight', 'x:*=3'): '--weight x:...: no adapter has that name',
        ('resize', legal, '-o', out, '--energy', '1.1'): '--energy 1.1: must be a share, 0 .. 1',
        ('resize', legal, '-o', out, '--energy', '0.9', '--sv-fro', '0.9'): '--energy and --sv-fro: one of them',
        ('resize', legal, '-o', out, '--budget', '3X'): '--budget 3X: must be a number of bytes, as 20000, 512K, 20M or 1.5G',
    }
    for arguments, wanted in usage.items():
        code, _, message = lorapack.run(*arguments)
        expect((code, message), (2, f'lorapack: {arguments[0]}: {wanted}{help_of(arguments[0])}'), f'{arguments}')
    failures = {
        ('compose', legal, tang, '-o', out, '--weight', 'tang:*.nothing=2'):
            "lorapack: *.nothing: a weight for what 'tang' does not have: no target matches the pattern",
        ('compose', legal, tang, '-o', out, '--method', 'peft-linear'):
            'lorapack: model.layers.0.mlp.down_proj.weight: peft-linear adds A to A and B to B, but the ranks are 8 and 16; sum and '
            'the svd forms take any',
        ('resize', legal, '-o', out, '--budget', '100'): f'lorapack: {legal}: budget: 100 bytes, rank 1 for every site takes 12096',
    }
    for arguments, wanted in failures.items():
        code, _, message = lorapack.run(*arguments)
        expect((code, message), (1, wanted), f'{arguments}')
    expect(out.exists(), False, 'an output of a mistake')


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        checks = {'sum': lambda: check_sum(lorapack, demo, scratch), 'true rank': lambda: check_true_rank(lorapack, demo, scratch),
                  'resize': lambda: check_resize(lorapack, demo, scratch), 'spectrum': lambda: check_spectrum(lorapack, demo),
                  'mistakes': lambda: check_mistakes(lorapack, demo, scratch)}
        for name, check in checks.items():
            try:
                check()
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(checks) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
