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
from quietfleet.crypto import PrivateKey, derive
from quietfleet.errors import CardRefused, CryptoError, HandshakeRefused, MessageRefused, NoSession, PayloadError
from quietfleet.metrics import Metrics
from quietfleet.session import _handshake as handshake
from quietfleet.session._card import Card, decode_card, encode_card
from quietfleet.session._codec import Ack, Codec, Goodbye, Mode, Packet, Ready, encode
from quietfleet.session._conversation import Conversations, Pending, Unexpected
from quietfleet.session._epochs import Epochs
from quietfleet.session._table import Match, Session, Table
from quietfleet.session._vault import Random
from quietfleet.session.events import CardSeen, Closed, Event, Expired, Ignored, Opened, Received, VersionRetired
from quietfleet.storage import Database
from quietfleet.whisper import TOPIC_ENTROPY, admits, open_symmetric, room, seal_symmetric, topic_within

SIZE_CLASSES = (512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 114_688)
ORACLE = "oracle"
GATEWAY = "gateway"
HELLO_RETRY = 2.0
HELLO_PATIENCE = 20.0
NOTICE_PATIENCE = 30.0


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


@dataclass(slots=True)
class _Attempt:
    hello: handshake.Hello
    own_version: int
    peer: Card
    due: float
    until: float


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
        self._domain = domain
        self._admit = admit
        self.epochs = Epochs(database, identity, random)
        self.table = Table(database, identity.to_bytes(), random)
        self.conversations = Conversations(database, identity.to_bytes(), random)
        self._database = database
        self._attempts: dict[bytes, _Attempt] = {}
        self._controls: list[Transmission] = []

    def reload(self) -> None:
        """Forget what is in memory and read the database again, after a rolled-back transaction."""
        self.epochs.load()
        self.table.load()
        self.conversations.load()
        self._controls.clear()

    # configuration and epochs

    def adopt(self, latest: Configuration | None, previous: Configuration | None) -> list[Event]:
        """Follow the chain's configuration: own keys for new versions, sessions re-keyed, those left behind closed."""
        self.epochs.adopt(latest, previous, self._clock.now())
        return self._rekey() + self._retire()

    def own_card(self) -> Card | None:
        """Our card for the configuration in force."""
        configuration = self.epochs.in_force(self._clock.now())
        secrets = self.epochs.secrets(configuration.version) if configuration else None
        return secrets.card if secrets else None

    def set_epoch_key(self, configuration: Configuration, key: bytes) -> list[Event]:
        """Take the epoch key the oracle granted and re-key every session with it."""
        self.epochs.set_epoch_key(configuration, key)
        return self._rekey()

    def announce(self) -> None:
        """Queue our card for everyone, when the configuration names us as oracle or gateway."""
        for configuration in (self.epochs.latest, self.epochs.previous):
            secrets = self.epochs.secrets(configuration.version) if configuration else None
            if configuration and secrets and secrets.card.digest in _service_digests(configuration):
                key, topic = _announcement(self._domain, configuration.version)
                self._control(topic, key, encode_card(secrets.card))

    # sessions

    def connect(self, card: Card, purpose: str) -> None:
        """Start a handshake with the holder of `card`; `Opened` or `Closed` follows."""
        own = self.epochs.secrets(card.version)
        if own is None:
            raise HandshakeRefused("that card belongs to another configuration version")
        if any(
            attempt.peer.worker == card.worker and attempt.peer.version == card.version
            for attempt in self._attempts.values()
        ):
            return
        now = self._clock.now()
        hello = handshake.make_hello(self._identity, own.card, card, purpose, now, self._random(48), self._domain)
        self._attempts[hello.hello_id] = _Attempt(hello, card.version, card, now, now + HELLO_PATIENCE)

    def connecting(self, peer: str) -> bool:
        """Tell whether a handshake with `peer` is under way."""
        return any(attempt.peer.worker == peer for attempt in self._attempts.values())

    def session(self, peer: str) -> Session | None:
        """The session messages to `peer` go through now, if there is one."""
        now = self._clock.now()
        usable = (
            s for s in self.table.with_peer(peer) if (s.initiator or s.confirmed) and self._version(s, now) is not None
        )
        return next(usable, None)

    def has_session(self, peer: str, version: int) -> bool:
        """Tell whether a session with `peer` that began under `version` is open."""
        return any(s.version == version and (s.initiator or s.confirmed) for s in self.table.with_peer(peer))

    def sever(self, peer: str, reason: str) -> list[Event]:
        """End everything with `peer` at once: keys erased, messages dropped, later ones ignored and counted."""
        for hello_id in [h for h, attempt in self._attempts.items() if attempt.peer.worker == peer]:
            del self._attempts[hello_id]
        expired = self._expire(self.conversations.drop_peer(peer))
        closed: list[Event] = []
        for session in self.table.with_peer(peer):
            self.table.remove(session, bury=True)
            closed.append(Closed(peer, session.purpose, reason))
        return closed + expired

    def close(self, peer: str, reason: str) -> list[Event]:
        """Say goodbye and end the session."""
        session = self.session(peer)
        if session is None:
            return []
        packet = Packet(self._random(16), None, Mode.REPLY, 0.0, encode(Goodbye(reason)))
        self._transmit(session, encode(packet))
        return self.sever(peer, reason)

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
        return self._announcement_seen(topic, data) or self._welcomed(topic, data) or self._called(topic, data)

    def tick(self) -> list[Event]:
        """Let time pass: expire requests, retry handshakes, retire versions."""
        now = self._clock.now()
        self.conversations.forget(now)
        events = self._expire(self.conversations.expired(now)) + self._retire()
        for hello_id, attempt in list(self._attempts.items()):
            if now > attempt.until:
                del self._attempts[hello_id]
                events.append(Closed(attempt.peer.worker, attempt.hello.purpose, "no answer"))
            elif now >= attempt.due:
                attempt.due = now + HELLO_RETRY
                topic = topic_within(attempt.peer.bloom, self._random(TOPIC_ENTROPY))
                self._control(topic, attempt.peer.contact_key, handshake.seal_hello(attempt.hello, attempt.peer))
        return events

    def transmissions(self) -> list[Transmission]:
        """Hand out what is due, each under a fresh key that is stored as spent before this returns."""
        now = self._clock.now()
        with self._database.transaction():
            for pending in self.conversations.due(now):
                session = self.table.sessions.get(pending.via) if pending.via else self.session(pending.peer)
                if session is None or not self._allowed(session.peer) or not self._transmit(session, pending.packet):
                    continue
                self.conversations.sent(pending, now)
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
        if session.initiator or session.confirmed:
            return []
        session.confirmed, session.welcome = True, b""
        self.table.save(session)
        replaced = self._replace(session)
        return [*replaced, Opened(session.peer, session.purpose, initiator=False)]

    def _replace(self, session: Session) -> list[Event]:
        """Let a confirmed session replace older ones with the same peer; oracle sessions end with their version."""
        if not session.mixes:
            return []
        older = [s for s in self.table.with_peer(session.peer) if s.mixes and s.id != session.id]
        for other in older:
            self.table.remove(other, bury=False)
        return []

    # handshakes

    def _announcement_seen(self, topic: bytes, data: bytes) -> list[Event]:
        for configuration in (self.epochs.latest, self.epochs.previous):
            if configuration is None:
                continue
            key, announced = _announcement(self._domain, configuration.version)
            if announced != topic:
                continue
            try:
                card = decode_card(open_symmetric(key, data).payload)
            except (CryptoError, PayloadError, CardRefused):
                continue
            if card.digest in _service_digests(configuration):
                return [CardSeen(card)]
        return []

    def _welcomed(self, topic: bytes, data: bytes) -> list[Event]:
        for attempt in list(self._attempts.values()):
            own = self.epochs.secrets(attempt.own_version)
            if own is None or topic != self._welcome_topic(attempt.hello, own.card):
                continue
            try:
                sealed = open_symmetric(handshake.welcome_key(attempt.hello), data).payload
                welcome = handshake.open_welcome(own.hpke, own.card, sealed, attempt.hello, attempt.peer, self._domain)
            except (CryptoError, PayloadError, HandshakeRefused):
                continue
            root = handshake.root_key(attempt.hello, welcome, attempt.peer, self._domain)
            session = self._open_session(root, attempt.hello, own.card, attempt.peer, initiator=True)
            if session is None:
                return []
            del self._attempts[attempt.hello.hello_id]
            self._replace(session)
            self._send(session.peer, Ready(), Mode.NOTICE, NOTICE_PATIENCE, (Ack,), "", via=session.id)
            return [Opened(session.peer, session.purpose, initiator=True)]
        return []

    def _called(self, topic: bytes, data: bytes) -> list[Event]:
        for secrets in self.epochs.all_secrets():
            if not admits(secrets.card.bloom, topic):
                continue
            try:
                sealed = open_symmetric(secrets.card.contact_key, data).payload
                hello, peer = handshake.open_hello(secrets.hpke, secrets.card, sealed, self._clock.now(), self._domain)
            except (CryptoError, PayloadError):
                continue
            except HandshakeRefused:
                self._metrics.count("handshakes_refused")
                return []
            self._answer(hello, peer, secrets.card)
            return []
        self._metrics.count("messages_passed_over")
        return []

    def _answer(self, hello: handshake.Hello, peer: Card, own: Card) -> None:
        known = next((s for s in self.table.with_peer(peer.worker) if s.hello_id == hello.hello_id), None)
        if known is not None:
            self._send_welcome(hello, known.welcome)
            return
        handled = self.conversations.handled(hello.hello_id) is not None
        if handled or not self._allowed(peer.worker) or not self._admit(peer.worker, hello.purpose):
            self._metrics.count("handshakes_refused")
            return
        welcome = handshake.make_welcome(self._identity, hello, own, self._random(32), self._domain)
        root = handshake.root_key(hello, welcome, own, self._domain)
        session = self._open_session(root, hello, own, peer, initiator=False)
        if session is None:
            return
        session.welcome = handshake.seal_welcome(welcome, peer)
        self.table.save(session)
        self.conversations.remember(hello.hello_id, peer.worker, self._clock.now())
        self._send_welcome(hello, session.welcome)

    def _send_welcome(self, hello: handshake.Hello, sealed: bytes) -> None:
        if sealed:
            initiator = decode_card(hello.card)
            self._control(self._welcome_topic(hello, initiator), handshake.welcome_key(hello), sealed)

    def _welcome_topic(self, hello: handshake.Hello, initiator: Card) -> bytes:
        return topic_within(initiator.bloom, derive(hello.share, "welcome topic", length=TOPIC_ENTROPY))

    def _open_session(
        self, root: bytes, hello: handshake.Hello, own: Card, peer: Card, *, initiator: bool
    ) -> Session | None:
        """Enter a session with its first generation; None when the epoch key it needs has not come yet."""
        mixes = hello.purpose != ORACLE
        epoch_key = self.epochs.epoch_key(peer.version) if mixes else b""
        if epoch_key is None:
            return None
        session = Session(
            id=derive(root, "session id", length=16),
            peer=peer.worker,
            initiator=initiator,
            purpose=hello.purpose,
            version=peer.version,
            mixes=mixes,
            opened_at=self._clock.now(),
            own_bloom=own.bloom,
            peer_bloom=peer.bloom,
            root=root,
            root_version=0,
            generations={},
            confirmed=False,
            hello_id=hello.hello_id,
        )
        self.table.add_generation(session, peer.version, epoch_key)
        self.table.add(session)
        self._rekey()
        return session

    # time

    def _rekey(self) -> list[Event]:
        """Bring every session up to the newest version whose epoch key we hold; close those that missed one."""
        latest = self.epochs.latest
        events: list[Event] = []
        for session in [s for s in self.table.sessions.values() if s.mixes]:
            while latest is not None and session.root_version < latest.version:
                key = self.epochs.epoch_key(session.root_version + 1)
                if key is None:
                    break
                self.table.add_generation(session, session.root_version + 1, key)
            if latest is not None and session.root_version + 1 < latest.version:
                self.table.remove(session, bury=False)
                events.append(Closed(session.peer, session.purpose, "missed a rotation"))
        return events

    def _retire(self) -> list[Event]:
        now = self._clock.now()
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

    def require_session(self, peer: str) -> Session:
        """Return the open session with `peer`; raises `NoSession`."""
        session = self.session(peer)
        if session is None:
            raise NoSession(peer)
        return session


def _service_digests(configuration: Configuration) -> tuple[bytes, bytes]:
    return configuration.oracle_card_digest, configuration.gateway_card_digest


def _announcement(domain: bytes, version: int) -> tuple[bytes, bytes]:
    """The key and topic of announcements: public, like the configuration they belong to."""
    seed = derive(domain, "announcement", version.to_bytes(4, "big"))
    return derive(seed, "key"), derive(seed, "topic", length=4)
