"""A processor (T2): offers its service, answers readings with recommendations, keeps a week, watches for drift."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

from quietfleet.chain.types import Change, OperatorsChanged, ReleaseChanged, WorkerChanged
from quietfleet.clock import waits
from quietfleet.crypto import derive
from quietfleet.dispatch import FromOracle
from quietfleet.errors import ErasureDelayed
from quietfleet.monitor import DeviceVerdict, Verdict, align, assess, inspect
from quietfleet.pipeline.runtime import Forecast
from quietfleet.session import ORACLE, STATIC, CardMet, Closed, Event, Expired, LargeReceived, Opened, Received
from quietfleet.storage import SealedColumn, TimeSeries
from quietfleet.workers import _model_slot as slot
from quietfleet.workers._partners import Partners
from quietfleet.workers._provider import Provider
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers._static import Statics
from quietfleet.workers._telling import Foretold, History, faults_of, tell
from quietfleet.workers._uplink import Uplink
from quietfleet.workers.messages import (
    DEAL,
    DriftReport,
    DriftVerdict,
    MonitorReport,
    MonitorRun,
    Readings,
    Recalibrate,
    Recommendation,
    Rows,
    Stored,
    Upload,
    timely,
)

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
WATCHED = 6 * DAY  # of the week: readings come late, and what is a week old is gone
HOLD = DAY  # data time readings wait before they go up, so that a fault is noticed before it is learned from
UPLOAD_ROWS = 240
ERASE_EVERY = 10  # of the monitor's rounds
DRIFT = "drift"

_SCHEMA = [
    "CREATE TABLE devices (id TEXT PRIMARY KEY, deal TEXT NOT NULL, uploaded REAL NOT NULL, quarantined TEXT) STRICT"
]


class Processor:
    """A processor's reactions."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._section = runtime.settings.processor
        self._database = runtime.database
        self._database.migrate("processor", _SCHEMA)
        self._state = State(runtime.database)
        secret = runtime.identity.to_bytes()
        self._veil = derive(secret, "pseudonyms")
        sealed = SealedColumn(derive(secret, "storage", b"week"), "series.body", random=runtime.random)
        self._week = TimeSeries(runtime.database, WEEK, sealed=sealed)
        self._partners = Partners(runtime)
        self._provider = Provider(runtime, self._state, self._partners)
        self._statics = Statics(runtime, self._partners)
        self._uplink = Uplink(runtime)
        self._slot = slot.ModelSlot(runtime, self._state, self._uplink)
        self._foretold = Foretold()
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
                self._slot.take(event)
            case Expired() if isinstance(event.body, Upload):
                self._rewind(event.body)
            case Expired():
                self._runtime.oracles.unheard(event)

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
        self._upload()
        if not waits(now, self._monitor_due, self._section.monitor_every):
            self._monitor_due = now + self._section.monitor_every
            self._watch()

    async def after(self) -> None:
        """Erase what is over a week old, outside of any transaction, so that it is gone from the log too."""
        self._slot.after()
        now = self._runtime.clock.now()
        period = ERASE_EVERY * self._section.monitor_every
        if not waits(now, self._erase_due, period):
            self._erase_due = now + period
            try:
                erased = self._week.erase(self._runtime.data_clock.now())
            except ErasureDelayed:
                return
            self._runtime.metrics.count("readings_erased", erased)

    def recover(self) -> None:
        self._slot.recover()

    def status(self) -> dict[str, Any]:
        rows = self._database.execute("SELECT id, quarantined FROM devices").fetchall()
        return {
            "release": self._slot.sequence,
            "rollout": self._slot.state,
            "devices": {device: quarantined or "fine" for device, quarantined in rows},
            "answered": self._state.get("answered", 0),
        }

    def _heard(self, event: Received) -> None:
        match event.body:
            case Readings():
                self._readings(event, event.body)
            case answer if isinstance(answer, slot.Answer):
                self._slot.hear(answer)
            case DriftVerdict():
                self._runtime.note("drift-verdict", fleet=event.body.fleet)
            case MonitorRun():
                self._tell(event, event.body)

    # sensors

    def _recheck(self, worker: str | None = None) -> None:
        """Hold everybody we work with, or expect, or one of them, against the chain and our list as they are now."""
        self._partners.recheck(worker)
        self._provider.recheck(worker)

    def _opened(self, peer: str, purpose: str) -> None:
        before = self._database.execute("SELECT deal FROM devices WHERE id = ?", (peer,)).fetchone()
        if before is not None and before[0] != purpose:
            self._provider.ended(before[0])
        self._provider.opened(purpose)
        row = (peer, purpose, purpose)
        self._database.execute(
            "INSERT INTO devices VALUES (?, ?, 0, NULL) ON CONFLICT (id) DO UPDATE SET deal = ?", row
        )
        self._runtime.note("session-open", peer=peer)

    def _closed(self, event: Closed) -> None:
        self._database.execute("DELETE FROM devices WHERE id = ? AND deal = ?", (event.peer, event.purpose))
        self._runtime.note("session-closed", peer=event.peer, reason=event.reason)
        self._provider.ended(event.purpose)

    def _readings(self, event: Received, body: Readings) -> None:
        known = self._database.execute("SELECT 1 FROM devices WHERE id = ?", (event.peer,)).fetchone()
        if known is None or not body.rows:
            return
        rows = timely(body.rows, self._runtime.data_clock.now(), WEEK)
        new = sum(self._week.append(event.peer, at, fields) for at, fields in rows)
        self._state.set("answered", self._state.get("answered", 0) + 1)
        refused = len(body.rows) - len(rows)
        if refused:
            self._runtime.metrics.count("readings_refused", refused)
        if rows:
            self._slot.sampled(event.peer, rows, new)
            self._compare(event.peer, rows)
            latest = max(at for at, _ in rows)
            self._check(event.peer, latest)
            self._runtime.messenger.reply(event, self._advise(event.peer, latest, new))
        else:
            self._runtime.messenger.reply(
                event, Recommendation(0, "check the clock: these readings are not of our time")
            )
        self._runtime.note(
            "readings", sensor=event.peer, first=body.first, rows=len(body.rows), new=new, refused=refused
        )

    def _advise(self, device: str, latest: float, accepted: int) -> Recommendation:
        history = self._week.window(device, latest - self._slot.reach - max(HOUR, 2 * self._slot.period), latest + 1)
        forecast = self._forecast(device, history)
        if forecast is None and self._slot.compares:
            history = history[:-1]  # the neighbours' readings of this moment may be on their way
            forecast = self._forecast(device, history)
        model = self._slot.model
        if model is None or forecast is None:
            return Recommendation(accepted, "no model yet" if model is None else "not enough history yet")
        self._foretold.foretell(device, history[-1], forecast.value, model.features)
        advice = model.advise(forecast, history[-1][1])
        return Recommendation(
            accepted,
            advice.advice.value,
            advice.forecast,
            advice.confidence,
            advice.horizon_h,
            self._slot.sequence,
        )

    def _forecast(self, device: str, history: Rows) -> Forecast | None:
        company = self._company(device, history[-1][0]) if history and self._slot.compares else []
        return self._slot.forecast(self._pseudonym(device), history, company)

    def _company(self, device: str, at: float) -> list[Rows]:
        """What the other devices here read about then; what a faulty one says is no measure for others."""
        period = self._slot.period
        others = [other for other, _ in self._sound() if other != device]
        return [self._week.window(other, at - period, at + period) for other in others]

    def _check(self, device: str, latest: float) -> None:
        """Look for faults at once; a faulty device is set aside until a whole day of it looks right again."""
        findings = inspect(self._week.window(device, latest - 2 * DAY, latest + 1), now=latest + HOUR)
        recent = [finding for finding in findings if finding.until >= latest - DAY]
        reason = ", ".join(sorted({f"{finding.channel} {finding.kind.value}".strip() for finding in recent}))
        before = self._database.execute("SELECT quarantined FROM devices WHERE id = ?", (device,)).fetchone()[0]
        if reason and not before:
            self._runtime.note("quarantined", sensor=device, reason=reason, at=latest)
            self._runtime.messenger.notify(device, Recalibrate(reason))
        elif before and not reason:
            self._runtime.note("released", sensor=device, at=latest)
            self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (latest, device))
        self._database.execute("UPDATE devices SET quarantined = ? WHERE id = ?", (reason or None, device))

    # the cloud

    def _pseudonym(self, device: str) -> str:
        """The first veil: nothing that goes up names a sensor."""
        return hmac.digest(self._veil, device.encode(), "sha256")[:12].hex()

    def _upload(self) -> None:
        """Send every sound device's next readings up, once the day after them has been looked at as well."""
        for device, since in self._sound():
            pseudonym = self._pseudonym(device)
            rows = self._settled(device, since) if self._uplink.free(pseudonym) else []
            if rows:
                self._uplink.ask(pseudonym, Upload(pseudonym, self._section.site, rows), Stored)
                self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (rows[-1][0] + 1, device))

    def _settled(self, device: str, since: float) -> Rows:
        rows: Rows = self._week.window(device, since, self._runtime.data_clock.now() + HOUR)
        return [row for row in rows if row[0] < rows[-1][0] - HOLD][:UPLOAD_ROWS]

    def _rewind(self, upload: Upload) -> None:
        """An upload found no answer: take it again from its first row."""
        first = upload.rows[0][0]
        for device, since in self._sound():
            if self._pseudonym(device) == upload.device and since > first:
                self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (first, device))

    def _sound(self) -> list[tuple[str, float]]:
        rows = self._database.execute("SELECT id, uploaded FROM devices WHERE quarantined IS NULL ORDER BY id")
        return [(device, since) for device, since in rows.fetchall()]

    # monitoring

    def _watch(self) -> None:
        """Compare the week with what the model was trained on; ask the gateway what a drift means."""
        verdicts, _, now = self._judged()
        for device, found in verdicts.items():
            self._runtime.metrics.gauge("drift_percent", found.drift_pct, device=self._pseudonym(device))
        worrying = {d: v for d, v in verdicts.items() if v.verdict in {Verdict.RETRAIN, Verdict.VERIFY}}
        if not worrying or not self._uplink.free(DRIFT) or self._slot.wanted:
            return
        percent = max(found.drift_pct for found in worrying.values())
        drift = {self._pseudonym(d): dict.fromkeys(v.channels, v.drift_pct) for d, v in worrying.items()}
        self._runtime.note(DRIFT, release=self._slot.sequence, percent=percent, at=now)
        self._uplink.ask(DRIFT, DriftReport(self._slot.sequence, drift), DriftVerdict)

    def _judged(self) -> tuple[Mapping[str, DeviceVerdict], Mapping[str, History], float]:
        """Judge the week of every device as of the moment up to which all have delivered; none without a model."""
        model, today = self._slot.model, self._runtime.data_clock.now()
        if model is None:
            return {}, {}, today
        week = {device: self._week.window(device, today - WEEK, today + HOUR) for device in self._devices()}
        aligned, now = align(week)
        return assess(aligned, model.baseline, now=now, window=WATCHED).devices, aligned, now

    def _compare(self, device: str, rows: Rows) -> None:
        """Hold what came against what the model in use forecast; a device that is set aside is no measure."""
        model = self._slot.model
        if model is not None and device in dict(self._sound()):
            self._foretold.came(device, rows, model.features, self._slot.sequence)

    def _tell(self, event: Received, asked: MonitorRun) -> None:
        """Tell the gateway, and nobody else, how devices and model do."""
        if event.peer != self._uplink.gateway:
            self._runtime.metrics.count("monitor_refused", reason="no gateway")
            return
        self._foretold.forget(self._devices())
        verdicts, week, now = self._judged()
        veiled = {self._pseudonym(device): verdict for device, verdict in verdicts.items()}
        signed = tell(self._runtime, asked, self._slot.sequence, veiled, faults_of(week, now), self._foretold)
        self._runtime.messenger.reply(event, MonitorReport(signed))
        self._runtime.note("monitor-told", release=signed.told.release, compared=signed.told.compared)

    def _devices(self) -> list[str]:
        return [row[0] for row in self._database.execute("SELECT id FROM devices ORDER BY id").fetchall()]
