"""The processes that one supervisor runs: any of them that clients reach shows the health and the
numbers of all.

Each has a Unix socket `<name>.http` in the supervisor's directory, where it answers `/health` and
`/metrics` for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from objectio.abc.metrics import Exporter
from objectio.limits import MIB

SUFFIX: Final = ".http"
ANSWER_SECONDS_MAX: Final = 1.0
"""Who does not answer in that time is shown as down."""
_ANSWER_BYTES_MAX: Final = 64 * MIB
_CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_UP: Final = "objectio_process_up"
_UP_HEAD: Final = f"# HELP {_UP} Whether the process answers.\n# TYPE {_UP} gauge\n"


class Neighbours:
    """`name` is that of this process, whose numbers are not asked for over a socket."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name

    async def health(self, *, ok: bool) -> dict[str, str]:
        """What each process says, `ok` being what this one does: ok, unavailable, or down for one
        that does not answer."""
        answers = await self._ask("/health")
        said = {name: _status(answer) for name, answer in answers.items()}
        said[self._name] = "ok" if ok else "unavailable"
        return dict(sorted(said.items()))

    async def metrics(self, exporter: Exporter) -> tuple[str, bytes]:
        """(content type, text): see `merge`. An exporter of another format is shown alone."""
        content_type, own = exporter.render("text/plain")
        if not content_type.startswith("text/plain"):
            return content_type, own
        answers = await self._ask("/metrics")
        texts = {name: answer.decode() for name, answer in answers.items() if answer is not None}
        texts[self._name] = own.decode()
        ups = {name: name in texts for name in {*answers, self._name}}
        return _CONTENT_TYPE, (merge(texts) + _show_ups(ups)).encode()

    async def _ask(self, path: str) -> dict[str, bytes | None]:
        """The others' answers; None from who gives none."""
        found = {
            socket.name.removesuffix(SUFFIX): socket
            for socket in self._directory.glob(f"*{SUFFIX}")
        }
        found.pop(self._name, None)
        answers = await asyncio.gather(*(ask(socket, path) for socket in found.values()))
        return {
            name: None if answer is None else answer.body
            for name, answer in zip(found, answers, strict=True)
        }


def merge(texts: Mapping[str, str]) -> str:
    """One text of Prometheus' format 0.0.4 out of those of several processes.

    Every sample gets the label `process`, the name of the process that it is from; nothing is added
    up, so that a counter that begins anew with its process is seen to. A metric stands once, with
    the help and type that the first process gives it, and the samples of all processes below.
    """
    heads: dict[str, list[str]] = {}
    samples: dict[str, list[str]] = {}
    for process, text in sorted(texts.items()):
        family, known = "", True
        for line in text.splitlines():
            if line.startswith("# "):
                name = line.split(" ", 3)[2]
                if name != family:
                    family, known = name, name in heads
                if not known:
                    heads.setdefault(name, []).append(line)
            elif line:
                samples.setdefault(family, []).append(_labelled(line, process))
    families = {**dict.fromkeys(heads), **dict.fromkeys(samples)}
    lines = [line for name in families for line in (*heads.get(name, ()), *samples.get(name, ()))]
    return "".join(f"{line}\n" for line in lines)


def _labelled(sample: str, process: str) -> str:
    label = f'process="{process}"'
    name, brace, rest = sample.partition("{")
    if brace and " " not in name:
        return f"{name}{{{label}{'' if rest.startswith('}') else ','}{rest}"
    name, _, value = sample.partition(" ")
    return f"{name}{{{label}}} {value}"


def _show_ups(ups: Mapping[str, bool]) -> str:
    rows: Iterable[str] = (
        f'{_UP}{{process="{name}"}} {int(up)}\n' for name, up in sorted(ups.items())
    )
    return _UP_HEAD + "".join(rows)


def _status(answer: bytes | None) -> str:
    if answer is None:
        return "down"
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(answer)["status"])
    return "unavailable"


class Answer(NamedTuple):
    status: int
    body: bytes


async def ask(socket: Path, path: str) -> Answer | None:
    """What one process answers to a GET; None if there is nothing in time."""
    writer = None
    try:
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            reader, writer = await asyncio.open_unix_connection(socket, limit=_ANSWER_BYTES_MAX)
            writer.write(b"GET %b HTTP/1.1\r\nhost: _\r\nconnection: close\r\n\r\n" % path.encode())
            answer = await reader.read(-1)
    except (OSError, TimeoutError):
        return None
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    return Answer(int(words[1]), body) if len(words) == 3 and words[1].isdigit() else None
