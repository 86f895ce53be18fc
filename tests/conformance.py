#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Merge adapters that PEFT merged, and judge the result against PEFT's own.

usage: conformance.py LORAPACK [CASE...]

The cases and the tolerances are those of conformance/README.md. Every adapter that merges is also packed, verified,
unpacked and merged again from its .lora file.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import sys
import tempfile

import judge
from lorapack import Complaint, Lorapack, merge, names, round_trip, same_files

CASES = pathlib.Path(__file__).resolve().parent / 'conformance'

# Cases that must merge and agree with PEFT.
MERGED = '''
    alpha-zero-and-fraction bias-all bias-lora-only embedding embedding-changed-base-saved embedding-saved-base gpt2-conv1d-bf16
    gpt2-conv1d-f32 gpt2-mixed-with-linear layers-to-transform linear-bf16-adapter-bf16 linear-bf16-adapter-f32 linear-f16
    linear-f16-adapter-bf16 linear-f16-adapter-f16 linear-f32 linear-f32-adapter-bf16 linear-f32-ragged linear-wide lm-head-lora
    modules-to-save-classifier-bf16 modules-to-save-f32-file-bf16-base modules-to-save-head olora-rslora-converted
    pissa-converted rank-above-dims rank-alpha-pattern rank-one rslora-f32 rslora-rank-pattern sharded-bf16 sharded-f32
    stray-keys-of-another-adapter targets-regex tied-embedding-lora-elsewhere tied-embedding-lora-on-embedding
    tied-embedding-lora-on-head tied-embedding-modules-to-save-head two-adapters-bf16 two-adapters-f32 zero-b
'''.split()

# Cases that must be refused, and a word of the message that names the kind.
REFUSED = {
    'alora-refused': 'alora_invocation_tokens',
    'conv2d': 'convolution',
    'conv2d-bf16': 'convolution',
    'conv2d-f16': 'convolution',
    'conv2d-grouped-refused': 'convolution',
    'dora-conv': 'DoRA',
    'dora-conv1d-gpt2': 'DoRA',
    'dora-embedding': 'DoRA',
    'dora-linear-bf16': 'DoRA',
    'dora-linear-bf16-adapter-bf16': 'DoRA',
    'dora-linear-f16': 'DoRA',
    'dora-linear-f32': 'DoRA',
    'dora-rslora-pattern': 'DoRA',
    'lora-bias': 'lora_bias',
    'lora-bias-bf16': 'lora_bias',
    'lora-bias-no-base-bias-refused': 'lora_bias',
    'mha': 'attention',
    'moe-rank-pattern': 'target_parameters',
    'moe-target-parameters': 'target_parameters',
    'moe-target-parameters-bf16': 'target_parameters',
    'moe-target-parameters-transposed': 'target_parameters',
    'olora-not-converted': 'init_lora_weights',
    'pissa-not-converted': 'init_lora_weights',
    'trainable-tokens': 'trainable_token_indices',
    'two-adapters-dora-f32': 'DoRA',
    'zero-b-dora': 'DoRA',
}

# Tensors of another adapter, which PEFT ignores and which do not come back from a .lora file.
STRAY = re.compile(r'\.lora_[AB]\.\w+\.weight$')


def check_merge(lorapack, case, folder, scratch):
    """Merge, judge, and do it again from packed adapters."""
    adapters = [folder / adapter['dir'] for adapter in case['adapters']]
    packed = [scratch / f'{adapter["name"]}.lora' for adapter in case['adapters']]
    out, out_packed = scratch / 'merged', scratch / 'merged-packed'
    lorapack.must(*merge(folder / 'base', adapters, out))
    complaints = list(judge.complaints(case, folder, out))
    if complaints:
        raise Complaint('; '.join(complaints[:3]))
    for adapter, path in zip(adapters, packed):
        round_trip(lorapack, adapter, path, is_stray=STRAY.search)
    lorapack.must(*merge(folder / 'base', packed, out_packed))
    if not same_files(out, out_packed):
        raise Complaint('merging from the .lora file gives other bytes')


def check_refused(lorapack, case, folder, scratch, word):
    """Merging fails, names the kind and leaves nothing behind."""
    adapters = [folder / adapter['dir'] for adapter in case['adapters']]
    code, _, message = lorapack.run(*merge(folder / 'base', adapters, scratch / 'merged'))
    if code != 1:
        raise Complaint(f'exit {code}, expected 1: {message}')
    if word.lower() not in message.lower():
        raise Complaint(f'the message does not say {word}: {message}')
    if names(scratch):
        raise Complaint(f'left behind: {", ".join(names(scratch))}')


def check(program, name):
    """Run one case: None, or what is wrong."""
    folder = CASES / name
    case = json.loads((folder / 'expected.json').read_text())
    with tempfile.TemporaryDirectory() as scratch:
        try:
            if name in MERGED:
                check_merge(Lorapack(program), case, folder, pathlib.Path(scratch))
            elif name in REFUSED:
                check_refused(Lorapack(program), case, folder, pathlib.Path(scratch), REFUSED[name])
            else:
                raise Complaint('is in no table of this script')
        except Complaint as complaint:
            return str(complaint)
    return None


def main():
    program = sys.argv[1]
    cases = sys.argv[2:] or sorted(path.parent.name for path in CASES.glob('*/expected.json'))
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(lambda name: check(program, name), cases))
    for name, complaint in zip(cases, results):
        if complaint:
            print(f'FAIL {name}: {complaint}')
    n_failed = sum(map(bool, results))
    print(f'{len(cases) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed or not cases else 0


if __name__ == '__main__':
    sys.exit(main())
