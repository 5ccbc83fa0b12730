"""Changing the rows of identities: what `accounts`, `principals` and `catalog` have in common.

Each change reads a row, makes the new one, and commits it if the row is still the same; somebody
else's change in between is a reason to begin anew. The directory of this process has a change before
the call returns.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from objectio.abc.kv import Absent, Check, Equals
from objectio.errors import CommitConflict, InvalidRequest, NotFound
from objectio.iam import rows
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID
from objectio.iam.directory import IdentityDirectory
from objectio.iam.policy import Kind as PolicyKind
from objectio.iam.policy import MalformedPolicy, Policy
from objectio.iam.vault import IdentityKV, Vault, rows_of

TRIES_MAX: Final = 16
TAGS_MAX: Final = 50
TRUST_POLICY_CHARS_MAX: Final = 4_096
INLINE_POLICIES_CHARS_MAX: Final = 10_240
_KEPT_CHARS: Final = 4
"""For each that counts."""

_NAME: Final = re.compile(r"[\w+=,.@-]+", re.ASCII)
_PATH: Final = re.compile(r"/|/[\x21-\x7e]{1,510}/")
_ID_ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

T = TypeVar("T")
R = TypeVar("R", bound=rows.Row)
Write = tuple[bytes, bytes | None]


class Registry:
    def __init__(
        self,
        kv: IdentityKV,
        vault: Vault,
        directory: IdentityDirectory,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kv = kv
        self._vault = vault
        self._directory = directory
        self._clock = clock

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    async def _commit(self, checks: Sequence[Check], writes: Sequence[Write]) -> None:
        await self._kv.commit(checks, writes)
        self._directory.apply(writes)

    async def _again(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Until nobody else was faster."""
        for _ in range(TRIES_MAX - 1):
            try:
                return await attempt()
            except CommitConflict:
                continue
        return await attempt()

    async def _read(self, row: bytes, decode: Callable[[bytes], R], what: str) -> tuple[bytes, R]:
        """`what` is the kind and the name, for the error: "user x"."""
        raw = await self._kv.aget(row)
        if raw is None:
            raise missing(what)
        return raw, decode(raw)

    async def _change(
        self, row: bytes, decode: Callable[[bytes], R], what: str, change: Callable[[R], R]
    ) -> R:
        async def attempt() -> R:
            raw, former = await self._read(row, decode, what)
            made = change(former)
            if made != former:
                await self._commit([Equals(row, raw)], [(row, rows.encode(made))])
            return made

        return await self._again(attempt)

    async def _list(self, prefix: bytes, decode: Callable[[bytes], R]) -> list[R]:
        return [decode(value) for _, value in await rows_of(self._kv, prefix)]

    async def _check_room(self, prefix: bytes, most: int, what: str) -> None:
        """Each gateway keeps all rows in memory, so no account may have any number of them. Those who
        make some at the same time may get a few more."""
        if len(await rows_of(self._kv, prefix)) >= most:
            raise too_many(f"Cannot exceed quota for {what}: {most}")

    async def _check_account(self, account: str) -> bytes:
        """Its row, for a check that it is still there."""
        row = rows.account(account)
        if await self._kv.aget(row) is None:
            if account != ROOT_ACCOUNT:
                raise missing(f"account {account}")
            # The account of the cluster's root is there from the beginning, and has a row from when
            # something is in it.
            first = rows.AccountRow(account, ROOT_CANONICAL_ID, "root", "", self._now_ms())
            with contextlib.suppress(CommitConflict):
                await self._commit([Absent(row)], [(row, rows.encode(first))])
        return row


def missing(what: str) -> NotFound:
    kind, _, name = what.partition(" ")
    return NotFound(f"The {kind} with name {name} cannot be found.", kind=kind, name=name)


def invalid(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="ValidationError")


def too_many(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason="LimitExceeded")


def check_name(name: str, chars_max: int = 64) -> None:
    if not _NAME.fullmatch(name) or len(name) > chars_max:
        raise invalid(
            f"The specified value for the name is invalid. It must contain only alphanumeric "
            f"characters and the following: +=,.@_- and be 1 to {chars_max} characters long."
        )


def check_path(path: str) -> None:
    if not _PATH.fullmatch(path):
        raise invalid(
            "The specified value for path is invalid. It must begin and end with / and contain "
            "only printable ASCII characters."
        )


def check_tags(tags: Mapping[str, str]) -> None:
    if len(tags) > TAGS_MAX:
        raise too_many(f"More than {TAGS_MAX} tags.")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise invalid("A tag's key has 1 to 128 characters, its value at most 256.")


def are_too_long(documents: Iterable[str], chars_max: int) -> bool:
    """White space does not count, as on AWS, unless there is more of it than makes a text readable:
    it is kept."""
    counted = kept = 0
    for document in documents:
        kept += len(document)
        counted += len("".join(document.split()))
    return counted > chars_max or kept > _KEPT_CHARS * chars_max


def check_document(document: str, kind: PolicyKind, chars_max: int) -> None:
    if are_too_long([document], chars_max):
        raise too_many(f"Maximum policy size of {chars_max} bytes exceeded.")
    try:
        Policy.parse(document.encode(), kind=kind)
    except MalformedPolicy as error:
        raise InvalidRequest(error.message, reason="MalformedPolicyDocument") from None


def make_id(prefix: str) -> str:
    """As AWS makes them: "AIDA" and 17 characters."""
    return prefix + "".join(secrets.choice(_ID_ALPHABET) for _ in range(17))
