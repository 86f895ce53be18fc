#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Merge the demo model under each scenario of its expected.json, to the byte.

usage: demo_model.py LORAPACK DEMO_MODEL
"""
import hashlib
import json
import pathlib
import sys
import tempfile

import tensors
from lorapack import Complaint, Lorapack, merge, round_trip


def check_tensors(scenario, model):
    """Compare the SHA-256 of every touched tensor, and of all bytes in order of name."""
    for name, figures in scenario['merged'].items():
        if hashlib.sha256(model[name].data).hexdigest() != figures['sha256']:
            raise Complaint(f'{name} is not as expected')
    everything = hashlib.sha256()
    for name in sorted(model):
        everything.update(model[name].data)
    if everything.hexdigest() != scenario['merged_all_sha256']:
        raise Complaint(f'the whole model is {everything.hexdigest()}, expected {scenario["merged_all_sha256"]}')


def check_scenario(lorapack, demo, scenario, packed, scratch):
    """Merge one scenario from the PEFT directories and from the packed files."""
    weights = {pathlib.Path(entry['dir']).name: entry['weight'] for entry in scenario['adapters']}
    sources = {'peft': lambda name: demo / 'adapters' / name, 'packed': lambda name: packed[name]}
    for kind, source in sources.items():
        out = scratch / f'{"+".join(weights)}-{kind}'
        adapters = [f'{source(name)}={weight}' if weight != 1 else source(name) for name, weight in weights.items()]
        lorapack.must(*merge(demo / 'base', adapters, out))
        check_tensors(scenario, tensors.read_model(out))


def main():
    lorapack, demo = Lorapack(sys.argv[1]), pathlib.Path(sys.argv[2])
    scenarios = json.loads((demo / 'expected.json').read_text())['scenarios']
    n_failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scratch = pathlib.Path(folder)
        packed = {path.name: scratch / f'{path.name}.lora' for path in sorted((demo / 'adapters').iterdir())}
        for name, path in packed.items():
            round_trip(lorapack, demo / 'adapters' / name, path)
        merged = {name: scenario for name, scenario in scenarios.items() if scenario['adapters']}
        for name, scenario in merged.items():
            try:
                check_scenario(lorapack, demo, scenario, packed, scratch)
            except Complaint as complaint:
                print(f'FAIL {name}: {complaint}')
                n_failed += 1
    print(f'{len(merged) - n_failed} passed, {n_failed} failed')
    return 1 if n_failed or not merged else 0


if __name__ == '__main__':
    sys.exit(main())
