"""`objectio serve`: what it makes, what it keeps, what it takes, and how it says no."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from objectio.testing.cluster import LocalServer

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml"))
MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


def needs(*plugins):
    missing = [name for name in plugins if name not in PLUGINS]
    return pytest.mark.skipif(bool(missing), reason=f"not in this tree: {', '.join(missing)}")


durable = pytest.mark.skipif(
    not {"kv_lmdb", "kv_leveldb"} & set(PLUGINS), reason="no engine in this tree outlives a process"
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def check_stores(s3, size=300_000):
    """Stores an object and reads it back, small and of a few stripes."""
    s3.create_bucket(Bucket="bucket")
    for key, body in (("small", b"bytes"), ("large", os.urandom(size))):
        s3.put_object(Bucket="bucket", Key=key, Body=body)
        assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == body


def health(endpoint):
    with urllib.request.urlopen(f"{endpoint}/health", timeout=10) as answer:
        return answer.status, json.load(answer)


class Serve:
    """`objectio serve` with just these arguments."""

    def __init__(self, *arguments, env=None):
        inherited = {key: text for key, text in os.environ.items() if key[:9] != "OBJECTIO_"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", MAIN, "serve", *map(str, arguments)],
            env={**inherited, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = ""

    def endpoint(self):
        """Waits for the three lines it says when it serves."""
        for _ in range(3):
            self.said += self.process.stdout.readline()
        found = re.match(r"ObjectIO serves (\S+)\n", self.said)
        assert found, self.said + self.process.stderr.read()
        return found[1]

    def end(self):
        self.process.terminate()
        _, errors = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, errors

    def refusal(self):
        """(exit code, what it said): one sentence on standard error, and nothing else."""
        said, errors = self.process.communicate(timeout=30)
        assert said == ""
        assert errors.startswith("objectio: ")
        assert errors.count("\n") == 1, errors
        return self.process.returncode, errors.removeprefix("objectio: ").strip()

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def serve():
    """`serve(*arguments, env=None)`: the command, which is gone after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments, **more: stack.enter_context(
            contextlib.closing(Serve(*arguments, **more))
        )


# The directory.


def test_a_first_start_makes_the_directory(start, tmp_path):
    server = start()
    data = server.data_dir
    made = {path.name for path in data.iterdir()}
    assert {"disks", "meta", "credentials.json", "objectio.toml"} <= made
    assert {path.name for path in (data / "disks").iterdir()} == {"0", "1", "2", "3", "4", "5"}
    assert mode(data) == 0o700
    assert mode(data / "credentials.json") == 0o600
    assert mode(data / "meta") == 0o700
    assert {mode(path) for path in (data / "disks").iterdir()} == {0o700}
    assert set(json.loads((data / "credentials.json").read_text())) == {"access_key", "secret_key"}
    said = server.log_text()
    assert f"ObjectIO serves {server.endpoint}\n" in said
    assert re.search(r"^  data +\S+ \(6 disks, \S+:4\+2\)$", said, re.MULTILINE)
    assert str(data / "credentials.json") in said
    assert server.credentials[1] not in said
    assert health(server.endpoint) == (200, {"status": "ok"})


@durable
@needs("api_s3")
def test_a_second_start_keeps_everything(start, connect):
    server = start()
    files = [server.data_dir / name for name in ("objectio.toml", "credentials.json")]
    before = [path.read_bytes() for path in files]
    body = os.urandom(100_000)
    s3 = connect(server)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="kept", Body=body, Metadata={"a": "b"})
    server.restart()
    assert [path.read_bytes() for path in files] == before
    found = connect(server).get_object(Bucket="bucket", Key="kept")
    assert found["Body"].read() == body
    assert found["Metadata"] == {"a": "b"}


@durable
def test_the_directory_can_be_moved(start, tmp_path):
    server = start(tmp_path / "here")
    server.stop()
    (tmp_path / "here").rename(tmp_path / "there")
    moved = start(tmp_path / "there")
    assert health(moved.endpoint)[0] == 200
    assert "stays down" not in moved.log_text()


