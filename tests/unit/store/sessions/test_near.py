"""Another way to read than asking is trusted within one session, and in no moment between two."""

from __future__ import annotations

from objectio.meta import keys


async def test_rows_are_read_elsewhere_within_a_session_only(make_meta, make_gateway):
    """The first session is lost in the very moment in which it is about to be trusted."""
    meta = await make_meta()
    gateway = make_gateway(meta, "g")
    trusted, said = [], []

    async def trust(row):
        said.append(("trust", row))
        trusted.append(row)
        if len(said) == 1:
            gateway.session._lose("cut by the test")
            trusted.append(row)  # what was under way when it was lost is through only now

    def distrust():
        said.append(("distrust", None))
        trusted.clear()

    gateway.kv.trust, gateway.kv.distrust = trust, distrust
    await gateway.open()
    assert trusted == [keys.session(gateway.id)]
    await gateway.session.close()
    assert trusted == []
