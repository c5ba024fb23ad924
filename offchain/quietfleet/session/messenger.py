"""The session layer of one worker, without I/O: envelopes in, events and transmissions out.

Theory of operation. `receive` recognises an envelope by its topic: an expected message of a session, the answer to a
Hello of ours, the announcement of a service card, or a first message inside our own bloom; anything else is another
worker's and is passed over. Everything it changes is in the database, inside the caller's transaction; nothing leaves
before that commits. `transmissions` then takes fresh keys for what is due, stores them, and hands out sealed payloads.
A crash at any point repeats work, never loses it and never reuses a key.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from quietfleet.chain.types import Configuration
from quietfleet.clock import Clock
from quietfleet.crypto import PrivateKey
from quietfleet.errors import CryptoError, HandshakeRefused, MessageRefused, PayloadError
from quietfleet.metrics import Metrics
from quietfleet.session._calls import Attempt, Caller, Calls, new_session
from quietfleet.session._card import Card
from quietfleet.session._codec import Ack, Codec, Goodbye, Mode, Packet, Ready, encode
from quietfleet.session._conversation import Conversations, Pending, Unexpected
from quietfleet.session._epochs import Epochs
from quietfleet.session._table import Match, Session, Table
from quietfleet.session._vault import Random
from quietfleet.session.events import CardSeen, Closed, Event, Expired, Ignored, Opened, Received, VersionRetired
from quietfleet.storage import Database
from quietfleet.whisper import open_symmetric, room, seal_symmetric

SIZE_CLASSES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 114_688)
NOTICE_PATIENCE = 30.0
CONFIRM_WITHIN = 60.0  # seconds after which a session its initiator never used is dropped


class Registry(Protocol):
    """What the session layer asks of the chain."""

    def can_cooperate(self, a: str, b: str) -> bool:
        """Tell whether both are registered, active and of kinds that work together."""
        ...


@dataclass(frozen=True, slots=True)
class Transmission:
    """A payload ready for an envelope: mine it, then publish it."""

    topic: bytes
    data: bytes


class Messenger:
    """Sessions, conversations and epochs of one worker behind one face."""

    def __init__(
        self,
        identity: PrivateKey,
        database: Database,
        codec: Codec,
        registry: Registry,
        metrics: Metrics,
        clock: Clock,
        random: Random,
        domain: bytes,
        admit: Callable[[str, str], bool],
    ) -> None:
        self.id = identity.public.id
        self._identity = identity
        self._codec = codec
        self._registry = registry
        self._metrics = metrics
        self._clock = clock
        self._random = random
        self._admit = admit
        self.epochs = Epochs(database, identity, random)
        self.table = Table(database, identity.to_bytes(), random)
        self.conversations = Conversations(database, identity.to_bytes(), random)
        self._database = database
        self._calls = Calls(identity, self.epochs, random, domain, self._control)
        self._controls: list[Transmission] = []

    def reload(self) -> None:
        """Forget what is in memory and read the database again, after a rolled-back transaction."""
        self.epochs.load()
        self.table.load()
        self.conversations.load()
        self._controls.clear()

    # configuration and epochs

    def adopt(self, latest: Configuration | None, previous: Configuration | None) -> list[Event]:
        """Follow the chain's configuration: own keys for new versions, sessions re-keyed, old versions erased."""
        self.epochs.adopt(latest, previous, self._clock.now())
        self._rekey()
        return self._retire()

    def own_card(self) -> Card | None:
        """Our card for the configuration in force."""
        configuration = self.epochs.in_force(self._clock.now())
        secrets = self.epochs.secrets(configuration.version) if configuration else None
        return secrets.card if secrets else None

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> None:
        """Take the epoch key the oracle granted and re-key every session; `HandshakeRefused` if it is a wrong one."""
        self.epochs.set_epoch_key(configuration, key)
        self._rekey()

    def announce(self) -> None:
        """Queue our card for everyone, when the configuration names us as oracle or gateway."""
        self._calls.announce()

    # sessions

    def connect(self, card: Card, purpose: str) -> None:
        """Start a handshake with the holder of `card`; `Opened` or `Closed` follows. Raises `HandshakeRefused`."""
        self._calls.dial(card, purpose, self._clock.now())

    def session(self, peer: str) -> Session | None:
        """The session messages to `peer` go through now, if there is one."""
        now = self._clock.now()
        usable = (s for s in self.table.with_peer(peer) if s.confirmed and self._version(s, now) is not None)
        return next(usable, None)

    def has_session(self, peer: str, version: int) -> bool:
        """Tell whether a session with `peer` that began under `version` is open."""
        return any(s.version == version and s.confirmed for s in self.table.with_peer(peer))

    def sever(self, peer: str, reason: str) -> list[Event]:
        """End everything with `peer` at once: keys erased, messages dropped, later ones ignored and counted."""
        self._calls.hang_up(peer)
        expired = self._expire(self.conversations.drop_peer(peer))
        closed: list[Event] = []
        for session in self.table.with_peer(peer):
            self.table.remove(session, bury=True)
            closed.append(Closed(peer, session.purpose, reason))
        return closed + expired

    # messages

    def request(
        self, peer: str, body: msgspec.Struct, expects: Sequence[type[msgspec.Struct]], within: float, context: str = ""
    ) -> bytes:
        """Ask `peer` something that one of `expects` may answer within so many seconds; returns the message id."""
        return self._send(peer, body, Mode.REQUEST, within, expects, context)

    def notify(self, peer: str, body: msgspec.Struct, within: float = NOTICE_PATIENCE, context: str = "") -> bytes:
        """Tell `peer` something and have it acknowledged."""
        return self._send(peer, body, Mode.NOTICE, within, (Ack,), context)

    def reply(self, received: Received, body: msgspec.Struct) -> None:
        """Answer a request; the answer is kept, and sent again if the request comes again."""
        packet = Packet(self._random(16), received.packet.id, Mode.REPLY, received.packet.reply_by, encode(body))
        data = encode(packet)
        now = self._clock.now()
        self.conversations.remember(received.packet.id, received.peer, now, data)
        self.conversations.put(Pending(packet.id, received.peer, data, Mode.REPLY, now, received.packet.reply_by, []))

    def receive(self, topic: bytes, data: bytes) -> list[Event]:
        """Take an envelope from the network; what is not for us, or not in order, is dropped and counted."""
        for match in self.table.find(topic):
            try:
                payload = open_symmetric(match.message.key, data).payload
            except (CryptoError, PayloadError):
                continue
            return self._read(match, payload)
        severed = self.table.buried(topic)
        if severed is not None:
            self._metrics.count("messages_ignored", reason="severed")
            return [Ignored(severed)]
        return self._handshake(topic, data)

    def tick(self) -> list[Event]:
        """Let time pass: expire requests, retry handshakes, retire versions."""
        now = self._clock.now()
        self.conversations.forget(now)
        events = self._expire(self.conversations.expired(now)) + self._retire()
        given_up = self._calls.tick(now)
        return events + [Closed(attempt.peer.worker, attempt.hello.purpose, "no answer") for attempt in given_up]

    def transmissions(self) -> list[Transmission]:
        """Hand out what is due, each under a fresh key that is stored as spent before this returns."""
        now = self._clock.now()
        try:
            with self._database.transaction():
                for pending in self.conversations.due(now):
                    self._attempt(pending, now)
        except BaseException:
            self.reload()
            raise
        ready, self._controls = self._controls, []
        return ready

    # inside

    def _allowed(self, peer: str) -> bool:
        return self._registry.can_cooperate(self.id, peer)

    def _send(
        self,
        peer: str,
        body: msgspec.Struct,
        mode: Mode,
        within: float,
        expects: Sequence[type[msgspec.Struct]],
        context: str,
        via: bytes = b"",
    ) -> bytes:
        now = self._clock.now()
        packet = Packet(self._random(16), None, mode, now + within, encode(body))
        tags = [str(kind.__struct_config__.tag) for kind in expects]
        self.conversations.put(
            Pending(packet.id, peer, encode(packet), mode, now, now + within, tags, context, via=via)
        )
        return packet.id

    def _attempt(self, pending: Pending, now: float) -> None:
        session = self.table.sessions.get(pending.via) if pending.via else self.session(pending.peer)
        if session is not None and self._allowed(session.peer) and self._transmit(session, pending.packet):
            self.conversations.sent(pending, now)

    def _transmit(self, session: Session, packet: bytes) -> bool:
        version = self._version(session, self._clock.now())
        if version is None:
            return False
        message = self.table.next_key(session, version)
        self._control(message.topic, message.key, packet)
        return True

    def _control(self, topic: bytes, key: bytes, payload: bytes) -> None:
        size = next((s for s in SIZE_CLASSES if room(s, signed=False) >= len(payload)), None)
        self._controls.append(Transmission(topic, seal_symmetric(key, payload, pad_to=size, random=self._random)))

    def _version(self, session: Session, now: float) -> int | None:
        """The generation to send under: the newest in force that the session has keys for."""
        if not session.mixes:
            return session.version if session.version in session.generations else None
        force = self.epochs.in_force(now)
        usable = [v for v in session.generations if force is not None and v <= force.version]
        return max(usable, default=None)

    def _read(self, match: Match, payload: bytes) -> list[Event]:
        session, now = match.session, self._clock.now()
        if not self._allowed(session.peer):
            self._metrics.count("messages_ignored", reason="not allowed")
            return [Ignored(session.peer)]
        self.table.spend(match)
        try:
            packet = self._codec.packet(payload)
            body = self._codec.body(packet.body)
        except MessageRefused:
            self._metrics.count("messages_ignored", reason="malformed")
            return []
        events = self._confirm(session)
        if packet.mode is not Mode.REPLY and self._repeated(session, packet):
            return events
        if isinstance(body, Goodbye):
            return events + self.sever(session.peer, body.reason or "peer said goodbye")
        return events + self._deliver(session, packet, body, now)

    def _deliver(self, session: Session, packet: Packet, body: Any, now: float) -> list[Event]:
        answers: str | None = None
        if packet.parent is not None:
            verdict = self.conversations.judge(packet, session.peer, str(body.__struct_config__.tag), now)
            if isinstance(verdict, Unexpected):
                self._metrics.count("messages_ignored", reason=verdict.value)
                return []
            self.conversations.remove(verdict.id)
            answers = verdict.context
        if packet.mode is Mode.REQUEST and now > packet.reply_by:
            self._metrics.count("messages_ignored", reason=Unexpected.LATE.value)
            return []
        if packet.mode is Mode.NOTICE:
            self._acknowledge(session, packet)
        elif packet.mode is Mode.REQUEST:
            self.conversations.remember(packet.id, session.peer, now, mode=Mode.REQUEST)
        if isinstance(body, Ready | Ack):
            return []
        self._metrics.count("messages_received")
        return [Received(session.peer, packet, body, answers)]

    def _acknowledge(self, session: Session, packet: Packet) -> None:
        now = self._clock.now()
        answer = Packet(self._random(16), packet.id, Mode.REPLY, packet.reply_by, encode(Ack()))
        self.conversations.remember(packet.id, session.peer, now, encode(answer))
        pending = Pending(
            answer.id, session.peer, encode(answer), Mode.REPLY, now, now + NOTICE_PATIENCE, [], via=session.id
        )
        self.conversations.put(pending)

    def _repeated(self, session: Session, packet: Packet) -> bool:
        """Send the answer to a message handled before once more."""
        handled = self.conversations.handled(packet.id)
        if handled is None:
            return False
        self._metrics.count("messages_ignored", reason="repeated")
        if handled.answer:
            now = self._clock.now()
            again = Pending(self._random(16), session.peer, handled.answer, Mode.REPLY, now, now + NOTICE_PATIENCE, [])
            self.conversations.put(again)
        return True

    def _confirm(self, session: Session) -> list[Event]:
        if session.confirmed:
            return []
        session.confirmed, session.welcome = True, b""
        self.table.save(session)
        replaced = self._replace(session)
        return [*replaced, Opened(session.peer, session.purpose, initiator=False)]

    def _replace(self, session: Session) -> list[Event]:
        """Let a confirmed session replace older ones with the same peer; oracle sessions end with their version."""
        older = [s for s in self.table.with_peer(session.peer) if session.mixes and s.mixes and s.id != session.id]
        for other in older:
            self.table.remove(other, bury=False)
        return [Closed(s.peer, s.purpose, "replaced by a new session") for s in older if s.purpose != session.purpose]

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
        except HandshakeRefused:
            self._metrics.count("handshakes_refused")
            return []
        if caller is None:
            self._metrics.count("messages_passed_over")
        elif not self._answer(caller):
            self._metrics.count("handshakes_refused")
        return []

    def _welcomed(self, attempt: Attempt, root: bytes) -> list[Event]:
        session = new_session(root, attempt.hello, attempt.own.card, attempt.peer, self._clock.now(), initiator=True)
        if not self._enter(session):
            return []
        self._calls.connected(attempt)
        replaced = self._replace(session)
        self._send(session.peer, Ready(), Mode.NOTICE, NOTICE_PATIENCE, (Ack,), "", via=session.id)
        return [*replaced, Opened(session.peer, session.purpose, initiator=True)]

    def _answer(self, caller: Caller) -> bool:
        """Answer a Hello if chain and agent allow it; one seen before gets the answer it got."""
        hello, peer, now = caller.hello, caller.peer.worker, self._clock.now()
        known = next((s for s in self.table.with_peer(peer) if s.hello_id == hello.hello_id), None)
        if known is not None:
            if known.welcome:
                self._calls.send_welcome(caller, known.welcome)
            return True
        replayed = self.conversations.handled(hello.hello_id) is not None
        if replayed or not self._allowed(peer) or not self._admit(peer, hello.purpose):
            return False
        sealed, root = self._calls.welcome(caller)
        session = new_session(root, hello, caller.own, caller.peer, now, initiator=False)
        session.welcome = sealed
        if not self._enter(session):
            return False
        self.conversations.remember(hello.hello_id, peer, now)
        self._calls.send_welcome(caller, sealed)
        return True

    def _enter(self, session: Session) -> bool:
        """Enter a session with its first generation; not yet, if the epoch key it needs has not come."""
        epoch_key = self.epochs.epoch_key(session.version) if session.mixes else b""
        if epoch_key is None:
            return False
        for other in self.table.with_peer(session.peer):
            if not other.confirmed:
                self.table.remove(other, bury=False)
        self.table.add(session)
        self.table.add_generation(session, session.version, epoch_key)
        self._rekey()
        return True

    # time

    def _rekey(self) -> None:
        """Give every session a generation for each version whose epoch key we hold and that it has not passed."""
        for session in [s for s in self.table.sessions.values() if s.mixes]:
            for version, key in self.epochs.epoch_keys():
                if version >= session.root_version:
                    self.table.add_generation(session, version, key)

    def _retire(self) -> list[Event]:
        """Erase the keys of versions whose grace is over, and sessions nobody ever used."""
        now = self._clock.now()
        for session in list(self.table.sessions.values()):
            if not session.confirmed and now > session.opened_at + CONFIRM_WITHIN:
                self.table.remove(session, bury=False)
        gone = self.epochs.retire(now)
        if not gone:
            return []
        live = self.epochs.live(now)
        for session in list(self.table.sessions.values()):
            for version in [v for v in session.generations if v not in live]:
                self.table.drop_generation(session, version)
            if not session.generations and not session.mixes:
                self.table.remove(session, bury=False)
        self.table.exhume(live)
        return [VersionRetired(version) for version in gone]

    def _expire(self, late: list[Pending]) -> list[Event]:
        events: list[Event] = []
        for pending in late:
            if pending.mode is Mode.REPLY or pending.context == "":
                continue
            body = self._codec.body(self._codec.packet(pending.packet).body)
            events.append(Expired(pending.peer, pending.context, body))
        return events
