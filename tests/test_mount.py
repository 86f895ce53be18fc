#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Mounting scenarios: the bytes of build and merge, read in every way, of one generation after another, whatever happens to what is read.

usage: test_mount.py LORAPACK DEMO_MODEL TINYLM [SEED]

Where nothing can be mounted, what needs that is skipped, and it says so.
"""
import concurrent.futures
import contextlib
import errno
import hashlib
import json
import mmap
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys

import tensors
from lorapack import Complaint, Lorapack, merge, names, same_files
from mounts import PATIENCE, TYPE, Mount, mounted_under, run_checks, unmount, until, why_not
from project import HEAD, SCENARIOS, Project, expect, expect_in, flip, write_shards

CASES = pathlib.Path(__file__).resolve().parent / 'conformance'
MORE = '''  tang: {adapters: [tang]}
  plain: {}
  wide: {adapters: [legal], dtype: f32}
  lower:
    adapters:
      - adapter: tang
        weights:
          - {layers: 3-5, weight: 0.25}
          - {target: "*.mlp.*", weight: 0.5}
'''
N_READERS, MOST = 4, 3 << 20
DEAD = [errno.ENOTCONN, errno.ECONNABORTED, errno.EIO]
SHARD = 'model-00001-of-00003.safetensors'
OTHER_SHARD = 'model-00002-of-00003.safetensors'


def fails(what, numbers, function, *arguments):
    """It must raise an OSError, one of these."""
    try:
        function(*arguments)
    except OSError as error:
        expect_in(errno.errorcode[error.errno], ' '.join(errno.errorcode[number] for number in numbers), what)
    else:
        raise Complaint(f'{what}: works')


# --- ways to read a file, all of it: whether it is what is wanted ---

def in_order(path, wanted, chance):
    with open(path, 'rb', buffering=0) as file:
        return b''.join(iter(lambda: file.read(chance.randint(1, 1 << 18)), b'')) == wanted


def digest(path, wanted, chance):
    printed = subprocess.run(['sha256sum', path], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE).stdout
    return printed.split()[0] == hashlib.sha256(wanted).hexdigest()


def backwards(path, wanted, chance):
    fd, at, found = os.open(path, os.O_RDONLY), len(wanted), []
    while at > 0:
        size = min(at, chance.randint(1, 100000))
        at -= size
        found.append(os.pread(fd, size, at))
    os.close(fd)
    return b''.join(reversed(found)) == wanted


def ranges(path, wanted, seed, flags):
    """Of a byte to 3 MiB, and beyond the end."""
    fd, chance = os.open(path, os.O_RDONLY | flags), random.Random(seed)
    for _ in range(60):
        at, size = chance.randrange(len(wanted) + 2), int(2 ** chance.uniform(0, MOST.bit_length() - 1))
        if os.pread(fd, size, at) != wanted[at:at + size]:
            print(f'bytes {at} to {at + size}')
            return False
    os.close(fd)
    return True


def at_once(path, wanted, chance, flags=0):
    seeds = [chance.random() for _ in range(N_READERS)]
    with concurrent.futures.ThreadPoolExecutor(N_READERS) as pool:
        return all(pool.map(lambda seed: ranges(path, wanted, seed, flags), seeds))


def past_the_cache(path, wanted, chance):
    return at_once(path, wanted, chance, os.O_DIRECT)


def runs(path, wanted, seed):
    """Some reads, each where the last one ended, and closed again: what is computed ahead is for nothing, or for somebody else."""
    chance = random.Random(seed)
    for _ in range(12):
        fd, size, start = os.open(path, os.O_RDONLY | os.O_DIRECT), chance.choice([5000, 65536, 131072]), 65536 * chance.randrange(8)
        for at in range(start, start + 6 * size, size):
            if os.pread(fd, size, at) != wanted[at:at + size]:
                print(f'bytes {at} to {at + size}')
                return False
        os.close(fd)
    return True


def runs_at_once(path, wanted, chance):
    seeds = [chance.random() for _ in range(N_READERS)]
    with concurrent.futures.ThreadPoolExecutor(N_READERS) as pool:
        return all(pool.map(lambda seed: runs(path, wanted, seed), seeds))


def mapped(path, wanted, advice, positions):
    with open(path, 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        memory.madvise(advice)
        return all(memory[at:at + 5000] == wanted[at:at + 5000] for at in positions)


def mapped_forward(path, wanted, chance):
    return mapped(path, wanted, mmap.MADV_SEQUENTIAL, range(0, len(wanted), 5000))


def mapped_random(path, wanted, chance):
    return mapped(path, wanted, mmap.MADV_RANDOM, [chance.randrange(len(wanted)) for _ in range(300)] + [0, len(wanted) - 1])


def mapped_at_once(path, wanted, chance):
    positions = [chance.sample(range(len(wanted)), min(100, len(wanted))) for _ in range(N_READERS)]
    with concurrent.futures.ThreadPoolExecutor(N_READERS) as pool:
        return all(pool.map(lambda some: mapped(path, wanted, mmap.MADV_WILLNEED, some), positions))


WAYS = [in_order, digest, backwards, at_once, past_the_cache, runs_at_once, mapped_forward, mapped_random, mapped_at_once]


def reads(way, folder, wanted, chance):
    """Every file of a folder in a way, in any order; it has those of another folder and no more."""
    expect(names(folder), names(wanted), f'files of {folder.name}')
    for name in chance.sample(names(wanted), len(names(wanted))):
        data = (wanted / name).read_bytes()
        expect((folder / name).stat().st_size, len(data), f'size of {folder.name}/{name}')
        if not way(folder / name, data, chance):
            raise Complaint(f'{folder.name}/{name}: other bytes than in {wanted}, {way.__name__}')


# --- the bytes ---

def check_bytes(project, chance):
    """Every scenario, in every way, each in a mount of its own, since the page cache has what was read once."""
    project.write(HEAD + SCENARIOS + MORE)
    project.must('build')
    wanted = {name: project.out / name for name in names(project.out) if name != '.lorafmt'} | {'base': project.base}
    expect(sorted(wanted), ['base', 'both', 'legal', 'lower', 'plain', 'tang', 'wide'], 'what is built')
    for name, adapters in {'legal': [('legal', 1)], 'both': [('scripture', 0.5), ('legal', 0.5)], 'tang': [('tang', 1)]}.items():
        if not same_files(wanted[name], project.merged(name, [project.adapter(*adapter) for adapter in adapters])):
            raise Complaint(f'{name}: built otherwise than merged')
    for way in WAYS:
        with Mount(project.lorapack, project.manifest, project.folder / way.__name__) as mount:
            expect(names(mount.directory), sorted(wanted), 'directories')
            for name in chance.sample(sorted(wanted), len(wanted)):
                reads(way, mount / name, wanted[name], chance)


def reads_case(lorapack, folder, base, adapters, chance):
    """A base with its adapters."""
    folder.mkdir(exist_ok=True)
    manifest, out = folder / 'lorafmt.yaml', folder / 'merged'
    manifest.write_text(json.dumps({'version': 1, 'base': str(base), 'roots': [str(CASES)], 'adapters': {path.name: str(path) for path in adapters},
                                    'scenarios': {'one': {'adapters': [path.name for path in adapters]}}}))
    lorapack.must(*merge(base, adapters, out))
    for way in at_once, mapped_random, past_the_cache:
        with Mount(lorapack, manifest, folder / way.__name__) as mount:
            reads(way, mount / 'one', out, chance)
            reads(way, mount / 'base', base, chance)
    return out


def check_kinds(project, chance):
    """DoRA, experts, shards, convolutions, rows: of the cases that PEFT made."""
    for name in ['dora-linear-bf16', 'dora-conv1d-gpt2', 'two-adapters-dora-f32', 'moe-target-parameters', 'sharded-bf16', 'conv2d-f16',
                 'trainable-tokens', 'modules-to-save-f32-file-bf16-base', 'zero-b']:
        case = CASES / name
        adapters = [case / adapter['dir'] for adapter in json.loads((case / 'expected.json').read_text())['adapters']]
        reads_case(project.lorapack, project.folder / name, case / 'base', adapters, chance)


def check_untied(project, chance):
    """A head of its own: a tensor more, and config and index that say so."""
    case, folder = CASES / 'tied-embedding-modules-to-save-head', project.folder / 'untied'
    source = shutil.copytree(case / 'base', folder / 'source')
    (source / 'config.json').write_text('{"vocab_size": 3, "tie_word_embeddings": true}')
    write_shards(source, folder / 'base', 2)
    out = reads_case(project.lorapack, folder, folder / 'base', [case / 'adapter'], chance)
    expect(json.loads((out / 'config.json').read_text())['tie_word_embeddings'], False, 'config.json')
    expect_in('lm_head.weight', (out / 'model.safetensors.index.json').read_text(), 'the index')


def check_tinylm(project, tinylm, demo):
    """It writes what it does from a built model, and what the demo model's authors got."""
    project.must('build')
    scenario = json.loads((demo / 'expected.json').read_text())['scenarios']['legal']
    prompt = scenario['prompts'][0]
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        for model in project.out / 'legal', mount / 'legal':
            found, = json.loads(tinylm.must('--json', '--model', model, '--prompt', prompt['prompt'], '--bytes', '200', '--digest'))['scenarios']
            expect((found['written_hex'], found['sha256']), (prompt['greedy_hex'], scenario['merged_all_sha256']), f'tinylm on {model}')


