"""Loading plugins: each way in which one can be wrong, named by the configuration and not."""

from __future__ import annotations

import dataclasses
import logging
import types

import pytest

from objectio import hookimpl
from objectio.abc.driver import Driver, NoConfig
from objectio.errors import (
    PluginConflict,
    PluginIncompatible,
    PluginLoadFailed,
    PluginNotFound,
    PluginTimeout,
)
from objectio.hookspecs.lifecycle import EventKind, NodeEvent
from objectio.plugin.info import PluginStatus
from objectio.plugin.loader import load_plugins
from objectio.testing import brokenplugins
from objectio.testing.brokenplugins import healthy, install

HERE = "objectio.testing.brokenplugins"

# module, what its error is, what the message must say
BROKEN = [
    ("import_error", PluginLoadFailed, "libbroken.so.1"),
    ("exits", PluginLoadFailed, "SystemExit"),
    ("hanging_import", PluginTimeout, "importing objectio.testing.brokenplugins.hanging_import"),
    ("hanging_hook", PluginTimeout, "objectio_register_kv"),
    ("raising_hook", PluginLoadFailed, "no licence key"),
    ("misspelt_hook", PluginLoadFailed, "did you mean objectio_register_codecs"),
    ("wrong_argument", PluginLoadFailed, "config"),
    ("no_hookimpl", PluginLoadFailed, "objectio_register_kv has no @hookimpl"),
    ("junk", PluginLoadFailed, "'not a driver'"),
    ("wrong_api", PluginIncompatible, "version 2"),
    ("absent_module", PluginLoadFailed, "No module named"),
]


@pytest.fixture
def site(tmp_path):
    install(tmp_path, "good-kv-healthy", {"kv_healthy": f"{HERE}.healthy"})
    yield tmp_path
    brokenplugins.release.set()
    brokenplugins.release.clear()


def load(site, **more):
    return load_plugins(search=[str(site)], timeout_seconds=0.2, **more)


def row(plugins, name):
    [info] = [info for info in plugins.infos if info.name == name]
    return info


