"""Endpoints in use and in reserve: who is left for whom, who comes back, and that no event is lost on the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from memory_chain import DEPLOYMENT, FIRST_BLOCK, SECONDS_A_BLOCK, MemoryChain, worker_id
from test_chain_follower import BRANCH, Mirror, assert_equal

from quietfleet.chain.endpoints import COMPARE_EVERY, LAG, REST, Endpoints
from quietfleet.chain.follower import Follower
from quietfleet.chain.replica import Replica
from quietfleet.chain.watch import Watch
from quietfleet.clock import ManualClock
from quietfleet.errors import (
    AbiError,
    ChainDisagreement,
    ChainError,
    ChainMismatch,
    ChainRefused,
    ChainUnavailable,
    ReplicaGap,
)
from quietfleet.storage import Database

MAX_AGE = 8 * SECONDS_A_BLOCK


class View:
    """An endpoint: it shows a chain up to some blocks below its end, or fails as the test says."""

    def __init__(self, chain, lag=0):
        self.chain, self.lag, self.error, self.after = chain, lag, None, 0
        self.asked = []

    async def header(self, number=None):
        self._ask("header")
        last = max(0, self.chain.height - self.lag)
        wanted = last if number is None else number
        return self.chain.blocks[wanted].header if wanted <= last else None

    async def logs(self, first, last):
        self._ask("logs")
        return await self.chain.logs(first, min(last, self.chain.height - self.lag))

    async def logs_in(self, block_hash):
        self._ask("logs_in")
        return await self.chain.logs_in(block_hash)

    def _ask(self, what):
        self.asked.append(what)
        if self.error is not None and len(self.asked) > self.after:
            raise self.error


class Bench:
    """A chain, views of it, the endpoints over them and a clock that shows the chain's time."""

    def __init__(self, count, agreeing=1, lags=()):
        self.chain = MemoryChain()
        self.views = [View(self.chain, lag) for lag, _ in itertools.zip_longest(lags, range(count), fillvalue=0)]
        self.clock = ManualClock(self.chain.blocks[-1].header.timestamp + 1.0)
        self.endpoints = Endpoints(self.views, self.clock, MAX_AGE, agreeing=agreeing)

    def pass_time(self, seconds):
        """Let time pass, and the chain with it."""
        self.clock.advance(seconds)
        while self.chain.blocks[-1].header.timestamp + SECONDS_A_BLOCK < self.clock.now():
            self.chain.extend()

    async def height(self):
        return (await self.endpoints.header()).number

    def lag_behind(self, place, blocks):
        self.views[place].lag = blocks


def down():
    return ChainUnavailable("down")


@pytest.fixture
def three():
    return Bench(3)


async def test_header__all_is_well__the_first_alone_is_asked(three):
    for _ in range(5):
        three.pass_time(SECONDS_A_BLOCK)
        assert await three.height() == three.chain.height
    assert three.endpoints.in_use == (0,)
    assert [len(view.asked) for view in three.views] == [5, 0, 0]


@pytest.mark.parametrize("error", [down(), ChainRefused("eth_getBlockByNumber", "no"), ChainMismatch("chain 5")])
async def test_header__the_first_fails__the_next_is_used_and_the_first_rests(three, error):
    three.views[0].error = error
    assert await three.height() == three.chain.height
    assert (three.endpoints.in_use, three.endpoints.resting, three.endpoints.switches) == ((1,), (0,), 1)
    asked = len(three.views[0].asked)
    await three.height()
    assert len(three.views[0].asked) == asked, "while it rests nobody asks it"


async def test_header__the_first_is_well_again__used_again_after_its_rest(three):
    three.views[0].error = down()
    await three.height()
    three.views[0].error = None
    three.pass_time(REST / 2)
    await three.height()
    assert three.endpoints.in_use == (1,)
    three.pass_time(REST / 2 + 1)
    await three.height()
    assert (three.endpoints.in_use, three.endpoints.resting) == ((0,), ())


async def test_header__clock_was_set_back__does_not_prolong_the_rest(three):
    three.views[0].error = down()
    await three.height()
    three.views[0].error = None
    three.clock.advance(-86_400)
    await three.height()
    assert three.endpoints.in_use == (0,)


async def test_header__all_fail__raises_and_the_first_to_recover_is_used(three):
    for view in three.views:
        view.error = down()
    with pytest.raises(ChainUnavailable):
        await three.height()
    three.views[2].error = None
    assert await three.height() == three.chain.height
    assert three.endpoints.in_use == (2,)


async def test_header__all_are_of_another_chain__says_so(three):
    for view in three.views:
        view.error = ChainMismatch("chain 5")
    with pytest.raises(ChainMismatch):
        await three.height()


