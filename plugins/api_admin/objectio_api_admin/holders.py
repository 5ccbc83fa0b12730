"""What users and groups have in common: policies, and that they are not deleted with them."""

from __future__ import annotations

from objectio.iam.admin import IdentityAdmin, Kind


async def policies_of(
    identities: IdentityAdmin, account: str, kind: Kind, name: str
) -> tuple[list[str], list[str]]:
    """ARNs of managed policies, names of inline ones."""
    attached = await identities.attached_policies(account, kind, name)
    inline = await identities.list_policies(account, kind, name)
    return [policy.arn for policy in attached], list(inline)


async def held_by(identities: IdentityAdmin, account: str, kind: Kind, name: str) -> list[str]:
    """Its policies, in words."""
    attached = await identities.attached_policies(account, kind, name)
    inline = await identities.list_policies(account, kind, name)
    return [f"policy {policy.name}" for policy in attached] + [
        f"inline policy {policy}" for policy in inline
    ]
