#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The machine stops at any moment of a command that writes: what is found is what was there or what is new, and the next run goes on.

usage: test_crash.py LORAPACK SEAM DUMP_CONTAINER

Each command is recorded once; tests/disk.py makes of the record every state of the disk that a crash may leave.
"""
import collections
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

from commands import BUILD, CACHED, CASES, STATE, Reader, read_tree, write_inputs
from disk import Disk
from lorapack import Complaint, Lorapack
from seam import Plan, Program

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
    """What must be the same after all runs that succeed."""
    return {path: None if STATE in path.split('/') else data for path, data in tree.items()
            if path not in CACHED and not is_temporary(path)}


def write_state(state, folder):
    """Make a folder what was found."""
    shutil.rmtree(folder)
    folder.mkdir()
    for path, data in sorted(state.tree.items()):
        if data is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(data)
            os.utime(folder / path, ns=(state.times[path], state.times[path]))


class Recorded:
    """A command that was recorded, and what was before and after it."""

    def __init__(self, case, lorapack, seam, reader, folder):
        self.case, self.lorapack, self.reader = case, lorapack, reader
        case.prepare(lorapack, folder)
        self.work = folder / 'work'
        self.program = Program(lorapack, seam, case.command.split(), folder)
        self.old = read_tree(self.work)
        self.disk = Disk(self.work)
        run = self.program.run(Plan(record=1))
        if run.code:
            raise Complaint(f'without a crash: exit {run.code}: {run.talk}')
        self.disk.take(self.program.record())
        self.new = read_tree(self.work)
        if self.disk.last() != self.new:
            raise Complaint('the record does not lead to what is there')

    def check(self, state):
        """Each result is the old or the new one, and the command goes on from there; what was found, in a word."""
        if self.case.in_place:
            return self.check_container(state)
        found, old, new = results(state.tree), results(self.old), results(self.new)
        for unit in found.keys() | old.keys() | new.keys():
            if found.get(unit) not in (old.get(unit), new.get(unit)):
                raise Complaint(f'{unit} is neither as it was nor as it becomes: {sorted(found.get(unit, {}))}')
        if found == old or BUILD in state.tree:
            self.check_next(state)
        return 'old' if found == old else 'new' if found == new else 'old and new'

    def check_container(self, state):
        """The same of a container that is changed where it is: by what the library finds in it, if only in the older slot."""
        data, old, new = (tree['out'] for tree in (state.tree, self.old, self.new))
        if set(state.tree) != {'out'} or not (self.reader.same(data, old) or self.reader.same(data, new)):
            raise Complaint(f'{sorted(state.tree)}: {json.dumps(self.reader.read(data))[:200]}')
        found = self.reader.read(data)
        is_old = data != new and self.reader.same(data, old)
        if is_old:
            self.go_on(state, found)
        return ('old' if is_old else 'new') + (', recovered' if found['verdict'] == 'recovered' else '')

    def go_on(self, state, found):
        """The command, run on what was found, once that was accepted where it has to be."""
        write_state(state, self.work)
        if found['verdict'] == 'recovered' and self.reader.read(self.old['out'])['verdict'] == 'good':
            self.lorapack.must('rollback', self.work / 'out', '--to', str(found['file']['generation']))
        run = self.program.run(Plan())
        after = self.reader.read((self.work / 'out').read_bytes())
        names = [[adapter['adapter_id'] for adapter in listing['adapters']] for listing in (after, self.reader.read(self.new['out']))]
        if run.code or after['verdict'] != 'good' or names[0] != names[1]:
            raise Complaint(f'the next run: exit {run.code}, {run.talk.strip()!r}, {after["verdict"]}: {names[0]}, not {names[1]}')

    def check_next(self, state):
        """The command, run where the crash left things."""
        write_state(state, self.work)
        run = self.program.run(Plan())
        tree = read_tree(self.work)
        if run.code or settled(tree) != settled(self.new):
            wrong = sorted(path for path in tree.keys() | self.new.keys() if settled(tree).get(path, 0) != settled(self.new).get(path, 0))
            raise Complaint(f'from {sorted(state.tree)}: exit {run.code}, {run.talk.strip()!r}, {", ".join(wrong)}')


def main():
    lorapack, seam, dump, only = Lorapack(sys.argv[1]), sys.argv[2], sys.argv[3], ''.join(sys.argv[4:5])
    n_failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder)
        reader = Reader(dump, folder)
        for case in CASES:
            if not case.name.startswith(only): continue
            recorded, tally, complaints = Recorded(case, lorapack, seam, reader, folder), collections.Counter(), []
            for state in recorded.disk.states(is_temporary):
                try:
                    tally[recorded.check(state)] += 1
                except Complaint as complaint:
                    complaints.append(f'FAIL {case.name}: {complaint}')
            recorded.program.close()
            print(f'{case.name}: {recorded.disk.n_operations} operations, {len(recorded.disk.syncs)} syncs, {sum(tally.values()) + len(complaints)} states: '
                  + ', '.join(f'{n} {what}' for what, n in sorted(tally.items())), flush=True)
            for complaint in complaints[:10]:
                print(complaint[:600])
            n_failed += len(complaints)
    print(f'{n_failed} failed')
    sys.exit(n_failed > 0)


main()
