"""The wire between processes, beside gRPC: `python -m benchmarks.rpc [--rounds N] [--seconds S]`.

A server in a process of its own, on loopback or a Unix socket, and a client here, both on uvloop.
Subjects and yardsticks are measured in turns, and medians count:

- `rpc`: `objectio.rpc`, with its handshake, checksums, deadlines and flow control;
- `grpclib`: grpclib with betterproto messages, as the control plane is;
- `streams`: asyncio streams on uvloop, a length and the bytes, and nothing else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import statistics
import struct
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import uvloop

from objectio.rpc.auth import Identity
from objectio.rpc.client import Channel
from objectio.rpc.server import Server

SECRET = bytes(32)
MIB = 1024 * 1024
SMALL_BYTES = 64
ECHO, SINK, SOURCE = 1, 2, 3
Call = Callable[[], Awaitable[object]]
Calls = dict[str, Call]


async def serve_rpc(address: str) -> str:
    server = Server(Identity(secret=SECRET, role="osd", node="far"), roles=["gateway"])
    large = os.urandom(MIB)
    server.add(ECHO, lambda call: call.reply(call.head))
    server.add(SINK, lambda call: call.reply())
    server.add(SOURCE, lambda call: call.reply(b"", [large]))
    return await server.listen(address)


@contextlib.asynccontextmanager
async def ask_rpc(address: str) -> AsyncIterator[Calls]:
    near = Identity(secret=SECRET, role="gateway", node="near")
    channel = Channel(address, near, wanted_role="osd")
    await channel.connect()
    small, large = os.urandom(SMALL_BYTES), memoryview(bytearray(os.urandom(MIB)))
    yield {
        "small": lambda: channel.call(ECHO, small),
        "write": lambda: channel.call(SINK, b"", [large]),
        "read": lambda: channel.call(SOURCE),
    }
    await channel.close()


async def serve_streams(address: str) -> str:
    large = os.urandom(MIB)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                method, length = struct.unpack("<II", await reader.readexactly(8))
                body = await reader.readexactly(length)
                out = {ECHO: body, SINK: b"", SOURCE: large}[method]
                writer.writelines([struct.pack("<II", method, len(out)), out])
                await writer.drain()
        writer.close()

    if address.startswith("unix:"):
        await asyncio.start_unix_server(answer, address.removeprefix("unix:"), limit=2 * MIB)
        return address
    listener = await asyncio.start_server(answer, "127.0.0.1", 0, limit=2 * MIB)
    return f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def ask_streams(address: str) -> AsyncIterator[Calls]:
    """Answers come in order, so that callers queue for them."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        reader, writer = await asyncio.open_unix_connection(path, limit=2 * MIB)
    else:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=2 * MIB)
    turn = asyncio.Lock()

    async def call(method: int, body: bytes) -> bytes:
        writer.writelines([struct.pack("<II", method, len(body)), body])
        async with turn:
            await writer.drain()
            _, length = struct.unpack("<II", await reader.readexactly(8))
            return await reader.readexactly(length)

    small, large = os.urandom(SMALL_BYTES), os.urandom(MIB)
    yield {
        "small": lambda: call(ECHO, small),
        "write": lambda: call(SINK, large),
        "read": lambda: call(SOURCE, b""),
    }
    writer.close()
    await writer.wait_closed()


def _grpc() -> Any:
    """(betterproto's message, grpclib's parts)."""
    import betterproto2
    from grpclib.client import Channel as GrpcChannel
    from grpclib.client import UnaryUnaryMethod
    from grpclib.const import Cardinality, Handler
    from grpclib.server import Server as GrpcServer

    @dataclass(eq=False)
    class Body(betterproto2.Message):
        data: bytes = betterproto2.field(1, betterproto2.TYPE_BYTES)

    return Body, GrpcChannel, UnaryUnaryMethod, Cardinality, Handler, GrpcServer


async def serve_grpclib(address: str) -> str:
    body, _, _, cardinality, handler, grpc_server = _grpc()
    large = os.urandom(MIB)

    def method(answer: Callable[[bytes], bytes]) -> Any:
        async def handle(stream: Any) -> None:
            request = await stream.recv_message()
            await stream.send_message(body(data=answer(request.data)))

        return handler(handle, cardinality.UNARY_UNARY, body, body)

    class Service:
        def __mapping__(self) -> dict[str, Any]:
            return {
                "/bench/Echo": method(lambda data: data),
                "/bench/Sink": method(lambda data: b""),
                "/bench/Source": method(lambda data: large),
            }

    server = grpc_server([Service()])
    if address.startswith("unix:"):
        await server.start(path=address.removeprefix("unix:"))
        return address
    await server.start("127.0.0.1", 0)
    return f"127.0.0.1:{server._server.sockets[0].getsockname()[1]}"


