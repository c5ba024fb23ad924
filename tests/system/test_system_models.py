"""An engineer's model on its way to real devices: trained, imported, promoted by two persons, released by the chain."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from system_fleet import DAY, START

from quietfleet.chain.types import Kind
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.run import run_pipeline
from quietfleet.testbed.weather import load_weather

WHY = ("--why", "forty days of three stations")


@pytest.fixture
def models(flowing):
    """Runs `quietfleet models …` beside the running gateway, as a process of its own."""
    gateway = flowing.fleet.members["gateway"]

    def models(*words):
        command = [sys.executable, "-m", "quietfleet.cli", "models", *map(str, words)]
        environment = {"QUIETFLEET_PASSPHRASE": flowing.fleet.passphrase, "PATH": os.environ["PATH"]}
        settings = ("--settings", gateway.folder / "worker.toml", "--json")
        done = subprocess.run([*command, *settings], env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return models


@pytest.fixture
def trained(tmp_path):
    """What `quietfleet pipeline run` leaves for an engineer."""
    weather = load_weather()
    rows = [(name, *row) for name, rows in weather.items() for row in rows if START - 40 * DAY <= row[0] < START]
    candidate = run_pipeline(rows, shipped("forecast"), seed=7, now=time.time())
    for name, data in (("manifest.json", candidate.manifest), ("model.onnx", candidate.artifact)):
        (tmp_path / name).write_bytes(data)
    return candidate


async def test_models__imported_and_promoted_by_two_persons__runs_on_every_device(flowing, models, trained, tmp_path):
    system = flowing

    def produced():
        """Whether some model is in production: the first, or the one that followed when the fleet drifted meanwhile."""
        return any("production" in entry["aliases"] for entry in models("list", "weather"))

    await system.until("a model is in production", produced)
    taken = models("import", "weather", tmp_path, "--who", "anna", *WHY)["version"]
    models("promote", "weather", taken, "--to", "production", "--who", "anna", "--approved-by", "ben", *WHY)

    def released(kind):
        """What the gateway did about this very release."""
        entries = system.fleet.journal("gateway", "anchored")
        sequences = {one.detail["sequence"] for one in entries if one.detail["manifest"] == trained.manifest_hash.hex()}
        found = [one for one in system.fleet.journal("gateway", kind) if one.detail["sequence"] in sequences]
        return [one.detail["sequence"] for one in found]

    def running(processor):
        return any(system.fleet.status(processor)["release"] >= sequence for sequence in released("anchored"))

    await system.until("every processor runs it", lambda: all(map(running, system.named(Kind.PROCESSOR))))
    await system.until("it has reached the whole fleet", lambda: released("release-completed"))
    shown = models("show", "weather", taken)
    assert shown["stage"] == "production"
    assert {move["who"] for move in shown["moves"]} >= {"anna", "gateway"}
    assert models("verify")["faults"] == []
    await system.flowing()
