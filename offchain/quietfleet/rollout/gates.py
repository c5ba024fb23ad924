"""When the next wave may open: the conditions a release is proposed under, and what reports make of them.

Theory of operation. The gate's hash stands in the release's terms on chain, so that neither gateway nor device can hold
a release to other conditions than those that were approved. What speaks against a release is looked at first; a device
not heard of in time speaks against it; and that everybody has answered never means that all is well.
"""

from __future__ import annotations

import enum
import statistics
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.crypto import keccak256

MEANINGFUL: Final = 12  # comparisons or samples below which a device's figures say nothing

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[int, Meta(ge=0, lt=2**24)]
Number = Annotated[int, Meta(ge=0, le=100_000)]


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a release has to meet; shares are of the devices in open waves.

    At least `success` of them have committed it, at most `failure` failed or were not heard of within `deadline`
    seconds, at least `reports` were heard, and `soak` seconds have passed. A device first lets the new model forecast
    beside its own `shadow` times (0: not at all), and turns it down when its RMSE is more than `margin` above; then
    it tries it for `trial` seconds, and goes back when the share of lost samples rises by more than `lost`.
    """

    success: Share = 0.8
    failure: Share = 0.2
    reports: Annotated[int, Meta(ge=1, le=100_000)] = 1
    soak: Seconds = 0
    deadline: Annotated[int, Meta(ge=1, lt=2**24)] = 60
    shadow: Number = 0
    margin: Share = 0.05
    trial: Seconds = 0
    lost: Share = 0.1

    @property
    def canonical(self) -> bytes:
        """The one way to write it."""
        return msgspec.json.encode(self, order="deterministic")

    @property
    def hash(self) -> bytes:
        """What the terms name."""
        return keccak256(self.canonical)


class Counts(msgspec.Struct, frozen=True):
    """How a release stands in its open waves.

    `ratios` are the new model's RMSE over the old one's, `rises` the rises of the share of lost samples, one for each
    device that had enough to compare. `planned` counts also those that were switched off since.
    """

    total: int
    succeeded: int
    failed: int
    ratios: tuple[float, ...] = ()
    rises: tuple[float, ...] = ()
    planned: int = 0

    @property
    def heard(self) -> int:
        """Devices that said how it went."""
        return self.succeeded + self.failed

    @property
    def silent(self) -> int:
        """Devices that did not."""
        return max(0, self.total - self.heard)


class Verdict(enum.StrEnum):
    """What a gate says."""

    WAIT = "wait"
    OPEN = "open"
    PAUSE = "pause"
    ROLL_BACK = "roll back"


Judgement = tuple[Verdict, str]


def judge(gate: Gate, counts: Counts, *, now: float, since: float) -> Judgement:
    """Say what is to be done with a wave opened or resumed at `since`, and why in a word; times in Unix seconds.

    In a fleet without devices a release waits for the first one. Medians of the devices' figures count, so that less
    than half of them can neither stop a release nor save it by making figures up.
    """
    late = now >= since + gate.deadline
    if counts.total == 0:
        return (Verdict.PAUSE if late and counts.planned else Verdict.WAIT), "nobody"
    return _against(gate, counts, late=late) or _waiting(gate, counts, now >= since + gate.soak, late=late)


def _against(gate: Gate, counts: Counts, *, late: bool) -> Judgement | None:
    """Look for what speaks against it."""
    if _exceeds(counts.failed, gate.failure, counts.total):
        return Verdict.ROLL_BACK, "failures"
    if counts.ratios and statistics.median(counts.ratios) > 1 + gate.margin:
        return Verdict.ROLL_BACK, "shadow"
    if counts.rises and statistics.median(counts.rises) > gate.lost:
        return Verdict.ROLL_BACK, "lost samples"
    if late and _exceeds(counts.failed + counts.silent, gate.failure, counts.total):
        return Verdict.PAUSE, "silent"
    return None


def _waiting(gate: Gate, counts: Counts, soaked: bool, *, late: bool) -> Judgement:
    """Look for what is still missing."""
    if not soaked:
        return Verdict.WAIT, "soak"
    settled = late or counts.silent == 0
    if counts.heard < min(gate.reports, counts.total):
        return (Verdict.PAUSE if late else Verdict.WAIT), "reports"
    if counts.succeeded == 0 or counts.succeeded < gate.success * counts.total:
        return (Verdict.PAUSE if settled else Verdict.WAIT), "success"
    return Verdict.OPEN, "met"


def _exceeds(number: int, share: float, total: int) -> bool:
    return number > share * total + 1e-9
