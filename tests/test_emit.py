#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Scenarios for engines: what each reads, by its own rule, is what the scenario says; what cannot be said is refused by name.

usage: test_emit.py LORAPACK
"""
import json
import math
import os
import pathlib
import random
import signal
import stat
import struct
import subprocess
import sys
import time

import tensors
from lorapack import Complaint, Lorapack, merge, names, run_tests, same_files

HIDDEN, KV, WIDE, VOCAB, LAYERS = 8, 4, 12, 10, 2
SHAPES = {'q_proj': (HIDDEN, HIDDEN), 'k_proj': (KV, HIDDEN), 'v_proj': (KV, HIDDEN), 'o_proj': (HIDDEN, HIDDEN),
          'gate_proj': (WIDE, HIDDEN), 'up_proj': (WIDE, HIDDEN), 'down_proj': (HIDDEN, WIDE)}
ENGINES = 'peft', 'vllm', 'sglang', 'lorax'
PREFIX = 'base_model.model.'


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def module(layer, name):
    return f'model.layers.{layer}.{"self_attn" if name[0] in "qkvo" else "mlp"}.{name}'


def made(seed, dtype, shape):
    """A tensor of small numbers of both signs."""
    source = random.Random(seed)
    drawn = [source.choice((-1, 1)) * source.uniform(0.1, 1) for _ in range(math.prod(shape))]
    if dtype == 'BF16':
        return tensors.Tensor(dtype, tuple(shape), b''.join(struct.pack('<f', x)[2:] for x in drawn))
    return tensors.Tensor(dtype, tuple(shape), struct.pack(f'<{len(drawn)}f', *drawn))


def base_model():
    model = {f'{module(layer, name)}.weight': made(f'{layer} {name}', 'F32', shape) for layer in range(LAYERS)
             for name, shape in SHAPES.items()}
    model |= {f'{module(layer, "q_proj")}.bias': made(f'bias {layer}', 'F32', (HIDDEN,)) for layer in range(LAYERS)}
    return model | {'model.embed_tokens.weight': made('embed', 'F32', (VOCAB, HIDDEN)), 'lm_head.weight': made('head', 'F32', (VOCAB, HIDDEN)),
                    'model.norm.weight': made('norm', 'F32', (HIDDEN,))}


def pair(seed, target, rank, shape, dtype='BF16'):
    return {f'{PREFIX}{target}.lora_A.weight': made(f'{seed} {target} A', dtype, (rank, shape[1])),
            f'{PREFIX}{target}.lora_B.weight': made(f'{seed} {target} B', dtype, (shape[0], rank))}


def layer_pairs(seed, modules, rank, layers=range(LAYERS), dtype='BF16'):
    return {name: tensor for layer in layers for each in modules
            for name, tensor in pair(seed, module(layer, each), rank, SHAPES[each], dtype).items()}


def write_adapter(folder, held, **config):
    folder.mkdir(parents=True)
    tensors.write_file(folder / 'adapter_model.safetensors', held, {'format': 'pt'})
    config = {'peft_type': 'LORA', 'base_model_name_or_path': None, 'bias': 'none', 'r': 4, 'lora_alpha': 8, 'target_modules': ['q_proj'],
              'fan_in_fan_out': False} | config
    (folder / 'adapter_config.json').write_text(json.dumps(config))


def matrix(tensor):
    numbers, (n, m) = tensors.values(tensor), tensor.shape
    return [numbers[i * m:(i + 1) * m] for i in range(n)]


def product(b, a, scale):
    """scale B A, in f64 but for nothing."""
    b, a = matrix(b), list(zip(*matrix(a)))
    return [[scale * math.fsum(x * y for x, y in zip(row, column)) for column in a] for row in b]


def updates(held, scale_of):
    """What an adapter's tensors add, by module; scale_of gives the scale of a module of a rank."""
    found = {}
    for name, a in held.items():
        if name.endswith('.lora_A.weight'):
            target = name[len(PREFIX):-len('.lora_A.weight')]
            b = held[name.replace('lora_A', 'lora_B')]
            found[target] = product(b, a, scale_of(target, a.shape[0]))
    return found


