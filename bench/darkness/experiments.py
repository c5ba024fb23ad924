"""What is run and asked: one function for each table, on runs that are recorded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from bench.darkness import trial
from bench.darkness.intersection import Intersection
from bench.darkness.packets import Bools
from bench.darkness.trial import Correlation, FirstSpied
from bench.darkness.world import Run, Shape, Spec, Strategy, record

from quietfleet.mixnet import loads
from quietfleet.network import StemTuning

AT: Final = 0.20  # the fraction of spies that the goals speak of
SHARES: Final = (0.05, 0.10, 0.15, AT, 0.30, 0.40, 0.50)
COUNTS: Final = (1, 10, 100)
PLAIN: Final = (Strategy.WHISPER, Strategy.DIFFUSION, Strategy.DANDELION)
RATES: Final = (0.5, 1.0, 2.0, 4.0)
DELAYS: Final = (0.2, 0.4)
MINUTE: Final = 60
LATE: Final = 5.0  # seconds from writing to flood: it was sent more than once
_TUNED: Final = ("timing R", "timing D", "bits left", "p50 s", "worker sends B/s")
GOALS: Final = {"recall": 0.05, "precision": 0.02, "droppers": 0.10, "seconds": 1.5}

Table = dict[str, Any]
Say = Callable[[str], Callable[[float], None]]


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is run; the full one is what is reported."""

    fleet: Shape
    full_nodes: Shape
    equals: Shape
    small: Shape
    others: tuple[Shape, ...] = ()
    plain_senders: int = 100
    seconds: float = 50.0
    sweep_seconds: float = 10.0
    sets: int = 200
    senders: int = 60
    dropper_sets: int = 1
    sweep: bool = True


FULL: Final = Scale(
    fleet=Shape(20, 200, worker_dials=2),
    full_nodes=Shape(20, 200),
    equals=Shape(200, 0),
    small=Shape(10, 40, worker_dials=2),
    others=(Shape(100, 100, worker_dials=2), Shape(40, 160, worker_dials=2)),
)
QUICK: Final = Scale(
    fleet=Shape(8, 48, worker_dials=2),
    full_nodes=Shape(8, 48),
    equals=Shape(48, 0),
    small=Shape(6, 24, worker_dials=2),
    plain_senders=24,
    sets=40,
    senders=8,
    dropper_sets=1,
    sweep=False,
)