@contextlib.asynccontextmanager
async def ask_grpclib(address: str) -> AsyncIterator[Calls]:
    body, grpc_channel, unary, _, _, _ = _grpc()
    if address.startswith("unix:"):
        channel = grpc_channel(path=address.removeprefix("unix:"))
    else:
        host, _, port = address.partition(":")
        channel = grpc_channel(host, int(port))
    small, large = body(data=os.urandom(SMALL_BYTES)), body(data=os.urandom(MIB))
    methods = {name: unary(channel, f"/bench/{name}", body, body) for name in ("Echo", "Sink")}
    methods["Source"] = unary(channel, "/bench/Source", body, body)
    yield {
        "small": lambda: methods["Echo"](small),
        "write": lambda: methods["Sink"](large),
        "read": lambda: methods["Source"](body(data=b"")),
    }
    channel.close()


ENDS = {
    "rpc": (serve_rpc, ask_rpc),
    "grpclib": (serve_grpclib, ask_grpclib),
    "streams": (serve_streams, ask_streams),
}
SUBJECTS = (("small", 1), ("small", 64), ("write", 4), ("read", 4))
AIMS = {("small", 64): 20_000, ("write", 4): 0.9e9 / MIB, ("read", 4): 0.9e9 / MIB}
"""Calls per second."""


def _serve(name: str, address: str, pipe: Connection) -> None:
    async def run() -> None:
        pipe.send(await ENDS[name][0](address))
        await asyncio.Event().wait()

    uvloop.run(run())


async def _rate(call: Call, callers: int, seconds: float) -> float:
    """Calls a second."""
    end = perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while perf_counter() < end:
            await call()
            done += 1

    began = perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return done / (perf_counter() - began)


async def _measure(
    addresses: dict[str, str], rounds: int, seconds: float
) -> dict[tuple[str, str, int], float]:
    samples: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(rounds):
        for subject, callers in SUBJECTS:
            for name, address in addresses.items():
                async with ENDS[name][1](address) as calls:
                    await calls[subject]()
                    rate = await _rate(calls[subject], callers, seconds)
                samples.setdefault((name, subject, callers), []).append(rate)
    return {key: statistics.median(rates) for key, rates in samples.items()}


def _show(kind: str, found: dict[tuple[str, str, int], float]) -> bool:
    """Print the table; returns whether the aims were reached."""
    good = True
    names = list(dict.fromkeys(name for name, _, _ in found))
    others = names[1:]
    print(f"\n{kind:<24}" + "".join(f"{name:>16}" for name in names), end="")
    print("".join(f"{f'× {name}':>12}" for name in others))
    for subject, callers in SUBJECTS:
        rates = [found[name, subject, callers] for name in names]
        if subject == "small":
            cells = [f"{rate:,.0f}/s" for rate in rates]
        else:
            cells = [f"{rate * MIB / 1e6:,.0f} MB/s" for rate in rates]
        title = f"{subject if subject == 'small' else subject + ' 1 MiB'}, {callers} at once"
        print(f"{title:<24}" + "".join(f"{cell:>16}" for cell in cells), end="")
        print("".join(f"{rates[0] / rate:>12.1f}" for rate in rates[1:]), end="")
        aim = AIMS.get((subject, callers))
        reached = aim is None or rates[0] >= aim
        good = good and reached
        print("" if aim is None else "    pass" if reached else f"    MISS: {aim:,.0f}/s")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rpc", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one measurement")
    arguments = parser.parse_args()
    return 0 if run(arguments.rounds, arguments.seconds) else 1


def run(rounds: int, seconds: float) -> bool:
    spawn = multiprocessing.get_context("spawn")
    good = True
    with tempfile.TemporaryDirectory(prefix="objectio-") as directory:
        for kind in ("tcp", "unix"):
            servers, addresses = [], {}
            for name in ENDS:
                address = "127.0.0.1:0" if kind == "tcp" else f"unix:{directory}/{name}"
                near, far = spawn.Pipe()
                server = spawn.Process(target=_serve, args=(name, address, far), daemon=True)
                server.start()
                servers.append(server)
                addresses[name] = near.recv()
            try:
                good = _show(kind, uvloop.run(_measure(addresses, rounds, seconds))) and good
            finally:
                for server in servers:
                    server.kill()
                    server.join()
    return good


if __name__ == "__main__":
    sys.exit(main())
