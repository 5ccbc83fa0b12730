"""Register the IAM and STS APIs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, ThreadModel
from objectio.errors import DriverUnavailable
from objectio_api_iam.config import IamConfig

if TYPE_CHECKING:
    from objectio_api_iam.frontend import IamFactory


def _open(config: IamConfig, context: Context) -> IamFactory:
    try:
        from objectio_api_iam.frontend import IamFactory
    except ImportError as error:
        raise DriverUnavailable(
            f"the IAM API needs {error.name}: install objectio-api-iam with its dependencies"
        ) from error
    return IamFactory(config)


@hookimpl
def objectio_register_apis() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="iam",
            config=IamConfig,
            open=_open,
            summary="Users, roles, policies and temporary credentials, as AWS IAM and STS",
            threads=ThreadModel.SERIALIZE_ALL,
        )
    ]
