"""A real server: what is between its processes, on its disks, and in its answers."""

from __future__ import annotations

import http.client
import json
import socket
from contextlib import closing

import pytest

from objectio.iam.credentials import read_credentials, root_credential
from objectio.iam.signer import sign_request
from objectio.testing.cluster import LocalServer

CANARY = b"canary-on-the-disk-" * 40
ENVIRONMENT = {"OBJECTIO_CANARY": "canary-of-the-environment"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pytest.importorskip("objectio_api_s3", reason="api_s3 is not installed")
    data = tmp_path_factory.mktemp("security") / "data"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
    with LocalServer(data, env=ENVIRONMENT, settings={"meta.listen": listen}) as started:
        yield started


def ask(server, method, path, body=b"", headers=(), signed=True):
    host, port = server.address
    pairs = [(b"host", f"{host}:{port}".encode()), (b"content-length", b"%d" % len(body))]
    pairs += [(name.encode(), value.encode()) for name, value in dict(headers).items()]
    if signed:
        import hashlib

        raw, _, query = path.partition("?")
        pairs = sign_request(
            root_credential(*server.credentials),
            method,
            raw.encode(),
            query.encode(),
            pairs,
            content_sha256=hashlib.sha256(body).hexdigest().encode(),
        )
    with closing(http.client.HTTPConnection(host, port, timeout=30)) as connection:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in pairs:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, answer.read()


def on_disk(server):
    return b"".join(path.read_bytes() for path in server.data_dir.rglob("*") if path.is_file())


def test_cluster_root_credentials_are_made_and_nobodys_default(server):
    """MinIO CVE-2023-28432 and its minioadmin; RustFS GHSA-h956: defaults in the source."""
    access_key, secret_key = read_credentials(server.data_dir / "credentials.json")
    assert (len(access_key), len(secret_key)) == (20, 40)
    assert (server.data_dir / "credentials.json").stat().st_mode & 0o077 == 0
    for path in server.data_dir.glob("*.json"):
        assert path.stat().st_mode & 0o077 == 0, path
    for keys in (
        ("minioadmin", "minioadmin"),
        ("admin", "admin"),
        ("root", "root"),
        ("objectio", ""),
    ):
        assert keys != (access_key, secret_key)
    # Secrets between processes are made at random, and are not those of the root.
    secret = (server.data_dir / "cluster.secret").read_bytes()
    assert secret_key.encode() not in secret


def test_cluster_environment_is_in_no_answer(server):
    """MinIO CVE-2023-28432: a bootstrap call gave the environment, with the root's secret."""
    secret = server.credentials[1]
    seen = [
        ask(server, "GET", path, signed=signed)
        for path in ("/health", "/metrics", "/", "/_admin/v1/doctor", "/_admin/v1/cluster")
        for signed in (False, True)
    ]
    seen += [
        ask(server, "POST", path, signed=False) for path in ("/", "/minio/bootstrap/v1/verify")
    ]
    for _, body in seen:
        assert b"canary" not in body
        assert secret.encode() not in body
        assert str(server.data_dir / "credentials.json").encode() not in body


@pytest.mark.parametrize(
    "path",
    [
        "/minio/bootstrap/v1/verify",
        "/minio/admin/v3/info",
        "/minio/health/live",
        "/_admin/v1/accounts",
        "/_admin/v1/disks",
        "/debug/pprof/",
        "/metrics?x",
        "/.well-known/../_admin/v1/disks",
    ],
)
def test_cluster_nothing_is_managed_without_credentials(server, path):
    for method in ("GET", "POST", "PUT", "DELETE"):
        status, body = ask(server, method, path, signed=False)
        assert status in (400, 403, 404, 405, 501), (method, path, body)


def test_cluster_the_port_between_processes_takes_no_stranger(server):
    """SeaweedFS CVE-2026-72920 (IAM by gRPC, unauthenticated); RustFS r5qv, 75fx, c667. What a proof
    is bound to is tested in tests/unit/rpc/test_auth.py, call by call."""
    host, _, port = server.settings["meta.listen"].rpartition(":")
    calls = [
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
    ]
    for sent in calls:
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.settimeout(30)
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            got = b""
            while piece := connection.recv(65_536):
                got += piece
        assert b"canary" not in got
        assert server.credentials[1].encode() not in got
    for path in ("/", "/_admin/v1/accounts", "/objectio.Control/Status"):
        with closing(http.client.HTTPConnection(host, int(port), timeout=30)) as connection:
            connection.request("POST", path, body=b"{}")
            assert connection.getresponse().status >= 400


def test_sse_claims_have_effect_on_the_disk(server):
    """RustFS xrrf: encryption was answered, and the disk had plain bytes."""
    assert ask(server, "PUT", "/plain")[0] == 200
    assert ask(server, "PUT", "/plain/key", CANARY)[0] == 200
    assert CANARY[:38] in on_disk(server), "else this test could not fail"
    assert ask(server, "DELETE", "/plain/key")[0] == 204
    other = CANARY.replace(b"canary", b"sealed")
    headers = {"x-amz-server-side-encryption": "AES256"}
    assert ask(server, "PUT", "/plain/sealed", other, headers)[0] == 200
    assert ask(server, "PUT", "/locked")[0] == 200
    rule = (
        b"<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault>"
        b"<SSEAlgorithm>AES256</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule>"
        b"</ServerSideEncryptionConfiguration>"
    )
    assert ask(server, "PUT", "/locked?encryption", rule)[0] == 200
    assert ask(server, "PUT", "/locked/key", other)[0] == 200
    for path in ("/plain/sealed", "/locked/key"):
        assert ask(server, "GET", path) == (200, other)
    assert other[:38] not in on_disk(server)


def test_secrets_of_accounts_are_on_no_disk_in_the_clear(server):
    body = json.dumps({"display_name": "x", "secret_key": "canary-secret-of-x"}).encode()
    assert ask(server, "POST", "/_admin/v1/accounts", body)[0] == 200
    assert b"canary-secret-of-x" not in on_disk(server)
    assert "canary-secret-of-x" not in server.log_path.read_text()
