"""Dashboards and alerts: as generated, on metrics that exist, and accepted by Prometheus' own tool."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "deploy/monitoring"
OTHERS = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes"}
OTHERS |= {"process_open_fds", "process_max_fds"}


def load(path):
    spec = importlib.util.spec_from_file_location(path.parent.name + "_" + path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


dashboards = load(MONITORING / "generate.py")
pages = load(ROOT / "docs/generate.py")
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


@cache
def documented():
    families = {family.name: family for family in pages.metric_families()}
    s3 = {name.replace("<api>", "s3"): family for name, family in families.items()}
    return families | s3


@cache
def commands():
    return {name for name, _ in pages.kernel_commands()}


def names_in(expr):
    """Names of metrics: what is no function, keyword, label or text."""
    bare = re.sub(r'"[^"]*"', '""', expr)
    bare = re.sub(r"\[[^\]]*\]", "", bare)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    words = re.findall(r"[a-zA-Z_:][\w:]*(?!\w*\s*\()", bare)
    return {word for word in words if word not in {"or", "and", "unless", "by", "bool"}}


def check_names(expr):
    known = documented()
    names = names_in(expr)
    assert names, expr
    for name in names - OTHERS:
        family = known.get(name) or known.get(re.sub(r"_(bucket|sum|count)$", "", name))
        assert family is not None, f"{name} in {expr} is no metric"
        if family.name not in (name, name.replace("_s3_", "_<api>_")):
            assert family.type == "histogram", name


@pytest.mark.parametrize("name", dashboards.ALL)
def test_dashboards_are_fresh(name):
    path = dashboards.DASHBOARDS / f"{name}.json"
    assert path.read_text() == dashboards.render(dashboards.ALL[name]), "stale: run `make docs`"


def test_no_dashboard_is_left_over():
    assert {path.stem for path in dashboards.DASHBOARDS.iterdir()} == set(dashboards.ALL)


@pytest.mark.parametrize("name", dashboards.ALL)
def test_a_dashboard_is_whole(name):
    shown = json.loads((dashboards.DASHBOARDS / f"{name}.json").read_text())
    panels = shown["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 5
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= dashboards.COLUMNS
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies over another"
        taken |= cells
        assert panel["targets"]
        for target in panel["targets"]:
            check_names(target["expr"])
            assert 'job=~"$job"' in target["expr"]
    defined = {variable["name"] for variable in shown["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(panels))) - {"__rate_interval", "__all"}
    assert used <= defined
    assert len({each.uid for each in dashboards.ALL.values()}) == len(dashboards.ALL)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_is_whole(rule):
    check_names(rule["expr"])
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert set(rule["annotations"]) == {"summary", "description"}
    for command in re.findall(r"`objectio ([a-z ]+)", rule["annotations"]["description"]):
        assert command.strip() in commands()
    for path in re.findall(r"docs/\S+\.md", rule["annotations"]["description"]):
        assert (ROOT / path).is_file()


def proven():
    """The alerts that promtool's tests see fire."""
    for test in yaml.safe_load((MONITORING / "alerts_test.yml").read_text())["tests"]:
        for case in test.get("alert_rule_test", ()):
            if case.get("exp_alerts"):
                yield case["alertname"]
        for case in test.get("promql_expr_test", ()):
            seen = case["expr"] + " ".join(str(each) for each in case["exp_samples"])
            if any(each["value"] > 0 for each in case["exp_samples"]):
                assert 'alertstate="firing"' in case["expr"]
                yield from re.findall(r'alertname="(\w+)"', seen)


def test_every_alert_is_proven():
    assert {*proven()} == {rule["alert"] for rule in RULES}


def test_names_are_found():
    expr = 'sum by (a, le) (rate(x_total{b="c_d"}[5m])) / on (a) group_left (b) max(y) or vector(0)'
    assert names_in(expr) == {"x_total", "y"}
    with pytest.raises(AssertionError, match="objectio_made_up"):
        check_names("objectio_made_up > 0")
    with pytest.raises(AssertionError):
        check_names("objectio_osd_up_bucket > 0")


@pytest.mark.client
@pytest.mark.parametrize(
    "words",
    [
        ("check", "rules", "alerts.yml"),
        ("check", "config", "prometheus.yml"),
        ("test", "rules", "alerts_test.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(words):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: make clients")
    done = subprocess.run(
        [promtool, *words], cwd=MONITORING, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.client
def test_promtools_tests_can_fail(tmp_path):
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: make clients")
    (tmp_path / "alerts.yml").write_text(
        (MONITORING / "alerts.yml")
        .read_text()
        .replace("(objectio_osd_up) == 0", "(objectio_osd_up) == 1")
    )
    shutil.copy(MONITORING / "alerts_test.yml", tmp_path)
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done
