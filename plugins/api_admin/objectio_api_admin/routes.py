"""The routes: which method of which path means what. What is in no table does not exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.errors import MethodNotAllowed, NotFound
from objectio_api_admin import (
    accounts,
    buckets,
    cluster,
    disks,
    groups,
    inline,
    keys,
    nodes,
    openapi,
    policies,
    quotas,
    roles,
    settings,
    storage,
    tokens,
    users,
    watch,
)
from objectio_api_admin.shapes import (
    OSD,
    PARAMETERS,
    PREFIX,
    MalformedRequest,
    Operation,
    Order,
    Route,
)

BODY_BYTES_MAX: Final = 64 * 1024

_TOPICS: Final = (
    disks,
    storage,
    cluster,
    nodes,
    settings,
    watch,
    accounts,
    users,
    keys,
    groups,
    policies,
    roles,
    inline,
    buckets,
    quotas,
    tokens,
)


@cache
def openapi_document() -> dict[str, Any]:
    return openapi.document({name: (said, table) for name, said, table in _tables()})


async def _openapi(context: ApiContext, order: Order) -> msgspec.Raw:
    return _encoded_document()


@cache
def _encoded_document() -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(openapi_document()))


_ABOUT: Final = (
    Route(
        "GET",
        "/v1/openapi.json",
        "GetOpenApi",
        "openapi",
        _openapi,
        "context",
        returns=dict[str, Any],
        summary="Says all of this as an OpenAPI document.",
    ),
)


def _tables() -> Iterator[tuple[str, str, Sequence[Route]]]:
    """Of each topic: its name, a sentence, its routes."""
    for module in _TOPICS:
        said = (module.__doc__ or "").partition("\n\n")[0]
        yield module.__name__.rpartition(".")[2], " ".join(said.split()), module.ROUTES
    yield "openapi", "This document.", _ABOUT


ROUTES: Final = tuple(route for _, _, table in _tables() for route in table)

_Template = tuple[str, ...]
_BY_LENGTH: Final[dict[int, dict[_Template, dict[str, Route]]]] = {}
for _route in ROUTES:
    _template = tuple(_route.path.split("/")[1:])
    _BY_LENGTH.setdefault(len(_template), {}).setdefault(_template, {})[_route.method] = _route


def find(method: str, path: bytes, query: bytes) -> Operation:
    """`path` is raw: a name is escaped where it must be, and nothing else may be."""
    try:
        segments = path.decode("ascii").removeprefix(PREFIX).split("/")[1:]
    except UnicodeDecodeError:
        segments = []
    template, by_method = _match(segments)
    try:
        read = {
            word: PARAMETERS[word](segment)
            for word, segment in zip(template, segments, strict=True)
            if word in PARAMETERS
        }
    except UnicodeDecodeError:
        raise NotFound("this is no name", kind="path") from None
    route = by_method.get(method)
    if route is None:
        raise MethodNotAllowed("method", method=method, allowed=sorted(by_method))
    if query:
        raise MalformedRequest("a query string means nothing here")
    words = route.resource.split("/")
    resource = "/".join(read[word][1] if word in read else word for word in words)
    osd = int(read[OSD][0]) if OSD in read else -1
    return Operation(route, resource, osd, {word[1:-1]: name for word, (name, _) in read.items()})


def _match(segments: list[str]) -> tuple[_Template, dict[str, Route]]:
    for template, by_method in _BY_LENGTH.get(len(segments), {}).items():
        if all(
            word in PARAMETERS or word == segment
            for word, segment in zip(template, segments, strict=True)
        ):
            return template, by_method
    raise NotFound("there is no such thing to ask for", kind="path")
