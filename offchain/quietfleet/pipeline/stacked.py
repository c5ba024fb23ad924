"""Ridge regression for thousands of devices at once: their Gram matrices, stacked over devices, folds and penalties.

A fold's past and future are sums over stretches of time, so each device's rows are read once. From a stretch's Gram
matrix follow its means and deviations, which is all a `StandardScaler` learns there, then the fit for every penalty,
and the squared error on the stretch after it. Scores are those of scikit-learn's search with the same folds, in
double precision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Real
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from quietfleet.pipeline.features import Floats

_EXACT: Final = frozenset({"auto", "cholesky", "svd"})
"""Solvers of scikit-learn's that find the minimum itself; the others come near it."""
_LEAST: Final = 1e-8
"""Below it a penalty no longer keeps what columns share from being divided by nothing."""
_ROOM: Final = 1 << 22
"""Numbers in the largest stack of matrices that is solved at once: 32 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class RidgeSearch:
    """A search that is nothing but ridge regression under several penalties, perhaps behind a `StandardScaler`."""

    penalties: Floats
    centred: bool
    scaled: bool

    @classmethod
    def of(cls, model: Any, tried: Sequence[Mapping[str, Any]]) -> RidgeSearch | None:
        """Recognise one, or return None: then every fit has to be made by the estimator itself."""
        steps = model.steps if type(model) is Pipeline else [("", model)]
        steps = [(name, step) for name, step in steps if step is not None and step != "passthrough"]
        *before, (name, ridge) = steps or [("", None)]
        scalers = [step for _, step in before]
        if not _is_plain(ridge) or len(scalers) > 1 or any(type(one) is not StandardScaler for one in scalers):
            return None
        parameter = f"{name}__alpha" if name else "alpha"
        penalties = [candidate.get(parameter, ridge.alpha) for candidate in tried]
        if any(candidate.keys() - {parameter} for candidate in tried) or not all(map(_solvable, penalties)):
            return None
        found = np.array(penalties, dtype=np.float64)
        return cls(found, *((scalers[0].with_mean, scalers[0].with_std) if scalers else (False, False)))

    def fit(self, lines: Sequence[Line]) -> Fits:
        """Fit every device [d] with every penalty [a] on every fold [k], and with the best one on all its rows."""
        most = max(1, _ROOM // (self.penalties.size * lines[0].past[0].size * len(lines[0].past)))
        parts = [self._fit(lines[start : start + most]) for start in range(0, len(lines), most)]
        return Fits(*(np.concatenate([getattr(part, name) for part in parts]) for name in Fits.__slots__))

    def _fit(self, lines: Sequence[Line]) -> Fits:
        past, future = np.stack([line.past for line in lines]), np.stack([line.future for line in lines])
        weights, intercepts, mean, scale = self._solve(past, np.stack([line.origin for line in lines])[:, None])
        scores = _errors(weights[:, :-1], intercepts[:, :-1], future)  # [d, k, a]
        means = np.where(np.isfinite(scores).all(axis=1), scores.mean(axis=1), np.inf)
        best = means.argmin(axis=1)
        row = np.arange(best.size)
        origin = np.stack([line.origin for line in lines])
        chosen = weights[row, -1, best]
        offset = origin[:, :-1] + mean[:, -1] if self.centred else np.zeros_like(chosen)
        intercept = intercepts[row, -1, best] + origin[:, -1] + np.einsum("df,df->d", chosen, offset - origin[:, :-1])
        return Fits(scores.swapaxes(1, 2), best, offset, scale[:, -1], chosen * scale[:, -1], intercept)

    def _solve(self, gram: Floats, origin: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Return weights [.., a, f] and intercepts [.., a] of rows less the origin, their means and deviations [.., f].

        `gram` [.., f + 2, f + 2] is over features, target and 1.
        """
        count, mean = gram[..., -1, -1, None], gram[..., -1, :-1] / gram[..., -1, -1, None]
        centred = gram[..., :-1, :-1] - count[..., None] * mean[..., :, None] * mean[..., None, :]
        scale = self._scale(np.diagonal(centred, axis1=-2, axis2=-1)[..., :-1] / count, mean + origin, count)
        left = centred[..., :-1, :-1] / (scale[..., :, None] * scale[..., None, :])
        right = centred[..., :-1, -1] / scale
        penalised = left[..., None, :, :] + self.penalties[:, None, None] * np.eye(scale.shape[-1])
        weights = np.linalg.solve(penalised, np.broadcast_to(right[..., None, :, None], (*penalised.shape[:-1], 1)))
        raw = weights[..., 0] / scale[..., None, :]
        intercepts = mean[..., -1, None] - np.einsum("...af,...f->...a", raw, mean[..., :-1])
        return raw, intercepts, mean[..., :-1], scale

    def _scale(self, variance: Floats, mean: Floats, count: Floats) -> Floats:
        """Return the deviations; a column that is constant but for rounding is left as it is, as scikit-learn does."""
        epsilon = np.finfo(np.float64).eps
        constant = variance <= count * epsilon * variance + (count * mean[..., :-1] * epsilon) ** 2
        kept: Floats = np.where(constant | (variance <= 0), 1.0, np.sqrt(np.maximum(variance, 0)))
        return kept if self.scaled else np.ones_like(kept)


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One device's Gram matrices [f + 2, f + 2] over features, target and 1, less the origin [f + 1].

    `past` [k + 1] are of what each fold learns from, and last of everything; `future` [k] of what it is judged on.
    """

    past: Floats
    future: Floats
    origin: Floats

    @classmethod
    def of(
        cls, rows: npt.NDArray[np.float32], targets: Floats, past: Sequence[int], future: Sequence[tuple[int, int]]
    ) -> Line:
        """Add up rows [n, f] in order of time; `past` are the counts learned from, `future` where folds begin and end.

        Taking the mean off first keeps what is left of large numbers exact.
        """
        joint = np.column_stack([rows, targets, np.ones(len(rows))])
        origin = joint[:, :-1].mean(axis=0)
        joint[:, :-1] -= origin
        edges = np.unique([0, len(rows), *past, *(place for each in future for place in each)])
        grams = [joint[start:stop].T @ joint[start:stop] for start, stop in pairwise(edges)]
        sums = np.concatenate([np.zeros((1, *grams[0].shape)), np.cumsum(grams, axis=0)])

        def until(places: Any) -> Floats:
            found: Floats = sums[np.searchsorted(edges, places)]
            return found

        starts, stops = zip(*future, strict=True)
        return cls(until([*past, len(rows)]), until(stops) - until(starts), origin)


@dataclass(frozen=True, slots=True, eq=False)
class Fits:
    """Scores [d, a, k] (RMSE), the best penalty's place [d], and each device's fit with it on all its rows.

    A forecast is `((row - offset) / scale) @ weights + intercept`.
    """

    scores: Floats
    best: npt.NDArray[np.intp]
    offset: Floats
    scale: Floats
    weights: Floats
    intercept: Floats


def _errors(weights: Floats, intercepts: Floats, gram: Floats) -> Floats:
    """Return the RMSE [d, k, a] of fits on stretches of which only the Gram matrices [d, k, ..] are known."""
    line = np.concatenate([weights, np.full((*intercepts.shape, 1), -1.0), intercepts[..., None]], axis=-1)
    squares = ((line @ gram) * line).sum(axis=-1)
    errors: Floats = np.sqrt(np.maximum(squares, 0) / gram[..., -1, -1, None])
    return errors


def _is_plain(step: Any) -> bool:
    return type(step) is Ridge and step.fit_intercept and not step.positive and step.solver in _EXACT


def _solvable(penalty: Any) -> bool:
    return isinstance(penalty, Real) and not isinstance(penalty, bool) and _LEAST <= float(penalty) < np.inf
