"""What a processor says of its devices and its model when the gateway asks, under its own signature."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.crypto import PrivateKey, keccak256

MOST_TOLD: Final = 64  # devices of one report
_PURPOSE: Final = b"quietfleet monitor report 1\0"

Name = Annotated[str, Meta(min_length=1, max_length=32)]
Percent = Annotated[float, Meta(ge=0.0, le=1e6)]
Error = Annotated[float, Meta(ge=0.0, le=1e6)]
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]
Drift = Annotated[dict[Name, Percent], Meta(max_length=16)]


class Told(msgspec.Struct, frozen=True):
    """How a processor's devices and model did of late.

    `nonce` is the request's. `drift` is percent by device (the processor's own pseudonyms) and feature. Over the last
    week `compared` forecasts were held against what came, of `judged` devices: `rmse` is the model's error and
    `persistence_rmse` that of "as it is now", in the target's unit; 0 of 0 when there is nothing to compare.
    `faults` is the number of devices by kind of fault in their data.

    With an `epsilon` all of it has noise (`monitor.privacy`), is of the devices as a group, and no drift is told:
    `epsilon_left` is what may still be told within the week. Once it is `spent` nothing is told.
    """

    nonce: Nonce
    release: Count
    drift: Annotated[dict[Name, Drift], Meta(max_length=MOST_TOLD)]
    judged: Count = 0
    compared: Count = 0
    rmse: Error = 0.0
    persistence_rmse: Error = 0.0
    faults: Drift = {}
    epsilon: Error = 0.0
    epsilon_left: Error = 0.0
    spent: bool = False

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self, order="deterministic"))

    def signed(self, key: PrivateKey) -> SignedTold:
        """Put a processor's name under it."""
        return SignedTold(self, key.sign(self.digest))


class SignedTold(msgspec.Struct, frozen=True):
    """Such a report with the signature of the processor's messaging key."""

    told: Told
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]