@pytest.mark.parametrize(("module", "error", "says"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_plugin_that_nobody_names_is_a_row_and_a_warning(
    site, caplog, module, error, says
):
    install(site, f"bad-kv-{module}", {f"kv_{module}": f"{HERE}.{module}"}, version="2.5")
    plugins = load(site)
    info = row(plugins, f"kv_{module}")
    assert info.status is PluginStatus.BROKEN
    assert isinstance(info.error, error)
    assert says in str(info.error)
    assert (info.distribution, info.version) == (f"bad-kv-{module}", "2.5")
    assert info.drivers == ()
    assert f"bad-kv-{module}" in caplog.text
    # The others are untouched.
    assert row(plugins, "kv_healthy").drivers == (("kv", "healthy"),)
    assert plugins.registry.best("kv").name == "healthy"
    assert plugins.registry.names("kv") == ["healthy"]


@pytest.mark.parametrize(("module", "error", "says"), BROKEN, ids=[case[0] for case in BROKEN])
def test_a_broken_plugin_that_the_configuration_names_raises_its_own_error(
    site, module, error, says
):
    install(site, f"bad-kv-{module}", {f"kv_{module}": f"{HERE}.{module}"})
    plugins = load(site)
    with pytest.raises(error, match="kv") as raised:
        plugins.registry.get("kv", module)
    assert says in str(raised.value)


def test_the_original_exception_is_kept_as_the_cause(site):
    install(site, "bad-kv-import-error", {"kv_import_error": f"{HERE}.import_error"})
    with pytest.raises(PluginLoadFailed, match="repair or upgrade bad-kv-import-error") as raised:
        load(site).registry.get("kv", "import_error")
    assert isinstance(raised.value.__cause__, ImportError)


def test_two_plugins_with_one_driver_name_are_an_error_when_it_is_needed(site, caplog):
    install(site, "dist-one", {"kv_one": f"{HERE}.duplicate_one"})
    install(site, "dist-two", {"kv_two": f"{HERE}.duplicate_two"})
    plugins = load(site)
    for name in ("kv_one", "kv_two"):
        assert row(plugins, name).status is PluginStatus.BROKEN
        assert isinstance(row(plugins, name).error, PluginConflict)
    assert "dist-one" in caplog.text
    assert "dist-two" in caplog.text
    assert plugins.registry.names("kv") == ["healthy"]
    assert plugins.registry.best("kv").name == "healthy"
    with pytest.raises(PluginConflict, match=r"dist-one.* and .*dist-two"):
        plugins.registry.get("kv", "twin")


def test_a_conflict_ends_when_one_of_the_two_is_disabled(site):
    install(site, "dist-one", {"kv_one": f"{HERE}.duplicate_one"})
    install(site, "dist-two", {"kv_two": f"{HERE}.duplicate_two"})
    plugins = load(site, disabled=["kv_two"])
    assert plugins.registry.get("kv", "twin").name == "twin"
    assert row(plugins, "kv_one").status is PluginStatus.OK


def test_two_distributions_may_use_one_entry_point_name(site):
    install(site, "dist-one", {"kv_twin": f"{HERE}.duplicate_one"})
    install(site, "dist-two", {"kv_twin": f"{HERE}.duplicate_two"})
    plugins = load(site)
    with pytest.raises(PluginConflict):
        plugins.registry.get("kv", "twin")
    rows = [info for info in plugins.infos if info.name == "kv_twin"]
    assert {info.distribution for info in rows} == {"dist-one", "dist-two"}


def test_best_does_not_fall_back_from_a_faulty_driver_to_a_lesser_one(site):
    # A store must not be opened with another engine because the usual one was upgraded.
    builtin = types.ModuleType("rival")
    twin = Driver(name="healthy", config=NoConfig, open=lambda config, context: 2)
    lesser = Driver(name="lesser", config=NoConfig, open=lambda config, context: 2)
    builtin.objectio_register_kv = hookimpl(lambda: [twin, lesser], specname="objectio_register_kv")
    with pytest.raises(PluginConflict):
        load(site, builtin=[builtin]).registry.best("kv")


def test_a_disabled_plugin_is_not_imported(site):
    install(site, "bad-kv-exits", {"kv_exits": f"{HERE}.exits"})
    plugins = load(site, disabled=["kv_exits"])
    assert row(plugins, "kv_exits").status is PluginStatus.DISABLED
    assert row(plugins, "kv_exits").error is None
    with pytest.raises(PluginNotFound, match="disabled_plugins"):
        plugins.registry.get("kv", "exits")


def test_disabling_what_is_not_installed_is_a_warning(site, caplog):
    load(site, disabled=["kv_gone"])
    assert "kv_gone" in caplog.text


def test_an_unknown_name_gets_the_known_ones_and_a_suggestion(site):
    with pytest.raises(PluginNotFound, match=r"installed: healthy\); did you mean 'healthy'\?"):
        load(site).registry.get("kv", "helthy")


def test_an_unknown_name_that_is_an_extra_of_the_kernel_says_how_to_install_it(site):
    with pytest.raises(PluginNotFound, match="the extra 'lmdb' of objectio"):
        load(site).registry.get("kv", "lmdb")


def test_best_of_nothing_names_the_broken_plugins_of_the_kind(tmp_path):
    install(tmp_path, "bad", {"kv_bad": f"{HERE}.import_error"})
    with pytest.raises(PluginNotFound, match=r"no key-value engine is installed.*kv_bad is broken"):
        load(tmp_path).registry.best("kv")


def test_builtin_modules_register_through_the_same_hooks(tmp_path):
    plugins = load_plugins(builtin=[healthy], search=[str(tmp_path)])
    assert plugins.registry.names("kv") == ["healthy"]
    [info] = plugins.infos
    assert (info.name, info.distribution) == ("healthy", "objectio")


def test_events_reach_every_plugin_and_failures_stop_at_the_plugin(site, caplog):
    install(site, "bad-event", {"role_pager": f"{HERE}.raising_event"})
    event = NodeEvent(EventKind.STARTED, "n1")
    healthy.heard.clear()
    plugins = load(site)
    with caplog.at_level(logging.ERROR):
        plugins.emit(event)
    assert healthy.heard == [event]
    assert "role_pager" in caplog.text
    assert "cannot reach the pager" in caplog.text


def test_drivers_of_equal_rank_go_by_name(tmp_path):
    module = types.ModuleType("equals")
    drivers = [
        Driver(name=name, config=NoConfig, open=lambda config, context: 0, rank=5)
        for name in ("zeta", "alpha")
    ]
    module.objectio_register_kv = hookimpl(lambda: drivers, specname="objectio_register_kv")
    registry = load_plugins(builtin=[module], search=[str(tmp_path)]).registry
    assert registry.best("kv").name == "alpha"
    assert registry.names("kv") == ["alpha", "zeta"]


GOOD = Driver(name="good", config=NoConfig, open=lambda config, context: 0)


class Thawed(NoConfig.__base__):
    """A Struct that is not frozen."""


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (None, "None"),
        ("text", "must return a list"),
        ([None], "None"),
        ([dataclasses.replace(GOOD, name="Not-Good")], "Not-Good"),
        ([dataclasses.replace(GOOD, name="")], "''"),
        ([dataclasses.replace(GOOD, config=dict)], "msgspec Struct"),
        ([dataclasses.replace(GOOD, config=Thawed)], "frozen"),
        ([dataclasses.replace(GOOD, open=None)], "callable"),
        ([dataclasses.replace(GOOD, api="1")], "api"),
    ],
)
def test_descriptors_are_checked(tmp_path, answer, says):
    module = types.ModuleType("answers")
    module.objectio_register_kv = hookimpl(lambda: answer, specname="objectio_register_kv")
    [info] = load_plugins(builtin=[module], search=[str(tmp_path)]).infos
    if answer is None:  # pluggy takes None for "I have nothing to say"
        assert info.status is PluginStatus.OK
        return
    assert info.status is PluginStatus.BROKEN
    assert says in str(info.error)
