"""The gateway's watch over whole places: devices of one place may sit behind different processors (paper V-C).

From time to time it holds each device against all others of its place, over the month it keeps, and tells every
processor what it makes of that processor's own devices, under that processor's own names for them. A processor whose
devices stand beside fewer than `k` of others is told what its own devices say of one another, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from quietfleet.clock import waits
from quietfleet.errors import MonitorError
from quietfleet.monitor import DEFAULT_RULES, ChannelRules, PeerReference, align
from quietfleet.monitor.integrity import Row, rules_with
from quietfleet.monitor.peers import MINIMUM_DEVICES
from quietfleet.session import GATEWAY
from quietfleet.workers._neighbours import common
from quietfleet.workers.messages import SiteVerdict

if TYPE_CHECKING:
    from quietfleet.workers._intake import Intake
    from quietfleet.workers._runtime import Runtime

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
JUDGED: Final = 3 * DAY  # what is held against the time before it
MOST: Final = 64  # devices of one message

Readings = Mapping[str, Sequence[Row]]
Left = dict[str, tuple[str, ...]]
"""By device the channels in which it left the others: none if it was compared and is fine."""


class SiteWatch:
    """Judges places one after the other, beside everything else."""

    def __init__(self, runtime: Runtime, intake: Intake) -> None:
        self._runtime = runtime
        self._intake = intake
        self._every = runtime.settings.gateway.watch_hours * HOUR
        self._rules = rules_with(runtime.settings.data.channels)
        self._due = 0.0
        self._told: dict[str, frozenset[str]] = {}

    @property
    def due(self) -> bool:
        """Whether it is time, by the data's clock."""
        return bool(self._every) and not waits(self._runtime.data_clock.now(), self._due, self._every)

    async def step(self) -> None:
        """Judge every place once."""
        self._due = self._runtime.data_clock.now() + self._every
        devices = self._intake.veil.devices()
        for site in sorted({one.site for one in devices}):
            readings, into = self._intake.of_site(site, why="watch of a place")
            owners = self._owners(into)
            everybody = await asyncio.to_thread(left, readings, self._rules)
            for processor, own in owners.items():
                mine = {name: readings[name] for name in own.values() if name in readings}
                crowd = self._intake.many(len(readings) - len(mine))
                found = everybody if crowd else await asyncio.to_thread(left, mine, self._rules)
                named = {pseudonym: found[name] for pseudonym, name in own.items() if name in found}
                await self._runtime.guarded(partial(self._tell, processor, named))

    def _owners(self, into: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """By processor, its own name of each of its devices here → the one the readings are under."""
        owners: dict[str, dict[str, str]] = {}
        for processor in self._intake.processors():
            names = {own: into[name] for name, own in self._intake.names(processor).items() if name in into}
            if names:
                owners[processor] = names
        return owners

    def _tell(self, processor: str, found: Left) -> None:
        """Tell a processor, if there is anything to tell: that a device left the others, or is beside them again."""
        apart = frozenset(name for name, channels in found.items() if channels)
        before = self._told.get(processor, frozenset())
        say = {name: list(found[name]) for name in sorted(apart | (before & found.keys()))[:MOST]}
        session = self._runtime.messenger.session(processor)
        if not say or session is None or session.purpose != GATEWAY:
            return
        self._told[processor] = apart
        self._runtime.messenger.notify(processor, SiteVerdict(self._runtime.data_clock.now(), say))
        self._runtime.metrics.count("site_verdicts", len(say))
        self._runtime.note("site-verdict", who=self._runtime.trail.who(processor))


def left(readings: Readings, rules: Mapping[str, ChannelRules] = DEFAULT_RULES) -> Left:
    """Hold the newest days of each device against what was usual before, between it and the others.

    Those without a week in common with two others are left out.
    """
    aligned, now = align(readings)
    before = {name: [row for row in rows if row[0] < now - JUDGED] for name, rows in aligned.items()}
    channels = common(before.values(), rules)
    company = {name: rows for name, rows in before.items() if rows}
    if len(company) < MINIMUM_DEVICES or not channels:
        return {}
    try:
        reference = PeerReference.fit(company, channels, rules=rules)
    except MonitorError:
        return {}
    drift = reference.drift(aligned, now=now)
    return {
        name: tuple(channel for channel, one in channels.items() if one.exceeded) for name, channels in drift.items()
    }
