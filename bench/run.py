#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure what liblorafmt promises, side by side in one run, and print one table; ./dev bench builds what this needs and runs it.

usage: run.py BUILD_DIR [--mb N] [--full] [--pairs N] [--only GROUP,...] [--json FILE] [--disk DIR] [--memory DIR]

Models are made up (presets.py) at about N megabytes; --full makes them whole. Ways that are compared take turns within a round, and a
ratio is that of the two times of one round: the table has the median of the rounds with the least and the most. Inputs are in the
page cache. Groups: merge, compute, memory, swap, mount, lookup, decode, size, kernel, forward, unmerged, extract, hostile.
"""
import argparse
import collections
import json
import operator
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing

import hostile
import mounted
import presets
import report
import size

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
DEMO_ADAPTERS = REPOSITORY / 'examples/demo-model/adapters'
POLL = 0.001 # seconds between two looks at a process's memory


def read_all(folder):
    """Have the page cache hold a folder."""
    for path in folder.iterdir():
        with open(path, 'rb', buffering=0) as file:
            while file.read(1 << 24):
                pass


def sync_files(folder):
    """Have the disk hold a folder."""
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def peak_anonymous(command):
    """Run a command; the most RssAnon (kB in /proc/PID/status) seen by looking at it all the time, in bytes."""
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        def watch():
            nonlocal peak
            while process.poll() is None:
                try:
                    status = pathlib.Path(f'/proc/{process.pid}/status').read_text(encoding='ascii')
                except OSError:
                    return
                peak = max(peak, *(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith('RssAnon')), 0)
                time.sleep(POLL)
        watcher = threading.Thread(target=watch)
        watcher.start()
        watcher.join()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return peak


class Bench:
    """One run: where things are, and the rows of the table so far."""

    def __init__(self, options, disk, memory):
        self.options, self.disk, self.memory = options, disk, memory
        self.lorapack = options.build / 'lorapack'
        self.rows, self.raw = [], {}

    def add(self, group, what, unit, values, target='', note=''):
        """One row; values are those of the rounds, or (median, least, most)."""
        low, high = min(values), max(values)
        row = {'group': group, 'what': what, 'unit': unit, 'median': statistics.median(values), 'least': low, 'most': high,
               'target': target, 'note': note}
        self.rows.append(row)
        print(report.line(row), flush=True)

    def skip(self, group, why):
        """Say what is not measured."""
        self.rows.append({'group': group, 'what': why, 'unit': ''})
        print(f'{group}: {why}', flush=True)

    def layers(self, preset):
        """How many layers a model has in this run."""
        return preset.n_layers if self.options.full else presets.layers_for(preset, self.options.mb)

    def pack(self, preset, layers, rank, name):
        """A `.lora` on disk."""
        folder, packed = self.disk / name, self.disk / f'{name}.lora'
        presets.make_adapter(folder, preset, layers, rank)
        subprocess.run([self.lorapack, 'pack', folder, '-o', packed, '--name', name, '--quiet'], check=True)
        shutil.rmtree(folder)
        return packed

    def merge(self, base, adapters, out, *more):
        """The command."""
        return [self.lorapack, 'merge', '--base', base, '-o', out, '--quiet', *more,
                *(argument for adapter in adapters for argument in ('--adapter', adapter))]

    def rounds(self, ways, run):
        """{way: [what run(command) gives, by round]}; every other round goes backwards."""
        results = {way: [] for way in ways}
        for i in range(self.options.pairs):
            for way in list(ways)[::-1 if i % 2 else 1]:
                results[way].append(run(ways[way]))
        return results


def over(results, way, other):
    """Ratios by round of one way's times to another's."""
    return [a.total / b.total for a, b in zip(results[way], results[other])]


def describe(results, way):
    """What a way's time is made of."""
    returned, synced, cpu = (statistics.median(part) for part in zip(*results[way]))
    return f'{way}: {returned:.2f} s + {synced:.2f} s to sync, {cpu:.2f} s of CPU'


class Times(typing.NamedTuple):
    """Seconds of one command."""
    returned: float # until it returned
    synced: float   # from then until what it wrote was on disk
    cpu: float      # that it computed, on all cores, itself and in the kernel

    @property
    def total(self):
        """Until all was on disk."""
        return self.returned + self.synced


