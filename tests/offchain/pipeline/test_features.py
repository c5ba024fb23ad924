import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.pipeline import features
from quietfleet.pipeline.features import CHANNELS, FEATURES, feature_row, feature_schema_hash, feature_table

HOUR = 3600
START = 1_699_999_200


def history(hours=25, start=START):
    return [
        (float(start + hour * HOUR), {"temp": float(hour), "dewp": 1.0, "humid": 50.0, "wind_speed": 2.0})
        for hour in range(hours)
    ]


def test_feature_row__full_day__has_values_and_lags_in_schema_order():
    row = dict(zip(FEATURES, feature_row(history())[0], strict=True))
    assert row["temp"] == 24
    assert [row[f"temp_lag_{lag}h"] for lag in (1, 2, 3, 6, 12, 24)] == [23, 22, 21, 18, 12, 0]
    assert row["hour_sin"] ** 2 + row["hour_cos"] ** 2 == pytest.approx(1)


def test_feature_row__full_day__is_what_the_model_takes():
    row = feature_row(history())
    assert row.shape == (1, len(FEATURES))
    assert row.dtype == np.float32


@pytest.mark.parametrize("hours", [0, 1, 24])
def test_feature_row__too_short_a_history__is_none(hours):
    assert feature_row(history(hours)) is None


@pytest.mark.parametrize("lag", [1, 2, 3, 6, 12, 24])
def test_feature_row__gap_at_a_lag__is_none(lag):
    rows = history()
    del rows[24 - lag]
    assert feature_row(rows) is None


def test_feature_row__gap_where_no_lag_looks__does_not_matter():
    rows = history()
    del rows[24 - 5]
    assert feature_row(rows) is not None


@pytest.mark.parametrize("channel", CHANNELS)
def test_feature_row__channel_missing_now__is_none(channel):
    rows = history()
    del rows[-1][1][channel]
    assert feature_row(rows) is None


def test_feature_row__readings_minutes_past_the_hour__fall_into_it():
    shifted = [(time + 600.0, values) for time, values in history()]
    assert (feature_row(shifted) == feature_row(history())).all()


def test_schema_hash__a_lag_changes__changes(monkeypatch):
    before = feature_schema_hash()
    monkeypatch.setattr(features, "FEATURES", (*FEATURES[:-1], "moon"))
    assert feature_schema_hash() != before


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 99), max_size=12), st.integers(0, 23))
def test_feature_table__any_gaps__has_the_rows_a_device_would_build(gaps, shift):
    random = np.random.default_rng(shift)
    times = np.array([START + (shift + hour) * HOUR for hour in range(100) if hour not in gaps], dtype=np.int64)
    columns = {name: random.normal(size=times.size) for name in CHANNELS}
    rows = [(float(t), {name: float(columns[name][i]) for name in CHANNELS}) for i, t in enumerate(times)]
    built, targets, at = feature_table(times, columns)
    known = dict(rows)
    expected = {}
    for place, (time, _) in enumerate(rows):
        row = feature_row(rows[: place + 1])
        ahead = known.get(time + 3 * HOUR)
        if row is not None and ahead is not None:
            expected[time] = (row[0], ahead["temp"])
    assert list(at) == sorted(expected)
    for row, target, time in zip(built, targets, at, strict=True):
        assert (row == expected[time][0]).all()
        assert target == expected[time][1]


def test_feature_table__no_readings__is_empty():
    empty = np.array([])
    rows, targets, times = feature_table(empty.astype(np.int64), dict.fromkeys(CHANNELS, empty))
    assert (rows.shape, targets.size, times.size) == ((0, len(FEATURES)), 0, 0)
