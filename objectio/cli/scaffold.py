"""What `objectio plugin new` writes: a whole plugin of one kind, from the templates beside this module.

A template is a file of the plugin in which `$name` and its like stand for what differs
(`string.Template`). `about.toml` of a kind has the words for its README.
"""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from importlib.resources.abc import Traversable
from string import Template
from typing import Final

from objectio import __version__
from objectio.errors import ConfigError
from objectio.plugin.kinds import KINDS, Kind

NAME_CHARS_MAX: Final = 24
_NAME: Final = re.compile(rf"[a-z][a-z0-9]{{0,{NAME_CHARS_MAX - 1}}}")
_TEMPLATE: Final = ".tmpl"


def render(kind: str, name: str) -> dict[str, str]:
    """The files of a plugin of this kind whose driver has this name, by their paths in it."""
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name for a plugin: at most {NAME_CHARS_MAX} of a-z and 0-9, a letter first"
        )
    root = files("objectio.cli") / "templates"
    values = _values(KINDS[kind], name)
    for key, text in tomllib.loads((root / kind / "about.toml").read_text("utf-8")).items():
        values[key] = Template(text.strip("\n")).substitute(values)
    package = values["package"]
    made = {f"{package}/__init__.py": f'"""{_sentence(values["summary"])}"""\n'}
    made[f"{package}/py.typed"] = ""
    for source in (*_templates(root / "common"), *_templates(root / kind)):
        stem = source.name.removesuffix(_TEMPLATE)
        path = {
            "gitignore": ".gitignore",
            "test.py": f"tests/test_{name}.py",
        }.get(stem, f"{package}/{stem}" if stem.endswith(".py") else stem)
        made[path] = Template(source.read_text("utf-8")).substitute(values)
    return made


def spellings(kind: str, name: str) -> tuple[str, str, str]:
    """The entry point, which is also the folder's name; the distribution; the package."""
    prefix = KINDS[kind].prefix
    return f"{prefix}_{name}", f"objectio-{prefix}-{name}", f"objectio_{prefix}_{name}"


def _values(kind: Kind, name: str) -> dict[str, str]:
    entry, distribution, package = spellings(kind.name, name)
    year, month, *_ = __version__.split(".")
    return {
        "name": name,
        "entry": entry,
        "distribution": distribution,
        "package": package,
        "hook": kind.hook,
        "release": f"{year}.{month}",
        "next_release": str(int(year) + 1),
    }


def _templates(directory: Traversable) -> list[Traversable]:
    return [each for each in directory.iterdir() if each.name.endswith(_TEMPLATE)]


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}: a plugin for ObjectIO."