def timed(command, out):
    """Run a command; what it wrote is removed."""
    os.sync()
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    returned = time.perf_counter()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    sync_files(out)
    synced = time.perf_counter()
    shutil.rmtree(out)
    return Times(returned - start, synced - returned, usage.ru_utime + usage.ru_stime)


def measure_merge(bench, name):
    """Merging one preset against copying it, both on disk at the end."""
    preset = presets.PRESETS[name]
    layers = bench.layers(preset)
    base, out = bench.disk / 'base', bench.disk / 'out'
    presets.make_base(base, preset, layers)
    adapters = {rank: bench.pack(preset, layers, rank, f'r{rank}') for rank in ((16, 64) if bench.options.full or name == 'llama-1b' else (16,))}
    ways = {'copy': ['cp', '-r', '--reflink=never', base, out]}
    ways |= {f'r = {rank}': bench.merge(base, [packed], out) for rank, packed in adapters.items()}
    receipt = bench.disk / 'receipt.json'
    ways['receipt'] = bench.merge(base, [adapters[16]], out, '--receipt', receipt, '--force')

    def run(command):
        read_all(base)
        return timed(command, out)

    results = bench.rounds(ways, run)
    megabytes = presets.model_bytes(preset, layers) / 1e6
    for rank in adapters:
        way = f'r = {rank}'
        bench.add('merge', f'{name}, {preset.dtype}, {megabytes:.0f} MB, {way}: merge / copy, both synced', 'x',
                  over(results, way, 'copy'), '<= 1.25' if rank == 16 else '<= 1.6',
                  f'{describe(results, "copy")}; {describe(results, way)}')
    bench.add('merge', f'{name}, {preset.dtype}, {megabytes:.0f} MB, r = 16: with --receipt / without, both synced', 'x',
              over(results, 'receipt', 'r = 16'), '<= 1.15', describe(results, 'receipt'))
    receipt.unlink()
    bench.raw[f'merge {name}'] = results
    shutil.rmtree(base)
    for packed in adapters.values():
        packed.unlink()


def measure_merges(bench):
    """All presets."""
    for name in presets.PRESETS:
        measure_merge(bench, name)


def measure_compute(bench):
    """What the disk hides: the same model into memory (tmpfs), by rank, threads, adapters, and with a receipt."""
    preset = presets.PRESETS['llama-1b']
    layers = bench.layers(preset)
    base, out, receipt = bench.disk / 'base', bench.memory / 'out', bench.memory / 'receipt.json'
    presets.make_base(base, preset, layers)
    adapters = {rank: bench.pack(preset, layers, rank, f'r{rank}') for rank in (4, 16, 64)}
    three = [adapters[16], bench.pack(preset, layers, 16, 'second'), bench.pack(preset, layers, 16, 'third')]
    ways = {'copy': ['cp', '-r', '--reflink=never', base, out], 'three': bench.merge(base, three, out),
            'receipt': bench.merge(base, three[:1], out, '--receipt', receipt, '--force')}
    for rank, packed in adapters.items():
        ways |= {f'r = {rank}': bench.merge(base, [packed], out),
                 f'r = {rank}, 1 thread': bench.merge(base, [packed], out, '--threads', '1')}
    read_all(base)
    results = bench.rounds(ways, lambda command: timed(command, out))
    megabytes = presets.model_bytes(preset, layers) / 1e6
    what = f'llama-1b, {megabytes:.0f} MB into memory'
    for rank in adapters:
        bench.add('compute', f'{what}, r = {rank}: merge / copy', 'x', over(results, f'r = {rank}', 'copy'), '',
                  f'{describe(results, "copy")}; {describe(results, f"r = {rank}")}')
    bench.add('compute', f'{what}, r = 16: three adapters / one', 'x', over(results, 'three', 'r = 16'))
    bench.add('compute', f'{what}, r = 16: with --receipt / without', 'x', over(results, 'receipt', 'r = 16'))
    for rank in adapters:
        bench.add('compute', f'{what}, r = {rank}: one thread / {os.cpu_count()} threads', 'x',
                  over(results, f'r = {rank}, 1 thread', f'r = {rank}'), '>= 0.95' if rank < 16 else '>= 1')
    bench.raw['compute'] = results
    shutil.rmtree(base)
    receipt.unlink()
    for packed in {*adapters.values(), *three}:
        packed.unlink()


