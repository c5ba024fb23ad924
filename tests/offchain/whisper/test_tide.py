"""The level rises under a flood that lasts, falls when it has been calm for long, and never swings in between."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from quietfleet.whisper.tide import LONGEST_CALM, Load, Mark, Memory, Standing, Tide, TideTuning, same

TUNING = TideTuning(capacity=100.0, window=30.0, calm=300.0)
BASE = 0.2


class Chain:
    """A network whose level the tide moves; a change takes a grace, as on chain."""

    def __init__(self, tuning=TUNING, grace=20.0):
        self.now, self.taken, self.refused, self.grace = 1_000.0, 0.0, 0.0, grace
        self.standing = Standing(BASE, 0.1, 3.0, 0.0)
        self.tide = Tide(tuning)
        self.tide.follow(BASE)
        self.changes = []

    def set(self, level):
        """The chain takes a level, whoever asked for it."""
        self.changes.append((self.now, self.standing.level, level))
        self.standing = replace(self.standing, level=level, free_from=self.now + self.grace)
        self.tide.follow(level)

    def second(self, rate=0.0, *, refused=0.0, fill=0.0, step=1):
        self.now += step
        self.taken += rate * step
        self.refused += refused * step
        self.tide.look(self.now, Load(self.taken, self.refused, fill))
        level = self.tide.due(self.now, self.standing)
        if level is not None:
            self.tide.ask(level)
            self.set(level)

    def run(self, seconds, rate=0.0, **rest):
        for _ in range(0, int(seconds), rest.get("step", 1)):
            self.second(rate, **rest)
        return self.standing.level


@pytest.fixture
def chain():
    return Chain()


@pytest.mark.parametrize("load", [{"rate": 150}, {"refused": 150}, {"rate": 60, "refused": 60}, {"fill": 0.9}], ids=str)
def test_due__flood_that_lasts__doubles_up_to_the_chains_bound(load, chain):
    chain.run(29, **load)
    assert chain.standing.level == BASE
    chain.run(600, **load)
    assert [after for _, _, after in chain.changes] == [0.4, 0.8, 1.6, 3.0]


def test_due__burst__changes_nothing(chain):
    chain.run(60, 10)
    chain.run(14, 5_000)
    assert chain.run(600, 10) == BASE
    assert chain.changes == []


def test_due__flood_that_pauses_for_a_third_of_the_time__rises_all_the_same(chain):
    for _ in range(10):
        chain.run(4, 500)
        chain.run(2, 0)
    assert chain.standing.level > BASE


def test_due__busy_but_within_capacity__never_moves(chain):
    assert chain.run(5_000, 95) == BASE
    assert chain.changes == []


def test_due__calm_after_a_flood__falls_step_by_step_to_where_it_began(chain):
    top = chain.run(80, 500)
    assert top == 0.8
    began = chain.now
    chain.run(299, 5)
    assert chain.standing.level == top
    assert chain.run(3_000, 5) == BASE
    falls = [(at, after) for at, before, after in chain.changes if after < before]
    assert [after for _, after in falls] == [0.4, BASE]
    assert all(
        later - earlier >= TUNING.calm
        for earlier, later in zip([began, *(at for at, _ in falls)], [at for at, _ in falls], strict=False)
    )
    assert chain.tide.memory.mark is None


def test_due__between_the_edges__stays_risen(chain):
    top = chain.run(40, 500)
    assert chain.run(5_000, 60) == top


def test_due__flood_comes_back_after_each_fall__needs_twice_the_calm(chain):
    chain.run(40, 500)
    calms = []
    for _ in range(3):
        start = chain.now
        while chain.standing.level > BASE:
            chain.second(5)
        calms.append(chain.now - start)
        chain.run(40, 500)
    assert [round(calm / 300) for calm in calms] == [1, 2, 4]
    assert chain.tide.memory.mark.calm == 8 * TUNING.calm


def test_due__calm_for_long_where_it_began__forgets_the_tide(chain):
    chain.run(40, 500)
    chain.run(1_000, 5)
    assert chain.tide.memory.mark is None
    chain.run(40, 500)
    assert chain.tide.memory.mark == Mark(BASE, TUNING.calm)


def test_due__chain_not_free_yet__waits(chain):
    chain.standing = replace(chain.standing, free_from=chain.now + 100)
    chain.run(99, 500)
    assert chain.changes == []
    chain.run(2, 500)
    assert len(chain.changes) == 1


def test_due__bound_lowered_below_the_level__does_not_rise(chain):
    chain.standing = replace(chain.standing, most=0.1)
    assert chain.run(300, 500) == BASE


def test_due__least_raised_above_the_base__falls_to_it_and_no_further(chain):
    chain.run(80, 500)
    chain.standing = replace(chain.standing, least=0.3)
    assert chain.run(3_000, 5) == 0.3
    assert chain.tide.memory.mark is None


def test_follow__somebody_else_sets_a_level__ends_the_tide(chain):
    chain.run(40, 500)
    chain.set(1.0)
    assert chain.tide.memory == Memory(1.0)
    assert chain.run(3_000, 5) == 1.0


def test_follow__new_keys_under_the_same_level__goes_on(chain):
    chain.run(40, 500)
    before = chain.tide.memory
    chain.tide.follow(0.4)
    assert chain.tide.memory == before
    assert chain.run(3_000, 5) == BASE


def test_follow__asked_for_and_never_set__is_forgotten(chain):
    chain.tide.ask(0.4)
    chain.tide.follow(BASE)
    assert chain.tide.memory == Memory(BASE)


def test_memory__restarted_between_asking_and_hearing__knows_its_own(chain):
    chain.tide.ask(0.4)
    again = Tide(TUNING, chain.tide.memory)
    again.follow(0.4)
    assert again.memory == Memory(0.4, None, Mark(BASE, TUNING.calm))


def test_memory__restarted_while_risen__falls_in_the_end(chain):
    chain.run(40, 500)
    chain.tide = Tide(TUNING, chain.tide.memory)
    chain.tide.follow(0.4)
    chain.taken = 0.0
    assert chain.run(1_000, 5) == BASE


@pytest.mark.parametrize("seconds", [-500, 0.5])
def test_look__clock_set_back_or_hardly_moved__is_no_rate(seconds, chain):
    chain.run(29, 10)
    chain.tide.look(chain.now + seconds, Load(1e9, 0.0, 0.0))
    assert chain.tide.pressure < 1


def test_look__counters_begin_anew__is_no_rate(chain):
    chain.run(60, 10)
    chain.taken = 0.0
    chain.run(60, 10)
    assert chain.changes == []
    assert 0 < chain.tide.pressure < 0.2


def test_look__a_gap_in_the_looks__counts_for_as_long_as_it_was(chain):
    """A worker that slept for ten minutes sees all at once what came in them."""
    chain.run(40, 10)
    chain.now += 599
    chain.second(600 * 10)
    assert chain.changes == []
    assert chain.tide.pressure == pytest.approx(0.1)


def test_tide__memory__is_bounded(chain):
    chain.run(5_000, 10)
    assert len(chain.tide._intervals) <= TUNING.window + 2


class Weather(RuleBasedStateMachine):
    """Any weather, and somebody who sets levels by hand."""

    def __init__(self):
        super().__init__()
        self.chain = Chain(grace=25.0)
        self.by_hand = BASE

    @rule(seconds=st.integers(1, 400), rate=st.sampled_from([0, 5, 24, 60, 99, 150, 10_000]), fill=st.floats(0, 1))
    def pass_time(self, seconds, rate, fill):
        self.chain.run(seconds, rate, fill=fill)

    @rule(seconds=st.integers(300, 2_000))
    def calm(self, seconds):
        self.chain.run(seconds, 1)

    @rule(level=st.sampled_from([0.1, 0.2, 0.5, 3.0]))
    def set_by_hand(self, level):
        if not same(level, self.chain.standing.level):
            self.chain.set(level)
            self.by_hand = level
            self.chain.changes.clear()

    @precondition(lambda self: self.chain.changes)
    @rule()
    def restart(self):
        self.chain.tide = Tide(TUNING, self.chain.tide.memory)
        self.chain.tide.follow(self.chain.standing.level)

    @invariant()
    def within_the_bounds(self):
        standing = self.chain.standing
        assert standing.least <= standing.level <= standing.most

    @invariant()
    def never_below_where_somebody_put_it(self):
        assert self.chain.standing.level >= self.by_hand

    @invariant()
    def never_faster_than_the_grace_nor_more_than_a_factor(self):
        changes = self.chain.changes
        for (earlier, _, _), (later, before, after) in pairwise(changes):
            assert later - earlier >= max(self.chain.grace, TUNING.calm if after < before else TUNING.window - 1)
        assert all(0.5 <= after / before <= 2 for _, before, after in changes)

    @invariant()
    def a_tide_is_marked_while_the_level_is_its_own(self):
        mark = self.chain.tide.memory.mark
        if not same(self.chain.standing.level, self.by_hand):
            assert mark is not None
            assert same(mark.base, self.by_hand)
        assert mark is None or TUNING.calm <= mark.calm <= LONGEST_CALM

    def teardown(self):
        self.chain.run(6 * LONGEST_CALM, 1, step=20)
        assert same(self.chain.standing.level, self.by_hand)
        assert self.chain.tide.memory.mark is None


TestWeather = Weather.TestCase
TestWeather.settings = settings(max_examples=10, stateful_step_count=12, deadline=None)


@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 0.7)), min_size=30, max_size=120))
def test_due__never_above_capacity__never_rises(seconds):
    chain = Chain()
    for rate, fill in seconds:
        chain.second(rate, fill=fill)
    assert chain.changes == []
