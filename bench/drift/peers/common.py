"""What the peers' scripts share. They run in environments of their own, with neither our package nor our dependencies.

`run` reads the streams, lets each method judge each of them, and writes what was raised; `speed` does the same for the
time that one judgement of a device takes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = Any  # of numpy, which is of another version in each environment
Judge: TypeAlias = Callable[[Array, int], Array]
"""Takes a stream [samples, features] and how many of them are the reference; returns alarms [features, samples]."""

DAY = 24

if not {"DO_NOT_TRACK", "NML_DISABLE_USAGE_LOGGING"} <= os.environ.keys():
    raise SystemExit("set DO_NOT_TRACK and NML_DISABLE_USAGE_LOGGING, or some of these libraries report home")


def finite(line: Array) -> Array:
    """A feature's readings without the missing ones."""
    return line[np.isfinite(line)]


def daily(values: Array, reference: int, width: int, judge: Callable[[Array, Array], bool]) -> Array:
    """Judge every feature once a day: `judge(the reference, the window)` → alarm or not."""
    raised = np.zeros((values.shape[1], len(values) - reference), dtype=bool)
    for end in range(reference + DAY, len(values) + 1, DAY):
        for place in range(values.shape[1]):
            window = finite(values[end - width : end, place])
            if window.size:
                raised[place, end - reference - 1] = judge(finite(values[:reference, place]), window)
    return raised


def main(
    methods: Mapping[str, tuple[Judge, tuple[int, ...] | None]], speed: Callable[[Array, Array], float] | None = None
) -> None:
    """`run streams.npz alarms.npz` or `speed windows.npz`; says in JSON what it took.

    A method comes with the stretches of the year it is run on, or None for all.
    """
    task, path, *rest = sys.argv[1:]
    data = np.load(path)
    if task == "speed" and speed is not None:
        took = speed(data["windows"], data["reference"])
        print(json.dumps({"seconds": took, "devices": len(data["windows"])}))
        return
    reference, values = int(data["reference"]), data["values"]
    found, took = {}, {}
    for name, (method, some) in methods.items():
        begin = time.process_time()
        chosen = values[np.isin(data["stretch"], some)] if some is not None else values
        found[name] = np.array([method(each, reference) for each in chosen])
        took[name] = time.process_time() - begin
    np.savez_compressed(Path(rest[0]), **found)
    print(json.dumps({"seconds": took}))
