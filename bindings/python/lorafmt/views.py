# SPDX-License-Identifier: MIT
"""A merged model as a view: any rows of any tensor, computed from those of the base."""
import collections
import ctypes
import types

from . import _c
from ._library import call, choose, encode, functions, sized
from ._native import Closing, Handle, Native, settle
from ._rows import Job
from .adapters import Adapter, dtype_name
from .errors import Problem, decode, misuse

Counts = _c.Counts

ViewTensor = collections.namedtuple('ViewTensor', 'name dtype shape size n_rows row_size touched reads_base needs_prepare index')
ViewTensor.__doc__ = """A tensor of the merged model.

n_rows, row_size  how evaluate() counts: rows, and bytes of each
touched           False: every byte is the base's
reads_base        evaluate() looks at the base's rows; False for a replaced or new tensor
needs_prepare     it has a DoRA site, so the whole base tensor is read before it is evaluated for the first time
"""

BoundSite = collections.namedtuple('BoundSite', 'entry adapter site match effect tensor')
BoundSite.__doc__ = """What became of one site of one adapter of the stack.

entry, adapter, site  the place in the stack, the Adapter there, and its Site
match                 'none', 'exact', 'map', 'bridge', 'tied' or 'new': how it found its tensor
effect                'nothing', 'low_rank', 'replaced', 'new', 'rows' or 'additive': what it does to that
tensor                the tensor's name, or None
"""


class Stack:
    """Adapters and weights as the library takes them."""

    def __init__(self, stack):
        entries = []
        for entry in [stack] if isinstance(stack, Adapter) else stack:
            pair = (entry, 1) if isinstance(entry, Adapter) else entry
            if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], Adapter):
                raise TypeError(f'an entry of a stack is an Adapter or (Adapter, weight), not {entry!r}')
            entries.append(pair)
        self.adapters = tuple(adapter for adapter, _ in entries)
        self.parents = tuple(adapter._handle.open() for adapter in self.adapters)
        self.array = (_c.StackEntry * len(entries))(*((adapter._address, weight) for adapter, weight in entries))


class Options:
    """Options of bind() as the library takes them. What does not fit is in problems afterwards."""

    def __init__(self, callbacks, renames=(), allow_unmatched=False, any_base=False, check_only=False, orientation=None, cpu=None):
        pairs = renames.items() if hasattr(renames, 'items') else renames
        array = [_c.Rename(encode(old, 'a name'), encode(new, 'a name')) for old, new in pairs]
        self.problems = []
        self.parents = ((_c.Rename * len(array))(*array),)
        self.struct = sized(_c.BindOptions, renames=self.parents[0], n_renames=len(array), allow_unmatched=allow_unmatched,
                            any_base=any_base, check_only=check_only, report=callbacks.wrap(_c.Report, self._report, _nothing))
        if orientation is not None:
            self.struct.has_orientation, self.struct.orientation = True, choose(_c.ORIENTATIONS, orientation, 'orientation')
        if cpu is not None:
            self.struct.cpu = choose(_c.CPUS, cpu, 'cpu')

    def _report(self, _, *texts):
        self.problems.append(Problem(*map(decode, texts)))


def _nothing(*unused):
    return None