async def test_header__the_one_in_use_stands_still__left_for_one_that_goes_on(three):
    for _ in range(12):
        three.pass_time(SECONDS_A_BLOCK)
        three.views[0].lag += 1
        assert three.chain.height - await three.height() <= LAG
    assert three.endpoints.in_use == (1,)


async def test_header__the_one_in_use_is_a_little_behind__stays(three):
    three.lag_behind(0, 2)
    for _ in range(20):
        three.pass_time(SECONDS_A_BLOCK)
        await three.height()
    assert three.endpoints.switches == 0


async def test_header__the_chain_itself_stands_still__nobody_is_left(three):
    three.clock.advance(MAX_AGE * 3)
    for _ in range(5):
        await three.height()
        three.clock.advance(COMPARE_EVERY)
    assert (three.endpoints.in_use, three.endpoints.resting) == ((0,), ())


async def test_header__a_fallback_claims_a_far_higher_block__not_followed_while_the_first_is_young(three):
    liar = MemoryChain()
    for _ in range(50):
        liar.extend()
    three.views[1].chain = liar
    for _ in range(20):
        three.pass_time(SECONDS_A_BLOCK)
        await three.height()
    assert three.endpoints.switches == 0
    assert three.views[1].asked == []


async def test_header__a_fallback_claims_a_block_of_tomorrow__not_followed_even_when_the_first_is_old(three):
    liar = MemoryChain()
    while liar.blocks[-1].header.timestamp < three.clock.now() + 86_400:
        liar.extend()
    three.views[1].chain = liar
    three.clock.advance(MAX_AGE)
    await three.height()
    assert three.endpoints.in_use == (0,)


async def test_header__the_next_lags_too__the_one_after_it_is_used(three):
    for _ in range(12):
        three.pass_time(SECONDS_A_BLOCK)
    three.views[0].error = down()
    three.lag_behind(1, 10)
    assert await three.height() == three.chain.height
    assert three.endpoints.in_use == (2,)


async def test_read__fails_in_the_middle__nothing_else_of_that_reading_goes_to_another(three):
    await three.height()
    three.views[0].error = down()
    with pytest.raises(ChainUnavailable):
        await three.endpoints.logs(0, 3)
    with pytest.raises(ChainUnavailable):
        await three.endpoints.header(2)
    assert three.views[1].asked == three.views[2].asked == []
    assert three.endpoints.failed(down())
    await three.endpoints.header()
    assert three.endpoints.in_use == (1,)


@pytest.mark.parametrize("error", [ReplicaGap(), AbiError("x"), ChainUnavailable("does not hold still")])
async def test_failed__what_was_read_makes_no_sense__whoever_said_it_rests(three, error):
    await three.height()
    assert three.endpoints.failed(error)
    assert three.endpoints.resting == (0,)


async def test_failed__nobody_else_is_left__waits(three):
    for view in three.views:
        view.error = down()
    with pytest.raises(ChainUnavailable):
        await three.height()
    assert not three.endpoints.failed(down())
    assert not Bench(1).endpoints.failed(down())


async def test_agreeing__one_of_two_fails__the_fallback_takes_its_place_and_no_endpoint_counts_twice():
    bench = Bench(3, agreeing=2)
    await bench.height()
    assert bench.endpoints.in_use == (0, 1)
    bench.views[0].error = down()
    await bench.height()
    assert bench.endpoints.in_use == (1, 2)
    bench.views[2].error = down()
    with pytest.raises(ChainUnavailable):
        await bench.height()


async def test_agreeing__one_refuses_what_the_reading_needs__it_alone_rests():
    bench = Bench(3, agreeing=2)
    await bench.height()
    bench.views[1].error = ChainRefused("eth_getLogs", "no")
    with pytest.raises(ChainRefused):
        await bench.endpoints.logs(0, 1)
    assert bench.endpoints.failed(bench.views[1].error)
    assert bench.endpoints.resting == (1,)


async def test_agreeing__two_disagree__the_third_does_not_decide():
    bench = Bench(3, agreeing=2)
    bench.views[1].chain = MemoryChain()
    bench.views[1].chain.drop(1)
    bench.views[1].chain.extend()
    with pytest.raises(ChainDisagreement) as caught:
        await bench.height()
    assert not bench.endpoints.failed(caught.value)
    assert (bench.endpoints.in_use, bench.endpoints.resting) == ((0, 1), ())
    assert bench.views[2].asked == []


