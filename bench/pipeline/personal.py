"""What a model for each device costs: all at once, and by scikit-learn's search one device after another."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from bench.pipeline.devices import device_samples
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_limits

from quietfleet.pipeline.choices import Personal
from quietfleet.pipeline.personalise import personalise
from quietfleet.pipeline.project import Grid, Project
from quietfleet.pipeline.stacked import Fits, Line, RidgeSearch
from quietfleet.pipeline.train import Samples, candidates, cuts, split, train

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """CPU seconds for so many devices; `theirs` is of `sampled` devices, of which `agreed` chose as we did."""

    devices: int
    samples: int
    search: float
    whole: float
    sampled: int
    theirs: float
    agreed: int
    personal: Personal

    @property
    def theirs_for_all(self) -> float:
        return self.theirs * self.devices / self.sampled

    @property
    def extrapolated(self) -> bool:
        return self.sampled < self.devices


def measure(count: int, sampled: int, project: Project, seed: int) -> Outcome:
    """Search for every device, then for a sample of them the long way; one thread each."""
    everything = device_samples(count, project, seed)
    learning, held_out = split(everything, project)
    with threadpool_limits(limits=1):
        trained = train(learning, project, seed=seed)
        whole, personal = timed(lambda: personalise(learning, held_out, project, trained, seed=seed))
        by_device = learning.take(np.argsort(learning.device, kind="stable"))
        edges = np.searchsorted(by_device.device, np.arange(count + 1))
        devices = [by_device.between(start, stop) for start, stop in pairwise(edges.tolist())]
        begins = cuts(learning.times, project)
        search, fits = timed(lambda: _stacked(devices, begins, project))
        chosen = np.linspace(0, count - 1, sampled).astype(int)
        theirs, best = timed(lambda: [_grid_search(devices[place], begins, project) for place in chosen])
    agreed = int(np.sum(np.array(best) == fits.best[chosen]))
    return Outcome(count, len(learning), search, whole, sampled, theirs, agreed, personal)


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the CPU seconds of this process that something took, and what it returned."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def _stacked(devices: list[Samples], begins: np.ndarray, project: Project) -> Fits:
    search = RidgeSearch.of(project.model, candidates(project, 0))
    if search is None:
        raise ValueError(f"{project.name} is no ridge regression")
    return search.fit([_line(one, begins, project) for one in devices])


def _line(mine: Samples, begins: np.ndarray, project: Project) -> Line:
    past = np.searchsorted(mine.times, begins[:-1] - project.features.horizon_seconds).tolist()
    return Line.of(mine.rows, mine.targets, past, list(pairwise(np.searchsorted(mine.times, begins).tolist())))


def _grid_search(mine: Samples, begins: np.ndarray, project: Project) -> int:
    """Return the place of the best candidate, by scikit-learn itself on the same folds."""
    if not isinstance(project.search, Grid):
        raise TypeError(f"{project.name} has no grid")
    gap = project.features.horizon_seconds
    folds = [
        (np.flatnonzero(mine.times < start - gap), np.flatnonzero((mine.times >= start) & (mine.times < stop)))
        for start, stop in pairwise(begins)
    ]
    grid = {name: list(values) for name, values in project.search.parameters.items()}
    search = GridSearchCV(project.model, grid, cv=folds, scoring="neg_root_mean_squared_error")
    return int(search.fit(mine.rows, mine.targets).best_index_)
