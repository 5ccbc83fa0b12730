"""Objects from the shell: whole, interrupted, resumed, changed meanwhile, and over a bad connection."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest

from objectio.cli.client import Connection, find_keys
from objectio.cli.s3 import S3, Where
from objectio.testing.relay import CutOff, Relay
from objectio.testing.shapes import make_server

for needed in ("objectio_api_admin", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

MIB = 1 << 20
CUT_OFF = 5  # exit code: the server cannot be reached, or not now
_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with make_server(tmp_path_factory.mktemp("server") / "data", shape="one") as started:
        yield started


class Shell:
    def __init__(self, server, here):
        self.server = server
        self.here = here
        self.credentials = server.data_dir

    def start(self, *words, endpoint=None, **more):
        clean = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env = {**clean, "HOME": str(self.here)}
        env["OBJECTIO_ENDPOINT"] = endpoint or self.server.endpoint
        at = words.index("--") if "--" in words else len(words)
        words = (*words[:at], "--data", str(self.credentials), *words[at:])
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        command = [sys.executable, "-c", _MAIN, *words]
        return subprocess.Popen(command, cwd=self.here, env=env, **pipes)

    def __call__(self, *words, code=0, stdin=b"", **more):
        """(what it wrote, what it complained of)"""
        with self.start(*words, stdin=subprocess.PIPE, **more) as process:
            out, err = process.communicate(stdin, timeout=120)
        assert process.returncode == code, (out, err)
        return out, (err or b"").decode()

    def show(self, *words, **more):
        return json.loads(self(*words[:2], "-f", "json", *words[2:], **more)[0])

    def records(self):
        """Of uploads that were cut off."""
        return sorted((self.here / ".local/state/objectio/uploads").glob("*"))

    def partial(self, name):
        return [path for path in self.here.iterdir() if path.name.startswith(f".{name}.")]


@pytest.fixture
def objectio(server, tmp_path):
    return Shell(server, tmp_path)


@pytest.fixture
def bucket(objectio, request):
    name = f"bucket-{hashlib.sha256(request.node.name.encode()).hexdigest()[:12]}"
    objectio("bucket", "create", name)
    return name


def until(ask):
    deadline = time.monotonic() + 60
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return answer


# What works.


@pytest.mark.parametrize("size", [0, 1, 16 * MIB, 16 * MIB + 1])
@pytest.mark.parametrize("by", ["file", "pipe"])
def test_there_and_back(objectio, bucket, size, by):
    data = os.urandom(size)
    (objectio.here / "given").write_bytes(data)
    if by == "file":
        objectio("object", "put", bucket, "dir/key", "given")
        objectio("object", "get", bucket, "dir/key", "got")
        assert (objectio.here / "got").read_bytes() == data
        assert objectio.partial("got") == []
    else:
        objectio("object", "put", bucket, "dir/key", stdin=data)
        assert objectio("object", "get", bucket, "dir/key", "-")[0] == data
    assert objectio.show("object", "stat", bucket, "dir/key")["size_bytes"] == size
    (row,) = objectio.show("object", "list", bucket)
    assert (row["key"], row["size_bytes"]) == ("dir/key", size)


def test_where_it_goes(objectio, bucket):
    objectio("object", "put", bucket, "a/b.txt", stdin=b"text")
    (objectio.here / "folder").mkdir()
    assert objectio.show("object", "get", bucket, "a/b.txt")["file"] == "b.txt"
    shown = objectio.show("object", "get", bucket, "a/b.txt", "folder")
    assert shown["file"] == "folder/b.txt"
    for path in ("b.txt", "folder/b.txt"):
        assert (objectio.here / path).read_bytes() == b"text"
    objectio("object", "put", bucket, "a/b.txt", stdin=b"other")
    objectio("object", "get", bucket, "a/b.txt")
    assert (objectio.here / "b.txt").read_bytes() == b"other"
    objectio("object", "get", bucket, "a/b.txt", "/dev/null")
    assert "no directory lost" in objectio("object", "get", bucket, "a/b.txt", "lost/b", code=1)[1]


@pytest.mark.parametrize("key", ["a b+c%20&d=e?f#g", "ä/ö ü~", "//a//", "..", "-", "$'\"<&>"])
def test_any_key(objectio, bucket, key):
    objectio("object", "put", bucket, "--", key, stdin=key.encode())
    assert [row["key"] for row in objectio.show("object", "list", bucket)] == [key]
    assert objectio("object", "get", bucket, "--", key, "-")[0] == key.encode()
    objectio("object", "delete", bucket, "--", key)
    objectio("object", "delete", bucket, "--", key)
    assert "there is no object" in objectio("object", "get", bucket, "--", key, "-", code=3)[1]


def test_what_is_known_of_it(objectio, bucket):
    (objectio.here / "page.html").write_text("<p>")
    objectio("object", "put", bucket, "key", "page.html", "--metadata", "Color=deep red")
    shown = objectio.show("object", "stat", bucket, "key")
    assert (shown["content_type"], shown["metadata"]) == ("text/html", {"color": "deep red"})
    assert shown["etag"] == hashlib.md5(b"<p>").hexdigest()
    assert abs(shown["modified_ms"] / 1000 - time.time()) < 120
    objectio("object", "put", bucket, "key", "page.html", "--content-type", "text/x-own")
    assert objectio.show("object", "stat", bucket, "key")["content_type"] == "text/x-own"
    assert "there is no object lost" in objectio("object", "stat", bucket, "lost", code=3)[1]
    said = objectio("object", "stat", "no-such-bucket", "lost", code=3)[1]
    assert "`objectio bucket create no-such-bucket` makes it" in said


def test_listings(objectio, bucket, server):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    with contextlib.closing(boto3.client("s3", **server.s3_settings())) as client:
        for number in range(1005):
            client.put_object(Bucket=bucket, Key=f"many/{number:04}")
        client.put_object(Bucket=bucket, Key="one", Body=b"1")
    rows = objectio.show("object", "list", bucket)
    assert [row["key"] for row in rows] == [*(f"many/{n:04}" for n in range(1005)), "one"]
    folders = objectio.show("object", "list", bucket, "--delimiter", "/")
    assert [(row["key"], row["size_bytes"]) for row in folders] == [("many/", None), ("one", 1)]
    some = objectio.show("object", "list", bucket, "--prefix", "many/1", "--limit", "3")
    assert [row["key"] for row in some] == ["many/1000", "many/1001", "many/1002"]
    rest = objectio.show("object", "list", bucket, "--after", "many/1003")
    assert [row["key"] for row in rest] == ["many/1004", "one"]


def test_a_reader_that_has_seen_enough(objectio, bucket):
    objectio("object", "put", bucket, "key", stdin=bytes(8 * MIB))
    with objectio.start("object", "get", bucket, "key", "-") as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


# Interrupted.


@pytest.fixture
def large(objectio, bucket):
    """20 MiB under "key", put in two parts."""
    data = os.urandom(20 * MIB)
    objectio("object", "put", bucket, "key", stdin=data)
    return data


def cut_off(objectio, server, bucket):
    """A get that ends in the middle of its bytes."""
    with Relay(server, down=5 * MIB, failing=9) as relay:
        said = objectio(
            "object", "get", bucket, "key", "got", endpoint=relay.endpoint, code=CUT_OFF
        )[1]
    assert "the same command goes on from there" in said
    assert not (objectio.here / "got").exists()
    (partial,) = objectio.partial("got")
    assert 4 * MIB < partial.stat().st_size < 5 * MIB
    return partial


def test_what_was_cut_off_goes_on(objectio, server, bucket, large):
    begun = cut_off(objectio, server, bucket).stat().st_size
    with Relay(server) as relay:
        objectio("object", "get", bucket, "key", "got", endpoint=relay.endpoint)
        heads = [bytes(said).partition(b"\r\n\r\n")[0].lower() for said in relay.said]
    (get,) = [head for head in heads if head.startswith(b"get")]
    assert b"range: bytes=%d-\r\n" % begun in get
    assert b"if-match: " in get
    assert (objectio.here / "got").read_bytes() == large
    assert objectio.partial("got") == []


def test_what_changed_meanwhile_begins_again(objectio, server, bucket, large):
    cut_off(objectio, server, bucket)
    objectio("object", "put", bucket, "key", stdin=large[::-1])
    objectio("object", "get", bucket, "key", "got")
    assert (objectio.here / "got").read_bytes() == large[::-1]
    assert objectio.partial("got") == [], "what was begun of the older one is thrown away"


def test_what_was_damaged_is_found(objectio, server, bucket):
    data = os.urandom(10 * MIB)  # one part: its ETag is its MD5
    objectio("object", "put", bucket, "key", stdin=data)
    partial = cut_off(objectio, server, bucket)
    with partial.open("r+b") as file:
        file.write(b"damaged")
    said = objectio("object", "get", bucket, "key", "got", code=1)[1]
    assert "get it again" in said
    assert not (objectio.here / "got").exists()
    objectio("object", "get", bucket, "key", "got")
    assert (objectio.here / "got").read_bytes() == data


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_who_interrupts_loses_nothing(objectio, server, bucket, large, how, code):
    with Relay(server, down=9 * MIB, failing=9, stalls=True) as relay:
        words = ("object", "get", bucket, "key", "got")
        with objectio.start(*words, endpoint=relay.endpoint) as process:
            until(lambda: any(each.stat().st_size > 5 * MIB for each in objectio.partial("got")))
            assert "another command" in objectio(*words, code=1)[1]
            process.send_signal(how)
            assert process.wait(60) == code
            assert process.stderr.read() == b""
    (partial,) = objectio.partial("got")
    assert partial.stat().st_size > 5 * MIB
    objectio(*words)
    assert (objectio.here / "got").read_bytes() == large


def test_a_part_that_fails_is_sent_again(objectio, server, bucket):
    data = os.urandom(20 * MIB)
    with Relay(server, up=3 * MIB, failing=2) as relay:  # the first begins the upload
        objectio("object", "put", bucket, "key", endpoint=relay.endpoint, stdin=data)
        puts = [said for said in relay.said if said.startswith(b"PUT")]
    assert len(puts) == 3
    assert objectio("object", "get", bucket, "key", "-")[0] == data


def test_an_upload_that_fails_leaves_nothing(objectio, server, bucket):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    objectio("object", "put", bucket, "key", stdin=b"as it was")
    with Relay(server, up=3 * MIB, failing=99) as relay:
        said = objectio(
            *("object", "put", bucket, "key"),
            endpoint=relay.endpoint,
            stdin=bytes(20 * MIB),
            code=CUT_OFF,
        )[1]
    assert "cannot reach" in said
    assert objectio("object", "get", bucket, "key", "-")[0] == b"as it was"
    with contextlib.closing(boto3.client("s3", **server.s3_settings())) as client:
        assert "Uploads" not in client.list_multipart_uploads(Bucket=bucket)


# A file that was cut off on its way up.


class Uploads:
    """What the server has of uploads that are not complete."""

    def __init__(self, server, bucket):
        boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
        self._client = boto3.client("s3", **server.s3_settings())
        self._bucket = bucket

    def ids(self):
        found = self._client.list_multipart_uploads(Bucket=self._bucket)
        return [each["UploadId"] for each in found.get("Uploads", [])]

    def parts(self, upload_id):
        asked = {"Bucket": self._bucket, "Key": "key", "UploadId": upload_id}
        found = self._client.list_parts(**asked)
        return [each["PartNumber"] for each in found.get("Parts", [])]

    def take_back(self, upload_id):
        self._client.abort_multipart_upload(Bucket=self._bucket, Key="key", UploadId=upload_id)

    def close(self):
        self._client.close()


@pytest.fixture
def uploads(server, bucket):
    with contextlib.closing(Uploads(server, bucket)) as found:
        yield found


GIVEN = ("object", "put")


def test_a_put_goes_on_where_it_stopped(objectio, server, bucket, uploads):
    data = os.urandom(50 * MIB)
    (objectio.here / "given").write_bytes(data)
    words = (*GIVEN, bucket, "key", "given", "--metadata", "a=b")
    with CutOff(server, after=3) as relay:
        objectio(*words, endpoint=relay.endpoint, code=CUT_OFF)
        (begun,) = uploads.ids()
        assert uploads.parts(begun) == [1, 2]
        relay.mend()
        objectio(*words, endpoint=relay.endpoint)
        sent = relay.puts()
    assert [("partNumber=3" in each, "partNumber=4" in each) for each in sent] == [
        (True, False),
        (False, True),
    ]
    assert all(begun in each for each in sent)
    assert uploads.ids() == []
    assert objectio.records() == []
    assert objectio("object", "get", bucket, "key", "-")[0] == data
    assert objectio.show("object", "stat", bucket, "key")["metadata"] == {"a": "b"}


def test_what_changed_in_the_file_is_put_again(objectio, server, bucket, uploads):
    data = bytearray(os.urandom(50 * MIB))
    (objectio.here / "given").write_bytes(data)
    words = (*GIVEN, bucket, "key", "given")
    with CutOff(server, after=3) as relay:
        objectio(*words, endpoint=relay.endpoint, code=CUT_OFF)
        data[17 * MIB] ^= 1
        del data[40 * MIB :]
        (objectio.here / "given").write_bytes(data)
        relay.mend()
        objectio(*words, endpoint=relay.endpoint)
        assert len(relay.puts()) == 2, "the second part, and the third, which was not there"
    assert objectio("object", "get", bucket, "key", "-")[0] == data
    assert uploads.ids() == []


@pytest.mark.parametrize(
    "how",
    [
        "--no-resume",
        "other metadata",
        *(
            pytest.param(each, marks=pytest.mark.slow)
            for each in ("a small file", "taken back", "damaged record")
        ),
    ],
)
def test_what_is_not_gone_on_with_is_taken_back(objectio, server, bucket, uploads, how):
    data = os.urandom(50 * MIB)
    (objectio.here / "given").write_bytes(data)
    words = [*GIVEN, bucket, "key", "given"]
    with CutOff(server, after=3) as relay:
        objectio(*words, endpoint=relay.endpoint, code=CUT_OFF)
        (begun,) = uploads.ids()
        (record,) = objectio.records()
        if how == "--no-resume":
            words.append(how)
        elif how == "other metadata":
            words += ["--metadata", "a=b"]
        elif how == "a small file":
            data = data[:5]
            (objectio.here / "given").write_bytes(data)
        elif how == "taken back":
            uploads.take_back(begun)
        else:
            record.write_bytes(b'{"upload_id": 5')
        relay.mend()
        objectio(*words, endpoint=relay.endpoint)
    assert objectio("object", "get", bucket, "key", "-")[0] == data
    assert uploads.ids() == ([begun] if how == "damaged record" else [])
    assert objectio.records() == []


def test_a_put_that_must_not_resume_leaves_nothing(objectio, server, bucket, uploads):
    (objectio.here / "given").write_bytes(os.urandom(20 * MIB))
    words = (*GIVEN, bucket, "key", "given", "--no-resume")
    with CutOff(server, after=2) as relay:
        assert "was kept" not in objectio(*words, endpoint=relay.endpoint, code=CUT_OFF)[1]
    assert objectio.records() == []
    assert uploads.ids() == []


def test_a_home_that_takes_nothing(objectio, server, bucket, uploads):
    (objectio.here / ".local").write_bytes(b"no directory")
    (objectio.here / "given").write_bytes(bytes(20 * MIB))
    words = (*GIVEN, bucket, "key", "given")
    with CutOff(server, after=2) as relay:
        assert "was kept" not in objectio(*words, endpoint=relay.endpoint, code=CUT_OFF)[1]
    assert uploads.ids() == []
    objectio(*words)
    assert objectio.show("object", "stat", bucket, "key")["size_bytes"] == 20 * MIB


@pytest.mark.slow
def test_who_may_put_need_not_be_allowed_to_look(objectio, server, bucket, uploads):
    """At the parts that are there: it begins anew."""
    shown = objectio.show("user", "create", "putter")
    key = objectio.show("key", "create", shown["name"])
    document = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:PutObject", "Resource": "*"}],
    }
    (objectio.here / "policy").write_text(json.dumps(document))
    objectio("policy", "create", "only-put", "policy")
    objectio("policy", "attach", "only-put", "--user", "putter")
    data = os.urandom(50 * MIB)
    (objectio.here / "given").write_bytes(data)
    keys = {"access_key": key["access_key"], "secret_key": key["secret_key"]}
    (objectio.here / "credentials.json").write_text(json.dumps(keys))
    words = (*GIVEN, bucket, "key", "given")
    with CutOff(server, after=3) as relay:
        putter = Shell(server, objectio.here)
        putter.credentials = objectio.here
        putter(*words, endpoint=relay.endpoint, code=CUT_OFF)
        (begun,) = uploads.ids()
        relay.mend()
        putter(*words, endpoint=relay.endpoint)
        assert len(relay.puts()) == 4
    assert uploads.ids() in ([], [begun]), "who may not look may perhaps not take back"
    assert objectio("object", "get", bucket, "key", "-")[0] == data


@pytest.mark.slow
def test_parts_come_in_pages(server, bucket):
    boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
    with contextlib.closing(boto3.client("s3", **server.s3_settings())) as client:
        named = {"Bucket": bucket, "Key": "key"}
        named["UploadId"] = client.create_multipart_upload(**named)["UploadId"]
        etags = {
            number: client.upload_part(**named, PartNumber=number, Body=b"%d" % number)["ETag"]
            for number in range(1, 1004)
        }
        s3 = S3(Connection(server.endpoint, find_keys(server.data_dir, {})))
        found = dict(s3.parts(Where(bucket, "key"), named["UploadId"]))
        assert found == {number: etag.strip('"') for number, etag in etags.items()}
        client.abort_multipart_upload(**named)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_who_interrupts_a_put_loses_nothing(objectio, server, bucket, uploads, how, code):
    data = os.urandom(50 * MIB)
    (objectio.here / "given").write_bytes(data)
    words = (*GIVEN, bucket, "key", "given")
    with CutOff(server, after=3, stalls=True) as relay:
        with objectio.start(*words, endpoint=relay.endpoint) as process:
            until(lambda: relay.stalled.wait(0))
            said = objectio(*words, endpoint=relay.endpoint, code=1)[1]
            assert "another command is putting this file" in said
            process.send_signal(how)
            assert process.wait(60) == code
            assert process.stderr.read() == b""
        (begun,) = uploads.ids()
        relay.mend()
        objectio(*words, endpoint=relay.endpoint)
        assert len(relay.puts()) == 2
    assert uploads.ids() == []
    assert objectio("object", "get", bucket, "key", "-")[0] == data


@pytest.mark.parametrize("way", ["put", "get"])
def test_a_server_that_is_killed_in_the_middle(tmp_path, way):
    """And comes back: what it said it had, it has."""
    data = os.urandom(50 * MIB)
    (tmp_path / "given").write_bytes(data)
    with make_server(tmp_path / "data", shape="one") as server:
        objectio = Shell(server, tmp_path)
        objectio("bucket", "create", "bucket")
        words = ("object", way, "bucket", "key", "given" if way == "put" else "got")
        if way == "put":
            limits = {"up": 3 * MIB}
        else:
            objectio("object", "put", "bucket", "key", "given")
            limits = {"up": None, "down": 20 * MIB}
        with CutOff(server, after=3 if way == "put" else 1, stalls=True, **limits) as relay:
            with objectio.start(*words, endpoint=relay.endpoint) as process:
                until(lambda: relay.stalled.wait(0))
                server.kill()
                relay.cut()
                assert process.wait(60) == CUT_OFF
                said = process.stderr.read().decode()
            assert "the same command goes on from there" in said
            server.start()
            relay.mend()
            objectio(*words, endpoint=relay.endpoint)
            if way == "put":
                assert len(relay.puts()) == 2
                objectio("object", "get", "bucket", "key", "got")
            else:
                assert any(
                    b"range: bytes=" in bytes(said).lower() for said in relay.said[relay.since :]
                )
        assert (tmp_path / "got").read_bytes() == data


# On a terminal.


def test_progress_is_for_terminals(objectio, bucket):
    def seen(*words, stdin=b""):
        ours, theirs = pty.openpty()
        with open(ours, "rb", buffering=0) as terminal:
            with open(theirs, "wb") as stderr:
                objectio(*words, stdin=stdin, stderr=stderr)
            shown = b""
            with contextlib.suppress(OSError):  # Linux says so that nobody has the other end
                while piece := terminal.read(65536):
                    shown += piece
        return shown.decode()

    (objectio.here / "given").write_bytes(bytes(3 * MIB))
    put, get = ("object", "put", bucket, "key"), ("object", "get", bucket, "key", "got")
    for words in ((*put, "given"), get):
        assert "100%  3.0 MiB of 3.0 MiB" in seen(*words)
    assert "%" not in seen(*put, stdin=bytes(MIB))  # nobody knows how much it will be
    for words in ((*put, "given", "--no-progress"), ("-q", *get), (*get, "--no-progress")):
        assert seen(*words) == ""
    assert objectio(*get)[1] == ""
