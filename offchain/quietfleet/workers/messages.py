"""What workers say to each other inside sessions, beside the dispatch messages."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from quietfleet import dispatch
from quietfleet.actuators.commands import Commands, Id, SignedEffect
from quietfleet.errors import MessageRefused
from quietfleet.monitor.recalibration import InForce, SignedAttested, SignedRecalibration
from quietfleet.monitor.telling import Nonce, SignedTold
from quietfleet.rollout import SignedReport, Ticket
from quietfleet.rollout.heads import SignedHead
from quietfleet.session import Codec, Finite

DEAL = "deal:"  # a session between introduced workers has this purpose, followed by the name of its tie

CLOCK_SKEW = 3600.0  # seconds of data time

MANIFEST = 32_768  # bytes, at most
ARTEFACT = 65_536  # in a message, or in pieces; what is larger is fetched from a shelf
SHELVED = 8 << 20
LARGEST_RELEASE = MANIFEST + ARTEFACT + 2048  # its ticket and the names of its parts

Name = Annotated[str, Meta(min_length=1, max_length=32)]
Fields = Annotated[dict[Name, Finite], Meta(max_length=16)]
Rows = Annotated[list[tuple[Finite, Fields]], Meta(max_length=240)]
"""Readings as (data time in Unix seconds, value by field); a missing value is absent. 240 full rows fit a message."""

Percent = Annotated[float, Meta(ge=0.0, le=1e6)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Sentence = Annotated[str, Meta(max_length=256)]
Count = Annotated[int, Meta(ge=0, lt=2**31)]
Bytes32 = Annotated[bytes, Meta(min_length=32, max_length=32)]


class Readings(msgspec.Struct, frozen=True, tag="readings/1"):
    """A sensor's readings since the last ones that were answered; `first` numbers the oldest of them."""

    first: Count
    rows: Rows


class Recommendation(msgspec.Struct, frozen=True, tag="recommendation/1"):
    """A processor's answer: how many rows it took, and what it advises.

    `forecast` is °C at `horizon` hours after the last reading, `confidence` the probability that it is within 2 °C,
    `release` the sequence of the model that said so (0: no model yet). `fallback` names what stood in for readings that
    were missing or not to be trusted. `commands` are for the sensor's actuators.
    """

    accepted: Count
    advice: Sentence
    forecast: Finite | None = None
    confidence: Share | None = None
    horizon: Finite = 0.0
    release: Count = 0
    fallback: Sentence = ""
    commands: Commands = []


class CommandEffect(msgspec.Struct, frozen=True, tag="command-effect/1"):
    """A sensor tells what came of a command, under its own signature; said again until it was heard."""

    signed: SignedEffect


class EffectHeard(msgspec.Struct, frozen=True, tag="effect-heard/1"):
    """The processor has heard what came of that command."""

    command: Id


class Telemetry(msgspec.Struct, frozen=True, tag="telemetry/1"):
    """A sensor tells its processor how it does itself: (Unix seconds, figure by channel of `monitor.telemetry`)."""

    samples: Annotated[list[tuple[Finite, Annotated[dict[Name, Finite], Meta(max_length=24)]]], Meta(max_length=16)]


MOST_SAMPLES = 16  # of one message


class Recalibrate(msgspec.Struct, frozen=True, tag="recalibrate/1"):
    """A processor asks a sensor to make its readings right, or to check itself where it proposes nothing.

    `proposed` corrects readings as they come now: what the sensor corrects already is not in it. The nonce is for this
    answer alone; without one none is expected.
    """

    reason: Sentence
    nonce: Annotated[bytes, Meta(max_length=16)] = b""
    proposed: InForce = {}


class Recalibrated(msgspec.Struct, frozen=True, tag="recalibrated/1"):
    """What the sensor did, under its own signature."""

    signed: SignedRecalibration


class RecalibrationAttested(msgspec.Struct, frozen=True, tag="recalibration-attested/1"):
    """A processor tells the gateway that a device was recalibrated: its readings of before are no measure any more."""

    signed: SignedAttested


class AttestationHeard(msgspec.Struct, frozen=True, tag="attestation-heard/1"):
    """The gateway has heard what was attested with this evidence."""

    evidence: Bytes32


class Upload(msgspec.Struct, frozen=True, tag="upload/1"):
    """Cleaned readings of one device under its pseudonym, for the gateway's 30-day store."""

    device: Name
    site: Annotated[str, Meta(max_length=32)]
    rows: Rows


class Stored(msgspec.Struct, frozen=True, tag="stored/1"):
    """The gateway has taken so many rows."""

    rows: Count


class DriftReport(msgspec.Struct, frozen=True, tag="drift-report/1"):
    """A processor saw its devices drift from the release's baseline and asks what it means.

    `drift` is percent by device pseudonym and feature; of those `verified` a person has confirmed that it is right.
    """

    release: Count
    drift: Annotated[dict[Name, dict[Name, Percent]], Meta(max_length=64)]
    verified: Annotated[list[Name], Meta(max_length=64)] = []


class DriftVerdict(msgspec.Struct, frozen=True, tag="drift-verdict/1"):
    """What the gateway makes of it, seeing every processor's devices: one verdict for the fleet, one a device."""

    fleet: Name
    devices: Annotated[dict[Name, Name], Meta(max_length=64)]


