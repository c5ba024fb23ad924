"""The gateway's training runs: why each was begun, how often it was tried, and what became of it.

A run waits, is tried, and ends. While one is under way further triggers wait together as one run, with the evidence of
each. A try that met a fault of this machine, or a crash, is made again, later each time; bad data fails at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from quietfleet.errors import PipelineError

if TYPE_CHECKING:
    from quietfleet.storage import Database

RETRIES: Final = 3  # tries after the first
BACKOFF: Final = 60.0  # seconds to the second try, twice as long to each further one
MOST_EVIDENCE: Final = 64  # triggers of one run whose evidence is kept
_TABLE: Final = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, state TEXT NOT NULL, tries INTEGER NOT NULL,
    due REAL NOT NULL, begun REAL NOT NULL, ended REAL, evidence TEXT NOT NULL, outcome TEXT NOT NULL
) STRICT
"""
_COLUMNS: Final = "id, state, tries, due, begun, ended, evidence, outcome"


class RunState(StrEnum):
    """How a run stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Run:
    """One run; times are Unix seconds, `evidence` has one entry a trigger, `outcome` what came of it."""

    id: str
    state: RunState
    tries: int
    due: float
    begun: float
    ended: float | None
    evidence: list[dict[str, Any]]
    outcome: dict[str, Any]

    def told(self) -> dict[str, Any]:
        """As plain values, for programs."""
        return {name: getattr(self, name) for name in _COLUMNS.split(", ")}


class Runs:
    """The ledger of one channel's runs, in the gateway's database."""

    def __init__(self, database: Database, random: Callable[[int], bytes], *, retries: int = RETRIES) -> None:
        self._database = database
        self._random = random
        self._retries = retries
        database.migrate("runs", [_TABLE])

    def begin(self, trigger: str, evidence: dict[str, Any], *, now: float) -> str:
        """Have a run wait, or add to the one that waits; returns its id."""
        line = {"trigger": trigger, "at": now, **evidence}
        with self._database.transaction():
            if waiting := self._first(RunState.WAITING):
                kept = [*waiting.evidence, line][:MOST_EVIDENCE]
                self._set(waiting.id, evidence=json.dumps(kept))
                return waiting.id
            run = self._random(8).hex()
            self._database.execute(
                f"INSERT INTO runs ({_COLUMNS}) VALUES (?, ?, 0, ?, ?, NULL, ?, '{{}}')",  # noqa: S608 - our own names
                (run, RunState.WAITING, now, now, json.dumps([line])),
            )
            return run

    @property
    def open(self) -> bool:
        """Whether a run waits or is under way."""
        return self._first(RunState.WAITING) is not None or self._first(RunState.RUNNING) is not None

    def due(self, now: float) -> Run | None:
        """Return the run to try now; None while another is under way, or it is too early."""
        waiting = self._first(RunState.WAITING)
        if waiting is None or waiting.due > now or self._first(RunState.RUNNING) is not None:
            return None
        return waiting

    def start(self, run: str) -> None:
        """Count a try before it is made, so that a crash in it is counted too."""
        with self._database.transaction():
            self._database.execute("UPDATE runs SET state = ?, tries = tries + 1 WHERE id = ?", (RunState.RUNNING, run))

    def finish(self, run: str, outcome: dict[str, Any], *, now: float) -> None:
        """Keep what came of it."""
        self._end(run, RunState.DONE, outcome, now)

    def fail(self, run: str, error: str, *, now: float, again: bool) -> RunState:
        """Keep why a try failed; with `again` it is made anew, unless it was the last."""
        with self._database.transaction():
            one = self.get(run)
            if again and one.tries <= self._retries:
                later = now + BACKOFF * 2 ** (one.tries - 1)
                self._set(run, state=RunState.WAITING, due=later, outcome=json.dumps({"error": error}))
                self._join(run)
                return RunState.WAITING
            self._end(run, RunState.FAILED, {"error": error}, now)
            return RunState.FAILED

    def cancel(self, run: str, who: str, *, now: float) -> None:
        """Cancel a run that waits; `PipelineError` when it does not."""
        with self._database.transaction():
            if self.get(run).state is not RunState.WAITING:
                raise PipelineError(f"run {run} does not wait any more: it is {self.get(run).state}")
            self._end(run, RunState.CANCELLED, {"who": who}, now)

    def resume(self, *, now: float) -> None:
        """After a start: what was under way met a crash, and is tried again, at once, or given up."""
        while (cut := self._first(RunState.RUNNING)) is not None:
            self.fail(cut.id, "the gateway stopped in the middle of it", now=now, again=True)
        if waiting := self._first(RunState.WAITING):
            self._set(waiting.id, due=now)

    def get(self, run: str) -> Run:
        """Return a run; `PipelineError` when there is none."""
        row = self._database.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run,)).fetchone()  # noqa: S608
        if row is None:
            raise PipelineError(f"there is no run {run}")
        return _run(row)

    def all(self) -> list[Run]:
        """Return every run, oldest first."""
        rows = self._database.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY number").fetchall()  # noqa: S608
        return [_run(row) for row in rows]

    def _join(self, run: str) -> None:
        """Take what waited meanwhile into a run that waits again."""
        one = self.get(run)
        others = [other for other in self.all() if other.state is RunState.WAITING and other.id != run]
        for other in others:
            kept = [*one.evidence, *other.evidence][:MOST_EVIDENCE]
            self._set(run, evidence=json.dumps(kept))
            self._end(other.id, RunState.CANCELLED, {"joined": run}, other.begun)

    def _first(self, state: RunState) -> Run | None:
        query = f"SELECT {_COLUMNS} FROM runs WHERE state = ? ORDER BY number LIMIT 1"  # noqa: S608 - our own names
        row = self._database.execute(query, (state,)).fetchone()
        return _run(row) if row else None

    def _end(self, run: str, state: RunState, outcome: dict[str, Any], now: float) -> None:
        with self._database.transaction():
            self._set(run, state=state, ended=now, outcome=json.dumps(outcome))

    def _set(self, run: str, **values: Any) -> None:
        names = ", ".join(f"{name} = ?" for name in values)
        self._database.execute(f"UPDATE runs SET {names} WHERE id = ?", (*values.values(), run))  # noqa: S608


def _run(row: tuple[Any, ...]) -> Run:
    run, state, tries, due, begun, ended, evidence, outcome = row
    return Run(run, RunState(state), tries, due, begun, ended, json.loads(evidence), json.loads(outcome))
