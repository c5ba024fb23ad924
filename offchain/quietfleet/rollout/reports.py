"""How a release went on a device, in its own words and under its own signature."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.chain.waves import merkle_root
from quietfleet.crypto import PrivateKey, keccak256, recover
from quietfleet.errors import CryptoError

_PURPOSE: Final = b"quietfleet release outcome 1\0"
_LEAF: Final = b"\x00"

Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Time = Annotated[int, Meta(ge=0, lt=2**53)]
Figure = Annotated[float, Meta(ge=-1e6, le=1e6)]


class Outcome(enum.StrEnum):
    """Where a release has come to on a device."""

    COMMITTED = "committed"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled back"


class Reason(enum.StrEnum):
    """Why it was turned down or given back; the words are counted and reported."""

    NONE = ""
    STALE_CHAIN = "stale chain"
    CLOSED = "not open"
    OLD_SEQUENCE = "old sequence"
    SKIPPED = "skipped sequence"
    BELOW_FLOOR = "below floor"
    EXPIRED = "expired"
    REVOKED = "revoked"
    WRONG_TERMS = "wrong terms"
    WRONG_GATE = "wrong gate"
    WRONG_PROOF = "wrong proof"
    NOT_OUR_WAVE = "not our wave"
    WRONG_BYTES = "wrong bytes"
    MODEL_OVER = "model over"
    UNUSABLE = "unusable"
    SHADOW = "shadow"
    LOST_SAMPLES = "lost samples"
    BOOTS = "boots"
    CRASH = "crash"


PASSING: Final = frozenset(
    {Reason.STALE_CHAIN, Reason.CLOSED, Reason.NOT_OUR_WAVE, Reason.OLD_SEQUENCE, Reason.SKIPPED}
)
"""Reasons that say nothing against a release: the chain had moved on, or it was not what came."""


class OutcomeReport(msgspec.Struct, frozen=True):
    """What a device says of a release.

    `pseudonym` is what it is called in this release alone, 0 when it has no place yet. `ratio` is the new model's RMSE
    over the old one's in `compared` comparisons, `rise` by how much the share of lost samples rose in `watched` ones;
    `at` is Unix seconds.
    """

    channel: Bytes32
    sequence: Count
    pseudonym: Bytes32
    outcome: Outcome
    reason: Reason = Reason.NONE
    compared: Count = 0
    ratio: Figure = 0.0
    watched: Count = 0
    rise: Figure = 0.0
    at: Time = 0

    @property
    def digest(self) -> bytes:
        """What is signed."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self, order="deterministic"))

    def signed(self, key: PrivateKey) -> SignedReport:
        """Put a device's name under it."""
        return SignedReport(self, key.sign(self.digest))


class SignedReport(msgspec.Struct, frozen=True):
    """A report with the signature of the device's messaging key."""

    report: OutcomeReport
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]

    def by(self, key: str) -> bool:
        """Tell whether the key of this address signed it."""
        try:
            return recover(self.report.digest, self.signature).id == key
        except CryptoError:
            return False

    @property
    def leaf(self) -> bytes:
        """What stands for it in the report's tree; nobody guesses it without the signature."""
        return keccak256(_LEAF + self.report.digest + self.signature)


def report_root(reports: Iterable[SignedReport]) -> bytes:
    """Return the root over reports in the order of their leaves, zero over none."""
    leaves = sorted(report.leaf for report in reports)
    return merkle_root(leaves) if leaves else bytes(32)
