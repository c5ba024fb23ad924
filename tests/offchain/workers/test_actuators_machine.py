"""Whatever comes in whatever order, an actuator is within its limits, and safe when nobody stands for it."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from types import SimpleNamespace

from actuator_kit import Moved, fan
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from quietfleet.actuators.commands import Command
from quietfleet.clock import ManualClock
from quietfleet.crypto import PrivateKey
from quietfleet.errors import ActuatorFailed
from quietfleet.metrics import Metrics
from quietfleet.settings import SensorSection
from quietfleet.storage import Database
from quietfleet.workers._actuators import Actuators

LIMITS = fan(high=80.0, safe=10.0, step=40.0, rest=5.0, hold=60.0)
PROCESSORS = ("first", "second")
VALUES = st.sampled_from([-1.0, 0.0, 10.0, 30.0, 45.0, 50.0, 70.0, 80.0, 90.0])
MOSTLY = st.sampled_from([True, True, True, False])


class Rotor:
    """A driver that works or does not, and remembers where it was sent."""

    def __init__(self):
        self.value, self.works, self.sent = LIMITS.safe, True, []

    def set(self, value):
        if not self.works:
            raise ActuatorFailed("jammed")
        if value != self.value:
            self.sent.append(value)
        self.value = value
        return value


class ActuatorMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._database = Database(Path(self._folder.name) / "worker.db")
        self.clock, self.rotor = ManualClock(1e9), Rotor()
        self.open, self.usable, self.said, self.ids = {"first"}, True, [], 0
        self.journal, self.numbers = [], random.Random(1)
        key = PrivateKey.from_bytes(bytes(31) + b"\x01")
        self.runtime = SimpleNamespace(
            settings=SimpleNamespace(sensor=SensorSection(actuators=[LIMITS])),
            clock=self.clock,
            data_clock=self.clock,
            database=self._database,
            metrics=Metrics(),
            random=self.numbers.randbytes,
            keyring=SimpleNamespace(present=key),
            registry=SimpleNamespace(usable=lambda _id: self.usable),
            messenger=SimpleNamespace(asks=lambda *_: True),
            id="me",
            closing=[],
            note=lambda kind, **detail: self.journal.append((kind, detail)),
        )
        self.agent = self._make()
        self.step()

    def _make(self):
        return Actuators(self.runtime, {"fan": self.rotor}, lambda peer: peer in self.open, Moved)

    def step(self):
        """A beat of the worker, and the next, which sees what the first has moved."""
        for _ in range(2):
            with self._database.transaction():
                self.agent.tick()
            self.agent.after()

    @rule(value=VALUES, lasts=st.sampled_from([0.0, 3.0, 30.0, 90.0]), peer=st.sampled_from(PROCESSORS))
    def command(self, value, lasts, peer):
        self.ids += 1
        said = Command(self.ids.to_bytes(16, "big"), "fan", value, self.clock.now() + lasts)
        self.said.append((peer, said))
        self._take(peer, said)

    @rule(index=st.integers(0, 100))
    def replay(self, index):
        if self.said:
            self._take(*self.said[index % len(self.said)])

    def _take(self, peer, said):
        if peer not in self.open:
            return  # nobody hears it
        before = self.rotor.value
        with self._database.transaction():
            self.agent.take(peer, [said])
        self.agent.after()
        self.step()
        if self.rotor.value not in (before, LIMITS.safe):
            assert abs(self.rotor.value - before) <= LIMITS.step + 1e-6

    @rule(seconds=st.sampled_from([0.2, 4.0, 20.0, 100.0]))
    def wait(self, seconds):
        self.clock.advance(seconds)
        self.step()

    @rule(seconds=st.sampled_from([1.0, 50.0, 1000.0]))
    def clock_is_set_back(self, seconds):
        self.clock.advance(-seconds)
        self.step()

    @rule(peer=st.sampled_from(PROCESSORS), there=MOSTLY)
    def session(self, peer, there):
        (self.open.add if there else self.open.discard)(peer)
        self.step()

    @rule(usable=MOSTLY)
    def switch(self, usable):
        self.usable = usable
        self.step()

    @rule(works=MOSTLY)
    def driver(self, works):
        self.rotor.works = works

    @rule()
    def undone(self):
        """A step that fails takes back what it wrote."""
        self.agent.recover()
        self.agent.after()
        self.step()

    @rule()
    def killed(self):
        self.agent = self._make()
        self.agent.after()
        self.step()

    @invariant()
    def within_limits(self):
        assert all(LIMITS.low <= value <= LIMITS.high for value in self.rotor.sent)

    @invariant()
    def safe_when_nobody_stands_for_it(self):
        present = self.agent._orders.present("fan")
        if self.rotor.works and present is None and not self.agent._faults:
            assert self.rotor.value == LIMITS.safe
        if present is not None:
            assert present.peer in self.open
            assert self.usable
            assert self.clock.now() < present.until <= self.clock.now() + LIMITS.hold + 1e-6

    @invariant()
    def what_can_move_has_moved(self):
        present = self.agent._orders.present("fan")
        if present is not None and self.rotor.works and not self.agent._faults and not self.agent._again:
            assert (present.state, self.rotor.value) == ("in force", present.value)

    @invariant()
    def each_moves_once(self):
        moved = self._database.execute("SELECT count(*) FROM orders WHERE since IS NOT NULL").fetchone()[0]
        assert len([kind for kind, _ in self.journal if kind == "actuated"]) == moved

    def teardown(self):
        self._database.close()
        self._folder.cleanup()


TestActuators = ActuatorMachine.TestCase
TestActuators.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
