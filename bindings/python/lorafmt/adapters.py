# SPDX-License-Identifier: MIT
"""Adapters as a file or directory has them: sources, adapters, sites and the tensors of their factors."""
import collections
import ctypes
import functools

from . import _c
from ._library import call, choose, encode, encode_path, functions, sized, uint
from ._native import Closing, Handle, Native, Pinned, borrowed
from .errors import decode

ContainerInfo = collections.namedtuple('ContainerInfo', [name for name, _ in _c.ContainerInfo._fields_])
ContainerInfo.__doc__ = 'The facts of a .lora file that are about the file: see lorafmt_container_info.'
VerifyResult = collections.namedtuple('VerifyResult', [name for name, _ in _c.VerifyResult._fields_])
VerifyResult.__doc__ = 'What was verified: see lorafmt_verify_result.'

_NUMPY = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'I64': '<i8', 'I32': '<i4', 'I16': '<i2', 'I8': 'i1', 'U64': '<u8',
          'U32': '<u4', 'U16': '<u2', 'U8': 'u1', 'BOOL': '?', 'C64': '<c8'}


def _text(data):
    """A name, which a newer writer may have spelt in any bytes."""
    return data.decode('utf-8', 'surrogateescape')


def dtype_name(number):
    name = functions().dtype_name(number)
    return name.decode() if name else f'unknown {number}'


def _name(spell, number):
    name = spell(number).decode()
    return f'unknown {number}' if name == 'unknown' else name


def _fields(struct):
    """The fields of a struct as Python objects."""
    values = (getattr(struct, name) for name, _ in struct._fields_)
    return (bytes(value) if isinstance(value, ctypes.Array) else value for value in values)


class Tensor:
    """
    A factor of a site, where the source has it.

    dtype  'F32', 'BF16', ... as safetensors spells it
    shape  a tuple
    size   bytes
    """
    __slots__ = ('_handle', '_address', 'dtype', 'shape', 'size')

    def __init__(self, handle, struct):
        self._handle = handle
        self._address = struct.data
        self.dtype = dtype_name(struct.dtype)
        self.shape = tuple(struct.shape[:struct.n_dims])
        self.size = struct.size

    @property
    def data(self):
        """The bytes as a read-only memoryview, not copied: row-major, little-endian. They stay when the source is closed."""
        return borrowed(self._address, self.size, self._handle.open())

    @property
    def bits(self):
        """The elements as unsigned integers of their size, in a read-only numpy array, not copied: for BF16, and FP8."""
        bits = functions().dtype_bits(functions().dtype_from_name(self.dtype.encode()))
        if bits not in (8, 16, 32, 64):
            raise TypeError(f'{self.dtype} has elements of {bits} bits')
        return self._array(f'<u{bits // 8}')

    def numpy(self):
        """
        The elements in a numpy array. It is read-only and not copied, but for BF16, which numpy does not have: that becomes a
        float32 array of the same numbers. Other dtypes that it does not have are a TypeError; they have .bits.
        """
        if self.dtype == 'BF16':
            return (self.bits.astype('u4') << 16).view('f4')
        if self.dtype not in _NUMPY:
            raise TypeError(f'numpy has no {self.dtype}; see .bits')
        return self._array(_NUMPY[self.dtype])

    def _array(self, dtype):
        import numpy
        return numpy.frombuffer(self.data, dtype).reshape(self.shape)

    def __repr__(self):
        return f'<Tensor {self.dtype} {"x".join(map(str, self.shape))}>'