def engine_updates(folder, engine):
    """What an engine that reads r and lora_alpha and nothing about single layers makes of a directory."""
    config = json.loads((folder / 'adapter_config.json').read_text())
    held = tensors.read_model(folder)
    for key in 'rank_pattern', 'alpha_pattern', 'modules_to_save', 'use_rslora', 'use_dora':
        if config.get(key):
            raise Complaint(f'{folder.name}: the config has {key}, which {engine} does not read')
    expect(config['bias'], 'none', 'bias')
    for name, tensor in held.items():
        if not name.startswith(PREFIX) or not name.endswith(('.lora_A.weight', '.lora_B.weight')):
            raise Complaint(f'{folder.name}: {name} is not read by {engine}')
        expect(tensor.shape[name.endswith('.lora_B.weight')], config['r'], f'rank of {name}')
    modules = sorted({name.split('.')[-3] for name in held})
    if engine != 'peft':
        expect(sorted(config['target_modules']), modules, 'target_modules')
    return updates(held, lambda target, rank: config['lora_alpha'] / config['r'])


def compare(found, wanted, tolerance, what):
    """The same updates; of modules that only one has, zeros."""
    for target in found.keys() | wanted.keys():
        shape = SHAPES[target.rsplit('.', 1)[-1]]
        zeros = [[0.0] * shape[1]] * shape[0]
        x, y = found.get(target, zeros), wanted.get(target, zeros)
        largest = max(abs(v) for row in y for v in row)
        error = max(abs(p - q) for r, s in zip(x, y) for p, q in zip(r, s))
        if not error <= tolerance * largest:
            raise Complaint(f'{what}: {target} is off by {error}, of numbers up to {largest}')


def combined(*terms):
    """Sums of updates."""
    total = {}
    for term in terms:
        for target, rows in term.items():
            before = total.get(target, [[0.0] * len(rows[0])] * len(rows))
            total[target] = [[x + y for x, y in zip(r, s)] for r, s in zip(before, rows)]
    return total


def weighted(found, weight_of):
    return {target: [[weight_of(target) * x for x in row] for row in rows] for target, rows in found.items()}


class Place:
    """A manifest with a base and adapters, in a folder of its own."""

    def __init__(self, lorapack, folder):
        self.lorapack, self.folder, self.manifest = lorapack, folder, folder / 'lorafmt.yaml'
        (folder / 'base').mkdir()
        self.write_base(base_model(), tied=False)
        self.held = {}

    def write_base(self, model, tied):
        (self.folder / 'base' / 'config.json').write_text(json.dumps({'vocab_size': VOCAB, 'tie_word_embeddings': tied}))
        tensors.write_file(self.folder / 'base' / 'model.safetensors', model)

    def adapter(self, name, held, **config):
        self.held[name] = held
        write_adapter(self.folder / name, held, **config)

    def write(self, **scenarios):
        """JSON is YAML. A scenario is its list of adapters, or all of it."""
        whole = {name: said if isinstance(said, dict) else {'adapters': said} for name, said in scenarios.items()}
        adapters = {name: name for name in self.held}
        self.manifest.write_text(json.dumps({'version': 1, 'base': 'base', 'adapters': adapters, 'scenarios': whole}, indent=1))

    def emit(self, engine, *named, out=None):
        """What --json says, by scenario, and the directory."""
        out = out or self.folder / f'out-{engine}'
        said = json.loads(self.lorapack.must('emit', self.manifest, *named, '--for', engine, '-o', out, '--json'))
        expect((said['for'], said['output']), (engine, os.fspath(out)), 'head of the JSON')
        return {entry['name']: entry for entry in said['scenarios']}, out

    def updates(self, name, alpha=8, patterns=None):
        """PEFT's rule on what was written."""
        patterns = patterns or {}
        return updates(self.held[name], lambda target, rank: patterns.get(target.rsplit('.', 1)[-1], alpha) / rank)

    def merged(self, adapters, out):
        self.lorapack.must(*merge(self.folder / 'base', adapters, self.folder / out), '--quiet')
        return self.folder / out / 'model.safetensors'


def mixed(place, name='mixed'):
    """Ranks 4 and 2 and scales 2, 4: what no engine but PEFT reads as it is."""
    place.adapter(name, layer_pairs(name, ('q_proj', 'v_proj'), 4) | layer_pairs(name, ('up_proj',), 2), target_modules=['q_proj', 'v_proj', 'up_proj'],
                  rank_pattern={'up_proj': 2})


