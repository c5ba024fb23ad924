import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietfleet.errors import DataRejected
from quietfleet.pipeline.ingest import ingest as ingest_for
from quietfleet.pipeline.project import shipped

HOUR = 3600
START = 1_699_999_200
FORECAST = shipped("forecast")


def ingest(readings):
    return ingest_for(readings, FORECAST)


def reading(hour, device="a", **changes):
    values = {"temp": 10 + hour % 7, "dewp": 1 + hour % 5, "humid": 50 + hour % 3, "wind_speed": 2 + hour % 4}
    return device, float(START + hour * HOUR), values | changes


@pytest.fixture
def clean():
    return [reading(hour) for hour in range(300)]


def test_ingest__clean_readings__keeps_them_all_in_order(clean):
    dataset = ingest(reversed(clean))
    assert len(dataset) == 300
    assert (np.diff(dataset.time) > 0).all()
    assert dataset.lineage == {
        "since": START,
        "until": START + 299 * HOUR,
        "devices": ["a"],
        "rows": 300,
        "rejected": {},
    }


def test_ingest__some_flaws__counts_each_under_its_reason(clean):
    flawed = [
        *clean[:-3],
        ("a", clean[-3][1], {"temp": 1.0}),
        reading(298, wind_speed=468.7),
        reading(299, humid=float("nan")),
        clean[0],
        reading(1, temp=25.0),
    ]
    dataset = ingest(flawed)
    assert dataset.lineage["rejected"] == {"contradicting": 2, "incomplete": 2, "range": 1, "repeated": 1}
    assert len(dataset) == 296


def test_ingest__stuck_sensor__refuses_the_whole_run(clean):
    stuck = [reading(hour, temp=12.5) if 100 <= hour < 130 else reading(hour) for hour in range(300)]
    dataset = ingest(stuck)
    assert dataset.lineage["rejected"] == {"stuck": 30}
    assert not ((dataset.time >= START + 100 * HOUR) & (dataset.time < START + 130 * HOUR)).any()


def test_ingest__several_readings_an_hour__keeps_the_last(clean):
    finer = [(device, time + 1800, values | {"temp": values["temp"] + 0.5}) for device, time, values in clean]
    dataset = ingest([*clean, *finer])
    assert len(dataset) == 300
    assert (dataset.columns["temp"] % 1 == 0.5).all()


def test_ingest__too_little_survives__is_refused_with_the_reasons(clean):
    with pytest.raises(DataRejected, match=r"10 of at least 240.*'range': 290"):
        ingest([*clean[:10], *(reading(hour, temp=99.0) for hour in range(10, 300))])


def test_ingest__extra_channels__are_left_out(clean):
    assert set(ingest([(d, t, v | {"noise": 1.0}) for d, t, v in clean]).columns) == set(FORECAST.schema)


def test_dataset__handed_on__cannot_be_changed(clean):
    dataset = ingest(clean)
    with pytest.raises(ValueError):
        dataset.columns["temp"][0] = 0.0


def test_dataset_id__known_data__never_changes(clean):
    assert ingest(clean).id == "d33d488a5c5f9008338e4e06fd5009872ec92747745660acb35a666bc8b91370"


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_dataset_id__any_order_and_repetition__is_the_same(clean_two, seed):
    shuffled = [*clean_two, *clean_two[:50]]
    random.Random(seed).shuffle(shuffled)
    assert ingest(shuffled).id == ingest(clean_two).id


@pytest.fixture(scope="module")
def clean_two():
    return [reading(hour, device) for hour in range(150) for device in "ab"]


@pytest.mark.parametrize(
    "change",
    [
        lambda d, t, v: (d, t, v | {"temp": v["temp"] + 1e-12}),
        lambda d, t, v: ("c" if d == "a" else d, t, v),
        lambda d, t, v: (d, t + HOUR, v),
        lambda d, t, v: (d, t, v | {"temp": v["dewp"], "dewp": v["temp"]}),
    ],
)
def test_dataset_id__anything_differs__differs(clean_two, change):
    assert ingest(change(*item) for item in clean_two).id != ingest(clean_two).id


def test_dataset_id__negative_zero__is_zero(clean):
    zero = [(d, t, v | {"dewp": 0.0}) if i % 20 == 0 else (d, t, v) for i, (d, t, v) in enumerate(clean)]
    negative = [(d, t, v | {"dewp": -0.0}) if i % 20 == 0 else (d, t, v) for i, (d, t, v) in enumerate(clean)]
    assert ingest(zero).id == ingest(negative).id


def test_ingest__real_january__refuses_little(january):
    assert january.devices == ("EWR", "JFK", "LGA")
    assert len(january) > 2100
    assert sum(january.lineage["rejected"].values()) < 30