# --- what it looks like ---

def check_looks(project):
    """Modes, times, owners and numbers; read-only."""
    (project.base / SHARD).chmod(0o640)
    (project.base / OTHER_SHARD).chmod(0o755)
    project.base.chmod(0o750)
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        kind, options = mounted_under(mount.directory)[str(mount.directory)]
        expect((kind, {'ro', 'nosuid', 'nodev', 'noexec'} - set(options)), (TYPE, set()), 'in /proc/self/mounts')
        for name, mode in {'': 0o40550, 'legal': 0o40550, f'legal/{SHARD}': 0o100440, f'legal/{OTHER_SHARD}': 0o100444}.items():
            expect(oct((mount / name).stat().st_mode), oct(mode), f'mode of {name!r}')
        before, shown = (project.base / 'config.json').stat(), (mount / 'legal/config.json').stat()
        expect((shown.st_mtime_ns, shown.st_uid, shown.st_gid), (before.st_mtime_ns, before.st_uid, before.st_gid), 'of config.json')
        everything = [mount.directory, *mount.directory.rglob('*')]
        expect(len({path.stat().st_ino for path in everything}), 1 + 3 + 3 * 5, 'different numbers')
        files = [path.stat() for path in everything if path.is_file()]
        expect(all(file.st_blocks * 512 >= file.st_size for file in files), True, 'no file looks like a hole')
        with os.scandir(mount / 'legal') as entries:
            expect([entry.name for entry in entries if entry.inode() != entry.stat().st_ino], [], 'other numbers in a list')
        fails('a name that is not there', [errno.ENOENT], os.stat, mount / 'legal/nothing')
        fails('a file as a directory', [errno.ENOTDIR], os.stat, mount / f'legal/{SHARD}/x')
        check_read_only(mount)


