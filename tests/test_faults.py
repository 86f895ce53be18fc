#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Each allocation and each system call of the commands that write fails once, and once for ever; then things are as they were.

usage: test_faults.py LORAPACK SEAM [STRIDE]

After each fault the exit code is right and one line says why, nothing leaks, the output is the old one or the new one and nothing is left
beside it, and where something changed the command, run again, does what it does without faults. Only every STRIDE-th point of a
command is tried (default 1: all).
"""
import collections
import errno
import pathlib
import re
import shutil
import sys
import tempfile

from commands import BUILD, CACHED, CASES, STATE, Reader, read_tree, write_inputs
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
    'ftruncate': [errno.EIO, errno.EINTR],
    'fcntl': [], # what is asked of an open descriptor
    'getcwd': [errno.EACCES, errno.ENOENT],
}
# A disk that is full or broken stays so; and a process that has no memory may never get any.
LASTING = [errno.EIO, errno.ENOSPC]
# But where no directory can be read and no name removed, what is temporary stays.
TO_REMOVE = ['getdents64', 'unlink', 'unlinkat']


# How build says what it found, which may be hidden from it.
WAS = re.compile('; it was .*')

# Where a directory waits to be removed that was replaced.
TEMPORARY = re.compile(r'\.out\.lorapack-[a-z0-9]{6}')

# What may come of a fault.
DONE, REFUSED = 'done all the same', 'refused, all as it was'
WRITTEN, SETTLED = 'written, and says what is not well', 'in its place, and the next run finishes it'

# When all is written and then something is not well, this says that it is written.
SAID_AFTER = re.compile('is written, but|; the model is written|standard output: cannot be written')


def calls_of(record):
    """The names of the calls of a record, in order."""
    names, at = [], 0
    while at < len(record):
        end = record.index(b'\n', at)
        words = record[at:end].decode().split(' ')
        names.append(words[0])
        at = end + 1 + (int(words[-1]) if words[1:2] == ['write'] else 0)
    return names


def faults_of(names, n_allocations):
    """Each fault of a command that makes these calls: a plan, and what it is called."""
    for at in range(1, n_allocations + 1):
        for for_ever in (0, 1):
            yield Plan(ALLOCATION, at, for_ever, errno.ENOMEM), f'allocation {at}' + ' and all after' * for_ever
    for at, name in enumerate(names, 1):
        if name not in ERRORS:
            raise Complaint(f'{name}: what this system call may answer is not known here')
        for error in ERRORS[name]:
            for for_ever in (0, 1) if error in LASTING and name not in TO_REMOVE else (0,):
                said = errno.errorcode[error] if error else 'half done'
                yield Plan(CALL, at, for_ever, error), f'{name}, call {at}' + ' and all like it' * for_ever + f': {said}'


def kept(tree):
    """A tree without what commands keep for themselves."""
    return {path: data for path, data in tree.items() if STATE not in path.split('/') and path != BUILD}


def settled(tree):
    """What must be the same after all runs that succeed: of records only the names, since they have times in them."""
    return {path: None if STATE in path.split('/') else data for path, data in tree.items() if path not in CACHED}


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
        self.names = calls_of(self.program.record())
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
        """All that can fail."""
        return list(faults_of(self.names, self.good.n_allocations))

    def check(self, plan):
        """One fault; what came of it, in a word."""
        run = self.program.run(plan)
        tree = read_tree(self.work)
        self.check_run(run)
        outcome = self.judge(run, tree)
        if tree != self.old:
            if outcome in (REFUSED, SETTLED):
                self.check_again(tree)
            self.reset()
        return outcome if run.n_failed else 'not reached'

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
        """Success: all is as without faults. Failure: nothing is."""
        if run.code == 0:
            if settled(tree) != settled(self.new):
                raise Complaint(f'exit 0, but {difference(tree, self.new)}')
            if WAS.sub('', run.output) != WAS.sub('', self.good.output):
                raise Complaint(f'exit 0, but it prints {run.output!r}')
            return DONE
        if self.is_new(tree) and SAID_AFTER.search(run.talk):
            return WRITTEN
        if kept(tree) == kept(self.old) or (self.case.in_place and self.reader.same(tree['out'], self.old['out'])):
            return REFUSED # what is behind the end of a container does not count
        if self.is_new(tree) and BUILD in tree:
            return SETTLED
        raise Complaint(f'exit 1, {run.talk.strip()!r}, but {difference(tree, self.old)}')

    def is_new(self, tree):
        """Whether all that differs from the old is as in the new, but for an old output that says that it could not be removed."""
        return all(data == self.new.get(path, 0) for path, data in kept(tree).items()
                   if data != self.old.get(path, 0) and not TEMPORARY.match(path))

    def check_again(self, tree):
        """The next run finds its way from what is there."""
        again = self.program.run(Plan())
        found = read_tree(self.work)
        if again.code or settled(found) != settled(self.new):
            raise Complaint(f'and then exit {again.code}, {again.talk.strip()!r}; {difference(found, self.new)}, from {sorted(tree)}')


def difference(tree, other):
    """Which paths differ."""
    paths = sorted(path for path in tree.keys() | other.keys() if tree.get(path, 0) != other.get(path, 0))
    return 'differs: ' + ', '.join(paths[:4])


def try_case(case, lorapack, seam, reader, folder, stride):
    """All of one command: how often what came of it, and complaints."""
    trial = Trial(case, lorapack, seam, reader, folder)
    tally, complaints = collections.Counter(), []
    for plan, name in trial.faults()[::stride]:
        try:
            tally[trial.check(plan)] += 1
        except Complaint as complaint:
            tally['FAILED'] += 1
            complaints.append(f'FAIL {case.name}: {name}: {complaint}')
            trial.reset()
    trial.program.close()
    return tally, complaints, trial.good


def told(tally):
    """How many faults, and what came of them."""
    return f'{sum(tally.values())} faults: ' + ', '.join(f'{n} {outcome}' for outcome, n in sorted(tally.items()))


def main():
    lorapack, seam, dump, stride = Lorapack(sys.argv[1]), sys.argv[2], sys.argv[3], int((sys.argv[4:5] or ['1'])[0])
    wanted = sys.argv[5:]
    n_failed, total = 0, collections.Counter()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_inputs(folder)
        reader = Reader(dump, folder)
        for case in CASES:
            if wanted and not any(map(case.name.startswith, wanted)):
                continue
            tally, complaints, good = try_case(case, lorapack, seam, reader, folder, stride)
            print(f'{case.name}: {good.n_allocations} allocations, {good.n_calls} calls; {told(tally)}', *complaints, sep='\n', flush=True)
            n_failed += len(complaints)
            total += tally
    print(f'all: {told(total)}; {n_failed} failed')
    sys.exit(n_failed > 0)


main()
