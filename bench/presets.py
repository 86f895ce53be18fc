# SPDX-License-Identifier: MIT
"""Models with the names and shapes of real ones, at any number of layers, and adapters for all of their linear layers.

Elements are random and of sensible size. Embeddings shrink with the number of layers, so that a small model has the proportions of
the whole one.
"""
import functools
import json
import math
import random
import struct
import typing

SIZES = {'F32': 4, 'BF16': 2}
PREFIX = 'base_model.model.'


class Preset(typing.NamedTuple):
    """A model: what its files are made of."""
    dtype: str
    n_layers: int            # of the whole model
    tensors: typing.Callable # layers -> {name: shape}
    targets: typing.Callable # name of a tensor -> the module an adapter names, or None
    in_first: bool           # linear layers are stored in x out
    config: dict


def vocabulary(whole, layers, n_layers):
    """The share of a vocabulary that so many layers have."""
    return max(8, whole * layers // n_layers // 8 * 8)


def gpt2(layers):
    """openai-community/gpt2: 124 million parameters."""
    shapes = {'wte.weight': (vocabulary(50257, layers, 12), 768), 'wpe.weight': (1024 * layers // 12, 768)}
    for i in range(layers):
        for norm in ('ln_1', 'ln_2'):
            shapes |= {f'h.{i}.{norm}.weight': (768,), f'h.{i}.{norm}.bias': (768,)}
        for name, n_in, n_out in (('attn.c_attn', 768, 2304), ('attn.c_proj', 768, 768), ('mlp.c_fc', 768, 3072),
                                  ('mlp.c_proj', 3072, 768)):
            shapes |= {f'h.{i}.{name}.weight': (n_in, n_out), f'h.{i}.{name}.bias': (n_out,)}
    return shapes | {'ln_f.weight': (768,), 'ln_f.bias': (768,)}


def attention(name, hidden, kv):
    """The linear layers of Llama's attention."""
    return {f'{name}.{part}_proj.weight': (kv if part in 'kv' else hidden, hidden) for part in 'qkvo'}


def llama_1b(layers):
    """TinyLlama/TinyLlama-1.1B: 1.1 billion parameters."""
    hidden, inner, kv = 2048, 5632, 256
    shapes = {'model.embed_tokens.weight': (vocabulary(32000, layers, 22), hidden)}
    for i in range(layers):
        layer = f'model.layers.{i}'
        shapes |= attention(f'{layer}.self_attn', hidden, kv)
        shapes |= {f'{layer}.mlp.gate_proj.weight': (inner, hidden), f'{layer}.mlp.up_proj.weight': (inner, hidden),
                   f'{layer}.mlp.down_proj.weight': (hidden, inner)}
        shapes |= {f'{layer}.{norm}_layernorm.weight': (hidden,) for norm in ('input', 'post_attention')}
    return shapes | {'model.norm.weight': (hidden,), 'lm_head.weight': (vocabulary(32000, layers, 22), hidden)}


def moe(layers):
    """Mixtral's names with small sizes: 8 experts, 0.7 billion parameters, and many tensors."""
    hidden, inner, n_experts = 1024, 2048, 8
    shapes = {'model.embed_tokens.weight': (vocabulary(32000, layers, 12), hidden)}
    for i in range(layers):
        layer = f'model.layers.{i}'
        shapes |= attention(f'{layer}.self_attn', hidden, hidden // 4)
        shapes[f'{layer}.block_sparse_moe.gate.weight'] = (n_experts, hidden)
        for expert in range(n_experts):
            name = f'{layer}.block_sparse_moe.experts.{expert}'
            shapes |= {f'{name}.w1.weight': (inner, hidden), f'{name}.w2.weight': (hidden, inner), f'{name}.w3.weight': (inner, hidden)}
        shapes |= {f'{layer}.{norm}_layernorm.weight': (hidden,) for norm in ('input', 'post_attention')}
    return shapes | {'model.norm.weight': (hidden,), 'lm_head.weight': (vocabulary(32000, layers, 12), hidden)}


def linear_target(prefix, name, shape):
    """Every matrix of a layer but the router of experts."""
    is_linear = len(shape) == 2 and '.weight' in name and ('.layers.' in name or name.startswith('h.')) and '.gate.' not in name
    return prefix + name.removesuffix('.weight') if is_linear else None


PRESETS = {
    'gpt2': Preset('F32', 12, gpt2, functools.partial(linear_target, 'transformer.'), True, {'model_type': 'gpt2'}),
    'llama-1b': Preset('BF16', 22, llama_1b, functools.partial(linear_target, ''), False, {'model_type': 'llama'}),
    'moe': Preset('BF16', 12, moe, functools.partial(linear_target, ''), False, {'model_type': 'mixtral'}),
}


def model_bytes(preset, layers):
    """Size of the tensors of a model."""
    return sum(math.prod(shape) for shape in preset.tensors(layers).values()) * SIZES[preset.dtype]


def layers_for(preset, megabytes):
    """The number of layers that comes nearest to a size; the whole model has the most."""
    return min(range(1, preset.n_layers + 1), key=lambda layers: abs(model_bytes(preset, layers) - 1e6 * megabytes))


@functools.lru_cache(maxsize=4)
def random_block(dtype):
    """Some megabytes of elements between 2^-8 and 2^-6 (F32: 2^-7 and 2^-5) with either sign; no multiple of any row."""
    size = SIZES[dtype]
    block = bytearray(random.Random(dtype).randbytes((1 << 24) + 24))
    block[size - 1::size] = block[size - 1::size].translate(bytes(0x3c | i & 0x80 for i in range(256)))
    return bytes(block)


def write_random(file, dtype, n_bytes):
    """The block over and over, so that it takes no longer than writing."""
    block = random_block(dtype)
    for at in range(0, n_bytes, len(block)):
        file.write(memoryview(block)[:n_bytes - at])


def write_safetensors(path, dtype, shapes):
    """A file of random tensors."""
    header, end = {'__metadata__': {'format': 'pt'}}, 0
    for name, shape in shapes.items():
        begin, end = end, end + math.prod(shape) * SIZES[dtype]
        header[name] = {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        write_random(file, dtype, end)


def write_shards(folder, preset, shapes, n):
    """Several files of about as many tensors each, and their index."""
    names, weight_map = list(shapes), {}
    for i in range(n):
        part = names[i * len(names) // n:(i + 1) * len(names) // n]
        file = f'model-{i + 1:05}-of-{n:05}.safetensors'
        write_safetensors(folder / file, preset.dtype, {name: shapes[name] for name in part})
        weight_map |= {name: file for name in part}
    total = sum(math.prod(shape) for shape in shapes.values()) * SIZES[preset.dtype]
    index = {'metadata': {'total_size': total}, 'weight_map': weight_map}
    (folder / 'model.safetensors.index.json').write_text(json.dumps(index, indent=2) + '\n')


def make_base(folder, preset, layers, n_shards=1):
    """A model directory."""
    folder.mkdir()
    if n_shards > 1:
        write_shards(folder, preset, preset.tensors(layers), n_shards)
    else:
        write_safetensors(folder / 'model.safetensors', preset.dtype, preset.tensors(layers))
    (folder / 'config.json').write_text(json.dumps(preset.config, indent=2) + '\n')


def make_adapter(folder, preset, layers, rank):
    """A PEFT directory with an adapter of that rank on every linear layer, in F32 as PEFT trains it."""
    shapes, modules = {}, set()
    for name, shape in preset.tensors(layers).items():
        module = preset.targets(name, shape)
        if module:
            n_out, n_in = reversed(shape) if preset.in_first else shape
            shapes[f'{PREFIX}{module}.lora_A.weight'] = (rank, n_in)
            shapes[f'{PREFIX}{module}.lora_B.weight'] = (n_out, rank)
            modules.add(module.split('.')[-1])
    config = {'peft_type': 'LORA', 'task_type': 'CAUSAL_LM', 'base_model_name_or_path': 'made-up', 'bias': 'none', 'r': rank,
              'lora_alpha': 2 * rank, 'lora_dropout': 0.0, 'target_modules': sorted(modules), 'modules_to_save': None,
              'fan_in_fan_out': preset.in_first, 'init_lora_weights': True, 'use_dora': False, 'use_rslora': False}
    folder.mkdir()
    write_safetensors(folder / 'adapter_model.safetensors', 'F32', dict(sorted(shapes.items())))
    (folder / 'adapter_config.json').write_text(json.dumps(config, indent=2) + '\n')
