#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Install into an empty folder, build a program against that through pkg-config as C and as C++, and run it.

usage: test_install.py MESON BUILD_DIR PKG_CONFIG SOURCE.c ADAPTER [EMULATOR...] -- COMPILER... -- [COMPILER... --]
"""
import os
import pathlib
import subprocess
import sys
import tempfile


def run(*command, **environment):
    """Run a command and return what it prints; its complaints go to our stderr."""
    return subprocess.run(list(map(str, command)), env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE,
                          text=True).stdout


def groups(arguments):
    """The commands, each of which ends at "--"."""
    while arguments:
        end = arguments.index('--')
        yield arguments[:end]
        arguments = arguments[end + 1:]


def check_installed(root):
    """What an installation must have, wherever the prefix puts it."""
    names = {path.name for path in root.rglob('*') if not path.is_dir()}
    for name in ('liblorafmt.so', 'liblorafmt.a', 'lorafmt.pc', 'lorafmt.h', 'lorapack'):
        assert name in names, f'{name} was not installed'


def main():
    meson, build_dir, pkg_config, source, adapter, *arguments = sys.argv[1:]
    emulator, *compilers = groups(arguments)
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / 'root'
        run(meson, 'install', '-C', build_dir, '--no-rebuild', '--quiet', '--destdir', root)
        check_installed(root)
        pc_dir = next(root.rglob('lorafmt.pc')).parent
        environment = {'PKG_CONFIG_PATH': str(pc_dir), 'PKG_CONFIG_SYSROOT_DIR': str(root)}
        flags = run(pkg_config, '--cflags', '--libs', 'lorafmt', **environment).split()
        for number, compiler in enumerate(compilers):
            language = 'c++' if '++' in compiler[0] else 'c'
            program = pathlib.Path(folder) / f'user{number}'
            run(*compiler, '-x', language, source, '-x', 'none', '-o', program, *flags)
            printed = run(*emulator, program, adapter, LD_LIBRARY_PATH=str(pc_dir.parent))
            assert ' sites\n' in printed and 'rank' in printed, f'{language}: printed {printed!r}'
            print(f'{language}: {printed.splitlines()[1]}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
