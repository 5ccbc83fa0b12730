"""Accounts and access keys."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from typing import Final

import msgspec

from objectio.abc.api import Account
from objectio.abc.kv import Absent, Check, Equals, RangeEmpty
from objectio.errors import AlreadyExists, CommitConflict, NotEmpty
from objectio.iam import rows
from objectio.iam.admin import SERVICE_KEYS_MAX, AccessKey, NewAccessKey
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID, SECRET_KEY_CHARS_MIN
from objectio.iam.directory import SECRETS
from objectio.iam.registry import (
    INLINE_POLICIES_CHARS_MAX,
    Registry,
    Write,
    check_document,
    invalid,
    missing,
    too_many,
)
from objectio.iam.tokens import ACCESS_KEY_PREFIX, make_access_key, make_secret_key
from objectio.kv.keys import prefix_end

KEYS_MAX: Final = 2
"""Of one user or root: so that one can be replaced by another while both work."""

DESCRIPTION_CHARS_MAX: Final = 256
_EXPIRES_MS_MAX: Final = 253_402_300_799_000
"""The end of the year 9999, the last that ISO 8601 writes in four digits."""

_ACCOUNT_ID: Final = re.compile(r"[0-9]{12}")
_CANONICAL_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_EMAIL: Final = re.compile(r"[^@\s\x00-\x1f]{1,64}@[^@\s\x00-\x1f]{1,190}")
_ACCESS_KEY: Final = re.compile(r"[A-Za-z0-9._@+-]{3,128}")


class Accounts(Registry):
    async def create_account(
        self,
        display_name: str,
        *,
        account: str = "",
        canonical_id: str = "",
        email: str = "",
        access_key: str = "",
        secret_key: str = "",
    ) -> tuple[Account, NewAccessKey]:
        account = account or str(secrets.randbelow(9 * 10**11) + 10**11)
        canonical_id = canonical_id or secrets.token_hex(32)
        _check_account(display_name, account, canonical_id, email)
        new = await self._make_key(account, "", access_key, secret_key)
        row = rows.AccountRow(
            account,
            canonical_id,
            display_name,
            email,
            new.key.created_ms,
            (new.key.access_key,),
        )
        key_row, key_value = self._key_write(new, "")
        writes: list[Write] = [
            (rows.account(account), rows.encode(row)),
            (rows.canonical(canonical_id), account.encode()),
            (key_row, key_value),
        ]
        if email:
            writes.append((rows.email(email), account.encode()))
        try:
            await self._commit([Absent(name) for name, _ in writes], writes)
        except CommitConflict as conflict:
            failed = getattr(conflict.fields.get("check"), "key", b"")
            raise AlreadyExists(
                f"there is an account with {_SAID.get(failed[:2], 'this name')} already",
                kind="account",
            ) from None
        return Account(account, canonical_id, display_name, email), new

    async def list_accounts(self) -> Sequence[Account]:
        found = await self._list(rows.ACCOUNTS, rows.decode_account)
        return [
            Account(row.id, row.canonical_id, row.display_name, row.email)
            for row in found
            if row.id != ROOT_ACCOUNT
        ]

    async def delete_account(self, account: str) -> None:
        if account == ROOT_ACCOUNT:
            raise invalid("the account of the cluster's root stays")

        async def attempt() -> None:
            name = rows.account(account)
            raw, row = await self._read(name, rows.decode_account, f"account {account}")
            checks: list[Check] = [Equals(name, raw)]
            for kind in rows.OF_ACCOUNT:
                prefix = rows.of_account(kind, account)
                checks.append(RangeEmpty(prefix, prefix_end(prefix)))
            writes: list[Write] = [(name, None), (rows.canonical(row.canonical_id), None)]
            writes += [(rows.key(key), None) for key in row.keys]
            if row.email:
                writes.append((rows.email(row.email), None))
            try:
                await self._commit(checks, writes)
            except CommitConflict as conflict:
                if isinstance(conflict.fields.get("check"), RangeEmpty):
                    raise NotEmpty(
                        f"account {account} has users, groups, roles, policies or providers",
                        kind="account",
                    ) from None
                raise

        await self._again(attempt)

    # Access keys.

    async def create_access_key(
        self,
        account: str,
        user: str,
        *,
        access_key: str = "",
        secret_key: str = "",
        policy: str = "",
        description: str = "",
        expires_ms: int = 0,
    ) -> NewAccessKey:
        self._check_limits(policy, description, expires_ms)

        async def attempt() -> NewAccessKey:
            name, raw, holder = await self._key_holder(account, user)
            await self._check_room_for_key(holder, narrowed=bool(policy))
            shown = holder.name if isinstance(holder, rows.UserRow) else ""
            user_id = holder.id if isinstance(holder, rows.UserRow) else ""
            new = await self._make_key(account, shown, access_key, secret_key)
            limited = msgspec.structs.replace(
                new.key, policy=policy, description=description, expires_ms=expires_ms
            )
            new = new._replace(key=limited)
            key_row, key_value = self._key_write(new, user_id)
            changed = msgspec.structs.replace(holder, keys=(*holder.keys, new.key.access_key))
            checks: list[Check] = [Equals(name, raw), Absent(key_row)]
            try:
                await self._commit(checks, [(name, rows.encode(changed)), (key_row, key_value)])
            except CommitConflict as conflict:
                if isinstance(conflict.fields.get("check"), Absent):
                    raise AlreadyExists("there is such an access key already", kind="key") from None
                raise
            return new

        return await self._again(attempt)

    async def list_access_keys(self, account: str, user: str) -> Sequence[AccessKey]:
        _, _, holder = await self._key_holder(account, user)
        shown = holder.name if isinstance(holder, rows.UserRow) else ""
        found = await self._kv.aget_many([rows.key(name) for name in holder.keys])
        return [
            _access_key(name, rows.decode_key(raw), shown)
            for name, raw in zip(holder.keys, found, strict=True)
            if raw is not None
        ]

    async def find_access_key(self, account: str, access_key: str) -> AccessKey:
        what = f"key {access_key}"
        _, row = await self._read(rows.key(access_key), rows.decode_key, what)
        if row.account != account:
            raise missing(what)
        if not row.user:
            return _access_key(access_key, row, "")
        for user in await self._list(rows.of_account(rows.USERS, account), rows.decode_user):
            if user.id == row.user:
                return _access_key(access_key, row, user.name)
        raise missing(what)

    def _check_limits(self, policy: str, description: str, expires_ms: int) -> None:
        if policy:
            check_document(policy, "identity", INLINE_POLICIES_CHARS_MAX)
        if len(description) > DESCRIPTION_CHARS_MAX or not description.isprintable():
            raise invalid(f"A description has up to {DESCRIPTION_CHARS_MAX} printable characters.")
        if expires_ms and not self._now_ms() < expires_ms <= _EXPIRES_MS_MAX:
            raise invalid("A key expires in the future, before the year 10000.")

    async def _check_room_for_key(
        self, holder: rows.AccountRow | rows.UserRow, *, narrowed: bool
    ) -> None:
        found = await self._kv.aget_many([rows.key(name) for name in holder.keys])
        held = sum(raw is not None and bool(rows.decode_key(raw).policy) for raw in found)
        if narrowed and held >= SERVICE_KEYS_MAX:
            raise too_many(f"Cannot exceed quota for narrowed AccessKeys: {SERVICE_KEYS_MAX}")
        if not narrowed and len(found) - held >= KEYS_MAX:
            raise too_many(
                f"Cannot exceed quota for AccessKeysPerUser: {KEYS_MAX}. Delete one first"
            )

    async def update_access_key(
        self, account: str, user: str, access_key: str, *, active: bool
    ) -> None:
        await self._check_has_key(account, user, access_key)
        await self._change(
            rows.key(access_key),
            rows.decode_key,
            f"key {access_key}",
            lambda row: msgspec.structs.replace(row, active=active),
        )

    async def delete_access_key(self, account: str, user: str, access_key: str) -> None:
        async def attempt() -> None:
            name, raw, holder = await self._key_holder(account, user)
            if access_key not in holder.keys:
                raise missing(f"key {access_key}")
            left = tuple(key for key in holder.keys if key != access_key)
            changed = rows.encode(msgspec.structs.replace(holder, keys=left))
            await self._commit([Equals(name, raw)], [(name, changed), (rows.key(access_key), None)])

        await self._again(attempt)

    async def _check_has_key(self, account: str, user: str, access_key: str) -> None:
        _, _, holder = await self._key_holder(account, user)
        if access_key not in holder.keys:
            raise missing(f"key {access_key}")

    async def _key_holder(
        self, account: str, user: str
    ) -> tuple[bytes, bytes, rows.AccountRow | rows.UserRow]:
        """The row's name, as it is and decoded."""
        if user:
            name = rows.named(rows.USERS, account, user)
            return name, *await self._read(name, rows.decode_user, f"user {user}")
        if account == ROOT_ACCOUNT:
            raise invalid("The keys of the cluster's root are not kept here, but with the server.")
        name = rows.account(account)
        return name, *await self._read(name, rows.decode_account, f"account {account}")

    async def _make_key(
        self, account: str, user: str, access_key: str, secret_key: str
    ) -> NewAccessKey:
        access_key = access_key or make_access_key()
        secret_key = secret_key or make_secret_key()
        if not _ACCESS_KEY.fullmatch(access_key) or access_key.startswith(ACCESS_KEY_PREFIX):
            raise invalid(
                "an access key has 3 to 128 characters out of A-Z a-z 0-9 . _ @ + - and does not "
                f"begin with {ACCESS_KEY_PREFIX}, as temporary ones do"
            )
        if not SECRET_KEY_CHARS_MIN <= len(secret_key) <= 128 or not secret_key.isascii():
            raise invalid(f"a secret key has {SECRET_KEY_CHARS_MIN} to 128 ASCII characters")
        if self._directory.is_root_key(access_key):
            raise AlreadyExists("there is such an access key already", kind="key")
        await self._vault.open(SECRETS)
        shown = AccessKey(
            access_key=access_key,
            account=account,
            user=user,
            active=True,
            created_ms=self._now_ms(),
        )
        return NewAccessKey(shown, secret_key)

    def _key_write(self, new: NewAccessKey, user_id: str) -> Write:
        key = new.key
        sealed = self._vault.opened(SECRETS).close(new.secret_key.encode(), key.access_key)
        row = rows.KeyRow(
            key.account,
            user_id,
            sealed,
            key.active,
            key.created_ms,
            key.policy,
            key.description,
            key.expires_ms,
        )
        return rows.key(key.access_key), rows.encode(row)


def _access_key(name: str, row: rows.KeyRow, user: str) -> AccessKey:
    return AccessKey(
        access_key=name,
        account=row.account,
        user=user,
        active=row.active,
        created_ms=row.created_ms,
        policy=row.policy,
        description=row.description,
        expires_ms=row.expires_ms,
    )


_SAID: Final = {
    rows.ACCOUNTS: "this id",
    rows.CANONICAL: "this canonical id",
    rows.EMAILS: "this email address",
    rows.KEYS: "this access key",
}


def _check_account(display_name: str, account: str, canonical_id: str, email: str) -> None:
    if not display_name.strip() or len(display_name) > 128 or not display_name.isprintable():
        raise invalid("an account's name for people has 1 to 128 printable characters")
    if not _ACCOUNT_ID.fullmatch(account) or account == ROOT_ACCOUNT:
        raise invalid("an account's id has 12 digits, which are not all zero")
    if not _CANONICAL_ID.fullmatch(canonical_id) or canonical_id == ROOT_CANONICAL_ID:
        raise invalid(
            "a canonical id has 1 to 128 printable characters without blanks, and is not "
            f'"{ROOT_CANONICAL_ID}"'
        )
    if email and not _EMAIL.fullmatch(email):
        raise invalid("this is not an email address")
