# SPDX-License-Identifier: MIT
"""Rows in memory: which, where, and whether they are apart."""
import collections
import operator

from . import _c
from ._library import encode, functions
from ._native import Pinned


class Region(collections.namedtuple('Region', 'address stride n_rows row_size')):
    """Rows of row_size bytes, `stride` bytes from one to the next."""

    @property
    def end(self):
        return self.address + (self.n_rows - 1) * self.stride + self.row_size if self.n_rows else self.address

    def is_apart(self, other):
        """Whether no byte is in both; of regions that are woven into one another, only such of one stride are known to be."""
        if self.end <= other.address or other.end <= self.address:
            return True
        shift = (other.address - self.address) % self.stride
        return self.stride == other.stride and shift >= self.row_size and self.stride - shift >= other.row_size


def dtype_bits(name):
    """The number of a dtype, and the bits of an element."""
    number = functions().dtype_from_name(encode(name, 'a dtype'))
    if not number:
        raise ValueError(f'no dtype {name!r}')
    return number, functions().dtype_bits(number)


def span(asked, n, what):
    """(begin, length) of what is asked for, out of n: None for all, a range, a slice, or (begin, end)."""
    if asked is None:
        return 0, n
    if isinstance(asked, slice):
        asked = range(*asked.indices(n))
    if isinstance(asked, range):
        if asked.step != 1:
            raise ValueError(f'{what} {asked}, must follow one another')
        asked = asked.start, asked.stop
    begin, end = map(operator.index, asked)
    if not 0 <= begin <= end <= n:
        raise ValueError(f'{what} [{begin}, {end}), there are {n}')
    return begin, end - begin


def some(asked, n, what):
    """The same as the library has it where no rows or columns make no sense: (0, 0) for all."""
    begin, length = span(asked, n, what)
    if asked is not None and not length:
        raise ValueError(f'no {what}')
    return (0, 0) if asked is None else (begin, length)


class Job:
    """Rows, and maybe only columns, of a ViewTensor, with memory to read from and to write to."""

    def __init__(self, tensor, rows, cols, src_dtype, dst_dtype):
        self.src_dtype = src_dtype or tensor.dtype
        self.row, self.n_rows = span(rows, tensor.n_rows, 'rows')
        bits = dtype_bits(tensor.dtype)[1]
        all_cols = tensor.row_size * 8 // bits
        col, n_cols = some(cols, all_cols, 'columns')
        src_number, src_bits = dtype_bits(self.src_dtype)
        dst_number, dst_bits = dtype_bits(dst_dtype or tensor.dtype)
        self._skip = col * bits // 8
        self._base_row = tensor.row_size
        self._src_row = (n_cols or all_cols) * src_bits // 8
        self._dst_row = (n_cols or all_cols) * dst_bits // 8
        self._pinned = []
        self.struct = _c.Rows(src_dtype=src_number, dst_dtype=dst_number, col=col, n_cols=n_cols)

    def dst_size(self):
        return self.n_rows * self._dst_row

    def set_dst(self, buffer):
        self.struct.dst, self.struct.dst_stride = self._pin(buffer, 'dst', self._dst_row, True)

    def set_src(self, buffer):
        """Rows, or the columns of them that are asked for."""
        self.struct.src, self.struct.src_stride = self._pin(buffer, 'src', self._src_row)
        src, dst = (Region(self.struct.src or 0, self.struct.src_stride, self.n_rows, self._src_row),
                    Region(self.struct.dst or 0, self.struct.dst_stride, self.n_rows, self._dst_row))
        if not src.is_apart(dst) and (src != dst or self.struct.src_dtype != self.struct.dst_dtype):
            raise ValueError('src and dst overlap, and are not the same')

    def set_whole_src(self, buffer):
        """Rows with all their columns, in the tensor's dtype."""
        address, self.struct.src_stride = self._pin(buffer, 'what was read', self._base_row)
        self.struct.src = address + self._skip

    def _pin(self, buffer, what, row_size, writable=False):
        pinned = Pinned(buffer, what, writable)
        self._pinned.append(pinned)
        return pinned.address, pinned.rows(what, self.n_rows, row_size)
