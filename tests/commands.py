# SPDX-License-Identifier: MIT
"""The commands that write, each on small inputs and from where it begins: for the tests of what becomes of them when machines fail."""
import array
import collections
import hashlib
import json
import os
import re
import shutil
import subprocess
import typing

import tensors
from project import flip
from tensors import Tensor

# In a container, where the generation that was added to another is rooted.
SECOND_SLOT = 8192

MANIFEST = '''version: 1
base: ../base
roots: [..]
adapters:
  one: ../{adapter}
scenarios:
  model: {{adapters: [one]}}
'''

# Where results are, and what lorapack keeps there for itself; some of it only to be faster.
BUILD, STATE = 'build', '.lorafmt'
CACHED = [BUILD, f'{BUILD}/{STATE}', f'{BUILD}/{STATE}/base.stat']


def floats(rows, cols, step):
    """A small tensor of F32."""
    return Tensor('F32', (rows, cols), array.array('f', (((i * step) % 17 - 8) / 8 for i in range(rows * cols))).tobytes())


def write_adapter(folder, names, step):
    """A PEFT directory."""
    folder.mkdir()
    held = {}
    for name in names:
        module = 'base_model.model.' + name.removesuffix('.weight')
        held |= {f'{module}.lora_A.weight': floats(2, 8, step), f'{module}.lora_B.weight': floats(16, 2, step + 1)}
    tensors.write_file(folder / 'adapter_model.safetensors', held)
    (folder / 'adapter_config.json').write_text(json.dumps({'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4}))


def write_inputs(folder):
    """The same base as a file and in shards with a file beside them; two adapters; manifests that name one or the other."""
    held = {f'model.layers.{i}.q_proj.weight': floats(16, 8, i + 3) for i in range(3)}
    tensors.write_file(folder / 'base.safetensors', held)
    base = folder / 'base'
    base.mkdir()
    weight_map = {name: f'model-0000{min(i, 1) + 1}-of-00002.safetensors' for i, name in enumerate(held)}
    for shard in set(weight_map.values()):
        tensors.write_file(base / shard, {name: held[name] for name in held if weight_map[name] == shard})
    (base / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {'total_size': 1536}, 'weight_map': weight_map}))
    (base / 'config.json').write_text('{"tie_word_embeddings": false}')
    (base / 'tokenizer.json').write_text('{}')
    write_adapter(folder / 'adapter', list(held)[:2], 5)
    write_adapter(folder / 'other', list(held)[1:], 7)
    for adapter in ('adapter', 'other'):
        (folder / f'{adapter}.yaml').write_text(MANIFEST.format(adapter=adapter))


class Case(typing.NamedTuple):
    """A command, and those that make what is there when it begins. All is run in a folder with the inputs, and written in work/."""
    name: str
    command: str
    before: tuple = ()

    def prepare(self, lorapack, folder):
        """Make work/ as it is when the command begins."""
        shutil.rmtree(folder / 'work', ignore_errors=True)
        (folder / 'work').mkdir()
        for command in self.before:
            verb, what, *_ = command.split()
            if verb == 'use':
                shutil.copy(folder / f'{what}.yaml', folder / 'work/lorafmt.yaml')
            elif verb == 'damage':
                flip(folder / what, SECOND_SLOT)
            else:
                lorapack.must(*in_folder(command, folder))

    @property
    def is_threaded(self):
        """Whether the order of its calls is not always the same."""
        return '--threads 2' in self.command

    @property
    def in_place(self):
        """Whether it changes a file where it is."""
        return self.command.split()[0] in ('add', 'remove', 'rollback')


def in_folder(command, folder):
    """The words of a command, whose paths are in a folder."""
    return [folder / word if (folder / word.split('/')[0]).exists() else word for word in command.split()]


MERGE = 'merge --threads 1 --adapter adapter -o work/out '
OLD = 'merge --adapter other -o work/out '
FILE, SHARDS = '--base base.safetensors', '--base base'
ONE = ('pack adapter -o work/out',)
BOTH = (*ONE, 'add work/out other')
CASES = [
    Case('pack', 'pack adapter -o work/out'),
    Case('pack, forced', 'pack adapter -o work/out --force', ('pack other -o work/out',)),
    Case('pack, split', 'pack adapter other -o work/out --codec split --base base'),
    Case('merge, file', MERGE + FILE),
    Case('merge, file, forced', MERGE + FILE + ' --force', (OLD + FILE,)),
    Case('merge, shards', MERGE + SHARDS),
    Case('merge, shards, forced', MERGE + SHARDS + ' --force', (OLD + SHARDS,)),
    Case('merge, two threads', MERGE.replace('1', '2') + SHARDS),
    Case('merge, receipt', MERGE + FILE + ' --receipt work/receipt'),
    Case('lock', 'lock work/lorafmt.yaml --threads 1', ('use adapter',)),
    Case('lock, updated', 'lock work/lorafmt.yaml --threads 1 --update', ('use other', 'lock work/lorafmt.yaml', 'use adapter')),
    Case('build', 'build work/lorafmt.yaml --threads 1', ('use adapter',)),
    Case('build, stale', 'build work/lorafmt.yaml --threads 1', ('use other', 'build work/lorafmt.yaml', 'use adapter')),
    Case('build, lora', 'build work/lorafmt.yaml --threads 1 --as lora', ('use adapter',)),
    Case('add', 'add work/out other', ONE),
    Case('add, replacing', 'add work/out other --name adapter --replace', ONE),
    Case('remove', 'remove work/out adapter', BOTH),
    Case('rollback', 'rollback work/out --to 1', BOTH),
    Case('rollback, recovered', 'rollback work/out --to 1', (*BOTH, 'damage work/out')),
    Case('compact', 'compact work/out', BOTH),
]


def read_tree(folder):
    """What is in a folder: {path: bytes}, for a directory None."""
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in sorted(folder.rglob('*'))}


