"""`python -m bench.pipeline.edge WHO FOLDER CALLS`: a fresh process that loads a model and forecasts row by row.

WHO is `ours`, `personal` or `sklearn`. It prints CPU seconds and memory up to the first forecast, then the microseconds
of CALLS more.
"""

from __future__ import annotations

import json
import pickle
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def main() -> None:
    who, folder, calls = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    rows = json.loads((folder / "rows.json").read_text())
    predict, made = {"ours": _ours, "personal": _ours, "sklearn": _sklearn}[who](folder, who == "personal", rows)
    first = predict(made[0])
    start = {"cpu": time.process_time(), "memory": _most_memory()}
    times = []
    for call in range(calls):
        row = made[call % len(made)]
        begun = time.perf_counter_ns()
        predict(row)
        times.append((time.perf_counter_ns() - begun) / 1e3)
    print(json.dumps(start | {"first": first, "times": times}))


def _ours(folder: Path, personal: bool, rows: list[list[float]]) -> tuple[Callable[[Any], float], list[Any]]:
    import numpy as np  # noqa: PLC0415 - what is measured

    from quietfleet.crypto import keccak256  # noqa: PLC0415
    from quietfleet.pipeline.bundle import unpack  # noqa: PLC0415
    from quietfleet.pipeline.runtime import load_model  # noqa: PLC0415

    name = "personal" if personal else "default"
    manifest, payload = ((folder / f"{name}.{kind}").read_bytes() for kind in ("json", "payload"))
    default, own = unpack(payload)
    model = load_model(manifest, default, keccak256(manifest), own)
    device = sorted(own)[len(own) // 2] if own else None
    return lambda row: model.predict(row, device).value, [np.array([row], dtype=np.float32) for row in rows]


def _sklearn(folder: Path, _personal: bool, rows: list[list[float]]) -> tuple[Callable[[Any], float], list[Any]]:
    import numpy as np  # noqa: PLC0415 - what is measured

    model = pickle.loads((folder / "sklearn.pickle").read_bytes())  # noqa: S301 - written by this bench
    return lambda row: float(model.predict(row)[0]), [np.array([row], dtype=np.float32) for row in rows]


def _most_memory() -> int:
    """Return the most bytes this program had in memory; what getrusage tells begins with its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    main()
