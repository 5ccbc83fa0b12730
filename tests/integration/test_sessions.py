"""Sessions of roles with a whole server: what a session, its role and a bucket allow, together."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from objectio.testing.cluster import LocalServer

boto3 = pytest.importorskip("boto3", reason="boto3 is not installed")
jwt = pytest.importorskip("jwt", reason="PyJWT is not installed")
for needed in ("objectio_api_admin", "objectio_api_iam", "objectio_api_s3"):
    pytest.importorskip(needed, reason=f"{needed} is not installed")

from botocore import UNSIGNED  # noqa: E402
from botocore.config import Config  # noqa: E402
from botocore.exceptions import ClientError  # noqa: E402

_MAIN = "import sys; from objectio.cli.app import main; sys.exit(main())"
_ONCE = {"total_max_attempts": 1}
TAGS = "https://aws.amazon.com/tags"
_numbers = itertools.count(1)


class Issuer:
    """An OpenID Connect provider on loopback."""

    def __init__(self):
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps(issuer.show(self.path)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.name = self.url.partition("://")[2]

    def show(self, path):
        if path == "/keys":
            shown = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self._key.public_key()))
            return {"keys": [shown | {"kid": "one", "use": "sig"}]}
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    def token(self, **claims):
        now = int(time.time())
        said = {"iss": self.url, "sub": "s1", "aud": "app", "iat": now, "exp": now + 300, **claims}
        return jwt.encode(said, self._key, "RS256", {"kid": "one"})

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)


def objectio(server, *words):
    access_key, secret_key = server.credentials
    env = {key: value for key, value in os.environ.items() if not key.startswith("OBJECTIO_")} | {
        "OBJECTIO_ENDPOINT": server.endpoint,
        "OBJECTIO_ACCESS_KEY": access_key,
        "OBJECTIO_SECRET_KEY": secret_key,
    }
    done = subprocess.run(
        [sys.executable, "-c", _MAIN, *words, "-f", "json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def client(endpoint, service, access_key, secret_key, token=None):
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        config=Config(retries=_ONCE, signature_version="s3v4" if service == "s3" else "v4"),
    )


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(*actions, resource="*", **more):
    return {"Effect": "Allow", "Action": list(actions), "Resource": resource, **more}


class Tenant:
    """An account with a provider of web identities, and a bucket for each test."""

    def __init__(self, server, issuer):
        self.server = server
        self.endpoint = server.endpoint
        self.issuer = issuer
        self.id = f"{next(_numbers):012d}"
        keys = ("AKIATENANT" + self.id[-4:], "a-secret-of-a-tenant")
        objectio(
            *(server, "account", "create", "--id", self.id, "--display-name", f"t{self.id}"),
            *("--access-key", keys[0], "--secret-key", keys[1]),
        )
        self.s3, self.iam = (client(self.endpoint, name, *keys) for name in ("s3", "iam"))
        self.provider = self.iam.create_open_id_connect_provider(
            Url=issuer.url, ClientIDList=["app"]
        )["OpenIDConnectProviderArn"]

    def bucket(self):
        name = f"bucket-{self.id}-{next(_numbers)}"
        self.s3.create_bucket(Bucket=name)
        self.s3.put_object(Bucket=name, Key="k", Body=b"data")
        return name

    def role(self, *statements):
        name = f"role{next(_numbers)}"
        trusted = {
            "Effect": "Allow",
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Principal": {"Federated": self.provider},
        }
        made = self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trusted))
        if statements:
            self.iam.put_role_policy(
                RoleName=name, PolicyName="p", PolicyDocument=document(*statements)
            )
        return made["Role"]["Arn"]

    def assume(self, role, policy=None, **claims):
        sts = boto3.client(
            "sts",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            config=Config(signature_version=UNSIGNED, retries=_ONCE),
        )
        more = {} if policy is None else {"Policy": document(*policy)}
        answer = sts.assume_role_with_web_identity(
            RoleArn=role,
            RoleSessionName="one",
            WebIdentityToken=self.issuer.token(**claims),
            **more,
        )
        keys = answer["Credentials"]
        s3 = client(
            self.endpoint, "s3", keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"]
        )
        return s3, answer["AssumedRoleUser"]["Arn"]


@pytest.fixture(scope="module")
def issuer():
    with Issuer() as started:
        yield started


@pytest.fixture(scope="module")
def tenant(tmp_path_factory, issuer):
    settings = {"api.iam.trusted_issuers": json.dumps([issuer.url])}
    with LocalServer(tmp_path_factory.mktemp("sessions") / "data", settings=settings) as server:
        yield Tenant(server, issuer)


def refused(call, status=403):
    with pytest.raises(ClientError) as raised:
        call()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == status


def allowed(call):
    """Whether it is done, or denied; nothing else may come of it."""
    try:
        call()
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def can_get(s3, bucket):
    return allowed(lambda: s3.get_object(Bucket=bucket, Key="k")["Body"].read())


def can_put(s3, bucket):
    return allowed(lambda: s3.put_object(Bucket=bucket, Key="new", Body=b"data"))


def test_a_web_identity_reads_and_writes(tenant):
    s3, _ = tenant.assume(tenant.role(allow("s3:*")))
    bucket = tenant.bucket()
    assert can_get(s3, bucket)
    assert can_put(s3, bucket)
    own = f"own-{tenant.id}-{next(_numbers)}"
    s3.create_bucket(Bucket=own)
    owner = tenant.s3.get_bucket_acl(Bucket=own)["Owner"]["ID"]
    assert owner == tenant.s3.get_bucket_acl(Bucket=bucket)["Owner"]["ID"]


def test_a_role_without_policies_may_nothing(tenant):
    s3, _ = tenant.assume(tenant.role())
    bucket = tenant.bucket()
    assert not can_get(s3, bucket)
    assert not can_put(s3, bucket)
    refused(s3.list_buckets)


@pytest.mark.parametrize(
    ("role", "narrowed", "get", "put"),
    [
        (["s3:*"], None, True, True),
        (["s3:*"], ["s3:GetObject"], True, False),
        (["s3:GetObject"], ["s3:*"], True, False),
        (["s3:GetObject"], ["s3:PutObject"], False, False),
        (["s3:GetObject", "s3:PutObject"], ["s3:PutObject"], False, True),
    ],
)
def test_a_session_may_what_both_its_role_and_its_policy_allow(tenant, role, narrowed, get, put):
    policy = None if narrowed is None else [allow(*narrowed)]
    s3, _ = tenant.assume(tenant.role(allow(*role)), policy)
    bucket = tenant.bucket()
    assert can_get(s3, bucket) is get
    assert can_put(s3, bucket) is put


def test_a_session_may_be_kept_to_a_bucket(tenant):
    one, two = tenant.bucket(), tenant.bucket()
    s3, _ = tenant.assume(
        tenant.role(allow("s3:*")), [allow("s3:*", resource=f"arn:aws:s3:::{one}/*")]
    )
    assert can_get(s3, one)
    assert not can_get(s3, two)


def test_a_denial_of_the_session_comes_first(tenant):
    deny = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "*"}
    s3, _ = tenant.assume(tenant.role(allow("s3:*")), [allow("s3:*"), deny])
    bucket = tenant.bucket()
    assert can_get(s3, bucket)
    assert not can_put(s3, bucket)


@pytest.mark.parametrize(
    ("names", "narrowed", "get"),
    [
        ("role", ["s3:PutObject"], False),
        ("role", ["s3:GetObject"], True),
        ("role", None, True),
        ("session", ["s3:PutObject"], True),
        ("everyone", ["s3:PutObject"], False),
        ("account", None, False),
    ],
)
def test_what_a_bucket_gives_to_a_role_is_kept_to_the_session(tenant, names, narrowed, get):
    """IAM user guide, "Session policies": what is given to a session by its name is not."""
    role = tenant.role(allow("s3:PutObject"))
    s3, session = tenant.assume(role, None if narrowed is None else [allow(*narrowed)])
    principal = {
        "role": {"AWS": role},
        "session": {"AWS": session},
        "everyone": "*",
        "account": {"AWS": tenant.id},
    }[names]
    bucket = tenant.bucket()
    given = allow("s3:GetObject", resource=f"arn:aws:s3:::{bucket}/*", Principal=principal)
    tenant.s3.put_bucket_policy(Bucket=bucket, Policy=document(given))
    assert can_get(s3, bucket) is get


def test_a_denial_of_the_bucket_comes_first(tenant):
    role = tenant.role(allow("s3:*"))
    s3, session = tenant.assume(role)
    bucket = tenant.bucket()
    for principal in (role, session):
        deny = {
            "Effect": "Deny",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
            "Principal": {"AWS": principal},
        }
        tenant.s3.put_bucket_policy(Bucket=bucket, Policy=document(deny))
        assert not can_get(s3, bucket)
        assert can_put(s3, bucket)


def test_a_copy_needs_both_ends(tenant):
    source, target = tenant.bucket(), tenant.bucket()
    role = tenant.role(allow("s3:*"))
    for resource, done in ((source, False), (target, False), ("*", True)):
        s3, _ = tenant.assume(role, [allow("s3:*", resource=f"arn:aws:s3:::{resource}/*")])

        def copy(s3=s3):
            s3.copy_object(Bucket=target, Key="copy", CopySource={"Bucket": source, "Key": "k"})

        assert allowed(copy) is done


@pytest.mark.parametrize(("actions", "status"), [(["s3:GetObject"], 403), (["s3:*"], 404)])
def test_who_may_not_list_does_not_learn_what_is_missing(tenant, actions, status):
    s3, _ = tenant.assume(tenant.role(allow(*actions)))
    bucket = tenant.bucket()
    refused(lambda: s3.head_object(Bucket=bucket, Key="missing"), status)


def test_tags_of_the_principal_decide(tenant):
    by_tag = {"StringEquals": {"aws:PrincipalTag/Department": "Engineering"}}
    role = tenant.role(allow("s3:*", Condition=by_tag))
    bucket = tenant.bucket()
    for department, done in (("Engineering", True), ("Marketing", False)):
        tags = {TAGS: {"principal_tags": {"Department": [department]}}}
        assert can_get(tenant.assume(role, **tags)[0], bucket) is done
    assert not can_get(tenant.assume(role)[0], bucket)


def test_tags_of_the_object_and_the_principal_must_agree(tenant):
    same = {"StringEquals": {"s3:ExistingObjectTag/Department": "${aws:PrincipalTag/Department}"}}
    role = tenant.role(allow("s3:GetObject", Condition=same))
    bucket = tenant.bucket()
    tenant.s3.put_object(Bucket=bucket, Key="k", Body=b"data", Tagging="Department=Engineering")
    for department, done in (("Engineering", True), ("Marketing", False)):
        tags = {TAGS: {"principal_tags": {"Department": [department]}}}
        assert can_get(tenant.assume(role, **tags)[0], bucket) is done


def test_a_home_for_each_subject(tenant):
    home = "arn:aws:s3:::{}/${{" + tenant.issuer.name + ":sub}}/*"
    bucket = tenant.bucket()
    role = tenant.role(allow("s3:PutObject", resource=home.format(bucket)))
    s3, _ = tenant.assume(role, sub="ann")
    s3.put_object(Bucket=bucket, Key="ann/x", Body=b"")
    for key in ("bob/x", "ann", "x"):
        refused(lambda key=key: s3.put_object(Bucket=bucket, Key=key, Body=b""))
    wild, _ = tenant.assume(role, sub="*")
    refused(lambda: wild.put_object(Bucket=bucket, Key="bob/x", Body=b""))


def test_a_presigned_url_of_a_session_carries_its_token(tenant):
    s3, _ = tenant.assume(tenant.role(allow("s3:GetObject")))
    bucket = tenant.bucket()
    url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"data"
    stripped = "&".join(part for part in url.split("&") if "security-token" not in part.lower())
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(stripped)
    raised.value.close()
    assert raised.value.code in (400, 403)


def test_the_account_of_the_clusters_root_has_users_too(tenant):
    settings = tenant.server.s3_settings()
    iam = boto3.client("iam", **settings)
    name = f"user{next(_numbers)}"
    iam.create_user(UserName=name)
    iam.put_user_policy(
        UserName=name, PolicyName="p", PolicyDocument=document(allow("s3:ListAllMyBuckets"))
    )
    keys = iam.create_access_key(UserName=name)["AccessKey"]
    s3 = client(tenant.endpoint, "s3", keys["AccessKeyId"], keys["SecretAccessKey"])
    assert s3.list_buckets()["Buckets"] == []
    refused(lambda: s3.create_bucket(Bucket="not-allowed"))
    refused(lambda: s3.list_objects_v2(Bucket=tenant.bucket()))
