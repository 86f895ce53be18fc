#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""From what run.py --json kept to bench/RESULTS.md.

usage: report.py FILE.json > bench/RESULTS.md
"""
import json
import pathlib
import sys

INTRODUCTION = '''<!-- Made by bench/report.py from what ./dev bench --json kept; not written by hand. -->
# Results

Measured side by side in one run: the ways that are compared take turns, a ratio is that of two times of one round, and the figure is
the median of the rounds with the least and the most. `./dev bench --full --json FILE` measures again; [run.py](run.py) says how.
'''


def figure(row):
    """The median, and the range."""
    digits = 1 if row['unit'] == 'MiB' or row['median'] >= 100 else 2
    return f'{row["median"]:.{digits}f}', f'{row["least"]:.{digits}f} .. {row["most"]:.{digits}f}'


def verdict(row):
    """Whether the median meets the target: yes, no or nothing."""
    if not row.get('target'):
        return ''
    sign, wanted = row['target'].split()
    return 'yes' if (row['median'] <= float(wanted) if sign == '<=' else row['median'] >= float(wanted)) else 'no'


def line(row):
    """A row for a terminal."""
    median, spread = figure(row)
    target = f'{row["target"]} {verdict(row)}' if row['target'] else ''
    return f'{row["what"]:86} {median:>8} {row["unit"]:4} ({spread:18}) {target:12} {row["note"]}'


def markdown(results):
    """The whole file."""
    about = results['machine']
    yield INTRODUCTION
    yield f'- {about["cpu"]}, {about["cores"]} cores, {about["memory_gib"]} GiB; {about["kernel"]}; load when it began {about["load"]:.1f}'
    yield f'- disk: {about["disk"]}, {about["file_system"]}'
    yield f'- {about["date"]}, commit {about["commit"]}; models: {about["models"]}; {about["pairs"]} rounds; {about["minutes"]} minutes'
    group = None
    for row in results['rows']:
        if row['group'] != group:
            group = row['group']
            yield f'\n## {group}\n'
            yield '| what | median | least .. most | target | met | |\n|---|---|---|---|---|---|'
        if row['unit']:
            median, spread = figure(row)
            yield f'| {row["what"]} | {median} {row["unit"]} | {spread} | {row["target"]} | {verdict(row)} | {row["note"]} |'
        else:
            yield f'| {row["what"]} | | | | | |'


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print('\n'.join(markdown(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding='utf-8')))))


if __name__ == '__main__':
    main()
