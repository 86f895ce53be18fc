#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Adapters shaped like ones people publish, made here, into bases made for them: every command, and the arithmetic by sample.

usage: test_generated.py LORAPACK [PEFT_DIR...]

With PEFT directories, those are tried instead of the generated ones.
"""
import json
import pathlib
import random
import sys
import tempfile

import tensors
from judge import ulp
from lorapack import Complaint, Lorapack, merge, round_trip
from make_base import PREFIX, make_base, numbers

N_SAMPLES = 200 # elements of each adapted tensor that are computed again here


def lora(module, n_in, n_out, rank, rng):
    """The two factors of a linear layer."""
    shapes = {'lora_A': (rank, n_in), 'lora_B': (n_out, rank)}
    return {f'{PREFIX}{module}.{factor}.weight': tensors.Tensor('F32', shape, numbers('F32', shape[0] * shape[1], rng))
            for factor, shape in shapes.items()}


def saved(name, shape, rng):
    """A tensor that replaces the base's."""
    n = shape[0] * (shape[1] if len(shape) > 1 else 1)
    return {PREFIX + name: tensors.Tensor('F32', shape, numbers('F32', n, rng))}


def gpt2(rng):
    """A GPT-2 classifier: fused c_attn stored in x out; score is saved although modules_to_save does not say so."""
    adapter = saved('score.weight', (6, 768), rng)
    for layer in range(2):
        adapter |= lora(f'transformer.h.{layer}.attn.c_attn', 768, 2304, 8, rng)
    return adapter, {'target_modules': ['c_attn'], 'fan_in_fan_out': True, 'lora_alpha': 8, 'modules_to_save': None}


def distilbert(rng):
    """A DistilBERT classifier: "classifier" in modules_to_save also took pre_classifier."""
    adapter = saved('classifier.weight', (2, 768), rng) | saved('classifier.bias', (2,), rng)
    adapter |= saved('pre_classifier.weight', (768, 768), rng) | saved('pre_classifier.bias', (768,), rng)
    for layer in range(2):
        for name in ('q_lin', 'v_lin'):
            adapter |= lora(f'distilbert.transformer.layer.{layer}.attention.{name}', 768, 768, 8, rng)
    return adapter, {'target_modules': ['v_lin', 'q_lin'], 'fan_in_fan_out': False, 'lora_alpha': 16,
                     'modules_to_save': ['classifier', 'score']}


def write_adapter(folder, adapter, config):
    """A PEFT directory."""
    folder.mkdir()
    tensors.write_file(folder / 'adapter_model.safetensors', dict(sorted(adapter.items())), {'format': 'pt'})
    config = {'peft_type': 'LORA', 'task_type': 'SEQ_CLS', 'base_model_name_or_path': folder.name, 'bias': 'none',
              'init_lora_weights': True, 'lora_dropout': 0.1, 'r': 8, 'rank_pattern': {}, 'alpha_pattern': {},
              'use_dora': False, 'use_rslora': False, 'inference_mode': True, **config}
    (folder / 'adapter_config.json').write_text(json.dumps(config, indent=2, sort_keys=True))


def check_sample(got, base, a, b, scale, in_first):
    """Compute some elements again in float64; a rounding to the base's type and f32 sums are all that may differ."""
    (rank, n_in), n_out = a.shape, b.shape[0]
    w, merged, a, b = (tensors.values(tensor) for tensor in (base, got, a, b))
    for at in range(0, len(w), max(1, len(w) // N_SAMPLES)):
        i, j = (at % n_out, at // n_out) if in_first else (at // n_in, at % n_in)
        exact = w[at] + scale * sum(b[i * rank + k] * a[k * n_in + j] for k in range(rank))
        limit = 1e-6 if got.dtype == 'F32' else 0.51 * ulp(exact, got.dtype) + 1e-7
        if not abs(merged[at] - exact) <= limit:
            raise Complaint(f'element {at} is {merged[at]}, expected {exact}')


def check_merged(adapter_dir, base, out, strip_prefix):
    """Every tensor of a merged model: adapted, replaced, or as it was."""
    config = json.loads((adapter_dir / 'adapter_config.json').read_text())
    adapter, got = tensors.read_model(adapter_dir), tensors.read_model(out)
    expected = dict(base)
    for key, a in adapter.items():
        name = key.removeprefix(PREFIX)
        if name.endswith('.lora_A.weight'):
            target = name.removeprefix(strip_prefix).replace('.lora_A.', '.')
            b = adapter[key.replace('.lora_A.', '.lora_B.')]
            check_sample(got[target], base[target], a, b, config['lora_alpha'] / config['r'], config['fan_in_fan_out'])
            expected[target] = got[target]
        elif not name.endswith('.lora_B.weight'):
            expected[name] = got[name]
            check_saved(name, got[name], a)
    if expected != got:
        raise Complaint(f'other tensors changed: {", ".join(sorted(n for n in got if expected.get(n) != got[n])[:3])}')


def check_saved(name, got, saved_tensor):
    """A saved tensor comes out as it is in the adapter, but for the type of the tensor it replaces."""
    same = got == saved_tensor if got.dtype == 'F32' else got.shape == saved_tensor.shape
    if not same:
        raise Complaint(f'{name} is not the saved one')


def try_adapter(lorapack, adapter_dir, scratch):
    """Round trip, inspect and merge into several bases."""
    packed = scratch / f'{adapter_dir.name}.lora'
    round_trip(lorapack, adapter_dir, packed)
    for source in (adapter_dir, packed):
        lorapack.must('inspect', source)
        lorapack.must('inspect', source, '--sites')
        json.loads(lorapack.must('inspect', source, '--json'))
        json.loads(lorapack.must('verify', source, '--json'))
    bases = [{}, {'dtype': 'BF16', 'shards': 3}, {'dtype': 'F16', 'strip_prefix': 'transformer.', 'with_saved': True}]
    for number, options in enumerate(bases):
        base_dir, out = scratch / f'{adapter_dir.name}-base{number}', scratch / f'{adapter_dir.name}-merged{number}'
        base = make_base(adapter_dir, base_dir, **options)
        json.loads(lorapack.must(*merge(base_dir, [packed], out), '--json'))
        check_merged(adapter_dir, base, out, options.get('strip_prefix', ''))
        if sorted(path.name for path in base_dir.iterdir()) != sorted(path.name for path in out.iterdir()):
            raise Complaint('the merged model has other files than the base')


def main():
    lorapack = Lorapack(sys.argv[1])
    adapters = [pathlib.Path(path) for path in sys.argv[2:]]
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        for make in () if adapters else (gpt2, distilbert):
            write_adapter(scratch / make.__name__, *make(random.Random(make.__name__)))
            adapters.append(scratch / make.__name__)
        for adapter in adapters:
            try:
                try_adapter(lorapack, adapter, scratch)
            except Complaint as complaint:
                print(f'FAIL {adapter.name}: {complaint}')
                n_failed += 1
    print(f'{len(adapters) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
