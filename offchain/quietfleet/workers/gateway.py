"""The gateway (T3): takes veiled readings, judges drift across processors, trains, registers, anchors releases."""

from __future__ import annotations

import asyncio
from typing import Any

from quietfleet.chain.types import Change, Kind, ReleaseChanged
from quietfleet.crypto import PrivateKey, keccak256
from quietfleet.errors import ChainError, RegistryError
from quietfleet.monitor import Band, band
from quietfleet.pipeline.project import find_project
from quietfleet.pipeline.runtime import Model, load_model
from quietfleet.session import GATEWAY, Event, LargeEnded, Opened, Received
from quietfleet.workers._anchoring import Anchoring
from quietfleet.workers._attestations import Attestations
from quietfleet.workers._autonomy import hear_head
from quietfleet.workers._handout import Handout
from quietfleet.workers._hearing import Hearing
from quietfleet.workers._host import log
from quietfleet.workers._intake import Intake, Judgement
from quietfleet.workers._models import Models
from quietfleet.workers._month import Month
from quietfleet.workers._personal import Personals
from quietfleet.workers._rollout import Rollout
from quietfleet.workers._rotation import prepare_for
from quietfleet.workers._runs import Runs
from quietfleet.workers._runtime import Runtime
from quietfleet.workers._site_watch import SiteWatch
from quietfleet.workers._state import State
from quietfleet.workers._surveys import Surveys
from quietfleet.workers._training import Folders, Trainer
from quietfleet.workers._triggers import Triggers
from quietfleet.workers.messages import (
    DriftReport,
    DriftVerdict,
    FetchRelease,
    HeadReport,
    MonitorReport,
    NoSuchRelease,
    NotYet,
    OutcomeHeard,
    PrepareEpoch,
    RecalibrationAttested,
    ReleaseBundle,
    ReleaseOutcome,
    Upload,
)

DAY = 86_400.0
JOB_PAUSE = 2.0  # seconds after a failed job
PATIENCE = 7 * DAY  # data time between two attempts to beat the champion


