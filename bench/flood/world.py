"""The network under attack: 8 relays and 4 workers, who they are, where they listen and what they let pass."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from quietfleet.crypto import PrivateKey
from quietfleet.network import Address, Enode
from quietfleet.whisper import Rules, draw_bloom, topic_within

RELAYS: Final = 8
WORKERS: Final = 4
NODES: Final = RELAYS + WORKERS
RULES: Final = Rules(min_pow=0.2, max_ttl=60, max_size=64 << 10, bloom=draw_bloom(b"a network's bloom", 448))
TTL: Final = 20  # seconds, of everyone's envelopes
HONEST_SIZE: Final = 540  # bytes: an envelope's data in the smallest size class
MARK: Final = b"honest: "
DOMAIN: Final = bytes(32)
_STEPS: Final = (1, 2, 4)  # which of the relays behind it a relay dials, so that each has six links
_ENTRIES: Final = 2


@dataclass(frozen=True, slots=True)
class Place:
    """What one member's process is told: its number, everybody's ports, and whether workers send through stems."""

    number: int
    ports: tuple[int, ...]
    stem: bool

    @property
    def is_relay(self) -> bool:
        return self.number < RELAYS

    @property
    def peers(self) -> list[str]:
        """The enodes it stays connected to."""
        if self.is_relay:
            return [str(self.enode((self.number + step) % RELAYS)) for step in _STEPS]
        return [str(self.enode((2 * self.number + step) % RELAYS)) for step in range(_ENTRIES)]

    def enode(self, relay: int) -> Enode:
        return Enode(key_of(relay).public.to_bytes(), Address("127.0.0.1", self.ports[relay]))


class Listed:
    """The chain's part: which relays are registered, each by an owner of its own."""

    def __init__(self) -> None:
        self._owners = {key_of(relay).public.id: f"owner {relay}" for relay in range(RELAYS)}

    def owner_of(self, key: str) -> str | None:
        return self._owners.get(key)

    def relays(self) -> int:
        return len(self._owners)


def key_of(number: int) -> PrivateKey:
    """Return a member's node key."""
    return PrivateKey.from_bytes((number + 1).to_bytes(32, "big"))


def topic(rng: random.Random) -> bytes:
    """Draw a topic the network carries."""
    return topic_within(RULES.bloom, rng.randbytes(13))
