"""Front ends behind a real server, for tests with real clients.

The server runs in a thread with an event loop of its own, since clients such as boto3 block.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from objectio.abc.api import FrontEnd
from objectio.abc.objects import ObjectService
from objectio.gateway.app import GatewayApp
from objectio.gateway.gate import Gate
from objectio.gateway.guard import Guard
from objectio.gateway.server import HttpServer
from objectio.iam.credentials import StaticCredentials, root_credential
from objectio.testing.identities import MemoryIdentities

ACCESS_KEY: Final = "AKIACLIENTTESTS"
SECRET_KEY: Final = "a-secret-of-the-client-tests"
_START_SECONDS_MAX: Final = 30.0
T = TypeVar("T")


def make_tls(directory: Path) -> ssl.SSLContext:
    """A server's context with a fresh certificate that nobody trusts. Skips without openssl."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, to make a certificate, is not installed")
    key, certificate = directory / "key.pem", directory / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class FrontEndServer:
    """A context manager; `endpoint` is a URL while it is entered. Without `identities` there is the
    root only, whose keys are ACCESS_KEY and SECRET_KEY; with them the gate judges whoever they know,
    by the policies of the buckets of `objects` too."""

    endpoint: str

    def __init__(
        self,
        front_ends: Mapping[str, FrontEnd],
        tls: ssl.SSLContext | None = None,
        *,
        identities: MemoryIdentities | None = None,
        objects: ObjectService | None = None,
    ) -> None:
        if identities is None:
            gate = Gate(StaticCredentials([root_credential(ACCESS_KEY, SECRET_KEY)]))
        else:
            directory = identities.directory
            gate = Gate(directory, guard=Guard(objects, directory))
        self._identities = identities
        self._server = HttpServer(GatewayApp(front_ends, gate), port=0, tls=tls)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="front-end-server")

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Where the server runs: what it shares with the test belongs to its loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_START_SECONDS_MAX)

    def __enter__(self) -> FrontEndServer:
        self._thread.start()
        try:
            if self._identities is not None:
                self.run(self._identities.directory.start())
            self.run(self._server.start())
        except BaseException:
            self._end()
            raise
        self.endpoint = self._server.endpoint
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._server.stop())
            if self._identities is not None:
                self.run(self._identities.directory.stop())
        finally:
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
