"""How long it takes to judge a fleet: 1,000 devices of six features, a week each, against a month."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from bench.drift import field
from bench.drift.streams import FEATURES, REFERENCE, Array
from scipy.stats import wasserstein_distance

from quietfleet.monitor.drift import Baseline, fleet_drift

WEEK = 168
DEVICES = 1000
SAMPLE = 20  # devices that slow peers really judge
RUNS = 9


@dataclass(frozen=True)
class Timed:
    """CPU seconds for the whole fleet, extrapolated from `judged` devices if those are fewer."""

    seconds: float
    judged: int
    devices: int


def measure(seed: int, folder: Path | None, devices: int = DEVICES) -> tuple[dict[str, Timed], float]:
    """Time ours, SciPy's loop, and peers if there is a folder to work in; and the largest difference to SciPy, in %."""
    windows, reference = fleet(seed, devices)
    baseline = Baseline.fit({name: reference[:, place] for place, name in enumerate(FEATURES)})
    ours = [_cpu(lambda: fleet_drift(windows, baseline, FEATURES)) for _ in range(RUNS)]
    scipy = _cpu(lambda: exact(windows, reference))
    few = windows[:SAMPLE]
    difference = float(np.abs(fleet_drift(few, baseline, FEATURES) - exact(few, reference)).max())
    found = {"ours": Timed(median(ours), devices, devices), "SciPy, one by one": Timed(scipy, devices, devices)}
    if folder is not None:
        judged = min(SAMPLE, devices)
        for name, seconds in field.timed(windows[:judged], reference, folder).items():
            found[name] = Timed(seconds * devices / judged, judged, devices)
    return found, difference


def fleet(seed: int, devices: int) -> tuple[Array, Array]:
    """Make windows [devices, features, samples] and a reference [samples, features]; a third of the devices moved."""
    random = np.random.default_rng(seed)
    moved = random.choice([0.0, 0.0, 1.0], size=(devices, len(FEATURES), 1))
    return random.normal(moved, 1.0, (devices, len(FEATURES), WEEK)), random.normal(size=(REFERENCE, len(FEATURES)))


def exact(windows: Array, reference: Array) -> Array:
    """The same in percent, by SciPy, device by device and feature by feature."""
    sigma = reference.std(axis=0)
    return np.array(
        [
            [100 * wasserstein_distance(line, reference[:, place]) / sigma[place] for place, line in enumerate(device)]
            for device in windows
        ]
    )


def _cpu(task: Callable[[], object]) -> float:
    begin = time.process_time()
    task()
    return time.process_time() - begin
