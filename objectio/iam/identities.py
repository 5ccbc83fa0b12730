"""`Identities`: all that there is to manage of identities, and temporary credentials."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from objectio.abc.api import Identity
from objectio.errors import AccessDenied
from objectio.iam import bearer, tokens
from objectio.iam.accounts import Accounts
from objectio.iam.admin import (
    ROLE_SESSION_SECONDS_MAX,
    ROOT_SESSION_SECONDS_MAX,
    SESSION_SECONDS_MIN,
    USER_SESSION_SECONDS_MAX,
    BearerToken,
    Role,
    TemporaryCredentials,
)
from objectio.iam.catalog import Catalog
from objectio.iam.credentials import Credential
from objectio.iam.registry import INLINE_POLICIES_CHARS_MAX, check_document, check_tags, invalid

_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)


class Identities(Accounts, Catalog):
    """Implements `objectio.iam.admin.IdentityAdmin`."""

    async def assume_role(
        self,
        role: Role,
        session: str,
        *,
        seconds: int = 3_600,
        policies: Sequence[str] = (),
        tags: Mapping[str, str] = {},
        keys: Mapping[str, Sequence[str]] = {},
        caller: Identity | None = None,
    ) -> TemporaryCredentials:
        if not _SESSION_NAME.fullmatch(session):
            raise invalid("A session's name has 2 to 64 characters out of A-Z a-z 0-9 _+=,.@-")
        longest = min(role.session_seconds_max, ROLE_SESSION_SECONDS_MAX)
        if not SESSION_SECONDS_MIN <= seconds <= longest:
            raise invalid(
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role "
                f"({longest} seconds), or is below {SESSION_SECONDS_MIN}."
            )
        check_tags(tags)
        for policy in policies:
            check_document(policy, "identity", INLINE_POLICIES_CHARS_MAX)
        return await self._begin(
            tokens.Session(
                tokens.make_access_key(tokens.ACCESS_KEY_PREFIX),
                tokens.make_secret_key(),
                role.account,
                "role",
                role.id,
                session,
                self._now_ms() + seconds * 1000,
                tuple(policies),
                dict(tags),
                {name: tuple(values) for name, values in keys.items()},
            ),
            caller,
        )

    async def get_session_token(
        self, identity: Identity, *, seconds: int = 43_200
    ) -> TemporaryCredentials:
        if identity.is_root or identity.session or not identity.account:
            raise AccessDenied("Cannot call GetSessionToken with these credentials.")
        root = identity.is_account_root
        if not SESSION_SECONDS_MIN <= seconds <= USER_SESSION_SECONDS_MAX:
            raise invalid(
                f"DurationSeconds is {SESSION_SECONDS_MIN} to {USER_SESSION_SECONDS_MAX}."
            )
        if root:
            seconds = min(seconds, ROOT_SESSION_SECONDS_MAX)
        return await self._begin(
            tokens.Session(
                tokens.make_access_key(tokens.ACCESS_KEY_PREFIX),
                tokens.make_secret_key(),
                identity.account,
                "root" if root else "user",
                self._directory.incarnation(identity.account) if root else identity.user_id,
                identity.name,
                self._now_ms() + seconds * 1000,
            ),
            identity,
        )

    async def issue_bearer(
        self, identity: Identity, audience: str, *, seconds: int = 900, session_token: str = ""
    ) -> BearerToken:
        if not bearer.SECONDS_MIN <= seconds <= bearer.SECONDS_MAX:
            raise invalid(
                f"A token is good for {bearer.SECONDS_MIN} to {bearer.SECONDS_MAX} seconds."
            )
        if not 1 <= len(audience) <= bearer.AUDIENCE_CHARS_MAX:
            raise invalid(f"An audience has 1 to {bearer.AUDIENCE_CHARS_MAX} characters.")
        if session_token:
            found: Credential | None = self._directory.session(identity.access_key, session_token)
        else:
            found = self._directory.lookup(identity.access_key)
        if found is None:
            raise AccessDenied("Tokens are for who signs with an access key.")
        expires_ms = self._now_ms() + seconds * 1000
        expires_ms = min(expires_ms, found.identity.expires_ms or expires_ms)
        seal = await self._vault.open(bearer.PURPOSE)
        assert seal is not None
        made = bearer.make_bearer(found, audience, expires_ms, session_token)
        token = bearer.seal_bearer(seal, made)
        await self._directory.refresh_bearer(token)
        return BearerToken(token, expires_ms)

    async def _begin(
        self, session: tokens.Session, caller: Identity | None
    ) -> TemporaryCredentials:
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._clock()))
        keys = {**session.keys, "aws:TokenIssueTime": (issued,)}
        session = msgspec.structs.replace(session, keys=keys)
        limits = None if caller is None else caller.limits
        if limits is not None:
            ends_ms = limits.expires_ms or session.expires_ms
            session = msgspec.structs.replace(
                session,
                expires_ms=min(session.expires_ms, ends_ms),
                begun_by=limits.access_key,
                begun_by_mark=limits.mark,
            )
        seal = await self._vault.open(tokens.PURPOSE)
        assert seal is not None
        token = tokens.seal_session(seal, session)
        await self._directory.refresh(session.access_key, token)
        credential = self._directory.session(session.access_key, token)
        return TemporaryCredentials(
            session.access_key, session.secret_key, token, session.expires_ms, credential.identity
        )
