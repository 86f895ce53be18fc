#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Building scenarios: the bytes of merge, only what is stale, in parts, and whatever somebody was killed at.

usage: test_build.py LORAPACK DEMO_MODEL [TIMES [SEED]]

TIMES is how often a build is killed (default 12), and half as often it is interrupted.
"""
import hashlib
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import tensors
from lorapack import Complaint, Lorapack, names, same_files
from project import HEAD, SCENARIOS, Project, expect, expect_in, run_checks

FRESH = ('fresh', 'fresh')
LOWER = '''  lower:
    adapters:
      - adapter: tang
        weights:
          - {layers: 3-5, weight: 0.25}
          - {target: "*.mlp.*", weight: 0.5}
'''


def same_model(project, name, other):
    if not same_files(project.out / name, other):
        raise Complaint(f'{name}: not the files of {other.name}: {names(project.out / name)}')


def only_records(project, *scenarios):
    """Nothing but records and locks of them is beside the results, the cache, and what somebody killed while writing it leaves."""
    expect([name for name in project.kept() if name != 'base.stat' and not name.startswith('.base.stat.lorapack-')],
           sorted(f'{name}.{kind}' for name in scenarios for kind in ('flock', 'model')), 'beside the results')


# --- the bytes ---

def check_golden(project, demo):
    """The tensors that expected.json has digests of."""
    golden = json.loads((demo / 'expected.json').read_text())['scenarios']
    project.must('build')
    for name, scenario in ('legal', 'legal'), ('both', 'scripture+legal'):
        held = tensors.read_model(project.out / name)
        for tensor, wanted in golden[scenario]['merged'].items():
            expect(hashlib.sha256(held[tensor].data).hexdigest(), wanted['sha256'], f'{name}: {tensor}')
    same_model(project, 'legal', project.merged('legal', [project.adapter('legal')]))
    same_model(project, 'both', project.merged('both', [project.adapter('scripture', 0.5), project.adapter('legal', 0.5)]))


def split_adapter(project, name, out, takes):
    """A PEFT adapter of some modules of another."""
    shutil.copytree(project.folder / 'adapters' / name, out)
    held = tensors.read_file(out / 'adapter_model.safetensors').tensors
    tensors.write_file(out / 'adapter_model.safetensors', {key: tensor for key, tensor in held.items() if takes(key)})


def layer_of(key):
    return int(key.split('.layers.')[1].split('.')[0])


def check_weights(project):
    """Weights by target and layer: what three adapters of some modules each do. In another dtype; and with a map."""
    project.write(HEAD + '  moved: {path: adapters/moved, map: {elsewhere: model}}\n' + SCENARIOS + LOWER +
                  '  wide: {adapters: [legal], dtype: f32}\n  plain: {}\n  mapped: {adapters: [moved]}\n')
    parts = {'upper': (1, lambda key: '.mlp.' not in key and layer_of(key) < 3),
             'lower': (0.25, lambda key: '.mlp.' not in key and layer_of(key) >= 3), 'mlp': (0.5, lambda key: '.mlp.' in key)}
    for name, (_, takes) in parts.items():
        split_adapter(project, 'tang', project.folder / name, takes)
    shutil.copytree(project.folder / 'adapters/legal', project.folder / 'adapters/moved')
    held = tensors.read_file(project.weights('moved')).tensors
    tensors.write_file(project.weights('moved'), {key.replace('.model.layers', '.elsewhere.layers'): t for key, t in held.items()})
    project.must('build')
    same_model(project, 'lower', project.merged('lower', [f'{project.folder / name}={weight}' for name, (weight, _) in parts.items()]))
    same_model(project, 'mapped', project.merged('legal', [project.adapter('legal')]))
    project.lorapack.must('merge', '--base', project.base, '--adapter', project.adapter('legal'), '--dtype', 'f32', '-o', project.folder / 'wide')
    same_model(project, 'wide', project.folder / 'wide')
    same_model(project, 'plain', project.base)


def check_lora(project):
    """Composed adapters: those of compose, by id; what has no sum is refused by name and the others are made."""
    mapped = '  mapped: {adapters: [moved]}\n'
    project.write(HEAD + '  moved: {path: adapters/legal, map: {"": ""}}\n' + SCENARIOS + LOWER + '  plain: {}\n' + mapped)
    code, said = project.says('build', '--as', 'lora')
    errors = {scenario['name']: scenario['error'] for scenario in said['scenarios']}
    expect((code, [name for name, error in errors.items() if error]), (1, ['plain', 'mapped']), 'what cannot be composed')
    expect_in('the base itself', errors['plain'], 'plain')
    expect_in("adapter 'moved' has a map", errors['mapped'], 'mapped')

    def composed(*arguments):
        return json.loads(project.lorapack.must('compose', *arguments, '-o', project.folder / 'composed.lora', '--force', '--json'))

    tang = json.loads(project.lorapack.must('inspect', project.folder / 'adapters/tang', '--json'))['adapters'][0]['sites']
    rules = [('--weight', f'tang:{site["target"]}={0.5 if ".mlp." in site["target"] else 0.25 if layer_of("." + site["target"]) > 2 else 1}')
             for site in tang]
    for name, arguments in {'both': [project.adapter('scripture', 0.5), project.adapter('legal', 0.5)],
                            'lower': [project.adapter('tang'), *(word for rule in rules for word in rule)]}.items():
        shown, = json.loads(project.lorapack.must('inspect', project.out / f'{name}.lora', '--json'))['adapters']
        wanted, = [composed(*arguments), json.loads(project.lorapack.must('inspect', project.folder / 'composed.lora', '--json'))][1]['adapters']
        expect([(s['target'], s['rank'], s['scale'], s['norm']) for s in shown['sites']],
               [(s['target'], s['rank'], s['scale'], s['norm']) for s in wanted['sites']], f'sites of {name}.lora')
        expect(shown['name'], name, 'name of the adapter')
    before = (project.out / 'both.lora').stat()
    expect(project.states('both', '--as', 'lora'), {'both': FRESH}, 'the second time')
    project.write(HEAD + SCENARIOS.replace('0.5', '0.25'))
    expect(project.states('--as', 'lora'), {'legal': FRESH, 'both': ('stale', 'fresh')}, 'with another weight')
    if (project.out / 'both.lora').stat().st_ino == before.st_ino:
        raise Complaint('both.lora is the old one')
    (project.state / 'legal.lora').unlink()
    project.write(HEAD + SCENARIOS)
    project.refused('build did not make it, and is not replaced', 'build', 'legal', '--as', 'lora', '--force')


# --- what is made ---

def check_stale(project):
    """What is fresh stays, to the inode; what is not says why."""
    def inodes(name):
        return {path.name: path.stat().st_ino for path in (project.out / name).iterdir()}

    def expect_stale(what, **why):
        kept = {name: inodes(name) for name in ('legal', 'both') if name not in why}
        plan = {scenario['name']: scenario for scenario in project.says('plan')[1]['scenarios']}
        found = project.built()
        for name in 'legal', 'both':
            expect(found[name]['before']['state'], 'stale' if name in why else 'fresh', f'{what}: {name} before')
            expect((plan[name]['state'], plan[name]['why']), (found[name]['before']['state'], found[name]['before']['why']),
                   f'{what}: what plan says of {name}')
            expect(found[name]['after']['state'], 'fresh', f'{what}: {name} after')
            expect_in(why.get(name, ''), found[name]['before']['why'] or '', f'{what}: why {name}')
        for name, before in kept.items():
            expect(inodes(name), before, f'{what}: inodes of {name}')

    expect(project.states(), {'legal': ('absent', 'fresh'), 'both': ('absent', 'fresh')}, 'the first build')
    expect_stale('nothing changed')
    project.write(HEAD + SCENARIOS.replace('scripture, weight: 0.5', 'scripture, weight: 0.75'))
    expect_stale('a weight', both='changed since: adapter 1')
    project.write(HEAD + SCENARIOS + 'defaults: {dtype: f32}\n')
    expect_stale('a dtype', both='adapter 1', legal='the dtype')
    project.write(HEAD + SCENARIOS)
    expect_stale('both back', both='the dtype', legal='the dtype')
    (project.base / 'tokenizer.json').write_text('{}')
    expect_stale('a side file', both='tokenizer.json', legal='tokenizer.json')
    expect(names(project.out / 'legal'), names(project.base), 'files')
    config = project.out / 'legal/config.json'
    config.write_text(config.read_text() + ' ')
    expect_stale('an edited result', legal='config.json is not what was built')
    config.unlink()
    expect_stale('a file that is gone', legal='config.json is not what was built')
    shutil.rmtree(project.out / 'legal')
    expect(project.states(), {'legal': ('absent', 'fresh'), 'both': FRESH}, 'a model that is gone')
    before = inodes('legal')
    expect(project.states('legal', '--force'), {'legal': FRESH}, '--force')
    if inodes('legal').items() & before.items():
        raise Complaint('--force left files as they were')
    only_records(project, 'legal', 'both')


def check_strangers(project):
    """What build did not make is not replaced, by nothing."""
    stranger = project.out / 'legal'
    stranger.mkdir(parents=True)
    (stranger / 'thesis.txt').write_text('years of work')
    expect(project.says('plan', 'legal')[1]['scenarios'][0]['state'], 'stale', 'a directory of somebody else')
    for more in [], ['--force'], ['--part', '1/2']:
        project.refused('build did not make it, and is not replaced: move it away', 'build', 'legal', *more)
    expect(names(stranger), ['thesis.txt'], 'somebody else\'s files')
    stranger.rename(project.out / 'mine')
    (project.out / 'legal').symlink_to('mine')
    project.refused('build did not make it', 'build', 'legal')
    (project.out / 'legal').unlink()
    project.must('build', 'legal')
    (stranger / 'notes.txt').write_text('x')
    expect(project.states('legal'), {'legal': FRESH}, 'a fresh model with a file more')
    project.write(HEAD + 'scenarios: {legal: {adapters: [tang]}}\n')
    project.refused('it holds what build did not write, notes.txt, and is not replaced', 'build', 'legal', '--force')
    expect((stranger / 'notes.txt').read_text(), 'x', 'the file')
    (stranger / 'notes.txt').unlink()
    expect(project.states('legal'), {'legal': ('stale', 'fresh')}, 'without it')
    out = project.folder / 'elsewhere'
    project.must('build', 'legal', '-o', out)
    if not same_files(out / 'legal', stranger):
        raise Complaint('-o makes other files')


def check_links(project):
    """Where build writes and removes of its own accord, a link leads nowhere: what it leads to was never build's."""
    precious = project.folder / 'precious'

    def refused(link):
        precious.mkdir()
        (precious / 'thesis.txt').write_text('years of work')
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(precious)
        project.refused(f'{link.relative_to(project.folder)}: ', 'build', 'legal')
        expect(everything(precious), ['thesis.txt'], f'what {link.name} leads to')
        link.unlink()
        shutil.rmtree(precious)

    def everything(folder):
        return [str(path.relative_to(folder)) for path in folder.rglob('*')]

    project.must('build', 'legal', '--part', '1/3')
    staging, = (path for path in project.state.iterdir() if path.is_dir())
    shutil.rmtree(project.out)
    for link in project.state, project.state / 'legal.ready', staging:
        refused(link)
    project.out.mkdir(exist_ok=True)
    project.out.rename(project.folder / 'large disk')
    project.out.symlink_to('large disk') # the output itself may be one
    expect(project.states('legal')['legal'][1], 'fresh', 'an output that is a link')


