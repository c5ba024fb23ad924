"""A sensor (T1): measures, finds a processor through the oracle, sends readings, takes recommendations."""

from __future__ import annotations

import json
from typing import Any

from quietfleet.chain.types import Change, OperatorsChanged, WorkerChanged
from quietfleet.clock import waits
from quietfleet.dispatch import FromOracle
from quietfleet.session import STATIC, CardMet, Closed, Event, Expired, Opened, Received
from quietfleet.workers._actuators import Actuators, open_drivers
from quietfleet.workers._calibration import Calibration
from quietfleet.workers._partners import Partners
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._seeking import Seeking
from quietfleet.workers._source import Corrected, Felt, Reading, Source, open_replay
from quietfleet.workers._state import State
from quietfleet.workers._static import Statics
from quietfleet.workers._telemetry import Teller
from quietfleet.workers.messages import DEAL, EffectHeard, Readings, Recalibrate, Recommendation

ANSWER_WITHIN = 20.0
BATCH = 240  # readings in one message
BUFFER = 24 * 60  # readings kept while nobody answers; the oldest go first
SILENCE = 30.0  # seconds without any answer after which another processor is sought
ASKED = "readings through "

_SCHEMA = [
    "CREATE TABLE readings (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, fields TEXT NOT NULL) STRICT"
]


