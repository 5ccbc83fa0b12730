"""What a person at a shell meets besides objects and identities: nodes, where the server is, formats,
errors, completion."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from objectio.testing.shapes import make_server

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

DISKS = 12
MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
SHAPES = ("one", pytest.param("roles", marks=pytest.mark.slow))


@pytest.fixture(scope="module", params=SHAPES)
def server(request, tmp_path_factory):
    """With so many disks that half of them may go."""
    with contextlib.ExitStack() as stack:
        data_dir = tmp_path_factory.mktemp("server") / "data"
        quick = {"osd.check_seconds": "0.2", "store.repair_interval_seconds": "0.5"}
        made = make_server(data_dir, shape=request.param, disks=DISKS, settings=quick)
        yield stack.enter_context(made)


# Nodes.


def test_nodes(show):
    nodes = show("node", "list")
    assert sorted(osd for node in nodes for osd in node["osds"]) == list(range(DISKS))
    assert all(node["alive"] for node in nodes)
    (first, *_) = (node for node in nodes if node["osds"])
    shown = show("node", "show", first["node"])
    assert [disk["osd"] for disk in shown["disks"]] == first["osds"]
    assert (shown["membership"], shown["disks_up"]) == ("in", len(first["osds"]))


def test_the_topology(show):
    rows = show("cluster", "topology")
    assert sorted(row["osd"] for row in rows) == list(range(DISKS))
    nodes = {osd: node["node"] for node in show("node", "list") for osd in node["osds"]}
    assert {row["osd"]: row["node"] for row in rows} == nodes
    assert all((row["rack"], row["state"]) == ("default", "up") for row in rows)
    assert all(row["capacity_bytes"] > row["used_bytes"] for row in rows)


def test_a_node_is_drained_or_nothing_is(objectio, show):
    nodes = [node for node in show("node", "list") if node["osds"]]
    name = nodes[0]["node"]
    if len(nodes) == 1:
        said = objectio("node", "drain", name, code=1)[1]
        assert "all its disks are as they were" in said
        assert {disk["membership"] for disk in show("disk", "list")} == {"in"}
        return
    drained = show("node", "drain", name)
    assert drained["membership"] in ("draining", "out", "mixed")
    states = {disk["osd"]: disk["membership"] for disk in show("disk", "list")}
    assert all((states[osd] == "in") == (osd not in drained["osds"]) for osd in states)
    assert show("node", "undrain", name)["membership"] == "in"


def test_nodes_that_are_not_there(objectio, show):
    for order in ("show", "drain", "undrain"):
        assert "there is no node nobody" in objectio("node", order, "nobody", code=3)[1]
        objectio("node", order, "no body", code=3)
    (gateway, *_) = [node["node"] for node in show("node", "list") if "gateway" in node["roles"]]
    if not show("node", "show", gateway)["osds"]:
        assert "has no disks" in objectio("node", "drain", gateway, code=1)[1]


# Where the server is.


def test_the_address_of_the_metadata_does_for_all_but_objects(request, objectio, show, server):
    meta = getattr(server, "meta_endpoint", None)
    if meta is None:
        pytest.skip("one process has one address")
    at = ("-e", meta)
    show(*at, "user", "create", "ann")
    show(*at, "group", "create", "staff")
    show(*at, "group", "add-user", "staff", "ann")
    key = show(*at, "key", "create", "ann")["access_key"]
    show(*at, "policy", "attach", "readonly", "--group", "staff")
    assert show("user", "show", "ann") == show(*at, "user", "show", "ann")
    assert len(show(*at, "disk", "list")) == DISKS
    for words in (
        ("node", "list"),
        ("cluster", "status"),
        ("cluster", "map"),
        ("cluster", "topology"),
        ("account", "list"),
        ("role", "list"),
        ("repair", "status"),
        ("scrub", "status"),
        ("rebalance", "status"),
        ("meta", "status"),
        ("doctor",),
    ):
        show(*at, *words)
    for words in (("bucket", "list"), ("bucket", "create", "new"), ("bucket", "quota", "new")):
        assert "ask a gateway" in objectio(*at, *words, code=1)[1]
    said = objectio(*at, "object", "list", "bucket", code=1)[1]
    assert "does not serve S3" in said
    assert "gateway" in said
    show("policy", "detach", "readonly", "--group", "staff")
    show("group", "remove-user", "staff", "ann")
    show("group", "delete", "staff")
    show("key", "delete", "ann", key)
    show("user", "delete", "ann")


def test_a_server_that_is_not_there(objectio):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for endpoint in (f"http://127.0.0.1:{port}", "http://nobody.invalid"):
        for words in (("user", "list"), ("object", "list", "bucket"), ("doctor",)):
            said = objectio("-e", endpoint, *words, code=5)[1]
            assert said.startswith(f"objectio: cannot reach {endpoint}: ")
            assert "-e, OBJECTIO_ENDPOINT" in said


def test_something_else_listens_there(objectio):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer():
            for _ in range(2):
                with other.accept()[0] as connection:
                    connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 3\r\n\r\nno\n")

        thread = threading.Thread(target=answer)
        thread.start()
        endpoint = f"http://127.0.0.1:{other.getsockname()[1]}"
        said = objectio("-e", endpoint, "user", "list", code=1)[1]
        assert "does not answer operators (HTTP 404)" in said
        assert "does not serve S3" in objectio("-e", endpoint, "object", "list", "b", code=1)[1]
        thread.join(10)


OURS = b"x-objectio-request-id: 1\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: "


@pytest.mark.parametrize(
    ("answer", "words", "code", "says"),
    [
        (OK + b"50\r\n" + OURS + b"\r\n{", "user list", 5, "was cut off"),
        (OK + b"50\r\n\r\n<", "object list b", 5, "was cut off"),
        (OK + b"5\r\n\r\nhello", "object stat b k", 1, "does not serve S3"),
        (OK + b"5\r\n\r\nhello", "object get b k -", 1, "does not serve S3"),
        (OK + b"5\r\n\r\nhello", "cluster events", 1, "does not answer operators"),
        (b"\x15\x03\x01\x00\x02\x02\x50", "user list", 5, "is it https:// there?"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n", "user list", 5, "HTTP 502"),
        (b"HTTP/1.1 502 Bad\r\ncontent-length: 0\r\n\r\n", "cluster events", 5, "HTTP 502"),
    ],
)
def test_answers_that_are_none(objectio, answer, words, code, says):
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve():
            with other.accept()[0] as connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        endpoint = f"http://127.0.0.1:{other.getsockname()[1]}"
        assert says in objectio("-e", endpoint, *words.split(), code=code)[1]
        thread.join(10)


def test_no_tls_where_https_was_said(objectio, server):
    address = server.endpoint.partition("://")[2]
    said = objectio("-e", f"https://{address}", "user", "list", code=5)[1]
    assert said == f"objectio: https://{address} does not speak TLS: is it http:// there?\n"


def test_scrubs_have_the_same_columns_always(objectio, show):
    assert {"current_blobs", "last_corrupt"} < show("scrub", "status").keys()
    assert "current_blobs" not in objectio("scrub", "status")[0]


def test_wrong_credentials(objectio, show, server):
    access_key = json.loads((server.data_dir / "credentials.json").read_text())["access_key"]
    for keys, says in (
        ((access_key, "wrong"), "is the secret key right?"),
        (("AKIANOBODYHASTHISKEY", "wrong"), "There is no such access key"),
    ):
        said = objectio("user", "list", keys=keys, code=4)[1]
        assert says in said
        assert "(credentials: OBJECTIO_ACCESS_KEY)" in said
    said = objectio("user", "list", keys=(), code=4)[1]
    assert "(credentials: none were found)" in said
    assert "set both" in objectio("user", "list", keys=(access_key,), code=2)[1]


# What happens, and what is set.


@contextlib.contextmanager
def following(server, here, *words):
    """`cluster events -f json` in a process; gives a function that waits for an event that fits."""
    command = [sys.executable, "-c", MAIN, "cluster", "events", "-f", "json", *words]
    command += ["-e", server.endpoint, "--data", str(server.data_dir)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=here, **pipes) as process:
        os.set_blocking(process.stdout.fileno(), False)
        came, rest = [], b""

        def wait_for(fits, seconds_max=30):
            nonlocal rest
            deadline = time.monotonic() + seconds_max
            while True:
                while came:
                    if fits(event := came.pop(0)):
                        return event
                left = deadline - time.monotonic()
                assert left > 0
                assert process.poll() is None, process.stderr.read()
                if select.select([process.stdout], [], [], left)[0]:
                    *lines, rest = (rest + process.stdout.read()).split(b"\n")
                    came.extend(json.loads(line) for line in lines)

        try:
            yield wait_for
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
        finally:
            process.kill()


def test_events_are_followed(show, server, tmp_path):
    with following(server, tmp_path) as wait_for:
        first = wait_for(lambda event: True)
        assert (first["type"], len(first["disks"]), first["unknown"]) == ("state", DISKS, [])
        show("disk", "drain", "3")
        seen = {}
        while seen.keys() < {"disk", "map"}:
            event = wait_for(lambda event: event["type"] == "map" or event.get("osd") == 3)
            seen.setdefault(event["type"], event)
        assert seen["disk"]["changed"] == ["membership"]
        assert seen["disk"]["before"]["membership"] == "in"
        assert seen["map"]["epoch"] > first["cluster"]["epoch"]
        show("disk", "undrain", "3")
    with following(server, tmp_path, "--type", "map", "--type", "state") as wait_for:
        assert wait_for(lambda event: True)["type"] == "state"
        show("disk", "drain", "3")
        assert wait_for(lambda event: True)["type"] == "map"
        show("disk", "undrain", "3")


def test_events_in_words(objectio):
    said = objectio("cluster", "events", "--count", "1")[0]
    assert f"{DISKS} of {DISKS} disks up" in said
    assert said.count("\n") == 1
    objectio("cluster", "events", "--count", "0", code=2)
    assert "refuses" in objectio("cluster", "events", keys=(), code=4)[1]


def test_events_go_on_when_the_server_was_away(start, tmp_path):
    server = start(tmp_path / "own")
    with following(server, tmp_path) as wait_for:
        wait_for(lambda event: event["type"] == "state")
        server.kill()
        server.start()
        wait_for(lambda event: event["type"] == "state")


def test_the_configuration_in_force(objectio, show):
    rows = {row["key"]: row["value"] for row in show("config", "get")}
    assert rows["osd.check_seconds"] == 0.2
    assert rows["store.repair_interval_seconds"] == 0.5
    assert [row["key"] for row in show("config", "get", "gateway.listen")] == ["gateway.listen"]
    log = show("config", "get", "osd.log")
    assert log
    assert all(row["key"].startswith("osd.log.") for row in log)
    got = objectio("config", "get", "osd.check_seconds", "-f", "value", "-c", "value")[0]
    assert got == "0.2\n"
    assert "has no osd.chek" in objectio("config", "get", "osd.chek", code=3)[1]


# Formats.


def test_formats(objectio, show):
    rows = show("disk", "list")
    text = objectio("disk", "list", "-f", "csv", "--quote", "none")[0]
    assert [int(row["osd"]) for row in csv.DictReader(io.StringIO(text))] == list(range(DISKS))
    assert len(rows) == DISKS
    values = objectio("disk", "list", "-f", "value", "-c", "osd", "-c", "state")[0]
    assert values.splitlines() == [f"{osd} up" for osd in range(DISKS)]
    assert objectio("cluster", "status", "-f", "yaml")[0].startswith("cluster_id: ")
    assert objectio("cluster", "status", "-f", "shell", "-c", "state")[0] == 'state="serving"\n'
    assert objectio("cluster", "status", "-c", "state")[0].startswith("+--")
