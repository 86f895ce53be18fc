# SPDX-License-Identifier: MIT
"""What lorapack diff says of the demo model's adapters, against the same figures in plain Python.

usage: test_diff.py LORAPACK DEMO_MODEL MAKE_KINDS
"""
import json
import math
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge

TOTALS = ['same', 'same_id', 'metadata', 'n_compared', 'n_same_bytes', 'n_same_function', 'n_only_x', 'n_only_y', 'n_others',
          'norm_x', 'norm_y', 'norm_difference', 'cosine']
GROUP = ['n_sites', 'norm_x', 'norm_y', 'norm_difference', 'cosine', 'column_overlap', 'row_overlap']
SITE = ['target', 'rows', 'columns', 'state', 'same', 'x', 'y', 'norm_difference', 'rounding', 'cosine', 'column_overlap',
        'row_overlap', 'column_cosines', 'row_cosines', 'magnitude_difference', 'n_elements', 'n_differing']
SIDE = ['kind', 'n_sites', 'rank', 'factor', 'norm', 'true_rank', 'effective_rank', 'has_magnitude']
TENSOR = ['tensor', 'state', 'base', 'tuned', 'n_elements', 'n_differing', 'norm_base', 'norm_tuned', 'norm_difference', 'change',
          'max_difference', 'n_nan_base', 'n_inf_base', 'n_nan_tuned', 'n_inf_tuned']


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def near(value, wanted, what, tolerance=1e-9):
    if abs(value - wanted) > tolerance * max(1, abs(wanted)):
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def refuse(lorapack, code, message, *arguments):
    """It fails in this way, and prints no result."""
    expect(lorapack.run('diff', *arguments), (code, '', message), ' '.join(map(str, arguments)))


def diff(lorapack, *arguments):
    return json.loads(lorapack.must('diff', *arguments, '--json'))


