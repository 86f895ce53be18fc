# SPDX-License-Identifier: MIT
"""What adapters are bound to: a model on disk, or a description of tensors wherever they are."""
import collections
import ctypes
import types

from . import _c
from ._library import call, check, choose, encode, encode_path, functions, sized, uint
from ._native import Callbacks, Closing, Handle, Native, Pinned, borrowed
from .adapters import dtype_name
from .errors import decode

TensorInfo = collections.namedtuple('TensorInfo', 'name dtype shape size')
TensorInfo.__doc__ = "A tensor of a base: dtype as 'BF16', shape a tuple, size in bytes."


class Attached:
    """
    A base as the library is given it, for one view or runtime.

    pointer    to a struct lorafmt_base
    parents    what has to live as long as the library may look at that
    callbacks  through which all calls go that may read the base
    tensors    {name: TensorInfo}, in the order of the base
    read       (index, offset, size) -> something with the buffer protocol; None when there is no way to
    """

    def __init__(self, pointer, parents, callbacks, tensors, read, thunk=None):
        self.pointer, self.parents, self.callbacks, self.tensors, self.read = pointer, parents, callbacks, tensors, read
        self._thunk = thunk # what the library calls; must live as long as anything is called that may read


class _Base:
    """What models and descriptions have in common."""

    def structure(self):
        """The structure fingerprint of names, dtypes and shapes (spec 6.2), 32 bytes."""
        attached, out = self._attach(), _c.Digest()
        call('base_structure', attached.pointer, out)
        return bytes(out)


class Model(Closing, _Base):
    """
    A base model on disk: a safetensors file, or a directory with one or with shards.

    tensors       {name: TensorInfo}, ascending
    tied          'yes', 'no' or 'unknown': tie_word_embeddings of its config
    vocab_size    of its config, or None
    quantization  why nothing can be added to it, or None
    """

    def __init__(self, native, path, mapped):
        base = functions().model_base(native).contents
        self._handle = Handle(native, 'model')
        self.path = path
        self.mapped = mapped
        self.tensors = types.MappingProxyType({info.name: info for info in map(_info, base.tensors[:base.n_tensors])})
        self.tied = _c.TIED[base.tied]
        self.vocab_size = base.vocab_size or None
        self.quantization = decode(base.quantization) if base.quantization else None
        self._indices = {name: i for i, name in enumerate(self.tensors)}

    @classmethod
    def open(cls, path, mapped=False):
        """
        Open it and read its headers, not its data.

        mapped  data() then has the bytes where they are in the file; nobody may write to or truncate that meanwhile
        """
        out = ctypes.c_void_p()
        call('model_open', encode_path(path), out)
        native = Native(out.value, functions().model_free)
        if mapped:
            call('model_map', native)
        return cls(native, path, mapped)

    def read(self, name, offset=0, size=None):
        """Bytes [offset, offset + size) of a tensor, by default all, in a new bytearray."""
        info = self.tensors[name]
        return self._reader(self._indices[name], offset, info.size - offset if size is None else size)

    def data(self, name):
        """The bytes of a tensor as a read-only memoryview, not copied; they stay when the model is closed. Not aligned."""
        native = self._handle.open()
        if not self.mapped:
            raise ValueError('the model is not mapped: Model.open(path, mapped=True)')
        return borrowed(functions().model_data(native, self._indices[name]), self.tensors[name].size, native)

    def _reader(self, index, offset, size):
        return _read(self._handle.open(), index, offset, size)

    def _attach(self):
        native = self._handle.open()
        return Attached(functions().model_base(native), (native,), Callbacks(), self.tensors,
                        lambda index, offset, size: _read(native, index, offset, size))

    def __repr__(self):
        return f'<Model {self.path}: {"closed" if self.closed else f"{len(self.tensors)} tensors"}>'


class Description(_Base):
    """
    A base that is somewhere else.

    tensors       (name, dtype, shape) of each; TensorInfo will do
    read          read(name, offset, size) -> those bytes of a tensor, as anything with the buffer protocol. Called from any thread,
                  also from several at a time. None: then an adapter that has digests of its base, and DoRA, are refused.
    tied          'yes', 'no' or 'unknown': whether the head is the embedding
    vocab_size    needed for adapters that change the number of rows of an embedding
    quantization  why nothing can be added to it
    """

    def __init__(self, tensors, read=None, *, tied='unknown', vocab_size=None, quantization=None):
        entries = [_entry(*tensor[:3]) for tensor in tensors]
        self._array = (_c.BaseTensor * len(entries))(*entries)
        self.tensors = types.MappingProxyType({info.name: info for info in map(_info, self._array)})
        if len(self.tensors) != len(entries):
            raise ValueError('two tensors of one name')
        self._names = tuple(self.tensors)
        self._read = read
        self._fields = {'n_tensors': len(entries), 'tensors': self._array, 'tied': choose(_c.TIED, tied, 'tied'),
                        'vocab_size': uint(vocab_size or 0, 'vocab_size'),
                        'quantization': encode(quantization, 'quantization') if quantization else None}

    def _reader(self, index, offset, size):
        data = Pinned(self._read(self._names[index], offset, size), 'what read() returned')
        data.rows(f'what read() returned of {self._names[index]}', 1, size)
        return data.view

    def _attach(self):
        callbacks, base = Callbacks(), sized(_c.Base, **self._fields)
        if self._read is None:
            return Attached(ctypes.pointer(base), (base, self._array), callbacks, self.tensors, None)

        def read(_, index, offset, size, dst, error):
            data = Pinned(self._reader(index, offset, size), 'what read() returned')
            ctypes.memmove(dst, data.address, size)
            return _c.OK
        thunk = callbacks.wrap(_c.Read, read, _failed_read)
        base.read = ctypes.cast(thunk, ctypes.c_void_p).value
        return Attached(ctypes.pointer(base), (base, self._array), callbacks, self.tensors, self._reader, thunk)

    def __repr__(self):
        return f'<Description: {len(self.tensors)} tensors>'


def _failed_read(*arguments):
    """What read() raised comes out of the call to the library as it is; this is what the library sees."""
    error = arguments[-1]
    if error:
        error[0] = _c.Error(status=_c.CANCELLED, offset=_c.NO_OFFSET, text=b'read() raised an exception')
    return _c.CANCELLED


def _read(native, index, offset, size):
    """Bytes of a tensor of a model."""
    base = functions().model_base(native).contents
    out = bytearray(uint(size, 'size'))
    error = _c.Error()
    status = _c.Read(base.read)(base.ctx, index, uint(offset, 'offset'), size, Pinned(out, 'a buffer').address, error)
    check(status, error)
    return out


def _entry(name, dtype, shape):
    """A tensor for the library."""
    number = functions().dtype_from_name(encode(dtype, 'a dtype'))
    if not number:
        raise ValueError(f'{name}: no dtype {dtype!r}')
    shape = tuple(uint(extent, f'{name}: an extent of') for extent in shape)
    if len(shape) > _c.MAX_DIMS:
        raise ValueError(f'{name}: {len(shape)} dimensions, at most {_c.MAX_DIMS}')
    bits = functions().dtype_bits(number)
    for extent in shape:
        bits *= extent
    if bits % 8:
        raise ValueError(f'{name}: {bits} bits are not whole bytes')
    return _c.BaseTensor(encode(name, 'a tensor'), number, len(shape), _c.Shape(*shape), uint(bits // 8, f'{name}: a size of'))


def _info(struct):
    return TensorInfo(struct.name.decode('utf-8', 'surrogateescape'), dtype_name(struct.dtype),
                      tuple(struct.shape[:struct.n_dims]), struct.size)
