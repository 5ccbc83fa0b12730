"""The rows of identities, decoded, and what they are found by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from objectio.abc.api import Account
from objectio.iam import managed, rows
from objectio.iam.credentials import ROOT_ACCOUNT, ROOT_CANONICAL_ID

_CLUSTER: Final = Account(ROOT_ACCOUNT, ROOT_CANONICAL_ID, "root")
_DECODERS: Final[dict[bytes, Callable[[bytes], rows.Row]]] = {
    rows.USERS: rows.decode_user,
    rows.GROUPS: rows.decode_group,
    rows.ROLES: rows.decode_role,
    rows.POLICIES: rows.decode_policy,
}


class Holdings:
    """What `objectio.iam.directory` keeps. `accounts` and `keys` by their names; the rest by row."""

    def __init__(self) -> None:
        self.accounts: dict[str, rows.AccountRow] = {}
        self.keys: dict[str, rows.KeyRow] = {}
        self.by_account: dict[str, Account] = {ROOT_ACCOUNT: _CLUSTER}
        self.by_canonical_id: dict[str, Account] = {ROOT_CANONICAL_ID: _CLUSTER}
        self.by_email: dict[str, Account] = {}
        self._rows: dict[bytes, rows.Row] = {}
        self._row_of_id: dict[str, bytes] = {}

    def put(self, key: bytes, value: bytes | None) -> None:
        """As it is now in the store; None: it is not there any more."""
        kind, name = key[:2], key[2:].decode()
        if kind == rows.ACCOUNTS:
            self._put_account(name, None if value is None else rows.decode_account(value))
        elif kind == rows.KEYS:
            self.keys.pop(name, None)
            if value is not None:
                self.keys[name] = rows.decode_key(value)
        elif kind in _DECODERS:
            former = self._rows.pop(key, None)
            if former is not None and self._row_of_id.get(_id(former)) == key:
                del self._row_of_id[_id(former)]
            if value is not None:
                self._rows[key] = row = _DECODERS[kind](value)
                self._row_of_id[_id(row)] = key

    def _put_account(self, account: str, row: rows.AccountRow | None) -> None:
        former = self.by_account.pop(account, None)
        if former is not None:
            self.by_canonical_id.pop(former.canonical_id, None)
            self.by_email.pop(former.email.lower(), None)
        self.accounts.pop(account, None)
        if row is None:
            return
        self.accounts[account] = row
        shown = Account(row.id, row.canonical_id, row.display_name, row.email)
        self.by_account[account] = self.by_canonical_id[row.canonical_id] = shown
        if row.email:
            self.by_email[row.email.lower()] = shown

    def incarnation(self, account: str) -> str:
        """Tells an account from one that was made anew by the same id; "" where there is none."""
        row = self.accounts.get(account)
        return "" if row is None else str(row.created_ms)

    def find_id(self, principal_id: str) -> rows.Row | None:
        row = self._row_of_id.get(principal_id)
        return None if row is None else self._rows[row]

    def find(
        self, kind: bytes, account: str, principal_id: str
    ) -> rows.UserRow | rows.RoleRow | None:
        """A user or role of the account."""
        row = self._row_of_id.get(principal_id, b"")
        if not row.startswith(rows.of_account(kind, account)):
            return None
        found = self._rows[row]
        assert isinstance(found, rows.UserRow | rows.RoleRow)
        return found

    def groups_of(self, account: str, user_id: str) -> list[rows.GroupRow]:
        prefix = rows.of_account(rows.GROUPS, account)
        return [
            row
            for key, row in self._rows.items()
            if key.startswith(prefix) and isinstance(row, rows.GroupRow) and user_id in row.members
        ]

    def managed_document(self, account: str, arn: str) -> str | None:
        """Of a policy of the account, or of one that is there from the beginning."""
        if (found := managed.POLICIES.get(arn)) is not None:
            return found.document
        row = self._rows.get(rows.named(rows.POLICIES, account, arn.rpartition("/")[2]))
        return row.document if isinstance(row, rows.PolicyRow) else None


def _id(row: rows.Row) -> str:
    found: str = row.id  # type: ignore[union-attr]
    return found
