"""Root credentials: made once, private, durable, never shown."""

from __future__ import annotations

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from objectio.errors import ConfigError
from objectio.iam.credentials import (
    CREDENTIALS_FILE,
    Credential,
    RootCredentials,
    StaticCredentials,
    read_credentials,
    root_credential,
)

CANARY = "canary-secret-of-nobody"


def test_first_load_makes_a_private_file_and_the_next_reads_it(tmp_path):
    made = RootCredentials.load(tmp_path / "data", environ={})
    path = tmp_path / "data" / CREDENTIALS_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [CREDENTIALS_FILE]
    again = RootCredentials.load(tmp_path / "data", environ={})
    assert again.root == made.root
    assert made.root.identity.is_root
    assert made.lookup(made.root.access_key) == made.root
    assert made.lookup("AKIANOBODY") is None
    assert len(made.root.secret_key) == 40
    assert RootCredentials.load(tmp_path / "other", environ={}).root != made.root


def test_concurrent_first_loads_agree(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: RootCredentials.load(tmp_path, environ={}).root, range(16)))
    assert all(root == found[0] for root in found)
    assert os.listdir(tmp_path) == [CREDENTIALS_FILE]


def test_the_environment_wins_and_writes_nothing(tmp_path):
    environ = {"OBJECTIO_ROOT_ACCESS_KEY": "me", "OBJECTIO_ROOT_SECRET_KEY": "not-so-secret"}
    with pytest.raises(ConfigError, match="3 to 128"):
        RootCredentials.load(tmp_path, environ=environ)
    environ["OBJECTIO_ROOT_ACCESS_KEY"] = "me@example.com"
    assert RootCredentials.load(tmp_path, environ=environ).root.secret_key == "not-so-secret"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["OBJECTIO_ROOT_ACCESS_KEY", "OBJECTIO_ROOT_SECRET_KEY"])
def test_half_of_the_environment_is_an_error(tmp_path, name):
    with pytest.raises(ConfigError, match="or neither"):
        RootCredentials.load(tmp_path, environ={name: CANARY})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"access_key": "AKIA"}',
        json.dumps({"access_key": 1, "secret_key": CANARY}),
        json.dumps({"access_key": "a/b", "secret_key": CANARY}),
        '{"access_key": "abc", "secret_key": "short"}',
        json.dumps({"secret_key": CANARY}) + ",,,",
    ],
)
def test_a_bad_file_is_an_error_that_does_not_quote_it(tmp_path, text):
    path = tmp_path / CREDENTIALS_FILE
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError) as caught:
        read_credentials(path)
    assert CREDENTIALS_FILE in str(caught.value)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_readable_file_is_made_private(tmp_path, caplog):
    path = tmp_path / CREDENTIALS_FILE
    path.write_text(json.dumps({"access_key": "AKIA", "secret_key": CANARY}))
    path.chmod(0o644)
    assert read_credentials(path) == ("AKIA", CANARY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "0600" in caplog.text
    assert CANARY not in caplog.text


def test_repr_never_shows_the_secret():
    credential = root_credential("AKIA", CANARY)
    store = StaticCredentials([credential])
    assert "AKIA" in repr(credential)
    for text in (repr(credential), str(credential), repr(store), f"{[credential]}"):
        assert CANARY not in text
    assert credential == Credential("AKIA", CANARY, credential.identity)
