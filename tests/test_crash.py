#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The machine stops at any moment of a command that writes: what is found is what was there or what is new, and the next run goes on.

usage: test_crash.py LORAPACK SEAM DUMP_CONTAINER [CASE...]

Each command is recorded once; tests/disk.py makes of the record every state of the disk that a crash may leave. A container that is
changed where it is may be found in its older state by the other root slot: recovered, as it says itself. CASE: only those of tests/commands.py.
"""
import collections
import json
import os
import pathlib
import shutil
import sys
import tempfile

from commands import BUILD, CASES, Reader, Table, is_temporary, read_tree, results, settled, write_inputs
from disk import Disk
from lorapack import Complaint, Lorapack
from seam import Plan, Program

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

    def check_end(self):
        """Once the command has said that it is done, no crash undoes it."""
        for state in self.disk.states_at(self.disk.n_operations, is_temporary):
            if results(state.tree) != results(self.new):
                raise Complaint(f'done, and yet a crash may leave {sorted(state.tree)}')

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


def try_case(case, *arguments):
    """Every crash of one command: how often what was found, complaints, and numbers of the record."""
    recorded, tally, complaints = Recorded(case, *arguments), collections.Counter(), []
    for state in recorded.disk.states(is_temporary):
        try:
            tally[recorded.check(state)] += 1
        except Complaint as complaint:
            tally['failed'] += 1
            complaints.append(f'FAIL {case.name}: {complaint}')
    recorded.check_end()
    recorded.program.close()
    return tally, complaints, (recorded.disk.n_operations, len(recorded.disk.syncs), tally.total())


def main():
    lorapack, seam, dump, wanted = Lorapack(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:]
    table = Table(('changes', 'syncs', 'states'), ('old', 'old, recovered', 'new', 'old and new', 'failed'))
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder)
        reader = Reader(dump, folder)
        for case in CASES:
            if not wanted or case.name in wanted:
                table.add(case.name, *try_case(case, lorapack, seam, reader, folder))
    sys.exit(table.end())


main()
