"""A sensor tells its processor, now and then, how it does itself: its machine, its queue, its link (paper V-D)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, Protocol

from quietfleet.clock import waits
from quietfleet.workers._hardware import Hardware
from quietfleet.workers.messages import MOST_SAMPLES, Telemetry

if TYPE_CHECKING:
    from quietfleet.workers._runtime import Runtime

KEPT: Final = 48  # samples while nobody is there to be told; the oldest go first
_SCHEMA: Final = ["CREATE TABLE telemetry (at REAL PRIMARY KEY, figures TEXT NOT NULL) STRICT"]


class Machine(Protocol):
    """Anything that can be asked for its figures."""

    def sample(self) -> Mapping[str, float]:
        """Return figures by channel."""


class Teller:
    """Samples and tells, in the caller's transaction; what was lost with its message is not said again."""

    def __init__(self, runtime: Runtime, machine: Machine | None = None) -> None:
        self._runtime = runtime
        self._every = runtime.settings.sensor.telemetry_every
        self._machine = machine or Hardware(Path("/"), runtime.folder)
        self._due = 0.0
        self._asked, self._answered = 0, 0  # since the last sample
        self._since: float | None = None
        self._trips: list[float] = []
        runtime.database.migrate("telemetry", _SCHEMA)

    def asked(self) -> None:
        """Count a question."""
        self._asked += 1
        self._since = self._runtime.clock.now()

    def answered(self) -> None:
        """Count an answer, and how long it took."""
        self._answered += 1
        if self._since is not None:
            self._trips.append(max(0.0, self._runtime.clock.now() - self._since))
            self._since = None

    def tick(self, processor: str | None, waiting: Callable[[], int]) -> None:
        """Sample if it is time, with how many readings wait, and tell the processor if there is one."""
        now = self._runtime.clock.now()
        if not self._every or waits(now, self._due, self._every):
            return
        self._due = now + self._every
        figures = {**self._machine.sample(), "queue": float(waiting()), **self._link()}
        execute = self._runtime.database.execute
        execute("INSERT OR REPLACE INTO telemetry VALUES (?, ?)", (now, json.dumps(figures)))
        if processor is None:
            oldest = "SELECT at FROM telemetry ORDER BY at DESC LIMIT 1 OFFSET ?"
            execute(f"DELETE FROM telemetry WHERE at <= ({oldest})", (KEPT,))  # noqa: S608 - our own words
            return
        rows = execute("SELECT at, figures FROM telemetry ORDER BY at LIMIT ?", (MOST_SAMPLES,)).fetchall()
        execute("DELETE FROM telemetry WHERE at <= ?", (rows[-1][0],))
        self._runtime.messenger.notify(processor, Telemetry([(at, json.loads(text)) for at, text in rows]))

    def _link(self) -> dict[str, float]:
        """What became of questions since the last sample; of none nothing is said."""
        asked, answered, trips = self._asked, self._answered, self._trips
        self._asked, self._answered, self._trips = 0, 0, []
        if not asked:
            return {}
        found = {"link": min(1.0, answered / asked)}
        return found | ({"rtt": round(median(trips), 3)} if trips else {})
