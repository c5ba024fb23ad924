"""What a forecast takes in the process of its own in which models run, beside scikit-learn's own predict."""

from __future__ import annotations

import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from quietfleet.pipeline.inference import Apart, Remote
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.run import learn
from quietfleet.pipeline.train import samples, split, train
from quietfleet.testbed.crowd import crowd

COLD: Final = 1.0  # CPU seconds
MEMORY: Final = 80 * 10**6  # bytes
P50, P99 = 50.0, 200.0  # microseconds, in the process
MANY: Final = 100
QUEUES: Final = (1, 10, 100)  # requests that wait
STARTS, CALLS = 7, 5000
NOW: Final = 1_367_366_400.0
ROOM: Final = 256 << 20
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PEER: Final = """
import json, pickle, sys, time
import numpy as np
model = pickle.load(open(sys.argv[1], "rb"))
rows = [np.array([row], dtype=np.float32) for row in json.load(open(sys.argv[2]))]
first = float(model.predict(rows[0])[0])
cpu = time.process_time()
memory = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM:"))
def times(made, calls):
    taken = []
    for call in range(calls):
        begun = time.perf_counter_ns()
        model.predict(made[call % len(made)])
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken
many = [np.concatenate(rows * 100)[: int(sys.argv[4])]]
print(json.dumps([cpu, memory, first, times(rows, int(sys.argv[3])), times(many, 500)]))
"""


def measure(*, quick: bool) -> dict[str, Any]:
    """Start both in turn, several times, so that a busy moment meets both alike; medians over the starts."""
    with tempfile.TemporaryDirectory(prefix="inference-") as name:
        artefact, rows = _prepare(Path(name))
        starts, calls = (3, 1000) if quick else (STARTS, CALLS)
        runs = [(_ours(artefact, rows, calls), _theirs(Path(name), calls)) for _ in range(starts)]
    ours, theirs = ([pair[who] for pair in runs] for who in (0, 1))
    tables = {
        "in the models' process": _row(ours, "inside"),
        "with the way there and back": _row(ours, "trip"),
        "scikit-learn, in its process": _row(theirs, "inside"),
    }
    columns = ["", "one row, p50 µs", "p99 µs", f"{MANY} rows, p50 µs", "cold start, CPU s", "memory, MB"]
    return {
        "about": [
            f"The shipped forecast (ridge on 12 features), {starts} starts of {calls} forecasts each, medians.",
            "Models run in a process of their own, with numpy and onnxruntime; scikit-learn in the process that asks.",
            "Requests that wait are one row of a device each: asked for one after the other, or all in one step.",
        ],
        "tables": [
            {"title": "A forecast", "columns": columns, "rows": [[name, *row] for name, row in tables.items()]},
            _queues(ours),
        ],
        "missed": _missed(tables["in the models' process"], ours, theirs),
    }


def _prepare(folder: Path) -> tuple[bytes, list[list[float]]]:
    project = shipped("forecast")
    readings = [row for one in crowd(12, seed=1, since=NOW, days=30) for row in one.readings()]
    dataset = ingest(readings, project)
    learning, held_out = split(samples(dataset, project.features), project)
    rows: list[list[float]] = held_out.rows[:64].astype(float).tolist()
    (folder / "model.pickle").write_bytes(pickle.dumps(train(learning, project, seed=1).model))
    (folder / "rows.json").write_text(json.dumps(rows))
    return learn(dataset, project, seed=1, now=NOW).artifact, rows


def _ours(artefact: bytes, plain: list[list[float]], calls: int) -> dict[str, Any]:
    rows = [np.array([row], dtype=np.float32) for row in plain]
    home = Apart(ROOM, pause=lambda: 0.0)
    try:
        model = home.open(artefact, {}, rows[0].shape[1])
        first = float(model.run(rows[0], None)[0])
        cpu, memory = _taken(home.pid or 0)
        inside, trip = _timed(home, lambda call: model.run(rows[call % len(rows)], None), calls)
        many = np.concatenate(rows * MANY)[:MANY]
        inside_many, trip_many = _timed(home, lambda _: model.run(many, None), 500)
        queues = {count: _queued(model, many[:count], max(5, calls // 10 // count)) for count in QUEUES}
    finally:
        home.close()
    return {
        "cpu": cpu,
        "memory": memory,
        "first": first,
        "inside": (inside, inside_many),
        "trip": (trip, trip_many),
        "queues": queues,
    }


def _queued(model: Remote, rows: Any, rounds: int) -> tuple[float, float]:
    """Rows a second when so many wait: one by one, and in one step."""
    devices = [f"device {number}" for number in range(len(rows))]
    alone = _median(lambda: [model.run(rows[one : one + 1], devices[one]) for one in range(len(rows))], rounds)
    together = _median(lambda: model.run_each(rows, devices), rounds)
    return len(rows) / alone, len(rows) / together


def _median(work: Callable[[], object], rounds: int) -> float:
    """Return the seconds that something takes."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def _queues(runs: list[dict[str, Any]]) -> dict[str, Any]:
    def typical(count: int, place: int) -> int:
        return round(statistics.median(run["queues"][count][place] for run in runs))

    rows = [[count, typical(count, 0), typical(count, 1)] for count in QUEUES]
    return {"title": "Forecasts a second", "columns": ["requests that wait", "one by one", "in one step"], "rows": rows}


def _timed(home: Apart, ask: Callable[[int], object], calls: int) -> tuple[list[float], list[float]]:
    inside, trip = [], []
    for call in range(calls):
        begun = time.perf_counter_ns()
        ask(call)
        trip.append((time.perf_counter_ns() - begun) / 1e3)
        inside.append(home.took / 1e3)
    return inside, trip


def _theirs(folder: Path, calls: int) -> dict[str, Any]:
    files = [str(folder / name) for name in ("model.pickle", "rows.json")]
    command = [sys.executable, "-c", _PEER, *files, str(calls), str(MANY)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)  # noqa: S603
    cpu, memory, first, one, many = json.loads(done.stdout)
    return {"cpu": cpu, "memory": memory, "first": first, "inside": (one, many)}


def _taken(pid: int) -> tuple[float, int]:
    """CPU seconds and the most bytes that a process has taken so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    most = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
    return (int(fields[11]) + int(fields[12])) / _TICK, most


def _row(runs: list[dict[str, Any]], which: str) -> list[float]:
    def quantile(place: int, share: float) -> float:
        return statistics.median(sorted(run[which][place])[int(share * len(run[which][place]))] for run in runs)

    cpu, memory = (statistics.median(run[name] for run in runs) for name in ("cpu", "memory"))
    return [quantile(0, 0.5), quantile(0, 0.99), quantile(1, 0.5), cpu, memory / 1e6]


def _missed(row: list[float], ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[str]:
    p50, p99, _, cpu, memory = row
    faults = {
        f"one row takes {p50:.0f} µs (p50), at most {P50:.0f} is the goal": p50 > P50,
        f"one row takes {p99:.0f} µs (p99), at most {P99:.0f} is the goal": p99 > P99,
        f"a cold start takes {cpu:.2f} CPU-s, at most {COLD} is the goal": cpu > COLD,
        f"the process takes {memory:.0f} MB, at most {MEMORY / 1e6:.0f} is the goal": 1e6 * memory > MEMORY,
        f"ours says {ours[0]['first']}, scikit-learn {theirs[0]['first']}": abs(ours[0]["first"] - theirs[0]["first"])
        > 1e-3,  # noqa: PLR2004
    }
    return [fault for fault, is_missed in faults.items() if is_missed]
