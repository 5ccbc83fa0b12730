"""Moving objects between files and a store.

Up: in parts of bounded size, read one by one; what fits into one is put in one request. Parts that fail
on the way are sent again; an upload that fails is taken back.

Down: into a file beside the wanted one, whose name says of which object it is and which bytes these are
(the ETag). It takes the wanted name when it is whole. If it is there already, from a command that was
interrupted, only the rest is asked for, on the condition that the object is still the same.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from objectio.cli.s3 import PIECE_BYTES, S3, Where
from objectio.errors import ChecksumMismatch, ObjectIOError, Unavailable

PART_BYTES: Final = 16 << 20
PARTS_MAX: Final = 10_000
_PARTS_OF_A_SIZE: Final = 1_500
TRIES: Final = 4
_PAUSE_SECONDS: Final = 0.2
_MD5: Final = re.compile(r"[0-9a-f]{32}")

Headers = list[tuple[bytes, bytes]]


# Up.


def upload(
    s3: S3,
    where: Where,
    source: BinaryIO,
    size: int | None,
    headers: Headers,
    moved: Callable[[int], Any],
) -> Mapping[str, str]:
    """All that `source` has, which is `size` bytes if that is known; returns headers of the answer."""
    first = _read(source, part_bytes(1, size))
    second = _read(source, part_bytes(2, size)) if len(first) == part_bytes(1, size) else b""
    if not second:
        return s3.put(where, memoryview(first), {}, headers, moved)
    began = s3.order("POST", where, {"uploads": ""}, b"", headers)
    upload_id = "" if began is None else began.findtext("UploadId") or ""
    if not upload_id:
        raise ObjectIOError("the server's answer names no upload")
    try:
        etags: list[str] = []
        part, following = first, second
        while part:
            number = len(etags) + 1
            if number > PARTS_MAX:
                raise ObjectIOError(f"an object has at most {PARTS_MAX} parts: this is too much")
            etags.append(_put_part(s3, where, upload_id, number, part, moved))
            part, following = following, _read(source, part_bytes(number + 2, size))
        return _complete(s3, where, upload_id, etags)
    except BaseException:
        with contextlib.suppress(ObjectIOError):
            s3.order("DELETE", where, {"uploadId": upload_id})
        raise


def part_bytes(number: int, size: int | None) -> int:
    """So that the number of parts is enough; where the size is unknown they grow."""
    if size is not None:
        return max(PART_BYTES, -(-size // PARTS_MAX))
    return PART_BYTES << (number // _PARTS_OF_A_SIZE)


def _read(source: BinaryIO, count_bytes: int) -> bytes:
    """So much, or what is left: a pipe gives less at a time."""
    pieces, missing = [], count_bytes
    while missing and (piece := source.read(min(missing, PIECE_BYTES))):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)


def _put_part(
    s3: S3, where: Where, upload_id: str, number: int, part: bytes, moved: Callable[[int], Any]
) -> str:
    query = {"partNumber": str(number), "uploadId": upload_id}
    for attempt in range(1, TRIES + 1):
        sent = 0

        def count(count_bytes: int) -> None:
            nonlocal sent
            sent += count_bytes
            moved(count_bytes)

        try:
            return s3.put(where, memoryview(part), query, (), count).get("etag", "")
        except Unavailable:
            moved(-sent)
            if attempt == TRIES:
                raise
            time.sleep(_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("unreachable")


def _complete(s3: S3, where: Where, upload_id: str, etags: list[str]) -> Mapping[str, str]:
    from xml.sax.saxutils import escape

    parts = "".join(
        f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(etag)}</ETag></Part>"
        for number, etag in enumerate(etags, 1)
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    done = s3.order("POST", where, {"uploadId": upload_id}, body)
    return {"etag": "" if done is None else done.findtext("ETag") or ""}


# Down.


def download(s3: S3, where: Where, target: Path, begin: Callable[[int, int], Any]) -> int:
    """The object as the file `target`. `begin(size, done)` says how much there is and how much was there
    already, and answers with a context manager that has `add`. Returns the size."""
    info = s3.head(where)
    etag, size = info.get("etag", ""), int(info.get("content-length", "0"))
    partial = _partial(target, where, etag)
    with _locked(partial) as file:
        start = file.seek(0, os.SEEK_END)
        if start > size:
            file.truncate(0)
            start = 0
        file.seek(start)
        with begin(size, start) as progress:

            def take(piece: bytes) -> None:
                file.write(piece)
                progress.add(len(piece))

            try:
                if start < size:
                    s3.get(where, etag, start, size, take)
            except (Unavailable, OSError) as error:
                raise Unavailable(
                    f"{error}; what there is was kept: the same command goes on from there"
                ) from error
        file.flush()
        _check(file, etag.strip('"'), info, partial)
        os.fsync(file.fileno())
        partial.replace(target)
    _sweep(target)
    return size


def stream(s3: S3, where: Where, out: BinaryIO, begin: Callable[[int, int], Any]) -> int:
    """Into what cannot be gone back in: a pipe, a terminal, a device."""
    info = s3.head(where)
    size = int(info.get("content-length", "0"))
    with begin(size, 0) as progress:

        def take(piece: bytes) -> None:
            out.write(piece)
            progress.add(len(piece))

        if size:
            s3.get(where, info.get("etag", ""), 0, size, take)
    out.flush()
    return size


def _partial(target: Path, where: Where, etag: str) -> Path:
    named = hashlib.sha256(repr((*where, etag)).encode()).hexdigest()[:16]
    return target.with_name(f".{target.name}.{named}.part")


@contextlib.contextmanager
def _locked(path: Path) -> Any:
    """The file, made if need be, which no other command writes to."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        with open(descriptor, "r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ObjectIOError(
                    f"another command is getting this object into {path.parent}: wait for it"
                ) from None
            # Whoever had it may have given it its last name meanwhile.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    yield file
                    return


def _check(file: BinaryIO, etag: str, info: Mapping[str, str], partial: Path) -> None:
    """An ETag is the MD5 of what was put in one request (S3 API reference, "Object": not where AWS
    encrypts it by keys of its KMS)."""
    kms = info.get("x-amz-server-side-encryption", "").startswith("aws:kms")
    if not _MD5.fullmatch(etag) or kms:
        return
    file.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    if digest.hexdigest() != etag:
        partial.unlink()
        raise ChecksumMismatch(
            "the bytes are not those that the ETag promises, and were thrown away; get it again"
        )


def _sweep(target: Path) -> None:
    """Throws away what was begun for this name, of other objects or of what they were before."""
    begun = re.compile(re.escape(f".{target.name}.") + r"[0-9a-f]{16}\.part")
    for path in target.parent.iterdir():
        if begun.fullmatch(path.name):
            with contextlib.suppress(OSError, ObjectIOError), _locked(path):
                path.unlink()