def update(adapter, scale, module):
    """s B A of a module, row by row, from the bytes."""
    found = tensors.read_model(adapter)
    a, b = (found[f'base_model.model.{module}.lora_{side}.weight'] for side in 'AB')
    rank, n_in = a.shape
    a, b = tensors.values(a), tensors.values(b)
    return [scale * sum(b[i * rank + p] * a[p * n_in + j] for p in range(rank))
            for i in range(len(b) // rank) for j in range(n_in)]


def norm(x):
    return math.sqrt(math.fsum(v * v for v in x))


def check_figures(lorapack, adapters):
    """Norms and the cosine of one site, and how the sums follow from the sites."""
    found = diff(lorapack, adapters / 'scripture', f'{adapters / "tang"}=0.5')
    site = next(s for s in found['sites'] if s['target'] == 'model.layers.2.self_attn.v_proj.weight')
    x = update(adapters / 'scripture', site['x']['factor'], 'model.layers.2.self_attn.v_proj')
    y = update(adapters / 'tang', site['y']['factor'], 'model.layers.2.self_attn.v_proj')
    expect((site['x']['factor'], site['y']['factor']), (2, 2), 'scale times weight')
    near(site['x']['norm'], norm(x), 'norm of X')
    near(site['y']['norm'], norm(y), 'norm of Y')
    near(site['norm_difference'], norm([a - b for a, b in zip(x, y)]), 'norm of X - Y')
    near(site['cosine'], math.fsum(a * b for a, b in zip(x, y)) / norm(x) / norm(y), 'cosine')
    for key in 'column', 'row':
        cosines = site[f'{key}_cosines']
        expect(len(cosines), 8, 'angles')
        expect(cosines, sorted(cosines, reverse=True), 'their order')
        near(site[f'{key}_overlap'], sum(c * c for c in cosines) / 8, 'overlap')
    near(found['norm_difference'], norm([s['norm_difference'] for s in found['sites']]), 'sum of differences')
    for groups in 'modules', 'layers':
        near(norm([g['norm_difference'] for g in found[groups]]), found['norm_difference'], groups)
        expect(sum(g['n_sites'] for g in found[groups]), 42, groups)
    differences = [g['norm_difference'] for g in found['modules']]
    expect(differences, sorted(differences, reverse=True), 'the most different module first')


def check_shape(lorapack, adapters):
    """The keys that docs/json.md promises."""
    found = diff(lorapack, adapters / 'legal', adapters / 'tang')
    expect(list(found), ['x', 'y', *TOTALS, 'modules', 'layers', 'sites'], 'keys')
    expect(list(found['x']), ['stack', 'adapters'], 'keys of a side')
    expect(list(found['x']['adapters'][0]), ['path', 'name', 'id', 'weight'], 'keys of an adapter')
    expect(list(found['modules'][0]), ['module', *GROUP], 'keys of a module')
    expect(list(found['layers'][0]), ['stack', 'layer', *GROUP], 'keys of a layer')
    expect([layer['layer'] for layer in found['layers']], list(range(6)), 'layers')
    expect((found['n_compared'], found['n_only_x'], found['n_only_y']), (18, 0, 24), 'sites in both')
    expect([entry['key'] for entry in found['metadata']], ['peft.adapter_config'], 'metadata')
    for site in found['sites']:
        expect(list(site), SITE, 'keys of a site')
        expect(list(site['y']), SIDE, 'keys of a side of a site')
        expect(site['state'], 'compared' if site['x'] else 'only-y', site['target'])
        expect(site['norm_difference'] is None, site['x'] is None, site['target'])


def rewrite(adapter, out, change):
    """A copy of a PEFT adapter with other tensors."""
    shutil.copytree(adapter, out)
    file = tensors.read_file(adapter / 'adapter_model.safetensors')
    changed = {name: change(name, tensor) for name, tensor in file.tensors.items()}
    tensors.write_file(out / 'adapter_model.safetensors', changed, file.metadata)


def turn(name, tensor):
    """Factors of the same function: a third of A and thrice B, rounded, in the opposite order."""
    values, (n_rows, n_cols) = tensors.values(tensor), tensor.shape
    rows = [values[i * n_cols:(i + 1) * n_cols] for i in range(n_rows)]
    if 'lora_A' in name:
        rows = [[v / 3 for v in row] for row in reversed(rows)]
    else:
        rows = [[v * 3 for v in reversed(row)] for row in rows]
    return tensor._replace(data=struct.pack(f'<{n_rows * n_cols}f', *(v for row in rows for v in row)))


def spoil(name, tensor):
    if name != 'base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight':
        return tensor
    return tensor._replace(data=b'\xff\x7f' + tensor.data[2:]) # BF16


def check_sameness(lorapack, adapters, folder):
    """The same id, the same bytes, the same function, and their exit codes."""
    adapter, packed, turned = adapters / 'scripture', folder / 'scripture.lora', folder / 'turned'
    lorapack.must('pack', adapter, '-o', packed)
    rewrite(adapter, turned, turn)
    for other, same, same_id, verdict in (
            (packed, 'same-bytes', True, 'the same adapter: ids and weights are equal'),
            (turned, 'same-function', False, 'the same function, to rounding, by different factors'),
            (f'{adapter}=-1', 'different', False, 'different: |X - Y| is 63.1, |X| 31.5, |Y| 31.5')):
        found = diff(lorapack, adapter, other)
        expect((found['same'], found['same_id']), (same, same_id), other)
        output = lorapack.must('diff', adapter, other)
        if verdict not in output.splitlines():
            raise Complaint(f'{other}: {output}')
        code = int(same == 'different')
        expect(lorapack.run('diff', adapter, other, '--exit-code', '--quiet'), (code, '', ''), f'exit code of {other}')
    for site in diff(lorapack, adapter, turned)['sites']:
        if not 0 < site['norm_difference'] <= site['rounding'] < 1e-5 * site['x']['norm']:
            raise Complaint(f'{site["target"]}: {site["norm_difference"]} beside a rounding of {site["rounding"]}')


def check_stacks(lorapack, adapters):
    """A sum is what its parts are, beside each other."""
    legal, tang = adapters / 'legal', adapters / 'tang'
    found = diff(lorapack, f'{legal}+{tang}=0.5', f'{tang}=0.5+{legal}')
    expect((found['same'], found['n_same_function'], found['n_same_bytes']), ('same-function', 18, 24), 'another order')
    found = diff(lorapack, f'{legal}+{tang}', legal)
    near(found['norm_difference'], diff(lorapack, tang, legal)['norm_x'], 'what one more adapter adds')
    site = next(s for s in found['sites'] if s['target'] == 'model.layers.0.self_attn.q_proj.weight')
    expect((site['x']['n_sites'], site['x']['rank'], site['x']['factor']), (2, 20, None), 'a site of two')
    near(site['column_overlap'], 1, 'one lies in the other')


def check_kinds(lorapack, make_kinds, folder):
    """A site of every kind: what can be weighted is compared, and what a site does not say is not made up."""
    kinds = folder / 'kinds.lora'
    subprocess.run([make_kinds, kinds], check=True)
    found = diff(lorapack, kinds, kinds)
    expect((found['same'], found['n_same_bytes'], found['n_others']), ('same-bytes', 10, 0), 'every kind beside itself')
    found = diff(lorapack, kinds, f'{kinds}=2')
    sites = {site['target']: site for site in found['sites']}
    others = [target for target, site in sites.items() if site['state'] == 'not-compared']
    expect(others, ['m.0.conv2.weight', 'm.2.rows.weight', 'm.2.saved.weight'], 'a Tucker core and what replaces')
    for target in sorted(sites.keys() - set(others)):
        near(sites[target]['norm_difference'], sites[target]['x']['norm'], target)
        near(sites[target]['cosine'], 1, target)
    expect(len(sites['m.0.experts.gate_up_proj']['row_cosines']), 3, 'experts, of rank 1 each')
    expect((sites['m.0.dora.weight']['x']['has_magnitude'], sites['m.0.dora.weight']['magnitude_difference']), (True, 0), 'DoRA')
    output = lorapack.must('diff', kinds, f'{kinds}=2')
    for line in ('  sites       10 in both, 3 not comparable', '  not comparable  conv2d  m.0.conv2.weight',
                 '  DoRA        1 site; norms are of the low-rank part, which is not all that'):
        if line not in output.splitlines():
            raise Complaint(f'{line!r} is not in {output}')


def check_text(lorapack, adapters):
    """The most different ones, or all of them; lines that fit, but for names at their end."""
    lines = lorapack.must('diff', adapters / 'legal', adapters / 'tang').splitlines()
    for line in lines:
        if len(line.split('  model.layers.')[0].rstrip()) > 80:
            raise Complaint(f'a long line: {line}')
    expect(lines.count('  and 32 more; --sites lists all'), 1, 'sites that are not listed')
    expect(lines[7:9], ['  sites       18 in both; 24 only in Y', '  metadata    peft.adapter_config'], 'counts')
    output = lorapack.must('diff', adapters / 'legal', adapters / 'tang', '--sites')
    expect(output.count('self_attn.q_proj.weight'), 6, 'sites with --sites')


def check_refusals(lorapack, demo, adapters, folder):
    legal, bad, base = adapters / 'legal', folder / 'bad', demo / 'base'
    rewrite(legal, bad, spoil)
    refuse(lorapack, 1, 'lorapack: model.layers.1.self_attn.q_proj.weight: of adapter bad: A or B has a number that is NaN or '
           'infinite: lorapack inspect says where', legal, bad)
    usage = ' (see lorapack diff --help)'
    refuse(lorapack, 2, f'lorapack: diff: two adapters must be given, or --base and --tuned{usage}', legal)
    refuse(lorapack, 2, f'lorapack: diff: --tuned needs --base, the model to compare it with{usage}', '--tuned', base)
    refuse(lorapack, 2, f'lorapack: diff: --tuned compares models, and {legal} is not one of them{usage}',
           '--base', base, '--tuned', base, legal)
    refuse(lorapack, 1, f'lorapack: {folder}/none: cannot open: No such file or directory', legal, folder / 'none')
    refuse(lorapack, 2, f'lorapack: diff: {legal}=inf: weight inf, must be a finite number{usage}', legal, f'{legal}=inf')


def check_tensor(found, base, tuned):
    """One tensor of two models, from the bytes."""
    b, t = tensors.values(base), tensors.values(tuned)
    size = tensors.SIZES[base.dtype]
    name = found['tensor']
    expect(list(found), TENSOR, name)
    expect(found['n_elements'], len(b), f'{name}: elements')
    expect(found['n_differing'], sum(base.data[i:i + size] != tuned.data[i:i + size] for i in range(0, len(base.data), size)),
           f'{name}: differing elements')
    near(found['norm_base'], norm(b), f'{name}: norm')
    near(found['norm_difference'], norm([y - x for x, y in zip(b, t)]), f'{name}: norm of the difference')
    near(found['change'], found['norm_difference'] / found['norm_base'], f'{name}: change')
    expect(found['max_difference'], max(abs(y - x) for x, y in zip(b, t)), f'{name}: largest difference')


def check_models(lorapack, demo, adapters, folder):
    """A base beside what was merged into it, and beside itself."""
    base, merged = demo / 'base', folder / 'merged'
    lorapack.must(*merge(base, [adapters / 'legal'], merged))
    found = diff(lorapack, '--base', base, '--tuned', merged)
    before, after = tensors.read_model(base), tensors.read_model(merged)
    expect([t['tensor'] for t in found['tensors']], sorted(before), 'tensors')
    for tensor in found['tensors']:
        check_tensor(tensor, before[tensor['tensor']], after[tensor['tensor']])
    expect((found['equal'], found['n_compared'], found['n_equal']), (False, 57, 39), 'equal tensors')
    near(found['norm_difference'], norm([t['norm_difference'] for t in found['tensors']]), 'sum of differences')
    near(norm([g['norm_difference'] for g in found['layers']]), found['norm_difference'], 'layers')
    expect(sorted(g['module'] for g in found['modules']), ['mlp.down_proj', 'self_attn.q_proj', 'self_attn.v_proj'], 'modules')
    expect(diff(lorapack, '--base', base, '--tuned', merged, '--threads', '1'), found, 'with one thread')
    expect(lorapack.run('diff', '--base', base, '--tuned', merged, '--exit-code', '--quiet'), (1, '', ''), 'exit code')
    expect(lorapack.run('diff', '--base', base, '--tuned', base, '--exit-code', '--quiet'), (0, '', ''), 'exit code, if equal')
    lines = lorapack.must('diff', '--base', base, '--tuned', base).splitlines()
    if 'the same model: every tensor is equal' not in lines:
        raise Complaint('equal models are not said to be')


def check_odd_models(lorapack, folder):
    """Tensors of one model alone, of other types, and numbers that are none."""
    base, tuned = folder / 'b.safetensors', folder / 't.safetensors'
    one = tensors.Tensor('F32', (2,), struct.pack('<2f', 1, 2))
    tensors.write_file(base, {'a.weight': one, 'b.weight': one, 'c.weight': one,
                              'i.weight': tensors.Tensor('I16', (2,), bytes(4))})
    tensors.write_file(tuned, {'a.weight': one._replace(data=struct.pack('<2f', math.nan, 5)),
                               'b.weight': tensors.Tensor('F32', (1, 2), one.data), 'd.weight': one,
                               'i.weight': tensors.Tensor('I16', (2,), bytes(3) + b'\1')})
    found = {t['tensor']: t for t in diff(lorapack, '--base', base, '--tuned', tuned)['tensors']}
    expect([found[name]['state'] for name in sorted(found)],
           ['compared', 'other-shape', 'only-base', 'only-tuned', 'compared'], 'states')
    a, i = found['a.weight'], found['i.weight']
    expect((a['n_differing'], a['n_nan_tuned'], a['norm_difference'], a['norm_base']), (2, 1, 3, 2), 'NaN is left out')
    expect((i['n_differing'], i['norm_difference'], found['b.weight']['norm_base']), (1, None, None), 'what are no numbers')
    lines = lorapack.must('diff', '--base', base, '--tuned', tuned).splitlines()
    for line in ('  tensors     3 in both, 0 of them equal, 1 of another shape or dtype; 1 only',
                 '  F32 [2]  F32 [1,2]  b.weight', '  F32 [2]  -          c.weight', '  I16 [2]  I16 [2]    i.weight'):
        if line not in lines:
            raise Complaint(f'{line!r} is not in {lines}')


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    adapters = demo / 'adapters'
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            check_figures(lorapack, adapters)
            check_shape(lorapack, adapters)
            check_sameness(lorapack, adapters, folder)
            check_stacks(lorapack, adapters)
            check_kinds(lorapack, sys.argv[3], folder)
            check_text(lorapack, adapters)
            check_refusals(lorapack, demo, adapters, folder)
            check_models(lorapack, demo, adapters, folder)
            check_odd_models(lorapack, folder)
        except Complaint as complaint:
            print(complaint)
            return 1
    print('adapters, stacks and models are told apart')
    return 0


if __name__ == '__main__':
    sys.exit(main())
