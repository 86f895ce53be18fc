# SPDX-License-Identifier: MIT
"""Finding liblorafmt, and making sure that it is the one whose structs are in _c.py."""
import ctypes
import ctypes.util
import operator
import os
import threading
import types

from . import _c
from .errors import LibraryError, from_c

ENVIRONMENT = 'LORAFMT_LIBRARY'

_lock = threading.Lock()
_loaded = None  # (path, release, functions)


def load(path=None):
    """
    Load liblorafmt: `path`, else what the environment variable LORAFMT_LIBRARY names, else the system's. Everything else in this
    package calls this when it has to, so that it is needed only to give a path.

    Returns the release of the library, as '0.1.0'.
    """
    global _loaded
    with _lock:
        if _loaded and path is not None and os.path.realpath(os.fspath(path)) != os.path.realpath(_loaded[0]):
            raise LibraryError(f'{_loaded[0]} is loaded already; {os.fspath(path)} cannot be too')
        if not _loaded:
            _loaded = _open(path)
        return _loaded[1]


def functions():
    """The functions of the library, by their names without the prefix."""
    if not _loaded:
        load()
    return _loaded[2]


def call(name, *arguments):
    """Call a function that returns a status and whose last parameter is an error; raise what it says."""
    check(*attempt(name, *arguments))


def attempt(name, *arguments):
    """The same, but return status and error."""
    error = _c.Error()
    return getattr(functions(), name)(*arguments, error), error


def check(status, error, problems=()):
    if status != _c.OK:
        raise from_c(functions(), status, error, problems)


def _candidates(path):
    """Where to look, in words and as what ctypes takes."""
    if path is not None:
        yield 'the path given', os.fspath(path)
    elif os.environ.get(ENVIRONMENT):
        yield ENVIRONMENT, os.environ[ENVIRONMENT]
    else:
        found = ctypes.util.find_library('lorafmt')
        if found:
            yield 'found on the system', found
        yield 'a name that the system knows', 'liblorafmt.so.0'


def _open(path):
    tried = []
    for where, name in _candidates(path):
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            tried.append(f'{name} ({where}): {error}')
        else:
            return (name, *_check(name, library))
    raise LibraryError('; '.join(tried) + ('' if path is not None else
                       f'. Install liblorafmt, or say where it is: {ENVIRONMENT}=/PATH/TO/liblorafmt.so or lorafmt.load(PATH)'))


def _check(name, library):
    """Release and functions of a library, or what is wrong with it."""
    try:
        library.lorafmt_release.restype = ctypes.c_char_p
        release = library.lorafmt_release().decode('ascii', 'replace')
    except AttributeError:
        raise LibraryError(f'{name}: not liblorafmt, it has no lorafmt_release()') from None
    if release.split('.')[:2] != _c.RELEASE.split('.'):
        raise LibraryError(f'{name}: liblorafmt {release}, this package is for {_c.RELEASE}.*')
    table = types.SimpleNamespace()
    for function, (result, parameters) in _c.PROTOTYPES.items():
        try:
            entry = getattr(library, 'lorafmt_' + function)
        except AttributeError:
            raise LibraryError(f'{name}: liblorafmt {release} without lorafmt_{function}(), which this package needs') from None
        entry.restype, entry.argtypes = result, parameters
        setattr(table, function, entry)
    _check_structs(f'{name}: liblorafmt {release}', table)
    return release, table


def _check_structs(library, table):
    """Ask for nothing, and see that what the library complains of is that, not the size of a struct."""
    out, error = ctypes.c_void_p(), _c.Error()
    base = sized(_c.Base)
    table.source_open(b'', sized(_c.SourceOptions, base=ctypes.pointer(base)), out, error)
    questions = [('source_options or base', error)]
    for struct, ask in (('bind_options', lambda error: table.bind(None, None, 0, sized(_c.BindOptions), out, error)),
                        ('runtime_options', lambda error: table.runtime_new(None, None, sized(_c.RuntimeOptions), out, error))):
        error = _c.Error()
        ask(error)
        questions.append((struct, error))
    for struct, error in questions:
        if not error.text or error.field == b'struct_size':
            raise LibraryError(f'{library} has another struct lorafmt_{struct} than this package: '
                               f'{error.text.decode("utf-8", "replace")}')


def sized(struct, **fields):
    """A struct that begins with its size."""
    return struct(struct_size=ctypes.sizeof(struct), **fields)


def encode(text, what):
    """A text for the library."""
    data = text if isinstance(text, bytes) else text.encode('utf-8', 'surrogateescape')
    if b'\0' in data:
        raise ValueError(f'{what} with a NUL character: {text!r}')
    return data


def encode_path(path):
    data = os.fsencode(path)
    if b'\0' in data:
        raise ValueError(f'a path with a NUL character: {path!r}')
    return data


def choose(names, value, what):
    """The number of a name."""
    if value not in names:
        raise ValueError(f'{what} {value!r}, must be one of {", ".join(map(repr, names))}')
    return names.index(value)


def uint(value, what, bits=64):
    """A whole number that C can hold: ctypes would take any, and cut it."""
    value = operator.index(value)
    if not 0 <= value < 1 << bits:
        raise ValueError(f'{what} {value}, must be 0..{(1 << bits) - 1}')
    return value
