"""A small head that one device's forecasts get where it lives: a ridge on what the release's model leaves over.

It is fitted on a week of readings, in closed form, and is used only where it was better than the release on later rows
that it never saw. The release's manifest says whether there may be one and how far it may move a forecast.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from quietfleet.crypto import keccak256
from quietfleet.pipeline.features import MOST_FEATURES

HELD_OUT: Final = 0.3
"""The last share of the rows, on which a head is judged."""
PENALTY: Final = 10.0
"""Of the ridge, in rows: a head from few of them hardly moves anything."""
GAIN: Final = 0.02
"""The least share by which a head is to lower the error."""
_FARTHEST: Final = 3.0  # standard deviations: what is farther from what it learned from counts as this far
_PURPOSE: Final = b"quietfleet head/1"

Floats = npt.NDArray[np.float64]
Figure = Annotated[float, Meta(ge=0, le=1e6)]
Rows = Annotated[int, Meta(ge=0, le=1_000_000)]


class Autonomy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a release lets devices learn by themselves: forecasts moved by at most `max_shift`, in the target's unit.

    A head needs `min_rows` rows of a device, of which a part is held out.
    """

    max_shift: Annotated[float, Meta(gt=0, le=1e6)]
    min_rows: Annotated[int, Meta(ge=48, le=10_000)] = 96

    @classmethod
    def from_plain(cls, plain: Any) -> Self:
        """Read what a manifest says; `ValueError` if that is no bound."""
        try:
            return msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error

    def to_plain(self) -> dict[str, Any]:
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return plain


class Head(msgspec.Struct, frozen=True):
    """A correction, linear in the model's own features, and what speaks for it: `before` and `after` are RMSE.

    Both are of the held-out rows, in the target's unit. `until` is the time of the newest row it was made from (s).
    """

    mean: Annotated[tuple[float, ...], Meta(max_length=MOST_FEATURES)]
    scale: Annotated[tuple[float, ...], Meta(max_length=MOST_FEATURES)]
    weights: Annotated[tuple[float, ...], Meta(max_length=MOST_FEATURES)]
    shift: float
    most: float
    rows: Rows
    before: Figure
    after: Figure
    until: float

    @property
    def hash(self) -> bytes:
        """Keccak-256 of all of it."""
        return keccak256(_PURPOSE + msgspec.msgpack.encode(self))

    def corrections(self, rows: npt.NDArray[np.float32]) -> Floats:
        """Return what is added to the forecasts of rows [n, features] → [n], in the target's unit."""
        standard = np.clip((rows - np.array(self.mean)) / np.array(self.scale), -_FARTHEST, _FARTHEST)
        moved: Floats = np.clip(standard @ np.array(self.weights) + self.shift, -self.most, self.most)
        return moved


def fit(bounds: Autonomy, rows: npt.NDArray[np.float32], residuals: Floats, times: Floats, gap: int) -> Head | None:
    """Fit a head on rows [n, features] in order of time, and what came less what the release forecast for them [n].

    `gap` rows between those it learns from and those it is judged on are left out: their targets overlap. None if there
    are too few rows, or if it is not better on the last ones.
    """
    if len(rows) < bounds.min_rows:
        return None
    cut = int(len(rows) * (1 - HELD_OUT))
    head = _solve(bounds, rows[: cut - gap], residuals[: cut - gap])
    later = residuals[cut:]
    before, after = rmse(later), rmse(later - head.corrections(rows[cut:]))
    if not after <= (1 - GAIN) * before:
        return None
    return msgspec.structs.replace(head, rows=len(rows), before=before, after=after, until=float(times[-1]))


def rmse(errors: Floats) -> float:
    """Root of the mean of squared errors, at most what can be told."""
    return float(min(np.sqrt(np.mean(errors**2)), 1e6))


def _solve(bounds: Autonomy, rows: npt.NDArray[np.float32], residuals: Floats) -> Head:
    mean, scale = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    scale[scale < 1e-6] = 1.0  # noqa: PLR2004 - a feature that stands still says nothing
    standard = (rows - mean) / scale
    shift = float(residuals.mean()) * len(rows) / (len(rows) + PENALTY)
    gram = standard.T @ standard + PENALTY * np.eye(standard.shape[1])
    weights = np.linalg.solve(gram, standard.T @ (residuals - residuals.mean()))
    return Head(
        tuple(mean.tolist()), tuple(scale.tolist()), tuple(weights.tolist()), shift, bounds.max_shift, 0, 0, 0, 0
    )