async def test_watch__an_endpoint_dies__the_next_step_begins_at_once(tmp_path, three):
    class Never:
        async def wait(self, _seconds):
            raise AssertionError("waited")

    three.views[0].error, three.views[0].after = down(), 1
    with Database(tmp_path / "worker.db") as database:
        replica = Replica(database)
        three.chain.extend(("enrol", 1))
        watch = Watch(Follower(three.endpoints, replica, DEPLOYMENT), 60, Never(), failed=three.endpoints.failed)
        (change,) = await anext(aiter(watch))
        assert change.id == worker_id(1)
        assert (watch.outages, watch.failing) == (1, False)


async def test_watch__one_endpoint_talks_nonsense__the_next_is_read(tmp_path, three):
    three.views[0].error = AbiError("no such event")
    three.chain.extend(("enrol", 1))
    with Database(tmp_path / "worker.db") as database:
        follower = Follower(three.endpoints, Replica(database), DEPLOYMENT)
        assert await anext(aiter(Watch(follower, 60, failed=three.endpoints.failed)))
        for view in three.views:
            view.error = AbiError("no such event")
        with pytest.raises(AbiError):
            await anext(aiter(Watch(follower, 60, failed=three.endpoints.failed)))


class SwitchingWhileFollowing(RuleBasedStateMachine):
    """Endpoints fork, lag, fail in the middle and recover: no change is told that does not follow from the last."""

    @initialize(agreeing=st.sampled_from([1, 1, 2]), chunk=st.sampled_from([1, 3, 50]))
    def begin(self, agreeing, chunk):
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.Runner()  # endpoints that must agree are asked at once
        self.bench = Bench(4, agreeing)
        self.database = Database(Path(self.folder.name) / "worker.db")
        self.database.execute("PRAGMA synchronous=OFF")
        self.replica = Replica(self.database)
        self.follower = Follower(self.bench.endpoints, self.replica, DEPLOYMENT, chunk=chunk)
        self.mirror = Mirror()

    @rule(branch=BRANCH)
    def extend(self, branch):
        for actions in branch:
            self.bench.chain.extend(*actions)
        self.bench.clock.advance(SECONDS_A_BLOCK * len(branch))

    @rule(depth=st.integers(1, 8), branch=BRANCH)
    def reorganise(self, depth, branch):
        self.bench.chain.drop(depth)
        self.extend(branch)

    @rule(place=st.integers(0, 3), depth=st.integers(1, 5), branch=BRANCH)
    def fork(self, place, depth, branch):
        """One endpoint follows a branch of its own, until it is mended."""
        own = MemoryChain()
        own._salt = 1_000_000 + len(self.bench.chain.blocks) + place
        own.blocks = list(self.bench.chain.blocks)
        own.drop(depth)
        for actions in branch:
            own.extend(*actions)
        self.bench.views[place].chain = own

    @rule(place=st.integers(0, 3), lag=st.integers(0, 6))
    def lag(self, place, lag):
        view = self.bench.views[place]
        view.lag = min(lag, view.chain.height - FIRST_BLOCK)

    @rule(place=st.integers(0, 3), after=st.integers(0, 4), refuses=st.booleans())
    def fail(self, place, after, refuses):
        view = self.bench.views[place]
        view.error = ChainRefused("any", "no") if refuses else down()
        view.after = len(view.asked) + after

    @rule(place=st.integers(0, 3))
    def mend(self, place):
        view = self.bench.views[place]
        view.error, view.lag, view.chain = None, 0, self.bench.chain

    @rule(seconds=st.sampled_from([1, COMPARE_EVERY, REST]))
    def wait(self, seconds):
        self.bench.clock.advance(seconds)

    @rule(steps=st.integers(1, 4))
    def step(self, steps):
        for _ in range(steps):
            self.take()

    def take(self):
        try:
            changes = self.loop.run(self.follower.step())
        except ChainError as error:
            self.bench.endpoints.failed(error)
        else:
            self.mirror.take(changes)

    @precondition(lambda self: hasattr(self, "bench"))
    @rule()
    def mend_all_and_catch_up(self):
        for place in range(4):
            self.mend(place)
        while not self.shows_it_all():
            self.bench.chain.extend()
            self.bench.clock.advance(REST + 1)
            with contextlib.suppress(ChainError):
                self.mirror.take(self.loop.run(self.follower.catch_up()))
        assert_equal(self.replica, self.bench.chain.fleet)
        self.mirror.assert_equal(self.replica)

    def shows_it_all(self):
        head = self.replica.head
        return head is not None and head.hash == self.bench.chain.blocks[-1].header.hash

    def teardown(self):
        if getattr(self, "database", None):
            self.database.close()
            self.loop.close()
            self.folder.cleanup()


TestSwitching = SwitchingWhileFollowing.TestCase
TestSwitching.settings = settings(
    max_examples=30,
    stateful_step_count=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
