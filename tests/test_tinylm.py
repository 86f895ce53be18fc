#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Hold tinylm to the demo model's expected.json: after loading each stack of adapters, and after switching between them.

usage: test_tinylm.py TINYLM DEMO_MODEL [LORAPACK]
"""
import json
import pathlib
import re
import shutil
import struct
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack

N_BYTES = 200
TEMPERATURE = 0.6
OWN, SHARED = 0, 1  # of the two prompts of a scenario, that of its own and the one that all have

# Unmerged against weights that are merged in F32: the same sums in another order, 2e-7 nats and 6e-6 of a logit apart when this was
# written. Against those merged in BF16, which rounds each weight by up to 2^-9 of itself: 2e-3 nats and 1.3e-2.
LOSS_F32, LOGIT_F32, LOSS_BF16, LOGIT_BF16 = 2e-6, 5e-5, 5e-3, 5e-2

# Stacks that are put on one after another, the first while loading.
ORDERS = [
    'base scripture base tang base legal base scripture+legal base',
    'scripture tang legal scripture+legal base',
    'scripture+legal legal tang scripture base',
    'legal legal scripture+legal scripture+legal base base tang',
]


class Demo:
    """What is expected, and where things are."""

    def __init__(self, folder, scratch):
        self.folder, self.scratch = folder, scratch
        expected = json.loads((folder / 'expected.json').read_text(encoding='utf-8'))
        self.scenarios, self.tolerance = expected['scenarios'], expected['about']['tolerance']

    def stack(self, name, packed):
        """The adapters of a scenario as the command line takes them, from the PEFT directories or the packed files."""
        def path(entry):
            return packed[pathlib.Path(entry['dir']).name] if packed else self.folder / entry['dir']
        return [f'{path(entry)}={entry["weight"]:g}' for entry in self.scenarios[name]['adapters']]

    def arguments(self, order, packed, *more):
        """Load with the first of these stacks and switch to the others."""
        arguments = ['--json', '--model', self.folder / 'base']
        for adapter in self.stack(order[0], packed):
            arguments += ['--adapter', adapter]
        for name in order[1:]:
            arguments += ['--swap', '+'.join(self.stack(name, packed)) or 'base']
        return [*arguments, *more]

    def prompt(self, name, which):
        """One of the two prompts of a scenario, with what belongs to it."""
        return self.scenarios[name]['prompts'][which]


def require(condition, complaint):
    """Complain unless it is so."""
    if not condition:
        raise Complaint(complaint)


def near(found, expected, tolerance, what):
    """Complain when a number is not as expected."""
    require(abs(found - expected) <= tolerance, f'{what} is {found}, expected {expected}')


def pairs(found, expected):
    """What was found with what is expected, as many of one as of the other."""
    require(len(found) == len(expected), f'{len(found)} results, expected {len(expected)}')
    return zip(found, expected)


def run(tinylm, arguments):
    """What became of each stack."""
    return json.loads(tinylm.must(*map(str, arguments)))['scenarios']


# --- the numbers of one stack ---

def check_facts(demo, name, found):
    """Every site is bound, and files have a size."""
    n_sites = sum(len(scales) for scales in demo.scenarios[name]['scales'].values())
    require(found['n_sites'] == found['n_bound'] == n_sites, f'{found["n_bound"]}/{found["n_sites"]} sites, expected {n_sites}')
    require(all(adapter['file_size'] > 0 for adapter in found['adapters']), 'an adapter file is empty')


def check_logits(demo, prompt, found):
    """The likeliest bytes after the prompt."""
    for mine, other in pairs(found['logits'], prompt['top5']):
        require(mine['byte'] == other['byte'], f'byte {mine["byte"]} is likely, expected {other["byte"]}')
        near(mine['logit'], other['logit'], demo.tolerance['logit'], f'logit of byte {mine["byte"]}')


def check_text(prompt, found, key):
    """The bytes that were written."""
    require(found['prompt_hex'] == prompt['prompt_hex'], 'the prompt is another one')
    require(found['written_hex'] == prompt[key], f'{key} is {found["written_hex"]}')


def check_losses(demo, name, found, tolerance):
    """The loss of every window of every domain."""
    for loss in found['losses']:
        domain = pathlib.Path(loss['file']).stem
        expected = demo.scenarios[name]['heldout'][domain]
        near(loss['mean'], expected['mean'], tolerance, f'mean loss of {domain}')
        for mine, other in pairs(loss['windows'], expected['windows']):
            near(mine, other, tolerance, f'loss of a window of {domain}')


def check_digest(demo, name, found):
    """All live weights, to the byte."""
    require(found['sha256'] == demo.scenarios[name]['merged_all_sha256'], f'the live weights of {name} are {found["sha256"]}')


def check_logits_of(found, expected, tolerance):
    """Those bytes that are expected have the logits that are expected."""
    logits = {entry['byte']: entry['logit'] for entry in found['logits']}
    for entry in expected:
        near(logits[entry['byte']], entry['logit'], tolerance, f'logit of byte {entry["byte"]}')


def check_like_f32(found, expected):
    """Unmerged as merged in F32."""
    for mine, other in pairs(found['losses'], expected['losses']):
        for this, that in pairs([mine['mean'], *mine['windows']], [other['mean'], *other['windows']]):
            near(this, that, LOSS_F32, f'a loss of {mine["file"]}')
    check_logits_of(found, expected['logits'], LOGIT_F32)


# --- cases ---

def loads(tinylm, demo, name):
    """One stack that is put on while loading: losses, live bytes, and both prompts in both ways."""
    scores = [argument for path in sorted((demo.folder / 'heldout').iterdir()) for argument in ('--score', path)]
    found, = run(tinylm, demo.arguments([name], None, '--digest', *scores))
    require(len(found['losses']) == len(demo.scenarios[name]['heldout']), 'a domain is missing')
    check_losses(demo, name, found, demo.tolerance['loss'])
    check_digest(demo, name, found)
    for prompt in demo.scenarios[name]['prompts']:
        common = ['--prompt', prompt['prompt'], '--bytes', N_BYTES]
        found, = run(tinylm, demo.arguments([name], None, *common, '--logits', len(prompt['top5'])))
        check_facts(demo, name, found)
        check_logits(demo, prompt, found)
        check_text(prompt, found, 'greedy_hex')
        found, = run(tinylm, demo.arguments([name], None, *common, '--temperature', TEMPERATURE, '--seed', prompt['sampled_seed']))
        check_text(prompt, found, 'sampled_hex')


def swaps(tinylm, demo, order, packed):
    """Stacks one after another: each gives the bytes, logits and texts of a fresh load."""
    prompt = demo.prompt(order[0], SHARED)
    common = ['--prompt', prompt['prompt'], '--bytes', N_BYTES]
    results = run(tinylm, demo.arguments(order, packed, *common, '--digest', '--logits', len(prompt['top5'])))
    for i, (found, name) in enumerate(pairs(results, order)):
        require(found['swapped'] == (i > 0), 'a switch is said to be a load')
        check_facts(demo, name, found)
        check_digest(demo, name, found)
        check_logits(demo, demo.prompt(name, SHARED), found)
        check_text(demo.prompt(name, SHARED), found, 'greedy_hex')
    seed = prompt['sampled_seed']
    results = run(tinylm, demo.arguments(order, packed, *common, '--temperature', TEMPERATURE, '--seed', seed))
    for found, name in pairs(results, order):
        if demo.prompt(name, SHARED)['sampled_seed'] == seed:
            check_text(demo.prompt(name, SHARED), found, 'sampled_hex')


def unmerged(tinylm, demo):
    """All scenarios in one batch, and what merging gives; the live weights are the base's throughout."""
    names = list(demo.scenarios)
    scores = [argument for domain in ('legal', 'tang') for argument in ('--score', demo.folder / 'heldout' / f'{domain}.txt')]
    arguments = demo.arguments(names, None, '--prompt', demo.prompt('base', SHARED)['prompt'], '--bytes', 60, '--logits', 256, *scores)
    mixed, exact = run(tinylm, [*arguments, '--unmerged', '--digest']), run(tinylm, [*arguments, '--f32'])
    for name, (found, in_f32) in zip(names, pairs(mixed, exact)):
        require(found['unmerged'] and not in_f32['unmerged'], 'what is unmerged is said to be merged, or the other way round')
        require(found['n_computed'] == found['n_bytes'] == 0, 'something live is said to be written')
        check_digest(demo, 'base', found)
        check_facts(demo, name, found)
        check_like_f32(found, in_f32)
        check_losses(demo, name, found, LOSS_BF16)
        check_logits_of(found, demo.prompt(name, SHARED)['top5'], LOGIT_BF16)
        require(found['written_hex'] == in_f32['written_hex'], f'{name} writes {found["written_hex"]}')


