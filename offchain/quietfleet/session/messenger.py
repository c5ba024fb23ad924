"""The session layer of one worker, without I/O: envelopes in, events and transmissions out.

Theory of operation. `receive` recognises an envelope by its topic: an expected message of a session, the answer to a
Hello of ours, the announcement of a service card, or a first message inside our own bloom; anything else is another
worker's and is passed over. Everything it changes is in the database, inside the caller's transaction; nothing leaves
before that commits. `next_transmission` then takes a fresh key for what is due, stores it, and hands out a sealed
payload. A crash at any point repeats work, never loses it and never reuses a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.clock import Clock
from quietfleet.errors import CryptoError, HandshakeRefused, MessageRefused, NoSession, PayloadError
from quietfleet.metrics import Metrics
from quietfleet.session._calls import Attempt, Caller, Calls, new_session
from quietfleet.session._card import BLOOM_BITS, Card, Credential
from quietfleet.session._codec import Ack, Codec, Goodbye, Mode, Packet, Ready, encode_body, encode_packet
from quietfleet.session._conversation import MEMORY, Conversations, Pending, Unexpected
from quietfleet.session._epochs import Epochs
from quietfleet.session._identity import Identity
from quietfleet.session._keeping import Keeper
from quietfleet.session._large import LIFE, Large
from quietfleet.session._large import Admit as AdmitLarge
from quietfleet.session._large_wire import LARGE_BODIES
from quietfleet.session._states import State
from quietfleet.session._table import Match, Session, Table
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Random
from quietfleet.session._waiting import Early, Waiting
from quietfleet.session.events import CardSeen, Closed, Event, Expired, Ignored, Opened, Received
from quietfleet.storage import Database
from quietfleet.whisper import aggregate, open_symmetric, room, seal_symmetric, topic_bloom

SpeaksFor = Callable[[str, str], bool]  # worker, address of a key

SIZE_CLASSES = (512, 4096, 32_768, 114_688)
NOTICE_PATIENCE = 60.0
_ACKS = [str(Ack.__struct_config__.tag)]


class Registry(Protocol):
    """What the session layer asks of the chain."""

    def can_cooperate(self, a: str, b: str) -> bool:
        """Tell whether both are registered, active and of kinds that work together."""
        ...

    def speaks_for(self, worker: str, key: str) -> bool:
        """Tell whether the key of this address is the worker's present one."""
        ...


@dataclass(frozen=True, slots=True)
class Transmission:
    """A payload ready for an envelope: mine it, then publish it; `peer` is empty when it is for everyone."""

    peer: str
    topic: bytes
    data: bytes


