"""Writing XML: escaping, and the documents' frame.

Documents are put together from f-strings, because a listing must cost microseconds per key.
Whatever comes from outside passes `escape` or an `Encoder`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final
from urllib.parse import quote_from_bytes

PROLOG: Final = '<?xml version="1.0" encoding="UTF-8"?>\n'
NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"

# XML 1.0 §2.2 has no way to write most control characters; S3 writes references to them all the
# same, and clients that list such keys ask for encoding-type=url. References to the three that XML
# allows keep them from being normalised (§2.11, §3.3.3).
_SPECIAL: Final = re.compile('[&<>"\x00-\x1f\x7f\ufffe\uffff]')
_ILLEGAL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_NAMED: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"}

# What is sent as it is under encoding-type=url, as S3 does: unreserved characters, "*" and "/".
_URL_SAFE: Final = "/*-._~"
_PLAIN_URL: Final = re.compile(rb"[A-Za-z0-9/*\-._~]*")

Encoder = Callable[[bytes], str]
"""Makes of a key what stands in an element."""


def _reference(match: re.Match[str]) -> str:
    character = match[0]
    return _NAMED.get(character) or f"&#x{ord(character):x};"


def escape(text: str) -> str:
    """`text` as the content of an element or attribute."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(_reference, text)


def escape_strictly(text: str) -> str:
    """The same without what XML 1.0 cannot hold, for documents that any client must be able to
    read."""
    return escape(_ILLEGAL.sub("\ufffd", text))


def encode_plain(key: bytes) -> str:
    """Bytes that are no UTF-8 cannot be shown in XML: they become U+FFFD."""
    return escape(key.decode("utf-8", "replace"))


def encode_url(key: bytes) -> str:
    if _PLAIN_URL.fullmatch(key) is not None:
        return key.decode("ascii")
    return quote_from_bytes(key, _URL_SAFE)


def encode_shown(key: bytes) -> str:
    """As it is, if XML can hold it. So the first version of the listing shows its prefix under
    encoding-type=url too: boto3, which asks for that unseen, decodes all but this one."""
    try:
        text = key.decode()
    except UnicodeDecodeError:
        return encode_url(key)
    return encode_url(key) if _ILLEGAL.search(text) else escape(text)


def element(name: str, value: str) -> str:
    return f"<{name}>{escape(value)}</{name}>"


def optional(name: str, value: str | None) -> str:
    """Nothing at all if there is no value."""
    return f"<{name}>{escape(value)}</{name}>" if value else ""


def owner(name: str, tag: str = "Owner") -> str:
    shown = escape(name)
    return f"<{tag}><ID>{shown}</ID><DisplayName>{shown}</DisplayName></{tag}>"


def document(root: str, inner: str) -> bytes:
    return f'{PROLOG}<{root} xmlns="{NAMESPACE}">{inner}</{root}>'.encode()
