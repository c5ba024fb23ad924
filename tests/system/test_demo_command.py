from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from system_fleet import alive

from quietfleet.testbed.anvil import program

UNDER_WAY = 400.0  # seconds, on however slow a machine, until ten workers run
ENDED = 240.0
WORKERS = 10
LOOK = 0.05


def wait(holds, within):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(LOOK)


def children(pid: int) -> set[int]:
    return {int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()}


def test_help__says_what_it_shows_and_how_to_end_it(project):
    done = subprocess.run(
        [program("ape"), "run", "demo", "--help"], cwd=project, capture_output=True, text=True, check=True
    )
    for word in ("--keep", "--stop", "--seed", "--json", "chain and a fleet"):
        assert word in done.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt__fleet_under_way__nothing_left_and_no_success(project, number):
    deployments = set((project / "deployments").iterdir())
    with (project / "out.txt").open("w") as output:
        demo = subprocess.Popen(
            [program("ape"), "run", "demo"], cwd=project, stdout=output, stderr=output, start_new_session=True
        )
    try:
        wait(lambda: demo.poll() is not None or len(_workers(project)) >= WORKERS, UNDER_WAY)
        assert demo.poll() is None, (project / "out.txt").read_text()
        started = _workers(project) | children(demo.pid)
        assert len(started) > WORKERS, "the workers and their chain"
        demo.send_signal(number)
        assert demo.wait(ENDED) not in {0, -number}, "it ends by itself, and does not say that all went well"
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
            demo.wait()
    assert {pid for pid in started if alive(pid)} == set()
    assert set((project / "deployments").iterdir()) == deployments
    assert "Traceback" not in (project / "out.txt").read_text()


def _workers(project: Path) -> set[int]:
    said = {json.loads(path.read_text())["pid"] for path in (project / ".demo").glob("*/state/status.json")}
    return {pid for pid in said if alive(pid)}
