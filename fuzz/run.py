#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the libFuzzer targets, several at a time, and say what they did.

usage: run.py BUILD --seconds N [NAME...]
       run.py BUILD --minutes N COVERAGE [NAME...]

BUILD was configured with -Dfuzz=enabled; corpora, logs, findings and the ledger of all runs so far are kept in it. --seconds is
for each target by the clock. --minutes is for each by its CPU time; then COVERAGE, a build of the same targets as plain programs
with clang's coverage, replays seeds and corpora to say how much of format/ they reach, and which lines they do not.
Exits 1 when there is a finding, or no target.
"""
import concurrent.futures
import json
import math
import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MEASURED = 'format/'
ENOUGH = 95  # per cent of the lines; below, those that are missing are listed

# The schedule that libFuzzer has by default spends two thirds of the time on itself where inputs reach much.
OPTIONS = ['-entropic=0', '-timeout=10', '-rss_limit_mb=1024', '-verbosity=0', '-print_final_stats=1', '-print_funcs=0']


class Target:
    """One target: where its things are, and what it did in this run."""

    def __init__(self, build, name):
        self.build, self.name = build, name
        self.seeds = ROOT / 'fuzz/seeds' / name
        self.corpus = build / 'corpus' / f'fuzz_{name}'
        self.log = build / f'fuzz_{name}.log'
        self.findings = build / 'findings' / name
        self.executions, self.cpu, self.failed = 0, 0.0, False

    def inputs(self):
        """What there is to replay."""
        return [folder for folder in (self.seeds, self.corpus) if folder.is_dir()]

    def run_once(self, seconds):
        """Fuzz for so long by the clock."""
        dictionary = ROOT / 'fuzz/dict' / f'{self.name}.dict'
        command = [self.build / 'fuzz' / f'fuzz_{self.name}', f'-max_total_time={seconds}', f'-artifact_prefix={self.findings}/',
                   *OPTIONS, *([f'-dict={dictionary}'] if dictionary.exists() else []), self.corpus, self.seeds]
        with self.log.open('wb') as log:
            process = subprocess.Popen(command, stdout=log, stderr=log,
                                       env={**os.environ, 'UBSAN_OPTIONS': 'halt_on_error=1:print_stacktrace=1'})
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        self.failed = process.returncode != 0
        self.cpu += usage.ru_utime + usage.ru_stime
        found = re.search(rb'stat::number_of_executed_units: *(\d+)', self.log.read_bytes())
        self.executions += int(found[1]) if found else 0

    def run(self, seconds, by_cpu):
        """Fuzz for so long, by the clock or by CPU time."""
        self.corpus.mkdir(parents=True, exist_ok=True)
        self.findings.mkdir(parents=True, exist_ok=True)
        self.run_once(seconds)
        while by_cpu and not self.failed and self.cpu < seconds:
            self.run_once(math.ceil(seconds - self.cpu))
        return self


def keep_ledger(build, targets):
    """Add this run to all runs so far."""
    path = build / 'ledger.json'
    ledger = json.loads(path.read_text()) if path.exists() else {}
    for target in targets:
        entry = ledger.setdefault(target.name, {'executions': 0, 'cpu_seconds': 0})
        entry['executions'] += target.executions
        entry['cpu_seconds'] += target.cpu
    path.write_text(json.dumps(ledger, indent=2, sort_keys=True) + '\n')
    return ledger


def replay(coverage, target):
    """The lines of MEASURED that the target has and those that its inputs reach, as sets of (file, number)."""
    program = coverage / 'fuzz' / f'fuzz_{target.name}'
    raw, profile = (coverage / f'{target.name}.{end}' for end in ('profraw', 'profdata'))
    subprocess.run([program, *target.inputs()], check=True, env={**os.environ, 'LLVM_PROFILE_FILE': str(raw)})
    subprocess.run(['llvm-profdata', 'merge', '-sparse', raw, '-o', profile], check=True)
    report = subprocess.run(['llvm-cov', 'export', '-format=lcov', f'-instr-profile={profile}', program], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    lines, reached, file = set(), set(), None
    for line in report.splitlines():
        if line.startswith('SF:'):
            file = os.path.relpath(line[3:], ROOT)
        elif line.startswith('DA:') and file.startswith(MEASURED):
            number, count = map(int, line[3:].split(','))
            lines.add((file, number))
            if count:
                reached.add((file, number))
    return lines, reached


def percent(reached, lines):
    """How much of the lines is reached."""
    return 100 * len(reached) / len(lines) if lines else 0


def list_missing(missing):
    """FILE: the numbers of its lines, runs of them as A-B."""
    by_file = {}
    for file, number in sorted(missing):
        runs = by_file.setdefault(file, [])
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    for file, runs in by_file.items():
        print(f'  {file}: ' + ', '.join(str(a) if a == b else f'{a}-{b}' for a, b in runs))


def report_coverage(coverage, targets, every):
    """A line for each target, what they reach together, and, when they are every target, what is missing."""
    all_lines, all_reached = set(), set()
    results = {target: replay(coverage, target) for target in targets}
    for lines, _ in results.values():
        all_lines |= lines
    for target, (_, reached) in results.items():
        all_reached |= reached
        print(f'{target.name:16} reaches {percent(reached, all_lines):5.1f} % of the lines of {MEASURED}')
    print(f'{"together":16} reach   {percent(all_reached, all_lines):5.1f} %, {len(all_reached)} of {len(all_lines)}')
    if not every:
        return
    unlinked = {str(path.relative_to(ROOT)) for path in (ROOT / MEASURED).rglob('*.c')} - {file for file, _ in all_lines}
    for file in sorted(unlinked):
        print(f'  {file}: no target has it')
    if percent(all_reached, all_lines) < ENOUGH:
        list_missing(all_lines - all_reached)


def main():
    build, unit, amount, *rest = sys.argv[1:]
    by_cpu = unit == '--minutes'
    build, seconds = pathlib.Path(build).resolve(), int(amount) * (60 if by_cpu else 1)
    coverage = pathlib.Path(rest.pop(0)).resolve() if by_cpu else None
    names = rest or sorted(path.stem.removeprefix('fuzz_') for path in (ROOT / 'fuzz').glob('fuzz_*.c'))
    targets = [Target(build, name) for name in names]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda target: target.run(seconds, by_cpu), targets))
    ledger = keep_ledger(build, targets)
    for target in targets:
        n_findings, total = len(list(target.findings.iterdir())), ledger[target.name]
        target.failed = target.failed or n_findings > 0
        print(f'{target.name:16} {target.executions:9} executions in {target.cpu / 60:5.1f} CPU minutes, so far '
              f'{total["executions"]:10} in {total["cpu_seconds"] / 60:6.1f}; {n_findings} findings')
        if target.failed:
            print(f'{target.log}:', *target.log.read_text(errors='replace').splitlines()[-40:], sep='\n')
    if by_cpu:
        report_coverage(coverage, targets, not rest)
    n_failed = sum(target.failed for target in targets)
    print(f'{len(targets) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed or not targets else 0


if __name__ == '__main__':
    sys.exit(main())
