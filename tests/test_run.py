#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Running a command on a scenario: what it gets, what comes of it, and that nothing is left, however it ends.

usage: test_run.py LORAPACK DEMO_MODEL TINYLM

Where nothing can be mounted, what needs that is skipped, and it says so.
"""
import contextlib
import json
import os
import pathlib
import signal
import struct
import subprocess
import sys

from lorapack import Complaint, Lorapack, names
from mounts import PATIENCE, mounted_under, run_checks, unmount, until
from project import HEAD, Project, expect, expect_in

# Prints its arguments, and the files of a model.
SHOW = 'import json, os, sys; print(json.dumps([sys.argv[1:], sorted(os.listdir(sys.argv[1]))]))'
SPARSE = 4 << 30
WAIT = ['sh', '-c', 'echo "$0"; exec sleep 1000', '{model}']


def start(project, *command, scenario='legal', **more):
    """`lorapack run` of it."""
    return subprocess.Popen([project.lorapack.program, 'run', project.manifest, scenario, '-q', '--', *command], text=True,
                            **{'stdin': subprocess.DEVNULL, 'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE} | more)


def finished(project, *command, **more):
    """Exit status, what is printed and what is said of one that ends."""
    process = start(project, *command, **more)
    printed, said = process.communicate(timeout=PATIENCE)
    return process.returncode, printed, said


def nothing_left(directory):
    """Neither a mount nor its directory."""
    expect((directory.is_absolute(), mounted_under(directory), directory.exists()), (True, {}, False), f'what is left of {directory}')


def waiting(project, *command, **more):
    """One that has started, and the directory it was given."""
    process = start(project, *(command or WAIT), **more)
    return process, pathlib.Path(process.stdout.readline().rstrip('\n'))


def ends(process, directory, code):
    """It must end so, and leave nothing."""
    _, said = process.communicate(timeout=PATIENCE)
    expect(process.returncode, code, f'exit of run, which says {said!r}')
    nothing_left(directory)


def check_arguments(project):
    """{model} is replaced wherever it stands, and nothing else is."""
    words = ['{model}', '--model={model}', '{model}/config.json:{model}', '{{model}}', '{model', 'model}', '{Model}', '{}', '', '$HOME *', '--json', '--',
             '{model}{model}']
    code, printed, said = finished(project, 'python3', '-c', SHOW, *words)
    expect((code, said), (0, ''), 'run')
    found, files = json.loads(printed)
    expect(found, [word.replace('{model}', found[0]) for word in words], 'arguments')
    expect(files, names(project.base), 'files')
    nothing_left(pathlib.Path(found[0]))
    code, _, said = finished(project, '{model}/config.json')
    expect(code, 126, f'exit when a file of the model is to be run, {said!r}')


def check_bytes(project):
    """Those of a built model."""
    project.must('build')
    for scenario in 'legal', 'both':
        _, printed, _ = finished(project, 'sh', '-c', 'cd "$0" && sha256sum *', '{model}', scenario=scenario)
        wanted = subprocess.run('sha256sum *', shell=True, cwd=project.out / scenario, stdout=subprocess.PIPE, text=True, check=True).stdout
        expect(printed, wanted, f'digests of {scenario}')


def check_status(project):
    """That of the command, as shells have it."""
    for script, code in {'exit 0': 0, 'exit 7': 7, 'exit 255': 255, 'kill -KILL $$': 137, 'kill -TERM $$': 143, 'kill -HUP $$': 129}.items():
        found, printed, said = finished(project, 'sh', '-c', f'echo "$0"; {script}', '{model}')
        expect((found, said), (code, ''), f'exit of {script!r}')
        nothing_left(pathlib.Path(printed.rstrip('\n')))
    for command, code, part in [('/nowhere/at-all', 127, '/nowhere/at-all: cannot be run: No such file'), ('no-such-command', 127, 'no-such-command: '),
                                (project.manifest, 126, 'lorafmt.yaml: cannot be run: Permission denied')]:
        found, printed, said = finished(project, command, '{model}')
        expect((found, printed), (code, ''), f'exit of {command}')
        expect_in(part, said, f'run {command}')


def check_streams(project):
    """Standard input and output are the command's alone, and it gets no other file of ours."""
    data = ''.join(f'line {i}\n' for i in range(100000))
    process = start(project, 'sh', '-c', 'cat; test -d "$0"', '{model}', stdin=subprocess.PIPE)
    printed, said = process.communicate(data, timeout=PATIENCE)
    expect((process.returncode, printed == data, said), (0, True, ''), 'cat')
    _, printed, _ = finished(project, 'python3', '-c', 'import os; print(sorted(map(int, os.listdir("/proc/self/fd"))))', '{model}')
    expect(printed, '[0, 1, 2, 3]\n', 'what is open in a command, the directory that it lists among them')


