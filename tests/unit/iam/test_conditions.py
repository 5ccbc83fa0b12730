"""Condition operators: each of them, alone and with each of the ways to ask about many values."""

from __future__ import annotations

import pytest

from objectio.iam.conditions import compile_condition
from objectio.iam.patterns import Lookup, MalformedPolicy


def holds(
    operator: str,
    wanted: list[str] | str,
    found: tuple[str, ...] | str | None,
    *,
    denies: bool = False,
    **more: str,
) -> bool:
    values = {"aws:" + name: (value,) for name, value in more.items()}
    if found is not None:
        values["aws:Key"] = (found,) if isinstance(found, str) else found
    policy_values = [wanted] if isinstance(wanted, str) else wanted
    condition = compile_condition(operator, "AWS:key", policy_values, denies=denies, variables=True)
    return condition.holds(Lookup(lambda: values))


@pytest.mark.parametrize(
    ("operator", "wanted", "found", "expected"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "a*", "a*", True),
        ("StringNotEquals", "a*", "ab", True),
        ("StringNotEquals", "A", "a", True),
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", "a", "a", False),
        ("StringEqualsIgnoreCase", "aB", "Ab", True),
        ("StringNotEqualsIgnoreCase", "aB", "Ab", False),
        ("StringEqualsIgnoreCase", "a*", "ab", False),
        ("StringNotEqualsIgnoreCase", "a*", "ab", True),
        ("StringLike", "A*", "ab", False),
        ("StringNotLike", "A*", "ab", True),
        ("StringLike", "a*", "ab", True),
        ("StringLike", "a?", "abc", False),
        ("StringNotLike", "a*", "ab", False),
        ("StringNotLike", "a*", "ba", True),
        ("stringlike", "a*", "ab", True),
        ("NumericEquals", "10", "10.0", True),
        ("NumericEquals", "10", "x", False),
        ("NumericEquals", "10", "NaN", False),
        ("NumericNotEquals", "10", "11", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThan", "10", "10", False),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "9", "10", True),
        ("NumericGreaterThan", "9", "abc", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("DateEquals", "2026-01-02T00:00:00Z", "2026-01-02T01:00:00+01:00", True),
        ("DateNotEquals", "2026-01-02T00:00:00Z", "2026-01-02T00:00:01Z", True),
        ("DateLessThan", "2026-01-02T00:00:00Z", "2026-01-01T23:59:59Z", True),
        ("DateLessThan", "2026-01-02", "2026-01-02T00:00:00Z", False),
        ("DateGreaterThan", "1767225600", "2026-01-01T00:00:01Z", True),
        ("DateGreaterThanEquals", "2026-01-01T00:00:00Z", "1767225600", True),
        ("DateLessThanEquals", "2026-01-01T00:00:00Z", "soon", False),
        ("Bool", "true", "TRUE", True),
        ("Bool", "true", "false", False),
        ("Bool", "false", "yes", False),
        ("BinaryEquals", "QmlN", "QmlN", True),
        ("BinaryEquals", "QmlN", "QmlO", False),
        ("BinaryEquals", "QmlN", "!", False),
        ("IpAddress", "203.0.113.0/24", "203.0.113.9", True),
        ("IpAddress", "203.0.113.0/24", "203.0.114.9", False),
        ("IpAddress", "203.0.113.7", "203.0.113.7", True),
        ("IpAddress", "203.0.113.7/24", "203.0.113.9", True),
        ("IpAddress", "2001:db8::/32", "2001:db8:1::1", True),
        ("IpAddress", "203.0.113.0/24", "::ffff:203.0.113.9", True),
        ("IpAddress", "0.0.0.0/0", "2001:db8::1", False),
        ("IpAddress", "0.0.0.0/0", "", False),
        ("NotIpAddress", "203.0.113.0/24", "203.0.113.9", False),
        ("NotIpAddress", "203.0.113.0/24", "198.51.100.1", True),
        ("ArnLike", "arn:aws:iam::1*:user/a*", "arn:aws:iam::123:user/ab:c", True),
        ("ArnEquals", "arn:aws:iam::*:user/a", "arn:aws:iam::123:user/a", True),
        ("ArnLike", "arn:aws:*:user/a", "arn:aws:iam::123:user/a", None),
        ("ArnLike", "arn:aws:*:::user/a", "arn:aws:iam::123:user/a", False),
        ("ArnLike", "arn:aws:s3:::b", "b", False),
        ("ArnLike", "*", "anything", True),
        ("ArnLike", "arn:aws:sns:r:1:topic:*", "arn:aws:sns:r:1:topic:sub", True),
        ("ArnLike", "arn:aws:sns:r:1:topic", "arn:aws:sns:r:1:topic:sub", False),
        ("ArnNotLike", "arn:aws:s3:::b", "arn:aws:s3:::c", True),
        ("ArnNotEquals", "arn:aws:s3:::b", "arn:aws:s3:::b", False),
    ],
)
def test_operators(operator: str, wanted: str, found: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(MalformedPolicy):
            holds(operator, wanted, found)
    else:
        assert holds(operator, wanted, found) is expected


def test_several_values_of_the_policy_are_alternatives() -> None:
    assert holds("StringEquals", ["a", "b"], "b")
    assert not holds("StringEquals", ["a", "b"], "c")


def test_several_values_of_a_negated_operator_are_all_excluded() -> None:
    assert not holds("StringNotEquals", ["a", "b"], "b")
    assert holds("StringNotEquals", ["a", "b"], "c")


ABSENT = None
EMPTY: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("operator", "found", "expected"),
    [
        ("StringEquals", ABSENT, False),
        ("StringEquals", EMPTY, False),
        ("StringEquals", ("a", "x"), True),
        ("StringEqualsIfExists", ABSENT, True),
        ("StringEqualsIfExists", "x", False),
        ("StringNotEquals", ABSENT, True),
        ("StringNotEquals", ("a", "x"), False),
        ("StringNotEquals", ("x", "y"), True),
        ("StringNotEqualsIfExists", ABSENT, True),
        ("StringNotEqualsIfExists", "a", False),
        ("ForAllValues:StringEquals", ABSENT, True),
        ("ForAllValues:StringEquals", ("a", "b"), True),
        ("ForAllValues:StringEquals", ("a", "x"), False),
        ("ForAllValues:StringNotEquals", ABSENT, True),
        ("ForAllValues:StringNotEquals", ("x", "y"), True),
        ("ForAllValues:StringNotEquals", ("a", "x"), False),
        ("ForAnyValue:StringEquals", ABSENT, False),
        ("ForAnyValue:StringEquals", EMPTY, False),
        ("ForAnyValue:StringEquals", ("a", "x"), True),
        ("ForAnyValue:StringEquals", ("x", "y"), False),
        ("ForAnyValue:StringNotEquals", ABSENT, False),
        ("ForAnyValue:StringNotEquals", ("a", "x"), True),
        ("ForAnyValue:StringNotEquals", ("a", "b"), False),
        ("ForAnyValue:StringEqualsIfExists", ABSENT, True),
        ("ForAnyValue:StringEqualsIfExists", "x", False),
    ],
)
def test_quantifiers(operator: str, found: tuple[str, ...] | str | None, expected: bool) -> None:
    assert holds(operator, ["a", "b"], found) is expected


def test_null_asks_whether_there_is_a_value() -> None:
    assert holds("Null", "true", ABSENT)
    assert not holds("Null", "true", "x")
    assert holds("Null", "false", "x")
    assert not holds("Null", "False", ABSENT)
    assert holds("Null", ["true", "false"], "x")
    assert holds("Null", "TRUE", ABSENT)


def test_values_may_have_variables() -> None:
    assert holds("StringLike", "${aws:username}/*", "ann/x", username="ann")
    assert not holds("StringLike", "${aws:username}/*", "bob/x", username="ann")
    assert holds("StringEquals", "${aws:username}", "ann", username="ann")
    assert holds(
        "ArnLike", "arn:aws:iam::*:user/${aws:username}", "arn:aws:iam::1:user/ann", username="ann"
    )
    arn = "arn:aws:iam::${aws:account}:user/*"
    assert holds("ArnLike", arn, "arn:aws:iam::1:user/ann", account="1")
    assert not holds("ArnLike", arn, "arn:aws:iam::2:user/ann", account="1")


def test_a_variable_without_a_value_never_lets_in() -> None:
    assert not holds("StringEquals", "${aws:username}", "ann")
    assert not holds("StringNotEquals", "${aws:username}", "ann")
    assert not holds("ForAllValues:StringNotEquals", "${aws:username}", "ann")


def test_a_variable_without_a_value_does_not_fail_to_keep_out() -> None:
    assert holds("StringNotEquals", "${aws:username}", "ann", denies=True)


def test_keys_of_conditions_and_variables_are_known() -> None:
    condition = compile_condition(
        "StringEquals", "s3:ExistingObjectTag/A", ["${aws:UserId}"], denies=False, variables=True
    )
    assert condition.keys == {"s3:existingobjecttag/a", "aws:userid"}


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("StringIs", "a"),
        ("ForSome:StringEquals", "a"),
        ("ForAllValues:", "a"),
        ("IfExists", "a"),
        ("NullIfExists", "true"),
        ("ForAnyValue:Null", "true"),
        ("Null", "maybe"),
        ("NumericEquals", "ten"),
        ("NumericEquals", "Infinity"),
        ("DateEquals", "soon"),
        ("Bool", "1"),
        ("BinaryEquals", "%"),
        ("IpAddress", "300.0.0.0/8"),
        ("ArnLike", "bucket"),
        ("StringLike", "${"),
    ],
)
def test_what_is_not_understood_is_refused(operator: str, value: str) -> None:
    with pytest.raises(MalformedPolicy):
        holds(operator, value, "a")


@pytest.mark.parametrize("key", ["", "prefix", "s3:", "s3: prefix", ":x"])
def test_a_key_has_a_service(key: str) -> None:
    with pytest.raises(MalformedPolicy):
        compile_condition("StringEquals", key, ["a"], denies=False, variables=True)
