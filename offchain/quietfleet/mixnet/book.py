"""The relays a node knows: verified, live, and vouched for by the chain at the moment they are used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from quietfleet.errors import DescriptorError
from quietfleet.mixnet.descriptor import CLOCK_SKEW, MAX_LIFETIME, RelayDescriptor

OwnerOf = Callable[[str], str | None]  # key address, EIP-55 → the active registered relay's owner, or None

MARGIN: Final = 300  # seconds a descriptor must still live to be chosen: a packet outlives no key
RENEWALS: Final = 4  # descriptors of one relay taken in an hour, since each is passed on to everyone
RENEWAL_PERIOD: Final = 3600


class Verdict(StrEnum):
    """What became of a descriptor; the label its counter carries. Only a FRESH one is worth passing on."""

    FRESH = "fresh"
    KNOWN = "known"
    EXPIRED = "expired"
    FROM_FUTURE = "from_future"
    LIVES_TOO_LONG = "lives_too_long"
    UNREGISTERED = "unregistered"
    OUTDATED = "outdated"
    TOO_OFTEN = "too_often"
    FORGED = "forged"
    FULL = "full"

    @property
    def refused(self) -> bool:
        """Whether it was not taken; one already KNOWN was."""
        return self not in {Verdict.FRESH, Verdict.KNOWN}


@dataclass(frozen=True, slots=True)
class Relay:
    """A relay fit for use now, and who owns it according to the chain."""

    descriptor: RelayDescriptor
    owner: str

    @property
    def address(self) -> bytes:
        """The 20 bytes that name it inside packets."""
        return self.descriptor.address


class RelayBook:
    """At most `capacity` descriptors, one a node, the newest; what `owner_of` does not vouch for is not used."""

    def __init__(self, domain: bytes, owner_of: OwnerOf, capacity: int = 4096) -> None:
        self._domain = domain
        self._owner_of = owner_of
        self._capacity = capacity
        self._held: dict[bytes, RelayDescriptor] = {}
        self._renewed: dict[bytes, list[float]] = {}  # when we took this relay's latest ones

    def accept(self, descriptor: RelayDescriptor, now: float) -> Verdict:
        """Judge a descriptor, the cheapest check first and the signature last, and keep it if it is FRESH."""
        held = self._held.get(descriptor.address)
        if held == descriptor:
            return Verdict.KNOWN
        refusal = _timing(descriptor, now) or self._standing(descriptor, held, now)
        if refusal:
            return refusal
        try:
            descriptor.verify(self._domain)
        except DescriptorError:
            return Verdict.FORGED
        if held is None and not self._room(now):
            return Verdict.FULL
        self._held[descriptor.address] = descriptor
        self._renewed[descriptor.address] = [*self._recent(descriptor, now), now]
        return Verdict.FRESH

    def find(self, address: bytes, now: float) -> Relay | None:
        """Return the relay of this 20-byte address if it may be used now; for forwarding, to the last second."""
        descriptor = self._held.get(address)
        if descriptor is None or now >= descriptor.expires:
            return None
        owner = self._owner_of(descriptor.id)
        return None if owner is None else Relay(descriptor, owner)

    def live(self, now: float) -> list[Relay]:
        """Return every relay a path may be drawn from now, in the order of their addresses."""
        until = now + MARGIN
        owned = ((held, self._owner_of(held.id)) for _, held in sorted(self._held.items()) if held.expires > until)
        return [Relay(held, owner) for held, owner in owned if owner is not None]

    def vouched(self, relay_id: str) -> bool:
        """Tell whether the chain lists the relay of this address (EIP-55) now, known to us or not."""
        return self._owner_of(relay_id) is not None

    def descriptors(self, now: float) -> list[RelayDescriptor]:
        """Return all that is worth telling a peer who just connected."""
        return [relay.descriptor for relay in self.live(now)]

    def prune(self, now: float) -> int:
        """Forget what expired and what the chain no longer vouches for; return how many."""
        before = len(self._held)
        self._held = {
            address: held
            for address, held in self._held.items()
            if now < held.expires and self._owner_of(held.id) is not None
        }
        self._renewed = {address: times for address, times in self._renewed.items() if address in self._held}
        return before - len(self._held)

    def __len__(self) -> int:
        return len(self._held)

    def _standing(self, descriptor: RelayDescriptor, held: RelayDescriptor | None, now: float) -> Verdict | None:
        if self._owner_of(descriptor.id) is None:
            return Verdict.UNREGISTERED
        if held is not None and descriptor.issued <= held.issued:
            return Verdict.OUTDATED
        return Verdict.TOO_OFTEN if len(self._recent(descriptor, now)) >= RENEWALS else None

    def _recent(self, descriptor: RelayDescriptor, now: float) -> list[float]:
        return [at for at in self._renewed.get(descriptor.address, ()) if now - RENEWAL_PERIOD < at <= now]

    def _room(self, now: float) -> bool:
        if len(self._held) >= self._capacity:
            self.prune(now)
        return len(self._held) < self._capacity


def _timing(descriptor: RelayDescriptor, now: float) -> Verdict | None:
    if now >= descriptor.expires:
        return Verdict.EXPIRED
    if descriptor.issued > now + CLOCK_SKEW:
        return Verdict.FROM_FUTURE
    return Verdict.LIVES_TOO_LONG if descriptor.expires - descriptor.issued > MAX_LIFETIME else None
