"""Managed policies that are there from the beginning: those of AWS which say the same here, of the
services that there are, and four of our own for the most common wishes. What they allow, they allow
within the account of who has them; operators' actions (admin:…) in the account of the root only."""

from __future__ import annotations

import json
from typing import Final

from objectio.iam.admin import ManagedPolicy


def _policy(number: int, name: str, actions: list[str], description: str = "") -> ManagedPolicy:
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return ManagedPolicy(
        account="aws",
        name=name,
        path="/",
        id=f"ANPA{number:016}",
        created_ms=0,
        document=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        description=description,
    )


_DIAGNOSTICS: Final = [
    "admin:CreateToken",
    "admin:Diagnose",
    "admin:GetCluster*",
    "admin:GetDisk",
    "admin:GetEvents",
    "admin:GetJournal",
    "admin:GetNode",
    "admin:GetOpenApi",
    "admin:GetRebalance",
    "admin:GetRepair",
    "admin:GetScrub",
    "admin:ListDisks",
    "admin:ListNodes",
]
"""What says how the storage is, and nothing of who uses it."""


_ALL: Final = (
    _policy(1, "AdministratorAccess", ["*"]),
    _policy(2, "PowerUserAccess", ["s3:*", "sts:*"]),
    _policy(3, "ReadOnlyAccess", ["s3:Get*", "s3:List*", "iam:Get*", "iam:List*"]),
    _policy(4, "AmazonS3FullAccess", ["s3:*"]),
    _policy(5, "AmazonS3ReadOnlyAccess", ["s3:Get*", "s3:List*"]),
    _policy(6, "IAMFullAccess", ["iam:*"]),
    _policy(7, "IAMReadOnlyAccess", ["iam:Get*", "iam:List*"]),
    _policy(8, "AmazonSNSFullAccess", ["sns:*"]),
    _policy(9, "AmazonSNSReadOnlyAccess", ["sns:GetTopicAttributes", "sns:List*"]),
    _policy(10, "readonly", ["s3:Get*", "s3:List*"], "Reads every bucket of the account."),
    _policy(11, "readwrite", ["s3:*"], "Does anything with the buckets of the account."),
    _policy(
        12,
        "admin",
        ["*"],
        "Does anything that the account may: in that of the root, manage the cluster.",
    ),
    _policy(
        13,
        "diagnostics",
        _DIAGNOSTICS,
        "Looks at the state of the storage, in the account of the root.",
    ),
)
POLICIES: Final = {policy.arn: policy for policy in _ALL}

DENY_ALL: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "*", "Resource": "*"}],
    }
)
"""In place of a policy that is attached and cannot be found."""
