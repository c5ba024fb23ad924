"""A world for each test, with the oracle's fleet already met where a test asks for it."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import UTC, datetime

import pytest
from sklearn.ensemble import GradientBoostingRegressor
from worker_world import World

from quietfleet.chain.types import Kind
from quietfleet.pipeline.project import Grid, shipped
from quietfleet.pipeline.run import run_pipeline
from quietfleet.testbed.weather import load_weather
from quietfleet.workers import _host


@pytest.fixture
async def world(tmp_path):
    world = World(tmp_path)
    try:
        yield world
    finally:
        await world.close()
        _host.secrets = secrets


@pytest.fixture
async def fleet(world):
    """An oracle, a processor and a sensor that have found each other."""
    for name, kind in (("oracle", Kind.ORACLE), ("processor", Kind.PROCESSOR), ("sensor", Kind.SENSOR)):
        await world.add(name, kind)
    await world.rotate()
    await world.until(lambda: world.workers["processor"].journal("session-open") != [])
    return world


@pytest.fixture
def oracle(fleet):
    return fleet.workers["oracle"]


@pytest.fixture
def processor(fleet):
    return fleet.workers["processor"]


@pytest.fixture
def sensor(fleet):
    return fleet.workers["sensor"]


def moment(month: int, day: int) -> float:
    return datetime(2013, month, day, tzinfo=UTC).timestamp()


@pytest.fixture(scope="session")
def weather():
    return load_weather()


@pytest.fixture(scope="session")
def candidate(weather):
    """A model trained on January, packaged as a gateway would."""
    since, until = moment(1, 1), moment(2, 1)
    january = [(name, *row) for name, rows in weather.items() for row in rows if since <= row[0] < until]
    return run_pipeline(january, shipped(), seed=1, now=1_700_000_000.0)


@pytest.fixture(scope="session")
def forest(weather):
    """Boosted trees trained on January: about a megabyte of them."""
    since, until = moment(1, 1), moment(2, 1)
    january = [(name, *row) for name, rows in weather.items() for row in rows if since <= row[0] < until]
    trees = GradientBoostingRegressor(n_estimators=50, max_depth=12, subsample=0.3, max_features=4)
    search = Grid({"learning_rate": (0.1,)})
    project = dataclasses.replace(shipped(), model=trees, search=search, personal=False)
    return run_pipeline(january, project, seed=1, now=1_700_000_000.0)
