"""Register the codec of locally repairable codes."""

from __future__ import annotations

from collections.abc import Iterable

from objectio import hookimpl
from objectio.abc.context import Context
from objectio.abc.driver import AnyDriver, Driver, NoConfig, ThreadModel
from objectio.abc.erasure import CodecFactory


def _open(config: NoConfig, context: Context) -> CodecFactory:
    from objectio_ec_lrc.codec import LrcFactory  # the C library is loaded here

    return LrcFactory()


@hookimpl
def objectio_register_codecs() -> Iterable[AnyDriver]:
    return [
        Driver(
            name="lrc",
            config=NoConfig,
            open=_open,
            summary="Locally repairable codes over ISA-L: one lost shard costs its group only",
            rank=90,
            threads=ThreadModel.PARALLEL,
        )
    ]
