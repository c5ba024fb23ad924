from __future__ import annotations

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mixnet_world import DOMAIN, NOW, Register, descriptor_of, full_book, node_key, relay_of

from quietfleet.errors import GuardUnavailable, PathUnavailable
from quietfleet.mixnet import Guards, Path, Relay, choose_path
from quietfleet.mixnet.guards import (
    ABSENCE,
    DAY,
    FIRST_PAUSE,
    LINK_FAILURES,
    LONGEST_PAUSE,
    MAX_TRIED,
    PATH_FAILURES,
    PERIOD,
    PIN,
)

RELAYS = [relay_of(number) for number in range(12)]
DESCRIPTORS = [relay.descriptor for relay in RELAYS]


def id_of(number: int) -> str:
    return node_key(number).public.id


# paths


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=12), st.sampled_from("abcdex"), st.integers())
def test_choose_path__any_owners__three_different_ones_never_ours_or_none_at_all(owners, own, seed):
    live = [Relay(descriptor, owner) for descriptor, owner in zip(DESCRIPTORS, owners, strict=False)]
    guard = live[0]
    others = set(owners) - {guard.owner, own}
    if guard.owner == own or len(others) < 2:
        with pytest.raises(PathUnavailable):
            choose_path(live, guard, Random(seed), own_owner=own)
        return
    path = choose_path(live, guard, Random(seed), own_owner=own)
    assert path.guard == guard
    assert len({relay.owner for relay in (path.guard, path.middle, path.exit)}) == 3
    assert own not in {path.middle.owner, path.exit.owner}
    assert {path.middle, path.exit} <= set(live)


@settings(max_examples=50, deadline=None)
@given(st.integers())
def test_choose_path__avoiding_earlier_ones__shares_no_middle_or_exit_with_them(seed):
    rng, paths = Random(seed), []
    for _ in range(5):  # twelve relays: a guard and five pairs
        paths.append(choose_path(RELAYS, RELAYS[0], rng, avoid=paths))
    used = [relay for path in paths for relay in (path.middle, path.exit)]
    assert len(set(used)) == len(used)
    with pytest.raises(PathUnavailable):
        choose_path(RELAYS, RELAYS[0], rng, avoid=paths)


def test_choose_path__avoiding_one_owner__avoids_its_other_relays_too(rng):
    live = [RELAYS[0], *(Relay(descriptor, "dropper") for descriptor in DESCRIPTORS[1:6]), *RELAYS[6:9]]
    path = choose_path(live, live[0], rng, avoid=[Path(live[0], live[1], live[6])])
    assert "dropper" not in {path.middle.owner, path.exit.owner}


def test_choose_path__many_draws__every_pair_as_often_as_any(rng):
    live = RELAYS[:5]
    pairs = Counter(choose_path(live, live[0], rng).addresses[1:] for _ in range(2400))
    assert len(pairs) == 12
    assert max(pairs.values()) < 1.35 * 200
    assert min(pairs.values()) > 0.65 * 200


def test_attack__one_owner_registers_many_relays__never_twice_in_a_path(rng):
    live = [relay_of(0), relay_of(1), *(Relay(descriptor, "sybil") for descriptor in DESCRIPTORS[2:])]
    for _ in range(200):
        path = choose_path(live, live[0], rng)
        assert Counter(relay.owner for relay in (path.guard, path.middle, path.exit))["sybil"] <= 1


@pytest.mark.parametrize(("known", "registered", "enough"), [(6, 12, True), (5, 12, False), (3, 0, True)])
def test_attack__gossip_that_hides_most_relays__is_no_ground_to_choose_on(known, registered, enough, rng):
    if enough:
        assert choose_path(RELAYS[:known], RELAYS[0], rng, registered=registered)
        return
    with pytest.raises(PathUnavailable):
        choose_path(RELAYS[:known], RELAYS[0], rng, registered=registered)


def test_path__descriptors_and_addresses__come_guard_first(rng):
    path = choose_path(RELAYS, RELAYS[4], rng)
    assert path.descriptors[0] == DESCRIPTORS[4]
    assert [descriptor.address for descriptor in path.descriptors] == list(path.addresses)


# guards