# --- in parts, and interrupted ---

def check_parts(project):
    """In any order, more parts than files, again, and at once with each of them twice."""
    wanted = project.merged('both', [project.adapter('scripture', 0.5), project.adapter('legal', 0.5)])
    for order in [(1, 2, 3), (3, 1, 2), (2, 2, 3, 1), (5, 3, 4, 2, 1)]:
        n, seen = max(order), set()
        for i, part in enumerate(order):
            seen |= {part} if part <= 3 else set()
            found = project.built('both', '--part', f'{part}/{n}')['both']['after']
            expect((found['state'], found['n_finished']), ('fresh' if len(seen) == 3 else 'partial' if seen else 'absent', len(seen)),
                   f'{order}: after part {i + 1}')
        same_model(project, 'both', wanted)
        only_records(project, 'both')
        expect(project.states('both', '--part', f'1/{n}'), {'both': FRESH}, 'a part too many')
        shutil.rmtree(project.out)
    for _ in range(6):
        running = [subprocess.Popen([project.lorapack.program, 'build', project.manifest, 'both', '-q', '--part', f'{part}/3'],
                                    stderr=subprocess.PIPE, text=True) for part in (1, 2, 3, 1, 2, 3)]
        talk = [process.communicate()[1] for process in running]
        expect([process.returncode for process in running], [0] * 6, f'parts at once, {talk}')
        same_model(project, 'both', wanted)
        only_records(project, 'both')
        shutil.rmtree(project.out)
    for mistake in '0/2', '3/2', '2', '1/0', '1/2x', '-1/2', '1/2/3':
        project.refused('--part', 'build', '--part', mistake, code=2)
    project.refused('--force', 'build', '--part', '1/2', '--force', code=2)
    project.refused('adapter', 'build', '--part', '1/2', '--as', 'lora', code=2)


