"""What a sensor says when it was asked to recalibrate, and how far anybody may correct it.

A correction is an affine map: what a channel reads becomes `gain` times that, plus `offset`. Corrections are put one
after the other, and every limit holds for all of them together, so that a chain of small ones walks nowhere. Nothing
here needs more than the standard library and msgspec: the smallest sensor builds have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.settings import CalibrationLimits

_PURPOSE: Final = b"quietfleet recalibration 1\0"
_ATTESTED: Final = b"quietfleet recalibration attested 1\0"
_ROUNDING: Final = 1e-9

Name = Annotated[str, Meta(min_length=1, max_length=32)]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]
Offset = Annotated[float, Meta(ge=-1e6, le=1e6)]
Gain = Annotated[float, Meta(gt=0.0, le=1e3)]
Time = Annotated[float, Meta(ge=0.0, le=1e12)]
Word = Annotated[str, Meta(max_length=32)]
Evidence = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=65, max_length=65)]


class Affine(NamedTuple):
    """What a reading becomes: `gain` · reading + `offset`, the latter in the channel's unit."""

    offset: Offset = 0.0
    gain: Gain = 1.0

    def __call__(self, reading: float) -> float:
        """Correct one reading."""
        return self.gain * reading + self.offset

    def then(self, further: Affine) -> Affine:
        """Return this correction and a further one as one."""
        return Affine(further.gain * self.offset + further.offset, further.gain * self.gain)


NONE: Final = Affine()
InForce = Annotated[dict[Name, Affine], Meta(max_length=16)]


class Limits(CalibrationLimits, frozen=True):
    """How far a channel may be corrected in all, as the settings say it."""

    @property
    def agreement(self) -> float:
        """How far apart peers may be."""
        return self.agree or self.offset / 4

    @property
    def deadband(self) -> float:
        """What is too small to be corrected."""
        return self.least or self.offset / 10

    def allow(self, correction: Affine) -> bool:
        """Whether a channel may be corrected so, everything before it included."""
        shift = abs(correction(self.around) - self.around)
        return shift <= self.offset + _ROUNDING and abs(correction.gain - 1.0) <= self.gain + _ROUNDING


DEFAULT_LIMITS: Final[Mapping[str, Limits]] = {
    "temp": Limits(8.0, 0.1, around=15.0),
    "dewp": Limits(8.0, 0.1, around=8.0),
    "humid": Limits(20.0, 0.2, around=60.0),
    "wind_speed": Limits(2.0, 0.2, around=5.0),
    "pressure": Limits(12.0, 0.02, around=1013.0),
}
"""°C, °C, %, m/s, hPa. A channel without limits is not corrected at all."""


def limits_of(settings: Mapping[str, CalibrationLimits]) -> dict[str, Limits]:
    """Return the default limits with an operator's in their place."""
    return {**DEFAULT_LIMITS, **{name: Limits(*msgspec.structs.astuple(one)) for name, one in settings.items()}}


class Did(StrEnum):
    """What became of being asked."""

    CORRECTED = "corrected"
    CHECKED = "checked"
    REFUSED = "refused"


class Recalibration(msgspec.Struct, frozen=True):
    """What a sensor did when it was asked.

    `nonce` is the question's. `in_force` is every correction that its readings carry which were measured after `since`
    (data time); `refused` says by channel why it left what was proposed.
    """

    nonce: Nonce
    did: Did
    since: Time
    in_force: InForce = {}
    refused: Annotated[dict[Name, Word], Meta(max_length=16)] = {}

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self, order="deterministic"))

    def signed(self, key: PrivateKey) -> SignedRecalibration:
        """Put a sensor's name under it."""
        return SignedRecalibration(self, key.sign(self.digest))


class SignedRecalibration(msgspec.Struct, frozen=True):
    """Such a result with the signature of the sensor's messaging key."""

    result: Recalibration
    signature: Signature


class Attested(msgspec.Struct, frozen=True):
    """A processor's word for a sensor's signed result, under the name that sensor has above it.

    `evidence` is the Keccak-256 of the sensor's signature: it names nobody, and binds the processor to what it keeps.
    """

    device: Name
    did: Did
    since: Time
    in_force: InForce
    evidence: Evidence

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_ATTESTED + msgspec.msgpack.encode(self, order="deterministic"))

    def signed(self, key: PrivateKey) -> SignedAttested:
        """Put a processor's name under it."""
        return SignedAttested(self, key.sign(self.digest))


class SignedAttested(msgspec.Struct, frozen=True):
    """Such a word with the signature of the processor's messaging key."""

    attested: Attested
    signature: Signature
