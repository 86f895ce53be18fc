# SPDX-License-Identifier: MIT
"""Rehearsing a load: what is live has the digests that others computed, whole and in parts, after any switches.

usage: test_apply.py LORAPACK DEMO_MODEL
"""
import hashlib
import json
import pathlib
import subprocess
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def stack_of(demo, scenario):
    """IN=WEIGHT of each adapter of a scenario."""
    return [f'{demo / entry["dir"]}={entry["weight"]}' for entry in scenario['adapters']]


def apply(lorapack, demo, stack, *more):
    """What apply --json says."""
    adapters = [argument for adapter in stack for argument in ('--adapter', adapter)]
    return json.loads(lorapack.must('apply', '--base', demo / 'base', *adapters, '--json', *more))


def check_digests(lorapack, demo, scenarios):
    """Each scenario, with one thread and many, and the base beside it."""
    for name, scenario in scenarios.items():
        if not scenario['adapters']:
            continue
        for threads in '1', '4':
            found = apply(lorapack, demo, stack_of(demo, scenario), '--threads', threads)
            expect(found['sha256'], scenario['merged_all_sha256'], name)
            expect(found['base_sha256'], scenarios['base']['merged_all_sha256'], f'the base beside {name}')
            expect([adapter['n_matched'] for adapter in found['adapters']],
                   [adapter['n_sites'] for adapter in found['adapters']], f'coverage of {name}')


def check_swaps(lorapack, demo, scenarios):
    """Switches are counted, and their coverage is said; apply itself proves that nothing drifts."""
    stacks = ['+'.join(stack_of(demo, scenario)) for scenario in scenarios.values() if scenario['adapters']]
    found = apply(lorapack, demo, stack_of(demo, scenarios['legal']), '--swap', ','.join(stacks), '--repeat', '100')
    expect(found['n_switches'], 100, 'switches')
    expect([swap['stack'] for swap in found['swaps']], stacks, 'stacks')
    expect([swap['n_matched'] for swap in found['swaps']], [swap['n_sites'] for swap in found['swaps']], 'coverage')
    found = apply(lorapack, demo, [], '--swap', stacks[0], '--swap', stacks[1])
    expect(found['n_switches'], 2, 'switches without --repeat')
    expect(found['sha256'], scenarios['base']['merged_all_sha256'], 'nothing loaded')


