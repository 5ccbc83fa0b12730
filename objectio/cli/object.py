"""Commands about objects. They speak S3, as whoever the credentials are of."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from objectio.cli.cells import Moment, Name, Named, Size, Text
from objectio.cli.client import Connection, add_client_arguments, find_endpoint, find_keys
from objectio.cli.command import Command, Lister, Row, ShowOne

if TYPE_CHECKING:
    from objectio.cli.progress import Progress
    from objectio.cli.resume import Record
    from objectio.cli.s3 import S3, Where

_STDIO: Final = "-"
_LISTED: Final = ("key", "size_bytes", "modified_ms", "etag")


def open_s3(parsed_args: argparse.Namespace) -> S3:
    from objectio.cli.s3 import S3

    return S3(Connection(find_endpoint(parsed_args), find_keys(parsed_args.data, os.environ)))


def _where(parsed_args: argparse.Namespace) -> Where:
    from objectio.cli.s3 import Where, usage

    if not parsed_args.key:
        raise usage("a key is not empty")
    version_id = getattr(parsed_args, "version_id", "")
    return Where(parsed_args.bucket, parsed_args.key, version_id).check()


def _add_object(parser: argparse.ArgumentParser, *, version: bool = True) -> None:
    parser.add_argument("bucket", metavar="BUCKET", help="the bucket")
    parser.add_argument("key", metavar="KEY", help="the object's name")
    if version:
        parser.add_argument(
            "--version-id", default="", metavar="ID", help="not the current version"
        )


class _Transfer(ShowOne):
    def progress(
        self, parsed_args: argparse.Namespace, total_bytes: int | None, done_bytes: int = 0
    ) -> Progress:
        from objectio.cli.progress import Progress

        quiet = parsed_args.no_progress or self.app.options.quiet
        return Progress(None if quiet else sys.stderr, total_bytes, done_bytes)


class ObjectPut(_Transfer):
    """Put a file, or what stands in the standard input, as an object.

    What is larger than 16 MiB goes up in parts, of which one that fails on the way is sent again. The
    object is there when all of it is. Its type is guessed by the name of the file unless it is given.
    If the command is interrupted, the same command goes on with the parts that are there and are as the
    file is now: what it must remember is in ~/.local/state/objectio. This is not so for the standard
    input.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_object(parser, version=False)
        parser.add_argument("file", nargs="?", default=_STDIO, metavar="FILE", help="default: -")
        parser.add_argument("--content-type", default="", metavar="TYPE", help="as in text/plain")
        parser.add_argument(
            "--metadata", action="append", default=[], metavar="NAME=VALUE", help="of your own"
        )
        parser.add_argument(
            "--no-resume", action="store_true", help="begin anew, and keep nothing if it fails"
        )
        parser.add_argument("--no-progress", action="store_true", help="show no progress")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        import mimetypes
        import stat

        from objectio.cli.documents import standard_input
        from objectio.cli.s3 import metadata_headers
        from objectio.cli.transfer import forget, upload

        where, file = _where(parsed_args), parsed_args.file
        named = parsed_args.key if file == _STDIO else file
        kind = parsed_args.content_type or mimetypes.guess_type(named)[0] or ""
        headers = [*metadata_headers(parsed_args.metadata)]
        if kind:
            headers.append((b"content-type", _header("--content-type", kind)))
        with open(
            standard_input().fileno() if file == _STDIO else file, "rb", closefd=file != _STDIO
        ) as source:
            found = os.fstat(source.fileno())
            size = found.st_size if stat.S_ISREG(found.st_mode) else None
            s3, path = open_s3(parsed_args), None if file == _STDIO or size is None else file
            with (
                _record(s3, where, path) as record,
                self.progress(parsed_args, size) as progress,
            ):
                if record is not None and parsed_args.no_resume:
                    forget(s3, where, record)
                    record = None
                said = upload(s3, where, source, size, headers, progress, record)
        shown = (where.bucket, Name(where.key), said.get("etag", "").strip('"'))
        return ("bucket", "key", "etag", "version_id"), (
            *shown,
            Text(said.get("x-amz-version-id", "")),
        )