class Disk:
    def __init__(self) -> None:
        self.saved: bytes | None = None

    def load(self) -> bytes | None:
        return self.saved

    def save(self, saved: bytes) -> None:
        self.saved = saved


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def enrolled(register) -> Register:
    for number in range(len(RELAYS)):
        register.enrol(number)
    return register


@pytest.fixture
def guards(disk, enrolled, rng) -> Guards:
    return Guards(disk.load, disk.save, enrolled.owner_of, rng)


def fail(guards: Guards, relay: Relay, now: float, times: int = LINK_FAILURES) -> None:
    for _ in range(times):
        guards.link_failed(relay.descriptor.id, now)


def test_current__asked_again_and_after_a_restart__is_the_same(guards, disk, enrolled):
    first = guards.current(RELAYS, NOW)
    assert guards.current(RELAYS, NOW + DAY) == first
    for seed in range(5):
        again = Guards(disk.load, disk.save, enrolled.owner_of, Random(seed))
        assert again.current(RELAYS, NOW + DAY) == first


def test_current__many_nodes__each_relay_is_as_often_a_guard(enrolled):
    drawn = Counter()
    for seed in range(600):
        disk = Disk()
        drawn[Guards(disk.load, disk.save, enrolled.owner_of, Random(seed)).current(RELAYS, NOW).address] += 1
    assert len(drawn) == len(RELAYS)
    assert max(drawn.values()) < 90  # 50 expected


def test_current__saved_before_it_is_used(guards, disk):
    relay = guards.current(RELAYS, NOW)
    assert relay.descriptor.encode() in disk.saved


def test_current__disk_refuses__no_guard_is_used(enrolled, rng):
    def refuse(_):
        raise OSError

    guards = Guards(lambda: None, refuse, enrolled.owner_of, rng)
    for _ in range(2):
        with pytest.raises(OSError):
            guards.current(RELAYS, NOW)
    assert guards.entries == ()


@pytest.mark.parametrize("saved", [b"", b"junk", b"\x93", b"\x82\xa6guards\xc0\xa8tried_at\x90"])
def test_guards__saved_list_unreadable__refuses_to_start_anew(saved, enrolled, rng):
    with pytest.raises(GuardUnavailable):
        Guards(lambda: saved, lambda _: None, enrolled.owner_of, rng)


def test_link_failed__fewer_times_than_enough__changes_nothing(guards):
    first = guards.current(RELAYS, NOW)
    fail(guards, first, NOW, LINK_FAILURES - 1)
    guards.succeeded(first.descriptor.id, NOW)
    fail(guards, first, NOW, LINK_FAILURES - 1)
    assert guards.current(RELAYS, NOW) == first


def test_link_failed__in_a_row__another_serves_until_the_first_is_back(guards):
    first = guards.current(RELAYS, NOW)
    fail(guards, first, NOW)
    second = guards.current(RELAYS, NOW)
    assert second.owner != first.owner
    assert [entry.up for entry in guards.entries] == [False, True]
    assert guards.current(RELAYS, NOW + FIRST_PAUSE - 1) == second
    assert guards.current(RELAYS, NOW + FIRST_PAUSE) == first
    guards.succeeded(first.descriptor.id, NOW + FIRST_PAUSE)
    assert [entry.up for entry in guards.entries] == [True, True]


def test_link_failed__on_trial__is_down_twice_as_long_up_to_an_hour(guards):
    first = guards.current(RELAYS, NOW)
    fail(guards, first, NOW)
    now, pauses = float(NOW), []
    for _ in range(9):
        start = now
        while guards.current(RELAYS, now) != first:
            now += 10
        pauses.append(now - start)
        guards.link_failed(first.descriptor.id, now)
    assert pauses == [min(FIRST_PAUSE * 2**n, LONGEST_PAUSE) for n in range(9)]


def test_path_failed__while_others_succeed__an_honest_guard_stays(guards):
    first = guards.current(RELAYS, NOW)
    for _ in range(20):
        for _ in range(PATH_FAILURES - 1):
            guards.path_failed(first.descriptor.id, NOW)
        guards.succeeded(first.descriptor.id, NOW)
    assert guards.current(RELAYS, NOW) == first


def test_attack__guard_drops_everything__makes_room_for_another(guards):
    first = guards.current(RELAYS, NOW)
    for _ in range(PATH_FAILURES):
        guards.path_failed(first.descriptor.id, NOW)
    assert guards.current(RELAYS, NOW) != first


