"""The `objectio` program: finds the command, runs it, and turns errors into one sentence.

Exit codes are those of `EXIT_CODES`.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.metadata
import io
import logging
import os
import sys
from importlib.metadata import EntryPoint
from typing import Any, Final

from cliff import _argparse
from cliff.app import App
from cliff.command import Command
from cliff.commandmanager import CommandManager
from stevedore.extension import ExtensionManager

from objectio import __version__
from objectio.cli.cells import Name
from objectio.cli.command import one_sentence
from objectio.errors import (
    AccessError,
    ConfigError,
    NotFound,
    ObjectIOError,
    PluginConflict,
    PluginNotFound,
    Unavailable,
)

NAMESPACE: Final = "objectio.cli"
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOT_FOUND: Final = 3
EXIT_DENIED: Final = 4
EXIT_UNAVAILABLE: Final = 5
EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141
EXIT_CODES: Final = {
    0: "done",
    EXIT_FAILED: "failed, or refused by the state of things",
    EXIT_USAGE: "wrong usage or configuration",
    EXIT_NOT_FOUND: "what was asked for is not there",
    EXIT_DENIED: "not allowed",
    EXIT_UNAVAILABLE: "the server cannot be reached, or cannot do it now: try again",
    EXIT_INTERRUPTED: "interrupted",
    EXIT_PIPE_CLOSED: "whoever read the output went away",
}

log = logging.getLogger("objectio")


def main(argv: list[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    return ObjectIOApp().run(sys.argv[1:] if argv is None else argv)


def meta() -> int:
    """`objectio-meta …` is `objectio meta …`; so for the two below."""
    return main(["meta", *sys.argv[1:]])


def osd() -> int:
    return main(["osd", *sys.argv[1:]])


def gateway() -> int:
    return main(["gateway", *sys.argv[1:]])


class UsageError(ObjectIOError):
    """The command line is wrong."""


class Commands(CommandManager):
    """The commands of all entry points, by their exact names, each imported when it is run.

    Cliff's own manager imports every command at each start, forgets the ones whose import fails,
    and runs `node show` for `n s`.
    """

    def load_commands(self, namespace: str) -> None:
        self.group_list.append(namespace)
        self.conflicts: dict[str, list[EntryPoint]] = {}
        installed = importlib.metadata.entry_points()
        for found in installed.select(group=namespace):
            name = found.name.replace("_", " ")
            self.conflicts.setdefault(name, []).append(found)
            self.commands[name] = found
        # Stevedore asks this before its cache file in the user's home, which we do not want written.
        groups = {group: list(installed.select(group=group)) for group in installed.groups}
        ExtensionManager.ENTRY_POINT_CACHE.update(groups)
        ExtensionManager.ENTRY_POINT_CACHE.update({f"{namespace}.{own}": [] for own in OWN})

    def add_command(self, name: str, command_class: Any) -> None:
        """Of cliff's own commands, those that there is no other for."""
        if name == "help":
            from objectio.cli.help import Help

            command_class = Help
        if name not in self.commands:
            super().add_command(name, command_class)

    def find_command(self, argv: list[str]) -> tuple[type[Command], str, list[str]]:
        words = argv[: self._get_last_possible_command_index(argv)]
        for count in range(len(words), 0, -1):
            name = " ".join(words[:count])
            if name in self.commands:
                if count < len(words) and self._is_group(name):
                    break  # `meta stauts` is no argument of `meta`
                return self._load(name), name, argv[count:]
        raise UsageError(self._unknown(words))

    def _is_group(self, name: str) -> bool:
        return any(each.startswith(f"{name} ") for each in self.commands)

    def _load(self, name: str) -> type[Command]:
        rivals = self.conflicts.get(name, [])
        if len(rivals) > 1:
            origins = " and ".join(sorted(_origin(found) for found in rivals))
            raise PluginConflict(
                f"command '{name}' is provided by {origins}: uninstall one of them"
            )
        found = self.commands[name]
        try:
            command: type[Command] = found.load()
        except Exception as error:
            raise ObjectIOError(
                f"command '{name}' of {_origin(found)} cannot be loaded: "
                f"{type(error).__name__}: {error}; repair or uninstall that distribution"
            ) from error
        return command

    def _unknown(self, words: list[str]) -> str:
        if not words:
            return "there is no command in front of the options; see `objectio --help`"
        said = " ".join(words)
        inside = sorted(name for name in self.commands if name.startswith(f"{words[0]} "))
        close = [] if len(words) == 1 and inside else list(self.commands)
        close = difflib.get_close_matches(said, close, n=3) or inside
        hint = f"did you mean {' or '.join(close)}?" if close else "see `objectio --help`"
        return f"'{said}' is not a command; {hint}"


OWN: Final = ("help", "complete")
_EPILOG: Final = (
    "Commands that ask a server take -e URL, in front or behind (or OBJECTIO_ENDPOINT). `objectio COMMAND "
    "--help` says the rest."
)