def part(tensor, rank, n_ranks):
    """Bytes of the rows that a rank holds."""
    n_rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
    if n_rows < n_ranks:
        return tensor.data
    size = len(tensor.data) // n_rows
    return tensor.data[n_rows * rank // n_ranks * size:n_rows * (rank + 1) // n_ranks * size]


def check_ranks(lorapack, demo, scenarios, scratch):
    """Each rank holds its part of what merging writes."""
    stack = stack_of(demo, scenarios['scripture+legal'])
    lorapack.must(*merge(demo / 'base', stack, scratch / 'merged'))
    merged = tensors.read_model(scratch / 'merged')
    for rank in range(3):
        wanted = hashlib.sha256()
        for name in sorted(merged):
            wanted.update(part(merged[name], rank, 3))
        expect(apply(lorapack, demo, stack, '--rank', f'{rank}/3')['sha256'], wanted.hexdigest(), f'rank {rank}')


def check_deferred(lorapack, demo, scratch):
    """A damaged number is found when opening, and with --defer-digests by who asks: verify."""
    packed = scratch / 'damaged.lora'
    lorapack.must('pack', demo / 'adapters/legal', '-o', packed, '--quiet')
    data = bytearray(packed.read_bytes())
    data[-1] ^= 1 # data is what a file ends with
    packed.write_bytes(data)
    for arguments, wanted in ((('apply',), 1), (('apply', '--defer-digests'), 0), (('verify', packed), 1)):
        more = ('--base', demo / 'base', '--adapter', packed) if arguments[0] == 'apply' else ()
        expect(lorapack.run(*arguments, *more)[0], wanted, f'a damaged byte and {arguments}')


def offenders(lorapack, base, packed):
    """Exit code and what apply says on stderr, line by line."""
    done = subprocess.run([lorapack.program, 'apply', '--base', base, '--adapter', packed], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, check=False)
    expect(done.stdout, '', 'what a failure prints')
    return done.returncode, done.stderr.splitlines()


def check_changed_bases(lorapack, demo, scratch):
    """A base whose tensors have other names, shapes or company is refused, and each tensor that does not fit is named."""
    base = tensors.read_model(demo / 'base')
    q, v = 'model.layers.0.self_attn.q_proj.weight', 'model.layers.3.self_attn.v_proj.weight'
    wide = tensors.Tensor(base[q].dtype, (base[q].shape[0], base[q].shape[1] + 1), bytes(len(base[q].data) + 2 * base[q].shape[0]))
    rest = {name: tensor for name, tensor in base.items() if name not in (q, v)}
    changed = {'renamed': {**rest, f'{q}.old': base[q], f'{v}.old': base[v]}, 'reshaped': {**rest, q: wide, v: base[v]},
               'missing': rest, 'extra': {**base, 'model.extra.weight': base[q]}}
    for kind, model in changed.items():
        (scratch / kind).mkdir()
        tensors.write_file(scratch / kind / 'model.safetensors', model)
        packed = scratch / f'{kind}.lora'
        lorapack.must('pack', demo / 'adapters/legal', '-o', packed, '--quiet', *(['--base', demo / 'base'] if kind == 'extra' else []))
        code, lines = offenders(lorapack, scratch / kind, packed)
        expect(code, 1, kind)
        wanted = {'renamed': (q, v), 'reshaped': (q,), 'missing': (q, v), 'extra': ('other tensor names, dtypes or shapes',)}[kind]
        for word in wanted:
            if not any(word in line for line in lines):
                raise Complaint(f'{kind}: {word} is not in {lines}')


def check_mistakes(lorapack, demo, scratch):
    """Wrong usage is 2, what does not fit is 1, each with its reason."""
    base, legal = ('--base', demo / 'base'), ('--adapter', demo / 'adapters/legal')
    (scratch / 'other').mkdir()
    tensors.write_file(scratch / 'other/model.safetensors', {'x.weight': tensors.Tensor('F32', (2, 2), bytes(16))})
    mistakes = {base: (2, '--adapter is missing (or --swap)'),
                legal: (2, '--base is missing'),
                (*base, *legal, '--repeat', '3'): (2, '--repeat needs --swap')}
    for word in '2/2', '1', '-1/2', '0/0', '0/2x':
        mistakes[(*base, *legal, '--rank', word)] = (2, f'--rank {word}: must be K/N with K below N, 0/2 for the '
                                                        'first of two')
    for arguments, wanted in mistakes.items():
        code, _, message = lorapack.run('apply', *arguments)
        expect((code, message), (wanted[0], f'lorapack: apply: {wanted[1]} (see lorapack apply --help)'), f'apply {arguments}')
    code, output, message = lorapack.run('apply', '--base', scratch / 'other', *legal)
    expect((code, output), (1, ''), 'another base')
    if 'legal' not in message:
        raise Complaint(f'another base: {message}')
    code, output, _ = lorapack.run('apply', *base, '--swap', scratch / 'nothing.lora')
    expect((code, output), (1, ''), 'no such adapter')


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    scenarios = json.loads((demo / 'expected.json').read_text())['scenarios']
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        checks = {'digests': lambda: check_digests(lorapack, demo, scenarios), 'swaps': lambda: check_swaps(lorapack, demo, scenarios),
                  'ranks': lambda: check_ranks(lorapack, demo, scenarios, scratch),
                  'deferred': lambda: check_deferred(lorapack, demo, scratch),
                  'changed bases': lambda: check_changed_bases(lorapack, demo, scratch),
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
