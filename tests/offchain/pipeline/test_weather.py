from itertools import pairwise

import pytest


def test_load_weather__three_stations__are_hourly_and_in_order(weather):
    assert {name: len(rows) for name, rows in weather.items()} == {"EWR": 8703, "JFK": 8706, "LGA": 8706}
    for rows in weather.values():
        assert all(earlier[0] < later[0] for earlier, later in pairwise(rows))
        assert all(time % 3600 == 0 for time, _ in rows)


def test_load_weather__first_reading__is_in_si_units(weather):
    time, values = weather["EWR"][0]
    assert time == 1357020000  # 2013-01-01T06:00Z
    assert values["temp"] == pytest.approx((39.02 - 32) / 1.8, abs=1e-3)
    assert values["wind_speed"] == pytest.approx(10.357 * 0.44704, abs=1e-3)
    assert (values["humid"], values["pressure"], values["precip"]) == (59.37, 1012, 0)


def test_load_weather__flaws_of_the_source__are_left_in(weather):
    winds = [values["wind_speed"] for _, values in weather["EWR"] if "wind_speed" in values]
    assert max(winds) == pytest.approx(1048.36 * 0.44704, abs=0.01)
    missing = sum("pressure" not in values for rows in weather.values() for _, values in rows)
    assert missing == 2729
