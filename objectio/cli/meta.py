"""`objectio meta rebuild`: make the metadata directory anew from the journal on the disks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from objectio.cli.command import Command
from objectio.cli.config import add_config_arguments, plugins_for

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.kv.store import KVStore
    from objectio.runtime.node import Node
    from objectio.store.rebuild import Disks, Rebuilt

_FRESH: Final = "meta.rebuilding"


class MetaRebuild(Command):
    """Make the metadata anew from what the disks hold: for when the metadata directory is lost.

    Every acknowledged change is on one disk more than the pool may lose, so that nothing is missing
    as long as no more disks are lost than that. The server must not run. Disks are opened, and what
    is on them is not changed.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_config_arguments(parser)
        parser.add_argument(
            "--data", type=Path, metavar="DIR", help="the directory that the server was given"
        )
        parser.add_argument(
            "--disks",
            nargs="+",
            metavar="PATH",
            help="the disks, where no configuration names them: those of `objectio osd`",
        )
        parser.add_argument(
            "--accept-loss",
            action="store_true",
            help="go on even if later changes were found that cannot be applied",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="say what would be restored, and write nothing"
        )
        parser.add_argument(
            "--replace",
            action="store_true",
            help="move metadata that is there aside, to meta.old-TIME",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        from objectio.errors import ConfigError
        from objectio.runtime.lock import DirectoryLock
        from objectio.runtime.node import Node, has_one_copy

        config = _config(parsed_args)
        node = Node(config, plugins_for(config))
        if not has_one_copy(node.kv_driver):
            raise ConfigError(
                f"the engine {node.kv_driver.name} is not journaled to the disks: there is nothing "
                "to rebuild it from"
            )
        if not config.data_dir.is_dir():
            raise ConfigError(f"{config.data_dir} is not there: is it mounted?")
        lock = DirectoryLock(config.data_dir)
        lock.acquire()
        try:
            self._rebuild(node, parsed_args)
        finally:
            lock.release()

    def _rebuild(self, node: Node, args: argparse.Namespace) -> None:
        from objectio.errors import ConfigError, StorageError

        target = node.metadata_dir
        if not args.dry_run and not args.replace and not _is_blank(node, target):
            raise ConfigError(
                f"{target} holds metadata. To replace it by what the disks hold, pass --replace: it "
                "is moved aside first"
            )
        if target.is_mount():
            raise ConfigError(
                f"{target} is a mount point, and cannot be replaced in one stroke: let the driver's "
                "`path` name a directory inside of it"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        with _scratch(target.with_name(_FRESH)) as fresh:
            made = asyncio.run(self._restore(node, fresh))
            if made.lost and not args.accept_loss:
                raise StorageError(
                    f"{made.lost} batches of changes would be lost; nothing was written. If a disk "
                    "that is missing now may have them, bring it back first; to go on without "
                    "them, pass --accept-loss"
                )
            if args.dry_run:
                self.app.stdout.write("nothing was written (--dry-run)\n")
                return
            if args.replace and target.exists():
                aside = target.with_name(f"{target.name}.old-{time.strftime('%Y%m%d-%H%M%S')}")
                target.rename(aside)
                self.app.stdout.write(f"  moved aside  {aside}\n")
            elif target.exists():
                shutil.rmtree(target)  # it has no rows
            _sync_tree(fresh)
            fresh.rename(target)
            _sync(target.parent)
        self.app.stdout.write(f"the metadata are in {target}; the server can be started\n")

    async def _restore(self, node: Node, fresh: Path) -> Rebuilt:
        from objectio.store.rebuild import (
            Disk,
            check_cluster,
            open_disks,
            read_history,
            rebuild,
        )

        def make() -> KVStore:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700)
            return node.open_kv_at(fresh)

        config = node.config
        wanted = [Disk(disk.id, str(config.disk_path(disk))) for disk in config.osd.disk]
        disks = await open_disks(node.open_shardstores(), wanted)
        try:
            history = await read_history(disks.stores, disks.unread)
            made, kv = await rebuild(history, make)
            try:
                check_cluster(kv, disks.cluster_id)
            finally:
                await kv.close()
        finally:
            await disks.close()
        self._show(disks, made)
        return made

    def _show(self, disks: Disks, made: Rebuilt) -> None:
        write = self.app.stdout.write
        write(f"cluster {disks.cluster_id}\n")
        write(f"  disks read   {', '.join(map(str, sorted(disks.stores)))}\n")
        for osd, reason in sorted(disks.unread.items()):
            write(f"  not read     {osd}: {reason}\n")
        checkpoint = made.checkpoint
        write(
            f"  checkpoint   {checkpoint.number} of {_moment(checkpoint.written_ms)}: "
            f"{checkpoint.rows} rows, {checkpoint.bytes} bytes\n"
        )
        write(
            f"  journal      {made.entries} batches of changes behind it, up to {made.number}, the "
            f"last of {_moment(made.newest_ms)}\n"
        )
        if made.damaged_copies:
            write(f"  damaged      {made.damaged_copies} copies, read from other disks\n")
        for problem in made.problems:
            write(f"  problem      {problem}\n")


def _config(args: argparse.Namespace) -> Config:
    from objectio.config import load_config
    from objectio.errors import ConfigError
    from objectio.runtime.quickstart import config_path

    if (args.config is None) == (args.data is None):
        raise ConfigError("say which store: --config FILE, or --data DIR")
    path = args.config or config_path(args.data)
    if args.disks is None:
        return load_config(path, env=os.environ, overrides=args.overrides)
    overrides = list(args.overrides)
    if args.config is None and not path.exists():
        path, overrides = None, [*overrides, f"node.data_dir={args.data.absolute()}"]
    return _with_disks(load_config(path, env=os.environ, overrides=overrides), args.disks)


def _with_disks(config: Config, paths: Sequence[str]) -> Config:
    """Their numbers are not known here, and stand for their order only."""
    from msgspec.structs import replace

    from objectio.config.schema import DiskSection

    disks = [DiskSection(id=n, path=str(Path(path).absolute())) for n, path in enumerate(paths)]
    return replace(config, osd=replace(config.osd, disk=tuple(disks)))


def _is_blank(node: Node, directory: Path) -> bool:
    """Absent, or an engine without a row, as a start that was refused leaves it."""
    from objectio.errors import ObjectIOError

    if not directory.exists() or not any(directory.iterdir()):
        return True
    try:
        kv = node.open_kv_at(directory)
    except ObjectIOError:
        return False
    try:
        return not kv.scan(limit=1)
    finally:
        kv.close_sync()


@contextlib.contextmanager
def _scratch(directory: Path) -> Iterator[Path]:
    """A directory that an earlier attempt may have left, and that is gone afterwards."""
    shutil.rmtree(directory, ignore_errors=True)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _sync_tree(directory: Path) -> None:
    for path in (*directory.rglob("*"), directory):
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _moment(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(milliseconds / 1000))
