"""Groups and who is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from objectio.iam.admin import Group
from objectio_api_iam.call import (
    Call,
    Route,
    authorize_rename,
    everything,
    group_arn,
    new,
    user_arn,
)
from objectio_api_iam.operations.users import show_user
from objectio_api_iam.xml import Value, timestamp


def show_group(group: Group) -> Value:
    return {
        "Path": group.path,
        "GroupName": group.name,
        "GroupId": group.id,
        "Arn": group.arn,
        "CreateDate": timestamp(group.created_ms),
    }


async def create_group(call: Call) -> Value:
    group = await call.admin.create_group(call.account, call.name("GroupName"), path=call.path())
    return {"Group": show_group(group)}


async def get_group(call: Call) -> Value:
    group, users = await call.admin.get_group(call.account, call.name("GroupName"))
    shown, more = call.page(users, lambda user: user.name)
    members = [show_user(user, with_tags=False) for user in shown]
    return {"Group": show_group(group), "Users": members, **more}


async def list_groups(call: Call) -> Value:
    groups = await call.admin.list_groups(call.account, path_prefix=call.path_prefix())
    shown, more = call.page(groups, lambda group: group.name)
    return {"Groups": [show_group(group) for group in shown], **more}


async def update_group(call: Call) -> None:
    name = call.name("GroupName")

    async def find() -> Group:
        return (await call.admin.get_group(call.account, name))[0]

    new_name, new_path = await authorize_rename(call, "group", find)
    await call.admin.update_group(call.account, name, new_name=new_name, new_path=new_path)


async def delete_group(call: Call) -> None:
    await call.admin.delete_group(call.account, call.name("GroupName"))


async def add_user_to_group(call: Call) -> None:
    await call.admin.add_to_group(call.account, call.name("GroupName"), call.name("UserName"))


async def remove_user_from_group(call: Call) -> None:
    await call.admin.remove_from_group(call.account, call.name("GroupName"), call.name("UserName"))


async def list_groups_for_user(call: Call) -> Value:
    groups = await call.admin.groups_of(call.account, call.name("UserName"))
    shown, more = call.page(groups, lambda group: group.name)
    return {"Groups": [show_group(group) for group in shown], **more}


ROUTES: Final[Mapping[str, Route]] = {
    "CreateGroup": Route("iam", create_group, new("group", "GroupName")),
    "GetGroup": Route("iam", get_group, group_arn),
    "ListGroups": Route("iam", list_groups, everything("group")),
    "UpdateGroup": Route("iam", update_group, group_arn),
    "DeleteGroup": Route("iam", delete_group, group_arn),
    "AddUserToGroup": Route("iam", add_user_to_group, group_arn),
    "RemoveUserFromGroup": Route("iam", remove_user_from_group, group_arn),
    "ListGroupsForUser": Route("iam", list_groups_for_user, user_arn),
}