def test_one_adapter_under_a_weight(place):
    """Scales that differ by powers of two: every engine gets the exact numbers, and merging gives the same bytes."""
    mixed(place)
    place.write(half=[{'adapter': 'mixed', 'weight': 0.7}])
    wanted = weighted(place.updates('mixed'), lambda target: 0.7)
    direct = place.merged([f'{place.folder / "mixed"}=0.7'], 'direct')
    for engine in ENGINES:
        said, out = place.emit(engine)
        expect({key: said['half'][key] for key in ('form', 'rank', 'rounding', 'why')}, {'form': 'one', 'rank': 4, 'rounding': 0, 'why': None}, engine)
        compare(engine_updates(out / 'half', engine), wanted, 1e-15, engine)
        expect(place.merged([out / 'half'], f'merged-{engine}').read_bytes() == direct.read_bytes(), True, f'{engine}: the same bytes when merged')
        place.lorapack.must('inspect', out / 'half')


def test_peft_gets_an_adapter_as_it_is(place):
    """All that PEFT writes, if there is no weight: the same bytes, and its own config."""
    mixed(place)
    place.adapter('dora', layer_pairs('dora', ('q_proj',), 4) | {f'{PREFIX}{module(layer, "q_proj")}.lora_magnitude_vector': made(f'm {layer}', 'BF16', (HIDDEN,))
                                                              for layer in range(LAYERS)}, use_dora=True)
    place.write(mixed=['mixed'], dora=['dora'])
    said, out = place.emit('peft')
    for name in 'mixed', 'dora':
        expect(said[name]['form'], 'as-is', name)
        expect(tensors.read_model(out / name), tensors.read_model(place.folder / name), f'tensors of {name}')
        expect((out / name / 'adapter_config.json').read_bytes(), (place.folder / name / 'adapter_config.json').read_bytes(), f'config of {name}')


def test_weights_per_layer_and_several_adapters(place):
    """The sum of both, each under its own weights, is one adapter; folding rounds to f32 and says so."""
    mixed(place)
    place.adapter('rs', layer_pairs('rs', ('q_proj', 'down_proj'), 3, dtype='F32'), r=3, lora_alpha=6, use_rslora=True, target_modules=['q_proj', 'down_proj'])
    place.write(layered=[{'adapter': 'mixed', 'weight': 0.3, 'weights': [{'layers': '1', 'weight': -0.9}]}],
                both=[{'adapter': 'mixed', 'weights': [{'target': '*.up_proj', 'weight': 0.1}]}, {'adapter': 'rs', 'weight': 0.5}])
    rs = updates(place.held['rs'], lambda target, rank: 6 / math.sqrt(3))
    wanted = {'layered': weighted(place.updates('mixed'), lambda target: -0.9 if '.1.' in target else 0.3),
              'both': combined(weighted(place.updates('mixed'), lambda target: 0.1 if target.endswith('up_proj') else 1), weighted(rs, lambda target: 0.5))}
    for engine in ENGINES:
        said, out = place.emit(engine)
        expect((said['layered']['form'], said['both']['form']), ('one', 'sum'), engine)
        expect(said['both']['rank'], 7, f'{engine}: rank of the sum on q_proj, which both change')
        for name in wanted:
            rounding = said[name]['rounding']
            expect(0 <= rounding <= 1e-7, True, f'{engine}: rounding of {name}, {rounding}')
            compare(engine_updates(out / name, engine), wanted[name], 1e-6, f'{engine} {name}')
    base = base_model()
    for target, rows in wanted['both'].items():
        name = f'{target}.weight'
        got = tensors.values(tensors.read_model(place.merged([out / 'both'], f'merged-{target}'))[name])
        exact = [w + d for w, d in zip(tensors.values(base[name]), (x for row in rows for x in row))]
        worst = max(abs(x - y) for x, y in zip(got, exact))
        expect(worst <= 2e-6, True, f'{name} merged is off by {worst}')


def test_what_engines_leave_out_is_filled_up(place):
    """LoRAX drops a kind of layer unless all are adapted; SGLang reads q, k and v together."""
    place.adapter('one', layer_pairs('one', ('q_proj', 'gate_proj'), 4, layers=[0]), target_modules=['q_proj', 'gate_proj'])
    place.write(one=['one'])
    filled = {'vllm': [], 'lorax': [module(1, 'q_proj'), module(1, 'gate_proj')],
              'sglang': [module(0, 'k_proj'), module(0, 'v_proj'), module(0, 'up_proj')]}
    for engine, more in filled.items():
        said, out = place.emit(engine)
        expect(said['one']['n_filled'], len(more), engine)
        found = engine_updates(out / 'one', engine)
        expect(sorted(found), sorted([module(0, 'q_proj'), module(0, 'gate_proj')] + more), f'modules for {engine}')
        compare(found, place.updates('one'), 0, engine)
        for target in more:
            b = tensors.read_model(out / 'one')[f'{PREFIX}{target}.lora_B.weight']
            expect((b.shape, any(tensors.values(b))), ((SHAPES[target.rsplit('.', 1)[-1]][0], 4), False), f'{engine}: B of {target}')


