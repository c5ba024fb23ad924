import json
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import MonitorError
from quietfleet.monitor import Band, Baseline, FeatureBaseline, band, drift_pct, fleet_drift, wasserstein

values = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@pytest.fixture
def reference():
    return np.random.default_rng(1).normal(10.0, 4.0, 720)


@pytest.fixture
def baseline(reference):
    return Baseline.fit({"temp": reference, "humid": 50 + 2 * reference})


@given(values, values)
def test_wasserstein__any_samples__equals_the_area_between_quantiles_by_brute_force(a, b):
    repeated_a, repeated_b = np.repeat(np.sort(a), len(b)), np.repeat(np.sort(b), len(a))
    assert wasserstein(a, b) == pytest.approx(np.abs(repeated_a - repeated_b).mean(), abs=1e-6)


@given(values, values, values)
def test_wasserstein__any_samples__is_a_metric(a, b, c):
    assert wasserstein(a, a) == 0
    assert wasserstein(a, b) == pytest.approx(wasserstein(b, a))
    assert wasserstein(a, c) <= wasserstein(a, b) + wasserstein(b, c) + 1e-6


def test_wasserstein__shifted_sample__is_the_shift(reference):
    assert wasserstein(reference, reference + 3.25) == pytest.approx(3.25)


def test_wasserstein__no_finite_value__says_so():
    with pytest.raises(MonitorError):
        wasserstein([float("nan")], [1.0])


@pytest.mark.parametrize("share", [0.5, 0.7, 1.0, 2.5])
def test_drift__mean_shifted__reads_the_shift_in_percent_of_sigma(reference, share):
    sketch = FeatureBaseline.fit(reference)
    assert drift_pct(reference + share * reference.std(), sketch) == pytest.approx(100 * share, abs=3)


def test_drift__stuck_at_the_mean__reads_about_eighty_percent(reference):
    assert drift_pct(np.full(168, 10.0), FeatureBaseline.fit(reference)) == pytest.approx(79.8, abs=2)


def test_drift__reference_itself__is_almost_nothing(reference):
    assert drift_pct(reference, FeatureBaseline.fit(reference)) < 3


def test_drift__constant_reference__is_nothing_or_the_ceiling():
    sketch = FeatureBaseline.fit([5.0] * 50)
    assert drift_pct([5.0] * 9, sketch) == 0
    assert drift_pct([5.5] * 9, sketch) == 10_000
    assert drift_pct([5.5] * 9, FeatureBaseline.fit([5.0] * 50, floor=0.5)) == pytest.approx(100)


@pytest.mark.parametrize(
    ("percent", "expected"),
    [(0, Band.FINE), (69.9, Band.FINE), (70, Band.DRIFTED), (200, Band.DRIFTED), (200.1, Band.ANOMALOUS)],
)
def test_band__at_the_limits__is_the_papers(percent, expected):
    assert band(percent) is expected


def test_baseline__through_json__is_the_same(baseline):
    assert Baseline.from_plain(json.loads(json.dumps(baseline.to_plain()))) == baseline


@pytest.mark.parametrize(
    "spoil",
    [
        lambda plain: plain["temp"].pop("std"),
        lambda plain: plain["temp"]["quantiles"].pop(),
        lambda plain: plain["temp"].update(std=-1),
        lambda plain: plain["temp"].update(mean="nan"),
        lambda plain: plain.update(temp=None),
    ],
)
def test_baseline__garbled_on_the_way__is_refused(baseline, spoil):
    plain = baseline.to_plain()
    spoil(plain)
    with pytest.raises(MonitorError):
        Baseline.from_plain(plain)


def test_drift__feature_unknown_to_one_side__is_left_out(baseline):
    assert set(baseline.drift({"temp": [1.0, 2.0], "noise": [1.0]})) == {"temp"}


def test_fleet_drift__many_devices__agrees_with_one_by_one(baseline):
    random = np.random.default_rng(2)
    windows = random.normal(10, 4, (200, 2, 168)) + random.uniform(-8, 8, (200, 2, 1))
    windows[:, 1] = 50 + 2 * windows[:, 1]
    together = fleet_drift(windows, baseline, ("temp", "humid"))
    alone = np.array(
        [[drift_pct(w[0], baseline.features["temp"]), drift_pct(w[1], baseline.features["humid"])] for w in windows]
    )
    assert np.abs(together - alone).max() < 3
    assert ((together >= 70) == (alone >= 70)).all()
    assert ((together > 200) == (alone > 200)).all()


def test_fleet_drift__thousand_devices__stays_quick():
    random = np.random.default_rng(3)
    features = tuple("abcdef")
    baseline = Baseline.fit({name: random.normal(size=720) for name in features})
    windows = random.normal(size=(1000, 6, 168))
    start = time.process_time()
    assert fleet_drift(windows, baseline, features).shape == (1000, 6)
    assert time.process_time() - start < 1.0  # 0.05 s is the aim; a loaded machine gets room
