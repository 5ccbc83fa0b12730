"""Managed policies of accounts, and who issues tokens of web identities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from objectio.abc.kv import Absent, Check, Equals, Present
from objectio.errors import AlreadyExists, CommitConflict, NotEmpty
from objectio.iam import rows
from objectio.iam.admin import ManagedPolicy, Provider
from objectio.iam.principals import Principals, managed_policy
from objectio.iam.registry import (
    check_document,
    check_name,
    check_path,
    check_tags,
    invalid,
    make_id,
    missing,
    too_many,
)

MANAGED_POLICY_CHARS_MAX: Final = 6_144
MANAGED_POLICIES_MAX: Final = 1_500
PROVIDERS_MAX: Final = 100
CLIENT_IDS_MAX: Final = 100
THUMBPRINTS_MAX: Final = 5


class Catalog(Principals):
    # Managed policies.

    async def create_managed_policy(
        self, account: str, name: str, document: str, *, path: str = "/", description: str = ""
    ) -> ManagedPolicy:
        check_name(name, 128)
        check_path(path)
        check_document(document, "identity", MANAGED_POLICY_CHARS_MAX)
        row = rows.PolicyRow(name, path, make_id("ANPA"), self._now_ms(), document, description)
        of = await self._check_account(account)
        await self._check_room(
            rows.of_account(rows.POLICIES, account), MANAGED_POLICIES_MAX, "PoliciesPerAccount"
        )
        key = rows.named(rows.POLICIES, account, name)
        try:
            await self._commit([Absent(key), Present(of)], [(key, rows.encode(row))])
        except CommitConflict:
            raise AlreadyExists(
                f"A policy called {name} already exists. Duplicate names are not allowed.",
                kind="policy",
            ) from None
        return managed_policy(account, row)

    async def list_managed_policies(
        self, account: str, *, path_prefix: str = "/"
    ) -> Sequence[ManagedPolicy]:
        found = await self._list(rows.of_account(rows.POLICIES, account), rows.decode_policy)
        return [managed_policy(account, row) for row in found if row.path.startswith(path_prefix)]

    async def delete_managed_policy(self, account: str, arn: str) -> None:
        async def attempt() -> None:
            name, raw, _ = await self._managed_row(account, arn)
            checks: list[Check] = [Equals(name, raw)]
            holders: list[Any] = []
            for kind, decode in _HOLDERS:
                holders += await self._list(rows.of_account(kind, account), decode)
            if any(arn in holder.attached for holder in holders):
                raise NotEmpty(
                    "Cannot delete a policy attached to entities. Detach it from them first.",
                    kind="policy",
                )
            # Whoever attaches it now changes no row of ours. It then denies everything to them,
            # which they see, and is detached like any other.
            await self._commit(checks, [(name, None)])

        await self._again(attempt)

    # Providers.

    async def create_provider(
        self,
        account: str,
        url: str,
        *,
        client_ids: Sequence[str] = (),
        thumbprints: Sequence[str] = (),
        tags: Mapping[str, str] = {},
    ) -> Provider:
        _check_url(url)
        check_tags(tags)
        _check_lists(client_ids, thumbprints)
        row = rows.ProviderRow(
            url, self._now_ms(), tuple(client_ids), tuple(thumbprints), dict(tags)
        )
        shown = _provider(account, row)
        of = await self._check_account(account)
        await self._check_room(
            rows.of_account(rows.PROVIDERS, account), PROVIDERS_MAX, "OpenIdConnectProviders"
        )
        key = _provider_key(account, shown.arn)
        try:
            await self._commit([Absent(key), Present(of)], [(key, rows.encode(row))])
        except CommitConflict:
            raise AlreadyExists(
                f"Provider with url {url} already exists.", kind="provider"
            ) from None
        return shown

    async def get_provider(self, account: str, arn: str) -> Provider:
        key = _provider_key(account, arn)
        _, row = await self._read(key, rows.decode_provider, f"provider {arn}")
        return _provider(account, row)

    async def list_providers(self, account: str) -> Sequence[Provider]:
        found = await self._list(rows.of_account(rows.PROVIDERS, account), rows.decode_provider)
        return [_provider(account, row) for row in found]

    async def update_provider(
        self,
        account: str,
        arn: str,
        *,
        client_ids: Sequence[str] | None = None,
        thumbprints: Sequence[str] | None = None,
    ) -> Provider:
        _check_lists(client_ids or (), thumbprints or ())
        wanted = {"client_ids": client_ids, "thumbprints": thumbprints}
        given = {field: tuple(value) for field, value in wanted.items() if value is not None}
        row = await self._change(
            _provider_key(account, arn),
            rows.decode_provider,
            f"provider {arn}",
            lambda former: msgspec.structs.replace(former, **given),
        )
        return _provider(account, row)

    async def delete_provider(self, account: str, arn: str) -> None:
        key = _provider_key(account, arn)

        async def attempt() -> None:
            raw, _ = await self._read(key, rows.decode_provider, f"provider {arn}")
            await self._commit([Equals(key, raw)], [(key, None)])

        await self._again(attempt)


_HOLDERS: Final = (
    (rows.USERS, rows.decode_user),
    (rows.GROUPS, rows.decode_group),
    (rows.ROLES, rows.decode_role),
)


def _provider(account: str, row: rows.ProviderRow) -> Provider:
    return Provider(
        account=account,
        url=row.url,
        created_ms=row.created_ms,
        client_ids=row.client_ids,
        thumbprints=row.thumbprints,
        tags=row.tags,
    )


def _provider_key(account: str, arn: str) -> bytes:
    prefix = f"arn:aws:iam::{account}:oidc-provider/"
    if not arn.startswith(prefix):
        raise missing(f"provider {arn}")
    return rows.of_account(rows.PROVIDERS, account) + arn.removeprefix(prefix).encode()


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    plain = fine and not (parts.query or parts.fragment or parts.username)
    if not plain or len(url) > 255 or not url.isascii() or not url.isprintable() or " " in url:
        raise invalid("The URL of a provider is https://HOST or https://HOST/PATH.")


def _check_lists(client_ids: Sequence[str], thumbprints: Sequence[str]) -> None:
    if len(client_ids) > CLIENT_IDS_MAX:
        raise too_many(
            f"Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: {CLIENT_IDS_MAX}"
        )
    if not all(1 <= len(client_id) <= 255 for client_id in client_ids):
        raise invalid("A client id has 1 to 255 characters.")
    if len(thumbprints) > THUMBPRINTS_MAX:
        raise too_many(f"Thumbprint list must contain fewer than {THUMBPRINTS_MAX} entries.")
    if not all(thumb.isalnum() and len(thumb) == 40 for thumb in thumbprints):
        raise invalid("A thumbprint has 40 hexadecimal digits.")
