#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds in parts, run as others run them: by make, and by what tasks of Slurm and Kubernetes do, in any order.

usage: test_emit_jobs.py LORAPACK
"""
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, same_files

N_FILES, N = 3, 6
# A shell, make, YAML and Kubernetes would each make something else of one of these.
ODD_NAME = "it's $(HOME) $x \"#1\" 100%: {a}.yaml"


def expect(value, wanted, what):
    if value != wanted:
        raise Complaint(f'{what}: {value!r}, not {wanted!r}')


def made(seed, shape):
    source = random.Random(seed)
    return tensors.Tensor('F32', shape, struct.pack(f'<{shape[0] * shape[1]}f', *(source.gauss(0, 1) for _ in range(shape[0] * shape[1]))))


class Place:
    """A sharded base, an adapter, and a manifest of two scenarios."""

    def __init__(self, lorapack, folder, name='lorafmt.yaml'):
        self.lorapack, self.folder, self.manifest = lorapack, folder, folder / name
        base, adapter = folder / 'base', folder / 'a'
        base.mkdir()
        adapter.mkdir()
        layers = [f'model.layers.{i}.mlp.up_proj' for i in range(N)]
        files = {layer: f'model-{i % N_FILES + 1:05}-of-{N_FILES:05}.safetensors' for i, layer in enumerate(layers)}
        for file in set(files.values()):
            tensors.write_file(base / file, {f'{layer}.weight': made(layer, (8, 6)) for layer in layers if files[layer] == file})
        (base / 'model.safetensors.index.json').write_text(json.dumps(
            {'metadata': {'total_size': N * 8 * 6 * 4}, 'weight_map': {f'{layer}.weight': file for layer, file in files.items()}}))
        tensors.write_file(adapter / 'adapter_model.safetensors', {
            f'base_model.model.{layer}.lora_{factor}.weight': made(layer + factor, shape) for layer in layers for factor, shape in (('A', (2, 6)), ('B', (8, 2)))})
        (adapter / 'adapter_config.json').write_text(json.dumps({'peft_type': 'LORA', 'r': 2, 'lora_alpha': 4, 'target_modules': ['up_proj']}))
        self.manifest.write_text(json.dumps({'version': 1, 'base': 'base', 'adapters': {'a': 'a'}, 'scenarios': {
            'full': {'adapters': ['a']}, 'half-1.0_x': {'adapters': [{'adapter': 'a', 'weight': 0.5}]}}}))
        lorapack.must('build', self.manifest, '-o', folder / 'direct')

    def emit(self, engine, *more):
        return self.lorapack.must('emit', self.manifest, '--for', engine, *more)

    def run(self, *arguments, **variables):
        """In the manifest's directory, with lorapack where programs are looked for."""
        path = f'{self.folder / "bin"}:/usr/bin:/bin'
        if not (self.folder / 'bin').exists():
            (self.folder / 'bin').mkdir()
            (self.folder / 'bin' / 'lorapack').symlink_to(pathlib.Path(self.lorapack.program).resolve())
        return subprocess.run(arguments, cwd=self.folder, env={'PATH': path, 'HOME': '/nowhere'} | variables, capture_output=True, text=True, check=False,
                              timeout=240)

    def expect_built(self, what):
        for scenario in 'full', 'half-1.0_x':
            if not same_files(self.folder / 'build' / scenario, self.folder / 'direct' / scenario):
                raise Complaint(f'{what}: {scenario} has other bytes than `build` writes')
        shutil.rmtree(self.folder / 'build')


def tasks(place, arguments, variable, n, what):
    """All numbers, in an order of no meaning, and one too many."""
    order = list(range(n))
    random.Random(what).shuffle(order)
    for number in order:
        done = place.run(*arguments, **{variable: str(number)})
        if done.returncode:
            raise Complaint(f'{what}: task {number}: {done.stderr}')
    place.expect_built(what)
    expect(place.run(*arguments, **{variable: str(n)}).returncode == 0, False, f'{what}: a task of a number that there is not')


