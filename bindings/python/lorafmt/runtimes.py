# SPDX-License-Identifier: MIT
"""Live weights that are switched from one stack of adapters to another."""
import collections
import ctypes
import threading

from . import _c
from ._library import call, functions, sized, uint
from ._native import Closing, Handle, Native, Pinned, settle
from ._rows import Region, dtype_bits, some
from .errors import misuse
from .views import Options, Stack, View, wrap_view

SwapResult = collections.namedtuple('SwapResult', 'n_sites n_bound n_computed n_restored n_bytes n_nan n_inf view')
SwapResult.__doc__ = """What a switch did.

n_sites, n_bound        sites of all adapters of the new stack, and those of them that found their tensor
n_computed, n_restored  tensors of the new stack, and those that are the base's again
n_bytes                 of live weights written
n_nan, n_inf            elements of what was computed
view                    with receipt=True, the View whose .sites say which site went where; else None
"""


class Place:
    """
    Where a tensor lies, or the part of it that is held here.

    pristine    the base's bytes; nobody may write to them as long as the runtime lives
    live        the bytes that the loader computes with: a buffer for each set, or the only one. None: the loader computes with the
                pristine ones, and no adapter may touch the tensor.
    rows, cols  (begin, end) of what is held; by default all. Rows of a tensor are its first axis, columns all others together.
    live_dtype  of the live bytes, when it is another one of F64, F32, F16 and BF16 than the tensor's
    pristine_stride, live_stride  bytes from one row to the next, in buffers that are one piece and begin with the first row. By
                                  default rows follow one another, or are the first axis of a buffer that says so itself, as a
                                  slice of a numpy array does.

    Buffers are anything with the buffer protocol, of any element type. They are held, and cannot change their size meanwhile.
    """

    def __init__(self, pristine, live=None, *, rows=None, cols=None, live_dtype=None, pristine_stride=None, live_stride=None):
        self.pristine = pristine
        self.live = () if live is None else tuple(live) if isinstance(live, (tuple, list)) else (live,)
        self.rows, self.cols = rows, cols
        self.live_dtype = live_dtype
        self.pristine_stride, self.live_stride = pristine_stride, live_stride

    def _resolve(self, info, n_sets, pinned, regions):
        """A place for the library. All buffers go into `pinned`, and where they are, and who may write there, into `regions`."""
        if len(self.live) not in (0, n_sets):
            raise ValueError(f'{info.name}: {len(self.live)} live buffers, must be {n_sets}, one for each set, or none')
        bits = dtype_bits(info.dtype)[1]
        live_number, live_bits = dtype_bits(self.live_dtype or info.dtype)
        all_rows = info.shape[0] if len(info.shape) >= 2 and bits >= 8 else 1
        all_cols = info.size * 8 // bits // all_rows if all_rows else 0
        row, n_rows = some(self.rows, all_rows, f'rows of {info.name}')
        col, n_cols = some(self.cols, all_cols, f'columns of {info.name}')
        height, width = n_rows or all_rows, n_cols or all_cols
        place = _c.Place(row=row, n_rows=n_rows, col=col, n_cols=n_cols, live_dtype=live_number)
        place.pristine, place.pristine_stride = _put(self.pristine, f'{info.name}: pristine', height, width * bits // 8,
                                                     self.pristine_stride, False, pinned, regions)
        for i, buffer in enumerate(self.live):
            what = f'{info.name}: live[{i}]'
            place.live[i], stride = _put(buffer, what, height, width * live_bits // 8, self.live_stride, True, pinned, regions)
            if i and stride != place.live_stride:
                raise ValueError(f'{what} has rows {stride} bytes apart, live[0] {place.live_stride}')
            place.live_stride = stride
        return place


def _put(buffer, what, n_rows, row_size, stride, writable, pinned, regions):
    """Where a buffer is, and its stride, after checking that rows are in it."""
    held = Pinned(buffer, what, writable)
    pinned.append(held)
    stride = held.rows(what, n_rows, row_size, stride)
    if not n_rows or not row_size: # buffers of nothing may all be at one address
        pinned.append(ctypes.c_uint64())
        return ctypes.addressof(pinned[-1]), stride
    regions.append((Region(held.address, stride, n_rows, row_size), writable, what))
    return held.address, stride


def _check_apart(regions):
    """No live byte may be in any other buffer."""
    begun = []
    for region, writable, what in sorted(regions, key=lambda entry: entry[0].address):
        begun = [other for other in begun if other[0].end > region.address]
        for other, other_writable, other_what in begun:
            if (writable or other_writable) and not region.is_apart(other):
                raise ValueError(f'{what} and {other_what} overlap')
        begun.append((region, writable, what))


class Runtime(Closing):
    """
    Live weights of a loaded model, which are the base's until the first swap().

    base    Model or Description of the tensors, as the adapters know them
    places  {name: Place} for every tensor of the base
    n_sets  1: a switch waits until nobody reads, and readers wait while it writes. 2: one set is read while the other is written;
            readers never wait.
    is_loaded     every live buffer holds its pristine bytes already
    load_by_swap  leave live buffers as they are until the first switch, which writes all of them; nobody can read before that
    n_threads     at most so many for each switch; 0 = one per CPU

    Any number of threads may read and swap.
    """

    def __init__(self, base, places, *, n_sets=1, is_loaded=False, load_by_swap=False, n_threads=0):
        if n_sets not in range(1, _c.MAX_SETS + 1):
            raise ValueError(f'n_sets {n_sets}, must be 1..{_c.MAX_SETS}')
        self._attached = base._attach()
        tensors = self._attached.tensors
        wrong = sorted(set(tensors) ^ set(places))
        if wrong:
            raise ValueError(f'{len(wrong)} tensors that are not in both base and places: {", ".join(wrong[:5])}'
                             f'{", ..." if len(wrong) > 5 else ""}')
        pinned, regions = [], []
        array = (_c.Place * len(tensors))(*(places[name]._resolve(info, n_sets, pinned, regions) for name, info in tensors.items()))
        _check_apart(regions)
        self._live = {name: place.live or (place.pristine,) * n_sets for name, place in places.items()}
        options, out = sized(_c.RuntimeOptions, n_sets=n_sets, is_loaded=is_loaded, load_by_swap=load_by_swap,
                             n_threads=uint(n_threads, 'n_threads', 32)), ctypes.c_void_p()
        call('runtime_new', self._attached.pointer, array, options, out)
        self._handle = Handle(Native(out.value, functions().runtime_free, (*self._attached.parents, *pinned)), 'runtime')
        self.n_sets = n_sets
        self._readable = not load_by_swap
        self._readers = threading.local()
        self._lock = threading.Lock() # for the counts in self._readers, which a thread may have to change for another

    def swap(self, stack=(), *, go_on=None, receipt=False, **options):
        """
        Switch to another stack, by default to the base. All that can fail is done first; on failure every live byte is as it was.

        stack    as bind() takes it; it is not needed any more afterwards
        go_on    called now and then, from any thread, before anything live is written: False stops with CANCELLED
        receipt  keep the View, with all that it needs
        options  as bind() takes them

        A thread that reads cannot swap: it would wait for itself.
        """
        if self._reader().depth:
            raise misuse('swap() by a thread that reads')
        stack = Stack(stack)
        callbacks = self._attached.callbacks
        callbacks.check_outside()
        with callbacks.lock:
            native = self._handle.open()
            bind, out, result = Options(callbacks, **options), ctypes.c_void_p(), _c.SwapResult()
            struct = sized(_c.SwapOptions, bind=ctypes.pointer(bind.struct),
                           go_on=callbacks.wrap(_c.GoOn, lambda _: go_on is None or bool(go_on()), lambda _: False))
            outcome = callbacks.attempt((self, stack, bind), 'runtime_swap', native, stack.array or None, len(stack.array), struct,
                                        result, out if receipt else None)
            view = wrap_view(out, self._attached, stack, bind, native)
            self._readable = self._readable or outcome[0] == _c.OK
            settle(outcome, bind.problems)
        return SwapResult(result.n_sites, result.n_bound, result.n_computed, result.n_restored, result.n_bytes,
                          result.counts.n_nan, result.counts.n_inf, view and View(view, self._attached, stack))

    def read(self):
        """
        For a `with` statement: inside, no byte of the live set changes, and all of it is of one stack. What it gives has the number
        of the set, .index, and by the name of a tensor the buffer that its Place was made with.

        Inside of one another, all of a thread are of the same set.
        """
        return LiveSet(self)

    @property
    def generation(self):
        """The number of switches so far, one that loaded among them."""
        return functions().runtime_generation(self._handle.open())

    def digest(self):
        """SHA-256 of all that is live, in order of name, as 32 bytes; and {name: SHA-256} of each tensor."""
        native = self._handle.open()
        self._check_readable()
        if self._reader().depth: # the library begins to read once more, and would wait for a switch that waits for this thread
            raise misuse('digest() by a thread that reads')
        whole, each = _c.Digest(), (ctypes.c_uint8 * (32 * len(self._live)))()
        call('runtime_digest', native, whole, each)
        each = bytes(each)
        return bytes(whole), {name: each[32 * i:32 * i + 32] for i, name in enumerate(self._attached.tensors)}

    def _check_readable(self):
        if not self._readable:
            raise misuse('there is nothing to read before the first swap()')

    def _reader(self):
        """What this thread reads."""
        reader = getattr(self._readers, 'reader', None)
        if reader is None:
            reader = self._readers.reader = _Reader()
        return reader

    def __repr__(self):
        return f'<Runtime: {"closed" if self.closed else f"{len(self._live)} tensors, {self.n_sets} sets"}>'


class _Reader:
    """How often a thread reads a runtime, and which set."""
    depth = 0
    index = None


class LiveSet:
    """Live weights while they are read: Runtime.read()."""

    def __init__(self, runtime):
        self._runtime = runtime
        self._native = None

    def __enter__(self):
        runtime = self._runtime
        if self._native is not None:
            raise misuse('what read() gave is entered already')
        native = runtime._handle.open()
        runtime._check_readable()
        self._reader = reader = runtime._reader()
        library, begun, again = functions(), [], False
        self._end = library.runtime_read_end
        try:
            with runtime._lock:
                again = reader.depth > 0
                reader.depth += again
            if not again:
                begun.extend(map(library.runtime_read_begin, (native,))) # in one step: an interrupt comes when it is noted
                reader.index, reader.depth = begun[0], 1 # nobody else makes it more than 0
            self.index, self._native = reader.index, native
        except BaseException:
            if self._native is None and (again or begun):
                reader.depth = reader.depth - 1 if again else 0
                if begun:
                    self._end(native, begun[0])
            raise
        return self

    def __exit__(self, *unused):
        native, last = self._native, False
        try:
            with self._runtime._lock:
                self._native = None
                self._reader.depth -= 1
                last = not self._reader.depth
        finally:
            if last:
                self._end(native, self.index)

    def __del__(self):
        if self._native is not None: # an interrupt came as __exit__() began
            self.__exit__()

    def __getitem__(self, name):
        if self._native is None:
            raise misuse('read after the end of the `with` statement')
        return self._runtime._live[name][self.index]

    def __index__(self):
        return self.index
