"""What is measured, and on how large a fleet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from bench.dispatch.fleet import Fleet, Outcome

MIN_POW: Final = 0.2
ROOM: Final = 400.0  # envelopes a second from one link: what relays take where members pay no proof of work


@dataclass(frozen=True, slots=True)
class Cell:
    """One fleet and its load: `about` is what the tables call it, `terms` those of its `Plan`, times in seconds.

    Without an outcome, the fleet did not come up in time.
    """

    table: str
    about: str
    terms: dict[str, Any]
    seconds: float
    warming: float
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured; `rounds` are those of the core alone."""

    rounds: int
    cells: Sequence[Cell] = field(default_factory=tuple)


NO_STEMS: Final = "work waived, no stems"
MANY: Final = {"workers": 120, "beat": 0.5}  # a deal through stems takes ten seconds: fewer would not fill the oracle
PRICED: Final = {"min_pow": MIN_POW, "quota": ROOM}
WAIVED: Final = {"min_pow": 0.0, "quota": ROOM}


def _scaling(replicas: int, workers: int, seconds: float, beat: float) -> Cell:
    terms = WAIVED | {"replicas": replicas, "workers": workers, "stem": "off", "beat": beat}
    return Cell("scaling", f"{replicas} replicas, {workers} workers", terms, seconds, seconds)


FULL: Final = Scale(
    4,
    (
        Cell("deals", "least work 0.2, usual relays", MANY | {"min_pow": MIN_POW}, 20.0, 15.0),
        Cell("deals", "least work 0.2, relays with room", MANY | PRICED, 20.0, 15.0),
        Cell("deals", "work waived, relays with room", MANY | WAIVED, 20.0, 15.0),
        Cell("deals", NO_STEMS, WAIVED | {"workers": 60, "stem": "off", "parts": True}, 20.0, 5.0),
        Cell("latency", "with onion routing", WAIVED | {"workers": 12, "whole": True}, 45.0, 10.0),
        Cell("latency", "without", WAIVED | {"workers": 12, "whole": True, "stem": "off"}, 15.0, 5.0),
        _scaling(1, 10, 10.0, 0.2),
        _scaling(1, 100, 10.0, 0.5),
        _scaling(1, 300, 15.0, 1.0),
        _scaling(2, 100, 10.0, 0.5),
        _scaling(4, 100, 10.0, 0.5),
        _scaling(1, 1_000, 20.0, 2.0),
    ),
)
QUICK: Final = Scale(
    1,
    (
        Cell("deals", NO_STEMS, WAIVED | {"workers": 10, "stem": "off", "parts": True}, 6.0, 3.0),
        Cell("latency", "with onion routing", WAIVED | {"workers": 6, "whole": True}, 15.0, 8.0),
    ),
)


class Bench:
    """Runs one fleet after the other."""

    def __init__(self, scale: Scale, progress: Callable[[str], object]) -> None:
        self._scale, self._progress = scale, progress

    async def cells(self) -> list[Cell]:
        """Return all cells with what came of them."""
        return [await self._run(cell) for cell in self._scale.cells]

    async def _run(self, cell: Cell) -> Cell:
        self._progress(f"{cell.table}: {cell.about} …")
        outcome = None
        with suppress(TimeoutError):  # this machine does not carry so many: the others are worth having
            async with Fleet.running(**cell.terms) as fleet:
                outcome = await fleet.load(cell.seconds, cell.warming)
        return Cell(cell.table, cell.about, cell.terms, cell.seconds, cell.warming, outcome)
