"""Cover for severed sessions: what goes on, how fast, until when, and what whoever counts envelopes can tell."""

from __future__ import annotations

import math
import random as randomness
from statistics import NormalDist

import msgspec
import pytest
from session_world import Answer, Question, World

from quietfleet.session import SIZE_CLASSES, Opened
from quietfleet.session import _ghosts as ghosts
from quietfleet.session._pace import RECENT, YOUNG, Pace
from quietfleet.whisper import FULL_BLOOM, admits

BITS = 48  # of a bloom: light workers, whom one can count envelopes of
OVERHEAD = 28  # bytes of tag and iv
EVERY = 4.0  # seconds between two questions


def pair(world, bits=BITS):
    world.bloom_bits = bits
    return world.pair()


def ask(party, peer, text="what"):
    party.messenger.request(peer.id, Question(text), (Answer,), 30.0)


def talk(world, a, b, seconds, every=EVERY):
    """Let `a` ask `b` now and then; return what was on the wire, with the time."""
    seen = []
    for _ in range(round(seconds / every)):
        world.clock.advance(every)
        ask(a, b)
        world.wire.clear()
        world.run(2)
        seen += [(world.clock.now(), t) for t in world.wire]
    return seen


def switch_off(world, worker):
    """What everybody does who reads on chain that a worker is switched off."""
    world.registry.off.add(worker.id)
    for party in world.parties.values():
        peers = party.messenger.peers() if party is worker else {worker.id}
        for peer in peers:
            party.note(party.messenger.sever(peer, "switched off"))
        if party is worker:
            party.messenger.fall_silent()


def watch(world, seconds, step=0.5):
    """Let time pass; return what leaves, with the time."""
    seen = []
    for _ in range(round(seconds / step)):
        world.clock.advance(step)
        for party in world.parties.values():
            party.tick()
            seen += [(world.clock.now(), t) for t in party.sendable()]
    return seen


def within(bloom, seen):
    return [(at, t) for at, t in seen if admits(bloom, t.topic)]


def test_sever__session_was_open__its_traffic_goes_on_as_it_was(world):
    a, b = pair(world)
    before = talk(world, a, b, 600)
    (bloom,) = a.messenger.blooms()
    switch_off(world, a)
    after = watch(world, 600)
    assert after
    assert len(within(bloom, after)) == pytest.approx(len(within(bloom, before)), rel=0.25)
    assert {len(t.data) for _, t in after} <= {len(t.data) for _, t in before}


def test_ghost__its_envelopes__open_for_nobody_and_are_like_any_other(world):
    a, b = pair(world)
    talk(world, a, b, 120)
    sessions = [party.messenger.table.sessions.copy() for party in (a, b)]
    switch_off(world, a)
    seen = [t for _, t in watch(world, 600)]
    assert len({t.topic for t in seen}) == len(seen) > 50
    assert {t.peer for t in seen} == {""}
    assert {len(t.data) for t in seen} == {SIZE_CLASSES[0] + OVERHEAD}
    assert all(sessions)
    c = world.party("c")
    for transmission in seen:
        assert b.messenger.receive(transmission.topic, transmission.data) == []
        assert c.messenger.receive(transmission.topic, transmission.data) == []
    assert b.metrics.value("messages_ignored", reason="severed") == 0


def test_ghost__peer_was_switched_off__speaks_for_both_as_the_other_must_not(world):
    a, b = pair(world)
    talk(world, a, b, 600)
    (theirs,), (ours,) = a.messenger.blooms(), b.messenger.blooms()
    switch_off(world, a)
    seen = watch(world, 600)
    assert len(within(theirs, seen)) > 60
    assert len(within(ours, seen)) > 60


def test_ghost__both_go_on_working__each_speaks_for_itself(world):
    a, b = pair(world)
    talk(world, a, b, 600)
    (theirs,) = a.messenger.blooms()
    b.note(b.messenger.sever(a.id, "passed on"))
    (ghost,) = b.messenger.ghosts._ghosts.values()
    assert {voice.bloom for voice in ghost.voices} == {theirs}


def test_ghost__of_a_worker_that_is_switched_off_itself__there_is_none(world):
    a, b = pair(world)
    c = world.party("c")
    world.grant(c)
    a.messenger.connect(c.messenger.own_card(), "deal:2")
    world.run()
    talk(world, a, b, 60)
    a.note(a.messenger.sever(c.id, "passed on"))
    assert len(a.messenger.ghosts) == 1
    switch_off(world, a)
    assert len(a.messenger.ghosts) == 0
    seen = watch(world, 300)
    assert a.sendable() == []
    world.registry.off.clear()
    assert a.sendable() == []
    assert seen, "the others cover it"


