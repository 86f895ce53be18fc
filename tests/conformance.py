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
from lorapack import Complaint, Lorapack, merge, names, replay, round_trip, same_files

CASES = pathlib.Path(__file__).resolve().parent / 'conformance'

# Cases that must merge and agree with PEFT.
MERGED = '''
    alpha-zero-and-fraction bias-all bias-lora-only conv2d conv2d-bf16 conv2d-f16 dora-conv dora-conv1d-gpt2 dora-embedding
    dora-linear-bf16 dora-linear-bf16-adapter-bf16 dora-linear-f16 dora-linear-f32 dora-rslora-pattern embedding
    embedding-changed-base-saved embedding-saved-base gpt2-conv1d-bf16 gpt2-conv1d-f32 gpt2-mixed-with-linear
    layers-to-transform linear-bf16-adapter-bf16 linear-bf16-adapter-f32 linear-f16 linear-f16-adapter-bf16
    linear-f16-adapter-f16 linear-f32 linear-f32-adapter-bf16 linear-f32-ragged linear-wide lm-head-lora lora-bias
    lora-bias-bf16 mha modules-to-save-classifier-bf16 modules-to-save-f32-file-bf16-base modules-to-save-head
    moe-rank-pattern moe-target-parameters moe-target-parameters-bf16 moe-target-parameters-transposed
    olora-rslora-converted pissa-converted rank-above-dims rank-alpha-pattern rank-one rslora-f32 rslora-rank-pattern
    sharded-bf16 sharded-f32 stray-keys-of-another-adapter targets-regex tied-embedding-lora-elsewhere
    tied-embedding-lora-on-embedding tied-embedding-lora-on-head tied-embedding-modules-to-save-head trainable-tokens
    two-adapters-bf16 two-adapters-dora-f32 two-adapters-f32 zero-b zero-b-dora
'''.split()

# Cases that no .lora file can hold, since they do not add to the base, and a word of the message that names the kind.
REFUSED = {
    'alora-refused': 'alora_invocation_tokens',
    'conv2d-grouped-refused': 'grouped convolution',
    'olora-not-converted': 'init_lora_weights',
    'pissa-not-converted': 'init_lora_weights',
}

# Cases that pack and unpack, but that do not fit their base.
UNFIT = {
    'lora-bias-no-base-bias-refused': 'no such tensor',
}

# Tensors of another adapter, which PEFT ignores and which do not come back from a .lora file.
STRAY = re.compile(r'\.lora_[AB]\.\w+\.weight$')


def check_merge(lorapack, case, folder, scratch):
    """Merge, judge, do it again from packed adapters, and again to verify what the first merge wrote."""
    adapters = [folder / adapter['dir'] for adapter in case['adapters']]
    packed = [scratch / f'{adapter["name"]}.lora' for adapter in case['adapters']]
    out, out_packed, receipt = scratch / 'merged', scratch / 'merged-packed', scratch / 'receipt.json'
    lorapack.must(*merge(folder / 'base', adapters, out), '--receipt', receipt, '--receipt-digests')
    complaints = list(judge.complaints(case, folder, out))
    if complaints:
        raise Complaint('; '.join(complaints[:3]))
    for adapter, path in zip(adapters, packed):
        needs_base = json.loads((adapter / 'adapter_config.json').read_text()).get('target_parameters')
        round_trip(lorapack, adapter, path, is_stray=STRAY.search, extra=['--base', folder / 'base'] if needs_base else [])
        lorapack.must('verify', path, '--base', folder / 'base')
    lorapack.must(*merge(folder / 'base', packed, out_packed))
    if not same_files(out, out_packed):
        raise Complaint('merging from the .lora file gives other bytes')
    lorapack.must(*replay(receipt, folder / 'base', adapters, out))


def check_refused(lorapack, case, folder, scratch, word):
    """Packing fails, as merging does."""
    check_merge_refused(lorapack, case, folder, scratch, word)
    for adapter in case['adapters']:
        code, _, message = lorapack.run('pack', folder / adapter['dir'], '-o', scratch / 'packed.lora')
        if code != 1 or word not in message:
            raise Complaint(f'pack: exit {code}: {message}')


def check_unfit(lorapack, case, folder, scratch, word):
    """Merging fails, and so does the check; the adapters are there and back without loss."""
    check_merge_refused(lorapack, case, folder, scratch, word)
    for adapter in case['adapters']:
        packed = scratch / f'{adapter["name"]}.lora'
        round_trip(lorapack, folder / adapter['dir'], packed)
        code, _, message = lorapack.run('verify', packed, '--base', folder / 'base')
        if code != 1 or word not in message:
            raise Complaint(f'verify --base: exit {code}: {message}')


def check_merge_refused(lorapack, case, folder, scratch, word):
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
            elif name in UNFIT:
                check_unfit(Lorapack(program), case, folder, pathlib.Path(scratch), UNFIT[name])
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
