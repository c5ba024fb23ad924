"""A model of its own for each device that is better off with one: chosen in time, confirmed on days held out.

Every device is offered the pooled model, one fitted to itself, and persistence. Errors on the same folds in time
decide; the pooled model stays unless another is better by a margin, and an other that then does worse than it on the
held-out days is taken back. Those days thus choose as well as judge, in one direction only: they can take a model away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.base import clone
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from quietfleet.errors import Cancelled, PipelineError
from quietfleet.pipeline.choices import Choice, Errors, Kind, Personal, Why
from quietfleet.pipeline.fanout import fanned_out, portable, unpacked
from quietfleet.pipeline.features import Features, Floats
from quietfleet.pipeline.linear_onnx import LinearTemplate
from quietfleet.pipeline.package import PARITY_TOLERANCE, to_onnx
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.sessions import open_session
from quietfleet.pipeline.stacked import Line, RidgeSearch
from quietfleet.pipeline.train import (
    Fold,
    Memory,
    Progress,
    Samples,
    Stop,
    Trained,
    best_of,
    candidates,
    cuts,
    fit_with,
    folds,
    never,
    plain_parameters,
    score,
    seeded,
    silent,
)

MARGIN: Final = 0.02
"""The share by which a device's own model, or persistence, has to beat the pooled one on the folds."""
_LEAST_PAST: Final = 48  # samples that the first fold learns from, at least; and three for each feature
_LEAST_FUTURE: Final = 12
_LEAST_HELD: Final = 24
_MOST: Final = 0.9  # of the samples have to be forecast by what is judged
_STACK, _HANDFUL = 512, 32  # devices between two looks at the clock, and at what is kept


