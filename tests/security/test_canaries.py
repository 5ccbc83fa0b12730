"""Secrets of every kind, used in every way and in wrong ways, on a real server that says all it can say:
afterwards they are in no log, metric, answer, row or journal. What may have them is named here."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest

from objectio.testing.cluster import LocalServer

for needed in ("objectio_api_admin", "objectio_api_iam", "objectio_api_s3", "objectio_kv_lmdb"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")
boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
exceptions = pytest.importorskip("botocore.exceptions")

HOLDERS = {"root secret": {"credentials.json"}}
"""The files of the data directory that have a secret in clear, by secret. The key ring has keys that open
others, and none of these."""
_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"


class Canaries:
    """The secrets, by name, and all that was seen while they were used, by where."""

    def __init__(self, server, here):
        self.server = server
        self.here = here
        self.secrets = {}
        self.seen = {}

    def note(self, where, text):
        self.seen[where] = self.seen.get(where, b"") + (
            text if isinstance(text, bytes) else str(text).encode("utf-8", "surrogateescape")
        )

    def client(self, service, access_key, secret_key, token=None):
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.server.endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            aws_session_token=token,
            region_name="us-east-1",
            config=Config(
                retries={"max_attempts": 0}, signature_version="s3v4" if service == "s3" else None
            ),
        )

    def refused(self, call, **arguments):
        with pytest.raises(exceptions.ClientError) as caught:
            call(**arguments)
        self.note("answers", json.dumps(caught.value.response, default=str))

    def ask(self, method, path, body=b"", **headers):
        """Without a signature; the answer is kept, whatever it is."""
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(
            self.server.endpoint + path, body or None, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, said = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                status, said = error.code, str(error.headers).encode() + error.read()
        if status >= 400:
            self.note("answers", said)
        return status, said

    def command(self, *words, code=0, shows=False, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OBJECTIO_", "AWS_"))}
        clean |= {"HOME": str(self.here), "OBJECTIO_ENDPOINT": self.server.endpoint, **env}
        if not env and "--config" not in words:
            words += ("--data", str(self.server.data_dir))
        done = subprocess.run(
            [sys.executable, "-c", _MAIN, *words],
            capture_output=True,
            cwd=self.here,
            env=clean,
            timeout=120,
        )
        assert done.returncode == code or code is None, done
        self.note("commands", done.stderr + (b"" if shows else done.stdout))
        return done.stdout


@pytest.fixture(scope="module")
def canaries(tmp_path_factory):
    here = tmp_path_factory.mktemp("canaries")
    files = {}
    for name in ("hmac", "bearer"):
        files[name] = here / f"{name}.secret"
        files[name].write_text(f"canary-webhook-{name}-{secrets.token_hex(16)}")
    path = f"canary-url-{secrets.token_hex(16)}"
    hook = (
        f'[{{arn="arn:objectio:sqs:::hook",url="http://127.0.0.1:9/{path}",'
        f'hmac_secret_file="{files["hmac"]}",bearer_token_file="{files["bearer"]}"}}]'
    )
    settings = {
        "log.level": "debug",
        "log.requests": "true",
        "log.format": "json",
        "sinks.webhook.target": hook,
    }
    with LocalServer(here / "data", settings=settings) as server:
        made = Canaries(server, here)
        made.secrets["webhook secret"] = files["hmac"].read_text()
        made.secrets["webhook token"] = files["bearer"].read_text()
        made.secrets["webhook path"] = path
        _make(made)
        _use(made)
        _misuse(made)
        _command(made, settings)
        _finish(made)
        yield made


def _make(made):
    """A user with a key, a session of it, bearer tokens, a customer's key."""
    root = made.server.credentials
    made.secrets["root secret"] = root[1]
    iam, sts = made.client("iam", *root), made.client("sts", *root)
    iam.create_user(UserName="alice")
    iam.put_user_policy(
        UserName="alice",
        PolicyName="all",
        PolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*",'
        '"Resource":"*"}]}',
    )
    key = iam.create_access_key(UserName="alice")["AccessKey"]
    made.alice = key["AccessKeyId"], key["SecretAccessKey"]
    made.secrets["user secret"] = made.alice[1]
    session = made.client("sts", *made.alice).get_session_token()["Credentials"]
    made.session = session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"]
    made.secrets["session secret"], made.secrets["session token"] = made.session[1:]
    said = json.loads(made.command("key", "create", "alice", "-f", "json", shows=True))
    made.secrets["secret of a command"] = said["secret_key"]
    said = json.loads(made.command("token", "create", "-f", "json", shows=True))
    made.secrets["bearer token"] = made.bearer = said["token"]
    made.customer_key = secrets.token_bytes(32)
    made.secrets["customer key"] = made.customer_key
    assert sts.get_caller_identity()["Account"]


