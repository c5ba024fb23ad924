import pytest

from quietfleet.monitor import Baseline, PeerReference, Verdict, align, assess
from quietfleet.pipeline.ingest import ingest
from quietfleet.pipeline.project import shipped

DAY = 86_400.0


@pytest.fixture(scope="module")
def january(between, at):
    rows = between(at(1, 1), at(2, 1))
    return Baseline.fit(
        ingest(((name, *row) for name, readings in rows.items() for row in readings), shipped()).columns
    )


@pytest.fixture(scope="module")
def peers(between, at):
    return PeerReference.fit(between(at(3, 20), at(3, 27)), tuple(shipped().schema))


@pytest.fixture
def newark_altered(between, at):
    """Give a week's readings with EWR's changed from a moment on."""

    def build(now, since, change):
        rows = between(now - 7 * DAY, now)
        rows["EWR"] = [(time, change(values) if time >= since else values) for time, values in rows["EWR"]]
        return rows

    return build


def test_assess__days_before_spring_comes__are_fine(between, at, january, peers):
    for day in (27, 28, 29, 30):
        judged = assess(between(at(3, 20), at(3, day)), january, now=at(3, day), peers=peers)
        assert {item.verdict for item in judged.devices.values()} == {Verdict.FINE}, day


def test_assess__spring_came_to_all_stations__retrains(between, at, january, peers):
    judged = assess(between(at(3, 20), at(3, 31)), january, now=at(3, 31), peers=peers)
    assert judged.retrain
    assert judged.shared == ("temp",)
    assert {item.verdict for item in judged.devices.values()} == {Verdict.RETRAIN}
    assert all(70 < item.drift_pct < 85 for item in judged.devices.values())


def test_assess__spring_came_and_one_sensor_is_stuck__quarantines_it_and_retrains(newark_altered, at, january, peers):
    frozen = {"temp": 4.4, "dewp": -1.1, "humid": 67.0, "wind_speed": 3.1, "precip": 0.0, "pressure": 1012.0}
    rows = newark_altered(at(3, 31), at(3, 29), lambda _values: frozen)
    judged = assess(rows, january, now=at(3, 31), peers=peers)
    assert judged.quarantined == {"EWR"}
    assert judged.retrain
    assert judged.devices["JFK"].verdict is judged.devices["LGA"].verdict is Verdict.RETRAIN


def test_assess__one_sensor_reads_too_warm__quarantines_it_and_does_not_retrain(newark_altered, at, january, peers):
    rows = newark_altered(at(3, 30), at(3, 28), lambda values: values | {"temp": values["temp"] + 6.0})
    judged = assess(rows, january, now=at(3, 30), peers=peers)
    assert judged.quarantined == {"EWR"}
    assert "temp" in judged.devices["EWR"].channels
    assert not judged.retrain


def test_assess__window_not_yet_full__waits(between, at, january):
    judged = assess(between(at(4, 10), at(4, 16)), january, now=at(4, 16))
    assert not judged.retrain
    assert assess(between(at(4, 9), at(4, 16)), january, now=at(4, 16)).retrain


def test_assess__lone_station__verifies_before_it_retrains(between, at, january):
    rows = {"EWR": between(at(4, 9), at(4, 16))["EWR"]}
    assert assess(rows, january, now=at(4, 16)).devices["EWR"].verdict is Verdict.VERIFY
    assert assess(rows, january, now=at(4, 16), verified=frozenset({"EWR"})).retrain


def test_assess__wind_of_a_thousand_miles_per_hour__quarantines_that_station(weather, january):
    time, values = max((row for row in weather["EWR"] if "wind_speed" in row[1]), key=lambda row: row[1]["wind_speed"])
    assert values["wind_speed"] > 400
    rows = {name: [row for row in readings if time - 7 * DAY < row[0] <= time] for name, readings in weather.items()}
    assert "EWR" in assess(rows, january, now=time + 3600).quarantined


def test_assess__silent_device__is_fine_for_want_of_data(january):
    assert assess({"EWR": []}, january, now=0.0).devices["EWR"].verdict is Verdict.FINE


def test_align__one_device_a_few_hours_behind__all_cut_where_it_ends():
    rows = {
        "a": [(h * 3600.0, {"temp": 1.0}) for h in range(50)],
        "b": [(h * 3600.0, {"temp": 1.0}) for h in range(40)],
    }
    cut, now = align(rows)
    assert now == 40 * 3600.0
    assert {device: len(kept) for device, kept in cut.items()} == {"a": 40, "b": 40}


@pytest.mark.parametrize("wrong", [-30 * 86_400.0, 365 * 86_400.0])
def test_align__one_clock_far_off__the_others_do_not_wait_and_it_stays_visible(wrong):
    rows = {name: [(h * 3600.0, {"temp": 1.0}) for h in range(1000, 1050)] for name in "abc"}
    rows["broken"] = [(at + wrong, values) for at, values in rows["a"]]
    cut, now = align(rows)
    assert now == 1050 * 3600.0
    assert len(cut["broken"]) == 50


def test_align__nothing__nothing():
    assert align({}) == ({}, 0.0)
