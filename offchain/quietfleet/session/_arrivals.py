"""What comes in under a key of a session: asked about on chain, decoded, put in its turn, held against what was asked.

Every message is either accepted or refused, and whoever keeps the audit trail is told which, and why.
"""

from __future__ import annotations

from typing import Any

import msgspec

from quietfleet.clock import Clock
from quietfleet.errors import MessageRefused
from quietfleet.metrics import Metrics
from quietfleet.session._codec import Ack, Codec, Goodbye, Mode, Packet, Ready
from quietfleet.session._conversation import MEMORY, Conversations, Pending, Unexpected
from quietfleet.session._decisions import Judge, Rule
from quietfleet.session._departures import Allowed, Departures, size_class
from quietfleet.session._keeping import Keeper
from quietfleet.session._large import Large
from quietfleet.session._large_wire import LARGE_BODIES
from quietfleet.session._table import Match, Session, Table
from quietfleet.session._vault import Random
from quietfleet.session._waiting import Early, Waiting
from quietfleet.session.events import Event, Ignored, Received

NOTICE_PATIENCE = 60.0


class Arrivals:
    """Reads what sessions bring."""

    def __init__(
        self,
        table: Table,
        conversations: Conversations,
        large: Large,
        keeper: Keeper,
        departures: Departures,
        waiting: Waiting,
        codec: Codec,
        allowed: Allowed,
        judge: Judge,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        ack_delay: float,
    ) -> None:
        self._table = table
        self._conversations = conversations
        self._large = large
        self._keeper = keeper
        self._departures = departures
        self._waiting = waiting
        self._codec = codec
        self._allowed = allowed
        self._judge = judge
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._ack_delay = ack_delay

    def read(self, match: Match, payload: bytes) -> list[Event]:
        """Take a message that opened, if the chain lets its author and us work together at this moment."""
        session, now = match.session, self._clock.now()
        if not self._allowed(session.peer):
            return [*self._refuse(session.peer, "not allowed"), Ignored(session.peer)]
        session.heard.count(size_class(len(payload)), now)
        self._table.spend(match, now)
        try:
            packet = self._codec.packet(payload)
            body = self._codec.body(packet.body)
        except MessageRefused:
            return self._refuse(session.peer, "malformed")
        events = self._keeper.confirm(session)
        if isinstance(body, Goodbye):
            self._accept(session, body)
            return events + self._keeper.end(session, "the peer said goodbye")
        if isinstance(body, LARGE_BODIES):
            self._accept(session, body)
            return events + self._large.receive(session.peer, body, now)
        return events + self._arrive(session, packet, body, now)

    def _arrive(self, session: Session, packet: Packet, body: Any, now: float) -> list[Event]:
        """Hear a message in its turn, and after it what waited for it; what it acknowledges is heard at once."""
        for notice in packet.heard:
            self._conversations.acknowledged(notice, session.peer, now)
        if packet.mode is not Mode.REPLY and self._repeated(session, packet):
            return []
        self._waiting.drop(session.peer, packet.id)
        events: list[Event] = []
        for passed in self._conversations.pass_over(packet, session.peer, now):
            self._waiting.drop(session.peer, passed)
            events += self._free(session.peer, passed, now)
        if self._conversations.in_turn(packet, session.peer):
            return [*events, *self._deliver(session, packet, body, now), *self._free(session.peer, packet.id, now)]
        held = self._waiting.hold(Early(session.peer, session.id, packet, body, now))
        self._metrics.count("messages_early", kept=str(held))
        return events

    def _free(self, peer: str, message_id: bytes, now: float) -> list[Event]:
        events: list[Event] = []
        for early in self._waiting.after(peer, message_id):
            session = self._table.sessions.get(early.session)
            if session is not None:
                events += self._arrive(session, early.packet, early.body, now)
        return events

    def _deliver(self, session: Session, packet: Packet, body: Any, now: float) -> list[Event]:
        asks = packet.mode is not Mode.REPLY
        if asks and not now <= packet.reply_by <= now + MEMORY:
            return self._refuse(session.peer, Unexpected.DEADLINE)
        if packet.parent is None and (not asks or self._codec.only_answers(body)):
            return self._refuse(session.peer, Unexpected.UNASKED)
        answers: str | None = None
        if packet.parent is not None:
            verdict = self._conversations.judge(packet, session.peer, _tag(body), now)
            if isinstance(verdict, Unexpected):
                return self._refuse(session.peer, verdict)
            self._conversations.remove(verdict.id)
            answers = verdict.context
        self._accept(session, body)
        if packet.mode is Mode.NOTICE:
            until = now + NOTICE_PATIENCE
            self._departures.answer(session.peer, packet, Ack(), until, session.id, self._ack_delay)
        elif asks:
            self._conversations.remember(packet.id, session.peer, now)
        if isinstance(body, Ready | Ack):
            return []
        self._metrics.count("messages_received")
        return [Received(session.peer, packet, body, answers)]

    def _repeated(self, session: Session, packet: Packet) -> bool:
        """Send the answer to a message handled before once more."""
        handled = self._conversations.handled(packet.id)
        if handled is None:
            return False
        self._refuse(session.peer, "repeated")
        if handled.answer and handled.peer == session.peer:
            now, answer = self._clock.now(), handled.answer
            until = now + NOTICE_PATIENCE
            again = Pending(self._random(16), session.peer, answer, now, until, [], order=handled.order)
            self._conversations.put(again)
        return True

    def _accept(self, session: Session, body: msgspec.Struct) -> None:
        self._judge.accept(session.peer, _tag(body), Rule.SESSION)

    def _refuse(self, peer: str, reason: str) -> list[Event]:
        self._metrics.count("messages_ignored", reason=str(reason))
        self._judge.refuse(peer, str(reason))
        return []


def _tag(body: msgspec.Struct) -> str:
    return str(body.__struct_config__.tag)
