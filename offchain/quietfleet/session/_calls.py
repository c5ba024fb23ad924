"""Calls: the handshakes under way, ours and theirs, and the announcements that make service workers reachable.

    we call:   DIALLING ──Hello──→ … ──Welcome──→ session open          (Hello again as `Timing` says)
    they call: ──Hello──→ checked against chain and agent ──Welcome──→ session, unconfirmed until it is first used

Each side signs with the key of the card it shows.

A Hello seen twice is answered with the same Welcome; a replayed one opens nothing, since only its author can use it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from quietfleet.chain.types import Configuration
from quietfleet.crypto import derive
from quietfleet.crypto.hpke import HPKE_PRIVATE_SIZE, HpkePrivateKey
from quietfleet.errors import CardRefused, CryptoError, HandshakeRefused, PayloadError
from quietfleet.session import _handshake as handshake
from quietfleet.session._card import Card, EpochSecrets, decode_card, encode_card
from quietfleet.session._epochs import Epochs, service_digests
from quietfleet.session._table import Session
from quietfleet.session._timing import Timing
from quietfleet.session._vault import Random
from quietfleet.whisper import TOPIC_ENTROPY, admits, open_symmetric, topic_within

ORACLE = "oracle"
GATEWAY = "gateway"

Send = Callable[[str, bytes, bytes, bytes], None]  # peer ("" for everyone), topic, key, payload
Takes = Callable[[Card], bool]  # whether to take the announced card of an oracle that no configuration names


@dataclass(slots=True)
class Attempt:
    """A Hello of ours that is not answered yet, and the key its answer is sealed to; gone with the answer."""

    hello: handshake.Hello
    answer_to: HpkePrivateKey
    sealed: bytes
    own: EpochSecrets
    peer: Card
    due: float
    until: float
    attempts: int = 0

    @property
    def topic(self) -> bytes:
        """The topic its answer will have."""
        return welcome_topic(self.hello, self.own.card)


@dataclass(frozen=True, slots=True)
class Caller:
    """A Hello of theirs that is in order, and the card it was addressed to."""

    hello: handshake.Hello
    peer: Card
    own: EpochSecrets


class Calls:
    """Everything before a session is open."""

    def __init__(
        self,
        epochs: Epochs,
        random: Random,
        domain: bytes,
        send: Send,
        timing: Timing,
        takes: Takes = lambda _card: False,
    ) -> None:
        self._takes = takes
        self._epochs = epochs
        self._random = random
        self._domain = domain
        self._send = send
        self._timing = timing
        self._attempts: dict[bytes, Attempt] = {}

    def concerns(self, topic: bytes, data: bytes) -> bool:
        """Whether an envelope may be an announcement, an answer to a call of ours, or a call; changes nothing."""
        if topic in self.announcement_topics() or any(topic == one.topic for one in self._attempts.values()):
            return True
        return any(_addressed(secrets, topic, data) is not None for secrets in self._epochs.faces())

    def dial(self, card: Card, purpose: str, now: float) -> None:
        """Start calling the holder of `card`; raises `HandshakeRefused` if its version or its key is no good."""
        shown = self._epochs.secrets if purpose == ORACLE else self._epochs.meeting
        own = shown(card.version)
        if own is None:
            raise HandshakeRefused("that card belongs to another configuration version")
        if any(a.peer.worker == card.worker and a.peer.version == card.version for a in self._attempts.values()):
            return
        seed, key = self._random(48), HpkePrivateKey(self._random(HPKE_PRIVATE_SIZE))
        hello = handshake.make_hello(own.signer, own.card, card, purpose, now, seed, self._domain, key.public_bytes)
        sealed = handshake.seal_hello(hello, card)
        self._attempts[hello.hello_id] = Attempt(hello, key, sealed, own, card, now, now + self._timing.call)

    def hang_up(self, concerns: Callable[[Attempt], bool]) -> list[Attempt]:
        """Stop the calls that something concerns; return them."""
        gone = [key for key, attempt in self._attempts.items() if concerns(attempt)]
        return [self._attempts.pop(key) for key in gone]

    def peers(self) -> set[str]:
        """Whom we are calling."""
        return {attempt.peer.worker for attempt in self._attempts.values()}

    def tick(self, now: float) -> list[Attempt]:
        """Call again where it is time; return the calls given up."""
        late = [key for key, attempt in self._attempts.items() if now > attempt.until]
        given_up = [self._attempts.pop(key) for key in late]
        for attempt in self._attempts.values():
            if now >= attempt.due:
                attempt.attempts += 1
                attempt.due = now + self._timing.wait(attempt.attempts)
                topic = topic_within(attempt.peer.bloom, self._random(TOPIC_ENTROPY))
                self._send(attempt.peer.worker, topic, attempt.peer.contact_key, attempt.sealed)
        return given_up

    def answered(self, topic: bytes, data: bytes) -> tuple[Attempt, bytes] | None:
        """Recognise the answer to a Hello of ours; return the attempt and the root key both now share."""
        for attempt in self._attempts.values():
            if topic != attempt.topic:
                continue
            try:
                sealed = open_symmetric(handshake.welcome_key(attempt.hello), data).payload
                own, hello, peer = attempt.own, attempt.hello, attempt.peer
                keys = (own.hpke, attempt.answer_to)
                welcome = handshake.open_welcome(keys, own.card, sealed, hello, peer, self._domain)
            except (CryptoError, PayloadError, HandshakeRefused):
                continue
            return attempt, handshake.root_key(hello, welcome, peer, self._domain)
        return None

    def connected(self, attempt: Attempt) -> None:
        """Forget an attempt that led to a session."""
        self._attempts.pop(attempt.hello.hello_id, None)

    def called(self, topic: bytes, data: bytes, now: float) -> Caller | None:
        """Recognise a Hello to us; raises `HandshakeRefused` when it is addressed to us but not in order."""
        for secrets in self._epochs.faces():
            sealed = _addressed(secrets, topic, data)
            if sealed is None:
                continue
            hello, peer = handshake.open_hello(secrets.hpke, secrets.card, sealed, now, self._domain)
            return Caller(hello, peer, secrets)
        return None

    def welcome(self, caller: Caller) -> tuple[bytes, bytes]:
        """Compose the answer to a Hello; return it sealed, and the root both will share; raises `HandshakeRefused`."""
        share = self._random(32)
        own = caller.own
        welcome = handshake.make_welcome(own.signer, caller.hello, own.card, share, self._domain)
        root = handshake.root_key(caller.hello, welcome, own.card, self._domain)
        return handshake.seal_welcome(welcome, caller.hello, caller.peer), root

    def send_welcome(self, caller: Caller, sealed: bytes) -> None:
        """Send an answer, again if need be."""
        topic, key = welcome_topic(caller.hello, caller.peer), handshake.welcome_key(caller.hello)
        self._send(caller.peer.worker, topic, key, sealed)

    def announce(self, *, unnamed: bool = False) -> None:
        """Send our card to everyone, under every configuration that names us as oracle or gateway, or `unnamed`."""
        for configuration in self._configurations():
            secrets = self._epochs.secrets(configuration.epoch)
            if secrets and (unnamed or secrets.card.digest in service_digests(configuration)):
                key, topic = announcement(self._domain, configuration.epoch)
                self._send("", topic, key, encode_card(secrets.card))

    def announcement_topics(self) -> list[bytes]:
        """The topics under which the cards of live configurations are announced."""
        return [announcement(self._domain, one.epoch)[1] for one in self._configurations()]

    def announced(self, topic: bytes, data: bytes) -> Card | None:
        """Recognise the announced card of an oracle or gateway: one the chain names, or one that is listed here."""
        for configuration in self._configurations():
            key, expected = announcement(self._domain, configuration.epoch)
            if expected != topic:
                continue
            try:
                card = decode_card(open_symmetric(key, data).payload)
            except (CryptoError, PayloadError, CardRefused):
                continue
            if card.digest in service_digests(configuration) or self._listed(card, configuration):
                return card
        return None

    def _listed(self, card: Card, configuration: Configuration) -> bool:
        return card.version == configuration.epoch and self._takes(card)

    def _configurations(self) -> list[Configuration]:
        return [one for one in (self._epochs.latest, self._epochs.previous) if one is not None]


def new_session(root: bytes, hello: handshake.Hello, own: Card, peer: Card, now: float, *, initiator: bool) -> Session:
    """Build the session a handshake leads to; it has no generation yet."""
    return Session(
        id=derive(root, "session id", length=16),
        peer=peer.worker,
        initiator=initiator,
        purpose=hello.purpose,
        own=own.credential,
        theirs=peer.credential,
        version=peer.version,
        mixes=hello.purpose != ORACLE,
        opened_at=now,
        own_bloom=own.bloom,
        peer_bloom=peer.bloom,
        root=root,
        root_version=peer.version,
        generations={},
        confirmed=initiator,
        hello_id=hello.hello_id,
    )


def _addressed(secrets: EpochSecrets, topic: bytes, data: bytes) -> bytes | None:
    """What was sealed to whoever holds these secrets, if the envelope is a call to us."""
    if not admits(secrets.card.bloom, topic):
        return None
    try:
        return open_symmetric(secrets.contact_key, data).payload
    except (CryptoError, PayloadError):
        return None


def welcome_topic(hello: handshake.Hello, initiator: Card) -> bytes:
    """The topic of the answer to a Hello: inside the initiator's bloom, known to the two alone."""
    return topic_within(initiator.bloom, derive(hello.share, "welcome topic", length=TOPIC_ENTROPY))


@lru_cache(maxsize=8)  # asked for at every envelope
def announcement(domain: bytes, version: int) -> tuple[bytes, bytes]:
    """The key and topic of announcements: public, like the configuration they belong to."""
    seed = derive(domain, "announcement", version.to_bytes(4, "big"))
    return derive(seed, "announcement key"), derive(seed, "announcement topic", length=4)
