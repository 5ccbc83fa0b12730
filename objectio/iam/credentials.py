"""Access keys and who they belong to. Nothing here ever shows a secret: not in repr, not in errors.

A `CredentialStore` is asked once for each request, on the event loop, so `lookup` must be a
dictionary access or as cheap. The root credentials of an embedded node live in a file beside its
data, or come from the environment.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from objectio.abc.api import Identity
from objectio.errors import ConfigError, CredentialsMalformed

logger = logging.getLogger("objectio.iam")

CREDENTIALS_FILE = "credentials.json"
ROOT_ACCESS_KEY_VARIABLE = "OBJECTIO_ROOT_ACCESS_KEY"
ROOT_SECRET_KEY_VARIABLE = "OBJECTIO_ROOT_SECRET_KEY"  # noqa: S105 - a name, not a secret
ROOT_ARN = "arn:aws:iam::000000000000:root"

ROOT_ACCOUNT = "000000000000"
ROOT_CANONICAL_ID = "root"

ACCESS_KEY_CHARS = 20  # what AWS makes, and what some clients check for
SECRET_KEY_CHARS = 40
SECRET_KEY_CHARS_MIN = 8
# The access key is a path segment of the credential scope and stands between commas and spaces in
# the Authorization header, so it is kept to characters that mean nothing there.
_ACCESS_KEY = re.compile(r"[A-Za-z0-9._@+-]{3,128}")


def root_identity(access_key: str) -> Identity:
    """The root of the cluster, whose account is its first."""
    return Identity(
        "root",
        ROOT_ARN,
        access_key,
        is_root=True,
        account=ROOT_ACCOUNT,
        canonical_id=ROOT_CANONICAL_ID,
        display_name="root",
        user_id=ROOT_ACCOUNT,
    )


@dataclass(frozen=True, slots=True)
class Credential:
    """One access key. The secret is kept out of repr, so it cannot reach a log by accident."""

    access_key: str
    secret_key: str = field(repr=False)
    identity: Identity


class CredentialStore(Protocol):
    def lookup(self, access_key: str) -> Credential | None: ...

    def session(self, access_key: str, token: str) -> Credential:
        """Temporary credentials, which mean something with their token only. Raises
        `CredentialsMalformed`."""
        ...

    def bearer(self, token: str, audience: str) -> Credential:
        """Those that stand behind a bearer token. Raises `CredentialsMalformed`."""
        ...


class StaticCredentials:
    """A fixed set of credentials in memory."""

    def __init__(self, credentials: Iterable[Credential]) -> None:
        self.by_access_key = {item.access_key: item for item in credentials}

    def lookup(self, access_key: str) -> Credential | None:
        return self.by_access_key.get(access_key)

    def session(self, access_key: str, token: str) -> Credential:
        raise invalid_token()

    def bearer(self, token: str, audience: str) -> Credential:
        raise invalid_token()


class RootCredentials(StaticCredentials):
    """The one identity that an embedded node starts with. `root` is its credential."""

    def __init__(self, root: Credential) -> None:
        super().__init__([root])
        self.root = root

    @classmethod
    def load(cls, directory: Path, environ: Mapping[str, str] | None = None) -> RootCredentials:
        """From the environment if it names them, else from DIR/credentials.json, which is made
        with random keys the first time."""
        environ = os.environ if environ is None else environ
        found = from_environment(environ)
        if found is None:
            path = directory / CREDENTIALS_FILE
            try:
                found = read_credentials(path)
            except FileNotFoundError:
                found = _create(path)
        return cls(root_credential(*found))


def invalid_token() -> CredentialsMalformed:
    return CredentialsMalformed(
        "The provided token is malformed or otherwise invalid.", reason="InvalidToken"
    )


def root_credential(access_key: str, secret_key: str) -> Credential:
    return Credential(access_key, secret_key, root_identity(access_key))


def from_environment(environ: Mapping[str, str]) -> tuple[str, str] | None:
    """(access key, secret key) of the root, or None if the environment says nothing."""
    access_key = environ.get(ROOT_ACCESS_KEY_VARIABLE, "")
    secret_key = environ.get(ROOT_SECRET_KEY_VARIABLE, "")
    if not access_key and not secret_key:
        return None
    if not access_key or not secret_key:
        raise ConfigError(
            f"set both {ROOT_ACCESS_KEY_VARIABLE} and {ROOT_SECRET_KEY_VARIABLE}, or neither"
        )
    return _checked(access_key, secret_key, "the environment")


def read_credentials(path: Path) -> tuple[str, str]:
    """(access key, secret key) from a credentials.json. Raises FileNotFoundError, `ConfigError`."""
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        text = file.read(64 * 1024)
    if mode & 0o077:
        logger.warning("%s was readable by others; its mode is set to 0600", path)
        path.chmod(0o600)
    try:
        data: Any = json.loads(text)
        access_key, secret_key = data["access_key"], data["secret_key"]
    except (ValueError, KeyError, TypeError):
        # Without `from`: the chained error would quote the file, and with it the secret.
        raise ConfigError(
            f'{path} must hold {{"access_key": "...", "secret_key": "..."}}; '
            "move it away to have new credentials made"
        ) from None
    if not isinstance(access_key, str) or not isinstance(secret_key, str):
        raise ConfigError(f"access_key and secret_key in {path} must be strings")
    return _checked(access_key, secret_key, str(path))


def _checked(access_key: str, secret_key: str, where: str) -> tuple[str, str]:
    if not _ACCESS_KEY.fullmatch(access_key):
        raise ConfigError(
            f"the access key in {where} must be 3 to 128 characters out of A-Z a-z 0-9 . _ @ + -"
        )
    if len(secret_key) < SECRET_KEY_CHARS_MIN:
        raise ConfigError(
            f"the secret key in {where} is shorter than {SECRET_KEY_CHARS_MIN} characters"
        )
    return access_key, secret_key


def _create(path: Path) -> tuple[str, str]:
    """Make random credentials and write them so that a crash leaves either all or nothing."""
    alphabet = string.ascii_uppercase + string.digits
    access_key = "".join(secrets.choice(alphabet) for _ in range(ACCESS_KEY_CHARS))
    secret_key = secrets.token_urlsafe(SECRET_KEY_CHARS)[:SECRET_KEY_CHARS]
    text = json.dumps({"access_key": access_key, "secret_key": secret_key}, indent=2) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        # link, not rename: when two processes start at once, both must end with the same file.
        os.link(temporary, path)
    except FileExistsError:
        return read_credentials(path)
    finally:
        temporary.unlink(missing_ok=True)
        _sync_directory(path.parent)
    return access_key, secret_key


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
