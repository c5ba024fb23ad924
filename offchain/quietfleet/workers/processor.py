"""A processor (T2): offers its service, answers readings with recommendations, keeps a week, watches for drift."""

from __future__ import annotations

import hmac
from typing import Any

from quietfleet.chain.types import Change, Release, ReleaseChanged
from quietfleet.crypto import derive, keccak256
from quietfleet.dispatch import Capability, FromOracle, FromWorker, Introduction, ProviderMachine, ProviderState, Service
from quietfleet.dispatch.messages import Terms
from quietfleet.errors import CardRefused, ErasureDelayed, ModelRejected
from quietfleet.monitor import Verdict, align, assess, inspect
from quietfleet.pipeline.features import feature_row
from quietfleet.pipeline.runtime import Model, load_model, recommend
from quietfleet.session import GATEWAY, Closed, Event, Expired, Opened, Received, decode_card, encode_card
from quietfleet.storage import ObjectStore, SealedColumn, TimeSeries
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import (
    DEAL,
    DriftReport,
    DriftVerdict,
    FetchRelease,
    NoSuchRelease,
    Readings,
    Recalibrate,
    Recommendation,
    ReleaseBundle,
    Rows,
    Stored,
    Upload,
)

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
HOLD = DAY  # data time readings wait before they go up, so that a fault is noticed before it is learned from
UPLOAD_ROWS = 240
ANSWER_WITHIN = 20.0
FIRST_VERSION = 1

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
        self._objects = ObjectStore(runtime.folder / "objects")
        self._model = self._load()
        self._provider = ProviderMachine(self._service(), self._offer_id)
        self._busy: set[str] = set()
        self._monitor_due = 0.0
        self._erase_due = 0.0

    def admit(self, peer: str, purpose: str) -> bool:
        """Only a sensor we were introduced to, and for that deal."""
        return self._state.get(f"deal:{purpose.removeprefix(DEAL)}") == peer and purpose.startswith(DEAL)

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Readings()):
                self._readings(event, event.body)
            case Received(body=Stored()):
                self._busy.discard(event.answers or "")
            case Received(body=ReleaseBundle()):
                self._busy.discard("release")
                self._install(event.body)
            case Received(body=NoSuchRelease()):
                self._busy.discard("release")
            case Received(body=DriftVerdict()):
                self._busy.discard("drift")
                self._runtime.note("drift-verdict", fleet=event.body.fleet)
            case Received() if isinstance(event.body, FromOracle) and event.peer == self._runtime.oracle:
                self._dispatch(event.body)
            case Opened(purpose=purpose) if purpose.startswith(DEAL):
                self._opened(event.peer, purpose.removeprefix(DEAL))
            case Opened(purpose="gateway"):
                self._runtime.note("gateway-open")
            case Closed(purpose=purpose) if purpose.startswith(DEAL):
                self._closed(event)
            case Expired(body=Upload()):
                self._rewind(event.body)
                self._busy.discard(event.context)
            case Expired():
                self._busy.discard(event.context)

    def on_change(self, change: Change) -> None:
        if isinstance(change, ReleaseChanged) and change.release and change.channel == self._channel:
            self._runtime.note("release-announced", sequence=change.release.sequence)

    def on_tick(self) -> None:
        now = self._runtime.clock.now()
        if not self._runtime.membership.complete:
            return
        if self._provider.state is ProviderState.IDLE:
            self._tell(self._provider.start(now))
        self._tell(self._provider.tick(now))
        self._reach_gateway()
        self._fetch()
        for device, pseudonym, since in self._uploading():
            self._upload(device, pseudonym, since)
        if now >= self._monitor_due:
            self._monitor_due = now + self._section.monitor_every
            self._watch()

    async def after(self) -> None:
        """Erase what is over a week old, outside of any transaction, so that it is gone from the log too."""
        now = self._runtime.clock.now()
        latest: float | None = self._state.get("latest")
        if latest is not None and now >= self._erase_due:
            self._erase_due = now + 10 * self._section.monitor_every
            try:
                erased = self._week.erase(latest)
            except ErasureDelayed:
                return
            self._runtime.metrics.count("readings_erased", erased)

    def status(self) -> dict[str, Any]:
        rows = self._database.execute("SELECT id, quarantined FROM devices").fetchall()
        return {
            "release": self._state.get("release", 0),
            "devices": {device: quarantined or "fine" for device, quarantined in rows},
            "answered": self._state.get("answered", 0),
        }

    # sensors

    def _readings(self, event: Received, body: Readings) -> None:
        known = self._database.execute("SELECT 1 FROM devices WHERE id = ?", (event.peer,)).fetchone()
        if known is None or not body.rows:
            return
        new = sum(self._week.append(event.peer, at, fields) for at, fields in body.rows)
        latest = max(at for at, _ in body.rows)
        self._state.set("latest", max(latest, self._state.get("latest", 0.0)))
        self._state.set("answered", self._state.get("answered", 0) + 1)
        self._check(event.peer, latest)
        self._runtime.messenger.reply(event, self._advise(event.peer, latest, new))
        self._runtime.note("readings", sensor=event.peer, first=body.first, rows=len(body.rows), new=new)

    def _advise(self, device: str, latest: float, accepted: int) -> Recommendation:
        history = self._week.window(device, latest - 26 * HOUR, latest + 1)
        row = feature_row(history)
        if self._model is None or row is None:
            return Recommendation(accepted, "no model yet" if self._model is None else "not enough history yet")
        advice = recommend(self._model.predict(row), history[-1][1])
        return Recommendation(
            accepted, advice.advice.value, advice.forecast_c, advice.confidence, advice.horizon_h,
            self._state.get("release", 0),
        )

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

    def _opened(self, peer: str, deal: str) -> None:
        row = (peer, deal, deal)
        self._database.execute(
            "INSERT INTO devices VALUES (?, ?, 0, NULL) ON CONFLICT (id) DO UPDATE SET deal = ?", row
        )
        self._runtime.note("session-open", peer=peer)

    def _closed(self, event: Closed) -> None:
        deal = event.purpose.removeprefix(DEAL)
        self._state.set(f"deal:{deal}", None)
        self._database.execute("DELETE FROM devices WHERE id = ? AND deal = ?", (event.peer, deal))
        self._runtime.note("session-closed", peer=event.peer, reason=event.reason)
        self._tell(self._provider.ended(deal))

    # dispatch

    def _service(self) -> Service:
        capability = Capability(self._section.capability, FIRST_VERSION, "readings/1", "recommendation/1")
        attributes: dict[str, str | float] = {"site": self._section.site} if self._section.site else {}
        return Service(capability, attributes, self._section.capacity)

    def _offer_id(self, size: int) -> bytes:
        """The same offer after a restart, so that the oracle sees one worker's one offer."""
        kept: str = self._state.get("offer") or self._runtime.random(size).hex()
        self._state.set("offer", kept)
        return bytes.fromhex(kept)

    def _dispatch(self, message: FromOracle) -> None:
        now = self._runtime.clock.now()
        out = self._provider.receive(message, now)
        card = self._runtime.messenger.own_card()
        for deal in list(self._provider.deals.values()):
            if card is not None and deal.state.value == "proposed":
                out += self._provider.accept(deal.deal_id, encode_card(card), now)
                self._runtime.note("deal-accepted", terms=_shown(deal.terms))
        self._tell(out)
        if isinstance(message, Introduction):
            self._introduced(message)

    def _introduced(self, introduction: Introduction) -> None:
        """Remember whom to expect, once the chain says that we may work together."""
        try:
            card = decode_card(introduction.card)
        except CardRefused as error:
            self._runtime.note("introduction-refused", reason=str(error))
            return
        if introduction.deal_id in self._provider.deals and self._runtime.registry.can_cooperate(self._runtime.id, card.worker):
            self._state.set(f"deal:{introduction.deal_id}", card.worker)
            self._runtime.note("introduced", peer=card.worker)

    def _tell(self, messages: list[FromWorker]) -> None:
        oracle = self._runtime.oracle
        for message in messages if oracle else []:
            self._runtime.messenger.notify(str(oracle), message)

    # the cloud

    @property
    def _channel(self) -> bytes:
        return keccak256(self._section.channel.encode())

    def _gateway(self) -> str | None:
        """The gateway we are in session with."""
        configuration = self._runtime.messenger.epochs.in_force(self._runtime.clock.now())
        if configuration is None or self._runtime.messenger.session(configuration.gateway) is None:
            return None
        return configuration.gateway

    def _reach_gateway(self) -> None:
        card = self._runtime.membership.gateway_card()
        if card is not None and self._gateway() is None:
            self._runtime.messenger.connect(card, GATEWAY)

    def _pseudonym(self, device: str) -> str:
        return hmac.digest(self._veil, device.encode(), "sha256")[:12].hex()

    def _uploading(self) -> list[tuple[str, str, float]]:
        rows = self._database.execute("SELECT id, uploaded FROM devices WHERE quarantined IS NULL").fetchall()
        return [(device, self._pseudonym(device), since) for device, since in rows]

    def _upload(self, device: str, pseudonym: str, since: float) -> None:
        gateway = self._gateway()
        until = self._state.get("latest", 0.0) - HOLD
        if gateway is None or pseudonym in self._busy or since >= until:
            return
        rows: Rows = self._week.window(device, since, until)[:UPLOAD_ROWS]
        if not rows:
            return
        self._busy.add(pseudonym)
        body = Upload(pseudonym, self._section.site, rows)
        self._runtime.messenger.request(gateway, body, (Stored,), ANSWER_WITHIN, pseudonym)
        self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (rows[-1][0] + 1, device))

    def _rewind(self, upload: Upload) -> None:
        """An upload got no answer: take it again from its first row."""
        for device, pseudonym, since in self._uploading():
            if pseudonym == upload.device and since > upload.rows[0][0]:
                self._database.execute("UPDATE devices SET uploaded = ? WHERE id = ?", (upload.rows[0][0], device))

    # models

    def _wanted(self) -> Release | None:
        release = self._runtime.replica.current_release(self._channel)
        return release if release and release.sequence > self._state.get("release", 0) else None

    def _fetch(self) -> None:
        release, gateway = self._wanted(), self._gateway()
        if release is None or gateway is None or "release" in self._busy:
            return
        self._busy.add("release")
        body = FetchRelease(self._section.channel, release.sequence)
        self._runtime.messenger.request(gateway, body, (ReleaseBundle, NoSuchRelease), ANSWER_WITHIN, "release")

    def _install(self, bundle: ReleaseBundle) -> None:
        """Take a release up if it is the one the chain names, byte for byte."""
        release = self._wanted()
        if release is None or bundle.sequence != release.sequence:
            return
        try:
            self._model = load_model(bundle.manifest, bundle.artefact, release.manifest_hash)
        except ModelRejected as error:
            self._runtime.note("release-rejected", sequence=bundle.sequence, reason=str(error))
            return
        names = [self._objects.put(bundle.manifest), self._objects.put(bundle.artefact)]
        self._state.set("model", {"names": names, "hash": release.manifest_hash.hex()})
        self._state.set("release", release.sequence)
        self._runtime.note("release-installed", sequence=release.sequence, manifest=release.manifest_hash.hex())

    def _load(self) -> Model | None:
        kept = self._state.get("model")
        if kept is None:
            return None
        manifest, artefact = (self._objects.get(name) for name in kept["names"])
        return load_model(manifest, artefact, bytes.fromhex(kept["hash"]))

    # monitoring

    def _watch(self) -> None:
        """Compare the week with what the model was trained on; ask the gateway what a drift means."""
        latest: float | None = self._state.get("latest")
        if self._model is None or latest is None:
            return
        week = {device: self._week.window(device, latest - WEEK, latest + 1) for device in self._devices()}
        aligned, now = align(week)
        verdict = assess(aligned, self._model.baseline, now=now)
        drift = {device: found for device, found in verdict.devices.items() if found.channels}
        worrying = [d for d, found in drift.items() if found.verdict in {Verdict.RETRAIN, Verdict.VERIFY}]
        for device, found in verdict.devices.items():
            self._runtime.metrics.gauge("drift_percent", found.drift_pct, device=self._pseudonym(device))
        gateway = self._gateway()
        if not worrying or gateway is None or "drift" in self._busy or self._wanted():
            return
        self._busy.add("drift")
        report = DriftReport(
            self._state.get("release", 0),
            {self._pseudonym(d): dict.fromkeys(drift[d].channels, drift[d].drift_pct) for d in worrying},
            [self._pseudonym(d) for d in self._quarantined()],
        )
        self._runtime.note("drift", release=report.release, percent=max(drift[d].drift_pct for d in worrying), at=now)
        self._runtime.messenger.request(gateway, report, (DriftVerdict,), ANSWER_WITHIN, "drift")

    def _devices(self) -> list[str]:
        return [row[0] for row in self._database.execute("SELECT id FROM devices ORDER BY id").fetchall()]

    def _quarantined(self) -> list[str]:
        return [row[0] for row in self._database.execute("SELECT id FROM devices WHERE quarantined IS NOT NULL").fetchall()]


def _shown(terms: Terms) -> dict[str, Any]:
    return {"capability": terms.capability.name, "attributes": terms.attributes}
