"""What is asked for in one turn of the loop, to be sent together: a call costs each end about twenty
microseconds of its processor, whatever it carries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from objectio.rpc.priority import is_background

Question = TypeVar("Question")
Answer = TypeVar("Answer")


class Turn(Generic[Question, Answer]):
    """`send(asked, background)` gets pairs of a question and the future of its answer, at most `most`
    of them, none of whom has been given up. What can wait does not travel with what cannot."""

    def __init__(
        self,
        most: int,
        send: Callable[[list[tuple[Question, asyncio.Future[Answer]]], bool], None],
    ) -> None:
        self._most = most
        self._send = send
        self._waiting: dict[bool, list[tuple[Question, asyncio.Future[Answer]]]] = {
            False: [],
            True: [],
        }

    def ask(self, question: Question) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        background = is_background()
        waiting = self._waiting[background]
        waiting.append((question, answer))
        if len(waiting) == 1:
            loop.call_soon(self._end, background)
        elif len(waiting) == self._most:
            self._end(background)
        return answer

    def _end(self, background: bool) -> None:
        asked, self._waiting[background] = self._waiting[background], []
        if asked := [each for each in asked if not each[1].done()]:
            self._send(asked, background)
