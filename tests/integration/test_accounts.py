"""Accounts with whole servers: one process and several, HTTP and HTTPS, over restarts."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from objectio.testing.cluster import LocalServer

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
for needed in ("objectio_api_admin", "objectio_api_s3"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


def objectio(server, *arguments, more=()):
    """What a command of the root says."""
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, *arguments, "--data", str(server.data_dir), "-f", "json"],
        env={**os.environ, "OBJECTIO_ENDPOINT": server.endpoint, **dict(more)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client(server, made, verify=None):
    return boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=made["access_key"],
        aws_secret_access_key=made["secret_key"],
        region_name="us-east-1",
        verify=verify,
        config=Config(retries={"total_max_attempts": 1}),
    )


def code(call, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return caught.value.response["Error"]["Code"]


def test_accounts_outlive_the_process(tmp_path):
    with LocalServer(tmp_path / "data") as server:
        anna = objectio(server, "account", "create", "--display-name", "Anna")
        bert = objectio(server, "account", "create", "--display-name", "Bert")
        client(server, anna).create_bucket(Bucket="annas")
        client(server, anna).put_object(Bucket="annas", Key="key", Body=b"data")
        server.stop()
        server.start()
        found = client(server, anna).get_object(Bucket="annas", Key="key")["Body"].read()
        assert found == b"data"
        assert code(client(server, bert).get_object, Bucket="annas", Key="key") == "AccessDenied"
        assert client(server, bert).list_buckets()["Buckets"] == []
        assert [each["display_name"] for each in objectio(server, "account", "list")] == [
            *sorted(("Anna", "Bert"), key=lambda name: {"Anna": anna, "Bert": bert}[name]["id"])
        ]
        objectio(server, "account", "delete", bert["id"])
        assert code(client(server, bert).list_buckets) == "InvalidAccessKeyId"
        # Without the key ring nobody can sign in but the root; with it, everybody again.
        server.stop()
        ring = server.data_dir / "keyring.json"
        ring.rename(tmp_path / "away")
        server.start()
        assert code(client(server, anna).list_buckets) == "ServiceUnavailable"
        root = dict(zip(("access_key", "secret_key"), server.credentials, strict=True))
        assert client(server, root).get_object(Bucket="annas", Key="key")["Body"].read() == b"data"
        (tmp_path / "away").rename(ring)
        assert client(server, anna).get_object(Bucket="annas", Key="key")["Body"].read() == b"data"


@pytest.mark.slow
def test_a_key_works_at_every_gateway_at_once_over_https(tmp_path):
    """It was made at one; the others ask when they do not know it."""
    server = LocalServer(tmp_path / "data", arguments=("--workers", "2"), tls=True)
    trusted = server.ca_file
    with server:
        assert server.endpoint.startswith("https://")
        more = {"SSL_CERT_FILE": str(trusted)}
        for number in range(3):
            made = objectio(server, "account", "create", "--display-name", f"{number}", more=more)
            for _ in range(8):  # each over a connection of its own, to either gateway
                assert client(server, made, str(trusted)).list_buckets()["Buckets"] == []
            objectio(server, "account", "delete", made["id"], more=more)
        named = f"policy-{number}"
        anna = objectio(server, "account", "create", "--display-name", "Anna", more=more)
        client(server, anna, str(trusted)).create_bucket(Bucket=named)
        client(server, anna, str(trusted)).put_object(Bucket=named, Key="k", Body=b"x" * 100_000)
        for _ in range(8):
            got = client(server, anna, str(trusted)).get_object(Bucket=named, Key="k")
            assert got["Body"].read() == b"x" * 100_000
