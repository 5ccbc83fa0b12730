"""Register the S3 API."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, ThreadModel
from objectio.errors import DriverUnavailable
from objectio_api_s3.config import S3Config

if TYPE_CHECKING:
    from objectio_api_s3.frontend import S3Factory


def _open(config: S3Config, context: Context) -> S3Factory:
    try:
        from objectio_api_s3.frontend import S3Factory
    except ImportError as error:
        raise DriverUnavailable(
            f"the S3 API needs {error.name}: install objectio-api-s3 with its dependencies"
        ) from error
    return S3Factory(config)


@hookimpl
def objectio_register_apis() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="s3",
            config=S3Config,
            open=_open,
            summary="The S3 API, path style and virtual-host style",
            rank=100,
            threads=ThreadModel.SERIALIZE_ALL,
        )
    ]
