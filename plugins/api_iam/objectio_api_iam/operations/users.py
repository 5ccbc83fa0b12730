"""Users and their access keys."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

from objectio.iam.admin import AccessKey, User
from objectio_api_iam.call import Call, Route, authorize_rename, everything, new, user_arn
from objectio_api_iam.errors import Refusal
from objectio_api_iam.xml import Value, timestamp


def tag_list(tags: Mapping[str, str]) -> list[Value]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def show_user(user: User, *, with_tags: bool = True) -> Value:
    return {
        "Path": user.path,
        "UserName": user.name,
        "UserId": user.id,
        "Arn": user.arn,
        "CreateDate": timestamp(user.created_ms),
        "Tags": tag_list(user.tags) if with_tags and user.tags else None,
    }


async def create_user(call: Call) -> Value:
    call.form.refuse("PermissionsBoundary")
    user = await call.admin.create_user(
        call.account, call.name("UserName"), path=call.path(), tags=call.form.tags()
    )
    return {"User": show_user(user)}


async def get_user(call: Call) -> Value:
    name = call.user()
    if name:
        return {"User": show_user(await call.admin.get_user(call.account, name))}
    return {
        "User": {
            "Path": "/",
            "UserName": call.identity.display_name or "root",
            "UserId": call.account,
            "Arn": call.identity.arn,
            "CreateDate": timestamp(0),
        }
    }


async def list_users(call: Call) -> Value:
    users = await call.admin.list_users(call.account, path_prefix=call.path_prefix())
    shown, more = call.page(users, lambda user: user.name)
    return {"Users": [show_user(user, with_tags=False) for user in shown], **more}


async def update_user(call: Call) -> None:
    name = call.name("UserName")
    new_name, new_path = await authorize_rename(
        call, "user", lambda: call.admin.get_user(call.account, name)
    )
    await call.admin.update_user(call.account, name, new_name=new_name, new_path=new_path)


async def delete_user(call: Call) -> None:
    await call.admin.delete_user(call.account, call.name("UserName"))


async def tag_user(call: Call) -> None:
    user = await call.admin.get_user(call.account, call.name("UserName"))
    await call.admin.set_tags(call.account, "user", user.name, merge(user.tags, call.form.tags()))


async def untag_user(call: Call) -> None:
    user = await call.admin.get_user(call.account, call.name("UserName"))
    tags = without(user.tags, call.form.texts("TagKeys"))
    await call.admin.set_tags(call.account, "user", user.name, tags)


async def list_user_tags(call: Call) -> Value:
    user = await call.admin.get_user(call.account, call.name("UserName"))
    shown, more = call.page(tag_list(user.tags), lambda tag: str(tag["Key"]))
    return {"Tags": shown, **more}


def merge(tags: Mapping[str, str], added: Mapping[str, str]) -> dict[str, str]:
    """Keys of tags are compared without regard to case."""
    return {**without(tags, list(added)), **added}


def without(tags: Mapping[str, str], keys: list[str]) -> dict[str, str]:
    gone = {key.lower() for key in keys}
    return {key: value for key, value in tags.items() if key.lower() not in gone}


def show_key(key: AccessKey, secret: str | None = None) -> Value:
    """One that has expired is inactive: AWS has no other word."""
    expired = bool(key.expires_ms) and key.expires_ms <= time.time() * 1000
    return {
        "UserName": key.user,
        "AccessKeyId": key.access_key,
        "Status": "Active" if key.active and not expired else "Inactive",
        "SecretAccessKey": secret,
        "CreateDate": timestamp(key.created_ms),
    }


async def create_access_key(call: Call) -> Value:
    made = await call.admin.create_access_key(call.account, call.user())
    return {"AccessKey": show_key(made.key, made.secret_key)}


async def list_access_keys(call: Call) -> Value:
    keys = await call.admin.list_access_keys(call.account, call.user())
    shown, more = call.page(keys, lambda key: key.access_key)
    return {"AccessKeyMetadata": [show_key(key) for key in shown], **more}


async def update_access_key(call: Call) -> None:
    status = call.form.need("Status")
    if status not in ("Active", "Inactive"):
        raise Refusal("ValidationError", "Status is Active or Inactive.")
    await call.admin.update_access_key(
        call.account, call.user(), call.form.need("AccessKeyId"), active=status == "Active"
    )


async def delete_access_key(call: Call) -> None:
    await call.admin.delete_access_key(call.account, call.user(), call.form.need("AccessKeyId"))


ROUTES: Final[Mapping[str, Route]] = {
    "CreateUser": Route("iam", create_user, new("user", "UserName")),
    "GetUser": Route("iam", get_user, user_arn),
    "ListUsers": Route("iam", list_users, everything("user")),
    "UpdateUser": Route("iam", update_user, user_arn),
    "DeleteUser": Route("iam", delete_user, user_arn),
    "TagUser": Route("iam", tag_user, user_arn),
    "UntagUser": Route("iam", untag_user, user_arn),
    "ListUserTags": Route("iam", list_user_tags, user_arn),
    "CreateAccessKey": Route("iam", create_access_key, user_arn),
    "ListAccessKeys": Route("iam", list_access_keys, user_arn),
    "UpdateAccessKey": Route("iam", update_access_key, user_arn),
    "DeleteAccessKey": Route("iam", delete_access_key, user_arn),
}
