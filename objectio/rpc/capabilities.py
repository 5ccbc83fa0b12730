"""What the processes of a release can say to each other: the families of methods, each with a number that
goes up when what its methods mean has changed so much that older processes would misunderstand.

Both ends name theirs in the handshake. Who connects says which it cannot do without, and refuses a
process of a release that lacks them instead of talking past it.
"""

from __future__ import annotations

from typing import Final

SHARDS: Final = "shards-1"
KV: Final = "kv-1"
SESSIONS: Final = "sessions-1"
ADMIN: Final = "admin-1"
ALL: Final = (SHARDS, KV, SESSIONS, ADMIN)