def refused_adapters(place):
    """Adapters with something that adds to no linear layer, and the word for it."""
    q = layer_pairs('r', ('q_proj',), 4)
    target = module(0, 'q_proj')
    place.adapter('dora', q | {f'{PREFIX}{module(layer, "q_proj")}.lora_magnitude_vector': made(f'm {layer}', 'BF16', (HIDDEN,))
                              for layer in range(LAYERS)}, use_dora=True)
    place.adapter('saved', q | {f'{PREFIX}lm_head.weight': made('s', 'BF16', (VOCAB, HIDDEN))}, modules_to_save=['lm_head'])
    place.adapter('bias', q | {f'{PREFIX}{module(layer, "q_proj")}.lora_B.bias': made(f'b {layer}', 'BF16', (HIDDEN,)) for layer in range(LAYERS)}, lora_bias=True)
    place.adapter('embedding', q | {f'{PREFIX}model.embed_tokens.lora_embedding_A': made('ea', 'BF16', (4, VOCAB)),
                                    f'{PREFIX}model.embed_tokens.lora_embedding_B': made('eb', 'BF16', (HIDDEN, 4))}, target_modules=['q_proj', 'embed_tokens'])
    place.adapter('large', pair('large', target, 520, SHAPES['q_proj']), r=520)
    return {'dora': 'DoRA', 'saved': 'a saved module', 'embedding': 'an embedding', 'large': 'rank 520'}


def test_what_cannot_be_expressed_is_listed(place):
    """Without names the rest is written; with names nothing is, and the exit code says so."""
    reasons = refused_adapters(place)
    del place.held['bias']
    mixed(place)
    place.write(**{name: [name] for name in ('mixed', *reasons)}, half={'adapters': ['mixed'], 'dtype': 'f16'})
    said, out = place.emit('vllm')
    expect(names(out), ['adapters.json', 'mixed', 'serve.sh'], 'what is written')
    for name, reason in reasons.items():
        expect((said[name]['form'], reason in said[name]['why']), ('none', True), f'{name}: {said[name]["why"]}')
        expect(said[name]['instead'], f'lorapack build {place.manifest} {name} && vllm serve {place.folder}/build/{name}', 'what to do instead')
    expect((said['half']['form'], 'dtype' in said['half']['why']), ('none', True), 'another dtype')
    other = place.folder / 'other'
    for engine in 'vllm', 'sglang', 'lorax':
        code, output, message = place.lorapack.run('emit', place.manifest, 'mixed', 'dora', '--for', engine, '-o', other)
        expect((code, 'dora' in message and 'DoRA' in message, 'dora: no adapter' in output), (1, True, True), f'{engine}: {message}')
        expect(other.exists(), False, 'something is written')
    code, output, message = place.lorapack.run('emit', place.manifest, 'mixed', 'dora', '--for', 'peft', '-o', other)
    expect(code, 0, message)
    expect(sorted(path.name for path in place.folder.iterdir() if path.name.startswith('.')), [], 'hidden files')


def test_what_does_not_bind_names_its_scenario(place):
    mixed(place)
    place.write(good=['mixed'], huge=[{'adapter': 'mixed', 'weight': 1e300}])
    done = subprocess.run([place.lorapack.program, 'emit', place.manifest, '--for', 'peft', '-o', place.folder / 'none'],
                          stderr=subprocess.PIPE, text=True, check=False)
    *lines, last = done.stderr.splitlines()
    expect((done.returncode, len(lines)), (1, 6), done.stderr)
    for line in lines:
        expect(line.startswith('lorapack: huge: mixed: model.'), True, line)
    expect('scenarios.huge: model.' in last, True, last)


def test_commands_are_safe_to_copy(place):
    """Paths in them are words of a shell: a manifest may say anything of its output."""
    refused_adapters(place)
    place.write(dora=['dora'])
    said = json.loads(place.manifest.read_text())
    said['defaults'] = {'output': "it's; exit 3 #"}
    place.manifest = place.folder / 'my $HOME.yaml'
    place.manifest.write_text(json.dumps(said))
    _, output, _ = place.lorapack.run('emit', place.manifest, '--for', 'vllm', '-o', place.folder / 'none', '--json')
    instead = json.loads(output)['scenarios'][0]['instead']
    build, serve = subprocess.run(['sh', '-c', 'lorapack() { printf "%s|" "$@"; echo; }; vllm() { printf "%s|" "$@"; echo; }\n' + instead],
                                  capture_output=True, text=True, check=False).stdout.splitlines() or ('', '')
    expect((build, serve), (f'build|{place.manifest}|dora|', f'serve|{place.folder}/it\'s; exit 3 #/dora|'), instead)


