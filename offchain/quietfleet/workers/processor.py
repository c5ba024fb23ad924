"""A processor (T2): offers its service, answers readings with recommendations, keeps a week, watches for drift."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from quietfleet.chain.types import Change, OperatorsChanged, ReleaseChanged, WorkerChanged
from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.dispatch import FromOracle
from quietfleet.errors import ErasureDelayed
from quietfleet.monitor.telling import SignedTold
from quietfleet.session import ORACLE, STATIC, CardMet, Closed, Event, Expired, LargeReceived, Opened, Received
from quietfleet.storage import SealedColumn, TimeSeries
from quietfleet.workers import _model_slot as slot
from quietfleet.workers._advice import Advice
from quietfleet.workers._autonomy import Autonomy
from quietfleet.workers._commands import Commands
from quietfleet.workers._devices import Devices
from quietfleet.workers._fallback import Fallbacks
from quietfleet.workers._fetching import Answer
from quietfleet.workers._health import HealthWatch
from quietfleet.workers._partners import Partners
from quietfleet.workers._privacy import Privacy
from quietfleet.workers._provider import Provider
from quietfleet.workers._quota import within
from quietfleet.workers._recalibration import Recalibrations
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers._static import Statics
from quietfleet.workers._telling import tell
from quietfleet.workers._uplink import Uplink
from quietfleet.workers._uploads import Uploads
from quietfleet.workers._watch import Watch
from quietfleet.workers._weekly import Weekly
from quietfleet.workers.messages import (
    DEAL,
    AttestationHeard,
    CommandEffect,
    DriftVerdict,
    HeadHeard,
    MonitorReport,
    MonitorRun,
    OutcomeHeard,
    Readings,
    Recalibrate,
    Recalibrated,
    Recommendation,
    SiteVerdict,
    Telemetry,
    Upload,
    timely,
)

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
ERASE_EVERY = 10  # of the monitor's rounds


class _Asked(NamedTuple):
    """Readings that wait for their answer: whose, until when, and what is noted of them."""

    event: Received
    latest: float
    told: dict[str, int]


class Processor:
    """A processor's reactions."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._section = runtime.settings.processor
        self._state = State(runtime.database)
        secret = runtime.identity.to_bytes()
        self._devices = Devices(runtime.database, derive(secret, "pseudonyms"))
        sealed = SealedColumn(derive(secret, "storage", b"week"), "series.body", random=runtime.random)
        self._week = TimeSeries(runtime.database, WEEK, sealed=sealed)
        self._partners = Partners(runtime)
        self._provider = Provider(runtime, self._state, self._partners)
        self._statics = Statics(runtime, self._partners)
        self._uplink = Uplink(runtime)
        self._uploads = Uploads(runtime, self._week, self._devices, self._uplink)
        self._slot = slot.ModelSlot(runtime, self._state, self._uplink)
        self._weekly = Weekly(runtime, self._state, self._week, self._slot, self._devices)
        self._recalibrations = Recalibrations(
            runtime, self._week, self._devices, self._uplink, self._recalibrated, self._moved
        )
        self._watch = Watch(runtime, self._week, self._slot, self._devices, self._uplink, self._recalibrations)
        own = SealedColumn(derive(secret, "storage", b"telemetry"), "telemetry.body", random=runtime.random)
        told = TimeSeries(runtime.database, WEEK, sealed=own, name="telemetry")
        self._health = HealthWatch(runtime, told, self._devices, self._watch.told_of_health)
        fallbacks = Fallbacks(self._week, self._devices, self._watch.alarms)
        self._autonomy = Autonomy(runtime, self._state, self._week, self._slot, self._devices, self._uplink)
        self._advice = Advice(self._week, self._slot, self._devices, fallbacks, self._autonomy)
        self._privacy = Privacy(runtime)
        self._commands = Commands(runtime, self._slot, self._devices)
        runtime.settle = self._settle
        self._monitor_due = 0.0
        self._erase_due = 0.0

    def admit(self, peer: str, purpose: str) -> bool:
        return self._provider.expects(peer, purpose) or self._statics.expects(peer, purpose)

    def on_event(self, event: Event) -> None:
        match event:
            case Received() if isinstance(event.body, FromOracle):
                self._provider.receive(event.peer, event.body)
            case Received():
                self._heard(event)
            case Opened(purpose=purpose) if purpose == STATIC or purpose.startswith(DEAL):
                self._opened(event.peer, purpose)
            case Opened(purpose=purpose) if purpose == ORACLE:
                self._provider.reached(event.peer)
            case Closed(purpose=purpose) if purpose == STATIC or purpose.startswith(DEAL):
                self._closed(event)
            case CardMet():
                self._statics.met(event.card)
            case LargeReceived():
                self._slot.fetching.take(event)
            case Expired():
                self._unheard(event)

    def on_change(self, change: Change) -> None:
        if isinstance(change, WorkerChanged) and change.parts:
            self._provider.parted(change.id)
        if isinstance(change, WorkerChanged) and change.id != self._runtime.id:
            self._recheck(change.id)
        elif isinstance(change, WorkerChanged | OperatorsChanged):
            self._recheck()
        if isinstance(change, ReleaseChanged) and change.release and change.channel == self._slot.channel:
            self._runtime.note("release-announced", sequence=change.release.sequence)

    def on_tick(self) -> None:
        now = self._runtime.clock.now()
        if self._partners.moved():
            self._recheck()
        if not self._runtime.membership.keyed:
            return
        self._statics.tick()
        self._provider.tick(now)
        self._uplink.reach()
        self._slot.tick()
        self._uploads.tick()
        self._weekly.tick()
        self._autonomy.tick()
        self._recalibrations.tick()
        self._health.tick()
        if not waits(now, self._monitor_due, self._watch.pace):
            self._watch.look()
            self._monitor_due = now + self._watch.pace

    async def after(self) -> None:
        """Erase what is over a week old, outside of any transaction, so that it is gone from the log too."""
        self._slot.fetching.after()
        now = self._runtime.clock.now()
        period = ERASE_EVERY * self._section.monitor_every
        if not waits(now, self._erase_due, period):
            self._erase_due = now + period
            try:
                with self._runtime.database.transaction():
                    self._watch.after()
                erased = self._week.erase(self._runtime.data_clock.now()) + self._health.erase()
            except ErasureDelayed:
                return
            self._runtime.metrics.count("readings_erased", erased)

    def recover(self) -> None:
        self._slot.recover()
        self._watch.recover()

    def status(self) -> dict[str, Any]:
        return {
            "release": self._slot.sequence,
            "rollout": self._slot.state,
            "heads": self._autonomy.evidence(),
            "forecaster": self._slot.inference.state(),
            "devices": {device: reason or "fine" for device, reason in self._devices.quarantined().items()},
            "answered": self._state.get("answered", 0),
            "alarms": len(self._watch.alarms.open()),
            "health": self._health.status(),
            **({"privacy": self._privacy.status()} if self._privacy.on else {}),
        }

    def _heard(self, event: Received) -> None:
        match event.body:
            case Readings():
                self._readings(event, event.body)
            case Telemetry():
                self._health.take(event, event.body)
            case CommandEffect():
                self._commands.take(event, event.body)
            case Recalibrated():
                self._recalibrations.take(event, event.body)
            case _:
                self._heard_from_above(event)

    def _heard_from_above(self, event: Received) -> None:
        match event.body:
            case answer if isinstance(answer, Answer | OutcomeHeard):
                self._slot.hear(answer)
            case DriftVerdict():
                self._runtime.note("drift-verdict", fleet=event.body.fleet)
            case AttestationHeard():
                self._recalibrations.heard(event, event.body)
            case HeadHeard():
                self._autonomy.heard(event.body)
            case MonitorRun():
                self._tell(event, event.body)
            case SiteVerdict() if event.peer == self._uplink.gateway:
                self._watch.told(event.body)

    def _unheard(self, event: Expired) -> None:
        match event.body:
            case Upload():
                self._uploads.rewind(event.body)
            case Recalibrate():
                self._recalibrations.unheard(event.peer)
            case _:
                self._runtime.oracles.unheard(event)

    # sensors

    def _recheck(self, worker: str | None = None) -> None:
        """Hold everybody we work with, or expect, or one of them, against the chain and our list as they are now."""
        self._partners.recheck(worker)
        self._provider.recheck(worker)

    def _opened(self, peer: str, purpose: str) -> None:
        before = self._devices.opened(peer, purpose)
        if before is not None:
            self._provider.ended(before)
        self._provider.opened(purpose)
        self._runtime.note("session-open", peer=peer)

    def _closed(self, event: Closed) -> None:
        self._devices.closed(event.peer, event.purpose)
        self._runtime.note("session-closed", peer=event.peer, reason=event.reason)
        self._provider.ended(event.purpose)

    def _readings(self, event: Received, body: Readings) -> None:
        if event.peer not in self._devices or not body.rows:
            return
        in_time = timely(body.rows, self._runtime.data_clock.now(), WEEK)
        rows = within(self._week, event.peer, in_time)
        doubled = [row for row in rows if not self._week.append(event.peer, *row)]
        new = len(rows) - len(doubled)
        self._state.set("answered", self._state.get("answered", 0) + 1)
        refused = len(body.rows) - len(rows)
        if refused:
            self._runtime.metrics.count("readings_refused", len(body.rows) - len(in_time))
            self._runtime.metrics.count("readings_beyond", len(in_time) - len(rows))
        told = {"first": body.first, "rows": len(body.rows), "new": new, "refused": refused}
        latest = max((at for at, _ in rows), default=self._week.newest(event.peer) if in_time else None)
        if latest is None:
            wrong = "check the clock: these readings are not of our time"
            self._runtime.messenger.reply(event, Recommendation(0, wrong))
            self._runtime.note("readings", sensor=event.peer, **told)
            return
        if rows:
            self._slot.sampled(event.peer, rows, new)
            self._watch.check(event.peer, latest, doubled)
        asked = _Asked(event, latest, told)
        if self._runtime.unanswered is None:
            self._answer([asked])
        else:
            self._runtime.unanswered.append(asked)  # the last thing done here: what is undone is not answered

    def _settle(self) -> None:
        """Answer who spoke, all in one step; if that fails, one by one, so that each stands or falls alone."""
        asked = self._runtime.unanswered or []
        if asked and not self._runtime.react(lambda: self._answer(asked)) and len(asked) > 1:
            for one in asked:
                self._runtime.react(lambda one=one: self._answer([one]))  # type: ignore[misc]

    def _answer(self, those: Sequence[_Asked]) -> None:
        asked = [one for one in those if one.event.peer in self._devices]  # who left since is not answered
        advised = self._advice.advise_each([(one.event.peer, one.latest, one.told["new"]) for one in asked])
        for one, said in zip(asked, advised, strict=True):
            stood_in = {"fallback": said.fallback} if said.fallback else {}
            self._runtime.messenger.reply(one.event, self._commands.beside(one.event.peer, said))
            self._runtime.note("readings", sensor=one.event.peer, **one.told, **stood_in)

    # monitoring

    def _recalibrated(self, device: str, at: float) -> None:
        self._watch.recalibrated(device, at)

    def _moved(self, device: str) -> None:
        self._watch.moved(device)

    def _told(self, asked: MonitorRun) -> SignedTold:
        verdicts, _ = self._watch.judged()
        veiled = {self._devices.pseudonym(device): verdict for device, verdict in verdicts.items()}
        return tell(self._runtime, asked, self._slot.sequence, veiled, self._weekly.current())

    def _told_with_noise(self, asked: MonitorRun) -> SignedTold:
        """Of a model that looks at neighbours no errors are told: each would be of more than one device."""
        today, model = self._runtime.data_clock.now(), self._slot.model
        week = {device: self._week.window(device, today - WEEK, today) for device in self._devices.all()}
        errors = [] if self._slot.compares else self._weekly.each()
        return self._privacy.tell(asked, self._slot.sequence, week, model.baseline if model else None, errors)

    def _tell(self, event: Received, asked: MonitorRun) -> None:
        """Tell the gateway, and nobody else, how devices and model do."""
        if event.peer != self._uplink.gateway:
            self._runtime.metrics.count("monitor_refused", reason="no gateway")
            return
        signed = self._told_with_noise(asked) if self._privacy.on else self._told(asked)
        self._runtime.messenger.reply(event, MonitorReport(signed))
        self._runtime.note("monitor-told", release=signed.told.release, compared=signed.told.compared)
