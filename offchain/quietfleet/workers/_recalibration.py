"""A processor has its sensors recalibrate: on a finding, by schedule and by hand, against the sensor's peers.

What it proposes is what the median of at least two sound others says (`monitor.calibration`); where they say nothing
sure, the sensor is asked to check itself. An answer counts if that sensor was asked, its own key signed it and it
carries that question's nonce; it counts once. From then on the device is judged by what it reads since, and the
gateway is told under the device's pseudonym, by the processor's word: the sensor's signature stays here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final

from quietfleet.clock import waits
from quietfleet.crypto import keccak256
from quietfleet.errors import CorrectionRefused, TooLittleData
from quietfleet.monitor.calibration import NO_LEVEL, ROUTINE, URGENT, Demand, estimate, learn_levels
from quietfleet.monitor.recalibration import NONE, Affine, Attested, limits_of
from quietfleet.session import Received
from quietfleet.workers._outcomes import signed_by
from quietfleet.workers._recalibrations import Asked, Recalibrated
from quietfleet.workers.messages import CLOCK_SKEW, AttestationHeard, Recalibrate, RecalibrationAttested, Rows
from quietfleet.workers.messages import Recalibrated as Answer

if TYPE_CHECKING:
    from quietfleet.storage import TimeSeries
    from quietfleet.workers._devices import Devices
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._uplink import Uplink

ABOUT: Final = "recalibration"
TOLD: Final = "recalibrated"
ANSWER_WITHIN: Final = 60.0  # seconds
DAY: Final = 86_400.0
WEEK: Final = 7 * DAY
WINDOW: Final = 2 * DAY  # data time that a device is held against its peers for, when something was found
LOOK_EVERY: Final = 10.0  # seconds between two looks for whom to ask
LEARN_EVERY: Final = DAY / 4  # data time between two looks for usual distances
AGAIN: Final = 1.25 * DAY  # data time after which a device that is still set aside is asked again
LATE: Final = 0.1  # of a step, at most, that a device is asked late
SCHEDULE: Final = "schedule"
STILL: Final = "still set aside"
NOBODY: Final = "no such device"
_SENTENCE: Final = 256


class Recalibrations:
    """Asks, takes answers in, and passes them on; in the caller's transaction.

    `restarted(device, at)` is called when a device's readings after `at` (data time) are other than before,
    `moved(device)` when a person says that it stands elsewhere now.
    """

    def __init__(
        self,
        runtime: Runtime,
        week: TimeSeries,
        devices: Devices,
        uplink: Uplink,
        restarted: Callable[[str, float], None],
        moved: Callable[[str], None],
    ) -> None:
        self._runtime = runtime
        self._week = week
        self._devices = devices
        self._uplink = uplink
        self._restarted = restarted
        self._moved = moved
        section = runtime.settings.processor.recalibration
        self._together = section.side_by_side
        self._ages = section.ages
        self._longest = (1 + LATE) * max(self._ages, default=0.0)
        self._limits = limits_of(section.limits)
        self._kept = Recalibrated(runtime.database)
        self._look_due = 0.0
        self._learn_due = 0.0

    # asking

    def ask(
        self,
        device: str,
        reason: str,
        channels: Collection[str] = (),
        *,
        alarms: Collection[int] = (),
        routine: bool = False,
    ) -> bool:
        """Have a device recalibrate these channels, or all of them; False if it is not here or owes an answer.

        `alarms` are the numbers of those that ask for it, for the record.
        Of `routine`, when nothing was found, it is corrected by its whole week alone, and else judged as before.
        """
        if device not in self._devices or self._runtime.messenger.session(device) is None:
            return False
        if self._kept.open(device) is not None and self._runtime.messenger.asks(device, ABOUT):
            self._runtime.metrics.count("recalibrations_withheld")
            return False
        proposed, withheld = self._proposal(device, channels, routine=routine)
        nonce, now = self._runtime.random(16), self._runtime.clock.now()
        self._kept.ask(device, nonce, reason, now=now, proposed=proposed, withheld=withheld, routine=routine)
        body = Recalibrate(reason[:_SENTENCE], nonce, proposed)
        self._runtime.messenger.request(device, body, (Answer,), ANSWER_WITHIN, ABOUT)
        told = {channel: list(one) for channel, one in proposed.items()}
        because = {"alarms": sorted(alarms)} if alarms else {}
        self._runtime.note(
            "recalibration-asked", sensor=device, reason=reason, proposed=told, withheld=withheld, **because
        )
        return True

    def unheard(self, device: str) -> None:
        """A device did not answer: it is asked again at its next turn."""
        self._kept.unanswered(device)
        self._runtime.note("recalibration-unanswered", sensor=device)

    def _proposal(
        self, device: str, channels: Collection[str], *, routine: bool = False
    ) -> tuple[dict[str, Affine], dict[str, str]]:
        """What peers say of these channels, and why they say nothing of the others."""
        today, demand = self._runtime.data_clock.now(), ROUTINE if routine else URGENT
        begin = today - (WEEK if routine else WINDOW)
        rows = self._since(device, begin, today)
        read = {channel for _, fields in rows for channel in fields}
        peers = {peer: self._since(peer, begin, today) for peer, _ in self._devices.sound() if peer != device}
        in_force = self._kept.in_force(device)
        proposed, withheld = {}, {}
        for channel in sorted(read & self._limits.keys() & set(channels or self._limits)):
            try:
                proposed[channel] = self._estimate(channel, device, rows, peers, in_force.get(channel, NONE), demand)
            except CorrectionRefused as error:
                withheld[channel] = error.word
        return proposed, withheld

    def _estimate(
        self, channel: str, device: str, rows: Rows, peers: dict[str, Rows], in_force: Affine, demand: Demand
    ) -> Affine:
        levels: dict[str, Sequence[float]] = dict(self._kept.levels(channel))
        if self._together:
            levels = dict.fromkeys([device, *peers], NO_LEVEL)
        if device not in levels:
            raise TooLittleData(f"{channel}: its usual distance is not known yet")
        known = {peer: some for peer, some in peers.items() if peer in levels}
        limits, own = self._limits[channel], levels[device]
        return estimate(channel, rows, known, limits, own=own, levels=levels, in_force=in_force, demand=demand).affine

    def _since(self, device: str, since: float, today: float) -> Rows:
        """Its readings since then, of which none is from before it was recalibrated."""
        after = self._devices.judged_after(device)
        rows: Rows = self._week.window(device, max(since, after), today + CLOCK_SKEW)
        return [row for row in rows if row[0] > after]

    # answers

    def take(self, event: Received, answer: Answer) -> None:
        """Keep an answer that fits, and judge the device anew if its readings are other ones now."""
        asked = self._kept.open(event.peer)
        wrong = self._wrong(event, answer, asked)
        if wrong or asked is None:
            self._runtime.metrics.count("recalibrations_refused", reason=wrong)
            return
        result = answer.signed.result
        today = self._runtime.data_clock.now()
        since = min(result.since, today + CLOCK_SKEW)  # a sensor cannot have itself looked away from
        other = self._kept.answered(asked, answer.signed, since)
        self._runtime.metrics.count("recalibrations", did=result.did.value)
        self._runtime.note(
            "recalibrated",
            sensor=event.peer,
            reason=asked.reason,
            did=result.did.value,
            since=since,
            in_force={channel: list(one) for channel, one in result.in_force.items()},
            refused=result.refused,
            signature=answer.signed.signature.hex(),
        )
        if other:
            self._restarted(event.peer, since)

    def _wrong(self, event: Received, answer: Answer, asked: Asked | None) -> str:
        """A word for what is wrong with an answer; empty if nothing is."""
        signed = answer.signed
        if event.answers != ABOUT or asked is None:
            return "unasked"
        if signed.result.nonce != asked.nonce:
            return "replayed"
        return "" if signed_by(self._runtime, event.peer, signed.result.digest, signed.signature) else "forged"

    # the gateway

    def heard(self, event: Received, answer: AttestationHeard) -> None:
        """The gateway knows of it."""
        asked = self._kept.to_tell()
        if event.peer != self._uplink.gateway or asked is None or asked.answer is None:
            return
        if answer.evidence == keccak256(asked.answer.signature):
            self._kept.told(asked.number)

    def _tell(self) -> None:
        asked = self._kept.to_tell() if self._uplink.free(TOLD) else None
        if asked is None or asked.answer is None or asked.since is None:
            return
        result = asked.answer.result
        evidence = keccak256(asked.answer.signature)
        name = self._devices.pseudonym(asked.device)
        attested = Attested(name, result.did, max(0.0, asked.since), result.in_force, evidence)
        key = self._runtime.keyring.present or self._runtime.identity
        self._uplink.ask(TOLD, RecalibrationAttested(attested.signed(key)), AttestationHeard)

    # from time to time

    def tick(self) -> None:
        """Ask whoever is due, and tell the gateway what it has not heard."""
        self._tell()
        now = self._runtime.clock.now()
        if waits(now, self._look_due, LOOK_EVERY):
            return
        self._look_due = now + LOOK_EVERY
        here = {*self._week.devices(), *self._devices.all()}
        self._kept.forget(here)
        self._devices.forget(here)
        self._learn()
        self._serve()
        self._insist()
        for device in self._devices.all() if self._ages else ():
            self._schedule(device, now)

    def _serve(self) -> None:
        """Do what was requested by hand; a device that owes an answer is asked after that."""
        for one in self._kept.requests():
            if one.relearn:
                self._kept.forget_levels(one.device, one.channels)
                self._moved(one.device)
            if one.device not in self._devices:
                self._runtime.note("recalibration-not-asked", sensor=one.device, reason=NOBODY)
            elif not self.ask(one.device, one.why, one.channels):
                continue
            self._kept.served(one.number)

    def _insist(self) -> None:
        """Ask those again that are set aside and had a day to look right in: by now there may be more to go by."""
        today = self._runtime.data_clock.now()
        for device, reason in self._devices.quarantined().items():
            last = self._kept.last(device)
            if reason and last is not None and last.since is not None and today >= last.since + AGAIN:
                self.ask(device, STILL)

    def _schedule(self, device: str, now: float) -> None:
        known = self._kept.due(device)
        if known is None:
            self._kept.set_due(device, now, self._next(now, now))
        elif not waits(now, known[1], self._longest) and self.ask(device, SCHEDULE, routine=True):
            self._kept.set_due(device, known[0], self._next(known[0], now))

    def _next(self, first: float, now: float) -> float:
        """When a device that was first seen then is due next, up to a tenth of the step late."""
        before = 0.0
        for age in self._ages:
            if first + age > now:
                return first + age + self._late(age - before)
            before = age
        step = self._ages[-1] - (self._ages[-2] if len(self._ages) > 1 else 0.0)
        return now + step + self._late(step)

    def _late(self, step: float) -> float:
        return LATE * step * int.from_bytes(self._runtime.random(4)) / 2**32

    def _learn(self) -> None:
        """Learn how far from the others each sound device usually is, once there is enough of it."""
        today = self._runtime.data_clock.now()
        if self._together or waits(today, self._learn_due, LEARN_EVERY):
            return
        self._learn_due = today + LEARN_EVERY
        sound = [device for device, _ in self._devices.sound()]
        rows: dict[str, Rows] = {}
        for channel in self._limits:
            known = self._kept.levels(channel)
            if all(device in known for device in sound):
                continue
            rows = rows or {device: self._since(device, today - WEEK, today) for device in sound}
            self._kept.set_levels(channel, learn_levels(channel, rows, known))

    def history(self) -> list[dict[str, Any]]:
        """Everything that was asked and what came of it, oldest first."""
        return [one.told() for one in self._kept.all()]
