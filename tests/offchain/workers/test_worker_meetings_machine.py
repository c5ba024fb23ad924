"""Seeking and meeting as one machine: real runtimes, sessions and dispatchers, and anything that may befall them."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import tempfile
from collections import Counter
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from worker_world import OWNER, World

from quietfleet.chain.types import Kind
from quietfleet.crypto import PrivateKey, checksum_address, keccak256
from quietfleet.dispatch import Accept, Introduction, Proposal, SeekerState
from quietfleet.session import Opened, Received
from quietfleet.session import _ratchet as ratchet
from quietfleet.settings import DispatchSection
from quietfleet.workers import _host
from quietfleet.workers.messages import DEAL

ORACLES = ("oracle", "oracle-b")
SENSORS = ("sensor", "sensor-b")
PROCESSORS = ("processor", "processor-b")
FRIEND = checksum_address(b"\xee" * 20)
CAPACITY = 1
STEP = 3.0  # seconds between two beats
PATIENT = 200.0  # seconds within which whoever can be served is


_advance = lru_cache(1 << 17)(ratchet.advance)  # both ends of a session have the same chains, and so has each example


def key_of(name):
    return PrivateKey.from_bytes(keccak256(name.encode()))


class Listening:
    """What each worker was told, and what each oracle was told by whom, in order."""

    def __init__(self, worker, log):
        self._worker, self._log = worker, log

    def listen(self):
        """Note what is read from now on: the process may be a new one."""
        react = self._worker.agent.on_event

        def on_event(event):
            if isinstance(event, Received):
                self._log.append((self._worker, event.peer, event.body))
            elif isinstance(event, Opened):
                self._log.append((self._worker, event.peer, event))
            react(event)

        self._worker.agent.on_event = on_event


class Meetings(RuleBasedStateMachine):
    """Two sensors of which one lists whom it takes, two processors of one place each, two oracles."""

    def __init__(self):
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.undo = pytest.MonkeyPatch()
        self.undo.setattr(ratchet, "advance", _advance)
        self.world = World(self.folder, capacity=CAPACITY)
        self.log = []
        self.read = 0
        self.accepted = set()  # (oracle, deal, worker)
        self.names = {}
        self.cut = set()

    @initialize()
    def begin(self):
        self.run(self._begin())

    async def _begin(self):
        world = self.world
        world.lose = lambda sender, _: sender.name in self.cut
        oracles = [key_of("oracle-b").public.id]
        for name in ORACLES:
            await world.add(name, Kind.ORACLE)
        for name in PROCESSORS:
            world.dispatch[name] = DispatchSection(oracles=oracles)
            await world.add(name, Kind.PROCESSOR, owner=FRIEND if name == "processor-b" else OWNER)
        for name in SENSORS:
            allow = [FRIEND] if name == "sensor-b" else []
            world.dispatch[name] = DispatchSection(oracles=oracles, allow=allow)
            await world.add(name, Kind.SENSOR)
        for worker in world.up():
            Listening(worker, self.log).listen()
        await world.rotate()

    def run(self, doing):
        self.loop.run_until_complete(doing)

    def worker(self, name):
        return self.world.workers[name]

    # what may happen

    @rule(seconds=st.integers(3, 20))
    def time_passes(self, seconds):
        self.run(self.world.pass_time(seconds, step=STEP))

    @rule(name=st.sampled_from(SENSORS + PROCESSORS))
    def owner_switches_off_and_on(self, name):
        async def toggled():
            await self.world.switch(self.worker(name), active=False)
            await self.world.pass_time(STEP, step=STEP)
            await self.world.switch(self.worker(name), active=True)

        self.run(toggled())

    @rule(name=st.sampled_from(ORACLES + SENSORS + PROCESSORS))
    def process_is_killed_and_comes_back(self, name):
        worker = self.worker(name)
        worker.restart()
        Listening(worker, self.log).listen()

    @precondition(lambda self: not self.cut)
    @rule(name=st.sampled_from(ORACLES + SENSORS + PROCESSORS), seconds=st.integers(3, 12))
    def nothing_that_it_says_arrives(self, name, seconds):
        self.cut = {name}
        self.run(self.world.pass_time(seconds, step=STEP))
        self.cut = set()

    @rule(name=st.sampled_from(SENSORS))
    def session_ends(self, name):
        sensor = self.worker(name)
        for peer in self.partners(sensor):
            self.run(sensor.do(lambda peer=peer: sensor.runtime.sever(peer, "the test says so")))

    @rule()
    def configuration_rotates(self):
        self.run(self.world.rotate(grace=5))
        self.run(self.world.pass_time(9, step=STEP))

    # what must hold

    def partners(self, worker):
        """Whom a worker is in session with by a deal."""
        sessions = worker.runtime.messenger.table.sessions.values()
        return {one.peer for one in sessions if one.purpose.startswith(DEAL) and one.confirmed}

    @invariant()
    def nobody_has_two_sessions_for_one_seek(self):
        for name in SENSORS if self.log else ():
            assert len(self.partners(self.worker(name))) <= 1

    @invariant()
    def nobody_serves_more_than_its_places(self):
        for name in PROCESSORS if self.log else ():
            assert len(self.partners(self.worker(name))) <= CAPACITY

    @invariant()
    def whoever_lists_its_partners_has_no_other(self):
        if self.log:
            owned = {self.worker("processor-b").id}
            assert self.partners(self.worker("sensor-b")) <= owned

    @invariant()
    def words_keep_the_rules(self):
        for hearer, peer, said in self.log[self.read :]:
            self.hear(hearer, peer, said)
        self.read = len(self.log)

    def hear(self, hearer, peer, said):
        match said:
            case Proposal():
                self.tells_nothing(said)
            case Accept(deal_id):
                self.accepted.add((hearer.id, deal_id, peer))
            case Introduction(deal_id):
                both = {worker for oracle, deal, worker in self.accepted if (oracle, deal) == (peer, deal_id)}
                assert hearer.id in both
                assert len(both) == 2, "an introduction before both accepted"

    def tells_nothing(self, proposal):
        """A proposal names nobody: no id, owner or card of anyone is in it."""
        written = repr(proposal).lower()
        for other in self.world.workers.values():
            assert other.id.lower() not in written
            assert other.id[2:].lower() not in written
        assert OWNER[2:] not in written

    def teardown(self):
        try:
            if self.log:
                self.run(self.everybody_is_served())
                self.words_keep_the_rules()
                self.no_key_serves_two_deals()
        finally:
            self.run(self.world.close())
            self.loop.close()
            self.undo.undo()
            _host.secrets = secrets
            shutil.rmtree(self.folder)

    async def everybody_is_served(self):
        """Whoever takes anyone is in session, and so is the choosy one, once there is somebody for it to take."""
        anyone, choosy = (self.worker(name) for name in SENSORS)
        await self.comes_true(lambda: self.partners(anyone))
        if self.partners(anyone) == {self.worker("processor-b").id}:  # the only one that the other takes
            await self.world.switch(anyone, active=False)
        await self.comes_true(lambda: self.partners(choosy))
        for sensor in (anyone, choosy):
            assert sensor.agent._seeking.state in (SeekerState.INTRODUCED, SeekerState.IDLE)

    async def comes_true(self, holds):
        deadline = self.world.clock.now() + PATIENT
        while not holds():
            assert self.world.clock.now() < deadline, "a seek has no end"
            await self.world.pass_time(STEP, step=STEP)

    def no_key_serves_two_deals(self):
        """Of each deal both keys are its own: neither is in another deal that came to anything."""
        deals = {}
        for _, peer, said in self.log:
            if isinstance(said, Proposal):
                deals[peer, said.deal_id] = (said.own_key, said.other_key)
        uses = Counter(key for keys in {frozenset(keys) for keys in deals.values()} for key in keys)
        assert max(uses.values(), default=1) == 1


TestMeetings = Meetings.TestCase
TestMeetings.settings = settings(
    max_examples=40,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
