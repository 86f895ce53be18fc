#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Install into an empty folder, build programs against that through pkg-config as C and as C++, and with CMake, and run them.

usage: test_install.py MESON BUILD_DIR PKG_CONFIG SOURCES DEMO_MODEL [EMULATOR...] -- COMPILER... -- [COMPILER... --]
"""
import json
import os
import pathlib
import shutil
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


def check_sites(language, printed):
    """What print_sites says of an adapter."""
    assert ' sites\n' in printed and 'rank' in printed, f'{language}: printed {printed!r}'
    print(f'{language}: {printed.splitlines()[1]}')


def check_switches(language, printed, scenarios):
    """What load_and_switch says: the digests of the demo model's scenarios."""
    found = [line.split()[-1] for line in printed.splitlines()]
    wanted = [scenario['merged_all_sha256'] for scenario in scenarios]
    assert found == wanted, f'{language}: printed {printed!r}'
    print(f'{language}: {len(found)} switches as expected')


def check_smaller(language, printed):
    """What smaller says of an adapter of rank 8, which liblorakit made one of rank 2."""
    assert printed.startswith('scripture: 42 sites of rank 2 keep 0.'), f'{language}: printed {printed!r}'
    print(f'{language}: {printed.strip()}')


def build_with_cmake(sources, prefix, build, compiler):
    """The program of CMakeLists.txt by this C compiler, or None where there is no CMake."""
    if not shutil.which('cmake'):
        print('cmake: not there')
        return None
    program, *flags = [word for word in compiler if word != 'ccache']
    run('cmake', '-S', sources, '-B', build, f'-DCMAKE_PREFIX_PATH={prefix}', f'-DCMAKE_C_COMPILER={program}',
        f'-DCMAKE_C_FLAGS={" ".join(flags)}')
    run('cmake', '--build', build)
    return build / 'load_and_switch'


def main():
    meson, build_dir, pkg_config, sources, demo, *arguments = sys.argv[1:]
    sources, demo = pathlib.Path(sources), pathlib.Path(demo)
    emulator, *compilers = groups(arguments)
    expected = json.loads((demo / 'expected.json').read_text())['scenarios']
    names = ['legal', 'base', 'tang', 'scripture', 'legal', 'base']
    switches = [demo / 'base', *(name if name == 'base' else demo / 'adapters' / name for name in names)]
    scenarios = [expected[name] for name in names]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder) / 'root'
        run(meson, 'install', '-C', build_dir, '--no-rebuild', '--quiet', '--destdir', root)
        check_installed(root)
        pc_dir = next(root.rglob('lorafmt.pc')).parent
        library_path = {'LD_LIBRARY_PATH': str(pc_dir.parent)}
        environment = {'PKG_CONFIG_PATH': str(pc_dir), 'PKG_CONFIG_SYSROOT_DIR': str(root)}
        flags = run(pkg_config, '--cflags', '--libs', 'lorafmt', **environment).split()
        for number, compiler in enumerate(compilers):
            language = 'c++' if '++' in compiler[0] else 'c'
            programs = {name: pathlib.Path(folder) / f'{name}{number}' for name in ('print_sites', 'load_and_switch')}
            for name, program in programs.items():
                run(*compiler, '-x', language, sources / f'{name}.c', '-x', 'none', '-o', program, *flags)
            check_sites(language, run(*emulator, programs['print_sites'], demo / 'adapters/scripture', **library_path))
            check_switches(language, run(*emulator, programs['load_and_switch'], *switches, **library_path), scenarios)
            if (pc_dir / 'lorakit.pc').exists():
                program = pathlib.Path(folder) / f'smaller{number}'
                kit_flags = run(pkg_config, '--cflags', '--libs', 'lorakit', **environment).split()
                run(*compiler, '-x', language, sources / 'smaller.c', '-x', 'none', '-o', program, *kit_flags)
                check_smaller(language, run(program, demo / 'adapters/scripture', '2', **library_path))
        if not emulator:
            prefix = next(root.rglob('lorapack')).parent.parent
            program = build_with_cmake(sources, prefix, pathlib.Path(folder) / 'cmake', compilers[0])
            if program:
                check_switches('cmake', run(program, *switches, **library_path), scenarios)
    return 0


if __name__ == '__main__':
    sys.exit(main())
