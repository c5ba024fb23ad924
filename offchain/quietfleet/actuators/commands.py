"""A command to an actuator, and what its device says came of it (paper V-C: actuators that interact with their world).

A command says where an actuator is to be, and until when: it is a state for a time, and no act, so that one that is
late, lost or said twice does no harm. What came of it is said once, under the device's signature.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.crypto import PrivateKey, keccak256

MOST: Final = 8
"""Commands that one recommendation brings, at most."""
_PURPOSE: Final = b"quietfleet command effect 1\0"

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
Name = Annotated[str, Meta(min_length=1, max_length=32)]
Value = Annotated[float, Meta(ge=-1e9, le=1e9)]  # refuses NaN and the infinities as well
Time = Annotated[float, Meta(ge=0.0, le=1e12)]
Word = Annotated[str, Meta(max_length=64)]
Signature = Annotated[bytes, Meta(min_length=65, max_length=65)]


class Command(msgspec.Struct, frozen=True):
    """Where an actuator is to be, in its own unit, and up to which moment (Unix seconds of the clock) at most."""

    id: Id
    actuator: Name
    value: Value
    until: Time


Commands = Annotated[list[Command], Meta(max_length=MOST)]


class Did(StrEnum):
    """What became of a command."""

    MOVED = "moved"
    REFUSED = "refused"
    FAILED = "failed"
    LAPSED = "lapsed"


class Effect(msgspec.Struct, frozen=True):
    """What a device did for a command, and what its own readings say of it.

    `value` was read back from the actuator, `since` is when (data time). `before` is what `channel` read then, `after`
    what it read once the actuator's time to settle was over; None if the command ended sooner, or nothing measures it.
    A command that LAPSED ended before anything had moved.
    """

    command: Id
    did: Did
    reason: Word = ""
    value: Value | None = None
    since: Time = 0.0
    channel: Annotated[str, Meta(max_length=32)] = ""
    before: Value | None = None
    after: Value | None = None

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self, order="deterministic"))

    def signed(self, key: PrivateKey) -> SignedEffect:
        """Put a device's name under it."""
        return SignedEffect(self, key.sign(self.digest))


class SignedEffect(msgspec.Struct, frozen=True):
    """Such a word with the signature of the device's messaging key."""

    effect: Effect
    signature: Signature
