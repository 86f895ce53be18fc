#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare a merged demo model with the SHA-256s of its scenario.

usage: compare.py EXPECTED.json SCENARIO MODEL
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / 'tests'))
from demo_model import check_tensors
from lorapack import Complaint
from tensors import read_model


def main():
    expected, name, model = sys.argv[1:]
    scenario = json.loads(pathlib.Path(expected).read_text())['scenarios'][name]
    try:
        check_tensors(scenario, read_model(model))
    except Complaint as complaint:
        print(f'    DIFFERENT: {complaint}')
        return 1
    print(f'    as expected, to the bit: SHA-256 {scenario["merged_all_sha256"][:16]}... of all tensors')
    return 0


if __name__ == '__main__':
    sys.exit(main())
