# SPDX-License-Identifier: MIT
"""What the library owns, what it calls back, and memory that it is given: how long each lives."""
import _thread
import ctypes
import threading

from . import errors
from ._library import attempt, check


class Native:
    """
    An object of the library, passed as its address, and freed when nothing refers to this any more: not the Python object that
    stands for it, not one that was made from it, not the memory that lies in it. Closing means to let go of it.

    It is not freed in __del__: a garbage collector that finds a cycle calls that in any order, and others in the cycle may look at
    the object in theirs. What is made there is in no cycle, and goes when the memory of this is given back.
    """
    __slots__ = ('_as_parameter_', '_free', '_parents', '_last')

    def __init__(self, address, free, parents=()):
        self._as_parameter_ = address
        self._free = free
        self._parents = parents # Natives, and memory that the library looks at; nothing that could refer back to here

    def __del__(self):
        self._last = _Last(self._as_parameter_, self._free, self._parents)


class _Last:
    __slots__ = ('address', 'free', 'parents')

    def __init__(self, address, free, parents):
        self.address, self.free, self.parents = address, free, parents

    def __del__(self):
        self.free(self.address) # and then the parents


class Handle:
    """What a Python object shares with those that were made from it: the Native, until it is closed."""
    __slots__ = ('_native', '_what')

    def __init__(self, native, what):
        self._native, self._what = native, what

    def open(self):
        """The Native, which must be held as long as anything in it is looked at."""
        native = self._native
        if native is None:
            raise errors.misuse(f'the {self._what} is closed')
        return native

    def close(self):
        self._native = None

    @property
    def closed(self):
        return self._native is None


class Closing:
    """What has a handle in _handle, and can be closed."""

    def close(self):
        """Everything that is asked of it afterwards raises. What was made from it before stays good."""
        self._handle.close()

    @property
    def closed(self):
        return self._handle.closed

    def __enter__(self):
        self._handle.open()
        return self

    def __exit__(self, *unused):
        self.close()


def borrowed(address, size, owner):
    """A read-only memoryview of `size` bytes that `owner` holds."""
    if not size:
        return memoryview(b'')
    block = (ctypes.c_ubyte * size).from_address(address)
    block.owner = owner
    return memoryview(block).cast('B').toreadonly()


class _Buffer(ctypes.Structure):
    """Py_buffer, which is part of CPython's stable ABI."""
    _fields_ = [('buf', ctypes.c_void_p), ('obj', ctypes.c_void_p), ('len', ctypes.c_ssize_t), ('itemsize', ctypes.c_ssize_t),
                ('readonly', ctypes.c_int), ('ndim', ctypes.c_int), ('format', ctypes.c_void_p), ('shape', ctypes.c_void_p),
                ('strides', ctypes.c_void_p), ('suboffsets', ctypes.c_void_p), ('internal', ctypes.c_void_p)]


_FULL_READ_ONLY = 0x11c # PyBUF_FULL_RO
_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_Buffer), ctypes.c_int]
_release_buffer = ctypes.pythonapi.PyBuffer_Release
_release_buffer.argtypes = [ctypes.POINTER(_Buffer)]
_release_buffer.restype = None


