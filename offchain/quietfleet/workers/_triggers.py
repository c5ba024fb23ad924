"""What makes a gateway train beside a drift and a person: time, new readings, new code, and a model that does badly."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from quietfleet.workers._runs import Runs
    from quietfleet.workers._runtime import Runtime
    from quietfleet.workers._state import State

DAY: Final = 86_400.0
_SINCE: Final = "runs:since"  # data time of the last run that came of time, or of the first look
_ROWS: Final = "runs:rows"  # readings stored since the last run that came of their number
_CODE: Final = "runs:code"
_BUILT_OF: Final = ("quietfleet", "scikit-learn", "numpy", "skl2onnx")


class Triggers:
    """Begins runs when something is due; in the caller's transaction, and noted with the run's id."""

    def __init__(self, runtime: Runtime, state: State, runs: Runs, project: Path) -> None:
        self._runtime = runtime
        self._state = state
        self._runs = runs
        self._section = runtime.settings.runs
        self._project = project

    def start(self) -> None:
        """See at the start of a gateway whether it has other code than at its last: a project is read only then."""
        code, before = self._code(), self._state.get(_CODE)
        if not code or code == before:
            return
        with self._runtime.database.transaction():
            self._state.set(_CODE, code)
            if before is not None:
                self.pull("code", {"code": code, "before": before})

    def stored(self, rows: int) -> None:
        """Count new readings."""
        if self._section.volume_rows and rows:
            self._state.set(_ROWS, self._state.get(_ROWS, 0) + rows)

    def tick(self) -> None:
        """Begin what time or the number of new readings makes due."""
        today = self._runtime.data_clock.now()
        since: float | None = self._state.get(_SINCE)
        if self._section.schedule_days and (since is None or today >= since + self._section.schedule_days * DAY):
            self._state.set(_SINCE, today)
            if since is not None:
                self.pull("schedule", {"days": self._section.schedule_days})
        rows: int = self._state.get(_ROWS, 0)
        if 0 < self._section.volume_rows <= rows:
            self._state.set(_ROWS, 0)
            self.pull("volume", {"rows": rows})

    def pull(self, trigger: str, evidence: dict[str, Any]) -> str:
        """Have a run wait for this reason; returns its id."""
        run = self._runs.begin(trigger, {"found": evidence}, now=self._runtime.clock.now())
        self._runtime.note("run-triggered", run=run, trigger=trigger, **evidence)
        return run

    def _code(self) -> str:
        """SHA-256 (hex) of the project's file and what it is built with; empty while it cannot be read."""
        made = hashlib.sha256()
        try:
            made.update(self._project.read_bytes())
        except OSError:
            return ""
        for name in _BUILT_OF:
            made.update(f"\0{name} {_version(name)}".encode())
        return made.hexdigest()


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