@dataclass(frozen=True, slots=True)
class Trial:
    """A device's own model: its choice of parameters, its error on the folds and on the held-out days, and its ONNX.

    Without `held_out` it was no better than it had to be, and was not made.
    """

    parameters: dict[str, Any] = field(default_factory=dict)
    validation: float | None = None
    held_out: float | None = None
    artifact: bytes | None = None
    unshippable: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Device:
    """One device's samples before and after the cut, its folds as places in `learning`, and what it has to beat."""

    index: int
    learning: Samples
    held_out: Samples
    past: tuple[int, ...]
    future: tuple[tuple[int, int], ...]
    bar: float

    def is_beaten_by(self, trial: Trial) -> bool:
        return trial.validation is not None and trial.validation < self.bar

    @property
    def folds(self) -> list[Fold]:
        return [(np.arange(past), np.arange(*future)) for past, future in zip(self.past, self.future, strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Yardstick:
    """What the pooled model and persistence are worth on each device [d]: on the folds, and on the held-out days."""

    pooled: Floats
    persistence: Floats
    pooled_held: Floats
    persistence_held: Floats

    def bar(self, index: int) -> float:
        """What a device's own model has to be below on the folds; NaN, which nothing is, where nobody can tell."""
        pooled, still = float(self.pooled[index]) * (1 - MARGIN), float(self.persistence[index])
        return min(pooled, still) if np.isfinite(still) else pooled


_Attempt = Callable[[Sequence[_Device]], list[Trial]]


def personalise(
    learning: Samples,
    held_out: Samples,
    project: Project,
    trained: Trained,
    *,
    seed: int,
    progress: Progress | None = None,
    stopped: Stop | None = None,
    memory: Memory | None = None,
    jobs: int = 1,
    dask: str = "",
) -> Personal:
    """Choose for every device; `Cancelled` between two handfuls of them, whose outcome `memory` keeps.

    `trained` is the pooled model, fitted on `learning`. Ridge regression is solved for many devices at once, here;
    other models are fitted by `jobs` processes, or by the workers of the Dask scheduler at `dask`.
    """
    tell, stop, kept = progress or silent, stopped or never, memory or Memory()
    tell("personalise", 0.0)
    with threadpool_limits(limits=1):
        yard = _yardstick(learning, held_out, project, trained.model, stop)
        devices = list(_devices(learning, held_out, project, yard))
        trials: dict[int, Trial] = {}
        with _tried_by(project, seed, jobs, dask) as (attempt, size):
            for start in range(0, len(devices), size):
                if stop():
                    raise Cancelled(f"after the models of {start} of {len(devices)} devices")
                part = devices[start : start + size]
                made = _recalled(kept, part) or _kept(kept, part, attempt(part))
                trials |= zip((device.index for device in part), made, strict=True)
                tell("personalise", min(1.0, (start + size) / len(devices)))
    return _chosen(held_out, project.features, yard, trials)


# what has to be beaten


def _yardstick(learning: Samples, held_out: Samples, project: Project, model: Any, stop: Stop) -> _Yardstick:
    pooled, naive = [], []
    for past, future in folds(learning.times, project):
        if stop():
            raise Cancelled("before the devices' own models")
        judged = learning.take(future)
        fitted = clone(model).fit(learning.rows[past], learning.targets[past])
        pooled.append(_by_device(fitted.predict(judged.rows), judged))
        naive.append(_by_device(judged.naive, judged))
    held = _by_device(model.predict(held_out.rows), held_out)
    return _Yardstick(np.mean(pooled, axis=0), np.mean(naive, axis=0), held, _by_device(held_out.naive, held_out))


def _by_device(forecasts: Any, those: Samples) -> Floats:
    """Return the RMSE of each device [d]; NaN where it has nothing, or forecasts for less than most."""
    errors = np.asarray(forecasts, dtype=np.float64).ravel() - those.targets
    known, count = np.isfinite(errors), len(those.devices)
    sums = np.bincount(those.device[known], errors[known] ** 2, count)
    counts, whole = np.bincount(those.device[known], minlength=count), np.bincount(those.device, minlength=count)
    enough = (counts > 0) & (counts >= _MOST * whole)
    found: Floats = np.sqrt(np.divide(sums, counts, out=np.full(count, np.nan), where=enough))
    return found


def _devices(learning: Samples, held_out: Samples, project: Project, yard: _Yardstick) -> Iterator[_Device]:
    """Yield those that have enough before each cut and after it."""
    begins = cuts(learning.times, project)
    ends = begins[:-1] - project.features.horizon_seconds
    least = max(_LEAST_PAST, 3 * learning.rows.shape[1])
    for index, (own, held) in enumerate(zip(_apart(learning), _apart(held_out), strict=True)):
        past, marks = np.searchsorted(own.times, ends).tolist(), np.searchsorted(own.times, begins).tolist()
        future = tuple(pairwise(marks))
        if past[0] >= least and min(b - a for a, b in future) >= _LEAST_FUTURE and len(held) >= _LEAST_HELD:
            yield _Device(index, own, held, tuple(past), future, yard.bar(index))


def _apart(those: Samples) -> Iterator[Samples]:
    """Yield each device's samples in order of time, without everybody's names."""
    by_device = replace(those.take(np.argsort(those.device, kind="stable")), devices=())
    edges = np.searchsorted(by_device.device, np.arange(len(those.devices) + 1))
    return (by_device.between(start, stop) for start, stop in pairwise(edges.tolist()))


# the models


@contextmanager
def _tried_by(project: Project, seed: int, jobs: int, dask: str) -> Iterator[tuple[_Attempt, int]]:
    """Yield what fits a part of the devices, and how many make a part."""
    model, tried = seeded(project.model, seed), candidates(project, seed)
    search = RidgeSearch.of(model, tried)
    if search is not None:
        template = LinearTemplate(len(project.features.names))
        yield partial(_stacked, search, template, [plain_parameters(one) for one in tried]), _STACK
        return
    packed = portable((model, tried))
    with fanned_out(jobs, dask) as work:
        yield lambda part: work(_singly, [(packed, device) for device in part]), _STACK if dask else _HANDFUL


def _stacked(
    search: RidgeSearch, template: LinearTemplate, parameters: list[dict[str, Any]], part: Sequence[_Device]
) -> list[Trial]:
    """Solve for all of them at once; those that are good enough become ONNX."""
    fits = search.fit([Line.of(one.learning.rows, one.learning.targets, one.past, one.future) for one in part])
    made = []
    for place, device in enumerate(part):
        best = int(fits.best[place])
        trial = Trial(parameters[best], float(fits.scores[place, best].mean()))
        if device.is_beaten_by(trial):
            weights, intercept = fits.weights[place], float(fits.intercept[place])
            artifact = template.fill(fits.offset[place], fits.scale[place], weights, intercept)
            exact = (device.held_out.rows - fits.offset[place]) / fits.scale[place] @ weights + intercept
            trial = _confirmed(trial, artifact, device, exact)
        made.append(trial)
    return made


def _singly(task: tuple[bytes, _Device]) -> Trial:
    """Search for one device as the whole search did for all, in whatever process this is."""
    packed, device = task
    model, tried = unpacked(packed)
    try:
        scores = np.array([[score(model, one, device.learning, fold) for fold in device.folds] for one in tried])
        best = best_of(scores)
        trial = Trial(plain_parameters(tried[best]), float(scores[best].mean()))
        if not device.is_beaten_by(trial):
            return trial
        fitted = fit_with(model, tried[best], device.learning)
        artifact = to_onnx(fitted, device.learning.rows.shape[1])
        return _confirmed(trial, artifact, device, np.asarray(fitted.predict(device.held_out.rows)).ravel())
    except PipelineError:
        return Trial(unshippable=True)


def _confirmed(trial: Trial, artifact: bytes, device: _Device, exact: Any) -> Trial:
    """Judge what would be shipped on the held-out days, unless it is not what was fitted."""
    shipped = _forecasts(artifact, device.held_out.rows)
    if not np.max(np.abs(shipped - exact)) <= PARITY_TOLERANCE:
        return replace(trial, unshippable=True)
    held_out = float(np.sqrt(np.mean((shipped - device.held_out.targets) ** 2)))
    return replace(trial, artifact=artifact, held_out=held_out)


def _forecasts(artifact: bytes, rows: npt.NDArray[np.float32]) -> Floats:
    session = open_session(artifact, rows.shape[1])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: rows})[0], dtype=np.float64).ravel()


