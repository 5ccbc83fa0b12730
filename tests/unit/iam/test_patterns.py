"""Wildcards and variables: what they match, what they do not, and that they are never slow."""

from __future__ import annotations

import fnmatch
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.iam.patterns import Lookup, MalformedPolicy, compile_pattern, search_cost

NOTHING = Lookup(dict)


def lookup(**values: str | tuple[str, ...]) -> Lookup:
    found = {
        name.replace("_", ":"): (value,) if isinstance(value, str) else value
        for name, value in values.items()
    }
    return Lookup(lambda: found)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("*", "", True),
        ("?", "", False),
        ("?", "a", True),
        ("a", "ab", False),
        ("a*", "a", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("*a*b*", "xxbxxa", False),
        ("*ab*ab", "abxab", True),
        ("*ab*ab", "xab", False),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::b/x/y:z\n", True),
        ("arn:aws:s3:::b/*", "arn:aws:s3:::bb/x", False),
        ("a?c*e?g", "abcdefg", True),
        ("a?c*e?g", "abcdeg", False),
        ("[ab]", "a", False),
        ("[ab]", "[ab]", True),
        ("a.c", "abc", False),
    ],
)
def test_wildcards(pattern: str, text: str, matches: bool) -> None:
    assert compile_pattern(pattern).matches(text, NOTHING) is matches


@given(pattern=st.text("ab*?", max_size=8), text=st.text("abc", max_size=12))
def test_wildcards_match_what_a_regular_expression_does(pattern: str, text: str) -> None:
    expected = re.fullmatch(fnmatch.translate(pattern), text) is not None
    assert compile_pattern(pattern).matches(text, NOTHING) is expected


def test_a_pattern_that_would_have_an_expression_go_back_forever_is_fast() -> None:
    pattern = compile_pattern("*a" * 2_000 + "*b")
    started = time.perf_counter()
    assert not pattern.matches("a" * 4_000, NOTHING)
    assert time.perf_counter() - started < 1


@given(
    pattern=st.lists(st.sampled_from(["a", "b", "*", "?", "${v:v}", "${w:w}"]), max_size=8),
    text=st.text("ab", max_size=12),
    v=st.text("ab", max_size=3),
    w=st.text("ab", max_size=2),
)
def test_variables_between_wildcards_are_matched_as_their_values(
    pattern: list[str], text: str, v: str, w: str
) -> None:
    source = "".join(pattern)
    told = source.replace("${v:v}", v).replace("${w:w}", w)
    expected = re.fullmatch(fnmatch.translate(told), text) is not None
    assert compile_pattern(source).matches(text, lookup(v_v=v, w_w=w)) is expected


@pytest.mark.parametrize("source", ["x?${v:v}", "*?${v:v}b*", "${v:v}" * 500])
def test_long_values_of_variables_make_nothing_slow(source: str) -> None:
    patterns = [compile_pattern(f"{source}{i}") for i in range(100)]
    values, text = lookup(v_v="a" * 30_000), "a" * 1_000
    started = time.perf_counter()
    assert not any(pattern.matches(text, values) for pattern in patterns)
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("a?b*?c", 0),
        ("*??*", 0),
        ("*abc*", 0),
        ("*a?*", 0),
        ("*a?b*", 32),
        ("*a?b*b*?b?c*d?e", 64),
        ("*" + "a?" * 50 + "*", 100),
        ("*a${?}*${*}?b*", 32),
    ],
)
def test_what_has_to_be_looked_for_has_a_cost(text: str, cost: int) -> None:
    assert search_cost(text) == cost


def test_case_is_folded_on_demand() -> None:
    assert compile_pattern("S3:Get*", fold=True).matches("s3:getobject", NOTHING)
    assert not compile_pattern("S3:Get*").matches("s3:getobject", NOTHING)


def test_a_variable_stands_for_the_value_of_its_key() -> None:
    pattern = compile_pattern("home/${aws:UserName}/*")
    assert pattern.keys == {"aws:username"}
    assert pattern.matches("home/ann/x", lookup(aws_username="ann"))
    assert not pattern.matches("home/bob/x", lookup(aws_username="ann"))


def test_what_a_variable_stands_for_has_no_wildcards() -> None:
    pattern = compile_pattern("home/${aws:username}/?")
    assert not pattern.matches("home/bob/x", lookup(aws_username="*"))
    assert not pattern.matches("home/b/x", lookup(aws_username="?"))
    assert pattern.matches("home/*/x", lookup(aws_username="*"))


def test_what_a_variable_stands_for_has_no_variables() -> None:
    pattern = compile_pattern("${aws:username}")
    values = lookup(aws_username="${aws:userid}", aws_userid="x")
    assert pattern.matches("${aws:userid}", values)
    assert not pattern.matches("x", values)


@pytest.mark.parametrize("answer", [True, False])
@pytest.mark.parametrize("values", [{}, {"aws_username": ("a", "b")}])
def test_a_variable_without_one_value_matches_as_asked(answer: bool, values: dict) -> None:
    pattern = compile_pattern("*${aws:username}*")
    assert pattern.matches("ab", lookup(**values), unresolved=answer) is answer


def test_a_variable_may_have_a_default() -> None:
    pattern = compile_pattern("${aws:PrincipalTag/team, 'every one'}/*")
    assert pattern.keys == {"aws:principaltag/team"}
    assert pattern.matches("every one/x", NOTHING)
    tagged = Lookup(lambda: {"aws:PrincipalTag/team": ("red",)})
    assert pattern.matches("red/x", tagged)
    assert not pattern.matches("every one/x", tagged)


def test_a_default_does_not_stand_in_for_several_values() -> None:
    pattern = compile_pattern("${aws:username, 'x'}")
    assert not pattern.matches("x", lookup(aws_username=("a", "b")))


def test_marks_can_be_escaped() -> None:
    pattern = compile_pattern("a${*}b${?}c${$}{d}")
    assert pattern.matches("a*b?c${d}", NOTHING)
    assert not pattern.matches("axb?c${d}", NOTHING)


@pytest.mark.parametrize("text", ["${", "${}", "a${b", "${ }", "${a, b}", "${a,'b}", "${a{b}}"])
def test_what_is_no_variable_is_refused(text: str) -> None:
    with pytest.raises(MalformedPolicy):
        compile_pattern(text)


def test_without_variables_the_text_is_taken_as_it_is() -> None:
    assert compile_pattern("${a", variables=False).matches("${a", NOTHING)


def test_values_are_asked_for_once_and_only_if_wanted() -> None:
    asked = []

    def values() -> dict[str, tuple[str, ...]]:
        asked.append(1)
        return {"AWS:username": ("ann",)}

    found = Lookup(values)
    assert compile_pattern("x").matches("x", found)
    assert not asked
    assert compile_pattern("${aws:username}").matches("ann", found)
    assert compile_pattern("${aws:username}").matches("ann", found)
    assert len(asked) == 1
