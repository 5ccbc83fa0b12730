"""Users of an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from objectio.abc.api import ApiContext, Wanted
from objectio.errors import NotEmpty
from objectio.iam.admin import User as KnownUser
from objectio_api_admin.holders import held_by, policies_of
from objectio_api_admin.keys import AccessKey, show_key
from objectio_api_admin.shapes import ARN, Order, Route, account_of
from objectio_api_admin.values import AccountId, Arn, Milliseconds, Path, UniqueId, UserName


class NewUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: UserName
    path: Path = "/"


class ChangedUser(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out or empty stays as it is."""

    name: Annotated[
        str, msgspec.Meta(extra_json_schema={"pattern": "^[A-Za-z0-9_+=,.@-]{0,64}$"})
    ] = ""
    path: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^(/([!-~]{1,510}/)?)?$"})] = ""


class User(msgspec.Struct, frozen=True, kw_only=True):
    account: AccountId
    name: str
    path: str
    id: UniqueId
    arn: Arn
    created_ms: Milliseconds


class UserDetail(User, frozen=True, kw_only=True):
    """`groups` are the names of those that it is in, `policies` the ARNs of the managed policies that
    it has, `inline_policies` the names of those that stand in it itself."""

    groups: Sequence[str]
    policies: Sequence[Arn]
    inline_policies: Sequence[str]
    keys: Sequence[AccessKey]


class UserList(msgspec.Struct, frozen=True, kw_only=True):
    users: Sequence[User]


async def list_users(context: ApiContext, order: Order) -> UserList:
    identities, account = await account_of(context, order)
    return UserList(users=[_shown(user) for user in await identities.list_users(account)])


async def create_user(context: ApiContext, order: Order) -> User:
    identities, account = await account_of(context, order)
    wanted: NewUser = order.body
    return _shown(await identities.create_user(account, wanted.name, path=wanted.path))


async def get_user(context: ApiContext, order: Order) -> UserDetail:
    identities, account = await account_of(context, order)
    user = await identities.get_user(account, order.names["user"])
    groups = await identities.groups_of(account, user.name)
    keys = await identities.list_access_keys(account, user.name)
    attached, inline = await policies_of(identities, account, "user", user.name)
    return UserDetail(
        **msgspec.structs.asdict(_shown(user)),
        groups=[group.name for group in groups],
        policies=attached,
        inline_policies=inline,
        keys=[show_key(key) for key in keys],
    )


async def update_user(context: ApiContext, order: Order) -> User:
    identities, account = await account_of(context, order)
    wanted: ChangedUser = order.body
    # Policies name users: whoever renames one must be allowed to do so with the name that it gets, or a
    # user would become another one whose rights are still written somewhere.
    if wanted.name and order.trust is not None:
        becomes = f"{ARN}account/{account}/user/{wanted.name}"
        await order.trust(Wanted("admin:UpdateUser", becomes))
    return _shown(
        await identities.update_user(
            account, order.names["user"], new_name=wanted.name, new_path=wanted.path
        )
    )


async def delete_user(context: ApiContext, order: Order) -> User:
    identities, account = await account_of(context, order)
    user = await identities.get_user(account, order.names["user"])
    held = await held_by(identities, account, "user", user.name)
    keys = await identities.list_access_keys(account, user.name)
    held += [f"the access key {key.access_key}" for key in keys]
    held += [
        f"a place in group {group.name}" for group in await identities.groups_of(account, user.name)
    ]
    if held:
        raise NotEmpty(f"user {user.name} still has {', '.join(held)}: take them away first")
    await identities.delete_user(account, user.name)
    return _shown(user)


def _shown(user: KnownUser) -> User:
    return User(
        account=user.account,
        name=user.name,
        path=user.path,
        id=user.id,
        arn=user.arn,
        created_ms=user.created_ms,
    )


ROUTES: Final = (
    Route(
        "GET",
        "/v1/accounts/{name}/users",
        "ListUsers",
        "account/{name}/user/*",
        list_users,
        "context",
        returns=UserList,
        summary="Lists the users of an account, by name.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users",
        "CreateUser",
        "account/{name}/user/*",
        create_user,
        "context",
        body=NewUser,
        returns=User,
        summary="Makes a user, who may do nothing until a policy allows it.",
    ),
    Route(
        "GET",
        "/v1/accounts/{name}/users/{user}",
        "GetUser",
        "account/{name}/user/{user}",
        get_user,
        "context",
        returns=UserDetail,
        summary="Shows a user with its groups, policies and access keys.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/update",
        "UpdateUser",
        "account/{name}/user/{user}",
        update_user,
        "context",
        body=ChangedUser,
        returns=User,
        summary="Gives a user another name, another path, or both.",
    ),
    Route(
        "POST",
        "/v1/accounts/{name}/users/{user}/delete",
        "DeleteUser",
        "account/{name}/user/{user}",
        delete_user,
        "context",
        returns=User,
        summary="Deletes a user. Refused while it has access keys, policies or groups.",
    ),
)
