from __future__ import annotations

from random import Random

from quietfleet.crypto import PrivateKey
from quietfleet.mixnet import HOPS, OnionKeys, Relay, RelayBook, RelayDescriptor, build, coarse_expiry, sign_descriptor

NOW = 1_700_000_000
DOMAIN = bytes(range(32))
DELAYS = (0.25, 0.5, 1.0)


def node_key(number: int) -> PrivateKey:
    """Return the node key of a numbered relay, the same in each run."""
    return PrivateKey.from_bytes((number + 1).to_bytes(32, "big"))


def descriptor_of(number: int, issued: int = NOW, lifetime: int = 12 * 3600) -> RelayDescriptor:
    """Make a descriptor of a numbered relay whose onion key is nobody's."""
    onion = Random(f"{number} {issued}").randbytes(32)
    return sign_descriptor(node_key(number), DOMAIN, "relay.example", 30303, onion, issued, issued + lifetime)


def relay_of(number: int, owner: str | None = None) -> Relay:
    """Make a relay fit for use, by default of an owner of its own."""
    return Relay(descriptor_of(number), owner or f"owner {number}")


class Register(dict[str, str]):
    """The chain as the mixnet asks it: which active relay has which owner."""

    def enrol(self, number: int, owner: str | None = None) -> None:
        self[node_key(number).public.id] = owner or f"owner {number}"

    def retire(self, number: int) -> None:
        self.pop(node_key(number).public.id, None)

    def owner_of(self, key_address: str) -> str | None:
        return self.get(key_address)


class Chain:
    """Three relays in a row, and packets through them."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed).randbytes
        self.keys = [OnionKeys(node_key(n), DOMAIN, "relay.example", 30303, self.random) for n in range(HOPS)]
        self.path = [keys.refresh(NOW) for keys in self.keys]

    def build(self, envelope: bytes | None = b"an envelope", index: int = 0, now: float = NOW) -> bytes:
        return build(self.path, envelope, DELAYS, coarse_expiry(now), index, self.random)


def full_book(count: int) -> RelayBook:
    """Return a book that holds relays 0 to `count` - 1, each of an owner of its own."""
    register = Register()
    book = RelayBook(DOMAIN, register.owner_of)
    for number in range(count):
        register.enrol(number)
        book.accept(descriptor_of(number), NOW)
    return book
