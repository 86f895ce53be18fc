#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train adapters of the demo model on a text that is made here, and use them.

usage: test_tinylm_train.py TINYLM_TRAIN TINYLM DEMO_MODEL
"""
import json
import pathlib
import random
import re
import sys
import tempfile

from lorapack import Complaint, Lorapack

# What printing four digits may hide; and what rounding merged weights to BF16 does to a loss (test_tinylm.py).
PRINTED, LOSS_BF16 = 6e-5, 5e-3


def require(condition, complaint):
    """Complain unless it is so."""
    if not condition:
        raise Complaint(complaint)


class Place:
    """The programs, the model, and the texts."""

    def __init__(self, arguments, scratch):
        self.train, self.tinylm, self.folder = Lorapack(arguments[0]), Lorapack(arguments[1]), pathlib.Path(arguments[2])
        self.scratch = pathlib.Path(scratch)
        self.text, self.heldout = self.write('text', 4000), self.write('heldout', 512)

    def write(self, name, size):
        """Sentences of seven words."""
        chance, words = random.Random(name), 'zinc quartz vexes jumpy kiwi wizards oxen'.split()
        text = ' '.join(chance.choice(words) for _ in range(size))
        path = self.scratch / f'{name}.txt'
        path.write_text(text[:size], encoding='ascii')
        return path

    def arguments(self, out, *more):
        """A short training."""
        return ['--model', self.folder / 'base', '--text', self.text, '-o', self.scratch / out, *more]

    def score(self, *arguments):
        """The loss of the held-out text."""
        printed = self.tinylm.must('--json', '--model', self.folder / 'base', '--score', self.heldout, *arguments)
        return json.loads(printed)['scenarios'][0]['losses'][0]['mean']


def learns(place):
    """The loss falls, what is printed is so, and the adapter gives that loss unmerged and merged."""
    printed = place.train.must(*place.arguments('learnt.lora', '--heldout', place.heldout, '--steps', '5', '--rate', '0.01',
                                                '--rank', '4', '--target', 'q_proj', '--target', 'down_proj'))
    n = 6 * 4 * (144 + 144 + 384 + 144)
    require(f'{n:,} of 1,402,704 parameters are trained, {100 * n / 1402704:.1f} %\n' in printed, f'the share is not in {printed!r}')
    before, after = map(float, re.search(r'heldout\.txt: ([\d.]+) nats per byte before, ([\d.]+) after', printed).groups())
    require(after < before - 0.3, f'the loss went from {before} to {after}')
    out = place.scratch / 'learnt.lora'
    require(f'--adapter {out}' in printed, f'how to use it is not in {printed!r}')
    for found, expected, tolerance in [(place.score(), before, PRINTED), (place.score('--unmerged', '--adapter', out), after, PRINTED),
                                       (place.score('--f32', '--adapter', out), after, PRINTED),
                                       (place.score('--adapter', out), after, LOSS_BF16)]:
        require(abs(found - expected) <= tolerance, f'the loss is {found}, {expected} was printed')


def repeats(place):
    """A seed gives an adapter, whatever the number of threads; another seed another one. --dtype makes it smaller."""
    def train(name, *more):
        place.train.must(*place.arguments(name, '--steps', '1', '--target', 'v_proj', *more))
        return (place.scratch / name).read_bytes()
    one = train('one.lora', '--threads', '1', '--seed', '7')
    require(train('three.lora', '--threads', '3', '--seed', '7') == one, 'the adapter depends on the number of threads')
    require(train('other.lora', '--seed', '8') != one, 'the adapter does not depend on the seed')
    require(len(train('small.lora', '--seed', '7', '--dtype', 'BF16')) < len(one), 'numbers of BF16 are no smaller')


def refuses(place):
    """What is wrong, with its exit code and a part of what is said about it; nothing is written."""
    short, there, out = place.scratch / 'short.txt', place.scratch / 'there.lora', place.scratch / 'refused.lora'
    short.write_bytes(b'x' * 255)
    there.write_bytes(b'mine')
    model, text = ['--model', place.folder / 'base'], ['--text', place.text]
    good = [*model, *text, '-o', out]
    cases = [
        ([*text, '-o', out], 2, '--model DIR is missing'),
        ([*model, '-o', out], 2, '--text FILE is missing'),
        ([*model, *text], 2, '-o OUT.lora is missing'),
        ([*good, '--rank', '0'], 2, '--rank 0: must be a whole number, 1 .. 1048576'),
        ([*good, '--rate', 'nan'], 2, '--rate nan: must be a number above 0'),
        ([*good, '--dtype', 'I8'], 2, '--dtype I8: must be F32, BF16 or F16'),
        ([*good, 'more'], 2, 'unexpected argument more'),
        ([*model, '--text', place.scratch / 'nothing', '-o', out], 1, 'nothing: No such file'),
        ([*model, '--text', short, '-o', out], 1, 'short.txt: has 255 bytes, must be a file of at least a window of 256'),
        ([*model, *text, '-o', there], 1, 'there.lora: is there already'),
        ([*model, *text, '-o', place.scratch / 'nowhere/x.lora'], 1, 'nowhere/: No such file'),
        ([*good, '--target', 'k_prj'], 1, 'k_prj'),
        ([*good, '--target', 'embed_tokens'], 1, 'model.embed_tokens.weight: is of kind embedding, and only linear layers are trained'),
        ([*good, '--heldout', short], 1, 'short.txt: ends with 255 bytes'),
    ]
    for arguments, expected, text in cases:
        code, _, message = place.train.run(*arguments)
        require(code == expected and text in message, f'exit {code}: {message!r}, expected {expected} and {text!r}')
    require(there.read_bytes() == b'mine' and not out.exists(), 'something is written all the same')


def main():
    n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = Place(sys.argv[1:], scratch)
        for case in learns, repeats, refuses:
            try:
                case(place)
            except Complaint as complaint:
                print(f'FAIL {case.__name__}: {complaint}')
                n_failed += 1
    print(f'{n_failed} failed')
    return 1 if n_failed else 0


if __name__ == '__main__':
    sys.exit(main())
