"""What `objectio plugin new` writes, looked at; tests/integration/test_plugin_new.py installs and runs it."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from objectio.cli.app import main
from objectio.cli.scaffold import NAME_CHARS_MAX, render, spellings
from objectio.errors import ConfigError
from objectio.plugin.info import PluginStatus
from objectio.plugin.kinds import KINDS
from objectio.plugin.loader import load_plugins

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "examples" / "plugin-minimal"
GUIDE = ROOT / "docs" / "howto" / "write-a-plugin.md"
LONG = "a" * NAME_CHARS_MAX


def write(files, folder):
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_it_offers_a_driver_of_its_kind(kind, tmp_path, monkeypatch):
    files = render(kind, "mine")
    entry, distribution, package = spellings(kind, "mine")
    monkeypatch.syspath_prepend(write(files, tmp_path))
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["name"] == distribution
    assert project["entry-points"]["objectio.plugins"] == {entry: f"{package}.plugin"}
    module = importlib.import_module(f"{package}.plugin")
    plugins = load_plugins(builtin=(module,), search=())
    assert [info.status for info in plugins.infos] == [PluginStatus.OK]
    ((offered, driver),) = plugins.registry.offered_by(plugins.infos[0])
    assert (offered.partition(".")[0], driver.name) == (kind, "mine")
    assert driver.summary


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_speaks_of_what_is_there(kind):
    files = render(kind, "mine")
    readme = files["README.md"]
    assert "$" not in readme
    for path in ("pyproject.toml", f"{spellings(kind, 'mine')[2]}/plugin.py", "tests/test_mine.py"):
        assert f"`{path}`" in readme
        assert path in files
    assert f"`{KINDS[kind].hook}`" in readme
    suite = readme.partition("subclass of the kernel's `")[2].partition("`")[0]
    assert f"({suite}):" in files["tests/test_mine.py"]
    contract = readme.partition("`objectio/abc/")[2].partition(".py`")[0]
    assert importlib.util.find_spec(f"objectio.abc.{contract}") is not None


@pytest.mark.parametrize("name", ["a", "mine", LONG])
def test_linters_find_nothing(name, tmp_path):
    folders = [write(render(kind, name), tmp_path / spellings(kind, name)[0]) for kind in KINDS]
    for command in (("check",), ("format", "--check")):
        # Each by the settings that were written with it.
        found = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *folders],
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_it_imports_what_plugins_may(kind):
    package = spellings(kind, "mine")[2]
    for path, text in render(kind, "mine").items():
        if not path.startswith(package) or not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("objectio."):
                assert re.match(
                    r"objectio\.(abc|model)\.\w+$|objectio\.(errors|limits)$", node.module
                )


def test_the_guide_has_a_row_for_each_kind():
    rows = [
        "| `{}` | `{}_NAME` | {} | `{}` |".format(kind, of.prefix, *words_of(kind))
        for kind, of in sorted(KINDS.items())
    ]
    page = GUIDE.read_text()
    assert [line.strip() for line in page.splitlines() if "_NAME` |" in line] == rows


def words_of(kind):
    """What the plugin is, and the suite that its tests subclass."""
    files = render(kind, "NAME".lower())
    summary = tomllib.loads(files["pyproject.toml"])["project"]["description"].partition(":")[0]
    test = files["tests/test_name.py"]
    suite = re.search(r"^class \w+\((\w+)\):", test[test.rindex("\nclass Test") :], re.M)[1]
    module = re.search(rf"from objectio\.testing\.(\w+) import .*\b{suite}\b", test)[1]
    return summary.replace("/name", "/NAME"), f"{module}.{suite}"


def test_the_example_is_what_is_written():
    files = render("codec", "xor")
    assert files == {path: (EXAMPLE / path).read_text() for path in files}
    tracked = {path.relative_to(EXAMPLE) for path in EXAMPLE.rglob("*.py")}
    assert tracked == {Path(path) for path in files if path.endswith(".py")}


@pytest.mark.parametrize("name", ["", "Ab", "1a", "a-b", "a_b", "a b", "é", "../a", LONG + "a"])
def test_what_is_no_name(name):
    with pytest.raises(ConfigError, match="is no name for a plugin"):
        render("kv", name)


class TestCommand:
    def test_it_writes(self, tmp_path, capsys):
        assert main(["plugin", "new", "kms", "mine", "--directory", str(tmp_path)]) == 0
        folder = tmp_path / "kms_mine"
        files = render("kms", "mine")
        assert {path: (folder / path).read_text() for path in files} == files
        said = capsys.readouterr().out
        assert f"wrote {folder}, of {len(files)} files\n" in said

    def test_what_is_there_is_left_alone(self, tmp_path, capsys):
        (tmp_path / "kms_mine").mkdir()
        assert main(["plugin", "new", "kms", "mine", "--directory", str(tmp_path)]) == 1
        assert "is there already" in capsys.readouterr().err
        assert list((tmp_path / "kms_mine").iterdir()) == []

    @pytest.mark.parametrize(
        ("kind", "name", "title"),
        [("kv", "memory", "key-value engine"), ("filter", "retry", "filter")],
    )
    def test_a_name_that_is_taken(self, tmp_path, capsys, kind, name, title):
        assert main(["plugin", "new", kind, name, "--directory", str(tmp_path)]) == 1
        said = f"the {title} {name} is there already, of objectio: take another name"
        assert said in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_directory_that_is_not_there(self, tmp_path, capsys):
        assert main(["plugin", "new", "kv", "mine", "--directory", str(tmp_path / "a")]) == 1
        assert "No such file or directory" in capsys.readouterr().err

    def test_no_such_kind(self, capsys):
        with pytest.raises(SystemExit) as ended:
            main(["plugin", "new", "engine", "mine"])
        assert ended.value.code == 2
        assert "'codec'" in capsys.readouterr().err
