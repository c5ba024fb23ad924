"""Evidently with its defaults: for a reference of at most 1,000 readings that is a Kolmogorov-Smirnov test at 5 %.

A report takes a tenth of a second a column, so the streams are judged by the test that Evidently chooses for them; the
first ones by whole reports as well, and both must agree.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
from common import DAY, Array, daily, main
from evidently import Report
from evidently.legacy.calculations.stattests import get_stattest
from evidently.legacy.core import ColumnType
from evidently.presets import DataDriftPreset

NUMBER = ColumnType.Numerical
CHECKED = 3
warnings.simplefilter("ignore")  # what they say of their own dependencies


def _drifted(reference: Array, window: Array) -> bool:
    before, now = pd.Series(reference), pd.Series(window)
    return bool(get_stattest(before, now, NUMBER, None)(before, now, NUMBER, None).drifted)


class Watch:
    """Judges the last so many readings once a day."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._left = CHECKED

    def __call__(self, values: Array, reference: int) -> Array:
        raised = daily(values, reference, self._width, _drifted)
        if self._left:
            self._left -= 1
            self._check(values, reference, raised)
        return raised

    def _check(self, values: Array, reference: int, raised: Array) -> None:
        report = _report(values[-self._width :], values[:reference])
        if not np.array_equal(report, raised[:, -1]):
            raise SystemExit(f"a whole report says {report}, the test it chooses {raised[:, -1]}")


def _report(window: Array, reference: Array) -> Array:
    columns = [str(place) for place in range(reference.shape[1])]
    now, before = pd.DataFrame(window, columns=columns), pd.DataFrame(reference, columns=columns)
    done = Report([DataDriftPreset()]).run(now, before).dict()
    found = {
        each["config"]["column"]: each["value"] < each["config"]["threshold"]  # a p-value
        for each in done["metrics"]
        if "column" in each["config"]
    }
    return np.array([found[name] for name in columns])


def speed(windows: Array, reference: Array) -> float:
    """CPU seconds of a report on each of the windows [devices, features, samples]."""
    columns = [str(place) for place in range(reference.shape[1])]
    before = pd.DataFrame(reference, columns=columns)
    begin = time.process_time()
    for window in windows:
        Report([DataDriftPreset()]).run(pd.DataFrame(window.T, columns=columns), before).dict()
    return time.process_time() - begin


if __name__ == "__main__":
    main({"Evidently, a day": (Watch(DAY), None), "Evidently, a week": (Watch(7 * DAY), None)}, speed)