def test_what_peft_cannot_say_under_a_weight(place):
    """The weight of DoRA is not what its scale would be; that of a bias follows its layer's."""
    refused_adapters(place)
    place.write(half=[{'adapter': 'dora', 'weight': 0.5}])
    code, _, message = place.lorapack.run('emit', place.manifest, '--for', 'peft', '-o', place.folder / 'out')
    expect((code, 'dora' in message.lower()), (1, True), message)
    place.write(half=[{'adapter': 'bias', 'weight': 0.5}])
    _, out = place.emit('peft')
    direct = place.merged([f'{place.folder / "bias"}=0.5'], 'direct')
    expect(place.merged([out / 'half'], 'again').read_bytes() == direct.read_bytes(), True, 'the same bytes when merged')


def test_a_tied_head(place):
    """Merging changes the embedding with it, and an engine's adapter of the head would not."""
    place.adapter('head', pair('h', 'lm_head', 4, (VOCAB, HIDDEN)), target_modules=['lm_head'])
    place.write(head=['head'])
    expect(place.emit('vllm')[0]['head']['form'], 'one', 'a head of its own')
    place.write_base({name: tensor for name, tensor in base_model().items() if name != 'lm_head.weight'}, tied=True)
    code, _, message = place.lorapack.run('emit', place.manifest, 'head', '--for', 'vllm', '-o', place.folder / 'tied')
    expect((code, 'tied to the embedding' in message), (1, True), message)


def test_nothing_to_serve(place):
    mixed(place)
    place.write(off=[{'adapter': 'mixed', 'weight': 0}], on=['mixed'])
    said, out = place.emit('vllm')
    expect((said['off']['form'], said['on']['form']), ('base', 'one'), 'forms')
    expect(names(out), ['adapters.json', 'on', 'serve.sh'], 'what is written')
    place.write(off=[{'adapter': 'mixed', 'weight': 0}], none={'description': 'the base'})
    for engine in 'vllm', 'sglang', 'lorax':
        _, out = place.emit(engine, out=place.folder / f'base-{engine}')
        expect([line.split('"$base"')[1] for line in (out / 'serve.sh').read_text().splitlines() if line.startswith('exec')], [' "$@"'], engine)
    refused_adapters(place)
    place.write(dora=['dora'])
    code, _, message = place.lorapack.run('emit', place.manifest, '--for', 'vllm', '-o', place.folder / 'none')
    expect((code, 'none of 1' in message), (1, True), message)


def test_names_of_the_base_under_a_map(place):
    place.adapter('old', {name.replace('model.layers', 'old.blocks'): tensor for name, tensor in layer_pairs('old', ('q_proj',), 4).items()})
    place.write(old=['old'])
    said = json.loads(place.manifest.read_text())
    said['adapters']['old'] = {'path': 'old', 'map': {'old.blocks': 'model.layers'}}
    place.manifest.write_text(json.dumps(said))
    for engine in ENGINES:
        _, out = place.emit(engine)
        expect({name.split('.lora')[0] for name in tensors.read_model(out / 'old') if 'q_proj' in name},
               {PREFIX + module(layer, 'q_proj') for layer in range(LAYERS)}, engine)


