"""From a dataset to a fitted model: samples, a cut in time, a search whose every fit can be kept, and the last fit.

Folds are cut in time and never shuffled. The search is GridSearchCV's and RandomizedSearchCV's own order of candidates,
scores and choice, one fit at a time, so that it can be watched, stopped and resumed between any two fits. One thread
per fit: on a busy gateway more threads cost many times the CPU and save no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid, ParameterSampler
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from quietfleet.errors import Cancelled, DataRejected, ProjectError
from quietfleet.pipeline.features import Features, Floats, Table, feature_table, others_median
from quietfleet.pipeline.ingest import Dataset
from quietfleet.pipeline.project import Grid, Project

Progress = Callable[[str, float], None]
"""Called with a stage's name and the share of it that is done."""
Stop = Callable[[], bool]
"""Asked between two fits whether to stop."""
Fold = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]

_MINIMUM_SAMPLES: Final = 120


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Rows [n, features] (float32), targets [n], times [n] in s, by time over all devices.

    `naive` [n] is what persistence forecasts, NaN where it cannot; `device` [n] indexes `devices`.
    """

    rows: npt.NDArray[np.float32]
    targets: Floats
    times: Floats
    naive: Floats
    device: npt.NDArray[np.int64]
    devices: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.targets.size)

    def take(self, chosen: Any) -> Samples:
        """Those of a mask, a slice or places."""
        return Samples(
            self.rows[chosen],
            self.targets[chosen],
            self.times[chosen],
            self.naive[chosen],
            self.device[chosen],
            self.devices,
        )

    def between(self, start: int, stop: int) -> Samples:
        return self.take(slice(start, stop))

    def of_device(self, index: int) -> Samples:
        """One device's, in order of time."""
        return self.take(self.device == index)


class Memory:
    """Where the scores of a search are kept between runs; this one forgets."""

    def recall(self, _candidate: Mapping[str, Any], _fold: int) -> float | None:
        """Return the score of a fit that was made before."""
        return None

    def keep(self, _candidate: Mapping[str, Any], _fold: int, _rmse: float) -> None:
        """Keep the score of a fit."""

    def recall_part(self, _name: str) -> bytes | None:
        """Return what was found out before about some of the devices."""
        return None

    def keep_part(self, _name: str, _found: bytes) -> None:
        """Keep what was found out about some of the devices."""


@dataclass(frozen=True, slots=True)
class Tried:
    """One candidate of the search, its mean error over the folds and how far it is spread; None if it diverged."""

    parameters: dict[str, Any]
    rmse: float | None
    spread: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A fitted scikit-learn pipeline, what the search chose, and its error in the search (the target's unit)."""

    model: Any
    parameters: dict[str, Any]
    search_rmse: float
    search: tuple[Tried, ...] = ()


def samples(dataset: Dataset, features: Features) -> Samples:
    """Turn a dataset into samples; `DataRejected` when gaps leave too few."""
    tables = list(_tables(dataset, features))
    targets = np.concatenate([table.targets for table in tables])
    if targets.size < _MINIMUM_SAMPLES:
        raise DataRejected(
            f"{targets.size} of at least {_MINIMUM_SAMPLES} samples have all they need: "
            f"{features.reach // features.period} periods before them, {features.horizon} after"
            + (", and a neighbour" if features.peers else "")
        )
    device = np.repeat(np.arange(len(tables)), [table.targets.size for table in tables])
    rows, times, naive = (
        np.concatenate([getattr(table, name) for table in tables]) for name in ("rows", "times", "naive")
    )
    return Samples(rows, targets, times, naive, device, dataset.devices).take(np.argsort(times, kind="stable"))


def split(everything: Samples, project: Project) -> tuple[Samples, Samples]:
    """Cut off the last share in time for evaluation, leaving a gap so that no training target lies inside it."""
    start = int(np.searchsorted(everything.times, np.quantile(everything.times, 1 - project.held_out)))
    gap = everything.times[start] - project.features.horizon_seconds
    learning = everything.between(0, int(np.searchsorted(everything.times, gap)))
    if not len(learning):
        raise DataRejected("all samples are of one moment, so there is no past to learn from")
    return learning, everything.between(start, len(everything))


def folds(times: Floats, project: Project) -> list[Fold]:
    """Train on everything before a cut, test on the stretch after it, one horizon apart; or `DataRejected`."""
    made = [
        (np.flatnonzero(times < start - project.features.horizon_seconds), np.flatnonzero(_within(times, start, stop)))
        for start, stop in pairwise(cuts(times, project))
    ]
    if not all(past.size and future.size for past, future in made):
        raise DataRejected(f"the samples do not last for {project.folds} folds in time")
    return made


def cuts(times: Floats, project: Project) -> Floats:
    """Where in time the folds begin [folds], and that the last one has no end."""
    found: Floats = np.quantile(times, np.arange(1, project.folds + 2) / (project.folds + 1))
    found[-1] = np.inf
    return found


def train(
    learning: Samples,
    project: Project,
    *,
    seed: int,
    progress: Progress | None = None,
    stopped: Stop | None = None,
    memory: Memory | None = None,
) -> Trained:
    """Choose parameters by cross-validation in time and fit on all of `learning`; `Cancelled` between two fits.

    `memory` gives back what a run before this one had found out already. `seed` fixes the draw of candidates and
    every `random_state` that the project leaves open.
    """
    tell, kept, stop = progress or silent, memory or Memory(), stopped or never
    model, tried, cut = seeded(project.model, seed), candidates(project, seed), folds(learning.times, project)
    scores = np.empty((len(tried), len(cut)))
    tell("search", 0.0)
    with threadpool_limits(limits=1):
        for done, place in enumerate(np.ndindex(scores.shape)):
            if stop():
                raise Cancelled(f"after {done} of {scores.size} fits")
            candidate, fold = tried[place[0]], place[1]
            known = kept.recall(candidate, fold)
            if known is None:
                known = score(model, candidate, learning, cut[fold])
                kept.keep(candidate, fold, known)
            scores[place] = known
            tell("search", (done + 1) / scores.size)
        best = best_of(scores)
        if stop():
            raise Cancelled("after the search")
        fitted = fit_with(model, tried[best], learning)
    search = tuple(_tried(candidate, line) for candidate, line in zip(tried, scores, strict=True))
    return Trained(fitted, search[best].parameters, float(scores[best].mean()), search)


def candidates(project: Project, seed: int) -> list[dict[str, Any]]:
    """Every combination to try, in scikit-learn's order; `ProjectError` when there is none or it fits no parameter."""
    search = project.search
    try:
        if isinstance(search, Grid):
            tried = list(ParameterGrid({name: list(values) for name, values in search.parameters.items()}))
        else:
            tried = list(ParameterSampler(dict(search.parameters), search.tries, random_state=seed))
        for candidate in tried[:1]:
            clone(project.model).set_params(**candidate)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"search: {error}") from error
    if not tried:
        raise ProjectError("search: there is nothing to try")
    return tried


