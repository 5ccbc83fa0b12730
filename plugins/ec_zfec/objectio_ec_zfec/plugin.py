"""Register the zfec codec."""

from __future__ import annotations

from collections.abc import Iterable

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel
from objectio.abc.erasure import CodecFactory
from objectio.errors import DriverUnavailable


def _open(config: NoConfig, context: Context) -> CodecFactory:
    try:
        from objectio_ec_zfec.codec import ZfecFactory  # the C library is loaded here
    except ImportError as error:
        raise DriverUnavailable(f"zfec cannot be loaded, install zfec>=1.5: {error}") from error
    return ZfecFactory()


@hookimpl
def objectio_register_codecs() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="zfec",
            config=NoConfig,
            open=_open,
            summary="Reed-Solomon by zfec, for machines without ISA-L",
            rank=50,
            threads=ThreadModel.PARALLEL,
        )
    ]