def alone(tinylm, demo):
    """More texts than go through the model at once, each with a prompt and a stack of its own: what each alone gives, to the bit."""
    def arguments(names):
        own = [argument for name in names for argument in ('--prompt', demo.prompt(name, OWN)['prompt'])]
        return demo.arguments(names, None, '--unmerged', *own, '--bytes', 40, '--temperature', TEMPERATURE, '--logits', 256)
    names = list(demo.scenarios) * 4
    require(len(names) > 16, 'too few for two batches')
    single = {name: run(tinylm, arguments([name]))[0] for name in demo.scenarios}
    for name, found in pairs(names, run(tinylm, arguments(names))):
        for key in 'prompt_hex', 'written_hex', 'logits':
            require(found[key] == single[name][key], f'{key} of {name} depends on its neighbours')


def dora(tinylm, demo):
    """An adapter with magnitudes, unmerged and merged."""
    def magnitudes(weights):
        added = {name.replace('lora_B.weight', 'lora_magnitude_vector.weight'): b.shape[0]
                 for name, b in weights.items() if name.endswith('lora_B.weight')}
        return {**weights, **{name: tensors.Tensor('F32', (n,), struct.pack(f'<{n}f', *(0.5 + i % 7 / 7 for i in range(n))))
                              for name, n in added.items()}}
    folder = altered(demo, 'dora', magnitudes, use_dora=True)
    arguments = ['--json', '--model', demo.folder / 'base', '--adapter', folder, '--prompt', 'And he said ', '--logits', 256,
                 '--score', demo.folder / 'heldout/legal.txt']
    for found, expected in pairs(run(tinylm, [*arguments, '--unmerged']), run(tinylm, [*arguments, '--f32'])):
        require(found['losses'][0]['mean'] > 1.6, 'the magnitudes make no difference')
        check_like_f32(found, expected)


