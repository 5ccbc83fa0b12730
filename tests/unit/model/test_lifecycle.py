"""When lifecycle rules say that something is due, against what S3's user guide says."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from objectio.model.bucket import (
    Lifecycle,
    LifecycleFilter,
    LifecycleRule,
    decode_document,
    encode_document,
)
from objectio.model.lifecycle import LifecycleRules, abort_headers, due_ms, expiration_header

DAY_MS = 86_400_000


def ms(*when):
    return int(datetime(*when, tzinfo=UTC).timestamp() * 1000)


def rules(*each, **more):
    return LifecycleRules(Lifecycle(rules=each), **more)


def rule(id="r", prefix="", *, enabled=True, tags=None, larger=None, smaller=None, **more):
    chosen = LifecycleFilter(
        prefix=prefix, tags=tags or {}, size_greater_than=larger, size_less_than=smaller
    )
    return LifecycleRule(id=id, enabled=enabled, filter=chosen, **more)


class TestWhen:
    def test_as_the_user_guide_says(self):
        """Created 2014-01-15 10:30 UTC, 3 days: 2014-01-19 00:00 UTC."""
        assert due_ms(ms(2014, 1, 15, 10, 30), 3) == ms(2014, 1, 19)

    def test_at_midnight_a_whole_day_more(self):
        assert due_ms(ms(2014, 1, 15), 1) == ms(2014, 1, 17)

    @given(st.integers(0, 4_000_000_000_000), st.integers(1, 3650))
    def test_never_early_and_less_than_a_day_late(self, since_ms, days):
        at_ms = due_ms(since_ms, days)
        assert at_ms % DAY_MS == 0
        assert 0 < at_ms - since_ms - days * DAY_MS <= DAY_MS

    def test_a_shortened_day_is_not_rounded(self):
        found = rules(rule(expire_days=3), day_seconds=10).current(b"k", 1, {}, 1_234)
        assert found == (31_234, "r")


class TestWhat:
    def test_nothing_without_rules(self):
        none = rules()
        assert none.current(b"k", 1, {}, 0) is None
        assert none.version_prefixes == none.upload_prefixes == []

    def test_a_disabled_rule_does_nothing(self):
        assert rules(rule(enabled=False, expire_days=1)).current(b"k", 1, {}, 0) is None

    def test_the_first_that_is_due(self):
        some = rules(rule("a", expire_days=9), rule("b", "x/", expire_days=2), rule("c"))
        assert some.current(b"x/1", 1, {}, 0).rule_id == "b"
        assert some.current(b"y", 1, {}, 0).rule_id == "a"

    def test_a_date_is_for_what_comes_later_too(self):
        some = rules(rule(expire_date_ms=ms(2015, 1, 1)))
        assert some.current(b"k", 1, {}, ms(2020, 1, 1)).at_ms == ms(2015, 1, 1)

    @pytest.mark.parametrize(
        ("key", "size", "tags", "chosen"),
        [
            (b"logs/a", 11, {"a": "1", "b": "2"}, True),
            (b"log", 11, {"a": "1", "b": "2"}, False),
            (b"logs/a", 10, {"a": "1", "b": "2"}, False),
            (b"logs/a", 20, {"a": "1", "b": "2"}, False),
            (b"logs/a", 11, {"a": "1"}, False),
            (b"logs/a", 11, {"a": "1", "b": "3"}, False),
            (b"logs/a", 11, {"a": "1", "b": "2", "c": "3"}, True),
        ],
    )
    def test_all_that_a_filter_says_must_hold(self, key, size, tags, chosen):
        """Sizes are exclusive bounds."""
        one = rule(prefix="logs/", tags={"a": "1", "b": "2"}, larger=10, smaller=20, expire_days=1)
        assert (rules(one).current(key, size, tags, 0) is not None) == chosen
        noncurrent = rule(
            prefix="logs/", tags={"a": "1", "b": "2"}, larger=10, smaller=20, noncurrent_days=1
        )
        assert (rules(noncurrent).noncurrent(key, size, tags, 0, 0) is not None) == chosen

    def test_newer_noncurrent_versions_are_kept(self):
        some = rules(rule(noncurrent_days=1, newer_noncurrent_versions=2))
        due = [some.noncurrent(b"k", 1, {}, 0, newer) is not None for newer in range(4)]
        assert due == [False, False, True, True]
        assert some.current(b"k", 1, {}, 0) is None

    def test_a_lone_marker_goes_at_once_or_when_its_rule_is_due(self):
        assert rules(rule(expire_delete_marker=True)).lone_marker(b"k", 5) == (5, "r")
        assert rules(rule(expire_days=1), day_seconds=1).lone_marker(b"k", 5) == (1_005, "r")
        assert rules(rule(noncurrent_days=1)).lone_marker(b"k", 5) is None

    def test_what_has_neither_tags_nor_size_is_chosen_by_prefix_alone(self):
        for more in ({"tags": {"a": "1"}}, {"larger": 0}, {"smaller": 9}):
            one = rule(expire_days=1, noncurrent_days=1, abort_upload_days=1, **more)
            some = rules(one)
            assert some.lone_marker(b"k", 0) is None
            assert some.noncurrent(b"k", 0, {}, 0, 0, marker=True) is None
            assert some.upload(b"k", 0) is None
            assert some.upload_prefixes == []

    def test_uploads(self):
        some = rules(rule(prefix="a/", abort_upload_days=1), day_seconds=1)
        assert some.upload(b"a/k", 7) == (1_007, "r")
        assert some.upload(b"b/k", 7) is None
        assert some.upload_prefixes == [b"a/"]
        assert some.version_prefixes == []

    def test_prefixes_to_walk_do_not_overlap(self):
        some = rules(
            rule(prefix="a/b", expire_days=1),
            rule(prefix="a/", noncurrent_days=1),
            rule(prefix="c", expire_delete_marker=True),
            rule(prefix="d", abort_upload_days=1),
        )
        assert some.version_prefixes == [b"a/", b"c"]


class TestHeaders:
    def test_expiration(self):
        one = Lifecycle(rules=(rule("my rule/1", expire_days=3),))
        header = expiration_header(one, b"k", 1, {}, ms(2014, 1, 15, 10, 30))
        assert header == ('expiry-date="Sun, 19 Jan 2014 00:00:00 GMT", rule-id="my%20rule%2F1"')

    def test_none_that_is_due_none_to_say(self):
        one = Lifecycle(rules=(rule(noncurrent_days=3),))
        assert expiration_header(one, b"k", 1, {}, 0) is None
        assert abort_headers(one, b"k", 0) is None

    def test_abort(self):
        one = Lifecycle(rules=(rule("r", abort_upload_days=1),))
        assert abort_headers(one, b"k", ms(2014, 1, 15)) == ("Fri, 17 Jan 2014 00:00:00 GMT", "r")

    def test_as_kept(self):
        one = Lifecycle(rules=(rule("r", "p", tags={"a": "b"}, expire_days=1, extra={"x": 1}),))
        assert decode_document(encode_document(one), Lifecycle) == one
