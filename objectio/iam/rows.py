"""The rows of identities: their keys, which all begin with "I", and what they hold.

    Ia <account>                    AccountRow
    Ic <canonical id>               the account that it is of
    Ie <email>                      likewise
    Iu <account>/<name>             UserRow
    Ig <account>/<name>             GroupRow
    Ir <account>/<name>             RoleRow
    Ip <account>/<name>             PolicyRow: a managed policy
    Io <account>/<host and path>    ProviderRow
    Ik <access key>                 KeyRow
    Iw <purpose>                    SealRow: a key that secrets are sealed with, wrapped by the KMS

Names are in lower case in keys, since two that differ in case only are one. Records are MessagePack
arrays; fields are only ever added at the end, with a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

IDENTITIES: Final = b"I"
ACCOUNTS: Final = b"Ia"
CANONICAL: Final = b"Ic"
EMAILS: Final = b"Ie"
USERS: Final = b"Iu"
GROUPS: Final = b"Ig"
ROLES: Final = b"Ir"
POLICIES: Final = b"Ip"
PROVIDERS: Final = b"Io"
KEYS: Final = b"Ik"
SEALS: Final = b"Iw"

OF_ACCOUNT: Final = (USERS, GROUPS, ROLES, POLICIES, PROVIDERS)
"""What must be gone before an account may go."""


class AccountRow(msgspec.Struct, frozen=True, array_like=True):
    """`keys` are the access keys of its root."""

    id: str
    canonical_id: str
    display_name: str
    email: str
    created_ms: int
    keys: tuple[str, ...] = ()


class UserRow(msgspec.Struct, frozen=True, array_like=True):
    """`policies` are its own, by name; `attached` the ARNs of managed ones."""

    name: str
    path: str
    id: str
    created_ms: int
    tags: Mapping[str, str] = {}
    policies: Mapping[str, str] = {}
    attached: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()


class GroupRow(msgspec.Struct, frozen=True, array_like=True):
    """`members` are ids of users; one that does not exist any more means nothing."""

    name: str
    path: str
    id: str
    created_ms: int
    policies: Mapping[str, str] = {}
    attached: tuple[str, ...] = ()
    members: tuple[str, ...] = ()


class RoleRow(msgspec.Struct, frozen=True, array_like=True):
    name: str
    path: str
    id: str
    created_ms: int
    trust_policy: str
    description: str = ""
    session_seconds_max: int = 3_600
    tags: Mapping[str, str] = {}
    policies: Mapping[str, str] = {}
    attached: tuple[str, ...] = ()


class PolicyRow(msgspec.Struct, frozen=True, array_like=True):
    name: str
    path: str
    id: str
    created_ms: int
    document: str
    description: str = ""


class ProviderRow(msgspec.Struct, frozen=True, array_like=True):
    url: str
    created_ms: int
    client_ids: tuple[str, ...] = ()
    thumbprints: tuple[str, ...] = ()
    tags: Mapping[str, str] = {}


class KeyRow(msgspec.Struct, frozen=True, array_like=True):
    """`user` is the id of its user; "" is the root of the account. `secret` is sealed. `policy` is the
    document that it is narrowed down to, `expires_ms` 0 that it lasts."""

    account: str
    user: str
    secret: bytes
    active: bool
    created_ms: int
    policy: str = ""
    description: str = ""
    expires_ms: int = 0


class SealRow(msgspec.Struct, frozen=True, array_like=True):
    key_id: str
    wrapped: bytes


Row = AccountRow | UserRow | GroupRow | RoleRow | PolicyRow | ProviderRow | KeyRow | SealRow

encode: Final = msgspec.msgpack.Encoder().encode
decode_account: Final = msgspec.msgpack.Decoder(AccountRow).decode
decode_user: Final = msgspec.msgpack.Decoder(UserRow).decode
decode_group: Final = msgspec.msgpack.Decoder(GroupRow).decode
decode_role: Final = msgspec.msgpack.Decoder(RoleRow).decode
decode_policy: Final = msgspec.msgpack.Decoder(PolicyRow).decode
decode_provider: Final = msgspec.msgpack.Decoder(ProviderRow).decode
decode_key: Final = msgspec.msgpack.Decoder(KeyRow).decode
decode_seal: Final = msgspec.msgpack.Decoder(SealRow).decode


def account(account_id: str) -> bytes:
    return ACCOUNTS + account_id.encode()


def canonical(canonical_id: str) -> bytes:
    return CANONICAL + canonical_id.encode()


def email(address: str) -> bytes:
    return EMAILS + address.lower().encode()


def of_account(kind: bytes, account_id: str) -> bytes:
    """The prefix of all rows of a kind that an account has."""
    return kind + account_id.encode() + b"/"


def named(kind: bytes, account_id: str, name: str) -> bytes:
    return of_account(kind, account_id) + name.lower().encode()


def key(access_key: str) -> bytes:
    return KEYS + access_key.encode()


def seal(purpose: str) -> bytes:
    return SEALS + purpose.encode()
