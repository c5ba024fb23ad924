"""River's detectors of change with their defaults, fed reading by reading, the reference first.

KSWIN takes a third of a millisecond a reading, so it is run on two of the stretches alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from common import Array, Judge, main
from river import drift

SOME = (0, 6)


def watch(make: Callable[[], Any]) -> Judge:
    """Judge by a detector of its own for each feature."""

    def judge(values: Array, reference: int) -> Array:
        raised = np.zeros((values.shape[1], len(values) - reference), dtype=bool)
        for place in range(values.shape[1]):
            detector = make()
            for at, value in enumerate(values[:, place].tolist()):
                if value == value:  # noqa: PLR0124 - NaN: a reading that is missing
                    detector.update(value)
                    raised[place, max(at - reference, 0)] |= at >= reference and detector.drift_detected
        return raised

    return judge


if __name__ == "__main__":
    main(
        {
            "River ADWIN": (watch(drift.ADWIN), None),
            "River PageHinkley": (watch(drift.PageHinkley), None),
            "River KSWIN": (watch(lambda: drift.KSWIN(seed=1)), SOME),
        }
    )