def check_read_only(mount):
    file, new = mount / f'legal/{SHARD}', mount / 'legal/new'
    for flags in os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC:
        fails(f'opening with {flags}', [errno.EROFS], os.open, file, flags)
    fails('creating', [errno.EROFS], os.open, new, os.O_CREAT | os.O_WRONLY)
    for what, function, arguments in [('unlink', os.unlink, [file]), ('mkdir', os.mkdir, [new]), ('rmdir', os.rmdir, [mount / 'legal']),
                                      ('rename', os.rename, [file, new]), ('truncate', os.truncate, [file, 0]), ('chmod', os.chmod, [file, 0o777]),
                                      ('link', os.link, [file, new]), ('symlink', os.symlink, [file, new]), ('utime', os.utime, [file])]:
        fails(what, [errno.EROFS], function, *arguments)


def check_others(project):
    """Other users: with --allow-other as the modes say, without it not at all."""
    if os.geteuid():
        return
    for directory in project.folder, project.folder.parent:
        directory.chmod(0o755)
    (project.base / SHARD).chmod(0o644)
    (project.base / OTHER_SHARD).chmod(0o640)

    def read(mount, name):
        return subprocess.run(['head', '-c', '1', mount / 'legal' / name], user=65534, group=65534, extra_groups=[], check=False, timeout=PATIENCE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode

    with Mount(project.lorapack, project.manifest, project.folder / 'ours') as mount:
        expect(read(mount, SHARD), 1, 'somebody else reads')
    with Mount(project.lorapack, project.manifest, project.folder / 'all', '--allow-other') as mount:
        expect((read(mount, SHARD), read(mount, OTHER_SHARD)), (0, 1), 'somebody else reads with --allow-other')


def check_scenario(project):
    """One alone, as the directory itself."""
    project.must('build')
    with Mount(project.lorapack, project.manifest, project.folder / 'at', '--scenario', 'legal') as mount:
        reads(in_order, mount.directory, project.out / 'legal', random.Random(1))
        replace(project, SCENARIOS.replace('legal: {adapters: [legal]}', 'legal: {adapters: [tang]}'))
        mount.says('was read again: 1 directory')
        if same_files(mount.directory, project.out / 'legal'):
            raise Complaint('another manifest, the same bytes')
        project.must('build')
        reads(in_order, mount.directory, project.out / 'legal', random.Random(1))
        replace(project, SCENARIOS.replace('legal: {', 'gone: {'))
        mount.says('what was there before stays')
        reads(in_order, mount.directory, project.out / 'legal', random.Random(1))


def check_background(project):
    """Without --foreground it returns once the files are there; relative paths stay what they were."""
    project.must('build')
    (project.folder / 'at').mkdir()
    done = subprocess.run([os.path.abspath(project.lorapack.program), 'mount', 'lorafmt.yaml', 'at'], cwd=project.folder, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    at = project.folder / 'at'
    expect((done.returncode, done.stdout, done.stderr), (0, 'at: mounted; fusermount3 -u at takes it away\n', ''), 'mount')
    reads(in_order, at / 'legal', project.out / 'legal', random.Random(1))
    project.write(HEAD + SCENARIOS + MORE)
    until(lambda: 'tang' in names(at), 'a scenario more')
    reads(in_order, at / 'both', project.out / 'both', random.Random(1))
    expect(unmount(at), 0, 'fusermount3 -u')
    expect(names(at), [], 'what is in it afterwards')
    until(lambda: not any_serves('at', project.folder), 'the end of the process')


def check_closed(project):
    """Nor does it need standard input, output and error: nothing else gets their numbers."""
    at = project.folder / 'at'
    at.mkdir()
    shell = ['sh', '-c', 'exec "$@" <&- >&- 2>&-', 'sh']
    expect(subprocess.run([*shell, project.lorapack.program, 'mount', project.manifest, at], check=False, timeout=PATIENCE).returncode, 0, 'mount')
    expect(names(at), ['base', 'both', 'legal'], 'what is mounted')
    expect(unmount(at), 0, 'fusermount3 -u')


def any_serves(word, folder):
    """A process in the background was given relative paths; its directory was left for /, but its manifest's is watched."""
    for path in pathlib.Path('/proc').iterdir():
        try:
            if path.name.isdecimal() and (path / 'cmdline').read_bytes().split(b'\0')[1:4] == [b'mount', b'lorafmt.yaml', word.encode()]:
                return True
        except OSError:
            pass
    return False


# --- generations ---

def replace(project, scenarios, head=HEAD):
    """Another manifest takes the name of the one that is there."""
    new = project.folder / 'new.yaml'
    new.write_text(head + scenarios)
    os.replace(new, project.manifest)


def check_generations(project):
    """What is open stays what it was; what is opened is of the manifest as it is now."""
    project.must('build')
    old = shutil.copytree(project.out, project.folder / 'old')
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        fd, directory = os.open(mount / 'both' / SHARD, os.O_RDONLY), os.open(mount / 'legal', os.O_RDONLY | os.O_DIRECTORY)
        with open(mount / 'legal' / SHARD, 'rb') as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
            replace(project, '''scenarios:
  legal: {adapters: [{adapter: legal, weight: -2}]}
  tang: {adapters: [tang]}
''')
            mount.says('was read again: 3 directories')
            project.must('build')
            expect(names(mount.directory), ['base', 'legal', 'tang'], 'directories')
            fails('a scenario that is gone', [errno.ENOENT], os.stat, mount / 'both')
            for name in 'legal', 'tang':
                reads(in_order, mount / name, project.out / name, random.Random(1))
            if same_files(mount / 'legal', old / 'legal'):
                raise Complaint('another weight, the same bytes')
            expect(memory[:] == (old / 'legal' / SHARD).read_bytes(), True, 'mapped before')
            expect(os.pread(fd, MOST, 0) == (old / 'both' / SHARD).read_bytes(), True, 'opened before')
            late = os.open(OTHER_SHARD, os.O_RDONLY, dir_fd=directory)
            expect(os.pread(late, MOST, 0) == (old / 'legal' / OTHER_SHARD).read_bytes(), True, 'opened now in a directory opened before')
        for descriptor in fd, directory, late:
            os.close(descriptor)
        check_broken(project, mount)


def check_broken(project, mount):
    """A manifest with something wrong, or none, changes nothing."""
    for i, (head, scenarios, part) in enumerate([
            (HEAD, 'scenarios: [\n', 'lorafmt.yaml:'), (HEAD, 'scenarios: {legal: {adapters: [nobody]}}\n', 'nobody'),
            (HEAD.replace('adapters/legal', 'adapters/gone'), 'scenarios: {legal: {adapters: [legal]}}\n', 'gone'),
            (HEAD.replace('base: base', 'base: elsewhere'), SCENARIOS, 'elsewhere')]):
        replace(project, scenarios, head)
        mount.says('what was there before stays', i + 1)
        expect_in(part, mount.said().splitlines()[-1], 'what is wrong')
        reads(in_order, mount / 'legal', project.out / 'legal', random.Random(1))
    project.manifest.unlink()
    mount.says('what was there before stays', 5)
    reads(in_order, mount / 'legal', project.out / 'legal', random.Random(1))
    project.write(HEAD + SCENARIOS)
    mount.says('was read again: 3 directories', 2)
    expect(names(mount.directory), ['base', 'both', 'legal'], 'directories of a manifest that is back')


def check_forgotten(project):
    """Nothing is kept of what is no longer shown, as its files are not open: also of a name that nobody asks for again."""
    for i, more in enumerate([[], ['--scenario', 'legal']]):
        with Mount(project.lorapack, project.manifest, project.folder / f'at{i}', *more) as mount:
            fds = pathlib.Path(f'/proc/{mount.process.pid}/fd')
            names(mount.directory) # so that all is open that is needed to answer
            before = len(list(fds.iterdir()))
            for times, name in enumerate(['one', 'two', 'three'], 1):
                replace(project, SCENARIOS + f'  {name}: {{adapters: [tang]}}\n')
                mount.says('was read again', times)
                (mount / name / SHARD if not more else mount / SHARD).read_bytes()
            replace(project, SCENARIOS)
            mount.says('was read again', 4)
            until(lambda before=before, fds=fds: len(list(fds.iterdir())) == before, 'that no more files are open than before')


def check_links(project):
    """A manifest that is a link, on the way to which there is another: as Kubernetes has a ConfigMap. Paths are relative to the first."""
    for i, name in enumerate(['legal', 'tang']):
        (project.folder / f'v{i}').mkdir()
        (project.folder / f'v{i}' / 'lorafmt.yaml').write_text(HEAD + f'scenarios: {{{name}: {{adapters: [{name}]}}}}\n')
    project.manifest.unlink()
    project.manifest.symlink_to('data/lorafmt.yaml')
    (project.folder / 'data').symlink_to('v0')
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        expect(names(mount.directory), ['base', 'legal'], 'directories')
        (project.folder / 'new').symlink_to('v1')
        os.replace(project.folder / 'new', project.folder / 'data')
        shutil.rmtree(project.folder / 'v0')
        mount.says('was read again')
        expect(names(mount.directory), ['base', 'tang'], 'directories of another')


def check_hangup(project):
    """SIGHUP has adapters read again, too, and the lock as well."""
    project.must('build')
    old = shutil.copytree(project.out / 'legal', project.folder / 'old')
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        replace_adapter(project, 'legal', 'tang')
        reads(in_order, mount / 'legal', old, random.Random(1))
        mount.process.send_signal(signal.SIGHUP)
        mount.says('was read again')
        project.must('build')
        reads(in_order, mount / 'legal', project.out / 'legal', random.Random(1))
        if same_files(mount / 'legal', old):
            raise Complaint('another adapter, the same bytes')
        project.must('lock')
        mount.says('was read again', 2)
        flip(project.weights('legal'))
        mount.process.send_signal(signal.SIGHUP)
        mount.says('what was there before stays')
        expect_in('adapters.legal', mount.said(), 'drift')
        reads(in_order, mount / 'legal', project.out / 'legal', random.Random(1))


def replace_adapter(project, name, other):
    """The files of an adapter become those of another, by renaming."""
    folder = project.folder / 'adapters' / name
    for path in (project.folder / 'adapters' / other).iterdir():
        shutil.copy(path, folder / 'new')
        os.replace(folder / 'new', folder / path.name)


# --- the end ---

def check_unmounts(project):
    """By fusermount3, by signals, and while a file is open."""
    at = project.folder / 'at'
    for how in signal.SIGTERM, signal.SIGINT, None:
        with Mount(project.lorapack, project.manifest, at) as mount:
            if how:
                mount.process.send_signal(how)
            else:
                expect(unmount(at), 0, 'fusermount3 -u')
            mount.ends()
            expect(names(at), [], f'what is there after {how}')
    with Mount(project.lorapack, project.manifest, at) as mount:
        fd = os.open(mount / 'legal' / SHARD, os.O_RDONLY)
        expect(len(os.pread(fd, 1000, 0)), 1000, 'bytes read')
        mount.process.send_signal(signal.SIGTERM)
        mount.ends()
        expect(names(at), [], 'what is there while a file is open')
        fails('reading what is not served any more', DEAD, os.pread, fd, 1000, 500000)
        close_dead(fd)
    with Mount(project.lorapack, project.manifest, at) as mount:
        with open(mount / 'legal' / SHARD, 'rb', buffering=0) as file:
            if unmount(at) == 0:
                raise Complaint('fusermount3 -u takes away what is in use')
            expect(unmount(at, '-z'), 0, 'fusermount3 -uz')
            expect(file.read(), (project.merged('legal', [project.adapter('legal')]) / SHARD).read_bytes(), 'what is open after -uz')
        mount.ends()


def close_dead(fd):
    """Which does close it, and complains."""
    with contextlib.suppress(OSError):
        os.close(fd)


def check_killed(project):
    """A reader that waits gets an error, nothing hangs, and the next mount works: the dead one goes by itself, or is taken away."""
    at = project.folder / 'at'
    for with_helper in True, False:
        with Mount(project.lorapack, project.manifest, at) as mount, concurrent.futures.ThreadPoolExecutor(N_READERS) as pool:
            if not with_helper:
                os.kill(mount.helper(), signal.SIGKILL)
            fds = [os.open(mount / 'legal' / SHARD, os.O_RDONLY) for _ in range(N_READERS)]
            mount.process.send_signal(signal.SIGSTOP)
            os.waitpid(mount.process.pid, os.WUNTRACED)
            waiting = [pool.submit(os.pread, fd, 100000, i * 200000) for i, fd in enumerate(fds)]
            expect(concurrent.futures.wait(waiting, 0.3).done, set(), 'readers that do not wait')
            mount.process.kill()
            for reader in waiting:
                fails('reading from the dead', DEAD, reader.result, PATIENCE)
            expect(mount.process.wait(PATIENCE), -signal.SIGKILL, 'exit')
            fails('reading once more', DEAD, os.pread, fds[0], 1, 700000)
            for fd in fds:
                close_dead(fd)
            if with_helper:
                until(lambda: not mount.is_there(), 'that fusermount3 takes it away')
            else:
                fails('looking at the dead', DEAD, os.stat, at)
    with Mount(project.lorapack, project.manifest, at) as mount:
        reads(in_order, mount / 'legal', project.merged('legal', [project.adapter('legal')]), random.Random(1))
        expect(len(mounted_under(at)), 1, 'mounts')


# --- what is read changes under it ---

def check_replaced(project):
    """Adapters and base by renaming: what is open, and what is opened, is as it was. An adapter that is truncated does no harm."""
    wanted = project.merged('legal', [project.adapter('legal')])
    kept = shutil.copytree(project.base, project.folder / 'kept')
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        fd = os.open(mount / 'legal' / SHARD, os.O_RDONLY)
        replace_adapter(project, 'legal', 'tang')
        for name in names(project.base):
            (project.folder / 'zeros').write_bytes(bytes((project.base / name).stat().st_size))
            os.replace(project.folder / 'zeros', project.base / name)
        for name in 'scripture', 'tang':
            os.truncate(project.weights(name), 100)
        expect(os.pread(fd, MOST, 0) == (wanted / SHARD).read_bytes(), True, 'what was open')
        os.close(fd)
        reads(in_order, mount / 'legal', wanted, random.Random(1))
        reads(in_order, mount / 'base', kept, random.Random(1))
        os.truncate(project.weights('legal'), 0)
        reads(past_the_cache, mount / 'legal', wanted, random.Random(1))


def check_damaged(project):
    """A base that is written to, or truncated, is an I/O error where it is read, and no more than that."""
    wanted = project.merged('legal', [project.adapter('legal')])

    def write(path):
        with open(path, 'r+b') as file:
            file.seek(-100, os.SEEK_END)
            file.write(b'x')

    for i, damage in enumerate([write, lambda path: os.truncate(path, 5000), lambda path: os.truncate(path, 0)]):
        with Mount(project.lorapack, project.manifest, project.folder / f'at{i}') as mount:
            before = (project.base / SHARD).read_bytes()
            damage(project.base / SHARD)
            for name in 'legal', 'base':
                fails(f'reading a damaged {name}', [errno.EIO], (mount / name / SHARD).read_bytes)
            mount.says(f'{SHARD} cannot be read: ', 2)
            fails('reading it again', [errno.EIO], (mount / 'legal' / SHARD).read_bytes)
            expect(mount.said().count('cannot be read'), 2, 'how often it says so')
            for name in OTHER_SHARD, 'config.json':
                expect((mount / 'legal' / name).read_bytes() == (wanted / name).read_bytes(), True, f'{name} beside it')
            expect(mount.process.poll(), None, 'exit')
        (project.base / SHARD).write_bytes(before)


# --- what is refused ---

def refuses(project, at, part, *more, code=1):
    """Nothing is mounted, and it says why."""
    project.refused(part, 'mount', at, '--foreground', *more, code=code)
    expect(mounted_under(project.folder), {}, 'mounted')


def check_refused(project):
    """Places, scenarios and manifests that are none."""
    at, full, file = project.folder / 'at', project.folder / 'full', project.folder / 'file'
    refuses(project, at, 'at: no such directory: make an empty one')
    at.mkdir()
    full.mkdir()
    (full / 'thesis.txt').write_text('years of work')
    file.write_text('')
    refuses(project, full, 'full: must be empty')
    refuses(project, file, 'file: must be a directory')
    refuses(project, at, 'scenarios: legl is not there; did you mean legal?', '--scenario', 'legl')
    refuses(project, at, '--threads', '--threads', 'x', code=2)
    project.write(HEAD + 'scenarios: {legal: {adapters: [legal]}, legal: {}}\n')
    refuses(project, at, 'lorafmt.yaml:7:')
    project.write(HEAD + SCENARIOS)
    shutil.move(project.base, project.folder / 'away')
    refuses(project, at, 'base')
    code, _, message = project.lorapack.run('mount', project.folder / 'nothing.yaml', at)
    expect((code, 'nothing.yaml' in message), (1, True), f'a manifest that is not there, {message!r}')
    expect((names(at), names(full)), ([], ['thesis.txt']), 'what is left')


def check_misfit(project):
    """A scenario that does not fit the base lists what does not, and nothing is mounted."""
    held = tensors.read_file(project.weights('legal')).tensors
    tensors.write_file(project.weights('legal'), {name.replace('layers.0.', 'layers.99.'): t for name, t in held.items()})
    (project.folder / 'at').mkdir()
    refuses(project, project.folder / 'at', 'model.layers.99.')
    done = subprocess.run([project.lorapack.program, 'mount', project.manifest, project.folder / 'at'], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE)
    expect_in('  legal: legal: model.layers.99.', done.stderr, 'what does not fit')


def check_drift(project):
    """One bit of an adapter, or of the base, against the lock."""
    (project.folder / 'at').mkdir()
    project.must('lock')
    for path, part in {project.weights('legal'): 'adapters.legal', project.base / SHARD: f'base.files.{SHARD}'}.items():
        flip(path)
        refuses(project, project.folder / 'at', part)
        flip(path)


def check_no_device(project):
    """Where there is no /dev/fuse it says so, and what to do."""
    at = project.folder / 'at'
    at.mkdir()
    done = subprocess.run(['unshare', '-m', 'sh', '-c', 'mount -t tmpfs none /dev && exec "$@"', 'sh', project.lorapack.program, 'mount',
                           project.manifest, at, '--foreground'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True, check=False, timeout=PATIENCE)
    expect(done.returncode, 1, 'exit')
    expect_in('/dev/fuse: is not there, so that nothing can be mounted', done.stderr, 'mount')


def check_mounted_already(project):
    """On a directory where scenarios are mounted, nothing is mounted again."""
    with Mount(project.lorapack, project.manifest, project.folder / 'at') as mount:
        project.refused('at: scenarios are mounted here already', 'mount', mount.directory, '--foreground')
        expect(names(mount.directory), ['base', 'both', 'legal'], 'what is mounted')


def main():
    lorapack, demo, tinylm = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2]), Lorapack(sys.argv[3])
    seed = int(sys.argv[4]) if len(sys.argv) > 4 else random.randrange(1 << 32)
    print(f'seed {seed}')
    chance = random.Random(seed)
    checks = {'refused': (check_refused, ()), 'misfit': (check_misfit, ()), 'drift': (check_drift, ())}
    if os.geteuid() == 0 and why_not() is None:
        checks |= {'no device': (check_no_device, ())}
    mounting = {'bytes': (check_bytes, (chance,)), 'kinds': (check_kinds, (chance,)), 'untied': (check_untied, (chance,)),
                'tinylm': (check_tinylm, (tinylm, demo)), 'looks': (check_looks, ()), 'others': (check_others, ()),
                'scenario': (check_scenario, ()), 'background': (check_background, ()), 'closed': (check_closed, ()),
                'generations': (check_generations, ()),
                'forgotten': (check_forgotten, ()), 'links': (check_links, ()), 'hangup': (check_hangup, ()),
                'unmounts': (check_unmounts, ()), 'killed': (check_killed, ()),
                'replaced': (check_replaced, ()), 'damaged': (check_damaged, ()), 'mounted already': (check_mounted_already, ())}
    return run_checks(checks, mounting, lambda folder: Project(lorapack, demo, folder))


if __name__ == '__main__':
    sys.exit(main())
