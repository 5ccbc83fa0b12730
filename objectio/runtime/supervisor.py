"""Runs the processes of a store on one machine, and looks after them.

Theory of operation:

- The supervisor opens the port; all gateways accept from that one socket, so that a gateway that is
  busy, or gone for a moment, costs the others nothing: connections wait for whoever takes them.
- Each process has a session of its own, so that Ctrl-C at a terminal reaches the supervisor only,
  which then stops all in order: gateways, so that requests under way are finished; the metadata, which
  write to disks to the end; disks.
- A process that ends is started again, after a pause that doubles up to `PAUSE_SECONDS_MAX` while it
  does not hold. When one could never be started the supervisor gives up, and says so; but not for some
  of the disks, without which the others may serve: that is tried on.
- A process that its supervisor has left ends at once: the kernel kills it (`follow_supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from objectio.config import Config
from objectio.config.load import RESERVED
from objectio.errors import ConfigError, ObjectIOError
from objectio.gateway.neighbours import SUFFIX, ask
from objectio.gateway.server import listen
from objectio.rpc.address import Address, parse_address
from objectio.runtime.children import Member, make_members, prepare_run_dir, write_config
from objectio.runtime.lock import DirectoryLock

PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 10.0
STEADY_SECONDS: Final = 30.0
"""A process that held for so long is started again without much of a pause."""
START_ATTEMPTS_MAX: Final = 3
STOP_SECONDS_MAX: Final = 25.0
"""A process that takes longer to stop is killed. Gateways let requests finish for ten seconds."""
STOP_ORDER: Final = ("gateway", "meta", "osd")
_EXIT_USAGE: Final = 2
_SAY_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.05

_log: Final = logging.getLogger("objectio.supervisor")


class Child:
    """One process, kept running. `ready` is set while it serves."""

    def __init__(
        self,
        member: Member,
        command: Sequence[str],
        may_lack: Callable[[], bool] = lambda: False,
    ) -> None:
        """`may_lack` says whether the store may run without it."""
        self.member = member
        self.ready = asyncio.Event()
        self.hopeless = False
        """It could not be started so far; that is tried on."""
        self._may_lack = may_lack
        self._command = list(command)
        self._process: asyncio.subprocess.Process | None = None
        self._was_ready = False
        self._stopping = asyncio.Event()
        self._renew_when_ready = False

    async def keep(self, after: asyncio.Event | None = None) -> None:
        """From when `after` is set until it is told to stop. Raises `ObjectIOError` if it could never
        be started and must not be lacking."""
        pause, attempts = PAUSE_SECONDS_MIN, 0
        if after is not None:
            waits = [asyncio.ensure_future(event.wait()) for event in (after, self._stopping)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for waiting in waits:
                waiting.cancel()
        while not self._stopping.is_set():
            started = time.monotonic()
            code = await self._run()
            if self._stopping.is_set():
                return
            attempts += 1
            if not self._was_ready and (code == _EXIT_USAGE or attempts >= START_ATTEMPTS_MAX):
                self.hopeless = True
                if not self._may_lack():
                    error = ConfigError if code == _EXIT_USAGE else ObjectIOError
                    raise error(f"{self.member.name} cannot be started ({_how(code)}): see above")
            if time.monotonic() - started > STEADY_SECONDS:
                pause = PAUSE_SECONDS_MIN
            _log.error("%s %s; starting it again in %.1f s", self.member.name, _how(code), pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            pause = min(2 * pause, PAUSE_SECONDS_MAX)

    async def _run(self) -> int:
        """From its start to its end; returns the code that it ended with."""
        said, says = os.pipe()
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                "--supervised",
                f"{os.getpid()}:{says}",
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(says,),
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:
            os.close(said)
            raise
        finally:
            os.close(says)
        self._process = process
        if self._stopping.is_set():
            self.signal(signal.SIGTERM)
        loop = asyncio.get_running_loop()
        loop.add_reader(said, self._hear, said)
        try:
            return await process.wait()
        finally:
            loop.remove_reader(said)
            os.close(said)
            self.ready.clear()
            self._process = None

    def _hear(self, said: int) -> None:
        if os.read(said, 64):
            self._was_ready, self.hopeless = True, False
            self.ready.set()
            if self._renew_when_ready:
                self.renew()
        else:
            asyncio.get_running_loop().remove_reader(said)

    def signal(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    def renew(self) -> None:
        """Have it read its certificates again; as soon as it knows how, for until it has said that it
        is ready the signal may end it."""
        self._renew_when_ready = not self.ready.is_set()
        if self.ready.is_set():
            self.signal(signal.SIGHUP)

    def tell_to_stop(self) -> None:
        """It is not started again."""
        self._stopping.set()

    async def stop(self, keeping: asyncio.Task[None]) -> None:
        """`keeping` runs `keep`. Returns when the process has ended."""
        self.tell_to_stop()
        self.signal(signal.SIGTERM)
        _, late = await asyncio.wait([keeping], timeout=STOP_SECONDS_MAX)
        if late:
            _log.error("%s does not stop: it is killed", self.member.name)
            self.signal(signal.SIGKILL)
            await asyncio.wait([keeping])


class Supervisor:
    def __init__(self, config: Config, run_dir: Path, members: Sequence[Member]) -> None:
        self._run_dir = run_dir
        where = parse_address(config.gateway.listen)
        # Fails if anybody listens there, also somebody who would share the port.
        with listen(where.host, where.port) as alone:
            where = Address(where.host, alone.getsockname()[1])
        # Keeps the port while no gateway is there; it never listens. Each gateway has a socket of
        # its own: from one that they share, whoever wakes first accepts all that have come.
        self._socket = listen(where.host, where.port, share=True)
        self._address = str(where)
        scheme = "https" if config.gateway.tls_cert_file else "http"
        self.endpoint = f"{scheme}://{where}"
        self._children = [self._child(member) for member in members]
        self._keeping: dict[Child, asyncio.Task[None]] = {}

    def _child(self, member: Member) -> Child:
        command = [sys.executable, "-P", "-m", "objectio", member.role]
        command += ["--config", str(write_config(member, self._run_dir))]
        if member.role == "osd":  # with a disk too few the others may serve
            return Child(member, command, self._has_hope)
        if member.role == "meta":
            return Child(member, command)
        command += ["--share-port", self._address, "--run-dir", str(self._run_dir)]
        return Child(member, command)

    def _has_hope(self) -> bool:
        """Whether there are disks, or may be."""
        return any(child.member.role == "osd" and not child.hopeless for child in self._children)

    async def run(
        self,
        stop: asyncio.Event,
        ready: Callable[[str], None],
        renew: asyncio.Event | None = None,
    ) -> None:
        """Until `stop` is set; `ready(endpoint)` is called once requests are answered. Each time that
        `renew` is set all processes read their certificates again. Raises `ObjectIOError` if a
        process cannot be started."""
        meta = next(child for child in self._children if child.member.role == "meta")
        for child in self._children:
            # The others would wait for the metadata, and say so.
            after = None if child is meta else meta.ready
            self._keeping[child] = asyncio.ensure_future(child.keep(after))
        stopping = asyncio.ensure_future(stop.wait())
        telling = asyncio.ensure_future(self._tell(ready))
        renewing = asyncio.ensure_future(self._renew(renew or asyncio.Event()))
        try:
            waited = {stopping, *self._keeping.values()}
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, telling, renewing):
                task.cancel()
            await self._stop()
        for task in self._keeping.values():
            task.result()  # raises what made it give up

    async def _renew(self, asked: asyncio.Event) -> None:
        while True:
            await asked.wait()
            asked.clear()
            for child in self._children:
                child.renew()

    async def _tell(self, ready: Callable[[str], None]) -> None:
        """Once all are ready and every gateway answers that it serves."""
        say_at = time.monotonic() + _SAY_SECONDS
        while waited_for := await self._waited_for():
            if time.monotonic() >= say_at:
                say_at = time.monotonic() + _SAY_SECONDS
                _log.warning("waiting for %s", ", ".join(waited_for))
            await asyncio.sleep(_POLL_SECONDS)
        ready(self.endpoint)

    async def _waited_for(self) -> list[str]:
        late = [
            child.member.name
            for child in self._children
            if not (child.ready.is_set() or child.hopeless)
        ]
        if late:
            return late
        for child in self._children:
            name = child.member.name
            if child.member.role == "gateway":
                answer = await ask(self._run_dir / f"{name}{SUFFIX}", "/health")
                if answer is None or answer.status != 200:
                    late.append(name)
        return late

    async def _stop(self) -> None:
        for child in self._children:
            child.tell_to_stop()
        self._socket.close()
        for role in STOP_ORDER:
            group = [child for child in self._children if child.member.role == role]
            await asyncio.gather(*(child.stop(self._keeping[child]) for child in group))


async def supervise(
    config: Config,
    workers: int,
    osd_processes: int | None,
    stop: asyncio.Event,
    ready: Callable[[str], None],
    renew: asyncio.Event | None = None,
) -> None:
    """Run a store in several processes until `stop` is set. Each time that `renew` is set they read
    their certificates again."""
    config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = DirectoryLock(config.data_dir, "supervisor")
    lock.acquire()
    try:
        run_dir = prepare_run_dir(config.data_dir)
        members = make_members(config, workers, osd_processes, run_dir)
        await Supervisor(config, run_dir, members).run(stop, ready, renew)
        prepare_run_dir(config.data_dir)  # what copies the directory may stumble over sockets
    finally:
        lock.release()


def _environment() -> dict[str, str]:
    """Without settings: they stand in the configuration that a process is given."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("OBJECTIO_") or name in RESERVED
    }


def _how(code: int) -> str:
    """How a process ended."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
