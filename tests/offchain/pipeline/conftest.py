from datetime import UTC, datetime

import pytest

from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.project import shipped
from quietfleet.pipeline.run import run_pipeline
from quietfleet.testbed.weather import load_weather

NOW = 1_400_000_000.0


def moment(month, day):
    return datetime(2013, month, day, tzinfo=UTC).timestamp()


@pytest.fixture(scope="session")
def forecast():
    """The shipped forecast of the next hours."""
    return shipped("forecast")


@pytest.fixture(scope="session")
def virtual_sensor():
    return shipped("virtual_sensor")


@pytest.fixture(scope="session")
def weather():
    return load_weather()


@pytest.fixture(scope="session")
def readings(weather):
    """All stations' readings between two (month, day) as the gateway gets them."""

    def choose(since, until):
        start, stop = moment(*since), moment(*until)
        return [(name, *row) for name, rows in weather.items() for row in rows if start <= row[0] < stop]

    return choose


@pytest.fixture(scope="session")
def january(readings, forecast):
    return ingest(readings((1, 1), (2, 1)), forecast)


@pytest.fixture(scope="session")
def candidate(readings, forecast):
    return run_pipeline(readings((1, 1), (2, 1)), forecast, seed=1, now=NOW)