# the choice


def _chosen(held_out: Samples, features: Features, yard: _Yardstick, trials: dict[int, Trial]) -> Personal:
    counts = np.bincount(held_out.device, minlength=len(held_out.devices))
    still = _persistence(features)
    choices, models = [], {}
    for index, device in enumerate(held_out.devices):
        trial = trials.get(index, Trial())
        validation = _errors(yard.pooled[index], trial.validation, yard.persistence[index])
        held = _errors(yard.pooled_held[index], trial.held_out, yard.persistence_held[index])
        kind, why = Kind.POOLED, Why.TOO_FEW
        if index in trials:
            kind, why = _choose(trial, validation, held, expressible=still is not None)
        artifact = {Kind.PERSONAL: trial.artifact, Kind.PERSISTENCE: still}.get(kind)
        if artifact is not None:
            models[device] = artifact
        choices.append(Choice(device, kind, why, int(counts[index]), validation, held, trial.parameters))
    return Personal(tuple(choices), models)


def _choose(trial: Trial, validation: Errors, held: Errors, *, expressible: bool) -> tuple[Kind, Why]:
    """Take the pooled model unless something is better on the folds by a margin, and better on the held-out days."""
    kind = Kind.POOLED
    if trial.artifact is not None:
        kind = Kind.PERSONAL
    elif expressible and _below(validation.persistence, validation.pooled, 1 - MARGIN):
        kind = Kind.PERSISTENCE
    if kind is Kind.POOLED:
        return kind, Why.UNSHIPPABLE if trial.unshippable else Why.NOT_BETTER
    if not _below(held.of(kind), held.pooled):
        return Kind.POOLED, Why.UNCONFIRMED
    return kind, Why.BETTER


def _persistence(features: Features) -> bytes | None:
    """Return the model that changes nothing, if a row holds what it needs."""
    needed = features.target if features.horizon else f"{features.target}_lag_1"
    width = len(features.names)
    return LinearTemplate(width).column(features.names.index(needed), width) if needed in features.names else None


def _below(one: float | None, other: float | None, share: float = 1.0) -> bool:
    return one is not None and other is not None and one < other * share


def _errors(*found: float | None) -> Errors:
    return Errors(*(None if one is None or not np.isfinite(one) else round(float(one), 5) for one in found))


# what is kept


def _recalled(memory: Memory, part: Sequence[_Device]) -> list[Trial] | None:
    kept = memory.recall_part(_name(part))
    return msgspec.msgpack.decode(kept, type=list[Trial]) if kept is not None else None


def _kept(memory: Memory, part: Sequence[_Device], made: list[Trial]) -> list[Trial]:
    memory.keep_part(_name(part), msgspec.msgpack.encode(made))
    return made


def _name(part: Sequence[_Device]) -> str:
    return hashlib.sha256(repr([device.index for device in part]).encode()).hexdigest()[:24]
