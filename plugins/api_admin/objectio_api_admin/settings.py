"""The configuration in force of the process that answers, without its secrets.

What is secret is shown as "…" (`objectio.config.shown`): it never gets here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.errors import OperationNotImplemented
from objectio_api_admin.shapes import ELSEWHERE, Order, Route


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`config` has the sections as the file has them, with what the environment and the command line
    override: tables of drivers stand in their sections, complete with defaults. `node` is the name of
    the process, `source` the file."""

    node: str
    source: str | None
    config: Mapping[str, Mapping[str, Any]]


async def get_config(context: ApiContext, order: Order) -> Settings:
    if not context.configuration:
        raise OperationNotImplemented(
            "this process does not tell its configuration", reason=ELSEWHERE
        )
    return msgspec.convert(context.configuration, Settings)


ROUTES: Final = (
    Route(
        "GET",
        "/v1/config",
        "GetConfig",
        "config",
        get_config,
        "context",
        returns=Settings,
        summary="Shows the configuration in force of the process that answers.",
    ),
)
