"""Finding credentials and a server: pure parts; servers are asked in tests/integration."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from objectio.cli.cells import (
    CountMax,
    Flag,
    Items,
    Moment,
    Name,
    Named,
    Rate,
    Share,
    Size,
    SizeMax,
    Span,
    Text,
)
from objectio.cli.client import Client, find_keys
from objectio.errors import ConfigError


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home and a working directory without any credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_directory(path, access_key="FROMDIRECTORY"):
    path.mkdir()
    text = json.dumps({"access_key": access_key, "secret_key": "directory-secret"})
    (path / "credentials.json").write_text(text)
    return path


def write_profiles(home):
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text(
        "[default]\naws_access_key_id=FROMDEFAULT\naws_secret_access_key=100%secret\n"
        "[work]\naws_access_key_id=FROMWORK\naws_secret_access_key=work-secret\n"
        "[half]\naws_access_key_id=HALF\n"
    )


OURS = {"OBJECTIO_ACCESS_KEY": "FROMOURS", "OBJECTIO_SECRET_KEY": "s"}
AWS = {"AWS_ACCESS_KEY_ID": "FROMAWS", "AWS_SECRET_ACCESS_KEY": "s"}


def test_each_place_goes_before_the_next(home):
    environ = {"AWS_PROFILE": "work", **AWS, **OURS}
    named = write_directory(home / "named", "NAMED")
    write_profiles(home)
    write_directory(home / "objectio-data")
    order = [find_keys(named, environ)]
    order.append(find_keys(None, environ))
    order.append(find_keys(None, {"AWS_PROFILE": "work", **AWS}))
    order.append(find_keys(None, {"AWS_PROFILE": "work"}))
    order.append(find_keys(None, {}))
    (home / ".aws/credentials").unlink()
    order.append(find_keys(None, {}))
    assert [keys.access_key for keys in order] == [
        "NAMED",
        "FROMOURS",
        "FROMAWS",
        "FROMWORK",
        "FROMDEFAULT",
        "FROMDIRECTORY",
    ]
    assert order[4].secret_key == "100%secret"


def test_temporary_ones_have_a_token(home):
    token = {"OBJECTIO_SESSION_TOKEN": "of-ours", "AWS_SESSION_TOKEN": "of-aws"}
    assert find_keys(None, {**OURS, **AWS, **token}).session_token == "of-ours"
    assert find_keys(None, {**AWS, **token}).session_token == "of-aws"
    assert find_keys(None, AWS).session_token == ""
    write_profiles(home)
    with (home / ".aws/credentials").open("a") as file:
        file.write("[short]\naws_access_key_id=A\naws_secret_access_key=s\naws_session_token=t\n")
    found = find_keys(None, {"AWS_PROFILE": "short"})
    assert (found.session_token, "s" in repr(found).split()) == ("t", False)


def test_nothing_anywhere_is_no_error(home):
    assert find_keys(None, {}) is None


def test_the_shared_file_may_be_elsewhere(home):
    write_profiles(home)
    moved = (home / ".aws/credentials").rename(home / "elsewhere")
    assert find_keys(None, {}) is None
    keys = find_keys(None, {"AWS_SHARED_CREDENTIALS_FILE": str(moved)})
    assert keys.access_key == "FROMDEFAULT"


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"OBJECTIO_ACCESS_KEY": "A"}, "set both OBJECTIO_ACCESS_KEY and OBJECTIO_SECRET_KEY"),
        ({"AWS_SECRET_ACCESS_KEY": "A"}, "set both AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "none"}, "no keys for the profile none"),
        ({"AWS_PROFILE": "half"}, "no keys for the profile half"),
    ],
)
def test_halves_are_refused(home, environ, said):
    write_profiles(home)
    with pytest.raises(ConfigError, match=said):
        find_keys(None, environ)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"access_key": "A"}', "null", "\xff"])
def test_a_broken_file_is_told_without_its_contents(home, text):
    directory = write_directory(home / "data")
    (directory / "credentials.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"does not hold") as caught:
        find_keys(directory, {})
    assert caught.value.__cause__ is None


def test_a_directory_that_was_named_must_have_some(home):
    with pytest.raises(ConfigError, match="is this the directory of a store"):
        find_keys(home, {})


def test_a_broken_profile_file(home):
    (home / ".aws").mkdir()
    (home / ".aws/credentials").write_text("aws_access_key_id = before any section\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        find_keys(None, {})


def test_secrets_are_not_shown(home):
    keys = find_keys(write_directory(home / "data"), {})
    assert "directory-secret" not in repr(keys)


def test_a_password_in_an_address_is_refused_and_not_shown():
    with pytest.raises(ConfigError, match="no user and password") as refused:
        Client("http://ann:canary@h:9000", None)
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "endpoint",
    ["", "localhost:9000", "ftp://h", "http://", "http://h:x", "http://h:99999", "http://a b"],
)
def test_what_is_no_address_is_refused(endpoint):
    with pytest.raises(ConfigError, match="is not the address"):
        Client(endpoint, None)


@pytest.mark.parametrize(
    "endpoint", ["http://h", "https://h:9000/", "http://[::1]:9000", "https://h/below/it"]
)
def test_addresses(endpoint):
    assert Client(endpoint, None).endpoint == endpoint.rstrip("/")


@pytest.mark.parametrize(
    ("cell", "value", "human"),
    [
        (Size, 1536, "1.5 KiB"),
        (Size, None, "-"),
        (SizeMax, 1536, "1.5 KiB"),
        (SizeMax, 0, "none"),
        (CountMax, 1536, "1,536"),
        (CountMax, 0, "none"),
        (Rate, 2048.0, "2.0 KiB/s"),
        (Span, 90.0, "1 minute"),
        (Span, None, "-"),
        (Moment, None, "-"),
        (Moment, 0, "-"),
        (Share, 0.125, "12.5%"),
        (Flag, True, "yes"),
        (Text, "", "-"),
        (Name, "a\x1b[2J\n\u202eb\u00e4", "a\\x1b[2J\\n\\u202eb\u00e4"),
        (Items, [1, 2], "1, 2"),
        (Items, [], "-"),
        (Named, {"0": 3, "2": 5}, "0: 3, 2: 5"),
    ],
)
def test_cells(cell, value, human):
    assert cell(value).human_readable() == human
    assert cell(value).machine_readable() == value


def test_unknown_numbers_are_the_last():
    assert [each.machine_readable() for each in sorted(map(Size, [3, None, 20, 0]))] == [
        0,
        3,
        20,
        None,
    ]


def test_commands_load_little():
    """The modules of commands are imported for help; what asks a server is imported when it does."""
    script = (
        "import sys; import objectio.cli.disk, objectio.cli.status, objectio.cli.doctor\n"
        "import objectio.cli.object, objectio.cli.policy, objectio.cli.identity\n"
        "print([name for name in ('http.client', 'msgspec', 'json', 'configparser', "
        "'objectio.iam', 'objectio.store') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parent
    )
    heavy = eval(done.stdout)
    assert "http.client" not in heavy, done.stderr
    assert "objectio.iam" not in heavy
    assert "objectio.store" not in heavy
