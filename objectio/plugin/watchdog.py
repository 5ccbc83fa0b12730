"""Give a plugin a deadline: code that is not ours must not stop the node from starting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from objectio.errors import PluginTimeout

T = TypeVar("T")


def call_with_deadline(call: Callable[[], T], timeout_seconds: float, what: str) -> T:
    """Run `call` in a thread of its own and return its result or raise its exception.

    After `timeout_seconds` raises `PluginTimeout`. The thread cannot be stopped: it is left behind
    as a daemon, so that the process can still end. Whatever it returns later is dropped.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=f"objectio-plugin: {what}", daemon=True)
    thread.start()
    thread.join(timeout_seconds)
    if errors:
        raise errors[0]
    if results:
        return results[0]
    raise PluginTimeout(f"{what} did not return within {timeout_seconds:g} s")
