# SPDX-License-Identifier: MIT
"""The group `mount` of run.py: reading models that are not stored, against a plain FUSE file and against stored ones."""
import hashlib
import os
import pathlib
import shutil
import signal
import statistics
import subprocess
import time

import presets

READ = 1 << 20
PATIENCE = 20 # seconds for something to be mounted
RANKS = (4, 16, 64)
SHARDS = 4


class Mounted:
    """A program that mounts on a folder, while it does."""

    def __init__(self, command, folder):
        self.command, self.folder = command, folder

    def __enter__(self):
        self.folder.mkdir()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        give_up = time.time() + PATIENCE
        while not os.path.ismount(self.folder):
            if self.process.poll() is not None or time.time() > give_up:
                raise RuntimeError(f'{self.command[0]} does not mount')
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        subprocess.run(['umount', self.folder], check=False, stderr=subprocess.DEVNULL)
        self.process.wait()
        self.folder.rmdir()

    def anonymous(self):
        """RssAnon, in bytes."""
        status = pathlib.Path(f'/proc/{self.process.pid}/status').read_text(encoding='ascii')
        return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith('RssAnon'))


def read_rate(paths):
    """Bytes a second of reading files from one end to the other."""
    buffer, total, start = bytearray(READ), 0, time.perf_counter()
    for path in paths:
        with open(path, 'rb', buffering=0) as file:
            while n := file.readinto(buffer):
                total += n
    return total / (time.perf_counter() - start)


def open_seconds(folder):
    """Listing a model, and opening and reading the headers of all its files."""
    start = time.perf_counter()
    for name in os.listdir(folder):
        with open(folder / name, 'rb', buffering=0) as file:
            file.read(8)
    return time.perf_counter() - start


def digests(folder):
    """SHA-256 of every file."""
    found = {}
    for path in sorted(folder.iterdir()):
        digest = hashlib.sha256()
        with open(path, 'rb', buffering=0) as file:
            while block := file.read(READ):
                digest.update(block)
        found[path.name] = digest.hexdigest()
    return found


def disk_usage(*folders):
    """Bytes that folders take on disk."""
    return sum(512 * path.stat().st_blocks for folder in folders for path in folder.rglob('*') if path.is_file())


def check_same(bench, base, manifest, adapters):
    """Every file of every scenario, mounted, built and merged, is the same; what the three take on disk."""
    built, merged, at = bench.disk / 'built', bench.disk / 'merged', bench.disk / 'mounted'
    subprocess.run([bench.lorapack, 'build', manifest, '-o', built, '--quiet'], check=True)
    with Mounted([bench.lorapack, 'mount', manifest, at, '-f', '-q'], at):
        for rank, packed in adapters.items():
            subprocess.run(bench.merge(base, [packed], merged), check=True)
            found = digests(at / f'r{rank}')
            if found != digests(built / f'r{rank}') or found != digests(merged):
                raise RuntimeError(f'r = {rank}: mounted, built and merged models differ')
            shutil.rmtree(merged)
    stored = disk_usage(*(built / f'r{rank}' for rank in adapters))
    kept = disk_usage(base) + sum(512 * packed.stat().st_blocks for packed in adapters.values())
    bench.add('mount', f'{len(adapters)} scenarios in {SHARDS} shards, mounted, built and merged: the same bytes; stored / base and adapters',
              'x', [stored / kept], '', f'{stored / 1e9:.1f} GB stored, {kept / 1e9:.1f} GB of base and adapters')
    shutil.rmtree(built)


def one_round(bench, base, manifest):
    """Rates of one turn of each way, and what there is to know of the mount."""
    shards, at, there = sorted(base.glob('*.safetensors')), bench.disk / 'mounted', {}
    passthrough = bench.options.build / 'bench/bench_passthrough'
    for way, more in (('plain', ['copy']), ('spliced', [])):
        rates = []
        for shard in shards:
            with Mounted([passthrough, shard, at, *more], at):
                rates.append(shard.stat().st_size / read_rate([at / 'file']))
        there[way] = sum(shard.stat().st_size for shard in shards) / sum(rates)
    with Mounted([bench.lorapack, 'mount', manifest, at, '-f', '-q'], at) as mount:
        there['open'] = open_seconds(at / 'r16')
        for rank in RANKS:
            files = sorted((at / f'r{rank}').glob('*.safetensors'))
            there[f'r{rank}'] = read_rate(files)
        there['again'] = read_rate(files)
        there['stored'] = read_rate(shards)
        there['anonymous'] = mount.anonymous()
    return there


def measure_mount(bench):
    """A model of several shards with three scenarios."""
    if not (bench.options.build / 'bench/bench_passthrough').exists() or not os.path.exists('/dev/fuse'):
        bench.skip('mount', 'nothing can be mounted here')
        return
    preset = presets.PRESETS['llama-1b']
    layers = bench.layers(preset)
    base, manifest = bench.disk / 'base', bench.disk / 'lorafmt.yaml'
    presets.make_base(base, preset, layers, SHARDS)
    adapters = {rank: bench.pack(preset, layers, rank, f'r{rank}') for rank in RANKS}
    lines = ['version: 1', 'base: base', 'adapters:', *(f'  r{rank}: r{rank}.lora' for rank in RANKS), 'scenarios:',
             *(f'  r{rank}: {{adapters: [r{rank}]}}' for rank in RANKS)]
    manifest.write_text('\n'.join(lines) + '\n')
    check_same(bench, base, manifest, adapters)
    rounds = [one_round(bench, base, manifest) for _ in range(bench.options.pairs)]
    what = f'llama-1b, {presets.model_bytes(preset, layers) / 1e6:.0f} MB'
    for way, target in (('plain', '>= 0.8'), ('spliced', '')):
        rate = statistics.median(there[way] for there in rounds) / 1e9
        for rank in RANKS:
            bench.add('mount', f'{what}, r = {rank}: rate of the first read / of a {way} pass-through', 'x',
                      [there[f'r{rank}'] / there[way] for there in rounds], target if rank == 16 else '', f'{way}: {rate:.2f} GB/s')
    bench.add('mount', f'{what}: rate of the second read / of a stored file in the page cache', 'x',
              [there['again'] / there['stored'] for there in rounds])
    bench.add('mount', f'{what}: list, open and read the first bytes of all files', 'ms', [1e3 * there['open'] for there in rounds], '<= 10')
    adapter_bytes = sum(packed.stat().st_size for packed in adapters.values()) / 2**20
    bench.add('mount', f'{what}: anonymous memory, adapters of {adapter_bytes:.0f} MiB', 'MiB',
              [there['anonymous'] / 2**20 for there in rounds], f'<= {64 + adapter_bytes:.0f}')
    bench.raw['mount'] = rounds
    shutil.rmtree(base)
