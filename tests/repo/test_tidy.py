"""What every file of the repository keeps to."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600


@cache
def files():
    """What git tracks or would track, else (in an unpacked archive) everything."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listed.returncode == 0:
        found = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:
        found = [path for path in ROOT.rglob("*") if path.relative_to(ROOT).parts[0][0] != "."]
    return [path for path in sorted(found) if path.is_file()]


def modules(*, tests):
    return [
        path
        for path in files()
        if path.suffix == ".py" and (tests or "tests" not in path.relative_to(ROOT).parts)
    ]


def tree(path):
    return ast.parse(path.read_text(), str(path))


def lines_matching(pattern, paths):
    found = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    return found


def test_there_are_files():
    assert ROOT / "objectio/errors.py" in files()


def test_functions_fit_a_screen():
    long = []
    for path in modules(tests=False):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}: {lines}")
    assert long == []


def test_modules_hold_one_concept():
    counts = {path: len(path.read_text().splitlines()) for path in modules(tests=True)}
    long = [f"{path.relative_to(ROOT)}: {n}" for path, n in counts.items() if n > MODULE_LINES_MAX]
    assert long == []


def test_modules_open_with_a_docstring():
    bare = [
        path.relative_to(ROOT) for path in modules(tests=True) if not ast.get_docstring(tree(path))
    ]
    assert bare == []


def test_nothing_prints():
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in modules(tests=False)
        if path.relative_to(ROOT).parts[0] in ("objectio", "plugins")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert found == []


# Written in two parts, so that this file does not find itself.
WORDS = {
    "unfinished": r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b",
    "a package registry's host": r"\b(?:pypi|pythonhosted|npmjs|crates)" + r"\.(?:org|io|com)\b",
    "a path of one machine": r"(?<![\w.])/(?:ro" + r"ot|wo" + r"rk)/",
}


@pytest.mark.parametrize("what", WORDS)
def test_no_file_holds(what):
    assert lines_matching(re.compile(WORDS[what]), files()) == []