# Flags and the environment.

SHAPES = {1: "1+0", 2: "1+1", 3: "2+1", 4: "2+2", 5: "2+2", 6: "4+2", 8: "4+2"}


@needs("api_s3")
@pytest.mark.parametrize("disks", SHAPES)
def test_any_number_of_disks(start, connect, disks):
    server = start(disks=disks)
    assert f"({disks} disks, " in server.log_text()
    assert f":{SHAPES[disks]})" in server.log_text()
    check_stores(connect(server))


@needs("api_s3")
def test_without_authentication_everyone_may_do_everything(start):
    server = start(arguments=["--no-auth"])
    assert "not needed (--no-auth)" in server.log_text()
    url = f"{server.endpoint}/bucket"
    for target in (url, f"{url}/key"):
        request = urllib.request.Request(target, data=b"", method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@needs("api_s3")
def test_with_authentication_nobody_may_do_anything(start):
    server = start()
    making = urllib.request.Request(f"{server.endpoint}/bucket", method="PUT")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(making, timeout=10)
    with refused.value as error:
        assert error.code == 403
    with urllib.request.urlopen(f"{server.endpoint}/", timeout=10) as answer:
        assert b"<Bucket>" not in answer.read()  # nobody has any


@needs("api_s3")
def test_credentials_from_the_environment(start, connect):
    names = {"OBJECTIO_ROOT_ACCESS_KEY": "the-root", "OBJECTIO_ROOT_SECRET_KEY": "its-long-secret"}
    server = start(env=names)
    assert "from the environment" in server.log_text()
    assert server.credentials == ("the-root", "its-long-secret")
    assert not (server.data_dir / "credentials.json").exists()
    check_stores(connect(server))


def test_the_environment_overrides_the_file_and_flags_override_both(serve, tmp_path):
    def endpoint(*flags, env=None):
        server = serve("--data", tmp_path / "data", *flags, env=env)
        found = server.endpoint()
        server.end()
        return found

    first, second, third = free_ports(3)
    assert endpoint("--listen", f"127.0.0.1:{first}") == f"http://127.0.0.1:{first}"
    # It was written down.
    assert endpoint() == f"http://127.0.0.1:{first}"
    env = {"OBJECTIO_GATEWAY_LISTEN": f"127.0.0.1:{second}"}
    assert endpoint(env=env) == f"http://127.0.0.1:{second}"
    assert endpoint("--listen", f"127.0.0.1:{third}", env=env) == f"http://127.0.0.1:{third}"


def test_a_configuration_of_ones_own(serve, tmp_path):
    config = tmp_path / "etc/my.toml"
    config.parent.mkdir()
    disks = "".join(f'[[osd.disk]]\nid = {n}\npath = "/disk{n}"\n' for n in range(3))
    config.write_text(
        '[node]\nname = "mine"\ndata_dir = "var"\n'
        '[gateway]\nlisten = "127.0.0.1:0"\nregion = "eu-north-1"\n'
        "[pool]\ndata_shards = 2\nparity_shards = 1\n"
        f"{disks.replace('/disk', str(tmp_path / 'disk'))}"
    )
    server = serve("--config", config)
    assert health(server.endpoint())[0] == 200
    assert (tmp_path / "etc/var/credentials.json").exists()
    assert (tmp_path / "disk2").is_dir()
    assert "(3 disks, rs-cauchy-0x11d:2+1)" in server.said
    server.end()


# Pools, codecs, engines.

VARIANTS = {
    "mirror of three": ({"family": "replicate", "data_shards": 1, "parity_shards": 2}, 6, []),
    "2+1": ({"data_shards": 2, "parity_shards": 1}, 3, []),
    "8+4": ({"data_shards": 8, "parity_shards": 4}, 12, []),
    "zfec": ({"family": "rs-vandermonde-0x11d", "codec": "zfec"}, 6, ["ec_zfec"]),
    "isal": ({"codec": "isal"}, 6, ["ec_isal"]),
    "6+2+2": (
        {"family": "lrc-cauchy-0x11d-l2", "data_shards": 6, "parity_shards": 4},
        10,
        ["ec_lrc"],
    ),
    "reference": ({"codec": "reference", "placement": "rendezvous"}, 6, []),
    "hosts": ({"failure_domain": "host"}, 6, []),
}


@needs("api_s3")
@pytest.mark.parametrize("variant", VARIANTS)
def test_pools(start, connect, variant):
    pool, disks, plugins = VARIANTS[variant]
    if not set(plugins) <= set(PLUGINS):
        pytest.skip(f"not in this tree: {plugins}")
    settings = {f"pool.{key}": str(value) for key, value in pool.items()}
    server = start(disks=disks, settings=settings)
    shape = f"{pool.get('data_shards', 4)}+{pool.get('parity_shards', 2)})"
    assert f"{pool.get('family', 'rs-cauchy-0x11d')}:{shape}" in server.log_text()
    check_stores(connect(server), size=5_000_000)


@needs("api_s3")
@pytest.mark.parametrize("engine", ["lmdb", "leveldb", "memory"])
def test_engines(start, connect, engine):
    if engine != "memory" and f"kv_{engine}" not in PLUGINS:
        pytest.skip(f"not in this tree: kv_{engine}")
    server = start(settings={"kv.driver": engine})
    check_stores(connect(server))
    server.stop()
    kept = any((server.data_dir / "meta").iterdir())
    assert kept == (engine != "memory")


def test_the_kernel_alone(start, tmp_path):
    """With every plugin disabled a node starts, and says what it has not."""
    server = start(settings={"node.disabled_plugins": ",".join(PLUGINS)})
    assert health(server.endpoint) == (200, {"status": "ok"})
    assert 'driver = "memory"' in (server.data_dir / "objectio.toml").read_text()
    assert 'placement = "rendezvous"' in (server.data_dir / "objectio.toml").read_text()
    assert "no API front end is installed" in server.log_text()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{server.endpoint}/bucket", timeout=10)
    with refused.value as error:
        assert error.code == 404
    server.stop()


# Its end.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_it_is_asked_to(start, number):
    server = start()
    os.kill(server.pid, number)
    server.wait_stopped()
    assert "Traceback" not in server.log_text()


# How it says no.


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


@pytest.fixture
def data(start, tmp_path):
    """A directory of a server that has run."""
    server = start()
    server.stop()
    return server.data_dir


FAILED, USAGE = 1, 2  # exit codes

# What is asked for, and the code and words it is refused with.
REFUSALS = {
    "other disks": (["--disks", "7"], USAGE, "has 6 disks: --disks counts at the first start only"),
    "two ways": (["--config", "x.toml"], USAGE, "leave --config away"),
    "address": (["--listen", "nonsense"], USAGE, "HOST:PORT"),
    "port": (["--listen", "127.0.0.1:99999"], USAGE, "above 65535"),
    "elsewhere": (["--listen", "192.0.2.1:80"], FAILED, "cannot listen on 192.0.2.1:80: "),
    "section": (["--set", "gatway.listen=x"], USAGE, "did you mean gateway"),
    "key": (["--set", "gateway.litsen=x"], USAGE, "did you mean gateway.listen?"),
    "wide": (["--set", "pool.data_shards=9"], USAGE, "needs 11 disks for 9+2"),
    "family": (["--set", "pool.family=nosuch"], USAGE, "no installed codec does the family"),
    "placement": (["--set", "pool.placement=nosuch"], USAGE, "unknown placement rule 'nosuch'"),
    "engine": (["--set", "kv.driver=nosuch"], USAGE, "unknown key-value engine 'nosuch'"),
    "front end": (["--set", "gateway.apis=nosuch"], USAGE, "unknown API front end 'nosuch'"),
    "role": (["--set", "node.roles=nosuch"], USAGE, "unknown role 'nosuch'"),
    "roles": (["--set", "node.roles=gateway"], USAGE, "add the role to node.roles"),
}


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """The same for all refusals: none may leave anything behind that disturbs the next start."""
    with LocalServer(tmp_path_factory.mktemp("used") / "data") as server:
        server.stop()
        yield server.data_dir


@durable
@pytest.mark.parametrize("why", [*REFUSALS, "nothing"])
def test_refusals(used, serve, why):
    arguments, code, words = REFUSALS.get(why, ([], None, ""))
    listen = [] if "--listen" in arguments else ["--listen", "127.0.0.1:0"]
    server = serve("--data", used, *listen, *arguments)
    if why == "nothing":
        assert health(server.endpoint())[0] == 200
        server.end()
    else:
        found, sentence = server.refusal()
        assert words in sentence
        assert found == code


@durable
def test_a_port_that_is_taken(serve, data):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        code, sentence = serve("--data", data, "--listen", where).refusal()
    assert code == FAILED
    assert sentence == f"cannot listen on {where}: Address already in use"


@durable
@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("OBJECTIO_GATEWAY_LITSEN", "environment variable OBJECTIO_GATEWAY_LITSEN"),
        ("OBJECTIO_ROOT_ACCESS_KEY", "set both"),
        ("OBJECTIO_ROOT_SECRET_KEY", "set both"),
    ],
)
def test_a_wrong_environment(serve, data, variable, words):
    code, sentence = serve("--data", data, "--listen", "127.0.0.1:0", env={variable: "x"}).refusal()
    assert code == USAGE
    assert words in sentence


