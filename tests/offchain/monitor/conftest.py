from datetime import UTC, datetime

import pytest

from quietfleet.testbed.weather import load_weather

DAY = 86_400.0


def moment(month, day):
    return datetime(2013, month, day, tzinfo=UTC).timestamp()


@pytest.fixture(scope="session")
def weather():
    return load_weather()


@pytest.fixture(scope="session")
def between(weather):
    def choose(since, until):
        return {name: [row for row in rows if since <= row[0] < until] for name, rows in weather.items()}

    return choose


@pytest.fixture(scope="session")
def at():
    return moment
