#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What may stand for an adapter on the command line, and what is said of what may not.

usage: test_sources.py LORAPACK
"""
import json
import math
import struct
import sys

import tensors
from lorapack import Complaint, Lorapack, run_tests

RANK = 4
HELD = {f'base_model.model.q.lora_{side}.weight': tensors.Tensor('F32', shape, struct.pack('<12f', *range(12)))
        for side, shape in (('A', (RANK, 3)), ('B', (3, RANK)))}
CONFIG = {'peft_type': 'LORA', 'r': RANK, 'lora_alpha': 8, 'target_modules': ['q']}

# __metadata__ of a file alone, options, and the scale that follows: alpha / rank, or alpha / its root.
SCALES = [
    ({'lora_alpha': '8'}, (), 8 / RANK),
    ({'lora_alpha': '1.5e1'}, (), 15 / RANK),
    ({'lora_alpha': '8', 'use_rslora': 'true'}, (), 8 / math.sqrt(RANK)),
    ({'lora_alpha': '8', 'use_rslora': 'True'}, (), 8 / math.sqrt(RANK)),
    ({'lora_alpha': '8', 'use_rslora': 'false'}, (), 8 / RANK),
    ({'lora_alpha': '8', 'use_rslora': 'true'}, ('--alpha', '2'), 2 / RANK),
    ({}, ('--alpha', '2', '--rslora'), 2 / math.sqrt(RANK)),
]

# The files of a directory, and what is said of it.
REFUSED = [
    ({}, 'no adapter here: a PEFT directory has adapter_config.json and adapter_model.safetensors'),
    ({'config.json': '{}'}, 'this is a model, not an adapter'),
    ({'adapter_config.json': '{}'}, 'there is no adapter_model.safetensors beside adapter_config.json'),
    ({'adapter_config.json': '{}', 'adapter_model.bin': ''}, 'a pickle, which is never opened'),
    ({'adapter_config.json': '{}', 'adapter_model.pt': ''}, 'a pickle, which is never opened'),
    ({'adapter_model.safetensors': ''}, 'there is no adapter_config.json beside adapter_model.safetensors'),
    ({'one/adapter_config.json': '{}', 'two/adapter_config.json': '{}', 'three/other': ''}, 'but in its subdirectories: one, two'),
]


def expect_failure(lorapack, arguments, words):
    code, output, message = lorapack.run(*arguments)
    if code != 1 or output or words not in message:
        raise Complaint(f'{words!r} was to be said, but exit {code}: {message}')


def scale_of(lorapack, *arguments):
    return json.loads(lorapack.must('inspect', *arguments, '--sites', '--json'))['adapters'][0]['sites'][0]['scale']


def test_a_file_alone_says_its_alpha(lorapack, folder):
    for metadata, options, wanted in SCALES:
        tensors.write_file(folder / 'alone.safetensors', HELD, metadata)
        if (found := scale_of(lorapack, folder / 'alone.safetensors', *options)) != wanted:
            raise Complaint(f'{metadata} {options}: scale {found}, must be {wanted}')


def test_an_alpha_that_is_none(lorapack, folder):
    path = folder / 'alone.safetensors'
    for alpha in ('', 'eight', '8 ', '8x', 'nan', 'inf', '1e999'):
        tensors.write_file(path, HELD, {'lora_alpha': alpha})
        expect_failure(lorapack, ('inspect', path), f"alone.safetensors: __metadata__.lora_alpha: '{alpha}', must be a finite number")
    tensors.write_file(path, HELD)
    expect_failure(lorapack, ('inspect', path), 'the scale of this adapter is unknown')
    tensors.write_file(path, {'w': tensors.Tensor('F32', (1,), bytes(4))}, {'lora_alpha': '8'})
    expect_failure(lorapack, ('inspect', path), 'holds no LoRA tensors: is it a model, not an adapter?')


def test_a_config_beside_a_file_counts(lorapack, folder):
    tensors.write_file(folder / 'other.safetensors', HELD, {'lora_alpha': '100'})
    (folder / 'adapter_config.json').write_text(json.dumps(CONFIG))
    if scale_of(lorapack, folder / 'other.safetensors') != CONFIG['lora_alpha'] / RANK:
        raise Complaint('the scale is not that of the config')
    expect_failure(lorapack, ('inspect', folder / 'other.safetensors', '--alpha', '2'), 'an alpha is given, but adapter_config.json says')


def test_directories_that_hold_none(lorapack, folder):
    for number, (files, words) in enumerate(REFUSED):
        for name, text in files.items():
            path = folder / str(number) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / str(number)).mkdir(exist_ok=True)
        expect_failure(lorapack, ('inspect', folder / str(number)), words)


if __name__ == '__main__':
    sys.exit(run_tests(globals(), lambda folder: (Lorapack(sys.argv[1]), folder)))
