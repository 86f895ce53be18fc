#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Manifests that are good, and a table of those that are not, each with the place and the reason that the reader must give.

usage: test_manifest.py DUMP_MANIFEST SPEC

SPEC is the folder with manifest.md and manifest.schema.json. The schema must allow every good manifest, and refuse those of the table
that a schema can tell.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

from lorapack import Complaint
from schema import Schema

V = 'version: 1\nbase: b\n'
A = V + 'adapters: {legal: x, tang: z}\n'
ENTRY = A + 'scenarios: {s: {adapters: [{adapter: legal, %s}]}}\n'  # %s is at column 45
RULE = ENTRY % 'weights: [{%s}]'  # %s is at column 56
BOMB = 'a: &a [x,x,x,x,x,x,x,x,x]\n' + ''.join(f'{new}: &{new} [{",".join(["*" + old] * 9)}]\n' for old, new in zip('abcdefg', 'bcdefgh'))

# Refused as YAML, before any schema can look: text, status, line:column, field, part of the reason.
YAML = [
    ('', 'CORRUPT', '1:1', '', 'nothing in it'),
    ('# only a comment\n', 'CORRUPT', '2:1', '', 'nothing in it'),
    (b'\xef\xbb\xbfversion: 1\nbase: b\n', 'CORRUPT', '1:1', '', 'byte order mark'),
    (V.encode('utf-16'), 'CORRUPT', '1:1', '', 'not UTF-8'),
    (b'version: 1\nbase: caf\xe9\n', 'CORRUPT', '2:10', '', '0xe9'),
    (b'base: \xc0\x80\n', 'CORRUPT', '1:7', '', '0xc0'),
    (b'base: \xed\xa0\x80\n', 'CORRUPT', '1:7', '', '0xed'),
    (b'base: \xf5\x80\x80\x80\n', 'CORRUPT', '1:7', '', '0xf5'),
    (b'base: \xc3', 'CORRUPT', '1:7', '', '0xc3'),
    ('version: 1\nbase: a\x07b\n', 'CORRUPT', '2:8', '', 'control character, 0x07'),
    ('version: 1\r\nbase: b\r\n\x00', 'CORRUPT', '3:1', '', 'control character, 0x00'),
    ('base: b # \x7f\n', 'CORRUPT', '1:11', '', 'control character, 0x7f'),
    ('base: "a\x85b"\n', 'CORRUPT', '1:9', '', 'line break that readers of YAML differ about'),
    ('é: a\u2028b\n', 'CORRUPT', '1:5', '', 'line break that readers of YAML differ about'),
    ('base: b\n\ufeff', 'CORRUPT', '2:1', '', '0xef'),
    ('version: 1\n---\nbase: b\n', 'CORRUPT', '2:1', '', 'a second document'),
    ('%YAML 1.2\n---\nversion: 1\nbase: b\n', 'CORRUPT', '1:1', '', 'a directive'),
    ('# x\n%TAG ! tag:x,2000:\n---\nversion: 1\nbase: b\n', 'CORRUPT', '2:1', '', 'a directive'),
    (V + 'roots: &r [.]\n', 'CORRUPT', '3:8', 'roots', 'an anchor, &r'),
    (V + 'roots: [*r]\n', 'CORRUPT', '3:9', 'roots[0]', 'an alias, *r'),
    (V + '*r : b\n', 'CORRUPT', '3:1', '', 'an alias, *r'),
    (V + 'defaults:\n  <<: {dtype: f32}\n', 'CORRUPT', '4:3', 'defaults.<<', 'a merge key'),
    (V + 'roots: [!!str .]\n', 'CORRUPT', '3:9', 'roots[0]', 'a tag'),
    ('version: ! 1\nbase: b\n', 'CORRUPT', '1:10', 'version', 'a tag'),
    ('version: 1\nbase: !model {path: b}\n', 'CORRUPT', '2:7', 'base', 'a tag, !model'),
    (V + 'base: c\n', 'CORRUPT', '3:1', 'base', 'already, in line 2'),
    (V + 'adapters: {a: x, b: y, "a": z}\n', 'CORRUPT', '3:24', 'adapters.a', 'already, in line 3'),
    (V + '? [a]\n: b\n', 'CORRUPT', '3:3', '', 'a key must be text'),
    ('{{a: b}: c}\n', 'CORRUPT', '1:2', '', 'a key must be text'),
    (V + 'adapters:\n  on: a\n', 'CORRUPT', '4:3', 'adapters.on', 'on is a boolean to readers of YAML, must be text: write "on"'),
    (V + 'adapters: {1: a}\n', 'CORRUPT', '3:12', 'adapters.1', 'a number'),
    (V + 'adapters: {~: a}\n', 'CORRUPT', '3:12', 'adapters.~', 'nothing'),
    (V + 'adapters:\n  ?\n  : a\n', 'CORRUPT', '4:4', 'adapters.', 'nothing, must be text'),
    (V + 'adapters: {"a\\nb": a}\n', 'CORRUPT', '3:12', 'adapters.a\nb', 'a line break'),
    (V + 'roots: ["a\\0b"]\n', 'CORRUPT', '3:9', 'roots[0]', 'NUL'),
    (V + 'roots: ' + '[' * 32 + ']' * 32, 'LIMIT', '3:39', 'roots' + '[0]' * 31, 'nested more than 32 deep'),
    (V + 'roots: ' + '[' * 10000, 'LIMIT', '3:39', 'roots' + '[0]' * 31, 'nested more than 32 deep'),
    ('- ' * 10000, 'LIMIT', '1:65', '[0]' * 32, 'nested more than 32 deep'),
    (BOMB, 'CORRUPT', '1:4', 'a', 'an anchor'),
    (V + 'roots: [' + '.,' * 65536 + ']\n', 'LIMIT', '3:131067', 'roots[65529]', 'more than 65536 keys and values'),
    (V + '# ' + 'x' * 2**20, 'LIMIT', '', '', 'at most 1048576'),
    (V + 'roots: [a, b\n', 'CORRUPT', '4:1', '', 'not YAML'),
    (V + 'adapters:\n\ta: b\n', 'CORRUPT', '4:1', '', 'not YAML: a tab, where lines are indented with spaces'),
    (V + 'adapters:\n  a: x\n b: y\n', 'CORRUPT', '5:2', '', 'not YAML'),
    (V + 'roots: ["a]\n', 'CORRUPT', '4:1', '', 'not YAML'),
    (V + 'roots: ["\\q"]\n', 'CORRUPT', '3:10', '', 'not YAML'),
    ('version: 1: 2\n', 'CORRUPT', '1:11', '', 'not YAML'),
]