def measure_memory(bench):
    """Peak anonymous memory of a merge, of a model and of one four times as large with the same adapter and with its own."""
    preset = presets.PRESETS['llama-1b']
    small = max(1, bench.layers(preset) // 4)
    out = bench.memory / 'out'
    for rank in (16, 64):
        same = bench.pack(preset, small, rank, 'same')
        cases = [('the model', small, same), ('a model 4 x as large, the same adapter', 4 * small, same),
                 ('a model 4 x as large, its own adapter', 4 * small, bench.pack(preset, 4 * small, rank, 'own'))]
        for what, layers, packed in cases:
            base = bench.disk / 'base'
            presets.make_base(base, preset, layers)
            peaks = []
            for _ in range(3):
                peaks.append(peak_anonymous(bench.merge(base, [packed], out)) / 2**20)
                shutil.rmtree(out)
            adapter = packed.stat().st_size / 2**20
            megabytes = presets.model_bytes(preset, layers) / 1e6
            bench.add('memory', f'{what}: llama-1b, {megabytes:.0f} MB, r = {rank}, adapter of {adapter:.0f} MiB', 'MiB', peaks,
                      f'<= {64 + adapter:.0f}', 'most RssAnon, looked at every millisecond')
            shutil.rmtree(base)
        for _, _, packed in cases[1:]:
            packed.unlink()


def measure_swap(bench):
    """Loading with adapters and switching them in memory, against loading and copying, each as lorapack apply times them."""
    preset = presets.PRESETS['llama-1b']
    layers = bench.layers(preset)
    base = bench.memory / 'base'
    presets.make_base(base, preset, layers)
    adapters = {rank: bench.pack(preset, layers, rank, f'r{rank}') for rank in (4, 8, 16)}
    read_all(bench.disk)
    command = [bench.lorapack, 'apply', '--base', base, '--adapter', adapters[16], '--json',
               *(argument for packed in adapters.values() for argument in ('--swap', packed))]
    runs = [json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout) for _ in range(bench.options.pairs)]
    what = f'llama-1b, {presets.model_bytes(preset, layers) / 1e6:.0f} MB'
    plain = statistics.median(run['load_plain_seconds'] for run in runs)
    bench.add('swap', f'{what}, r = 16: load with the adapter / without', 'x',
              [run['load_seconds'] / run['load_plain_seconds'] for run in runs], '<= 1.2', f'without: {plain:.2f} s')
    for i, rank in enumerate(adapters):
        ways = [run['swaps'][i] for run in runs]
        copy = statistics.median(way['copy_seconds']['median'] for way in ways)
        bench.add('swap', f'{what}, r = {rank}: switch / copy its tensors', 'x',
                  [way['swap_seconds']['median'] / way['copy_seconds']['median'] for way in ways],
                  '<= 1.5' if rank == 16 else '<= 1.2', f'copy: {1e3 * copy:.0f} ms')
    bench.raw['swap'] = runs
    shutil.rmtree(base)
    for packed in adapters.values():
        packed.unlink()


def lines_of(bench, program, *arguments):
    """What a bench program prints with --json; None when it is not built."""
    path = bench.options.build / 'bench' / program
    if not path.exists():
        bench.skip(program.removeprefix('bench_'), f'{program} is not built')
        return None
    output = subprocess.run([path, '--json', *arguments], check=True, stdout=subprocess.PIPE, text=True).stdout
    bench.raw[program] = [json.loads(line) for line in output.splitlines()]
    return bench.raw[program]


def measure_lookup(bench):
    """bench_lookup."""
    targets = {(10000, 'open, digest verified; read all'): '>= 5', (10000, 'open, digest deferred; find all'): '>= 20',
               (10000, 'open, digest deferred; read all'): '>= 20'}
    for line in lines_of(bench, 'bench_lookup') or []:
        if 'cJSON' not in line['way']:
            note = f'{line["us"][1]:.0f} us at best; {line["allocations"]} allocations'
            bench.add('lookup', f'{line["tensors"]} tensors: cJSON parse / {line["way"]}', 'x', line['json_over_this'],
                      targets.get((line['tensors'], line['way']), ''), note)