class Site:
    """
    How one tensor of the base changes.

    target                what it is called by the adapter
    kind                  'linear', 'embedding', ...
    rank, alpha, scaling  as trained; scaling is 'alpha/r', 'alpha/sqrt(r)', 'explicit' or 'none'
    scale                 what the update is multiplied with
    orientation           'out-in', 'in-out' or 'shape'
    rows, cols            the range (begin, end) of the target that is meant, or None
    base_sha256           digest of the target that it was trained on, or None
    doubled               PEFT said so of a parameter
    factors               {role: Tensor}, where a role is 'A', 'B', 'magnitude', ...
    """

    def __init__(self, handle, struct):
        names = functions()
        self._handle = handle
        self._address = ctypes.addressof(struct)
        self.target = _text(struct.target)
        self.kind = _name(names.kind_name, struct.kind)
        self.rank = struct.rank
        self.alpha = struct.alpha
        self.scale = struct.scale
        self.scaling = _name(names.scaling_name, struct.scaling)
        self.orientation = _name(names.orientation_name, struct.orientation)
        self.rows = (struct.row_begin, struct.row_end) if struct.flags & _c.SITE_ROW_RANGE else None
        self.cols = (struct.col_begin, struct.col_end) if struct.flags & _c.SITE_COL_RANGE else None
        self.base_sha256 = bytes(struct.base_sha256) if struct.flags & _c.SITE_BASE_SHA256 else None
        self.doubled = bool(struct.flags & _c.SITE_DOUBLED)
        self.factors = {_name(names.role_name, factor.role): Tensor(handle, factor.tensor)
                        for factor in struct.factors[:struct.n_factors]}

    def norm(self):
        """The Frobenius norm of what the site adds; UNSUPPORTED when that depends on the base."""
        held, norm = self._handle.open(), ctypes.c_double()
        call('site_norm', self._address, norm)
        return norm.value

    def __repr__(self):
        return f'<Site {self.target}: {self.kind}, rank {self.rank}, scale {self.scale:g}>'


