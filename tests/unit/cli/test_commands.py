"""`objectio plugin …` and `objectio config …`."""

from __future__ import annotations

import json
import tomllib

import pytest

from objectio.cli.app import main
from objectio.testing.brokenplugins import install


@pytest.fixture
def broken(tmp_path, monkeypatch):
    directory = tmp_path / "site"
    install(directory, "bad-kv", {"kv_bad": "objectio.testing.brokenplugins.import_error"})
    monkeypatch.syspath_prepend(str(directory))


def run_json(capsys, *argv):
    assert main([*argv, "-f", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_plugin_list_has_a_row_for_each_plugin_the_kernel_first(capsys):
    rows = run_json(capsys, "plugin", "list")
    assert rows[0]["plugin"] == "builtin"
    assert rows[0]["distribution"] == "objectio"
    assert rows[0]["status"] == "ok"
    assert set(rows[0]) == {"plugin", "distribution", "version", "kind", "drivers", "status"}


def test_plugin_list_shows_broken_and_disabled_ones(capsys, broken, tmp_path):
    rows = {row["plugin"]: row for row in run_json(capsys, "plugin", "list")}
    assert rows["kv_bad"]["status"] == "broken"
    assert rows["kv_bad"]["kind"] == ["kv"]
    file = tmp_path / "objectio.toml"
    file.write_text("[node]\ndisabled_plugins = ['kv_bad']\n")
    rows = {row["plugin"]: row for row in run_json(capsys, "plugin", "list", "--config", str(file))}
    assert rows["kv_bad"]["status"] == "disabled"


def test_plugin_show_of_a_broken_plugin_says_why(capsys, broken):
    shown = run_json(capsys, "plugin", "show", "kv_bad")
    assert shown["distribution"] == "bad-kv"
    assert shown["status"] == "broken"
    assert "libbroken.so.1" in shown["error"]


def test_plugin_show_lists_drivers(capsys):
    shown = run_json(capsys, "plugin", "show", "builtin")
    assert shown["error"] == ""
    assert any(line.startswith("kv memory: ") for line in shown["drivers"])


def test_plugin_show_of_none_suggests(capsys):
    assert main(["plugin", "show", "bultin"]) == 2
    assert "did you mean builtin?" in capsys.readouterr().err


def test_config_check_accepts_the_defaults(capsys):
    assert main(["config", "check"]) == 0
    assert "nothing wrong" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[gateway]\nlisen = 'x'\n", "did you mean gateway.listen?"),
        ("[kv]\ndriver = 'memroy'\n", "did you mean 'memory'?"),
        ("[kv.memroy]\nx = 1\n", "did you mean kv.memory?"),
    ],
)
def test_config_check_refuses(capsys, tmp_path, text, says):
    file = tmp_path / "objectio.toml"
    file.write_text(text)
    assert main(["config", "check", "--config", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert says in err
    assert "Traceback" not in err


def test_config_show_prints_what_is_in_force(capsys, tmp_path, monkeypatch):
    file = tmp_path / "objectio.toml"
    file.write_text("[gateway]\nlisten = '127.0.0.1:1'\n[pool]\ndata_shards = 2\n")
    monkeypatch.setenv("OBJECTIO_GATEWAY_LISTEN", "127.0.0.1:2")
    assert main(["config", "show", "--config", str(file), "--set", "pool.parity_shards=1"]) == 0
    shown = tomllib.loads(capsys.readouterr().out)
    assert shown["gateway"]["listen"] == "127.0.0.1:2"
    assert (shown["pool"]["data_shards"], shown["pool"]["parity_shards"]) == (2, 1)


def test_config_show_keeps_secrets_unless_asked(capsys, tmp_path):
    file = tmp_path / "objectio.toml"
    target = "{ arn = 'arn:minio:sqs::one:webhook', url = 'https://example.com/canary' }"
    file.write_text(f"[sinks.webhook]\ntarget = [{target}]\n")
    assert main(["config", "show", "--config", str(file)]) == 0
    text = capsys.readouterr().out
    assert "https://example.com/…" in text
    assert "canary" not in text
    assert main(["config", "show", "--config", str(file), "--show-secrets"]) == 0
    assert "https://example.com/canary" in capsys.readouterr().out


def test_config_sample_checks_as_it_is(capsys, tmp_path):
    assert main(["config", "sample"]) == 0
    file = tmp_path / "objectio.toml"
    file.write_text(capsys.readouterr().out)
    assert main(["config", "check", "--config", str(file)]) == 0


def test_config_schema_is_json(capsys):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert "gateway" in schema["properties"]
