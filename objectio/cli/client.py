"""Asking a running server: where it is, who asks, and what it answers.

    -e/--endpoint, OBJECTIO_ENDPOINT, or http://127.0.0.1:9000
    --data DIR, OBJECTIO_ACCESS_KEY and OBJECTIO_SECRET_KEY, the AWS environment, the AWS profile, or
    ./objectio-data/credentials.json: the first of these that has credentials is taken

Requests are signed by SigV4. Where nothing has credentials they are not, which does for a server
without authentication. Whatever goes wrong is one sentence.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import http.client
    from urllib.parse import SplitResult

ENDPOINT_DEFAULT: Final = "http://127.0.0.1:9000"
DATA_DIR_DEFAULT: Final = Path("objectio-data")
TIMEOUT_SECONDS: Final = 300.0
"""Preparing and opening a large disk takes its time."""
_ANSWER_BYTES_MAX: Final = 64 << 20
_OURS: Final = "x-objectio-request-id"


@dataclass(frozen=True, slots=True)
class Keys:
    """`origin` says where they were found, for people."""

    access_key: str
    secret_key: str = field(repr=False)
    origin: str


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
    environ = os.environ
    endpoint = parsed_args.endpoint or environ.get("OBJECTIO_ENDPOINT") or ENDPOINT_DEFAULT
    return Client(endpoint, find_keys(parsed_args.data, environ))


# Credentials.


def find_keys(data_dir: Path | None, environ: Mapping[str, str]) -> Keys | None:
    """None where there are none. A directory that was named must have some."""
    if data_dir is not None:
        return _from_directory(data_dir, must_exist=True)
    return (
        _from_variables(environ, "OBJECTIO_ACCESS_KEY", "OBJECTIO_SECRET_KEY")
        or _from_variables(environ, "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        or _from_profile(environ)
        or _from_directory(DATA_DIR_DEFAULT, must_exist=False)
    )


def _from_variables(environ: Mapping[str, str], access: str, secret: str) -> Keys | None:
    found = environ.get(access, ""), environ.get(secret, "")
    if not any(found):
        return None
    if not all(found):
        raise _usage(f"set both {access} and {secret}, or neither")
    return Keys(found[0], found[1], access)


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
        return Keys(keys[0], keys[1], f"the profile {section} in {path}")
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


class Client:
    """`get` and `post` take a path below `/_admin/v1`, and return what its JSON says."""

    def __init__(self, endpoint: str, keys: Keys | None) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._keys = keys
        self._url = _parse(self.endpoint)

    def get(self, path: str) -> Any:
        return self._ask("GET", path)

    def post(self, path: str, said: Mapping[str, Any] | None = None) -> Any:
        """`said` goes along as JSON."""
        return self._ask("POST", path, said)

    def _ask(self, method: str, path: str, said: Mapping[str, Any] | None = None) -> Any:
        import http.client
        import json

        from objectio.errors import ObjectIOError

        target = f"{self._url.path}/_admin/v1{path}"
        sent = b"" if said is None else json.dumps(said).encode()
        connection = self._connection()
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in self._headers(method, target, sent):
                connection.putheader(name, value)
            connection.endheaders(sent or None)
            answer = connection.getresponse()
            body = answer.read(_ANSWER_BYTES_MAX)
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ObjectIOError(
                f"cannot reach {self.endpoint}: {why}; is the server running, and is this its "
                "address (-e, OBJECTIO_ENDPOINT)?"
            ) from error
        finally:
            connection.close()
        return self._read(answer, body)

    def _connection(self) -> http.client.HTTPConnection:
        import http.client

        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS)
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)

    def _headers(self, method: str, target: str, sent: bytes) -> list[tuple[bytes, bytes]]:
        headers = [(b"host", self._url.netloc.rpartition("@")[2].encode())]
        if method == "POST":
            headers.append((b"content-length", b"%d" % len(sent)))
        if self._keys is None:
            return headers
        from hashlib import sha256

        from objectio.iam.credentials import root_credential
        from objectio.iam.signer import sign_request

        credential = root_credential(self._keys.access_key, self._keys.secret_key)
        digest = sha256(sent).hexdigest().encode()
        return sign_request(
            credential, method, target.encode(), b"", headers, content_sha256=digest
        )

    def _read(self, answer: http.client.HTTPResponse, body: bytes) -> Any:
        import json

        from objectio.errors import ObjectIOError

        try:
            said = json.loads(body)
        except ValueError:
            said = None
        if answer.getheader(_OURS) is None or not isinstance(said, dict):
            raise ObjectIOError(
                f"{self.endpoint} does not answer operators (HTTP {answer.status}): it is not an "
                "ObjectIO server, or one without objectio[admin]"
            )
        if answer.status < 300:
            return said
        message = str(said.get("error", {}).get("message", "")).rstrip(".")
        if answer.status in (401, 403):
            origin = self._keys.origin if self._keys else "none were found"
            raise ObjectIOError(f"{self.endpoint} refuses: {message} (credentials: {origin})")
        raise ObjectIOError(message or f"{self.endpoint} answers HTTP {answer.status}")


def _parse(endpoint: str) -> SplitResult:
    from urllib.parse import urlsplit

    try:
        url = urlsplit(endpoint)
        fine = url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:
        fine = False
    if not fine or not endpoint.isascii() or not endpoint.isprintable() or " " in endpoint:
        raise _usage(f"{endpoint!r} is not the address of a server, as {ENDPOINT_DEFAULT} is one")
    return url
