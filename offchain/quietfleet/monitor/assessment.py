"""The whole watch in one call: a site's recent readings against the model's baseline → a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from quietfleet.monitor.drift import Baseline
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row, inspect, site_outages
from quietfleet.monitor.peers import PeerReference
from quietfleet.monitor.verdict import DeviceEvidence, FleetVerdict, judge

WINDOW_SECONDS: Final = 7 * 86_400.0
"""Shorter windows of hourly weather are mostly noise: 70 % would alarm every other week."""
_FILLED: Final = 0.9


def assess(
    readings: Mapping[str, Sequence[Row]],
    baseline: Baseline,
    *,
    now: float,
    peers: PeerReference | None = None,
    rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
    period: float = 3600.0,
    window: float = WINDOW_SECONDS,
    verified: frozenset[str] = frozenset(),
) -> FleetVerdict:
    """Judge the devices of one site by their readings in `[now - window, now)`, one every `period` seconds.

    A channel counts as drifted only from a window at least nine tenths full; faults count at once.
    """
    recent = {device: [row for row in rows if row[0] >= now - window] for device, rows in readings.items()}
    outages = site_outages(recent, since=now - window, until=now, period=period)
    findings = {
        device: inspect(rows, now=now, rules=rules, period=period, outages=outages) for device, rows in recent.items()
    }
    sound = {device: rows for device, rows in recent.items() if not findings[device]}
    company = peers.drift(sound, now=now, period=period) if peers else {}
    evidence = {
        device: DeviceEvidence(
            raw=baseline.drift(_full_channels(rows, baseline, _FILLED * window / period)),
            peer=company.get(device),
            findings=findings[device],
        )
        for device, rows in recent.items()
    }
    return judge(evidence, verified=verified)


def _full_channels(rows: Sequence[Row], baseline: Baseline, needed: float) -> dict[str, list[float]]:
    columns = {name: [values[name] for _, values in rows if name in values] for name in baseline.features}
    return {name: column for name, column in columns.items() if len(column) >= max(needed, 1)}
