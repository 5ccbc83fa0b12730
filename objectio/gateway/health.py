"""What is said to who asks whether it works. Nobody signs these requests, so counts are all that is told.

    /health          whether this process can serve what it is for, and what its neighbours say
    /health/live     this process answers: if it does not, it must be started anew
    /health/ready    this process can serve its requests: if it cannot, send them elsewhere
    /health/cluster  everything stored can be read, and everything new can be written: as far as this
                     process knows which OSDs are up, whoever they belong to

All are 200 if so, and else 503. A process that knows of no OSDs but its own is no one to ask about the
cluster, and says 404.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from objectio.abc.api import Response
from objectio.gateway.neighbours import Neighbours
from objectio.store.reach import ReachOfStripes

HEALTH: Final = b"/health"
PATHS: Final = frozenset((HEALTH, b"/health/live", b"/health/ready", b"/health/cluster"))


class Health:
    """`report` is what the node says of its roles; a falsy "ok" is a 503."""

    def __init__(
        self,
        report: Callable[[], Mapping[str, Any]] | None = None,
        reach: ReachOfStripes | None = None,
        neighbours: Neighbours | None = None,
    ) -> None:
        self._report = report
        self._reach = reach
        self._neighbours = neighbours

    async def answer(self, path: bytes, *, alone: bool) -> Response:
        """`path` is one of `PATHS`. `alone`: without asking the neighbours."""
        if path == b"/health/live":
            return _answer(True)
        ok = self._report is None or bool(self._report().get("ok"))
        if path == b"/health/ready":
            return _answer(ok)
        if path == b"/health/cluster":
            return self._answer_cluster(ok)
        if self._neighbours is None or alone:
            return _answer(ok)
        return _answer(ok, processes=await self._neighbours.health(ok=ok))

    def _answer_cluster(self, ok: bool) -> Response:
        if self._reach is None:
            return _respond(404, {"status": "unknown"})
        reach = self._reach.now()
        said = reach._asdict()
        del said["serving"]
        return _answer(ok and reach.whole, **said)


def _answer(ok: bool, **more: object) -> Response:
    return _respond(200 if ok else 503, {"status": "ok" if ok else "unavailable", **more})


def _respond(status: int, said: Mapping[str, object]) -> Response:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Response(status, headers, json.dumps(said).encode())
