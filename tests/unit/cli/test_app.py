"""The frame of the command line: finding commands, exit codes, one-sentence errors."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import cliff.command
import pytest

import objectio
from objectio.cli.app import main
from objectio.cli.cells import Size
from objectio.cli.command import Command, Lister, ShowOne
from objectio.errors import AccessDenied, ConfigError, NotEmpty, NotFound, Unavailable
from objectio.testing.brokenplugins import install

HERE = "objectio_test_commands"


class Fine(Command):
    """Do what it should.

    And say so.
    """

    def get_parser(self, prog_name):
        parser = super().get_parser(prog_name)
        parser.add_argument("--count", type=int, default=1)
        return parser

    def take_action(self, parsed_args):
        self.app.stdout.write("fine " * parsed_args.count)


class Fails(Command):
    def take_action(self, parsed_args):
        raise NotEmpty("bucket 'x' is not empty")


class Misses(Command):
    def take_action(self, parsed_args):
        raise NotFound("bucket 'x' does not exist")


class Denied(Command):
    def take_action(self, parsed_args):
        raise AccessDenied("the server refuses")


class Waits(Command):
    def take_action(self, parsed_args):
        raise Unavailable("cannot reach the server")


class Misconfigured(Command):
    def take_action(self, parsed_args):
        raise ConfigError("gateway.lisen: unknown key")


class Crashes(Command):
    def take_action(self, parsed_args):
        return {}["key"]


class Interrupted(Command):
    def take_action(self, parsed_args):
        raise KeyboardInterrupt


class Pipe(Command):
    def take_action(self, parsed_args):
        raise BrokenPipeError


class Code(Command):
    def take_action(self, parsed_args):
        return 7


class Rows(Lister):
    def take_action(self, parsed_args):
        sizes = {"b": 10, "d": None, "a": 9, "c": 2}
        return ("name", "size_bytes"), [(name, Size(size)) for name, size in sizes.items()]


class OneThing(ShowOne):
    def take_action(self, parsed_args):
        return ("name", "size_bytes"), ("a", Size(9))


class NoUtf8(Command):
    def take_action(self, parsed_args):
        "\udcff".encode()


class Escapes(Command):
    def take_action(self, parsed_args):
        raise NotFound("there is no bucket \x1b[2J")


class FullDisk(Command):
    def take_action(self, parsed_args):
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def commands(tmp_path, monkeypatch):
    """A distribution that brings the commands above, and some that cannot be loaded."""
    kinds = (Fine, Fails, Misses, Denied, Waits, Misconfigured, Crashes, Interrupted, Pipe, Code)
    kinds += (Rows, OneThing, NoUtf8, Escapes, FullDisk)
    entries = {f"demo_{kind.__name__.lower()}": f"{HERE}:{kind.__name__}" for kind in kinds}
    entries["demo_unimportable"] = "objectio.testing.brokenplugins.import_error:Nothing"
    entries["demo_twice"] = f"{HERE}:Fine"
    install(tmp_path, "demo-commands", entries, group="objectio.cli")
    install(tmp_path, "demo-rival", {"demo_twice": f"{HERE}:Fails"}, group="objectio.cli")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, HERE, sys.modules[__name__])


def test_a_command_runs_and_may_give_an_exit_code(capsys):
    assert main(["demo", "fine", "--count", "2"]) == 0
    assert capsys.readouterr().out == "fine fine "
    assert main(["demo", "code"]) == 7


@pytest.mark.parametrize(
    ("command", "code", "says"),
    [
        ("fails", 1, "objectio: bucket 'x' is not empty\n"),
        ("misses", 3, "objectio: bucket 'x' does not exist\n"),
        ("denied", 4, "objectio: the server refuses\n"),
        ("waits", 5, "objectio: cannot reach the server\n"),
        ("misconfigured", 2, "objectio: gateway.lisen: unknown key\n"),
        ("crashes", 1, "objectio: internal error: KeyError: 'key'; --debug shows where\n"),
        ("interrupted", 130, ""),
        ("noutf8", 2, "objectio: what was given is not text in UTF-8\n"),
        ("escapes", 3, "objectio: there is no bucket \\x1b[2J\n"),
        ("fulldisk", 1, "objectio: writing: No space left on device\n"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(capsys, command, code, says):
    assert main(["demo", command]) == code
    assert capsys.readouterr().err == says


def test_rows_are_sorted_as_asked(capsys):
    """What nobody knows stands behind what is known."""
    names = ["demo", "rows", "-f", "value", "-c", "name"]
    assert main(names) == 0
    assert capsys.readouterr().out.split() == ["b", "d", "a", "c"]
    assert main([*names, "--sort-column", "name"]) == 0
    assert capsys.readouterr().out.split() == ["a", "b", "c", "d"]
    assert main([*names, "--sort-column", "size_bytes"]) == 0
    assert capsys.readouterr().out.split() == ["c", "a", "b", "d"]


@pytest.mark.parametrize("command", ["rows", "onething"])
def test_columns_that_are_not_there(capsys, command):
    assert main(["demo", command, "-f", "value", "-c", "name", "-c", "size"]) == 2
    said = capsys.readouterr()
    assert said.err == "objectio: there is no column 'size'; there are name, size_bytes\n"
    assert said.out == ""
    assert main(["demo", command, "-f", "value", "-c", "NAME", "-c", "Size Bytes"]) == 0


def test_what_the_terminal_has_no_letters_for():
    program = "import sys; from objectio.cli.app import ObjectIOApp; ObjectIOApp(); "
    program += r"sys.stdout.write('\u00e4\udcff')"
    env = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "\\xe4\\udcff")


def test_a_closed_output_is_told():
    words = "import sys; from objectio.cli.app import main; sys.exit(main())"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" config sample >&-', sys.executable, words],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("objectio: the standard output is closed")


def test_debug_shows_the_traceback(capsys):
    assert main(["demo", "crashes", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert 'return {}["key"]' in err


def test_a_reader_that_goes_away_is_no_error(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # restored afterwards: main gives it up
    assert main(["demo", "pipe"]) == 141
    assert capsys.readouterr().err == ""


def test_a_command_that_cannot_be_imported_is_reported(capsys):
    assert main(["demo", "unimportable"]) == 1
    err = capsys.readouterr().err
    assert "demo-commands 1.0" in err
    assert "libbroken.so.1" in err
    assert main(["--help"]) == 0
    assert "  demo unimportable " in capsys.readouterr().out


def test_a_command_of_two_distributions_is_an_error_that_names_both(capsys):
    assert main(["demo", "twice"]) == 1
    err = capsys.readouterr().err
    assert "demo-commands 1.0 and demo-rival 1.0" in err


@pytest.mark.parametrize("argv", [["demo", "fin"], ["d", "f"], ["demo"], ["nothing"]])
def test_commands_match_exactly(capsys, argv):
    assert main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "is not a command" in err


def test_a_misspelt_command_gets_a_suggestion(capsys):
    assert main(["demo", "fien"]) == 2
    assert "did you mean demo fine" in capsys.readouterr().err


def test_options_are_not_guessed_either(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["demo", "fine", "--cou", "2"])
    assert ended.value.code == 2
    assert "--cou" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [
        ["-e", "http://h:1", "disk", "list", "-f", "json"],
        ["--endpoint", "http://h:1", "disk", "list", "-f", "json"],
        ["--endpoint=http://h:1", "disk", "list", "-f", "json"],
        ["-v", "-e", "http://h:1", "disk", "list", "-f", "json"],
        ["disk", "list", "-e", "http://h:1", "-f", "json"],
        ["disk", "list", "-f", "json", "--endpoint=http://h:1"],
    ],
)
def test_where_may_be_said_before_what(monkeypatch, argv):
    from objectio.cli import disk

    asked = []
    monkeypatch.setattr(disk, "connect", lambda args: asked.append(args.endpoint) or 1 / 0)
    assert main(argv) == 1
    assert asked == ["http://h:1"]


def test_where_is_nothing_to_who_asks_nobody(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["-e", "http://h:1", "config", "sample"])
    assert ended.value.code == 2
    said = "unrecognized arguments: --endpoint http://h:1; see `objectio config sample --help`"
    assert capsys.readouterr().err == f"objectio: {said}\n"


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"objectio {objectio.__version__}\n"


@pytest.mark.parametrize("argv", [[], ["--help"], ["help"]])
def test_help_lists_every_command(capsys, argv):
    assert main(argv) == 0
    out = capsys.readouterr().out
    for command in ("plugin list", "config check", "demo fine"):
        assert f"  {command}" in out
    assert "Do what it should" in out
    listed = out.partition("Commands:\n")[2].splitlines()
    columns = {line.rindex("  ") for line in listed}
    assert len(columns) == 1, "the words about commands begin in one column"


@pytest.mark.parametrize(
    "argv", [["demo", "fine", "--help"], ["help", "demo", "fine"], ["-h", "demo", "fine"]]
)
def test_help_of_one_command_says_who_provides_it(capsys, argv):
    assert main(argv) == 0
    out = capsys.readouterr().out
    assert "usage: objectio demo fine" in out
    assert "--count" in out
    assert "demo-commands" in out


def test_every_command_of_the_kernel_loads():
    found = importlib.metadata.distribution("objectio").entry_points.select(group="objectio.cli")
    assert found
    for command in found:
        assert issubclass(command.load(), cliff.command.Command)


def test_a_process_starts_quickly_and_writes_no_cache(tmp_path):
    program = "import sys; from objectio.cli.app import main; "
    program += "code = main(['user', 'list', '-e', 'http://127.0.0.1:1']); assert code == 5; "
    program += "print([m for m in ('cmd2', 'uvicorn', 'lmdb', 'asyncio') if m in sys.modules])"
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "cache").exists()