def test_ghost__chain_out_of_sight__waits_as_messages_do(world):
    a, b = pair(world)
    talk(world, a, b, 120)
    switch_off(world, a)
    b.messenger._registry = Blind(world.registry)
    assert watch(world, 300) == []
    b.messenger._registry = world.registry
    assert 0 < len(watch(world, 20)) < 40, "and does not make up for it"


class Blind:
    """A registry whose newest block is too old."""

    def __init__(self, registry):
        self.stopped = registry.stopped

    def can_cooperate(self, _a, _b):
        return False

    def usable(self, _worker):
        return False


def test_ghost__its_version_is_over__ends_and_nothing_is_left_on_disk(world):
    a, b = pair(world)
    talk(world, a, b, 120)
    switch_off(world, a)
    world.rotate(grace=30, give_key_to=[b])
    assert len(watch(world, 25)) > 0
    world.clock.advance(6)
    b.tick()
    assert len(b.messenger.ghosts) == 0
    assert b.database.execute("SELECT count(*) FROM session_ghosts").fetchone() == (0,)
    assert watch(world, 300) == []


def test_ghost__restart__goes_on(world):
    a, b = pair(world)
    talk(world, a, b, 600)
    switch_off(world, a)
    before = len(watch(world, 600))
    b = world.restart(b)
    assert len(watch(world, 600)) == pytest.approx(before, rel=0.25)


def test_ghost__on_disk__names_nobody(world):
    a, b = pair(world)
    talk(world, a, b, 60)
    switch_off(world, a)
    ((tag, row),) = b.messenger.ghosts._ghosts.items()
    address = bytes.fromhex(a.id[2:])
    plain = msgspec.msgpack.encode(row)
    for secret in (a.id.encode(), a.id.lower().encode(), address):
        assert secret not in plain
        assert secret not in tag
    c = world.party("c")
    c.messenger.ghosts.leave(a.id, [], world.clock.now(), both=True)
    assert c.messenger.ghosts._tags.of(a.id) != tag


def test_ghost__the_two_meet_again__ends_as_their_own_messages_go_on(world):
    a, b = pair(world)
    talk(world, a, b, 60)
    b.note(b.messenger.sever(a.id, "the deal is over"))
    a.note(a.messenger.sever(b.id, "the deal is over"))
    assert (len(a.messenger.ghosts), len(b.messenger.ghosts)) == (1, 1)
    a.messenger.connect(b.messenger.own_card(), "deal:2")
    world.run()
    assert len(b.seen(Opened)) == 2
    assert (len(a.messenger.ghosts), len(b.messenger.ghosts)) == (0, 0)


def test_ghost__switched_off_and_on_again_and_again__is_one_and_no_louder(world):
    a, b = pair(world)
    talk(world, a, b, 120)
    for round_number in range(5):
        switch_off(world, a)
        world.registry.off.clear()
        a.messenger.connect(b.messenger.own_card(), f"deal:{round_number + 2}")
        world.run()
        talk(world, a, b, 20)
    switch_off(world, a)
    assert len(b.messenger.ghosts) == 1
    assert len(watch(world, 60)) < 60


def test_sever__session_never_confirmed__no_ghost(world):
    a, b = world.party("a"), world.party("b")
    world.rotate()
    a.messenger.connect(b.messenger.own_card(), "deal:1")
    a.tick()
    for transmission in a.sendable():
        b.take(transmission)
    switch_off(world, a)
    assert len(b.messenger.ghosts) == 0


def test_blooms__of_a_severed_session__stay_until_the_version_is_over(world):
    a, b = pair(world)
    world.rotate(lead=0, grace=1000)
    before = b.messenger.blooms()
    switch_off(world, a)
    assert b.messenger.blooms() == before
    world.rotate(grace=0, give_key_to=[b])
    b.tick()
    world.rotate(grace=0, give_key_to=[b])
    b.tick()
    assert b.messenger.blooms() == {b.messenger.own_card().bloom}


# pace


def test_pace__steady__is_measured_by_size():
    pace, now = Pace(), 0.0
    for n in range(500):
        now += 2.0
        pace.count(1 if n % 4 == 0 else 0, now)
    small, large, *rest = pace.rates(0.0, now, len(SIZE_CLASSES))
    assert small == pytest.approx(0.375, rel=0.1)
    assert large == pytest.approx(0.125, rel=0.1)
    assert rest == [0.0, 0.0]


def test_pace__silence_since__fades():
    pace = Pace()
    for n in range(100):
        pace.count(0, float(n))
    assert pace.rates(0.0, 100 + 5 * RECENT, 1)[0] < 0.01


def test_pace__of_a_young_session__is_not_what_its_first_words_were():
    pace = Pace()
    for _ in range(3):
        pace.count(0, 0.1)
    assert pace.rates(0.0, 0.2, 1)[0] < 3 / YOUNG * 1.1


