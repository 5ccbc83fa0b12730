"""The audit log, for orders of operators that come on another way than HTTP.

The process that has the metadata takes some on the control plane. Whoever keeps the audit log there provides
it as the part `orders`; where there is none, none is kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

Ended = Callable[[str, str], Awaitable[None]]
"""With the status, and the name of the error if there was one. It raises nothing."""


class OrderLog(Protocol):
    async def begin_order(self, action: str, resource: str, access_key: str, source: str) -> Ended:
        """By the root, who signed with that key, from that address; before anything is done. Raises
        `Unavailable`: then nothing may be."""
        ...

    def deny_order(self, action: str, access_key: str, source: str, code: str) -> None:
        """`access_key` is what was claimed, if anything was."""
        ...