def altered(demo, name, change, **config):
    """The legal adapter with other tensors and entries of its config."""
    folder = shutil.copytree(demo.folder / 'adapters/legal', demo.scratch / name)
    weights = folder / 'adapter_model.safetensors'
    tensors.write_file(weights, dict(sorted(change(tensors.read_file(weights).tensors).items())), {'format': 'pt'})
    old = json.loads((folder / 'adapter_config.json').read_text(encoding='utf-8'))
    (folder / 'adapter_config.json').write_text(json.dumps({**old, **config}), encoding='utf-8')
    return folder


def embedding(demo):
    """An adapter of the embedding, which can be merged only."""
    key = 'base_model.model.model.embed_tokens.lora_embedding_'
    ones = {key + 'A': (4, 256), key + 'B': (144, 4)}
    return altered(demo, 'embedding', lambda _: {name: tensors.Tensor('F32', shape, struct.pack('<f', 1e-3) * (shape[0] * shape[1]))
                                                 for name, shape in ones.items()},
                   target_modules=['embed_tokens'], rank_pattern={}, alpha_pattern={})


def context_ends(tinylm, demo):
    """No more is written than there is room for."""
    found, = run(tinylm, demo.arguments(['base'], None, '--prompt', 'x' * 250, '--bytes', 1000))
    require(found['n_written'] == 6 and len(found['written_hex']) == 12, f'{found["n_written"]} bytes written, expected 6')
    found, = run(tinylm, demo.arguments(['base'], None, '--prompt', 'x' * 256))
    require(found['n_written'] == 0 and found['written_hex'] == '', f'{found["n_written"]} bytes written, expected none')


def tells_people(tinylm, demo):
    """What a run without --json prints."""
    printed = tinylm.must('--model', demo.folder / 'base', '--prompt', 'And he said ', '--bytes', '20', '--logits', '1',
                          '--score', demo.folder / 'heldout/legal.txt', '--swap', f'{demo.folder / "adapters/legal"}=1')
    lines = printed.split('\n')
    patterns = [r'base: loaded in [\d.]+ ms, wrote 20 bytes, \d+ a second', r"next byte 116 't'  logit   5\.0\d+",
                r'.*legal\.txt: 1\.5427 nats per byte \((\d\.\d{4} ?){8}\)', r'And he said ▸to be a strong of th', '',
                r'.*adapters/legal \(78978 bytes\): 18/18 sites, opened in [\d.]+ ms, swapped in [\d.]+ ms, wrote 20 bytes, \d+ a second',
                r"next byte 110 'n'  logit   4\.7\d+", r'.*legal\.txt: 1\.3485 nats .*', 'And he said ▸.*']
    for line, pattern in zip(lines, patterns):
        require(re.fullmatch(pattern, line), f'{line!r} is printed, expected {pattern!r}')
    _, printed, _ = tinylm.run('--help')
    require(printed.startswith('Usage: tinylm --model DIR'), 'the help is not helpful')


def stranger(demo):
    """An adapter one of whose layers the base does not have."""
    folder = shutil.copytree(demo.folder / 'adapters/legal', demo.scratch / 'stranger')
    weights = folder / 'adapter_model.safetensors'
    weights.write_bytes(weights.read_bytes().replace(b'.layers.5.', b'.layers.7.'))
    return folder


