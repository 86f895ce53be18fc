# SPDX-License-Identifier: MIT
"""What a crash leaves of a disk: from the record of a run (tests/seam/record.c), every state that a file system may come back with.

What is written is on the disk when its file was synced after it; until then any part of it may be, in any order, torn anywhere that bytes
cross a multiple of 64: of disks it would be 512, of persistent memory it is this. Names change in the order of the calls, as in the journals of file systems, and surely once a directory they are in was synced:
until then any number of the last changes may be missing. Syncing a file makes no name of it durable. What was reserved and not written is
zero. Times are as of the last write.
"""
import itertools
import os
import random
import typing

SECTOR = 64
MOST_PIECES, N_SAMPLES = 8, 256
EXCHANGE = 2 # a flag of renameat2


class Name(typing.NamedTuple):
    """A change of names: what each (directory, name) becomes, None: it goes."""
    at: int
    changes: dict


class Data(typing.NamedTuple):
    """A change of a file: bytes at an offset; or with None the offset becomes its size. mtime: its time after that."""
    at: int
    file: int
    offset: int
    bytes: bytes
    mtime: int


class State(typing.NamedTuple):
    """A file system that was found after a crash: {path: bytes, or None for a directory}, and times of files."""
    tree: dict
    times: dict


def lines_of(record):
    """The lines of a record as words, with the bytes that follow some."""
    at = 0
    while at < len(record):
        end = record.index(b'\n', at)
        words, at = record[at:end].decode().split(' '), end + 1
        size = int(words[-1]) if words[1:2] == ['write'] else 0
        yield words, record[at:at + size]
        at += size


class Disk:
    """A folder as it was, and what a run did to it."""

    def __init__(self, folder):
        self.number, self.objects = {}, itertools.count() # inodes are used again, numbers of objects are not
        self.files, self.directories, self.mtimes = {}, {}, {}
        self.names, self.data, self.syncs, self.n_operations = [], [], [], 0
        self.root = self.scan(folder)
        self.now = dict(self.start_names())

    def new(self, inode):
        """Another file or directory."""
        self.number[inode] = next(self.objects)
        return self.number[inode]

    def scan(self, path):
        """What is there before."""
        stat = os.stat(path)
        this = self.new(stat.st_ino)
        if path.is_dir():
            self.directories[this] = {entry.name: self.scan(entry) for entry in sorted(path.iterdir())}
        else:
            self.files[this], self.mtimes[this] = path.read_bytes(), stat.st_mtime_ns
        return this

    def start_names(self):
        """Each name there is before."""
        for directory, entries in self.directories.items():
            for name, this in entries.items():
                yield (directory, name), this

    def take(self, record):
        """Follow a record."""
        for words, data in lines_of(record):
            if len(words) > 1:
                self.follow(words[1], words[2:], data)

    def follow(self, what, words, data):
        """Follow one call."""
        if what in ('create', 'mkdir', 'unlink', 'rename', 'link'):
            changes = getattr(self, what)(*words)
            if changes:
                self.names.append(Name(self.n_operations, changes))
                self.now.update(changes)
        elif int(words[0]) not in self.number:
            return # what the command prints goes elsewhere
        elif what == 'sync':
            self.syncs.append((self.n_operations, self.number[int(words[0])]))
        elif what == 'write':
            self.data.append(Data(self.n_operations, self.number[int(words[0])], int(words[1]), data, int(words[2])))
        else:
            size, data = int(words[1]), None if what == 'cut' else b'' # to reserve is to write nothing at the end
            self.data.append(Data(self.n_operations, self.number[int(words[0])], size, data, 0))
        self.n_operations += 1

    def key(self, inode, name):
        """A name in a directory, by its inode."""
        return self.number[int(inode)], name

    def create(self, directory, name, inode):
        """A new file, unless there was one that was only opened."""
        key = self.key(directory, name)
        if self.now.get(key) is not None:
            return None
        this = self.new(int(inode))
        self.files[this] = b''
        return {key: this}

    def mkdir(self, directory, name, inode):
        """A new directory."""
        this = self.new(int(inode))
        self.directories[this] = {}
        return {self.key(directory, name): this}

    def unlink(self, directory, name):
        """A name goes."""
        return {self.key(directory, name): None}

    def link(self, directory, name, to_directory, to_name, _):
        """One more name."""
        return {self.key(to_directory, to_name): self.now[self.key(directory, name)]}

    def rename(self, directory, name, to_directory, to_name, flags):
        """Another name, whose old owner goes or gets this one's."""
        key, to = self.key(directory, name), self.key(to_directory, to_name)
        return {to: self.now[key], key: self.now.get(to) if int(flags) & EXCHANGE else None}

    # --- after a crash ---

    def last(self):
        """The tree when nothing is lost."""
        held = dict(self.files)
        for data in self.data:
            held[data.file] = apply(held[data.file], data)
        return self.state(self.n_operations, self.tree(len(self.names)), held).tree

    def is_synced(self, this, after, end):
        """Whether it was synced between two moments."""
        return any(after < at < end and synced == this for at, synced in self.syncs)

    def tree(self, n_names):
        """{path: object} after so many changes of names."""
        held = dict(self.start_names())
        for change in self.names[:n_names]:
            held.update(change.changes)
        entries = {}
        for (directory, name), this in held.items():
            if this is not None:
                entries.setdefault(directory, {})[name] = this
        paths, rest = {}, [('', self.root)]
        while rest:
            path, directory = rest.pop()
            for name, this in entries.get(directory, {}).items():
                paths[path + name] = this
                rest.append((path + name + '/', this))
        return paths

    def name_counts(self, end):
        """How many changes of names may be durable at a moment."""
        happened = [change for change in self.names if change.at < end]
        surely = 0
        for n, change in enumerate(happened, 1):
            if any(self.is_synced(directory, change.at, end) for directory, _ in change.changes):
                surely = n
        return range(surely, len(happened) + 1)

    def states(self, ignored):
        """Every state that a crash may leave, once; what a file holds whose name is ignored(path) makes no other state."""
        seen = set()
        for end in range(self.n_operations + 1):
            for state in self.states_at(end, ignored):
                key = hash(tuple(sorted((path, data if not ignored(path) else None) for path, data in state.tree.items()
                                        if data is not None)) + tuple(sorted(state.tree)))
                if key not in seen:
                    seen.add(key)
                    yield state

    def states_at(self, end, ignored):
        """Those of a crash when so many operations were done."""
        for n_names in self.name_counts(end):
            paths = self.tree(n_names)
            watched = {this for path, this in paths.items() if not ignored(path)}
            for contents in self.contents(end, watched):
                yield self.state(end, paths, contents)

    def state(self, end, paths, contents):
        """A tree with what its files hold."""
        tree = {path: None if this in self.directories else contents.get(this, b'') for path, this in paths.items()}
        times = {path: self.mtime(this, end) for path, this in paths.items() if this in self.files}
        return State(tree, times)

    def mtime(self, this, end):
        """When a file was last written."""
        return max((data.mtime for data in self.data if data.file == this and data.at < end), default=self.mtimes.get(this, 0))

    def contents(self, end, watched):
        """What the watched files may hold at a moment: {object: bytes}, for each choice of what was not synced."""
        held, pending = {}, []
        for this in watched & self.files.keys():
            held[this] = self.files[this]
        for data in self.data:
            if data.file not in held or data.at >= end:
                continue
            if self.is_synced(data.file, data.at, end):
                held[data.file] = apply(held[data.file], data)
            else:
                pending.append(data)
        for chosen in choices(pending):
            after = dict(held)
            for data in chosen:
                after[data.file] = apply(after[data.file], data)
            yield after


