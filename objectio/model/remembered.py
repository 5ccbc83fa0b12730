"""What is remembered of what others have written, up to a bound.

Policies and documents of buckets come from tenants, who choose how many there are and how long, and
what is made of one is many times as large as its text. So it is the lengths of the texts that are
bounded, and not their number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T", str, bytes)

WEIGHT_MIN: Final = 512
"""What also the smallest thing counts for."""


class Remembered(Generic[K, V]):
    """What was asked for last, as long as the weights of all together are at most `weight_max`."""

    def __init__(self, weight_max: int) -> None:
        self._weight_max = weight_max
        self._weight = 0
        self._held: OrderedDict[K, tuple[V, int]] = OrderedDict()

    def get(self, key: K) -> V | None:
        found = self._held.get(key)
        if found is None:
            return None
        self._held.move_to_end(key)
        return found[0]

    def put(self, key: K, value: V, weight: int) -> None:
        former = self._held.pop(key, None)
        if former is not None:
            self._weight -= former[1]
        weight = max(weight, WEIGHT_MIN)
        self._held[key] = value, weight
        self._weight += weight
        while self._weight > self._weight_max and len(self._held) > 1:
            self._weight -= self._held.popitem(last=False)[1][1]

    def clear(self) -> None:
        self._held.clear()
        self._weight = 0

    def __len__(self) -> int:
        return len(self._held)


class Compiled(Generic[T, V]):
    """What `compile_text` makes of texts, made once for each as long as it is remembered."""

    def __init__(self, compile_text: Callable[[T], V], length_max: int) -> None:
        self._compile_text: Callable[[T], V] = compile_text
        self._remembered: Remembered[T, V] = Remembered(length_max)

    def __call__(self, text: T) -> V:
        found = self._remembered.get(text)
        if found is None:
            found = self._compile_text(text)
            self._remembered.put(text, found, len(text))
        return found