def _use(made):
    """As all this is meant."""
    s3 = made.client("s3", *made.alice)
    s3.create_bucket(Bucket="canaries")
    s3.put_bucket_notification_configuration(
        Bucket="canaries",
        NotificationConfiguration={
            "QueueConfigurations": [
                {"QueueArn": "arn:objectio:sqs:::hook", "Events": ["s3:ObjectCreated:*"]}
            ]
        },
        SkipDestinationValidation=True,
    )
    sealed = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": made.customer_key}
    s3.put_object(Bucket="canaries", Key="sealed", Body=b"x" * 100_000, **sealed)
    s3.head_object(Bucket="canaries", Key="sealed", **sealed)
    made.client("s3", *made.session).put_object(Bucket="canaries", Key="by-session", Body=b"x")
    url = s3.generate_presigned_url("get_object", {"Bucket": "canaries", "Key": "by-session"})
    made.secrets["presigned signature"] = url.rpartition("Signature=")[2].partition("&")[0]
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"x"
    url = made.client("s3", *made.session).generate_presigned_url(
        "get_object", {"Bucket": "canaries", "Key": "sealed"}
    )
    made.ask("GET", url.removeprefix(made.server.endpoint))
    status, _ = made.ask("GET", "/_admin/v1/disks", authorization=f"Bearer {made.bearer}")
    assert status == 200


def _misuse(made):
    """In the wrong place, for the wrong thing, changed a little, and where errors quote what they got."""
    key, secret, token = made.session
    wrong_key = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": secrets.token_bytes(32)}
    s3 = made.client("s3", *made.alice)
    made.refused(s3.get_object, Bucket="canaries", Key="sealed")
    made.refused(s3.get_object, Bucket="canaries", Key="missing", **wrong_key)
    made.refused(s3.head_object, Bucket="canaries", Key="sealed", **wrong_key)
    made.refused(
        s3.put_object,
        Bucket="nowhere",
        Key="k",
        SSECustomerAlgorithm="AES256",
        SSECustomerKey=made.customer_key,
    )
    for pair in (
        (made.alice[1], made.alice[0]),  # the two taken for each other
        (made.server.credentials[1], "x"),
        (made.alice[0], made.alice[1][:-1] + "x"),
        (made.alice[0], made.server.credentials[1]),
    ):
        made.refused(made.client("s3", *pair).list_buckets)
        made.refused(made.client("iam", *pair).list_users)
        made.refused(made.client("sts", *pair).get_caller_identity)
    made.refused(made.client("s3", key, secret, token[:-4] + "aaaa").list_buckets)
    made.refused(made.client("s3", key, secret, made.bearer).list_buckets)
    made.refused(made.client("s3", key, secret + "x", token).list_buckets)
    encoded = base64.b64encode(made.customer_key).decode()
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    prefix = "x-amz-server-side-encryption-customer-"
    for value in (encoded, encoded[:-4], encoded + "="):
        headers = {prefix + "algorithm": "AES256", prefix + "key": value, prefix + "key-md5": md5}
        made.ask("PUT", "/canaries/k", b"x", **headers)
    for name, value in made.secrets.items():
        text = value if isinstance(value, str) else base64.b64encode(value).decode()
        for path in ("/_admin/v1/disks", "/_admin/v1/users", "/canaries/sealed", "/", "/health"):
            made.ask("GET", path, authorization=f"Bearer {text}")
            made.ask("GET", path, authorization=text)
            made.ask("GET", path, authorization=f"AWS4-HMAC-SHA256 Credential=x/{text}")
            made.ask("GET", path, authorization=f"Basic {text}", x_amz_security_token=text)
            made.ask("GET", f"{path}?X-Amz-Security-Token={quote(text)}&x-id=GetObject")
        body = json.dumps({"secret_key": text, "policy": {"x": text}, "seconds": text}).encode()
        for path in ("/_admin/v1/tokens", "/_admin/v1/accounts/000000000000/users"):
            made.ask("POST", path, body, authorization=f"Bearer {made.bearer}")
        form = f"Action=AssumeRoleWithWebIdentity&Version=2011-06-15&WebIdentityToken={quote(text)}"
        form += "&RoleSessionName=s&RoleArn=arn:aws:iam::000000000000:role/none"
        made.ask("POST", "/", form.encode(), content_type="application/x-www-form-urlencoded")
        assert name


