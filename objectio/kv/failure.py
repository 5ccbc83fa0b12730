"""What a failing engine's exception means to the callers above the store."""

from __future__ import annotations

import errno
from typing import Final

from objectio.errors import DeviceFailed, DeviceFull, ObjectIOError, StorageError, Unavailable

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def as_storage_error(error: BaseException) -> ObjectIOError:
    """A fresh exception for one caller, with `error` as its cause.

    Fresh, since one failed batch fails many callers, and a shared exception would collect the
    traceback of every one of them.
    """
    told: ObjectIOError
    if isinstance(error, ObjectIOError):
        told = type(error)(error.message, **error.fields)
    elif isinstance(error, OSError):
        kind: type[StorageError] = DeviceFull if error.errno in _FULL else DeviceFailed
        told = kind(f"the key-value engine failed: {error}", errno=error.errno)
    else:
        told = Unavailable(f"the key-value engine failed: {error!r}")
    told.__cause__ = error
    return told