def fake_program(folder, name, text):
    path = folder / name
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_the_scripts_start_what_they_say(place):
    """By programs of the engines' names that only tell what they were called with."""
    mixed(place)
    place.adapter('nine', layer_pairs('nine', ('o_proj',), 9), r=9)
    place.write(**{'a.b-c_1': ['mixed'], 'nine': ['nine']})
    programs = place.folder / 'bin'
    programs.mkdir()
    for name in 'vllm', 'python3', 'lorax-launcher':
        fake_program(programs, name, '#!/bin/sh\npwd\nprintf "%s\\n" "$@"\n')
    wanted = {
        'vllm': ['serve', '--enable-lora', '--max-lora-rank', '16', '--max-loras', '2', '--lora-modules', '{"name": "a.b-c_1", "path": "a.b-c_1"}',
                 '{"name": "nine", "path": "nine"}', '--port', '1'],
        'sglang': ['-m', 'sglang.launch_server', '--model-path', '--enable-lora', '--max-lora-rank', '9', '--max-loras-per-batch', '3',
                   '--lora-target-modules', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj', '--lora-paths', 'a.b-c_1=a.b-c_1', 'nine=nine',
                   '--port', '1'],
        'lorax': ['--model-id', '--port', '1']}
    for engine, arguments in wanted.items():
        _, out = place.emit(engine)
        listed = json.loads((out / 'adapters.json').read_text())
        expect([entry['path'] for entry in listed['scenarios']], ['a.b-c_1', 'nine'], f'{engine}: adapters.json')
        done = subprocess.run(['/bin/sh', out / 'serve.sh', '--port', '1'], env={'PATH': f'{programs}:/usr/bin:/bin'}, capture_output=True, text=True, check=True)
        directory, *called = done.stdout.splitlines()
        expect(pathlib.Path(directory), out.resolve(), f'{engine}: directory')
        base = os.fspath((place.folder / 'base').resolve())
        expect(called.count(base), 1, f'{engine}: the base among {called}')
        expect([argument for argument in called if argument != base], arguments, engine)


def test_the_loader_for_peft(place):
    mixed(place)
    place.write(one=['mixed'], two=[{'adapter': 'mixed', 'weight': 2}])
    _, out = place.emit('peft')
    modules = place.folder / 'modules'
    modules.mkdir()
    (modules / 'transformers.py').write_text('class AutoModelForCausalLM:\n    def from_pretrained(path, torch_dtype): print("base", path); return 1\n')
    (modules / 'peft.py').write_text('class PeftModel:\n    def from_pretrained(base, path, adapter_name): print(path, adapter_name); return PeftModel()\n'
                                     '    def load_adapter(self, path, adapter_name): print(path, adapter_name)\n')
    done = subprocess.run([sys.executable, out / 'load.py'], env={'PYTHONPATH': os.fspath(modules)}, capture_output=True, text=True, check=True)
    expect(done.stdout.splitlines(), [f'base {(place.folder / "base").resolve()}', f'{out.resolve()}/one one', f'{out.resolve()}/two two'], 'load.py')


def test_whole_or_absent(place):
    mixed(place)
    place.write(one=['mixed'])
    _, out = place.emit('vllm')
    before = {path.name: path.read_bytes() for path in (out / 'one').iterdir()}
    code, _, message = place.lorapack.run('emit', place.manifest, '--for', 'vllm', '-o', out)
    expect((code, 'exists already, and is not replaced' in message), (1, True), message)
    expect({path.name: path.read_bytes() for path in (out / 'one').iterdir()}, before, 'what was there')
    again = place.emit('vllm', out=place.folder / 'again')[1]
    expect(same_files(out / 'one', again / 'one') and (out / 'serve.sh').read_bytes() == (again / 'serve.sh').read_bytes(), True, 'twice the same')


def test_interrupted(place):
    """What was written is taken away. It was a directory of a hidden name that stayed."""
    mixed(place)
    place.write(**{f's{i}': [{'adapter': 'mixed', 'weight': i + 2}] for i in range(2000)})
    before = names(place.folder)
    process = subprocess.Popen([place.lorapack.program, 'emit', place.manifest, '--for', 'vllm', '-o', place.folder / 'out'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(place.folder.glob('.out.lorapack-*/*')):
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    message = process.communicate()[1]
    expect((process.returncode, 'out: interrupted' in message), (1, True), message)
    expect([name for name in names(place.folder) if name != 'build'], before, 'what is there')


def test_wrong_usage(place):
    mixed(place)
    place.write(one=['mixed'])
    for arguments, word in ((['--for', 'vllm'], '-o OUT'), ([], '--for is missing'), (['--for', 'make', '--json'], '--json needs -o'),
                            (['--for', 'vllm', '-o', 'x', '--parts', '2'], '--parts'), (['--for', 'make', '--image', 'x'], '--image'),
                            (['one', 'one', '--for', 'make'], 'named twice')):
        code, _, message = place.lorapack.run('emit', place.manifest, *arguments)
        expect((code, word in message), (2, True), message)
    code, _, message = place.lorapack.run('emit', place.manifest, 'other', '--for', 'make')
    expect((code, 'one' in message), (1, True), message)


if __name__ == '__main__':
    sys.exit(run_tests(globals(), lambda folder: (Place(Lorapack(sys.argv[1]), folder.resolve()),)))