class Sensor:
    """A sensor's reactions."""

    def __init__(self, runtime: Runtime, source: Source | None = None) -> None:
        self._runtime = runtime
        self._section = runtime.settings.sensor
        runtime.database.migrate("sensor", _SCHEMA)
        self._state = State(runtime.database)
        self.source = source or open_replay(runtime.settings.path(self._section.replay), runtime.data_clock)
        drivers = open_drivers(runtime.settings, runtime.data_clock)
        self._corrected = Corrected(Felt.by(drivers, self.source), runtime.database)
        self._actuators = Actuators(runtime, drivers, self._works_with)
        self._calibration = Calibration(runtime, self._corrected)
        self._telemetry = Teller(runtime)
        self._partners = Partners(runtime)
        self._seeking = Seeking(runtime, self._state, self._partners)
        self._statics = Statics(runtime, self._partners)
        self._failed: dict[str, float] = {}
        self._measured: list[Reading] = []  # since the last commit
        self._stored = False
        self._send_due = 0.0
        self._unanswered_since: float | None = None

    @property
    def processor(self) -> str | None:
        """The processor we work with, if the session is open: of static peers, the one that failed us longest ago."""
        if not self._statics.configured:
            return self._seeking.processor
        return min(self._statics.open, key=lambda peer: self._failed.get(peer, 0.0), default=None)

    def admit(self, peer: str, purpose: str) -> bool:
        """Nobody calls a sensor but its static peers."""
        return self._statics.expects(peer, purpose)

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Recommendation()):
                self._recommended(event)
            case Received(body=Recalibrate()):
                self._calibration.take(event, event.body)
            case Received(body=EffectHeard()):
                self._actuators.heard(event, event.body)
            case Received() if isinstance(event.body, FromOracle) and event.peer in self._runtime.oracles.known:
                self._seeking.receive(event.peer, event.body)
            case Opened(purpose=purpose) if purpose == STATIC or purpose.startswith(DEAL):
                self._opened(event.peer, purpose)
            case Closed():
                self._closed(event)
            case CardMet():
                self._statics.met(event.card)
            case Expired() if not self._runtime.oracles.unheard(event):
                self._seeking.unheard(event)

    def on_change(self, change: Change) -> None:
        if isinstance(change, WorkerChanged) and change.id != self._runtime.id:
            self._partners.recheck(change.id)
        elif isinstance(change, WorkerChanged | OperatorsChanged):
            self._partners.recheck()
        if not isinstance(change, WorkerChanged) or change.id != self._runtime.id:
            return
        self._runtime.note("registered", usable=change.after is not None and change.after.usable)
        self._actuators.lapse()
        if change.parts:
            self._seeking.start_over()

    def on_tick(self) -> None:
        now = self._runtime.clock.now()
        self._measure()
        self._actuators.tick()
        if self._partners.moved():
            self._partners.recheck()
        if not self._runtime.membership.keyed:
            return
        self._find(now)
        if self.processor and self._silent(now):
            self._quit(self.processor)
        processor = self.processor
        held = waits(now, self._send_due, self._section.send_every)
        if processor and not held and not self._runtime.messenger.asks(processor, ASKED):
            self._send(processor, now)
        self._telemetry.tick(processor, self._waiting)

    async def after(self) -> None:
        """Let go of what was measured, once it is stored, and move what is to be elsewhere."""
        if self._stored:
            self._measured.clear()
            self._stored = False
        self._actuators.after()

    def recover(self) -> None:
        """What was measured and could not be stored is stored next time: nobody measures it again."""
        self._stored = False
        del self._measured[:-BUFFER]
        self._actuators.recover()

    def status(self) -> dict[str, Any]:
        return {
            "processor": self.processor,
            "dispatch": STATIC if self._statics.configured else self._seeking.state.value,
            "measured": self._state.get("measured", 0),
            "answered": self._state.get("answered", 0),
            "waiting": self._waiting(),
            "actuators": self._actuators.status(),
        }

    def _find(self, now: float) -> None:
        """Meet static peers where there are any, seek at the oracles where there are none."""
        self._statics.tick()
        if self._statics.configured:
            self._seeking.stand_down()
        else:
            self._seeking.tick(now)

    def _measure(self) -> None:
        readings = self._corrected.due()
        self._actuators.measured(readings)
        if self._in_service():
            self._measured.extend(readings)
        if not self._measured:
            return
        for at, fields in self._measured:
            self._runtime.database.execute("INSERT INTO readings (at, fields) VALUES (?, ?)", (at, json.dumps(fields)))
        self._state.set("measured", self._state.get("measured", 0) + len(self._measured))
        self._stored = True
        excess = self._waiting() - BUFFER
        if excess > 0:
            lost = "DELETE FROM readings WHERE number IN (SELECT number FROM readings ORDER BY number LIMIT ?)"
            self._runtime.database.execute(lost, (excess,))
            self._runtime.note("readings-overflow", lost=excess)

    def _in_service(self) -> bool:
        """Whether we may measure: not when switched off, but also while the chain is out of sight, to send later."""
        registry, me = self._runtime.registry, self._runtime.id
        return registry.usable(me) or (registry.stale and self._runtime.replica.usable(me))

    def _silent(self, now: float) -> bool:
        """Whether a question stands unanswered for too long; while the chain is out of sight nobody may answer."""
        if self._runtime.registry.stale:
            self._unanswered_since = None
        return self._unanswered_since is not None and now - self._unanswered_since > SILENCE

    def _send(self, processor: str, now: float) -> None:
        rows = self._runtime.database.execute(
            "SELECT number, at, fields FROM readings ORDER BY number LIMIT ?", (BATCH,)
        ).fetchall()
        if not rows:
            return
        self._send_due = now + self._section.send_every
        self._unanswered_since = self._unanswered_since or now
        self._telemetry.asked()
        body = Readings(rows[0][0], [(at, json.loads(fields)) for _, at, fields in rows])
        self._runtime.messenger.request(processor, body, (Recommendation,), ANSWER_WITHIN, f"{ASKED}{rows[-1][0]}")

    def _recommended(self, event: Received) -> None:
        advice: Recommendation = event.body
        self._unanswered_since = None
        self._telemetry.answered()
        last = int((event.answers or ASKED + "0").removeprefix(ASKED))
        gone = self._runtime.database.execute("DELETE FROM readings WHERE number <= ?", (last,)).rowcount
        self._state.set("answered", self._state.get("answered", 0) + gone)
        self._actuators.take(event.peer, advice.commands)
        self._runtime.note(
            "recommendation",
            processor=event.peer,
            rows=gone,
            through=last,
            advice=advice.advice,
            forecast=advice.forecast,
            confidence=advice.confidence,
            release=advice.release,
            **({"fallback": advice.fallback} if advice.fallback else {}),
        )

    def _opened(self, peer: str, purpose: str) -> None:
        if purpose.startswith(DEAL):
            self._seeking.opened(peer)
        self._unanswered_since = None
        self._runtime.note("session-open", peer=peer)

    def _closed(self, event: Closed) -> None:
        if event.purpose == STATIC or self._seeking.closed(event.purpose):
            self._runtime.note("session-closed", peer=event.peer, reason=event.reason)
        self._actuators.lapse()

    def _works_with(self, peer: str) -> bool:
        """Whether we are in session with a worker, and it is a processor of ours."""
        sessions = self._runtime.messenger.table.with_peer(peer)
        return any(one.confirmed and (one.purpose == STATIC or one.purpose.startswith(DEAL)) for one in sessions)

    def _quit(self, processor: str) -> None:
        """Leave a processor that does not answer, for another."""
        self._unanswered_since = None
        self._failed[processor] = self._runtime.clock.now()
        self._runtime.feed(self._runtime.messenger.leave(processor, "no answer for too long"))

    def _waiting(self) -> int:
        return int(self._runtime.database.execute("SELECT count(*) FROM readings").fetchone()[0])
