"""`objectio doctor`: one page of what is wrong, what it means and what to do."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Any, Final

from objectio.cli.client import add_client_arguments, connect
from objectio.cli.command import Lister, Row

if TYPE_CHECKING:
    from objectio.abc.admin import Finding

_COLUMNS: Final = ("severity", "what", "meaning", "action")
_EXIT_CODES: Final = {"info": 0, "warning": 1, "critical": 2}
_WIDTH: Final = 96


class Doctor(Lister):
    """Say what is wrong with a store, what that means for the data, and what to do.

    Exits with 0 if nothing is wrong or mends itself, 1 if somebody should do something, and 2 if data
    is lost, cannot be had, or would be with one more failure; with 4 or 5 if the server cannot be asked.
    `-f json` and the other formats give the findings as rows.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        add_client_arguments(parser)
        return parser

    def run(self, parsed_args: argparse.Namespace) -> int:
        self._code = 0
        super().run(parsed_args)
        return self._code

    def take_action(self, parsed_args: argparse.Namespace) -> tuple[tuple[str, ...], list[Row]]:
        import msgspec

        from objectio.abc.admin import Finding, ScrubStatus

        client = connect(parsed_args)
        findings = msgspec.convert(client.get("/doctor")["findings"], list[Finding])
        self._code = max((_EXIT_CODES[each.severity] for each in findings), default=0)
        if parsed_args.formatter == "table":
            scrub = msgspec.convert(client.get("/scrub"), ScrubStatus)
            self.app.stdout.write(page(findings, scrub))
        return _COLUMNS, [tuple(getattr(each, name) for name in _COLUMNS) for each in findings]

    def produce_output(self, parsed_args: argparse.Namespace, column_names: Any, data: Any) -> int:
        if parsed_args.formatter == "table":
            return 0
        code: int = super().produce_output(parsed_args, column_names, data)
        return code


def page(findings: list[Finding], scrub: Any) -> str:
    import time

    from objectio.store.doctor import basis

    parts = [_finding(each) for each in findings]
    if not any(each.severity != "info" for each in findings):
        parts.insert(0, "Nothing is wrong.")
        parts.append(_wrap(basis(scrub, int(time.time() * 1000))))
    return "\n\n".join(parts) + "\n"


def _finding(each: Finding) -> str:
    head = _wrap(f"{each.severity.upper()}  {each.what}")
    return "\n".join((head, _wrap(each.meaning, "  means   "), _wrap(each.action, "  to do   ")))


def _wrap(text: str, label: str = "") -> str:
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=label,
        subsequent_indent=" " * len(label),
        break_long_words=False,  # commands and paths are copied
        break_on_hyphens=False,
    )