class Adapter:
    """
    One adapter of a source.

    name, base_name, base_revision  texts; '' = unknown
    base_structure                  fingerprint of the base that it was made for, or None
    metadata                        {key: value}
    """

    def __init__(self, handle, struct):
        self._handle = handle
        self._address = ctypes.addressof(struct)
        self._n_sites = struct.n_sites
        self.name = _text(struct.name)
        self.base_name = _text(struct.base_name)
        self.base_revision = _text(struct.base_revision)
        self.base_structure = bytes(struct.base_structure) if struct.has_base_structure else None
        self.metadata = {_text(entry.key): _text(entry.value) for entry in struct.metadata[:struct.n_metadata]}

    @property
    def id(self):
        """Its identity, 32 bytes (id.hex() is what lorapack prints). Of what is no .lora file, all data is hashed to find it."""
        held, out = self._handle.open(), _c.Digest()
        functions().adapter_id(self._address, out)
        return bytes(out)

    @property
    def sites(self):
        """A tuple of Site."""
        held = self._handle.open()
        return self._sites

    @functools.cached_property
    def _sites(self):
        struct = _c.Adapter.from_address(self._address)
        return tuple(Site(self._handle, struct.sites[i]) for i in range(struct.n_sites))

    def _site_at(self, address):
        """The site that lies at an address."""
        struct = _c.Adapter.from_address(self._address)
        return self._sites[(address - ctypes.addressof(struct.sites.contents)) // ctypes.sizeof(_c.Site)]

    def __repr__(self):
        return f'<Adapter {self.name}: {self._n_sites} sites>'


class Source(Closing):
    """
    An opened .lora file, PEFT directory or safetensors file: lorafmt.open().

    kind       'lora', 'peft' or 'safetensors'
    adapters   a tuple of Adapter
    notes      what was left out or read in a special way, one sentence each
    container  ContainerInfo of a .lora file, else None

    After close(), or a `with` statement, everything that is reached from it raises. Views, runtimes and memory that were made from
    it before stay good, and keep the file open until they go. The file must not be truncated as long as it is open.
    """

    def __init__(self, native, path):
        library = functions()
        self._handle = Handle(native, 'source')
        self.path = path
        self.kind = _c.SOURCE_KINDS[library.source_get_kind(native)]
        self.notes = tuple(decode(library.source_note(native, i)) for i in range(library.source_n_notes(native)))
        info = _c.ContainerInfo()
        self.container = ContainerInfo(*_fields(info)) if library.source_container(native, info) else None
        self._adapters = tuple(Adapter(self._handle, library.source_adapter(native, i).contents)
                               for i in range(library.source_n_adapters(native)))

    @property
    def adapters(self):
        self._handle.open()
        return self._adapters

    def adapter(self, name=None):
        """The adapter of that name, or the only one; the error lists the names."""
        native, out = self._handle.open(), ctypes.c_void_p()
        call('source_choose', native, None if name is None else encode(name, 'an adapter'), out)
        return next(adapter for adapter in self._adapters if adapter._address == out.value)

    def verify(self):
        """Check all that opening did not, every digest again; returns a VerifyResult."""
        native, out = self._handle.open(), _c.VerifyResult()
        call('verify', native, out)
        return VerifyResult(*_fields(out))

    def __repr__(self):
        return f'<Source {self.path}: {self.kind}, {"closed" if self.closed else f"{len(self._adapters)} adapters"}>'


def open(path, alpha=None, adapter=None, *, rslora=False, base=None, orientation=None, n_threads=0,
         defer_digests=False, limits=None, paranoid=False):
    """
    Open a .lora file, a PEFT directory, or a safetensors file whose alpha is known.

    alpha, rslora  scale of a bare safetensors file that does not say it: alpha / rank, with rslora alpha / sqrt(rank)
    adapter        of a .lora file, read that adapter and nothing else
    base           Model or Description, for a PEFT adapter with target_parameters (experts), which does not say whose its tensors are
    orientation    take experts that are square in the base as 'out-in' or 'in-out'
    n_threads      at most so many to read a large .lora; 0 = one per CPU
    defer_digests  do not read data of a .lora that is not compressed to check it: verify() does
    limits         smaller ones than hold by themselves, as {'rank': 256}: names and numbers are in docs/limits.md
    paranoid       check all that verify() does before anything is used, and refuse NaN and infinity
    """
    options = _Options(alpha, adapter, rslora, base, orientation, n_threads, defer_digests, limits, paranoid)
    out = ctypes.c_void_p()
    call('source_open', encode_path(path), options.struct, out)
    return Source(Native(out.value, functions().source_free), path)


def open_memory(data, config=None, name=None, *, alpha=None, adapter=None, rslora=False, base=None,
                orientation=None, n_threads=0, defer_digests=False, limits=None, paranoid=False):
    """
    open() of bytes: a whole .lora file, or a whole safetensors file.

    data    anything with the buffer protocol. It is used where it is when it is read-only, and nobody may write to it then; what
            can be written to is copied.
    config  text of the adapter_config.json that goes with a safetensors file
    name    of the adapter and in messages, where a file would have its own
    """
    options = _Options(alpha, adapter, rslora, base, orientation, n_threads, defer_digests, limits, paranoid)
    out = ctypes.c_void_p()
    data = Pinned(data if memoryview(data).readonly else bytes(data), 'data')
    data.rows('data', 1, data.view.nbytes) # in one piece
    text = None if config is None else config if isinstance(config, bytes) else config.encode()
    memory = _c.Memory(data.address, data.view.nbytes, text, len(text or b''), None if name is None else encode(name, 'a name'))
    call('source_open_memory', memory, options.struct, out)
    return Source(Native(out.value, functions().source_free, (data, memory)), name or 'memory')


class _Options:
    """Options of opening as the library takes them."""

    def __init__(self, alpha, adapter, rslora, base, orientation, n_threads, defer_digests, limits, paranoid):
        self.attached = base._attach() if base is not None else None
        self.struct = sized(_c.SourceOptions, use_rslora=rslora, n_threads=uint(n_threads, 'n_threads', 32),
                            defer_digests=defer_digests, paranoid=paranoid)
        if alpha is not None:
            self.struct.has_alpha, self.struct.alpha = True, alpha
        if adapter is not None:
            self.struct.adapter = encode(adapter, 'an adapter')
        if self.attached:
            self.struct.base = self.attached.pointer
        if orientation is not None:
            self.struct.has_orientation, self.struct.orientation = True, choose(_c.ORIENTATIONS, orientation, 'orientation')
        if limits:
            self.struct.limits = ctypes.pointer(_limits(limits))


def _limits(numbers):
    """Limits by their names."""
    names, limits = tuple(functions().limit_name(i).decode() for i in range(_c.N_LIMITS)), sized(_c.Limits)
    for name, most in numbers.items():
        if most == 0: # which C takes for one that is not set
            raise ValueError(f'the limit {name} is 0, must be at least 1')
        limits.at_most[choose(names, name, 'a limit')] = uint(most, name, 64)
    return limits
