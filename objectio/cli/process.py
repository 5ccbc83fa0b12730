"""What commands have in common that run a node in this process until a signal ends it."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from objectio.config import Config
    from objectio.plugin.loader import Plugins
    from objectio.runtime.node import Node

DATA_DIR: Final = Path("objectio-data")
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
TERMINAL: Final = "/dev/tty"
HANG_UP_SECONDS_MAX: Final = 1.0
"""A shell that ends may tell its processes so before their terminal has gone."""


def add_supervised_arguments(parser: argparse.ArgumentParser) -> None:
    """What `objectio serve --workers` passes to the processes that it starts."""
    parser.add_argument("--supervised", metavar="PID:FD", help=argparse.SUPPRESS)
    parser.add_argument("--share-port", metavar="HOST:PORT", help=argparse.SUPPRESS)
    parser.add_argument("--run-dir", type=Path, metavar="DIR", help=argparse.SUPPRESS)


def run_node(
    config: Config,
    plugins: Plugins,
    args: argparse.Namespace,
    describe: Callable[[Node], str],
    stdout: Any,
) -> None:
    """Run it, and write what `describe` says once it serves."""
    import uvloop

    supervised = getattr(args, "supervised", None)
    set_up_logging(config, config.node.name if supervised else "")
    tune_process()
    ready_fd = follow_supervisor(supervised) if supervised else None

    def ready(node: Node) -> None:
        if ready_fd is None:
            stdout.write(describe(node))
            stdout.flush()
        else:
            os.write(ready_fd, b"ready\n")
        _freeze()

    uvloop.run(_run(config, plugins, _given_parts(config, args), ready))
    outlast_late_reloads()


async def _run(
    config: Config,
    plugins: Plugins,
    parts: dict[str, Any],
    ready: Callable[[Node], None],
) -> None:
    from objectio.runtime.node import serve

    signals = Signals()
    await serve(config, plugins, signals.stop, ready, parts, signals.renew)


class Signals:
    """What signals ask of a process.

    stop    finish what is under way, and end: SIGTERM, SIGINT, and the end of its terminal
    renew   read certificates again: SIGHUP

    A terminal that is closed sends SIGHUP too. It is told by its absence: a process which had one at
    its start, and can open it no more, was left behind. Who wants that says so with nohup(1).
    """

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.renew = asyncio.Event()
        self._follows_terminal = (
            signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN and _has_terminal()
        )
        self._loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            self._loop.add_signal_handler(number, self.stop.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._hear_hang_up)

    def _hear_hang_up(self) -> None:
        if self._was_left():
            self.stop.set()
            return
        self.renew.set()
        if self._follows_terminal:
            self._loop.call_later(HANG_UP_SECONDS_MAX, self._look_again)

    def _look_again(self) -> None:
        if self._was_left():
            self.stop.set()

    def _was_left(self) -> bool:
        return self._follows_terminal and not _has_terminal()


def outlast_early_reloads() -> None:
    """Whoever asks for certificates to be read again before there are `Signals` must not end the process
    thereby: they are read later anyway. With a terminal, SIGHUP says that it was closed."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL and not _has_terminal():
        signal.signal(signal.SIGHUP, lambda _number, _frame: None)


def outlast_late_reloads() -> None:
    """All is stopped, and the event loop has given the signal back: it would make a failure of the end."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _has_terminal() -> bool:
    try:
        os.close(os.open(TERMINAL, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _given_parts(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    parts: dict[str, Any] = {}
    if getattr(args, "share_port", None) is not None:
        from objectio.gateway.server import listen
        from objectio.rpc.address import parse_address

        where = parse_address(args.share_port)
        parts["listener"] = listen(where.host, where.port, share=True)
    if getattr(args, "metrics_listener", None) is not None:
        parts["metrics_listener"] = args.metrics_listener
    if getattr(args, "run_dir", None) is not None:
        from objectio.gateway.neighbours import Neighbours

        parts["neighbours"] = Neighbours(args.run_dir, config.node.name)
    return parts


def _freeze() -> None:
    gc.collect()
    gc.freeze()  # what start-up made stays: the collector need not look at it again
    # Requests leave no cycles behind, but make some hundred objects each: at the default of 700
    # the collector runs several times per request, a sixth of the time of a small PUT.
    gc.set_threshold(20_000, 10, 10)


def follow_supervisor(supervised: str) -> int:
    """End at once when the supervisor does, however that ends. Returns the file descriptor that it
    waits at for a word that this process is ready."""
    import ctypes

    pid, _, fd = supervised.partition(":")
    pr_set_pdeathsig = 1  # prctl(2)
    ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(pid):  # it ended before it was followed
        sys.exit(1)
    return int(fd)


def set_up_logging(config: Config, process: str = "") -> None:
    """`process` stands in each line where several processes write to one place."""
    from objectio.cli.jsonlog import JsonFormatter, TextFormatter

    handler = logging.StreamHandler(sys.stderr)
    if config.log.format == "json":
        handler.setFormatter(JsonFormatter(process))
    else:
        name = f" [{process}]" if process else ""
        handler.setFormatter(TextFormatter(f"%(asctime)s %(levelname)s{name} %(name)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(config.log.level.upper())
    if not config.log.requests:
        logging.getLogger("objectio.gateway.request").setLevel(logging.WARNING)


def tune_process() -> None:
    """Have malloc keep large blocks instead of giving them back: fresh pages cost more than the
    work that is done on them. Takes effect with glibc only."""
    import ctypes

    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return
    m_trim_threshold, m_mmap_threshold, m_arena_max = -1, -3, -8  # malloc.h
    libc.mallopt(m_mmap_threshold, 32 << 20)
    libc.mallopt(m_trim_threshold, 64 << 20)
    libc.mallopt(m_arena_max, 2)


def where_credentials_are(config: Config) -> str:
    from objectio.iam.credentials import CREDENTIALS_FILE, from_environment

    if not config.gateway.auth:
        return "not needed (--no-auth)"
    if from_environment(os.environ):
        return "from the environment"
    return str(config.data_dir / CREDENTIALS_FILE)
