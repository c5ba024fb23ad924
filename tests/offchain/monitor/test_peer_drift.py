import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.errors import MonitorError
from quietfleet.monitor import ChannelRules, PeerReference
from quietfleet.monitor._site import outside
from quietfleet.monitor.peers import widths

HOUR = 3600.0
RULE = ChannelRules(-60.0, 60.0, 0.1)
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


def test_drift__one_sensor_shifted__accuses_it_alone_within_a_day(reference):
    rows = site(40, shift=4.0, since=35)
    assert accused(reference.drift(rows, now=START + 35 * DAY)) == set()
    for day in (36, 37, 40):
        assert accused(reference.drift(rows, now=START + day * DAY)) == {"d0"}


def test_drift__one_sensor_shifted_by_a_third_of_its_sigma__is_not_worth_an_alarm(reference):
    rows = site(40, shift=1.4, since=35)
    for day in (36, 38, 40):
        assert accused(reference.drift(rows, now=START + day * DAY)) == set()


def test_drift__two_of_three_differ_to_either_side__accuses_neither(reference):
    """Across a front one end of a site is warm and the other cold: that is nobody's fault."""
    rows = site(40)
    for device, shift in (("d0", 2.0), ("d1", -2.0)):
        rows[device] = [(at, {"temp": v["temp"] + (shift if at >= START + 35 * DAY else 0)}) for at, v in rows[device]]
    assert accused(reference.drift(rows, now=START + 37 * DAY)) == set()


@pytest.mark.parametrize("lie", [30.0, -30.0])
@pytest.mark.parametrize("devices", [3, 4, 5])
def test_drift__liar_beside_others__has_only_itself_accused(lie, devices):
    reference = PeerReference.fit({d: r[: 30 * 24] for d, r in site(40, devices=devices).items()}, ("temp",))
    rows = site(40, devices=devices, shift=lie, since=35)
    for hour in range(0, 5 * 24, 3):
        assert accused(reference.drift(rows, now=START + 35 * DAY + hour * HOUR)) <= {"d0"}


def test_drift__six_hours_of_storm__accuses_nobody(reference):
    rows = site(40)
    stormy = range(36 * 24, 36 * 24 + 6)
    rows["d0"] = [(at, {"temp": v["temp"] + (30 if n in stormy else 0)}) for n, (at, v) in enumerate(rows["d0"])]
    for hour in range(24):
        assert accused(reference.drift(rows, now=START + 36 * DAY + hour * HOUR)) == set()


def test_course__moments_of_a_recording__says_at_each_what_drift_says(reference):
    rows = site(40, shift=4.0, since=35)
    ends = START + np.arange(33.0, 40.0, 0.7) * DAY
    course = reference.course(rows, ends)["temp"]
    for place, now in enumerate(ends):
        expected = {device: channels["temp"] for device, channels in reference.drift(rows, now=now).items()}
        assert course.at(place) == expected


@given(st.lists(st.lists(st.one_of(st.just(math.nan), st.integers(-9, 9)), min_size=3, max_size=7), min_size=1))
def test_outside__any_site__is_the_distance_from_the_two_middle_ones_of_the_others(columns):
    for column in columns:
        found = outside(np.array(column, dtype=float)[:, None])[:, 0]
        for place, value in enumerate(column):
            others = sorted(v for n, v in enumerate(column) if n != place and not math.isnan(v))
            if len(others) < 2 or math.isnan(value):
                assert math.isnan(found[place])
            else:
                low, high = others[(len(others) - 1) // 2], others[len(others) // 2]
                assert found[place] == value - min(max(value, low), high)


def test_widths__period__two_dozen_samples_at_least():
    assert widths(3600.0) == (DAY, 3 * DAY)
    assert widths(600.0) == (4 * HOUR, DAY, 3 * DAY)
    assert widths(4 * HOUR) == (4 * DAY,)


def test_drift__one_of_three_accused__leaves_the_others_without_company(reference):
    found = reference.drift(site(40, shift=4.0, since=35), now=START + 37 * DAY)
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


def test_fit__a_channel_one_device_hardly_has__is_left_out_and_the_others_learned():
    rows = {d: [(at, v | {"rare": 1.0 if d != "d1" else math.nan}) for at, v in r] for d, r in site(30).items()}
    rows["d1"] = [(at, {"temp": values["temp"]}) for at, values in rows["d1"]]
    found = PeerReference.fit(rows, ("temp", "rare"), rules={"temp": RULE, "rare": RULE})
    assert {device: set(channels) for device, channels in found.devices.items()} == {
        device: {"temp"} for device in rows
    }


def test_fit__shorter_reference__tolerates_more():
    short = PeerReference.fit({d: rows[: 7 * 24] for d, rows in site(40).items()}, ("temp",))
    limit = short.drift(site(40), now=START + 20 * DAY)["d0"]["temp"].limit
    assert limit >= 50 * (30 / 7) ** 0.15 - 0.1


def test_reference__through_json__is_the_same(reference):
    assert PeerReference.from_plain(json.loads(json.dumps(reference.to_plain()))) == reference