def test_no_disks(serve, tmp_path):
    code, sentence = serve("--data", tmp_path / "data", "--disks", "0").refusal()
    assert (code, sentence) == (USAGE, "a store needs at least one disk")
    assert not (tmp_path / "data").exists()


def test_no_such_configuration(serve, tmp_path):
    code, sentence = serve("--config", tmp_path / "no.toml").refusal()
    assert code == USAGE
    assert "there is no such file" in sentence


@durable
def test_a_wrong_key_in_the_file(serve, data):
    path = data / "objectio.toml"
    path.write_text(path.read_text().replace("check_seconds", "chek_seconds"))
    code, sentence = serve("--data", data).refusal()
    assert code == USAGE
    assert f"{path}: osd.chek_seconds: unknown key; did you mean osd.check_seconds?" in sentence


@durable
def test_broken_credentials(serve, data):
    path = data / "credentials.json"
    path.write_text('{"access_key": "AKIA", "secret')
    code, sentence = serve("--data", data, "--listen", "127.0.0.1:0").refusal()
    assert code == USAGE
    assert f"{path} must hold" in sentence
    assert "AKIA" not in sentence


@durable
def test_credentials_that_others_can_read_are_closed(data):
    (data / "credentials.json").chmod(0o644)
    with LocalServer(data) as server:
        assert mode(data / "credentials.json") == 0o600
        assert "was readable by others" in server.log_text()


@durable
def test_a_disk_of_another_release_stays_down(data):
    """Its superblock has a format number that this release does not read."""
    from objectio.osd import format as on_disk

    superblock = on_disk.Superblock.unpack((data / "disks/3/log").read_bytes()[:4096])
    later = superblock._replace(format_version=superblock.format_version + 1).pack()
    with (data / "disks/3/log").open("r+b") as device:
        for offset in on_disk.SUPERBLOCK_COPIES:
            device.seek(offset)
            device.write(later)
    with LocalServer(data) as server:
        [line] = [each for each in server.log_text().splitlines() if "OSD 3 stays down" in each]
        assert "on-disk format 2" in line
        assert health(server.endpoint) == (200, {"status": "ok"})


def test_a_directory_that_is_being_served(start, serve):
    server = start()
    _, sentence = serve("--data", server.data_dir, "--listen", "127.0.0.1:0").refusal()
    assert str(server.data_dir) in sentence
    assert health(server.endpoint)[0] == 200
