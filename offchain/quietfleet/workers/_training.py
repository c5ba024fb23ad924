"""One try of a run: fits in a folder of its own, so that what a crash or a fault left is not done twice.

The folder is named by the run. A try that finds the very same rows goes on with the scores found before; where readings
came or went since, it begins anew. What is left after it names devices, and goes with the readings it was learned from.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from quietfleet.errors import PipelineError, StorageError
from quietfleet.pipeline.decision import Decision, decide
from quietfleet.pipeline.project import load_project
from quietfleet.workers._history import read_history

if TYPE_CHECKING:
    from quietfleet.pipeline.lineage import SaltKeeper
    from quietfleet.pipeline.run import Candidate
    from quietfleet.pipeline.runtime import Model
    from quietfleet.settings import PipelineSection
    from quietfleet.storage import DeviceDay
    from quietfleet.workers._handout import Handout
    from quietfleet.workers._intake import Intake
    from quietfleet.workers._models import Models
    from quietfleet.workers._personal import Personals
    from quietfleet.workers._rollout import Rollout
    from quietfleet.workers._runs import Runs
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

ENOUGH: Final = 30 * 24  # readings; with fewer, the first model is trained on the history
SALTS_WITHIN: Final = 60.0  # seconds in which the loop draws the salts of a run
_FOLDER: Final = "runs:folder:"


@dataclass(frozen=True, slots=True)
class Task:
    """What a run is made of; `champion` is in production as release `parent`, `salts` lie beside the rows."""

    project: Path
    folder: Path
    rows: list[tuple[str, float, dict[str, float]]]
    sites: dict[str, str]
    seed: int
    now: float
    champion: Model | None
    parent: int
    workers: PipelineSection
    salts: SaltKeeper | None
    random: Callable[[int], bytes]


def fit(task: Task) -> Candidate:
    """Learn, in a thread; raises a `PipelineError` naming the step, or a `StorageError` when the disk takes nothing."""
    from quietfleet.pipeline.ingest import ingest  # noqa: PLC0415 - scikit-learn takes seconds: never in the loop
    from quietfleet.pipeline.run import learn  # noqa: PLC0415
    from quietfleet.pipeline.run_folder import RunFolder  # noqa: PLC0415

    project = load_project(task.project)
    dataset = ingest(task.rows, project, sites=task.sites)
    folder = RunFolder(task.folder, project, dataset, task.seed, random=task.random, keeper=task.salts)
    candidate = learn(
        dataset,
        project,
        seed=task.seed,
        now=task.now,
        champion=task.champion,
        parent=task.parent or None,
        memory=folder,
        jobs=task.workers.jobs,
        dask=task.workers.dask,
    )
    folder.finish(candidate)
    return candidate


def told_apart(rows: Sequence[tuple[str, float, dict[str, float]]]) -> dict[str, Any]:
    """Say for the record how well the newest week is told from those before, and by which channels."""
    from quietfleet.monitor.separability import separability  # noqa: PLC0415 - scikit-learn, as above

    by_device: dict[str, list[tuple[float, dict[str, float]]]] = {}
    for device, at, fields in rows:
        by_device.setdefault(device, []).append((at, fields))
    newest = max((at for _, at, _ in rows), default=0.0)
    found = separability(by_device, now=newest + 1)
    return {} if found is None else {"separability": found.percent, "by": list(found.channels)}


class Folders:
    """The folders of a gateway's runs, and when they go."""

    def __init__(self, runtime: Runtime, state: State, retention: float) -> None:
        self._runtime = runtime
        self._state = state
        self._retention = retention
        self._root = runtime.folder / "runs"

    def begin(self, run: str) -> Path:
        """Return a run's folder; from now on it is known to be there, and until when."""
        with self._runtime.database.transaction():
            self._state.set(_FOLDER + run, self._runtime.data_clock.now())
        return self._root / run

    def erase(self) -> None:
        """Remove the folders of runs whose newest rows have left the store; one that cannot go now goes later."""
        until = self._runtime.data_clock.now() - self._retention
        for name, at in self._state.starting(_FOLDER).items():
            folder = self._root / name.removeprefix(_FOLDER)
            if at > until:
                continue
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                with self._runtime.database.transaction():
                    self._state.set(name, None)


class Across:
    """A keeper of salts for a thread: the database belongs to the loop, which is asked to look there."""

    def __init__(self, keeper: SaltKeeper, runtime: Runtime) -> None:
        self._keeper = keeper
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()

    def make(self, wanted: Iterable[DeviceDay]) -> Mapping[DeviceDay, bytes]:
        """Return the salts of these, those that are not there drawn and kept."""
        return self._ask(lambda: self._keeper.make(wanted))

    def read(self, wanted: Iterable[DeviceDay]) -> Mapping[DeviceDay, bytes]:
        """Return those that are still kept."""
        return self._ask(lambda: self._keeper.read(wanted))

    def _ask(self, look: Callable[[], Mapping[DeviceDay, bytes]]) -> Mapping[DeviceDay, bytes]:
        found: Future[Mapping[DeviceDay, bytes]] = Future()

        def answer() -> None:
            try:
                with self._runtime.database.transaction():
                    salts = look()
                found.set_result(salts)
            except BaseException as error:  # noqa: BLE001 - it is the thread's
                found.set_exception(error)

        self._loop.call_soon_threadsafe(answer)
        return found.result(SALTS_WITHIN)


