#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What lorapack prints, where, and with which exit code.

usage: test_cli.py LORAPACK [DEMO_MODEL]
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile

from commands import SECOND_SLOT
from project import flip

HERE = pathlib.Path(__file__).resolve().parent
LORAPACK = os.path.abspath(sys.argv[1])
DEMO = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else HERE.parent / 'examples/demo-model').resolve()
HEX = '[0-9a-f]{64}'

# Commands that are run one after another in one empty folder, where `base` and `adapters` are copies of the demo model's:
# (arguments, exit code, stdout, stderr). A string must be all that is printed; a list holds regular expressions of which each
# must match a whole line, in order; None is not looked at.
CASES = [
    # The program itself.
    ('', 2, '', [r'Usage: lorapack COMMAND \.\.\.', r'  merge     add adapters into a base model and write the result']),
    ('help', 0, [r'Usage: lorapack COMMAND \.\.\.', r'  pack      put adapters into one \.lora file'], ''),
    ('--help', 0, [r'Usage: lorapack COMMAND \.\.\.'], ''),
    ('--version', 0, [r'lorapack \d+\.\d+\.\d+, liblorafmt \d+\.\d+\.\d+, format 1\.0'], ''),
    ('version', 0, [r'lorapack .*'], ''),
    ('mrege', 2, '', 'lorapack: unknown command mrege, did you mean merge?\n'),
    ('frobnicate', 2, '', 'lorapack: unknown command frobnicate (lorapack help lists them)\n'),
    ('help frobnicate', 2, '', 'lorapack: unknown command frobnicate (lorapack help lists them)\n'),
    ('help pack', 0, [r'Usage: lorapack pack IN \[IN2 \.\.\.\] -o OUT\.lora \[options\]',
                      r'  -o, --output OUT\.lora   the file to write',
                      r'Example:'], ''),
    ('pack --help', 0, [r'Usage: lorapack pack .*', r'Options:', r'  -h, --help              print this text', r'Example:'], ''),
    ('unpack -h', 0, [r'Usage: lorapack unpack .*', r'Options:', r'Example:'], ''),
    ('inspect --help', 0, [r'Usage: lorapack inspect .*', r'Options:', r'Example:'], ''),
    ('verify --help', 0, [r'Usage: lorapack verify .*', r'Options:', r'Example:'], ''),
    ('merge --help', 0, [r'Usage: lorapack merge .*', r'Options:', r'Example:'], ''),

    # Wrong usage.
    ('pack', 2, '', [r'lorapack: pack: nothing to work on is given; usage: lorapack pack IN .*']),
    ('pack adapters/legal', 2, '', 'lorapack: pack: -o OUT.lora is missing (see lorapack pack --help)\n'),
    ('pack adapters/legal -o', 2, '', [r'lorapack: pack: --output needs a value, OUT\.lora .*']),
    ('pack adapters/legal -o a -o b', 2, '', [r'lorapack: pack: --output is given twice .*']),
    ('pack adapters/legal -o a --codex raw', 2, '', [r'lorapack: pack: unknown option --codex, did you mean --codec\? .*']),
    ('pack adapters/legal -o a --codec zip', 2, '', [r'lorapack: pack: --codec zip: must be one of raw\|split .*']),
    ('pack adapters/legal -o a --dtype f64', 2, '', [r'lorapack: pack: --dtype f64: must be one of f32\|bf16\|f16 .*']),
    ('pack adapters/legal -o a --align 128', 2, '', [r'lorapack: pack: --align 128: must be one of 64\|4096\|65536 .*']),
    ('pack adapters/legal -o a --meta novalue', 2, '', [r'lorapack: pack: --meta novalue: must be K=V with a key .*']),
    ('pack adapters/legal -o a --alpha nan', 2, '', [r'lorapack: pack: --alpha nan: must be a finite number .*']),
    ('pack adapters/legal -o a --rslora', 2, '', [r'lorapack: pack: --rslora needs --alpha .*']),
    ('inspect adapters/legal -z', 2, '', [r'lorapack: inspect: unknown option -z .*']),
    ('inspect adapters/legal --json=yes', 2, '', [r'lorapack: inspect: --json takes no value .*']),
    ('inspect adapters/legal adapters/tang', 2, '', [r'lorapack: inspect: unexpected argument adapters/tang .*']),
    ('inspect nowhere#', 2, '', [r'lorapack: inspect: nowhere#: the name of an adapter must follow the # .*']),
    ('unpack adapters/legal', 2, '', [r'lorapack: unpack: -o DIR is missing .*']),
    ('merge --adapter adapters/legal -o m', 2, '', [r'lorapack: merge: --base is missing .*']),
    ('merge --base base -o m', 2, '', [r'lorapack: merge: --adapter is missing .*']),
    ('merge --base base --adapter adapters/legal', 2, '', [r'lorapack: merge: -o OUT is missing \(or --dry-run\) .*']),
    ('merge --base base --adapter adapters/legal=nan -o m', 2, '', [r'lorapack: merge: adapters/legal=nan: weight nan, .*']),
    ('merge --base base --adapter adapters/legal=-inf -o m', 2, '', [r'lorapack: merge: adapters/legal=-inf: weight -inf, .*']),
    ('merge --base base --adapter adapters/legal=1e999 -o m', 2, '',
     [r'lorapack: merge: .*: weight 1e999, must be a finite number .*']),
    ('merge --base base --adapter adapters/legal --threads 0 -o m', 2, '',
     [r'lorapack: merge: --threads 0: must be 1 \.\. 1024 .*']),
    ('merge --base base --adapter adapters/legal --map x -o m', 2, '', [r'lorapack: merge: --map x: must be OLD=NEW .*']),
    ('merge --base base --adapter adapters/legal -o base', 2, '', [r'lorapack: merge: base: the output must not be the base .*']),
    ('merge --base base --adapter adapters/legal -o base/new/m --force', 2, '',
     [r'lorapack: merge: base/new/m: the output must .*']),
    ('merge --base base --adapter adapters/legal -o . --force', 2, '',
     [r'lorapack: merge: \.: the output must not hold the base.*']),
    ('merge --base base --adapter adapters/legal -o adapters --force', 2, '',
     [r'lorapack: merge: adapters: .* hold the adapter .*']),

    # Failures: one line with file, place and reason.
    ('pack nowhere -o a.lora', 1, '', [r'lorapack: nowhere: .*']),
    ('inspect base/config.json', 1, '', [r'lorapack: base/config\.json: .*']),
    ('verify adapters', 1, '', [r'lorapack: adapters.*']),
    ('inspect adapters/legal#other', 1, '', [r'lorapack: adapters/legal: .*other.*legal.*']),
    ('merge --base nowhere --adapter adapters/legal -o m', 1, '', [r'lorapack: nowhere: .*']),
    ('merge --base base --adapter nowhere=0.5 -o m', 1, '', [r'lorapack: nowhere: .*']),

    # From a PEFT directory to a .lora and back.
    ('pack adapters/scripture -o s.lora', 0, [r'scripture: 42 linear, rank 8, F32', rf's\.lora: \d+ bytes, id {HEX}'], ''),
    ('pack adapters/scripture -o s.lora', 1, '', 'lorapack: s.lora: exists already; --force replaces it\n'),
    ('pack adapters/scripture -o s.lora --force --quiet', 0, '', ''),
    ('pack --name holy -o holy.lora -- adapters/scripture', 0, [r'holy: .*', rf'holy\.lora: \d+ bytes, id {HEX}'], ''),
    ('pack adapters/legal -o=l.lora --align=4096 --dtype=f16 --meta note=a=b --base base', 0,
     [r'legal: 18 linear, rank 4, 8, F16', rf'l\.lora: \d+ bytes, id {HEX}'], ''),
    ('pack s.lora l.lora -o both.lora', 0, [r'scripture: .*', r'legal: .*', rf'both\.lora: \d+ bytes, root digest {HEX}'], ''),
    ('pack s.lora -o split.lora --codec split', 0,
     [r'scripture: 42 linear, rank 8, F32', rf'split\.lora: \d+ bytes, 85 % of raw, id {HEX}'], ''),
    ('pack both.lora -o split.lora --codec split --force', 0,
     [r'scripture: .*', r'legal: .*', rf'split\.lora: \d+ bytes, \d\d % of raw, root digest {HEX}'], ''),
    ('pack s.lora s.lora -o twice.lora', 1, '', [r'lorapack: .*scripture.*']),
    ('pack both.lora#legal -o one.lora', 0, [r'legal: .*', r'one\.lora: .*'], ''),
    ('unpack both.lora -o peft', 1, '', [r'lorapack: both\.lora: .*scripture.*legal.*']),
    ('unpack both.lora#scripture -o peft', 0, 'peft: adapter scripture, 42 sites\n', ''),
    ('unpack both.lora#scripture -o peft', 1, '', 'lorapack: peft: exists already; --force replaces it\n'),
    ('unpack both.lora#scripture --output=peft --force', 0, None, ''),
    ('unpack peft -o . --force', 2, '', [r'lorapack: unpack: \.: the output must not hold the input peft .*']),

    # A file that lives.
    ('pack adapters/legal -o living.lora -q', 0, '', ''),
    ('add living.lora adapters/scripture', 0, [r'living\.lora: generation 2, added scripture; \d+ KiB more'], ''),
    ('add living.lora adapters/legal', 1, '',
     'lorapack: living.lora: legal: an adapter of this name is there already; --replace puts this one in its place, --name gives it '
     'another name\n'),
    ('add living.lora adapters/legal --name again', 0, [r'living\.lora: generation 3, added again; \d+ KiB more'], ''),
    ('add living.lora adapters/legal --replace --dtype f32 -q', 0, '', ''),
    ('remove living.lora scripture again', 0, [r'living\.lora: generation 5, removed scripture, again; [\d.]+ KiB more'], ''),
    ('remove living.lora legal legal', 1, '', 'lorapack: living.lora: legal: is named twice\n'),
    ('remove living.lora living.lora#legal', 2, '', [r'lorapack: remove: "living\.lora#legal": .*the name of the adapter: "legal" .*']),
    ('remove living.lora #legal', 2, '', [r'lorapack: remove: "#legal": .*the name of the adapter: "legal" .*']),
    ('remove living.lora scripture', 1, '', "lorapack: living.lora: no adapter 'scripture' in it\n"),
    ('remove living.lora legal', 1, '', 'lorapack: living.lora: these are all its adapters, and a file holds at least one\n'),
    ('rollback living.lora', 0, [r'living\.lora: generation 6, as generation 4 was; \d+ KiB more'], ''),
    ('rollback living.lora --to 1', 0, [r'living\.lora: generation 7, as generation 1 was; [\d.]+ KiB more'], ''),
    ('rollback living.lora --to 0', 2, '', [r'lorapack: rollback: --to 0: must be the number of a generation, .*']),
    ('rollback living.lora --to 8', 1, '', 'lorapack: living.lora: there is no generation 8 in its history\n'),
    ('history living.lora', 0,
     [r'  generation   adapters +bytes  change', r'  7 \(current\) +1 .*  replaced legal, removed scripture, removed again \(as generation 1 was\)',
      r'  6 +3 .*  added scripture, added again \(as generation 4 was\)', r'  5 +1 .*  removed scripture, removed again', r'  4 +3 .*  replaced legal',
      r'  3 +3 .*  added again', r'  2 +2 .*  added scripture', r'  1 +1 .*  added legal'], ''),
    ('verify living.lora', 0, [r'living\.lora: good, 1 adapter, 18 sites, 36 tensors, .*, every digest right'], ''),
    ('compact living.lora -o compact.lora', 0, [r'compact\.lora: 92 KiB, of \d+ KiB'], ''),
    ('compact living.lora', 0, [r'living\.lora: 92 KiB, of \d+ KiB'], ''),
    ('rollback living.lora', 1, '', 'lorapack: living.lora: has one generation, and nothing to go back to\n'),
    ('add living.lora', 2, '', [r'lorapack: add: .*usage: lorapack add FILE\.lora IN .*']),
    ('add nowhere.lora adapters/legal', 1, '', 'lorapack: nowhere.lora: there is no such file to add to; lorapack pack IN -o nowhere.lora makes one\n'),
    ('history adapters/legal', 1, '', [r'lorapack: adapters/legal: .*']),

    # Looking at it.
    ('inspect s.lora', 0,
     [r's\.lora: lora file, format 1\.0, \d+ bytes', r'  generation 1, 84 tensors aligned to 64 bytes, .*', r'adapter scripture',
      rf'  id          {HEX}', r'  base        base', r'  sites       42 linear', r'  update      rank 8; alpha 16; scale 2',
      r'  parameters  \d+ in \d+ KiB, F32', r'    peft.adapter_config: \d+ bytes of JSON', r'  nothing odd about it'], ''),
    ('inspect s.lora --sites', 0,
     [r'  kind    rank  alpha  scale +norm  dtype  shapes +target',
      r'  linear     8     16      2 +[\d.]+  F32    A\[8,144\] B\[144,8\]  +model\.layers\.5\.self_attn\.q_proj\.weight'], ''),
    ('inspect both.lora', 0, [r'adapter scripture', r'adapter legal', rf'  structure   {HEX}', r'    note: a=b'], ''),
    ('inspect adapters/legal', 0, [r'adapters/legal: PEFT directory', r'adapter legal'], ''),
    ('verify s.lora', 0, [r's\.lora: good, 1 adapter, 42 sites, 84 tensors, \d+ KiB, every digest right'], ''),
    ('verify both.lora --base base', 0,
     [r'both\.lora: good, 2 adapters, .*', r'scripture: fits base, 42/42 targets \(42 low-rank\)',
      r'legal: fits base, 18/18 targets \(18 low-rank\)'], ''),
    ('verify both.lora#legal --base base', 0, [r'both\.lora: good, .*', r'legal: fits base, .*'], ''),
    ('verify adapters/legal', 0, [r'adapters/legal: good, 1 adapter, 18 sites, 36 tensors, \d+ KiB'], ''),

    # Merging.
    ('merge --base base --adapter s.lora --dry-run', 0,
     'scripture: 42/42 targets (42 low-rank), weight 1\ntensors: 42 changed, 0 new, 15 copied\n'
     'dry run: nothing is written\n', ''),
    ('merge --base base --adapter s.lora -o m', 0,
     'scripture: 42/42 targets (42 low-rank), weight 1\ntensors: 42 changed, 0 new, 15 copied\nm: 2.7 MiB written\n', ''),
    ('merge --base base --adapter s.lora -o m', 1, '', 'lorapack: m: exists already; --force replaces it\n'),
    ('merge --base base --adapter s.lora -o m --force --quiet --threads 2', 0, '', ''),
    ('merge --base base --adapter both.lora#scripture=0.5 --adapter adapters/legal=-1e-3 -o mix --receipt r.json', 0,
     [r'scripture: .*, weight 0\.5', r'legal: .*, weight -0\.001', r'mix: 2\.7 MiB written'], ''),
    ('merge --base base --adapter s.lora -o mix2 --receipt r.json', 1, '',
     'lorapack: r.json: exists already; --force replaces it\n'),
    ('merge --base base --adapter s.lora=0 --dry-run', 0, [r'scripture: 42/42 targets \(42 without effect\), weight 0'], ''),
    ('merge --base base --adapter s.lora --map model=other -o m3', 1, '',
     [r'  .*model\.layers\..*', r'  and 22 more', r'lorapack: .*']),
    ('merge --base base --adapter both.lora -o m4', 1, '', [r'lorapack: both\.lora: .*']),
    ('merge --base base/model.safetensors --adapter s.lora -o m.safetensors', 0, [r'm\.safetensors: 2\.7 MiB written'], ''),
]