def measure_decode(bench):
    """bench_decode."""
    speeds, ratios = {'F32': '>= 1.8', 'BF16': '>= 0.9'}, {'F32': '>= 1.20', 'BF16': '>= 1.50'}
    for line in lines_of(bench, 'bench_decode', DEMO_ADAPTERS / 'scripture') or []:
        dtype, split = line['dtype'], line['way'] == 'split'
        bench.add('decode', f'{dtype}, {line["way"]}, one core', 'GB/s', line['gb_s'], speeds[dtype] if split else '',
                  f'{line["over_memcpy"]:.1f} x the time of memcpy')
        if split:
            bench.add('decode', f'{dtype}, codec raw / codec split, a large file', 'x', [line['smaller']], ratios[dtype])


def measure_size(bench):
    """Codec split on the demo model's adapters, whose files are so small that header pages and padding count."""
    for dtype in ('f32', 'bf16'):
        ratios = [size.measure(bench.lorapack, adapter, dtype, bench.disk)['ratio'] for adapter in sorted(DEMO_ADAPTERS.iterdir())]
        bench.add('size', f'codec raw / codec split, whole small files, {dtype}', 'x', ratios, '', f'{len(ratios)} adapters')


def measure_kernel(bench):
    """bench_kernel."""
    arguments = [] if bench.options.full else ['--size', '4096', '--rounds', '5']
    for line in lines_of(bench, 'bench_kernel', *arguments) or []:
        bench.add('kernel', f'{line["level"]}, {line["dtype"]}, {line["threads"]} thread(s), r = {line["rank"]}: '
                  'time / (r = 0 pass + flops at peak)', 'x', [line['sum'], line['sum_least'], line['sum_most']],
                  '<= 1.15' if line['rank'] < 16 else '<= 1.08', f'{line["max"]:.2f} x the larger of the two')


def measure_forward(bench):
    """bench_forward: at few tokens held against reading the factors, at many against the multiply-adds, and against OpenBLAS."""
    for line in lines_of(bench, 'bench_forward', '--quick', '--rounds', '7' if bench.options.full else '3') or []:
        few = line['tokens'] < 8
        what = (f'{line["level"]}, {line["dtype"]}, {line["threads"]} thread(s), r = {line["rank"]}, {line["adapters"]} adapter(s), '
                f'{line["tokens"]} token(s) each{", scattered" if line["scattered"] else ""}')
        bench.add('forward', f'{what}: {"reading the factors" if few else "flops at peak"} / time', 'x',
                  line['stream' if few else 'peak'], '>= 0.85' if few else '>= 0.6',
                  f'{line["pages"][0]:.2f} of eight pages at once' if few else f'{line["limit"][0]:.2f} of the slowest limit')
        if line['blas'][0]:
            bench.add('forward', f'{what}: OpenBLAS / time', 'x', line['blas'], '>= 1')


def measure_extract(bench):
    """bench_extract, where liblorakit is built."""
    for line in lines_of(bench, 'bench_extract', '--rounds', '7' if bench.options.full else '3') or []:
        what = f'{line["rows"]} x {line["cols"]}, planted rank {line["rank"]}, {line["threads"]} thread(s)'
        for norm, wanted in ('frobenius', 'Frobenius'), ('spectral', 'spectral'):
            bench.add('extract', f'{what}: error of the sketch / least there is, {wanted} norm', 'x', [line[norm]], '<= 1.01',
                      f'{line["powers"]} power iterations')
        bench.add('extract', f'{what}: time / its multiply-adds in square products', 'x',
                  [line['time'], line['time_least'], line['time_most']], '<= 2', f'{line["seconds"]:.2f} s')


def measure_unmerged(bench):
    """bench_unmerged: the demo model, whose adapters are large beside it."""
    for line in lines_of(bench, 'bench_unmerged', DEMO_ADAPTERS.parent) or []:
        bench.add('unmerged', f'tinylm writes {line["texts"]} text(s) at once: CPU time unmerged / merged', 'x', line['unmerged_over_merged'],
                  '', f'{line["unmerged_us"]:.0f} us for each byte')


