"""What two workers say to each other while a large payload goes from one to the other."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

MAX_LARGE: Final = 8 << 20  # bytes; what is larger belongs into a store, with its reference sent by message
CHUNK: Final = 32_512  # bytes of content in one envelope of the class 32,768
MAX_CHUNKS: Final = -(-MAX_LARGE // CHUNK)

Id = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
Digest = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Index = Annotated[int, msgspec.Meta(ge=0, lt=MAX_CHUNKS)]


class Have(msgspec.Struct, frozen=True, tag="large-have/1"):
    """I have this for you: SHA-256, size in bytes, what it is."""

    transfer: Id
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=1, le=MAX_LARGE)]
    kind: Annotated[str, msgspec.Meta(max_length=64)]


class Want(msgspec.Struct, frozen=True, tag="large-want/1"):
    """Send me these pieces of it: bit k of byte j stands for piece `first` + 8j + k."""

    transfer: Id
    first: Index
    bits: Annotated[bytes, msgspec.Meta(min_length=1, max_length=-(-MAX_CHUNKS // 8))]


class Chunk(msgspec.Struct, frozen=True, tag="large-chunk/1"):
    """One piece: `CHUNK` bytes, the last one what is left."""

    transfer: Id
    index: Index
    data: Annotated[bytes, msgspec.Meta(min_length=1, max_length=CHUNK)]


class Got(msgspec.Struct, frozen=True, tag="large-got/1"):
    """I have all of it and it is what was promised; or, not `taken`, I do not want it."""

    transfer: Id
    taken: bool


LARGE_BODIES: Final = (Have, Want, Chunk, Got)


def chunks_of(size: int) -> int:
    """Return the number of pieces of a payload of so many bytes."""
    return -(-size // CHUNK)


def chunk_size(size: int, index: int) -> int:
    """Return the size of one piece."""
    return min(CHUNK, size - index * CHUNK)


def want(transfer: bytes, indices: list[int]) -> Want:
    """Ask for pieces, at least one; ascending."""
    first = indices[0]
    bits = bytearray((indices[-1] - first) // 8 + 1)
    for index in indices:
        bits[(index - first) >> 3] |= 1 << ((index - first) & 7)
    return Want(transfer, first, bytes(bits))


def wanted(asked: Want, size: int, most: int) -> list[int]:
    """Read which pieces of a payload are asked for, ascending, and no more than `most`."""
    indices = (asked.first + 8 * j + k for j, byte in enumerate(asked.bits) for k in range(8) if byte >> k & 1)
    return [index for index in indices if index < chunks_of(size)][:most]
