"""What a processor tells of the heads that it fits for its devices by itself."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.crypto import PrivateKey, keccak256

_PURPOSE: Final = b"quietfleet head told/1"

Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
Name = Annotated[str, Meta(max_length=64)]
Error = Annotated[float, Meta(ge=0, le=1e6)]


class HeadTold(msgspec.Struct, frozen=True):
    """What a processor tells of a head: which, on which release, for which device, and on what evidence; no data.

    `device` is the processor's pseudonym. A head that is out of use says `why`.
    """

    device: Name
    release: Annotated[int, Meta(ge=0, lt=1 << 32)]
    manifest_hash: Digest
    head: Digest
    rows: Annotated[int, Meta(ge=0, le=1_000_000)]
    before: Error
    after: Error
    at: Annotated[int, Meta(ge=0, le=1 << 40)]
    why: Name = ""

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self))

    def signed(self, key: PrivateKey) -> SignedHead:
        """Put a processor's name under it."""
        return SignedHead(self, key.sign(self.digest))


class SignedHead(msgspec.Struct, frozen=True):
    """The same with the signature of the processor's messaging key."""

    told: HeadTold
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]
