"""Server reflection: clients such as grpcurl ask which services there are, and for their descriptors.

https://github.com/grpc/grpc/blob/master/doc/server-reflection.md
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import betterproto2
from grpclib.const import Status

from objectio.rpc.control.descriptors import File, files
from objectio.rpc.control.pb.reflection import (
    ErrorResponse,
    ExtensionNumberResponse,
    FileDescriptorResponse,
    ListServiceResponse,
    ServerReflectionRequest,
    ServerReflectionResponse,
    ServiceResponse,
)

_NOT_FOUND: Final = Status.NOT_FOUND.value


def answer(request: ServerReflectionRequest) -> ServerReflectionResponse:
    reply = ServerReflectionResponse(valid_host=request.host, original_request=request)
    asked, value = betterproto2.which_one_of(request, "message_request")
    if asked == "list_services":
        names = sorted(name for file in files() for name in file.services)
        reply.list_services_response = ListServiceResponse([ServiceResponse(n) for n in names])
    elif asked == "file_by_filename":
        _give(reply, lambda file: file.name == value, f"no file {value}")
    elif asked == "file_containing_symbol":
        _give(reply, lambda file: value in file.symbols, f"no symbol {value}")
    elif asked == "all_extension_numbers_of_type":
        if any(value in file.symbols for file in files()):
            reply.all_extension_numbers_response = ExtensionNumberResponse(str(value))
        else:
            reply.error_response = ErrorResponse(_NOT_FOUND, f"no type {value}")
    else:
        reply.error_response = ErrorResponse(_NOT_FOUND, "there are no extensions")
    return reply


def _give(reply: ServerReflectionResponse, wanted: Callable[[File], bool], missing: str) -> None:
    """No file needs another one, so there is one at most."""
    found = [file.raw for file in files() if wanted(file)]
    if found:
        reply.file_descriptor_response = FileDescriptorResponse(found)
    else:
        reply.error_response = ErrorResponse(_NOT_FOUND, missing)