class View(Closing):
    """
    What bind() returns. Immutable: any number of threads may use one.

    tensors     {name: ViewTensor}: those of the base, then the new ones
    sites       the receipt, a tuple of BoundSite: every site of every adapter
    bridges     for each adapter how names differ, in words, or None
    unties      the head was tied to the embedding and is now a tensor of its own
    vocab_size  the new one, when embeddings have other rows than before, else None
    """

    def __init__(self, native, attached, stack):
        library = functions()
        self._handle = Handle(native, 'view')
        self._attached = attached
        self._adapters = stack.adapters
        self._prepared = set()
        self.tensors = types.MappingProxyType({tensor.name: tensor for tensor in _tensors(native)})
        self._names = tuple(self.tensors)
        self.bridges = tuple(_optional(library.view_bridge(native, i)) for i in range(len(stack.adapters)))
        self.unties = library.view_unties(native)
        self.vocab_size = library.view_vocab_size(native) or None

    @property
    def sites(self):
        native = self._handle.open()
        return tuple(self._site(functions().view_get_site(native, i).contents) for i in range(functions().view_n_sites(native)))

    def _site(self, struct):
        adapter = self._adapters[struct.entry]
        return BoundSite(struct.entry, adapter, adapter._site_at(struct.site), _c.MATCHES[struct.match], _c.EFFECTS[struct.effect],
                         None if struct.tensor == _c.NO_TENSOR else self._names[struct.tensor])

    def prepare(self, tensor=None):
        """
        Read what has to be read of the whole base tensor before it can be evaluated; by default for all tensors. evaluate() does it
        when it was not done.
        """
        for each in self.tensors.values() if tensor is None else (self._tensor(tensor),):
            if each.needs_prepare and each.index not in self._prepared:
                self._prepare(each)

    def _prepare(self, tensor):
        callbacks = self._attached.callbacks
        callbacks.check_outside()
        with callbacks.lock:
            native = self._handle.open()
            if tensor.index in self._prepared: # while this was waiting
                return
            settle(callbacks.attempt(self, 'view_prepare', native, tensor.index))
            self._prepared.add(tensor.index)

    def evaluate(self, tensor, rows=None, src=None, dst=None, *, cols=None, src_dtype=None, dst_dtype=None, counts=None):
        """
        Compute rows of a tensor: the base's, plus what the adapters add, rounded once.

        tensor  a name, or a ViewTensor
        rows    (begin, end) or a range; by default all
        src     the same rows of the base; by default they are read
        dst     where to; by default a new bytearray. May be src.
        cols    (begin, end) or a range: src and dst hold only these columns
        src_dtype, dst_dtype  of what is there, when it is another one of F64, F32, F16 and BF16 than the tensor's
        counts  a Counts to add to

        src and dst are anything with the buffer protocol: bytes, mmap, memoryview, array, numpy arrays; of any element type, since
        only sizes are looked at. Their rows follow one another, or are the first axis of what is contiguous from the second axis on.

        Returns dst.
        """
        tensor = self._tensor(tensor)
        self.prepare(tensor)
        native = self._handle.open()
        job = Job(tensor, rows, cols, src_dtype, dst_dtype)
        dst = bytearray(job.dst_size()) if dst is None else dst
        job.set_dst(dst)
        if tensor.reads_base and src is None:
            job.set_whole_src(self._read(tensor, job))
        elif tensor.reads_base:
            job.set_src(src)
        call('view_evaluate_as', native, tensor.index, job.row, job.n_rows, job.struct, counts)
        return dst

    def _read(self, tensor, job):
        if self._attached.read is None:
            raise misuse(f'{tensor.name}: src is needed, for the base has no way to read')
        if job.src_dtype != tensor.dtype:
            raise ValueError(f'{tensor.name}: src_dtype without src')
        return self._attached.read(tensor.index, job.row * tensor.row_size, job.n_rows * tensor.row_size)

    def _tensor(self, tensor):
        return self.tensors[tensor.name if isinstance(tensor, ViewTensor) else tensor]

    def __repr__(self):
        return f'<View: {"closed" if self.closed else f"{len(self.tensors)} tensors"}>'


def bind(base, stack, **options):
    """
    Find for every site of every adapter its tensor of the base, and check that all fits.

    base   Model or Description
    stack  adapters in the order they are added, each an Adapter or (Adapter, weight)

    renames          {old: new} or pairs: prefixes of target names, at whole components, and what is there instead
    allow_unmatched  leave out sites that find no tensor; they are in View.sites
    any_base         do not compare digests and fingerprint of the base that the adapter was made for
    check_only       find out whether all fits; the view does not evaluate
    orientation      take linear sites as 'out-in', 'in-out' or 'shape', whatever the adapter says
    cpu              'scalar', 'avx2', 'avx512' or 'neon' instead of 'best'; the result does not depend on it

    Raises LorafmtError; of a MISMATCH its problems say everything that does not fit.
    """
    attached, stack = base._attach(), Stack(stack)
    callbacks = attached.callbacks
    with callbacks.lock:
        options, out = Options(callbacks, **options), ctypes.c_void_p()
        outcome = callbacks.attempt((attached, stack), 'bind', attached.pointer, stack.array, len(stack.array), options.struct, out)
        native = wrap_view(out, attached, stack, options)
        settle(outcome, options.problems)
    return View(native, attached, stack)


def wrap_view(out, attached, stack, options, *parents):
    """What the library returned, if it did."""
    return Native(out.value, functions().view_free, (*parents, *attached.parents, *stack.parents, *options.parents)) if out else None


def _tensors(native):
    library = functions()
    for i in range(library.view_n_tensors(native)):
        struct = library.view_get_tensor(native, i).contents
        yield ViewTensor(struct.name.decode('utf-8', 'surrogateescape'), dtype_name(struct.dtype),
                         tuple(struct.shape[:struct.n_dims]), struct.size, struct.n_rows, struct.row_size, struct.touched,
                         struct.reads_base, struct.needs_prepare, i)


def _optional(text):
    return None if text is None else decode(text)
