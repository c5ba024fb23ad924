import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.pipeline import features as module
from quietfleet.pipeline.features import Features, feature_table, others_median

HOUR = 3600
START = 1_699_999_200
CHANNELS = ("temp", "dewp", "humid", "wind_speed")
FEATURES = Features(target="temp", horizon=3, now=CHANNELS, lags={"temp": (1, 2, 3, 6, 12, 24)}, clock=True)


def feature_row(history, features=FEATURES, company=()):
    return module.feature_row(features, history, company)


def history(hours=25, start=START):
    return [
        (float(start + hour * HOUR), {"temp": float(hour), "dewp": 1.0, "humid": 50.0, "wind_speed": 2.0})
        for hour in range(hours)
    ]


def test_feature_row__full_day__has_values_and_lags_in_schema_order():
    row = dict(zip(FEATURES.names, feature_row(history())[0], strict=True))
    assert row["temp"] == 24
    assert [row[f"temp_lag_{lag}"] for lag in (1, 2, 3, 6, 12, 24)] == [23, 22, 21, 18, 12, 0]
    assert row["hour_sin"] ** 2 + row["hour_cos"] ** 2 == pytest.approx(1)


def test_feature_row__full_day__is_what_the_model_takes():
    row = feature_row(history())
    assert row.shape == (1, len(FEATURES.names))
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


@pytest.mark.parametrize(
    "change",
    [{"lags": {"temp": (1, 2)}}, {"period": 1800}, {"horizon": 2}, {"now": CHANNELS[::-1]}, {"peers": ("humid",)}],
)
def test_schema_hash__anything_differs__differs(change):
    assert msgspec.structs.replace(FEATURES, **change).schema_hash != FEATURES.schema_hash


def test_schema__through_a_manifest__means_the_same():
    rich = Features(target="b", lags={"b": (1,), "a": (2,)}, means={"a": (3,)}, stds={"a": (24,)}, season=True)
    again = Features.from_plain(msgspec.json.decode(msgspec.json.encode(rich.to_plain(), order="sorted")))
    assert (again.names, again.schema_hash) == (rich.names, rich.schema_hash)


@pytest.mark.parametrize(
    "wrong",
    [
        {"now": ()},
        {"now": ("temp", "temp")},
        {"now": tuple(f"c{place}" for place in range(17))},
        {"now": ("no name",)},
        {"now": ("temp",), "lags": {"temp": (0,)}},
        {"now": ("temp",), "lags": {"temp": (1025,)}},
        {"now": ("temp",), "lags": {"temp": tuple(range(1, 66))}},
        {"now": ("temp",), "means": {"temp": (1,)}},
        {"now": ("temp",), "period": 0},
        {"now": ("temp",), "horizon": -1},
        {"now": ("temp",), "horizon": 0},
        {"means": {"temp": (3,)}, "horizon": 0},
    ],
)
def test_features__out_of_bounds__are_refused(wrong):
    with pytest.raises(ValueError):
        Features(**{"target": "temp", "horizon": 3} | wrong)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 99), st.integers(1, 6))
def test_others_median__any_gaps__is_numpys_of_all_the_others(seed, devices):
    random = np.random.default_rng(seed)
    lines = np.where(random.random((devices, 20)) < 0.3, np.nan, random.integers(0, 4, (devices, 20)) / 3)
    found = others_median(lines)
    for device in range(devices):
        others = np.delete(lines, device, axis=0)
        for moment, value in enumerate(found[device]):
            known = others[:, moment][np.isfinite(others[:, moment])]
            assert value == np.median(known) if known.size else np.isnan(value)


@settings(max_examples=40, deadline=None)
@given(st.sets(st.integers(0, 99), max_size=12), st.integers(0, 23))
def test_feature_table__any_gaps__has_the_rows_a_device_would_build(gaps, shift):
    features = msgspec.structs.replace(
        FEATURES, means={"humid": (3, 4)}, stds={"humid": (5,)}, season=True, peers=("dewp",)
    )
    random = np.random.default_rng(shift)
    times = np.array([START + (shift + hour) * HOUR for hour in range(100) if hour not in gaps], dtype=np.int64)
    columns = {name: random.normal(size=times.size) for name in CHANNELS}
    rows = [(float(t), {name: float(columns[name][i]) for name in CHANNELS}) for i, t in enumerate(times)]
    company = random.normal(size=times.size)
    table = feature_table(features, times, columns, {"dewp": company})
    known = dict(rows)
    expected = {}
    for place, (time, _) in enumerate(rows):
        row = feature_row(rows[: place + 1], features, [{"dewp": company[place]}])
        ahead = known.get(time + 3 * HOUR)
        if row is not None and ahead is not None:
            expected[time] = (row[0], ahead["temp"])
    assert list(table.times) == sorted(expected)
    for row, target, time in zip(table.rows, table.targets, table.times, strict=True):
        assert (row == expected[time][0]).all()
        assert target == expected[time][1]


def test_feature_table__no_readings__is_empty():
    empty = np.array([])
    table = feature_table(FEATURES, empty.astype(np.int64), dict.fromkeys(CHANNELS, empty))
    assert (table.rows.shape, table.targets.size, table.times.size) == ((0, len(FEATURES.names)), 0, 0)


def test_feature_table__shorter_than_the_horizon__is_empty():
    table = feature_table(FEATURES, np.array([START]), dict.fromkeys(CHANNELS, np.array([1.0])))
    assert table.rows.shape == (0, len(FEATURES.names))


def test_feature_row__nobody_else_read__is_none():
    alone = Features(target="temp", now=("humid",), peers=("temp",))
    assert feature_row(history(), alone) is None
    assert feature_row(history(), alone, [{"humid": 1.0}]) is None
    assert list(feature_row(history(), alone, [{"temp": 1.0}, {"temp": 4.0}])[0]) == [50.0, 2.5]