@dataclass(frozen=True, slots=True)
class Trainer:
    """Makes a version of a run, and has it released when it beats the champion; `champion` tells which that is."""

    runtime: Runtime
    state: State
    project: Path
    intake: Intake
    runs: Runs
    folders: Folders
    models: Models
    personals: Personals
    rollout: Rollout
    handout: Handout
    champion: Callable[[], Model | None]

    async def train(self, run: str) -> None:
        """Let a run have a try; one that fails is tried again where that may help."""
        self.runs.start(run)
        try:
            await self._try(run)
        except (PipelineError, StorageError, OSError) as error:
            now, again = self.runtime.clock.now(), not isinstance(error, PipelineError)
            with self.runtime.database.transaction():
                state = self.runs.fail(run, str(error), now=now, again=again)
                self.state.set("attempted", self.runtime.data_clock.now())
                self.runtime.note("training-failed", run=run, reason=str(error), state=state)

    async def _try(self, run: str) -> None:
        champion = self.champion()
        parent: int = self.state.get("release", 0)
        rows, ours = self._training_rows()
        ends: dict[str, float] = {}
        for device, at, _ in rows:
            ends[device] = max(at, ends.get(device, at))
        restarts = {device: at for device, at in self.intake.restarts().items() if ours and device in ends}
        apart = await asyncio.to_thread(told_apart, rows) if ours and len(ends) >= self.intake.k else {}
        self.runtime.note(
            "training",
            run=run,
            rows=len(rows),
            parent=parent,
            newest=ends,
            **({"recalibrated": restarts} if restarts else {}),
            **apart,
        )
        task = Task(
            project=self.project,
            folder=self.folders.begin(run),
            rows=rows,
            sites=self.intake.sites(),
            seed=self.runtime.settings.gateway.seed,
            now=self.runtime.clock.now(),
            champion=champion,
            parent=parent,
            workers=self.runtime.settings.pipeline,
            salts=Across(self.intake.salts, self.runtime) if ours else None,
            random=os.urandom,
        )
        candidate = await asyncio.to_thread(fit, task)
        self.consider(candidate, run)

    def _training_rows(self) -> tuple[list[tuple[str, float, dict[str, float]]], bool]:
        """The month's veiled readings, or before there are any what the operator brought; and whether they are ours."""
        month = self.intake.readings(why="training")
        kept = [(device, at, fields) for device, rows in month.items() for at, fields in rows]
        if self.champion() is not None or len(kept) >= ENOUGH:
            return kept, True
        path = self.runtime.settings.path(self.runtime.settings.gateway.history)
        return read_history(path, self.runtime.settings.gateway.history_until), False

    def consider(self, candidate: Candidate, run: str) -> None:
        """Register a candidate, and have it released when it beats the champion."""
        evaluation = candidate.evaluation
        decision = decide(evaluation.rmse, evaluation.champion_rmse)
        if decision.deploy and not self.handout.carries(candidate.artifact):
            size = len(candidate.artifact)
            decision = Decision(deploy=False, reason=f"{size} bytes reach no processor without [storage] shelf")
        now, now_in_data = self.runtime.clock.now(), self.runtime.data_clock.now()
        with self.runtime.database.transaction():
            version = self.models.registry.register(
                self.runtime.settings.gateway.channel, candidate.manifest, candidate.artifact, at=now, run=run
            )
            self.models.trained(version, decision.reason, deploy=decision.deploy)
            self.state.set(f"manifest:{candidate.manifest_hash.hex()}", version)
            outcome = {"version": version, "manifest": candidate.manifest_hash.hex(), "deploy": decision.deploy}
            self.runs.finish(run, {**outcome, "reason": decision.reason}, now=now)
            self.state.set("attempted", now_in_data)
            if candidate.personal is not None:
                self.personals.keep(candidate.manifest, candidate.artifact, candidate.personal, run=run)
            if decision.deploy:
                self.rollout.submit(candidate.manifest_hash, self.personals.given(candidate.manifest_hash))
                self.handout.shelve(version, candidate.artifact)
            self.runtime.note(
                "trained",
                run=run,
                version=version,
                rmse=round(evaluation.rmse, 3),
                deploy=decision.deploy,
                reason=decision.reason,
                champion_rmse=evaluation.champion_rmse,
                dataset=candidate.report.get("dataset"),
            )
