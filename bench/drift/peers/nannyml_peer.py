"""NannyML's univariate drift: its default distance (Jensen-Shannon) on days, and the Wasserstein distance on weeks.

Both alarm beyond what its default thresholds, three standard deviations around the mean of the reference's own chunks,
allow. A chunk is judged when it is full.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
import pandas as pd
from common import DAY, Array, Judge, main
from nannyml import UnivariateDriftCalculator

warnings.simplefilter("ignore")  # what they say of their own dependencies


def watch(method: str, width: int) -> Judge:
    """Judge chunks of so many readings by a distance."""

    def judge(values: Array, reference: int) -> Array:
        columns = [str(place) for place in range(values.shape[1])]
        table = pd.DataFrame(values, columns=columns)
        calculator = UnivariateDriftCalculator(column_names=columns, chunk_size=width, continuous_methods=[method])
        calculator.fit(table[:reference])
        chunks = len(values[reference:]) // width
        watched = table[reference : reference + chunks * width].reset_index(drop=True)
        found = calculator.calculate(watched).filter(period="analysis").to_df()
        raised = np.zeros((len(columns), len(values) - reference), dtype=bool)
        for place, name in enumerate(columns):
            raised[place, width - 1 : chunks * width : width] = found[name, method, "alert"].to_numpy(dtype=bool)
        return raised

    return judge


def speed(windows: Array, reference: Array) -> float:
    """CPU seconds of judging each of the windows [devices, features, samples], fitted once and for all before."""
    columns = [str(place) for place in range(reference.shape[1])]
    size = windows.shape[2]
    calculator = UnivariateDriftCalculator(
        column_names=columns, chunk_size=size, continuous_methods=["wasserstein"]
    ).fit(pd.DataFrame(reference, columns=columns))
    begin = time.process_time()
    for window in windows:
        calculator.calculate(pd.DataFrame(window.T, columns=columns)).to_df()
    return time.process_time() - begin


if __name__ == "__main__":
    main(
        {
            "NannyML, a day": (watch("jensen_shannon", DAY), None),
            "NannyML W1, a week": (watch("wasserstein", 7 * DAY), None),
        },
        speed,
    )
