"""`objectio cluster events`: what happens in a cluster, as it happens.

A server ends each answer after a while, for whoever listens to prove again who that is, and all of them
when it stops. The command asks again by itself, and is told first how everything is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, TextIO

from objectio.cli.cells import Moment, Name
from objectio.cli.client import Client, add_client_arguments, find_endpoint, find_keys
from objectio.cli.command import Command
from objectio.model.units import count_text, size_text

SILENT_SECONDS_MAX: Final = 60.0
"""The server says something each quarter of a minute, if only that it is there."""
_AGAIN_SECONDS: Final = 1.0

Event = Mapping[str, Any]


class ClusterEvents(Command):
    """Follow what happens in the cluster: processes, disks, repair, scrub, moving data, findings.

    The first line says how everything is, and each further one what has changed, until this is
    interrupted (or --count). When the connection is lost it is made anew. `-f json` writes an object in
    each line, with all facts.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "-f", "--format", choices=("text", "json"), default="text", help="text unless told"
        )
        parser.add_argument(
            "--type", action="append", choices=tuple(_TEXTS), metavar="TYPE", help=_TYPES_HELP
        )
        parser.add_argument("--count", type=int, metavar="N", help="end after so many")
        add_client_arguments(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        import json
        import os

        from objectio.errors import ConfigError

        if parsed_args.count is not None and parsed_args.count < 1:
            raise ConfigError("--count N: at least 1")
        keys = find_keys(parsed_args.data, os.environ)
        client = Client(find_endpoint(parsed_args), keys, answer_seconds=SILENT_SECONDS_MAX)
        shown = 0
        for event in self._follow(client):
            if parsed_args.type and event["type"] not in parsed_args.type:
                continue
            line = json.dumps(event) if parsed_args.format == "json" else event_text(event)
            self.app.stdout.write(f"{line}\n")
            self.app.stdout.flush()
            shown += 1
            if shown == parsed_args.count:
                return

    def _follow(self, client: Client) -> Iterator[Event]:
        """Raises what goes wrong with the first answer; after that only what trying again does not
        help."""
        from objectio.errors import Unavailable

        began = lost = False
        while True:
            try:
                lines = while_read(client.lines("/events"), self.app.stdout)
                for event in read_events(lines):
                    began, lost = True, False
                    yield event
            except Unavailable as error:
                if not began:
                    raise
                if not lost:
                    self.app.stderr.write(f"objectio: {error}; trying again\n")
                lost = True
            time.sleep(_AGAIN_SECONDS)


def while_read(lines: Iterable[bytes], out: TextIO) -> Iterator[bytes]:
    """As long as somebody reads `out`: where nothing happens, nothing is written, and nothing else would
    tell that the other end of a pipe is closed. The server says each quarter of a minute that it is there.
    """
    for line in lines:
        if _is_closed(out):
            raise BrokenPipeError
        yield line


def _is_closed(out: TextIO) -> bool:
    import select

    try:
        descriptor = out.fileno()
    except (OSError, ValueError):  # kept in memory
        return False
    poll = select.poll()
    poll.register(descriptor, 0)  # POLLERR is told always: poll(2)
    return any(flags & select.POLLERR for _, flags in poll.poll(0))


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """Of a stream as WHATWG HTML has them (§9.2.6): what stands in `data` is JSON here."""
    import json

    data: list[str] = []
    for line in lines:
        text = line.decode("utf-8", "replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            if name == "data":
                data.append(value.removeprefix(" "))
            continue
        if data:
            event = json.loads("\n".join(data))
            data.clear()
            if event.get("type") in _TEXTS:  # later servers may tell more
                yield event


def event_text(event: Event) -> str:
    """One line."""
    what = _TEXTS[event["type"]](event)
    moment = Moment(event["time_ms"]).human_readable()
    return Name(f"{moment}  {event['type']:<9}  {what}").human_readable()


# Each type in words.


def _state(event: Event) -> str:
    parts = []
    if cluster := event["cluster"]:
        alive = sum(node["alive"] for node in cluster["nodes"])
        parts += [_cluster(cluster), f"epoch {cluster['epoch']}"]
        parts.append(f"{alive} of {count_text(len(cluster['nodes']), 'node')} alive")
    if (disks := event["disks"]) is not None:
        up = sum(disk["state"] == "up" for disk in disks)
        parts.append(f"{up} of {count_text(len(disks), 'disk')} up")
    if (findings := event["findings"]) is not None:
        parts.append(count_text(len(findings), "finding"))
    if event["unknown"]:
        parts.append(_unknown(event))
    return ", ".join(parts)


def _cluster(event: Event) -> str:
    reason = f": {event['reason']}" if event["reason"] else ""
    return f"{event['state']}{reason}"


def _map(event: Event) -> str:
    return f"epoch {event['epoch']}, {event['epoch_before']} before"


def _node(event: Event) -> str:
    before, now = event["before"], event["now"]
    who = f"{event['node']} ({(now or before)['role']})"
    if now is None:
        return f"{who} is gone"
    alive = "is alive" if now["alive"] else "is NOT HEARD OF"
    if before is None:
        return f"{who} came, and {alive}"
    if before["alive"] != now["alive"]:
        return f"{who} {alive}"
    return f"{who} is at {now['address']}, at {before['address']} before"


def _disk(event: Event) -> str:
    before, now = event["before"], event["now"]
    who = f"OSD {event['osd']}"
    if now is None:
        return f"{who} is gone"
    if before is None:
        return f"{who} came: {now['state']}, {now['membership']}, {now['path']}"
    changed = [
        f"{name} {_word(now[name])}, {_word(before[name])} before" for name in event["changed"]
    ]
    return f"{who}: {'; '.join(changed)}"


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in ("", None) else str(value)


def _repair(event: Event) -> str:
    now = event["now"]
    waiting = sum(now["waiting"].values())
    if not waiting and not now["refilling"] and not now["blocked"]:
        return f"nothing waits, {count_text(now['repaired_shards'], 'shard')} made anew"
    parts = [f"{count_text(waiting, 'blob')} waiting"]
    if now["blocked"]:
        parts.append(f"{now['blocked']:,} of them blocked")
    if now["refilling"]:
        parts.append(f"refilling OSD {', '.join(str(osd) for osd in now['refilling'])}")
    return ", ".join([*parts, f"{size_text(now['bytes_left'])} left"])


def _scrub(event: Event) -> str:
    now = event["now"]
    if now["running"]:
        return f"running, {now['progress']:.0%} done"
    if not (last := now["last"]):
        return "not running"
    wrong = ("missing", "corrupt", "stale", "misplaced", "inconsistent", "unrepairable")
    found = [f"{last[name]:,} {name}" for name in wrong if last[name]]
    return f"finished: {count_text(last['blobs'], 'blob')}, {', '.join(found) or 'nothing wrong'}"


def _rebalance(event: Event) -> str:
    now = event["now"]
    left = now["groups_moving"] + now["groups_waiting"]
    spread = "".join(f"; {sentence}" for sentence in now["degraded_spread"])
    if not left:
        return f"nothing moves{spread}"
    return f"{count_text(left, 'group')} to move, {size_text(now['bytes_left'])} left{spread}"


def _findings(event: Event) -> str:
    said = [f"{each['severity'].upper()} {each['what']}" for each in event["new"]]
    said += [f"over: {each['what']}" for each in event["gone"]]
    return "; ".join(said) or count_text(len(event["findings"]), "finding")


def _unknown(event: Event) -> str:
    return f"unknown: {', '.join(event['unknown'])}" if event["unknown"] else "all is known again"


_TEXTS: Final[Mapping[str, Callable[[Event], str]]] = {
    "state": _state,
    "cluster": _cluster,
    "map": _map,
    "node": _node,
    "disk": _disk,
    "repair": _repair,
    "scrub": _scrub,
    "rebalance": _rebalance,
    "findings": _findings,
    "unknown": _unknown,
}
_TYPES_HELP: Final = f"only these: {', '.join(_TEXTS)}; may be repeated"
