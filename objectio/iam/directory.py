"""Who there is, in memory: what every request asks, answered without waiting.

Theory of operation. The rows of identities are few and change seldom, so each gateway keeps all of
them, decoded. It reads them when it starts and follows their changes; what this process changes
itself is in here before the change is acknowledged. What a request needs, a `Credential` with its
`Identity` and compiled policies, is put together when a key is first used, and forgotten whenever
anything changes. The root of the cluster is always there.

Between a change in another process and hearing of it there is a moment. So a request whose key is
unknown here, or whose signature is wrong, is verified once more after its key's row was read anew
(`refresh`): a key that was just made works at every gateway. Both cases take the same steps.

Secrets are sealed in the rows (`objectio.iam.vault`), and open here only in credentials of keys that
are in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256
from itertools import chain
from typing import Final

from objectio.abc.api import Account, Identity, KeyLimits
from objectio.errors import ObjectIOError, Unavailable
from objectio.iam import managed, rows, tokens
from objectio.iam.bearer import PURPOSE as BEARER
from objectio.iam.bearer import Bearer, open_bearer
from objectio.iam.credentials import (
    ROOT_ACCOUNT,
    Credential,
    StaticCredentials,
    invalid_token,
)
from objectio.iam.holdings import Holdings
from objectio.iam.policy import Policy
from objectio.iam.vault import IdentityKV, Vault, rows_of
from objectio.limits import KIB, MIB
from objectio.model.remembered import Compiled, Remembered

_log: Final = logging.getLogger("objectio.iam")

SECRETS: Final = "secrets"
"""The purpose of the seal of secret keys."""
POLICIES_CHARS_MAX: Final = 2 * MIB
HELD_CHARS_MAX: Final = 4 * MIB
"""Of the policies of all whose credentials are put together, and likewise of sessions."""
GONE_CHARS_MAX: Final = 512 * KIB
"""Of ids that were asked for and are no more."""
_RETRY_SECONDS: Final = 1.0
_MARK_BYTES: Final = 16
_PURPOSES: Final = (SECRETS, tokens.PURPOSE, BEARER)


def _parse(document: str) -> Policy:
    return Policy.parse(document.encode(), kind="identity")


compile_policy: Final = Compiled(_parse, POLICIES_CHARS_MAX)


class IdentityDirectory:
    """Implements `objectio.abc.api.Directory` and `objectio.iam.credentials.CredentialStore`.

    root     credentials of the cluster's root, which need no rows
    follows  whether others may change the rows: other processes of the cluster
    """

    def __init__(
        self,
        kv: IdentityKV,
        vault: Vault,
        root: StaticCredentials,
        *,
        follows: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._kv = kv
        self._vault = vault
        self._root = root
        self._clock = clock
        self.follows = follows
        self._held = Holdings()
        self._credentials: Remembered[str, Credential] = Remembered(HELD_CHARS_MAX)
        self._sessions: Remembered[str, Credential] = Remembered(HELD_CHARS_MAX)
        self._gone: Remembered[str, bool] = Remembered(GONE_CHARS_MAX)
        self._following: asyncio.Task[None] | None = None
        self._sealed_by_nobody: set[str] = set()
        self._seals_opened = False

    async def start(self) -> None:
        """Reads all there is. Where that is elsewhere and cannot be had now, it is read later."""
        if not self.follows:
            await self.load()
            return
        with contextlib.suppress(Unavailable):
            await self.load()
        self._following = asyncio.create_task(self._follow(), name="identities")

    async def stop(self) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following

    @property
    def may_be_old(self) -> bool:
        """Whether `refresh` may find what is not known here."""
        return self.follows or not self._seals_opened

    def is_root_key(self, access_key: str) -> bool:
        return access_key in self._root.by_access_key

    # What a request asks.

    def lookup(self, access_key: str) -> Credential | None:
        """None also for a key that is switched off or has expired."""
        found = self._root.by_access_key.get(access_key) or self._credentials.get(access_key)
        if found is None:
            return self._make_credential(access_key)
        expires_ms = found.identity.expires_ms
        return None if expires_ms and expires_ms <= self._clock() * 1000 else found

    def session(self, access_key: str, token: str) -> Credential:
        """Temporary credentials. Raises `CredentialsMalformed` (InvalidToken, ExpiredToken)."""
        found = self._sessions.get(token)
        if found is None:
            found = self._make_session(token)
        if found.access_key != access_key:
            raise invalid_token()
        if found.identity.expires_ms <= self._clock() * 1000:
            raise tokens.expired_token()
        return found

    def bearer(self, token: str, audience: str) -> Credential:
        """What stands behind a bearer token now. Raises `CredentialsMalformed` (InvalidToken,
        ExpiredToken)."""
        shown = self._open_bearer(token)
        if shown.audience != audience:
            raise invalid_token()
        if shown.expires_ms <= self._clock() * 1000:
            raise tokens.expired_token()
        if shown.session_token:
            found: Credential | None = self.session(shown.access_key, shown.session)
        else:
            found = self.lookup(shown.access_key)
        if found is None or not shown.is_of(found):
            raise invalid_token()
        return found

    def by_canonical_id(self, canonical_id: str) -> Account | None:
        return self._held.by_canonical_id.get(canonical_id)

    def by_email(self, email: str) -> Account | None:
        return self._held.by_email.get(email.lower())

    def by_account(self, account: str) -> Account | None:
        return self._held.by_account.get(account)

    def incarnation(self, account: str) -> str:
        """What a session of the account's root remembers of it."""
        return self._held.incarnation(account)

    async def refresh(self, access_key: str, token: str) -> None:
        """Read anew what a request was refused for, since it may have just been made or changed."""
        await self._open_seals()
        if token and tokens.PURPOSE in self._sealed_by_nobody:
            return
        if token:
            session = tokens.open_session(self._vault.opened(tokens.PURPOSE), token)
            if session.expires_ms <= self._clock() * 1000:
                return
            if not self._knows(session):
                await self.load()
                if not self._knows(session):
                    self._gone.put(holder := _holder_of(session), True, len(holder))
            if session.begun_by:
                await self._refresh_key(session.begun_by)
            return
        await self._refresh_key(access_key)

    def _knows(self, session: tokens.Session) -> bool:
        """Whose it is. Also that it is no more: ids are not used again, so nobody who keeps a session of
        one that was deleted has all rows read for each request."""
        if self._gone.get(_holder_of(session)) is not None:
            return True
        if session.holder == "root":
            return self.incarnation(session.account) == session.id
        return self._held.find_id(session.id) is not None

    async def refresh_bearer(self, token: str) -> None:
        """Likewise of what stands behind a bearer token. Raises `CredentialsMalformed`."""
        await self._open_seals()
        shown = self._open_bearer(token)
        if shown.expires_ms > self._clock() * 1000:
            await self.refresh(shown.access_key, shown.session)

    def _open_bearer(self, token: str) -> Bearer:
        if BEARER in self._sealed_by_nobody:  # none was ever issued
            raise invalid_token()
        return open_bearer(self._vault.opened(BEARER), token)

    async def _refresh_key(self, access_key: str) -> None:
        row = rows.key(access_key)
        raw = await self._kv.aget(row)
        key = None if raw is None else rows.decode_key(raw)
        if key == self._held.keys.get(access_key):  # it is as we knew it, and nothing is forgotten
            return
        self.apply([(row, raw)])
        if key is None:
            return
        missing = self._held.find_id(key.user) is None if key.user else False
        if missing or key.account not in self._held.accounts:
            await self.load()

    # Making credentials.

    def _make_credential(self, access_key: str) -> Credential | None:
        key = self._good_key(access_key)
        if key is None:
            return None
        account = self._held.by_account.get(key.account)
        if account is None:
            return None
        identity = self._identify(account, "user" if key.user else "root", key.user, access_key)
        if identity is None:
            return None
        identity = identity._replace(expires_ms=key.expires_ms, limits=_limits_of(access_key, key))
        secret = self._vault.opened(SECRETS).open(key.secret, access_key)
        made = Credential(access_key, secret.decode(), identity)
        self._credentials.put(access_key, made, _chars_of(identity))
        return made

    def _good_key(self, access_key: str) -> rows.KeyRow | None:
        """Neither switched off nor expired."""
        key = self._held.keys.get(access_key)
        if key is None or not key.active:
            return None
        expired = key.expires_ms and key.expires_ms <= self._clock() * 1000
        return None if expired else key

    def _limits_of_session(self, session: tokens.Session) -> KeyLimits | None:
        """Those of the key that it was begun with, which must still be there. Raises
        `CredentialsMalformed`."""
        if not session.begun_by:
            return None
        key = self._good_key(session.begun_by)
        limits = None if key is None else _limits_of(session.begun_by, key)
        if limits is None or limits.mark != session.begun_by_mark:
            raise invalid_token()
        return limits

    def _make_session(self, token: str) -> Credential:
        if tokens.PURPOSE in self._sealed_by_nobody:  # no session was ever begun
            raise invalid_token()
        session = tokens.open_session(self._vault.opened(tokens.PURPOSE), token)
        limits = self._limits_of_session(session)
        account = self._held.by_account.get(session.account)
        found = account and self._identify(
            account, session.holder, session.id, session.access_key, session
        )
        if not found:  # it, or whoever it is a session of, was deleted
            raise invalid_token()
        found = found._replace(limits=limits)
        made = Credential(session.access_key, session.secret_key, found)
        self._sessions.put(token, made, len(token) + _chars_of(found))
        return made

    def _identify(
        self,
        account: Account,
        holder: tokens.Holder,
        holder_id: str,
        access_key: str,
        session: tokens.Session | None = None,
    ) -> Identity | None:
        """None where there is no such principal (any more)."""
        arn = f"arn:aws:iam::{account.id}"
        made = Identity(
            account.display_name,
            f"{arn}:root",
            access_key,
            account=account.id,
            canonical_id=account.canonical_id,
            display_name=account.display_name,
            user_id=account.id,
        )
        if session is not None:
            made = made._replace(
                session=True,
                expires_ms=session.expires_ms,
                tags=session.tags,
                keys=session.keys,
                session_policies=tuple(map(compile_policy, session.policies)) or None,
            )
        if holder == "root":
            # The cluster's own is in no row: who could write one would rule. And an account may have
            # been deleted and made anew by the same id.
            is_former = session is not None and holder_id != self.incarnation(account.id)
            return None if account.id == ROOT_ACCOUNT or is_former else made
        row = self._held.find(rows.USERS if holder == "user" else rows.ROLES, account.id, holder_id)
        if row is None:
            return None
        made = made._replace(
            policies=tuple(map(compile_policy, self._documents(account.id, row))),
            tags={**row.tags, **made.tags},
        )
        if isinstance(row, rows.UserRow):
            return made._replace(
                name=row.name, arn=f"{arn}:user{row.path}{row.name}", user_id=row.id
            )
        assert session is not None
        return made._replace(
            name=session.name,
            arn=f"arn:aws:sts::{account.id}:assumed-role/{row.name}/{session.name}",
            user_id=f"{row.id}:{session.name}",
            role_arn=f"{arn}:role{row.path}{row.name}",
        )

    def _documents(self, account: str, row: rows.UserRow | rows.RoleRow) -> list[str]:
        """All that says what a user or role may do."""
        holders: list[rows.UserRow | rows.RoleRow | rows.GroupRow] = [row]
        if isinstance(row, rows.UserRow):
            holders += self._held.groups_of(account, row.id)
        found = list(chain.from_iterable(each.policies.values() for each in holders))
        arns = dict.fromkeys(chain.from_iterable(each.attached for each in holders))
        return found + [
            self._held.managed_document(account, arn) or managed.DENY_ALL for arn in arns
        ]

    # Keeping up.

    async def load(self) -> None:
        """Everything anew."""
        fresh = Holdings()
        for row, value in await rows_of(self._kv, rows.IDENTITIES):
            fresh.put(row, value)
        self._held = fresh
        self._forget()
        await self._open_seals()

    def apply(self, changed: Iterable[tuple[bytes, bytes | None]]) -> None:
        for row, value in changed:
            self._held.put(row, value)
        self._forget()

    def _forget(self) -> None:
        self._credentials.clear()
        self._sessions.clear()

    async def _open_seals(self) -> None:
        """As far as there are any. Without them the root can still call."""
        for purpose in _PURPOSES:
            try:
                seal = await self._vault.open(purpose, create=False)
                if seal is None:
                    self._sealed_by_nobody.add(purpose)
                else:
                    self._sealed_by_nobody.discard(purpose)
            except ObjectIOError as error:
                if self._held.keys:
                    _log.warning("secrets of users cannot be opened: %s", error)
                self._seals_opened = False
                return
        self._seals_opened = True

    async def _follow(self) -> None:
        async for change in self._kv.watch(rows.IDENTITIES):
            reset: bool = change.reset
            while True:
                try:
                    await (self.load() if reset else self._read(change.keys))
                    break
                except Unavailable as error:
                    _log.info("reading identities: %s", error)
                except Exception:
                    _log.exception("reading identities")
                reset = True
                await asyncio.sleep(_RETRY_SECONDS)

    async def _read(self, changed: Sequence[bytes]) -> None:
        values = await self._kv.aget_many(changed)
        self.apply(zip(changed, values, strict=True))
        await self._open_seals()


def _holder_of(session: tokens.Session) -> str:
    return f"{session.account}/{session.id}"


def _limits_of(access_key: str, key: rows.KeyRow) -> KeyLimits | None:
    if not key.policy and not key.expires_ms:
        return None
    policy = compile_policy(key.policy) if key.policy else None
    mark = sha256(key.secret).digest()[:_MARK_BYTES]  # sealed, so each time another
    return KeyLimits(access_key, mark, policy, key.expires_ms)


def _chars_of(identity: Identity) -> int:
    policies = [*identity.policies, *(identity.session_policies or ())]
    if identity.limits is not None and identity.limits.policy is not None:
        policies.append(identity.limits.policy)
    return sum(policy.chars for policy in policies)