def check_resumed(project):
    """Files that are finished stay; what was given up is removed once something else is built."""
    project.must('build', 'both', '--part', '2/3')
    staging, = (path for path in project.state.iterdir() if path.is_dir())
    first, = staging.iterdir()
    before = first.stat()
    (staging / '.model.safetensors.lorapack-abc123').write_text('what a killed process leaves')
    expect(project.says('plan', 'both')[1]['scenarios'][0]['state'], 'partial', 'plan')
    found = project.built('both')['both']
    expect((found['before']['state'], found['before']['n_finished'], found['n_written']), ('partial', 1, 2), 'the second build')
    after = (project.out / 'both' / first.name).stat()
    expect((after.st_ino, after.st_mtime_ns), (before.st_ino, before.st_mtime_ns), 'the finished file')
    only_records(project, 'both')
    expect(names(project.out / 'both'), names(project.base), 'files')
    project.write(HEAD + SCENARIOS.replace('0.5', '0.25'))
    project.must('build', 'both', '--part', '1/3')
    project.write(HEAD + SCENARIOS.replace('0.5', '2'))
    expect(project.states('both'), {'both': ('stale', 'fresh')}, 'a third weight')
    only_records(project, 'both')


def check_between(project):
    """A process that dies between putting a model in place and saying so."""
    project.must('build', 'legal')
    ready, legal = project.state / 'legal.ready', project.out / 'legal'
    record, coming = project.state / 'legal.model', project.state / 'legal.next'
    inode = (legal / 'config.json').stat().st_ino

    def goes_on(what):
        expect(project.states('legal')['legal'][1], 'fresh', what)
        expect((legal / 'config.json').stat().st_ino, inode, f'{what}: inode of a file')
        only_records(project, 'legal')

    record.rename(coming)
    legal.rename(ready) # the record is written, the model not in place
    goes_on('a model on its way')
    record.rename(coming)
    shutil.copytree(legal, ready, copy_function=shutil.copy) # exchanged, but not said so
    goes_on('with an old model beside it')
    shutil.copytree(legal, ready, copy_function=shutil.copy) # said so, but what was there before not removed
    goes_on('with an old model that has no record')
    shutil.copytree(legal, project.state / 'legal.ready~') # exchanged by a file system that does so in steps
    goes_on('with an old model aside')
    record.rename(coming)
    legal.rename(ready)
    shutil.copytree(ready, project.state / 'legal.ready~') # and after the first of these
    goes_on('with nothing in place')
    coming.write_text(record.read_text()[:-9])
    goes_on('half a record')
    record.unlink()
    legal.rename(ready) # nothing says what it is
    expect(project.states('legal'), {'legal': ('absent', 'fresh')}, 'a model without a record')
    only_records(project, 'legal')
    same_model(project, 'legal', project.merged('legal', [project.adapter('legal')]))


