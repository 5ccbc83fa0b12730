"""Retention and legal holds of versions: headers, documents, and who may change what.

Under GOVERNANCE whoever may bypass it can shorten, change or remove a retention; under COMPLIANCE
nobody can (S3 user guide, "Object Lock retention modes"). A later date is always welcome.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from objectio.errors import AccessDenied
from objectio.model.bucket import Retention, RetentionMode
from objectio_api_s3.errors import refuse
from objectio_api_s3.parse import parse
from objectio_api_s3.times import iso8601_exact, parse_iso8601

MODE: Final = b"x-amz-object-lock-mode"
UNTIL: Final = b"x-amz-object-lock-retain-until-date"
HOLD: Final = b"x-amz-object-lock-legal-hold"
HEADERS: Final = frozenset((MODE, UNTIL, HOLD))
BYPASS: Final = b"x-amz-bypass-governance-retention"

_MODES: Final[Mapping[str, RetentionMode]] = {
    "GOVERNANCE": "GOVERNANCE",
    "COMPLIANCE": "COMPLIANCE",
}


def parse_until(text: str) -> int | None:
    return parse_iso8601(text.strip())


def now_ms() -> int:
    return int(time.time() * 1000)


def bypasses(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(BYPASS, b"").strip().lower() == b"true"


def parse_headers(headers: Mapping[bytes, bytes]) -> tuple[Retention | None, bool]:
    """What a write asks for: retention and legal hold."""
    return _parse_retention_headers(headers), _parse_hold_header(headers.get(HOLD))


def _parse_retention_headers(headers: Mapping[bytes, bytes]) -> Retention | None:
    mode, until = headers.get(MODE), headers.get(UNTIL)
    if mode is None and until is None:
        return None
    if mode is None or until is None:
        refuse(
            "InvalidArgument",
            "x-amz-object-lock-retain-until-date and x-amz-object-lock-mode must both be supplied",
        )
    known = _MODES.get(mode.decode("latin-1"))
    if known is None:
        refuse("InvalidArgument", "Unknown wormMode directive.", ArgumentName=MODE.decode())
    return Retention(mode=known, until_ms=_parse_until(until.decode("latin-1"), UNTIL.decode()))


def _parse_until(text: str, name: str) -> int:
    until_ms = parse_until(text)
    if until_ms is None:
        refuse(
            "InvalidArgument",
            "The retain until date must be provided in ISO 8601 format",
            ArgumentName=name,
            ArgumentValue=text,
        )
    if until_ms <= now_ms():
        refuse(
            "InvalidArgument",
            "The retain until date must be in the future!",
            ArgumentName=name,
            ArgumentValue=text,
        )
    return until_ms


def _parse_hold_header(value: bytes | None) -> bool:
    if value not in (None, b"ON", b"OFF"):
        refuse(
            "InvalidArgument",
            "Legal Hold must be either of 'ON' or 'OFF'",
            ArgumentName=HOLD.decode(),
        )
    return value == b"ON"


def parse_retention(body: bytes) -> Retention | None:
    """A Retention document; None for an empty one, which takes the retention away."""
    root = parse(body, "Retention")
    names = {child.name for child in root.children}
    if not names:
        return None
    mode = _MODES.get(root.value("Mode").strip())
    if names != {"Mode", "RetainUntilDate"} or mode is None:
        refuse("MalformedXML")
    return Retention(
        mode=mode, until_ms=_parse_until(root.value("RetainUntilDate"), "RetainUntilDate")
    )


def parse_hold(body: bytes) -> bool:
    status = parse(body, "LegalHold").value("Status").strip()
    if status not in ("ON", "OFF"):
        refuse("MalformedXML")
    return status == "ON"


def check_change(old: Retention | None, new: Retention | None, *, bypass: bool) -> None:
    """Raises `AccessDenied` unless `old` may become `new`."""
    if old is None or old.until_ms <= now_ms():
        return
    if new is not None and new.mode == old.mode and new.until_ms >= old.until_ms:
        return
    if old.mode == "GOVERNANCE" and bypass:
        return
    raise AccessDenied(
        "Access Denied because object protected by object lock.", reason="AccessDenied"
    )


def show_retention(retention: Retention) -> str:
    return (
        f"<Mode>{retention.mode}</Mode>"
        f"<RetainUntilDate>{iso8601_exact(retention.until_ms)}</RetainUntilDate>"
    )


def retention_headers(retention: Retention) -> list[tuple[bytes, bytes]]:
    return [
        (MODE, retention.mode.encode("ascii")),
        (UNTIL, iso8601_exact(retention.until_ms).encode("ascii")),
    ]
