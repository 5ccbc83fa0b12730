"""Documented means tested: a hook, key, setting or command that is not described breaks a test."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from objectio import hookspecs
from objectio.config.fields import fields_of
from objectio.config.load import SECTIONS
from objectio.config.schema import DRIVER_TABLES, DiskSection

ROOT = Path(__file__).resolve().parents[2]
WRITE_A_PLUGIN = ROOT / "docs/howto/write-a-plugin.md"
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


# Pages that people wrote.

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EVERY_PLUGIN = {
    re.match(r"objectio-([\w-]+)", wanted)[1].replace("-", "_")
    for extra, (wanted, *_) in PROJECT["optional-dependencies"].items()
    if wanted.startswith("objectio-")
}
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
OTHERS = [*sorted(ROOT.glob("plugins/*/README.md")), *sorted(ROOT.glob("examples/*/README.md"))]
every_page = pytest.mark.parametrize(
    "page", PAGES + OTHERS, ids=lambda page: str(page.relative_to(ROOT))
)


def blocks(page, language):
    """Fenced blocks, also those inside of lists."""
    pattern = rf"^( *)```{language}\n(.*?)^\1```$"
    found = re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for _, block in found]


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        if found.is_relative_to(ROOT / "plugins") and found.parent not in PLUGINS:
            assert found.parent.name in EVERY_PLUGIN, target
            continue  # the folder of a plugin may be deleted
        assert found.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text(), re.MULTILINE)
            assert anchor in [slug(heading) for heading in headings], target


def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")


@every_page
def test_settings_on_the_page_are_settings(page, tmp_path):
    from objectio import builtin
    from objectio.config import check_drivers, load_config
    from objectio.plugin.loader import load_plugins

    for block in blocks(page, "toml"):
        path = tmp_path / "objectio.toml"
        path.write_text(block)
        config = load_config(path, env={})
        if {folder.name for folder in PLUGINS} >= EVERY_PLUGIN:
            check_drivers(config, load_plugins(builtin=(builtin,)).registry)


def test_plugins_on_the_page_are_plugins():
    from types import ModuleType

    from objectio.hookspecs.lifecycle import EventKind, NodeEvent
    from objectio.plugin.info import PluginStatus
    from objectio.plugin.loader import load_plugins

    codes = blocks(WRITE_A_PLUGIN, "python")[:2]
    listener, placement = ModuleType("page_listener"), ModuleType("page_placement")
    for module, code in zip((listener, placement), codes, strict=True):
        exec(compile(code, module.__name__, "exec"), vars(module))
    plugins = load_plugins(builtin=(listener, placement), search=())
    assert [info.status for info in plugins.infos] == [PluginStatus.OK] * 2
    assert plugins.registry.names("placement") == ["inturn"]
    heard = []
    listener.log = type("Log", (), {"critical": lambda self, *words: heard.append(words)})()
    plugins.emit(NodeEvent(EventKind.OSD_UP, "n1", {"osd": 3, "blank": False}))
    assert heard == []
    plugins.emit(NodeEvent(EventKind.OSD_DOWN, "n1", {"osd": 3, "reason": "it is gone"}))
    assert heard[0][1:] == (3, "n1", "it is gone")


def test_what_the_page_calls_secret_is_hidden():
    from types import ModuleType

    from objectio import hookimpl
    from objectio.abc.driver import Driver
    from objectio.config import Config, dump_toml
    from objectio.config.shown import without_secrets
    from objectio.plugin.loader import load_plugins

    page, plugin = ModuleType("page"), ModuleType("plugin")
    code = blocks(WRITE_A_PLUGIN, "python")[2]
    exec(compile(code, "page", "exec", dont_inherit=True), vars(page))
    driver = Driver(name="engine", config=page.Config, open=lambda config, context: None)
    plugin.objectio_register_kv = hookimpl(lambda: [driver])
    registry = load_plugins(builtin=(plugin,), search=()).registry
    table = {"url": "https://example.com/canary", "password": "canary"}
    text = dump_toml(without_secrets(Config(driver_tables={"kv": {"engine": table}}), registry))
    assert 'url = "https://example.com/…"' in text
    assert "canary" not in text


def test_the_glossary_is_sorted():
    rows = re.findall(
        r"^\| \*\*(.+?)\*\*", (ROOT / "docs/explanation/glossary.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 30
    assert rows == sorted(rows, key=str.lower)


@pytest.mark.parametrize("folder", PLUGINS, ids=lambda folder: folder.name)
def test_the_readme_lists_every_plugin(folder):
    driver = folder.name.partition("_")[2]
    row = f"| `{driver}` | [{folder.name}](plugins/{folder.name}/README.md) |"
    assert row in (ROOT / "README.md").read_text()
