"""The golden vectors are what the kernel's codecs still make, and are recorded as documented."""

from __future__ import annotations

from importlib import resources

import pytest

from objectio.abc.erasure import FAMILY_REPLICATE, FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE
from objectio.testing import golden

FAMILIES = (FAMILY_RS_CAUCHY, FAMILY_RS_VANDERMONDE, FAMILY_REPLICATE)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_recorded_document_is_what_is_made_today(family):
    recorded = resources.files("objectio.testing") / "vectors" / f"{family}.json"
    assert golden.document(family, golden.sizes_of(family)) == recorded.read_text("ascii")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_size_and_length_is_recorded(family):
    vectors = golden.golden_vectors(family)
    assert len(vectors) == len(golden.sizes_of(family)) * len(golden.LENGTHS)
    for vector in vectors:
        assert len(vector["parity"]) == vector["parity_shards"]
        assert all("hex" in shard for shard in vector["parity"]) == (vector["length"] < 100)


def test_an_unknown_family_has_none():
    assert golden.golden_vectors("no-such-family") == []