class Pinned:
    """The memory of any object with the buffer protocol, which stays where it is as long as this lives."""

    def __init__(self, buffer, what, writable=False):
        try:
            self.view = memoryview(buffer)
        except TypeError:
            raise TypeError(f'{what}: {type(buffer).__name__} has no buffer protocol') from None
        if writable and self.view.readonly:
            raise ValueError(f'{what} is read-only')
        if self.view.suboffsets:
            raise ValueError(f'{what} is not one piece of memory')
        found = _Buffer()
        _get_buffer(self.view, found, _FULL_READ_ONLY)
        self.address = found.buf or 0
        _release_buffer(found)

    def rows(self, what, n_rows, row_size, stride=None):
        """
        Bytes from one row to the next, after checking that there are so many rows of so many bytes: all of a contiguous buffer, the
        first axis of one that is contiguous from the second on, or, `stride` bytes apart, the beginning of a contiguous one.
        """
        view = self.view
        needed = (n_rows - 1) * (stride or row_size) + row_size if n_rows else 0
        if stride is not None and stride < row_size:
            raise ValueError(f'{what}: a stride of {stride} bytes, a row has {row_size}')
        if view.c_contiguous and (view.nbytes == needed or (stride and view.nbytes > needed)):
            return stride or row_size
        if stride is None and view.ndim >= 2 and view.shape[0] == n_rows and view.strides[0] >= row_size:
            if self._inner_size() == row_size:
                return view.strides[0]
        raise ValueError(f'{what}: {view.nbytes} bytes{"" if view.c_contiguous else " that are not contiguous"}, must be {n_rows} '
                         f'rows of {row_size} bytes{f", {stride} apart" if stride else ""}')

    def _inner_size(self):
        """Bytes of an element of the first axis, or None when it has holes."""
        size = self.view.itemsize
        for extent, stride in reversed(list(zip(self.view.shape[1:], self.view.strides[1:]))):
            if extent != 1 and stride != size:
                return None
            size *= extent
        return size


class Callbacks:
    """
    Calls to the library that call back. What a callback raises is caught, the library is told to stop, and the exception comes out
    of the call.

    lock  to be held for a call, after check_outside(): one at a time
    """
    _inside = threading.local()

    def __init__(self):
        self.lock = threading.Lock()
        self._caught = []

    def wrap(self, prototype, function, failed):
        """`function` for the library; what failed(*arguments) returns when something was raised, here or before."""
        def wrapper(*arguments):
            if self._caught:
                return failed(*arguments)
            outer = getattr(Callbacks._inside, 'of', ())
            Callbacks._inside.of = (*outer, self)
            try:
                return function(*arguments)
            except BaseException as error:
                self._caught.append(error)
                return failed(*arguments)
            finally:
                Callbacks._inside.of = outer
        return prototype(wrapper)

    def check_outside(self):
        """A callback that calls would wait for itself."""
        if self in getattr(Callbacks._inside, 'of', ()):
            raise errors.misuse('called from one of its own callbacks')

    def attempt(self, keep, name, *arguments):
        """
        Call a function, and `keep` what it looks at meanwhile. Returns what settle() raises, if anything, when the caller has put
        away what the function returned.

        Not on the main thread: there an interrupt from the keyboard would be raised as a callback begins, before its first line and
        so before it can catch anything, and ctypes prints and forgets it. The main thread waits, where Python can raise it.
        """
        self._caught = []
        if threading.current_thread() is not threading.main_thread():
            status, error = attempt(name, *arguments)
        else:
            status, error = self._on_thread(keep, name, arguments)
        caught, self._caught = self._caught, []
        return status, error, caught

    def _on_thread(self, keep, name, arguments):
        result, done = [], _thread.allocate_lock()

        def work(_):
            try:
                result.append(attempt(name, *arguments))
            except BaseException as error: # an argument that ctypes does not take
                result.append(error)
            finally:
                done.release()
        done.acquire()
        try:
            _thread.start_new_thread(work, (keep,)) # in one step: when an interrupt comes out of it, the thread runs
        except RuntimeError:
            raise
        except BaseException as error:
            self._caught += error,
        while not result:
            try:
                done.acquire()
            except BaseException as error: # the library has to return all the same, for it has our memory
                self._caught += error,
        if isinstance(result[0], BaseException):
            raise result[0]
        return result[0]


def settle(outcome, problems=()):
    """Raise what went wrong in a call: what a callback raised, as it is, or what the library says."""
    status, error, caught = outcome
    if caught:
        raise caught.pop(0) # and keep nothing, for it knows all that is on the way to here
    check(status, error, problems)
