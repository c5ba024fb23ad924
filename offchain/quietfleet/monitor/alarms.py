"""An alarm, from the moment something is found until it is over, and what it says to a person.

    OPEN ──approve──→ APPROVED ──┐
      │ └──override──→ OVERRIDDEN ├── not found any more ──→ ENDED
      └──────────────────────────┘

An alarm is about one cause in one channel of one device; while it lasts, what is found adds to it. What is done about
it follows from the rules until a person says otherwise: `approve` agrees (a drift that waits for a person's word is
learned from then), `override` has something else done, and `silence` has nobody told for a while, whatever is done.
"""

from __future__ import annotations

import enum
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from quietfleet.errors import MonitorError
from quietfleet.monitor.integrity import Finding, FindingKind
from quietfleet.monitor.rules import (
    LEFT_PEERS,
    LEFT_SITE,
    LONE_DRIFT,
    POOR_HEALTH,
    SHARED_DRIFT,
    Action,
)

MOST_WHY: Final = 200  # characters

PLACE: Final = ""
"""The device of an alarm that is about a whole place."""

_CERTAIN: Final = frozenset({FindingKind.RANGE, FindingKind.DUPLICATE, FindingKind.OUTAGE})
"""What cannot be otherwise: a reading outside of what there is, two at one time, nobody having delivered."""
_FALSE_ALARMS: Final[dict[str, float]] = {
    FindingKind.STUCK: 0.042,
    FindingKind.GAP: 0.182,
    LEFT_PEERS: 0.11,
    LEFT_SITE: 0.14,
}
"""Counted by `make bench-drift` on sound hourly weather, a month and device; of others nothing is counted."""
_OTHERS: Final = 0.2
_FIRST: Final[dict[str, int]] = {FindingKind.STUCK: 12, FindingKind.GAP: 4, FindingKind.IMPLAUSIBLE: 6}
"""The readings at which an alarm is raised; each doubling of them halves the doubt."""


class Seen(msgspec.Struct, frozen=True):
    """What was found of a device: in `[since, until]` (Unix seconds of data time), in `count` readings.

    `sure` is a share; `detail` is what else there is to say.
    """

    cause: str
    channel: str
    since: float
    until: float
    count: int = 1
    detail: str = ""
    sure: float = 1.0

    @classmethod
    def of(cls, finding: Finding) -> Seen:
        """Take over a fault; a date from the future is certain, a clock that seems off is not."""
        ahead = finding.kind is FindingKind.CLOCK and not finding.detail
        return cls(
            str(finding.kind),
            finding.channel,
            finding.since,
            finding.until,
            finding.count,
            finding.detail,
            1.0 if ahead else sureness(str(finding.kind), finding.count),
        )


class State(enum.StrEnum):
    """Where an alarm is."""

    OPEN = "open"
    APPROVED = "approved"
    OVERRIDDEN = "overridden"
    ENDED = "ended"


class Alarm(msgspec.Struct, frozen=True):
    """One alarm; `device` is what it is called where the alarm is kept (empty: `PLACE`), times are Unix seconds.

    `since` and `until` are of the readings, `raised` and `quiet_until` of the clock. `by` and `why` are a person's.
    """

    number: int
    device: str
    cause: str
    channel: str
    since: float
    until: float
    raised: float
    count: int = 1
    detail: str = ""
    sure: float = 1.0
    actions: tuple[Action, ...] = ()
    state: State = State.OPEN
    quiet_until: float = 0.0
    by: str = ""
    why: Annotated[str, Meta(max_length=MOST_WHY)] = ""

    @property
    def done(self) -> tuple[Action, ...]:
        """What is being done now; what a person approved is verified, and may be learned from."""
        if self.state is State.ENDED:
            return ()
        if self.state is State.APPROVED and Action.VERIFY in self.actions:
            return tuple(Action.RETRAIN if one is Action.VERIFY else one for one in self.actions)
        return self.actions

    def quiet(self, now: float) -> bool:
        """Whether nobody wants to be told at present."""
        return now < self.quiet_until

    def again(self, seen: Seen) -> Alarm:
        """Add what was found since."""
        self._alive()
        return msgspec.structs.replace(
            self,
            since=min(self.since, seen.since),
            until=max(self.until, seen.until),
            count=max(self.count, seen.count),
            detail=seen.detail or self.detail,
            sure=max(self.sure, seen.sure),
        )

    def approved(self, by: str, why: str) -> Alarm:
        """A person agrees; `MonitorError` when it is over."""
        self._alive()
        return msgspec.structs.replace(self, state=State.APPROVED, by=by, why=why[:MOST_WHY])

    def overridden(self, actions: tuple[Action, ...], by: str, why: str) -> Alarm:
        """A person has something else done, or nothing; `MonitorError` when it is over, or about a whole place."""
        self._alive()
        if self.device == PLACE and set(actions) - {Action.TELL}:
            raise MonitorError(f"alarm {self.number} is about a whole place: nothing but `tell` can be done about it")
        return msgspec.structs.replace(self, state=State.OVERRIDDEN, actions=actions, by=by, why=why[:MOST_WHY])

    def silenced(self, until: float, by: str, why: str) -> Alarm:
        """A person wants to hear nothing of it until then; `MonitorError` when it is over."""
        self._alive()
        return msgspec.structs.replace(self, quiet_until=until, by=by, why=why[:MOST_WHY])

    def ended(self) -> Alarm:
        """It is not found any more; `MonitorError` when it was over before."""
        self._alive()
        return msgspec.structs.replace(self, state=State.ENDED)

    def _alive(self) -> None:
        if self.state is State.ENDED:
            raise MonitorError(f"alarm {self.number} is over")


