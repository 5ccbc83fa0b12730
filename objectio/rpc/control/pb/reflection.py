"""Generated from the .proto files by `make proto`: not to be edited."""

from dataclasses import dataclass

import betterproto2

from objectio.rpc.control.pb.pool import default_message_pool

_COMPILER_VERSION = "0.10.1"
betterproto2.check_compiler_version(_COMPILER_VERSION)


@dataclass(eq=False, repr=False)
class ErrorResponse(betterproto2.Message):
    error_code: "int" = betterproto2.field(1, betterproto2.TYPE_INT32)

    error_message: "str" = betterproto2.field(2, betterproto2.TYPE_STRING)


default_message_pool.register_message("grpc.reflection.v1", "ErrorResponse", ErrorResponse)


@dataclass(eq=False, repr=False)
class ExtensionNumberResponse(betterproto2.Message):
    base_type_name: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    extension_number: "list[int]" = betterproto2.field(2, betterproto2.TYPE_INT32, repeated=True)


default_message_pool.register_message(
    "grpc.reflection.v1", "ExtensionNumberResponse", ExtensionNumberResponse
)


@dataclass(eq=False, repr=False)
class ExtensionRequest(betterproto2.Message):
    containing_type: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    extension_number: "int" = betterproto2.field(2, betterproto2.TYPE_INT32)


default_message_pool.register_message("grpc.reflection.v1", "ExtensionRequest", ExtensionRequest)


@dataclass(eq=False, repr=False)
class FileDescriptorResponse(betterproto2.Message):
    file_descriptor_proto: "list[bytes]" = betterproto2.field(
        1, betterproto2.TYPE_BYTES, repeated=True
    )


default_message_pool.register_message(
    "grpc.reflection.v1", "FileDescriptorResponse", FileDescriptorResponse
)


@dataclass(eq=False, repr=False)
class ListServiceResponse(betterproto2.Message):
    service: "list[ServiceResponse]" = betterproto2.field(
        1, betterproto2.TYPE_MESSAGE, repeated=True
    )


default_message_pool.register_message(
    "grpc.reflection.v1", "ListServiceResponse", ListServiceResponse
)


@dataclass(eq=False, repr=False)
class ServerReflectionRequest(betterproto2.Message):
    """


    Oneofs:
        - message_request:
    """

    host: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    file_by_filename: "str | None" = betterproto2.field(
        3, betterproto2.TYPE_STRING, optional=True, group="message_request"
    )

    file_containing_symbol: "str | None" = betterproto2.field(
        4, betterproto2.TYPE_STRING, optional=True, group="message_request"
    )

    file_containing_extension: "ExtensionRequest | None" = betterproto2.field(
        5, betterproto2.TYPE_MESSAGE, optional=True, group="message_request"
    )

    all_extension_numbers_of_type: "str | None" = betterproto2.field(
        6, betterproto2.TYPE_STRING, optional=True, group="message_request"
    )

    list_services: "str | None" = betterproto2.field(
        7, betterproto2.TYPE_STRING, optional=True, group="message_request"
    )


default_message_pool.register_message(
    "grpc.reflection.v1", "ServerReflectionRequest", ServerReflectionRequest
)


@dataclass(eq=False, repr=False)
class ServerReflectionResponse(betterproto2.Message):
    """


    Oneofs:
        - message_response:
    """

    valid_host: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)

    original_request: "ServerReflectionRequest | None" = betterproto2.field(
        2, betterproto2.TYPE_MESSAGE, optional=True
    )

    file_descriptor_response: "FileDescriptorResponse | None" = betterproto2.field(
        4, betterproto2.TYPE_MESSAGE, optional=True, group="message_response"
    )

    all_extension_numbers_response: "ExtensionNumberResponse | None" = betterproto2.field(
        5, betterproto2.TYPE_MESSAGE, optional=True, group="message_response"
    )

    list_services_response: "ListServiceResponse | None" = betterproto2.field(
        6, betterproto2.TYPE_MESSAGE, optional=True, group="message_response"
    )

    error_response: "ErrorResponse | None" = betterproto2.field(
        7, betterproto2.TYPE_MESSAGE, optional=True, group="message_response"
    )


default_message_pool.register_message(
    "grpc.reflection.v1", "ServerReflectionResponse", ServerReflectionResponse
)


@dataclass(eq=False, repr=False)
class ServiceResponse(betterproto2.Message):
    name: "str" = betterproto2.field(1, betterproto2.TYPE_STRING)


default_message_pool.register_message("grpc.reflection.v1", "ServiceResponse", ServiceResponse)
