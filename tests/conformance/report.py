"""What a run of the public suite found, for people: counts, and the failures by area."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

AREAS = (
    ("headers", r"^test_headers"),
    ("iam", r"^test_iam"),
    ("sts", r"^test_sts"),
    ("encryption", r"encrypt|sse_|kms|copy_enc|copy_part_enc"),
    ("lifecycle", r"lifecycle"),
    ("object lock", r"object_lock"),
    ("post object", r"post_object"),
    ("conditional", r"ifmatch|ifnonmatch|if_match|if_none|ifmodified|ifunmodified|conditional"),
    ("cors", r"cors"),
    ("tagging", r"tag"),
    ("policy and public access", r"policy|public|block_acl|ignore_"),
    ("ownership", r"ownership|owner_"),
    ("versioning", r"version|delete_marker"),
    ("multipart", r"multipart|upload_part"),
    ("acl and anonymous", r"acl|anon|access_|grant|_raw_|presigned"),
    ("checksum and attributes", r"checksum|attributes"),
    ("copy", r"copy"),
    ("list", r"list"),
    ("atomic", r"atomic"),
    ("range", r"range"),
    ("bucket", r"bucket"),
    ("other", r""),
)

_MARKS = {"failed": "F", "error": "E", "skipped": "s"}


def area_of(test: str) -> str:
    return next(area for area, pattern in AREAS if re.search(pattern, test))


def counts(outcomes: Mapping[str, str]) -> str:
    """`570 of 604 functions pass, 30 fail, …`."""
    found = Counter(outcomes.values())
    rest = [
        f"{number} {outcome}" for outcome, number in sorted(found.items()) if outcome != "passed"
    ]
    return ", ".join([f"{found['passed']} of {len(outcomes)} functions passed", *rest])


def table(outcomes: Mapping[str, str], items: Iterable[Mapping[str, Any]], head: str) -> str:
    """Markdown: passed and run by area, then each failing function with the first cause seen."""
    causes: dict[str, str] = {}
    for item in items:
        if item["outcome"] != "passed":
            causes.setdefault(item["test"], item["message"])
    areas: dict[str, list[str]] = {}
    for test in sorted(outcomes):
        areas.setdefault(area_of(test), []).append(test)
    text = [f"# {head}", "", counts(outcomes), "", "| area | passed | run |", "|---|---|---|"]
    for area, _ in AREAS:
        if tests := areas.get(area):
            passed = sum(outcomes[test] == "passed" for test in tests)
            text.append(f"| {area} | {passed} | {len(tests)} |")
    for area, _ in AREAS:
        bad = [test for test in areas.get(area, ()) if outcomes[test] != "passed"]
        if bad:
            text += ["", f"## {area}", ""]
            text += [f"- {_MARKS[outcomes[test]]} {test}: {causes.get(test, '')}" for test in bad]
    return "\n".join(text) + "\n"
