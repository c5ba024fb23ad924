"""A whole recording watched as if it came in day by day: what would have been said when, about which device.

The parameters are the monitors' own, frozen; nothing is tuned to the recording. Its first weeks are taken for sound and
are the reference. When all devices drift together a model would be trained anew, so the reference is renewed then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from quietfleet.errors import MonitorError
from quietfleet.monitor.alone import NEEDED
from quietfleet.monitor.assessment import WINDOW_SECONDS, assess
from quietfleet.monitor.drift import Baseline
from quietfleet.monitor.integrity import ChannelRules, Finding, FindingKind, Row, inspect, outages, site_outages
from quietfleet.monitor.learned import learn_rules
from quietfleet.monitor.pace import DAY, Pace
from quietfleet.monitor.peers import MINIMUM_DEVICES, PeerReference
from quietfleet.monitor.verdict import DeviceVerdict, FleetVerdict, Verdict

REFERENCE: Final = 30 * DAY
LEAST: Final = 7 * DAY
PAST: Final = 40 * DAY  # what a lone device is judged by
_QUIET: Final = 2 * DAY  # an episode goes on over so much silence about it
_ACCUSED: Final = 3 * DAY
_SHARE: Final = 0.5

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Episode:
    """What was said of a device, or of all (`device` is empty), from one day to another; times in Unix seconds.

    `noticed` is when it was first said, `since` when it began as far as can be told. `percent` is the largest drift.
    """

    device: str
    verdict: Verdict
    channels: tuple[str, ...]
    reason: str
    since: float
    noticed: float
    until: float
    percent: float = 0.0
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Survey:
    """All that was said about a recording; `rules` are what its channels may read, learned from the reference.

    `day` is how many seconds of it are a day to the monitors (`monitor.pace`).
    """

    episodes: tuple[Episode, ...]
    rules: Mapping[str, ChannelRules]
    devices: tuple[str, ...]
    since: float
    reference_until: float
    until: float
    peers: bool
    outages: int
    period: float
    day: float = DAY

    @property
    def drift_by(self) -> str:
        """What drift was judged by, in words."""
        if self.peers:
            return "devices are held against each other"
        if self.day == DAY and self.until - self.since >= NEEDED:
            return "nobody to hold a device against: drift is judged by its own past, which sees less"
        return "nobody to hold a device against, and too short to judge drift by its own past"

    def of(self, device: str) -> list[Episode]:
        """What was said of one device alone."""
        return [episode for episode in self.episodes if episode.device == device]

    def verdict(self, device: str) -> Verdict:
        """The worst that was said of a device."""
        said = {episode.verdict for episode in self.of(device)}
        order = (Verdict.QUARANTINE, Verdict.VERIFY, Verdict.RETRAIN)
        return next((verdict for verdict in order if verdict in said), Verdict.FINE)


def survey(readings: Mapping[str, Sequence[Row]], *, period: float, progress: Progress = lambda _share: None) -> Survey:
    """Watch devices of one site, each one's readings in order of time; `MonitorError` when there are none."""
    spans = [(rows[0][0], rows[-1][0]) for rows in readings.values() if rows]
    if not spans:
        raise MonitorError("there are no readings")
    since, until = min(first for first, _ in spans), max(last for _, last in spans) + period
    pace = Pace.of(since, until)
    stretched, end, step = pace.there(readings), pace.stretch(until), period * pace.times
    sound = since + min(REFERENCE, max(LEAST, (end - since) / 2))
    dark = site_outages(stretched, since=since, until=end, period=step)
    watch = _Watch(stretched, since, sound, end, step, dark)
    said = [*watch.run(progress), *(_down(one) for one in outages(dark, period=step))]
    return Survey(
        episodes=tuple(sorted((_in(pace, one) for one in _merged(said)), key=lambda one: (one.since, one.device))),
        rules=watch.rules,
        devices=tuple(readings),
        since=since,
        reference_until=pace.back(sound),
        until=until,
        peers=watch.peers is not None,
        outages=len(dark),
        period=period,
        day=pace.day,
    )


def _in(pace: Pace, one: Episode) -> Episode:
    """Tell an episode in the recording's own time."""
    since, noticed, until = (pace.back(moment) for moment in (one.since, one.noticed, one.until))
    findings = tuple(pace.found(finding) for finding in one.findings)
    return replace(one, since=since, noticed=noticed, until=until, findings=findings)


