"""Who uses a device in a thread, so that it is closed only when the last one is done."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from objectio.errors import DeviceFailed

P = ParamSpec("P")
T = TypeVar("T")


class Guard:
    """A context that is entered before the device, or its index, is touched. Raises `DeviceFailed`
    for those who come after its end."""

    def __init__(self) -> None:
        self.ended = False
        self._changed = threading.Condition()
        self._count = 0

    def __enter__(self) -> None:
        with self._changed:
            if self.ended:
                raise DeviceFailed("the device was closed")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            if self.ended and not self._count:
                self._changed.notify_all()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with self:
            return function(*args, **kwargs)

    def end(self) -> None:
        """Let nobody in any more."""
        with self._changed:
            self.ended = True

    def wait(self) -> None:
        """For those who are still in, after the end. Blocks."""
        with self._changed:
            while self._count:
                self._changed.wait()


def start_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
    """Run a function in a thread that does not keep the process from ending, should the device that
    it waits for never answer."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failure: BaseException | None = None
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(tell, result, failure)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    threading.Thread(target=run, name="osd-upkeep", daemon=True).start()
    return future


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `asyncio.to_thread`, in a thread of its own. Whoever is cancelled does not wait for it:
    what it uses is kept open by a `Guard`."""
    future = start_thread(function, *args, **kwargs)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_forget)
        raise


def _forget(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()  # it was looked at
