"""What workers say to each other inside sessions, beside the dispatch messages."""

from __future__ import annotations

import msgspec

from quietfleet import dispatch
from quietfleet.session import Codec

DEAL = "deal:"  # a session between introduced workers has this purpose, followed by the deal's id

Rows = list[tuple[float, dict[str, float]]]  # (data time in Unix seconds, value by field; absent where missing)


class Readings(msgspec.Struct, frozen=True, tag="readings/1"):
    """A sensor's readings since the last ones that were answered; `first` numbers the oldest of them."""

    first: int
    rows: Rows


class Recommendation(msgspec.Struct, frozen=True, tag="recommendation/1"):
    """A processor's answer: how many rows it took, and what it advises.

    `forecast` is °C at `horizon` hours after the last reading, `confidence` the probability that it is within 2 °C,
    `release` the sequence of the model that said so (0: no model yet).
    """

    accepted: int
    advice: str
    forecast: float | None = None
    confidence: float | None = None
    horizon: float = 0.0
    release: int = 0


class Recalibrate(msgspec.Struct, frozen=True, tag="recalibrate/1"):
    """A processor asks a sensor to check itself: its readings are set aside until they look right again."""

    reason: str


class Upload(msgspec.Struct, frozen=True, tag="upload/1"):
    """Cleaned readings of one device under its pseudonym, for the gateway's 30-day store."""

    device: str
    site: str
    rows: Rows


class Stored(msgspec.Struct, frozen=True, tag="stored/1"):
    """The gateway has taken so many rows."""

    rows: int


class DriftReport(msgspec.Struct, frozen=True, tag="drift-report/1"):
    """A processor saw its devices drift from the release's baseline and asks what it means.

    `drift` is percent by device pseudonym and feature.
    """

    release: int
    drift: dict[str, dict[str, float]]


class DriftVerdict(msgspec.Struct, frozen=True, tag="drift-verdict/1"):
    """What the gateway makes of it, seeing every processor's devices: one verdict for the fleet, one a device."""

    fleet: str
    devices: dict[str, str]


class FetchRelease(msgspec.Struct, frozen=True, tag="fetch-release/1"):
    """A processor asks for the release the chain names."""

    channel: str
    sequence: int


class ReleaseBundle(msgspec.Struct, frozen=True, tag="release-bundle/1"):
    """A release in full: its manifest (canonical JSON) and its artefact (ONNX)."""

    sequence: int
    manifest: bytes
    artefact: bytes


class NoSuchRelease(msgspec.Struct, frozen=True, tag="no-such-release/1"):
    """The gateway does not have it."""

    sequence: int


class EpochKeyRequest(msgspec.Struct, frozen=True, tag="epoch-key-request/1"):
    """A registered, active worker asks the oracle for a configuration version's epoch key."""

    version: int


class EpochKeyGrant(msgspec.Struct, frozen=True, tag="epoch-key-grant/1"):
    """The oracle's answer; the key must match the commitment on chain."""

    version: int
    key: bytes


def make_codec() -> Codec:
    """The codec every worker speaks."""
    return Codec(
        Readings,
        Recommendation,
        Recalibrate,
        Upload,
        Stored,
        DriftReport,
        DriftVerdict,
        FetchRelease,
        ReleaseBundle,
        NoSuchRelease,
        EpochKeyRequest,
        EpochKeyGrant,
        *dispatch.Message.__args__,
    )
