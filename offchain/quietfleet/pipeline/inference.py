"""Where models run: in this process, or in one of their own that may die without taking the worker along.

That process has no keys, no network and no files, and so much memory and time. A model that ends it is told from one
that only was there: who asked last is to blame. It comes up anew with every model that is in use; what is asked
meanwhile finds no forecast, at once, rather than a worker that waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from quietfleet.clock import waits
from quietfleet.errors import ModelFailed, ModelRejected, NoForecast
from quietfleet.pipeline._forecaster_process import PROGRAM, Process
from quietfleet.pipeline.forecaster_wire import Answer, Drop, EachValue, Failed, Load, Ready, Run, RunEach, Values
from quietfleet.pipeline.runtime import Runner

START_WITHIN: Final = 30.0  # seconds; a machine may be busy
LOAD_WITHIN: Final = 60.0
RUN_WITHIN: Final = 2.0  # seconds that a forecast may be away, on a machine that is busy with other things
RUN_BRIEFLY: Final = 0.25  # seconds after which a model that works on is given as many of the processor, and no more
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0  # seconds between an end and the next start
_MANY: Final = 1024  # rows more than which may take longer
_SAID: Final = 3  # numbers, at most, that are said of one row: its value, and where it stands if it failed

Rows = npt.NDArray[np.float32]


class Inference(Protocol):
    """What opens models, and looks after where they run."""

    @property
    def apart(self) -> bool:
        """Whether to open a model may take long, and belongs into a thread."""

    def open(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Runner:
        """Check a model that came, and have it ready; `ModelRejected`, or `NoForecast` when that cannot be said now."""

    def restore(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Runner:
        """Have a model ready soon that was opened before, perhaps by an earlier process."""

    def keep(self, runners: Iterable[Runner]) -> None:
        """Forget all other models."""

    def tick(self) -> list[str]:
        """Do what is due, and return why the models' process ended since last time, once for each time."""

    def refused(self, runner: Runner) -> str:
        """Say why a restored model is none any more; empty as long as it is one."""

    def state(self) -> str:
        """Say how it is, for a status."""

    def close(self) -> None:
        """Stop for good."""