class _Watch:
    """The monitors, and the reference they go by at the moment."""

    def __init__(
        self,
        readings: Mapping[str, Sequence[Row]],
        since: float,
        sound: float,
        until: float,
        period: float,
        dark: frozenset[int],
    ) -> None:
        self._readings = {device: list(rows) for device, rows in readings.items()}
        self._times = {device: [time for time, _ in rows] for device, rows in readings.items()}
        self._since, self._sound, self._until, self._period, self._dark = since, sound, until, period, dark
        reference = self._between(since, sound)
        self.rules = learn_rules({device: rows for device, rows in reference.items() if rows}, period=period)
        self._baseline, self._own = self._fit(reference), self._fit_each(reference)
        self.peers = self._company(reference, since, sound)
        self._set_aside: dict[str, float] = {}

    def run(self, progress: Progress) -> Iterator[Episode]:
        yield from self._first_weeks()
        now = self._sound + DAY
        while now < self._until + DAY:
            moment = min(now, self._until)
            yield from self._look(moment)
            progress((moment - self._since) / (self._until - self._since))
            now += DAY

    def _first_weeks(self) -> Iterator[Episode]:
        """Faults that need no reference."""
        for device, rows in self._between(self._since, self._sound).items():
            if rows:
                until = min(self._sound, self._until)
                found = inspect(rows, now=until, rules=self.rules, period=self._period, outages=self._dark)
                yield from (_fault(device, one, self._sound) for one in found)

    def _look(self, now: float) -> Iterator[Episode]:
        recent = {device: rows for device, rows in self._between(now - PAST, now).items() if rows}
        here = self._present(recent, now)
        alone = self.peers is None
        verdict = assess(
            here,
            self._baseline,
            now=now,
            peers=self.peers,
            rules=self.rules,
            period=self._period,
            own=alone,
            baselines=self._own,
        )
        for device, told in verdict.devices.items():
            if told.verdict is Verdict.QUARANTINE:
                self._set_aside.setdefault(device, now - WINDOW_SECONDS)
                yield from _faults(device, told, now)
            else:
                self._set_aside.pop(device, None)
            if told.verdict is Verdict.VERIFY:
                yield _drifted(device, told, now)
        if verdict.retrain and len(verdict.devices) > 1:
            yield self._moved(verdict, now)

    def _present(self, recent: Mapping[str, Sequence[Row]], now: float) -> dict[str, Sequence[Row]]:
        """Devices that have not been silent for a window: that was said when they fell silent."""
        return {device: rows for device, rows in recent.items() if rows[-1][0] >= now - WINDOW_SECONDS}

    def _moved(self, verdict: FleetVerdict, now: float) -> Episode:
        """Everybody's readings have changed: from here on that is what is usual."""
        percent = max(one.drift_pct for one in verdict.devices.values() if one.verdict is Verdict.RETRAIN)
        reference = {
            device: [row for row in rows if row[0] < self._set_aside.get(device, now)]
            for device, rows in self._between(now - REFERENCE, now).items()
        }
        self._baseline, self._own = self._fit(reference), self._own | self._fit_each(reference)
        settled = now - _ACCUSED  # a device that has just left its peers is not yet accused
        company = {device: [row for row in rows if row[0] < settled] for device, rows in reference.items()}
        self.peers = self._company(company, now - REFERENCE, settled) or self.peers
        return Episode("", Verdict.RETRAIN, verdict.shared, "all sound devices share it", now - DAY, now, now, percent)

    def _fit(self, readings: Mapping[str, Sequence[Row]]) -> Baseline:
        columns = {
            name: [values[name] for rows in readings.values() for _, values in rows if name in values]
            for name in self.rules
        }
        floors = {name: rule.resolution for name, rule in self.rules.items()}
        return Baseline.fit({name: column for name, column in columns.items() if column}, floors=floors)

    def _fit_each(self, readings: Mapping[str, Sequence[Row]]) -> dict[str, Baseline]:
        """What each device read that has read for long enough to be told by it."""
        least = _SHARE * LEAST / self._period
        return {device: self._fit({device: rows}) for device, rows in readings.items() if len(rows) >= least}

    def _company(self, readings: Mapping[str, Sequence[Row]], since: float, until: float) -> PeerReference | None:
        """How devices usually differ; None where there are too few, or for too short a time."""
        present = {device: rows for device, rows in readings.items() if rows}
        if len(present) < MINIMUM_DEVICES:
            return None
        usable = [name for name in self.rules if self._is_common(present, name, (until - since) / self._period)]
        try:
            return PeerReference.fit(present, usable, rules=self.rules, period=self._period) if usable else None
        except MonitorError:
            return None

    def _is_common(self, readings: Mapping[str, Sequence[Row]], name: str, slots: float) -> bool:
        """Whether most devices have a channel most of the time."""
        full = [sum(name in values for _, values in rows) >= _SHARE * slots for rows in readings.values()]
        return sum(full) >= max(MINIMUM_DEVICES, _SHARE * len(full))

    def _between(self, since: float, until: float) -> dict[str, list[Row]]:
        return {
            device: rows[bisect_left(self._times[device], since) : bisect_left(self._times[device], until)]
            for device, rows in self._readings.items()
        }


