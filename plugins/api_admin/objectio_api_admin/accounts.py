"""Accounts: who owns buckets, and has users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from objectio.abc.api import Account as KnownAccount
from objectio.abc.api import ApiContext
from objectio.errors import NotEmpty, NotFound
from objectio_api_admin.shapes import Order, Route, identities_of
from objectio_api_admin.values import (
    AccessKeyId,
    AccountId,
    CanonicalId,
    NewAccessKeyId,
    NewSecretKey,
    SecretKey,
)


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`display_name` is for people. Of the rest, what is left out or empty is made, but the email
    address."""

    display_name: Annotated[
        str, msgspec.Meta(extra_json_schema={"pattern": "\\S", "maxLength": 128})
    ]
    id: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^((?!0{12})[0-9]{12})?$"})] = ""
    canonical_id: Annotated[
        str, msgspec.Meta(extra_json_schema={"pattern": "^(?!root$)[!-~]{0,128}$"})
    ] = ""
    email: Annotated[
        str,
        msgspec.Meta(extra_json_schema={"pattern": "^([!-?A-~]{1,64}@[!-?A-~]{1,190})?$"}),
    ] = ""
    access_key: NewAccessKeyId = ""
    secret_key: NewSecretKey = ""


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """`display_name` and `email` are for people; ACLs may name an account by its email address."""

    id: AccountId
    canonical_id: CanonicalId
    display_name: str
    email: str


class MadeAccount(Account, frozen=True, kw_only=True):
    """With the access key of its root, who may do anything with what the account has."""

    access_key: AccessKeyId
    secret_key: SecretKey


class AccountList(msgspec.Struct, frozen=True, kw_only=True):
    accounts: Sequence[Account]


async def list_accounts(context: ApiContext, order: Order) -> AccountList:
    found = await identities_of(context).list_accounts()
    return AccountList(accounts=[_shown(each) for each in found])


async def create_account(context: ApiContext, order: Order) -> MadeAccount:
    wanted: NewAccount = order.body
    account, key = await identities_of(context).create_account(
        wanted.display_name,
        account=wanted.id,
        canonical_id=wanted.canonical_id,
        email=wanted.email,
        access_key=wanted.access_key,
        secret_key=wanted.secret_key,
    )
    return MadeAccount(
        **account._asdict(), access_key=key.key.access_key, secret_key=key.secret_key
    )


async def delete_account(context: ApiContext, order: Order) -> Account:
    identities = identities_of(context)
    for account in await identities.list_accounts():
        if account.id == order.name:
            owned = await context.objects.list_buckets(owner=account.canonical_id, limit=1)
            if owned:
                raise NotEmpty(f"account {account.id} owns buckets: {owned[0].name}")
            await identities.delete_account(account.id)
            return _shown(account)
    raise NotFound(f"there is no account {order.name}", kind="account")


def _shown(account: KnownAccount) -> Account:
    return Account(**account._asdict())


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts",
        "ListAccounts",
        "account/*",
        list_accounts,
        "context",
        returns=AccountList,
        summary="Lists the accounts, without that of the cluster's root.",
    ),
    Route(
        "POST",
        "/v1/accounts",
        "CreateAccount",
        "account/*",
        create_account,
        "context",
        body=NewAccount,
        returns=MadeAccount,
        summary="Makes an account with an access key of its root, whose secret is shown this once.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/delete",
        "DeleteAccount",
        "account/{name}",
        delete_account,
        "context",
        returns=Account,
        summary="Deletes an account. Refused while it owns anything.",
    ),
)
