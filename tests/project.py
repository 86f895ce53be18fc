# SPDX-License-Identifier: MIT
"""A folder with the demo model in shards, its adapters, and a manifest that names them."""
import json
import os
import pathlib
import shutil
import tempfile

import tensors
from lorapack import Complaint, merge, names

ADAPTERS = ['legal', 'scripture', 'tang']
HEAD = 'version: 1\nbase: base\nadapters:\n' + ''.join(f'  {name}: adapters/{name}\n' for name in ADAPTERS)
SCENARIOS = '''scenarios:
  legal: {adapters: [legal]}
  both:
    adapters:
      - {adapter: scripture, weight: 0.5}
      - {adapter: legal, weight: 0.5}
'''


def expect(value, wanted, what):
    """Complain unless they are the same."""
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def expect_in(part, text, what):
    """Complain unless the text has the part."""
    if part not in text:
        raise Complaint(f'{what}: {text!r} does not have {part!r}')


def flip(path, offset=-5):
    """Change one bit of a file, and leave its size and times as they were."""
    before, data = path.stat(), bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)
    times(path, before)


def times(path, before):
    """Give a file the times of a stat."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_shards(source, folder, n):
    """A base of one file as n shards with an index."""
    held, weight_map = list(tensors.read_model(source).items()), {}
    folder.mkdir()
    shutil.copy(source / 'config.json', folder)
    for i in range(n):
        name, part = f'model-{i + 1:05}-of-{n:05}.safetensors', dict(held[i::n])
        tensors.write_file(folder / name, part)
        weight_map |= {tensor: name for tensor in part}
    total = sum(len(tensor.data) for _, tensor in held)
    (folder / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {'total_size': total}, 'weight_map': weight_map}))


class Project:
    """Base, adapters and manifest; and what is made of them."""

    def __init__(self, lorapack, demo, folder, n_shards=3, scenarios=SCENARIOS):
        self.lorapack, self.folder = lorapack, folder
        self.manifest, self.lock = folder / 'lorafmt.yaml', folder / 'lorafmt.lock'
        self.base, self.out = folder / 'base', folder / 'build'
        self.state = self.out / '.lorafmt'
        folder.mkdir()
        write_shards(demo / 'base', self.base, n_shards)
        shutil.copytree(demo / 'adapters', folder / 'adapters')
        self.write(HEAD + scenarios)

    def write(self, text):
        """Write the manifest."""
        self.manifest.write_text(text)

    def weights(self, adapter):
        """The file with an adapter's tensors."""
        return self.folder / 'adapters' / adapter / 'adapter_model.safetensors'

    def must(self, command, *arguments):
        """What a command on the manifest prints."""
        return self.lorapack.must(command, self.manifest, *arguments)

    def says(self, command, *arguments):
        """What it prints as JSON, whether it succeeds or not."""
        code, output, message = self.lorapack.run(command, self.manifest, *arguments, '--json')
        if not output:
            raise Complaint(f'{command}: exit {code}: {message}')
        return code, json.loads(output)

    def refused(self, part, command, *arguments, code=1):
        """It must fail and say so, at the end."""
        found, _, message = self.lorapack.run(command, self.manifest, *arguments)
        expect(found, code, f'exit of {command}, which says {message!r}')
        expect_in(part, message, command)

    def built(self, *arguments):
        """What build says of each scenario, by its name."""
        code, found = self.says('build', *arguments)
        expect(code, 0, 'exit of build')
        return {scenario['name']: scenario for scenario in found['scenarios']}

    def states(self, *arguments):
        """State of each scenario before and after a build."""
        return {name: (scenario['before']['state'], scenario['after']['state'])
                for name, scenario in self.built(*arguments).items()}

    def merged(self, name, adapters):
        """The same model by merge."""
        out = self.folder / f'merged-{name}'
        if not out.exists():
            self.lorapack.must(*merge(self.base, adapters, out))
        return out

    def adapter(self, name, weight=1):
        """As merge takes it."""
        return f'{self.folder / "adapters" / name}={weight}'

    def kept(self):
        """What is beside the results."""
        return names(self.state)


def run_checks(checks, lorapack, demo):
    """Each check, {name: function}, on a project of its own; the exit code of the test."""
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, check in checks.items():
            try:
                check(Project(lorapack, demo, pathlib.Path(folder) / name.replace(' ', '-')))
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(checks) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0
