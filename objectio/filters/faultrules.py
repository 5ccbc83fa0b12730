"""Which call fails, when and how: the rules of fault injection, and the file that holds them.

A rules file is TOML, and may be written while the server runs; it is read again when it changes:

    [[rules]]
    operation = "submit"      # every write of a shard …
    device = "osd3"           # … of this device
    error = "EIO"

The counters of a rule begin anew when the file changes. An absent file has no rules.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import msgspec

from objectio.errors import ConfigError

REREAD_SECONDS: Final = 0.05
"""How long a change of the file may stay unseen."""

Operation = Literal[
    "*", "read", "scan", "check", "submit", "delete", "sync", "get", "get_many", "commit", "stats"
]
Error = Literal["", "EIO", "EROFS", "ENOSPC", "corrupt"]


class FaultRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault. A call is matched by every rule that fits; their delays add up, and the first
    error is the one that happens.

    Of the calls that fit, `skip` pass, then every `every`-th one is hit, with `probability`, until
    `count` were.
    """

    operation: Annotated[
        Operation,
        msgspec.Meta(
            description='What is hit. Of a shard store: "read", "scan", "check", "submit", "delete",'
            ' "sync"; of a key-value store: "get", "get_many", "scan", "commit", "stats"; "*": all.'
        ),
    ] = "*"
    device: Annotated[
        str, msgspec.Meta(description='Only this device: "osd3", or its id; empty: all.')
    ] = ""
    error: Annotated[
        Error,
        msgspec.Meta(
            description='"EIO": an I/O error; "EROFS": writes fail as on a disk that went read-only;'
            ' "ENOSPC": writes find the device full; "corrupt": reads fail their checksum;'
            ' "": none, only the delay.'
        ),
    ] = ""
    delay_ms: Annotated[float, msgspec.Meta(ge=0, description="How long the call hangs first.")] = 0
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    skip: Annotated[int, msgspec.Meta(ge=0)] = 0
    count: Annotated[int, msgspec.Meta(ge=0, description="0: no end.")] = 0


class FaultRules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The contents of a rules file."""

    rules: tuple[FaultRule, ...] = ()


class FaultConfig(FaultRules, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the filter `fault`. `rules` hold all the time, those of the file as long as they
    are there."""

    path: Annotated[
        str,
        msgspec.Meta(description="A rules file, read again whenever it changes; may be absent."),
    ] = ""
    seed: Annotated[int, msgspec.Meta(description="The same seed gives the same faults.")] = 0


class Verdict(NamedTuple):
    """What happens to one call."""

    delay_seconds: float = 0.0
    error: Error = ""


PASS: Final = Verdict()

# What an error can happen to. "*" stands for those of these that a rule's error is possible for.
_POSSIBLE: Final[dict[str, frozenset[str]]] = {
    "EROFS": frozenset({"submit", "delete", "sync", "commit"}),
    "ENOSPC": frozenset({"submit", "commit"}),
    "corrupt": frozenset({"read", "get", "get_many", "scan"}),
}


class _Active:
    """A rule and its counters."""

    def __init__(self, rule: FaultRule, seed: str) -> None:
        self.rule = rule
        self._random = random.Random(seed)
        self._seen = 0
        self._hits = 0

    def fits(self, operation: str, names: Iterable[str]) -> bool:
        rule = self.rule
        if rule.device and rule.device not in names:
            return False
        if rule.operation == "*":
            return operation in _POSSIBLE.get(rule.error, (operation,))
        return rule.operation == operation

    def hit(self) -> bool:
        rule = self.rule
        self._seen += 1
        if rule.count and self._hits >= rule.count:
            return False
        after = self._seen - rule.skip
        if after <= 0 or after % rule.every:
            return False
        if rule.probability < 1 and self._random.random() >= rule.probability:
            return False
        self._hits += 1
        return True


class FaultPlan:
    """Answers for each call of one driver what happens to it. May be used from several threads."""

    def __init__(
        self, config: FaultConfig, names: Sequence[str], log: logging.Logger | None = None
    ) -> None:
        """`names` are those by which a rule may mean this driver; the first one seeds, too."""
        self._config = config
        self._names = tuple(names)
        self._log = log or logging.getLogger("objectio.filters")
        self._lock = threading.Lock()
        self._path = Path(config.path) if config.path else None
        self._stamp: tuple[int, ...] | None = None
        self._looked = time.monotonic()
        _check(config.rules, "the settings of the filter fault")
        self._fixed = self._activate(config.rules, "settings")
        self._read: list[_Active] = []
        if self._path is not None:
            self._stamp = _stamp(self._path)
            self._read = self._activate(_load(self._path), "file")

    def decide(self, operation: str) -> Verdict:
        """Count this call and say what happens to it."""
        with self._lock:
            self._reread()
            delay, error = 0.0, PASS.error
            for active in (*self._fixed, *self._read):
                if active.fits(operation, self._names) and active.hit():
                    delay += active.rule.delay_ms / 1000
                    error = error or active.rule.error
        if error:
            self._log.info("fault: %s of %s gets %s", operation, self._names[0], error)
        return Verdict(delay, error)

    def expects(self, operation: str) -> bool:
        """Whether some rule fits, without counting a call."""
        with self._lock:
            self._reread()
            rules = (*self._fixed, *self._read)
            return any(active.fits(operation, self._names) for active in rules)

    def holds(self, operation: str, error: str) -> bool:
        """Whether a rule still gives this error to this operation."""
        with self._lock:
            self._reread()
            return any(
                active.rule.error == error and active.fits(operation, self._names)
                for active in (*self._fixed, *self._read)
            )

    def _activate(self, rules: Iterable[FaultRule], source: str) -> list[_Active]:
        seed = f"{self._config.seed}:{self._names[0]}:{source}"
        return [_Active(rule, f"{seed}:{i}") for i, rule in enumerate(rules)]

    def _reread(self) -> None:
        now = time.monotonic()
        if self._path is None or now - self._looked < REREAD_SECONDS:
            return
        self._looked = now
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._read = self._activate(_load(self._path), "file")
        except ConfigError as error:
            self._log.error("%s; the rules before it stay", error)


def write_rules(path: Path, *rules: FaultRule) -> None:
    """Replace a rules file in one step, so that no reader sees half of it."""
    fresh = path.with_name(f"{path.name}.new")
    fields = (msgspec.to_builtins(rule) for rule in rules)
    lines = (
        "[[rules]]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in each.items())
        for each in fields
    )
    fresh.write_text("\n".join(lines))
    fresh.replace(path)


def _toml(value: str | float) -> str:
    return msgspec.json.encode(value).decode()  # of strings and numbers, JSON's form is TOML's too


def _stamp(path: Path) -> tuple[int, ...] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return (status.st_mtime_ns, status.st_size, status.st_ino)


def _load(path: Path) -> tuple[FaultRule, ...]:
    try:
        rules = msgspec.toml.decode(path.read_bytes(), type=FaultRules).rules
    except FileNotFoundError:
        return ()
    except (msgspec.MsgspecError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"fault rules in {path}: {error}") from error
    _check(rules, str(path))
    return rules


def _check(rules: Iterable[FaultRule], where: str) -> None:
    for rule in rules:
        possible = _POSSIBLE.get(rule.error)
        if possible and rule.operation != "*" and rule.operation not in possible:
            raise ConfigError(
                f'{where}: error "{rule.error}" cannot happen to "{rule.operation}", only to '
                + ", ".join(sorted(possible))
            )
        if not rule.error and not rule.delay_ms:
            raise ConfigError(f"{where}: a rule needs an error or a delay_ms")