def test_pace__clock_set_back__neither_breaks_nor_grows():
    pace = Pace()
    pace.count(0, 1000.0)
    pace.count(0, 0.0)
    assert pace.rates(0.0, 0.0, 1)[0] <= 2 / YOUNG * 1.1


# bounds


@pytest.mark.parametrize(("size", "count"), [(0, 100_000), (3, 5000)])
def test_ghost__of_a_peer_that_sent_as_much_as_it_could__is_bounded(world, size, count):
    a, b = pair(world)
    session = b.messenger.session(a.id)
    for _ in range(count):
        session.heard.count(size, world.clock.now())
    switch_off(world, a)
    (ghost,) = b.messenger.ghosts._ghosts.values()
    for bloom in {voice.bloom for voice in ghost.voices}:
        voices = [voice for voice in ghost.voices if voice.bloom == bloom]
        assert sum(voice.rate for voice in voices) <= ghosts.MOST * 1.001
        assert sum(voice.rate * SIZE_CLASSES[voice.size] for voice in voices) <= ghosts.MOST_BYTES * 1.001


def test_ghosts__very_many__together_are_bounded(world):
    a, b = pair(world)
    session = b.messenger.session(a.id)
    for _ in range(10_000):
        session.said.count(0, world.clock.now())
    for n in range(50):
        b.messenger.ghosts.leave(f"0x{n:040x}", [session], world.clock.now(), both=True)
    seen = watch(world, 60)
    assert len(seen) == pytest.approx(ghosts.ALL * 60, rel=0.2)


def test_ghost__clock_set_back_a_day__goes_on(world):
    a, b = pair(world)
    talk(world, a, b, 120)
    switch_off(world, a)
    assert watch(world, 30)
    world.clock.advance(-86_400)
    assert watch(world, 60)


def test_ghost__sender_was_busy__no_more_than_a_few_seconds_are_made_up_for(world):
    a, b = pair(world)
    talk(world, a, b, 300, every=1.0)
    switch_off(world, a)
    watch(world, 5)
    world.clock.advance(600)
    assert len(b.sendable()) < 30


# the attacker


class Counter:
    """Who knows one worker's bloom, records the flood, and counts what lies inside before and after a toggle.

    Strangers' envelopes fall inside by chance, before as after. He calls it a change when counts as far apart come one
    time in a thousand by chance.
    """

    LEVEL = 0.001

    def __init__(self, bloom):
        self._bloom = bloom

    def finds_a_change(self, before, after):
        earlier, later = (len(within(self._bloom, seen)) for seen in (before, after))
        apart = abs(later - earlier) / math.sqrt(earlier + later)
        return 2 * NormalDist().cdf(-apart) < self.LEVEL


def recorded(folder, seed, *, haunted, bits=BITS):
    """A world in which one of six workers is switched off: what was on the wire, and whose blooms there were."""
    world = World(folder)
    world.random = randomness.Random(seed)
    world.bloom_bits = bits
    parties = [world.party(name) for name in ("a", "b", "c", "d", "e", "f")]
    world.rotate()
    pairs = list(zip(parties[::2], parties[1::2], strict=True))
    for n, (one, other) in enumerate(pairs):
        one.messenger.connect(other.messenger.own_card(), f"deal:{n}")
    world.run()
    before = record(world, pairs)
    switch_off(world, parties[0])
    if not haunted:
        parties[1].messenger.fall_silent()
    after = record(world, pairs[1:])
    return before, after, [next(iter(party.messenger.blooms())) for party in parties]


def record(world, pairs, seconds=400):
    seen = []
    for _ in range(round(seconds / EVERY)):
        for one, other in pairs:
            if world.random.random() < 0.8:
                ask(one, other)
        world.wire.clear()
        world.run(2)
        seen += [(world.clock.now(), t) for t in world.wire]
        world.clock.advance(EVERY)
    return seen


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_toggle__somebody_counts_envelopes_in_blooms__finds_no_change(tmp_path, seed):
    before, after, blooms = recorded(tmp_path, seed, haunted=True)
    assert [Counter(bloom).finds_a_change(before, after) for bloom in blooms] == [False] * 6


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_toggle__without_ghosts__the_counterpart_is_found_by_its_silence(tmp_path, seed):
    """The control: the two that worked together, and nobody else."""
    before, after, blooms = recorded(tmp_path, seed, haunted=False)
    assert [Counter(bloom).finds_a_change(before, after) for bloom in blooms] == [True, True] + [False] * 4


@pytest.mark.parametrize("haunted", [True, False])
def test_toggle__full_blooms__there_is_the_sum_of_all_to_count__and_it_stays(tmp_path, haunted):
    before, after, blooms = recorded(tmp_path, 1, haunted=haunted, bits=512)
    assert set(blooms) == {FULL_BLOOM}
    assert Counter(FULL_BLOOM).finds_a_change(before, after) is not haunted
