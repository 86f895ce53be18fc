#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What doctor says of each kind of damage: cause, place, what is intact, and advice that works as printed.

usage: test_doctor.py LORAPACK DEMO_MODEL READER VECTORS KIT

Places in .lora files are judged by READER, spec/reader.py. KIT is 1 when lorapack has manifests.
"""
import gzip
import json
import math
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import typing

import tensors
from lorapack import Complaint, Lorapack
from project import expect, expect_in, write_shards
from test_vectors import load

ADAPTERS = ['legal', 'scripture', 'tang']
PREFIX = 'base_model.model.'
SLOTS = (4096, 8192)
LFS = b'version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 499064\n'


class Doctor:
    """The program, beside the files that cases start from."""

    def __init__(self, program, demo, reader, vectors, folder):
        self.lorapack, self.demo = Lorapack(program), demo
        self.reader, self.vectors = load(reader), load(vectors / 'build.py')
        (folder / 'bin').mkdir()
        (folder / 'bin/lorapack').symlink_to(pathlib.Path(program).resolve())
        self.path = f'{folder / "bin"}:{os.environ["PATH"]}'
        self.all = folder / 'all.lora' # three adapters
        self.lorapack.must('pack', *(demo / 'adapters' / name for name in ADAPTERS), '-o', self.all)
        self.lived = folder / 'lived.lora' # generation 1 has them all, 2 two, 3 the last
        shutil.copy(self.all, self.lived)
        for name in ADAPTERS[:2]:
            self.lorapack.must('remove', self.lived, name)

    def says(self, path):
        """The diagnosis. The exit code goes with the verdict, people are told the same, and no file is touched."""
        before = snapshot(path.parent)
        code, output, message = self.lorapack.run('doctor', path, '--json')
        expect(message, '', 'stderr')
        found = json.loads(output)
        expect(code, 1 if found['verdict'] == 'broken' else 0, f'exit when {found["verdict"]}')
        _, text, _ = self.lorapack.run('doctor', path)
        expect(text.splitlines()[0], f'{path}: {found["verdict"]}', 'first line')
        for line in text.splitlines():
            if len(line) > 80 and not line.startswith(' ' * 16) and str(path) not in line:
                raise Complaint(f'a line of {len(line)} columns: {line}')
        expect(snapshot(path.parent), before, 'files after doctor')
        return found

    def refusal(self, path):
        """Where the other reader finds fault with a .lora."""
        return self.reader.read(path.read_bytes()).offset

    def follow(self, found, folder, **words):
        """Run the commands that are advised, as printed but for words in capitals; how many there were."""
        commands = [advice['text'] for advice in found['advice'] if advice['command'] and not advice['text'].startswith('git ')]
        for command in commands:
            for name, value in words.items():
                command = command.replace(name, str(value))
            done = subprocess.run(command, shell=True, cwd=folder, env={**os.environ, 'PATH': self.path}, text=True, check=False,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
            expect(done.returncode, 0, f'exit of {command}, which says {done.stdout}')
        return len(commands)


def snapshot(folder):
    """Names, times and sizes of all files."""
    return {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in sorted(folder.rglob('*'))}


def worst(found):
    """The first finding, which is one of the worst."""
    levels = [('broken', 'suspicious', 'note').index(finding['level']) for finding in found['findings']]
    expect(levels, sorted(levels), 'order of findings')
    if not found['findings']:
        raise Complaint('nothing is found')
    return found['findings'][0]


def causes(found):
    """All causes."""
    return [finding['cause'] for finding in found['findings']]


# --- files of all kinds ---


class Case(typing.NamedTuple):
    """What is made of a folder, and what doctor says of it."""
    make: typing.Callable # (doctor, folder) -> path
    verdict: str
    kind: str
    cause: str
    place: str = ''       # in file, field or text of the worst finding
    advice: str = ''      # in one of the advices


def file(name, data):
    """A file of these bytes."""
    def make(doctor, folder):
        del doctor
        (folder / name).write_bytes(data)
        return folder / name
    return make


def changed(change, source='all', name='broken.lora'):
    """A .lora file with its bytes changed."""
    def make(doctor, folder):
        data = bytearray(getattr(doctor, source).read_bytes())
        (folder / name).write_bytes(change(data) or data)
        return folder / name
    return make


def flipped(offset):
    """Change one bit."""
    def change(data):
        data[offset] ^= 1
    return change


def adapter(change=None, config=None, without=()):
    """A PEFT directory with tensors or settings changed, or without some of its files."""
    def make(doctor, folder):
        shutil.copytree(doctor.demo / 'adapters/legal', folder / 'peft')
        weights, settings = folder / 'peft/adapter_model.safetensors', folder / 'peft/adapter_config.json'
        held = tensors.read_file(weights)
        if change:
            change(held.tensors)
            tensors.write_file(weights, held.tensors, held.metadata)
        if config:
            settings.write_text(config(settings.read_text()))
        for name in without:
            (folder / 'peft' / name).unlink()
        return folder / 'peft'
    return make


def first_key(held, suffix):
    """A tensor by the end of its name."""
    return next(key for key in held if key.endswith(suffix))


def make_nan(held):
    """One element is NaN."""
    key = first_key(held, 'q_proj.lora_A.weight')
    bits = struct.pack('<f', math.nan)[2:] # the demo's tensors are BF16
    held[key] = held[key]._replace(data=bits + held[key].data[2:])


def make_empty(held):
    """A tensor that sharded training left empty."""
    key = first_key(held, 'q_proj.lora_A.weight')
    held[key] = tensors.Tensor(held[key].dtype, (0,), b'')


def lose_half(held):
    """A without its B."""
    del held[first_key(held, 'q_proj.lora_B.weight')]


def truncated_tensors(doctor, folder):
    """A PEFT directory whose download broke off."""
    path = adapter()(doctor, folder) / 'adapter_model.safetensors'
    os.truncate(path, path.stat().st_size // 2)
    return path.parent


def pickled(doctor, folder):
    """A PEFT directory as old PEFT saved it."""
    path = adapter()(doctor, folder)
    (path / 'adapter_model.safetensors').rename(path / 'adapter_model.bin')
    return path


def bare(doctor, folder):
    """Tensors without their config."""
    shutil.copy(doctor.demo / 'adapters/legal/adapter_model.safetensors', folder / 'bare.safetensors')
    return folder / 'bare.safetensors'


def packed_by_gzip(doctor, folder):
    """An adapter file in gzip."""
    path = folder / 'bare.safetensors'
    path.write_bytes(gzip.compress(bare(doctor, folder).read_bytes()))
    return path


def renamed(doctor, folder):
    """A safetensors file that is called .lora."""
    return bare(doctor, folder).rename(folder / 'bare.lora')


def checkpoints(doctor, folder):
    """A folder of adapters."""
    shutil.copytree(doctor.demo / 'adapters', folder / 'run')
    return folder / 'run'


def shards(change):
    """A base in three shards, changed."""
    def make(doctor, folder):
        write_shards(doctor.demo / 'base', folder / 'base', 3)
        return change(folder / 'base') or folder / 'base'
    return make


SHARD, INDEX = 'model-00002-of-00003.safetensors', 'model.safetensors.index.json'


def truncate_shard(base):
    """Half of it is there."""
    os.truncate(base / SHARD, (base / SHARD).stat().st_size // 2)


def disagree(base):
    """The index places a tensor in another shard."""
    index = json.loads((base / INDEX).read_text())
    name = next(name for name, shard in index['weight_map'].items() if shard == SHARD)
    index['weight_map'][name] = SHARD.replace('2', '1', 1)
    (base / INDEX).write_text(json.dumps(index))
    return base / INDEX


def quantise(base):
    """A config that names a quantisation."""
    config = json.loads((base / 'config.json').read_text())
    (base / 'config.json').write_text(json.dumps({**config, 'quantization_config': {'quant_method': 'gptq'}}))


def pipe(doctor, folder):
    """A FIFO, which must not be waited for."""
    del doctor
    os.mkfifo(folder / 'pipe')
    return folder / 'pipe'


def experts(doctor, folder):
    """An adapter that its base must be given for."""
    del doctor
    case = pathlib.Path(__file__).resolve().parent / 'conformance/moe-target-parameters/adapter'
    shutil.copytree(case, folder / 'experts')
    return folder / 'experts'


CASES = {
    'sound lora': Case(lambda doctor, folder: shutil.copy(doctor.all, folder) and folder / 'all.lora', 'sound', 'lora', 'unsigned'),
    'sound base': Case(shards(lambda base: None), 'sound', 'model', ''),
    'sound shard index': Case(shards(lambda base: base / INDEX), 'sound', 'model', ''),
    'sound peft': Case(adapter(), 'sound', 'peft', ''),
    'its config': Case(lambda doctor, folder: adapter()(doctor, folder) / 'adapter_config.json', 'sound', 'peft', ''),
    'its tensors': Case(lambda doctor, folder: adapter()(doctor, folder) / 'adapter_model.safetensors', 'sound', 'safetensors', ''),

    'truncated': Case(changed(lambda data: data[:len(data) // 2]), 'broken', 'lora', 'cut-short', 'root[0].file_end', 'curl -C -'),
    'truncated early': Case(changed(lambda data: data[:5000]), 'broken', 'lora', 'cut-short', 'header', 'the rest of it'),
    'header': Case(changed(flipped(14)), 'broken', 'lora', 'damaged-page', 'header.crc32', 'again'),
    'header page': Case(changed(flipped(100)), 'broken', 'lora', 'bytes-between', 'header.reserved'),
    'only slot': Case(changed(flipped(SLOTS[0] + 40)), 'broken', 'lora', 'damaged-page', 'root[0].crc32'),
    'index': Case(changed(flipped(12288 + 20000)), 'broken', 'lora', 'damaged-index', 'root[0].index_sha256'),
    'tensor': Case(changed(flipped(-100)), 'broken', 'lora', 'damaged-data', '.sha256', 'checksum'),
    'line ends': Case(changed(lambda data: data.replace(b'\r\n', b'\n')), 'broken', 'lora', 'text-mode', 'header.magic', 'binary'),
    'more line ends': Case(changed(lambda data: data.replace(b'\n', b'\r\n')), 'broken', 'lora', 'text-mode', 'header.magic'),
    'torn slot': Case(changed(flipped(SLOTS[0] + 40), 'lived'), 'suspicious', 'lora', 'recovered', 'root[0].crc32', '--to 2'),
    'torn append': Case(changed(lambda data: data[:-100], 'lived'), 'suspicious', 'lora', 'recovered', 'root[0].file_end', '--to 2'),
    'bytes behind': Case(changed(lambda data: data + b'abc', 'lived'), 'suspicious', 'lora', 'bytes-after-end', '3 bytes'),
    'lora by another name': Case(changed(flipped(-100), name='adapter.bin'), 'broken', 'lora', 'damaged-data', '.sha256'),

    'git lfs': Case(file('a.lora', LFS), 'broken', 'other', 'git-lfs', '', 'git -C'),
    'git lfs tensors': Case(file('a.safetensors', LFS), 'broken', 'other', 'git-lfs', '', 'lfs pull'),
    'page': Case(file('a.lora', b'<!DOCTYPE html><html>404</html>'), 'broken', 'other', 'web-page', '', 'logged in'),
    'error of a store': Case(file('a.safetensors', b'<?xml version="1.0"?><Error/>'), 'broken', 'other', 'web-page'),
    'pickle': Case(file('a.bin', b'\x80\x02}q\x00.'), 'broken', 'other', 'pickle', 'pickle', 'safe_serialization'),
    'pickle in zip': Case(file('a.lora', b'PK\x03\x04archive'), 'broken', 'other', 'pickle'),
    'gguf': Case(file('a.gguf', b'GGUF\x03\0\0\0'), 'broken', 'other', 'gguf'),
    'gzip': Case(packed_by_gzip, 'broken', 'other', 'gzip', '', 'gunzip'),
    'empty lora': Case(file('a.lora', b''), 'broken', 'other', 'empty'),
    'empty tensors': Case(file('a.safetensors', b''), 'broken', 'other', 'empty'),
    'text': Case(file('notes.txt', b'where did I put it?'), 'broken', 'other', 'other-kind'),
    'nothing': Case(lambda doctor, folder: folder / 'nothing.lora', 'broken', 'nothing', 'missing', 'No such file'),
    'pipe': Case(pipe, 'broken', 'other', 'not-a-file', 'regular file'),
    'empty folder': Case(lambda doctor, folder: folder, 'broken', 'other', 'other-kind'),
    'folder of adapters': Case(checkpoints, 'broken', 'other', 'elsewhere', 'legal, scripture, tang'),
    'renamed': Case(renamed, 'broken', 'model', 'wrong-name', '', 'Rename'),

    'no config': Case(adapter(without=['adapter_config.json']), 'broken', 'peft', 'no-config', 'adapter_config.json', '--alpha ALPHA'),
    'no tensors': Case(adapter(without=['adapter_model.safetensors']), 'broken', 'peft', 'part-missing', 'adapter_model.safetensors'),
    'pickled': Case(pickled, 'broken', 'peft', 'pickle', 'adapter_model.bin'),
    'bare': Case(bare, 'suspicious', 'safetensors', 'no-scale', '', '--alpha ALPHA'),
    'experts': Case(experts, 'suspicious', 'peft', 'needs-base', '', '--base BASE'),
    'nan': Case(adapter(make_nan), 'suspicious', 'peft', 'not-finite', 'q_proj'),
    'gathered too late': Case(adapter(make_empty), 'broken', 'peft', 'empty-tensor', 'lora_A', 'gathered'),
    'half a pair': Case(adapter(lose_half), 'broken', 'peft', 'does-not-go-together', 'lora_A'),
    'cut tensors': Case(truncated_tensors, 'broken', 'peft', 'cut-short', 'adapter_model.safetensors'),
    'cut config': Case(adapter(config=lambda text: text[:100]), 'broken', 'peft', 'bad-config', 'adapter_config.json'),
    'a variant': Case(adapter(config=lambda text: text.replace('{', '{"use_qalora": true,', 1)), 'broken', 'peft', 'cannot-be-used'),

    'shard missing': Case(shards(lambda base: (base / SHARD).unlink()), 'broken', 'model', 'part-missing', SHARD),
    'index missing': Case(shards(lambda base: (base / INDEX).unlink()), 'broken', 'model', 'part-missing', INDEX),
    'shard cut': Case(shards(truncate_shard), 'broken', 'model', 'cut-short', SHARD),
    'shards disagree': Case(shards(disagree), 'broken', 'model', 'shards-disagree', SHARD.replace('2', '1', 1)),
    'quantised': Case(shards(quantise), 'suspicious', 'model', 'quantised', 'gptq'),
}


def check_case(doctor, case, folder):
    """The right cause at the right place, and that what is advised works."""
    path = case.make(doctor, folder)
    found = doctor.says(path)
    expect((found['verdict'], found['kind']), (case.verdict, case.kind), 'verdict and kind')
    if not case.cause:
        expect(found['findings'], [], 'findings')
        return
    finding = worst(found)
    expect(finding['cause'], case.cause, 'cause')
    expect_in(case.place, f'{finding["file"]}: {finding["field"]}: {finding["text"]}', 'place')
    expect_in(case.advice, '\n'.join(advice['text'] for advice in found['advice']), 'advice')
    refused_at = doctor.refusal(path) if case.kind == 'lora' else None
    if refused_at is not None:
        expect(finding['offset'], refused_at, 'offset')
    base = pathlib.Path(__file__).resolve().parent / 'conformance/moe-target-parameters/base'
    doctor.follow(found, folder, ALPHA=8, BASE=base)


# --- what of a .lora can still be read ---


def ids(doctor, path):
    """Adapters and their ids."""
    return {adapter['name']: adapter['id'] for adapter in json.loads(doctor.lorapack.must('inspect', path, '--json'))['adapters']}


def check_rescue(doctor, folder):
    """A damaged tensor costs one site of one adapter. The others are whole, and what is advised saves them, whatever the names."""
    folder = folder / "it's a test"
    folder.mkdir()
    path = changed(flipped(-100))(doctor, folder)
    listing = doctor.reader.read(doctor.all.read_bytes()).listing()
    hit = max(range(len(listing['tensors'])), key=lambda i: listing['tensors'][i]['offset'])
    found = doctor.says(path)
    expect(worst(found)['field'], f'tensor[{hit}].sha256', 'field')
    for held, part in zip(listing['adapters'], found['adapters'], strict=True):
        damaged = [site['target'] for site in held['sites'] if hit in [factor['tensor'] for factor in site['factors']]]
        expect((part['name'], part['readable'], part['n_intact'], part['n_sites']),
               (held['name'], not damaged, len(held['sites']) - len(damaged), len(held['sites'])), 'adapter')
        if damaged:
            expect(part['damaged'], f'B of {damaged[0]}', 'what is damaged')
    expect(doctor.follow(found, folder), 1, 'commands')
    expect(ids(doctor, folder / 'broken-rescued.lora'), {name: ids(doctor, doctor.all)[name] for name in ('legal', 'scripture')},
           'adapters that were saved')


def check_paths(doctor, folder):
    """Commands name what is meant: a folder with a dot and a slash in it, a path longer than an error can hold."""
    path = adapter(without=['adapter_config.json'])(doctor, folder).rename(folder / 'v1.5')
    _, output, _ = doctor.lorapack.run('doctor', f'{path}/')
    expect_in(f' -o {path}.lora\n', output, 'text')
    deep = folder.joinpath(*['d' * 200] * 4)
    deep.mkdir(parents=True)
    (deep / 'a.lora').write_bytes(LFS)
    expect_in(f' -C {deep} lfs pull\n', doctor.lorapack.run('doctor', deep / 'a.lora')[1], 'text')


def check_index_damage(doctor, folder):
    """When names and numbers cannot be trusted, nothing is readable, though the data may be as it was."""
    listing = doctor.reader.read(doctor.all.read_bytes()).listing()
    digest = bytes.fromhex(listing['adapters'][0]['adapter_id'])
    found = doctor.says(changed(flipped(doctor.all.read_bytes().index(digest)))(doctor, folder))
    expect(worst(found)['cause'], 'damaged-index', 'cause')
    expect([(part['readable'], part['n_intact'] == part['n_sites']) for part in found['adapters']], [(False, True)] * 3, 'adapters')
    expect(doctor.follow(found, folder), 0, 'commands')


def check_going_back(doctor, folder):
    """Data of the last adapter is damaged in a file that had it alone from generation 3 on: no earlier state is whole, either."""
    found = doctor.says(changed(flipped(doctor.all.stat().st_size - 100), 'lived')(doctor, folder))
    expect([(part['generation'], part['n_adapters'], part['intact']) for part in found['earlier']], [(2, 2, False), (1, 3, False)],
           'earlier states')
    expect(doctor.follow(found, folder), 0, 'commands')


def check_going_back_works(doctor, folder):
    """Data that only the newest state has is damaged: the one before is whole, and can be gone back to."""
    path = folder / 'grown.lora'
    doctor.lorapack.must('pack', doctor.demo / 'adapters/legal', '-o', path)
    size = path.stat().st_size
    doctor.lorapack.must('add', path, doctor.demo / 'adapters/tang')
    offset = max(tensor['offset'] for tensor in doctor.reader.read(path.read_bytes()).listing()['tensors'])
    data = bytearray(path.read_bytes())
    expect(offset > size, True, 'new data lies behind the old')
    data[offset] ^= 1
    path.write_bytes(data)
    found = doctor.says(path)
    expect(worst(found)['cause'], 'damaged-data', 'cause')
    expect([(part['generation'], part['intact']) for part in found['earlier']], [(1, True)], 'earlier states')
    expect([(part['name'], part['readable']) for part in found['adapters']], [('legal', True), ('tang', False)], 'adapters')
    expect(doctor.follow(found, folder), 2, 'commands')
    doctor.lorapack.must('verify', folder / 'grown-rescued.lora')
    doctor.lorapack.must('verify', path)
    expect(list(ids(doctor, path)), ['legal'], 'adapters after going back')


def check_damaged_history(doctor, folder):
    """An earlier state is damaged where the current one does not need it."""
    listing = doctor.reader.read(doctor.all.read_bytes()).listing()
    offset = min(tensor['offset'] for tensor in listing['tensors']) # of legal, which generation 2 removed
    found = doctor.says(changed(flipped(offset), 'lived')(doctor, folder))
    expect(found['verdict'], 'suspicious', 'verdict')
    expect(worst(found)['cause'], 'damaged-history', 'cause')
    expect([part['intact'] for part in found['earlier']], [True, False], 'earlier states')


def check_recovered(doctor, folder):
    """Accepting the state that is shown, as advised, makes it sound, without what was lost."""
    path = changed(flipped(SLOTS[0] + 40), 'lived')(doctor, folder)
    expect(doctor.follow(doctor.says(path), folder), 1, 'commands')
    found = doctor.says(path)
    expect((found['verdict'], causes(found)), ('sound', ['unsigned']), 'after accepting it')
    expect(list(ids(doctor, path)), ADAPTERS[1:], 'adapters')


def check_signatures(doctor, folder):
    """A signature counts when its key made it."""
    path = folder / 'signed.lora'
    shutil.copy(doctor.all, path)
    doctor.lorapack.must('keygen', '-o', folder / 'key')
    for i, name in enumerate(ADAPTERS):
        finding = worst(doctor.says(path))
        expect((finding['cause'], finding['text']), ('unsigned', f'{3 - i} of 3 adapters not signed'), 'before signing')
        doctor.lorapack.must('sign', f'{path}#{name}', '--key', folder / 'key.pem')
    expect(doctor.says(path)['findings'], [], 'findings when all are signed')

    shutil.copy(pathlib.Path(doctor.vectors.__file__).parent / 'good-signatures.lora', folder) # of which none is genuine
    expect(causes(doctor.says(folder / 'good-signatures.lora')), ['false-signature'] * 2, 'signatures that no key made')


def check_shared_tensors(doctor, folder):
    """Sites that share a large tensor are not all looked at: the work is bounded by the file."""
    build = doctor.vectors
    large = build.tensor('F32', [1 << 18], 1.0)
    sites = [build.values(build.ADDITIVE, large, f't{i:04}') for i in range(512)]
    data = bytearray(build.one(*sites).bytes())
    data[-1] ^= 1
    (folder / 'shared.lora').write_bytes(data)
    part, = doctor.says(folder / 'shared.lora')['adapters']
    expect((part['readable'], part['n_sites'], part['n_intact']), (False, 512, None), 'adapter')


# --- manifests ---


HEAD = 'version: 1\nbase: base\nadapters: {legal: legal.lora, tang: tang.lora}\n'
SCENARIOS = 'scenarios: {legal: {adapters: [legal]}, both: {adapters: [legal, tang]}}\n'


def write_project(doctor, folder):
    """A manifest that is sound."""
    write_shards(doctor.demo / 'base', folder / 'base', 2)
    for name in ('legal', 'tang'):
        doctor.lorapack.must('pack', doctor.demo / 'adapters' / name, '-o', folder / f'{name}.lora')
    (folder / 'lorafmt.yaml').write_text(HEAD + SCENARIOS)
    return folder / 'lorafmt.yaml'


def check_manifest(doctor, folder):
    """Sound, a line that may not be, a file that is not sound, one that is missing; a lock and what drifted from it."""
    path = write_project(doctor, folder)
    found = doctor.says(path)
    expect((found['verdict'], found['kind'], causes(found)), ('sound', 'manifest', []), 'manifest')
    doctor.lorapack.must('lock', path)
    lock = path.with_suffix('.lock')
    found = doctor.says(lock)
    expect((found['verdict'], found['kind'], causes(found)), ('sound', 'lock', []), 'lock')

    path.write_text(HEAD + SCENARIOS + 'scenery: {}\n')
    found = doctor.says(path)
    expect(worst(found)['cause'], 'bad-manifest', 'cause')
    expect_in(f'lorafmt.yaml:{1 + (HEAD + SCENARIOS).count(chr(10))}:1', worst(found)['file'], 'line and column')
    path.write_text(HEAD + SCENARIOS)

    tang = folder / 'tang.lora'
    whole = tang.read_bytes()
    tang.write_bytes(whole[:-100])
    lock.unlink()
    found = doctor.says(path)
    expect((worst(found)['cause'], pathlib.Path(worst(found)['file']).name), ('named-file', 'tang.lora'), 'cause')
    expect_in('lorapack doctor', '\n'.join(advice['text'] for advice in found['advice'] if advice['command']), 'advice')
    tang.unlink()
    expect(worst(doctor.says(path))['cause'], 'part-missing', 'cause')
    tang.write_bytes(whole)

    doctor.lorapack.must('keygen', '-o', folder / 'key')
    doctor.lorapack.must('sign', tang, '--key', folder / 'key.pem')
    path.write_text(HEAD + 'require-signature: [key.pub.pem]\n' + SCENARIOS)
    found = doctor.says(path)
    expect(causes(found), ['untrusted'], 'legal is not signed')
    expect_in('legal.lora', worst(found)['file'], 'which one is not')


def check_lock(doctor, folder):
    """What drifted is named, and accepted as advised; a lock that was edited, and one alone."""
    path = write_project(doctor, folder)
    lock = path.with_suffix('.lock')
    doctor.lorapack.must('lock', path)
    doctor.lorapack.must('pack', doctor.demo / 'adapters/scripture', '--name', 'tang', '-o', folder / 'tang.lora', '--force')
    for asked in (path, lock):
        found = doctor.says(asked)
        expect((found['verdict'], worst(found)['cause']), ('broken', 'drift'), 'drifted')
        expect_in('adapters.tang', worst(found)['text'], 'what drifted')
    expect(doctor.follow(found, folder), 1, 'commands')
    expect(doctor.says(lock)['verdict'], 'sound', 'verdict')
    lock.write_text(lock.read_text().replace('sha256: "', 'sha256: "xyz'))
    found = doctor.says(lock)
    expect(worst(found)['cause'], 'bad-lock', 'cause')
    expect(doctor.follow(found, folder), 1, 'commands')
    expect(doctor.says(path)['verdict'], 'sound', 'verdict')
    path.unlink()
    found = doctor.says(lock)
    expect((found['verdict'], worst(found)['cause']), ('suspicious', 'part-missing'), 'a lock alone')


# --- everything else that a .lora may be ---


# Opening meets the name that the first string is not, before verification meets the first string.
MET_ELSEWHERE = ('bad-pool-first.lora', )


def check_vector(doctor, vector, path):
    """Verdict, place, no crash; and what is advised saves what it says."""
    found = doctor.says(path)
    if vector['verdict'] in ('good', 'recovered'):
        expect(found['verdict'] != 'broken', True, vector['name'])
        expect('recovered' in causes(found), vector['verdict'] == 'recovered', f'{vector["name"]}: recovered')
        return
    expect(found['verdict'], 'broken', vector['name'])
    if vector['verdict'] == 'unsupported':
        expect(worst(found)['cause'], 'newer', vector['name'])
    if vector['offset'] is not None and vector['name'] not in MET_ELSEWHERE:
        expect(worst(found)['offset'], vector['offset'], f'{vector["name"]}: offset')
    doctor.follow(found, path.parent)
    for rescued in path.parent.glob('*-rescued.lora'):
        doctor.lorapack.must('verify', rescued)


def check_vectors(doctor, folder):
    """Every vector of the spec."""
    vectors = pathlib.Path(doctor.vectors.__file__).parent
    for vector in json.loads((vectors / 'vectors.json').read_text()):
        own = folder / pathlib.Path(vector['name']).stem
        own.mkdir()
        shutil.copy(vectors / vector['name'], own)
        check_vector(doctor, vector, own / vector['name'])


def check_any_bytes(doctor, folder):
    """Damage at random places of files of two kinds is told, and never more than that."""
    rng = random.Random(8)
    small = pathlib.Path(doctor.vectors.__file__).parent / 'good-three-generations.lora'
    for source in (small, doctor.demo / 'adapters/legal/adapter_model.safetensors'):
        for i in range(40):
            data = bytearray(source.read_bytes())
            for _ in range(rng.choice((1, 3, 20))):
                data[rng.randrange(len(data))] = rng.randrange(256)
            path = folder / f'{i}{source.suffix}'
            path.write_bytes(data[:rng.choice((len(data), rng.randrange(len(data))))])
            doctor.says(path)
            path.unlink()


CHECKS = {'rescue': check_rescue, 'paths': check_paths, 'index damage': check_index_damage, 'going back': check_going_back,
          'going back works': check_going_back_works, 'damaged history': check_damaged_history, 'recovered': check_recovered,
          'signatures': check_signatures, 'shared tensors': check_shared_tensors, 'vectors': check_vectors,
          'any bytes': check_any_bytes}
KIT_CHECKS = {'manifest': check_manifest, 'lock': check_lock}


def main():
    program, demo, reader, vectors, kit = sys.argv[1:]
    checks = {name: lambda doctor, folder, case=case: check_case(doctor, case, folder) for name, case in CASES.items()}
    checks.update(CHECKS)
    if int(kit):
        checks.update(KIT_CHECKS)
    n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        doctor = Doctor(program, pathlib.Path(demo), pathlib.Path(reader), pathlib.Path(vectors), folder)
        for name, check in checks.items():
            own = folder / name.replace(' ', '-')
            own.mkdir()
            try:
                check(doctor, own)
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(checks) - n_failed} passed, {n_failed} failed')
    sys.exit(1 if n_failed else 0)


main()
