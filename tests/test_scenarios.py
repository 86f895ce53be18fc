#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Planning and locking what a manifest names: what fits, what is missing, and that one bit of drift is refused.

usage: test_scenarios.py LORAPACK DEMO_MODEL
"""
import hashlib
import json
import pathlib
import re
import shutil
import struct
import sys
import time

import tensors
from lorapack import Complaint, Lorapack
from project import HEAD, SCENARIOS, Project, expect, expect_in, flip, run_checks


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def everything(folder):
    """Every path below a folder, with what the files hold."""
    return {path.relative_to(folder): path.is_file() and path.read_bytes() for path in folder.rglob('*')}


def base_sha256(base):
    """spec/manifest.md 4, in order."""
    h = hashlib.sha256(b'lorafmt base 1\n')
    for path in sorted(base.glob('*.safetensors')):
        data = path.read_bytes()
        h.update(path.name.encode() + b'\0' + struct.pack('<Q', len(data)) + hashlib.sha256(data).digest())
    return h.hexdigest()


def check_lock(project):
    """spec/manifest.md 5: the lock says what is there, the same files give the same bytes."""
    code, said = project.says('lock')
    expect((code, said['outcome'], said['drift']), (0, 'written', []), 'the first lock')
    expect(said['base_sha256'], base_sha256(project.base), 'digest of the base')
    text = project.lock.read_text()
    for path in project.base.glob('*.safetensors'):
        expect_in(f'    "{path.name}": {{size: {path.stat().st_size}, sha256: "{sha256(path)}"}}\n', text, 'the lock')
    shown = json.loads(project.lorapack.must('inspect', project.folder / 'adapters/legal', '--base', project.base, '--json'))
    expect_in(f'  "legal": "{shown["adapters"][0]["id"]}"\n', text, 'the lock')
    expect(re.findall(r'^  "(\w+)":', text, re.M), ['legal', 'scripture', 'tang'], 'adapters in the order of the manifest')
    expect(project.says('lock')[1]['outcome'], 'same', 'the second lock')
    project.lock.unlink()
    project.must('lock', '--threads', '1')
    expect(project.lock.read_text(), text, 'a lock of the same files')


def drifts(project, what, first=None):
    """Everything refuses it and names it, or what comes before it; lock lists it; --update accepts it, and back again."""
    code, said = project.says('lock')
    expect((code, said['outcome']), (1, 'drifted'), f'lock, {what}')
    if what not in [item['what'] for item in said['drift']]:
        raise Complaint(f'lock does not list {what}: {said["drift"]}')
    code, said = project.says('plan', 'legal')
    expect((code, said['scenarios'][0]['can_be_made']), (1, False), f'plan, {what}')
    project.refused(f'{first or what}: ', 'build', 'legal')
    project.refused('lorapack lock MANIFEST --update accepts it', 'build', 'legal')
    if project.out.exists() and (project.out / 'legal').exists():
        raise Complaint(f'{what}: built from what drifted')
    before = project.lock.read_text()
    expect(project.says('lock', '--update')[1]['outcome'], 'updated', f'lock --update, {what}')
    expect(project.says('plan', 'legal')[0], 0, f'plan after --update, {what}')
    project.lock.write_text(before)


def check_drift(project):
    """One bit of each input, with its size and times as they were."""
    project.must('lock')
    shard = sorted(project.base.glob('*.safetensors'))[1]
    flip(shard)
    drifts(project, f'base.files.{shard.name}')
    flip(shard)
    flip(project.weights('legal'))
    drifts(project, 'adapters.legal')
    expect(project.says('plan', 'both')[0], 1, 'plan of another scenario with the adapter')
    project.write(HEAD + SCENARIOS + '  tang: {adapters: [tang]}\n')
    expect(project.says('plan', 'tang')[0], 0, 'plan of a scenario without it')
    flip(project.weights('legal'))
    expect(project.says('lock')[1]['outcome'], 'same', 'all bits as they were')


def check_other_drift(project):
    """What the lock says of itself, of files and of adapters."""
    project.must('lock')
    lock, shard = project.lock.read_text(), sorted(project.base.glob('*.safetensors'))[0].name
    structure = re.search('structure: "(.{64})"', lock)[1]
    for old, new, what in [('arithmetic: 1', 'arithmetic: 2', 'arithmetic'), (structure, 'f' * 64, 'base.structure'),
                           (shard, 'other.safetensors', f'base.files.{shard}'),
                           ('size: ', 'size: 1', f'base.files.{shard}'), ('"legal"', '"illegal"', 'adapters.legal')]:
        project.lock.write_text(lock.replace(old, new, 1))
        drifts(project, what)
    project.lock.write_text(lock.replace(shard, 'other.safetensors'))
    drifts(project, 'base.files.other.safetensors', f'base.files.{shard}')
    project.lock.write_text(lock)
    project.write(HEAD.replace('  tang: adapters/tang\n', '') + SCENARIOS)
    expect(project.says('plan')[0], 0, 'an adapter that only the lock has')
    code, said = project.says('lock')
    expect((code, [item['what'] for item in said['drift']]), (1, ['adapters.tang']), 'lock, an adapter that only the lock has')


def check_bad_locks(project):
    """A lock is refused with its place and reason, and --update replaces it."""
    project.must('lock')
    lock = project.lock.read_text()
    digest = re.search('legal": (".{64}")', lock)[1]
    for old, new, part in [('version: 1', 'version: 2', ':2:10: version: version 2, this reads 1'), ('arithmetic: 1\n', '', 'arithmetic'),
                           ('arithmetic: 1', 'arithmetic: 4294967296', ':3:13: arithmetic: '), ('adapters:', 'adaptors:', 'adaptors'),
                           (digest, '"12"', 'adapters.legal: '), ('size: ', 'size: -', '.size: '), ('base:', 'base: &x', 'an anchor'),
                           (lock, '', 'nothing in it')]:
        project.lock.write_text(lock.replace(old, new, 1))
        for command in 'plan', 'lock', 'build':
            project.refused(part, command)
        project.must('lock', '--update')
        expect(project.lock.read_text(), lock, 'the lock after --update')
    project.lock.write_text('#' * (1 << 20) + lock)
    project.refused('at most', 'plan')
    project.must('lock', '--update')
    expect(project.lock.read_text(), lock, 'a lock too large to read, after --update')


def check_large_lock(project):
    """A lock that nobody may read is not written."""
    project.lorapack.must('pack', project.folder / 'adapters/legal', '-o', project.folder / 'x.lora')
    project.write('version: 1\nbase: base\nadapters:\n' + ''.join(f'  a{i}: x.lora\n' for i in range(14500)))
    project.refused('must be at most 1048576', 'lock')
    if project.lock.exists():
        raise Complaint('it was written')


def check_other_locks(project):
    """A link that leads nowhere is no lock, and not as if there were none; a manifest is never its own lock."""
    project.lock.symlink_to('elsewhere.lock')
    for command in 'plan', 'lock', 'build':
        project.refused('lorafmt.lock: ', command)
    if project.out.exists():
        raise Complaint('built without the lock')
    project.must('lock', '--update')
    project.must('plan')
    text = project.manifest.read_text()
    project.manifest = project.folder / 'other.lock'
    project.write(text)
    for command, more in ('plan', []), ('lock', []), ('lock', ['--update']):
        project.refused('its lock would have the same name', command, *more)
    expect(project.manifest.read_text(), text, 'the manifest')


def check_cache(project):
    """Digests of a base whose files are untouched are believed; those of any other, or of a damaged cache, are not."""
    project.must('lock')
    time.sleep(2.2) # younger files are hashed each time
    project.must('build', 'legal')
    cache = project.state / 'base.stat'
    lines = cache.read_text().splitlines()[:-1]
    expect(len(lines), 1 + len(list(project.base.glob('*.safetensors'))), 'lines of the cache')

    def rewrite(changed, damage=''):
        text = '\n'.join(changed) + '\n'
        cache.write_text(text + hashlib.sha256((text + damage).encode()).hexdigest() + '\n')

    def with_field(number, value):
        fields = lines[1].split(' ')
        fields[number] = value(fields[number])
        return [lines[0], ' '.join(fields), *lines[2:]]

    lie = with_field(-1, lambda digest: digest[::-1])
    rewrite(lie)
    digest = lie[1].split(' ')[-1]
    project.refused(digest, 'build', 'legal') # so it was read
    rewrite(lie, 'x')
    project.must('build', 'legal')
    for number in range(5): # device, inode, size, times
        fields = with_field(number, lambda value: str(int(value) + 1))[1].split(' ')
        rewrite([lines[0], ' '.join([*fields[:-1], digest]), *lines[2:]])
        project.must('build', 'legal')
    fields = lie[1].split(' ')
    for mark in fields[3], fields[4]: # hashed at a time when it might have been written to once more
        rewrite([lie[0], ' '.join([*fields[:5], str(int(mark) + 1999999999), digest]), *lines[2:]])
        project.must('build', 'legal')
    shutil.rmtree(project.state)
    flip(sorted(project.base.glob('*.safetensors'))[0])
    project.refused('SHA-256', 'build', 'legal')


def check_plan(project):
    """Coverage, weights, sizes and states, and that nothing is written."""
    before = everything(project.folder)
    code, said = project.says('plan')
    expect(everything(project.folder), before, 'files after a plan')
    expect((code, [scenario['name'] for scenario in said['scenarios']]), (0, ['legal', 'both']), 'the plan')
    legal, both = said['scenarios']
    expect([(a['name'], a['weight'], a['coverage']['matched'], a['coverage']['total'], a['coverage']['low_rank'])
            for a in both['adapters']], [('scripture', 0.5, 42, 42, 42), ('legal', 0.5, 18, 18, 18)], 'coverage')
    expect((legal['state'], legal['n_files']), ('absent', 3), 'state')
    expect(legal['n_bytes'], sum(path.stat().st_size for path in project.base.iterdir()), 'bytes of a copy')
    sizes = {name: sum(len(t.data) for t in tensors.read_file(project.weights(name)).tensors.values()) for name in ('legal', 'scripture')}
    expect(legal['n_adapter_bytes'], sizes['legal'], 'bytes of an adapter')
    expect((said['n_stored_bytes'], said['n_view_bytes']), (2 * legal['n_bytes'], sum(sizes.values())), 'totals')
    expect([line.split()[0] for line in project.must('plan', 'both').splitlines()], ['both:', 'both:', 'scenario', 'both', '1'],
           'lines for people')
    project.refused("lorafmt.yaml", 'plan', 'nowhere')


def check_problems(project):
    """All that does not fit is listed, and the next scenario is planned."""
    moved = project.folder / 'adapters/moved'
    shutil.copytree(project.folder / 'adapters/legal', moved)
    held = tensors.read_file(moved / 'adapter_model.safetensors').tensors
    tensors.write_file(moved / 'adapter_model.safetensors', {name.replace('layers.0.', 'layers.99.'): t for name, t in held.items()})
    project.write(HEAD + '  gone: adapters/gone\n  lost: adapters/lost\n  moved: adapters/moved\n' + SCENARIOS +
                  '  missing: {adapters: [gone, legal, lost]}\n  misfit: {adapters: [moved]}\n'
                  '  unused: {adapters: [{adapter: legal, weights: [{target: "*.nothing.*", weight: 2}]}]}\n'
                  '  beyond: {adapters: [{adapter: legal, weights: [{layers: 5, weight: 2}, {layers: 6-9, weight: 2}]}]}\n')
    code, said = project.says('plan')
    found = {scenario['name']: scenario for scenario in said['scenarios']}
    expect((code, [name for name in found if found[name]['can_be_made']]), (1, ['legal', 'both']), 'what can be made')
    expect([problem['adapter'] for problem in found['missing']['problems']], ['gone', 'lost'], 'missing adapters')
    targets = {problem['target'] for problem in found['misfit']['problems'] if problem['target']}
    expect(targets, {name.removeprefix('base_model.model.').rsplit('.lora_', 1)[0].replace('layers.0.', 'layers.99.') + '.weight'
                     for name in held if 'layers.0.' in name}, 'targets that do not fit')
    expect_in('scenarios.unused.adapters[0].weights[0]', found['unused']['problems'][0]['text'], 'a rule for nothing')
    expect_in('adapters[0].weights[1]: no target of \'legal\' matches: * in layers 6-9', found['beyond']['problems'][0]['text'],
              'a rule for layers that are not there')
    project.refused('no target of \'legal\' matches: *.nothing.*; its first is model.layers.', 'build', 'unused')
    for command in 'build', 'plan':
        project.refused('the path of the output is empty', command, 'legal', '-o', '')


def check_identity(project, demo):
    """Of another base, by name, revision, structure, digest or id, is refused."""
    config = project.folder / 'adapters/legal/adapter_config.json'
    legal = json.loads(config.read_text()) | {'base_model_name_or_path': 'house/demo', 'revision': 'one'}
    config.write_text(json.dumps(legal))

    def refused(base, part, adapter='adapters/legal'):
        project.write(f'version: 1\nbase: {{path: base{base}}}\nadapters: {{legal: {adapter}}}\nscenarios: {{legal: {{adapters: [legal]}}}}\n')
        code, output, message = project.lorapack.run('plan', project.manifest)
        expect(code, 1 if part else 0, f'{base} {adapter}: exit of plan, {message!r}')
        expect_in(part, message, 'plan')

    refused(', name: other/demo, revision: one', '')
    refused(', name: house/demo-2', 'made for house/demo, but the manifest\'s base is house/demo-2')
    refused(', revision: two', 'made for revision one of the base, the manifest says two')
    refused(f', sha256: "{base_sha256(project.base)}"', '')
    refused(f', sha256: "{"0" * 64}"', 'base.sha256: it is ' + base_sha256(project.base))
    refused(f', structure: "{"0" * 64}"', 'base.structure: it is ')
    refused('', 'adapters.legal.id: it is ', f'{{path: adapters/legal, id: "{"0" * 64}"}}')


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    checks = {'lock': check_lock, 'drift': check_drift, 'other drift': check_other_drift, 'bad locks': check_bad_locks,
              'large lock': check_large_lock, 'other locks': check_other_locks, 'cache': check_cache, 'plan': check_plan,
              'problems': check_problems, 'identity': lambda project: check_identity(project, demo)}
    return run_checks(checks, lorapack, demo)


if __name__ == '__main__':
    sys.exit(main())
