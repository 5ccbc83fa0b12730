"""Who may call this process: the root, and whoever the rows of identities say, if it can read them."""

from __future__ import annotations

from objectio.abc.role import NodeParts
from objectio.iam.credentials import CredentialStore, RootCredentials
from objectio.iam.directory import IdentityDirectory
from objectio.iam.identities import Identities
from objectio.iam.vault import Vault


class Callers:
    """Provides `directory` and `identities` where there is metadata; elsewhere there is the root
    only."""

    def __init__(self, parts: NodeParts) -> None:
        root = RootCredentials.load(parts.config.data_dir)
        self.credentials: CredentialStore = root
        self.directory: IdentityDirectory | None = None
        self.identities: Identities | None = None
        if not parts.has("kv"):
            return
        kv, config = parts.part("kv"), parts.config
        vault = Vault(kv, parts.part("kms") if parts.has("kms") else None)
        alone = not config.meta.listen and not parts.has("link")
        self.directory = IdentityDirectory(kv, vault, root, follows=not alone)
        self.credentials = self.directory
        self.identities = Identities(kv, vault, self.directory)
        parts.provide("directory", self.directory)
        parts.provide("identities", self.identities)

    async def start(self) -> None:
        if self.directory is not None:
            await self.directory.start()

    async def stop(self) -> None:
        if self.directory is not None:
            await self.directory.stop()
