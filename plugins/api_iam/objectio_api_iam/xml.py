"""Answers: nested values as the XML that the AWS query protocol has for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

_SPECIAL: Final = re.compile('[&<>"\r]')
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\r": "&#xd;"}
# XML 1.0 §2.2 has no way to write these.
_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Value = Mapping[str, Any]
"""Names and values: texts, numbers, truth values, None (left out), mappings and lists of them."""


def escape(text: str) -> str:
    return _SPECIAL.sub(lambda match: _NAMED[match[0]], _ILLEGAL.sub("\ufffd", text))


def element(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        inner = "true" if value else "false"
    elif isinstance(value, Mapping):
        inner = "".join(element(key, item) for key, item in value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inner = "".join(element("member", item) for item in value)
    else:
        inner = escape(str(value))
    return f"<{name}>{inner}</{name}>"


def answer(action: str, namespace: str, result: Value | None, request_id: str) -> bytes:
    """`result` is None where an action answers nothing but that it was done."""
    inner = "" if result is None else element(f"{action}Result", result)
    metadata = element("ResponseMetadata", {"RequestId": request_id})
    return (
        f'<{action}Response xmlns="{escape(namespace)}">{inner}{metadata}</{action}Response>'
    ).encode()


def timestamp(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds // 1000, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
