"""The sink `webhook`: events as HTTP POST requests, each `{"Records": [...]}` as S3 would send it.

A request that was answered with a 2xx status is delivered. The receiver can tell that a request is
genuine by a bearer token, or by a signature over time and body:

    X-ObjectIO-Signature: t=<Unix seconds>,v1=<hex HMAC-SHA256 of "<t>.<body>" under the secret>

The files with token and secret are read for each request, so that they can be replaced at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import http.client
import socket
import ssl
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from objectio.abc.context import Context
from objectio.abc.driver import Driver, ThreadModel
from objectio.abc.sinks import EventMessage
from objectio.errors import ConfigError, InvalidRequest, Unavailable

_REFUSALS: Final = frozenset({400, 411, 413, 415, 422})
"""RFC 9110 §15.5: the receiver understood, and does not want this content."""
_ANSWER_BYTES_MAX: Final = 64 * 1024
SIGNATURE_HEADER: Final = "X-ObjectIO-Signature"


class WebhookTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One receiver. Paths are absolute."""

    arn: Annotated[
        str,
        Meta(
            pattern=r"^arn:[^:\s]+:[^:\s]+:[^:\s]*:[^:\s]*:\S+$",
            description="What notification rules of buckets call it.",
        ),
    ]
    url: Annotated[
        str,
        Meta(
            pattern=r"^https?://[^\s@]+$",
            description="Where requests are sent to.",
            extra={"secret": "url"},  # of many services, whoever knows the path may send
        ),
    ]
    bearer_token_file: Annotated[
        str, Meta(description="Its content is sent as `Authorization: Bearer`; empty: nothing is.")
    ] = ""
    hmac_secret_file: Annotated[
        str, Meta(description="Its content signs each request; empty: none is signed.")
    ] = ""
    ca_file: Annotated[
        str, Meta(description="What signed the receiver's certificate, PEM; empty: the system's.")
    ] = ""
    timeout_seconds: Annotated[
        Annotated[float, Meta(gt=0)], Meta(description="How long the receiver may take to answer.")
    ] = 10.0
    events_per_request_max: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Of more than one, receivers must look at all of `Records`, which not all do.",
        ),
    ] = 1

    def __post_init__(self) -> None:
        for name in ("bearer_token_file", "hmac_secret_file", "ca_file"):
            path = getattr(self, name)
            if path and not Path(path).is_absolute():
                raise ValueError(f"{name} = {path!r} is not an absolute path")


class WebhookConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Events as HTTP requests."""

    target: Annotated[tuple[WebhookTarget, ...], Meta(description="The receivers.")] = ()

    def __post_init__(self) -> None:
        arns = [each.arn for each in self.target]
        if twice := sorted({arn for arn in arns if arns.count(arn) > 1}):
            raise ValueError(f"two of the targets have arn = {twice[0]!r}")


class WebhookSink:
    """An `objectio.abc.sinks.EventSink`: a connection for each target, used in a thread of its own."""

    def __init__(self, config: WebhookConfig) -> None:
        self._receivers = {each.arn: _Receiver(each) for each in config.target}

    @property
    def targets(self) -> Collection[str]:
        return self._receivers.keys()

    def messages_max(self, target: str) -> int:
        return self._receivers[target].config.events_per_request_max

    async def send(self, target: str, messages: Sequence[EventMessage]) -> None:
        body = b'{"Records":[' + b",".join(each.record for each in messages) + b"]}"
        receiver = self._receivers[target]
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(receiver.thread, receiver.post, body)

    async def close(self) -> None:
        for receiver in self._receivers.values():
            receiver.cut()
        for receiver in self._receivers.values():
            await asyncio.to_thread(receiver.end)


class _Receiver:
    """One URL. `post` runs in the receiver's thread, the rest outside of it."""

    def __init__(self, config: WebhookTarget) -> None:
        self.config = config
        self.thread = ThreadPoolExecutor(1, "webhook")
        self._url: SplitResult = urlsplit(config.url)
        self._where = f"{self._url.scheme}://{self._url.netloc}"  # of the path nobody is told
        self._tls = _tls(config) if self._url.scheme == "https" else None
        self._connection: http.client.HTTPConnection | None = None
        self._closed = False
        for path in (config.bearer_token_file, config.hmac_secret_file):
            if path:
                _read_secret(path)  # what is wrong with it is to be known at the start

    def post(self, body: bytes) -> None:
        headers = self._headers(body)
        kept = self._connection is not None
        try:
            status = self._exchange(body, headers)
        except (http.client.HTTPException, OSError) as error:
            if not kept or self._closed or isinstance(error, TimeoutError):
                raise self._unavailable(error) from error
            try:  # a receiver may close a connection that is not used whenever it likes
                status = self._exchange(body, headers)
            except (http.client.HTTPException, OSError) as again:
                raise self._unavailable(again) from again
        if 200 <= status < 300:
            return
        message = f"{self._where} answered {status}"
        if status in _REFUSALS:
            raise InvalidRequest(message, reason="refused", status=status)
        raise Unavailable(message, status=status)

    def _exchange(self, body: bytes, headers: dict[str, str]) -> int:
        try:
            connection = self._connected()
            path = self._url.path or "/"
            if self._url.query:
                path += f"?{self._url.query}"
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            answer.read(_ANSWER_BYTES_MAX)
            if answer.will_close or not answer.isclosed():
                self._drop()
            return answer.status
        except BaseException:
            self._drop()
            raise

    def _connected(self) -> http.client.HTTPConnection:
        if self._closed:
            raise OSError("the sink is closed")
        if self._connection is None:
            host, port = self._url.hostname or "", self._url.port
            timeout = self.config.timeout_seconds
            if self._tls is None:
                self._connection = http.client.HTTPConnection(host, port, timeout=timeout)
            else:
                self._connection = http.client.HTTPSConnection(
                    host, port, timeout=timeout, context=self._tls
                )
        return self._connection

    def _headers(self, body: bytes) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": "ObjectIO"}
        if self.config.bearer_token_file:
            token = _read_secret(self.config.bearer_token_file)
            headers["Authorization"] = f"Bearer {token.decode('latin-1')}"
        if self.config.hmac_secret_file:
            secret = _read_secret(self.config.hmac_secret_file)
            headers[SIGNATURE_HEADER] = sign(secret, body, int(time.time()))
        return headers

    def _unavailable(self, error: BaseException) -> Unavailable:
        quotes_path = isinstance(error, http.client.InvalidURL)
        said = type(error).__name__ if quotes_path else str(error) or type(error).__name__
        return Unavailable(f"{self._where}: {said}")

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def cut(self) -> None:
        """Whatever `post` waits for fails at once."""
        self._closed = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def end(self) -> None:
        self.thread.shutdown()
        self._drop()


def sign(secret: bytes, body: bytes, unix_seconds: int) -> str:
    """The value of `SIGNATURE_HEADER`."""
    digest = hmac.new(secret, b"%d." % unix_seconds + body, hashlib.sha256).hexdigest()
    return f"t={unix_seconds},v1={digest}"


def _read_secret(path: str) -> bytes:
    try:
        secret = Path(path).read_bytes().strip()
    except OSError as error:
        raise ConfigError(f"sinks.webhook: {path}: {error.strerror}") from error
    if not secret or b"\n" in secret:
        raise ConfigError(f"sinks.webhook: {path} must hold one line")
    return secret


def _tls(config: WebhookTarget) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=config.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"sinks.webhook: ca_file {config.ca_file}: {error}") from error


def _open(config: WebhookConfig, context: Context) -> WebhookSink:
    return WebhookSink(config)


DRIVER: Final = Driver(
    name="webhook",
    config=WebhookConfig,
    open=_open,
    summary="Events of buckets as HTTP requests",
    threads=ThreadModel.SERIALIZE_HANDLE,
)
