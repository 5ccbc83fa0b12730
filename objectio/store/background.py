"""What runs in the background from a start to a stop."""

from __future__ import annotations

import asyncio


class Background:
    """One task, which is cancelled and waited for at the end. `_run` sees to its own failures: an
    exception that leaves it ends the work."""

    _task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        raise NotImplementedError
