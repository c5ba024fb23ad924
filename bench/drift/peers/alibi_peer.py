"""alibi-detect's Kolmogorov-Smirnov detector with its defaults, one a feature, on the last week, once a day."""

from __future__ import annotations

import warnings

import numpy as np
from alibi_detect.cd import KSDrift
from common import DAY, Array, finite, main

warnings.simplefilter("ignore")


def watch(values: Array, reference: int) -> Array:
    """Judge the last week of every feature once a day."""
    raised = np.zeros((values.shape[1], len(values) - reference), dtype=bool)
    for place in range(values.shape[1]):
        detector = KSDrift(finite(values[:reference, place])[:, None], p_val=0.05)
        for end in range(reference + DAY, len(values) + 1, DAY):
            window = finite(values[end - 7 * DAY : end, place])
            if window.size:
                raised[place, end - reference - 1] = bool(detector.predict(window[:, None])["data"]["is_drift"])
    return raised


if __name__ == "__main__":
    main({"alibi-detect KS, a week": (watch, None)})