def test_make(place):
    if not shutil.which('make', path='/usr/bin:/bin'):
        print('there is no make: its makefile was not run')
        return
    place.emit('make', '-o', place.folder / 'builds.mk')
    done = place.run('make', '-j2', '-f', 'builds.mk')
    expect((done.returncode, done.stdout.count('--part')), (0, 2 * N_FILES), f'make: {done.stderr}')
    place.expect_built('make')
    done = place.run('make', '-j2', '-f', 'builds.mk', 'full', 'LORAPACK=lorapack')
    expect((done.returncode, (place.folder / 'build' / 'half-1.0_x').exists()), (0, False), 'one goal')
    place.run('make', '-f', 'builds.mk')
    place.expect_built('the other goal after it')


def test_slurm(place):
    for more, n in (['--parts', '2'], 4), (['--parts', '5'], 10):
        script = place.folder / 'job.sh'
        place.emit('slurm', '-o', script, *more)
        expect(place.run('bash', '-n', script).returncode, 0, 'its syntax')
        arrays = [line for line in script.read_text().splitlines() if line.startswith('#SBATCH --array')]
        expect(arrays, [f'#SBATCH --array=0-{n - 1}'], 'numbers')
        tasks(place, ['sh', script], 'SLURM_ARRAY_TASK_ID', n, f'slurm {n}')
    script = place.folder / 'job.sh'
    place.emit('slurm', '-o', script, 'full')
    tasks_of_one = [place.run('sh', script, os.fspath(place.folder / 'bin' / 'lorapack'), SLURM_ARRAY_TASK_ID=str(i)).returncode for i in range(3)]
    expect((tasks_of_one, sorted(path.name for path in (place.folder / 'build').iterdir() if path.name[0] != '.')), ([0, 0, 0], ['full']), 'one scenario')


def k8s_script(text):
    """The block of the command, as its container gets it: `$$` is one `$`."""
    lines = text.splitlines()
    begin = lines.index('            - |') + 1
    block = []
    for line in lines[begin:]:
        if not line.startswith(' ' * 14):
            break
        block.append(line[14:])
    return '\n'.join(block).replace('$$', '$') + '\n'


def test_k8s(place):
    text = place.emit('k8s', '--image', 'registry/lorapack:1', '--claim', 'models')
    for line in '  completionMode: Indexed', '  completions: 6', '  parallelism: 6', '          image: "registry/lorapack:1"', '            claimName: "models"':
        expect(text.splitlines().count(line), 1, line)
    tasks(place, ['sh', '-c', k8s_script(text)], 'JOB_COMPLETION_INDEX', 2 * N_FILES, 'k8s')
    odd = place.emit('k8s', '--image', 'a"b\\c')
    expect('image: "a\\"b\\\\c"' in odd and '"REPLACE-WITH-A-CLAIM"' in odd, True, 'an odd image and no claim')
    job = place.folder / 'job.yaml'
    job.write_text(text)
    code, _, message = place.lorapack.run('plan', job)
    expect((code, 'job.yaml:3:1: must have the key version' in message), (1, True), f'strict YAML, and no manifest: {message}')


def test_defaults_and_limits(place):
    said = json.loads(place.emit('make', '--json', '-o', place.folder / 'x.mk'))
    expect(said, {'for': 'make', 'output': os.fspath(place.folder / 'x.mk'), 'parts': N_FILES, 'scenarios': ['full', 'half-1.0_x']}, 'JSON')
    for bad in 'a\nb.yaml', '-a.yaml', 'a\x7fb.yaml', os.fsdecode(b'a\xffb.yaml'):
        (place.folder / bad).write_bytes(place.manifest.read_bytes())
        code, output, message = place.lorapack.run('emit', place.folder / bad, '--for', 'make')
        expect((code, output, 'cannot be written in what others read' in message), (1, '', True), message)


def main():
    lorapack = Lorapack(sys.argv[1])
    tests = [test_make, test_slurm, test_k8s, test_defaults_and_limits]
    n_failed = 0
    for test in tests:
        for name in 'lorafmt.yaml', ODD_NAME:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    test(Place(lorapack, pathlib.Path(folder).resolve(), name))
                except Complaint as complaint:
                    print(f'FAIL {test.__name__} of {name}: {complaint}')
                    n_failed += 1
    print(f'{2 * len(tests) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
