"""S3 as far as the commands about objects need it: signed by our own signer, over the connection that
all commands use. Each request has a connection of its own, so none meets one that has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from objectio.cli.client import TOKEN_VARIABLE, Connection, Headers

if TYPE_CHECKING:
    import http.client
    from xml.etree.ElementTree import Element

PIECE_BYTES: Final = 1 << 20
_BUCKET: Final = re.compile(r"[a-zA-Z0-9._-]+")
_KEY_BYTES_MAX: Final = 1024


class Where(NamedTuple):
    """An object, or one version of it; or a bucket, without a key."""

    bucket: str
    key: str = ""
    version_id: str = ""

    def check(self) -> Where:
        if not _BUCKET.fullmatch(self.bucket):
            raise usage(f"{self.bucket!r} names no bucket")
        try:
            size = len(self.key.encode())
        except UnicodeEncodeError:
            raise usage("a key is text in UTF-8") from None
        if size > _KEY_BYTES_MAX:
            raise usage(f"a key has at most {_KEY_BYTES_MAX} bytes")
        return self

    @property
    def path(self) -> str:
        from urllib.parse import quote

        return f"/{self.bucket}/{quote(self.key, safe='/~')}" if self.key else f"/{self.bucket}"


class Listed(NamedTuple):
    """An object in a listing; or a prefix that several have, whose size is None."""

    key: str
    size: int | None
    modified: str
    etag: str


class S3:
    def __init__(self, connection: Connection) -> None:
        if connection.keys is not None and connection.keys.bearer:
            raise usage(
                f"a bearer token ({TOKEN_VARIABLE}) is for those who administer: objects need an access "
                "key"
            )
        self._connection = connection

    @property
    def endpoint(self) -> str:
        return self._connection.endpoint

    def head(self, where: Where) -> Mapping[str, str]:
        """The headers of an object, names in lower case."""
        query = _query({"versionId": where.version_id})
        with closing(self._connection) as connection:
            connection.begin("HEAD", where.path, query)
            answer = connection.answer()
        if answer.status != 200:
            # It says nothing more; a GET would, and may do no more or less.
            with closing(self._connection) as connection:
                connection.begin("GET", where.path, query)
                answer = connection.answer()
                said = connection.read(answer) if answer.status >= 300 else b""
            if answer.status != 200:
                raise self.failure(answer.status, said, where)
        found = {name.lower(): value for name, value in answer.getheaders()}
        if not found.get("etag"):
            raise self._no_s3(answer.status)
        return found

    def get(
        self, where: Where, etag: str, start: int, size: int, take: Callable[[bytes], Any]
    ) -> None:
        """The bytes from `start` of the object that has this ETag, piece by piece."""
        from objectio.errors import Unavailable

        headers = [(b"if-match", etag.encode())]
        if start:
            headers.append((b"range", b"bytes=%d-" % start))
        with closing(self._connection) as connection:
            connection.begin("GET", where.path, _query({"versionId": where.version_id}), headers)
            answer = connection.answer()
            if answer.status != (206 if start else 200):
                said = connection.read(answer)
                raise self.failure(answer.status, said, where)
            done = start
            while done < size:
                with connection.guarded():
                    piece = answer.read(min(PIECE_BYTES, size - done))
                if not piece:
                    raise Unavailable(f"the answer ended after {done} of {size} bytes")
                take(piece)
                done += len(piece)

    def put(
        self,
        where: Where,
        data: memoryview,
        query: Mapping[str, str] = {},
        headers: Headers = (),
        sent: Callable[[int], Any] = lambda _: None,
    ) -> Mapping[str, str]:
        """Puts an object, or what `query` says; returns the headers of the answer."""
        answer, said = self._send("PUT", where, query, headers, data, sent)
        if answer.status != 200:
            raise self.failure(answer.status, said, where)
        return {name.lower(): value for name, value in answer.getheaders()}

    def order(
        self,
        method: str,
        where: Where,
        query: Mapping[str, str],
        body: bytes = b"",
        headers: Headers = (),
    ) -> Element | None:
        """Anything else; returns what the answer says."""
        answer, said = self._send(method, where, query, headers, memoryview(body))
        if answer.status >= 300:
            raise self.failure(answer.status, said, where)
        root = parse(said) if said else None
        if root is not None and root.tag == "Error":  # S3 may say so only after a 200
            raise self.failure(500, said, where)
        return root

    def listing(self, bucket: str, prefix: str, delimiter: str, after: str) -> Iterator[Listed]:
        """All objects whose keys begin so, by key; page by page, as they are asked for."""
        from urllib.parse import unquote

        wanted = {
            "list-type": "2",
            "encoding-type": "url",
            "prefix": prefix,
            "delimiter": delimiter,
            "start-after": after,
        }
        while True:
            page = self.order("GET", Where(bucket), wanted)
            if page is None:
                return
            found = [
                Listed(
                    unquote(_text(each, "Key")),
                    int(_text(each, "Size")),
                    _text(each, "LastModified"),
                    _text(each, "ETag").strip('"'),
                )
                for each in page.findall("Contents")
            ]
            found += [
                Listed(unquote(_text(each, "Prefix")), None, "", "")
                for each in page.findall("CommonPrefixes")
            ]
            yield from sorted(found, key=lambda each: each.key)
            token = _text(page, "NextContinuationToken")
            if not token:
                return
            wanted["continuation-token"] = token

    def parts(self, where: Where, upload_id: str) -> Iterator[tuple[int, str]]:
        """The numbers and ETags of what has been uploaded. Raises `NotFound` if the upload is not
        there."""
        wanted = {"uploadId": upload_id}
        while True:
            page = self.order("GET", where, wanted)
            if page is None:
                return
            for each in page.findall("Part"):
                yield int(_text(each, "PartNumber")), _text(each, "ETag").strip('"')
            marker = _text(page, "NextPartNumberMarker")
            if _text(page, "IsTruncated") != "true" or not marker:
                return
            wanted["part-number-marker"] = marker

    def _send(
        self,
        method: str,
        where: Where,
        query: Mapping[str, str],
        headers: Headers,
        data: memoryview,
        sent: Callable[[int], Any] = lambda _: None,
    ) -> tuple[http.client.HTTPResponse, bytes]:
        from hashlib import sha256

        more = list(headers)
        if method in ("PUT", "POST"):
            more.append((b"content-length", b"%d" % len(data)))
        digest = sha256(data).hexdigest().encode()
        with closing(self._connection) as connection:
            connection.begin(method, where.path, _query(query), more, content_sha256=digest)
            for start in range(0, len(data), PIECE_BYTES):
                piece = data[start : start + PIECE_BYTES]
                if not connection.send(piece):
                    break
                sent(len(piece))
            answer = connection.answer()
            return answer, connection.read(answer)

    def failure(self, status: int, said: bytes, where: Where) -> Exception:
        """An answer that is an error, in one sentence."""
        from objectio.errors import (
            NotEmpty,
            NotFound,
            ObjectIOError,
            PreconditionFailed,
            Unavailable,
        )

        code, message = _read_error(said)
        if code == "NoSuchBucket":
            return NotFound(
                f"there is no bucket {where.bucket}; `objectio bucket create {where.bucket}` "
                "makes it"
            )
        if not code and 400 <= status < 500:
            return self._no_s3(status)
        if status == 404:
            what = f"version {where.version_id} of " if where.version_id else ""
            return NotFound(f"there is no {what}object {where.key} in bucket {where.bucket}")
        if status in (401, 403):
            return self._connection.refused(message or code or "access denied")
        if status == 412:
            return PreconditionFailed(
                f"object {where.key} was changed meanwhile; begin again with the same command"
            )
        if code == "BucketNotEmpty":
            return NotEmpty(f"bucket {where.bucket} is not empty")
        kind = Unavailable if status >= 500 else ObjectIOError
        told = f"{message} ({code})" if message and code else code or f"HTTP {status}"
        return kind(f"{self._connection.endpoint} answers: {told}")

    def _no_s3(self, status: int) -> Exception:
        from objectio.errors import ObjectIOError

        return ObjectIOError(
            f"{self._connection.endpoint} does not serve S3 (HTTP {status}): is it the address of a "
            "gateway (-e, OBJECTIO_ENDPOINT)?"
        )


def usage(sentence: str) -> Exception:
    from objectio.errors import ConfigError

    return ConfigError(sentence)


def parse(said: bytes) -> Element:
    """The root of an XML answer, without namespaces."""
    from xml.etree import ElementTree

    from objectio.errors import ObjectIOError

    # What expands or fetches entities needs a document type, which no answer of S3 has.
    if b"<!DOCTYPE" in said:
        raise ObjectIOError("the server's answer is not of S3")
    try:
        root = ElementTree.fromstring(said)  # noqa: S314
    except ElementTree.ParseError:
        raise ObjectIOError("the server's answer is not XML: is it an S3 server?") from None
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root


def _read_error(said: bytes) -> tuple[str, str]:
    from objectio.errors import ObjectIOError

    try:
        root = parse(said)
    except ObjectIOError:
        return "", ""
    return _text(root, "Code"), _text(root, "Message").rstrip(".")


def _text(element: Element, name: str) -> str:
    return element.findtext(name) or ""


def _query(wanted: Mapping[str, str]) -> str:
    """Without what is empty, except what has a name only, as `uploads` has."""
    from urllib.parse import quote, urlencode

    named = {
        name: value for name, value in wanted.items() if value or name in ("uploads", "delete")
    }
    return urlencode(named, quote_via=quote, safe="~")


def metadata_headers(words: Sequence[str]) -> Headers:
    """Of NAME=VALUE."""
    headers = []
    for word in words:
        name, found, value = word.partition("=")
        if not found or not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
            raise usage(f"--metadata NAME=VALUE, not {word!r}")
        if not value.isascii() or not value.isprintable():
            raise usage(f"the value of {name} is not printable ASCII")
        headers.append((f"x-amz-meta-{name.lower()}".encode(), value.encode()))
    return headers
