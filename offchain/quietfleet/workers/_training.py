"""One try of a run: fits in a folder of its own, so that what a crash or a fault left is not done twice.

The folder is named by the run. A try that finds the very same rows goes on with the scores found before; where readings
came or went since, it begins anew. What is left after it names devices, and goes with the readings it was learned from.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from quietfleet.pipeline.project import load_project

if TYPE_CHECKING:
    from quietfleet.pipeline.lineage import SaltKeeper
    from quietfleet.pipeline.run import Candidate
    from quietfleet.pipeline.runtime import Model
    from quietfleet.settings import PipelineSection
    from quietfleet.storage import DeviceDay
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

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