def _faults(device: str, told: DeviceVerdict, now: float) -> Iterator[Episode]:
    """What is wrong with a device that is set aside, each fault by itself; else that it left its peers."""
    yield from (_fault(device, one, now) for one in told.findings)
    if not told.findings:
        yield replace(_drifted(device, told, now), since=now - 2 * DAY)


def _fault(device: str, one: Finding, now: float) -> Episode:
    channels = (one.channel,) if one.channel else ()
    since = min(one.since, now)
    return Episode(device, Verdict.QUARANTINE, channels, one.kind.value, since, now, max(one.until, since), 0.0, (one,))


def _down(one: Finding) -> Episode:
    """Nobody delivered: that is about the place, and nothing is wrong with any device."""
    return Episode("", Verdict.FINE, (), one.kind.value, one.since, one.until, one.until, 0.0, (one,))


def _drifted(device: str, told: DeviceVerdict, now: float) -> Episode:
    return Episode(device, told.verdict, told.channels, told.reason, now - DAY, now, now, told.drift_pct)


def _merged(said: Sequence[Episode]) -> list[Episode]:
    """Put together what was said of the same day after day."""
    episodes: list[Episode] = []
    latest: dict[tuple[str, Verdict, str, tuple[str, ...]], int] = {}
    for one in said:
        key = (one.device, one.verdict, one.reason, one.channels if one.findings else ())
        place = latest.get(key)
        if place is not None and one.since <= episodes[place].until + _QUIET:
            before = episodes[place]
            channels = tuple(dict.fromkeys((*before.channels, *one.channels)))
            until, percent = max(before.until, one.until), max(before.percent, one.percent)
            findings = one.findings if _longer(one, before) else before.findings
            episodes[place] = replace(before, channels=channels, until=until, percent=percent, findings=findings)
        else:
            latest[key] = len(episodes)
            episodes.append(one)
    return episodes


def _longer(one: Episode, other: Episode) -> bool:
    def size(episode: Episode) -> int:
        return max((finding.count for finding in episode.findings), default=0)

    return size(one) >= size(other)


def told(episode: Episode) -> str:
    """Say in a sentence what happened, and what to do about it."""
    channels = ", ".join(episode.channels) or "its readings"
    who = episode.device or "all devices"
    if episode.verdict is Verdict.RETRAIN:
        return f"{channels} moved on {who} together, by {episode.percent:.0f} %: the world changed, train anew."
    if episode.verdict is Verdict.VERIFY:
        return f"{who}: {channels} changed by {episode.percent:.0f} %, and no other device confirms it: look at it."
    if not episode.findings:
        return f"{who}: {channels} left its peers: recalibrate it; leave its readings out until then."
    (finding,) = episode.findings
    times = "once" if finding.count == 1 else f"{finding.count} times"
    facts = {"channel": finding.channel, "count": finding.count, "times": times, "detail": finding.detail}
    return f"{who}: {_FAULTS[finding.kind].format(**facts)}"


_FAULTS: Final = {
    FindingKind.STUCK: "{channel} read the same {count} times in a row: the sensor is stuck, restart or replace it.",
    FindingKind.RANGE: "{channel} was {times} far outside of all it had read: check its wiring and its unit.",
    FindingKind.GAP: "{count} readings, in a row or nearly so, are missing: check its power and its link.",
    FindingKind.DUPLICATE: "{times} two readings of one moment differ: check its clock, and who uses its name.",
    FindingKind.CLOCK: "the clock is {detail}, by {count} readings: set it.",
    FindingKind.SPIKE: "{channel} jumped {times} for a single reading: leave these out, look for interference.",
    FindingKind.OUTAGE: "nobody delivered for {count} periods: look at the power and the link of the place.",
    FindingKind.IMPLAUSIBLE: "{count} readings contradict themselves, {detail}: compare its channels with a reference.",
    FindingKind.UNIT: "{channel} reads {detail} in {count} readings: set its unit back.",
}