def measure_hostile(bench):
    """What each reader takes to refuse its worst inputs of up to 1 MiB, beyond an idle program."""
    readers = collections.defaultdict(list)
    for cost in hostile.measure(bench.lorapack):
        readers[cost.name.split()[0]].append(cost)
    for reader, costs in readers.items():
        for unit, most in ('ms', '<= 100'), ('MiB', '<= 16'):
            worst = max(costs, key=operator.attrgetter(unit))
            bench.add('hostile', f'{reader}: the most of {len(costs)} inputs', unit, [getattr(worst, unit)], most, worst.name)


GROUPS = {'merge': measure_merges, 'compute': measure_compute, 'memory': measure_memory, 'swap': measure_swap,
          'mount': mounted.measure_mount, 'lookup': measure_lookup, 'decode': measure_decode, 'size': measure_size, 'kernel': measure_kernel, 'forward': measure_forward, 'unmerged': measure_unmerged,
          'extract': measure_extract, 'hostile': measure_hostile}


def machine(disk):
    """What the figures depend on."""
    def output(*command):
        return subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    cpu = next((line.split(':')[1].strip() for line in pathlib.Path('/proc/cpuinfo').read_text(encoding='ascii').splitlines()
                if line.startswith('model name')), os.uname().machine)
    device = os.stat(disk).st_dev
    return {'cpu': cpu, 'cores': os.cpu_count(), 'memory_gib': round(os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30),
            'kernel': f'{os.uname().sysname} {os.uname().release}', 'disk': disk_kind(os.major(device), os.minor(device)),
            'file_system': output('df', '--output=fstype', disk).split()[-1], 'load': os.getloadavg()[0],
            'commit': output('git', '-C', REPOSITORY, 'describe', '--always', '--dirty')}


def disk_kind(major, minor):
    """The name of a disk and of its model, and whether the kernel takes it for a rotating one."""
    part = pathlib.Path(f'/sys/dev/block/{major}:{minor}')
    if not part.exists():
        return 'unknown'
    part = part.resolve()
    disk = part if (part / 'queue').exists() else part.parent
    model = disk / 'device/model'
    rotates = (disk / 'queue/rotational').read_text(encoding='ascii').strip()
    return f'{disk.name}, {model.read_text().strip() if model.exists() else "no model known"}, rotational {rotates}'


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('build', type=pathlib.Path)
    parser.add_argument('--mb', type=int, default=512, help='size of the models (512)')
    parser.add_argument('--full', action='store_true', help='whole models, up to 2.2 GB')
    parser.add_argument('--pairs', type=int, help='rounds of each comparison (3; 7 with --full)')
    parser.add_argument('--only', default=','.join(GROUPS), help='groups to measure')
    parser.add_argument('--json', type=pathlib.Path, help='keep everything in this file, for report.py')
    parser.add_argument('--disk', type=pathlib.Path, default=pathlib.Path(tempfile.gettempdir()))
    parser.add_argument('--memory', type=pathlib.Path, default=pathlib.Path('/dev/shm'))
    options = parser.parse_args()
    options.pairs = options.pairs or (7 if options.full else 3)
    unknown = set(options.only.split(',')) - GROUPS.keys()
    if unknown:
        parser.error(f'no such group: {", ".join(sorted(unknown))}')
    return options


def main():
    options = parse_options()
    started = time.time()
    with tempfile.TemporaryDirectory(dir=options.disk) as disk, tempfile.TemporaryDirectory(dir=options.memory) as memory:
        bench = Bench(options, pathlib.Path(disk), pathlib.Path(memory))
        about = machine(options.disk)
        for group in options.only.split(','):
            GROUPS[group](bench)
    about |= {'date': time.strftime('%Y-%m-%d', time.gmtime(started)), 'minutes': round((time.time() - started) / 60, 1),
              'pairs': options.pairs, 'models': 'whole' if options.full else f'about {options.mb} MB'}
    if options.json:
        options.json.write_text(json.dumps({'machine': about, 'rows': bench.rows, 'raw': bench.raw}, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(main())
