#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""How small adapters get in codec split, and what the bytes are: whole files, as F32 and as BF16.

usage: size.py LORAPACK ADAPTER...

`index` is header pages and index, `streams` the topmost planes compressed (with what codec split puts before them), `order-0` what a
perfect coder of single bytes would make of these planes; `bound` is the ratio if streams had that size and there were no padding.
"""
import collections
import math
import pathlib
import struct
import subprocess
import sys
import tempfile

ROOT_SLOT, INDEX_OFFSET, SECTIONS, TENSORS, TENSOR_SIZE = 4096, 32, 24, 5, 128
REAL = {12: 2, 13: 2, 16: 4, 18: 8}  # dtype: bytes of an element


def tensors_of(file):
    """(stored bytes, dtype, codec) of each tensor, and where the index ends."""
    index, index_size = struct.unpack_from('<QQ', file, ROOT_SLOT + INDEX_OFFSET)
    at = index + SECTIONS + 16 * struct.unpack_from('<I', file, index + 20)[0]
    for section in range(TENSORS):
        _, record_size, n_records = struct.unpack_from('<IIQ', file, index + SECTIONS + 16 * section)
        table, at = at, (at + record_size * n_records + 7) // 8 * 8
    records = [struct.unpack_from('<QQQBB', file, table + TENSOR_SIZE * i) for i in range(n_records)]
    return [(file[offset:offset + stored], dtype, codec) for offset, stored, _, dtype, codec in records], index + index_size


def entropy(data, width):
    """Bytes of the topmost plane, coded perfectly one by one."""
    top = [(high << 1 | low >> 7) & 255 for high, low in zip(data[width - 1::width], data[width - 2::width])]
    return sum(count * math.log2(len(top) / count) for count in collections.Counter(top).values()) / 8


def measure(lorapack, adapter, dtype, folder):
    """The sizes of one adapter, by what they are of."""
    files = {}
    for codec in ('raw', 'split'):
        path = folder / f'{codec}.lora'
        subprocess.run([lorapack, 'pack', adapter, '-o', path, '--codec', codec, '--dtype', dtype, '--force', '--quiet'], check=True)
        files[codec] = path.read_bytes()
    raw, index = tensors_of(files['raw'])
    split, _ = tensors_of(files['split'])
    planes = streams = bound = 0
    for (data, number, _), (stored, _, codec) in zip(raw, split):
        top = len(data) // REAL[number] if codec else 0
        planes += len(data) - top
        streams += len(stored) - (len(data) - top)
        bound += entropy(data, REAL[number]) if codec else 0
    n_raw, n_split = len(files['raw']), len(files['split'])
    return {'raw': n_raw, 'split': n_split, 'ratio': n_raw / n_split, 'index': index, 'padding': n_split - index - planes - streams,
            'planes': planes, 'streams': streams, 'order-0': bound, 'bound': n_raw / (index + planes + bound)}


def main():
    lorapack, *adapters = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        for adapter in adapters:
            for dtype in ('f32', 'bf16'):
                sizes = measure(lorapack, adapter, dtype, pathlib.Path(folder))
                print(f'{pathlib.Path(adapter).name:26} {dtype:5}',
                      *(f'{name} {value:.3f}' if name in ('ratio', 'bound') else f'{name} {value:.0f}' for name, value in sizes.items()))


if __name__ == '__main__':
    main()