def seeded(model: Any, seed: int) -> Any:
    """Return an unfitted copy whose every open `random_state` is the seed."""
    copy = clone(model)
    free = [
        name
        for name, value in copy.get_params().items()
        if value is None and (name == "random_state" or name.endswith("__random_state"))
    ]
    return copy.set_params(**dict.fromkeys(free, seed))


def _tables(dataset: Dataset, features: Features) -> Iterator[Table]:
    company = _company(dataset, features) if features.peers else {}
    for index in range(len(dataset.devices)):
        mine = np.flatnonzero(dataset.device == index)
        columns = {name: dataset.columns[name][mine] for name in features.channels}
        yield feature_table(
            features, dataset.time[mine], columns, {name: column[mine] for name, column in company.items()}
        )


def _company(dataset: Dataset, features: Features) -> dict[str, Floats]:
    """For every row the median of the other devices of its place then; `DataRejected` when nobody has a neighbour."""
    sites = np.array(dataset.sites)[dataset.device]
    medians = {name: np.full(len(dataset), np.nan) for name in features.peers}
    for site in np.unique(sites):
        here = np.flatnonzero(sites == site)
        moments, moment = np.unique(dataset.time[here], return_inverse=True)
        members, member = np.unique(dataset.device[here], return_inverse=True)
        for name, column in medians.items():
            lines = np.full((members.size, moments.size), np.nan)
            lines[member, moment] = dataset.columns[name][here]
            column[here] = others_median(lines)[member, moment]
    if not any(np.isfinite(column).any() for column in medians.values()):
        raise DataRejected("no device has a neighbour at its place, which these features compare it with")
    return medians


def score(model: Any, candidate: Mapping[str, Any], learning: Samples, fold: Fold) -> float:
    """Return a candidate's RMSE on a fold."""
    past, future = fold
    fitted = fit_with(model, candidate, learning.take(past))
    errors = np.asarray(fitted.predict(learning.rows[future])).ravel() - learning.targets[future]
    return float(np.sqrt(np.mean(errors**2)))


def fit_with(model: Any, candidate: Mapping[str, Any], learning: Samples) -> Any:
    """Fit a copy of the model with a candidate's parameters; `ProjectError` when it cannot be."""
    try:
        return clone(model).set_params(**candidate).fit(learning.rows, learning.targets)
    except (TypeError, ValueError) as error:
        raise ProjectError(f"the model cannot be fitted with {dict(candidate)}: {error}") from error


def best_of(scores: Floats) -> int:
    """The first of the best, as scikit-learn ranks; a candidate that diverged in a fold is none."""
    means = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), np.inf)
    if not np.isfinite(means).any():
        raise DataRejected("no candidate forecasts numbers on every fold")
    return int(np.argmin(means))


def plain_parameters(candidate: Mapping[str, Any]) -> dict[str, Any]:
    """Return a candidate as JSON can hold it."""
    return {name: _plain(value) for name, value in candidate.items()}


def _tried(candidate: Mapping[str, Any], scores: Floats) -> Tried:
    parameters = plain_parameters(candidate)
    if not np.isfinite(scores).all():
        return Tried(parameters, None, None)
    return Tried(parameters, round(float(scores.mean()), 5), round(float(scores.std()), 5))


def _within(times: Floats, start: float, stop: float) -> npt.NDArray[np.bool_]:
    return (times >= start) & (times < stop)


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool | None) else repr(value)


def silent(stage: str, share: float) -> None:
    """Tell nobody."""


def never() -> bool:
    return False
