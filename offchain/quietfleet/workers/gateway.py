"""The gateway (T3): takes veiled readings, judges drift across processors, trains, registers, anchors releases."""

from __future__ import annotations

import asyncio
import hmac
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quietfleet.chain.types import Change, Kind, ReleaseChanged
from quietfleet.crypto import PrivateKey, derive, keccak256
from quietfleet.errors import ChainError, PipelineError
from quietfleet.monitor import FleetVerdict, align, assess
from quietfleet.pipeline.project import find_project, load_project
from quietfleet.pipeline.registry import Registry
from quietfleet.pipeline.runtime import Model, load_model
from quietfleet.session import GATEWAY, Event, LargeEnded, Opened, Received
from quietfleet.storage import ObjectStore
from quietfleet.workers._anchoring import Anchoring
from quietfleet.workers._handout import Handout
from quietfleet.workers._history import read_history
from quietfleet.workers._host import log
from quietfleet.workers._month import Month
from quietfleet.workers._rollout import Rollout
from quietfleet.workers._rotation import prepare_for
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._state import State
from quietfleet.workers.messages import (
    DriftReport,
    DriftVerdict,
    FetchRelease,
    NoSuchRelease,
    NotYet,
    OutcomeHeard,
    PrepareEpoch,
    ReleaseBundle,
    ReleaseOutcome,
    Stored,
    Upload,
    timely,
)

if TYPE_CHECKING:
    from quietfleet.pipeline.run import Candidate

DAY = 86_400.0
MOST_DEVICES = 256  # of one processor, as long as they have readings here
JOB_PAUSE = 2.0  # seconds after a failed job
ENOUGH = 30 * 24  # readings; with fewer, the first model is trained on the history
PATIENCE = 7 * DAY  # data time between two attempts to beat the champion


