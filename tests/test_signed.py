#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Manifests that require signatures: every command that opens an adapter refuses what nobody trusted signed.

usage: test_signed.py LORAPACK DEMO_MODEL
"""
import pathlib
import shutil
import sys

from lorapack import Lorapack, names
from project import HEAD, expect, expect_in, flip, run_checks

SCENARIO = 'scenarios:\n  legal: {adapters: [legal]}\n'
COMMANDS = [('build', 'legal'), ('lock',), ('emit', '--for', 'peft', '-o', 'served'), ('mount', 'models'), ('run', 'legal', '--', 'true', '{model}')]


def manifest(*keys, adapter='{path: adapters/legal, signature: legal.sig}'):
    """It requires a signature by one of these."""
    return HEAD.split('adapters:')[0] + f'require-signature: [{", ".join(keys)}]\nadapters:\n  legal: {adapter}\n' + SCENARIO


def prepare(project):
    """Keys of two people in the folder, a place to mount, and a signature by one of them beside the adapter."""
    (project.folder / 'models').mkdir()
    for name in 'alice', 'bob':
        project.lorapack.must('keygen', '-o', project.folder / name)
    project.lorapack.must('sign', project.folder / 'adapters/legal', '--key', project.folder / 'alice.pem', '--detached', '-o', project.folder / 'legal.sig')


def commands(project):
    """What there is in this build of what uses scenarios."""
    known = project.lorapack.must('help')
    for command, *arguments in COMMANDS:
        if f'\n  {command} ' in known:
            yield command, *(project.folder / word if word in ('served', 'models') else word for word in arguments)


def all_refuse(project, part):
    """And make nothing."""
    for command in commands(project):
        project.refused(part, *command)
    code, said = project.says('plan')
    expect((code, said['scenarios'][0]['can_be_made']), (1, False), 'plan')
    for path in project.out / 'legal', project.folder / 'served', project.lock:
        expect(path.exists(), False, f'whether there is {path}')


def check_trusted(project):
    """Signed beside or in the file: built, and the same as without."""
    prepare(project)
    merged = project.merged('legal', [project.adapter('legal')])
    packed = project.folder / 'both.lora'
    project.lorapack.must('pack', project.folder / 'adapters/legal', project.folder / 'adapters/tang', '-o', packed)
    project.lorapack.must('sign', f'{packed}#legal', '--key', project.folder / 'bob.pem')
    for text in (manifest('alice.pub.pem'), manifest('bob.pub.pem', 'alice.pub.pem'),
                 manifest('bob.pub.pem', adapter='{path: both.lora, select: legal}')):
        project.write(text)
        expect(project.says('plan')[0], 0, 'plan')
        project.must('build', 'legal', '--force')
        for name in names(merged):
            expect((project.out / 'legal' / name).read_bytes() == (merged / name).read_bytes(), True, f'{name} is what merge writes')
    project.must('lock')


def check_untrusted(project):
    """Not signed, by somebody else, of something else, of several where only one is."""
    prepare(project)
    for text, part in [(manifest('alice.pub.pem', adapter='adapters/legal'), 'is not signed'), (manifest('bob.pub.pem'), 'no signature'),
                       (manifest('alice.pub.pem', adapter='{path: adapters/tang, signature: legal.sig}'), 'no signature')]:
        project.write(text)
        all_refuse(project, part)
    project.write(manifest('alice.pub.pem'))
    project.must('build', 'legal')
    shutil.rmtree(project.out)
    flip(project.weights('legal'))
    all_refuse(project, 'no signature of the key that is trusted is genuine')


def check_built_before(project):
    """A model that was built before is not taken for good when its adapter is no longer trusted."""
    prepare(project)
    project.write(manifest('alice.pub.pem'))
    project.must('build', 'legal')
    project.write(manifest('bob.pub.pem'))
    project.refused('no signature', 'build', 'legal')


def check_files(project):
    """Keys and signatures that are missing, outside of the roots, or none."""
    prepare(project)
    outside = project.folder.parent / f'{project.folder.name}-outside'
    outside.mkdir()
    for name in 'alice.pub.pem', 'legal.sig':
        shutil.copy(project.folder / name, outside)
        (project.folder / f'link-{name}').symlink_to(outside / name)
    for text, part in [(manifest('missing.pem'), 'is not there'), (manifest('alice.pem'), 'is a private key'), (manifest('legal.sig'), 'is no key'),
                       (manifest('link-alice.pub.pem'), 'beneath none of the roots'),
                       (manifest(f'../{outside.name}/alice.pub.pem'), 'beneath none of the roots')]:
        project.write(text)
        for command in commands(project):
            project.refused(part, *command)
    for signature, part in [('missing.sig', 'is not there'), ('alice.pub.pem', 'must be 64'), ('link-legal.sig', 'beneath none of the roots')]:
        project.write(manifest('alice.pub.pem', adapter=f'{{path: adapters/legal, signature: {signature}}}'))
        project.refused(part, 'build', 'legal')


def check_recovered(project):
    """A file with a damaged root slot, though all that is read of it is signed."""
    prepare(project)
    packed = project.folder / 'legal.lora'
    project.lorapack.must('pack', project.folder / 'adapters/legal', '-o', packed)
    project.lorapack.must('sign', packed, '--key', project.folder / 'alice.pem')
    project.write(manifest('alice.pub.pem', adapter='legal.lora'))
    expect(project.says('plan')[0], 0, 'plan')
    flip(packed, 4096 + 200)
    expect_in('recovered', project.lorapack.run('inspect', packed)[1], 'inspect')
    all_refuse(project, 'recovered')


def check_swapped_key_file(project):
    """A key of small order in a key file, for which anybody can sign."""
    prepare(project)
    (project.folder / 'weak.pem').write_text('-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END PUBLIC KEY-----\n')
    (project.folder / 'legal.sig').write_bytes(b'\1' + bytes(63))
    project.write(manifest('weak.pem'))
    project.refused('anybody can sign', 'build', 'legal')


CHECKS = {'trusted': check_trusted, 'untrusted': check_untrusted, 'built before': check_built_before, 'files': check_files,
          'recovered': check_recovered, 'weak key': check_swapped_key_file}

if __name__ == '__main__':
    sys.exit(run_checks(CHECKS, Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])))
