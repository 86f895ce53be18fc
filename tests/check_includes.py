#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check that every #include follows the arrows between the rooms.

usage: check_includes.py ROOT

Prints each line that breaks a rule as FILE:LINE: REASON; exit 1 when there is one.
"""
import pathlib
import re
import sys

# What a room may include besides itself.
ROOMS = {
    'include': [],
    'format/base': ['include'],
    'format/container': ['include', 'format/base'],
    'format/foreign': ['include', 'format/base'],
    'lib/io': ['include', 'format/base'],
    'lib/threads': ['include', 'format/base'],
    'lib/origin': ['include', 'format/base', 'lib/io'],
    'lib/kernels': [],
    'lib/adapter': ['include', 'format/base', 'format/container'],
    'lib/model': ['include', 'format/base', 'format/foreign', 'lib/io'],
    'lib/dialect': ['include', 'format/base', 'format/foreign', 'lib/adapter', 'lib/io'],
    'lib/view': ['include', 'format/base', 'lib/adapter', 'lib/kernels'],
    'lib/runtime': ['include', 'format/base', 'lib/kernels', 'lib/threads', 'lib/view'],
    'lib/forward': ['include', 'format/base', 'lib/kernels', 'lib/threads', 'lib/view'],
    'lib/algebra': ['include', 'format/base', 'lib/kernels', 'lib/threads'],
    'lib/scenario': ['include', 'format/base', 'lib/algebra', 'lib/io', 'lib/threads'],
    'lib/mount': ['include', 'format/base', 'lib/io'],
    'lib/front': ['include', 'format/base', 'format/container', 'format/foreign', 'lib/adapter', 'lib/dialect', 'lib/io',
                  'lib/kernels', 'lib/model', 'lib/origin', 'lib/threads', 'lib/view'],
    'tools': ['include'],
}

# Who may include a library's headers. Headers of libc are free for all.
LIBRARIES = {
    'zlib.h': ['format/base', 'format/container'],
    'nettle/eddsa.h': ['lib/origin'],
    'nettle/': ['format/base'],
    'cjson/': ['format/foreign', 'lib/dialect', 'lib/model'],
    'pcre2.h': ['lib/dialect'],
    'yaml.h': ['lib/scenario'],
    'fuse_lowlevel.h': ['lib/mount'],
    'cpuid.h': ['lib/kernels'],
    'immintrin.h': ['lib/kernels'],
    'xmmintrin.h': ['lib/kernels'],
    'arm_neon.h': ['lib/kernels'],
}

# What portable rooms and the public headers may need of the system: C11 and nothing else.
C11_HEADERS = set('assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal stdalign stdarg '
                  'stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath threads time uchar wchar '
                  'wctype'.split())
C11_ONLY = ['include', 'format/base', 'format/container', 'format/foreign', 'lib/kernels', 'lib/adapter']

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path):
    """The room that a path from the root lies in, or None."""
    return next((room for room in ROOMS if path.startswith(room + '/')), None)


def check_own(root, room, name):
    """Why a room may not include "name", or None."""
    path = 'include/' + name if name.startswith(('lorafmt/', 'lorakit/')) else name
    if not (root / path).is_file():
        return f'"{name}" is not a path from the root of the tree'
    target = room_of(path)
    if target is None:
        return f'"{name}" is in no room'
    if target != room and target not in ROOMS[room]:
        return f'{room} must not include {target}'
    return None


def check_system(room, name):
    """Why a room may not include <name>, or None."""
    for library, rooms in LIBRARIES.items():
        if name.startswith(library):
            return None if room in rooms else f'<{name}> is only for {", ".join(rooms)}'
    if name.startswith(('lorafmt/', 'lorakit/')):
        return f'write "{name}" in quotes'
    if room in C11_ONLY and name.removesuffix('.h') not in C11_HEADERS:
        return f'{room} is portable C11, and <{name}> is not a header of that'
    return None


def check_file(root, path):
    """(line, reason) of each include that breaks a rule."""
    room = room_of(path.relative_to(root).as_posix())
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            quote, name = match.groups()
            reason = check_own(root, room, name) if quote == '"' else check_system(room, name)
            if reason:
                yield number, reason


def main():
    root = pathlib.Path(sys.argv[1])
    n_files = n_bad = 0
    for path in sorted(p for room in ROOMS for p in (root / room).rglob('*.[ch]')):
        n_files += 1
        for number, reason in check_file(root, path):
            n_bad += 1
            print(f'{path.relative_to(root)}:{number}: {reason}')
    print(f'{n_files} files, {n_bad} includes against the rules')
    return 1 if n_bad or not n_files else 0


if __name__ == '__main__':
    sys.exit(main())
