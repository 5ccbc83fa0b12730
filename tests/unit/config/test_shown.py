"""Showing: what a driver says is secret does not show, and all else does."""

from __future__ import annotations

import json
import tomllib
from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from objectio import builtin
from objectio.abc.driver import Driver
from objectio.config import Config, dump_toml
from objectio.config.schema import GatewaySection
from objectio.config.shown import HIDDEN, shown, without_secrets
from objectio.plugin.loader import load_plugins

CANARY = "canary7f3a91"
Secret = Annotated[str, Meta(extra={"secret": True})]


class Account(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    user: str
    password: Annotated[Secret, Meta(description="of the user")]


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    password: Secret = ""
    token: Annotated[Annotated[str, Meta(min_length=1)], Meta(extra={"secret": True})] | None = None
    accounts: tuple[Account, ...] = ()
    account: Account | None = None
    keys: list[Secret] = []
    by_name: dict[str, Secret] = {}
    url: Annotated[str, Meta(extra={"secret": "url"})] = ""
    cache_bytes: int = 4096


class Registry:
    """The engine, and what comes with the kernel."""

    def __init__(self):
        self._real = load_plugins(disabled=(), builtin=(builtin,)).registry

    def get(self, kind, name):
        if (kind, name) == ("kv", "engine"):
            return Driver(name="engine", config=EngineConfig, open=lambda config, context: None)
        return self._real.get(kind, name)

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture(scope="module")
def registry():
    return Registry()


def config_of(**tables):
    return Config(gateway=GatewaySection(auth=False), driver_tables={"kv": tables})


TABLE = {
    "password": CANARY,
    "token": CANARY,
    "accounts": [{"user": "ann", "password": CANARY}],
    "account": {"user": "bob", "password": CANARY},
    "keys": [CANARY, CANARY],
    "by_name": {"one": CANARY},
    "url": f"https://example.com/{CANARY}?{CANARY}",
}


def test_what_is_secret_is_hidden_wherever_it_stands(registry):
    config = config_of(engine=TABLE)
    table = shown(config, registry)["config"]["kv"]["engine"]
    assert table == {
        "password": HIDDEN,
        "token": HIDDEN,
        "accounts": [{"user": "ann", "password": HIDDEN}],
        "account": {"user": "bob", "password": HIDDEN},
        "keys": [HIDDEN, HIDDEN],
        "by_name": {"one": HIDDEN},
        "url": f"https://example.com/{HIDDEN}",
        "cache_bytes": 4096,
    }
    text = dump_toml(without_secrets(config, registry))
    assert CANARY not in text
    assert tomllib.loads(text)["kv"]["engine"]["account"] == {"user": "bob", "password": HIDDEN}
    assert config.driver_tables["kv"]["engine"] == TABLE, "what is in force stays as it is"


def test_that_nothing_is_set_shows(registry):
    table = shown(config_of(engine={}), registry)["config"]["kv"]["engine"]
    assert (table["password"], table["token"], table["keys"], table["url"]) == ("", None, [], "")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://example.com", "https://example.com"),
        ("https://example.com:8443/", "https://example.com:8443/"),
        (f"https://{CANARY}@example.com", f"https://example.com/{HIDDEN}"),
        (f"https://example.com?key={CANARY}", f"https://example.com/{HIDDEN}"),
        (f"https://example.com/#{CANARY}", f"https://example.com/{HIDDEN}"),
        (CANARY, HIDDEN),
        (f"{CANARY}:{CANARY}", HIDDEN),
    ],
)
def test_of_a_url_the_host_shows(registry, url, expected):
    assert shown(config_of(engine={"url": url}), registry)["config"]["kv"]["engine"]["url"] == (
        expected
    )


def test_of_a_driver_that_is_not_installed_all_is_hidden(registry):
    config = config_of(lost={"path": CANARY, "inner": {"deep": CANARY}, "empty": ""})
    table = shown(config, registry)["config"]["kv"]["lost"]
    assert table == {"path": HIDDEN, "inner": HIDDEN, "empty": ""}
    assert CANARY not in dump_toml(without_secrets(config, registry))


def test_sections_and_drivers_that_are_named_show_with_their_defaults(registry):
    said = shown(Config(gateway=GatewaySection(auth=False)), registry)
    assert (said["node"], said["source"]) == ("n1", None)
    assert said["config"]["gateway"]["auth"] is False
    assert said["config"]["gateway"]["listen"] == "127.0.0.1:9000"
    assert said["config"]["osd"]["log"], "the log is what osd.driver names, with its settings"
    assert json.loads(json.dumps(said)) == json.loads(msgspec.json.encode(said))


def test_receivers_of_events_show_their_hosts_only(registry):
    target = {"arn": "arn:minio:sqs::one:webhook", "url": f"https://hooks.example.com/{CANARY}"}
    config = Config(driver_tables={"sinks": {"webhook": {"target": [target]}}})
    said = shown(config, registry)["config"]["sinks"]["webhook"]
    assert CANARY not in str(said)
    assert said["target"][0]["url"] == f"https://hooks.example.com/{HIDDEN}"
    assert said["target"][0]["arn"] == target["arn"]
