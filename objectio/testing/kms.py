"""The contract of key managers as a suite: what every driver must do.

    class TestMine(KeyManagerConformance):
        @pytest.fixture
        def open_manager(self, tmp_path): ...

`open_manager()` gives a manager over the same keys each time it is called: it stands for a process
that begins. It is not started.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from objectio.abc.kms import KeyManager
from objectio.errors import AccessDenied, NotFound, Unavailable

CONTEXT = {"bucket": "one", "key": "a/b"}


class KeyManagerConformance:
    @pytest.fixture
    async def manager(self, open_manager: Callable[[], KeyManager]) -> AsyncIterator[KeyManager]:
        manager = open_manager()
        await manager.start(None)
        yield manager
        await manager.close()

    async def test_a_data_key_opens_again(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        assert len(made.plain) == 32
        assert await manager.unwrap(made.key_id, made.wrapped, CONTEXT) == made.plain

    async def test_the_order_of_a_context_means_nothing(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        turned = dict(reversed(CONTEXT.items()))
        assert await manager.unwrap(made.key_id, made.wrapped, turned) == made.plain

    async def test_each_data_key_is_another(self, manager: KeyManager) -> None:
        made = [await manager.generate(manager.default_key, CONTEXT) for _ in range(20)]
        assert len({each.plain for each in made}) == 20
        assert len({each.wrapped for each in made}) == 20

    async def test_what_is_wrapped_does_not_show_the_key(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        assert made.plain not in made.wrapped
        assert made.plain[:8] not in made.wrapped
        assert repr(made.plain) not in repr(made)

    async def test_another_context_does_not_open_it(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        for context in ({}, {"bucket": "one"}, CONTEXT | {"key": "a/c"}, CONTEXT | {"more": ""}):
            with pytest.raises(AccessDenied):
                await manager.unwrap(made.key_id, made.wrapped, context)

    async def test_no_byte_of_it_may_change(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        for at in range(len(made.wrapped)):
            changed = bytearray(made.wrapped)
            changed[at] ^= 1
            with pytest.raises((AccessDenied, NotFound)):
                await manager.unwrap(made.key_id, bytes(changed), CONTEXT)

    async def test_no_part_of_it_opens(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        for length in range(len(made.wrapped)):
            with pytest.raises((AccessDenied, NotFound)):
                await manager.unwrap(made.key_id, made.wrapped[:length], CONTEXT)
        with pytest.raises(AccessDenied):
            await manager.unwrap(made.key_id, made.wrapped + b"\0", CONTEXT)

    async def test_a_key_that_is_not_there_is_not_found(self, manager: KeyManager) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        for call in (
            manager.generate("no-such-key", CONTEXT),
            manager.unwrap("no-such-key", made.wrapped, CONTEXT),
        ):
            with pytest.raises(NotFound) as raised:
                await call
            assert raised.value.fields["kind"] == "key"

    async def test_the_default_key_is_one_of_the_keys(self, manager: KeyManager) -> None:
        assert manager.default_key in await manager.keys()

    async def test_nothing_is_to_be_had_before_it_is_started(
        self, open_manager: Callable[[], KeyManager], manager: KeyManager
    ) -> None:
        early = open_manager()
        made = await manager.generate(manager.default_key, CONTEXT)
        with pytest.raises(Unavailable):
            await early.generate(made.key_id, CONTEXT)
        with pytest.raises(Unavailable):
            await early.unwrap(made.key_id, made.wrapped, CONTEXT)
        with pytest.raises(Unavailable):
            await early.keys()
        with pytest.raises(Unavailable):
            _ = early.default_key
        await early.close()

    async def test_another_process_has_the_same_keys(
        self, open_manager: Callable[[], KeyManager]
    ) -> None:
        first, second, third = open_manager(), open_manager(), open_manager()
        key_set = await first.start(None)
        assert await second.start(key_set) == key_set
        assert await third.start(None) == key_set
        made = await first.generate(first.default_key, CONTEXT)
        for manager in (second, third):
            assert await manager.unwrap(made.key_id, made.wrapped, CONTEXT) == made.plain
        for manager in (first, second, third):
            await manager.close()

    async def test_another_set_of_keys_is_of_no_use(
        self, open_manager: Callable[[], KeyManager], manager: KeyManager
    ) -> None:
        made = await manager.generate(manager.default_key, CONTEXT)
        astray = open_manager()
        assert await astray.start("another set") == "another set"
        with pytest.raises(Unavailable):
            await astray.generate(made.key_id, CONTEXT)
        with pytest.raises(Unavailable):
            await astray.unwrap(made.key_id, made.wrapped, CONTEXT)
        await astray.close()
