"""Our errors as statuses of gRPC, and back.

Clients of other languages see the status and its message. Ours find the very exception in the trailing
metadata, as the wire carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from grpclib.const import Status

from objectio.errors import (
    AccessDenied,
    AccessError,
    AlreadyExists,
    ConfigError,
    InvalidRequest,
    NotFound,
    ObjectIOError,
    OperationNotImplemented,
    PayloadError,
    ProtocolError,
    Unauthenticated,
    Unavailable,
)
from objectio.rpc.messages import pack_error, unpack_error

ERROR_HEADER: Final = "objectio-error-bin"

_STATUSES: Final[tuple[tuple[type[ObjectIOError], Status], ...]] = (
    (AccessDenied, Status.PERMISSION_DENIED),
    (AccessError, Status.UNAUTHENTICATED),
    (NotFound, Status.NOT_FOUND),
    (AlreadyExists, Status.ALREADY_EXISTS),
    (InvalidRequest, Status.FAILED_PRECONDITION),
    (ConfigError, Status.FAILED_PRECONDITION),
    (PayloadError, Status.INVALID_ARGUMENT),
    (ProtocolError, Status.INVALID_ARGUMENT),
    (OperationNotImplemented, Status.UNIMPLEMENTED),
)


def status_of(error: ObjectIOError) -> Status:
    """Whatever has no word of its own may succeed later: UNAVAILABLE."""
    return next(
        (status for kind, status in _STATUSES if isinstance(error, kind)), Status.UNAVAILABLE
    )


def metadata_of(error: ObjectIOError) -> dict[str, bytes]:
    return {ERROR_HEADER: pack_error(error)}


def error_of(
    status: Status, message: str | None, metadata: Mapping[str, str | bytes] | None
) -> ObjectIOError:
    raw = (metadata or {}).get(ERROR_HEADER)
    if isinstance(raw, bytes):
        return unpack_error(raw)
    told = f"{status.name}: {message or 'no reason given'}"
    if status is Status.UNAUTHENTICATED:
        return Unauthenticated(told, reason="other")
    if status is Status.UNIMPLEMENTED:
        return OperationNotImplemented(told, reason="method")
    return Unavailable(told, reason="status")