class Bench:
    """Records each run once, as it is needed; `say` is told what goes on and returns whom to tell of progress."""

    def __init__(self, scale: Scale, seed: int, say: Say) -> None:
        self.scale, self._seed, self._say = scale, seed, say
        self._rng = np.random.default_rng(seed)
        self._runs: dict[Spec, Run] = {}
        self._goals: list[list[Any]] = []

    def tables(self) -> list[Table]:
        """Return every table, the goals first."""
        tables = [
            *self._plain(self.scale.equals, "equal full nodes"),
            *self._plain(self.scale.full_nodes, "relays and workers"),
            self._onion(),
            self._linked(),
            self._dropping(),
            self._costs(),
            *((self._sweep(), self._shapes()) if self.scale.sweep else ()),
        ]
        columns = ["goal", "at most", "measured", "held"]
        return [{"title": "Goals, at 0.20 spies", "columns": columns, "rows": self._goals}, *tables]

    @property
    def _main(self) -> Spec:
        return Spec(self.scale.fleet, Strategy.ONION, self.scale.seconds, seed=self._seed)

    def _run(self, spec: Spec) -> Run:
        if spec not in self._runs:
            shape = spec.shape
            self._runs[spec] = record(
                spec, self._say(f"{spec.strategy}: {shape.relays} relays, {shape.workers} workers")
            )
        return self._runs[spec]

    def _goal(self, name: str, most: float, measured: float, shown: str = "") -> None:
        self._goals.append([name, most, shown or f"{measured:.3f}", "yes" if measured <= most else "no"])

    def _plain(self, shape: Shape, name: str) -> list[Table]:
        """Print what the literature measures: first-spy on floods and stems that hide nothing of the path."""
        outcomes = {
            strategy: self._first_spy(
                Spec(shape, strategy, 25.0, senders=self.scale.plain_senders, seed=self._seed, patience=22.0)
            )
            for strategy in PLAIN
        }
        return [
            {
                "title": f"First-spy {measure}, {name}",
                "columns": ["spies", *map(str, PLAIN)],
                "rows": [
                    [share, *(str(getattr(outcomes[strategy][share], measure)) for strategy in PLAIN)]
                    for share in SHARES
                ],
            }
            for measure in ("recall", "precision")
        ]

    def _first_spy(self, spec: Spec) -> dict[float, FirstSpied]:
        run = self._run(spec)
        del self._runs[spec]  # large, and not needed again
        return {
            share: trial.first_spy(run, trial.fraction(spec.shape.nodes, share), self.scale.sets, self._rng)
            for share in SHARES
        }

    def _onion(self) -> Table:
        run = self._run(self._main)
        correlation, rows = Correlation(run), []
        for share in SHARES:
            draw = trial.fraction(self.scale.fleet.nodes, share)
            plain = trial.first_spy(run, draw, self.scale.sets, self._rng)
            timed = correlation.outcome(draw, self.scale.sets, self._rng)
            rows.append(
                [
                    share,
                    str(plain.recall),
                    *(str(each) for each in (timed.recall, timed.precision, timed.matched, timed.entropy)),
                ]
            )
            if share == AT:
                self._goal("first-spy recall", GOALS["recall"], plain.recall.mean, str(plain.recall))
                self._goal("timing recall", GOALS["recall"], timed.recall.mean, str(timed.recall))
                best = max(timed.precision, timed.matched, key=lambda each: each.mean)
                self._goal("timing precision", GOALS["precision"], timed.precision.mean, str(timed.precision))
                self._goal("timing precision, best mapping", GOALS["precision"], best.mean, str(best))
        names = ("first-spy R", "timing R", "timing D", "best D of all mappings", "bits left")
        return {"title": "Onion stem, cover on", "columns": ["spies", *names], "rows": rows}

    def _linked(self) -> Table:
        """Print the chance that a sender is found by letters known to be its own."""
        crossing, rows = Intersection(self._run(self._main), self.scale.senders, max(COUNTS), self._rng), []
        for share in SHARES:
            draw = trial.fraction(self.scale.fleet.nodes, share)
            found = crossing.found(COUNTS, draw, max(1, self.scale.sets // 4), self._rng)
            rows.append([share, *(str(each.chance) for each in found)])
            if share == AT:
                self._goal("sender found after 100 letters", AT, found[-1].chance.mean, str(found[-1].chance))
        columns = ["spies", "1 letter, or unlinked", *(f"{count} letters" for count in COUNTS[1:])]
        return {
            "title": "Intersection: chance to be found by letters known to be of one sender",
            "columns": columns,
            "rows": rows,
        }

    def _dropping(self) -> Table:
        """Print what spies learn that drop packets; they are drawn before each run, as they act in it."""
        rows = []
        for drop_all in (False, True):
            recalls, arrived, late = zip(
                *(self._dropped(number, drop_all) for number in range(self.scale.dropper_sets)), strict=True
            )
            recall = float(np.mean(recalls))
            name = "all packets" if drop_all else "packets whose next hop is honest"
            rows.append([name, recall, float(np.mean(arrived)), float(np.mean(late))])
            self._goal(f"recall, spies drop {name}", GOALS["droppers"], recall)
        return {
            "title": f"Active droppers, {AT} spies",
            "columns": ["dropped", "timing R", "letters that arrived", "sent again"],
            "rows": rows,
        }

    def _dropped(self, number: int, drop_all: bool) -> tuple[float, float, float]:
        """Return recall over all letters written, how many arrived, and how many of these after 5 seconds or more."""
        shape = self.scale.fleet
        relays = np.random.default_rng(self._seed + number).permutation(shape.relays)[: round(AT * shape.relays)]
        spec = replace(
            self._main,
            seconds=15.0,
            droppers=frozenset(relays.tolist()),
            drop_all=drop_all,
            patience=40.0,
            seed=self._seed + number,
        )
        run = self._run(spec)
        del self._runs[spec]
        spies = np.concatenate([np.zeros(shape.workers, dtype=bool), np.isin(np.arange(shape.relays), relays)])

        def draw(rng: np.random.Generator) -> Bools:
            spies[: shape.workers] = rng.random(shape.workers) < AT
            return spies

        correlation = Correlation(run)
        arrived = len(correlation.senders) / len(run.recorder.letters)
        recall = correlation.outcome(draw, max(1, self.scale.sets // 4), self._rng).recall.mean
        return recall * arrived, arrived, float((run.first_waits > LATE).mean())

    def _costs(self) -> Table:
        rows = []
        small = self._run(replace(self._main, shape=self.scale.small, seconds=30.0))
        for run in (self._run(self._main), small):
            shape, recorder = run.spec.shape, run.recorder
            flood = recorder.flood_bytes / len(recorder.letters)
            cover = recorder.packet_bytes / (run.seconds * shape.workers)
            sent = cover / 3
            waits = np.percentile(run.waits, [50, 99])
            rows.append(
                [
                    f"{shape.relays} + {shape.workers}",
                    *map(float, waits),
                    round(flood),
                    round(flood / shape.nodes),
                    round(sent),
                    round(cover),
                    (flood + cover * MINUTE) / flood,
                ]
            )
        median = float(np.percentile(small.waits, 50))
        self._goal(f"median delivery in s, {small.spec.shape.nodes} nodes", GOALS["seconds"], median)
        columns = [
            "relays + workers",
            "p50 s",
            "p99 s",
            "flood bytes a letter",
            "a node",
            "worker sends B/s",
            "all hops B/s a worker",
            "bytes of all / of the flood, one letter a worker and minute",
        ]
        return {"title": "Delivery and bytes", "columns": columns, "rows": rows}

    def _sweep(self) -> Table:
        """Print how risk and cost move with the rate of cover and the delay at a hop."""
        pairs = [(rate, StemTuning().hop_delay) for rate in RATES] + [(2.0, delay) for delay in DELAYS]
        rows = [
            self._tuned(StemTuning(loads(rate), delay), [rate, delay], self.scale.fleet)
            for rate, delay in dict.fromkeys(pairs)
        ]
        return {
            "title": f"Cover rate and hop delay, {AT} spies",
            "columns": ["packets/s", "a tenth of all delays, s", *_TUNED],
            "rows": rows,
        }

    def _shapes(self) -> Table:
        """Print what the number of workers for each relay does: packets hide among those that share their relays."""
        shapes = [*self.scale.others, self.scale.fleet]
        rows = [self._tuned(StemTuning(), [f"{shape.relays} + {shape.workers}"], shape) for shape in shapes]
        return {"title": f"Relays and workers, {AT} spies", "columns": ["relays + workers", *_TUNED], "rows": rows}

    def _tuned(self, stem: StemTuning, names: list[Any], shape: Shape) -> list[Any]:
        run = self._run(replace(self._main, shape=shape, stem=stem, seconds=self.scale.sweep_seconds, patience=5.0))
        found = Correlation(run).outcome(trial.fraction(shape.nodes, AT), self.scale.sets, self._rng)
        bytes_sent = run.recorder.packet_bytes / (3 * run.seconds * shape.workers)
        return [
            *names,
            str(found.recall),
            str(found.precision),
            found.entropy.mean,
            float(np.median(run.waits)),
            round(bytes_sent),
        ]
