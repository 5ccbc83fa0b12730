"""A whole gateway without sockets: the real front ends, gate, guard, identities, over memory.

`world` has an account "anna" that owns the bucket "annas" with the object "key", an account "bert", a
user "user" of anna's without any policy, and the root of the cluster. Requests are signed for real.
"""

from __future__ import annotations

import json
from importlib import import_module, util
from types import SimpleNamespace
from urllib.parse import quote, urlencode

import pytest

from objectio.abc.api import ANONYMOUS, ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.abc.objects import ObjectAttributes
from objectio.gateway.app import GatewayApp
from objectio.gateway.gate import Gate
from objectio.gateway.guard import Guard
from objectio.iam import canonical, signer
from objectio.iam.credentials import Credential, root_credential
from objectio.model.bucket import POLICY
from objectio.testing.identities import memory_identities
from objectio.testing.objects import BytesPayload, MemoryObjects

ROOT = root_credential("AKIAROOT", "canary-root-secret-6a1f")
HOST = (b"host", b"localhost:9000")
NOW = 1_700_000_000.0
DATA = b"the data of anna"


class World:
    """`await world("GET", "/annas/key", by=world.bert)`; `by` None: without credentials."""

    clock = NOW

    def __init__(self):
        self.root = ROOT
        self.objects = MemoryObjects()
        self.memory = memory_identities([ROOT], clock=lambda: self.clock)
        self.identities = self.memory.identities

    async def begin(self, **settings):
        s3 = pytest.importorskip("objectio_api_s3.frontend", reason="api_s3 is not installed")
        context = ApiContext(
            objects=self.objects,
            metrics=NullMetrics(),
            directory=self.memory.directory,
            identities=self.identities,
        )
        guard = Guard(self.objects, self.memory.directory)
        self.gate = Gate(self.memory.directory, guard=guard, clock=lambda: self.clock, **settings)
        front_ends = {"s3": s3.S3Factory().build(context)}
        if util.find_spec("objectio_api_admin") is not None:
            admin = import_module("objectio_api_admin.frontend")
            front_ends["admin"] = admin.AdminFactory().build(context)
        if util.find_spec("objectio_api_iam") is not None:
            iam, config = (
                import_module(f"objectio_api_iam.{name}") for name in ("frontend", "config")
            )
            front_ends["iam"] = iam.IamFactory(config.IamConfig()).build(context)
        self.front_ends = front_ends
        self.app = GatewayApp(front_ends, self.gate)
        for name in ("anna", "bert"):
            account, new = await self.identities.create_account(
                name,
                canonical_id=f"id-of-{name}",
                access_key=f"AKIA{name.upper()}",
                secret_key=f"canary-{name}-secret-77c0",
            )
            setattr(self, f"{name}s_account", account.id)
            setattr(self, name, self.credential(new))
        await self.identities.create_user(self.annas_account, "user")
        new = await self.identities.create_access_key(self.annas_account, "user")
        self.user = self.credential(new)
        await self.objects.create_bucket("annas", owner="id-of-anna")
        await self.put("annas", b"key")

    def credential(self, new):
        return Credential(new.key.access_key, new.secret_key, ANONYMOUS)

    async def put(self, bucket, key, data=DATA, **attributes):
        return await self.objects.put_object(
            bucket,
            key,
            BytesPayload(data),
            ObjectAttributes(**attributes),
            owner="id-of-anna",
        )

    async def read(self, bucket, key):
        reader = await self.objects.get_object(bucket, key)
        data = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
        reader.close()
        return data

    async def policy(self, *statements, bucket="annas"):
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        await self.objects.put_document(bucket, POLICY, document.encode())

    async def allow(self, *actions, resource="annas/*", principal="*", **more):
        await self.policy(allow(*actions, resource=resource, principal=principal, **more))

    def identity(self, by):
        return self.memory.directory.lookup(by.access_key).identity

    async def make_user(self, account, name, *documents, **key):
        """What a new user signs with, who has these policies; `key` is more of its key."""
        await self.identities.create_user(account, name)
        for number, document in enumerate(documents):
            await self.identities.put_policy(account, "user", name, f"p{number}", document)
        return self.credential(await self.identities.create_access_key(account, name, **key))

    # Requests.

    async def admin(self, method, path, by=None, body=None, **more):
        """At the operators' API."""
        if "admin" not in self.front_ends:
            pytest.skip("api_admin is not installed")
        sent = b"" if body is None else json.dumps(body).encode()
        answer = await self(method, f"/_admin{path}", by, body=sent, **more)
        answer.said = json.loads(answer.body)
        return answer

    async def iam(self, action, by, service="iam", **parameters):
        if "iam" not in self.front_ends:
            pytest.skip("api_iam is not installed")
        headers = {"content-type": "application/x-www-form-urlencoded"}
        if "token" in parameters:
            headers["x-amz-security-token"] = parameters.pop("token")
        body = urlencode({"Action": action, **parameters}).encode()
        return await self("POST", "/", by, headers=headers, body=body, service=service)

    def sign(self, by, method, path, query=b"", headers=(), body=b"", *, form="header", **more):
        """(query, headers)."""
        headers = [HOST, *headers]
        if body or method in ("PUT", "POST"):
            headers.append((b"content-length", b"%d" % len(body)))
        if by is None:
            return query, headers
        if form == "header":
            import hashlib

            more.setdefault("content_sha256", hashlib.sha256(body).hexdigest().encode())
            return query, signer.sign_request(
                by, method, path, query, headers, now=self.clock, **more
            )
        return signer.presign(by, method, path, query, [HOST], now=self.clock, **more), headers

    async def __call__(
        self,
        method,
        target,
        by=None,
        *,
        headers=(),
        body=b"",
        form="header",
        client="127.0.0.1",
        **more,
    ):
        path, _, query = target.partition("?")
        path = quote(path, safe="/%~-._").encode()
        headers = [
            (name.encode(), value.encode("latin-1")) for name, value in dict(headers).items()
        ]
        query, headers = self.sign(
            by, method, path, query.encode(), headers, body, form=form, **more
        )
        return await self.send(method, path, query, headers, body, client=client)

    async def send(self, method, path, query, headers, body=b"", client="127.0.0.1", scheme="http"):
        messages = iter([{"type": "http.request", "body": body, "more_body": False}])
        sent = []

        async def receive():
            return next(messages, {"type": "http.disconnect"})

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path.decode("latin-1"),
            "raw_path": path,
            "query_string": query,
            "headers": list(headers),
            "scheme": scheme,
            "client": (client, 4000),
            "server": ("127.0.0.1", 9000),
        }
        await self.app(scope, receive, send)
        text = b"".join(message.get("body", b"") for message in sent[1:])
        code = text.partition(b"<Code>")[2].partition(b"</Code>")[0].decode()
        return SimpleNamespace(
            status=sent[0]["status"], headers=dict(sent[0]["headers"]), body=text, code=code
        )


def allow(*actions, resource="annas/*", principal="*", effect="Allow", condition=None):
    found = {
        "Effect": effect,
        "Principal": principal,
        "Action": list(actions),
        "Resource": [
            f"arn:aws:s3:::{each}"
            for each in ([resource] if isinstance(resource, str) else resource)
        ],
    }
    if condition is not None:
        found["Condition"] = condition
    return found


@pytest.fixture
async def world():
    made = World()
    await made.begin()
    made.make_statement = allow
    made.canonical = canonical
    return made


@pytest.fixture
def make_world():
    async def make(**settings):
        made = World()
        await made.begin(**settings)
        return made

    return make
