from __future__ import annotations

from itertools import pairwise
from math import exp, inf
from random import Random

import pytest
from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from mixnet_world import NOW, relay_of

from quietfleet.errors import QueueFull
from quietfleet.mixnet import DEFAULT_LOADS, PACKET_SIZES, Embargo, Load, Path, Patience, Schedule, cost

FAR = NOW + 1e9
PATHS = [Path(relay_of(0), relay_of(2 * n + 1), relay_of(2 * n + 2)) for n in range(4)]


def run(schedule: Schedule, start: float, seconds: float) -> list[tuple[float, object]]:
    """Emit for so long; return when each left and what it carried."""
    left, now = [], start
    while (now := schedule.next_emission(now)) < start + seconds:
        left.append((now, schedule.emit(now)))
    return left


# cover


def test_emit__nothing_waits__is_cover(rng):
    schedule = Schedule(Load(2.0), rng, NOW)
    assert {item for _, item in run(schedule, NOW, 60)} == {None}


def test_emit__real_ones_wait__take_the_place_of_cover_without_moving_it():
    quiet, busy = (Schedule(Load(2.0), Random(5), NOW) for _ in range(2))
    busy.offer("real", FAR, NOW)
    times = [[at for at, _ in run(schedule, NOW, 60)] for schedule in (quiet, busy)]
    assert times[0] == times[1]


def test_emissions__many__come_as_a_poisson_process(rng):
    schedule = Schedule(Load(2.0), rng, NOW)
    times = [at for at, _ in run(schedule, NOW, 4000)]
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert len(times) == pytest.approx(8000, rel=0.04)
    for longer in (0.25, 0.5, 1.0, 2.0):
        assert sum(gap > longer for gap in gaps) / len(gaps) == pytest.approx(exp(-2 * longer), abs=0.02)


def test_emit__several_wait__earliest_deadline_leaves_first(rng):
    schedule = Schedule(Load(1.0), rng, NOW)
    for item, deadline in (("late", FAR), ("soon", NOW + 5), ("sooner", NOW + 2), ("also late", FAR)):
        schedule.offer(item, deadline, NOW)
    assert [schedule.emit(NOW) for _ in range(5)] == ["sooner", "soon", "late", "also late", None]


def test_offer__queue_full__is_refused_and_what_waits_stays(rng):
    schedule = Schedule(Load(1.0, queue=3), rng, NOW)
    for item in range(3):
        schedule.offer(item, FAR, NOW)
    with pytest.raises(QueueFull):
        schedule.offer(3, NOW, NOW)
    assert [schedule.emit(NOW) for _ in range(4)] == [0, 1, 2, None]


def test_expired__deadline_passed__is_handed_back_and_does_not_leave(rng):
    schedule = Schedule(Load(1.0), rng, NOW)
    schedule.offer("late", NOW + 1, NOW)
    schedule.offer("in time", NOW + 9, NOW)
    assert schedule.expired(NOW + 2) == ["late"]
    assert schedule.emit(NOW + 2) == "in time"


def test_withdraw__appeared_meanwhile__does_not_leave(rng):
    schedule = Schedule(Load(1.0), rng, NOW)
    for item in "abc":
        schedule.offer(item, FAR, NOW)
    schedule.withdraw("b")
    assert [schedule.emit(NOW) for _ in range(3)] == ["a", "c", None]


def test_level__sustained_backlog__doubles_and_falls_back_slowly(rng):
    load = Load(1.0, levels=3, raise_after=3, calm=100, queue=1000)
    schedule = Schedule(load, rng, NOW)
    for item in range(200):
        schedule.offer(item, FAR, NOW)
    run(schedule, NOW, 30)
    assert (schedule.level, schedule.rate) == (3, 8.0)
    run(schedule, NOW + 30, 90)
    assert len(schedule) == 0
    levels = [schedule.level]
    for step in range(40):
        run(schedule, NOW + 120 + 10 * step, 10)
        levels.append(schedule.level)
    assert sorted(levels, reverse=True) == levels
    assert levels[-1] == 0
    assert levels.count(2) >= 9


def test_level__single_messages_now_and_then__never_show(rng):
    schedule = Schedule(Load(1.0), rng, NOW)
    for number in range(200):
        schedule.offer(number, FAR, NOW + 20 * number)
        run(schedule, NOW + 20 * number, 20)
        assert schedule.level == 0


def test_schedule__without_cover__is_silent_until_something_waits(rng):
    schedule = Schedule(Load(1.0, cover=False), rng, NOW)
    assert schedule.next_emission(NOW + 100) == inf
    schedule.offer("real", FAR, NOW + 100)
    due = schedule.next_emission(NOW + 100)
    assert NOW + 100 < due < NOW + 200
    assert schedule.emit(due) == "real"
    assert schedule.next_emission(due) == inf


def test_next_emission__clock_was_set_back__goes_on_at_its_rate(rng):
    schedule = Schedule(Load(2.0), rng, NOW)
    run(schedule, NOW, 10)
    assert len(run(schedule, NOW - 3600, 60)) == pytest.approx(120, rel=0.3)