def sureness(cause: str, count: int = 1, severity: float = 1.0) -> float:
    """Grade how sure it is that a cause is real, as a share: 1 for what cannot be otherwise.

    A grade and no probability: one less the false alarms of a month, halved with each doubling of the evidence, which
    are readings, or how many times over its limit a drift is.
    """
    if cause in _CERTAIN:
        return 1.0
    weight = max(1.0, severity) * max(1.0, count / _FIRST.get(cause, 1))
    return round(1.0 - _FALSE_ALARMS.get(cause, _OTHERS) / weight, 3)


_CHANGED: Final = {
    FindingKind.STUCK: "{channel} of {device} has read the same value {count} times",
    FindingKind.RANGE: "{channel} of {device} read what there cannot be, {count} times",
    FindingKind.GAP: "{device} has lost {count} readings",
    FindingKind.DUPLICATE: "{device} sent two different readings for one time, {count} times",
    FindingKind.CLOCK: "the clock of {device} is wrong",
    FindingKind.SPIKE: "{channel} of {device} jumped for single readings, {count} times",
    FindingKind.UNIT: "{channel} of {device} reads in another unit",
    FindingKind.IMPLAUSIBLE: "{count} readings of {device} cannot be true in all their channels",
    POOR_HEALTH: "{device} is in poor health",
    FindingKind.OUTAGE: "nobody at this place delivered for {count} hours",
    SHARED_DRIFT: "{channel} has drifted at {device} and at its neighbours alike",
    LONE_DRIFT: "{channel} of {device} has drifted, and nobody beside it can confirm that",
    LEFT_PEERS: "{channel} of {device} has left its neighbours",
    LEFT_SITE: "{channel} of {device} has left the other devices of its place, as the gateway sees them",
}
_DONE: Final = {
    Action.QUARANTINE: "its readings are set aside",
    Action.RECALIBRATE: "it was asked to recalibrate",
    Action.IMPUTE: "forecasts use its neighbours' readings instead",
    Action.LAST_KNOWN: "forecasts use its last good reading",
    Action.SAFE_DEFAULT: "no forecast is made from it",
    Action.VERIFY: "nothing is learned from it yet",
    Action.RETRAIN: "a new model is asked for",
}
_CAN: Final = {
    FindingKind.GAP: "look at its battery and its link",
    FindingKind.CLOCK: "set its clock",
    FindingKind.IMPLAUSIBLE: "compare its channels with a reference, and recalibrate or replace it",
    POOR_HEALTH: "look at what its health names, before it fails",
    FindingKind.OUTAGE: "look at the power and the link of the place",
    FindingKind.UNIT: "set its unit back, or correct it with `quietfleet recalibrate`",
    FindingKind.RANGE: "look at the sensor",
    SHARED_DRIFT: "nothing needs to be done",
    LONE_DRIFT: "look at the sensor, and approve the alarm if it is right",
    LEFT_SITE: "compare it with a reference, and recalibrate or replace it",
    LEFT_PEERS: "compare it with a reference, and recalibrate or replace it",
}


def sentence(alarm: Alarm) -> str:
    """Say in one sentence what changed, since when, how sure that is, what was done, and what a person can do."""
    changed = _CHANGED.get(alarm.cause, "{cause} in {channel} of {device}").format(
        channel=alarm.channel or "a channel", device=alarm.device, count=alarm.count, cause=alarm.cause
    )
    detail = f" ({alarm.detail})" if alarm.detail else ""
    since = datetime.fromtimestamp(alarm.since, UTC).strftime("%Y-%m-%d %H:%M UTC")
    sure = "certain" if alarm.sure >= 1 else f"{alarm.sure:.0%} sure"
    done = " and ".join(_DONE[one] for one in alarm.done if one in _DONE) or "nothing is done about it"
    can = _CAN.get(alarm.cause, "look at the sensor, and override the alarm if it is right")
    return f"{changed}{detail} since {since} ({sure}): {done}; you can {can}.".replace(
        "can nothing", "can rest, nothing"
    )
