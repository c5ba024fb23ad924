"""What attackers send: valid envelopes at the speed of geth's miner, and everything a relay should drop."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Final

from bench.flood.world import RULES, TTL, topic

from quietfleet.mixnet import PACKET_SIZES
from quietfleet.network import SHH, STEM, Message
from quietfleet.network.stemwire import PACKET
from quietfleet.network.wire import MESSAGES
from quietfleet.whisper import HEADER_SIZE, Envelope, Search, admits, encode_bundle, fastest_search, mine, target_bits

GETH: Final = 420_000  # hashes a second
_DATA: Final = 300 - HEADER_SIZE  # bytes
_BUNDLE: Final = 32  # envelopes in one message
_BUNDLES: Final = 64
_TRIALS: Final = 50  # envelopes from which the time for all is guessed
_WORK: Final = 2 ** target_bits(RULES.min_pow, _DATA, TTL)
VALID_RATE: Final = GETH / _WORK  # envelopes a second


class Poison:
    """Everything one attacker sends; `mine` takes seconds and comes before the attack."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._mined: list[Envelope] = []

    def mine(self, seconds: float) -> float:
        """Mine what geth would in so many seconds; return the Unix time they begin at, before which it costs more."""
        search, count = fastest_search(), int(VALID_RATE * seconds)
        self._valid(time.time(), search)  # the first time it is compiled
        began = time.monotonic()
        for _ in range(_TRIALS):
            self._valid(time.time(), search)
        start = time.time() + 1.5 * count * (time.monotonic() - began) / _TRIALS
        self._mined = [self._valid(start + number / VALID_RATE, search) for number in range(count)]
        return start

    @property
    def valid(self) -> list[Envelope]:
        """What was mined, in order: one every 1 / VALID_RATE seconds."""
        return self._mined

    def endless(self, kind: str) -> Iterator[Message]:
        """Return messages of one kind, without end."""
        return cycle(KINDS[kind](self))

    def junk(self) -> list[Message]:
        return [_shh(self._rng.randbytes(10_000)) for _ in range(_BUNDLES)]

    def expired(self) -> list[Message]:
        return self._bundles(lambda: self._idle(int(time.time()) - 60))

    def oversize(self) -> list[Message]:
        return self._bundles(lambda: self._idle(int(time.time()) + TTL, size=RULES.max_size + 1), count=4)

    def replayed(self) -> list[Message]:
        """Return what was mined, over and over; without any, what everyone knows to be over."""
        mined = self._mined[: _BUNDLE * _BUNDLES]
        return [_shh(encode_bundle(mined[at : at + _BUNDLE])) for at in range(0, len(mined), _BUNDLE)] or self.expired()

    def future(self) -> list[Message]:
        return self._bundles(lambda: self._idle(int(time.time()) + 3600))

    def bloom(self) -> list[Message]:
        return self._bundles(lambda: self._idle(int(time.time()) + TTL, outside=True))

    def low_pow(self) -> list[Message]:
        return self._bundles(lambda: self._idle(int(time.time()) + 2 * TTL, ttl=2 * TTL))

    def packets(self) -> list[Message]:
        """Return onion packets that open for nobody."""
        return [Message(STEM.name, PACKET, self._rng.randbytes(PACKET_SIZES[0])) for _ in range(_BUNDLES)]

    def _valid(self, sent: float, search: Search) -> Envelope:
        return mine(int(sent) + TTL, TTL, self._topic(), self._data(), RULES.min_pow, search=search)

    def _bundles(self, make: Callable[[], Envelope], count: int = _BUNDLE) -> list[Message]:
        return [_shh(encode_bundle(make() for _ in range(count))) for _ in range(_BUNDLES // 4)]

    def _idle(self, expiry: int, *, ttl: int = TTL, size: int = _DATA, outside: bool = False) -> Envelope:
        """Make an envelope that nobody worked for."""
        place = self._rng.randbytes(4) if outside else self._topic()
        while outside and admits(RULES.bloom, place):
            place = self._rng.randbytes(4)
        return Envelope(expiry, ttl, place, self._data(size), self._rng.getrandbits(63))

    def _topic(self) -> bytes:
        return topic(self._rng)

    def _data(self, size: int = _DATA) -> bytes:
        return self._rng.randbytes(size)


KINDS: Final = {
    "junk": Poison.junk,
    "expired": Poison.expired,
    "oversize": Poison.oversize,
    "replayed": Poison.replayed,
    "future": Poison.future,
    "bloom": Poison.bloom,
    "low_pow": Poison.low_pow,
    "packets": Poison.packets,
}


def _shh(payload: bytes) -> Message:
    return Message(SHH.name, MESSAGES, payload)
