"""Who shares a drift decides what it means (architecture decision: the paper's "verify the quality of the input").

Faulty data, or one device leaving its peers → QUARANTINE that device, or its fault is trained in.
Drift that co-located peers share → the world changed → RETRAIN, however far it went: the peers are the verification.
Drift of a device nobody can vouch for → VERIFY first; once its owner confirmed it, RETRAIN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from quietfleet.monitor.drift import Band, band
from quietfleet.monitor.integrity import Finding
from quietfleet.monitor.peers import PeerDrift

_WITNESSES: Final = 2
_QUORUM: Final = 2 / 3


class Verdict(StrEnum):
    """What to do about a device's data."""

    FINE = "fine"
    RETRAIN = "retrain"
    QUARANTINE = "quarantine"
    VERIFY = "verify"


@dataclass(frozen=True, slots=True)
class DeviceEvidence:
    """What is known of one device: raw drift in percent per channel, drift from its peers, faults.

    `peer` is None when fewer than three co-located devices can be compared; `own` is then what its own past says,
    where it was asked.
    """

    raw: Mapping[str, float] = field(default_factory=dict)
    peer: Mapping[str, PeerDrift] | None = None
    findings: tuple[Finding, ...] = ()
    own: Mapping[str, PeerDrift] | None = None


@dataclass(frozen=True, slots=True)
class DeviceVerdict:
    """The verdict on one device, the channels behind it, its largest raw drift in percent, and the faults found."""

    verdict: Verdict
    channels: tuple[str, ...]
    drift_pct: float
    reason: str
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class FleetVerdict:
    """The verdict on all devices of a site; `shared` are the channels in which the world itself changed."""

    devices: Mapping[str, DeviceVerdict]
    shared: tuple[str, ...]

    @property
    def retrain(self) -> bool:
        """Whether a new model should be asked for."""
        return any(device.verdict is Verdict.RETRAIN for device in self.devices.values())

    @property
    def confirmed(self) -> tuple[str, ...]:
        """The channels in which devices drifted of which a person said that they are right."""
        sure = [device for device in self.devices.values() if device.verdict is Verdict.RETRAIN]
        return tuple(dict.fromkeys(channel for device in sure for channel in device.channels))

    @property
    def quarantined(self) -> frozenset[str]:
        """Devices whose data must not be learned from."""
        return frozenset(name for name, device in self.devices.items() if device.verdict is Verdict.QUARANTINE)


def judge(evidence: Mapping[str, DeviceEvidence], *, verified: frozenset[str] = frozenset()) -> FleetVerdict:
    """Judge co-located devices together; `verified` are lone devices whose owners confirmed their readings."""
    sound = {name: device for name, device in evidence.items() if not _faulty(device)}
    shared = _shared(sound)
    verdicts = {
        name: _judge_sound(device, shared, verified=name in verified) if name in sound else _quarantine(device)
        for name, device in evidence.items()
    }
    return FleetVerdict(verdicts, shared)


def _judge_sound(device: DeviceEvidence, shared: tuple[str, ...], *, verified: bool) -> DeviceVerdict:
    drifted = _drifted(device)
    common = tuple(channel for channel in drifted if channel in shared)
    if common:
        return _verdict(device, Verdict.RETRAIN, common, "peers share the drift")
    if device.peer is None and device.own is not None:
        drifted = tuple(channel for channel, drift in device.own.items() if drift.exceeded)
    if not drifted:
        return _verdict(device, Verdict.FINE, (), "no drift")
    if _vouched(device, drifted):
        return _verdict(
            device, Verdict.FINE, drifted, "drift not shared, but within the device's distance to its peers"
        )
    if verified:
        return _verdict(device, Verdict.RETRAIN, drifted, "drift of a verified device")
    return _verdict(device, Verdict.VERIFY, drifted, "no peer confirms the drift")


def _quarantine(device: DeviceEvidence) -> DeviceVerdict:
    if device.findings:
        channels = tuple(dict.fromkeys(finding.channel for finding in device.findings if finding.channel))
        kinds = ", ".join(dict.fromkeys(finding.kind for finding in device.findings))
        return _verdict(device, Verdict.QUARANTINE, channels, f"faulty data: {kinds}")
    return _verdict(device, Verdict.QUARANTINE, _apart(device), "the device left its peers: recalibrate it")


def _verdict(device: DeviceEvidence, verdict: Verdict, channels: tuple[str, ...], reason: str) -> DeviceVerdict:
    return DeviceVerdict(verdict, channels, max(device.raw.values(), default=0.0), reason, device.findings)


def _faulty(device: DeviceEvidence) -> bool:
    return bool(device.findings) or bool(_apart(device))


def _apart(device: DeviceEvidence) -> tuple[str, ...]:
    return tuple(channel for channel, drift in (device.peer or {}).items() if drift.exceeded)


def _vouched(device: DeviceEvidence, drifted: tuple[str, ...]) -> bool:
    """Whether peers were compared in every drifted channel, and none went so far that peers alone cannot excuse it."""
    compared = device.peer or {}
    return all(channel in compared and band(device.raw[channel]) is Band.DRIFTED for channel in drifted)


def _drifted(device: DeviceEvidence) -> tuple[str, ...]:
    return tuple(channel for channel, percent in device.raw.items() if band(percent) is not Band.FINE)


def _shared(sound: Mapping[str, DeviceEvidence]) -> tuple[str, ...]:
    channels = dict.fromkeys(channel for device in sound.values() for channel in device.raw)
    return tuple(channel for channel in channels if _is_shared(channel, sound))


def _is_shared(channel: str, sound: Mapping[str, DeviceEvidence]) -> bool:
    measured = [device.raw[channel] for device in sound.values() if channel in device.raw]
    drifted = sum(band(percent) is not Band.FINE for percent in measured)
    return drifted >= _WITNESSES and drifted >= _QUORUM * len(measured)