class ObjectGet(_Transfer):
    """Get an object into a file, or to the standard output if FILE is -.

    Without FILE it is named as the end of the key, here. The file appears when all of it is there. If
    the command is interrupted, what has come is kept, and the same command goes on from there as long
    as the object is the same.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_object(parser)
        parser.add_argument("file", nargs="?", default="", metavar="FILE", help="or a directory")
        parser.add_argument("--no-progress", action="store_true", help="show no progress")
        add_client_arguments(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        if parsed_args.file != _STDIO:
            return super().run(parsed_args)
        from objectio.cli.transfer import stream

        stream(
            open_s3(parsed_args), _where(parsed_args), sys.stdout.buffer, self._begin(parsed_args)
        )
        return 0

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        from objectio.cli.transfer import download, stream

        where = _where(parsed_args)
        target, s3, begin = _target(parsed_args), open_s3(parsed_args), self._begin(parsed_args)
        if target.exists() and not target.is_file():  # a pipe, a device
            with target.open("wb") as out:
                size = stream(s3, where, out, begin)
        else:
            size = download(s3, where, target, begin)
        shown = (where.bucket, Name(where.key), Name(str(target)), Size(size))
        return ("bucket", "key", "file", "size_bytes"), shown

    def _begin(self, parsed_args: argparse.Namespace) -> Any:
        return lambda size, done: self.progress(parsed_args, size, done)


class ObjectList(Lister):
    """List the objects of a bucket, by key.

    With --delimiter / what is in folders is shown as the folders.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("bucket", metavar="BUCKET", help="the bucket")
        parser.add_argument("--prefix", default="", metavar="TEXT", help="keys that begin so")
        parser.add_argument("--delimiter", default="", metavar="TEXT", help="what ends a folder")
        parser.add_argument("--after", default="", metavar="KEY", help="keys behind this one")
        parser.add_argument("--limit", type=int, metavar="N", help="at most so many (default: all)")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        from objectio.cli.s3 import Where, usage

        if parsed_args.limit is not None and parsed_args.limit < 1:
            raise usage("--limit N: at least 1")
        bucket = Where(parsed_args.bucket).check().bucket
        found = open_s3(parsed_args).listing(
            bucket, parsed_args.prefix, parsed_args.delimiter, parsed_args.after
        )
        rows = [
            (Name(each.key), Size(each.size), Moment(_moment(each.modified)), Text(each.etag))
            for each in islice(found, parsed_args.limit)
        ]
        return _LISTED, rows


class ObjectStat(ShowOne):
    """Show what is known of an object besides its bytes."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        _add_object(parser)
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], Row]:
        from email.utils import parsedate_to_datetime

        where = _where(parsed_args)
        info = open_s3(parsed_args).head(where)
        modified = info.get("last-modified", "")
        own = "x-amz-meta-"
        shown = {
            "bucket": where.bucket,
            "key": Name(where.key),
            "size_bytes": Size(int(info.get("content-length", "0"))),
            "modified_ms": Moment(
                int(parsedate_to_datetime(modified).timestamp() * 1000) if modified else None
            ),
            "etag": info.get("etag", "").strip('"'),
            "content_type": Text(info.get("content-type", "")),
            "version_id": Text(info.get("x-amz-version-id", "")),
            "storage_class": info.get("x-amz-storage-class", "STANDARD"),
            "encryption": Text(info.get("x-amz-server-side-encryption", "")),
            "metadata": Named(
                {name[len(own) :]: value for name, value in info.items() if name.startswith(own)}
            ),
        }
        return tuple(shown), tuple(shown.values())


class ObjectDelete(Command):
    """Delete objects. One that is not there is no error.

    In a bucket with versions they are kept, and found no more; --version-id deletes one for good.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("bucket", metavar="BUCKET", help="the bucket")
        parser.add_argument("keys", nargs="+", metavar="KEY", help="the objects' names")
        parser.add_argument(
            "--version-id", default="", metavar="ID", help="this version, of one key"
        )
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.cli.s3 import Where, usage

        version = parsed_args.version_id
        if version and len(parsed_args.keys) > 1:
            raise usage("--version-id is of one object: name one key")
        if not all(parsed_args.keys):
            raise usage("a key is not empty")
        s3 = open_s3(parsed_args)
        for where in [Where(parsed_args.bucket, key, version).check() for key in parsed_args.keys]:
            s3.order("DELETE", where, {"versionId": version})


def _record(s3: S3, where: Where, file: str | None) -> AbstractContextManager[Record | None]:
    """Of an upload of this file that was cut off."""
    from objectio.cli.resume import record_of

    if file is None:
        return nullcontext()
    return record_of(s3.endpoint, where, Path(file), os.environ)


def _target(parsed_args: argparse.Namespace) -> Path:
    from objectio.cli.s3 import usage

    target = Path(parsed_args.file)
    if parsed_args.file and not target.is_dir():
        return target
    name: str = parsed_args.key.rpartition("/")[2]
    if name in ("", ".", "..") or "\0" in name:
        raise usage("the key ends with no name of a file: say FILE")
    return target / name


def _moment(text: str) -> int | None:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp() * 1000) if text else None


def _header(option: str, value: str) -> bytes:
    from objectio.cli.s3 import usage

    if not value.isascii() or not value.isprintable():
        raise usage(f"{option} is printable ASCII")
    return value.encode()
