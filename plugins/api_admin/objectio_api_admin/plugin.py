"""Register the operators' API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel

if TYPE_CHECKING:
    from objectio_api_admin.frontend import AdminFactory


def _open(config: NoConfig, context: Context) -> AdminFactory:
    from objectio_api_admin.frontend import AdminFactory

    return AdminFactory()


@hookimpl
def objectio_register_apis() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="admin",
            config=NoConfig,
            open=_open,
            summary="What operators ask and order, as JSON at /_admin",
            threads=ThreadModel.SERIALIZE_ALL,
        )
    ]