# What is written beside its place; a crash may leave it, and nobody reads it.
TEMPORARY = re.compile(r'(?:^|/)\.[^/]+\.lorapack-[a-z0-9]{6}~?(?:/|$)|\.tmp-\d+$')


def is_temporary(path):
    """Whether nobody reads it."""
    return TEMPORARY.search(path) is not None


def results(tree):
    """What a user reads, by what comes into its place at once: {path of it: {path: bytes}}."""
    units = collections.defaultdict(dict)
    for path, data in tree.items():
        parts = path.split('/')
        if path in CACHED or STATE in parts or is_temporary(path):
            continue
        units['/'.join(parts[:2 if parts[0] == BUILD else 1])][path] = data
    return dict(units)


def settled(tree):
    """What must be the same after all runs that succeed: of records only the names, since they have times in them."""
    return {path: None if STATE in path.split('/') else data for path, data in tree.items()
            if path not in CACHED and not is_temporary(path)}


class Reader:
    """What the library finds in a container, which it checks to the last digest."""

    def __init__(self, dump, folder):
        self.dump, self.path, self.known = os.path.abspath(dump), folder / 'found.lora', {}

    def read(self, data):
        """All that it says."""
        key = hashlib.sha256(data).digest()
        if key not in self.known:
            self.path.write_bytes(data)
            done = subprocess.run([self.dump, self.path], stdout=subprocess.PIPE, text=True, check=False, timeout=60)
            self.known[key] = json.loads(done.stdout)
        return self.known[key]

    def same(self, data, other):
        """Whether it is all right and holds the same, in the same places."""
        found, wanted = self.read(data), self.read(other)
        return found['verdict'] in ('good', 'recovered') and all(found[key] == wanted[key] for key in ('adapters', 'tensors'))


class Table:
    """What came of each command: numbers, of which the last says how often the test failed, and complaints."""

    def __init__(self, numbers, outcomes):
        self.outcomes, self.total = outcomes, [0] * (len(numbers) + len(outcomes))
        self.widths = [max(7, len(name)) for name in (*numbers, *outcomes)]
        self.line('', (*numbers, *outcomes))

    def line(self, name, cells):
        """Print a line."""
        print(f'{name:24}', *(f'{cell:>{width}}' for cell, width in zip(cells, self.widths)), sep='  ', flush=True)

    def add(self, name, tally, complaints, numbers):
        """What came of one."""
        if tally.keys() - set(self.outcomes):
            raise ValueError(f'{name}: {tally}')
        cells = [*numbers, *(tally[outcome] for outcome in self.outcomes)]
        self.total = [sum(pair) for pair in zip(self.total, cells)]
        self.line(name, cells)
        print(*(complaint + '\n' for complaint in complaints), sep='', end='', flush=True)

    def end(self):
        """Print the sums; the exit code of the test."""
        self.line('all', self.total)
        return 1 if self.total[-1] else 0