def check_signals(project):
    """SIGTERM and SIGHUP are passed on; what a terminal sends all get, and the command decides."""
    for sent, code in {signal.SIGTERM: 143, signal.SIGHUP: 129}.items():
        process, directory = waiting(project)
        process.send_signal(sent)
        ends(process, directory, code)
    process, directory = waiting(project, 'sh', '-c', 'trap "exit 5" TERM; echo "$0"; while :; do sleep 0.05; done', '{model}')
    process.send_signal(signal.SIGTERM)
    ends(process, directory, 5)
    for sent, code in {signal.SIGINT: 130, signal.SIGQUIT: 131}.items():
        process, directory = waiting(project, start_new_session=True)
        os.killpg(process.pid, sent)
        ends(process, directory, code)
    process, directory = waiting(project, 'sh', '-c', 'trap "ls $0; exit 6" INT; echo "$0"; while :; do sleep 0.05; done', '{model}',
                                 start_new_session=True)
    os.killpg(process.pid, signal.SIGINT)
    printed, _ = process.communicate(timeout=PATIENCE)
    expect((process.returncode, printed.split()), (6, names(project.base)), 'a command that reads on after ^C')
    nothing_left(directory)


def check_early(project):
    """A signal while the base is hashed: the command never runs, and nothing is left. Others may have directories, which go."""
    text = json.dumps({'big': {'dtype': 'F32', 'shape': [SPARSE // 4], 'data_offsets': [0, SPARSE]}}).encode()
    with open(project.folder / 'big.safetensors', 'wb') as base:
        base.write(struct.pack('<Q', len(text)) + text)
        base.truncate(base.tell() + SPARSE)
    project.write(HEAD.replace('base: base', f'base: {{path: big.safetensors, sha256: "{"0" * 64}"}}') + 'scenarios: {legal: {}}\n')
    before = set(pathlib.Path('/tmp').glob('lorapack-??????'))
    for sent in signal.SIGTERM, signal.SIGINT, signal.SIGHUP:
        process = start(project, 'echo', '{model}')
        until(lambda: 'big.safetensors' in open_files(process.pid), 'that the base is open')
        process.send_signal(sent)
        printed, said = process.communicate(timeout=PATIENCE)
        expect((process.returncode, printed), (1, ''), f'exit after {sent.name}, {said!r}')
        expect_in('lorafmt.yaml: interrupted', said, 'run')
    until(lambda: set(pathlib.Path('/tmp').glob('lorapack-??????')) <= before, 'that no directory is left')


def open_files(pid):
    """Names of the files that a process has open."""
    found = set()
    for path in pathlib.Path(f'/proc/{pid}/fd').iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(os.path.basename(os.readlink(path)))
    return found


def signals_of(*command):
    """What a command says of its signals, when SIGHUP and SIGINT are ignored as by nohup, or when they are not."""
    for ignored in [], [signal.SIGHUP, signal.SIGINT]:
        before = [signal.signal(number, signal.SIG_IGN) for number in ignored]
        done = subprocess.run([*command, 'grep', '^Sig[BIC]', '/proc/self/status'], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE)
        for number, handler in zip(ignored, before):
            signal.signal(number, handler)
        yield done.stdout


def check_inherited(project):
    """Signals are to the command as to whoever started it."""
    ours = [project.lorapack.program, 'run', project.manifest, 'legal', '--', 'env', 'MODEL={model}']
    expect(list(signals_of(*ours)), list(signals_of('env')), 'blocked, ignored and caught signals')


def check_private(project):
    """Nobody else sees it, where namespaces are allowed."""
    if os.geteuid():
        return
    process, directory = waiting(project, 'sh', '-c', 'echo "$0"; read line; ls "$0"', '{model}', stdin=subprocess.PIPE)
    expect((names(directory), mounted_under(directory)), ([], {}), 'what others see')
    printed, _ = process.communicate('go on\n', timeout=PATIENCE)
    expect((process.returncode, printed.split()), (0, names(project.base)), 'what the command sees')
    nothing_left(directory)


def check_left_behind(project):
    """What the command leaves running does not hold it up."""
    code, printed, _ = finished(project, 'sh', '-c', 'sleep 1000 <"$0/config.json" >/dev/null 2>&1 & echo $! "$0"; exit 3', '{model}')
    pid, directory = printed.split()
    os.kill(int(pid), signal.SIGKILL)
    expect(code, 3, 'exit')
    nothing_left(pathlib.Path(directory))


def check_killed(project):
    """When lorapack is killed the command gets an error, and does not hang."""
    process, directory = waiting(project, 'sh', '-c', 'exec 3<"$0/config.json"; echo "$0"; read line; cat <&3 && echo read', '{model}', stdin=subprocess.PIPE)
    process.kill()
    printed, said = process.communicate('go on\n', timeout=PATIENCE)
    expect((process.returncode, printed), (-signal.SIGKILL, ''), 'what a command reads from the dead')
    expect_in('cat:', said, 'cat')
    unmount(directory, '-z') # where it was not in a namespace of its own
    directory.rmdir()


def check_tinylm(project, tinylm, demo):
    """It writes what the demo model's authors got."""
    scenario = json.loads((demo / 'expected.json').read_text())['scenarios']['legal']
    prompt = scenario['prompts'][0]
    code, printed, said = finished(project, tinylm, '--json', '--model', '{model}', '--prompt', prompt['prompt'], '--bytes', '200', '--digest')
    expect(code, 0, f'exit of tinylm, which says {said!r}')
    found, = json.loads(printed)['scenarios']
    expect((found['written_hex'], found['sha256']), (prompt['greedy_hex'], scenario['merged_all_sha256']), 'tinylm')


def check_refused(project):
    """The command is not run, and nothing is printed."""
    touched = project.folder / 'touched'
    for part, code, words in [('the command has no {model}', 2, ['legal', '--', 'touch', touched]),
                              ('legl is not there; did you mean legal', 1, ['legl', '--', 'touch', touched, '{model}']),
                              ('MANIFEST', 2, ['legal']), ('--nothing', 2, ['legal', '--nothing', '--', 'touch', touched, '{model}'])]:
        found, printed, message = project.lorapack.run('run', project.manifest, *words)
        expect((found, printed, touched.exists()), (code, '', False), f'run {words}, which says {message!r}')
        expect_in(part, message, 'run')
    project.manifest.write_text('version: 2\n')
    project.refused('lorafmt.yaml:1:10', 'run', 'legal', '--', 'touch', touched, '{model}')
    if touched.exists():
        raise Complaint('the command is run all the same')


def main():
    for number in signal.SIGHUP, signal.SIGINT, signal.SIGQUIT: # whoever started this may ignore them
        signal.signal(number, signal.SIG_DFL)
    lorapack, demo, tinylm = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3]
    checks = {'refused': (check_refused, ()), 'early': (check_early, ())}
    mounting = {'arguments': (check_arguments, ()), 'bytes': (check_bytes, ()), 'status': (check_status, ()), 'streams': (check_streams, ()),
                'signals': (check_signals, ()), 'inherited': (check_inherited, ()), 'private': (check_private, ()),
                'left behind': (check_left_behind, ()), 'killed': (check_killed, ()), 'tinylm': (check_tinylm, (tinylm, demo))}
    return run_checks(checks, mounting, lambda folder: Project(lorapack, demo, folder, n_shards=1))


if __name__ == '__main__':
    sys.exit(main())
