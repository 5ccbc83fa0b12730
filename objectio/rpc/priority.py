"""Which calls may wait: repair, scrub and rebalancing come after what people wait for.

    with background():
        await store.read(key)

It follows the task, through everything that it awaits, so that contracts need no argument for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_BACKGROUND: Final[ContextVar[bool]] = ContextVar("objectio.rpc.background", default=False)

is_background: Final = _BACKGROUND.get


@contextmanager
def background() -> Iterator[None]:
    """Calls that are made within may wait for all others."""
    token = _BACKGROUND.set(True)
    try:
        yield
    finally:
        _BACKGROUND.reset(token)
