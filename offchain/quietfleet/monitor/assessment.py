"""The whole watch in one call: a site's recent readings against the model's baseline → a verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from types import MappingProxyType
from typing import Final

from quietfleet.monitor.alone import alone
from quietfleet.monitor.drift import Baseline
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Finding, FindingKind, Row, inspect, site_outages
from quietfleet.monitor.peers import PeerReference
from quietfleet.monitor.verdict import DeviceEvidence, FleetVerdict, judge

WINDOW_SECONDS: Final = 7 * 86_400.0
"""Shorter windows of hourly weather are mostly noise: 70 % would alarm every other week."""
PATIENCE_SECONDS: Final = 3 * 86_400.0
"""How far a device's newest reading may be from its site's median before the others stop waiting for it."""
_FILLED: Final = 0.9
_OTHERS: Final = 2  # devices, to excuse another


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
    own: bool = False,
    baselines: Mapping[str, Baseline] = MappingProxyType({}),
) -> FleetVerdict:
    """Judge the devices of one site by their readings in `[now - window, now)`, one every `period` seconds.

    Raw drift is from `baseline`, or from a device's own in `baselines`: devices may stand where levels differ. A
    channel counts as drifted only from a window at least nine tenths full; faults count at once. With `own`, devices
    without peers are judged by their own past (`monitor.alone`), of which `readings` then has six weeks.
    """
    recent = {device: [row for row in rows if row[0] >= now - window] for device, rows in readings.items()}
    outages = site_outages(recent, since=now - window, until=now, period=period)
    findings = {
        device: inspect(rows, now=now, rules=rules, period=period, outages=outages) for device, rows in recent.items()
    }
    findings = {device: _excused(device, found, recent, rules) for device, found in findings.items()}
    sound = {device: rows for device, rows in recent.items() if not findings[device]}
    company = peers.drift(sound, now=now, period=period) if peers else {}
    evidence = {
        device: DeviceEvidence(
            raw=_raw(rows, baselines.get(device, baseline), _FILLED * window / period),
            peer=company.get(device),
            own=alone(readings[device], now=now, rules=rules, period=period) if own and device not in company else None,
            findings=findings[device],
        )
        for device, rows in recent.items()
    }
    return judge(evidence, verified=verified)


def _excused(
    device: str, found: Sequence[Finding], recent: Mapping[str, Sequence[Row]], rules: Mapping[str, ChannelRules]
) -> tuple[Finding, ...]:
    """Leave out that a channel rests where most of the others rest as well: nobody is stuck in a drought."""
    return tuple(
        one for one in found if one.kind is not FindingKind.STUCK or not _shared_rest(device, one, recent, rules)
    )


def _shared_rest(
    device: str, one: Finding, recent: Mapping[str, Sequence[Row]], rules: Mapping[str, ChannelRules]
) -> bool:
    rests, told = set(rules[one.channel].rests), []
    for other, rows in recent.items():
        then = [values[one.channel] for at, values in rows if one.since <= at <= one.until and one.channel in values]
        if then and other != device:
            told.append(sum(value in rests for value in then) >= _FILLED * len(then))
        elif other == device and not set(then) <= rests:
            return False
    return len(told) >= _OTHERS and sum(told) > len(told) / 2


def align(readings: Mapping[str, Sequence[Row]], *, period: float = 3600.0) -> tuple[dict[str, list[Row]], float]:
    """Cut a site's readings at the moment up to which all have delivered; return them and that moment, to assess at.

    Messages of one site arrive one after another; judged at the newest of them, the rest would look late. A device
    further than `PATIENCE_SECONDS` from the median is waited for no longer, nor cut: its gap or its clock is a finding.
    """
    ends = {device: rows[-1][0] + period for device, rows in readings.items() if rows}
    if not ends:
        return {}, 0.0
    middle = median(ends.values())
    near = {device: end for device, end in ends.items() if abs(end - middle) <= PATIENCE_SECONDS}
    now = min(near.values(), default=middle)
    cut = {device: [row for row in rows if device not in near or row[0] < now] for device, rows in readings.items()}
    return cut, now


def _raw(rows: Sequence[Row], baseline: Baseline, needed: float) -> dict[str, float]:
    """Raw drift in percent of the channels that delivered enough."""
    columns = {name: [values[name] for _, values in rows if name in values] for name in baseline.features}
    return dict(baseline.drift({name: column for name, column in columns.items() if len(column) >= max(needed, 1)}))
