"""What a model is worth on days it has not seen, next to persistence and to the champion it would replace."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quietfleet.errors import DataRejected
from quietfleet.pipeline.train import Samples

Floats = npt.NDArray[np.float64]
Predictor = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""Rows [n, features] (float32) → forecasts [n] in the target's unit."""

LEVELS: Final = tuple(round(0.05 * step, 2) for step in range(1, 21))
COVERED: Final = (0.5, 0.8, 0.95)
"""The levels at which each group's coverage is told."""
SEASONS: Final = ("Dec-Feb", "Mar-May", "Jun-Aug", "Sep-Nov")
"""Meteorological, by their months: which of them is summer depends on the hemisphere."""
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Errors on held-out days, in the target's unit; `error_quantiles` are of |error| at `LEVELS`.

    Skill 1 is perfect and 0 no better than the rival.
    """

    n: int
    rmse: float
    mae: float
    persistence_rmse: float
    skill: float
    champion_rmse: float | None
    champion_skill: float | None
    error_quantiles: tuple[float, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the report as plain values for manifests and audit trails."""
        return {**asdict(self), "error_quantiles": list(self.error_quantiles)}


@dataclass(frozen=True, slots=True)
class Group:
    """Errors of a part of the held-out samples; `coverage` is the share of errors within the quantiles of all of them.

    It is told at the levels of `COVERED`, which it would equal for a part that is like the whole.
    """

    name: str
    n: int
    rmse: float
    mae: float
    persistence_rmse: float | None
    skill: float | None
    champion_rmse: float | None
    champion_skill: float | None
    coverage: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """The same errors by device, by season and by hour of the day (UTC, of the moment that is forecast).

    `calibration` holds (level, share): of the later half of the samples, so many errors were within the quantile
    that the earlier half has at that level, because a quantile always fits the samples it was taken from.
    """

    devices: tuple[Group, ...]
    seasons: tuple[Group, ...]
    hours: tuple[Group, ...]
    calibration: tuple[tuple[float, float], ...]


def evaluate(predict: Predictor, held_out: Samples, *, champion: Floats | None = None) -> Evaluation:
    """Compare forecasts with what came; `champion` [n] is what the champion, when there is one, forecasts of them."""
    errors = _errors(predict, held_out)
    if not np.isfinite(errors).all():
        raise DataRejected("the model forecasts something that is no number on the held-out days")
    rmse = _rmse(errors)
    naive = held_out.naive - held_out.targets
    naive = naive[np.isfinite(naive)]
    persistence = _rmse(naive) if naive.size else 0.0
    rival = None if champion is None else _rmse(champion - held_out.targets)
    return Evaluation(
        n=len(held_out),
        rmse=rmse,
        mae=_rounded(np.abs(errors).mean()),
        persistence_rmse=persistence,
        skill=_skill(rmse, persistence),
        champion_rmse=rival,
        champion_skill=None if rival is None else _skill(rmse, rival),
        error_quantiles=tuple(_rounded(value) for value in np.quantile(np.abs(errors), LEVELS)),
    )


def examine(
    predict: Predictor, held_out: Samples, *, horizon: float = 0.0, champion: Floats | None = None
) -> Examination:
    """Say where the errors are; `horizon` is in seconds, `champion` as in `evaluate`."""
    errors = _errors(predict, held_out)
    rival = None if champion is None else champion - held_out.targets
    naive = held_out.naive - held_out.targets
    limits = np.quantile(np.abs(errors), COVERED)

    def groups(keys: npt.NDArray[np.int64], names: Callable[[int], str]) -> tuple[Group, ...]:
        return tuple(
            _group(names(key), errors[mine], naive[mine], None if rival is None else rival[mine], limits)
            for key, mine in _parts(keys)
        )

    moments = held_out.times + horizon
    return Examination(
        devices=groups(held_out.device, lambda key: held_out.devices[key]),
        seasons=groups(_seasons(moments), lambda key: SEASONS[key]),
        hours=groups((moments % _DAY // 3600).astype(np.int64), "{:02}".format),
        calibration=_calibration(np.abs(errors)),
    )


def _parts(keys: npt.NDArray[np.int64]) -> Iterable[tuple[int, npt.NDArray[np.intp]]]:
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    return zip((int(key) for key in found), np.split(order, starts[1:]), strict=True)


def _group(name: str, errors: Floats, naive: Floats, rival: Floats | None, limits: Floats) -> Group:
    rmse, naive = _rmse(errors), naive[np.isfinite(naive)]
    persistence = _rmse(naive) if naive.size else None
    champion = None if rival is None else _rmse(rival)
    return Group(
        name=name,
        n=int(errors.size),
        rmse=rmse,
        mae=_rounded(np.abs(errors).mean()),
        persistence_rmse=persistence,
        skill=None if persistence is None else _skill(rmse, persistence),
        champion_rmse=champion,
        champion_skill=None if champion is None else _skill(rmse, champion),
        coverage=tuple(_rounded(np.mean(np.abs(errors) <= limit)) for limit in limits),
    )


def _seasons(moments: Floats) -> npt.NDArray[np.int64]:
    days, day = np.unique(moments // _DAY, return_inverse=True)
    season = [datetime.fromtimestamp(float(one) * _DAY, UTC).month % 12 // 3 for one in days]
    return np.array(season, dtype=np.int64)[day]


def _calibration(sizes: Floats) -> tuple[tuple[float, float], ...]:
    earlier, later = np.array_split(sizes, 2)
    if not earlier.size or not later.size:
        return ()
    limits = np.quantile(earlier, LEVELS)
    return tuple((level, _rounded(np.mean(later <= limit))) for level, limit in zip(LEVELS, limits, strict=True))


def _errors(predict: Predictor, held_out: Samples) -> Floats:
    forecasts: Floats = np.asarray(predict(held_out.rows), dtype=np.float64).ravel()
    return forecasts - held_out.targets


def _rmse(errors: Floats) -> float:
    return _rounded(np.sqrt(np.mean(errors**2)))


def _skill(rmse: float, rival: float) -> float:
    return _rounded(1.0 - rmse / rival) if rival > 0 else 0.0


def _rounded(value: Any) -> float:
    return round(float(value), 5)
