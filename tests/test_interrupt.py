# SPDX-License-Identifier: MIT
"""A merge that is stopped, at any moment and by any signal, leaves an output that is whole or none; and living files hear signals.

usage: test_interrupt.py LORAPACK [TIMES [SEED]]

TIMES is how often a merge is killed (default 16), and half as often it is interrupted; 200 takes half a minute.
"""
import array
import json
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import tensors
from lorapack import Complaint, Lorapack, merge, same_files
from tensors import Tensor

PREFIX = 'base_model.model.'
ROWS, COLS, RANK, SHARDS = 4096, 512, 4, 3

# The name of what is not finished: tests may remove it, and so may people.
TEMPORARY = re.compile(r'\.out\.lorapack-[a-z0-9]{6}')


def bf16(rows, cols, step):
    pattern = array.array('H', ((0x3f00 if i % 2 else 0xbf00) + i * step % 251 for i in range(4096)))
    return Tensor('BF16', (rows, cols), (pattern.tobytes() * (rows * cols // 4096 + 1))[:2 * rows * cols])


def write_models(folder):
    """The same base as one file and as shards, and an adapter for it."""
    held = {f'model.layers.{i}.q_proj.weight': bf16(ROWS, COLS, i + 1) for i in range(SHARDS)}
    tensors.write_file(folder / 'base.safetensors', held)
    sharded, adapter = folder / 'base', folder / 'adapter'
    sharded.mkdir()
    adapter.mkdir()
    weight_map = {name: f'model-{i + 1:05}-of-{SHARDS:05}.safetensors' for i, name in enumerate(held)}
    for name, shard in weight_map.items():
        tensors.write_file(sharded / shard, {name: held[name]})
    (sharded / 'model.safetensors.index.json').write_text(json.dumps({'metadata': {}, 'weight_map': weight_map}))
    (sharded / 'config.json').write_text('{"tie_word_embeddings": false}')
    lora = {}
    for name in held:
        module = PREFIX + name.removesuffix('.weight')
        lora |= {f'{module}.lora_A.weight': bf16(RANK, COLS, 3), f'{module}.lora_B.weight': bf16(ROWS, RANK, 5)}
    tensors.write_file(adapter / 'adapter_model.safetensors', lora)
    (adapter / 'adapter_config.json').write_text(json.dumps({'peft_type': 'LORA', 'r': RANK, 'lora_alpha': RANK}))


def same(left, right):
    return same_files(left, right) if right.is_dir() else left.is_file() and left.read_bytes() == right.read_bytes()


def remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def copy(path, to):
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        shutil.copyfile(path, to)


class Setting:
    """One way to merge: from a file or shards, to a new name or over an older output; with what must come of it."""

    def __init__(self, lorapack, folder, base, force):
        self.lorapack, self.folder, self.base = lorapack, folder, folder / base
        self.work, self.old, self.new = folder / 'work', folder / f'{base}.old', folder / f'{base}.new'
        self.out = self.work / 'out'
        self.force = force
        self.name = f'{base}, {"forced" if force else "new"}'
        if not self.new.exists():
            lorapack.must(*merge(self.base, [f'{folder / "adapter"}=0.5'], self.old))
            lorapack.must(*merge(self.base, [folder / 'adapter'], self.new))
        self.reset()
        self.seconds = min(self.time() for _ in range(3))

    def reset(self):
        remove(self.work)
        self.work.mkdir()
        if self.force:
            copy(self.old, self.out)

    def start(self):
        return subprocess.Popen([self.lorapack.program, *map(str, merge(self.base, [self.folder / 'adapter'], self.out)),
                                 *(['--force'] if self.force else [])],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def time(self):
        begin = time.monotonic()
        process = self.start()
        process.communicate()
        seconds = time.monotonic() - begin
        if process.returncode or self.state() != 'new':
            raise Complaint(f'{self.name}: undisturbed, exit {process.returncode}, the output is {self.state()}')
        self.reset()
        return seconds

    def state(self):
        """What is under the output's name; anything but a whole old or new one or none is a complaint."""
        if not self.out.exists():
            if self.force:
                raise Complaint(f'{self.name}: the old output is gone')
            return 'absent'
        if same(self.out, self.new):
            return 'new'
        if self.force and same(self.out, self.old):
            return 'old'
        raise Complaint(f'{self.name}: the output is not whole')

    def left(self):
        return [path.name for path in self.work.iterdir() if path != self.out]

    def stop(self, how, at):
        """Signal a merge after a share of the time that it takes; its exit code, last line and how long it took to end."""
        process = self.start()
        time.sleep(at * self.seconds)
        begin = time.monotonic()
        process.send_signal(how)
        _, talk = process.communicate()
        return process.returncode, (talk.strip().splitlines() or [''])[-1], time.monotonic() - begin


def check_kill(setting, at):
    """SIGKILL: only names that are ours stay, and the next merge works beside them and leaves them alone."""
    setting.stop(signal.SIGKILL, at)
    state, left = setting.state(), setting.left()
    if len(left) > 1 or not all(map(TEMPORARY.fullmatch, left)):
        raise Complaint(f'{setting.name}: left behind: {left}')
    if state != 'new':
        process = setting.start()
        process.communicate()
        if process.returncode or setting.state() != 'new' or setting.left() != left:
            raise Complaint(f'{setting.name}: the next merge: exit {process.returncode}, {setting.left()} from {left}')
    setting.reset()
    return state + (' and a temporary' if left else '')


def check_interrupt(setting, how, at):
    """Nothing stays, and either all was done or exit 1 says how far it came. Before it writes, a signal simply ends it."""
    code, message, seconds = setting.stop(how, at)
    state, left = setting.state(), setting.left()
    expected = {0: 'new', 1: 'old' if setting.force else 'absent', -how: 'old' if setting.force else 'absent'}
    if expected.get(code) != state or left:
        raise Complaint(f'{setting.name}: {how.name}: exit {code}, the output is {state}, left behind: {left}')
    if code == 1 and not re.fullmatch(r'lorapack: .*/out: interrupted after .* of .*; what was written is removed', message):
        raise Complaint(f'{setting.name}: {how.name}: it says: {message}')
    if seconds > 30: # it is milliseconds, on a disk that is not busy with something else
        raise Complaint(f'{setting.name}: {how.name}: it took {seconds:.1f} s to end')
    setting.reset()
    return f'exit {code}'


def check_ignored(setting):
    """What nohup and shells ignore for a program does not interrupt it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN) # the program inherits it
    try:
        for at in (0.1, 0.5, 0.8):
            code, message, _ = setting.stop(signal.SIGHUP, at)
            if code or setting.state() != 'new':
                raise Complaint(f'{setting.name}: exit {code} though SIGHUP was ignored: {message}')
            setting.reset()
    finally:
        signal.signal(signal.SIGHUP, before)


class Living:
    """A file of two generations that it takes a while to read or to write."""

    def __init__(self, lorapack, folder):
        self.lorapack, self.path, self.work = lorapack, folder / 'living.lora', folder / 'compact'
        self.work.mkdir()
        big, lora = folder / 'big', {}
        big.mkdir()
        for i in range(4):
            module = f'{PREFIX}model.layers.{i}.q_proj'
            lora |= {f'{module}.lora_A.weight': bf16(2048, 2048, 2 * i + 1), f'{module}.lora_B.weight': bf16(2048, 2048, 2 * i + 2)}
        tensors.write_file(big / 'adapter_model.safetensors', lora)
        (big / 'adapter_config.json').write_text(json.dumps({'peft_type': 'LORA', 'r': 2048, 'lora_alpha': 2048}))
        lorapack.must('pack', big, '-o', self.path)
        lorapack.must('add', self.path, folder / 'adapter')

    def start(self, *arguments):
        return subprocess.Popen([self.lorapack.program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE, text=True)

    def check_compact(self):
        """Interrupted as soon as there is something to remove, it removes it. (It may have been done before it heard of it.)"""
        out = self.work / 'out'
        for _ in range(50):
            process = self.start('compact', self.path, '-o', out)
            while process.poll() is None and not any(self.work.iterdir()):
                pass
            process.send_signal(signal.SIGINT)
            _, talk = process.communicate()
            left = [path.name for path in self.work.iterdir()]
            if process.returncode == 1 and not left and re.fullmatch(r'lorapack: .*/out: interrupted after .*\n', talk):
                return 'exit 1'
            if process.returncode or left != ['out']:
                raise Complaint(f'compact: exit {process.returncode}, it says {talk!r}, left behind: {left}')
            out.unlink()
        raise Complaint('compact: no signal interrupts it')

    def check_rollback(self):
        """A crash does no harm to what it does, so a signal may end it at any time: it catches none."""
        process = self.start('rollback', self.path, '--to', '1')
        while process.poll() is None:
            status = pathlib.Path(f'/proc/{process.pid}/status').read_text()
            caught = re.search('^SigCgt:\\s*(\\w+)', status, re.MULTILINE)
            if caught and int(caught[1], 16) >> signal.SIGINT - 1 & 1:
                raise Complaint('rollback: it catches SIGINT')
        process.communicate()
        return f'exit {process.returncode}'


def main():
    lorapack, times = Lorapack(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 16
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else random.randrange(1 << 32)
    chance, tally = random.Random(seed), {}
    print(f'seed {seed}')
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            write_models(folder)
            settings = [Setting(lorapack, folder, base, force) for base in ('base.safetensors', 'base') for force in (False, True)]
            for setting in settings:
                share = (times + len(settings) - 1) // len(settings)
                setting.reset()
                for i in range(share): # one in each part of the time, and a little after its end
                    outcome = f'{setting.name}: killed: {check_kill(setting, (i + chance.random()) / share * 1.2)}'
                    tally[outcome] = tally.get(outcome, 0) + 1
                for i in range(share // 2):
                    how = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
                    outcome = f'{setting.name}: {how.name}: {check_interrupt(setting, how, (i + chance.random()) / (share // 2))}'
                    tally[outcome] = tally.get(outcome, 0) + 1
            settings[0].reset()
            check_ignored(settings[0])
            living = Living(lorapack, folder)
            for name, check in (('compact', living.check_compact), ('rollback', living.check_rollback)):
                tally[f'living file: {name}: {check()}'] = 1
    except Complaint as complaint:
        print(f'FAIL {complaint}')
        sys.exit(1)
    for outcome, n in sorted(tally.items()):
        print(f'{n:4} {outcome}')


main()
