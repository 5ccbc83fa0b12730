"""Moving objects between files and a store.

Up: in parts of bounded size, read one by one; what fits into one is put in one request. Parts that fail
on the way are sent again. An upload of a file that is cut off is kept, and the same command goes on with
it; one that cannot be gone on with is taken back.

Down: into a file beside the wanted one, whose name says of which object it is and which bytes these are
(the ETag). It takes the wanted name when it is whole. If it is there already, from a command that was
interrupted, only the rest is asked for, on the condition that the object is still the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from objectio.cli.progress import Progress
from objectio.cli.resume import Headers, Record, locked
from objectio.cli.s3 import PIECE_BYTES, S3, Where
from objectio.errors import AccessError, ChecksumMismatch, NotFound, ObjectIOError, Unavailable

PART_BYTES: Final = 16 << 20
PARTS_MAX: Final = 10_000
_PARTS_OF_A_SIZE: Final = 1_500
TRIES: Final = 4
_PAUSE_SECONDS: Final = 0.2
_MD5: Final = re.compile(r"[0-9a-f]{32}")

# Up.


def upload(
    s3: S3,
    where: Where,
    source: BinaryIO,
    size: int | None,
    headers: Headers,
    progress: Progress,
    record: Record | None = None,
) -> Mapping[str, str]:
    """All that `source` has, which is `size` bytes if that is known; returns headers of the answer.
    With a record it goes on where an earlier command was cut off."""
    first = _read(source, part_bytes(1, size))
    second = _read(source, part_bytes(2, size)) if len(first) == part_bytes(1, size) else b""
    upload_id, there = _begun(s3, where, record, headers if second else None)
    if not second:
        return s3.put(where, memoryview(first), {}, headers, progress.add)
    if not upload_id:
        upload_id = _begin(s3, where, headers)
        record = _remember(record, upload_id, headers)
    try:
        etags: list[str] = []
        part, following = first, second
        while part:
            number = len(etags) + 1
            if number > PARTS_MAX:
                raise ObjectIOError(f"an object has at most {PARTS_MAX} parts: this is too much")
            etag = there.get(number)
            if etag is not None and etag == _md5(part):
                progress.found(len(part))
            else:
                etag = _put_part(s3, where, upload_id, number, part, progress.add)
            etags.append(etag)
            part, following = following, _read(source, part_bytes(number + 2, size))
        done = _complete(s3, where, upload_id, etags)
    except BaseException as error:
        if record is None or not isinstance(error, Unavailable | OSError | KeyboardInterrupt):
            _take_back(s3, where, upload_id, record)
            raise
        if isinstance(error, KeyboardInterrupt):
            raise
        raise _kept(error, "what went up was kept") from error
    if record is not None:
        record.remove()
    return done


def _begin(s3: S3, where: Where, headers: Headers) -> str:
    began = s3.order("POST", where, {"uploads": ""}, b"", headers)
    upload_id = "" if began is None else began.findtext("UploadId") or ""
    if not upload_id:
        raise ObjectIOError("the server's answer names no upload")
    return upload_id


def _begun(
    s3: S3, where: Where, record: Record | None, headers: Headers | None
) -> tuple[str, dict[int, str]]:
    """The upload of the record, with the ETags of its parts, if it is one of these headers and the
    server still has it; else it is taken back."""
    if record is None:
        return "", {}
    upload_id, of = record.read()
    if not upload_id:
        return "", {}
    if of != headers:
        forget(s3, where, record)
        return "", {}
    try:
        return upload_id, dict(s3.parts(where, upload_id))
    except NotFound:
        return "", {}
    except AccessError:  # who may put need not be allowed to look
        _take_back(s3, where, upload_id, record)
        return "", {}


def _remember(record: Record | None, upload_id: str, headers: Headers) -> Record | None:
    if record is not None:
        try:
            record.write(upload_id, headers)
        except OSError:  # a full disk is no reason to put nothing
            record.remove()
            return None
    return record


def forget(s3: S3, where: Where, record: Record) -> None:
    """Take back what an earlier command was cut off in."""
    upload_id, _ = record.read()
    if upload_id:
        with contextlib.suppress(NotFound):
            s3.order("DELETE", where, {"uploadId": upload_id})
    record.remove()


def _take_back(s3: S3, where: Where, upload_id: str, record: Record | None) -> None:
    with contextlib.suppress(ObjectIOError):
        s3.order("DELETE", where, {"uploadId": upload_id})
    if record is not None:
        record.remove()


def _md5(part: bytes) -> str:
    """As the ETag of a part is. Where the bucket is encrypted by keys of a KMS an ETag may be anything
    else, and the part is put again."""
    return hashlib.md5(part, usedforsecurity=False).hexdigest()


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


def _kept(error: Exception, words: str) -> ObjectIOError:
    """What went wrong here, as a disk that is full, is not the server's fault."""
    kind = Unavailable if isinstance(error, Unavailable) else ObjectIOError
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    between = " " if why.endswith("?") else "; "
    return kind(f"{why}{between}{words}: the same command goes on from there")


# Down.


def download(s3: S3, where: Where, target: Path, begin: Callable[[int, int], Any]) -> int:
    """The object as the file `target`. `begin(size, done)` says how much there is and how much was there
    already, and answers with a context manager that has `add`. Returns the size."""
    info = s3.head(where)
    etag, size = info.get("etag", ""), int(info.get("content-length", "0"))
    if not target.parent.is_dir():
        raise ObjectIOError(
            f"there is no directory {target.parent} to put the object into: make it"
        )
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
                raise _kept(error, "what there is was kept") from error
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
    with locked(path, 0o666) as file:
        if file is None:
            raise ObjectIOError(
                f"another command is getting this object into {path.parent}: wait for it"
            )
        yield file


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
