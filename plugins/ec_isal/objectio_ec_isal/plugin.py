"""Register the ISA-L codec."""

from __future__ import annotations

from collections.abc import Iterable

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel
from objectio.abc.erasure import CodecFactory


def _open(config: NoConfig, context: Context) -> CodecFactory:
    from objectio_ec_isal.codec import IsalFactory  # the C library is loaded here

    return IsalFactory()


@hookimpl
def objectio_register_codecs() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="isal",
            config=NoConfig,
            open=_open,
            summary="Reed-Solomon by ISA-L, gigabytes per second on one core",
            rank=100,
            threads=ThreadModel.PARALLEL,
        )
    ]
