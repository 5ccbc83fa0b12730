"""Block targets: protocols that show volumes to machines, as sans-IO state machines.

A target turns bytes into requests and completions into bytes; it never sees a socket, a clock or a
thread. The kernel has one socket loop (`objectio.block`) for all of them, which also does bounds
checks, QoS and the bound on bytes in flight. The triple is `receive_data` → `requests` →
`data_to_send`, with `complete` in between; requests may be completed in any order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from typing_extensions import Buffer


class ExportInfo(NamedTuple):
    """One volume as a target may show it."""

    name: str
    size_bytes: int
    block_size_bytes: int
    read_only: bool


class Read(NamedTuple):
    tag: object
    export: str
    offset: int
    length: int


class Write(NamedTuple):
    """`fua`: durable before it completes (force unit access)."""

    tag: object
    export: str
    offset: int
    data: Buffer
    fua: bool


class Flush(NamedTuple):
    tag: object
    export: str


class Trim(NamedTuple):
    tag: object
    export: str
    offset: int
    length: int


class WriteZeroes(NamedTuple):
    """`may_trim`: the range may be deallocated, as long as it reads as zeroes."""

    tag: object
    export: str
    offset: int
    length: int
    may_trim: bool
    fua: bool


BlockRequest = Read | Write | Flush | Trim | WriteZeroes


class BlockProtocol(Protocol):
    """One connection."""

    def receive_data(self, data: memoryview) -> None:
        """Take bytes from the peer. Raises `RemoteProtocolError` when the connection must end."""
        ...

    def receive_eof(self) -> None: ...

    def requests(self) -> Sequence[BlockRequest]:
        """Requests that became complete since the last call."""
        ...

    def complete(self, request: BlockRequest, result: Buffer | Exception | None) -> None:
        """Data for a read, None for success of the others, or the error."""
        ...

    def data_to_send(self) -> Sequence[Buffer]:
        """Bytes for the peer since the last call."""
        ...

    @property
    def closing(self) -> bool: ...


class BlockTarget(Protocol):
    """What `Driver.open` of a block target returns."""

    @property
    def default_port(self) -> int: ...

    def connect(self, exports: Mapping[str, ExportInfo]) -> BlockProtocol: ...
