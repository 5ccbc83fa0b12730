"""The benchmark of codecs runs and shows every figure it promises."""

from __future__ import annotations

import pytest

codecs = pytest.importorskip("benchmarks.codecs")


def test_the_report_has_a_row_for_each_measurement(monkeypatch):
    monkeypatch.setattr(codecs, "STRIPES_BYTES", (4096,))
    monkeypatch.setattr(codecs, "SIZES", ((4, 2),))
    results = codecs.run(seconds=0.02)
    assert "reference" in {row["codec"] for row in results["stripes"]}
    assert all(row[key] > 0 for row in results["stripes"] for key in row if key.endswith("_us"))
    lines = codecs.report(results).splitlines()
    assert len(lines) == len(results["stripes"]) + 2


def test_a_lost_shard_of_a_local_group_costs_half(monkeypatch):
    pytest.importorskip("objectio_ec_lrc")
    repair = pytest.importorskip("benchmarks.codecs_repair")
    monkeypatch.setattr(repair, "STRIPE_BYTES", 6000)
    results = repair.run(seconds=0.02)
    reads = {row["code"]: row["shards_read"] for row in results["repair"]}
    assert reads["LRC 6+2+2"] == [3] * 8 + [6] * 2
    assert reads.get("RS 6+4", [6] * 10) == [6] * 10
    assert len(repair.report(results).splitlines()) == len(results["repair"]) + 1