def test_attack__every_guard_drops__no_more_than_three_are_ever_tried_in_a_month(guards):
    tried = set()
    for hour in range(24 * 29):
        now = NOW + hour * 3600
        with suppress(GuardUnavailable):
            while True:
                relay = guards.current(RELAYS, now)
                tried.add(relay.address)
                fail(guards, relay, now)
    assert len(tried) == MAX_TRIED


def test_current__all_tried_are_down__says_when_to_ask_again(guards):
    for _ in range(MAX_TRIED):
        fail(guards, guards.current(RELAYS, NOW), NOW)
    with pytest.raises(GuardUnavailable) as refused:
        guards.current(RELAYS, NOW)
    assert refused.value.retry_at == NOW + FIRST_PAUSE
    assert guards.current(RELAYS, NOW + FIRST_PAUSE)


def test_current__guard_left_the_registry__is_not_used_and_after_a_day_forgotten(guards, enrolled):
    first = guards.current(RELAYS, NOW)
    others = [relay for relay in RELAYS if relay != first]
    enrolled.retire(RELAYS.index(first))
    second = guards.current(others, NOW)
    assert second != first
    guards.current(others, NOW + DAY - 1)
    assert first.descriptor in [entry.descriptor for entry in guards.entries]
    guards.current(others, NOW + DAY)
    assert [entry.descriptor for entry in guards.entries] == [second.descriptor]


def test_current__guard_switched_off_and_on_again__is_ours_again(guards, enrolled):
    first = guards.current(RELAYS, NOW)
    enrolled.retire(RELAYS.index(first))
    guards.current([relay for relay in RELAYS if relay != first], NOW)
    enrolled.enrol(RELAYS.index(first))
    assert guards.current(RELAYS, NOW + DAY - 1) == first


def test_current__pin_is_over__another_is_drawn(guards):
    guards.current(RELAYS, NOW)
    (entry,) = guards.entries
    assert PIN[0] <= entry.pinned_until - NOW <= PIN[1]
    guards.current(RELAYS, entry.pinned_until - 1)
    assert guards.entries == (entry,)
    guards.current(RELAYS, entry.pinned_until)
    assert entry not in guards.entries
    assert len(guards.entries) == 1


def test_current__descriptor_not_at_hand_after_a_start__is_waited_for(guards):
    first = guards.current(RELAYS, NOW)
    others = [relay for relay in RELAYS if relay != first]
    with pytest.raises(GuardUnavailable) as refused:
        guards.current(others, NOW + 1)
    assert refused.value.retry_at == NOW + 1 + ABSENCE
    assert guards.current(RELAYS, NOW + 2) == first
    with pytest.raises(GuardUnavailable):
        guards.current(others, NOW + 3)
    assert guards.current(others, NOW + 3 + ABSENCE) in others


def test_entries__guard_renewed_its_descriptor__the_newest_is_kept_for_dialling(guards, disk, enrolled, rng):
    first = guards.current(RELAYS, NOW)
    number = RELAYS.index(first)
    newer = descriptor_of(number, NOW + 60)
    guards.current([Relay(newer, first.owner)], NOW + 60)
    again = Guards(disk.load, disk.save, enrolled.owner_of, rng)
    assert [entry.descriptor for entry in again.entries] == [newer]


def test_current__too_few_relays_known__draws_none(guards):
    with pytest.raises(PathUnavailable):
        guards.current(RELAYS[:5], NOW, registered=12)
    assert guards.entries == ()


def test_current__only_relays_of_our_own_owner__draws_none(disk, enrolled, rng):
    guards = Guards(disk.load, disk.save, enrolled.owner_of, rng, own_owner=lambda: "owner 3")
    with pytest.raises(GuardUnavailable):
        guards.current([RELAYS[3]], NOW)


def test_second__only_when_one_was_ever_needed__and_never_drawn(guards):
    first = guards.current(RELAYS, NOW)
    assert guards.second(RELAYS, NOW) is None
    fail(guards, first, NOW)
    other = guards.current(RELAYS, NOW)
    assert guards.second(RELAYS, NOW + FIRST_PAUSE) == other
    assert len(guards.entries) == 2