def test_cost__default_loads__is_what_the_manual_says():
    rates = [load.rate if load.cover else 0 for load in DEFAULT_LOADS]
    assert len(DEFAULT_LOADS) == len(PACKET_SIZES)
    assert cost(rates) == 4 * 896 + 0.5 * 4480
    assert cost([2.0]) == 2 * PACKET_SIZES[0]


class ScheduleMachine(RuleBasedStateMachine):
    """Whatever is offered, the queue and the rate keep their bounds, and nothing is lost or sent twice."""

    @initialize(seed=st.integers(0, 1000), cover=st.booleans())
    def start(self, seed, cover):
        self.load, self.now, self.waiting, self.number = Load(1.0, cover, levels=2, queue=5), float(NOW), {}, 0
        self.schedule = Schedule(self.load, Random(seed), self.now)

    @rule(patience=st.floats(0, 50))
    def offer(self, patience):
        self.number += 1
        try:
            self.schedule.offer(self.number, self.now + patience, self.now)
        except QueueFull:
            assert len(self.waiting) == 5
            return
        self.waiting[self.number] = self.now + patience

    @rule()
    def emit(self):
        due = self.schedule.next_emission(self.now)
        assume(due < inf)
        self.now = max(self.now, due)
        item = self.schedule.emit(self.now)
        first = min(self.waiting, key=lambda key: (self.waiting[key], key), default=None)
        assert item == first
        self.waiting.pop(item, None)

    @rule(seconds=st.floats(0, 400))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def expire(self):
        late = self.schedule.expired(self.now)
        assert set(late) == {key for key, deadline in self.waiting.items() if deadline < self.now}
        for key in late:
            del self.waiting[key]

    @invariant()
    def bounded(self):
        assert len(self.schedule) == len(self.waiting) <= 5
        assert self.schedule.rate in {1.0, 2.0, 4.0}


TestSchedule = ScheduleMachine.TestCase
TestSchedule.settings = settings(max_examples=50, stateful_step_count=40, deadline=None)


# embargo


@pytest.fixture
def embargo(rng) -> Embargo:
    return Embargo(Patience(timeout=6, jitter=0.5, tries=3, capacity=4), rng)


def test_seen__before_its_time__is_never_due(embargo):
    embargo.sent(b"h", b"envelope", FAR, PATHS[0], NOW)
    assert embargo.seen(b"h") == PATHS[0]
    assert embargo.due(NOW + 100) == []
    assert embargo.next_due() is None


def test_seen__somebody_elses__is_nothing(embargo):
    assert embargo.seen(b"h") is None


def test_due__not_seen__after_six_to_nine_seconds_with_the_paths_to_avoid(embargo):
    embargo.sent(b"h", b"envelope", FAR, PATHS[0], NOW)
    assert NOW + 6 <= embargo.next_due() <= NOW + 9
    assert embargo.due(NOW + 5.9) == []
    (due,) = embargo.due(NOW + 9)
    assert (due.hash, due.envelope, due.paths, due.exhausted) == (b"h", b"envelope", (PATHS[0],), False)


def test_due__timeouts_of_many__are_spread(embargo):
    waits = []
    for number in range(200):
        embargo.sent(bytes((number,)), b"e", FAR, PATHS[0], NOW)
        waits.append(embargo.next_due() - NOW)
        embargo.seen(bytes((number,)))
    assert min(waits) < 6.3
    assert max(waits) > 8.7


def test_attack__every_path_drops__given_up_after_so_many_tries_and_never_more(embargo):
    now, tries = float(NOW), 0
    for path in PATHS:
        embargo.sent(b"h", b"e", FAR, path, now)
        tries += 1
        now += 10
        (due,) = embargo.due(now)
        assert due.paths == tuple(PATHS[:tries])
        if due.exhausted:
            break
    assert tries == 3
    assert embargo.due(now + 100) == []


def test_due__envelope_expired_meanwhile__is_not_sent_again(embargo):
    embargo.sent(b"h", b"e", NOW + 5, PATHS[0], NOW)
    (due,) = embargo.due(NOW + 10)
    assert due.exhausted
    assert len(embargo) == 0


def test_due__resend_could_not_leave__comes_back_later(embargo):
    embargo.sent(b"h", b"e", FAR, PATHS[0], NOW)
    assert embargo.due(NOW + 10)
    assert embargo.due(NOW + 11) == []
    assert embargo.due(NOW + 20)


def test_sent__more_than_it_can_watch__lets_the_oldest_go(embargo):
    dropped = [embargo.sent(bytes((number,)), b"e", FAR, PATHS[0], NOW) for number in range(6)]
    assert dropped == [0, 0, 0, 0, 1, 1]
    assert len(embargo) == 4
    assert embargo.seen(b"\x00") is None
    assert embargo.seen(b"\x05") == PATHS[0]