class SiteVerdict(msgspec.Struct, frozen=True, tag="site-verdict/1"):
    """What the gateway makes of a processor's devices, beside all others of their place, up to `at` (data time).

    By pseudonym the channels in which a device left the others; none: it is beside them again.
    """

    at: Finite
    devices: Annotated[dict[Name, Annotated[list[Name], Meta(max_length=16)]], Meta(max_length=64)]


class MonitorRun(msgspec.Struct, frozen=True, tag="monitor-run/1"):
    """The gateway asks a processor how its devices and its model do; the nonce is for this answer alone."""

    nonce: Nonce


class MonitorReport(msgspec.Struct, frozen=True, tag="monitor-report/1"):
    """How they do, under the processor's own signature."""

    signed: SignedTold


class HeadReport(msgspec.Struct, frozen=True, tag="head-report/1"):
    """A processor tells of a head that it made for a device, or let go of, under its own signature."""

    signed: SignedHead


class HeadHeard(msgspec.Struct, frozen=True, tag="head-heard/1"):
    """The gateway has heard what has this digest."""

    digest: Bytes32


class FetchRelease(msgspec.Struct, frozen=True, tag="fetch-release/1"):
    """A processor asks for the release the chain names; with `shelf`, it may be told where its artefact is kept."""

    channel: Name
    sequence: Count
    shelf: bool = False


class ReleaseBundle(msgspec.Struct, frozen=True, tag="release-bundle/1"):
    """A release in full: its manifest (canonical JSON), its artefact (ONNX), and the asker's place in it."""

    sequence: Count
    ticket: Ticket
    manifest: Annotated[bytes, Meta(max_length=MANIFEST)]
    artefact: Annotated[bytes, Meta(max_length=ARTEFACT)]


class ReleaseAt(msgspec.Struct, frozen=True, tag="release-at/1"):
    """A release whose artefact is on a shelf, under this address and sealed under this key."""

    sequence: Count
    ticket: Ticket
    manifest: Annotated[bytes, Meta(max_length=MANIFEST)]
    address: Bytes32
    key: Bytes32


class ReleaseComing(msgspec.Struct, frozen=True, tag="release-coming/1"):
    """A release too large for one message is on its way in pieces, as `release_kind` and `pack_release` say."""

    sequence: Count


class NoSuchRelease(msgspec.Struct, frozen=True, tag="no-such-release/1"):
    """The gateway does not have it, or cannot send it now."""

    sequence: Count


class NotYet(msgspec.Struct, frozen=True, tag="not-yet/1"):
    """The release is not open to the asker's wave."""

    sequence: Count


class ReleaseOutcome(msgspec.Struct, frozen=True, tag="release-outcome/2"):
    """A processor says how a release went there, under its own signature; said again until it was heard."""

    signed: SignedReport


class OutcomeHeard(msgspec.Struct, frozen=True, tag="outcome-heard/1"):
    """The gateway has heard how that release went."""

    sequence: Count


class EpochKeyRequest(msgspec.Struct, frozen=True, tag="epoch-key-request/1"):
    """A registered, active worker asks the oracle for a configuration version's epoch key."""

    version: Count


class EpochKeyGrant(msgspec.Struct, frozen=True, tag="epoch-key-grant/1"):
    """The oracle's answer; the key must match the commitment on chain."""

    version: Count
    key: Bytes32


class PrepareEpoch(msgspec.Struct, frozen=True, tag="prepare-epoch/1"):
    """The oracle, about to rotate, asks the gateway to draw its keys of the next configuration version."""

    version: Count


class EpochPrepared(msgspec.Struct, frozen=True, tag="epoch-prepared/1"):
    """The gateway has; the configuration is to name this digest of its card."""

    version: Count
    digest: Bytes32


_RELEASE = msgspec.msgpack.Decoder(ReleaseBundle)

ANSWERS = (
    Recommendation,
    Stored,
    DriftVerdict,
    ReleaseBundle,
    ReleaseAt,
    ReleaseComing,
    NoSuchRelease,
    NotYet,
    OutcomeHeard,
    MonitorReport,
    Recalibrated,
    AttestationHeard,
    HeadHeard,
    EffectHeard,
    EpochKeyGrant,
)


def make_codec() -> Codec:
    """The codec every worker speaks."""
    asked = (Readings, Recalibrate, Upload, DriftReport, FetchRelease, ReleaseOutcome, EpochKeyRequest)
    more = (MonitorRun, SiteVerdict, RecalibrationAttested, HeadReport, CommandEffect, Telemetry)
    return Codec(*asked, *more, PrepareEpoch, EpochPrepared, *dispatch.Message.__args__, answers=ANSWERS)


def release_kind(channel: str, sequence: int) -> str:
    """Return what a release in pieces is announced as."""
    return f"release/1:{channel}:{sequence}"


def pack_release(bundle: ReleaseBundle) -> bytes:
    """Return a release as one payload."""
    return msgspec.msgpack.encode(bundle)


def unpack_release(data: bytes) -> ReleaseBundle:
    """Take such a payload apart; raises `MessageRefused`."""
    try:
        return _RELEASE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise MessageRefused(type(error).__name__) from error


def timely(rows: Rows, now: float, retention: float) -> Rows:
    """Return the rows that can be of this time: no older than the retention (s), no newer than a clock may be off.

    Without it, one device dating a reading years ahead would move everybody's windows.
    """
    return [(at, fields) for at, fields in rows if now - retention <= at <= now + CLOCK_SKEW]
