import json

import numpy as np
import pytest

from quietfleet.errors import MonitorError
from quietfleet.monitor import PeerReference

HOUR = 3600.0
DAY = 24 * HOUR
START = 1_699_999_200.0 // DAY * DAY


def site(days, devices=3, seed=0, shift=None, since=None):
    """Simulate neighbours under one sky; `shift` is added to device 0 from `since` on."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    sky = 10 + 5 * np.sin(hours * 2 * np.pi / 24) + np.cumsum(random.normal(0, 0.3, hours.size))
    rows = {}
    for number in range(devices):
        own = sky + number + np.sin(hours * 2 * np.pi / 24 + number) + random.normal(0, 0.5, hours.size)
        if number == 0 and shift is not None:
            own[since * 24 :] += shift
        rows[f"d{number}"] = [
            (START + hour * HOUR, {"temp": float(value)}) for hour, value in zip(hours, own, strict=True)
        ]
    return rows


def accused(found):
    return {device for device, channels in found.items() if channels["temp"].exceeded}


@pytest.fixture
def reference():
    return PeerReference.fit({device: rows[: 30 * 24] for device, rows in site(40).items()}, ("temp",))


def test_drift__same_sky_ten_days_later__accuses_nobody(reference):
    rows = site(40)
    for day in range(32, 41):
        assert accused(reference.drift(rows, now=START + day * DAY)) == set()


def test_drift__one_sensor_shifted__accuses_it_alone_after_two_days(reference):
    rows = site(40, shift=3.0, since=35)
    assert accused(reference.drift(rows, now=START + 36 * DAY)) == set()
    assert accused(reference.drift(rows, now=START + 37 * DAY)) == {"d0"}


def test_drift__one_of_three_accused__leaves_the_others_without_company(reference):
    found = reference.drift(site(40, shift=3.0, since=35), now=START + 37 * DAY)
    assert set(found) == {"d0"}


def test_drift__one_of_five_accused__compares_the_others_without_it():
    reference = PeerReference.fit({d: rows[: 30 * 24] for d, rows in site(40, devices=5).items()}, ("temp",))
    found = reference.drift(site(40, devices=5, shift=9.0, since=35), now=START + 37 * DAY)
    assert set(found) == {"d0", "d1", "d2", "d3", "d4"}
    assert accused(found) == {"d0"}


def test_drift__whole_sky_changes__accuses_nobody(reference):
    rows = {d: [(t, {"temp": v["temp"] + 20}) for t, v in readings] for d, readings in site(40).items()}
    assert accused(reference.drift(rows, now=START + 38 * DAY)) == set()


def test_drift__device_unknown_to_the_reference__is_left_out(reference):
    rows = site(40)
    rows["new"] = rows["d1"]
    assert "new" not in reference.drift(rows, now=START + 38 * DAY)


def test_drift__only_two_devices_left__compares_nobody(reference):
    rows = site(40)
    del rows["d2"]
    assert reference.drift(rows, now=START + 38 * DAY) == {}


def test_fit__two_devices__says_why_not():
    with pytest.raises(MonitorError, match="3 devices"):
        PeerReference.fit(site(40, devices=2), ("temp",))


def test_fit__six_days__says_why_not():
    with pytest.raises(MonitorError, match="7 days"):
        PeerReference.fit(site(6), ("temp",))


def test_fit__shorter_reference__tolerates_more():
    short = PeerReference.fit({d: rows[: 7 * 24] for d, rows in site(40).items()}, ("temp",))
    limit = short.drift(site(40), now=START + 20 * DAY)["d0"]["temp"].limit
    assert limit >= 70 * (30 / 7) ** 0.5 - 0.1


def test_reference__through_json__is_the_same(reference):
    assert PeerReference.from_plain(json.loads(json.dumps(reference.to_plain()))) == reference
