# SPDX-License-Identifier: MIT
"""Whether a merged model agrees with PEFT's, at the tolerances of conformance/README.md."""
import fnmatch
import itertools
import json
import math

import tensors
from lorapack import names

MANTISSA_BITS = {'BF16': 7, 'F16': 10}
MIN_EXPONENT = {'BF16': -126, 'F16': -14}


def ulp(x, dtype):
    """One unit in the last place of x."""
    exponent = max(math.frexp(x)[1] - 1, MIN_EXPONENT[dtype])
    return math.ldexp(1.0, exponent - MANTISSA_BITS[dtype])


def differs_f32(got, want):
    """Within 1e-6 of the largest value: PEFT's order of summation is not specified."""
    a, b = tensors.values(got), tensors.values(want)
    limit = 1e-6 * max(map(abs, b), default=0.0)
    n_bad = sum(not abs(x - y) <= limit for x, y in zip(a, b))
    return f'{n_bad} of {len(b)} elements off by more than {limit:.3g}' if n_bad else None


def differs_rounded_once(got, want):
    """At most 0.1 % of the elements, those by one ulp: PEFT rounds once too, but sums in another order."""
    steps = [abs(x - y) for x, y in zip(tensors.ranks(got), tensors.ranks(want)) if x != y]
    if not steps or (max(steps) == 1 and len(steps) <= max(1, len(tensors.ranks(want)) // 1000)):
        return None
    return f'{len(steps)} of {len(tensors.ranks(want))} elements differ, by up to {max(steps)} ulp'


def differs_rounded_often(got, want, terms):
    """One ulp of the largest number on the way for each adapter: PEFT rounds after each, we once."""
    n_bad = 0
    for x, y, *on_the_way in zip(tensors.values(got), tensors.values(want), *terms):
        largest = max(map(abs, (*on_the_way, *itertools.accumulate(on_the_way))))
        n_bad += not abs(x - y) <= (len(terms) - 1) * ulp(largest, want.dtype)
    return f'{n_bad} of {len(terms[0])} elements off by more than {len(terms) - 1} ulp' if n_bad else None


# Kinds for which PEFT rounds the update before it adds it.
ROUNDED_TWICE = {'embedding', 'mha', 'target_parameters'}


def differs(got, want, terms, rounded_twice=False):
    """Why a merged tensor does not agree with PEFT's, or None."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f'{got.dtype} {got.shape}, expected {want.dtype} {want.shape}'
    if got.data == want.data:
        return None
    if want.dtype == 'F32':
        return differs_f32(got, want)
    if want.dtype not in MANTISSA_BITS:
        return 'differs'
    return differs_rounded_often(got, want, terms) if len(terms) > 2 or rounded_twice else differs_rounded_once(got, want)


def plain_deltas(folder):
    """s * B A in float64 of every linear layer and convolution of an adapter with one scale, as {name of the base tensor: rows}; else {}."""
    config = json.loads((folder / 'adapter_config.json').read_text())
    if config['rank_pattern'] or config['alpha_pattern'] or config['use_rslora'] or config['fan_in_fan_out']:
        return {}
    files = tensors.read_model(folder)
    deltas = {}
    for name, a in files.items():
        if name.endswith('.lora_A.weight'):
            b = files[name.replace('.lora_A.', '.lora_B.')]
            rank, n_in, scale = a.shape[0], math.prod(a.shape[1:]), config['lora_alpha'] / config['r']
            a_values, b_values = tensors.values(a), tensors.values(b)
            columns = [a_values[j::n_in] for j in range(n_in)]
            rows = [b_values[i * rank:(i + 1) * rank] for i in range(b.shape[0])]
            target = name.removeprefix('base_model.model.').replace('.lora_A.', '.')
            deltas[target] = [scale * math.fsum(map(float.__mul__, row, column)) for row in rows for column in columns]
    return deltas


def dora_values(folder, name, values, delta):
    """m * (W + delta) / ||W + delta|| in float64, the norm of each row, of a linear layer."""
    magnitudes = tensors.values(tensors.read_model(folder)[f'base_model.model.{name.removesuffix(".weight")}.lora_magnitude_vector'])
    n_in = len(values) // len(magnitudes)
    whole = [w + d for w, d in zip(values, delta)]
    rows = [whole[i:i + n_in] for i in range(0, len(whole), n_in)]
    return [m * x / math.sqrt(math.fsum(y * y for y in row)) for m, row in zip(magnitudes, rows) for x in row]


def exact_terms(case, folder, base, deltas, name):
    """What the exact result is the sum of, where that is simple: W and the update of each adapter, or one DoRA; else []."""
    there = [delta[name] for delta in deltas if name in delta]
    if not there:
        return []
    values = tensors.values(base[name])
    config = json.loads((folder / case['adapters'][0]['dir'] / 'adapter_config.json').read_text())
    if config.get('use_dora'):
        return [dora_values(folder / case['adapters'][0]['dir'], name, values, there[0])] if len(deltas) == 1 else []
    return [values, *there]


def farther_than_peft(got, figures, terms):
    """Why a 16-bit tensor, the exact sum of terms, is farther from it than PEFT's own, or None."""
    error = max(abs(x - math.fsum(sums)) for x, *sums in zip(tensors.values(got), *terms))
    limit = figures['max_abs_err_vs_f64'] + 1e-6 * figures['max_abs']
    return f'{error:.3g} from the exact value, PEFT {limit:.3g}' if error > limit else None


def judge_files(base_dir, out_dir):
    """What is wrong with the files of a merged model: names, metadata and order are those of the base."""
    if names(base_dir) != names(out_dir):
        yield f'files {names(out_dir)}, expected {names(base_dir)}'
        return
    for name in fnmatch.filter(names(base_dir), '*.safetensors'):
        base, got = tensors.read_file(base_dir / name), tensors.read_file(out_dir / name)
        if got.metadata != base.metadata:
            yield f'{name}: metadata {got.metadata}, expected {base.metadata}'
        if [tensor for tensor in got.tensors if tensor in base.tensors] != list(base.tensors):
            yield f'{name}: tensors are in another order'


def judge_changed(case, folder, base, got, want):
    """What is wrong with the tensors that PEFT changed."""
    deltas = [plain_deltas(folder / adapter['dir']) for adapter in case['adapters']]
    for name, figures in case['outputs']['merged']['tensors'].items():
        terms = exact_terms(case, folder, base, deltas, name)
        twice = bool(ROUNDED_TWICE & set(case['features'])) and want[name].dtype in MANTISSA_BITS
        if twice:  # the update is what PEFT's result is more than W
            values = tensors.values(base[name])
            terms = [values, [y - w for y, w in zip(tensors.values(want[name]), values)]]
        reason = differs(got[name], want[name], terms, twice)
        if not reason and not twice and terms and want[name].dtype in MANTISSA_BITS:
            reason = farther_than_peft(got[name], figures, terms)
        if reason:
            yield f'{name}: {reason}'


def complaints(case, folder, out_dir):
    """Everything that is wrong with a merged model."""
    expected_file = case['outputs']['merged']['file']
    base, got = tensors.read_model(folder / 'base'), tensors.read_model(out_dir)
    want = tensors.read_file(folder / expected_file).tensors if expected_file else {}
    lost, added = (base.keys() | want.keys()) - got.keys(), got.keys() - base.keys() - want.keys()
    if lost or added:
        yield f'lost: {sorted(lost)}, not asked for: {sorted(added)}'
        return
    yield from judge_files(folder / 'base', out_dir)
    yield from (f'{name}: must be untouched, is not' for name in sorted(base.keys() - want.keys()) if got[name] != base[name])
    yield from judge_changed(case, folder, base, got, want)
