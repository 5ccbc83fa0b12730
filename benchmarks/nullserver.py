"""The yardstick server: `python -m benchmarks.nullserver PORT`.

The HTTP server that the gateway uses (uvicorn on uvloop with httptools), and behind it a handler
that does nothing: what remains is the cost of HTTP in Python.

    GET /stream/N      N bytes, in pieces of 1 MiB
    GET, PUT, … else   takes the body in, throws it away, answers 200 and nothing
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

from objectio.limits import MIB

_PIECE = bytes(MIB)
_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
_EMPTY = {"type": "http.response.body", "body": b""}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"].startswith("/stream/"):
        await _stream(int(scope["path"].removeprefix("/stream/")), send)
        return
    while (await receive()).get("more_body", False):
        pass
    await send(_START)
    await send(_EMPTY)


async def _stream(left: int, send: Any) -> None:
    headers = [(b"content-length", b"%d" % left)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while left > 0:
        piece = _PIECE if left >= len(_PIECE) else _PIECE[:left]
        left -= len(piece)
        await send({"type": "http.response.body", "body": piece, "more_body": left > 0})


if __name__ == "__main__":
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        server_header=False,
    )
