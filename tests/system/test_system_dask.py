"""Devices' own models fitted by a real Dask cluster."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from distributed import LocalCluster

from quietfleet.testbed.crowd import CHANNELS, crowd

PROJECT = """
from sklearn.linear_model import ElasticNet
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from quietfleet.pipeline import Channel, Features, Grid, Project

project = Project(
    name="own",
    schema={name: Channel("", -100, 200) for name in ("temp", "dewp", "humid", "wind_speed")},
    features=Features(target="temp", horizon=3, now=("temp", "dewp", "humid"), lags={"temp": (1, 2)}, clock=True),
    model=make_pipeline(StandardScaler(), ElasticNet()),
    search=Grid({"elasticnet__alpha": (0.001, 0.01)}),
    folds=2,
    personal=True,
)
"""


@pytest.fixture(scope="module")
def engineer(tmp_path_factory):
    """A folder with an engineer's file and the readings of six sensors."""
    folder = tmp_path_factory.mktemp("engineer")
    (folder / "own.py").write_text(PROJECT)
    with (folder / "month.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("device", "time", *CHANNELS))
        for sensor in crowd(6, seed=3, since=1_367_366_400.0, days=30):
            writer.writerows((name, at, *values.values()) for name, at, values in sensor.readings())
    return folder


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster


def run(folder, out, *more):
    command = [sys.executable, "-m", "quietfleet.cli", "pipeline", "run", str(folder / "own.py"), "--json"]
    command += ["--own-names", "--data", str(folder / "month.csv"), "--out", str(folder / out), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def choices(done):
    assert done.returncode == 0, done.stderr
    return json.loads((Path(json.loads(done.stdout)["folder"]) / "personal.json").read_bytes())


def test_pipeline_run__on_a_dask_cluster__gives_every_device_what_one_process_gives(engineer, cluster):
    here = choices(run(engineer, "here"))
    assert here["counts"]["personal"] > 0
    assert choices(run(engineer, "there", "--dask", cluster.scheduler_address)) == here
    assert choices(run(engineer, "beside", "--jobs", "2")) == here


def test_pipeline_run__no_scheduler_there__ends_with_a_sentence(engineer):
    done = run(engineer, "nowhere", "--dask", "tcp://127.0.0.1:9")
    assert done.returncode == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