def check_between_other_files(project):
    """The same, where what was there before has a file that the new model has not: whose it is must not be forgotten."""
    notice = project.base / 'NOTICE'
    notice.write_text('x')
    project.must('build', 'legal')
    before = project.folder / 'before'
    shutil.copytree(project.out / 'legal', before)
    was = (project.state / 'legal.model').read_bytes()
    notice.unlink()
    for put_in_place in False, True:
        project.must('build', 'legal')
        record, legal = project.state / 'legal.model', project.out / 'legal'
        record.rename(project.state / 'legal.next')
        legal.rename(project.state / 'legal.ready' if put_in_place else project.folder / 'lost')
        record.write_bytes(was)
        shutil.copytree(before, legal)
        expect(project.states('legal')['legal'][1], 'fresh', f'in the place of a model with a file more, {put_in_place}')
        only_records(project, 'legal')
        expect(names(legal), names(project.base), 'files')


def enlarge(project, factor=40):
    """The base as one with larger embeddings, so that a build takes a while."""
    for shard in project.base.glob('*.safetensors'):
        held = tensors.read_file(shard).tensors
        held['filler.' + shard.stem] = tensors.Tensor('BF16', (factor * 1024, 64), bytes(factor * 1024 * 128))
        tensors.write_file(shard, held)
    index = project.base / 'model.safetensors.index.json'
    said = json.loads(index.read_text())
    said['weight_map'] |= {'filler.' + shard.stem: shard.name for shard in project.base.glob('*.safetensors')}
    index.write_text(json.dumps(said))


