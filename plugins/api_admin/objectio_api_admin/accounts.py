"""Accounts: who owns buckets, and has users."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from objectio.abc.api import Account, ApiContext
from objectio.errors import NotEmpty, NotFound
from objectio_api_admin.shapes import Order, Route, identities_of


class NewAccount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out is made."""

    display_name: str
    id: str = ""
    canonical_id: str = ""
    email: str = ""
    access_key: str = ""
    secret_key: str = ""


async def list_accounts(context: ApiContext, order: Order) -> Any:
    return {"accounts": [_shown(each) for each in await identities_of(context).list_accounts()]}


async def create_account(context: ApiContext, order: Order) -> Any:
    wanted: NewAccount = order.body
    account, key = await identities_of(context).create_account(
        wanted.display_name,
        account=wanted.id,
        canonical_id=wanted.canonical_id,
        email=wanted.email,
        access_key=wanted.access_key,
        secret_key=wanted.secret_key,
    )
    return {**_shown(account), "access_key": key.key.access_key, "secret_key": key.secret_key}


async def delete_account(context: ApiContext, order: Order) -> Any:
    identities = identities_of(context)
    for account in await identities.list_accounts():
        if account.id == order.name:
            owned = await context.objects.list_buckets(owner=account.canonical_id, limit=1)
            if owned:
                raise NotEmpty(f"account {account.id} owns buckets: {owned[0].name}")
            await identities.delete_account(account.id)
            return _shown(account)
    raise NotFound(f"there is no account {order.name}", kind="account")


def _shown(account: Account) -> dict[str, str]:
    return account._asdict()


ROUTES: Final = (
    Route("GET", "/v1/accounts", "ListAccounts", "account/*", list_accounts, "context"),
    Route(
        "POST",
        "/v1/accounts",
        "CreateAccount",
        "account/*",
        create_account,
        "context",
        body=NewAccount,
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/delete",
        "DeleteAccount",
        "account/{name}",
        delete_account,
        "context",
    ),
)
