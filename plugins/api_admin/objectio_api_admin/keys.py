"""Access keys of users. One that has a policy is the key of a service account: whoever signs with it
may do what both that policy and those of the user allow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from objectio.abc.api import ApiContext
from objectio.errors import NotFound
from objectio.iam.accounts import DESCRIPTION_CHARS_MAX
from objectio.iam.admin import AccessKey as KnownKey
from objectio_api_admin.policies import document_text
from objectio_api_admin.shapes import Order, Route, account_of
from objectio_api_admin.values import (
    AccessKeyId,
    AccountId,
    Milliseconds,
    NewAccessKeyId,
    NewSecretKey,
    NoDocument,
    SecretKey,
)

_EXPIRY_MAX_MS: Final = (1 << 53) - 1


class NewKey(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`description` is for people. With a `policy` it is the key of a service account, which may do
    what that and the policies of the user both allow. `expires_ms` (Unix time in milliseconds) 0: it
    lasts."""

    access_key: NewAccessKeyId = ""
    secret_key: NewSecretKey = ""
    policy: NoDocument = msgspec.field(default_factory=msgspec.Raw)
    description: Annotated[
        str, msgspec.Meta(extra_json_schema={"maxLength": DESCRIPTION_CHARS_MAX})
    ] = ""
    expires_ms: Annotated[int, msgspec.Meta(ge=0, le=_EXPIRY_MAX_MS)] = 0


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """`policy` narrows down what the user may, unless it is null. `expires_ms` 0: it lasts."""

    access_key: AccessKeyId
    account: AccountId
    user: str
    active: bool
    created_ms: Milliseconds
    policy: Annotated[Any, msgspec.Meta(extra_json_schema={"type": ["object", "null"]})]
    description: str
    expires_ms: Milliseconds


class MadeKey(AccessKey, frozen=True, kw_only=True):
    secret_key: SecretKey


class DeletedKey(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    user: str
    access_key: AccessKeyId


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    keys: Sequence[AccessKey]


async def list_keys(context: ApiContext, order: Order) -> KeyList:
    identities, account = await account_of(context, order)
    keys = await identities.list_access_keys(account, order.names["user"])
    return KeyList(keys=[show_key(key) for key in keys])


async def create_key(context: ApiContext, order: Order) -> MadeKey:
    """The only answer that has the secret."""
    identities, account = await account_of(context, order)
    wanted: NewKey = order.body
    key, secret_key = await identities.create_access_key(
        account,
        order.names["user"],
        access_key=wanted.access_key,
        secret_key=wanted.secret_key,
        policy=document_text(wanted.policy),
        description=wanted.description,
        expires_ms=wanted.expires_ms,
    )
    return MadeKey(**_fields(key), secret_key=secret_key)


async def delete_key(context: ApiContext, order: Order) -> DeletedKey:
    identities, account = await account_of(context, order)
    user, key = order.names["user"], order.names["key"]
    await identities.delete_access_key(account, user, key)
    return DeletedKey(account=account, user=user, access_key=key)


async def enable_key(context: ApiContext, order: Order) -> AccessKey:
    return await _switch(context, order, active=True)


async def disable_key(context: ApiContext, order: Order) -> AccessKey:
    return await _switch(context, order, active=False)


async def _switch(context: ApiContext, order: Order, *, active: bool) -> AccessKey:
    identities, account = await account_of(context, order)
    user, key = order.names["user"], order.names["key"]
    await identities.update_access_key(account, user, key, active=active)
    for each in await identities.list_access_keys(account, user):
        if each.access_key == key:
            return show_key(each)
    raise NotFound(f"access key {key} was deleted meanwhile", kind="key")


def show_key(key: KnownKey) -> AccessKey:
    return AccessKey(**_fields(key))


def _fields(key: KnownKey) -> dict[str, Any]:
    policy = msgspec.Raw(key.policy.encode()) if key.policy else None
    return {**msgspec.structs.asdict(key), "policy": policy}


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}/keys",
        "ListAccessKeys",
        "account/{name}/user/{user}",
        list_keys,
        "context",
        returns=KeyList,
        summary="Lists the access keys of a user.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys",
        "CreateAccessKey",
        "account/{name}/user/{user}",
        create_key,
        "context",
        body=NewKey,
        returns=MadeKey,
        summary="Makes an access key of a user, whose secret is shown this once.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/enable",
        "EnableAccessKey",
        "account/{name}/user/{user}",
        enable_key,
        "context",
        returns=AccessKey,
        summary="Lets an access key sign requests again.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/disable",
        "DisableAccessKey",
        "account/{name}/user/{user}",
        disable_key,
        "context",
        returns=AccessKey,
        summary="Lets an access key sign nothing until it is enabled.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/keys/{key}/delete",
        "DeleteAccessKey",
        "account/{name}/user/{user}",
        delete_key,
        "context",
        returns=DeletedKey,
        summary="Deletes an access key for good.",
    ),
)
