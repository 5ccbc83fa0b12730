"""Tables of drivers are checked against the Structs of the drivers."""

from __future__ import annotations

import types
from typing import Annotated

import msgspec
import pytest

from objectio import hookimpl
from objectio.abc.driver import Driver, NoConfig
from objectio.config import Config, check_drivers, load_config
from objectio.config.drivers import named_drivers
from objectio.errors import ConfigError, PluginLoadFailed, PluginNotFound
from objectio.plugin.loader import load_plugins
from objectio.testing.brokenplugins import install


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    map_size_bytes: Annotated[int, msgspec.Meta(ge=1, description="Room for keys.")] = 1024
    sync: bool = True


def driver(name, config=NoConfig):
    return Driver(name=name, config=config, open=lambda config, context: None)


ENGINE = driver("engine", EngineConfig)


@pytest.fixture
def site(tmp_path):
    return tmp_path / "site"


@pytest.fixture
def registry(site):
    module = types.ModuleType("kernel")
    offers = {
        "kv": [ENGINE, driver("other")],
        "shardstores": [driver("log")],
        "kms": [driver("local")],
        "roles": [driver(name) for name in ("osd", "meta", "gateway")],
    }
    for plural, drivers in offers.items():
        hook = f"objectio_register_{plural}"
        setattr(module, hook, hookimpl(lambda drivers=drivers: drivers, specname=hook))

    install(site, "broken", {"kv_broken": "objectio.testing.brokenplugins.import_error"})
    return load_plugins(builtin=[module], search=[str(site)]).registry


def config(tmp_path, text):
    path = tmp_path / "objectio.toml"
    path.write_text(text)
    return load_config(path, env={})


def test_a_drivers_table_is_decoded_by_its_struct(tmp_path, registry):
    loaded = config(tmp_path, "[kv]\ndriver = 'engine'\n[kv.engine]\nmap_size_bytes = 7\n")
    check_drivers(loaded, registry)
    assert loaded.driver_settings("kv", ENGINE) == EngineConfig(map_size_bytes=7)
    assert Config().driver_settings("kv", ENGINE) == EngineConfig()


@pytest.mark.parametrize("chosen", ["engine", "other", ""])
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("map_size = 7", "kv.engine.map_size: unknown key; did you mean kv.engine.map_size_bytes?"),
        ("map_size_bytes = 0", "kv.engine.map_size_bytes = 0: must be a whole number, at least 1"),
        ("sync = 1", "kv.engine.sync = 1: must be true or false"),
    ],
)
def test_a_wrong_table_of_an_installed_driver_is_refused(tmp_path, registry, chosen, line, says):
    loaded = config(tmp_path, f"[kv]\ndriver = '{chosen}'\n[kv.engine]\n{line}\n")
    with pytest.raises(ConfigError) as raised:
        check_drivers(loaded, registry)
    assert says in str(raised.value)
    assert "objectio.toml" in str(raised.value)


def test_a_table_of_no_driver_is_refused(tmp_path, registry):
    with pytest.raises(ConfigError, match=r"kv.engin: unknown kv driver; did you mean kv.engine\?"):
        check_drivers(config(tmp_path, "[kv.engin]\n"), registry)


def test_a_table_of_a_broken_plugin_is_passed_over_unless_it_is_named(tmp_path, registry):
    check_drivers(config(tmp_path, "[kv.broken]\nx = 1\n"), registry)
    with pytest.raises(PluginLoadFailed, match="libbroken"):
        check_drivers(config(tmp_path, "[kv]\ndriver = 'broken'\n[kv.broken]\nx = 1\n"), registry)


@pytest.mark.parametrize(
    "line",
    [
        "[kv]\ndriver = 'gone'",
        "[osd]\ndriver = 'gone'",
        "[pool]\ncodec = 'gone'",
        "[pool]\nplacement = 'gone'",
        "[gateway]\napis = ['gone']",
        "[metrics]\nexporter = 'gone'",
        "[node]\nroles = ['gone']",
    ],
)
def test_every_key_that_names_a_driver_is_checked(tmp_path, registry, line):
    check_drivers(Config(), registry)
    loaded = config(tmp_path, line + "\n")
    assert "gone" in [name for _, name in named_drivers(loaded)]
    with pytest.raises(PluginNotFound, match="gone"):
        check_drivers(loaded, registry)