# The same of a file of two generations, of which the root slot of the second is damaged.
SLOT = 'lorapack: torn.lora: a root slot is damaged, and generation 1 is what the other one shows; writing on would make that final; ' \
       'lorapack rollback FILE --to that one accepts it\n'
RECOVERED = [
    ('add torn.lora adapters/tang', 1, '', SLOT),
    ('rollback torn.lora', 1, '', SLOT),
    ('compact torn.lora', 1, '', SLOT),
    ('compact torn.lora -o torn.lora --force', 1, '',
     'lorapack: torn.lora: is the file that is read; without an output it is compacted where it is\n'),
    ('compact torn.lora -o untorn.lora', 0, [r'untorn\.lora: 92 KiB, of 92 KiB'],
     'lorapack: warning: torn.lora: recovered: a root slot is damaged and the other one is used\n'),
    ('rollback torn.lora --to 1', 0, [r'torn\.lora: generation 2, as generation 1 was; [\d.]+ KiB more'], ''),
]


def run(arguments, folder, **how):
    """Exit code, stdout and stderr of lorapack."""
    done = subprocess.run([LORAPACK, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE,
                          text=True, check=False, timeout=120, **how)
    return done.returncode, done.stdout, done.stderr


def mismatch(expected, text):
    """Why a text is not as expected, or None."""
    if expected is None:
        return None
    if isinstance(expected, str):
        return None if text == expected else f'is {text!r}, must be {expected!r}'
    lines = iter(text.splitlines())
    for pattern in expected:
        if not any(re.fullmatch(pattern, line) for line in lines):
            return f'has no line {pattern!r} in its place:\n{text}'
    return None


def check_table(folder, cases=tuple(CASES)):
    """Run every line of a table; yield what is wrong."""
    for arguments, code, out, err in cases:
        got_code, got_out, got_err = run(arguments.split(), folder)
        reasons = [f'exit {got_code}, must be {code}: {got_err}'] if got_code != code else []
        for what, reason in (('stdout', mismatch(out, got_out)), ('stderr', mismatch(err, got_err))):
            if reason:
                reasons.append(f'{what} {reason}')
        if got_code == 1 and not got_err.splitlines()[-1].startswith('lorapack: '):
            reasons.append('the last line of stderr does not say what failed')
        yield f'lorapack {arguments}', '; '.join(reasons)


def check_recovered(folder):
    """What is done to a file whose newest root is damaged; yield what is wrong."""
    run(['pack', 'adapters/legal', '-o', 'torn.lora'], folder)
    run(['add', 'torn.lora', 'adapters/scripture'], folder)
    flip(folder / 'torn.lora', SECOND_SLOT)
    yield from check_table(folder, RECOVERED)
    for name in ('torn.lora', 'untorn.lora'):
        (folder / name).unlink()


def check_json(folder):
    """Every --json is JSON with the keys of docs/json.md; yield what is wrong."""
    documented = (HERE.parent / 'docs/json.md').read_text(encoding='utf-8')
    commands = {
        'inspect': ['inspect', 'both.lora', '--json'],
        'verify': ['verify', 'both.lora', '--base', 'base', '--json'],
        'pack': ['pack', 's.lora', '-o', 'json.lora', '--json'],
        'unpack': ['unpack', 's.lora', '-o', 'json.peft', '--json'],
        'merge': ['merge', '--base', 'base', '--adapter', 's.lora=0.5', '-o', 'json.model',
                  '--receipt', 'json.receipt', '--json'],
    }
    for name, arguments in commands.items():
        code, out, err = run(arguments, folder)
        reason = f'exit {code}: {err}' if code else ''
        unknown = [] if code else sorted(undocumented(json.loads(out), documented))
        if unknown:
            reason = f'keys that docs/json.md does not name: {", ".join(unknown)}'
        if not reason and name == 'merge' and (folder / 'json.receipt').read_text(encoding='utf-8') != out:
            reason = 'the receipt is not what --json prints'
        yield f'{name} --json', reason


def undocumented(value, documented):
    """Keys, at any depth, that the documentation does not have between backquotes."""
    if isinstance(value, list):
        for item in value:
            yield from undocumented(item, documented)
    elif isinstance(value, dict):
        for key, item in value.items():
            if f'`{key}`' not in documented:
                yield key
            yield from undocumented(item, documented)


def check_values(folder):
    """Numbers in the JSON are those of the demo model; yield what is wrong."""
    adapter = json.loads(run(['inspect', 'l.lora', '--json'], folder)[1])['adapters'][0]
    site = next(s for s in adapter['sites'] if s['target'] == 'model.layers.0.self_attn.q_proj.weight')
    shapes = {factor['role']: factor['shape'] for factor in site['factors']}
    yield 'shapes in inspect', '' if shapes == {'A': [4, 144], 'B': [144, 4]} else f'{shapes}'
    metadata = {entry['key']: entry['value'] for entry in adapter['metadata']}
    yield 'metadata in inspect', '' if metadata.get('note') == 'a=b' else f'{metadata}'
    receipt = json.loads((folder / 'r.json').read_text(encoding='utf-8'))
    weights = [entry['weight'] for entry in receipt['adapters']]
    yield 'weights in the receipt', '' if weights == [0.5, -0.001] else f'{weights}'
    yield 'coverage in the receipt', '' if receipt['coverage'] == {'matched': 60, 'total': 60} else f'{receipt["coverage"]}'
    effects = {entry['effect'] for entry in receipt['sites']}
    yield 'effects in the receipt', '' if effects == {'low-rank'} else f'{effects}'


def check_hostile_names(folder):
    """Control characters from a file or the command line do not reach the terminal; yield what is wrong."""
    code, out, err = run(['pack', 's.lora', '-o', 'esc.lora', '--meta', 'k=\x1b[31mred\u202e\x9b'], folder)
    yield 'pack with an escape in metadata', '' if code == 0 else err
    out = run(['inspect', 'esc.lora'], folder)[1]
    safe = r'k: \x1b[31mred' in out and not re.search('[\x1b\x9b\u202e]', out)
    yield 'inspect shows an escape as text', '' if safe else repr(out)
    code, out, err = run(['inspect', 'no\x1b[2Jsuch\nfile'], folder)
    yield 'an escape in a path', '' if code == 1 and err.count('\n') == 1 and '\x1b' not in err else repr(err)


def check_places(folder):
    """Paths with '=' and '#' mean what they say when they exist; yield what is wrong."""
    shutil.copytree(folder / 'adapters/legal', folder / 'odd#1')
    code, out, err = run(['inspect', 'odd#1'], folder)
    yield 'a path with # that exists', '' if code == 0 else err
    shutil.copytree(folder / 'adapters/legal', folder / 'lr=0.5')
    code, out, err = run(['merge', '--base', 'base', '--adapter', 'lr=0.5=1', '--dry-run'], folder)
    yield 'a path with = and a weight', '' if code == 0 and ', weight 1\n' in out else err + out
    if pathlib.Path('/dev/full').exists():
        with open('/dev/full', 'w', encoding='utf-8') as full:
            code = subprocess.run([LORAPACK, 'help'], stdout=full, stderr=subprocess.DEVNULL, check=False).returncode
        yield 'a full standard output', '' if code == 1 else f'exit {code}'


def check_left_over(folder):
    """No command left a temporary file behind; yield what is wrong."""
    known = {'base', 'adapters', 'odd#1', 'lr=0.5', 's.lora', 'holy.lora', 'l.lora', 'both.lora', 'one.lora', 'peft', 'm', 'mix',
             'r.json', 'm.safetensors', 'json.lora', 'json.peft', 'json.model', 'json.receipt', 'esc.lora', 'split.lora', 'living.lora',
             'compact.lora'}
    found = {path.name for path in folder.iterdir()}
    yield 'what is left behind', '' if found == known else f'{sorted(found ^ known)}'


def main():
    # A leak is a failure too, and has an exit code of its own.
    os.environ.setdefault('ASAN_OPTIONS', 'exitcode=99')
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    n_passed = n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch).resolve()
        shutil.copytree(DEMO / 'base', folder / 'base')
        shutil.copytree(DEMO / 'adapters', folder / 'adapters')
        for check in (check_table, check_recovered, check_json, check_values, check_hostile_names, check_places, check_left_over):
            for name, reason in check(folder):
                n_passed += not reason
                n_failed += bool(reason)
                if reason:
                    print(f'FAIL {name}: {reason}')
    print(f'{n_passed} passed, {n_failed} failed')
    return 1 if n_failed or not n_passed else 0


if __name__ == '__main__':
    sys.exit(main())