class Messenger:
    """Sessions, conversations and epochs of one worker behind one face."""

    def __init__(
        self,
        identity: Identity,
        database: Database,
        codec: Codec,
        registry: Registry,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        domain: bytes,
        admit: Callable[[str, str], bool],
        *,
        timing: Timing = Timing(),  # noqa: B008 - it is frozen
        bloom_bits: int = BLOOM_BITS,
        admit_large: AdmitLarge = lambda _peer, _kind, _size: False,
    ) -> None:
        self.id = identity.id
        self._codec = codec
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._admit = admit
        self.epochs = Epochs(database, identity, random, bloom_bits)
        self.table = Table(database, identity.secret, random)
        self.conversations = Conversations(database, identity.secret, random, timing)
        self.large = Large(database, identity.secret, random, timing, admit_large)
        self._waiting = Waiting()
        self._keeper = Keeper(self.table, self.epochs)
        self._database = database
        self._calls = Calls(self.epochs, random, domain, self._control, timing)
        self._controls: list[Transmission] = []
        self._crossed: list[Event] = []

    def reload(self) -> None:
        """Forget what is in memory and read the database again, after a rolled-back transaction."""
        self.epochs.load()
        self.table.load()
        self.conversations.load()
        self.large.load()
        self._waiting.clear()
        self._controls.clear()
        self._crossed.clear()

    # configuration and epochs

    def adopt(self, latest: Configuration | None, previous: Configuration | None) -> list[Event]:
        """Follow the chain's configuration: own keys for new versions, sessions re-keyed, old versions erased."""
        swapped = self.epochs.adopt(latest, previous, self._clock.now())
        events = self._keeper.tear(swapped)
        self._keeper.rekey(self._clock.now())
        return events + self._keeper.retire(self._clock.now())

    def own_card(self) -> Card | None:
        """Our card for the configuration in force."""
        configuration = self.epochs.in_force(self._clock.now())
        secrets = self.epochs.secrets(configuration.epoch) if configuration else None
        return secrets.card if secrets else None

    def blooms(self) -> set[bytes]:
        """The blooms (64 bytes each) that what is for us lies in: our cards' and those our sessions began with."""
        cards = {secrets.card.bloom for secrets in self.epochs.all_secrets()}
        return cards | {session.own_bloom for session in self.table.sessions.values()}

    def wanted(self) -> bytes:
        """The bloom of all we must hear: what is for us, and the cards that are announced to everyone."""
        announced = (topic_bloom(topic) for topic in self._calls.announcement_topics())
        return aggregate([*self.blooms(), *announced])

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> None:
        """Take the epoch key the oracle granted and re-key every session; `HandshakeRefused` if it is a wrong one."""
        self.epochs.set_epoch_key(configuration, key)
        self._keeper.rekey(self._clock.now())

    def announce(self) -> None:
        """Queue our card for everyone, when the configuration names us as oracle or gateway."""
        self._calls.announce()

    # sessions

    def vouched(self, card: Card) -> bool:
        """Whether the chain stands behind a card: behind its key, or behind this very card."""
        return self._stands(card.credential, self._registry.speaks_for)

    def connect(self, card: Card, purpose: str) -> None:
        """Start a handshake with the holder of `card`; `Opened` or `Closed` follows. Raises `HandshakeRefused`."""
        if not self.vouched(card):
            raise HandshakeRefused("that card is not by its worker's present key")
        self._calls.dial(card, purpose, self._clock.now())

    def session(self, peer: str) -> Session | None:
        """The session messages to `peer` go through now, if there is one."""
        now = self._clock.now()
        usable = (s for s in self.table.with_peer(peer) if s.confirmed and self._keeper.version(s, now) is not None)
        return next(usable, None)

    def state(self, peer: str) -> State:
        """How we stand with `peer`; `_states.py` has what leads from where to where."""
        sessions = self.table.with_peer(peer)
        if any(session.confirmed for session in sessions):
            return State.OPEN if self.session(peer) else State.WAITING
        if sessions:
            return State.ANSWERED
        if peer in self._calls.peers():
            return State.CALLING
        return State.SEVERED if self.table.mourns(peer) else State.APART

    def has_session(self, peer: str, version: int) -> bool:
        """Tell whether a session with `peer` that began under `version` is open."""
        return any(s.version == version and s.confirmed for s in self.table.with_peer(peer))

    def sever(self, peer: str, reason: str) -> list[Event]:
        """End everything with `peer` at once: keys erased, messages dropped, later ones ignored and counted."""
        expired = [*self._expire(self.conversations.drop_peer(peer)), *self.large.drop_peer(peer)]
        self._waiting.drop_peer(peer)
        calls = self._calls.hang_up(lambda attempt: attempt.peer.worker == peer)
        return self._cut({peer}, calls, self.table.with_peer(peer), reason) + expired

    def disown(self, speaks_for: SpeaksFor, reason: str) -> list[Event]:
        """End at once what stands on a replaced key, ours or a peer's; what is still to be said waits for a session."""

        def fallen(*credentials: Credential) -> bool:
            return not all(self._stands(credential, speaks_for) for credential in credentials)

        calls = self._calls.hang_up(lambda attempt: fallen(attempt.own.card.credential, attempt.peer.credential))
        sessions = [one for one in self.table.sessions.values() if fallen(one.own, one.theirs)]
        peers = {attempt.peer.worker for attempt in calls} | {session.peer for session in sessions}
        return self._cut(peers, calls, sessions, reason)

    def peers(self) -> set[str]:
        """Everyone we are in session with, are calling, or have something to tell."""
        sessions = {session.peer for session in self.table.sessions.values()}
        told = {pending.peer for pending in self.conversations.pending.values()}
        return sessions | self._calls.peers() | told | self.large.peers()

    def leave(self, peer: str, reason: str) -> list[Event]:
        """End a session of our own accord, and say goodbye so that the peer need not wait."""
        session = self.session(peer)
        if session is None:
            return []
        goodbye = Packet(self._random(16), None, Mode.REPLY, 0.0, encode_body(Goodbye(reason)))
        self._controls.append(self._seal(session, encode_packet(goodbye)))
        return self._keeper.end(session, reason)

    # messages

    def request(
        self,
        peer: str,
        body: msgspec.Struct,
        expects: Sequence[type[msgspec.Struct]],
        within: float,
        context: str = "",
        conversation: bytes | None = None,
    ) -> bytes:
        """Ask `peer` something that one of `expects` may answer within so many seconds; returns the message id.

        It begins a conversation of that id, or goes on with one, and is then heard after what we said in it before.
        """
        tags = [str(kind.__struct_config__.tag) for kind in expects]
        return self._send(peer, body, Mode.REQUEST, within, tags, context, conversation)

    def notify(
        self,
        peer: str,
        body: msgspec.Struct,
        within: float = NOTICE_PATIENCE,
        context: str = "",
        conversation: bytes | None = None,
    ) -> bytes:
        """Tell `peer` something and have it acknowledged; `conversation` as in `request`."""
        return self._send(peer, body, Mode.NOTICE, within, _ACKS, context, conversation)

    def reply(self, received: Received, body: msgspec.Struct) -> None:
        """Answer a request; the answer is kept, and sent again if the request comes again."""
        self._answer_to(received.peer, received.packet, body, received.packet.reply_by)

    def send_large(self, peer: str, kind: str, data: bytes, within: float = LIFE) -> bytes:
        """Send up to 8 MiB in pieces; `LargeEnded` names the transfer returned. MessageRefused when it cannot begin."""
        return self.large.send(peer, kind, data, self._clock.now() + min(within, LIFE))

    def receive(self, topic: bytes, data: bytes) -> list[Event]:
        """Take an envelope from the network; what is not for us, or not in order, is dropped and counted."""
        for match in self.table.find(topic):
            try:
                payload = open_symmetric(match.message.key, data).payload
            except (CryptoError, PayloadError):
                continue
            return self._read(match, payload)
        return self._handshake(topic, data)

    def tick(self) -> list[Event]:
        """Let time pass: expire requests, retry handshakes, give up silent peers, retire versions."""
        now = self._clock.now()
        self.conversations.forget(now)
        self._waiting.forget(now)
        events = (
            self.large.tick(now)
            + self._expire(self.conversations.expired(now))
            + self._keeper.retire(now)
            + self._keeper.give_up(now)
        )
        given_up = self._calls.tick(now)
        return events + [Closed(attempt.peer.worker, attempt.hello.purpose, "no answer") for attempt in given_up]

    def next_transmission(self) -> Transmission | None:
        """Hand out one message that is due and allowed at this moment, under a fresh key already stored as spent.

        One at a time, so that a revocation that comes in meanwhile stops everything that has not left yet.
        """
        while self._controls:
            control = self._controls.pop(0)
            if control.peer == "" or self._allowed(control.peer):
                return control
        try:
            with self._database.transaction():
                return self._next_due()
        except BaseException:
            self.reload()
            raise

    # inside

    def _stands(self, credential: Credential, speaks_for: SpeaksFor) -> bool:
        pinned = self.epochs.pins(credential.digest, self._clock.now())
        return pinned or speaks_for(credential.worker, credential.key)

    def _cut(self, peers: set[str], calls: list[Attempt], sessions: list[Session], reason: str) -> list[Event]:
        """Bury sessions; neither they nor the calls hung up beside them have anything more to say to these peers."""
        self._controls = [control for control in self._controls if control.peer not in peers]
        for session in sessions:
            self.table.remove(session, bury=True)
        called = [Closed(attempt.peer.worker, attempt.hello.purpose, reason) for attempt in calls]
        return [*called, *(Closed(session.peer, session.purpose, reason) for session in sessions)]

    def _allowed(self, peer: str) -> bool:
        return self._registry.can_cooperate(self.id, peer)

    def _send(
        self,
        peer: str,
        body: msgspec.Struct,
        mode: Mode,
        within: float,
        expects: list[str],
        context: str,
        conversation: bytes | None = None,
        via: bytes = b"",
    ) -> bytes:
        now = self._clock.now()
        packet = Packet(
            self._random(16), None, mode, now + min(within, MEMORY), encode_body(body), conversation=conversation
        )
        self.conversations.put(Pending(packet.id, peer, packet, now, packet.reply_by, expects, context, via=via))
        return packet.id

    def _answer_to(self, peer: str, asked: Packet, body: msgspec.Struct, until: float, via: bytes = b"") -> None:
        """Answer, and keep the answer in case it is asked for again."""
        now = self._clock.now()
        answer = Packet(
            self._random(16), asked.id, Mode.REPLY, asked.reply_by, encode_body(body), conversation=asked.conversation
        )
        order = self.conversations.remember(asked.id, peer, now, answer)
        self.conversations.put(Pending(answer.id, peer, answer, now, until, [], via=via, order=order))

    def _next_due(self) -> Transmission | None:
        now = self._clock.now()
        for pending in self.conversations.due(now):
            session = self.table.sessions.get(pending.via) if pending.via else self.session(pending.peer)
            if session is None or self._keeper.version(session, now) is None or not self._allowed(session.peer):
                continue
            packet = self.conversations.placed(pending)
            self.conversations.sent(pending, now)
            return self._seal(session, encode_packet(packet))
        return self._next_large()

    def _next_large(self) -> Transmission | None:
        found = self.large.next(lambda peer: self.session(peer) is not None and self._allowed(peer))
        session = self.session(found[0]) if found else None
        if found is None or session is None:
            return None
        packet = Packet(self._random(16), None, Mode.REPLY, 0.0, encode_body(found[1]))
        return self._seal(session, encode_packet(packet))

    def _seal(self, session: Session, packet: bytes) -> Transmission:
        version = self._keeper.version(session, self._clock.now())
        if version is None:
            raise NoSession(session.peer)
        message = self.table.next_key(session, version)
        return self._transmission(session.peer, message.topic, message.key, packet)

    def _transmission(self, peer: str, topic: bytes, key: bytes, payload: bytes) -> Transmission:
        size = next((s for s in SIZE_CLASSES if room(s, signed=False) >= len(payload)), None)
        return Transmission(peer, topic, seal_symmetric(key, payload, pad_to=size, random=self._random))

    def _control(self, peer: str, topic: bytes, key: bytes, payload: bytes) -> None:
        self._controls.append(self._transmission(peer, topic, key, payload))

    def _read(self, match: Match, payload: bytes) -> list[Event]:
        session, now = match.session, self._clock.now()
        if not self._allowed(session.peer):
            return [*self._ignore("not allowed"), Ignored(session.peer)]
        self.table.spend(match, now)
        try:
            packet = self._codec.packet(payload)
            body = self._codec.body(packet.body)
        except MessageRefused:
            return self._ignore("malformed")
        events = self._keeper.confirm(session)
        if isinstance(body, Goodbye):
            return events + self._keeper.end(session, "the peer said goodbye")
        if isinstance(body, LARGE_BODIES):
            return events + self.large.receive(session.peer, body, now)
        return events + self._arrive(session, packet, body, now)

    def _arrive(self, session: Session, packet: Packet, body: Any, now: float) -> list[Event]:
        """Hear a message in its turn, and after it what waited for it."""
        if packet.mode is not Mode.REPLY and self._repeated(session, packet):
            return []
        self._waiting.drop(session.peer, packet.id)
        events: list[Event] = []
        for passed in self.conversations.pass_over(packet, session.peer, now):
            self._waiting.drop(session.peer, passed)
            events += self._free(session.peer, passed, now)
        if self.conversations.in_turn(packet, session.peer):
            return [*events, *self._deliver(session, packet, body, now), *self._free(session.peer, packet.id, now)]
        held = self._waiting.hold(Early(session.peer, session.id, packet, body, now))
        self._metrics.count("messages_early", kept=str(held))
        return events

    def _free(self, peer: str, message_id: bytes, now: float) -> list[Event]:
        events: list[Event] = []
        for early in self._waiting.after(peer, message_id):
            session = self.table.sessions.get(early.session)
            if session is not None:
                events += self._arrive(session, early.packet, early.body, now)
        return events

    def _deliver(self, session: Session, packet: Packet, body: Any, now: float) -> list[Event]:
        asks = packet.mode is not Mode.REPLY
        if asks and not now <= packet.reply_by <= now + MEMORY:
            return self._ignore(Unexpected.DEADLINE)
        if packet.parent is None and (not asks or self._codec.only_answers(body)):
            return self._ignore(Unexpected.UNASKED)
        answers: str | None = None
        if packet.parent is not None:
            verdict = self.conversations.judge(packet, session.peer, str(body.__struct_config__.tag), now)
            if isinstance(verdict, Unexpected):
                return self._ignore(verdict)
            self.conversations.remove(verdict.id)
            answers = verdict.context
        if packet.mode is Mode.NOTICE:
            self._answer_to(session.peer, packet, Ack(), now + NOTICE_PATIENCE, session.id)
        elif asks:
            self.conversations.remember(packet.id, session.peer, now)
        if isinstance(body, Ready | Ack):
            return []
        self._metrics.count("messages_received")
        return [Received(session.peer, packet, body, answers)]

    def _ignore(self, reason: str) -> list[Event]:
        self._metrics.count("messages_ignored", reason=str(reason))
        return []

    def _repeated(self, session: Session, packet: Packet) -> bool:
        """Send the answer to a message handled before once more."""
        handled = self.conversations.handled(packet.id)
        if handled is None:
            return False
        self._ignore("repeated")
        if handled.answer and handled.peer == session.peer:
            now, answer = self._clock.now(), handled.answer
            until = now + NOTICE_PATIENCE
            self.conversations.put(Pending(self._random(16), session.peer, answer, now, until, [], order=handled.order))
        return True

    # handshakes

    def _handshake(self, topic: bytes, data: bytes) -> list[Event]:
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
            answered = self._answer(caller)
        except HandshakeRefused:
            answered = False
        if not answered:
            self._metrics.count("handshakes_refused")
        crossed, self._crossed = self._crossed, []
        return crossed

    def _passed_over(self, topic: bytes) -> list[Event]:
        """Somebody else's, or from a severed peer: then it is counted as such."""
        severed = self.table.buried(topic)
        if severed is None:
            self._metrics.count("messages_passed_over")
            return []
        return [*self._ignore("severed"), Ignored(severed)]

    def _welcomed(self, attempt: Attempt, root: bytes) -> list[Event]:
        session = new_session(root, attempt.hello, attempt.own.card, attempt.peer, self._clock.now(), initiator=True)
        allowed = self._allowed(session.peer) and self.vouched(attempt.peer)
        if not allowed or not self._keeper.enter(session, self._clock.now()):
            return []
        self._calls.connected(attempt)
        replaced = self._keeper.replace(session)
        self._send(session.peer, Ready(), Mode.NOTICE, NOTICE_PATIENCE, _ACKS, "", via=session.id)
        return [*replaced, Opened(session.peer, session.purpose, initiator=True)]

    def _answer(self, caller: Caller) -> bool:
        """Answer a Hello if chain and agent allow it; one seen before gets the answer it got."""
        hello, peer, now = caller.hello, caller.peer.worker, self._clock.now()
        if not (self._allowed(peer) and self.vouched(caller.peer)) or self._calls_cross(peer):
            return False
        known = next((s for s in self.table.with_peer(peer) if s.hello_id == hello.hello_id), None)
        if known is not None:
            if known.welcome:
                self._calls.send_welcome(caller, known.welcome)
            return True
        if self.conversations.handled(hello.hello_id) is not None or not self._admit(peer, hello.purpose):
            return False
        sealed, root = self._calls.welcome(caller)
        session = new_session(root, hello, caller.own.card, caller.peer, now, initiator=False)
        session.welcome = sealed
        if not self._keeper.enter(session, self._clock.now()):
            return False
        self.conversations.remember(hello.hello_id, peer, now)
        self._calls.send_welcome(caller, sealed)
        return True

    def _calls_cross(self, peer: str) -> bool:
        """Whether we call whom calls us, and ours is the call that counts: the one of the lower id; else it ends."""
        crossing = peer in self._calls.peers()
        if crossing and peer.lower() < self.id.lower():
            ended = self._calls.hang_up(lambda attempt: attempt.peer.worker == peer)
            self._crossed += [Closed(peer, attempt.hello.purpose, "they called at the same time") for attempt in ended]
            return False
        return crossing

    def _expire(self, late: list[Pending]) -> list[Event]:
        asked = [pending for pending in late if pending.mode is not Mode.REPLY and pending.context]
        return [Expired(pending.peer, pending.context, self._body(pending)) for pending in asked]

    def _body(self, pending: Pending) -> Any:
        return self._codec.body(pending.packet.body)