def _endpoint_behind(argv: list[str]) -> list[str]:
    """`-e URL disk list` as `disk list -e URL`: people say first where, then what. Only the commands
    that ask a server know the option."""
    for count, word in enumerate(argv):
        if word in ("-e", "--endpoint") and count + 1 < len(argv):
            return [*argv[:count], *argv[count + 2 :], "--endpoint", argv[count + 1]]
        if word.startswith("--endpoint="):
            return [*argv[:count], *argv[count + 1 :], word]
        if not word.startswith("-"):
            break
    return argv


class ObjectIOApp(App):
    """Cliff's application, without its interactive shell."""

    NAME = "objectio"

    def __init__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(
                stream, io.TextIOWrapper
            ):  # names may be in more than a terminal's letters
                stream.reconfigure(errors="backslashreplace")
        super().__init__(
            description="Software-defined storage: serve it, look at it, change it.",
            version=__version__,
            command_manager=Commands(NAMESPACE),
            deferred_help=True,
        )

    def build_option_parser(
        self,
        description: str | None,
        version: str | None,
        argparse_kwargs: dict[str, Any] | None = None,
    ) -> argparse.ArgumentParser:
        parser = _argparse.ArgumentParser(
            prog=self.NAME,
            description=description,
            epilog=_EPILOG,
            add_help=False,
            allow_abbrev=False,
        )
        parser.add_argument("--version", action="version", version=f"{self.NAME} {version}")
        one_sentence(parser)
        loudness = parser.add_mutually_exclusive_group()
        loudness.add_argument(
            "-v", "--verbose", action="count", default=0, help="say more; -vv says everything"
        )
        loudness.add_argument("-q", "--quiet", action="store_true", help="say errors only")
        parser.add_argument("--debug", action="store_true", help="show tracebacks")
        parser.add_argument(
            "-h", "--help", action="store_true", help="show help, also of a command"
        )
        return parser

    def run(self, argv: list[str]) -> int:
        self.options, remainder = self.parser.parse_known_args(_endpoint_behind(argv))
        handler = self._log_to_stderr()
        try:
            if sys.stdout is None:
                raise ObjectIOError("the standard output is closed: send it to a file or /dev/null")
            if not remainder:
                self._show_commands()
                return 0
            return self.run_subcommand(remainder)
        except KeyboardInterrupt:
            return EXIT_INTERRUPTED
        except BrokenPipeError:
            # What is left in the buffer cannot be written either: keep the interpreter from trying.
            sys.stdout = None
            return EXIT_PIPE_CLOSED
        except Exception as error:
            return self._report(error)
        finally:
            logging.getLogger().removeHandler(handler)

    def run_subcommand(self, argv: list[str]) -> int:
        factory, name, arguments = self.command_manager.find_command(argv)
        command = factory(self, self.options, cmd_name=name)
        parser = command.get_parser(f"{self.NAME} {name}")
        if self.options.help:
            self.stdout.write(parser.format_help())
            return 0
        result = command.run(parser.parse_args(arguments))
        self.stdout.flush()
        return result

    def _show_commands(self) -> None:
        from objectio.cli.help import show_commands

        show_commands(self)
        self.stdout.flush()

    def _report(self, error: Exception) -> int:
        if self.options.debug:
            log.error("traceback", exc_info=error)
        sentence = str(error) or type(error).__name__
        if isinstance(error, UnicodeEncodeError):
            sentence = "what was given is not text in UTF-8"
        if isinstance(error, OSError) and error.strerror:
            sentence = error.strerror
            if error.filename is not None:
                sentence = f"{error.filename}: {sentence}"
            elif error.errno is not None and sentence == os.strerror(error.errno):
                sentence = f"writing: {sentence}"  # else it says what failed
        if not isinstance(error, ObjectIOError | OSError | ValueError):
            sentence = f"internal error: {type(error).__name__}: {error}"
            if not self.options.debug:
                sentence += "; --debug shows where"
        sentence = Name(" ".join(sentence.split())).human_readable()
        self.stderr.write(f"{self.NAME}: {sentence}\n")
        return _exit_code(error)

    def _log_to_stderr(self) -> logging.Handler:
        level = logging.ERROR if self.options.quiet else logging.WARNING
        if self.options.verbose:
            level = logging.INFO if self.options.verbose == 1 else logging.DEBUG
        handler = logging.StreamHandler(self.stderr)
        handler.setLevel(level)
        handler.setFormatter(logging.Formatter(f"{self.NAME}: %(levelname)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        root.setLevel(min(level, root.level))
        return handler


def _exit_code(error: Exception) -> int:
    if isinstance(error, UsageError | ConfigError | PluginNotFound | UnicodeEncodeError):
        return EXIT_USAGE
    if isinstance(error, NotFound):
        return EXIT_NOT_FOUND
    if isinstance(error, Unavailable):
        return EXIT_UNAVAILABLE
    return EXIT_DENIED if isinstance(error, AccessError) else EXIT_FAILED


def _origin(found: Any) -> str:
    dist = getattr(found, "dist", None)
    return f"{dist.name} {dist.version}" if dist else str(found.value)
