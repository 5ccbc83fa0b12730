"""Asking a running server: where it is, who asks, and what it answers.

    -e/--endpoint, OBJECTIO_ENDPOINT, or http://127.0.0.1:9000
    --data DIR, OBJECTIO_TOKEN, OBJECTIO_ACCESS_KEY and OBJECTIO_SECRET_KEY, the AWS environment, the
    AWS profile, or ./objectio-data/credentials.json: the first of these that has credentials is taken

Requests are signed by SigV4, or show a bearer token (`objectio token create`) where that is what was
found. Where nothing has credentials they do neither, which does for a server without authentication.
Whatever goes wrong is one sentence.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import http.client
    from urllib.parse import SplitResult

    from typing_extensions import Buffer

Headers = Sequence[tuple[bytes, bytes]]

ENDPOINT_DEFAULT: Final = "http://127.0.0.1:9000"
TOKEN_VARIABLE: Final = "OBJECTIO_TOKEN"  # noqa: S105
DATA_DIR_DEFAULT: Final = Path("objectio-data")
CONNECT_SECONDS: Final = 10.0
TIMEOUT_SECONDS: Final = 300.0
"""Preparing and opening a large disk takes its time."""
_ANSWER_BYTES_MAX: Final = 64 << 20
_OURS: Final = "x-objectio-request-id"


@dataclass(frozen=True, slots=True)
class Keys:
    """`origin` says where they were found, for people. `session_token` is of temporary ones; with a
    `bearer` token there are no others."""

    access_key: str
    secret_key: str = field(repr=False)
    origin: str
    session_token: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)


def add_client_arguments(parser: argparse.ArgumentParser) -> None:
    """`--endpoint` and `--data`, for every command that asks a server."""
    parser.add_argument(
        "-e",
        "--endpoint",
        metavar="URL",
        help=f"the server (OBJECTIO_ENDPOINT, or {ENDPOINT_DEFAULT})",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="take the credentials of DIR/credentials.json",
    )


def connect(parsed_args: argparse.Namespace) -> Client:
    return Client(find_endpoint(parsed_args), find_keys(parsed_args.data, os.environ))


def find_endpoint(parsed_args: argparse.Namespace) -> str:
    return parsed_args.endpoint or os.environ.get("OBJECTIO_ENDPOINT") or ENDPOINT_DEFAULT


def escape(name: str) -> str:
    """A name as a segment of a path."""
    from urllib.parse import quote

    return quote(name, safe="")


# Credentials.


def find_keys(data_dir: Path | None, environ: Mapping[str, str]) -> Keys | None:
    """None where there are none. A directory that was named must have some."""
    if data_dir is not None:
        return _from_directory(data_dir, must_exist=True)
    return (
        _from_token(environ)
        or _from_variables(
            environ, "OBJECTIO_ACCESS_KEY", "OBJECTIO_SECRET_KEY", "OBJECTIO_SESSION_TOKEN"
        )
        or _from_variables(
            environ, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
        )
        or _from_profile(environ)
        or _from_directory(DATA_DIR_DEFAULT, must_exist=False)
    )


def _from_token(environ: Mapping[str, str]) -> Keys | None:
    token = environ.get(TOKEN_VARIABLE, "")
    if not token:
        return None
    if not token.isascii() or not token.isprintable() or " " in token:
        raise _usage(f"{TOKEN_VARIABLE} holds no token: `objectio token create` makes one")
    return Keys("", "", TOKEN_VARIABLE, bearer=token)


def _from_variables(
    environ: Mapping[str, str], access: str, secret: str, token: str
) -> Keys | None:
    found = environ.get(access, ""), environ.get(secret, "")
    if not any(found):
        return None
    if not all(found):
        raise _usage(f"set both {access} and {secret}, or neither")
    return Keys(found[0], found[1], access, environ.get(token, ""))


def _from_profile(environ: Mapping[str, str]) -> Keys | None:
    import configparser

    path = Path(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
    profile = environ.get("AWS_PROFILE", "")
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (OSError, ValueError, configparser.Error) as error:
        raise _usage(f"{path} cannot be read: {type(error).__name__}") from None
    section = profile or "default"
    keys = [
        parser.get(section, name, fallback="")
        for name in ("aws_access_key_id", "aws_secret_access_key")
    ]
    if all(keys):
        token = parser.get(section, "aws_session_token", fallback="")
        return Keys(keys[0], keys[1], f"the profile {section} in {path}", token)
    if profile:
        raise _usage(f"{path} has no keys for the profile {profile}, which AWS_PROFILE names")
    return None


def _from_directory(directory: Path, *, must_exist: bool) -> Keys | None:
    import json

    path = directory / "credentials.json"
    try:
        found = json.loads(path.read_text("utf-8"))
        keys = str(found["access_key"]), str(found["secret_key"])
    except FileNotFoundError:
        if must_exist:
            raise _usage(f"there is no {path}: is this the directory of a store?") from None
        return None
    except OSError as error:
        if must_exist:
            raise
        raise _usage(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):  # no `from`: the cause would quote the secret
        raise _usage(f"{path} does not hold an access_key and a secret_key") from None
    return Keys(keys[0], keys[1], str(path))


def _usage(sentence: str) -> Exception:
    from objectio.errors import ConfigError

    return ConfigError(sentence)


# Requests.


class Connection:
    """One address, to which one request at a time is sent, signed by `keys` if there are any."""

    def __init__(
        self, endpoint: str, keys: Keys | None, *, answer_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        """`answer_seconds` bounds how long nothing may come."""
        self.endpoint = endpoint.rstrip("/")
        self.keys = keys
        self.answer_seconds = answer_seconds
        self._url = _parse(self.endpoint)
        self._open: http.client.HTTPConnection | None = None

    def begin(
        self,
        method: str,
        path: str,
        query: str = "",
        headers: Headers = (),
        *,
        content_sha256: bytes | None = None,
    ) -> None:
        """Sends what goes before the body, whose digest is `content_sha256` (None: there is no body).
        `path` and `query` are escaped."""
        import http.client

        path = self._url.path + path
        signed = self._sign(method, path, query, headers, content_sha256)
        if self._open is None:
            secure = self._url.scheme == "https"
            kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
            host = self._url.hostname or ""
            self._open = kind(host, self._url.port, timeout=CONNECT_SECONDS)
        target = f"{path}?{query}" if query else path
        with self.guarded():
            fresh = self._open.sock is None
            if fresh:
                self._open.connect()
                self._open.sock.settimeout(self.answer_seconds)
            self._open.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in signed:
                self._open.putheader(name, value)
            self._open.endheaders()

    def send(self, data: Buffer) -> bool:
        """False: the server takes no more, and says why in its answer."""
        assert self._open is not None
        try:
            self._open.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return False
        except OSError as error:
            self.close()
            raise self.unreachable(error) from error
        return True

    def answer(self) -> http.client.HTTPResponse:
        assert self._open is not None
        with self.guarded():
            return self._open.getresponse()

    def read(self, answer: http.client.HTTPResponse) -> bytes:
        """All of an answer that is not large."""
        from objectio.errors import Unavailable

        with self.guarded():
            body = answer.read(_ANSWER_BYTES_MAX)
        if answer.length and len(body) < _ANSWER_BYTES_MAX:
            raise Unavailable(f"the answer of {self.endpoint} was cut off: try again")
        return body

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """What goes wrong on the way, said in a sentence."""
        import http.client

        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise self.unreachable(error) from error

    def unreachable(self, error: Exception) -> Exception:
        import http.client

        from objectio.errors import Unavailable

        if type(error) is http.client.BadStatusLine:
            return Unavailable(f"{self.endpoint} does not speak HTTP: is it https:// there?")
        distrust = getattr(error, "verify_message", "")  # of ssl.SSLCertVerificationError
        if distrust:
            return Unavailable(
                f"the certificate of {self.endpoint} is not trusted: {distrust}; SSL_CERT_FILE=FILE "
                "names those who are"
            )
        if getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":  # of ssl.SSLError
            return Unavailable(f"{self.endpoint} does not speak TLS: is it http:// there?")
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unavailable(
            f"cannot reach {self.endpoint}: {why}; is the server running, and is this its "
            "address (-e, OBJECTIO_ENDPOINT)?"
        )

    def refused(self, why: str) -> Exception:
        from objectio.errors import AccessDenied

        origin = self.keys.origin if self.keys else "none were found"
        return AccessDenied(f"{self.endpoint} refuses: {why} (credentials: {origin})")

    def _sign(
        self, method: str, path: str, query: str, headers: Headers, content_sha256: bytes | None
    ) -> Headers:
        headers = [(b"host", self._url.netloc.encode()), *headers]
        if self.keys is None:
            return headers
        if self.keys.bearer:  # RFC 6750 §2.1
            return [*headers, (b"authorization", b"Bearer " + self.keys.bearer.encode())]
        from objectio.iam.canonical import EMPTY_SHA256
        from objectio.iam.credentials import root_credential
        from objectio.iam.signer import sign_request

        if self.keys.session_token:
            headers.append((b"x-amz-security-token", self.keys.session_token.encode()))
        credential = root_credential(self.keys.access_key, self.keys.secret_key)
        digest = EMPTY_SHA256 if content_sha256 is None else content_sha256
        return sign_request(
            credential, method, path.encode(), query.encode(), headers, content_sha256=digest
        )


class Client:
    """`get` and `post` take a path below `/_admin/v1`, and return what its JSON says."""

    def __init__(
        self, endpoint: str, keys: Keys | None, *, answer_seconds: float = TIMEOUT_SECONDS
    ) -> None:
        self.keys = keys
        self._connection = Connection(endpoint, keys, answer_seconds=answer_seconds)
        self.endpoint = self._connection.endpoint

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, said: Mapping[str, Any] | None = None) -> Any:
        """`said` goes along as JSON."""
        return self._ask("POST", path, said)

    def lines(self, path: str) -> Iterator[bytes]:
        """Those of an answer that goes on, as they come, with their ends. It ends when the server ends
        it."""
        with contextlib.closing(self._connection) as connection:
            answer = self._begin("GET", path, b"")
            if answer.status >= 300:
                self._read(answer, connection.read(answer))
            if answer.getheader("content-type") != "text/event-stream":
                raise self._not_ours(answer)
            while True:
                with connection.guarded():
                    line = answer.readline(_ANSWER_BYTES_MAX)
                if not line:
                    return
                yield line

    def _ask(self, method: str, path: str, said: Mapping[str, Any] | None = None) -> Any:
        import json

        sent = b"" if said is None else json.dumps(said).encode()
        with contextlib.closing(self._connection) as connection:
            answer = self._begin(method, path, sent)
            body = connection.read(answer)
        return self._read(answer, body)

    def _begin(self, method: str, path: str, sent: bytes) -> http.client.HTTPResponse:
        from hashlib import sha256

        headers = [(b"content-length", b"%d" % len(sent))] if method == "POST" else []
        connection = self._connection
        digest = sha256(sent).hexdigest().encode()
        connection.begin(method, f"/_admin/v1{path}", "", headers, content_sha256=digest)
        if sent:
            connection.send(sent)
        return connection.answer()

    def _read(self, answer: http.client.HTTPResponse, body: bytes) -> Any:
        import json

        from objectio.errors import NotFound, ObjectIOError, Unavailable

        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if answer.getheader(_OURS) is None or not isinstance(said, dict):
            raise self._not_ours(answer)
        if answer.status < 300:
            return said
        message = str(said.get("error", {}).get("message", "")).rstrip(".")
        if answer.status in (401, 403):
            raise self._connection.refused(message)
        if answer.status in (429, 503):
            raise Unavailable(f"{self.endpoint} cannot do it now: {message or 'try again'}")
        kind = NotFound if answer.status == 404 else ObjectIOError
        raise kind(message or f"{self.endpoint} answers HTTP {answer.status}")

    def _not_ours(self, answer: http.client.HTTPResponse) -> Exception:
        from objectio.errors import ObjectIOError, Unavailable

        if answer.status >= 500:  # of a proxy, whose server is away
            return Unavailable(
                f"{self.endpoint} answers HTTP {answer.status}, and not as an ObjectIO server: try again"
            )
        return ObjectIOError(
            f"{self.endpoint} does not answer operators (HTTP {answer.status}): it is not an "
            "ObjectIO server, or one without objectio[admin]"
        )


def _parse(endpoint: str) -> SplitResult:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(endpoint)
        fine = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        fine = False
    if fine and "@" in url.netloc:  # not quoted: it is a secret
        raise _usage(
            "an address has no user and password in it: OBJECTIO_ACCESS_KEY and OBJECTIO_SECRET_KEY do"
        )
    if not fine or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise _usage(f"{endpoint!r} is not the address of a server, as {ENDPOINT_DEFAULT} is one")
    return url
