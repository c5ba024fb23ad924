"""A sensor (T1): measures, finds a processor through the oracle, sends readings, takes recommendations."""

from __future__ import annotations

import json
from typing import Any

from quietfleet.chain.types import Change, WorkerChanged
from quietfleet.dispatch import (
    FromOracle,
    FromWorker,
    Introduction,
    OneOf,
    Release,
    Released,
    SeekerMachine,
    SeekerState,
    Wish,
)
from quietfleet.errors import CardRefused, HandshakeRefused
from quietfleet.session import Card, Closed, Event, Expired, Opened, Received, decode_card, encode_card
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._source import Source, open_replay
from quietfleet.workers._state import State
from quietfleet.workers.messages import DEAL, Readings, Recalibrate, Recommendation

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
        self._seeker = self._new_seeker()
        self._asked = False
        self._send_due = 0.0
        self._unanswered_since: float | None = None

    @property
    def processor(self) -> str | None:
        """The processor we work with, if the session is open."""
        peer: str | None = self._state.get("processor")
        return peer if peer and self._runtime.messenger.session(peer) else None

    def admit(self, _peer: str, _purpose: str) -> bool:
        """Nobody calls a sensor."""
        return False

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Recommendation()):
                self._recommended(event)
            case Received(body=Recalibrate()):
                self._runtime.note("recalibrating", reason=event.body.reason)
                self.source.recalibrate()
            case Received() if isinstance(event.body, FromOracle) and event.peer == self._runtime.oracle:
                self._dispatch(event.body)
            case Opened(purpose=purpose) if purpose.startswith(DEAL):
                self._opened(event.peer)
            case Closed(purpose=purpose) if purpose.startswith(DEAL):
                self._closed(event)
            case Expired(context=context) if context.startswith(ASKED):
                self._asked = False

    def on_change(self, change: Change) -> None:
        if not isinstance(change, WorkerChanged) or change.id != self._runtime.id:
            return
        self._runtime.note("registered", usable=change.after is not None and change.after.usable)
        if change.lost:
            self._seeker = self._new_seeker()

    def on_tick(self) -> None:
        now = self._runtime.clock.now()
        self._measure()
        if not self._runtime.membership.complete:
            return
        self._keep_seeking(now)
        if self.processor and self._silent(now):
            self._runtime.feed(self._runtime.messenger.leave(self.processor, "no answer for too long"))
        if self.processor and not self._asked and now >= self._send_due:
            self._send(self.processor, now)

    async def after(self) -> None:
        """Nothing waits for a commit here."""

    def recover(self) -> None:
        self._asked = False

    def status(self) -> dict[str, Any]:
        return {
            "processor": self.processor,
            "dispatch": self._seeker.state.value,
            "measured": self._state.get("measured", 0),
            "answered": self._state.get("answered", 0),
            "waiting": self._waiting(),
        }

    def _new_seeker(self) -> SeekerMachine:
        site = (OneOf("site", (self._section.site,)),) if self._section.site else ()
        return SeekerMachine(Wish(self._section.capability, constraints=site), self._runtime.random)

    def _keep_seeking(self, now: float) -> None:
        """Seek while there is neither a session nor a deal under way; after a crash the machine starts afresh."""
        if self._seeker.state is SeekerState.IDLE and self.processor is None:
            if self._state.get("deal"):
                self._start_over(now)
            self._tell(self._seeker.start(now))
        self._tell(self._seeker.tick(now))

    def _measure(self) -> None:
        readings = self.source.due()
        if not readings or not self._in_service():
            return
        for at, fields in readings:
            self._runtime.database.execute("INSERT INTO readings (at, fields) VALUES (?, ?)", (at, json.dumps(fields)))
        self._state.set("measured", self._state.get("measured", 0) + len(readings))
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
        self._asked = True
        self._unanswered_since = self._unanswered_since or now
        body = Readings(rows[0][0], [(at, json.loads(fields)) for _, at, fields in rows])
        self._runtime.messenger.request(processor, body, (Recommendation,), ANSWER_WITHIN, f"{ASKED}{rows[-1][0]}")

    def _recommended(self, event: Received) -> None:
        advice: Recommendation = event.body
        self._unanswered_since = None
        last = int((event.answers or ASKED + "0").removeprefix(ASKED))
        gone = self._runtime.database.execute("DELETE FROM readings WHERE number <= ?", (last,)).rowcount
        self._state.set("answered", self._state.get("answered", 0) + gone)
        self._asked = False
        self._runtime.note(
            "recommendation",
            processor=event.peer,
            rows=gone,
            through=last,
            advice=advice.advice,
            forecast=advice.forecast,
            confidence=advice.confidence,
            release=advice.release,
        )

    def _dispatch(self, message: FromOracle) -> None:
        now = self._runtime.clock.now()
        if isinstance(message, Released) and message.deal_id == self._state.get("deal"):
            self._released()
        out = self._seeker.receive(message, now)
        card = self._runtime.messenger.own_card()
        if self._seeker.state is SeekerState.PROPOSED and card is not None:
            out += self._seeker.accept(encode_card(card), now)
            self._runtime.note("deal-accepted")
        self._tell(out)
        if isinstance(message, Introduction) and self._seeker.introduction is message:
            self._introduced(message, now)

    def _released(self) -> None:
        """The oracle says that the deal is over; the machine seeks anew by itself, unless a restart made it forget."""
        processor = self.processor
        self._state.set("deal", None)
        self._state.set("processor", None)
        if processor is not None:
            self._runtime.sever(processor, "the deal is over")

    def _introduced(self, introduction: Introduction, now: float) -> None:
        """Check who we were paired with against the chain, and only then set up the session."""
        self._state.set("deal", introduction.deal_id)
        try:
            card = self._checked(introduction)
            self._runtime.messenger.connect(card, DEAL + introduction.deal_id)
            self._runtime.note("introduced", peer=card.worker)
        except (CardRefused, HandshakeRefused) as error:
            self._runtime.note("introduction-refused", reason=str(error))
            self._start_over(now)

    def _checked(self, introduction: Introduction) -> Card:
        card = decode_card(introduction.card)
        if not self._runtime.registry.can_cooperate(self._runtime.id, card.worker):
            raise CardRefused("not registered, not active, or of a kind we do not work with")
        return card

    def _opened(self, peer: str) -> None:
        self._state.set("processor", peer)
        self._asked = False
        self._unanswered_since = None
        self._runtime.note("session-open", peer=peer)

    def _closed(self, event: Closed) -> None:
        if event.purpose != f"{DEAL}{self._state.get('deal')}":
            return
        self._runtime.note("session-closed", peer=event.peer, reason=event.reason)
        self._asked = False
        self._start_over(self._runtime.clock.now())

    def _start_over(self, now: float) -> None:
        """Give the deal back, also one from before a crash that the machine does not know, and seek again."""
        deal = self._state.get("deal")
        self._state.set("processor", None)
        self._state.set("deal", None)
        if deal and self._seeker.state is not SeekerState.INTRODUCED:
            self._tell([Release(deal)])
        self._tell(self._seeker.severed(now))

    def _tell(self, messages: list[FromWorker]) -> None:
        oracle = self._runtime.oracle
        for message in messages if oracle else []:
            self._runtime.messenger.notify(str(oracle), message)

    def _waiting(self) -> int:
        return int(self._runtime.database.execute("SELECT count(*) FROM readings").fetchone()[0])
