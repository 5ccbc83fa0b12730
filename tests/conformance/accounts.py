"""The accounts that the public suite wants, and the file that tells it of them."""

from __future__ import annotations

import configparser
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import boto3

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
    Account("iam", 222222222222, "alt"),
    Account("s3 tenant", 333333333333, "tenant"),
    Account("iam root", 555555555555, "iamroot"),
    Account("iam alt root", 666666666666, "iamalt"),
)
ALTERNATE = "s3 alt"
"""The suite's alternate user is the root of the account `iam`. Tests of user policies give it policies by
the keys of the section `iam`, under the id by which it owns buckets: for these it is a user of that
account, whose name is the account's canonical id; a managed policy lets it do what the root may."""


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


def create(server: LocalServer) -> tuple[str, str]:
    """Make the accounts on a new server, and the alternate user, whose keys are answered."""
    for account in ACCOUNTS:
        done = objectio(
            server, "account", "create",
            "--id", account.id, "--canonical-id", account.canonical_id,
            "--display-name", account.name, "--email", account.email,
            "--access-key", account.access_key, "--secret-key", account.secret_key,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"account {account.name}: {done.stderr.strip()}")
    owner = next(account for account in ACCOUNTS if account.section == "iam")
    iam = boto3.client(
        "iam",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=owner.access_key,
        aws_secret_access_key=owner.secret_key,
    )
    name = owner.canonical_id
    iam.create_user(UserName=name)
    iam.attach_user_policy(UserName=name, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def create_keys(server: LocalServer) -> None:
    """Make the keys of the key ring that the suite names."""
    for name in KMS_KEYS:
        done = objectio(server, "kms", "create", name, "--data", str(server.data_dir))
        if done.returncode != 0:
            raise RuntimeError(f"key {name}: {done.stderr.strip()}")


def write_config(
    path: Path, server: LocalServer, alternate: tuple[str, str] | None, more: Mapping[str, str]
) -> None:
    """The suite's configuration; `alternate` are the keys of the alternate user, if it is no root,
    `more` further settings of its section `s3 main`."""
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
    config[ALTERNATE] = dict(config["iam"])
    if alternate is not None:
        config[ALTERNATE].update(zip(("access_key", "secret_key"), alternate, strict=True))
    for account in ACCOUNTS[-2:]:
        # Where these are accounts, the suite wants the account's own id.
        config[account.section]["user_id"] = account.id
    config["s3 tenant"]["tenant"] = "tenant"
    config["s3 main"].update(
        {"api_name": "us-east-1", "kms_keyid": KMS_KEYS[0], "kms_keyid2": KMS_KEYS[1], **more}
    )
    with path.open("w") as file:
        config.write(file)
