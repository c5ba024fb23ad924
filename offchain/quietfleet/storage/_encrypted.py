"""Objects that strangers may keep: sealed under a key of their own, found by the address a Swarm node gives them.

The reference, address and key, travels inside a session; whoever keeps the bytes learns their padded size alone. What
comes back is held against the address first, so that the keeper need not be trusted with anything but keeping.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

from quietfleet.crypto import SEAL_OVERHEAD, open_sealed, seal
from quietfleet.errors import CryptoError, ObjectCorrupt, ObjectSealed, ObjectTooLarge, StorageError
from quietfleet.storage._folder import Folder
from quietfleet.storage._swarm import ADDRESS_SIZE, CHUNK_SIZE, swarm_address

MOST: Final = 64 << 20
"""Bytes an object has at most, unless another limit is named: sealing and opening hold it in memory, twice."""

_KEY_SIZE: Final = 32
_LENGTH_SIZE: Final = 8
_USE: Final = b"quietfleet object"


@dataclass(frozen=True, slots=True)
class Reference:
    """All that is needed to fetch and open an object: its address and its key, 32 bytes each. A secret."""

    address: bytes
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if (len(self.address), len(self.key)) != (ADDRESS_SIZE, _KEY_SIZE):
            raise StorageError("a reference is an address and a key of 32 bytes each")

    def __bytes__(self) -> bytes:
        return self.address + self.key

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read the 64 bytes of `bytes(reference)`; StorageError if they are not as many."""
        return cls(data[:ADDRESS_SIZE], data[ADDRESS_SIZE:])


class Shelf(Protocol):
    """Where sealed bytes are kept: a folder, or a Swarm node behind a Bee gateway."""

    def put(self, address: bytes, data: bytes) -> None:
        """Keep bytes under their address."""
        ...

    def get(self, address: bytes, most: int) -> bytes:
        """Return the bytes; ObjectMissing, or ObjectTooLarge before more than `most` are in memory."""
        ...


class FolderShelf:
    """A folder on this machine, or one that machines share."""

    def __init__(self, directory: Path | str) -> None:
        self._folder = Folder(directory)

    def put(self, address: bytes, data: bytes) -> None:
        """Keep bytes durably under their address."""
        self._folder.write(address.hex(), data)

    def get(self, address: bytes, most: int) -> bytes:
        """Return the bytes; ObjectMissing, or ObjectTooLarge if there are more than `most`."""
        return self._folder.read(address.hex(), most)

    def remove(self, address: bytes) -> None:
        """Forget what is there; what is not is forgotten already. OSError."""
        self._folder.remove(address.hex())


class EncryptedObjects:
    """Puts objects on a shelf and gets them back, believing the shelf nothing."""

    def __init__(self, shelf: Shelf, *, most: int = MOST, random: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._shelf = shelf
        self._most = most
        self._random = random

    def put(self, data: bytes) -> Reference:
        """Seal bytes under a fresh key and keep them; ObjectTooLarge beyond the limit. The same again is another."""
        reference, sealed = seal_object(data, most=self._most, random=self._random)
        self._shelf.put(reference.address, sealed)
        return reference

    def get(self, reference: Reference) -> bytes:
        """Return an object's bytes; ObjectMissing, ObjectTooLarge, ObjectCorrupt or ObjectSealed."""
        return open_object(reference, self._shelf.get(reference.address, sealed_size(self._most)))


def seal_object(
    data: bytes, *, most: int = MOST, random: Callable[[int], bytes] = secrets.token_bytes
) -> tuple[Reference, bytes]:
    """Seal bytes under a fresh key; return the reference, and what to keep under its address."""
    if len(data) > most:
        raise ObjectTooLarge(f"{len(data)} bytes where {most} are the most")
    key = random(_KEY_SIZE)
    framed = len(data).to_bytes(_LENGTH_SIZE, "little") + data
    padded = framed.ljust(sealed_size(len(data)) - SEAL_OVERHEAD, b"\0")
    sealed = seal(key, padded, associated=_USE, random=random)
    return Reference(swarm_address(sealed), key), sealed


def open_object(reference: Reference, sealed: bytes) -> bytes:
    """Open what was kept; ObjectCorrupt if it has another address, ObjectSealed if the key does not open it."""
    if swarm_address(sealed) != reference.address:
        raise ObjectCorrupt(reference.address.hex())
    try:
        padded = open_sealed(reference.key, sealed, associated=_USE)
    except CryptoError as error:
        raise ObjectSealed(reference.address.hex()) from error
    end = _LENGTH_SIZE + int.from_bytes(padded[:_LENGTH_SIZE], "little")
    if end > len(padded) or len(sealed) != sealed_size(end - _LENGTH_SIZE) or padded[end:].strip(b"\0"):
        raise ObjectSealed(f"{reference.address.hex()}: not framed as an object")
    return padded[_LENGTH_SIZE:end]


def sealed_size(size: int) -> int:
    """Return how long `size` bytes are sealed: rounded up to so few sizes that they tell little of what it is.

    A length keeps as many leading bits as the number of its bits has bits (Padmé), which adds a sixteenth at most;
    everything below a chunk fills one.
    """
    length = max(size + _LENGTH_SIZE + SEAL_OVERHEAD, CHUNK_SIZE)
    bits = length.bit_length() - 1
    step = 1 << (bits - bits.bit_length())
    return -(-length // step) * step
