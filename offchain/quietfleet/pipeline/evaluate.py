"""What a model is worth on days it has not seen, next to persistence and to the champion it would replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from quietfleet.errors import DataRejected
from quietfleet.pipeline.train import Samples

Floats = npt.NDArray[np.float64]
Predictor = Callable[[npt.NDArray[np.float32]], npt.NDArray[Any]]
"""Rows [n, features] (float32) → forecasts [n] in the target's unit."""

LEVELS: Final = tuple(round(0.05 * step, 2) for step in range(1, 21))


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


def evaluate(predict: Predictor, held_out: Samples, *, champion: Predictor | None = None) -> Evaluation:
    """Compare forecasts with what came; the champion, when there is one, gets the same days."""
    errors = _errors(predict, held_out)
    if not np.isfinite(errors).all():
        raise DataRejected("the model forecasts something that is no number on the held-out days")
    rmse = _rmse(errors)
    naive = held_out.naive - held_out.targets
    naive = naive[np.isfinite(naive)]
    persistence = _rmse(naive) if naive.size else 0.0
    rival = _rmse(_errors(champion, held_out)) if champion else None
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


def _errors(predict: Predictor, held_out: Samples) -> Floats:
    forecasts: Floats = np.asarray(predict(held_out.rows), dtype=np.float64).ravel()
    return forecasts - held_out.targets


def _rmse(errors: Floats) -> float:
    return _rounded(np.sqrt(np.mean(errors**2)))


def _skill(rmse: float, rival: float) -> float:
    return _rounded(1.0 - rmse / rival) if rival > 0 else 0.0


def _rounded(value: Any) -> float:
    return round(float(value), 5)
