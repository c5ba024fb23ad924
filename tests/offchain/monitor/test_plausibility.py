from __future__ import annotations

import math

import pytest

from quietfleet.monitor import FindingKind, inspect
from quietfleet.monitor.plausibility import contradictions
from quietfleet.testbed.weather import load_weather

HOUR = 3600.0


def humidity(air, dew):
    """Magnus, written down anew."""
    return 100 * math.exp(17.625 * dew / (243.04 + dew) - 17.625 * air / (243.04 + air))


def readings(count, change=lambda _hour, row: row, names=("temp", "dewp", "humid")):
    rows = []
    for hour in range(count):
        air, dew = 12.0 + 6.0 * math.sin(hour / 4), 5.0 + 2.0 * math.sin(hour / 11)
        row = dict(zip(names, (air, dew, humidity(air, dew)), strict=True))
        rows.append((hour * HOUR, change(hour, row)))
    return rows


def found(rows):
    return [one for one in inspect(rows, now=rows[-1][0]) if one.kind is FindingKind.IMPLAUSIBLE]


def since(hour, **changes):
    return lambda at, row: {**row, **{name: row[name] + by for name, by in changes.items()}} if at >= hour else row


def test_sound__nothing_is_found():
    assert found(readings(48)) == []


@pytest.mark.parametrize("changes", [{"temp": -9.0}, {"dewp": 9.0}, {"humid": 30.0}])
def test_one_channel_is_off__found_after_six_readings_with_the_evidence(changes):
    assert found(readings(45, since(40, **changes))) == []
    (first, *_) = found(readings(47, since(40, **changes)))
    assert first.since in {40 * HOUR, 41 * HOUR}
    assert "% from what temp and dewp say" in first.detail or "degrees above temp" in first.detail


def test_two_readings__may_be_a_front_that_one_sensor_saw_first():
    odd = readings(48, lambda hour, row: {**row, "humid": 5.0} if hour in {40, 41} else row)
    assert found(odd) == []


def test_over_again__nothing_is_found():
    assert found(readings(48, lambda hour, row: {**row, "humid": 5.0} if 30 <= hour < 40 else row)) == []


def test_channels_of_two_places__never_obeyed__nothing_is_held_against_them():
    assert found(readings(48, since(0, humid=40.0))) == []


@pytest.mark.parametrize("names", [("temperature", "dew_point", "relative_humidity"), ("T", "Td", "RH")])
def test_other_names__same_laws(names):
    def wet(hour, row):
        return {**row, names[2]: 3.0} if hour >= 40 else row

    assert [one.readings for one in contradictions(readings(48, wet, names))] == [8]


def test_other_units__let_pass():
    def fahrenheit(_hour, row):
        return {"temp": row["temp"] * 1.8 + 32, "dewp": row["dewp"] * 1.8 + 32, "humid": row["humid"] / 100}

    assert list(contradictions(readings(48, fahrenheit))) == []


def test_colder_than_anything__no_error():
    assert list(contradictions(readings(48, lambda _hour, row: {**row, "temp": -300.0}))) == []


def test_weather__a_year_of_three_stations__no_false_alarm():
    alarms = 0
    for rows in load_weather().values():
        for end in range(48, len(rows), 24):
            alarms += any(True for _ in contradictions(rows[end - 48 : end]))
    assert alarms == 0
