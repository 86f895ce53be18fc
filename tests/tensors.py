# SPDX-License-Identifier: MIT
"""safetensors files and their elements, in plain Python: what the tests judge lorapack with."""
import json
import pathlib
import struct
import typing

SIZES = {'F64': 8, 'F32': 4, 'BF16': 2, 'F16': 2, 'I64': 8, 'I32': 4, 'I16': 2, 'U8': 1, 'I8': 1, 'BOOL': 1}


class Tensor(typing.NamedTuple):
    """A tensor as a safetensors file has it."""
    dtype: str
    shape: tuple
    data: bytes


class File(typing.NamedTuple):
    """A safetensors file: tensors by name, in the order of their data, and its __metadata__."""
    tensors: dict
    metadata: dict


def read_header(path):
    """The parsed header of a file, and where its data starts."""
    with open(path, 'rb') as file:
        size = struct.unpack('<Q', file.read(8))[0]
        return json.loads(file.read(size)), 8 + size


def read_file(path):
    """A whole file."""
    header, start = read_header(path)
    metadata = header.pop('__metadata__', {})
    data = pathlib.Path(path).read_bytes()
    tensors = {}
    for name, entry in sorted(header.items(), key=lambda item: item[1]['data_offsets']):
        begin, end = entry['data_offsets']
        tensors[name] = Tensor(entry['dtype'], tuple(entry['shape']), data[start + begin:start + end])
    return File(tensors, metadata)


def read_model(path):
    """All tensors of a file, or of every safetensors file of a directory."""
    path = pathlib.Path(path)
    files = sorted(path.glob('*.safetensors')) if path.is_dir() else [path]
    return {name: tensor for file in files for name, tensor in read_file(file).tensors.items()}


def write_file(path, tensors, metadata=None):
    """Write tensors, in the order given."""
    header = {'__metadata__': metadata} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        header[name] = {'dtype': tensor.dtype, 'shape': list(tensor.shape), 'data_offsets': [end, end + len(tensor.data)]}
        end += len(tensor.data)
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    with open(path, 'wb') as file:
        file.write(struct.pack('<Q', len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.data)


def values(tensor):
    """The elements of a float tensor as Python floats, which hold all of them exactly."""
    data, code = tensor.data, {'F64': 'd', 'F32': 'f', 'F16': 'e', 'BF16': 'f'}[tensor.dtype]
    if tensor.dtype == 'BF16': # the upper half of a binary32
        wide = bytearray(2 * len(data))
        wide[2::4], wide[3::4] = data[0::2], data[1::2]
        data = wide
    return struct.unpack(f'<{len(data) // struct.calcsize(code)}{code}', data)


def ranks(tensor):
    """For a 16-bit float tensor, whole numbers in the order of its values, where neighbours are one ulp apart."""
    bits = struct.unpack(f'<{len(tensor.data) // 2}H', tensor.data)
    return [-(x & 0x7fff) if x & 0x8000 else x for x in bits]
