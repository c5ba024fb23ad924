"""How well a classifier tells a week from the weeks before it, in percent: drift that channels show together.

100 · max(0, MCC) of a domain classifier, each day judged by one that has not seen that day: neighbouring hours are so
alike that a classifier which saw some of a day knows the rest of it, and tells any two weeks apart. It sees what each
channel by itself does not show, and says which channels it went by; it is told beside a drift, and decides nothing. For
the gateway alone: it takes scikit-learn, and the month (the paper's cloud-side drift model, V-D 2).

On a year of three weather stations, 22 months without a fault: 24 % at the median, and never over 70; judged by rows of
any day instead, 57 %, and every eleventh over 70. With 8 °C more in the last week: 80 %, by the temperature.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import Row

_DAY: Final = 86_400.0
WEEK: Final = 7 * _DAY
_FOLDS: Final = 5
_LEAST_DAYS: Final = 5  # of each, before and since
_MOST: Final = 4000  # rows, so that it takes about a second
_TREES: Final = 40
_LEAF: Final = 10  # rows
_TELLING: Final = 0.2  # of what the classifier goes by


@dataclass(frozen=True, slots=True)
class Separability:
    """How far two spans of time can be told apart, 0 to 100, and by which channels, most telling first."""

    percent: float
    channels: tuple[str, ...]
    rows: int


def separability(
    readings: Mapping[str, Sequence[Row]], *, now: float, seed: int = 2013, window: float = WEEK
) -> Separability | None:
    """Tell the readings since `now - window` from those before, of all devices together.

    Takes the channels that most readings have. None where there are fewer than five days of either, or no channels.
    """
    rows = [row for each in readings.values() for row in each if row[0] < now]
    names = sorted({name for _, values in rows for name in values})
    common = [name for name in names if sum(name in values for _, values in rows) > 0.9 * len(rows)]
    whole = [(at, [values[name] for name in common]) for at, values in rows if all(name in values for name in common)]
    if not common or not whole:
        return None
    times = np.array([at for at, _ in whole])
    columns = np.array([values for _, values in whole])
    kept = np.sort(np.random.default_rng(seed).permutation(times.size)[:_MOST])
    times, columns = times[kept], columns[kept]
    recent = times >= now - window
    days = times // _DAY
    if min(np.unique(days[recent]).size, np.unique(days[~recent]).size) < _LEAST_DAYS:
        return None
    return _told(columns, recent, days, common, seed)


def _told(columns: Array, recent: npt.NDArray[np.bool_], days: Array, names: Sequence[str], seed: int) -> Separability:
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - the gateway has it, after seconds
    from sklearn.metrics import matthews_corrcoef  # noqa: PLC0415
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict  # noqa: PLC0415

    forest = RandomForestClassifier(
        _TREES, min_samples_leaf=_LEAF, class_weight="balanced", n_jobs=1, random_state=seed
    )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    said = cross_val_predict(forest, columns, recent, groups=days, cv=folds)
    percent = 100.0 * max(0.0, float(matthews_corrcoef(recent, said)))
    weights = forest.fit(columns, recent).feature_importances_
    telling = [names[place] for place in np.argsort(-weights) if weights[place] >= _TELLING]
    return Separability(round(percent, 1), tuple(telling), int(recent.size))