class Gateway:
    """The gateway's reactions; training and releasing run beside them, their results come back through the chain."""

    def __init__(self, runtime: Runtime, publisher: PrivateKey) -> None:
        self._runtime = runtime
        self._section = runtime.settings.gateway
        self._state = State(runtime.database)
        secret = runtime.identity.to_bytes()
        self._veil = derive(secret, "pseudonyms")
        self._month = Month(runtime)
        self._registry = Registry(runtime.database, ObjectStore(runtime.folder / "objects"))
        self._channel = keccak256(self._section.channel.encode())
        self._project = runtime.settings.path(str(find_project(self._section.project)))
        self._rollout = Rollout(runtime, self._state, publisher, self._channel)
        self._handout = Handout(runtime, self._state)
        self._anchoring = Anchoring(runtime, publisher)
        self._jobs: set[asyncio.Task[None]] = set()
        self._model: Model | None = None
        self._begun = False

    def admit(self, _peer: str, purpose: str) -> bool:
        """The chain has said already that it is a processor or a gateway."""
        return purpose == GATEWAY

    def on_event(self, event: Event) -> None:
        match event:
            case Received(body=Upload()):
                self._store(event, event.body)
            case Received(body=FetchRelease()):
                self._serve(event, event.body)
            case Received(body=DriftReport()):
                self._judge(event, event.body)
            case Received(body=PrepareEpoch()):
                prepare_for(self._runtime, event.peer, event.body)
            case Received(body=ReleaseOutcome()) if self._is_processor(event.peer):
                self._rollout.heard(event.peer, event.body.signed)
                self._runtime.messenger.reply(event, OutcomeHeard(event.body.signed.report.sequence))
            case LargeEnded(delivered=False):
                self._runtime.metrics.count("releases_undelivered")
            case Opened(purpose="gateway"):
                self._runtime.note("session-open", peer=event.peer)

    def on_change(self, change: Change) -> None:
        if isinstance(change, ReleaseChanged) and change.channel == self._channel and change.release:
            self._anchored(change.release.sequence, change.release.manifest_hash)

    def on_tick(self) -> None:
        """Nothing here waits for time alone."""

    async def after(self) -> None:
        """Erase what is over a month old, and start the job that is due: a step of a release, or a model."""
        await self._month.after()
        self._handout.after()
        if self._jobs or not self._runtime.registry.usable(self._runtime.id):
            return
        if self._state.get("wanted"):
            self._start(self._train())
        elif self._rollout.due:
            self._start(self._rollout.step())
        elif self._champion() is None and self._may_begin():
            self._start(self._train())
        elif self._anchoring.due:
            self._start(self._anchoring.step())

    def recover(self) -> None:
        self._model = None
        self._handout.recover()
        self._rollout.recover()

    def status(self) -> dict[str, Any]:
        return {
            "release": self._state.get("release", 0),
            "devices": len(self._month.devices()),
            "training": bool(self._jobs),
        }

    def _is_processor(self, peer: str) -> bool:
        known = self._runtime.replica.worker(peer)
        return known is not None and known.kind is Kind.PROCESSOR

    # data

    def _store(self, event: Received, upload: Upload) -> None:
        device = self._veiled(event.peer, upload.device)
        in_time = timely(upload.rows, self._runtime.data_clock.now(), self._month.retention)
        rows = self._month.admitted(device, in_time)
        forgotten = in_time and not rows  # then nothing at all is kept of it
        if forgotten or not self._has_room(event.peer, device):
            self._runtime.metrics.count("uploads_refused")
            self._runtime.messenger.reply(event, Stored(0))
            return
        new = self._month.append(device, rows, who=self._runtime.trail.who(event.peer))
        self._state.set(f"site:{device}", upload.site)
        self._runtime.messenger.reply(event, Stored(new))
        self._runtime.metrics.count("readings_stored", new)
        if len(rows) < len(upload.rows):
            self._runtime.metrics.count("readings_refused", len(upload.rows) - len(rows))

    def _has_room(self, processor: str, device: str) -> bool:
        """Whether a processor may bring this device: so many at a time, else it could make up a crowd."""
        name = f"devices:{self._veiled(processor, '')}"
        known: list[str] = self._state.get(name, [])
        if device in known:
            return True
        if len(known) >= MOST_DEVICES:
            kept = set(self._month.devices())
            known = [one for one in known if one in kept]
        if len(known) >= MOST_DEVICES:
            return False
        self._state.set(name, [*known, device])
        return True

    def _veiled(self, processor: str, pseudonym: str) -> str:
        """The second veil: whatever reaches a pipeline names neither device nor processor."""
        return hmac.digest(self._veil, f"{processor}/{pseudonym}".encode(), "sha256")[:12].hex()

    def _readings(self, site: str) -> dict[str, list[tuple[float, dict[str, float]]]]:
        devices = [device for device in self._month.devices() if self._state.get(f"site:{device}") == site]
        return self._month.readings(devices, why="drift of a site")

    # drift

    def _judge(self, event: Received, report: DriftReport) -> None:
        """Hold a processor's report against every processor's devices of that place: who shares the drift decides."""
        current = self._state.get("release", 0)
        model = self._champion()
        if model is None or report.release != current or not report.drift:
            self._runtime.messenger.reply(event, DriftVerdict("outdated", {}))
            return
        pseudonym = next(iter(report.drift))
        site = self._state.get(f"site:{self._veiled(event.peer, pseudonym)}", "")
        readings = self._readings(site)
        aligned, now = align(readings)
        verdict = assess(aligned, model.baseline, now=now)
        self._runtime.messenger.reply(
            event, DriftVerdict("retrain" if verdict.retrain else "wait", self._named(event.peer, report, verdict))
        )
        if verdict.retrain and not self._state.get("wanted") and self._patient():
            self._state.set("wanted", True)
            self._state.set("attempted", self._runtime.data_clock.now())
            self._runtime.note(
                "drift-shared",
                channels=list(verdict.shared),
                at=now,
                quarantined=sorted(verdict.quarantined),
                percent=max(found.drift_pct for found in verdict.devices.values()),
            )

    def _may_begin(self) -> bool:
        """Try for a first model at every start, and then from time to time."""
        first, self._begun = not self._begun, True
        return first or self._patient()

    def _patient(self) -> bool:
        """Whether the last attempt to beat the champion is long enough ago."""
        attempted: float = self._state.get("attempted", 0.0)
        return self._runtime.data_clock.now() >= attempted + PATIENCE

    def _named(self, processor: str, report: DriftReport, verdict: FleetVerdict) -> dict[str, str]:
        found = ((name, verdict.devices.get(self._veiled(processor, name))) for name in report.drift)
        return {name: device.verdict.value for name, device in found if device}

    # models

    def _champion(self) -> Model | None:
        sequence = self._state.get("release", 0)
        version = self._state.get(f"release:{sequence}")
        if version is None:
            return None
        if self._model is None:
            kept = self._registry.get(self._section.channel, version)
            self._model = load_model(kept.manifest, kept.artifact, keccak256(kept.manifest))
        return self._model

    async def _train(self) -> None:
        champion = self._champion()
        parent: int = self._state.get("release", 0)
        rows = self._training_rows()
        ends: dict[str, float] = {}
        for device, at, _ in rows:
            ends[device] = max(at, ends.get(device, at))
        self._runtime.note("training", rows=len(rows), parent=parent, newest=ends)
        try:
            candidate = await asyncio.to_thread(
                _run,
                self._project,
                rows,
                {device: self._state.get(f"site:{device}", "") for device in ends},
                self._section.seed,
                self._runtime.clock.now(),
                champion,
                parent,
            )
        except PipelineError as error:
            self._state.set("wanted", None)
            self._state.set("attempted", self._runtime.data_clock.now())
            self._runtime.note("training-failed", reason=str(error))
            return
        self._consider(candidate)

    def _training_rows(self) -> list[tuple[str, float, dict[str, float]]]:
        """The month's veiled readings; before there are any, the history the operator brought."""
        month = self._month.readings(None, why="training")
        kept = [(device, at, fields) for device, rows in month.items() for at, fields in rows]
        if self._champion() is not None or len(kept) >= ENOUGH:
            return kept
        return read_history(self._runtime.settings.path(self._section.history), self._section.history_until)

    def _consider(self, candidate: Candidate) -> None:
        """Register a candidate, and have it released when it beats the champion."""
        from quietfleet.pipeline.run import decide  # noqa: PLC0415 - scikit-learn is loaded by now, and only here

        evaluation = candidate.evaluation
        decision = decide(evaluation.rmse, evaluation.champion_rmse)
        now, now_in_data = self._runtime.clock.now(), self._runtime.data_clock.now()
        with self._runtime.database.transaction():
            version = self._registry.register(self._section.channel, candidate.manifest, candidate.artifact, at=now)
            self._registry.point(
                self._section.channel, "challenger", version, who=self._runtime.id, at=now, why="trained"
            )
            self._state.set(f"manifest:{candidate.manifest_hash.hex()}", version)
            self._state.set("wanted", None)
            self._state.set("attempted", now_in_data)
            if decision.deploy:
                self._rollout.submit(candidate.manifest_hash)
                self._handout.shelve(version, candidate.artifact)
            self._runtime.note(
                "trained",
                version=version,
                rmse=round(evaluation.rmse, 3),
                deploy=decision.deploy,
                reason=decision.reason,
                champion_rmse=evaluation.champion_rmse,
                dataset=candidate.report.get("dataset"),
            )

    def _anchored(self, sequence: int, manifest_hash: bytes) -> None:
        """The chain opens a release to devices: find it in the registry and make it champion."""
        known = self._state.get(f"manifest:{manifest_hash.hex()}")
        if known is None:
            self._runtime.note("release-unknown", sequence=sequence)
            return
        self._state.set(f"release:{sequence}", known)
        self._state.set("release", sequence)
        self._model = None
        now = self._runtime.clock.now()
        self._registry.point(
            self._section.channel, "champion", known, who=self._runtime.id, at=now, why=f"release {sequence} on chain"
        )
        self._runtime.note("anchored", sequence=sequence, version=known, manifest=manifest_hash.hex())

    def _serve(self, event: Received, request: FetchRelease) -> None:
        """Hand a processor what is meant for it: the model of its own place, once its wave is open."""
        ours = request.channel == self._section.channel and self._is_processor(event.peer)
        found = self._rollout.ticket(event.peer, request.sequence) if ours else None
        version = self._state.get(f"manifest:{found[0].manifest_hash.hex()}") if found else None
        if found is None or version is None:
            self._runtime.messenger.reply(event, NoSuchRelease(request.sequence))
            return
        ticket, opened = found
        if not opened:
            self._runtime.messenger.reply(event, NotYet(request.sequence))
            return
        kept = self._registry.get(self._section.channel, version)
        bundle = ReleaseBundle(request.sequence, ticket, kept.manifest, kept.artifact)
        self._handout.answer(event, request, version, bundle)

    def _start(self, job: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(self._guard(job))
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _guard(self, job: Any) -> None:
        try:
            await job
        except ChainError as error:
            log.warning("a job waits for the chain: %s", error)
        except Exception:  # noqa: BLE001 - whatever a job meets, the gateway goes on serving
            log.exception("a job failed")
            self._runtime.metrics.count("jobs_failed")
        else:
            return
        await asyncio.sleep(JOB_PAUSE)


def _run(
    path: Path,
    rows: list[tuple[str, float, dict[str, float]]],
    sites: dict[str, str],
    seed: int,
    now: float,
    champion: Model | None,
    parent: int,
) -> Candidate:
    from quietfleet.pipeline.run import run_pipeline  # noqa: PLC0415 - scikit-learn takes seconds to load: never in the loop

    project = load_project(path)
    return run_pipeline(rows, project, seed=seed, now=now, champion=champion, parent=parent or None, sites=sites)