class Inline:
    """Models run in this process: for many workers in one, and for tools."""

    apart: Final = False

    def open(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Runner:
        from quietfleet.pipeline.sessions import open_sessions  # noqa: PLC0415 - the runtime takes 20 MB

        return open_sessions(artifact, personal, width)

    def restore(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Runner:
        return self.open(artifact, personal, width)

    def keep(self, runners: Iterable[Runner]) -> None:
        """A session goes with its model."""

    def tick(self) -> list[str]:
        return []

    def refused(self, runner: Runner) -> str:  # noqa: ARG002 - what is here was checked
        return ""

    def state(self) -> str:
        return "inline"

    def close(self) -> None:
        """There is nothing to stop."""


@dataclass(slots=True, eq=False)
class Remote:
    """A model in the other process; `refused` once that would not have it any more."""

    _home: Apart
    number: int
    width: int
    artifact: bytes
    own: Mapping[str, bytes]
    refused: str = ""

    @property
    def personal(self) -> frozenset[str]:
        return frozenset(self.own)

    def run(self, rows: Rows, device: str | None) -> Rows:
        return self._home.run(self, rows, device)

    def run_each(self, rows: Rows, devices: Sequence[str | None]) -> tuple[Rows, list[int]]:
        return self._home.run_each(self, rows, devices)


class Apart:
    """Models run in a process of their own, which is started at the first of them.

    `memory` is how many bytes it may take for models, `pause` how many seconds of `clock` to wait after it
    ended.
    """

    apart: Final = True

    def __init__(
        self,
        memory: int,
        pause: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
        run_within: float = RUN_WITHIN,
        load_within: float = LOAD_WITHIN,
        program: Sequence[str] = PROGRAM,
    ) -> None:
        self._memory, self._pause, self._clock = memory, pause, clock
        self._run_within, self._load_within = run_within, load_within
        self._program = program
        self._numbers = count(1)
        self.took = 0
        """Nanoseconds that the last forecast took there."""
        self._models: dict[int, Remote] = {}
        self._process: Process | None = None
        self._loading = threading.Lock()  # who holds it uses the line of models
        self._ends: list[str] = []
        self._due = 0.0
        self._closed = False
        self._revival: threading.Thread | None = None

    @property
    def pid(self) -> int | None:
        """The process that is up, if one is."""
        return self._process.pid if self._process else None

    def open(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Remote:
        model = Remote(self, next(self._numbers), width, artifact, personal)
        with self._loading:
            process = self._process or self._begin()
            self._fill(process)
            self._load(process, model)
        self._models[model.number] = model
        return model

    def restore(self, artifact: bytes, personal: Mapping[str, bytes], width: int) -> Remote:
        model = Remote(self, next(self._numbers), width, artifact, personal)
        self._models[model.number] = model
        self._revive()
        return model

    def run(self, model: Remote, rows: Rows, device: str | None) -> Rows:
        """Forecast rows [n, features] → [n].

        Raises `NoForecast` while the process, or the model in it, is not up, and `ModelFailed` if that ended it.
        """
        plain = np.ascontiguousarray(rows, dtype="<f4")
        request = Run(model.number, device or "", len(plain), plain.tobytes())
        answer = self._asked(self._home_of(model), request, len(plain))
        if not isinstance(answer, Values) or len(answer.values) != 4 * len(plain):
            raise _unanswered(answer)
        self.took = answer.took
        return np.frombuffer(answer.values, dtype="<f4")

    def run_each(self, model: Remote, rows: Rows, devices: Sequence[str | None]) -> tuple[Rows, list[int]]:
        """Forecast a row for each device [n, features] → [n], asked at once, and the places of those that failed.

        Raises what `run` does: then nobody has a forecast.
        """
        plain = np.ascontiguousarray(rows, dtype="<f4")
        request = RunEach(model.number, [device or "" for device in devices], plain.tobytes())
        answer = self._asked(self._home_of(model), request, len(plain))
        if not isinstance(answer, EachValue) or len(answer.values) != 4 * len(plain):
            raise _unanswered(answer)
        if any(place >= len(plain) for place in answer.failed):
            raise _unanswered(answer)
        self.took = answer.took
        return np.frombuffer(answer.values, dtype="<f4"), answer.failed

    def _home_of(self, model: Remote) -> Process:
        process = self._process
        if process is None or model.number not in process.loaded:
            raise NoForecast
        return process

    def keep(self, runners: Iterable[Runner]) -> None:
        before = self._models.keys()
        self._models = {runner.number: runner for runner in runners if isinstance(runner, Remote)}
        process = self._process
        if process is None:
            return
        for number in (before - self._models.keys()) & process.loaded:
            process.loaded.discard(number)
            with suppress(NoForecast):
                self._asked(process, Drop(number), 0)

    def tick(self) -> list[str]:
        process = self._process
        if process is not None and not process.alive:
            self._ended(process, "died")
        if not self._complete and not waits(self._clock(), self._due, LONGEST_PAUSE):
            self._revive()
        ends, self._ends = self._ends, []
        return ends

    def refused(self, runner: Runner) -> str:
        return runner.refused if isinstance(runner, Remote) else ""

    def state(self) -> str:
        if self._process is None:
            return "down" if self._models else "idle"
        return "up" if self._complete else "starting"

    @property
    def _complete(self) -> bool:
        loaded = self._process.loaded if self._process else set()
        return all(model.number in loaded or model.refused for model in self._models.values())

    def close(self) -> None:
        self._closed = True
        process, self._process = self._process, None
        if process is not None:
            process.end()
        if self._revival is not None:
            self._revival.join(START_WITHIN)

    # starting

    def _revive(self) -> None:
        """Start the process if there is none, from this thread, with which it ends; its models come from another."""
        if self._closed or not self._loading.acquire(blocking=False):
            return  # somebody is at it
        try:
            process = self._process or self._begin()
        except NoForecast:
            self._loading.release()
            return
        self._revival = threading.Thread(target=self._fill_apart, args=(process,), daemon=True)
        self._revival.start()

    def _fill_apart(self, process: Process) -> None:
        try:
            with suppress(NoForecast, ModelRejected):
                self._fill(process)
        finally:
            self._loading.release()

    def _begin(self) -> Process:
        """Start the process; NoForecast."""
        if self._closed:
            raise NoForecast
        try:
            self._process = Process(self._memory, self._program)
        except OSError as error:
            self._later(f"does not start: {type(error).__name__}")
            raise NoForecast from error
        return self._process

    def _fill(self, process: Process) -> None:
        """Have every model in use in there; one that is not taken any more is marked, one that ends it is too."""
        if not process.ready:
            self._greet(process)
        for model in list(self._models.values()):
            if model.number not in process.loaded and not model.refused:
                try:
                    self._load(process, model)
                except ModelRejected as error:
                    model.refused = str(error.args[0]) if error.args else "refused"
            if process is not self._process:
                raise NoForecast

    def _greet(self, process: Process) -> None:
        try:
            process.ready = isinstance(process.models.hear(START_WITHIN, 0), Ready)
        except (OSError, msgspec.MsgspecError) as error:
            self._ended(process, "does not start")
            raise NoForecast from error

    def _load(self, process: Process, model: Remote) -> None:
        """Load one; ModelRejected, also if it ends the process."""
        request = Load(model.number, model.width, model.artifact, dict(model.own))
        try:
            answer = process.models.ask(request, self._load_within, 0)
        except (OSError, msgspec.MsgspecError) as error:
            reason = "took too long to load a model" if isinstance(error, TimeoutError) else "died of loading a model"
            self._ended(process, reason)
            raise ModelRejected(f"the process for models {reason}") from error
        if isinstance(answer, Failed):
            raise ModelRejected(answer.why)
        process.loaded.add(model.number)

    # asking

    def _asked(self, process: Process, request: Run | RunEach | Drop, rows: int) -> Answer:
        """Ask, within the time there is; what ends the process is to blame unless something is being loaded there."""
        if not process.alive:
            self._ended(process, "died")
            raise NoForecast
        within = self._run_within * (1 + rows / _MANY)
        try:
            if self._loading.locked():  # the process has two things to do
                return process.runs.ask(request, within, rows * _SAID)
            brief = RUN_BRIEFLY * (1 + rows / _MANY)
            return process.runs.ask_soon(request, within, rows * _SAID, brief, process.spent)
        except (OSError, msgspec.MsgspecError) as error:
            innocent = self._loading.locked()
            self._ended(process, "took too long to forecast" if isinstance(error, TimeoutError) else "died")
            raise (NoForecast if innocent else ModelFailed)(type(error).__name__) from error

    def _ended(self, process: Process, reason: str) -> None:
        process.end()
        if self._process is process:
            self._process = None
            if not self._closed:
                self._later(reason)

    def _later(self, reason: str) -> None:
        self._due = self._clock() + self._pause()
        self._ends.append(reason)


def _unanswered(answer: Answer) -> ModelFailed:
    return ModelFailed(answer.why if isinstance(answer, Failed) else "its answer is none")
