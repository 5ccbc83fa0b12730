"""Who imports whom: the kernel's layers, what plugins may touch, and what stays unloaded."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
PLUGIN_PACKAGES = [f"objectio_{folder.name}" for folder in PLUGINS]

# What a plugin's code may import of the kernel, and what its tests may beside.
# Beside the contracts: authors of front ends need signatures, those of codecs the families' matrices
# and the field that they are over.
FOR_PLUGINS = (
    "abc",
    "model",
    "errors",
    "limits",
    "iam",
    "cli.command",
    "erasure.matrix",
    "erasure.gf256",
)
FOR_PLUGIN_TESTS = ("testing",)


def imports_of(path):
    """(line, dotted name) of every import in the file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                yield node.lineno, f"{node.module}.{alias.name}"


def sources(folder):
    return [path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]


def test_each_layer_imports_only_those_below_it():
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


def test_the_kernel_imports_no_plugin():
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sources(ROOT / "objectio")
        for line, name in imports_of(path)
        if name.startswith("objectio_")
    ]
    assert found == []


def test_the_kernel_names_no_plugin():
    # Not by import and not in a string either: its extras in pyproject.toml are the only place.
    names = [re.escape(one) for one in (*PLUGIN_PACKAGES, *(f.name for f in PLUGINS))]
    names += [name.replace("_", "-") for name in names]
    pattern = re.compile(rf"\b(?:{'|'.join(names)})\b")
    found = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sources(ROOT / "objectio")
        for match in pattern.finditer(path.read_text())
    ]
    assert not PLUGINS or found == []


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_imports_only_contracts_and_never_another_plugin(folder):
    own = f"objectio_{folder.name}"
    wrong = []
    for path in sources(folder):
        allowed = FOR_PLUGINS
        if path.is_relative_to(folder / "tests"):
            allowed += FOR_PLUGIN_TESTS
        for line, name in imports_of(path):
            package, _, inside = name.partition(".")
            if package == "objectio":
                fine = inside == "hookimpl" or (inside + ".").startswith(
                    tuple(f"{module}." for module in allowed)
                )
            else:
                fine = package == own or not package.startswith("objectio_")
            if not fine:
                wrong.append(f"{path.relative_to(ROOT)}:{line}: {name}")
    assert wrong == []


def run(program, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked or name.startswith(prefix):
            raise ImportError(f"{name} is blocked by the test")
"""

KERNEL_ALONE = (
    BLOCK
    + """
blocked, prefix = set(), "objectio_"
sys.meta_path.insert(0, Block())
import importlib, pkgutil, objectio
for module in pkgutil.walk_packages(objectio.__path__, "objectio."):
    if not module.name.startswith("objectio.testing"):
        importlib.import_module(module.name)
from objectio import builtin
from objectio.plugin.info import PluginStatus
from objectio.plugin.loader import load_plugins
plugins = load_plugins(builtin=(builtin,), search=())
assert {info.distribution for info in plugins.infos} == {"objectio"}, plugins.infos
assert {info.status for info in plugins.infos} == {PluginStatus.OK}, plugins.infos
for kind in ("kv", "codec", "placement", "shardstore"):
    plugins.registry.best(kind)
from objectio.config import Config, check_drivers
check_drivers(Config(), plugins.registry)
"""
)


def test_the_kernel_works_without_any_plugin():
    done = run(KERNEL_ALONE)
    assert done.returncode == 0, done.stderr


def libraries_of(folder):
    """The import names of what a plugin depends on beyond what the kernel itself brings."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^\w-]", one)[0].lower() for one in project["dependencies"]} - {"objectio"}
    names = {"lmdb", "xxhash"}  # the kernel brings these, and opens them late too
    for module, distributions in importlib.metadata.packages_distributions().items():
        if wanted & {name.lower() for name in distributions}:
            names.add(module)
    return sorted(names)


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugin_is_discovered_without_its_libraries(folder):
    program = (
        BLOCK
        + """
import importlib
blocked, prefix = set(sys.argv[2:]), "nothing:"
sys.meta_path.insert(0, Block())
module = importlib.import_module(sys.argv[1])
from objectio.plugin.loader import load_plugins
[info] = load_plugins(builtin=(module,), search=()).infos
assert info.error is None, info.error
assert info.drivers, "it offers nothing"
"""
    )
    done = run(program, f"objectio_{folder.name}.plugin", *libraries_of(folder))
    assert done.returncode == 0, done.stderr