def smaller(demo):
    """A model whose config.json says another size than its tensors have."""
    folder = shutil.copytree(demo.folder / 'base', demo.scratch / 'smaller')
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    (folder / 'config.json').write_text(json.dumps({**config, 'hidden_size': 140}), encoding='utf-8')
    return folder


def refuses(tinylm, demo):
    """What is wrong, with its exit code and a part of the last line said about it; nothing is printed."""
    base = ['--model', demo.folder / 'base', '--json']
    prompt = ['--prompt', 'x', '--bytes', 1]
    ragged = demo.scratch / 'ragged.txt'
    ragged.write_bytes(b'x' * 300)
    cases = [
        ([], 2, '--model DIR is missing'),
        (base, 2, 'there is nothing to do'),
        ([*base, '--prompt', ''], 2, '--prompt must not be empty'),
        ([*base, '--logits', 3, '--score', ragged], 2, '--logits needs --prompt'),
        ([*base, *prompt, '--promt', 'x'], 2, '--promt is no option'),
        ([*base, '--prompt'], 2, '--prompt needs a value'),
        ([*base, *prompt, 'more'], 2, 'unexpected argument more'),
        ([*base, *prompt, '--bytes', '-1'], 2, '--bytes -1: must be a whole number'),
        ([*base, *prompt, '--logits', '257'], 2, '--logits 257: must be a whole number, at most 256'),
        ([*base, *prompt, '--temperature', 'nan'], 2, '--temperature nan: must be a number'),
        ([*base, *prompt, '--adapter', 'x=inf'], 2, '--adapter takes paths of adapters'),
        ([*base, *prompt, '--swap', 'x+'], 2, '--swap takes paths of adapters'),
        (['--model', demo.scratch / 'nowhere', *prompt], 1, 'nowhere/config.json: No such file'),
        (['--model', smaller(demo), *prompt], 1, 'model.embed_tokens.weight: not 256 x 140'),
        ([*base, '--prompt', 'x' * 257], 1, 'the prompt has 257 bytes'),
        ([*base, *prompt, *prompt, '--swap', 'base', '--swap', 'base'], 2, '2 prompts, must be one for all, or one for each of 3'),
        ([*base, *prompt, '--unmerged', '--adapter', embedding(demo)], 1,
         'embedding: model.embed_tokens.weight: is an embedding; only low-rank updates of linear layers'),
        ([*base, '--score', ragged], 1, 'ragged.txt: ends with 44 bytes'),
        ([*base, *prompt, '--adapter', demo.scratch / 'nowhere'], 1, 'nowhere: '),
        ([*base, *prompt, '--swap', demo.scratch / 'nowhere'], 1, 'nowhere: '),
        ([*base, *prompt, '--swap', stranger(demo)], 1, 'model.layers.7.mlp.down_proj.weight: the base has no such tensor'),
    ]
    for arguments, expected, text in cases:
        code, printed, message = tinylm.run(*map(str, arguments))
        require(code == expected and text in message, f'exit {code}: {message!r}, expected {expected} and {text!r}')
        require(not printed, f'{printed!r} is printed all the same')


def pack(lorapack, demo):
    """Every adapter as a file, one of them compressed."""
    packed = {path.name: demo.scratch / f'{path.name}.lora' for path in sorted((demo.folder / 'adapters').iterdir())}
    for name, path in packed.items():
        lorapack.must('pack', demo.folder / 'adapters' / name, '-o', path, '--codec', 'split' if name == 'tang' else 'raw')
    return packed


def all_cases(tinylm, demo, lorapack):
    """Names, and what to call."""
    for name in demo.scenarios:
        yield f'load {name}', loads, (tinylm, demo, name)
    for order in ORDERS:
        yield f'switch {order}', swaps, (tinylm, demo, order.split(), None)
    if lorapack:
        packed = pack(lorapack, demo)
        yield f'switch .lora {ORDERS[1]}', swaps, (tinylm, demo, ORDERS[1].split(), packed)
    for case in unmerged, alone, dora, context_ends, tells_people, refuses:
        yield case.__name__, case, (tinylm, demo)


def main():
    tinylm, folder = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    lorapack = Lorapack(sys.argv[3]) if len(sys.argv) > 3 else None
    n_passed = n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, case, arguments in all_cases(tinylm, Demo(folder, pathlib.Path(scratch)), lorapack):
            try:
                case(*arguments)
                n_passed += 1
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{n_passed} passed, {n_failed} failed')
    return 1 if n_failed or not n_passed else 0


if __name__ == '__main__':
    sys.exit(main())
