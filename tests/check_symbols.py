#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check what the libraries show: every function the headers promise and nothing else.

usage: check_symbols.py NM SHARED STATIC MAP PREFIXES HEADER...

PREFIXES, with commas: what external symbols of the static library may begin with.
"""
import fnmatch
import pathlib
import re
import subprocess
import sys

PROMISE = re.compile(r'LORA(?:FMT|KIT)_API\b[^;{]*?\b(\w+)\s*\(')
COMMENT = re.compile(r'/\*.*?\*/|//[^\n]*|^\s*#[^\n]*', re.DOTALL | re.MULTILINE)


def declared(headers):
    """The functions that the headers declare as LORAFMT_API."""
    names = set()
    for header in headers:
        names.update(PROMISE.findall(COMMENT.sub('', pathlib.Path(header).read_text(encoding='utf-8'))))
    return names


def map_patterns(path):
    """The patterns that the symbol map makes global."""
    text = pathlib.Path(path).read_text(encoding='utf-8')
    return re.search(r'global:(.*?)local:\s*\*;', text, re.DOTALL).group(1).replace(';', ' ').split()


def symbols(nm, library, *options):
    """The defined external symbols of a library, without those that compilers and linkers add."""
    output = subprocess.run([nm, '--defined-only', '--extern-only', '--format=posix', *options, library], check=True,
                            stdout=subprocess.PIPE, text=True).stdout
    lines = [line.split() for line in output.splitlines()]
    names = {fields[0].split('@')[0] for fields in lines if len(fields) > 1 and len(fields[1]) == 1 and fields[1] != 'A'}
    return {name for name in names if not name.startswith('_')}


def main():
    nm, shared, static, symbol_map, prefixes, *headers = sys.argv[1:]
    prefixes = tuple(prefixes.split(','))
    promised = declared(headers)
    patterns = map_patterns(symbol_map)
    shown = symbols(nm, shared, '--dynamic')
    bad = [f'{name}: declared in a header, not in the library' for name in promised - shown]
    bad += [f'{name}: in the library, declared in no header' for name in shown - promised]
    bad += [f'{name}: declared in a header, not in the symbol map' for name in promised
            if not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    bad += [f'{pattern}: in the symbol map, matches no function' for pattern in patterns
            if not fnmatch.filter(promised, pattern)]
    bad += [f'{name}: external, but begins with none of {", ".join(prefixes)}' for name in symbols(nm, static)
            if not name.startswith(prefixes)]
    print('\n'.join(sorted(bad)) or f'{len(promised)} functions, all where they should be')
    return 1 if bad or not promised else 0


if __name__ == '__main__':
    sys.exit(main())
