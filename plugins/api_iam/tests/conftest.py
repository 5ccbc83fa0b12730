"""The front end behind a real server with real identities, and a real provider of web identities."""

from __future__ import annotations

import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import jwt
import pytest
from botocore.config import Config
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from objectio_api_iam.config import IamConfig
from objectio_api_iam.frontend import IamFactory

from objectio.abc.api import ApiContext
from objectio.abc.metrics import NullMetrics
from objectio.testing.identities import memory_identities
from objectio.testing.objects import MemoryObjects
from objectio.testing.serving import FrontEndServer

REGION = "us-east-1"
_numbers = itertools.count(1)


class Keys:
    """What a client needs to sign."""

    def __init__(self, endpoint, access_key, secret_key, token=None):
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.token = token

    def client(self, service, **config):
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            aws_session_token=self.token,
            config=Config(retries={"total_max_attempts": 1}, **config),
        )

    @property
    def iam(self):
        return self.client("iam")

    @property
    def sts(self):
        return self.client("sts")

    def assumed(self, credentials):
        return Keys(
            self.endpoint,
            credentials["AccessKeyId"],
            credentials["SecretAccessKey"],
            credentials["SessionToken"],
        )


class Account(Keys):
    """The root of an account."""

    def __init__(self, endpoint, account, made):
        super().__init__(endpoint, made.key.access_key, made.secret_key)
        self.id = account.id
        self.canonical_id = account.canonical_id

    def user(self, name="ann", policy=None):
        """A new user, with a policy or without."""
        self.iam.create_user(UserName=name)
        if policy is not None:
            self.iam.put_user_policy(
                UserName=name, PolicyName="given", PolicyDocument=json.dumps(policy)
            )
        made = self.iam.create_access_key(UserName=name)["AccessKey"]
        return Keys(self.endpoint, made["AccessKeyId"], made["SecretAccessKey"])


class Server(FrontEndServer):
    def __init__(self, config):
        self.identities = memory_identities()
        context = ApiContext(
            objects=MemoryObjects(),
            metrics=NullMetrics(),
            directory=self.identities.directory,
            identities=self.identities.identities,
        )
        self.front_end = IamFactory(config).build(context)
        super().__init__({"iam": self.front_end}, identities=self.identities)

    def account(self):
        name = f"account{next(_numbers)}"
        made = self.run(self.identities.identities.create_account(name))
        return Account(self.endpoint, *made)


class Issuer:
    """An OpenID Connect provider on loopback. `paths` are the documents that it shows."""

    def __init__(self):
        self.asked = []
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.ec_key = ec.generate_private_key(ec.SECP256R1())
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                body = issuer.paths.get(self.path)
                self.send_response(404 if body is None else 200)
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}/realms/one"
        self.name = self.url.partition("://")[2]
        self.reset()

    def reset(self):
        self.asked.clear()
        keys = [
            self.shown(self.key, jwt.algorithms.RSAAlgorithm, "rsa"),
            self.shown(self.ec_key, jwt.algorithms.ECAlgorithm, "ec"),
        ]
        self.paths = {}
        self.show(
            "/.well-known/openid-configuration",
            {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
        )
        self.show("/keys", {"keys": keys})

    def show(self, path, document):
        self.paths[f"/realms/one{path}"] = json.dumps(document).encode()

    def shown(self, key, algorithm, key_id):
        return json.loads(algorithm.to_jwk(key.public_key())) | {"kid": key_id, "use": "sig"}

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(30)

    def claims(self, **more):
        now = int(time.time())
        claims = {"iss": self.url, "sub": "s1", "aud": "app", "iat": now, "exp": now + 300, **more}
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, *, key=None, algorithm="RS256", headers=None, **claims):
        return jwt.encode(
            self.claims(**claims),
            self.key if key is None else key,
            algorithm,
            {"kid": "rsa"} | (headers or {}),
        )


@pytest.fixture(scope="module")
def issuer_process():
    with Issuer() as issuer:
        yield issuer


@pytest.fixture
def issuer(issuer_process):
    issuer_process.reset()
    return issuer_process


@pytest.fixture(scope="module")
def server(issuer_process):
    config = IamConfig(trusted_issuers=(issuer_process.url,), issuer_timeout_seconds=2.0)
    with Server(config) as started:
        yield started


@pytest.fixture
def account(server):
    return server.account()