def check_killed(project, chance, times):
    """At any moment, over an old model: that or the new one is there, whole, and building again ends with the new one."""
    enlarge(project)
    old = project.merged('old', [project.adapter('legal')])
    new = project.merged('new', [project.adapter('tang')])
    texts = [HEAD + f'scenarios: {{s: {{adapters: [{name}]}}}}\n' for name in ('legal', 'tang')]
    begin = time.monotonic()
    project.write(texts[0])
    project.must('build')
    seconds = time.monotonic() - begin
    for i in range(times + times // 2):
        how = signal.SIGKILL if i < times else chance.choice([signal.SIGINT, signal.SIGTERM])
        project.write(texts[0])
        project.must('build')
        project.write(texts[1])
        process = subprocess.Popen([project.lorapack.program, 'build', project.manifest], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep((i % times + chance.random()) / times * 1.2 * seconds)
        process.send_signal(how)
        talk = process.communicate()[1].strip()
        if not same_files(project.out / 's', old) and not same_files(project.out / 's', new):
            raise Complaint(f'{how.name}: neither the old nor the new model')
        if how != signal.SIGKILL and process.returncode == 1:
            expect_in('interrupted after', talk, how.name)
        expect(project.built()['s']['after']['state'], 'fresh', f'{how.name}: the next build')
        same_model(project, 's', new)
        only_records(project, 's')


def check_interrupted_hashing(project):
    """Before anything is written, the base is hashed: the message is about that. It was about 0 of 0 bytes of the model."""
    enlarge(project, 400)
    process = subprocess.Popen([project.lorapack.program, 'build', project.manifest, 'legal', '--threads', '1'],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not project.state.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    talk = process.communicate()[1]
    expect(process.returncode, 1, f'exit, {talk}')
    expect_in('interrupted after hashing', talk, 'build')
    expect(project.kept(), [], 'beside the results')


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    times = int(sys.argv[3]) if len(sys.argv) > 3 else 12
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 32)
    print(f'seed {seed}')
    checks = {'golden': lambda project: check_golden(project, demo), 'weights': check_weights, 'lora': check_lora, 'stale': check_stale,
              'strangers': check_strangers, 'links': check_links,
              'parts': check_parts, 'resumed': check_resumed, 'between': check_between,
              'between other files': check_between_other_files,
              'interrupted hashing': check_interrupted_hashing,
              'killed': lambda project: check_killed(project, random.Random(seed), times)}
    return run_checks(checks, lorapack, demo)


if __name__ == '__main__':
    sys.exit(main())
