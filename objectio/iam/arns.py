"""Names of resources: what is managed by operators, and the spelling of S3 stores that came before. Pure."""

from __future__ import annotations

from typing import Final

ADMIN_SERVICE: Final = "admin"
ADMIN: Final = "arn:objectio:admin:::"
"""What operators manage begins so. Its names are compared without regard to case, since those of users,
groups and policies are: who may do nothing with "Ann" may do nothing with "ann"."""
