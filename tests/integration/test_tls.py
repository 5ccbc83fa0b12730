"""TLS as operators have it: every listener, certificates that are replaced while it serves, and what
else a SIGHUP may mean."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import termios
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from cryptography import x509

from objectio.testing.cluster import LocalServer
from objectio.testing.roles import LocalCluster, wait_for
from objectio.testing.tls import make_certificate

MIB = 1 << 20


@pytest.fixture(autouse=True)
def plugins():
    for plugin in ("api_s3", "kv_lmdb"):
        pytest.importorskip(f"objectio_{plugin}", reason=f"the plugin {plugin} is not installed")


def serial_of(path):
    return x509.load_pem_x509_certificates(Path(path).read_bytes())[0].serial_number


def shown(port):
    """The serial number of the certificate that a new connection is shown."""
    pem = ssl.get_server_certificate(("127.0.0.1", port), timeout=10)
    return x509.load_pem_x509_certificate(pem.encode()).serial_number


def renew(server, count=1, pid=None):
    """Asks the server, and waits until `count` of its processes have done it."""
    begin = len(server.log_text())
    os.kill(pid or server.pid, signal.SIGHUP)
    wait_for(
        lambda: len(re.findall(r"tls_cert_file: read anew", server.log_text()[begin:])) >= count,
        "certificates are read anew",
        tail=server.log_tail,
    )


def days_left(server, path):
    """Of the certificates that listeners serve, as metrics: {(listener, process): days}."""
    context = ssl.create_default_context(cafile=path)
    with urllib.request.urlopen(
        f"{server.endpoint}/metrics", context=context, timeout=10
    ) as answer:
        text = answer.read().decode()
    family = "objectio_tls_certificate_expiry_timestamp_seconds"
    found = {}
    for labels, value in re.findall(rf"^{family}{{(.*)}} (\S+)$", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="(.*?)"', labels))
        days = round((float(value) - time.time()) / 86400)
        found[named["listener"], named.get("process")] = days
    return found


def said(server, text):
    wait_for(lambda: text in server.log_text(), text, tail=server.log_tail)


class Wire(http.client.HTTPSConnection):
    """A connection to a server, by presigned URLs."""

    def __init__(self, server, s3, ca_file):
        context = ssl.create_default_context(cafile=ca_file)
        super().__init__(*server.address, timeout=30, context=context)
        self._s3 = s3

    def begin(self, method, key, headers=None):
        url = self._s3.generate_presigned_url(
            f"{method}_object", {"Bucket": "bucket", "Key": key}, HttpMethod=method.upper()
        )
        self.putrequest(method.upper(), "/" + url.split("/", 3)[3])
        for name, value in (headers or {}).items():
            self.putheader(name, value)
        self.endheaders()


def test_a_certificate_is_replaced_under_a_download_and_an_upload(start, connect, tmp_path):
    server = start(tls=True)
    s3 = connect(server, signature_version="s3v4")
    s3.create_bucket(Bucket="bucket")
    body = os.urandom(MIB) * 64
    s3.put_object(Bucket="bucket", Key="large", Body=body)
    old_ca = tmp_path / "old.pem"
    old_ca.write_bytes(server.ca_file.read_bytes())
    with (
        contextlib.closing(Wire(server, s3, old_ca)) as down,
        contextlib.closing(Wire(server, s3, old_ca)) as up,
    ):
        down.begin("get", "large")
        answer = down.getresponse()
        assert answer.status == 200
        digest = hashlib.sha256(answer.read(MIB))
        up.begin("put", "new", {"content-length": str(2 * MIB)})
        up.send(body[:MIB])
        make_certificate(server.ca_file)
        renew(server)
        assert shown(server.address[1]) == serial_of(server.ca_file) != serial_of(old_ca)
        with pytest.raises(ssl.SSLCertVerificationError):
            Wire(server, s3, old_ca).connect()
        while data := answer.read(MIB):
            digest.update(data)
        assert digest.digest() == hashlib.sha256(body).digest()
        up.send(body[MIB : 2 * MIB])
        assert up.getresponse().status == 200
        down.begin("get", "new")  # the old connection goes on
        assert down.getresponse().read() == body[: 2 * MIB]
    assert connect(server).get_object(Bucket="bucket", Key="new")["ContentLength"] == 2 * MIB
    server.stop()


def test_what_is_broken_changes_nothing_until_it_is_mended(start):
    server = start(tls=True)
    before, port = serial_of(server.ca_file), server.address[1]
    whole = server.ca_file.read_bytes()
    server.ca_file.write_bytes(whole[: len(whole) // 2])
    os.kill(server.pid, signal.SIGHUP)
    said(server, "gateway.tls_cert_file stays as it was: TLS from")
    assert shown(port) == before
    make_certificate(server.ca_file, kind="rsa")
    renew(server)
    assert shown(port) == serial_of(server.ca_file) != before
    assert server.healthy()
    server.stop()


def test_nobody_is_dropped_while_certificates_are_replaced_again_and_again(start, tmp_path):
    server = start(tls=True)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stop, problems, served = threading.Event(), [], [0, 0]

    def ask(number, anew):
        connection = http.client.HTTPSConnection(*server.address, timeout=30, context=context)
        while not stop.is_set():
            try:
                connection.request("GET", "/health")
                assert connection.getresponse().read()
                served[number] += 1
            except Exception as error:
                problems.append(error)
                return
            if anew:
                connection.close()
        connection.close()

    asking = [threading.Thread(target=ask, args=(number, bool(number))) for number in (0, 1)]
    for thread in asking:
        thread.start()
    for _ in range(10):
        make_certificate(server.ca_file)
        renew(server)
    stop.set()
    for thread in asking:
        thread.join()
    assert problems == []
    assert min(served) > 10


def test_all_processes_of_a_supervisor_take_the_new_certificate(start):
    server = start(tls=True, arguments=("--workers", "2"))
    before = serial_of(server.ca_file)
    gateways = [("gateway", "gateway-0"), ("gateway", "gateway-1")]
    assert days_left(server, server.ca_file) == dict.fromkeys(gateways, 2)
    make_certificate(server.ca_file, days=20)
    renew(server, count=2)
    after = serial_of(server.ca_file)
    assert days_left(server, server.ca_file) == dict.fromkeys(gateways, 20)
    assert {shown(server.address[1]) for _ in range(24)} == {after} != {before}
    assert server.healthy()
    server.stop()


def port_of(process, more=0):
    return int(process.arguments[process.arguments.index("--listen") + 1].rpartition(":")[2]) + more


def test_every_listener_of_every_role_takes_the_new_certificate(tmp_path):
    """And whoever connects trusts the new authority: an OSD that comes back has the new one only."""
    path = make_certificate(tmp_path / "one.pem")
    names = [f"cluster.tls_{kind}_file" for kind in ("cert", "key", "ca")]
    names += ["gateway.tls_cert_file", "metrics.tls_cert_file"]
    common = [word for name in names for word in ("--set", f"{name}={path}")]
    made = LocalCluster(
        tmp_path, osds=1, meta=["--replication", "1"], common=common, scheme="https"
    )
    made.endpoints = [made.endpoint.replace("http:", "https:")]
    meta, osd, gateway = made.processes
    ports = {
        "meta": port_of(meta),
        "metrics of meta": port_of(meta, 1),
        "osd": port_of(osd),
        "metrics of osd": port_of(osd, 1),
        "gateway": port_of(gateway),
    }

    def healthy(port):
        context = ssl.create_default_context(cafile=path)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.request("GET", "/health")
            return connection.getresponse().status == 200

    try:
        for process in made.processes:
            process.start()
        wait_for(lambda: healthy(ports["gateway"]), "the gateway serves", tail=made.tail)
        before = serial_of(path)
        assert {name: shown(port) for name, port in ports.items()} == dict.fromkeys(ports, before)
        with client_of(made, path) as s3:
            s3.create_bucket(Bucket="bucket")
            s3.put_object(Bucket="bucket", Key="key", Body=b"x" * MIB)
        make_certificate(path)
        renew(meta, 2)
        renew(osd, 2)
        renew(gateway, 2)
        after = serial_of(path)
        assert {name: shown(port) for name, port in ports.items()} == dict.fromkeys(ports, after)
        for port in (ports["metrics of meta"], ports["metrics of osd"]):
            assert healthy(port)
        osd.kill()
        osd.start()
        with client_of(made, path) as s3:
            wait_for(lambda: can_get(s3), "the OSD is found again", tail=made.tail)
    finally:
        made.kill()


@contextlib.contextmanager
def client_of(made, path):
    boto3 = pytest.importorskip("boto3")
    from botocore.config import Config

    config = Config(retries={"max_attempts": 0})
    client = boto3.client("s3", verify=str(path), config=config, **made.s3_settings())
    with contextlib.closing(client):
        yield client


def can_get(s3):
    from botocore.exceptions import BotoCoreError, ClientError

    with contextlib.suppress(BotoCoreError, ClientError):
        return s3.get_object(Bucket="bucket", Key="key")["Body"].read() == b"x" * MIB


# Terminals.


@contextlib.contextmanager
def on_a_terminal(tmp_path, *arguments, nohup=False):
    """(process, terminal, log): `objectio serve` as the leader of a session with that terminal."""
    server = LocalServer(tmp_path / "data", arguments=arguments)
    master, slave = os.openpty()

    def prepare():
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        if nohup:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with server.log_path.open("ab") as log:
        process = subprocess.Popen(
            server.command(),
            stdin=slave,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=prepare,
        )
    os.close(slave)
    try:
        said(server, "ObjectIO serves")
        yield process, master, server
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            os.close(master)


NOTHING = "there are no certificates to be read anew"


def test_the_authority_of_the_page_is_one_for_strict_clients(tmp_path):
    """Those of Python 3.13, for one: RFC 5280 §4.2.1.3 wants to be told what an authority's key is for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    page = (Path(__file__).resolve().parents[2] / "docs/howto/tls.md").read_text()
    [script] = re.findall(r"```text\n(openssl req .*?)```", page, re.DOTALL)
    asked = "openssl verify -x509_strict -verify_hostname meta.example -CAfile ca.pem this.pem"
    done = subprocess.run(
        ["sh", "-euc", f"{script}{asked}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "this.pem: OK\n"), done.stderr


@pytest.mark.parametrize("arguments", [(), ("--workers", "1")], ids=["one", "workers"])
def test_a_reload_during_the_start_or_the_end_ends_nothing(tmp_path, arguments):
    server = LocalServer(tmp_path / "data", tls=True, arguments=arguments)
    make_certificate(server.ca_file)
    with server.log_path.open("wb") as log:
        options = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
        process = subprocess.Popen(server.command(), start_new_session=True, **options)

    def ends():
        process.send_signal(signal.SIGHUP)
        return process.poll() is not None

    try:
        wait_for((server.data_dir / "objectio.toml").exists, "it begins", tail=server.log_tail)
        wait_for(lambda: ends() or "ObjectIO serves" in server.log_text(), "it serves")
        assert process.poll() is None, server.log_text()
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + 30
        while not ends() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert process.returncode == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("arguments", [(), ("--workers", "1")], ids=["one", "workers"])
def test_a_terminal_that_is_closed_leaves_no_server_behind(tmp_path, arguments):
    with on_a_terminal(tmp_path, *arguments) as (process, terminal, server):
        process.send_signal(signal.SIGHUP)
        said(server, NOTHING)
        assert process.poll() is None
        os.close(terminal)
        assert process.wait(40) == 0
        assert "Traceback" not in server.log_text()


def test_a_shell_that_ends_may_say_so_before_its_terminal_has_gone(tmp_path):
    """As bash does with `huponexit`: a job in the background gets the signal of the shell only."""
    server = LocalServer(tmp_path / "data")
    log, pid_file = shlex.quote(str(server.log_path)), tmp_path / "pid"
    script = (
        f"set -m; {shlex.join(server.command())} >{log} 2>&1 & echo $! >{pid_file}; "
        f"until grep -q 'ObjectIO serves' {log}; do sleep 0.1; done; kill -HUP $!; "
        f"until grep -q 'read anew' {log}; do sleep 0.02; done; exit 0"
    )
    master, slave = os.openpty()
    server.log_path.touch()
    shell = subprocess.Popen(
        ["sh", "-c", script],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(slave, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    try:
        assert shell.wait(40) == 0
        wait_for(lambda: not is_there(int(pid_file.read_text())), "it ends", 40, server.log_tail)
        assert "Traceback" not in server.log_text()
    finally:
        os.close(master)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_who_said_nohup_keeps_it(tmp_path):
    with on_a_terminal(tmp_path, nohup=True) as (process, terminal, server):
        os.close(terminal)
        said(server, NOTHING)
        server.endpoint = re.findall(r"ObjectIO serves (\S+)\n", server.log_text())[0]
        assert server.healthy()
        process.terminate()
        assert process.wait(40) == 0
