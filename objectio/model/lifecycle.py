"""What lifecycle rules mean for a version, an upload or a delete marker: when it is due.

Days are counted as S3 does (S3 user guide, "Lifecycle configuration elements", "How S3 calculates how
long an object has been noncurrent"): the days are added to the time, and the sum is rounded up to the
next midnight UTC. Where a day is shortened, for tests, nothing is rounded.

Of several rules that apply, the one that is due first counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple
from urllib.parse import quote

from objectio.model.bucket import Lifecycle, LifecycleFilter, LifecycleRule

DAY_SECONDS: Final = 86_400
_DAY_MS: Final = DAY_SECONDS * 1000


class Due(NamedTuple):
    """When, in milliseconds since 1970, and by which rule."""

    at_ms: int
    rule_id: str


class LifecycleRules:
    """The enabled rules of a bucket. All times are milliseconds since 1970."""

    def __init__(self, lifecycle: Lifecycle, *, day_seconds: float = DAY_SECONDS) -> None:
        self._day_ms = int(day_seconds * 1000)
        self._rules = [_Rule(rule) for rule in lifecycle.rules if rule.enabled]

    @property
    def version_prefixes(self) -> list[bytes]:
        """Under these is every key of which a version may ever be due; none is part of another."""
        return _disjoint(each.prefix for each in self._rules if each.has_versions)

    @property
    def upload_prefixes(self) -> list[bytes]:
        return _disjoint(each.prefix for each in self._rules if each.has_uploads)

    def current(
        self, key: bytes, size: int, tags: Mapping[str, str], modified_ms: int
    ) -> Due | None:
        """A current version that is no delete marker."""
        return _first(
            self._expires(each.rule, modified_ms)
            for each in self._rules
            if each.matches(key, size, tags)
        )

    def noncurrent(
        self,
        key: bytes,
        size: int,
        tags: Mapping[str, str],
        since_ms: int,
        newer: int,
        *,
        marker: bool = False,
    ) -> Due | None:
        """A version that is noncurrent since `since_ms` and has `newer` noncurrent ones, which are
        no delete markers, above it. A `marker` has neither size nor tags."""
        return _first(
            Due(self._after(since_ms, each.rule.noncurrent_days), each.rule.id)
            for each in self._rules
            if each.rule.noncurrent_days is not None
            and newer >= each.rule.newer_noncurrent_versions
            and (each.matches_marker(key) if marker else each.matches(key, size, tags))
        )

    def lone_marker(self, key: bytes, modified_ms: int) -> Due | None:
        """A delete marker that is all that is left of a key."""
        return _first(
            Due(modified_ms, each.rule.id)
            if each.rule.expire_delete_marker
            else self._expires(each.rule, modified_ms)
            for each in self._rules
            if each.matches_marker(key)
        )

    def upload(self, key: bytes, initiated_ms: int) -> Due | None:
        return _first(
            Due(self._after(initiated_ms, each.rule.abort_upload_days), each.rule.id)
            for each in self._rules
            if each.rule.abort_upload_days is not None and each.matches_upload(key)
        )

    def _expires(self, rule: LifecycleRule, modified_ms: int) -> Due | None:
        if rule.expire_days is not None:
            return Due(self._after(modified_ms, rule.expire_days), rule.id)
        if rule.expire_date_ms is not None:
            return Due(rule.expire_date_ms, rule.id)
        return None

    def _after(self, since_ms: int, days: int) -> int:
        return due_ms(since_ms, days, self._day_ms)


class _Rule:
    __slots__ = ("_filter", "_plain", "prefix", "rule")

    def __init__(self, rule: LifecycleRule) -> None:
        self.rule = rule
        self.prefix = rule.filter.prefix.encode()
        self._filter = rule.filter
        self._plain = is_prefix_only(rule.filter)

    @property
    def has_versions(self) -> bool:
        rule = self.rule
        days = (rule.expire_days, rule.expire_date_ms, rule.noncurrent_days)
        return rule.expire_delete_marker or any(each is not None for each in days)

    @property
    def has_uploads(self) -> bool:
        return self.rule.abort_upload_days is not None and self._plain

    def matches(self, key: bytes, size: int, tags: Mapping[str, str]) -> bool:
        if not key.startswith(self.prefix):
            return False
        return self._plain or _fits(self._filter, size, tags)

    def matches_marker(self, key: bytes) -> bool:
        return self._plain and key.startswith(self.prefix)

    matches_upload = matches_marker


def is_prefix_only(filter: LifecycleFilter) -> bool:
    """What has neither tags nor a size, uploads and delete markers, only such a filter can choose."""
    return not filter.tags and filter.size_greater_than is None and filter.size_less_than is None


def _fits(filter: LifecycleFilter, size: int, tags: Mapping[str, str]) -> bool:
    if filter.size_greater_than is not None and size <= filter.size_greater_than:
        return False
    if filter.size_less_than is not None and size >= filter.size_less_than:
        return False
    return all(tags.get(name) == value for name, value in filter.tags.items())


def due_ms(since_ms: int, days: int, day_ms: int = _DAY_MS) -> int:
    """`days` after `since_ms`, at the midnight UTC that follows."""
    at_ms = since_ms + days * day_ms
    return at_ms if day_ms != _DAY_MS else at_ms - at_ms % _DAY_MS + _DAY_MS


def expiration_header(
    lifecycle: Lifecycle, key: bytes, size: int, tags: Mapping[str, str], modified_ms: int
) -> str | None:
    """The value of `x-amz-expiration` for a current version, or None. It speaks of real days, also
    where they are shortened for tests."""
    due = LifecycleRules(lifecycle).current(key, size, tags, modified_ms)
    if due is None:
        return None
    date = formatdate(due.at_ms // 1000, usegmt=True)
    return f'expiry-date="{date}", rule-id="{quote(due.rule_id, safe="")}"'


def abort_headers(lifecycle: Lifecycle, key: bytes, initiated_ms: int) -> tuple[str, str] | None:
    """The values of `x-amz-abort-date` and `x-amz-abort-rule-id` for an upload, or None."""
    due = LifecycleRules(lifecycle).upload(key, initiated_ms)
    if due is None:
        return None
    return formatdate(due.at_ms // 1000, usegmt=True), quote(due.rule_id, safe="")


def _first(dues: Iterator[Due | None]) -> Due | None:
    return min((due for due in dues if due is not None), default=None)


def _disjoint(prefixes: Iterator[bytes]) -> list[bytes]:
    kept: list[bytes] = []
    for prefix in sorted(set(prefixes)):
        if not kept or not prefix.startswith(kept[-1]):
            kept.append(prefix)
    return kept
