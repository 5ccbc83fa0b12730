"""Wheels: what people install. Built from the tree, put into clean environments, and run there."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONSTRAINTS = ROOT / "constraints.txt"
PROJECTS = {
    project["name"]: project
    for path in sorted(ROOT.glob("plugins/*/pyproject.toml"))
    for project in [tomllib.loads(path.read_text())["project"]]
}
KERNEL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = KERNEL["optional-dependencies"]
[COMMAND] = re.findall(r"^pip (install .*dist.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
README_EXTRAS = tuple(re.search(r"\[(.*)\]", COMMAND)[1].split(","))


def run(*command, **more):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def distribution_of(extra):
    return re.split(r"[^\w-]", EXTRAS[extra][0])[0]


def entry_points_of(extras):
    """The plugins that these extras bring, as the projects of the plugins say."""
    return {
        name: module.partition(".")[0]
        for extra in extras
        for name, module in PROJECTS[distribution_of(extra)]["entry-points"][
            "objectio.plugins"
        ].items()
    }


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """Every wheel, as `make wheels` builds them."""
    directory = tmp_path_factory.mktemp("wheels") / "dist"
    projects = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"),
        *("--no-deps", "--no-build-isolation", "--wheel-dir", directory),
        *projects,
    )
    assert len(list(directory.glob("*.whl"))) == len(projects)
    return directory


class Installed:
    """A clean environment with `objectio[extras]` from the wheels, by the README's command."""

    def __init__(self, directory, dist, extras):
        self.directory = directory
        venv.create(directory, with_pip=False, symlinks=True)
        command = shlex.split(COMMAND)
        assert command.pop().startswith("objectio[")
        wanted = f"objectio[{','.join(extras)}]" if extras else "objectio"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        run(
            *(*pip, "--python", directory, *command, wanted),
            cwd=dist.parent,
            env={**os.environ, "PIP_CONSTRAINT": str(CONSTRAINTS)},
        )

    def check_origin(self, dist):
        """Whatever has our name came from our wheels, and nothing of that name from an index."""
        infos = list(self.directory.glob("lib/python*/site-packages/objectio*.dist-info"))
        assert infos
        for info in infos:
            [wheel] = dist.glob(f"{info.name.removesuffix('.dist-info')}-*.whl")
            listed = zipfile.ZipFile(wheel).read(f"{info.name}/RECORD").decode().splitlines()
            ours = {line for line in listed if line.partition("/")[0] != info.name}
            assert ours
            assert ours <= set((info / "RECORD").read_text().splitlines()), f"{info} is not ours"

    def objectio(self, *arguments):
        env = {key: value for key, value in os.environ.items() if not key.startswith("OBJECTIO_")}
        # Elsewhere than in the repository, so that nothing is imported from the tree.
        return run(self.directory / "bin/objectio", *arguments, cwd=self.directory, env=env)


@pytest.mark.parametrize(
    "extras",
    [
        (),
        README_EXTRAS,
        ("crush", "leveldb", "prometheus", "zfec"),
    ],
    ids=lambda extras: "+".join(extras) or "kernel",
)
def test_an_installation_holds_exactly_what_its_extras_name(tmp_path, dist, extras):
    if missing := [extra for extra in extras if distribution_of(extra) not in PROJECTS]:
        pytest.skip(f"no such plugin in this tree: {missing}")
    installed = Installed(tmp_path / "venv", dist, extras)
    installed.check_origin(dist)
    rows = json.loads(installed.objectio("plugin", "list", "-f", "json"))
    kernel = [row for row in rows if row["distribution"] == "objectio"]
    expected = entry_points_of(extras)
    assert kernel
    assert {row["plugin"] for row in rows if row not in kernel} == set(expected)
    assert {(row["plugin"], row["status"]) for row in rows if row["status"] != "ok"} == set()
    assert "nothing wrong" in installed.objectio("config", "check")
    for package in ["objectio", *expected.values()]:
        [found] = (tmp_path / "venv").glob(f"lib/python*/site-packages/{package}/py.typed")
        assert found.is_file()


def test_wheels_hold_the_package_and_nothing_else(dist):
    for wheel in dist.glob("*.whl"):
        names = zipfile.ZipFile(wheel).namelist()
        package = wheel.name.partition("-")[0]
        tops = {name.partition("/")[0] for name in names}
        assert {top for top in tops if not top.endswith(".dist-info")} == {package}
        assert not [name for name in names if "/tests/" in name or name.endswith(".pyc")]
