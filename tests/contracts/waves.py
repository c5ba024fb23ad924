"""The Merkle tree over the devices' waves, as a publisher builds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from eth_utils import keccak


@dataclass(frozen=True)
class Place:
    """What a release says of one device."""

    pseudonym: bytes
    wave: int
    manifest: bytes
    salt: bytes

    @classmethod
    def numbered(cls, number: int, wave: int, manifest: bytes) -> Place:
        return cls(keccak(text=f"pseudonym {number}"), wave, manifest, keccak(text=f"salt {number}"))

    @property
    def leaf(self) -> bytes:
        return keccak(b"\0" + self.pseudonym + bytes([self.wave]) + self.manifest + self.salt)


@dataclass(frozen=True)
class Proof:
    """What a device shows of its place."""

    place: Place
    index: int
    siblings: tuple[bytes, ...]

    def but(self, **changes: Any) -> Proof:
        """The same, except for some fields of the proof or of its place."""
        own = {name: changes.pop(name) for name in ("index", "siblings") if name in changes}
        return replace(self, place=replace(self.place, **changes), **own)

    @property
    def as_given(self) -> tuple[Any, ...]:
        """What `admits` takes."""
        place = self.place
        return (place.pseudonym, place.wave, place.manifest, place.salt, self.index, list(self.siblings))


def node(left: bytes, right: bytes) -> bytes:
    return keccak(b"\1" + left + right)


class WaveTree:
    """A tree over places, filled up to a power of two so that it does not tell how many there are."""

    def __init__(self, places: list[Place]) -> None:
        self.places = places
        width = 1 << (len(places) - 1).bit_length()
        filling = [keccak(text=f"nobody {number}") for number in range(width - len(places))]
        self._levels = [[place.leaf for place in places] + filling]
        while len(level := self._levels[-1]) > 1:
            self._levels.append([node(left, right) for left, right in zip(level[::2], level[1::2], strict=True)])

    @property
    def root(self) -> bytes:
        return self._levels[-1][0]

    def proof(self, index: int) -> Proof:
        siblings = tuple(level[index >> height ^ 1] for height, level in enumerate(self._levels[:-1]))
        return Proof(self.places[index], index, siblings)
