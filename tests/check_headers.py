#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that each public header compiles alone, as C99 and as C++11.

usage: check_headers.py INCLUDE_DIR STANDARD COMPILER... -- [STANDARD COMPILER... --]
"""
import pathlib
import subprocess
import sys

FLAGS = ['-fsyntax-only', '-Wall', '-Wextra', '-pedantic', '-Werror']


def compiles(command, standard, include, header):
    """Compile a file that includes nothing but the header, twice, and print what the compiler says."""
    language = 'c++' if '++' in standard else 'c'
    source = f'#include "{header}"\n#include "{header}"\n'
    run = subprocess.run([*command, '-x', language, f'-std={standard}', *FLAGS, f'-I{include}', '-'], input=source, text=True,
                         check=False)
    return run.returncode == 0


def compilers(arguments):
    """(standard, command) of each group that starts with a standard and ends at "--"."""
    while arguments:
        end = arguments.index('--')
        yield arguments[0], arguments[1:end]
        arguments = arguments[end + 1:]


def main():
    include = pathlib.Path(sys.argv[1])
    headers = sorted(path.relative_to(include).as_posix() for path in include.rglob('*.h'))
    bad = [f'{header} as {standard}' for standard, command in compilers(sys.argv[2:]) for header in headers
           if not compiles(command, standard, include, header)]
    print('\n'.join(bad) or f'{len(headers)} headers compile alone')
    return 1 if bad or not headers else 0


if __name__ == '__main__':
    sys.exit(main())
