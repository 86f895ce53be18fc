#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make a base model that a PEFT adapter fits: tensors of the right names and shapes, filled with made-up numbers.

usage: make_base.py ADAPTER_DIR OUT_DIR [--dtype f32|f16|bf16] [--shards N] [--strip-prefix PREFIX] [--with-saved]

Every adapted layer gets its weight (stored in x out with fan_in_fan_out) and, as something to leave alone, a bias.
"""
import argparse
import json
import math
import pathlib
import random
import struct

import tensors

PREFIX = 'base_model.model.'
LOW_RANK = (('.lora_A.weight', '.lora_B.weight'), ('.lora_embedding_A', '.lora_embedding_B'))
TORCH_NAMES = {'F32': 'float32', 'F16': 'float16', 'BF16': 'bfloat16'}
BLOCK = 4093 # elements that are drawn and then repeated; a prime, so that rows differ


def numbers(dtype, n, rng):
    """The bytes of n small finite elements."""
    drawn = [rng.uniform(-0.1, 0.1) for _ in range(min(n, BLOCK))]
    if dtype == 'BF16':
        block = b''.join(struct.pack('<f', x)[2:] for x in drawn)
    else:
        block = struct.pack(f'<{len(drawn)}{"f" if dtype == "F32" else "e"}', *drawn)
    size = n * tensors.SIZES[dtype]
    return (block * (size // max(len(block), 1) + 1))[:size]


def base_shapes(adapter, fan_in_fan_out, with_saved):
    """Name and shape of every tensor of a base that the adapter fits."""
    shapes = {}
    for key, tensor in adapter.items():
        name = key.removeprefix(PREFIX)
        for a_suffix, b_suffix in LOW_RANK:
            if name.endswith(a_suffix):
                module = name.removesuffix(a_suffix)
                n_in, n_out = tensor.shape[1], adapter[key.removesuffix(a_suffix) + b_suffix].shape[0]
                in_first = fan_in_fan_out or a_suffix == '.lora_embedding_A'
                shapes[module + '.weight'] = (n_in, n_out) if in_first else (n_out, n_in)
                shapes[module + '.bias'] = (n_out,)
        if with_saved and '.lora_' not in name:
            shapes[name.replace('.base_layer.', '.')] = tensor.shape
    return shapes


def write_shards(out, model, n_shards):
    """model.safetensors, or shards and their index."""
    if n_shards == 1:
        tensors.write_file(out / 'model.safetensors', model, {'format': 'pt'})
        return
    weight_map = {}
    for i in range(n_shards):
        file = f'model-{i + 1:05}-of-{n_shards:05}.safetensors'
        shard = dict(list(model.items())[i::n_shards])
        tensors.write_file(out / file, shard, {'format': 'pt'})
        weight_map.update((name, file) for name in shard)
    index = {'metadata': {'total_size': sum(len(tensor.data) for tensor in model.values())},
             'weight_map': dict(sorted(weight_map.items()))}
    (out / 'model.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')


def make_base(adapter_dir, out, dtype='F32', shards=1, strip_prefix='', with_saved=False):
    """Write the base, and return its tensors."""
    config = json.loads((adapter_dir / 'adapter_config.json').read_text())
    adapter = tensors.read_model(adapter_dir)
    rng = random.Random(1)
    model = {name.removeprefix(strip_prefix): tensors.Tensor(dtype, shape, numbers(dtype, math.prod(shape), rng))
             for name, shape in sorted(base_shapes(adapter, config.get('fan_in_fan_out'), with_saved).items())}
    out.mkdir(parents=True)
    write_shards(out, model, shards)
    (out / 'config.json').write_text(json.dumps({'model_type': 'made-up', 'torch_dtype': TORCH_NAMES[dtype]}, indent=2) + '\n')
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('adapter', type=pathlib.Path)
    parser.add_argument('out', type=pathlib.Path)
    parser.add_argument('--dtype', choices=['f32', 'f16', 'bf16'], default='f32')
    parser.add_argument('--shards', type=int, default=1)
    parser.add_argument('--strip-prefix', default='')
    parser.add_argument('--with-saved', action='store_true')
    options = parser.parse_args()
    model = make_base(options.adapter, options.out, options.dtype.upper(), options.shards, options.strip_prefix,
                      options.with_saved)
    print(f'{options.out}: {len(model)} tensors, {sum(len(tensor.data) for tensor in model.values())} bytes')


if __name__ == '__main__':
    main()
