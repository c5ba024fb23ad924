"""Search, fit, and keep the past before the future: folds are cut in time, never shuffled.

One thread per fit: on a busy gateway more threads cost many times the CPU and save no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from quietfleet.errors import DataRejected
from quietfleet.pipeline.features import HORIZON_HOURS, PERIOD, feature_table
from quietfleet.pipeline.ingest import Dataset

Floats = npt.NDArray[np.float64]
Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done."""

ALPHAS: Final = (0.01, 0.1, 1.0, 10.0, 100.0)
FOLDS: Final = 3
HELD_OUT: Final = 0.2
_MINIMUM_SAMPLES: Final = 120


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Feature rows [n, features] (float32), targets [n] in °C, times [n] in s; in order of time over all devices."""

    rows: npt.NDArray[np.float32]
    targets: Floats
    times: Floats

    def __len__(self) -> int:
        return int(self.targets.size)

    def between(self, start: int, stop: int) -> Samples:
        return Samples(self.rows[start:stop], self.targets[start:stop], self.times[start:stop])


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A fitted scikit-learn pipeline, what the search chose, and its error in the search (°C)."""

    model: Any
    parameters: dict[str, float]
    search_rmse: float


def samples(dataset: Dataset) -> Samples:
    """Turn a dataset into training samples; `DataRejected` when gaps leave too few."""
    tables = [feature_table(*dataset.of_device(index)) for index in range(len(dataset.devices))]
    rows, targets, times = (np.concatenate(parts) for parts in zip(*tables, strict=True))
    if targets.size < _MINIMUM_SAMPLES:
        raise DataRejected(f"{targets.size} of at least {_MINIMUM_SAMPLES} samples have a complete day before them")
    order = np.argsort(times, kind="stable")
    return Samples(rows[order].astype(np.float32), targets[order], times[order])


def split(everything: Samples) -> tuple[Samples, Samples]:
    """Cut off the last fifth in time for evaluation, leaving a gap so that no training target lies inside it."""
    start = int(np.searchsorted(everything.times, np.quantile(everything.times, 1 - HELD_OUT)))
    gap = everything.times[start] - HORIZON_HOURS * PERIOD
    return everything.between(0, int(np.searchsorted(everything.times, gap))), everything.between(
        start, len(everything)
    )


def train(learning: Samples, *, seed: int, progress: Progress | None = None) -> Trained:
    """Choose the regularisation by time-ordered cross-validation and fit on all of `learning`.

    Ridge needs no randomness of its own; `seed` fixes whatever solver scikit-learn picks.
    """
    tell = progress or _silent
    tell("search", 0.0)
    search = GridSearchCV(
        make_pipeline(StandardScaler(), Ridge(random_state=seed)),
        {"ridge__alpha": ALPHAS},
        scoring="neg_root_mean_squared_error",
        cv=list(_folds(learning.times)),
        n_jobs=1,
    )
    with threadpool_limits(limits=1):
        search.fit(learning.rows, learning.targets)
    tell("search", 1.0)
    return Trained(search.best_estimator_, {"alpha": float(search.best_params_["ridge__alpha"])}, -search.best_score_)


def _folds(times: Floats) -> Iterator[tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Train on everything before a cut, test on the stretch after it, one horizon apart."""
    cuts = np.quantile(times, np.arange(1, FOLDS + 2) / (FOLDS + 1))
    for start, stop in pairwise(cuts):
        past = np.flatnonzero(times < start - HORIZON_HOURS * PERIOD)
        yield past, np.flatnonzero((times >= start) & (times < stop))


def _silent(stage: str, share: float) -> None:
    """Tell nobody."""
