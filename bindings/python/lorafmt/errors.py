# SPDX-License-Identifier: MIT
"""What goes wrong."""
import collections
import ctypes
import os

from . import _c

Problem = collections.namedtuple('Problem', 'adapter target text')
Problem.__doc__ = 'One thing of an adapter that does not fit a base.'


class LibraryError(OSError):
    """liblorafmt is not there, or is not one that this package can use; the text says which were looked at."""


class LorafmtError(Exception):
    """
    What the library refused, and why.

    status    'NOT_LORAFMT', 'UNSUPPORTED', 'CORRUPT', 'LIMIT', 'NO_MEMORY', 'IO', 'NOT_FOUND', 'MISMATCH', 'MISUSE',
              'CANCELLED' or 'UNTRUSTED'
    text      what was found and what is allowed; str() has file, field and offset before it
    file, field, offset, os_error   where, each None when there is nothing to say
    hint      what can be done about it: 'BASE', 'ALPHA', 'EXPERTS', 'ORIENTATION', 'MAP', 'ANY_BASE' or None
    problems  of a MISMATCH, everything that does not fit: tuples (adapter, target, text)
    """

    def __init__(self, message, status, text=None, file=None, field=None, offset=None, hint=None, os_error=None, problems=()):
        super().__init__(message, status, text, file, field, offset, hint, os_error, problems)
        self.status = status
        self.text = message if text is None else text
        self.file = file
        self.field = field
        self.offset = offset
        self.hint = hint
        self.os_error = os_error
        self.problems = tuple(problems)

    def __str__(self):
        return self.args[0]


def misuse(text):
    """An error like those of the library for what is not even asked of it."""
    return LorafmtError(text, 'MISUSE')


def from_c(functions, status, error, problems=()):
    """The exception for what a function of the library returned."""
    hint = _c.HINTS[error.hint] if error.hint < len(_c.HINTS) else str(error.hint)
    return LorafmtError(format_error(functions, error), functions.status_name(status).decode(), decode(error.text),
                        os.fsdecode(error.file) or None, decode(error.field) or None,
                        None if error.offset == _c.NO_OFFSET else error.offset, None if hint == 'NONE' else hint,
                        error.os_error or None, problems)


def format_error(functions, error):
    buffer = ctypes.create_string_buffer(4096)
    functions.error_format(error, buffer, len(buffer))
    return decode(buffer.value)


def decode(text):
    """A text of the library, which may have been cut inside a character."""
    return text.decode('utf-8', 'replace')
