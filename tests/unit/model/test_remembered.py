"""What is remembered has a bound, and goes in the order of use."""

from __future__ import annotations

from objectio.model.remembered import WEIGHT_MIN, Compiled, Remembered


def test_what_was_not_used_for_longest_goes_first():
    held = Remembered(3 * WEIGHT_MIN)
    for name in "abc":
        held.put(name, name.upper(), 1)
    assert held.get("a") == "A"
    held.put("d", "D", 1)
    assert [held.get(name) for name in "abcd"] == ["A", None, "C", "D"]


def test_the_heavy_drive_out_many_and_are_themselves_kept():
    held = Remembered(3 * WEIGHT_MIN)
    for name in "abc":
        held.put(name, name, 1)
    held.put("d", "d", 2 * WEIGHT_MIN)
    assert [held.get(name) for name in "abcd"] == [None, None, "c", "d"]
    held.put("e", "e", 9 * WEIGHT_MIN)
    assert len(held) == 1
    assert held.get("e") == "e"


def test_what_is_put_again_is_weighed_anew():
    held = Remembered(3 * WEIGHT_MIN)
    for _ in range(5):
        held.put("a", "a", WEIGHT_MIN)
        held.put("b", "b", 2 * WEIGHT_MIN)
    assert len(held) == 2
    held.clear()
    assert held.get("a") is None
    held.put("a", "a", 3 * WEIGHT_MIN)
    assert held.get("a") == "a"


def test_texts_are_compiled_once():
    made = []
    compiled = Compiled(lambda text: made.append(text) or len(text), 2 * WEIGHT_MIN)
    assert [compiled(text) for text in ("aa", "aa", "b", "aa", "c", "b")] == [2, 2, 1, 2, 1, 1]
    assert made == ["aa", "b", "c", "b"]
