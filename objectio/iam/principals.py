"""Users, groups and roles, and the policies that they have."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from objectio.abc.kv import Absent, Check, Equals, Present
from objectio.errors import AlreadyExists, CommitConflict, NotEmpty
from objectio.iam import managed, rows
from objectio.iam.admin import (
    ROLE_SESSION_SECONDS_MAX,
    Group,
    Kind,
    ManagedPolicy,
    Role,
    User,
)
from objectio.iam.registry import (
    INLINE_POLICIES_CHARS_MAX,
    TRUST_POLICY_CHARS_MAX,
    Registry,
    are_too_long,
    check_document,
    check_name,
    check_path,
    check_tags,
    invalid,
    make_id,
    missing,
    too_many,
)

ATTACHED_MAX: Final = 20
# IAM user guide, "IAM and AWS STS quotas".
GROUPS_PER_USER_MAX: Final = 10
PER_ACCOUNT_MAX: Final[Mapping[Kind, int]] = {"user": 5_000, "group": 300, "role": 1_000}
_NAME_CHARS_MAX: Final = {"user": 64, "group": 128, "role": 64}
_PREFIXES: Final = {"user": rows.USERS, "group": rows.GROUPS, "role": rows.ROLES}
_DECODERS: Final[Mapping[str, Callable[[bytes], Any]]] = {
    "user": rows.decode_user,
    "group": rows.decode_group,
    "role": rows.decode_role,
}

Holder = rows.UserRow | rows.GroupRow | rows.RoleRow


class Principals(Registry):
    # Users.

    async def create_user(
        self, account: str, name: str, *, path: str = "/", tags: Mapping[str, str] = {}
    ) -> User:
        check_tags(tags)
        row = rows.UserRow(name, path, make_id("AIDA"), self._now_ms(), dict(tags))
        await self._create("user", account, row)
        return _user(account, row)

    async def get_user(self, account: str, name: str) -> User:
        return _user(account, (await self._find("user", account, name))[2])

    async def find_user(self, account: str, user_id: str) -> User:
        found = await self._list(rows.of_account(rows.USERS, account), rows.decode_user)
        for row in found:
            if row.id == user_id:
                return _user(account, row)
        raise missing(f"user {user_id}")

    async def list_users(self, account: str, *, path_prefix: str = "/") -> Sequence[User]:
        found = await self._list(rows.of_account(rows.USERS, account), rows.decode_user)
        return [_user(account, row) for row in found if row.path.startswith(path_prefix)]

    async def update_user(
        self, account: str, name: str, *, new_name: str = "", new_path: str = ""
    ) -> User:
        row: rows.UserRow = await self._rename("user", account, name, new_name, new_path)
        return _user(account, row)

    async def delete_user(self, account: str, name: str) -> None:
        def check(row: rows.UserRow, groups: Sequence[rows.GroupRow]) -> None:
            if row.keys:
                raise _conflict("access keys")
            if any(row.id in group.members for group in groups):
                raise _conflict("its membership in groups")

        await self._delete("user", account, name, check)

    # Groups.

    async def create_group(self, account: str, name: str, *, path: str = "/") -> Group:
        row = rows.GroupRow(name, path, make_id("AGPA"), self._now_ms())
        await self._create("group", account, row)
        return _group(account, row)

    async def get_group(self, account: str, name: str) -> tuple[Group, Sequence[User]]:
        _, _, row = await self._find("group", account, name)
        members = frozenset(row.members)
        users = await self._list(rows.of_account(rows.USERS, account), rows.decode_user)
        return _group(account, row), [_user(account, user) for user in users if user.id in members]

    async def list_groups(self, account: str, *, path_prefix: str = "/") -> Sequence[Group]:
        return [
            _group(account, row)
            for row in await self._groups(account)
            if row.path.startswith(path_prefix)
        ]

    async def update_group(
        self, account: str, name: str, *, new_name: str = "", new_path: str = ""
    ) -> Group:
        row: rows.GroupRow = await self._rename("group", account, name, new_name, new_path)
        return _group(account, row)

    async def delete_group(self, account: str, name: str) -> None:
        def check(row: rows.GroupRow, groups: Sequence[rows.GroupRow]) -> None:
            if row.members:
                raise _conflict("users in the group")

        await self._delete("group", account, name, check)

    async def add_to_group(self, account: str, group: str, user: str) -> None:
        async def attempt() -> None:
            user_name, _, row = await self._find("user", account, user)
            name, raw, found = await self._find("group", account, group)
            if row.id in found.members:
                return
            # Each request of the user asks the policies of all of them.
            if len(await self.groups_of(account, user)) >= GROUPS_PER_USER_MAX:
                raise too_many(f"Cannot exceed quota for GroupsPerUser: {GROUPS_PER_USER_MAX}")
            changed = msgspec.structs.replace(found, members=(*found.members, row.id))
            checks: list[Check] = [Equals(name, raw), Present(user_name)]
            await self._commit(checks, [(name, rows.encode(changed))])

        await self._again(attempt)

    async def remove_from_group(self, account: str, group: str, user: str) -> None:
        _, _, row = await self._find("user", account, user)

        def without(found: rows.GroupRow) -> rows.GroupRow:
            left = tuple(member for member in found.members if member != row.id)
            return msgspec.structs.replace(found, members=left)

        name = rows.named(rows.GROUPS, account, group)
        await self._change(name, rows.decode_group, f"group {group}", without)

    async def groups_of(self, account: str, user: str) -> Sequence[Group]:
        _, _, row = await self._find("user", account, user)
        return [_group(account, g) for g in await self._groups(account) if row.id in g.members]

    async def _groups(self, account: str) -> list[rows.GroupRow]:
        return await self._list(rows.of_account(rows.GROUPS, account), rows.decode_group)

    # Roles.

    async def create_role(
        self,
        account: str,
        name: str,
        trust_policy: str,
        *,
        path: str = "/",
        description: str = "",
        session_seconds_max: int = 3_600,
        tags: Mapping[str, str] = {},
    ) -> Role:
        check_tags(tags)
        check_document(trust_policy, "trust", TRUST_POLICY_CHARS_MAX)
        _check_role(description, session_seconds_max)
        row = rows.RoleRow(
            name,
            path,
            make_id("AROA"),
            self._now_ms(),
            trust_policy,
            description,
            session_seconds_max,
            dict(tags),
        )
        await self._create("role", account, row)
        return _role(account, row)

    async def get_role(self, account: str, name: str) -> Role:
        return _role(account, (await self._find("role", account, name))[2])

    async def find_role(self, arn: str) -> Role:
        account, _, path = arn.removeprefix("arn:aws:iam::").partition(":role/")
        role = await self.get_role(account, path.rpartition("/")[2])
        if role.arn != arn:
            raise missing(f"role {arn}")
        return role

    async def list_roles(self, account: str, *, path_prefix: str = "/") -> Sequence[Role]:
        found = await self._list(rows.of_account(rows.ROLES, account), rows.decode_role)
        return [_role(account, row) for row in found if row.path.startswith(path_prefix)]

    async def update_role(
        self,
        account: str,
        name: str,
        *,
        description: str | None = None,
        session_seconds_max: int | None = None,
        trust_policy: str | None = None,
    ) -> Role:
        if trust_policy is not None:
            check_document(trust_policy, "trust", TRUST_POLICY_CHARS_MAX)
        wanted = {
            "description": description,
            "session_seconds_max": session_seconds_max,
            "trust_policy": trust_policy,
        }
        given = {field: value for field, value in wanted.items() if value is not None}

        def change(row: rows.RoleRow) -> rows.RoleRow:
            made = msgspec.structs.replace(row, **given)
            _check_role(made.description, made.session_seconds_max)
            return made

        row = rows.named(rows.ROLES, account, name)
        changed = await self._change(row, rows.decode_role, f"role {name}", change)
        return _role(account, changed)

    async def delete_role(self, account: str, name: str) -> None:
        await self._delete("role", account, name, lambda row, groups: None)

    async def set_tags(self, account: str, kind: Kind, name: str, tags: Mapping[str, str]) -> None:
        check_tags(tags)
        if kind == "group":
            raise invalid("groups have no tags")
        await self._alter(account, kind, name, lambda row: {"tags": dict(tags)})

    # Policies.

    async def put_policy(
        self, account: str, kind: Kind, name: str, policy: str, document: str
    ) -> None:
        check_name(policy, 128)
        check_document(document, "identity", INLINE_POLICIES_CHARS_MAX)

        def change(row: Holder) -> dict[str, Any]:
            policies = {**row.policies, policy: document}
            if are_too_long(policies.values(), INLINE_POLICIES_CHARS_MAX):
                raise too_many(
                    f"Maximum policy size of {INLINE_POLICIES_CHARS_MAX} bytes exceeded "
                    f"for {kind} {name}"
                )
            return {"policies": policies}

        await self._alter(account, kind, name, change)

    async def get_policy(self, account: str, kind: Kind, name: str, policy: str) -> str:
        _, _, row = await self._find(kind, account, name)
        found: str | None = row.policies.get(policy)
        if found is None:
            raise missing(f"policy {policy}")
        return found

    async def delete_policy(self, account: str, kind: Kind, name: str, policy: str) -> None:
        def change(row: Holder) -> dict[str, Any]:
            if policy not in row.policies:
                raise missing(f"policy {policy}")
            return {"policies": {key: row.policies[key] for key in row.policies if key != policy}}

        await self._alter(account, kind, name, change)

    async def list_policies(self, account: str, kind: Kind, name: str) -> Sequence[str]:
        _, _, row = await self._find(kind, account, name)
        return sorted(row.policies)

    async def attach_policy(self, account: str, kind: Kind, name: str, arn: str) -> None:
        async def attempt() -> None:
            row_name, raw, row = await self._find(kind, account, name)
            checks = [Equals(row_name, raw)]
            if arn not in managed.POLICIES:
                policy_name, policy_raw, _ = await self._managed_row(account, arn)
                checks.append(Equals(policy_name, policy_raw))
            if arn in row.attached:
                return
            if len(row.attached) >= ATTACHED_MAX:
                raise too_many(f"Cannot exceed quota for attached policies: {ATTACHED_MAX}")
            changed = msgspec.structs.replace(row, attached=(*row.attached, arn))
            await self._commit(checks, [(row_name, rows.encode(changed))])

        await self._again(attempt)

    async def detach_policy(self, account: str, kind: Kind, name: str, arn: str) -> None:
        def change(row: Holder) -> dict[str, Any]:
            if arn not in row.attached:
                raise missing(f"policy {arn}")
            return {"attached": tuple(each for each in row.attached if each != arn)}

        await self._alter(account, kind, name, change)

    async def attached_policies(
        self, account: str, kind: Kind, name: str
    ) -> Sequence[ManagedPolicy]:
        _, _, row = await self._find(kind, account, name)
        return [await self.get_managed_policy(account, arn) for arn in row.attached]

    async def get_managed_policy(self, account: str, arn: str) -> ManagedPolicy:
        if (found := managed.POLICIES.get(arn)) is not None:
            return found
        return managed_policy(account, (await self._managed_row(account, arn))[2])

    async def _managed_row(self, account: str, arn: str) -> tuple[bytes, bytes, rows.PolicyRow]:
        name = rows.named(rows.POLICIES, account, arn.rpartition("/")[2])
        raw, row = await self._read(name, rows.decode_policy, f"policy {arn}")
        if managed_policy(account, row).arn != arn:
            raise missing(f"policy {arn}")
        return name, raw, row

    # What they have in common.

    async def _find(self, kind: Kind, account: str, name: str) -> tuple[bytes, bytes, Any]:
        row = rows.named(_PREFIXES[kind], account, name)
        raw, found = await self._read(row, _DECODERS[kind], f"{kind} {name}")
        return row, raw, found

    async def _create(self, kind: Kind, account: str, row: Holder) -> None:
        check_name(row.name, _NAME_CHARS_MAX[kind])
        check_path(row.path)
        of = await self._check_account(account)
        name = rows.named(_PREFIXES[kind], account, row.name)
        await self._check_room(
            rows.of_account(_PREFIXES[kind], account),
            PER_ACCOUNT_MAX[kind],
            f"{kind.capitalize()}sPerAccount",
        )
        try:
            await self._commit([Absent(name), Present(of)], [(name, rows.encode(row))])
        except CommitConflict:
            raise _exists(kind, row.name) from None

    async def _rename(
        self, kind: Kind, account: str, name: str, new_name: str, new_path: str
    ) -> Any:
        async def attempt() -> Any:
            former_name, raw, former = await self._find(kind, account, name)
            made = msgspec.structs.replace(
                former, name=new_name or former.name, path=new_path or former.path
            )
            check_name(made.name, _NAME_CHARS_MAX[kind])
            check_path(made.path)
            row = rows.named(_PREFIXES[kind], account, made.name)
            if row == former_name:
                await self._commit([Equals(row, raw)], [(row, rows.encode(made))])
                return made
            try:
                await self._commit(
                    [Equals(former_name, raw), Absent(row)],
                    [(former_name, None), (row, rows.encode(made))],
                )
            except CommitConflict as conflict:
                if isinstance(conflict.fields.get("check"), Absent):
                    raise _exists(kind, made.name) from None
                raise
            return made

        return await self._again(attempt)

    async def _alter(
        self, account: str, kind: Kind, name: str, change: Callable[[Any], dict[str, Any]]
    ) -> None:
        row = rows.named(_PREFIXES[kind], account, name)
        await self._change(
            row,
            _DECODERS[kind],
            f"{kind} {name}",
            lambda former: msgspec.structs.replace(former, **change(former)),
        )

    async def _delete(
        self,
        kind: Kind,
        account: str,
        name: str,
        check: Callable[[Any, Sequence[rows.GroupRow]], None],
    ) -> None:
        async def attempt() -> None:
            row_name, raw, row = await self._find(kind, account, name)
            if row.policies or row.attached:
                raise _conflict("policies")
            check(row, await self._groups(account))
            await self._commit([Equals(row_name, raw)], [(row_name, None)])

        await self._again(attempt)


def _conflict(what: str) -> NotEmpty:
    return NotEmpty(f"Cannot delete entity, must delete {what} first.")


def _exists(kind: str, name: str) -> AlreadyExists:
    shown = kind.capitalize()
    return AlreadyExists(f"{shown} with name {name} already exists.", kind=kind, name=name)


def _check_role(description: str, session_seconds_max: int) -> None:
    if len(description) > 1_000:
        raise invalid("A description has at most 1000 characters.")
    if not 3_600 <= session_seconds_max <= ROLE_SESSION_SECONDS_MAX:
        raise invalid(f"MaxSessionDuration is 3600 to {ROLE_SESSION_SECONDS_MAX} seconds.")


def _user(account: str, row: rows.UserRow) -> User:
    return User(
        account=account,
        name=row.name,
        path=row.path,
        id=row.id,
        created_ms=row.created_ms,
        tags=row.tags,
    )


def _group(account: str, row: rows.GroupRow) -> Group:
    return Group(
        account=account, name=row.name, path=row.path, id=row.id, created_ms=row.created_ms
    )


def _role(account: str, row: rows.RoleRow) -> Role:
    return Role(
        account=account,
        name=row.name,
        path=row.path,
        id=row.id,
        created_ms=row.created_ms,
        trust_policy=row.trust_policy,
        description=row.description,
        session_seconds_max=row.session_seconds_max,
        tags=row.tags,
    )


def managed_policy(account: str, row: rows.PolicyRow) -> ManagedPolicy:
    return ManagedPolicy(
        account=account,
        name=row.name,
        path=row.path,
        id=row.id,
        created_ms=row.created_ms,
        document=row.document,
        description=row.description,
    )