def test_failures__of_a_relay_that_is_no_guard__are_nothing(guards, disk):
    guards.current(RELAYS, NOW)
    before = disk.saved
    outsider = next(relay for relay in RELAYS if relay != guards.current(RELAYS, NOW)).descriptor.id
    guards.link_failed(outsider, NOW)
    guards.path_failed(outsider, NOW)
    guards.succeeded(outsider, NOW)
    assert disk.saved == before


class GuardsMachine(RuleBasedStateMachine):
    """Anything may happen to guards; what must hold is who may ever be one."""

    @initialize(seed=st.integers(0, 1000))
    def start(self, seed):
        self.register, self.disk, self.rng, self.now = Register(), Disk(), Random(seed), float(NOW)
        for number in range(len(RELAYS)):
            self.register.enrol(number)
        self.tried: dict[str, list[float]] = {}
        self.down_until: dict[str, float] = {}
        self.load()

    def load(self):
        owner_of = self.register.owner_of
        self.guards = Guards(self.disk.load, self.disk.save, owner_of, self.rng, lambda: "owner 0")

    def live(self):
        return [relay for number, relay in enumerate(RELAYS) if id_of(number) in self.register]

    @rule(hidden=st.sets(st.integers(0, len(RELAYS) - 1), max_size=3))
    def ask(self, hidden):
        listed = [entry.descriptor.id for entry in self.guards.entries]
        live = [relay for relay in self.live() if relay not in [RELAYS[number] for number in hidden]]
        try:
            relay = self.guards.current(live, self.now)
        except GuardUnavailable:
            return
        assert relay in live
        assert relay.owner != "owner 0"
        if relay.descriptor.id not in listed:
            self.tried.setdefault(relay.descriptor.id, []).append(self.now)
        self.check_order(relay.descriptor.id, {one.descriptor.id for one in live})

    def check_order(self, chosen, known):
        """Nobody is passed over who is known, and not down."""
        for entry in self.guards.entries:
            if entry.descriptor.id == chosen:
                assert entry.pinned_until > self.now
                return
            assert entry.descriptor.id not in known or self.down_until.get(entry.descriptor.id, 0) > self.now
        raise AssertionError("the guard is not on the list")

    @rule(which=st.integers(0, 3), times=st.integers(1, 9), path=st.booleans())
    def failing(self, which, times, path):
        entries = self.guards.entries
        assume(which < len(entries))
        relay_id = entries[which].descriptor.id
        for _ in range(times):
            (self.guards.path_failed if path else self.guards.link_failed)(relay_id, self.now)
        if not self.guards.entries[which].up:
            self.down_until[relay_id] = self.now + LONGEST_PAUSE

    @rule(which=st.integers(0, 3))
    def succeeding(self, which):
        entries = self.guards.entries
        assume(which < len(entries))
        self.guards.succeeded(entries[which].descriptor.id, self.now)
        self.down_until.pop(entries[which].descriptor.id, None)

    @rule(number=st.integers(0, len(RELAYS) - 1))
    def retire(self, number):
        assume(len(self.register) > 4)
        self.register.retire(number)

    @rule(number=st.integers(0, len(RELAYS) - 1))
    def enrol(self, number):
        self.register.enrol(number)

    @rule(seconds=st.sampled_from([1, 30, 90, 700, 4000, DAY, 10 * DAY, 40 * DAY]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def restart(self):
        before = self.guards.entries
        self.load()
        assert self.guards.entries == before

    @invariant()
    def few_are_tried(self):
        times = [at for tries in self.tried.values() for at in tries]
        assert all(sum(at - PERIOD < other <= at for other in times) <= MAX_TRIED for at in times)

    @invariant()
    def list_is_short(self):
        assert len(self.guards.entries) <= MAX_TRIED * (1 + PIN[1] // PERIOD)


TestGuards = GuardsMachine.TestCase
TestGuards.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_full_book__gives_what_guards_and_paths_need(rng, disk):
    book = full_book(8)
    guards = Guards(disk.load, disk.save, book._owner_of, rng)
    path = choose_path(book.live(NOW), guards.current(book.live(NOW), NOW, 8), rng, registered=8)
    assert len(set(path.addresses)) == 3
    assert book._domain == DOMAIN
