"""What stands in the log: facts by their names, and nothing that can pass for another line."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from objectio.cli.jsonlog import JsonFormatter, TextFormatter
from objectio.gateway.requestlog import Line

EVIL = "a\nERROR forged\x1b[2J\x9b\0\udcff\u2028b"


def record(message, *args, exc_info=None):
    return logging.LogRecord("objectio.gateway", logging.INFO, "x.py", 1, message, args, exc_info)


def text(*args, **more):
    return TextFormatter("%(levelname)s %(name)s %(message)s").format(record(*args, **more))


def as_json(*args, process="", **more):
    line = JsonFormatter(process).format(record(*args, **more))
    assert line.isascii()
    assert "\n" not in line
    return json.loads(line)


def failure(message):
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def test_facts_have_keys_of_their_own():
    facts = {"request_id": "00FF", "status": 200, "ms": 0.25, "access_key": None, "path": EVIL}
    line = as_json(Line(facts), process="gateway-0")
    assert line["message"] == "request"
    assert line["process"] == "gateway-0"
    assert {key: line[key] for key in facts} == facts
    assert (line["level"], line["logger"]) == ("info", "objectio.gateway")
    assert line["time"].endswith("Z")
    assert as_json(Line({"request_id": "1"}, "it failed"))["message"] == "it failed"


def test_no_fact_takes_the_place_of_what_every_line_has():
    line = as_json(Line({"level": "debug", "time": 0, "message": "x", "process": "y"}, "said"))
    assert (line["level"], line["message"]) == ("info", "said")
    assert "process" not in line


def test_messages_without_facts():
    assert as_json("%s of %d", "one", 2)["message"] == "one of 2"
    assert "ValueError: no" in as_json("it failed", exc_info=failure("no"))["exception"]


def test_facts_in_text():
    facts = {"request_id": "00FF", "status": 0, "ms": 1.5, "identity": None, "key": ""}
    assert text(Line(facts, "it failed")) == (
        "INFO objectio.gateway request_id=00FF status=0 ms=1.500 identity=- key=- it failed"
    )


@pytest.mark.parametrize("value", ["a b", "a=b", 'a"b', EVIL, "é"])
def test_a_value_cannot_pass_for_two(value):
    (pair,) = str(Line({"path": value})).split("path=")[1:]
    assert json.loads(pair) == value


def test_no_message_makes_a_line_of_its_own():
    said = text("no such bucket: %s", EVIL)
    assert said.splitlines() == [said]
    assert said.isprintable()
    assert r"a\nERROR forged\x1b[2J" in said


def test_tracebacks_are_indented():
    lines = text("it failed", exc_info=failure(EVIL)).splitlines()
    assert lines[0] == "INFO objectio.gateway it failed"
    assert all(line.startswith("  ") and line.isprintable() for line in lines[1:])
    assert any("forged" in line for line in lines)
