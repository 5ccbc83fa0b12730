"""Log lines as JSON, one object for each; and as text, in which no message can pass for another line.

What is logged as `objectio.gateway.requestlog.Line` has facts: as JSON each has a key of its own.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final

_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_OF_THE_LINE: Final = frozenset(("time", "level", "process", "logger", "message", "exception"))


class JsonFormatter(logging.Formatter):
    """`process` is in each line, unless it is empty. Times are UTC (RFC 3339)."""

    def __init__(self, process: str = "") -> None:
        super().__init__()
        self._process = {"process": process} if process else {}

    def format(self, record: logging.LogRecord) -> str:
        said: Any = record.msg
        facts = getattr(said, "facts", None)
        line: dict[str, object] = {
            "time": _timestamp(record.created),
            "level": record.levelname.lower(),
            **self._process,
            "logger": record.name,
            "message": record.getMessage() if facts is None else said.message or "request",
        }
        if facts is not None:
            line |= {key: facts[key] for key in facts if key not in _OF_THE_LINE}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """Control characters of a message are escaped, and lines of a traceback are indented: what a client
    sends may be in both."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - of the base class
        record.message = _CONTROLS.sub(_escape, record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - of the base class
        text = super().formatException(ei)  # type: ignore[arg-type]
        return "\n".join("  " + _CONTROLS.sub(_escape, line) for line in text.splitlines())


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape", "surrogatepass").decode()


def _timestamp(seconds: float) -> str:
    at = datetime.fromtimestamp(seconds, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
