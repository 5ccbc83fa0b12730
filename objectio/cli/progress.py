"""How far a transfer is: one line that is written over and over, on a terminal only."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Final, TextIO

from objectio.model.units import size_text, span_text

_SECONDS_BETWEEN: Final = 0.1
_BAR_CHARS: Final = 24
_COLUMNS_DEFAULT: Final = 80
_ERASE_LINE: Final = "\r\x1b[K"  # ECMA-48, EL


class Progress:
    """`total_bytes` None: nobody knows. `done_bytes` were there before. Quiet where `stream` is no
    terminal."""

    def __init__(
        self, stream: TextIO | None, total_bytes: int | None = None, done_bytes: int = 0
    ) -> None:
        self._stream = stream if stream is not None and stream.isatty() else None
        self._total = total_bytes
        self._before = done_bytes
        self._done = done_bytes
        self._began = time.monotonic()
        self._drawn = float("-inf")

    def __enter__(self) -> Progress:
        self._draw()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            self._draw()
            self._stream.write("\n")
            self._stream.flush()

    def add(self, count_bytes: int) -> None:
        self._done += count_bytes
        if self._stream is not None and time.monotonic() - self._drawn > _SECONDS_BETWEEN:
            self._draw()

    def found(self, count_bytes: int) -> None:
        """So much was there before, as it turns out."""
        self._before += count_bytes
        self.add(count_bytes)

    def _draw(self) -> None:
        if self._stream is None:
            return
        self._drawn = time.monotonic()
        line = fitted(self.line(self._drawn - self._began), _columns(self._stream))
        self._stream.write(f"{_ERASE_LINE}{line}")
        self._stream.flush()

    def line(self, seconds: float) -> str:
        """After so many seconds."""
        rate = (self._done - self._before) / seconds if seconds > 0 else 0.0
        speed = f"{size_text(rate)}/s"
        if not self._total:
            return f"{size_text(self._done)}  {speed}"
        share = min(self._done / self._total, 1.0)
        full = int(share * _BAR_CHARS)
        bar = "#" * full + "-" * (_BAR_CHARS - full)
        left = ""
        if rate > 0 and share < 1:
            left = f"  {span_text((self._total - self._done) / rate)} left"
        sizes = f"{size_text(self._done)} of {size_text(self._total)}"
        return f"[{bar}] {share:4.0%}  {sizes}  {speed}{left}"


def fitted(line: str, columns: int) -> str:
    """One line of a terminal of so many columns: only that can be written over. The bar goes first."""
    room = columns - 1
    if len(line) > room:
        line = line.rpartition("] ")[2]
    return line[:room]


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or _COLUMNS_DEFAULT
    except (OSError, ValueError):
        return _COLUMNS_DEFAULT
