"""Steps of one group's move: whatever happens, no shard that can be had gets out of sight."""

from __future__ import annotations

import random

import pytest

from objectio.store.rebalance_step import HOLE, Osds, begin, redirect

OLD = (0, 1, 2, 3)


def osds(up, gone=(), full=()):
    return Osds(frozenset(up), frozenset(gone), frozenset(full))


def test_a_group_where_it_belongs_rests():
    assert begin(OLD, OLD, osds(range(6))) is None
    assert redirect((0, 1, 2, 5), OLD, (3,), (0, 1, 2, 5), osds(range(6))) is None


def test_a_move_begins_with_those_that_can_take_shards():
    step = begin(OLD, (0, 4, 5, 3), osds((0, 1, 2, 3, 4)))
    assert step == ((0, 4, 2, 3), OLD, (1,), (1,))
    assert begin(OLD, (0, 4, 2, 3), osds(range(6), full=(4,))) is None
    assert begin(OLD, (1, 4, 2, 3), osds((0, 1, 2, 3))) is None, "twice on one OSD"


def test_a_new_osd_that_is_gone_is_replaced():
    step = redirect((0, 4, 2, 3), OLD, (1,), (0, 5, 2, 3), osds((0, 1, 2, 3, 5), gone=(4,)))
    assert step == ((0, 5, 2, 3), OLD, (1,), (1,))
    step = redirect((0, 4, 2, 3), OLD, (1,), OLD, osds(range(4), gone=(4,)))
    assert step == (OLD, OLD, (1,), (1,)), "back, and every blob is looked at there"


def test_a_new_osd_that_is_only_away_is_waited_for():
    assert redirect((0, 4, 2, 3), OLD, (1,), (0, 5, 2, 3), osds((0, 1, 2, 3, 5))) is None


def test_a_new_osd_that_is_full_gives_back_what_it_has():
    step = redirect((0, 4, 2, 3), OLD, (1,), (0, 4, 2, 3), osds(range(6), full=(4,)))
    assert step == (OLD, (0, 4, 2, 3), (1,), (1,))
    up = osds((0, 2, 3, 4, 5), gone=(1,), full=(4,))
    step = redirect((0, 4, 2, 3), OLD, (1,), (0, 5, 2, 3), up)
    assert step == ((0, 5, 2, 3), (0, 4, 2, 3), (1,), (1,))


def test_another_osd_that_is_gone_joins_the_move():
    up = osds((0, 1, 2, 4, 5), gone=(3,))
    step = redirect((0, 4, 2, 3), OLD, (1,), (0, 4, 2, 5), up)
    assert step == ((0, 4, 2, 5), OLD, (1, 3), (3,))


@pytest.mark.parametrize("seed", range(150))
def test_nothing_gets_out_of_sight(seed):
    """A model of one group: blobs come, are copied, OSDs come, go and fill up, the target changes."""
    source = random.Random(seed)
    model = Group(source)
    for _ in range(120):
        model.turn()
        model.check()
    model.calm()


class Group:
    """`held` has what each OSD holds, as (blob, position)."""

    def __init__(self, source):
        self.source = source
        self.members, self.former, self.changed = OLD, None, ()
        self.target = OLD
        self.held = {osd: set() for osd in range(9)}
        self.pending = {}
        self.away, self.gone, self.full = set(), set(), set()
        self.blobs = 0

    def osds(self):
        return osds(set(self.held) - self.away - self.gone, self.gone, self.full)

    def turn(self):
        source = self.source
        match source.randrange(7):
            case 0 | 1:
                self.write()
            case 2:
                self.copy()
            case 3:
                self.step()
            case 4:
                self.event()
            case 5:
                self.retarget()
            case 6:
                self.end()

    def write(self):
        self.blobs += 1
        for position, osd in enumerate(self.members):
            if osd in self.osds().up and osd not in self.full:
                self.held[osd].add((self.blobs, position))
            else:
                self.pending.setdefault(position, set())  # repair's

    def sources(self, position):
        places = [self.members[position]]
        if self.former is not None:
            places.append(self.former[position])
        return [osd for osd in places if osd != HOLE]

    def copy(self):
        for position in list(self.changed):
            target = self.members[position]
            if target not in self.osds().up or target in self.full:
                continue
            for blob in range(1, self.blobs + 1):
                if self.source.random() < 0.7:
                    self.held[target].add((blob, position))  # copied, or made anew

    def event(self):
        osd = self.source.randrange(9)
        match self.source.randrange(5):
            case 0 if len(self.away | self.gone) < 2:
                self.away.add(osd)
            case 1:
                self.away.discard(osd)
            case 2 if osd in self.away and len(self.gone) < 3:
                self.away.discard(osd)
                self.gone.add(osd)
                self.retarget()
            case 3:
                self.full.add(osd)
            case 4:
                self.full.discard(osd)

    def retarget(self):
        free = [osd for osd in self.held if osd not in self.gone and osd not in self.members]
        self.source.shuffle(free)
        self.target = tuple(
            free.pop() if (osd in self.gone or self.source.random() < 0.3) and free else osd
            for osd in self.members
        )

    def step(self):
        if self.former is None:
            step = begin(self.members, self.target, self.osds())
        else:
            step = redirect(self.members, self.former, self.changed, self.target, self.osds())
        if step is not None:
            self.members, self.former, self.changed = step.members, step.former, step.changed
            assert set(step.restarted) <= set(step.changed)

    def complete(self):
        return all(
            (blob, position) in self.held[self.members[position]]
            for position in self.changed
            for blob in range(1, self.blobs + 1)
        )

    def end(self):
        if self.former is None or not self.complete():
            return
        if all(self.members[position] in self.osds().up for position in self.changed):
            left = self.former
            self.former, self.changed = None, ()
            for position, osd in enumerate(left):
                if osd != self.members[position]:
                    self.held[osd] -= {(blob, position) for blob in range(1, self.blobs + 1)}

    def check(self):
        real = [osd for osd in self.members if osd != HOLE]
        assert len(set(real)) == len(real)
        for blob in range(1, self.blobs + 1):
            for position in range(4):
                holders = {
                    osd for osd in self.held if (blob, position) in self.held[osd]
                } - self.gone
                if holders:
                    assert holders & set(self.sources(position)), (blob, position, holders)

    def calm(self):
        """When nothing happens any more, the move ends."""
        self.away.clear()
        self.full.clear()
        for _ in range(60):
            if any(osd in self.gone for osd in self.members):
                self.retarget()
            else:
                self.target = self.members
            self.step()
            self.copy()
            self.end()
            self.check()
        assert self.former is None
        assert not set(self.members) & self.gone
