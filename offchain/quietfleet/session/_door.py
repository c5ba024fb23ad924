"""Handshakes as they concern the connection table: whose call is answered, which answer opens a session.

Nobody is told why not: a call that is refused and one that never came look alike from outside.
"""

from __future__ import annotations

from collections.abc import Callable

from quietfleet.clock import Clock
from quietfleet.errors import HandshakeRefused
from quietfleet.metrics import Metrics
from quietfleet.session._arrivals import NOTICE_PATIENCE
from quietfleet.session._calls import Attempt, Caller, Calls, new_session
from quietfleet.session._card import Card
from quietfleet.session._codec import Ack, Mode, Ready
from quietfleet.session._conversation import Conversations
from quietfleet.session._decisions import Judge, Rule
from quietfleet.session._departures import Allowed, Departures
from quietfleet.session._keeping import Keeper
from quietfleet.session._table import Table
from quietfleet.session._vault import Mine
from quietfleet.session.events import CardSeen, Closed, Event, Ignored, Opened

ACKS = (str(Ack.__struct_config__.tag),)


class Door:
    """Takes every envelope that no session expects."""

    def __init__(
        self,
        me: str,
        calls: Calls,
        table: Table,
        conversations: Conversations,
        keeper: Keeper,
        departures: Departures,
        allowed: Allowed,
        vouched: Callable[[Card], bool],
        admit: Callable[[str, str], bool],
        judge: Judge,
        metrics: Metrics,
        clock: Clock,
        mine: Mine,
    ) -> None:
        self._me = me
        self._calls = calls
        self._table = table
        self._conversations = conversations
        self._keeper = keeper
        self._departures = departures
        self._allowed = allowed
        self._vouched = vouched
        self._admit = admit
        self._judge = judge
        self._metrics = metrics
        self._clock = clock
        self._mine = mine
        self._crossed: list[Event] = []

    def clear(self) -> None:
        """Forget what is in memory alone: a transaction was rolled back."""
        self._crossed.clear()

    def overhears(self, topic: bytes, data: bytes) -> bool:
        """Whether an envelope is another worker's; then it is counted."""
        others = not self._calls.concerns(topic, data)
        if others:
            self._metrics.count("messages_passed_over")
        return others

    def receive(self, topic: bytes, data: bytes) -> list[Event]:
        """Recognise an announcement, an answer to a call of ours, or a call; the rest is somebody else's."""
        card = self._calls.announced(topic, data)
        if card is not None:
            return [CardSeen(card)]
        answer = self._calls.answered(topic, data)
        if answer is not None:
            return self._welcomed(*answer)
        try:
            caller = self._calls.called(topic, data, self._clock.now())
            if caller is None:
                return self._passed_over(topic)
            if not self._mine(caller.peer.worker):
                return self._ignore("another replica's")
            answered = self._answer(caller)
        except HandshakeRefused:
            answered = False
        if not answered:
            self._metrics.count("handshakes_refused")
        crossed, self._crossed = self._crossed, []
        return crossed

    def _passed_over(self, topic: bytes) -> list[Event]:
        """Somebody else's, or from a severed peer: then it is counted as such, and nothing else is different."""
        severed = self._table.buried(topic)
        if severed is None:
            self._metrics.count("messages_passed_over")
            return []
        self._judge.refuse(severed, "severed")
        return [*self._ignore("severed"), Ignored(severed)]

    def _welcomed(self, attempt: Attempt, root: bytes) -> list[Event]:
        session = new_session(root, attempt.hello, attempt.own.card, attempt.peer, self._clock.now(), initiator=True)
        allowed = self._allowed(session.peer) and self._vouched(attempt.peer)
        if not allowed or not self._keeper.enter(session, self._clock.now()):
            return []
        self._calls.connected(attempt)
        self._judge.accept(session.peer, "welcome", Rule.ANSWERED)
        replaced = self._keeper.replace(session)
        self._departures.post(session.peer, Ready(), Mode.NOTICE, NOTICE_PATIENCE, ACKS, via=session.id)
        return [*replaced, Opened(session.peer, session.purpose, initiator=True)]

    def _answer(self, caller: Caller) -> bool:
        """Answer a Hello if chain and agent allow it; one seen before gets the answer it got."""
        hello, peer, now = caller.hello, caller.peer.worker, self._clock.now()
        if not (self._allowed(peer) and self._vouched(caller.peer)):
            self._refuse(peer)
            return False
        if self._calls_cross(peer):
            return False
        known = next((s for s in self._table.with_peer(peer) if s.hello_id == hello.hello_id), None)
        if known is not None:
            if known.welcome:
                self._calls.send_welcome(caller, known.welcome)
            return True
        if self._conversations.handled(hello.hello_id) is not None or not self._admit(peer, hello.purpose):
            self._refuse(peer)
            return False
        sealed, root = self._calls.welcome(caller)
        session = new_session(root, hello, caller.own.card, caller.peer, now, initiator=False)
        session.welcome = sealed
        if not self._keeper.enter(session, self._clock.now()):
            return False
        self._judge.accept(peer, "hello", Rule.ADMITTED)
        self._conversations.remember(hello.hello_id, peer, now)
        self._calls.send_welcome(caller, sealed)
        return True

    def _calls_cross(self, peer: str) -> bool:
        """Whether we call whom calls us, and ours is the call that counts: the one of the lower id; else it ends."""
        crossing = peer in self._calls.peers()
        if crossing and peer.lower() < self._me.lower():
            ended = self._calls.hang_up(lambda attempt: attempt.peer.worker == peer)
            self._crossed += [Closed(peer, attempt.hello.purpose, "they called at the same time") for attempt in ended]
            return False
        return crossing

    def _refuse(self, peer: str) -> None:
        """Have a call of somebody we know entered; anyone can call under any number of other names."""
        if self._table.with_peer(peer) or self._table.mourns(peer):
            self._judge.refuse(peer, "call refused")

    def _ignore(self, reason: str) -> list[Event]:
        self._metrics.count("messages_ignored", reason=reason)
        return []
