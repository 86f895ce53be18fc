#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each allocation and each system call of the commands that write fails, once and for ever, in each way it can; then all is as it was.

usage: test_faults.py LORAPACK SEAM DUMP_CONTAINER [STRIDE [CASE...]]

After each fault the exit code is right and one line says why, nothing leaks, each output is the old one or the new one and nothing is
left beside it, and from there the command does what it does without faults. Only every STRIDE-th fault of a command is tried (default 1:
all). CASE: only those of tests/commands.py.
"""
import collections
import errno
import pathlib
import re
import shutil
import sys
import tempfile

from commands import BUILD, CASES, Reader, Table, is_temporary, read_tree, results, settled, write_inputs
from disk import lines_of
from lorapack import Complaint, Lorapack
from seam import ALLOCATION, CALL, Plan, Program

# What each system call may answer, as its manual says. SHORT: it does a part.
SHORT = 0
READ = [SHORT, errno.EIO, errno.EINTR]
WRITE = [SHORT, errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINTR]
SYNC = [errno.EIO, errno.ENOSPC, errno.EDQUOT]
LOOK = [errno.EACCES, errno.ENOMEM, errno.EIO]
NAME = [errno.EACCES, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENOMEM, errno.EROFS]
UNSUPPORTED = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP]
ERRORS = {
    'openat': [errno.EACCES, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO, errno.ENOSPC, errno.EDQUOT],
    'close': [errno.EIO, errno.EINTR, errno.ENOSPC, errno.EDQUOT],
    'read': READ,
    'pread64': READ,
    'write': WRITE,
    'pwrite64': WRITE,
    'lseek': [errno.ESPIPE],
    'fstat': LOOK,
    'newfstatat': LOOK,
    'fstatfs': [errno.EIO, errno.EINTR, errno.ENOSYS],
    'mmap': [errno.ENOMEM, errno.EAGAIN, errno.ENODEV],
    'fallocate': [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EINTR, *UNSUPPORTED],
    'fsync': [*SYNC, errno.EINTR, errno.EINVAL],
    'sync_file_range': [*SYNC, errno.ENOMEM, errno.EINVAL],
    'copy_file_range': [SHORT, *SYNC, errno.EFBIG, errno.EINTR, errno.ENOMEM, errno.EXDEV, *UNSUPPORTED],
    'linkat': [*NAME, errno.EEXIST],
    'renameat': NAME,
    'renameat2': [*NAME, errno.EEXIST, *UNSUPPORTED],
    'rename': NAME,
    'unlinkat': NAME,
    'unlink': NAME,
    'mkdirat': NAME,
    'mkdir': NAME,
    'getdents64': [errno.EIO],
    'flock': [errno.EINTR, errno.ENOLCK],
    'ioctl': [errno.ENOTTY],
    'readlink': LOOK,
    'readlinkat': LOOK,
    'access': LOOK,
    'faccessat': LOOK,
    'faccessat2': LOOK,
    'fchmod': [errno.EPERM, errno.EIO, errno.EROFS],
    'fchown': [errno.EPERM, errno.EINVAL, errno.EIO, errno.EROFS],
    'ftruncate': [errno.EIO, errno.EINTR],
    'fcntl': [], # what is asked of an open descriptor
    'getcwd': [errno.EACCES, errno.ENOENT],
}
# A disk that is full or broken stays so; and a process that has no memory may never get any.
LASTING = [errno.EIO, errno.ENOSPC]
# A disk that is gone for all of them at once.
WRITERS = ['pwrite64', 'fsync']
# But where no directory can be read and no name removed, what is temporary stays.
TO_REMOVE = ['getdents64', 'unlink', 'unlinkat']

# How build says what it found, which may be hidden from it.
WAS = re.compile('; it was .*')

# What may come of a fault: nothing; exit 1 and all is as it was, or the output is there and the message says so, or, of a build, which
# has several steps, the output is there and the next run does the rest.
OUTCOMES = DONE, REFUSED, WRITTEN, UNFINISHED, NOT_REACHED, FAILED = 'done', 'refused', 'written', 'unfinished', 'not met', 'failed'
SAYS_WRITTEN = re.compile('is written, but|may be written, but|; the model is written|standard output: cannot be written')


class Trial:
    """One command, and all that fails of it."""

    def __init__(self, case, lorapack, seam, reader, folder):
        self.case, self.reader, self.work = case, reader, folder / 'work'
        case.prepare(lorapack, folder)
        self.start = folder / 'start'
        shutil.rmtree(self.start, ignore_errors=True)
        shutil.copytree(self.work, self.start)
        self.old = read_tree(self.work)
        self.program = Program(lorapack, seam, case.command.split(), folder)
        self.good = self.program.run(Plan(record=1))
        self.names = [words[0] for words, _ in lines_of(self.program.record())]
        self.new = read_tree(self.work)
        if self.good.code or self.new == self.old:
            raise Complaint(f'without faults: exit {self.good.code}: {self.good.talk}')
        if len(self.names) != self.good.n_calls:
            raise Complaint(f'{self.good.n_calls} calls, but {len(self.names)} in the record')
        self.reset()

    def reset(self):
        """All as it was before."""
        shutil.rmtree(self.work)
        shutil.copytree(self.start, self.work)

    def faults(self):
        """Each of what can fail: a plan, and what it is called."""
        for at in range(1, self.good.n_allocations + 1):
            for for_ever in (0, 1):
                yield Plan(ALLOCATION, at, for_ever, errno.ENOMEM), f'allocation {at}' + ' and all after' * for_ever
        for at, name in enumerate(self.names, 1):
            if name not in ERRORS:
                raise Complaint(f'{name}: what this system call may answer is not known here')
            for error in ERRORS[name]:
                for for_ever in (0, 1) if error in LASTING and name not in TO_REMOVE else (0,):
                    said = errno.errorcode[error] if error else 'half done'
                    yield Plan(CALL, at, for_ever, error), f'{name}, call {at}' + ' and all like it' * for_ever + f': {said}'
            if name in WRITERS:
                yield Plan(CALL, at, 2, errno.EIO), f'{name}, call {at} and all that write: EIO'

    def check(self, plan):
        """One fault; what came of it."""
        run = self.program.run(plan)
        tree = read_tree(self.work)
        self.check_run(run)
        outcome = self.judge(run, tree)
        if outcome == DONE and plan.error in SYNC and self.is_sync(plan) and BUILD not in tree: # where records may be lost
            raise Complaint('exit 0, and nobody hears that it was not synced')
        if tree != self.old: # else the next run is the one that was recorded
            if outcome in (REFUSED, UNFINISHED):
                self.check_again(tree)
            self.reset()
        return outcome if run.n_failed else NOT_REACHED

    def is_sync(self, plan):
        """Whether it was to a call that says whether something is on the disk. (When it is not known which call it was, none was.)"""
        return plan.kind == CALL and self.names[plan.at - 1] in ('fsync', 'sync_file_range') and not self.case.is_threaded

    def check_run(self, run):
        """Its end, its words, and what it has not given back."""
        if run.code not in (0, 1):
            raise Complaint(f'exit {run.code}: {run.talk}')
        blocks, descriptors = run.held_blocks - self.good.held_blocks, run.held_descriptors - self.good.held_descriptors
        if descriptors or blocks and not (blocks == -1 and self.case.is_threaded): # libc keeps a block for the thread that was there
            raise Complaint(f'leaks {blocks} blocks, {descriptors} descriptors: {run.talk.strip()!r}')
        if run.code == 1 and not re.fullmatch(r'lorapack: [^\n]+\n', run.talk):
            raise Complaint(f'exit 1, and it says {run.talk!r}')

    def judge(self, run, tree):
        """Success: all is as without faults. Failure: nothing is, or it is said."""
        if run.code == 0:
            return self.judge_success(run, tree)
        if self.is_new(tree) and SAYS_WRITTEN.search(run.talk) and all(path.split('/')[0] in run.talk for path in temporaries(tree)):
            return WRITTEN
        if self.is_old(tree) and not temporaries(tree):
            return REFUSED
        if self.is_new(tree) and BUILD in tree:
            return UNFINISHED
        raise Complaint(f'exit 1, {run.talk.strip()!r}, but {difference(tree, self.old)}')

    def judge_success(self, run, tree):
        """The result and what is said of it are those of a run without faults."""
        if settled(tree) != settled(self.new) or temporaries(tree):
            raise Complaint(f'exit 0, but {difference(tree, self.new)}')
        if WAS.sub('', run.output) != WAS.sub('', self.good.output):
            raise Complaint(f'exit 0, but it prints {run.output!r}')
        return DONE

    def is_old(self, tree):
        """Whether a user finds all as it was. What is behind the end of a container does not count."""
        return results(tree) == results(self.old) or (self.case.in_place and self.reader.same(tree['out'], self.old['out']))

    def is_new(self, tree):
        """Whether some result is the new one, and the others are as they were."""
        found, old, new = results(tree), results(self.old), results(self.new)
        return found != old and all(found.get(unit) in (old.get(unit), new.get(unit)) for unit in found.keys() | old.keys() | new.keys())

    def check_again(self, tree):
        """The next run finds its way from what is there."""
        again = self.program.run(Plan())
        found = read_tree(self.work)
        if again.code or settled(found) != settled(self.new):
            raise Complaint(f'and then exit {again.code}, {again.talk.strip()!r}; {difference(found, self.new)}, from {sorted(tree)}')


def temporaries(tree):
    """What is there only until it comes to its place."""
    return [path for path in tree if is_temporary(path)]


def difference(tree, other):
    """Which paths differ."""
    paths = sorted(path for path in tree.keys() | other.keys() if tree.get(path, 0) != other.get(path, 0))
    return 'differs: ' + ', '.join(paths[:4])


def try_case(case, stride, *arguments):
    """The faults of one command: how often what came of one, complaints, and numbers of what can fail."""
    trial = Trial(case, *arguments)
    tally, complaints = collections.Counter(), []
    for plan, name in list(trial.faults())[::stride]:
        try:
            tally[trial.check(plan)] += 1
        except Complaint as complaint:
            tally[FAILED] += 1
            complaints.append(f'FAIL {case.name}: {name}: {complaint}')
            trial.reset()
    trial.program.close()
    return tally, complaints, (trial.good.n_allocations, trial.good.n_calls, tally.total())


def main():
    lorapack, seam, dump, stride, wanted = Lorapack(sys.argv[1]), *sys.argv[2:4], int((sys.argv[4:5] or [1])[0]), sys.argv[5:]
    table = Table(('allocations', 'calls', 'faults'), OUTCOMES)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder)
        reader = Reader(dump, folder)
        for case in CASES:
            if not wanted or case.name in wanted:
                table.add(case.name, *try_case(case, stride, lorapack, seam, reader, folder))
    sys.exit(table.end())


main()
