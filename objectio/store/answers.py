"""Handing an item to a device and waiting for its fate, but not for ever.

Serving has limits of its own. Upkeep that waited without one would stand still for a single device
that hangs: nobody lets go of it, since it may yet answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from objectio.abc.shardstore import Done
from objectio.errors import ObjectIOError, Unavailable

ANSWER_SECONDS: Final = 60.0
"""A device that takes longer is treated as if it had failed, for this item."""

Answer = asyncio.Future[BaseException | None]


def submitted(submit: Callable[[Done], None]) -> Answer:
    """Hand something to a device; the result is None or the error."""
    answer: Answer = asyncio.get_running_loop().create_future()

    def done(error: BaseException | None) -> None:
        if not answer.done():
            answer.set_result(error)

    try:
        submit(done)
    except ObjectIOError as error:
        done(error)
    return answer


async def answered(answer: Answer) -> BaseException | None:
    """Why it failed; None if it did not. The buffer is the device's until it answers, which may be
    after we have stopped waiting."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await asyncio.shield(answer)
    except TimeoutError:
        return Unavailable(f"a device did not answer in {ANSWER_SECONDS:.0f} s")
