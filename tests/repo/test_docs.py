"""Documented means tested: a hook, key, setting or command that is not described breaks a test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

from objectio import hookspecs
from objectio.config.fields import fields_of
from objectio.config.load import SECTIONS
from objectio.config.schema import DRIVER_TABLES, DiskSection

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs/reference"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))
LABELS = ["Called", "Arguments", "Returns", "Ordering", "Failure", "Since"]


def load_generator():
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs/generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = load_generator()
HOOKS = [hook for module in hookspecs.ALL for hook in generate.hooks_of(module)]


@pytest.mark.parametrize("page", generate.PAGES)
def test_generated_pages_are_fresh(page):
    assert (REFERENCE / page).read_text() == generate.PAGES[page](), "stale: run `make docs`"


@pytest.mark.parametrize(("name", "hook"), HOOKS, ids=[name for name, _ in HOOKS])
def test_hooks_are_described_to_one_form(name, hook):
    text = (REFERENCE / "hooks.md").read_text()
    assert f"## `{name}`" in text
    assert generate.signature_of(hook) in text
    doc = hook.__doc__.splitlines()
    assert doc[0].endswith(".")
    labels = [line.strip().partition(":")[0] for line in doc[1:]]
    assert [label for label in labels if label in LABELS] == LABELS


def test_every_hook_is_there():
    assert len(HOOKS) >= 11


@pytest.mark.parametrize("section", SECTIONS)
def test_every_key_is_described(section):
    page = (REFERENCE / "config.md").read_text()
    _, _, rest = page.partition(f"## `[{section}]`")
    described = rest.partition("\n## ")[0]
    structs = [SECTIONS[section], *([DiskSection] if section == "osd" else [])]
    for struct in structs:
        for field in fields_of(struct):
            assert field.description, f"{section}.{field.name} has no description"
            assert f"`{field.name}`" in described or f"[[{section}.{field.name}]]" in described


def test_every_command_is_described():
    page = (REFERENCE / "cli.md").read_text()
    commands = generate.kernel_commands()
    assert "serve" in [name for name, _ in commands]
    for name, command in commands:
        assert f"## `objectio {name}`" in page
        assert command.__doc__, f"{name} has no docstring"


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_a_plugins_readme_describes_each_setting(folder):
    from importlib import import_module

    from objectio.plugin.loader import load_plugins

    module = import_module(f"objectio_{folder.name}.plugin")
    readme = (folder / "README.md").read_text()
    for kind, driver in load_plugins(builtin=(module,), search=()).registry.drivers():
        sections = [section for section, of in DRIVER_TABLES.items() if of == kind]
        for field in fields_of(driver.config):
            assert sections, f"nowhere to set {driver.name}.{field.name}"
            assert f"`{field.name}`" in readme or f"\n{field.name} =" in readme, field.name
