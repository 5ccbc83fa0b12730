"""Names of resources: what is managed by operators, and the other spelling of them all. Pure.

Policies may write "arn:obio:" for what is called "arn:aws:" here, or, of the service "admin",
"arn:objectio:". Both spellings are one name: what a policy says is translated when it is compiled, so
that nothing that is asked later can tell them apart. What cannot be translated is refused then: a
denial that names nothing would be none.
"""

from __future__ import annotations

import re
from typing import Final

from objectio.iam.patterns import MalformedPolicy

ADMIN_SERVICE: Final = "admin"
ADMIN: Final = "arn:objectio:admin:::"
"""What operators manage begins so. Its names are compared without regard to case, since those of users,
groups and policies are: who may do nothing with "Ann" may do nothing with "ann"."""

_OTHER: Final = "arn:obio:"
_SERVICE: Final = re.compile(r"[a-z0-9-]+")
_VARIABLE: Final = re.compile(r"\$\{[^{}]*\}")
_COLONS: Final = 3
"""Of an ARN, behind its partition."""


def translate(text: str) -> str:
    """An ARN, or a pattern of some, by its one name. Raises `MalformedPolicy`."""
    if not text.startswith(_OTHER):
        return text
    rest = text.removeprefix(_OTHER)
    service = rest.partition(":")[0]
    whole = _VARIABLE.sub("", rest).count(":") >= _COLONS or "*" in rest
    if not _SERVICE.fullmatch(service) or not whole:
        raise MalformedPolicy(
            f"{text} must be an ARN with its service and account: arn:obio:s3:::bucket, "
            "arn:obio:iam::123456789012:user/ann"
        )
    return f"arn:{'objectio' if service == ADMIN_SERVICE else 'aws'}:{rest}"
