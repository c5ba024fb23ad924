"""So many devices' samples: real weather as imperfect instruments read it, a month each."""

from __future__ import annotations

import numpy as np

from quietfleet.pipeline.features import feature_table
from quietfleet.pipeline.project import Project
from quietfleet.pipeline.train import Samples
from quietfleet.testbed.crowd import crowd

MAY = 1_367_366_400.0
DAYS = 30


def device_samples(count: int, project: Project, seed: int) -> Samples:
    """Return the samples of so many devices in order of time, as the pipeline would hand them on."""
    lines: dict[str, list[np.ndarray]] = {"rows": [], "targets": [], "times": [], "naive": []}
    names = []
    for sensor in crowd(count, seed=seed, since=MAY, days=DAYS):
        table = feature_table(project.features, sensor.times, sensor.columns)
        names.append(sensor.name)
        for name, line in lines.items():
            line.append(getattr(table, name))
    device = np.repeat(np.arange(count), [line.size for line in lines["times"]])
    joint = Samples(*(np.concatenate(line) for line in lines.values()), device, tuple(names))
    return joint.take(np.argsort(joint.times, kind="stable"))
