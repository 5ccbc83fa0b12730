"""The accounts that the public suite wants, and the file that tells it of them."""

from __future__ import annotations

import configparser
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from objectio.testing.cluster import LocalServer

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
KMS_KEYS = ("testkey-1", "testkey-2")


@dataclass(frozen=True)
class Account:
    """One section of the suite's configuration."""

    section: str
    number: int
    name: str

    @property
    def id(self) -> str:
        return f"{self.number:012d}"

    @property
    def canonical_id(self) -> str:
        return hashlib.sha256(self.section.encode()).hexdigest()

    @property
    def email(self) -> str:
        return f"{self.name}@example.com"

    @property
    def access_key(self) -> str:
        return f"AKIA{self.name.upper():A<16.16}"

    @property
    def secret_key(self) -> str:
        return hashlib.sha256(f"{self.section} secret".encode()).hexdigest()[:40]


ACCOUNTS = (
    Account("s3 main", 111111111111, "main"),
    Account("s3 alt", 222222222222, "alt"),
    Account("s3 tenant", 333333333333, "tenant"),
    Account("iam", 444444444444, "iam"),
    Account("iam root", 555555555555, "iamroot"),
    Account("iam alt root", 666666666666, "iamalt"),
)


def objectio(server: LocalServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`objectio …` as the root of the server."""
    access_key, secret_key = server.credentials
    env = {
        **server._environment(),
        "OBJECTIO_ENDPOINT": server.endpoint,
        "OBJECTIO_ACCESS_KEY": access_key,
        "OBJECTIO_SECRET_KEY": secret_key,
    }
    return subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )


def create(server: LocalServer) -> None:
    """Make the accounts on a new server."""
    for account in ACCOUNTS:
        done = objectio(
            server, "account", "create",
            "--id", account.id, "--canonical-id", account.canonical_id,
            "--display-name", account.name, "--email", account.email,
            "--access-key", account.access_key, "--secret-key", account.secret_key,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"account {account.name}: {done.stderr.strip()}")


def create_keys(server: LocalServer) -> None:
    """Make the keys of the key ring that the suite names."""
    for name in KMS_KEYS:
        done = objectio(server, "kms", "create", name, "--data", str(server.data_dir))
        if done.returncode != 0:
            raise RuntimeError(f"key {name}: {done.stderr.strip()}")


def write_config(path: Path, server: LocalServer, more: Mapping[str, str]) -> None:
    """The suite's configuration; `more` are further keys of its section `s3 main`."""
    config = configparser.RawConfigParser()
    host, port = server.address
    config["DEFAULT"] = {
        "host": host, "port": str(port), "is_secure": "False", "ssl_verify": "False",
    }  # fmt: skip
    config["fixtures"] = {"bucket prefix": "conformance-{random}-"}
    for account in ACCOUNTS:
        config[account.section] = {
            "display_name": account.name,
            "user_id": account.canonical_id,
            "email": account.email,
            "access_key": account.access_key,
            "secret_key": account.secret_key,
        }
    # Where these are accounts, the suite wants the account's own id.
    config["iam root"]["user_id"] = ACCOUNTS[4].id
    config["iam alt root"]["user_id"] = ACCOUNTS[5].id
    config["s3 tenant"]["tenant"] = "tenant"
    config["s3 main"].update(
        {"api_name": "us-east-1", "kms_keyid": KMS_KEYS[0], "kms_keyid2": KMS_KEYS[1], **more}
    )
    with path.open("w") as file:
        config.write(file)
