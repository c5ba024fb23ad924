"""Meeting a peer that configuration names, with nobody in between.

Theory of operation: each of the two says its card, sealed under a key that only they can make: from the secret their
present messaging keys share (ECDH on secp256k1), mixed with the epoch key. Each says it again, with growing pauses,
while there is no session; whoever hears the other's card calls. Topics change with the slot of time and lie in a bloom
that comes from the same secret, so that none of it points to a card, a key, or the two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from quietfleet.crypto import PrivateKey, PublicKey, derive
from quietfleet.errors import CardRefused, CryptoError, PayloadError
from quietfleet.session._card import Card, decode_card, encode_card
from quietfleet.session._epochs import Epochs
from quietfleet.session._identity import Identity
from quietfleet.whisper import TOPIC_ENTROPY, draw_bloom, open_symmetric, topic_within

STATIC: Final = "static"
"""The purpose of a session between two that were configured to meet."""

SLOT: Final = 60.0  # seconds for which a topic is good
SPREAD: Final = 2  # slots before and after the present one, for clocks that differ and words that are long on the way
A_SLOT: Final = 4  # topics in a slot
FIRST_PAUSE: Final = 5.0  # seconds; each pause is twice the one before
LAST_PAUSE: Final = 300.0
_BLOOM_BITS: Final = 64

Send = Callable[[str, bytes, bytes, bytes], None]  # peer, topic, key, payload


@dataclass(frozen=True)
class _Way:
    """One direction between two workers in one configuration version."""

    version: int
    secret: bytes

    @cached_property
    def key(self) -> bytes:
        return derive(self.secret, "static card")

    @cached_property
    def bloom(self) -> bytes:
        """64 bytes that every topic of this direction lies inside."""
        return draw_bloom(derive(self.secret, "static bloom"), _BLOOM_BITS)

    def topic(self, slot: int, number: int) -> bytes:
        """The topic of so-manieth word in a slot of time."""
        place = slot.to_bytes(8, "big") + bytes([number])
        return topic_within(self.bloom, derive(self.secret, "static topic", place, length=TOPIC_ENTROPY))


@dataclass(slots=True)
class _Patience:
    """When our card is to be said again, and how often it was."""

    due: float = 0.0
    said: int = 0


class Meetings:
    """The peers we are to meet, each under the key (64 bytes) the chain has for it now. All of it is in memory."""

    def __init__(self, epochs: Epochs, identity: Identity, domain: bytes, send: Send) -> None:
        self._epochs = epochs
        self._identity = identity
        self._domain = domain
        self._send = send
        self._peers: dict[str, bytes] = {}
        self._patience: dict[str, _Patience] = {}
        self._shared: dict[tuple[bytes, bytes], bytes] = {}
        self._ways: dict[tuple[str, bytes, bytes, int, bytes], tuple[_Way, _Way]] = {}
        self._expected: tuple[int, dict[bytes, tuple[str, _Way]]] | None = None

    def keep(self, peers: Mapping[str, bytes]) -> None:
        """Be ready to meet these peers, and no others."""
        if peers != self._peers:
            self._peers = dict(peers)
            self._patience = {peer: one for peer, one in self._patience.items() if peer in peers}
            self._expected = None

    def tick(self, now: float, apart: Callable[[str], bool]) -> None:
        """Say our card to whom we are `apart` from, where it is time."""
        self._prune(now)
        for peer in self._peers:
            if not apart(peer):
                self._patience.pop(peer, None)
                continue
            patience = self._patience.setdefault(peer, _Patience())
            if now >= patience.due and self._say(peer, patience.said, now):
                patience.due = now + min(LAST_PAUSE, FIRST_PAUSE * 2.0 ** min(patience.said, 16))
                patience.said += 1

    def expects(self, topic: bytes, now: float) -> bool:
        """Whether the card of a peer we are to meet may come under that topic."""
        return topic in self._expecting(now)

    def heard(self, topic: bytes, data: bytes, now: float) -> Card | None:
        """Recognise the card of a peer we are to meet; only its own, and of the version it came under."""
        found = self._expecting(now).get(topic)
        if found is None:
            return None
        peer, way = found
        try:
            card = decode_card(open_symmetric(way.key, data).payload)
        except (CryptoError, PayloadError, CardRefused):
            return None
        return card if card.worker == peer and card.version == way.version else None

    def blooms(self) -> list[bytes]:
        """The blooms (64 bytes each) that what we wait for lies in."""
        return [coming.bloom for _, coming in self._all_ways()]

    def _say(self, peer: str, said: int, now: float) -> bool:
        configuration = self._epochs.in_force(now)
        secrets = self._epochs.meeting(configuration.epoch) if configuration else None
        ways = self._between(peer, configuration.epoch) if configuration else None
        if secrets is None or ways is None:
            return False
        going, _ = ways
        topic = going.topic(int(now // SLOT), said % A_SLOT)
        self._send(peer, topic, going.key, encode_card(secrets.card))
        return True

    def _expecting(self, now: float) -> dict[bytes, tuple[str, _Way]]:
        """The topics to listen for: made once a slot."""
        slot = int(now // SLOT)
        if self._expected is None or self._expected[0] != slot:
            expected: dict[bytes, tuple[str, _Way]] = {}
            for peer, way in self._all_ways():
                for at in range(max(0, slot - SPREAD), slot + SPREAD + 1):
                    expected |= {way.topic(at, number): (peer, way) for number in range(A_SLOT)}
            self._expected = slot, expected
        return self._expected[1]

    def _all_ways(self) -> Iterator[tuple[str, _Way]]:
        """What each peer says to us, under each version we hold an epoch key of."""
        for peer in self._peers:
            for version in self._epochs.keyed():
                ways = self._between(peer, version)
                if ways is not None:
                    yield peer, ways[1]

    def _between(self, peer: str, version: int) -> tuple[_Way, _Way] | None:
        """From us to a peer and back; None without our present key or that version's epoch key."""
        own, epoch_key, theirs = self._identity.present, self._epochs.epoch_key(version), self._peers[peer]
        if own is None or epoch_key is None:
            return None
        at = (peer, own.public.to_bytes(), theirs, version, epoch_key)
        if at not in self._ways:
            shared = self._secret_with(own, theirs)
            if shared is None:
                return None
            self._expected = None
            parts = (epoch_key, version.to_bytes(4, "big"), self._domain)
            pair = derive(shared, "static pair", *parts)
            going, coming = (
                derive(pair, "static way", bytes.fromhex(who.removeprefix("0x"))) for who in (self._identity.id, peer)
            )
            self._ways[at] = _Way(version, going), _Way(version, coming)
        return self._ways[at]

    def _secret_with(self, own: PrivateKey, theirs: bytes) -> bytes | None:
        at = (own.public.to_bytes(), theirs)
        if at not in self._shared:
            try:
                self._shared[at] = own.ecdh(PublicKey.from_bytes(theirs))
            except CryptoError:
                return None
        return self._shared[at]

    def _prune(self, now: float) -> None:
        """Forget what was made with keys that are over: ours, a peer's, or a version's."""
        own, live = self._identity.present, set(self._epochs.keyed()) & set(self._epochs.live(now))
        mine = own.public.to_bytes() if own else b""

        def good(at: tuple[str, bytes, bytes, int, bytes]) -> bool:
            peer, ours, theirs, version, _ = at
            return self._peers.get(peer) == theirs and ours == mine and version in live

        kept = {at: ways for at, ways in self._ways.items() if good(at)}
        if len(kept) < len(self._ways):
            self._ways, self._expected = kept, None
        self._shared = {at: one for at, one in self._shared.items() if at[0] == mine and at[1] in self._peers.values()}