def _command(made, settings):
    """The command line, with and without rights, and asked to say everything."""
    key, secret = made.alice
    alice = {"OBJECTIO_ACCESS_KEY": key, "OBJECTIO_SECRET_KEY": secret}
    made.command("bucket", "list", **alice)
    made.command("--debug", "bucket", "show", "nowhere", code=None, **alice)
    made.command("-vv", "user", "list", **alice)
    made.command("key", "list", "alice", **alice)
    made.command("object", "stat", "canaries/sealed", code=None, **alice)
    wrong = {**alice, "OBJECTIO_SECRET_KEY": secret[::-1]}
    made.secrets["wrong secret"] = secret[::-1]
    for words in (("user", "list"), ("object", "list", "canaries"), ("--debug", "user", "list")):
        made.command(*words, code=None, **wrong)
        made.command(*words, code=None, OBJECTIO_TOKEN=made.bearer[:-3] + "aaa")
        made.command(*words, code=None, OBJECTIO_TOKEN=made.bearer)
    overrides = [word for pair in settings.items() for word in ("--set", "=".join(pair))]
    config = ("--config", str(made.server.data_dir / "objectio.toml"))
    assert b"hmac_secret_file" in made.command("config", "show", *config, *overrides)
    made.command("config", "get")
    made.command("doctor", code=None)


def _finish(made):
    """Whatever is written in the background, and what a restart says."""
    deadline = time.monotonic() + 20
    while "events for arn:objectio:sqs:::hook wait" not in made.server.log_text():
        assert time.monotonic() < deadline, made.server.log_tail()
        time.sleep(0.05)
    with urllib.request.urlopen(f"{made.server.endpoint}/metrics") as answer:
        made.note("metrics", answer.read())
    _, configuration = made.ask("GET", "/_admin/v1/config", authorization=f"Bearer {made.bearer}")
    made.note("configuration", configuration)
    made.server.stop()
    made.note("log", made.server.log_text())
    for path in made.server.data_dir.rglob("*"):
        if path.is_file():
            made.note(path.relative_to(made.server.data_dir).as_posix(), path.read_bytes())


def forms(secret):
    """How it may stand somewhere."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    texts = {raw, raw.hex().encode(), raw.hex().upper().encode()}
    for at in range(3):  # wherever it stands in what is in base64
        whole = raw[at : at + (len(raw) - at) // 3 * 3]
        texts |= {base64.b64encode(whole), base64.urlsafe_b64encode(whole)}
    texts |= {quote(text.decode(), safe="").encode() for text in texts if text.isascii()}
    texts |= {json.dumps(text.decode())[1:-1].encode() for text in texts if text.isascii()}
    texts |= {text.decode().encode("utf-16-le") for text in texts if text.isascii()}
    return {text.rstrip(b"=") for text in texts}


def test_every_kind_is_there(canaries):
    assert set(canaries.secrets) == {
        *("root secret", "user secret", "session secret", "session token", "bearer token"),
        *("customer key", "webhook secret", "webhook token", "webhook path"),
        *("presigned signature", "secret of a command", "wrong secret"),
    }
    assert min(len(each) for each in canaries.secrets.values()) >= 32


def test_what_was_looked_through_is_what_was_said(canaries):
    """Else it would prove nothing: all of these say what may be said."""
    seen = canaries.seen
    assert canaries.alice[0].encode() in seen["log"]
    assert b"SignatureDoesNotMatch" in seen["answers"]
    assert b"iam:CreateAccessKey" in seen["audit/n1.admin.jsonl"]
    assert b"SignatureDoesNotMatch" in seen["audit/n1.denied.jsonl"]
    assert b"objectio_audit_lines_total" in seen["metrics"]
    assert b"hmac_secret_file" in seen["configuration"]
    rows = b"".join(text for name, text in seen.items() if name.startswith("meta/"))
    disks = b"".join(text for name, text in seen.items() if name.startswith("disks/"))
    assert canaries.alice[0].encode() in rows
    assert canaries.alice[0].encode() in disks, "the journal of the metadata"
    secret = canaries.secrets["root secret"].encode()
    assert secret in forms(secret)
    for number in range(7):  # as in the Authorization header of Basic
        packed = base64.b64encode(b"x" * number + secret + b":y")
        assert any(text in packed for text in forms(secret))


@pytest.mark.parametrize(
    "name",
    [
        *("root secret", "user secret", "session secret", "session token", "bearer token"),
        *("customer key", "webhook secret", "webhook token", "webhook path"),
        *("presigned signature", "secret of a command", "wrong secret"),
    ],
)
def test_it_is_nowhere_in_clear(canaries, name):
    texts = forms(canaries.secrets[name])
    found = {where for where, seen in canaries.seen.items() if any(text in seen for text in texts)}
    assert found == HOLDERS.get(name, set())


def test_every_line_of_the_log_has_its_facts(canaries):
    lines = [line for line in canaries.server.log_text().splitlines() if line[:1] == "{"]
    requests = [each for each in map(json.loads, lines) if each["logger"].endswith(".request")]
    assert len(requests) > 100
    assert all(each["request_id"] and each["status"] for each in requests)