# Refused by schema and reader.
SHAPE = [
    ('[]\n', 'CORRUPT', '1:1', '', 'a sequence, must be a mapping'),
    ('lorafmt\n', 'CORRUPT', '1:1', '', 'a scalar, must be a mapping'),
    ('base: b\n', 'CORRUPT', '1:1', '', 'must have the key version'),
    ('version: 1\n', 'CORRUPT', '1:1', '', 'must have the key base'),
    ('version: 2\nbase: b\nnew: {}\n', 'UNSUPPORTED', '1:10', 'version', '2, this reader knows version 1'),
    ('version: "1"\nbase: b\n', 'CORRUPT', '1:10', 'version', 'in quotes'),
    ('version: one\nbase: b\n', 'CORRUPT', '1:10', 'version', 'one, must be a number'),
    ('version:\nbase: b\n', 'CORRUPT', '1:9', 'version', 'nothing, must be a number'),
    (V + 'sceanrios: {}\n', 'CORRUPT', '3:1', 'sceanrios', 'unknown key; did you mean scenarios?'),
    (V + 'zzz: 1\n', 'CORRUPT', '3:1', 'zzz', 'known are version, base, roots, require-signature, adapters, defaults, scenarios'),
    ('version: 1\nbase: {name: x}\n', 'CORRUPT', '2:7', 'base', 'must have the key path'),
    ('version: 1\nbase: {path: b, nmae: x}\n', 'CORRUPT', '2:17', 'base.nmae', 'did you mean name?'),
    ('version: 1\nbase: []\n', 'CORRUPT', '2:7', 'base', 'a sequence, must be a mapping'),
    ('version: 1\nbase: ""\n', 'CORRUPT', '2:7', 'base', 'empty'),
    ('version: 1\nbase:\nroots: [.]\n', 'CORRUPT', '2:6', 'base', 'nothing'),
    ('version: 1\nbase: ~\n', 'CORRUPT', '2:7', 'base', '~ is nothing'),
    ('version: 1\nbase: ~user/b\n', 'CORRUPT', '2:7', 'base', 'only ~/'),
    ('version: 1\nbase: "a\\tb"\n', 'CORRUPT', '2:7', 'base', 'a control character at byte 1'),
    ('version: 1\nbase: "a\\u2028b"\n', 'CORRUPT', '2:7', 'base', 'a control character at byte 1'),
    ('version: 1\nbase: "a\\nb"\n', 'CORRUPT', '2:7', 'base', 'a line break'),
    ('version: 1\nbase: |\n  b\n', 'CORRUPT', '2:7', 'base', 'a line break; must be one line'),
    ('version: 1\nbase: {path: b, name: no}\n', 'CORRUPT', '2:23', 'base.name', 'no is a boolean'),
    ('version: 1\nbase: {path: b, name: Y}\n', 'CORRUPT', '2:23', 'base.name', 'Y is a boolean'),
    ('version: 1\nbase: {path: b, revision: 1e5}\n', 'CORRUPT', '2:27', 'base.revision', '1e5 is a number'),
    ('version: 1\nbase: {path: b, revision: 1_000}\n', 'CORRUPT', '2:27', 'base.revision', '1_000 is a number'),
    ('version: 1\nbase: {path: b, revision: 0x1F}\n', 'CORRUPT', '2:27', 'base.revision', '0x1F is a number'),
    ('version: 1\nbase: {path: b, revision: 0o17}\n', 'CORRUPT', '2:27', 'base.revision', '0o17 is a number'),
    ('version: 1\nbase: {path: b, revision: 007}\n', 'CORRUPT', '2:27', 'base.revision', '007 is a number'),
    ('version: 1\nbase: {path: b, revision: 12:30:45}\n', 'CORRUPT', '2:27', 'base.revision', '12:30:45 is a number'),
    ('version: 1\nbase: {path: b, revision: -.inf}\n', 'CORRUPT', '2:27', 'base.revision', '-.inf is a number'),
    ('version: 1\nbase: {path: b, revision: .NaN}\n', 'CORRUPT', '2:27', 'base.revision', '.NaN is a number'),
    ('version: 1\nbase: {path: b, structure: ab}\n', 'CORRUPT', '2:28', 'base.structure', '64 hexadecimal digits'),
    ('version: 1\nbase: {path: b, sha256: ' + 'A' * 64 + '}\n', 'CORRUPT', '2:25', 'base.sha256', '64 hexadecimal digits'),
    ('version: 1\nbase: {path: b, sha256: ' + 'a' * 65 + '}\n', 'CORRUPT', '2:25', 'base.sha256', '64 hexadecimal digits'),
    (V + 'roots: .\n', 'CORRUPT', '3:8', 'roots', 'a scalar, must be a sequence'),
    (V + 'roots: [' + ', '.join(['.'] * 65) + ']\n', 'LIMIT', '3:8', 'roots', '65 roots, at most 64'),
    (V + 'roots: ' + '[' * 31 + ']' * 31 + '\n', 'CORRUPT', '3:9', 'roots[0]', 'a sequence, must be text'),
    (V + 'require-signature: true\n', 'CORRUPT', '3:20', 'require-signature', 'a scalar, must be a sequence'),
    (V + 'require-signature: k.pem\n', 'CORRUPT', '3:20', 'require-signature', 'a scalar, must be a sequence'),
    (V + 'require-signature:\n', 'CORRUPT', '3:19', 'require-signature', 'nothing, must be a sequence'),
    (V + 'require-signature: []\n', 'CORRUPT', '3:20', 'require-signature', 'names no key, must name at least one'),
    (V + 'require-signature: [""]\n', 'CORRUPT', '3:21', 'require-signature[0]', 'empty'),
    (V + 'require-signature: [{path: k.pem}]\n', 'CORRUPT', '3:21', 'require-signature[0]', 'a mapping, must be text'),
    (V + 'require-signature: [' + ', '.join(['k'] * 65) + ']\n', 'LIMIT', '3:20', 'require-signature', '65 keys, at most 64'),
    (V + 'require-signatures: [k]\n', 'CORRUPT', '3:1', 'require-signatures', 'did you mean require-signature?'),
    (V + 'require-signature: [k]\nadapters: {a: {path: x, signature: }}\n', 'CORRUPT', '4:36', 'adapters.a.signature', 'nothing'),
    (V + 'require-signature: [k]\nadapters: {a: {path: x, signature: [s]}}\n', 'CORRUPT', '4:36', 'adapters.a.signature',
     'a sequence, must be text'),
    (V + 'adapters: [a]\n', 'CORRUPT', '3:11', 'adapters', 'a sequence, must be a mapping'),
    (V + 'adapters:\n', 'CORRUPT', '3:10', 'adapters', 'nothing, must be a mapping'),
    (V + 'adapters: {a/b: x}\n', 'CORRUPT', '3:12', 'adapters.a/b', 'not a name'),
    (V + 'adapters: {..: x}\n', 'CORRUPT', '3:12', 'adapters...', 'not a name'),
    (V + 'adapters: {-x: x}\n', 'CORRUPT', '3:12', 'adapters.-x', 'not a name'),
    (V + 'adapters: {"": x}\n', 'CORRUPT', '3:12', 'adapters.', 'not a name'),
    (V + 'adapters: {' + 'n' * 65 + ': x}\n', 'CORRUPT', '3:12', 'adapters.' + 'n' * 65, 'not a name'),
    (V + 'adapters: {a: [x]}\n', 'CORRUPT', '3:15', 'adapters.a', 'a sequence, must be a mapping'),
    (V + 'adapters: {a: all.lora#tang}\n', 'CORRUPT', '3:15', 'adapters.a', 'select: tang'),
    (V + 'adapters: {a: {select: x}}\n', 'CORRUPT', '3:15', 'adapters.a', 'must have the key path'),
    (V + 'adapters: {a: {path: x, wieght: 1}}\n', 'CORRUPT', '3:25', 'adapters.a.wieght', 'known are path, select, id, map, signature'),
    (V + 'adapters: {a: {path: x, select: ""}}\n', 'CORRUPT', '3:33', 'adapters.a.select', 'empty'),
    (V + 'adapters: {a: {path: x, id: 12}}\n', 'CORRUPT', '3:29', 'adapters.a.id', '12 is a number'),
    (V + 'adapters: {a: {path: x, map: [a]}}\n', 'CORRUPT', '3:30', 'adapters.a.map', 'a sequence, must be a mapping'),
    (V + 'adapters: {a: {path: x, map: {h: }}}\n', 'CORRUPT', '3:34', 'adapters.a.map.h', 'write "" for an empty one'),
    (V + 'defaults: {dtype: f64}\n', 'CORRUPT', '3:19', 'defaults.dtype', 'known are f32, f16, bf16'),
    (V + 'defaults: {dtype: BF16}\n', 'CORRUPT', '3:19', 'defaults.dtype', 'did you mean bf16?'),
    (V + 'defaults: {out: x}\n', 'CORRUPT', '3:12', 'defaults.out', 'known are dtype, output'),
    (V + 'scenarios: []\n', 'CORRUPT', '3:12', 'scenarios', 'a sequence, must be a mapping'),
    (V + 'scenarios: {base: {}}\n', 'CORRUPT', '3:13', 'scenarios.base', 'choose another'),
    (V + 'scenarios: {a b: {}}\n', 'CORRUPT', '3:13', 'scenarios.a b', 'not a name'),
    (A + 'scenarios: {s: legal}\n', 'CORRUPT', '4:16', 'scenarios.s', 'a scalar, must be a mapping'),
    (A + 'scenarios: {s: }\n', 'CORRUPT', '4:16', 'scenarios.s', 'nothing, must be a mapping'),
    (A + 'scenarios: {s: {adapter: [legal]}}\n', 'CORRUPT', '4:17', 'scenarios.s.adapter', 'did you mean adapters?'),
    (A + 'scenarios: {s: {adapters: legal}}\n', 'CORRUPT', '4:27', 'scenarios.s.adapters', 'a scalar, must be a sequence'),
    (A + 'scenarios: {s: {adapters: [[legal]]}}\n', 'CORRUPT', '4:28', 'scenarios.s.adapters[0]', 'a sequence, must be a mapping'),
    (A + 'scenarios: {s: {adapters: [off]}}\n', 'CORRUPT', '4:28', 'scenarios.s.adapters[0]', 'off is a boolean'),
    (A + 'scenarios: {s: {adapters: [{weight: 1}]}}\n', 'CORRUPT', '4:28', 'scenarios.s.adapters[0]', 'must have the key adapter'),
    (A + 'scenarios: {s: {dtype: f8}}\n', 'CORRUPT', '4:24', 'scenarios.s.dtype', 'known are'),
    (A + 'scenarios: {s: {extends: [s]}}\n', 'CORRUPT', '4:26', 'scenarios.s.extends', 'a sequence, must be text'),
    (A + 'scenarios: {s: {description: [x]}}\n', 'CORRUPT', '4:30', 'scenarios.s.description', 'a sequence, must be text'),
    (A + 'scenarios: {s: {description: "a\\nb"}}\n', 'CORRUPT', '4:30', 'scenarios.s.description', 'a line break'),
    (A + 'scenarios: {s: {labels: [x]}}\n', 'CORRUPT', '4:25', 'scenarios.s.labels', 'a sequence, must be a mapping'),
    (A + 'scenarios: {s: {labels: {a: 1.0}}}\n', 'CORRUPT', '4:29', 'scenarios.s.labels.a', '1.0 is a number'),
    (A + 'scenarios: {s: {adapters: [legal=0.5]}}\n', 'CORRUPT', '4:28', 'scenarios.s.adapters[0]',
     'legal=0.5, a weight has a key of its own: {adapter: legal, weight: 0.5}'),
    (ENTRY % 'wieght: 2', 'CORRUPT', '4:45', 'scenarios.s.adapters[0].wieght', 'did you mean weight?'),
    (ENTRY % 'weight: "0.5"', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', 'in quotes'),
    (ENTRY % 'weight: half', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', 'half, must be a number'),
    (ENTRY % 'weight: yes', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', 'yes, must be a number'),
    (ENTRY % 'weight: [1]', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', 'a sequence, must be a number'),
    (ENTRY % 'weight: ', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', 'nothing, must be a number'),
    (ENTRY % 'weights: {}', 'CORRUPT', '4:54', 'scenarios.s.adapters[0].weights', 'a mapping, must be a sequence'),
    (RULE % 'weight: 1', 'CORRUPT', '4:55', 'scenarios.s.adapters[0].weights[0]', 'must have target or layers'),
    (RULE % 'target: x', 'CORRUPT', '4:55', 'scenarios.s.adapters[0].weights[0]', 'must have the key weight'),
    (RULE % 'target: "", weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].target', 'empty'),
    (RULE % 'target: 5, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].target', '5 is a number'),
    (RULE % 'layer: 5, weight: 1', 'CORRUPT', '4:56', 'scenarios.s.adapters[0].weights[0].layer', 'did you mean layers?'),
    (RULE % 'layers: 5-, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
    (RULE % 'layers: -1, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
    (RULE % 'layers: 01-2, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
    (RULE % 'layers: 0-1-2, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
    (RULE % 'layers: 1.5, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
    (RULE % 'layers: 1000000000, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', '0..999999999'),
    (RULE % 'layers: [0, 11], weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'must be a layer'),
]

CHAIN = V + 'scenarios:\n  s0: {}\n' + ''.join(f'  s{i}: {{extends: s{i - 1}}}\n' for i in range(1, 32))
MANY_LABELS = ', '.join(f'l{i}: x' for i in range(2000))
EXTENDED = f'{V}scenarios:\n  s0: {{labels: {{{MANY_LABELS}}}}}\n' + ''.join(f'  s{i}: {{extends: s0}}\n' for i in range(1, 32))

# Refused by the reader; no schema can tell.
MEANING = [
    ('version: 1\nbase: {path: b, revision: 2026-11-28}\n', 'CORRUPT', '2:27', 'base.revision', '2026-11-28 is a date'),
    ('version: 1\nbase: {path: b, revision: 2001-12-14 21:59:43}\n', 'CORRUPT', '2:27', 'base.revision', 'is a date'),
    ('version: 1\nbase: {path: b, revision: =}\n', 'CORRUPT', '2:27', 'base.revision', '= is an operator'),
    (ENTRY % 'weight: .5', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', '.5, must be a number as JSON writes it'),
    (ENTRY % 'weight: +1', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', '+1, must be a number as JSON writes it'),
    (ENTRY % 'weight: 1e999', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', '1e999, must be a finite number'),
    (ENTRY % 'weight: .nan', 'CORRUPT', '4:53', 'scenarios.s.adapters[0].weight', '.nan, must be a number'),
    (RULE % 'layers: 11-0, weight: 1', 'CORRUPT', '4:64', 'scenarios.s.adapters[0].weights[0].layers', 'the first must not be after the last'),
    (A + 'scenarios: {s: {adapters: [legl]}}\n', 'CORRUPT', '4:28', 'scenarios.s.adapters[0]',
     'legl is not there; did you mean legal? Known are legal, tang'),
    (V + 'scenarios: {s: {extends: t}, u: {}}\n', 'CORRUPT', '3:26', 'scenarios.s.extends', 't is not there; known are s, u'),
    (A + 'scenarios: {s: {adapters: [{adapter: x}]}}\n', 'CORRUPT', '4:38', 'scenarios.s.adapters[0].adapter', 'known are legal, tang'),
    (V + 'scenarios: {s: {adapters: [x]}}\n', 'CORRUPT', '3:28', 'scenarios.s.adapters[0]', 'x is not there; there is none'),
    (A + 'scenarios: {s: {adapters: [legal, legal]}}\n', 'CORRUPT', '4:35', 'scenarios.s.adapters[1]', 'legal is in this scenario twice'),
    (A + 'scenarios: {s: {adapters: [legal, {adapter: legal}]}}\n', 'CORRUPT', '4:35', 'scenarios.s.adapters[1]', 'twice'),
    (V + 'scenarios: {one: {extends: two}}\n', 'CORRUPT', '3:28', 'scenarios.one.extends', 'two is not there; known are one'),
    (V + 'scenarios: {s: {extends: s}}\n', 'CORRUPT', '3:26', 'scenarios.s.extends', 's extends itself'),
    (V + 'scenarios: {s: {extends: t}, t: {extends: s}}\n', 'CORRUPT', '3:43', 'scenarios.t.extends', 's extends itself by way of t'),
    (V + 'scenarios: {r: {extends: s}, s: {extends: t}, t: {extends: s}}\n', 'CORRUPT', '3:60', 'scenarios.t.extends',
     's extends itself by way of t'),
    (CHAIN + '  s32: {extends: s31}\n', 'LIMIT', '36:18', 'scenarios.s32.extends', 'extends more than 31 scenarios'),
    (EXTENDED + '  s32: {extends: s0}\n', 'LIMIT', '36:8', 'scenarios.s32', 'more than 65536 adapters and labels'),
    ('version: 1\nbase: ../outside/model\n', 'CORRUPT', '2:7', 'base', '/outside/model, which is beneath none of the roots'),
    ('version: 1\nbase: missing/../../x\n', 'CORRUPT', '2:7', 'base', 'beneath none of the roots'),
    ('version: 1\nbase: /\n', 'CORRUPT', '2:7', 'base', 'leads to /, which is beneath none of the roots'),
    ('version: 1\nbase: link/model\n', 'CORRUPT', '2:7', 'base', '/outside/model, which is beneath none of the roots'),
    ('version: 1\nbase: link/missing\n', 'CORRUPT', '2:7', 'base', '/outside/missing, which is beneath none of the roots'),
    ('version: 1\nbase: ../manifests-2/b\n', 'CORRUPT', '2:7', 'base', 'beneath none of the roots'),
    ('version: 1\nbase: loop\n', 'IO', '2:7', 'base', 'cannot find where it leads'),
    (V + 'adapters: {a: {path: ../x.lora}}\n', 'CORRUPT', '3:22', 'adapters.a.path', 'to roots if that is meant'),
    (V + 'require-signature: [k, ../k]\n', 'CORRUPT', '3:24', 'require-signature[1]', 'beneath none of the roots'),
    (V + 'require-signature: [k]\nadapters: {a: {path: x, signature: ../s}}\n', 'CORRUPT', '4:36', 'adapters.a.signature',
     'beneath none of the roots'),
    (V + 'adapters: {a: {path: x, signature: s}}\n', 'CORRUPT', '3:25', 'adapters.a.signature', 'nobody would check it'),
    (V + 'defaults: {output: ..}\n', 'CORRUPT', '3:20', 'defaults.output', 'beneath none of the roots'),
    (V + 'roots: [missing]\n', 'NOT_FOUND', '3:9', 'roots[0]', 'a root must be a directory'),
    (V + 'roots: [file]\n', 'NOT_FOUND', '3:9', 'roots[0]', 'a root must be a directory'),
]

GOOD = [
    V,
    '--- # one document\n' + V + '...\n',
    '{"version": 1.0, "base": {"path": "b"}, "scenarios": {"s": {}}}',
    V.replace('\n', '\r\n'),
    V.replace('\n', '\r'),
    'version: 1\nbase: {path: ., name: "no", revision: 1.2.3}\n',
    'version: 1\nbase: {path: b, name: café ☕, revision: 12ab}\n',
    'version: 1\nbase: {path: b, revision: "007"}\n',
    'version: 1\nbase: >-\n  a path\n  with spaces\n',
    'version: 1\nbase: \'it\'\'s\'\n',
    'version: 1\nbase: ../outside/model\nroots: [., ../outside]\n',
    'version: 1\nbase: link/model\nroots: [link]\n',
    'version: 1\nbase: link/../b\nroots: [..]\n',
    'version: 1\nbase: into/b\n',
    V + 'roots: []\n',
    V + 'require-signature: [' + ', '.join(['k'] * 64) + ']\nadapters: {a: {path: x, signature: s}, b: z}\n',
    V + 'adapters: {}\nscenarios: {}\ndefaults: {}\n',
    V + f'adapters: {{{"n" * 64}: x, a.b_c-d: z, "0": "#1.lora"}}\n',
    V + 'adapters: {a: {path: x, map: {"": model, h: ""}}}\n',
    A + 'scenarios: {s: {description: "", labels: {"": "", a b: c}, adapters: []}}\n',
    ENTRY % 'weight: -0.5e-3',
    ENTRY % 'weight: 0',
    ENTRY % 'weights: []',
    RULE % 'layers: 5, weight: 1',
    RULE % 'layers: "5", weight: 1',
    RULE % 'layers: 0-999999999, target: "*", weight: -2',
    RULE % 'layers: 7-7, weight: 1E2',
    CHAIN,
    EXTENDED,
    A + 'scenarios: {s: {extends: t}, t: {extends: u, adapters: [legal]}, u: {adapters: [tang]}}\n',
]


def lay_out(folder):
    """What paths lead to."""
    for name in ('manifests', 'manifests-2', 'outside/model', 'models'):
        (folder / name).mkdir(parents=True)
    (folder / 'manifests/file').touch()
    for name, target in (('link', '../outside'), ('loop', 'loop'), ('into', '.')):
        (folder / 'manifests' / name).symlink_to(target)
    return folder / 'manifests'


def read_all(dump, folder, texts):
    """What the reader says of each text."""
    names = [f'{i}.yaml' for i in range(len(texts))]
    for name, text in zip(names, texts):
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = subprocess.run([dump, *names], cwd=folder, stdout=subprocess.PIPE, check=True, timeout=240)
    return [json.loads(line) for line in done.stdout.decode().split('\n')[:-1]]


def check_good(schema, found):
    if found['status'] != 'OK':
        raise Complaint(f'{found["status"]} {found["file"]}: {found["field"]}: {found["text"]}, expected to be good')
    if not schema.allows(found['tree']):
        raise Complaint('good, but the schema refuses it')


def check_bad(schema, found, number, expected, schema_tells):
    status, place, field, reason = expected
    file = f'{number}.yaml' + (f':{place}' if place else '')
    if (found['status'], found['file'], found['field']) != (status, file, field) or reason not in found['text']:
        raise Complaint(f'{found["status"]} {found["file"]}: {found["field"]}: {found["text"]}, expected {status} {file}: {field}: {reason}')
    allowed = None if found['tree'] is None else schema.allows(found['tree'])
    if allowed != schema_tells:
        raise Complaint(f'the schema says {allowed}, expected {schema_tells}: {found["text"]}')


def main():
    dump, spec = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    schema = Schema(json.loads((spec / 'manifest.schema.json').read_text(encoding='utf-8')))
    example = re.search('```yaml\n(.*?)```', (spec / 'manifest.md').read_text(encoding='utf-8'), re.S)[1]
    good = [*GOOD, example]
    bad = [(case, tells) for cases, tells in ((YAML, None), (SHAPE, False), (MEANING, True)) for case in cases]
    n_failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        found = read_all(dump, lay_out(pathlib.Path(scratch)), good + [case[0] for case, _ in bad])
    for number, answer in enumerate(found):
        try:
            if number < len(good):
                check_good(schema, answer)
            else:
                case, tells = bad[number - len(good)]
                check_bad(schema, answer, number, case[1:], tells)
        except Complaint as complaint:
            n_failed += 1
            text = good[number] if number < len(good) else bad[number - len(good)][0][0]
            print(f'{text[:200]!r}\n  {complaint}')
    print(f'{len(good)} good and {len(bad)} malformed manifests, {n_failed} failed')
    return 1 if n_failed or len(found) != len(good) + len(bad) else 0


if __name__ == '__main__':
    sys.exit(main())
