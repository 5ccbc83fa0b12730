"""Policies: documents of statements, parsed and compiled once, asked many times. Pure.

A document comes in JSON (IAM user guide, "IAM JSON policy elements reference") and in one of three
kinds: `identity` says what its holder may do and names no principal; `resource` stands at a bucket
and says who may do what with it; `trust` stands at a role and says who may assume it. What cannot be
understood is refused when the document is stored (`MalformedPolicy`), never ignored when it is asked:
a condition that is not known would otherwise turn a narrow grant into a wide one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from objectio.abc.api import Identity
from objectio.errors import InvalidRequest

Kind = Literal["identity", "resource", "trust"]
Effect = Literal["Allow", "Deny"]

IDENTITY_POLICY_BYTES_MAX: Final = 10_240
RESOURCE_POLICY_BYTES_MAX: Final = 20 * 1024  # S3 user guide, "Bucket policies": 20 KB


class MalformedPolicy(InvalidRequest):
    """A document that is not a policy, with S3's code in `reason`. IAM's is MalformedPolicyDocument."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="MalformedPolicy")


@dataclass(frozen=True, slots=True)
class Policy:
    """A compiled document. `keys` are the condition keys that it mentions, lower-case, in conditions
    and in variables: what need not be found out for a request that no policy asks about."""

    kind: Kind
    keys: frozenset[str] = frozenset()

    @staticmethod
    def parse(raw: bytes, *, kind: Kind, bucket: str = "") -> Policy:
        """Raises `MalformedPolicy`. With `bucket`, each resource must be of that bucket."""
        raise MalformedPolicy("This policy contains invalid Json")

    def mentions(self, prefix: str) -> bool:
        """Whether a condition key that starts so is asked about: "s3:ExistingObjectTag/"."""
        lowered = prefix.lower()
        return any(key.startswith(lowered) for key in self.keys)


Values = Mapping[str, Sequence[str]]
"""Condition keys, in any case, and the values that a request has for them. Absent: not in it."""

LazyValues = Callable[[], Values]

__all__ = ["Identity", "Kind", "LazyValues", "MalformedPolicy", "Policy", "Values"]
