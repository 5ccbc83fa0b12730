"""`objectio bench` against servers that are well, that refuse, that go away, and that say something
else than what was put."""

from __future__ import annotations

import contextlib
import http.server
import signal
import subprocess
import sys
import threading
import time

import pytest

from objectio.testing.shapes import make_server

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
QUICK = ("bench", "--connections", "3", "--seconds", "0.3", "--large", "2MiB")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        data_dir = tmp_path_factory.mktemp("server") / "data"
        yield stack.enter_context(make_server(data_dir, shape="one"))


def test_what_is_shown(objectio, show):
    rows = show(*QUICK)
    assert [(row["request"], row["size_bytes"]) for row in rows] == [
        ("PUT", 4 << 10),
        ("GET", 4 << 10),
        ("PUT", 2 << 20),
        ("GET", 2 << 20),
    ]
    for row in rows:
        assert (row["connections"], row["errors"]) == (3, 0)
        assert row["requests"] >= 3
        assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
        assert row["bytes_per_second"] == pytest.approx(
            row["requests_per_second"] * row["size_bytes"], rel=0.05
        )
    assert show("bucket", "list") == []
    text = objectio(*QUICK)[0]
    assert "It is no benchmark of disks" in " ".join(text.replace("is\nno", "is no").split())


def test_in_a_bucket_that_is_there(objectio, show):
    show("bucket", "create", "mine")
    objectio("object", "put", "mine", "key", stdin="text")
    assert all(row["errors"] == 0 for row in show(*QUICK, "--bucket", "mine"))
    assert [row["key"] for row in show("object", "list", "mine")] == ["key"]
    objectio("object", "delete", "mine", "key")
    show("bucket", "delete", "mine")
    assert "there is no bucket mine" in objectio(*QUICK, "--bucket", "mine", code=3)[1]


def test_who_may_not_is_told(objectio, show):
    show("user", "create", "ann")
    key = show("key", "create", "ann")
    said = objectio(*QUICK, keys=(key["access_key"], key["secret_key"]), code=4)[1]
    assert "refuses" in said
    show("key", "delete", "ann", key["access_key"])
    show("user", "delete", "ann")


def test_a_server_that_is_not_there(objectio):
    assert "cannot reach" in objectio(*QUICK, "-e", "http://127.0.0.1:1", code=5)[1]


@pytest.mark.parametrize(
    "words",
    [("--connections", "0"), ("--seconds", "0"), ("--small", "1MiB", "--large", "1MiB")],
)
def test_wrong_usage(objectio, words):
    assert objectio("bench", *words, code=2)[1].startswith("objectio: ")


@contextlib.contextmanager
def running(server, here):
    command = [sys.executable, "-c", MAIN, *QUICK, "--seconds", "60", "--data", server.data_dir]
    command += ["-e", server.endpoint]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=here, start_new_session=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for_objects(show):
    deadline = time.monotonic() + 20
    while not (buckets := show("bucket", "list")) or not show(
        "object", "list", buckets[0]["name"], "--limit", "1"
    ):
        assert time.monotonic() < deadline


def test_interrupted_it_leaves_nothing(show, server, tmp_path):
    with running(server, tmp_path) as process:
        wait_for_objects(show)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")
    assert show("bucket", "list") == []


def test_a_server_that_goes_away(start, connect, tmp_path):
    own = start(tmp_path / "own")
    with running(own, tmp_path) as process:
        with contextlib.closing(connect(own)) as s3:
            deadline = time.monotonic() + 20
            while not (made := s3.list_buckets()["Buckets"]) or not s3.list_objects_v2(
                Bucket=made[0]["Name"]
            ).get("Contents"):
                assert time.monotonic() < deadline
        own.kill()
        err = process.communicate(timeout=60)[1]
    assert process.returncode == 5
    assert "cannot reach" in err
    assert "is left in bucket objectio-bench-" in err
    assert err.count("\n") == 1


class Liar(http.server.BaseHTTPRequestHandler):
    """Takes everything, and gives as many other bytes."""

    protocol_version = "HTTP/1.1"
    sizes: dict[str, int] = {}

    def log_message(self, *_):
        pass

    def answer(self, body=b""):
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_PUT(self):
        size = int(self.headers["content-length"])
        self.rfile.read(size)
        self.sizes[self.path] = size
        self.answer()

    def do_GET(self):
        listed = b"<ListBucketResult></ListBucketResult>"
        self.answer(listed if "?" in self.path else bytes(self.sizes[self.path]))

    def do_DELETE(self):
        self.answer()


def test_other_bytes_than_were_put_are_an_error(objectio):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar) as liar:
        thread = threading.Thread(target=liar.serve_forever)
        thread.start()
        said = objectio(*QUICK, "-e", f"http://127.0.0.1:{liar.server_port}", "-f", "json", code=1)
        liar.shutdown()
        thread.join()
    assert "is not what was put (and 5 more)" in said[1]
