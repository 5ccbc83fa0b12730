"""One plugin, four spellings, from one rule; and what each plugin's folder must hold."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

import objectio
from objectio.plugin.kinds import KINDS
from objectio.plugin.loader import GROUP

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
EXAMPLES = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))
PYPROJECT_LINES_MAX = 40

every_plugin = pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)


class Spellings(NamedTuple):
    entry_point: str
    distribution: str
    package: str
    driver: str


def spellings(name):
    """The rule: `ec_isal` → objectio-ec-isal, objectio_ec_isal, isal."""
    prefix, _, driver = name.partition("_")
    assert prefix in {kind.prefix for kind in KINDS.values()}, f"{prefix} is no kind of plugin"
    return Spellings(name, f"objectio-{name.replace('_', '-')}", f"objectio_{name}", driver)


def project_of(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text())


@pytest.mark.parametrize("folder", PLUGINS + EXAMPLES, ids=lambda folder: folder.name)
def test_one_plugin_has_four_spellings_by_one_rule(folder):
    project = project_of(folder)["project"]
    entry_points = project["entry-points"][GROUP]
    assert len(entry_points) == 1
    [(name, module)] = entry_points.items()
    if folder in PLUGINS:
        assert name == folder.name
    rule = spellings(name)
    assert project["name"] == rule.distribution
    assert module == f"{rule.package}.plugin"
    assert (folder / rule.package / "plugin.py").is_file()


@every_plugin
def test_the_kernel_has_an_extra_of_the_drivers_name(folder):
    extras = project_of(ROOT)["project"]["optional-dependencies"]
    rule = spellings(folder.name)
    assert extras[rule.driver] == [f"{rule.distribution}>=26.11,<27"]
    [everything] = extras["all"]
    assert rule.driver in re.split(r"[\[\],]", everything)


@every_plugin
def test_a_plugin_provides_a_driver_of_its_name(folder):
    from importlib import import_module

    from objectio.plugin.loader import load_plugins

    rule = spellings(folder.name)
    [info] = load_plugins(builtin=(import_module(f"{rule.package}.plugin"),), search=()).infos
    assert rule.driver in [name for _, name in info.drivers]


@every_plugin
def test_a_plugins_folder_is_whole(folder):
    rule = spellings(folder.name)
    assert len((folder / "README.md").read_text()) > 200
    assert (folder / rule.package / "py.typed").is_file()
    assert (folder / rule.package / "__init__.py").is_file()
    assert list((folder / "tests").glob("test_*.py"))
    assert not list((folder / "tests").rglob("__init__.py"))
    assert len((folder / "pyproject.toml").read_text().splitlines()) <= PYPROJECT_LINES_MAX


@every_plugin
def test_a_plugins_metadata_agrees_with_the_kernels(folder):
    project, kernel = project_of(folder)["project"], project_of(ROOT)["project"]
    for field in ("license", "requires-python", "version"):
        assert project[field] == kernel[field]
    assert "objectio>=26.11,<27" in project["dependencies"]


def test_no_folder_of_plugins_lacks_a_project():
    folders = {path for path in ROOT.glob("plugins/*/") if path.name != "__pycache__"}
    assert folders == set(PLUGINS)


def test_the_version_is_said_once():
    assert project_of(ROOT)["project"]["version"] == objectio.__version__


@pytest.mark.parametrize("name", ["", "isal", "codec_isal"])
def test_the_rule_refuses_other_names(name):
    with pytest.raises(AssertionError):
        spellings(name)