def apply(held, data):
    """A file after a change of it."""
    held += bytes(max(0, data.offset - len(held)))
    return held[:data.offset] + (b'' if data.bytes is None else data.bytes + held[data.offset + len(data.bytes):])


def pieces_of(data):
    """A write cut where sectors meet."""
    if not data.bytes:
        return [data]
    ends = [*range(SECTOR - data.offset % SECTOR, len(data.bytes), SECTOR), len(data.bytes)]
    return [data._replace(offset=data.offset + begin, bytes=data.bytes[begin:end]) for begin, end in zip([0, *ends], ends)]


def choices(pending):
    """
    Which of the changes not synced are there, in their order: every choice of sectors when these are few; else every choice of whole
    writes when these are few, each write torn once at each sector, with all before it and with all but it, and some choices of sectors.
    """
    pieces = [piece for data in pending for piece in pieces_of(data)]
    if len(pieces) <= MOST_PIECES:
        yield from subsets(pieces)
        return
    chance = random.Random(1)
    if len(pending) <= MOST_PIECES:
        yield from subsets(pending)
    else:
        yield from ([data for data in pending if chance.random() < 0.5] for _ in range(N_SAMPLES))
        yield from ([], pending)
    for i, data in enumerate(pending):
        torn = pieces_of(data)
        for n in range(1, len(torn)):
            yield from (pending[:i] + torn[:n], pending[:i] + torn[:n] + pending[i + 1:], pending[:i] + torn[n:] + pending[i + 1:])
    yield from ([piece for piece in pieces if chance.random() < 0.5] for _ in range(N_SAMPLES))


def subsets(items):
    """Every choice of some."""
    for n in range(len(items) + 1):
        yield from itertools.combinations(items, n)