class Gateway:
    """The gateway's reactions; training and releasing run beside them, their results come back through the chain."""

    def __init__(self, runtime: Runtime, publisher: PrivateKey) -> None:
        self._runtime = runtime
        self._section = runtime.settings.gateway
        self._state = State(runtime.database)
        runtime.veiled = True  # whom it has to do with is told by no file of its own
        runtime.replica.seal(runtime.identity.to_bytes())
        runtime.wipe_soon()
        self._month = Month(runtime)
        self._channel = keccak256(self._section.channel.encode())
        self._models = Models(runtime, self._state, self._channel)
        self._registry = self._models.registry
        self._project = runtime.settings.path(str(find_project(self._section.project)))
        self._intake = Intake(runtime, self._state, self._month, self._project)
        self._personals = Personals(runtime, self._state, self._registry, self._intake)
        self._rollout = Rollout(runtime, self._state, publisher, self._channel)
        self._handout = Handout(runtime, self._state)
        self._anchoring = Anchoring(runtime, publisher)
        self._runs = Runs(runtime.database, runtime.random, retries=runtime.settings.runs.retries)
        self._runs.resume(now=runtime.clock.now())
        self._triggers = Triggers(runtime, self._state, self._runs, self._project)
        self._site_watch = SiteWatch(runtime, self._intake)
        self._hearing = Hearing(runtime, self._intake)
        self._surveys = Surveys(runtime, self._state, self._intake.veil.crowd)
        self._attestations = Attestations(runtime, self._intake.veil)
        self._folders = Folders(runtime, self._state, self._month.retention)
        self._trainer = Trainer(
            runtime=runtime,
            state=self._state,
            project=self._project,
            intake=self._intake,
            runs=self._runs,
            folders=self._folders,
            models=self._models,
            personals=self._personals,
            rollout=self._rollout,
            handout=self._handout,
            champion=self._champion,
        )
        self._triggers.start()
        self._jobs: set[asyncio.Task[None]] = set()
        self._model: Model | None = None
        self._begun = self._runs.open  # then one for the first model may wait already

    def admit(self, _peer: str, purpose: str) -> bool:
        """The chain has said already that it is a processor or a gateway."""
        return purpose == GATEWAY

    def on_event(self, event: Event) -> None:
        if isinstance(event, Received):
            self._hearing.came(event.peer)
        self._react(event)

    def _react(self, event: Event) -> None:
        match event:
            case Received(body=Upload()):
                self._triggers.stored(self._intake.take(event, event.body))
            case Received(body=FetchRelease()):
                self._serve(event, event.body)
            case Received(body=DriftReport()):
                self._judge(event, event.body)
            case Received(body=MonitorReport()) if self._is_processor(event.peer):
                self._told(event, event.body)
            case Received(body=RecalibrationAttested() | HeadReport()) if self._is_processor(event.peer):
                self._attested(event, event.body)
            case Received(body=PrepareEpoch()):
                prepare_for(self._runtime, event.peer, event.body)
            case Received(body=ReleaseOutcome()) if self._is_processor(event.peer):
                self._rollout.heard(event.peer, event.body.signed)
                self._runtime.messenger.reply(event, OutcomeHeard(event.body.signed.report.sequence))
            case LargeEnded(delivered=False):
                self._runtime.metrics.count("releases_undelivered")
            case Opened(purpose="gateway"):
                self._runtime.note("session-open", peer=self._runtime.trail.who(event.peer))

    def on_change(self, change: Change) -> None:
        if isinstance(change, ReleaseChanged) and change.channel == self._channel and change.release:
            self._anchored(change.release.sequence, change.release.manifest_hash)

    def on_tick(self) -> None:
        """Ask how the fleet's models do, and begin the runs that are due."""
        if self._runtime.registry.usable(self._runtime.id):
            self._surveys.tick(self._state.get("release", 0))
            self._triggers.tick()
            self._hearing.tick()

    async def after(self) -> None:
        """Erase what is over a month old, and start the job that is due: a step of a release, or a model."""
        await self._month.after()
        self._intake.after()
        self._handout.after()
        self._folders.erase()
        self._models.follow(self._release)
        if self._jobs or not self._runtime.registry.usable(self._runtime.id):
            return
        if run := self._runs.due(self._runtime.clock.now()):
            self._start(self._trainer.train(run.id))
        elif self._rollout.due:
            self._start(self._rollout.step())
        elif self._champion() is None and not self._runs.open and self._may_begin():
            self._start(self._trainer.train(self._runs.begin("first", {}, now=self._runtime.clock.now())))
        elif self._anchoring.due:
            self._start(self._anchoring.step())
        elif self._site_watch.due:
            self._start(self._site_watch.step())

    def recover(self) -> None:
        self._model = None
        self._handout.recover()
        self._models.recover()
        self._rollout.recover()

    def status(self) -> dict[str, Any]:
        return {
            "release": self._state.get("release", 0),
            "devices": self._intake.crowd(),
            "training": bool(self._jobs),
        }

    def _is_processor(self, peer: str) -> bool:
        known = self._runtime.replica.worker(peer)
        return known is not None and known.kind is Kind.PROCESSOR

    # drift

    def _judge(self, event: Received, report: DriftReport) -> None:
        """Hold a processor's report against every processor's devices of that place: who shares the drift decides."""
        current = self._state.get("release", 0)
        model = self._champion()
        if model is None or report.release != current or not report.drift:
            self._runtime.messenger.reply(event, DriftVerdict("outdated", {}))
            return
        found = self._intake.judge(event.peer, report, model.baseline)
        fleet = "retrain" if found.told.retrain else "wait"
        self._runtime.messenger.reply(event, DriftVerdict(fleet, dict(found.verdicts)))
        self._drifted(found)

    def _drifted(self, found: Judgement) -> None:
        if found.every.retrain and not self._runs.open and self._patient():
            self._state.set("attempted", self._runtime.data_clock.now())
            channels = found.every.shared or found.every.confirmed
            evidence = {"channels": list(channels), "at": found.at, **self._intake.evidence(found.every)}
            run = self._runs.begin("drift", {"found": evidence}, now=self._runtime.clock.now())
            self._runtime.note("drift-shared", run=run, **evidence)

    def _attested(self, event: Received, body: RecalibrationAttested | HeadReport) -> None:
        if isinstance(body, HeadReport):
            hear_head(self._runtime, event, body)
        else:
            self._attestations.take(event, body)

    def _told(self, event: Received, report: MonitorReport) -> None:
        """Take in how a processor's devices and model do, and train if that is a reason to."""
        release = self._state.get("release", 0)
        taken = self._surveys.take(event, report, release)
        model = self._champion()
        if taken is None or model is None:
            return
        told = report.signed.told
        drifting = any(band(percent) is not Band.FINE for one in told.drift.values() for percent in one.values())
        if told.release == release and drifting:
            self._drifted(
                self._intake.judge(event.peer, DriftReport(release, told.drift), model.baseline, doubts=False)
            )
        if taken and not self._runs.open and self._patient():
            self._state.set("attempted", self._runtime.data_clock.now())
            self._triggers.pull("performance", taken)

    def _may_begin(self) -> bool:
        """Try for a first model at every start, and then from time to time."""
        first, self._begun = not self._begun, True
        return first or self._patient()

    def _patient(self) -> bool:
        """Whether the last attempt to beat the champion is long enough ago."""
        attempted: float = self._state.get("attempted", 0.0)
        return self._runtime.data_clock.now() >= attempted + PATIENCE

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

    def _anchored(self, sequence: int, manifest_hash: bytes) -> None:
        """The chain opens a release to devices: find it in the registry and make it champion."""
        known = self._state.get(f"manifest:{manifest_hash.hex()}")
        if known is None or not self._models.holds(known):
            self._runtime.note("release-unknown" if known is None else "release-pruned", sequence=sequence)
            return
        self._state.set(f"release:{sequence}", known)
        self._state.set("release", sequence)
        self._model = None
        self._models.opened(known, sequence)
        self._intake.believe()
        self._runtime.note("anchored", sequence=sequence, version=known, manifest=manifest_hash.hex())

    def _release(self, version: int, manifest_hash: bytes) -> None:
        """Have released what two persons promoted to production."""
        self._rollout.submit(manifest_hash, self._personals.given(manifest_hash), asked=True)
        self._handout.shelve(version, self._registry.get(self._section.channel, version).artifact)

    def _serve(self, event: Received, request: FetchRelease) -> None:
        """Hand a processor what is meant for it: the model of its own place, once its wave is open."""
        ours = request.channel == self._section.channel and self._is_processor(event.peer)
        found = self._rollout.ticket(event.peer, request.sequence) if ours else None
        kept = self._kept(found[0].manifest_hash) if found else None
        if found is None or kept is None:
            self._runtime.messenger.reply(event, NoSuchRelease(request.sequence))
            return
        ticket, opened = found
        if not opened:
            self._runtime.messenger.reply(event, NotYet(request.sequence))
            return
        place, manifest, payload = kept
        bundle = ReleaseBundle(request.sequence, ticket, manifest, payload)
        self._handout.answer(event, request, place, bundle)

    def _kept(self, manifest_hash: bytes) -> tuple[int, bytes, bytes] | None:
        """Return a model's place on the shelf, its manifest and its artefacts: somebody's own, or everybody's."""
        version = self._state.get(f"manifest:{manifest_hash.hex()}")
        if version is None:
            return self._personals.find(manifest_hash)
        try:
            kept = self._registry.get(self._section.channel, version)
        except RegistryError:  # it was pruned
            return None
        return version, kept.manifest, kept.artifact

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
